//! What the guest has written and the host not yet: a bounded buffer, emptied by a thread.
//!
//! The first byte after a pause is written at once, so that an echo is immediate; what follows is gathered for
//! [`INTERVAL`] or until it is [`LARGE`], so that a guest that writes byte by byte costs few system calls.

use std::io::{ErrorKind, Write};
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::lock;

/// The shortest time between two small writes.
const INTERVAL: Duration = Duration::from_millis(4);

/// So many bytes are written without delay.
const LARGE: usize = 16 << 10;

/// So many bytes wait at most. Programs that do not look whether the UART has room lose what goes beyond.
const LIMIT: usize = 256 << 10;

struct Queue {
    bytes: Vec<u8>,
    /// The thread is writing what it took from `bytes`.
    writing: bool,
    /// Counts the successful writes.
    progress: u64,
    /// Somebody waits for the end of the output.
    hurry: bool,
    /// Whoever waits for the end of the output gives up after [`PATIENCE`] without progress.
    impatient: bool,
    /// There was no room for something, and who wrote it has not been told that there is again.
    refused: bool,
    /// Nobody reads any more: output goes nowhere.
    broken: bool,
    /// The thread ends when all is written.
    closed: bool,
}

/// How long the last output may make no progress before an impatient flush gives it up.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);

/// The buffer.
pub(super) struct Output {
    queue: Mutex<Queue>,
    /// Wakes the thread.
    wake: Condvar,
    /// Wakes who waits for the end of the output.
    written: Condvar,
}

impl Output {
    pub(super) fn new() -> Self {
        let queue = Queue {
            bytes: Vec::new(),
            writing: false,
            progress: 0,
            hurry: false,
            impatient: false,
            refused: false,
            broken: false,
            closed: false,
        };
        Self { queue: Mutex::new(queue), wake: Condvar::new(), written: Condvar::new() }
    }

    /// Takes as many of `bytes` as there is room for, and returns their number.
    pub(super) fn write(&self, bytes: &[u8]) -> usize {
        let mut queue = lock(&self.queue);
        if queue.broken || queue.closed {
            return bytes.len();
        }
        let before = queue.bytes.len();
        let taken = bytes.len().min(LIMIT - before);
        queue.bytes.extend_from_slice(&bytes[..taken]);
        queue.refused |= taken < bytes.len();
        if before == 0 || before < LARGE && queue.bytes.len() >= LARGE {
            self.wake.notify_one();
        }
        taken
    }

    /// Waits until everything has been written or cannot be; with `patience`, only as long as there is progress that
    /// often. [`Output::give_up`] makes it impatient, also while it waits.
    pub(super) fn flush(&self, patience: Option<Duration>) {
        let mut queue = lock(&self.queue);
        queue.hurry = true;
        self.wake.notify_one();
        let mut last = (queue.progress, Instant::now());
        while (queue.writing || !queue.bytes.is_empty()) && !queue.broken {
            let wait = Duration::from_millis(20);
            queue = self.written.wait_timeout(queue, wait).unwrap_or_else(|poisoned| poisoned.into_inner()).0;
            if queue.progress != last.0 {
                last = (queue.progress, Instant::now());
            } else if patience.or(queue.impatient.then_some(PATIENCE)).is_some_and(|most| last.1.elapsed() >= most) {
                break;
            }
        }
        queue.hurry = false;
    }

    /// Has every flush, those under way too, give up after [`PATIENCE`] without progress.
    pub(super) fn give_up(&self) {
        lock(&self.queue).impatient = true;
    }

    /// Takes no more; the thread ends when all is written.
    pub(super) fn close(&self) {
        lock(&self.queue).closed = true;
        self.wake.notify_one();
    }

    /// The thread: writes to `sink` until closed; calls `room` when there is room after there was none.
    pub(super) fn run(&self, mut sink: impl Write, room: impl Fn()) {
        let mut last: Option<Instant> = None;
        let mut chunk = Vec::new();
        loop {
            let mut queue = self.gather(last);
            if queue.bytes.is_empty() {
                return;
            }
            std::mem::swap(&mut queue.bytes, &mut chunk);
            queue.writing = true;
            // The emptied queue has room while this is being written.
            let refused = std::mem::take(&mut queue.refused);
            drop(queue);
            if refused {
                room();
            }
            let result = self.write_out(&mut sink, &chunk);
            chunk.clear();
            let mut queue = lock(&self.queue);
            queue.writing = false;
            if let Err(error) = result {
                tracing::debug!("nobody reads the output any more: {error}");
                queue.broken = true;
                queue.bytes.clear();
            }
            let refused = queue.broken && std::mem::take(&mut queue.refused);
            self.written.notify_all();
            drop(queue);
            if refused {
                room();
            }
            last = Some(Instant::now());
        }
    }

