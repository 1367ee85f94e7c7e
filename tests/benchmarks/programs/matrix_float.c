// The product of two dense matrices of doubles, rows innermost.
#include "program.h"

enum { SIDE = 200 };

static double a[SIDE][SIDE], b[SIDE][SIDE], c[SIDE][SIDE];

int main(int argc, char **argv) {
    long rounds = iterations(argc, argv, 14);
    uint64_t seed = 23, sum = 0;
    for (int i = 0; i < SIDE * SIDE; i++) {
        a[i / SIDE][i % SIDE] = (double)(random_next(&seed) >> 40) / (1 << 24);
        b[i / SIDE][i % SIDE] = (double)(random_next(&seed) >> 40) / (1 << 24);
    }
    for (long round = 0; round < rounds; round++) {
        memset(c, 0, sizeof c);
        for (int i = 0; i < SIDE; i++)
            for (int k = 0; k < SIDE; k++)
                for (int j = 0; j < SIDE; j++) c[i][j] += a[i][k] * b[k][j];
        for (int i = 0; i < SIDE; i++) a[i][i] = c[i][round % SIDE] / SIDE, sum = mix_double(sum, a[i][i]);
    }
    return report("matrix_float", sum);
}
