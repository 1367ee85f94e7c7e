//! Decoded blocks: straight runs of instructions in one page, decoded once.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use bus::{PAGE_SIZE, PageFlags};

use crate::csr::mstatus;
use crate::extension::ExtensionSet;
use crate::interpreter::{Handler, handler, illegal_handler};
use crate::isa::{self, Flow, Insn, Opcode};
use crate::mmu::Access;
use crate::trap::Exception;
use crate::{Hart, Trapped, tlb};

/// Most instructions in a block; their index has to fit [`Insn::index`].
const MOST_INSTRUCTIONS: usize = 64;

/// Decoded instructions that are kept before all are dropped: 48 MiB of them.
const MOST_OPS: usize = 2 << 20;

/// One instruction, ready to run.
#[derive(Clone, Copy)]
pub struct Op {
    /// The code that executes it and goes on with the next.
    pub handler: Handler,
    /// Its operands.
    pub insn: Insn,
}

/// A run of instructions that starts at one physical address.
pub struct Block {
    /// At least one.
    pub ops: Box<[Op]>,
    /// Length in bytes.
    pub length: u64,
    /// The version of its page's code that it was made from.
    version: u32,
    /// Where in RAM it starts.
    #[cfg(feature = "jit")]
    pub offset: u64,
    /// The mode that it was decoded in.
    #[cfg(feature = "jit")]
    pub mode: Mode,
    /// How often it was looked up to be run.
    #[cfg(feature = "jit")]
    pub heat: u32,
    /// The number of regions installed when one was last looked for.
    #[cfg(feature = "jit")]
    pub installs: u64,
    /// Whether there was one.
    #[cfg(feature = "jit")]
    pub is_translated: bool,
}

/// The bits of a hart's mode that decide what an encoding means, and how it rounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Mode(u8);

impl Mode {
    const FLOATS_OFF: u8 = 1;
    const ROUNDING_RESERVED: u8 = 2;
    const ROUNDS_OTHERWISE: u8 = 4;

    /// The mode of a hart.
    pub fn of(hart: &Hart) -> Self {
        let floats_off = mstatus::FS.get(hart.csr.mstatus) == mstatus::FS_OFF;
        let rounding = match hart.csr.frm {
            0 => 0,
            1..=4 => Self::ROUNDS_OTHERWISE,
            _ => Self::ROUNDING_RESERVED,
        };
        Self(u8::from(floats_off) | rounding)
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

/// The key of a block: where it is in RAM (even) and the mode bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Key(u64);

/// Keys are spread by one multiplication.
#[derive(Default)]
struct KeyHasher(u64);

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

/// A slot of the jump cache: which block starts at a virtual address in a context.
#[derive(Clone, Copy, Default)]
struct Jump {
    pc: u64,
    /// [`Blocks::context`] when it was filled.
    context: u64,
    block: u32,
}

const JUMPS: usize = 4096;

/// The decoded blocks of one hart.
pub struct Blocks {
    blocks: Vec<Block>,
    by_key: HashMap<Key, u32, BuildHasherDefault<KeyHasher>>,
    jumps: Box<[Jump; JUMPS]>,
    /// Instructions in all blocks.
    size: usize,
    /// The TLB's and `fence.i`'s generations that the jump cache is good for, and their number.
    seen: (u64, u64),
    epoch: u64,
}

impl Default for Blocks {
    fn default() -> Self {
        Self {
            blocks: Vec::new(),
            by_key: HashMap::default(),
            jumps: Box::new([Jump::default(); JUMPS]),
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
    /// One instruction that no page holds whole, or that is not in RAM.
    Single(Box<Op>),
}

impl Blocks {
    /// Counts that a block is about to be run; how often it was.
    #[cfg(feature = "jit")]
    #[inline(always)]
    pub fn heat(&mut self, index: u32) -> u32 {
        let block = &mut self.blocks[index as usize];
        block.heat = block.heat.saturating_add(1);
        block.heat
    }

    /// A kept block.
    #[cfg(feature = "jit")]
    pub fn get_mut(&mut self, index: u32) -> &mut Block {
        &mut self.blocks[index as usize]
    }

    /// A kept block.
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
            self.epoch += 1;
        }
        self.epoch << 16 | u64::from(mode) << 10 | fetch_context
    }

    /// The block at the hart's `pc`.
    ///
    /// # Errors
    /// The fetch traps.
    #[inline(always)]
    pub fn find(&mut self, hart: &mut Hart, context: u64) -> Result<Found, Trapped> {
        let jump = &self.jumps[Self::slot(hart.pc)];
        if jump.pc == hart.pc && jump.context == context {
            return Ok(Found::Kept(jump.block));
        }
        self.find_slow(hart, context)
    }

    #[inline(always)]
    fn slot(pc: u64) -> usize {
        (pc >> 1) as usize & (JUMPS - 1)
    }

    #[cold]
    #[inline(never)]
    fn find_slow(&mut self, hart: &mut Hart, context: u64) -> Result<Found, Trapped> {
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
        hart.tlb.note_execution(pc);
        let key = Key(offset << 2 | u64::from(Mode::of(hart).0));
        if let Some(&index) = self.by_key.get(&key)
            && self.blocks[index as usize].version == hart.ram.code_version(offset)
        {
            self.jumps[Self::slot(pc)] = Jump { pc, context, block: index };
            return Ok(Found::Kept(index));
        }
        let Some(block) = decode_block(hart, offset) else { return self.single(hart) };
        if self.size > MOST_OPS {
            *self = Self { epoch: self.epoch + 1, seen: self.seen, ..Self::default() };
        }
        self.size += block.ops.len();
        let index = match self.by_key.get(&key) {
            Some(&index) => {
                self.size -= self.blocks[index as usize].ops.len();
                self.blocks[index as usize] = block;
                index
            }
            None => {
                self.blocks.push(block);
                let index = (self.blocks.len() - 1) as u32;
                self.by_key.insert(key, index);
                index
            }
        };
        // Dropping all blocks starts a new epoch: the context at hand is then an old one, and is not cached.
        if context >> 16 == self.epoch {
            self.jumps[Self::slot(pc)] = Jump { pc, context, block: index };
        }
        Ok(Found::Kept(index))
    }

    /// Fetches one instruction by parcels, each translated and checked.
    fn single(&mut self, hart: &mut Hart) -> Result<Found, Trapped> {
        let word = hart.fetch_word(hart.pc)?;
        let (op, _) = decode_op(hart, word);
        Ok(Found::Single(Box::new(op)))
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
    if let Some((opcode, insn)) = decode_in_mode(hart, word) {
        return (Op { handler: handler(opcode), insn }, opcode.row().flow);
    }
    (Op { handler: illegal_handler, insn: Insn { raw: word, ..Insn::default() } }, Flow::Exit)
}

/// Decodes the block at an offset in RAM; `None` if its first instruction leaves the page.
fn decode_block(hart: &mut Hart, offset: u64) -> Option<Block> {
    // First make sure that a write to the page is heard of, then note its version, then read it.
    hart.listen_to_writes(offset, PageFlags::CODE);
    let version = hart.ram.code_version(offset);
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
        if flow != Flow::Next {
            break;
        }
    }
    (!ops.is_empty()).then(|| Block {
        ops: ops.into(),
        length: at - offset,
        version,
        #[cfg(feature = "jit")]
        offset,
        #[cfg(feature = "jit")]
        mode: Mode::of(hart),
        #[cfg(feature = "jit")]
        heat: 0,
        #[cfg(feature = "jit")]
        installs: 0,
        #[cfg(feature = "jit")]
        is_translated: false,
    })
}
