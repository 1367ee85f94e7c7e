// Threads that change the same words at once: fetch-and-add, compare-and-swap, exclusive or. None waits for another,
// which would measure the host's scheduler where they have to share a processor.
//   shared_atomics ROUNDS THREADS
#include "threads.h"

static struct {
    uint64_t value;
    char space[LINE - sizeof(uint64_t)];
} counter, product, parity;

static uint64_t work(int index, int threads, long rounds) {
    (void)threads;
    for (long round = 0; round < rounds; round++) {
        __atomic_fetch_add(&counter.value, round, __ATOMIC_RELAXED);
        uint64_t old = __atomic_load_n(&product.value, __ATOMIC_RELAXED);
        while (!__atomic_compare_exchange_n(&product.value, &old, old * 5 + 1, 0, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) {}
        __atomic_fetch_xor(&parity.value, (uint64_t)round << index % 8, __ATOMIC_SEQ_CST);
    }
    return 0;
}

int main(int argc, char **argv) {
    long rounds = iterations(argc, argv, 20000000);
    uint64_t sum = run_threads(threads_wanted(argc, argv), rounds, work);
    sum = mix(mix(sum, counter.value), product.value);
    return report("shared_atomics", mix(sum, parity.value));
}
