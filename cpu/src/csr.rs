//! The control and status registers: one table of number, name, condition, read and write
//! (privileged specification, chapter "Control and Status Registers").
//!
//! Fields are WARL unless said otherwise: a write keeps what is supported and ignores the rest. An access to a CSR that
//! is absent, too privileged, disabled by a control of a higher mode, or a write to a read-only one is an illegal
//! instruction.

use serde::{Deserialize, Serialize};

use crate::counters::{Counter, HPM_COUNTERS, counter_enabled, hpm_counter_enabled};
use crate::extension::Extension;
use crate::trap::interrupt;
use crate::trigger::Triggers;
use crate::{Hart, Privilege};

/// A bit field of a CSR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    shift: u32,
    width: u32,
}

impl Field {
    const fn bit(shift: u32) -> Self {
        Self { shift, width: 1 }
    }

    /// `width` bits from bit `shift` on.
    pub(crate) const fn range(shift: u32, width: u32) -> Self {
        Self { shift, width }
    }

    /// The field's bits in place.
    pub const fn mask(self) -> u64 {
        (u64::MAX >> (64 - self.width)) << self.shift
    }

    /// The field's value.
    #[inline]
    pub const fn get(self, register: u64) -> u64 {
        (register & self.mask()) >> self.shift
    }

    /// `register` with the field replaced by the low bits of `value`.
    #[inline]
    pub const fn set(self, register: u64, value: u64) -> u64 {
        register & !self.mask() | value << self.shift & self.mask()
    }
}

/// Fields of `mstatus` (§3.1.6), of which `sstatus` is a view.
#[allow(missing_docs, reason = "the names are the specification's")]
pub mod mstatus {
    use super::Field;
    pub const SIE: Field = Field::bit(1);
    pub const MIE: Field = Field::bit(3);
    pub const SPIE: Field = Field::bit(5);
    pub const MPIE: Field = Field::bit(7);
    pub const SPP: Field = Field::bit(8);
    pub const MPP: Field = Field::range(11, 2);
    pub const FS: Field = Field::range(13, 2);
    pub const MPRV: Field = Field::bit(17);
    pub const SUM: Field = Field::bit(18);
    pub const MXR: Field = Field::bit(19);
    pub const TVM: Field = Field::bit(20);
    pub const TW: Field = Field::bit(21);
    pub const TSR: Field = Field::bit(22);
    pub const UXL: Field = Field::range(32, 2);
    pub const SXL: Field = Field::range(34, 2);
    pub const SD: Field = Field::bit(63);

    /// Value of FS (and of UXL and SXL for 64 bits: 2): the unit is off.
    pub const FS_OFF: u64 = 0;
    /// Value of FS: the registers have changed.
    pub const FS_DIRTY: u64 = 3;
    /// Value of SXL and UXL: 64 bits.
    pub const XL_64: u64 = 2;

    /// What `sstatus` shows.
    pub(crate) const SUPERVISOR: u64 =
        SIE.mask() | SPIE.mask() | SPP.mask() | FS.mask() | SUM.mask() | MXR.mask() | UXL.mask() | SD.mask();
    /// What software can write through `mstatus`.
    pub(crate) const WRITABLE: u64 = SIE.mask()
        | MIE.mask()
        | SPIE.mask()
        | MPIE.mask()
        | SPP.mask()
        | FS.mask()
        | MPRV.mask()
        | SUM.mask()
        | MXR.mask()
        | TVM.mask()
        | TW.mask()
        | TSR.mask();
}

/// Fields of `menvcfg` (§3.1.18) and `senvcfg` (§10.1.10); PMM is in `mseccfg` (§3.1.19) too.
#[allow(missing_docs, reason = "the names are the specification's")]
pub mod envcfg {
    use super::Field;
    pub const FIOM: Field = Field::bit(0);
    pub const CBIE: Field = Field::range(4, 2);
    pub const CBCFE: Field = Field::bit(6);
    pub const CBZE: Field = Field::bit(7);
    pub const PMM: Field = Field::range(32, 2);
    pub const ADUE: Field = Field::bit(61);
    pub const PBMTE: Field = Field::bit(62);
    pub const STCE: Field = Field::bit(63);
}

