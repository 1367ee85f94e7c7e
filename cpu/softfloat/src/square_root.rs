//! Square root (IEEE 754-2008 §5.4.1).

use crate::format::{is_negative, is_special, magnitude, unpack_normalized};
use crate::nan::{invalid, is_nan, propagate};
use crate::round_pack::{LEADING, round_pack};
use crate::{Flags, Format, Rounding};

/// √`a`; −0 for −0.
#[inline]
pub fn sqrt<F: Format>(a: u64, rounding: Rounding, flags: &mut Flags) -> u64 {
    if magnitude::<F>(a) == 0 {
        return a & F::BITS;
    }
    if is_special::<F>(a) || is_negative::<F>(a) {
        return sqrt_special::<F>(a, flags);
    }
    let (exponent, a) = unpack_normalized::<F>(a);
    let exponent = exponent - F::BIAS;
    // a = radicand × 4^(exponent div 2), radicand in [1, 4).
    let radicand = a << (exponent & 1);
    let significand = if 2 * F::FRACTION_BITS < LEADING {
        // A radicand of 62 fraction bits gives a root of 31.
        let radicand = radicand << (LEADING - F::FRACTION_BITS);
        let root = radicand.isqrt();
        root << (LEADING - 31) | u64::from(root * root != radicand)
    } else {
        // A radicand of 126 fraction bits gives a root of 63, one more than wanted; if it is one, the root is inexact,
        // for an exact root has no more bits than the operand.
        let radicand = u128::from(radicand) << (126 - F::FRACTION_BITS);
        let root = radicand.isqrt();
        (root >> 1) as u64 | u64::from(root * root != radicand)
    };
    round_pack::<F>(false, (exponent >> 1) + F::BIAS, significand, rounding, flags)
}

/// The root of a NaN, an infinity or a number below zero.
#[cold]
fn sqrt_special<F: Format>(a: u64, flags: &mut Flags) -> u64 {
    if is_nan::<F>(a) {
        propagate::<F, 1>([a], flags)
    } else if is_negative::<F>(a) {
        invalid::<F>(flags)
    } else {
        F::INFINITY
    }
}
