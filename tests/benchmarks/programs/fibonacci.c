// Fibonacci numbers by double recursion: calls and returns, and little else.
#include "program.h"

__attribute__((noinline, noipa, optimize("no-optimize-sibling-calls"))) static uint64_t fibonacci(unsigned n) {
    return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2);
}

int main(int argc, char **argv) {
    long rounds = iterations(argc, argv, 8);
    uint64_t sum = 0;
    for (long round = 0; round < rounds; round++) sum = mix(sum, fibonacci(32 + round % 2));
    return report("fibonacci", sum);
}
