//! Steady loops: innermost loops without helpers, whose addresses go on by the same step each time round.
//!
//! How often such a loop may go round before one of its accesses leaves the run of pages that it is in can be told
//! before it starts. So its head looks at the range entries of all accesses once, and goes into a second copy of the
//! loop for as many rounds as all of them allow, the budget too. In there nothing can trap and nobody can look at the
//! hart: there are no checks and no poll, and a register that is overwritten before it is read is not stored each time
//! round. The first copy does the rounds between two runs, refills the entries, and takes the traps.

use std::collections::BTreeMap;

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::types::{I32, I64};
use cranelift_codegen::ir::{Block as Label, InstBuilder, Value};
use cranelift_frontend::Variable;

use super::effects::{Access, Registers, x_bit};
use super::region::{Block, Op, Way};
use super::state::offset;
use super::translate::{LONGEST_SPAN, Translator, bits};
use crate::ranges::Range;

/// Most checks before a loop.
const MOST_CHECKS: usize = 12;

/// Fewer rounds are not worth the second copy.
const FEWEST_ROUNDS: i64 = 4;

/// How often a loop that had too few rounds is entered, or has an access miss its run, until the second copy is tried
/// again.
const PENALTY: i64 = 32;

/// About how many instructions run without a poll, as a power of two: some microseconds.
const UNPOLLED: u32 = 15;

/// Largest step in a register.
const LONGEST_STEP: i64 = 1 << 20;

/// What a register goes on by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Constant(i64),
    /// What another integer register holds.
    Register(u8),
}

/// Accesses that share a check, as seen from the start of a round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Check {
    /// The number of the first of the accesses.
    pub first: usize,
    /// Integer register.
    pub base: u8,
    /// First byte, as a distance from the register's value.
    pub low: i64,
    /// Bytes.
    pub span: i64,
    /// What the register goes on by in a round.
    pub step: Option<Step>,
    /// Whether it has gone on by a register before the accesses.
    pub is_behind: bool,
}

/// A loop that is translated a second time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Steady {
    /// The blocks in the order in which they run, the head first.
    pub chain: Vec<usize>,
    /// Instructions in a round.
    pub length: u32,
    pub checks: Vec<Check>,
    /// For each access, by its number, its check.
    pub members: BTreeMap<usize, usize>,
    /// Registers that it writes.
    pub written: Registers,
    /// Registers whose values of the last round nobody can ask for: written anew before anything can leave.
    pub lost: Registers,
    /// Whether it reads the same place again and again, where another hart may store.
    pub waits: bool,
}

/// The bytes around a base register that an access and later ones with the same base reach, if there are several: the
/// first and the length.
pub(super) fn span(access: Access, ops: &[Op]) -> Option<(i64, i64)> {
    let (mut low, mut high, mut count) = (access.offset, access.offset, 0);
    for op in ops {
        if let Some(other) = op.effects.access
            && (other.base, other.store) == (access.base, access.store)
        {
            let (start, end) = (low.min(other.offset), high.max(other.offset + other.width.bytes() as i64));
            if end - start > LONGEST_SPAN {
                break;
            }
            (low, high, count) = (start, end, count + 1);
        }
        if op.effects.clobbers || op.effects.writes & x_bit(access.base) != 0 {
            break;
        }
    }
    (count > 1).then_some((low, high - low))
}

/// What a register goes on by in a round, and before an instruction of it.
#[derive(Clone, Copy, Default)]
struct Progress {
    /// Constants, in a round.
    by: i64,
    /// Those of them before the instruction.
    before: i64,
    register: Option<u8>,
    is_behind: bool,
}

