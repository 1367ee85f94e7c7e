# Counter overflow: the interrupt's bits and priority, the fields of mhpmevent, scountovf and who sees what of it. What
# depends on counts is in sscofpmf_exact.

.equ LCOFI, 0x2000

main:
    # LCOFIP is software's to clear and set, LCOFIE and the delegation are there.
    li a0, LCOFI
    csrs mip, a0
    csrr a1, mip
    and a1, a1, a0
    check_equal a1, a0
    csrc mip, a0
    csrr a1, mip
    and a1, a1, a0
    check a1, 0
    csrs mie, a0
    csrr a1, mie
    and a1, a1, a0
    check_equal a1, a0
    # sip and sie have it once it is delegated.
    csrr a1, sie
    check a1, 0
    csrs mip, a0
    csrr a1, sip
    and a1, a1, a0
    check a1, 0
    csrs mideleg, a0
    csrr a1, mideleg
    and a1, a1, a0
    check_equal a1, a0
    csrr a1, sie
    check_equal a1, a0
    csrr a1, sip
    and a1, a1, a0
    check_equal a1, a0
    # S-mode clears it.
    li t0, LCOFI
    try SUPERVISOR
    csrc sip, t0
    passed
    csrr a1, mip
    and a1, a1, a0
    check a1, 0
    # Delegated it goes to S-mode, from U-mode here.
    csrs mip, a0
    try USER
    nop
    ecall
9:
    la s6, unexpected
    check s7, 1
    li t0, 13
    li t1, 1
    slli t1, t1, 63
    or t0, t0, t1
    check_equal s2, t0
    la t0, 8b
    check_equal s4, t0
    csrc mip, a0
    # Not delegated, to M-mode.
    csrc mideleg, a0
    csrs mip, a0
    try SUPERVISOR
    nop
    ecall
9:
    la s6, unexpected
    check s7, 0
    li t0, 13
    li t1, 1
    slli t1, t1, 63
    or t0, t0, t1
    check_equal s2, t0
    csrc mip, a0
    csrc mie, a0

    # The fields above the event; the counter stands still meanwhile.
    li t0, -2
    csrw mcountinhibit, t0
    li a0, 0xf000000000000002
    csrw mhpmevent3, a0
    csrr a1, mhpmevent3
    check_equal a1, a0
    csrw mhpmevent4, zero
    # scountovf: what mcounteren opens in S-mode, nothing in U-mode; it cannot be written.
    li t0, 8
    csrw mcounteren, t0
    csrr a1, scountovf
    check a1, 8
    try SUPERVISOR
    csrr a2, scountovf
    passed
    check a2, 8
    csrw mcounteren, zero
    try SUPERVISOR
    csrr a2, scountovf
    passed
    check a2, 0
    try USER
    csrr a2, scountovf
    illegal
    try MACHINE
    csrw scountovf, zero
    illegal
    csrw mhpmevent3, zero
    csrr a1, scountovf
    check a1, 0
    # Writes overflow nothing.
    li a0, 2
    csrw mhpmevent3, a0
    li a0, -1
    csrw mhpmcounter3, a0
    csrw mhpmcounter3, zero
    csrr a1, scountovf
    check a1, 0
    csrr a1, mip
    li a0, LCOFI
    and a1, a1, a0
    check a1, 0
    finish
