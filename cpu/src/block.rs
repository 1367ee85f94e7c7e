//! Decoded blocks: straight runs of instructions in one page, decoded once, and the jump cache that leads from one to
//! the next. A block goes on behind a conditional branch, so that one that is not taken costs no look into the cache.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use bus::{PAGE_SIZE, PageFlags};

use crate::code::{Code, Cursor, Op, Start};
use crate::csr::mstatus;
use crate::extension::{Extension, ExtensionSet};
use crate::hart::NOWHERE;
use crate::isa::{self, Flow, Insn, Opcode};
use crate::masking::Masking;
use crate::mmu::Access;
use crate::trap::Exception;
use crate::{Hart, Trapped, tlb};

/// Most instructions in a block; their index has to fit [`Insn::index`]. What is behind some branches often never runs.
pub(crate) const MOST_INSTRUCTIONS: usize = 32;

/// Decoded instructions that are kept before all are dropped: 24 MiB of them.
const MOST_OPS: usize = 1 << 20;

/// A run of instructions that starts at one physical address.
pub struct Block {
    /// What to run.
    pub code: Code,
    /// The version of its page's code that it was made from.
    version: u32,
    /// Where in RAM it starts.
    #[cfg(feature = "jit")]
    pub offset: u64,
    /// The mode that it was decoded in.
    #[cfg(feature = "jit")]
    pub mode: Mode,
    /// About how often it was run.
    #[cfg(feature = "jit")]
    pub heat: u32,
    /// How hot it has to be for its translation to be asked for, again.
    #[cfg(feature = "jit")]
    pub asks_at: u32,
    /// The number of regions installed when one was last looked for.
    #[cfg(feature = "jit")]
    pub installs: u64,
    /// What was found.
    #[cfg(feature = "jit")]
    pub region: Option<crate::jit::FoundCode>,
}

impl Block {
    /// Whether its translation is to be run instead.
    fn is_superseded(&self) -> bool {
        #[cfg(feature = "jit")]
        return self.region.is_some();
        #[cfg(not(feature = "jit"))]
        false
    }
}

/// The bits of a hart's mode that decide what an encoding means, how it rounds, and what it may access.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mode(pub(crate) u8);

impl Mode {
    const FLOATS_OFF: u8 = 1;
    const ROUNDING_RESERVED: u8 = 2;
    const ROUNDS_OTHERWISE: u8 = 4;
    /// Where the privilege of loads and stores is: what translated code remembers of translations is good for one.
    const PRIVILEGE_SHIFT: u32 = 3;
    const MASKS_POINTERS: u8 = 1 << 5;
    const BITS: u32 = 6;

    /// The mode of a hart.
    pub fn of(hart: &Hart) -> Self {
        let floats_off = mstatus::FS.get(hart.csr.mstatus) == mstatus::FS_OFF;
        let rounding = match hart.csr.frm {
            0 => 0,
            1..=4 => Self::ROUNDS_OTHERWISE,
            _ => Self::ROUNDING_RESERVED,
        };
        let masks = if hart.masking == Masking::OFF { 0 } else { Self::MASKS_POINTERS };
        Self(u8::from(floats_off) | rounding | (hart.data_privilege() as u8) << Self::PRIVILEGE_SHIFT | masks)
    }

    /// Whether loads and stores are U-mode's.
    #[cfg(feature = "jit")]
    pub fn is_user(self) -> bool {
        self.privilege() == crate::Privilege::User as u32
    }

    /// The privilege of loads and stores, as a number.
    #[cfg(feature = "jit")]
    pub fn privilege(self) -> u32 {
        u32::from(self.0 >> Self::PRIVILEGE_SHIFT & 3)
    }

    /// Whether addresses of loads and stores are masked ([`crate::masking`]).
    #[cfg(feature = "jit")]
    pub fn masks_pointers(self) -> bool {
        self.0 & Self::MASKS_POINTERS != 0
    }

    /// Whether floating-point instructions trap.
    #[cfg(feature = "jit")]
    pub fn floats_are_off(self) -> bool {
        self.0 & Self::FLOATS_OFF != 0
    }

    /// Whether `frm` says to nearest, ties to even.
    #[cfg(feature = "jit")]
    pub fn rounds_to_nearest(self) -> bool {
        self.0 & (Self::ROUNDING_RESERVED | Self::ROUNDS_OTHERWISE) == 0
    }
}

/// All that decides which code a virtual address means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CodeContext {
    generations: (u64, u64),
    mode: u8,
    fetch_context: u64,
}

impl CodeContext {
    /// A hart's.
    #[inline]
    pub fn of(hart: &Hart) -> Self {
        Self {
            generations: (hart.tlb.generation(), hart.code_generation),
            mode: Mode::of(hart).0,
            fetch_context: hart.fetch_context.number(),
        }
    }
}

