//! The constants of FLI (Zfa chapter, table "Immediate values loaded by the FLI.S instruction").

use crate::Format;
use crate::format::pack;

/// Magnitudes of entries 2 to 29 as (exponent, quarters beyond 1): (1 + quarters/4) × 2^exponent. "No entry sets
/// mantissa bits other than the two most significant ones."
const MAGNITUDES: [(i32, u64); 28] = [
    (-16, 0),
    (-15, 0),
    (-8, 0),
    (-7, 0),
    (-4, 0),
    (-3, 0),
    (-2, 0),
    (-2, 1),
    (-2, 2),
    (-2, 3),
    (-1, 0),
    (-1, 1),
    (-1, 2),
    (-1, 3),
    (0, 0),
    (0, 1),
    (0, 2),
    (0, 3),
    (1, 0),
    (1, 1),
    (1, 2),
    (2, 0),
    (3, 0),
    (4, 0),
    (7, 0),
    (8, 0),
    (15, 0),
    (16, 0),
];

/// FLI: the constant that the `rs1` field (bits 4:0 of `entry`) selects. Half precision has entries 2 and 3 as
/// subnormals and +∞ for entry 29.
pub const fn load_immediate<F: Format>(entry: u8) -> u64 {
    match entry & 31 {
        0 => pack::<F>(true, (F::BIAS as u64) << F::FRACTION_BITS),
        1 => F::MIN_NORMAL,
        30 => F::INFINITY,
        31 => F::CANONICAL_NAN,
        entry => {
            let (exponent, quarters) = MAGNITUDES[entry as usize - 2];
            let exponent = exponent + F::BIAS;
            if exponent >= F::EXPONENT_MAX {
                F::INFINITY
            } else if exponent < 1 {
                F::MIN_NORMAL >> (1 - exponent)
            } else {
                (exponent as u64) << F::FRACTION_BITS | quarters << (F::FRACTION_BITS - 2)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{F16, F32, F64, Flags, Rounding, convert};

    /// The table's rows as single-precision encodings: "FLI.D performs the analogous operation", FLI.H loads +∞ for
    /// 2^16, and entry 1 is each format's own minimum.
    #[test]
    fn every_entry() {
        let single = [
            0xbf80_0000,
            0x0080_0000,
            0x3780_0000,
            0x3800_0000,
            0x3b80_0000,
            0x3c00_0000,
            0x3d80_0000,
            0x3e00_0000,
            0x3e80_0000,
            0x3ea0_0000,
            0x3ec0_0000,
            0x3ee0_0000,
            0x3f00_0000,
            0x3f20_0000,
            0x3f40_0000,
            0x3f60_0000,
            0x3f80_0000,
            0x3fa0_0000,
            0x3fc0_0000,
            0x3fe0_0000,
            0x4000_0000,
            0x4020_0000,
            0x4040_0000,
            0x4080_0000,
            0x4100_0000,
            0x4180_0000,
            0x4300_0000,
            0x4380_0000,
            0x4700_0000,
            0x4780_0000,
            0x7f80_0000,
            0x7fc0_0000,
        ];
        for (entry, expected) in single.into_iter().enumerate() {
            assert_eq!(load_immediate::<F32>(entry as u8), expected, "entry {entry}");
            if entry == 1 {
                continue;
            }
            let mut flags = Flags::NONE;
            let double = convert::<F32, F64>(expected, Rounding::NearestEven, &mut flags);
            assert_eq!(load_immediate::<F64>(entry as u8), double, "entry {entry}");
            let half = convert::<F32, F16>(expected, Rounding::NearestEven, &mut flags);
            assert_eq!(load_immediate::<F16>(entry as u8), half, "entry {entry}");
            assert_eq!(flags == Flags::NONE, entry != 29, "only 2^16 overflows half precision");
        }
        assert_eq!(load_immediate::<F16>(1), 0x0400);
        assert_eq!(load_immediate::<F64>(1), 0x0010_0000_0000_0000);
    }
}
