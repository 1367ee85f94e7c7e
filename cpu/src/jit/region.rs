//! Regions: the control-flow graph that grows from a hot block over direct branches and jumps, loops included, and
//! what is known about registers at the borders of its blocks.
//!
//! Addresses are distances from the region's entry, so that one translation serves every virtual address that the
//! code is mapped at. A region reads only pages whose mapping the asking hart has used, and remembers them: whoever
//! enters it has to have the same ones.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bus::{PAGE_SIZE, PageFlags, Ram};

use super::effects::{Effects, Registers};
use super::steady::Steady;
use crate::block::{Mode, decode_for};
use crate::extension::ExtensionSet;
use crate::isa::{Flow, Insn, Opcode};

/// Most instructions in a region.
pub(super) const MOST_INSTRUCTIONS: usize = 500;

/// Pages on each side of the entry's that a region may extend to.
pub(super) const NEIGHBOURS: usize = 2;

/// What to translate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Request {
    /// Offset in RAM of the entry.
    pub offset: u64,
    /// The bits of the mode that decide what encodings mean.
    pub mode: Mode,
    /// Offsets in RAM of the pages around the entry's, as the asking hart has them mapped.
    pub pages: [Option<u64>; 2 * NEIGHBOURS + 1],
}

impl Request {
    /// The offset in RAM of what is at a distance from the entry.
    fn offset_of(&self, at: i64) -> Option<u64> {
        let place = (self.offset % PAGE_SIZE) as i64 + at;
        let index = usize::try_from(place.div_euclid(PAGE_SIZE as i64) + NEIGHBOURS as i64).ok()?;
        Some((*self.pages.get(index)?)? + place.rem_euclid(PAGE_SIZE as i64) as u64)
    }
}

/// A page that a region's bytes come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Page {
    /// Distance in pages from the page of the entry.
    pub distance: i64,
    /// Offset in RAM.
    pub offset: u64,
    /// [`Ram::code_version`] when its bytes were read.
    pub version: u32,
}

/// One instruction of a region.
#[derive(Clone, Copy, Debug)]
pub(super) struct Op {
    /// Distance in bytes from the entry.
    pub at: i64,
    pub opcode: Opcode,
    pub insn: Insn,
    pub effects: Effects,
}

/// How a block ends. Targets are distances in bytes from the entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// A conditional branch.
    Branch { taken: i64, next: i64 },
    /// On to a known address.
    Jump(i64),
    /// A call of a known address: never followed.
    Call(i64),
    /// To an address from a register.
    Indirect,
    /// To wherever a helper says.
    Exit,
}

impl End {
    /// Known targets that may be in the region.
    pub fn targets(self) -> impl Iterator<Item = i64> {
        let (a, b) = match self {
            End::Branch { taken, next } => (Some(next), Some(taken)),
            End::Jump(target) => (Some(target), None),
            End::Call(_) | End::Indirect | End::Exit => (None, None),
        };
        a.into_iter().chain(b)
    }
}

/// A basic block.
#[derive(Clone, Debug)]
pub(super) struct Block {
    /// Distance in bytes from the entry.
    pub start: i64,
    pub ops: Vec<Op>,
    pub end: End,
    /// Number of edges to it within the region.
    pub predecessors: usize,
    /// Whether an edge leads back to it: a loop's head.
    pub is_loop: bool,
    /// Whether it is part of an innermost loop.
    pub is_inner: bool,
    /// Registers whose values are at hand on entry.
    pub available: Registers,
    /// Of those, the registers whose values may be newer than the hart's memory.
    pub dirty: Registers,
}

/// A region, ready to be translated. The first block is the entry.
#[derive(Clone, Debug)]
pub(super) struct Region {
    pub blocks: Vec<Block>,
    pub pages: Vec<Page>,
    /// Number of instructions.
    pub length: usize,
    /// Whether anything computes in floating point.
    pub floats: bool,
    /// Registers that any instruction names.
    pub touched: Registers,
    pub steady: Vec<Steady>,
    /// The lowest bits of an instruction's address, which are zero.
    pub aligned: u64,
    by_start: BTreeMap<i64, usize>,
}

/// How the blocks of a region hang together.
struct Edges {
    predecessors: Vec<Vec<usize>>,
    /// For the heads of loops: the blocks of the loop.
    bodies: Vec<Vec<bool>>,
}

/// Reads the region's bytes.
struct Reader<'a> {
    ram: &'a Ram,
    request: &'a Request,
    pages: Vec<Page>,
}

