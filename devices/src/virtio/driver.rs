//! A virtio driver for tests: it initialises a device through its registers as Linux does, builds rings in guest RAM
//! and waits for what comes back.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering, fence};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bus::{Device, InterruptSink, IrqLine, Ram, Scattered, Width};

use super::spec::{feature, mmio as reg, ring, status};
use super::{VirtioDevice, VirtioMmio};
use crate::backend::disk::Disk;
use crate::lock;

/// Guest-physical address of RAM.
pub const RAM_BASE: u64 = 0x8000_0000;
/// Bytes of RAM.
pub const RAM_SIZE: u64 = 1 << 20;
/// Free memory of a test: what lies below is the rings'.
pub const DATA: u64 = RAM_BASE + 0x1_0000;
/// All that a test waits for comes within this time.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until `condition` holds.
#[track_caller]
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "{what} did not happen");
        std::thread::yield_now();
    }
}

/// An interrupt controller's input that counts rising edges.
#[derive(Default)]
pub struct Wire {
    level: AtomicBool,
    edges: AtomicU32,
}

impl InterruptSink for Wire {
    fn set_level(&self, _source: u32, level: bool) {
        if !self.level.swap(level, Ordering::SeqCst) && level {
            self.edges.fetch_add(1, Ordering::SeqCst);
        }
    }
}

impl Wire {
    pub fn level(&self) -> bool {
        self.level.load(Ordering::SeqCst)
    }

    pub fn edges(&self) -> u32 {
        self.edges.load(Ordering::SeqCst)
    }
}

/// The driver's side of one virtqueue.
#[derive(Clone)]
pub struct Ring {
    pub size: u16,
    pub descriptors: u64,
    pub available: u64,
    pub used: u64,
    next_descriptor: u16,
    pub avail_idx: u16,
    last_used: u16,
}

/// One buffer of a chain.
#[derive(Clone, Copy)]
pub struct Buffer {
    pub address: u64,
    pub length: u32,
    pub writable: bool,
}

pub fn readable(address: u64, length: u32) -> Buffer {
    Buffer { address, length, writable: false }
}

pub fn writable(address: u64, length: u32) -> Buffer {
    Buffer { address, length, writable: true }
}

pub fn descriptor(address: u64, length: u32, flags: u16, next: u16) -> [u8; 16] {
    let value = u128::from(address) | u128::from(length) << 64 | u128::from(flags) << 96 | u128::from(next) << 112;
    value.to_le_bytes()
}

/// A driver with its device and the machine around them.
pub struct Driver {
    pub ram: Ram,
    pub wire: Arc<Wire>,
    pub mmio: VirtioMmio,
    pub features: u64,
    pub rings: Vec<Ring>,
}

impl Driver {
    /// A machine with `device`, not yet initialised.
    pub fn new(device: Box<dyn VirtioDevice>) -> Self {
        let ram = Ram::new(RAM_BASE, RAM_SIZE).unwrap();
        let wire = Arc::new(Wire::default());
        let mmio = VirtioMmio::new(device, ram.clone(), IrqLine::new(wire.clone(), 1));
        Self { ram, wire, mmio, features: 0, rings: Vec::new() }
    }

    /// Another machine with `device`, whose RAM is a copy of this one's, and which remembers its rings.
    pub fn clone_with(&self, device: Box<dyn VirtioDevice>) -> Self {
        let mut other = Self::new(device);
        let mut bytes = vec![0; RAM_SIZE as usize];
        self.ram.read(RAM_BASE, &mut bytes).unwrap();
        other.ram.write(RAM_BASE, &bytes).unwrap();
        other.features = self.features;
        other.rings = self.rings.clone();
        other
    }

    pub fn read(&self, register: u64) -> u32 {
        self.mmio.read(register, Width::Word) as u32
    }

    pub fn write(&self, register: u64, value: u32) {
        self.mmio.write(register, Width::Word, value.into());
    }

    pub fn status(&self) -> u32 {
        self.read(reg::STATUS)
    }

    pub fn add_status(&self, bits: u32) {
        self.write(reg::STATUS, self.status() | bits);
    }

