//! Virtual memory: the page-table walk of Sv39, Sv48 and Sv57 with Svadu/Svade, Svnapot and Svpbmt
//! (privileged specification, chapter "Supervisor-Level ISA", §10.3 to §10.7), and PMP on every physical access.

use std::sync::atomic::Ordering;

use bus::PAGE_SIZE;
use serde::{Deserialize, Serialize};

use crate::csr::{envcfg, mstatus, satp};
use crate::extension::Extension;
#[cfg(feature = "jit")]
use crate::ranges::Run;
use crate::trap::Exception;
use crate::{Hart, Privilege, Trapped};

#[cfg(feature = "jit")]
mod gathered;

#[cfg(feature = "jit")]
pub(crate) use gathered::Views;

/// What an access does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Access {
    /// A load.
    Read,
    /// A store or an atomic.
    Write,
    /// An instruction fetch.
    Execute,
}

/// Why an access fails, before it is known what kind of instruction made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The page table does not allow it.
    Page,
    /// PMP does not allow it, or there is nothing at the physical address.
    Access,
}

impl Fault {
    /// The exception for this fault of an access.
    pub const fn exception(self, access: Access) -> Exception {
        match (self, access) {
            (Fault::Page, Access::Read) => Exception::LoadPageFault,
            (Fault::Page, Access::Write) => Exception::StorePageFault,
            (Fault::Page, Access::Execute) => Exception::InstructionPageFault,
            (Fault::Access, Access::Read) => Exception::LoadAccessFault,
            (Fault::Access, Access::Write) => Exception::StoreAccessFault,
            (Fault::Access, Access::Execute) => Exception::InstructionAccessFault,
        }
    }
}

/// Fields of a page-table entry (§10.4.1).
pub(crate) mod pte {
    use crate::csr::Field;
    pub const V: u64 = 1 << 0;
    pub const R: u64 = 1 << 1;
    pub const W: u64 = 1 << 2;
    pub const X: u64 = 1 << 3;
    pub const U: u64 = 1 << 4;
    pub const G: u64 = 1 << 5;
    pub const A: u64 = 1 << 6;
    pub const D: u64 = 1 << 7;
    /// For the supervisor's software.
    pub const SOFTWARE: u64 = 3 << 8;
    pub const PPN: Field = Field::range(10, 44);
    pub const PBMT: Field = Field::range(61, 2);
    pub const RESERVED: Field = Field::range(54, 7);
    pub const N: u64 = 1 << 63;
}

/// Where a virtual address leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Translation {
    /// Guest-physical address.
    pub physical: u64,
    /// Bits of the address that the leaf does not translate: 12 for a page, more for a superpage.
    pub offset_bits: u32,
    /// Whether the leaf is a user page.
    pub user: bool,
    /// The leaf and its guest-physical address, if there is one.
    pub(crate) leaf: Option<Leaf>,
}

/// A leaf page-table entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Leaf {
    address: u64,
    entry: u64,
}

/// Most bytes of a run in a superpage: a page of it that somebody listens to spoils no more of it.
#[cfg(feature = "jit")]
const LONGEST_RUN: u64 = 2 << 20;

/// Most pages that are looked at one by one on each side.
#[cfg(feature = "jit")]
const NEIGHBOURS: u64 = 32;

/// Who asks, and whether the walk may change A and D bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Walk {
    pub access: Access,
    pub privilege: Privilege,
    /// A debugger's walk leaves the page table as it is and does not ask for permissions.
    pub probe: bool,
}

/// Levels of the page table for a MODE of `satp`; `None` if it is none of Sv39, Sv48, Sv57.
pub(crate) const fn levels(mode: u64) -> Option<u32> {
    match mode {
        8 => Some(3),
        9 => Some(4),
        10 => Some(5),
        _ => None,
    }
}

impl Hart {
    /// Whether `satp.MODE` can hold `mode`.
    pub(crate) fn supports_satp_mode(&self, mode: u64) -> bool {
        mode == 0 || levels(mode).is_some_and(|levels| levels <= self.configuration.page_table_levels)
    }

    /// The privilege that loads and stores have: MPRV lets M-mode use another's (§3.1.6.3).
    #[inline]
    pub(crate) fn data_privilege(&self) -> Privilege {
        if self.privilege == Privilege::Machine && mstatus::MPRV.get(self.csr.mstatus) != 0 {
            Privilege::from_bits(mstatus::MPP.get(self.csr.mstatus)).unwrap_or(Privilege::User)
        } else {
            self.privilege
        }
    }

