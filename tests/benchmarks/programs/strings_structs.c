// Records copied, linked and compared, short strings moved about, small functions called: typical application code.
#include "program.h"

struct record {
    struct record *link;
    int kind, amount;
    char name[32], note[32];
};

static struct record first, second;
static int totals[64];
static char latest[32];

#define NOINLINE __attribute__((noinline))

NOINLINE static int category(char a, char b) { return a == b ? 0 : a < b ? 1 : 2; }

NOINLINE static int same_record(const struct record *a, const struct record *b) {
    return a->kind == b->kind && strcmp(a->name, b->name) == 0;
}

NOINLINE static void advance(struct record *record, int step) {
    *record->link = *record;
    record->link->amount = record->amount + step;
    record->kind = category(record->name[step % 8], record->note[step % 8]);
    if (record->kind == 1) record->amount += 3;
    else record->link->kind = record->kind;
    record->link->link = record;
}

NOINLINE static void account(int *table, int index, int value) {
    index &= 31;
    for (int i = index; i <= index + 1; i++) table[i] += value;
    table[index + 20] = table[index] ^ value;
}

NOINLINE static int compose(char *to, const char *from, int number) {
    char *at = to;
    while (*from && at < to + 20) *at++ = *from++;
    *at++ = ' ';
    do *at++ = '0' + number % 10;
    while ((number /= 10) && at < to + 31);
    *at = 0;
    return at - to;
}

int main(int argc, char **argv) {
    long rounds = iterations(argc, argv, 3000000);
    uint64_t sum = 0;
    first.link = &second;
    second.link = &first;
    strcpy(first.name, "A RECORD, THE FIRST");
    strcpy(first.note, "SOME STRING OF TEXT");
    for (long round = 0; round < rounds; round++) {
        int length = compose(latest, first.note, round & 1023);
        if (strcmp(latest, second.note) > 0) strcpy(second.note, latest);
        advance(&first, round % 13);
        account(totals, round, first.amount + length);
        if (same_record(&first, &second)) first.amount -= 2;
        memcpy(second.name, "ANOTHER RECORD NOW", 19);
        first.name[round % 18] = 'A' + (first.amount & 15);
        sum += first.kind * 5 + second.kind + length;
    }
    for (int i = 0; i < 64; i++) sum = mix(sum, (uint32_t)totals[i]);
    for (int i = 0; i < 32; i++) sum = mix(sum, (uint8_t)first.name[i]);
    return report("strings_structs", mix(sum, first.amount));
}
