// Five bodies under gravity, integrated with a fixed step.
#include "program.h"
#include <math.h>

enum { BODIES = 5 };

static double position[BODIES][3], velocity[BODIES][3], mass[BODIES];

static void step(double dt) {
    for (int i = 0; i < BODIES; i++)
        for (int j = i + 1; j < BODIES; j++) {
            double d[3], square = 0;
            for (int k = 0; k < 3; k++) d[k] = position[i][k] - position[j][k], square += d[k] * d[k];
            double pull = dt / (square * sqrt(square));
            for (int k = 0; k < 3; k++) {
                velocity[i][k] -= d[k] * mass[j] * pull;
                velocity[j][k] += d[k] * mass[i] * pull;
            }
        }
    for (int i = 0; i < BODIES; i++)
        for (int k = 0; k < 3; k++) position[i][k] += dt * velocity[i][k];
}

int main(int argc, char **argv) {
    long rounds = iterations(argc, argv, 600000);
    uint64_t sum = 0;
    mass[0] = 40;
    for (int i = 1; i < BODIES; i++) {
        double radius = 4.0 * i;
        mass[i] = 0.03 / i;
        position[i][0] = radius;
        position[i][2] = 0.1 * i;
        velocity[i][1] = sqrt(mass[0] / radius);
    }
    for (long round = 0; round < rounds; round++) step(0.001);
    for (int i = 0; i < BODIES; i++)
        for (int k = 0; k < 3; k++) sum = mix_double(sum, position[i][k]);
    return report("n_body", sum);
}
