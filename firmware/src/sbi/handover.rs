//! How a hart gets into S-mode without an M-mode program: the machine's registers as OpenSBI leaves them
//! (privileged specification, chapter "Machine-Level ISA"; SBI specification §9.1, "Hart start").

use cpu::csr::{envcfg, mstatus};
use cpu::extension::Extension;
use cpu::{Access, Exception, Fault, Hart, Privilege, Request};

use super::{A0, A1, ECALL_LENGTH, csr};

/// `envcfg.CBIE`: `cbo.inval` invalidates.
const CBIE_INVALIDATE: u64 = 3;

/// `cycle`, `time` and `instret`, for user mode.
const BASIC_COUNTERS: u64 = 7;

/// Resets `hart` and has it enter S-mode at guest-physical `entry`, with its number in a0 and `opaque` (for the boot
/// hart the address of the device tree) in a1: no translation, interrupts off, everything delegated, all counters and
/// all of memory open.
pub fn enter_supervisor(hart: &mut Hart, entry: u64, opaque: u64) {
    hart.reset();
    // The reset forgets translations; code that was decoded before it is looked at again, too.
    hart.shared().post(Request::FenceI);
    hart.serve_requests();
    hart.open_pmp();

    let everything = u64::MAX;
    // An S-mode `ecall` never gets as far as `medeleg`.
    let exceptions = everything & !(1 << Exception::EcallFromSupervisor as u64);
    let mut environment = envcfg::CBIE.set(0, CBIE_INVALIDATE);
    for field in [envcfg::CBCFE, envcfg::CBZE, envcfg::PBMTE, envcfg::STCE] {
        environment = field.set(environment, 1);
    }
    // Linux's binding: with Svade present, A and D bits fault until the supervisor asks for Svadu by FWFT.
    environment = envcfg::ADUE.set(environment, u64::from(!hart.has(Extension::Svade)));
    let registers = [
        (csr::MSTATUS, mstatus::FS.set(0, mstatus::FS_DIRTY)),
        (csr::MEDELEG, exceptions),
        (csr::MIDELEG, everything),
        (csr::MCOUNTEREN, everything),
        (csr::SCOUNTEREN, BASIC_COUNTERS),
        (csr::MENVCFG, environment),
        (csr::MSTATEEN0, everything),
        (csr::STVEC, entry & !3),
    ];
    for (number, value) in registers {
        // A register that the hart lacks stays out; fields that it lacks stay zero (WARL).
        let _ = hart.write_csr(number, value);
    }
    hart.set_x(A0, hart.shared().id());
    hart.set_x(A1, opaque);
    hart.set_privilege(Privilege::Supervisor);
    hart.set_pc(entry);
}

/// Lets `hart` go on at `entry` after a suspension that did not keep its registers (§9.4): what M-mode had set stays.
pub(super) fn resume(hart: &mut Hart, entry: u64, opaque: u64) {
    hart.set_privilege(Privilege::Supervisor);
    let _ = hart.write_csr(csr::SATP, 0);
    let status = hart.read_csr(csr::SSTATUS).unwrap_or(0);
    let _ = hart.write_csr(csr::SSTATUS, mstatus::SIE.set(status, 0));
    hart.set_x(A0, hart.shared().id());
    hart.set_x(A1, opaque);
    hart.set_pc(entry);
}

/// Gives the fault of a load that the SBI did for the supervisor back to it, as if its `ecall` had loaded (§5).
pub(super) fn redirect_load_fault(hart: &mut Hart, fault: Fault, address: u64) {
    let exception = fault.exception(Access::Read);
    let status = hart.read_csr(csr::SSTATUS).unwrap_or(0);
    let enabled = mstatus::SIE.get(status);
    let status = mstatus::SPP.set(mstatus::SPIE.set(mstatus::SIE.set(status, 0), enabled), 1);
    let registers = [
        (csr::SEPC, hart.pc().wrapping_sub(ECALL_LENGTH)),
        (csr::SCAUSE, exception as u64),
        (csr::STVAL, address),
        (csr::SSTATUS, status),
    ];
    for (number, value) in registers {
        let _ = hart.write_csr(number, value);
    }
    let vector = hart.read_csr(csr::STVEC).unwrap_or(0);
    hart.set_pc(vector & !3);
}
