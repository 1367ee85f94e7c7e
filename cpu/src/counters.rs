//! Counters: `mcycle`, `minstret` and the hardware performance counters (privileged specification §3.1.10 to §3.1.12),
//! and what Sscofpmf adds: overflow, its interrupt, and counting in some modes alone.
//!
//! A counter that counts is the difference to one of the hart's own counts, so that counting costs nothing; one that
//! stands still is its value. It changes from one to the other when `mcountinhibit`, its `mhpmevent` or, with a filter,
//! the mode changes.
//!
//! **Overflow** is known in advance for what counts instructions: a run of the engine ends there
//! ([`Watched::overflow_at`]), and so the interrupt comes with the very instruction. Other events are looked at now and
//! then, which the specification allows.

use serde::{Deserialize, Serialize};

use crate::extension::Extension;
use crate::trap::interrupt;
use crate::{Hart, Privilege};

/// The bit of `time` in the counter enables.
pub(crate) const TIME: u64 = 1 << 1;

/// Number of `hpmcounter`s, from 3 on.
pub const HPM_COUNTERS: usize = 29;

/// Numbers of the counters with events: of `hpmcounter3` to `hpmcounter31`.
const HPM_NUMBERS: std::ops::Range<usize> = 3..3 + HPM_COUNTERS;

/// Fields of `mhpmevent` above the event (Sscofpmf).
pub mod hpmevent {
    /// It has overflowed; no further interrupt until this is cleared.
    pub const OF: u64 = 1 << 63;
    /// Does not count in M-mode.
    pub const MINH: u64 = 1 << 62;
    /// Does not count in S-mode.
    pub const SINH: u64 = 1 << 61;
    /// Does not count in U-mode.
    pub const UINH: u64 = 1 << 60;

    /// All of them, and bits that a hypervisor would have.
    pub(super) const FIELDS: u64 = 0xff << 56;
    pub(super) const FILTERS: u64 = MINH | SINH | UINH;
}

/// What an `mhpmevent` register can select: counts that the hart keeps anyway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Event {
    /// Nothing.
    None = 0,
    /// Cycles, as `mcycle` counts them.
    Cycles = 1,
    /// Instructions retired.
    Instructions = 2,
    /// Loads that missed the TLB.
    LoadTlbMisses = 3,
    /// Stores and atomics that missed the TLB.
    StoreTlbMisses = 4,
    /// Instruction fetches that missed the TLB.
    FetchTlbMisses = 5,
    /// Exceptions taken.
    Exceptions = 6,
    /// Interrupts taken.
    Interrupts = 7,
}

impl Event {
    const ALL: [Event; 8] = [
        Event::None,
        Event::Cycles,
        Event::Instructions,
        Event::LoadTlbMisses,
        Event::StoreTlbMisses,
        Event::FetchTlbMisses,
        Event::Exceptions,
        Event::Interrupts,
    ];

    /// The event with this number.
    pub fn from_number(number: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|event| *event as u64 == number)
    }

    /// Whether each instruction that retires is one.
    fn counts_instructions(self) -> bool {
        matches!(self, Event::Cycles | Event::Instructions)
    }
}

/// What the hart counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Instructions retired since reset. Never written by the guest: its counters are offsets to this.
    pub retired: u64,
    /// TLB misses by loads.
    pub load_tlb_misses: u64,
    /// TLB misses by stores and atomics.
    pub store_tlb_misses: u64,
    /// TLB misses by instruction fetches.
    pub fetch_tlb_misses: u64,
    /// Exceptions taken.
    pub exceptions: u64,
    /// Interrupts taken.
    pub interrupts: u64,
}

impl Counts {
    fn of(&self, event: Event) -> u64 {
        match event {
            Event::None => 0,
            // One cycle per instruction: the clock that both engines agree on.
            Event::Cycles | Event::Instructions => self.retired,
            Event::LoadTlbMisses => self.load_tlb_misses,
            Event::StoreTlbMisses => self.store_tlb_misses,
            Event::FetchTlbMisses => self.fetch_tlb_misses,
            Event::Exceptions => self.exceptions,
            Event::Interrupts => self.interrupts,
        }
    }
}

/// A counter that the guest can write and stop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counter {
    /// While counting: what to add to the count. While it stands still: the value.
    base: u64,
}

