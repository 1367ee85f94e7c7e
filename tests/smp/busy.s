# Every hart computes, loads and stores in memory of its own without end, and counts its rounds.

main:
    li a0, 0
    jal start_others
secondary:
    la s1, memory
    slli t0, s0, 13
    add s1, s1, t0
    li s2, 0
round:
    li t0, 512
    mv t1, s1
1:
    ld t2, 0(t1)
    add t2, t2, t0
    xor t3, t3, t2
    sd t2, 0(t1)
    addi t1, t1, 8
    addi t0, t0, -1
    bnez t0, 1b
    addi s2, s2, 1
    j round

    .balign 4096
memory:
    .zero 8192 * HARTS
image_end:
