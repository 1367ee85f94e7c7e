// Threads that lock a mutex for a short time, over and over, with some work of their own in between.
//   mutex ROUNDS THREADS
// The rounds are shared out: more threads do not mean more work.
#include "threads.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uint64_t shared[16];

static uint64_t work(int index, int threads, long rounds) {
    uint64_t state = 1 + index, sum = 0;
    for (long round = 0; round < rounds / threads; round++) {
        pthread_mutex_lock(&lock);
        // Sums do not depend on the threads' order.
        for (int i = 0; i < 16; i++) shared[i] += round ^ i;
        pthread_mutex_unlock(&lock);
        for (int i = 0; i < 32; i++) sum += random_next(&state);
    }
    return sum;
}

int main(int argc, char **argv) {
    long rounds = iterations(argc, argv, 6000000);
    uint64_t sum = run_threads(threads_wanted(argc, argv), rounds, work);
    for (int i = 0; i < 16; i++) sum = mix(sum, shared[i]);
    return report("mutex", sum);
}
