//! Translated code's side of lockstep ([`crate::lockstep`]): where it is asked for, each access is followed by its entry in
//! the log, made by the code itself where it makes the access, or by the service that does.

use bus::{PAGE_SIZE, Width};
use cranelift_codegen::ir::types::I64;
use cranelift_codegen::ir::{InstBuilder, Value};
use cranelift_frontend::FunctionBuilder;

use super::state::offset;
use super::translate::{Memory, Translator};
use crate::Hart;
use crate::lockstep::{Kind, Logged};
use crate::mmu::Access;

/// Logs an access: the virtual address and the host's, and the value, all of 64 bits.
pub(super) fn emit(b: &mut FunctionBuilder, memory: Memory, hart: Value, what: Value, access: [Value; 3]) {
    let place = b.ins().load(I64, memory.hart, hart, offset::LOG);
    let [address, host, value] = access;
    let fields = [
        (offset::LOGGED_ADDRESS, address),
        (offset::LOGGED_HOST, host),
        (offset::LOGGED_VALUE, value),
        (offset::LOGGED_WHAT, what),
    ];
    for (field, value) in fields {
        b.ins().store(memory.log, value, place, field);
    }
    let next = b.ins().iadd_imm_s(place, size_of::<Logged>() as i64);
    // A step has fewer accesses, if translated code counts right.
    let last = b.ins().load(I64, memory.hart, hart, offset::LOG_LAST);
    let next = b.ins().umin(next, last);
    b.ins().store(memory.hart, next, hart, offset::LOG);
}

impl Translator<'_, '_> {
    /// Logs an access of translated code's own at a distance from a host's address, if that is asked for. The value has
    /// its own type, which is no wider than 64 bits.
    pub(super) fn log(&mut self, kind: Kind, width: Width, address: Value, host: (Value, i32), value: Value) {
        if !self.host.logs {
            return;
        }
        let (host, distance) = host;
        let host = if distance == 0 { host } else { self.b.ins().iadd_imm_s(host, i64::from(distance)) };
        let value = self.zero_extended(value);
        let what = self.constant(Logged::what(kind, width) as i64);
        emit(self.b, self.memory, self.hart, what, [address, host, value]);
    }
}

impl Hart {
    /// Logs an access that a service has made, if that is asked for.
    #[inline]
    pub(super) fn log(&mut self, kind: Kind, address: u64, width: Width, value: u64) {
        if self.lockstep.is_some() {
            self.log_access(kind, address, width, value);
        }
    }

    #[cold]
    fn log_access(&mut self, kind: Kind, address: u64, width: Width, value: u64) {
        let address = self.masked(address);
        let access = if matches!(kind, Kind::Load | Kind::Reserve) { Access::Read } else { Access::Write };
        let is_in_page = address % PAGE_SIZE + width.bytes() <= PAGE_SIZE;
        // It has just been made: this finds it as that did.
        let physical = is_in_page.then(|| self.data_address(address, width.bytes(), access).ok()).flatten();
        let offset = physical.and_then(|physical| self.ram.offset(physical, width.bytes()));
        let host = offset.map_or(0, |offset| self.ram.host_base() as u64 + offset);
        let logged = Logged { address, host, value: width.zero_extend(value), what: Logged::what(kind, width) };
        if let Some(lockstep) = &mut self.lockstep {
            self.jit.log = lockstep.log(self.jit.log, logged);
        }
    }

    /// Translated code is about to go on.
    pub(super) fn begin_step(&mut self) {
        if let Some(mut lockstep) = self.lockstep.take() {
            (self.jit.log, self.jit.log_last) = lockstep.begin(self);
            self.lockstep = Some(lockstep);
        }
    }

    /// Translated code has left, with `trapped` by a trap of an access; or it waits for a helper. Whether the interpreter
    /// agrees with what it has done.
    pub(super) fn end_step(&mut self, trapped: bool) -> bool {
        let Some(mut lockstep) = self.lockstep.take() else { return true };
        let agrees = lockstep.end(self, self.jit.log, trapped);
        self.lockstep = Some(lockstep);
        agrees
    }
}
