//! The emitter: the instance of the instructions' semantics that writes x86-64 code as it goes.
//!
//! Registers of the host: `rdi` is the hart, `rsi` the virtual address of the unit's page, `rcx` how many instructions
//! are left; `rax`, `rdx`, `r10` and `r11` are for the moment, and the others hold values. A value's register is never written
//! again, so that several of the guest's may share it. Where none is free, one whose value memory has as well is taken.
//!
//! What is refused (too many values at once) is left to the interpreter, an instruction at a time.

use std::convert::Infallible;

use bus::Width;

use super::assembler::{
    Alu, Assembler, Condition, Label, Operand, R8, R9, R10, R11, R12, R13, R14, R15, RAX, RBX, RDX, RSI, RSP, Register,
    Shift, Unary, at,
};
use super::routines::{self, COUNT_SHIFT, argument, service};
use super::unit::{Block, Unit};
use super::{HART, LEFT, PAGE_BASE};
use crate::csr::mstatus;
use crate::hart_box::COUNTERS_OFFSET;
use crate::isa::{self, AmoOp, Cond, Extend, FloatOp, Format, Helper, Insn, Ops};
use crate::jit::jumps::{SIZE, SLOTS};
use crate::jit::region::{End, Op};
use crate::jit::runtime::amo_code;
use crate::jit::state::{CallSite, FloatSite, Service, Site, offset};
use crate::jit::steady::span;
use crate::jit::translate::LinkBase;

/// Registers that hold values.
const VALUES: [Register; 7] = [RBX, R8, R9, R12, R13, R14, R15];

/// A value of the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum V {
    Const(i64),
    Register(Register),
    /// A register plus a constant that is yet to be added.
    Sum(Register, i32),
    /// Whether a comparison that is yet to be made holds.
    Test(Cond, Register, Second),
}

/// What a register is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Second {
    Register(Register),
    Immediate(i32),
}

impl From<Second> for Operand {
    fn from(second: Second) -> Self {
        match second {
            Second::Register(register) => Operand::Register(register),
            Second::Immediate(value) => Operand::Immediate(value),
        }
    }
}

/// What is off the way that code mostly takes, and emitted behind it.
enum Cold {
    /// A load or a store that the TLB does not cover, at the address in `rax`, which goes on at `back`.
    Load {
        begin: Label,
        back: Label,
        place: i64,
        to: Register,
        width: Width,
        extend: Extend,
    },
    Store {
        begin: Label,
        back: Label,
        place: i64,
        value: Register,
        width: Width,
    },
    /// Accesses that share a check, of which the TLB does not cover the first byte, at the address in `rax`, or the last.
    Run {
        begin: Label,
        back: Label,
        place: i64,
        to: Register,
        run: i64,
        store: bool,
    },
    /// To another unit, by a link.
    Link {
        begin: Label,
        target: i64,
        number: usize,
    },
    /// To the region of a block that has got hot.
    Hot {
        begin: Label,
        block: usize,
    },
    /// The same where others come in, who bring the address.
    HotEntry {
        begin: Label,
        block: usize,
    },
    /// The engine is wanted at the start of a block.
    Poll {
        begin: Label,
        start: i64,
    },
    /// A service has trapped.
    Trap {
        begin: Label,
        place: i64,
    },
}

/// A compiled unit.
pub(in crate::jit) struct Compiled {
    pub code: Vec<u8>,
    /// Where the code of each block is entered: distances of the block from the start of the page and of the code from
    /// the unit's.
    pub entries: Vec<(i64, u32)>,
    /// Where links lead that come behind those of the blocks.
    pub links: Vec<i64>,
    pub sites: Vec<Site>,
}

/// Compiles a unit. Its links are words from `links` on: one for each block, then two for each. So are its counters, one
/// for each block.
pub(in crate::jit) fn compile(unit: &Unit, links: LinkBase, counters: usize, logs: bool) -> Compiled {
    let mut assembler = Assembler::default();
    let labels = unit.blocks.iter().map(|_| assembler.label()).collect();
    let mut emitter = Emitter {
        a: assembler,
        unit,
        logs,
        link_base: links,
        counters,
        labels,
        links: Vec::new(),
        link_labels: Vec::new(),
        sites: Vec::new(),
        cold: Vec::new(),
        cache: [None; 32],
        owners: [0; 16],
        busy: 0,
        next: 0,
        op: unit.ops[0],
        count: 0,
        place: 0,
        groups: Vec::new(),
        condition: None,
        target: None,
        exits: false,
        ended: false,
        float_dirty: false,
        refused: false,
        block: 0,
    };
    for index in 0..unit.blocks.len() {
        emitter.block(index);
    }
    emitter.finish()
}

