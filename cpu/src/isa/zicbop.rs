//! Zicbop (unprivileged specification, "Extensions for Cache Management Operations"): hints, which never fault.

use super::row::instructions;
use super::rv64i::ori;

instructions! {
    requires Zicbop;

    /// A fetch is likely.
    prefetch_i "imm[11:5] 00000 rs1 110 00000 0010011" "imm(rs1)" specialises ori |_m, _i| Ok(());
    /// A load is likely.
    prefetch_r "imm[11:5] 00001 rs1 110 00000 0010011" "imm(rs1)" specialises ori |_m, _i| Ok(());
    /// A store is likely.
    prefetch_w "imm[11:5] 00011 rs1 110 00000 0010011" "imm(rs1)" specialises ori |_m, _i| Ok(());
}
