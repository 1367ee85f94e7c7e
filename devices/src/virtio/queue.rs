//! The split virtqueue, device side (virtio 1.3 §2.7), over guest RAM.
//!
//! Everything in a ring is written by the guest at any time, also while it is read here. So each value is loaded once,
//! checked, and used from the copy. What the format forbids is a [`QueueError`]; the device then asks for a reset
//! (§2.1.2). A [`Chain`] holds at most as many buffers as the device's largest queue, all of them inside RAM and less
//! than 4 GiB together: no guest can make the device loop, over-allocate, or reach anything but RAM.

use std::sync::atomic::{Ordering, fence};

use bus::{Piece, Ram, Scattered};
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
    /// The buffers of a chain are 4 GiB or more together: more than `used.len` can tell (§2.7.5.2, §2.7.8).
    #[error("a descriptor chain of 4 GiB or more")]
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

/// The buffers of one request in one direction, seen as one run of bytes: the framing is the driver's own business
/// (§2.7.4.1).
#[derive(Debug, Default)]
pub struct Buffers {
    pieces: Vec<Piece>,
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

    fn push(&mut self, piece: Piece) {
        self.length += piece.length;
        self.pieces.push(piece);
    }

    /// The run, in guest memory.
    pub fn run<'a>(&'a self, ram: &'a Ram) -> Scattered<'a> {
        Scattered::new(ram, &self.pieces)
    }

    fn run_from<'a>(&'a self, ram: &'a Ram, at: u64) -> Option<Scattered<'a>> {
        (at <= self.length).then(|| self.run(ram).part(at, u64::MAX))
    }

    /// Copies bytes from guest memory, beginning `at` bytes into the run. `None` if they are not all there.
    pub fn read(&self, ram: &Ram, at: u64, bytes: &mut [u8]) -> Option<()> {
        self.run_from(ram, at)?.read(bytes)
    }

