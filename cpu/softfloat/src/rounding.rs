//! Rounding modes ("F" chapter, table "Rounding mode encoding").

/// A rounding mode; the discriminant is its encoding in an instruction's `rm` field and in `frm`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Rounding {
    /// RNE: to nearest, ties to even.
    #[default]
    NearestEven = 0,
    /// RTZ: towards zero.
    TowardZero = 1,
    /// RDN: towards −∞.
    Down = 2,
    /// RUP: towards +∞.
    Up = 3,
    /// RMM: to nearest, ties to maximum magnitude.
    NearestMaxMagnitude = 4,
}

impl Rounding {
    /// All modes, in the order of their encodings.
    pub const ALL: [Self; 5] = [Self::NearestEven, Self::TowardZero, Self::Down, Self::Up, Self::NearestMaxMagnitude];

    /// The mode with this encoding; `None` for the reserved 5 and 6, for 7 (DYN, which is no mode by itself) and for
    /// anything wider than the field.
    #[inline]
    pub const fn from_bits(bits: u8) -> Option<Self> {
        match bits {
            0 => Some(Self::NearestEven),
            1 => Some(Self::TowardZero),
            2 => Some(Self::Down),
            3 => Some(Self::Up),
            4 => Some(Self::NearestMaxMagnitude),
            _ => None,
        }
    }

    /// What a significand with `bits` bits to be discarded needs added so that truncation then rounds; a tie under
    /// RNE still has to clear the last kept bit.
    #[inline]
    pub(crate) const fn increment(self, negative: bool, bits: u32) -> u64 {
        let all = (1 << bits) - 1;
        match self {
            Self::NearestEven | Self::NearestMaxMagnitude => 1 << (bits - 1),
            Self::TowardZero => 0,
            Self::Down => {
                if negative {
                    all
                } else {
                    0
                }
            }
            Self::Up => {
                if negative {
                    0
                } else {
                    all
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_encodings_are_no_modes() {
        for rounding in Rounding::ALL {
            assert_eq!(Rounding::from_bits(rounding as u8), Some(rounding));
        }
        // "reserved rounding mode … 101-110", and 111 selects frm; 8 is outside of the field.
        for bits in [5, 6, 7, 8, 255] {
            assert_eq!(Rounding::from_bits(bits), None);
        }
    }
}
