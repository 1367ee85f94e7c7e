//! Floating-point arithmetic as it is defined: the exact result, rounded once (IEEE 754-2019, and the RISC-V
//! unprivileged specification for NaNs, boxing and conversions). Slow, and short enough to be read.

use num_bigint::BigUint;

/// Flags as in `fflags`.
pub(super) const INEXACT: u64 = 1;
pub(super) const UNDERFLOW: u64 = 2;
pub(super) const OVERFLOW: u64 = 4;
pub(super) const DIVIDE_BY_ZERO: u64 = 8;
pub(super) const INVALID: u64 = 16;

/// Rounding modes as in `frm`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Rounding {
    NearestEven,
    TowardsZero,
    Down,
    Up,
    NearestMaxMagnitude,
}

impl Rounding {
    pub const ALL: [Rounding; 5] =
        [Rounding::NearestEven, Rounding::TowardsZero, Rounding::Down, Rounding::Up, Rounding::NearestMaxMagnitude];

    pub fn name(self) -> &'static str {
        ["rne", "rtz", "rdn", "rup", "rmm"][self as usize]
    }

    /// Whether a magnitude goes up: it is odd; and what was cut off, compared to one half, and to zero.
    fn up(self, negative: bool, odd: bool, half: std::cmp::Ordering, inexact: bool) -> bool {
        match self {
            Rounding::NearestEven => half.is_gt() || half.is_eq() && odd,
            Rounding::TowardsZero => false,
            Rounding::Down => negative && inexact,
            Rounding::Up => !negative && inexact,
            Rounding::NearestMaxMagnitude => half.is_ge(),
        }
    }
}

/// A binary interchange format.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Format {
    pub exponent_bits: u32,
    pub fraction_bits: u32,
}

pub(super) const SINGLE: Format = Format { exponent_bits: 8, fraction_bits: 23 };
pub(super) const DOUBLE: Format = Format { exponent_bits: 11, fraction_bits: 52 };

/// Result and flags.
pub(super) type Flagged = (u64, u64);

/// A number: magnitude × 2^exponent.
#[derive(Clone, Debug)]
struct Finite {
    negative: bool,
    magnitude: BigUint,
    exponent: i64,
}

#[derive(Clone, Debug)]
enum Value {
    Nan { signaling: bool },
    Infinite { negative: bool },
    Finite(Finite),
}

impl Format {
    fn bits(self) -> u32 {
        1 + self.exponent_bits + self.fraction_bits
    }

    fn bias(self) -> i64 {
        (1 << (self.exponent_bits - 1)) - 1
    }

    fn exponent_mask(self) -> u64 {
        (1 << self.exponent_bits) - 1
    }

    /// Bits of a register that holds a value of the format: the upper ones are set.
    fn boxed(self, bits: u64) -> u64 {
        if self.bits() == 64 { bits } else { bits | u64::MAX << self.bits() }
    }

    /// The value in a register; not boxed properly it is the canonical NaN.
    pub fn unboxed(self, register: u64) -> u64 {
        if self.bits() == 64 {
            register
        } else if register >> self.bits() == u64::MAX >> self.bits() {
            register & ((1 << self.bits()) - 1)
        } else {
            self.exponent_mask() << self.fraction_bits | 1 << (self.fraction_bits - 1)
        }
    }

    pub fn nan(self) -> u64 {
        self.boxed(self.exponent_mask() << self.fraction_bits | 1 << (self.fraction_bits - 1))
    }

    fn infinity(self, negative: bool) -> u64 {
        self.boxed(u64::from(negative) << (self.bits() - 1) | self.exponent_mask() << self.fraction_bits)
    }

    fn zero(self, negative: bool) -> u64 {
        self.boxed(u64::from(negative) << (self.bits() - 1))
    }

    fn value(self, register: u64) -> Value {
        let bits = self.unboxed(register);
        let negative = bits >> (self.bits() - 1) & 1 != 0;
        let exponent = bits >> self.fraction_bits & self.exponent_mask();
        let fraction = bits & ((1 << self.fraction_bits) - 1);
        if exponent == self.exponent_mask() {
            return match fraction {
                0 => Value::Infinite { negative },
                _ => Value::Nan { signaling: fraction >> (self.fraction_bits - 1) == 0 },
            };
        }
        let (magnitude, exponent) =
            if exponent == 0 { (fraction, 1) } else { (fraction | 1 << self.fraction_bits, exponent) };
        let exponent = exponent as i64 - self.bias() - i64::from(self.fraction_bits);
        Value::Finite(Finite { negative, magnitude: magnitude.into(), exponent })
    }

