//! The legacy extensions (§5): one number each, no function number, and an answer in a0 alone.

use bus::{PowerRequest, Width};
use cpu::{Fault, Hart, Request};
use sbi_spec::legacy::{
    LEGACY_CLEAR_IPI, LEGACY_CONSOLE_GETCHAR, LEGACY_CONSOLE_PUTCHAR, LEGACY_REMOTE_FENCE_I, LEGACY_REMOTE_SFENCE_VMA,
    LEGACY_REMOTE_SFENCE_VMA_ASID, LEGACY_SEND_IPI, LEGACY_SET_TIMER, LEGACY_SHUTDOWN,
};

use super::{Outcome, Sbi, SbiHart, handover, ipi, retry, rfence, time};

/// What a legacy extension answers.
pub(super) struct Reply {
    /// `None` where the call does not return, or not yet.
    pub(super) a0: Option<u64>,
    pub(super) outcome: Outcome,
}

impl Reply {
    fn value(a0: u64) -> Self {
        Self { a0: Some(a0), outcome: Outcome::Continue }
    }

    fn without_return(outcome: Outcome) -> Self {
        Self { a0: None, outcome }
    }
}

/// Answers a call if `extension` is one of the legacy ones.
pub(super) fn call(sbi: &Sbi, hart: &mut Hart, extension: u64, arguments: [u64; 6]) -> Option<Reply> {
    let [first, start, size, asid, ..] = arguments;
    Some(match usize::try_from(extension).ok()? {
        LEGACY_SET_TIMER => {
            time::set_timer(sbi, hart, first);
            Reply::value(0)
        }
        LEGACY_CONSOLE_PUTCHAR => match sbi.console.write(&[first as u8]) {
            0 => Reply::without_return(retry(hart)),
            _ => Reply::value(0),
        },
        LEGACY_CONSOLE_GETCHAR => {
            let mut byte = [0];
            match sbi.console.read(&mut byte) {
                0 => Reply::value(u64::MAX),
                _ => Reply::value(byte[0].into()),
            }
        }
        LEGACY_CLEAR_IPI => Reply::value(sbi.own(hart).is_some_and(ipi::clear).into()),
        LEGACY_SEND_IPI => for_harts(sbi, hart, first, |harts| {
            harts.into_iter().for_each(ipi::send);
            Outcome::Continue
        }),
        LEGACY_REMOTE_FENCE_I => for_harts(sbi, hart, first, |harts| rfence::post(harts.into_iter(), Request::FenceI)),
        LEGACY_REMOTE_SFENCE_VMA => {
            let request = rfence::sfence_vma(start, size, None);
            for_harts(sbi, hart, first, |harts| rfence::post(harts.into_iter(), request))
        }
        LEGACY_REMOTE_SFENCE_VMA_ASID => {
            let request = rfence::sfence_vma(start, size, Some(asid));
            for_harts(sbi, hart, first, |harts| rfence::post(harts.into_iter(), request))
        }
        LEGACY_SHUTDOWN => Reply::without_return(Outcome::Power(PowerRequest::Off(0))),
        _ => return None,
    })
}

/// Does `action` to the harts whose bits are set in the array of doublewords at virtual `address`; all harts if it is
/// zero, as OpenSBI reads it.
fn for_harts<'a>(
    sbi: &'a Sbi,
    hart: &mut Hart,
    address: u64,
    action: impl FnOnce(Vec<&'a SbiHart>) -> Outcome,
) -> Reply {
    if address == 0 {
        return Reply { a0: Some(0), outcome: action(sbi.harts.iter().collect()) };
    }
    let mut targets = Vec::new();
    for (index, chunk) in sbi.harts.chunks(64).enumerate() {
        let place = address.wrapping_add(8 * index as u64);
        match read_doubleword(hart, place) {
            Ok(mask) => {
                targets.extend(chunk.iter().enumerate().filter(|(bit, _)| mask >> bit & 1 != 0).map(|(_, h)| h))
            }
            Err(fault) => {
                handover::redirect_load_fault(hart, fault, place);
                return Reply::without_return(Outcome::Continue);
            }
        }
    }
    Reply { a0: Some(0), outcome: action(targets) }
}

/// Loads a doubleword at a virtual address, which may cross into another page.
fn read_doubleword(hart: &Hart, address: u64) -> Result<u64, Fault> {
    let mut value = [0; 8];
    for (index, byte) in value.iter_mut().enumerate() {
        let physical = hart.probe(address.wrapping_add(index as u64))?;
        let ram = hart.bus().ram();
        let offset = ram.offset(physical, 1).ok_or(Fault::Access)?;
        *byte = ram.load(offset, Width::Byte).ok_or(Fault::Access)? as u8;
    }
    Ok(u64::from_le_bytes(value))
}
