//! Range entries: what each access of translated code remembers of the translation that it used last.
//!
//! An access has an entry of its own, at a known place: the first virtual address of a run of pages that are contiguous
//! in RAM and allow the same, how far into it the access may start, and where it is on the host. One subtraction and
//! one comparison check an access, however large the run is, and misaligned or not.
//!
//! **Validity.** An entry is good for the data privilege that its region was translated for and for the address space
//! at hand. Whatever forgets translations forgets entries ([`crate::tlb::Tlb`] calls this); those that are not global
//! go when `satp` changes. S-mode never has an entry for a user page, so that SUM changes nothing. A run that may be
//! written has no page that anybody listens to. All of a run is covered by one leaf, or by leaves that differ in their
//! address alone.
//!
//! **Logs.** Which entries are filled is kept in two logs, global and other, so that forgetting costs as much as was
//! filled. An entry is in a log once.
//!
//! **Pages.** Where an access of U-mode misses and the TLB has its page, translated code itself puts that page into the
//! entry, if the entry may move, and sets [`Ranges::moved`]. Now and then the service looks for a longer run. Where an
//! access has missed for long, that may be a view of pages that lie apart in RAM ([`crate::mmu`]); an entry that has one
//! does not move. If it misses for as long once more, views are none of it until it is forgotten.
//!
//! **Stores and listeners.** Who begins to listen to a page asks every hart whether it can have written there unheard
//! (`Hart::listen_to_writes`). So an entry for stores keeps its run beyond its validity until somebody asks, and on a
//! machine with several harts a run that another one replaces is logged. There an entry for stores moves from one page
//! to another only while the TLB has both: what the TLB has, or has dropped, is found by who asks.

use crate::hart_box::Entries;

/// One access's run. Translated code reads and changes it.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(crate) struct Range {
    /// First virtual address. In an entry for stores that has been forgotten: the length of the run.
    pub base: u64,
    /// Distances from it at which the access may start: none while there is no run.
    pub limit: u64,
    /// What to add to a virtual address for the host's, wrapping. In an entry for stores that has been forgotten: the
    /// host address of the run.
    pub delta: u64,
    /// Misses that the TLB may serve before this entry is filled again.
    pub patience: i32,
    /// What `patience` was last set to.
    backoff: u16,
    pub flags: u16,
}

const WRITE: u16 = 1;
const IN_GLOBAL_LOG: u16 = 2;
const IN_OTHER_LOG: u16 = 4;
const IN_STORES: u16 = 8;
/// Translated code may put another page into the entry.
pub(crate) const MOVABLE: u16 = 16;
/// Others may ask where this entry for stores has been: it has one page, and moves only if the TLB has that, too.
pub(crate) const ASKED: u16 = 32;
/// The entry has had a view since it was last forgotten, and its patience began anew with the first.
const TRIES_VIEWS: u16 = 64;

/// What views may do for an access ([`Ranges::use_of_views`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UseOfViews {
    /// It goes about too far for them.
    None,
    /// One that there is may serve it.
    Known,
    /// It has missed its runs for long: one may be made.
    New,
}

/// Most misses that are served before another try.
const MOST_PATIENCE: u16 = 4095;

/// Range entries of a hart: accesses beyond do without.
pub(crate) const RANGES: usize = 1 << 18;

/// Most bytes that an access and those that share its check span.
pub(crate) const LONGEST_SPAN: u64 = 1024;

/// A run of pages: what an entry is filled with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    /// First virtual address.
    pub base: u64,
    /// Bytes.
    pub length: u64,
    /// Host address of the first byte.
    pub host: u64,
    /// Whether all address spaces have it.
    pub global: bool,
    /// Whether it is a view of pages that lie apart in RAM ([`crate::mmu`]): for loads.
    pub is_view: bool,
}

impl Run {
    /// The page of an access that spans `span` bytes from `first` on, if it does not reach beyond.
    fn page_of(&self, first: u64, span: u64) -> Option<Self> {
        let base = first & !(bus::PAGE_SIZE - 1);
        let host = self.host.wrapping_add(base.wrapping_sub(self.base));
        (first - base + span <= bus::PAGE_SIZE).then_some(Run { base, length: bus::PAGE_SIZE, host, ..*self })
    }
}

/// The range entries of one hart. There are none before [`Ranges::provide`].
#[derive(Default)]
pub(crate) struct Ranges {
    entries: Entries<Range>,
    global: Log,
    other: Log,
    /// Non-zero if translated code has put pages into entries that [`Log::covered`] does not know of.
    pub moved: u64,
    /// Entries for stores that have, or had, a run.
    stores: Vec<u32>,
    /// Runs of stores that were replaced: host addresses and lengths.
    replaced: Vec<(u64, u64)>,
    logs_replaced: bool,
}

