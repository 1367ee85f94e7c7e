//! The entropy device (virtio 1.3 §5.4): random bytes of the host.

use bus::StateError;

use super::spec::device;
use super::worker::{Events, Port, Service, Waker};
use super::{Session, read_config_bytes};

const QUEUE: u16 = 0;
const QUEUE_SIZE: u16 = 64;
/// Bytes that one request gets at most; the driver asks again (§5.4.6.2).
const MAX_BYTES: usize = 4096;
/// Requests of one batch.
const BATCH: u32 = 32;

/// An entropy device.
#[derive(Debug, Default)]
pub struct Rng;

impl Rng {
    fn fill(session: &mut Session) -> Option<()> {
        let chain = session.pop(QUEUE)?;
        let mut bytes = [0; MAX_BYTES];
        let bytes = &mut bytes[..chain.writable.len().min(MAX_BYTES as u64) as usize];
        if !chain.readable.is_empty() {
            session.fail(&"an entropy request with a device-readable buffer (virtio 1.3 §5.4.6.1)");
            return None;
        }
        if let Err(error) = getrandom::fill(bytes) {
            // Nothing would be worse than bytes that are not random.
            tracing::error!("virtio-rng: the host gives no random bytes: {error}");
            session.fail(&"no entropy");
            return None;
        }
        chain.writable.write(session.ram(QUEUE)?, 0, bytes)?;
        session.complete(QUEUE, &chain, bytes.len() as u32);
        Some(())
    }
}

impl Service for Rng {
    fn name(&self) -> &'static str {
        "virtio-rng"
    }

    fn id(&self) -> u32 {
        device::ENTROPY
    }

    fn features(&self) -> u64 {
        0
    }

    fn queue_sizes(&self) -> &[u16] {
        &[QUEUE_SIZE]
    }

    fn read_config(&self, offset: u64, bytes: &mut [u8]) {
        read_config_bytes(&[], offset, bytes);
    }

    fn attach(&self, _waker: Waker) {}

    fn serve(&self, port: &Port, events: Events) -> Events {
        if !events.intersects(Events::queue(QUEUE)) {
            return Events::NONE;
        }
        let Some(mut session) = port.session() else {
            return Events::NONE;
        };
        session.disable_notifications(QUEUE);
        let drained = (0..BATCH).any(|_| Self::fill(&mut session).is_none());
        session.interrupt(QUEUE);
        if !drained || session.enable_notifications(QUEUE) { Events::queue(QUEUE) } else { Events::NONE }
    }

    fn reset(&self, _queue: Option<u16>) {}

    fn save(&self) -> Result<Vec<u8>, StateError> {
        Ok(Vec::new())
    }

    fn restore(&self, state: &[u8]) -> Result<(), StateError> {
        bus::restore::<()>(self.name(), state)
    }
}
