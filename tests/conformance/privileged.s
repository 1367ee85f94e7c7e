# What each mode may do: TVM, TW, TSR, U-mode's limits, modes that MPRV gives, CBO enables, counters.

main:
    # In U-mode none of S-mode's instructions, in S-mode none of M-mode's.
    try USER
    sfence.vma
    trapped_with_any_value ILLEGAL_INSTRUCTION
    try USER
    sret
    trapped_with_any_value ILLEGAL_INSTRUCTION
    try USER
    csrr a0, sscratch
    trapped_with_any_value ILLEGAL_INSTRUCTION
    try USER
    csrw satp, a0
    trapped_with_any_value ILLEGAL_INSTRUCTION
    try SUPERVISOR
    csrr a0, mstatus
    trapped_with_any_value ILLEGAL_INSTRUCTION
    try SUPERVISOR
    csrw pmpaddr0, a0
    trapped_with_any_value ILLEGAL_INSTRUCTION
    try SUPERVISOR
    sfence.vma
    sfence.vma a0, zero
    sfence.vma zero, a0
    sfence.vma a0, a1
    csrr a0, sscratch
    csrr a0, satp
    csrw satp, zero
    passed
    try MACHINE
    sfence.vma
    csrr a0, sscratch
    passed

    # TVM: satp and sfence.vma (and sinval.vma) trap in S-mode, nothing else does; M-mode is free.
    li t0, STATUS_TVM
    csrs mstatus, t0
    try SUPERVISOR
    csrr a0, satp
    trapped_with_any_value ILLEGAL_INSTRUCTION
    try SUPERVISOR
    csrw satp, zero
    trapped_with_any_value ILLEGAL_INSTRUCTION
    try SUPERVISOR
    sfence.vma
    trapped_with_any_value ILLEGAL_INSTRUCTION
    try SUPERVISOR
    sfence.vma a0, a0
    trapped_with_any_value ILLEGAL_INSTRUCTION
    try SUPERVISOR
    sinval.vma a0, a0
    trapped_with_any_value ILLEGAL_INSTRUCTION
    try SUPERVISOR
    sfence.w.inval
    sfence.inval.ir
    csrr a0, sscratch
    passed
    try MACHINE
    csrr a0, satp
    csrw satp, zero
    sfence.vma
    passed
    li t0, STATUS_TVM
    csrc mstatus, t0
    try SUPERVISOR
    sfence.w.inval
    sinval.vma zero, zero
    sfence.inval.ir
    passed
    try USER
    sinval.vma zero, zero
    trapped_with_any_value ILLEGAL_INSTRUCTION

    # TW: wfi traps in S-mode. An interrupt is pending all the time, so that wfi ends.
    csrwi mip, 2
    csrwi mie, 2
    try SUPERVISOR
    wfi
    ecall
9:
    # SSI is not delegated, so that it is taken as soon as S-mode is entered: an interrupt, and wfi untouched.
    la s6, unexpected
    li t0, 0x8000000000000001
    check_equal s2, t0
    li t0, 2
    csrw mideleg, t0
    try SUPERVISOR
    wfi
    passed
    try MACHINE
    wfi
    passed
    li t0, STATUS_TW
    csrs mstatus, t0
    try SUPERVISOR
    wfi
    trapped_with_any_value ILLEGAL_INSTRUCTION
    try MACHINE
    wfi
    passed
    li t0, STATUS_TW
    csrc mstatus, t0
    csrwi mip, 0
    csrwi mie, 0
    csrwi mideleg, 0

    # TSR: sret traps in S-mode, not in M-mode.
    li t0, STATUS_TSR
    csrs mstatus, t0
    la t0, 1f
    csrw sepc, t0
    try SUPERVISOR
    sret
    trapped_with_any_value ILLEGAL_INSTRUCTION
    j 2f
1:
    ecall
2:
    li t0, STATUS_SPP
    csrc mstatus, t0
    la t0, 8f
    csrw sepc, t0
    la s6, 9f
    li s7, 0
    sret
8:
    ecall
9:
    la s6, unexpected
    check s2, ECALL_FROM_USER
    la t0, 8b
    check_equal s4, t0
    li t0, STATUS_TSR
    csrc mstatus, t0
    li t0, STATUS_SPP
    csrs mstatus, t0
    la t0, 8f
    csrw sepc, t0
    la s6, 9f
    sret
8:
    ecall
9:
    la s6, unexpected
    check s2, ECALL_FROM_SUPERVISOR

    # Counters: mcounteren opens them to S, both enables to U.
