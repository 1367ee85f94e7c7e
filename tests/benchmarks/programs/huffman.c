// A Huffman code built from a text's frequencies; the text encoded to bits, decoded through the tree, and compared.
#include "program.h"

enum { TEXT = 128 << 10, SYMBOLS = 256 };

static uint8_t text[TEXT], decoded[TEXT], bits[TEXT * 2];
static uint32_t weight[2 * SYMBOLS], code[SYMBOLS];
static int16_t child[2 * SYMBOLS][2], length[SYMBOLS];

static void assign(int node, uint32_t path, int depth) {
    if (node < SYMBOLS) {
        code[node] = path;
        length[node] = depth;
        return;
    }
    assign(child[node][0], path << 1, depth + 1);
    assign(child[node][1], path << 1 | 1, depth + 1);
}

static int build(void) {
    int alive[SYMBOLS], count = 0, next = SYMBOLS;
    memset(weight, 0, sizeof weight);
    for (int i = 0; i < TEXT; i++) weight[text[i]]++;
    for (int i = 0; i < SYMBOLS; i++)
        if (weight[i]) alive[count++] = i;
    while (count > 1) {
        for (int pick = 0; pick < 2; pick++) {
            int least = 0;
            for (int i = 1; i < count; i++)
                if (weight[alive[i]] < weight[alive[least]]) least = i;
            child[next][pick] = alive[least];
            weight[next] += weight[alive[least]];
            alive[least] = alive[--count];
        }
        alive[count++] = next++;
    }
    return next - 1;
}

int main(int argc, char **argv) {
    long rounds = iterations(argc, argv, 180);
    uint64_t seed = 17, sum = 0;
    for (int i = 0; i < TEXT; i++) {
        uint64_t r = random_next(&seed);
        text[i] = (r & 15) * (r >> 8 & 15) + (r >> 16 & 1); // a skewed distribution
    }
    for (long round = 0; round < rounds; round++) {
        text[round] += round;
        int root = build();
        assign(root, 0, 0);
        uint64_t buffer = 0, out = 0;
        int held = 0;
        for (int i = 0; i < TEXT; i++) {
            buffer = buffer << length[text[i]] | code[text[i]];
            held += length[text[i]];
            while (held >= 8) bits[out++] = buffer >> (held -= 8);
        }
        bits[out] = buffer << (8 - held);
        uint64_t position = 0;
        for (int i = 0; i < TEXT; i++) {
            int node = root;
            while (node >= SYMBOLS) node = child[node][bits[position >> 3] >> (~position & 7) & 1], position++;
            decoded[i] = node;
        }
        if (memcmp(text, decoded, TEXT)) return 1;
        sum = mix(sum, out * 8 + held);
    }
    return report("huffman", sum);
}
