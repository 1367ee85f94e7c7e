# Each hart rewrites a function of its own, has all harts fence their instruction fetches, and tells them how often it
# has. Whoever has heard of a change must not run what was before it. All functions share a page, so that some hart is
# always running code of a page that another writes to; the page is reached by two ways, so that writes and fetches use
# TLB entries of their own.

.equ ALL, (1 << HARTS) - 1
.equ FAR, 0x40000000

main:
    la t0, level2
    li t1, 0x200000cf
    sd t1, 8(t0)
    sd t1, 16(t0)
    fence rw, rw
    jal start_others
secondary:
    la t0, level2
    srli t0, t0, 12
    li t1, 8 << 60
    or t0, t0, t1
    csrw satp, t0
    sfence.vma
    li s1, 0
round:
    addi s1, s1, 1
    # addi a0, zero, round
    slli t0, s1, 20
    addi t0, t0, 0x513
    la t1, functions
    li t2, FAR
    sub t1, t1, t2
    slli t2, s0, 6
    add t1, t1, t2
    sw t0, 0(t1)
    # Lose the way to write there, at times before anybody can have asked for it.
    andi t0, s1, 3
    bnez t0, 1f
    sfence.vma t1, zero
1:
    li a0, ALL
    li a1, 0
    sbi_ok SBI_RFENCE, 0
    fence rw, w
    la t0, generations
    slli t1, s0, 6
    add t0, t0, t1
    sd s1, 0(t0)
    li s2, 0
2:
    la t0, generations
    slli t1, s2, 6
    add t0, t0, t1
    ld s3, 0(t0)
    fence r, r
    la t0, functions
    slli t1, s2, 6
    add t0, t0, t1
    jalr ra, 0(t0)
    bltu a0, s3, failed
    addi s2, s2, 1
    li t0, HARTS
    bltu s2, t0, 2b
    li t0, ROUNDS
    bltu s1, t0, round
    j done

generations:
    .zero 64 * HARTS
    .balign 4096
functions:
    .rept HARTS
    .word 0x00000513
    .word 0x00008067
    .zero 56
    .endr
    .balign 4096
level2:
    .zero 4096
image_end:
