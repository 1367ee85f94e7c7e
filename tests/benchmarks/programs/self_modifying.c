// A function whose code is written anew before each call, as a just-in-time compiler patching its output would do.
#include "program.h"
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

typedef uint32_t function(void);

// Writes a function that returns `value` and makes it visible to instruction fetch.
static void emit(uint8_t *code, uint32_t value) {
#if defined __riscv
    uint32_t high = (value + 0x800) & 0xfffff000, low = value << 20;
    uint32_t instructions[] = {
        0x00000537 | high, // lui a0, high
        0x0005051b | low,  // addiw a0, a0, low
        0x00008067,        // ret
    };
    memcpy(code, instructions, sizeof instructions);
    syscall(259 /* riscv_flush_icache */, code, code + sizeof instructions, 1 /* this thread */);
#elif defined __x86_64__
    code[0] = 0xb8; // mov eax, value
    memcpy(code + 1, &value, 4);
    code[5] = 0xc3; // ret
#else
#error "no code generator for this architecture"
#endif
}

int main(int argc, char **argv) {
    long rounds = iterations(argc, argv, 70000);
    uint8_t *code = mmap(NULL, 8192, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (code == MAP_FAILED) return 1;
    uint64_t sum = 0;
    for (long round = 0; round < rounds; round++) {
        uint8_t *at = code + round % 32 * 64;
        emit(at, (uint32_t)mix(round, 1));
        for (int call = 0; call < 4; call++) sum = mix(sum, ((function *)at)());
    }
    return report("self_modifying", sum);
}
