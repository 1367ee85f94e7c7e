//! The contract between harts and devices: guest RAM, the physical address space, devices, interrupt lines, the clock.
//!
//! Arrows point here from `cpu` and `devices`; this crate knows neither. Guest mistakes are never errors or panics:
//! an access that no device claims is reported to the hart, which raises the architectural access fault, and a device
//! gives every access in its window a defined result.

mod address_space;
mod clock;
mod device;
pub mod device_tree;
pub mod huge;
mod interrupt;
mod power;
mod ram;
mod state;
mod width;

pub use address_space::{AddressSpace, MapError, Mapped};
pub use clock::{Alarm, Clock, TICKS_PER_SECOND};
pub use device::Device;
pub use device_tree::Placement;
pub use interrupt::{InterruptSink, IrqLine};
pub use power::{PowerRequest, PowerSwitch};
pub use ram::{CodeListener, Gathered, PAGE_SIZE, PageFlags, Piece, Ram, RamError, Scattered, View};
pub use state::{StateError, restore, save};
pub use width::Width;