/// The key of a block: where it is in RAM and the mode bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Key(u64);

/// Keys are spread by one multiplication.
#[derive(Default)]
pub(crate) struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64((*byte).into());
        }
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = (self.0.rotate_left(5) ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(26);
    }
}

/// Where the epoch is in a context ([`Blocks::context`]).
const EPOCH_SHIFT: u32 = 16;

/// Whether two contexts are of one epoch: else the older one is never met again.
#[cfg(feature = "jit")]
pub fn same_epoch(one: u64, other: u64) -> bool {
    one >> EPOCH_SHIFT == other >> EPOCH_SHIFT
}

/// A slot of the jump cache: which block starts at a virtual address in a context.
#[derive(Clone, Copy, Default)]
struct Jump {
    pc: u64,
    /// [`Jumps::context`] when it was filled; never zero.
    context: u64,
    /// Where its code starts, if it is to be run.
    start: Option<Start>,
    block: u32,
}

const JUMPS: usize = 8192;

/// What an address is shifted by, against itself: code is spread over more than the cache has slots for.
const UPPER: u32 = JUMPS.trailing_zeros() + 1;

/// The jump cache: what the end of one block finds the next by.
pub struct Jumps {
    /// Stands for everything that decides which block a virtual address means.
    context: u64,
    /// A slot that matches the context leads to code that [`Blocks`] keeps.
    slots: [Jump; JUMPS],
}

impl Default for Jumps {
    fn default() -> Self {
        Self { context: 0, slots: [const { Jump { pc: 0, context: 0, start: None, block: 0 } }; JUMPS] }
    }
}

impl Jumps {
    #[inline(always)]
    fn slot(pc: u64) -> usize {
        (pc >> 1 ^ pc >> UPPER) as usize & (JUMPS - 1)
    }

    #[inline(always)]
    fn get(&self, pc: u64) -> Option<&Jump> {
        let jump = &self.slots[Self::slot(pc)];
        (jump.pc == pc && jump.context == self.context).then_some(jump)
    }

    /// Where the code of the block at a virtual address starts, if it is known.
    #[inline(always)]
    pub fn code(&self, pc: u64) -> Option<Cursor<'_>> {
        let start = self.get(pc)?.start?;
        // SAFETY: the slot matches the context, and `Blocks`, which is borrowed with the cache, keeps the code that it
        // was filled with as long as its context can come back.
        Some(unsafe { start.cursor() })
    }

    fn fill(&mut self, pc: u64, start: Option<Start>, block: u32) {
        self.slots[Self::slot(pc)] = Jump { pc, context: self.context, start, block };
    }
}

/// The decoded blocks of one hart.
pub struct Blocks {
    blocks: Vec<Block>,
    by_key: HashMap<Key, u32, BuildHasherDefault<KeyHasher>>,
    jumps: Box<Jumps>,
    /// Offsets in RAM of basic blocks that were decoded since somebody last asked.
    #[cfg(feature = "jit")]
    decoded: Vec<u64>,
    /// Code that was replaced in this epoch: slots of the jump cache may still lead to it.
    superseded: Vec<Code>,
    /// Instructions in all blocks.
    size: usize,
    /// The TLB's and the code's generations that the jump cache is good for, and their number.
    seen: (u64, u64),
    epoch: u64,
}

impl Default for Blocks {
    fn default() -> Self {
        Self {
            blocks: Vec::new(),
            by_key: HashMap::default(),
            jumps: Box::default(),
            #[cfg(feature = "jit")]
            decoded: Vec::new(),
            superseded: Vec::new(),
            size: 0,
            seen: (0, 0),
            epoch: 1,
        }
    }
}

/// A block to run.
pub enum Found {
    /// One that is kept.
    Kept(u32),
    /// What is not kept: one instruction that no page holds whole, or that is not in RAM, or what comes before a
    /// breakpoint in a block.
    Alone(Code),
}

impl Blocks {
    /// Counts that a block was run `times`; how often it was.
    #[cfg(feature = "jit")]
    #[inline(always)]
    pub fn heat(&mut self, index: u32, times: u32) -> u32 {
        let block = &mut self.blocks[index as usize];
        block.heat = block.heat.saturating_add(times);
        block.heat
    }