/// Accesses of a block that share a check.
#[derive(Clone, Copy)]
struct Group {
    base: u8,
    store: bool,
    /// The bytes covered, as distances from the base register's value.
    low: i64,
    high: i64,
    /// The host's address of the first.
    host: Register,
}

struct Emitter<'a> {
    a: Assembler,
    unit: &'a Unit,
    /// Whether routines make all accesses, one by one.
    logs: bool,
    link_base: LinkBase,
    counters: usize,
    /// Where blocks go on that come from within.
    labels: Vec<Label>,
    links: Vec<i64>,
    link_labels: Vec<Label>,
    sites: Vec<Site>,
    cold: Vec<Cold>,
    /// Values of integer registers that are at hand.
    cache: [Option<V>; 32],
    /// By host register: the guest's whose values need it.
    owners: [u32; 16],
    /// Host registers that the current instruction needs.
    busy: u16,
    /// Where the next victim is looked for.
    next: usize,
    op: Op,
    /// Instructions of the block before it.
    count: u32,
    /// Its number in the unit.
    place: usize,
    groups: Vec<Group>,
    condition: Option<V>,
    target: Option<V>,
    exits: bool,
    ended: bool,
    float_dirty: bool,
    /// Whether the current instruction is left to the interpreter.
    refused: bool,
    /// The number of the block.
    block: usize,
}

fn x_place(r: u8) -> i32 {
    offset::X + 8 * i32::from(r)
}

fn f_place(r: u8) -> i32 {
    offset::F + 8 * i32::from(r & 31)
}

