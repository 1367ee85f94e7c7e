//! The translator: the second instance of the instructions' semantics, whose values are the compiler's.
//!
//! Guest registers are the compiler's variables within a region. Before anything that may leave, the registers that
//! have changed are stored ("flushed"), so that whoever looks at the hart there sees it exact; at the borders of blocks
//! what is newer than memory stays so as far as all ways to the block have it at hand ([`super::region`]). Accesses in
//! innermost loops store registers on their slow paths instead. Each access has a range entry ([`crate::ranges`]),
//! which checks it by a subtraction and a comparison; behind that is the TLB, and behind that a service.
//!
//! Every loop head and every entry polls the event word by an atomic load. To the optimiser, which merges plain loads
//! across back edges, that is a fence: a loop sees what other harts store.

use std::collections::BTreeMap;
use std::convert::Infallible;

use bus::Width;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::types::{F32, F64, I8, I16, I32, I64};
use cranelift_codegen::ir::{
    AbiParam, AliasRegion, AliasRegionData, AtomicRmwOp, Block as Label, BlockArg, Endianness, Function, InstBuilder,
    InstructionData, MemFlagsData, Opcode, SigRef, Signature, Type, Value, ValueDef,
};
use cranelift_codegen::isa::{CallConv, TargetIsa};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext, Variable};

use super::effects::{Registers, f_bit, x_bit};
use super::jumps::Probe;
use super::region::{Block, End, Op, Region, Way};
use super::runtime::{AccessCode, PRESERVING, SharedCheck};
use super::state::{CallSite, FloatSite, Service, Site, offset};
use super::steady::{Entered, Reserved, span};
use super::system::System;
use crate::block::Mode;
use crate::csr::mstatus;
use crate::isa::{self, AmoOp, Cond, Extend, FloatOp, Format, Helper, Insn, Ops};
use crate::lockstep::Kind;
use crate::ranges::Range;

/// What translated code returns to the engine; anything else is the address of a link that leads nowhere yet.
pub(super) mod result {
    /// Go on at the hart's `pc`.
    pub const CONTINUE: i64 = 0;
    /// The instruction at the hart's `pc` has trapped.
    pub const TRAP: i64 = 1;
    /// A helper has run that may have changed anything; go on at the hart's `pc`.
    pub const EXIT: i64 = 3;
    /// Set in the address of a link: baseline code at the hart's `pc` has got hot.
    pub const HOT: i64 = 1;
    /// The instruction at the hart's `pc` makes an access that only the interpreter can. One more than [`TRAP`].
    pub const INTERPRET: i64 = TRAP + 1;
}

/// Parameters of a region's function.
mod parameter {
    pub const HART: usize = 0;
    pub const PC: usize = 1;
    pub const LINK: usize = 2;
    pub const LEFT: usize = 3;
}

/// A value of the guest, in the shape that it was made in; converted when another is needed.
#[derive(Clone, Copy, Debug)]
pub(super) enum V {
    /// A constant.
    Const(i64),
    /// 64 bits.
    Int(Value),
    /// The outcome of a comparison: an I8, 0 or 1.
    Bool(Value),
    /// An F64.
    Double(Value),
    /// An F32; zero-extended as an integer.
    Single(Value),
    /// An F32 with ones above it.
    Boxed(Value),
    /// The sign bit of a float, in place.
    Sign(Value),
    /// A float without its sign bit.
    Magnitude(Value),
}

/// The function that all regions are.
pub(super) fn region_signature() -> Signature {
    let mut signature = Signature::new(CallConv::Tail);
    signature.params.extend([AbiParam::new(I64); 4]);
    signature.returns.push(AbiParam::new(I64));
    signature
}

/// The functions that translated code calls: their only parameter is the hart.
pub(super) fn service_signature(isa: &dyn TargetIsa) -> Signature {
    let convention = if PRESERVING { CallConv::PreserveAll } else { isa.default_call_conv() };
    let mut signature = Signature::new(convention);
    signature.params.push(AbiParam::new(I64));
    signature
}

/// What a translation is made of beside code.
pub(super) struct Translation {
    pub function: Function,
    /// Links by number: the distance from the entry that each leads to.
    pub links: Vec<i64>,
    pub sites: Vec<Site>,
    /// Numbers of range entries that are left over.
    pub ranges: std::ops::Range<usize>,
}

/// Where the links of the region under translation will be: consecutive words from this address on.
pub(super) type LinkBase = u64;

#[derive(Clone, Copy)]
pub(super) struct Memory {
    /// The guest's RAM.
    pub(super) guest: MemFlagsData,
    /// The hart.
    pub(super) hart: MemFlagsData,
    /// TLB entries.
    pub(super) tlb: MemFlagsData,
    /// Links and jump caches.
    pub(super) code: MemFlagsData,
    /// The log of accesses.
    pub(super) log: MemFlagsData,
}

impl Memory {
    /// Declares the kinds of memory that do not overlap.
    pub(super) fn new(function: &mut Function) -> Self {
        let mut region = |user_id, description: &'static str| -> AliasRegion {
            function.dfg.alias_regions.insert(AliasRegionData { user_id, description: description.into() })
        };
        let flags = |region| MemFlagsData::new().with_notrap().with_alias_region(Some(region));
        Self {
            guest: flags(region(1, "guest")).with_endianness(Endianness::Little),
            hart: flags(region(2, "hart")).with_aligned(),
            tlb: flags(region(3, "tlb")).with_aligned(),
            code: flags(region(4, "code")).with_aligned(),
            log: flags(region(5, "log")).with_aligned(),
        }
    }
}

/// Translates one region.
pub(super) struct Translator<'a, 'b> {
    pub(super) b: &'a mut FunctionBuilder<'b>,
    pub(super) region: &'a Region,
    pub(super) memory: Memory,
    pub(super) host: Host,
    /// Whether dynamic rounding is to nearest, ties to even.
    pub(super) nearest: bool,
    pub(super) mode: Mode,
    labels: Vec<Label>,
    exit: Label,
    /// Where accesses go that did not happen: told of what is left at the start of the block, and of their place
    /// ([`PLACE_COUNT_BITS`]).
    unmade: Label,
    variables: [Option<Variable>; 64],
    /// The entry's virtual address.
    entry: Value,
    pub(super) hart: Value,
    pub(super) left: Variable,
    /// Instructions counted in `left` later, on entry of each block; `None` where the predecessor has counted.
    owed: Vec<Option<u32>>,
    service_signature: SigRef,
    tail_signature: SigRef,
    link_base: LinkBase,
    links: Vec<i64>,
    sites: Vec<Site>,

    // Of the block under translation:
    /// Its number; none in the second copy of a steady loop.
    pub(super) current: Option<usize>,
    pub(super) values: [Option<V>; 64],
    pub(super) available: Registers,
    pub(super) dirty: Registers,
    /// Registers whose variables are behind `values`.
    pub(super) behind: Registers,
    /// Registers whose values come from a floating-point operation that nothing keeps alive yet: it may not vanish, as
    /// its flags count.
    pub(super) unused: Registers,
    pub(super) float_dirty: bool,
    /// Floats whose NaN may be another than the canonical one: who looks at the bits settles them first
    /// ([`super::float`]).
    pub(super) loose: Vec<Value>,
    /// Whether nothing but its use keeps the floating-point operation of the current instruction alive.
    pub(super) fragile: bool,
    /// Instructions of the block before the current one, and those owed.
    pub(super) count: u32,
    op: Op,
    /// Its place in the block.
    place: usize,
    ops: &'a [Op],
    /// Accesses that share a check.
    groups: Vec<Group>,
    /// Those that each block takes over from the only one that leads to it.
    inherited: Vec<Vec<Group>>,
    /// Numbers of range entries that are left.
    pub(super) ranges: std::ops::Range<usize>,
    /// Those of accesses in steady loops, by the instruction's number.
    pub(super) reserved: BTreeMap<usize, Reserved>,
    /// Labels of steady loops' heads for the last block of the first copy, by that block and the head.
    pub(super) latches: BTreeMap<(usize, usize), Label>,
    /// In the second copy of a steady loop: for each access what to add to its address for the host's.
    pub(super) deltas: BTreeMap<usize, Value>,
    pub(super) is_inner: bool,
    /// The last negation: the result and what was negated.
    negation: Option<(Value, Value)>,
    pub(super) condition: Option<Value>,
    pub(super) target: Option<Value>,
    /// Whether the current instruction runs a helper that says where to go on.
    exits: bool,
    pub(super) ended: bool,
}

/// Loads or stores off one base register, which has not changed, in a block and in those that it alone leads to: one check
/// covers them.
#[derive(Clone, Copy)]
struct Group {
    /// Integer register.
    base: u8,
    store: bool,
    /// The bytes covered, as distances from the base register's value.
    low: i64,
    high: i64,
    /// The host's address of the first.
    host: Value,
}

