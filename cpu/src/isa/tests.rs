//! Tests of the table as a whole.

use super::assembler::assemble;
use super::footprint::footprint;
use super::syntax::{Form, Word};
use super::*;
use crate::extension::{Extension, ExtensionSet};

/// SplitMix64.
struct Random(u64);

impl Random {
    fn word(&mut self) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ z >> 31) as u32
    }
}

fn all() -> ExtensionSet {
    ExtensionSet::known()
}

/// Encodings of `opcode` with random operands that decode to it.
fn encodings(opcode: Opcode, count: usize) -> Vec<(u32, Insn)> {
    let mut random = Random(opcode.0.into());
    let pattern = &opcode.row().pattern;
    let length_mask = if pattern.length == 2 { 0xffff } else { u32::MAX };
    let words = (0..count).map(|_| random.word() & length_mask & !pattern.mask | pattern.value);
    words
        .filter_map(|word| decode(word, &all()).filter(|(found, _)| *found == opcode).map(|(_, i)| (word, i)))
        .collect()
}

#[test]
fn every_row_decodes_and_keeps_its_place() {
    for opcode in Opcode::all() {
        assert!(!encodings(opcode, 200).is_empty(), "{} is never decoded", opcode.row().mnemonic);
        struct Place;
        impl Visitor for Place {
            type Output = (Opcode, &'static str);
            fn visit<I: Instruction>(self) -> Self::Output {
                (I::OPCODE, I::ROW.mnemonic)
            }
        }
        assert_eq!(dispatch(opcode, Place), (opcode, opcode.row().mnemonic));
    }
}

#[test]
fn mnemonics_are_unique() {
    let mut names: Vec<_> = ROWS.iter().map(|row| row.mnemonic).collect();
    names.sort_unstable();
    assert!(names.is_sorted_by(|a, b| a < b));
}

/// Of 32-bit encodings by the algebra of masks: two patterns overlap unless a bit that both fix differs. Where one
/// specialises the other it must be a strict subset.
#[test]
fn no_two_encodings_overlap() {
    for a in Opcode::all() {
        for b in Opcode::all().filter(|&b| b > a) {
            let (first, second) = (a.row(), b.row());
            if first.pattern.length != 4 || !first.pattern.overlaps(&second.pattern) {
                continue;
            }
            let subset = |special: &Row, general: &Row, of: Opcode| {
                let (special_mask, general_mask) = (special.pattern.mask, general.pattern.mask);
                special.specialises == Some(of)
                    && special_mask & general_mask == general_mask
                    && special_mask != general_mask
            };
            let siblings = first.specialises.is_some() && first.specialises == second.specialises;
            assert!(
                !siblings && (subset(first, second, b) || subset(second, first, a)),
                "{} and {} overlap",
                first.mnemonic,
                second.mnemonic
            );
        }
    }
}

/// Of 16-bit encodings exhaustively, with constraints.
#[test]
fn no_two_compressed_encodings_overlap() {
    for half in (0..0x1_0000).filter(|half| half & 3 != 3) {
        let matching: Vec<Opcode> = Opcode::all()
            .filter(|opcode| opcode.row().pattern.length == 2 && opcode.row().pattern.decode(half).is_some())
            .collect();
        match matching[..] {
            [] | [_] => {}
            [general, special] => assert_eq!(special.row().specialises, Some(general), "{half:#06x}"),
            _ => panic!("{half:#06x} has {} meanings", matching.len()),
        }
    }
}

#[test]
fn the_decoder_finds_what_a_search_of_the_table_finds() {
    let mut random = Random(1);
    let rows = Opcode::all().flat_map(|opcode| encodings(opcode, 50)).map(|(word, _)| word);
    let halves = (0..0x1_0000).filter(|half| half & 3 != 3);
    let words: Vec<u32> = rows.chain(halves).chain((0..20_000).map(|_| random.word() | 3)).collect();
    for set in [all(), ExtensionSet::from_cpu_argument("rv64gc").unwrap(), ExtensionSet::of(&[Extension::I])] {
        for &word in &words {
            let length = if word & 3 == 3 { 4 } else { 2 };
            let searched = Opcode::all()
                .filter(|opcode| opcode.row().pattern.length == length && opcode.row().is_in(&set))
                .filter_map(|opcode| Some((opcode, opcode.row().pattern.decode(word)?)))
                .max_by_key(|(opcode, _)| opcode.row().specialises.is_some());
            assert_eq!(decode(word, &set), searched, "{word:#010x}");
        }
    }
}

#[test]
fn encoding_is_the_inverse_of_decoding() {
    let mut random = Random(2);
    let halves = (0..0x1_0000).filter(|half| half & 3 != 3);
    let rows = Opcode::all().flat_map(|opcode| encodings(opcode, 200)).map(|(word, _)| word);
    let mut count = 0;
    for word in halves.chain(rows).chain((0..200_000).map(|_| random.word())) {
        let word = if word & 3 == 3 { word } else { word & 0xffff };
        if let Some((opcode, insn)) = decode(word, &all()) {
            assert_eq!(insn.raw, word);
            assert_eq!(opcode.row().pattern.encode(&insn), Ok(word), "{} {word:#010x}", opcode.row().mnemonic);
            count += 1;
        }
    }
    assert!(count > 100_000);
}

#[test]
fn operands_that_do_not_fit_are_refused() {
    let addi = &<rv64i::addi as Instruction>::ROW.pattern;
    assert_eq!(addi.encode(&Insn { imm: 2048, ..Insn::default() }), Err(Unencodable(Operand::Imm)));
    assert_eq!(addi.encode(&Insn { rd: 32, ..Insn::default() }), Err(Unencodable(Operand::Rd)));
    assert_eq!(addi.encode(&Insn { rs2: 1, ..Insn::default() }), Err(Unencodable(Operand::Rs2)));
    let c_lwsp = &<c::c_lwsp as Instruction>::ROW.pattern;
    assert_eq!(c_lwsp.encode(&Insn { rs1: 2, ..Insn::default() }), Err(Unencodable(Operand::Rd)));
    assert_eq!(c_lwsp.encode(&Insn { rd: 1, rs1: 3, ..Insn::default() }), Err(Unencodable(Operand::Rs1)));
    let fadd = &<f::fadd_s as Instruction>::ROW.pattern;
    assert_eq!(fadd.encode(&Insn { rm: 5, ..Insn::default() }), Err(Unencodable(Operand::Rm)));
}

/// The text of every instruction, all of it at once, assembles to the encoding that it came from.
#[test]
fn assembling_is_the_inverse_of_disassembling() {
    let mut random = Random(3);
    let halves = (0..0x1_0000).filter(|half| half & 3 != 3);
    let rows = Opcode::all().flat_map(|opcode| encodings(opcode, 200)).map(|(word, _)| word);
    let (mut source, mut expected) = (String::new(), Vec::new());
    for word in halves.chain(rows).chain((0..200_000).map(|_| random.word() | 3)) {
        if decode(word, &all()).is_none() {
            continue;
        }
        let pc = 0x8000_0000 + expected.len() as u64;
        source.push_str(&disassemble(word, pc, &all()));
        source.push('\n');
        expected.extend_from_slice(&word.to_le_bytes()[..if word & 3 == 3 { 4 } else { 2 }]);
    }
    let program = assemble(&source, 0x8000_0000, &all()).unwrap();
    assert!(expected.len() > 200_000);
    assert!(program.bytes == expected);
}

fn decoded(word: u32) -> Option<&'static str> {
    decode(word, &all()).map(|(opcode, _)| opcode.row().mnemonic)
}