    /// The offsets in RAM of the basic blocks that were decoded since this was last asked.
    #[cfg(feature = "jit")]
    pub fn take_decoded(&mut self) -> impl Iterator<Item = u64> + '_ {
        self.decoded.drain(..)
    }

    /// Has the ends of other blocks no longer lead to the block at `pc`, as there is a better way now.
    #[cfg(feature = "jit")]
    pub fn forget_jump(&mut self, pc: u64) {
        self.jumps.slots[Jumps::slot(pc)].start = None;
    }

    /// A block's code, and the jump cache that leads on from it.
    #[inline(always)]
    pub fn code(&self, index: u32) -> (&Code, &Jumps) {
        (&self.blocks[index as usize].code, &self.jumps)
    }

    /// The jump cache.
    pub fn jumps(&self) -> &Jumps {
        &self.jumps
    }

    /// A kept block.
    #[cfg(feature = "jit")]
    pub fn get_mut(&mut self, index: u32) -> &mut Block {
        &mut self.blocks[index as usize]
    }

    /// A kept block.
    #[cfg(feature = "jit")]
    #[inline(always)]
    pub fn get(&self, index: u32) -> &Block {
        &self.blocks[index as usize]
    }

    /// Stands for everything that decides which block a virtual address means. Ask again after an instruction that may
    /// change it.
    pub fn context(&mut self, hart: &Hart) -> u64 {
        let CodeContext { generations, mode, fetch_context } = CodeContext::of(hart);
        if self.seen != generations {
            self.seen = generations;
            // No slot matches a context of an epoch that is over.
            self.epoch += 1;
            self.superseded.clear();
        }
        self.jumps.context = self.epoch << EPOCH_SHIFT | u64::from(mode) << 10 | fetch_context;
        self.jumps.context
    }

    /// The block at the hart's `pc`, in the context last asked for.
    ///
    /// # Errors
    /// The fetch traps.
    #[inline(always)]
    pub fn find(&mut self, hart: &mut Hart) -> Result<Found, Trapped> {
        match self.jumps.get(hart.pc) {
            Some(jump) => Ok(Found::Kept(jump.block)),
            None => self.find_slow(hart),
        }
    }

    /// Whether the jump cache has the block at a virtual address.
    #[cfg(feature = "jit")]
    #[inline(always)]
    pub fn has_jump(&self, pc: u64) -> bool {
        self.jumps.get(pc).is_some()
    }

    #[cold]
    #[inline(never)]
    fn find_slow(&mut self, hart: &mut Hart) -> Result<Found, Trapped> {
        let breakpoint = hart.next_breakpoint()?;
        let found = self.look_up(hart)?;
        if hart.bears_breakpoint(hart.pc) {
            // Whoever comes back is to look for breakpoints again, also for one that is stepped over now.
            self.jumps.slots[Jumps::slot(hart.pc)] = Jump::default();
        }
        if let (Found::Kept(index), Some(distance)) = (&found, breakpoint) {
            let code = &self.blocks[*index as usize].code;
            let before = code.instructions_before(distance);
            if before < code.len() {
                let part = code.part(before);
                return Ok(Found::Alone(part));
            }
        }
        Ok(found)
    }

    fn look_up(&mut self, hart: &mut Hart) -> Result<Found, Trapped> {
        let pc = hart.pc;
        if pc & hart.instruction_alignment() != 0 {
            return Err(hart.raise(Exception::InstructionAddressMisaligned, pc));
        }
        let entry = &hart.tlb.execute[tlb::slot(pc)];
        let offset = if entry.tag == tlb::tag(pc, 1, hart.fetch_context) {
            Some(hart.host_offset(pc.wrapping_add(entry.delta)))
        } else {
            hart.counts.fetch_tlb_misses += 1;
            let physical = hart.translate(pc, 2, Access::Execute)?;
            // Only where the whole page may be executed is there an entry now.
            let entry = &hart.tlb.execute[tlb::slot(pc)];
            let cached = entry.tag == tlb::tag(pc, 1, hart.fetch_context);
            if cached { hart.ram.offset(physical, 2) } else { None }
        };
        let Some(offset) = offset else { return self.single(hart) };
        // Whoever finds the block from now on relies on the translation.
        hart.note_execution(pc);
        let key = Key(offset << Mode::BITS | u64::from(Mode::of(hart).0));
        if let Some(&index) = self.by_key.get(&key)
            && self.blocks[index as usize].version == hart.ram.code_version(offset)
        {
            let block = &self.blocks[index as usize];
            let start = (!block.is_superseded()).then(|| block.code.start_alone());
            self.jumps.fill(pc, start, index);
            return Ok(Found::Kept(index));
        }
        if self.size > MOST_OPS {
            self.drop_all();
        }
        let Some(block) = self.decode(hart, offset) else { return self.single(hart) };
        self.size += block.code.len();
        let index = match self.by_key.get(&key) {
            Some(&index) => {
                self.size -= self.blocks[index as usize].code.len();
                let old = std::mem::replace(&mut self.blocks[index as usize], block);
                self.superseded.push(old.code);
                index
            }
            None => {
                self.blocks.push(block);
                let index = (self.blocks.len() - 1) as u32;
                self.by_key.insert(key, index);
                index
            }
        };
        self.jumps.fill(pc, Some(self.blocks[index as usize].code.start_alone()), index);
        Ok(Found::Kept(index))
    }

    /// Decodes the block at an offset in RAM; `None` if its first instruction leaves the page.
    fn decode(&mut self, hart: &mut Hart, offset: u64) -> Option<Block> {
        // First make sure that a write to the page is heard of, then read it.
        let version = hart.listen_to_writes(offset, PageFlags::CODE);
        let end = (offset & !(PAGE_SIZE - 1)) + PAGE_SIZE;
        let mut ops = Vec::with_capacity(8);
        let mut at = offset;
        while at < end && ops.len() < MOST_INSTRUCTIONS {
            let low = u32::from(hart.ram.load_u16(at)?);
            let length = if low & 3 == 3 { 4 } else { 2 };
            if at + length > end {
                break;
            }
            let word = if length == 4 { u32::from(hart.ram.load_u16(at + 2)?) << 16 | low } else { low };
            let (mut op, flow) = decode_op(hart, word);
            op.insn.index = ops.len() as u8;
            op.insn.offset = (at - offset) as u16;
            ops.push(op);
            at += length;
            match flow {
                Flow::Next => {}
                #[cfg(feature = "jit")]
                Flow::Branch if at < end => self.decoded.push(at),
                Flow::Branch => {}
                _ => break,
            }
        }
        if ops.is_empty() {
            return None;
        }
        #[cfg(feature = "jit")]
        self.decoded.push(offset);
        Some(Block {
            code: Code::new(ops, at - offset),
            version,
            #[cfg(feature = "jit")]
            offset,
            #[cfg(feature = "jit")]
            mode: Mode::of(hart),
            #[cfg(feature = "jit")]
            heat: 0,
            #[cfg(feature = "jit")]
            asks_at: 0,
            #[cfg(feature = "jit")]
            installs: 0,
            #[cfg(feature = "jit")]
            region: None,
        })
    }

    #[cold]
    fn drop_all(&mut self) {
        #[cfg(feature = "jit")]
        self.decoded.clear();
        // First the ways that lead to the code.
        self.jumps.slots.fill(Jump::default());
        self.blocks.clear();
        self.by_key.clear();
        self.superseded.clear();
        self.size = 0;
    }

    /// Fetches one instruction by parcels, each translated and checked.
    fn single(&mut self, hart: &mut Hart) -> Result<Found, Trapped> {
        let word = hart.fetch_word(hart.pc)?;
        let (op, _) = decode_op(hart, word);
        Ok(Found::Alone(Code::new(vec![op], op.insn.length())))
    }
}

