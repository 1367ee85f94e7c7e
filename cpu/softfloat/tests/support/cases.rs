//! Operands, random but drawn towards the edges of a format: a fixed seed gives fixed cases.

use std::marker::PhantomData;

use softfloat::{Flags, Format, Rounding, mul};

/// A generator of cases for one format.
pub struct Cases<F> {
    state: u64,
    format: PhantomData<F>,
}

impl<F: Format> Cases<F> {
    pub fn new(seed: u64) -> Self {
        Self { state: seed, format: PhantomData }
    }

    /// The next random bits (the SplitMix64 sequence).
    fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, limit: u64) -> u64 {
        ((u128::from(self.bits()) * u128::from(limit)) >> 64) as u64
    }

    /// −`reach`..=`reach`.
    fn near(&mut self, reach: i64) -> i64 {
        self.below(2 * reach as u64 + 1) as i64 - reach
    }

    /// 64 bits made of long runs, of few ones, of few zeros, or of anything.
    fn pattern(&mut self) -> u64 {
        let (x, y) = (self.bits() % 64, self.bits() % 64);
        match self.below(8) {
            0 => u64::MAX << x,
            1 => u64::MAX >> x,
            2 => (u64::MAX << x) ^ (u64::MAX << y),
            3 => 1 << x | 1 << y,
            4 => !(1 << x | 1 << y),
            5 => self.bits() << x,
            _ => self.bits(),
        }
    }

    fn encode(&mut self, exponent: i64, fraction: u64) -> u64 {
        let exponent = exponent.clamp(0, i64::from(F::EXPONENT_MAX)) as u64;
        let sign = self.bits() & F::SIGN;
        sign | exponent << F::FRACTION_BITS | fraction & F::FRACTION
    }

    fn operand(&mut self) -> u64 {
        let sign = self.bits() & F::SIGN;
        let fraction = self.pattern();
        let bias = i64::from(F::BIAS);
        let bits = i64::from(F::FRACTION_BITS);
        match self.below(16) {
            0 => {
                const ONE_ULP: u64 = 1;
                let one = (F::BIAS as u64) << F::FRACTION_BITS;
                let edges = [
                    0,
                    ONE_ULP,
                    F::MIN_NORMAL - 1,
                    F::MIN_NORMAL,
                    F::MIN_NORMAL + 1,
                    one - 1,
                    one,
                    one + 1,
                    F::MAX_FINITE - 1,
                    F::MAX_FINITE,
                    F::INFINITY,
                    F::CANONICAL_NAN,
                    F::INFINITY + 1,
                    F::MAGNITUDE,
                ];
                sign | edges[self.below(edges.len() as u64) as usize]
            }
            // A power of two, and its neighbours.
            1 => {
                let power = self.below(F::EXPONENT_MAX as u64) << F::FRACTION_BITS;
                sign | power.wrapping_add_signed(self.near(2)) & F::MAGNITUDE
            }
            2 => self.encode(0, fraction),
            3 => {
                let exponent = 1 + self.below(3) as i64;
                self.encode(exponent, fraction)
            }
            4 => {
                let exponent = i64::from(F::EXPONENT_MAX) - 1 - self.below(3) as i64;
                self.encode(exponent, fraction)
            }
            // NaNs of both kinds, rarely an infinity.
            5 if self.below(4) == 0 => self.encode(F::EXPONENT_MAX.into(), fraction),
            // Where integers are: below one half up to 2^66, often with a fraction of exactly one half.
            6 | 7 => {
                let unit = self.near(34) + 32;
                let half = 1u64.checked_shl((bits - unit - 1).clamp(0, 63) as u32).unwrap_or(0);
                let fraction = if self.below(2) == 0 { fraction } else { fraction & (half << 1).wrapping_neg() | half };
                self.encode(bias + unit, fraction)
            }
            8 | 9 => {
                let exponent = bias + self.near(bits + 3);
                self.encode(exponent, fraction)
            }
            10 => self.bits(),
            _ => {
                let exponent = self.below(F::EXPONENT_MAX as u64) as i64;
                self.encode(exponent, fraction)
            }
        }
    }

    fn exponent(a: u64) -> i64 {
        ((a & F::MAGNITUDE) >> F::FRACTION_BITS) as i64
    }

    /// Operands for one operation on floating-point values. Formats narrower than 64 bits get any bits above.
    pub fn operands(&mut self) -> [u64; 3] {
        let a = self.operand();
        let bits = i64::from(F::FRACTION_BITS);
        let fraction = self.pattern();
        let b = match self.below(8) {
            // Near cancellation: a few units in the last place apart.
            0 => a.wrapping_add_signed(self.near(3)) ^ F::SIGN,
            1 => {
                let exponent = Self::exponent(a) + self.near(2);
                self.encode(exponent, fraction)
            }
            // Alignment that puts the smaller operand at the rounding position.
            2 => {
                let exponent = Self::exponent(a) - bits + self.near(3);
                self.encode(exponent, fraction)
            }
            // A product near the smallest normal and subnormal numbers, or near overflow.
            3 => {
                let goal =
                    if self.below(3) == 0 { i64::from(F::EXPONENT_MAX) } else { -(self.below(4) as i64) * bits / 3 };
                let exponent = goal + i64::from(F::BIAS) - Self::exponent(a) + self.near(2);
                self.encode(exponent, fraction)
            }
            // The same for a quotient.
            4 => {
                let goal =
                    if self.below(3) == 0 { i64::from(F::EXPONENT_MAX) } else { -(self.below(4) as i64) * bits / 3 };
                let exponent = Self::exponent(a) + i64::from(F::BIAS) - goal + self.near(2);
                self.encode(exponent, fraction)
            }
            _ => self.operand(),
        };
        let product = mul::<F>(a, b, Rounding::NearestEven, &mut Flags::default());
        let fraction = self.pattern();
        let c = match self.below(8) {
            // The fused sum cancels all but what rounding the product would lose.
            0 | 1 => product.wrapping_add_signed(self.near(2)) ^ F::SIGN,
            2 => {
                let exponent = Self::exponent(product) + self.near(2);
                self.encode(exponent, fraction)
            }
            3 => {
                let distance = bits * (1 + self.below(2) as i64) + self.near(3);
                let exponent = Self::exponent(product) + if self.below(2) == 0 { distance } else { -distance };
                self.encode(exponent, fraction)
            }
            4 => {
                let exponent = self.below(3) as i64;
                self.encode(exponent, fraction)
            }
            _ => self.operand(),
        };
        let above = self.bits() & !F::BITS;
        [a, b, c].map(|bits| bits & F::BITS | above)
    }

    /// An operand for a conversion from an integer, in the first place.
    pub fn integers(&mut self) -> [u64; 3] {
        let value = match self.below(4) {
            0 => self.near(4) as u64,
            // Powers of two and their neighbours.
            1 => (1u64 << (self.bits() % 64)).wrapping_add_signed(self.near(2)),
            // A tie at the format's precision, or one away from it.
            2 => {
                let discarded = 1 + self.below(63 - u64::from(F::FRACTION_BITS)) as u32;
                let kept = self.bits() & F::FRACTION | F::MIN_NORMAL;
                (kept << discarded | 1 << (discarded - 1)).wrapping_add_signed(self.near(1))
            }
            _ => self.pattern(),
        };
        [if self.below(2) == 0 { value } else { value.wrapping_neg() }, 0, 0]
    }
}
