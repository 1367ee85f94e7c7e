//! The interpreter: runs decoded blocks.
//!
//! Each operation's handler executes it and calls the handler of the next: a chain of tail calls, so that every
//! instruction has an indirect jump of its own for the host to predict. Where the compiler makes no tail calls (debug
//! builds) the chain is as deep as a block is long, which is bounded.

use crate::block::{Blocks, Found, Op};
use crate::isa::{self, Flow, Instruction, Opcode, Visitor};
use crate::quick::{GivenUp, Quick};
use crate::{Hart, Stop, helpers};

/// How a chain of operations ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All were executed; the hart's `pc` is at the next block.
    Done,
    /// All were executed, and the last one ran a helper: `next_pc` leads on, and the mode may have changed.
    Exit,
    /// One did not finish: `next_pc` is at it, and the hart holds the trap.
    Trap,
}

/// Executes an operation and those behind it.
pub type Handler = fn(&mut Hart, &Op, &[Op]) -> Outcome;

/// Executes an instruction the quick way, or else in full.
fn step<I: Instruction>(hart: &mut Hart, op: &Op, rest: &[Op]) -> Outcome {
    match I::execute(&mut Quick { hart }, &op.insn) {
        Ok(()) => go_on(hart, rest),
        Err(GivenUp) => full_step::<I>(hart, op, rest),
    }
}

#[inline(always)]
fn go_on(hart: &mut Hart, rest: &[Op]) -> Outcome {
    match rest.split_first() {
        Some((next, rest)) => (next.handler)(hart, next, rest),
        None => Outcome::Done,
    }
}

/// Executes an instruction in full.
#[cold]
#[inline(never)]
fn full_step<I: Instruction>(hart: &mut Hart, op: &Op, rest: &[Op]) -> Outcome {
    if I::execute(hart, &op.insn).is_err() {
        return trapped(hart, op);
    }
    if const { matches!(I::ROW.flow, Flow::Exit) } {
        return Outcome::Exit;
    }
    go_on(hart, rest)
}

#[cold]
fn trapped(hart: &mut Hart, op: &Op) -> Outcome {
    hart.next_pc = hart.block_pc.wrapping_add(op.insn.offset.into());
    // Those before it have retired; it has not.
    hart.counts.retired += u64::from(op.insn.index);
    Outcome::Trap
}

/// The handler of an encoding that means nothing in the hart's mode.
pub(crate) fn illegal_handler(hart: &mut Hart, op: &Op, _: &[Op]) -> Outcome {
    match helpers::illegal(hart, &op.insn) {
        Ok(()) => Outcome::Exit,
        Err(_) => trapped(hart, op),
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
        let mut context = self.blocks.context(hart);
        loop {
            if hart.shared().events() != 0 {
                if let Some(stop) = hart.serve_events() {
                    return stop;
                }
                context = self.blocks.context(hart);
            }
            let left = limit.saturating_sub(hart.counts.retired);
            if left == 0 {
                return Stop::Budget;
            }
            let found = self.blocks.find(hart, context);
            let outcome = match &found {
                Ok(Found::Kept(index)) => {
                    let block = self.blocks.get(*index);
                    run_ops(hart, &block.ops, block.length, left)
                }
                Ok(Found::Single(op)) => run_single(hart, op, left),
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
            context = self.blocks.context(hart);
        }
    }
}

/// Runs one operation that is not part of a block.
pub(crate) fn run_single(hart: &mut Hart, op: &Op, most: u64) -> Outcome {
    run_ops(hart, std::slice::from_ref(op), op.insn.length(), most)
}

/// Runs the operations of a block, at most `most` of them.
#[inline(always)]
pub(crate) fn run_ops(hart: &mut Hart, ops: &[Op], length: u64, most: u64) -> Outcome {
    let mut ops = ops;
    let mut length = length;
    if (ops.len() as u64) > most {
        ops = &ops[..most as usize];
        length = ops.last().map_or(0, |last| u64::from(last.insn.offset) + last.insn.length());
    }
    let Some((first, rest)) = ops.split_first() else { return Outcome::Done };
    hart.block_pc = hart.pc;
    hart.pc = hart.block_pc.wrapping_add(length);
    let outcome = (first.handler)(hart, first, rest);
    if outcome != Outcome::Trap {
        // Wrapping: an ecall that does not retire has taken itself off in advance, maybe below zero.
        hart.counts.retired = hart.counts.retired.wrapping_add(ops.len() as u64);
    }
    outcome
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bus::{AddressSpace, Clock, Ram};

    use super::*;
    use crate::extension::ExtensionSet;
    use crate::{Configuration, HartShared, Privilege};

    #[test]
    fn an_ecall_to_the_built_in_sbi_does_not_retire_even_as_the_first_instruction() {
        const BASE: u64 = 0x8000_0000;
        let ram = Ram::new(BASE, 0x1000).unwrap();
        let configuration = Configuration {
            extensions: ExtensionSet::implemented(),
            page_table_levels: 3,
            built_in_sbi: true,
            reset_vector: BASE,
        };
        const ECALL: u32 = 0x0000_0073;
        const NOP: u32 = 0x0000_0013;
        for (address, word) in [(BASE, ECALL), (BASE + 4, NOP), (BASE + 8, ECALL)] {
            ram.write(address, &word.to_le_bytes()).unwrap();
        }
        let bus = Arc::new(AddressSpace::new(ram));
        let mut hart = Hart::new(configuration, Arc::new(HartShared::new(0)), bus, Clock::manual());
        hart.open_pmp();
        hart.set_privilege(Privilege::Supervisor);
        let mut interpreter = Interpreter::default();
        for (pc, retired) in [(BASE + 4, 0), (BASE + 12, 1)] {
            assert_eq!(interpreter.run(&mut hart, 10), Stop::EnvironmentCall);
            assert_eq!((hart.pc(), hart.counts().retired), (pc, retired));
        }
    }
}