    /// Rounds `number`, whose exact magnitude is a little larger if `sticky`.
    fn round(self, number: &Finite, sticky: bool, rounding: Rounding) -> Flagged {
        let Finite { negative, magnitude, exponent } = number;
        let length = magnitude.bits() as i64;
        if length == 0 {
            return (self.zero(*negative), 0);
        }
        let fraction_bits = i64::from(self.fraction_bits);
        let smallest = 1 - self.bias();
        let top = exponent + length - 1;
        let (mut rounded, mut unit, inexact) = cut(number, top.max(smallest) - fraction_bits, sticky, rounding);
        // Tininess is detected after rounding, as if the exponent had no limit.
        let (free, free_unit, _) = cut(number, top - fraction_bits, sticky, rounding);
        let tiny = free_unit + free.bits() as i64 - 1 < smallest;
        let mut flags = if inexact { INEXACT } else { 0 } | if tiny && inexact { UNDERFLOW } else { 0 };
        if rounded.bits() as i64 > fraction_bits + 1 {
            rounded >>= 1;
            unit += 1;
        }
        if rounded.bits() == 0 {
            return (self.zero(*negative), flags);
        }
        let digits = rounded.iter_u64_digits().next().unwrap_or(0);
        let sign = u64::from(*negative) << (self.bits() - 1);
        if (rounded.bits() as i64) <= fraction_bits {
            return (self.boxed(sign | digits), flags);
        }
        let biased = unit + fraction_bits + self.bias();
        if biased >= self.exponent_mask() as i64 {
            flags |= OVERFLOW | INEXACT;
            let to_infinity = rounding.up(*negative, true, std::cmp::Ordering::Greater, true);
            let largest = self.boxed(sign | ((self.exponent_mask() << self.fraction_bits) - 1));
            return (if to_infinity { self.infinity(*negative) } else { largest }, flags);
        }
        let fraction = digits & ((1 << self.fraction_bits) - 1);
        (self.boxed(sign | (biased as u64) << self.fraction_bits | fraction), flags)
    }

    pub fn add(self, a: u64, b: u64, rounding: Rounding) -> Flagged {
        self.add_values(self.value(a), self.value(b), rounding)
    }

    fn add_values(self, a: Value, b: Value, rounding: Rounding) -> Flagged {
        match (a, b) {
            (Value::Nan { signaling: s }, Value::Nan { signaling: t }) => self.invalid_if(s || t),
            (Value::Nan { signaling }, _) | (_, Value::Nan { signaling }) => self.invalid_if(signaling),
            (Value::Infinite { negative: m }, Value::Infinite { negative: n }) if m != n => self.invalid_if(true),
            (Value::Infinite { negative }, _) | (_, Value::Infinite { negative }) => (self.infinity(negative), 0),
            (Value::Finite(a), Value::Finite(b)) => {
                let sum = sum(&a, &b, rounding);
                self.round(&sum, false, rounding)
            }
        }
    }

    fn invalid_if(self, invalid: bool) -> Flagged {
        (self.nan(), if invalid { INVALID } else { 0 })
    }

    pub fn negate(self, register: u64) -> u64 {
        self.boxed(self.unboxed(register) ^ 1 << (self.bits() - 1))
    }

    pub fn multiply(self, a: u64, b: u64, rounding: Rounding) -> Flagged {
        match (self.value(a), self.value(b)) {
            (Value::Nan { signaling: s }, Value::Nan { signaling: t }) => self.invalid_if(s || t),
            (Value::Nan { signaling }, _) | (_, Value::Nan { signaling }) => self.invalid_if(signaling),
            (Value::Infinite { negative: m }, Value::Infinite { negative: n }) => (self.infinity(m != n), 0),
            (Value::Infinite { negative }, Value::Finite(b)) | (Value::Finite(b), Value::Infinite { negative }) => {
                if b.magnitude.bits() == 0 { self.invalid_if(true) } else { (self.infinity(negative != b.negative), 0) }
            }
            (Value::Finite(a), Value::Finite(b)) => self.round(&product(&a, &b), false, rounding),
        }
    }

    pub fn multiply_add(self, a: u64, b: u64, c: u64, rounding: Rounding) -> Flagged {
        let (a, b, c) = (self.value(a), self.value(b), self.value(c));
        let signaling = |value: &Value| matches!(value, Value::Nan { signaling: true });
        let invalid = signaling(&a) || signaling(&b) || signaling(&c);
        let zero = |value: &Value| matches!(value, Value::Finite(f) if f.magnitude.bits() == 0);
        let negative = |value: &Value| match value {
            Value::Infinite { negative } => *negative,
            Value::Finite(finite) => finite.negative,
            Value::Nan { .. } => false,
        };
        let infinite = |value: &Value| matches!(value, Value::Infinite { .. });
        // Infinity times zero is invalid even if the addend is a quiet NaN.
        if infinite(&a) && zero(&b) || zero(&a) && infinite(&b) {
            return self.invalid_if(true);
        }
        let nan = |value: &Value| matches!(value, Value::Nan { .. });
        if nan(&a) || nan(&b) || nan(&c) {
            return self.invalid_if(invalid);
        }
        let sign = negative(&a) != negative(&b);
        let product = match (&a, &b) {
            (Value::Finite(a), Value::Finite(b)) => Value::Finite(product(a, b)),
            _ => Value::Infinite { negative: sign },
        };
        self.add_values(product, c, rounding)
    }

