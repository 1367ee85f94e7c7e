//! The services that translated code calls where it does not do the work itself: memory accesses that the TLB does not
//! cover, helpers, exact floating point.
//!
//! A panic may not unwind through translated code, which has no unwind tables: each service catches it, makes the code
//! leave as for a trap, and the engine resumes it. Services run with the host's default floating-point environment;
//! the flags that the guest's operations have left there are kept.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bus::Width;

use super::host;
use super::state::{CallSite, FloatSite, RESERVE, SERVICES, Service};
use super::translate::result;
use crate::isa::{AmoOp, Ops};
use crate::block::CodeContext;
use crate::operations::carryless_product;
use crate::{Hart, Trapped};

const AMO_OPS: [AmoOp; 9] = [
    AmoOp::Swap,
    AmoOp::Add,
    AmoOp::Xor,
    AmoOp::And,
    AmoOp::Or,
    AmoOp::Min,
    AmoOp::Max,
    AmoOp::Minu,
    AmoOp::Maxu,
];

/// An AMO's operation and width as one number.
pub(super) fn amo_code(op: AmoOp, width: Width) -> u64 {
    (op as u64) << 8 | width.bytes()
}

fn width(bytes: u64) -> Width {
    match bytes & 0xff {
        1 => Width::Byte,
        2 => Width::Half,
        4 => Width::Word,
        _ => Width::Double,
    }
}

/// Lends the hart to a service.
fn with(hart: *mut Hart, service: impl FnOnce(&mut Hart) -> Result<u64, Trapped>) -> u64 {
    // SAFETY: translated code passes the pointer that the engine entered it with, made from the engine's exclusive
    // reference, which is not used until the code returns; the code itself does not touch the hart while it waits for
    // this call.
    let hart = unsafe { &mut *hart };
    let flags = host::save_flags();
    let outcome = catch_unwind(AssertUnwindSafe(|| service(&mut *hart)));
    host::restore_flags(flags);
    let outcome = outcome.unwrap_or_else(|panic| {
        hart.jit.panic = Some(panic);
        Err(Trapped(()))
    });
    hart.jit.trapped = outcome.is_err().into();
    outcome.unwrap_or(0)
}

extern "C" fn load(hart: *mut Hart, address: u64, bytes: u64) -> u64 {
    with(hart, |hart| {
        hart.jit.slow_accesses += 1;
        hart.load_virtual(address, width(bytes))
    })
}

extern "C" fn store(hart: *mut Hart, address: u64, bytes: u64, value: u64) -> u64 {
    with(hart, |hart| {
        hart.jit.slow_accesses += 1;
        hart.store_virtual(address, width(bytes), value).map(|()| 0)
    })
}

extern "C" fn amo(hart: *mut Hart, address: u64, code: u64, value: u64) -> u64 {
    with(hart, |hart| {
        hart.jit.slow_accesses += 1;
        let op = AMO_OPS[(code >> 8) as usize % AMO_OPS.len()];
        hart.amo_virtual(op, address, width(code), value)
    })
}

extern "C" fn compare_and_swap(hart: *mut Hart, address: u64, bytes: u64, expected: u64, new: u64) -> u64 {
    with(hart, |hart| {
        hart.jit.slow_accesses += 1;
        hart.compare_and_swap_virtual(address, width(bytes), expected, new)
    })
}

extern "C" fn load_reserved(hart: *mut Hart, address: u64, bytes: u64) -> u64 {
    with(hart, |hart| hart.load_reserved_virtual(address, width(bytes)))
}

extern "C" fn store_conditional(hart: *mut Hart, address: u64, bytes: u64, value: u64) -> u64 {
    with(hart, |hart| hart.store_conditional_virtual(address, width(bytes), value))
}

impl Hart {
    /// The count of retired instructions from what translated code has left.
    pub(super) fn settle_retired(&mut self) {
        self.counts.retired = self.jit.end.wrapping_sub((self.jit.left + RESERVE) as u64);
    }
}

/// Runs a helper. Zero if the code may go on behind the instruction, with nothing changed that it relies on.
extern "C" fn call(hart: *mut Hart, site: *const CallSite, pc: u64) -> u64 {
    // SAFETY: the site belongs to the region that calls, whose memory is kept while a hart is in it.
    let site = unsafe { &*site };
    let mut outcome = result::TRAP;
    // The helper may read the flags, or replace them.
    let flags = host::take_flags();
    with(hart, |hart| {
        hart.settle_retired();
        hart.jit.helped += 1;
        hart.accrue_float_flags(flags.guest());
        hart.block_pc = pc;
        hart.pc = pc;
        let context = CodeContext::of(hart);
        // The helper sees every older instruction as retired, and this one as the first of its block.
        Ops::call(hart, &site.insn, site.helper)?;
        hart.pc = hart.next_pc;
        let retired = hart.counts.retired.wrapping_add(1);
        hart.jit.left = hart.jit.end.wrapping_sub(retired) as i64 - RESERVE;
        let next = pc.wrapping_add(site.insn.length());
        let unchanged = hart.next_pc == next
            && hart.stop.is_none()
            && hart.shared().events() == 0
            && CodeContext::of(hart) == context;
        outcome = if unchanged { result::CONTINUE } else { result::EXIT };
        Ok(0)
    });
    outcome as u64
}

extern "C" fn float(hart: *mut Hart, site: *const FloatSite, a: u64, b: u64, c: u64) -> u64 {
    // SAFETY: as for `call`.
    let site = unsafe { &*site };
    with(hart, |hart| {
        hart.jit.helped += 1;
        Ok(hart.float(&site.insn, site.op, site.format, [a, b, c]))
    })
}

extern "C" fn carryless_low(a: u64, b: u64) -> u64 {
    carryless_product(a, b) as u64
}

extern "C" fn carryless_high(a: u64, b: u64) -> u64 {
    (carryless_product(a, b) >> 64) as u64
}

/// The addresses of the services, by number.
pub(super) fn services() -> [u64; SERVICES] {
    let mut services = [0; SERVICES];
    let mut set = |service: Service, address: *const ()| services[service as usize] = address as u64;
    set(Service::Load, load as *const ());
    set(Service::Store, store as *const ());
    set(Service::Amo, amo as *const ());
    set(Service::CompareAndSwap, compare_and_swap as *const ());
    set(Service::LoadReserved, load_reserved as *const ());
    set(Service::StoreConditional, store_conditional as *const ());
    set(Service::Call, call as *const ());
    set(Service::Float, float as *const ());
    set(Service::CarrylessLow, carryless_low as *const ());
    set(Service::CarrylessHigh, carryless_high as *const ());
    services
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amo_codes_round_trip() {
        for op in AMO_OPS {
            for w in Width::ALL {
                let code = amo_code(op, w);
                assert_eq!((AMO_OPS[(code >> 8) as usize], width(code)), (op, w));
            }
        }
    }
}
