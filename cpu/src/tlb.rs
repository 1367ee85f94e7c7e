//! The software TLB: direct-mapped tables of virtual pages whose access needs no further check.
//!
//! An entry exists only where the page is RAM, the access is allowed for the whole page by the page table and by PMP,
//! the A bit (for writes the D bit too) is set, and, for writes, nobody listens to the page
//! ([`bus::PageFlags`]). Invalid translations are never cached (Svvptc).
//!
//! **Contexts.** The low twelve bits of a tag hold a context number that stands for one address space in one
//! privilege, and three zero bits that a misaligned address spoils. A switch of privilege or `satp` picks another
//! number and costs nothing; a full flush forgets all numbers and costs as little; the tables are wiped only when the
//! numbers run out.
//!
//! **The supervisor.** A supervisor's own pages are usually global: the same in all address spaces. So S-mode has one
//! context for all of them, until a page of its own turns up that is not global; user pages that it reaches under SUM
//! are logged and dropped when SUM or the address space ends.
//!
//! **Single pages.** A page has one slot whatever its context, so that `sfence.vma` with an address clears three slots.
//! Entries of superpages are as small as others; the set of the superpages that any of them is from tells when a flush
//! by address has to become a full one. It is exact: a kernel's map of all RAM has a superpage for every 2 MiB.

use std::collections::{HashMap, HashSet};
use std::hash::BuildHasherDefault;

use bus::PAGE_SIZE;

use crate::Privilege;
use crate::block::KeyHasher;
use crate::csr::satp;
use crate::mmu::Access;
use crate::ranges::Ranges;

/// Entries per table.
pub const ENTRIES: usize = 4096;

const PAGE_MASK: u64 = !(PAGE_SIZE - 1);
const CONTEXT_SHIFT: u32 = 3;
/// Context numbers that fit a tag.
pub(crate) const CONTEXTS: u16 = 1 << (12 - CONTEXT_SHIFT);
/// Address bits inside of superpages: a 64 KiB range (Svnapot), and a leaf at each level above the lowest.
const SUPERPAGE_BITS: [u32; 5] = [16, 21, 30, 39, 48];
/// Superpages that are told apart: 128 GiB in pieces of 2 MiB.
const MOST_SUPERPAGES: usize = 1 << 16;
/// Dropped write entries that are logged before the hart should look at them.
const MOST_DROPPED_WRITES: usize = 256;
/// Pages that code is cached of before all is looked for again.
const MOST_EXECUTED: usize = 1 << 16;
/// How many user pages S-mode may have entries for before SUM's end wipes all instead of each.
const USER_SLOTS: usize = 256;

/// One translation. `tag` equals the page's address with the context; `delta` leads from the virtual address to the
/// host's address, which is what translated code wants.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub struct Entry {
    /// Virtual page and context; zero matches nothing, as context numbers start at one.
    pub tag: u64,
    /// What to add to the virtual address, wrapping.
    pub delta: u64,
}

impl Entry {
    /// The page of the host that the entry leads to.
    fn host_page(&self) -> u64 {
        (self.tag & PAGE_MASK).wrapping_add(self.delta)
    }
}

/// One address space in one privilege, as a number in a tag's place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Context(u64);

impl Context {
    /// One that no entry has: a tag has zeros where this has a one.
    pub const NONE: Context = Context(1);

    /// The number, unique among the contexts that live.
    pub fn number(self) -> u64 {
        self.0 >> CONTEXT_SHIFT
    }
}

/// The numbers of one `satp` value's contexts, by privilege and MXR; zero is none yet.
type Numbers = [u16; 8];

/// The low bits of a page's number on the host.
fn page_number(host: u64) -> u32 {
    (host / PAGE_SIZE) as u32
}

