//! The part of a hart that translated code uses beside the architectural state, and where all of it is.

use std::any::Any;
use std::mem::offset_of;

use super::jumps::Jump;
use crate::Hart;
use crate::hart_box::{COUNTERS, COUNTERS_OFFSET, Entries, RANGES_OFFSET};
use crate::isa::{FloatOp, Format, Helper, Insn};
use crate::lockstep::Logged;
use crate::ranges::Range;
use crate::tlb::Entry;

/// The budget that is kept back: translated code looks at it at loop heads and entries only, and runs at most a
/// region's length between two looks.
pub(super) const RESERVE: i64 = super::region::MOST_INSTRUCTIONS as i64 + 12;

#[cfg(target_arch = "x86_64")]
const _: () = assert!(super::baseline::MOST_INSTRUCTIONS <= super::region::MOST_INSTRUCTIONS);

/// The functions that translated code calls, by address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(super) enum Service {
    /// [`super::miss`]: an access, and the run that several share.
    Load,
    Store,
    LoadRun,
    StoreRun,
    /// What these do not do.
    LoadSlowly,
    StoreSlowly,
    LoadRunSlowly,
    StoreRunSlowly,
    Amo,
    CompareAndSwap,
    CompareAndSwapPair,
    LoadReserved,
    StoreConditional,
    Call,
    Float,
    CarrylessLow,
    CarrylessHigh,
    /// Moves the flags that have accrued on the host to the hart's.
    AccrueFlags,
    /// The host's address of what accesses of baseline code share.
    Run,
    /// The routines of [`super::baseline`].
    BaselineLoadByte,
    BaselineLoadHalf,
    BaselineLoadWord,
    BaselineLoadDouble,
    BaselineStoreByte,
    BaselineStoreHalf,
    BaselineStoreWord,
    BaselineStoreDouble,
    BaselineLoadRun,
    BaselineStoreRun,
    BaselineEnter,
    BaselineTrap,
    BaselineInterpret,
    BaselineContinue,
    /// Where jumps go that miss the first slot of the jump cache ([`super::translate::unlinked_function`]).
    Unlinked,
}

/// Number of [`Service`]s.
pub(super) const SERVICES: usize = Service::Unlinked as usize + 1;

/// What a service is told. It travels in memory: a register that a call asks for is one that the allocator would give
/// to the value everywhere, on the hot path too.
pub(super) type Arguments = [u64; 5];

/// State that translated code shares with the engine. It is only good while the engine runs.
#[repr(C)]
pub(crate) struct State {
    /// What decides which code a virtual address means ([`crate::block::Blocks::context`]).
    pub(super) context: u64,
    /// Instructions that may still run, less [`RESERVE`].
    pub(super) left: i64,
    /// Value of [`crate::Counts::retired`] at which nothing is left.
    pub(super) end: u64,
    /// Non-zero if the last memory service trapped.
    pub(super) trapped: u64,
    /// Host address of the event word.
    pub(super) event: u64,
    /// Host address of the jump cache.
    pub(super) jumps: u64,
    /// For a service, and what it answers.
    pub(super) arguments: Arguments,
    pub(super) outcome: u64,
    pub(super) second_outcome: u64,
    /// In lockstep: where the next access is logged, and the last place for one.
    pub(super) log: u64,
    pub(super) log_last: u64,
    /// Host addresses of the services.
    pub(super) services: [u64; SERVICES],
    /// Where results that only matter for their floating-point flags go.
    pub(super) discarded: u64,
    /// How often baseline code may still go each way before it asks for a region ([`super::baseline`]).
    pub(crate) counters: Entries<i32>,
    /// A panic that a service caught, on its way to the engine.
    pub(super) panic: Option<Box<dyn Any + Send>>,
    /// Slow paths taken by memory accesses.
    pub(super) slow_accesses: u64,
    /// Instructions executed by helpers from translated code.
    pub(super) helped: u64,
}

impl Default for State {
    fn default() -> Self {
        Self {
            context: 0,
            left: 0,
            end: 0,
            trapped: 0,
            event: 0,
            jumps: 0,
            arguments: Arguments::default(),
            outcome: 0,
            second_outcome: 0,
            log: 0,
            log_last: 0,
            services: [0; SERVICES],
            discarded: 0,
            counters: Entries::default(),
            panic: None,
            slow_accesses: 0,
            helped: 0,
        }
    }
}

/// An instruction that translated code gives to a helper.
pub(super) struct CallSite {
    pub insn: Insn,
    pub helper: Helper,
}

