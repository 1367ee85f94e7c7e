# Pointer masking in each mode itself, without MPRV or MXR (see pointer_masking for these): who is masked by which
# register, by how many bits, physically and virtually, and what a fault tells.

.equ PLACE, 0x80400000
.equ ROOT, 0x80800000

.macro masking register, pmm
    li t6, \pmm
    slli t6, t6, 32
    csrw \register, t6
.endm

# A load and a store at a1 in a mode, both done.
.macro both_pass mode
    li a0, 0
    try \mode
    ld a0, 0(a1)
    sd a0, 8(a1)
    ecall
9:
    la s6, unexpected
    check s2, 8 + \mode
    check_equal a0, a3
.endm

# A load at a1 that fails, and a store; tval is a2.
.macro both_fail mode, load, store
    try \mode
    ld a0, 0(a1)
    trapped \load, a2
    try \mode
    sd a0, 0(a1)
    trapped \store, a2
.endm

main:
    li a2, PLACE
    li a3, 0x1122334455667788
    sd a3, 0(a2)
    # S-mode.
    masking menvcfg, 3
    li a1, 0xffff000080400000
    both_pass SUPERVISOR
    masking menvcfg, 2
    li a2, 0x01ff000080400000
    both_fail SUPERVISOR, LOAD_ACCESS_FAULT, STORE_ACCESS_FAULT
    mv a2, a1
    both_fail USER, LOAD_ACCESS_FAULT, STORE_ACCESS_FAULT
    masking menvcfg, 0
    # U-mode.
    masking senvcfg, 3
    both_pass USER
    li a2, 0xffff000080400000
    both_fail SUPERVISOR, LOAD_ACCESS_FAULT, STORE_ACCESS_FAULT
    masking senvcfg, 2
    li a1, 0xaa00000080400000
    both_pass USER
    masking senvcfg, 0
    mv a2, a1
    both_fail USER, LOAD_ACCESS_FAULT, STORE_ACCESS_FAULT

    # Sv39: RAM at its own address and at the top for the supervisor, and at 0x40000000 for the user.
    li a2, ROOT
    li t0, 0x200000cf
    sd t0, 16(a2)
    li t1, ROOT + 4088
    sd t0, 0(t1)
    li t0, 0x200000df
    sd t0, 8(a2)
    li t0, 0x8000000000080800
    csrw satp, t0
    sfence.vma
    masking menvcfg, 2
    li a1, 0x01ffffffc0400000
    both_pass SUPERVISOR
    li a1, 0xfeffffffc0400000
    li a2, 0x00ffffffc0400000
    both_fail SUPERVISOR, LOAD_PAGE_FAULT, STORE_PAGE_FAULT
    masking menvcfg, 3
    li a1, 0x1234ffffc0400000
    both_pass SUPERVISOR
    li a1, 0x12347fff80400000
    li a2, 0x00007fff80400000
    both_fail SUPERVISOR, LOAD_PAGE_FAULT, STORE_PAGE_FAULT
    masking menvcfg, 0
    li a1, 0x1234ffffc0400000
    mv a2, a1
    both_fail SUPERVISOR, LOAD_PAGE_FAULT, STORE_PAGE_FAULT
    masking senvcfg, 2
    li s8, -0x40000000
    li a1, 0xfe00000040400000
    both_pass USER
    li a1, 0xfe00000080400000
    li a2, 0x0000000080400000
    both_fail USER, LOAD_PAGE_FAULT, STORE_PAGE_FAULT
    # Not for fetches.
    li a1, 0xfe00000040400000
    try USER
    jr a1
    ecall
9:
    la s6, unexpected
    check s2, INSTRUCTION_PAGE_FAULT
    check_equal s3, a1
    csrw satp, zero
    sfence.vma
    li s8, 0
    # M-mode. (Last: once set, QEMU's mseccfg.PMM stays.)
    li a1, 0xfe00000080400000
    mv a2, a1
    both_fail MACHINE, LOAD_ACCESS_FAULT, STORE_ACCESS_FAULT
    masking mseccfg, 2
    both_pass MACHINE
    li a1, 0xff00000080400000
    li a2, 0x0100000080400000
    both_fail MACHINE, LOAD_ACCESS_FAULT, STORE_ACCESS_FAULT
    masking mseccfg, 3
    both_pass MACHINE
    finish
