//! The split virtqueue, device side (virtio 1.3 §2.7), over guest RAM.
//!
//! Everything in a ring is written by the guest at any time, also while it is read here. So each value is loaded once,
//! checked, and used from the copy. What the format forbids is a [`QueueError`]; the device then asks for a reset
//! (§2.1.2). A [`Chain`] holds at most as many buffers as the device's largest queue, all of them inside RAM and no
//! more than 4 GiB together: no guest can make the device loop, over-allocate, or reach anything but RAM.

use std::sync::atomic::{Ordering, fence};

use bus::Ram;
use serde::{Deserialize, Serialize};

use super::spec::{feature, ring};

/// How a driver broke the format of a virtqueue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QueueError {
    /// The size is zero, no power of two, or above the device's maximum.
    #[error("queue size {size} is no power of two up to {max}")]
    Size {
        /// As written by the driver.
        size: u32,
        /// The device's maximum.
        max: u16,
    },
    /// A part of the ring is misaligned or not in RAM.
    #[error("the {part} at {address:#x} is misaligned or outside of RAM")]
    Ring {
        /// Which part.
        part: &'static str,
        /// Guest-physical address.
        address: u64,
    },
    /// More buffers are available than the queue has descriptors.
    #[error("avail.idx {index} is more than the queue size past {next}")]
    AvailableIndex {
        /// As read.
        index: u16,
        /// The next entry that the device would use.
        next: u16,
    },
    /// A descriptor index is outside of its table.
    #[error("descriptor {index} is outside of its table of {size}")]
    DescriptorIndex {
        /// As read.
        index: u16,
        /// Entries of the table.
        size: u32,
    },
    /// A chain is a loop, or longer than the device allows.
    #[error("a descriptor chain loops or is longer than {max}")]
    ChainLength {
        /// Descriptors allowed.
        max: u32,
    },
    /// The buffers of a chain are more than 4 GiB together (§2.7.5.2).
    #[error("a descriptor chain of more than 4 GiB")]
    ChainBytes,
    /// A buffer is not in RAM.
    #[error("a buffer of {length} bytes at {address:#x} is outside of RAM")]
    Buffer {
        /// Guest-physical address.
        address: u64,
        /// Bytes.
        length: u32,
    },
    /// A device-readable buffer follows a device-writable one (§2.7.4.2).
    #[error("a device-readable buffer follows a device-writable one")]
    Order,
    /// An indirect descriptor that was not negotiated, is nested, has a next, or whose table is empty, outside of RAM
    /// or no multiple of a descriptor (§2.7.5.3).
    #[error("a malformed indirect descriptor: table of {length} bytes at {address:#x}")]
    Indirect {
        /// Guest-physical address.
        address: u64,
        /// Bytes.
        length: u32,
    },
}

/// Where a driver has put a queue: what the transport's registers say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueLayout {
    /// Number of descriptors.
    pub size: u32,
    /// Guest-physical address of the descriptor table.
    pub descriptors: u64,
    /// Guest-physical address of the available ring (driver area).
    pub available: u64,
    /// Guest-physical address of the used ring (device area).
    pub used: u64,
}

/// How far the device has come in a queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueuePosition {
    /// The next entry of the available ring to take.
    pub next_available: u16,
    /// The next entry of the used ring to fill: `used.idx`.
    pub next_used: u16,
    /// `next_used` when the driver was last considered for an interrupt.
    pub signalled: u16,
}

#[derive(Debug, Clone, Copy)]
struct Segment {
    address: u64,
    length: u32,
}

/// The buffers of one request in one direction, seen as one run of bytes: the framing is the driver's own business
/// (§2.7.4.1).
#[derive(Debug, Default)]
pub struct Buffers {
    segments: Vec<Segment>,
    length: u64,
}

impl Buffers {
    /// Bytes of all buffers.
    pub fn len(&self) -> u64 {
        self.length
    }

