// Threads that have nothing to do with each other: each sorts numbers of its own and hashes them.
//   independent_work ROUNDS THREADS
// Every thread does all ROUNDS, so that more of them take no longer where each has a processor.
#include "threads.h"

enum { NUMBERS = 1 << 15 };

static uint64_t work(int index, int threads, long rounds) {
    uint64_t *numbers = allocate(NUMBERS * sizeof *numbers);
    uint64_t state = 88172645463325252ULL + index, sum = threads;
    for (long round = 0; round < rounds; round++) {
        for (int i = 0; i < NUMBERS; i++) numbers[i] = random_next(&state);
        // Shell's sort: its inner loop is branches and two streams of memory.
        for (int gap = NUMBERS / 2; gap > 0; gap = gap == 2 ? 1 : gap * 5 / 11)
            for (int i = gap; i < NUMBERS; i++) {
                uint64_t moved = numbers[i];
                int at = i;
                for (; at >= gap && numbers[at - gap] > moved; at -= gap) numbers[at] = numbers[at - gap];
                numbers[at] = moved;
            }
        for (int i = 0; i < NUMBERS; i++) sum = mix(sum, numbers[i]);
    }
    free(numbers);
    return sum;
}

int main(int argc, char **argv) {
    long rounds = iterations(argc, argv, 300);
    return report("independent_work", run_threads(threads_wanted(argc, argv), rounds, work));
}
