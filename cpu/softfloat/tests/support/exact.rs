//! A judge by definition: the exact result as an unbounded integer times a power of two, then rounded as IEEE 754-2008
//! §4.3 and §7 define it. Slow on purpose; shares neither code nor constants with the crate.

use std::cmp::Ordering;

use num_bigint::BigUint;
use softfloat::Rounding;

use super::operation::Operation::{self, *};

const NX: u8 = 1;
const UF: u8 = 2;
const OF: u8 = 4;
const DZ: u8 = 8;
const NV: u8 = 16;

/// A format by its parameters (IEEE 754-2008 table 3.5): precision p with the implicit bit, and emax.
#[derive(Clone, Copy, Debug)]
pub struct Parameters {
    width: u32,
    p: i64,
    emax: i64,
}

pub const HALF: Parameters = Parameters { width: 16, p: 11, emax: 15 };
pub const SINGLE: Parameters = Parameters { width: 32, p: 24, emax: 127 };
pub const DOUBLE: Parameters = Parameters { width: 64, p: 53, emax: 1023 };

impl Parameters {
    fn emin(self) -> i64 {
        1 - self.emax
    }

    fn infinity(self) -> u64 {
        (2 * self.emax as u64 + 1) << (self.p - 1)
    }

    fn nan(self) -> u64 {
        self.infinity() | 1 << (self.p - 2)
    }

    fn signed(self, negative: bool, magnitude: u64) -> u64 {
        magnitude | u64::from(negative) << (self.width - 1)
    }

    fn decode(self, bits: u64) -> (bool, Datum) {
        let bits = bits & (u64::MAX >> (64 - self.width));
        let negative = bits >> (self.width - 1) == 1;
        let magnitude = self.signed(negative, 0) ^ bits;
        let fraction = magnitude % (1 << (self.p - 1));
        let datum = match (magnitude >> (self.p - 1)) as i64 {
            e if e == 2 * self.emax + 1 && fraction == 0 => Datum::Infinite,
            e if e == 2 * self.emax + 1 => Datum::Nan { signaling: fraction < 1 << (self.p - 2) },
            0 => Datum::Finite(Exact::new(fraction, self.emin() - (self.p - 1))),
            e => Datum::Finite(Exact::new(fraction + (1 << (self.p - 1)), e - self.emax - (self.p - 1))),
        };
        (negative, datum)
    }

    /// The delivered result and its flags for a number that is not zero.
    fn round(self, negative: bool, exact: &Exact, rounding: Rounding) -> (u64, u8) {
        // "as if the exponent range were unbounded": precision p, for tininess after rounding.
        let unbounded_unit = exact.floor_log2() - (self.p - 1);
        let (integer, _) = exact.to_multiple_of(unbounded_unit, negative, rounding);
        let tiny = floor_log2(integer) + unbounded_unit < self.emin();

        let unit = unbounded_unit.max(self.emin() - (self.p - 1));
        let (mut integer, inexact) = exact.to_multiple_of(unit, negative, rounding);
        let mut flags = if inexact { NX } else { 0 };
        if tiny && inexact {
            flags |= UF;
        }
        let mut exponent = unit + self.p - 1;
        if integer == 1 << self.p {
            integer >>= 1;
            exponent += 1;
        }
        if exponent > self.emax {
            let finite = match rounding {
                Rounding::TowardZero => true,
                Rounding::Down => !negative,
                Rounding::Up => negative,
                Rounding::NearestEven | Rounding::NearestMaxMagnitude => false,
            };
            return (self.signed(negative, self.infinity() - u64::from(finite)), OF | NX);
        }
        let fraction = integer % (1 << (self.p - 1));
        let field = if integer == fraction { 0 } else { (exponent + self.emax) as u64 };
        (self.signed(negative, field << (self.p - 1) | fraction), flags)
    }
}

fn floor_log2(integer: u64) -> i64 {
    63 - i64::from(integer.leading_zeros())
}

enum Datum {
    Finite(Exact),
    Infinite,
    Nan { signaling: bool },
}

