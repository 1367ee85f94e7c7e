//! Runs a conformance program on a board.

use std::sync::Arc;
use std::time::Duration;

use bus::PowerRequest;
use cpu::extension::ExtensionSet;
use cpu::isa::assembler::{AssembleError, assemble};
use cpu::{Difference, EngineKind};
use devices::backend::memory::MemoryBackend;
use firmware::image::{ImageError, firmware_from_bytes};
use machine::board::virt::{self, BoardError, Boot, Virt};
use machine::{Event, MachineError};

use super::Program;

const MEMORY: u64 = 128 << 20;
/// Far more time than any program needs, even on a busy host.
pub const AMPLE_TIME: Duration = Duration::from_secs(300);

/// Why a program did not pass.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The source is wrong.
    #[error("{program}: does not assemble: {source}\n    {line}")]
    Assemble {
        /// The program's name.
        program: &'static str,
        /// The assembler's reason.
        source: AssembleError,
        /// The line it is about.
        line: String,
    },
    /// It could not be loaded.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// It could not be built.
    #[error(transparent)]
    Board(#[from] BoardError),
    /// It could not be run.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// A check failed.
    #[error("{program}: exit code {code}:{output}\n    {place}")]
    Check {
        /// The program's name.
        program: &'static str,
        /// The number of the check, as far as it fits.
        code: u8,
        /// What the program said.
        output: String,
        /// The line of the source.
        place: String,
    },
    /// It did not end.
    #[error("{program}: had not ended in time; it said: {output}")]
    Timeout {
        /// The program's name.
        program: &'static str,
        /// What the program said.
        output: String,
    },
    /// The engines differ.
    #[error("{program}: {difference}")]
    Difference {
        /// The program's name.
        program: &'static str,
        /// What in.
        difference: Box<Difference>,
    },
    /// It ended in another way than through the test finisher.
    #[error("{program}: ended by {event}")]
    Event {
        /// The program's name.
        program: &'static str,
        /// What happened.
        event: String,
    },
}

/// The register in which a program counts its checks: gp.
const CHECKS: usize = 3;

/// A label that the harness puts before each line, to find it again by address.
const LINE_LABEL: &str = "source_line_";

impl Program {
    /// The bytes of the program, assembled for the start of RAM.
    ///
    /// # Errors
    /// A mistake in the source.
    pub fn assemble(&self) -> Result<Vec<u8>, Failure> {
        self.assembled(self.source()).map(|program| program.bytes)
    }

    fn assembled(&self, source: String) -> Result<cpu::isa::assembler::Program, Failure> {
        assemble(&source, virt::RAM_BASE, &ExtensionSet::implemented()).map_err(|error| {
            let line = source.lines().nth(error.line.saturating_sub(1)).unwrap_or_default().trim().to_owned();
            Failure::Assemble { program: self.name, source: error, line }
        })
    }

    /// Runs it, for at most `timeout`; the number of checks it made.
    ///
    /// # Errors
    /// It did not pass.
    pub fn run(&self, engine: EngineKind, timeout: Duration) -> Result<u64, Failure> {
        let bytes = self.assemble()?;
        let image = firmware_from_bytes(self.name, bytes, &virt::bare_room(MEMORY))?;
        let console = MemoryBackend::new();
        let mut machine =
            Virt { memory: MEMORY, engine, console: console.clone(), ..Virt::new(Boot::Bare(Arc::new(image))) }
                .build()?
                .machine;
        machine.start()?;
        let event = machine.wait(Some(timeout));
        machine.pause()?;
        if let Some(difference) = machine.take_difference() {
            return Err(Failure::Difference { program: self.name, difference });
        }
        let output = String::from_utf8_lossy(&console.output()).into_owned();
        match event {
            Some(Event::Power(PowerRequest::Off(0))) => Ok(machine.cores()[0].hart.x(CHECKS)),
            Some(Event::Power(PowerRequest::Off(code))) => {
                let place = self.place(&output).unwrap_or_else(|| "(no address was told)".into());
                Err(Failure::Check { program: self.name, code, output, place })
            }
            Some(event) => Err(Failure::Event { program: self.name, event: format!("{event:?}") }),
            None => Err(Failure::Timeout { program: self.name, output }),
        }
    }

    /// The line of the source that the address in a failed program's last words belongs to.
    fn place(&self, output: &str) -> Option<String> {
        let (_, rest) = output.rsplit_once(" at 0x")?;
        let digits: String = rest.chars().take_while(char::is_ascii_hexdigit).collect();
        let address = u64::from_str_radix(&digits, 16).ok()?;
        // Labels in macros and repetitions would be defined more than once: only lines outside of them get one.
        let (mut depth, mut source) = (0, String::new());
        for (index, line) in self.source().lines().enumerate() {
            let word = line.split_whitespace().next().unwrap_or_default();
            if matches!(word, ".endm" | ".endr") {
                depth -= 1;
            }
            if depth == 0 && line.starts_with(' ') {
                source += &format!("{LINE_LABEL}{index}:\n");
            }
            if matches!(word, ".macro" | ".rept") {
                depth += 1;
            }
            source += line;
            source.push('\n');
        }
        let symbols = self.assembled(source).ok()?.symbols;
        let lines = symbols.iter().filter_map(|(name, value)| Some((*value, name.strip_prefix(LINE_LABEL)?)));
        let (_, index) = lines.filter(|(value, _)| *value <= address).max_by_key(|(value, _)| *value)?;
        let index: usize = index.parse().ok()?;
        let text = self.source().lines().nth(index)?.trim().to_owned();
        Some(match Self::body_line(index + 1) {
            Some(line) => format!("line {line} of {}: {text}", self.name),
            None => format!("line {} of the prelude: {text}", index + 1),
        })
    }
}
