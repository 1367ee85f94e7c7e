# Address spaces: fences by address and ASID, switching without a fence, aliases, code under translation, MPRV.

.equ ROOT_A, 0x80200000
.equ ROOT_B, 0x80204000
.equ PAGE_1, 0x80210000
.equ PAGE_2, 0x80211000
.equ PAGE_3, 0x80212000
# Virtual addresses: the page under test, and where this program appears as user code.
.equ HERE, 0x40001000
.equ USER_CODE, 0x100000000

# Loads from an address as S-mode does, into a0.
.macro load address
    li t6, STATUS_MPP
    csrc mstatus, t6
    li t6, 0x800 | STATUS_MPRV
    csrs mstatus, t6
    li t6, \address
    ld a0, 0(t6)
    li t6, STATUS_MPRV
    csrc mstatus, t6
.endm
.macro store register, address
    li t6, STATUS_MPP
    csrc mstatus, t6
    li t6, 0x800 | STATUS_MPRV
    csrs mstatus, t6
    li t6, \address
    sd \register, 0(t6)
    li t6, STATUS_MPRV
    csrc mstatus, t6
.endm
# Loads where a fault is expected.
.macro load_faults address
    la s6, 9f
    li s2, -1
    li s7, 0
    load \address
9:
    la s6, unexpected
    li t6, STATUS_MPRV
    csrc mstatus, t6
    check s2, LOAD_PAGE_FAULT
    li t6, \address
    check_equal s3, t6
.endm
# Maps HERE in a space to a page: the leaf lies in the third table of the space.
.macro map root, page, flags
    li a0, (\page >> 2) | \flags
    li a1, \root + 0x2008
    sd a0, 0(a1)
.endm
.macro use root, asid
    li a0, (8 << 60) | (\asid << 44) | (\root >> 12)
    csrw satp, a0
.endm

main:
    # Two spaces. Each: root, middle, leaves; identity for RAM (supervisor), the program again for users.
    li a1, ROOT_A
    jal ra, build
    li a1, ROOT_B
    jal ra, build
    li a0, 0x1111
    li a1, PAGE_1
    sd a0, 0(a1)
    li a0, 0x2222
    li a1, PAGE_2
    sd a0, 0(a1)
    li a0, 0x3333
    li a1, PAGE_3
    sd a0, 0(a1)
    map ROOT_A, PAGE_1, 0xcf
    map ROOT_B, PAGE_2, 0xcf

    # Switching between ASIDs needs no fence.
    sfence.vma
    use ROOT_A, 1
    load HERE
    check a0, 0x1111
    use ROOT_B, 2
    load HERE
    check a0, 0x2222
    use ROOT_A, 1
    load HERE
    check a0, 0x1111
    use ROOT_B, 0xffff
    load HERE
    check a0, 0x2222
    use ROOT_A, 0x7fff
    load HERE
    check a0, 0x1111
    # With the same ASID it needs one.
    use ROOT_A, 5
    load HERE
    use ROOT_B, 5
    sfence.vma
    load HERE
    check a0, 0x2222
    csrw satp, zero
    load PAGE_3
    check a0, 0x3333

    # A change of the entry is seen after each kind of fence.
    use ROOT_A, 1
    load HERE
    check a0, 0x1111
    map ROOT_A, PAGE_2, 0xcf
    sfence.vma
    load HERE
    check a0, 0x2222
    li s9, HERE
    li s10, 1
    map ROOT_A, PAGE_3, 0xcf
    sfence.vma s9, zero
    load HERE
    check a0, 0x3333
    map ROOT_A, PAGE_1, 0xcf
    sfence.vma zero, s10
    load HERE
    check a0, 0x1111
    map ROOT_A, PAGE_2, 0xcf
    sfence.vma s9, s10
    load HERE
    check a0, 0x2222
    # Any address of the page will do.
    map ROOT_A, PAGE_3, 0xcf
    addi s9, s9, 0x123
    sfence.vma s9, s10
    load HERE
    check a0, 0x3333
    map ROOT_A, PAGE_1, 0xcf
    sfence.w.inval
    sinval.vma s9, s10
    sfence.inval.ir
    load HERE
    check a0, 0x1111
    map ROOT_A, PAGE_2, 0xcf
    sfence.w.inval
    sinval.vma zero, zero
    sfence.inval.ir
    load HERE
    check a0, 0x2222
    # For stores and for what may not be stored to any more.
    li a2, 0x4444
    store a2, HERE
    load HERE
    check a0, 0x4444
    li a1, PAGE_2
    ld a0, 0(a1)
    check a0, 0x4444
    map ROOT_A, PAGE_2, 0xcb
    sfence.vma s9, zero
    la s6, 9f
    li s2, -1
    store a2, HERE
