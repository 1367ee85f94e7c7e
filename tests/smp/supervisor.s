# What programs for several harts under the built-in SBI start with: the header of a kernel image, start-up, SBI calls,
# and how they end. HARTS and ROUNDS are defined in front of it. A program defines `main`, where hart 0 begins with the
# other harts stopped, and `secondary`, where they begin when `start_others` has started them; s0 is the hart's number.
#
# It ends through system reset: as shutdown if all is well, with a failure's reason otherwise.

.equ SBI_IPI, 0x735049
.equ SBI_RFENCE, 0x52464e43
.equ SBI_HSM, 0x48534d
.equ SBI_SRST, 0x53525354

.equ HART_STARTED, 0
.equ HART_STOPPED, 1
.equ HART_SUSPENDED, 4

.macro sbi extension, function
    li a7, \extension
    li a6, \function
    ecall
.endm

# Calls the SBI; it must answer 0.
.macro sbi_ok extension, function
    sbi \extension, \function
    bnez a0, failed
.endm

    .option norelax
image:
    j start
    .balign 8
    .dword 0x200000, image_end - image, 0
    .word 2, 0
    .dword 0
    .ascii "RISCV\0\0\0"
    .ascii "RSC"
    .byte 5
    .word 0

start:
    mv s0, a0
    la t0, failed
    csrw stvec, t0
    j main

started:
    mv s0, a0
    mv s1, a1
    la t0, failed
    csrw stvec, t0
    j secondary

# Starts harts 1 to HARTS - 1 with a1 = a0 of this function's caller.
start_others:
    mv s11, a0
    li s10, 1
1:
    li t0, HARTS
    bgeu s10, t0, 2f
    mv a0, s10
    la a1, started
    mv a2, s11
    sbi_ok SBI_HSM, 0
    addi s10, s10, 1
    j 1b
2:
    ret

# This hart is done; the last one ends the program.
done:
    la t0, harts_done
    li t1, 1
    amoadd.w.aqrl t1, t1, (t0)
    li t0, HARTS - 1
    beq t1, t0, succeeded
    sbi SBI_HSM, 1
    j failed

succeeded:
    li a0, 0
    li a1, 0
    sbi SBI_SRST, 0
    .balign 4
failed:
    li a0, 0
    li a1, 1
    sbi SBI_SRST, 0
    j failed

harts_done:
    .word 0
