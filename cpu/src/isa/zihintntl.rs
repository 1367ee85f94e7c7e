//! Zihintntl (unprivileged specification, "Zihintntl Extension for Non-Temporal Locality Hints"): nothing to do, as no
//! cache is modelled.

use super::c::c_add;
use super::row::instructions;
use super::rv64i::add;

instructions! {
    requires Zihintntl;

    /// Not in the innermost private cache.
    ntl_p1 "0000000 00010 00000 000 00000 0110011" "" specialises add |_m, _i| Ok(());
    /// Not in any private cache.
    ntl_pall "0000000 00011 00000 000 00000 0110011" "" specialises add |_m, _i| Ok(());
    /// Not in the innermost shared cache.
    ntl_s1 "0000000 00100 00000 000 00000 0110011" "" specialises add |_m, _i| Ok(());
    /// Not in any cache.
    ntl_all "0000000 00101 00000 000 00000 0110011" "" specialises add |_m, _i| Ok(());
    /// Not in the innermost private cache.
    c_ntl_p1 "100 1 00000 00010 10" "" needs Zca specialises c_add => ntl_p1;
    /// Not in any private cache.
    c_ntl_pall "100 1 00000 00011 10" "" needs Zca specialises c_add => ntl_pall;
    /// Not in the innermost shared cache.
    c_ntl_s1 "100 1 00000 00100 10" "" needs Zca specialises c_add => ntl_s1;
    /// Not in any cache.
    c_ntl_all "100 1 00000 00101 10" "" needs Zca specialises c_add => ntl_all;
}
