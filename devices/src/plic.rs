//! The platform-level interrupt controller (RISC-V PLIC Specification 1.0.0) in the layout of SiFive's, with a
//! level-sensitive gateway at each source.
//!
//! A gateway forwards one request at a time: while its line is high it makes the source pending, a claim takes the
//! request away, and only the completion opens the gateway again. A request stays pending when the line goes low before
//! the claim (section 5, "Interrupt Gateways").
//!
//! Context 2h is hart h's M-mode external interrupt, 2h+1 its S-mode external interrupt.

use std::sync::Mutex;

use bus::device_tree::Node;
use bus::{Device, InterruptSink, IrqLine, Placement, StateError, Width};
use serde::{Deserialize, Serialize};

use crate::lock;

const NAME: &str = "plic";

/// Priorities are 0 (never interrupts) to 7, as are thresholds.
const PRIORITY_MASK: u32 = 7;

/// The most sources a PLIC has; there is no source 0.
const MAX_SOURCES: u32 = 1023;

/// Offsets of the register blocks.
mod register {
    pub const PENDING: u64 = 0x1000;
    pub const ENABLE: u64 = 0x2000;
    pub const ENABLE_STRIDE: u64 = 0x80;
    pub const CONTEXT: u64 = 0x20_0000;
    pub const CONTEXT_STRIDE: u64 = 0x1000;
    /// In a context's block.
    pub const THRESHOLD: u64 = 0;
    pub const CLAIM_COMPLETE: u64 = 4;
}

/// What a 32-bit register is.
enum Register {
    Priority(usize),
    Pending(usize),
    Enable { context: usize, word: usize },
    Threshold(usize),
    ClaimComplete(usize),
}

/// One bit per source, 32 in a word.
type Bits = Vec<u32>;

fn bit(bits: &[u32], source: u32) -> bool {
    bits[source as usize / 32] >> (source % 32) & 1 != 0
}

fn set_bit(bits: &mut [u32], source: u32, value: bool) {
    let word = &mut bits[source as usize / 32];
    *word = *word & !(1 << (source % 32)) | u32::from(value) << (source % 32);
}

#[derive(Clone, Serialize, Deserialize)]
struct Context {
    enabled: Bits,
    threshold: u8,
}

#[derive(Clone, Serialize, Deserialize)]
struct State {
    /// By source, with an unused one for source 0.
    priorities: Vec<u8>,
    /// Levels of the sources' lines.
    levels: Bits,
    pending: Bits,
    /// Sources whose gateway waits for completion.
    claimed: Bits,
    contexts: Vec<Context>,
}

impl State {
    fn power_on(sources: u32, contexts: usize) -> Self {
        let bits: Bits = vec![0; sources as usize / 32 + 1];
        Self {
            priorities: vec![0; sources as usize + 1],
            levels: bits.clone(),
            pending: bits.clone(),
            claimed: bits.clone(),
            contexts: vec![Context { enabled: bits, threshold: 0 }; contexts],
        }
    }

    /// Whether this is a state of a PLIC with as many sources and contexts, and of none else.
    fn fits(&self, sources: u32, contexts: usize) -> bool {
        let Self { priorities, levels, pending, claimed, contexts: all } = self;
        let valid = valid_sources(sources);
        let is_valid = |bits: &Bits| bits.len() == valid.len() && bits.iter().zip(&valid).all(|(b, v)| b & !v == 0);
        priorities.len() == sources as usize + 1
            && priorities[0] == 0
            && priorities.iter().all(|priority| u32::from(*priority) <= PRIORITY_MASK)
            && [levels, pending, claimed].into_iter().all(is_valid)
            && all.len() == contexts
            && all
                .iter()
                .all(|Context { enabled, threshold }| is_valid(enabled) && u32::from(*threshold) <= PRIORITY_MASK)
    }

