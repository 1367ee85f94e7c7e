//! Signals that ask for an end, for work that has something to put away first.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Has the first signal that would end the process raise `stop`; a second one ends it.
#[cfg(unix)]
pub fn raise(stop: &Arc<AtomicBool>) -> io::Result<()> {
    for signal in signal_hook::consts::TERM_SIGNALS {
        signal_hook::flag::register_conditional_default(*signal, stop.clone())?;
        signal_hook::flag::register(*signal, stop.clone())?;
    }
    Ok(())
}

/// Elsewhere a signal ends the process.
#[cfg(not(unix))]
pub fn raise(_stop: &Arc<AtomicBool>) -> io::Result<()> {
    Ok(())
}
