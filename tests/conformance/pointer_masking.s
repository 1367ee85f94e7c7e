# Pointer masking: PMM of mseccfg, menvcfg and senvcfg for M-, S- and U-mode, physical and virtual addresses, all kinds of
# accesses, and what it does not apply to. (QEMU 10.0 does not mask for the mode that MPRV names, and ends masking by MXR
# only together with MPRV; its mseccfg.PMM does not go back to zero.)

.equ PLACE, 0x80400000
.equ OTHER, 0x80600000
.equ ROOT, 0x80800000

.macro masking register, pmm
    li t6, \pmm
    slli t6, t6, 32
    csrw \register, t6
.endm

# The access of `as_mode` was refused; the address in tval is that of a register.
.macro refused_at cause, register
    check s2, \cause
    check_equal s3, \register
.endm

main:
    li a2, PLACE
    li a3, 0x1122334455667788
    sd a3, 0(a2)
    li t0, OTHER
    not t1, a3
    sd t1, 0(t0)
    li t0, STATUS_FS
    csrs mstatus, t0

    # Off after reset: all bits count.
    li a1, 0xfe00000080400000
    as_mode MACHINE, 0
    refused LOAD_ACCESS_FAULT
    as_mode SUPERVISOR, 1
    refused STORE_ACCESS_FAULT
    as_mode USER, 0
    refused LOAD_ACCESS_FAULT

    # Each register's field is for one mode: seven bits.
    masking mseccfg, 2
    csrr a0, mseccfg
    srli a0, a0, 32
    andi a0, a0, 3
    check a0, 2
    as_mode MACHINE, 0
    allowed
    check_equal a0, a3
    as_mode SUPERVISOR, 0
    refused LOAD_ACCESS_FAULT
    as_mode USER, 0
    refused LOAD_ACCESS_FAULT
    masking mseccfg, 0
    masking menvcfg, 2
    as_mode MACHINE, 0
    refused LOAD_ACCESS_FAULT
    as_mode SUPERVISOR, 0
    allowed
    check_equal a0, a3
    as_mode USER, 1
    refused STORE_ACCESS_FAULT
    masking menvcfg, 0
    masking senvcfg, 2
    as_mode MACHINE, 1
    refused STORE_ACCESS_FAULT
    as_mode SUPERVISOR, 0
    refused LOAD_ACCESS_FAULT
    as_mode USER, 0
    allowed
    check_equal a0, a3
    as_mode USER, 1
    allowed
    masking senvcfg, 0
    as_mode USER, 0
    refused LOAD_ACCESS_FAULT

    # Bit 56 counts with seven bits; a physical address is filled with zeros, and tval is what was accessed.
    masking mseccfg, 2
    masking senvcfg, 2
    li a1, 0x0100000080400000
    as_mode MACHINE, 0
    refused LOAD_ACCESS_FAULT
    li a1, 0xff00000080400000
    li a2, 0x0100000080400000
    as_mode MACHINE, 0
    refused_at LOAD_ACCESS_FAULT, a2
    as_mode USER, 1
    refused_at STORE_ACCESS_FAULT, a2
    # Sixteen bits.
    masking mseccfg, 3
    masking senvcfg, 3
    masking menvcfg, 3
    as_mode MACHINE, 0
    allowed
    check_equal a0, a3
    li a1, 0xffff000080400000
    as_mode MACHINE, 0
    allowed
    as_mode SUPERVISOR, 0
    allowed
    as_mode USER, 0
    allowed
    check_equal a0, a3
    li a1, 0xa5a5800080400000
    li a2, 0x0000800080400000
    as_mode MACHINE, 0
    refused_at LOAD_ACCESS_FAULT, a2
    as_mode SUPERVISOR, 1
    refused_at STORE_ACCESS_FAULT, a2

    # The value 1 is reserved, and never there.
    masking mseccfg, 1
    csrr a0, mseccfg
    srli a0, a0, 32
    andi a0, a0, 3
    addi a0, a0, -1
    snez a0, a0
    check a0, 1
    masking menvcfg, 1
    csrr a0, menvcfg
    srli a0, a0, 32
    andi a0, a0, 3
    addi a0, a0, -1
    snez a0, a0
    check a0, 1
    masking mseccfg, 3
    masking menvcfg, 3

    # MXR ends it, but not in M-mode, even where nothing is translated.
    li a1, 0xffff000080400000
    li t0, STATUS_MXR
    csrs mstatus, t0
    as_mode SUPERVISOR, 0
    refused LOAD_ACCESS_FAULT
    as_mode USER, 1
    refused STORE_ACCESS_FAULT
    as_mode MACHINE, 0
    allowed
    li t0, STATUS_MXR
    csrc mstatus, t0
    as_mode SUPERVISOR, 0
    allowed

    # All kinds of accesses, in M-mode.
    li a1, 0x5aa5000080400000
    li a2, PLACE
    sd a3, 0(a1)
    ld a0, 0(a2)
    check_equal a0, a3
    lb a0, 1(a1)
    check a0, 0x77
    lhu a0, 2(a1)
    check a0, 0x5566
    lwu a0, 4(a1)
    check a0, 0x11223344
    addi a4, a1, 100
    ld a0, -100(a4)
    check_equal a0, a3
    sb zero, 8(a1)
    sh zero, 10(a1)
    sw zero, 12(a1)
    ld a0, 3(a1)
    ld a4, 3(a2)
    check_equal a0, a4
    fld f1, 0(a1)
    fmv.x.d a0, f1
    check_equal a0, a3
    fsd f1, 16(a1)
    ld a0, 16(a2)
    check_equal a0, a3
    flw f2, 0(a1)
    fsw f2, 24(a1)
    lw a0, 24(a2)
    check a0, 0x55667788
    li a4, 5
    amoadd.d a0, a4, (a1)
    check_equal a0, a3
    ld a0, 0(a2)
    addi a4, a3, 5
    check_equal a0, a4
    mv a0, a4
    amocas.d a0, a3, (a1)
    ld a0, 0(a2)
    check_equal a0, a3
    lr.d a0, (a1)
    check_equal a0, a3
    sc.d a0, a4, (a2)
    check a0, 0
    lr.w a0, (a2)
    sc.w a0, zero, (a1)
    check a0, 0
    lw a0, 0(a2)
    check a0, 0
    sd a3, 0(a2)
    sd a3, 64(a2)
    addi a4, a1, 64
    cbo.zero (a4)
    ld a0, 64(a2)
    check a0, 0
    cbo.flush (a4)
    # Misaligned, over the border of a page.
    li a4, 0x1234000080400ffd
    sd a3, 0(a4)
    ld a0, 0(a4)
    check_equal a0, a3
    li a4, PLACE + 0xffd
    ld a0, 0(a4)
    check_equal a0, a3
    # Misaligned atomics trap with the address without its tag.
    addi a1, a1, 4
    li a5, PLACE + 4
    try MACHINE
    amoadd.d a0, a0, (a1)
    trapped STORE_MISALIGNED, a5

    # In loops: on, off, on.
    li s9, 3