/// Fields of `satp` (§10.1.11).
#[allow(missing_docs, reason = "the names are the specification's")]
pub mod satp {
    use super::Field;
    pub const PPN: Field = Field::range(0, 44);
    pub const ASID: Field = Field::range(44, 16);
    pub const MODE: Field = Field::range(60, 4);
}

/// Bits of `mstateen0` (Smstateen).
pub mod state_enable {
    /// Access to the `sstateen` register of the same number, and what is to come.
    pub const SE: u64 = 1 << 63;
    /// Access to `senvcfg`.
    pub const ENVCFG: u64 = 1 << 62;
}

/// Number of `mstateen` registers, and of `sstateen` registers.
const STATE_ENABLES: usize = 4;

/// The registers that are plain storage, and the state behind the others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names are the specification's")]
pub struct Csrs {
    pub mstatus: u64,
    pub medeleg: u64,
    pub mideleg: u64,
    pub mie: u64,
    pub mtvec: u64,
    pub mcounteren: u64,
    pub menvcfg: u64,
    /// Pointer masking in M-mode. What belongs to PMP is there.
    pub mseccfg: u64,
    pub mstateen: [u64; STATE_ENABLES],
    pub mcountinhibit: u64,
    pub mscratch: u64,
    pub mepc: u64,
    pub mcause: u64,
    pub mtval: u64,
    pub stvec: u64,
    pub scounteren: u64,
    pub senvcfg: u64,
    pub sscratch: u64,
    pub sepc: u64,
    pub scause: u64,
    pub stval: u64,
    pub satp: u64,
    pub stimecmp: u64,
    pub fflags: u64,
    pub frm: u64,
    /// The bits of `mip` that software writes: SEIP, STIP without Sstc, LCOFIP.
    pub software_pending: u64,
    pub mcycle: Counter,
    pub minstret: Counter,
    pub mhpmcounter: [Counter; HPM_COUNTERS],
    pub mhpmevent: [u64; HPM_COUNTERS],
    /// Counters that stand still, by `mcountinhibit` or because of the mode.
    pub(crate) stopped: u32,
    /// Debug triggers.
    pub triggers: Triggers,
}

/// One row of the table.
pub struct Csr {
    /// Number, of which bits 11:10 tell whether it is read-only and bits 9:8 the lowest privilege.
    pub number: u16,
    /// Name, as in the specification.
    pub name: &'static str,
    /// Whether the hart has it and the current mode may use it, beyond the privilege in its number.
    accessible: fn(&Hart, index: usize) -> bool,
    read: fn(&Hart, index: usize) -> u64,
    write: fn(&mut Hart, index: usize, value: u64),
    /// For a register of a numbered family: which one.
    index: usize,
}

impl Csr {
    /// Whether the hart has the register and its mode may use it, beyond what the number says.
    pub(crate) fn is_accessible(&self, hart: &Hart) -> bool {
        (self.accessible)(hart, self.index)
    }
}

/// The exceptions that can be delegated: all but an M-mode `ecall` (§3.1.8).
const DELEGABLE: u64 = 0xb3ff;

fn always(_: &Hart, _: usize) -> bool {
    true
}

fn float_enabled(hart: &Hart, _: usize) -> bool {
    hart.has(Extension::F) && mstatus::FS.get(hart.csr.mstatus) != mstatus::FS_OFF
}

fn satp_accessible(hart: &Hart, _: usize) -> bool {
    !(hart.privilege == Privilege::Supervisor && mstatus::TVM.get(hart.csr.mstatus) != 0)
}

/// `stimecmp` (Sstc): S-mode needs `menvcfg.STCE` and `mcounteren.TM`.
fn stimecmp_accessible(hart: &Hart, _: usize) -> bool {
    hart.has(Extension::Sstc)
        && (hart.privilege == Privilege::Machine
            || envcfg::STCE.get(hart.csr.menvcfg) != 0 && hart.csr.mcounteren & crate::counters::TIME != 0)
}