impl Steady {
    /// The loop of a chain of blocks, if it is one; `live` are the registers whose values matter at its head.
    pub fn of(blocks: &[Block], chain: Vec<usize>, live: Registers) -> Option<Self> {
        let ops = || chain.iter().flat_map(|block| &blocks[*block].ops);
        let written = ops().fold(0, |set, op| set | op.effects.writes);
        let progress = |base: u8, number: usize| {
            let mut progress = Progress::default();
            let mut is_before = true;
            for op in ops() {
                is_before &= op.number != number;
                if op.effects.writes & x_bit(base) == 0 {
                    continue;
                }
                match op.effects.step? {
                    Step::Constant(by) => {
                        progress.by = progress.by.checked_add(by)?;
                        progress.before += if is_before { by } else { 0 };
                    }
                    Step::Register(register) => {
                        if progress.register.replace(register).is_some() || written & x_bit(register) != 0 {
                            return None;
                        }
                        progress.is_behind = is_before;
                    }
                }
            }
            Some(progress)
        };
        let mut checks: Vec<Check> = Vec::new();
        let mut members = BTreeMap::new();
        let mut waits = false;
        // As the translator shares checks.
        let mut groups: Vec<(Access, i64, i64, usize)> = Vec::new();
        for block in &chain {
            for (place, op) in blocks[*block].ops.iter().enumerate() {
                if op.effects.clobbers || op.effects.leaves && op.effects.access.is_none() {
                    return None;
                }
                if let Some(access) = op.effects.access {
                    let end = access.offset + access.width.bytes() as i64;
                    let group = groups.iter().find(|(other, low, high, _)| {
                        (other.base, other.store) == (access.base, access.store)
                            && *low <= access.offset
                            && end <= *high
                    });
                    let check = match group {
                        Some((.., check)) => *check,
                        None => {
                            let shared = span(access, &blocks[*block].ops[place..]);
                            let (low, span) = shared.unwrap_or((access.offset, access.width.bytes() as i64));
                            if shared.is_some() {
                                groups.push((access, low, low + span, checks.len()));
                            }
                            let Progress { by, before, register, is_behind } = progress(access.base, op.number)?;
                            let step = match (by, register) {
                                (0, None) => None,
                                (_, None) => Some(Step::Constant(by)),
                                (0, Some(register)) => Some(Step::Register(register)),
                                _ => return None,
                            };
                            waits |= step.is_none() && !access.store;
                            let low = low.checked_add(before)?;
                            checks.push(Check { first: op.number, base: access.base, low, span, step, is_behind });
                            checks.len() - 1
                        }
                    };
                    members.insert(op.number, check);
                }
                groups.retain(|(access, ..)| op.effects.writes & x_bit(access.base) == 0);
            }
        }
        // One that only waits for somebody gains nothing.
        let moves = checks.is_empty() || checks.iter().any(|check| check.step.is_some());
        let first = blocks[chain[0]].ops.iter().fold(0, |set, op| set | op.effects.writes);
        let length = ops().count() as u32;
        (moves && checks.len() <= MOST_CHECKS).then_some(Self {
            length,
            checks,
            members,
            written,
            lost: first & !live,
            waits,
            chain,
        })
    }

    /// Rounds that take at least as many instructions as they may: a power of two.
    fn log_length(&self) -> u32 {
        self.length.next_power_of_two().trailing_zeros()
    }
}

/// A steady loop whose checks have been translated.
pub(super) struct Entered {
    /// Its number in the region.
    index: usize,
    /// The start of a round.
    label: Label,
    /// Rounds that are left, this one included.
    rounds: Variable,
    /// `left` before all of them, and after.
    left_start: Value,
    left_end: Value,
    /// Per check, what to add to addresses for the host's.
    deltas: Vec<Value>,
    /// The place of its credit.
    credit: i32,
}

/// Where an access in the first copy of a steady loop has its range entry, and the place of the loop's credit.
#[derive(Clone, Copy)]
pub(super) struct Reserved {
    pub range: usize,
    pub credit: i32,
}

impl Translator<'_, '_> {
    /// Reserves the range entries of a steady loop's accesses, and one for its credit: zero or more where the second
    /// copy should be tried when the loop is entered, more than zero where it should after a round of the first.
    fn reserve(&mut self, steady: &Steady) -> Option<(Vec<usize>, i32)> {
        let credit = self.ranges.next()?;
        let credit = offset::RANGES + (credit * size_of::<Range>()) as i32 + offset::RANGE_PATIENCE;
        let ranges: Vec<usize> = steady.checks.iter().map_while(|_| self.ranges.next()).collect();
        if ranges.len() < steady.checks.len() {
            return None;
        }
        self.reserved.extend(
            steady.checks.iter().zip(&ranges).map(|(check, range)| (check.first, Reserved { range: *range, credit })),
        );
        Some((ranges, credit))
    }

    fn credit(&mut self, place: i32) -> Value {
        self.b.ins().load(I32, self.memory.tlb, self.hart, place)
    }

    fn set_credit(&mut self, place: i32, value: i64) {
        let value = self.b.ins().iconst(I32, value);
        self.b.ins().store(self.memory.tlb, value, self.hart, place);
    }

    /// An access of the first copy has missed its run: it may have a new one now.
    pub(super) fn raise_credit(&mut self, place: i32) {
        let credit = self.credit(place);
        let more = self.b.ins().iadd_imm_s(credit, 1);
        self.b.ins().store(self.memory.tlb, more, self.hart, place);
    }