1:
    masking mseccfg, 2
    li a1, 0xaa00000080400000
    li s10, 40
    li s11, 0
2:
    ld a0, 0(a1)
    add s11, s11, a0
    sd a0, 8(a1)
    addi s10, s10, -1
    bnez s10, 2b
    li a4, 40
    mul a4, a4, a3
    check_equal s11, a4
    masking mseccfg, 0
    as_mode MACHINE, 0
    refused LOAD_ACCESS_FAULT
    li a1, PLACE
    li s10, 40
    li s11, 0
2:
    ld a0, 0(a1)
    add s11, s11, a0
    addi s10, s10, -1
    bnez s10, 2b
    check_equal s11, a4
    addi s9, s9, -1
    bnez s9, 1b

    # Sv39: 1 GiB of RAM at its own address and at the top for the supervisor, and at 0x40000000 for the user. (Seven bits
    # for both.)
    li a2, ROOT
    li t0, 0x200000cf
    sd t0, 16(a2)
    li t1, ROOT + 4088
    sd t0, 0(t1)
    li t0, 0x200000df
    sd t0, 8(a2)
    li t0, 0x8000000000080800
    csrw satp, t0
    sfence.vma
    masking menvcfg, 2
    masking senvcfg, 2
    li a1, 0xaa00000080400000
    as_mode SUPERVISOR, 0
    allowed
    check_equal a0, a3
    # Bit 56 is the sign.
    li a1, 0x01ffffffc0400000
    as_mode SUPERVISOR, 0
    allowed
    check_equal a0, a3
    li a1, 0xfeffffffc0400000
    li a2, 0x00ffffffc0400000
    as_mode SUPERVISOR, 0
    refused_at LOAD_PAGE_FAULT, a2
    as_mode SUPERVISOR, 1
    refused_at STORE_PAGE_FAULT, a2
    li a1, 0xaa00000040400000
    as_mode USER, 0
    allowed
    check_equal a0, a3
    # In the modes themselves.
    li a1, 0xaa00000080400000
    li a4, 100
    try SUPERVISOR