impl Emitter<'_> {
    // Registers.

    /// A host register that holds nothing.
    fn allocate(&mut self) -> Register {
        let is_free = |register: &Register| self.busy >> register & 1 == 0;
        let idle = |register: &Register| {
            is_free(register)
                && self.owners[usize::from(*register)] == 0
                && self.groups.iter().all(|group| group.host != *register)
        };
        let register = VALUES.iter().copied().find(idle).or_else(|| {
            let rotated = (0..VALUES.len()).map(|place| VALUES[(self.next + place) % VALUES.len()]);
            rotated.into_iter().find(is_free)
        });
        let Some(register) = register else {
            self.refused = true;
            return RAX;
        };
        self.next += 1;
        self.forget_host(register);
        self.busy |= 1 << register;
        register
    }

    fn forget_host(&mut self, register: Register) {
        let owners = std::mem::take(&mut self.owners[usize::from(register)]);
        for guest in crate::jit::translate::bits(owners.into()) {
            self.cache[guest as usize] = None;
        }
        self.groups.retain(|group| group.host != register);
    }

    fn forget_all(&mut self) {
        self.cache = [None; 32];
        self.owners = [0; 16];
        self.groups.clear();
    }

    fn bind(&mut self, r: u8, value: Option<V>) {
        if let Some(V::Register(old)) = self.cache[usize::from(r)] {
            self.owners[usize::from(old)] &= !(1 << r);
        }
        self.cache[usize::from(r)] = value;
        if let Some(V::Register(register)) = value {
            self.owners[usize::from(register)] |= 1 << r;
        }
    }

    /// A value in a register, which is not to be changed.
    fn register(&mut self, value: V) -> Register {
        match value {
            V::Register(register) => register,
            V::Const(value) => {
                let to = self.allocate();
                self.a.constant(to, value);
                to
            }
            V::Sum(register, by) => {
                let to = self.allocate();
                self.a.address(to, at(register, by));
                to
            }
            V::Test(condition, first, second) => {
                let to = self.allocate();
                self.a.alu(Alu::Cmp, first, second.into());
                self.a.set_if(condition, to);
                to
            }
        }
    }

    /// A copy of a value, to be changed.
    fn copy(&mut self, value: V) -> Register {
        match value {
            V::Register(from) => {
                let to = self.allocate();
                self.a.copy(to, from);
                to
            }
            other => self.register(other),
        }
    }

    /// A value as a second operand.
    fn second(&mut self, value: V) -> Second {
        match value {
            V::Const(value) if i32::try_from(value).is_ok() => Second::Immediate(value as i32),
            other => Second::Register(self.register(other)),
        }
    }

    fn store_value(&mut self, place: i32, value: V) {
        match value {
            V::Const(value) if i32::try_from(value).is_ok() => self.a.store_constant(at(HART, place), value as i32),
            V::Const(value) => {
                self.a.constant(RDX, value);
                self.a.store(at(HART, place), RDX, Width::Double);
            }
            V::Sum(register, by) => {
                self.a.address(RDX, at(register, by));
                self.a.store(at(HART, place), RDX, Width::Double);
            }
            other => {
                let register = self.register(other);
                self.a.store(at(HART, place), register, Width::Double);
            }
        }
    }

    fn pick(&mut self, operation: Alu, a: V, b: V) -> V {
        let b = self.second(b);
        let to = self.copy(a);
        self.a.alu(operation, to, b.into());
        V::Register(to)
    }

    // Ways out.

    fn load_hart(&mut self, to: Register, place: i32) {
        self.a.load(to, at(HART, place), Width::Double, Extend::Zero);
    }

    /// The address of a word that does not move.
    fn leave_by(&mut self, link: usize) {
        self.a.constant(RDX, (self.link_base + 8 * link as u64) as i64);
        self.a.jump_to(at(RDX, 0));
    }

    /// Calls a service. All registers but `rax`, which is free, are as before.
    fn call_service(&mut self, service: Service) {
        self.a.address(RSP, at(RSP, -8));
        self.a.call(routines::service(service));
        self.a.address(RSP, at(RSP, 8));
    }

    /// A service's answer to some arguments.
    fn service(&mut self, service: Service, arguments: &[V]) -> V {
        for (place, value) in arguments.iter().enumerate() {
            self.store_value(argument(place), *value);
        }
        self.call_service(service);
        let to = self.allocate();
        self.load_hart(to, offset::OUTCOME);
        V::Register(to)
    }

    /// A service's answer, unless it traps.
    fn attempt(&mut self, service: Service, arguments: &[V]) -> V {
        let value = self.service(service, arguments);
        self.a.compare_with_zero(at(HART, offset::TRAPPED));
        let begin = self.a.label();
        self.a.jump_if(Condition::Is(Cond::Ne), begin);
        self.cold.push(Cold::Trap { begin, place: self.place_and_count() });
        value
    }

    /// Where the current instruction is.
    fn place_and_count(&self) -> i64 {
        i64::from(self.count) << COUNT_SHIFT | self.op.at
    }

    /// Counts a block down; where that gets below zero, `hot` goes on.
    fn count_down(&mut self, block: usize, hot: Label) {
        let place = COUNTERS_OFFSET + size_of::<i32>() * (self.counters + block);
        self.a.count_down(at(HART, place as i32));
        self.a.jump_if(Condition::Negative, hot);
    }

    // Blocks.

    fn block(&mut self, index: usize) {
        let unit = self.unit;
        let block = &unit.blocks[index];
        self.block = index;
        self.forget_all();
        (self.condition, self.target, self.ended) = (None, None, false);
        (self.float_dirty, self.count) = (false, 0);
        self.a.place(self.labels[index]);
        if block.is_loop {
            let (poll, hot) = (self.a.label(), self.a.label());
            routines::poll(&mut self.a, poll);
            self.count_down(index, hot);
            self.cold.push(Cold::Poll { begin: poll, start: block.start });
            self.cold.push(Cold::Hot { begin: hot, block: index });
        }
        for place in block.ops.clone() {
            (self.op, self.place) = (unit.ops[place], place);
            self.exits = block.end == End::Exit && place + 1 == block.ops.end;
            let mark = (self.a.mark(), self.cold.len(), self.sites.len());
            let Ok(()) = isa::execute_row(self.op.opcode, self, &self.op.insn.clone());
            if std::mem::take(&mut self.refused) {
                self.a.go_back(mark.0);
                self.cold.truncate(mark.1);
                self.sites.truncate(mark.2);
                self.leave_at(self.place_and_count(), Service::BaselineInterpret);
                self.ended = true;
            }
            if self.ended {
                break;
            }
            self.count += 1;
            if !matches!(block.end, End::Branch { .. } | End::Indirect) || place + 1 != block.ops.end {
                self.busy = 0;
            }
        }
        if !self.ended {
            self.end(block, index);
        }
        self.busy = 0;
    }

    fn end(&mut self, block: &Block, index: usize) {
        self.a.address(LEFT, at(LEFT, -(self.count as i32)));
        let following = self.unit.blocks.get(index + 1).map(|block| block.start);
        match block.end {
            End::Branch { taken, next } => {
                let taken = self.way_to(taken);
                match self.condition {
                    Some(V::Const(0)) | None => {}
                    Some(V::Const(_)) => self.a.jump(taken),
                    Some(V::Test(condition, first, second)) => {
                        self.a.alu(Alu::Cmp, first, second.into());
                        self.a.jump_if(Condition::Is(condition), taken);
                    }
                    Some(other) => {
                        let value = self.register(other);
                        self.a.alu(Alu::Cmp, value, Operand::Immediate(0));
                        self.a.jump_if(Condition::Is(Cond::Ne), taken);
                    }
                }
                self.go_on(next, following);
            }
            End::Jump(target) => self.go_on(target, following),
            End::Call(target) => {
                let way = self.link(target);
                self.a.jump(way);
            }
            End::Indirect => self.leave_indirect(),
            // The helper has left.
            End::Exit => {}
        }
    }

    fn go_on(&mut self, target: i64, following: Option<i64>) {
        if following != Some(target) {
            let way = self.way_to(target);
            self.a.jump(way);
        }
    }

    /// A label that leads to a place in the page, or beyond.
    fn way_to(&mut self, target: i64) -> Label {
        match self.unit.block_at(target) {
            Some(block) => self.labels[block],
            None => self.link(target),
        }
    }

    fn link(&mut self, target: i64) -> Label {
        if let Some(number) = self.links.iter().position(|link| *link == target) {
            return self.link_labels[number];
        }
        let (number, begin) = (self.links.len(), self.a.label());
        self.links.push(target);
        self.link_labels.push(begin);
        self.cold.push(Cold::Link { begin, target, number });
        begin
    }

    /// By the jump cache, as regions do it ([`crate::jit::jumps`]).
    fn leave_indirect(&mut self) {
        match self.target {
            Some(V::Sum(register, by)) => self.a.address(RSI, at(register, by)),
            Some(other) => {
                let target = self.register(other);
                self.a.copy(RSI, target);
            }
            None => return,
        }
        let miss = self.a.label();
        self.a.copy(RAX, RSI);
        self.a.shift_by(Shift::Left, RAX, (SIZE - 1) as u8);
        self.a.alu(Alu::And, RAX, Operand::Immediate(((SLOTS - 1) << SIZE) as i32));
        self.a.alu(Alu::Add, RAX, Operand::Memory(at(HART, offset::JUMPS)));
        self.a.alu(Alu::Cmp, RSI, Operand::Memory(at(RAX, offset::JUMP_PC)));
        self.a.jump_if(Condition::Is(Cond::Ne), miss);
        self.load_hart(RDX, offset::CONTEXT);
        self.a.alu(Alu::Cmp, RDX, Operand::Memory(at(RAX, offset::JUMP_CONTEXT)));
        self.a.jump_if(Condition::Is(Cond::Ne), miss);
        self.a.constant(RDX, 0);
        self.a.jump_to(at(RAX, offset::JUMP_CODE));
        self.a.place(miss);
        self.a.constant(RDX, 0);
        self.a.jump_to(service(Service::Unlinked));
    }

    fn finish(mut self) -> Compiled {
        // Where others come in.
        let mut entries = Vec::with_capacity(self.unit.blocks.len());
        for index in 0..self.unit.blocks.len() {
            let outer = self.a.label();
            self.a.place(outer);
            entries.push((self.unit.blocks[index].start, self.a.distance(outer)));
            if !self.unit.blocks[index].is_loop {
                let hot = self.a.label();
                self.count_down(index, hot);
                self.cold.push(Cold::HotEntry { begin: hot, block: index });
            }
            self.a.call(service(Service::BaselineEnter));
            let inner = self.labels[index];
            self.a.jump(inner);
        }
        for cold in std::mem::take(&mut self.cold) {
            self.cold(cold);
        }
        let Self { a, links, sites, .. } = self;
        Compiled { code: a.finish(), entries, links, sites }
    }

    fn cold(&mut self, cold: Cold) {
        match cold {
            Cold::Load { begin, back, place, to, width, extend } => {
                self.a.place(begin);
                self.call_routine(routines::load(width), place);
                self.a.load(to, at(RAX, 0), width, extend);
                self.a.jump(back);
            }
            Cold::Store { begin, back, place, value, width } => {
                self.a.place(begin);
                self.a.store(at(HART, argument(2)), value, Width::Double);
                self.call_routine(routines::store(width), place);
                self.a.store(at(RAX, 0), value, width);
                self.a.jump(back);
            }
            Cold::Run { begin, back, place, to, run, store } => {
                self.a.place(begin);
                self.a.constant(RDX, run);
                self.call_routine(routines::run(store), place);
                self.a.copy(to, RAX);
                self.a.jump(back);
            }
            Cold::Link { begin, target, number } => {
                self.a.place(begin);
                self.a.address(RSI, at(PAGE_BASE, target as i32));
                self.leave_by(self.unit.blocks.len() + number);
            }
            Cold::Hot { begin, block } => {
                self.a.place(begin);
                self.a.address(RSI, at(PAGE_BASE, self.unit.blocks[block].start as i32));
                self.leave_by(block);
            }
            Cold::HotEntry { begin, block } => {
                self.a.place(begin);
                self.leave_by(block);
            }
            Cold::Poll { begin, start } => {
                self.a.place(begin);
                self.leave_at(start, Service::BaselineContinue);
            }
            Cold::Trap { begin, place } => {
                self.a.place(begin);
                self.leave_at(place, Service::BaselineTrap);
            }
        }
    }

    fn leave_at(&mut self, place: i64, way: Service) {
        self.a.constant(R11, place);
        self.a.jump_to(service(way));
    }

    /// Calls a routine, which may leave as from `place`.
    fn call_routine(&mut self, routine: Service, place: i64) {
        self.a.constant(R11, place);
        self.a.call(service(routine));
    }

    // Accesses.

    /// Has `rax` be a value.
    fn put_in_rax(&mut self, value: V) {
        match value {
            V::Register(register) => self.a.copy(RAX, register),
            V::Sum(register, by) => self.a.address(RAX, at(register, by)),
            V::Const(value) => self.a.constant(RAX, value),
            test => {
                let register = self.register(test);
                self.a.copy(RAX, register);
            }
        }
    }

    /// Has the address in `rax`, of the first of some bytes, become the host's, where the TLB has the page of all of them;
    /// else goes to `miss`.
    fn probe(&mut self, span: i64, store: bool, miss: Label) {
        routines::find_slot(&mut self.a, R10, RAX);
        self.a.address(RDX, at(RAX, (span - 1) as i32));
        routines::check(&mut self.a, R10, RDX, RAX, store, miss);
    }

    /// Whether the block runs so often that what it does is worth longer code.
    fn is_in_loop(&self) -> bool {
        self.unit.blocks[self.block].is_in_loop && !self.logs
    }

    /// Where on the host the current access is, if it shares a check with others.
    fn shared(&mut self) -> Option<(Register, i32)> {
        let access = self.op.effects.access.filter(|_| !self.logs)?;
        let end = access.offset + access.width.bytes() as i64;
        let known = self.groups.iter().find(|group| {
            (group.base, group.store) == (access.base, access.store) && group.low <= access.offset && end <= group.high
        });
        if let Some(Group { host, low, .. }) = known.copied() {
            self.busy |= 1 << host;
            return Some((host, (access.offset - low) as i32));
        }
        let rest = self.unit.blocks[self.block].ops.end;
        let (low, length) = span(access, &self.unit.ops[self.place..rest])?;
        let base = self.x(access.base);
        let first = self.add(base, V::Const(low));
        let (host, distance) = (self.allocate(), access.offset - low);
        let (run, place) = (routines::run_word(length, distance), self.place_and_count());
        self.put_in_rax(first);
        if self.is_in_loop() {
            let (begin, back) = (self.a.label(), self.a.label());
            self.probe(length, access.store, begin);
            self.a.copy(host, RAX);
            self.a.place(back);
            self.cold.push(Cold::Run { begin, back, place, to: host, run, store: access.store });
        } else {
            self.a.constant(RDX, run);
            self.call_routine(routines::run(access.store), place);
            self.a.copy(host, RAX);
        }
        if !self.refused {
            let (base, store) = (access.base, access.store);
            self.groups.push(Group { base, store, low, high: low + length, host });
        }
        Some((host, distance as i32))
    }

    /// Makes `mstatus.FS` dirty.
    fn dirty_floats(&mut self) {
        if !std::mem::replace(&mut self.float_dirty, true) {
            self.a.set_bits(at(HART, offset::MSTATUS), mstatus::FS.mask() as i32);
        }
    }

    fn shift_value(&mut self, shift: Shift, a: V, b: V) -> V {
        match b {
            V::Const(amount) if amount & 63 == 0 => a,
            V::Const(amount) => {
                let to = self.copy(a);
                self.a.shift_by(shift, to, (amount & 63) as u8);
                V::Register(to)
            }
            b => {
                let (a, b) = (self.register(a), self.register(b));
                let to = self.allocate();
                self.a.shift(shift, to, a, b);
                V::Register(to)
            }
        }
    }

    fn high_product(&mut self, a: V, b: V, signed: bool) -> V {
        let (a, b) = (self.register(a), self.register(b));
        let to = self.allocate();
        self.a.copy(RAX, a);
        if signed {
            self.a.multiply_signed(b);
        } else {
            self.a.multiply_unsigned(b);
        }
        self.a.copy(to, RDX);
        V::Register(to)
    }

    /// A division: the host's traps for a divisor of zero and on overflow.
    fn divide(&mut self, a: V, b: V, signed: bool, remainder: bool) -> V {
        let (a, b) = (self.register(a), self.register(b));
        let to = self.allocate();
        let (by_zero, overflow, done) = (self.a.label(), self.a.label(), self.a.label());
        self.a.alu(Alu::Cmp, b, Operand::Immediate(0));
        self.a.jump_if(Condition::Is(Cond::Eq), by_zero);
        if signed {
            self.a.alu(Alu::Cmp, b, Operand::Immediate(-1));
            self.a.jump_if(Condition::Is(Cond::Eq), overflow);
        }
        self.a.copy(RAX, a);
        if signed {
            self.a.sign_extend_to_rdx();
        } else {
            self.a.constant(RDX, 0);
        }
        self.a.divide(b, signed);
        self.a.copy(to, if remainder { RDX } else { RAX });
        self.a.jump(done);
        // By −1: the negative, which of −2^63 is itself, and no remainder.
        self.a.place(overflow);
        if signed {
            if remainder {
                self.a.constant(to, 0);
            } else {
                self.a.copy(to, a);
                self.a.negate(to);
            }
            self.a.jump(done);
        }
        self.a.place(by_zero);
        if remainder {
            self.a.copy(to, a);
        } else {
            self.a.constant(to, -1);
        }
        self.a.place(done);
        V::Register(to)
    }

    fn unary(&mut self, operation: Unary, a: V) -> V {
        let a = self.register(a);
        let to = self.allocate();
        self.a.unary(operation, to, a);
        V::Register(to)
    }

    fn extended(&mut self, a: V, width: Width, extend: Extend) -> V {
        match (a, width) {
            (_, Width::Double) => a,
            (V::Const(value), _) => V::Const(match extend {
                Extend::Signed => width.sign_extend(value as u64) as i64,
                Extend::Zero => width.zero_extend(value as u64) as i64,
            }),
            (V::Sum(register, by), _) => {
                let to = self.allocate();
                self.a.address(to, at(register, by));
                self.a.extend(to, to, width, extend);
                V::Register(to)
            }
            (a, _) => {
                let a = self.register(a);
                let to = self.allocate();
                self.a.extend(to, a, width, extend);
                V::Register(to)
            }
        }
    }
}

