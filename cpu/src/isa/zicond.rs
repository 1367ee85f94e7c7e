//! Zicond (unprivileged specification, "Zicond Extension for Integer Conditional Operations").

use super::row::instructions;
use super::shapes::*;

instructions! {
    requires Zicond;

    /// 0 if rs2 is 0, else rs1.
    czero_eqz "0000111 rs2 rs1 101 rd 0110011" "rd, rs1, rs2" |m, i| register_register(m, i, |m, a, condition| {
        let zero = m.imm(0);
        m.select(condition, a, zero)
    });
    /// 0 if rs2 is not 0, else rs1.
    czero_nez "0000111 rs2 rs1 111 rd 0110011" "rd, rs1, rs2" |m, i| register_register(m, i, |m, a, condition| {
        let zero = m.imm(0);
        m.select(condition, zero, a)
    });
}