.macro counter csr, bit
    csrwi mcounteren, 0
    csrwi scounteren, \bit
    try MACHINE
    csrr a0, \csr
    passed
    try SUPERVISOR
    csrr a0, \csr
    trapped_with_any_value ILLEGAL_INSTRUCTION
    try USER
    csrr a0, \csr
    trapped_with_any_value ILLEGAL_INSTRUCTION
    csrwi mcounteren, \bit
    csrwi scounteren, 7 - \bit
    try SUPERVISOR
    csrr a0, \csr
    passed
    try USER
    csrr a0, \csr
    trapped_with_any_value ILLEGAL_INSTRUCTION
    csrwi scounteren, \bit
    try USER
    csrr a0, \csr
    passed
    csrwi mcounteren, 7 - \bit
    try SUPERVISOR
    csrr a0, \csr
    trapped_with_any_value ILLEGAL_INSTRUCTION
.endm
    counter cycle, 1
    counter time, 2
    counter instret, 4
    try MACHINE
    csrw cycle, zero
    trapped_with_any_value ILLEGAL_INSTRUCTION

    # stimecmp: S-mode needs menvcfg.STCE and mcounteren.TM.
    csrwi mcounteren, 0
    li s9, 1
    slli s9, s9, 63
    csrc menvcfg, s9
    try SUPERVISOR
    csrr a0, stimecmp
    trapped_with_any_value ILLEGAL_INSTRUCTION
    csrs menvcfg, s9
    try SUPERVISOR
    csrr a0, stimecmp
    trapped_with_any_value ILLEGAL_INSTRUCTION
    csrwi mcounteren, 2
    try SUPERVISOR
    csrr a0, stimecmp
    passed
    try USER
    csrr a0, stimecmp
    trapped_with_any_value ILLEGAL_INSTRUCTION
    csrc menvcfg, s9
    try SUPERVISOR
    csrr a0, stimecmp
    trapped_with_any_value ILLEGAL_INSTRUCTION
    csrwi mcounteren, 0

    # Floating point with the unit off, and what makes it dirty.
    li t0, STATUS_FS
    csrc mstatus, t0
    try MACHINE
    fadd.s f0, f0, f0
    trapped_with_any_value ILLEGAL_INSTRUCTION
    try MACHINE
    flw f0, 0(sp)
    trapped_with_any_value ILLEGAL_INSTRUCTION
    try MACHINE
    fsd f0, -8(sp)
    trapped_with_any_value ILLEGAL_INSTRUCTION
    try MACHINE
    fmv.x.d a0, f0
    trapped_with_any_value ILLEGAL_INSTRUCTION
    try MACHINE
    csrr a0, fcsr
    trapped_with_any_value ILLEGAL_INSTRUCTION
    try MACHINE
    csrwi fflags, 0
    trapped_with_any_value ILLEGAL_INSTRUCTION
    try USER
    fclass.s a0, f0
    trapped_with_any_value ILLEGAL_INSTRUCTION
.macro dirties
    csrr a0, mstatus
    li a1, STATUS_FS
    and a0, a0, a1
    check_equal a0, a1
    srli a2, a1, 1
    and a2, a2, a1
    csrc mstatus, a1
    csrs mstatus, a2
