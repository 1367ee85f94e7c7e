//! Semantics that the floating-point rows share, with NaN boxing (unprivileged specification, "NaN Boxing of Narrower
//! Values"): a value narrower than its register has ones above it; one that has not reads as the canonical NaN.

use super::{Cond, Extend, FloatOp, Format, Insn, IntFormat, Ops};

/// The bits of the canonical NaN.
const fn canonical_nan(format: Format) -> i64 {
    match format {
        Format::Half => 0x7e00,
        Format::Single => 0x7fc0_0000,
        Format::Double => 0x7ff8_0000_0000_0000,
    }
}

const fn sign_bit(format: Format) -> i64 {
    1 << (format.width().bits() - 1)
}

/// Reads a register as a value of `format`, zero-extended.
#[inline(always)]
fn unboxed<M: Ops>(m: &mut M, r: u8, format: Format) -> M::V {
    let register = m.f(r);
    if format == Format::Double {
        return register;
    }
    let boxes = m.imm(!(format.width().mask() as i64));
    let (nan, value) = (m.imm(canonical_nan(format)), m.zext(register, format.width()));
    // Unsigned, what has all the upper bits set is no less than those bits alone.
    let boxed = m.cmp(Cond::Geu, register, boxes);
    m.select(boxed, value, nan)
}

/// Writes a register with a value of `format`, whose upper bits are ignored.
#[inline(always)]
fn set_boxed<M: Ops>(m: &mut M, r: u8, format: Format, value: M::V) {
    let value = if format == Format::Double {
        value
    } else {
        let boxes = m.imm(!(format.width().mask() as i64));
        m.or(value, boxes)
    };
    m.set_f(r, value);
}

/// `frd = memory[rs1 + imm]`.
#[inline(always)]
pub(super) fn load<M: Ops>(m: &mut M, i: &Insn, format: Format) -> Result<(), M::Exit> {
    let address = super::shapes::address(m, i);
    let value = m.load(i, address, format.width(), Extend::Zero)?;
    set_boxed(m, i.rd, format, value);
    Ok(())
}

/// `memory[rs1 + imm] = frs2`, whether or not it is boxed.
#[inline(always)]
pub(super) fn store<M: Ops>(m: &mut M, i: &Insn, format: Format) -> Result<(), M::Exit> {
    let address = super::shapes::address(m, i);
    let value = m.f(i.rs2);
    m.store(i, address, format.width(), value)
}

/// `frd = op(frs1, frs2)`.
#[inline(always)]
pub(super) fn binary<M: Ops>(m: &mut M, i: &Insn, op: FloatOp, format: Format) -> Result<(), M::Exit> {
    let (a, b) = (unboxed(m, i.rs1, format), unboxed(m, i.rs2, format));
    let value = m.float(i, op, format, [a, b, b]);
    set_boxed(m, i.rd, format, value);
    Ok(())
}

/// `frd = op(frs1)`.
#[inline(always)]
pub(super) fn unary<M: Ops>(m: &mut M, i: &Insn, op: FloatOp, format: Format) -> Result<(), M::Exit> {
    let a = unboxed(m, i.rs1, format);
    let value = m.float(i, op, format, [a; 3]);
    set_boxed(m, i.rd, format, value);
    Ok(())
}

/// `frd = ±(frs1 × frs2) ± frs3`. Flipping the sign of an operand is exact, and of a NaN it does not show.
#[inline(always)]
pub(super) fn multiply_add<M: Ops>(
    m: &mut M,
    i: &Insn,
    format: Format,
    negate_product: bool,
    negate_addend: bool,
) -> Result<(), M::Exit> {
    let (a, b, c) = (unboxed(m, i.rs1, format), unboxed(m, i.rs2, format), unboxed(m, i.rs3, format));
    let a = negated_if(m, negate_product, a, format);
    let c = negated_if(m, negate_addend, c, format);
    let value = m.float(i, FloatOp::MulAdd, format, [a, b, c]);
    set_boxed(m, i.rd, format, value);
    Ok(())
}

#[inline(always)]
fn negated_if<M: Ops>(m: &mut M, negate: bool, value: M::V, format: Format) -> M::V {
    if !negate {
        return value;
    }
    let sign = m.imm(sign_bit(format));
    m.xor(value, sign)
}

/// Where `fsgnj` and its kin take the sign from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sign {
    /// From frs2.
    Copy,
    /// From frs2, inverted.
    Negate,
    /// Exclusive or of both.
    Xor,
}

/// `frd` = frs1 with another sign.
#[inline(always)]
pub(super) fn inject_sign<M: Ops>(m: &mut M, i: &Insn, sign: Sign, format: Format) -> Result<(), M::Exit> {
    let (a, b) = (unboxed(m, i.rs1, format), unboxed(m, i.rs2, format));
    let mask = m.imm(sign_bit(format));
    let b = if sign == Sign::Negate { m.xor(b, mask) } else { b };
    let new = m.and(b, mask);
    let value = if sign == Sign::Xor {
        m.xor(a, new)
    } else {
        let magnitude_mask = m.imm(!sign_bit(format));
        let magnitude = m.and(a, magnitude_mask);
        m.or(magnitude, new)
    };
    set_boxed(m, i.rd, format, value);
    Ok(())
}

