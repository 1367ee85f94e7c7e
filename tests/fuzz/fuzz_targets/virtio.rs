//! Virtio devices behind the memory-mapped transport, with a driver that keeps to the specification or does not.
#![no_main]

use std::sync::{Arc, Mutex};

use bus::device_tree::Placement;
use bus::{Device, Ram, Width};
use devices::backend::memory::MemoryBackend;
use devices::backend::net::{Frame, Link, MacAddress, NetworkEnd, Offload, PartialChecksum, offload};
use devices::virtio::blk::Blk;
use devices::virtio::console::Console;
use devices::virtio::net::{LinkControl, Net};
use devices::virtio::rng::Rng;
use devices::virtio::spec::{mmio as reg, status};
use devices::virtio::{VirtioMmio, Worker};
use fuzz::probes::{Lines, MemoryDisk};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;

const RAM_BASE: u64 = 0x8000_0000;
const RAM_SIZE: u64 = 1 << 20;
/// Of each queue in RAM: descriptors, the available ring, the used ring, a table of indirect descriptors.
const QUEUE_STRIDE: u64 = 0x4000;
const AVAILABLE: u64 = 0x1000;
const USED: u64 = 0x2000;
const INDIRECT: u64 = 0x3000;
/// Where buffers are.
const BUFFERS: u64 = 0x8_0000;
const QUEUES: u64 = 8;

#[derive(Arbitrary, Clone, Copy, Debug, PartialEq)]
enum Kind {
    Blk { read_only: bool },
    Rng,
    Console,
    Net { pairs: u8 },
    Empty,
}

/// A buffer of a chain.
#[derive(Arbitrary, Clone, Copy, Debug)]
struct Buffer {
    place: u16,
    length: u16,
    writable: bool,
    /// Instead of a buffer in the pool, any address and length.
    wild: Option<(u64, u32)>,
}

#[derive(Arbitrary, Clone, Debug)]
enum Step {
    Read(u16, u8),
    Write(u16, u8, u64),
    /// Status, features and queues as a driver sets them up: features to leave out, sizes of queues.
    Initialise(u64, u8),
    /// A queue is set up at an address of the fuzzer's choice.
    QueueAt(u8, u16, [u32; 3]),
    DisableQueue(u8),
    /// A chain of buffers, of which the first begins with these bytes; whether by an indirect table.
    Chain(u8, Vec<Buffer>, Vec<u8>, bool),
    /// A request to the block device: type, sector, buffer, its length in sectors.
    Request(u8, u8, u16, u8),
    Notify(u8),
    /// Any bytes in RAM.
    Poke(u16, u64),
    /// A byte among the rings.
    PokeRing(u8, u16, u16),
    Wait,
    TypeIn(Vec<u8>),
    LimitOutput(u16),
    /// A frame for the guest.
    Frame(Vec<u8>, Option<(u16, u16)>, Option<u16>),
    /// The network takes what the guest has sent.
    TakeFrames,
    Cable(bool),
    Reset,
    PauseAndResume,
    SaveAndRestore,
    Move,
    Damage(u16, u8),
    Foreign(Vec<u8>),
}

struct Network {
    link: Arc<Link>,
    end: Mutex<NetworkEnd>,
}

struct Bench {
    kind: Kind,
    ram: Ram,
    device: VirtioMmio,
    backend: Arc<MemoryBackend>,
    network: Option<(Network, LinkControl)>,
    /// Of each queue the next free descriptor, and the index of the available ring.
    heads: [(u16, u16); QUEUES as usize],
    size: u16,
}

impl Bench {
    fn new(kind: Kind, ram: Ram) -> Self {
        let (lines, backend) = (Arc::<Lines>::default(), MemoryBackend::new());
        let line = lines.line(0);
        let mut network = None;
        let slot = |device| match device {
            Some(device) => VirtioMmio::new(device, ram.clone(), line),
            None => VirtioMmio::empty(ram.clone(), line),
        };
        let device = match kind {
            Kind::Blk { read_only } => {
                let blk = Blk::new(MemoryDisk::new(64, read_only), "serial").expect("a short name");
                slot(Some(Box::new(Worker::new(blk).expect("a thread"))))
            }
            Kind::Rng => slot(Some(Box::new(Worker::new(Rng).expect("a thread")))),
            Kind::Console => slot(Some(Box::new(Worker::new(Console::new(backend.clone())).expect("a thread")))),
            Kind::Net { pairs } => {
                let (link, end) = Link::new(1500, || ());
                let net = Net::new(link.clone(), MacAddress::from_name("fuzz"), (pairs % 4).into());
                network = Some((Network { link, end: Mutex::new(end) }, net.link()));
                slot(Some(Box::new(Worker::new(net).expect("a thread"))))
            }
            Kind::Empty => slot(None),
        };
        Self { kind, ram, device, backend, network, heads: Default::default(), size: 16 }
    }

    fn set(&self, register: u64, value: u32) {
        self.device.write(register, Width::Word, value.into());
    }

