//! A judge from outside: Berkeley SoftFloat 3e, compiled for RISC-V's choices (tininess after rounding, canonical NaNs,
//! RISC-V's integer clipping).

use softfloat::Rounding;
use softfloat_wrapper::{ExceptionFlags, F16, F32, F64, Float, RoundingMode};

use super::operation::Operation::{self, *};

/// The oracle's type for one of the crate's formats.
pub trait Oracle {
    type Value: Float;

    fn decode(bits: u64) -> Self::Value;
    fn encode(value: Self::Value) -> u64;
}

macro_rules! oracle {
    ($($format:ty => $value:ty, $payload:ty;)*) => {$(
        impl Oracle for $format {
            type Value = $value;

            fn decode(bits: u64) -> $value {
                <$value>::from_bits(bits as $payload)
            }

            fn encode(value: $value) -> u64 {
                value.to_bits().into()
            }
        }
    )*};
}

oracle! {
    softfloat::F16 => F16, u16;
    softfloat::F32 => F32, u32;
    softfloat::F64 => F64, u64;
}

/// The result and `fflags`; `None` where Berkeley SoftFloat has no such operation.
#[inline]
pub fn judge<O: Oracle>(operation: Operation, case: [u64; 3], rounding: Rounding) -> Option<(u64, u8)> {
    let mode = match rounding {
        Rounding::NearestEven => RoundingMode::TiesToEven,
        Rounding::TowardZero => RoundingMode::TowardZero,
        Rounding::Down => RoundingMode::TowardNegative,
        Rounding::Up => RoundingMode::TowardPositive,
        Rounding::NearestMaxMagnitude => RoundingMode::TiesToAway,
    };
    let integer = case[0];
    let [a, b, c] = case.map(O::decode);
    let mut flags = ExceptionFlags::default();
    flags.set();
    // The wrapper rounds to integers without the inexact flag.
    let mut inexact = 0;
    let result = match operation {
        Add => O::encode(a.add(b, mode)),
        Sub => O::encode(a.sub(b, mode)),
        Mul => O::encode(a.mul(b, mode)),
        Div => O::encode(a.div(b, mode)),
        Sqrt => O::encode(a.sqrt(mode)),
        MulAdd => O::encode(a.fused_mul_add(b, c, mode)),
        RoundToIntegral => O::encode(a.round_to_integral(mode)),
        RoundToIntegralExact => {
            let rounded = O::encode(a.round_to_integral(mode));
            if !a.is_nan() && rounded != O::encode(a) {
                inexact = 1;
            }
            rounded
        }
        ToF16 => a.to_f16(mode).to_bits().into(),
        ToF32 => a.to_f32(mode).to_bits().into(),
        ToF64 => a.to_f64(mode).to_bits(),
        ToI32 => a.to_i32(mode, true) as u64,
        ToU32 => a.to_u32(mode, true).into(),
        ToI64 => a.to_i64(mode, true) as u64,
        ToU64 => a.to_u64(mode, true),
        FromI32 => O::encode(O::Value::from_i32(integer as i32, mode)),
        FromU32 => O::encode(O::Value::from_u32(integer as u32, mode)),
        FromI64 => O::encode(O::Value::from_i64(integer as i64, mode)),
        FromU64 => O::encode(O::Value::from_u64(integer, mode)),
        Eq => a.eq(b).into(),
        Lt => a.lt(b).into(),
        Le => a.le(b).into(),
        LtQuiet => a.lt_quiet(b).into(),
        LeQuiet => a.le_quiet(b).into(),
        MinimumNumber | MaximumNumber | Minimum | Maximum | Sgnj | Sgnjn | Sgnjx | Classify | ToI32Modular => {
            return None;
        }
    };
    flags.get();
    Some((result, flags.to_bits() | inexact))
}
