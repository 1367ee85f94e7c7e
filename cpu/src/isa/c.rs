//! Zca and Zcd (unprivileged specification, "C Extension for Compressed Instructions"). Each row names the 32-bit
//! instruction that it expands to. Encodings that the tables call HINTs are valid and do nothing that shows, reserved
//! ones do not match.

use super::d::{fld, fsd};
use super::privileged::ebreak;
use super::row::instructions;
use super::rv64i::{
    add, addi, addiw, addw, and, andi, beq, bne, jal, jalr, ld, lui, lw, or, sd, slli, srai, srli, sub, subw, sw, xor,
};

instructions! {
    requires Zca;

    /// Add an immediate to the stack pointer, to another register.
    c_addi4spn "000 nzuimm[5:4|9:6|2|3] rd' 00" "rd, sp, uimm" where rs1 = 2 => addi;
    /// Load doubleword, floating point.
    c_fld "001 uimm[5:3] rs1' uimm[7:6] rd' 00" "frd, uimm(rs1)" needs Zcd => fld;
    /// Load word.
    c_lw "010 uimm[5:3] rs1' uimm[2|6] rd' 00" "rd, uimm(rs1)" => lw;
    /// Load doubleword.
    c_ld "011 uimm[5:3] rs1' uimm[7:6] rd' 00" "rd, uimm(rs1)" => ld;
    /// Store doubleword, floating point.
    c_fsd "101 uimm[5:3] rs1' uimm[7:6] rs2' 00" "frs2, uimm(rs1)" needs Zcd => fsd;
    /// Store word.
    c_sw "110 uimm[5:3] rs1' uimm[2|6] rs2' 00" "rs2, uimm(rs1)" => sw;
    /// Store doubleword.
    c_sd "111 uimm[5:3] rs1' uimm[7:6] rs2' 00" "rs2, uimm(rs1)" => sd;

    /// No operation; with an immediate, a HINT.
    c_nop "000 imm[5] 00000 imm[4:0] 01" "imm?" => addi;
    /// Add immediate; of 0, a HINT.
    c_addi "000 imm[5] rd/rs1!=0 imm[4:0] 01" "rd, imm" => addi;
    /// Add immediate, word.
    c_addiw "001 imm[5] rd/rs1!=0 imm[4:0] 01" "rd, imm" => addiw;
    /// Load immediate; to x0, a HINT.
    c_li "010 imm[5] rd imm[4:0] 01" "rd, imm" => addi;
    /// Add an immediate to the stack pointer.
    c_addi16sp "011 nzimm[9] 00010 nzimm[4|6|8:7|5] 01" "sp, imm" where rd = 2, rs1 = 2 => addi;
    /// Load upper immediate; to x0, a HINT.
    c_lui "011 nzimm[17] rd!=2 nzimm[16:12] 01" "rd, upper" => lui;
    /// Shift right logical immediate; by 0, a HINT.
    c_srli "100 shamt[5] 00 rd'/rs1' shamt[4:0] 01" "rd, shamt" => srli;
    /// Shift right arithmetic immediate; by 0, a HINT.
    c_srai "100 shamt[5] 01 rd'/rs1' shamt[4:0] 01" "rd, shamt" => srai;
    /// And immediate.
    c_andi "100 imm[5] 10 rd'/rs1' imm[4:0] 01" "rd, imm" => andi;
    /// Subtract.
    c_sub "100 0 11 rd'/rs1' 00 rs2' 01" "rd, rs2" => sub;
    /// Exclusive or.
    c_xor "100 0 11 rd'/rs1' 01 rs2' 01" "rd, rs2" => xor;
    /// Or.
    c_or "100 0 11 rd'/rs1' 10 rs2' 01" "rd, rs2" => or;
    /// And.
    c_and "100 0 11 rd'/rs1' 11 rs2' 01" "rd, rs2" => and;
    /// Subtract, word.
    c_subw "100 1 11 rd'/rs1' 00 rs2' 01" "rd, rs2" => subw;
    /// Add, word.
    c_addw "100 1 11 rd'/rs1' 01 rs2' 01" "rd, rs2" => addw;
    /// Jump.
    c_j "101 imm[11|4|9:8|10|6|7|3:1|5] 01" "offset" => jal;
    /// Branch if zero.
    c_beqz "110 imm[8|4:3] rs1' imm[7:6|2:1|5] 01" "rs1, offset" => beq;
    /// Branch if not zero.
    c_bnez "111 imm[8|4:3] rs1' imm[7:6|2:1|5] 01" "rs1, offset" => bne;

    /// Shift left logical immediate; of x0 or by 0, a HINT.
    c_slli "000 shamt[5] rd/rs1 shamt[4:0] 10" "rd, shamt" => slli;
    /// Load doubleword from the stack, floating point.
    c_fldsp "001 uimm[5] rd uimm[4:3|8:6] 10" "frd, uimm(sp)" where rs1 = 2 needs Zcd => fld;
    /// Load word from the stack.
    c_lwsp "010 uimm[5] rd!=0 uimm[4:2|7:6] 10" "rd, uimm(sp)" where rs1 = 2 => lw;
    /// Load doubleword from the stack.
    c_ldsp "011 uimm[5] rd!=0 uimm[4:3|8:6] 10" "rd, uimm(sp)" where rs1 = 2 => ld;
    /// Jump register.
    c_jr "100 0 rs1!=0 00000 10" "rs1" => jalr;
    /// Move; to x0, a HINT.
    c_mv "100 0 rd rs2!=0 10" "rd, rs2" => add;
    /// Breakpoint.
    c_ebreak "100 1 00000 00000 10" "" => ebreak;
    /// Jump and link register.
    c_jalr "100 1 rs1!=0 00000 10" "rs1" where rd = 1 => jalr;
    /// Add; to x0, a HINT.
    c_add "100 1 rd/rs1 rs2!=0 10" "rd, rs2" => add;
    /// Store doubleword to the stack, floating point.
    c_fsdsp "101 uimm[5:3|8:6] rs2 10" "frs2, uimm(sp)" where rs1 = 2 needs Zcd => fsd;
    /// Store word to the stack.
    c_swsp "110 uimm[5:2|7:6] rs2 10" "rs2, uimm(sp)" where rs1 = 2 => sw;
    /// Store doubleword to the stack.
    c_sdsp "111 uimm[5:3|8:6] rs2 10" "rs2, uimm(sp)" where rs1 = 2 => sd;
}