/// significand × 2^exponent, or with `beyond` a number between that and the next multiple of 2^exponent.
#[derive(Clone)]
struct Exact {
    significand: BigUint,
    exponent: i64,
    beyond: bool,
}

impl Exact {
    fn new(significand: impl Into<BigUint>, exponent: i64) -> Self {
        Self { significand: significand.into(), exponent, beyond: false }
    }

    fn is_zero(&self) -> bool {
        self.significand.bits() == 0
    }

    fn floor_log2(&self) -> i64 {
        self.significand.bits() as i64 - 1 + self.exponent
    }

    /// The significand for a lower exponent.
    fn significand_at(&self, exponent: i64) -> BigUint {
        &self.significand << (self.exponent - exponent) as u64
    }

    fn aligned(&self, other: &Self) -> (BigUint, BigUint, i64) {
        let exponent = self.exponent.min(other.exponent);
        (self.significand_at(exponent), other.significand_at(exponent), exponent)
    }

    fn compare(&self, other: &Self) -> Ordering {
        let (a, b, _) = self.aligned(other);
        a.cmp(&b)
    }

    /// Rounds to an integer multiple of 2^unit; the integer (which must fit), and whether it is inexact.
    fn to_multiple_of(&self, unit: i64, negative: bool, rounding: Rounding) -> (u64, bool) {
        if unit <= self.exponent {
            assert!(!self.beyond, "too few bits to round");
            return (self.significand_at(unit).try_into().unwrap(), false);
        }
        let discarded = (unit - self.exponent) as u64;
        let below = &self.significand >> discarded;
        let remainder = &self.significand - (&below << discarded);
        let below: u64 = below.try_into().unwrap();
        let inexact = self.beyond || remainder.bits() != 0;
        let half = BigUint::from(1u8) << (discarded - 1);
        let against_half = remainder.cmp(&half).then(if self.beyond { Ordering::Greater } else { Ordering::Equal });
        let next = match (rounding, against_half) {
            (Rounding::TowardZero, _) => false,
            (Rounding::Down, _) => negative && inexact,
            (Rounding::Up, _) => !negative && inexact,
            (_, Ordering::Less) => false,
            (_, Ordering::Greater) => true,
            (Rounding::NearestEven, Ordering::Equal) => below % 2 == 1,
            (Rounding::NearestMaxMagnitude, Ordering::Equal) => true,
        };
        (below + u64::from(next), inexact)
    }
}

type Signed = (bool, Exact);

fn sum(format: Parameters, a: Signed, b: Signed, rounding: Rounding) -> (u64, u8) {
    let (x, y, exponent) = a.1.aligned(&b.1);
    let (negative, total) = match (a.0 == b.0, x.cmp(&y)) {
        (true, _) => (a.0, x + y),
        (false, Ordering::Greater) => (a.0, x - y),
        (false, _) => (b.0, y - x),
    };
    if total.bits() == 0 {
        // §6.3: a zero sum of unlike signs is +0, −0 under roundTowardNegative.
        let negative = if a.0 == b.0 { a.0 } else { rounding == Rounding::Down };
        return (format.signed(negative, 0), 0);
    }
    format.round(negative, &Exact::new(total, exponent), rounding)
}

fn quotient(format: Parameters, a: Signed, b: Signed, rounding: Rounding) -> (u64, u8) {
    let negative = a.0 != b.0;
    match (a.1.is_zero(), b.1.is_zero()) {
        (true, true) => return (format.nan(), NV),
        (true, false) => return (format.signed(negative, 0), 0),
        (false, true) => return (format.signed(negative, format.infinity()), DZ),
        (false, false) => {}
    }
    const MORE: i64 = 128;
    let dividend = &a.1.significand << MORE as u64;
    let integer = &dividend / &b.1.significand;
    let beyond = &integer * &b.1.significand != dividend;
    let exact = Exact { significand: integer, exponent: a.1.exponent - MORE - b.1.exponent, beyond };
    format.round(negative, &exact, rounding)
}

