//! The guest's own debug triggers (Sdtrig; RISC-V Debug Specification 1.0, chapter 5): `mcontrol6` on addresses, `icount`
//! and `etrigger`, all with a breakpoint exception as their action.
//!
//! **Cost.** Addresses are compared where those of a debugger are ([`crate::debug`]), so that fast paths know of neither.
//! While an `icount` trigger is live each instruction is a run of its own ([`Counting`]).
//!
//! **Reentrancy** is prevented by the first way of "Native Triggers" (§5.4): nothing matches or fires in M-mode while MIE
//! is clear, nor in S-mode while SIE is clear if breakpoints are delegated. `tcontrol` belongs to the second way, which
//! forbids delegation, and is not there; nor are `tdata3` and the contexts, which are optional.
//!
//! A trigger fires before its instruction: nothing of it has happened. A debugger's point at the same place comes first,
//! and the trigger fires when the debugger goes on.

use serde::{Deserialize, Serialize};

use crate::csr::{Field, mstatus};
use crate::extension::Extension;
use crate::trap::Exception;
use crate::{Hart, Privilege, Trapped, WatchKind};

/// Number of triggers.
pub const TRIGGERS: usize = 4;

/// `tinfo`: version 1.0, and the types that each trigger can have.
const INFO: u64 = 1 << 24 | 1 << DISABLED | 1 << MCONTROL6 | 1 << ETRIGGER | 1 << ICOUNT;

/// `tdata1.type`, and its values.
const TYPE: Field = Field::range(60, 4);
const ICOUNT: u64 = 3;
const ETRIGGER: u64 = 5;
const MCONTROL6: u64 = 6;
const DISABLED: u64 = 15;

/// Fields of `mcontrol6`. Of `hit` only "before" is ever set by a trigger.
mod mcontrol6 {
    use super::Field;

    pub const LOAD: u64 = 1 << 0;
    pub const STORE: u64 = 1 << 1;
    pub const EXECUTE: u64 = 1 << 2;
    pub const U: u64 = 1 << 3;
    pub const S: u64 = 1 << 4;
    pub const M: u64 = 1 << 6;
    pub const MATCH: Field = Field::range(7, 4);
    pub const SIZE: Field = Field::range(16, 3);
    pub const HIT_BEFORE: u64 = 1 << 22;
    pub const HIT: u64 = HIT_BEFORE | 1 << 25;

    pub const WRITABLE: u64 = LOAD | STORE | EXECUTE | U | S | M | MATCH.mask() | SIZE.mask() | HIT;

    /// Values of `match`.
    pub const EQUAL: u64 = 0;
    pub const NAPOT: u64 = 1;
    pub const GREATER_OR_EQUAL: u64 = 2;
    pub const LESS: u64 = 3;
}

/// The modes in `icount` and `etrigger`.
mod modes {
    pub const U: u64 = 1 << 6;
    pub const S: u64 = 1 << 7;
    pub const M: u64 = 1 << 9;
    pub const ALL: u64 = U | S | M;
}

mod icount {
    use super::Field;

    pub const PENDING: u64 = 1 << 8;
    pub const COUNT: Field = Field::range(10, 14);
    pub const HIT: u64 = 1 << 24;

    pub const WRITABLE: u64 = super::modes::ALL | PENDING | COUNT.mask() | HIT;
}

mod etrigger {
    pub const HIT: u64 = 1 << 58;

    pub const WRITABLE: u64 = super::modes::ALL | HIT;
}

/// A trigger: its registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Trigger {
    tdata1: u64,
    tdata2: u64,
}

impl Default for Trigger {
    fn default() -> Self {
        Self { tdata1: TYPE.set(0, DISABLED), tdata2: 0 }
    }
}

impl Trigger {
    fn kind(&self) -> u64 {
        TYPE.get(self.tdata1)
    }

    fn has(&self, bits: u64) -> bool {
        self.tdata1 & bits != 0
    }

    /// Whether it is enabled in a mode.
    fn is_in(&self, mode: Privilege) -> bool {
        self.has(match (self.kind(), mode) {
            (MCONTROL6, Privilege::User) => mcontrol6::U,
            (MCONTROL6, Privilege::Supervisor) => mcontrol6::S,
            (MCONTROL6, Privilege::Machine) => mcontrol6::M,
            (_, Privilege::User) => modes::U,
            (_, Privilege::Supervisor) => modes::S,
            (_, Privilege::Machine) => modes::M,
        })
    }

