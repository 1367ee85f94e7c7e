# Load-reserved and store-conditional.

main:
    la s1, data
    la s9, data + 128
    li a1, 0x8000000180000001
    sd a1, 0(s1)
    # A pair succeeds and stores.
    lr.d a0, (s1)
    check_equal a0, a1
    li a2, 0x1122334455667788
    sc.d a0, a2, (s1)
    check a0, 0
    ld a0, 0(s1)
    check_equal a0, a2
    # The reservation is used up.
    sc.d a0, a1, (s1)
    sltu a0, x0, a0
    check a0, 1
    ld a0, 0(s1)
    check_equal a0, a2
    # Words: sign-extended, and the other half stays.
    sd a1, 0(s1)
    lr.w a0, (s1)
    check a0, 0xffffffff80000001
    sc.w a0, a2, (s1)
    check a0, 0
    ld a0, 0(s1)
    check a0, 0x8000000155667788
    addi a3, s1, 4
    lr.w.aq a0, (a3)
    check a0, 0xffffffff80000001
    sc.w.rl a0, zero, (a3)
    check a0, 0
    ld a0, 0(s1)
    check a0, 0x55667788
    # Without a reservation, nothing is stored.
    lr.w a0, (s9)
    sc.w a0, a2, (s9)
    sc.w a0, a1, (s1)
    sltu a0, x0, a0
    check a0, 1
    ld a0, 0(s1)
    check a0, 0x55667788
    # A reservation elsewhere does not serve.
    lr.d a0, (s9)
    sc.d a0, a1, (s1)
    sltu a0, x0, a0
    check a0, 1
    ld a0, 0(s1)
    check a0, 0x55667788
    # And that store-conditional has used it up.
    sc.d a0, a1, (s9)
    sltu a0, x0, a0
    check a0, 1
    # The newest reservation counts.
    lr.d a0, (s9)
    lr.d a0, (s1)
    sc.d a0, a1, (s1)
    check a0, 0
    ld a0, 0(s1)
    check_equal a0, a1
    # A store to the reserved place in between that changes it: what the pair is about.
    lr.d.aqrl a0, (s1)
    addi a3, a1, 1
    sd a3, 0(s1)
    sc.d.aqrl a0, a2, (s1)
    # (A hart's own store may leave the reservation; then the pair succeeds.)
    sltiu a4, a0, 2
    check a4, 1
    # The same register as value, address and destination.
    lr.d a0, (s1)
    mv a3, s1
    sc.d a3, a3, (a3)
    check a3, 0
    ld a0, 0(s1)
    check_equal a0, s1
    lr.d s9, (s1)
    check_equal s9, s1
    sc.d x0, a1, (s1)
    ld a0, 0(s1)
    check_equal a0, a1
    sub a5, a5, a5
    mv a4, x0
    check_equal a4, a5
    # A loop that adds.
    sd zero, 0(s1)
    li a3, 1000
1:
    lr.d a0, (s1)
    addi a0, a0, 3
    sc.d a2, a0, (s1)
    bnez a2, 1b
    addi a3, a3, -1
    bnez a3, 1b
    ld a0, 0(s1)
    check a0, 3000
    finish

    .balign 64
data:
    .zero 256