    /// The pending and enabled source of the highest priority above `threshold`; of equals the lowest number.
    fn best(&self, context: usize, threshold: u8) -> Option<u32> {
        let mut best = None;
        let mut highest = threshold;
        for (word, (pending, enabled)) in self.pending.iter().zip(&self.contexts[context].enabled).enumerate() {
            let mut candidates = pending & enabled;
            while candidates != 0 {
                let source = word as u32 * 32 + candidates.trailing_zeros();
                candidates &= candidates - 1;
                if self.priorities[source as usize] > highest {
                    highest = self.priorities[source as usize];
                    best = Some(source);
                }
            }
        }
        best
    }

    /// Takes the best request of `context`; its threshold plays no part (section 9, "Interrupt Claims").
    fn claim(&mut self, context: usize) -> u32 {
        let Some(source) = self.best(context, 0) else { return 0 };
        set_bit(&mut self.pending, source, false);
        set_bit(&mut self.claimed, source, true);
        source
    }

    /// Opens the gateway of `source`. Ignored unless the source is enabled for `context` (section 10).
    fn complete(&mut self, context: usize, source: u32) {
        let exists = source != 0 && (source as usize) < self.priorities.len();
        if exists && bit(&self.contexts[context].enabled, source) {
            set_bit(&mut self.claimed, source, false);
            self.forward(source);
        } else {
            tracing::debug!("plic: context {context} completes source {source}, which is not enabled for it");
        }
    }

    /// The gateway of `source`.
    fn forward(&mut self, source: u32) {
        if bit(&self.levels, source) && !bit(&self.claimed, source) {
            set_bit(&mut self.pending, source, true);
        }
    }
}

/// A mask of the sources that exist, 1 to `sources`.
fn valid_sources(sources: u32) -> Bits {
    let mut bits = vec![0; sources as usize / 32 + 1];
    (1..=sources).for_each(|source| set_bit(&mut bits, source, true));
    bits
}

struct Inner {
    state: State,
    /// The levels that the contexts' lines have, so that only changes reach the harts.
    outputs: Vec<bool>,
}

/// The lines to one hart.
pub struct HartLines {
    /// Machine external interrupt (`mip.MEIP`).
    pub machine: IrqLine,
    /// Supervisor external interrupt (`mip.SEIP`).
    pub supervisor: IrqLine,
}

/// The PLIC. As an [`InterruptSink`] its inputs are its sources, from 1.
pub struct Plic {
    sources: u32,
    valid: Bits,
    /// By context.
    lines: Vec<IrqLine>,
    inner: Mutex<Inner>,
}

impl Plic {
    /// Size of the register window in bytes: room for 1024 contexts, as on QEMU's `virt` board.
    const SIZE: u64 = register::CONTEXT + 1024 * register::CONTEXT_STRIDE;

    /// A PLIC with sources 1 to `sources` (at most 1023) and two contexts for each of `harts` (at most 512).
    pub fn new(sources: u32, harts: Vec<HartLines>) -> Self {
        assert!(sources <= MAX_SOURCES && harts.len() <= 512, "a board with more than a PLIC can serve");
        let lines: Vec<_> = harts.into_iter().flat_map(|hart| [hart.machine, hart.supervisor]).collect();
        let state = State::power_on(sources, lines.len());
        let inner = Mutex::new(Inner { state, outputs: vec![false; lines.len()] });
        Self { sources, valid: valid_sources(sources), lines, inner }
    }

    /// The register at `offset`, if there is one. Registers are words: other accesses find none.
    fn register(&self, offset: u64, width: Width) -> Option<Register> {
        if width != Width::Word || !offset.is_multiple_of(4) {
            return None;
        }
        let word = |offset: u64| Some((offset / 4) as usize).filter(|word| *word < self.valid.len());
        let context = |context: u64| Some(context as usize).filter(|context| *context < self.lines.len());
        if offset < register::PENDING {
            let source = (offset / 4) as u32;
            (1..=self.sources).contains(&source).then_some(Register::Priority(source as usize))
        } else if offset < register::ENABLE {
            Some(Register::Pending(word(offset - register::PENDING)?))
        } else if offset < register::CONTEXT {
            let offset = offset - register::ENABLE;
            let context = context(offset / register::ENABLE_STRIDE)?;
            Some(Register::Enable { context, word: word(offset % register::ENABLE_STRIDE)? })
        } else {
            let offset = offset - register::CONTEXT;
            let context = context(offset / register::CONTEXT_STRIDE)?;
            match offset % register::CONTEXT_STRIDE {
                register::THRESHOLD => Some(Register::Threshold(context)),
                register::CLAIM_COMPLETE => Some(Register::ClaimComplete(context)),
                _ => None,
            }
        }
    }

