//! Regions: the control-flow graph that grows from a hot block over direct branches and jumps, loops included, and
//! what is known about registers at the borders of its blocks.
//!
//! Addresses are distances from the region's entry, so that one translation serves every virtual address that the
//! code is mapped at. A region reads only pages whose mapping the asking hart has used, and remembers them: whoever
//! enters it has to have the same ones.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bus::{PAGE_SIZE, PageFlags, Ram};

use super::effects::{Effects, Registers, x_bit};
use super::steady::Steady;
use crate::block::{Mode, decode_for};
use crate::extension::ExtensionSet;
use crate::isa::{Flow, Insn, Opcode};

/// Most instructions in a region.
pub(super) const MOST_INSTRUCTIONS: usize = 500;

/// A region that has as many instructions follows no more calls.
const MOST_BEFORE_CALLS: usize = 300;

/// Most instructions of a function that calls are followed to.
const MOST_IN_CALLEE: usize = 80;

/// How deeply calls are followed that are no recursion.
const DEEPEST: usize = 3;

/// Most places that a function's end is compared with.
const MOST_RETURNS: usize = 4;

/// The return address's register in the standard calling convention.
const RA: u8 = 1;

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
    /// Its number in the region: an instruction is there once for each call that has been followed to it.
    pub number: usize,
    pub opcode: Opcode,
    pub insn: Insn,
    pub effects: Effects,
}

impl Op {
    /// Whether it returns from a function, by the standard calling convention.
    fn is_return(&self) -> bool {
        let Insn { rd, rs1, imm, .. } = self.insn;
        self.opcode.row().flow == Flow::JumpIndirect && (rd, rs1, imm) == (0, RA, 0)
    }
}

/// How a block ends. Targets are distances in bytes from the entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// A conditional branch.
    Branch { taken: i64, next: i64 },
    /// On to a known address.
    Jump(i64),
    /// A call of a known address.
    Call(i64),
    /// To an address from a register.
    Indirect,
    /// To wherever a helper says.
    Exit,
}

impl End {
    /// Known targets of the same function.
    pub fn targets(self) -> impl Iterator<Item = i64> {
        let (a, b) = match self {
            End::Branch { taken, next } => (Some(next), Some(taken)),
            End::Jump(target) => (Some(target), None),
            End::Call(_) | End::Indirect | End::Exit => (None, None),
        };
        a.into_iter().chain(b)
    }
}

/// A way that a block may end in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Way {
    /// The distance in bytes from the entry that it leads to.
    pub at: i64,
    /// The block there, if the region has it.
    pub block: Option<usize>,
}

/// A basic block.
#[derive(Clone, Debug)]
pub(super) struct Block {
    /// Distance in bytes from the entry.
    pub start: i64,
    /// The function's call that it is part of.
    frame: usize,
    pub ops: Vec<Op>,
    pub end: End,
    /// Where it may go: of a branch the target and what is behind it; of a return those known places that calls
    /// have been followed from.
    pub ways: Vec<Way>,
    /// Whether it returns to its one way for sure, as nobody has changed the return address.
    pub returns_surely: bool,
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
    /// The calls that have been followed; the first is where the region begins.
    frames: Vec<Frame>,
}

/// A place in the region's code: the call that it is part of, and the distance in bytes from the entry.
type Point = (usize, i64);

/// One call of a function: each call that is followed has the function's code to itself.
#[derive(Clone, Debug)]
struct Frame {
    /// Where the function starts, as a distance from the region's entry.
    entry: i64,
    /// Where it is called.
    caller: Option<Point>,
    /// Number of calls around it.
    depth: usize,
    /// Where it returns to: behind its call, and behind those within it that it is recursive by.
    returns: Vec<Point>,
    /// Whether a return has been found in it.
    returns_somewhere: bool,
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
        word(|at| self.parcel(at), at)
    }

    /// The same for what may not become part of the region: a later write to it is not heard of.
    fn glance(&self, at: i64) -> Option<u32> {
        word(|at| self.ram.load_u16(self.request.offset_of(at)?).map(u32::from), at)
    }
}

/// The parcels of an instruction.
fn word(mut parcel: impl FnMut(i64) -> Option<u32>, at: i64) -> Option<u32> {
    let low = parcel(at)?;
    if low & 3 == 3 { Some(parcel(at + 2)? << 16 | low) } else { Some(low) }
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

/// A region while it grows.
struct Growth<'a, S> {
    reader: Reader<'a>,
    extensions: &'a ExtensionSet,
    /// The lowest bits of an instruction's address, which are zero.
    aligned: u64,
    seen: S,
    ops: BTreeMap<Point, Op>,
    /// Where blocks start.
    leaders: BTreeSet<Point>,
    frames: Vec<Frame>,
    /// The frame that each followed call leads to, by the call's place.
    calls: BTreeMap<Point, usize>,
    /// Places to go on at, by the number of calls around them: what runs in any case comes before what it calls.
    work: [VecDeque<Point>; DEEPEST + 1],
    /// By a function's start whether its calls are worth following.
    fits: BTreeMap<i64, bool>,
}

