//! Minimum and maximum ("F" chapter version 2.2, FMIN and FMAX; Zfa chapter, Minimum and Maximum Instructions).
//!
//! −0 is less than +0 here, unlike in comparisons.

use crate::compare::order;
use crate::nan::{is_nan, propagate};
use crate::{Flags, Format};

/// FMIN (IEEE 754-2019 minimumNumber): the smaller operand, the other one where one is a NaN.
#[inline]
pub fn minimum_number<F: Format>(a: u64, b: u64, flags: &mut Flags) -> u64 {
    if is_nan::<F>(a) || is_nan::<F>(b) { number::<F>(a, b, flags) } else { smaller::<F>(a, b) }
}

/// FMAX (IEEE 754-2019 maximumNumber): the larger operand, the other one where one is a NaN.
#[inline]
pub fn maximum_number<F: Format>(a: u64, b: u64, flags: &mut Flags) -> u64 {
    if is_nan::<F>(a) || is_nan::<F>(b) { number::<F>(a, b, flags) } else { larger::<F>(a, b) }
}

/// FMINM (Zfa, IEEE 754-2019 minimum): the smaller operand, the canonical NaN where one is a NaN.
#[inline]
pub fn minimum<F: Format>(a: u64, b: u64, flags: &mut Flags) -> u64 {
    if is_nan::<F>(a) || is_nan::<F>(b) { propagate::<F, 2>([a, b], flags) } else { smaller::<F>(a, b) }
}

/// FMAXM (Zfa, IEEE 754-2019 maximum): the larger operand, the canonical NaN where one is a NaN.
#[inline]
pub fn maximum<F: Format>(a: u64, b: u64, flags: &mut Flags) -> u64 {
    if is_nan::<F>(a) || is_nan::<F>(b) { propagate::<F, 2>([a, b], flags) } else { larger::<F>(a, b) }
}

#[inline]
fn smaller<F: Format>(a: u64, b: u64) -> u64 {
    F::BITS & if order::<F>(a) < order::<F>(b) { a } else { b }
}

#[inline]
fn larger<F: Format>(a: u64, b: u64) -> u64 {
    F::BITS & if order::<F>(a) < order::<F>(b) { b } else { a }
}

/// "If only one operand is a NaN, the result is the non-NaN operand. Signaling NaN inputs set the invalid operation
/// exception flag, even when the result is not NaN."
#[cold]
fn number<F: Format>(a: u64, b: u64, flags: &mut Flags) -> u64 {
    let nan = propagate::<F, 2>([a, b], flags);
    match (is_nan::<F>(a), is_nan::<F>(b)) {
        (true, true) => nan,
        (true, false) => b & F::BITS,
        (false, _) => a & F::BITS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::F32;

    const SIGNALING: u64 = 0x7f80_0001;
    const QUIET: u64 = 0xffc1_2345;
    const ONE: u64 = 0x3f80_0000;

    fn run(operation: impl Fn(u64, u64, &mut Flags) -> u64, a: u64, b: u64) -> (u64, Flags) {
        let mut flags = Flags::NONE;
        (operation(a, b, &mut flags), flags)
    }

    /// "Signaling NaN inputs set the invalid operation exception flag, even when the result is not NaN."
    #[test]
    fn number_beats_a_signaling_nan() {
        assert_eq!(run(minimum_number::<F32>, SIGNALING, ONE), (ONE, Flags::NV));
        assert_eq!(run(maximum_number::<F32>, ONE, SIGNALING), (ONE, Flags::NV));
        assert_eq!(run(minimum_number::<F32>, QUIET, ONE), (ONE, Flags::NONE));
        assert_eq!(run(maximum_number::<F32>, QUIET, QUIET), (F32::CANONICAL_NAN, Flags::NONE));
    }

    /// "if either input is NaN, the result is the canonical NaN" (FMINM, FMAXM).
    #[test]
    fn nan_beats_a_number_in_zfa() {
        assert_eq!(run(minimum::<F32>, QUIET, ONE), (F32::CANONICAL_NAN, Flags::NONE));
        assert_eq!(run(maximum::<F32>, ONE, SIGNALING), (F32::CANONICAL_NAN, Flags::NV));
    }

    /// "the value −0.0 is considered to be less than the value +0.0".
    #[test]
    fn negative_zero_is_less() {
        for (a, b) in [(0, F32::SIGN), (F32::SIGN, 0)] {
            assert_eq!(run(minimum_number::<F32>, a, b), (F32::SIGN, Flags::NONE));
            assert_eq!(run(maximum_number::<F32>, a, b), (0, Flags::NONE));
        }
    }
}
