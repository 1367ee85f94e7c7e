//! The operations under test, and how the crate performs them on one case.

use softfloat::*;

/// An operation on values of one format; the operands are the leading ones of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Add,
    Sub,
    Mul,
    Div,
    Sqrt,
    MulAdd,
    RoundToIntegral,
    RoundToIntegralExact,
    ToF16,
    ToF32,
    ToF64,
    ToI32,
    ToU32,
    ToI64,
    ToU64,
    FromI32,
    FromU32,
    FromI64,
    FromU64,
    MinimumNumber,
    MaximumNumber,
    Minimum,
    Maximum,
    Eq,
    Lt,
    Le,
    LtQuiet,
    LeQuiet,
    Sgnj,
    Sgnjn,
    Sgnjx,
    Classify,
    /// Double precision only.
    ToI32Modular,
}

use Operation::*;

impl Operation {
    pub const ALL: [Self; 33] = [
        Add,
        Sub,
        Mul,
        Div,
        Sqrt,
        MulAdd,
        RoundToIntegral,
        RoundToIntegralExact,
        ToF16,
        ToF32,
        ToF64,
        ToI32,
        ToU32,
        ToI64,
        ToU64,
        FromI32,
        FromU32,
        FromI64,
        FromU64,
        MinimumNumber,
        MaximumNumber,
        Minimum,
        Maximum,
        Eq,
        Lt,
        Le,
        LtQuiet,
        LeQuiet,
        Sgnj,
        Sgnjn,
        Sgnjx,
        Classify,
        ToI32Modular,
    ];

    pub fn takes_integer(self) -> bool {
        matches!(self, FromI32 | FromU32 | FromI64 | FromU64)
    }

    /// Whether the operation takes one operand, so that all of half precision can be walked through.
    pub fn is_unary(self) -> bool {
        use Operation::*;
        matches!(self, Sqrt | RoundToIntegral | RoundToIntegralExact | Classify | ToI32Modular)
            || matches!(self, ToF16 | ToF32 | ToF64 | ToI32 | ToU32 | ToI64 | ToU64)
    }

    /// The modes in which to try the operation: one, where it takes none.
    pub fn roundings(self) -> &'static [Rounding] {
        match self {
            MinimumNumber | MaximumNumber | Minimum | Maximum | Eq | Lt | Le | LtQuiet | LeQuiet | Sgnj | Sgnjn
            | Sgnjx | Classify | ToI32Modular => &Rounding::ALL[..1],
            _ => &Rounding::ALL,
        }
    }
}

/// What the crate answers: result and `fflags`. Integers are in two's complement.
#[inline]
pub fn perform<F: Format>(operation: Operation, [a, b, c]: [u64; 3], rounding: Rounding) -> (u64, u8) {
    let mut raised = Flags::NONE;
    let flags = &mut raised;
    let result = match operation {
        Add => add::<F>(a, b, rounding, flags),
        Sub => sub::<F>(a, b, rounding, flags),
        Mul => mul::<F>(a, b, rounding, flags),
        Div => div::<F>(a, b, rounding, flags),
        Sqrt => sqrt::<F>(a, rounding, flags),
        MulAdd => mul_add::<F>(a, b, c, rounding, flags),
        RoundToIntegral => round_to_integral::<F>(a, rounding, flags),
        RoundToIntegralExact => round_to_integral_exact::<F>(a, rounding, flags),
        ToF16 => convert::<F, F16>(a, rounding, flags),
        ToF32 => convert::<F, F32>(a, rounding, flags),
        ToF64 => convert::<F, F64>(a, rounding, flags),
        ToI32 => to_i32::<F>(a, rounding, flags) as u64,
        ToU32 => to_u32::<F>(a, rounding, flags).into(),
        ToI64 => to_i64::<F>(a, rounding, flags) as u64,
        ToU64 => to_u64::<F>(a, rounding, flags),
        FromI32 => from_i32::<F>(a as i32, rounding, flags),
        FromU32 => from_u32::<F>(a as u32, rounding, flags),
        FromI64 => from_i64::<F>(a as i64, rounding, flags),
        FromU64 => from_u64::<F>(a, rounding, flags),
        MinimumNumber => minimum_number::<F>(a, b, flags),
        MaximumNumber => maximum_number::<F>(a, b, flags),
        Minimum => minimum::<F>(a, b, flags),
        Maximum => maximum::<F>(a, b, flags),
        Eq => eq::<F>(a, b, flags).into(),
        Lt => lt::<F>(a, b, flags).into(),
        Le => le::<F>(a, b, flags).into(),
        LtQuiet => lt_quiet::<F>(a, b, flags).into(),
        LeQuiet => le_quiet::<F>(a, b, flags).into(),
        Sgnj => sgnj::<F>(a, b),
        Sgnjn => sgnjn::<F>(a, b),
        Sgnjx => sgnjx::<F>(a, b),
        Classify => classify::<F>(a),
        ToI32Modular => to_i32_modular(a, flags) as u64,
    };
    (result, raised.bits())
}
