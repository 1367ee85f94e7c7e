// Open addressing with linear probing: inserts, look-ups that hit and miss, deletes with backward shift.
#include "program.h"

enum { SLOTS = 1 << 17, KEYS = 80000 };

static uint64_t keys[SLOTS], values[SLOTS];

static uint32_t home(uint64_t key) { return (key * 0x9e3779b97f4a7c15ULL) >> (64 - 17); }

static uint32_t find(uint64_t key) {
    uint32_t slot = home(key);
    while (keys[slot] && keys[slot] != key) slot = (slot + 1) % SLOTS;
    return slot;
}

static void erase(uint32_t hole) {
    for (uint32_t next = (hole + 1) % SLOTS; keys[next]; next = (next + 1) % SLOTS) {
        uint32_t distance = (next - home(keys[next])) % SLOTS;
        if (distance >= (next - hole) % SLOTS) {
            keys[hole] = keys[next];
            values[hole] = values[next];
            hole = next;
        }
    }
    keys[hole] = 0;
}

int main(int argc, char **argv) {
    long rounds = iterations(argc, argv, 40);
    uint64_t sum = 0;
    for (long round = 0; round < rounds; round++) {
        memset(keys, 0, sizeof keys);
        uint64_t seed = 3 + round;
        for (int i = 0; i < KEYS; i++) {
            uint64_t key = random_next(&seed) % (KEYS * 4) + 1;
            uint32_t slot = find(key);
            if (!keys[slot]) keys[slot] = key, values[slot] = 0;
            values[slot] += i;
        }
        for (int i = 0; i < KEYS * 2; i++) {
            uint32_t slot = find(random_next(&seed) % (KEYS * 4) + 1);
            if (keys[slot]) {
                sum = mix(sum, values[slot]);
                if (i & 1) erase(slot);
            }
        }
    }
    return report("hash_table", sum);
}