/// The TLB of one hart.
pub struct Tlb {
    /// For loads. The tables lie in the hart itself: translated code reaches them at constant distances.
    pub read: [Entry; ENTRIES],
    /// For stores and atomics.
    pub write: [Entry; ENTRIES],
    /// For instruction fetches.
    pub execute: [Entry; ENTRIES],
    /// For each write entry the low bits of its page's number on the host: who looks for those that lead to a page
    /// finds most by a quick pass.
    write_pages: [u32; ENTRIES],
    numbers: HashMap<u64, Numbers>,
    next_number: u16,
    /// The `satp` whose numbers are at hand, and they.
    current: (u64, Numbers),
    /// Counts full flushes and reuses of numbers: who caches translations of its own compares it.
    generation: u64,
    /// Superpages that an entry has come from since the last full flush, by [`Tlb::superpage`]; [`MOST_SUPERPAGES`]
    /// stand for all.
    superpages: HashSet<u64, BuildHasherDefault<KeyHasher>>,
    /// Slots of user pages that S-mode reached under SUM.
    user_slots: Vec<(Access, u16)>,
    /// Pages that somebody has cached the way from virtual addresses to code of in this generation: U-mode's with the
    /// ASID, or none if there are several, and others'.
    executed_by_users: HashMap<u64, Option<u64>, BuildHasherDefault<KeyHasher>>,
    executed_by_others: HashSet<u64, BuildHasherDefault<KeyHasher>>,
    /// S-mode's numbers, by MXR; zero is none yet.
    supervisor: [u16; 2],
    /// Whether S-mode has contexts by address space.
    separate_supervisors: bool,
    /// What translated code remembers of translations.
    pub(crate) ranges: Ranges,
    /// Pages of the host that a write entry was dropped for, unless nobody asks.
    dropped_writes: Vec<u64>,
    logs_dropped_writes: bool,
}

impl Default for Tlb {
    fn default() -> Self {
        Self {
            read: [Entry::default(); ENTRIES],
            write: [Entry::default(); ENTRIES],
            execute: [Entry::default(); ENTRIES],
            write_pages: [0; ENTRIES],
            numbers: HashMap::new(),
            next_number: 1,
            current: (0, [0; 8]),
            generation: 0,
            superpages: HashSet::default(),
            user_slots: Vec::new(),
            executed_by_users: HashMap::default(),
            executed_by_others: HashSet::default(),
            supervisor: [0; 2],
            separate_supervisors: false,
            ranges: Ranges::default(),
            dropped_writes: Vec::new(),
            logs_dropped_writes: false,
        }
    }
}

/// The slot of a virtual address in each table.
#[inline(always)]
pub fn slot(address: u64) -> usize {
    (address / PAGE_SIZE) as usize & (ENTRIES - 1)
}

/// The tag that an access of `width` bytes at `address` must meet; a misaligned one meets none.
#[inline(always)]
pub fn tag(address: u64, width: u64, context: Context) -> u64 {
    address & (PAGE_MASK | (width - 1)) | context.0
}

