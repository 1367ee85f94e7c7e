//! Classification ("F" chapter, table "Format of result of FCLASS instruction").

use crate::Format;
use crate::format::{is_negative, magnitude};
use crate::nan::{is_nan, is_signaling_nan};

/// FCLASS: a mask with exactly one of bits 9:0 set. From bit 0: −∞, negative normal, negative subnormal, −0, +0,
/// positive subnormal, positive normal, +∞, signaling NaN, quiet NaN. Raises no flags.
#[inline]
pub const fn classify<F: Format>(a: u64) -> u64 {
    if is_nan::<F>(a) {
        return if is_signaling_nan::<F>(a) { 1 << 8 } else { 1 << 9 };
    }
    let magnitude = magnitude::<F>(a);
    // Negative classes mirror positive ones: bit n and bit 7 − n.
    let positive = if magnitude == F::INFINITY {
        7
    } else if magnitude >= F::MIN_NORMAL {
        6
    } else if magnitude != 0 {
        5
    } else {
        4
    };
    1 << if is_negative::<F>(a) { 7 - positive } else { positive }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::F32;

    /// The rows of table "Format of result of FCLASS instruction".
    #[test]
    fn every_class() {
        let rows = [
            0xff80_0000,
            0xbf80_0000,
            0x807f_ffff,
            0x8000_0000,
            0,
            1,
            0x0080_0000,
            0x7f80_0000,
            0xffbf_ffff,
            0x7fc0_0000,
        ];
        for (bit, value) in rows.into_iter().enumerate() {
            assert_eq!(classify::<F32>(value), 1 << bit);
        }
    }
}