    /// What a write to `tdata1` leaves. An unsupported type disables the trigger.
    fn legal(&self, value: u64) -> u64 {
        let kind = TYPE.get(value);
        let mut legal = value
            & match kind {
                MCONTROL6 => mcontrol6::WRITABLE,
                ICOUNT => icount::WRITABLE,
                ETRIGGER => etrigger::WRITABLE,
                _ => return TYPE.set(0, DISABLED),
            };
        if kind == MCONTROL6 {
            // Sizes are those of loads and stores.
            if access_size(mcontrol6::SIZE.get(legal)).is_none() || legal & mcontrol6::EXECUTE != 0 {
                legal = mcontrol6::SIZE.set(legal, 0);
            }
            let comparison = mcontrol6::MATCH.get(legal);
            if comparison > mcontrol6::LESS || comparison == mcontrol6::NAPOT && self.tdata2 != legal_napot(self.tdata2)
            {
                legal = mcontrol6::MATCH.set(legal, mcontrol6::EQUAL);
            }
        }
        TYPE.set(legal, kind)
    }

    /// The addresses that an `mcontrol6` trigger compares with, the first and the last.
    fn addresses(&self) -> Option<(u64, u64)> {
        let address = self.tdata2;
        match mcontrol6::MATCH.get(self.tdata1) {
            _ if self.kind() != MCONTROL6 => None,
            mcontrol6::NAPOT => {
                // All ones up to the lowest zero, and that one.
                let low = address ^ address.wrapping_add(1);
                Some((address & !low, address | low))
            }
            mcontrol6::GREATER_OR_EQUAL => Some((address, u64::MAX)),
            mcontrol6::LESS => Some((0, address.checked_sub(1)?)),
            _ => Some((address, address)),
        }
    }

    /// The addresses, if the trigger is about any of these accesses.
    fn addresses_of(&self, accesses: u64) -> Option<(u64, u64)> {
        self.addresses().filter(|_| self.has(accesses))
    }

    /// Whether an `icount` trigger may still match or fire.
    fn is_live(&self) -> bool {
        self.kind() == ICOUNT
            && self.has(modes::ALL)
            && (icount::COUNT.get(self.tdata1) != 0 || self.has(icount::PENDING))
    }
}

/// Bytes of an access that `size` stands for: any, or so many.
fn access_size(size: u64) -> Option<Option<u64>> {
    Some(match size {
        0 => None,
        1 => Some(1),
        2 => Some(2),
        3 => Some(4),
        5 => Some(8),
        6 => Some(16),
        _ => return None,
    })
}

/// The largest range that NAPOT allows is half of the address space.
fn legal_napot(tdata2: u64) -> u64 {
    if tdata2 | 1 << 63 == u64::MAX { tdata2 & !(1 << 62) } else { tdata2 }
}

/// The accesses that `kind` stands for: an atomic is both in itself.
fn accesses(kind: WatchKind) -> u64 {
    match kind {
        WatchKind::Read => mcontrol6::LOAD,
        WatchKind::Write => mcontrol6::STORE,
        WatchKind::Access => mcontrol6::LOAD | mcontrol6::STORE,
    }
}

/// The trigger module's registers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Triggers {
    selected: u64,
    triggers: [Trigger; TRIGGERS],
}

/// What follows from the registers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Armed {
    /// Some trigger is about instructions.
    pub executes: bool,
    /// Some trigger is about loads or stores.
    pub accesses: bool,
    /// Some trigger is about exceptions.
    exceptions: bool,
    /// Some `icount` trigger is live.
    counting: Option<Counting>,
}

/// While an `icount` trigger is live: the instruction under way.
#[derive(Clone, Copy, Debug, Default)]
struct Counting {
    /// Instructions that had retired before it.
    retired: u64,
    /// The triggers that it counts for.
    triggers: [bool; TRIGGERS],
}

impl Hart {
    fn trigger(&self) -> &Trigger {
        // `tselect` holds no other number.
        &self.csr.triggers.triggers[self.csr.triggers.selected as usize % TRIGGERS]
    }

    fn trigger_mut(&mut self) -> &mut Trigger {
        &mut self.csr.triggers.triggers[self.csr.triggers.selected as usize % TRIGGERS]
    }

    pub(crate) fn read_tselect(&self) -> u64 {
        self.csr.triggers.selected
    }