fn square_root(format: Parameters, (negative, a): Signed, rounding: Rounding) -> (u64, u8) {
    if a.is_zero() {
        return (format.signed(negative, 0), 0);
    }
    if negative {
        return (format.nan(), NV);
    }
    let exponent = (a.exponent - 140).div_euclid(2);
    let radicand = a.significand_at(2 * exponent);
    let root = radicand.sqrt();
    let beyond = &root * &root != radicand;
    format.round(false, &Exact { significand: root, exponent, beyond }, rounding)
}

/// Clipping conversion of a number or, without one, of an infinity.
fn integer(negative: bool, a: Option<&Exact>, rounding: Rounding, lowest: i128, highest: i128) -> (u64, u8) {
    if let Some(a) = a
        && (a.is_zero() || a.floor_log2() < 64)
        // 2^64 − 1/2 may round to 2^64: leave room by asking for 2^63 at most in one piece.
        && let (magnitude, inexact) = half_units(a, negative, rounding)
        && let value = if negative { -magnitude } else { magnitude }
        && (lowest..=highest).contains(&value)
    {
        return (value as u64, if inexact { NX } else { 0 });
    }
    ((if negative { lowest } else { highest }) as u64, NV)
}

/// |a| rounded to an integer, for |a| < 2^64.
fn half_units(a: &Exact, negative: bool, rounding: Rounding) -> (i128, bool) {
    if a.exponent >= 0 {
        return (u64::try_from(a.significand_at(0)).unwrap().into(), false);
    }
    let (magnitude, inexact) = a.to_multiple_of(0, negative, rounding);
    (magnitude.into(), inexact)
}

fn integral(format: Parameters, bits: u64, negative: bool, a: &Exact, rounding: Rounding) -> (u64, bool) {
    if a.exponent >= 0 {
        return (bits, false);
    }
    let (magnitude, inexact) = a.to_multiple_of(0, negative, rounding);
    if magnitude == 0 {
        return (format.signed(negative, 0), inexact);
    }
    let (encoded, flags) = format.round(negative, &Exact::new(magnitude, 0), rounding);
    assert_eq!(flags, 0, "an integer below 2^p is representable");
    (encoded, inexact)
}

fn class(format: Parameters, negative: bool, a: &Datum) -> u64 {
    match (negative, a) {
        (true, Datum::Infinite) => 1 << 0,
        (true, Datum::Finite(x)) if x.is_zero() => 1 << 3,
        (false, Datum::Finite(x)) if x.is_zero() => 1 << 4,
        (true, Datum::Finite(x)) if x.floor_log2() >= format.emin() => 1 << 1,
        (true, Datum::Finite(_)) => 1 << 2,
        (false, Datum::Finite(x)) if x.floor_log2() >= format.emin() => 1 << 6,
        (false, Datum::Finite(_)) => 1 << 5,
        (false, Datum::Infinite) => 1 << 7,
        (_, Datum::Nan { signaling: true }) => 1 << 8,
        (_, Datum::Nan { signaling: false }) => 1 << 9,
    }
}

/// The order of two values that are no NaNs; zeros are equal.
fn compare((a_negative, a): &(bool, Datum), (b_negative, b): &(bool, Datum)) -> Ordering {
    let magnitudes = match (a, b) {
        (Datum::Finite(a), Datum::Finite(b)) if a.is_zero() && b.is_zero() => return Ordering::Equal,
        (Datum::Finite(a), Datum::Finite(b)) => a.compare(b),
        (Datum::Infinite, Datum::Infinite) => Ordering::Equal,
        (Datum::Infinite, _) => Ordering::Greater,
        _ => Ordering::Less,
    };
    match (a_negative, b_negative) {
        (false, false) => magnitudes,
        (true, true) => magnitudes.reverse(),
        (true, false) => Ordering::Less,
        (false, true) => Ordering::Greater,
    }
}

