//! Expressions: 64-bit integers that wrap, as in C, with symbols, `.` and the relocation functions.

use super::Symbols;

/// Why an expression has no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ExpressionError {
    /// A symbol has no value yet.
    Undefined(String),
    /// It cannot have one.
    Invalid(String),
}

impl ExpressionError {
    pub(super) fn message(self) -> String {
        match self {
            ExpressionError::Undefined(name) => format!("undefined symbol '{name}'"),
            ExpressionError::Invalid(message) => message,
        }
    }
}

type Value = Result<i64, ExpressionError>;

fn invalid<T>(message: impl Into<String>) -> Result<T, ExpressionError> {
    Err(ExpressionError::Invalid(message.into()))
}

/// Where an expression stands.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) symbols: &'a Symbols,
    /// The value of `.`.
    pub(super) here: u64,
    /// The number of numeric labels before it.
    pub(super) local_position: usize,
}

/// Nesting of parentheses and unary operators.
const DEPTH_LIMIT: usize = 100;

/// Evaluates `text`.
pub(super) fn evaluate(text: &str, place: Place<'_>) -> Value {
    let mut parser = Parser { rest: text.trim(), place, depth: 0 };
    if parser.rest.is_empty() {
        return invalid("an expression is missing");
    }
    let value = parser.binary(0)?;
    if parser.rest.is_empty() { Ok(value) } else { invalid(format!("unexpected '{}' in an expression", parser.rest)) }
}

/// Binary operators, longest first, with their precedence: that of C.
const OPERATORS: &[(&str, u8)] = &[
    ("||", 1),
    ("&&", 2),
    ("<<", 8),
    (">>", 8),
    ("==", 6),
    ("!=", 6),
    ("<=", 7),
    (">=", 7),
    ("|", 3),
    ("^", 4),
    ("&", 5),
    ("<", 7),
    (">", 7),
    ("+", 9),
    ("-", 9),
    ("*", 10),
    ("/", 10),
    ("%", 10),
];

struct Parser<'a> {
    rest: &'a str,
    place: Place<'a>,
    depth: usize,
}

impl<'a> Parser<'a> {
    fn skip(&mut self, bytes: usize) {
        self.rest = self.rest[bytes..].trim_start();
    }

    fn eat(&mut self, token: &str) -> bool {
        let found = self.rest.starts_with(token);
        if found {
            self.skip(token.len());
        }
        found
    }

    /// Operators of at least this precedence.
    fn binary(&mut self, least: u8) -> Value {
        let mut left = self.unary()?;
        while let Some(&(operator, precedence)) = OPERATORS.iter().find(|(token, _)| self.rest.starts_with(token)) {
            if precedence < least {
                break;
            }
            self.skip(operator.len());
            let right = self.binary(precedence + 1)?;
            left = match operator {
                "||" => i64::from(left != 0 || right != 0),
                "&&" => i64::from(left != 0 && right != 0),
                "==" => i64::from(left == right),
                "!=" => i64::from(left != right),
                "<=" => i64::from(left <= right),
                ">=" => i64::from(left >= right),
                "<" => i64::from(left < right),
                ">" => i64::from(left > right),
                "|" => left | right,
                "^" => left ^ right,
                "&" => left & right,
                "+" => left.wrapping_add(right),
                "-" => left.wrapping_sub(right),
                "*" => left.wrapping_mul(right),
                "/" | "%" if right == 0 => return invalid("division by zero"),
                "/" => left.wrapping_div(right),
                "%" => left.wrapping_rem(right),
                // Logical to the right: addresses are unsigned.
                _ if !(0..64).contains(&right) => return invalid(format!("shift by {right}")),
                "<<" => left << right,
                _ => (left as u64 >> right) as i64,
            };
        }
        Ok(left)
    }

    fn unary(&mut self) -> Value {
        self.depth += 1;
        if self.depth > DEPTH_LIMIT {
            return invalid("an expression is nested too deeply");
        }
        let value = if self.eat("-") {
            self.unary()?.wrapping_neg()
        } else if self.eat("+") {
            self.unary()?
        } else if self.eat("~") {
            !self.unary()?
        } else if self.eat("!") {
            i64::from(self.unary()? == 0)
        } else if self.eat("%") {
            self.relocation()?
        } else if self.eat("(") {
            let value = self.binary(0)?;
            if !self.eat(")") {
                return invalid("')' is missing");
            }
            value
        } else {
            self.primary()?
        };
        self.depth -= 1;
        Ok(value)
    }

