//! A machine with Debian's kernel and a BusyBox shell, and the test as its user.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bus::PowerRequest;
use devices::backend::memory::MemoryBackend;
use firmware::image::{self, Kept, Program};
use machine::Event;
use machine::board::virt::{self, Board, Boot, Slot, Virt};
use packages::{Settings, Silent};

/// The shell's prompt in the home directory.
pub const PROMPT: &str = "vervet:~# ";
/// Bytes of guest RAM.
pub const MEMORY: u64 = 256 << 20;
/// The kernel's command line.
pub const COMMAND_LINE: &str = "console=ttyS0 quiet";

/// How long anything may take. A boot takes a few seconds; a loaded host gets much more.
const LIMIT: Duration = Duration::from_secs(180);

/// What the kernel says when something is wrong with the machine.
const COMPLAINTS: [&str; 10] = [
    "WARNING:",
    "BUG:",
    "Oops",
    "Call Trace",
    "self-detected stall",
    "detected stalls",
    "soft lockup",
    "I/O error",
    "timed out",
    "nobody cared",
];

/// Where packages come from: the host's own Debian configuration.
pub fn settings() -> Settings {
    Settings { progress: Arc::new(Silent), ..Settings::default() }
}

/// Debian's kernel and the initramfs of the quick start.
pub fn quick_start() -> (Arc<Program>, Arc<Kept>) {
    static FILES: OnceLock<(Arc<Program>, Arc<Kept>)> = OnceLock::new();
    let load = || {
        let files =
            packages::quick_start(&settings()).expect("this test boots Debian's kernel, from a mirror or cached");
        let kernel = image::load_kernel(&files.kernel, &virt::kernel_room(MEMORY)).unwrap();
        (Arc::new(kernel), Arc::new(std::fs::read(&files.initrd).unwrap().into()))
    };
    FILES.get_or_init(load).clone()
}

/// Debian's kernel on the built-in SBI.
pub fn kernel() -> Boot {
    let (kernel, initrd) = quick_start();
    Boot::Kernel { kernel, initrd: Some(initrd), command_line: COMMAND_LINE.into() }
}

/// The machine.
pub struct Guest {
    pub board: Board,
    pub console: Arc<MemoryBackend>,
}

impl Guest {
    /// A machine that is ready to start `boot`.
    pub fn new(boot: Boot, slots: Vec<Slot>) -> Self {
        Self::with_console(boot, slots, MemoryBackend::new())
    }

    /// The same on a console that may have belonged to another machine.
    pub fn with_console(boot: Boot, slots: Vec<Slot>, console: Arc<MemoryBackend>) -> Self {
        let board = Virt { memory: MEMORY, console: console.clone(), slots, ..Virt::new(boot) }.build().unwrap();
        Self { board, console }
    }

    /// Starts the machine and waits for its shell; what came before.
    pub fn boot(&mut self) -> String {
        self.board.machine.start().unwrap();
        self.expect(PROMPT)
    }

    /// Waits for `text` on the console; what came up to its end.
    pub fn expect(&self, text: &str) -> String {
        self.console.wait_for(text, LIMIT).unwrap_or_else(|missing| panic!("{missing}"))
    }

    /// Types a line.
    pub fn type_line(&self, line: &str) {
        self.console.type_in(format!("{line}\n").as_bytes());
    }

    /// Has the shell run a command, which has to succeed; its output, behind its own echo.
    pub fn run(&self, command: &str) -> String {
        // The echo of the command does not hold what the shell makes of it.
        self.type_line(&format!("{command}; echo \"<$?>\""));
        let output = self.expect(PROMPT);
        assert!(output.contains("<0>"), "{command}: {output}");
        output
    }

    /// Waits until the guest presses the power switch.
    pub fn expect_power(&mut self, request: PowerRequest) {
        let event = self.board.machine.wait(Some(LIMIT));
        let output = String::from_utf8_lossy(&self.console.output()).into_owned();
        assert_eq!(event, Some(Event::Power(request)), "{output}");
        self.board.machine.pause().unwrap();
    }

    /// Types `poweroff`, which has to end the machine with exit code 0.
    pub fn power_off(&mut self) {
        self.type_line("poweroff");
        self.expect_power(PowerRequest::Off(0));
    }

    /// Asserts that the kernel has nothing to complain of.
    pub fn assert_kernel_is_content(&self) {
        let log = self.run("dmesg");
        assert!(log.contains("Linux version"), "{log}");
        for complaint in COMPLAINTS {
            let line = log.lines().find(|line| line.contains(complaint));
            assert_eq!(line, None, "{complaint} in the kernel's log:\n{log}");
        }
    }
}