/// `rd = op(frs1, frs2)`, an integer.
#[inline(always)]
pub(super) fn compare<M: Ops>(m: &mut M, i: &Insn, op: FloatOp, format: Format) -> Result<(), M::Exit> {
    let (a, b) = (unboxed(m, i.rs1, format), unboxed(m, i.rs2, format));
    let value = m.float(i, op, format, [a, b, b]);
    m.set_x(i.rd, value);
    Ok(())
}

/// `rd = op(frs1)`, an integer.
#[inline(always)]
pub(super) fn to_integer<M: Ops>(m: &mut M, i: &Insn, op: FloatOp, format: Format) -> Result<(), M::Exit> {
    let a = unboxed(m, i.rs1, format);
    let value = m.float(i, op, format, [a; 3]);
    m.set_x(i.rd, value);
    Ok(())
}

/// `frd` = the integer rs1, of which the low bits count for 32-bit formats.
#[inline(always)]
pub(super) fn from_integer<M: Ops>(m: &mut M, i: &Insn, from: IntFormat, format: Format) -> Result<(), M::Exit> {
    let a = m.x(i.rs1);
    let value = m.float(i, FloatOp::FromInt(from), format, [a; 3]);
    set_boxed(m, i.rd, format, value);
    Ok(())
}

/// `frd` = frs1 in another format.
#[inline(always)]
pub(super) fn convert<M: Ops>(m: &mut M, i: &Insn, from: Format, to: Format) -> Result<(), M::Exit> {
    let a = unboxed(m, i.rs1, from);
    let value = m.float(i, FloatOp::From(from), to, [a; 3]);
    set_boxed(m, i.rd, to, value);
    Ok(())
}

/// `rd` = the bits of frs1, sign-extended, whether or not it is boxed.
#[inline(always)]
pub(super) fn move_to_integer<M: Ops>(m: &mut M, i: &Insn, format: Format) -> Result<(), M::Exit> {
    let register = m.f(i.rs1);
    let value = m.sext(register, format.width());
    m.set_x(i.rd, value);
    Ok(())
}

/// `frd` = the bits of rs1.
#[inline(always)]
pub(super) fn move_from_integer<M: Ops>(m: &mut M, i: &Insn, format: Format) -> Result<(), M::Exit> {
    let value = m.x(i.rs1);
    set_boxed(m, i.rd, format, value);
    Ok(())
}

/// The constants of Zfa's `fli`, by the number in rs1's field. 1 and 29 to 31 have a meaning of their own.
pub(super) const LOADABLE: [f64; 32] = [
    -1.0,
    f64::MIN_POSITIVE,
    1.0 / 65536.0,
    1.0 / 32768.0,
    1.0 / 256.0,
    1.0 / 128.0,
    0.0625,
    0.125,
    0.25,
    0.3125,
    0.375,
    0.4375,
    0.5,
    0.625,
    0.75,
    0.875,
    1.0,
    1.25,
    1.5,
    1.75,
    2.0,
    2.5,
    3.0,
    4.0,
    8.0,
    16.0,
    128.0,
    256.0,
    32768.0,
    65536.0,
    f64::INFINITY,
    f64::NAN,
];

/// The bits of a constant of `fli` in `format` (Zfa, "Load-Immediate Instructions").
pub(super) const fn loadable(format: Format, number: u8) -> i64 {
    match (format, number) {
        (_, 31) => canonical_nan(format),
        // The smallest positive normal number of the format.
        (Format::Half, 1) => 0x0400,
        (Format::Single, 1) => 0x0080_0000,
        (Format::Double, 1) => 0x0010_0000_0000_0000,
        (Format::Double, _) => LOADABLE[number as usize].to_bits() as i64,
        (Format::Single, _) => (LOADABLE[number as usize] as f32).to_bits() as i64,
        (Format::Half, _) => half_bits(LOADABLE[number as usize]),
    }
}

/// The bits of a constant of `fli` in half precision: exact but for 2^-16 and 2^-15, which are subnormal, and 65536,
/// which is infinite.
const fn half_bits(value: f64) -> i64 {
    let bits = value.to_bits();
    let sign = (bits >> 63 << 15) as i64;
    let exponent = (bits >> 52 & 0x7ff) as i64 - 1023;
    let fraction = (bits >> 42 & 0x3ff) as i64;
    if exponent > 15 {
        sign | 0x7c00
    } else if exponent < -14 {
        sign | (0x400 | fraction) >> (-14 - exponent)
    } else {
        sign | (exponent + 15) << 10 | fraction
    }
}

/// `frd` = a constant.
#[inline(always)]
pub(super) fn load_immediate<M: Ops>(m: &mut M, i: &Insn, format: Format) -> Result<(), M::Exit> {
    let value = m.imm(loadable(format, i.rs1));
    set_boxed(m, i.rd, format, value);
    Ok(())
}
