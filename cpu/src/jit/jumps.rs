//! A hart's jump cache: which translated code starts at a virtual address in a context. Translated code probes it
//! itself, the first of an address's two slots where it jumps and the second in a function that all regions share; the
//! engine fills it.
//!
//! **Two slots.** The first depends on the address alone, so that its place is two instructions away. Code is spread
//! over megabytes, though, and a process that is forked runs at the same addresses as its parent: of what is in use at
//! a time, a quarter shares its first slot. What the engine drives out of a first slot goes to its second, which
//! depends on the upper bits and the context as well.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::types::I64;
use cranelift_codegen::ir::{Block as Label, InstBuilder, SigRef, Value};
use cranelift_frontend::FunctionBuilder;

use super::state::offset;
use super::translate::Memory;

/// Slots, a power of two.
pub(super) const SLOTS: u64 = 16384;

/// Distances by which an address and a context are shifted for their second slot. Those of an address start at a
/// parcel's size; the lower bits of a context tell address spaces apart.
const PARCEL: i64 = 1;
const UPPER: i64 = 15;
const CONTEXT: i64 = 2;
/// Bits of the distance between two places in a slot.
pub(super) const SIZE: i64 = size_of::<Jump>().trailing_zeros() as i64;

/// The bit of a context's stand-in for ways from baseline code to regions: what is found there is never baseline code.
const HOT: u64 = 1 << 9;

// It is above the numbers of address spaces, and below the mode.
const _: () = assert!(crate::tlb::CONTEXTS as u64 <= HOT);

/// A slot: which translated code starts at a virtual address in a context.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub(super) struct Jump {
    /// Virtual address; an odd one matches nothing.
    pub pc: u64,
    /// [`super::state::State::context`] when it was filled.
    pub context: u64,
    /// Host address of the code.
    pub code: u64,
    unused: u64,
}

impl Jump {
    const NONE: Jump = Jump { pc: 1, context: 0, code: 0, unused: 0 };

    /// Its first slot.
    fn first(pc: u64) -> usize {
        (pc >> PARCEL & (SLOTS - 1)) as usize
    }

    /// Its second.
    fn second(pc: u64, context: u64) -> usize {
        ((pc >> PARCEL ^ pc >> UPPER ^ context << CONTEXT) & (SLOTS - 1)) as usize
    }

    /// What stands for a context where baseline code leaves to a region. No context has the bit.
    fn hot(context: u64) -> u64 {
        context | HOT
    }

    fn is_for(&self, pc: u64, context: u64) -> bool {
        self.pc == pc && self.context == context
    }
}

/// The cache.
pub(super) struct Jumps(Box<[Jump]>);

impl Default for Jumps {
    fn default() -> Self {
        Self(vec![Jump::NONE; SLOTS as usize].into())
    }
}

impl Jumps {
    /// Where its slots are, for translated code.
    pub fn address(&self) -> u64 {
        self.0.as_ptr() as u64
    }

    /// The code for a virtual address in a context.
    #[inline]
    pub fn get(&self, pc: u64, context: u64) -> Option<u64> {
        let slots = [Jump::first(pc), Jump::second(pc, context)];
        slots.into_iter().map(|slot| &self.0[slot]).find(|jump| jump.is_for(pc, context)).map(|jump| jump.code)
    }

    /// Notes it. What was in its first slot moves on, if its context can be met again: `is_alive` says.
    pub fn insert(&mut self, pc: u64, context: u64, code: u64, is_alive: impl Fn(u64) -> bool) {
        let first = Jump::first(pc);
        let old = self.0[first];
        if !old.is_for(pc, context) && old != Jump::NONE && is_alive(old.context) {
            self.0[Jump::second(old.pc, old.context)] = old;
        }
        self.0[first] = Jump { pc, context, code, unused: 0 };
    }

