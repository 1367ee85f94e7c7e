//! Zimop (unprivileged specification, "Zimop Extension for May-Be-Operations"): each writes 0 until an extension gives
//! it a meaning. The mnemonics are `mop.r.0` to `mop.r.31` and `mop.rr.0` to `mop.rr.7`.

use super::row::instructions;
use super::{Insn, Ops};

instructions! {
    requires Zimop;

    /// May-be-operation with one source register.
    mop_r "1 uimm[4] 00 uimm[3:2] 0111 uimm[1:0] rs1 100 rd 1110011" ".uimm rd, rs1" |m, i| zero(m, i);
    /// May-be-operation with two source registers.
    mop_rr "1 uimm[2] 00 uimm[1:0] 1 rs2 rs1 100 rd 1110011" ".uimm rd, rs1, rs2" |m, i| zero(m, i);
}

#[inline(always)]
fn zero<M: Ops>(m: &mut M, i: &Insn) -> Result<(), M::Exit> {
    let value = m.imm(0);
    m.set_x(i.rd, value);
    Ok(())
}
