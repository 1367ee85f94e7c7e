//! The inter-processor interrupt extension (§7).

use cpu::{Hart, interrupt};
use sbi_spec::binary::SbiRet;
use sbi_spec::pmu::firmware_event::{IPI_RECEIVED, IPI_SENT};
use sbi_spec::spi::SEND_IPI;

use super::{Reply, Sbi, SbiHart};

const SSIP: u64 = 1 << interrupt::SSI;

pub(super) fn call(sbi: &Sbi, hart: &Hart, function: usize, arguments: [u64; 6]) -> Reply {
    if function != SEND_IPI {
        return SbiRet::not_supported().into();
    }
    match sbi.hart_set(arguments[0], arguments[1]) {
        Err(error) => error.into(),
        Ok(harts) => {
            harts.for_each(send);
            if let Some(own) = sbi.own(hart) {
                own.count(IPI_SENT);
            }
            SbiRet::success(0).into()
        }
    }
}

/// Makes the supervisor software interrupt of `target` pending, unless it is stopped: then nobody would hear it.
pub(super) fn send(target: &SbiHart) {
    if target.lock().hsm.is_available() {
        target.shared.change_pending(SSIP, 0);
        target.count(IPI_RECEIVED);
    }
}

/// Clears the interrupt of a hart; whether it was pending.
pub(super) fn clear(hart: &SbiHart) -> bool {
    let pending = hart.shared.pending() & SSIP != 0;
    hart.shared.change_pending(0, SSIP);
    pending
}