/// Entries that are filled.
struct Log {
    entries: Vec<u32>,
    /// Hashed stretches of 2 MiB that runs lie in: most addresses that are forgotten alone are in none.
    covered: [u64; Log::WORDS],
}

impl Default for Log {
    fn default() -> Self {
        Self { entries: Vec::new(), covered: [0; Self::WORDS] }
    }
}

impl Log {
    const WORDS: usize = 64;

    fn bit(address: u64) -> (usize, u64) {
        let hash = (address >> 21).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 52;
        ((hash / 64) as usize, 1 << (hash % 64))
    }

    fn cover(&mut self, address: u64) {
        let (word, bit) = Self::bit(address);
        self.covered[word] |= bit;
    }

    fn may_cover(&self, address: u64) -> bool {
        let (word, bit) = Self::bit(address);
        self.covered[word] & bit != 0
    }
}

impl Ranges {
    /// Gives the hart its entries.
    pub fn provide(&mut self, entries: Entries<Range>) {
        self.entries = entries;
    }

    /// Whether translated code finds the entries behind `hart`.
    #[cfg(feature = "jit")]
    pub fn are_behind(&self, hart: *const crate::Hart) -> bool {
        self.entries.are_behind(hart)
    }

    /// Whether an entry's patience is at its end; else it is one shorter.
    pub fn wants(&mut self, index: usize) -> bool {
        let Some(entry) = self.entries.get_mut(index) else { return false };
        entry.patience -= 1;
        entry.patience < 0
    }

    /// What a view of pages that lie apart could do for the access of an entry.
    pub fn use_of_views(&self, index: usize) -> UseOfViews {
        match self.entries.get(index) {
            Some(entry) if entry.flags & TRIES_VIEWS != 0 && entry.backoff >= MOST_PATIENCE => UseOfViews::None,
            Some(entry) if entry.backoff >= MOST_PATIENCE => UseOfViews::New,
            Some(_) => UseOfViews::Known,
            None => UseOfViews::None,
        }
    }

    /// The host's address that an entry has for an access at `first`, if its run has all of it.
    pub fn host(&self, index: usize, first: u64) -> Option<u64> {
        let entry = self.entries.get(index)?;
        (first.wrapping_sub(entry.base) < entry.limit).then(|| first.wrapping_add(entry.delta))
    }

    /// Fills the entry of an access that spans `span` bytes from `first` on, or gives it time where no run has them.
    pub fn fill(&mut self, index: usize, run: Option<Run>, first: u64, span: u64, write: bool) {
        let Some(entry) = self.entries.get_mut(index) else { return };
        let run = run.filter(|run| {
            let place = first.wrapping_sub(run.base);
            place < run.length && span <= run.length - place
        });
        if run.is_some_and(|run| run.is_view) && entry.flags & TRIES_VIEWS == 0 {
            entry.flags |= TRIES_VIEWS;
            entry.backoff = 0;
        }
        // A miss of an entry that was good says that the access goes about: each one doubles the time to the next try.
        let goes_about = entry.limit != 0;
        entry.backoff = match run {
            None => MOST_PATIENCE,
            Some(_) if !goes_about => entry.backoff / 2,
            Some(_) => (entry.backoff * 2 + 1).min(MOST_PATIENCE),
        };
        entry.patience = entry.backoff.into();
        let Some(run) = run else { return };
        let is_asked = write && self.logs_replaced;
        let may_move = !(run.global || run.is_view);
        // What may not move is better off with the whole run.
        let cut = if is_asked && may_move && goes_about { run.page_of(first, span) } else { None };
        let run = cut.unwrap_or(run);
        if self.logs_replaced
            && let Some(old) = entry.written()
        {
            self.replaced.push(old);
        }
        entry.base = run.base;
        entry.limit = run.length - span + 1;
        entry.delta = run.host.wrapping_sub(run.base);
        entry.flags &= !(WRITE | MOVABLE | ASKED);
        if write {
            entry.flags |= WRITE;
            if entry.flags & IN_STORES == 0 {
                entry.flags |= IN_STORES;
                self.stores.push(index as u32);
            }
        }
        if may_move && !(is_asked && run.length != bus::PAGE_SIZE) {
            entry.flags |= if is_asked { MOVABLE | ASKED } else { MOVABLE };
        }
        let (log, flag) = if run.global { (&mut self.global, IN_GLOBAL_LOG) } else { (&mut self.other, IN_OTHER_LOG) };
        if entry.flags & flag == 0 {
            entry.flags |= flag;
            log.entries.push(index as u32);
        }
        // A run is no longer than a stretch.
        log.cover(run.base);
        log.cover(run.base.wrapping_add(run.length - 1));
    }

    /// Forgets all.
    pub fn forget(&mut self) {
        self.forget_space();
        Self::clear(&mut self.entries, &mut self.global, IN_GLOBAL_LOG);
    }

