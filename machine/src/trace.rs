//! A commit log in the format of Spike's `--log-commits`, one line per instruction that retired.

use std::io::{self, Write};

use cpu::Stop;
use cpu::commit::{Accessed, Commit, Step, Written, csr_name};

use crate::machine::Machine;

/// Writes the log.
pub struct Tracer<'a> {
    out: &'a mut dyn Write,
}

impl<'a> Tracer<'a> {
    /// A log on `out`.
    pub fn new(out: &'a mut dyn Write) -> Self {
        Self { out }
    }

    /// Runs a hart of the paused machine as [`Machine::run_hart`] does, instruction by instruction.
    ///
    /// # Errors
    /// The log cannot be written.
    pub fn run_hart(&mut self, machine: &mut Machine, index: usize, budget: u64) -> io::Result<Stop> {
        for _ in 0..budget {
            let hart = &mut machine.cores()[index].hart;
            match hart.step() {
                Step::Retired(commit) => self.line(hart.shared().id(), &commit)?,
                Step::Trapped => {}
                Step::Stopped(Stop::WaitForInterrupt) => {
                    if !hart.has_pending_interrupt() {
                        hart.shared().park();
                    }
                }
                Step::Stopped(stop) => return Ok(stop),
            }
        }
        Ok(Stop::Budget)
    }

    fn line(&mut self, hart: u64, commit: &Commit) -> io::Result<()> {
        let Commit { privilege, pc, raw, written, accessed } = commit;
        let digits = if raw & 3 == 3 { 8 } else { 4 };
        write!(self.out, "core {hart:3}: {} {pc:#018x} (0x{raw:0digits$x})", *privilege as u8)?;
        for written in written {
            match written {
                Written::X(r, value) => write!(self.out, " x{r:<2} {value:#018x}")?,
                Written::F(r, value) => write!(self.out, " f{r:<2} {value:#018x}")?,
                Written::Csr(number, value) => {
                    write!(self.out, " c{number}_{} {value:#018x}", csr_name(*number))?;
                }
            }
        }
        // Loads come first, whatever the order.
        for accessed in accessed {
            if let Accessed::Load(address) = accessed {
                write!(self.out, " mem {address:#018x}")?;
            }
        }
        for accessed in accessed {
            if let Accessed::Store(address, width, value) = accessed {
                let (value, digits) = (width.zero_extend(*value), 2 * width.bytes() as usize);
                write!(self.out, " mem {address:#018x} 0x{value:0digits$x}")?;
            }
        }
        writeln!(self.out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bus::Width;
    use cpu::Privilege;

    #[test]
    fn lines_are_spikes() {
        let mut out = Vec::new();
        let commit = Commit {
            privilege: Privilege::Machine,
            pc: 0x8000_0000,
            raw: 0x0000_4501,
            written: vec![Written::X(10, 0)],
            accessed: vec![],
        };
        Tracer::new(&mut out).line(0, &commit).unwrap();
        let commit = Commit {
            raw: 0x0053_2023,
            written: vec![Written::Csr(0x300, 1)],
            accessed: vec![Accessed::Store(0x1000, Width::Word, u64::MAX)],
            ..commit
        };
        Tracer::new(&mut out).line(0, &commit).unwrap();
        let commit = Commit {
            written: vec![Written::F(1, 2)],
            accessed: vec![Accessed::Load(8), Accessed::Store(8, Width::Byte, 0x1ff), Accessed::Load(16)],
            ..commit
        };
        Tracer::new(&mut out).line(0, &commit).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "core   0: 3 0x0000000080000000 (0x4501) x10 0x0000000000000000\n\
             core   0: 3 0x0000000080000000 (0x00532023) c768_mstatus 0x0000000000000001 mem 0x0000000000001000 0xffffffff\n\
             core   0: 3 0x0000000080000000 (0x00532023) f1  0x0000000000000002 mem 0x0000000000000008 mem 0x0000000000000010 mem 0x0000000000000008 0xff\n"
        );
    }
}
