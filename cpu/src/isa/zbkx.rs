//! Zbkx: crossbar permutations (unprivileged specification, "B Extension for Bit Manipulation").

use super::row::instructions;
use super::shapes::*;
use super::{Cond, Ops};

instructions! {
    requires Zbkx;

    /// Look up each nibble of rs2 in rs1.
    xperm4 "0010100 rs2 rs1 010 rd 0110011" "rd, rs1, rs2" |m, i| register_register(m, i, |m, a, b| permute(m, a, b, 4));
    /// Look up each byte of rs2 in rs1; zero beyond its eight bytes.
    xperm8 "0010100 rs2 rs1 100 rd 0110011" "rd, rs1, rs2" |m, i| register_register(m, i, |m, a, b| permute(m, a, b, 8));
}

/// For each group of `bits` bits of `indices` the group of `table` that it numbers, or zero if there is none.
#[inline(always)]
fn permute<M: Ops>(m: &mut M, table: M::V, indices: M::V, bits: i64) -> M::V {
    let groups = 64 / bits;
    let (mask, count, zero) = (m.imm((1 << bits) - 1), m.imm(groups), m.imm(0));
    let scale = m.imm(bits.trailing_zeros().into());
    let mut result = zero;
    for group in 0..groups {
        let place = m.imm(group * bits);
        let index = m.shr(indices, place);
        let index = m.and(index, mask);
        let distance = m.shl(index, scale);
        let found = m.shr(table, distance);
        let mut found = m.and(found, mask);
        if 1 << bits > groups {
            // By a mask, not a choice (Zkt).
            let inside = m.cmp(Cond::Ltu, index, count);
            let mask = m.sub(zero, inside);
            found = m.and(found, mask);
        }
        let found = m.shl(found, place);
        result = m.or(result, found);
    }
    result
}
