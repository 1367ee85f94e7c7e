//! Multiplication (IEEE 754-2008 §5.4.1).

use crate::format::{is_negative, is_special, magnitude, pack, unpack_normalized};
use crate::nan::{invalid, is_nan, propagate};
use crate::round_pack::{LEADING, high_sticky, round_pack};
use crate::{Flags, Format, Rounding};

/// `a` × `b`.
#[inline]
pub fn mul<F: Format>(a: u64, b: u64, rounding: Rounding, flags: &mut Flags) -> u64 {
    let negative = is_negative::<F>(a ^ b);
    if is_special::<F>(a) || is_special::<F>(b) {
        return mul_special::<F>(a, b, flags);
    }
    if magnitude::<F>(a) == 0 || magnitude::<F>(b) == 0 {
        return pack::<F>(negative, 0);
    }
    let (a_exponent, a) = unpack_normalized::<F>(a);
    let (b_exponent, b) = unpack_normalized::<F>(b);
    // The product of two significands in [1, 2) is in [1, 4): its leading one is bit 61 or 62.
    let product = if 2 * F::FRACTION_BITS < LEADING {
        (a << (LEADING - 1 - 2 * F::FRACTION_BITS)) * b
    } else {
        let a = a << (LEADING - F::FRACTION_BITS);
        let b = b << (LEADING + 1 - F::FRACTION_BITS);
        high_sticky(u128::from(a) * u128::from(b))
    };
    let shift = product >> LEADING ^ 1;
    let exponent = a_exponent + b_exponent - F::BIAS + 1 - shift as i32;
    round_pack::<F>(negative, exponent, product << shift, rounding, flags)
}

/// The product where an operand is an infinity or a NaN.
#[cold]
fn mul_special<F: Format>(a: u64, b: u64, flags: &mut Flags) -> u64 {
    if is_nan::<F>(a) || is_nan::<F>(b) {
        return propagate::<F, 2>([a, b], flags);
    }
    if magnitude::<F>(a) == 0 || magnitude::<F>(b) == 0 {
        return invalid::<F>(flags);
    }
    pack::<F>(is_negative::<F>(a ^ b), F::INFINITY)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::F32;

    fn run(a: u64, b: u64, rounding: Rounding) -> (u64, Flags) {
        let mut flags = Flags::NONE;
        (mul::<F32>(a, b, rounding, &mut flags), flags)
    }

    /// "tininess is detected after rounding": 2^−126 × (1 − 2^−46) rounds to 2^−126 even with an unbounded exponent,
    /// so it is not tiny; 2^−126 × (1 − 2^−24) is exact then, so it is, although it is delivered as 2^−126 too.
    #[test]
    fn underflow_depends_on_the_rounded_value() {
        assert_eq!(run(0x0080_0001, 0x3f7f_fffe, Rounding::NearestEven), (0x0080_0000, Flags::NX));
        assert_eq!(run(0x0080_0000, 0x3f7f_ffff, Rounding::NearestEven), (0x0080_0000, Flags::UF | Flags::NX));
        assert_eq!(run(0x0080_0001, 0x3f7f_fffe, Rounding::TowardZero), (0x007f_ffff, Flags::UF | Flags::NX));
    }

    /// An exact subnormal result raises nothing.
    #[test]
    fn exact_subnormals_do_not_underflow() {
        assert_eq!(run(0x0080_0000, 0x3f00_0000, Rounding::NearestEven), (0x0040_0000, Flags::NONE));
    }

    /// IEEE 754-2008 §7.4: what overflow delivers depends on the mode and the sign.
    #[test]
    fn overflow_delivers_infinity_or_the_largest_number() {
        let raised = Flags::OF | Flags::NX;
        let product = |a, rounding| run(a, 0x4000_0000, rounding);
        assert_eq!(product(0x7f7f_ffff, Rounding::NearestEven), (0x7f80_0000, raised));
        assert_eq!(product(0x7f7f_ffff, Rounding::Down), (0x7f7f_ffff, raised));
        assert_eq!(product(0xff7f_ffff, Rounding::Down), (0xff80_0000, raised));
        assert_eq!(product(0xff7f_ffff, Rounding::Up), (0xff7f_ffff, raised));
        assert_eq!(product(0xff7f_ffff, Rounding::TowardZero), (0xff7f_ffff, raised));
    }
}
