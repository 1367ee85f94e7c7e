// What every benchmark program shares: its iteration count, its random numbers, and the line it ends with.
//
// A program takes the iteration count as its first argument (each has a default), divided by BENCHMARK_DIVISOR of the
// environment for a quick run, and prints one line, "NAME CHECKSUM". The checksum depends on all of the work, and is the same on every architecture: no rounding may differ (programs are compiled with
// -ffp-contract=off), no address and no time enters it.
#ifndef PROGRAM_H
#define PROGRAM_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static inline long iterations(int argc, char **argv, long otherwise) {
    const char *divisor = getenv("BENCHMARK_DIVISOR");
    long count = argc > 1 ? strtol(argv[1], NULL, 10) : otherwise;
    long divided = divisor ? count / strtol(divisor, NULL, 10) : count;
    return count > 0 && divided < 1 ? 1 : divided;
}

// xorshift64*; the seed is never zero.
static inline uint64_t random_next(uint64_t *state) {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 0x2545f4914f6cdd1dULL;
}

// Folds a value into a running checksum.
static inline uint64_t mix(uint64_t sum, uint64_t value) {
    sum = (sum ^ value) * 0x9e3779b97f4a7c15ULL;
    return sum ^ sum >> 29;
}

static inline uint64_t mix_double(uint64_t sum, double value) {
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return mix(sum, bits);
}

static inline int report(const char *name, uint64_t checksum) {
    printf("%s %016llx\n", name, (unsigned long long)checksum);
    return 0;
}

static inline void *allocate(size_t bytes) {
    void *memory = malloc(bytes);
    if (!memory) {
        fprintf(stderr, "out of memory\n");
        exit(1);
    }
    return memory;
}

#endif
