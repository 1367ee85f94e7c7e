# Debug triggers (Sdtrig), in full: what registers hold, tval, hit, comparisons, sizes, when nothing fires (Debug
# Specification 1.0, §5.4), icount, etrigger, and code that has run often before.
#
# QEMU 10.0 has two triggers, no etrigger, does not prevent reentrancy, tells neither hit nor version 1.0, and ignores
# a zero in tdata1.

.equ PLACE, 0x80400000

.equ LOAD, 0x1
.equ STORE, 0x2
.equ EXECUTE, 0x4
.equ IN_USER, 0x8
.equ IN_SUPERVISOR, 0x10
.equ IN_MACHINE, 0x40
.equ NAPOT, 0x80
.equ GREATER_OR_EQUAL, 0x100
.equ LESS, 0x180
.equ WORDS, 0x30000

.macro trigger address, configuration
    csrw tdata1, zero
    csrw tdata2, \address
    li t6, (6 << 60) | (\configuration)
    csrw tdata1, t6
.endm

.macro writes_as value, legal
    li a0, \value
    csrw tdata1, a0
    csrr a0, tdata1
    csrw tdata1, zero
    check a0, \legal
.endm

# What is behind `try` has led to a breakpoint exception at the address in a register, with tval in another.
.macro broke_at address, value
    ecall
9:
    la s6, unexpected
    check s2, BREAKPOINT
    check_equal s3, \value
    check_equal s4, \address
    check s7, 0
.endm

.macro load_breaks address
    li a1, \address
    try USER
    ld a0, 0(a1)
    trapped BREAKPOINT, a1
.endm
.macro load_passes address
    li a1, \address
    try USER
    ld a0, 0(a1)
    passed
.endm

main:
    # Registers.
    li a0, 4
    csrw tselect, a0
    csrr a0, tselect
    check a0, 0
    li a0, 3
    csrw tselect, a0
    csrr a0, tselect
    check a0, 3
    csrw tselect, zero
    csrr a0, tinfo
    check a0, 0x1008068
    csrr a0, tdata1
    check a0, 0xf000000000000000
    writes_as 0x2000000000000044, 0xf000000000000000
    writes_as 0xffffffffffffffff, 0xf000000000000000
    writes_as 0x0000000000000000, 0xf000000000000000
    writes_as 0x6fffffffffffffff, 0x600000000240005f
    writes_as 0x3fffffffffffffff, 0x3000000001ffffc0
    writes_as 0x5fffffffffffffff, 0x54000000000002c0
    writes_as 0x6000000000050009, 0x6000000000050009
    writes_as 0x600000000005000c, 0x600000000000000c
    writes_as 0x6000000000040009, 0x6000000000000009
    # The widest naturally aligned range is half of all addresses.
    li a0, -1
    csrw tdata2, a0
    writes_as 0x6000000000000080, 0x6000000000000000
    csrw tdata2, zero
    li a0, 0x6000000000000080
    csrw tdata1, a0
    li a0, -1
    csrw tdata2, a0
    csrr a0, tdata2
    check a0, 0xbfffffffffffffff
    # tval and hit.
    la a1, 2f
    trigger a1, EXECUTE | IN_USER
    try USER
    nop
    at
2:
    nop
    trapped BREAKPOINT, a1
    csrr a0, tdata1
    check a0, 0x600000000040000c
    # Other triggers are their own.
    li a0, 1
    csrw tselect, a0
    csrr a0, tdata1
    check a0, 0xf000000000000000
    li a2, PLACE
    trigger a2, LOAD | IN_USER
    load_breaks PLACE
    csrw tdata1, zero
    csrw tselect, zero
    csrr a0, tdata1
    check a0, 0x600000000040000c
    # Comparisons: a naturally aligned range of 16 bytes at PLACE + 16.
    li a2, PLACE + 23
    trigger a2, NAPOT | LOAD | IN_USER
    load_passes PLACE + 8
    load_breaks PLACE + 12
    load_breaks PLACE + 16
    load_breaks PLACE + 24
    load_breaks PLACE + 31
    load_passes PLACE + 32
    li a2, PLACE
    trigger a2, GREATER_OR_EQUAL | LOAD | IN_USER
    load_passes PLACE - 8
    load_breaks PLACE - 4
    load_breaks PLACE + 0x5000
    trigger a2, LESS | LOAD | IN_USER
    load_passes PLACE
    load_breaks PLACE - 8
    # All instructions from an address on: each of them, also within a block.
    la a1, 2f
    trigger a1, GREATER_OR_EQUAL | EXECUTE | IN_USER
    try USER
    nop
    nop
    at
