//! The host's terminal, or whatever else standard input and output are.
//!
//! If standard input is a terminal, it is in raw mode while a [`Terminal`] lives, and Ctrl-A is an escape key that tells
//! the emulator what to do. If it is not, there is neither, and the end of the file only ends the input.

mod escape;
mod input;
mod output;

use std::io::{self, IsTerminal, Read, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crossterm::terminal::{disable_raw_mode, enable_raw_mode};

use self::escape::{Action, Escape};
use self::input::Input;
use self::output::{Output, PATIENCE};
use super::{CharacterBackend, Ready};
use crate::lock;

/// What the user asks the emulator for by an escape key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// The end, at once.
    Quit,
    /// The power key is pressed: the guest is to shut down.
    PowerKey,
    /// A debugger is to be able to connect.
    Debugger,
}

/// The host's terminal as a console. Dropping it writes what is left of the output and restores the terminal.
pub struct Terminal {
    shared: Arc<Shared>,
    stdout_is_terminal: bool,
}

impl Terminal {
    /// Takes over standard input and output. `wish` is called, on a thread of its own, with what the user asks for.
    ///
    /// Only one can be open at a time, as there is one standard input; what a reading thread has taken from there is
    /// lost to later readers.
    pub fn open(wish: impl Fn(Wish) + Send + 'static) -> io::Result<Self> {
        let stdin_is_terminal = io::stdin().is_terminal();
        let escape = stdin_is_terminal.then(Escape::default);
        let shared = Shared::start(io::stdin(), io::stdout(), escape, wish)?;
        let terminal = Self { shared, stdout_is_terminal: io::stdout().is_terminal() };
        if stdin_is_terminal {
            // Marked first, so that a failure half-way is undone by the drop.
            *lock(&terminal.shared.raw) = true;
            enable_raw_mode()?;
            keep_output_processing()?;
        }
        Ok(terminal)
    }

    /// The console behind the terminal.
    pub fn backend(&self) -> Arc<dyn CharacterBackend> {
        self.shared.clone()
    }

    /// What restores the terminal on the ways out that drop nothing.
    pub fn restorer(&self) -> Restorer {
        Restorer(self.shared.clone())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // A pager at the other end of a pipe may take its time; a terminal that stands still is stuck.
        self.shared.output.flush(self.stdout_is_terminal.then_some(PATIENCE));
        self.shared.restore();
        self.shared.output.close();
        self.shared.input.close();
    }
}

/// Restores the terminal from anywhere: a panic hook, a thread that handles signals.
#[derive(Clone)]
pub struct Restorer(Arc<Shared>);

impl Restorer {
    /// Writes what is left of the output, waiting a second for it at most while nothing moves, and takes the terminal
    /// out of raw mode. May be called any number of times.
    pub fn restore(&self) {
        self.0.restore();
    }

    /// The process has been told to end: from now on no way out waits for a reader that stands still, a pager's pipe
    /// included.
    pub fn give_up(&self) {
        self.0.output.give_up();
    }
}

/// Raw mode without its raw output: a line feed still starts a new line, for bare-metal programs that send no carriage
/// return, and for the emulator's own messages.
#[cfg(unix)]
fn keep_output_processing() -> io::Result<()> {
    use rustix::termios::{OptionalActions, OutputModes, tcgetattr, tcsetattr};
    let mut modes = tcgetattr(io::stdin())?;
    modes.output_modes.insert(OutputModes::OPOST);
    Ok(tcsetattr(io::stdin(), OptionalActions::Now, &modes)?)
}

#[cfg(not(unix))]
fn keep_output_processing() -> io::Result<()> {
    Ok(())
}

/// What the terminal, its backend and its threads have in common.
struct Shared {
    input: Input,
    output: Output,
    ready: Mutex<Option<Arc<Ready>>>,
    /// Whether standard input is in raw mode.
    raw: Mutex<bool>,
}

impl Shared {
    /// Starts the threads that read `source`, with escape keys if there is an `escape`, and write `sink`.
    fn start(
        source: impl Read + Send + 'static,
        sink: impl Write + Send + 'static,
        escape: Option<Escape>,
        wish: impl Fn(Wish) + Send + 'static,
    ) -> io::Result<Arc<Self>> {
        let input = Input::new(if escape.is_some() { input::TERMINAL_LIMIT } else { input::LIMIT });
        let shared = Arc::new(Self { input, output: Output::new(), ready: Mutex::new(None), raw: Mutex::new(false) });
        let writer = shared.clone();
        let thread = std::thread::Builder::new().name("terminal output".into());
        thread.spawn(move || writer.output.run(sink, || writer.ready()))?;
        let reader = shared.clone();
        let thread = std::thread::Builder::new().name("terminal input".into());
        thread.spawn(move || reader.run_input(source, escape, wish))?;
        Ok(shared)
    }

    /// The input thread: ends with the input.
    fn run_input(&self, source: impl Read, escape: Option<Escape>, wish: impl Fn(Wish)) {
        self.read_input(source, escape, wish);
        self.input.end();
        self.ready();
    }

