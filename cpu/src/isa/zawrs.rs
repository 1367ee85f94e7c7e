//! Zawrs (unprivileged specification, "Zawrs Extension for Wait-on-Reservation-Set instructions"). The wait may end
//! at any time for any reason, and here it ends as soon as the host has run other threads; so `wrs.nto` never waits long
//! enough for `mstatus.TW` to make it trap.

use super::row::instructions;
use crate::helpers;

instructions! {
    requires Zawrs;

    /// Wait until the reservation is lost or an interrupt is pending.
    wrs_nto "0000000 01101 00000 000 00000 1110011" "" flow Exit |m, i| m.call(i, helpers::pause);
    /// The same, for a short time only.
    wrs_sto "0000000 11101 00000 000 00000 1110011" "" flow Exit |m, i| m.call(i, helpers::pause);
}
