/* A bare-metal program for a debugger: functions, variables, a trap, a loop without end. */

typedef unsigned long u64;

volatile u64 total;
volatile u64 table[16];
volatile u64 traps;

u64 square(u64 value)
{
    u64 result = value * value;
    return result;
}

u64 sum_of_squares(u64 count)
{
    u64 sum = 0;
    for (u64 value = 1; value <= count; value++) {
        sum += square(value);
        table[value % 16] = sum;
    }
    return sum;
}

__attribute__((interrupt("machine"), aligned(4))) void handler(void)
{
    u64 pc;
    traps++;
    __asm__ volatile("csrr %0, mepc" : "=r"(pc));
    __asm__ volatile("csrw mepc, %0" : : "r"(pc + 4));
}

void spin(void)
{
    for (;;)
        total++;
}

void main(void)
{
    __asm__ volatile("csrw mtvec, %0" : : "r"(handler));
    total = sum_of_squares(10);
    __asm__ volatile("ecall");
    spin();
}

__attribute__((naked, section(".text.start"))) void _start(void)
{
    __asm__ volatile("csrr t0, mhartid\n"
                     "bnez t0, 1f\n"
                     "li sp, 0x80100000\n"
                     "j main\n"
                     "1: wfi\n"
                     "j 1b");
}
