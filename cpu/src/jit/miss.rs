//! Where an access goes that has missed its run: functions that all regions share, for loads and for stores, alone or
//! several that share a check.
//!
//! They are told of the access in the hart's [`super::state::State::arguments`], as a service is, and preserve all
//! registers. Where the TLB has the page, they put it into the range entry where that may move, and make the access, or
//! answer with the host's address of the first byte that the accesses share. All else is the services'. Once outlined,
//! this is a third less code to compile for each region.

use bus::Width;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::types::{I16, I32, I64};
use cranelift_codegen::ir::{Block as Label, Function, InstBuilder, Value};
use cranelift_codegen::isa::TargetIsa;
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};

use super::log;
use super::runtime::AccessCode;
use super::state::{Service, offset};
use super::translate::{Memory, PAGE, memory_type, probe_tlb, service_signature};
use crate::lockstep::{Kind, Logged};
use crate::ranges::{ASKED, MOVABLE, Range};

/// The services that are made here.
pub(super) const MISSES: [Service; 4] = [Service::Load, Service::Store, Service::LoadRun, Service::StoreRun];

/// The function for one of them.
pub(super) fn miss_function(
    isa: &dyn TargetIsa,
    context: &mut FunctionBuilderContext,
    service: Service,
    logs: bool,
) -> Function {
    let (store, shared, slowly) = match service {
        Service::LoadRun => (false, true, Service::LoadRunSlowly),
        Service::StoreRun => (true, true, Service::StoreRunSlowly),
        Service::Store => (true, false, Service::StoreSlowly),
        _ => (false, false, Service::LoadSlowly),
    };
    let mut function = Function::with_name_signature(Default::default(), service_signature(isa));
    let memory = Memory::new(&mut function);
    let mut b = FunctionBuilder::new(&mut function, context);
    let signature = b.import_signature(service_signature(isa));
    let start = b.create_block();
    b.append_block_params_for_function_params(start);
    b.switch_to_block(start);
    let hart = b.block_params(start)[0];
    let slow = b.create_block();
    b.set_cold_block(slow);
    let argument =
        |b: &mut FunctionBuilder, place: i32| b.ins().load(I64, memory.hart, hart, offset::ARGUMENTS + 8 * place);
    let field = |b: &mut FunctionBuilder, word: Value, shift: u32| {
        let shifted = b.ins().ushr_imm_u(word, i64::from(shift));
        b.ins().band_imm_s(shifted, AccessCode::FIELD)
    };
    let on = |b: &mut FunctionBuilder, condition: Value, then: Label, otherwise: Label| {
        b.ins().brif(condition, then, [], otherwise, []);
        b.switch_to_block(then);
    };

    let (address, word) = (argument(&mut b, 0), argument(&mut b, 1));
    let (span, distance) = (field(&mut b, word, AccessCode::SPAN), field(&mut b, word, AccessCode::DISTANCE));
    let first = b.ins().isub(address, distance);
    let place = b.ins().band_imm_s(first, !PAGE);
    let end = b.ins().iadd(place, span);
    let in_page = b.ins().icmp_imm_u(IntCC::UnsignedLessThanOrEqual, end, bus::PAGE_SIZE as i64);
    let (known, patient, probe) = (b.create_block(), b.create_block(), b.create_block());
    on(&mut b, in_page, known, slow);
    // Numbers of range entries count from one; none is left alone.
    let number = b.ins().ushr_imm_u(word, i64::from(AccessCode::RANGE));
    let number = b.ins().band_imm_s(number, AccessCode::RANGES);
    let distance_of_entry = b.ins().imul_imm_s(number, size_of::<Range>() as i64);
    let entry = b.ins().iadd(hart, distance_of_entry);
    let at = offset::RANGES - size_of::<Range>() as i32;
    on(&mut b, number, patient, probe);
    let patience = b.ins().load(I32, memory.tlb, entry, at + offset::RANGE_PATIENCE);
    let less = b.ins().iadd_imm_s(patience, -1);
    b.ins().store(memory.tlb, less, entry, at + offset::RANGE_PATIENCE);
    let more = b.ins().icmp_imm_s(IntCC::SignedGreaterThan, patience, 0);
    b.ins().brif(more, probe, [], slow, []);

    b.switch_to_block(probe);
    let table = if store { offset::WRITE_TLB } else { offset::READ_TLB };
    let (hit, slot) = probe_tlb(&mut b, memory, hart, first, Width::Byte, table);
    let (found, movable, take, access) = (b.create_block(), b.create_block(), b.create_block(), b.create_block());
    on(&mut b, hit, found, slow);
    let delta = b.ins().load(I64, memory.tlb, slot, table + offset::ENTRY_DELTA);
    let host = b.ins().iadd(first, delta);
    if shared {
        b.ins().store(memory.hart, host, hart, offset::OUTCOME);
    }
    let may_take = b.ins().icmp_imm_s(IntCC::SignedLessThan, word, 0);
    on(&mut b, may_take, movable, access);
    let flags = b.ins().load(I16, memory.tlb, entry, at + offset::RANGE_FLAGS);
    let is_movable = b.ins().band_imm_s(flags, i64::from(MOVABLE));
    if !store {
        on(&mut b, is_movable, take, access);
    } else {
        // The page that the entry leaves is to be the TLB's, too, where others may ask for it.
        let (leaves, look, there) = (b.create_block(), b.create_block(), b.create_block());
        on(&mut b, is_movable, leaves, access);
        let is_asked = b.ins().band_imm_s(flags, i64::from(ASKED));
        b.ins().brif(is_asked, look, [], take, []);
        b.switch_to_block(look);
        let left = b.ins().load(I64, memory.tlb, entry, at + offset::RANGE_BASE);
        let left_delta = b.ins().load(I64, memory.tlb, entry, at + offset::RANGE_DELTA);
        let (hit, slot) = probe_tlb(&mut b, memory, hart, left, Width::Byte, table);
        on(&mut b, hit, there, access);
        let tlb_delta = b.ins().load(I64, memory.tlb, slot, table + offset::ENTRY_DELTA);
        let same = b.ins().icmp(IntCC::Equal, tlb_delta, left_delta);
        on(&mut b, same, take, access);
    }
    let page = b.ins().band_imm_s(first, PAGE);
    let most = b.ins().iconst(I64, bus::PAGE_SIZE as i64 + 1);
    let limit = b.ins().isub(most, span);
    b.ins().store(memory.tlb, page, entry, at + offset::RANGE_BASE);
    b.ins().store(memory.tlb, limit, entry, at + offset::RANGE_LIMIT);
    b.ins().store(memory.tlb, delta, entry, at + offset::RANGE_DELTA);
    b.ins().store(memory.hart, limit, hart, offset::RANGES_MOVED);
    b.ins().jump(access, []);

    b.switch_to_block(access);
    if shared {
        b.ins().return_(&[]);
    } else {
        make_access(&mut b, memory, hart, store, [address, word, host], logs);
    }

    b.switch_to_block(slow);
    let code = b.ins().load(I64, memory.hart.with_readonly(), hart, offset::SERVICES + 8 * slowly as i32);
    b.ins().call_indirect(signature, code, &[hart]);
    b.ins().return_(&[]);
    b.seal_all_blocks();
    b.finalize(isa.frontend_config());
    function
}