impl Reader<'_> {
    /// The parcel at a distance from the entry.
    fn parcel(&mut self, at: i64) -> Option<u32> {
        let place = (self.request.offset % PAGE_SIZE) as i64 + at;
        let distance = place.div_euclid(PAGE_SIZE as i64);
        let index = usize::try_from(distance + NEIGHBOURS as i64).ok()?;
        let offset = (*self.request.pages.get(index)?)?;
        if !self.pages.iter().any(|page| page.distance == distance) {
            // Only where writes are heard of: one that comes later makes a new version.
            let version = self.ram.flagged_version(offset, PageFlags::CODE)?;
            self.pages.push(Page { distance, offset, version });
        }
        self.ram.load_u16(offset + place.rem_euclid(PAGE_SIZE as i64) as u64).map(u32::from)
    }

    fn word(&mut self, at: i64) -> Option<u32> {
        let low = self.parcel(at)?;
        if low & 3 == 3 { Some(self.parcel(at + 2)? << 16 | low) } else { Some(low) }
    }
}

/// Whether an instruction that runs a helper goes on to the next one unless the helper says otherwise: CSR accesses.
fn resumes(insn: &Insn) -> bool {
    const SYSTEM: u32 = 0b111_0011;
    insn.raw & 0x7f == SYSTEM && insn.raw >> 12 & 3 != 0
}

/// How an instruction ends its block, if it does.
pub(super) fn end_of(opcode: Opcode, insn: &Insn, at: i64) -> Option<End> {
    let next = at + insn.length() as i64;
    let target = at + i64::from(insn.imm);
    match opcode.row().flow {
        Flow::Next => None,
        Flow::Branch => Some(End::Branch { taken: target, next }),
        Flow::Jump if insn.rd == 0 => Some(End::Jump(target)),
        Flow::Jump => Some(End::Call(target)),
        Flow::JumpIndirect => Some(End::Indirect),
        Flow::Exit if resumes(insn) => None,
        Flow::Exit => Some(End::Exit),
    }
}

impl Region {
    /// Grows a region over code that has been `seen` running, by the offset in RAM; `None` if its first instruction
    /// cannot be translated.
    pub fn grow(
        ram: &Ram,
        extensions: &ExtensionSet,
        aligned: u64,
        request: &Request,
        seen: impl Fn(u64) -> bool,
    ) -> Option<Self> {
        let mut reader = Reader { ram, request, pages: Vec::new() };
        let mut ops = BTreeMap::new();
        let mut leaders = BTreeSet::from([0]);
        let mut work = VecDeque::from([0]);
        while let Some(start) = work.pop_front() {
            let mut at = start;
            while ops.len() < MOST_INSTRUCTIONS {
                if ops.contains_key(&at) {
                    leaders.insert(at);
                    break;
                }
                let Some(word) = reader.word(at) else { break };
                let Some((opcode, insn)) = decode_for(extensions, request.mode, word) else { break };
                let op = Op { at, opcode, insn, effects: Effects::of(opcode, &insn, request.mode) };
                let end = end_of(opcode, &insn, at);
                if let Some(End::Branch { taken: target, .. } | End::Jump(target) | End::Call(target)) = end
                    && target as u64 & aligned != 0
                {
                    // It traps, or does not: the interpreter's.
                    break;
                }
                ops.insert(at, op);
                at += insn.length() as i64;
                if let Some(end) = end {
                    for target in end.targets() {
                        let is_seen = request.offset_of(target).is_some_and(&seen);
                        if leaders.insert(target) && is_seen {
                            work.push_back(target);
                        }
                    }
                    break;
                }
            }
        }
        if !ops.contains_key(&0) {
            return None;
        }
        let mut region = Self {
            blocks: Vec::new(),
            pages: reader.pages,
            length: ops.len(),
            floats: ops.values().any(|op| op.effects.floats),
            touched: ops.values().fold(0, |set, op| set | op.effects.reads | op.effects.writes),
            steady: Vec::new(),
            aligned,
            by_start: BTreeMap::new(),
        };
        let starts = leaders.iter().copied().filter(|start| ops.contains_key(start));
        // The entry comes first, the others in the order of their addresses.
        let starts: Vec<i64> = std::iter::once(0).chain(starts.filter(|start| *start != 0)).collect();
        for start in starts {
            region.by_start.insert(start, region.blocks.len());
            let block = basic_block(start, &ops, &leaders);
            region.blocks.push(block);
        }
        region.peel_entry();
        region.find_loops();
        let edges = region.find_available();
        let live = region.find_live();
        region.find_dirty(&edges, &live);
        region.find_steady(&edges, &live);
        Some(region)
    }