    /// Whether accesses of `privilege` are translated.
    pub(crate) fn translates(&self, privilege: Privilege) -> bool {
        privilege != Privilege::Machine && satp::MODE.get(self.csr.satp) != 0
    }

    /// Translates `address` for an access (§10.3.2, "Virtual Address Translation Process").
    pub(crate) fn walk(&self, address: u64, walk: Walk) -> Result<Translation, Fault> {
        if !self.translates(walk.privilege) {
            return Ok(Translation { physical: address, offset_bits: 12, user: false, leaf: None });
        }
        let levels = levels(satp::MODE.get(self.csr.satp)).ok_or(Fault::Page)?;
        let virtual_bits = 12 + 9 * levels;
        let unused = 64 - virtual_bits;
        if ((address << unused) as i64 >> unused) as u64 != address {
            return Err(Fault::Page);
        }
        // A walk that meets a PTE which another hart changes under it starts again (step 9).
        loop {
            if let Some(done) = self.walk_once(address, levels, walk)? {
                return Ok(done);
            }
        }
    }

    fn walk_once(&self, address: u64, levels: u32, walk: Walk) -> Result<Option<Translation>, Fault> {
        let mut table = satp::PPN.get(self.csr.satp) * PAGE_SIZE;
        for level in (0..levels).rev() {
            let shift = 12 + 9 * level;
            let entry_address = table + (address >> shift & 0x1ff) * 8;
            let entry = self.read_page_table(entry_address, walk)?;
            let reserved = pte::RESERVED.get(entry) != 0 || pte::PBMT.get(entry) == 3;
            let write_only = entry & (pte::R | pte::W) == pte::W;
            if entry & pte::V == 0 || write_only || reserved {
                return Err(Fault::Page);
            }
            if entry & (pte::R | pte::X) == 0 {
                // A pointer to the next level: A, D, U, N and PBMT are reserved there (§10.4.1, Svnapot, Svpbmt).
                if entry & (pte::A | pte::D | pte::U | pte::N) != 0 || pte::PBMT.get(entry) != 0 {
                    return Err(Fault::Page);
                }
                table = pte::PPN.get(entry) * PAGE_SIZE;
                continue;
            }
            return self.leaf(address, level, entry_address, entry, walk);
        }
        Err(Fault::Page)
    }

    fn leaf(
        &self,
        address: u64,
        level: u32,
        entry_address: u64,
        entry: u64,
        walk: Walk,
    ) -> Result<Option<Translation>, Fault> {
        let memory_types = self.has(Extension::Svpbmt) && envcfg::PBMTE.get(self.csr.menvcfg) != 0;
        if pte::PBMT.get(entry) != 0 && !memory_types {
            return Err(Fault::Page);
        }
        let user = entry & pte::U != 0;
        let status = self.csr.mstatus;
        let mode_allows = match walk.privilege {
            Privilege::User => user,
            _ => !user || walk.access != Access::Execute && mstatus::SUM.get(status) != 0,
        };
        let right = match walk.access {
            Access::Read if mstatus::MXR.get(status) != 0 => pte::R | pte::X,
            Access::Read => pte::R,
            Access::Write => pte::W,
            Access::Execute => pte::X,
        };
        if !walk.probe && (!mode_allows || entry & right == 0) {
            return Err(Fault::Page);
        }
        let mut ppn = pte::PPN.get(entry);
        let mut offset_bits = 12 + 9 * level;
        if ppn & ((1 << (9 * level)) - 1) != 0 {
            return Err(Fault::Page); // a misaligned superpage
        }
        if entry & pte::N != 0 {
            // Svnapot: 64 KiB, encoded as 1000 in the low bits of the PPN of a 4 KiB leaf.
            if !self.has(Extension::Svnapot) || level != 0 || ppn & 0xf != 8 {
                return Err(Fault::Page);
            }
            ppn &= !0xf;
            offset_bits = 16;
        }
        let needed = pte::A | if walk.access == Access::Write { pte::D } else { 0 };
        if !walk.probe && entry & needed != needed {
            if !self.updates_accessed_and_dirty() {
                return Err(Fault::Page);
            }
            if !self.update_page_table(entry_address, entry, entry | needed)? {
                return Ok(None);
            }
        }
        let within = (1 << offset_bits) - 1;
        let physical = (ppn * PAGE_SIZE) & !within | address & within;
        let leaf = Some(Leaf { address: entry_address, entry });
        Ok(Some(Translation { physical, offset_bits, user, leaf }))
    }