    /// `hi(…)` and its kin, after the `%`.
    fn relocation(&mut self) -> Value {
        let name = self.name();
        if !self.eat("(") {
            return invalid(format!("'(' is missing after '%{name}'"));
        }
        let argument = self.binary(0)?;
        if !self.eat(")") {
            return invalid("')' is missing");
        }
        let here = self.place.here as i64;
        match name {
            "hi" => Ok(high(argument)),
            "lo" => Ok(low(argument)),
            "pcrel_hi" => near_high(argument, here),
            // The argument is the address of the instruction with the `%pcrel_hi`.
            "pcrel_lo" => match self.place.symbols.pcrel_hi.get(&(argument as u64)) {
                Some((text, local_position)) => {
                    let place = Place { here: argument as u64, local_position: *local_position, ..self.place };
                    Ok(low(evaluate(text, place)?.wrapping_sub(argument)))
                }
                None => Err(ExpressionError::Undefined(format!("%pcrel_hi at {argument:#x}"))),
            },
            // The second instruction of a pair that a pseudo-instruction makes.
            "near_lo" => Ok(low(argument.wrapping_sub(here - 4))),
            _ => invalid(format!("unknown relocation function '%{name}'")),
        }
    }

    fn name(&mut self) -> &'a str {
        let end = self.rest.find(|c| !super::source::is_name(c)).unwrap_or(self.rest.len());
        let name = &self.rest[..end];
        self.skip(end);
        name
    }

    fn primary(&mut self) -> Value {
        if let Some(quoted) = self.rest.strip_prefix('\'') {
            let Some((value, length)) = super::source::unescape(quoted.as_bytes()) else {
                return invalid("a character is missing after '");
            };
            if quoted.as_bytes().get(length) != Some(&b'\'') {
                return invalid("a character literal ends with '");
            }
            self.skip(length + 2);
            return Ok(value.into());
        }
        let found = self.rest;
        let name = self.name();
        let Some(first) = name.chars().next() else {
            return invalid(match found.chars().next() {
                Some(c) => format!("unexpected '{c}' in an expression"),
                None => "an operand is missing in an expression".into(),
            });
        };
        if name == "." {
            return Ok(self.place.here as i64);
        }
        if !first.is_ascii_digit() {
            return self.place.symbols.value(name).ok_or_else(|| ExpressionError::Undefined(name.into()));
        }
        let digits = name.trim_end_matches(['f', 'b']);
        if digits.len() + 1 == name.len() && !name.starts_with("0x") && !name.starts_with("0b") {
            let label = digits.parse().map_err(|_| ExpressionError::Invalid(format!("bad number '{name}'")))?;
            let forward = name.ends_with('f');
            let found = self.place.symbols.local(label, self.place.local_position, forward);
            return found.map(|address| address as i64).ok_or_else(|| ExpressionError::Undefined(name.into()));
        }
        number(name).map_or_else(|| invalid(format!("bad number '{name}'")), Ok)
    }
}

/// A number as C writes it; up to 64 bits.
pub(super) fn number(text: &str) -> Option<i64> {
    let lower = text.to_ascii_lowercase();
    let (digits, radix) = match lower.as_bytes() {
        [b'0', b'x', ..] => (&lower[2..], 16),
        [b'0', b'b', ..] => (&lower[2..], 2),
        [b'0', _, ..] => (&lower[1..], 8),
        _ => (lower.as_str(), 10),
    };
    u64::from_str_radix(digits, radix).ok().map(|value| value as i64)
}

/// The upper 20 bits of a 32-bit value, such that the sign-extended lower 12 add up to it.
fn high(value: i64) -> i64 {
    value.wrapping_add(0x800) >> 12 & 0xf_ffff
}

/// The lower 12 bits, sign-extended.
fn low(value: i64) -> i64 {
    value << 52 >> 52
}

fn near_high(target: i64, here: i64) -> Value {
    let distance = target.wrapping_sub(here);
    if i32::try_from(distance.wrapping_add(0x800)).is_err() {
        return invalid(format!("{:#x} is too far from {here:#x}", target));
    }
    Ok(high(distance))
}