    fn get(&self, register: u64) -> u32 {
        self.device.read(register, Width::Word) as u32
    }

    fn initialise(&mut self, without: u64, size: u8) {
        self.set(reg::STATUS, 0);
        let mut state = status::ACKNOWLEDGE | status::DRIVER;
        self.set(reg::STATUS, state);
        for half in 0..2 {
            self.set(reg::DEVICE_FEATURES_SEL, half);
            let offered = self.get(reg::DEVICE_FEATURES);
            self.set(reg::DRIVER_FEATURES_SEL, half);
            // VERSION_1 is bit 0 of the upper half.
            let without = (without >> (32 * half)) as u32 & !half;
            self.set(reg::DRIVER_FEATURES, offered & !without);
        }
        state |= status::FEATURES_OK;
        self.set(reg::STATUS, state);
        self.size = 1 << (size % 6);
        for queue in 0..QUEUES {
            let base = RAM_BASE + queue * QUEUE_STRIDE;
            // Rings are empty: indices are zero.
            self.ram.write(base + AVAILABLE, &[0; 4]).expect("it is in RAM");
            self.ram.write(base + USED, &[0; 4]).expect("it is in RAM");
            self.queue(queue as u8, self.size, [base, base + AVAILABLE, base + USED]);
        }
        self.heads = Default::default();
        self.set(reg::STATUS, state | status::DRIVER_OK);
    }

    fn queue(&self, queue: u8, size: u16, addresses: [u64; 3]) {
        self.set(reg::QUEUE_SEL, queue.into());
        self.set(reg::QUEUE_SIZE, size.into());
        for (register, address) in [reg::QUEUE_DESC_LOW, reg::QUEUE_DRIVER_LOW, reg::QUEUE_DEVICE_LOW].into_iter().zip(addresses) {
            self.set(register, address as u32);
            self.set(register + 4, (address >> 32) as u32);
        }
        self.set(reg::QUEUE_READY, 1);
    }

    fn chain(&mut self, queue: u8, buffers: &[Buffer], content: &[u8], indirect: bool) {
        let queue = u64::from(queue) % QUEUES;
        let base = RAM_BASE + queue * QUEUE_STRIDE;
        let (next, index) = &mut self.heads[queue as usize];
        let size = self.size;
        let table = if indirect { base + INDIRECT } else { base };
        let mut at = if indirect { 0 } else { *next % size };
        let head = at;
        for (number, buffer) in buffers.iter().enumerate() {
            let (address, length) =
                buffer.wild.unwrap_or((RAM_BASE + BUFFERS + u64::from(buffer.place) * 4, buffer.length.into()));
            if number == 0 {
                let _ = self.ram.write(address, content);
            }
            let last = number + 1 == buffers.len();
            let flags = u16::from(!last) | u16::from(buffer.writable) << 1;
            let following = if indirect { at + 1 } else { (at + 1) % size };
            let descriptor = u128::from(address)
                | u128::from(length) << 64
                | u128::from(flags) << 96
                | u128::from(if last { 0 } else { following }) << 112;
            let _ = self.ram.write(table + u64::from(at) * 16, &descriptor.to_le_bytes());
            at = following;
        }
        let mut head = head;
        if indirect {
            let descriptor = u128::from(table) | (buffers.len() as u128 * 16) << 64 | 4 << 96;
            head = *next % size;
            let _ = self.ram.write(base + u64::from(head) * 16, &descriptor.to_le_bytes());
            *next = next.wrapping_add(1);
        } else {
            *next = at;
        }
        let slot = base + AVAILABLE + 4 + u64::from(*index % size) * 2;
        let _ = self.ram.write(slot, &head.to_le_bytes());
        *index = index.wrapping_add(1);
        let _ = self.ram.write(base + AVAILABLE + 2, &index.to_le_bytes());
        self.set(reg::QUEUE_NOTIFY, queue as u32);
    }

    /// Serves the network card, as its network's thread would.
    fn serve_network(&self) {
        if let Some((network, _)) = &self.network {
            while network.end.lock().unwrap().flush() {}
        }
    }

    /// Lets the device finish: a pause waits for the batch under way.
    fn settle(&self) {
        self.serve_network();
        std::thread::yield_now();
        self.device.pause();
        self.device.resume();
    }

