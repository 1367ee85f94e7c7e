//! NaN boxing of narrower values in 64-bit floating-point registers ("D" chapter, NaN Boxing of Narrower Values).

use crate::Format;

/// The register contents that hold `value`: "the upper bits of a valid NaN-boxed value must be all 1s".
#[inline]
pub const fn box_value<F: Format>(value: u64) -> u64 {
    value | !F::BITS
}

/// The operand in a 64-bit register: its low bits if it is validly boxed, "otherwise the input value is treated as
/// an n-bit canonical NaN". For [`F64`](crate::F64) every register is valid.
#[inline]
pub const fn unbox<F: Format>(register: u64) -> u64 {
    if register >= !F::BITS { register & F::BITS } else { F::CANONICAL_NAN }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{F16, F32, F64};

    #[test]
    fn improperly_boxed_values_are_canonical_nans() {
        assert_eq!(unbox::<F32>(0xffff_ffff_3f80_0000), 0x3f80_0000);
        assert_eq!(unbox::<F32>(0xffff_fffe_3f80_0000), F32::CANONICAL_NAN);
        assert_eq!(unbox::<F32>(0x7fff_ffff_3f80_0000), F32::CANONICAL_NAN);
        assert_eq!(unbox::<F16>(0xffff_ffff_ffff_3c00), 0x3c00);
        assert_eq!(unbox::<F16>(0xffff_ffff_fffe_3c00), F16::CANONICAL_NAN);
        assert_eq!(unbox::<F16>(box_value::<F32>(0x3f80_0000)), F16::CANONICAL_NAN);
        assert_eq!(box_value::<F16>(0x8000), 0xffff_ffff_ffff_8000);
        for register in [0, 1, u64::MAX] {
            assert_eq!(unbox::<F64>(register), register);
            assert_eq!(box_value::<F64>(register), register);
        }
    }
}
