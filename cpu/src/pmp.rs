//! Physical memory protection (privileged specification §3.7): 16 entries, granularity of four bytes; with Smepmp,
//! rules for M-mode too.

use serde::{Deserialize, Serialize};

use crate::Privilege;
use crate::mmu::Access;

/// Number of entries.
pub const ENTRIES: usize = 16;

const READ: u8 = 1;
const WRITE: u8 = 2;
const EXECUTE: u8 = 4;
const MODE_SHIFT: u8 = 3;
const LOCKED: u8 = 0x80;
/// Bits 5 and 6 of a configuration are reserved and read as zero.
const IMPLEMENTED: u8 = LOCKED | 3 << MODE_SHIFT | EXECUTE | WRITE | READ;

const TOP_OF_RANGE: u8 = 1;
const NATURALLY_ALIGNED_4: u8 = 2;
const NATURALLY_ALIGNED: u8 = 3;

/// Bits of `pmpaddr`: physical addresses have 56 bits, of which bits 55 to 2 are kept.
const ADDRESS_MASK: u64 = (1 << 54) - 1;

/// Fields of `mseccfg` (§3.1.19) that belong to PMP (Smepmp).
pub mod lockdown {
    /// Machine Mode Lockdown: entries are M-mode's, or the other modes', or shared. Sticky.
    pub const MML: u64 = 1 << 0;
    /// Machine-Mode Allowlist Policy: what no entry matches is closed to M-mode. Sticky.
    pub const MMWP: u64 = 1 << 1;
    /// Rule Locking Bypass: locked entries may be changed.
    pub const RLB: u64 = 1 << 2;
}
use lockdown::{MML, MMWP, RLB};

/// The entries and the verdicts that follow from them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pmp {
    configuration: [u8; ENTRIES],
    address: [u64; ENTRIES],
    /// Fields of [`lockdown`].
    lockdown: u64,
}

/// The range of bytes that an entry matches, first to last; `None` matches nothing.
type Range = Option<(u64, u64)>;

impl Pmp {
    /// Reads `pmpcfg` register `index` (even for RV64), eight entries each.
    pub fn configuration(&self, index: usize) -> u64 {
        let first = index * 4;
        u64::from_le_bytes(std::array::from_fn(|i| self.configuration.get(first + i).copied().unwrap_or(0)))
    }

    /// The fields of [`lockdown`].
    pub fn lockdown(&self) -> u64 {
        self.lockdown
    }

    /// Writes the fields of [`lockdown`]: what is sticky stays, and RLB cannot come back while an entry is locked,
    /// whether that is on or off (§3.1.19).
    pub fn set_lockdown(&mut self, value: u64) {
        let sticky = self.lockdown & (MML | MMWP);
        let any_locked = self.configuration.iter().any(|entry| entry & LOCKED != 0);
        let bypass = if any_locked { value & self.lockdown & RLB } else { value & RLB };
        self.lockdown = sticky | value & (MML | MMWP) | bypass;
    }

    fn has(&self, field: u64) -> bool {
        self.lockdown & field != 0
    }

    fn is_locked(&self, configuration: u8) -> bool {
        configuration & LOCKED != 0 && !self.has(RLB)
    }

    /// Whether an entry may be given this configuration. R=0 with W=1 is reserved without MML; with it, code of
    /// M-mode's cannot be added (§3.1.19).
    fn is_legal(&self, configuration: u8) -> bool {
        if !self.has(MML) {
            return configuration & (READ | WRITE) != WRITE;
        }
        let (machine, _) = locked_down_rights(configuration);
        self.has(RLB) || configuration & LOCKED == 0 || machine & EXECUTE == 0
    }

    /// Writes `pmpcfg` register `index`; locked entries keep their configuration, and others what they have where the
    /// new one is not legal.
    pub fn set_configuration(&mut self, index: usize, value: u64) {
        for (entry, byte) in value.to_le_bytes().into_iter().enumerate() {
            let Some(&configuration) = self.configuration.get(index * 4 + entry) else { return };
            if !self.is_locked(configuration) && self.is_legal(byte) {
                self.configuration[index * 4 + entry] = byte & IMPLEMENTED;
            }
        }
    }

