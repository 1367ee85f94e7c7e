//! The interpreter's meaning of the operations that instructions are written in: values are numbers, and everything
//! happens at once.

use bus::Width;
use softfloat::{F16, F32, F64, Flags, Rounding};

use crate::isa::{AmoOp, Cond, Extend, FloatOp, Format, Helper, Insn, IntFormat, Ops};
use crate::trap::Exception;
use crate::{Hart, Trapped};

/// The operations on values alone, for an instance of [`Ops`] with a field `hart`: they are the hart's.
macro_rules! forward_values {
    () => {
        $crate::operations::forward_values! {
            imm(value: i64); x(r: u8); f(r: u8);
            add(a: u64, b: u64); sub(a: u64, b: u64); and(a: u64, b: u64); or(a: u64, b: u64); xor(a: u64, b: u64);
            shl(a: u64, b: u64); shr(a: u64, b: u64); sar(a: u64, b: u64); rotr(a: u64, b: u64); rotrw(a: u64, b: u64);
            mul(a: u64, b: u64); mulh(a: u64, b: u64); mulhu(a: u64, b: u64);
            div(a: u64, b: u64); divu(a: u64, b: u64); rem(a: u64, b: u64); remu(a: u64, b: u64);
            clz(a: u64); ctz(a: u64); popcount(a: u64); bswap(a: u64); clmul(a: u64, b: u64); clmulh(a: u64, b: u64);
            sext(a: u64, width: Width); zext(a: u64, width: Width);
            cmp(cond: Cond, a: u64, b: u64); select(c: u64, a: u64, b: u64);
        }
    };
    ($($name:ident($($operand:ident: $t:ty),*);)*) => {
        $(#[inline(always)]
        fn $name(&mut self, $($operand: $t),*) -> u64 {
            Ops::$name(self.hart, $($operand),*)
        })*
    };
}
pub(crate) use forward_values;

/// The low half of the carry-less product, by the same steps for all operands (Zkt).
///
/// Every fourth bit of one operand is multiplied by every fourth of the other, so that there are three places between
/// two for carries to end in. Only where 16 ones meet does a carry go further: that is at one of the four highest
/// places, and it leaves the product.
pub(crate) fn carryless_low(a: u64, b: u64) -> u64 {
    let part = |value: u64, first: u32| value & (0x1111_1111_1111_1111 << first);
    (0..4).fold(0, |product, place| {
        let factors = |first: u32| part(a, first).wrapping_mul(part(b, (place + 4 - first) % 4));
        product | part((0..4).fold(0, |sum, first| sum ^ factors(first)), place)
    })
}

/// The high half of the carry-less product: the low half of the mirrored operands', mirrored.
pub(crate) fn carryless_high(a: u64, b: u64) -> u64 {
    carryless_low(a.reverse_bits(), b.reverse_bits()).reverse_bits() >> 1
}

impl Hart {
    /// Whether an instruction can be at `target`.
    #[inline(always)]
    pub(crate) fn is_aligned(&self, target: u64) -> bool {
        target & 3 == 0 || target & self.instruction_alignment() == 0
    }

    #[inline(always)]
    fn goto(&mut self, target: u64) -> Result<(), Trapped> {
        if !self.is_aligned(target) {
            return Err(self.raise(Exception::InstructionAddressMisaligned, target));
        }
        self.next_pc = target;
        Ok(())
    }

    /// The rounding mode of an instruction: its own or `frm`. Decoding refuses reserved modes of both kinds.
    #[inline]
    fn rounding(&self, i: &Insn) -> Rounding {
        let mode = if i.rm == 7 { self.csr.frm as u8 } else { i.rm };
        Rounding::from_bits(mode).unwrap_or(Rounding::NearestEven)
    }

    /// Operands one by one, not by reference: so the handlers that call it stay free of stack slots, and their calls of
    /// the next handler tail calls.
    #[inline(never)]
    fn exact_float(&mut self, i: &Insn, op: FloatOp, format: Format, a: u64, b: u64, c: u64) -> u64 {
        match format {
            Format::Half => self.float_in::<F16>(i, op, [a, b, c]),
            Format::Single => self.float_in::<F32>(i, op, [a, b, c]),
            Format::Double => self.float_in::<F64>(i, op, [a, b, c]),
        }
    }

