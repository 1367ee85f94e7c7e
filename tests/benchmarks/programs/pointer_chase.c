// A walk along a random cycle through memory of SIZE KiB, one pointer per cache line.
//   pointer_chase STEPS SIZE
#include "program.h"

struct line {
    uint32_t next, pad[15];
};

int main(int argc, char **argv) {
    long steps = iterations(argc, argv, 99999989), kib = argc > 2 ? strtol(argv[2], NULL, 10) : 16;
    uint32_t count = kib * 1024 / sizeof(struct line), at = 0;
    struct line *lines = allocate(count * sizeof *lines);
    uint64_t seed = 31;
    for (uint32_t i = 0; i < count; i++) lines[i].next = i;
    for (uint32_t i = count - 1; i > 0; i--) { // Sattolo's shuffle makes one cycle of all lines
        uint32_t j = random_next(&seed) % i, t = lines[i].next;
        lines[i].next = lines[j].next;
        lines[j].next = t;
    }
    for (long i = 0; i < steps; i++) at = lines[at].next;
    return report("pointer_chase", mix(kib, at));
}
