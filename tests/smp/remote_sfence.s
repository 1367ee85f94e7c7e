# Each hart changes where a page of its own leads, has all harts forget the old way, and tells them how often it has.
# Whoever has heard of a change must not see what was before it.

.equ WINDOW, 0x40000000
.equ ALL, (1 << HARTS) - 1

main:
    # Root: the window, and the third gigabyte as it is.
    la t0, level2
    la t1, level1
    srli t1, t1, 12
    slli t1, t1, 10
    ori t1, t1, 1
    sd t1, 8(t0)
    li t1, 0x200000cf
    sd t1, 16(t0)
    la t0, level1
    la t1, level0
    srli t1, t1, 12
    slli t1, t1, 10
    ori t1, t1, 1
    sd t1, 0(t0)
    la t0, level0
    la t1, pages
    srli t1, t1, 12
    slli t1, t1, 10
    ori t1, t1, 0xc7
    li t2, HARTS
1:
    sd t1, 0(t0)
    addi t0, t0, 8
    # Two pages each.
    addi t1, t1, 2 << 10 >> 1
    addi t1, t1, 2 << 10 >> 1
    addi t2, t2, -1
    bnez t2, 1b
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
    andi t0, s1, 1
    slli t1, s0, 1
    add t0, t0, t1
    slli t0, t0, 12
    la t1, pages
    add t0, t0, t1
    sd s1, 0(t0)
    srli t0, t0, 12
    slli t0, t0, 10
    ori t0, t0, 0xc7
    la t1, level0
    slli t2, s0, 3
    add t1, t1, t2
    fence w, w
    sd t0, 0(t1)
    # By address, and from time to time without, or for all address spaces.
    li a0, ALL
    li a1, 0
    li a2, WINDOW
    slli t0, s0, 12
    add a2, a2, t0
    li a3, 4096
    andi t0, s1, 15
    bnez t0, 1f
    li a2, 0
    li a3, 0
1:
    sbi_ok SBI_RFENCE, 1
    fence rw, w
    la t0, generations
    slli t1, s0, 6
    add t0, t0, t1
    sd s1, 0(t0)
    # What the others have.
    li s2, 0
2:
    la s3, generations
    slli t0, s2, 6
    add s3, s3, t0
    li s4, WINDOW
    slli t0, s2, 12
    add s4, s4, t0
    li t5, 8
3:
    ld t0, 0(s3)
    fence r, r
    ld t1, 0(s4)
    bltu t1, t0, failed
    addi t5, t5, -1
    bnez t5, 3b
    addi s2, s2, 1
    li t0, HARTS
    bltu s2, t0, 2b
    li t0, ROUNDS
    bltu s1, t0, round
    j done

    .balign 4096
level2:
    .zero 4096
level1:
    .zero 4096
level0:
    .zero 4096
pages:
    .zero 2 * 4096 * HARTS
generations:
    .zero 64 * HARTS
    .balign 4096
image_end:
