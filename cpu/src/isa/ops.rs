//! The operations that an instruction's semantics is written in.
//!
//! Each instruction is one function generic over [`Ops`]. With `V = u64` and `Self = Hart` it *is* the interpreter;
//! with a compiler's value type it *is* the translator. A value is opaque, so semantics cannot branch on one: choices
//! between values are [`Ops::select`], choices of control flow are the last thing that an instruction does. Rust's own
//! `if` may only look at the decoded [`Insn`].

use bus::Width;

use super::Insn;
use crate::Hart;

/// A comparison of two 64-bit values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cond {
    /// Equal.
    Eq,
    /// Not equal.
    Ne,
    /// Less than, signed.
    Lt,
    /// Greater than or equal, signed.
    Ge,
    /// Less than, unsigned.
    Ltu,
    /// Greater than or equal, unsigned.
    Geu,
}

/// How a load widens its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extend {
    /// Sign-extended to 64 bits.
    Signed,
    /// Zero-extended to 64 bits.
    Zero,
}

/// The operation of an atomic read-modify-write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AmoOp {
    /// Replaces the value.
    Swap,
    /// Adds.
    Add,
    /// Exclusive or.
    Xor,
    /// And.
    And,
    /// Or.
    Or,
    /// Signed minimum.
    Min,
    /// Signed maximum.
    Max,
    /// Unsigned minimum.
    Minu,
    /// Unsigned maximum.
    Maxu,
}

/// A binary floating-point format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// binary16.
    Half,
    /// binary32.
    Single,
    /// binary64.
    Double,
}

impl Format {
    /// Width of the format's bits.
    pub const fn width(self) -> Width {
        match self {
            Format::Half => Width::Half,
            Format::Single => Width::Word,
            Format::Double => Width::Double,
        }
    }
}

/// An integer format that floating-point values convert to and from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IntFormat {
    /// Signed 32 bits (results sign-extended to 64).
    I32,
    /// Unsigned 32 bits (results sign-extended to 64, as RV64 does).
    U32,
    /// Signed 64 bits.
    I64,
    /// Unsigned 64 bits.
    U64,
}

/// A floating-point operation on bits of one [`Format`]; results are bits of that format unless said otherwise. Flags
/// accrue in `fflags`; operations that round do so by the instruction's `rm`. What is only a matter of bits (sign
/// injection, NaN boxing, moves) is written with the integer operations instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FloatOp {
    /// a + b.
    Add,
    /// a − b.
    Sub,
    /// a × b.
    Mul,
    /// a ÷ b.
    Div,
    /// √a.
    Sqrt,
    /// a × b + c, rounded once.
    MulAdd,
    /// IEEE 754-2019 minimumNumber.
    Min,
    /// IEEE 754-2019 maximumNumber.
    Max,
    /// Zfa: IEEE 754-2019 minimum (NaN wins).
    MinNan,
    /// Zfa: IEEE 754-2019 maximum (NaN wins).
    MaxNan,
    /// Quiet a = b: an integer 0 or 1.
    Eq,
    /// Signalling a < b: an integer 0 or 1.
    Lt,
    /// Signalling a ≤ b: an integer 0 or 1.
    Le,
    /// Zfa: quiet a < b: an integer 0 or 1.
    LtQuiet,
    /// Zfa: quiet a ≤ b: an integer 0 or 1.
    LeQuiet,
    /// The ten class bits of a (`fclass`).
    Class,
    /// To an integer, rounded by `rm`, saturating.
    ToInt(IntFormat),
    /// From an integer, rounded by `rm`.
    FromInt(IntFormat),
    /// From another format, rounded by `rm` where that narrows.
    From(Format),
    /// Zfa: rounded by `rm` to an integral value, without raising inexact.
    Round,
    /// Zfa: as [`FloatOp::Round`], raising inexact.
    RoundInexact,
    /// Zfa: `fcvtmod.w.d`: a modulo 2^32, truncated.
    ToIntModular,
}

