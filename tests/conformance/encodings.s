# Encodings: every instruction with operands that tell its fields apart, beside the encoding that another assembler
# gives it. Programs whose assembler and decoder share a table would not notice two fields exchanged in both.

main:
    la s0, words
    la s1, words_end
    la s9, word_encodings
1:
    lwu a0, 0(s0)
    lwu a1, 0(s9)
    check_equal a0, a1
    addi s0, s0, 4
    addi s9, s9, 4
    bne s0, s1, 1b
    la s0, halves
    la s1, halves_end
    la s9, half_encodings
1:
    lhu a0, 0(s0)
    lhu a1, 0(s9)
    check_equal a0, a1
    addi s0, s0, 2
    addi s9, s9, 2
    bne s0, s1, 1b
    finish

# None of these is executed.
    .balign 4
    .option push
    .option norvc
words:
    lui s3, 0xabcde
    auipc t5, 0x12345
    jal s7, . + 0x5a5a4
    jal x0, . - 0xa5a5c
    jalr t4, -1365(s5)
    beq s2, t1, . + 0xaa4
    bne a7, s10, . - 0x556
    blt t6, a0, . + 0x34e
    bge s1, s8, . - 0x8b2
    bltu a3, t2, . + 0xffe
    bgeu s11, a5, . - 0x1000
    lb s4, -1366(a1)
    lh t3, 1365(s6)
    lw a6, -2048(t0)
    ld s9, 2047(a2)
    lbu a4, 1638(s0)
    lhu t1, -1639(a7)
    lwu s2, 819(t5)
    sb s5, -1366(a3)
    sh t4, 1365(s10)
    sw a0, -2048(t6)
    sd s8, 2047(a5)
    addi t2, s1, -1366
    slti a3, s11, 1365
    sltiu s6, a1, -1
    xori t0, s4, 1638
    ori s0, t3, -1639
    andi a2, s9, 819
    slli s7, a6, 42
    srli t5, a4, 21
    srai s3, t1, 63
    add a0, s2, t4
    sub s5, a7, t6
    sll t3, s10, a3
    slt a5, t2, s8
    sltu s1, a1, s11
    xor t0, s6, a2
    srl s4, s0, t1
    sra a6, s9, a4
    or s7, t5, s3
    and t4, a0, s2
    addiw s5, t6, -1366
    slliw a7, t3, 21
    srliw s10, a5, 10
    sraiw a3, t2, 31
    addw s8, s1, t0
    subw a1, s11, s4
    sllw s6, a2, s0
    srlw t1, a6, s9
    sraw a4, s7, t5
    mul s3, t4, a0
    mulh s2, s5, t6
    mulhsu a7, t3, s10
    mulhu a5, a3, t2
    div s8, s1, a1
    divu t0, s11, s6
    rem s4, a2, t1
    remu s0, a6, a4
    mulw s9, s7, s3
    divw t5, t4, s2
    divuw a0, s5, a7
    remw t6, t3, a5
    remuw s10, a3, s8
    lr.w.aq t2, (s1)
    sc.w.rl a1, s11, (t0)
    lr.d.aqrl s6, (a2)
    sc.d s4, t1, (s0)
    amoswap.w a6, s9, (a4)
    amoadd.w.aq s7, t5, (s3)
    amoxor.w.rl t4, a0, (s2)
    amoand.w.aqrl s5, t6, (a7)
    amoor.d t3, s10, (a5)
    amomin.d.aq a3, t2, (s8)
    amomax.d.rl s1, a1, (s11)
    amominu.w t0, s6, (a2)
    amomaxu.d.aqrl s4, s0, (t1)
    csrrw a6, 0x340, s9
    csrrs a4, 0x5aa, s7
    csrrc t5, 0xa55, s3
    csrrwi t4, 0x341, 21
    csrrsi a0, 0x142, 10
    csrrci s2, 0x105, 31
    fence rw, w
    fence.tso
    fence.i
    pause
    ecall
    ebreak
    mret
    sret
    wfi
    sfence.vma s5, t6
    sinval.vma a7, t3
    sfence.w.inval
    sfence.inval.ir
    flw ft9, -1366(s10)
    fld fs4, 1365(a5)
    fsw fa2, -2048(a3)
    fsd ft11, 2047(t2)
    fadd.s fs8, fs1, fa1, rne
    fsub.d fs11, ft0, fs6, rtz
    fmul.s fa2, fs4, fs0, rdn
    fdiv.d ft1, fa6, fs9, rup
    fsqrt.s fa4, fs7, rmm
    fsqrt.d ft5, fs3, dyn
    fmadd.s ft4, fa0, fs2, fs5, rne
    fmsub.d ft6, fa7, ft3, fs10, rtz
    fnmsub.s fa5, fa3, ft2, fs8, rdn
    fnmadd.d fs1, fa1, fs11, ft0, dyn
    fsgnj.s fs6, fa2, fs4
    fsgnjn.d fs0, ft1, fa6
    fsgnjx.s fs9, fa4, fs7
    fmin.d ft5, fs3, ft4
    fmax.s fa0, fs2, fs5
    feq.s t6, fa7, ft3
    flt.d s10, fa5, fa3
    fle.s t2, fs8, fs1
    fclass.d a1, fs11
    fcvt.w.s t0, fs6, rtz
    fcvt.wu.d a2, fs4, rup
    fcvt.l.s s0, ft1, rne
    fcvt.lu.d a6, fs9, rmm
    fcvt.s.w fa4, s7, rdn
    fcvt.s.wu ft5, s3, dyn
    fcvt.d.l ft4, a0, rtz
    fcvt.s.lu fs2, s5, rup
    fcvt.s.d ft6, fa7, rne
    fcvt.d.s ft3, fs10
    fcvt.d.w fa5, a3
    fcvt.d.wu ft2, s8
    fmv.x.w s1, fa1
    fmv.w.x fs11, t0
    fmv.x.d s6, fa2
    fmv.d.x fs4, s0
    add.uw t1, a6, s9
    sh1add a4, s7, t5
    sh2add s3, t4, a0
    sh3add s2, s5, t6
    sh1add.uw a7, t3, s10
    sh2add.uw a5, a3, t2
    sh3add.uw s8, s1, a1
    slli.uw s11, t0, 42
    andn s6, a2, s4
    orn s0, t1, a6
    xnor s9, a4, s7
    clz t5, s3
    clzw t4, a0
    ctz s2, s5
    ctzw t6, a7
    cpop t3, s10
    cpopw a5, a3
    max t2, s8, s1
    maxu a1, s11, t0
    min s6, a2, s4
    minu s0, t1, a6
    sext.b s9, a4
    sext.h s7, t5
    zext.h s3, t4
    rol a0, s2, s5
    rolw t6, a7, t3
    ror s10, a5, a3
    rori t2, s8, 42
    rorw s1, a1, s11
    roriw t0, s6, 21
    orc.b a2, s4
    rev8 s0, t1
    clmul a6, s9, a4
    clmulh s7, t5, s3
    clmulr t4, a0, s2
    bclr s5, t6, a7
    bclri t3, s10, 42
    bext a5, a3, t2
    bexti s8, s1, 21
    binv a1, s11, t0
    binvi s6, a2, 63
    bset s4, s0, t1
    bseti a6, s9, 33
    czero.eqz a4, s7, t5
    czero.nez s3, t4, a0
    cbo.inval (s2)
    cbo.clean (s5)
    cbo.flush (t6)
    cbo.zero (a7)
    prefetch.i 992(t3)
    prefetch.r -1056(s10)
    prefetch.w 1376(a5)
    jal a0, . + 2
    jal a0, . + 4
    jal a0, . + 8
    jal a0, . + 16
    jal a0, . + 32
    jal a0, . + 64
    jal a0, . + 128
    jal a0, . + 256
    jal a0, . + 512
    jal a0, . + 1024
    jal a0, . + 2048
    jal a0, . + 4096
    jal a0, . + 8192
    jal a0, . + 16384
    jal a0, . + 32768
    jal a0, . + 65536
    jal a0, . + 131072
    jal a0, . + 262144
    jal a0, . + 524288
    beq a1, a2, . + 2
    beq a1, a2, . + 4
    beq a1, a2, . + 8
    beq a1, a2, . + 16
    beq a1, a2, . + 32
    beq a1, a2, . + 64
    beq a1, a2, . + 128
    beq a1, a2, . + 256
    beq a1, a2, . + 512
    beq a1, a2, . + 1024
    beq a1, a2, . + 2048
