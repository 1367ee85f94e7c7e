//! What one instruction did, for a commit log: a third instance of the instructions' semantics, which executes on a
//! hart as the interpreter does and notes the registers written and the memory accessed.

use bus::Width;

use crate::csr;
use crate::hart::Stop;
use crate::isa::{self, AmoOp, Cond, Extend, FloatOp, Format, Helper, Insn, Opcode, Ops};
use crate::{Hart, Privilege, Trapped};

/// A register that an instruction has written, with its new value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// Integer register.
    X(u8, u64),
    /// Floating-point register.
    F(u8, u64),
    /// CSR: its number.
    Csr(u16, u64),
}

/// An access to memory by virtual address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accessed {
    /// A load.
    Load(u64),
    /// A store of the low bits of a value.
    Store(u64, Width, u64),
}

/// One instruction that has retired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// The mode that it ran in.
    pub privilege: Privilege,
    /// Its address.
    pub pc: u64,
    /// Its encoding.
    pub raw: u32,
    /// Registers written, in order; `x0` is none.
    pub written: Vec<Written>,
    /// Memory accessed, in order.
    pub accessed: Vec<Accessed>,
}

/// What a single step came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// An instruction retired.
    Retired(Commit),
    /// A trap or an interrupt was taken; nothing retired.
    Trapped,
    /// The hart has to stop first.
    Stopped(Stop),
}

/// Executes on the hart and takes notes.
struct Observer<'h> {
    hart: &'h mut Hart,
    written: Vec<Written>,
    accessed: Vec<Accessed>,
}

impl Ops for Observer<'_> {
    type V = u64;
    type Exit = Trapped;

    crate::operations::forward_values!();

    fn pc(&mut self, i: &Insn) -> u64 {
        Ops::pc(self.hart, i)
    }

    fn float(&mut self, i: &Insn, op: FloatOp, format: Format, operands: [u64; 3]) -> u64 {
        Ops::float(self.hart, i, op, format, operands)
    }

    fn set_x(&mut self, r: u8, value: u64) {
        self.hart.set_x(r.into(), value);
        if r != 0 {
            self.written.push(Written::X(r, value));
        }
    }

    fn set_f(&mut self, r: u8, value: u64) {
        Ops::set_f(self.hart, r, value);
        self.written.push(Written::F(r, value));
    }

    fn load(&mut self, i: &Insn, address: u64, width: Width, extend: Extend) -> Result<u64, Trapped> {
        let value = Ops::load(self.hart, i, address, width, extend)?;
        self.accessed.push(Accessed::Load(address));
        Ok(value)
    }

    fn store(&mut self, i: &Insn, address: u64, width: Width, value: u64) -> Result<(), Trapped> {
        Ops::store(self.hart, i, address, width, value)?;
        self.accessed.push(Accessed::Store(address, width, value));
        Ok(())
    }

    fn amo(&mut self, _: &Insn, op: AmoOp, address: u64, width: Width, value: u64) -> Result<u64, Trapped> {
        let old = self.hart.amo_virtual(op, address, width, value)?;
        let new = crate::memory::amo_result(op, width, old, value);
        self.accessed.extend([Accessed::Load(address), Accessed::Store(address, width, new)]);
        Ok(old)
    }

    fn compare_and_swap(
        &mut self,
        _: &Insn,
        address: u64,
        width: Width,
        expected: u64,
        new: u64,
    ) -> Result<u64, Trapped> {
        let old = self.hart.compare_and_swap_virtual(address, width, expected, new)?;
        self.accessed.push(Accessed::Load(address));
        if width.zero_extend(old) == width.zero_extend(expected) {
            self.accessed.push(Accessed::Store(address, width, new));
        }
        Ok(old)
    }

    fn compare_and_swap_pair(
        &mut self,
        _: &Insn,
        address: u64,
        expected: [u64; 2],
        new: [u64; 2],
    ) -> Result<[u64; 2], Trapped> {
        let old = self.hart.compare_and_swap_pair_virtual(address, expected, new)?;
        for (half, at) in [address, address.wrapping_add(8)].into_iter().enumerate() {
            self.accessed.push(Accessed::Load(at));
            if old == expected {
                self.accessed.push(Accessed::Store(at, Width::Double, new[half]));
            }
        }
        Ok(old)
    }

    fn load_reserved(&mut self, _: &Insn, address: u64, width: Width) -> Result<u64, Trapped> {
        let value = self.hart.load_reserved_virtual(address, width)?;
        self.accessed.push(Accessed::Load(address));
        Ok(value)
    }

    fn store_conditional(&mut self, _: &Insn, address: u64, width: Width, value: u64) -> Result<u64, Trapped> {
        let failed = self.hart.store_conditional_virtual(address, width, value)?;
        if failed == 0 {
            self.accessed.push(Accessed::Store(address, width, value));
        }
        Ok(failed)
    }

    fn fence(&mut self, i: &Insn) {
        Ops::fence(self.hart, i);
    }

    fn branch(&mut self, i: &Insn, c: u64, offset: i64) -> Result<(), Trapped> {
        Ops::branch(self.hart, i, c, offset)
    }

    fn jump(&mut self, i: &Insn, offset: i64) -> Result<(), Trapped> {
        Ops::jump(self.hart, i, offset)
    }

    fn jump_indirect(&mut self, i: &Insn, target: u64) -> Result<(), Trapped> {
        Ops::jump_indirect(self.hart, i, target)
    }

    fn call(&mut self, i: &Insn, helper: Helper) -> Result<(), Trapped> {
        Ops::call(self.hart, i, helper)?;
        // Of the helpers only the CSR instructions write a register or a CSR that a log shows.
        const SYSTEM: u32 = 0x73;
        if i.raw & 0x7f == SYSTEM && i.raw >> 12 & 3 != 0 {
            if i.rd != 0 {
                self.written.push(Written::X(i.rd, self.hart.x(i.rd)));
            }
            let writes = i.raw >> 12 & 3 == 1 || i.raw >> 15 & 31 != 0;
            let number = (i.raw >> 20) as u16;
            if let Some(value) = self.hart.read_csr(number).filter(|_| writes) {
                self.written.push(Written::Csr(number, value));
            }
        }
        Ok(())
    }
}