/// State that `mstateen` closes to lower modes.
fn state_enabled(hart: &Hart, index: usize, bit: u64) -> bool {
    let opened = hart.csr.mstateen[index] & bit != 0;
    hart.privilege == Privilege::Machine || opened || !hart.has(Extension::Smstateen)
}

fn ignore(_: &mut Hart, _: usize, _: u64) {}

impl Hart {
    /// `mip`: levels from outside, software's bits, and the S-mode timer (Sstc).
    pub fn mip(&self) -> u64 {
        let mut pending = self.shared().pending() | self.csr.software_pending;
        if self.supervisor_timer_compares() {
            pending &= !(1 << interrupt::STI);
            if self.clock().now() >= self.csr.stimecmp {
                pending |= 1 << interrupt::STI;
            }
        }
        pending
    }

    /// LCOFIP and LCOFIE's bit, if there is one (Sscofpmf).
    fn overflow_interrupt(&self) -> u64 {
        if self.has(Extension::Sscofpmf) { 1 << interrupt::LCOFI } else { 0 }
    }

    /// The interrupts that can be S-mode's.
    fn supervisor_interrupts(&self) -> u64 {
        interrupt::SUPERVISOR | self.overflow_interrupt()
    }

    /// Whether STIP comes from `stimecmp`.
    fn supervisor_timer_compares(&self) -> bool {
        self.has(Extension::Sstc) && envcfg::STCE.get(self.csr.menvcfg) != 0
    }

    /// Arms the S-mode timer's alarm as `stimecmp` says. What has passed is pending from now on: an alarm for it would
    /// ring at once, and again whenever the hart answers, until software moves `stimecmp`.
    pub(crate) fn arm_supervisor_timer(&mut self) {
        let deadline = self.csr.stimecmp;
        let compares = self.supervisor_timer_compares();
        let armed = compares && deadline != u64::MAX && deadline > self.clock().now();
        self.timer_is_due = compares && !armed;
        self.set_timer_alarm(armed.then_some(deadline));
        self.reconsider_interrupts();
    }

    fn write_mip(&mut self, value: u64, writable: u64) {
        let line = 1 << interrupt::SSI & writable;
        self.shared().change_pending(value & line, !value & line);
        let software = writable & !line;
        self.csr.software_pending = self.csr.software_pending & !software | value & software;
        self.reconsider_interrupts();
    }

    fn read_mstatus(&self) -> u64 {
        let dirty = mstatus::FS.get(self.csr.mstatus) == mstatus::FS_DIRTY;
        let status = mstatus::SXL.set(self.csr.mstatus, mstatus::XL_64);
        mstatus::SD.set(mstatus::UXL.set(status, mstatus::XL_64), dirty.into())
    }

    fn write_mstatus(&mut self, value: u64, writable: u64) {
        let mut writable = writable & mstatus::WRITABLE;
        if !self.has(Extension::F) {
            writable &= !mstatus::FS.mask();
        }
        let changed = (self.csr.mstatus ^ value) & writable;
        self.csr.mstatus ^= changed;
        if mstatus::MXR.get(changed) != 0 {
            self.tlb.ranges.forget();
        }
        self.update_mode();
        self.reconsider_interrupts();
    }

    /// Fields of `menvcfg` that exist with the hart's extensions.
    fn menvcfg_mask(&self) -> u64 {
        let with = |extension, field: Field| if self.has(extension) { field.mask() } else { 0 };
        envcfg::FIOM.mask()
            | with(Extension::Zicbom, envcfg::CBIE)
            | with(Extension::Zicbom, envcfg::CBCFE)
            | with(Extension::Zicboz, envcfg::CBZE)
            | with(Extension::Smnpm, envcfg::PMM)
            | with(Extension::Svadu, envcfg::ADUE)
            | with(Extension::Svpbmt, envcfg::PBMTE)
            | with(Extension::Sstc, envcfg::STCE)
    }

