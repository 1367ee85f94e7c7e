// Threads that change the same words at once: fetch-and-add, compare-and-swap, and a flag handed to and fro.
//   shared_atomics ROUNDS THREADS
#include "threads.h"

static struct {
    uint64_t value;
    char space[LINE - sizeof(uint64_t)];
} counter, product, turn;

static uint64_t work(int index, int threads, long rounds) {
    for (long round = 0; round < rounds; round++) {
        __atomic_fetch_add(&counter.value, round, __ATOMIC_RELAXED);
        uint64_t old = __atomic_load_n(&product.value, __ATOMIC_RELAXED);
        while (!__atomic_compare_exchange_n(&product.value, &old, old * 5 + 1, 0, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) {}
        // A spinning neighbour would measure the scheduler if threads had to share processors: it is a rare event here.
        if (round % 64 == 0) {
            while (__atomic_load_n(&turn.value, __ATOMIC_ACQUIRE) % threads != (uint64_t)index) {}
            __atomic_store_n(&turn.value, turn.value + 1, __ATOMIC_RELEASE);
        }
    }
    return 0;
}

int main(int argc, char **argv) {
    long rounds = iterations(argc, argv, 6000000);
    uint64_t sum = run_threads(threads_wanted(argc, argv), rounds, work);
    sum = mix(mix(sum, counter.value), product.value);
    return report("shared_atomics", mix(sum, turn.value));
}
