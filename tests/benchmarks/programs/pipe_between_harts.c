// Two processes on two processors: a byte to and fro (each read sleeps, each write wakes another processor), then a
// stream of blocks.
#include <sys/wait.h>
#include <unistd.h>

#include "threads.h"

enum { BLOCK = 4096, BLOCKS_A_ROUND = 2 };

static int read_all(int file, uint8_t *to, size_t bytes) {
    for (ssize_t done; bytes; to += done, bytes -= done)
        if ((done = read(file, to, bytes)) <= 0) return 0;
    return 1;
}

static int child(int there, int back, long rounds) {
    static uint8_t block[BLOCK];
    uint64_t sum = 0;
    for (long round = 0; round < rounds; round++) {
        uint8_t byte;
        if (read(there, &byte, 1) != 1) return 1;
        byte = byte * 5 + 1;
        if (write(back, &byte, 1) != 1) return 1;
    }
    for (long i = 0; i < rounds * BLOCKS_A_ROUND; i++) {
        if (!read_all(there, block, BLOCK)) return 1;
        sum = mix(sum, block[i % BLOCK]);
    }
    return write(back, &sum, sizeof sum) != sizeof sum;
}

int main(int argc, char **argv) {
    long rounds = iterations(argc, argv, 30000);
    static uint8_t block[BLOCK];
    int there[2], back[2], status;
    uint64_t sum = 0, answer;
    uint8_t byte = 0;
    cpu_set_t allowed = processors();
    if (pipe(there) || pipe(back)) return 1;
    pid_t other = fork();
    if (other < 0) return 1;
    if (other == 0) {
        stay_on(&allowed, 1);
        _exit(child(there[0], back[1], rounds));
    }
    stay_on(&allowed, 0);
    for (long round = 0; round < rounds; round++) {
        byte ^= round;
        if (write(there[1], &byte, 1) != 1 || read(back[0], &byte, 1) != 1) return 1;
        sum = mix(sum, byte);
    }
    for (long i = 0; i < rounds * BLOCKS_A_ROUND; i++) {
        block[i % BLOCK] += i * 7;
        if (write(there[1], block, BLOCK) != BLOCK) return 1;
    }
    if (read(back[0], &answer, sizeof answer) != sizeof answer) return 1;
    if (waitpid(other, &status, 0) != other || status) return 1;
    return report("pipe_between_harts", mix(sum, answer));
}
