//! What one instruction did, for a commit log: a third instance of the instructions' semantics, which executes on a
//! hart as the interpreter does and notes the registers written and the memory accessed.
//!
//! A register counts as written also where its value stays. Of what an instruction does to CSRs on the side, `fflags`
//! is noted when flags are raised, `mstatus` when the floating-point unit's state changes and by returns from traps;
//! counters are not. A CSR that is a view of another (`sstatus`, `sip`, `fcsr`) is noted as what it shows, `sie` as both.

use std::collections::BTreeMap;

use bus::Width;

use crate::csr::{self, mstatus};
use crate::hart::{CACHE_BLOCK_SIZE, Stop};
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
    /// Registers written, each once, by number and under the same number in the order of [`Written`]; `x0` is none.
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
    /// By the order of a [`Commit`]'s.
    written: BTreeMap<(u16, u8), Written>,
    accessed: Vec<Accessed>,
}

impl Observer<'_> {
    fn note(&mut self, written: Written) {
        let place = match written {
            Written::X(0, _) => return,
            Written::X(r, _) => (r.into(), 0),
            Written::F(r, _) => (r.into(), 1),
            Written::Csr(number, _) => (number, 2),
        };
        self.written.insert(place, written);
    }

    /// Notes that a CSR has been written, or the registers behind it. Its value is asked for when the instruction has
    /// retired: a counter's is the next instruction's to see.
    fn note_csr(&mut self, number: u16) {
        let behind: &[u16] = match number {
            FCSR => &[FFLAGS, FRM],
            SSTATUS => &[MSTATUS],
            SIE => &[SIE, MIE],
            SIP => &[MIP],
            _ => &[number],
        };
        behind.iter().for_each(|number| self.note(Written::Csr(*number, 0)));
    }

    /// Notes what a helper has done: only those of CSR instructions, returns and `cbo.zero` do anything that is noted.
    fn note_call(&mut self, i: &Insn) {
        match i.raw {
            MRET | SRET => self.note_csr(MSTATUS),
            raw if raw & CBO_MASK == CBO_ZERO => {
                let address = self.x(i.rs1);
                let block = self.hart.masked(address) & !(CACHE_BLOCK_SIZE - 1);
                self.accessed.extend((0..CACHE_BLOCK_SIZE).map(|byte| Accessed::Store(block + byte, Width::Byte, 0)));
            }
            raw if raw & 0x7f == SYSTEM && raw >> 12 & 3 != 0 => {
                let value = self.x(i.rd);
                self.note(Written::X(i.rd, value));
                let writes = raw >> 12 & 3 == 1 || raw >> 15 & 31 != 0;
                if writes {
                    self.note_csr((raw >> 20) as u16);
                }
            }
            _ => {}
        }
    }
}

const FFLAGS: u16 = 0x001;
const FRM: u16 = 0x002;
const FCSR: u16 = 0x003;
const SSTATUS: u16 = 0x100;
const SIE: u16 = 0x104;
const SIP: u16 = 0x144;
const MSTATUS: u16 = 0x300;
const MIE: u16 = 0x304;
const MIP: u16 = 0x344;

/// Major opcode.
const SYSTEM: u32 = 0x73;
const MRET: u32 = 0x3020_0073;
const SRET: u32 = 0x1020_0073;
/// `cbo.zero` without its register.
const CBO_ZERO: u32 = 0x0040_200f;
const CBO_MASK: u32 = 0xfff0_7fff;

