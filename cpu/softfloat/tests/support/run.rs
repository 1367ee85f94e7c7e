//! Runs an operation over many cases before all judges.

use softfloat::{F16, F32, F64, Format, Rounding};

use super::cases::Cases;
use super::exact;
use super::operation::{Operation, perform};

/// A format and its judges.
pub trait Judged: Format {
    const NAME: &'static str;
    const PARAMETERS: exact::Parameters;

    fn berkeley(operation: Operation, case: [u64; 3], rounding: Rounding) -> Option<(u64, u8)>;
}

macro_rules! judged {
    ($($format:ident, $parameters:ident;)*) => {$(
        impl Judged for $format {
            const NAME: &'static str = stringify!($format);
            const PARAMETERS: exact::Parameters = exact::$parameters;

            #[cfg(berkeley)]
            #[inline]
            fn berkeley(operation: Operation, case: [u64; 3], rounding: Rounding) -> Option<(u64, u8)> {
                super::berkeley::judge::<$format>(operation, case, rounding)
            }

            #[cfg(not(berkeley))]
            fn berkeley(_: Operation, _: [u64; 3], _: Rounding) -> Option<(u64, u8)> {
                None
            }
        }
    )*};
}

judged! {
    F16, HALF;
    F32, SINGLE;
    F64, DOUBLE;
}

/// What a run has compared.
#[derive(Clone, Copy, Default)]
pub struct Tally {
    /// Cases that the crate answered.
    pub cases: u64,
    /// Of these, judged by Berkeley SoftFloat too; the exact judge saw all.
    pub berkeley: u64,
}

/// Operations that exist for the format.
pub fn operations<F: Judged>() -> impl Iterator<Item = Operation> {
    Operation::ALL.into_iter().filter(|operation| match operation {
        Operation::ToF16 => F::NAME != F16::NAME,
        Operation::ToF32 => F::NAME != F32::NAME,
        Operation::ToF64 => F::NAME != F64::NAME,
        Operation::ToI32Modular => F::NAME == F64::NAME,
        _ => true,
    })
}

fn compare<F: Judged>(
    operation: Operation,
    rounding: Rounding,
    case: [u64; 3],
    tally: &mut Tally,
) -> Result<(), String> {
    let answer = perform::<F>(operation, case, rounding);
    tally.cases += 1;
    let outside = F::berkeley(operation, case, rounding);
    tally.berkeley += u64::from(outside.is_some());
    let exact = exact::judge(F::PARAMETERS, operation, case, rounding);
    for (judge, expected) in [("Berkeley SoftFloat", outside), ("exact arithmetic", Some(exact))] {
        if let Some(expected) = expected
            && answer != expected
        {
            return Err(format!(
                "{} {operation:?} {rounding:?} of {case:#x?}: {:#x} with flags {:05b}, {judge} says {:#x} with {:05b}",
                F::NAME,
                answer.0,
                answer.1,
                expected.0,
                expected.1,
            ));
        }
    }
    Ok(())
}

/// `count` generated cases in one mode; the first mismatch as an error.
pub fn random<F: Judged>(operation: Operation, rounding: Rounding, count: u64, seed: u64) -> Result<Tally, String> {
    let mut tally = Tally::default();
    let mut cases = Cases::<F>::new(seed);
    for _ in 0..count {
        let case = if operation.takes_integer() { cases.integers() } else { cases.operands() };
        compare::<F>(operation, rounding, case, &mut tally)?;
    }
    Ok(tally)
}

/// Every encoding of half precision, for an operation of one operand.
#[allow(dead_code, reason = "only the test walks through all of half precision")]
pub fn every_half(operation: Operation, rounding: Rounding) -> Result<Tally, String> {
    let mut tally = Tally::default();
    for a in 0..=u64::from(u16::MAX) {
        compare::<F16>(operation, rounding, [a, 0, 0], &mut tally)?;
    }
    Ok(tally)
}
