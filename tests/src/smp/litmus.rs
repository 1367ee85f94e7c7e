//! Litmus tests of the RISC-V weak memory ordering (unprivileged specification, chapter "RVWMO Memory Consistency
//! Model"): few instructions on each of two to four harts, very often, and the outcomes that the model forbids must not
//! occur. Their names are those of the literature.
//!
//! A memory model only shows where harts truly run at the same time: [`Test::witness`] is the outcome that proves it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bus::PowerRequest;
use cpu::EngineKind;
use cpu::extension::ExtensionSet;
use cpu::isa::assembler::{AssembleError, assemble};
use firmware::image::{ImageError, firmware_from_bytes};
use machine::board::virt::{self, BoardError, Boot, Virt};
use machine::{Event, MachineError};

/// What all tests run on.
const DRIVER: &str = include_str!("../../smp/litmus.s");
const MEMORY: u64 = 64 << 20;
/// Where the driver counts outcomes, from the start of RAM.
const HISTOGRAM: u64 = 0x100_0000;
const OUTCOMES: u64 = 1 << 20;

/// What came of one instance of a test: results are taken modulo 4.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Outcome(u32);

impl Outcome {
    /// The first result of a hart, a1.
    fn a(self, hart: u32) -> u32 {
        self.0 >> (4 * hart) & 3
    }

    /// The second result of a hart, a2.
    fn b(self, hart: u32) -> u32 {
        self.0 >> (4 * hart + 2) & 3
    }

    /// x in the end.
    fn x(self) -> u32 {
        self.0 >> 16 & 3
    }

    /// y in the end.
    fn y(self) -> u32 {
        self.0 >> 18 & 3
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for hart in 0..4 {
            write!(f, "{}:{},{} ", hart, self.a(hart), self.b(hart))?;
        }
        write!(f, "x={} y={}", self.x(), self.y())
    }
}

/// A litmus test.
pub struct Test {
    /// Its name.
    pub name: &'static str,
    /// For each hart, what it executes on an instance: a0 is the address of x, results go to a1 and a2 (zero at first),
    /// t1 is 1 and t2 is 2; a3 to a7 and t3 to t6 are free.
    harts: &'static [&'static str],
    /// What may not occur.
    forbidden: fn(Outcome) -> bool,
    /// What only occurs where harts overlap.
    pub witness: Option<fn(Outcome) -> bool>,
    /// What the first hart executes on each instance before a batch.
    reset: &'static str,
    instances: u32,
}

/// How often each outcome occurred.
pub struct Histogram(BTreeMap<Outcome, u64>);

impl Histogram {
    /// Instances in all.
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// How often outcomes of a kind occurred.
    pub fn count(&self, kind: fn(Outcome) -> bool) -> u64 {
        self.0.iter().filter(|(outcome, _)| kind(**outcome)).map(|(_, count)| count).sum()
    }
}

impl fmt::Display for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (outcome, count) in &self.0 {
            writeln!(f, "{count:12}  {outcome}")?;
        }
        Ok(())
    }
}