    /// Whether there is no byte.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    fn push(&mut self, segment: Segment) {
        self.length += u64::from(segment.length);
        self.segments.push(segment);
    }

    /// Calls `copy` with each piece of `length` bytes from `at`: guest-physical address, and range of the run. `None`
    /// if that leaves the run.
    fn pieces(&self, at: u64, length: usize, mut copy: impl FnMut(u64, std::ops::Range<usize>) -> Option<()>) -> Option<()> {
        if at > self.length || length as u64 > self.length - at {
            return None;
        }
        let (mut skip, mut done) = (at, 0);
        for segment in &self.segments {
            if done == length {
                break;
            }
            let size = u64::from(segment.length);
            if skip >= size {
                skip -= size;
                continue;
            }
            let piece = (size - skip).min((length - done) as u64) as usize;
            copy(segment.address + skip, done..done + piece)?;
            done += piece;
            skip = 0;
        }
        Some(())
    }

    /// Copies bytes from guest memory, beginning `at` bytes into the run. `None` if they are not all there.
    pub fn read(&self, ram: &Ram, at: u64, bytes: &mut [u8]) -> Option<()> {
        self.pieces(at, bytes.len(), |address, range| ram.read(address, &mut bytes[range]))
    }

    /// Copies `bytes` to guest memory, beginning `at` bytes into the run. `None` if they do not all fit.
    pub fn write(&self, ram: &Ram, at: u64, bytes: &[u8]) -> Option<()> {
        self.pieces(at, bytes.len(), |address, range| ram.write(address, &bytes[range]))
    }
}

/// A request that was taken from a queue and must be given back by [`Queue::complete`].
#[derive(Debug)]
pub struct Chain {
    /// Index of the first descriptor, the name of the chain.
    pub head: u16,
    /// What the device may read.
    pub readable: Buffers,
    /// What the device may write.
    pub writable: Buffers,
}

struct Descriptor {
    address: u64,
    length: u32,
    flags: u16,
    next: u16,
}

/// One virtqueue that the driver has set up.
pub struct Queue {
    ram: Ram,
    size: u16,
    /// Most descriptors of a chain. A driver that was content with fewer descriptors than the device offers may still
    /// fill indirect tables to the device's own limits, which derive from the largest queue.
    longest_chain: u16,
    event_idx: bool,
    indirect: bool,
    /// Guest-physical address.
    descriptors: u64,
    /// Offset in RAM.
    available: u64,
    /// Offset in RAM.
    used: u64,
    position: QueuePosition,
}

// Parts of the available ring: flags, idx, ring[size], used_event; and of the used ring: flags, idx, ring[size] of
// eight bytes, avail_event (§2.7.6, §2.7.8).
const FLAGS: u64 = 0;
const IDX: u64 = 2;
const ENTRIES: u64 = 4;

impl Queue {
    /// The queue at `layout` for a device that offers `max_size`, with the negotiated `features`.
    pub fn new(ram: &Ram, layout: &QueueLayout, max_size: u16, features: u64) -> Result<Self, QueueError> {
        let &QueueLayout { size, descriptors, available, used } = layout;
        if !size.is_power_of_two() || size > u32::from(max_size.min(ring::MAX_SIZE)) {
            return Err(QueueError::Size { size, max: max_size });
        }
        let entries = u64::from(size);
        // Sizes and alignments of §2.7.
        let part = |part, address: u64, length, alignment| match ram.offset(address, length) {
            Some(offset) if address % alignment == 0 => Ok(offset),
            _ => Err(QueueError::Ring { part, address }),
        };
        part("descriptor table", descriptors, ring::DESCRIPTOR_SIZE * entries, 16)?;
        Ok(Self {
            available: part("available ring", available, 6 + 2 * entries, 2)?,
            used: part("used ring", used, 6 + 8 * entries, 4)?,
            ram: ram.clone(),
            size: size as u16,
            longest_chain: max_size,
            event_idx: features & feature::EVENT_IDX != 0,
            indirect: features & feature::INDIRECT_DESC != 0,
            descriptors,
            position: QueuePosition::default(),
        })
    }

