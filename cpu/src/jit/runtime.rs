//! The services that translated code calls where it does not do the work itself: memory accesses that the TLB does not
//! cover, helpers, exact floating point.
//!
//! A panic may not unwind through translated code, which has no unwind tables: each service catches it, makes the code
//! leave as for a trap, and the engine resumes it. Services run with the host's default floating-point environment;
//! the flags that the guest's operations have left there are kept.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bus::{PAGE_SIZE, Width};

use super::host;
use super::state::{Arguments, CallSite, FloatSite, RESERVE, SERVICES, Service};
use super::translate::result;
use crate::block::CodeContext;
use crate::isa::{AmoOp, Ops};
use crate::lockstep::Kind;
use crate::mmu::Access;
use crate::operations;
use crate::ranges::UseOfViews;
use crate::{Hart, Trapped};

const AMO_OPS: [AmoOp; 9] =
    [AmoOp::Swap, AmoOp::Add, AmoOp::Xor, AmoOp::And, AmoOp::Or, AmoOp::Min, AmoOp::Max, AmoOp::Minu, AmoOp::Maxu];

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
fn with(hart: *mut Hart, service: impl FnOnce(&mut Hart, Arguments) -> Result<u64, Trapped>) {
    let flags = host::save_flags();
    lend(hart, 0, service);
    host::restore_flags(flags);
}

/// Lends the hart to a service that leaves the host's floating-point flags alone, or is to. Where that traps, the
/// answer is `trapped`.
fn lend(hart: *mut Hart, trapped: u64, service: impl FnOnce(&mut Hart, Arguments) -> Result<u64, Trapped>) {
    // SAFETY: translated code passes the pointer that the engine entered it with, made from the engine's exclusive
    // reference, which is not used until the code returns; the code itself does not touch the hart while it waits for
    // this call.
    let hart = unsafe { &mut *hart };
    let arguments = hart.jit.arguments;
    let outcome = catch_unwind(AssertUnwindSafe(|| service(&mut *hart, arguments)));
    let outcome = outcome.unwrap_or_else(|panic| {
        hart.jit.panic = Some(panic);
        Err(Trapped(()))
    });
    hart.jit.trapped = outcome.is_err().into();
    hart.jit.outcome = outcome.unwrap_or(trapped);
}

/// What a service is told of a load or a store, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AccessCode {
    pub width: Width,
    /// The range entry of the access, if it has one, and how its check is shared.
    pub range: Option<SharedCheck>,
    /// Whether a page may be put into the entry that only the address space at hand has: where accesses are U-mode's.
    pub takes: bool,
}

/// The check of accesses that share a range entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SharedCheck {
    /// Number of the entry.
    pub index: usize,
    /// Bytes that the check covers.
    pub span: u64,
    /// Distance of the access from the first of them.
    pub distance: u64,
}

impl AccessCode {
    /// Masks, and places by their lowest bits: the width in bytes; the span; the distance; the entry's number from one
    /// on, or zero; and in the sign, whether pages may be taken.
    pub const WIDTH: i64 = 0xff;
    pub const FIELD: i64 = 0xfff;
    pub const SPAN: u32 = 8;
    pub const DISTANCE: u32 = 20;
    pub const RANGE: u32 = 32;
    pub const RANGES: i64 = 0xf_ffff;
    const TAKES: u32 = 63;

    pub fn word(self) -> u64 {
        let bytes = self.width.bytes();
        let alone = SharedCheck { index: usize::MAX, span: bytes, distance: 0 };
        let SharedCheck { index, span, distance } = self.range.unwrap_or(alone);
        let number = index.wrapping_add(1) as u64;
        let takes = u64::from(self.takes && self.range.is_some());
        bytes | span << Self::SPAN | distance << Self::DISTANCE | number << Self::RANGE | takes << Self::TAKES
    }

    fn of(word: u64) -> Self {
        let number = word >> Self::RANGE & Self::RANGES as u64;
        let range = number.checked_sub(1).map(|index| SharedCheck {
            index: index as usize,
            span: word >> Self::SPAN & Self::FIELD as u64,
            distance: word >> Self::DISTANCE & Self::FIELD as u64,
        });
        Self { width: width(word), range, takes: word >> Self::TAKES != 0 }
    }
}

/// Runs of as many bytes are no better where they are views.
const LONG_RUN: u64 = 256 << 10;

