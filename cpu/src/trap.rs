//! Traps: causes, entry and return (privileged specification, "Machine Cause (mcause) Register", §3.1.6, §3.3.2).

use serde::{Deserialize, Serialize};

use crate::csr::mstatus;
use crate::{Hart, Trapped};

/// A privilege mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[repr(u8)]
pub enum Privilege {
    /// U-mode.
    User = 0,
    /// S-mode.
    Supervisor = 1,
    /// M-mode.
    Machine = 3,
}

impl Privilege {
    /// The mode that a two-bit field names; the reserved value 2 is none.
    pub const fn from_bits(bits: u64) -> Option<Self> {
        match bits & 3 {
            0 => Some(Privilege::User),
            1 => Some(Privilege::Supervisor),
            3 => Some(Privilege::Machine),
            _ => None,
        }
    }
}

/// Exception codes of `mcause` and `scause`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[repr(u8)]
#[allow(missing_docs, reason = "the names are the specification's")]
pub enum Exception {
    InstructionAddressMisaligned = 0,
    InstructionAccessFault = 1,
    IllegalInstruction = 2,
    Breakpoint = 3,
    LoadAddressMisaligned = 4,
    LoadAccessFault = 5,
    StoreAddressMisaligned = 6,
    StoreAccessFault = 7,
    EcallFromUser = 8,
    EcallFromSupervisor = 9,
    EcallFromMachine = 11,
    InstructionPageFault = 12,
    LoadPageFault = 13,
    StorePageFault = 15,
}

/// Interrupt numbers: bits of `mip`, `mie`, `mideleg`.
pub mod interrupt {
    /// Supervisor software interrupt.
    pub const SSI: u32 = 1;
    /// Machine software interrupt.
    pub const MSI: u32 = 3;
    /// Supervisor timer interrupt.
    pub const STI: u32 = 5;
    /// Machine timer interrupt.
    pub const MTI: u32 = 7;
    /// Supervisor external interrupt.
    pub const SEI: u32 = 9;
    /// Machine external interrupt.
    pub const MEI: u32 = 11;
    /// Local counter overflow interrupt (Sscofpmf).
    pub const LCOFI: u32 = 13;

    /// All of S-mode's.
    pub const SUPERVISOR: u64 = 1 << SSI | 1 << STI | 1 << SEI;
    /// All of M-mode's.
    pub const MACHINE: u64 = 1 << MSI | 1 << MTI | 1 << MEI;
}

/// A synchronous trap under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trap {
    /// Why.
    pub exception: Exception,
    /// What `mtval` or `stval` will hold.
    pub value: u64,
}

/// The bit of `mcause` and `scause` that marks an interrupt.
pub const CAUSE_INTERRUPT: u64 = 1 << 63;

/// Interrupts in decreasing order of priority (privileged specification §3.1.9).
const PRIORITY: [u32; 7] =
    [interrupt::MEI, interrupt::MSI, interrupt::MTI, interrupt::SEI, interrupt::SSI, interrupt::STI, interrupt::LCOFI];

impl Hart {
    /// Notes a trap that the instruction under way raises.
    #[cold]
    pub(crate) fn raise(&mut self, exception: Exception, value: u64) -> Trapped {
        self.trap = Trap { exception, value };
        Trapped(())
    }

    /// Enters the handler of the exception in `self.trap`; `pc` is at the instruction that raised it.
    pub(crate) fn enter_exception(&mut self) {
        let Trap { exception, value } = self.trap;
        self.counts.exceptions += 1;
        let cause = exception as u64;
        let triggers = self.matches_exception_trigger(cause);
        self.enter(cause, value, self.delegates(cause));
        if triggers && self.fires_in_handler() {
            let cause = Exception::Breakpoint as u64;
            self.enter(cause, 0, self.delegates(cause));
        }
    }

    /// Whether S-mode handles an exception in the current mode.
    fn delegates(&self, cause: u64) -> bool {
        self.privilege <= Privilege::Supervisor && self.csr.medeleg >> cause & 1 != 0
    }

