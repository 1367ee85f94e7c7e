# Interrupts: sources, masks, priority, delegation, vectors, wfi.

.equ INTERRUPT, 0x8000000000000000

# The next instruction is where an interrupt with this number is taken, into M-mode.
.macro interrupts number
    la s6, 9f
    li s7, 0
    li s2, -1
    li s3, -1
    csrsi mstatus, STATUS_MIE
8:
    nop
    j 7f
9:
7:
    la s6, unexpected
    csrci mstatus, STATUS_MIE
    li t6, INTERRUPT + \number
    check_equal s2, t6
    check s3, 0
.endm

# No interrupt is taken with M-mode's enable set.
.macro quiet
    la s6, 9f
    li s7, 0
    li s2, -1
    csrsi mstatus, STATUS_MIE
    nop
    nop
9:
    la s6, unexpected
    csrci mstatus, STATUS_MIE
    check s2, -1
.endm

# An interrupt is taken on entry to a mode, into M- or S-mode.
.macro interrupts_in mode, number, to_supervisor
    try \mode
    nop
    ecall
9:
    la s6, unexpected
    li t6, INTERRUPT + \number
    check_equal s2, t6
    check s3, 0
    check s7, \to_supervisor
    la t6, 8b
    check_equal s4, t6
.endm

main:
    csrw mip, zero
    csrw mie, zero
    li s9, 0xaaa
    # Software interrupts of M-mode, by the CLINT.
    li s1, MSIP
    li a0, 1
    sw a0, 0(s1)
    csrr a0, mip
    andi a0, a0, 8
    check a0, 8
    quiet
    csrwi mie, 8
    interrupts 3
    # The trap has cleared MIE, so nothing else was taken, and mepc is where it happened.
    csrw mie, zero
    quiet
    csrwi mie, 8
    # Bit 0 alone counts.
    li a0, 2
    sw a0, 0(s1)
    lw a0, 0(s1)
    check a0, 0
    quiet
    csrr a0, mip
    andi a0, a0, 8
    check a0, 0
    csrw mie, zero

    # The timer: mtime >= mtimecmp.
    li s1, MTIMECMP
    li s10, MTIME
    ld a0, 0(s10)
    ld a1, 0(s10)
    sltu a2, a1, a0
    check a2, 0
    li a0, 0x80
    csrw mie, a0
    quiet
    sd zero, 0(s1)
    csrr a0, mip
    andi a0, a0, 0x80
    check a0, 0x80
    interrupts 7
    ld a0, 0(s1)
    check a0, 0
    li a0, -1
    sd a0, 0(s1)
    csrr a0, mip
    andi a0, a0, 0x80
    check a0, 0
    quiet
    # In a while: wfi waits for it, and time has then come.
    ld a0, 0(s10)
    li a1, 20000
    add s11, a0, a1
    sd s11, 0(s1)
1:
    wfi
    csrr a0, mip
    andi a0, a0, 0x80
    beqz a0, 1b
    ld a0, 0(s10)
    sltu a1, a0, s11
    check a1, 0
    csrr a0, time
    sltu a1, a0, s11
    check a1, 0
    li a0, -1
    sd a0, 0(s1)
    li s7, 0
    # Taken while a loop without memory accesses runs.
    ld a0, 0(s10)
    li a1, 5000
    add a0, a0, a1
    sd a0, 0(s1)
    la s6, 1f
    li s2, -1
    csrsi mstatus, STATUS_MIE
2:
    j 2b
