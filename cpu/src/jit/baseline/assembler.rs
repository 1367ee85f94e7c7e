//! The x86-64 instructions that the baseline compiler emits, and its labels. Encodings are `cranelift-assembler-x64`'s.

use bus::Width;
use cranelift_assembler_x64::{
    Amode, AmodeOffset, AmodeOffsetPlusKnownOffset, Fixed, GprMem, Imm8, NonRspGpr, Registers, Scale, TrapCode, inst,
};

use crate::isa::{Cond, Extend};

/// A register of the host, by its number in encodings.
pub(super) type Register = u8;

pub(super) const RAX: Register = 0;
pub(super) const RCX: Register = 1;
pub(super) const RDX: Register = 2;
pub(super) const RBX: Register = 3;
pub(super) const RSP: Register = 4;
pub(super) const RSI: Register = 6;
pub(super) const RDI: Register = 7;
pub(super) const R8: Register = 8;
pub(super) const R9: Register = 9;
pub(super) const R10: Register = 10;
pub(super) const R11: Register = 11;
pub(super) const R12: Register = 12;
pub(super) const R13: Register = 13;
pub(super) const R14: Register = 14;
pub(super) const R15: Register = 15;

/// A place in the code that may be yet to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Label(u32);

/// An operand in memory: a register plus a constant, and maybe another register.
#[derive(Clone, Copy, Debug)]
pub(super) struct Memory {
    base: Register,
    index: Option<Register>,
    displacement: i32,
}

/// What is at a distance from where a register leads.
pub(super) fn at(base: Register, displacement: i32) -> Memory {
    Memory { base, index: None, displacement }
}

impl Memory {
    /// As far again as another register says.
    pub fn plus(self, index: Register) -> Self {
        Self { index: Some(index), ..self }
    }
}

/// The second operand of an instruction.
#[derive(Clone, Copy, Debug)]
pub(super) enum Operand {
    Register(Register),
    Immediate(i32),
    Memory(Memory),
}

/// An operation on two operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Alu {
    Add,
    Sub,
    And,
    Or,
    Xor,
    Cmp,
}

/// A shift of 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shift {
    Left,
    Right,
    Arithmetic,
}

/// An operation on one operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unary {
    LeadingZeros,
    TrailingZeros,
    Ones,
}

/// What a conditional instruction asks of the flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    /// A comparison of the operands of a `cmp`.
    Is(Cond),
    /// The result was negative.
    Negative,
}

struct Regs;

impl Registers for Regs {
    type ReadGpr = u8;
    type ReadWriteGpr = u8;
    type WriteGpr = u8;
    type ReadXmm = u8;
    type ReadWriteXmm = u8;
    type WriteXmm = u8;
}

type Place = GprMem<u8, u8>;

impl From<Memory> for Amode<u8> {
    fn from(memory: Memory) -> Self {
        let Memory { base, index, displacement } = memory;
        let simm32 = AmodeOffset::new(displacement);
        match index {
            None => Amode::ImmReg { base, simm32: AmodeOffsetPlusKnownOffset { simm32, offset: None }, trap: None },
            Some(index) => {
                Amode::ImmRegRegShift { base, index: NonRspGpr::new(index), scale: Scale::One, simm32, trap: None }
            }
        }
    }
}

fn register(register: Register) -> Place {
    GprMem::Gpr(register)
}

fn memory(memory: Memory) -> Place {
    GprMem::Mem(memory.into())
}

/// Code in the making.
#[derive(Default)]
pub(super) struct Assembler {
    code: Vec<u8>,
    labels: Vec<Option<u32>>,
    /// Where a distance to a label is missing.
    missing: Vec<(u32, Label)>,
}

/// How much there was of everything, to go back to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    code: usize,
    labels: usize,
    missing: usize,
}

macro_rules! emit {
    ($self:ident, $name:ident $(, $operand:expr)*) => {
        inst::$name::<Regs>::new($($operand),*).encode(&mut $self.code)
    };
}

