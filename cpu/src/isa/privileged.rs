//! Privileged instructions: environment call and breakpoint of the base instruction set, and of the privileged
//! specification "Machine-Mode Privileged Instructions" and "Supervisor Instructions".

use super::row::instructions;
use crate::helpers;

instructions! {
    requires I;

    /// Environment call.
    ecall "000000000000 00000 000 00000 1110011" "" flow Exit |m, i| m.call(i, helpers::ecall);
    /// Breakpoint.
    ebreak "000000000001 00000 000 00000 1110011" "" flow Exit |m, i| m.call(i, helpers::ebreak);
    /// Return from a trap to M-mode.
    mret "0011000 00010 00000 000 00000 1110011" "" flow Exit |m, i| m.call(i, helpers::mret);
    /// Wait for an interrupt.
    wfi "0001000 00101 00000 000 00000 1110011" "" flow Exit |m, i| m.call(i, helpers::wfi);
    /// Return from a trap to S-mode.
    sret "0001000 00010 00000 000 00000 1110011" "" flow Exit needs S |m, i| m.call(i, helpers::sret);
    /// Makes stores to page tables visible to address translation.
    sfence_vma "0001001 rs2 rs1 000 00000 1110011" "rs1, rs2" flow Exit needs S
        |m, i| m.call(i, helpers::sfence_vma);
    /// Invalidates translations between the fences of Svinval.
    sinval_vma "0001011 rs2 rs1 000 00000 1110011" "rs1, rs2" flow Exit needs Svinval
        |m, i| m.call(i, helpers::sinval_vma);
    /// Orders stores before invalidations.
    sfence_w_inval "0001100 00000 00000 000 00000 1110011" "" flow Exit needs Svinval
        |m, i| m.call(i, helpers::sfence_w_inval);
    /// Orders invalidations before memory accesses.
    sfence_inval_ir "0001100 00001 00000 000 00000 1110011" "" flow Exit needs Svinval
        |m, i| m.call(i, helpers::sfence_inval_ir);
}