/// A place in a region is a distance from its entry above as many bits for a number of instructions.
const PLACE_COUNT_BITS: i64 = 16;

/// The bits of an address that name its page.
pub(super) const PAGE: i64 = !(bus::PAGE_SIZE as i64 - 1);

/// Most bytes that one check covers.
pub(super) const LONGEST_SPAN: i64 = crate::ranges::LONGEST_SPAN as i64;

/// What the host offers, and what is asked of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Host {
    /// Operations on the host's floating-point unit are exact, flags included.
    pub floats: bool,
    /// It has a fused multiply-add.
    pub fused: bool,
    /// Plain loads and stores may be misaligned.
    pub misaligned: bool,
    /// Only stores followed by loads need a fence.
    pub total_store_order: bool,
    /// Host address of the guest's RAM.
    pub ram: u64,
    /// Accesses are logged, for lockstep.
    pub logs: bool,
}

pub(super) fn memory_type(width: Width) -> Type {
    match width {
        Width::Byte => I8,
        Width::Half => I16,
        Width::Word => I32,
        Width::Double => I64,
    }
}

fn width_bits(width: Width) -> i64 {
    width.bytes() as i64 - 1
}

/// The bits above an F32.
const UPPER: i64 = !0xffff_ffff;

/// The sign bit of an F32.
const SINGLE_SIGN: i64 = 1 << 31;

/// Translates `region`.
pub(super) fn translate(
    region: &Region,
    isa: &dyn TargetIsa,
    host: Host,
    mode: Mode,
    link_base: LinkBase,
    ranges: std::ops::Range<usize>,
    context: &mut FunctionBuilderContext,
) -> Translation {
    let mut function = Function::with_name_signature(Default::default(), region_signature());
    let memory = Memory::new(&mut function);
    let mut builder = FunctionBuilder::new(&mut function, context);
    let tail_signature = builder.import_signature(region_signature());
    let service_signature = builder.import_signature(service_signature(isa));
    let entry_label = builder.create_block();
    builder.append_block_params_for_function_params(entry_label);
    builder.switch_to_block(entry_label);
    let parameters = builder.block_params(entry_label).to_vec();
    let left = builder.declare_var(I64);
    builder.def_var(left, parameters[parameter::LEFT]);
    let labels = region.blocks.iter().map(|_| builder.create_block()).collect();
    let exit = builder.create_block();
    builder.set_cold_block(exit);
    let unmade = builder.create_block();
    builder.set_cold_block(unmade);
    for (label, parameters) in [(exit, 3), (unmade, 2)] {
        for _ in 0..parameters {
            builder.append_block_param(label, I64);
        }
    }
    let mut translator = Translator {
        region,
        memory,
        host,
        nearest: mode.rounds_to_nearest(),
        mode,
        labels,
        exit,
        unmade,
        variables: [None; 64],
        entry: parameters[parameter::PC],
        hart: parameters[parameter::HART],
        left,
        owed: vec![None; region.blocks.len()],
        service_signature,
        tail_signature,
        link_base,
        links: Vec::new(),
        sites: Vec::new(),
        values: [None; 64],
        available: 0,
        dirty: 0,
        behind: 0,
        unused: 0,
        float_dirty: false,
        loose: Vec::new(),
        fragile: false,
        count: 0,
        op: region.blocks[0].ops[0],
        place: 0,
        ops: &[],
        groups: Vec::new(),
        inherited: vec![Vec::new(); region.blocks.len()],
        ranges,
        reserved: BTreeMap::new(),
        latches: BTreeMap::new(),
        current: None,
        deltas: BTreeMap::new(),
        is_inner: false,
        negation: None,
        condition: None,
        target: None,
        exits: false,
        ended: false,
        b: &mut builder,
    };
    if !region.blocks[0].is_loop {
        translator.poll(0);
    }
    translator.jump_within(0);
    // A block's predecessor that hands its count on must come first.
    let mut done = vec![false; region.blocks.len()];
    let mut work = vec![0];
    while let Some(block) = work.pop() {
        if std::mem::replace(&mut done[block], true) {
            continue;
        }
        if let Some(entered) = translator.block(block) {
            translator.steady_loop(entered);
        }
        // The fall-through is on top: it is translated next.
        work.extend(region.successors(block));
    }
    // What cannot be reached has no code, but its label exists.
    for (label, _) in translator.labels.clone().into_iter().zip(&done).filter(|(_, done)| !**done) {
        translator.b.switch_to_block(label);
        let nothing = translator.b.ins().iconst(I64, result::CONTINUE);
        translator.b.ins().return_(&[nothing]);
    }
    translator.translate_unmade();
    translator.translate_exit();
    let Translator { links, sites, ranges, .. } = translator;
    builder.seal_all_blocks();
    builder.finalize(isa.frontend_config());
    Translation { function, links, sites, ranges }
}