    pub fn divide(self, a: u64, b: u64, rounding: Rounding) -> Flagged {
        match (self.value(a), self.value(b)) {
            (Value::Nan { signaling: s }, Value::Nan { signaling: t }) => self.invalid_if(s || t),
            (Value::Nan { signaling }, _) | (_, Value::Nan { signaling }) => self.invalid_if(signaling),
            (Value::Infinite { .. }, Value::Infinite { .. }) => self.invalid_if(true),
            (Value::Infinite { negative }, Value::Finite(b)) => (self.infinity(negative != b.negative), 0),
            (Value::Finite(a), Value::Infinite { negative }) => (self.zero(negative != a.negative), 0),
            (Value::Finite(a), Value::Finite(b)) => {
                let negative = a.negative != b.negative;
                match (a.magnitude.bits() == 0, b.magnitude.bits() == 0) {
                    (true, true) => self.invalid_if(true),
                    (true, false) => (self.zero(negative), 0),
                    (false, true) => (self.infinity(negative), DIVIDE_BY_ZERO),
                    (false, false) => {
                        // Digits to spare: the rest only says whether the quotient is a little larger.
                        let more = 160;
                        let dividend = a.magnitude << more;
                        let quotient = &dividend / &b.magnitude;
                        let sticky = &quotient * &b.magnitude != dividend;
                        let exponent = a.exponent - b.exponent - more as i64;
                        self.round(&Finite { negative, magnitude: quotient, exponent }, sticky, rounding)
                    }
                }
            }
        }
    }

    pub fn square_root(self, a: u64, rounding: Rounding) -> Flagged {
        match self.value(a) {
            Value::Nan { signaling } => self.invalid_if(signaling),
            Value::Infinite { negative: true } => self.invalid_if(true),
            Value::Infinite { negative: false } => (self.infinity(false), 0),
            Value::Finite(a) if a.magnitude.bits() == 0 => (self.zero(a.negative), 0),
            Value::Finite(a) if a.negative => self.invalid_if(true),
            Value::Finite(a) => {
                let more = 200 + (a.exponent & 1);
                let square = a.magnitude << more as u64;
                let root = square.sqrt();
                let sticky = &root * &root != square;
                let exponent = (a.exponent - more) / 2;
                self.round(&Finite { negative: false, magnitude: root, exponent }, sticky, rounding)
            }
        }
    }

    /// Minimum, or maximum, as IEEE 754-2019 minimumNumber and maximumNumber.
    pub fn extreme(self, a: u64, b: u64, maximum: bool) -> Flagged {
        let (x, y) = (self.value(a), self.value(b));
        let signaling = |value: &Value| matches!(value, Value::Nan { signaling: true });
        let flags = if signaling(&x) || signaling(&y) { INVALID } else { 0 };
        let register = |register| self.boxed(self.unboxed(register));
        let result = match (x, y) {
            (Value::Nan { .. }, Value::Nan { .. }) => self.nan(),
            (Value::Nan { .. }, _) => register(b),
            (_, Value::Nan { .. }) => register(a),
            _ => {
                let a_first = self.key(a) < self.key(b);
                if a_first != maximum { register(a) } else { register(b) }
            }
        };
        (result, flags)
    }

    /// An integer ordered as the values are, with -0 below +0.
    fn key(self, register: u64) -> i128 {
        let bits = self.unboxed(register);
        let magnitude = i128::from(bits & !(1 << (self.bits() - 1)));
        if bits >> (self.bits() - 1) & 1 != 0 { -magnitude - 1 } else { magnitude }
    }

    /// `feq`, `flt` and `fle`: which relations hold for true.
    pub fn compare(self, a: u64, b: u64, less: bool, equal: bool, quiet: bool) -> Flagged {
        let signaling = |register| matches!(self.value(register), Value::Nan { signaling: true });
        let nan = |register| matches!(self.value(register), Value::Nan { .. });
        if nan(a) || nan(b) {
            return (0, if !quiet || signaling(a) || signaling(b) { INVALID } else { 0 });
        }
        let zeros = |register| self.unboxed(register) << (65 - self.bits()) == 0;
        let same = self.key(a) == self.key(b) || zeros(a) && zeros(b);
        let below = !same && self.key(a) < self.key(b);
        ((same && equal || below && less).into(), 0)
    }