    pub fn offered(&self) -> u64 {
        let half = |select| {
            self.write(reg::DEVICE_FEATURES_SEL, select);
            u64::from(self.read(reg::DEVICE_FEATURES))
        };
        half(0) | half(1) << 32
    }

    /// Reset to FEATURES_OK, accepting what is in `accept` and on offer (§3.1.1).
    pub fn negotiate(&mut self, accept: u64) {
        assert_eq!((self.read(reg::MAGIC_VALUE), self.read(reg::VERSION)), (0x7472_6976, 2));
        self.write(reg::STATUS, 0);
        assert_eq!(self.status(), 0);
        self.add_status(status::ACKNOWLEDGE);
        self.add_status(status::DRIVER);
        self.features = self.offered() & (accept | feature::VERSION_1);
        for half in [1, 0] {
            self.write(reg::DRIVER_FEATURES_SEL, half);
            self.write(reg::DRIVER_FEATURES, (self.features >> (32 * half)) as u32);
        }
        self.add_status(status::FEATURES_OK);
        assert_ne!(self.status() & status::FEATURES_OK, 0);
        self.rings.clear();
    }

    /// Sets up the next queue with up to `size` descriptors.
    pub fn add_queue(&mut self, size: u16) {
        let index = self.rings.len() as u16;
        self.write(reg::QUEUE_SEL, index.into());
        assert_eq!(self.read(reg::QUEUE_READY), 0);
        let size = size.min(self.read(reg::QUEUE_SIZE_MAX) as u16);
        let descriptors = RAM_BASE + 0x4000 * u64::from(index);
        let (available, used) = (descriptors + 0x1000, descriptors + 0x2000);
        self.ram.write(descriptors, &[0; 0x3000]).unwrap();
        let (next_descriptor, avail_idx, last_used) = (0, 0, 0);
        let ring = Ring { size, descriptors, available, used, next_descriptor, avail_idx, last_used };
        self.write_layout(&ring);
        self.write(reg::QUEUE_READY, 1);
        assert_eq!(self.read(reg::QUEUE_READY), 1);
        self.rings.push(ring);
    }

    /// Writes the layout registers of the selected queue.
    pub fn write_layout(&self, ring: &Ring) {
        self.write(reg::QUEUE_SIZE, ring.size.into());
        for (low, address) in [
            (reg::QUEUE_DESC_LOW, ring.descriptors),
            (reg::QUEUE_DRIVER_LOW, ring.available),
            (reg::QUEUE_DEVICE_LOW, ring.used),
        ] {
            self.write(low, address as u32);
            self.write(low + 4, (address >> 32) as u32);
        }
    }

    /// The whole initialisation: every queue with up to `size` descriptors.
    pub fn initialise(&mut self, accept: u64, size: u16) {
        self.negotiate(accept);
        loop {
            self.write(reg::QUEUE_SEL, self.rings.len() as u32);
            if self.read(reg::QUEUE_SIZE_MAX) == 0 {
                break;
            }
            self.add_queue(size);
        }
        self.add_status(status::DRIVER_OK);
    }

    fn put_u16(&self, address: u64, value: u16, order: Ordering) {
        self.ram.atomic_u16(address - RAM_BASE).unwrap().store(value.to_le(), order);
    }

    fn get_u16(&self, address: u64, order: Ordering) -> u16 {
        u16::from_le(self.ram.atomic_u16(address - RAM_BASE).unwrap().load(order))
    }

    pub fn put_descriptor(&self, queue: usize, index: u16, bytes: [u8; 16]) {
        self.ram.write(self.rings[queue].descriptors + 16 * u64::from(index), &bytes).unwrap();
    }

    fn take_descriptor(&mut self, queue: usize) -> u16 {
        let ring = &mut self.rings[queue];
        let index = ring.next_descriptor;
        ring.next_descriptor = (index + 1) % ring.size;
        index
    }

    /// Makes the chain that begins at descriptor `head` available, without a notification.
    pub fn expose(&mut self, queue: usize, head: u16) {
        let ring = &mut self.rings[queue];
        let entry = ring.available + 4 + 2 * u64::from(ring.avail_idx % ring.size);
        ring.avail_idx = ring.avail_idx.wrapping_add(1);
        let (idx, value) = (ring.available + 2, ring.avail_idx);
        self.put_u16(entry, head, Ordering::Relaxed);
        self.put_u16(idx, value, Ordering::Release);
    }