/// Fills the range entry of an access to `address` that has just been made.
fn fill(hart: &mut Hart, code: AccessCode, address: u64, access: Access) {
    let Some(SharedCheck { index, span, distance }) = code.range else { return };
    if hart.tlb.ranges.wants(index) {
        let mut run = hart.run(address, access);
        if access == Access::Read && code.takes {
            let is_short = run.is_none_or(|run| run.length < LONG_RUN);
            let view = match hart.tlb.ranges.use_of_views(index) {
                UseOfViews::None => None,
                uses => is_short.then(|| hart.gathered_run(address, uses == UseOfViews::New)).flatten(),
            };
            run = view.filter(|view| run.is_none_or(|run| run.length < view.length)).or(run);
        }
        hart.tlb.ranges.fill(index, run, address.wrapping_sub(distance), span, access == Access::Write);
    }
}

extern "C" fn load(hart: *mut Hart) {
    with(hart, |hart, [address, word, ..]| {
        hart.jit.slow_accesses += 1;
        let code = AccessCode::of(word);
        let value = hart.load_virtual(address, code.width)?;
        hart.log(Kind::Load, address, code.width, value);
        fill(hart, code, address, Access::Read);
        Ok(value)
    });
}

extern "C" fn store(hart: *mut Hart) {
    with(hart, |hart, [address, word, value, ..]| {
        hart.jit.slow_accesses += 1;
        let code = AccessCode::of(word);
        hart.store_virtual(address, code.width, value)?;
        hart.log(Kind::Store, address, code.width, value);
        fill(hart, code, address, Access::Write);
        Ok(0)
    });
}

/// The host's address of the first byte of those that accesses share the check of; zero where no run has them all, or
/// somebody watches: then they go one by one, interpreted.
fn find_run(hart: &mut Hart, address: u64, word: u64, access: Access) -> Result<u64, Trapped> {
    hart.jit.slow_accesses += 1;
    let code = AccessCode::of(word);
    let Some(SharedCheck { index, span, distance }) = code.range else { return Ok(0) };
    if hart.is_watched(address, 1, access) {
        return Ok(0);
    }
    hart.data_address(address, 1, access)?;
    fill(hart, code, address, access);
    let first = address.wrapping_sub(distance);
    let in_page = first % PAGE_SIZE + span <= PAGE_SIZE;
    let run = hart.tlb.ranges.host(index, first);
    Ok(run.or_else(|| hart.host_of(first, access).filter(|_| in_page)).unwrap_or(0))
}

/// The host's address of the first byte of those that accesses of baseline code share, which are told of by the distances of
/// the last byte and, above it, of the first access; zero where they are not in one page that needs no further check.
extern "C" fn run(hart: *mut Hart) {
    with(hart, |hart, [first, distances, store, ..]| {
        hart.jit.slow_accesses += 1;
        let (last, distance) = (distances & 0xffff, distances >> 16 & 0xffff);
        let (address, access) = (first.wrapping_add(distance), if store == 0 { Access::Read } else { Access::Write });
        if hart.is_watched(address, 1, access) {
            return Ok(0);
        }
        hart.data_address(address, 1, access)?;
        let in_page = first % PAGE_SIZE + last < PAGE_SIZE;
        Ok(hart.host_of(first, access).filter(|_| in_page).unwrap_or(0))
    });
}

extern "C" fn load_run(hart: *mut Hart) {
    with(hart, |hart, [address, word, ..]| find_run(hart, address, word, Access::Read));
}

extern "C" fn store_run(hart: *mut Hart) {
    with(hart, |hart, [address, word, ..]| find_run(hart, address, word, Access::Write));
}

extern "C" fn amo(hart: *mut Hart) {
    with(hart, |hart, [address, code, value, ..]| {
        hart.jit.slow_accesses += 1;
        let op = AMO_OPS[(code >> 8) as usize % AMO_OPS.len()];
        let old = hart.amo_virtual(op, address, width(code), value)?;
        hart.log(Kind::Modify, address, width(code), old);
        Ok(old)
    });
}

extern "C" fn compare_and_swap(hart: *mut Hart) {
    with(hart, |hart, [address, bytes, expected, new, _]| {
        hart.jit.slow_accesses += 1;
        let old = hart.compare_and_swap_virtual(address, width(bytes), expected, new)?;
        hart.log(Kind::Modify, address, width(bytes), old);
        Ok(old)
    });
}

