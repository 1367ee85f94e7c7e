//! The assembly syntax of a row, as the disassembler and the assembler read it.
//!
//! It starts with a suffix of the mnemonic, if there is one:
//!
//! | suffix | meaning |
//! |---|---|
//! | `.aqrl` | `.aq`, `.rl`, `.aqrl` or nothing, by the ordering bits |
//! | `.uimm` | a dot and the immediate |
//!
//! and goes on with the operands, each a word or `word(word)` or `(word)`:
//!
//! | word | meaning |
//! |---|---|
//! | `rd` `rs1` `rs2` | an integer register |
//! | `frd` `frs1` `frs2` `frs3` | a floating-point register |
//! | `sp` | the stack pointer |
//! | `imm` `uimm` | the immediate, in decimal |
//! | `imm?` | the same; left out if it is 0 |
//! | `shamt` | the immediate, in hexadecimal |
//! | `upper` | bits 31 to 12 of the immediate, in hexadecimal |
//! | `offset` | the address that is the immediate away |
//! | `csr` | the name or number of a CSR |
//! | `zimm` | the number in the field of rs1 |
//! | `pred` `succ` | sets of `iorw`, bits 7:4 and 3:0 of the immediate |
//! | `rm` | a rounding mode; left out if it is dynamic |
//! | `exact_rm` | a rounding mode that cannot matter; left out if it is `rne` |
//! | `rtz` | the word itself |
//! | `fli` | a constant of Zfa, by the number in the field of rs1 |

use super::Operand;

/// A suffix of the mnemonic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Suffix {
    Ordering,
    Number,
}

/// One word of the syntax.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    Integer(Operand),
    Float(Operand),
    StackPointer,
    Signed,
    SignedOptional,
    Unsigned,
    ShiftAmount,
    Upper,
    Offset,
    Csr,
    Zimm,
    Predecessor,
    Successor,
    RoundingMode,
    ExactRoundingMode,
    TowardsZero,
    Constant,
}

impl Word {
    fn parse(word: &str) -> Word {
        match word {
            "rd" => Word::Integer(Operand::Rd),
            "rs1" => Word::Integer(Operand::Rs1),
            "rs2" => Word::Integer(Operand::Rs2),
            "frd" => Word::Float(Operand::Rd),
            "frs1" => Word::Float(Operand::Rs1),
            "frs2" => Word::Float(Operand::Rs2),
            "frs3" => Word::Float(Operand::Rs3),
            "sp" => Word::StackPointer,
            "imm" => Word::Signed,
            "imm?" => Word::SignedOptional,
            "uimm" => Word::Unsigned,
            "shamt" => Word::ShiftAmount,
            "upper" => Word::Upper,
            "offset" => Word::Offset,
            "csr" => Word::Csr,
            "zimm" => Word::Zimm,
            "pred" => Word::Predecessor,
            "succ" => Word::Successor,
            "rm" => Word::RoundingMode,
            "exact_rm" => Word::ExactRoundingMode,
            "rtz" => Word::TowardsZero,
            "fli" => Word::Constant,
            // The table is ours and a test reads all of it.
            _ => unreachable!("unknown word in the syntax of a row: {word}"),
        }
    }

    /// The operand that it shows.
    pub(super) fn operand(self) -> Option<Operand> {
        match self {
            Word::Integer(operand) | Word::Float(operand) => Some(operand),
            Word::Zimm | Word::Constant => Some(Operand::Rs1),
            Word::RoundingMode | Word::ExactRoundingMode => Some(Operand::Rm),
            Word::StackPointer | Word::TowardsZero => None,
            _ => Some(Operand::Imm),
        }
    }

    /// Whether it may be left out.
    pub(super) fn is_optional(self) -> bool {
        matches!(self, Word::SignedOptional | Word::RoundingMode | Word::ExactRoundingMode)
    }
}

/// An operand between commas: `outer`, `outer(base)` or `(base)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Form {
    pub(super) outer: Option<Word>,
    pub(super) base: Option<Word>,
}

impl Form {
    fn parse(form: &str) -> Form {
        let (outer, base) = match form.split_once('(') {
            Some((outer, base)) => (outer, Some(Word::parse(base.trim_end_matches(')')))),
            None => (form, None),
        };
        Form { outer: (!outer.is_empty()).then(|| Word::parse(outer)), base }
    }
}

/// Takes a row's syntax apart.
pub(super) fn parse(syntax: &'static str) -> (Option<Suffix>, impl Iterator<Item = Form>) {
    let (suffix, operands) = match syntax.split_once(' ') {
        Some((".aqrl", operands)) => (Some(Suffix::Ordering), operands),
        Some((".uimm", operands)) => (Some(Suffix::Number), operands),
        _ => (None, syntax),
    };
    (suffix, operands.split(", ").filter(|form| !form.is_empty()).map(Form::parse))
}

/// ABI names of the integer registers (RISC-V ABIs specification, "Integer Register Convention").
pub(crate) const INTEGER_REGISTERS: [&str; 32] = [
    "zero", "ra", "sp", "gp", "tp", "t0", "t1", "t2", "s0", "s1", "a0", "a1", "a2", "a3", "a4", "a5", "a6", "a7", "s2",
    "s3", "s4", "s5", "s6", "s7", "s8", "s9", "s10", "s11", "t3", "t4", "t5", "t6",
];

/// ABI names of the floating-point registers.
pub(crate) const FLOAT_REGISTERS: [&str; 32] = [
    "ft0", "ft1", "ft2", "ft3", "ft4", "ft5", "ft6", "ft7", "fs0", "fs1", "fa0", "fa1", "fa2", "fa3", "fa4", "fa5",
    "fa6", "fa7", "fs2", "fs3", "fs4", "fs5", "fs6", "fs7", "fs8", "fs9", "fs10", "fs11", "ft8", "ft9", "ft10", "ft11",
];

/// Rounding modes by number; 5 and 6 are reserved.
pub(super) const ROUNDING_MODES: [&str; 8] = ["rne", "rtz", "rdn", "rup", "rmm", "", "", "dyn"];

/// The constants of Zfa's `fli` by number.
pub(super) const CONSTANTS: [&str; 32] = [
    "-1.0",
    "min",
    "1.52587890625e-05",
    "3.0517578125e-05",
    "0.00390625",
    "0.0078125",
    "0.0625",
    "0.125",
    "0.25",
    "0.3125",
    "0.375",
    "0.4375",
    "0.5",
    "0.625",
    "0.75",
    "0.875",
    "1.0",
    "1.25",
    "1.5",
    "1.75",
    "2.0",
    "2.5",
    "3.0",
    "4.0",
    "8.0",
    "16.0",
    "128.0",
    "256.0",
    "32768.0",
    "65536.0",
    "inf",
    "nan",
];

/// The sets of a fence by number: device input and output, memory reads and writes.
pub(super) const FENCE_SETS: [&str; 16] =
    ["0", "w", "r", "rw", "o", "ow", "or", "orw", "i", "iw", "ir", "irw", "io", "iow", "ior", "iorw"];
