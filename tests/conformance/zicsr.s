# CSR instructions, and the fields of CSRs that keep only what is legal.

# Writes a value, then expects another.
.macro keeps csr, value, expected
    li a0, \value
    csrw \csr, a0
    csrr a1, \csr
    check a1, \expected
.endm

main:
    # Each instruction, with the old value in rd.
    li a1, 0x123456789abcdef0
    csrw mscratch, a1
    li a2, 0x0f0f0f0f0f0f0f0f
    csrrw a0, mscratch, a2
    check_equal a0, a1
    csrrs a0, mscratch, a1
    check_equal a0, a2
    csrr a0, mscratch
    or a3, a1, a2
    check_equal a0, a3
    csrrc a0, mscratch, a2
    check_equal a0, a3
    csrr a0, mscratch
    not a4, a2
    and a3, a3, a4
    check_equal a0, a3
    csrrwi a0, mscratch, 31
    check_equal a0, a3
    csrrsi a0, mscratch, 0
    check a0, 31
    csrrci a0, mscratch, 5
    check a0, 31
    csrrsi a0, mscratch, 1
    check a0, 26
    csrrci a0, mscratch, 0
    check a0, 27
    csrr a0, mscratch
    check a0, 27
    # rd and rs1 the same; rd x0.
    csrrw a1, mscratch, a1
    check a1, 27
    csrrs a1, mscratch, a1
    li a2, 0x123456789abcdef0
    check_equal a1, a2
    csrrw x0, mscratch, a2
    csrr a0, mscratch
    check_equal a0, a2
    csrrs x0, mscratch, x0
    csrrc x0, mscratch, x0
    csrrw a0, mscratch, x0
    check_equal a0, a2
    csrr a0, mscratch
    check a0, 0
    sub a5, a5, a5
    mv a4, x0
    check_equal a4, a5

    # A read-only CSR: reads work, anything that counts as a write traps, even one that would change nothing.
    csrr a0, mhartid
    check a0, 0
    csrrs a0, mhartid, x0
    check a0, 0
    csrrsi a0, mhartid, 0
    check a0, 0
    csrrci a0, mhartid, 0
    check a0, 0
    li a1, 0
    li a0, 0x55
    try MACHINE
    csrrs a0, mhartid, a1
    illegal
    try MACHINE
    csrrc a0, mhartid, a1
    illegal
    try MACHINE
    csrrw a0, mhartid, x0
    illegal
    try MACHINE
    csrrwi a0, mhartid, 0
    illegal
    try MACHINE
    csrrsi a0, mhartid, 1
    illegal
    try MACHINE
    csrrci a0, mhartid, 1
    illegal
    # A trapping CSR instruction leaves rd alone.
    check a0, 0x55
    # The function code 4 is none.
    try MACHINE
    .word 0x34004573
    illegal

    # Trap vectors: MODE 0 and 1.
    csrr s9, mtvec
    keeps mtvec, 0x80000100, 0x80000100
    keeps mtvec, 0x80000101, 0x80000101
    keeps mtvec, 0xfffffffffffffffc, 0xfffffffffffffffc
    csrw mtvec, s9
    keeps stvec, 0x80000101, 0x80000101
    keeps stvec, 0xfffffffffffffffc, 0xfffffffffffffffc
    keeps mepc, 0xfffffffffffffffe, 0xfffffffffffffffe
    keeps sepc, 0x80000002, 0x80000002
    # Plain storage.
    keeps sscratch, 0xffffffffffffffff, 0xffffffffffffffff
    keeps sscratch, 0, 0
    keeps mtval, 0x123456789abcdef0, 0x123456789abcdef0
    keeps stval, 0xfedcba9876543210, 0xfedcba9876543210
    keeps scause, 15, 15
    keeps scause, 0x8000000000000009, 0x8000000000000009
    keeps mcause, 0x800000000000000b, 0x800000000000000b
    keeps mcause, 7, 7

    # mstatus: MPP takes no reserved mode.
    li a0, STATUS_MPP
    csrs mstatus, a0
    li a0, 0x800
    csrc mstatus, a0
    csrr a0, mstatus
    li a1, STATUS_MPP
    and a0, a0, a1
    li a1, 0x1000
    addi gp, gp, 1
    bne a0, a1, 1f
    jal ra, failed