/// What a fault or another exit of an instruction leaves behind in the value of an opaque engine: nothing; the
/// interpreter's details are in the hart.
pub type Helper = fn(&mut Hart, &Insn) -> Result<(), crate::Trapped>;

/// The operations of a hart that the semantics of instructions is written in. Values are 64 bits wide. Registers are
/// numbered as in the encoding; `x0` reads as zero and ignores writes.
pub trait Ops: Sized {
    /// A 64-bit value.
    type V: Copy;
    /// Why an instruction did not finish: [`crate::Trapped`] or, for an engine that only records, `Infallible`.
    type Exit;

    /// A constant.
    fn imm(&mut self, value: i64) -> Self::V;
    /// The address of instruction `i`.
    fn pc(&mut self, i: &Insn) -> Self::V;
    /// Reads integer register `r`.
    fn x(&mut self, r: u8) -> Self::V;
    /// Writes integer register `r`.
    fn set_x(&mut self, r: u8, value: Self::V);
    /// Reads all 64 bits of floating-point register `r`.
    fn f(&mut self, r: u8) -> Self::V;
    /// Writes all 64 bits of floating-point register `r` and makes `mstatus.FS` dirty.
    fn set_f(&mut self, r: u8, value: Self::V);

    /// a + b.
    fn add(&mut self, a: Self::V, b: Self::V) -> Self::V;
    /// a − b.
    fn sub(&mut self, a: Self::V, b: Self::V) -> Self::V;
    /// Bitwise and.
    fn and(&mut self, a: Self::V, b: Self::V) -> Self::V;
    /// Bitwise or.
    fn or(&mut self, a: Self::V, b: Self::V) -> Self::V;
    /// Bitwise exclusive or.
    fn xor(&mut self, a: Self::V, b: Self::V) -> Self::V;
    /// Shift left by the low six bits of b.
    fn shl(&mut self, a: Self::V, b: Self::V) -> Self::V;
    /// Logical shift right by the low six bits of b.
    fn shr(&mut self, a: Self::V, b: Self::V) -> Self::V;
    /// Arithmetic shift right by the low six bits of b.
    fn sar(&mut self, a: Self::V, b: Self::V) -> Self::V;
    /// Rotate right by the low six bits of b.
    fn rotr(&mut self, a: Self::V, b: Self::V) -> Self::V;
    /// Rotate the low word right by the low five bits of b; sign-extended.
    fn rotrw(&mut self, a: Self::V, b: Self::V) -> Self::V;
    /// The low 64 bits of a × b.
    fn mul(&mut self, a: Self::V, b: Self::V) -> Self::V;
    /// The high 64 bits of the product, both signed.
    fn mulh(&mut self, a: Self::V, b: Self::V) -> Self::V;
    /// The high 64 bits of the product, both unsigned.
    fn mulhu(&mut self, a: Self::V, b: Self::V) -> Self::V;
    /// Signed quotient with the M extension's results for division by zero (−1) and overflow (the dividend).
    fn div(&mut self, a: Self::V, b: Self::V) -> Self::V;
    /// Unsigned quotient; division by zero gives all ones.
    fn divu(&mut self, a: Self::V, b: Self::V) -> Self::V;
    /// Signed remainder; by zero gives the dividend, on overflow 0.
    fn rem(&mut self, a: Self::V, b: Self::V) -> Self::V;
    /// Unsigned remainder; by zero gives the dividend.
    fn remu(&mut self, a: Self::V, b: Self::V) -> Self::V;
    /// Count of leading zeros; 64 for zero.
    fn clz(&mut self, a: Self::V) -> Self::V;
    /// Count of trailing zeros; 64 for zero.
    fn ctz(&mut self, a: Self::V) -> Self::V;
    /// Number of ones.
    fn popcount(&mut self, a: Self::V) -> Self::V;
    /// The eight bytes in reverse order.
    fn bswap(&mut self, a: Self::V) -> Self::V;
    /// Carry-less product, low 64 bits (Zbc `clmul`).
    fn clmul(&mut self, a: Self::V, b: Self::V) -> Self::V;
    /// Carry-less product, high 64 bits (Zbc `clmulh`).
    fn clmulh(&mut self, a: Self::V, b: Self::V) -> Self::V;
    /// The low bits of a, sign-extended.
    fn sext(&mut self, a: Self::V, width: Width) -> Self::V;
    /// The low bits of a, zero-extended.
    fn zext(&mut self, a: Self::V, width: Width) -> Self::V;
    /// 1 if the comparison holds, else 0.
    fn cmp(&mut self, cond: Cond, a: Self::V, b: Self::V) -> Self::V;
    /// a if c is non-zero, else b. Both are computed.
    fn select(&mut self, c: Self::V, a: Self::V, b: Self::V) -> Self::V;

