# Exceptions: cause, tval, epc and the status stack; delegation; vectored handlers; returns.

main:
    # Environment calls by mode; tval is zero.
    try USER
    ecall
    trapped ECALL_FROM_USER, zero
    try SUPERVISOR
    ecall
    trapped ECALL_FROM_SUPERVISOR, zero
    try MACHINE
    ecall
    trapped ECALL_FROM_MACHINE, zero

    # A breakpoint: tval is zero or the address.
    try USER
    ebreak
    trapped_with_any_value BREAKPOINT
    beqz s3, 1f
    check_equal s3, s4
1:
    # Illegal: all zeros, all ones, an M-mode instruction below M-mode, an unknown function code.
    try MACHINE
    .word 0
    trapped ILLEGAL_INSTRUCTION, zero
    try MACHINE
    .word 0xffffffff
    illegal
    try SUPERVISOR
    mret
    trapped_with_any_value ILLEGAL_INSTRUCTION
    try USER
    mret
    trapped_with_any_value ILLEGAL_INSTRUCTION
    try USER
    sret
    trapped_with_any_value ILLEGAL_INSTRUCTION
    try USER
    csrr a0, mscratch
    illegal
    try MACHINE
    .word 0x0000205b
    illegal

    # Nothing at the address.
    li a1, NOTHING
    try MACHINE
    ld a0, 8(a1)
    addi a2, a1, 8
    ecall
9:
    la s6, unexpected
    addi a2, a1, 8
    check s2, LOAD_ACCESS_FAULT
    check_equal s3, a2
    try MACHINE
    sd a0, 8(a1)
    trapped STORE_ACCESS_FAULT, a2
    try MACHINE
    amoadd.d a0, a0, (a1)
    trapped STORE_ACCESS_FAULT, a1
    try MACHINE
    lr.d a0, (a1)
    trapped LOAD_ACCESS_FAULT, a1
    try MACHINE
    sc.d a0, a0, (a1)
    ecall
9:
    la s6, unexpected
    # A store-conditional without a reservation may fail without an access.
    li t6, ECALL_FROM_MACHINE
    beq s2, t6, 1f
    check s2, STORE_ACCESS_FAULT
1:
    # A jump to nothing: epc and tval are the target.
    try MACHINE
    jr a1
    ecall
9:
    la s6, unexpected
    check s2, INSTRUCTION_ACCESS_FAULT
    check_equal s3, a1
    check_equal s4, a1

    # Misaligned atomics; a load-reserved counts as a load.
    la a1, data + 1
    try MACHINE
    amoadd.w a0, a0, (a1)
    ecall
9:
    la s6, unexpected
    check_equal s3, a1
    addi t6, s2, -STORE_MISALIGNED
    sltiu a3, t6, 2
    check a3, 1
    try MACHINE
    lr.w a0, (a1)
    ecall
9:
    la s6, unexpected
    check_equal s3, a1
    addi t6, s2, -LOAD_MISALIGNED
    sltiu a3, t6, 2
    check a3, 1

    # A load that traps leaves its destination alone.
    li a1, NOTHING
    li a0, 0x1234
    try MACHINE
    lw a0, 0(a1)
    trapped LOAD_ACCESS_FAULT, a1
    check a0, 0x1234
    try MACHINE
    lw a1, 0(a1)
    ecall
9:
    la s6, unexpected
    check a1, NOTHING

    # The status stack: MPIE takes MIE, MIE is cleared, MPP is the mode left.
    csrci mstatus, STATUS_MIE
    li t0, STATUS_MPIE
    csrc mstatus, t0
    la s6, 1f
    ecall
1:
    li t0, STATUS_MPP | STATUS_MPIE | STATUS_MIE
    and a0, s5, t0
    check a0, STATUS_MPP
    li t0, STATUS_MPIE
    csrc mstatus, t0
    csrsi mstatus, STATUS_MIE
    la s6, 1f
    ecall
1:
    li t0, STATUS_MPP | STATUS_MPIE | STATUS_MIE
    and a0, s5, t0
    li t0, STATUS_MPP | STATUS_MPIE
    check_equal a0, t0
    la s6, unexpected
    # From lower modes: mret has put MPIE (1) into MIE and set MPIE.
    li t0, STATUS_MPIE
    csrs mstatus, t0
    try USER
    ecall
    trapped ECALL_FROM_USER, zero
    li t0, STATUS_MPP | STATUS_MPIE | STATUS_MIE
    and a0, s5, t0
    check a0, STATUS_MPIE
    csrc mstatus, t0
    try SUPERVISOR
    ecall
    trapped ECALL_FROM_SUPERVISOR, zero
    li t0, STATUS_MPP | STATUS_MPIE | STATUS_MIE
    and a0, s5, t0
    check a0, 0x800

    # Return: MPP becomes U, MPIE becomes 1, MIE takes MPIE.
    li t0, STATUS_MPP
    csrs mstatus, t0
    li t0, STATUS_MPIE | STATUS_MIE
    csrc mstatus, t0
    la t0, 1f
    csrw mepc, t0
    mret
1:
    csrr a0, mstatus
    li t0, STATUS_MPP | STATUS_MPIE | STATUS_MIE
    and a0, a0, t0
    check a0, STATUS_MPIE
    li t0, STATUS_MPP
    csrs mstatus, t0
    la t0, 1f
    csrw mepc, t0
    mret
