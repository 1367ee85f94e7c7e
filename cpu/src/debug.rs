//! What a debugger wants of a hart: breakpoints and watchpoints by virtual address, single steps, all registers, and a
//! look at its address space that changes nothing.
//!
//! **Cost.** The fast paths know nothing of this. A breakpoint is met where code is looked up: a block that holds one is
//! run in parts and not cached by virtual address, and translated code is neither made for nor entered in a page that
//! bears one; as links lead only to regions whose pages are among those of the region they are in, no translated code
//! runs into such a page. A page that bears a watchpoint has no TLB entry for what is watched, so that accesses take the
//! slow path, where the exact bytes are compared; no range entry covers it. Changing the points starts a new code
//! generation and forgets all translations.
//!
//! **Precision.** A stop is before the instruction: nothing of it has happened, `pc` and the retired count are those of
//! a fault. A breakpoint comes before the faults of its instruction's fetch, a watchpoint before those of its access
//! (privileged specification, "Synchronous exception priority", §3.1.15).

use std::collections::BTreeSet;
use std::sync::Arc;

use bus::PAGE_SIZE;

use crate::csr::{self, Csr, mstatus, satp};
use crate::hart::CACHE_BLOCK_SIZE;
use crate::mmu::{levels, pte};
use crate::tlb::{self, Entry};
use crate::trigger::Armed;
use crate::{Access, Engine, Hart, Privilege, Stop, Trapped};

/// Which accesses a watchpoint is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchKind {
    /// Loads.
    Read,
    /// Stores.
    Write,
    /// Both. An atomic is both in itself.
    Access,
}

impl WatchKind {
    /// Whether a watchpoint of this kind is about accesses of another.
    fn includes(self, access: WatchKind) -> bool {
        self == access || self == WatchKind::Access || access == WatchKind::Access
    }
}

/// Bytes whose accesses stop the hart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watchpoint {
    /// Virtual address of the first byte.
    pub start: u64,
    /// Number of bytes; none watches nothing.
    pub length: u64,
    /// The accesses.
    pub kind: WatchKind,
}

impl Watchpoint {
    /// The last byte, if there is any.
    fn last(&self) -> Option<u64> {
        Some(self.start.saturating_add(self.length.checked_sub(1)?))
    }

    /// The first byte that an access to `first..=last` touches.
    fn touched(&self, first: u64, last: u64) -> Option<u64> {
        let end = self.last()?;
        (self.start <= last && first <= end).then_some(self.start.max(first))
    }
}

/// Where a debugger wants the harts of a machine to stop.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DebugPoints {
    /// Virtual addresses of instructions.
    pub breakpoints: BTreeSet<u64>,
    /// Watched bytes.
    pub watchpoints: Vec<Watchpoint>,
}

/// A debugger's part of a hart.
#[derive(Clone, Debug, Default)]
pub(crate) struct Debug {
    points: Arc<DebugPoints>,
    has_breakpoints: bool,
    has_watchpoints: bool,
    /// What is armed of the guest's own triggers.
    pub triggers: Armed,
    /// While a single step is under way.
    step: SingleStep,
}

/// How a single step is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SingleStep {
    /// The instruction is executed even if there is a breakpoint at it.
    pub ignores_breakpoint: bool,
    /// Its accesses are let through even if they are watched.
    pub ignores_watchpoints: bool,
    /// No interrupt is taken.
    pub masks_interrupts: bool,
}

impl Engine {
    /// Executes one instruction, or takes the trap or the interrupt that is due instead: [`Stop::Budget`], or what else
    /// kept it from that.
    pub fn step(&mut self, hart: &mut Hart, step: SingleStep) -> Stop {
        hart.debug.step = step;
        let interrupts = hart.counts.interrupts;
        hart.reconsider_interrupts();
        let stop = match hart.serve_events() {
            Some(stop) => stop,
            // The step leads to the handler.
            None if hart.counts.interrupts != interrupts => Stop::Budget,
            None => self.run(hart, 1),
        };
        hart.debug.step = SingleStep::default();
        // What was masked is due again.
        hart.reconsider_interrupts();
        stop
    }
}

impl Hart {
    /// Has the hart stop at these points from its next run on, in place of those before.
    pub fn set_debug_points(&mut self, points: &Arc<DebugPoints>) {
        self.debug.points = points.clone();
        self.refresh_debug_points();
    }

    /// The debugger's points or the guest's triggers have changed.
    pub(crate) fn refresh_debug_points(&mut self) {
        let Debug { points, triggers, .. } = &self.debug;
        (self.debug.has_breakpoints, self.debug.has_watchpoints) =
            (!points.breakpoints.is_empty() || triggers.executes, !points.watchpoints.is_empty() || triggers.accesses);
        self.code_generation += 1;
        self.forget_translations();
    }

    /// Where code is looked up: stops the hart if there is a breakpoint at its `pc`, else the distance in bytes to the
    /// next one, if there is any.
    #[inline]
    pub(crate) fn next_breakpoint(&mut self) -> Result<Option<u64>, Trapped> {
        if self.debug.has_breakpoints { self.find_next_breakpoint() } else { Ok(None) }
    }

