//! What every device on the bus offers.

use crate::device_tree::{Node, Placement};
use crate::{StateError, Width};

/// A memory-mapped device: fixed configuration, run-time glue (lines, backends) and one serialisable state.
///
/// It does not know its address or its interrupt number. Methods are called from several hart threads at once; a
/// device locks its own registers for a short time, and does work that may wait on a thread of its own. Every access
/// inside the window has a defined result, of any width and alignment: guest mistakes are ignored or read as zero and
/// reported by `tracing` at debug level.
pub trait Device: Send + Sync {
    /// A short name, unique in kind, for messages and saved states ("uart").
    fn name(&self) -> &'static str;

    /// Size of the register window in bytes.
    fn size(&self) -> u64;

    /// A load by a hart. `offset + width` lies inside the window; the result is zero-extended.
    fn read(&self, offset: u64, width: Width) -> u64;

    /// A store by a hart; `value` is zero-extended.
    fn write(&self, offset: u64, width: Width, value: u64);

    /// What [`Device::read`] would return, without side effects (for a debugger).
    fn peek(&self, offset: u64, width: Width) -> u64;

    /// The width of the register at an offset, by which a debugger accesses it, whatever number of bytes it asks for.
    /// Registers are aligned to their width.
    fn register_width(&self, _offset: u64) -> Width {
        Width::Word
    }

    /// Whether harts may fetch instructions from the window (ROM).
    fn executable(&self) -> bool {
        false
    }

    /// Back to the power-on state, lines low.
    fn reset(&self);

    /// The device-tree node that describes this device at its place, if it has one.
    fn describe(&self, placement: &Placement) -> Option<Node>;

    /// Stops producing: no DMA, no interrupt, no backend I/O is started until [`Device::resume`]. What arrives from a
    /// backend meanwhile is held. Harts are stopped already; returns when work in flight is done.
    fn pause(&self) {}

    /// Goes on after [`Device::pause`].
    fn resume(&self) {}

    /// The volatile state, serialised. Only called while paused.
    fn save(&self) -> Result<Vec<u8>, StateError>;

    /// Takes over a state that [`Device::save`] made, and drives the lines that it implies to the level they had;
    /// makes no new edge. Only called while paused; on an error the device is as it was.
    fn restore(&self, state: &[u8]) -> Result<(), StateError>;
}
