//! What a machine without a user says on its console: kept for a log, and passed on line by line.

use std::sync::Mutex;

use crossbeam::channel::Sender;
use devices::backend::{CharacterBackend, Ready};

/// Bytes of output that are kept; a guest that says more is out of its mind, and the beginning tells why.
const MOST_KEPT: usize = 16 << 20;
/// The longest line passed on, in bytes; longer ones come in pieces.
const LONGEST_LINE: usize = 4096;

/// A console backend without input.
pub(super) struct Transcript {
    output: Mutex<Output>,
    lines: Sender<String>,
}

#[derive(Default)]
struct Output {
    all: Vec<u8>,
    line: Vec<u8>,
}

impl Transcript {
    /// A transcript whose complete lines go to `lines`, without their ends.
    pub(super) fn new(lines: Sender<String>) -> Self {
        Self { output: Mutex::default(), lines }
    }

    /// Everything so far.
    pub(super) fn text(&self) -> Vec<u8> {
        self.output().all.clone()
    }

    fn output(&self) -> std::sync::MutexGuard<'_, Output> {
        self.output.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl CharacterBackend for Transcript {
    fn write(&self, bytes: &[u8]) -> usize {
        let mut output = self.output();
        let room = MOST_KEPT.saturating_sub(output.all.len());
        output.all.extend(bytes.iter().take(room));
        for byte in bytes {
            if *byte != b'\n' {
                output.line.push(*byte);
            }
            if *byte == b'\n' || output.line.len() == LONGEST_LINE {
                let line = String::from_utf8_lossy(&output.line).trim_end().to_owned();
                output.line.clear();
                // Whoever listened may have gone.
                let _ = self.lines.send(line);
            }
        }
        bytes.len()
    }

    fn read(&self, _buffer: &mut [u8]) -> usize {
        0
    }

    fn attach(&self, _ready: Ready) {}

    fn claim(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_whole_and_bounded() {
        let (sender, lines) = crossbeam::channel::unbounded();
        let transcript = Transcript::new(sender);
        assert_eq!(transcript.write(b"one\r\ntw"), 7);
        assert_eq!(transcript.write(b"o\n\xff"), 3);
        transcript.write(&vec![b'x'; LONGEST_LINE]);
        let received: Vec<String> = lines.try_iter().collect();
        assert_eq!(received[..2], ["one", "two"]);
        assert_eq!(received[2].chars().count(), LONGEST_LINE);
        assert_eq!(received.len(), 3);
        transcript.write(&vec![b'\n'; MOST_KEPT]);
        assert_eq!(transcript.text().len(), MOST_KEPT);
    }
}