2:
    nop
    nop
    trapped BREAKPOINT, a1
    # Sizes.
    li a2, PLACE
    trigger a2, WORDS | LOAD | IN_USER
    load_passes PLACE
    try USER
    lb a0, 0(a2)
    lhu a0, 0(a2)
    passed
    try USER
    lwu a0, 0(a2)
    trapped BREAKPOINT, a2
    # Cache blocks are stores.
    li a2, PLACE + 20
    trigger a2, STORE | IN_MACHINE
    li a1, PLACE
    li t0, STATUS_MPIE
    csrs mstatus, t0
    try MACHINE
    cbo.zero (a1)
    trapped_with_any_value BREAKPOINT
    try MACHINE
    cbo.clean (a1)
    trapped_with_any_value BREAKPOINT
    # M-mode: not without MIE.
    trigger a1, LOAD | IN_MACHINE
    ld a0, 0(a1)
    try MACHINE
    ld a0, 0(a1)
    trapped BREAKPOINT, a1
    li t0, STATUS_MPIE
    csrc mstatus, t0
    try MACHINE
    ld a0, 0(a1)
    passed
    # S-mode with breakpoints of its own: not without SIE.
    li t0, 1 << BREAKPOINT
    csrw medeleg, t0
    trigger a1, LOAD | IN_SUPERVISOR
    try SUPERVISOR
    ld a0, 0(a1)
    passed
    csrsi mstatus, STATUS_SIE
    try SUPERVISOR
    ld a0, 0(a1)
    trapped_to_supervisor BREAKPOINT, a1
    csrci mstatus, STATUS_SIE
    csrw medeleg, zero
    # Without delegation SIE does not matter.
    try SUPERVISOR
    ld a0, 0(a1)
    trapped BREAKPOINT, a1
    # etrigger: before the first instruction of S-mode's handler.
    csrw tdata1, zero
    li t0, 1 << ILLEGAL_INSTRUCTION
    csrw medeleg, t0
    csrw tdata2, t0
    li t0, 0x5000000000000040
    csrw tdata1, t0
    la a1, supervisor_trap
    try USER
    csrr a0, mscratch
    broke_at a1, zero
    csrr a0, scause
    check a0, ILLEGAL_INSTRUCTION
    csrr a0, sepc
    la a1, 8b
    check_equal a0, a1
    csrr a0, tdata1
    check a0, 0x5400000000000040
    # Not from other modes, not for other exceptions, and not where M-mode handles them.
    try SUPERVISOR
    csrr a0, mscratch
    ecall
9:
    la s6, unexpected
    check s2, ILLEGAL_INSTRUCTION
    check s7, 1
    li s7, 0
    li t0, (1 << ILLEGAL_INSTRUCTION) | (1 << ECALL_FROM_USER)
    csrw medeleg, t0
    try USER
    ecall
9:
    la s6, unexpected
    check s2, ECALL_FROM_USER
    check s7, 1
    li s7, 0
    csrw medeleg, zero
    try USER
    csrr a0, mscratch
    illegal
    # icount: the third instruction in U-mode, whatever M-mode does meanwhile.
    li t0, 0x3000000000000840
    csrw tdata1, t0
    try USER
    nop
    nop
    at
    nop
    trapped BREAKPOINT, zero
    csrr a0, tdata1
    check a0, 0x3000000001000040
    # Once.
    try USER
    nop
    nop
    passed
    # A loop of 1000 instructions in S-mode.
    li t0, 0x3000000000000080 | 1000 << 10
    csrw tdata1, t0
    la a1, 2f
    li s1, 2000
    try SUPERVISOR
2:
    addi s1, s1, -1
    bnez s1, 2b
    broke_at a1, zero
    check s1, 1500
    # A trap counts, and what is pending waits for the mode.
    li t0, 0x3000000000000440
    csrw tdata1, t0
    try USER
    ecall
9:
    la s6, unexpected
    check s2, ECALL_FROM_USER
    csrr a0, tdata1
    check a0, 0x3000000000000140
    try SUPERVISOR
    nop
    passed
    try USER
    nop
    trapped BREAKPOINT, zero
    csrr a0, tdata1
    check a0, 0x3000000001000040
    csrw tdata1, zero
    # Code that has run often.
    li a2, PLACE
    try USER
    jal ra, hot
    passed
    la a1, hot_end
    trigger a1, EXECUTE | IN_USER
    try USER
    jal ra, hot
    broke_at a1, a1
    check s1, 0
    # In the middle of a block, each time.
    la a1, hot_load
    trigger a1, EXECUTE | IN_USER
    try USER
    jal ra, hot
    broke_at a1, a1
    check s1, 2999
    try USER
    jal ra, hot
    broke_at a1, a1
    check s1, 2999
    trigger a2, LOAD | IN_USER
    try USER
    jal ra, hot
    broke_at a1, a2
    check s1, 2999
    # A trigger of another mode does not keep it from running.
    trigger a2, LOAD | IN_SUPERVISOR
    try USER
    jal ra, hot
    passed
    csrw tdata1, zero
    finish

hot:
    li s1, 3000
1:
    addi s1, s1, -1
    sd s1, 0(a2)
hot_load:
    ld a0, 0(a2)
    bnez s1, 1b
hot_end:
    ret