9:
    la s6, unexpected
    li t6, STATUS_MPRV
    csrc mstatus, t6
    check s2, STORE_PAGE_FAULT
    # No longer there at all.
    load HERE
    li a1, ROOT_A + 0x2008
    sd zero, 0(a1)
    sfence.vma s9, s10
    load_faults HERE
    # And there again, with a fence.
    map ROOT_A, PAGE_1, 0xcf
    sfence.vma
    load HERE
    check a0, 0x1111
    # A fence in one space serves an entry of another that is named by its ASID, while that is not in use.
    use ROOT_B, 2
    sfence.vma
    load HERE
    check a0, 0x2222 + 0x2222
    use ROOT_A, 1
    map ROOT_B, PAGE_3, 0xcf
    li s11, 2
    sfence.vma zero, s11
    load HERE
    check a0, 0x1111
    use ROOT_B, 2
    load HERE
    check a0, 0x3333
    use ROOT_A, 1
    map ROOT_B, PAGE_1, 0xcf
    sfence.vma s9, s11
    use ROOT_B, 2
    load HERE
    check a0, 0x1111
    # A changed pointer in an upper table.
    li a3, ROOT_B + 8
    ld a2, 0(a3)
    li a0, ((ROOT_A + 0x1000) >> 2) | 1
    sd a0, 0(a3)
    map ROOT_A, PAGE_3, 0xcf
    sfence.vma
    load HERE
    check a0, 0x3333
    sd a2, 0(a3)
    sfence.vma
    load HERE
    check a0, 0x1111
    # A superpage: a fence for one address in it takes all of it away.
    li a1, ROOT_B + 8
    li a0, 0x200000cf
    sd a0, 0(a1)
    sfence.vma
    load 0x40210000
    check a0, 0x1111
    load 0x40212000
    check a0, 0x3333
    sd zero, 0(a1)
    li a0, 0x40000000
    sfence.vma a0, zero
    load_faults 0x40212000
    load_faults 0x40210000
    sd a2, 0(a1)
    sfence.vma
    # Global entries are seen in all spaces, and go with a fence for all.
    map ROOT_A, PAGE_2, 0xef
    map ROOT_B, PAGE_2, 0xef
    sfence.vma
    load HERE
    check a0, 0x4444
    use ROOT_A, 1
    load HERE
    check a0, 0x4444
    map ROOT_A, PAGE_1, 0xef
    sfence.vma zero, zero
    load HERE
    check a0, 0x1111
    map ROOT_A, PAGE_3, 0xef
    sfence.vma s9, zero
    load HERE
    check a0, 0x3333

    # One page under two addresses.
    map ROOT_A, PAGE_1, 0xcf
    li a0, (PAGE_1 >> 2) | 0xcf
    li a1, ROOT_A + 0x2010
    sd a0, 0(a1)
    sfence.vma
    li a2, 0x5555
    store a2, HERE
    load HERE + 0x1000
    check a0, 0x5555
    li a2, 0x6666
    store a2, HERE + 0x1008
    load HERE + 8
    check a0, 0x6666
    # An access across two virtual pages whose physical pages are apart.
    map ROOT_A, PAGE_3, 0xcf
    sfence.vma
    li a2, 0x1122334455667788
    store a2, HERE + 0xffd
    li a1, PAGE_3
    li a0, 0xffd
    add a1, a1, a0
    lbu a0, 0(a1)
    check a0, 0x88
    lbu a0, 2(a1)
    check a0, 0x66
    li a1, PAGE_1
    lwu a0, 0(a1)
    check a0, 0x22334455
    lbu a0, 4(a1)
    check a0, 0x11
    load HERE + 0xffd
    check_equal a0, a2
    # The second page missing: tval is its address, and for a load nothing is loaded.
    li a1, ROOT_A + 0x2010
    sd zero, 0(a1)
    sfence.vma
    la s6, 9f
    li s2, -1
    li a0, 77
    load HERE + 0xffd
