//! As the target `hart`, with every block translated before it first runs.
#![no_main]

use cpu::{EngineKind, Engines, JitOptions};
use fuzz::machine::Program;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|program: Program| {
    let mut machine = program.machine();
    let options = JitOptions { threshold: 1, cache_size: 1 << 20, ..JitOptions::default() };
    let engines = Engines::new(EngineKind::Jit(options), &machine.ram, machine.hart.configuration()).expect("a JIT");
    program.run(&mut machine, &mut engines.engine());
});
