// A child forked that exits, and a child that executes this program anew; each awaited.
#include "program.h"
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv) {
    long rounds = iterations(argc, argv, 250);
    if (rounds == 0) return 7; // the child
    uint64_t sum = 0;
    for (long round = 0; round < rounds; round++)
        for (int execute = 0; execute < 2; execute++) {
            int status = 0;
            pid_t child = fork();
            if (child == 0) {
                if (execute) execl("/proc/self/exe", argv[0], "0", (char *)NULL);
                _exit(execute ? 1 : 5);
            }
            if (child < 0 || waitpid(child, &status, 0) != child) return 1;
            sum += WEXITSTATUS(status);
        }
    return report("fork_exec", sum);
}