impl<'a> Translator<'a, '_> {
    pub(super) fn constant(&mut self, value: i64) -> Value {
        self.b.ins().iconst(I64, value)
    }

    /// A value as 64 bits.
    pub(super) fn int(&mut self, v: V) -> Value {
        match self.settled(v) {
            V::Const(value) => self.constant(value),
            V::Int(value) => value,
            V::Bool(value) => self.b.ins().uextend(I64, value),
            V::Double(value) => self.b.ins().bitcast(I64, MemFlagsData::new(), value),
            V::Single(value) => {
                let bits = self.b.ins().bitcast(I32, MemFlagsData::new(), value);
                self.b.ins().uextend(I64, bits)
            }
            V::Sign(value) | V::Magnitude(value) => {
                let wide = self.b.func.dfg.value_type(value) == F64;
                let mask = if wide { i64::MIN } else { 1 << 31 };
                let mask = if matches!(v, V::Sign(_)) { mask } else { mask.wrapping_sub(1) };
                let bits = self.int(if wide { V::Double(value) } else { V::Single(value) });
                self.b.ins().band_imm_s(bits, mask)
            }
            V::Boxed(value) => {
                let bits = self.b.ins().bitcast(I32, MemFlagsData::new(), value);
                let bits = self.b.ins().uextend(I64, bits);
                self.b.ins().bor_imm_s(bits, !0xffff_ffff)
            }
        }
    }

    /// A value as an F64.
    pub(super) fn double(&mut self, v: V) -> Value {
        match self.settled(v) {
            V::Double(value) => value,
            _ => {
                let bits = self.int(v);
                self.b.ins().bitcast(F64, MemFlagsData::new(), bits)
            }
        }
    }

    /// The low half of a value as an F32.
    pub(super) fn single(&mut self, v: V) -> Value {
        match self.settled(v) {
            V::Single(value) | V::Boxed(value) => value,
            _ => {
                let bits = self.int(v);
                let bits = self.b.ins().ireduce(I32, bits);
                self.b.ins().bitcast(F32, MemFlagsData::new(), bits)
            }
        }
    }

    /// A value that is non-zero if a condition holds.
    fn truth(&mut self, v: V) -> Value {
        match v {
            V::Bool(value) => value,
            _ => {
                let value = self.int(v);
                self.b.ins().icmp_imm_s(IntCC::NotEqual, value, 0)
            }
        }
    }

    // Registers.

    fn place(register: u32) -> i32 {
        if register < 32 { offset::X + 8 * register as i32 } else { offset::F + 8 * (register as i32 - 32) }
    }

    pub(super) fn variable(&mut self, register: u32) -> Variable {
        let index = register as usize;
        if let Some(variable) = self.variables[index] {
            return variable;
        }
        let variable = self.b.declare_var(if register < 32 { I64 } else { F64 });
        self.variables[index] = Some(variable);
        variable
    }

    pub(super) fn load_register(&mut self, register: u32) -> Value {
        let t = if register < 32 { I64 } else { F64 };
        self.b.ins().load(t, self.memory.hart, self.hart, Self::place(register))
    }

    fn wrap(register: u32, value: Value) -> V {
        if register < 32 { V::Int(value) } else { V::Double(value) }
    }

    pub(super) fn read(&mut self, register: u32) -> V {
        if let Some(value) = self.values[register as usize] {
            return value;
        }
        let variable = self.variable(register);
        let value = if self.available >> register & 1 != 0 {
            self.b.use_var(variable)
        } else {
            let value = self.load_register(register);
            self.b.def_var(variable, value);
            self.available |= 1 << register;
            value
        };
        let value = Self::wrap(register, value);
        self.values[register as usize] = Some(value);
        value
    }

    fn write(&mut self, register: u32, value: V) {
        let bit = 1 << register;
        self.keep(self.unused & bit);
        self.groups.retain(|group| u32::from(group.base) != register);
        self.values[register as usize] = Some(value);
        self.available |= bit;
        self.dirty |= bit;
        self.behind |= bit;
    }

    /// A register's value in the type of its variable.
    fn materialised(&mut self, register: u32) -> Value {
        let value = self.read(register);
        if register < 32 { self.int(value) } else { self.double(value) }
    }

    fn store_register(&mut self, register: u32) {
        let value = self.read(register);
        // As it is: a single goes to memory without a detour through an F64.
        let value = match self.settled(value) {
            V::Double(value) => value,
            other => self.int(other),
        };
        self.b.ins().store(self.memory.hart, value, self.hart, Self::place(register));
    }

    pub(super) fn flush_set(&mut self, set: Registers) {
        for register in bits(set & self.dirty) {
            self.store_register(register);
        }
        self.dirty &= !set;
        self.unused &= !set;
    }

    /// Has the floating-point operations executed that only these registers' values come from: their flags count.
    pub(super) fn keep(&mut self, set: Registers) {
        for register in bits(set) {
            let value = self.read(register);
            if !self.is_loose(value) {
                self.store_register(register);
            }
            self.settled(value);
        }
        self.unused &= !set;
    }

    /// Stores all registers that are newer than memory.
    fn flush(&mut self) {
        self.flush_set(u64::MAX);
    }

    /// Brings the variables up to date.
    pub(super) fn define_variables(&mut self) {
        for register in bits(self.behind) {
            let value = self.materialised(register);
            let variable = self.variable(register);
            self.b.def_var(variable, value);
        }
        self.behind = 0;
    }

    // Leaving.

    /// `left` after `count` more instructions.
    fn left_after(&mut self, count: u32) -> Value {
        let left = self.b.use_var(self.left);
        if count == 0 { left } else { self.b.ins().iadd_imm_s(left, -i64::from(count)) }
    }

    /// Leaves to the engine with the hart's `pc` at a distance from the entry and `count` instructions of the block
    /// retired.
    fn leave(&mut self, at: i64, count: u32, code: i64) {
        let (pc, code) = (self.address(at), self.constant(code));
        let left = self.left_after(count);
        self.b.ins().jump(self.exit, &[pc, left, code].map(BlockArg::Value));
    }

    /// Where all ways to the engine end, so that only one has the function's epilogue.
    fn translate_exit(&mut self) {
        self.b.switch_to_block(self.exit);
        let &[pc, left, code] = self.b.block_params(self.exit) else { unreachable!("made with three") };
        self.b.ins().store(self.memory.hart, pc, self.hart, offset::PC);
        self.b.ins().store(self.memory.hart, left, self.hart, offset::LEFT);
        self.b.ins().return_(&[code]);
    }

    /// Where the accesses end up that did not happen, each with little code of its own: with the trap that the service
    /// tells of, or to be interpreted if there is none.
    fn translate_unmade(&mut self) {
        self.b.switch_to_block(self.unmade);
        let &[left, place] = self.b.block_params(self.unmade) else { unreachable!("made with two") };
        let distance = self.b.ins().sshr_imm_u(place, PLACE_COUNT_BITS);
        let pc = self.b.ins().iadd(self.entry, distance);
        let count = self.b.ins().band_imm_s(place, (1 << PLACE_COUNT_BITS) - 1);
        let left = self.b.ins().isub(left, count);
        let trapped = self.b.ins().load(I64, self.memory.hart, self.hart, offset::TRAPPED);
        let interpret = self.constant(result::INTERPRET);
        let code = self.b.ins().isub(interpret, trapped);
        self.b.ins().jump(self.exit, &[pc, left, code].map(BlockArg::Value));
    }

    /// What [`Self::translate_unmade`] is told of the current instruction.
    fn unmade_arguments(&mut self) -> [BlockArg; 2] {
        let left = self.b.use_var(self.left);
        let place = self.constant(self.op.at << PLACE_COUNT_BITS | i64::from(self.count));
        [left, place].map(BlockArg::Value)
    }

    /// The virtual address at a distance from the entry.
    fn address(&mut self, at: i64) -> Value {
        if at == 0 { self.entry } else { self.b.ins().iadd_imm_s(self.entry, at) }
    }

    /// Goes to translated code outside of the region, all being flushed.
    fn link(&mut self, at: i64, count: u32) {
        let number = self.links.iter().position(|link| *link == at).unwrap_or(self.links.len());
        if number == self.links.len() {
            self.links.push(at);
        }
        let pc = self.address(at);
        let left = self.left_after(count);
        let link = self.constant((self.link_base + 8 * number as u64) as i64);
        let code = self.b.ins().load(I64, self.memory.code, link, 0);
        self.b.ins().return_call_indirect(self.tail_signature, code, &[self.hart, pc, link, left]);
    }

    /// Goes to the address in `target` by the jump cache, all being flushed.
    fn leave_indirect(&mut self, target: Value, count: u32) {
        let left = self.left_after(count);
        let none = self.constant(0);
        let parameters = [self.hart, target, none, left];
        let miss = Probe { memory: self.memory, signature: self.tail_signature, parameters }.first(self.b);
        self.b.switch_to_block(miss);
        let place = offset::SERVICES + 8 * Service::Unlinked as i32;
        let code = self.b.ins().load(I64, self.memory.hart.with_readonly(), self.hart, place);
        self.b.ins().return_call_indirect(self.tail_signature, code, &parameters);
    }

    /// Leaves at the start of a block if there is an event or the budget runs out.
    pub(super) fn poll(&mut self, block: usize) {
        let (serve, look, go) = (self.cold(), self.b.create_block(), self.b.create_block());
        let left = self.b.use_var(self.left);
        let exhausted = self.b.ins().icmp_imm_s(IntCC::SignedLessThan, left, 0);
        self.b.ins().brif(exhausted, serve, [], look, []);
        self.b.seal_block(look);
        self.b.switch_to_block(look);
        let events = self.event_word();
        self.branch_to(events, serve, go);
        self.b.switch_to_block(serve);
        let (dirty, values) = (self.dirty, self.values);
        self.flush();
        (self.dirty, self.values) = (dirty, values);
        self.leave(self.region.blocks[block].start, 0, result::CONTINUE);
        self.b.switch_to_block(go);
    }

    /// The word that says whether there are events: for the host a load, for the optimiser a fence.
    pub(super) fn event_word(&mut self) -> Value {
        let word = self.b.ins().load(I64, self.memory.hart.with_readonly(), self.hart, offset::EVENT);
        self.b.ins().atomic_load(I32, MemFlagsData::new().with_notrap().with_aligned(), word)
    }

    /// Branches to two labels that nothing else leads to from now on.
    pub(super) fn branch_to(&mut self, condition: Value, then: Label, otherwise: Label) {
        self.b.ins().brif(condition, then, [], otherwise, []);
        self.b.seal_block(then);
        self.b.seal_block(otherwise);
    }

    pub(super) fn cold(&mut self) -> Label {
        let label = self.b.create_block();
        self.b.set_cold_block(label);
        label
    }

    // Blocks.

    /// Goes to a block of the region from where `values`, `dirty` and `available` hold.
    fn jump_within(&mut self, block: usize) {
        self.prepare_edge(block);
        let label = self.label(block);
        self.b.ins().jump(label, []);
    }

    /// Where a block starts for the one under translation.
    fn label(&self, block: usize) -> Label {
        let latch = self.current.and_then(|current| self.latches.get(&(current, block)));
        latch.copied().unwrap_or(self.labels[block])
    }

    /// What must happen on an edge: registers that the block does not expect to be newer than memory are stored, those
    /// that it expects at hand are loaded.
    fn prepare_edge(&mut self, block: usize) {
        let Block { available, dirty, .. } = self.region.blocks[block];
        self.flush_set(!dirty);
        for register in bits(self.missing(available)) {
            let value = self.load_register(register);
            let variable = self.variable(register);
            self.b.def_var(variable, value);
        }
    }

    fn missing(&self, wanted: Registers) -> Registers {
        // A register nobody in the region touches has no variable, and is at hand nowhere.
        wanted & !self.available & self.touched()
    }

    /// Registers that the region touches.
    fn touched(&self) -> Registers {
        self.region.touched
    }

    fn edge_is_empty(&self, block: usize) -> bool {
        let Block { available, dirty, .. } = self.region.blocks[block];
        self.dirty & !dirty == 0 && self.missing(available) == 0
    }

    /// Translates a block. If a steady loop begins with it, its second copy is yet to be translated.
    fn block(&mut self, index: usize) -> Option<Entered> {
        let region = self.region;
        let block = &region.blocks[index];
        self.b.switch_to_block(self.labels[index]);
        self.current = Some(index);
        self.values = [None; 64];
        self.available = block.available;
        self.dirty = block.dirty;
        (self.behind, self.unused, self.float_dirty) = (0, 0, false);
        self.loose.clear();
        self.count = self.owed[index].unwrap_or(0);
        if block.is_loop {
            self.poll(index);
        }
        let steady = region.steady.iter().position(|steady| steady.chain[0] == index);
        let entered = steady
            .filter(|_| self.host.misaligned && !self.mode.masks_pointers())
            .and_then(|steady| self.enter_steady(steady));
        (self.condition, self.target, self.ended) = (None, None, false);
        self.is_inner = block.is_inner;
        self.groups = std::mem::take(&mut self.inherited[index]);
        self.ops(block);
        if !self.ended {
            self.bequeath(index);
            self.end(block);
        }
        entered
    }

    /// Hands checks on to the blocks that nothing else leads to: nobody polls between.
    fn bequeath(&mut self, index: usize) {
        for next in self.region.successors(index) {
            if self.is_continuation(next) {
                self.inherited[next].clone_from(&self.groups);
            }
        }
    }

    /// Whether a block has one predecessor in the region and comes right behind it.
    fn is_continuation(&self, index: usize) -> bool {
        let block = &self.region.blocks[index];
        block.predecessors == 1 && !block.is_loop && index != 0
    }

    /// Translates the instructions of a block, up to one that leaves for good.
    pub(super) fn ops(&mut self, block: &'a Block) {
        self.ops = &block.ops;
        for (place, op) in block.ops.iter().enumerate() {
            (self.op, self.place) = (*op, place);
            self.fragile = false;
            self.exits = block.end == End::Exit && place + 1 == block.ops.len();
            let Ok(()) = isa::execute_row(op.opcode, self, &op.insn);
            self.count += 1;
            if self.ended {
                return;
            }
        }
    }

    fn end(&mut self, block: &Block) {
        self.keep(self.unused);
        match (block.end, &*block.ways) {
            (End::Branch { .. }, &[taken, next]) => self.end_branch([taken, next]),
            (End::Jump(_) | End::Call(_), &[way]) => self.end_jump(way),
            (End::Indirect, &[way]) if block.returns_surely => self.end_jump(way),
            (End::Indirect, ways) => self.end_indirect(ways),
            // The helper has left.
            (End::Exit, _) => {}
            (end, ways) => unreachable!("{end:?} with {ways:?}"),
        }
    }

    fn end_jump(&mut self, way: Way) {
        if let Some(block) = way.block {
            self.settle_count(&[block]);
            self.define_variables();
        }
        self.go(way);
    }

    /// Goes to an address from a register: to one of the `ways`, if it is theirs.
    fn end_indirect(&mut self, ways: &[Way]) {
        let Some(target) = self.target else { return };
        if !ways.is_empty() {
            let blocks: Vec<usize> = ways.iter().filter_map(|way| way.block).collect();
            self.settle_count(&blocks);
            self.define_variables();
        }
        for way in ways {
            let address = self.address(way.at);
            let is_it = self.b.ins().icmp(IntCC::Equal, target, address);
            let (here, on) = (self.b.create_block(), self.b.create_block());
            self.branch_to(is_it, here, on);
            self.b.switch_to_block(here);
            self.preserving(|t| t.go(*way));
            self.b.switch_to_block(on);
        }
        self.flush();
        self.leave_indirect(target, self.count);
    }

    /// Does something on one of several ways, for the others to find everything as it is now.
    pub(super) fn preserving(&mut self, act: impl FnOnce(&mut Self)) {
        let (dirty, unused, values) = (self.dirty, self.unused, self.values);
        act(self);
        (self.dirty, self.unused, self.values) = (dirty, unused, values);
    }

    /// Goes to a block or leaves, where `values`, `dirty` and `available` hold.
    pub(super) fn go(&mut self, way: Way) {
        match way.block {
            Some(block) => self.jump_within(block),
            None => self.leave_by_link(way.at),
        }
    }

    fn leave_by_link(&mut self, target: i64) {
        self.flush();
        self.link(target, self.count);
    }

    /// Counts the block's instructions, or hands the count on to blocks that have no other predecessor.
    fn settle_count(&mut self, successors: &[usize]) {
        let count = self.count;
        if successors.iter().all(|next| self.is_continuation(*next)) {
            for block in successors {
                self.owed[*block] = Some(count);
            }
            return;
        }
        let left = self.left_after(count);
        self.b.def_var(self.left, left);
        self.count = 0;
    }

    fn end_branch(&mut self, ways: [Way; 2]) {
        let Some(condition) = self.condition else { return };
        let blocks: Vec<usize> = ways.iter().filter_map(|way| way.block).collect();
        self.settle_count(&blocks);
        self.define_variables();
        // Each way either goes straight to a block or through a label of its own.
        let mut labels = [self.labels[0]; 2];
        let mut detours = [false; 2];
        for (place, way) in ways.iter().enumerate() {
            match way.block {
                Some(block) if self.edge_is_empty(block) => labels[place] = self.label(block),
                other => {
                    detours[place] = true;
                    labels[place] = if other.is_some() { self.b.create_block() } else { self.cold() };
                }
            }
        }
        self.b.ins().brif(condition, labels[0], [], labels[1], []);
        for (place, way) in ways.iter().enumerate().filter(|(place, _)| detours[*place]) {
            self.b.seal_block(labels[place]);
            self.b.switch_to_block(labels[place]);
            self.preserving(|t| t.go(*way));
        }
    }

    // Services.

    /// Calls a service; its answer.
    pub(super) fn service(&mut self, service: Service, arguments: &[Value]) -> Value {
        self.call_service(service, arguments);
        self.outcome(I64)
    }

    /// Calls a service.
    pub(super) fn call_service(&mut self, service: Service, arguments: &[Value]) {
        for (place, argument) in arguments.iter().enumerate() {
            self.b.ins().store(self.memory.hart, *argument, self.hart, offset::ARGUMENTS + 8 * place as i32);
        }
        let place = offset::SERVICES + 8 * service as i32;
        let code = self.b.ins().load(I64, self.memory.hart.with_readonly(), self.hart, place);
        self.b.ins().call_indirect(self.service_signature, code, &[self.hart]);
    }

    /// What a service has answered, in the low bits.
    fn outcome(&mut self, t: Type) -> Value {
        let place = if cfg!(target_endian = "big") { 8 - t.bytes() as i32 } else { 0 };
        self.b.ins().load(t, self.memory.hart, self.hart, offset::OUTCOME + place)
    }

    /// Goes to a label unless the last memory service trapped: then leaves with the current instruction's trap.
    fn jump_unless_trapped(&mut self, label: Label, value: Option<Value>) {
        let trapped = self.b.ins().load(I64, self.memory.hart, self.hart, offset::TRAPPED);
        let place = self.unmade_arguments();
        self.b.ins().brif(trapped, self.unmade, &place, label, value.map(BlockArg::Value).as_slice());
    }

    /// Leaves with the current instruction's trap if the last memory service trapped.
    fn leave_if_trapped(&mut self) {
        let on = self.b.create_block();
        self.jump_unless_trapped(on, None);
        self.b.seal_block(on);
        self.b.switch_to_block(on);
    }

    /// The host's address of an access that has hit.
    pub(super) fn host_address(&mut self, entry: Value, address: Value, table: i32) -> Value {
        let delta = self.b.ins().load(I64, self.memory.tlb, entry, table + offset::ENTRY_DELTA);
        self.b.ins().iadd(address, delta)
    }

    /// The address of an access as 64 bits, masked if the mode asks for it: then by the TLB alone, as a range entry
    /// covers an access by its base register.
    fn data_address(&mut self, address: V) -> Value {
        let address = self.int(address);
        if !self.mode.masks_pointers() {
            return address;
        }
        let bits = self.b.ins().load(I64, self.memory.hart, self.hart, offset::MASKING_BITS);
        let mask = self.b.ins().load(I64, self.memory.hart, self.hart, offset::MASKING_MASK);
        let address = self.b.ins().ishl(address, bits);
        let address = self.b.ins().sshr(address, bits);
        self.b.ins().band(address, mask)
    }

    /// A load or a store, whose check is shared by those of the block that have the same base register.
    fn access_at(
        &mut self,
        address: Value,
        width: Width,
        table: i32,
        result: Option<Type>,
        fast: impl Fn(&mut Self, Value, i32) -> Option<Value>,
        slow: impl FnOnce(&mut Self, AccessCode) -> Option<Value>,
    ) -> Option<Value> {
        let plain = AccessCode { width, range: None, takes: false };
        let Some(access) = self.op.effects.access.filter(|_| self.host.misaligned && !self.mode.masks_pointers())
        else {
            return self.access(address, width, table, result, |t, host| fast(t, host, 0), |t| slow(t, plain));
        };
        if let Some(delta) = self.deltas.get(&self.op.number).copied() {
            let base = self.read(access.base.into());
            let base = self.int(base);
            let host = self.b.ins().iadd(base, delta);
            return fast(self, host, access.offset as i32);
        }
        let end = access.offset + access.width.bytes() as i64;
        let shared = self.groups.iter().copied().find(|group| {
            (group.base, group.store) == (access.base, access.store) && group.low <= access.offset && end <= group.high
        });
        if let Some(group) = shared {
            return fast(self, group.host, (access.offset - group.low) as i32);
        }
        let reserved = self.reserved.get(&self.op.number).copied();
        let Some(range) = reserved.map(|reserved| reserved.range).or_else(|| self.ranges.next()) else {
            return self.access(address, width, table, result, |t, host| fast(t, host, 0), |t| slow(t, plain));
        };
        let span = span(access, &self.ops[self.place..]);
        let is_shared = span.is_some();
        let (low, length) = span.unwrap_or((access.offset, width.bytes() as i64));
        let distance = (access.offset - low) as i32;
        let check = SharedCheck { index: range, span: length as u64, distance: distance as u64 };
        let code = AccessCode { width, range: Some(check), takes: self.mode.is_user() };
        self.flush_early();
        let base = self.read(access.base.into());
        let base = self.int(base);
        let first = if low == 0 { base } else { self.b.ins().iadd_imm_s(base, low) };
        let (hot, miss, join) = (self.b.create_block(), self.cold(), self.b.create_block());
        let result = if is_shared { Some(I64) } else { result };
        if let Some(result) = result {
            self.b.append_block_param(join, result);
        }
        let entry = self.hart;
        let at = offset::RANGES + (range * size_of::<Range>()) as i32;
        let limit = self.b.ins().load(I64, self.memory.tlb, entry, at + offset::RANGE_LIMIT);
        // The last load, and the difference with one use: so the host subtracts from memory.
        let run = self.b.ins().load(I64, self.memory.tlb, entry, at + offset::RANGE_BASE);
        let place = self.b.ins().isub(first, run);
        let inside = self.b.ins().icmp(IntCC::UnsignedLessThan, place, limit);
        self.branch_to(inside, hot, miss);
        self.b.switch_to_block(hot);
        let delta = self.b.ins().load(I64, self.memory.tlb, entry, at + offset::RANGE_DELTA);
        let host = self.b.ins().iadd(first, delta);
        let value = if is_shared { Some(host) } else { fast(self, host, 0) };
        self.jump_with(join, value);
        // A miss: the TLB, where the access lies in one page, else the service.
        self.b.switch_to_block(miss);
        if let Some(Reserved { credit, .. }) = reserved {
            self.raise_credit(credit);
        }
        if is_shared {
            self.find_run(address, code, join);
        } else {
            self.slowly(|t| {
                let value = slow(t, code);
                t.jump_unless_trapped(join, value);
            });
        }
        self.b.seal_block(join);
        self.b.switch_to_block(join);
        let value = result.map(|_| self.b.block_params(join)[0]);
        match value.filter(|_| is_shared) {
            Some(host) => {
                self.groups.push(Group { base: access.base, store: access.store, low, high: low + length, host });
                fast(self, host, distance)
            }
            None => value,
        }
    }

    /// Asks for the host's address of what accesses share, and goes on with it; leaves where the first one traps, or no
    /// run has all.
    fn find_run(&mut self, address: Value, code: AccessCode, on: Label) {
        let service = if self.op.effects.access.is_some_and(|access| access.store) {
            Service::StoreRun
        } else {
            Service::LoadRun
        };
        let word = self.constant(code.word() as i64);
        let host = self.service(service, &[address, word]);
        let place = self.unmade_arguments();
        if !self.stores_late() || self.dirty == 0 {
            self.b.ins().brif(host, on, &[BlockArg::Value(host)], self.unmade, &place);
            return;
        }
        let out = self.cold();
        self.b.ins().brif(host, on, &[BlockArg::Value(host)], out, []);
        self.b.seal_block(out);
        self.b.switch_to_block(out);
        self.slowly(|t| {
            t.b.ins().jump(t.unmade, &place);
        });
    }

    /// The offset in RAM of a host's address in it.
    fn offset_in_ram(&mut self, host: Value) -> Value {
        let base = self.constant(self.host.ram as i64);
        self.b.ins().isub(host, base)
    }

    /// A memory access: `fast` on the host's address where the TLB allows it, else a service.
    fn access(
        &mut self,
        address: Value,
        width: Width,
        table: i32,
        result: Option<Type>,
        fast: impl FnOnce(&mut Self, Value) -> Option<Value>,
        slow: impl FnOnce(&mut Self) -> Option<Value>,
    ) -> Option<Value> {
        self.flush_early();
        let (hit, entry) = probe_tlb(self.b, self.memory, self.hart, address, width, table);
        let (hot, cold, join) = (self.b.create_block(), self.cold(), self.b.create_block());
        if let Some(result) = result {
            self.b.append_block_param(join, result);
        }
        self.branch_to(hit, hot, cold);
        self.b.switch_to_block(hot);
        let host = self.host_address(entry, address, table);
        let value = fast(self, host);
        self.jump_with(join, value);
        self.b.switch_to_block(cold);
        self.slowly(|t| {
            let value = slow(t);
            t.jump_unless_trapped(join, value);
        });
        self.b.seal_block(join);
        self.b.switch_to_block(join);
        result.map(|_| self.b.block_params(join)[0])
    }

    /// Before an access: stores registers unless its slow path does.
    fn flush_early(&mut self) {
        if !self.stores_late() {
            self.flush();
        }
    }

    fn stores_late(&self) -> bool {
        self.is_inner && self.op.effects.access.is_some()
    }

    /// The slow path of an access.
    fn slowly(&mut self, slow: impl FnOnce(&mut Self)) {
        let (dirty, unused, values) = (self.dirty, self.unused, self.values);
        if self.stores_late() {
            self.flush();
        }
        slow(self);
        (self.dirty, self.unused, self.values) = (dirty, unused, values);
    }

    fn jump_with(&mut self, label: Label, value: Option<Value>) {
        match value {
            Some(value) => self.b.ins().jump(label, &[BlockArg::Value(value)]),
            None => self.b.ins().jump(label, []),
        };
    }

    /// A value of any type that memory has as 64 bits, zero-extended.
    pub(super) fn zero_extended(&mut self, value: Value) -> Value {
        match self.b.func.dfg.value_type(value) {
            I64 => value,
            F64 => self.int(V::Double(value)),
            F32 => self.int(V::Single(value)),
            _ => self.b.ins().uextend(I64, value),
        }
    }

    fn extended(&mut self, value: Value, width: Width, extend: Extend) -> Value {
        match (width, extend) {
            (Width::Double, _) => value,
            (_, Extend::Signed) => self.b.ins().sextend(I64, value),
            (_, Extend::Zero) => self.b.ins().uextend(I64, value),
        }
    }

    fn narrowed(&mut self, value: Value, width: Width) -> Value {
        if width == Width::Double { value } else { self.b.ins().ireduce(memory_type(width), value) }
    }

    /// The low bits of a value. A shift of a word becomes one of 32 bits, which the compiler merges with another into a
    /// rotation: RV64I has none, and hashes are full of them.
    fn low(&mut self, value: Value, width: Width) -> Value {
        let t = memory_type(width);
        if let (Width::Word, ValueDef::Result(inst, _)) = (width, self.b.func.dfg.value_def(value)) {
            let dfg = &self.b.func.dfg;
            match dfg.insts[inst] {
                InstructionData::Unary { opcode: Opcode::Sextend | Opcode::Uextend, arg }
                    if dfg.value_type(arg) == I32 =>
                {
                    return arg;
                }
                InstructionData::Binary { opcode: opcode @ (Opcode::Ishl | Opcode::Ushr), args: [from, amount] } => {
                    if let Some(amount) = self.small_constant(amount) {
                        if opcode == Opcode::Ishl {
                            let from = self.low(from, width);
                            return self.b.ins().ishl_imm_s(from, amount);
                        }
                        if let Some(from) = self.zero_extended_word(from) {
                            return self.b.ins().ushr_imm_s(from, amount);
                        }
                    }
                }
                _ => {}
            }
        }
        self.b.ins().ireduce(t, value)
    }

    /// The value of a constant below 32.
    fn small_constant(&self, value: Value) -> Option<i64> {
        let ValueDef::Result(inst, _) = self.b.func.dfg.value_def(value) else { return None };
        match self.b.func.dfg.insts[inst] {
            InstructionData::UnaryImm { opcode: Opcode::Iconst, imm } => {
                Some(imm.bits()).filter(|bits| (0..32).contains(bits))
            }
            _ => None,
        }
    }

    /// The word that a value is, with zeros above it.
    fn zero_extended_word(&self, value: Value) -> Option<Value> {
        let ValueDef::Result(inst, _) = self.b.func.dfg.value_def(value) else { return None };
        match self.b.func.dfg.insts[inst] {
            InstructionData::Unary { opcode: Opcode::Uextend, arg } if self.b.func.dfg.value_type(arg) == I32 => {
                Some(arg)
            }
            _ => None,
        }
    }

    fn binary(&mut self, a: V, b: V, op: impl FnOnce(&mut Self, Value, Value) -> Value) -> V {
        let (a, b) = (self.int(a), self.int(b));
        V::Int(op(self, a, b))
    }

    /// A division: the host's traps for a divisor of zero and on overflow, so these are replaced before and after.
    fn divide(&mut self, a: V, b: V, signed: bool, remainder: bool) -> V {
        let (a, b) = (self.int(a), self.int(b));
        let zero = self.b.ins().icmp_imm_s(IntCC::Equal, b, 0);
        let one = self.constant(1);
        let (divisor, exceptional) = if signed {
            // −2^63 ÷ −1 = −2^63 ÷ 1, and both leave 0.
            let lowest = self.b.ins().icmp_imm_s(IntCC::Equal, a, i64::MIN);
            let minus = self.b.ins().icmp_imm_s(IntCC::Equal, b, -1);
            let overflow = self.b.ins().band(lowest, minus);
            let any = self.b.ins().bor(zero, overflow);
            (self.b.ins().select(any, one, b), zero)
        } else {
            (self.b.ins().select(zero, one, b), zero)
        };
        let value = match (signed, remainder) {
            (true, false) => self.b.ins().sdiv(a, divisor),
            (true, true) => self.b.ins().srem(a, divisor),
            (false, false) => self.b.ins().udiv(a, divisor),
            (false, true) => self.b.ins().urem(a, divisor),
        };
        let by_zero = if remainder { a } else { self.constant(-1) };
        V::Int(self.b.ins().select(exceptional, by_zero, value))
    }

    /// Makes `mstatus.FS` dirty.
    pub(super) fn dirty_floats(&mut self) {
        if !std::mem::replace(&mut self.float_dirty, true) {
            let status = self.b.ins().load(I64, self.memory.hart, self.hart, offset::MSTATUS);
            let status = self.b.ins().bor_imm_s(status, mstatus::FS.mask() as i64);
            self.b.ins().store(self.memory.hart, status, self.hart, offset::MSTATUS);
        }
    }

    pub(super) fn exact_float(&mut self, i: &Insn, op: FloatOp, format: Format, operands: [V; 3]) -> V {
        let site = Box::new(FloatSite { insn: *i, op, format });
        let address = self.constant(&raw const *site as i64);
        self.sites.push(site);
        let [a, b, c] = operands.map(|operand| self.int(operand));
        V::Int(self.service(Service::Float, &[address, a, b, c]))
    }
}

