//! Sign injection ("F" chapter, FSGNJ, FSGNJN, FSGNJX): no flags, and NaNs are not canonicalized.

use crate::Format;

/// `a` with its sign inverted; NaNs keep their payload.
#[inline]
pub const fn negate<F: Format>(a: u64) -> u64 {
    (a ^ F::SIGN) & F::BITS
}

/// FSGNJ: `a` with the sign of `b`.
#[inline]
pub const fn sgnj<F: Format>(a: u64, b: u64) -> u64 {
    (a & F::MAGNITUDE) | (b & F::SIGN)
}

/// FSGNJN: `a` with the inverted sign of `b`.
#[inline]
pub const fn sgnjn<F: Format>(a: u64, b: u64) -> u64 {
    (a & F::MAGNITUDE) | (!b & F::SIGN)
}

/// FSGNJX: `a` with the exclusive or of both signs.
#[inline]
pub const fn sgnjx<F: Format>(a: u64, b: u64) -> u64 {
    (a ^ (b & F::SIGN)) & F::BITS
}
