//! What an instruction reads, writes and may leave through, found by running its semantics on values that are hardly
//! anything.

use std::convert::Infallible;

use bus::Width;

use super::steady::Step;
use super::system::System;
use crate::block::Mode;
use crate::isa::{self, AmoOp, Cond, Extend, FloatOp, Format, Helper, Insn, Opcode, Ops};

/// A set of registers: bit `r` is `x<r>`, bit `32 + r` is `f<r>`. `x0` is never in it.
pub(super) type Registers = u64;

/// The bit of an integer register in a set; none for `x0`.
pub(super) const fn x_bit(r: u8) -> Registers {
    (1 << (r & 31)) & !1
}

/// The bit of a floating-point register in a set.
pub(super) const fn f_bit(r: u8) -> Registers {
    1 << (32 + (r & 31) as u32)
}

/// What one instruction does to the hart's registers. Reads come first, then what may leave, then writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Effects {
    /// Registers read.
    pub reads: Registers,
    /// Registers written.
    pub writes: Registers,
    /// Whether it may trap or run a helper that looks at the hart: registers are in memory then.
    pub leaves: bool,
    /// Whether a helper may change any register.
    pub clobbers: bool,
    /// Whether it computes in floating point.
    pub floats: bool,
    /// The load or store that it is.
    pub access: Option<Access>,
    /// What it adds to the integer register that it writes, if that is all it does.
    pub step: Option<Step>,
}

/// A load or store at a register plus a constant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Access {
    /// Integer register.
    pub base: u8,
    pub offset: i64,
    pub width: Width,
    pub store: bool,
}

impl Effects {
    /// The effects of an instruction in a mode.
    pub fn of(opcode: Opcode, insn: &Insn, mode: Mode) -> Self {
        let mut effects = Self::default();
        let Ok(()) = isa::execute_row(opcode, &mut effects, insn);
        match System::of(insn, mode).and_then(System::effects) {
            Some((reads, floats)) => Self { reads, writes: x_bit(insn.rd), floats, ..Self::default() },
            None => effects,
        }
    }
}

/// What is known of a value: enough to tell the address of an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    Nothing,
    Constant(i64),
    /// An integer register plus a constant.
    Sum(u8, i64),
    /// The sum of two integer registers.
    Registers(u8, u8),
}

use Known::Nothing;

macro_rules! pure {
    ($($name:ident)+) => {
        $(fn $name(&mut self, _: Known, _: Known) -> Known {
            Nothing
        })+
    };
}

macro_rules! pure_unary {
    ($($name:ident)+) => {
        $(fn $name(&mut self, _: Known) -> Known {
            Nothing
        })+
    };
}

impl Effects {
    fn accesses(&mut self, address: Known, width: Width, store: bool) {
        self.leaves = true;
        if let Known::Sum(base, offset) = address {
            self.access = Some(Access { base, offset, width, store });
        }
    }
}

impl Ops for Effects {
    type V = Known;
    type Exit = Infallible;

    fn imm(&mut self, value: i64) -> Known {
        Known::Constant(value)
    }

    fn pc(&mut self, _: &Insn) -> Known {
        Nothing
    }

    fn x(&mut self, r: u8) -> Known {
        self.reads |= x_bit(r);
        if x_bit(r) == 0 { Known::Constant(0) } else { Known::Sum(r & 31, 0) }
    }

    fn set_x(&mut self, r: u8, value: Known) {
        self.writes |= x_bit(r);
        let r = r & 31;
        self.step = match value {
            Known::Sum(register, by) if register == r => Some(Step::Constant(by)),
            Known::Registers(a, b) if a == r && b != r => Some(Step::Register(b)),
            Known::Registers(a, b) if b == r && a != r => Some(Step::Register(a)),
            _ => None,
        };
    }

    fn f(&mut self, r: u8) -> Known {
        self.reads |= f_bit(r);
        Nothing
    }

    fn set_f(&mut self, r: u8, _: Known) {
        self.writes |= f_bit(r);
    }

    fn add(&mut self, a: Known, b: Known) -> Known {
        match (a, b) {
            (Known::Sum(base, offset), Known::Constant(value)) => Known::Sum(base, offset.wrapping_add(value)),
            (Known::Sum(a, 0), Known::Sum(b, 0)) => Known::Registers(a, b),
            _ => Nothing,
        }
    }

    pure! { sub and or xor shl shr sar rotr rotrw mul mulh mulhu div divu rem remu clmul clmulh }
    pure_unary! { clz ctz popcount bswap }