    /// Waits for output that is due, or for the end: then the queue is empty.
    fn gather(&self, last: Option<Instant>) -> MutexGuard<'_, Queue> {
        let mut queue = lock(&self.queue);
        loop {
            if queue.bytes.is_empty() {
                if queue.closed {
                    return queue;
                }
                queue = self.wake.wait(queue).unwrap_or_else(|poisoned| poisoned.into_inner());
                continue;
            }
            let left = last.map_or(Duration::ZERO, |last| INTERVAL.saturating_sub(last.elapsed()));
            if left.is_zero() || queue.bytes.len() >= LARGE || queue.hurry || queue.closed {
                return queue;
            }
            queue = self.wake.wait_timeout(queue, left).unwrap_or_else(|poisoned| poisoned.into_inner()).0;
        }
    }

    fn write_out(&self, sink: &mut impl Write, mut bytes: &[u8]) -> std::io::Result<()> {
        let mut flushed = false;
        while !flushed {
            let result = if bytes.is_empty() {
                sink.flush().map(|()| flushed = true)
            } else {
                // In parts, so that a slow reader is seen to make progress.
                match sink.write(&bytes[..bytes.len().min(LARGE)]) {
                    Ok(0) => Err(ErrorKind::WriteZero.into()),
                    Ok(count) => {
                        bytes = &bytes[count..];
                        lock(&self.queue).progress += 1;
                        Ok(())
                    }
                    Err(error) => Err(error),
                }
            };
            match result {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Somebody else made the file non-blocking; nothing portable waits for it.
                Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(Duration::from_millis(1)),
                result => result?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::sync::mpsc::{Receiver, Sender, channel};

    /// Sends each write to the test.
    struct Sink(Sender<Vec<u8>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(bytes.to_vec()).map_err(|_| ErrorKind::BrokenPipe)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn start(room: impl Fn() + Send + 'static) -> (Arc<Output>, Receiver<Vec<u8>>, std::thread::JoinHandle<()>) {
        let output = Arc::new(Output::new());
        let (sender, receiver) = channel();
        let thread = output.clone();
        let thread = std::thread::spawn(move || thread.run(Sink(sender), room));
        (output, receiver, thread)
    }

    #[test]
    fn everything_is_written_in_order_by_few_writes() {
        let (output, writes, thread) = start(|| ());
        let bytes: Vec<u8> = (0..100_000u32).map(|i| i as u8).collect();
        for byte in &bytes {
            assert_eq!(output.write(&[*byte]), 1);
        }
        output.flush(None);
        let writes: Vec<_> = writes.try_iter().collect();
        assert_eq!(writes.concat(), bytes, "all is written when the flush returns");
        assert!(writes.len() < 10_000, "{} writes", writes.len());
        output.close();
        thread.join().unwrap();
    }

    #[test]
    fn a_lone_byte_needs_no_flush() {
        let (output, writes, _thread) = start(|| ());
        for _ in 0..3 {
            output.write(b"x");
            assert_eq!(writes.recv_timeout(Duration::from_secs(10)).unwrap(), b"x");
        }
    }

    #[test]
    fn a_closed_reader_neither_hangs_nor_fails_the_writer() {
        let (output, writes, thread) = start(|| ());
        drop(writes);
        output.write(b"lost");
        output.flush(None);
        for _ in 0..100 {
            assert_eq!(output.write(&[0; 10_000]), 10_000);
        }
        output.close();
        thread.join().unwrap();
    }

    #[test]
    fn a_reader_that_stands_still_limits_the_buffer_and_the_wait() {
        struct Stuck(Receiver<()>);
        impl Write for Stuck {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                // Until the test lets go.
                let _ = self.0.recv();
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let output = Arc::new(Output::new());
        let (release, stuck) = channel();
        let calls = Arc::new(AtomicU32::new(0));
        let (thread, count) = (output.clone(), calls.clone());
        let thread = std::thread::spawn(move || {
            thread.run(Stuck(stuck), || {
                count.fetch_add(1, Ordering::SeqCst);
            });
        });
        output.write(b"x");
        while !lock(&output.queue).writing {
            std::thread::yield_now();
        }
        assert_eq!(output.write(&vec![0; 2 * LIMIT]), LIMIT);
        assert_eq!(output.write(b"y"), 0);
        let start = Instant::now();
        output.flush(Some(Duration::from_millis(50)));
        assert!(start.elapsed() < Duration::from_secs(5));
        assert_eq!(calls.load(Ordering::SeqCst), 0);
        let waiting = output.clone();
        let waiting = std::thread::spawn(move || waiting.flush(None));
        output.give_up();
        waiting.join().unwrap();
        assert_eq!(calls.load(Ordering::SeqCst), 0, "it is the flush that ended");
        drop(release);
        output.flush(None);
        assert_eq!(calls.load(Ordering::SeqCst), 1, "the writer is told that there is room again");
        assert_eq!(output.write(b"y"), 1);
        output.close();
        thread.join().unwrap();
    }
}