impl Hart {
    /// Executes one instruction and tells what it did. Interrupts and events are served first.
    pub fn step(&mut self) -> Step {
        self.note_overflows();
        if self.shared().events() != 0 {
            let handlers = (self.pc, self.privilege);
            if let Some(stop) = self.serve_events() {
                return Step::Stopped(stop);
            }
            if (self.pc, self.privilege) != handlers {
                return Step::Trapped;
            }
        }
        let (pc, privilege) = (self.pc, self.privilege);
        let Ok((opcode, insn)) = self.fetch() else {
            self.enter_exception();
            return Step::Trapped;
        };
        self.next_pc = pc.wrapping_add(insn.length());
        let mut observer = Observer { hart: self, written: Vec::new(), accessed: Vec::new() };
        let result = isa::execute_row(opcode, &mut observer, &insn);
        let Observer { written, accessed, .. } = observer;
        if result.is_err() {
            if let Some(stop) = self.stop.take() {
                return Step::Stopped(stop);
            }
            self.enter_exception();
            return Step::Trapped;
        }
        self.pc = self.next_pc;
        self.counts.retired = self.counts.retired.wrapping_add(1);
        match self.stop.take() {
            Some(stop) => Step::Stopped(stop),
            None => Step::Retired(Commit { privilege, pc, raw: insn.raw, written, accessed }),
        }
    }

    /// Fetches and decodes the instruction at `pc`.
    fn fetch(&mut self) -> Result<(Opcode, Insn), Trapped> {
        let word = self.fetch_word(self.pc)?;
        match crate::block::decode_in_mode(self, word) {
            Some(found) => Ok(found),
            None => Err(self.raise(crate::Exception::IllegalInstruction, word.into())),
        }
    }
}

/// The name of a CSR for a log.
pub fn csr_name(number: u16) -> &'static str {
    csr::find(number).map_or("unknown", |row| row.name)
}
