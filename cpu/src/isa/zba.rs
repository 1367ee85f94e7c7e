//! Zba (unprivileged specification, "B Extension for Bit Manipulation", Zba: address generation).

use bus::Width;

use super::row::instructions;
use super::shapes::*;
use super::{Insn, Ops};

instructions! {
    requires Zba;

    /// Add unsigned word.
    add_uw "0000100 rs2 rs1 000 rd 0111011" "rd, rs1, rs2" |m, i| shift_add(m, i, 0, Width::Word);
    /// Shift left by 1 and add.
    sh1add "0010000 rs2 rs1 010 rd 0110011" "rd, rs1, rs2" |m, i| shift_add(m, i, 1, Width::Double);
    /// Shift left by 2 and add.
    sh2add "0010000 rs2 rs1 100 rd 0110011" "rd, rs1, rs2" |m, i| shift_add(m, i, 2, Width::Double);
    /// Shift left by 3 and add.
    sh3add "0010000 rs2 rs1 110 rd 0110011" "rd, rs1, rs2" |m, i| shift_add(m, i, 3, Width::Double);
    /// Shift unsigned word left by 1 and add.
    sh1add_uw "0010000 rs2 rs1 010 rd 0111011" "rd, rs1, rs2" |m, i| shift_add(m, i, 1, Width::Word);
    /// Shift unsigned word left by 2 and add.
    sh2add_uw "0010000 rs2 rs1 100 rd 0111011" "rd, rs1, rs2" |m, i| shift_add(m, i, 2, Width::Word);
    /// Shift unsigned word left by 3 and add.
    sh3add_uw "0010000 rs2 rs1 110 rd 0111011" "rd, rs1, rs2" |m, i| shift_add(m, i, 3, Width::Word);
    /// Shift unsigned word left by an immediate.
    slli_uw "000010 shamt[5:0] rs1 001 rd 0011011" "rd, rs1, shamt" |m, i| register_immediate(m, i, |m, a, b| {
        let a = m.zext(a, Width::Word);
        m.shl(a, b)
    });
}

/// `rd = (low bits of rs1) << shift + rs2`.
#[inline(always)]
fn shift_add<M: Ops>(m: &mut M, i: &Insn, shift: i64, width: Width) -> Result<(), M::Exit> {
    register_register(m, i, |m, a, b| {
        let a = if width == Width::Double { a } else { m.zext(a, width) };
        let shift = m.imm(shift);
        let shifted = m.shl(a, shift);
        m.add(shifted, b)
    })
}
