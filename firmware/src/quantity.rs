//! Byte counts in messages.

use std::fmt;

/// A number of bytes, shown in the largest binary unit that leaves it at least one: "30.4 MiB", "64 KiB", "17 bytes".
pub(crate) struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(&str, u32); 5] = [("EiB", 60), ("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
        let Some((unit, shift)) = UNITS.into_iter().find(|(_, shift)| self.0 >> shift != 0) else {
            return write!(f, "{} bytes", self.0);
        };
        if self.0.trailing_zeros() >= shift {
            return write!(f, "{} {unit}", self.0 >> shift);
        }
        write!(f, "{:.1} {unit}", self.0 as f64 / (1_u64 << shift) as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_fits_the_number() {
        let shown = [0, 17, 1 << 16, 31_870_976, 3 << 30, u64::MAX].map(|n| Bytes(n).to_string());
        assert_eq!(shown, ["0 bytes", "17 bytes", "64 KiB", "30.4 MiB", "3 GiB", "16.0 EiB"]);
    }
}