    /// Svadu: where only hardware updating is offered it is always on, with Svade `menvcfg.ADUE` decides.
    fn updates_accessed_and_dirty(&self) -> bool {
        self.has(Extension::Svadu) && (!self.has(Extension::Svade) || envcfg::ADUE.get(self.csr.menvcfg) != 0)
    }

    fn read_page_table(&self, address: u64, walk: Walk) -> Result<u64, Fault> {
        if !walk.probe && !self.pmp.allows(address, 8, Access::Read, Privilege::Supervisor) {
            return Err(Fault::Access);
        }
        let offset = self.ram.offset(address, 8).ok_or(Fault::Access)?;
        self.ram.load_u64(offset).ok_or(Fault::Access)
    }

    /// Sets A and D bits atomically; false if the entry has changed meanwhile.
    fn update_page_table(&self, address: u64, old: u64, new: u64) -> Result<bool, Fault> {
        if !self.pmp.allows(address, 8, Access::Write, Privilege::Supervisor) {
            return Err(Fault::Access);
        }
        let offset = self.ram.offset(address, 8).ok_or(Fault::Access)?;
        let cell = self.ram.atomic_u64(offset).ok_or(Fault::Access)?;
        self.ram.announce_write();
        let updated = cell.compare_exchange(old.to_le(), new.to_le(), Ordering::SeqCst, Ordering::SeqCst).is_ok();
        if updated {
            self.note_atomic_store(offset, 8);
        }
        Ok(updated)
    }

    /// The guest-physical address of an access of `length` bytes that lies in one page, checked by the page table and
    /// by PMP. A page of RAM that may be used freely enters the TLB.
    pub(crate) fn translate(&mut self, address: u64, length: u64, access: Access) -> Result<u64, Trapped> {
        let privilege = if access == Access::Execute { self.privilege } else { self.data_privilege() };
        let walk = Walk { access, privilege, probe: false };
        let fault = match self.walk(address, walk) {
            Ok(found) if self.pmp.allows(found.physical, length, access, privilege) => {
                self.fill_tlb(address, access, privilege, found);
                return Ok(found.physical);
            }
            Ok(_) => Fault::Access,
            Err(fault) => fault,
        };
        Err(self.raise(fault.exception(access), address))
    }

    fn fill_tlb(&mut self, address: u64, access: Access, privilege: Privilege, found: Translation) {
        let page = found.physical & !(PAGE_SIZE - 1);
        let Some(offset) = self.ram.offset(page, PAGE_SIZE) else { return };
        self.ram.provide(offset);
        let listened = access == Access::Write && !self.ram.flags(offset).is_empty();
        if listened || self.is_watched(address, 1, access) || !self.pmp.is_uniform(page, PAGE_SIZE) {
            return;
        }
        let is_local = found.leaf.is_some_and(|leaf| leaf.entry & pte::G == 0);
        if privilege == Privilege::Supervisor && is_local && !found.user && self.tlb.note_local_supervisor_page() {
            self.update_mode();
        }
        let context = if access == Access::Execute { self.fetch_context } else { self.data_context };
        let host = self.ram.host_base() as u64 + offset;
        self.tlb.fill(access, context, address, host, found.offset_bits);
        if privilege == Privilege::User
            && let Some(leaf) = found.leaf
            && let Some(other) = Self::other_access(leaf.entry, access)
            && self.pmp.allows(page, PAGE_SIZE, other, privilege)
            && (other == Access::Read || self.ram.flags(offset).is_empty())
            && !self.is_watched(address, 1, other)
        {
            self.tlb.fill(other, context, address, host, found.offset_bits);
        }
        if self.tlb.has_many_dropped_writes() {
            self.shared().raise(crate::event::REQUEST);
        }
        if found.user && privilege == Privilege::Supervisor {
            self.tlb.note_user_page(access, address);
        }
    }

    /// The access that a user page also allows as it is, when it is found by a load or a store: data is mostly read and
    /// written, and one walk serves both. S-mode's pages are left alone: a kernel reads what it will execute where it
    /// could write it, and a write entry for code counts as a write when it is dropped.
    fn other_access(entry: u64, access: Access) -> Option<Access> {
        match access {
            Access::Read if entry & (pte::W | pte::D) == pte::W | pte::D => Some(Access::Write),
            Access::Write if entry & pte::R != 0 => Some(Access::Read),
            _ => None,
        }
    }

