//! The built-in supervisor binary interface (RISC-V SBI specification 3.0): what an operating system in S-mode finds
//! below it when there is no firmware.
//!
//! An `ecall` from S-mode stops the hart ([`cpu::Stop::EnvironmentCall`]), and its thread calls [`Sbi::call`], which
//! answers in `a0` and `a1` and leaves all other registers alone (§3, "Binary Encoding"). There is one file per
//! extension; what is not here answers `SBI_ERR_NOT_SUPPORTED`. Machine mode runs no code at all: everything that can
//! be delegated is (`handover`).
//!
//! [`Sbi`] is shared by all harts. The state of each hart is behind one short lock, taken for one hart at a time and
//! never while a hart or a device is called.

mod base;
mod console;
mod csr;
mod dbcn;
mod fence;
mod fwft;
mod handover;
mod hart_set;
mod hsm;
mod ipi;
mod legacy;
mod pmu;
mod rfence;
mod srst;
mod susp;
mod time;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bus::{Clock, PowerRequest, StateError};
use cpu::{Hart, HartShared, Privilege};
use sbi_spec::binary::SbiRet;
use sbi_spec::{
    base as base_spec, dbcn as dbcn_spec, fwft as fwft_spec, hsm as hsm_spec, pmu as pmu_spec, rfnc, spi,
    srst as srst_spec, susp as susp_spec,
};
use serde::{Deserialize, Serialize};

pub use console::Console;
pub use fence::Fence;
pub use handover::enter_supervisor;

use hsm::State;
use pmu::Pmu;
use time::SupervisorTimer;

/// Integer registers that carry arguments and results.
const A0: usize = 10;
const A1: usize = 11;
const A6: usize = 16;
const A7: usize = 17;

/// Length in bytes of an `ecall`.
const ECALL_LENGTH: u64 = 4;

/// What becomes of the hart after a call.
#[derive(Debug)]
#[must_use]
pub enum Outcome {
    /// It goes on.
    Continue,
    /// It goes on when the fence is complete ([`Fence::wait`]).
    Fence(Fence),
    /// It rests until [`Sbi::wake`] says otherwise.
    Rest,
    /// The machine ends or restarts.
    Power(PowerRequest),
}

/// What an extension answers.
struct Reply {
    /// What goes to `a0` and `a1`; `None` where the call does not return, or not yet.
    registers: Option<SbiRet<u64>>,
    outcome: Outcome,
}

impl From<SbiRet<u64>> for Reply {
    fn from(registers: SbiRet<u64>) -> Self {
        Self { registers: Some(registers), outcome: Outcome::Continue }
    }
}

impl Reply {
    fn without_return(outcome: Outcome) -> Self {
        Self { registers: None, outcome }
    }
}

/// What the SBI knows of a hart.
struct SbiHart {
    shared: Arc<HartShared>,
    state: Mutex<HartState>,
    timer: SupervisorTimer,
}

/// The part that is saved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct HartState {
    /// Hart state management (§9).
    hsm: State,
    /// Locked firmware features (§18), a bit per feature number.
    locked_features: u32,
    /// Performance monitoring (§11).
    pmu: Pmu,
}

impl HartState {
    /// What a hart is before it is started.
    const STOPPED: HartState = HartState { hsm: State::Stopped, locked_features: 0, pmu: Pmu::IDLE };
}

impl SbiHart {
    fn lock(&self) -> MutexGuard<'_, HartState> {
        // A panic elsewhere leaves whole values: each change is one assignment.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The state of the SBI, for saving and restoring.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SbiState {
    /// Per hart, its state and its timer's deadline in ticks.
    harts: Vec<(HartState, Option<u64>)>,
}

/// The built-in SBI of a machine.
pub struct Sbi {
    /// By `mhartid`, which counts from zero.
    harts: Vec<SbiHart>,
    console: Arc<dyn Console>,
}

impl Sbi {
    /// An SBI for `harts`, whose numbers count from zero in this order; all are stopped.
    pub fn new(harts: &[Arc<HartShared>], clock: &Clock, console: Arc<dyn Console>) -> Self {
        let harts = harts.iter().map(|shared| SbiHart {
            shared: shared.clone(),
            state: Mutex::new(HartState::STOPPED),
            timer: SupervisorTimer::new(clock, shared.clone()),
        });
        Self { harts: harts.collect(), console }
    }

    /// Starts the boot hart: it enters S-mode at `entry` with its number in a0 and the address of the device tree in
    /// a1.
    pub fn boot(&self, hart: &mut Hart, entry: u64, device_tree: u64) {
        if let Some(own) = self.own(hart) {
            *own.lock() = HartState { hsm: State::Started, ..HartState::STOPPED };
        }
        enter_supervisor(hart, entry, device_tree);
    }

