//! Conversion to and from integers ("F" chapter, table "Domains of float-to-integer conversions and behavior for
//! invalid inputs"; Zfa chapter, Modular Convert-to-Integer Instruction).

use crate::format::{is_negative, is_special, unpack};
use crate::nan::is_nan;
use crate::round_pack::{LEADING, round_pack};
use crate::{F64, Flags, Format, Rounding};

/// One half, where bit 63 is worth 1/2.
const HALF: u64 = 1 << 63;

/// |`a`| rounded to an integer, and whether that is inexact; `None` from 2^64 upwards.
#[inline]
fn rounded_magnitude<F: Format>(a: u64, rounding: Rounding) -> Option<(u64, bool)> {
    let (exponent, significand) = unpack::<F>(a);
    let shift = exponent - F::BIAS - F::FRACTION_BITS as i32;
    if shift >= 0 {
        // Above, the unit bit would be shifted beyond bit 63.
        return (shift <= 63 - F::FRACTION_BITS as i32).then(|| (significand << shift, false));
    }
    let (integer, fraction) = match shift.unsigned_abs() {
        shift @ 0..64 => (significand >> shift, significand << (64 - shift)),
        _ => (0, u64::from(significand != 0)),
    };
    let negative = is_negative::<F>(a);
    let up = match rounding {
        Rounding::NearestEven => fraction > HALF || (fraction == HALF && integer & 1 != 0),
        Rounding::TowardZero => false,
        Rounding::Down => negative && fraction != 0,
        Rounding::Up => !negative && fraction != 0,
        Rounding::NearestMaxMagnitude => fraction >= HALF,
    };
    Some((integer + u64::from(up), fraction != 0))
}

/// `a` rounded to an integer in −`lowest`..=`highest`, in two's complement. "If the rounded result is not
/// representable in the destination format, it is clipped to the nearest value and the invalid flag is set"; a NaN
/// gives the highest. Inexact is set only where invalid is not.
#[inline]
fn to_integer<F: Format>(a: u64, rounding: Rounding, lowest: u64, highest: u64, flags: &mut Flags) -> u64 {
    let negative = is_negative::<F>(a) && !is_nan::<F>(a);
    let limit = if negative { lowest } else { highest };
    let rounded = if is_special::<F>(a) { None } else { rounded_magnitude::<F>(a, rounding) };
    let magnitude = match rounded {
        Some((magnitude, inexact)) if magnitude <= limit => {
            if inexact {
                *flags |= Flags::NX;
            }
            magnitude
        }
        _ => {
            *flags |= Flags::NV;
            limit
        }
    };
    if negative { magnitude.wrapping_neg() } else { magnitude }
}

/// FCVT.W: to a signed 32-bit integer.
#[inline]
pub fn to_i32<F: Format>(a: u64, rounding: Rounding, flags: &mut Flags) -> i32 {
    to_integer::<F>(a, rounding, 1 << 31, i32::MAX as u64, flags) as i32
}

/// FCVT.WU: to an unsigned 32-bit integer. (RV64 sign-extends it to the register: that is the caller's.)
#[inline]
pub fn to_u32<F: Format>(a: u64, rounding: Rounding, flags: &mut Flags) -> u32 {
    to_integer::<F>(a, rounding, 0, u64::from(u32::MAX), flags) as u32
}

/// FCVT.L: to a signed 64-bit integer.
#[inline]
pub fn to_i64<F: Format>(a: u64, rounding: Rounding, flags: &mut Flags) -> i64 {
    to_integer::<F>(a, rounding, 1 << 63, i64::MAX as u64, flags) as i64
}

/// FCVT.LU: to an unsigned 64-bit integer.
#[inline]
pub fn to_u64<F: Format>(a: u64, rounding: Rounding, flags: &mut Flags) -> u64 {
    to_integer::<F>(a, rounding, 0, u64::MAX, flags)
}

/// FCVTMOD.W.D (Zfa): double precision, truncated to an integer, modulo 2^32; infinities and NaNs give zero. Raises
/// what FCVT.W.D with RTZ raises.
#[inline]
pub fn to_i32_modular(a: u64, flags: &mut Flags) -> i32 {
    let mut raised = Flags::NONE;
    let clipped = to_i32::<F64>(a, Rounding::TowardZero, &mut raised);
    *flags |= raised;
    if !raised.contains(Flags::NV) {
        return clipped;
    }
    if is_special::<F64>(a) {
        return 0;
    }
    let (exponent, significand) = unpack::<F64>(a);
    let low = match exponent - F64::BIAS - F64::FRACTION_BITS as i32 {
        // Out of range of an i32, so the unit bit is 31 or higher and the shift less than 64.
        shift @ ..0 => (significand >> -shift) as u32,
        shift @ 0..32 => (significand << shift) as u32,
        _ => 0,
    };
    (if is_negative::<F64>(a) { low.wrapping_neg() } else { low }) as i32
}

#[inline]
fn from_magnitude<F: Format>(negative: bool, magnitude: u64, rounding: Rounding, flags: &mut Flags) -> u64 {
    if magnitude == 0 {
        return 0;
    }
    let leading_zeros = magnitude.leading_zeros();
    let normalized = magnitude << leading_zeros;
    let exponent = F::BIAS + 63 - leading_zeros as i32;
    round_pack::<F>(negative, exponent, normalized >> (63 - LEADING) | (normalized & 1), rounding, flags)
}