    /// CBIE and PMM are WARL: the one has no use for 2, the other none for 1.
    fn legal_envcfg(mut value: u64, mask: u64, old: u64) -> u64 {
        for (field, reserved) in [(envcfg::CBIE, 2), (envcfg::PMM, 1)] {
            if field.get(value) == reserved {
                value = field.set(value, field.get(old));
            }
        }
        value & mask
    }

    fn write_senvcfg(&mut self, value: u64) {
        let masking = if self.has(Extension::Ssnpm) { envcfg::PMM.mask() } else { 0 };
        let old = self.csr.senvcfg;
        self.csr.senvcfg = Self::legal_envcfg(value, self.menvcfg_mask() & 0xff | masking, old);
        self.change_masking(envcfg::PMM.get(old), envcfg::PMM.get(self.csr.senvcfg));
        self.update_mode();
    }

    fn write_mseccfg(&mut self, value: u64) {
        if self.has(Extension::Smepmp) {
            self.pmp.set_lockdown(value);
        }
        let masking = if self.has(Extension::Smmpm) { envcfg::PMM.mask() } else { 0 };
        self.csr.mseccfg = Self::legal_envcfg(value, masking, self.csr.mseccfg);
        self.forget_translations();
    }

    fn write_satp(&mut self, value: u64) {
        // A write with an unsupported MODE has no effect at all (§10.1.11).
        if self.supports_satp_mode(satp::MODE.get(value)) {
            let value = if satp::MODE.get(value) == 0 { 0 } else { value };
            if satp::MODE.get(value) != satp::MODE.get(self.csr.satp) {
                self.tlb.flush();
            } else if value != self.csr.satp {
                self.tlb.forget_space();
            }
            self.csr.satp = value;
            self.update_mode();
        }
    }

    fn trap_vector(old: u64, value: u64) -> u64 {
        // MODE is WARL: 2 and 3 are reserved.
        if value & 2 == 0 { value } else { value & !3 | old & 3 }
    }

    /// Bit 0 of an exception program counter is always zero, bit 1 too without compressed instructions.
    fn legal_pc(&self, value: u64) -> u64 {
        value & !self.instruction_alignment()
    }

    fn misa(&self) -> u64 {
        let letter = |letter: u8| 1 << (letter - b'A');
        let with = |extension, name| if self.has(extension) { letter(name) } else { 0 };
        2 << 62
            | letter(b'I')
            | letter(b'S')
            | letter(b'U')
            | with(Extension::M, b'M')
            | with(Extension::A, b'A')
            | with(Extension::F, b'F')
            | with(Extension::D, b'D')
            | with(Extension::C, b'C')
            | if [Extension::Zba, Extension::Zbb, Extension::Zbs].iter().all(|e| self.has(*e)) {
                letter(b'B')
            } else {
                0
            }
    }

    /// Reads the CSR in `row`, which must be accessible.
    pub(crate) fn read_row(&self, row: &Csr) -> u64 {
        (row.read)(self, row.index)
    }

    /// Writes the CSR in `row`, which must be accessible.
    pub(crate) fn write_row(&mut self, row: &Csr, value: u64) {
        (row.write)(self, row.index, value);
    }

    /// The row of a CSR that the hart can access in its current mode, for a read or a write.
    fn accessible_csr(&self, number: u16, write: bool) -> Option<&'static Csr> {
        let row = find(number)?;
        let privileged = u64::from(number >> 8 & 3) <= self.privilege as u64;
        let writable = number >> 10 != 3 || !write;
        (privileged && writable && row.is_accessible(self)).then_some(row)
    }

    /// What an instruction in the current mode reads from CSR `number`; `None` where it would trap.
    pub fn read_csr(&self, number: u16) -> Option<u64> {
        self.accessible_csr(number, false).map(|row| self.read_row(row))
    }

    /// Writes CSR `number` as an instruction in the current mode does, with all effects; `None` where it would trap.
    pub fn write_csr(&mut self, number: u16, value: u64) -> Option<()> {
        let row = self.accessible_csr(number, true)?;
        self.write_row(row, value);
        Some(())
    }

    /// What a read-modify-write instruction sees. For `mip` and `sip` the modification starts from the software bits
    /// of SEIP alone, not from the interrupt controller's level (§3.1.9).
    pub(crate) fn read_csr_to_modify(&self, number: u16, value: u64) -> u64 {
        if number == 0x344 {
            value & !(1 << interrupt::SEI) | self.csr.software_pending & 1 << interrupt::SEI
        } else {
            value
        }
    }
}