    /// Back to the power-on state: all harts stopped.
    pub fn reset(&self) {
        for hart in &self.harts {
            *hart.lock() = HartState::STOPPED;
            hart.timer.set(None);
        }
    }

    /// Answers the `ecall` that has just stopped `hart`; its `pc` is behind it.
    pub fn call(&self, hart: &mut Hart) -> Outcome {
        let arguments: [u64; 6] = std::array::from_fn(|index| hart.x(A0 + index));
        let (extension, function) = (hart.x(A7), hart.x(A6));
        if let Some(reply) = legacy::call(self, hart, extension, arguments) {
            let legacy::Reply { a0, outcome } = reply;
            if let Some(a0) = a0 {
                hart.set_x(A0, a0);
            }
            return outcome;
        }
        let (Ok(extension), Ok(function)) = (usize::try_from(extension), usize::try_from(function)) else {
            return answer(hart, SbiRet::not_supported().into());
        };
        let reply = match extension {
            base_spec::EID_BASE => base::call(hart, function, arguments),
            sbi_spec::time::EID_TIME => time::call(self, hart, function, arguments),
            spi::EID_SPI => ipi::call(self, hart, function, arguments),
            rfnc::EID_RFNC => rfence::call(self, hart, function, arguments),
            hsm_spec::EID_HSM => hsm::call(self, hart, function, arguments),
            pmu_spec::EID_PMU => pmu::call(self, hart, function, arguments),
            susp_spec::EID_SUSP => susp::call(self, hart, function, arguments),
            srst_spec::EID_SRST => srst::call(function, arguments),
            dbcn_spec::EID_DBCN => dbcn::call(self, hart, function, arguments),
            fwft_spec::EID_FWFT => fwft::call(self, hart, function, arguments),
            _ => {
                tracing::debug!("hart {} asks for SBI extension {extension:#x}", hart.shared().id());
                SbiRet::not_supported().into()
            }
        };
        answer(hart, reply)
    }

    /// Whether `hart` runs. One that is stopped or suspended rests instead: its thread parks, serves its events, and
    /// asks again after each. A hart that has been started, or whose interrupt has come, is made ready by this call.
    pub fn wake(&self, hart: &mut Hart) -> bool {
        self.own(hart).is_none_or(|own| hsm::wake(own, hart))
    }

    /// The state. Only called while all harts are paused.
    pub fn save(&self) -> SbiState {
        SbiState { harts: self.harts.iter().map(|hart| (hart.lock().clone(), hart.timer.deadline())).collect() }
    }

    /// Takes over a state saved on a machine with as many harts. Only called while all harts are paused. A fence that a
    /// hart was waiting for is complete: harts are restored without any cached translation or decoded code.
    pub fn restore(&self, state: SbiState) -> Result<(), StateError> {
        if state.harts.len() != self.harts.len() {
            let reason = format!("it has {} harts, this machine has {}", state.harts.len(), self.harts.len());
            return Err(StateError::Mismatch { device: "sbi".into(), reason });
        }
        for (hart, (state, deadline)) in self.harts.iter().zip(state.harts) {
            *hart.lock() = state;
            hart.timer.set(deadline);
        }
        Ok(())
    }

    /// Hart number `hartid`.
    fn hart(&self, hartid: u64) -> Option<&SbiHart> {
        usize::try_from(hartid).ok().and_then(|index| self.harts.get(index))
    }

    /// What belongs to `hart`.
    fn own(&self, hart: &Hart) -> Option<&SbiHart> {
        self.hart(hart.shared().id())
    }
}

fn answer(hart: &mut Hart, reply: Reply) -> Outcome {
    if let Some(SbiRet { error, value }) = reply.registers {
        hart.set_x(A0, error);
        hart.set_x(A1, value);
    }
    reply.outcome
}

/// Has the hart execute its `ecall` again, for a call that cannot be answered yet: in between, the hart takes
/// interrupts and can be paused.
fn retry(hart: &mut Hart) -> Outcome {
    hart.set_pc(hart.pc().wrapping_sub(ECALL_LENGTH));
    std::thread::yield_now();
    Outcome::Continue
}

/// Does what only M-mode may do to `hart`.
fn as_machine<T>(hart: &mut Hart, action: impl FnOnce(&mut Hart) -> T) -> T {
    let privilege = hart.privilege();
    hart.set_privilege(Privilege::Machine);
    let result = action(hart);
    hart.set_privilege(privilege);
    result
}

#[cfg(test)]
mod tests;