    pub fn classify(self, a: u64) -> u64 {
        let bits = self.unboxed(a);
        let negative = bits >> (self.bits() - 1) & 1 != 0;
        let class = match self.value(a) {
            Value::Nan { signaling: true } => return 1 << 8,
            Value::Nan { signaling: false } => return 1 << 9,
            Value::Infinite { .. } => 0,
            Value::Finite(finite) if finite.magnitude.bits() == 0 => 3,
            Value::Finite(finite) if finite.magnitude.bits() <= u64::from(self.fraction_bits) => 2,
            Value::Finite(_) => 1,
        };
        1 << if negative { class } else { 7 - class }
    }

    /// Sign injection: the sign of the result from both signs.
    pub fn inject(self, a: u64, b: u64, sign: fn(bool, bool) -> bool) -> u64 {
        let (a, b) = (self.unboxed(a), self.unboxed(b));
        let top = self.bits() - 1;
        let negative = sign(a >> top & 1 != 0, b >> top & 1 != 0);
        self.boxed(a & !(1 << top) | u64::from(negative) << top)
    }

    pub fn convert(self, a: u64, to: Format, rounding: Rounding) -> Flagged {
        match self.value(a) {
            Value::Nan { signaling } => to.invalid_if(signaling),
            Value::Infinite { negative } => (to.infinity(negative), 0),
            Value::Finite(finite) => to.round(&finite, false, rounding),
        }
    }

    pub fn round_integer(self, value: i128, rounding: Rounding) -> Flagged {
        let magnitude = value.unsigned_abs().into();
        self.round(&Finite { negative: value < 0, magnitude, exponent: 0 }, false, rounding)
    }

    /// To an integer between `least` and `most`; what does not fit, and NaN, is invalid and saturates.
    pub fn to_integer(self, a: u64, least: i128, most: i128, rounding: Rounding) -> (i128, u64) {
        match self.value(a) {
            Value::Nan { .. } => (most, INVALID),
            Value::Infinite { negative } => (if negative { least } else { most }, INVALID),
            Value::Finite(finite) => {
                let (rounded, _, inexact) = cut(&finite, 0, false, rounding);
                let beyond = if finite.negative { (least, INVALID) } else { (most, INVALID) };
                let Ok(magnitude) = i128::try_from(&rounded) else { return beyond };
                let value = if finite.negative { -magnitude } else { magnitude };
                if value < least || value > most { beyond } else { (value, if inexact { INEXACT } else { 0 }) }
            }
        }
    }
}

/// The magnitude as a multiple of 2^`unit`, or of the number's own unit where that is exact and larger; the unit; and
/// whether something was cut off.
fn cut(number: &Finite, unit: i64, sticky: bool, rounding: Rounding) -> (BigUint, i64, bool) {
    let Finite { negative, magnitude, exponent } = number;
    if unit <= *exponent {
        assert!(!sticky, "too few digits to tell how the rest rounds");
        return (magnitude << (exponent - unit) as u64, unit, false);
    }
    let cut = (unit - exponent) as u64;
    let kept = magnitude >> cut;
    let rest = magnitude - (&kept << cut);
    let inexact = rest.bits() != 0 || sticky;
    let half = BigUint::from(1u8) << (cut - 1);
    let compared = rest.cmp(&half).then(if sticky { std::cmp::Ordering::Greater } else { std::cmp::Ordering::Equal });
    let odd = kept.bit(0);
    let up = rounding.up(*negative, odd, compared, inexact);
    (kept + u8::from(up), unit, inexact)
}

fn product(a: &Finite, b: &Finite) -> Finite {
    Finite {
        negative: a.negative != b.negative,
        magnitude: &a.magnitude * &b.magnitude,
        exponent: a.exponent + b.exponent,
    }
}

/// The exact sum. A zero that comes of opposite signs is positive, and negative when rounding down.
fn sum(a: &Finite, b: &Finite, rounding: Rounding) -> Finite {
    let exponent = a.exponent.min(b.exponent);
    let x = &a.magnitude << (a.exponent - exponent) as u64;
    let y = &b.magnitude << (b.exponent - exponent) as u64;
    let (negative, magnitude) = if a.negative == b.negative {
        (a.negative, x + y)
    } else if x == y {
        (rounding == Rounding::Down, BigUint::ZERO)
    } else if x > y {
        (a.negative, x - y)
    } else {
        (b.negative, y - x)
    };
    Finite { negative, magnitude, exponent }
}
