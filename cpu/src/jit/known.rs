//! Where a hart has found code before, by the offset in RAM and the mode: behind its jump cache ([`super::jumps`]), in
//! front of the registry of all harts ([`super::shared`]).
//!
//! A new address space finds nothing in the jump cache, but most of what it runs has run in another: a boot of Debian
//! starts some thousand processes from few files. What the registry answers takes a lock, two tables of some megabytes
//! and counts of references; this takes a slot, and the version of the page.
//!
//! Only code of one page is kept: what reaches further is up to date only where the address space has the other pages
//! in their places.

use bus::PAGE_SIZE;

use crate::block::Mode;

/// Slots, a power of two.
const SLOTS: usize = 1 << 15;

/// A slot; zeros are none, as no code is at address zero.
#[derive(Clone, Copy, Default)]
struct Slot {
    /// The offset in RAM, of which the host has fewer than 2^56 bytes, above the mode.
    key: u64,
    /// Host address of the code.
    code: u64,
    /// Version of the page ([`bus::Ram::code_version`]) that it was made from.
    version: u64,
}

/// The cache.
pub(super) struct Known(Box<[Slot]>);

impl Default for Known {
    fn default() -> Self {
        Self(vec![Slot::default(); SLOTS].into())
    }
}

impl Known {
    fn key(offset: u64, mode: Mode) -> u64 {
        offset << 8 | u64::from(mode.0)
    }

    /// Pages lie one after the other, but for their lowest bits: a parcel's are zero.
    fn slot(offset: u64) -> usize {
        let page = offset / PAGE_SIZE;
        ((offset >> 1) ^ (page << 3)) as usize & (SLOTS - 1)
    }

    /// The host's address of the code that starts at an offset in RAM in a mode, while its page has the version.
    pub fn get(&self, offset: u64, mode: Mode, version: u32) -> Option<u64> {
        let slot = &self.0[Self::slot(offset)];
        let is_it = slot.key == Self::key(offset, mode) && slot.version == version.into() && slot.code != 0;
        is_it.then_some(slot.code)
    }

    /// Notes it.
    pub fn insert(&mut self, offset: u64, mode: Mode, version: u32, code: u64) {
        self.0[Self::slot(offset)] = Slot { key: Self::key(offset, mode), code, version: version.into() };
    }

    /// Forgets what starts at an offset in a mode.
    pub fn forget(&mut self, offset: u64, mode: Mode) {
        let slot = &mut self.0[Self::slot(offset)];
        if slot.key == Self::key(offset, mode) {
            *slot = Slot::default();
        }
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.0.fill(Slot::default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_known_by_offset_mode_and_version() {
        let (mode, other) = (Mode::default(), Mode(1));
        let mut known = Known::default();
        assert_eq!(known.get(0, mode, 0), None, "an empty slot is none");
        known.insert(0x5002, mode, 7, 100);
        assert_eq!(known.get(0x5002, mode, 7), Some(100));
        assert_eq!(
            [(0x5002, other, 7), (0x5002, mode, 8), (0x5004, mode, 7)].map(|(o, m, v)| known.get(o, m, v)),
            [None; 3]
        );
        known.forget(0x5002, other);
        assert_eq!(known.get(0x5002, mode, 7), Some(100));
        known.forget(0x5002, mode);
        assert_eq!(known.get(0x5002, mode, 7), None);
        known.insert(0x5002, mode, 7, 100);
        known.clear();
        assert_eq!(known.get(0x5002, mode, 7), None);
    }
}
