//! How a hart's instructions reach memory: the TLB's fast path, and the slow path behind it.

use std::sync::atomic::Ordering;

use bus::{PAGE_SIZE, Ram, Width};

use crate::hart::Reservation;
use crate::isa::AmoOp;
use crate::lockstep::{Kind, Logged};
use crate::mmu::Access;
use crate::tlb::{self, Entry};
use crate::trap::Exception;
use crate::{Hart, Trapped, WatchKind};

/// Applies an atomic operation to a cell of RAM; values are sign-extended from `width`.
fn modify(ram: &Ram, offset: u64, width: Width, mut change: impl FnMut(u64) -> u64) -> Option<u64> {
    macro_rules! on {
        ($cell:ident, $t:ty) => {{
            let update = |old: $t| Some((change(width.sign_extend(<$t>::from_le(old).into())) as $t).to_le());
            let old = ram.$cell(offset)?.fetch_update(Ordering::SeqCst, Ordering::SeqCst, update);
            // The closure always gives a value.
            old.map_or_else(|old| old, |old| <$t>::from_le(old)).into()
        }};
    }
    let old: u64 = match width {
        Width::Byte => on!(atomic_u8, u8),
        Width::Half => on!(atomic_u16, u16),
        Width::Word => on!(atomic_u32, u32),
        Width::Double => on!(atomic_u64, u64),
    };
    Some(width.sign_extend(old))
}

/// Stores `new` if the cell holds `expected`; the old value, sign-extended.
fn exchange(ram: &Ram, offset: u64, width: Width, expected: u64, new: u64) -> Option<u64> {
    macro_rules! on {
        ($cell:ident, $t:ty) => {{
            let (expected, new) = ((expected as $t).to_le(), (new as $t).to_le());
            let old = ram.$cell(offset)?.compare_exchange(expected, new, Ordering::SeqCst, Ordering::SeqCst);
            <$t>::from_le(old.unwrap_or_else(|old| old)).into()
        }};
    }
    let old: u64 = match width {
        Width::Byte => on!(atomic_u8, u8),
        Width::Half => on!(atomic_u16, u16),
        Width::Word => on!(atomic_u32, u32),
        Width::Double => on!(atomic_u64, u64),
    };
    Some(width.sign_extend(old))
}

/// Stores the doublewords `new` if the cell holds `expected`; the old ones.
fn exchange_pair(ram: &Ram, offset: u64, expected: [u64; 2], new: [u64; 2]) -> Option<[u64; 2]> {
    let [expected, new] = [expected, new].map(|[low, high]| (u128::from(high) << 64 | u128::from(low)).to_le());
    let old = ram.atomic_u128(offset)?.compare_exchange(expected, new, Ordering::SeqCst, Ordering::SeqCst);
    let old = u128::from_le(old.unwrap_or_else(|old| old));
    Some([old as u64, (old >> 64) as u64])
}

/// What an AMO stores; operands are sign-extended from its width.
pub(crate) fn amo_result(op: AmoOp, width: Width, old: u64, value: u64) -> u64 {
    let value = width.sign_extend(value);
    let unsigned = |v: u64| width.zero_extend(v);
    match op {
        AmoOp::Swap => value,
        AmoOp::Add => old.wrapping_add(value),
        AmoOp::Xor => old ^ value,
        AmoOp::And => old & value,
        AmoOp::Or => old | value,
        AmoOp::Min => (old as i64).min(value as i64) as u64,
        AmoOp::Max => (old as i64).max(value as i64) as u64,
        AmoOp::Minu => unsigned(old).min(unsigned(value)),
        AmoOp::Maxu => unsigned(old).max(unsigned(value)),
    }
}

/// The host's address that a table has for `address`.
#[inline(always)]
fn probe(table: &[Entry; tlb::ENTRIES], address: u64, tag: u64) -> Option<u64> {
    let entry = &table[tlb::slot(address)];
    (entry.tag == tag).then(|| address.wrapping_add(entry.delta))
}

impl Hart {
    /// The offset in RAM of an address of the host in it.
    #[inline(always)]
    pub(crate) fn host_offset(&self, host: u64) -> u64 {
        host.wrapping_sub(self.ram.host_base() as u64)
    }

