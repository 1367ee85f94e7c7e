//! Zalrsc (unprivileged specification, "A Extension for Atomic Instructions").

use bus::Width;

use super::row::instructions;
use super::{Insn, Ops};

instructions! {
    requires Zalrsc;

    /// Load reserved, word.
    lr_w "00010 aq rl 00000 rs1 010 rd 0101111" ".aqrl rd, (rs1)" |m, i| load_reserved(m, i, Width::Word);
    /// Load reserved, doubleword.
    lr_d "00010 aq rl 00000 rs1 011 rd 0101111" ".aqrl rd, (rs1)" |m, i| load_reserved(m, i, Width::Double);
    /// Store conditional, word.
    sc_w "00011 aq rl rs2 rs1 010 rd 0101111" ".aqrl rd, rs2, (rs1)" |m, i| store_conditional(m, i, Width::Word);
    /// Store conditional, doubleword.
    sc_d "00011 aq rl rs2 rs1 011 rd 0101111" ".aqrl rd, rs2, (rs1)" |m, i| store_conditional(m, i, Width::Double);
}

#[inline(always)]
fn load_reserved<M: Ops>(m: &mut M, i: &Insn, width: Width) -> Result<(), M::Exit> {
    let address = m.x(i.rs1);
    let value = m.load_reserved(i, address, width)?;
    m.set_x(i.rd, value);
    Ok(())
}

#[inline(always)]
fn store_conditional<M: Ops>(m: &mut M, i: &Insn, width: Width) -> Result<(), M::Exit> {
    let (address, value) = (m.x(i.rs1), m.x(i.rs2));
    let failure = m.store_conditional(i, address, width, value)?;
    m.set_x(i.rd, failure);
    Ok(())
}
