# What every conformance program starts with: constants, macros, start-up, trap handlers, and how it ends.
#
# A program is flat, runs in M-mode from 0x8000_0000 on hart 0, and ends through the SiFive test finisher: exit code 0,
# or, after a line on the UART, the number of the check that failed (255 from there on).
#
# Registers kept for the macros:
#   gp        checks made so far
#   t5, t6    scratch of every macro
#   s2 to s5  what the last trap left: cause, tval, epc, status
#   s6        where the trap handlers go on, in M-mode
#   s7        1 if the last trap was taken in S-mode
#   s8        distance from a label to the address at which `try` runs the code behind it
#   s0        the row of the table under way, where there is one

# An address at which neither board has anything.
.equ NOTHING, 0x1f00000

.equ MSIP, 0x2000000
.equ MTIMECMP, 0x2004000
.equ MTIME, 0x200bff8
.equ SSIP, 0x2f00000

.equ USER, 0
.equ SUPERVISOR, 1
.equ MACHINE, 3

.equ INSTRUCTION_MISALIGNED, 0
.equ INSTRUCTION_ACCESS_FAULT, 1
.equ ILLEGAL_INSTRUCTION, 2
.equ BREAKPOINT, 3
.equ LOAD_MISALIGNED, 4
.equ LOAD_ACCESS_FAULT, 5
.equ STORE_MISALIGNED, 6
.equ STORE_ACCESS_FAULT, 7
.equ ECALL_FROM_USER, 8
.equ ECALL_FROM_SUPERVISOR, 9
.equ ECALL_FROM_MACHINE, 11
.equ INSTRUCTION_PAGE_FAULT, 12
.equ LOAD_PAGE_FAULT, 13
.equ STORE_PAGE_FAULT, 15

.equ STATUS_SIE, 0x2
.equ STATUS_MIE, 0x8
.equ STATUS_SPIE, 0x20
.equ STATUS_MPIE, 0x80
.equ STATUS_SPP, 0x100
.equ STATUS_MPP, 0x1800
.equ STATUS_FS, 0x6000
.equ STATUS_MPRV, 0x20000
.equ STATUS_SUM, 0x40000
.equ STATUS_MXR, 0x80000
.equ STATUS_TVM, 0x100000
.equ STATUS_TW, 0x200000
.equ STATUS_TSR, 0x400000

# Compares two registers; neither may be t5.
.macro check_equal register, expected
    addi gp, gp, 1
    beq \register, \expected, .Lequal\@
    mv t5, \expected
    mv t6, \register
    jal ra, failed
.Lequal\@:
.endm

# Compares a register, not t5 or t6, to a constant.
.macro check register, expected
    li t6, \expected
    check_equal \register, t6
.endm

# Runs the code up to the next `trapped…` or `passed` in a mode, at its own address plus s8.
.macro try mode
    la s6, 9f
    li s2, -1
    li s3, -1
    li s4, -1
    li s7, 0
    li t6, STATUS_MPP
    csrc mstatus, t6
    li t6, \mode
    slli t6, t6, 11
    csrs mstatus, t6
    la t6, 8f
    add t6, t6, s8
    csrw mepc, t6
    mret
8:
.endm

# Moves to the next line what `trapped` takes for the instruction that traps.
.macro at
8:
.endm

# The instruction behind `try` (or `at`) has trapped into M-mode, with this cause and with tval as in a register.
.macro trapped cause, value
    trapped_with_any_value \cause
    check_equal s3, \value
.endm

.macro trapped_with_any_value cause
    ecall
9:
    la s6, unexpected
    check s2, \cause
    la t6, 8b
    add t6, t6, s8
    check_equal s4, t6
    check s7, 0
.endm

# The same, of an illegal instruction of 32 bits: tval holds it (or zero, which the specification allows).
.macro illegal
    trapped_with_any_value ILLEGAL_INSTRUCTION
    beqz s3, .Lzero\@
    la t6, 8b
    lwu t6, 0(t6)
    check_equal s3, t6
.Lzero\@:
.endm

# The same, of a trap that went to S-mode.
.macro trapped_to_supervisor cause, value
    ecall
9:
    la s6, unexpected
    check s2, \cause
    check_equal s3, \value
    la t6, 8b
    add t6, t6, s8
    check_equal s4, t6
    check s7, 1
.endm

# The code behind `try` has come to its end without a trap.
.macro passed
7:
    ecall
9:
    la s6, unexpected
    addi t6, s2, -ECALL_FROM_USER
    sltiu t5, t6, 4
    li t6, 1
    mv s7, t5
    check_equal s7, t6
    la t6, 7b
    add t6, t6, s8
    check_equal s4, t6
.endm