impl Counter {
    /// The count at which a counter that counts overflows next, if `count` is not beyond it.
    fn overflow_after(self, count: u64) -> Option<u64> {
        Some(self.base.wrapping_neg()).filter(|at| count < *at)
    }
}

/// What follows from the counters' registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Watched {
    /// The count of retired instructions at which overflows are to be looked for.
    pub overflow_at: u64,
    /// Counters that may overflow.
    armed: u32,
    /// Counters that count in some modes alone.
    filtered: u32,
}

impl Watched {
    pub const NOTHING: Watched = Watched { overflow_at: u64::MAX, armed: 0, filtered: 0 };
}

/// Counters are opened to lower modes by `mcounteren` and `scounteren` (§3.1.11, §10.1.5).
pub(crate) fn counter_enabled(hart: &Hart, index: usize) -> bool {
    let bit = |enables: u64| enables >> index & 1 != 0;
    match hart.privilege {
        Privilege::Machine => true,
        Privilege::Supervisor => bit(hart.csr.mcounteren),
        Privilege::User => bit(hart.csr.mcounteren) && bit(hart.csr.scounteren),
    }
}

pub(crate) fn hpm_counter_enabled(hart: &Hart, index: usize) -> bool {
    hart.has(Extension::Zihpm) && counter_enabled(hart, index)
}

impl Hart {
    fn event(&self, index: usize) -> Event {
        match index {
            0 => Event::Cycles,
            2 => Event::Instructions,
            _ => Event::from_number(self.csr.mhpmevent[index - 3] & !hpmevent::FIELDS).unwrap_or(Event::None),
        }
    }

    fn counter(&self, index: usize) -> Counter {
        match index {
            0 => self.csr.mcycle,
            2 => self.csr.minstret,
            _ => self.csr.mhpmcounter[index - 3],
        }
    }

    fn set_counter(&mut self, index: usize, base: u64) {
        let counter = Counter { base };
        match index {
            0 => self.csr.mcycle = counter,
            2 => self.csr.minstret = counter,
            _ => self.csr.mhpmcounter[index - 3] = counter,
        }
    }

    fn count_for(&self, index: usize) -> u64 {
        self.counts.of(self.event(index))
    }

    /// Whether a counter is to stand still.
    fn stops(&self, index: usize) -> bool {
        let filter = match self.privilege {
            Privilege::Machine => hpmevent::MINH,
            Privilege::Supervisor => hpmevent::SINH,
            Privilege::User => hpmevent::UINH,
        };
        let filtered = HPM_NUMBERS.contains(&index) && self.csr.mhpmevent[index - 3] & filter != 0;
        filtered || self.csr.mcountinhibit >> index & 1 != 0
    }

    fn is_stopped(&self, index: usize) -> bool {
        self.csr.stopped >> index & 1 != 0
    }

    pub(crate) fn read_counter(&self, index: usize) -> u64 {
        let base = self.counter(index).base;
        if self.is_stopped(index) { base } else { base.wrapping_add(self.count_for(index)) }
    }

    /// Has a counter with a value go on as its registers and the mode say. `itself` is 1 if the instruction under way,
    /// which is yet to be counted, is not to be.
    fn place_counter(&mut self, index: usize, value: u64, itself: u64) {
        let bit = 1 << index;
        if self.stops(index) {
            self.csr.stopped |= bit;
            self.set_counter(index, value);
        } else {
            self.csr.stopped &= !bit;
            let itself = if self.event(index).counts_instructions() { itself } else { 0 };
            self.set_counter(index, value.wrapping_sub(self.count_for(index)).wrapping_sub(itself));
        }
    }

    /// A written value is what the next instruction reads: the writing instruction does not count itself (§3.1.10 and
    /// the unprivileged specification's Zicntr).
    pub(crate) fn write_counter(&mut self, index: usize, value: u64) {
        self.collect_overflows(0);
        self.place_counter(index, value, 1);
        self.watch_counters(1);
    }

    pub(crate) fn write_mcountinhibit(&mut self, value: u64) {
        // `time` cannot be inhibited.
        let value = value & 0xffff_fffd & if self.has(Extension::Zihpm) { u64::MAX } else { 7 };
        self.collect_overflows(0);
        let changed = self.csr.mcountinhibit ^ value;
        for index in (0..32).filter(|index| changed >> index & 1 != 0) {
            let current = self.read_counter(index);
            self.csr.mcountinhibit ^= 1 << index;
            self.place_counter(index, current, 0);
        }
        self.watch_counters(0);
    }