    #[cold]
    fn find_next_breakpoint(&mut self) -> Result<Option<u64>, Trapped> {
        let pc = self.pc;
        let mut next = self.debug.points.breakpoints.range(pc..).copied().peekable();
        if next.next_if_eq(&pc).is_some() && !self.debug.step.ignores_breakpoint {
            self.stop = Some(Stop::Breakpoint);
            return Err(Trapped(()));
        }
        let next = next.next();
        if !self.debug.triggers.executes {
            return Ok(next.map(|address| address - pc));
        }
        self.check_execute_triggers()?;
        Ok(next.into_iter().chain(self.next_execute_trigger()).min().map(|address| address - pc))
    }

    /// Whether there is a breakpoint in the page at a virtual address: translated code stays out of it.
    #[inline]
    pub(crate) fn bears_breakpoint(&self, address: u64) -> bool {
        let (first, last) = (address & !(PAGE_SIZE - 1), address | (PAGE_SIZE - 1));
        self.debug.has_breakpoints
            && (self.debug.points.breakpoints.range(first..=last).next().is_some()
                || self.has_trigger_in(None, first, last))
    }

    /// Whether no translation for an access may be kept of the pages from the one at a virtual address on, because
    /// something in them is watched. Atomics read through entries for writing.
    pub(crate) fn is_watched(&self, address: u64, pages: u64, access: Access) -> bool {
        let first = address & !(PAGE_SIZE - 1);
        let last = first.saturating_add(pages * PAGE_SIZE - 1);
        let triggers = match access {
            Access::Read => Some(WatchKind::Read),
            Access::Write => Some(WatchKind::Access),
            Access::Execute => None,
        };
        let is_debuggers = || {
            self.debug.points.watchpoints.iter().any(|point| {
                let applies = match access {
                    Access::Read => point.kind != WatchKind::Write,
                    Access::Write => true,
                    Access::Execute => false,
                };
                applies && point.touched(first, last).is_some()
            })
        };
        self.debug.has_watchpoints
            && (is_debuggers() || triggers.is_some_and(|kind| self.has_trigger_in(Some(kind), first, last)))
    }

    /// On the slow path of a data access, before anything else: stops the hart if any of the bytes is watched.
    #[inline(always)]
    pub(crate) fn check_watchpoints(&mut self, address: u64, length: u64, kind: WatchKind) -> Result<(), Trapped> {
        if self.debug.has_watchpoints { self.compare_watchpoints(address, length, kind) } else { Ok(()) }
    }

    /// Before a cache block is managed, which is a store to the guest's triggers and nothing to a debugger.
    pub(crate) fn check_watched_block(&mut self, block: u64) -> Result<(), Trapped> {
        if self.debug.triggers.accesses {
            self.check_access_triggers(block, CACHE_BLOCK_SIZE, WatchKind::Write)?;
        }
        Ok(())
    }

    #[cold]
    fn compare_watchpoints(&mut self, address: u64, length: u64, kind: WatchKind) -> Result<(), Trapped> {
        let last = address.saturating_add(length - 1);
        let points = if self.debug.step.ignores_watchpoints { &[][..] } else { &self.debug.points.watchpoints[..] };
        let hit = points.iter().find_map(|point| {
            let touched = point.touched(address, last).filter(|_| point.kind.includes(kind))?;
            Some(Stop::Watchpoint { address: touched, kind: point.kind })
        });
        match hit {
            None => self.check_access_triggers(address, length, kind),
            Some(stop) => {
                self.stop = Some(stop);
                Err(Trapped(()))
            }
        }
    }

    /// Whether no interrupt is to be taken now.
    pub(crate) fn masks_interrupts(&self) -> bool {
        self.debug.step.masks_interrupts
    }

    /// Writes a floating-point register as an instruction does: the unit's state gets dirty, unless it is off.
    pub fn write_float_register(&mut self, r: usize, value: u64) {
        self.set_f(r, value);
        if mstatus::FS.get(self.csr.mstatus) != mstatus::FS_OFF {
            self.dirty_floats();
        }
    }

    /// The row of a CSR that the hart has, whatever its mode may access.
    fn existing_csr(&mut self, number: u16) -> Option<&'static Csr> {
        let row = csr::find(number)?;
        let (privilege, status) = (self.privilege, self.csr.mstatus);
        self.privilege = Privilege::Machine;
        self.csr.mstatus |= mstatus::FS.mask();
        let exists = row.is_accessible(self);
        (self.privilege, self.csr.mstatus) = (privilege, status);
        exists.then_some(row)
    }

    /// Whether the hart has a CSR.
    pub fn has_csr(&mut self, number: u16) -> bool {
        self.existing_csr(number).is_some()
    }

    /// Reads a CSR that the hart has, whatever its mode.
    pub fn inspect_csr(&mut self, number: u16) -> Option<u64> {
        self.existing_csr(number).map(|row| self.read_row(row))
    }

    /// Writes a CSR that the hart has, whatever its mode, with all effects that an instruction's write has; `None` if
    /// there is none or it is read-only.
    pub fn edit_csr(&mut self, number: u16, value: u64) -> Option<()> {
        const MACHINE_COUNTERS: std::ops::RangeInclusive<u16> = 0xb00..=0xb1f;
        let row = self.existing_csr(number).filter(|_| number >> 10 != 3)?;
        self.write_row(row, value);
        // A counter allows for the instruction that writes it; here there is none.
        if MACHINE_COUNTERS.contains(&number) && self.read_row(row) != value {
            self.write_row(row, value.wrapping_add(1));
        }
        Some(())
    }
}

