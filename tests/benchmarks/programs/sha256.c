// SHA-256 (FIPS 180-4) of a buffer, over and over. The round constants and the initial state are derived as the
// standard defines them: the fractional parts of cube and square roots of the first primes.
#include "program.h"

enum { BUFFER = 64 << 10 };

static uint32_t constants[64], initial[8];

// The first 32 bits of the fractional part of the n-th root of p, by binary search on integers.
static uint32_t root_fraction(uint32_t p, int n) {
    uint64_t low = 0, high = 1ULL << 37;
    while (high - low > 1) {
        uint64_t middle = (low + high) / 2;
        unsigned __int128 square = (unsigned __int128)middle * middle;
        // middle is the root times 2^32; a cube is compared after dropping 32 bits, which loses nothing here.
        int above = n == 2 ? square > (unsigned __int128)p << 64 : (square >> 4) * middle >> 28 >= (unsigned __int128)p << 64;
        if (above) high = middle;
        else low = middle;
    }
    return low;
}

static uint32_t rotate(uint32_t x, int n) { return x >> n | x << (32 - n); }

static void compress(uint32_t *state, const uint8_t *block) {
    uint32_t w[64];
    for (int i = 0; i < 16; i++)
        w[i] = (uint32_t)block[4 * i] << 24 | block[4 * i + 1] << 16 | block[4 * i + 2] << 8 | block[4 * i + 3];
    for (int i = 16; i < 64; i++) {
        uint32_t a = w[i - 15], b = w[i - 2];
        w[i] = w[i - 16] + (rotate(a, 7) ^ rotate(a, 18) ^ a >> 3) + w[i - 7] + (rotate(b, 17) ^ rotate(b, 19) ^ b >> 10);
    }
    uint32_t a = state[0], b = state[1], c = state[2], d = state[3], e = state[4], f = state[5], g = state[6], h = state[7];
    for (int i = 0; i < 64; i++) {
        uint32_t choose = (e & f) ^ (~e & g), majority = (a & b) ^ (a & c) ^ (b & c);
        uint32_t t1 = h + (rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)) + choose + constants[i] + w[i];
        uint32_t t2 = (rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22)) + majority;
        h = g, g = f, f = e, e = d + t1, d = c, c = b, b = a, a = t1 + t2;
    }
    state[0] += a, state[1] += b, state[2] += c, state[3] += d, state[4] += e, state[5] += f, state[6] += g, state[7] += h;
}

static void sha256(const uint8_t *data, size_t length, uint32_t *state) {
    uint8_t last[128] = {0};
    size_t whole = length / 64 * 64, rest = length - whole, padded = rest < 56 ? 64 : 128;
    memcpy(state, initial, sizeof initial);
    for (size_t i = 0; i < whole; i += 64) compress(state, data + i);
    memcpy(last, data + whole, rest);
    last[rest] = 0x80;
    for (int i = 0; i < 8; i++) last[padded - 1 - i] = (uint64_t)length * 8 >> 8 * i;
    for (size_t i = 0; i < padded; i += 64) compress(state, last + i);
}

int main(int argc, char **argv) {
    long rounds = iterations(argc, argv, 1200);
    for (int p = 2, n = 0; n < 64; p++) {
        int prime = 1;
        for (int d = 2; d * d <= p; d++) prime &= p % d != 0;
        if (!prime) continue;
        if (n < 8) initial[n] = root_fraction(p, 2);
        constants[n++] = root_fraction(p, 3);
    }
    uint32_t state[8];
    sha256((const uint8_t *)"abc", 3, state);
    if (state[0] != 0xba7816bf || state[7] != 0xf20015ad) return 1; // FIPS 180-4's example
    uint8_t *buffer = allocate(BUFFER);
    uint64_t seed = 9, sum = 0;
    for (int i = 0; i < BUFFER; i++) buffer[i] = random_next(&seed) >> 56;
    for (long round = 0; round < rounds; round++) {
        sha256(buffer, BUFFER - round % 64, state);
        memcpy(buffer, state, sizeof state);
    }
    for (int i = 0; i < 8; i++) sum = mix(sum, state[i]);
    return report("sha256", sum);
}