    /// Enters a handler with `pc` as the address to return to (§3.1.6.1, §4.1.1).
    fn enter(&mut self, cause: u64, value: u64, to_supervisor: bool) {
        self.note_trap_for_triggers();
        let csr = &mut self.csr;
        let vector = if to_supervisor {
            csr.sepc = self.pc;
            csr.scause = cause;
            csr.stval = value;
            let interrupts = mstatus::SIE.get(csr.mstatus);
            csr.mstatus = mstatus::SPIE.set(csr.mstatus, interrupts);
            csr.mstatus = mstatus::SIE.set(csr.mstatus, 0);
            csr.mstatus = mstatus::SPP.set(csr.mstatus, self.privilege as u64 & 1);
            self.privilege = Privilege::Supervisor;
            csr.stvec
        } else {
            csr.mepc = self.pc;
            csr.mcause = cause;
            csr.mtval = value;
            let interrupts = mstatus::MIE.get(csr.mstatus);
            csr.mstatus = mstatus::MPIE.set(csr.mstatus, interrupts);
            csr.mstatus = mstatus::MIE.set(csr.mstatus, 0);
            csr.mstatus = mstatus::MPP.set(csr.mstatus, self.privilege as u64);
            self.privilege = Privilege::Machine;
            csr.mtvec
        };
        let vectored = vector & 1 != 0 && cause & CAUSE_INTERRUPT != 0;
        self.filter_counters(0);
        self.pc = (vector & !3).wrapping_add(if vectored { 4 * (cause & !CAUSE_INTERRUPT) } else { 0 });
        self.update_mode();
    }

    /// The interrupt that is to be taken now, if any: pending, enabled, and not masked by the mode (§3.1.9).
    pub(crate) fn deliverable_interrupt(&self) -> Option<u32> {
        let machine_enabled = self.privilege < Privilege::Machine || mstatus::MIE.get(self.csr.mstatus) != 0;
        let supervisor_enabled = self.privilege < Privilege::Supervisor
            || self.privilege == Privilege::Supervisor && mstatus::SIE.get(self.csr.mstatus) != 0;
        let delegated = self.csr.mideleg;
        let taken = if machine_enabled { !delegated } else { 0 } | if supervisor_enabled { delegated } else { 0 };
        // Reading `mip` means reading the time.
        if self.csr.mie & taken == 0 || self.masks_interrupts() {
            return None;
        }
        let pending = self.mip() & self.csr.mie & taken;
        let first = |set: u64| PRIORITY.into_iter().find(|number| set >> number & 1 != 0);
        first(pending & !delegated).or_else(|| first(pending & delegated))
    }

    /// Takes the interrupt that is due, if any; `pc` is at the next instruction.
    pub(crate) fn take_interrupt(&mut self) -> bool {
        let deliverable = self.deliverable_interrupt();
        self.note_waiting_interrupts();
        let Some(number) = deliverable else { return false };
        self.counts.interrupts += 1;
        let to_supervisor = self.csr.mideleg >> number & 1 != 0;
        self.enter(CAUSE_INTERRUPT | u64::from(number), 0, to_supervisor);
        true
    }

    /// `mret` (§3.3.2).
    pub(crate) fn return_from_machine(&mut self) {
        let status = self.csr.mstatus;
        // MPP is WARL and never holds the reserved mode.
        self.privilege = Privilege::from_bits(mstatus::MPP.get(status)).unwrap_or(Privilege::User);
        let status = mstatus::MIE.set(status, mstatus::MPIE.get(status));
        let status = mstatus::MPP.set(mstatus::MPIE.set(status, 1), Privilege::User as u64);
        self.leave_to(status, self.csr.mepc);
    }

    /// `sret` (§3.3.2).
    pub(crate) fn return_from_supervisor(&mut self) {
        let status = self.csr.mstatus;
        self.privilege = if mstatus::SPP.get(status) != 0 { Privilege::Supervisor } else { Privilege::User };
        let status = mstatus::SIE.set(status, mstatus::SPIE.get(status));
        let status = mstatus::SPP.set(mstatus::SPIE.set(status, 1), 0);
        self.leave_to(status, self.csr.sepc);
    }

    fn leave_to(&mut self, mut status: u64, pc: u64) {
        if self.privilege != Privilege::Machine {
            status = mstatus::MPRV.set(status, 0);
        }
        self.csr.mstatus = status;
        self.next_pc = pc;
        self.filter_counters(1);
        self.update_mode();
        self.reconsider_interrupts();
    }
}