impl Assembler {
    pub fn mark(&self) -> Mark {
        Mark { code: self.code.len(), labels: self.labels.len(), missing: self.missing.len() }
    }

    /// Takes back what came after a mark. No label from before may have been placed since.
    pub fn go_back(&mut self, mark: Mark) {
        self.code.truncate(mark.code);
        self.labels.truncate(mark.labels);
        self.missing.truncate(mark.missing);
    }

    pub fn label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len() as u32 - 1)
    }

    /// The label is here.
    pub fn place(&mut self, label: Label) {
        self.labels[label.0 as usize] = Some(self.code.len() as u32);
    }

    /// Bytes before a label, which has been placed.
    pub fn distance(&self, label: Label) -> u32 {
        self.labels[label.0 as usize].unwrap_or_default()
    }

    /// The code. All labels have been placed.
    pub fn finish(mut self) -> Vec<u8> {
        for (place, label) in &self.missing {
            let target = self.labels[label.0 as usize].unwrap_or_default();
            let place = *place as usize;
            let distance = target.wrapping_sub(place as u32 + 4);
            self.code[place..place + 4].copy_from_slice(&distance.to_le_bytes());
        }
        self.code
    }

    fn missing(&mut self, label: Label) {
        self.missing.push((self.code.len() as u32 - 4, label));
    }

    pub fn jump(&mut self, label: Label) {
        inst::jmp_d32::new(0).encode(&mut self.code);
        self.missing(label);
    }

    pub fn jump_if(&mut self, condition: Condition, label: Label) {
        match condition {
            Condition::Is(Cond::Eq) => inst::je_d32::new(0).encode(&mut self.code),
            Condition::Is(Cond::Ne) => inst::jne_d32::new(0).encode(&mut self.code),
            Condition::Is(Cond::Lt) => inst::jl_d32::new(0).encode(&mut self.code),
            Condition::Is(Cond::Ge) => inst::jge_d32::new(0).encode(&mut self.code),
            Condition::Is(Cond::Ltu) => inst::jb_d32::new(0).encode(&mut self.code),
            Condition::Is(Cond::Geu) => inst::jae_d32::new(0).encode(&mut self.code),
            Condition::Negative => inst::js_d32::new(0).encode(&mut self.code),
        }
        self.missing(label);
    }

    pub fn jump_to(&mut self, target: Memory) {
        emit!(self, jmpq_m, memory(target));
    }

    pub fn call(&mut self, target: Memory) {
        emit!(self, callq_m, memory(target));
    }

    pub fn ret(&mut self) {
        inst::retq_zo::new().encode(&mut self.code);
    }

    pub fn push(&mut self, from: Register) {
        emit!(self, pushq_o, from);
    }

    pub fn pop(&mut self, to: Register) {
        emit!(self, popq_o, to);
    }

    /// Orders stores before loads.
    pub fn fence(&mut self) {
        inst::mfence_zo::new().encode(&mut self.code);
    }

    pub fn copy(&mut self, to: Register, from: Register) {
        emit!(self, movq_rm, to, register(from));
    }

    /// Leaves the flags alone.
    pub fn constant(&mut self, to: Register, value: i64) {
        if let Ok(low) = u32::try_from(value) {
            emit!(self, movl_oi, to, low);
        } else if let Ok(low) = i32::try_from(value) {
            emit!(self, movq_mi_sxl, register(to), low);
        } else {
            emit!(self, movabsq_oi, to, value as u64);
        }
    }

    /// The address of a place; leaves the flags alone.
    pub fn address(&mut self, to: Register, of: Memory) {
        emit!(self, leaq_rm, to, of);
    }

    pub fn load(&mut self, to: Register, from: Memory, width: Width, extend: Extend) {
        self.take(to, memory(from), width, extend);
    }

    /// The low bits of a register, extended.
    pub fn extend(&mut self, to: Register, from: Register, width: Width, extend: Extend) {
        self.take(to, register(from), width, extend);
    }

    fn take(&mut self, to: Register, from: Place, width: Width, extend: Extend) {
        match (width, extend) {
            (Width::Byte, Extend::Zero) => emit!(self, movzbl_rm, to, from),
            (Width::Half, Extend::Zero) => emit!(self, movzwl_rm, to, from),
            (Width::Word, Extend::Zero) => emit!(self, movl_rm, to, from),
            (Width::Byte, Extend::Signed) => emit!(self, movsbq_rm, to, from),
            (Width::Half, Extend::Signed) => emit!(self, movswq_rm, to, from),
            (Width::Word, Extend::Signed) => emit!(self, movslq_rm, to, from),
            (Width::Double, _) => emit!(self, movq_rm, to, from),
        }
    }

    pub fn store(&mut self, to: Memory, from: Register, width: Width) {
        let to = memory(to);
        match width {
            Width::Byte => emit!(self, movb_mr, to, from),
            Width::Half => emit!(self, movw_mr, to, from),
            Width::Word => emit!(self, movl_mr, to, from),
            Width::Double => emit!(self, movq_mr, to, from),
        }
    }

    /// Stores a constant, sign-extended to 64 bits.
    pub fn store_constant(&mut self, to: Memory, value: i32) {
        emit!(self, movq_mi_sxl, memory(to), value);
    }

    pub fn alu(&mut self, operation: Alu, to: Register, operand: Operand) {
        let place = match operand {
            Operand::Immediate(value) => {
                let to = register(to);
                match operation {
                    Alu::Add => emit!(self, addq_mi_sxl, to, value),
                    Alu::Sub => emit!(self, subq_mi_sxl, to, value),
                    Alu::And => emit!(self, andq_mi_sxl, to, value),
                    Alu::Or => emit!(self, orq_mi_sxl, to, value),
                    Alu::Xor => emit!(self, xorq_mi_sxl, to, value),
                    Alu::Cmp => emit!(self, cmpq_mi, to, value),
                }
                return;
            }
            Operand::Register(from) => register(from),
            Operand::Memory(from) => memory(from),
        };
        match operation {
            Alu::Add => emit!(self, addq_rm, to, place),
            Alu::Sub => emit!(self, subq_rm, to, place),
            Alu::And => emit!(self, andq_rm, to, place),
            Alu::Or => emit!(self, orq_rm, to, place),
            Alu::Xor => emit!(self, xorq_rm, to, place),
            Alu::Cmp => emit!(self, cmpq_rm, to, place),
        }
    }

    /// Masks a word; zero-extended.
    pub fn mask_word(&mut self, value: Register, mask: i32) {
        emit!(self, andl_mi, register(value), mask as u32);
    }

    /// Compares a register with itself: zero, negative or neither.
    pub fn test(&mut self, value: Register) {
        emit!(self, testq_mr, register(value), value);
    }

    /// Whether a word in memory is zero.
    pub fn compare_word_with_zero(&mut self, word: Memory) {
        emit!(self, cmpl_mi_sxb, memory(word), 0_i8);
    }

    /// Whether a doubleword in memory is zero.
    pub fn compare_with_zero(&mut self, value: Memory) {
        emit!(self, cmpq_mi_sxb, memory(value), 0_i8);
    }

    /// Counts a word in memory down.
    pub fn count_down(&mut self, word: Memory) {
        emit!(self, subl_mi_sxb, memory(word), 1_i8);
    }

    /// Sets bits in memory.
    pub fn set_bits(&mut self, value: Memory, bits: i32) {
        emit!(self, orq_mi_sxl, memory(value), bits);
    }

    pub fn negate(&mut self, value: Register) {
        emit!(self, negq_m, register(value));
    }

    pub fn swap_bytes(&mut self, value: Register) {
        emit!(self, bswapq_o, value);
    }

    /// Shifts by a constant.
    pub fn shift_by(&mut self, shift: Shift, value: Register, amount: u8) {
        let (value, amount) = (register(value), Imm8::new(amount));
        match shift {
            Shift::Left => emit!(self, shlq_mi, value, amount),
            Shift::Right => emit!(self, shrq_mi, value, amount),
            Shift::Arithmetic => emit!(self, sarq_mi, value, amount),
        }
    }

    /// Shifts by the low six bits of a register.
    pub fn shift(&mut self, shift: Shift, to: Register, from: Register, amount: Register) {
        let from = register(from);
        match shift {
            Shift::Left => emit!(self, shlxq_rmv, to, from, amount),
            Shift::Right => emit!(self, shrxq_rmv, to, from, amount),
            Shift::Arithmetic => emit!(self, sarxq_rmv, to, from, amount),
        }
    }

    /// Shifts a word by the low five bits of a register; zero-extended.
    pub fn shift_word(&mut self, shift: Shift, to: Register, from: Register, amount: Register) {
        let from = register(from);
        match shift {
            Shift::Left => emit!(self, shlxl_rmv, to, from, amount),
            Shift::Right => emit!(self, shrxl_rmv, to, from, amount),
            Shift::Arithmetic => emit!(self, sarxl_rmv, to, from, amount),
        }
    }

    pub fn rotate_right_by(&mut self, to: Register, from: Register, amount: u8) {
        emit!(self, rorxq_rmi, to, register(from), Imm8::new(amount));
    }

    pub fn unary(&mut self, operation: Unary, to: Register, from: Register) {
        let from = register(from);
        match operation {
            Unary::LeadingZeros => emit!(self, lzcntq_rm, to, from),
            Unary::TrailingZeros => emit!(self, tzcntq_a, to, from),
            Unary::Ones => emit!(self, popcntq_rm, to, from),
        }
    }

    /// The low half of a product.
    pub fn multiply(&mut self, to: Register, by: Register) {
        emit!(self, imulq_rm, to, register(by));
    }

    /// RDX:RAX is RAX times a register, signed.
    pub fn multiply_signed(&mut self, by: Register) {
        emit!(self, imulq_m, Fixed(RAX), Fixed(RDX), register(by));
    }

    /// RDX:RAX is RAX times a register, unsigned.
    pub fn multiply_unsigned(&mut self, by: Register) {
        emit!(self, mulq_m, Fixed(RAX), Fixed(RDX), register(by));
    }

    /// RDX:RAX is RAX, sign-extended.
    pub fn sign_extend_to_rdx(&mut self) {
        emit!(self, cqto_zo, Fixed(RDX), Fixed(RAX));
    }

    /// Divides RDX:RAX; the quotient goes to RAX, the remainder to RDX.
    pub fn divide(&mut self, by: Register, signed: bool) {
        // Zero and overflow have been sorted out.
        const NEVER: TrapCode = TrapCode(std::num::NonZeroU8::MIN);
        if signed {
            emit!(self, idivq_m, Fixed(RAX), Fixed(RDX), register(by), NEVER);
        } else {
            emit!(self, divq_m, Fixed(RAX), Fixed(RDX), register(by), NEVER);
        }
    }

    /// One or zero.
    pub fn set_if(&mut self, condition: Cond, to: Register) {
        let byte = register(to);
        match condition {
            Cond::Eq => emit!(self, sete_m, byte),
            Cond::Ne => emit!(self, setne_m, byte),
            Cond::Lt => emit!(self, setl_m, byte),
            Cond::Ge => emit!(self, setge_m, byte),
            Cond::Ltu => emit!(self, setb_m, byte),
            Cond::Geu => emit!(self, setae_m, byte),
        }
        emit!(self, movzbl_rm, to, byte);
    }

    pub fn copy_if(&mut self, condition: Cond, to: Register, from: Register) {
        let from = register(from);
        match condition {
            Cond::Eq => emit!(self, cmoveq_rm, to, from),
            Cond::Ne => emit!(self, cmovneq_rm, to, from),
            Cond::Lt => emit!(self, cmovlq_rm, to, from),
            Cond::Ge => emit!(self, cmovgeq_rm, to, from),
            Cond::Ltu => emit!(self, cmovbq_rm, to, from),
            Cond::Geu => emit!(self, cmovaeq_rm, to, from),
        }
    }
}
