// Processes that, each on a processor of its own, fork children that exit or execute this program anew, as a parallel
// build does.
//   parallel_fork_exec ROUNDS PROCESSES
#include <sys/wait.h>
#include <unistd.h>

#include "threads.h"

static int worker(char **argv, long rounds) {
    for (long round = 0; round < rounds; round++)
        for (int execute = 0; execute < 2; execute++) {
            int status = 0;
            pid_t child = fork();
            if (child == 0) {
                if (execute) execl("/proc/self/exe", argv[0], "0", (char *)NULL);
                _exit(execute ? 1 : 5);
            }
            if (child < 0 || waitpid(child, &status, 0) != child) return 1;
            if (!WIFEXITED(status) || WEXITSTATUS(status) != (execute ? 7 : 5)) return 1;
        }
    return 3;
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "0") == 0) return 7; // the child
    long rounds = iterations(argc, argv, 400);
    int processes = threads_wanted(argc, argv);
    cpu_set_t allowed = processors();
    uint64_t sum = 0;
    for (int i = 0; i < processes; i++) {
        pid_t child = fork();
        if (child < 0) return 1;
        if (child == 0) {
            stay_on(&allowed, i);
            _exit(worker(argv, rounds));
        }
    }
    for (int i = 0; i < processes; i++) {
        int status = 0;
        if (wait(&status) < 0) return 1;
        sum = mix(sum, (uint64_t)status);
    }
    return report("parallel_fork_exec", sum);
}
