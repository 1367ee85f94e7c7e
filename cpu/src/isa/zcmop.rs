//! Zcmop (unprivileged specification, "Zcmop Extension for Compressed May-Be-Operations"): nothing happens until an
//! extension gives them a meaning. They take the place of `c.lui` with an immediate of 0.

use super::row::instructions;

instructions! {
    requires Zcmop;

    /// Compressed may-be-operation 1.
    c_mop_1 "011 0 00001 00000 01" "" |_m, _i| Ok(());
    /// Compressed may-be-operation 3.
    c_mop_3 "011 0 00011 00000 01" "" |_m, _i| Ok(());
    /// Compressed may-be-operation 5.
    c_mop_5 "011 0 00101 00000 01" "" |_m, _i| Ok(());
    /// Compressed may-be-operation 7.
    c_mop_7 "011 0 00111 00000 01" "" |_m, _i| Ok(());
    /// Compressed may-be-operation 9.
    c_mop_9 "011 0 01001 00000 01" "" |_m, _i| Ok(());
    /// Compressed may-be-operation 11.
    c_mop_11 "011 0 01011 00000 01" "" |_m, _i| Ok(());
    /// Compressed may-be-operation 13.
    c_mop_13 "011 0 01101 00000 01" "" |_m, _i| Ok(());
    /// Compressed may-be-operation 15.
    c_mop_15 "011 0 01111 00000 01" "" |_m, _i| Ok(());
}