1:
    la s6, unexpected
    li t6, INTERRUPT + 7
    check_equal s2, t6
    la t6, 2b
    check_equal s4, t6
    li a0, -1
    sd a0, 0(s1)
    csrw mie, zero

    # S-mode's, pending by software, not delegated: taken in M-mode if enabled there, always below M-mode.
    li a0, 0x222
    csrw mie, a0
    csrw mip, a0
    interrupts 9
    li a0, 0x200
    csrc mip, a0
    interrupts 1
    csrci mip, 2
    interrupts 5
    interrupts_in SUPERVISOR, 5, 0
    interrupts_in USER, 5, 0
    csrw mip, zero
    # Enabled in mie alone counts.
    li a0, 0x20
    csrw mip, a0
    li a0, 0x202
    csrw mie, a0
    quiet
    try USER
    nop
    passed

    # Priorities: MEI MSI MTI SEI SSI STI.
    li a0, 0xaaa
    csrw mie, a0
    li a0, 0x222
    csrw mip, a0
    li a0, 1
    li a1, MSIP
    sw a0, 0(a1)
    sd zero, 0(s1)
    interrupts 3
    sw zero, 0(a1)
    interrupts 7
    li a0, -1
    sd a0, 0(s1)
    interrupts 9
    csrw mip, zero
    quiet

    # Delegated: taken in S-mode, when S-mode's enable is set or the mode is U, never in M-mode.
    li a0, 0x222
    csrw mideleg, a0
    csrw mie, a0
    csrw mip, a0
    quiet
    csrci mstatus, STATUS_SIE
    try SUPERVISOR
    nop
    passed
    interrupts_in USER, 9, 1
    li t0, STATUS_SPP
    and a0, s5, t0
    check a0, 0
    # S-mode with SIE set.
    csrsi mstatus, STATUS_SIE
    interrupts_in SUPERVISOR, 9, 1
    # The trap moved SIE to SPIE and cleared it.
    li t0, STATUS_SIE | STATUS_SPIE | STATUS_SPP
    and a0, s5, t0
    li t0, STATUS_SPIE | STATUS_SPP
    check_equal a0, t0
    csrsi mstatus, STATUS_SIE
    li a0, 0x200
    csrc mip, a0
    interrupts_in SUPERVISOR, 1, 1
    csrsi mstatus, STATUS_SIE
    csrci mip, 2
    interrupts_in SUPERVISOR, 5, 1
    csrci mstatus, STATUS_SIE
    # An M-mode interrupt comes before a delegated one of higher priority.
    li a0, 0x222
    csrw mip, a0
    li a0, 0x202
    csrw mideleg, a0
    csrsi mstatus, STATUS_SIE
    interrupts_in SUPERVISOR, 5, 0
    csrci mstatus, STATUS_SIE
    csrw mip, zero
    csrw mideleg, zero

    # The SSI register of the board sets SSIP once; software clears it.
    li a0, 0x222
    csrw mie, zero
    # Vectored: the handler of number n is 4n behind the base, of M- and of S-mode.
    la t0, vectors
    ori t0, t0, 1
    csrw mtvec, t0
    li a0, 0xaaa
    csrw mie, a0
    csrwi mip, 2
    li a7, 0
    interrupts 1
    check a7, 1
    li a0, 0x200
    csrw mip, a0
    li a7, 0
    interrupts 9
    check a7, 9
    csrw mip, zero
    sd zero, 0(s1)
    li a7, 0
    interrupts 7
    check a7, 7
    li a0, -1
    sd a0, 0(s1)
    # An exception with the same number goes to the base.
    li a7, 99
    try MACHINE
    .word 0
    trapped ILLEGAL_INSTRUCTION, zero
    check a7, 0
    la t0, machine_trap
    csrw mtvec, t0
    la t0, vectors
    ori t0, t0, 1
    csrw stvec, t0
    li a0, 0x222
    csrw mideleg, a0
    li a0, 0x20
    csrw mip, a0
    la s6, 9f
    li s7, 1
    li a7, 0
    csrsi mstatus, STATUS_SIE
    li t6, STATUS_MPP
    csrc mstatus, t6
    li t6, 0x800
    csrs mstatus, t6
    la t6, 8f
    csrw mepc, t6
    mret
8:
    nop
    ecall
9:
    la s6, unexpected
    check a7, 5
    csrr a0, scause
    li t6, INTERRUPT + 5
    check_equal a0, t6
    csrw mip, zero
    csrw mideleg, zero
    csrci mstatus, STATUS_SIE

    la t0, supervisor_trap
    csrw stvec, t0

    # The timer of S-mode (Sstc): time >= stimecmp sets STIP, software cannot.
    li a0, -1
    csrw stimecmp, a0
    li a1, 1
    slli a1, a1, 63
    csrs menvcfg, a1
    csrr a0, mip
    andi a0, a0, 0x20
    check a0, 0
    li a0, 0x20
    csrs mip, a0
    csrr a0, mip
    andi a0, a0, 0x20
    check a0, 0
    csrw stimecmp, zero
    csrr a0, mip
    andi a0, a0, 0x20
    check a0, 0x20
    li a0, 0x20
    csrc mip, a0
    csrr a0, mip
    andi a0, a0, 0x20
    check a0, 0x20
    csrw mie, a0
    interrupts 5
    csrw mideleg, a0
    li a0, 0x20
    csrw mideleg, a0
    interrupts_in USER, 5, 1
    li a0, -1
    csrw stimecmp, a0
    csrr a0, mip
    andi a0, a0, 0x20
    check a0, 0
    # In a while, in U-mode.
    csrr a0, time
    li a1, 5000
    add s11, a0, a1
    csrw stimecmp, s11
    try USER