extern "C" fn compare_and_swap_pair(hart: *mut Hart) {
    with(hart, |hart, [address, expected_low, expected_high, new_low, new_high]| {
        let old = hart.compare_and_swap_pair_virtual(address, [expected_low, expected_high], [new_low, new_high])?;
        hart.jit.second_outcome = old[1];
        hart.log(Kind::Modify, address, Width::Double, old[0]);
        hart.log(Kind::Modify, address.wrapping_add(8), Width::Double, old[1]);
        Ok(old[0])
    });
}

extern "C" fn load_reserved(hart: *mut Hart) {
    with(hart, |hart, [address, bytes, ..]| {
        let value = hart.load_reserved_virtual(address, width(bytes))?;
        hart.log(Kind::Reserve, address, width(bytes), value);
        Ok(value)
    });
}

extern "C" fn store_conditional(hart: *mut Hart) {
    with(hart, |hart, [address, bytes, value, ..]| {
        let failed = hart.store_conditional_virtual(address, width(bytes), value)?;
        hart.log(Kind::Conditional, address, width(bytes), failed);
        Ok(failed)
    });
}

impl Hart {
    /// The count of retired instructions from what translated code has left.
    pub(super) fn settle_retired(&mut self) {
        self.counts.retired = self.jit.end.wrapping_sub((self.jit.left + RESERVE) as u64);
    }
}

/// Runs a helper. Zero if the code may go on behind the instruction, with nothing changed that it relies on.
extern "C" fn call(hart: *mut Hart) {
    // The helper may read the flags, or replace them.
    let flags = host::take_flags();
    lend(hart, result::TRAP as u64, |hart, [site, pc, ..]| {
        hart.settle_retired();
        hart.jit.helped += 1;
        hart.accrue_float_flags(flags.guest());
        hart.pc = pc;
        if !hart.end_step(false) {
            // The engine finds out.
            return Ok(result::EXIT as u64);
        }
        let context = CodeContext::of(hart);
        // SAFETY: the site belongs to the region that calls, whose memory is kept while a hart is in it.
        let site = unsafe { &*(site as *const CallSite) };
        // The helper sees every older instruction as retired, and this one as the first of its block.
        Ops::call(hart, &site.insn, site.helper)?;
        hart.pc = hart.next_pc;
        let retired = hart.counts.retired.wrapping_add(1);
        hart.counts.retired = retired;
        hart.jit.left = hart.jit.end.wrapping_sub(retired) as i64 - RESERVE;
        let next = pc.wrapping_add(site.insn.length());
        let unchanged = hart.next_pc == next
            && hart.stop.is_none()
            && hart.shared().events() == 0
            && hart.watched.overflow_at >= hart.jit.end
            && CodeContext::of(hart) == context;
        if unchanged {
            hart.begin_step();
        }
        Ok(if unchanged { result::CONTINUE } else { result::EXIT } as u64)
    });
}

extern "C" fn float(hart: *mut Hart) {
    with(hart, |hart, [site, a, b, c, _]| {
        hart.jit.helped += 1;
        // SAFETY: as for `call`.
        let site = unsafe { &*(site as *const FloatSite) };
        Ok(hart.float(&site.insn, site.op, site.format, [a, b, c]))
    });
}

extern "C" fn carryless_low(hart: *mut Hart) {
    with(hart, |_, [a, b, ..]| Ok(operations::carryless_low(a, b)));
}

extern "C" fn carryless_high(hart: *mut Hart) {
    with(hart, |_, [a, b, ..]| Ok(operations::carryless_high(a, b)));
}