/// Reserved and illegal encodings (unprivileged specification, tables of RVC; "Extending RISC-V").
#[test]
fn reserved_encodings_do_not_decode() {
    for (word, what) in [
        (0x0000_0000, "defined illegal"),
        (0xffff_ffff, "defined illegal"),
        (0x0000_0004, "c.addi4spn of 0"),
        (0x0000_2001, "c.addiw to x0"),
        (0x0000_6201, "c.lui of 0 to an even register"),
        (0x0000_6881, "c.lui of 0 to an odd register above 15"),
        (0x0000_6101, "c.addi16sp of 0"),
        (0x0000_8002, "c.jr x0"),
        (0x0000_4002, "c.lwsp to x0"),
        (0x0000_6002, "c.ldsp to x0"),
        (0x0000_9c79, "reserved arithmetic"),
        (0x0000_9c00, "reserved quadrant 0"),
        (0x0000_5053, "rounding mode 5"),
        (0x0000_6053, "rounding mode 6"),
        (0x1015_262f, "lr.w with rs2"),
        (0x0400_1013, "shift by more than 63"),
        (0x0200_101b, "word shift by more than 31"),
        (0x3020_00f3, "mret with rd"),
    ] {
        assert_eq!(decoded(word), None, "{what}");
    }
}

/// HINTs are instructions (tables "RVC HINT instructions" and "RV64I HINT instructions").
#[test]
fn hints_decode() {
    for (word, mnemonic) in [
        (0x0005, "c.nop"),
        (0x0501, "c.addi"),
        (0x4005, "c.li"),
        (0x6005, "c.lui"),
        (0x0002, "c.slli"),
        (0x8101, "c.srli"),
        (0x8006, "c.mv"),
        (0x9006, "c.add"),
        (0x900a, "c.ntl.p1"),
        (0x6081, "c.mop.1"),
        (0x0000_0013, "addi"),
        (0x0100_000f, "pause"),
        (0x8330_000f, "fence.tso"),
        (0x0000_6013, "prefetch.i"),
    ] {
        assert_eq!(decoded(word), Some(mnemonic));
    }
    // Without their extensions they are what they specialise.
    let base = ExtensionSet::of(&[Extension::I, Extension::Zca]);
    let decoded = |word| decode(word, &base).unwrap().0.row().mnemonic;
    assert_eq!(decoded(0x0100_000f), "fence");
    assert_eq!(decoded(0x0000_6013), "ori");
    assert_eq!(decoded(0x900a), "c.add");
    // Reserved fields of fences are ignored.
    assert_eq!(decoded(0x4330_810f), "fence");
}

