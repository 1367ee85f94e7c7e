// An expression tree evaluated through function pointers, one small function per kind of node: indirect calls.
#include "program.h"

struct node {
    int64_t (*evaluate)(const struct node *, int64_t x);
    const struct node *left, *right;
    int64_t constant;
};

#define EVALUATE(node, x) ((node)->evaluate((node), (x)))

static int64_t constant(const struct node *n, int64_t x) { return (void)x, n->constant; }
static int64_t variable(const struct node *n, int64_t x) { return n->constant + x; }
static int64_t add(const struct node *n, int64_t x) { return EVALUATE(n->left, x) + EVALUATE(n->right, x); }
static int64_t exclusive_or(const struct node *n, int64_t x) { return EVALUATE(n->left, x) ^ EVALUATE(n->right, x); }
static int64_t shift(const struct node *n, int64_t x) { return EVALUATE(n->left, x) >> (EVALUATE(n->right, x) & 7); }
static int64_t either(const struct node *n, int64_t x) { return EVALUATE(x & 1 ? n->left : n->right, x >> 1); }
static int64_t negate(const struct node *n, int64_t x) { return -EVALUATE(n->left, x); }

static const struct node *grow(uint64_t *seed, int depth) {
    static int64_t (*const inner[])(const struct node *, int64_t) = {add, exclusive_or, shift, either, negate};
    struct node *node = allocate(sizeof *node);
    uint64_t random = random_next(seed);
    node->constant = random >> 40;
    node->left = node->right = NULL;
    if (depth == 0) {
        node->evaluate = random & 1 ? constant : variable;
    } else {
        node->evaluate = inner[random % 5];
        node->left = grow(seed, depth - 1);
        node->right = grow(seed, depth - 1);
    }
    return node;
}

int main(int argc, char **argv) {
    long rounds = iterations(argc, argv, 110000);
    uint64_t seed = 21, sum = 0;
    const struct node *tree[4];
    for (int i = 0; i < 4; i++) tree[i] = grow(&seed, 9);
    for (long round = 0; round < rounds; round++) sum = mix(sum, EVALUATE(tree[round & 3], round));
    return report("call_interpreter", sum);
}
