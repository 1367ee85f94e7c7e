//! Where an access of a region goes that has missed its run: for loads and for stores, alone or several that share a
//! check.
//!
//! They are told of the access among the hart's arguments, as services are, and preserve all registers. Where the TLB
//! has the page, they put it into the range entry where that may move, and make the access, or answer with the host's
//! address of the first byte that the accesses share. All else is the services'. A program whose data lies about in many
//! pages comes here at every twentieth access, so these are written by hand; on other hosts Cranelift makes the same of
//! `super::super::miss`.

use bus::{PAGE_SIZE, Width};

use super::HART;
use super::assembler::{
    Alu, Assembler, Condition, Label, Memory, Operand, R10, R11, RAX, RCX, RDX, Register, Shift, at,
};
use super::routines::{argument, delta, find_slot, probe, service};
use crate::isa::{Cond, Extend};
use crate::jit::runtime::AccessCode;
use crate::jit::state::{Service, offset};
use crate::jit::translate::PAGE;
use crate::ranges::{ASKED, MOVABLE, Range};

/// The first byte of the access, or of those that share the check.
const FIRST: Register = RAX;
/// How many bytes there are from it on.
const SPAN: Register = RCX;
/// Where the TLB has its page, then what leads to the host's address.
const DELTA: Register = RDX;
/// The range entry.
const ENTRY: Register = R10;
const SCRATCH: Register = R11;

const SAVED: [Register; 5] = [FIRST, SPAN, DELTA, ENTRY, SCRATCH];

/// All of them. Where accesses are logged, services make them all.
pub(super) fn misses(logs: bool) -> [(Service, Vec<u8>); 4] {
    [
        (Service::Load, miss(false, false, Service::LoadSlowly, logs)),
        (Service::Store, miss(true, false, Service::StoreSlowly, logs)),
        (Service::LoadRun, miss(false, true, Service::LoadRunSlowly, logs)),
        (Service::StoreRun, miss(true, true, Service::StoreRunSlowly, logs)),
    ]
}

fn miss(store: bool, shared: bool, slowly: Service, logs: bool) -> Vec<u8> {
    let mut a = Assembler::default();
    if logs {
        a.jump_to(service(slowly));
        return a.finish();
    }
    let (slow, access) = (a.label(), a.label());
    SAVED.iter().for_each(|register| a.push(*register));
    a.load(FIRST, at(HART, argument(0)), Width::Double, Extend::Zero);
    if shared {
        a.load(SCRATCH, at(HART, argument(1)), Width::Word, Extend::Zero);
        a.shift_by(Shift::Right, SCRATCH, AccessCode::DISTANCE as u8);
        a.alu(Alu::Sub, FIRST, Operand::Register(SCRATCH));
    }
    load_span(&mut a, shared);
    // Entries' numbers count from one. An access without has asked the TLB itself.
    a.load(ENTRY, at(HART, argument(1) + (AccessCode::RANGE / 8) as i32), Width::Word, Extend::Zero);
    a.mask_word(ENTRY, AccessCode::RANGES as i32);
    a.jump_if(Condition::Is(Cond::Eq), slow);
    a.shift_by(Shift::Left, ENTRY, size_of::<Range>().trailing_zeros() as u8);
    a.alu(Alu::Add, ENTRY, Operand::Register(HART));
    a.count_down(field(offset::RANGE_PATIENCE));
    a.jump_if(Condition::Negative, slow);
    find_slot(&mut a, DELTA, FIRST);
    a.address(SCRATCH, at(FIRST, -1).plus(SPAN));
    probe(&mut a, DELTA, SCRATCH, store, slow);
    a.load(DELTA, delta(DELTA, store), Width::Double, Extend::Zero);
    if shared {
        a.address(SCRATCH, at(FIRST, 0).plus(DELTA));
        a.store(at(HART, offset::OUTCOME), SCRATCH, Width::Double);
    }
    take_page(&mut a, store, shared, access);
    a.place(access);
    if shared {
        leave(&mut a);
    } else {
        make_access(&mut a, store);
    }
    a.place(slow);
    restore(&mut a);
    a.jump_to(service(slowly));
    a.finish()
}

