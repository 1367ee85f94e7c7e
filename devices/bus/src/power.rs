//! How a device or the firmware asks for the machine to end or restart.

use std::sync::Arc;

/// What a guest asks of the machine's power.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PowerRequest {
    /// Power off; the process ends with this exit code.
    Off(u8),
    /// Cold or warm reset: the machine starts again.
    Reset,
}

/// The machine's power switch, held by devices that can press it. Pressing never blocks.
#[derive(Clone)]
pub struct PowerSwitch(Arc<dyn Fn(PowerRequest) + Send + Sync>);

impl PowerSwitch {
    /// A switch that calls `press`; it must not block.
    pub fn new(press: impl Fn(PowerRequest) + Send + Sync + 'static) -> Self {
        Self(Arc::new(press))
    }

    /// Asks for `request`; the machine acts on it at the next instruction boundary of its harts.
    pub fn press(&self, request: PowerRequest) {
        (self.0)(request);
    }
}
