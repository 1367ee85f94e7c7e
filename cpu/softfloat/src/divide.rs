//! Division (IEEE 754-2008 §5.4.1).

use crate::format::{is_negative, is_special, magnitude, pack, unpack_normalized};
use crate::nan::{invalid, is_nan, propagate};
use crate::round_pack::{LEADING, round_pack};
use crate::{Flags, Format, Rounding};

/// `a` ÷ `b`.
#[inline]
pub fn div<F: Format>(a: u64, b: u64, rounding: Rounding, flags: &mut Flags) -> u64 {
    let negative = is_negative::<F>(a ^ b);
    if is_special::<F>(a) || is_special::<F>(b) {
        return div_special::<F>(a, b, flags);
    }
    if magnitude::<F>(b) == 0 {
        if magnitude::<F>(a) == 0 {
            return invalid::<F>(flags);
        }
        *flags |= Flags::DZ;
        return pack::<F>(negative, F::INFINITY);
    }
    if magnitude::<F>(a) == 0 {
        return pack::<F>(negative, 0);
    }
    let (a_exponent, a) = unpack_normalized::<F>(a);
    let (b_exponent, b) = unpack_normalized::<F>(b);
    // The quotient of two significands in [1, 2) is in (1/2, 2): its leading one is bit 61 or 62.
    let (quotient, remainder) = if 2 * F::FRACTION_BITS < LEADING {
        // 62 − FRACTION_BITS quotient bits are enough; the places below are zero.
        let dividend = a << (LEADING - F::FRACTION_BITS);
        ((dividend / b) << F::FRACTION_BITS, dividend % b)
    } else {
        let dividend = u128::from(a) << LEADING;
        let quotient = (dividend / u128::from(b)) as u64;
        (quotient, (dividend as u64).wrapping_sub(quotient.wrapping_mul(b)))
    };
    let quotient = quotient | u64::from(remainder != 0);
    let shift = quotient >> LEADING ^ 1;
    let exponent = a_exponent - b_exponent + F::BIAS - shift as i32;
    round_pack::<F>(negative, exponent, quotient << shift, rounding, flags)
}

/// The quotient where an operand is an infinity or a NaN.
#[cold]
fn div_special<F: Format>(a: u64, b: u64, flags: &mut Flags) -> u64 {
    if is_nan::<F>(a) || is_nan::<F>(b) {
        return propagate::<F, 2>([a, b], flags);
    }
    let negative = is_negative::<F>(a ^ b);
    match (is_special::<F>(a), is_special::<F>(b)) {
        (true, true) => invalid::<F>(flags),
        (true, false) => pack::<F>(negative, F::INFINITY),
        (false, _) => pack::<F>(negative, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::F64;

    /// IEEE 754-2008 §7.3: divideByZero for a finite non-zero dividend; §7.2: 0/0 and ∞/∞ are invalid.
    #[test]
    fn division_by_zero() {
        let run = |a, b| {
            let mut flags = Flags::NONE;
            (div::<F64>(a, b, Rounding::NearestEven, &mut flags), flags)
        };
        assert_eq!(run(1, F64::SIGN), (F64::SIGN | F64::INFINITY, Flags::DZ));
        assert_eq!(run(0, 0), (F64::CANONICAL_NAN, Flags::NV));
        assert_eq!(run(F64::INFINITY, 0), (F64::INFINITY, Flags::NONE));
        assert_eq!(run(F64::INFINITY, F64::INFINITY), (F64::CANONICAL_NAN, Flags::NV));
    }
}