/// A leaf of a page table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// Virtual address of the first byte.
    pub address: u64,
    /// Guest-physical address of the first byte.
    pub physical: u64,
    /// Bytes.
    pub size: u64,
    /// The page-table entry.
    pub entry: u64,
}

impl Mapping {
    /// The permissions and state of the leaf, as the letters `rwxugad` with dashes for what is not set.
    pub fn flags(&self) -> String {
        let flags =
            [(pte::R, 'r'), (pte::W, 'w'), (pte::X, 'x'), (pte::U, 'u'), (pte::G, 'g'), (pte::A, 'a'), (pte::D, 'd')];
        flags.into_iter().map(|(bit, letter)| if self.entry & bit != 0 { letter } else { '-' }).collect()
    }
}

/// A way through a page table that gives up after so many entries: a guest's table can be as large as its author likes.
struct PageTableWalk<'a> {
    hart: &'a Hart,
    entries_left: usize,
    visit: &'a mut dyn FnMut(Mapping),
}

impl PageTableWalk<'_> {
    /// False if it gave up.
    fn table(&mut self, table: u64, level: u32, prefix: u64) -> bool {
        let bits = 12 + 9 * level;
        for index in 0..512 {
            let Some(left) = self.entries_left.checked_sub(1) else { return false };
            self.entries_left = left;
            let ram = &self.hart.ram;
            let Some(entry) = ram.offset(table + 8 * index, 8).and_then(|offset| ram.load_u64(offset)) else {
                return true;
            };
            let address = prefix | index << bits;
            let target = pte::PPN.get(entry) * PAGE_SIZE;
            if entry & pte::V == 0 {
                continue;
            }
            if entry & (pte::R | pte::W | pte::X) != 0 {
                (self.visit)(Mapping {
                    address: self.hart.canonical(address),
                    physical: target,
                    size: 1 << bits,
                    entry,
                });
            } else if level > 0 && !self.table(target, level - 1, address) {
                return false;
            }
        }
        true
    }
}

/// An entry of the TLB, of the address space and the mode that the hart is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TlbEntry {
    /// What it is for.
    pub access: Access,
    /// Virtual address of the page.
    pub address: u64,
    /// Guest-physical address of the page.
    pub physical: u64,
}

impl Hart {
    /// Sign-extends a virtual address of the current page-table mode.
    fn canonical(&self, address: u64) -> u64 {
        let unused = levels(satp::MODE.get(self.csr.satp)).map_or(0, |levels| 64 - (12 + 9 * levels));
        ((address << unused) as i64 >> unused) as u64
    }

    /// The name of the page-table mode in `satp`.
    pub fn page_table_mode(&self) -> &'static str {
        match satp::MODE.get(self.csr.satp) {
            0 => "Bare",
            8 => "Sv39",
            9 => "Sv48",
            10 => "Sv57",
            _ => "reserved",
        }
    }

    /// Visits the leaves of the page table that `satp` names, by address, whether or not the hart's mode uses it. Gives
    /// up after having read `most_entries` entries: false.
    pub fn mappings(&self, most_entries: usize, visit: &mut dyn FnMut(Mapping)) -> bool {
        let Some(levels) = levels(satp::MODE.get(self.csr.satp)) else { return true };
        let root = satp::PPN.get(self.csr.satp) * PAGE_SIZE;
        PageTableWalk { hart: self, entries_left: most_entries, visit }.table(root, levels - 1, 0)
    }

    /// The TLB's entries for the address space and the mode that the hart is in.
    pub fn tlb_entries(&self) -> Vec<TlbEntry> {
        let tables = [
            (Access::Read, &self.tlb.read, self.data_context),
            (Access::Write, &self.tlb.write, self.data_context),
            (Access::Execute, &self.tlb.execute, self.fetch_context),
        ];
        let mut entries = Vec::new();
        for (access, table, context) in tables {
            for Entry { tag, delta } in table {
                let address = tag & !(PAGE_SIZE - 1);
                if *tag == tlb::tag(address, 1, context) {
                    let physical = self.ram.base().wrapping_add(self.host_offset(address.wrapping_add(*delta)));
                    entries.push(TlbEntry { access, address, physical });
                }
            }
        }
        entries
    }
}

#[cfg(test)]
mod tests;
