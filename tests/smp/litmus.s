# What every litmus test runs on: a number of harts in M-mode that go through an array of instances of the test, all at
# the same time, batch after batch. HARTS, BATCHES, INSTANCES (a power of two, at least 32) and SEED are defined in front
# of it; behind it come the test's `body_0`, `body_1`, … and `reset_more`.
#
# An instance has the variables x, y and z at distances 0, 64 and 128, each in a cache line of its own and zero at first,
# and room for code at 192. A body is called with a0 at the first instance, s5 instances to do, s6 at the bytes for their
# results, t1 = 1, t2 = 2.
#
# The outcome of an instance is a number of twenty bits: four for each hart (two results of two bits each), then two of x
# and two of y as they are at the end. The word of the histogram with that number counts it. The program ends through the
# test finisher.
#
# In every second batch harts wait for each other, a little, at each instance: so they overlap even where a busy host
# lets them begin far apart. In the others they run freely.
#
#   s0  hart           s2  arrivals that the next barrier waits for
#   s1  batches left   s3  random number
#   sp  instances done in step, at tp; the next hart's are at gp; s4 is how often to look there

.equ STRIDE, 256
.equ HISTOGRAM, 0x81000000
# Most that the start of a batch differs between harts, in instances.
.equ SKEW, 31
# How often a hart looks whether the next one has come to the same instance.
.equ LOOKS, 40

# Where an instance begins: together, but for a random number of instructions.
.macro begin
    beqz s4, .Lfree\@
    addi sp, sp, 1
    sd sp, 0(tp)
    mv a3, s4
.Llook\@:
    ld a4, 0(gp)
    bgeu a4, sp, .Lmet\@
    addi a3, a3, -1
    bnez a3, .Llook\@
.Lmet\@:
    li a3, 0x5851f42d4c957f2d
    mul s3, s3, a3
    addi s3, s3, 1405
    srli a3, s3, 60
.Llater\@:
    addi a3, a3, -1
    bgez a3, .Llater\@
.Lfree\@:
.endm

    .option norelax
start:
    csrr s0, mhartid
    li t0, HARTS
    bgeu s0, t0, park
    li s1, BATCHES
    li s2, 0
    addi t0, s0, SEED
    li s3, 0x9e3779b97f4a7c15
    mul s3, s3, t0
    li sp, 0
    la tp, progress
    slli t0, s0, 7
    addi t1, s0, 1
    li t2, HARTS
    remu t1, t1, t2
    slli t1, t1, 7
    add gp, tp, t1
    add tp, tp, t0
batch:
    jal reset
    jal barrier
    # Begin somewhere near the start, and do what is before it at the end.
    li t0, 0x5851f42d4c957f2d
    mul s3, s3, t0
    addi s3, s3, 1405
    srli s7, s3, 50
    andi s7, s7, SKEW
    andi s4, s1, 1
    beqz s4, 1f
    # Then they begin at the same one.
    li s4, LOOKS
    li s7, 0
1:
    la s8, instances
    slli t0, s7, 8
    add a0, s8, t0
    la s9, results
    li t0, INSTANCES
    mul t0, t0, s0
    add s9, s9, t0
    add s6, s9, s7
    li s5, INSTANCES
    sub s5, s5, s7
    jal body
    mv a0, s8
    mv s6, s9
    mv s5, s7
    beqz s5, 1f
    jal body
1:
    # Nobody waits for this hart any more.
    li t0, -1
    sd t0, 0(tp)
    jal barrier
    sd sp, 0(tp)
    bnez s0, 1f
    jal tally
1:
    jal barrier
    addi s1, s1, -1
    bnez s1, batch
    bnez s0, park
    li t0, 0x5555
    li t1, 0x100000
    sw t0, 0(t1)
park:
    wfi
    j park

# Calls this hart's body.
body:
    la t0, bodies
    slli t1, s0, 3
    add t0, t0, t1
    ld t0, 0(t0)
    li t1, 1
    li t2, 2
    jr t0

# The last hart writes x, hart 0 the others: so stores to x and y find their cache lines elsewhere.
reset:
    mv s10, ra
    li t0, HARTS - 1
    bne s0, t0, 2f
    la a0, instances
    li t0, INSTANCES
1:
    sd zero, 0(a0)
    addi a0, a0, STRIDE
    addi t0, t0, -1
    bnez t0, 1b
2:
    bnez s0, 3f
    la a0, instances
    li t0, INSTANCES
1:
    sd zero, 64(a0)
    sd zero, 128(a0)
    jal reset_more
    addi a0, a0, STRIDE
    addi t0, t0, -1
    bnez t0, 1b
3:
    jr s10

# Waits until all harts have come here.
barrier:
    addi s2, s2, HARTS
    la t0, arrived
    li t1, 1
    amoadd.d.aqrl zero, t1, (t0)
    li t2, 300
1:
    ld t1, 0(t0)
    bgeu t1, s2, 2f
    addi t2, t2, -1
    bnez t2, 1b
    # Maybe another hart waits for this host core.
    pause
    li t2, 20
    j 1b
2:
    fence rw, rw
    ret

tally:
    la a0, instances
    la a1, results
    li a2, INSTANCES
    li a3, HISTOGRAM
1:
    li t0, 0
    li t3, 0
    mv t4, a1
    .rept HARTS
    lbu t1, 0(t4)
    sll t1, t1, t3
    or t0, t0, t1
    addi t3, t3, 4
    li t1, INSTANCES
    add t4, t4, t1
    .endr
    lbu t1, 0(a0)
    andi t1, t1, 3
    slli t1, t1, 16
    or t0, t0, t1
    lbu t1, 64(a0)
    andi t1, t1, 3
    slli t1, t1, 18
    or t0, t0, t1
    slli t0, t0, 2
    add t0, t0, a3
    lw t1, 0(t0)
    addi t1, t1, 1
    sw t1, 0(t0)
    addi a0, a0, STRIDE
    addi a1, a1, 1
    addi a2, a2, -1
    bnez a2, 1b
    ret

    .balign 64
arrived:
    .dword 0
    .balign 128
progress:
    .zero 512
    .balign 4096
results:
    .zero 4 * INSTANCES
    .balign 4096
instances:
    .zero INSTANCES * STRIDE