macro_rules! csrs {
    ($($number:literal $name:literal $accessible:expr, $read:expr, $write:expr;)*) => {
        /// The registers that have names of their own.
        const NAMED: &[Csr] = &[$(
            Csr { number: $number, name: $name, accessible: $accessible, read: $read, write: $write, index: 0 },
        )*];
    };
}

/// A register that is storage and nothing more: translated code accesses it itself.
#[cfg(feature = "jit")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    pub number: u16,
    /// Where it is: bytes from the start of the [`Hart`].
    pub place: usize,
    /// Whether it holds an instruction's address, of which the lowest bits are zero.
    pub is_pc: bool,
}

#[cfg(feature = "jit")]
const STORED: [Stored; 8] = {
    use std::mem::offset_of;
    const fn plain(number: u16, place: usize) -> Stored {
        Stored { number, place, is_pc: false }
    }
    [
        plain(0x140, offset_of!(Hart, csr.sscratch)),
        Stored { number: 0x141, place: offset_of!(Hart, csr.sepc), is_pc: true },
        plain(0x142, offset_of!(Hart, csr.scause)),
        plain(0x143, offset_of!(Hart, csr.stval)),
        plain(0x340, offset_of!(Hart, csr.mscratch)),
        Stored { number: 0x341, place: offset_of!(Hart, csr.mepc), is_pc: true },
        plain(0x342, offset_of!(Hart, csr.mcause)),
        plain(0x343, offset_of!(Hart, csr.mtval)),
    ]
};

/// The register of a number that is plain storage, if it is.
#[cfg(feature = "jit")]
pub(crate) fn stored(number: u16) -> Option<Stored> {
    STORED.into_iter().find(|stored| stored.number == number)
}

/// `sip` and `sie` show what is delegated to S-mode.
fn write_sie(hart: &mut Hart, _: usize, value: u64) {
    let mask = hart.csr.mideleg & hart.supervisor_interrupts();
    hart.csr.mie = hart.csr.mie & !mask | value & mask;
    hart.reconsider_interrupts();
}

