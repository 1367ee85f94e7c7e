# Instructions counted exactly, writes, inhibition, events. (QEMU counts the instruction that writes a counter, and
# without -icount host time.)

main:
    # minstret counts what retires: three instructions between the reads, and the first read.
    csrr a0, minstret
    nop
    nop
    nop
    csrr a1, minstret
    sub a0, a1, a0
    check a0, 4
    # A written value is what the next instruction reads.
    li a2, 0x1000
    csrw minstret, a2
    csrr a0, minstret
    check a0, 0x1000
    csrw minstret, a2
    nop
    csrr a0, minstret
    check a0, 0x1001
    li a2, -2
    csrw minstret, a2
    nop
    nop
    csrr a0, minstret
    check a0, 0
    # instret is the same counter.
    csrr a0, minstret
    csrr a1, instret
    sub a0, a1, a0
    check a0, 1
    # An instruction that traps, ecall included, does not retire.
    csrr a0, minstret
    la s6, 1f
    ecall
1:
    csrr a1, minstret
    sub a3, a1, a0
    # la is two instructions; the handler: bnez, four reads, jr.
    la s6, 2f
    csrr a0, minstret
    ecall
2:
    csrr a1, minstret
    sub a4, a1, a0
    check a4, 7
    addi a3, a3, -2
    check a3, 7
    la s6, 2f
    csrr a0, minstret
    .word 0
2:
    csrr a1, minstret
    sub a4, a1, a0
    check a4, 7
    la s6, unexpected
    # A loop, taken branches included.
    li a2, 1000
    csrr a0, minstret
1:
    addi a2, a2, -1
    bnez a2, 1b
    csrr a1, minstret
    sub a0, a1, a0
    check a0, 2001

    # Inhibited, minstret stands; without it goes on from there. (mcycle likewise.)
    csrwi mcountinhibit, 5
    csrr a0, mcountinhibit
    check a0, 5
    csrr a0, minstret
    csrr a2, mcycle
    nop
    nop
    csrr a1, minstret
    csrr a3, mcycle
    check_equal a0, a1
    check_equal a2, a3
    li a2, 0x4242
    csrw minstret, a2
    csrr a0, minstret
    check a0, 0x4242
    csrwi mcountinhibit, 0
    nop
    csrr a0, minstret
    sltiu a1, a0, 0x100
    check a1, 0
    addi a0, a0, -0x242
    li a1, 0x4000
    sub a0, a0, a1
    sltiu a0, a0, 8
    check a0, 1

    # Events 6 and 7, exceptions and interrupts taken; 2, instructions; 0, nothing; unknown ones are none.
    li a0, 6
    csrw mhpmevent3, a0
    li a0, 7
    csrw mhpmevent4, a0
    li a0, 2
    csrw mhpmevent31, a0
    csrr a0, mhpmevent3
    check a0, 6
    li a0, 999
    csrw mhpmevent5, a0
    csrr a0, mhpmevent5
    check a0, 0
    csrw mhpmcounter3, zero
    csrw mhpmcounter4, zero
    csrw mhpmcounter5, zero
    la s6, 1f
    ecall
1:
    la s6, 1f
    .word 0
1:
    la s6, 1f
    csrwi mie, 2
    csrwi mip, 2
    csrsi mstatus, STATUS_MIE
    nop
1:
    csrwi mip, 0
    csrwi mie, 0
    la s6, unexpected
    csrr a0, mhpmcounter3
    check a0, 2
    csrr a0, mhpmcounter4
    check a0, 1
    csrr a0, mhpmcounter5
    check a0, 0
    csrw mhpmcounter31, zero
    nop
    nop
    csrr a0, hpmcounter31
    check a0, 2
    # An inhibited one stands.
    li a0, 8
    csrw mcountinhibit, a0
    la s6, 1f
    ecall
1:
    la s6, unexpected
    csrr a0, mhpmcounter3
    check a0, 2
    csrwi mcountinhibit, 0
    finish
