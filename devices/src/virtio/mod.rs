//! Virtio devices (virtio 1.3): the split virtqueue, the memory-mapped transport, and the devices behind it.
//!
//! A transport ([`mmio`]) owns the registers and negotiates; a [`VirtioDevice`] sees only the result: a [`Session`] of
//! negotiated features and queues, from `DRIVER_OK` to the reset. Devices that serve their queues on a thread of their
//! own are a [`worker::Service`] inside a [`worker::Worker`].
//!
//! Lock order: transport registers → session → the transport's interrupt state → interrupt controller.

pub mod blk;
pub mod console;
pub mod input;
pub mod mmio;
pub mod net;
pub mod queue;
pub mod rng;
pub mod spec;
pub mod worker;

#[cfg(test)]
mod driver;

use std::sync::Arc;

use bus::{Ram, StateError};

pub use mmio::VirtioMmio;
pub use queue::{Buffers, Chain, Queue, QueueError, QueueLayout, QueuePosition};
pub use worker::Worker;

/// How a device reaches its driver outside of the queues.
pub trait Transport: Send + Sync {
    /// Sends a used buffer notification for `queue` (§2.3).
    fn queue_interrupt(&self, queue: u16);

    /// Sends a configuration change notification: the configuration space has changed (§2.3).
    fn config_interrupt(&self);

    /// Sets `DEVICE_NEEDS_RESET` and sends a configuration change notification (§2.1.2).
    fn needs_reset(&self);
}

/// What driver and device have agreed upon at `DRIVER_OK`: it lives until the driver resets the device.
pub struct Session {
    features: u64,
    queues: Vec<Option<Queue>>,
    transport: Arc<dyn Transport>,
    /// The driver broke the format: nothing is served until the reset.
    broken: bool,
}

impl Session {
    /// A session of negotiated `features`, with the queues that the driver has enabled.
    pub fn new(features: u64, queues: Vec<Option<Queue>>, transport: Arc<dyn Transport>) -> Self {
        Self { features, queues, transport, broken: false }
    }

    /// Whether all bits of `mask` were negotiated.
    pub fn has(&self, mask: u64) -> bool {
        self.features & mask == mask
    }

    /// The queue `index`, if it is enabled and the session is sound.
    fn queue(&mut self, index: u16) -> Option<&mut Queue> {
        if self.broken { None } else { self.queues.get_mut(usize::from(index))?.as_mut() }
    }

    /// Guest RAM for the buffers of chains from queue `index`.
    pub fn ram(&mut self, index: u16) -> Option<&Ram> {
        self.queue(index).map(|queue| queue.ram())
    }

    /// Ends the session: the driver did what the specification forbids, and must reset the device.
    pub fn fail(&mut self, reason: &dyn std::fmt::Display) {
        if !self.broken {
            tracing::debug!("virtio driver error, the device needs a reset: {reason}");
            self.broken = true;
            self.transport.needs_reset();
        }
    }

    /// Whether the driver must reset the device before anything is served.
    pub fn is_broken(&self) -> bool {
        self.broken
    }

    /// Takes the next chain of queue `index`.
    pub fn pop(&mut self, index: u16) -> Option<Chain> {
        match self.queue(index)?.pop() {
            Ok(chain) => chain,
            Err(error) => {
                self.fail(&error);
                None
            }
        }
    }

    /// Makes the chain taken last from queue `index` the next one again.
    pub fn undo_pop(&mut self, index: u16) {
        if let Some(queue) = self.queue(index) {
            queue.undo_pop();
        }
    }

    /// Gives `chain` of queue `index` back with `written` bytes written.
    pub fn complete(&mut self, index: u16, chain: &Chain, written: u32) {
        if let Some(queue) = self.queue(index) {
            queue.complete(chain.head, written);
        }
    }

    /// Gives several chains of queue `index` back at once: see [`Queue::complete_all`].
    pub fn complete_all(&mut self, index: u16, chains: &[(u16, u32)]) {
        if let Some(queue) = self.queue(index) {
            queue.complete_all(chains);
        }
    }

