//! A pseudo-terminal with `vervet` on it and the test as its user.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Termios, tcgetattr};

use crate::command::{LIMIT, wait};

/// Sends a signal to a process of ours.
pub fn send(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

/// A process on a terminal of its own.
pub struct Session {
    pub child: Child,
    keyboard: File,
    /// The process's end of the terminal, to look at its modes.
    terminal: File,
    screen: Receiver<Vec<u8>>,
    seen: String,
    before: Termios,
}

impl Session {
    /// Starts `command` with input and output on a new terminal; errors go there too.
    pub fn start(command: &mut Command) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        let terminal = File::options().read(true).write(true).open(name).unwrap();
        let before = tcgetattr(&terminal).unwrap();
        let end = || Stdio::from(terminal.try_clone().unwrap());
        let child = command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        let keyboard = File::from(master);
        let mut output = keyboard.try_clone().unwrap();
        let (sender, screen) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = output.read(&mut buffer) {
                if sender.send(buffer[..count].to_vec()).is_err() {
                    break;
                }
            }
        });
        Self { child, keyboard, terminal, screen, seen: String::new(), before }
    }

    /// Waits for `text` on the screen and forgets what came up to its end; that is returned.
    #[track_caller]
    pub fn expect(&mut self, text: &str) -> String {
        let end = Instant::now() + LIMIT;
        loop {
            if let Some(position) = self.seen.find(text) {
                let rest = self.seen.split_off(position + text.len());
                return std::mem::replace(&mut self.seen, rest);
            }
            match self.screen.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(bytes) => self.seen.push_str(&String::from_utf8_lossy(&bytes)),
                Err(_) => panic!("{text:?} never came, but {:?}", self.seen),
            }
        }
    }

    pub fn type_keys(&mut self, keys: &[u8]) {
        self.keyboard.write_all(keys).unwrap();
    }

    /// Whether the terminal hands each key to the process as it is.
    pub fn is_raw(&self) -> bool {
        let cooked = LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG;
        !tcgetattr(&self.terminal).unwrap().local_modes.intersects(cooked)
    }

    /// Waits until the terminal is in raw mode.
    #[track_caller]
    pub fn expect_raw(&self) {
        let start = Instant::now();
        while !self.is_raw() {
            assert!(start.elapsed() < LIMIT, "never in raw mode");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits for the end of the process; the terminal's modes are then as they were.
    #[track_caller]
    pub fn end(mut self) -> ExitStatus {
        let status = wait(&mut self.child);
        let after = tcgetattr(&self.terminal).unwrap();
        assert_eq!(after.local_modes, self.before.local_modes);
        assert_eq!(after.input_modes, self.before.input_modes);
        assert_eq!(after.output_modes, self.before.output_modes);
        assert_eq!(after.control_modes, self.before.control_modes);
        status
    }
}
