// Two processes that take turns, each walking its own large working set: what an address space switch costs afterwards.
#include "program.h"
#include <sys/wait.h>
#include <unistd.h>

enum { PAGES = 2048, PAGE = 4096 };

static uint64_t walk(uint8_t *memory, long round) {
    uint64_t sum = 0;
    for (long i = 0; i < PAGES; i++) {
        uint8_t *at = memory + (i * 769 % PAGES) * PAGE + i % 61 * 64;
        sum += *at += round;
    }
    return sum;
}

int main(int argc, char **argv) {
    long rounds = iterations(argc, argv, 1000);
    int there[2], back[2];
    uint8_t *memory = allocate(PAGES * PAGE);
    uint64_t sum = 0, answer;
    if (pipe(there) || pipe(back)) return 1;
    for (long i = 0; i < PAGES * PAGE; i++) memory[i] = i * 7;
    pid_t child = fork();
    if (child < 0) return 1;
    if (child == 0) {
        long round;
        close(there[1]);
        while (read(there[0], &round, sizeof round) == sizeof round) {
            answer = walk(memory, round);
            if (write(back[1], &answer, sizeof answer) != sizeof answer) break;
        }
        _exit(0);
    }
    for (long round = 0; round < rounds; round++) {
        if (write(there[1], &round, sizeof round) != sizeof round) return 1;
        if (read(back[0], &answer, sizeof answer) != sizeof answer) return 1;
        sum = mix(sum, answer + walk(memory, round + 1));
    }
    close(there[1]);
    waitpid(child, NULL, 0);
    return report("two_processes", sum);
}