/// FCVT from W: from a signed 32-bit integer.
#[inline]
pub fn from_i32<F: Format>(value: i32, rounding: Rounding, flags: &mut Flags) -> u64 {
    from_i64::<F>(value.into(), rounding, flags)
}

/// FCVT from WU: from an unsigned 32-bit integer.
#[inline]
pub fn from_u32<F: Format>(value: u32, rounding: Rounding, flags: &mut Flags) -> u64 {
    from_u64::<F>(value.into(), rounding, flags)
}

/// FCVT from L: from a signed 64-bit integer.
#[inline]
pub fn from_i64<F: Format>(value: i64, rounding: Rounding, flags: &mut Flags) -> u64 {
    from_magnitude::<F>(value < 0, value.unsigned_abs(), rounding, flags)
}

/// FCVT from LU: from an unsigned 64-bit integer.
#[inline]
pub fn from_u64<F: Format>(value: u64, rounding: Rounding, flags: &mut Flags) -> u64 {
    from_magnitude::<F>(false, value, rounding, flags)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::F32;

    const HALF_NEGATIVE: u64 = 0xbf00_0000;

    fn run<T>(operation: impl Fn(u64, Rounding, &mut Flags) -> T, a: u64, rounding: Rounding) -> (T, Flags) {
        let mut flags = Flags::NONE;
        (operation(a, rounding, &mut flags), flags)
    }

    /// Table "Domains of float-to-integer conversions": "Output for +∞ or NaN" is the highest value.
    #[test]
    fn nan_of_either_sign_gives_the_highest() {
        for nan in [0x7fc0_0000, 0xffc0_0000, 0xff80_0001] {
            assert_eq!(run(to_i32::<F32>, nan, Rounding::TowardZero), (i32::MAX, Flags::NV));
            assert_eq!(run(to_u32::<F32>, nan, Rounding::TowardZero), (u32::MAX, Flags::NV));
            assert_eq!(run(to_i64::<F32>, nan, Rounding::TowardZero), (i64::MAX, Flags::NV));
            assert_eq!(run(to_u64::<F32>, nan, Rounding::TowardZero), (u64::MAX, Flags::NV));
        }
        assert_eq!(run(to_i64::<F32>, 0xff80_0000, Rounding::TowardZero), (i64::MIN, Flags::NV));
        assert_eq!(run(to_u64::<F32>, 0xff80_0000, Rounding::TowardZero), (0, Flags::NV));
    }

    /// The table's limits hold "after rounding": −0.5 is a valid unsigned operand where it rounds to 0.
    #[test]
    fn range_is_checked_after_rounding() {
        assert_eq!(run(to_u32::<F32>, HALF_NEGATIVE, Rounding::TowardZero), (0, Flags::NX));
        assert_eq!(run(to_u32::<F32>, HALF_NEGATIVE, Rounding::NearestEven), (0, Flags::NX));
        assert_eq!(run(to_u32::<F32>, HALF_NEGATIVE, Rounding::NearestMaxMagnitude), (0, Flags::NV));
        assert_eq!(run(to_u32::<F32>, HALF_NEGATIVE, Rounding::Down), (0, Flags::NV));
        // −2^31 − 1/2.
        assert_eq!(run(to_i32::<F64>, 0xc1e0_0000_0010_0000, Rounding::TowardZero), (i32::MIN, Flags::NX));
        assert_eq!(run(to_i32::<F64>, 0xc1e0_0000_0010_0000, Rounding::Down), (i32::MIN, Flags::NV));
        // 2^32 − 1/2.
        assert_eq!(run(to_u32::<F64>, 0x41ef_ffff_fff0_0000, Rounding::Down), (u32::MAX, Flags::NX));
        assert_eq!(run(to_u32::<F64>, 0x41ef_ffff_fff0_0000, Rounding::NearestEven), (u32::MAX, Flags::NV));
    }

    /// "Bits 31:0 are taken from the rounded, unbounded two's complement result"; flags as FCVT.W.D.
    #[test]
    fn modular_conversion_wraps() {
        let run = |a| {
            let mut flags = Flags::NONE;
            (to_i32_modular(a, &mut flags), flags)
        };
        assert_eq!(run(0x41f0_0000_0050_0000), (5, Flags::NV)); // 2^32 + 5
        assert_eq!(run(0xc1f0_0000_0058_0000), (-5, Flags::NV)); // −(2^32 + 5.5)
        assert_eq!(run(0x41e0_0000_0000_0000), (i32::MIN, Flags::NV)); // 2^31
        assert_eq!(run(0xbff8_0000_0000_0000), (-1, Flags::NX)); // −1.5
        assert_eq!(run(0x4330_0000_8000_0001), (i32::MIN + 1, Flags::NV)); // 2^52 + 2^31 + 1
        assert_eq!(run(0x4520_0000_0000_0001), (i32::MIN, Flags::NV)); // 2^83 + 2^31
        assert_eq!(run(0x4530_0000_0000_0001), (0, Flags::NV)); // 2^84 + 2^32
        assert_eq!(run(F64::INFINITY), (0, Flags::NV));
        assert_eq!(run(F64::CANONICAL_NAN), (0, Flags::NV));
    }
}
