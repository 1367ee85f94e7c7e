//! Pointer masking (privileged specification, "Pointer Masking Extensions"): loads, stores, atomics and cache-block
//! operations ignore the upper bits of their addresses, as the mode that they are made for says. Instruction fetches,
//! page tables and fences do not.
//!
//! **The TLB** keeps masked addresses: the slow path masks before it looks anything up. The quick paths compare addresses
//! as they come, so that masking costs nothing where it is off. They are right where it is on: what they find was
//! filled under a masked address, and the address at hand is that one, which masking leaves as it is, as long as the
//! masks of both moments agree about it. For Sv39, Sv48 and physical addresses of RAM any two masks do: what is a valid
//! address for them is changed by none. An Sv57 address may be changed by PMLEN 16, so that the coming and going of
//! PMLEN 16 forgets translations ([`Hart::change_masking`]). Translated code masks addresses itself, if its mode says
//! that there is a mask.

use crate::csr::{envcfg, mstatus};
use crate::{Hart, Privilege};

/// What is done to an address: `(address << bits >> bits) & mask`, the shift to the right copying the sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Masking {
    /// PMLEN, zero if there is no masking.
    pub bits: u64,
    /// All ones for a virtual address, whose sign is extended; less the upper bits for a physical one.
    pub mask: u64,
}

impl Masking {
    /// Addresses stay as they are.
    pub const OFF: Masking = Masking { bits: 0, mask: u64::MAX };

    /// That of a PMM field.
    fn of(pmm: u64, is_virtual: bool) -> Self {
        let bits = match pmm {
            PMLEN_7 => 7,
            PMLEN_16 => 16,
            _ => return Self::OFF,
        };
        Self { bits, mask: if is_virtual { u64::MAX } else { u64::MAX >> bits } }
    }

    /// The address that an access uses.
    #[inline]
    pub fn apply(self, address: u64) -> u64 {
        ((address << self.bits) as i64 >> self.bits) as u64 & self.mask
    }
}

/// PMM: 57 bits of address count.
const PMLEN_7: u64 = 2;
/// PMM: 48 bits of address count.
const PMLEN_16: u64 = 3;

impl Hart {
    /// The masking of loads and stores: their privilege decides, MPRV included, and MXR ends it below M-mode.
    pub(crate) fn data_masking(&self) -> Masking {
        let privilege = self.data_privilege();
        let register = match privilege {
            Privilege::Machine => self.csr.mseccfg,
            _ if mstatus::MXR.get(self.csr.mstatus) != 0 => return Masking::OFF,
            Privilege::Supervisor => self.csr.menvcfg,
            Privilege::User => self.csr.senvcfg,
        };
        Masking::of(envcfg::PMM.get(register), self.translates(privilege))
    }

    /// The address that a load or a store at `address` uses.
    #[inline]
    pub(crate) fn masked(&self, address: u64) -> u64 {
        self.masking.apply(address)
    }

    /// A PMM field has changed.
    pub(crate) fn change_masking(&mut self, old: u64, new: u64) {
        if old != new && (old == PMLEN_16 || new == PMLEN_16) {
            self.forget_translations();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification, and the others by its formulae.
    #[test]
    fn addresses_are_masked_by_kind_and_length() {
        let address = 0xabff_ffff_1234_5678;
        assert_eq!(Masking::of(PMLEN_7, true).apply(address), 0xffff_ffff_1234_5678);
        assert_eq!(Masking::of(PMLEN_7, false).apply(address), 0x01ff_ffff_1234_5678);
        assert_eq!(Masking::of(PMLEN_16, true).apply(0x1234_7fff_0000_0000), 0x7fff_0000_0000);
        assert_eq!(Masking::of(PMLEN_16, true).apply(0x1234_8000_0000_0000), 0xffff_8000_0000_0000);
        assert_eq!(Masking::of(PMLEN_16, false).apply(0x1234_8000_0000_0000), 0x8000_0000_0000);
        for pmm in [0, 1] {
            assert_eq!(Masking::of(pmm, false).apply(address), address);
        }
    }
}
