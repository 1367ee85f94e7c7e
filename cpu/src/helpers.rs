//! Instructions that work on the whole hart and are not worth writing in primitive operations: CSR accesses,
//! environment calls, returns, fences of the MMU, cache-block operations. Both engines call these functions.
//!
//! A helper finds `next_pc` behind its instruction and may change it; it has checked everything that can trap before it
//! changes anything.

use std::sync::atomic::{Ordering, fence};

use bus::Width;

use crate::csr::{envcfg, mstatus};
use crate::hart::CACHE_BLOCK_SIZE;
use crate::isa::Insn;
use crate::mmu::Access;
use crate::trap::Exception;
use crate::{Hart, Privilege, Stop, Trapped, event};

type Outcome = Result<(), Trapped>;

/// An encoding that the hart does not have: `mtval` holds it (§3.1.16).
pub(crate) fn illegal(hart: &mut Hart, i: &Insn) -> Outcome {
    Err(hart.raise(Exception::IllegalInstruction, i.raw.into()))
}

/// What a CSR instruction does with its operand.
#[derive(Clone, Copy, PartialEq, Eq)]
enum CsrOp {
    Write,
    Set,
    Clear,
}

/// The CSR instructions (Zicsr): `csrrw` with x0 as destination does not read; the others with x0 or zero as source do
/// not write.
fn access_csr(hart: &mut Hart, i: &Insn, op: CsrOp, operand: u64, writes: bool) -> Outcome {
    let number = (i.raw >> 20) as u16;
    let reads = op != CsrOp::Write || i.rd != 0;
    let old = if reads {
        match hart.read_csr(number) {
            Some(value) => value,
            None => return illegal(hart, i),
        }
    } else {
        0
    };
    if writes {
        let base = hart.read_csr_to_modify(number, old);
        let value = match op {
            CsrOp::Write => operand,
            CsrOp::Set => base | operand,
            CsrOp::Clear => base & !operand,
        };
        if hart.write_csr(number, value).is_none() {
            return illegal(hart, i);
        }
    }
    hart.set_x(i.rd.into(), old);
    Ok(())
}

pub(crate) fn csrrw(hart: &mut Hart, i: &Insn) -> Outcome {
    access_csr(hart, i, CsrOp::Write, hart.x(i.rs1.into()), true)
}

pub(crate) fn csrrs(hart: &mut Hart, i: &Insn) -> Outcome {
    access_csr(hart, i, CsrOp::Set, hart.x(i.rs1.into()), i.rs1 != 0)
}

pub(crate) fn csrrc(hart: &mut Hart, i: &Insn) -> Outcome {
    access_csr(hart, i, CsrOp::Clear, hart.x(i.rs1.into()), i.rs1 != 0)
}

/// The five-bit immediate in the place of rs1.
fn csr_immediate(i: &Insn) -> u64 {
    (i.raw >> 15 & 31).into()
}

pub(crate) fn csrrwi(hart: &mut Hart, i: &Insn) -> Outcome {
    access_csr(hart, i, CsrOp::Write, csr_immediate(i), true)
}

pub(crate) fn csrrsi(hart: &mut Hart, i: &Insn) -> Outcome {
    access_csr(hart, i, CsrOp::Set, csr_immediate(i), csr_immediate(i) != 0)
}

pub(crate) fn csrrci(hart: &mut Hart, i: &Insn) -> Outcome {
    access_csr(hart, i, CsrOp::Clear, csr_immediate(i), csr_immediate(i) != 0)
}

pub(crate) fn ecall(hart: &mut Hart, _: &Insn) -> Outcome {
    let exception = match hart.privilege {
        Privilege::User => Exception::EcallFromUser,
        Privilege::Supervisor if hart.configuration.built_in_sbi => {
            hart.stop = Some(Stop::EnvironmentCall);
            hart.note_trap_for_triggers();
            // An ecall does not retire (§3.3.1); the block will count it.
            hart.counts.retired = hart.counts.retired.wrapping_sub(1);
            return Ok(());
        }
        Privilege::Supervisor => Exception::EcallFromSupervisor,
        Privilege::Machine => Exception::EcallFromMachine,
    };
    Err(hart.raise(exception, 0))
}

pub(crate) fn ebreak(hart: &mut Hart, i: &Insn) -> Outcome {
    let address = hart.pc.wrapping_add(i.offset.into());
    if hart.is_semihosting_call(i, address) {
        hart.call_semihosting();
        return Ok(());
    }
    Err(hart.raise(Exception::Breakpoint, address))
}

pub(crate) fn mret(hart: &mut Hart, i: &Insn) -> Outcome {
    if hart.privilege != Privilege::Machine {
        return illegal(hart, i);
    }
    hart.return_from_machine();
    Ok(())
}

/// `sret`: TSR traps it in S-mode (§3.1.6.6).
pub(crate) fn sret(hart: &mut Hart, i: &Insn) -> Outcome {
    let trapped = hart.privilege == Privilege::Supervisor && mstatus::TSR.get(hart.csr.mstatus) != 0;
    if hart.privilege == Privilege::User || trapped {
        return illegal(hart, i);
    }
    hart.return_from_supervisor();
    Ok(())
}