    /// Copies `bytes` to guest memory, beginning `at` bytes into the run. `None` if they do not all fit.
    pub fn write(&self, ram: &Ram, at: u64, bytes: &[u8]) -> Option<()> {
        self.run_from(ram, at)?.write(bytes)
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
            Some(offset) if address.is_multiple_of(alignment) => Ok(offset),
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
            self.ram.announce_write();
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

    /// Makes the chain that [`Queue::pop`] returned last the next one again.
    pub fn undo_pop(&mut self) {
        self.position.next_available = self.position.next_available.wrapping_sub(1);
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
                    || !u64::from(length).is_multiple_of(ring::DESCRIPTOR_SIZE)
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
                let piece = Piece { address, length: length.into() };
                if flags & ring::DESC_F_WRITE != 0 {
                    chain.writable.push(piece);
                } else if chain.writable.is_empty() {
                    chain.readable.push(piece);
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
        self.complete_all(&[(head, written)]);
    }

    /// Gives several chains back, heads with bytes written, so that the driver sees all of them or none.
    pub fn complete_all(&mut self, chains: &[(u16, u32)]) {
        for &(head, written) in chains {
            let entry = self.used + ENTRIES + 8 * self.slot(self.position.next_used);
            for (offset, value) in [(entry, u32::from(head)), (entry + 4, written)] {
                if let Some(cell) = self.ram.atomic_u32(offset) {
                    cell.store(value.to_le(), Ordering::Relaxed);
                }
            }
            self.ram.note_write(entry, 8);
            self.position.next_used = self.position.next_used.wrapping_add(1);
        }
        // Release: the driver that sees the new idx sees the entries and the buffers' contents too.
        self.store(self.used + IDX, self.position.next_used, Ordering::Release);
    }

    /// Whether something was completed since the last call of [`Queue::take_interrupt`].
    pub fn has_completed(&self) -> bool {
        self.position.signalled != self.position.next_used
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::driver::descriptor;
    use super::*;

    const BASE: u64 = 0x8000_0000;
    const SIZE: u64 = 0x1_0000;
    const LAYOUT: QueueLayout =
        QueueLayout { size: 8, descriptors: BASE, available: BASE + 0x1000, used: BASE + 0x2000 };
    const DATA: u64 = BASE + 0x4000;
    const MAX: u16 = 16;

    fn ram() -> Ram {
        Ram::new(BASE, SIZE).unwrap()
    }

    fn queue(ram: &Ram, features: u64) -> Queue {
        Queue::new(ram, &LAYOUT, MAX, features).unwrap()
    }

    /// Puts `table` into the descriptor table and makes `heads` available.
    fn fill(ram: &Ram, table: &[[u8; 16]], heads: &[u16]) {
        ram.write(BASE, &table.concat()).unwrap();
        for (i, head) in heads.iter().enumerate() {
            ram.store_u16(0x1004 + 2 * (i as u64 % 8), *head).unwrap();
        }
        ram.store_u16(0x1002, heads.len() as u16).unwrap();
    }

    fn pop(features: u64, table: &[[u8; 16]]) -> Result<Option<Chain>, QueueError> {
        let ram = ram();
        fill(&ram, table, &[0]);
        queue(&ram, features).pop()
    }

    #[test]
    fn malformed_rings_are_refused() {
        let ram = ram();
        let try_layout = |layout| Queue::new(&ram, &layout, MAX, 0).map(|_| ());
        assert_eq!(try_layout(LAYOUT), Ok(()));
        for size in [0, 3, 32, 1 << 16, u32::MAX] {
            assert_eq!(try_layout(QueueLayout { size, ..LAYOUT }), Err(QueueError::Size { size, max: MAX }));
        }
        let end = BASE + SIZE;
        for address in [0, BASE - 16, BASE + 8, end - 127, end - 112, end, u64::MAX - 15, u64::MAX] {
            let part = QueueError::Ring { part: "descriptor table", address };
            assert_eq!(try_layout(QueueLayout { descriptors: address, ..LAYOUT }), Err(part));
        }
        for address in [0, BASE + 1, end - 20, u64::MAX - 1] {
            let part = QueueError::Ring { part: "available ring", address };
            assert_eq!(try_layout(QueueLayout { available: address, ..LAYOUT }), Err(part));
        }
        for address in [0, BASE + 2, end - 68, u64::MAX - 3] {
            let part = QueueError::Ring { part: "used ring", address };
            assert_eq!(try_layout(QueueLayout { used: address, ..LAYOUT }), Err(part));
        }
        let last = QueueLayout { size: 8, descriptors: end - 128, available: end - 22, used: BASE + SIZE - 72 };
        assert_eq!(try_layout(last), Ok(()), "a ring may end where RAM ends");
    }

    #[test]
    fn malformed_chains_are_refused() {
        const NEXT: u16 = ring::DESC_F_NEXT;
        const WRITE: u16 = ring::DESC_F_WRITE;
        const INDIRECT: u16 = ring::DESC_F_INDIRECT;
        let error = |features, table: &[[u8; 16]]| pop(features, table).unwrap_err();

        let to_itself = [descriptor(DATA, 4, NEXT, 0)];
        assert_eq!(error(0, &to_itself), QueueError::ChainLength { max: MAX.into() });
        let circle = [descriptor(DATA, 4, NEXT, 1), descriptor(DATA, 4, NEXT, 0)];
        assert_eq!(error(0, &circle), QueueError::ChainLength { max: MAX.into() });
        let empty_circle = [descriptor(DATA, 0, NEXT, 0)];
        assert_eq!(error(0, &empty_circle), QueueError::ChainLength { max: MAX.into() });
        assert_eq!(error(0, &[descriptor(DATA, 4, NEXT, 8)]), QueueError::DescriptorIndex { index: 8, size: 8 });
        for (address, length) in [
            (0, 1),
            (BASE - 1, 2),
            (BASE + SIZE - 1, 2),
            (BASE, SIZE as u32 + 1),
            (BASE, u32::MAX),
            (u64::MAX, 1),
            (u64::MAX - 3, 8),
        ] {
            for flags in [0, WRITE] {
                assert_eq!(error(0, &[descriptor(address, length, flags, 0)]), QueueError::Buffer { address, length });
            }
        }
        let order = [descriptor(DATA, 4, WRITE | NEXT, 1), descriptor(DATA, 4, 0, 0)];
        assert_eq!(error(0, &order), QueueError::Order);

        let indirect = |flags, address, length| {
            let table = [descriptor(address, length, INDIRECT | flags, 1), descriptor(DATA, 4, 0, 0)];
            assert_eq!(error(feature::INDIRECT_DESC, &table), QueueError::Indirect { address, length });
        };
        indirect(NEXT, DATA, 16);
        indirect(0, DATA, 0);
        indirect(0, DATA, 17);
        indirect(0, BASE + SIZE - 16, 32);
        indirect(0, 0, 16);
        indirect(0, DATA, u32::MAX - 15);
        let not_negotiated = [descriptor(DATA, 16, INDIRECT, 0)];
        assert!(matches!(error(0, &not_negotiated), QueueError::Indirect { .. }));
    }

    #[test]
    fn malformed_indirect_tables_are_refused() {
        let try_table = |table: &[[u8; 16]]| {
            let ram = ram();
            ram.write(DATA, &table.concat()).unwrap();
            fill(&ram, &[descriptor(DATA, 16 * table.len() as u32, ring::DESC_F_INDIRECT, 0)], &[0]);
            queue(&ram, feature::INDIRECT_DESC).pop()
        };
        let nested = [descriptor(DATA, 16, ring::DESC_F_INDIRECT, 0)];
        assert!(matches!(try_table(&nested), Err(QueueError::Indirect { .. })));
        let outside = [descriptor(DATA, 1, ring::DESC_F_NEXT, 1)];
        assert!(matches!(try_table(&outside), Err(QueueError::DescriptorIndex { index: 1, size: 1 })));
        let circle = [descriptor(DATA, 1, ring::DESC_F_NEXT, 1), descriptor(DATA, 1, ring::DESC_F_NEXT, 0)];
        assert!(matches!(try_table(&circle), Err(QueueError::ChainLength { .. })));
        let table = |count: u16| (1..=count).map(|i| descriptor(DATA, 1, u16::from(i < count), i)).collect::<Vec<_>>();
        assert_eq!(
            try_table(&table(MAX)).unwrap().unwrap().readable.len(),
            u64::from(MAX),
            "more than the queue's size"
        );
        assert!(matches!(try_table(&table(MAX + 1)), Err(QueueError::ChainLength { .. })));
    }

    #[test]
    fn a_bad_available_index_or_head_is_refused() {
        let ram = ram();
        let mut queue = queue(&ram, 0);
        ram.store_u16(0x1002, 9).unwrap();
        assert_eq!(queue.pop().unwrap_err(), QueueError::AvailableIndex { index: 9, next: 0 });
        assert!(queue.enable_notifications().is_err());
        ram.store_u16(0x1002, u16::MAX).unwrap();
        assert!(matches!(queue.pop(), Err(QueueError::AvailableIndex { .. })));
        fill(&ram, &[], &[8]);
        assert!(matches!(queue.pop(), Err(QueueError::DescriptorIndex { index: 8, .. })));
    }

    #[test]
    fn chains_of_4_gib_are_refused() {
        // As much RAM as is cheap: the host provides pages as they are touched, and none is.
        let ram = Ram::new(BASE, 1 << 30).unwrap();
        let table: Vec<_> = (1..=4).map(|i| descriptor(BASE, 1 << 30, u16::from(i < 4), i)).collect();
        fill(&ram, &table, &[0, 1]);
        let mut queue = queue(&ram, 0);
        assert_eq!(queue.pop().unwrap_err(), QueueError::ChainBytes);
        queue.position.next_available = 1;
        assert_eq!(queue.pop().unwrap().unwrap().readable.len(), 3 << 30);
    }

    #[test]
    fn buffers_are_one_run_of_bytes() {
        let ram = ram();
        let flags = ring::DESC_F_NEXT | ring::DESC_F_WRITE;
        let table = [
            descriptor(DATA, 3, flags, 1),
            descriptor(0, 0, flags, 2),
            descriptor(DATA + 0x100, 5, flags, 3),
            descriptor(DATA + 0x200, 1, ring::DESC_F_WRITE, 0),
        ];
        fill(&ram, &table, &[0]);
        let chain = queue(&ram, 0).pop().unwrap().unwrap();
        assert_eq!((chain.readable.len(), chain.writable.len()), (0, 9));
        for at in 0..=9 {
            for length in 0..=10 {
                ram.write(DATA, &[0; 0x300]).unwrap();
                let bytes: Vec<u8> = (1..=length as u8).collect();
                let fits = at + length as u64 <= 9;
                assert_eq!(chain.writable.write(&ram, at, &bytes).is_some(), fits, "{length} at {at}");
                let mut run = [0; 9];
                for (range, address) in [(0..3, DATA), (3..8, DATA + 0x100), (8..9, DATA + 0x200)] {
                    ram.read(address, &mut run[range]).unwrap();
                }
                if fits {
                    assert_eq!(run[at as usize..][..length], bytes);
                    let mut back = vec![0; length];
                    chain.writable.read(&ram, at, &mut back).unwrap();
                    assert_eq!(back, bytes);
                }
                assert_eq!(run.iter().filter(|byte| **byte != 0).count(), if fits { length } else { 0 });
            }
        }
        assert!(chain.writable.write(&ram, u64::MAX, &[1]).is_none());
    }

    #[test]
    fn indices_wrap() {
        let ram = ram();
        let mut queue = queue(&ram, feature::EVENT_IDX);
        let start = QueuePosition { next_available: 0xfffe, next_used: 0xfffe, signalled: 0xfffe };
        queue.set_position(start);
        ram.write(BASE, &descriptor(DATA, 4, 0, 0)).unwrap();
        ram.store_u16(0x1002, 2).unwrap();
        let mut taken = 0;
        while let Some(chain) = queue.pop().unwrap() {
            queue.complete(chain.head, taken);
            taken += 1;
        }
        assert_eq!((taken, ram.load_u16(0x2002)), (4, Some(2)));
        // Entries 6, 7, 0 and 1.
        let lengths: Vec<_> = [6, 7, 0, 1].map(|slot| ram.load_u32(0x2004 + 8 * slot + 4).unwrap()).into();
        assert_eq!(lengths, [0, 1, 2, 3]);
        ram.store_u16(0x1004 + 16, 0xffff).unwrap();
        assert!(queue.take_interrupt(), "used_event 0xffff was passed on the way from 0xfffe to 2");
        assert!(!queue.take_interrupt());
        assert!(!queue.enable_notifications().unwrap());
        assert_eq!(ram.load_u16(0x2004 + 64), Some(2), "avail_event");
    }

    #[test]
    fn an_interrupt_is_sent_when_used_event_is_passed_and_only_then() {
        for start in [0u16, 0xfffd] {
            for event in 0..6u16 {
                let ram = ram();
                let mut queue = queue(&ram, feature::EVENT_IDX);
                queue.set_position(QueuePosition { next_available: start, next_used: start, signalled: start });
                ram.store_u16(0x1004 + 16, start.wrapping_add(event)).unwrap();
                for completed in 0..6u16 {
                    queue.complete(0, 0);
                    assert_eq!(queue.take_interrupt(), completed == event, "{completed} of {event}");
                }
            }
        }
    }

    #[test]
    fn flags_suppress_without_event_indices() {
        let ram = ram();
        let mut queue = queue(&ram, 0);
        queue.complete(0, 0);
        assert!(queue.take_interrupt());
        ram.store_u16(0x1000, ring::AVAIL_F_NO_INTERRUPT).unwrap();
        queue.complete(0, 0);
        assert!(!queue.take_interrupt());
        queue.disable_notifications();
        assert_eq!(ram.load_u16(0x2000), Some(ring::USED_F_NO_NOTIFY));
        queue.enable_notifications().unwrap();
        assert_eq!(ram.load_u16(0x2000), Some(0));
    }

    #[test]
    fn writes_to_the_used_ring_are_heard() {
        let ram = ram();
        // The entries begin on another page than idx.
        let mut queue = Queue::new(&ram, &QueueLayout { used: BASE + 0x2ffc, ..LAYOUT }, MAX, 0).unwrap();
        for page in [0x2000, 0x3000] {
            ram.set_flag(page, bus::PageFlags::CODE);
        }
        queue.complete(0, 0);
        assert_eq!((ram.code_version(0x2000), ram.code_version(0x3000)), (1, 1));
    }

    /// Lets `device` and `driver` run at the same moment, again and again; in each round one of them must see what the
    /// other did, or both would wait for ever.
    fn race(mut device: impl FnMut(u16) -> bool, mut driver: impl FnMut(u16) -> bool + Send) {
        use std::sync::atomic::{AtomicBool, AtomicU32};
        let (arrived, over, seen) = (AtomicU32::new(0), AtomicBool::new(false), AtomicBool::new(false));
        // Both leave together: a barrier that sleeps would put them too far apart to race.
        let meet = |count: u32| {
            arrived.fetch_add(1, Ordering::SeqCst);
            for spins in 0u32.. {
                if arrived.load(Ordering::SeqCst) >= count {
                    break;
                }
                if spins > 2000 { std::thread::yield_now() } else { std::hint::spin_loop() }
            }
        };
        // One leaves the barrier a little earlier: all small distances are tried.
        let drift = |spins: u32| (0..spins).for_each(|i| _ = std::hint::black_box(i));
        let end = std::time::Instant::now() + std::time::Duration::from_secs(1);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for round in 0u32.. {
                    meet(4 * round + 2);
                    drift(round * 7 % 97);
                    let saw = driver(round as u16);
                    seen.store(saw, Ordering::SeqCst);
                    meet(4 * round + 4);
                    if over.load(Ordering::SeqCst) {
                        break;
                    }
                }
            });
            let mut missed = None;
            for round in 0u32.. {
                meet(4 * round + 2);
                drift(round * 5 % 89);
                let saw = device(round as u16);
                let last = round == 1 << 20 || missed.is_some() || std::time::Instant::now() > end;
                over.store(last, Ordering::SeqCst);
                meet(4 * round + 4);
                if !saw && !seen.load(Ordering::SeqCst) && missed.is_none() {
                    missed = Some(round);
                }
                if last {
                    break;
                }
            }
            assert_eq!(missed, None, "in this round neither side saw the other");
        });
    }

    #[test]
    fn an_interrupt_is_not_lost_to_a_driver_that_goes_to_sleep() {
        let ram = ram();
        let mut queue = queue(&ram, feature::EVENT_IDX);
        ram.store_u16(0x1004 + 16, 0xffff).unwrap();
        let device = |_| {
            queue.complete(0, 0);
            queue.take_interrupt()
        };
        race(device, |round| {
            ram.store_u16(0x1004 + 16, round).unwrap();
            fence(Ordering::SeqCst);
            ram.load_u16(0x2002) != Some(round)
        });
    }

    #[test]
    fn a_notification_is_not_lost_to_a_device_that_goes_to_sleep() {
        let ram = ram();
        let mut queue = queue(&ram, feature::EVENT_IDX);
        ram.store_u16(0x2004 + 64, 0xffff).unwrap();
        let device = |round: u16| {
            queue.position.next_available = round;
            queue.enable_notifications().unwrap()
        };
        race(device, |round| {
            ram.store_u16(0x1002, round.wrapping_add(1)).unwrap();
            fence(Ordering::SeqCst);
            ram.load_u16(0x2004 + 64) == Some(round)
        });
    }

    fn any_address() -> impl Strategy<Value = u64> {
        prop_oneof![
            8 => BASE..BASE + SIZE,
            2 => (BASE..BASE + SIZE).prop_map(|address| address & !15),
            1 => (BASE - 64)..BASE + 64,
            1 => (BASE + SIZE - 64)..BASE + SIZE + 64,
            1 => any::<u64>(),
        ]
    }

    fn any_descriptor() -> impl Strategy<Value = [u8; 16]> {
        let length = prop_oneof![6 => 0..64u32, 2 => (1..20u32).prop_map(|n| 16 * n), 1 => any::<u32>()];
        let flags = prop_oneof![9 => 0..8u16, 1 => any::<u16>()];
        let next = prop_oneof![9 => 0..8u16, 1 => any::<u16>()];
        (any_address(), length, flags, next).prop_map(|(a, l, f, n)| descriptor(a, l, f, n))
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_table_leads_out_of_ram(
            table in prop::collection::vec(any_descriptor(), 8),
            indirect in prop::collection::vec(any_descriptor(), 24),
            heads in prop::collection::vec(0..9u16, 0..9),
            features in prop::sample::select(vec![0, feature::INDIRECT_DESC, feature::INDIRECT_DESC | feature::EVENT_IDX]),
        ) {
            let ram = ram();
            // All of free RAM is full of descriptors, so that indirect tables are found wherever they are sought.
            for (i, descriptor) in indirect.iter().cycle().take(0xc00).enumerate() {
                ram.write(DATA + 16 * i as u64, descriptor).unwrap();
            }
            fill(&ram, &table, &heads);
            let mut queue = queue(&ram, features);
            let mut popped = 0;
            while let Ok(Some(chain)) = queue.pop() {
                popped += 1;
                prop_assert!(popped <= heads.len(), "no chain is taken twice");
                let (readable, writable) = (&chain.readable, &chain.writable);
                prop_assert!(readable.pieces.len() + writable.pieces.len() <= usize::from(MAX));
                prop_assert!(readable.len() + writable.len() <= u64::from(u32::MAX));
                for piece in readable.pieces.iter().chain(&writable.pieces) {
                    prop_assert!(piece.address >= BASE && piece.address - BASE + piece.length <= SIZE);
                }
                queue.complete(chain.head, 0);
                queue.take_interrupt();
            }
        }
    }
}
