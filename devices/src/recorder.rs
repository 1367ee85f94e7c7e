//! Where interrupt lines lead in tests.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bus::{InterruptSink, IrqLine};

/// Remembers the levels of its inputs.
#[derive(Default)]
pub struct Recorder(Mutex<BTreeMap<u32, bool>>);

impl Recorder {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// A line to input `source`.
    pub fn line(self: &Arc<Self>, source: u32) -> IrqLine {
        IrqLine::new(self.clone(), source)
    }

    /// Whether input `source` is high.
    #[allow(dead_code, reason = "not every test crate asks for one level")]
    pub fn level(&self, source: u32) -> bool {
        self.levels().get(&source).copied().unwrap_or(false)
    }

    /// Levels of the inputs that were ever driven.
    pub fn levels(&self) -> BTreeMap<u32, bool> {
        self.0.lock().unwrap().clone()
    }
}

impl InterruptSink for Recorder {
    fn set_level(&self, source: u32, level: bool) {
        self.0.lock().unwrap().insert(source, level);
    }
}
