//! The JIT: compiled code in place of the interpreter.
//!
//! The interpreter runs what is cold and counts how often it enters each block. For a block that is warm, the baseline
//! compiler ([`baseline`]) makes quick code on a thread of its own, which goes on counting. A block that is hot is the entry
//! of a region ([`region`]), which another background thread grows, translates by Cranelift ([`translate`]) and installs
//! ([`shared`]); from then on it is entered instead. Both kinds of code reach each other by links and by the hart's jump
//! cache, and come back here only for what they do not know: traps, helpers that change the hart's mode, events, code not
//! yet translated.
//!
//! Code is kept by physical address and mode, so that it survives changes of the address space; jump caches are by
//! virtual address in a context, as those of decoded blocks are.

mod arena;
mod baseline;
mod effects;
mod float;
mod gate;
mod host;
mod jumps;
mod known;
mod log;
#[cfg(not(target_arch = "x86_64"))]
mod miss;
mod perf;
mod queue;
mod region;
mod runtime;
mod shared;
mod state;
mod steady;
mod system;
#[cfg(test)]
mod tests;
mod translate;

use std::sync::Arc;

use bus::PAGE_SIZE;

pub use shared::{CompilerStatistics, JitError, JitOptions, JitShared};
pub(crate) use state::State;

use crate::block::{self, Found, Mode};
use crate::interpreter::{self, Outcome};
use crate::lockstep::{self, Lockstep};
use crate::mmu::Access;
use crate::sync;
use crate::{Hart, Interpreter, Stop, Trapped};
use gate::Presence;
use jumps::Jumps;
use known::Known;
use region::{NEIGHBOURS, Request};
pub(crate) use shared::FoundCode;
use shared::Installed;
use state::RESERVE;
use translate::result;

/// What one hart's engine did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JitStatistics {
    /// Instructions retired in translated code.
    pub translated: u64,
    /// Instructions retired in the interpreter.
    pub interpreted: u64,
    /// Instructions or operations that translated code gave to a helper.
    pub helped: u64,
    /// Memory accesses of translated code that its TLB check did not cover.
    pub slow_accesses: u64,
    /// Times that translated code was entered from the engine.
    pub entries: u64,
    /// Returns from translated code because of a trap.
    pub exits_trap: u64,
    /// Returns after a helper that changed the mode or the flow.
    pub exits_helper: u64,
    /// Returns by a link that led nowhere yet.
    pub exits_link: u64,
    /// Returns for an event or the end of the budget.
    pub exits_event: u64,
    /// Returns for accesses that share a check and that no run has all of.
    pub exits_access: u64,
    /// Returns by a miss of the jump cache.
    pub exits_miss: u64,
    /// Returns of baseline code whose counter has run out.
    pub exits_hot: u64,
}

impl std::ops::Add for JitStatistics {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            translated: self.translated + other.translated,
            interpreted: self.interpreted + other.interpreted,
            helped: self.helped + other.helped,
            slow_accesses: self.slow_accesses + other.slow_accesses,
            entries: self.entries + other.entries,
            exits_trap: self.exits_trap + other.exits_trap,
            exits_helper: self.exits_helper + other.exits_helper,
            exits_link: self.exits_link + other.exits_link,
            exits_event: self.exits_event + other.exits_event,
            exits_access: self.exits_access + other.exits_access,
            exits_miss: self.exits_miss + other.exits_miss,
            exits_hot: self.exits_hot + other.exits_hot,
        }
    }
}

/// The JIT engine of one hart.
pub struct Jit {
    shared: Arc<JitShared>,
    interpreter: Interpreter,
    jumps: Jumps,
    known: Known,
    presence: Option<Arc<Presence>>,
    /// [`gate::Gate::generation`] that `jumps` and `known` are good for.
    generation: u64,
    /// How hot a block has to be for anything to be made of it.
    first_threshold: u32,
    /// About how many instructions the interpreter runs before translated code is looked for again.
    chain: u64,
    statistics: JitStatistics,
}

/// Where blocks are to be counted one by one the interpreter runs one at a time; else chains of about this length.
const CHAIN: u64 = 200;

/// Below this threshold blocks are counted one by one.
const FEWEST_SAMPLED: u32 = 50;

/// Instructions in a block, about: what a chain of blocks is counted by.
const BLOCK_LENGTH: u64 = 8;

