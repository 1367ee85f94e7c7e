//! Conversion between formats (IEEE 754-2008 §5.4.2, formatOf-convertFormat).

use crate::format::{is_negative, is_special, magnitude, pack, unpack_normalized};
use crate::nan::{is_nan, propagate};
use crate::round_pack::{LEADING, round_pack};
use crate::{Flags, Format, Rounding};

/// `a` of format `S` in format `D`. To a wider format this is exact and `rounding` has no effect.
#[inline]
pub fn convert<S: Format, D: Format>(a: u64, rounding: Rounding, flags: &mut Flags) -> u64 {
    let negative = is_negative::<S>(a);
    if is_special::<S>(a) {
        if is_nan::<S>(a) {
            propagate::<S, 1>([a], flags);
            return D::CANONICAL_NAN;
        }
        return pack::<D>(negative, D::INFINITY);
    }
    if magnitude::<S>(a) == 0 {
        return pack::<D>(negative, 0);
    }
    let (exponent, significand) = unpack_normalized::<S>(a);
    let significand = significand << (LEADING - S::FRACTION_BITS);
    round_pack::<D>(negative, exponent - S::BIAS + D::BIAS, significand, rounding, flags)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{F16, F32, F64};

    /// 1 + 2^−11 + 2^−40 is above the half-precision tie, but single precision rounds it onto the tie.
    #[test]
    fn narrowing_rounds_once() {
        let a = 0x3ff0_0200_0000_1000;
        let mut flags = Flags::NONE;
        assert_eq!(convert::<F64, F16>(a, Rounding::NearestEven, &mut flags), 0x3c01);
        let single = convert::<F64, F32>(a, Rounding::NearestEven, &mut flags);
        assert_eq!(convert::<F32, F16>(single, Rounding::NearestEven, &mut flags), 0x3c00);
    }

    /// "if the result of a floating-point operation is NaN, it is the canonical NaN".
    #[test]
    fn nan_payloads_and_signs_are_lost() {
        let mut flags = Flags::NONE;
        assert_eq!(convert::<F32, F64>(0xffc1_2345, Rounding::Down, &mut flags), F64::CANONICAL_NAN);
        assert_eq!(flags, Flags::NONE);
        assert_eq!(convert::<F64, F16>(0xfff0_0000_0000_0001, Rounding::Down, &mut flags), F16::CANONICAL_NAN);
        assert_eq!(flags, Flags::NV);
    }
}
