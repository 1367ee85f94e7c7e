# Physical memory protection: default, registers, modes of access, page tables, locked entries.

.equ PLACE, 0x80400000

main:
    li a1, PLACE
    # Everything is open through entry 0 (the prelude's).
    as_mode SUPERVISOR, 0
    allowed
    as_mode USER, 1
    allowed
    # Without a matching entry S and U may nothing, M everything.
    csrw pmpcfg0, zero
    sfence.vma
    as_mode SUPERVISOR, 0
    refused LOAD_ACCESS_FAULT
    as_mode SUPERVISOR, 1
    refused STORE_ACCESS_FAULT
    as_mode USER, 0
    refused LOAD_ACCESS_FAULT
    as_mode USER, 1
    refused STORE_ACCESS_FAULT
    as_mode MACHINE, 0
    allowed
    as_mode MACHINE, 1
    allowed
    # A change takes effect without a fence where there is no translation.
    li t0, 0x1f
    csrw pmpcfg0, t0
    sfence.vma
    as_mode USER, 0
    allowed
    # Rights one by one.
    li t0, 0x19
    csrw pmpcfg0, t0
    sfence.vma
    as_mode USER, 0
    allowed
    as_mode USER, 1
    refused STORE_ACCESS_FAULT
    li t0, 0x1c
    csrw pmpcfg0, t0
    sfence.vma
    as_mode SUPERVISOR, 0
    refused LOAD_ACCESS_FAULT
    try SUPERVISOR
    nop
    passed
    li t0, 0x1b
    csrw pmpcfg0, t0
    sfence.vma
    as_mode SUPERVISOR, 1
    allowed
    try SUPERVISOR
    nop
    ecall
9:
    la s6, unexpected
    check s2, INSTRUCTION_ACCESS_FAULT
    la a0, 8b
    check_equal s3, a0
    check_equal s4, a0
    # Atomics need both, and fault as stores; MXR does not make X readable here.
    li t0, 0x19
    csrw pmpcfg0, t0
    sfence.vma
    la s6, 9f
    li s2, -1
    li t0, STATUS_MPRV | STATUS_MXR
    csrs mstatus, t0
    amoadd.w a0, a0, (a1)
9:
    la s6, unexpected
    li t0, STATUS_MPRV
    csrc mstatus, t0
    check s2, STORE_ACCESS_FAULT
    li t0, 0x1c
    csrw pmpcfg0, t0
    sfence.vma
    as_mode SUPERVISOR, 0
    refused LOAD_ACCESS_FAULT
    li t0, STATUS_MXR
    csrc mstatus, t0

    # The registers: eight configurations each in pmpcfg0 and pmpcfg2; odd ones do not exist.
    li a0, 0x3fffffffffffff
    csrw pmpaddr5, a0
    csrr a2, pmpaddr5
    check_equal a2, a0
    csrw pmpaddr15, a0
    csrr a2, pmpaddr15
    check_equal a2, a0
    csrw pmpaddr5, zero
    csrw pmpaddr15, zero
    li a0, 0x1f1b19181f0f0b09
    csrw pmpcfg2, a0
    csrr a2, pmpcfg2
    check_equal a2, a0
    csrw pmpcfg2, zero
    try MACHINE
    csrr a0, 0x3a1
    illegal
    try MACHINE
    csrr a0, 0x3a3
    illegal

    # The lowest-numbered entry that matches decides: entry 0 without rights over a page, entry 1 over everything.
    li t0, (PLACE >> 2) | 0x1ff
    csrw pmpaddr0, t0
    li t0, -1
    csrw pmpaddr1, t0
    li t0, 0x1f18
    csrw pmpcfg0, t0
    sfence.vma
    as_mode SUPERVISOR, 0
    refused LOAD_ACCESS_FAULT
    li a1, PLACE + 4096
    as_mode SUPERVISOR, 0
    allowed
    li a1, PLACE - 8
    as_mode SUPERVISOR, 1
    allowed
    # An access that is half in is refused, whichever half.
    li a1, PLACE - 4
    as_mode SUPERVISOR, 0
    check s2, LOAD_ACCESS_FAULT
    # tval is the address of the part that is.
    check s3, PLACE
    li a1, PLACE
    li t0, 0x1f1f
    csrw pmpcfg0, t0
    sfence.vma
    li t0, 0x181f
    csrw pmpcfg0, t0
    sfence.vma
    as_mode USER, 0
    allowed

    # Page tables: reads of the tables are S-mode accesses to physical memory. An identity map of 1 GiB pages, whose
    # root lies in a page that an entry covers.
    li t0, 0x1f1f
    csrw pmpcfg0, t0
    li a2, PLACE
    li a3, 0x200000cf
    sd a3, 16(a2)
    li t0, 0x8000000000080400
    csrw satp, t0
    sfence.vma
    li a1, PLACE + 8192
    as_mode SUPERVISOR, 0
    allowed
    # No read of the table: an access fault of the kind of the access, with the virtual address.
    li t0, 0x1f18
    csrw pmpcfg0, t0
    sfence.vma
    as_mode SUPERVISOR, 0
    refused LOAD_ACCESS_FAULT
    as_mode SUPERVISOR, 1
    refused STORE_ACCESS_FAULT
    try SUPERVISOR
    nop
    ecall
