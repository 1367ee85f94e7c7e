//! The conformance programs: what each part of the specification asks for, as bare-metal programs that judge
//! themselves and run on any engine and on other emulators alike.
//!
//! A program is the prelude and a body. Bodies are written by hand (`tests/conformance/*.s`) or generated from tables
//! of operands, whose expected results come from plain formulae in this module's files: they share nothing with the
//! code under test, and another emulator judges both.

mod addresses;
mod csr_numbers;
mod exact;
mod float;
mod integer;
mod memory;
mod protection;
mod rows;
mod run;

pub use run::{AMPLE_TIME, Failure};

/// A conformance program.
#[derive(Clone, Debug)]
pub struct Program {
    /// Its name: a topic.
    pub name: &'static str,
    /// The body, in assembly.
    body: String,
    /// Whether an emulator that follows the specification in every point named here is known; QEMU differs from it in
    /// those that are kept in programs of their own.
    pub judged_by_qemu: bool,
}

/// What every program starts with.
pub const PRELUDE: &str = include_str!("../../conformance/prelude.s");

impl Program {
    /// The complete source.
    pub fn source(&self) -> String {
        format!("{PRELUDE}\n{}", self.body)
    }

    /// The line of the body that line `line` of the complete source is (both from 1); `None` for the prelude.
    pub fn body_line(line: usize) -> Option<usize> {
        line.checked_sub(PRELUDE.lines().count() + 1).filter(|line| *line > 0)
    }
}

macro_rules! written {
    ($($name:literal)*) => {
        &[$(($name, include_str!(concat!("../../conformance/", $name, ".s")))),*]
    };
}

/// The programs written by hand.
const WRITTEN: &[(&str, &str)] = written! {
    "encodings" "rv64i_control" "zalrsc" "zicsr" "privileged" "pmp" "interrupts" "paging_spaces" "counters" "counters_exact" "c_control" "fd_memory" "traps" "strict"
    "pointer_masking" "pointer_masking_modes" "smstateen" "sscofpmf" "sscofpmf_exact" "triggers" "triggers_strict"
};

/// Programs that assert what QEMU does otherwise, or what only a hart with exactly our extensions does.
const NOT_JUDGED: &[&str] = &[
    "strict",
    "paging_strict",
    "csr_absent",
    "counters_exact",
    "pointer_masking",
    "sscofpmf_exact",
    "triggers_strict",
];

/// All programs.
pub fn programs() -> Vec<Program> {
    let written = WRITTEN.iter().map(|(name, body)| (*name, body.to_string()));
    let generated = integer::bodies()
        .into_iter()
        .chain(float::bodies())
        .chain(addresses::bodies())
        .chain(memory::bodies())
        .chain(protection::bodies())
        .chain(csr_numbers::bodies());
    written
        .chain(generated)
        .map(|(name, body)| Program { name, body, judged_by_qemu: !NOT_JUDGED.contains(&name) })
        .collect()
}

/// The program with this name.
pub fn program(name: &str) -> Option<Program> {
    programs().into_iter().find(|program| program.name == name)
}
