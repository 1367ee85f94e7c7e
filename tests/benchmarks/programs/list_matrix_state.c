// A mix of what small control software does: linked lists searched, reversed and merge-sorted, a small integer matrix,
// and a state machine over text that looks like numbers.
#include "program.h"

enum { NODES = 400, SIDE = 24, TEXT = 2048 };

struct node {
    struct node *next;
    int16_t key, tag;
};

static struct node nodes[NODES];
static int16_t left[SIDE][SIDE], right[SIDE][SIDE];
static int32_t product[SIDE][SIDE];
static uint8_t text[TEXT];

static struct node *merge_sort(struct node *list, int by_tag) {
    if (!list || !list->next) return list;
    struct node *slow = list, *fast = list->next;
    while (fast && fast->next) slow = slow->next, fast = fast->next->next;
    struct node *a = list, *b = slow->next, head, *tail = &head;
    slow->next = NULL;
    a = merge_sort(a, by_tag);
    b = merge_sort(b, by_tag);
    while (a && b) {
        int first = by_tag ? a->tag <= b->tag : a->key <= b->key;
        struct node **from = first ? &a : &b;
        tail = tail->next = *from;
        *from = (*from)->next;
    }
    tail->next = a ? a : b;
    return head.next;
}

static struct node *reverse(struct node *list) {
    struct node *done = NULL;
    while (list) {
        struct node *next = list->next;
        list->next = done, done = list, list = next;
    }
    return done;
}

static uint64_t lists(uint64_t sum, long round) {
    for (int i = 0; i < NODES; i++) nodes[i].next = i + 1 < NODES ? &nodes[i + 1] : NULL;
    struct node *list = merge_sort(nodes, 0);
    for (int wanted = 0; wanted < 30; wanted++) {
        int depth = 0;
        struct node *at = list;
        while (at && (at->key & 255) != ((wanted * 7 + round) & 255)) at = at->next, depth++;
        sum = mix(sum, depth);
    }
    list = merge_sort(reverse(list), 1);
    for (struct node *at = list; at; at = at->next) sum = sum * 31 + (uint16_t)at->key;
    return sum;
}

static uint64_t matrix(uint64_t sum, int16_t scale) {
    for (int i = 0; i < SIDE; i++)
        for (int j = 0; j < SIDE; j++) {
            int32_t total = 0;
            for (int k = 0; k < SIDE; k++) total += (int16_t)(left[i][k] + scale) * right[k][j];
            product[i][j] = total;
        }
    for (int i = 0; i < SIDE; i++)
        for (int j = 0; j < SIDE; j++) sum = sum * 17 + (product[i][j] >> 2 & 0xfff);
    return sum;
}

enum state { START, SIGN, INTEGER, POINT, FRACTION, EXPONENT, POWER, WRONG, STATES };

static uint64_t state_machine(uint64_t sum) {
    uint32_t ended[STATES] = {0}, steps = 0;
    enum state state = START;
    for (int i = 0; i < TEXT; i++) {
        uint8_t c = text[i];
        if (c == ',') {
            ended[state]++;
            state = START;
            continue;
        }
        int digit = c >= '0' && c <= '9';
        enum state old = state;
        switch (state) {
        case START: state = digit ? INTEGER : c == '+' || c == '-' ? SIGN : c == '.' ? POINT : WRONG; break;
        case SIGN: state = digit ? INTEGER : c == '.' ? POINT : WRONG; break;
        case INTEGER: state = digit ? INTEGER : c == '.' ? FRACTION : c == 'e' ? EXPONENT : WRONG; break;
        case POINT: state = digit ? FRACTION : WRONG; break;
        case FRACTION: state = digit ? FRACTION : c == 'e' ? EXPONENT : WRONG; break;
        case EXPONENT: state = digit || c == '-' || c == '+' ? POWER : WRONG; break;
        case POWER: state = digit ? POWER : WRONG; break;
        default: break;
        }
        steps += old != state;
    }
    for (int i = 0; i < STATES; i++) sum = mix(sum, ended[i]);
    return mix(sum, steps);
}

int main(int argc, char **argv) {
    long rounds = iterations(argc, argv, 7000);
    uint64_t seed = 1, sum = 0;
    static const char alphabet[] = "0123456789012345678901234567890123456789,,,,,,,,..+-e";
    for (int i = 0; i < NODES; i++) nodes[i].key = random_next(&seed) >> 50, nodes[i].tag = i;
    for (int i = 0; i < SIDE * SIDE; i++) {
        left[i / SIDE][i % SIDE] = random_next(&seed) >> 56;
        right[i / SIDE][i % SIDE] = random_next(&seed) >> 56;
    }
    for (int i = 0; i < TEXT; i++) text[i] = alphabet[random_next(&seed) % (sizeof alphabet - 1)];
    for (long round = 0; round < rounds; round++) {
        sum = lists(sum, round);
        sum = matrix(sum, round & 15);
        sum = state_machine(sum);
        text[round % TEXT] = alphabet[sum % (sizeof alphabet - 1)];
    }
    return report("list_matrix_state", sum);
}