    fn step(&mut self, step: Step) {
        let width = |width: u8| Width::ALL[usize::from(width % 4)];
        match step {
            Step::Read(offset, w) => {
                let width = width(w);
                let offset = u64::from(offset) % (self.device.size() - width.bytes() + 1);
                assert_eq!(self.device.read(offset, width) & !width.mask(), 0);
                assert_eq!(self.device.peek(offset, width) & !width.mask(), 0);
            }
            Step::Write(offset, w, value) => {
                let width = width(w);
                let offset = u64::from(offset) % (self.device.size() - width.bytes() + 1);
                self.device.write(offset, width, width.zero_extend(value));
            }
            Step::Initialise(without, size) => self.initialise(without, size),
            Step::QueueAt(queue, size, offsets) => {
                self.queue(queue % QUEUES as u8, size, offsets.map(|offset| RAM_BASE.wrapping_add(offset.into())));
            }
            Step::DisableQueue(queue) => {
                self.set(reg::QUEUE_SEL, queue.into());
                self.set(reg::QUEUE_READY, 0);
            }
            Step::Chain(queue, buffers, content, indirect) => {
                self.chain(queue, &buffers[..buffers.len().min(64)], &content, indirect);
            }
            Step::Request(kind, sector, place, sectors) => {
                let kinds = [0u32, 1, 4, 8, 11, 13];
                let kind = kinds[usize::from(kind) % kinds.len()];
                let header = u128::from(kind) | u128::from(sector) << 64;
                let buffer = |place, length, writable| Buffer { place, length, writable, wild: None };
                let buffers = [
                    buffer(0, 16, false),
                    buffer(place, u16::from(sectors % 65) * 512, kind == 0 || kind == 8),
                    buffer(4, 1, true),
                ];
                if kind >= 11 {
                    let range = u128::from(sector) | u128::from(sectors) << 64 | u128::from(place & 1) << 96;
                    let at = RAM_BASE + BUFFERS + u64::from(place) * 4;
                    let _ = self.ram.write(at, &range.to_le_bytes());
                }
                self.chain(0, &buffers, &header.to_le_bytes(), false);
            }
            Step::Notify(queue) => self.set(reg::QUEUE_NOTIFY, queue.into()),
            Step::Poke(place, value) => {
                let _ = self.ram.write(RAM_BASE + u64::from(place) * 16, &value.to_le_bytes());
            }
            Step::PokeRing(queue, offset, value) => {
                let base = RAM_BASE + u64::from(queue) % QUEUES * QUEUE_STRIDE;
                let _ = self.ram.write(base + u64::from(offset & 0x3fff), &value.to_le_bytes());
                self.set(reg::QUEUE_NOTIFY, u32::from(queue) % QUEUES as u32);
            }
            Step::Wait => self.settle(),
            Step::TypeIn(bytes) => self.backend.type_in(&bytes),
            Step::LimitOutput(room) => self.backend.limit_output(room.into()),
            Step::Frame(bytes, checksum, segment_size) => {
                if let Some((network, _)) = &self.network {
                    let checksum = checksum.map(|(start, offset)| PartialChecksum { start, offset });
                    let frame = Frame { bytes, offload: Offload { checksum, segment_size } };
                    let mut end = network.end.lock().unwrap();
                    if end.has_room() {
                        end.send(frame);
                    }
                    end.flush();
                }
            }
            Step::TakeFrames => {
                if let Some((network, _)) = &self.network {
                    let mut end = network.end.lock().unwrap();
                    while let Some(mut frame) = end.receive() {
                        if let Some(segments) = offload::segment(&frame) {
                            let most = frame.bytes.len();
                            assert!(segments.iter().all(|segment| segment.bytes.len() <= most));
                        }
                        let _ = offload::complete_checksum(&mut frame);
                    }
                    end.flush();
                    drop(end);
                    let _ = &network.link;
                }
            }
            Step::Cable(up) => {
                if let Some((_, control)) = &self.network {
                    control.set_up(up);
                }
            }
            Step::Reset => self.device.reset(),
            Step::PauseAndResume => {
                self.device.pause();
                self.device.resume();
            }
            Step::SaveAndRestore => {
                self.device.pause();
                let saved = self.device.save().expect("a state");
                if self.device.restore(&saved).is_err() {
                    assert_eq!(self.device.save().expect("a state"), saved, "a refused state has left a trace");
                }
                self.device.resume();
            }
            Step::Move => {
                self.device.pause();
                let saved = self.device.save().expect("a state");
                let fresh = Self::new(self.kind, self.ram.clone());
                fresh.device.pause();
                let restored = fresh.device.restore(&saved);
                fresh.device.resume();
                if restored.is_ok() {
                    let (heads, size) = (self.heads, self.size);
                    *self = Self { heads, size, ..fresh };
                } else {
                    self.device.resume();
                }
            }
            Step::Damage(at, value) => {
                self.device.pause();
                let mut state = self.device.save().expect("a state");
                if let Some(length) = state.len().checked_sub(1) {
                    state[usize::from(at) % (length + 1)] = value;
                }
                let _ = self.device.restore(&state);
                self.device.resume();
            }
            Step::Foreign(state) => {
                self.device.pause();
                let _ = self.device.restore(&state);
                self.device.resume();
            }
        }
    }
}

fuzz_target!(|input: (Kind, Vec<Step>)| {
    let (kind, steps) = input;
    let mut bench = Bench::new(kind, Ram::new(RAM_BASE, RAM_SIZE).expect("memory"));
    for step in steps.into_iter().take(64) {
        bench.step(step);
        bench.serve_network();
    }
    bench.settle();
    bench.device.reset();
    assert_eq!(bench.get(reg::STATUS), 0);
    let _ = bench.device.describe(&Placement::default());
});
