//! Zifencei (unprivileged specification, "Zifencei Extension for Instruction-Fetch Fence").

use super::row::instructions;
use crate::helpers;

instructions! {
    requires Zifencei;

    /// Makes stores visible to instruction fetch. All other fields are reserved and to be ignored.
    fence_i "imm[11:0] rs1 001 rd 0001111" "" flow Exit |m, i| m.call(i, helpers::fence_i);
}
