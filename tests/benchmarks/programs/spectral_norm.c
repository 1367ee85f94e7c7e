// The spectral norm of an implicit matrix by the power method: divisions and conversions.
#include "program.h"
#include <math.h>

enum { SIDE = 300 };

static double element(int i, int j) { return 1.0 / ((i + j) * (i + j + 1) / 2 + i + 1); }

static void times(const double *v, double *out, int transposed) {
    for (int i = 0; i < SIDE; i++) {
        double total = 0;
        for (int j = 0; j < SIDE; j++) total += (transposed ? element(j, i) : element(i, j)) * v[j];
        out[i] = total;
    }
}

int main(int argc, char **argv) {
    long rounds = iterations(argc, argv, 160);
    double u[SIDE], v[SIDE], t[SIDE], uv = 0, vv = 0;
    for (int i = 0; i < SIDE; i++) u[i] = 1;
    for (long round = 0; round < rounds; round++) {
        times(u, t, 0);
        times(t, v, 1);
        times(v, t, 0);
        times(t, u, 1);
    }
    for (int i = 0; i < SIDE; i++) uv += u[i] * v[i], vv += v[i] * v[i];
    return report("spectral_norm", mix_double(0, sqrt(uv / vv)));
}
