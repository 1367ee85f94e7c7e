//! System suspension (§13): the last hart that runs goes to sleep until an interrupt wakes it, as a clock's alarm or a
//! key on the console. Memory keeps what it has; devices are the guest's to quieten.

use cpu::Hart;
use sbi_spec::binary::SbiRet;
use sbi_spec::susp::SUSPEND;

use super::hsm::{self, State};
use super::{Outcome, Reply, Sbi};

/// The sleep type that is there: suspend to RAM.
const SUSPEND_TO_RAM: u32 = 0;

pub(super) fn call(sbi: &Sbi, hart: &mut Hart, function: usize, [kind, address, opaque, ..]: [u64; 6]) -> Reply {
    if function != SUSPEND {
        return SbiRet::not_supported().into();
    }
    let Some(own) = sbi.own(hart) else { return SbiRet::failed().into() };
    // The type is 32 bits wide; callers sign-extend it or not.
    if kind as u32 != SUSPEND_TO_RAM {
        return SbiRet::invalid_param().into();
    }
    let Some(entry) = hsm::entry(hart, address, opaque) else {
        return SbiRet::invalid_address().into();
    };
    let others = sbi.harts.iter().filter(|other| other.shared.id() != hart.shared().id());
    if !others.into_iter().all(|other| other.lock().hsm == State::Stopped) {
        return SbiRet::denied().into();
    }
    own.lock().hsm = State::Suspended(Some(entry));
    Reply::without_return(Outcome::Rest)
}
