//! What `--stats` prints: what the engines of a machine did.

use std::fmt;

use cpu::{CompilerStatistics, JitStatistics};

use crate::machine::Core;

/// Counts of all harts of a machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct Statistics {
    retired: u64,
    load_misses: u64,
    store_misses: u64,
    fetch_misses: u64,
    jit: Option<(JitStatistics, CompilerStatistics)>,
}

impl Statistics {
    /// What the harts of a paused machine have counted.
    pub fn of(cores: &[Core]) -> Self {
        let mut all = Self::default();
        for core in cores {
            let counts = core.hart.counts();
            all.retired = all.retired.wrapping_add(counts.retired);
            all.load_misses += counts.load_tlb_misses;
            all.store_misses += counts.store_tlb_misses;
            all.fetch_misses += counts.fetch_tlb_misses;
            if let Some((jit, compiler)) = core.engine.statistics() {
                let (sum, _) = all.jit.unwrap_or_default();
                all.jit = Some((sum + jit, compiler));
            }
        }
        all
    }
}

/// `part` of `whole` in per cent.
fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 }
}

impl fmt::Display for Statistics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { retired, load_misses, store_misses, fetch_misses, jit } = *self;
        writeln!(f, "instructions retired    {retired}")?;
        let per_million = |misses: u64| misses as f64 * 1e6 / (retired as f64).max(1.0);
        let [load, store, fetch] = [load_misses, store_misses, fetch_misses].map(per_million);
        writeln!(f, "TLB misses per million  {load:.1} loads, {store:.1} stores, {fetch:.1} fetches")?;
        let Some((jit, compiler)) = jit else { return Ok(()) };
        let executed = jit.translated + jit.interpreted;
        writeln!(f, "run compiled            {:.2} %", share(jit.translated, executed))?;
        let inline = jit.translated.saturating_sub(jit.helped);
        writeln!(f, "of these inline         {:.2} %, {} by helpers", share(inline, jit.translated), jit.helped)?;
        writeln!(f, "slow memory accesses    {}", jit.slow_accesses)?;
        writeln!(f, "entries of code         {}", jit.entries)?;
        writeln!(
            f,
            "exits of code           {} traps, {} helpers, {} links, {} events, {} accesses, {} misses of the jump cache, {} hot",
            jit.exits_trap,
            jit.exits_helper,
            jit.exits_link,
            jit.exits_event,
            jit.exits_access,
            jit.exits_miss,
            jit.exits_hot
        )?;
        let seconds = compiler.nanoseconds as f64 / 1e9;
        writeln!(
            f,
            "compiled                {} regions of {} instructions in all, {} bytes of code, in {seconds:.2} s",
            compiler.regions, compiler.instructions, compiler.code_bytes
        )?;
        let seconds = compiler.unit_nanoseconds as f64 / 1e9;
        writeln!(
            f,
            "baseline code           {} units of {} instructions in all, {} bytes of code, in {seconds:.2} s",
            compiler.units, compiler.unit_instructions, compiler.unit_bytes
        )?;
        writeln!(
            f,
            "given up                {} regions rewritten, {} refused; {} times all of them",
            compiler.invalidated, compiler.failed, compiler.flushes
        )?;
        writeln!(f, "range entries           {}", compiler.ranges)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_of_what_ran() {
        let jit = JitStatistics { translated: 75, interpreted: 25, helped: 15, ..JitStatistics::default() };
        let statistics =
            Statistics { retired: 100, jit: Some((jit, CompilerStatistics::default())), ..Default::default() };
        let text = statistics.to_string();
        assert!(text.contains("run compiled            75.00 %"), "{text}");
        assert!(text.contains("of these inline         80.00 %, 15 by helpers"), "{text}");
        assert!(!Statistics::default().to_string().contains("compiled"), "an interpreter compiles nothing");
    }
}