    /// The offset in RAM of the page of code at a virtual address, if its translation is cached.
    pub(crate) fn executed_page(&self, address: u64) -> Option<u64> {
        let address = address & !(PAGE_SIZE - 1);
        let host = probe(&self.tlb.execute, address, tlb::tag(address, 1, self.fetch_context))?;
        Some(self.host_offset(host))
    }

    /// Notes that somebody caches where the code at `address` is.
    pub(crate) fn note_execution(&mut self, address: u64) {
        self.tlb.note_execution(address, self.privilege);
    }

    /// The host's address of a byte that loads, or stores, need no further check for.
    #[cfg(feature = "jit")]
    pub(crate) fn host_of(&self, address: u64, access: Access) -> Option<u64> {
        let table = if access == Access::Write { &self.tlb.write } else { &self.tlb.read };
        probe(table, address, tlb::tag(address, 1, self.data_context))
    }

    /// Loads, zero-extended, if the TLB has the translation.
    #[inline(always)]
    pub(crate) fn load_quick(&self, address: u64, width: Width) -> Option<u64> {
        let tag = tlb::tag(address, width.bytes(), self.data_context);
        let host = probe(&self.tlb.read, address, tag)?;
        // SAFETY: an entry of the TLB leads to a whole page of RAM (`Hart::fill_tlb` makes all of them), and the tag
        // has only been met by an address that is aligned, so that all of the access is in that page.
        Some(unsafe {
            match width {
                Width::Byte => self.ram.load_mapped_u8(host).into(),
                Width::Half => self.ram.load_mapped_u16(host).into(),
                Width::Word => self.ram.load_mapped_u32(host).into(),
                Width::Double => self.ram.load_mapped_u64(host),
            }
        })
    }

    /// Stores the low bits of `value`, if the TLB has the translation.
    #[inline(always)]
    pub(crate) fn store_quick(&self, address: u64, width: Width, value: u64) -> Option<()> {
        let tag = tlb::tag(address, width.bytes(), self.data_context);
        let host = probe(&self.tlb.write, address, tag)?;
        // SAFETY: as for `load_quick`.
        unsafe {
            match width {
                Width::Byte => self.ram.store_mapped_u8(host, value as u8),
                Width::Half => self.ram.store_mapped_u16(host, value as u16),
                Width::Word => self.ram.store_mapped_u32(host, value as u32),
                Width::Double => self.ram.store_mapped_u64(host, value),
            }
        }
        Some(())
    }

    /// Loads, zero-extended.
    #[inline(always)]
    pub(crate) fn load_virtual(&mut self, address: u64, width: Width) -> Result<u64, Trapped> {
        match self.load_quick(address, width) {
            Some(value) => Ok(value),
            None => self.load_slow(address, width),
        }
    }

    /// Stores the low bits of `value`.
    #[inline(always)]
    pub(crate) fn store_virtual(&mut self, address: u64, width: Width, value: u64) -> Result<(), Trapped> {
        match self.store_quick(address, width, value) {
            Some(()) => Ok(()),
            None => self.store_slow(address, width, value),
        }
    }

    /// How many bytes of an access lie in its first page.
    fn first_part(address: u64, width: Width) -> u64 {
        width.bytes().min(PAGE_SIZE - address % PAGE_SIZE)
    }

    /// The guest-physical address of the bytes of a data access within one page, from the TLB if it has them.
    pub(crate) fn data_address(&mut self, address: u64, length: u64, access: Access) -> Result<u64, Trapped> {
        let table = if access == Access::Read { &self.tlb.read } else { &self.tlb.write };
        if let Some(host) = probe(table, address, tlb::tag(address, 1, self.data_context)) {
            return Ok(self.ram.base() + self.host_offset(host));
        }
        match access {
            Access::Write => self.counts.store_tlb_misses += 1,
            _ => self.counts.load_tlb_misses += 1,
        }
        self.translate(address, length, access)
    }

    #[cold]
    #[inline(never)]
    fn load_slow(&mut self, address: u64, width: Width) -> Result<u64, Trapped> {
        let address = self.masked(address);
        if let Some(logged) = self.repeat(Kind::Load, address, width, None)? {
            return Ok(logged.value);
        }
        self.check_watchpoints(address, width.bytes(), WatchKind::Read)?;
        let first = Self::first_part(address, width);
        let low = self.data_address(address, first, Access::Read)?;
        if first == width.bytes() {
            return self.load_physical(low, width).ok_or_else(|| self.raise(Exception::LoadAccessFault, address));
        }
        let second = self.masked(address.wrapping_add(first));
        let high = self.data_address(second, width.bytes() - first, Access::Read)?;
        let mut value = 0;
        for byte in 0..width.bytes() {
            let (physical, at) = if byte < first { (low + byte, address) } else { (high + byte - first, second) };
            match self.bus().read(physical, Width::Byte) {
                Some(loaded) => value |= loaded << (8 * byte),
                None => return Err(self.raise(Exception::LoadAccessFault, at)),
            }
        }
        Ok(value)
    }

