//! What an instruction reads, writes and may leave through, found by running its semantics on values that are nothing.

use std::convert::Infallible;

use bus::Width;

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
}

impl Effects {
    /// The effects of an instruction.
    pub fn of(opcode: Opcode, insn: &Insn) -> Self {
        let mut effects = Self::default();
        let Ok(()) = isa::execute_row(opcode, &mut effects, insn);
        effects
    }
}

macro_rules! pure {
    ($($name:ident)+) => {
        $(fn $name(&mut self, _: (), _: ()) {})+
    };
}

impl Ops for Effects {
    type V = ();
    type Exit = Infallible;

    fn imm(&mut self, _: i64) {}

    fn pc(&mut self, _: &Insn) {}

    fn x(&mut self, r: u8) {
        self.reads |= x_bit(r);
    }

    fn set_x(&mut self, r: u8, (): ()) {
        self.writes |= x_bit(r);
    }

    fn f(&mut self, r: u8) {
        self.reads |= f_bit(r);
    }

    fn set_f(&mut self, r: u8, (): ()) {
        self.writes |= f_bit(r);
    }

    pure! { add sub and or xor shl shr sar rotr rotrw mul mulh mulhu div divu rem remu clmul clmulh }

    fn clz(&mut self, (): ()) {}

    fn ctz(&mut self, (): ()) {}

    fn popcount(&mut self, (): ()) {}

    fn bswap(&mut self, (): ()) {}

    fn sext(&mut self, (): (), _: Width) {}

    fn zext(&mut self, (): (), _: Width) {}

    fn cmp(&mut self, _: Cond, (): (), (): ()) {}

    fn select(&mut self, (): (), (): (), (): ()) {}

    fn load(&mut self, _: &Insn, (): (), _: Width, _: Extend) -> Result<(), Infallible> {
        self.leaves = true;
        Ok(())
    }

    fn store(&mut self, _: &Insn, (): (), _: Width, (): ()) -> Result<(), Infallible> {
        self.leaves = true;
        Ok(())
    }

    fn amo(&mut self, _: &Insn, _: AmoOp, (): (), _: Width, (): ()) -> Result<(), Infallible> {
        self.leaves = true;
        Ok(())
    }

    fn compare_and_swap(&mut self, _: &Insn, (): (), _: Width, (): (), (): ()) -> Result<(), Infallible> {
        self.leaves = true;
        Ok(())
    }

    fn load_reserved(&mut self, _: &Insn, (): (), _: Width) -> Result<(), Infallible> {
        self.leaves = true;
        Ok(())
    }

    fn store_conditional(&mut self, _: &Insn, (): (), _: Width, (): ()) -> Result<(), Infallible> {
        self.leaves = true;
        Ok(())
    }

    fn fence(&mut self, _: &Insn) {}

    fn branch(&mut self, _: &Insn, (): (), _: i64) -> Result<(), Infallible> {
        Ok(())
    }

    fn jump(&mut self, _: &Insn, _: i64) -> Result<(), Infallible> {
        Ok(())
    }

    fn jump_indirect(&mut self, _: &Insn, (): ()) -> Result<(), Infallible> {
        Ok(())
    }

    fn float(&mut self, _: &Insn, _: FloatOp, _: Format, _: [(); 3]) {
        self.floats = true;
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
        Effects::of(opcode, &insn)
    }

    #[test]
    fn registers_are_found() {
        // add a0, a1, a2
        assert_eq!(of(0x00c5_8533), Effects { reads: 1 << 11 | 1 << 12, writes: 1 << 10, ..Effects::default() });
        // sd ra, 8(sp)
        assert_eq!(of(0x0011_3423), Effects { reads: 1 << 1 | 1 << 2, leaves: true, ..Effects::default() });
        // fadd.d fa0, fa1, fa2
        let sum = of(0x02c5_f553);
        assert_eq!((sum.reads, sum.writes, sum.floats), (f_bit(11) | f_bit(12), f_bit(10), true));
        // csrr a0, cycle
        assert!(of(0xc000_2573).clobbers);
    }
}
