//! The disassembler: text as binutils' `objdump -M no-aliases` prints it, with one space after the mnemonic.

use std::fmt::Write;

use super::csr_names::csr_name;
use super::syntax::{
    self, CONSTANTS, FENCE_SETS, FLOAT_REGISTERS, Form, INTEGER_REGISTERS, ROUNDING_MODES, Suffix, Word,
};
use super::{Insn, Operand, decode};
use crate::extension::ExtensionSet;

/// The assembly text of the instruction `word` at address `pc`. Of a 16-bit encoding only the low half counts. What
/// does not decode, or has values in fields that the text cannot show, is `.4byte` or `.2byte` with its bits.
pub fn disassemble(word: u32, pc: u64, extensions: &ExtensionSet) -> String {
    decode(word, extensions).and_then(|(opcode, insn)| text(opcode.row(), &insn, pc)).unwrap_or_else(|| {
        if word & 3 == 3 { format!(".4byte {word:#x}") } else { format!(".2byte {:#x}", word & 0xffff) }
    })
}

fn text(row: &super::Row, insn: &Insn, pc: u64) -> Option<String> {
    let (suffix, forms) = syntax::parse(row.syntax);
    let mut text = String::from(row.mnemonic);
    let mut shown = Vec::new();
    match suffix {
        Some(Suffix::Ordering) => {
            text.push_str(match (insn.aq(), insn.rl()) {
                (false, false) => "",
                (true, false) => ".aq",
                (false, true) => ".rl",
                (true, true) => ".aqrl",
            });
        }
        Some(Suffix::Number) => {
            push(&mut text, format_args!(".{}", insn.imm));
            shown.push(Operand::Imm);
        }
        None => {}
    }
    let mut separator = ' ';
    for Form { outer, base } in forms {
        let outer_text = outer.and_then(|word| word_text(word, insn, pc));
        shown.extend(outer.and_then(Word::operand));
        shown.extend(base.and_then(Word::operand));
        if outer_text.is_none() && base.is_none() {
            continue;
        }
        text.push(separator);
        separator = ',';
        text.push_str(&outer_text.unwrap_or_default());
        if let Some(base) = base.and_then(|word| word_text(word, insn, pc)) {
            push(&mut text, format_args!("({base})"));
        }
    }
    if outside(row, insn, &shown) {
        return None;
    }
    Some(text)
}

/// Whether fields that the text does not show have a value: reserved ones that are ignored.
fn outside(row: &super::Row, insn: &Insn, shown: &[Operand]) -> bool {
    let hidden = |operand| !shown.contains(&operand) && row.pattern.has(operand);
    // The mode of a fence has no text; what is hidden because it shares a field with rd is shown there.
    let mode = syntax::parse(row.syntax).1.any(|form| form.outer == Some(Word::Predecessor)) && insn.imm >> 8 != 0;
    mode || hidden(Operand::Rd) && insn.rd != 0
        || hidden(Operand::Rs1) && insn.rs1 != 0 && insn.rs1 != insn.rd
        || hidden(Operand::Imm) && insn.imm != 0
}

/// One word, or `None` where it is left out.
fn word_text(word: Word, insn: &Insn, pc: u64) -> Option<String> {
    Some(match word {
        Word::Integer(operand) => INTEGER_REGISTERS[register(insn, operand)].into(),
        Word::Float(operand) => FLOAT_REGISTERS[register(insn, operand)].into(),
        Word::StackPointer => "sp".into(),
        Word::SignedOptional if insn.imm == 0 => return None,
        Word::Signed | Word::SignedOptional | Word::Unsigned => insn.imm.to_string(),
        Word::ShiftAmount => format!("{:#x}", insn.imm),
        Word::Upper => format!("{:#x}", insn.imm as u32 >> 12),
        Word::Offset => format!("{:#x}", pc.wrapping_add_signed(insn.imm.into())),
        Word::Csr => csr_name(insn.imm as u16).map_or_else(|| format!("{:#x}", insn.imm), Into::into),
        Word::Zimm => insn.rs1.to_string(),
        Word::Predecessor => FENCE_SETS[insn.imm as usize >> 4 & 15].into(),
        Word::Successor => FENCE_SETS[insn.imm as usize & 15].into(),
        Word::RoundingMode if insn.rm == 7 => return None,
        Word::ExactRoundingMode if insn.rm == 0 => return None,
        Word::RoundingMode | Word::ExactRoundingMode => ROUNDING_MODES[usize::from(insn.rm & 7)].into(),
        Word::TowardsZero => "rtz".into(),
        Word::Constant => CONSTANTS[usize::from(insn.rs1 & 31)].into(),
    })
}

fn register(insn: &Insn, operand: Operand) -> usize {
    let register = match operand {
        Operand::Rd => insn.rd,
        Operand::Rs1 => insn.rs1,
        Operand::Rs2 => insn.rs2,
        _ => insn.rs3,
    };
    usize::from(register & 31)
}

fn push(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    // Writing to a `String` cannot fail.
    let _ = text.write_fmt(arguments);
}