impl Ops for Emitter<'_> {
    type V = V;
    type Exit = Infallible;

    fn imm(&mut self, value: i64) -> V {
        V::Const(value)
    }

    fn pc(&mut self, _: &Insn) -> V {
        V::Sum(PAGE_BASE, self.op.at as i32)
    }

    fn x(&mut self, r: u8) -> V {
        if r == 0 {
            return V::Const(0);
        }
        if let Some(value) = self.cache[usize::from(r)] {
            if let V::Register(register) = value {
                self.busy |= 1 << register;
            }
            return value;
        }
        let to = self.allocate();
        self.load_hart(to, x_place(r));
        if !self.refused {
            self.bind(r, Some(V::Register(to)));
        }
        V::Register(to)
    }

    fn set_x(&mut self, r: u8, value: V) {
        if r == 0 {
            return;
        }
        let value = match value {
            V::Sum(..) | V::Test(..) => V::Register(self.register(value)),
            other => other,
        };
        if self.refused {
            return;
        }
        self.store_value(x_place(r), value);
        self.groups.retain(|group| group.base != r);
        self.bind(r, Some(value));
    }

    fn f(&mut self, r: u8) -> V {
        let to = self.allocate();
        self.load_hart(to, f_place(r));
        V::Register(to)
    }

    fn set_f(&mut self, r: u8, value: V) {
        self.dirty_floats();
        self.store_value(f_place(r), value);
    }

    fn add(&mut self, a: V, b: V) -> V {
        let (a, b) = if matches!(a, V::Const(_)) { (b, a) } else { (a, b) };
        match (a, b) {
            (V::Const(a), V::Const(b)) => V::Const(a.wrapping_add(b)),
            (a, V::Const(0)) => a,
            (V::Register(register), V::Const(by)) if i32::try_from(by).is_ok() => V::Sum(register, by as i32),
            (V::Sum(register, first), V::Const(by))
                if i64::from(first).checked_add(by).is_some_and(|sum| i32::try_from(sum).is_ok()) =>
            {
                V::Sum(register, (i64::from(first) + by) as i32)
            }
            (a, b) => {
                let (a, b) = (self.register(a), self.register(b));
                let to = self.allocate();
                self.a.address(to, at(a, 0).plus(b));
                V::Register(to)
            }
        }
    }

    fn sub(&mut self, a: V, b: V) -> V {
        match (a, b) {
            (V::Const(a), V::Const(b)) => V::Const(a.wrapping_sub(b)),
            (a, V::Const(0)) => a,
            _ => self.pick(Alu::Sub, a, b),
        }
    }

    fn and(&mut self, a: V, b: V) -> V {
        match (a, b) {
            (V::Const(a), V::Const(b)) => V::Const(a & b),
            _ => self.pick(Alu::And, a, b),
        }
    }

    fn or(&mut self, a: V, b: V) -> V {
        match (a, b) {
            (V::Const(a), V::Const(b)) => V::Const(a | b),
            (a, V::Const(0)) | (V::Const(0), a) => a,
            _ => self.pick(Alu::Or, a, b),
        }
    }

    fn xor(&mut self, a: V, b: V) -> V {
        match (a, b) {
            (V::Const(a), V::Const(b)) => V::Const(a ^ b),
            _ => self.pick(Alu::Xor, a, b),
        }
    }

    fn shl(&mut self, a: V, b: V) -> V {
        match (a, b) {
            (V::Const(a), V::Const(b)) => V::Const(a << (b & 63)),
            _ => self.shift_value(Shift::Left, a, b),
        }
    }

    fn shr(&mut self, a: V, b: V) -> V {
        self.shift_value(Shift::Right, a, b)
    }

    fn sar(&mut self, a: V, b: V) -> V {
        self.shift_value(Shift::Arithmetic, a, b)
    }

    fn rotr(&mut self, a: V, b: V) -> V {
        let a = self.register(a);
        let to = match b {
            V::Const(amount) => {
                let to = self.allocate();
                self.a.rotate_right_by(to, a, (amount & 63) as u8);
                to
            }
            b => {
                let b = self.register(b);
                let to = self.allocate();
                self.a.copy(RDX, b);
                self.a.negate(RDX);
                self.a.shift(Shift::Left, RDX, a, RDX);
                self.a.shift(Shift::Right, to, a, b);
                self.a.alu(Alu::Or, to, Operand::Register(RDX));
                to
            }
        };
        V::Register(to)
    }

    fn rotrw(&mut self, a: V, b: V) -> V {
        let (a, b) = (self.register(a), self.register(b));
        let to = self.allocate();
        self.a.copy(RDX, b);
        self.a.negate(RDX);
        self.a.shift_word(Shift::Left, RDX, a, RDX);
        self.a.shift_word(Shift::Right, to, a, b);
        self.a.alu(Alu::Or, to, Operand::Register(RDX));
        self.a.extend(to, to, Width::Word, Extend::Signed);
        V::Register(to)
    }

    fn mul(&mut self, a: V, b: V) -> V {
        let b = self.register(b);
        let to = self.copy(a);
        self.a.multiply(to, b);
        V::Register(to)
    }

    fn mulh(&mut self, a: V, b: V) -> V {
        self.high_product(a, b, true)
    }

    fn mulhu(&mut self, a: V, b: V) -> V {
        self.high_product(a, b, false)
    }

    fn div(&mut self, a: V, b: V) -> V {
        self.divide(a, b, true, false)
    }

    fn divu(&mut self, a: V, b: V) -> V {
        self.divide(a, b, false, false)
    }

    fn rem(&mut self, a: V, b: V) -> V {
        self.divide(a, b, true, true)
    }

    fn remu(&mut self, a: V, b: V) -> V {
        self.divide(a, b, false, true)
    }

    fn clz(&mut self, a: V) -> V {
        self.unary(Unary::LeadingZeros, a)
    }

    fn ctz(&mut self, a: V) -> V {
        self.unary(Unary::TrailingZeros, a)
    }

    fn popcount(&mut self, a: V) -> V {
        self.unary(Unary::Ones, a)
    }

    fn bswap(&mut self, a: V) -> V {
        let to = self.copy(a);
        self.a.swap_bytes(to);
        V::Register(to)
    }

    fn clmul(&mut self, a: V, b: V) -> V {
        self.service(Service::CarrylessLow, &[a, b])
    }

    fn clmulh(&mut self, a: V, b: V) -> V {
        self.service(Service::CarrylessHigh, &[a, b])
    }

    fn sext(&mut self, a: V, width: Width) -> V {
        self.extended(a, width, Extend::Signed)
    }

    fn zext(&mut self, a: V, width: Width) -> V {
        self.extended(a, width, Extend::Zero)
    }

    fn cmp(&mut self, cond: Cond, a: V, b: V) -> V {
        if let (V::Const(a), V::Const(b)) = (a, b) {
            let holds = match cond {
                Cond::Eq => a == b,
                Cond::Ne => a != b,
                Cond::Lt => a < b,
                Cond::Ge => a >= b,
                Cond::Ltu => (a as u64) < b as u64,
                Cond::Geu => a as u64 >= b as u64,
            };
            return V::Const(holds.into());
        }
        let b = self.second(b);
        V::Test(cond, self.register(a), b)
    }

    fn select(&mut self, c: V, a: V, b: V) -> V {
        let (condition, first, second) = match c {
            V::Const(c) => return if c != 0 { a } else { b },
            V::Test(condition, first, second) => (condition, first, second),
            other => (Cond::Ne, self.register(other), Second::Immediate(0)),
        };
        let a = self.register(a);
        let to = self.copy(b);
        self.a.alu(Alu::Cmp, first, second.into());
        self.a.copy_if(condition, to, a);
        V::Register(to)
    }

    fn load(&mut self, _: &Insn, address: V, width: Width, extend: Extend) -> Result<V, Infallible> {
        if let Some((host, distance)) = self.shared() {
            let to = self.allocate();
            self.a.load(to, at(host, distance), width, extend);
            return Ok(V::Register(to));
        }
        let (to, place) = (self.allocate(), self.place_and_count());
        self.put_in_rax(address);
        if self.is_in_loop() {
            let (begin, back) = (self.a.label(), self.a.label());
            self.probe(width.bytes() as i64, false, begin);
            self.a.load(to, at(RAX, 0), width, extend);
            self.a.place(back);
            self.cold.push(Cold::Load { begin, back, place, to, width, extend });
        } else {
            self.call_routine(routines::load(width), place);
            self.a.load(to, at(RAX, 0), width, extend);
        }
        Ok(V::Register(to))
    }

    fn store(&mut self, _: &Insn, address: V, width: Width, value: V) -> Result<(), Infallible> {
        let value = self.register(value);
        if let Some((host, distance)) = self.shared() {
            self.a.store(at(host, distance), value, width);
            return Ok(());
        }
        let place = self.place_and_count();
        self.put_in_rax(address);
        if self.is_in_loop() {
            let (begin, back) = (self.a.label(), self.a.label());
            self.probe(width.bytes() as i64, true, begin);
            self.a.store(at(RAX, 0), value, width);
            self.a.place(back);
            self.cold.push(Cold::Store { begin, back, place, value, width });
        } else {
            self.a.store(at(HART, argument(2)), value, Width::Double);
            self.call_routine(routines::store(width), place);
            self.a.store(at(RAX, 0), value, width);
        }
        Ok(())
    }

    fn amo(&mut self, _: &Insn, op: AmoOp, address: V, width: Width, value: V) -> Result<V, Infallible> {
        Ok(self.attempt(Service::Amo, &[address, V::Const(amo_code(op, width) as i64), value]))
    }

    fn compare_and_swap(&mut self, _: &Insn, address: V, width: Width, expected: V, new: V) -> Result<V, Infallible> {
        let bytes = V::Const(width.bytes() as i64);
        Ok(self.attempt(Service::CompareAndSwap, &[address, bytes, expected, new]))
    }

    fn compare_and_swap_pair(
        &mut self,
        _: &Insn,
        address: V,
        expected: [V; 2],
        new: [V; 2],
    ) -> Result<[V; 2], Infallible> {
        let arguments = [address, expected[0], expected[1], new[0], new[1]];
        let low = self.attempt(Service::CompareAndSwapPair, &arguments);
        let high = self.allocate();
        self.load_hart(high, offset::SECOND_OUTCOME);
        Ok([low, V::Register(high)])
    }

    fn load_reserved(&mut self, _: &Insn, address: V, width: Width) -> Result<V, Infallible> {
        Ok(self.attempt(Service::LoadReserved, &[address, V::Const(width.bytes() as i64)]))
    }

    fn store_conditional(&mut self, _: &Insn, address: V, width: Width, value: V) -> Result<V, Infallible> {
        Ok(self.attempt(Service::StoreConditional, &[address, V::Const(width.bytes() as i64), value]))
    }

    fn fence(&mut self, i: &Insn) {
        // The host orders everything but a load behind a store.
        if i.orders_stores_before_loads() {
            self.a.fence();
        }
    }

    fn branch(&mut self, _: &Insn, c: V, _: i64) -> Result<(), Infallible> {
        self.condition = Some(c);
        Ok(())
    }

    fn jump(&mut self, _: &Insn, _: i64) -> Result<(), Infallible> {
        Ok(())
    }

    fn jump_indirect(&mut self, _: &Insn, target: V) -> Result<(), Infallible> {
        self.target = Some(target);
        Ok(())
    }

    fn float(&mut self, i: &Insn, op: FloatOp, format: Format, operands: [V; 3]) -> V {
        let site = Box::new(FloatSite { insn: *i, op, format });
        let address = V::Const(&raw const *site as i64);
        self.sites.push(site);
        let [a, b, c] = operands;
        self.service(Service::Float, &[address, a, b, c])
    }

    fn call(&mut self, i: &Insn, helper: Helper) -> Result<(), Infallible> {
        let site = Box::new(CallSite { insn: *i, helper });
        let address = &raw const *site as i64;
        self.sites.push(site);
        self.store_value(argument(0), V::Const(address));
        self.store_value(argument(1), V::Sum(PAGE_BASE, self.op.at as i32));
        self.a.address(RAX, at(LEFT, -(self.count as i32)));
        self.a.store(at(HART, offset::LEFT), RAX, Width::Double);
        self.call_service(Service::Call);
        self.load_hart(RAX, offset::OUTCOME);
        self.forget_all();
        self.float_dirty = false;
        if self.exits {
            self.a.ret();
            self.ended = true;
            return Ok(());
        }
        let on = self.a.label();
        self.a.test(RAX);
        self.a.jump_if(Condition::Is(Cond::Eq), on);
        self.a.ret();
        self.a.place(on);
        Ok(())
    }
}