9:
    la s6, unexpected
    li t6, STATUS_MPRV
    csrc mstatus, t6
    check s2, LOAD_PAGE_FAULT
    check s3, HERE + 0x1000
    check a0, 77
    la s6, 9f
    li s2, -1
    store a2, HERE + 0xffc
9:
    la s6, unexpected
    li t6, STATUS_MPRV
    csrc mstatus, t6
    check s2, STORE_PAGE_FAULT
    check s3, HERE + 0x1000
    # The first one missing.
    li a0, (PAGE_1 >> 2) | 0xcf
    sd a0, 0(a1)
    sd zero, -8(a1)
    sfence.vma
    la s6, 9f
    li s2, -1
    store a2, HERE + 0xffc
9:
    la s6, unexpected
    li t6, STATUS_MPRV
    csrc mstatus, t6
    check s2, STORE_PAGE_FAULT
    check s3, HERE + 0xffc
    map ROOT_A, PAGE_1, 0xcf
    sfence.vma

    # Code in S-mode, at its own address, and in U-mode, elsewhere.
    try SUPERVISOR
    auipc a0, 0
    passed
    la a1, 8b
    check_equal a0, a1
    li s8, USER_CODE - 0x80000000
    try USER
    auipc a0, 0
    passed
    check s2, ECALL_FROM_USER
    la a1, 8b
    add a1, a1, s8
    check_equal a0, a1
    # User code in S-mode, and supervisor code in U-mode, do not run; SUM changes nothing about it.
    li t0, STATUS_SUM
    csrs mstatus, t0
    try SUPERVISOR
    nop
    ecall
9:
    la s6, unexpected
    check s2, INSTRUCTION_PAGE_FAULT
    la a1, 8b
    add a1, a1, s8
    check_equal s3, a1
    check_equal s4, a1
    li t0, STATUS_SUM
    csrc mstatus, t0
    li s8, 0
    try USER
    nop
    ecall
9:
    la s6, unexpected
    check s2, INSTRUCTION_PAGE_FAULT
    la a1, 8b
    check_equal s3, a1
    # A user page seen from S-mode: with SUM, and not without, at once.
    map ROOT_A, PAGE_1, 0xdf
    sfence.vma
    li s11, HERE
    try SUPERVISOR
    ld a0, 0(s11)
    trapped LOAD_PAGE_FAULT, s11
    li t0, STATUS_SUM
    csrs mstatus, t0
    try SUPERVISOR
    ld a0, 0(s11)
    sd a0, 0(s11)
    csrc sstatus, t0
    at
    ld a0, 0(s11)
    trapped LOAD_PAGE_FAULT, s11
    try SUPERVISOR
    csrs sstatus, t0
    ld a0, 0(s11)
    passed
    csrc mstatus, t0
    # An executable page: with MXR, and not without.
    map ROOT_A, PAGE_1, 0x49
    sfence.vma
    li t0, STATUS_MXR
    csrc mstatus, t0
    try SUPERVISOR
    ld a0, 0(s11)
    trapped LOAD_PAGE_FAULT, s11
    try SUPERVISOR
    csrs sstatus, t0
    ld a0, 0(s11)
    csrc sstatus, t0
    at
    ld a0, 0(s11)
    trapped LOAD_PAGE_FAULT, s11
    # Page faults go to S-mode where they are delegated.
    li t0, 0xb000
    csrw medeleg, t0
    try SUPERVISOR
    ld a0, 0(s11)
    trapped_to_supervisor LOAD_PAGE_FAULT, s11
    try SUPERVISOR
    sd a0, 0(s11)
    trapped_to_supervisor STORE_PAGE_FAULT, s11
    try SUPERVISOR
    amoadd.w a0, a0, (s11)
    trapped_to_supervisor STORE_PAGE_FAULT, s11
    try USER
    nop
    ecall
