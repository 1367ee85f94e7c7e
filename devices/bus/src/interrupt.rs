//! Interrupt lines: what connects a device to an interrupt controller, and a controller to a hart.

use std::sync::Arc;

/// What receives interrupt levels: an interrupt controller's sources, or a hart's `mip` bits.
pub trait InterruptSink: Send + Sync {
    /// Sets the level of input `source`. Idempotent; called from any thread.
    fn set_level(&self, source: u32, level: bool);
}

/// One level-triggered wire into an [`InterruptSink`]. A device holds its lines and never learns a number; there is no
/// `Clone`, so that a line has one driver.
pub struct IrqLine(Option<(Arc<dyn InterruptSink>, u32)>);

impl IrqLine {
    /// A line into input `source` of `sink`.
    pub fn new(sink: Arc<dyn InterruptSink>, source: u32) -> Self {
        Self(Some((sink, source)))
    }

    /// A line that leads nowhere.
    pub fn disconnected() -> Self {
        Self(None)
    }

    /// Drives the line. Idempotent.
    pub fn set(&self, level: bool) {
        if let Some((sink, source)) = &self.0 {
            sink.set_level(*source, level);
        }
    }
}
