//! The assembler takes any text.
#![no_main]

use cpu::extension::ExtensionSet;
use cpu::isa::assembler::assemble;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|source: &str| {
    let _ = assemble(source, 0x8000_0000, &ExtensionSet::implemented());
});
