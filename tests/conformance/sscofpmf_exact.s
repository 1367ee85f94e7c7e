# Counter overflow and filters by mode, to the instruction. (QEMU counts by host time.)

.equ LCOFI, 0x2000
.equ INSTRUCTIONS, 2
.equ MINH, 1 << 62
.equ SINH, 1 << 61
.equ UINH, 1 << 60

# Runs the code behind it until the overflow interrupt, or `quiet`, in M-mode.
.macro overflow_after count
    la s6, 9f
    li s2, -1
    li s7, 0
    li t0, LCOFI
    csrs mie, t0
    csrsi mstatus, 8
    li t0, -\count
    csrw mhpmcounter3, t0
8:
.endm
.macro interrupted_at where
9:
    la s6, unexpected
    csrci mstatus, 8
    li t0, 13
    li t1, 1
    slli t1, t1, 63
    or t0, t0, t1
    check_equal s2, t0
    la t0, \where
    check_equal s4, t0
.endm

    .option norvc
main:
    li t0, INSTRUCTIONS
    csrw mhpmevent3, t0
    # The interrupt comes with the instruction that overflows.
    overflow_after 10
    .rept 10
    nop
    .endr
7:
    .rept 10
    nop
    .endr
    j missed
    interrupted_at 7b
    csrr a0, mhpmevent3
    srli a0, a0, 63
    check a0, 1
    # M-mode sees it whatever mcounteren says. (In QEMU it does not.)
    csrw mcounteren, zero
    csrr a0, scountovf
    check a0, 8
    csrr a0, mip
    li a1, LCOFI
    and a0, a0, a1
    check_equal a0, a1
    # It goes on counting from zero: what ran since.
    csrr a0, mhpmcounter3
    sltiu a0, a0, 100
    check a0, 1
    # While OF is set there is no other.
    csrc mip, a1
    csrs mie, a1
    csrsi mstatus, 8
    li t0, -3
    csrw mhpmcounter3, t0
    nop
    nop
    nop
    nop
    nop
    csrci mstatus, 8
    csrr a0, mip
    and a0, a0, a1
    check a0, 0
    # Cleared, it comes again; in a loop of many blocks.
    li t0, INSTRUCTIONS
    csrw mhpmevent3, t0
    li s9, 0
    li s10, 1000
    overflow_after 1501
7:
    addi s9, s9, 1
6:
    addi s10, s10, -1
    bnez s10, 7b
    j missed
    interrupted_at 6b
    check s9, 501
    check s10, 500
    li a1, LCOFI
    csrc mip, a1
    # Inhibited it does not overflow; nor does what counts nothing.
    li t0, INSTRUCTIONS
    csrw mhpmevent3, t0
    li t0, 8
    csrw mcountinhibit, t0
    li t0, -2
    csrw mhpmcounter3, t0
    nop
    nop
    nop
    csrr a0, mhpmcounter3
    check a0, -2
    csrr a0, scountovf
    check a0, 0
    csrw mhpmevent3, zero
    csrw mcountinhibit, zero
    csrr a0, mhpmcounter3
    check a0, -2

    # Filters. Without M-mode nothing here counts; the instructions of U-mode do, their ecall does not retire.
    li t0, INSTRUCTIONS | MINH
    csrw mhpmevent3, t0
    csrw mhpmcounter3, zero
    nop
    nop
    csrr a0, mhpmcounter3
    check a0, 0
    try USER
    nop
    nop
    nop
    ecall
9:
    la s6, unexpected
    csrr a0, mhpmcounter3
    check a0, 3
    # Nor of S-mode, if that is filtered too: only its return to U-mode's three instructions counts nothing.
    li t0, INSTRUCTIONS | MINH | SINH
    csrw mhpmevent3, t0
    csrw mhpmcounter3, zero
    la t0, user_part
    csrw sepc, t0
    li t0, STATUS_SPP
    csrc mstatus, t0
    try SUPERVISOR
    nop
    nop
    sret
user_part:
    nop
    nop
    ecall
9:
    la s6, unexpected
    check s2, ECALL_FROM_USER
    csrr a0, mhpmcounter3
    check a0, 2
    # S-mode's alone: the sret is its own.
    li t0, INSTRUCTIONS | MINH | UINH
    csrw mhpmevent3, t0
    csrw mhpmcounter3, zero
    la t0, other_user_part
    csrw sepc, t0
    try SUPERVISOR
    nop
    nop
    sret
other_user_part:
    nop
    nop
    ecall
9:
    la s6, unexpected
    csrr a0, mhpmcounter3
    check a0, 3
    # M-mode's alone: what minstret has more are the four of U-mode.
    li t0, INSTRUCTIONS | SINH | UINH
    csrw mhpmevent3, t0
    csrr a2, minstret
    csrr a3, mhpmcounter3
    try USER
    nop
    nop
    nop
    nop
    ecall
9:
    la s6, unexpected
    csrr a4, minstret
    csrr a5, mhpmcounter3
    sub a4, a4, a2
    sub a5, a5, a3
    sub a4, a4, a5
    check a4, 4
    # A filtered counter overflows in its mode, and the interrupt goes to S-mode if it is delegated.
    li a1, LCOFI
    csrc mip, a1
    csrs mideleg, a1
    csrs mie, a1
    li t0, INSTRUCTIONS | MINH
    csrw mhpmevent3, t0
    li t0, -300
    csrw mhpmcounter3, t0
    li s9, 1000
    try USER
7:
    addi s9, s9, -1
    addi s10, s10, 1
    bnez s9, 7b
    ecall
9:
    la s6, unexpected
    check s7, 1
    li t0, 13
    li t1, 1
    slli t1, t1, 63
    or t0, t0, t1
    check_equal s2, t0
    la t0, 7b
    check_equal s4, t0
    check s9, 900
    csrw mie, zero
    csrc mip, a1
    # Other events overflow too, a little later.
    li t0, 6
    csrw mhpmevent4, t0
    li t0, -2
    csrw mhpmcounter4, t0
    try USER
    ecall
9:
    la s6, unexpected
    csrr a0, scountovf
    srli a0, a0, 4
    check a0, 0
    try USER
    ecall
9:
    la s6, unexpected
    li s9, 30000
1:
    addi s9, s9, -1
    bnez s9, 1b
    csrr a0, scountovf
    srli a0, a0, 4
    check a0, 1
    csrr a0, mip
    and a0, a0, a1
    check_equal a0, a1
    finish

missed:
    csrci mstatus, 8
    la s6, unexpected
    check zero, 1