1:
    ld a0, 0(a1)
    sd a0, 8(a1)
    addi a4, a4, -1
    bnez a4, 1b
    passed
    check_equal a0, a3
    li s8, -0x40000000
    li a1, 0xfe00000040400000
    li a4, 100
    try USER
1:
    ld a0, 0(a1)
    sd a0, 8(a1)
    addi a4, a4, -1
    bnez a4, 1b
    passed
    check_equal a0, a3
    # A fault tells the address without its tag.
    li a1, 0xfe00000080400000
    li a5, 0x0000000080400000
    try USER
    sd a0, 0(a1)
    trapped STORE_PAGE_FAULT, a5
    # Not for fetches.
    li a1, 0xfe00000040400000
    try USER
    jr a1
    ecall
9:
    la s6, unexpected
    check s2, INSTRUCTION_PAGE_FAULT
    check_equal s3, a1
    check_equal s4, a1
    li s8, 0
    # MXR.
    li t0, STATUS_MXR
    csrs mstatus, t0
    as_mode USER, 0
    refused LOAD_PAGE_FAULT
    li a1, 0xaa00000080400000
    as_mode SUPERVISOR, 1
    refused STORE_PAGE_FAULT
    li t0, STATUS_MXR
    csrc mstatus, t0
    as_mode SUPERVISOR, 1
    allowed
    # SUM: the mode counts, not the page.
    masking menvcfg, 0
    li t0, STATUS_SUM
    csrs mstatus, t0
    li a1, 0xfe00000040400000
    as_mode SUPERVISOR, 0
    refused LOAD_PAGE_FAULT
    as_mode USER, 0
    allowed
    li t0, STATUS_SUM
    csrc mstatus, t0
    # Sixteen bits.
    masking menvcfg, 3
    li a1, 0x0000ffffc0400000
    as_mode SUPERVISOR, 0
    allowed
    li a1, 0x12347fff80400000
    li a2, 0x00007fff80400000
    as_mode SUPERVISOR, 0
    refused_at LOAD_PAGE_FAULT, a2
    csrw satp, zero
    sfence.vma

    # Sv57 with sixteen bits: masking changes addresses that are valid without it. 0x80400000 leads to PLACE, bit 48 above
    # it to OTHER.
    li a2, ROOT
    li t0, 4096
    add a4, a2, t0
    # Five tables, one behind another: the root, two levels and two levels.
    li t1, 2560
    mv t2, a2
1:
    sd zero, 0(t2)
    addi t2, t2, 8
    addi t1, t1, -1
    bnez t1, 1b
    li t0, 0x20200401
    sd t0, 0(a2)
    li t0, 0x20200801
    sd t0, 8(a2)
    # 0x80801000: a pointer to 0x80803000; 0x80802000: one to 0x80804000.
    li t1, ROOT + 0x1000
    li t0, 0x20200c01
    sd t0, 0(t1)
    li t1, ROOT + 0x2000
    li t0, 0x20201001
    sd t0, 0(t1)
    # 1 GiB that is as it is; and one that is 2 MiB further, of smaller pages.
    li t1, ROOT + 0x3010
    li t0, 0x200000df
    sd t0, 0(t1)
    li t1, ROOT + 0x4010
    li t0, 0x20201401
    sd t0, 0(t1)
    li t1, ROOT + 0x5010
    li t0, 0x201800df
    sd t0, 0(t1)
    li t0, 0xa000000000080800
    csrw satp, t0
    sfence.vma
    li s9, 3
    li a1, 0x0001000080400000
    not a5, a3
1:
    masking senvcfg, 0
    as_mode USER, 0
    allowed
    check_equal a0, a5
    masking senvcfg, 3
    as_mode USER, 0
    allowed
    check_equal a0, a3
    masking senvcfg, 2
    as_mode USER, 0
    allowed
    check_equal a0, a5
    addi s9, s9, -1
    bnez s9, 1b
    csrw satp, zero
    sfence.vma
    finish
