//! Zicsr (unprivileged specification, "Zicsr Extension for Control and Status Register Instructions"). The immediate is
//! the CSR's number; the immediate forms have their operand in the place of rs1.

use super::row::instructions;
use crate::helpers;

instructions! {
    requires Zicsr;

    /// Atomic read and write.
    csrrw "csr[11:0] rs1 001 rd 1110011" "rd, csr, rs1" flow Exit |m, i| m.call(i, helpers::csrrw);
    /// Atomic read and set bits.
    csrrs "csr[11:0] rs1 010 rd 1110011" "rd, csr, rs1" flow Exit |m, i| m.call(i, helpers::csrrs);
    /// Atomic read and clear bits.
    csrrc "csr[11:0] rs1 011 rd 1110011" "rd, csr, rs1" flow Exit |m, i| m.call(i, helpers::csrrc);
    /// Atomic read and write, immediate.
    csrrwi "csr[11:0] zimm 101 rd 1110011" "rd, csr, zimm" flow Exit |m, i| m.call(i, helpers::csrrwi);
    /// Atomic read and set bits, immediate.
    csrrsi "csr[11:0] zimm 110 rd 1110011" "rd, csr, zimm" flow Exit |m, i| m.call(i, helpers::csrrsi);
    /// Atomic read and clear bits, immediate.
    csrrci "csr[11:0] zimm 111 rd 1110011" "rd, csr, zimm" flow Exit |m, i| m.call(i, helpers::csrrci);
}