/// A floating-point operation that translated code gives to the exact implementation.
pub(super) struct FloatSite {
    pub insn: Insn,
    pub op: FloatOp,
    pub format: Format,
}

/// What an instruction of a region needs at run time, at an address that does not change.
pub(super) type Site = Box<dyn Any + Send + Sync>;

/// Offsets in bytes from the start of a [`Hart`].
pub(super) mod offset {
    use super::*;

    // A displacement reaches all of them.
    const _: () = assert!(RANGES_OFFSET + crate::ranges::RANGES * size_of::<Range>() < i32::MAX as usize);
    const _: () = assert!(COUNTERS_OFFSET + COUNTERS * size_of::<i32>() < i32::MAX as usize);

    const fn of(offset: usize) -> i32 {
        assert!(offset < i32::MAX as usize);
        offset as i32
    }

    pub const X: i32 = of(offset_of!(Hart, x));
    pub const F: i32 = of(offset_of!(Hart, f));
    pub const PC: i32 = of(offset_of!(Hart, pc));
    pub const FFLAGS: i32 = of(offset_of!(Hart, csr.fflags));
    pub const MSTATUS: i32 = of(offset_of!(Hart, csr.mstatus));
    pub const MENVCFG: i32 = of(offset_of!(Hart, csr.menvcfg));
    pub const SENVCFG: i32 = of(offset_of!(Hart, csr.senvcfg));
    pub const WAITING: i32 = of(offset_of!(Hart, waiting));
    pub const RESERVED_OFFSET: i32 = of(offset_of!(Hart, reservation.offset));
    pub const RESERVED_WIDTH: i32 = of(offset_of!(Hart, reservation.width));
    pub const RESERVED_VALUE: i32 = of(offset_of!(Hart, reservation.value));
    pub const MASKING_BITS: i32 = of(offset_of!(Hart, masking.bits));
    pub const MASKING_MASK: i32 = of(offset_of!(Hart, masking.mask));
    pub const DATA_CONTEXT: i32 = of(offset_of!(Hart, data_context));
    pub const READ_TLB: i32 = of(offset_of!(Hart, tlb.read));
    pub const WRITE_TLB: i32 = of(offset_of!(Hart, tlb.write));
    pub const ENTRY_TAG: i32 = of(offset_of!(Entry, tag));
    pub const ENTRY_DELTA: i32 = of(offset_of!(Entry, delta));
    pub const CONTEXT: i32 = of(offset_of!(Hart, jit.context));
    pub const LEFT: i32 = of(offset_of!(Hart, jit.left));
    pub const TRAPPED: i32 = of(offset_of!(Hart, jit.trapped));
    pub const EVENT: i32 = of(offset_of!(Hart, jit.event));
    pub const JUMPS: i32 = of(offset_of!(Hart, jit.jumps));
    pub const RANGES: i32 = of(RANGES_OFFSET);
    pub const RANGE_BASE: i32 = of(offset_of!(Range, base));
    pub const RANGE_LIMIT: i32 = of(offset_of!(Range, limit));
    pub const RANGE_DELTA: i32 = of(offset_of!(Range, delta));
    pub const RANGES_MOVED: i32 = of(offset_of!(Hart, tlb.ranges.moved));
    pub const RANGE_FLAGS: i32 = of(offset_of!(Range, flags));
    pub const RANGE_PATIENCE: i32 = of(offset_of!(Range, patience));
    pub const ARGUMENTS: i32 = of(offset_of!(Hart, jit.arguments));
    pub const OUTCOME: i32 = of(offset_of!(Hart, jit.outcome));
    pub const SECOND_OUTCOME: i32 = of(offset_of!(Hart, jit.second_outcome));
    pub const LOG: i32 = of(offset_of!(Hart, jit.log));
    pub const LOG_LAST: i32 = of(offset_of!(Hart, jit.log_last));
    pub const LOGGED_ADDRESS: i32 = of(offset_of!(Logged, address));
    pub const LOGGED_HOST: i32 = of(offset_of!(Logged, host));
    pub const LOGGED_VALUE: i32 = of(offset_of!(Logged, value));
    pub const LOGGED_WHAT: i32 = of(offset_of!(Logged, what));
    pub const SERVICES: i32 = of(offset_of!(Hart, jit.services));
    pub const DISCARDED: i32 = of(offset_of!(Hart, jit.discarded));
    pub const JUMP_PC: i32 = of(offset_of!(Jump, pc));
    pub const JUMP_CONTEXT: i32 = of(offset_of!(Jump, context));
    pub const JUMP_CODE: i32 = of(offset_of!(Jump, code));
}
