//! The terminal backend on a real pseudo-terminal: raw mode while it is open, escape keys, and the modes as they were
//! on every way out. The emulator's part is played by [`child`], which the tests start as a process of its own.

#![cfg(unix)]

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use devices::backend::terminal::Terminal;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{InputModes, LocalModes, OutputModes, Termios, tcgetattr};

/// Tells [`child`] how to behave.
const ROLE: &str = "VERVET_TERMINAL_ROLE";

const LIMIT: Duration = Duration::from_secs(20);

/// Not a test: what the tests start.
#[test]
fn child() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let (quit, quitted) = channel();
    let terminal = Terminal::open(move |_| quit.send(()).unwrap()).unwrap();
    let backend = terminal.backend();
    backend.write(b"<ready>\n");
    match role.as_str() {
        "echo" => {
            let mut buffer = [0; 64];
            while quitted.try_recv().is_err() {
                let count = backend.read(&mut buffer);
                for byte in &buffer[..count] {
                    backend.write(format!("[{byte:02x}]").as_bytes());
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            backend.write(b"<bye>");
        }
        "drop" => {
            backend.write(b"<bye>");
        }
        "panic" => {
            let restorer = terminal.restorer();
            std::panic::set_hook(Box::new(move |_| restorer.restore()));
            std::mem::forget(terminal);
            backend.write(b"<bye>");
            let _ = std::thread::spawn(|| panic!("on purpose")).join();
            std::process::exit(3)
        }
        "exit" => {
            let restorer = terminal.restorer();
            backend.write(b"<bye>");
            restorer.restore();
            restorer.clone().restore();
            std::process::exit(3)
        }
        other => panic!("no role {other}"),
    }
}

struct Session {
    child: Child,
    keys: File,
    /// The terminal's end of the pair, to look at its modes.
    slave: File,
    screen: Receiver<Vec<u8>>,
    seen: String,
    before: Termios,
}

impl Session {
    fn start(role: &str) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        let slave = File::options().read(true).write(true).open(name).unwrap();
        let before = tcgetattr(&slave).unwrap();
        assert!(before.local_modes.contains(LocalModes::ICANON | LocalModes::ECHO));
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--nocapture"])
            .env(ROLE, role)
            .stdin(slave.try_clone().unwrap())
            .stdout(slave.try_clone().unwrap())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let keys = File::from(master);
        let mut output = keys.try_clone().unwrap();
        let (sender, screen) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = output.read(&mut buffer) {
                if sender.send(buffer[..count].to_vec()).is_err() {
                    break;
                }
            }
        });
        Self { child, keys, slave, screen, seen: String::new(), before }
    }

    fn wait_for(&mut self, text: &str) {
        let end = Instant::now() + LIMIT;
        while !self.seen.contains(text) {
            let left = end.saturating_duration_since(Instant::now());
            let bytes = self.screen.recv_timeout(left);
            let bytes = bytes.unwrap_or_else(|_| panic!("{text:?} never came, but {:?}", self.seen));
            self.seen.push_str(&String::from_utf8_lossy(&bytes));
        }
    }

    fn modes(&self) -> Termios {
        tcgetattr(&self.slave).unwrap()
    }

    /// Waits until the process ends; the terminal's modes are then as before. Returns its exit code.
    fn end(mut self) -> Option<i32> {
        self.wait_for("<bye>");
        let start = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if start.elapsed() > LIMIT {
                self.child.kill().unwrap();
                panic!("the process does not end");
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        let (before, after) = (&self.before, self.modes());
        assert_eq!(after.local_modes, before.local_modes);
        assert_eq!(after.input_modes, before.input_modes);
        assert_eq!(after.output_modes, before.output_modes);
        status.code()
    }
}

#[test]
fn keys_reach_the_guest_raw_and_ctrl_a_x_ends_it() {
    let mut session = Session::start("echo");
    session.wait_for("<ready>\r\n");
    let start = Instant::now();
    while session.modes().local_modes.intersects(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG) {
        assert!(start.elapsed() < LIMIT, "never in raw mode");
        std::thread::sleep(Duration::from_millis(2));
    }
    let modes = session.modes();
    assert!(!modes.input_modes.intersects(InputModes::ICRNL | InputModes::IXON));
    // crossterm's raw mode comes first, the output's mode a moment later.
    while !session.modes().output_modes.contains(OutputModes::OPOST) {
        assert!(start.elapsed() < LIMIT, "a line feed no longer starts a new line");
    }
    // Ctrl-C, carriage return, Ctrl-A for the guest, Ctrl-S.
    session.keys.write_all(b"\x03\r\x01\x01\x13").unwrap();
    session.wait_for("[03][0d][01][13]");
    session.keys.write_all(b"\x01h").unwrap();
    session.wait_for("end the emulator");
    session.keys.write_all(b"\x01x").unwrap();
    assert_eq!(session.end(), Some(0));
}

#[test]
fn the_terminal_is_restored_on_every_way_out() {
    for (role, code) in [("drop", 0), ("panic", 3), ("exit", 3)] {
        let mut session = Session::start(role);
        session.wait_for("<ready>");
        assert_eq!(session.end(), Some(code), "{role}");
    }
}

#[test]
fn a_pipe_is_read_to_its_end_without_escape_keys() {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture"])
        .env(ROLE, "echo")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"\x01x\x04").unwrap();
    let mut seen = Vec::new();
    let mut stdout = child.stdout.take().unwrap();
    let mut byte = [0];
    while !seen.ends_with(b"[01][78][04]") {
        assert_eq!(stdout.read(&mut byte).unwrap(), 1, "ended after {:?}", String::from_utf8_lossy(&seen));
        seen.push(byte[0]);
    }
    std::thread::sleep(Duration::from_millis(20));
    assert!(child.try_wait().unwrap().is_none(), "the end of the input is not the end");
    child.kill().unwrap();
    child.wait().unwrap();
}
