//! The monitor: a small program of our own that runs when there is no operating system to run. It shows the machine, its
//! memory, CSRs and devices, and measures how fast it is.
//!
//! Its source is assembled when it is needed, so that neither a build nor a user needs a cross compiler.

use cpu::extension::ExtensionSet;
use cpu::isa::assembler::{self, AssembleError};

use crate::image::{ImageError, Program, Room};

/// The source.
const SOURCE: &str = include_str!("monitor.s");

/// The instructions that the source uses: any machine has them.
const CPU: &str = "rv64gc";

/// Why there is no monitor.
#[derive(Debug, thiserror::Error)]
pub enum MonitorError {
    /// The source is wrong, which is a mistake of ours.
    #[error("the monitor does not assemble: {0}")]
    Assemble(#[from] AssembleError),
    /// There is no room for it.
    #[error(transparent)]
    Place(#[from] ImageError),
}

/// The monitor as a kernel: an S-mode program at [`Room::lowest`].
pub fn program(room: &Room) -> Result<Program, MonitorError> {
    let extensions = ExtensionSet::from_cpu_argument(CPU).unwrap_or_else(|_| ExtensionSet::implemented());
    let assembled = assembler::assemble(SOURCE, room.lowest, &extensions)?;
    // The stack is the last of what follows the program in memory.
    let end = assembled.symbols.get("stack_top").copied().unwrap_or(room.lowest);
    let size = end.saturating_sub(room.lowest).max(assembled.bytes.len() as u64);
    Ok(Program::flat("the monitor", assembled.bytes, size, room)?)
}

#[cfg(test)]
mod tests;
