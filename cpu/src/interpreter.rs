//! The interpreter: runs decoded blocks.
//!
//! Each operation's handler executes it and calls the handler of the next: a chain of tail calls, so that every
//! instruction has an indirect jump of its own for the host to predict. The end of a block looks the next one up in the
//! jump cache and goes on there, as long as nobody wants the hart and the chain's length allows. Where the compiler
//! makes no tail calls (debug builds) the chain is as deep as it is long, so that its length is bounded.

use crate::block::{Blocks, Found, Jumps, MOST_INSTRUCTIONS};
use crate::code::Cursor;
use crate::isa::{self, Flow, Insn, Instruction, Opcode, Visitor};
use crate::quick::{GivenUp, Quick};
use crate::{Hart, Stop, helpers};

/// About how many instructions run before the engine's loop is asked again.
pub(crate) const CHAIN: u64 = if cfg!(debug_assertions) { 100 } else { 4096 };

/// How a chain of operations ended. The hart's count of retired instructions is exact then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The hart's `pc` is at the next block.
    Done,
    /// The last one ran a helper: `next_pc` leads on, and the mode may have changed.
    Exit,
    /// One did not finish: `next_pc` is at it, and the hart holds the trap.
    Trap,
}

/// Executes an operation and those behind it. What changes from block to block travels in registers, as memory would
/// make each block wait for the one before it: `pc` is the block's address, `left` leads to the number of instructions
/// that have retired before the block ([`Hart::settle`]).
pub type Handler = for<'c> fn(hart: &mut Hart, at: Cursor<'c>, jumps: &'c Jumps, pc: u64, left: i64) -> Outcome;

/// Executes an instruction the quick way, or else in full.
fn step<'c, I: Instruction>(hart: &mut Hart, at: Cursor<'c>, jumps: &'c Jumps, pc: u64, left: i64) -> Outcome {
    if const { matches!(I::ROW.flow, Flow::Exit) } {
        return full_step::<I>(hart, at, jumps, pc, left);
    }
    let mut quick = Quick { hart, pc, target: None };
    match I::execute(&mut quick, at.insn()) {
        Ok(()) => {
            let target = quick.target;
            go_on::<I>(hart, at, jumps, pc, left, target)
        }
        Err(GivenUp) => full_step::<I>(hart, at, jumps, pc, left),
    }
}

/// What comes after an instruction that has been executed, and may have a target to go to.
#[inline(always)]
fn go_on<'c, I: Instruction>(
    hart: &mut Hart,
    at: Cursor<'c>,
    jumps: &'c Jumps,
    pc: u64,
    left: i64,
    target: Option<u64>,
) -> Outcome {
    // SAFETY: this is the handler of an instruction.
    let next = unsafe { at.next() };
    if const { matches!(I::ROW.flow, Flow::Next) } {
        return (next.handler())(hart, next, jumps, pc, left);
    }
    if const { matches!(I::ROW.flow, Flow::Branch) } && target.is_none() {
        // The block goes on. That the host branches here, and does not choose between addresses, lets it run ahead.
        return (next.handler())(hart, next, jumps, pc, left);
    }
    // What is behind knows how far it is from the start.
    let Insn { index, offset, .. } = *next.insn();
    leave(hart, jumps, target.unwrap_or(pc.wrapping_add(offset.into())), left - i64::from(index))
}

/// Goes to the next block.
#[inline(always)]
fn leave(hart: &mut Hart, jumps: &Jumps, pc: u64, left: i64) -> Outcome {
    match jumps.code(pc) {
        Some(start) if left > 0 && hart.shared().events() == 0 => (start.handler())(hart, start, jumps, pc, left),
        _ => {
            hart.pc = pc;
            hart.settle(left);
            Outcome::Done
        }
    }
}

/// The handler behind the last instruction of a block that goes to the next one.
pub(crate) fn end_handler<'c>(hart: &mut Hart, at: Cursor<'c>, jumps: &'c Jumps, pc: u64, left: i64) -> Outcome {
    let insn = at.insn();
    leave(hart, jumps, pc.wrapping_add(insn.offset.into()), left - i64::from(insn.index))
}

/// Executes an instruction in full.
#[cold]
#[inline(never)]
fn full_step<'c, I: Instruction>(hart: &mut Hart, at: Cursor<'c>, jumps: &'c Jumps, pc: u64, left: i64) -> Outcome {
    let insn = at.insn();
    hart.pc = pc;
    hart.next_pc = pc.wrapping_add(u64::from(insn.offset) + insn.length());
    hart.settle(left);
    if I::execute(hart, insn).is_err() {
        return trapped(hart, at);
    }
    if const { matches!(I::ROW.flow, Flow::Exit) } {
        // Wrapping: an ecall that does not retire has taken itself off in advance, maybe below zero.
        hart.counts.retired = hart.counts.retired.wrapping_add(u64::from(insn.index) + 1);
        return Outcome::Exit;
    }
    let target = hart.next_pc;
    go_on::<I>(hart, at, jumps, pc, left, Some(target))
}

#[cold]
fn trapped(hart: &mut Hart, at: Cursor<'_>) -> Outcome {
    hart.next_pc = hart.pc.wrapping_add(at.insn().offset.into());
    // Those before it have retired; it has not.
    hart.counts.retired = hart.counts.retired.wrapping_add(at.insn().index.into());
    Outcome::Trap
}

