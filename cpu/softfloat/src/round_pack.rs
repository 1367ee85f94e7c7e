//! The last step of every rounding operation: from an exact (or sticky) significand to an encoding and its flags.

use crate::format::pack;
use crate::{Flags, Format, Rounding};

/// Position of the leading one in a significand that [`round_pack`] takes.
pub(crate) const LEADING: u32 = 62;

/// Shifts right; ones that are shifted out stay visible as a one in bit 0, so that a later rounding still sees that
/// the value is inexact and on which side of a tie it lies.
#[inline]
pub(crate) fn shift_right_sticky(value: u64, shift: u32) -> u64 {
    if shift < 64 { value >> shift | u64::from(value & !(u64::MAX << shift) != 0) } else { u64::from(value != 0) }
}

/// [`shift_right_sticky`] for 128 bits.
#[inline]
pub(crate) fn shift_right_sticky_128(value: u128, shift: u32) -> u128 {
    if shift < 128 { value >> shift | u128::from(value & !(u128::MAX << shift) != 0) } else { u128::from(value != 0) }
}

/// The high 64 bits, with the low ones as stickiness.
#[inline]
pub(crate) fn high_sticky(value: u128) -> u64 {
    (value >> 64) as u64 | u64::from(value as u64 != 0)
}

/// Rounds ±`significand` × 2^(`exponent` − bias − 62) to the format (IEEE 754-2008 §4.3, §7.4 to §7.6).
///
/// The significand's leading one is bit [`LEADING`], its bit 0 may be sticky. `exponent` is biased but unbounded: what
/// lies below 1 becomes subnormal, what lies too high overflows.
#[inline]
pub(crate) fn round_pack<F: Format>(
    negative: bool,
    exponent: i32,
    mut significand: u64,
    rounding: Rounding,
    flags: &mut Flags,
) -> u64 {
    debug_assert_eq!(significand >> LEADING, 1);
    let discarded_bits = LEADING - F::FRACTION_BITS;
    let discarded_mask = (1 << discarded_bits) - 1;
    let increment = rounding.increment(negative, discarded_bits);
    // The leading one is added to the exponent field below, and so is a carry out of the rounded significand.
    let mut field = exponent - 1;
    // One comparison for both ends: the exponent is below 1, or so high that a carry could overflow.
    if field as u32 >= (F::EXPONENT_MAX - 2) as u32 {
        let carries = significand + increment >= 1 << (LEADING + 1);
        if exponent < 1 {
            // "Tininess is detected after rounding": as if the exponent were unbounded, so with all bits of precision.
            let tiny = exponent < 0 || !carries;
            significand = shift_right_sticky(significand, (1 - exponent) as u32);
            field = 0;
            if tiny && significand & discarded_mask != 0 {
                *flags |= Flags::UF;
            }
        } else if exponent >= F::EXPONENT_MAX || carries {
            *flags |= Flags::OF | Flags::NX;
            let magnitude = if increment == 0 { F::MAX_FINITE } else { F::INFINITY };
            return pack::<F>(negative, magnitude);
        }
    }
    let discarded = significand & discarded_mask;
    significand = (significand + increment) >> discarded_bits;
    if discarded != 0 {
        *flags |= Flags::NX;
        if discarded == 1 << (discarded_bits - 1) && rounding == Rounding::NearestEven {
            significand &= !1;
        }
    }
    pack::<F>(negative, ((field as u64) << F::FRACTION_BITS) + significand)
}