    pub(crate) fn read_mhpmevent(&self, index: usize) -> u64 {
        self.csr.mhpmevent[index - 3]
    }

    /// The event is WARL: what is none is nothing.
    pub(crate) fn write_mhpmevent(&mut self, index: usize, value: u64) {
        self.collect_overflows(0);
        let current = self.read_counter(index);
        let fields = if self.has(Extension::Sscofpmf) { hpmevent::OF | hpmevent::FILTERS } else { 0 };
        let event = Event::from_number(value & !hpmevent::FIELDS).unwrap_or(Event::None);
        self.csr.mhpmevent[index - 3] = event as u64 | value & fields;
        self.place_counter(index, current, 0);
        self.watch_counters(0);
    }

    /// The overflow bits of the counters that S-mode may read.
    pub(crate) fn read_scountovf(&self) -> u64 {
        let overflowed = HPM_NUMBERS.filter(|index| self.csr.mhpmevent[index - 3] & hpmevent::OF != 0);
        let bits = overflowed.fold(0, |bits, index| bits | 1 << index);
        if self.privilege == Privilege::Machine { bits } else { bits & self.csr.mcounteren }
    }

    /// The privilege has changed: counters with a filter stop or go on. `itself` is 1 if that is the work of an
    /// instruction that will retire, which belongs to the mode that it leaves.
    pub(crate) fn filter_counters(&mut self, itself: u64) {
        if self.watched.filtered == 0 {
            return;
        }
        self.collect_overflows(itself);
        let filtered = self.watched.filtered;
        for index in HPM_NUMBERS.filter(|index| filtered >> index & 1 != 0) {
            if self.stops(index) == self.is_stopped(index) {
                continue;
            }
            let counts_itself = !self.is_stopped(index) && self.event(index).counts_instructions();
            let current = self.read_counter(index).wrapping_add(if counts_itself { itself } else { 0 });
            self.place_counter(index, current, itself);
        }
        self.watch_counters(itself);
    }

    /// Derives when a counter may overflow. `itself` is 1 if the instruction under way counts already.
    pub(crate) fn watch_counters(&mut self, itself: u64) {
        /// How many instructions run at most before counters of other events are looked at.
        const REGARDLESS: u64 = 10_000;
        self.watched = Watched { overflow_at: self.icount_due(), ..Watched::NOTHING };
        if !self.has(Extension::Sscofpmf) {
            return;
        }
        for index in HPM_NUMBERS {
            let register = self.csr.mhpmevent[index - 3];
            let bit = 1 << index;
            if register & hpmevent::FILTERS != 0 {
                self.watched.filtered |= bit;
            }
            let event = self.event(index);
            if event == Event::None || register & hpmevent::OF != 0 || self.is_stopped(index) {
                continue;
            }
            let itself = if event.counts_instructions() { itself } else { 0 };
            let Some(at) = self.counter(index).overflow_after(self.counts.of(event).wrapping_add(itself)) else {
                continue;
            };
            self.watched.armed |= bit;
            let look = if event.counts_instructions() { at } else { self.counts.retired.saturating_add(REGARDLESS) };
            self.watched.overflow_at = self.watched.overflow_at.min(look);
        }
    }

    /// Notes what has overflowed, if it is time to look: between instructions.
    #[inline(always)]
    pub(crate) fn note_overflows(&mut self) {
        if self.counts.retired >= self.watched.overflow_at {
            self.look_for_overflows();
        }
    }

    #[cold]
    fn look_for_overflows(&mut self) {
        self.collect_overflows(0);
        self.watch_counters(0);
        self.serve_icount();
    }

    /// Notes what has overflowed, before counters are stopped, started or written. `itself` as for
    /// [`Hart::filter_counters`].
    fn collect_overflows(&mut self, itself: u64) {
        let armed = self.watched.armed;
        for index in HPM_NUMBERS.filter(|index| armed >> index & 1 != 0) {
            let itself = if self.event(index).counts_instructions() { itself } else { 0 };
            let count = self.count_for(index).wrapping_add(itself);
            if self.counter(index).overflow_after(count).is_none() {
                self.csr.mhpmevent[index - 3] |= hpmevent::OF;
                self.csr.software_pending |= 1 << interrupt::LCOFI;
                self.watched.armed &= !(1 << index);
                self.reconsider_interrupts();
            }
        }
    }
}
