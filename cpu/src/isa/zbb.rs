//! Zbb (unprivileged specification, "B Extension for Bit Manipulation", Zbb: basic bit manipulation).

use bus::Width;

use super::row::instructions;
use super::shapes::*;
use super::zbkb::packw;
use super::{Cond, Ops};

instructions! {
    requires Zbb;

    /// And with the complement.
    andn "0100000 rs2 rs1 111 rd 0110011" "rd, rs1, rs2" or Zbkb |m, i| register_register(m, i, |m, a, b| {
        let b = not(m, b);
        m.and(a, b)
    });
    /// Or with the complement.
    orn "0100000 rs2 rs1 110 rd 0110011" "rd, rs1, rs2" or Zbkb |m, i| register_register(m, i, |m, a, b| {
        let b = not(m, b);
        m.or(a, b)
    });
    /// Exclusive nor.
    xnor "0100000 rs2 rs1 100 rd 0110011" "rd, rs1, rs2" or Zbkb |m, i| register_register(m, i, |m, a, b| {
        let different = m.xor(a, b);
        not(m, different)
    });
    /// Count leading zeros.
    clz "0110000 00000 rs1 001 rd 0010011" "rd, rs1" |m, i| register(m, i, M::clz);
    /// Count leading zeros, word.
    clzw "0110000 00000 rs1 001 rd 0011011" "rd, rs1" |m, i| register(m, i, |m, a| {
        let (word, upper) = (m.zext(a, Width::Word), m.imm(32));
        let zeros = m.clz(word);
        m.sub(zeros, upper)
    });
    /// Count trailing zeros.
    ctz "0110000 00001 rs1 001 rd 0010011" "rd, rs1" |m, i| register(m, i, M::ctz);
    /// Count trailing zeros, word: at most 32, by a one above it.
    ctzw "0110000 00001 rs1 001 rd 0011011" "rd, rs1" |m, i| register(m, i, |m, a| {
        let stop = m.imm(1 << 32);
        let bounded = m.or(a, stop);
        m.ctz(bounded)
    });
    /// Count ones.
    cpop "0110000 00010 rs1 001 rd 0010011" "rd, rs1" |m, i| register(m, i, M::popcount);
    /// Count ones, word.
    cpopw "0110000 00010 rs1 001 rd 0011011" "rd, rs1" |m, i| register(m, i, |m, a| {
        let word = m.zext(a, Width::Word);
        m.popcount(word)
    });
    /// Maximum.
    max "0000101 rs2 rs1 110 rd 0110011" "rd, rs1, rs2" |m, i| register_register(m, i, choose(Cond::Ge));
    /// Maximum, unsigned.
    maxu "0000101 rs2 rs1 111 rd 0110011" "rd, rs1, rs2" |m, i| register_register(m, i, choose(Cond::Geu));
    /// Minimum.
    min "0000101 rs2 rs1 100 rd 0110011" "rd, rs1, rs2" |m, i| register_register(m, i, choose(Cond::Lt));
    /// Minimum, unsigned.
    minu "0000101 rs2 rs1 101 rd 0110011" "rd, rs1, rs2" |m, i| register_register(m, i, choose(Cond::Ltu));
    /// Sign-extend byte.
    sext_b "0110000 00100 rs1 001 rd 0010011" "rd, rs1" |m, i| register(m, i, |m, a| m.sext(a, Width::Byte));
    /// Sign-extend halfword.
    sext_h "0110000 00101 rs1 001 rd 0010011" "rd, rs1" |m, i| register(m, i, |m, a| m.sext(a, Width::Half));
    /// Zero-extend halfword.
    zext_h "0000100 00000 rs1 100 rd 0111011" "rd, rs1" specialises packw
        |m, i| register(m, i, |m, a| m.zext(a, Width::Half));
    /// Rotate left.
    rol "0110000 rs2 rs1 001 rd 0110011" "rd, rs1, rs2" or Zbkb |m, i| register_register(m, i, |m, a, b| {
        let right = negated(m, b);
        m.rotr(a, right)
    });
    /// Rotate left, word.
    rolw "0110000 rs2 rs1 001 rd 0111011" "rd, rs1, rs2" or Zbkb |m, i| register_register(m, i, |m, a, b| {
        let right = negated(m, b);
        m.rotrw(a, right)
    });
    /// Rotate right.
    ror "0110000 rs2 rs1 101 rd 0110011" "rd, rs1, rs2" or Zbkb |m, i| register_register(m, i, M::rotr);
    /// Rotate right by an immediate.
    rori "011000 shamt[5:0] rs1 101 rd 0010011" "rd, rs1, shamt" or Zbkb |m, i| register_immediate(m, i, M::rotr);
    /// Rotate right, word.
    rorw "0110000 rs2 rs1 101 rd 0111011" "rd, rs1, rs2" or Zbkb |m, i| register_register(m, i, M::rotrw);
    /// Rotate right by an immediate, word.
    roriw "0110000 shamt[4:0] rs1 101 rd 0011011" "rd, rs1, shamt" or Zbkb |m, i| register_immediate(m, i, M::rotrw);
    /// Or-combine: each byte is all ones if any of its bits is.
    orc_b "0010100 00111 rs1 101 rd 0010011" "rd, rs1" |m, i| register(m, i, or_combine);
    /// Reverse the order of bytes.
    rev8 "0110101 11000 rs1 101 rd 0010011" "rd, rs1" or Zbkb |m, i| register(m, i, M::bswap);
}

#[inline(always)]
fn negated<M: Ops>(m: &mut M, a: M::V) -> M::V {
    let zero = m.imm(0);
    m.sub(zero, a)
}

/// Collects each byte's bits in its highest one, without carries between bytes, and spreads that down again.
#[inline(always)]
fn or_combine<M: Ops>(m: &mut M, a: M::V) -> M::V {
    let (low_bits, high_bit, shift) = (
        m.imm(0x7f7f_7f7f_7f7f_7f7f),
        m.imm(0x8080_8080_8080_8080_u64 as i64),
        m.imm(7),
    );
    let low = m.and(a, low_bits);
    let carried = m.add(low, low_bits);
    let any = m.or(carried, a);
    let any = m.and(any, high_bit);
    let one = m.shr(any, shift);
    let rest = m.sub(any, one);
    m.or(any, rest)
}