    /// Forgets what only the address space at hand has.
    pub fn forget_space(&mut self) {
        // Only entries in this log were moved.
        self.moved = 0;
        Self::clear(&mut self.entries, &mut self.other, IN_OTHER_LOG);
    }

    /// An entry that was filled anew for another kind is in both logs: clearing it early costs a refill.
    fn clear(entries: &mut [Range], log: &mut Log, flag: u16) {
        log.covered = [0; Log::WORDS];
        for index in log.entries.drain(..) {
            let entry = &mut entries[index as usize];
            entry.forget();
            // Only what is in a log may move.
            entry.flags &= !(flag | MOVABLE);
        }
    }

    /// Forgets the runs that `address` is in.
    pub fn forget_address(&mut self, address: u64) {
        // As far before the limit as an access may reach beyond it.
        let covers = |entry: &Range| address.wrapping_sub(entry.base) < entry.limit + LONGEST_SPAN;
        if self.global.may_cover(address) {
            Self::forget_where(&mut self.entries, &self.global, covers);
        }
        if self.moved != 0 || self.other.may_cover(address) {
            Self::forget_where(&mut self.entries, &self.other, covers);
        }
    }

    /// Forgets the runs that let somebody write to the page of the host at `page`; whether there was one.
    pub fn forget_writes_to(&mut self, page: u64) -> bool {
        let mut found = false;
        for index in &self.stores {
            let entry = &mut self.entries[*index as usize];
            if entry.written().is_some_and(|(host, length)| host < page + bus::PAGE_SIZE && page < host + length) {
                entry.forget();
                entry.base = 0;
                found = true;
            }
        }
        found
    }

    /// Forgets all runs of stores; their host addresses and lengths.
    pub fn forget_all_writes(&mut self) -> Vec<(u64, u64)> {
        let mut runs = self.take_replaced();
        for index in &self.stores {
            let entry = &mut self.entries[*index as usize];
            runs.extend(entry.written());
            entry.forget();
            entry.base = 0;
        }
        runs
    }

    /// Has runs of stores that are replaced logged, or not.
    pub fn log_replaced(&mut self, log: bool) {
        self.logs_replaced = log;
    }

    /// How many replaced runs are logged.
    pub fn replaced(&self) -> usize {
        self.replaced.len()
    }

    /// Takes the log of replaced runs: host addresses and lengths.
    pub fn take_replaced(&mut self) -> Vec<(u64, u64)> {
        std::mem::take(&mut self.replaced)
    }

    fn forget_where(entries: &mut [Range], log: &Log, applies: impl Fn(&Range) -> bool) {
        for index in &log.entries {
            let entry = &mut entries[*index as usize];
            if entry.limit != 0 && applies(entry) {
                entry.forget();
            }
        }
    }
}

impl Range {
    /// The bytes of the host that stores by this entry may have reached since somebody last asked: the first one's
    /// address, and how many at most.
    fn written(&self) -> Option<(u64, u64)> {
        let (host, length) = match self.limit {
            0 => (self.delta, self.base),
            limit => (self.base.wrapping_add(self.delta), limit + LONGEST_SPAN),
        };
        (self.flags & WRITE != 0 && length != 0).then_some((host, length))
    }

