// Anonymous memory mapped, touched page by page and unmapped again, without huge pages.
#include "program.h"
#include <sys/mman.h>

enum { BYTES = 4 << 20, PAGE = 4096 };

int main(int argc, char **argv) {
    long rounds = iterations(argc, argv, 100);
    uint64_t sum = 0;
    for (long round = 0; round < rounds; round++) {
        volatile uint8_t *memory = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED) return 1;
        madvise((void *)memory, BYTES, MADV_NOHUGEPAGE);
        for (long at = 0; at < BYTES; at += PAGE) memory[at] = 1 + at / PAGE;
        for (long at = 0; at < BYTES; at += PAGE) sum += memory[at];
        munmap((void *)memory, BYTES);
    }
    return report("page_faults", sum);
}
