//! Operands of a row, from text to [`Insn`].

use super::expression::{ExpressionError, Place, evaluate};
use crate::isa::csr_names::csr_number;
use crate::isa::syntax::{
    self, CONSTANTS, FENCE_SETS, FLOAT_REGISTERS, Form, INTEGER_REGISTERS, ROUNDING_MODES, Suffix, Word,
};
use crate::isa::{Insn, Operand, Row};

fn invalid(message: String) -> ExpressionError {
    ExpressionError::Invalid(message)
}

/// The number of an integer register.
pub(super) fn integer_register(name: &str) -> Option<u8> {
    register(name, 'x', &INTEGER_REGISTERS).or((name == "fp").then_some(8))
}

fn register(name: &str, letter: char, names: &[&str; 32]) -> Option<u8> {
    if let Some(number) = names.iter().position(|&known| known == name) {
        return Some(number as u8);
    }
    let number = name.strip_prefix(letter)?.parse().ok().filter(|&number: &u8| number < 32)?;
    (format!("{letter}{number}") == name).then_some(number)
}

/// Parses the operands of `row`.
pub(super) fn parse(row: &Row, suffix: &str, operands: &[String], place: Place<'_>) -> Result<Insn, ExpressionError> {
    let mut insn = Insn::default();
    let (kind, forms) = syntax::parse(row.syntax);
    let number = match kind {
        Some(Suffix::Ordering) => {
            insn.raw = match suffix {
                ".aq" => 1 << 26,
                ".rl" => 1 << 25,
                ".aqrl" => 3 << 25,
                _ => 0,
            };
            None
        }
        Some(Suffix::Number) => Some(suffix.trim_start_matches('.').parse().unwrap_or(-1)),
        None => None,
    };
    let forms: Vec<Form> = forms.collect();
    let optional = |form: &&Form| form.base.is_none() && form.outer.is_some_and(Word::is_optional);
    let least = forms.len() - forms.iter().filter(optional).count();
    if !(least..=forms.len()).contains(&operands.len()) {
        let expected = if row.syntax.is_empty() { "none" } else { row.syntax };
        return Err(invalid(format!("{} takes other operands: {expected}", row.mnemonic)));
    }
    for (index, form) in forms.iter().enumerate() {
        match operands.get(index) {
            Some(text) => parse_form(form, text, &mut insn, place)?,
            // Only an optional one can be missing; the others are ready as 0.
            None if form.outer == Some(Word::RoundingMode) => insn.rm = 7,
            None => {}
        }
    }
    if let Some(number) = number {
        insn.imm = number;
    }
    complete(row, &mut insn);
    Ok(insn)
}

/// Sets the operands that the text does not show: fixed ones and those that share a field.
fn complete(row: &Row, insn: &mut Insn) {
    let mut shown = Vec::new();
    for form in syntax::parse(row.syntax).1 {
        shown.extend(form.outer.and_then(Word::operand));
        shown.extend(form.base.and_then(Word::operand));
    }
    let implied = row.pattern.implied();
    if !row.pattern.has(Operand::Rd) {
        insn.rd = implied.rd as u8;
    }
    if !row.pattern.has(Operand::Rs1) {
        insn.rs1 = implied.rs1 as u8;
    } else if !shown.contains(&Operand::Rs1) {
        insn.rs1 = if row.pattern.shares(Operand::Rd, Operand::Rs1) { insn.rd } else { 0 };
    }
    if !row.pattern.has(Operand::Rs2) {
        insn.rs2 = implied.rs2 as u8;
    }
    if !row.pattern.has(Operand::Imm) {
        insn.imm = implied.imm;
    }
}

fn parse_form(form: &Form, text: &str, insn: &mut Insn, place: Place<'_>) -> Result<(), ExpressionError> {
    let Some(base) = form.base else {
        return match form.outer {
            Some(word) => parse_word(word, text, insn, place),
            None => Ok(()),
        };
    };
    let split = text.strip_suffix(')').and_then(|inside| inside.rsplit_once('('));
    let Some((outer, register)) = split else {
        return Err(invalid(format!("'{text}' should be of the form offset(register)")));
    };
    parse_word(base, register.trim(), insn, place)?;
    match (form.outer, outer.trim()) {
        (_, "") => Ok(()),
        (Some(word), outer) => parse_word(word, outer, insn, place),
        (None, outer) if evaluate(outer, place)? == 0 => Ok(()),
        (None, outer) => Err(invalid(format!("offset {outer} where none is possible"))),
    }
}

