//! The timer extension (§6), and the timer of harts that have no `stimecmp` (Sstc).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bus::{Alarm, Clock};
use cpu::extension::Extension;
use cpu::{Hart, HartShared, interrupt};
use sbi_spec::binary::SbiRet;
use sbi_spec::pmu::firmware_event;
use sbi_spec::time::SET_TIMER;

use super::{Reply, Sbi, as_machine, csr};

const STIP: u64 = 1 << interrupt::STI;

pub(super) fn call(sbi: &Sbi, hart: &mut Hart, function: usize, arguments: [u64; 6]) -> Reply {
    if function != SET_TIMER {
        return SbiRet::not_supported().into();
    }
    set_timer(sbi, hart, arguments[0]);
    SbiRet::success(0).into()
}

/// Has the timer interrupt of `hart` come at `deadline`, and not be pending before.
pub(super) fn set_timer(sbi: &Sbi, hart: &mut Hart, deadline: u64) {
    if let Some(own) = sbi.own(hart) {
        own.count(firmware_event::SET_TIMER);
    }
    if hart.has(Extension::Sstc) {
        as_machine(hart, |hart| hart.write_csr(csr::STIMECMP, deadline));
    } else if let Some(own) = sbi.own(hart) {
        own.timer.set((deadline != u64::MAX).then_some(deadline));
    }
}

/// The S-mode timer of a hart without `stimecmp`: an alarm that makes STIP pending.
pub(super) struct SupervisorTimer {
    inner: Arc<Inner>,
    alarm: Alarm,
}

struct Inner {
    hart: Arc<HartShared>,
    /// In ticks. Locked while STIP changes, so that a ring for an old deadline cannot undo a new setting.
    deadline: Mutex<Option<u64>>,
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Option<u64>> {
        self.deadline.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SupervisorTimer {
    pub(super) fn new(clock: &Clock, hart: Arc<HartShared>) -> Self {
        let inner = Arc::new(Inner { hart, deadline: Mutex::new(None) });
        let (rung, now) = (inner.clone(), clock.clone());
        let alarm = clock.alarm(move || {
            let deadline = rung.lock();
            if deadline.is_some_and(|deadline| deadline <= now.now()) {
                rung.hart.change_pending(STIP, 0);
            }
        });
        Self { inner, alarm }
    }

    /// Clears STIP and sets it again when `deadline` has passed.
    pub(super) fn set(&self, deadline: Option<u64>) {
        let mut current = self.inner.lock();
        *current = deadline;
        self.inner.hart.change_pending(0, STIP);
        // The alarm may ring here and now, and then takes the lock.
        drop(current);
        self.alarm.set(deadline);
    }

    /// What was set last.
    pub(super) fn deadline(&self) -> Option<u64> {
        *self.inner.lock()
    }
}