    /// Ends its validity.
    fn forget(&mut self) {
        (self.delta, self.base) = self.written().unwrap_or_default();
        (self.limit, self.patience) = (0, 0);
        // What is gone is no page to leave.
        self.flags &= !(TRIES_VIEWS | MOVABLE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hits(ranges: &Ranges, index: usize, address: u64) -> Option<u64> {
        let entry = &ranges.entries[index];
        let place = address.wrapping_sub(entry.base);
        (place < entry.limit).then(|| address.wrapping_add(entry.delta))
    }

    fn filled() -> Ranges {
        let mut ranges = Ranges::default();
        ranges.provide(Entries::leaked(4));
        let run = |base, global| Some(Run { base, length: 0x3000, host: base + 0x100_0000, global, is_view: false });
        ranges.fill(1, run(0x5000, false), 0x5000, 8, false);
        ranges.fill(2, run(0x9000, true), 0x9000, 8, true);
        ranges
    }

    #[test]
    fn an_access_fits_a_run_or_misses() {
        let ranges = filled();
        assert_eq!(hits(&ranges, 1, 0x5000), Some(0x100_5000));
        assert_eq!(hits(&ranges, 1, 0x7ff8), Some(0x100_7ff8));
        assert_eq!(hits(&ranges, 1, 0x7ff9), None, "it would reach beyond the run");
        assert_eq!(hits(&ranges, 1, 0x4fff), None);
        assert_eq!(hits(&ranges, 3, 0), None);
    }

    #[test]
    fn what_is_global_outlives_an_address_space() {
        let mut ranges = filled();
        ranges.forget_space();
        assert_eq!((hits(&ranges, 1, 0x5000), hits(&ranges, 2, 0x9000)), (None, Some(0x100_9000)));
        ranges.forget();
        assert_eq!(hits(&ranges, 2, 0x9000), None);
    }

    #[test]
    fn an_address_anywhere_in_a_run_forgets_it() {
        for address in [0x5000, 0x6123, 0x7fff] {
            let mut ranges = filled();
            ranges.forget_address(address);
            assert_eq!((hits(&ranges, 1, 0x5000), hits(&ranges, 2, 0x9000)), (None, Some(0x100_9000)), "{address:#x}");
        }
    }

    #[test]
    fn writes_are_forgotten_by_the_page_of_the_host() {
        let mut ranges = filled();
        assert!(!ranges.forget_writes_to(0x100_5000), "that one only reads");
        assert!(!ranges.forget_writes_to(0x100_d000) && ranges.forget_writes_to(0x100_b000));
        assert!(!ranges.forget_writes_to(0x100_b000), "it has been told");
        assert_eq!((hits(&ranges, 1, 0x5000), hits(&ranges, 2, 0x9000)), (Some(0x100_5000), None));
    }

    #[test]
    fn every_way_to_lose_a_run_of_stores_is_told_to_who_asks() {
        let ways: [fn(&mut Ranges); 3] = [Ranges::forget, Ranges::forget_space, |ranges| ranges.forget_address(0x9000)];
        for lose in ways {
            let mut ranges = filled();
            lose(&mut ranges);
            lose(&mut ranges);
            assert!(ranges.forget_writes_to(0x100_9000));
        }
        let mut ranges = filled();
        ranges.log_replaced(true);
        let other = Run { base: 0x1000, length: 0x1000, host: 0x200_0000, global: false, is_view: false };
        ranges.fill(2, Some(other), 0x1000, 8, true);
        assert!(matches!(ranges.take_replaced()[..], [(0x100_9000, length)] if length >= 0x3000));
        assert_eq!(ranges.entries[2].flags & (MOVABLE | ASKED), MOVABLE | ASKED);
        // The entry's number goes to a load.
        ranges.forget();
        ranges.fill(2, Some(other), 0x1000, 8, false);
        assert!(matches!(ranges.take_replaced()[..], [(0x200_0000, _)]));
        assert!(!ranges.forget_writes_to(0x200_0000));
    }

    #[test]
    fn an_entry_that_others_may_ask_about_moves_with_one_page_alone() {
        let mut ranges = filled();
        ranges.log_replaced(true);
        let run = |base| Some(Run { base, length: 0x3000, host: base + 0x100_0000, global: false, is_view: false });
        ranges.fill(3, run(0x10_0000), 0x10_1ff8, 8, true);
        assert_eq!((hits(&ranges, 3, 0x10_2000), ranges.entries[3].flags & MOVABLE), (Some(0x110_2000), 0));
        ranges.fill(3, run(0x20_0000), 0x20_1ff8, 8, true);
        assert_eq!(hits(&ranges, 3, 0x20_1ff8), Some(0x120_1ff8));
        assert_eq!((hits(&ranges, 3, 0x20_0ff8), hits(&ranges, 3, 0x20_1ff9)), (None, None));
        assert_eq!(ranges.entries[3].flags & (MOVABLE | ASKED), MOVABLE | ASKED);
        ranges.forget_address(0x20_1000);
        assert_eq!(ranges.entries[3].flags & MOVABLE, 0, "there is nothing to leave");
        // All address spaces have it.
        let global = |base| run(base).map(|run| Run { global: true, ..run });
        ranges.fill(0, global(0x10_0000), 0x10_0000, 8, true);
        ranges.fill(0, global(0x20_0000), 0x20_0000, 8, true);
        assert_eq!((hits(&ranges, 0, 0x20_2000), ranges.entries[0].flags & MOVABLE), (Some(0x120_2000), 0));
        // Over the end of a page.
        ranges.fill(3, run(0x10_0000), 0x10_0000, 8, true);
        ranges.fill(3, run(0x20_0000), 0x20_0ffc, 8, true);
        assert_eq!((hits(&ranges, 3, 0x20_0ffc), ranges.entries[3].flags & MOVABLE), (Some(0x120_0ffc), 0));
    }

    #[test]
    fn an_access_that_goes_about_is_filled_less_and_less_often() {
        let mut ranges = filled();
        let mut total = 0;
        for round in 0..20_u64 {
            let run = Run { base: round << 16, length: 0x1000, host: 0, global: false, is_view: false };
            ranges.fill(1, Some(run), round << 16, 8, false);
            total += ranges.entries[1].patience;
        }
        assert!(total > 20_000, "{total}");
        ranges.forget();
        assert_eq!(ranges.entries[1].patience, 0, "a new start");
    }
}