# Loads, or stores, as a lower mode would; then `allowed` or `refused CAUSE`.
.macro as_mode mode, instruction_is_store
    la s6, 9f
    li s2, -1
    li s3, -1
    li s7, 0
    li t6, STATUS_MPP
    csrc mstatus, t6
    li t6, (\mode << 11) | STATUS_MPRV
    csrs mstatus, t6
    .if \instruction_is_store
    sd a0, 0(a1)
    .else
    ld a0, 0(a1)
    .endif
9:
    la s6, unexpected
    li t6, STATUS_MPRV
    csrc mstatus, t6
.endm
.macro allowed
    check s2, -1
.endm
.macro refused cause
    check s2, \cause
    check_equal s3, a1
.endm

# Runs the program's end: everything is as it should be.
.macro finish
    j succeeded
.endm

    .option norelax
start:
    csrr t0, mhartid
    bnez t0, park
    li gp, 0
    li s7, 0
    li s8, 0
    la s6, unexpected
    la t0, machine_trap
    csrw mtvec, t0
    la t0, supervisor_trap
    csrw stvec, t0
    # S- and U-mode may use all of memory.
    li t0, -1
    csrw pmpaddr0, t0
    li t0, 0x1f
    csrw pmpcfg0, t0
    csrw mie, zero
    csrw medeleg, zero
    csrw mideleg, zero
    csrw satp, zero
    csrw menvcfg, zero
    # What state enables close is open.
    li t0, -1
    csrw mstateen0, t0
    # No timer interrupt until a program asks for one.
    li t0, MTIMECMP
    li t1, -1
    sd t1, 0(t0)
    la sp, stack
    j main

park:
    wfi
    j park

    .balign 4
machine_trap:
    bnez s7, 1f
    csrr s2, mcause
    csrr s3, mtval
    csrr s4, mepc
    csrr s5, mstatus
1:
    jr s6

    .balign 4
supervisor_trap:
    csrr s2, scause
    csrr s3, stval
    csrr s4, sepc
    csrr s5, sstatus
    li s7, 1
    ecall

succeeded:
    # A program without checks has not passed.
    beqz gp, 1f
    li t0, 0x5555
    j end
1:
    li t0, 0xff3333
end:
    li t1, 0x100000
    sw t0, 0(t1)
    j park

# A trap that no `try` asked for.
unexpected:
    la t0, machine_trap
    csrw mtvec, t0
    li t0, STATUS_MPRV
    csrc mstatus, t0
    la a0, text_unexpected
    jal t0, print
    mv a0, s2
    jal t0, print_number
    la a0, text_value
    jal t0, print
    mv a0, s3
    jal t0, print_number
    la a0, text_at
    jal t0, print
    mv a0, s4
    jal t0, print_number
    la a0, text_after
    jal t0, print
    j report

# A check that failed: t6 is the value, t5 the one expected, ra points behind the check.
failed:
    li t0, STATUS_MPRV
    csrc mstatus, t0
    la a0, text_value
    jal t0, print
    mv a0, t6
    jal t0, print_number
    la a0, text_expected
    jal t0, print
    mv a0, t5
    jal t0, print_number
    la a0, text_at
    jal t0, print
    addi a0, ra, -4
    jal t0, print_number
    la a0, text_check
    jal t0, print
report:
    mv a0, gp
    jal t0, print_number
    la a0, text_row
    jal t0, print
    mv a0, s0
    jal t0, print_number
    la a0, text_newline
    jal t0, print
    li t0, 255
    mv t1, gp
    bnez t1, 1f
    li t1, 1
1:
    bltu t1, t0, 2f
    mv t1, t0
2:
    slli t1, t1, 16
    li t0, 0x3333
    or t0, t0, t1
    j end

# Prints the text at a0, returning to t0.
print:
    li t1, 0x10000000
1:
    lbu t2, 0(a0)
    beqz t2, 2f
    sb t2, 0(t1)
    addi a0, a0, 1
    j 1b
2:
    jr t0

# Prints a0 in hexadecimal, returning to t0.
print_number:
    li t1, 0x10000000
    li t2, 64
1:
    addi t2, t2, -4
    srl t3, a0, t2
    andi t3, t3, 15
    li t4, 10
    blt t3, t4, 2f
    addi t3, t3, 39
2:
    addi t3, t3, 48
    sb t3, 0(t1)
    bnez t2, 1b
    jr t0

text_unexpected:
    .asciz "trap that nobody expects, cause 0x"
text_value:
    .asciz " value 0x"
text_expected:
    .asciz " expected 0x"
text_at:
    .asciz " at 0x"
text_check:
    .asciz " check 0x"
text_after:
    .asciz " after check 0x"
text_row:
    .asciz " row 0x"
text_newline:
    .asciz "\n"

    .balign 16
    .zero 2048
stack:

