//! Runs test programs that tell their result through `tohost`: riscv-tests and whatever follows their convention.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bus::{PageFlags, TICKS_PER_SECOND};
use cpu::extension::ExtensionSet;
use cpu::{EngineKind, Stop, event};
use firmware::image::ImageError;

use crate::board::virt::{self, Boot, Virt};
use crate::htif::{Htif, Request};
use crate::machine::{Machine, MachineError};
use crate::trace::Tracer;

/// How programs are run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The harts' extensions.
    pub extensions: ExtensionSet,
    /// The engine.
    pub engine: EngineKind,
    /// Longest time on the host.
    pub timeout: Duration,
    /// Most instructions.
    pub most_instructions: u64,
    /// Bytes of RAM.
    pub memory: u64,
}

/// How a program ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It wrote success to `tohost`.
    Passed,
    /// It wrote this exit code; riscv-tests put the number of the failed test there.
    Failed(u64),
    /// It had not ended after the time on the host.
    TimedOut,
    /// It had not ended after the instructions.
    OutOfInstructions,
    /// It ended through the board's power switch, without a word to `tohost`.
    PoweredOff,
    /// The engines differ.
    Differs(String),
    /// It could not be run.
    Unusable(String),
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Verdict::Passed => write!(f, "passed"),
            Verdict::Failed(code) => write!(f, "FAILED: exit code {code}"),
            Verdict::TimedOut => write!(f, "FAILED: nothing in tohost within the time limit"),
            Verdict::OutOfInstructions => write!(f, "FAILED: nothing in tohost within the instruction limit"),
            Verdict::PoweredOff => write!(f, "FAILED: powered off without writing to tohost"),
            Verdict::Differs(reason) | Verdict::Unusable(reason) => write!(f, "FAILED: {reason}"),
        }
    }
}

/// What came out of a run.
#[derive(Clone, Debug)]
pub struct Report {
    /// How it ended.
    pub verdict: Verdict,
    /// Time on the host.
    pub time: Duration,
    /// Instructions retired.
    pub instructions: u64,
    /// What it wrote to its console.
    pub output: Vec<u8>,
    /// Its signature, if one was asked for: the bytes from `begin_signature` to `end_signature`.
    pub signature: Option<Vec<u8>>,
}

/// Why a program could not be run.
#[derive(Debug, thiserror::Error)]
enum RunError {
    #[error(transparent)]
    Image(#[from] ImageError),
    #[error(transparent)]
    Board(#[from] virt::BoardError),
    #[error(transparent)]
    Machine(#[from] MachineError),
    #[error("{file}: has no symbol '{symbol}'; {why}")]
    Symbol { file: String, symbol: &'static str, why: &'static str },
    #[error("{file}: the symbol '{symbol}' is not in RAM")]
    SymbolPlace { file: String, symbol: &'static str },
    #[error("the trace cannot be written: {0}")]
    Trace(#[from] std::io::Error),
}

/// Runs the program in the ELF file at `path`. `signature` asks for its signature, `trace` receives a commit log.
pub fn run(path: &Path, settings: &Settings, signature: bool, trace: Option<&mut dyn Write>) -> Report {
    let start = Instant::now();
    run_inner(path, settings, signature, trace).unwrap_or_else(|error| Report {
        verdict: Verdict::Unusable(error.to_string()),
        time: start.elapsed(),
        instructions: 0,
        output: Vec::new(),
        signature: None,
    })
}

fn run_inner(
    path: &Path,
    settings: &Settings,
    signature: bool,
    trace: Option<&mut dyn Write>,
) -> Result<Report, RunError> {
    let file = path.display().to_string();
    let program = firmware::image::load_kernel(path, &virt::bare_room(settings.memory))?;
    let missing = |symbol, why| RunError::Symbol { file: file.clone(), symbol, why };
    let tohost = program.symbol("tohost").ok_or_else(|| missing("tohost", "a test tells its result through it"))?;
    let htif = Htif { tohost, fromhost: program.symbol("fromhost") };
    let signature = match signature {
        false => None,
        true => {
            let why = "a signature lies between begin_signature and end_signature";
            let begin = program.symbol("begin_signature").ok_or_else(|| missing("begin_signature", why))?;
            let end = program.symbol("end_signature").ok_or_else(|| missing("end_signature", why))?;
            Some((begin, end))
        }
    };
    let mut machine = Virt {
        memory: settings.memory,
        extensions: settings.extensions,
        engine: settings.engine,
        ..Virt::new(Boot::Bare(Arc::new(program)))
    }
    .build()?
    .machine;
    let ram = machine.bus().ram().clone();
    let place = |symbol| RunError::SymbolPlace { file: file.clone(), symbol };
    let watched = ram.offset(tohost, 8).ok_or_else(|| place("tohost"))?;
    ram.set_flag(watched, PageFlags::WATCH);

    let start = Instant::now();
    let mut output = Vec::new();
    let verdict = run_to_end(&mut machine, settings, &htif, &mut output, trace)?;
    let signature = match signature {
        None => None,
        Some((begin, end)) => {
            let length = end.checked_sub(begin).filter(|length| ram.offset(begin, *length).is_some());
            let mut bytes = vec![0; length.ok_or_else(|| place("end_signature"))? as usize];
            ram.read(begin, &mut bytes).ok_or_else(|| place("begin_signature"))?;
            Some(bytes)
        }
    };
    let instructions = machine.cores()[0].hart.counts().retired;
    Ok(Report { verdict, time: start.elapsed(), instructions, output, signature })
}

fn run_to_end(
    machine: &mut Machine,
    settings: &Settings,
    htif: &Htif,
    output: &mut Vec<u8>,
    trace: Option<&mut dyn Write>,
) -> Result<Verdict, RunError> {
    let ram = machine.bus().ram().clone();
    let clock = machine.clock().clone();
    // The hart runs on this thread; an alarm of the machine's own clock ends it, even where it waits for an interrupt.
    let hart = machine.cores()[0].hart.shared().clone();
    let watchdog = clock.alarm(move || hart.raise(event::PAUSE));
    let ticks = settings.timeout.as_nanos() * u128::from(TICKS_PER_SECOND) / 1_000_000_000;
    watchdog.set(Some(clock.now().saturating_add(ticks.try_into().unwrap_or(u64::MAX))));
    let mut tracer = trace.map(Tracer::new);
    clock.resume();
    let verdict = loop {
        let retired = machine.cores()[0].hart.counts().retired;
        let left = settings.most_instructions.saturating_sub(retired);
        let stop = match &mut tracer {
            Some(tracer) => tracer.run_hart(machine, 0, left)?,
            None => machine.run_hart(0, left),
        };
        match stop {
            Stop::Watch => match htif.serve(&ram) {
                Some(Request::Exit(0)) => break Verdict::Passed,
                Some(Request::Exit(code)) => break Verdict::Failed(code),
                Some(Request::Write(bytes)) => output.extend(bytes),
                None => {}
            },
            Stop::Pause if machine.wait(Some(Duration::ZERO)).is_some() => break Verdict::PoweredOff,
            Stop::Pause => break Verdict::TimedOut,
            Stop::Budget => break Verdict::OutOfInstructions,
            Stop::Difference => {
                break Verdict::Differs(
                    machine.take_difference().map_or_else(String::new, |difference| difference.to_string()),
                );
            }
            Stop::EnvironmentCall
            | Stop::Semihosting
            | Stop::WaitForInterrupt
            | Stop::Breakpoint
            | Stop::Watchpoint { .. } => {}
        }
    };
    clock.pause();
    Ok(verdict)
}