fn parse_word(word: Word, text: &str, insn: &mut Insn, place: Place<'_>) -> Result<(), ExpressionError> {
    match word {
        Word::Integer(operand) => {
            let number = integer_register(text);
            set(insn, operand, number.ok_or_else(|| invalid(format!("'{text}' is no integer register")))?);
        }
        Word::Float(operand) => {
            let number = register(text, 'f', &FLOAT_REGISTERS);
            set(insn, operand, number.ok_or_else(|| invalid(format!("'{text}' is no floating-point register")))?);
        }
        Word::StackPointer => {
            if integer_register(text) != Some(2) {
                return Err(invalid(format!("the register can only be sp, not '{text}'")));
            }
        }
        Word::Signed | Word::SignedOptional | Word::Unsigned | Word::ShiftAmount => {
            let value = evaluate(text, place)?;
            insn.imm = i32::try_from(value).map_err(|_| invalid(format!("{value:#x} is out of range")))?;
        }
        Word::Upper => {
            let value = evaluate(text, place)?;
            if !(0..1 << 20).contains(&value) {
                return Err(invalid(format!("{value:#x} is out of the range 0 to 0xfffff")));
            }
            insn.imm = (value << 12) as i32;
        }
        Word::Offset => {
            let distance = evaluate(text, place)?.wrapping_sub(place.here as i64);
            let far = |_| invalid(format!("'{text}' is too far away: {distance:#x} bytes"));
            insn.imm = i32::try_from(distance).map_err(far)?;
        }
        Word::Csr => {
            let number = match csr_number(text) {
                Some(number) => number.into(),
                None => evaluate(text, place).map_err(|error| match error {
                    ExpressionError::Undefined(name) if name == text => invalid(format!("unknown CSR '{name}'")),
                    other => other,
                })?,
            };
            if !(0..0x1000).contains(&number) {
                return Err(invalid(format!("{number:#x} is no CSR number")));
            }
            insn.imm = number as i32;
        }
        Word::Zimm => {
            let value = evaluate(text, place)?;
            if !(0..32).contains(&value) {
                return Err(invalid(format!("{value} is out of the range 0 to 31")));
            }
            insn.rs1 = value as u8;
        }
        Word::Predecessor => insn.imm |= fence_set(text)? << 4,
        Word::Successor => insn.imm |= fence_set(text)?,
        Word::RoundingMode | Word::ExactRoundingMode | Word::TowardsZero => {
            let mode = ROUNDING_MODES.iter().position(|&mode| mode == text && !text.is_empty());
            let mode = mode.ok_or_else(|| invalid(format!("'{text}' is no rounding mode")))?;
            if word != Word::TowardsZero {
                insn.rm = mode as u8;
            } else if text != "rtz" {
                return Err(invalid(format!("the rounding mode can only be rtz, not '{text}'")));
            }
        }
        Word::Constant => {
            let value: Option<f64> = text.parse().ok();
            let equal = |name: &str| name == text || value.is_some() && name.parse().ok() == value;
            let number = CONSTANTS.iter().position(|name| equal(name));
            insn.rs1 = number.ok_or_else(|| invalid(format!("'{text}' is no constant of fli")))? as u8;
        }
    }
    Ok(())
}

fn set(insn: &mut Insn, operand: Operand, register: u8) {
    match operand {
        Operand::Rd => insn.rd = register,
        Operand::Rs1 => insn.rs1 = register,
        Operand::Rs2 => insn.rs2 = register,
        _ => insn.rs3 = register,
    }
}

/// A set of `iorw` in that order, `0` for the empty one.
fn fence_set(text: &str) -> Result<i32, ExpressionError> {
    let set = FENCE_SETS.iter().position(|&set| set == text);
    set.map(|set| set as i32).ok_or_else(|| invalid(format!("'{text}' is no set of i, o, r and w in this order")))
}
