# Compressed instructions: loads, stores, jumps, branches, constants, and encodings that are illegal.

main:
    .option rvc
    la s1, data
    la a5, data + 64
    li a0, 0x1122334455667788
    # Memory through the eight registers of the short fields: every scaled offset bit.
.macro word_at offset
    c.sw a0, \offset(s1)
    lwu a2, \offset(s1)
    check a2, 0x55667788
    mv a3, s1
    c.lw a3, \offset(a3)
    check a3, 0x55667788
    sw zero, \offset(s1)
.endm
.macro double_at offset
    c.sd a0, \offset(s1)
    ld a2, \offset(s1)
    check_equal a2, a0
    c.ld a4, \offset(s1)
    check_equal a4, a0
    sd zero, \offset(s1)
.endm
    word_at 0
    word_at 4
    word_at 8
    word_at 16
    word_at 32
    word_at 64
    word_at 124
    double_at 0
    double_at 8
    double_at 16
    double_at 32
    double_at 64
    double_at 128
    double_at 248
    # c.lw sign-extends.
    li a2, 0x80000001
    c.sw a2, 12(s1)
    c.lw a3, 12(s1)
    check a3, 0xffffffff80000001
    # Off the stack pointer.
    mv s9, sp
    mv sp, s1
.macro stack_word offset
    c.swsp a0, \offset(sp)
    lwu a2, \offset(s1)
    check a2, 0x55667788
    c.lwsp s11, \offset(sp)
    check s11, 0x55667788
    sw zero, \offset(s1)
.endm
.macro stack_double offset
    c.sdsp a0, \offset(sp)
    ld a2, \offset(s1)
    check_equal a2, a0
    c.ldsp t4, \offset(sp)
    check_equal t4, a0
    sd zero, \offset(s1)
.endm
    stack_word 0
    stack_word 4
    stack_word 8
    stack_word 16
    stack_word 32
    stack_word 64
    stack_word 128
    stack_word 252
    stack_double 0
    stack_double 8
    stack_double 16
    stack_double 32
    stack_double 64
    stack_double 128
    stack_double 256
    stack_double 504
    # c.addi4spn and c.addi16sp.
.macro add_four offset
    c.addi4spn a4, sp, \offset
    addi a2, sp, \offset
    check_equal a4, a2
.endm
    add_four 4
    add_four 8
    add_four 16
    add_four 32
    add_four 64
    add_four 128
    add_four 256
    add_four 512
    add_four 1020
.macro add_sixteen offset
    c.addi16sp sp, \offset
    addi a2, s1, \offset
    check_equal sp, a2
    mv sp, s1
.endm
    add_sixteen 16
    add_sixteen 32
    add_sixteen 64
    add_sixteen 128
    add_sixteen 256
    add_sixteen 496
    add_sixteen -16
    add_sixteen -512
    mv sp, s9

    # Floating point.
    li t0, STATUS_FS
    csrs mstatus, t0
    fmv.d.x fa0, a0
    c.fsd fa0, 8(s1)
    ld a2, 8(s1)
    check_equal a2, a0
    c.fld fa1, 8(s1)
    fmv.x.d a2, fa1
    check_equal a2, a0
    c.fsd fa0, 240(s1)
    c.fld fs1, 240(s1)
    fmv.x.d a2, fs1
    check_equal a2, a0
    mv sp, s1
    c.fsdsp fa0, 264(sp)
    c.fldsp ft11, 264(sp)
    fmv.x.d a2, ft11
    check_equal a2, a0
    mv sp, s9

    # Constants and moves.
    c.li a2, 31
    check a2, 31
    c.li a2, -32
    check a2, -32
    c.li t3, 0
    check t3, 0
    c.lui a2, 1
    check a2, 0x1000
    c.lui a2, 31
    check a2, 0x1f000
    c.lui s10, 0xfffe0
    check s10, 0xfffffffffffe0000
    c.lui a2, 0xfffff
    check a2, 0xfffffffffffff000
    c.mv t4, a0
    check_equal t4, a0
    c.nop

    # Jumps and branches.
    c.j 1f
    li a2, 1
1:
    li a2, 0
    c.beqz a2, 1f
    li a2, 9
1:
    c.bnez a2, 1f
    li a3, 5
1:
    check a2, 0
    check a3, 5
    li a2, 7
    c.bnez a2, 1f
    li a3, 6
1:
    c.beqz a2, 1f
    addi a3, a3, 1
1:
    check a3, 6
    li a2, 3
    li a3, 0
1:
    addi a3, a3, 1
    addi a2, a2, -1
    c.bnez a2, 1b
    check a3, 3
    la a2, 1f
    c.jr a2
    li a3, 100
1:
    check a3, 3
    la a2, 1f
    c.jalr a2
2:
    c.j 3f
1:
    la a4, 2b
    check_equal ra, a4
    c.jr ra
3:
    # c.jalr through ra itself.
    la ra, 1f
    c.jalr ra
2:
    c.j failed_here
1:
    la a4, 2b
    check_equal ra, a4

    # Zcb memory.
    li a0, 0x8182838485868788
    c.sb a0, 3(s1)
    c.lbu a2, 3(s1)
    check a2, 0x88
    c.sh a0, 2(s1)
    c.lhu a2, 2(s1)
    check a2, 0x8788
    c.lh a2, 2(s1)
    check a2, 0xffffffffffff8788
    sd zero, 0(s1)
    c.sb a0, 1(s1)
    c.sb a0, 2(s1)
    c.sh a0, 0(s1)
    ld a2, 0(s1)
    check a2, 0x888788

    # Breakpoint, and what is reserved.
    try MACHINE
    c.ebreak
    trapped_with_any_value BREAKPOINT
    try MACHINE
    .half 0
    trapped ILLEGAL_INSTRUCTION, zero
    # c.addi4spn with zero, c.addiw to x0, c.lui of zero, c.addi16sp of zero, c.lwsp and c.ldsp to x0, c.jr of x0.
.macro reserved encoding
    try MACHINE
    .half \encoding
    trapped_with_any_value ILLEGAL_INSTRUCTION
    beqz s3, .Lzero\@
    check s3, \encoding
.Lzero\@:
.endm
    reserved 0x0004
    reserved 0x2005
    reserved 0x6601
    reserved 0x6101
    reserved 0x4002
    reserved 0x6002
    reserved 0x8002
    # Hints do nothing.
    li a2, 0x55
    # c.nop 5, c.li x0, c.mv x0, c.add x0, c.slli x0.
    .half 0x0015
    .half 0x4015
    .half 0x8032
    .half 0x9032
    .half 0x0016
    check a2, 0x55
    finish

failed_here:
    li a0, 1
    check a0, 0

    .balign 8
data:
    .zero 1024