    fn sext(&mut self, _: Known, _: Width) -> Known {
        Nothing
    }

    fn zext(&mut self, _: Known, _: Width) -> Known {
        Nothing
    }

    fn cmp(&mut self, _: Cond, _: Known, _: Known) -> Known {
        Nothing
    }

    fn select(&mut self, _: Known, _: Known, _: Known) -> Known {
        Nothing
    }

    fn load(&mut self, _: &Insn, address: Known, width: Width, _: Extend) -> Result<Known, Infallible> {
        self.accesses(address, width, false);
        Ok(Nothing)
    }

    fn store(&mut self, _: &Insn, address: Known, width: Width, _: Known) -> Result<(), Infallible> {
        self.accesses(address, width, true);
        Ok(())
    }

    fn amo(&mut self, _: &Insn, _: AmoOp, _: Known, _: Width, _: Known) -> Result<Known, Infallible> {
        self.leaves = true;
        Ok(Nothing)
    }

    fn compare_and_swap(&mut self, _: &Insn, _: Known, _: Width, _: Known, _: Known) -> Result<Known, Infallible> {
        self.leaves = true;
        Ok(Nothing)
    }

    fn compare_and_swap_pair(
        &mut self,
        _: &Insn,
        _: Known,
        _: [Known; 2],
        _: [Known; 2],
    ) -> Result<[Known; 2], Infallible> {
        self.leaves = true;
        Ok([Nothing; 2])
    }

    fn load_reserved(&mut self, _: &Insn, _: Known, _: Width) -> Result<Known, Infallible> {
        self.leaves = true;
        Ok(Nothing)
    }

    fn store_conditional(&mut self, _: &Insn, _: Known, _: Width, _: Known) -> Result<Known, Infallible> {
        self.leaves = true;
        Ok(Nothing)
    }

    fn fence(&mut self, _: &Insn) {}

    fn branch(&mut self, _: &Insn, _: Known, _: i64) -> Result<(), Infallible> {
        Ok(())
    }

    fn jump(&mut self, _: &Insn, _: i64) -> Result<(), Infallible> {
        Ok(())
    }

    fn jump_indirect(&mut self, _: &Insn, _: Known) -> Result<(), Infallible> {
        Ok(())
    }

    fn float(&mut self, _: &Insn, _: FloatOp, _: Format, _: [Known; 3]) -> Known {
        self.floats = true;
        Nothing
    }

    fn call(&mut self, _: &Insn, _: Helper) -> Result<(), Infallible> {
        self.leaves = true;
        self.clobbers = true;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::extension::ExtensionSet;

    fn of(word: u32) -> Effects {
        let (opcode, insn) = isa::decode(word, &ExtensionSet::implemented()).unwrap();
        Effects::of(opcode, &insn, Mode::default())
    }

    #[test]
    fn registers_are_found() {
        // add a0, a1, a2
        assert_eq!(of(0x00c5_8533), Effects { reads: 1 << 11 | 1 << 12, writes: 1 << 10, ..Effects::default() });
        // sd ra, 8(sp)
        let access = Some(Access { base: 2, offset: 8, width: Width::Double, store: true });
        assert_eq!(of(0x0011_3423), Effects { reads: 1 << 1 | 1 << 2, leaves: true, access, ..Effects::default() });
        // fadd.d fa0, fa1, fa2
        let sum = of(0x02c5_f553);
        assert_eq!((sum.reads, sum.writes, sum.floats), (f_bit(11) | f_bit(12), f_bit(10), true));
        // addi a0, a0, -8; addi a0, a1, 8; add a0, a1, a0; add a0, a0, a0
        assert_eq!(of(0xff85_0513).step, Some(Step::Constant(-8)));
        assert_eq!(of(0x0085_8513).step, None);
        assert_eq!(of(0x00a5_8533).step, Some(Step::Register(11)));
        assert_eq!(of(0x00a5_0533).step, None);
        // frflags a0; fsflags a1, a0; fsflagsi 3; csrs fflags, a0
        let floats = Effects { floats: true, ..Effects::default() };
        assert_eq!(of(0x0010_2573), Effects { writes: 1 << 10, ..floats });
        assert_eq!(of(0x0015_15f3), Effects { reads: 1 << 10, writes: 1 << 11, ..floats });
        assert_eq!(of(0x0011_d073), floats);
        assert!(of(0x0015_2073).clobbers);
        // csrr a0, cycle
        assert!(of(0xc000_2573).clobbers);
    }
}
