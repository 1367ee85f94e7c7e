// Substrings searched in a long text: Horspool's skip table and a byte-by-byte scan.
#include "program.h"

enum { TEXT = 1 << 20, LONGEST = 24 };

static uint32_t skipping(const uint8_t *text, const uint8_t *wanted, int length) {
    int skip[256];
    uint32_t found = 0;
    for (int i = 0; i < 256; i++) skip[i] = length;
    for (int i = 0; i < length - 1; i++) skip[wanted[i]] = length - 1 - i;
    for (int at = 0; at + length <= TEXT; at += skip[text[at + length - 1]]) {
        int i = length - 1;
        while (i >= 0 && text[at + i] == wanted[i]) i--;
        if (i < 0) found += at + 1;
    }
    return found;
}

static uint32_t plain(const uint8_t *text, const uint8_t *wanted, int length) {
    uint32_t found = 0;
    for (int at = 0; at + length <= TEXT; at++) {
        int i = 0;
        while (i < length && text[at + i] == wanted[i]) i++;
        if (i == length) found += at + 1;
    }
    return found;
}

int main(int argc, char **argv) {
    long rounds = iterations(argc, argv, 320);
    uint8_t *text = allocate(TEXT);
    uint64_t seed = 13, sum = 0;
    for (int i = 0; i < TEXT; i++) text[i] = "etaoin shrdlu"[random_next(&seed) % 13];
    for (long round = 0; round < rounds; round++) {
        const uint8_t *wanted = text + random_next(&seed) % (TEXT - LONGEST);
        int length = 3 + round % (LONGEST - 3);
        uint32_t found = skipping(text, wanted, length);
        if (round % 4 == 0 && plain(text, wanted, length) != found) return 1;
        sum = mix(sum, found);
    }
    return report("string_search", sum);
}