9:
    la s6, unexpected
    check s2, INSTRUCTION_ACCESS_FAULT
    la a0, 8b
    check_equal s3, a0
    # Reading is enough as long as A and D are set; hardware updates need writing, too (which is tested apart).
    li t0, 0x1f19
    csrw pmpcfg0, t0
    sfence.vma
    as_mode SUPERVISOR, 1
    allowed
    li t0, 1
    slli t0, t0, 61
    csrs menvcfg, t0
    li a3, 0x2000004f
    sd a3, 16(a2)
    sfence.vma
    as_mode SUPERVISOR, 0
    allowed
    li t0, 0x1f1b
    csrw pmpcfg0, t0
    sfence.vma
    as_mode SUPERVISOR, 1
    allowed
    ld a4, 16(a2)
    li a3, 0x200000cf
    check_equal a4, a3
    # A translated access is checked at its physical address, with the rights of the mode.
    li t0, ((PLACE + 8192) >> 2) | 0x1ff
    csrw pmpaddr0, t0
    li t0, 0x1f19
    csrw pmpcfg0, t0
    sfence.vma
    as_mode SUPERVISOR, 0
    allowed
    as_mode SUPERVISOR, 1
    refused STORE_ACCESS_FAULT
    li a1, PLACE + 12288
    as_mode SUPERVISOR, 1
    allowed
    csrw satp, zero
    sfence.vma

    # Locked entries hold for M-mode, keep what they have until reset, and a locked TOR entry keeps the address below.
    # (Entries 8 to 11, so that the rest stays free.)
    li t0, (PLACE + 0x3000) >> 2
    csrw pmpaddr8, t0
    li t0, (PLACE + 0x4000) >> 2
    csrw pmpaddr9, t0
    li t0, ((PLACE + 0x5000) >> 2) | 0x1ff
    csrw pmpaddr10, t0
    csrw pmpcfg0, zero
    li t0, 0x988900
    csrw pmpcfg2, t0
    csrr a0, pmpcfg2
    check_equal a0, t0
    sfence.vma
    li a1, PLACE + 0x3000
    as_mode MACHINE, 0
    allowed
    as_mode MACHINE, 1
    refused STORE_ACCESS_FAULT
    as_mode SUPERVISOR, 0
    allowed
    li a1, PLACE + 0x4000
    as_mode MACHINE, 1
    allowed
    as_mode SUPERVISOR, 0
    refused LOAD_ACCESS_FAULT
    li a1, PLACE + 0x5000
    as_mode MACHINE, 0
    refused LOAD_ACCESS_FAULT
    as_mode MACHINE, 1
    refused STORE_ACCESS_FAULT
    # No execution there in M-mode either.
    try MACHINE
    jr a1
    ecall
9:
    la s6, unexpected
    check s2, INSTRUCTION_ACCESS_FAULT
    check_equal s3, a1
    # Nothing of it can be changed.
    csrr a2, pmpaddr8
    csrr a3, pmpaddr9
    csrr a4, pmpaddr10
    csrw pmpaddr8, zero
    csrw pmpaddr9, zero
    csrw pmpaddr10, zero
    csrr a0, pmpaddr8
    check_equal a0, a2
    csrr a0, pmpaddr9
    check_equal a0, a3
    csrr a0, pmpaddr10
    check_equal a0, a4
    li t0, 0x1f1f1f
    csrw pmpcfg2, t0
    csrr a0, pmpcfg2
    li a2, 0x98891f
    check_equal a0, a2
    csrw pmpcfg2, zero
    csrr a0, pmpcfg2
    li a2, 0x988900
    check_equal a0, a2
    # Not locked by a locked NAPOT neighbour.
    li t0, 0x1234
    csrw pmpaddr11, t0
    csrr a0, pmpaddr11
    check_equal a0, t0
    finish