impl Ops for Observer<'_> {
    type V = u64;
    type Exit = Trapped;

    crate::operations::forward_values!();

    fn pc(&mut self, i: &Insn) -> u64 {
        Ops::pc(self.hart, i)
    }

    fn float(&mut self, i: &Insn, op: FloatOp, format: Format, operands: [u64; 3]) -> u64 {
        // Raised again, a flag is written again.
        let before = std::mem::take(&mut self.hart.csr.fflags);
        let result = Ops::float(self.hart, i, op, format, operands);
        let raised = self.hart.csr.fflags;
        self.hart.csr.fflags |= before;
        if raised != 0 {
            self.note_csr(FFLAGS);
        }
        result
    }

    fn set_x(&mut self, r: u8, value: u64) {
        self.hart.set_x(r.into(), value);
        self.note(Written::X(r, value));
    }

    fn set_f(&mut self, r: u8, value: u64) {
        Ops::set_f(self.hart, r, value);
        self.note(Written::F(r, value));
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
        self.note_call(i);
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
        if self.next_breakpoint().is_err() {
            if let Some(stop) = self.stop.take() {
                return Step::Stopped(stop);
            }
            self.enter_exception();
            return Step::Trapped;
        }
        let Ok((opcode, insn)) = self.fetch() else {
            self.enter_exception();
            return Step::Trapped;
        };
        self.next_pc = pc.wrapping_add(insn.length());
        let floats = mstatus::FS.get(self.csr.mstatus);
        let mut observer = Observer { hart: self, written: BTreeMap::new(), accessed: Vec::new() };
        let result = isa::execute_row(opcode, &mut observer, &insn);
        if mstatus::FS.get(observer.hart.csr.mstatus) != floats {
            observer.note_csr(MSTATUS);
        }
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
        let written = written.into_values().map(|written| self.with_value(written)).collect();
        match self.stop.take() {
            Some(stop) => Step::Stopped(stop),
            None => Step::Retired(Commit { privilege, pc, raw: insn.raw, written, accessed }),
        }
    }

    /// A write with the value that a CSR has now, whatever the mode may access.
    fn with_value(&self, written: Written) -> Written {
        match written {
            Written::Csr(number, _) => Written::Csr(number, csr::find(number).map_or(0, |row| self.read_row(row))),
            other => other,
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bus::{AddressSpace, Clock, Ram};

    use super::*;
    use crate::extension::ExtensionSet;
    use crate::isa::assembler::assemble;
    use crate::{Configuration, HartBox, HartShared};

    const BASE: u64 = 0x8000_0000;

    /// What the instructions of a program did, in M-mode from reset on.
    fn commits(source: &str) -> Vec<Commit> {
        let program = assemble(source, BASE, &ExtensionSet::implemented()).unwrap();
        let ram = Ram::new(BASE, 0x1000).unwrap();
        ram.write(BASE, &program.bytes).unwrap();
        let configuration = Configuration {
            extensions: ExtensionSet::implemented(),
            page_table_levels: 3,
            built_in_sbi: false,
            semihosting: None,
            reset_vector: BASE,
        };
        let bus = Arc::new(AddressSpace::new(ram));
        let mut hart = HartBox::new(configuration, Arc::new(HartShared::new(0)), bus, Clock::manual());
        let end = program.symbols.iter().find(|(name, _)| *name == "end").unwrap().1;
        let mut commits = Vec::new();
        while hart.pc() != *end {
            match hart.step() {
                Step::Retired(commit) => commits.push(commit),
                other => panic!("{other:?} at {:#x}", hart.pc()),
            }
        }
        commits
    }

    /// What the last instruction of a program wrote.
    fn last_writes(source: &str) -> Vec<Written> {
        commits(source).pop().unwrap().written
    }

    const MSTATUS_RESET: u64 = 2 << 34 | 2 << 32;
    const FS_INITIAL: u64 = 1 << 13;
    const FS_DIRTY: u64 = 1 << 63 | 3 << 13;

    #[test]
    fn raised_flags_and_the_units_state_are_writes() {
        let on = "li t0, 0x2000\ncsrs mstatus, t0\n";
        let dirty = Written::Csr(MSTATUS, MSTATUS_RESET | FS_DIRTY);
        // 1 / 0: divides by zero, which is flag 8.
        let division = "li t1, 1\nfcvt.d.l f2, t1\nfdiv.d f1, f2, f0\n";
        let infinity = Written::F(1, 0x7ff0_0000_0000_0000);
        let writes = commits(&format!("{on}{division}{division}li t1, 2\nfmv.d f3, f2\nend:"));
        let of = |mnemonic: u32| {
            let found = writes.iter().filter(move |commit| commit.raw >> 25 == mnemonic && commit.raw & 0x7f == 0x53);
            found.map(|commit| commit.written.clone()).collect::<Vec<_>>()
        };
        // A flag that is raised again is written again; the state changes once.
        assert_eq!(of(0b000_1101), vec![vec![infinity, Written::Csr(FFLAGS, 8)]; 2]);
        assert_eq!(of(0b110_1001)[0], [Written::F(2, 1f64.to_bits()), dirty]);
        assert_eq!(of(0b001_0001), [[Written::F(3, 1f64.to_bits())]]);
    }

    #[test]
    fn views_are_logged_as_what_they_show() {
        let all = MSTATUS_RESET | FS_INITIAL;
        assert_eq!(last_writes("li t0, 0x2000\ncsrs sstatus, t0\nend:"), [Written::Csr(MSTATUS, all)]);
        let writes = last_writes("li t0, 0x2000\ncsrs mstatus, t0\nli t1, 0x65\ncsrrw t2, fcsr, t1\nend:");
        let status = Written::Csr(MSTATUS, MSTATUS_RESET | FS_DIRTY);
        assert_eq!(writes, [Written::Csr(FFLAGS, 5), Written::Csr(FRM, 3), Written::X(7, 0), status]);
        let delegated = "csrwi mideleg, 2\n";
        let both = [Written::Csr(SIE, 2), Written::Csr(MIE, 2)];
        assert_eq!(last_writes(&format!("{delegated}csrsi sie, 2\nend:")), both);
        assert_eq!(last_writes(&format!("{delegated}csrsi sip, 2\nend:")), [Written::Csr(MIP, 2)]);
    }

    #[test]
    fn a_register_comes_before_a_csr_and_reads_write_none() {
        assert_eq!(last_writes("csrrsi x5, mscratch, 1\nend:"), [Written::X(5, 0), Written::Csr(0x340, 1)]);
        assert_eq!(last_writes("csrr x5, mscratch\nend:"), [Written::X(5, 0)]);
        assert_eq!(last_writes("csrwi mscratch, 0\nend:"), [Written::Csr(0x340, 0)]);
    }

    #[test]
    fn a_counter_has_the_value_that_was_written() {
        assert_eq!(last_writes("nop\nli t0, 40\ncsrw minstret, t0\nend:"), [Written::Csr(0xb02, 40)]);
        assert_eq!(last_writes("nop\nli t0, 40\ncsrw mhpmcounter3, t0\nend:"), [Written::Csr(0xb03, 40)]);
    }

    #[test]
    fn returns_write_the_status() {
        let writes = last_writes("la t1, end\ncsrw mepc, t1\nmret\nend:");
        assert_eq!(writes, [Written::Csr(MSTATUS, MSTATUS_RESET | 1 << 7)], "MPIE");
    }

    #[test]
    fn memory_of_atomics_and_of_blocks() {
        let amo = commits("la t0, end\nli t1, 3\nsw t1, 64(t0)\naddi t0, t0, 64\namoadd.w t2, t1, (t0)\nend:").pop();
        let accessed = amo.unwrap().accessed;
        assert!(matches!(accessed[..], [Accessed::Load(from), Accessed::Store(to, Width::Word, 6)] if from == to));
        let zeroed = commits("li t0, 0x80000777\ncbo.zero (t0)\nend:").pop().unwrap().accessed;
        let bytes: Vec<_> = (0..64).map(|byte| Accessed::Store(BASE + 0x740 + byte, Width::Byte, 0)).collect();
        assert_eq!(zeroed, bytes);
    }
}