csrs! {
    0x001 "fflags" float_enabled, |h, _| h.csr.fflags, |h, _, v| h.write_float_status(v & 0x1f, h.csr.frm);
    0x002 "frm" float_enabled, |h, _| h.csr.frm, |h, _, v| h.write_float_status(h.csr.fflags, v & 7);
    0x003 "fcsr" float_enabled, |h, _| h.csr.frm << 5 | h.csr.fflags,
        |h, _, v| h.write_float_status(v & 0x1f, v >> 5 & 7);
    0xc01 "time" |h, _| h.has(Extension::Zicntr) && counter_enabled(h, 1), |h, _| h.clock().now(), ignore;

    0x100 "sstatus" always, |h, _| h.read_mstatus() & mstatus::SUPERVISOR,
        |h, _, v| h.write_mstatus(v, mstatus::SUPERVISOR);
    0x104 "sie" always, |h, _| h.csr.mie & h.csr.mideleg, write_sie;
    0x105 "stvec" always, |h, _| h.csr.stvec, |h, _, v| h.csr.stvec = Hart::trap_vector(h.csr.stvec, v);
    0x106 "scounteren" always, |h, _| h.csr.scounteren, |h, _, v| h.csr.scounteren = v & 0xffff_ffff;
    0x10a "senvcfg" |h, _| state_enabled(h, 0, state_enable::ENVCFG), |h, _| h.csr.senvcfg,
        |h, _, v| h.write_senvcfg(v);
    0x140 "sscratch" always, |h, _| h.csr.sscratch, |h, _, v| h.csr.sscratch = v;
    0x141 "sepc" always, |h, _| h.csr.sepc, |h, _, v| h.csr.sepc = h.legal_pc(v);
    0x142 "scause" always, |h, _| h.csr.scause, |h, _, v| h.csr.scause = v;
    0x143 "stval" always, |h, _| h.csr.stval, |h, _, v| h.csr.stval = v;
    0x144 "sip" always, |h, _| h.mip() & h.csr.mideleg,
        |h, _, v| h.write_mip(v, (1 << interrupt::SSI | h.overflow_interrupt()) & h.csr.mideleg);
    0x14d "stimecmp" stimecmp_accessible, |h, _| h.csr.stimecmp, |h, _, v| {
        h.csr.stimecmp = v;
        h.arm_supervisor_timer();
    };
    0x180 "satp" satp_accessible, |h, _| h.csr.satp, |h, _, v| h.write_satp(v);

    0xda0 "scountovf" |h, _| h.has(Extension::Sscofpmf), |h, _| h.read_scountovf(), ignore;

    0x300 "mstatus" always, |h, _| h.read_mstatus(), |h, _, v| {
        // MPP is WARL without the reserved mode.
        let mpp = mstatus::MPP.get(v);
        if Privilege::from_bits(mpp).is_some() {
            h.csr.mstatus = mstatus::MPP.set(h.csr.mstatus, mpp);
        }
        h.write_mstatus(v, u64::MAX);
    };
    0x301 "misa" always, |h, _| h.misa(), ignore;
    0x302 "medeleg" always, |h, _| h.csr.medeleg, |h, _, v| h.csr.medeleg = v & DELEGABLE;
    0x303 "mideleg" always, |h, _| h.csr.mideleg, |h, _, v| {
        h.csr.mideleg = v & h.supervisor_interrupts();
        h.reconsider_interrupts();
    };
    0x304 "mie" always, |h, _| h.csr.mie, |h, _, v| {
        h.csr.mie = v & (h.supervisor_interrupts() | interrupt::MACHINE);
        h.reconsider_interrupts();
    };
    0x305 "mtvec" always, |h, _| h.csr.mtvec, |h, _, v| h.csr.mtvec = Hart::trap_vector(h.csr.mtvec, v);
    0x306 "mcounteren" always, |h, _| h.csr.mcounteren, |h, _, v| h.csr.mcounteren = v & 0xffff_ffff;
    0x30a "menvcfg" always, |h, _| h.csr.menvcfg, |h, _, v| {
        h.csr.menvcfg = Hart::legal_envcfg(v, h.menvcfg_mask(), h.csr.menvcfg);
        h.update_mode();
        h.forget_translations();
        h.arm_supervisor_timer();
    };
    0x320 "mcountinhibit" always, |h, _| h.csr.mcountinhibit, |h, _, v| h.write_mcountinhibit(v);
    0x340 "mscratch" always, |h, _| h.csr.mscratch, |h, _, v| h.csr.mscratch = v;
    0x341 "mepc" always, |h, _| h.csr.mepc, |h, _, v| h.csr.mepc = h.legal_pc(v);
    0x342 "mcause" always, |h, _| h.csr.mcause, |h, _, v| h.csr.mcause = v;
    0x343 "mtval" always, |h, _| h.csr.mtval, |h, _, v| h.csr.mtval = v;
    0x344 "mip" always, |h, _| h.mip(), |h, _, v| {
        let timer = if h.supervisor_timer_compares() { 0 } else { 1 << interrupt::STI };
        h.write_mip(v, 1 << interrupt::SSI | 1 << interrupt::SEI | timer | h.overflow_interrupt());
    };
    0x747 "mseccfg" |h, _| h.has(Extension::Smepmp) || h.has(Extension::Smmpm),
        |h, _| h.csr.mseccfg | h.pmp.lockdown(), |h, _, v| h.write_mseccfg(v);
    // Without Sdtrig `tselect` holds only zero, and type 0 in `tdata1` says that there are no triggers.
    0x7a0 "tselect" always, |h, _| h.read_tselect(), |h, _, v| h.write_tselect(v);
    0x7a1 "tdata1" always, |h, _| h.read_tdata1(), |h, _, v| h.write_tdata1(v);
    0x7a2 "tdata2" always, |h, _| h.read_tdata2(), |h, _, v| h.write_tdata2(v);
    0x7a4 "tinfo" always, |h, _| h.read_tinfo(), ignore;
    0xf11 "mvendorid" always, |_, _| 0, ignore;
    0xf12 "marchid" always, |_, _| 0, ignore;
    0xf13 "mimpid" always, |_, _| 0, ignore;
    0xf14 "mhartid" always, |h, _| h.shared().id(), ignore;
    0xf15 "mconfigptr" always, |_, _| 0, ignore;
}

