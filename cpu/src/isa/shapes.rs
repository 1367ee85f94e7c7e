//! Semantics that many rows share, each a function over [`Ops`] with what differs as an argument.

use bus::Width;

use super::{AmoOp, Cond, Extend, Insn, Ops};

/// `rd = op(rs1, rs2)`.
#[inline(always)]
pub(super) fn register_register<M: Ops>(
    m: &mut M,
    i: &Insn,
    op: impl FnOnce(&mut M, M::V, M::V) -> M::V,
) -> Result<(), M::Exit> {
    let (a, b) = (m.x(i.rs1), m.x(i.rs2));
    let value = op(m, a, b);
    m.set_x(i.rd, value);
    Ok(())
}

/// `rd = op(rs1, imm)`.
#[inline(always)]
pub(super) fn register_immediate<M: Ops>(
    m: &mut M,
    i: &Insn,
    op: impl FnOnce(&mut M, M::V, M::V) -> M::V,
) -> Result<(), M::Exit> {
    let (a, b) = (m.x(i.rs1), m.imm(i.imm.into()));
    let value = op(m, a, b);
    m.set_x(i.rd, value);
    Ok(())
}

/// `rd = op(rs1)`.
#[inline(always)]
pub(super) fn register<M: Ops>(m: &mut M, i: &Insn, op: impl FnOnce(&mut M, M::V) -> M::V) -> Result<(), M::Exit> {
    let a = m.x(i.rs1);
    let value = op(m, a);
    m.set_x(i.rd, value);
    Ok(())
}

/// Goes to `pc + imm` if rs1 and rs2 compare so.
#[inline(always)]
pub(super) fn compare_and_branch<M: Ops>(m: &mut M, i: &Insn, cond: Cond) -> Result<(), M::Exit> {
    let (a, b) = (m.x(i.rs1), m.x(i.rs2));
    let taken = m.cmp(cond, a, b);
    m.branch(i, taken, i.imm.into())
}

/// The address `rs1 + imm`.
#[inline(always)]
pub(super) fn address<M: Ops>(m: &mut M, i: &Insn) -> M::V {
    let (base, offset) = (m.x(i.rs1), m.imm(i.imm.into()));
    m.add(base, offset)
}

/// `rd = memory[rs1 + imm]`.
#[inline(always)]
pub(super) fn load<M: Ops>(m: &mut M, i: &Insn, width: Width, extend: Extend) -> Result<(), M::Exit> {
    let address = address(m, i);
    let value = m.load(i, address, width, extend)?;
    m.set_x(i.rd, value);
    Ok(())
}

/// `memory[rs1 + imm] = rs2`.
#[inline(always)]
pub(super) fn store<M: Ops>(m: &mut M, i: &Insn, width: Width) -> Result<(), M::Exit> {
    let address = address(m, i);
    let value = m.x(i.rs2);
    m.store(i, address, width, value)
}

/// `rd = memory[rs1]`, `memory[rs1] = op(memory[rs1], rs2)`, as one.
#[inline(always)]
pub(super) fn amo<M: Ops>(m: &mut M, i: &Insn, op: AmoOp, width: Width) -> Result<(), M::Exit> {
    let (address, operand) = (m.x(i.rs1), m.x(i.rs2));
    let old = m.amo(i, op, address, width, operand)?;
    m.set_x(i.rd, old);
    Ok(())
}

/// `op`, of which the low word is sign-extended.
#[inline(always)]
pub(super) fn word<M: Ops>(op: impl FnOnce(&mut M, M::V, M::V) -> M::V) -> impl FnOnce(&mut M, M::V, M::V) -> M::V {
    |m, a, b| {
        let value = op(m, a, b);
        m.sext(value, Width::Word)
    }
}

/// `op` on sign-extended words, of which the low word is sign-extended.
#[inline(always)]
pub(super) fn signed_words<M: Ops>(
    op: impl FnOnce(&mut M, M::V, M::V) -> M::V,
) -> impl FnOnce(&mut M, M::V, M::V) -> M::V {
    |m, a, b| {
        let (a, b) = (m.sext(a, Width::Word), m.sext(b, Width::Word));
        let value = op(m, a, b);
        m.sext(value, Width::Word)
    }
}

/// `op` on zero-extended words, of which the low word is sign-extended.
#[inline(always)]
pub(super) fn unsigned_words<M: Ops>(
    op: impl FnOnce(&mut M, M::V, M::V) -> M::V,
) -> impl FnOnce(&mut M, M::V, M::V) -> M::V {
    |m, a, b| {
        let (a, b) = (m.zext(a, Width::Word), m.zext(b, Width::Word));
        let value = op(m, a, b);
        m.sext(value, Width::Word)
    }
}

/// a shifted left by the low five bits of b, as a sign-extended word.
#[inline(always)]
pub(super) fn shift_left_word<M: Ops>(m: &mut M, a: M::V, b: M::V) -> M::V {
    let amount = word_amount(m, b);
    let value = m.shl(a, amount);
    m.sext(value, Width::Word)
}

/// The word a shifted right by the low five bits of b, as a sign-extended word.
#[inline(always)]
pub(super) fn shift_right_word<M: Ops>(m: &mut M, a: M::V, b: M::V) -> M::V {
    let (a, amount) = (m.zext(a, Width::Word), word_amount(m, b));
    let value = m.shr(a, amount);
    m.sext(value, Width::Word)
}

/// The word a shifted right arithmetically by the low five bits of b.
#[inline(always)]
pub(super) fn shift_right_arithmetic_word<M: Ops>(m: &mut M, a: M::V, b: M::V) -> M::V {
    let (a, amount) = (m.sext(a, Width::Word), word_amount(m, b));
    m.sar(a, amount)
}

#[inline(always)]
fn word_amount<M: Ops>(m: &mut M, b: M::V) -> M::V {
    let mask = m.imm(31);
    m.and(b, mask)
}

/// Bitwise complement.
#[inline(always)]
pub(super) fn not<M: Ops>(m: &mut M, a: M::V) -> M::V {
    let ones = m.imm(-1);
    m.xor(a, ones)
}

/// The one of a and b that `cond` prefers as its left side.
#[inline(always)]
pub(super) fn choose<M: Ops>(cond: Cond) -> impl FnOnce(&mut M, M::V, M::V) -> M::V {
    move |m, a, b| {
        let first = m.cmp(cond, a, b);
        m.select(first, a, b)
    }
}

/// 1 if the comparison holds, else 0.
#[inline(always)]
pub(super) fn compare<M: Ops>(cond: Cond) -> impl FnOnce(&mut M, M::V, M::V) -> M::V {
    move |m, a, b| m.cmp(cond, a, b)
}

/// `rd = memory[rs1]`; `memory[rs1] = rs2` if it was equal to the old rd, as one (Zacas).
#[inline(always)]
pub(super) fn compare_and_swap<M: Ops>(m: &mut M, i: &Insn, width: Width) -> Result<(), M::Exit> {
    let (address, expected, new) = (m.x(i.rs1), m.x(i.rd), m.x(i.rs2));
    let old = m.compare_and_swap(i, address, width, expected, new)?;
    m.set_x(i.rd, old);
    Ok(())
}