/// The pieces of a TLB check: whether an access of `width` at `address` hits, and the slot.
pub(super) fn probe_tlb(
    b: &mut FunctionBuilder,
    memory: Memory,
    hart: Value,
    address: Value,
    width: Width,
    table: i32,
) -> (Value, Value) {
    let page = b.ins().band_imm_s(address, PAGE | width_bits(width));
    let context = b.ins().load(I64, memory.hart, hart, offset::DATA_CONTEXT);
    let wanted = b.ins().bor(page, context);
    let entry_size = size_of::<crate::tlb::Entry>() as i64;
    let shifted = b.ins().ushr_imm_s(address, 12 - i64::from(entry_size.trailing_zeros()));
    let index = b.ins().band_imm_s(shifted, (crate::tlb::ENTRIES as i64 - 1) * entry_size);
    let entry = b.ins().iadd(hart, index);
    let tag = b.ins().load(I64, memory.tlb, entry, table + offset::ENTRY_TAG);
    let hit = b.ins().icmp(IntCC::Equal, tag, wanted);
    (hit, entry)
}

/// The function that enters translated code from the engine: `fn(hart, pc, left, code) -> result`.
pub(super) fn entry_function(isa: &dyn TargetIsa, context: &mut FunctionBuilderContext) -> Function {
    let mut signature = Signature::new(isa.default_call_conv());
    signature.params.extend([AbiParam::new(I64); 4]);
    signature.returns.push(AbiParam::new(I64));
    let mut function = Function::with_name_signature(Default::default(), signature);
    let mut b = FunctionBuilder::new(&mut function, context);
    let region = b.import_signature(region_signature());
    let label = b.create_block();
    b.append_block_params_for_function_params(label);
    b.switch_to_block(label);
    let parameters = b.block_params(label).to_vec();
    let none = b.ins().iconst(I64, 0);
    let call = b.ins().call_indirect(region, parameters[3], &[parameters[0], parameters[1], none, parameters[2]]);
    let code = b.inst_results(call)[0];
    b.ins().return_(&[code]);
    b.seal_all_blocks();
    b.finalize(isa.frontend_config());
    function
}

