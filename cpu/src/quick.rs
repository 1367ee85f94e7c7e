//! The interpreter's first try at an instruction: the semantics once more, without anything that has to be called.
//!
//! A handler that calls nothing needs no stack frame, and its jump to the next one stays a plain jump. What cannot be
//! done so (a TLB miss, a device, an atomic, a helper, a trap) is given up before anything has changed, and the
//! instruction is executed again, in full.

use bus::Width;

use crate::Hart;
use crate::isa::{AmoOp, Cond, Extend, FloatOp, Format, Helper, Insn, Ops};

/// The quick way does not lead there. Nothing has changed.
pub(crate) struct GivenUp;

/// The hart, for what is quick.
pub(crate) struct Quick<'h> {
    pub(crate) hart: &'h mut Hart,
    /// The address of the block.
    pub(crate) pc: u64,
    /// Where the instruction goes, if not to the next one.
    pub(crate) target: Option<u64>,
}

impl Ops for Quick<'_> {
    type V = u64;
    type Exit = GivenUp;

    crate::operations::forward_values!();

    #[inline(always)]
    fn pc(&mut self, i: &Insn) -> u64 {
        self.pc.wrapping_add(i.offset.into())
    }

    #[inline(always)]
    fn set_x(&mut self, r: u8, value: u64) {
        // Never x0: decoding has put another register in its place.
        self.hart.x[usize::from(r)] = value;
    }

    #[inline(always)]
    fn set_f(&mut self, r: u8, value: u64) {
        Ops::set_f(self.hart, r, value);
    }

    #[inline(always)]
    fn load(&mut self, _: &Insn, address: u64, width: Width, extend: Extend) -> Result<u64, GivenUp> {
        let value = self.hart.load_quick(address, width).ok_or(GivenUp)?;
        Ok(match extend {
            Extend::Signed => width.sign_extend(value),
            Extend::Zero => value,
        })
    }

    #[inline(always)]
    fn store(&mut self, _: &Insn, address: u64, width: Width, value: u64) -> Result<(), GivenUp> {
        self.hart.store_quick(address, width, value).ok_or(GivenUp)
    }

    #[inline(always)]
    fn amo(&mut self, _: &Insn, _: AmoOp, _: u64, _: Width, _: u64) -> Result<u64, GivenUp> {
        Err(GivenUp)
    }

    #[inline(always)]
    fn compare_and_swap(&mut self, _: &Insn, _: u64, _: Width, _: u64, _: u64) -> Result<u64, GivenUp> {
        Err(GivenUp)
    }

    #[inline(always)]
    fn compare_and_swap_pair(&mut self, _: &Insn, _: u64, _: [u64; 2], _: [u64; 2]) -> Result<[u64; 2], GivenUp> {
        Err(GivenUp)
    }

    #[inline(always)]
    fn load_reserved(&mut self, _: &Insn, _: u64, _: Width) -> Result<u64, GivenUp> {
        Err(GivenUp)
    }

    #[inline(always)]
    fn store_conditional(&mut self, _: &Insn, _: u64, _: Width, _: u64) -> Result<u64, GivenUp> {
        Err(GivenUp)
    }

    #[inline(always)]
    fn fence(&mut self, i: &Insn) {
        Ops::fence(self.hart, i);
    }

    #[inline(always)]
    fn branch(&mut self, i: &Insn, c: u64, offset: i64) -> Result<(), GivenUp> {
        if c != 0 {
            self.jump(i, offset)?;
        }
        Ok(())
    }

    #[inline(always)]
    fn jump(&mut self, i: &Insn, offset: i64) -> Result<(), GivenUp> {
        // Aligned: decoding has seen to it.
        self.target = Some(self.pc(i).wrapping_add_signed(offset));
        Ok(())
    }

    #[inline(always)]
    fn jump_indirect(&mut self, _: &Insn, target: u64) -> Result<(), GivenUp> {
        if !self.hart.is_aligned(target) {
            return Err(GivenUp);
        }
        self.target = Some(target);
        Ok(())
    }

    #[inline(always)]
    fn float(&mut self, i: &Insn, op: FloatOp, format: Format, operands: [u64; 3]) -> u64 {
        Ops::float(self.hart, i, op, format, operands)
    }

    #[inline(always)]
    fn call(&mut self, _: &Insn, _: Helper) -> Result<(), GivenUp> {
        Err(GivenUp)
    }
}