/// What an encoding means in a mode; `None` if it is illegal.
pub(crate) fn decode_for(extensions: &ExtensionSet, mode: Mode, word: u32) -> Option<(Opcode, Insn)> {
    let (opcode, insn) = isa::decode(word, extensions)?;
    let has = |bit| mode.0 & bit != 0;
    let illegal = opcode.row().is_float() && (has(Mode::FLOATS_OFF) || has(Mode::ROUNDING_RESERVED) && insn.rm == 7);
    (!illegal).then_some((opcode, insn))
}

/// What an encoding means in the hart's mode; `None` if it is illegal.
pub(crate) fn decode_in_mode(hart: &Hart, word: u32) -> Option<(Opcode, Insn)> {
    decode_for(&hart.configuration().extensions, Mode::of(hart), word)
}

/// Decodes one encoding in the hart's mode; an illegal one becomes an operation that says so.
fn decode_op(hart: &Hart, word: u32) -> (Op, Flow) {
    let Some((opcode, mut insn)) = decode_in_mode(hart, word) else { return (Op::illegal(word), Flow::Exit) };
    let row = opcode.row();
    // Helpers ask whether rd is x0, and a compare-and-swap reads it; everyone else just writes, to where nobody reads.
    if insn.rd == 0 && row.flow != Flow::Exit && !row.requires.contains(Extension::Zacas) {
        insn.rd = NOWHERE;
    }
    // Blocks and branches start at aligned addresses: a distance that is not leads to an exception if it is gone.
    let misaligned = insn.imm as u64 & hart.instruction_alignment() != 0;
    if matches!(row.flow, Flow::Branch | Flow::Jump) && misaligned {
        return (Op::in_full(opcode, insn), row.flow);
    }
    (Op::new(opcode, insn), row.flow)
}
