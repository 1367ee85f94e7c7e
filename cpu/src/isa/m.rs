//! M (unprivileged specification, "M Extension for Integer Multiplication and Division").

use super::row::instructions;
use super::shapes::*;

instructions! {
    requires M;

    /// Multiply.
    mul "0000001 rs2 rs1 000 rd 0110011" "rd, rs1, rs2" |m, i| register_register(m, i, M::mul);
    /// Multiply high, signed × signed.
    mulh "0000001 rs2 rs1 001 rd 0110011" "rd, rs1, rs2" |m, i| register_register(m, i, M::mulh);
    /// Multiply high, signed × unsigned: as unsigned × unsigned, less 2^64 × rs2 if rs1 is negative.
    mulhsu "0000001 rs2 rs1 010 rd 0110011" "rd, rs1, rs2" |m, i| register_register(m, i, |m, a, b| {
        let (high, shift) = (m.mulhu(a, b), m.imm(63));
        let sign = m.sar(a, shift);
        let excess = m.and(sign, b);
        m.sub(high, excess)
    });
    /// Multiply high, unsigned × unsigned.
    mulhu "0000001 rs2 rs1 011 rd 0110011" "rd, rs1, rs2" |m, i| register_register(m, i, M::mulhu);
    /// Divide.
    div "0000001 rs2 rs1 100 rd 0110011" "rd, rs1, rs2" |m, i| register_register(m, i, M::div);
    /// Divide, unsigned.
    divu "0000001 rs2 rs1 101 rd 0110011" "rd, rs1, rs2" |m, i| register_register(m, i, M::divu);
    /// Remainder.
    rem "0000001 rs2 rs1 110 rd 0110011" "rd, rs1, rs2" |m, i| register_register(m, i, M::rem);
    /// Remainder, unsigned.
    remu "0000001 rs2 rs1 111 rd 0110011" "rd, rs1, rs2" |m, i| register_register(m, i, M::remu);
    /// Multiply, word.
    mulw "0000001 rs2 rs1 000 rd 0111011" "rd, rs1, rs2" |m, i| register_register(m, i, word(M::mul));
    /// Divide, word.
    divw "0000001 rs2 rs1 100 rd 0111011" "rd, rs1, rs2" |m, i| register_register(m, i, signed_words(M::div));
    /// Divide, unsigned word.
    divuw "0000001 rs2 rs1 101 rd 0111011" "rd, rs1, rs2" |m, i| register_register(m, i, unsigned_words(M::divu));
    /// Remainder, word.
    remw "0000001 rs2 rs1 110 rd 0111011" "rd, rs1, rs2" |m, i| register_register(m, i, signed_words(M::rem));
    /// Remainder, unsigned word.
    remuw "0000001 rs2 rs1 111 rd 0111011" "rd, rs1, rs2" |m, i| register_register(m, i, unsigned_words(M::remu));
}
