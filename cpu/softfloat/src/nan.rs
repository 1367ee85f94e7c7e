//! NaNs: recognition, and the results of operations that meet or make one ("F" chapter, NaN Generation and
//! Propagation).

use crate::format::magnitude;
use crate::{Flags, Format};

/// Whether `a` is a NaN of either kind.
#[inline]
pub const fn is_nan<F: Format>(a: u64) -> bool {
    magnitude::<F>(a) > F::INFINITY
}

/// Whether `a` is a signaling NaN: a NaN with the quiet bit clear.
#[inline]
pub const fn is_signaling_nan<F: Format>(a: u64) -> bool {
    is_nan::<F>(a) && a & F::QUIET == 0
}

/// The result of an operation with a NaN among its operands: the canonical NaN, invalid if any is signaling.
#[cold]
pub(crate) fn propagate<F: Format, const N: usize>(operands: [u64; N], flags: &mut Flags) -> u64 {
    if operands.into_iter().any(is_signaling_nan::<F>) {
        *flags |= Flags::NV;
    }
    F::CANONICAL_NAN
}

/// The result of an operation that has none.
#[cold]
pub(crate) fn invalid<F: Format>(flags: &mut Flags) -> u64 {
    *flags |= Flags::NV;
    F::CANONICAL_NAN
}
