//! What two engines have differed in, for a reader.

use std::collections::BTreeMap;
use std::fmt;

use super::{Disagreement, Lockstep, Logged, Registers, Unexpected};
use crate::isa::{FLOAT_REGISTERS, INTEGER_REGISTERS, disassemble};
use crate::trap::Trap;
use crate::{Hart, Privilege, csr};

/// The first difference between translated code and the interpreter: what each came to, and the code.
#[derive(Debug)]
pub struct Difference {
    hart: u64,
    privilege: Privilege,
    /// Where the step began.
    start: u64,
    /// Instructions that translated code has retired in it.
    instructions: u64,
    what: String,
    registers: Vec<Register>,
    memory: Vec<Bytes>,
    code: BTreeMap<u64, Line>,
    /// The last instruction that the interpreter has executed, or could not.
    last: u64,
}

/// A register that differs.
#[derive(Debug)]
struct Register {
    name: String,
    before: u64,
    interpreter: u64,
    jit: u64,
    /// The last instruction that has changed it.
    writer: Option<u64>,
}

/// A doubleword of RAM that differs, by its guest-physical address.
#[derive(Debug)]
struct Bytes {
    address: u64,
    interpreter: u64,
    jit: u64,
    mask: u64,
}

/// An instruction of the step.
#[derive(Debug)]
struct Line {
    times: u64,
    word: u32,
    text: String,
}

impl Lockstep {
    /// Tells of a disagreement after a step from `start` to `translated`. The interpreter executes the step once more, an
    /// instruction at a time.
    pub(super) fn describe(
        &mut self,
        hart: &mut Hart,
        start: &Registers,
        translated: &Registers,
        why: Disagreement,
        memory: &[Unexpected],
    ) -> Difference {
        let interpreted = Registers::of(hart);
        let instructions = translated.retired.wrapping_sub(start.retired);
        let mut code: BTreeMap<u64, Line> = BTreeMap::new();
        let mut writers = [None; 64];
        let mut last = start.pc;
        let (is_whole, count) = match why {
            Disagreement::Count => (false, 0),
            Disagreement::NoTrap(_) => (false, instructions + 1),
            Disagreement::Registers | Disagreement::Memory | Disagreement::Left(_) => (true, instructions),
            // The last one is the one that could not be executed.
            _ => (false, interpreted.retired.wrapping_sub(start.retired) + 1),
        };
        let mut before = start.clone();
        for number in 1..=count {
            last = before.pc;
            start.put_back(hart);
            hart.pc = last;
            let word = hart.fetch_word(last).unwrap_or_default();
            let text = || disassemble(word, last, &hart.configuration().extensions);
            code.entry(last).or_insert_with(|| Line { times: 0, word, text: text() }).times += 1;
            if number == count && !is_whole {
                break;
            }
            start.put_back(hart);
            // From the start each time: so the log is at the right place.
            let _ = self.repeat(hart, number);
            let after = Registers::of(hart);
            for (register, writer) in writers.iter_mut().enumerate() {
                if before.get(register) != after.get(register) {
                    *writer = Some(last);
                }
            }
            before = after;
        }
        let registers = match why {
            Disagreement::Registers => differing(hart, [start, &interpreted, translated], &writers),
            _ => Vec::new(),
        };
        let ram = hart.ram.base();
        let bytes = |bytes: &Unexpected| Bytes {
            address: ram + bytes.offset,
            interpreter: bytes.expected,
            jit: bytes.found,
            mask: bytes.mask,
        };
        let memory = match &why {
            Disagreement::Loaded(unexpected) => vec![bytes(unexpected)],
            _ => memory.iter().map(bytes).collect(),
        };
        Difference {
            hart: hart.shared().id(),
            privilege: start.privilege,
            start: start.pc,
            instructions,
            what: why.to_string(),
            registers,
            memory,
            code,
            last,
        }
    }
}

impl Registers {
    /// Integer registers first, floating-point registers behind them.
    fn get(&self, register: usize) -> u64 {
        if register < 32 { self.x[register] } else { self.f[register - 32] }
    }
}

/// The registers that differ between the last two of three states.
fn differing(hart: &mut Hart, states: [&Registers; 3], writers: &[Option<u64>; 64]) -> Vec<Register> {
    let mut registers = Vec::new();
    let mut note = |name: &str, [before, interpreter, jit]: [u64; 3], writer| {
        if interpreter != jit {
            registers.push(Register { name: name.into(), before, interpreter, jit, writer });
        }
    };
    note("pc", states.map(|state| state.pc), None);
    note("instructions", states.map(|state| state.retired), None);
    note("privilege", states.map(|state| state.privilege as u64), None);
    let names = INTEGER_REGISTERS.iter().chain(&FLOAT_REGISTERS);
    for (register, (name, writer)) in names.zip(writers).enumerate() {
        note(name, states.map(|state| state.get(register)), *writer);
    }
    note("reserved at", states.map(|state| state.reservation.offset), None);
    note("reserved bytes", states.map(|state| state.reservation.width), None);
    note("reserved value", states.map(|state| state.reservation.value), None);
    if states[1].csr != states[2].csr {
        let read = |hart: &mut Hart, state: &Registers| {
            state.put_back(hart);
            csr::all().iter().map(|row| hart.inspect_csr(row.number).unwrap_or_default()).collect::<Vec<_>>()
        };
        let values = states.map(|state| read(hart, state));
        for (index, row) in csr::all().iter().enumerate() {
            if !depends_on_time(row.number) {
                note(row.name, [values[0][index], values[1][index], values[2][index]], None);
            }
        }
    }
    registers
}