/// Why a test did not pass.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The source is wrong.
    #[error("{0}: does not assemble: {1}")]
    Assemble(&'static str, AssembleError),
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
    #[error("{0}: ended by {1}")]
    Event(&'static str, String),
    /// A forbidden outcome occurred.
    #[error("{0}: forbidden outcomes, {1} of {2}:\n{3}")]
    Forbidden(&'static str, u64, u64, String),
}

impl Test {
    /// Whether its harts write code, which takes long.
    pub fn writes_code(&self) -> bool {
        !self.reset.is_empty()
    }

    /// Runs at least this many rounds; how often each outcome occurred.
    ///
    /// # Errors
    /// A forbidden one did, or the test did not come to its end in `timeout`.
    pub fn run(&self, engine: EngineKind, rounds: u64, seed: u32, timeout: Duration) -> Result<Histogram, Failure> {
        // At least a batch in step and a free one.
        let source = self.source(rounds.div_ceil(self.instances.into()).max(2), seed);
        let program = assemble(&source, virt::RAM_BASE, &ExtensionSet::implemented())
            .map_err(|error| Failure::Assemble(self.name, error))?;
        let image = firmware_from_bytes(self.name, program.bytes, &virt::bare_room(MEMORY))?;
        let harts = self.harts.len() as u64;
        let mut machine =
            Virt { memory: MEMORY, harts, engine, ..Virt::new(Boot::Bare(Arc::new(image))) }.build()?.machine;
        machine.start()?;
        let event = machine.wait(Some(timeout));
        machine.pause()?;
        if event != Some(Event::Power(PowerRequest::Off(0))) {
            return Err(Failure::Event(self.name, format!("{event:?}")));
        }
        let ram = machine.bus().ram();
        let counts = (0..OUTCOMES as u32).filter_map(|number| {
            let count = ram.load_u32(HISTOGRAM + 4 * u64::from(number)).filter(|count| *count != 0)?;
            Some((Outcome(number), count.into()))
        });
        let histogram = Histogram(counts.collect());
        match histogram.count(self.forbidden) {
            0 => Ok(histogram),
            forbidden => Err(Failure::Forbidden(self.name, forbidden, histogram.total(), histogram.to_string())),
        }
    }

    fn source(&self, batches: u64, seed: u32) -> String {
        let (harts, instances) = (self.harts.len(), self.instances);
        let mut source = format!(
            ".equ HARTS, {harts}; .equ BATCHES, {batches}; .equ INSTANCES, {instances}; .equ SEED, {}\n{DRIVER}\n",
            1 + seed % 1000
        );
        source += &format!("    .balign 4096\nreset_more:\n{}\n    ret\n", self.reset);
        for (hart, body) in self.harts.iter().enumerate() {
            // The results become four bits.
            source += &format!(
                "    .balign 64\nbody_{hart}:\n    mv s11, ra\n1:\n    begin\n    li a1, 0\n    li a2, 0\n{body}\n    andi a1, a1, 3\n    \
                 andi a2, a2, 3\n    slli a2, a2, 2\n    or a1, a1, a2\n    sb a1, 0(s6)\n    addi s6, s6, 1\n    \
                 addi a0, a0, STRIDE\n    addi s5, s5, -1\n    bnez s5, 1b\n    jr s11\n"
            );
        }
        source += "    .balign 8\nbodies:\n";
        for hart in 0..harts {
            source += &format!("    .dword body_{hart}\n");
        }
        source
    }
}

/// The test with this name.
pub fn test(name: &str) -> Option<Test> {
    tests().into_iter().find(|test| test.name == name)
}

/// All tests.
pub fn tests() -> Vec<Test> {
    let never = |_: Outcome| false;
    let both_zero = |o: Outcome| o.a(0) == 0 && o.a(1) == 0;
    let stale = |o: Outcome| o.a(1) == 1 && o.b(1) == 0;
    let new = |name, harts, forbidden| Test { name, harts, forbidden, witness: None, reset: "", instances: 2048 };
    vec![
        // Store buffering: the one relaxation that every host shows.
        Test {
            witness: Some(both_zero),
            ..new("SB", &["sw t1, 0(a0); lw a1, 64(a0)", "sw t1, 64(a0); lw a1, 0(a0)"], never)
        },
        new(
            "SB+fence.rw.rws",
            &["sw t1, 0(a0); fence rw, rw; lw a1, 64(a0)", "sw t1, 64(a0); fence rw, rw; lw a1, 0(a0)"],
            both_zero,
        ),
        new(
            "SB+fence.w.rs",
            &["sw t1, 0(a0); fence w, r; lw a1, 64(a0)", "sw t1, 64(a0); fence w, r; lw a1, 0(a0)"],
            both_zero,
        ),
        new(
            "SB+amoswap.aqs",
            &[
                "amoswap.w.aq zero, t1, (a0); lw a1, 64(a0)",
                "addi a3, a0, 64; amoswap.w.aq zero, t1, (a3); lw a1, 0(a0)",
            ],
            both_zero,
        ),
        new(
            "SB+amoswap.rl-lr.aqs",
            &[
                "addi a3, a0, 64; amoswap.w.rl zero, t1, (a0); lr.w.aq a1, (a3)",
                "addi a3, a0, 64; amoswap.w.rl zero, t1, (a3); lr.w.aq a1, (a0)",
            ],
            both_zero,
        ),
        new(
            "SB+sc.rl-lr.aqs",
            &[
                "addi a3, a0, 64\n2:\nlr.w a4, (a0); sc.w.rl a4, t1, (a0); bnez a4, 2b; lr.w.aq a1, (a3)",
                "addi a3, a0, 64\n2:\nlr.w a4, (a3); sc.w.rl a4, t1, (a3); bnez a4, 2b; lr.w.aq a1, (a0)",
            ],
            both_zero,
        ),
        new(
            "SB+amos",
            &[
                "addi a3, a0, 64; amoor.w.aqrl zero, t1, (a0); amoor.w.aqrl a1, zero, (a3)",
                "addi a3, a0, 64; amoor.w.aqrl zero, t1, (a3); amoor.w.aqrl a1, zero, (a0)",
            ],
            both_zero,
        ),
        new(
            "SB+lr.aqrls",
            &["addi a3, a0, 64; sw t1, 0(a0); lr.w.aqrl a1, (a3)", "addi a3, a0, 64; sw t1, 0(a3); lr.w.aqrl a1, (a0)"],
            both_zero,
        ),
        // Message passing.
        new(
            "MP+fence.w.w+fence.r.r",
            &["sw t1, 0(a0); fence w, w; sw t1, 64(a0)", "lw a1, 64(a0); fence r, r; lw a2, 0(a0)"],
            stale,
        ),
        new(
            "MP+fence.tsos",
            &["sw t1, 0(a0); fence.tso; sw t1, 64(a0)", "lw a1, 64(a0); fence.tso; lw a2, 0(a0)"],
            stale,
        ),
        new(
            "MP+amoswap.rl+amoor.aq",
            &[
                "addi a3, a0, 64; sw t1, 0(a0); amoswap.w.rl zero, t1, (a3)",
                "addi a3, a0, 64; amoor.w.aq a1, zero, (a3); lw a2, 0(a0)",
            ],
            stale,
        ),
        new(
            "MP+sc.rl+lr.aq",
            &[
                "addi a3, a0, 64; sw t1, 0(a0)\n2:\nlr.w a4, (a3); sc.w.rl a4, t1, (a3); bnez a4, 2b",
                "addi a3, a0, 64; lr.w.aq a1, (a3); lw a2, 0(a0)",
            ],
            stale,
        ),
        new(
            "MP+fence.w.w+addr",
            &["sw t1, 0(a0); fence w, w; sw t1, 64(a0)", "lw a1, 64(a0); xor a3, a1, a1; add a3, a3, a0; lw a2, 0(a3)"],
            stale,
        ),
        new(
            "MP+fence.w.w+load-addr",
            &[
                "sw t1, 0(a0); fence w, w; sw t1, 64(a0)",
                "lw a4, 0(a0); lw a1, 64(a0); xor a3, a1, a1; add a3, a3, a0; lw a2, 0(a3)",
            ],
            stale,
        ),
        new(
            // What was loaded before the fence does not stand for what is loaded after it.
            "MP+fence.w.w+load-fence.r.r",
            &["sw t1, 0(a0); fence w, w; sw t1, 64(a0)", "lw a4, 0(a0); lw a1, 64(a0); fence r, r; lw a2, 0(a0)"],
            stale,
        ),
        new(
            "MP+fence.w.w+ctrl-fence.r.r",
            &[
                "sw t1, 0(a0); fence w, w; sw t1, 64(a0)",
                "lw a1, 64(a0); beqz a1, 2f; fence r, r\n2:\nlw a2, 0(a0)\nbnez a1, 3f\nli a2, 1\n3:",
            ],
            stale,
        ),
        // Load buffering, which only the model's weakest machines show, and never against a dependency or a fence.
        new("LB", &["lw a1, 0(a0); sw t1, 64(a0)", "lw a1, 64(a0); sw t1, 0(a0)"], never),
        new(
            "LB+fence.r.ws",
            &["lw a1, 0(a0); fence r, w; sw t1, 64(a0)", "lw a1, 64(a0); fence r, w; sw t1, 0(a0)"],
            |o| o.a(0) == 1 && o.a(1) == 1,
        ),
        new(
            "LB+datas",
            &[
                "lw a1, 0(a0); xor a3, a1, a1; addi a3, a3, 1; sw a3, 64(a0)",
                "lw a1, 64(a0); xor a3, a1, a1; addi a3, a3, 1; sw a3, 0(a0)",
            ],
            |o| o.a(0) == 1 && o.a(1) == 1,
        ),
        new(
            "LB+ctrls",
            &["lw a1, 0(a0); beqz a1, 2f\n2:\nsw t1, 64(a0)", "lw a1, 64(a0); beqz a1, 2f\n2:\nsw t1, 0(a0)"],
            |o| o.a(0) == 1 && o.a(1) == 1,
        ),
        // Independent reads of independent writes: all harts see stores in one order.
        new(
            "IRIW+fence.r.rs",
            &[
                "sw t1, 0(a0)",
                "sw t1, 64(a0)",
                "lw a1, 0(a0); fence r, r; lw a2, 64(a0)",
                "lw a1, 64(a0); fence r, r; lw a2, 0(a0)",
            ],
            |o| o.a(2) == 1 && o.b(2) == 0 && o.a(3) == 1 && o.b(3) == 0,
        ),
        new(
            "WRC+fence.rw.rw+addr",
            &[
                "sw t1, 0(a0)",
                "lw a1, 0(a0); fence rw, rw; sw t1, 64(a0)",
                "lw a1, 64(a0); xor a3, a1, a1; add a3, a3, a0; lw a2, 0(a3)",
            ],
            |o| o.a(1) == 1 && o.a(2) == 1 && o.b(2) == 0,
        ),
        new(
            "ISA2+fences",
            &[
                "sw t1, 0(a0); fence w, w; sw t1, 64(a0)",
                "lw a1, 64(a0); fence r, w; sw t1, 128(a0)",
                "lw a1, 128(a0); fence r, r; lw a2, 0(a0)",
            ],
            |o| o.a(1) == 1 && o.a(2) == 1 && o.b(2) == 0,
        ),
        // Coherence.
        new("CoRR", &["sw t1, 0(a0)", "lw a1, 0(a0); lw a2, 0(a0)"], stale),
        new("CoRR2", &["sw t1, 0(a0); sw t2, 0(a0)", "lw a1, 0(a0); lw a2, 0(a0)"], |o| o.a(1) > o.b(1)),
        new("CoWW", &["sw t1, 0(a0); sw t2, 0(a0)", "lw a1, 0(a0)"], |o| o.x() != 2),
        new("CoWR", &["sw t1, 0(a0); lw a1, 0(a0)", "sw t2, 0(a0)"], |o| o.a(0) == 0 || o.a(0) == 2 && o.x() == 1),
        new("CoRW", &["lw a1, 0(a0); sw t1, 0(a0)", "sw t2, 0(a0)"], |o| o.a(0) == 1 || o.a(0) == 2 && o.x() == 2),
        new("CoRR.mixed", &["sd t1, 0(a0)", "lw a1, 0(a0); ld a2, 0(a0)"], stale),
        // Orders of stores.
        new(
            "2+2W+fence.w.ws",
            &["sw t1, 0(a0); fence w, w; sw t2, 64(a0)", "sw t1, 64(a0); fence w, w; sw t2, 0(a0)"],
            |o| o.x() == 1 && o.y() == 1,
        ),
        new(
            "R+fence.rw.rws",
            &["sw t1, 0(a0); fence rw, rw; sw t1, 64(a0)", "sw t2, 64(a0); fence rw, rw; lw a1, 0(a0)"],
            |o| o.y() == 2 && o.a(1) == 0,
        ),
        new(
            "S+fence.w.w+data",
            &["sw t2, 0(a0); fence w, w; sw t1, 64(a0)", "lw a1, 64(a0); xor a3, a1, a1; addi a3, a3, 1; sw a3, 0(a0)"],
            |o| o.a(1) == 1 && o.x() == 2,
        ),
        // Atomics. Each old value is the other's new one, or nothing.
        new("AMO.swap", &["amoswap.w a1, t1, (a0)", "amoswap.w a1, t2, (a0)"], |o| {
            !matches!((o.a(0), o.a(1), o.x()), (0, 1, 2) | (2, 0, 1))
        }),
        new("AMO.add", &["amoadd.w a1, t1, (a0)", "amoadd.w a1, t1, (a0)"], |o| o.a(0) + o.a(1) != 1 || o.x() != 2),
        new(
            "AMO.add.mixed",
            // Both add to the upper half, and look at it afterwards.
            &[
                "slli a3, t1, 32; amoadd.d a1, a3, (a0); srli a1, a1, 32; ld a2, 0(a0); srli a2, a2, 32",
                "addi a3, a0, 4; amoadd.w a1, t1, (a3); ld a2, 0(a0); srli a2, a2, 32",
            ],
            |o| {
                let behind = o.b(0) <= o.a(0) || o.b(1) <= o.a(1) || o.b(0) + o.b(1) == 2;
                o.a(0) + o.a(1) != 1 || behind || o.x() != 0
            },
        ),
        new("AMO.add-store", &["amoadd.w a1, t1, (a0)", "sw t2, 0(a0)"], |o| {
            // The store is not lost, and does not get in between.
            !matches!((o.a(0), o.x()), (0, 2) | (2, 3))
        }),
        new(
            "LRSC.add",
            &[
                "\n2:\nlr.w a1, (a0); addi a3, a1, 1; sc.w a4, a3, (a0); bnez a4, 2b",
                "\n2:\nlr.w a1, (a0); addi a3, a1, 1; sc.w a4, a3, (a0); bnez a4, 2b",
            ],
            |o| o.a(0) + o.a(1) != 1 || o.x() != 2,
        ),
        new(
            "LRSC.add-AMO.add",
            &["\n2:\nlr.d a1, (a0); addi a3, a1, 1; sc.d a4, a3, (a0); bnez a4, 2b", "amoadd.d a1, t1, (a0)"],
            |o| o.a(0) + o.a(1) != 1 || o.x() != 2,
        ),
        new(
            "LRSC.add-store",
            // a2 is 0 if the pair succeeded.
            &["lr.w a1, (a0); addi a3, a1, 1; sc.w a2, a3, (a0)", "sw t2, 0(a0)"],
            |o| match (o.a(0), o.b(0)) {
                (0, 0) => o.x() != 2,
                (2, 0) => o.x() != 3,
                (_, 1) => o.x() != 2,
                _ => true,
            },
        ),
        new(
            "LRSC.add-store.other-half",
            // A store to the same doubleword, which the pair covers as a whole, is not lost.
            &["lr.d a3, (a0); slli a4, t1, 32; add a3, a3, a4; sc.d a2, a3, (a0)", "sw t2, 0(a0)"],
            |o| o.x() != 2,
        ),
        // Accesses of several sizes to one place.
        new(
            "mixed.store-halves",
            &["slli a3, t1, 32; or a3, a3, t1; sd a3, 0(a0)", "lw a1, 4(a0); fence r, r; lw a2, 0(a0)"],
            stale,
        ),
        new(
            "mixed.load-whole",
            &["sw t1, 0(a0); fence w, w; sw t1, 4(a0)", "ld a3, 0(a0); srli a1, a3, 32; zext.w a2, a3"],
            stale,
        ),
        new(
            "mixed.bytes",
            &["sb t1, 0(a0); fence w, w; sb t1, 7(a0)", "ld a3, 0(a0); srli a1, a3, 56; andi a2, a3, 1"],
            stale,
        ),
        new(
            "SB.mixed+fence.rw.rws",
            &["sh t1, 0(a0); fence rw, rw; ld a1, 64(a0)", "sd t1, 64(a0); fence rw, rw; lbu a1, 0(a0)"],
            both_zero,
        ),
        // Code that one hart writes and another runs, by the protocol of "Zifencei": write, fence, tell; hear, fence.i,
        // run. `li a2, 0; ret` becomes `li a2, 1; ret`.
        Test {
            reset: RESET_CODE,
            instances: 64,
            ..new(
                "code+fence.w.w+fence.i",
                &[
                    "li a3, 0x00100613; sw a3, 192(a0); fence w, w; sw t1, 64(a0)",
                    "lw a1, 64(a0); fence.i; addi a3, a0, 192; jalr ra, 0(a3)",
                ],
                stale,
            )
        },
        Test {
            // Others run the page's code meanwhile, in whatever version: they are the ones that find it unmarked.
            reset: RESET_CODE,
            instances: 64,
            ..new(
                "code+fence.w.w+fence.i+others",
                &[
                    "li a3, 0x00100613; sw a3, 192(a0); fence w, w; sw t1, 64(a0)",
                    "lw a1, 64(a0); fence.i; addi a3, a0, 192; jalr ra, 0(a3)",
                    "addi a3, a0, 192; jalr ra, 0(a3); li a2, 0",
                ],
                stale,
            )
        },
        Test {
            // The reader has run the code before, at best while the writer is on its long way from one poll to the next:
            // then it finds the page unmarked, and the writer stores and tells of it before it hears of the mark.
            reset: RESET_CODE,
            instances: 64,
            ..new(
                "code+fence.w.w+fence.i+run-before",
                &[
                    ".rept 40; divu a4, t1, t1; .endr
                    li a3, 0x00100613; sw a3, 192(a0); fence w, w; sw t1, 64(a0)
                    .rept 40; divu a4, t1, t1; .endr",
                    "addi a3, a0, 192; jalr ra, 0(a3); lw a1, 64(a0); fence.i; jalr ra, 0(a3)",
                ],
                stale,
            )
        },
    ]
}

/// Writes `li a2, 0; ret` at 192.
const RESET_CODE: &str =
    "    li t3, 0x00000613\n    sw t3, 192(a0)\n    li t3, 0x00008067\n    sw t3, 196(a0)\n    fence rw, rw";
