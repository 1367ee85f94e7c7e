//! Zicbom (unprivileged specification, "Extensions for Cache Management Operations").

use super::row::instructions;
use crate::helpers;

instructions! {
    requires Zicbom;

    /// Invalidate a cache block.
    cbo_inval "000000000000 rs1 010 00000 0001111" "(rs1)" |m, i| m.call(i, helpers::cbo_inval);
    /// Write a cache block back.
    cbo_clean "000000000001 rs1 010 00000 0001111" "(rs1)" |m, i| m.call(i, helpers::cbo_clean);
    /// Write a cache block back and invalidate it.
    cbo_flush "000000000010 rs1 010 00000 0001111" "(rs1)" |m, i| m.call(i, helpers::cbo_flush);
}
