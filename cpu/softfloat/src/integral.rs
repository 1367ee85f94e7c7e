//! Rounding to an integer in the same format (Zfa chapter, Round-to-Integer Instructions).

use crate::format::{exponent, is_negative, magnitude, pack};
use crate::nan::{is_nan, propagate};
use crate::{Flags, Format, Rounding};

/// FROUND: `a` rounded to an integer. Invalid for a signaling NaN, "no other exception flags are set".
#[inline]
pub fn round_to_integral<F: Format>(a: u64, rounding: Rounding, flags: &mut Flags) -> u64 {
    let a = a & F::BITS;
    let exponent = exponent::<F>(a);
    if exponent >= F::BIAS + F::FRACTION_BITS as i32 {
        return if is_nan::<F>(a) { propagate::<F, 1>([a], flags) } else { a };
    }
    let negative = is_negative::<F>(a);
    if exponent < F::BIAS {
        // Below one: an integer only if zero; otherwise the result is 0 or 1 with the sign of `a`.
        let half = ((F::BIAS - 1) as u64) << F::FRACTION_BITS;
        let up = match rounding {
            Rounding::NearestEven => magnitude::<F>(a) > half,
            Rounding::TowardZero => false,
            Rounding::Down => negative && magnitude::<F>(a) != 0,
            Rounding::Up => !negative && magnitude::<F>(a) != 0,
            Rounding::NearestMaxMagnitude => magnitude::<F>(a) >= half,
        };
        return pack::<F>(negative, if up { (F::BIAS as u64) << F::FRACTION_BITS } else { 0 });
    }
    // A carry out of the fraction increments the exponent field, as it should.
    let fraction_bits = (F::BIAS + F::FRACTION_BITS as i32 - exponent) as u32;
    let fraction_mask = (1 << fraction_bits) - 1;
    let mut rounded = (a + rounding.increment(negative, fraction_bits)) & !fraction_mask;
    if rounding == Rounding::NearestEven && a & fraction_mask == 1 << (fraction_bits - 1) {
        rounded &= !(1 << fraction_bits);
    }
    rounded
}

/// FROUNDNX: [`round_to_integral`] that "also sets the inexact exception flag if the input differs from the rounded
/// result and is not NaN".
#[inline]
pub fn round_to_integral_exact<F: Format>(a: u64, rounding: Rounding, flags: &mut Flags) -> u64 {
    let rounded = round_to_integral::<F>(a, rounding, flags);
    if rounded != a & F::BITS && !is_nan::<F>(a) {
        *flags |= Flags::NX;
    }
    rounded
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::F64;

    /// FROUND: "no other exception flags are set"; FROUNDNX "also sets the inexact exception flag if the input differs
    /// from the rounded result and is not NaN".
    #[test]
    fn only_the_exact_variant_is_inexact() {
        let two_and_a_half = 0x4004_0000_0000_0000;
        let mut flags = Flags::NONE;
        let rounded = round_to_integral::<F64>(two_and_a_half, Rounding::NearestEven, &mut flags);
        assert_eq!((rounded, flags), (0x4000_0000_0000_0000, Flags::NONE));
        let rounded = round_to_integral_exact::<F64>(two_and_a_half, Rounding::NearestMaxMagnitude, &mut flags);
        assert_eq!((rounded, flags), (0x4008_0000_0000_0000, Flags::NX));
    }

    /// Results of magnitude zero keep the operand's sign, and NaNs become canonical without inexact.
    #[test]
    fn zeros_and_nans() {
        let mut flags = Flags::NONE;
        assert_eq!(round_to_integral::<F64>(0xbfd0_0000_0000_0000, Rounding::Up, &mut flags), F64::SIGN);
        assert_eq!(round_to_integral_exact::<F64>(u64::MAX, Rounding::Up, &mut flags), F64::CANONICAL_NAN);
        assert_eq!(flags, Flags::NONE);
    }
}
