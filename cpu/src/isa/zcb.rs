//! Zcb (unprivileged specification, "Zc* Extension for Code Size Reduction").

use super::m::mul;
use super::row::instructions;
use super::rv64i::{andi, lbu, lh, lhu, sb, sh, xori};
use super::zba::add_uw;
use super::zbb::{sext_b, sext_h, zext_h};

instructions! {
    requires Zcb;

    /// Load byte, unsigned.
    c_lbu "100 000 rs1' uimm[0|1] rd' 00" "rd, uimm(rs1)" => lbu;
    /// Load halfword, unsigned.
    c_lhu "100 001 rs1' 0 uimm[1] rd' 00" "rd, uimm(rs1)" => lhu;
    /// Load halfword.
    c_lh "100 001 rs1' 1 uimm[1] rd' 00" "rd, uimm(rs1)" => lh;
    /// Store byte.
    c_sb "100 010 rs1' uimm[0|1] rs2' 00" "rs2, uimm(rs1)" => sb;
    /// Store halfword.
    c_sh "100 011 rs1' 0 uimm[1] rs2' 00" "rs2, uimm(rs1)" => sh;
    /// Zero-extend byte.
    c_zext_b "100 111 rd'/rs1' 11 000 01" "rd" where imm = 0xff => andi;
    /// Sign-extend byte.
    c_sext_b "100 111 rd'/rs1' 11 001 01" "rd" needs Zbb => sext_b;
    /// Zero-extend halfword.
    c_zext_h "100 111 rd'/rs1' 11 010 01" "rd" needs Zbb => zext_h;
    /// Sign-extend halfword.
    c_sext_h "100 111 rd'/rs1' 11 011 01" "rd" needs Zbb => sext_h;
    /// Zero-extend word.
    c_zext_w "100 111 rd'/rs1' 11 100 01" "rd" needs Zba => add_uw;
    /// Bitwise complement.
    c_not "100 111 rd'/rs1' 11 101 01" "rd" where imm = -1 => xori;
    /// Multiply.
    c_mul "100 111 rd'/rs1' 10 rs2' 01" "rd, rs2" needs M => mul;
}
