//! Every operation, format and rounding mode before independent judges. `cargo run --release -p softfloat --example
//! million` is the same with more cases.

mod support;

use softfloat::{F16, F32, F64};
use support::run::{Judged, every_half, operations, random};

/// Cases per operation, format and rounding mode.
const CASES: u64 = 50_000;

fn all_operations<F: Judged>() {
    let mut berkeley = 0;
    for (seed, operation) in operations::<F>().enumerate() {
        for &rounding in operation.roundings() {
            match random::<F>(operation, rounding, CASES, seed as u64) {
                Ok(tally) => {
                    assert_eq!(tally.cases, CASES);
                    berkeley += tally.berkeley;
                }
                Err(mismatch) => panic!("{mismatch}"),
            }
        }
    }
    // No judge may drop out unseen: 23 of a format's operations are Berkeley SoftFloat's, 18 of them in five modes.
    if cfg!(berkeley) {
        assert_eq!(berkeley, (18 * 5 + 5) * CASES);
    }
}

#[test]
fn half_precision() {
    all_operations::<F16>();
}

#[test]
fn single_precision() {
    all_operations::<F32>();
}

#[test]
fn double_precision() {
    all_operations::<F64>();
}

#[test]
fn every_half_precision_operand() {
    for operation in operations::<F16>().filter(|operation| operation.is_unary()) {
        for &rounding in operation.roundings() {
            if let Err(mismatch) = every_half(operation, rounding) {
                panic!("{mismatch}");
            }
        }
    }
}
