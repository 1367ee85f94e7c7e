//! Machines: boards put together, run, paused, saved and restored; test programs; the command line.

#![forbid(unsafe_code)]

pub mod board;
pub mod cli;
pub mod gdb;
pub mod htif;
pub mod image;
pub mod logging;
mod machine;
pub mod semihosting;
mod shutdown;
pub mod test_program;
pub mod trace;

pub use machine::{Core, Event, Events, Machine, MachineError, MachineState, Order, Wiring};
pub use shutdown::{End, Shutdown};
