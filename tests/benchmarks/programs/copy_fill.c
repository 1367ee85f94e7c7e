// memcpy, memmove and memset over blocks from a few bytes to a mebibyte.
#include "program.h"

enum { BLOCK = 1 << 20 };

int main(int argc, char **argv) {
    long rounds = iterations(argc, argv, 120);
    uint8_t *from = allocate(BLOCK + 64), *to = allocate(BLOCK + 64);
    uint64_t seed = 37, sum = 0;
    for (int i = 0; i < BLOCK + 64; i++) from[i] = random_next(&seed) >> 56;
    memset(to, 0, BLOCK + 64);
    for (long round = 0; round < rounds; round++) {
        for (size_t size = 16; size <= BLOCK; size *= 4)
            for (size_t at = 0; at + size <= BLOCK; at += size) memcpy(to + at, from + at, size);
        for (size_t at = 0; at + 100 <= BLOCK; at += 100) memcpy(to + at + 3, from + at + round % 8, 97);
        memmove(to + 8, to, BLOCK);
        memset(to + round * 64 % BLOCK, (int)round, 4096);
        memset(from + BLOCK / 2, (int)round, BLOCK / 2);
        sum = mix(sum, to[round * 4099 % BLOCK]);
    }
    for (int i = 0; i < BLOCK; i += 61) sum = sum * 31 + to[i];
    return report("copy_fill", sum);
}
