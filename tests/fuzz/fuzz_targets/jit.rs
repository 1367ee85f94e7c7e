//! As the target `hart`, with every block translated before it first runs: with optimisation, by the baseline compiler alone,
//! and by that with regions that soon take over.
#![no_main]

use cpu::{EngineKind, Engines, JitOptions};
use fuzz::machine::Program;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|program: Program| {
    for (threshold, baseline_threshold) in [(1, None), (u32::MAX, Some(1)), (2, Some(1))] {
        let mut machine = program.machine();
        let options = JitOptions { threshold, baseline_threshold, cache_size: 1 << 20, ..JitOptions::default() };
        let engines =
            Engines::new(EngineKind::Jit(options), &machine.ram, machine.hart.configuration()).expect("a JIT");
        program.run(&mut machine, &mut engines.engine());
    }
});