/// The entry code: `fn(hart, pc, left, code) -> result`. On x86-64 it is [`host::enter`].
#[cfg(not(target_arch = "x86_64"))]
type Entry = extern "C" fn(*mut Hart, u64, i64, u64) -> i64;

impl Jit {
    /// The engine of a hart of the machine that `shared` belongs to.
    pub fn new(shared: Arc<JitShared>) -> Self {
        let options = shared.options();
        let first_threshold = options.baseline_threshold.unwrap_or(u32::MAX).min(options.threshold);
        let chain = if first_threshold < FEWEST_SAMPLED { 0 } else { CHAIN };
        Self {
            first_threshold,
            shared,
            interpreter: Interpreter::default(),
            jumps: Jumps::default(),
            known: Known::default(),
            presence: None,
            generation: 0,
            chain,
            statistics: JitStatistics::default(),
        }
    }

    /// What this engine did.
    pub fn statistics(&self) -> JitStatistics {
        self.statistics
    }

    /// What the compiler of the machine did.
    pub fn compiler_statistics(&self) -> CompilerStatistics {
        self.shared.statistics()
    }

    /// Runs `hart` until something stops it, at most `budget` instructions (traps count as none).
    pub fn run(&mut self, hart: &mut Hart, budget: u64) -> Stop {
        let presence = self.presence.get_or_insert_with(|| self.shared.join(hart.shared())).clone();
        hart.jit.event = hart.shared().event_word() as u64;
        hart.jit.jumps = self.jumps.address();
        assert!(hart.tlb.ranges.are_behind(hart), "the hart has left its place");
        hart.jit.services = self.shared.services();
        if self.shared.options().lockstep
            && hart.lockstep.get_or_insert_with(|| Box::new(Lockstep::new())).has_differed()
        {
            return Stop::Difference;
        }
        let limit = hart.counts.retired.saturating_add(budget);
        // An endless loop of traps retires nothing and must end too.
        let mut traps_left = budget;
        let mut context = self.context(hart);
        // The link that led here, if it leads nowhere yet.
        let mut link = None;
        loop {
            hart.note_overflows();
            if hart.shared().events() != 0 {
                if let Some(stop) = hart.serve_events() {
                    return stop;
                }
                context = self.context(hart);
                link = None;
            }
            let left = limit.min(hart.watched.overflow_at).saturating_sub(hart.counts.retired);
            if left == 0 {
                return Stop::Budget;
            }
            hart.make_room_for_views();
            let outcome = match self.code(hart, context, &presence, left, &mut link) {
                Step::Run(code) => {
                    let before = hart.counts.retired;
                    let left = if hart.lockstep.is_some() { left.min(lockstep::MOST_INSTRUCTIONS) } else { left };
                    let left = i64::try_from(left).unwrap_or(i64::MAX);
                    hart.jit.end = before.wrapping_add(left as u64);
                    // Flags that host code has left on this thread, or the thread's creator, are none of the guest's.
                    host::take_flags();
                    hart.begin_step();
                    let code = enter(hart, self.shared.entry(), code, left - RESERVE);
                    presence.leave();
                    self.statistics.entries += 1;
                    hart.settle_retired();
                    self.statistics.translated += hart.counts.retired.wrapping_sub(before);
                    self.collect(hart);
                    if !hart.end_step(code == result::TRAP) {
                        return Stop::Difference;
                    }
                    match code {
                        result::CONTINUE => {
                            if hart.shared().events() != 0 || hart.jit.left < 0 {
                                self.statistics.exits_event += 1;
                            } else {
                                self.statistics.exits_miss += 1;
                            }
                            Outcome::Done
                        }
                        result::TRAP => {
                            self.statistics.exits_trap += 1;
                            hart.next_pc = hart.pc;
                            Outcome::Trap
                        }
                        result::EXIT => {
                            self.statistics.exits_helper += 1;
                            hart.next_pc = hart.pc;
                            Outcome::Exit
                        }
                        result::INTERPRET => {
                            self.statistics.exits_access += 1;
                            let left = limit.min(hart.watched.overflow_at).saturating_sub(hart.counts.retired);
                            let found = self.interpreter.blocks.find(hart);
                            self.interpret(hart, found, left, 0)
                        }
                        hot if hot & result::HOT != 0 => {
                            self.statistics.exits_hot += 1;
                            self.promote(hart, context, (hot & !result::HOT) as u64);
                            continue;
                        }
                        unlinked => {
                            self.statistics.exits_link += 1;
                            link = Some(unlinked as u64);
                            continue;
                        }
                    }
                }
                Step::Interpret(found) => self.interpret(hart, found, left, self.chain),
            };
            link = None;
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
            context = self.context(hart);
        }
    }

