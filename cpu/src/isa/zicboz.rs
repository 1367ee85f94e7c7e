//! Zicboz (unprivileged specification, "Extensions for Cache Management Operations").

use super::row::instructions;
use crate::helpers;

instructions! {
    requires Zicboz;

    /// Fill a cache block with zeros.
    cbo_zero "000000000100 rs1 010 00000 0001111" "(rs1)" |m, i| m.call(i, helpers::cbo_zero);
}