/// Where a link leads that leads nowhere yet, and a jump that has missed its first slot: to the jump cache, and on a miss
/// to the engine with the link's address, which is zero for a jump, as [`result::CONTINUE`] is.
pub(super) fn unlinked_function(isa: &dyn TargetIsa, context: &mut FunctionBuilderContext) -> Function {
    way_out(isa, context, 0, |b, probe| {
        let miss = probe.first(b);
        b.switch_to_block(miss);
        probe.second(b)
    })
}

/// Where the links of baseline code's counters lead until they lead to a region: to the region that the jump cache has for
/// such ways, and on a miss to the engine with the link's address, made odd.
pub(super) fn hot_function(isa: &dyn TargetIsa, context: &mut FunctionBuilderContext) -> Function {
    way_out(isa, context, result::HOT, |b, probe| probe.hot(b))
}

/// A function that probes the jump cache and leaves with the link's address and some bits more on a miss, whose label
/// `probe` answers with.
fn way_out(
    isa: &dyn TargetIsa,
    context: &mut FunctionBuilderContext,
    bits: i64,
    probe: impl FnOnce(&mut FunctionBuilder, Probe) -> Label,
) -> Function {
    let mut function = Function::with_name_signature(Default::default(), region_signature());
    let memory = Memory::new(&mut function);
    let mut b = FunctionBuilder::new(&mut function, context);
    let signature = b.import_signature(region_signature());
    let label = b.create_block();
    b.append_block_params_for_function_params(label);
    b.switch_to_block(label);
    let p = b.block_params(label).to_vec();
    let parameters = [p[parameter::HART], p[parameter::PC], p[parameter::LINK], p[parameter::LEFT]];
    let miss = probe(&mut b, Probe { memory, signature, parameters });
    b.switch_to_block(miss);
    b.ins().store(memory.hart, p[parameter::PC], p[parameter::HART], offset::PC);
    b.ins().store(memory.hart, p[parameter::LEFT], p[parameter::HART], offset::LEFT);
    let link = p[parameter::LINK];
    let link = if bits == 0 { link } else { b.ins().bor_imm_s(link, bits) };
    b.ins().return_(&[link]);
    b.seal_all_blocks();
    b.finalize(isa.frontend_config());
    function
}

