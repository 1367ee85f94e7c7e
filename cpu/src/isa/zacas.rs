//! Zacas (unprivileged specification, "Zacas Extension for Atomic Compare-and-Swap Instructions").

use bus::Width;

use super::row::instructions;
use super::shapes::*;

instructions! {
    requires Zacas;

    /// Atomic compare and swap, word.
    amocas_w "00101 aq rl rs2 rs1 010 rd 0101111" ".aqrl rd, rs2, (rs1)" |m, i| compare_and_swap(m, i, Width::Word);
    /// Atomic compare and swap, doubleword.
    amocas_d "00101 aq rl rs2 rs1 011 rd 0101111" ".aqrl rd, rs2, (rs1)" |m, i| compare_and_swap(m, i, Width::Double);
}