    fn float_in<F: softfloat::Format>(&mut self, i: &Insn, op: FloatOp, [a, b, c]: [u64; 3]) -> u64 {
        let rounding = self.rounding(i);
        let mut flags = Flags::NONE;
        let f = &mut flags;
        let result = match op {
            FloatOp::Add => softfloat::add::<F>(a, b, rounding, f),
            FloatOp::Sub => softfloat::sub::<F>(a, b, rounding, f),
            FloatOp::Mul => softfloat::mul::<F>(a, b, rounding, f),
            FloatOp::Div => softfloat::div::<F>(a, b, rounding, f),
            FloatOp::Sqrt => softfloat::sqrt::<F>(a, rounding, f),
            FloatOp::MulAdd => softfloat::mul_add::<F>(a, b, c, rounding, f),
            FloatOp::Min => softfloat::minimum_number::<F>(a, b, f),
            FloatOp::Max => softfloat::maximum_number::<F>(a, b, f),
            FloatOp::MinNan => softfloat::minimum::<F>(a, b, f),
            FloatOp::MaxNan => softfloat::maximum::<F>(a, b, f),
            FloatOp::Eq => softfloat::eq::<F>(a, b, f).into(),
            FloatOp::Lt => softfloat::lt::<F>(a, b, f).into(),
            FloatOp::Le => softfloat::le::<F>(a, b, f).into(),
            FloatOp::LtQuiet => softfloat::lt_quiet::<F>(a, b, f).into(),
            FloatOp::LeQuiet => softfloat::le_quiet::<F>(a, b, f).into(),
            FloatOp::Class => softfloat::classify::<F>(a),
            FloatOp::ToInt(IntFormat::I32) => softfloat::to_i32::<F>(a, rounding, f) as i64 as u64,
            FloatOp::ToInt(IntFormat::U32) => softfloat::to_u32::<F>(a, rounding, f) as i32 as i64 as u64,
            FloatOp::ToInt(IntFormat::I64) => softfloat::to_i64::<F>(a, rounding, f) as u64,
            FloatOp::ToInt(IntFormat::U64) => softfloat::to_u64::<F>(a, rounding, f),
            FloatOp::FromInt(IntFormat::I32) => softfloat::from_i32::<F>(a as i32, rounding, f),
            FloatOp::FromInt(IntFormat::U32) => softfloat::from_u32::<F>(a as u32, rounding, f),
            FloatOp::FromInt(IntFormat::I64) => softfloat::from_i64::<F>(a as i64, rounding, f),
            FloatOp::FromInt(IntFormat::U64) => softfloat::from_u64::<F>(a, rounding, f),
            FloatOp::From(Format::Half) => softfloat::convert::<F16, F>(a, rounding, f),
            FloatOp::From(Format::Single) => softfloat::convert::<F32, F>(a, rounding, f),
            FloatOp::From(Format::Double) => softfloat::convert::<F64, F>(a, rounding, f),
            FloatOp::Round => softfloat::round_to_integral::<F>(a, rounding, f),
            FloatOp::RoundInexact => softfloat::round_to_integral_exact::<F>(a, rounding, f),
            FloatOp::ToIntModular => softfloat::to_i32_modular(a, f) as i64 as u64,
        };
        if flags != Flags::NONE {
            self.csr.fflags |= u64::from(flags.bits());
            self.dirty_floats();
        }
        result
    }
}

impl Ops for Hart {
    type V = u64;
    type Exit = Trapped;

    #[inline(always)]
    fn imm(&mut self, value: i64) -> u64 {
        value as u64
    }

    #[inline(always)]
    fn pc(&mut self, i: &Insn) -> u64 {
        self.pc.wrapping_add(i.offset.into())
    }

    #[inline(always)]
    fn x(&mut self, r: u8) -> u64 {
        self.x[usize::from(r)]
    }

    #[inline(always)]
    fn set_x(&mut self, r: u8, value: u64) {
        self.x[usize::from(r)] = value;
        self.x[0] = 0;
    }

    #[inline(always)]
    fn f(&mut self, r: u8) -> u64 {
        self.f[usize::from(r & 31)]
    }