/// The numbers of the bits of a set.
pub(super) fn bits(mut set: u64) -> impl Iterator<Item = u32> {
    std::iter::from_fn(move || {
        (set != 0).then(|| {
            let bit = set.trailing_zeros();
            set &= set - 1;
            bit
        })
    })
}

macro_rules! binary {
    ($($name:ident $op:ident)+) => {
        $(fn $name(&mut self, a: V, b: V) -> V {
            self.binary(a, b, |t, a, b| t.b.ins().$op(a, b))
        })+
    };
}

impl Ops for Translator<'_, '_> {
    type V = V;
    type Exit = Infallible;

    fn imm(&mut self, value: i64) -> V {
        V::Const(value)
    }

    fn pc(&mut self, _: &Insn) -> V {
        V::Int(self.address(self.op.at))
    }

    fn x(&mut self, r: u8) -> V {
        if x_bit(r) == 0 { V::Const(0) } else { self.read(r.into()) }
    }

    fn set_x(&mut self, r: u8, value: V) {
        if x_bit(r) != 0 {
            self.write(r.into(), value);
            if self.fragile {
                self.unused |= x_bit(r);
            }
        } else if self.fragile {
            let value = self.int(value);
            self.b.ins().store(self.memory.hart, value, self.hart, offset::DISCARDED);
        }
    }

