//! Comparison predicates ("F" chapter, Compare Instructions; Zfa chapter, Comparison Instructions).

use crate::format::magnitude;
use crate::nan::{is_nan, is_signaling_nan};
use crate::{Flags, Format};

/// Encodings as signed integers in the order of their values, −0 just below +0. Not for NaNs.
#[inline]
pub(crate) const fn order<F: Format>(a: u64) -> i64 {
    let a = (a << (64 - F::WIDTH)) as i64;
    a ^ ((a >> 63) as u64 >> 1) as i64
}

#[inline]
fn both_zero<F: Format>(a: u64, b: u64) -> bool {
    magnitude::<F>(a | b) == 0
}

/// Raises what a quiet or a signaling predicate raises for its operands; whether they are unordered.
#[inline]
fn unordered<F: Format>(a: u64, b: u64, signaling: bool, flags: &mut Flags) -> bool {
    if !is_nan::<F>(a) && !is_nan::<F>(b) {
        return false;
    }
    if signaling || is_signaling_nan::<F>(a) || is_signaling_nan::<F>(b) {
        *flags |= Flags::NV;
    }
    true
}

#[inline]
fn less<F: Format>(a: u64, b: u64) -> bool {
    order::<F>(a) < order::<F>(b) && !both_zero::<F>(a, b)
}

#[inline]
fn less_or_equal<F: Format>(a: u64, b: u64) -> bool {
    order::<F>(a) <= order::<F>(b) || both_zero::<F>(a, b)
}

/// FEQ: `a` = `b`. Quiet: invalid only for signaling NaNs.
#[inline]
pub fn eq<F: Format>(a: u64, b: u64, flags: &mut Flags) -> bool {
    !unordered::<F>(a, b, false, flags) && ((a ^ b) & F::BITS == 0 || both_zero::<F>(a, b))
}

/// FLT: `a` < `b`. Signaling: invalid for any NaN.
#[inline]
pub fn lt<F: Format>(a: u64, b: u64, flags: &mut Flags) -> bool {
    !unordered::<F>(a, b, true, flags) && less::<F>(a, b)
}

/// FLE: `a` ≤ `b`. Signaling: invalid for any NaN.
#[inline]
pub fn le<F: Format>(a: u64, b: u64, flags: &mut Flags) -> bool {
    !unordered::<F>(a, b, true, flags) && less_or_equal::<F>(a, b)
}

/// FLTQ (Zfa): `a` < `b`. Quiet: invalid only for signaling NaNs.
#[inline]
pub fn lt_quiet<F: Format>(a: u64, b: u64, flags: &mut Flags) -> bool {
    !unordered::<F>(a, b, false, flags) && less::<F>(a, b)
}

/// FLEQ (Zfa): `a` ≤ `b`. Quiet: invalid only for signaling NaNs.
#[inline]
pub fn le_quiet<F: Format>(a: u64, b: u64, flags: &mut Flags) -> bool {
    !unordered::<F>(a, b, false, flags) && less_or_equal::<F>(a, b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::F16;

    /// FLT and FLE "set the invalid operation exception flag if either input is NaN. FEQ … only … if either input is a
    /// signaling NaN"; "the result is 0 if either operand is NaN".
    #[test]
    fn quiet_and_signaling_predicates() {
        type Predicate = fn(u64, u64, &mut Flags) -> bool;
        let (quiet, signaling) = (0x7e00, 0x7c01);
        let predicates: [(Predicate, Flags); 5] = [
            (eq::<F16>, Flags::NONE),
            (lt::<F16>, Flags::NV),
            (le::<F16>, Flags::NV),
            (lt_quiet::<F16>, Flags::NONE),
            (le_quiet::<F16>, Flags::NONE),
        ];
        for (predicate, raised) in predicates {
            let mut flags = Flags::NONE;
            assert!(!predicate(quiet, quiet, &mut flags));
            assert_eq!(flags, raised);
            assert!(!predicate(0, signaling, &mut flags));
            assert_eq!(flags, Flags::NV);
        }
    }

    #[test]
    fn zeros_are_equal() {
        let mut flags = Flags::NONE;
        assert!(eq::<F16>(0, F16::SIGN, &mut flags));
        assert!(!lt::<F16>(F16::SIGN, 0, &mut flags));
        assert!(le::<F16>(0, F16::SIGN, &mut flags));
    }
}