1:
    csrr a0, mstatus
    li t0, STATUS_MPP | STATUS_MPIE | STATUS_MIE
    and a0, a0, t0
    li t0, STATUS_MPIE | STATUS_MIE
    check_equal a0, t0
    csrci mstatus, STATUS_MIE

    # A return to a mode below M clears MPRV; to M it does not.
    li t0, STATUS_MPRV
    csrs mstatus, t0
    try MACHINE
    nop
    passed
    li t0, STATUS_MPRV
    and a0, s5, t0
    check_equal a0, t0
    try SUPERVISOR
    nop
    passed
    li t0, STATUS_MPRV
    and a0, s5, t0
    check a0, 0

    # sret: SIE takes SPIE, SPIE becomes 1, SPP becomes U; MPRV is cleared.
    li t0, STATUS_SIE | STATUS_SPP | STATUS_SPIE
    csrc mstatus, t0
    li t0, STATUS_SPP | STATUS_MPRV
    csrs mstatus, t0
    la t0, 7f
    csrw sepc, t0
    la s6, 9f
    li s7, 0
    sret
7:
    ecall
9:
    la s6, unexpected
    check s2, ECALL_FROM_SUPERVISOR
    li t0, STATUS_SIE | STATUS_SPP | STATUS_SPIE | STATUS_MPRV
    and a0, s5, t0
    check a0, STATUS_SPIE
    la t0, 7f
    csrw sepc, t0
    la s6, 9f
    sret
7:
    ecall
9:
    la s6, unexpected
    check s2, ECALL_FROM_USER
    li t0, STATUS_SIE | STATUS_SPP | STATUS_SPIE | STATUS_MPRV
    and a0, s5, t0
    li t0, STATUS_SIE | STATUS_SPIE
    check_equal a0, t0
    li t0, STATUS_SIE
    csrc mstatus, t0

    # Delegation: from U and S to S, never from M.
    li t0, 0x100 | 1 << 2 | 1 << 3 | 1 << 5 | 1 << 7 | 1 << 1
    csrw medeleg, t0
    csrr a0, medeleg
    check_equal a0, t0
    csrw mepc, zero
    try USER
    ecall
    trapped_to_supervisor ECALL_FROM_USER, zero
    li t0, STATUS_SPP
    and a0, s5, t0
    check a0, 0
    try SUPERVISOR
    .word 0
    trapped_to_supervisor ILLEGAL_INSTRUCTION, zero
    li t0, STATUS_SPP
    and a0, s5, t0
    check_equal a0, t0
    try MACHINE
    .word 0
    trapped ILLEGAL_INSTRUCTION, zero
    li a1, NOTHING
    try USER
    ld a0, 0(a1)
    trapped_to_supervisor LOAD_ACCESS_FAULT, a1
    try SUPERVISOR
    sd a0, 0(a1)
    trapped_to_supervisor STORE_ACCESS_FAULT, a1
    try MACHINE
    sd a0, 0(a1)
    trapped STORE_ACCESS_FAULT, a1
    try SUPERVISOR
    ecall
    trapped ECALL_FROM_SUPERVISOR, zero
    try USER
    ebreak
    ecall
9:
    la s6, unexpected
    check s2, BREAKPOINT
    check s7, 1
    # SPIE takes SIE, which is cleared; SPP is the mode left.
    li t0, STATUS_SIE | STATUS_SPP
    csrc mstatus, t0
    li t0, STATUS_SPIE
    csrs mstatus, t0
    la t0, 8f
    csrw sepc, t0
    la s6, 9f
    li s7, 0
    sret
8:
    .word 0
    trapped_to_supervisor ILLEGAL_INSTRUCTION, zero
    li t0, STATUS_SIE | STATUS_SPIE | STATUS_SPP
    and a0, s5, t0
    check a0, STATUS_SPIE
    li t0, STATUS_SIE | STATUS_SPIE
    csrc mstatus, t0
    try SUPERVISOR
    .word 0
    trapped_to_supervisor ILLEGAL_INSTRUCTION, zero
    li t0, STATUS_SIE | STATUS_SPIE | STATUS_SPP
    and a0, s5, t0
    check a0, STATUS_SPP
    # A trap into M-mode leaves S-mode's registers.
    li t0, 0x54
    csrw medeleg, zero
    csrw scause, t0
    csrw stval, t0
    csrw sepc, t0
    try USER
    .word 0
    trapped ILLEGAL_INSTRUCTION, zero
    csrr a0, scause
    check_equal a0, t0
    csrr a0, stval
    check_equal a0, t0
    csrr a0, sepc
    check_equal a0, t0

    # Vectored: exceptions go to the base.
    la t0, machine_trap
    ori t0, t0, 1
    csrw mtvec, t0
    csrr a0, mtvec
    check_equal a0, t0
    try USER
    ebreak
    ecall
9:
    la s6, unexpected
    check s2, BREAKPOINT
    la t0, machine_trap
    csrw mtvec, t0

    # With compressed instructions a jump to an odd halfword works, and the lowest bit of a target is dropped.
    la t0, 1f
    ori t0, t0, 1
    li a0, 0
    jr t0
    j 2f
1:
    li a0, 1
2:
    check a0, 1
    finish

    .balign 16
data:
    .dword 0, 0, 0, 0