impl<S: Fn(u64) -> bool> Growth<'_, S> {
    fn has_seen(&self, at: i64) -> bool {
        self.reader.request.offset_of(at).is_some_and(&self.seen)
    }

    /// The instruction of a word at a distance from the entry, and how it ends its block; `None` where it cannot be
    /// translated.
    fn decode(&self, word: u32, at: i64) -> Option<(Opcode, Insn, Option<End>)> {
        let (opcode, insn) = decode_for(self.extensions, self.reader.request.mode, word)?;
        let end = end_of(opcode, &insn, at);
        match end {
            // It traps, or does not: the interpreter's.
            Some(End::Branch { taken: target, .. } | End::Jump(target) | End::Call(target))
                if target as u64 & self.aligned != 0 =>
            {
                None
            }
            _ => Some((opcode, insn, end)),
        }
    }

    fn push(&mut self, point: Point) {
        let is_new = self.leaders.insert(point);
        if is_new && self.has_seen(point.1) {
            self.work[self.frames[point.0].depth].push_back(point);
        }
    }

    fn grow(&mut self) {
        self.push((0, 0));
        while let Some((frame, start)) = self.work.iter_mut().find_map(VecDeque::pop_front) {
            self.grow_from(frame, start);
        }
    }

    fn grow_from(&mut self, frame: usize, start: i64) {
        let mut at = start;
        while self.ops.len() < MOST_INSTRUCTIONS {
            if self.ops.contains_key(&(frame, at)) {
                self.leaders.insert((frame, at));
                return;
            }
            let Some(word) = self.reader.word(at) else { return };
            let Some((opcode, insn, end)) = self.decode(word, at) else { return };
            let effects = Effects::of(opcode, &insn, self.reader.request.mode);
            let op = Op { at, number: self.ops.len(), opcode, insn, effects };
            self.ops.insert((frame, at), op);
            let next = at + insn.length() as i64;
            match end {
                None => at = next,
                Some(End::Call(target)) => {
                    if insn.rd == RA {
                        self.follow((frame, at), target, (frame, next));
                    }
                    return;
                }
                Some(end) => {
                    if op.is_return() && !std::mem::replace(&mut self.frames[frame].returns_somewhere, true) {
                        self.frames[frame].returns.clone().into_iter().for_each(|point| self.push(point));
                    }
                    end.targets().for_each(|target| self.push((frame, target)));
                    return;
                }
            }
        }
    }

    /// Follows a call if that is worth it.
    fn follow(&mut self, call: Point, target: i64, behind: Point) {
        let mut around = std::iter::successors(Some(call.0), |frame| Some(self.frames[*frame].caller?.0));
        let frame = match around.find(|frame| self.frames[*frame].entry == target) {
            _ if !self.fits(target) => return,
            Some(frame) => frame,
            None => {
                let depth = self.frames[call.0].depth + 1;
                if depth > DEEPEST || self.ops.len() >= MOST_BEFORE_CALLS {
                    return;
                }
                let (returns, returns_somewhere) = (Vec::new(), false);
                self.frames.push(Frame { entry: target, caller: Some(call), depth, returns, returns_somewhere });
                self.frames.len() - 1
            }
        };
        if self.frames[frame].returns.len() >= MOST_RETURNS {
            return;
        }
        self.calls.insert(call, frame);
        self.frames[frame].returns.push(behind);
        self.push((frame, target));
        if self.frames[frame].returns_somewhere {
            self.push(behind);
        }
    }

    /// Whether a function is small, has no loops, and returns: in a loop of its own a function spends more than its call
    /// costs, and the loop would share the host's registers with everything around it.
    fn fits(&mut self, entry: i64) -> bool {
        if let Some(fits) = self.fits.get(&entry) {
            return *fits;
        }
        let fits = self.looks_fit(entry).unwrap_or(false);
        self.fits.insert(entry, fits);
        fits
    }

    fn looks_fit(&self, entry: i64) -> Option<bool> {
        let (mut found, mut work, mut returns) = (BTreeSet::new(), vec![entry], false);
        while let Some(start) = work.pop() {
            let mut at = start;
            while self.has_seen(start) && found.insert(at) {
                if found.len() > MOST_IN_CALLEE {
                    return None;
                }
                let (_, insn, end) = self.decode(self.reader.glance(at)?, at)?;
                let here = at;
                at += insn.length() as i64;
                let Some(end) = end else { continue };
                if end.targets().any(|target| target <= here) {
                    return None;
                }
                match end {
                    End::Indirect if (insn.rd, insn.rs1, insn.imm) == (0, RA, 0) => returns = true,
                    End::Indirect | End::Exit => return None,
                    End::Call(_) => work.push(at),
                    End::Branch { .. } | End::Jump(_) => work.extend(end.targets()),
                }
                break;
            }
        }
        Some(returns)
    }

    /// Where a block may go that ends in an instruction at a point; `block_at` finds blocks.
    fn ways(&self, block: &Block, block_at: impl Fn(Point) -> Option<usize>) -> Vec<Way> {
        let way = |point: Point| Way { at: point.1, block: block_at(point) };
        let last = block.ops.last();
        match block.end {
            End::Branch { taken, next } => vec![way((block.frame, taken)), way((block.frame, next))],
            End::Jump(target) => vec![way((block.frame, target))],
            End::Call(target) => match last.and_then(|op| self.calls.get(&(block.frame, op.at))) {
                Some(frame) => vec![way((*frame, target))],
                None => vec![Way { at: target, block: None }],
            },
            End::Indirect if last.is_some_and(Op::is_return) => {
                let returns = self.frames[block.frame].returns.iter().map(|point| way(*point));
                returns.filter(|way| way.block.is_some()).collect()
            }
            End::Indirect | End::Exit => Vec::new(),
        }
    }

    /// Whether each return of a function's call leads behind it for sure: nothing in it writes the return address.
    fn returns_surely(&self, frame: usize) -> bool {
        let mut ops = self.ops.range((frame, i64::MIN)..=(frame, i64::MAX));
        frame != 0
            && self.frames[frame].returns.len() == 1
            && !ops.any(|(_, op)| op.effects.clobbers || op.effects.writes & x_bit(RA) != 0)
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
        let first = Frame { entry: 0, caller: None, depth: 0, returns: Vec::new(), returns_somewhere: false };
        let mut growth = Growth {
            reader: Reader { ram, request, pages: Vec::new() },
            extensions,
            aligned,
            seen: |offset| offset == request.offset || seen(offset),
            ops: BTreeMap::new(),
            leaders: BTreeSet::new(),
            frames: vec![first],
            calls: BTreeMap::new(),
            work: Default::default(),
            fits: BTreeMap::new(),
        };
        growth.grow();
        let ops = &growth.ops;
        if !ops.contains_key(&(0, 0)) {
            return None;
        }
        // The entry comes first, the others in the order of their addresses.
        let starts = growth.leaders.iter().copied().filter(|start| ops.contains_key(start));
        let starts: Vec<Point> = std::iter::once((0, 0)).chain(starts.filter(|start| *start != (0, 0))).collect();
        let mut blocks: Vec<Block> = starts.iter().map(|start| basic_block(*start, ops, &growth.leaders)).collect();
        let by_start: BTreeMap<Point, usize> = starts.into_iter().zip(0..).collect();
        for block in &mut blocks {
            block.ways = growth.ways(block, |point| by_start.get(&point).copied());
            block.returns_surely = block.end == End::Indirect && growth.returns_surely(block.frame);
        }
        let mut region = Self {
            blocks,
            length: ops.len(),
            floats: ops.values().any(|op| op.effects.floats),
            touched: ops.values().fold(0, |set, op| set | op.effects.reads | op.effects.writes),
            steady: Vec::new(),
            aligned,
            pages: growth.reader.pages,
            frames: growth.frames,
        };
        region.peel_entry();
        region.find_loops();
        let edges = region.find_available();
        let live = region.find_live();
        region.find_dirty(&edges, &live);
        region.find_steady(&edges, &live);
        Some(region)
    }

    /// A block's address, or that of the call within a frame by which the block runs: what lies before it ran before.
    fn place_in(&self, frame: usize, block: usize) -> Option<i64> {
        let mut point = (self.blocks[block].frame, self.blocks[block].start);
        while point.0 != frame {
            point = self.frames[point.0].caller?;
        }
        Some(point.1)
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
        let place = |block: usize| self.place_in(0, block).unwrap_or(i64::MIN);
        let Some(last) = predecessors[0].iter().map(|latch| place(*latch)).filter(|at| *at >= 0).max() else {
            return;
        };
        let is_between = |block: usize| (0..=last).contains(&place(block));
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
            let copy = self.blocks.len();
            self.blocks.push(self.blocks[0].clone());
            let ways = self.blocks.iter_mut().flat_map(|block| &mut block.ways);
            ways.filter(|way| way.block == Some(0)).for_each(|way| way.block = Some(copy));
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
                if self.blocks[at].end == End::Indirect && !self.blocks[at].returns_surely {
                    break false;
                }
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

    /// The blocks of the region that a block may lead to.
    pub fn successors(&self, block: usize) -> impl DoubleEndedIterator<Item = usize> + '_ {
        self.blocks[block].ways.iter().filter_map(|way| way.block)
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
        let start = |block: usize| self.place_in(self.blocks[head].frame, block);
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

fn basic_block((frame, start): Point, ops: &BTreeMap<Point, Op>, leaders: &BTreeSet<Point>) -> Block {
    let mut block = Block {
        start,
        frame,
        ops: Vec::new(),
        end: End::Jump(start),
        ways: Vec::new(),
        returns_surely: false,
        predecessors: 0,
        is_loop: false,
        is_inner: false,
        available: 0,
        dirty: 0,
    };
    let mut at = start;
    loop {
        let Some(op) = ops.get(&(frame, at)) else {
            block.end = End::Jump(at);
            return block;
        };
        block.ops.push(*op);
        at += op.insn.length() as i64;
        if let Some(end) = end_of(op.opcode, &op.insn, op.at) {
            block.end = end;
            return block;
        }
        if leaders.contains(&(frame, at)) {
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