words_end:
    .option pop
halves:
    c.addi4spn a4, sp, 340
    c.addi4spn s1, sp, 680
    c.fld fa3, 168(a5)
    c.fld fs0, 80(s1)
    c.lw a2, 84(s0)
    c.lw s1, 40(a4)
    c.ld a1, 168(a3)
    c.ld a5, 80(a0)
    c.fsd fa0, 168(s1)
    c.sw a3, 84(a1)
    c.sw s0, 40(a2)
    c.sd a4, 168(s0)
    c.sd a0, 80(a5)
    c.nop
    c.addi s7, -22
    c.addi t4, 21
    c.addiw a6, -22
    c.addiw t1, 21
    c.li s10, -22
    c.li a3, 21
    c.addi16sp sp, 336
    c.addi16sp sp, -352
    c.lui t5, 21
    c.lui s6, 0xfffea
    c.srli a4, 42
    c.srli s1, 21
    c.srai a0, 42
    c.srai a5, 21
    c.andi a2, -22
    c.andi s0, 21
    c.sub a1, a3
    c.xor a4, s1
    c.or a0, a5
    c.and a2, s0
    c.subw a3, a1
    c.addw s1, a4
    c.j . + 0x2aa
    c.j . - 0x2ac
    c.j . + 0x554
    c.beqz a5, . + 0x54
    c.beqz a2, . - 0x56
    c.beqz s0, . + 0xaa
    c.bnez a1, . - 0xac
    c.bnez a3, . + 0xfe
    c.slli t3, 42
    c.slli s9, 21
    c.fldsp fs5, 168(sp)
    c.fldsp ft10, 336(sp)
    c.lwsp t2, 84(sp)
    c.lwsp s8, 168(sp)
    c.ldsp a7, 168(sp)
    c.ldsp s11, 336(sp)
    c.jr s3
    c.mv t6, s4
    c.ebreak
    c.jalr t0
    c.add s2, a6
    c.fsdsp fa7, 168(sp)
    c.fsdsp fs2, 336(sp)
    c.swsp s5, 84(sp)
    c.swsp t4, 168(sp)
    c.sdsp a4, 168(sp)
    c.sdsp s10, 336(sp)
    c.lbu a2, 1(a5)
    c.lbu s0, 2(a1)
    c.lhu a3, 2(s1)
    c.lh a0, 2(a4)
    c.sb s1, 1(a2)
    c.sb a5, 2(s0)
    c.sh a1, 2(a3)
    c.zext.b a4
    c.sext.b s1
    c.zext.h a0
    c.sext.h a5
    c.zext.w a2
    c.not s0
    c.mul a3, a1
    c.j . + 2
    c.j . + 4
    c.j . + 8
    c.j . + 16
    c.j . + 32
    c.j . + 64
    c.j . + 128
    c.j . + 256
    c.j . + 512
    c.j . + 1024
    c.beqz a0, . + 2
    c.beqz a0, . + 4
    c.beqz a0, . + 8
    c.beqz a0, . + 16
    c.beqz a0, . + 32
    c.beqz a0, . + 64
    c.beqz a0, . + 128
    c.bnez s1, . + 2
    c.bnez s1, . + 4
    c.bnez s1, . + 8
    c.bnez s1, . + 16
    c.bnez s1, . + 32
    c.bnez s1, . + 64
    c.bnez s1, . + 128
    c.addi16sp sp, 16
    c.addi16sp sp, 32
    c.addi16sp sp, 64
    c.addi16sp sp, 128
    c.addi16sp sp, 256
    c.addi4spn a0, sp, 4
    c.addi4spn a0, sp, 8
    c.addi4spn a0, sp, 16
    c.addi4spn a0, sp, 32
    c.addi4spn a0, sp, 64
    c.addi4spn a0, sp, 128
    c.addi4spn a0, sp, 256
    c.addi4spn a0, sp, 512
    c.lw a1, 4(s0)
    c.lw a1, 8(s0)
    c.lw a1, 16(s0)
    c.lw a1, 32(s0)
    c.lw a1, 64(s0)
    c.sw a1, 4(s0)
    c.sw a1, 8(s0)
    c.sw a1, 16(s0)
    c.sw a1, 32(s0)
    c.sw a1, 64(s0)
    c.ld a1, 8(s0)
    c.ld a1, 16(s0)
    c.ld a1, 32(s0)
    c.ld a1, 64(s0)
    c.ld a1, 128(s0)
    c.sd a1, 8(s0)
    c.sd a1, 16(s0)
    c.sd a1, 32(s0)
    c.sd a1, 64(s0)
    c.sd a1, 128(s0)
    c.fld fa1, 8(s0)
    c.fld fa1, 16(s0)
    c.fld fa1, 32(s0)
    c.fld fa1, 64(s0)
    c.fld fa1, 128(s0)
    c.fsd fa1, 8(s0)
    c.fsd fa1, 16(s0)
    c.fsd fa1, 32(s0)
    c.fsd fa1, 64(s0)
    c.fsd fa1, 128(s0)
    c.lwsp t1, 4(sp)
    c.lwsp t1, 8(sp)
    c.lwsp t1, 16(sp)
    c.lwsp t1, 32(sp)
    c.lwsp t1, 64(sp)
    c.lwsp t1, 128(sp)
    c.swsp t1, 4(sp)
    c.swsp t1, 8(sp)
    c.swsp t1, 16(sp)
    c.swsp t1, 32(sp)
    c.swsp t1, 64(sp)
    c.swsp t1, 128(sp)
    c.ldsp t1, 8(sp)
    c.ldsp t1, 16(sp)
    c.ldsp t1, 32(sp)
    c.ldsp t1, 64(sp)
    c.ldsp t1, 128(sp)
    c.ldsp t1, 256(sp)
    c.sdsp t1, 8(sp)
    c.sdsp t1, 16(sp)
    c.sdsp t1, 32(sp)
    c.sdsp t1, 64(sp)
    c.sdsp t1, 128(sp)
    c.sdsp t1, 256(sp)
    c.fldsp ft1, 8(sp)
    c.fldsp ft1, 16(sp)
    c.fldsp ft1, 32(sp)
    c.fldsp ft1, 64(sp)
    c.fldsp ft1, 128(sp)
    c.fldsp ft1, 256(sp)
    c.fsdsp ft1, 8(sp)
    c.fsdsp ft1, 16(sp)
    c.fsdsp ft1, 32(sp)
    c.fsdsp ft1, 64(sp)
    c.fsdsp ft1, 128(sp)
    c.fsdsp ft1, 256(sp)