    #[inline(always)]
    fn set_f(&mut self, r: u8, value: u64) {
        self.f[usize::from(r & 31)] = value;
        self.dirty_floats();
    }

    #[inline(always)]
    fn add(&mut self, a: u64, b: u64) -> u64 {
        a.wrapping_add(b)
    }

    #[inline(always)]
    fn sub(&mut self, a: u64, b: u64) -> u64 {
        a.wrapping_sub(b)
    }

    #[inline(always)]
    fn and(&mut self, a: u64, b: u64) -> u64 {
        a & b
    }

    #[inline(always)]
    fn or(&mut self, a: u64, b: u64) -> u64 {
        a | b
    }

    #[inline(always)]
    fn xor(&mut self, a: u64, b: u64) -> u64 {
        a ^ b
    }

    #[inline(always)]
    fn shl(&mut self, a: u64, b: u64) -> u64 {
        a << (b & 63)
    }

    #[inline(always)]
    fn shr(&mut self, a: u64, b: u64) -> u64 {
        a >> (b & 63)
    }

    #[inline(always)]
    fn sar(&mut self, a: u64, b: u64) -> u64 {
        (a as i64 >> (b & 63)) as u64
    }

    #[inline(always)]
    fn rotr(&mut self, a: u64, b: u64) -> u64 {
        a.rotate_right((b & 63) as u32)
    }

    #[inline(always)]
    fn rotrw(&mut self, a: u64, b: u64) -> u64 {
        (a as u32).rotate_right((b & 31) as u32) as i32 as i64 as u64
    }

    #[inline(always)]
    fn mul(&mut self, a: u64, b: u64) -> u64 {
        a.wrapping_mul(b)
    }

    #[inline(always)]
    fn mulh(&mut self, a: u64, b: u64) -> u64 {
        ((i128::from(a as i64) * i128::from(b as i64)) >> 64) as u64
    }

    #[inline(always)]
    fn mulhu(&mut self, a: u64, b: u64) -> u64 {
        ((u128::from(a) * u128::from(b)) >> 64) as u64
    }

    #[inline(always)]
    fn div(&mut self, a: u64, b: u64) -> u64 {
        if b == 0 { u64::MAX } else { (a as i64).wrapping_div(b as i64) as u64 }
    }

    #[inline(always)]
    fn divu(&mut self, a: u64, b: u64) -> u64 {
        a.checked_div(b).unwrap_or(u64::MAX)
    }

    #[inline(always)]
    fn rem(&mut self, a: u64, b: u64) -> u64 {
        if b == 0 { a } else { (a as i64).wrapping_rem(b as i64) as u64 }
    }

    #[inline(always)]
    fn remu(&mut self, a: u64, b: u64) -> u64 {
        a.checked_rem(b).unwrap_or(a)
    }

    #[inline(always)]
    fn clz(&mut self, a: u64) -> u64 {
        a.leading_zeros().into()
    }

    #[inline(always)]
    fn ctz(&mut self, a: u64) -> u64 {
        a.trailing_zeros().into()
    }

    #[inline(always)]
    fn popcount(&mut self, a: u64) -> u64 {
        a.count_ones().into()
    }

    #[inline(always)]
    fn bswap(&mut self, a: u64) -> u64 {
        a.swap_bytes()
    }

    fn clmul(&mut self, a: u64, b: u64) -> u64 {
        carryless_low(a, b)
    }

    fn clmulh(&mut self, a: u64, b: u64) -> u64 {
        carryless_high(a, b)
    }

    #[inline(always)]
    fn sext(&mut self, a: u64, width: Width) -> u64 {
        width.sign_extend(a)
    }

    #[inline(always)]
    fn zext(&mut self, a: u64, width: Width) -> u64 {
        width.zero_extend(a)
    }

    #[inline(always)]
    fn cmp(&mut self, cond: Cond, a: u64, b: u64) -> u64 {
        let holds = match cond {
            Cond::Eq => a == b,
            Cond::Ne => a != b,
            Cond::Lt => (a as i64) < b as i64,
            Cond::Ge => a as i64 >= b as i64,
            Cond::Ltu => a < b,
            Cond::Geu => a >= b,
        };
        holds.into()
    }

    #[inline(always)]
    fn select(&mut self, c: u64, a: u64, b: u64) -> u64 {
        if c != 0 { a } else { b }
    }