1:
    # UXL and SXL are 64 bits; SD tells of dirty state.
    csrr a0, mstatus
    srli a0, a0, 32
    andi a0, a0, 15
    check a0, 10
    csrr a0, sstatus
    srli a0, a0, 32
    andi a0, a0, 15
    check a0, 2
    li a0, STATUS_FS
    csrc mstatus, a0
    csrr a0, mstatus
    srli a0, a0, 63
    check a0, 0
    li a0, STATUS_FS
    csrs mstatus, a0
    csrr a0, mstatus
    srli a0, a0, 63
    check a0, 1
    csrr a0, sstatus
    srli a0, a0, 63
    check a0, 1
    li a0, 0x4000
    csrc mstatus, a0
    csrr a0, mstatus
    srli a0, a0, 63
    check a0, 0
    li a0, STATUS_FS
    csrc mstatus, a0

    # sstatus is a view: SIE SPIE SPP FS SUM MXR pass through, M-mode's fields do not.
    li a0, STATUS_SIE | STATUS_SPIE | STATUS_SPP | STATUS_FS | STATUS_SUM | STATUS_MXR
    csrc mstatus, a0
    csrs sstatus, a0
    csrr a1, mstatus
    and a1, a1, a0
    check_equal a1, a0
    csrr a1, sstatus
    and a1, a1, a0
    check_equal a1, a0
    csrc sstatus, a0
    csrr a1, mstatus
    and a1, a1, a0
    check a1, 0
    li a0, STATUS_MPIE | STATUS_MPP | STATUS_MPRV | STATUS_TVM | STATUS_TW | STATUS_TSR
    csrc mstatus, a0
    csrs sstatus, a0
    csrr a1, mstatus
    and a1, a1, a0
    check a1, 0
    csrs mstatus, a0
    csrr a1, mstatus
    and a1, a1, a0
    check_equal a1, a0
    csrr a1, sstatus
    and a1, a1, a0
    check a1, 0
    csrc mstatus, a0

    # Interrupt registers.
    li a0, 0xaaa
    csrw mie, a0
    csrr a1, mie
    and a1, a1, a0
    check_equal a1, a0
    csrw mideleg, zero
    csrr a1, sie
    andi a1, a1, 0x222
    check a1, 0
    li a0, 0x222
    csrw mideleg, a0
    csrr a1, mideleg
    and a1, a1, a0
    check_equal a1, a0
    csrr a1, sie
    andi a1, a1, 0x222
    check a1, 0x222
    csrw sie, zero
    csrr a1, mie
    li t0, 0xaaa
    and a1, a1, t0
    check a1, 0x888
    li a0, -1
    csrw sie, a0
    csrw mie, zero
    li a0, 0x2
    csrw mideleg, a0
    li a0, -1
    csrw sie, a0
    csrr a1, mie
    li t0, 0xaaa
    and a1, a1, t0
    check a1, 2
    csrw mie, zero
    # sip: SSIP can be written, where it is delegated; mip: SSIP, STIP, SEIP.
    csrw mip, zero
    csrw mideleg, zero
    csrsi sip, 2
    csrr a1, mip
    andi a1, a1, 2
    check a1, 0
    li a0, 0x222
    csrw mideleg, a0
    csrs sip, a0
    csrr a1, mip
    andi a1, a1, 0x222
    check a1, 2
    csrr a1, sip
    andi a1, a1, 0x222
    check a1, 2
    csrs mip, a0
    csrr a1, sip
    andi a1, a1, 0x222
    check a1, 0x222
    csrw sip, zero
    csrr a1, mip
    andi a1, a1, 0x222
    check a1, 0x220
    csrc mip, a0
    csrr a1, mip
    andi a1, a1, 0x222
    check a1, 0
    # M-mode's own bits follow their devices.
    li a0, 0x888
    csrs mip, a0
    csrr a1, mip
    and a1, a1, a0
    check a1, 0
    csrw mideleg, zero

    # satp: an unknown MODE leaves all of it.
    li a0, 0x8000100000080200
    csrw satp, a0
    csrr a1, satp
    check_equal a1, a0
    li a0, 0x1000000000012345
    csrw satp, a0
    csrr a1, satp
    li a0, 0x8000100000080200
    check_equal a1, a0
    li a0, 0xf000000000000000
    csrw satp, a0
    csrr a1, satp
    li a0, 0x8000100000080200
    check_equal a1, a0
    keeps satp, 0x9abcd000000abcde, 0x9abcd000000abcde
    keeps satp, 0xaffffaaaaaaaaaaa, 0xaffffaaaaaaaaaaa
    csrw satp, zero
    csrr a1, satp
    check a1, 0

    # menvcfg and senvcfg.
    li a0, 0xe0000000000000f1
    csrw menvcfg, a0
    csrr a1, menvcfg
    check_equal a1, a0
    csrw menvcfg, zero
    csrr a1, menvcfg
    check a1, 0
    li a0, 0xd0
    csrw senvcfg, a0
    csrr a1, senvcfg
    check_equal a1, a0
    csrw senvcfg, zero

    # medeleg: the causes that lower modes can raise.
    li a0, 0xb3fe
    csrw medeleg, a0
    csrr a1, medeleg
    and a1, a1, a0
    check_equal a1, a0
    csrw medeleg, zero

    # misa: RV64, and the letters of what is there. Bits that are zero here stay zero.
    csrr a0, misa
    srli a1, a0, 62
    check a1, 2
    li a1, 0x14112d
    and a0, a0, a1
    check_equal a0, a1

    # Counter enables have 32 bits.
    li a0, -1
    csrw mcounteren, a0
    csrr a1, mcounteren
    andi a2, a1, 7
    check a2, 7
    srli a1, a1, 32
    check a1, 0
    csrw scounteren, a0
    csrr a1, scounteren
    andi a2, a1, 7
    check a2, 7
    srli a1, a1, 32
    check a1, 0
    csrw mcounteren, zero
    csrr a1, mcounteren
    check a1, 0
    finish
