# Counters go on, and time is the board's.

main:
    # mcycle and cycle go on and never back.
    csrr a0, mcycle
    csrr a1, cycle
    sltu a2, a1, a0
    check a2, 0
    csrr a2, mcycle
    sltu a3, a0, a2
    check a3, 1

    # time cannot be inhibited.
    csrwi mcountinhibit, 2
    csrr a0, mcountinhibit
    check a0, 0

    # time is mtime.
    li a3, MTIME
    ld a0, 0(a3)
    csrr a1, time
    ld a2, 0(a3)
    sltu a4, a1, a0
    check a4, 0
    sltu a4, a2, a1
    check a4, 0
    # And moves.
    csrr a0, time
1:
    csrr a1, time
    beq a0, a1, 1b
    sltu a2, a0, a1
    check a2, 1
    finish