#[test]
fn an_extension_that_is_off_has_no_instructions() {
    for opcode in Opcode::all() {
        let row = opcode.row();
        let (word, _) = encodings(opcode, 200)[0];
        for extension in row.requires.iter() {
            let without = all().without(ExtensionSet::of(&[extension]));
            let also = Some(opcode).filter(|_| row.is_in(&without));
            assert_eq!(also.is_some(), !row.also.is_empty(), "{}", row.mnemonic);
            let without = without.without(row.also);
            let general = row.specialises.filter(|general| general.row().is_in(&without));
            assert_eq!(decode(word, &without).map(|(found, _)| found), general, "{}", row.mnemonic);
        }
    }
}

/// The notes of the engine with opaque values agree with what the syntax, the pattern and the row say.
#[test]
fn footprints_agree_with_operands() {
    for opcode in Opcode::all() {
        let row = opcode.row();
        for (_, insn) in encodings(opcode, 40) {
            let found = footprint(opcode, &insn);
            let name = row.mnemonic;
            let expanded = row.expands_to.map_or(opcode, |base| base);
            assert_eq!(found, footprint(expanded, &insn), "{name}");
            assert_eq!(found.branches, matches!(row.flow, Flow::Branch | Flow::Jump | Flow::JumpIndirect), "{name}");
            if found.calls {
                continue;
            }
            assert_ne!(row.flow, Flow::Exit, "{name}");
            let float = found.float_reads | found.float_writes != 0 || found.floats;
            assert!(row.is_float() || !float, "{name}");
            if row.expands_to.is_some() {
                continue;
            }
            let (mut reads, mut writes, mut float_reads, mut float_writes) = (0u32, 0u32, 0u32, 0u32);
            let (_, forms) = syntax::parse(row.syntax);
            for word in forms.flat_map(|Form { outer, base }| [outer, base]).flatten() {
                match word {
                    Word::Integer(Operand::Rd) => writes |= 1 << insn.rd,
                    Word::Integer(Operand::Rs1) => reads |= 1 << insn.rs1,
                    Word::Integer(_) => reads |= 1 << insn.rs2,
                    Word::Float(Operand::Rd) => float_writes |= 1 << insn.rd,
                    Word::Float(Operand::Rs1) => float_reads |= 1 << insn.rs1,
                    Word::Float(Operand::Rs2) => float_reads |= 1 << insn.rs2,
                    Word::Float(_) => float_reads |= 1 << insn.rs3,
                    _ => {}
                }
            }
            // HINTs and may-be-operations have operands that they do not read.
            let idle = name.starts_with("prefetch") || name.starts_with("mop.");
            if name.starts_with("amocas") {
                reads |= 1 << insn.rd;
            }
            if name == "amocas.q" {
                // Pairs, of which the one of x0 is zero or goes nowhere.
                let second = |register: u8| if register == 0 { 0 } else { 2 << register };
                reads |= second(insn.rd) | second(insn.rs2);
                writes = if insn.rd == 0 { 0 } else { 1 << insn.rd | second(insn.rd) };
            }
            assert_eq!(found.reads, if idle { 0 } else { reads }, "{name}");
            assert_eq!(found.writes, writes, "{name}");
            assert_eq!(found.float_reads, float_reads, "{name}");
            assert_eq!(found.float_writes, float_writes, "{name}");
            let parenthesis =
                row.syntax.contains('(') && !matches!(name, "jalr" | "prefetch.i" | "prefetch.r" | "prefetch.w");
            assert_eq!(found.loads || found.stores, parenthesis, "{name}");
            assert_eq!(found.fences, name.starts_with("fence"), "{name}");
        }
    }
}

