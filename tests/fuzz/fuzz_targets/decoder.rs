//! Each instruction word decodes to a row whose encoding gives the word back, and has a text that assembles to it.
#![no_main]

use cpu::isa::{assembler::assemble, decode, disassemble};
use fuzz::machine::EXTENSIONS;
use libfuzzer_sys::fuzz_target;

const PC: u64 = 0x8000_0000;

fuzz_target!(|data: &[u8]| {
    let (words, _) = data.as_chunks::<4>();
    for word in words.iter().take(16).map(|word| u32::from_le_bytes(*word)) {
        let bits = if word & 3 == 3 { word } else { word & 0xffff };
        for extensions in EXTENSIONS.iter() {
            let text = disassemble(word, PC, extensions);
            let Some((opcode, insn)) = decode(word, extensions) else {
                assert!(text.starts_with('.'), "{word:#x} is no instruction but {text}");
                continue;
            };
            let row = opcode.row();
            assert!(extensions.contains_all(row.requires));
            assert_eq!(insn.raw, bits);
            assert_eq!(insn.length(), if word & 3 == 3 { 4 } else { 2 });
            assert_eq!(row.pattern.encode(&insn), Ok(bits), "{}", row.mnemonic);
            let program = assemble(&text, PC, extensions).unwrap_or_else(|error| panic!("{word:#x}: {text}: {error}"));
            assert_eq!(program.bytes, bits.to_le_bytes()[..insn.length() as usize], "{text}");
        }
    }
});