    /// At a steady loop's head, where it has polled: the checks, and the way into the second copy. Goes on where the
    /// first one is entered. `None` where no range entries are left.
    pub(super) fn enter_steady(&mut self, index: usize) -> Option<Entered> {
        let steady = &self.region.steady[index];
        let (ranges, credit) = self.reserve(steady)?;
        let head = steady.chain[0];
        let (attempt, resting, latch, slow) =
            (self.b.create_block(), self.cold(), self.b.create_block(), self.b.create_block());
        let good = self.credit(credit);
        let good = self.b.ins().icmp_imm_s(IntCC::SignedGreaterThanOrEqual, good, 0);
        self.b.ins().brif(good, attempt, [], resting, []);
        self.b.seal_block(resting);
        self.b.switch_to_block(resting);
        self.raise_credit(credit);
        self.b.ins().jump(slow, []);
        // From a round of the first copy.
        self.b.switch_to_block(latch);
        self.poll(head);
        let good = self.credit(credit);
        let good = self.b.ins().icmp_imm_s(IntCC::SignedGreaterThan, good, 0);
        self.b.ins().brif(good, attempt, [], slow, []);
        self.latches.insert((*steady.chain.last()?, head), latch);
        self.b.seal_block(attempt);
        self.b.switch_to_block(attempt);
        let (missed, few) = (self.cold(), self.cold());
        let left = self.b.use_var(self.left);
        let log = steady.log_length();
        let budget = self.b.ins().sshr_imm_u(left, i64::from(log));
        let most = self.constant(1 << UNPOLLED.saturating_sub(log).max(3));
        let mut rounds = self.b.ins().smin(budget, most);
        let mut deltas = Vec::new();
        for (check, range) in steady.checks.iter().zip(ranges) {
            let at = offset::RANGES + (range * size_of::<Range>()) as i32;
            let base = self.read(check.base.into());
            let base = self.int(base);
            let stride = match check.step {
                Some(Step::Register(register)) => {
                    let stride = self.read(register.into());
                    let stride = self.int(stride);
                    let less = self.b.ins().iadd_imm_s(stride, -1);
                    let good = self.b.ins().icmp_imm_u(IntCC::UnsignedLessThan, less, LONGEST_STEP);
                    self.go_on_if(good, few);
                    Some(stride)
                }
                _ => None,
            };
            let mut first = self.b.ins().iadd_imm_s(base, check.low);
            if let Some(stride) = stride.filter(|_| check.is_behind) {
                first = self.b.ins().iadd(first, stride);
            }
            let run = self.b.ins().load(I64, self.memory.tlb, self.hart, at + offset::RANGE_BASE);
            let place = self.b.ins().isub(first, run);
            let limit = self.b.ins().load(I64, self.memory.tlb, self.hart, at + offset::RANGE_LIMIT);
            let inside = self.b.ins().icmp(IntCC::UnsignedLessThan, place, limit);
            self.go_on_if(inside, missed);
            deltas.push(self.b.ins().load(I64, self.memory.tlb, self.hart, at + offset::RANGE_DELTA));
            // How often the access can go on from here.
            let room = match check.step {
                None => continue,
                Some(Step::Constant(step)) if step < 0 => place,
                Some(_) => {
                    let room = self.b.ins().isub(limit, place);
                    self.b.ins().iadd_imm_s(room, -1)
                }
            };
            let onward = match (check.step, stride) {
                (_, Some(stride)) => self.b.ins().udiv(room, stride),
                (Some(Step::Constant(step)), _) => {
                    let step = step.unsigned_abs();
                    if step.is_power_of_two() {
                        self.b.ins().ushr_imm_u(room, i64::from(step.trailing_zeros()))
                    } else {
                        self.b.ins().udiv_imm_u(room, step as i64)
                    }
                }
                _ => continue,
            };
            let onward = self.b.ins().iadd_imm_s(onward, 1);
            rounds = self.b.ins().smin(rounds, onward);
        }
        let enough = self.b.ins().icmp_imm_s(IntCC::SignedGreaterThanOrEqual, rounds, FEWEST_ROUNDS);
        self.go_on_if(enough, few);
        let all = self.b.ins().imul_imm_s(rounds, i64::from(steady.length));
        let left_end = self.b.ins().isub(left, all);
        let variable = self.b.declare_var(I64);
        self.b.def_var(variable, rounds);
        for register in bits(steady.written & !steady.lost & !self.available) {
            let value = self.load_register(register);
            let variable = self.variable(register);
            self.b.def_var(variable, value);
        }
        let label = self.b.create_block();
        self.b.ins().jump(label, []);
        for (label, value) in [(missed, 0), (few, -PENALTY)] {
            self.b.seal_block(label);
            self.b.switch_to_block(label);
            self.set_credit(credit, value);
            self.b.ins().jump(slow, []);
        }
        self.b.seal_block(slow);
        self.b.switch_to_block(slow);
        self.values = [None; 64];
        self.available = self.region.blocks[head].available;
        Some(Entered { index, label, rounds: variable, left_start: left, left_end, deltas, credit })
    }