1:
    j 1b
9:
    la s6, unexpected
    li t6, INTERRUPT + 5
    check_equal s2, t6
    check s7, 1
    csrr a0, time
    sltu a1, a0, s11
    check a1, 0
    li a0, -1
    csrw stimecmp, a0
    csrw mideleg, zero
    # wfi ends with an interrupt that is enabled in mie, whatever the global enables and the delegation say.
    csrr a0, time
    li a1, 5000
    add s11, a0, a1
    csrw stimecmp, s11
    wfi
    csrr a0, time
    sltu a1, a0, s11
    csrr a2, mip
    andi a2, a2, 0x20
    check a2, 0x20
    check a1, 0
    li a0, -1
    csrw stimecmp, a0
    csrw mie, zero

    li s7, 0
    # A return that opens the gate: an interrupt pending is taken before the next instruction.
    csrwi mip, 2
    csrwi mie, 2
    li t0, STATUS_MPP | STATUS_MPIE
    csrs mstatus, t0
    la s6, 9f
    li s2, -1
    la t0, 8f
    csrw mepc, t0
    mret
8:
    li s2, 0
    j 7f
9:
    la t6, 8b
    check_equal s4, t6
7:
    la s6, unexpected
    li t6, INTERRUPT + 1
    check_equal s2, t6
    csrci mstatus, STATUS_MIE
    # A write to mie, mip, or mstatus that opens it is seen by the instruction behind.
    csrwi mie, 0
    csrsi mstatus, STATUS_MIE
    la s6, 9f
    li s2, -1
    csrwi mie, 2
8:
    nop
    nop
9:
    la s6, unexpected
    csrci mstatus, STATUS_MIE
    li t6, INTERRUPT + 1
    check_equal s2, t6
    la t6, 8b
    check_equal s4, t6
    csrwi mip, 0
    csrsi mstatus, STATUS_MIE
    la s6, 9f
    li s2, -1
    csrwi mip, 2
8:
    nop
    nop
9:
    la s6, unexpected
    csrci mstatus, STATUS_MIE
    li t6, INTERRUPT + 1
    check_equal s2, t6
    la t6, 8b
    check_equal s4, t6
    csrwi mip, 0
    csrwi mie, 0

    # External: the UART's transmitter, through the PLIC, to M- and to S-mode.
    li a0, 0x10000000
    li a1, 0xc000000
    li a2, 1
    sw a2, 40(a1)
    li a3, 0xc002000
    li a4, 1 << 10
    sw a4, 0(a3)
    li a3, 0xc200000
    sw zero, 0(a3)
    li a2, 2
    sb a2, 1(a0)
    li t0, 1000000
1:
    csrr a2, mip
    srli a2, a2, 11
    andi a2, a2, 1
    addi t0, t0, -1
    beqz t0, 2f
    beqz a2, 1b
2:
    check a2, 1
    li a2, 0x800
    csrw mie, a2
    interrupts 11
    lw a2, 4(a3)
    check a2, 10
    csrr a2, mip
    srli a2, a2, 11
    andi a2, a2, 1
    check a2, 0
    quiet
    sb zero, 1(a0)
    lbu a2, 2(a0)
    li a2, 10
    sw a2, 4(a3)
    quiet
    # Above the threshold only.
    li a2, 1
    sw a2, 0(a3)
    li a2, 2
    sb a2, 1(a0)
    nop
    quiet
    sb zero, 1(a0)
    lbu a2, 2(a0)
    csrw mie, zero
    finish

    .balign 256
vectors:
    .balign 4
    j vector_0
    .balign 4
    j vector_1
    .balign 4
    j vector_2
    .balign 4
    j vector_3
    .balign 4
    j vector_4
    .balign 4
    j vector_5
    .balign 4
    j vector_6
    .balign 4
    j vector_7
    .balign 4
    j vector_8
    .balign 4
    j vector_9
    .balign 4
    j vector_10
    .balign 4
    j vector_11
vector_0:
    li a7, 0
    j machine_trap
vector_1:
    li a7, 1
    j machine_trap
vector_2:
vector_3:
vector_4:
vector_6:
vector_8:
vector_10:
vector_11:
    li a7, 77
    j machine_trap
vector_5:
    li a7, 5
    bnez s7, 1f
    j machine_trap
1:
    ecall
vector_7:
    li a7, 7
    j machine_trap
vector_9:
    li a7, 9
    j machine_trap
