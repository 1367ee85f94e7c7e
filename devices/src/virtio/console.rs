//! The console device (virtio 1.3 §5.3): port 0 alone, on a [`CharacterBackend`].
//!
//! Input stays in the backend until the driver offers a buffer for it; output that the backend has no room for stays in
//! the driver's buffer. So nothing is dropped and nothing piles up here.

use std::sync::{Arc, Mutex};

use bus::StateError;
use serde::{Deserialize, Serialize};

use super::spec::{console as spec, device};
use super::worker::{Events, Port, Service, Waker};
use super::{Session, read_config_bytes};
use crate::backend::CharacterBackend;
use crate::lock;

const QUEUE_SIZE: u16 = 64;
/// Buffers of one batch and direction.
const BATCH: u32 = 32;
/// Bytes that move at a time.
const PIECE: usize = 4096;

/// A console device.
pub struct Console {
    backend: Arc<dyn CharacterBackend>,
    state: Mutex<State>,
}

#[derive(Clone, Default, Serialize, Deserialize)]
struct State {
    /// Bytes of the next buffer to transmit that the backend has taken already.
    sent: u64,
    /// Whether the driver has transmitted since it started the device, and so has claimed the input.
    claimed: bool,
}

/// Why a direction is served no further.
enum Stop {
    /// No buffer is available, and a notification will tell of the next.
    NoBuffer,
    /// The backend will call when it can go on.
    Backend,
    /// The batch is over.
    Batch,
}

impl Console {
    /// A console on `backend`.
    pub fn new(backend: Arc<dyn CharacterBackend>) -> Self {
        Self { backend, state: Mutex::default() }
    }

    fn receive(&self, session: &mut Session) -> Stop {
        const QUEUE: u16 = spec::RECEIVEQ;
        for _ in 0..BATCH {
            let Some(chain) = session.pop(QUEUE) else {
                if session.enable_notifications(QUEUE) {
                    continue;
                }
                return Stop::NoBuffer;
            };
            let mut bytes = [0; PIECE];
            let room = chain.writable.len().min(PIECE as u64) as usize;
            let count = self.backend.read(&mut bytes[..room]);
            if count == 0 && room != 0 {
                session.undo_pop(QUEUE);
                return Stop::Backend;
            }
            // Cannot fail: the chain was checked, and has room.
            if let Some(ram) = session.ram(QUEUE) {
                chain.writable.write(ram, 0, &bytes[..count]);
            }
            session.complete(QUEUE, &chain, count as u32);
        }
        Stop::Batch
    }

    fn transmit(&self, session: &mut Session) -> Stop {
        const QUEUE: u16 = spec::TRANSMITQ;
        let state = &mut *lock(&self.state);
        for _ in 0..BATCH {
            let Some(chain) = session.pop(QUEUE) else {
                if session.enable_notifications(QUEUE) {
                    continue;
                }
                return Stop::NoBuffer;
            };
            // There is no message for "a terminal was opened": a driver that talks has one.
            if !state.claimed {
                state.claimed = true;
                self.backend.claim();
            }
            let left = chain.readable.len().saturating_sub(state.sent);
            let mut bytes = [0; PIECE];
            let piece = &mut bytes[..left.min(PIECE as u64) as usize];
            if let Some(ram) = session.ram(QUEUE) {
                // Cannot fail: the piece is inside a chain that was checked.
                chain.readable.read(ram, state.sent, piece);
            }
            let taken = self.backend.write(piece).min(piece.len());
            if taken as u64 == left {
                state.sent = 0;
                session.complete(QUEUE, &chain, 0);
                continue;
            }
            state.sent += taken as u64;
            session.undo_pop(QUEUE);
            if taken < piece.len() {
                return Stop::Backend;
            }
        }
        Stop::Batch
    }
}