    /// Adds a chain of `buffers`, without a notification.
    pub fn add(&mut self, queue: usize, buffers: &[Buffer]) -> u16 {
        let indices: Vec<u16> = buffers.iter().map(|_| self.take_descriptor(queue)).collect();
        for (i, buffer) in buffers.iter().enumerate() {
            let next = indices.get(i + 1);
            let flags = if buffer.writable { ring::DESC_F_WRITE } else { 0 }
                | if next.is_some() { ring::DESC_F_NEXT } else { 0 };
            let next = next.copied().unwrap_or(0xdead);
            self.put_descriptor(queue, indices[i], descriptor(buffer.address, buffer.length, flags, next));
        }
        self.expose(queue, indices[0]);
        indices[0]
    }

    /// Adds a chain of `buffers` in an indirect table at `table`, without a notification.
    pub fn add_indirect(&mut self, queue: usize, table: u64, buffers: &[Buffer]) -> u16 {
        for (i, buffer) in buffers.iter().enumerate() {
            let more = i + 1 < buffers.len();
            let flags = if buffer.writable { ring::DESC_F_WRITE } else { 0 } | if more { ring::DESC_F_NEXT } else { 0 };
            let bytes = descriptor(buffer.address, buffer.length, flags, i as u16 + 1);
            self.ram.write(table + 16 * i as u64, &bytes).unwrap();
        }
        let head = self.take_descriptor(queue);
        let length = 16 * buffers.len() as u32;
        self.put_descriptor(queue, head, descriptor(table, length, ring::DESC_F_INDIRECT, 0));
        self.expose(queue, head);
        head
    }

    pub fn notify(&self, queue: usize) {
        self.write(reg::QUEUE_NOTIFY, queue as u32);
    }

    /// Whether the device has asked to be notified of the chains after `old` (§2.7.10).
    pub fn wants_notification(&self, queue: usize, old: u16) -> bool {
        let ring = &self.rings[queue];
        fence(Ordering::SeqCst);
        if self.features & feature::EVENT_IDX != 0 {
            let event = self.get_u16(ring.used + 4 + 8 * u64::from(ring.size), Ordering::Relaxed);
            ring.avail_idx.wrapping_sub(event).wrapping_sub(1) < ring.avail_idx.wrapping_sub(old)
        } else {
            self.get_u16(ring.used, Ordering::Relaxed) & ring::USED_F_NO_NOTIFY == 0
        }
    }