    /// Reads `pmpaddr` register `index`.
    pub fn address(&self, index: usize) -> u64 {
        self.address[index]
    }

    /// Writes `pmpaddr` register `index`, unless it is locked or bounds a locked range (§3.7.1.2).
    pub fn set_address(&mut self, index: usize, value: u64) {
        let bounds_locked_range = self
            .configuration
            .get(index + 1)
            .is_some_and(|next| self.is_locked(*next) && next >> MODE_SHIFT & 3 == TOP_OF_RANGE);
        if !self.is_locked(self.configuration[index]) && !bounds_locked_range {
            self.address[index] = value & ADDRESS_MASK;
        }
    }

    fn range(&self, index: usize) -> Range {
        let address = self.address[index];
        match self.configuration[index] >> MODE_SHIFT & 3 {
            TOP_OF_RANGE => {
                let start = index.checked_sub(1).map_or(0, |before| self.address[before] << 2);
                let end = address << 2;
                (start < end).then(|| (start, end - 1))
            }
            NATURALLY_ALIGNED_4 => Some((address << 2, (address << 2) + 3)),
            NATURALLY_ALIGNED => {
                // The number of trailing ones gives the size: 2^(ones + 3) bytes.
                let size_mask = (address ^ (address + 1)) << 2 | 3;
                Some(((address << 2) & !size_mask, (address << 2) | size_mask))
            }
            _ => None,
        }
    }

    /// The entries that are not off, in order.
    fn active(&self) -> impl Iterator<Item = usize> {
        const MODES: u128 = u128::from_le_bytes([3 << MODE_SHIFT; ENTRIES]);
        let mut modes = u128::from_le_bytes(self.configuration) & MODES;
        std::iter::from_fn(move || {
            let index = modes.trailing_zeros() / 8;
            modes &= (!0u128).checked_shl(8 * (index + 1)).unwrap_or(0);
            (index < ENTRIES as u32).then_some(index as usize)
        })
    }

    /// Whether `privilege` may make the access to all of `length` bytes at guest-physical `address`: the first entry
    /// that matches any byte decides, and must match all of them.
    #[inline]
    pub fn allows(&self, address: u64, length: u64, access: Access, privilege: Privilege) -> bool {
        let last = address.saturating_add(length - 1);
        self.is_open_up_to(last) || self.entries_allow(address, last, access, privilege)
    }

    /// Whether the entries are as [`Pmp::open`] leaves them, which is what most guests run with, and cover all bytes up
    /// to `last`.
    #[inline]
    fn is_open_up_to(&self, last: u64) -> bool {
        const OPEN: u128 = ((NATURALLY_ALIGNED << MODE_SHIFT | READ | WRITE | EXECUTE) as u128) << (8 * (ENTRIES - 1));
        u128::from_le_bytes(self.configuration) == OPEN
            && self.address[ENTRIES - 1] == ADDRESS_MASK
            && self.lockdown == 0
            && last >> 2 <= ADDRESS_MASK
    }

    fn entries_allow(&self, address: u64, last: u64, access: Access, privilege: Privilege) -> bool {
        for index in self.active() {
            let Some((start, end)) = self.range(index) else { continue };
            if last < start || end < address {
                continue;
            }
            let configuration = self.configuration[index];
            let permission = match access {
                Access::Read => READ,
                Access::Write => WRITE,
                Access::Execute => EXECUTE,
            };
            let rights = match privilege {
                Privilege::Machine if self.has(MML) => locked_down_rights(configuration).0,
                Privilege::Machine if configuration & LOCKED == 0 => READ | WRITE | EXECUTE,
                _ if self.has(MML) => locked_down_rights(configuration).1,
                _ => configuration,
            };
            return start <= address && last <= end && rights & permission != 0;
        }
        let closed = self.has(MMWP) || self.has(MML) && access == Access::Execute;
        privilege == Privilege::Machine && !closed
    }

