//! Fused multiply-add (IEEE 754-2008 §5.4.1).

use crate::format::{is_negative, is_special, magnitude, pack, unpack_normalized};
use crate::nan::{invalid, is_nan, propagate};
use crate::round_pack::{LEADING, high_sticky, round_pack, shift_right_sticky_128};
use crate::{Flags, Format, Rounding};

/// `a` × `b` + `c`, rounded once.
///
/// FMADD is this; FMSUB negates `c`, FNMSUB negates `a`, FNMADD negates both ("F" chapter: FNMADD computes
/// −(rs1×rs2)−rs3, the product is negated, not the sum).
#[inline]
pub fn mul_add<F: Format>(a: u64, b: u64, c: u64, rounding: Rounding, flags: &mut Flags) -> u64 {
    if is_special::<F>(a) || is_special::<F>(b) || is_special::<F>(c) {
        return mul_add_special::<F>(a, b, c, flags);
    }
    let product_negative = is_negative::<F>(a ^ b);
    let addend_negative = is_negative::<F>(c);
    let subtracts = product_negative != addend_negative;
    if magnitude::<F>(a) == 0 || magnitude::<F>(b) == 0 {
        if magnitude::<F>(c) == 0 && subtracts {
            return pack::<F>(rounding == Rounding::Down, 0);
        }
        return c & F::BITS;
    }
    let (a_exponent, a) = unpack_normalized::<F>(a);
    let (b_exponent, b) = unpack_normalized::<F>(b);
    // Both terms have their unit at bit 124; the product is in [1, 4). Its lowest one is bit 20 or higher, so that an
    // alignment by up to 20 is exact, and one by more leaves no cancellation of more than two places.
    let unit = LEADING - F::FRACTION_BITS;
    let product = u128::from(a << unit) * u128::from(b << unit);
    let product_exponent = a_exponent + b_exponent - F::BIAS;
    let (negative, exponent, sum) = if magnitude::<F>(c) == 0 {
        (product_negative, product_exponent, product)
    } else {
        let (addend_exponent, c) = unpack_normalized::<F>(c);
        let addend = u128::from(c << unit) << LEADING;
        let distance = product_exponent - addend_exponent;
        let product = shift_right_sticky_128(product, (-distance).max(0) as u32);
        let addend = shift_right_sticky_128(addend, distance.max(0) as u32);
        let exponent = product_exponent.max(addend_exponent);
        if !subtracts {
            (product_negative, exponent, product + addend)
        } else if product >= addend {
            (product_negative, exponent, product - addend)
        } else {
            (addend_negative, exponent, addend - product)
        }
    };
    if sum == 0 {
        return pack::<F>(rounding == Rounding::Down, 0);
    }
    let leading_zeros = sum.leading_zeros();
    let significand = high_sticky(sum << (leading_zeros - 1));
    round_pack::<F>(negative, exponent + 3 - leading_zeros as i32, significand, rounding, flags)
}

/// The result where an operand is an infinity or a NaN.
#[cold]
fn mul_add_special<F: Format>(a: u64, b: u64, c: u64, flags: &mut Flags) -> u64 {
    let is_infinite = |x| magnitude::<F>(x) == F::INFINITY;
    let is_zero = |x| magnitude::<F>(x) == 0;
    // "must set the invalid operation exception flag when the multiplicands are ∞ and zero, even when the addend is a
    // quiet NaN".
    if (is_infinite(a) && is_zero(b)) || (is_zero(a) && is_infinite(b)) {
        return invalid::<F>(flags);
    }
    if is_nan::<F>(a) || is_nan::<F>(b) || is_nan::<F>(c) {
        return propagate::<F, 3>([a, b, c], flags);
    }
    let product_negative = is_negative::<F>(a ^ b);
    if !is_infinite(a) && !is_infinite(b) {
        c & F::BITS
    } else if is_infinite(c) && product_negative != is_negative::<F>(c) {
        invalid::<F>(flags)
    } else {
        pack::<F>(product_negative, F::INFINITY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{F64, add, mul, negate};

    const ONE: u64 = 0x3ff0_0000_0000_0000;

    /// (1 + 2^−52) × (1 − 2^−52) − 1 = −2^−104; rounding the product first gives 0.
    #[test]
    fn rounds_once() {
        let (a, b, c) = (ONE + 1, 0x3fef_ffff_ffff_fffe, negate::<F64>(ONE));
        let mut flags = Flags::NONE;
        assert_eq!(mul_add::<F64>(a, b, c, Rounding::NearestEven, &mut flags), 0xb970_0000_0000_0000);
        assert_eq!(flags, Flags::NONE);
        let product = mul::<F64>(a, b, Rounding::NearestEven, &mut flags);
        assert_eq!(add::<F64>(product, c, Rounding::NearestEven, &mut flags), 0);
    }

    /// "must set the invalid operation exception flag when the multiplicands are ∞ and zero, even when the addend is a
    /// quiet NaN".
    #[test]
    fn infinity_times_zero_is_invalid_before_a_quiet_nan() {
        let mut flags = Flags::NONE;
        let result = mul_add::<F64>(F64::INFINITY, 0, F64::CANONICAL_NAN, Rounding::NearestEven, &mut flags);
        assert_eq!((result, flags), (F64::CANONICAL_NAN, Flags::NV));
    }
}
