# State enables: what mstateen closes to lower modes, and what is in the registers.

main:
    # What there is to close: senvcfg, and the sstateen registers, each by its number.
    li t0, -1
    csrw mstateen0, t0
    csrr a0, mstateen0
    srli a0, a0, 62
    check a0, 3
    li t0, -1
    csrw mstateen1, t0
    csrw mstateen2, t0
    csrw mstateen3, t0
    csrr a0, mstateen1
    srli a0, a0, 63
    check a0, 1
    csrr a0, mstateen3
    srli a0, a0, 63
    check a0, 1
    # No state is closed to U-mode here: all is zero, and stays so.
    csrw sstateen0, zero
    csrr a0, sstateen1
    check a0, 0
    try SUPERVISOR
    csrr a0, sstateen0
    csrr a0, sstateen1
    csrr a0, sstateen2
    csrr a0, sstateen3
    csrw sstateen3, a0
    csrr a0, senvcfg
    csrw senvcfg, a0
    passed
    try USER
    csrr a0, sstateen0
    illegal
    try SUPERVISOR
    csrr a0, mstateen0
    illegal

    csrw mstateen0, zero
    csrr a0, mstateen0
    check a0, 0
    try SUPERVISOR
    csrr a0, senvcfg
    illegal
    try SUPERVISOR
    csrw senvcfg, zero
    illegal
    try SUPERVISOR
    csrr a0, sstateen0
    illegal
    try SUPERVISOR
    csrr a0, sstateen1
    passed
    # M-mode may always.
    csrr a0, senvcfg
    csrr a0, sstateen0
    li t0, 1
    slli t0, t0, 62
    csrw mstateen0, t0
    try SUPERVISOR
    csrr a0, senvcfg
    passed
    try SUPERVISOR
    csrw sstateen0, zero
    illegal
    slli t0, t0, 1
    csrw mstateen0, t0
    try SUPERVISOR
    csrr a0, sstateen0
    passed
    try SUPERVISOR
    csrr a0, senvcfg
    illegal
    csrw mstateen2, zero
    try SUPERVISOR
    csrr a0, sstateen2
    illegal
    try SUPERVISOR
    csrr a0, sstateen3
    passed
    finish
