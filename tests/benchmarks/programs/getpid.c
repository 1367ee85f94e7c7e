// The cheapest system call, in a loop.
#include "program.h"
#include <sys/syscall.h>
#include <unistd.h>

int main(int argc, char **argv) {
    long rounds = iterations(argc, argv, 1200000);
    uint64_t same = 0, pid = syscall(SYS_getpid);
    for (long round = 0; round < rounds; round++) same += (uint64_t)syscall(SYS_getpid) == pid;
    return report("getpid", same);
}
