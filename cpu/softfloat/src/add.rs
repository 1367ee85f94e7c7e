//! Addition and subtraction (IEEE 754-2008 §5.4.1).

use crate::format::{is_negative, is_special, magnitude, pack, unpack};
use crate::nan::{invalid, is_nan, propagate};
use crate::round_pack::{LEADING, round_pack, shift_right_sticky};
use crate::{Flags, Format, Rounding};

/// `a` + `b`.
#[inline]
pub fn add<F: Format>(a: u64, b: u64, rounding: Rounding, flags: &mut Flags) -> u64 {
    if is_special::<F>(a) || is_special::<F>(b) {
        return add_special::<F>(a, b, flags);
    }
    let subtracts = is_negative::<F>(a ^ b);
    let (a_magnitude, b_magnitude) = (magnitude::<F>(a), magnitude::<F>(b));
    let negative = is_negative::<F>(if a_magnitude >= b_magnitude { a } else { b });
    let (exponent, larger) = unpack::<F>(a_magnitude.max(b_magnitude));
    let (smaller_exponent, smaller) = unpack::<F>(a_magnitude.min(b_magnitude));
    // One place is left for a carry. The nine places or more below the last fraction bit suffice: a difference loses
    // two or more leading places only where the alignment was by at most one, which shifts nothing out.
    let position = LEADING - 1 - F::FRACTION_BITS;
    let larger = larger << position;
    let smaller = shift_right_sticky(smaller << position, (exponent - smaller_exponent) as u32);
    // Signs and magnitudes are as good as random to the host's branch predictor: no branches on them.
    let negation = u64::from(subtracts).wrapping_neg();
    let sum = larger.wrapping_add((smaller ^ negation).wrapping_sub(negation));
    if sum == 0 {
        let negative = if subtracts { rounding == Rounding::Down } else { negative };
        return pack::<F>(negative, 0);
    }
    let shift = sum.leading_zeros() - (63 - LEADING);
    round_pack::<F>(negative, exponent + 1 - shift as i32, sum << shift, rounding, flags)
}

/// `a` − `b`.
#[inline]
pub fn sub<F: Format>(a: u64, b: u64, rounding: Rounding, flags: &mut Flags) -> u64 {
    add::<F>(a, b ^ F::SIGN, rounding, flags)
}

/// The sum where an operand is an infinity or a NaN.
#[cold]
fn add_special<F: Format>(a: u64, b: u64, flags: &mut Flags) -> u64 {
    if is_nan::<F>(a) || is_nan::<F>(b) {
        return propagate::<F, 2>([a, b], flags);
    }
    match (is_special::<F>(a), is_special::<F>(b)) {
        (true, true) if is_negative::<F>(a) != is_negative::<F>(b) => invalid::<F>(flags),
        (true, _) => a & F::BITS,
        (false, _) => b & F::BITS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::F64;

    /// IEEE 754-2008 §6.3: an exact zero sum of unlike signs is +0, and −0 under roundTowardNegative.
    #[test]
    fn sign_of_a_zero_sum() {
        let one = 0x3ff0_0000_0000_0000;
        for rounding in Rounding::ALL {
            let expected = if rounding == Rounding::Down { F64::SIGN } else { 0 };
            let mut flags = Flags::NONE;
            assert_eq!(sub::<F64>(one, one, rounding, &mut flags), expected);
            assert_eq!(add::<F64>(0, F64::SIGN, rounding, &mut flags), expected);
            assert_eq!(add::<F64>(F64::SIGN, F64::SIGN, rounding, &mut flags), F64::SIGN);
            assert_eq!(flags, Flags::NONE);
        }
    }

    /// Accrued flags stay: an operation without exceptions clears nothing.
    #[test]
    fn flags_accrue() {
        let mut flags = Flags::DZ;
        add::<F64>(F64::INFINITY, F64::INFINITY | F64::SIGN, Rounding::Up, &mut flags);
        add::<F64>(0, 0, Rounding::Up, &mut flags);
        assert_eq!(flags, Flags::DZ | Flags::NV);
    }
}