    /// The run of pages around `address` that an access may use freely, for a range entry: those of one superpage, or
    /// neighbours in a page table. The access itself has been allowed before.
    #[cfg(feature = "jit")]
    pub(crate) fn run(&mut self, address: u64, access: Access) -> Option<Run> {
        let privilege = self.data_privilege();
        let found = self.walk(address, Walk { access, privilege, probe: false }).ok()?;
        if found.user && privilege != Privilege::User {
            return None;
        }
        let physical = found.physical & !(PAGE_SIZE - 1);
        // Pages of the run before and behind this one.
        let (before, behind) = match found.leaf {
            None => (physical % LONGEST_RUN / PAGE_SIZE, (LONGEST_RUN - physical % LONGEST_RUN) / PAGE_SIZE - 1),
            Some(_) if found.offset_bits > 12 => {
                let size = LONGEST_RUN.min(1 << found.offset_bits);
                (physical % size / PAGE_SIZE, (size - physical % size) / PAGE_SIZE - 1)
            }
            Some(leaf) => self.neighbours(leaf, access),
        };
        // As far as there is RAM, and for stores nobody listens.
        let offset = self.ram.offset(physical, PAGE_SIZE)?;
        let mut before = before.min(offset / PAGE_SIZE);
        let mut behind = behind.min((self.ram.size() - offset) / PAGE_SIZE - 1);
        if access == Access::Write {
            let is_free = |offset: u64| self.ram.flags(offset).is_empty();
            if !is_free(offset) {
                return None;
            }
            let free_before = |count: &u64| is_free(offset - count * PAGE_SIZE);
            before = (1..=before.min(NEIGHBOURS)).take_while(free_before).count() as u64;
            let free_behind = |count: &u64| is_free(offset + count * PAGE_SIZE);
            behind = (1..=behind.min(NEIGHBOURS)).take_while(free_behind).count() as u64;
        }
        if !self.pmp.is_uniform(physical - before * PAGE_SIZE, (before + behind + 1) * PAGE_SIZE) {
            if !self.pmp.is_uniform(physical, PAGE_SIZE) {
                return None;
            }
            (before, behind) = (0, 0);
        }
        let first_address = |before| (address & !(PAGE_SIZE - 1)).wrapping_sub(before * PAGE_SIZE);
        if self.is_watched(first_address(before), before + behind + 1, access) {
            if self.is_watched(address, 1, access) {
                return None;
            }
            (before, behind) = (0, 0);
        }
        self.tlb.note_superpage(address, found.offset_bits);
        Some(Run {
            base: first_address(before),
            length: (before + behind + 1) * PAGE_SIZE,
            host: self.ram.host_base() as u64 + offset - before * PAGE_SIZE,
            // What U-mode's entries hold may move to other pages later, and goes with the address space.
            global: privilege != Privilege::User && found.leaf.is_none_or(|leaf| leaf.entry & pte::G != 0),
            is_view: false,
        })
    }

    /// How many leaves before and behind one in its table lead to the pages before and behind its page and are else the
    /// same.
    #[cfg(feature = "jit")]
    fn neighbours(&self, leaf: Leaf, access: Access) -> (u64, u64) {
        let index = leaf.address % PAGE_SIZE / 8;
        // A load does not ask for D.
        let ignored = if access == Access::Read { pte::D } else { 0 } | pte::SOFTWARE;
        let step = 1 << 10;
        let read = |address| self.ram.offset(address, 8).and_then(|offset| self.ram.load_u64(offset));
        // It has had its A and D bits set since the walk read it, or somebody is changing it.
        let own = read(leaf.address).filter(|own| (own ^ leaf.entry) & !(pte::A | pte::D) == 0);
        let Some(own) = own else { return (0, 0) };
        let walk = |count: u64, backwards: bool| {
            let (address, expected) = if backwards {
                (leaf.address.wrapping_sub(count * 8), own.wrapping_sub(count * step))
            } else {
                (leaf.address.wrapping_add(count * 8), own.wrapping_add(count * step))
            };
            read(address).is_some_and(|entry| (entry ^ expected) & !ignored == 0)
        };
        let before = (1..=index.min(NEIGHBOURS)).take_while(|count| walk(*count, true)).count();
        let behind = (1..=(511 - index).min(NEIGHBOURS)).take_while(|count| walk(*count, false)).count();
        (before as u64, behind as u64)
    }

    /// Where `address` leads for a debugger, in the current address space; changes nothing.
    pub fn probe(&self, address: u64) -> Result<u64, Fault> {
        let walk = Walk { access: Access::Read, privilege: self.data_privilege(), probe: true };
        self.walk(address, walk).map(|found| found.physical)
    }
}
