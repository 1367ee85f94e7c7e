//! RV64I (unprivileged specification, "RV32I Base Integer Instruction Set" and "RV64I Base Integer Instruction Set").

use bus::Width;

use super::row::instructions;
use super::shapes::*;
use super::{Cond, Extend, Insn, Ops};

instructions! {
    requires I;

    /// Load upper immediate.
    lui "imm[31:12] rd 0110111" "rd, upper" |m, i| {
        let value = m.imm(i.imm.into());
        m.set_x(i.rd, value);
        Ok(())
    };
    /// Add upper immediate to pc.
    auipc "imm[31:12] rd 0010111" "rd, upper" |m, i| {
        let (pc, offset) = (m.pc(i), m.imm(i.imm.into()));
        let value = m.add(pc, offset);
        m.set_x(i.rd, value);
        Ok(())
    };
    /// Jump and link.
    jal "imm[20|10:1|11|19:12] rd 1101111" "rd, offset" flow Jump |m, i| {
        let next = next_address(m, i);
        m.jump(i, i.imm.into())?;
        m.set_x(i.rd, next);
        Ok(())
    };
    /// Jump and link register. The target is computed before rd is written: they may be the same register.
    jalr "imm[11:0] rs1 000 rd 1100111" "rd, imm(rs1)" flow JumpIndirect |m, i| {
        let (sum, even) = (address(m, i), m.imm(!1));
        let target = m.and(sum, even);
        let next = next_address(m, i);
        m.jump_indirect(i, target)?;
        m.set_x(i.rd, next);
        Ok(())
    };
    /// Branch if equal.
    beq "imm[12|10:5] rs2 rs1 000 imm[4:1|11] 1100011" "rs1, rs2, offset" flow Branch
        |m, i| compare_and_branch(m, i, Cond::Eq);
    /// Branch if not equal.
    bne "imm[12|10:5] rs2 rs1 001 imm[4:1|11] 1100011" "rs1, rs2, offset" flow Branch
        |m, i| compare_and_branch(m, i, Cond::Ne);
    /// Branch if less than.
    blt "imm[12|10:5] rs2 rs1 100 imm[4:1|11] 1100011" "rs1, rs2, offset" flow Branch
        |m, i| compare_and_branch(m, i, Cond::Lt);
    /// Branch if greater than or equal.
    bge "imm[12|10:5] rs2 rs1 101 imm[4:1|11] 1100011" "rs1, rs2, offset" flow Branch
        |m, i| compare_and_branch(m, i, Cond::Ge);
    /// Branch if less than, unsigned.
    bltu "imm[12|10:5] rs2 rs1 110 imm[4:1|11] 1100011" "rs1, rs2, offset" flow Branch
        |m, i| compare_and_branch(m, i, Cond::Ltu);
    /// Branch if greater than or equal, unsigned.
    bgeu "imm[12|10:5] rs2 rs1 111 imm[4:1|11] 1100011" "rs1, rs2, offset" flow Branch
        |m, i| compare_and_branch(m, i, Cond::Geu);
    /// Load byte.
    lb "imm[11:0] rs1 000 rd 0000011" "rd, imm(rs1)" |m, i| load(m, i, Width::Byte, Extend::Signed);
    /// Load halfword.
    lh "imm[11:0] rs1 001 rd 0000011" "rd, imm(rs1)" |m, i| load(m, i, Width::Half, Extend::Signed);
    /// Load word.
    lw "imm[11:0] rs1 010 rd 0000011" "rd, imm(rs1)" |m, i| load(m, i, Width::Word, Extend::Signed);
    /// Load doubleword.
    ld "imm[11:0] rs1 011 rd 0000011" "rd, imm(rs1)" |m, i| load(m, i, Width::Double, Extend::Zero);
    /// Load byte, unsigned.
    lbu "imm[11:0] rs1 100 rd 0000011" "rd, imm(rs1)" |m, i| load(m, i, Width::Byte, Extend::Zero);
    /// Load halfword, unsigned.
    lhu "imm[11:0] rs1 101 rd 0000011" "rd, imm(rs1)" |m, i| load(m, i, Width::Half, Extend::Zero);
    /// Load word, unsigned.
    lwu "imm[11:0] rs1 110 rd 0000011" "rd, imm(rs1)" |m, i| load(m, i, Width::Word, Extend::Zero);
    /// Store byte.
    sb "imm[11:5] rs2 rs1 000 imm[4:0] 0100011" "rs2, imm(rs1)" |m, i| store(m, i, Width::Byte);
    /// Store halfword.
    sh "imm[11:5] rs2 rs1 001 imm[4:0] 0100011" "rs2, imm(rs1)" |m, i| store(m, i, Width::Half);
    /// Store word.
    sw "imm[11:5] rs2 rs1 010 imm[4:0] 0100011" "rs2, imm(rs1)" |m, i| store(m, i, Width::Word);
    /// Store doubleword.
    sd "imm[11:5] rs2 rs1 011 imm[4:0] 0100011" "rs2, imm(rs1)" |m, i| store(m, i, Width::Double);
    /// Add immediate.
    addi "imm[11:0] rs1 000 rd 0010011" "rd, rs1, imm" |m, i| register_immediate(m, i, M::add);
    /// Set if less than immediate.
    slti "imm[11:0] rs1 010 rd 0010011" "rd, rs1, imm" |m, i| register_immediate(m, i, compare(Cond::Lt));
    /// Set if less than immediate, unsigned.
    sltiu "imm[11:0] rs1 011 rd 0010011" "rd, rs1, imm" |m, i| register_immediate(m, i, compare(Cond::Ltu));
    /// Exclusive or immediate.
    xori "imm[11:0] rs1 100 rd 0010011" "rd, rs1, imm" |m, i| register_immediate(m, i, M::xor);
    /// Or immediate.
    ori "imm[11:0] rs1 110 rd 0010011" "rd, rs1, imm" |m, i| register_immediate(m, i, M::or);
    /// And immediate.
    andi "imm[11:0] rs1 111 rd 0010011" "rd, rs1, imm" |m, i| register_immediate(m, i, M::and);
    /// Shift left logical immediate.
    slli "000000 shamt[5:0] rs1 001 rd 0010011" "rd, rs1, shamt" |m, i| register_immediate(m, i, M::shl);
    /// Shift right logical immediate.
    srli "000000 shamt[5:0] rs1 101 rd 0010011" "rd, rs1, shamt" |m, i| register_immediate(m, i, M::shr);
    /// Shift right arithmetic immediate.
    srai "010000 shamt[5:0] rs1 101 rd 0010011" "rd, rs1, shamt" |m, i| register_immediate(m, i, M::sar);
    /// Add.
    add "0000000 rs2 rs1 000 rd 0110011" "rd, rs1, rs2" |m, i| register_register(m, i, M::add);
    /// Subtract.
    sub "0100000 rs2 rs1 000 rd 0110011" "rd, rs1, rs2" |m, i| register_register(m, i, M::sub);
    /// Shift left logical.
    sll "0000000 rs2 rs1 001 rd 0110011" "rd, rs1, rs2" |m, i| register_register(m, i, M::shl);
    /// Set if less than.
    slt "0000000 rs2 rs1 010 rd 0110011" "rd, rs1, rs2" |m, i| register_register(m, i, compare(Cond::Lt));
    /// Set if less than, unsigned.
    sltu "0000000 rs2 rs1 011 rd 0110011" "rd, rs1, rs2" |m, i| register_register(m, i, compare(Cond::Ltu));
    /// Exclusive or.
    xor "0000000 rs2 rs1 100 rd 0110011" "rd, rs1, rs2" |m, i| register_register(m, i, M::xor);
    /// Shift right logical.
    srl "0000000 rs2 rs1 101 rd 0110011" "rd, rs1, rs2" |m, i| register_register(m, i, M::shr);
    /// Shift right arithmetic.
    sra "0100000 rs2 rs1 101 rd 0110011" "rd, rs1, rs2" |m, i| register_register(m, i, M::sar);
    /// Or.
    or "0000000 rs2 rs1 110 rd 0110011" "rd, rs1, rs2" |m, i| register_register(m, i, M::or);
    /// And.
    and "0000000 rs2 rs1 111 rd 0110011" "rd, rs1, rs2" |m, i| register_register(m, i, M::and);
    /// Add immediate, word.
    addiw "imm[11:0] rs1 000 rd 0011011" "rd, rs1, imm" |m, i| register_immediate(m, i, word(M::add));
    /// Shift left logical immediate, word.
    slliw "0000000 shamt[4:0] rs1 001 rd 0011011" "rd, rs1, shamt" |m, i| register_immediate(m, i, shift_left_word);
    /// Shift right logical immediate, word.
    srliw "0000000 shamt[4:0] rs1 101 rd 0011011" "rd, rs1, shamt" |m, i| register_immediate(m, i, shift_right_word);
    /// Shift right arithmetic immediate, word.
    sraiw "0100000 shamt[4:0] rs1 101 rd 0011011" "rd, rs1, shamt"
        |m, i| register_immediate(m, i, shift_right_arithmetic_word);
    /// Add, word.
    addw "0000000 rs2 rs1 000 rd 0111011" "rd, rs1, rs2" |m, i| register_register(m, i, word(M::add));
    /// Subtract, word.
    subw "0100000 rs2 rs1 000 rd 0111011" "rd, rs1, rs2" |m, i| register_register(m, i, word(M::sub));
    /// Shift left logical, word.
    sllw "0000000 rs2 rs1 001 rd 0111011" "rd, rs1, rs2" |m, i| register_register(m, i, shift_left_word);
    /// Shift right logical, word.
    srlw "0000000 rs2 rs1 101 rd 0111011" "rd, rs1, rs2" |m, i| register_register(m, i, shift_right_word);
    /// Shift right arithmetic, word.
    sraw "0100000 rs2 rs1 101 rd 0111011" "rd, rs1, rs2" |m, i| register_register(m, i, shift_right_arithmetic_word);
    /// Orders memory accesses. The fields rd and rs1 and unknown modes are reserved for finer-grain fences and ignored.
    fence "fm pred succ rs1 000 rd 0001111" "pred, succ" |m, i| {
        m.fence(i);
        Ok(())
    };
    /// Orders as TSO does.
    fence_tso "1000 0011 0011 00000 000 00000 0001111" "" specialises fence |m, i| {
        m.fence(i);
        Ok(())
    };
}

/// The address of the next instruction, for a link register.
#[inline(always)]
fn next_address<M: Ops>(m: &mut M, i: &Insn) -> M::V {
    let (pc, length) = (m.pc(i), m.imm(i.length() as i64));
    m.add(pc, length)
}
