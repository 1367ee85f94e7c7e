// A byte sent to and fro between two processes: two context switches a round.
#include "program.h"
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv) {
    long rounds = iterations(argc, argv, 12000);
    int there[2], back[2];
    uint64_t sum = 0;
    uint8_t byte = 0;
    if (pipe(there) || pipe(back)) return 1;
    pid_t child = fork();
    if (child < 0) return 1;
    if (child == 0) {
        close(there[1]);
        while (read(there[0], &byte, 1) == 1) {
            byte = byte * 5 + 1;
            if (write(back[1], &byte, 1) != 1) break;
        }
        _exit(0);
    }
    for (long round = 0; round < rounds; round++) {
        byte ^= round;
        if (write(there[1], &byte, 1) != 1 || read(back[0], &byte, 1) != 1) return 1;
        sum = mix(sum, byte);
    }
    close(there[1]);
    waitpid(child, NULL, 0);
    return report("pipe_ping_pong", sum);
}