impl Service for Console {
    fn name(&self) -> &'static str {
        "virtio-console"
    }

    fn id(&self) -> u32 {
        device::CONSOLE
    }

    fn features(&self) -> u64 {
        0
    }

    fn queue_sizes(&self) -> &[u16] {
        &[QUEUE_SIZE, QUEUE_SIZE]
    }

    fn read_config(&self, offset: u64, bytes: &mut [u8]) {
        // All of it belongs to features that are not offered.
        read_config_bytes(&[], offset, bytes);
    }

    fn attach(&self, waker: Waker) {
        self.backend.attach(Box::new(move || waker.wake()));
    }

    fn serve(&self, port: &Port, events: Events) -> Events {
        let Some(mut session) = port.session() else {
            return Events::NONE;
        };
        let (mut events, mut left) = (events, Events::NONE);
        if events.intersects(Events::queue(spec::TRANSMITQ).or(Events::BACKEND)) {
            let claimed = lock(&self.state).claimed;
            if let Stop::Batch = self.transmit(&mut session) {
                left = left.or(Events::queue(spec::TRANSMITQ));
            }
            session.interrupt(spec::TRANSMITQ);
            if claimed != lock(&self.state).claimed {
                // Input that waited for its owner is not announced.
                events = events.or(Events::BACKEND);
            }
        }
        if events.intersects(Events::queue(spec::RECEIVEQ).or(Events::BACKEND)) {
            if let Stop::Batch = self.receive(&mut session) {
                left = left.or(Events::queue(spec::RECEIVEQ));
            }
            session.interrupt(spec::RECEIVEQ);
        }
        left
    }

    fn reset(&self, _queue: Option<u16>) {
        *lock(&self.state) = State::default();
    }

    fn save(&self) -> Result<Vec<u8>, StateError> {
        bus::save(self.name(), &*lock(&self.state))
    }

    fn restore(&self, state: &[u8]) -> Result<(), StateError> {
        let state: State = bus::restore(self.name(), state)?;
        if state.claimed {
            self.backend.claim();
        }
        *lock(&self.state) = state;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bus::Device;

    use super::super::driver::{DATA, Driver, readable, wait_until, writable};
    use super::super::spec::mmio as reg;
    use super::super::{VirtioDevice, Worker};
    use super::*;
    use crate::backend::memory::MemoryBackend;

    const RX: usize = spec::RECEIVEQ as usize;
    const TX: usize = spec::TRANSMITQ as usize;

    fn device(backend: Arc<dyn CharacterBackend>) -> Box<dyn VirtioDevice> {
        Box::new(Worker::new(Console::new(backend)).unwrap())
    }

    fn machine(backend: Arc<dyn CharacterBackend>, accept: u64) -> Driver {
        let mut driver = Driver::new(device(backend));
        assert_eq!(driver.read(reg::DEVICE_ID), 3);
        driver.initialise(accept, 16);
        assert_eq!(driver.rings.len(), 2);
        driver
    }

    #[test]
    fn output_goes_out_in_order() {
        for accept in [0, u64::MAX] {
            let backend = MemoryBackend::new();
            let mut driver = machine(backend.clone(), accept);
            driver.ram.write(DATA, b"hello, world\n").unwrap();
            assert_eq!(driver.run(TX, &[readable(DATA, 5), readable(DATA + 5, 8)]), 0);
            driver.run(TX, &[readable(DATA + 12, 1)]);
            driver.run(TX, &[readable(DATA, 0)]);
            assert_eq!(backend.output(), b"hello, world\n\n");
            let text: Vec<u8> = (0..50_000).map(|i| (i % 251) as u8).collect();
            driver.ram.write(DATA, &text).unwrap();
            driver.run(TX, &[readable(DATA, 50_000)]);
            assert!(backend.output()[14..] == text);
        }
    }

    #[test]
    fn input_waits_for_buffers_and_is_never_dropped() {
        for accept in [0, u64::MAX] {
            let backend = MemoryBackend::new();
            let mut driver = machine(backend.clone(), accept);
            backend.type_in(b"abcdefghij");
            driver.add(RX, &[writable(DATA, 4)]);
            driver.add(RX, &[writable(DATA + 4, 2), writable(DATA + 6, 1)]);
            driver.notify(RX);
            assert_eq!((driver.wait_used(RX), driver.wait_used(RX)), ((0, 4), (1, 3)));
            assert_eq!((driver.bytes(DATA, 7), backend.unread()), (b"abcdefg".to_vec(), 3));
            driver.add(RX, &[writable(DATA, 16)]);
            driver.add(RX, &[writable(DATA, 16)]);
            driver.notify(RX);
            assert_eq!(driver.wait_used(RX).1, 3);
            driver.mmio.pause();
            driver.mmio.resume();
            assert_eq!(driver.take_used(RX), None, "a buffer waits for input");
            backend.type_in(b"k");
            assert_eq!(driver.wait_used(RX).1, 1);
            assert_eq!(driver.bytes(DATA, 3), *b"kij");
        }
    }

    #[test]
    fn a_full_backend_takes_the_rest_of_a_buffer_later_here_or_in_a_restored_machine() {
        let backend = MemoryBackend::new();
        backend.limit_output(3);
        let mut driver = machine(backend.clone(), u64::MAX);
        driver.ram.write(DATA, b"0123456789").unwrap();
        let head = driver.add(TX, &[readable(DATA, 6), readable(DATA + 6, 4)]);
        driver.notify(TX);
        wait_until("three bytes", || backend.output().len() == 3);
        driver.mmio.pause();
        let state = driver.mmio.save().unwrap();
        driver.mmio.resume();
        assert_eq!(driver.take_used(TX), None);

        let there = MemoryBackend::new();
        let mut other = driver.clone_with(device(there.clone()));
        other.mmio.pause();
        other.mmio.restore(&state).unwrap();
        other.mmio.resume();
        assert_eq!(other.wait_used(TX), (head.into(), 0));
        assert_eq!(there.output(), b"3456789");

        backend.limit_output(usize::MAX);
        assert_eq!(driver.wait_used(TX), (head.into(), 0));
        assert_eq!(backend.output(), b"0123456789");
    }

    #[test]
    fn a_reset_forgets_the_buffer_begun() {
        let backend = MemoryBackend::new();
        backend.limit_output(3);
        let mut driver = machine(backend.clone(), u64::MAX);
        driver.ram.write(DATA, b"0123456789").unwrap();
        driver.add(TX, &[readable(DATA, 10)]);
        driver.notify(TX);
        wait_until("three bytes", || backend.output().len() == 3);
        driver.initialise(u64::MAX, 16);
        backend.limit_output(usize::MAX);
        driver.run(TX, &[readable(DATA, 4)]);
        assert_eq!(backend.output(), b"0120123");
    }

    #[test]
    fn who_transmits_first_claims_the_input() {
        let backend = MemoryBackend::new();
        let shared = crate::backend::Console::new(backend.clone());
        let first = shared.port();
        let mut driver = machine(shared.port(), u64::MAX);
        backend.type_in(b"x");
        driver.add(RX, &[writable(DATA, 4)]);
        driver.notify(RX);
        driver.mmio.pause();
        driver.mmio.resume();
        // Until the worker has nothing on its list.
        std::thread::sleep(std::time::Duration::from_millis(50));
        assert_eq!(driver.take_used(RX), None, "a driver that only listens has claimed nothing");
        driver.run(TX, &[readable(DATA, 1)]);
        assert_eq!(driver.wait_used(RX).1, 1);
        let mut byte = [0];
        backend.type_in(b"y");
        assert_eq!(first.read(&mut byte), 0);
    }
}