    /// Guest RAM, for the buffers of a chain.
    pub fn ram(&self) -> &Ram {
        &self.ram
    }

    /// How far the device has come.
    pub fn position(&self) -> QueuePosition {
        self.position
    }

    /// Goes on from a saved position.
    pub fn set_position(&mut self, position: QueuePosition) {
        self.position = position;
    }

    // The ring was checked to lie in RAM and to be aligned, so that the cells always exist; if they did not, the ring
    // would read as idle.

    fn load(&self, offset: u64, order: Ordering) -> u16 {
        self.ram.atomic_u16(offset).map_or(0, |cell| u16::from_le(cell.load(order)))
    }

    fn store(&self, offset: u64, value: u16, order: Ordering) {
        if let Some(cell) = self.ram.atomic_u16(offset) {
            cell.store(value.to_le(), order);
            self.ram.note_write(offset, 2);
        }
    }

    fn slot(&self, index: u16) -> u64 {
        u64::from(index & (self.size - 1))
    }

    /// How many chains the driver has made available.
    fn pending(&self) -> Result<u16, QueueError> {
        // Acquire: pairs with the driver's write barrier between filling the ring (and the descriptors and buffers it
        // names) and advancing idx. Everything up to idx is visible after this load.
        let index = self.load(self.available + IDX, Ordering::Acquire);
        let next = self.position.next_available;
        let pending = index.wrapping_sub(next);
        if pending > self.size { Err(QueueError::AvailableIndex { index, next }) } else { Ok(pending) }
    }

    /// Takes the next available chain, if there is one.
    pub fn pop(&mut self) -> Result<Option<Chain>, QueueError> {
        if self.pending()? == 0 {
            return Ok(None);
        }
        let entry = self.available + ENTRIES + 2 * self.slot(self.position.next_available);
        let chain = self.walk(self.load(entry, Ordering::Relaxed))?;
        self.position.next_available = self.position.next_available.wrapping_add(1);
        Ok(Some(chain))
    }

    fn descriptor(&self, table: u64, index: u16, size: u32) -> Result<Descriptor, QueueError> {
        let outside = QueueError::DescriptorIndex { index, size };
        if u32::from(index) >= size {
            return Err(outside);
        }
        let mut bytes = [0; ring::DESCRIPTOR_SIZE as usize];
        self.ram.read(table + ring::DESCRIPTOR_SIZE * u64::from(index), &mut bytes).ok_or(outside)?;
        let raw = u128::from_le_bytes(bytes);
        Ok(Descriptor {
            address: raw as u64,
            length: (raw >> 64) as u32,
            flags: (raw >> 96) as u16,
            next: (raw >> 112) as u16,
        })
    }

    fn walk(&self, head: u16) -> Result<Chain, QueueError> {
        let mut chain = Chain { head, readable: Buffers::default(), writable: Buffers::default() };
        // The table in use: the queue's own, or after an indirect descriptor that descriptor's.
        let (mut table, mut size, mut nested) = (self.descriptors, u32::from(self.size), false);
        let mut index = head;
        let too_long = QueueError::ChainLength { max: u32::from(self.longest_chain) };
        // Bounds the walk of a loop as well: a table has no more distinct descriptors than a chain may have, or the
        // chain is refused.
        let mut left = self.longest_chain;
        loop {
            left = left.checked_sub(1).ok_or(too_long)?;
            let Descriptor { address, length, flags, next } = self.descriptor(table, index, size)?;
            if flags & ring::DESC_F_INDIRECT != 0 {
                // A table ends the chain of the queue's own descriptors (§2.7.5.3.1); WRITE means nothing here.
                let malformed = !self.indirect
                    || nested
                    || flags & ring::DESC_F_NEXT != 0
                    || length == 0
                    || u64::from(length) % ring::DESCRIPTOR_SIZE != 0
                    || self.ram.offset(address, u64::from(length)).is_none();
                if malformed {
                    return Err(QueueError::Indirect { address, length });
                }
                (table, size, nested, index) = (address, length / ring::DESCRIPTOR_SIZE as u32, true, 0);
                left += 1; // The referring descriptor is no buffer.
                continue;
            }
            // An empty buffer has no address to speak of.
            if length != 0 {
                if self.ram.offset(address, u64::from(length)).is_none() {
                    return Err(QueueError::Buffer { address, length });
                }
                let segment = Segment { address, length };
                if flags & ring::DESC_F_WRITE != 0 {
                    chain.writable.push(segment);
                } else if chain.writable.is_empty() {
                    chain.readable.push(segment);
                } else {
                    return Err(QueueError::Order);
                }
                if chain.readable.length + chain.writable.length > u64::from(u32::MAX) {
                    return Err(QueueError::ChainBytes);
                }
            }
            if flags & ring::DESC_F_NEXT == 0 {
                return Ok(chain);
            }
            index = next;
        }
    }

