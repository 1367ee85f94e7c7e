// The sieve of Eratosthenes over four million flags of a byte each.
#include "program.h"

enum { LIMIT = 4 << 20 };

int main(int argc, char **argv) {
    long rounds = iterations(argc, argv, 22);
    uint8_t *composite = allocate(LIMIT);
    uint64_t sum = 0;
    for (long round = 0; round < rounds; round++) {
        memset(composite, 0, LIMIT);
        for (uint32_t i = 2; i * i < LIMIT; i++)
            if (!composite[i])
                for (uint32_t j = i * i; j < LIMIT; j += i) composite[j] = 1;
        uint32_t primes = 0;
        for (uint32_t i = 2 + round; i < LIMIT; i++) primes += !composite[i];
        sum = mix(sum, primes);
    }
    return report("sieve", sum);
}
