# Jumps, upper immediates, x0, fences, hints; code that writes code.

main:
    # lui and auipc sign-extend from bit 31.
    lui a0, 0x80000
    check a0, 0xffffffff80000000
    lui a0, 0x7ffff
    check a0, 0x7ffff000
    lui a0, 0
    check a0, 0
    lui x0, 0x12345
    sub a5, a5, a5
    mv a4, x0
    check_equal a4, a5
1:
    auipc a0, 0
    la a1, 1b
    check_equal a0, a1
1:
    auipc a0, 0x80000
    la a1, 1b
    li a2, 0xffffffff80000000
    add a1, a1, a2
    check_equal a0, a1
1:
    auipc a0, 1
    la a1, 1b
    li a2, 4096
    add a1, a1, a2
    check_equal a0, a1

    # jal links the next instruction, forwards and backwards.
    jal a0, 2f
1:
    j 3f
2:
    la a1, 1b
    check_equal a0, a1
    jal a0, 1b
3:
    la a1, 3b
    check_equal a0, a1
    jal x0, 1f
1:
    sub a5, a5, a5
    mv a4, x0
    check_equal a4, a5

    # jalr: the target is computed before the link is written; the lowest bit is dropped.
    la a0, 1f
    jalr a0, 0(a0)
2:
    j failed_jump
1:
    la a1, 2b
    check_equal a0, a1
    la a0, 1f
    addi a0, a0, 2047
    jalr a1, -2047(a0)
    j failed_jump
1:
    la a0, 1f
    addi a0, a0, -2047
    jalr a1, 2047(a0)
    j failed_jump
1:
    la a0, 1f + 1
    jalr x0, 0(a0)
    j failed_jump
1:
    la a0, 1f
    jalr a1, 1(a0)
    j failed_jump
1:
    sub a5, a5, a5
    mv a4, x0
    check_equal a4, a5

    # A long backward and forward branch.
    li a0, 0
    beqz a0, far
near:
    addi a0, a0, 1
    check a0, 2
    j over
    .zero 3600
far:
    addi a0, a0, 1
    bnez a0, near
    j failed_jump
over:
    # Every register holds what is put into it.
.macro hold register
    li \register, 0x123456789abcdef0
    mv t5, \register
    li t6, 0x123456789abcdef0
    addi gp, gp, 1
    beq t5, t6, .Lheld\@
    jal ra, failed
.Lheld\@:
.endm
    hold ra
    mv a1, sp
    hold sp
    mv sp, a1
    hold tp
    hold t0
    hold t1
    hold t2
    hold s0
    hold s1
    hold a0
    hold a1
    hold a2
    hold a3
    hold a4
    hold a5
    hold a6
    hold a7
    hold s8
    hold s9
    hold s10
    hold s11
    hold t3
    hold t4
    li s8, 0
    # x1 to x31 at once, against mixed-up indices: each plus one.
    li a0, 10
    li a1, 11
    li a2, 12
    li a3, 13
    li t3, 28
    li s11, 27
    add t4, a0, s11
    check t4, 37
    sub t4, t3, a1
    check t4, 17
    add t4, a2, a3
    check t4, 25

    # Fences and hints change nothing.
    li a0, 0x77
    fence
    fence rw, w
    fence.tso
    fence.i
    pause
    ori x0, a0, 3
    lui x0, 1
    slti x0, a0, 3
    check a0, 0x77
    # Reserved fields of fences are ignored.
    .word 0x5fff8f8f
    .word 0xffff9f8f
    check a0, 0x77

    # Code that changes itself, seen after fence.i; many times at one place.
    la a1, patch
    li s9, 0
1:
    # li a0, s9
    slli a2, s9, 20
    ori a2, a2, 0x513
    sw a2, 0(a1)
    fence.i
    jal ra, patch
    check_equal a0, s9
    addi s9, s9, 7
    li t0, 210
    blt s9, t0, 1b
    # One byte of it, and by an atomic.
    li a2, 0x12300513
    sw a2, 0(a1)
    fence.i
    jal ra, patch
    check a0, 0x123
    li a2, 0x45
    sb a2, 3(a1)
    fence.i
    jal ra, patch
    check a0, 0x453
    li a2, 0x67800513
    amoswap.w a2, a2, (a1)
    fence.i
    jal ra, patch
    check a0, 0x678
    # The instruction behind the fence itself.
    la a1, 1f
    li a2, 0x00100513
    li a0, 0
    sw a2, 0(a1)
    fence.i
1:
    .word 0x00200513
    check a0, 1

    # At the end of a page, and across it.
    li a1, 0x80200ff8
    li a2, 0x00100513
    sw a2, 0(a1)
    li a2, 0x00250513
    sw a2, 4(a1)
    li a2, 0x00008067
    sw a2, 8(a1)
    fence.i
    jalr ra, 0(a1)
    check a0, 3
    li a1, 0x80201ffa
    li a2, 0x00100513
    sh a2, 0(a1)
    srli a2, a2, 16
    sh a2, 2(a1)
    li a2, 0x00450513
    sh a2, 4(a1)
    srli a2, a2, 16
    sh a2, 6(a1)
    li a2, 0x00008067
    sh a2, 8(a1)
    sh zero, 10(a1)
    fence.i
    jalr ra, 0(a1)
    check a0, 5
    # Its second half changes.
    li a2, 0x0085
    sh a2, 6(a1)
    fence.i
    jalr ra, 0(a1)
    check a0, 9
    finish

failed_jump:
    li a0, 1
    check a0, 0

    .balign 4
patch:
    .word 0
    ret