    /// Loads from virtual address `address`, which may be misaligned.
    fn load(&mut self, i: &Insn, address: Self::V, width: Width, extend: Extend) -> Result<Self::V, Self::Exit>;
    /// Stores the low bits of `value` at virtual address `address`, which may be misaligned.
    fn store(&mut self, i: &Insn, address: Self::V, width: Width, value: Self::V) -> Result<(), Self::Exit>;
    /// Atomically applies `op`; the old value, sign-extended. `i.aq()` and `i.rl()` order it.
    fn amo(
        &mut self,
        i: &Insn,
        op: AmoOp,
        address: Self::V,
        width: Width,
        value: Self::V,
    ) -> Result<Self::V, Self::Exit>;
    /// Atomically stores `new` if the old value equals the low bits of `expected`; the old value, sign-extended
    /// (Zacas).
    fn compare_and_swap(
        &mut self,
        i: &Insn,
        address: Self::V,
        width: Width,
        expected: Self::V,
        new: Self::V,
    ) -> Result<Self::V, Self::Exit>;
    /// Atomically stores the two doublewords of `new` if the old ones equal `expected`; the old ones (Zacas). The first
    /// is at the lower address.
    fn compare_and_swap_pair(
        &mut self,
        i: &Insn,
        address: Self::V,
        expected: [Self::V; 2],
        new: [Self::V; 2],
    ) -> Result<[Self::V; 2], Self::Exit>;
    /// Loads, sign-extended, and makes a reservation.
    fn load_reserved(&mut self, i: &Insn, address: Self::V, width: Width) -> Result<Self::V, Self::Exit>;
    /// Stores if the reservation holds; 0 on success, 1 on failure.
    fn store_conditional(
        &mut self,
        i: &Insn,
        address: Self::V,
        width: Width,
        value: Self::V,
    ) -> Result<Self::V, Self::Exit>;
    /// Orders memory accesses as the `fence` instruction `i` says.
    fn fence(&mut self, i: &Insn);

    /// Goes to the address of `i` plus `offset` if c is non-zero, else to the next instruction. Without compressed
    /// instructions a misaligned target traps; so a link register is written after this, not before.
    fn branch(&mut self, i: &Insn, c: Self::V, offset: i64) -> Result<(), Self::Exit>;
    /// Goes to the address of `i` plus `offset`; traps as [`Ops::branch`] does.
    fn jump(&mut self, i: &Insn, offset: i64) -> Result<(), Self::Exit>;
    /// Goes to the address `target`, whose lowest bit is clear; traps as [`Ops::branch`] does.
    fn jump_indirect(&mut self, i: &Insn, target: Self::V) -> Result<(), Self::Exit>;

    /// A floating-point operation on bits of `format` (unused operands are ignored). See [`FloatOp`].
    fn float(&mut self, i: &Insn, op: FloatOp, format: Format, operands: [Self::V; 3]) -> Self::V;

    /// Runs `helper` on the whole hart: what is not worth writing in primitive operations.
    fn call(&mut self, i: &Insn, helper: Helper) -> Result<(), Self::Exit>;
}