/// A numbered family of registers: `count` of them, named by `NAME{index}` from index `first`.
struct Family {
    number: u16,
    name: &'static str,
    first: usize,
    count: usize,
    accessible: fn(&Hart, usize) -> bool,
    read: fn(&Hart, usize) -> u64,
    write: fn(&mut Hart, usize, u64),
    /// Only every second number exists (`pmpcfg` on RV64).
    even_only: bool,
}

const FAMILIES: &[Family] = &[
    Family {
        number: 0xc00,
        name: "cycle",
        first: 0,
        count: 1,
        accessible: |h, i| h.has(Extension::Zicntr) && counter_enabled(h, i),
        read: Hart::read_counter,
        write: ignore,
        even_only: false,
    },
    Family {
        number: 0xc02,
        name: "instret",
        first: 2,
        count: 1,
        accessible: |h, i| h.has(Extension::Zicntr) && counter_enabled(h, i),
        read: Hart::read_counter,
        write: ignore,
        even_only: false,
    },
    Family {
        number: 0xc03,
        name: "hpmcounter",
        first: 3,
        count: HPM_COUNTERS,
        accessible: hpm_counter_enabled,
        read: Hart::read_counter,
        write: ignore,
        even_only: false,
    },
    Family {
        number: 0x10c,
        name: "sstateen",
        first: 0,
        count: STATE_ENABLES,
        accessible: |h, i| h.has(Extension::Ssstateen) && state_enabled(h, i, state_enable::SE),
        // No extension that the hart may have adds state that its own controls do not close to U-mode.
        read: |_, _| 0,
        write: ignore,
        even_only: false,
    },
    Family {
        number: 0x30c,
        name: "mstateen",
        first: 0,
        count: STATE_ENABLES,
        accessible: |h, _| h.has(Extension::Smstateen),
        read: |h, i| h.csr.mstateen[i],
        write: |h, i, v| {
            let mask = state_enable::SE | if i == 0 { state_enable::ENVCFG } else { 0 };
            h.csr.mstateen[i] = v & mask;
        },
        even_only: false,
    },
    Family {
        number: 0xb00,
        name: "mcycle",
        first: 0,
        count: 1,
        accessible: always,
        read: Hart::read_counter,
        write: Hart::write_counter,
        even_only: false,
    },
    Family {
        number: 0xb02,
        name: "minstret",
        first: 2,
        count: 1,
        accessible: always,
        read: Hart::read_counter,
        write: Hart::write_counter,
        even_only: false,
    },
    Family {
        number: 0xb03,
        name: "mhpmcounter",
        first: 3,
        count: HPM_COUNTERS,
        accessible: always,
        read: Hart::read_counter,
        write: Hart::write_counter,
        even_only: false,
    },
    Family {
        number: 0x323,
        name: "mhpmevent",
        first: 3,
        count: HPM_COUNTERS,
        accessible: always,
        read: Hart::read_mhpmevent,
        write: Hart::write_mhpmevent,
        even_only: false,
    },
    Family {
        number: 0x3a0,
        name: "pmpcfg",
        first: 0,
        count: 4,
        accessible: always,
        read: |h, i| h.pmp.configuration(i),
        write: |h, i, v| {
            h.pmp.set_configuration(i, v);
            h.forget_translations();
        },
        even_only: true,
    },
    Family {
        number: 0x3b0,
        name: "pmpaddr",
        first: 0,
        count: crate::pmp::ENTRIES,
        accessible: always,
        read: |h, i| h.pmp.address(i),
        write: |h, i, v| {
            h.pmp.set_address(i, v);
            h.forget_translations();
        },
        even_only: false,
    },
];