/// The addresses of the services, by number; those of the functions that are compiled are `made`.
pub(super) fn services(made: impl IntoIterator<Item = (Service, u64)>) -> [u64; SERVICES] {
    let mut services = [0; SERVICES];
    for (service, address) in made {
        services[service as usize] = address;
    }
    let mut set = |service: Service, address: *const ()| services[service as usize] = address as u64;
    set(Service::LoadSlowly, preserving::load as *const ());
    set(Service::StoreSlowly, preserving::store as *const ());
    set(Service::LoadRunSlowly, preserving::load_run as *const ());
    set(Service::StoreRunSlowly, preserving::store_run as *const ());
    set(Service::Amo, preserving::amo as *const ());
    set(Service::CompareAndSwap, preserving::compare_and_swap as *const ());
    set(Service::CompareAndSwapPair, preserving::compare_and_swap_pair as *const ());
    set(Service::LoadReserved, preserving::load_reserved as *const ());
    set(Service::StoreConditional, preserving::store_conditional as *const ());
    set(Service::Call, preserving::call as *const ());
    set(Service::Float, preserving::float as *const ());
    set(Service::CarrylessLow, preserving::carryless_low as *const ());
    set(Service::CarrylessHigh, preserving::carryless_high as *const ());
    set(Service::AccrueFlags, host::accrue_flags as *const ());
    set(Service::Run, preserving::run as *const ());
    services
}

/// Whether the services preserve all registers, so that translated code has nothing to
/// save on its hot paths for the sake of calls on its cold ones.
pub(super) const PRESERVING: bool = cfg!(target_arch = "x86_64");

/// The services, preserving all registers but the flags.
#[cfg(target_arch = "x86_64")]
mod preserving {
    use std::arch::naked_asm;

    macro_rules! preserving {
        ($($name:ident)+) => {
            $(
                /// Saves what the service may change and calls it. The frame keeps the stack aligned to 16 bytes: the
                /// return address, the frame pointer, nine registers, sixteen vector registers, eight bytes.
                #[unsafe(naked)]
                pub(super) extern "C" fn $name() {
                    naked_asm!(
                        "push rbp",
                        "mov rbp, rsp",
                        "push rax",
                        "push rcx",
                        "push rdx",
                        "push rsi",
                        "push rdi",
                        "push r8",
                        "push r9",
                        "push r10",
                        "push r11",
                        "sub rsp, 264",
                        "movups [rsp], xmm0",
                        "movups [rsp + 16], xmm1",
                        "movups [rsp + 32], xmm2",
                        "movups [rsp + 48], xmm3",
                        "movups [rsp + 64], xmm4",
                        "movups [rsp + 80], xmm5",
                        "movups [rsp + 96], xmm6",
                        "movups [rsp + 112], xmm7",
                        "movups [rsp + 128], xmm8",
                        "movups [rsp + 144], xmm9",
                        "movups [rsp + 160], xmm10",
                        "movups [rsp + 176], xmm11",
                        "movups [rsp + 192], xmm12",
                        "movups [rsp + 208], xmm13",
                        "movups [rsp + 224], xmm14",
                        "movups [rsp + 240], xmm15",
                        "call {service}",
                        "movups xmm0, [rsp]",
                        "movups xmm1, [rsp + 16]",
                        "movups xmm2, [rsp + 32]",
                        "movups xmm3, [rsp + 48]",
                        "movups xmm4, [rsp + 64]",
                        "movups xmm5, [rsp + 80]",
                        "movups xmm6, [rsp + 96]",
                        "movups xmm7, [rsp + 112]",
                        "movups xmm8, [rsp + 128]",
                        "movups xmm9, [rsp + 144]",
                        "movups xmm10, [rsp + 160]",
                        "movups xmm11, [rsp + 176]",
                        "movups xmm12, [rsp + 192]",
                        "movups xmm13, [rsp + 208]",
                        "movups xmm14, [rsp + 224]",
                        "movups xmm15, [rsp + 240]",
                        "add rsp, 264",
                        "pop r11",
                        "pop r10",
                        "pop r9",
                        "pop r8",
                        "pop rdi",
                        "pop rsi",
                        "pop rdx",
                        "pop rcx",
                        "pop rax",
                        "pop rbp",
                        "ret",
                        service = sym super::$name,
                    );
                }
            )+
        };
    }

    preserving! {
        load store load_run store_run amo compare_and_swap compare_and_swap_pair load_reserved store_conditional call
        float carryless_low carryless_high run
    }
}

#[cfg(not(target_arch = "x86_64"))]
use self as preserving;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn access_codes_round_trip() {
        let check = SharedCheck { index: 0xffff, span: 1024, distance: 1023 };
        for range in [None, Some(check), Some(SharedCheck { index: 0, span: 1, distance: 0 })] {
            let code = AccessCode { width: Width::Double, range, takes: range.is_some() };
            assert_eq!(AccessCode::of(code.word()), code);
        }
    }

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
