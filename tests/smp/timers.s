# Every hart sets its timer again and again, to later and to nearer times, and sleeps until it rings: not before its
# time, and always.

main:
    li a0, 0
    jal start_others
secondary:
    li s1, 0
    addi s2, s0, 1
    li t0, 0x9e3779b97f4a7c15
    mul s2, s2, t0
    li t0, 32
    csrw sie, t0
round:
    addi s1, s1, 1
    li t0, 0x5851f42d4c957f2d
    mul s2, s2, t0
    addi s2, s2, 1405
    # A time far away that is not waited for, and one soon: up to 0.2 ms.
    rdtime s3
    srli t0, s2, 40
    add t0, t0, s3
    csrw stimecmp, t0
    srli t0, s2, 53
    add s3, s3, t0
    csrw stimecmp, s3
1:
    wfi
    csrr t0, sip
    andi t0, t0, 32
    beqz t0, 1b
    rdtime t0
    bltu t0, s3, failed
    li t0, ROUNDS
    bltu s1, t0, round
    j done
    .balign 4096
image_end:
