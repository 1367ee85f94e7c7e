//! Compares every operation, format and rounding mode with independent judges, a million cases each or as many as the
//! argument says; a second argument is the seed. Prints a line per operation and format, exits with 1 on a mismatch.
//!
//! Exact arithmetic is a judge everywhere. `RUSTFLAGS="--cfg berkeley"` adds Berkeley SoftFloat, on x86-64 Linux with a
//! C compiler and CMake.

#[path = "../tests/support/mod.rs"]
mod support;

use std::process::ExitCode;
use std::thread;

use softfloat::{F16, F32, F64};
use support::run::{Judged, operations, random};

/// All operations of a format; whether all judges agreed.
fn all_operations<F: Judged>(count: u64, seed: u64) -> bool {
    let mut agreed = true;
    for operation in operations::<F>() {
        let (mut cases, mut berkeley) = (0, 0);
        for &rounding in operation.roundings() {
            match random::<F>(operation, rounding, count, seed ^ (operation as u64) << 32 ^ (rounding as u64) << 40) {
                Ok(tally) => {
                    cases += tally.cases;
                    berkeley += tally.berkeley;
                }
                Err(mismatch) => {
                    println!("{mismatch}");
                    agreed = false;
                }
            }
        }
        let name = format!("{operation:?}");
        println!("{} {name:<20} {cases:>9} cases, exact judge {cases:>9}, Berkeley SoftFloat {berkeley:>9}", F::NAME);
    }
    agreed
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse::<u64>());
    let (Ok(count), Ok(seed)) = (arguments.next().unwrap_or(Ok(1_000_000)), arguments.next().unwrap_or(Ok(1))) else {
        eprintln!("usage: million [CASES [SEED]]");
        return ExitCode::from(2);
    };
    let agreed = thread::scope(|scope| {
        let formats = [
            scope.spawn(|| all_operations::<F16>(count, seed)),
            scope.spawn(|| all_operations::<F32>(count, seed)),
            scope.spawn(|| all_operations::<F64>(count, seed)),
        ];
        formats.map(|format| format.join().is_ok_and(|agreed| agreed))
    });
    if agreed == [true; 3] {
        println!("no mismatch");
        ExitCode::SUCCESS
    } else {
        println!("MISMATCH");
        ExitCode::FAILURE
    }
}