    /// Interprets what was found at the hart's `pc`, and about `chain` instructions of what it leads to.
    fn interpret(&mut self, hart: &mut Hart, found: Result<Found, Trapped>, left: u64, chain: u64) -> Outcome {
        let Ok(found) = found else {
            hart.next_pc = hart.pc;
            return Outcome::Trap;
        };
        let before = hart.counts.retired;
        let outcome = interpreter::run(hart, &self.interpreter.blocks, &found, left, chain);
        let retired = hart.counts.retired.wrapping_sub(before);
        self.statistics.interpreted += retired;
        if let Found::Kept(index) = found {
            // Where the chain began stands for all the blocks that it went through.
            self.interpreter.blocks.heat(index, (retired / BLOCK_LENGTH) as u32);
        }
        outcome
    }

    fn context(&mut self, hart: &mut Hart) -> u64 {
        let context = self.interpreter.blocks.context(hart);
        hart.jit.context = context;
        context
    }

    /// After translated code: flags, counts and panics that it left behind.
    fn collect(&mut self, hart: &mut Hart) {
        hart.accrue_float_flags(host::take_flags().guest());
        self.statistics.helped += std::mem::take(&mut hart.jit.helped);
        self.statistics.slow_accesses += std::mem::take(&mut hart.jit.slow_accesses);
        if let Some(panic) = hart.jit.panic.take() {
            std::panic::resume_unwind(panic);
        }
    }

    /// What to run at the hart's `pc`. For translated code the hart is marked as inside.
    #[inline]
    fn code(&mut self, hart: &mut Hart, context: u64, presence: &Presence, left: u64, link: &mut Option<u64>) -> Step {
        if left > RESERVE as u64 && self.jumps.get(hart.pc, context).is_some() && self.step_inside(hart, presence) {
            // Stepping inside may have emptied the cache.
            if let Some(code) = self.jumps.get(hart.pc, context) {
                return Step::Run(code);
            }
            presence.leave();
        }
        if !self.interpreter.blocks.has_jump(hart.pc)
            && left > RESERVE as u64
            && self.shared.options().baseline_threshold.is_some()
            && let Some(found) = self.installed(hart, link.is_none())
            && self.step_inside(hart, presence)
        {
            let code = match &found {
                Installation::Known(code, generation) => (*generation == self.generation).then(|| {
                    self.note_jump(hart.pc, context, *code);
                    *code
                }),
                Installation::Found(found) => self.enter_first(hart, context, found, link),
            };
            if let Some(code) = code {
                return Step::Run(code);
            }
            presence.leave();
        }
        let found = self.interpreter.blocks.find(hart);
        if let Ok(Found::Kept(index)) = found
            && self.interpreter.blocks.heat(index, 1) >= self.first_threshold
            && let Some(found) = self.hot(hart, index)
            && left > RESERVE as u64
            && self.step_inside(hart, presence)
        {
            if let Some(code) = self.enter_first(hart, context, &found, link) {
                return Step::Run(code);
            }
            presence.leave();
        }
        Step::Interpret(found)
    }

    /// The address of code that was found, for a hart that is inside, where it is known to jumps from now on; `None` if it is
    /// of a generation that is gone.
    fn enter_first(&mut self, hart: &mut Hart, context: u64, found: &FoundCode, link: &mut Option<u64>) -> Option<u64> {
        if found.generation != self.generation {
            return None;
        }
        match &mut hart.lockstep {
            // Regions do not lead to each other.
            Some(lockstep) => lockstep.set_code(found.of.pages.iter().map(|page| (page.offset, page.version))),
            None => {
                self.note_jump(hart.pc, context, found.code);
                if let Some(link) = link.take() {
                    self.shared.link(link, found);
                }
            }
        }
        Some(found.code)
    }

    fn note_jump(&mut self, pc: u64, context: u64, code: u64) {
        self.jumps.insert(pc, context, code, |other| block::same_epoch(other, context));
    }