    /// Drives the contexts' lines to what the state says.
    fn sync(&self, inner: &mut Inner) {
        let Inner { state, outputs } = inner;
        for (context, (line, output)) in self.lines.iter().zip(outputs).enumerate() {
            let level = state.best(context, state.contexts[context].threshold).is_some();
            if level != *output {
                *output = level;
                line.set(level);
            }
        }
    }

    /// Replaces the whole state, and drives each line whatever its level was before.
    fn replace(&self, state: State) {
        let mut inner = lock(&self.inner);
        inner.state = state;
        self.sync(&mut inner);
        for (line, output) in self.lines.iter().zip(&inner.outputs) {
            line.set(*output);
        }
    }
}

impl InterruptSink for Plic {
    fn set_level(&self, source: u32, level: bool) {
        if source == 0 || source > self.sources {
            tracing::debug!("plic: there is no source {source}");
            return;
        }
        let mut inner = lock(&self.inner);
        if bit(&inner.state.levels, source) == level {
            return;
        }
        set_bit(&mut inner.state.levels, source, level);
        inner.state.forward(source);
        self.sync(&mut inner);
    }
}

impl Device for Plic {
    fn name(&self) -> &'static str {
        NAME
    }

    fn size(&self) -> u64 {
        Self::SIZE
    }

    fn read(&self, offset: u64, width: Width) -> u64 {
        let Some(Register::ClaimComplete(context)) = self.register(offset, width) else {
            return self.peek(offset, width);
        };
        let mut inner = lock(&self.inner);
        let source = inner.state.claim(context);
        self.sync(&mut inner);
        source.into()
    }

    fn write(&self, offset: u64, width: Width, value: u64) {
        let value = value as u32;
        let mut inner = lock(&self.inner);
        let state = &mut inner.state;
        match self.register(offset, width) {
            Some(Register::Priority(source)) => state.priorities[source] = (value & PRIORITY_MASK) as u8,
            Some(Register::Enable { context, word }) => {
                state.contexts[context].enabled[word] = value & self.valid[word];
            }
            Some(Register::Threshold(context)) => state.contexts[context].threshold = (value & PRIORITY_MASK) as u8,
            Some(Register::ClaimComplete(context)) => state.complete(context, value),
            Some(Register::Pending(_)) | None => {
                tracing::debug!("plic: write of {value:#x} ({width:?}) at {offset:#x} ignored");
            }
        }
        self.sync(&mut inner);
    }

    fn peek(&self, offset: u64, width: Width) -> u64 {
        let state = &lock(&self.inner).state;
        let value = match self.register(offset, width) {
            Some(Register::Priority(source)) => state.priorities[source].into(),
            Some(Register::Pending(word)) => state.pending[word],
            Some(Register::Enable { context, word }) => state.contexts[context].enabled[word],
            Some(Register::Threshold(context)) => state.contexts[context].threshold.into(),
            Some(Register::ClaimComplete(context)) => state.best(context, 0).unwrap_or(0),
            None => 0,
        };
        value.into()
    }

    fn reset(&self) {
        // The devices take their lines low as well, before or after.
        self.replace(State::power_on(self.sources, self.lines.len()));
    }

    fn describe(&self, placement: &Placement) -> Option<Node> {
        /// Numbers of the local interrupts (Privileged Architecture, `mip`).
        const MACHINE_EXTERNAL: u32 = 11;
        const SUPERVISOR_EXTERNAL: u32 = 9;
        let harts = placement.hart_interrupt_controllers.iter().take(self.lines.len() / 2);
        let inputs: Vec<_> = harts.flat_map(|hart| [*hart, MACHINE_EXTERNAL, *hart, SUPERVISOR_EXTERNAL]).collect();
        Some(
            placement
                .node("plic")
                .strings("compatible", &["sifive,plic-1.0.0", "riscv,plic0"])
                .flag("interrupt-controller")
                .cells("#interrupt-cells", &[1])
                .cells("#address-cells", &[0])
                .cells("riscv,ndev", &[self.sources])
                .cells("interrupts-extended", &inputs),
        )
    }

    fn save(&self) -> Result<Vec<u8>, StateError> {
        bus::save(NAME, &lock(&self.inner).state)
    }

    fn restore(&self, state: &[u8]) -> Result<(), StateError> {
        let state: State = bus::restore(NAME, state)?;
        if !state.fits(self.sources, self.lines.len()) {
            let reason = format!("it is not of {} sources and {} contexts", self.sources, self.lines.len());
            return Err(StateError::Mismatch { device: NAME.into(), reason });
        }
        self.replace(state);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recorder::Recorder;
    use dtoolkit::{Node as _, Property as _};
    use std::sync::Arc;

    const PRIORITY: u64 = 0;
    const M0: usize = 0;
    const S0: usize = 1;
    const S1: usize = 3;

    fn plic(harts: u32) -> (Plic, Arc<Recorder>) {
        let recorder = Recorder::new();
        let line = |context| recorder.line(context);
        let harts = (0..harts).map(|hart| HartLines { machine: line(2 * hart), supervisor: line(2 * hart + 1) });
        (Plic::new(95, harts.collect()), recorder)
    }

    fn enable(plic: &Plic, context: usize, source: u32) {
        let at = register::ENABLE + register::ENABLE_STRIDE * context as u64 + u64::from(source / 32) * 4;
        plic.write(at, Width::Word, plic.read(at, Width::Word) | 1 << (source % 32));
    }

    fn set_priority(plic: &Plic, source: u32, priority: u64) {
        plic.write(PRIORITY + 4 * u64::from(source), Width::Word, priority);
    }

    fn context(context: usize) -> u64 {
        register::CONTEXT + register::CONTEXT_STRIDE * context as u64
    }

    fn claim(plic: &Plic, c: usize) -> u64 {
        plic.read(context(c) + register::CLAIM_COMPLETE, Width::Word)
    }

    fn complete(plic: &Plic, c: usize, source: u64) {
        plic.write(context(c) + register::CLAIM_COMPLETE, Width::Word, source);
    }

    fn pending(plic: &Plic, source: u32) -> bool {
        plic.read(register::PENDING + u64::from(source / 32) * 4, Width::Word) >> (source % 32) & 1 != 0
    }

    #[test]
    fn a_level_interrupts_until_it_is_claimed_and_again_after_completion_while_high() {
        let (plic, harts) = plic(1);
        set_priority(&plic, 10, 1);
        enable(&plic, S0, 10);
        plic.set_level(10, true);
        assert!(harts.level(1) && !harts.level(0), "only the context that enabled it");
        assert_eq!(claim(&plic, S0), 10);
        assert!(!harts.level(1) && !pending(&plic, 10));
        assert_eq!(claim(&plic, S0), 0, "the gateway is closed until completion");
        plic.set_level(10, false);
        plic.set_level(10, true);
        assert!(!pending(&plic, 10), "also to a new rise");
        complete(&plic, S0, 10);
        assert!(harts.level(1));
        assert_eq!(claim(&plic, S0), 10);
        plic.set_level(10, false);
        complete(&plic, S0, 10);
        assert!(!harts.level(1));
    }

    #[test]
    fn a_request_outlives_its_level() {
        let (plic, harts) = plic(1);
        set_priority(&plic, 95, 7);
        enable(&plic, M0, 95);
        plic.set_level(95, true);
        plic.set_level(95, false);
        assert!(harts.level(0) && pending(&plic, 95));
        assert_eq!(claim(&plic, M0), 95);
        complete(&plic, M0, 95);
        assert!(!harts.level(0));
    }

    #[test]
    fn claims_go_by_priority_then_by_number_and_disregard_the_threshold() {
        let (plic, harts) = plic(2);
        for (source, priority) in [(3, 2), (5, 4), (40, 4), (41, 0)] {
            set_priority(&plic, source, priority);
            enable(&plic, S1, source);
            plic.set_level(source, true);
        }
        plic.write(context(S1), Width::Word, 4);
        assert!(!harts.level(3), "a priority equal to the threshold does not interrupt");
        plic.write(context(S1), Width::Word, 3);
        assert!(harts.level(3));
        plic.write(context(S1), Width::Word, 7);
        let order: Vec<_> = (0..5).map(|_| claim(&plic, S1)).collect();
        assert_eq!(order, [5, 40, 3, 0, 0], "priority 0 never interrupts");
    }

    #[test]
    fn a_completion_by_a_context_without_the_source_is_ignored() {
        let (plic, _harts) = plic(2);
        set_priority(&plic, 7, 1);
        enable(&plic, S0, 7);
        plic.set_level(7, true);
        assert_eq!(claim(&plic, S0), 7);
        for source in [7, 0, 96, 1 << 20, 0xffff_ffff] {
            complete(&plic, S1, source);
        }
        assert!(!pending(&plic, 7));
        complete(&plic, S0, 7);
        assert!(pending(&plic, 7));
    }

    #[test]
    fn one_of_two_harts_gets_the_claim() {
        let (plic, harts) = plic(2);
        set_priority(&plic, 1, 1);
        enable(&plic, S0, 1);
        enable(&plic, S1, 1);
        plic.set_level(1, true);
        assert!(harts.level(1) && harts.level(3));
        assert_eq!((claim(&plic, S1), claim(&plic, S0)), (1, 0));
        assert!(!harts.level(1) && !harts.level(3));
    }

    #[test]
    fn registers_keep_only_the_bits_that_exist() {
        let (plic, _harts) = plic(1);
        plic.write(4 * 95, Width::Word, 0xffff_ffff);
        plic.write(4 * 96, Width::Word, 0xffff_ffff);
        plic.write(0, Width::Word, 0xffff_ffff);
        assert_eq!([95, 96, 0].map(|source| plic.read(4 * source, Width::Word)), [7, 0, 0]);
        for (word, expected) in [0xffff_fffe, 0xffff_ffff, 0xffff_ffff, 0].into_iter().enumerate() {
            let at = register::ENABLE + 4 * word as u64;
            plic.write(at, Width::Word, 0xffff_ffff);
            assert_eq!(plic.read(at, Width::Word), expected);
        }
        plic.write(context(2), Width::Word, 7);
        assert_eq!(plic.read(context(2), Width::Word), 0, "there is no third context");
        for source in [0, 96, u32::MAX] {
            plic.set_level(source, true);
        }
        assert!((0..96).all(|source| !pending(&plic, source)));
    }

    #[test]
    fn a_restored_line_has_its_level_without_a_change_of_state() {
        let (plic, _) = plic(1);
        set_priority(&plic, 10, 1);
        enable(&plic, S0, 10);
        plic.set_level(10, true);
        let saved = plic.save().unwrap();
        let (fresh, harts) = self::plic(1);
        fresh.restore(&saved).unwrap();
        assert!(harts.level(1));
        fresh.set_level(10, true);
        assert_eq!(claim(&fresh, S0), 10);
        assert_eq!(claim(&fresh, S0), 0);
        let (other, _) = self::plic(2);
        assert!(matches!(other.restore(&saved), Err(StateError::Mismatch { .. })));
        fresh.reset();
        assert!(!harts.level(1) && !pending(&fresh, 10));
    }

    #[test]
    fn the_node_leads_to_both_external_interrupts_of_each_hart() {
        let (plic, _) = plic(2);
        let placement = Placement {
            base: 0xc00_0000,
            size: plic.size(),
            hart_interrupt_controllers: vec![2, 4],
            phandle: 5,
            ..Placement::default()
        };
        let node = plic.describe(&placement).unwrap().into_inner();
        let cells: Vec<u8> = [2u32, 11, 2, 9, 4, 11, 4, 9].iter().flat_map(|cell| cell.to_be_bytes()).collect();
        assert_eq!(node.property("interrupts-extended").unwrap().value(), cells);
        assert_eq!(node.property("riscv,ndev").unwrap().value(), 95u32.to_be_bytes());
    }
}
