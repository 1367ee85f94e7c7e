//! What stands behind a device on the host. [`CharacterBackend`] is the host side of a serial line; a [`Console`]
//! shares one of them among several devices.

pub mod disk;
pub mod memory;
pub mod net;
pub mod terminal;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crate::lock;

/// Called when a backend may have input or room for output. See [`CharacterBackend::attach`].
pub type Ready = Box<dyn Fn() + Send + Sync>;

/// The host side of a serial line: a stream of bytes in each direction.
///
/// Nothing here blocks, so that a device may call it with its registers locked. The lock order is device → backend: a
/// backend never calls [`Ready`] while it holds a lock of its own, nor from within one of these methods.
pub trait CharacterBackend: Send + Sync {
    /// Takes `bytes` for output, as many as there is room for, and returns their number. After it took fewer than it
    /// was given, [`Ready`] is called once there is room again.
    fn write(&self, bytes: &[u8]) -> usize;

    /// Moves waiting input to `buffer` and returns the number of bytes, zero if none waits. What is not read keeps
    /// waiting: input is never dropped.
    fn read(&self, buffer: &mut [u8]) -> usize;

    /// Whether all input has been read and no more will ever come, as at the end of a file.
    fn has_ended(&self) -> bool {
        false
    }

    /// Sets who is called, on a thread of the backend's, when input has arrived or room for output has come back; it
    /// may be called without either. Takes the place of an earlier one. Input that waits already is not announced.
    fn attach(&self, ready: Ready);

    /// The guest looks for input at this device. A backend that devices share leads its input here from now on,
    /// without a call of [`Ready`]; others have nothing to do.
    fn claim(&self);
}

/// One console shared by several devices: all of them write to it, one of them at a time owns the input.
///
/// The first port owns the input until another claims it. A guest may have a UART, a virtio console and the firmware's
/// debug console at once; the one at which it last began to look for input is where its user sits.
pub struct Console {
    backend: Arc<dyn CharacterBackend>,
    ports: Mutex<Vec<Option<Arc<Ready>>>>,
    owner: AtomicUsize,
}

impl Console {
    /// A console on `backend`, without ports.
    pub fn new(backend: Arc<dyn CharacterBackend>) -> Arc<Self> {
        let console =
            Arc::new(Self { backend: backend.clone(), ports: Mutex::new(Vec::new()), owner: AtomicUsize::new(0) });
        let weak = Arc::downgrade(&console);
        backend.attach(Box::new(move || {
            if let Some(console) = weak.upgrade() {
                console.ready();
            }
        }));
        console
    }

    /// Another port of this console, for one device.
    pub fn port(self: &Arc<Self>) -> Arc<Port> {
        let mut ports = lock(&self.ports);
        ports.push(None);
        Arc::new(Port { console: self.clone(), index: ports.len() - 1 })
    }

    /// Room for output concerns every port, and a port that does not own the input reads nothing.
    fn ready(&self) {
        let ports: Vec<_> = lock(&self.ports).iter().flatten().cloned().collect();
        for ready in ports {
            ready();
        }
    }
}

/// One device's port of a shared [`Console`].
pub struct Port {
    console: Arc<Console>,
    index: usize,
}

impl CharacterBackend for Port {
    fn write(&self, bytes: &[u8]) -> usize {
        self.console.backend.write(bytes)
    }

    fn read(&self, buffer: &mut [u8]) -> usize {
        if self.console.owner.load(Ordering::Acquire) == self.index { self.console.backend.read(buffer) } else { 0 }
    }

    fn has_ended(&self) -> bool {
        self.console.backend.has_ended()
    }

    fn attach(&self, ready: Ready) {
        lock(&self.console.ports)[self.index] = Some(Arc::new(ready));
    }

    fn claim(&self) {
        if self.console.owner.swap(self.index, Ordering::AcqRel) != self.index {
            tracing::debug!("console input now goes to port {}", self.index);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::memory::MemoryBackend;
    use super::*;

    #[test]
    fn all_ports_write_and_the_last_claimant_reads() {
        let backend = MemoryBackend::new();
        let console = Console::new(backend.clone());
        let (first, second) = (console.port(), console.port());
        let calls = Arc::new(AtomicUsize::new(0));
        for (port, weight) in [(&first, 1), (&second, 100)] {
            let calls = calls.clone();
            port.attach(Box::new(move || {
                calls.fetch_add(weight, Ordering::SeqCst);
            }));
        }
        assert_eq!(first.write(b"one "), 4);
        assert_eq!(second.write(b"two"), 3);
        assert_eq!(backend.output(), b"one two");

        backend.type_in(b"abc");
        assert_eq!(calls.load(Ordering::SeqCst), 101);
        let mut byte = [0];
        assert_eq!(second.read(&mut byte), 0, "the first port owns the input at first");
        assert_eq!((first.read(&mut byte), byte), (1, *b"a"));
        second.claim();
        assert_eq!(first.read(&mut byte), 0);
        assert_eq!((second.read(&mut byte), byte), (1, *b"b"));
        first.claim();
        assert_eq!((first.read(&mut byte), byte), (1, *b"c"), "nothing is lost when the owner changes");
    }
}