    /// Asks for an interrupt when `used.idx` passes `index` (event indices).
    pub fn set_used_event(&self, queue: usize, index: u16) {
        let ring = &self.rings[queue];
        self.put_u16(ring.available + 4 + 2 * u64::from(ring.size), index, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Sets the flags of the available ring.
    pub fn set_avail_flags(&self, queue: usize, flags: u16) {
        self.put_u16(self.rings[queue].available, flags, Ordering::SeqCst);
    }

    pub fn used_idx(&self, queue: usize) -> u16 {
        self.get_u16(self.rings[queue].used + 2, Ordering::Acquire)
    }

    /// The next used entry, if there is one: head and length.
    pub fn take_used(&mut self, queue: usize) -> Option<(u32, u32)> {
        let idx = self.used_idx(queue);
        let ring = &mut self.rings[queue];
        if idx == ring.last_used {
            return None;
        }
        let entry = ring.used + 4 + 8 * u64::from(ring.last_used % ring.size) - RAM_BASE;
        ring.last_used = ring.last_used.wrapping_add(1);
        Some((self.ram.load_u32(entry).unwrap(), self.ram.load_u32(entry + 4).unwrap()))
    }

    /// Waits for the next used entry.
    #[track_caller]
    pub fn wait_used(&mut self, queue: usize) -> (u32, u32) {
        let mut used = None;
        wait_until("a used buffer", || {
            used = self.take_used(queue);
            used.is_some()
        });
        used.unwrap()
    }

    /// Adds a chain, notifies, and waits for it to come back. Returns the used length.
    #[track_caller]
    pub fn run(&mut self, queue: usize, buffers: &[Buffer]) -> u32 {
        let head = self.add(queue, buffers);
        self.notify(queue);
        let (id, length) = self.wait_used(queue);
        assert_eq!(id, u32::from(head));
        length
    }

    pub fn bytes(&self, address: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.ram.read(address, &mut bytes).unwrap();
        bytes
    }

    #[track_caller]
    pub fn wait_needs_reset(&self) {
        wait_until("DEVICE_NEEDS_RESET", || self.status() & status::DEVICE_NEEDS_RESET != 0);
        assert_ne!(self.read(reg::INTERRUPT_STATUS) & reg::INTERRUPT_CONFIG, 0, "with a configuration interrupt");
        assert!(self.wire.level());
    }
}

/// A disk in memory that can be made to fail, and to wait.
pub struct TestDisk {
    pub data: Mutex<Vec<u8>>,
    pub read_only: bool,
    pub failing: AtomicBool,
    /// Everything is in memory: reads answer at once, writes do not wait.
    pub cached: AtomicBool,
    /// While locked, disk operations wait.
    pub gate: Mutex<()>,
    /// Operations that have begun.
    pub begun: AtomicU32,
    pub flushes: AtomicU32,
    pub discards: Mutex<Vec<(u64, u64)>>,
}

impl TestDisk {
    /// `sectors` sectors, each byte of a sector being the sector's number.
    pub fn new(sectors: usize, read_only: bool) -> Arc<Self> {
        let data = (0..sectors).flat_map(|sector| [sector as u8; 512]).collect();
        Arc::new(Self {
            data: Mutex::new(data),
            read_only,
            failing: AtomicBool::new(false),
            cached: AtomicBool::new(false),
            gate: Mutex::new(()),
            begun: AtomicU32::new(0),
            flushes: AtomicU32::new(0),
            discards: Mutex::default(),
        })
    }

    fn operate(&self) -> std::io::Result<std::sync::MutexGuard<'_, Vec<u8>>> {
        self.begun.fetch_add(1, Ordering::SeqCst);
        drop(lock(&self.gate));
        if self.failing.load(Ordering::SeqCst) {
            return Err(std::io::Error::other("the test disk is told to fail"));
        }
        Ok(lock(&self.data))
    }
}

impl Disk for TestDisk {
    fn size(&self) -> u64 {
        lock(&self.data).len() as u64
    }

    fn read_only(&self) -> bool {
        self.read_only
    }

    fn name(&self) -> String {
        "a test's disk".into()
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> std::io::Result<()> {
        let data = self.operate()?;
        bytes.copy_from_slice(&data[offset as usize..][..bytes.len()]);
        Ok(())
    }

    fn read_now(&self, offset: u64, target: &Scattered) -> std::io::Result<u64> {
        if !self.cached.load(Ordering::SeqCst) {
            return Ok(0);
        }
        let data = self.operate()?;
        target.write(&data[offset as usize..][..target.len() as usize]).unwrap();
        Ok(target.len())
    }

    fn writes_wait(&self) -> bool {
        !self.cached.load(Ordering::SeqCst)
    }

    fn write_from(&self, offset: u64, source: &Scattered) -> std::io::Result<()> {
        assert!(!self.read_only && !self.writes_wait());
        source.read(&mut self.operate()?[offset as usize..][..source.len() as usize]).unwrap();
        Ok(())
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> std::io::Result<()> {
        assert!(!self.read_only);
        self.operate()?[offset as usize..][..bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn flush(&self) -> std::io::Result<()> {
        drop(self.operate()?);
        self.flushes.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    fn discard(&self, offset: u64, length: u64) -> std::io::Result<()> {
        assert!(offset + length <= self.operate()?.len() as u64);
        lock(&self.discards).push((offset, length));
        Ok(())
    }

    fn write_zeroes(&self, offset: u64, length: u64, _may_unmap: bool) -> std::io::Result<()> {
        self.operate()?[offset as usize..][..length as usize].fill(0);
        Ok(())
    }
}
