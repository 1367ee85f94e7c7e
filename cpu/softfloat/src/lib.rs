//! Bit-exact IEEE 754 arithmetic as the RISC-V F, D, Zfh, Zfhmin and Zfa extensions define it.
//!
//! Values are raw encodings in the low bits of a `u64`; higher bits of an operand are ignored and are zero in a
//! result. Every operation takes its [`Format`] as a type parameter, so each call compiles to code for that format:
//!
//! ```
//! use softfloat::{F64, Flags, Rounding, add};
//!
//! let mut fflags = Flags::NONE;
//! let sum = add::<F64>(0x3ff0_0000_0000_0000, 0x3ca0_0000_0000_0000, Rounding::Up, &mut fflags);
//! assert_eq!(sum, 0x3ff0_0000_0000_0001);
//! assert_eq!(fflags, Flags::NX);
//! ```
//!
//! Invariants, all of them the F extension's ("F" chapter of the unprivileged specification):
//! * flags are only ever added to the caller's accrued flags, never cleared;
//! * a NaN result is the canonical NaN, except from sign injection, which moves bits;
//! * tininess is detected after rounding; subnormal operands and results are exact;
//! * only integer operations are used: neither the host's rounding mode nor its flags matter, and no input panics.
//!
//! The four fused instructions are [`mul_add`] with negated inputs: FMSUB negates the addend, FNMSUB a factor, FNMADD
//! both (see [`negate`]).

#![forbid(unsafe_code)]

mod add;
mod classify;
mod compare;
mod constants;
mod convert;
mod divide;
mod flags;
mod format;
mod integer;
mod integral;
mod min_max;
mod mul_add;
mod multiply;
mod nan;
mod nan_boxing;
mod round_pack;
mod rounding;
mod sign;
mod square_root;

pub use add::{add, sub};
pub use classify::classify;
pub use compare::{eq, le, le_quiet, lt, lt_quiet};
pub use constants::load_immediate;
pub use convert::convert;
pub use divide::div;
pub use flags::Flags;
pub use format::{F16, F32, F64, Format};
pub use integer::{from_i32, from_i64, from_u32, from_u64, to_i32, to_i32_modular, to_i64, to_u32, to_u64};
pub use integral::{round_to_integral, round_to_integral_exact};
pub use min_max::{maximum, maximum_number, minimum, minimum_number};
pub use mul_add::mul_add;
pub use multiply::mul;
pub use nan::{is_nan, is_signaling_nan};
pub use nan_boxing::{box_value, unbox};
pub use rounding::Rounding;
pub use sign::{negate, sgnj, sgnjn, sgnjx};
pub use square_root::sqrt;