impl Tlb {
    /// Changes whenever cached translations may have become invalid, but for single pages that
    /// [`Tlb::note_execution`] was not told of.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    fn new_generation(&mut self) {
        self.generation += 1;
        self.executed_by_users.clear();
        self.executed_by_others.clear();
    }

    /// Notes that somebody caches where the code at `address` is, until the generation changes.
    pub fn note_execution(&mut self, address: u64, privilege: Privilege) {
        let page = address / PAGE_SIZE;
        if self.executed_by_users.len() + self.executed_by_others.len() >= MOST_EXECUTED {
            self.new_generation();
        }
        if privilege == Privilege::User {
            let asid = satp::ASID.get(self.current.0);
            let spaces = self.executed_by_users.entry(page).or_insert(Some(asid));
            *spaces = spaces.filter(|only| *only == asid);
        } else {
            self.executed_by_others.insert(page);
        }
    }

    /// Notes a page of the supervisor's own that is not global. True if that was news: then contexts at hand must be
    /// asked for again.
    pub fn note_local_supervisor_page(&mut self) -> bool {
        if self.separate_supervisors {
            return false;
        }
        self.separate_supervisors = true;
        self.flush();
        true
    }

    /// The context of an address space in a privilege. `satp` is zero where nothing is translated.
    pub fn context(&mut self, satp: u64, privilege: Privilege, executable_readable: bool) -> Context {
        if satp != 0 && privilege == Privilege::Supervisor && !self.separate_supervisors {
            let index = usize::from(executable_readable);
            if self.supervisor[index] == 0 {
                self.supervisor[index] = self.take_number();
            }
            return Context(u64::from(self.supervisor[index]) << CONTEXT_SHIFT);
        }
        if self.current.0 != satp {
            let (old, numbers) = self.current;
            if numbers != [0; 8] {
                self.numbers.insert(old, numbers);
            }
            self.current = (satp, self.numbers.get(&satp).copied().unwrap_or_default());
        }
        let index = privilege as usize | usize::from(executable_readable) << 2;
        if self.current.1[index] == 0 {
            self.current.1[index] = self.take_number();
        }
        Context(u64::from(self.current.1[index]) << CONTEXT_SHIFT)
    }

    fn take_number(&mut self) -> u16 {
        if self.next_number == CONTEXTS {
            self.wipe();
        }
        self.next_number += 1;
        self.next_number - 1
    }

    /// Clears the tables and starts the numbers anew.
    fn wipe(&mut self) {
        self.forget_all_writes();
        for table in [&mut self.read, &mut self.execute] {
            table.fill(Entry::default());
        }
        self.next_number = 1;
        self.flush();
    }

    /// Forgets all translations. Contexts at hand must be asked for again.
    pub fn flush(&mut self) {
        self.forget_numbers();
        self.supervisor = [0; 2];
        self.new_generation();
        self.superpages.clear();
        self.user_slots.clear();
        self.ranges.forget();
    }

    fn forget_numbers(&mut self) {
        self.numbers.clear();
        self.current.1 = [0; 8];
    }

    /// Forgets the translations of one address space's `satp` values, but for global ones (§10.2.1). Contexts at hand
    /// must be asked for again.
    pub fn flush_asid(&mut self, asid: u64) {
        self.forget_numbers_of(asid);
        self.forget_space();
    }

    fn forget_numbers_of(&mut self, asid: u64) {
        self.numbers.retain(|satp, _| satp::ASID.get(*satp) != asid);
        if satp::ASID.get(self.current.0) == asid {
            self.current.1 = [0; 8];
        }
    }

    /// Forgets what S-mode and translated code know of the address space at hand: it ends, or parts of it do.
    pub fn forget_space(&mut self) {
        self.ranges.forget_space();
        self.forget_user_pages();
    }

    /// Forgets the translations of the page at `address`, but maybe not those of other address spaces than `asid`'s. True
    /// if that took a full flush.
    pub fn flush_page(&mut self, address: u64, asid: Option<u64>) -> bool {
        let is_noted = |bits| self.superpages.contains(&Self::superpage(address, bits));
        if self.superpages.len() == MOST_SUPERPAGES || SUPERPAGE_BITS.into_iter().any(is_noted) {
            self.flush();
            return true;
        }
        let page = address / PAGE_SIZE;
        if self.executed_by_others.contains(&page) {
            self.new_generation();
        } else if let Some(only) = self.executed_by_users.get(&page) {
            // New numbers for U-mode make it look for its code again.
            match (asid, *only) {
                (Some(asid), Some(only)) if asid != only => {}
                (Some(asid), _) => self.forget_numbers_of(asid),
                (None, _) => {
                    self.forget_numbers();
                    self.executed_by_users.clear();
                }
            }
        }
        self.ranges.forget_address(address);
        let slot = slot(address);
        self.log_dropped_write(slot);
        for table in [&mut self.read, &mut self.write, &mut self.execute] {
            table[slot] = Entry::default();
        }
        false
    }

    /// The superpage of `bits` address bits around `address`.
    fn superpage(address: u64, bits: u32) -> u64 {
        const { assert!(SUPERPAGE_BITS[0] >= 6 && SUPERPAGE_BITS[4] < 64, "the size has room") };
        address >> bits << 6 | u64::from(bits)
    }

    /// Adds a translation of the page of `address` to the page at the host's address `host`.
    pub fn fill(&mut self, access: Access, context: Context, address: u64, host: u64, offset_bits: u32) {
        let page = address & PAGE_MASK;
        self.note_superpage(address, offset_bits);
        if access == Access::Write {
            self.log_dropped_write(slot(address));
        }
        if access == Access::Write {
            self.write_pages[slot(address)] = page_number(host);
        }
        self.table(access)[slot(address)] =
            Entry { tag: page | context.0, delta: (host & PAGE_MASK).wrapping_sub(page) };
    }

    /// Notes that somebody caches a translation from the superpage around `address`, under the smallest size that covers
    /// it.
    pub fn note_superpage(&mut self, address: u64, offset_bits: u32) {
        if let Some(bits) = SUPERPAGE_BITS.into_iter().find(|bits| offset_bits > 12 && offset_bits <= *bits)
            && self.superpages.len() < MOST_SUPERPAGES
        {
            self.superpages.insert(Self::superpage(address, bits));
        }
    }

    /// Notes that the entry just filled for `address` is a user page that S-mode reached under SUM.
    pub fn note_user_page(&mut self, access: Access, address: u64) {
        self.user_slots.push((access, slot(address) as u16));
    }

    /// SUM has ended: forgets the user pages that S-mode reached. True if that took a full flush.
    pub fn forget_user_pages(&mut self) -> bool {
        if self.user_slots.len() > USER_SLOTS {
            self.flush();
            return true;
        }
        for (access, slot) in std::mem::take(&mut self.user_slots) {
            if access == Access::Write {
                self.log_dropped_write(slot.into());
            }
            self.table(access)[usize::from(slot)] = Entry::default();
        }
        false
    }

    fn table(&mut self, access: Access) -> &mut [Entry; ENTRIES] {
        match access {
            Access::Read => &mut self.read,
            Access::Write => &mut self.write,
            Access::Execute => &mut self.execute,
        }
    }

    /// Forgets every write entry that leads to the page at the host's address `host`: somebody wants to hear of writes
    /// to it.
    /// True if there was one.
    pub fn forget_writes_to(&mut self, host: u64) -> bool {
        const GROUP: usize = 64;
        let mut found = self.ranges.forget_writes_to(host & PAGE_MASK);
        let wanted = page_number(host);
        for (pages, entries) in self.write_pages.chunks_exact(GROUP).zip(self.write.chunks_exact_mut(GROUP)) {
            // All of a group at once, which the host compares several at a time.
            if !pages.iter().fold(false, |any, page| any | (*page == wanted)) {
                continue;
            }
            for entry in entries {
                if entry.tag != 0 && entry.host_page() == host & PAGE_MASK {
                    *entry = Entry::default();
                    found = true;
                }
            }
        }
        found
    }

    /// Forgets every write entry, and logs them as dropped.
    pub fn forget_all_writes(&mut self) {
        for slot in 0..ENTRIES {
            self.log_dropped_write(slot);
            self.write[slot] = Entry::default();
        }
        for (host, length) in self.ranges.forget_all_writes() {
            let pages = (host & PAGE_MASK..host + length).step_by(PAGE_SIZE as usize);
            self.dropped_writes.extend(pages.filter(|_| self.logs_dropped_writes));
        }
    }

    /// Has the pages of write entries that are dropped for other reasons than [`Tlb::forget_writes_to`] logged, or not:
    /// until the hart has told those who listen to them, it may have written there unheard.
    pub fn log_dropped_writes(&mut self, log: bool) {
        self.logs_dropped_writes = log;
        self.ranges.log_replaced(log);
    }

    fn log_dropped_write(&mut self, slot: usize) {
        let entry = self.write[slot];
        if self.logs_dropped_writes && entry.tag != 0 {
            let page = entry.host_page();
            if self.dropped_writes.last() != Some(&page) {
                self.dropped_writes.push(page);
            }
        }
    }

    /// Whether so many are logged that the hart should look at them soon.
    pub fn has_many_dropped_writes(&self) -> bool {
        self.dropped_writes.len() + self.ranges.replaced() >= MOST_DROPPED_WRITES
    }

    /// Takes the log: pages of the host.
    pub fn take_dropped_writes(&mut self) -> Vec<u64> {
        for (host, length) in self.ranges.take_replaced() {
            self.dropped_writes.extend((host & PAGE_MASK..host + length).step_by(PAGE_SIZE as usize));
        }
        std::mem::take(&mut self.dropped_writes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hits(tlb: &Tlb, context: Context, address: u64) -> bool {
        tlb.read[slot(address)].tag == tag(address, 8, context)
    }

    #[test]
    fn contexts_are_apart_and_flushes_forget() {
        let mut tlb = Tlb::default();
        let one = tlb.context(8 << 60 | 1, Privilege::User, false);
        tlb.fill(Access::Read, one, 0x5000, 0x1000, 12);
        assert!(hits(&tlb, one, 0x5008) && !hits(&tlb, one, 0x5001), "misaligned misses");
        let two = tlb.context(8 << 60 | 2, Privilege::User, false);
        assert!(!hits(&tlb, two, 0x5008));
        assert_eq!(tlb.context(8 << 60 | 1, Privilege::User, false), one, "numbers are remembered");
        assert!(!tlb.flush_page(0x5fff, None));
        assert!(!hits(&tlb, one, 0x5008));
        tlb.fill(Access::Read, one, 0x5000, 0x1000, 21);
        assert!(tlb.flush_page(0x6000, None), "a superpage may cover it");
        assert_ne!(tlb.context(8 << 60 | 1, Privilege::User, false), one);
    }

    #[test]
    fn a_flush_anywhere_in_a_superpage_forgets_all_of_it() {
        for bits in SUPERPAGE_BITS {
            let mut tlb = Tlb::default();
            let context = tlb.context(8 << 60 | 1, Privilege::User, false);
            let start = 3 << bits;
            tlb.fill(Access::Read, context, start, 0x1000, bits);
            assert!(tlb.flush_page(start + (1 << bits) - 0x1000, None), "{bits}");
        }
    }

    #[test]
    fn superpages_elsewhere_do_not_make_a_flush_a_full_one() {
        let mut tlb = Tlb::default();
        let context = tlb.context(8 << 60 | 1, Privilege::User, false);
        let linear_map = |index: u64| 0xffff_ffd6_0000_0000 + (index << 21);
        (0..4096).for_each(|index| tlb.fill(Access::Read, context, linear_map(index), 0x1000, 21));
        assert!(!tlb.flush_page(0x5000, None) && !tlb.flush_page(linear_map(4096), None));
        assert!(tlb.flush_page(linear_map(4095) + 0x1f_f000, None));
        (0..MOST_SUPERPAGES as u64 + 1).for_each(|index| tlb.note_superpage(index << 21, 21));
        assert!(tlb.flush_page(u64::MAX, None), "they are all, when there are too many");
    }

    #[test]
    fn numbers_run_out_without_false_hits() {
        let mut tlb = Tlb::default();
        let first = tlb.context(8 << 60 | 1, Privilege::User, false);
        tlb.fill(Access::Read, first, 0x5000, 0x1000, 12);
        let mut reused = false;
        for ppn in 2..3 * u64::from(CONTEXTS) {
            let context = tlb.context(8 << 60 | ppn, Privilege::User, false);
            reused |= context == first;
            assert!(context != first || !hits(&tlb, context, 0x5000));
        }
        assert!(reused);
    }

    #[test]
    fn an_asid_is_flushed_alone() {
        let mut tlb = Tlb::default();
        let satp = |asid: u64| 8 << 60 | asid << 44;
        let one = tlb.context(satp(1), Privilege::User, false);
        let two = tlb.context(satp(2), Privilege::User, false);
        tlb.flush_asid(1);
        assert_eq!(tlb.context(satp(2), Privilege::User, false), two);
        assert_ne!(tlb.context(satp(1), Privilege::User, false), one);
    }

    #[test]
    fn a_page_of_code_is_fenced_for_its_own_address_space() {
        let mut tlb = Tlb::default();
        let satp = |asid: u64| 8 << 60 | asid << 44;
        let contexts = |tlb: &mut Tlb| [1, 2].map(|asid| tlb.context(satp(asid), Privilege::User, false));
        tlb.context(satp(1), Privilege::User, false);
        tlb.note_execution(0x5000, Privilege::User);
        let [one, two] = contexts(&mut tlb);
        tlb.flush_page(0x5000, Some(2));
        assert_eq!(contexts(&mut tlb), [one, two], "it is the other's page");
        tlb.flush_page(0x6000, Some(1));
        assert_eq!(contexts(&mut tlb), [one, two], "there is no code");
        tlb.flush_page(0x5000, Some(1));
        let [new, same] = contexts(&mut tlb);
        assert!(new != one && same == two);
        // Both have code there now.
        tlb.note_execution(0x5000, Privilege::User);
        tlb.flush_page(0x5000, Some(2));
        assert_ne!(contexts(&mut tlb)[1], two);
        let generation = tlb.generation();
        tlb.note_execution(0x7000, Privilege::Supervisor);
        tlb.flush_page(0x7000, Some(2));
        assert_ne!(tlb.generation(), generation);
    }

    #[test]
    fn a_supervisor_has_one_context_until_a_page_is_its_own() {
        let mut tlb = Tlb::default();
        let satp = |asid: u64| 8 << 60 | asid << 44;
        let one = tlb.context(satp(1), Privilege::Supervisor, false);
        assert_eq!(tlb.context(satp(2), Privilege::Supervisor, false), one);
        assert_ne!(tlb.context(satp(2), Privilege::Supervisor, true), one);
        tlb.flush_asid(1);
        assert_eq!(tlb.context(satp(1), Privilege::Supervisor, false), one, "what is global stays");
        tlb.fill(Access::Read, one, 0x5000, 0x1000, 12);
        tlb.note_user_page(Access::Read, 0x5000);
        tlb.forget_space();
        assert!(!hits(&tlb, one, 0x5000), "a user page goes with its address space");
        assert!(tlb.note_local_supervisor_page() && !tlb.note_local_supervisor_page());
        let own = tlb.context(satp(1), Privilege::Supervisor, false);
        assert_ne!(own, one);
        assert_ne!(tlb.context(satp(2), Privilege::Supervisor, false), own);
    }

    #[test]
    fn write_entries_are_found_by_physical_page() {
        let mut tlb = Tlb::default();
        let context = tlb.context(0, Privilege::Machine, false);
        tlb.fill(Access::Write, context, 0xffff_f000, 0x3000, 12);
        tlb.forget_writes_to(0x2fff);
        assert_ne!(tlb.write[slot(0xffff_f000)].tag, 0);
        tlb.forget_writes_to(0x3abc);
        assert_eq!(tlb.write[slot(0xffff_f000)].tag, 0);
    }

    #[test]
    fn every_way_to_lose_a_write_entry_is_logged() {
        const HOST: u64 = 0x7000_3000;
        let dropped = |drop: &dyn Fn(&mut Tlb, Context)| {
            let mut tlb = Tlb::default();
            tlb.log_dropped_writes(true);
            let context = tlb.context(8 << 60 | 1, Privilege::Supervisor, false);
            tlb.fill(Access::Write, context, 0x5000, HOST, 12);
            assert!(tlb.take_dropped_writes().is_empty());
            drop(&mut tlb, context);
            // What a flush leaves is still found by its page.
            tlb.take_dropped_writes() == [HOST] || tlb.forget_writes_to(HOST)
        };
        assert!(!dropped(&|tlb, _| {
            tlb.forget_writes_to(HOST);
        }));
        assert!(dropped(&|tlb, context| tlb.fill(Access::Write, context, 0x5000 + ENTRIES as u64 * 4096, 0x1000, 12)));
        assert!(dropped(&|tlb, _| {
            tlb.flush_page(0x5000, None);
        }));
        assert!(dropped(&|tlb, _| {
            tlb.note_user_page(Access::Write, 0x5000);
            tlb.forget_user_pages();
        }));
        assert!(dropped(&|tlb, _| {
            for _ in 0..=USER_SLOTS {
                tlb.note_user_page(Access::Write, 0x5000);
            }
            tlb.forget_user_pages();
        }));
        assert!(dropped(&|tlb, _| tlb.flush()));
        assert!(dropped(&|tlb, _| tlb.flush_asid(0)));
        assert!(dropped(&|tlb, _| tlb.forget_all_writes()));
        assert!(dropped(&|tlb, _| {
            for ppn in 2..2 + u64::from(CONTEXTS) {
                tlb.context(8 << 60 | ppn, Privilege::User, false);
            }
        }));
    }
}
