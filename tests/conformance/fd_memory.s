# Floating-point loads, stores and moves: boxing, alignment, every register.

main:
    li t0, STATUS_FS
    csrs mstatus, t0
    la s1, data
    li a0, 0x8123456789abcdef
    li a3, 0xffffffff89abcdef
    # Every register holds what is put into it, whole.
.macro hold register, number
    li a1, 0x1111111111111111 * \number + 1
    fmv.d.x \register, a1
    fsd \register, 8 * \number(s1)
.endm
.macro held register, number
    li a1, 0x1111111111111111 * \number + 1
    fmv.x.d a2, \register
    check_equal a2, a1
    ld a2, 8 * \number(s1)
    check_equal a2, a1
    fmv.d.x \register, zero
    fld \register, 8 * \number(s1)
    fmv.x.d a2, \register
    check_equal a2, a1
.endm
    hold f0, 0
    hold f1, 1
    hold f7, 7
    hold f8, 8
    hold f15, 15
    held f0, 0
    held f1, 1
    held f7, 7
    held f8, 8
    held f15, 15
    li a1, 16
    fmv.d.x f16, a1
    li a1, 31
    fmv.d.x f31, a1
    fmv.d.x f0, zero
    fmv.x.d a2, f16
    check a2, 16
    fmv.x.d a2, f31
    check a2, 31
    # Alignments, within a page and across.
.macro at_offset offset
    li a1, 0x80200000 + \offset
    sd a0, 0(a1)
    fld fa0, 0(a1)
    fmv.x.d a2, fa0
    check_equal a2, a0
    flw fa1, 0(a1)
    fmv.x.d a2, fa1
    check_equal a2, a3
    fmv.x.w a2, fa1
    check a2, 0xffffffff89abcdef
    sd zero, 0(a1)
    fsw fa0, 0(a1)
    ld a2, 0(a1)
    check a2, 0x89abcdef
    fsd fa1, 0(a1)
    ld a2, 0(a1)
    check_equal a2, a3
.endm
    at_offset 0
    at_offset 1
    at_offset 2
    at_offset 3
    at_offset 4
    at_offset 5
    at_offset 6
    at_offset 7
    at_offset 0xff9
    at_offset 0xffa
    at_offset 0xffc
    at_offset 0xffd
    at_offset 0xfff
    # fmv.w.x boxes the low half, fmv.x.w takes it, boxed or not.
    fmv.w.x fa0, a0
    fmv.x.d a2, fa0
    check_equal a2, a3
    li a1, 0x123456787fc00001
    fmv.d.x fa0, a1
    fmv.x.w a2, fa0
    check a2, 0x7fc00001
    # Moves and sign injection keep the payload of a boxed NaN; flags stay.
    fsflagsi 0
    li a1, 0xffffffff7f800001
    fmv.d.x fa0, a1
    fmv.s fa1, fa0
    fmv.x.d a2, fa1
    check_equal a2, a1
    fneg.s fa1, fa0
    fmv.x.d a2, fa1
    li a1, 0xffffffffff800001
    check_equal a2, a1
    fabs.s fa1, fa1
    fmv.x.d a2, fa1
    li a1, 0xffffffff7f800001
    check_equal a2, a1
    frflags a2
    check a2, 0
    # fcsr, frm, fflags are views of one register.
    li a1, 0xff
    csrw fcsr, a1
    csrr a2, fcsr
    check a2, 0xff
    csrr a2, frm
    check a2, 7
    csrr a2, fflags
    check a2, 31
    csrwi frm, 2
    csrr a2, fcsr
    check a2, 0x5f
    csrwi fflags, 9
    csrr a2, fcsr
    check a2, 0x49
    li a1, -1
    csrw fcsr, a1
    csrr a2, fcsr
    check a2, 0xff
    csrw frm, zero
    csrr a2, fcsr
    check a2, 31
    fsrm a2, zero
    check a2, 0
    fsflags a2, zero
    check a2, 31
    frcsr a2
    check a2, 0
    # A load that faults leaves its register alone.
    li a1, NOTHING
    li a2, 0x4242
    fmv.d.x fa5, a2
    try MACHINE
    fld fa5, 0(a1)
    trapped LOAD_ACCESS_FAULT, a1
    try MACHINE
    fsw fa5, 0(a1)
    trapped STORE_ACCESS_FAULT, a1
    fmv.x.d a2, fa5
    check a2, 0x4242
    finish

    .balign 8
data:
    .zero 256