    /// Tells the driver that the configuration space has changed.
    pub fn config_changed(&self) {
        self.transport.config_interrupt();
    }

    /// Whether something was completed on queue `index` since [`Session::interrupt`] was called last.
    pub fn has_completed(&mut self, index: u16) -> bool {
        self.queue(index).is_some_and(|queue| queue.has_completed())
    }

    /// Sends an interrupt for what was completed on queue `index`, if the driver wants one.
    pub fn interrupt(&mut self, index: u16) {
        if self.queue(index).is_some_and(|queue| queue.take_interrupt()) {
            self.transport.queue_interrupt(index);
        }
    }

    /// See [`Queue::disable_notifications`].
    pub fn disable_notifications(&mut self, index: u16) {
        if let Some(queue) = self.queue(index) {
            queue.disable_notifications();
        }
    }

    /// See [`Queue::enable_notifications`].
    pub fn enable_notifications(&mut self, index: u16) -> bool {
        match self.queue(index).map(|queue| queue.enable_notifications()) {
            Some(Ok(more)) => more,
            Some(Err(error)) => {
                self.fail(&error);
                false
            }
            None => false,
        }
    }

    fn set_queue(&mut self, index: u16, queue: Option<Queue>) {
        if let Some(slot) = self.queues.get_mut(usize::from(index)) {
            *slot = queue;
        }
    }

    fn positions(&self) -> Vec<Option<QueuePosition>> {
        self.queues.iter().map(|queue| queue.as_ref().map(|queue| queue.position())).collect()
    }
}

/// A device as its transport sees it. Calls of `start`, `stop`, `set_queue`, `save` and `restore` are serialised by the
/// transport; `notify` and the configuration space come from any hart and are short.
pub trait VirtioDevice: Send + Sync {
    /// A short name ("virtio-blk").
    fn name(&self) -> &'static str;

    /// The device type (§5).
    fn id(&self) -> u32;

    /// The feature bits of this kind of device; the transport adds those of the ring.
    fn features(&self) -> u64;

    /// The largest size of each queue, powers of two.
    fn queue_sizes(&self) -> &[u16];

    /// Reads the configuration space; what lies past its end reads as zero.
    fn read_config(&self, offset: u64, bytes: &mut [u8]);

    /// Writes the configuration space; fields that the driver may not write keep their value.
    fn write_config(&self, offset: u64, bytes: &[u8]);

    /// The driver is ready (`DRIVER_OK`).
    fn start(&self, session: Session);

    /// The driver resets the device. When this returns, nothing of the session touches guest memory or sends an
    /// interrupt any more; requests in flight are dropped. Does nothing without a session.
    fn stop(&self);

    /// The driver enables or disables a queue of the running session; as for [`VirtioDevice::stop`], a disabled queue
    /// is not touched after this returns.
    fn set_queue(&self, index: u16, queue: Option<Queue>);

    /// The driver has made buffers available in queue `index`.
    fn notify(&self, index: u16);

    /// See [`bus::Device::pause`].
    fn pause(&self);

    /// See [`bus::Device::resume`].
    fn resume(&self);

    /// Positions of the session's queues; empty without a session. Only called while paused.
    fn positions(&self) -> Vec<Option<QueuePosition>>;

    /// What the device itself remembers. Only called while paused.
    fn save(&self) -> Result<Vec<u8>, StateError>;

    /// Takes over what [`VirtioDevice::save`] made, with the session that was running then, in place of its own. Only
    /// called while paused; on an error the device is as it was.
    fn restore(&self, state: &[u8], session: Option<Session>) -> Result<(), StateError>;
}

/// Reads `bytes` at `offset` of a configuration space that begins with `config`; the rest is zero.
fn read_config_bytes(config: &[u8], offset: u64, bytes: &mut [u8]) {
    let from = usize::try_from(offset).ok().and_then(|offset| config.get(offset..)).unwrap_or(&[]);
    let length = from.len().min(bytes.len());
    bytes[..length].copy_from_slice(&from[..length]);
    bytes[length..].fill(0);
}
