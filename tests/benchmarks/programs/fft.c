// A radix-2 fast Fourier transform, forth and back. The roots of unity come from half-angle formulas, so that no
// mathematics library enters the checksum.
#include "program.h"
#include <math.h>

enum { LOG = 13, POINTS = 1 << LOG };

static double re[POINTS], im[POINTS], root_re[POINTS / 2], root_im[POINTS / 2];

static void roots(void) {
    double c = -1, s = 0; // e^(i*pi), then halve the angle
    root_re[0] = 1, root_im[0] = 0;
    for (int distance = POINTS / 4; distance >= 1; distance /= 2) {
        double half_c = sqrt((1 + c) / 2), half_s = sqrt((1 - c) / 2);
        c = half_c, s = half_s;
        for (int i = 0; i < POINTS / 2; i += 2 * distance) {
            root_re[i + distance] = root_re[i] * c - root_im[i] * s;
            root_im[i + distance] = root_re[i] * s + root_im[i] * c;
        }
    }
}

static void transform(double direction) {
    for (int i = 1, j = 0; i < POINTS; i++) {
        int bit = POINTS >> 1;
        for (; j & bit; bit >>= 1) j ^= bit;
        j ^= bit;
        if (i < j) {
            double t = re[i];
            re[i] = re[j], re[j] = t;
            t = im[i], im[i] = im[j], im[j] = t;
        }
    }
    for (int half = 1; half < POINTS; half *= 2)
        for (int start = 0; start < POINTS; start += 2 * half)
            for (int k = 0; k < half; k++) {
                int a = start + k, b = a + half, w = k * (POINTS / 2 / half);
                double wr = root_re[w], wi = direction * root_im[w];
                double tr = re[b] * wr - im[b] * wi, ti = re[b] * wi + im[b] * wr;
                re[b] = re[a] - tr, im[b] = im[a] - ti;
                re[a] += tr, im[a] += ti;
            }
}

int main(int argc, char **argv) {
    long rounds = iterations(argc, argv, 240);
    uint64_t seed = 29, sum = 0;
    roots();
    for (int i = 0; i < POINTS; i++) re[i] = (double)(random_next(&seed) >> 40) / (1 << 24);
    for (long round = 0; round < rounds; round++) {
        transform(1);
        for (int i = 0; i < POINTS; i++) re[i] /= POINTS, im[i] /= POINTS;
        re[round % POINTS] += 0.25;
        transform(-1);
    }
    for (int i = 0; i < POINTS; i++) sum = mix_double(sum, re[i]);
    return report("fft", sum);
}
