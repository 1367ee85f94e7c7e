//! What an instruction reads, writes and does, found by running its semantics on an engine that only takes notes.
//!
//! Its values are opaque, as a translator's are: that this compiles keeps every row translatable.

use std::convert::Infallible;

use bus::Width;

use super::{AmoOp, Cond, Extend, FloatOp, Format, Helper, Insn, Opcode, Ops, execute_row};

/// Registers by number, as bits.
pub type Registers = u32;

/// What an instruction touches. What a helper does is not in it, but that it is called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Footprint {
    /// Integer registers that are read.
    pub reads: Registers,
    /// Integer registers that are written; x0 too, though that has no effect.
    pub writes: Registers,
    /// Floating-point registers that are read.
    pub float_reads: Registers,
    /// Floating-point registers that are written.
    pub float_writes: Registers,
    /// Memory is read.
    pub loads: bool,
    /// Memory is written.
    pub stores: bool,
    /// The floating-point unit computes: rounding mode and flags matter.
    pub floats: bool,
    /// Memory accesses are ordered.
    pub fences: bool,
    /// The program counter is read.
    pub reads_pc: bool,
    /// It may go elsewhere than to the next instruction.
    pub branches: bool,
    /// A helper is called.
    pub calls: bool,
}

/// The footprint of instruction `opcode` with the operands `insn`.
pub fn footprint(opcode: Opcode, insn: &Insn) -> Footprint {
    let mut footprint = Footprint::default();
    let Ok(()) = execute_row(opcode, &mut footprint, insn);
    footprint
}

/// A value about which nothing is known.
#[derive(Clone, Copy, Debug)]
pub struct Unknown;

macro_rules! unknown {
    ($($name:ident($($argument:ident: $kind:ty),*);)+) => {
        $(fn $name(&mut self, $($argument: $kind),*) -> Unknown {
            $(let _ = $argument;)*
            Unknown
        })+
    };
}

impl Ops for Footprint {
    type V = Unknown;
    type Exit = Infallible;

    fn pc(&mut self, _: &Insn) -> Unknown {
        self.reads_pc = true;
        Unknown
    }

    fn x(&mut self, r: u8) -> Unknown {
        self.reads |= 1 << r;
        Unknown
    }

    fn set_x(&mut self, r: u8, _: Unknown) {
        self.writes |= 1 << r;
    }

    fn f(&mut self, r: u8) -> Unknown {
        self.float_reads |= 1 << r;
        Unknown
    }

    fn set_f(&mut self, r: u8, _: Unknown) {
        self.float_writes |= 1 << r;
    }

    unknown! {
        imm(value: i64);
        add(a: Unknown, b: Unknown);
        sub(a: Unknown, b: Unknown);
        and(a: Unknown, b: Unknown);
        or(a: Unknown, b: Unknown);
        xor(a: Unknown, b: Unknown);
        shl(a: Unknown, b: Unknown);
        shr(a: Unknown, b: Unknown);
        sar(a: Unknown, b: Unknown);
        rotr(a: Unknown, b: Unknown);
        rotrw(a: Unknown, b: Unknown);
        mul(a: Unknown, b: Unknown);
        mulh(a: Unknown, b: Unknown);
        mulhu(a: Unknown, b: Unknown);
        div(a: Unknown, b: Unknown);
        divu(a: Unknown, b: Unknown);
        rem(a: Unknown, b: Unknown);
        remu(a: Unknown, b: Unknown);
        clz(a: Unknown);
        ctz(a: Unknown);
        popcount(a: Unknown);
        bswap(a: Unknown);
        clmul(a: Unknown, b: Unknown);
        clmulh(a: Unknown, b: Unknown);
        sext(a: Unknown, width: Width);
        zext(a: Unknown, width: Width);
        cmp(cond: Cond, a: Unknown, b: Unknown);
        select(c: Unknown, a: Unknown, b: Unknown);
    }

    fn load(&mut self, _: &Insn, _: Unknown, _: Width, _: Extend) -> Result<Unknown, Infallible> {
        self.loads = true;
        Ok(Unknown)
    }

    fn store(&mut self, _: &Insn, _: Unknown, _: Width, _: Unknown) -> Result<(), Infallible> {
        self.stores = true;
        Ok(())
    }

    fn amo(&mut self, _: &Insn, _: AmoOp, _: Unknown, _: Width, _: Unknown) -> Result<Unknown, Infallible> {
        self.loads = true;
        self.stores = true;
        Ok(Unknown)
    }

    fn compare_and_swap(
        &mut self,
        _: &Insn,
        _: Unknown,
        _: Width,
        _: Unknown,
        _: Unknown,
    ) -> Result<Unknown, Infallible> {
        self.loads = true;
        self.stores = true;
        Ok(Unknown)
    }

    fn compare_and_swap_pair(
        &mut self,
        _: &Insn,
        _: Unknown,
        _: [Unknown; 2],
        _: [Unknown; 2],
    ) -> Result<[Unknown; 2], Infallible> {
        self.loads = true;
        self.stores = true;
        Ok([Unknown; 2])
    }

    fn load_reserved(&mut self, _: &Insn, _: Unknown, _: Width) -> Result<Unknown, Infallible> {
        self.loads = true;
        Ok(Unknown)
    }

    fn store_conditional(&mut self, _: &Insn, _: Unknown, _: Width, _: Unknown) -> Result<Unknown, Infallible> {
        self.stores = true;
        Ok(Unknown)
    }

    fn fence(&mut self, _: &Insn) {
        self.fences = true;
    }

    fn branch(&mut self, _: &Insn, _: Unknown, _: i64) -> Result<(), Infallible> {
        self.branches = true;
        Ok(())
    }

    fn jump(&mut self, _: &Insn, _: i64) -> Result<(), Infallible> {
        self.branches = true;
        Ok(())
    }

    fn jump_indirect(&mut self, _: &Insn, _: Unknown) -> Result<(), Infallible> {
        self.branches = true;
        Ok(())
    }

    fn float(&mut self, _: &Insn, _: FloatOp, _: Format, _: [Unknown; 3]) -> Unknown {
        self.floats = true;
        Unknown
    }

    fn call(&mut self, _: &Insn, _: Helper) -> Result<(), Infallible> {
        self.calls = true;
        Ok(())
    }
}