    #[inline(always)]
    fn load(&mut self, _: &Insn, address: u64, width: Width, extend: Extend) -> Result<u64, Trapped> {
        let value = self.load_virtual(address, width)?;
        Ok(match extend {
            Extend::Signed => width.sign_extend(value),
            Extend::Zero => value,
        })
    }

    #[inline(always)]
    fn store(&mut self, _: &Insn, address: u64, width: Width, value: u64) -> Result<(), Trapped> {
        self.store_virtual(address, width, value)
    }

    fn amo(&mut self, _: &Insn, op: AmoOp, address: u64, width: Width, value: u64) -> Result<u64, Trapped> {
        self.amo_virtual(op, address, width, value)
    }

    fn compare_and_swap(
        &mut self,
        _: &Insn,
        address: u64,
        width: Width,
        expected: u64,
        new: u64,
    ) -> Result<u64, Trapped> {
        self.compare_and_swap_virtual(address, width, expected, new)
    }

    fn compare_and_swap_pair(
        &mut self,
        _: &Insn,
        address: u64,
        expected: [u64; 2],
        new: [u64; 2],
    ) -> Result<[u64; 2], Trapped> {
        self.compare_and_swap_pair_virtual(address, expected, new)
    }

    fn load_reserved(&mut self, _: &Insn, address: u64, width: Width) -> Result<u64, Trapped> {
        self.load_reserved_virtual(address, width)
    }

    fn store_conditional(&mut self, _: &Insn, address: u64, width: Width, value: u64) -> Result<u64, Trapped> {
        self.store_conditional_virtual(address, width, value)
    }

    #[inline(always)]
    fn fence(&mut self, _: &Insn) {
        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
    }

    #[inline(always)]
    fn branch(&mut self, i: &Insn, c: u64, offset: i64) -> Result<(), Trapped> {
        if c == 0 {
            return Ok(());
        }
        let target = self.pc(i).wrapping_add_signed(offset);
        self.goto(target)
    }

    #[inline(always)]
    fn jump(&mut self, i: &Insn, offset: i64) -> Result<(), Trapped> {
        let target = self.pc(i).wrapping_add_signed(offset);
        self.goto(target)
    }

    #[inline(always)]
    fn jump_indirect(&mut self, _: &Insn, target: u64) -> Result<(), Trapped> {
        self.goto(target)
    }

    #[inline(always)]
    fn float(&mut self, i: &Insn, op: FloatOp, format: Format, [a, b, c]: [u64; 3]) -> u64 {
        self.exact_float(i, op, format, a, b, c)
    }

    #[inline(always)]
    fn call(&mut self, i: &Insn, helper: Helper) -> Result<(), Trapped> {
        let pc = Ops::pc(self, i);
        self.next_pc = pc.wrapping_add(i.length());
        // Helpers see every older instruction as retired; the block adds its whole count at its end.
        self.counts.retired = self.counts.retired.wrapping_add(i.index.into());
        let result = helper(self, i);
        // Wrapping: an ecall to the built-in SBI has taken itself off, of what may be none.
        self.counts.retired = self.counts.retired.wrapping_sub(i.index.into());
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agrees(a: u64, b: u64) {
        let shifted = |bit: u32| if b >> bit & 1 != 0 { u128::from(a) << bit } else { 0 };
        let product = (0..64).fold(0, |product, bit| product ^ shifted(bit));
        assert_eq!(carryless_low(a, b), product as u64, "{a:#x} {b:#x}");
        assert_eq!(carryless_high(a, b), (product >> 64) as u64, "{a:#x} {b:#x}");
    }

    #[test]
    fn no_carry_is_left_where_most_ones_meet() {
        let all = [u64::MAX, 0x1111_1111_1111_1111, 0x8888_8888_8888_8888, 0x7fff_ffff_ffff_ffff, 1, 1 << 63];
        all.into_iter().for_each(|a| all.into_iter().for_each(|b| agrees(a, b)));
    }

    #[test]
    fn products_without_carries_are_exact() {
        // A generator by shifts: any bits will do.
        let mut state = 88_172_645_463_325_252_u64;
        let mut random = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        for _ in 0..10_000 {
            agrees(random(), random());
        }
    }
}
