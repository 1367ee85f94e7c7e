# An interrupt goes round: each hart sleeps until it comes, and sends it on. One that is lost ends the journey.

main:
    li a0, 0
    jal start_others
    jal prepare
    # Until all others are ready.
    la t0, ready
    li t1, HARTS
1:
    lw t2, 0(t0)
    pause
    bne t2, t1, 1b
    li s2, 0
    j send
secondary:
    jal prepare
    li s2, 0
sleep:
    wfi
    csrr t0, sip
    andi t0, t0, 2
    beqz t0, sleep
    csrci sip, 2
    addi s2, s2, 1
    li t0, ROUNDS
    bltu s2, t0, send
    beqz s0, succeeded
send:
    li a0, 1
    addi a1, s0, 1
    li t0, HARTS
    bltu a1, t0, 1f
    li a1, 0
1:
    sbi_ok SBI_IPI, 0
    j sleep

prepare:
    csrwi sie, 2
    la t0, ready
    li t1, 1
    amoadd.w.aqrl zero, t1, (t0)
    ret

ready:
    .word 0
    .balign 4096
image_end:
