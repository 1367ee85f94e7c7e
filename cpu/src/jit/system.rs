//! Instructions that the interpreter gives to a helper and translated code mostly executes itself, as kernels and C
//! libraries are full of them: accesses to CSRs that are plain storage, to `fflags` and to `sstatus`, and `cbo.zero`.
//!
//! What is left to the helper is whatever has an effect beyond the register: it decides, as for the interpreter.

use bus::Width;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::types::I64;
use cranelift_codegen::ir::{Block as Label, InstBuilder, Value};

use super::effects::{Registers, x_bit};
use super::state::{Service, offset};
use super::translate::{Translator, V, probe_tlb};
use crate::block::Mode;
use crate::csr::{self, Stored, envcfg, mstatus};
use crate::hart::CACHE_BLOCK_SIZE;
use crate::isa::{Insn, Ops};
use crate::lockstep::Kind;

/// What an access to a CSR does with its operand (Zicsr).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Write,
    Set,
    Clear,
}

/// The operand of an access to a CSR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operand {
    /// An integer register.
    Register(u8),
    Immediate(u8),
}

/// How an access changes a CSR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Change {
    operation: Operation,
    operand: Operand,
}

impl Change {
    /// Whether it only reads: with `x0` or zero to set or clear.
    fn is_none(self) -> bool {
        self.operation != Operation::Write && matches!(self.operand, Operand::Register(0) | Operand::Immediate(0))
    }

    fn reads(self) -> Registers {
        if let Operand::Register(register) = self.operand { x_bit(register) } else { 0 }
    }
}

/// An instruction that translated code executes itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum System {
    /// `fflags`, which is read or replaced.
    Flags(Change),
    /// A register that is plain storage.
    Stored(Stored, Change),
    /// `sstatus`, unless more than the supervisor's interrupts and previous privilege changes.
    Status(Change),
    /// `cbo.zero`, where the TLB has the block.
    ZeroBlock,
}

impl System {
    /// The one that an instruction is in a mode, if it is any.
    pub fn of(insn: &Insn, mode: Mode) -> Option<Self> {
        const SYSTEM: u32 = 0b111_0011;
        const MISC_MEM: u32 = 0b000_1111;
        const FFLAGS: u16 = 0x001;
        const SSTATUS: u16 = 0x100;
        const ZERO: u16 = 4;
        let (opcode, function, number) = (insn.raw & 0x7f, insn.raw >> 12 & 7, (insn.raw >> 20) as u16);
        if (opcode, function, number) == (MISC_MEM, 2, ZERO) {
            return (!mode.masks_pointers()).then_some(System::ZeroBlock);
        }
        if opcode != SYSTEM {
            return None;
        }
        let operation = match function & 3 {
            1 => Operation::Write,
            2 => Operation::Set,
            3 => Operation::Clear,
            _ => return None,
        };
        let source = (insn.raw >> 15 & 31) as u8;
        let operand = if function & 4 == 0 { Operand::Register(source) } else { Operand::Immediate(source) };
        let change = Change { operation, operand };
        match number {
            FFLAGS => {
                let is_known = !mode.floats_are_off() && (change.is_none() || operation == Operation::Write);
                is_known.then_some(System::Flags(change))
            }
            // The privilege of loads and stores is the hart's own, or M-mode uses another's.
            _ if mode.privilege() < u32::from(number >> 8 & 3) => None,
            SSTATUS => Some(System::Status(change)),
            _ => csr::stored(number).map(|register| System::Stored(register, change)),
        }
    }

    /// The integer registers that it reads and whether it computes in floating point, if no helper takes part in it.
    pub fn effects(self) -> Option<(Registers, bool)> {
        match self {
            // Its place among the floating-point operations counts.
            System::Flags(change) => Some((change.reads(), true)),
            System::Stored(_, change) => Some((change.reads(), false)),
            System::Status(_) | System::ZeroBlock => None,
        }
    }
}

impl Translator<'_, '_> {
    /// Executes an instruction without its helper. Else, all registers being in memory: the label where its way joins
    /// the helper's, which is translated next.
    pub(super) fn system(&mut self, i: &Insn, system: System) -> Result<(), Label> {
        match system {
            System::Flags(change) => self.float_flags(i, change),
            System::Stored(register, change) => self.stored(i, register, change),
            System::Status(change) => return Err(self.status(i, change)),
            System::ZeroBlock => return Err(self.zero_block(i)),
        }
        Ok(())
    }

    fn operand(&mut self, change: Change) -> Value {
        let value = match change.operand {
            Operand::Register(register) => self.x(register),
            Operand::Immediate(value) => V::Const(value.into()),
        };
        self.int(value)
    }

    /// What a change makes of a register's value.
    fn changed(&mut self, change: Change, old: Value, operand: Value) -> Value {
        match change.operation {
            Operation::Write => operand,
            Operation::Set => self.b.ins().bor(old, operand),
            Operation::Clear => self.b.ins().band_not(old, operand),
        }
    }

    /// Reads or replaces `fflags`.
    fn float_flags(&mut self, i: &Insn, change: Change) {
        let value = (!change.is_none()).then(|| self.operand(change));
        self.call_service(Service::AccrueFlags, &[]);
        let old = self.b.ins().load(I64, self.memory.hart, self.hart, offset::FFLAGS);
        if let Some(value) = value {
            let value = self.b.ins().band_imm_s(value, 0x1f);
            self.b.ins().store(self.memory.hart, value, self.hart, offset::FFLAGS);
            self.dirty_floats();
        }
        self.set_x(i.rd, V::Int(old));
    }

    fn stored(&mut self, i: &Insn, register: Stored, change: Change) {
        let operand = self.operand(change);
        let place = register.place as i32;
        let old = self.b.ins().load(I64, self.memory.hart, self.hart, place);
        if !change.is_none() {
            let value = self.changed(change, old, operand);
            let value =
                if register.is_pc { self.b.ins().band_imm_s(value, !(self.region.aligned as i64)) } else { value };
            self.b.ins().store(self.memory.hart, value, self.hart, place);
        }
        self.set_x(i.rd, V::Int(old));
    }

    /// Branches to the helper's way unless `quick`, and goes on the quick way. The labels of the helper's way and of where
    /// both join.
    fn unless(&mut self, quick: Value) -> (Label, Label) {
        let (hot, cold, join) = (self.b.create_block(), self.cold(), self.b.create_block());
        self.branch_to(quick, hot, cold);
        self.b.switch_to_block(hot);
        (cold, join)
    }

    fn status(&mut self, i: &Insn, change: Change) -> Label {
        /// Changing these concerns interrupts at most.
        const QUICK: u64 = mstatus::SIE.mask() | mstatus::SPIE.mask() | mstatus::SPP.mask();
        let operand = self.operand(change);
        let old = self.b.ins().load(I64, self.memory.hart, self.hart, offset::MSTATUS);
        let wanted = self.changed(change, old, operand);
        let difference = self.b.ins().bxor(old, wanted);
        let difference = self.b.ins().band_imm_s(difference, (mstatus::SUPERVISOR & mstatus::WRITABLE) as i64);
        let mut others = self.b.ins().band_imm_s(difference, !QUICK as i64);
        if change.operation != Operation::Clear && !change.is_none() {
            // What waits for SIE is to be taken.
            let waiting = self.b.ins().load(I64, self.memory.hart, self.hart, offset::WAITING);
            let enabled = self.b.ins().band(difference, wanted);
            let taken = self.b.ins().band(enabled, waiting);
            others = self.b.ins().bor(others, taken);
        }
        let quick = self.b.ins().icmp_imm_s(IntCC::Equal, others, 0);
        let (cold, join) = self.unless(quick);
        if !change.is_none() {
            let new = self.b.ins().bxor(old, difference);
            self.b.ins().store(self.memory.hart, new, self.hart, offset::MSTATUS);
        }
        if i.rd != 0 {
            let dirty = self.b.ins().band_imm_s(old, mstatus::FS.mask() as i64);
            let dirty = self.b.ins().icmp_imm_s(IntCC::Equal, dirty, mstatus::FS.mask() as i64);
            let dirty = self.b.ins().uextend(I64, dirty);
            let dirty = self.b.ins().ishl_imm_s(dirty, i64::from(mstatus::SD.mask().trailing_zeros()));
            let shown = mstatus::SUPERVISOR & !(mstatus::SD.mask() | mstatus::UXL.mask());
            let value = self.b.ins().band_imm_s(old, shown as i64);
            let value = self.b.ins().bor_imm_s(value, mstatus::UXL.set(0, mstatus::XL_64) as i64);
            let value = self.b.ins().bor(value, dirty);
            self.b.ins().store(self.memory.hart, value, self.hart, offset::X + 8 * i32::from(i.rd));
        }
        self.b.ins().jump(join, []);
        self.b.switch_to_block(cold);
        join
    }

    fn zero_block(&mut self, i: &Insn) -> Label {
        let address = self.x(i.rs1);
        let address = self.int(address);
        let block = self.b.ins().band_imm_s(address, !(CACHE_BLOCK_SIZE as i64 - 1));
        let (mut quick, entry) = probe_tlb(self.b, self.memory, self.hart, block, Width::Byte, offset::WRITE_TLB);
        // The higher modes allow it.
        let controls = [offset::MENVCFG, offset::SENVCFG];
        for control in &controls[..2usize.saturating_sub(self.mode.privilege() as usize)] {
            let value = self.b.ins().load(I64, self.memory.hart, self.hart, *control);
            let allowed = self.b.ins().band_imm_s(value, envcfg::CBZE.mask() as i64);
            let allowed = self.b.ins().icmp_imm_s(IntCC::NotEqual, allowed, 0);
            quick = self.b.ins().band(quick, allowed);
        }
        let (cold, join) = self.unless(quick);
        let host = self.host_address(entry, block, offset::WRITE_TLB);
        let zero = self.constant(0);
        for doubleword in 0..CACHE_BLOCK_SIZE as i32 / 8 {
            self.b.ins().store(self.memory.guest, zero, host, 8 * doubleword);
            let address = self.b.ins().iadd_imm_s(block, 8 * i64::from(doubleword));
            self.log(Kind::Store, Width::Double, address, (host, 8 * doubleword), zero);
        }
        self.b.ins().jump(join, []);
        self.b.switch_to_block(cold);
        join
    }
}
