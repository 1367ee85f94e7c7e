//! Each instruction word decodes to a row whose encoding gives the word back, and has a text that assembles to it.
#![no_main]

use cpu::extension::ExtensionSet;
use cpu::isa::{assembler::assemble, decode, disassemble};
use fuzz::machine::EXTENSIONS;
use libfuzzer_sys::fuzz_target;

const PC: u64 = 0x8000_0000;

fuzz_target!(|data: &[u8]| {
    let (words, _) = data.as_chunks::<4>();
    for word in words.iter().take(4).map(|word| u32::from_le_bytes(*word)) {
        EXTENSIONS.iter().for_each(|extensions| encodes_back(word, extensions));
        // Text is slow: for the richest set, and one of the others.
        for index in [0, 1 + word as usize % (EXTENSIONS.len() - 1)] {
            assembles_back(word, &EXTENSIONS[index]);
        }
    }
});

/// What counts of a word, and its length in bytes.
fn bits(word: u32) -> (u32, usize) {
    if word & 3 == 3 { (word, 4) } else { (word & 0xffff, 2) }
}

fn encodes_back(word: u32, extensions: &ExtensionSet) {
    let Some((opcode, insn)) = decode(word, extensions) else { return };
    let (bits, length) = bits(word);
    let row = opcode.row();
    assert!(extensions.contains_all(row.requires));
    assert_eq!((insn.raw, insn.length()), (bits, length as u64));
    assert_eq!(row.pattern.encode(&insn), Ok(bits), "{}", row.mnemonic);
}

fn assembles_back(word: u32, extensions: &ExtensionSet) {
    let text = disassemble(word, PC, extensions);
    if decode(word, extensions).is_none() {
        assert!(text.starts_with('.'), "{word:#x} is no instruction but {text}");
    }
    let program = assemble(&text, PC, extensions).unwrap_or_else(|error| panic!("{word:#x}: {text}: {error}"));
    let (bits, length) = bits(word);
    assert_eq!(program.bytes, bits.to_le_bytes()[..length], "{text}");
}
