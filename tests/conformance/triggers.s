# Debug triggers on addresses (Sdtrig, mcontrol6), as every hart that has them agrees on: instructions, loads, stores and
# atomics, in the modes that are chosen. See triggers_strict for the rest.

.equ PLACE, 0x80400000

.equ LOAD, 0x1
.equ STORE, 0x2
.equ EXECUTE, 0x4
.equ IN_USER, 0x8
.equ IN_SUPERVISOR, 0x10

# Sets the selected trigger as §5.7 asks for: disabled first, then the address (a register), then what it is about.
.macro trigger address, configuration
    csrw tdata1, zero
    csrw tdata2, \address
    li t6, (6 << 60) | (\configuration)
    csrw tdata1, t6
.endm

main:
    csrw tselect, zero
    csrr a0, tselect
    check a0, 0
    csrr a0, tinfo
    srli a0, a0, 6
    andi a0, a0, 1
    check a0, 1
    # Instructions, in one mode and not in another.
    la a1, 2f
    trigger a1, EXECUTE | IN_USER
    csrr a0, tdata2
    check_equal a0, a1
    try USER
    nop
    at
2:
    nop
    trapped_with_any_value BREAKPOINT
    la a1, 2f
    trigger a1, EXECUTE | IN_USER
    try SUPERVISOR
    nop
2:
    nop
    passed
    la a1, 2f
    trigger a1, EXECUTE | IN_SUPERVISOR
    try SUPERVISOR
    nop
    at
2:
    nop
    trapped_with_any_value BREAKPOINT
    # Loads.
    li a2, PLACE
    trigger a2, LOAD | IN_USER
    try USER
    ld a0, 0(a2)
    trapped_with_any_value BREAKPOINT
    try USER
    sd a0, 0(a2)
    passed
    try USER
    ld a0, 8(a2)
    passed
    try SUPERVISOR
    ld a0, 0(a2)
    passed
    # Stores: nothing of one has happened.
    li a0, 0x1234
    sd a0, 0(a2)
    trigger a2, STORE | IN_USER
    li a0, 0x5678
    try USER
    sd a0, 0(a2)
    trapped_with_any_value BREAKPOINT
    ld a1, 0(a2)
    check a1, 0x1234
    try USER
    ld a1, 0(a2)
    sd a0, 8(a2)
    sd a0, -8(a2)
    passed
    # An atomic is both.
    try USER
    amoadd.d a1, a0, (a2)
    trapped_with_any_value BREAKPOINT
    trigger a2, LOAD | STORE | IN_SUPERVISOR
    try SUPERVISOR
    amoadd.d a1, a0, (a2)
    trapped_with_any_value BREAKPOINT
    ld a1, 0(a2)
    check a1, 0x1234
    # About nothing any more.
    trigger a2, 0
    try SUPERVISOR
    ld a1, 0(a2)
    sd a0, 0(a2)
    passed
    finish