/// `wfi`: TW traps it below M-mode at once (a time limit of zero), and U-mode never may (§3.1.6.6, §3.3.3).
pub(crate) fn wfi(hart: &mut Hart, i: &Insn) -> Outcome {
    let trapped = hart.privilege == Privilege::Supervisor && mstatus::TW.get(hart.csr.mstatus) != 0;
    if hart.privilege == Privilege::User || trapped {
        return illegal(hart, i);
    }
    if !hart.has_pending_interrupt() {
        hart.stop = Some(Stop::WaitForInterrupt);
    }
    Ok(())
}

/// `pause` (Zihintpause): lets another hart's thread run on this host core.
pub(crate) fn pause(_: &mut Hart, _: &Insn) -> Outcome {
    std::thread::yield_now();
    Ok(())
}

pub(crate) fn fence_i(hart: &mut Hart, _: &Insn) -> Outcome {
    // Served before the next instruction, and not inside of translated code: it may have to wait for other harts.
    // Without any, all that was stored has been heard of.
    if hart.has_peers() {
        hart.shared().raise(event::FENCE);
    }
    Ok(())
}

/// Whether the mode may fence the MMU: not in U-mode, and TVM traps it in S-mode (§3.1.6.6).
fn may_fence_translations(hart: &Hart) -> bool {
    match hart.privilege {
        Privilege::User => false,
        Privilege::Supervisor => mstatus::TVM.get(hart.csr.mstatus) == 0,
        Privilege::Machine => true,
    }
}

/// `sfence.vma` (§10.2.1).
pub(crate) fn sfence_vma(hart: &mut Hart, i: &Insn) -> Outcome {
    if !may_fence_translations(hart) {
        return illegal(hart, i);
    }
    fence(Ordering::SeqCst);
    let address = (i.rs1 != 0).then(|| hart.x(i.rs1.into()));
    let asid = (i.rs2 != 0).then(|| hart.x(i.rs2.into()) & 0xffff);
    hart.fence_translations(address, asid);
    Ok(())
}

/// `sinval.vma` (Svinval): done at once, so that the fences around it have nothing to wait for.
pub(crate) fn sinval_vma(hart: &mut Hart, i: &Insn) -> Outcome {
    sfence_vma(hart, i)
}

/// `sfence.w.inval` and `sfence.inval.ir`: not trapped by TVM.
pub(crate) fn sfence_w_inval(hart: &mut Hart, i: &Insn) -> Outcome {
    if hart.privilege == Privilege::User {
        return illegal(hart, i);
    }
    fence(Ordering::SeqCst);
    Ok(())
}

pub(crate) fn sfence_inval_ir(hart: &mut Hart, i: &Insn) -> Outcome {
    sfence_w_inval(hart, i)
}

/// What `menvcfg` and `senvcfg` allow the current mode for a cache-block operation (Zicbom, Zicboz): the lesser of
/// both for U-mode.
fn cache_block_control(hart: &Hart, field: crate::csr::Field) -> u64 {
    let (machine, supervisor) = (field.get(hart.csr.menvcfg), field.get(hart.csr.senvcfg));
    match hart.privilege {
        Privilege::Machine => u64::MAX,
        Privilege::Supervisor => machine,
        Privilege::User => machine & supervisor,
    }
}

/// `cbo.clean`, `cbo.flush`, `cbo.inval`: memory is coherent, so that only the permission checks remain. A block may be
/// managed where a load or a store may access it; faults are those of a store (CMO specification, §2.5.2).
fn manage_block(hart: &mut Hart, i: &Insn) -> Outcome {
    let address = hart.masked(hart.x(i.rs1.into()));
    let block = address & !(CACHE_BLOCK_SIZE - 1);
    hart.check_watched_block(block)?;
    let is_fault = |hart: &mut Hart, access| hart.translate(block, CACHE_BLOCK_SIZE, access).err();
    if is_fault(hart, Access::Read).is_none() || is_fault(hart, Access::Write).is_none() {
        return Ok(());
    }
    // The trap at hand is the store's.
    let exception = hart.trap.exception;
    Err(hart.raise(exception, address))
}

pub(crate) fn cbo_clean(hart: &mut Hart, i: &Insn) -> Outcome {
    if cache_block_control(hart, envcfg::CBCFE) == 0 { illegal(hart, i) } else { manage_block(hart, i) }
}

pub(crate) fn cbo_flush(hart: &mut Hart, i: &Insn) -> Outcome {
    cbo_clean(hart, i)
}

/// `cbo.inval`: CBIE 0 traps, 1 flushes instead, 3 invalidates.
pub(crate) fn cbo_inval(hart: &mut Hart, i: &Insn) -> Outcome {
    if cache_block_control(hart, envcfg::CBIE) == 0 { illegal(hart, i) } else { manage_block(hart, i) }
}

/// `cbo.zero`: the block is aligned, hence in one page.
pub(crate) fn cbo_zero(hart: &mut Hart, i: &Insn) -> Outcome {
    if cache_block_control(hart, envcfg::CBZE) == 0 {
        return illegal(hart, i);
    }
    let address = hart.masked(hart.x(i.rs1.into()));
    let block = address & !(CACHE_BLOCK_SIZE - 1);
    for doubleword in 0..CACHE_BLOCK_SIZE / 8 {
        if hart.store_virtual(block + doubleword * 8, Width::Double, 0).is_err() {
            let exception = hart.trap.exception;
            return Err(hart.raise(exception, address));
        }
    }
    Ok(())
}