    /// A load within one page. Devices see an access that is misaligned as single bytes.
    fn load_physical(&self, physical: u64, width: Width) -> Option<u64> {
        if physical & (width.bytes() - 1) == 0 || self.ram.offset(physical, width.bytes()).is_some() {
            return self.bus().read(physical, width);
        }
        (0..width.bytes())
            .try_fold(0, |value, byte| Some(value | self.bus().read(physical + byte, Width::Byte)? << (8 * byte)))
    }

    #[cold]
    #[inline(never)]
    fn store_slow(&mut self, address: u64, width: Width, value: u64) -> Result<(), Trapped> {
        let address = self.masked(address);
        if self.repeat(Kind::Store, address, width, Some(value))?.is_some() {
            return Ok(());
        }
        self.check_watchpoints(address, width.bytes(), WatchKind::Write)?;
        let first = Self::first_part(address, width);
        let low = self.data_address(address, first, Access::Write)?;
        if first == width.bytes() {
            return self
                .store_physical(low, width, value)
                .ok_or_else(|| self.raise(Exception::StoreAccessFault, address));
        }
        // Both pages are checked before either is written.
        let second = self.masked(address.wrapping_add(first));
        let high = self.data_address(second, width.bytes() - first, Access::Write)?;
        for byte in 0..width.bytes() {
            let (physical, at) = if byte < first { (low + byte, address) } else { (high + byte - first, second) };
            if self.store_physical(physical, Width::Byte, value >> (8 * byte)).is_none() {
                return Err(self.raise(Exception::StoreAccessFault, at));
            }
        }
        Ok(())
    }

    fn store_physical(&self, physical: u64, width: Width, value: u64) -> Option<()> {
        if let Some(offset) = self.ram.offset(physical, width.bytes()) {
            self.ram.store(offset, width, value)?;
            self.note_store(offset, width.bytes());
            return Some(());
        }
        if physical & (width.bytes() - 1) == 0 {
            return self.bus().write(physical, width, value);
        }
        (0..width.bytes()).try_for_each(|byte| self.bus().write(physical + byte, Width::Byte, value >> (8 * byte)))
    }

    /// The offset in RAM of an aligned atomic access; devices have no atomics (a PMA, hence an access fault).
    #[inline]
    fn atomic_offset(&mut self, address: u64, bytes: u64, access: Access) -> Result<u64, Trapped> {
        if address & (bytes - 1) != 0 {
            let exception = match access {
                Access::Read => Exception::LoadAddressMisaligned,
                _ => Exception::StoreAddressMisaligned,
            };
            return Err(self.raise(exception, address));
        }
        let physical = self.data_address(address, bytes, access)?;
        match self.ram.offset(physical, bytes) {
            Some(offset) => Ok(offset),
            None => Err(self.raise(crate::mmu::Fault::Access.exception(access), address)),
        }
    }

    fn outside_ram(&mut self, address: u64) -> Trapped {
        self.raise(Exception::StoreAccessFault, address)
    }

    /// An atomic read-modify-write; the old value, sign-extended.
    pub(crate) fn amo_virtual(&mut self, op: AmoOp, address: u64, width: Width, value: u64) -> Result<u64, Trapped> {
        let address = self.masked(address);
        if let Some(logged) = self.repeat(Kind::Modify, address, width, None)? {
            let old = width.sign_extend(logged.value);
            self.repeat_write(logged, width, amo_result(op, width, old, value));
            return Ok(old);
        }
        self.check_watchpoints(address, width.bytes(), WatchKind::Access)?;
        let offset = self.atomic_offset(address, width.bytes(), Access::Write)?;
        let old = modify(&self.ram, offset, width, |old| amo_result(op, width, old, value));
        self.note_atomic_store(offset, width.bytes());
        old.ok_or_else(|| self.outside_ram(address))
    }

