// Atomic read-modify-writes: fetch-and-add and the like (AMO on RISC-V), or compare-and-swap loops (LR/SC).
//   atomics ROUNDS add|swap
#include "program.h"

static uint64_t counters[16];
static uint32_t words[16];

int main(int argc, char **argv) {
    long rounds = iterations(argc, argv, 5000000);
    int compare = argc > 2 && strcmp(argv[2], "swap") == 0;
    uint64_t sum = 0;
    for (long round = 0; round < rounds; round++) {
        uint64_t *counter = &counters[round & 15];
        uint32_t *word = &words[round & 15];
        if (compare) {
            uint64_t old = __atomic_load_n(counter, __ATOMIC_RELAXED);
            while (!__atomic_compare_exchange_n(counter, &old, old * 3 + 1, 0, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED)) {}
            sum += old;
        } else {
            sum += __atomic_fetch_add(counter, round, __ATOMIC_SEQ_CST);
            sum ^= __atomic_exchange_n(word, (uint32_t)round, __ATOMIC_ACQ_REL);
            __atomic_fetch_or(counter, 1, __ATOMIC_RELAXED);
        }
    }
    for (int i = 0; i < 16; i++) sum = mix(sum, counters[i] + words[i]);
    return report("atomics", sum);
}