    /// Where the region begins in the middle of a loop that others enter elsewhere, gives it a first block of its own, a
    /// copy: so the loop has one entry again, and is an innermost one if nothing else speaks against it. Compilers test at a
    /// loop's end and lead to that test from before it, while what has got hot is the loop's beginning.
    fn peel_entry(&mut self) {
        if self.length + self.blocks[0].ops.len() > MOST_INSTRUCTIONS {
            return;
        }
        let predecessors = self.predecessors();
        // Code lies in the order in which it runs: what leads back to the entry is behind it, and so is what is between.
        let Some(last) = predecessors[0].iter().map(|latch| self.blocks[*latch].start).filter(|at| *at >= 0).max()
        else {
            return;
        };
        let is_between = |block: usize| (0..=last).contains(&self.blocks[block].start);
        let mut body = vec![false; self.blocks.len()];
        let mut work: Vec<usize> = predecessors[0].iter().copied().filter(|latch| is_between(*latch)).collect();
        body[0] = true;
        while let Some(block) = work.pop() {
            if !std::mem::replace(&mut body[block], true) {
                work.extend(predecessors[block].iter().copied().filter(|from| is_between(*from)));
            }
        }
        let has_entry = |block: usize| body[block] && predecessors[block].iter().any(|from| !body[*from]);
        if (1..self.blocks.len()).any(has_entry) {
            self.by_start.insert(0, self.blocks.len());
            self.blocks.push(self.blocks[0].clone());
        }
    }

    /// Finds the innermost loops that are steady: one block after the other, entered at the head alone.
    fn find_steady(&mut self, edges: &Edges, live: &[Registers]) {
        for (head, live) in live.iter().enumerate() {
            if !(self.blocks[head].is_loop && self.blocks[head].is_inner) {
                continue;
            }
            let mut chain = vec![head];
            let mut at = head;
            let is_whole = loop {
                let mut within = self.successors(at).filter(|next| edges.bodies[head].get(*next) == Some(&true));
                let (Some(next), None) = (within.next(), within.next()) else { break false };
                if next == head {
                    break true;
                }
                if self.blocks[next].predecessors != 1 || self.blocks[next].is_loop {
                    break false;
                }
                chain.push(next);
                at = next;
            };
            let Some(steady) =
                Some(chain).filter(|_| is_whole).and_then(|chain| Steady::of(&self.blocks, chain, *live))
            else {
                continue;
            };
            // The second copy's ways out.
            for block in &steady.chain {
                for next in self.successors(*block).collect::<Vec<_>>() {
                    if !steady.chain.contains(&next) {
                        self.blocks[next].predecessors += 1;
                    }
                }
            }
            self.steady.push(steady);
        }
    }

    /// How many range entries there could be use for: each access has one, and each steady loop.
    pub fn ranges(&self) -> usize {
        self.steady.len()
            + self.blocks.iter().flat_map(|block| &block.ops).filter(|op| op.effects.access.is_some()).count()
    }

    /// The block at a distance from the entry, if the region has it.
    pub fn block_at(&self, start: i64) -> Option<usize> {
        self.by_start.get(&start).copied()
    }

