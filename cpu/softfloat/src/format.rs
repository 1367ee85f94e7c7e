//! The interchange formats of IEEE 754-2008 §3.4 that RISC-V registers hold, and access to their fields.

mod sealed {
    pub trait Sealed {}
}

/// A binary interchange format. All constants beyond the two widths and `FMT` follow from the widths.
pub trait Format: sealed::Sealed + Copy + 'static {
    /// Width of the biased exponent field in bits.
    const EXPONENT_BITS: u32;
    /// Width of the trailing significand field in bits.
    const FRACTION_BITS: u32;
    /// Encoding of an instruction's `fmt` field ("F" chapter, table "Format field encoding").
    const FMT: u8;

    /// Width of an encoding in bits.
    const WIDTH: u32 = 1 + Self::EXPONENT_BITS + Self::FRACTION_BITS;
    /// The bits of an encoding.
    const BITS: u64 = u64::MAX >> (64 - Self::WIDTH);
    /// The sign bit.
    const SIGN: u64 = 1 << (Self::WIDTH - 1);
    /// All bits but the sign.
    const MAGNITUDE: u64 = Self::SIGN - 1;
    /// The trailing significand field.
    const FRACTION: u64 = (1 << Self::FRACTION_BITS) - 1;
    /// Exponent field of infinities and NaNs; also twice the bias plus one.
    const EXPONENT_MAX: i32 = (1 << Self::EXPONENT_BITS) - 1;
    /// Exponent bias.
    const BIAS: i32 = Self::EXPONENT_MAX >> 1;
    /// Smallest positive normal number.
    const MIN_NORMAL: u64 = 1 << Self::FRACTION_BITS;
    /// Largest finite number.
    const MAX_FINITE: u64 = Self::INFINITY - 1;
    /// +∞.
    const INFINITY: u64 = Self::MAGNITUDE & !Self::FRACTION;
    /// The bit that tells a quiet NaN from a signaling one.
    const QUIET: u64 = 1 << (Self::FRACTION_BITS - 1);
    /// The canonical NaN: "a positive sign and all significand bits clear except the MSB".
    const CANONICAL_NAN: u64 = Self::INFINITY | Self::QUIET;
}

/// Half precision, binary16.
#[derive(Clone, Copy, Debug)]
pub enum F16 {}

/// Single precision, binary32.
#[derive(Clone, Copy, Debug)]
pub enum F32 {}

/// Double precision, binary64.
#[derive(Clone, Copy, Debug)]
pub enum F64 {}

impl sealed::Sealed for F16 {}
impl sealed::Sealed for F32 {}
impl sealed::Sealed for F64 {}

impl Format for F16 {
    const EXPONENT_BITS: u32 = 5;
    const FRACTION_BITS: u32 = 10;
    const FMT: u8 = 0b10;
}

impl Format for F32 {
    const EXPONENT_BITS: u32 = 8;
    const FRACTION_BITS: u32 = 23;
    const FMT: u8 = 0b00;
}

impl Format for F64 {
    const EXPONENT_BITS: u32 = 11;
    const FRACTION_BITS: u32 = 52;
    const FMT: u8 = 0b01;
}

/// Whether the sign bit is set.
#[inline]
pub(crate) const fn is_negative<F: Format>(a: u64) -> bool {
    a & F::SIGN != 0
}

/// The encoding without its sign (and without bits above the format).
#[inline]
pub(crate) const fn magnitude<F: Format>(a: u64) -> u64 {
    a & F::MAGNITUDE
}

/// The biased exponent field.
#[inline]
pub(crate) const fn exponent<F: Format>(a: u64) -> i32 {
    (magnitude::<F>(a) >> F::FRACTION_BITS) as i32
}

/// Whether the value is an infinity or a NaN.
#[inline]
pub(crate) const fn is_special<F: Format>(a: u64) -> bool {
    magnitude::<F>(a) >= F::INFINITY
}

/// An encoding from a sign and a magnitude.
#[inline]
pub(crate) const fn pack<F: Format>(negative: bool, magnitude: u64) -> u64 {
    (negative as u64) << (F::WIDTH - 1) | magnitude
}

/// A finite number as (exponent, significand): the significand's unit bit is bit `FRACTION_BITS`, the exponent is
/// biased and at least 1. A subnormal keeps its leading zeros.
#[inline]
pub(crate) fn unpack<F: Format>(a: u64) -> (i32, u64) {
    let exponent = exponent::<F>(a);
    let fraction = a & F::FRACTION;
    if exponent == 0 { (1, fraction) } else { (exponent, fraction | F::MIN_NORMAL) }
}

/// A finite number other than zero as (exponent, significand): the significand's leading one is bit
/// `FRACTION_BITS`, the exponent is biased and, for a subnormal, zero or negative.
#[inline]
pub(crate) fn unpack_normalized<F: Format>(a: u64) -> (i32, u64) {
    let exponent = exponent::<F>(a);
    let fraction = a & F::FRACTION;
    if exponent == 0 {
        let shift = fraction.leading_zeros() - (63 - F::FRACTION_BITS);
        (1 - shift as i32, fraction << shift)
    } else {
        (exponent, fraction | F::MIN_NORMAL)
    }
}