    pub(crate) fn write_tselect(&mut self, value: u64) {
        if self.has(Extension::Sdtrig) && value < TRIGGERS as u64 {
            self.csr.triggers.selected = value;
        }
    }

    /// Type 0 says that there is no trigger.
    pub(crate) fn read_tdata1(&self) -> u64 {
        if self.has(Extension::Sdtrig) { self.trigger().tdata1 } else { 0 }
    }

    pub(crate) fn write_tdata1(&mut self, value: u64) {
        if self.has(Extension::Sdtrig) {
            let value = self.trigger().legal(value);
            self.trigger_mut().tdata1 = value;
            self.update_triggers();
        }
    }

    pub(crate) fn read_tdata2(&self) -> u64 {
        self.trigger().tdata2
    }

    pub(crate) fn write_tdata2(&mut self, value: u64) {
        if self.has(Extension::Sdtrig) {
            let trigger = self.trigger_mut();
            let is_napot = trigger.kind() == MCONTROL6 && mcontrol6::MATCH.get(trigger.tdata1) == mcontrol6::NAPOT;
            trigger.tdata2 = if is_napot { legal_napot(value) } else { value };
            self.update_triggers();
        }
    }

    pub(crate) fn read_tinfo(&self) -> u64 {
        if self.has(Extension::Sdtrig) { INFO } else { 1 }
    }

    /// Re-derives what follows from the registers, which have changed.
    pub(crate) fn update_triggers(&mut self) {
        let triggers = &self.csr.triggers.triggers;
        let executes = triggers.iter().any(|trigger| trigger.addresses_of(mcontrol6::EXECUTE).is_some());
        let accesses =
            triggers.iter().any(|trigger| trigger.addresses_of(mcontrol6::LOAD | mcontrol6::STORE).is_some());
        let exceptions = triggers.iter().any(|trigger| trigger.kind() == ETRIGGER);
        // The instruction that writes a trigger does not count for it.
        let live = triggers.iter().any(Trigger::is_live);
        let counting = live.then(|| Counting { retired: self.counts.retired, ..Counting::default() });
        let addresses_matter = executes || accesses || self.debug.triggers.executes || self.debug.triggers.accesses;
        self.debug.triggers = Armed { executes, accesses, exceptions, counting };
        if addresses_matter {
            self.refresh_debug_points();
        }
        self.watch_counters(0);
    }

    /// Whether triggers match and fire in a mode (§5.4).
    fn allows_triggers(&self, mode: Privilege) -> bool {
        let delegated = self.csr.medeleg >> Exception::Breakpoint as u64 & 1 != 0;
        match mode {
            Privilege::Machine => mstatus::MIE.get(self.csr.mstatus) != 0,
            Privilege::Supervisor => !delegated || mstatus::SIE.get(self.csr.mstatus) != 0,
            Privilege::User => true,
        }
    }

    /// Fires the triggers about the instruction at `pc`.
    pub(crate) fn check_execute_triggers(&mut self) -> Result<(), Trapped> {
        let (pc, mode) = (self.pc, self.privilege);
        self.check_addresses(mode, mcontrol6::EXECUTE, pc, pc, None)
    }

    /// Fires the triggers about an access to memory.
    pub(crate) fn check_access_triggers(&mut self, address: u64, length: u64, kind: WatchKind) -> Result<(), Trapped> {
        let mode = self.privilege;
        self.check_addresses(mode, accesses(kind), address, address.saturating_add(length - 1), Some(length))
    }

    fn check_addresses(
        &mut self,
        mode: Privilege,
        accesses: u64,
        first: u64,
        last: u64,
        length: Option<u64>,
    ) -> Result<(), Trapped> {
        if !self.allows_triggers(mode) {
            return Ok(());
        }
        let mut fires = false;
        for trigger in &mut self.csr.triggers.triggers {
            let touches = trigger.addresses_of(accesses).is_some_and(|(start, end)| start <= last && first <= end);
            let size = access_size(mcontrol6::SIZE.get(trigger.tdata1)).flatten();
            if touches && trigger.is_in(mode) && (size.is_none() || size == length) {
                trigger.tdata1 = trigger.tdata1 & !mcontrol6::HIT | mcontrol6::HIT_BEFORE;
                fires = true;
            }
        }
        if fires { Err(self.raise(Exception::Breakpoint, first)) } else { Ok(()) }
    }

