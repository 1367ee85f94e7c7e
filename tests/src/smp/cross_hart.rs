//! What harts do to each other, by programs in S-mode on the built-in SBI that judge themselves.

use std::sync::Arc;
use std::time::Duration;

use bus::PowerRequest;
use cpu::EngineKind;
use cpu::extension::ExtensionSet;
use cpu::isa::assembler::{AssembleError, assemble};
use firmware::image::{ImageError, kernel_from_bytes};
use machine::board::virt::{self, Board, BoardError, Boot, Virt};
use machine::{Event, Machine, MachineError};

const PRELUDE: &str = include_str!("../../smp/supervisor.s");
const MEMORY: u64 = 64 << 20;

/// The programs.
const PROGRAMS: &[(&str, &str)] = &[
    ("remote_sfence", include_str!("../../smp/remote_sfence.s")),
    ("remote_fence_i", include_str!("../../smp/remote_fence_i.s")),
    ("hart_states", include_str!("../../smp/hart_states.s")),
    ("interrupt_ring", include_str!("../../smp/interrupt_ring.s")),
    ("timers", include_str!("../../smp/timers.s")),
    ("busy", include_str!("../../smp/busy.s")),
];

/// Why a program did not pass.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// There is no such program.
    #[error("there is no program '{0}'")]
    Name(String),
    /// The source is wrong.
    #[error("does not assemble: {0}")]
    Assemble(#[from] AssembleError),
    /// It could not be loaded.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// It could not be built.
    #[error(transparent)]
    Board(#[from] BoardError),
    /// It could not be run.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// It did not end as it should.
    #[error("ended by {0}")]
    Event(String),
}

/// A machine, paused, ready to run a program.
///
/// # Errors
/// It cannot be had.
pub fn board(name: &str, harts: u64, rounds: u32, engine: EngineKind) -> Result<Board, Failure> {
    let body = PROGRAMS.iter().find(|program| program.0 == name).ok_or_else(|| Failure::Name(name.into()))?.1;
    let source = format!(".equ HARTS, {harts}; .equ ROUNDS, {rounds}\n{PRELUDE}\n{body}");
    let room = virt::kernel_room(MEMORY);
    let program = assemble(&source, room.lowest, &ExtensionSet::implemented())?;
    let kernel = Arc::new(kernel_from_bytes(name, program.bytes, &room)?);
    let boot = Boot::Kernel { kernel, initrd: None, command_line: String::new() };
    Ok(Virt { memory: MEMORY, harts, engine, ..Virt::new(boot) }.build()?)
}

/// Waits for the end of a program.
///
/// # Errors
/// It did not pass.
pub fn expect_success(machine: &mut Machine, timeout: Duration) -> Result<(), Failure> {
    let event = machine.wait(Some(timeout));
    machine.pause()?;
    match event {
        Some(Event::Power(PowerRequest::Off(0))) => Ok(()),
        event => Err(Failure::Event(format!("{event:?}"))),
    }
}

/// Runs a program from beginning to end.
///
/// # Errors
/// It did not pass.
pub fn run(name: &str, harts: u64, rounds: u32, engine: EngineKind, timeout: Duration) -> Result<(), Failure> {
    let mut machine = board(name, harts, rounds, engine)?.machine;
    machine.start()?;
    expect_success(&mut machine, timeout)
}
