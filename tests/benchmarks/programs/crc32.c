// CRC-32 (IEEE 802.3), bit by bit and by a table.
#include "program.h"

enum { BUFFER = 256 << 10 };

static uint32_t table[256];

static uint32_t bitwise(uint32_t crc, uint8_t byte) {
    crc ^= byte;
    for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (0xedb88320u & -(crc & 1));
    return crc;
}

int main(int argc, char **argv) {
    long rounds = iterations(argc, argv, 700);
    uint8_t *buffer = allocate(BUFFER);
    uint64_t seed = 5, sum = 0;
    for (int i = 0; i < BUFFER; i++) buffer[i] = random_next(&seed) >> 56;
    for (int i = 0; i < 256; i++) table[i] = bitwise(0, i);
    for (long round = 0; round < rounds; round++) {
        uint32_t by_table = ~0u, by_bit = ~0u;
        for (int i = 0; i < BUFFER; i++) by_table = by_table >> 8 ^ table[(by_table ^ buffer[i]) & 255];
        for (int i = 0; i < BUFFER / 8; i++) by_bit = bitwise(by_bit, buffer[i]);
        buffer[round] ^= by_table;
        sum = mix(sum, (uint64_t)by_bit << 32 | by_table);
    }
    return report("crc32", sum);
}
