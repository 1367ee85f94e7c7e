//! What has been read from the host and not yet by the guest: a bounded queue.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex};

use crate::lock;

/// How many bytes of a file or pipe wait in here; the rest waits there.
pub(super) const LIMIT: usize = 64 << 10;

/// The same for a terminal: it is read on even if the guest takes nothing, so that the escape key is heard.
pub(super) const TERMINAL_LIMIT: usize = 16 << 20;

struct Queue {
    bytes: VecDeque<u8>,
    closed: bool,
    /// Nothing more comes from the host.
    ended: bool,
}

/// The queue.
pub(super) struct Input {
    queue: Mutex<Queue>,
    limit: usize,
    room: Condvar,
}

impl Input {
    pub(super) fn new(limit: usize) -> Self {
        let queue = Queue { bytes: VecDeque::new(), closed: false, ended: false };
        Self { queue: Mutex::new(queue), limit, room: Condvar::new() }
    }

    /// Adds `bytes`, waiting for room as long as it takes; calls `arrived` after each part.
    pub(super) fn push(&self, mut bytes: &[u8], arrived: impl Fn()) {
        while !bytes.is_empty() {
            let mut queue = lock(&self.queue);
            while queue.bytes.len() >= self.limit && !queue.closed {
                queue = self.room.wait(queue).unwrap_or_else(|poisoned| poisoned.into_inner());
            }
            if queue.closed {
                return;
            }
            let (now, later) = bytes.split_at(bytes.len().min(self.limit - queue.bytes.len()));
            queue.bytes.extend(now);
            drop(queue);
            bytes = later;
            arrived();
        }
    }

    /// Moves bytes to `buffer` and returns their number.
    pub(super) fn pop(&self, buffer: &mut [u8]) -> usize {
        let mut queue = lock(&self.queue);
        let count = buffer.len().min(queue.bytes.len());
        for (to, from) in buffer.iter_mut().zip(queue.bytes.drain(..count)) {
            *to = from;
        }
        self.room.notify_one();
        count
    }

    /// Takes no more.
    pub(super) fn close(&self) {
        lock(&self.queue).closed = true;
        self.room.notify_one();
    }

    /// Nothing more will be added.
    pub(super) fn end(&self) {
        lock(&self.queue).ended = true;
    }

    /// Whether all has been taken and nothing more will be added.
    pub(super) fn has_ended(&self) -> bool {
        let queue = lock(&self.queue);
        queue.ended && queue.bytes.is_empty()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        lock(&self.queue).bytes.len()
    }
}
