//! Semihosting on the hart's side: what tells a call from a breakpoint, and the way to the memory that a call is about
//! (RISC-V semihosting specification, chapter "Semihosting Trap Instruction Sequence").
//!
//! A call is an uncompressed `ebreak` between two instructions that do nothing. It stops the hart
//! ([`Stop::Semihosting`]) for whoever answers; every other `ebreak` raises its exception.

use bus::PAGE_SIZE;

use crate::isa::Insn;
use crate::mmu::Access;
use crate::{Hart, Stop};

/// `slli x0, x0, 0x1f`, before the `ebreak` of a call.
const BEFORE: u32 = 0x01f0_1013;
/// `srai x0, x0, 7`, behind it.
const BEHIND: u32 = 0x4070_5013;

impl Hart {
    /// Whether the `ebreak` at `address` is a semihosting call. The mode must be allowed to make them, and all three
    /// instructions must lie in one page, so that looking at the other two cannot fault where executing them would not.
    pub(crate) fn is_semihosting_call(&mut self, ebreak: &Insn, address: u64) -> bool {
        let allowed = self.configuration.semihosting.is_some_and(|lowest| self.privilege >= lowest);
        let (first, last) = (address.wrapping_sub(4), address.wrapping_add(7));
        allowed
            && ebreak.length() == 4
            && first / PAGE_SIZE == last / PAGE_SIZE
            && self.fetch_word(first) == Ok(BEFORE)
            && self.fetch_word(address.wrapping_add(4)) == Ok(BEHIND)
    }

    /// Stops the hart for a call, with `pc` behind the `ebreak`.
    pub(crate) fn call_semihosting(&mut self) {
        self.stop = Some(Stop::Semihosting);
        // An ebreak does not retire (§3.3.1); the block will count it.
        self.counts.retired = self.counts.retired.wrapping_sub(1);
    }

    /// Copies bytes from the hart's address space, as its loads in its mode would find them. `None` if it may not load
    /// all of them, or if not all of them are RAM: then some may have been copied.
    pub fn read_virtual(&mut self, address: u64, bytes: &mut [u8]) -> Option<()> {
        let mut at = address;
        let mut rest = bytes;
        while !rest.is_empty() {
            let (part, behind) = rest.split_at_mut(rest.len().min((PAGE_SIZE - at % PAGE_SIZE) as usize));
            let physical = self.data_address(at, part.len() as u64, Access::Read).ok()?;
            self.ram.read(physical, part)?;
            at = at.wrapping_add(part.len() as u64);
            rest = behind;
        }
        Some(())
    }

    /// Copies bytes to the hart's address space, as its stores in its mode would. `None` if it may not store all of them,
    /// or if not all of them are RAM: then some may have been copied. Watchpoints do not notice.
    pub fn write_virtual(&mut self, address: u64, bytes: &[u8]) -> Option<()> {
        let mut at = address;
        let mut rest = bytes;
        while !rest.is_empty() {
            let (part, behind) = rest.split_at(rest.len().min((PAGE_SIZE - at % PAGE_SIZE) as usize));
            let physical = self.data_address(at, part.len() as u64, Access::Write).ok()?;
            self.ram.write(physical, part)?;
            at = at.wrapping_add(part.len() as u64);
            rest = behind;
        }
        Some(())
    }
}
