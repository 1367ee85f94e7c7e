//! The remote fence extension (§8). The hypervisor's fences are not supported: harts have no H extension.

use cpu::{Hart, Request};
use sbi_spec::binary::SbiRet;
use sbi_spec::pmu::firmware_event::{
    FENCE_I_RECEIVED, FENCE_I_SENT, SFENCE_VMA_ASID_RECEIVED, SFENCE_VMA_ASID_SENT, SFENCE_VMA_RECEIVED,
    SFENCE_VMA_SENT,
};
use sbi_spec::rfnc::{REMOTE_FENCE_I, REMOTE_SFENCE_VMA, REMOTE_SFENCE_VMA_ASID};

use super::{Fence, Outcome, Reply, Sbi, SbiHart};

pub(super) fn call(sbi: &Sbi, hart: &Hart, function: usize, arguments: [u64; 6]) -> Reply {
    let [mask, base, start, size, asid, _] = arguments;
    let request = match function {
        REMOTE_FENCE_I => Request::FenceI,
        REMOTE_SFENCE_VMA => sfence_vma(start, size, None),
        REMOTE_SFENCE_VMA_ASID => sfence_vma(start, size, Some(asid)),
        _ => return SbiRet::not_supported().into(),
    };
    match sbi.hart_set(mask, base) {
        Err(error) => error.into(),
        Ok(harts) => {
            if let Some(own) = sbi.own(hart) {
                own.count(events(request).0);
            }
            Reply { registers: Some(SbiRet::success(0)), outcome: post(harts, request) }
        }
    }
}

/// A fence over `start..start + size`, which is everything for 0 and 0, for the largest size, and where it would wrap.
pub(super) fn sfence_vma(start: u64, size: u64, asid: Option<u64>) -> Request {
    let everything = start == 0 && size == 0 || start.checked_add(size).is_none();
    let (start, size) = if everything { (0, u64::MAX) } else { (start, size) };
    // `sfence.vma` ignores the bits of its operand above the sixteen of an ASID.
    Request::SfenceVma { start, size, asid: asid.map(|asid| asid as u16) }
}

/// The firmware events of sending and of receiving a request.
fn events(request: Request) -> (usize, usize) {
    match request {
        Request::FenceI => (FENCE_I_SENT, FENCE_I_RECEIVED),
        Request::SfenceVma { asid: None, .. } => (SFENCE_VMA_SENT, SFENCE_VMA_RECEIVED),
        Request::SfenceVma { asid: Some(_), .. } => (SFENCE_VMA_ASID_SENT, SFENCE_VMA_ASID_RECEIVED),
    }
}

/// Asks `targets` for a fence. A hart that is stopped has nothing to forget: it starts without translations.
pub(super) fn post<'a>(targets: impl Iterator<Item = &'a SbiHart>, request: Request) -> Outcome {
    let mut fence = Fence::new();
    for target in targets {
        if target.lock().hsm.is_available() {
            fence.post(&target.shared, request);
            target.count(events(request).1);
        }
    }
    Outcome::Fence(fence)
}
