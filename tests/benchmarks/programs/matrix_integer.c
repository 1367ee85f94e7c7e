// The product of two matrices of 32-bit integers, in the textbook's order.
#include "program.h"

enum { SIDE = 256 };

static int32_t a[SIDE][SIDE], b[SIDE][SIDE], c[SIDE][SIDE];

int main(int argc, char **argv) {
    long rounds = iterations(argc, argv, 32);
    uint64_t seed = 11, sum = 0;
    for (int i = 0; i < SIDE; i++)
        for (int j = 0; j < SIDE; j++) a[i][j] = random_next(&seed) >> 48, b[i][j] = random_next(&seed) >> 48;
    for (long round = 0; round < rounds; round++) {
        for (int i = 0; i < SIDE; i++)
            for (int j = 0; j < SIDE; j++) {
                uint32_t total = 0;
                for (int k = 0; k < SIDE; k++) total += (uint32_t)a[i][k] * b[k][j];
                c[i][j] = total;
            }
        for (int i = 0; i < SIDE; i++) a[i][round % SIDE] = c[i][i];
        sum = mix(sum, (uint32_t)c[round % SIDE][3]);
    }
    return report("matrix_integer", sum);
}
