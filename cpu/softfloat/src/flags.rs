//! Accrued exception flags, in the layout of `fflags` ("F" chapter, Floating-Point Control and Status Register).

use std::ops::{BitOr, BitOrAssign};

/// Accrued exception flags: bits 4:0 of `fcsr`. Bits above are always zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct Flags(u8);

impl Flags {
    /// No exception.
    pub const NONE: Self = Self(0);
    /// Inexact: the delivered result differs from the exact one.
    pub const NX: Self = Self(1);
    /// Underflow: the result is tiny after rounding, and inexact.
    pub const UF: Self = Self(2);
    /// Overflow: the rounded result exceeds the largest finite number.
    pub const OF: Self = Self(4);
    /// Divide by zero: an exact infinity from finite operands.
    pub const DZ: Self = Self(8);
    /// Invalid operation: no useful result is defined, or an operand is a signaling NaN.
    pub const NV: Self = Self(16);

    /// The flags in bits 4:0; higher bits are dropped, as a write to `fflags` drops them.
    #[inline]
    pub const fn from_bits_truncate(bits: u8) -> Self {
        Self(bits & 0x1f)
    }

    /// The value of `fflags`.
    #[inline]
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Whether every flag of `other` is set.
    #[inline]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl BitOr for Flags {
    type Output = Self;

    #[inline]
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Flags {
    #[inline]
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}