    fn go_on_if(&mut self, condition: Value, otherwise: Label) {
        let on = self.b.create_block();
        self.b.ins().brif(condition, on, [], otherwise, []);
        self.b.seal_block(on);
        self.b.switch_to_block(on);
    }

    /// Translates the second copy of a steady loop.
    pub(super) fn steady_loop(&mut self, entered: Entered) {
        let region = self.region;
        let steady = &region.steady[entered.index];
        let head = steady.chain[0];
        self.b.switch_to_block(entered.label);
        self.current = None;
        self.values = [None; 64];
        self.available = (region.blocks[head].available | steady.written) & !steady.lost;
        self.dirty = region.blocks[head].dirty | steady.written & !steady.lost;
        (self.behind, self.unused, self.float_dirty) = (0, 0, false);
        (self.condition, self.target, self.ended) = (None, None, false);
        (self.count, self.is_inner) = (0, true);
        self.deltas = steady.members.iter().map(|(number, check)| (*number, entered.deltas[*check])).collect();
        for (place, index) in steady.chain.iter().enumerate() {
            let block = &region.blocks[*index];
            self.ops(block);
            let next = steady.chain.get(place + 1).copied();
            self.keep(self.unused);
            if let ([taken, next_way], Some(condition)) = (&*block.ways, self.condition.take()) {
                let lost = self.define_all_but(steady.lost);
                let (on, out) = (self.b.create_block(), self.b.create_block());
                let goes_on = taken.block == Some(next.unwrap_or(head));
                let (labels, target) = if goes_on { ([on, out], *next_way) } else { ([out, on], *taken) };
                self.branch_to(condition, labels[0], labels[1]);
                self.b.switch_to_block(out);
                self.behind = lost;
                self.leave_steady(&entered, steady.length, target);
                self.b.switch_to_block(on);
                self.behind = lost;
            }
        }
        let lost = self.define_all_but(steady.lost);
        let rounds = self.b.use_var(entered.rounds);
        let rounds = self.b.ins().iadd_imm_s(rounds, -1);
        self.b.def_var(entered.rounds, rounds);
        self.count = 0;
        let done = self.cold();
        if steady.waits {
            let polled = self.b.create_block();
            let events = self.event_word();
            self.b.ins().brif(events, done, [], polled, []);
            self.b.seal_block(polled);
            self.b.switch_to_block(polled);
        }
        self.b.ins().brif(rounds, entered.label, [], done, []);
        self.b.seal_block(entered.label);
        self.b.seal_block(done);
        self.b.switch_to_block(done);
        self.behind = lost;
        let on = Way { at: region.blocks[head].start, block: Some(head) };
        self.leave_steady(&entered, steady.length, on);
        self.deltas.clear();
    }

    /// Brings variables up to date; those that are yet to be, of a set that only who leaves asks for.
    fn define_all_but(&mut self, set: Registers) -> Registers {
        let others = self.behind & set;
        self.behind &= !set;
        self.define_variables();
        others
    }

    /// Leaves the second copy by a way, with `count` instructions of the round behind.
    fn leave_steady(&mut self, entered: &Entered, length: u32, way: Way) {
        let (dirty, unused, values, available, count) =
            (self.dirty, self.unused, self.values, self.available, self.count);
        self.define_variables();
        let rounds = self.b.use_var(entered.rounds);
        let not_run = self.b.ins().imul_imm_s(rounds, i64::from(length));
        let left = self.b.ins().iadd(entered.left_end, not_run);
        let left = self.b.ins().iadd_imm_s(left, -i64::from(count));
        self.b.def_var(self.left, left);
        self.count = 0;
        // The next time, too, it may have few rounds.
        let run = self.b.ins().isub(entered.left_start, left);
        let short = self.b.ins().icmp_imm_s(IntCC::SignedLessThan, run, FEWEST_ROUNDS * i64::from(length));
        let (penalty, none) = (self.b.ins().iconst(I32, -PENALTY), self.b.ins().iconst(I32, 0));
        let credit = self.b.ins().select(short, penalty, none);
        self.b.ins().store(self.memory.tlb, credit, self.hart, entered.credit);
        self.go(way);
        (self.dirty, self.unused, self.values, self.available, self.count) = (dirty, unused, values, available, count);
    }
}
