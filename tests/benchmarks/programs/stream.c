// Four loops over arrays far larger than caches: copy, scale, add, triad.
#include "program.h"

enum { COUNT = 2 << 20 };

int main(int argc, char **argv) {
    long rounds = iterations(argc, argv, 12);
    double *a = allocate(COUNT * sizeof *a), *b = allocate(COUNT * sizeof *b), *c = allocate(COUNT * sizeof *c);
    uint64_t sum = 0;
    for (long i = 0; i < COUNT; i++) a[i] = 1 + i % 7, b[i] = 2, c[i] = 0;
    for (long round = 0; round < rounds; round++) {
        for (long i = 0; i < COUNT; i++) c[i] = a[i];
        for (long i = 0; i < COUNT; i++) b[i] = 0.5 * c[i];
        for (long i = 0; i < COUNT; i++) c[i] = a[i] + b[i];
        for (long i = 0; i < COUNT; i++) a[i] = b[i] + 0.25 * c[i];
    }
    for (long i = 0; i < COUNT; i += 1021) sum = mix_double(sum, a[i]);
    return report("stream", sum);
}
