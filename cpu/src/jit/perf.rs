//! Names for Linux's perf: a text file of address, length and name of each region, in `/tmp/perf-PID.map`.

use std::fs::File;
use std::io::Write;
use std::sync::{Mutex, PoisonError};

/// The file that perf looks for.
pub(super) struct PerfMap(Mutex<File>);

impl PerfMap {
    /// Creates the file; `None`, with a warning, if that fails.
    pub fn new() -> Option<Self> {
        let path = std::env::temp_dir().join(format!("perf-{}.map", std::process::id()));
        match File::create(&path) {
            Ok(file) => Some(Self(Mutex::new(file))),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "no map for perf");
                None
            }
        }
    }

    /// Adds `length` bytes of code of a `kind` for the guest-physical address `guest`.
    pub fn add(&self, kind: &str, address: u64, length: usize, guest: u64) {
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = writeln!(file, "{address:x} {length:x} {kind} {guest:#x}") {
            tracing::warn!(%error, "cannot write the map for perf");
        }
    }
}