/// Whether a CSR may change while one looks: `time`, `mip`, `sip`.
fn depends_on_time(number: u16) -> bool {
    matches!(number, 0xc01 | 0x344 | 0x144)
}

impl fmt::Display for Logged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, value, what, .. } = self;
        let bytes = what & 0xff;
        let value = if bytes < 8 { value & !(u64::MAX << (8 * bytes)) } else { *value };
        // In the order of `Kind`.
        match what >> 8 {
            0 => write!(f, "a load of {bytes} bytes at {address:#x}, which gives {value:#x}"),
            1 => write!(f, "a store of {value:#x} in {bytes} bytes at {address:#x}"),
            2 => write!(f, "an atomic operation on {bytes} bytes at {address:#x}, which holds {value:#x}"),
            3 => write!(f, "an lr of {bytes} bytes at {address:#x}, which gives {value:#x}"),
            _ => write!(f, "an sc of {bytes} bytes at {address:#x}, which gives {value:#x}"),
        }
    }
}

impl fmt::Display for Disagreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let trap =
            |f: &mut fmt::Formatter<'_>, Trap { exception, value }: &Trap| write!(f, "{exception:?} ({value:#x})");
        match self {
            Disagreement::Access { expected, logged } => {
                match expected.what >> 8 {
                    1 => write!(f, "the interpreter makes {expected}")?,
                    // What it would give is not known.
                    _ => {
                        let text = expected.to_string();
                        write!(f, "the interpreter makes {}", text.split(", which").next().unwrap_or_default())?;
                    }
                }
                match logged {
                    Some(logged) => write!(f, "; the JIT has made {logged}"),
                    None => write!(f, "; the JIT has made none"),
                }
            }
            Disagreement::Place { logged } => {
                write!(f, "the JIT has made {logged}, in another page than the one that the address leads to")
            }
            Disagreement::Loaded(_) => write!(f, "the JIT has loaded other bytes than it had before, or had stored"),
            Disagreement::Trap(raised) => {
                write!(f, "the interpreter traps: ")?;
                trap(f, raised)
            }
            Disagreement::NoTrap(raised) => {
                write!(f, "the interpreter does not trap as the JIT does: ")?;
                trap(f, raised)
            }
            Disagreement::Count => write!(f, "the JIT counts more instructions than a step can have"),
            Disagreement::Registers => write!(f, "registers differ"),
            Disagreement::Left(logged) => write!(f, "the JIT has made {logged}; the interpreter makes no such access"),
            Disagreement::Memory => write!(f, "memory differs"),
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { hart, privilege, start, instructions, what, registers, memory, code, last } = self;
        writeln!(f, "the JIT and the interpreter differ: {what}")?;
        writeln!(f, "hart {hart}, {privilege:?} mode, {instructions} instructions from {start:#x}")?;
        if !registers.is_empty() {
            writeln!(f, "\n{:<14} {:<18} {:<18} {:<18}", "register", "before", "interpreter", "JIT")?;
        }
        for Register { name, before, interpreter, jit, writer } in registers {
            write!(f, "{name:<14} {before:#018x} {interpreter:#018x} {jit:#018x}")?;
            match writer {
                Some(writer) => writeln!(f, "  last changed at {writer:#x}")?,
                None => writeln!(f)?,
            }
        }
        if !memory.is_empty() {
            writeln!(f, "\n{:<18} {:<18} {:<18} (guest-physical doublewords)", "memory", "interpreter", "JIT")?;
        }
        for Bytes { address, interpreter, jit, mask } in memory {
            let known = |value: u64| {
                let byte = |place: u32| match mask >> (8 * place) & 0xff {
                    0 => "..".to_string(),
                    _ => format!("{:02x}", value >> (8 * place) & 0xff),
                };
                (0..8).rev().map(byte).collect::<String>()
            };
            writeln!(f, "{address:#018x} 0x{} 0x{}", known(*interpreter), known(*jit))?;
        }
        writeln!(f, "\nThe code that ran, with how often each instruction was begun:")?;
        for (address, Line { times, word, text }) in code {
            let digits = if word & 3 == 3 { 8 } else { 4 };
            let mark = if address == last { "  <- the last" } else { "" };
            writeln!(f, "{times:>6}  {address:#018x}  {word:0digits$x}{:1$}  {text}{mark}", "", 8 - digits)?;
        }
        Ok(())
    }
}

impl std::error::Error for Difference {}
