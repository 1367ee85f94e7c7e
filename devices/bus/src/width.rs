//! The width of one memory access.

/// The width of one memory access in bytes: the four that a hart or a driver can issue to a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Width {
    /// 8 bits.
    Byte = 1,
    /// 16 bits.
    Half = 2,
    /// 32 bits.
    Word = 4,
    /// 64 bits.
    Double = 8,
}

impl Width {
    /// All widths, narrow to wide.
    pub const ALL: [Width; 4] = [Width::Byte, Width::Half, Width::Word, Width::Double];

    /// The number of bytes.
    #[inline]
    pub const fn bytes(self) -> u64 {
        self as u64
    }

    /// The number of bits.
    #[inline]
    pub const fn bits(self) -> u32 {
        self as u32 * 8
    }

    /// A mask of the bits that a value of this width has.
    #[inline]
    pub const fn mask(self) -> u64 {
        u64::MAX >> (64 - self.bits())
    }

    /// The low bits of `value`, zero-extended.
    #[inline]
    pub const fn zero_extend(self, value: u64) -> u64 {
        value & self.mask()
    }

    /// The low bits of `value`, sign-extended.
    #[inline]
    pub const fn sign_extend(self, value: u64) -> u64 {
        let shift = 64 - self.bits();
        ((value << shift) as i64 >> shift) as u64
    }
}