/// All registers, sorted by number.
fn table() -> &'static [Csr] {
    static TABLE: std::sync::LazyLock<Vec<Csr>> = std::sync::LazyLock::new(|| {
        let named = NAMED.iter().map(|row| Csr { ..*row });
        let families = FAMILIES.iter().flat_map(|family| {
            (0..family.count).filter(|offset| !family.even_only || offset % 2 == 0).map(|offset| Csr {
                number: family.number + offset as u16,
                name: if family.count == 1 {
                    family.name
                } else {
                    // Names live as long as the program, as the literals do.
                    format!("{}{}", family.name, family.first + offset).leak()
                },
                accessible: family.accessible,
                read: family.read,
                write: family.write,
                index: family.first + offset,
            })
        });
        let mut table: Vec<Csr> = named.chain(families).collect();
        table.sort_by_key(|row| row.number);
        table
    });
    &TABLE
}

/// The register with this number, whether or not a hart's extensions include it.
pub fn find(number: u16) -> Option<&'static Csr> {
    /// For each number one more than its place in the table, or zero.
    static PLACES: std::sync::LazyLock<Vec<u16>> = std::sync::LazyLock::new(|| {
        let mut places = vec![0; 1 << 12];
        for (row, place) in table().iter().zip(1..) {
            places[usize::from(row.number)] = place;
        }
        places
    });
    let place = PLACES.get(usize::from(number))?.checked_sub(1)?;
    table().get(usize::from(place))
}

/// The register with this name.
pub fn find_by_name(name: &str) -> Option<&'static Csr> {
    table().iter().find(|row| row.name == name)
}

/// All registers by number.
pub fn all() -> &'static [Csr] {
    table()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_are_unique() {
        let table = table();
        assert!(table.windows(2).all(|pair| pair[0].number < pair[1].number));
        let names: std::collections::BTreeSet<_> = table.iter().map(|row| row.name).collect();
        assert_eq!(names.len(), table.len());
    }

    #[test]
    fn a_deadline_that_has_passed_is_pending_and_rings_no_more() {
        use crate::{Configuration, HartShared, extension::ExtensionSet, shared::event};
        let configuration = Configuration {
            extensions: ExtensionSet::implemented(),
            page_table_levels: 3,
            built_in_sbi: false,
            semihosting: None,
            reset_vector: 0,
        };
        let bus = bus::AddressSpace::new(bus::Ram::new(0, 0x1000).unwrap());
        let clock = bus::Clock::manual();
        let shared = std::sync::Arc::new(HartShared::new(0));
        let mut hart = Hart::new(configuration, shared, std::sync::Arc::new(bus), clock.clone());
        hart.csr.menvcfg = envcfg::STCE.set(0, 1);
        hart.csr.stimecmp = 50;
        hart.arm_supervisor_timer();
        assert_eq!((hart.shared().events(), hart.mip()), (0, 0));
        clock.advance(100);
        assert_ne!(hart.shared().events() & event::TIMER, 0);
        assert!(hart.serve_events().is_none());
        assert_eq!((hart.shared().events(), hart.mip()), (0, 1 << interrupt::STI));
    }

    #[test]
    fn fields_get_what_they_set() {
        for field in [mstatus::MPP, mstatus::SD, mstatus::SXL, satp::PPN, envcfg::CBIE] {
            assert_eq!(field.get(field.set(0, u64::MAX)), field.mask() >> field.shift);
            assert_eq!(field.set(u64::MAX, 0), !field.mask());
        }
    }
}