/// The handler of an encoding that means nothing in the hart's mode.
pub(crate) fn illegal_handler<'c>(hart: &mut Hart, at: Cursor<'c>, _: &'c Jumps, pc: u64, left: i64) -> Outcome {
    hart.pc = pc;
    hart.settle(left);
    match helpers::illegal(hart, at.insn()) {
        Ok(()) => Outcome::Exit,
        Err(_) => trapped(hart, at),
    }
}

impl Hart {
    /// Counts what has retired since the chain of blocks began, of which `left` of the chain's length are left.
    #[inline(always)]
    fn settle(&mut self, left: i64) {
        self.counts.retired = self.chain_end.wrapping_sub(left as u64);
    }
}

struct HandlerOf;

impl Visitor for HandlerOf {
    type Output = Handler;

    fn visit<I: Instruction>(self) -> Handler {
        step::<I>
    }
}

/// The handler of a row of the instruction table.
pub(crate) fn handler(opcode: Opcode) -> Handler {
    isa::dispatch(opcode, HandlerOf)
}

struct FullHandlerOf;

impl Visitor for FullHandlerOf {
    type Output = Handler;

    fn visit<I: Instruction>(self) -> Handler {
        full_step::<I>
    }
}

/// The handler of a row of the instruction table that does not try the quick way.
pub(crate) fn full_handler(opcode: Opcode) -> Handler {
    isa::dispatch(opcode, FullHandlerOf)
}

/// The interpreter of one hart: its decoded code.
#[derive(Default)]
pub struct Interpreter {
    pub(crate) blocks: Blocks,
}

impl Interpreter {
    /// Runs `hart` until something stops it, at most `budget` instructions (traps count as none).
    pub fn run(&mut self, hart: &mut Hart, budget: u64) -> Stop {
        let limit = hart.counts.retired.saturating_add(budget);
        // An endless loop of traps retires nothing and must end too.
        let mut traps_left = budget;
        self.blocks.context(hart);
        loop {
            hart.note_overflows();
            if hart.shared().events() != 0 {
                if let Some(stop) = hart.serve_events() {
                    return stop;
                }
                self.blocks.context(hart);
            }
            let left = limit.min(hart.watched.overflow_at).saturating_sub(hart.counts.retired);
            if left == 0 {
                return Stop::Budget;
            }
            let outcome = match self.blocks.find(hart) {
                Ok(found) => run(hart, &self.blocks, &found, left, CHAIN),
                Err(_) => {
                    hart.next_pc = hart.pc;
                    Outcome::Trap
                }
            };
            match outcome {
                Outcome::Done => continue,
                Outcome::Exit => hart.pc = hart.next_pc,
                Outcome::Trap => {
                    hart.pc = hart.next_pc;
                    if let Some(stop) = hart.stop.take() {
                        // A debugger's: the instruction is yet to be executed.
                        return stop;
                    }
                    hart.enter_exception();
                    traps_left = traps_left.saturating_sub(1);
                    if traps_left == 0 {
                        return Stop::Budget;
                    }
                }
            }
            if let Some(stop) = hart.stop.take() {
                return stop;
            }
            self.blocks.context(hart);
        }
    }
}

/// Runs what was found and, for about `chain` instructions, what it leads to; at most `most` of them.
#[inline(always)]
pub(crate) fn run(hart: &mut Hart, blocks: &Blocks, found: &Found, most: u64, chain: u64) -> Outcome {
    let (code, jumps) = match found {
        Found::Kept(index) => blocks.code(*index),
        Found::Alone(code) => (code, blocks.jumps()),
    };
    // The last block that a chain goes to may be as long as blocks get.
    let chain = chain.min(most.saturating_sub(MOST_INSTRUCTIONS as u64));
    let (start, pc) = (code.start(), hart.pc);
    hart.chain_end = hart.counts.retired.wrapping_add(chain);
    if code.len() as u64 > most {
        let part = code.part(most as usize);
        let start = part.start();
        return (start.handler())(hart, start, jumps, pc, chain as i64);
    }
    (start.handler())(hart, start, jumps, pc, chain as i64)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bus::{AddressSpace, Clock, Ram};

    use super::*;
    use crate::extension::ExtensionSet;
    use crate::{Configuration, HartBox, HartShared, Privilege};

    #[test]
    fn an_ecall_to_the_built_in_sbi_does_not_retire_even_as_the_first_instruction() {
        const BASE: u64 = 0x8000_0000;
        let ram = Ram::new(BASE, 0x1000).unwrap();
        let configuration = Configuration {
            extensions: ExtensionSet::implemented(),
            page_table_levels: 3,
            built_in_sbi: true,
            semihosting: None,
            reset_vector: BASE,
        };
        const ECALL: u32 = 0x0000_0073;
        const NOP: u32 = 0x0000_0013;
        for (address, word) in [(BASE, ECALL), (BASE + 4, NOP), (BASE + 8, ECALL)] {
            ram.write(address, &word.to_le_bytes()).unwrap();
        }
        let bus = Arc::new(AddressSpace::new(ram));
        let mut hart = HartBox::new(configuration, Arc::new(HartShared::new(0)), bus, Clock::manual());
        hart.open_pmp();
        hart.set_privilege(Privilege::Supervisor);
        let mut interpreter = Interpreter::default();
        for (pc, retired) in [(BASE + 4, 0), (BASE + 12, 1)] {
            assert_eq!(interpreter.run(&mut hart, 10), Stop::EnvironmentCall);
            assert_eq!((hart.pc(), hart.counts().retired), (pc, retired));
        }
    }
}