    /// Whether any trigger, in whatever mode, is about instructions (or else about these accesses) in a range.
    pub(crate) fn has_trigger_in(&self, kind: Option<WatchKind>, first: u64, last: u64) -> bool {
        let accesses = kind.map_or(mcontrol6::EXECUTE, accesses);
        let mut ranges = self.csr.triggers.triggers.iter().filter_map(|trigger| trigger.addresses_of(accesses));
        ranges.any(|(start, end)| start <= last && first <= end)
    }

    /// The first address beyond `pc` that a trigger about instructions has.
    pub(crate) fn next_execute_trigger(&self) -> Option<u64> {
        let beyond = self.pc.checked_add(1)?;
        let triggers = self.csr.triggers.triggers.iter();
        let ranges = triggers.filter_map(|trigger| trigger.addresses_of(mcontrol6::EXECUTE));
        ranges.filter(|(_, last)| *last >= beyond).map(|(first, _)| first.max(beyond)).min()
    }

    /// The count of retired instructions at which `icount` triggers are to be looked after.
    pub(crate) fn icount_due(&self) -> u64 {
        if self.debug.triggers.counting.is_some() { self.counts.retired + 1 } else { u64::MAX }
    }

    /// Between instructions, while an `icount` trigger is live: counts the last one, fires what is pending, and notes
    /// whom the next one counts for.
    #[inline]
    pub(crate) fn serve_icount(&mut self) {
        if let Some(counting) = self.debug.triggers.counting {
            self.count_and_fire(counting);
        }
    }

    #[cold]
    fn count_and_fire(&mut self, counting: Counting) {
        if counting.retired != self.counts.retired {
            self.count_instruction();
        }
        let mode = self.privilege;
        if self.allows_triggers(mode) {
            let mut fires = false;
            for trigger in &mut self.csr.triggers.triggers {
                if trigger.kind() == ICOUNT && trigger.has(icount::PENDING) && trigger.is_in(mode) {
                    trigger.tdata1 = trigger.tdata1 & !icount::PENDING | icount::HIT;
                    fires = true;
                }
            }
            if fires {
                self.raise(Exception::Breakpoint, 0);
                self.enter_exception();
            }
        }
        let (mode, retired) = (self.privilege, self.counts.retired);
        let allowed = self.allows_triggers(mode);
        let all = &self.csr.triggers.triggers;
        let triggers = std::array::from_fn(|index| allowed && all[index].kind() == ICOUNT && all[index].is_in(mode));
        let live = all.iter().any(Trigger::is_live);
        self.debug.triggers.counting = live.then_some(Counting { retired, triggers });
        self.watch_counters(0);
    }

    /// The instruction under way has retired, or a trap is taken from its mode: it counts once.
    fn count_instruction(&mut self) {
        let Some(counting) = &mut self.debug.triggers.counting else { return };
        let counts_for = std::mem::take(&mut counting.triggers);
        for (trigger, counts) in self.csr.triggers.triggers.iter_mut().zip(counts_for) {
            let count = icount::COUNT.get(trigger.tdata1);
            if counts && trigger.kind() == ICOUNT && count > 0 {
                trigger.tdata1 = icount::COUNT.set(trigger.tdata1, count - 1);
                if count == 1 {
                    trigger.tdata1 |= icount::PENDING;
                }
            }
        }
    }

    /// A trap is about to be taken, by a hart that has triggers or has none.
    #[inline]
    pub(crate) fn note_trap_for_triggers(&mut self) {
        if self.debug.triggers.counting.is_some() {
            self.count_instruction();
            // There may be something to fire before the handler's first instruction.
            self.watched.overflow_at = self.counts.retired;
        }
    }

    /// An exception is about to be taken: whether triggers about it match.
    #[inline]
    pub(crate) fn matches_exception_trigger(&mut self, cause: u64) -> bool {
        self.debug.triggers.exceptions && self.match_exception_triggers(cause)
    }

    #[cold]
    fn match_exception_triggers(&mut self, cause: u64) -> bool {
        let mode = self.privilege;
        let mut matches = false;
        if self.allows_triggers(mode) {
            for trigger in &mut self.csr.triggers.triggers {
                if trigger.kind() == ETRIGGER && trigger.is_in(mode) && trigger.tdata2 >> cause & 1 != 0 {
                    trigger.tdata1 |= etrigger::HIT;
                    matches = true;
                }
            }
        }
        matches
    }

    /// Whether triggers that have matched an exception fire before its handler's first instruction, which the hart is at.
    pub(crate) fn fires_in_handler(&self) -> bool {
        self.allows_triggers(self.privilege)
    }
}