halves_end:
    .balign 4
word_encodings:
    .word 0xabcde9b7
    .word 0x12345f17
    .word 0x5a45abef
    .word 0xda45a06f
    .word 0xaaba8ee7
    .word 0x2a6902e3
    .word 0xaba895e3
    .word 0x34afc763
    .word 0xf584d763
    .word 0x7e76efe3
    .word 0x80fdf063
    .word 0xaaa58a03
    .word 0x555b1e03
    .word 0x8002a803
    .word 0x7ff63c83
    .word 0x66644703
    .word 0x9998d303
    .word 0x333f6903
    .word 0xab568523
    .word 0x55dd1aa3
    .word 0x80afa023
    .word 0x7f87bfa3
    .word 0xaaa48393
    .word 0x555da693
    .word 0xfff5bb13
    .word 0x666a4293
    .word 0x999e6413
    .word 0x333cf613
    .word 0x02a81b93
    .word 0x01575f13
    .word 0x43f35993
    .word 0x01d90533
    .word 0x41f88ab3
    .word 0x00dd1e33
    .word 0x0183a7b3
    .word 0x01b5b4b3
    .word 0x00cb42b3
    .word 0x00645a33
    .word 0x40ecd833
    .word 0x013f6bb3
    .word 0x01257eb3
    .word 0xaaaf8a9b
    .word 0x015e189b
    .word 0x00a7dd1b
    .word 0x41f3d69b
    .word 0x00548c3b
    .word 0x414d85bb
    .word 0x00861b3b
    .word 0x0198533b
    .word 0x41ebd73b
    .word 0x02ae89b3
    .word 0x03fa9933
    .word 0x03ae28b3
    .word 0x0276b7b3
    .word 0x02b4cc33
    .word 0x036dd2b3
    .word 0x02666a33
    .word 0x02e87433
    .word 0x033b8cbb
    .word 0x032ecf3b
    .word 0x031ad53b
    .word 0x02fe6fbb
    .word 0x0386fd3b
    .word 0x1404a3af
    .word 0x1bb2a5af
    .word 0x16063b2f
    .word 0x18643a2f
    .word 0x0997282f
    .word 0x05e9abaf
    .word 0x22a92eaf
    .word 0x67f8aaaf
    .word 0x41a7be2f
    .word 0x847c36af
    .word 0xa2bdb4af
    .word 0xc16622af
    .word 0xe6833a2f
    .word 0x340c9873
    .word 0x5aaba773
    .word 0xa559bf73
    .word 0x341adef3
    .word 0x14256573
    .word 0x105ff973
    .word 0x0310000f
    .word 0x8330000f
    .word 0x0000100f
    .word 0x0100000f
    .word 0x00000073
    .word 0x00100073
    .word 0x30200073
    .word 0x10200073
    .word 0x10500073
    .word 0x13fa8073
    .word 0x17c88073
    .word 0x18000073
    .word 0x18100073
    .word 0xaaad2e87
    .word 0x5557ba07
    .word 0x80c6a027
    .word 0x7ff3bfa7
    .word 0x00b48c53
    .word 0x0b601dd3
    .word 0x108a2653
    .word 0x1b9830d3
    .word 0x580bc753
    .word 0x5a09f2d3
    .word 0xa9250243
    .word 0xd2389347
    .word 0xc026a7cb
    .word 0x03b5f4cf
    .word 0x21460b53
    .word 0x23009453
    .word 0x21772cd3
    .word 0x2a4982d3
    .word 0x29591553
    .word 0xa038afd3
    .word 0xa2d79d53
    .word 0xa09c03d3
    .word 0xe20d95d3
    .word 0xc00b12d3
    .word 0xc21a3653
    .word 0xc0208453
    .word 0xc23cc853
    .word 0xd00ba753
    .word 0xd019f2d3
    .word 0xd2251253
    .word 0xd03ab953
    .word 0x40188353
    .word 0x420d01d3
    .word 0xd20687d3
    .word 0xd21c0153
    .word 0xe00584d3
    .word 0xf0028dd3
    .word 0xe2060b53
    .word 0xf2040a53
    .word 0x0998033b
    .word 0x21eba733
    .word 0x20aec9b3
    .word 0x21fae933
    .word 0x21ae28bb
    .word 0x2076c7bb
    .word 0x20b4ec3b
    .word 0x0aa29d9b
    .word 0x41467b33
    .word 0x41036433
    .word 0x41774cb3
    .word 0x60099f13
    .word 0x60051e9b
    .word 0x601a9913
    .word 0x60189f9b
    .word 0x602d1e13
    .word 0x6026979b
    .word 0x0a9c63b3
    .word 0x0a5df5b3
    .word 0x0b464b33
    .word 0x0b035433
    .word 0x60471c93
    .word 0x605f1b93
    .word 0x080ec9bb
    .word 0x61591533
    .word 0x61c89fbb
    .word 0x60d7dd33
    .word 0x62ac5393
    .word 0x61b5d4bb
    .word 0x615b529b
    .word 0x287a5613
    .word 0x6b835413
    .word 0x0aec9833
    .word 0x0b3f3bb3
    .word 0x0b252eb3
    .word 0x491f9ab3
    .word 0x4aad1e13
    .word 0x4876d7b3
    .word 0x4954dc13
    .word 0x685d95b3
    .word 0x6bf61b13
    .word 0x28641a33
    .word 0x2a1c9813
    .word 0x0febd733
    .word 0x0eaef9b3
    .word 0x0009200f
    .word 0x001aa00f
    .word 0x002fa00f
    .word 0x0048a00f
    .word 0x3e0e6013
    .word 0xbe1d6013
    .word 0x5637e013
    .word 0x0020056f
    .word 0x0040056f
    .word 0x0080056f
    .word 0x0100056f
    .word 0x0200056f
    .word 0x0400056f
    .word 0x0800056f
    .word 0x1000056f
    .word 0x2000056f
    .word 0x4000056f
    .word 0x0010056f
    .word 0x0000156f
    .word 0x0000256f
    .word 0x0000456f
    .word 0x0000856f
    .word 0x0001056f
    .word 0x0002056f
    .word 0x0004056f
    .word 0x0008056f
    .word 0x00c58163
    .word 0x00c58263
    .word 0x00c58463
    .word 0x00c58863
    .word 0x02c58063
    .word 0x04c58063
    .word 0x08c58063
    .word 0x10c58063
    .word 0x20c58063
    .word 0x40c58063
    .word 0x00c580e3
