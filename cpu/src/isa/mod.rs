//! The instruction set: one table, from which the decoder, the disassembler, the assembler, the interpreter and the
//! translator come.
//!
//! There is one file per extension, and in it one row per instruction: encoding, operands, assembly syntax and
//! semantics (see [`row`]). An [`Opcode`] is a place in the table of all rows; [`dispatch`] turns it into a type.

pub mod assembler;
pub mod csr_names;
mod decode;
mod disassemble;
mod float;
pub mod footprint;
mod ops;
pub mod pattern;
pub mod row;
mod shapes;
mod syntax;

pub use decode::decode;
pub use disassemble::disassemble;
pub use ops::{AmoOp, Cond, Extend, FloatOp, Format, Helper, IntFormat, Ops};
pub use pattern::{Operand, Pattern, Unencodable};
pub use row::{Flow, Instruction, Opcode, Row, Visitor};
pub(crate) use syntax::{FLOAT_REGISTERS, INTEGER_REGISTERS};

/// Lists the files of the table.
macro_rules! files {
    ($($(#[$meta:meta])* $file:ident)+) => {
        $($(#[$meta])* pub mod $file;)+

        /// Module path and number of rows of each file.
        const FILES: &[(&str, usize)] = &[$((concat!(module_path!(), "::", stringify!($file)), $file::COUNT)),+];

        /// The number of rows of all files.
        pub const ROW_COUNT: usize = 0 $(+ $file::COUNT)+;

        /// All rows; an [`Opcode`] is an index.
        pub static ROWS: [Row; ROW_COUNT] = {
            let mut rows = [rv64i::ROWS[0]; ROW_COUNT];
            let mut count = 0;
            $(
                let mut at = 0;
                while at < $file::COUNT {
                    rows[count] = $file::ROWS[at];
                    count += 1;
                    at += 1;
                }
            )+
            rows
        };

        /// Gives the type of the instruction `opcode` to `visitor`.
        pub fn dispatch<V: Visitor>(opcode: Opcode, visitor: V) -> V::Output {
            let place = opcode.0;
            $(
                let first = const { first_opcode(concat!(module_path!(), "::", stringify!($file))) };
                if place < first + $file::COUNT as u16 {
                    return $file::dispatch(place - first, visitor);
                }
            )+
            unreachable!("an opcode is a place in the table")
        }
    };
}

files! {
    /// The base integer instruction set, RV64I.
    rv64i
    /// Integer multiplication and division.
    m
    /// Atomic memory operations.
    zaamo
    /// Load-reserved and store-conditional.
    zalrsc
    /// Single-precision floating point.
    f
    /// Double-precision floating point.
    d
    /// Compressed instructions.
    c
    /// Control and status registers.
    zicsr
    /// Instruction-fetch fence.
    zifencei
    /// Privileged instructions.
    privileged
    /// Address generation.
    zba
    /// Basic bit manipulation.
    zbb
    /// Carry-less multiplication.
    zbc
    /// Bit manipulation for cryptography.
    zbkb
    /// Crossbar permutations.
    zbkx
    /// Single-bit instructions.
    zbs
    /// Conditional zero.
    zicond
    /// Cache-block management.
    zicbom
    /// Cache-block zero.
    zicboz
    /// Cache-block prefetch.
    zicbop
    /// Pause hint.
    zihintpause
    /// Further compressed instructions.
    zcb
    /// Half-precision loads, stores, moves and conversions.
    zfhmin
    /// Half-precision floating point.
    zfh
    /// Additional floating-point instructions.
    zfa
    /// Compare and swap.
    zacas
    /// Byte and halfword atomics.
    zabha
    /// Waiting on a reservation.
    zawrs
    /// May-be-operations.
    zimop
    /// Compressed may-be-operations.
    zcmop
    /// Non-temporal locality hints.
    zihintntl
}

/// The opcode of the first row of the file with module path `path`.
const fn first_opcode(path: &str) -> u16 {
    let mut first = 0;
    let mut file = 0;
    while !same(FILES[file].0, path) {
        first += FILES[file].1;
        file += 1;
    }
    first as u16
}

const fn same(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    if a.len() != b.len() {
        return false;
    }
    let mut at = 0;
    while at < a.len() {
        if a[at] != b[at] {
            return false;
        }
        at += 1;
    }
    true
}

impl Opcode {
    /// Its row.
    #[inline]
    pub fn row(self) -> &'static Row {
        &ROWS[usize::from(self.0)]
    }

    /// All opcodes.
    pub fn all() -> impl Iterator<Item = Opcode> {
        (0..ROW_COUNT as u16).map(Opcode)
    }
}

/// Executes the instruction `opcode` with the operands `i`.
///
/// # Errors
/// Whatever of `m`'s operations stopped it.
pub fn execute_row<M: Ops>(opcode: Opcode, m: &mut M, i: &Insn) -> Result<(), M::Exit> {
    struct Execute<'a, M>(&'a mut M, &'a Insn);
    impl<M: Ops> Visitor for Execute<'_, M> {
        type Output = Result<(), M::Exit>;
        fn visit<I: Instruction>(self) -> Self::Output {
            I::execute(self.0, self.1)
        }
    }
    dispatch(opcode, Execute(m, i))
}

/// A decoded instruction: the operands of one row of the table, and its place in its block.
///
/// Sixteen bytes, so that a decoded block stays dense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Insn {
    /// The encoding as fetched, zero-extended if it is compressed.
    pub raw: u32,
    /// The immediate operand, extended as the row says.
    pub imm: i32,
    /// Destination register.
    pub rd: u8,
    /// First source register.
    pub rs1: u8,
    /// Second source register.
    pub rs2: u8,
    /// Third source register.
    pub rs3: u8,
    /// Rounding mode field (`rm`), 7 for the dynamic one.
    pub rm: u8,
    /// Number of instructions before this one in its block.
    pub index: u8,
    /// Distance in bytes from the start of its block.
    pub offset: u16,
}

impl Insn {
    /// Length in bytes: 2 or 4 (unprivileged specification, "Base Instruction-Length Encoding").
    #[inline(always)]
    pub const fn length(&self) -> u64 {
        if self.raw & 3 == 3 { 4 } else { 2 }
    }

    /// Whether a `fence` orders stores before it and loads behind it (RISC-V unprivileged specification, "Memory Ordering
    /// Instructions").
    #[inline]
    pub const fn orders_stores_before_loads(&self) -> bool {
        // Bits of the predecessor and successor sets: output and write, input and read.
        self.raw >> 24 & 0b0101 != 0 && self.raw >> 20 & 0b1010 != 0
    }

    /// The acquire bit of an atomic.
    #[inline(always)]
    pub const fn aq(&self) -> bool {
        self.raw >> 26 & 1 != 0
    }

    /// The release bit of an atomic.
    #[inline(always)]
    pub const fn rl(&self) -> bool {
        self.raw >> 25 & 1 != 0
    }
}

#[cfg(test)]
mod semantics_tests;
#[cfg(test)]
mod tests;
