// What the programs for several harts share: threads and processes that each stay on a processor of their own.
#ifndef THREADS_H
#define THREADS_H

#include <pthread.h>
#include <sched.h>

#include "program.h"

enum { MOST_THREADS = 64, LINE = 64 };

// Threads of this run: the second argument, two if there is none.
static inline int threads_wanted(int argc, char **argv) {
    long count = argc > 2 ? strtol(argv[2], NULL, 10) : 2;
    return count < 1 ? 1 : count > MOST_THREADS ? MOST_THREADS : (int)count;
}

// Binds the caller to the `index`-th of the processors that `allowed` has, counted round. A system that refuses it
// places the thread as it likes.
static inline void stay_on(const cpu_set_t *allowed, int index) {
    int left = index % CPU_COUNT(allowed), processor = 0;
    while (!CPU_ISSET(processor, allowed) || left-- > 0) processor++;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(processor, &one);
    sched_setaffinity(0, sizeof one, &one);
}

static inline cpu_set_t processors(void) {
    cpu_set_t allowed;
    if (sched_getaffinity(0, sizeof allowed, &allowed) || !CPU_COUNT(&allowed)) {
        CPU_ZERO(&allowed);
        CPU_SET(0, &allowed);
    }
    return allowed;
}

// One thread's part of the work.
struct part {
    int index, threads;
    long rounds;
    uint64_t sum;
    cpu_set_t allowed;
    uint64_t (*work)(int index, int threads, long rounds);
    // Parts do not share cache lines.
    char space[LINE];
};

static inline void *run_part(void *argument) {
    struct part *part = argument;
    stay_on(&part->allowed, part->index);
    part->sum = part->work(part->index, part->threads, part->rounds);
    return NULL;
}

// Runs `work` on so many threads at once; its results, folded in the threads' order.
static inline uint64_t run_threads(int threads, long rounds, uint64_t (*work)(int index, int threads, long rounds)) {
    static struct part parts[MOST_THREADS];
    pthread_t handles[MOST_THREADS];
    cpu_set_t allowed = processors();
    uint64_t sum = 0;
    for (int i = 0; i < threads; i++) {
        parts[i] = (struct part){.index = i, .threads = threads, .rounds = rounds, .allowed = allowed, .work = work};
        if (pthread_create(&handles[i], NULL, run_part, &parts[i])) {
            fprintf(stderr, "no thread\n");
            exit(1);
        }
    }
    for (int i = 0; i < threads; i++) {
        pthread_join(handles[i], NULL);
        sum = mix(sum, parts[i].sum);
    }
    return sum;
}

#endif
