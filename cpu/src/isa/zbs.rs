//! Zbs (unprivileged specification, "B Extension for Bit Manipulation", Zbs: single-bit instructions).

use super::Ops;
use super::row::instructions;
use super::shapes::*;

instructions! {
    requires Zbs;

    /// Clear a bit.
    bclr "0100100 rs2 rs1 001 rd 0110011" "rd, rs1, rs2" |m, i| register_register(m, i, clear);
    /// Clear a bit, immediate.
    bclri "010010 shamt[5:0] rs1 001 rd 0010011" "rd, rs1, shamt" |m, i| register_immediate(m, i, clear);
    /// Extract a bit.
    bext "0100100 rs2 rs1 101 rd 0110011" "rd, rs1, rs2" |m, i| register_register(m, i, extract);
    /// Extract a bit, immediate.
    bexti "010010 shamt[5:0] rs1 101 rd 0010011" "rd, rs1, shamt" |m, i| register_immediate(m, i, extract);
    /// Invert a bit.
    binv "0110100 rs2 rs1 001 rd 0110011" "rd, rs1, rs2" |m, i| register_register(m, i, invert);
    /// Invert a bit, immediate.
    binvi "011010 shamt[5:0] rs1 001 rd 0010011" "rd, rs1, shamt" |m, i| register_immediate(m, i, invert);
    /// Set a bit.
    bset "0010100 rs2 rs1 001 rd 0110011" "rd, rs1, rs2" |m, i| register_register(m, i, set);
    /// Set a bit, immediate.
    bseti "001010 shamt[5:0] rs1 001 rd 0010011" "rd, rs1, shamt" |m, i| register_immediate(m, i, set);
}

#[inline(always)]
fn bit<M: Ops>(m: &mut M, number: M::V) -> M::V {
    let one = m.imm(1);
    m.shl(one, number)
}

#[inline(always)]
fn clear<M: Ops>(m: &mut M, a: M::V, number: M::V) -> M::V {
    let bit = bit(m, number);
    let rest = not(m, bit);
    m.and(a, rest)
}

#[inline(always)]
fn extract<M: Ops>(m: &mut M, a: M::V, number: M::V) -> M::V {
    let (shifted, one) = (m.shr(a, number), m.imm(1));
    m.and(shifted, one)
}

#[inline(always)]
fn invert<M: Ops>(m: &mut M, a: M::V, number: M::V) -> M::V {
    let bit = bit(m, number);
    m.xor(a, bit)
}

#[inline(always)]
fn set<M: Ops>(m: &mut M, a: M::V, number: M::V) -> M::V {
    let bit = bit(m, number);
    m.or(a, bit)
}