    /// Notes the region that baseline code goes on with where it has got hot.
    pub fn insert_hot(&mut self, pc: u64, context: u64, code: u64) {
        let context = Jump::hot(context);
        self.0[Jump::second(pc, context)] = Jump { pc, context, code, unused: 0 };
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.0.fill(Jump::NONE);
    }
}

/// What translated code probes with: the region's parameters, of which the second is the address.
pub(super) struct Probe {
    pub memory: Memory,
    pub signature: SigRef,
    pub parameters: [Value; 4],
}

impl Probe {
    /// Goes to the code in the first slot of the address, if that is its; returns the label of a miss.
    pub fn first(&self, b: &mut FunctionBuilder) -> Label {
        let place = b.ins().ishl_imm_s(self.parameters[1], SIZE - PARCEL);
        let context = self.context(b);
        self.slot(b, place, context)
    }

    /// The same for its second slot.
    pub fn second(&self, b: &mut FunctionBuilder) -> Label {
        let context = self.context(b);
        self.second_of(b, context)
    }

    /// The same for the region that goes on for baseline code.
    pub fn hot(&self, b: &mut FunctionBuilder) -> Label {
        let context = self.context(b);
        let context = b.ins().bor_imm_s(context, HOT as i64);
        self.second_of(b, context)
    }

    fn context(&self, b: &mut FunctionBuilder) -> Value {
        b.ins().load(I64, self.memory.hart, self.parameters[0], offset::CONTEXT)
    }

    fn second_of(&self, b: &mut FunctionBuilder, wanted: Value) -> Label {
        let [_, pc, ..] = self.parameters;
        let (lower, upper) = (b.ins().ishl_imm_s(pc, SIZE - PARCEL), b.ins().ushr_imm_u(pc, UPPER - SIZE));
        let context = b.ins().ishl_imm_s(wanted, CONTEXT + SIZE);
        let place = b.ins().bxor(lower, upper);
        let place = b.ins().bxor(place, context);
        self.slot(b, place, wanted)
    }

    /// The same for the slot at the distance that `place` has among its bits.
    fn slot(&self, b: &mut FunctionBuilder, place: Value, context: Value) -> Label {
        let [hart, pc, ..] = self.parameters;
        let distance = b.ins().band_imm_s(place, (SLOTS as i64 - 1) << SIZE);
        let jumps = b.ins().load(I64, self.memory.hart, hart, offset::JUMPS);
        let slot = b.ins().iadd(jumps, distance);
        let (same, hit, miss) = (b.create_block(), b.create_block(), b.create_block());
        b.set_cold_block(miss);
        let slot_pc = b.ins().load(I64, self.memory.code, slot, offset::JUMP_PC);
        let found = b.ins().icmp(IntCC::Equal, slot_pc, pc);
        b.ins().brif(found, same, [], miss, []);
        b.switch_to_block(same);
        let slot_context = b.ins().load(I64, self.memory.code, slot, offset::JUMP_CONTEXT);
        let valid = b.ins().icmp(IntCC::Equal, slot_context, context);
        b.ins().brif(valid, hit, [], miss, []);
        b.switch_to_block(hit);
        let code = b.ins().load(I64, self.memory.code, slot, offset::JUMP_CODE);
        b.ins().return_call_indirect(self.signature, code, &self.parameters);
        miss
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_addresses_share_a_first_slot_and_the_dead_make_way() {
        let mut jumps = Jumps::default();
        let (one, two) = (0x1_0000, 0x1_0000 + 2 * SLOTS);
        jumps.insert(one, 7, 100, |_| true);
        jumps.insert(two, 7, 200, |_| true);
        assert_eq!((jumps.get(one, 7), jumps.get(two, 7), jumps.get(one, 8)), (Some(100), Some(200), None));
        jumps.insert(one, 8, 300, |context| context != 7);
        assert_eq!((jumps.get(two, 7), jumps.get(one, 8)), (None, Some(300)), "a dead context's is dropped");
        jumps.clear();
        assert_eq!(jumps.get(one, 8), None);
    }
}