    /// Gives a chain back to the driver; `written` bytes were written from the start of its writable buffers.
    pub fn complete(&mut self, head: u16, written: u32) {
        let entry = self.used + ENTRIES + 8 * self.slot(self.position.next_used);
        for (offset, value) in [(entry, u32::from(head)), (entry + 4, written)] {
            if let Some(cell) = self.ram.atomic_u32(offset) {
                cell.store(value.to_le(), Ordering::Relaxed);
            }
        }
        self.ram.note_write(entry, 8);
        self.position.next_used = self.position.next_used.wrapping_add(1);
        // Release: the driver that sees the new idx sees the entry and the buffers' contents too.
        self.store(self.used + IDX, self.position.next_used, Ordering::Release);
    }

    /// Whether the driver wants an interrupt for what was completed since the last call (§2.7.7).
    pub fn take_interrupt(&mut self) -> bool {
        let (old, new) = (self.position.signalled, self.position.next_used);
        if old == new {
            return false;
        }
        self.position.signalled = new;
        // Closes the race with a driver that re-enables interrupts: it stores used_event (or flags), fences, and looks
        // at used.idx once more; here used.idx is stored before the fence and used_event loaded after it. One of the
        // two sides must see the other's store. A release store alone may be delayed past the load below, and both
        // sides would sleep.
        fence(Ordering::SeqCst);
        if self.event_idx {
            let event = self.load(self.available + ENTRIES + 2 * u64::from(self.size), Ordering::Relaxed);
            // vring_need_event() of §2.7.10.1: event is in old..new.
            new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
        } else {
            self.load(self.available + FLAGS, Ordering::Relaxed) & ring::AVAIL_F_NO_INTERRUPT == 0
        }
    }

    /// Tells the driver that notifications are not needed, while the device polls the queue anyway.
    pub fn disable_notifications(&mut self) {
        // With event indices nothing is to be done: avail_event stays where the driver has passed it.
        if !self.event_idx {
            self.store(self.used + FLAGS, ring::USED_F_NO_NOTIFY, Ordering::Relaxed);
        }
    }

    /// Asks for a notification of the next available chain. Returns whether chains are there already, for which none
    /// will come: the caller must take them.
    pub fn enable_notifications(&mut self) -> Result<bool, QueueError> {
        if self.event_idx {
            let avail_event = self.used + ENTRIES + 8 * u64::from(self.size);
            self.store(avail_event, self.position.next_available, Ordering::Relaxed);
        } else {
            self.store(self.used + FLAGS, 0, Ordering::Relaxed);
        }
        // Closes the race with a driver that adds a chain: it stores avail.idx, fences, and loads avail_event (or
        // flags) to see whether to notify; here that is stored before the fence and avail.idx loaded after it. One of
        // the two sides must see the other's store, so a chain is either found here or notified.
        fence(Ordering::SeqCst);
        Ok(self.pending()? != 0)
    }
}
