//! Units: what of a page of code has been seen running, from one of its blocks on.
//!
//! A unit lies in one page, so that it needs no mapping but that of its entries, and each of its blocks can be entered:
//! nothing but memory goes from one block to the next. So no code is compiled twice, unlike in regions, which overlap.
//! Addresses are distances from the start of the page.

use bus::{PAGE_SIZE, PageFlags, Ram};

use crate::block::{Mode, decode_for};
use crate::extension::ExtensionSet;
use crate::jit::effects::Effects;
use crate::jit::region::{End, Op, Page, end_of};

/// Most instructions in a unit: no way through it is longer without a look at events.
pub(in crate::jit) const MOST_INSTRUCTIONS: usize = 400;

const PARCELS: usize = PAGE_SIZE as usize / 2;

/// A set of parcels of a page.
#[derive(Clone)]
pub(in crate::jit) struct Parcels([u64; PARCELS / 64]);

impl Parcels {
    pub fn none() -> Self {
        Self([0; PARCELS / 64])
    }

    pub fn insert(&mut self, at: i64) {
        let parcel = at as usize / 2;
        self.0[parcel / 64] |= 1 << (parcel % 64);
    }

    pub fn contains(&self, at: i64) -> bool {
        let parcel = at as usize / 2;
        self.0[parcel / 64] >> (parcel % 64) & 1 != 0
    }
}

/// A basic block.
#[derive(Clone, Debug)]
pub(super) struct Block {
    pub start: i64,
    pub ops: std::ops::Range<usize>,
    pub end: End,
    /// Whether an edge of the unit leads back to it.
    pub is_loop: bool,
    /// Whether it lies between such a block and where the edge comes from.
    pub is_in_loop: bool,
}

/// A unit, ready to be compiled.
#[derive(Clone, Debug)]
pub(in crate::jit) struct Unit {
    pub page: Page,
    pub(super) ops: Vec<Op>,
    /// In the order of their addresses.
    pub(super) blocks: Vec<Block>,
}

impl Unit {
    /// Grows a unit from the code at an offset in RAM over what has been `seen` running, by the offset in RAM, up to
    /// what other units have. `None` if its first instruction cannot be compiled.
    pub fn grow(
        ram: &Ram,
        extensions: &ExtensionSet,
        aligned: u64,
        (offset, mode): (u64, Mode),
        seen: impl Fn(u64) -> bool,
        taken: &Parcels,
    ) -> Option<Self> {
        let start = offset & !(PAGE_SIZE - 1);
        // Only where writes are heard of: one that comes later makes a new version.
        let version = ram.flagged_version(start, PageFlags::CODE)?;
        let parcel = |at: i64| {
            if at >= PAGE_SIZE as i64 { None } else { ram.load_u16(start + at as u64).map(u32::from) }
        };
        let word = |at: i64| {
            let low = parcel(at)?;
            if low & 3 == 3 { Some(parcel(at + 2)? << 16 | low) } else { Some(low) }
        };
        let is_inside = |at: i64| (0..PAGE_SIZE as i64).contains(&at);
        let entry = (offset - start) as i64;
        let mut found: Vec<Op> = Vec::new();
        let mut decoded = Parcels::none();
        let mut leaders = Parcels::none();
        let mut work = vec![entry];
        leaders.insert(entry);
        while let Some(first) = work.pop() {
            let mut at = first;
            while found.len() < MOST_INSTRUCTIONS && is_inside(at) {
                if decoded.contains(at) || taken.contains(at) {
                    leaders.insert(at);
                    break;
                }
                let Some(word) = word(at) else { break };
                let Some((opcode, insn)) = decode_for(extensions, mode, word) else { break };
                let end = end_of(opcode, &insn, at);
                if let Some(End::Branch { taken: target, .. } | End::Jump(target) | End::Call(target)) = end
                    && target as u64 & aligned != 0
                {
                    // It traps, or does not: the interpreter's.
                    break;
                }
                found.push(Op { at, number: found.len(), opcode, insn, effects: Effects::of(opcode, &insn, mode) });
                decoded.insert(at);
                at += insn.length() as i64;
                let Some(end) = end else { continue };
                for target in end.targets() {
                    if is_inside(target) {
                        leaders.insert(target);
                        if seen(start + target as u64) {
                            work.push(target);
                        }
                    }
                }
                // Where a call returns to is likely to run, too.
                if matches!(end, End::Call(_) | End::Indirect) && is_inside(at) && seen(start + at as u64) {
                    leaders.insert(at);
                    work.push(at);
                }
                break;
            }
        }
        if !decoded.contains(entry) {
            return None;
        }
        found.sort_unstable_by_key(|op| op.at);
        let mut unit = Self { page: Page { distance: 0, offset: start, version }, ops: found, blocks: Vec::new() };
        unit.find_blocks(&leaders, &decoded);
        unit.find_loops();
        Some(unit)
    }

    fn find_blocks(&mut self, leaders: &Parcels, decoded: &Parcels) {
        let mut first = 0;
        while let Some(op) = self.ops.get(first) {
            let start = op.at;
            let mut last = first;
            let end = loop {
                let op = &self.ops[last];
                let next = op.at + op.insn.length() as i64;
                if let Some(end) = end_of(op.opcode, &op.insn, op.at) {
                    break end;
                }
                let goes_on = next < PAGE_SIZE as i64 && decoded.contains(next) && !leaders.contains(next);
                // Overlapping instructions: the next in order is not the one behind this.
                if !goes_on || self.ops.get(last + 1).is_none_or(|other| other.at != next) {
                    break End::Jump(next);
                }
                last += 1;
            };
            self.blocks.push(Block { start, ops: first..last + 1, end, is_loop: false, is_in_loop: false });
            first = last + 1;
        }
    }

    fn find_loops(&mut self) {
        for index in 0..self.blocks.len() {
            let (start, targets) = (self.blocks[index].start, self.blocks[index].end.targets());
            for target in targets.filter(|target| *target <= start) {
                if let Some(head) = self.block_at(target) {
                    self.blocks[head].is_loop = true;
                    self.blocks[head..=index].iter_mut().for_each(|block| block.is_in_loop = true);
                }
            }
        }
    }

    /// The block that starts there.
    pub(super) fn block_at(&self, start: i64) -> Option<usize> {
        self.blocks.binary_search_by_key(&start, |block| block.start).ok()
    }

    /// Number of blocks.
    pub fn blocks(&self) -> usize {
        self.blocks.len()
    }

    /// Number of instructions.
    pub fn length(&self) -> usize {
        self.ops.len()
    }
}
