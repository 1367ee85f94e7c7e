// A stack machine's bytecode interpreted by a switch in a loop. The program it runs counts Collatz steps.
#include "program.h"

enum opcode { PUSH, LOAD, STORE, ADD, MULTIPLY, HALVE, ODD, LESS, JUMP, JUMP_IF_ZERO, INCREMENT, HALT };

// for (n = 1; n < limit; n++) for (x = n; x != 1;) { x = x odd ? 3x + 1 : x / 2; steps++; }
static const int32_t code[] = {
    PUSH, 1, STORE, 0,                                  // 0: n = 1
    LOAD, 0, LOAD, 3, LESS, JUMP_IF_ZERO, 50,           // 4: while n < limit
    LOAD, 0, STORE, 1,                                  // 11: x = n
    PUSH, 1, LOAD, 1, LESS, JUMP_IF_ZERO, 46,           // 15: while 1 < x
    LOAD, 1, ODD, JUMP_IF_ZERO, 37,                     // 22
    LOAD, 1, PUSH, 3, MULTIPLY, PUSH, 1, ADD, JUMP, 40, // 27: 3x + 1
    LOAD, 1, HALVE,                                     // 37
    STORE, 1, INCREMENT, 2, JUMP, 15,                   // 40
    INCREMENT, 0, JUMP, 4,                              // 46
    HALT,                                               // 50
};

__attribute__((noipa)) static int64_t run(int64_t *variable) {
    int64_t stack[16], *top = stack;
    const int32_t *pc = code;
    for (;;) {
        switch ((enum opcode)*pc++) {
        case PUSH: *top++ = *pc++; break;
        case LOAD: *top++ = variable[*pc++]; break;
        case STORE: variable[*pc++] = *--top; break;
        case ADD: top--, top[-1] += top[0]; break;
        case MULTIPLY: top--, top[-1] *= top[0]; break;
        case HALVE: top[-1] >>= 1; break;
        case ODD: top[-1] &= 1; break;
        case LESS: top--, top[-1] = top[-1] < top[0]; break;
        case JUMP: pc = code + *pc; break;
        case JUMP_IF_ZERO: pc = *--top ? pc + 1 : code + *pc; break;
        case INCREMENT: variable[*pc++]++; break;
        case HALT: return variable[2];
        }
    }
}

int main(int argc, char **argv) {
    int64_t variable[4] = {0, 0, 0, iterations(argc, argv, 32000)};
    return report("switch_interpreter", mix(0, run(variable)));
}
