//! The command line.

mod disk;
mod disk_option;
mod image;
mod interrupt;
mod net;
mod packages;
mod run;
mod semihosting;
mod session;
mod size;
mod ssh;
mod statistics;
mod test;

use std::io::Write;

use anyhow::{Context, bail};
use clap::{Args, Parser, Subcommand, ValueEnum};
use cpu::extension::ExtensionSet;
use cpu::{EngineKind, JitOptions};

/// A RISC-V full-system emulator.
#[derive(Debug, Parser)]
#[command(version, about, long_about = None, max_term_width = 100)]
pub struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Boot a guest on a board compatible with QEMU's `virt`: a kernel, what is installed on a disk, or a system known by
    /// name; without any of them, Debian's kernel with a small BusyBox system.
    Run(Box<run::Run>),
    /// Run test programs that tell their result through `tohost` (riscv-tests and others).
    Test(test::Test),
    /// Fetch Debian riscv64 packages and make an initramfs of them.
    Packages(packages::Packages),
    /// Make disk images of whole systems.
    Image(image::ImageCommand),
    /// Make, describe, convert and resize disk images.
    Disk(disk::DiskCommand),
    /// Log in to the machine that `vervet run debian` has started, or run a command there.
    Ssh(ssh::Ssh),
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
            Command::Image(image) => image.execute(),
            Command::Disk(disk) => disk.execute(),
            Command::Ssh(ssh) => ssh.execute(),
        }
    }
}

/// Prints a line to standard output. A reader that has gone wanted no more: that is no failure.
fn print_line(line: impl std::fmt::Display) -> anyhow::Result<()> {
    match writeln!(std::io::stdout(), "{line}") {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(error).context("standard output cannot be written")
        }
        _ => Ok(()),
    }
}

/// What a hart is.
#[derive(Clone, Debug, Args)]
struct Processor {
    /// The harts' profile, rv64gc, rva22 or max (everything implemented), and extensions to switch on or off
    #[arg(long, value_name = "PROFILE[,EXTENSION=on|off]...", default_value = "max", value_parser = extensions)]
    cpu: ExtensionSet,

    /// How instructions are executed
    #[arg(long, value_enum, default_value_t)]
    engine: Engine,

    /// How often code runs before it is compiled with optimisation; 1 compiles before the first execution
    #[arg(long, value_name = "N", default_value_t = JitOptions::default().threshold,
        value_parser = clap::value_parser!(u32).range(1..))]
    jit_threshold: u32,

    /// How often code is interpreted before quick code is made of it, which runs until it is compiled; off for none
    #[arg(long, value_name = "N|off", default_value = "200", value_parser = baseline_threshold)]
    jit_baseline: BaselineThreshold,

    /// Most memory for compiled code
    #[arg(long, value_name = "SIZE", default_value = "64M", value_parser = size::parse)]
    jit_cache: u64,

    /// Tell Linux's perf the names of compiled regions, in /tmp/perf-PID.map
    #[arg(long)]
    perf_map: bool,

    /// Run the interpreter beside the JIT, region by region, and stop with a report at the first difference; one hart
    #[arg(long)]
    lockstep: bool,
}

impl Default for Processor {
    fn default() -> Self {
        let JitOptions { threshold, baseline_threshold, cache_size, .. } = JitOptions::default();
        Self {
            cpu: ExtensionSet::implemented(),
            engine: Engine::default(),
            jit_threshold: threshold,
            jit_baseline: BaselineThreshold(baseline_threshold),
            jit_cache: cache_size as u64,
            perf_map: false,
            lockstep: false,
        }
    }
}

impl Default for Engine {
    /// The JIT on the hosts that it has been proven on.
    fn default() -> Self {
        if cfg!(all(target_os = "linux", target_arch = "x86_64")) { Engine::Jit } else { Engine::Interpreter }
    }
}

impl Processor {
    fn engine(&self) -> anyhow::Result<EngineKind> {
        match self.engine {
            Engine::Interpreter if self.lockstep => {
                bail!("--lockstep compares the JIT with the interpreter; it needs --engine jit")
            }
            Engine::Interpreter => Ok(EngineKind::Interpreter),
            Engine::Jit => Ok(EngineKind::Jit(JitOptions {
                threshold: self.jit_threshold,
                baseline_threshold: self.jit_baseline.0,
                cache_size: usize::try_from(self.jit_cache)?,
                perf_map: self.perf_map,
                lockstep: self.lockstep,
                ..JitOptions::default()
            })),
        }
    }
}

/// [`JitOptions::baseline_threshold`], as an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct BaselineThreshold(Option<u32>);

fn baseline_threshold(text: &str) -> Result<BaselineThreshold, String> {
    match text.parse() {
        Ok(threshold) if threshold > 0 => Ok(BaselineThreshold(Some(threshold))),
        _ if text == "off" => Ok(BaselineThreshold(None)),
        _ => Err("a number from 1 on, or off".to_string()),
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