    fn f(&mut self, r: u8) -> V {
        self.read(32 + u32::from(r & 31))
    }

    fn set_f(&mut self, r: u8, value: V) {
        self.dirty_floats();
        self.write(32 + u32::from(r & 31), value);
        if self.fragile {
            self.unused |= f_bit(r);
        }
    }

    binary! { sub isub mulh smulhi mulhu umulhi mul imul }

    fn and(&mut self, a: V, b: V) -> V {
        match (self.settled(a), self.settled(b)) {
            (V::Const(a), V::Const(b)) => V::Const(a & b),
            (V::Double(value), V::Const(i64::MIN)) => V::Sign(value),
            (V::Double(value), V::Const(i64::MAX)) => V::Magnitude(value),
            (V::Single(value), V::Const(SINGLE_SIGN)) => V::Sign(value),
            (V::Single(value), V::Const(mask)) if mask == !SINGLE_SIGN => V::Magnitude(value),
            _ => self.binary(a, b, |t, a, b| t.b.ins().band(a, b)),
        }
    }

    fn xor(&mut self, a: V, b: V) -> V {
        match (self.settled(a), self.settled(b)) {
            (V::Double(value), V::Const(i64::MIN)) => {
                let negated = self.b.ins().fneg(value);
                self.negation = Some((negated, value));
                V::Double(negated)
            }
            (V::Single(value), V::Const(SINGLE_SIGN)) => {
                let negated = self.b.ins().fneg(value);
                self.negation = Some((negated, value));
                V::Single(negated)
            }
            (V::Double(value), V::Sign(sign)) if value == sign => V::Double(self.b.ins().fabs(value)),
            (V::Single(value), V::Sign(sign)) if value == sign => V::Single(self.b.ins().fabs(value)),
            _ => self.binary(a, b, |t, a, b| t.b.ins().bxor(a, b)),
        }
    }

    fn add(&mut self, a: V, b: V) -> V {
        match (a, b) {
            (a, V::Const(0)) | (V::Const(0), a) => a,
            (V::Const(a), V::Const(b)) => V::Const(a.wrapping_add(b)),
            _ => self.binary(a, b, |t, a, b| t.b.ins().iadd(a, b)),
        }
    }

    fn or(&mut self, a: V, b: V) -> V {
        match (a, b) {
            (V::Single(value), V::Const(UPPER)) => V::Boxed(value),
            // Sign injection.
            (V::Magnitude(value), V::Sign(sign)) => {
                let t = self.b.func.dfg.value_type(value);
                let value = match self.negation {
                    _ if value == sign => value,
                    Some((negated, of)) if negated == sign && of == value => negated,
                    _ => self.b.ins().fcopysign(value, sign),
                };
                if t == F64 { V::Double(value) } else { V::Single(value) }
            }
            _ => self.binary(a, b, |t, a, b| t.b.ins().bor(a, b)),
        }
    }

    // The compiler's shifts and rotations take their amount modulo the width, as ours do.
    binary! { shl ishl shr ushr sar sshr rotr rotr }

    fn rotrw(&mut self, a: V, b: V) -> V {
        self.binary(a, b, |t, a, b| {
            let (a, b) = (t.b.ins().ireduce(I32, a), t.b.ins().ireduce(I32, b));
            let value = t.b.ins().rotr(a, b);
            t.b.ins().sextend(I64, value)
        })
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
        let a = self.int(a);
        V::Int(self.b.ins().clz(a))
    }

    fn ctz(&mut self, a: V) -> V {
        let a = self.int(a);
        V::Int(self.b.ins().ctz(a))
    }

    fn popcount(&mut self, a: V) -> V {
        let a = self.int(a);
        V::Int(self.b.ins().popcnt(a))
    }

    fn bswap(&mut self, a: V) -> V {
        let a = self.int(a);
        V::Int(self.b.ins().bswap(a))
    }

    fn clmul(&mut self, a: V, b: V) -> V {
        self.binary(a, b, |t, a, b| t.service(Service::CarrylessLow, &[a, b]))
    }

    fn clmulh(&mut self, a: V, b: V) -> V {
        self.binary(a, b, |t, a, b| t.service(Service::CarrylessHigh, &[a, b]))
    }

    fn sext(&mut self, a: V, width: Width) -> V {
        if width == Width::Double {
            return a;
        }
        let a = self.int(a);
        let low = self.low(a, width);
        V::Int(self.b.ins().sextend(I64, low))
    }

    fn zext(&mut self, a: V, width: Width) -> V {
        match (a, width) {
            (_, Width::Double) => a,
            (V::Boxed(value) | V::Single(value), Width::Word) => V::Single(value),
            _ => {
                let a = self.int(a);
                let low = self.low(a, width);
                V::Int(self.b.ins().uextend(I64, low))
            }
        }
    }

    fn cmp(&mut self, cond: Cond, a: V, b: V) -> V {
        if let (Cond::Geu, V::Boxed(_), V::Const(UPPER)) = (cond, a, b) {
            return V::Const(1);
        }
        let code = match cond {
            Cond::Eq => IntCC::Equal,
            Cond::Ne => IntCC::NotEqual,
            Cond::Lt => IntCC::SignedLessThan,
            Cond::Ge => IntCC::SignedGreaterThanOrEqual,
            Cond::Ltu => IntCC::UnsignedLessThan,
            Cond::Geu => IntCC::UnsignedGreaterThanOrEqual,
        };
        let (a, b) = (self.int(a), self.int(b));
        V::Bool(self.b.ins().icmp(code, a, b))
    }

    fn select(&mut self, c: V, a: V, b: V) -> V {
        if let V::Const(c) = c {
            return if c != 0 { a } else { b };
        }
        let c = self.truth(c);
        let (a, b) = (self.int(a), self.int(b));
        V::Int(self.b.ins().select(c, a, b))
    }

    fn load(&mut self, _: &Insn, address: V, width: Width, extend: Extend) -> Result<V, Infallible> {
        let address = self.data_address(address);
        let float = self.op.opcode.row().is_float() && width != Width::Half;
        let (t, loaded) = match width {
            Width::Double if float => (F64, F64),
            Width::Word if float => (F32, F32),
            _ => (I64, memory_type(width)),
        };
        let fast = |t: &mut Self, host: Value, distance: i32| {
            let value = t.b.ins().load(loaded, t.memory.guest, host, distance);
            t.log(Kind::Load, width, address, (host, distance), value);
            Some(if loaded.is_float() { value } else { t.extended(value, width, extend) })
        };
        let slow = |t: &mut Self, code: AccessCode| {
            let word = t.constant(code.word() as i64);
            t.call_service(Service::Load, &[address, word]);
            let value = t.outcome(loaded);
            Some(if loaded.is_float() { value } else { t.extended(value, width, extend) })
        };
        let value = self.access_at(address, width, offset::READ_TLB, Some(t), fast, slow);
        let value = value.unwrap_or(address);
        Ok(match (width, float) {
            (Width::Double, true) => V::Double(value),
            (Width::Word, true) => V::Single(value),
            _ => V::Int(value),
        })
    }

    fn store(&mut self, _: &Insn, address: V, width: Width, value: V) -> Result<(), Infallible> {
        let address = self.data_address(address);
        let value = match (self.settled(value), width) {
            (V::Double(value), Width::Double) => V::Double(value),
            (V::Single(value) | V::Boxed(value), Width::Word) => V::Single(value),
            (other, _) => V::Int(self.int(other)),
        };
        let fast = |t: &mut Self, host: Value, distance: i32| {
            let stored = match value {
                V::Double(value) | V::Single(value) => value,
                other => {
                    let value = t.int(other);
                    t.narrowed(value, width)
                }
            };
            t.b.ins().store(t.memory.guest, stored, host, distance);
            t.log(Kind::Store, width, address, (host, distance), stored);
            None
        };
        let slow = |t: &mut Self, code: AccessCode| {
            let value = t.int(value);
            let word = t.constant(code.word() as i64);
            t.call_service(Service::Store, &[address, word, value]);
            None
        };
        self.access_at(address, width, offset::WRITE_TLB, None, fast, slow);
        Ok(())
    }