    /// Whether one entry, or none, decides for all bytes of `start..start + length`.
    pub fn is_uniform(&self, start: u64, length: u64) -> bool {
        let last = start.saturating_add(length - 1);
        if self.is_open_up_to(last) {
            return true;
        }
        for index in self.active() {
            if let Some((first, end)) = self.range(index)
                && first <= last
                && start <= end
            {
                return first <= start && last <= end;
            }
        }
        true
    }

    /// Gives S- and U-mode all of memory through the last entry, as firmware does before it hands over.
    pub fn open(&mut self) {
        *self = Self::default();
        self.address[ENTRIES - 1] = ADDRESS_MASK;
        self.configuration[ENTRIES - 1] = NATURALLY_ALIGNED << MODE_SHIFT | READ | WRITE | EXECUTE;
    }
}

/// What an entry allows M-mode, and the others, while MML is set (the truth table of Smepmp).
const fn locked_down_rights(configuration: u8) -> (u8, u8) {
    const WRITE_EXECUTE: u8 = WRITE | EXECUTE;
    const ALL: u8 = READ | WRITE | EXECUTE;
    let rights = configuration & ALL;
    match (configuration & LOCKED != 0, rights) {
        // Shared data.
        (false, WRITE) => (READ | WRITE, READ),
        (false, WRITE_EXECUTE) => (READ | WRITE, READ | WRITE),
        (true, ALL) => (READ, READ),
        // Shared code.
        (true, WRITE) => (EXECUTE, EXECUTE),
        (true, WRITE_EXECUTE) => (READ | EXECUTE, EXECUTE),
        (true, rights) => (rights, 0),
        (false, rights) => (0, rights),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Privilege::{Machine, Supervisor};

    #[test]
    fn lockdown_is_sticky_and_rule_locking_bypass_ends_with_the_first_locked_entry() {
        let mut pmp = Pmp::default();
        pmp.set_lockdown(MMWP | RLB);
        pmp.set_lockdown(0);
        assert_eq!(pmp.lockdown(), MMWP);
        pmp.set_lockdown(RLB);
        pmp.set_configuration(0, LOCKED.into());
        pmp.set_lockdown(RLB | MML);
        assert_eq!(pmp.lockdown(), MML | MMWP | RLB, "it may stay");
        pmp.set_configuration(0, u64::from(LOCKED | EXECUTE));
        assert_eq!(pmp.configuration(0), u64::from(LOCKED | EXECUTE), "bypassed twice");
        pmp.set_lockdown(0);
        pmp.set_lockdown(RLB);
        assert_eq!(pmp.lockdown(), MML | MMWP, "not with an entry that is locked, though off");
        pmp.set_configuration(0, 0);
        assert_eq!(pmp.configuration(0), u64::from(LOCKED | EXECUTE));
    }

    #[test]
    fn code_of_machine_mode_cannot_be_added_in_lockdown() {
        let mut pmp = Pmp::default();
        pmp.set_lockdown(MML);
        let mut kept = 0;
        for rights in 0..8 {
            pmp.set_configuration(0, u64::from(LOCKED | rights) << 8 | u64::from(rights));
            assert_eq!(pmp.configuration(0) as u8, rights);
            if pmp.configuration(0) >> 8 != 0 {
                kept |= 1 << rights;
                pmp = Pmp { lockdown: MML, ..Pmp::default() };
            }
        }
        // Nothing, R, RW and RWX: shared data.
        assert_eq!(kept, 1 << 0 | 1 << READ | 1 << (READ | WRITE) | 1 << (READ | WRITE | EXECUTE));
    }

    #[test]
    fn what_no_entry_matches() {
        let allows = |lockdown, access| Pmp { lockdown, ..Pmp::default() }.allows(0x8000_0000, 4, access, Machine);
        assert!(allows(MML, Access::Write) && !allows(MML, Access::Execute));
        assert!(allows(0, Access::Execute) && !allows(MMWP, Access::Read));
    }

    #[test]
    fn without_entries_only_machine_mode_may() {
        let pmp = Pmp::default();
        assert!(pmp.allows(0x8000_0000, 8, Access::Write, Machine));
        assert!(!pmp.allows(0x8000_0000, 8, Access::Read, Supervisor));
    }

    #[test]
    fn napot_covers_its_range_and_nothing_else() {
        let mut pmp = Pmp::default();
        // 4 KiB at 0x8000_0000: ones in the low nine bits.
        pmp.set_address(0, 0x8000_0000 >> 2 | 0x1ff);
        pmp.set_configuration(0, 0x19); // NAPOT, R
        assert!(pmp.allows(0x8000_0ff8, 8, Access::Read, Supervisor));
        assert!(!pmp.allows(0x8000_0ff9, 8, Access::Read, Supervisor), "an access must match whole");
        assert!(!pmp.allows(0x8000_0000, 8, Access::Write, Supervisor));
        assert!(pmp.allows(0x8000_0000, 8, Access::Write, Machine), "not locked");
        assert!(pmp.is_uniform(0x8000_0000, 4096) && !pmp.is_uniform(0x8000_0000, 8192));
        pmp.set_configuration(0, 0x99);
        assert!(!pmp.allows(0x8000_0000, 8, Access::Write, Machine), "locked");
        pmp.set_configuration(0, 0);
        pmp.set_address(0, 0);
        assert_eq!((pmp.configuration(0), pmp.address(0)), (0x99, 0x8000_0000 >> 2 | 0x1ff));
    }

    #[test]
    fn all_ones_is_all_of_memory_and_top_of_range_is_half_open() {
        let mut pmp = Pmp::default();
        pmp.open();
        assert!(
            pmp.allows(0, 8, Access::Execute, Supervisor) && pmp.allows((1 << 56) - 8, 8, Access::Read, Supervisor)
        );
        let mut pmp = Pmp::default();
        pmp.set_address(0, 0x1000 >> 2);
        pmp.set_address(1, 0x2000 >> 2);
        pmp.set_configuration(0, 0x0b << 8); // entry 1: TOR, RW
        assert!(!pmp.allows(0xffc, 4, Access::Read, Supervisor));
        assert!(pmp.allows(0x1000, 4, Access::Read, Supervisor) && pmp.allows(0x1ffc, 4, Access::Write, Supervisor));
        assert!(!pmp.allows(0x2000, 4, Access::Read, Supervisor));
        pmp.set_configuration(0, 0x8b << 8);
        pmp.set_address(0, 0);
        assert_eq!(pmp.address(0), 0x1000 >> 2, "bounds a locked range");
    }

    #[test]
    fn the_first_entry_that_is_on_decides() {
        let mut pmp = Pmp::default();
        for entry in [2, 9, 15] {
            pmp.set_address(entry, 0x8000_0000 >> 2 | 0x1ff);
        }
        pmp.set_configuration(0, 0x18 << 16); // entry 2: NAPOT, nothing
        pmp.set_configuration(2, 0x1f << 8 | 0x1f << 56); // entries 9 and 15: NAPOT, RWX
        assert_eq!(pmp.active().collect::<Vec<_>>(), [2, 9, 15]);
        assert!(!pmp.allows(0x8000_0000, 4, Access::Read, Supervisor));
        pmp.set_configuration(0, 0);
        assert!(pmp.allows(0x8000_0000, 4, Access::Read, Supervisor));
    }

    #[test]
    fn write_without_read_is_reserved() {
        let mut pmp = Pmp::default();
        pmp.set_configuration(0, 0x1a);
        assert_eq!(pmp.configuration(0), 0);
    }
}
