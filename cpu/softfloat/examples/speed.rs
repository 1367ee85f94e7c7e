//! Nanoseconds per operation, on independent random operands near 1 in magnitude: signs and alignments do not repeat.

use std::hint::black_box;
use std::time::Instant;

use softfloat::*;

const OPERANDS: usize = 1024;
const ROUNDS: usize = 4000;

fn time(name: &str, operands: &[[u64; 3]], mut operation: impl FnMut([u64; 3], &mut Flags) -> u64) {
    let mut flags = Flags::NONE;
    let start = Instant::now();
    for _ in 0..ROUNDS {
        for &operands in operands {
            black_box(operation(black_box(operands), &mut flags));
        }
    }
    let each = start.elapsed().as_nanos() as f64 / (ROUNDS * operands.len()) as f64;
    println!("{name:<12} {each:6.1} ns");
    black_box(flags);
}

fn format<F: Format>(name: &str) {
    // Finite numbers between 2^-8 and 2^8 with all fraction bits in use; a multiplicative generator suffices.
    let mut state = 1u64;
    let mut operand = || {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        let exponent = F::BIAS as u64 - 8 + (state >> 60);
        (state >> 8 & F::SIGN) | exponent << F::FRACTION_BITS | state >> 10 & F::FRACTION
    };
    let operands: Vec<_> = (0..OPERANDS).map(|_| [operand(), operand(), operand()]).collect();
    let positive: Vec<_> = operands.iter().map(|x| x.map(|x| x & F::MAGNITUDE)).collect();
    let rounding = black_box(Rounding::NearestEven);
    println!("{name}");
    time("add", &operands, |[a, b, _], flags| add::<F>(a, b, rounding, flags));
    time("mul", &operands, |[a, b, _], flags| mul::<F>(a, b, rounding, flags));
    time("mul_add", &operands, |[a, b, c], flags| mul_add::<F>(a, b, c, rounding, flags));
    time("div", &operands, |[a, b, _], flags| div::<F>(a, b, rounding, flags));
    time("sqrt", &positive, |[a, ..], flags| sqrt::<F>(a, rounding, flags));
    time("lt", &operands, |[a, b, _], flags| lt::<F>(a, b, flags).into());
    time("minimum", &operands, |[a, b, _], flags| minimum_number::<F>(a, b, flags));
    time("to_i64", &operands, |[a, ..], flags| to_i64::<F>(a, rounding, flags) as u64);
    time("from_i64", &operands, |[a, ..], flags| from_i64::<F>(a as i64, rounding, flags));
    time("to f32", &operands, |[a, ..], flags| convert::<F, F32>(a, rounding, flags));
    time("to f64", &operands, |[a, ..], flags| convert::<F, F64>(a, rounding, flags));
    time("integral", &operands, |[a, ..], flags| round_to_integral::<F>(a, rounding, flags));
}

fn main() {
    format::<F16>("half");
    format::<F32>("single");
    format::<F64>("double");
}