.endm
    # State 2 is clean.
    li t0, 0x4000
    csrs mstatus, t0
    fsd f0, -8(sp)
    csrr a0, mstatus
    li a1, STATUS_FS
    and a0, a0, a1
    check a0, 0x4000
    fld f0, -8(sp)
    csrr a0, mstatus
    li a1, STATUS_FS
    and a0, a0, a1
    check a0, STATUS_FS
    li a1, 0x2000
    csrc mstatus, a1
    fmv.d.x f1, zero
    csrr a0, mstatus
    li a1, STATUS_FS
    and a0, a0, a1
    check a0, STATUS_FS
    li a1, 0x2000
    csrc mstatus, a1
    csrwi frm, 0
    csrr a0, mstatus
    li a1, STATUS_FS
    and a0, a0, a1
    check a0, STATUS_FS
    li a1, 0x2000
    csrc mstatus, a1
    li a0, 1
    fcvt.d.l f2, a0
    fadd.d f3, f2, f2
    csrr a0, mstatus
    li a1, STATUS_FS
    and a0, a0, a1
    check a0, STATUS_FS
    # Reserved rounding modes, static and dynamic.
    try MACHINE
    .word 0x02208053 + (5 << 12)
    trapped_with_any_value ILLEGAL_INSTRUCTION
    try MACHINE
    .word 0x02208053 + (6 << 12)
    trapped_with_any_value ILLEGAL_INSTRUCTION
    csrwi frm, 5
    try MACHINE
    fadd.d f0, f1, f2, dyn
    trapped_with_any_value ILLEGAL_INSTRUCTION
    try MACHINE
    fadd.d f0, f1, f2, rtz
    passed
    csrwi frm, 7
    try MACHINE
    fsqrt.s f0, f1, dyn
    trapped_with_any_value ILLEGAL_INSTRUCTION
    csrwi frm, 4
    try MACHINE
    fsqrt.s f0, f1, dyn
    passed
    csrwi frm, 0
    li t0, STATUS_FS
    csrc mstatus, t0

    # Cache-block instructions: what menvcfg and senvcfg allow.
    la a1, block
    csrw menvcfg, zero
    csrw senvcfg, zero
    try MACHINE
    cbo.clean (a1)
    cbo.flush (a1)
    cbo.inval (a1)
    cbo.zero (a1)
    passed
    try SUPERVISOR
    cbo.clean (a1)
    trapped_with_any_value ILLEGAL_INSTRUCTION
    try SUPERVISOR
    cbo.flush (a1)
    trapped_with_any_value ILLEGAL_INSTRUCTION
    try SUPERVISOR
    cbo.inval (a1)
    trapped_with_any_value ILLEGAL_INSTRUCTION
    try SUPERVISOR
    cbo.zero (a1)
    trapped_with_any_value ILLEGAL_INSTRUCTION
    li a0, 0x40
    csrw menvcfg, a0
    try SUPERVISOR
    cbo.clean (a1)
    cbo.flush (a1)
    passed
    try SUPERVISOR
    cbo.zero (a1)
    trapped_with_any_value ILLEGAL_INSTRUCTION
    try USER
    cbo.clean (a1)
    trapped_with_any_value ILLEGAL_INSTRUCTION
    csrw senvcfg, a0
    try USER
    cbo.clean (a1)
    cbo.flush (a1)
    passed
    csrw menvcfg, zero
    try USER
    cbo.flush (a1)
    trapped_with_any_value ILLEGAL_INSTRUCTION
    li a0, 0x80
    csrw menvcfg, a0
    csrw senvcfg, zero
    try SUPERVISOR
    cbo.zero (a1)
    passed
    try USER
    cbo.zero (a1)
    trapped_with_any_value ILLEGAL_INSTRUCTION
    csrw senvcfg, a0
    try USER
    cbo.zero (a1)
    passed
    li a0, 0x10
    csrw menvcfg, a0
    try SUPERVISOR
    cbo.inval (a1)
    passed
    try USER
    cbo.inval (a1)
    trapped_with_any_value ILLEGAL_INSTRUCTION
    csrw senvcfg, a0
    try USER
    cbo.inval (a1)
    passed
    li a0, 0x30
    csrw menvcfg, a0
    csrw senvcfg, a0
    try USER
    cbo.inval (a1)
    passed
    csrw menvcfg, zero
    csrw senvcfg, zero
    # cbo.zero clears the 64 bytes around the address and no more; flush and clean keep them.
    la a1, block
    li a2, 192
1:
    add a3, a1, a2
    sb a2, -64(a3)
    addi a2, a2, -1
    bnez a2, 1b
    addi a4, a1, 37
    cbo.zero (a4)
    ld a0, -8(a1)
    check a0, 0x3f3e3d3c3b3a3938
    li a2, 8
    mv a3, a1
1:
    ld a0, 0(a3)
    check a0, 0
    addi a3, a3, 8
    addi a2, a2, -1
    bnez a2, 1b
    ld a0, 64(a1)
    check a0, 0x8786858483828180
    cbo.flush (a4)
    cbo.clean (a1)
    ld a0, 64(a1)
    check a0, 0x8786858483828180
    # Prefetches are hints, wherever they point.
    li a1, NOTHING
    prefetch.r 0(a1)
    prefetch.w 32(a1)
    prefetch.i -64(a1)
    # A cache block where nothing is: a store fault at the address.
    try MACHINE
    cbo.zero (a1)
    trapped STORE_ACCESS_FAULT, a1

    # Conditions that are never met: reserved encodings of the system instructions.
    try MACHINE
    .word 0x00200073
    illegal
    try MACHINE
    .word 0x00100f73
    illegal
    try MACHINE
    .word 0x30200173
    illegal
    try MACHINE
    .word 0x10500173
    illegal
    finish

    .balign 64
    .zero 64
block:
    .zero 128
