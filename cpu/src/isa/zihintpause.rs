//! Zihintpause (unprivileged specification, "Zihintpause Extension for Pause Hint").

use super::row::instructions;
use super::rv64i::fence;
use crate::helpers;

instructions! {
    requires Zihintpause;

    /// The hart waits for another one.
    pause "0000 0001 0000 00000 000 00000 0001111" "" specialises fence |m, i| m.call(i, helpers::pause);
}