    fn read_input(&self, mut source: impl Read, mut escape: Option<Escape>, wish: impl Fn(Wish)) {
        let mut buffer = [0; 4096];
        let mut plain = Vec::new();
        loop {
            let bytes = match source.read(&mut buffer) {
                Ok(0) => return tracing::debug!("console input has ended"),
                Ok(count) => &buffer[..count],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    // Somebody else made the file non-blocking; nothing portable waits for it.
                    std::thread::sleep(Duration::from_millis(10));
                    continue;
                }
                Err(error) => return tracing::warn!("console input has ended: {error}"),
            };
            plain.clear();
            let Some(escape) = &mut escape else {
                self.input.push(bytes, || self.ready());
                continue;
            };
            for byte in bytes {
                match escape.push(*byte) {
                    Some(Action::Input(byte)) => plain.push(byte),
                    Some(Action::Quit) => wish(Wish::Quit),
                    Some(Action::PowerKey) => wish(Wish::PowerKey),
                    Some(Action::Debugger) => wish(Wish::Debugger),
                    Some(Action::Help) => self.say(escape::HELP),
                    Some(Action::Unknown) => self.say(escape::HINT),
                    None => {}
                }
            }
            self.input.push(&plain, || self.ready());
        }
    }

    /// A message from the emulator to its user, amid the guest's output.
    fn say(&self, message: &str) {
        self.output.write(message.as_bytes());
    }

    fn ready(&self) {
        let ready = lock(&self.ready).clone();
        if let Some(ready) = ready {
            ready();
        }
    }

    fn restore(&self) {
        self.output.flush(Some(PATIENCE));
        let mut raw = lock(&self.raw);
        if std::mem::take(&mut *raw)
            && let Err(error) = disable_raw_mode()
        {
            tracing::warn!("the terminal cannot be restored: {error}; `reset` may help");
        }
    }
}

impl CharacterBackend for Shared {
    fn write(&self, bytes: &[u8]) -> usize {
        self.output.write(bytes)
    }

    fn read(&self, buffer: &mut [u8]) -> usize {
        self.input.pop(buffer)
    }

    fn has_ended(&self) -> bool {
        self.input.has_ended()
    }

    fn attach(&self, ready: Ready) {
        *lock(&self.ready) = Some(Arc::new(ready));
    }

    fn claim(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Instant;

    fn until(what: &str, condition: impl Fn() -> bool) {
        let start = Instant::now();
        while !condition() {
            assert!(start.elapsed() < Duration::from_secs(10), "never: {what}");
            std::thread::yield_now();
        }
    }

    #[test]
    fn escape_keys_act_and_the_rest_reaches_the_guest() {
        let wishes = Arc::new(Mutex::new(Vec::new()));
        let heard = wishes.clone();
        let source = io::Cursor::new(b"a\x01ab\x01xc\x01h\x01p\x01gd".to_vec());
        let wish = move |wish| lock(&heard).push(wish);
        let shared = Shared::start(source, io::sink(), Some(Escape::default()), wish).unwrap();
        until("input", || shared.input.len() == 5);
        let mut buffer = [0; 16];
        assert_eq!(shared.read(&mut buffer), 5);
        assert_eq!(&buffer[..5], b"a\x01bcd");
        assert_eq!(*lock(&wishes), [Wish::Quit, Wish::PowerKey, Wish::Debugger]);
    }

    #[test]
    fn without_a_terminal_nothing_is_an_escape_key_and_no_byte_is_lost() {
        let bytes: Vec<u8> = (0..3 * input::LIMIT).map(|i| i as u8).collect();
        let shared = Shared::start(io::Cursor::new(bytes.clone()), io::sink(), None, |_| panic!()).unwrap();
        until("a full buffer", || shared.input.len() == input::LIMIT);
        let mut received = Vec::new();
        let mut buffer = [0; 1000];
        let start = Instant::now();
        while received.len() < bytes.len() {
            assert!(start.elapsed() < Duration::from_secs(10), "input stopped at {}", received.len());
            let count = shared.read(&mut buffer);
            assert!(shared.input.len() <= input::LIMIT);
            received.extend_from_slice(&buffer[..count]);
            assert!(!shared.has_ended() || received.len() == bytes.len());
        }
        assert_eq!(received, bytes);
        until("the end", || shared.has_ended());
    }

    #[test]
    fn arriving_input_is_announced() {
        let (source, mut feed) = io::pipe().unwrap();
        let shared = Shared::start(source, io::sink(), None, |_| ()).unwrap();
        let calls = Arc::new(AtomicU32::new(0));
        let count = calls.clone();
        shared.attach(Box::new(move || {
            count.fetch_add(1, Ordering::SeqCst);
        }));
        feed.write_all(b"x").unwrap();
        until("announcement", || calls.load(Ordering::SeqCst) > 0);
        assert_eq!(shared.read(&mut [0; 4]), 1);
    }
}