/// Makes the access to a virtual address that `word` tells of at the host's address, and returns.
fn make_access(
    b: &mut FunctionBuilder,
    memory: Memory,
    hart: Value,
    store: bool,
    [address, word, host]: [Value; 3],
    logs: bool,
) {
    let done = b.create_block();
    let value = store.then(|| b.ins().load(I64, memory.hart, hart, offset::ARGUMENTS + 16));
    let access = |b: &mut FunctionBuilder, width: Width| {
        let t = memory_type(width);
        let kind = if store { Kind::Store } else { Kind::Load };
        let value = match value {
            Some(value) => {
                let narrow = if t == I64 { value } else { b.ins().ireduce(t, value) };
                b.ins().store(memory.guest, narrow, host, 0);
                value
            }
            None => {
                let value = b.ins().load(t, memory.guest, host, 0);
                let wide = if t == I64 { value } else { b.ins().uextend(I64, value) };
                b.ins().store(memory.hart, wide, hart, offset::OUTCOME);
                wide
            }
        };
        if logs {
            let what = b.ins().iconst(I64, Logged::what(kind, width) as i64);
            log::emit(b, memory, hart, what, [address, host, value]);
        }
    };
    for width in [Width::Double, Width::Word, Width::Byte] {
        let (this, next) = (b.create_block(), b.create_block());
        let bytes = b.ins().band_imm_s(word, AccessCode::WIDTH);
        let is_this = b.ins().icmp_imm_s(IntCC::Equal, bytes, width.bytes() as i64);
        b.ins().brif(is_this, this, [], next, []);
        b.switch_to_block(this);
        access(b, width);
        b.ins().jump(done, []);
        b.switch_to_block(next);
    }
    access(b, Width::Half);
    b.ins().jump(done, []);
    b.switch_to_block(done);
    let none = b.ins().iconst(I64, 0);
    b.ins().store(memory.hart, none, hart, offset::TRAPPED);
    b.ins().return_(&[]);
}
