//! Zaamo (unprivileged specification, "A Extension for Atomic Instructions").

use bus::Width;

use super::AmoOp;
use super::row::instructions;
use super::shapes::*;

instructions! {
    requires Zaamo;

    /// Atomic add, word.
    amoadd_w "00000 aq rl rs2 rs1 010 rd 0101111" ".aqrl rd, rs2, (rs1)" |m, i| amo(m, i, AmoOp::Add, Width::Word);
    /// Atomic swap, word.
    amoswap_w "00001 aq rl rs2 rs1 010 rd 0101111" ".aqrl rd, rs2, (rs1)" |m, i| amo(m, i, AmoOp::Swap, Width::Word);
    /// Atomic exclusive or, word.
    amoxor_w "00100 aq rl rs2 rs1 010 rd 0101111" ".aqrl rd, rs2, (rs1)" |m, i| amo(m, i, AmoOp::Xor, Width::Word);
    /// Atomic or, word.
    amoor_w "01000 aq rl rs2 rs1 010 rd 0101111" ".aqrl rd, rs2, (rs1)" |m, i| amo(m, i, AmoOp::Or, Width::Word);
    /// Atomic and, word.
    amoand_w "01100 aq rl rs2 rs1 010 rd 0101111" ".aqrl rd, rs2, (rs1)" |m, i| amo(m, i, AmoOp::And, Width::Word);
    /// Atomic minimum, word.
    amomin_w "10000 aq rl rs2 rs1 010 rd 0101111" ".aqrl rd, rs2, (rs1)" |m, i| amo(m, i, AmoOp::Min, Width::Word);
    /// Atomic maximum, word.
    amomax_w "10100 aq rl rs2 rs1 010 rd 0101111" ".aqrl rd, rs2, (rs1)" |m, i| amo(m, i, AmoOp::Max, Width::Word);
    /// Atomic minimum, unsigned, word.
    amominu_w "11000 aq rl rs2 rs1 010 rd 0101111" ".aqrl rd, rs2, (rs1)" |m, i| amo(m, i, AmoOp::Minu, Width::Word);
    /// Atomic maximum, unsigned, word.
    amomaxu_w "11100 aq rl rs2 rs1 010 rd 0101111" ".aqrl rd, rs2, (rs1)" |m, i| amo(m, i, AmoOp::Maxu, Width::Word);
    /// Atomic add, doubleword.
    amoadd_d "00000 aq rl rs2 rs1 011 rd 0101111" ".aqrl rd, rs2, (rs1)" |m, i| amo(m, i, AmoOp::Add, Width::Double);
    /// Atomic swap, doubleword.
    amoswap_d "00001 aq rl rs2 rs1 011 rd 0101111" ".aqrl rd, rs2, (rs1)" |m, i| amo(m, i, AmoOp::Swap, Width::Double);
    /// Atomic exclusive or, doubleword.
    amoxor_d "00100 aq rl rs2 rs1 011 rd 0101111" ".aqrl rd, rs2, (rs1)" |m, i| amo(m, i, AmoOp::Xor, Width::Double);
    /// Atomic or, doubleword.
    amoor_d "01000 aq rl rs2 rs1 011 rd 0101111" ".aqrl rd, rs2, (rs1)" |m, i| amo(m, i, AmoOp::Or, Width::Double);
    /// Atomic and, doubleword.
    amoand_d "01100 aq rl rs2 rs1 011 rd 0101111" ".aqrl rd, rs2, (rs1)" |m, i| amo(m, i, AmoOp::And, Width::Double);
    /// Atomic minimum, doubleword.
    amomin_d "10000 aq rl rs2 rs1 011 rd 0101111" ".aqrl rd, rs2, (rs1)" |m, i| amo(m, i, AmoOp::Min, Width::Double);
    /// Atomic maximum, doubleword.
    amomax_d "10100 aq rl rs2 rs1 011 rd 0101111" ".aqrl rd, rs2, (rs1)" |m, i| amo(m, i, AmoOp::Max, Width::Double);
    /// Atomic minimum, unsigned, doubleword.
    amominu_d "11000 aq rl rs2 rs1 011 rd 0101111" ".aqrl rd, rs2, (rs1)" |m, i| amo(m, i, AmoOp::Minu, Width::Double);
    /// Atomic maximum, unsigned, doubleword.
    amomaxu_d "11100 aq rl rs2 rs1 011 rd 0101111" ".aqrl rd, rs2, (rs1)" |m, i| amo(m, i, AmoOp::Maxu, Width::Double);
}
