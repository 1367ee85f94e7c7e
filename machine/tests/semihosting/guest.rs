//! A machine with a program that makes semihosting calls.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use cpu::EngineKind;
use cpu::extension::ExtensionSet;
use cpu::isa::assembler::{Program, assemble};
use devices::backend::memory::MemoryBackend;
use devices::virtio::input::PowerKey;
use firmware::image::firmware_from_bytes;
use machine::board::virt::{self, Board, Boot, RAM_BASE, Virt};
use machine::gdb::supervise;
use machine::semihosting::Settings;
use machine::{End, Shutdown};

const MEMORY: u64 = 4 << 20;
pub const RAM_END: u64 = RAM_BASE + MEMORY;

/// How long something may take. A loaded host gets much more than it needs.
const LIMIT: Duration = Duration::from_secs(60);

/// The engines that everything is tried with.
pub fn engines() -> [EngineKind; 2] {
    [EngineKind::Interpreter, EngineKind::Jit(cpu::JitOptions { threshold: 2, ..cpu::JitOptions::default() })]
}

/// `sys NUMBER, LABEL` and `sysi NUMBER, VALUE` make a call with a parameter and append its result to `results`; `s0` leads
/// there.
const FRAME: &str = "
            .macro  sys number, label
            la      a1, \\label
            sysa    \\number
            .endm
            .macro  sysi number, value
            li      a1, \\value
            sysa    \\number
            .endm
            .macro  sysa number
            li      a0, \\number
            call    semihost
            sd      a0, 0(s0)
            addi    s0, s0, 8
            .endm
            la      s0, results
            j       program
            .balign 16
semihost:   slli    zero, zero, 0x1f
            ebreak
            srai    zero, zero, 7
            ret
            .balign 8
results:    .space  256
program:
";

/// A machine that runs.
pub struct Guest {
    pub console: Arc<MemoryBackend>,
    program: Program,
    board: Option<Board>,
    owner: Option<JoinHandle<(u8, Board)>>,
}

/// What a run left.
pub struct Run {
    pub code: u8,
    pub output: String,
    pub raw_output: Vec<u8>,
    /// What the calls returned.
    pub results: Vec<u64>,
    board: Board,
    program: Program,
}

impl Guest {
    pub fn start(engine: EngineKind, settings: Option<Settings>, source: &str) -> Self {
        Self::start_with(engine, 1, settings, source)
    }

    pub fn start_with(engine: EngineKind, harts: u64, settings: Option<Settings>, source: &str) -> Self {
        let mut guest = Self::build(engine, harts, settings, source);
        guest.go();
        guest
    }

    /// A guest that writes 200 000 letters by two calls and ends with code 7, once it may go.
    pub fn start_paused(engine: EngineKind) -> Self {
        let source = "
                    la      t0, text
                    li      t1, 100000
                    li      t2, 'a'
            fill:   sb      t2, 0(t0)
                    addi    t0, t0, 1
                    addi    t2, t2, 1
                    li      t3, 'a' + 23
                    bne     t2, t3, 1f
                    li      t2, 'a'
            1:      addi    t1, t1, -1
                    bnez    t1, fill
                    sys     4, text
                    sys     1, open
                    sys     5, write
                    sys     0x18, exit
            tt:     .ascii  \":tt\"
                    .balign 8
            open:   .dword  tt, 8, 3
            write:  .dword  1, text, 100000
            exit:   .dword  0x20026, 7
            text:   .space  100008
        ";
        Self::build(engine, 1, Some(Settings::default()), source)
    }

    fn build(engine: EngineKind, harts: u64, semihosting: Option<Settings>, source: &str) -> Self {
        let source = format!("{FRAME}{source}\n .balign 8\n end:");
        let program = assemble(&source, RAM_BASE, &ExtensionSet::implemented()).unwrap();
        let image = firmware_from_bytes("program", program.bytes.clone(), &virt::bare_room(MEMORY)).unwrap();
        let console = MemoryBackend::new();
        let boot = Boot::Bare(Arc::new(image));
        let board = Virt { memory: MEMORY, harts, engine, console: console.clone(), semihosting, ..Virt::new(boot) };
        Self { console, program, board: Some(board.build().unwrap()), owner: None }
    }

    /// Starts the machine.
    pub fn go(&mut self) {
        let mut board = self.board.take().unwrap();
        self.owner = Some(std::thread::spawn(move || {
            let shutdown = Shutdown::new(PowerKey::default(), Duration::ZERO);
            match supervise(&mut board, None, false, shutdown).unwrap() {
                End::Guest(code) => (code, board),
                End::User => panic!("nobody asked for it"),
            }
        }));
    }

    #[track_caller]
    pub fn wait_for(&self, text: &str) {
        self.console.wait_for(text, LIMIT).unwrap();
    }

    /// Waits until the guest has taken all input.
    #[track_caller]
    pub fn wait_until_read(&self) {
        let start = std::time::Instant::now();
        while self.console.unread() > 0 {
            assert!(start.elapsed() < LIMIT, "the guest does not read");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Waits for the end.
    #[track_caller]
    pub fn end(self) -> Run {
        let owner = self.owner.unwrap();
        let start = std::time::Instant::now();
        while !owner.is_finished() {
            assert!(start.elapsed() < LIMIT, "the guest does not end; it wrote {:?}", self.console.output().len());
            std::thread::sleep(Duration::from_millis(1));
        }
        let (code, board) = owner.join().unwrap();
        let raw_output = self.console.output();
        let output = String::from_utf8_lossy(&raw_output).into_owned();
        let mut run = Run { code, output, raw_output, results: Vec::new(), board, program: self.program };
        run.results = (0..32).map(|index| run.word("results", index)).collect();
        run
    }
}

/// Runs a program to its end.
#[track_caller]
pub fn run(engine: EngineKind, settings: Option<Settings>, source: &str) -> Run {
    Guest::start(engine, settings, source).end()
}

impl Run {
    /// The address of a label.
    pub fn symbol(&self, name: &str) -> u64 {
        self.program.symbols[name]
    }

    /// Memory from a label on.
    pub fn bytes(&self, name: &str, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.board.machine.bus().ram().read(self.symbol(name), &mut bytes).unwrap();
        bytes
    }

    /// A doubleword of those from a label on.
    pub fn word(&self, name: &str, index: u64) -> u64 {
        let mut bytes = [0; 8];
        self.board.machine.bus().ram().read(self.symbol(name) + 8 * index, &mut bytes).unwrap();
        u64::from_le_bytes(bytes)
    }
}
