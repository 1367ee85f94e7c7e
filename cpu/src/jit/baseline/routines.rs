//! What baseline code and regions call and jump to: made once, found by the hart as services are.
//!
//! Those of baseline code are told where they were called from in `r11` (the place in the page, and above [`COUNT_SHIFT`] how many
//! instructions of the block are done), may change `rax`, `rdx` and `r10`, and where an access traps they leave with that
//! place instead of going back.

use bus::{PAGE_SIZE, Width};

use super::assembler::{
    Alu, Assembler, Condition, Label, Memory, Operand, R10, R11, RAX, RDX, RSI, RSP, Register, Shift, at,
};
use super::misses::misses;
use super::{HART, LEFT, PAGE_BASE, by_width};
use crate::isa::{Cond, Extend};
use crate::jit::runtime::AccessCode;
use crate::jit::state::{Service, offset};
use crate::jit::translate::{PAGE, result};
use crate::tlb;

/// In `r11`, the count is above the place.
pub(super) const COUNT_SHIFT: u8 = 16;

/// Where a routine for a load of a width is: with the address in `rax`, answers with an address of the host in `rax` where the
/// value is.
pub(super) fn load(width: Width) -> Service {
    [Service::BaselineLoadByte, Service::BaselineLoadHalf, Service::BaselineLoadWord, Service::BaselineLoadDouble]
        [by_width(width)]
}

/// Where a routine for a store of a width is: with the address in `rax` and the value among the arguments (place 2),
/// answers with an address of the host in `rax` where the value may go.
pub(super) fn store(width: Width) -> Service {
    [Service::BaselineStoreByte, Service::BaselineStoreHalf, Service::BaselineStoreWord, Service::BaselineStoreDouble]
        [by_width(width)]
}

/// Where a routine for accesses that share a check is: with the address of their first byte in `rax` and, in `rdx`, the
/// distances of the last ([`run_word`]) and of the first access, answers with the host's address in `rax`.
pub(super) fn run(store: bool) -> Service {
    if store { Service::BaselineStoreRun } else { Service::BaselineLoadRun }
}

/// What such a routine is told in `rdx`: how many bytes accesses cover together, and how far the first is from the first of
/// these.
pub(super) fn run_word(span: i64, distance: i64) -> i64 {
    (span - 1) | distance << 16
}

/// All of them. Where accesses are logged, services make them all, and log them.
pub(in crate::jit) fn routines(logs: bool) -> Vec<(Service, Vec<u8>)> {
    let mut made = Vec::new();
    for width in Width::ALL {
        made.push((load(width), access(width, false, logs)));
        made.push((store(width), access(width, true, logs)));
    }
    made.push((run(false), shared(false)));
    made.push((run(true), shared(true)));
    made.extend(misses(logs));
    made.push((Service::BaselineEnter, enter()));
    made.push((Service::BaselineTrap, leave_at_place(result::TRAP)));
    made.push((Service::BaselineInterpret, leave_at_place(result::INTERPRET)));
    made.push((Service::BaselineContinue, leave_at_place(result::CONTINUE)));
    made
}

/// A word of the hart's.
pub(super) fn argument(place: usize) -> i32 {
    offset::ARGUMENTS + 8 * place as i32
}

/// A service or routine, for calls and jumps.
pub(super) fn service(service: Service) -> Memory {
    at(HART, offset::SERVICES + 8 * service as i32)
}

/// Has `slot` be where the TLB has the page of the address in a register, as a distance from the hart.
pub(super) fn find_slot(a: &mut Assembler, slot: Register, address: Register) {
    const ENTRY_SIZE: u64 = size_of::<tlb::Entry>() as u64;
    a.copy(slot, address);
    a.shift_by(Shift::Right, slot, 12 - ENTRY_SIZE.trailing_zeros() as u8);
    a.mask_word(slot, ((tlb::ENTRIES as u64 - 1) * ENTRY_SIZE) as i32);
}

/// Goes to `miss` unless the slot has the page of the last byte of an access, whose address is in `tag`: in another page
/// than the first it has another slot.
pub(super) fn probe(a: &mut Assembler, slot: Register, tag: Register, store: bool, miss: Label) {
    a.alu(Alu::And, tag, Operand::Immediate(PAGE as i32));
    a.alu(Alu::Or, tag, Operand::Memory(at(HART, offset::DATA_CONTEXT)));
    a.alu(Alu::Cmp, tag, Operand::Memory(at(HART, table(store) + offset::ENTRY_TAG).plus(slot)));
    a.jump_if(Condition::Is(Cond::Ne), miss);
}

