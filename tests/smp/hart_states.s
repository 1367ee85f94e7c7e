# Hart 0 starts all others, which check what they are started with and stop; in every second round they suspend
# themselves first, retaining their registers or not, until an interrupt of hart 0 ends that.

main:
    li s2, 0
round:
    addi s2, s2, 1
    la t0, arrived
    sw zero, 0(t0)
    mv a0, s2
    jal start_others
    andi t0, s2, 1
    bnez t0, 3f
    # Every hart suspends itself.
    li s3, 1
1:
    li t0, HARTS
    bgeu s3, t0, 3f
    mv a0, s3
    sbi_ok SBI_HSM, 2
    li t0, HART_SUSPENDED
    beq a1, t0, 2f
    pause
    j 1b
2:
    li a0, 1
    mv a1, s3
    sbi_ok SBI_IPI, 0
    addi s3, s3, 1
    j 1b
3:
    la t0, arrived
    li t1, HARTS - 1
4:
    lw t2, 0(t0)
    bgtu t2, t1, failed
    pause
    bne t2, t1, 4b
    # Started harts are not started again; all stop.
    li s3, 1
5:
    li t0, HARTS
    bgeu s3, t0, 6f
    mv a0, s3
    sbi_ok SBI_HSM, 2
    li t0, HART_STOPPED
    mv t1, a1
    bne t1, t0, 5b
    addi s3, s3, 1
    j 5b
6:
    li t0, ROUNDS
    bltu s2, t0, round
    # Refused: a hart that runs, one that does not exist, an address without memory.
    li a0, 0
    la a1, started
    sbi SBI_HSM, 0
    addi a0, a0, 6
    bnez a0, failed
    li a0, HARTS
    la a1, started
    sbi SBI_HSM, 0
    addi a0, a0, 3
    bnez a0, failed
    j succeeded

secondary:
    # a1 is the round, in s1; the state is that of a hart that starts.
    bnez s1, 1f
    j failed
1:
    csrr t0, satp
    bnez t0, failed
    csrr t0, sstatus
    andi t0, t0, 2
    bnez t0, failed
    csrr t0, sip
    andi t0, t0, 2
    bnez t0, failed
    andi t0, s1, 1
    bnez t0, arrive
    csrwi sie, 2
    andi t0, s1, 2
    beqz t0, 2f
    # Retentive.
    addi s4, s0, 77
    li a0, 0
    sbi_ok SBI_HSM, 3
    addi s4, s4, -77
    bne s4, s0, failed
    j woken
2:
    li a0, 0x80000000
    la a1, resumed
    addi a2, s0, 99
    sbi SBI_HSM, 3
    j failed
resumed:
    addi a1, a1, -99
    bne a0, a1, failed
woken:
    csrr t0, sip
    andi t0, t0, 2
    beqz t0, failed
    csrci sip, 2
arrive:
    la t0, arrived
    li t1, 1
    amoadd.w zero, t1, (t0)
    sbi SBI_HSM, 1
    j failed

arrived:
    .word 0
    .balign 4096
image_end:
