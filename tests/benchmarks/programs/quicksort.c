// Quicksort with a median of three and insertion sort for short ranges.
#include "program.h"

enum { COUNT = 500000 };

static void swap(uint32_t *a, uint32_t *b) {
    uint32_t t = *a;
    *a = *b;
    *b = t;
}

static void sort(uint32_t *a, long low, long high) {
    while (high - low > 12) {
        long middle = low + (high - low) / 2, i = low, j = high;
        if (a[middle] < a[low]) swap(&a[middle], &a[low]);
        if (a[high] < a[low]) swap(&a[high], &a[low]);
        if (a[high] < a[middle]) swap(&a[high], &a[middle]);
        uint32_t pivot = a[middle];
        while (i <= j) {
            while (a[i] < pivot) i++;
            while (a[j] > pivot) j--;
            if (i <= j) swap(&a[i++], &a[j--]);
        }
        if (j - low < high - i) sort(a, low, j), low = i;
        else sort(a, i, high), high = j;
    }
    for (long i = low + 1; i <= high; i++) {
        uint32_t value = a[i];
        long j = i;
        for (; j > low && a[j - 1] > value; j--) a[j] = a[j - 1];
        a[j] = value;
    }
}

int main(int argc, char **argv) {
    long rounds = iterations(argc, argv, 20);
    uint32_t *a = allocate(COUNT * sizeof *a);
    uint64_t seed = 7, sum = 0;
    for (long round = 0; round < rounds; round++) {
        for (long i = 0; i < COUNT; i++) a[i] = random_next(&seed) >> 32;
        sort(a, 0, COUNT - 1);
        for (long i = 1; i < COUNT; i++)
            if (a[i - 1] > a[i]) return 1;
        for (long i = 0; i < COUNT; i += 997) sum = mix(sum, a[i]);
    }
    return report("quicksort", sum);
}