    /// An atomic compare-and-swap; the old value, sign-extended.
    pub(crate) fn compare_and_swap_virtual(
        &mut self,
        address: u64,
        width: Width,
        expected: u64,
        new: u64,
    ) -> Result<u64, Trapped> {
        let address = self.masked(address);
        if let Some(logged) = self.repeat(Kind::Modify, address, width, None)? {
            if logged.value == width.zero_extend(expected) {
                self.repeat_write(logged, width, new);
            }
            return Ok(width.sign_extend(logged.value));
        }
        self.check_watchpoints(address, width.bytes(), WatchKind::Access)?;
        let offset = self.atomic_offset(address, width.bytes(), Access::Write)?;
        let old = exchange(&self.ram, offset, width, expected, new);
        self.note_atomic_store(offset, width.bytes());
        old.ok_or_else(|| self.outside_ram(address))
    }

    /// An atomic compare-and-swap of 16 bytes, as two doublewords; the old ones.
    pub(crate) fn compare_and_swap_pair_virtual(
        &mut self,
        address: u64,
        expected: [u64; 2],
        new: [u64; 2],
    ) -> Result<[u64; 2], Trapped> {
        const BYTES: u64 = 16;
        let address = self.masked(address);
        if let Some(low) = self.repeat(Kind::Modify, address, Width::Double, None)?
            && let Some(high) = self.repeat(Kind::Modify, address.wrapping_add(8), Width::Double, None)?
        {
            if [low.value, high.value] == expected {
                self.repeat_write(low, Width::Double, new[0]);
                self.repeat_write(high, Width::Double, new[1]);
            }
            return Ok([low.value, high.value]);
        }
        self.check_watchpoints(address, BYTES, WatchKind::Access)?;
        let offset = self.atomic_offset(address, BYTES, Access::Write)?;
        let old = exchange_pair(&self.ram, offset, expected, new);
        self.note_atomic_store(offset, BYTES);
        old.ok_or_else(|| self.outside_ram(address))
    }

    /// `lr`: the value, sign-extended.
    pub(crate) fn load_reserved_virtual(&mut self, address: u64, width: Width) -> Result<u64, Trapped> {
        let address = self.masked(address);
        if let Some(Logged { host, value, .. }) = self.repeat(Kind::Reserve, address, width, None)? {
            self.reservation = Reservation { offset: self.host_offset(host), width: width.bytes(), value };
            return Ok(width.sign_extend(value));
        }
        self.check_watchpoints(address, width.bytes(), WatchKind::Read)?;
        let offset = self.atomic_offset(address, width.bytes(), Access::Read)?;
        // SeqCst covers `aq` and `rl` in every combination.
        std::sync::atomic::fence(Ordering::SeqCst);
        let value = self.ram.load(offset, width).ok_or_else(|| self.outside_ram(address))?;
        std::sync::atomic::fence(Ordering::SeqCst);
        self.reservation = Reservation { offset, width: width.bytes(), value };
        Ok(width.sign_extend(value))
    }

    /// `sc`: 0 if it stored, else 1.
    ///
    /// The reservation is the address and the value: the store succeeds if memory still holds what `lr` loaded. A value
    /// that was changed and changed back is not noticed, which software that uses LR/SC as a compare-and-swap cannot
    /// tell from no change.
    pub(crate) fn store_conditional_virtual(&mut self, address: u64, width: Width, value: u64) -> Result<u64, Trapped> {
        let address = self.masked(address);
        if let Some(logged) = self.repeat(Kind::Conditional, address, width, None)? {
            let held = std::mem::take(&mut self.reservation);
            if held.offset != self.host_offset(logged.host) || held.width != width.bytes() {
                return Ok(1);
            }
            if logged.value == 0 {
                self.repeat_write(logged, width, value);
            }
            return Ok(logged.value);
        }
        self.check_watchpoints(address, width.bytes(), WatchKind::Write)?;
        // One that traps has not been executed: the reservation stays.
        let offset = self.atomic_offset(address, width.bytes(), Access::Write)?;
        let held = std::mem::take(&mut self.reservation);
        if held.offset != offset || held.width != width.bytes() {
            return Ok(1);
        }
        let old = exchange(&self.ram, offset, width, held.value, value).ok_or_else(|| self.outside_ram(address))?;
        let stored = width.zero_extend(old) == held.value;
        if stored {
            self.note_atomic_store(offset, width.bytes());
        }
        Ok(u64::from(!stored))
    }
}