9:
    la s6, unexpected
    check s2, INSTRUCTION_PAGE_FAULT
    check s7, 1
    li s7, 0
    csrw medeleg, zero
    # An instruction whose second half lies on a page that is not there: epc is the instruction's, tval the page's.
    map ROOT_A, PAGE_1, 0xcf
    li a1, ROOT_A + 0x2010
    sd zero, 0(a1)
    sfence.vma
    li a1, PAGE_1
    li a0, 0xffe
    add a1, a1, a0
    li a0, 0x0513
    sh a0, 0(a1)
    fence.i
    li a0, HERE + 0xffe
    csrw mepc, a0
    la s6, 9f
    li s2, -1
    li t0, STATUS_MPP
    csrc mstatus, t0
    li t0, 0x800
    csrs mstatus, t0
    mret
9:
    la s6, unexpected
    check s2, INSTRUCTION_PAGE_FAULT
    check s4, HERE + 0xffe
    check s3, HERE + 0x1000
    # With another page there, it runs: li a0, 0x23, and an ecall.
    li a0, (PAGE_3 >> 2) | 0xcf
    li a1, ROOT_A + 0x2010
    sd a0, 0(a1)
    li a1, PAGE_3
    li a0, 0x00730230
    sw a0, 0(a1)
    sw zero, 4(a1)
    fence.i
    sfence.vma
    la s6, 9f
    li s2, -1
    li a0, HERE + 0xffe
    csrw mepc, a0
    li t0, 0x800
    csrs mstatus, t0
    mret
9:
    la s6, unexpected
    check s2, ECALL_FROM_SUPERVISOR
    check s4, HERE + 0x1002
    check a0, 0x23
    # The same address, another page of code, after a fence of translations alone.
    li a1, PAGE_2
    li a0, 0x00730450
    sw a0, 0(a1)
    sw zero, 4(a1)
    fence.i
    li a0, (PAGE_2 >> 2) | 0xcf
    li a1, ROOT_A + 0x2010
    sd a0, 0(a1)
    sfence.vma
    la s6, 9f
    li s2, -1
    li a0, HERE + 0xffe
    csrw mepc, a0
    li t0, 0x800
    csrs mstatus, t0
    mret
9:
    la s6, unexpected
    check s2, ECALL_FROM_SUPERVISOR
    check a0, 0x45
    # An atomic pair and a store-conditional under translation; the latter faults where it may not store.
    map ROOT_A, PAGE_1, 0xcf
    sfence.vma
    try SUPERVISOR
    lr.d a0, (s11)
    addi a0, a0, 1
    sc.d a1, a0, (s11)
    passed
    check a1, 0
    li a1, PAGE_1
    ld a2, 0(a1)
    check_equal a2, a0
    # cbo.zero is a store.
    map ROOT_A, PAGE_1, 0xc3
    sfence.vma
    li t0, 0x80
    csrw menvcfg, t0
    try SUPERVISOR
    cbo.zero (s11)
    trapped STORE_PAGE_FAULT, s11
    csrw menvcfg, zero
    # MPRV has no part in fetching, and U-mode's view has none of supervisor pages.
    map ROOT_A, PAGE_1, 0xcf
    sfence.vma
    la s6, 9f
    li s2, -1
    li t0, STATUS_MPP
    csrc mstatus, t0
    li t0, STATUS_MPRV
    csrs mstatus, t0
    nop
    ld a0, 0(s11)
9:
    la s6, unexpected
    li t0, STATUS_MPRV
    csrc mstatus, t0
    check s2, LOAD_PAGE_FAULT
    # With MPP M, MPRV changes nothing: physical.
    li t0, STATUS_MPRV | STATUS_MPP
    csrs mstatus, t0
    li a1, PAGE_3
    ld a0, 0(a1)
    li t0, STATUS_MPRV
    csrc mstatus, t0
    ld a2, 0(a1)
    check_equal a0, a2
    csrw satp, zero
    finish

# Builds a space at a1: root, middle for HERE at +0x1000, leaves at +0x2000.
build:
    mv a0, a1
    li a2, 0x4000
    add a2, a2, a0
1:
    sd zero, 0(a0)
    addi a0, a0, 8
    bne a0, a2, 1b
    # Gigabytes: 2 is the identity, 4 is the program for users.
    li a0, 0x200000cf
    sd a0, 16(a1)
    li a0, 0x200000df
    sd a0, 32(a1)
    li a2, 0x1000
    add a3, a1, a2
    srli a0, a3, 2
    ori a0, a0, 1
    sd a0, 8(a1)
    add a4, a3, a2
    srli a0, a4, 2
    ori a0, a0, 1
    sd a0, 0(a3)
    ret
