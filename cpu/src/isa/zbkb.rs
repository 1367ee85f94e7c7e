//! Zbkb: bit manipulation for cryptography (unprivileged specification, "B Extension for Bit Manipulation"), as far as
//! Zbb does not have it.

use bus::Width;

use super::Ops;
use super::row::instructions;
use super::shapes::*;

instructions! {
    requires Zbkb;

    /// Pack the low words.
    pack "0000100 rs2 rs1 100 rd 0110011" "rd, rs1, rs2" |m, i| register_register(m, i, pack(Width::Word));
    /// Pack the low bytes.
    packh "0000100 rs2 rs1 111 rd 0110011" "rd, rs1, rs2" |m, i| register_register(m, i, |m, a, b| {
        let b = m.zext(b, Width::Byte);
        pack(Width::Byte)(m, a, b)
    });
    /// Pack the low halfwords, sign-extended.
    packw "0000100 rs2 rs1 100 rd 0111011" "rd, rs1, rs2" |m, i| register_register(m, i, word(pack(Width::Half)));
    /// Reverse the bits of each byte.
    brev8 "0110100 00111 rs1 101 rd 0010011" "rd, rs1" |m, i| register(m, i, |m, a| {
        let a = swap(m, a, 1, 0x5555_5555_5555_5555);
        let a = swap(m, a, 2, 0x3333_3333_3333_3333);
        swap(m, a, 4, 0x0f0f_0f0f_0f0f_0f0f)
    });
}

/// a's low bits, and b's above them.
#[inline(always)]
fn pack<M: Ops>(width: Width) -> impl FnOnce(&mut M, M::V, M::V) -> M::V {
    move |m, a, b| {
        let (low, bits) = (m.zext(a, width), m.imm(8 * width.bytes() as i64));
        let high = m.shl(b, bits);
        m.or(low, high)
    }
}

/// Exchanges neighbouring groups of `bits` bits; `low` are the lower ones of each two.
#[inline(always)]
fn swap<M: Ops>(m: &mut M, a: M::V, bits: i64, low: i64) -> M::V {
    let (bits, low) = (m.imm(bits), m.imm(low));
    let down = m.shr(a, bits);
    let (down, up) = (m.and(down, low), m.and(a, low));
    let up = m.shl(up, bits);
    m.or(down, up)
}