    /// Code for the hart's `pc` that any hart has had compiled, whether this one has interpreted it or not; where its
    /// address is enough, maybe without asking the registry.
    #[cold]
    fn installed(&mut self, hart: &mut Hart, address_is_enough: bool) -> Option<Installation> {
        let pc = hart.pc;
        if pc & hart.instruction_alignment() != 0 || hart.bears_breakpoint(pc) {
            return None;
        }
        if hart.executed_page(pc).is_none() {
            hart.counts.fetch_tlb_misses += 1;
            // Where it traps, it is the interpreter that finds out.
            hart.translate(pc, 2, Access::Execute).ok()?;
        }
        let page = hart.executed_page(pc)?;
        let (offset, mode) = (page + pc % PAGE_SIZE, Mode::of(hart));
        let version = hart.ram.code_version(page);
        // Lockstep has to be told of the pages.
        if address_is_enough
            && hart.lockstep.is_none()
            && let Some(code) = self.known.get(offset, mode, version)
        {
            hart.note_execution(pc);
            return Some(Installation::Known(code, self.generation));
        }
        let found = self.shared.find(offset, mode, |region| is_valid(hart, region))?;
        if let [page] = &found.of.pages[..]
            && found.generation == self.generation
        {
            self.known.insert(offset, mode, page.version, found.code);
        }
        hart.note_execution(pc);
        Some(Installation::Found(found))
    }

    /// Marks the hart as inside of translated code, unless all of it is being given up.
    fn step_inside(&mut self, hart: &mut Hart, presence: &Presence) -> bool {
        let Some(generation) = self.shared.gate().enter(presence) else { return false };
        if self.generation != generation {
            self.jumps.clear();
            self.known.clear();
            // Other accesses have the entries' numbers now.
            hart.tlb.ranges.forget();
            hart.jit.services = self.shared.services();
            self.generation = generation;
        }
        true
    }

    /// Baseline code at the hart's `pc` has got hot. It leaves by `link` each time from now on if there is a region that it
    /// can go on with; else that is asked for, and it counts anew.
    #[cold]
    fn promote(&mut self, hart: &mut Hart, context: u64, link: u64) {
        let Some((counter, rounds)) = self.shared.counter(link) else { return };
        let threshold = self.shared.options().threshold;
        let page = hart.executed_page(hart.pc).filter(|_| !hart.bears_breakpoint(hart.pc));
        if let Some(page) = page {
            let (offset, mode) = (page + hart.pc % PAGE_SIZE, Mode::of(hart));
            let region = self.shared.find_region(offset, mode, |region| is_valid(hart, region));
            if hart.lockstep.is_some() {
                // Code does not lead to other code: the block is looked up again.
                if let (Some(_), Ok(Found::Kept(index))) = (&region, self.interpreter.blocks.find(hart)) {
                    let block = self.interpreter.blocks.get_mut(index);
                    (block.region, block.installs) = (None, 0);
                }
            } else if let Some(region) = &region {
                // Who comes next looks for the region.
                self.known.forget(offset, mode);
                self.jumps.insert_hot(hart.pc, context, region.code);
                self.shared.link(link, region);
                return;
            }
            // The first time that it leaves it has just begun to count.
            if region.is_none() && rounds > 1 && self.shared.is_at_rest(offset) {
                self.shared.note_seen(self.interpreter.blocks.take_decoded());
                let request = self.asked(hart, offset, mode);
                self.shared.request(request, threshold.saturating_mul(rounds));
            }
        }
        if let Some(counter) = hart.jit.counters.get_mut(counter) {
            // Longer each time: what does not get a region leaves for nothing.
            let next = threshold.saturating_mul(1 << rounds.saturating_sub(2).min(8));
            *counter = next.min(i32::MAX as u32) as i32;
        }
    }

