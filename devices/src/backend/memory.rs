//! A [`CharacterBackend`] in memory, with which a test plays the user at the console.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use super::{CharacterBackend, Ready};
use crate::lock;

/// The awaited text did not come. Displays what came instead.
#[derive(Debug, thiserror::Error)]
#[error("{awaited:?} did not come within {timeout:?}; since the last match there came:\n{output}")]
pub struct Missing {
    /// What was waited for.
    pub awaited: String,
    /// How long.
    pub timeout: Duration,
    /// The output since the last match, with replacement characters for what is no UTF-8.
    pub output: String,
}

struct Streams {
    input: VecDeque<u8>,
    output: Vec<u8>,
    /// Output up to here has been matched by [`MemoryBackend::wait_for`].
    matched: usize,
    /// Bytes that may still be written.
    room: usize,
    ready: Option<Arc<Ready>>,
    /// Nothing more is typed in.
    ended: bool,
}

/// The backend: input comes from [`MemoryBackend::type_in`], output is collected.
pub struct MemoryBackend {
    streams: Mutex<Streams>,
    written: Condvar,
}

impl MemoryBackend {
    /// A backend without input that takes any amount of output.
    pub fn new() -> Arc<Self> {
        let streams = Streams {
            input: VecDeque::new(),
            output: Vec::new(),
            matched: 0,
            room: usize::MAX,
            ready: None,
            ended: false,
        };
        Arc::new(Self { streams: Mutex::new(streams), written: Condvar::new() })
    }

    /// Adds `bytes` to the waiting input.
    pub fn type_in(&self, bytes: &[u8]) {
        let mut streams = lock(&self.streams);
        streams.input.extend(bytes);
        let ready = streams.ready.clone();
        drop(streams);
        if let Some(ready) = ready {
            ready();
        }
    }

    /// Ends the input.
    pub fn end_input(&self) {
        let mut streams = lock(&self.streams);
        streams.ended = true;
        let ready = streams.ready.clone();
        drop(streams);
        if let Some(ready) = ready {
            ready();
        }
    }

    /// Lets `room` more bytes of output in, then no more.
    pub fn limit_output(&self, room: usize) {
        let mut streams = lock(&self.streams);
        streams.room = room;
        let ready = streams.ready.clone();
        drop(streams);
        if let Some(ready) = ready {
            ready();
        }
    }

    /// The number of bytes of input that nobody has read.
    pub fn unread(&self) -> usize {
        lock(&self.streams).input.len()
    }

    /// All output so far.
    pub fn output(&self) -> Vec<u8> {
        lock(&self.streams).output.clone()
    }

    /// Waits until `text` appears in the output behind the last match, and returns what came up to its end. The next
    /// call goes on from there.
    pub fn wait_for(&self, text: &str, timeout: Duration) -> Result<String, Missing> {
        let end = Instant::now().checked_add(timeout);
        let mut streams = lock(&self.streams);
        // Where a match may begin: what was searched before is not searched again.
        let mut from = streams.matched;
        loop {
            let found = streams.output[from..].windows(text.len().max(1)).position(|window| window == text.as_bytes());
            if let Some(position) = found {
                let until = from + position + text.len();
                let output = String::from_utf8_lossy(&streams.output[streams.matched..until]).into_owned();
                streams.matched = until;
                return Ok(output);
            }
            from = from.max((streams.output.len() + 1).saturating_sub(text.len().max(1)));
            let left = end.map_or(Duration::MAX, |end| end.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                let output = String::from_utf8_lossy(&streams.output[streams.matched..]).into_owned();
                return Err(Missing { awaited: text.into(), timeout, output });
            }
            streams = self.written.wait_timeout(streams, left).unwrap_or_else(|poisoned| poisoned.into_inner()).0;
        }
    }
}

impl CharacterBackend for MemoryBackend {
    fn write(&self, bytes: &[u8]) -> usize {
        let mut streams = lock(&self.streams);
        let taken = bytes.len().min(streams.room);
        if streams.room != usize::MAX {
            streams.room -= taken;
        }
        streams.output.extend_from_slice(&bytes[..taken]);
        self.written.notify_all();
        taken
    }

    fn read(&self, buffer: &mut [u8]) -> usize {
        let mut streams = lock(&self.streams);
        let count = buffer.len().min(streams.input.len());
        for (to, from) in buffer.iter_mut().zip(streams.input.drain(..count)) {
            *to = from;
        }
        count
    }

    fn has_ended(&self) -> bool {
        let streams = lock(&self.streams);
        streams.ended && streams.input.is_empty()
    }

    fn attach(&self, ready: Ready) {
        lock(&self.streams).ready = Some(Arc::new(ready));
    }

    fn claim(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_finds_each_text_once_and_reports_what_came_instead() {
        let backend = MemoryBackend::new();
        let writer = backend.clone();
        let thread = std::thread::spawn(move || {
            for part in ["log", "in: ro", "ot\n# "] {
                std::thread::sleep(Duration::from_millis(2));
                writer.write(part.as_bytes());
            }
        });
        let long = Duration::from_secs(10);
        assert_eq!(backend.wait_for("login: ", long).unwrap(), "login: ");
        assert_eq!(backend.wait_for("# ", long).unwrap(), "root\n# ");
        thread.join().unwrap();
        backend.write(b"rest");
        let missing = backend.wait_for("login", Duration::from_millis(5)).unwrap_err();
        assert_eq!(missing.output, "rest");
    }

    #[test]
    fn a_full_output_takes_what_there_is_room_for() {
        let backend = MemoryBackend::new();
        backend.limit_output(3);
        assert_eq!(backend.write(b"abcd"), 3);
        assert_eq!(backend.write(b"d"), 0);
        backend.limit_output(usize::MAX);
        assert_eq!(backend.write(b"d"), 1);
        assert_eq!(backend.output(), b"abcd");
    }
}
