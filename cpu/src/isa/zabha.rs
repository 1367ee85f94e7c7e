//! Zabha: byte and halfword atomics (unprivileged specification, "Zabha Extension for Byte and Halfword Atomic Memory
//! Operations").

use bus::Width;

use super::AmoOp;
use super::row::instructions;
use super::shapes::*;

instructions! {
    requires Zabha;

    /// Atomic add, byte.
    amoadd_b "00000 aq rl rs2 rs1 000 rd 0101111" ".aqrl rd, rs2, (rs1)" |m, i| amo(m, i, AmoOp::Add, Width::Byte);
    /// Atomic swap, byte.
    amoswap_b "00001 aq rl rs2 rs1 000 rd 0101111" ".aqrl rd, rs2, (rs1)" |m, i| amo(m, i, AmoOp::Swap, Width::Byte);
    /// Atomic exclusive or, byte.
    amoxor_b "00100 aq rl rs2 rs1 000 rd 0101111" ".aqrl rd, rs2, (rs1)" |m, i| amo(m, i, AmoOp::Xor, Width::Byte);
    /// Atomic or, byte.
    amoor_b "01000 aq rl rs2 rs1 000 rd 0101111" ".aqrl rd, rs2, (rs1)" |m, i| amo(m, i, AmoOp::Or, Width::Byte);
    /// Atomic and, byte.
    amoand_b "01100 aq rl rs2 rs1 000 rd 0101111" ".aqrl rd, rs2, (rs1)" |m, i| amo(m, i, AmoOp::And, Width::Byte);
    /// Atomic minimum, byte.
    amomin_b "10000 aq rl rs2 rs1 000 rd 0101111" ".aqrl rd, rs2, (rs1)" |m, i| amo(m, i, AmoOp::Min, Width::Byte);
    /// Atomic maximum, byte.
    amomax_b "10100 aq rl rs2 rs1 000 rd 0101111" ".aqrl rd, rs2, (rs1)" |m, i| amo(m, i, AmoOp::Max, Width::Byte);
    /// Atomic minimum, unsigned, byte.
    amominu_b "11000 aq rl rs2 rs1 000 rd 0101111" ".aqrl rd, rs2, (rs1)" |m, i| amo(m, i, AmoOp::Minu, Width::Byte);
    /// Atomic maximum, unsigned, byte.
    amomaxu_b "11100 aq rl rs2 rs1 000 rd 0101111" ".aqrl rd, rs2, (rs1)" |m, i| amo(m, i, AmoOp::Maxu, Width::Byte);
    /// Atomic add, halfword.
    amoadd_h "00000 aq rl rs2 rs1 001 rd 0101111" ".aqrl rd, rs2, (rs1)" |m, i| amo(m, i, AmoOp::Add, Width::Half);
    /// Atomic swap, halfword.
    amoswap_h "00001 aq rl rs2 rs1 001 rd 0101111" ".aqrl rd, rs2, (rs1)" |m, i| amo(m, i, AmoOp::Swap, Width::Half);
    /// Atomic exclusive or, halfword.
    amoxor_h "00100 aq rl rs2 rs1 001 rd 0101111" ".aqrl rd, rs2, (rs1)" |m, i| amo(m, i, AmoOp::Xor, Width::Half);
    /// Atomic or, halfword.
    amoor_h "01000 aq rl rs2 rs1 001 rd 0101111" ".aqrl rd, rs2, (rs1)" |m, i| amo(m, i, AmoOp::Or, Width::Half);
    /// Atomic and, halfword.
    amoand_h "01100 aq rl rs2 rs1 001 rd 0101111" ".aqrl rd, rs2, (rs1)" |m, i| amo(m, i, AmoOp::And, Width::Half);
    /// Atomic minimum, halfword.
    amomin_h "10000 aq rl rs2 rs1 001 rd 0101111" ".aqrl rd, rs2, (rs1)" |m, i| amo(m, i, AmoOp::Min, Width::Half);
    /// Atomic maximum, halfword.
    amomax_h "10100 aq rl rs2 rs1 001 rd 0101111" ".aqrl rd, rs2, (rs1)" |m, i| amo(m, i, AmoOp::Max, Width::Half);
    /// Atomic minimum, unsigned, halfword.
    amominu_h "11000 aq rl rs2 rs1 001 rd 0101111" ".aqrl rd, rs2, (rs1)" |m, i| amo(m, i, AmoOp::Minu, Width::Half);
    /// Atomic maximum, unsigned, halfword.
    amomaxu_h "11100 aq rl rs2 rs1 001 rd 0101111" ".aqrl rd, rs2, (rs1)" |m, i| amo(m, i, AmoOp::Maxu, Width::Half);
    /// Atomic compare and swap, byte.
    amocas_b "00101 aq rl rs2 rs1 000 rd 0101111" ".aqrl rd, rs2, (rs1)" needs Zacas
        |m, i| compare_and_swap(m, i, Width::Byte);
    /// Atomic compare and swap, halfword.
    amocas_h "00101 aq rl rs2 rs1 001 rd 0101111" ".aqrl rd, rs2, (rs1)" needs Zacas
        |m, i| compare_and_swap(m, i, Width::Half);
}