/// The result and `fflags` of an operation on `format`.
pub fn judge(format: Parameters, operation: Operation, case: [u64; 3], rounding: Rounding) -> (u64, u8) {
    if operation.takes_integer() {
        let value = match operation {
            FromI32 => i128::from(case[0] as i32),
            FromU32 => i128::from(case[0] as u32),
            FromI64 => i128::from(case[0] as i64),
            _ => i128::from(case[0]),
        };
        if value == 0 {
            return (0, 0);
        }
        return format.round(value < 0, &Exact::new(value.unsigned_abs(), 0), rounding);
    }
    let [a_bits, b_bits, _] = case.map(|bits| bits & (u64::MAX >> (64 - format.width)));
    let sign = format.signed(true, 0);
    match operation {
        Sgnj => return (a_bits & !sign | b_bits & sign, 0),
        Sgnjn => return (a_bits & !sign | !b_bits & sign, 0),
        Sgnjx => return (a_bits ^ b_bits & sign, 0),
        _ => {}
    }

    let operands = match operation {
        MulAdd => 3,
        _ if operation.is_unary() => 1,
        _ => 2,
    };
    let [a, mut b, c] = case.map(|bits| format.decode(bits));
    if operation == Classify {
        return (class(format, a.0, &a.1), 0);
    }
    let all = [&a.1, &b.1, &c.1];
    let nans = all[..operands].iter().filter(|x| matches!(x, Datum::Nan { .. })).count();
    let signaling = all[..operands].iter().any(|x| matches!(x, Datum::Nan { signaling: true }));
    let invalid = if signaling { NV } else { 0 };

    let is_zero = |x: &Datum| matches!(x, Datum::Finite(x) if x.is_zero());
    let is_infinite = |x: &Datum| matches!(x, Datum::Infinite);
    let zero_by_infinity = (is_zero(&a.1) && is_infinite(&b.1)) || (is_infinite(&a.1) && is_zero(&b.1));

    if nans > 0 {
        let a_is_nan = matches!(a.1, Datum::Nan { .. });
        return match operation {
            Eq | LtQuiet | LeQuiet => (0, invalid),
            Lt | Le => (0, NV),
            MinimumNumber | MaximumNumber if nans == 1 => (if a_is_nan { b_bits } else { a_bits }, invalid),
            MulAdd if zero_by_infinity => (format.nan(), NV),
            ToI32 => (i32::MAX as u64, NV),
            ToU32 => (u32::MAX.into(), NV),
            ToI64 => (i64::MAX as u64, NV),
            ToU64 => (u64::MAX, NV),
            ToI32Modular => (0, NV),
            ToF16 => (HALF.nan(), invalid),
            ToF32 => (SINGLE.nan(), invalid),
            ToF64 => (DOUBLE.nan(), invalid),
            _ => (format.nan(), invalid),
        };
    }

    match operation {
        Eq | Lt | Le | LtQuiet | LeQuiet => {
            let order = compare(&a, &b);
            let holds = match operation {
                Eq => order.is_eq(),
                Lt | LtQuiet => order.is_lt(),
                _ => order.is_le(),
            };
            return (holds.into(), 0);
        }
        MinimumNumber | Minimum | MaximumNumber | Maximum => {
            // −0 is less than +0 here: among equals the negative one is the smaller.
            let order = compare(&a, &b).then(b.0.cmp(&a.0));
            let wants_smaller = matches!(operation, MinimumNumber | Minimum);
            return (if order.is_lt() == wants_smaller { a_bits } else { b_bits }, 0);
        }
        Sub => b.0 = !b.0,
        _ => {}
    }

    let infinity = |negative| (format.signed(negative, format.infinity()), 0);
    let nan = (format.nan(), NV);
    let (lowest, highest) = match operation {
        ToI32 | ToI32Modular => (i32::MIN.into(), i32::MAX.into()),
        ToU32 => (0, u32::MAX.into()),
        ToI64 => (i64::MIN.into(), i64::MAX.into()),
        _ => (0, u64::MAX.into()),
    };
    match (operation, a, b, c) {
        (Add | Sub, (s, Datum::Infinite), (t, Datum::Infinite), _) => {
            if s == t {
                infinity(s)
            } else {
                nan
            }
        }
        (Add | Sub, (s, Datum::Infinite), ..) | (Add | Sub, _, (s, Datum::Infinite), _) => infinity(s),
        (Add | Sub, (s, Datum::Finite(x)), (t, Datum::Finite(y)), _) => sum(format, (s, x), (t, y), rounding),

        (Mul | MulAdd, ..) if zero_by_infinity => nan,
        (Mul, (s, Datum::Finite(x)), (t, Datum::Finite(y)), _) => {
            let product = Exact::new(x.significand * y.significand, x.exponent + y.exponent);
            if product.is_zero() { (format.signed(s != t, 0), 0) } else { format.round(s != t, &product, rounding) }
        }
        (Mul, (s, _), (t, _), _) => infinity(s != t),

        (MulAdd, (s, Datum::Finite(x)), (t, Datum::Finite(y)), (u, Datum::Finite(z))) => {
            let product = Exact::new(x.significand * y.significand, x.exponent + y.exponent);
            sum(format, (s != t, product), (u, z), rounding)
        }
        (MulAdd, (_, Datum::Finite(_)), (_, Datum::Finite(_)), (u, _)) => infinity(u),
        (MulAdd, (s, _), (t, _), (u, Datum::Infinite)) => {
            if u == (s != t) {
                infinity(u)
            } else {
                nan
            }
        }
        (MulAdd, (s, _), (t, _), _) => infinity(s != t),

        (Div, (_, Datum::Infinite), (_, Datum::Infinite), _) => nan,
        (Div, (s, Datum::Infinite), (t, _), _) => infinity(s != t),
        (Div, (s, _), (t, Datum::Infinite), _) => (format.signed(s != t, 0), 0),
        (Div, (s, Datum::Finite(x)), (t, Datum::Finite(y)), _) => quotient(format, (s, x), (t, y), rounding),

        (Sqrt, (s, Datum::Finite(x)), ..) => square_root(format, (s, x), rounding),
        (Sqrt, (s, _), ..) => {
            if s {
                nan
            } else {
                infinity(false)
            }
        }

        (RoundToIntegral, (s, Datum::Finite(x)), ..) => (integral(format, a_bits, s, &x, rounding).0, 0),
        (RoundToIntegralExact, (s, Datum::Finite(x)), ..) => {
            let (result, inexact) = integral(format, a_bits, s, &x, rounding);
            (result, if inexact { NX } else { 0 })
        }
        (RoundToIntegral | RoundToIntegralExact, (s, _), ..) => infinity(s),

        (ToF16 | ToF32 | ToF64, (s, x), ..) => {
            let target = match operation {
                ToF16 => HALF,
                ToF32 => SINGLE,
                _ => DOUBLE,
            };
            match x {
                Datum::Finite(x) if x.is_zero() => (target.signed(s, 0), 0),
                Datum::Finite(x) => target.round(s, &x, rounding),
                _ => (target.signed(s, target.infinity()), 0),
            }
        }

        (ToI32 | ToU32 | ToI64 | ToU64, (s, Datum::Finite(x)), ..) => integer(s, Some(&x), rounding, lowest, highest),
        (ToI32 | ToU32 | ToI64 | ToU64, (s, _), ..) => integer(s, None, rounding, lowest, highest),
        (ToI32Modular, (s, Datum::Finite(x)), ..) => {
            let (_, flags) = integer(s, Some(&x), Rounding::TowardZero, lowest, highest);
            let truncated = if x.exponent >= 0 { x.significand_at(0) } else { &x.significand >> (-x.exponent) as u64 };
            let low: u32 = (truncated % (1u64 << 32)).try_into().unwrap();
            ((if s { low.wrapping_neg() } else { low }) as i32 as u64, flags)
        }
        (ToI32Modular, ..) => (0, NV),
        (operation, ..) => unreachable!("{operation:?} is answered above"),
    }
}
