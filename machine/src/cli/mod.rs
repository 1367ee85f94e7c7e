//! The command line.

mod packages;
mod run;
mod size;
mod test;

use clap::{Args, Parser, Subcommand, ValueEnum};
use cpu::EngineKind;
use cpu::extension::ExtensionSet;

/// A RISC-V full-system emulator.
#[derive(Debug, Parser)]
#[command(version, about, long_about = None, max_term_width = 100)]
pub struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Boot a guest on a board compatible with QEMU's `virt`; without a kernel, Debian's with a small BusyBox system.
    Run(Box<run::Run>),
    /// Run test programs that tell their result through `tohost` (riscv-tests and others).
    Test(test::Test),
    /// Fetch Debian riscv64 packages and make an initramfs of them.
    Packages(packages::Packages),
}

impl Arguments {
    /// Does what the arguments say; the process's exit code.
    ///
    /// # Errors
    /// What kept it from being done, in one line.
    pub fn execute(self) -> anyhow::Result<u8> {
        match self.command.unwrap_or_else(|| Command::Run(Box::default())) {
            Command::Run(run) => run.execute(),
            Command::Test(test) => test.execute(),
            Command::Packages(packages) => packages.execute(),
        }
    }
}

/// What a hart is.
#[derive(Clone, Debug, Args)]
struct Processor {
    /// The harts' profile, rv64gc, rva22 or max (everything implemented), and extensions to switch on or off
    #[arg(long, value_name = "PROFILE[,EXTENSION=on|off]...", default_value = "max", value_parser = extensions)]
    cpu: ExtensionSet,

    /// How instructions are executed
    #[arg(long, value_enum, default_value_t = Engine::Interpreter)]
    engine: Engine,
}

impl Default for Processor {
    fn default() -> Self {
        Self { cpu: ExtensionSet::implemented(), engine: Engine::Interpreter }
    }
}

impl Processor {
    fn engine(&self) -> anyhow::Result<EngineKind> {
        match self.engine {
            Engine::Interpreter => Ok(EngineKind::Interpreter),
            Engine::Jit => anyhow::bail!("--engine jit: this version has no JIT yet; use --engine interpreter"),
        }
    }
}

fn extensions(text: &str) -> Result<ExtensionSet, String> {
    ExtensionSet::from_cpu_argument(text).map_err(|error| error.to_string())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Engine {
    /// Decoded blocks, interpreted
    Interpreter,
    /// Hot code compiled
    Jit,
}
