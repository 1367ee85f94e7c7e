//! A hart interprets arbitrary programs from arbitrary states: no panic, nothing outside of RAM and devices, and every
//! run ends within its budget.
#![no_main]

use cpu::Engine;
use fuzz::machine::Program;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|program: Program| {
    program.run(&mut program.machine(), &mut Engine::interpreter());
});
