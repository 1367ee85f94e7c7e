//! Zacas (unprivileged specification, "Zacas Extension for Atomic Compare-and-Swap Instructions").

use bus::Width;

use super::Ops;
use super::row::instructions;
use super::shapes::*;

instructions! {
    requires Zacas;

    /// Atomic compare and swap, word.
    amocas_w "00101 aq rl rs2 rs1 010 rd 0101111" ".aqrl rd, rs2, (rs1)" |m, i| compare_and_swap(m, i, Width::Word);
    /// Atomic compare and swap, doubleword.
    amocas_d "00101 aq rl rs2 rs1 011 rd 0101111" ".aqrl rd, rs2, (rs1)" |m, i| compare_and_swap(m, i, Width::Double);
    /// Atomic compare and swap, quadword: in pairs of registers.
    amocas_q "00101 aq rl rs2!=odd rs1 100 rd!=odd 0101111" ".aqrl rd, rs2, (rs1)" |m, i| {
        let (address, expected, new) = (m.x(i.rs1), pair(m, i.rd), pair(m, i.rs2));
        let [low, high] = m.compare_and_swap_pair(i, address, expected, new)?;
        if i.rd != 0 {
            m.set_x(i.rd, low);
            m.set_x(i.rd + 1, high);
        }
        Ok(())
    };
}

/// The registers of a pair, low half first; the pair of x0 is zero.
#[inline(always)]
fn pair<M: Ops>(m: &mut M, first: u8) -> [M::V; 2] {
    let low = m.x(first);
    [low, if first == 0 { low } else { m.x(first + 1) }]
}