/// A field of the entry.
fn field(offset: i32) -> Memory {
    at(ENTRY, offset::RANGES - size_of::<Range>() as i32 + offset)
}

fn load_span(a: &mut Assembler, shared: bool) {
    const { assert!(AccessCode::WIDTH == 0xff && AccessCode::SPAN == 8, "a byte has the width, what follows the span") };
    if shared {
        a.load(SPAN, at(HART, argument(1) + (AccessCode::SPAN / 8) as i32), Width::Half, Extend::Zero);
        a.mask_word(SPAN, AccessCode::FIELD as i32);
    } else {
        a.load(SPAN, at(HART, argument(1)), Width::Byte, Extend::Zero);
    }
}

/// Puts the page into the entry, if the access may do so and the entry may move; else goes on.
fn take_page(a: &mut Assembler, store: bool, shared: bool, on: Label) {
    a.compare_with_zero(at(HART, argument(1)));
    a.jump_if(Condition::Is(Cond::Ge), on);
    a.load(SCRATCH, field(offset::RANGE_FLAGS), Width::Half, Extend::Zero);
    if store {
        // The page that the entry leaves is to be the TLB's, too, where others may ask for it.
        let take = a.label();
        a.mask_word(SCRATCH, i32::from(MOVABLE | ASKED));
        a.alu(Alu::Cmp, SCRATCH, Operand::Immediate(MOVABLE.into()));
        a.jump_if(Condition::Is(Cond::Eq), take);
        a.jump_if(Condition::Is(Cond::Lt), on);
        a.alu(Alu::Cmp, SCRATCH, Operand::Immediate(ASKED.into()));
        a.jump_if(Condition::Is(Cond::Eq), on);
        let slot = SPAN;
        a.load(SCRATCH, field(offset::RANGE_BASE), Width::Double, Extend::Zero);
        find_slot(a, slot, SCRATCH);
        probe(a, slot, SCRATCH, store, on);
        a.load(slot, delta(slot, store), Width::Double, Extend::Zero);
        a.alu(Alu::Cmp, slot, Operand::Memory(field(offset::RANGE_DELTA)));
        a.jump_if(Condition::Is(Cond::Ne), on);
        load_span(a, shared);
        a.place(take);
    } else {
        a.mask_word(SCRATCH, MOVABLE.into());
        a.jump_if(Condition::Is(Cond::Eq), on);
    }
    a.copy(SCRATCH, FIRST);
    a.alu(Alu::And, SCRATCH, Operand::Immediate(PAGE as i32));
    a.store(field(offset::RANGE_BASE), SCRATCH, Width::Double);
    a.constant(SCRATCH, PAGE_SIZE as i64 + 1);
    a.alu(Alu::Sub, SCRATCH, Operand::Register(SPAN));
    a.store(field(offset::RANGE_LIMIT), SCRATCH, Width::Double);
    a.store(field(offset::RANGE_DELTA), DELTA, Width::Double);
    a.store(at(HART, offset::RANGES_MOVED), SCRATCH, Width::Double);
}

/// Makes the access, and goes back.
fn make_access(a: &mut Assembler, store: bool) {
    let place = at(FIRST, 0).plus(DELTA);
    let (width, value) = (SPAN, SCRATCH);
    load_span(a, false);
    if store {
        a.load(value, at(HART, argument(2)), Width::Double, Extend::Zero);
    }
    for this in [Width::Double, Width::Word, Width::Byte, Width::Half] {
        let next = a.label();
        if this != Width::Half {
            a.alu(Alu::Cmp, width, Operand::Immediate(this.bytes() as i32));
            a.jump_if(Condition::Is(Cond::Ne), next);
        }
        if store {
            a.store(place, value, this);
        } else {
            a.load(value, place, this, Extend::Zero);
            a.store(at(HART, offset::OUTCOME), value, Width::Double);
        }
        a.store_constant(at(HART, offset::TRAPPED), 0);
        leave(a);
        a.place(next);
    }
}

fn restore(a: &mut Assembler) {
    SAVED.iter().rev().for_each(|register| a.pop(*register));
}

fn leave(a: &mut Assembler) {
    restore(a);
    a.ret();
}