    fn amo(&mut self, _: &Insn, op: AmoOp, address: V, width: Width, value: V) -> Result<V, Infallible> {
        let (address, value) = (self.data_address(address), self.int(value));
        let fast = |t: &mut Self, host: Value| {
            let code = match op {
                AmoOp::Swap => AtomicRmwOp::Xchg,
                AmoOp::Add => AtomicRmwOp::Add,
                AmoOp::Xor => AtomicRmwOp::Xor,
                AmoOp::And => AtomicRmwOp::And,
                AmoOp::Or => AtomicRmwOp::Or,
                AmoOp::Min => AtomicRmwOp::Smin,
                AmoOp::Max => AtomicRmwOp::Smax,
                AmoOp::Minu => AtomicRmwOp::Umin,
                AmoOp::Maxu => AtomicRmwOp::Umax,
            };
            let operand = t.narrowed(value, width);
            let flags = t.memory.guest.with_aligned();
            let old = t.b.ins().atomic_rmw(memory_type(width), flags, code, host, operand);
            t.log(Kind::Modify, width, address, (host, 0), old);
            Some(t.extended(old, width, Extend::Signed))
        };
        let slow = |t: &mut Self| {
            let what = t.constant(super::runtime::amo_code(op, width) as i64);
            let old = t.service(Service::Amo, &[address, what, value]);
            Some(old)
        };
        let old = self.access(address, width, offset::WRITE_TLB, Some(I64), fast, slow);
        Ok(V::Int(old.unwrap_or(address)))
    }

    fn compare_and_swap(&mut self, _: &Insn, address: V, width: Width, expected: V, new: V) -> Result<V, Infallible> {
        let (address, expected, new) = (self.data_address(address), self.int(expected), self.int(new));
        let fast = |t: &mut Self, host: Value| {
            let (e, n) = (t.narrowed(expected, width), t.narrowed(new, width));
            let old = t.b.ins().atomic_cas(t.memory.guest.with_aligned(), host, e, n);
            t.log(Kind::Modify, width, address, (host, 0), old);
            Some(t.extended(old, width, Extend::Signed))
        };
        let slow = |t: &mut Self| {
            let bytes = t.constant(width.bytes() as i64);
            let old = t.service(Service::CompareAndSwap, &[address, bytes, expected, new]);
            Some(old)
        };
        let old = self.access(address, width, offset::WRITE_TLB, Some(I64), fast, slow);
        Ok(V::Int(old.unwrap_or(address)))
    }

    fn compare_and_swap_pair(
        &mut self,
        _: &Insn,
        address: V,
        expected: [V; 2],
        new: [V; 2],
    ) -> Result<[V; 2], Infallible> {
        let arguments = [address, expected[0], expected[1], new[0], new[1]].map(|v| self.int(v));
        self.flush();
        let low = self.service(Service::CompareAndSwapPair, &arguments);
        self.leave_if_trapped();
        let high = self.b.ins().load(I64, self.memory.hart, self.hart, offset::SECOND_OUTCOME);
        Ok([V::Int(low), V::Int(high)])
    }

    fn load_reserved(&mut self, i: &Insn, address: V, width: Width) -> Result<V, Infallible> {
        let address = self.data_address(address);
        let slow = |t: &mut Self| {
            let bytes = t.constant(width.bytes() as i64);
            let value = t.service(Service::LoadReserved, &[address, bytes]);
            Some(value)
        };
        if !self.host.total_store_order {
            self.flush();
            let value = slow(self);
            self.leave_if_trapped();
            return Ok(V::Int(value.unwrap_or(address)));
        }
        let fast = |t: &mut Self, host: Value| {
            // What the host does not order by itself is a load after stores.
            if i.rl() {
                t.b.ins().fence();
            }
            let value = t.b.ins().atomic_load(memory_type(width), t.memory.guest.with_aligned(), host);
            t.log(Kind::Reserve, width, address, (host, 0), value);
            let held = t.extended(value, width, Extend::Zero);
            let offset = t.offset_in_ram(host);
            let bytes = t.constant(width.bytes() as i64);
            t.b.ins().store(t.memory.hart, offset, t.hart, offset::RESERVED_OFFSET);
            t.b.ins().store(t.memory.hart, bytes, t.hart, offset::RESERVED_WIDTH);
            t.b.ins().store(t.memory.hart, held, t.hart, offset::RESERVED_VALUE);
            Some(t.extended(value, width, Extend::Signed))
        };
        let value = self.access(address, width, offset::READ_TLB, Some(I64), fast, slow);
        Ok(V::Int(value.unwrap_or(address)))
    }

    fn store_conditional(&mut self, _: &Insn, address: V, width: Width, value: V) -> Result<V, Infallible> {
        let (address, value) = (self.data_address(address), self.int(value));
        let slow = |t: &mut Self| {
            let bytes = t.constant(width.bytes() as i64);
            let failed = t.service(Service::StoreConditional, &[address, bytes, value]);
            Some(failed)
        };
        let fast = |t: &mut Self, host: Value| {
            let (held, exchange, join) = (t.b.create_block(), t.b.create_block(), t.b.create_block());
            t.b.append_block_param(join, I64);
            let failed = BlockArg::Value(t.constant(1));
            let width_held = t.b.ins().load(I64, t.memory.hart, t.hart, offset::RESERVED_WIDTH);
            let same = t.b.ins().icmp_imm_s(IntCC::Equal, width_held, width.bytes() as i64);
            let none = t.constant(0);
            t.b.ins().store(t.memory.hart, none, t.hart, offset::RESERVED_WIDTH);
            t.b.ins().brif(same, held, [], join, &[failed]);
            t.b.seal_block(held);
            t.b.switch_to_block(held);
            let offset = t.offset_in_ram(host);
            let offset_held = t.b.ins().load(I64, t.memory.hart, t.hart, offset::RESERVED_OFFSET);
            let same = t.b.ins().icmp(IntCC::Equal, offset, offset_held);
            t.b.ins().brif(same, exchange, [], join, &[failed]);
            t.b.seal_block(exchange);
            t.b.switch_to_block(exchange);
            let expected = t.b.ins().load(I64, t.memory.hart, t.hart, offset::RESERVED_VALUE);
            let (expected, new) = (t.narrowed(expected, width), t.narrowed(value, width));
            let old = t.b.ins().atomic_cas(t.memory.guest.with_aligned(), host, expected, new);
            let changed = t.b.ins().icmp(IntCC::NotEqual, old, expected);
            let changed = t.b.ins().uextend(I64, changed);
            t.jump_with(join, Some(changed));
            t.b.seal_block(join);
            t.b.switch_to_block(join);
            let failed = t.b.block_params(join)[0];
            t.log(Kind::Conditional, width, address, (host, 0), failed);
            Some(failed)
        };
        let failed = self.access(address, width, offset::WRITE_TLB, Some(I64), fast, slow);
        Ok(V::Int(failed.unwrap_or(address)))
    }

    fn fence(&mut self, i: &Insn) {
        if i.orders_stores_before_loads() || !self.host.total_store_order {
            self.b.ins().fence();
        } else {
            self.event_word();
        }
    }

    fn branch(&mut self, _: &Insn, c: V, _: i64) -> Result<(), Infallible> {
        let c = self.truth(c);
        self.condition = Some(c);
        Ok(())
    }

    fn jump(&mut self, _: &Insn, _: i64) -> Result<(), Infallible> {
        Ok(())
    }

    fn jump_indirect(&mut self, _: &Insn, target: V) -> Result<(), Infallible> {
        let target = self.int(target);
        self.target = Some(target);
        Ok(())
    }

    fn float(&mut self, i: &Insn, op: FloatOp, format: Format, operands: [V; 3]) -> V {
        match self.host_float(i, op, format, operands) {
            Some(value) => value,
            None => self.exact_float(i, op, format, operands),
        }
    }

    fn call(&mut self, i: &Insn, helper: Helper) -> Result<(), Infallible> {
        let system = System::of(i, self.mode);
        if self.op.effects.clobbers {
            self.flush();
        }
        let join = match system.map(|system| self.system(i, system)) {
            Some(Ok(())) => return Ok(()),
            helped => helped.and_then(Result::err),
        };
        let site = Box::new(CallSite { insn: *i, helper });
        let address = self.constant(&raw const *site as i64);
        self.sites.push(site);
        let pc = self.address(self.op.at);
        let left = self.left_after(self.count);
        self.b.ins().store(self.memory.hart, left, self.hart, offset::LEFT);
        let outcome = self.service(Service::Call, &[address, pc]);
        self.values = [None; 64];
        (self.available, self.behind, self.float_dirty) = (0, 0, false);
        self.groups.clear();
        if self.exits {
            self.b.ins().return_(&[outcome]);
            self.ended = true;
            return Ok(());
        }
        let (leave, on) = (self.cold(), self.b.create_block());
        self.branch_to(outcome, leave, on);
        self.b.switch_to_block(leave);
        self.b.ins().return_(&[outcome]);
        self.b.switch_to_block(on);
        if let Some(join) = join {
            self.b.ins().jump(join, []);
            self.b.seal_block(join);
            self.b.switch_to_block(join);
        }
        Ok(())
    }
}
