//! Hart state management (§9).
//!
//! The pending states of the specification are those in which the hart's own thread has not yet acted.

use cpu::{Hart, event};
use sbi_spec::binary::SbiRet;
use sbi_spec::hsm::{
    HART_GET_STATUS, HART_START, HART_STOP, HART_SUSPEND, hart_state,
    suspend_type::{NON_RETENTIVE, RETENTIVE},
};
use serde::{Deserialize, Serialize};

use super::{Outcome, Reply, Sbi, SbiHart, handover};

/// Where a hart enters S-mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    /// Guest-physical address.
    address: u64,
    /// What comes in a1.
    opaque: u64,
}

/// The state of a hart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum State {
    Stopped,
    StartPending(Entry),
    Started,
    /// Until an interrupt is pending; then it goes on where it was, or at an entry.
    Suspended(Option<Entry>),
}

impl State {
    /// Whether interrupts and fences reach the hart.
    pub(super) fn is_available(self) -> bool {
        !matches!(self, State::Stopped)
    }

    fn id(self) -> usize {
        match self {
            State::Stopped => hart_state::STOPPED,
            State::StartPending(_) => hart_state::START_PENDING,
            State::Started => hart_state::STARTED,
            State::Suspended(_) => hart_state::SUSPENDED,
        }
    }
}

pub(super) fn call(sbi: &Sbi, hart: &mut Hart, function: usize, arguments: [u64; 6]) -> Reply {
    match function {
        HART_START => start(sbi, hart, arguments).into(),
        HART_STOP => match sbi.own(hart) {
            Some(own) => {
                *own.lock() = super::HartState::STOPPED;
                own.timer.set(None);
                Reply::without_return(Outcome::Rest)
            }
            None => SbiRet::failed().into(),
        },
        HART_GET_STATUS => match sbi.hart(arguments[0]) {
            Some(target) => SbiRet::success(target.lock().hsm.id() as u64).into(),
            None => SbiRet::invalid_param().into(),
        },
        HART_SUSPEND => suspend(sbi, hart, arguments),
        _ => SbiRet::not_supported().into(),
    }
}

fn start(sbi: &Sbi, caller: &Hart, [hartid, address, opaque, ..]: [u64; 6]) -> SbiRet<u64> {
    let Some(target) = sbi.hart(hartid) else {
        return SbiRet::invalid_param();
    };
    let Some(entry) = entry(caller, address, opaque) else {
        return SbiRet::invalid_address();
    };
    let mut state = target.lock();
    if state.hsm != State::Stopped {
        return SbiRet::already_available();
    }
    state.hsm = State::StartPending(entry);
    drop(state);
    target.shared.raise(event::INTERRUPT);
    SbiRet::success(0)
}

fn suspend(sbi: &Sbi, hart: &Hart, [kind, address, opaque, ..]: [u64; 6]) -> Reply {
    let Some(own) = sbi.own(hart) else {
        return SbiRet::failed().into();
    };
    // The type is 32 bits wide; callers sign-extend it or not.
    let resumption = match kind as u32 {
        RETENTIVE => None,
        NON_RETENTIVE => match entry(hart, address, opaque) {
            Some(entry) => Some(entry),
            None => return SbiRet::invalid_address().into(),
        },
        _ => return SbiRet::invalid_param().into(),
    };
    own.lock().hsm = State::Suspended(resumption);
    // A suspension that keeps its registers returns when it is over.
    Reply { registers: resumption.is_none().then_some(SbiRet::success(0)), outcome: Outcome::Rest }
}

/// An entry, if S-mode code can run from guest-physical `address`.
pub(super) fn entry(hart: &Hart, address: u64, opaque: u64) -> Option<Entry> {
    let startable = address.is_multiple_of(2) && hart.bus().ram().offset(address, 2).is_some();
    startable.then_some(Entry { address, opaque })
}

/// See [`Sbi::wake`].
pub(super) fn wake(own: &SbiHart, hart: &mut Hart) -> bool {
    let state = own.lock().hsm;
    match state {
        State::Stopped => return false,
        State::Started => return true,
        State::StartPending(Entry { address, opaque }) => handover::enter_supervisor(hart, address, opaque),
        State::Suspended(_) if !hart.has_pending_interrupt() => return false,
        State::Suspended(None) => {}
        State::Suspended(Some(Entry { address, opaque })) => handover::resume(hart, address, opaque),
    }
    // Only this thread leads out of these states. Others see the hart as started when it is ready.
    own.lock().hsm = State::Started;
    true
}