    /// The code of a hot block, asked for if there is none.
    #[cold]
    fn hot(&mut self, hart: &mut Hart, index: u32) -> Option<FoundCode> {
        if hart.bears_breakpoint(hart.pc) {
            return None;
        }
        let (generation, installs) = (self.shared.gate().generation(), self.shared.installs());
        let block = self.interpreter.blocks.get_mut(index);
        let (offset, mode, heat, asks_at) = (block.offset, block.mode, block.heat, block.asks_at);
        if let Some(found) = block.region.take()
            && found.generation == generation
            && is_valid(hart, &found.of)
        {
            self.interpreter.blocks.get_mut(index).region = Some(found.clone());
            return Some(found);
        }
        if self.interpreter.blocks.get(index).installs != installs {
            let found = self.look_up(hart, index);
            if found.is_some() {
                self.interpreter.blocks.forget_jump(hart.pc);
                return found;
            }
        }
        let threshold = self.shared.options().threshold;
        if threshold == 1 {
            if heat > 1 && heat & 0xff != 0 {
                return None;
            }
            self.prepare_pages(hart, offset);
            let request = self.asked(hart, offset, mode);
            self.shared.compile_now(&request);
            return self.look_up(hart, index);
        }
        if self.shared.options().baseline_threshold == Some(1) && !mode.masks_pointers() {
            self.shared.compile_unit_now(&self.asked(hart, offset, mode));
            return self.look_up(hart, index);
        }
        // Asked for when it gets hot, and again each time that it has become twice as hot.
        if heat >= asks_at {
            let rests = !self.shared.is_at_rest(offset);
            let next = if rests { heat.saturating_add(self.first_threshold) } else { heat.saturating_mul(2) };
            self.interpreter.blocks.get_mut(index).asks_at = next;
            if !rests {
                self.shared.note_seen(self.interpreter.blocks.take_decoded());
                let request = self.asked(hart, offset, mode);
                if heat < threshold && !mode.masks_pointers() {
                    self.shared.request_unit(request, heat);
                } else {
                    self.shared.request(request, heat);
                }
            }
        }
        None
    }

    /// Looks for the code of a block, and notes it there.
    fn look_up(&mut self, hart: &mut Hart, index: u32) -> Option<FoundCode> {
        // Read before the search, so that what comes meanwhile is looked for once more.
        let installs = self.shared.installs();
        let block = self.interpreter.blocks.get(index);
        let found = self.shared.find(block.offset, block.mode, |region| is_valid(hart, region));
        let block = self.interpreter.blocks.get_mut(index);
        block.installs = installs;
        block.region = found.clone();
        found
    }

    /// Makes sure that writes to the page of a block are heard of.
    fn prepare_pages(&self, hart: &mut Hart, offset: u64) {
        hart.listen_to_writes(offset, bus::PageFlags::CODE);
    }

    /// A request for the region at the hart's `pc`.
    fn asked(&self, hart: &Hart, offset: u64, mode: Mode) -> Request {
        let mut pages = [None; 2 * NEIGHBOURS + 1];
        for (index, page) in pages.iter_mut().enumerate() {
            let address = hart.pc.wrapping_add((index as u64).wrapping_sub(NEIGHBOURS as u64).wrapping_mul(PAGE_SIZE));
            *page = match index {
                NEIGHBOURS => Some(offset & !(PAGE_SIZE - 1)),
                _ if hart.bears_breakpoint(address) => None,
                _ => hart.executed_page(address),
            };
        }
        Request { offset, mode, pages }
    }
}

/// Whether a region that starts at the hart's `pc` is up to date, and has its pages where the hart's address space has
/// them.
fn is_valid(hart: &mut Hart, region: &Installed) -> bool {
    let pc = hart.pc;
    region.pages.iter().all(|page| {
        if hart.ram.code_version(page.offset) != page.version {
            return false;
        }
        if page.distance == 0 {
            return true;
        }
        let address = pc.wrapping_add((page.distance as u64).wrapping_mul(PAGE_SIZE)) & !(PAGE_SIZE - 1);
        if hart.bears_breakpoint(address) {
            return false;
        }
        if hart.executed_page(address).is_none() && hart.translate(address, 2, Access::Execute).is_err() {
            return false;
        }
        hart.note_execution(address);
        hart.executed_page(address) == Some(page.offset)
    })
}

/// Code that somebody has had compiled.
enum Installation {
    /// The host's address of code in one page, and the generation that it is of.
    Known(u64, u64),
    Found(FoundCode),
}

/// What the engine does next.
enum Step {
    /// Enters translated code at a host address.
    Run(u64),
    /// Interprets a block.
    Interpret(Result<Found, Trapped>),
}

/// Enters translated code.
#[cfg(target_arch = "x86_64")]
fn enter(hart: &mut Hart, _: u64, code: u64, left: i64) -> i64 {
    let pc = hart.pc;
    host::enter(hart, pc, left, code)
}

/// Enters translated code.
#[cfg(not(target_arch = "x86_64"))]
fn enter(hart: &mut Hart, entry: u64, code: u64, left: i64) -> i64 {
    let pc = hart.pc;
    // SAFETY: `entry` is the address of the entry code, which has this signature and is kept as long as the arena.
    let entry = unsafe { std::mem::transmute::<usize, Entry>(entry as usize) };
    entry(hart, pc, left, code)
}