    fn successors(&self, block: usize) -> impl Iterator<Item = usize> + '_ {
        self.blocks[block].end.targets().filter_map(|target| self.block_at(target))
    }

    /// For each block, those that lead to it.
    fn predecessors(&self) -> Vec<Vec<usize>> {
        let mut predecessors = vec![Vec::new(); self.blocks.len()];
        for block in 0..self.blocks.len() {
            self.successors(block).for_each(|next| predecessors[next].push(block));
        }
        predecessors
    }

    /// Marks heads of loops (targets of edges to a block that a depth-first walk is under) and counts edges.
    fn find_loops(&mut self) {
        #[derive(Clone, Copy, PartialEq)]
        enum Mark {
            New,
            Open,
            Done,
        }
        let mut marks = vec![Mark::New; self.blocks.len()];
        let mut stack = vec![(0, self.successors(0).collect::<Vec<_>>())];
        marks[0] = Mark::Open;
        while let Some((block, rest)) = stack.last_mut() {
            let Some(next) = rest.pop() else {
                marks[*block] = Mark::Done;
                stack.pop();
                continue;
            };
            self.blocks[next].predecessors += 1;
            match marks[next] {
                Mark::New => {
                    marks[next] = Mark::Open;
                    let successors = self.successors(next).collect();
                    stack.push((next, successors));
                }
                Mark::Open => self.blocks[next].is_loop = true,
                Mark::Done => {}
            }
        }
    }

    /// The loop at `head`, and whether it is an innermost one. Several loops may have the same head, an inner one and
    /// those around it: then it is the inner one, and the others only lead into it.
    fn loop_body(&self, head: usize, predecessors: &[Vec<usize>]) -> (Vec<bool>, bool) {
        let mut from_head = vec![false; self.blocks.len()];
        from_head[head] = true;
        let mut work = vec![head];
        while let Some(block) = work.pop() {
            work.extend(self.successors(block).filter(|next| !std::mem::replace(&mut from_head[*next], true)));
        }
        let mut body = vec![false; self.blocks.len()];
        let mut inner_body = body.clone();
        let mut is_inner = false;
        let latches = || predecessors[head].iter().filter(|latch| from_head[**latch]);
        // Code lies in the order in which it runs: an edge that leads forward into the loop comes from one around it, if
        // others lead back, or from farther away.
        let start = |block: usize| self.blocks[block].start;
        let first = latches().map(|latch| start(*latch)).max().unwrap_or_default().min(start(head));
        for &latch in latches().filter(|latch| start(**latch) >= first) {
            // What leads to this edge without passing the head again.
            let mut around = vec![false; self.blocks.len()];
            (around[head], around[latch]) = (true, true);
            let mut work = vec![latch];
            while let Some(block) = work.pop() {
                if block != head {
                    let new = |from: &usize| from_head[*from] && !std::mem::replace(&mut around[*from], true);
                    work.extend(predecessors[block].iter().copied().filter(new));
                }
            }
            let has_inner = (0..around.len()).any(|block| around[block] && block != head && self.blocks[block].is_loop);
            is_inner |= !has_inner;
            for block in (0..around.len()).filter(|block| around[*block]) {
                body[block] = true;
                inner_body[block] |= !has_inner;
            }
        }
        if is_inner { (inner_body, true) } else { (body, false) }
    }

    /// Finds which registers are at hand at the start of each block: those that are on all ways to it. What an
    /// innermost loop reads is loaded on the way into it, so that it is at hand all the way round; what only loops
    /// around it touch is left in memory meanwhile, where it takes no host register from it.
    fn find_available(&mut self) -> Edges {
        let predecessors = self.predecessors();
        let mut preloads = vec![0; self.blocks.len()];
        let mut keeps = vec![u64::MAX; self.blocks.len()];
        let mut bodies = vec![Vec::new(); self.blocks.len()];
        let heads: Vec<usize> = (0..self.blocks.len()).filter(|block| self.blocks[*block].is_loop).collect();
        for head in heads {
            let (body, is_inner) = self.loop_body(head, &predecessors);
            if is_inner {
                let mut writes = 0;
                for block in (0..body.len()).filter(|block| body[*block]) {
                    for Op { effects, .. } in &self.blocks[block].ops {
                        preloads[head] |= effects.reads;
                        writes |= effects.writes;
                    }
                    self.blocks[block].is_inner = true;
                }
                keeps[head] = preloads[head] | writes;
            }
            bodies[head] = body;
        }
        for block in &mut self.blocks {
            block.available = u64::MAX;
        }
        self.blocks[0].available = preloads[0];
        let mut changed = true;
        while changed {
            changed = false;
            for block in 0..self.blocks.len() {
                let mut available = if block == 0 { preloads[0] } else { u64::MAX };
                for &from in &predecessors[block] {
                    let out = self.blocks[from].available_at_end();
                    let back = bodies[block].get(from).copied().unwrap_or(false);
                    available &= if back { out } else { out | preloads[block] };
                }
                available &= keeps[block];
                if available != self.blocks[block].available {
                    self.blocks[block].available = available;
                    changed = true;
                }
            }
        }
        Edges { predecessors, bodies }
    }

    /// For each block, the registers that somebody reads from its start on before they are written, as far as the
    /// region goes and no helper gets between.
    fn find_live(&self) -> Vec<Registers> {
        let mut live = vec![0; self.blocks.len()];
        let mut changed = true;
        while changed {
            changed = false;
            for (index, block) in self.blocks.iter().enumerate().rev() {
                let after = self.successors(index).fold(0, |set, next| set | live[next]);
                let before = block.ops.iter().rev().fold(after, |live, Op { effects, .. }| {
                    if effects.clobbers { effects.reads } else { live & !effects.writes | effects.reads }
                });
                changed |= std::mem::replace(&mut live[index], before) != before;
            }
        }
        live
    }

    /// Finds which registers may be newer than memory at the start of each block: those that are so at the end of all
    /// predecessors. Into a loop they are stored on the way; what the loop itself changes and reads again need not be
    /// stored each time round. What it only changes is: a store is cheaper than carrying it along.
    fn find_dirty(&mut self, edges: &Edges, live: &[Registers]) {
        let mut changed = true;
        while changed {
            changed = false;
            for block in 0..self.blocks.len() {
                let Edges { predecessors, bodies } = edges;
                let out = |from: &usize| self.blocks[*from].dirty_at_end();
                let back = predecessors[block].iter().filter(|from| bodies[block].get(**from) == Some(&true));
                let dirty = if self.blocks[block].is_loop {
                    back.map(out).fold(0, |set, out| set | out) & live[block]
                } else if block == 0 {
                    0
                } else {
                    predecessors[block].iter().map(out).fold(u64::MAX, |set, out| set & out)
                };
                let dirty = dirty & self.blocks[block].available;
                if dirty != self.blocks[block].dirty {
                    self.blocks[block].dirty = dirty;
                    changed = true;
                }
            }
        }
    }
}