half_encodings:
    .half 0x0ad8
    .half 0x1524
    .half 0x37d4
    .half 0x28a0
    .half 0x4870
    .half 0x5704
    .half 0x76cc
    .half 0x693c
    .half 0xb4c8
    .half 0xc9f4
    .half 0xd600
    .half 0xf458
    .half 0xeba8
    .half 0x0001
    .half 0x1ba9
    .half 0x0ed5
    .half 0x3829
    .half 0x2355
    .half 0x5d29
    .half 0x46d5
    .half 0x6171
    .half 0x710d
    .half 0x6f55
    .half 0x7b29
    .half 0x9329
    .half 0x80d5
    .half 0x9529
    .half 0x87d5
    .half 0x9a29
    .half 0x8855
    .half 0x8d95
    .half 0x8f25
    .half 0x8d5d
    .half 0x8e61
    .half 0x9e8d
    .half 0x9cb9
    .half 0xa46d
    .half 0xbb91
    .half 0xab91
    .half 0xcbb1
    .half 0xd64d
    .half 0xc44d
    .half 0xf9b1
    .half 0xeefd
    .half 0x1e2a
    .half 0x0cd6
    .half 0x3aaa
    .half 0x2f56
    .half 0x43d6
    .half 0x5c2a
    .half 0x78aa
    .half 0x6dd6
    .half 0x8982
    .half 0x8fd2
    .half 0x9002
    .half 0x9282
    .half 0x9942
    .half 0xb546
    .half 0xaaca
    .half 0xcad6
    .half 0xd576
    .half 0xf53a
    .half 0xeaea
    .half 0x83d0
    .half 0x81a0
    .half 0x84b4
    .half 0x8768
    .half 0x8a44
    .half 0x883c
    .half 0x8eac
    .half 0x9f61
    .half 0x9ce5
    .half 0x9d69
    .half 0x9fed
    .half 0x9e71
    .half 0x9c75
    .half 0x9ecd
    .half 0xa009
    .half 0xa011
    .half 0xa021
    .half 0xa801
    .half 0xa005
    .half 0xa081
    .half 0xa041
    .half 0xa201
    .half 0xa401
    .half 0xa101
    .half 0xc109
    .half 0xc111
    .half 0xc501
    .half 0xc901
    .half 0xc105
    .half 0xc121
    .half 0xc141
    .half 0xe089
    .half 0xe091
    .half 0xe481
    .half 0xe881
    .half 0xe085
    .half 0xe0a1
    .half 0xe0c1
    .half 0x6141
    .half 0x6105
    .half 0x6121
    .half 0x6109
    .half 0x6111
    .half 0x0048
    .half 0x0028
    .half 0x0808
    .half 0x1008
    .half 0x0088
    .half 0x0108
    .half 0x0208
    .half 0x0408
    .half 0x404c
    .half 0x440c
    .half 0x480c
    .half 0x500c
    .half 0x402c
    .half 0xc04c
    .half 0xc40c
    .half 0xc80c
    .half 0xd00c
    .half 0xc02c
    .half 0x640c
    .half 0x680c
    .half 0x700c
    .half 0x602c
    .half 0x604c
    .half 0xe40c
    .half 0xe80c
    .half 0xf00c
    .half 0xe02c
    .half 0xe04c
    .half 0x240c
    .half 0x280c
    .half 0x300c
    .half 0x202c
    .half 0x204c
    .half 0xa40c
    .half 0xa80c
    .half 0xb00c
    .half 0xa02c
    .half 0xa04c
    .half 0x4312
    .half 0x4322
    .half 0x4342
    .half 0x5302
    .half 0x4306
    .half 0x430a
    .half 0xc21a
    .half 0xc41a
    .half 0xc81a
    .half 0xd01a
    .half 0xc09a
    .half 0xc11a
    .half 0x6322
    .half 0x6342
    .half 0x7302
    .half 0x6306
    .half 0x630a
    .half 0x6312
    .half 0xe41a
    .half 0xe81a
    .half 0xf01a
    .half 0xe09a
    .half 0xe11a
    .half 0xe21a
    .half 0x20a2
    .half 0x20c2
    .half 0x3082
    .half 0x2086
    .half 0x208a
    .half 0x2092
    .half 0xa406
    .half 0xa806
    .half 0xb006
    .half 0xa086
    .half 0xa106
    .half 0xa206
