//! Runs of a process's pages that lie apart in RAM, for range entries of loads.
//!
//! An access that goes about in such pages misses its run again and again. Once it has done so for long, the pages
//! around are mapped once more, side by side ([`bus::Gathered`]), and that view is a run as any other. A view is only
//! memory: whether a process still has these pages there, and may read them, is asked of its page table each time that
//! a run is made of a view, and what makes the kernel forget a translation forgets the run.

use std::time::{Duration, Instant};

use bus::{Gathered, PAGE_SIZE};

use super::{Access, Leaf, Walk, pte};
use crate::ranges::Run;
use crate::{Hart, Privilege};

/// Most pages on each side of the one that is asked for.
const REACH: usize = 512;

/// How many times as long as views take to make, others run.
const SHARE: u32 = 16;

/// A hart's views, and when it may make the next one.
pub(crate) struct Views {
    views: Gathered,
    next: Option<Instant>,
}

impl Views {
    pub fn new(ram: &bus::Ram) -> Self {
        Self { views: ram.gathered(), next: None }
    }
}

impl Hart {
    /// The run of pages around `address` that lie side by side in a view, for loads of U-mode. With `gather`, one may
    /// be made. The access itself has been allowed before.
    pub(crate) fn gathered_run(&mut self, address: u64, gather: bool) -> Option<Run> {
        if self.data_privilege() != Privilege::User {
            return None;
        }
        let found = self.walk(address, Walk { access: Access::Read, privilege: Privilege::User, probe: false }).ok()?;
        let leaf = found.leaf.filter(|_| found.offset_bits == 12)?;
        let page = self.ram.offset(found.physical & !(PAGE_SIZE - 1), PAGE_SIZE)?;
        self.run_in_view(address, leaf, page).or_else(|| {
            let wanted = gather && self.views.next.is_none_or(|next| next <= Instant::now());
            (wanted && self.make_view(leaf)).then(|| self.run_in_view(address, leaf, page)).flatten()
        })
    }

    fn run_in_view(&self, address: u64, leaf: Leaf, page: u64) -> Option<Run> {
        let view = self.views.views.find(page)?;
        let is_as_in_view = |(distance, offset): (i64, &u64)| self.page_beside(leaf, distance) == Some(*offset);
        let (first, rest) = view.pages.split_at(view.index);
        let before =
            (1..).map(|count: i64| -count).zip(first.iter().rev()).take_while(|page| is_as_in_view(*page)).count();
        let here = (0..).zip(rest).take_while(|page| is_as_in_view(*page)).count();
        let (before, count) = (before as u64, (before + here) as u64);
        let base = (address & !(PAGE_SIZE - 1)).wrapping_sub(before * PAGE_SIZE);
        (here > 0 && count > 1 && !self.is_watched(base, count, Access::Read)).then(|| Run {
            base,
            length: count * PAGE_SIZE,
            host: view.host + (view.index as u64 - before) * PAGE_SIZE,
            global: false,
            is_view: true,
        })
    }

    /// Makes a view of the pages around a leaf's.
    fn make_view(&mut self, leaf: Leaf) -> bool {
        let start = Instant::now();
        let hart = &*self;
        let on = |direction| (1..=REACH).map_while(move |count| hart.page_beside(leaf, direction * count as i64));
        let mut pages: Vec<u64> = on(-1).collect();
        pages.reverse();
        pages.extend(hart.page_beside(leaf, 0));
        pages.extend(on(1));
        let made = pages.len() > 1 && self.views.views.gather(&pages);
        let end = Instant::now();
        self.views.next = end.checked_add((end - start).saturating_mul(SHARE).max(Duration::from_millis(1)));
        made
    }

    /// The offset in RAM of the page whose leaf is `distance` entries behind one of U-mode's in its table, if a load
    /// may use it as freely.
    fn page_beside(&self, leaf: Leaf, distance: i64) -> Option<u64> {
        let address = leaf.address.wrapping_add_signed(distance * 8);
        if address / PAGE_SIZE != leaf.address / PAGE_SIZE {
            return None;
        }
        let entry = self.ram.load_u64(self.ram.offset(address, 8)?)?;
        // A has to be set; a load does not ask for D.
        let same = !(pte::PPN.mask() | pte::D | pte::SOFTWARE);
        let physical = pte::PPN.get(entry) * PAGE_SIZE;
        let allowed = (entry ^ (leaf.entry | pte::A)) & same == 0
            && self.pmp.allows(physical, PAGE_SIZE, Access::Read, Privilege::User);
        self.ram.offset(physical, PAGE_SIZE).filter(|_| allowed)
    }

    /// The offset in RAM of the byte that a view shows at an address of the host.
    pub(crate) fn viewed_offset(&self, host: u64) -> Option<u64> {
        self.views.views.offset_of(host)
    }

    /// Gives views up where there is no room for more. Only while no translated code runs: it holds addresses in views.
    pub(crate) fn make_room_for_views(&mut self) {
        if self.views.views.is_full() {
            self.tlb.ranges.forget();
            self.views.views.clear();
        }
    }
}
