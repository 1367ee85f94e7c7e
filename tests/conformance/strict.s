# Points of the specification on which QEMU 10.0 differs, so that it cannot judge them.

.equ PLACE, 0x80400000

main:
    # tval of an illegal instruction that exists, but not in this mode: the instruction or zero. (QEMU leaves what the
    # last illegal encoding left.)
    try MACHINE
    .word 0xffffffff
    illegal
    try SUPERVISOR
    mret
    illegal
    try USER
    mret
    illegal
    try USER
    sret
    illegal

    # medeleg[11] is read-only zero: no mode below M can make an M-mode ecall. (QEMU keeps it.)
    li t0, -1
    csrw medeleg, t0
    csrr a0, medeleg
    srli a0, a0, 11
    andi a0, a0, 1
    check a0, 0
    csrr a0, medeleg
    li t0, 0xb3fe
    and a0, a0, t0
    check_equal a0, t0
    csrw medeleg, zero

    # The two fences of Svinval are no U-mode instructions. (QEMU ignores them there.)
    try USER
    sfence.w.inval
    illegal
    try USER
    sfence.inval.ir
    illegal

    # Bit 0 of mepc and sepc is always zero. (QEMU drops it at the return only.)
    li a0, -1
    csrw mepc, a0
    csrr a1, mepc
    check a1, -2
    csrw sepc, a0
    csrr a1, sepc
    check a1, -2

    # No state is closed to U-mode here, and bits above 31 of sstateen have no meaning. (QEMU keeps bit 63.)
    li a0, -1
    csrw mstateen1, a0
    csrw sstateen1, a0
    csrr a1, sstateen1
    check a1, 0

    # pmpaddr has 54 bits. (QEMU keeps 64.)
    li a0, -1
    csrw pmpaddr5, a0
    csrr a1, pmpaddr5
    li a2, 0x3fffffffffffff
    check_equal a1, a2
    csrw pmpaddr5, zero

    # A TOR entry whose range is empty matches nothing, the first one included. (QEMU takes it for all of memory.)
    li t0, -1
    csrw pmpaddr1, t0
    csrw pmpaddr0, zero
    li t0, 0x1f08
    csrw pmpcfg0, t0
    sfence.vma
    li a1, PLACE + 4096
    as_mode SUPERVISOR, 0
    allowed
    as_mode USER, 1
    allowed

    # A hardware update of A and D is an S-mode write to the page table. (QEMU checks the read alone.)
    li a2, PLACE
    li a3, 0x2000004f
    sd a3, 16(a2)
    li t0, (PLACE >> 2) | 0x1ff
    csrw pmpaddr0, t0
    li t0, 0x1f19
    csrw pmpcfg0, t0
    li t0, 1
    slli t0, t0, 61
    csrs menvcfg, t0
    li t0, 0x8000000000080400
    csrw satp, t0
    sfence.vma
    as_mode SUPERVISOR, 0
    allowed
    as_mode SUPERVISOR, 1
    refused STORE_ACCESS_FAULT
    ld a4, 16(a2)
    check_equal a4, a3
    csrw satp, zero
    csrw menvcfg, zero
    finish