/// What leads from an address in the slot's page to the host's.
pub(super) fn delta(slot: Register, store: bool) -> Memory {
    at(HART, table(store) + offset::ENTRY_DELTA).plus(slot)
}

fn table(store: bool) -> i32 {
    if store { offset::WRITE_TLB } else { offset::READ_TLB }
}

/// Probes likewise; adds what leads from `address` to the host's.
pub(super) fn check(a: &mut Assembler, slot: Register, tag: Register, address: Register, store: bool, miss: Label) {
    probe(a, slot, tag, store, miss);
    a.alu(Alu::Add, address, Operand::Memory(delta(slot, store)));
}

fn access(width: Width, store: bool, logs: bool) -> Vec<u8> {
    let mut a = Assembler::default();
    if !logs {
        let miss = a.label();
        find_slot(&mut a, R10, RAX);
        a.address(RDX, at(RAX, width.bytes() as i32 - 1));
        check(&mut a, R10, RDX, RAX, store, miss);
        a.ret();
        a.place(miss);
    }
    let word = AccessCode { width, range: None, takes: false }.word();
    a.store(at(HART, argument(0)), RAX, Width::Double);
    a.store_constant(at(HART, argument(1)), word as i32);
    // The call that led here has aligned the stack.
    a.call(service(if store { Service::StoreSlowly } else { Service::LoadSlowly }));
    leave_if_trapped(&mut a);
    // A value that has been stored may go anywhere once more.
    a.address(RAX, at(HART, if store { offset::DISCARDED } else { offset::OUTCOME }));
    a.ret();
    a.finish()
}

fn shared(store: bool) -> Vec<u8> {
    let mut a = Assembler::default();
    let (miss, none) = (a.label(), a.label());
    a.store(at(HART, argument(1)), RDX, Width::Double);
    a.extend(R10, RDX, Width::Half, Extend::Zero);
    a.alu(Alu::Add, R10, Operand::Register(RAX));
    find_slot(&mut a, RDX, RAX);
    check(&mut a, RDX, R10, RAX, store, miss);
    a.ret();
    a.place(miss);
    a.store(at(HART, argument(0)), RAX, Width::Double);
    a.store_constant(at(HART, argument(2)), store.into());
    a.call(service(Service::Run));
    leave_if_trapped(&mut a);
    a.load(RAX, at(HART, offset::OUTCOME), Width::Double, Extend::Zero);
    a.test(RAX);
    a.jump_if(Condition::Is(Cond::Eq), none);
    a.ret();
    a.place(none);
    a.address(RSP, at(RSP, 8));
    a.jump_to(service(Service::BaselineInterpret));
    a.finish()
}

fn leave_if_trapped(a: &mut Assembler) {
    let on = a.label();
    a.compare_with_zero(at(HART, offset::TRAPPED));
    a.jump_if(Condition::Is(Cond::Eq), on);
    a.address(RSP, at(RSP, 8));
    a.jump_to(service(Service::BaselineTrap));
    a.place(on);
}

/// Goes to `wanted` if the engine is.
pub(super) fn poll(a: &mut Assembler, wanted: Label) {
    a.test(LEFT);
    a.jump_if(Condition::Negative, wanted);
    a.load(RAX, at(HART, offset::EVENT), Width::Double, Extend::Zero);
    a.compare_word_with_zero(at(RAX, 0));
    a.jump_if(Condition::Is(Cond::Ne), wanted);
}

/// Called where others come in, who bring the address in `rsi`: leaves if the engine is wanted, else makes it that of the
/// page.
fn enter() -> Vec<u8> {
    let mut a = Assembler::default();
    let wanted = a.label();
    poll(&mut a, wanted);
    a.alu(Alu::And, PAGE_BASE, Operand::Immediate(-(PAGE_SIZE as i32)));
    a.ret();
    a.place(wanted);
    a.address(RSP, at(RSP, 8));
    leave(&mut a, result::CONTINUE);
    a.finish()
}

/// Leaves to the engine at the place in `r11`.
fn leave_at_place(code: i64) -> Vec<u8> {
    let mut a = Assembler::default();
    a.extend(RDX, R11, Width::Half, Extend::Zero);
    a.alu(Alu::Add, RSI, Operand::Register(RDX));
    a.shift_by(Shift::Right, R11, COUNT_SHIFT);
    a.alu(Alu::Sub, LEFT, Operand::Register(R11));
    leave(&mut a, code);
    a.finish()
}

fn leave(a: &mut Assembler, code: i64) {
    a.store(at(HART, offset::PC), RSI, Width::Double);
    a.store(at(HART, offset::LEFT), LEFT, Width::Double);
    a.constant(RAX, code);
    a.ret();
}