impl Block {
    fn available_at_end(&self) -> Registers {
        self.ops.iter().fold(self.available, |available, Op { effects, .. }| {
            if effects.clobbers { 0 } else { available | effects.reads | effects.writes }
        })
    }

    /// Whether registers are stored on an access's slow path only: in innermost loops, where a store on the fast path
    /// costs more than the longer code.
    fn stores_late(&self, effects: &Effects) -> bool {
        self.is_inner && effects.access.is_some()
    }

    fn dirty_at_end(&self) -> Registers {
        self.ops.iter().fold(self.dirty, |dirty, Op { effects, .. }| {
            let stored = effects.leaves && !self.stores_late(effects);
            (if stored { 0 } else { dirty }) | effects.writes
        })
    }
}

fn basic_block(start: i64, ops: &BTreeMap<i64, Op>, leaders: &BTreeSet<i64>) -> Block {
    let mut block = Block {
        start,
        ops: Vec::new(),
        end: End::Jump(start),
        predecessors: 0,
        is_loop: false,
        is_inner: false,
        available: 0,
        dirty: 0,
    };
    let mut at = start;
    loop {
        let Some(op) = ops.get(&at) else {
            block.end = End::Jump(at);
            return block;
        };
        block.ops.push(*op);
        at += op.insn.length() as i64;
        if let Some(end) = end_of(op.opcode, &op.insn, op.at) {
            block.end = end;
            return block;
        }
        if leaders.contains(&at) {
            block.end = End::Jump(at);
            return block;
        }
    }
}

#[cfg(test)]
mod tests {
    use bus::Ram;

    use super::*;
    use crate::isa::assembler::{Program, assemble};

    /// The region at a label of a program whose instructions have all been seen running.
    fn region(program: &Program, label: &str) -> Region {
        let ram = Ram::new(0, PAGE_SIZE).unwrap();
        ram.write(0, &program.bytes).unwrap();
        ram.set_flag(0, PageFlags::CODE);
        let mut pages = [None; 2 * NEIGHBOURS + 1];
        pages[NEIGHBOURS] = Some(0);
        let request = Request { offset: program.symbols[label], mode: Mode::default(), pages };
        Region::grow(&ram, &ExtensionSet::implemented(), 1, &request, |_| true).unwrap()
    }

    #[test]
    fn a_loop_that_others_enter_at_its_test_is_an_innermost_one_wherever_the_region_begins() {
        let source = "
            outer: addi a3, a3, 1
            j test
            body: addi a0, a0, 1
            test: lb a2, 0(a0)
            bltu a2, a1, body
            bne a3, a4, outer
            ecall";
        let program = assemble(source, 0, &ExtensionSet::known()).unwrap();
        for (label, blocks_at_entry) in [("body", 2), ("test", 1), ("outer", 1)] {
            let region = region(&program, label);
            let at = |place: &str| program.symbols[place] as i64 - program.symbols[label] as i64;
            let inner = region.blocks.iter().filter(|block| block.is_inner);
            let mut inner: Vec<i64> = inner.map(|block| block.start).collect();
            inner.sort_unstable();
            assert_eq!(inner, [at("body"), at("test")], "{label}");
            assert_eq!(region.blocks[0].start, 0);
            assert_eq!(region.blocks.iter().filter(|block| block.start == 0).count(), blocks_at_entry, "{label}");
        }
    }
}
