// Iterations until escape over a grid of the Mandelbrot set.
#include "program.h"

enum { WIDTH = 320, HEIGHT = 240, MOST = 200 };

int main(int argc, char **argv) {
    long rounds = iterations(argc, argv, 8);
    uint64_t sum = 0;
    for (long round = 0; round < rounds; round++)
        for (int row = 0; row < HEIGHT; row++)
            for (int column = 0; column < WIDTH; column++) {
                double cr = -2.2 + 3.2 * column / WIDTH, ci = -1.2 + 2.4 * row / HEIGHT + 0.001 * round;
                double zr = 0, zi = 0, rr = 0, ii = 0;
                int n = 0;
                for (; n < MOST && rr + ii < 4; n++) {
                    zi = 2 * zr * zi + ci;
                    zr = rr - ii + cr;
                    rr = zr * zr;
                    ii = zi * zi;
                }
                sum = sum * 31 + n;
            }
    return report("mandelbrot", sum);
}
