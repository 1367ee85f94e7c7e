//! Zbc (unprivileged specification, "B Extension for Bit Manipulation", Zbc: carry-less multiplication).

use super::row::instructions;
use super::shapes::*;

instructions! {
    requires Zbc;

    /// Carry-less multiply, low part.
    clmul "0000101 rs2 rs1 001 rd 0110011" "rd, rs1, rs2" or Zbkc |m, i| register_register(m, i, M::clmul);
    /// Carry-less multiply, high part.
    clmulh "0000101 rs2 rs1 011 rd 0110011" "rd, rs1, rs2" or Zbkc |m, i| register_register(m, i, M::clmulh);
    /// Carry-less multiply, reversed: bits 126 to 63 of the product.
    clmulr "0000101 rs2 rs1 010 rd 0110011" "rd, rs1, rs2" |m, i| register_register(m, i, |m, a, b| {
        let (low, high) = (m.clmul(a, b), m.clmulh(a, b));
        let (down, up) = (m.imm(63), m.imm(1));
        let (low, high) = (m.shr(low, down), m.shl(high, up));
        m.or(low, high)
    });
}