/// A row with a rounding-mode field rounds, and one without does not need it.
#[test]
fn rounding_modes_are_where_rounding_is() {
    for opcode in Opcode::all() {
        let row = opcode.row();
        if row.pattern.has(Operand::Rm) {
            assert!(footprint(opcode, &Insn::default()).floats, "{}", row.mnemonic);
        }
    }
}

#[test]
fn text_of_what_is_no_instruction() {
    assert_eq!(disassemble(0xffff_ffff, 0, &all()), ".4byte 0xffffffff");
    assert_eq!(disassemble(0x1234_0000, 0, &all()), ".2byte 0x0");
    assert_eq!(disassemble(0x0ff0_018f, 0, &all()), ".4byte 0xff0018f");
    assert_eq!(disassemble(0x0000_006f, 0x8000_0000, &all()), "jal zero,0x80000000");
    assert_eq!(disassemble(0x0262_a52f, 0, &all()), "amoadd.w.rl a0,t1,(t0)");
    assert_eq!(disassemble(0xf151_1073, 0, &all()), "csrrw zero,mconfigptr,sp");
}

/// The constants of `fli` are those of its text.
#[test]
fn constants_of_fli() {
    for (number, text) in syntax::CONSTANTS.iter().enumerate() {
        let bits = float::loadable(Format::Double, number as u8) as u64;
        match *text {
            "min" => assert_eq!(f64::from_bits(bits), f64::MIN_POSITIVE),
            "nan" => assert_eq!(bits, 0x7ff8_0000_0000_0000),
            _ => assert_eq!(f64::from_bits(bits), text.parse::<f64>().unwrap()),
        }
    }
    let half: Vec<i64> = [0, 1, 2, 3, 4, 12, 16, 28, 29, 30, 31].map(|n| float::loadable(Format::Half, n)).to_vec();
    assert_eq!(half, [0xbc00, 0x0400, 0x0100, 0x0200, 0x1c00, 0x3800, 0x3c00, 0x7800, 0x7c00, 0x7c00, 0x7e00]);
    assert_eq!(float::loadable(Format::Single, 2), 0x3780_0000);
}
