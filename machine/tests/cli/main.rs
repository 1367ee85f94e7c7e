//! The `vervet` command as its users see it: what it refuses and how, test programs, the terminal, the quick start.
//!
//! These tests start the binary, which only the tests of its own crate can find.

mod bad_input;
mod command;
#[cfg(unix)]
mod debugger;
mod disk;
mod elf;
#[cfg(target_os = "linux")]
mod idle;
mod images;
#[cfg(unix)]
mod power_key;
#[cfg(unix)]
mod pseudo_terminal;
mod semihosting;
#[cfg(unix)]
mod shared_base;
#[cfg(unix)]
mod signals;
#[cfg(unix)]
mod terminal;
mod test_programs;
