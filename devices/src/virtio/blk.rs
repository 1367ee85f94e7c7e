//! The block device (virtio 1.3 §5.2) on a [`Disk`].
//!
//! Several threads take requests from all queues. A request that the host can answer from its memory is answered at
//! once; before one that waits for the host's disk, the thread hands the queues over to another, so that many requests
//! wait at the same time. A flush covers every write that was completed before it was made available (§5.2.6.1): the
//! disk's flush covers what has returned before it begins.
//!
//! What the host has in its memory, or takes into it, is copied from and to guest memory by the host, without a buffer
//! between; a reset waits for that. What waits for the host's disk passes through a bounded buffer: guest memory is
//! touched under the session's lock then, the disk without it, so that no reset waits for a disk. Requests of an ended
//! session that are still at the disk (`Flights`) hold up those of the next: no old write falls
//! on a new one.

use std::io;
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::time::{Duration, Instant};

use bus::StateError;
use serde::{Deserialize, Serialize};

use super::spec::{blk as spec, device};
use super::worker::{Events, Generation, Port, Service, Waker};
use super::{Buffers, Chain, read_config_bytes};
use crate::backend::disk::Disk;
use crate::backend::disk::file::Aligned;
use crate::lock;

const QUEUE_SIZE: u16 = 256;
/// Most queues: more than a few harts gain nothing by them.
const MOST_QUEUES: u64 = 16;
/// Threads: how many requests can wait for the host's disk at a time.
const THREADS: usize = 8;
/// Data buffers of a request: the longest chain less header and status.
const SEGMENTS: u32 = QUEUE_SIZE as u32 - 2;
/// Sectors of a discard range: 2 GiB.
const MAX_DISCARD_SECTORS: u32 = 1 << 22;
/// Sectors of a write zeroes range: 128 MiB, which may have to be written out.
const MAX_WRITE_ZEROES_SECTORS: u32 = 1 << 18;
/// Ranges of a discard or write zeroes request.
const MAX_RANGES: u32 = 32;
/// Bytes that move between guest and disk at a time.
const BUFFER_SIZE: usize = 256 << 10;
/// How long completions are gathered before the driver is interrupted, and a batch lasts.
const BATCH_TIME: Duration = Duration::from_micros(500);
/// The user is told of failures of the host no more often than this.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(2);

/// log2 of the sectors in a 4 KiB block, which hosts' file systems like best.
const PHYSICAL_BLOCK_EXPONENT: u8 = 3;

/// The serial number is too long.
#[derive(Debug, thiserror::Error)]
#[error("disk serial number \"{0}\": is longer than 20 bytes; choose a shorter one")]
pub struct SerialError(String);

/// How a request ended, if not well.
enum Failure {
    /// `VIRTIO_BLK_S_IOERR` for what the driver asked.
    Io,
    /// `VIRTIO_BLK_S_IOERR` for what the host said.
    Host(io::Error),
    /// `VIRTIO_BLK_S_UNSUPP`.
    Unsupported,
    /// The driver has reset the device meanwhile.
    Dropped,
    /// The request has no room for a header and a status.
    Malformed,
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Failure::Host(error)
    }
}

/// A block device.
pub struct Blk {
    disk: Arc<dyn Disk>,
    serial: [u8; spec::ID_SIZE],
    queue_sizes: Vec<u16>,
    /// Those that no thread uses.
    buffers: Mutex<Vec<Aligned>>,
    flights: Flights,
    complaints: Mutex<Complaints>,
    waker: OnceLock<Waker>,
}

/// Requests between their being taken from a queue and their end.
#[derive(Default)]
struct Flights {
    state: Mutex<FlightsState>,
    landed: Condvar,
}

#[derive(Default)]
struct FlightsState {
    /// Of each queue: how often it began anew, and its requests since then.
    queues: Vec<(u64, usize)>,
    /// Requests from before.
    stale: usize,
}

/// A request in flight.
struct Flight<'a> {
    flights: &'a Flights,
    queue: u16,
    epoch: u64,
}

impl Flights {
    /// A request of `queue` is taken. Called with the session locked.
    fn begin(&self, queue: u16) -> Flight<'_> {
        let (epoch, count) = &mut lock(&self.state).queues[usize::from(queue)];
        *count += 1;
        Flight { flights: self, queue, epoch: *epoch }
    }

    /// `queue`, or each of them, begins anew. Called with the session locked.
    fn reset(&self, queue: Option<u16>) {
        let state = &mut *lock(&self.state);
        for (index, (epoch, count)) in state.queues.iter_mut().enumerate() {
            if queue.is_none_or(|queue| usize::from(queue) == index) {
                *epoch += 1;
                state.stale += std::mem::take(count);
            }
        }
    }
}

impl Flight<'_> {
    /// Waits until nothing of an earlier session is at the disk; `false` if the request itself is of such a one.
    fn cleared(&self) -> bool {
        let mut state = lock(&self.flights.state);
        loop {
            if state.queues[usize::from(self.queue)].0 != self.epoch {
                return false;
            }
            if state.stale == 0 {
                return true;
            }
            state = self.flights.landed.wait(state).unwrap_or_else(|poisoned| poisoned.into_inner());
        }
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        let state = &mut *lock(&self.flights.state);
        let (epoch, count) = &mut state.queues[usize::from(self.queue)];
        if *epoch == self.epoch {
            *count -= 1;
        } else {
            state.stale -= 1;
            self.flights.landed.notify_all();
        }
    }
}

/// Tells the user of the host's failures, not too often.
#[derive(Default)]
struct Complaints {
    last: Option<Instant>,
    silent: u64,
}

impl Complaints {
    fn add(&mut self, disk: &dyn Disk, error: &io::Error) {
        if self.last.is_some_and(|last| last.elapsed() < COMPLAINT_INTERVAL) {
            self.silent += 1;
            return;
        }
        let more = match std::mem::take(&mut self.silent) {
            0 => String::new(),
            count => format!(" ({count} more since the last message)"),
        };
        self.last = Some(Instant::now());
        tracing::error!("disk image {}: {error}; the guest sees an I/O error{more}", disk.name());
    }
}

#[derive(Serialize, Deserialize)]
struct State {
    /// The size that the guest has seen.
    sectors: u64,
}

/// A request under way.
struct Request<'a> {
    port: &'a Port,
    queue: u16,
    chain: &'a Chain,
    generation: Generation,
}

impl Request<'_> {
    fn read(&self, at: u64, bytes: &mut [u8]) -> Result<(), Failure> {
        self.copy(|ram| self.chain.readable.read(ram, at, bytes))
    }

    fn write(&self, at: u64, bytes: &[u8]) -> Result<(), Failure> {
        self.copy(|ram| self.chain.writable.write(ram, at, bytes))
    }

    /// Reads what the host has in memory into the data buffers, of `length` bytes in all, from `at`; `offset` is where the
    /// data begins on the disk. Returns how many bytes, whole sectors.
    fn read_now(&self, disk: &dyn Disk, offset: u64, at: u64, length: u64) -> Result<u64, Failure> {
        let access = self.port.access(self.generation).ok_or(Failure::Dropped)?;
        let count = disk.read_now(offset + at, &self.chain.writable.run(access.ram()).part(at, length - at))?;
        Ok(count - count % spec::SECTOR_SIZE)
    }

    /// Writes the data buffers, of `length` bytes, to the disk at `offset`.
    fn write_from(&self, disk: &dyn Disk, offset: u64, length: u64) -> Result<(), Failure> {
        let access = self.port.access(self.generation).ok_or(Failure::Dropped)?;
        Ok(disk.write_from(offset, &self.chain.readable.run(access.ram()).part(spec::HEADER_SIZE, length))?)
    }

    fn copy(&self, copy: impl FnOnce(&bus::Ram) -> Option<()>) -> Result<(), Failure> {
        let mut session = self.port.session_of(self.generation).ok_or(Failure::Dropped)?;
        copy(session.ram(self.queue).ok_or(Failure::Dropped)?).ok_or(Failure::Malformed)
    }
}

fn le_u32(bytes: &[u8]) -> u32 {
    bytes.iter().rev().fold(0, |value, byte| value << 8 | u32::from(*byte))
}

fn le_u64(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

impl Blk {
    /// A block device on `disk` whose serial number has up to 20 bytes.
    pub fn new(disk: Arc<dyn Disk>, serial: &str) -> Result<Self, SerialError> {
        let mut id = [0; spec::ID_SIZE];
        id.get_mut(..serial.len()).ok_or_else(|| SerialError(serial.into()))?.copy_from_slice(serial.as_bytes());
        let blk = Self {
            disk,
            serial: id,
            queue_sizes: Vec::new(),
            buffers: Mutex::default(),
            flights: Flights::default(),
            complaints: Mutex::default(),
            waker: OnceLock::new(),
        };
        Ok(blk.with_queues(1))
    }

    /// The same with a queue for each of `harts`, as far as it is of use.
    pub fn with_queues(mut self, harts: u64) -> Self {
        let count = harts.clamp(1, MOST_QUEUES) as usize;
        self.queue_sizes = vec![QUEUE_SIZE; count];
        lock(&self.flights.state).queues = vec![(0, 0); count];
        self
    }

    fn sectors(&self) -> u64 {
        self.disk.size() / spec::SECTOR_SIZE
    }

    /// The configuration space (§5.2.4) as far as its features are offered.
    fn config(&self) -> [u8; 60] {
        let mut config = [0; 60];
        let mut put = |at: usize, bytes: &[u8]| config[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &self.sectors().to_le_bytes());
        put(12, &SEGMENTS.to_le_bytes());
        put(20, &(spec::SECTOR_SIZE as u32).to_le_bytes());
        put(24, &[PHYSICAL_BLOCK_EXPONENT, 0]);
        put(26, &1u16.to_le_bytes()); // min_io_size in blocks; no opt_io_size.
        put(34, &(self.queue_sizes.len() as u16).to_le_bytes());
        if !self.disk.read_only() {
            put(36, &MAX_DISCARD_SECTORS.to_le_bytes());
            put(40, &MAX_RANGES.to_le_bytes());
            put(44, &(1u32 << PHYSICAL_BLOCK_EXPONENT).to_le_bytes()); // discard_sector_alignment
            put(48, &MAX_WRITE_ZEROES_SECTORS.to_le_bytes());
            put(52, &MAX_RANGES.to_le_bytes());
            put(56, &[1]); // write_zeroes_may_unmap
        }
        config
    }

    /// The byte range of `length` bytes at `sector`, if it is on the disk and made of whole sectors.
    fn range(&self, sector: u64, length: u64) -> Result<u64, Failure> {
        let offset = sector.checked_mul(spec::SECTOR_SIZE).ok_or(Failure::Io)?;
        let end = offset.checked_add(length).ok_or(Failure::Io)?;
        if !length.is_multiple_of(spec::SECTOR_SIZE) || end > self.disk.size() { Err(Failure::Io) } else { Ok(offset) }
    }

    fn writable(&self) -> Result<(), Failure> {
        if self.disk.read_only() { Err(Failure::Io) } else { Ok(()) }
    }

    /// Does what `request` asks for; counts in `written` the bytes that the guest was given from the start. Calls `wait`
    /// before it waits for the host's disk.
    fn perform(
        &self,
        request: &Request,
        features: &Negotiated,
        buffer: &mut [u8],
        written: &mut u64,
        mut wait: impl FnMut(),
    ) -> Result<(), Failure> {
        let (readable, writable): (&Buffers, &Buffers) = (&request.chain.readable, &request.chain.writable);
        let mut header = [0; spec::HEADER_SIZE as usize];
        let data_out = readable.len().checked_sub(spec::HEADER_SIZE).ok_or(Failure::Malformed)?;
        let data_in = writable.len().checked_sub(1).ok_or(Failure::Malformed)?;
        request.read(0, &mut header)?;
        let sector = le_u64(&header[8..]);
        match le_u32(&header[..4]) {
            spec::T_IN => {
                let offset = self.range(sector, data_in)?;
                while *written < data_in {
                    let count = request.read_now(&*self.disk, offset, *written, data_in)?;
                    if count == 0 {
                        wait();
                        let piece = &mut buffer[..(data_in - *written).min(BUFFER_SIZE as u64) as usize];
                        self.disk.read_at(offset + *written, piece)?;
                        request.write(*written, piece)?;
                        *written += piece.len() as u64;
                    }
                    *written += count;
                }
                Ok(())
            }
            spec::T_OUT => {
                self.writable()?;
                let offset = self.range(sector, data_out)?;
                let mut done = 0;
                if !self.disk.writes_wait() {
                    request.write_from(&*self.disk, offset, data_out)?;
                    done = data_out;
                }
                while done < data_out {
                    let piece = &mut buffer[..(data_out - done).min(BUFFER_SIZE as u64) as usize];
                    request.read(spec::HEADER_SIZE + done, piece)?;
                    wait();
                    self.disk.write_at(offset + done, piece)?;
                    done += piece.len() as u64;
                }
                // A driver that cannot flush relies on a write-through cache (§5.2.6.2).
                if !features.flush {
                    wait();
                    self.disk.flush()?;
                }
                Ok(())
            }
            spec::T_FLUSH => {
                wait();
                Ok(self.disk.flush()?)
            }
            spec::T_GET_ID => {
                let id = &self.serial[..data_in.min(spec::ID_SIZE as u64) as usize];
                request.write(0, id)?;
                *written = id.len() as u64;
                Ok(())
            }
            spec::T_DISCARD if features.discard => {
                wait();
                self.ranges(request, data_out, MAX_DISCARD_SECTORS, 0, |offset, length, _| {
                    self.disk.discard(offset, length)
                })
            }
            spec::T_WRITE_ZEROES if features.write_zeroes => {
                wait();
                let allowed = spec::RANGE_F_UNMAP;
                self.ranges(request, data_out, MAX_WRITE_ZEROES_SECTORS, allowed, |offset, length, flags| {
                    self.disk.write_zeroes(offset, length, flags & spec::RANGE_F_UNMAP != 0)
                })?;
                if features.flush { Ok(()) } else { Ok(self.disk.flush()?) }
            }
            kind => {
                tracing::debug!("virtio-blk: request of unknown type {kind}");
                Err(Failure::Unsupported)
            }
        }
    }

    /// Calls `act` with offset, length and flags of each range of a discard or write zeroes request, once all are
    /// known to be valid (§5.2.6.2).
    fn ranges(
        &self,
        request: &Request,
        length: u64,
        max_sectors: u32,
        allowed_flags: u32,
        act: impl Fn(u64, u64, u32) -> io::Result<()>,
    ) -> Result<(), Failure> {
        self.writable()?;
        let mut bytes = [0; (spec::RANGE_SIZE as usize) * MAX_RANGES as usize];
        if length == 0 || !length.is_multiple_of(spec::RANGE_SIZE) || length > bytes.len() as u64 {
            return Err(Failure::Io);
        }
        let bytes = &mut bytes[..length as usize];
        request.read(spec::HEADER_SIZE, bytes)?;
        let ranges = bytes.chunks_exact(spec::RANGE_SIZE as usize).map(|range| {
            let (sector, sectors, flags) = (le_u64(&range[..8]), le_u32(&range[8..12]), le_u32(&range[12..]));
            if flags & !allowed_flags != 0 {
                return Err(Failure::Unsupported);
            }
            let length = u64::from(sectors) * spec::SECTOR_SIZE;
            let offset = self.range(sector, length)?;
            if sectors > max_sectors { Err(Failure::Io) } else { Ok((offset, length, flags)) }
        });
        for (offset, length, flags) in ranges.collect::<Result<Vec<_>, _>>()? {
            act(offset, length, flags)?;
        }
        Ok(())
    }

    fn queue_events(&self) -> Events {
        (0..self.queue_sizes.len() as u16).fold(Events::NONE, |events, queue| events.or(Events::queue(queue)))
    }

    /// Serves `queue` for a while; returns it if there is more. `events`, that and all other queues that this thread is
    /// to serve, are handed over before it waits.
    fn serve_queue(&self, port: &Port, queue: u16, events: Events, buffer: &mut [u8]) -> Events {
        let start = Instant::now();
        loop {
            let Some(mut session) = port.session() else {
                return Events::NONE;
            };
            if start.elapsed() > BATCH_TIME {
                session.interrupt(queue);
                return Events::queue(queue);
            }
            session.disable_notifications(queue);
            let Some(chain) = session.pop(queue) else {
                session.interrupt(queue);
                if session.enable_notifications(queue) {
                    continue;
                }
                return Events::NONE;
            };
            let request = Request { port, queue, chain: &chain, generation: session.generation(queue) };
            let features = Negotiated {
                flush: session.has(spec::F_FLUSH),
                discard: session.has(spec::F_DISCARD),
                write_zeroes: session.has(spec::F_WRITE_ZEROES),
            };
            let flight = self.flights.begin(queue);
            drop(session);
            if !flight.cleared() {
                continue;
            }
            let (mut written, mut waited) = (0, false);
            let wait = || {
                if !std::mem::replace(&mut waited, true) {
                    // What is complete is told before the wait, too.
                    if let Some(mut session) = port.session_of(request.generation) {
                        session.interrupt(queue);
                    }
                    if let Some(waker) = self.waker.get() {
                        waker.hand_over(self.queue_events().intersection(events));
                    }
                }
            };
            let outcome = self.perform(&request, &features, buffer, &mut written, wait);
            self.finish(&request, outcome, written);
            drop(flight);
        }
    }

    fn finish(&self, request: &Request, outcome: Result<(), Failure>, written: u64) {
        let Some(mut session) = request.port.session_of(request.generation) else {
            return;
        };
        let status = match outcome {
            Ok(()) => spec::S_OK,
            Err(Failure::Io) => spec::S_IOERR,
            Err(Failure::Host(error)) => {
                lock(&self.complaints).add(&*self.disk, &error);
                spec::S_IOERR
            }
            Err(Failure::Unsupported) => spec::S_UNSUPP,
            Err(Failure::Dropped) => return,
            Err(Failure::Malformed) => return session.fail(&"a block request without header or status"),
        };
        let writable = &request.chain.writable;
        let at = writable.len() - 1;
        if session.ram(request.queue).is_some_and(|ram| writable.write(ram, at, &[status]).is_some()) {
            // The status counts if no gap precedes it (§2.7.8.2).
            let written = if written == at { at + 1 } else { written };
            session.complete(request.queue, request.chain, written as u32);
        }
    }
}

/// What the driver has accepted.
struct Negotiated {
    flush: bool,
    discard: bool,
    write_zeroes: bool,
}

impl Service for Blk {
    fn name(&self) -> &'static str {
        "virtio-blk"
    }

    fn id(&self) -> u32 {
        device::BLOCK
    }

    fn features(&self) -> u64 {
        let common = spec::F_SEG_MAX | spec::F_BLK_SIZE | spec::F_TOPOLOGY | spec::F_FLUSH;
        let common = if self.queue_sizes.len() > 1 { common | spec::F_MQ } else { common };
        common | if self.disk.read_only() { spec::F_RO } else { spec::F_DISCARD | spec::F_WRITE_ZEROES }
    }

    fn queue_sizes(&self) -> &[u16] {
        &self.queue_sizes
    }

    fn threads(&self) -> usize {
        THREADS
    }

    fn read_config(&self, offset: u64, bytes: &mut [u8]) {
        read_config_bytes(&self.config(), offset, bytes);
    }

    fn attach(&self, waker: Waker) {
        // Called once.
        let _ = self.waker.set(waker);
    }

    fn serve(&self, port: &Port, events: Events) -> Events {
        let mut buffer = lock(&self.buffers).pop().unwrap_or_else(|| Aligned::new(BUFFER_SIZE));
        let mut left = events;
        for queue in 0..self.queue_sizes.len() as u16 {
            if left.intersects(Events::queue(queue)) {
                left = left.without(Events::queue(queue)).or(self.serve_queue(port, queue, left, buffer.bytes()));
            }
        }
        lock(&self.buffers).push(buffer);
        // Others than of queues mean nothing here.
        self.queue_events().intersection(left)
    }

    fn reset(&self, queue: Option<u16>) {
        self.flights.reset(queue);
    }

    fn save(&self) -> Result<Vec<u8>, StateError> {
        bus::save(self.name(), &State { sectors: self.sectors() })
    }

    fn restore(&self, state: &[u8]) -> Result<(), StateError> {
        let State { sectors } = bus::restore(self.name(), state)?;
        if sectors == self.sectors() {
            return Ok(());
        }
        let reason = format!("the saved disk had {sectors} sectors, this one has {}", self.sectors());
        Err(StateError::Mismatch { device: self.name().into(), reason })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use bus::{Device, Width};
    use proptest::prelude::*;

    use super::super::driver::{
        Buffer, DATA, Driver, PATIENCE, RAM_BASE, RAM_SIZE, TestDisk, descriptor, readable, wait_until, writable,
    };
    use super::super::spec::{feature, mmio as reg, ring, status};
    use super::super::{VirtioDevice, Worker};
    use super::*;
    use crate::backend::disk::{Format, Options};

    const ALL: u64 = u64::MAX;
    const STATUS: u64 = DATA;
    const HEADER: u64 = DATA + 0x10;
    const PAYLOAD: u64 = DATA + 0x1000;

    fn device(disk: &Arc<TestDisk>) -> Box<dyn VirtioDevice> {
        Box::new(Worker::new(Blk::new(disk.clone(), "serial-1").unwrap()).unwrap())
    }

    fn machine(disk: &Arc<TestDisk>, accept: u64, size: u16) -> Driver {
        let mut driver = Driver::new(device(disk));
        driver.initialise(accept, size);
        driver
    }

    fn put_header(driver: &Driver, kind: u32, sector: u64) {
        let header = [u64::from(kind), sector].map(u64::to_le_bytes).concat();
        driver.ram.write(HEADER, &header).unwrap();
        driver.ram.write(STATUS, &[0xee]).unwrap();
    }

    /// One request with `payload` in the middle; returns status and used length.
    #[track_caller]
    fn request(driver: &mut Driver, kind: u32, sector: u64, payload: &[Buffer]) -> (u8, u32) {
        put_header(driver, kind, sector);
        let chain = [&[readable(HEADER, 16)], payload, &[writable(STATUS, 1)]].concat();
        let length = driver.run(0, &chain);
        (driver.bytes(STATUS, 1)[0], length)
    }

    fn range(sector: u64, sectors: u32, flags: u32) -> Vec<u8> {
        [&sector.to_le_bytes()[..], &sectors.to_le_bytes(), &flags.to_le_bytes()].concat()
    }

    #[test]
    fn reads_writes_and_flushes() {
        let disk = TestDisk::new(64, false);
        for accept in [ALL, 0, spec::F_FLUSH, feature::EVENT_IDX] {
            let mut driver = machine(&disk, accept, 16);
            assert_eq!(request(&mut driver, spec::T_IN, 5, &[writable(PAYLOAD, 1024)]), (spec::S_OK, 1025));
            assert_eq!(driver.bytes(PAYLOAD, 1024), [[5; 512], [6; 512]].concat());
            assert!(driver.wire.level());
            driver.write(reg::INTERRUPT_ACK, 1);
            assert!(!driver.wire.level());

            let bytes: Vec<u8> = (0..1024).map(|i| (i % 251) as u8).collect();
            driver.ram.write(PAYLOAD, &bytes).unwrap();
            let before = disk.flushes.load(Ordering::SeqCst);
            assert_eq!(request(&mut driver, spec::T_OUT, 62, &[readable(PAYLOAD, 1024)]), (spec::S_OK, 1));
            assert_eq!(lock(&disk.data)[62 * 512..], bytes);
            let through = disk.flushes.load(Ordering::SeqCst) - before;
            assert_eq!(through, u32::from(driver.features & spec::F_FLUSH == 0), "write-through without FLUSH");
            assert_eq!(request(&mut driver, spec::T_FLUSH, 0, &[]), (spec::S_OK, 1));
            assert_eq!(disk.flushes.load(Ordering::SeqCst), before + through + 1);
        }
    }

    #[test]
    fn the_framing_is_the_drivers_business() {
        let disk = TestDisk::new(64, false);
        let mut driver = machine(&disk, ALL, 64);
        // Header in three pieces, one of them together with data; data in odd pieces, one of them with the status.
        put_header(&driver, spec::T_OUT, 9);
        driver.ram.write(HEADER + 16, &[0x77; 512]).unwrap();
        let chain = [readable(HEADER, 3), readable(HEADER + 3, 7), readable(HEADER + 10, 6 + 512), writable(STATUS, 1)];
        assert_eq!((driver.run(0, &chain), driver.bytes(STATUS, 1)[0]), (1, spec::S_OK));
        assert_eq!(lock(&disk.data)[9 * 512..10 * 512], [0x77; 512]);
        put_header(&driver, spec::T_IN, 9);
        let chain = [readable(HEADER, 16), writable(PAYLOAD, 13), writable(PAYLOAD + 13, 500)];
        assert_eq!(driver.run(0, &chain), 513);
        assert_eq!(driver.bytes(PAYLOAD, 513), [&[0x77; 512][..], &[spec::S_OK]].concat());
        // The same in an indirect table, which lies at an odd address.
        let chain: Vec<_> = (0..64).map(|i| writable(PAYLOAD + 0x1000 + 8 * i, 8)).collect();
        let chain = [&[readable(HEADER, 16)], &chain[..], &[writable(STATUS, 1)]].concat();
        let head = driver.add_indirect(0, PAYLOAD + 0x2003, &chain);
        driver.notify(0);
        assert_eq!(driver.wait_used(0), (head.into(), 513));
        assert_eq!(driver.bytes(PAYLOAD + 0x1000, 512), [0x77; 512]);
    }

    #[test]
    fn a_request_larger_than_the_buffer() {
        let disk = TestDisk::new(2048, false);
        let mut driver = machine(&disk, ALL, 16);
        let length = 700 << 10;
        assert!(length as usize > 2 * BUFFER_SIZE);
        assert_eq!(request(&mut driver, spec::T_IN, 3, &[writable(PAYLOAD, length)]), (spec::S_OK, length + 1));
        assert_eq!(driver.bytes(PAYLOAD, length as usize), lock(&disk.data)[3 * 512..][..length as usize]);
        assert_eq!(request(&mut driver, spec::T_OUT, 100, &[readable(PAYLOAD, length)]), (spec::S_OK, 1));
        assert_eq!(driver.bytes(PAYLOAD, length as usize), lock(&disk.data)[100 * 512..][..length as usize]);
    }

    #[test]
    fn requests_beyond_the_disk_or_of_part_sectors_fail() {
        let disk = TestDisk::new(64, false);
        let mut driver = machine(&disk, ALL, 16);
        for (sector, length) in [
            (64, 512),
            (63, 1024),
            (0, 65 * 512),
            (u64::MAX, 512),
            (u64::MAX / 512, 512),
            (1 << 55, 512),
            (0, 1),
            (0, 513),
        ] {
            let read = request(&mut driver, spec::T_IN, sector, &[writable(PAYLOAD, length)]);
            assert_eq!(read, (spec::S_IOERR, 0), "{length} bytes at {sector}");
            let written = request(&mut driver, spec::T_OUT, sector, &[readable(PAYLOAD, length)]);
            assert_eq!(written, (spec::S_IOERR, 1));
        }
        assert_eq!(disk.begun.load(Ordering::SeqCst), 0);
        assert_eq!(request(&mut driver, spec::T_IN, 63, &[writable(PAYLOAD, 512)]), (spec::S_OK, 513));
    }

    #[test]
    fn serial_numbers() {
        let disk = TestDisk::new(64, false);
        let mut driver = machine(&disk, ALL, 16);
        driver.ram.write(PAYLOAD, &[0xff; 40]).unwrap();
        assert_eq!(request(&mut driver, spec::T_GET_ID, 0, &[writable(PAYLOAD, 20)]), (spec::S_OK, 21));
        assert_eq!(driver.bytes(PAYLOAD, 21), *b"serial-1\0\0\0\0\0\0\0\0\0\0\0\0\xff");
        assert_eq!(request(&mut driver, spec::T_GET_ID, 0, &[writable(PAYLOAD, 40)]), (spec::S_OK, 20));
        assert_eq!(request(&mut driver, spec::T_GET_ID, 0, &[]), (spec::S_OK, 1));
        assert!(Blk::new(disk.clone(), "12345678901234567890").is_ok());
        assert!(Blk::new(disk, "123456789012345678901").is_err());
    }

    #[test]
    fn discard_and_write_zeroes() {
        let disk = TestDisk::new(64, false);
        let mut driver = machine(&disk, ALL, 16);
        let mut ranges = |kind, ranges: &[Vec<u8>]| {
            let bytes = ranges.concat();
            driver.ram.write(PAYLOAD, &bytes).unwrap();
            request(&mut driver, kind, 0, &[readable(PAYLOAD, bytes.len() as u32)]).0
        };
        assert_eq!(ranges(spec::T_DISCARD, &[range(8, 16, 0), range(63, 1, 0)]), spec::S_OK);
        assert_eq!(*lock(&disk.discards), [(8 * 512, 16 * 512), (63 * 512, 512)]);
        assert_eq!(ranges(spec::T_WRITE_ZEROES, &[range(3, 2, 1), range(10, 1, 0)]), spec::S_OK);
        for (sector, zero) in [(2, false), (3, true), (4, true), (5, false), (10, true), (11, false)] {
            assert_eq!(lock(&disk.data)[sector * 512..][..512] == [0; 512], zero, "sector {sector}");
        }
        let begun = disk.begun.load(Ordering::SeqCst);
        for kind in [spec::T_DISCARD, spec::T_WRITE_ZEROES] {
            assert_eq!(ranges(kind, &[range(0, 1, 0), range(64, 1, 0)]), spec::S_IOERR, "nothing is done by halves");
            assert_eq!(ranges(kind, &[range(u64::MAX, u32::MAX, 0)]), spec::S_IOERR);
            assert_eq!(ranges(kind, &[range(0, 1, 2)]), spec::S_UNSUPP);
            assert_eq!(ranges(kind, &[range(0, 1, 0)[..15].to_vec()]), spec::S_IOERR);
            assert_eq!(ranges(kind, &[]), spec::S_IOERR);
            assert_eq!(ranges(kind, &vec![range(0, 1, 0); MAX_RANGES as usize + 1]), spec::S_IOERR);
        }
        assert_eq!(ranges(spec::T_DISCARD, &[range(0, 1, 1)]), spec::S_UNSUPP, "unmap means nothing to a discard");
        assert_eq!(disk.begun.load(Ordering::SeqCst), begun);
        let mut driver = machine(&disk, 0, 16);
        for kind in [spec::T_DISCARD, spec::T_WRITE_ZEROES, 2, 13 + 1, u32::MAX] {
            driver.ram.write(PAYLOAD, &range(0, 1, 0)).unwrap();
            assert_eq!(request(&mut driver, kind, 0, &[readable(PAYLOAD, 16)]).0, spec::S_UNSUPP, "not negotiated");
        }
    }

    #[test]
    fn ranges_larger_than_the_limit_are_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let sectors = u64::from(MAX_DISCARD_SECTORS) + 8;
        file.as_file().set_len(sectors * spec::SECTOR_SIZE).unwrap();
        let disk = Arc::new(crate::backend::disk::RawDisk::open(file.path(), false).unwrap());
        let mut driver = Driver::new(Box::new(Worker::new(Blk::new(disk, "").unwrap()).unwrap()));
        driver.initialise(ALL, 16);
        for (kind, sectors, status) in [
            (spec::T_DISCARD, MAX_DISCARD_SECTORS, spec::S_OK),
            (spec::T_DISCARD, MAX_DISCARD_SECTORS + 1, spec::S_IOERR),
            (spec::T_WRITE_ZEROES, 8, spec::S_OK),
            (spec::T_WRITE_ZEROES, MAX_WRITE_ZEROES_SECTORS + 1, spec::S_IOERR),
        ] {
            driver.ram.write(PAYLOAD, &range(1, sectors, 0)).unwrap();
            assert_eq!(request(&mut driver, kind, 0, &[readable(PAYLOAD, 16)]).0, status, "{kind} of {sectors}");
        }
    }

    #[test]
    fn a_read_only_disk() {
        let disk = TestDisk::new(64, true);
        let mut driver = machine(&disk, ALL, 16);
        assert_eq!(driver.features & (spec::F_RO | spec::F_DISCARD | spec::F_WRITE_ZEROES), spec::F_RO);
        assert_eq!(request(&mut driver, spec::T_IN, 7, &[writable(PAYLOAD, 512)]).0, spec::S_OK);
        assert_eq!(request(&mut driver, spec::T_OUT, 7, &[readable(PAYLOAD, 512)]).0, spec::S_IOERR);
        assert_eq!(request(&mut driver, spec::T_FLUSH, 0, &[]).0, spec::S_OK);
    }

    #[test]
    fn errors_of_the_host_are_told_and_pass() {
        let disk = TestDisk::new(64, false);
        let mut driver = machine(&disk, ALL, 16);
        disk.failing.store(true, Ordering::SeqCst);
        driver.ram.write(PAYLOAD, &range(0, 1, 0)).unwrap();
        for kind in [spec::T_OUT, spec::T_DISCARD, spec::T_WRITE_ZEROES] {
            let length = if kind == spec::T_OUT { 512 } else { 16 };
            assert_eq!(request(&mut driver, kind, 0, &[readable(PAYLOAD, length)]), (spec::S_IOERR, 1));
        }
        assert_eq!(request(&mut driver, spec::T_IN, 0, &[writable(PAYLOAD, 512)]), (spec::S_IOERR, 0));
        assert_eq!(request(&mut driver, spec::T_FLUSH, 0, &[]), (spec::S_IOERR, 1));
        disk.failing.store(false, Ordering::SeqCst);
        assert_eq!(request(&mut driver, spec::T_IN, 1, &[writable(PAYLOAD, 512)]), (spec::S_OK, 513));
    }

    #[test]
    fn a_request_without_header_or_status_breaks_the_session() {
        let disk = TestDisk::new(64, false);
        let mut driver = machine(&disk, ALL, 16);
        for chain in [&[readable(HEADER, 15), writable(STATUS, 1)][..], &[readable(HEADER, 16)], &[writable(STATUS, 1)]]
        {
            put_header(&driver, spec::T_FLUSH, 0);
            driver.add(0, chain);
            driver.notify(0);
            driver.wait_needs_reset();
            driver.notify(0);
            driver.initialise(ALL, 16);
            assert_eq!(driver.status() & status::DEVICE_NEEDS_RESET, 0);
            assert!(!driver.wire.level());
            assert_eq!(request(&mut driver, spec::T_FLUSH, 0, &[]).0, spec::S_OK);
        }
    }

    #[test]
    fn the_configuration_space_by_every_width() {
        let disk = TestDisk::new(0x1_2345, false);
        let driver = Driver::new(device(&disk));
        let read = |offset, width| driver.mmio.read(reg::CONFIG + offset, width);
        assert_eq!(read(0, Width::Double), 0x1_2345);
        assert_eq!((read(0, Width::Word), read(4, Width::Word)), (0x1_2345, 0));
        assert_eq!((read(1, Width::Byte), read(1, Width::Half)), (0x23, 0x0123));
        assert_eq!((read(12, Width::Word), read(20, Width::Word)), (254, 512));
        assert_eq!((read(24, Width::Byte), read(26, Width::Half)), (3, 1));
        assert_eq!((read(36, Width::Word), read(40, Width::Word), read(44, Width::Word)), (1 << 22, 32, 8));
        assert_eq!((read(48, Width::Word), read(52, Width::Word), read(56, Width::Byte)), (1 << 18, 32, 1));
        let mut bytes = Vec::new();
        for offset in 0..0xf00 {
            bytes.push(read(offset, Width::Byte));
        }
        for width in Width::ALL {
            for offset in 0..=0xf00 - width.bytes() {
                let window = &bytes[offset as usize..][..width.bytes() as usize];
                let expected = window.iter().rev().fold(0, |value, byte| value << 8 | byte);
                assert_eq!(read(offset, width), expected, "{width:?} at {offset:#x}");
                driver.mmio.write(reg::CONFIG + offset, width, u64::MAX);
            }
        }
        assert_eq!(read(0, Width::Double), 0x1_2345, "read-only");
    }

    #[test]
    fn interrupts_are_sent_as_asked_for() {
        let disk = TestDisk::new(64, false);
        let mut driver = machine(&disk, ALL & !feature::EVENT_IDX, 16);
        driver.set_avail_flags(0, ring::AVAIL_F_NO_INTERRUPT);
        request(&mut driver, spec::T_FLUSH, 0, &[]);
        settle(&driver);
        assert_eq!(driver.wire.edges(), 0);
        driver.set_avail_flags(0, 0);
        request(&mut driver, spec::T_FLUSH, 0, &[]);
        wait_until("the interrupt", || driver.wire.level());

        let mut driver = machine(&disk, ALL, 16);
        driver.set_used_event(0, 2);
        for completed in 1..=5 {
            request(&mut driver, spec::T_FLUSH, 0, &[]);
            settle(&driver);
            assert_eq!(driver.wire.level(), completed >= 3, "after {completed}");
        }
        assert_eq!(driver.wire.edges(), 1);
    }

    /// Waits until the device is idle.
    fn settle(driver: &Driver) {
        driver.mmio.pause();
        driver.mmio.resume();
    }

    #[test]
    fn a_busy_device_needs_no_notifications() {
        for accept in [ALL, ALL & !feature::EVENT_IDX] {
            let disk = TestDisk::new(64, false);
            let mut driver = machine(&disk, accept, 16);
            settle(&driver);
            put_header(&driver, spec::T_FLUSH, 0);
            let gate = lock(&disk.gate);
            let chain = [readable(HEADER, 16), writable(STATUS, 1)];
            for request in 0..THREADS {
                driver.add(0, &chain);
                // The thread before has handed the queue over to one that sees this by itself or asks to be notified.
                wait_until("the request", || {
                    if driver.wants_notification(0, request as u16) {
                        driver.notify(0);
                    }
                    disk.begun.load(Ordering::SeqCst) as usize == request + 1
                });
            }
            for old in 0..3 {
                driver.add(0, &chain);
                assert!(!driver.wants_notification(0, THREADS as u16 + old));
            }
            drop(gate);
            for _ in 0..THREADS + 3 {
                driver.wait_used(0);
            }
            settle(&driver);
            driver.add(0, &chain);
            assert!(driver.wants_notification(0, THREADS as u16 + 3), "idle again");
        }
    }

    #[test]
    fn requests_that_wait_do_so_together() {
        let disk = TestDisk::new(64, false);
        let mut driver = machine(&disk, ALL, 64);
        put_header(&driver, spec::T_IN, 1);
        let gate = lock(&disk.gate);
        for i in 0..THREADS as u64 {
            driver.add(0, &[readable(HEADER, 16), writable(PAYLOAD + 512 * i, 512), writable(STATUS, 1)]);
        }
        driver.notify(0);
        wait_until("all of them", || disk.begun.load(Ordering::SeqCst) as usize == THREADS);
        drop(gate);
        for _ in 0..THREADS {
            assert_eq!(driver.wait_used(0).1, 513);
        }
        assert_eq!(driver.bytes(PAYLOAD, 512 * THREADS), vec![1; 512 * THREADS]);
    }

    #[test]
    fn an_old_write_does_not_fall_on_a_new_one() {
        let disk = TestDisk::new(64, false);
        let mut driver = machine(&disk, ALL, 16);
        let write = |driver: &mut Driver, value: u8| {
            driver.ram.write(PAYLOAD, &[value; 512]).unwrap();
            put_header(driver, spec::T_OUT, 1);
            driver.add(0, &[readable(HEADER, 16), readable(PAYLOAD, 512), writable(STATUS, 1)]);
            driver.notify(0);
        };
        let gate = lock(&disk.gate);
        write(&mut driver, 0x11);
        wait_until("the old write", || disk.begun.load(Ordering::SeqCst) == 1);
        driver.initialise(ALL, 16);
        write(&mut driver, 0x22);
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(disk.begun.load(Ordering::SeqCst), 1, "the new one waits");
        drop(gate);
        driver.wait_used(0);
        assert_eq!((disk.begun.load(Ordering::SeqCst), &lock(&disk.data)[512..1024]), (2, &[0x22; 512][..]));
    }

    #[test]
    fn several_queues() {
        let disk = TestDisk::new(64, false);
        assert_eq!(Blk::new(disk.clone(), "").unwrap().with_queues(0).queue_sizes().len(), 1);
        assert_eq!(Blk::new(disk.clone(), "").unwrap().with_queues(512).queue_sizes().len(), 16);
        let blk = Blk::new(disk.clone(), "").unwrap().with_queues(4);
        let mut driver = Driver::new(Box::new(Worker::new(blk).unwrap()));
        driver.initialise(ALL, 16);
        assert_ne!(driver.features & spec::F_MQ, 0);
        assert_eq!((driver.mmio.read(reg::CONFIG + 34, Width::Half), driver.rings.len()), (4, 4));
        for queue in [3, 0, 2, 1] {
            put_header(&driver, spec::T_IN, queue);
            let chain = [readable(HEADER, 16), writable(PAYLOAD, 512), writable(STATUS, 1)];
            assert_eq!(driver.run(queue as usize, &chain), 513);
            assert_eq!(driver.bytes(PAYLOAD, 512), [queue as u8; 512]);
        }
        // One that is disabled loses its requests; the others keep theirs.
        put_header(&driver, spec::T_IN, 5);
        let gate = lock(&disk.gate);
        for queue in [1, 2] {
            driver.add(queue, &[readable(HEADER, 16), writable(PAYLOAD, 512), writable(STATUS, 1)]);
            driver.notify(queue);
        }
        wait_until("both", || disk.begun.load(Ordering::SeqCst) == 6);
        driver.write(reg::QUEUE_SEL, 2);
        driver.write(reg::QUEUE_READY, 0);
        drop(gate);
        assert_eq!(driver.wait_used(1).1, 513);
        settle(&driver);
        assert_eq!(driver.used_idx(2), 1);
    }

    /// The races that the queue's fences close: a driver that notifies and waits only as the event indices say.
    #[test]
    fn no_wakeup_is_lost() {
        for accept in [ALL, ALL & !feature::EVENT_IDX] {
            let disk = TestDisk::new(64, false);
            let mut driver = machine(&disk, accept, 8);
            put_header(&driver, spec::T_FLUSH, 0);
            let (mut sent, mut notifications) = (0u32, 0u32);
            let mut received = 0u32;
            while received < 20_000 {
                while sent < 20_000 && sent - received < 4 {
                    let old = driver.rings[0].avail_idx;
                    driver.add(0, &[readable(HEADER, 16), writable(STATUS, 1)]);
                    sent += 1;
                    if driver.wants_notification(0, old) {
                        notifications += 1;
                        driver.notify(0);
                    }
                }
                // As virtqueue_enable_cb: ask for an interrupt, look once more, only then wait for it.
                driver.write(reg::INTERRUPT_ACK, 1);
                driver.set_used_event(0, received as u16);
                if driver.used_idx(0) == received as u16 {
                    wait_until("an interrupt", || driver.wire.level());
                }
                while driver.take_used(0).is_some() {
                    received += 1;
                }
            }
            assert!(notifications <= sent);
            assert_eq!(disk.flushes.load(Ordering::SeqCst), 20_000);
        }
    }

    #[test]
    fn a_reset_waits_for_what_the_host_copies() {
        let disk = TestDisk::new(64, false);
        disk.cached.store(true, Ordering::SeqCst);
        for (kind, payload) in [(spec::T_IN, writable(PAYLOAD, 512)), (spec::T_OUT, readable(PAYLOAD, 512))] {
            let mut driver = machine(&disk, ALL, 16);
            put_header(&driver, kind, 1);
            let gate = lock(&disk.gate);
            let begun = disk.begun.load(Ordering::SeqCst);
            driver.add(0, &[readable(HEADER, 16), payload, writable(STATUS, 1)]);
            driver.notify(0);
            wait_until("the copy", || disk.begun.load(Ordering::SeqCst) > begun);
            std::thread::scope(|scope| {
                let reset = scope.spawn(|| driver.write(reg::STATUS, 0));
                std::thread::sleep(Duration::from_millis(50));
                assert!(!reset.is_finished());
                drop(gate);
                reset.join().unwrap();
            });
            let before = driver.bytes(RAM_BASE, RAM_SIZE as usize);
            settle(&driver);
            assert!(before == driver.bytes(RAM_BASE, RAM_SIZE as usize), "nothing was written after the reset");
            assert_eq!(driver.bytes(STATUS, 1), [0xee]);
        }
    }

    #[test]
    fn files_are_read_and_written_in_guest_memory() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().join("base");
        let content: Vec<u8> = (0..4 << 20).map(|i: u32| (i.wrapping_mul(0x9e37_79b9) >> 24) as u8).collect();
        std::fs::write(&base, &content).unwrap();
        let overlay = folder.path().join("overlay");
        crate::backend::disk::create::overlay(&overlay, &base, Some(Format::Raw), None, false).unwrap();
        let raw = folder.path().join("raw");
        std::fs::copy(&base, &raw).unwrap();
        for (path, format) in [(raw, Format::Raw), (overlay, Format::Qcow2)] {
            let options = Options { format: Some(format), ..Options::default() };
            let disk = crate::backend::disk::open(&path, &options).unwrap();
            let mut driver = Driver::new(Box::new(Worker::new(Blk::new(disk.clone(), "").unwrap()).unwrap()));
            driver.initialise(ALL, 64);
            let mut expected = content.clone();
            // Over the borders of clusters, in odd pieces, part of them where nothing was written and part where it was.
            for (sector, length) in [(3, 700 << 10), (127, 1024), (128, 65536), (1000, 512), (1000, 900 << 10)] {
                let at = sector as usize * 512;
                let bytes: Vec<u8> = (0..length).map(|i| (i % 253 + sector) as u8).collect();
                driver.ram.write(PAYLOAD + 1, &bytes).unwrap();
                let pieces = |make: fn(u64, u32) -> Buffer| {
                    [make(PAYLOAD + 1, 13), make(PAYLOAD + 14, 400), make(PAYLOAD + 414, length as u32 - 413)]
                };
                assert_eq!(request(&mut driver, spec::T_OUT, sector, &pieces(readable)), (spec::S_OK, 1));
                expected[at..at + bytes.len()].copy_from_slice(&bytes);
                driver.ram.write(PAYLOAD, &vec![0; length as usize + 8192]).unwrap();
                // More than was written: what is next to it is as it was.
                let from = sector.saturating_sub(5);
                let whole = length as u32 + 4096 + 512;
                let buffers = [writable(PAYLOAD, 4097), writable(PAYLOAD + 4097, whole - 4097)];
                assert_eq!(request(&mut driver, spec::T_IN, from, &buffers), (spec::S_OK, whole + 1));
                assert!(driver.bytes(PAYLOAD, whole as usize) == expected[from as usize * 512..][..whole as usize]);
            }
            let mut all = vec![0; content.len()];
            disk.read_at(0, &mut all).unwrap();
            assert!(all == expected);
        }
        assert!(std::fs::read(&base).unwrap() == content, "an overlay leaves its base alone");
    }

    #[test]
    fn a_disk_of_a_guessed_format_stays_what_it_is() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(1 << 20).unwrap();
        let disk = crate::backend::disk::open(file.path(), &Options::default()).unwrap();
        let mut driver = Driver::new(Box::new(Worker::new(Blk::new(disk, "").unwrap()).unwrap()));
        driver.initialise(ALL, 16);
        driver.ram.write(PAYLOAD, &[7; 2048]).unwrap();
        assert_eq!(request(&mut driver, spec::T_OUT, 0, &[readable(PAYLOAD, 2048)]), (spec::S_OK, 1));
        driver.ram.write(PAYLOAD, b"QFI\xfb").unwrap();
        assert_eq!(request(&mut driver, spec::T_OUT, 0, &[readable(PAYLOAD, 2048)]), (spec::S_IOERR, 1));
        assert_eq!(std::fs::read(file.path()).unwrap()[..2049], [&[7; 2048][..], &[0]].concat());
    }

    #[test]
    fn a_reset_drops_what_is_in_flight() {
        let disk = TestDisk::new(64, false);
        let mut driver = machine(&disk, ALL, 16);
        driver.ram.write(PAYLOAD, &[0xcc; 512]).unwrap();
        put_header(&driver, spec::T_IN, 1);
        let gate = lock(&disk.gate);
        driver.add(0, &[readable(HEADER, 16), writable(PAYLOAD, 512), writable(STATUS, 1)]);
        driver.notify(0);
        wait_until("the read", || disk.begun.load(Ordering::SeqCst) == 1);
        let start = Instant::now();
        driver.write(reg::STATUS, 0);
        assert_eq!(driver.status(), 0);
        assert!(start.elapsed() < PATIENCE / 4, "a hart does not wait for the host");
        // The memory belongs to the driver again.
        let ring = driver.rings[0].clone();
        driver.ram.write(ring.descriptors, &[0x5a; 0x3000]).unwrap();
        let before = driver.bytes(RAM_BASE, RAM_SIZE as usize);
        drop(gate);
        settle(&driver);
        assert!(before == driver.bytes(RAM_BASE, RAM_SIZE as usize), "nothing was written after the reset");
        assert_eq!((driver.wire.edges(), driver.read(reg::INTERRUPT_STATUS)), (0, 0));
        driver.initialise(ALL, 16);
        assert_eq!(request(&mut driver, spec::T_IN, 1, &[writable(PAYLOAD, 512)]), (spec::S_OK, 513));
    }

    #[test]
    fn a_request_of_the_last_session_does_not_end_in_the_next() {
        let disk = TestDisk::new(64, false);
        let mut driver = machine(&disk, ALL, 16);
        driver.ram.write(PAYLOAD, &[0xcc; 512]).unwrap();
        put_header(&driver, spec::T_IN, 1);
        let gate = lock(&disk.gate);
        driver.add(0, &[readable(HEADER, 16), writable(PAYLOAD, 512), writable(STATUS, 1)]);
        driver.notify(0);
        wait_until("the read", || disk.begun.load(Ordering::SeqCst) == 1);
        driver.initialise(ALL, 16);
        drop(gate);
        settle(&driver);
        assert_eq!((driver.used_idx(0), driver.bytes(STATUS, 1)[0]), (0, 0xee));
        assert_eq!(driver.bytes(PAYLOAD, 512), [0xcc; 512]);
        assert_eq!(request(&mut driver, spec::T_IN, 2, &[writable(PAYLOAD, 512)]), (spec::S_OK, 513));
    }

    #[test]
    fn a_queue_disabled_and_enabled_again_while_running() {
        let disk = TestDisk::new(64, false);
        let mut driver = machine(&disk, ALL, 16);
        request(&mut driver, spec::T_FLUSH, 0, &[]);
        put_header(&driver, spec::T_FLUSH, 0);
        let gate = lock(&disk.gate);
        driver.add(0, &[readable(HEADER, 16), writable(STATUS, 1)]);
        driver.notify(0);
        wait_until("the second flush", || disk.begun.load(Ordering::SeqCst) == 2);
        driver.write(reg::QUEUE_SEL, 0);
        driver.write(reg::QUEUE_READY, 0);
        assert_eq!(driver.read(reg::QUEUE_READY), 0);
        driver.rings.clear();
        driver.add_queue(16);
        drop(gate);
        settle(&driver);
        assert_eq!((driver.used_idx(0), driver.bytes(STATUS, 1)[0]), (0, 0xee), "not the queue it came from");
        assert_eq!(request(&mut driver, spec::T_IN, 2, &[writable(PAYLOAD, 512)]), (spec::S_OK, 513));
    }

    #[test]
    fn a_pause_waits_for_what_is_in_flight_and_holds_the_rest() {
        let disk = TestDisk::new(64, false);
        let mut driver = machine(&disk, ALL, 16);
        put_header(&driver, spec::T_FLUSH, 0);
        let gate = lock(&disk.gate);
        driver.add(0, &[readable(HEADER, 16), writable(STATUS, 1)]);
        driver.notify(0);
        wait_until("the flush", || disk.begun.load(Ordering::SeqCst) == 1);
        std::thread::scope(|scope| {
            let pausing = scope.spawn(|| driver.mmio.pause());
            std::thread::sleep(Duration::from_millis(20));
            assert!(!pausing.is_finished());
            drop(gate);
            pausing.join().unwrap();
        });
        assert_eq!(driver.used_idx(0), 1);
        driver.add(0, &[readable(HEADER, 16), writable(STATUS, 1)]);
        driver.notify(0);
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!((driver.used_idx(0), disk.begun.load(Ordering::SeqCst)), (1, 1));
        driver.mmio.resume();
        driver.wait_used(0);
        driver.wait_used(0);
    }

    #[test]
    fn a_restored_device_goes_on() {
        for accept in [ALL, 0] {
            let disk = TestDisk::new(64, false);
            let mut driver = machine(&disk, accept, 16);
            for _ in 0..37 {
                request(&mut driver, spec::T_FLUSH, 0, &[]);
            }
            wait_until("the interrupt", || driver.wire.level());
            driver.mmio.pause();
            // A notification that arrived during the pause is served after it, here or there.
            put_header(&driver, spec::T_IN, 4);
            let head = driver.add(0, &[readable(HEADER, 16), writable(PAYLOAD, 512), writable(STATUS, 1)]);
            driver.notify(0);
            let state = driver.mmio.save().unwrap();
            assert_eq!(driver.mmio.save().unwrap(), state);

            let mut other = driver.clone_with(device(&disk));
            other.mmio.pause();
            other.mmio.restore(&state).unwrap();
            assert_eq!(other.mmio.save().unwrap(), state);
            assert!(other.wire.level(), "the line has the level that it had");
            assert_eq!(other.status(), driver.status());
            assert_eq!(other.used_idx(0), 37, "nothing is done while paused");
            other.mmio.resume();
            assert_eq!(other.wait_used(0), (head.into(), 513));
            assert_eq!(other.bytes(PAYLOAD, 512), [4; 512]);
            settle(&other);
            other.write(reg::INTERRUPT_ACK, 3);
            assert_eq!(request(&mut other, spec::T_IN, 5, &[writable(PAYLOAD, 512)]), (spec::S_OK, 513));

            // A state whose line was low makes no edge.
            settle(&other);
            other.write(reg::INTERRUPT_ACK, 3);
            other.mmio.pause();
            let third = other.clone_with(device(&disk));
            third.mmio.pause();
            third.mmio.restore(&other.mmio.save().unwrap()).unwrap();
            assert_eq!(third.wire.edges(), 0);
        }
    }

    #[test]
    fn a_state_that_does_not_fit_changes_nothing() {
        let disk = TestDisk::new(64, false);
        let mut driver = machine(&disk, ALL, 16);
        request(&mut driver, spec::T_FLUSH, 0, &[]);
        driver.mmio.pause();
        let good = driver.mmio.save().unwrap();
        for other in [TestDisk::new(65, false), TestDisk::new(64, true)] {
            let other = Driver::new(device(&other));
            other.mmio.pause();
            let before = other.mmio.save().unwrap();
            assert!(other.mmio.restore(&good).is_err());
            assert_eq!(other.mmio.save().unwrap(), before);
        }
        for length in 0..good.len() {
            assert!(driver.mmio.restore(&good[..length]).is_err());
        }
        for i in 0..good.len() {
            for flip in [1, 0x10, 0x80, 0xff] {
                let mut bad = good.clone();
                bad[i] ^= flip;
                // Whatever the bytes are: a result, and a device that can be saved.
                let _ = driver.mmio.restore(&bad);
                driver.mmio.save().unwrap();
            }
        }
        driver.mmio.restore(&good).unwrap();
        driver.mmio.resume();
        assert_eq!(request(&mut driver, spec::T_IN, 5, &[writable(PAYLOAD, 512)]), (spec::S_OK, 513));
    }

    fn any_descriptor() -> impl Strategy<Value = [u8; 16]> {
        let address = prop_oneof![
            8 => (0..0x4000u64).prop_map(|offset| DATA + offset),
            1 => any::<u64>(),
        ];
        let length = prop_oneof![4 => 0..64u32, 4 => (0..5u32).prop_map(|n| 512 * n), 2 => Just(16), 2 => Just(1), 1 => any::<u32>()];
        (address, length, 0..8u16, 0..9u16).prop_map(|(a, l, f, n)| descriptor(a, l, f, n))
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_guest_breaks_the_device(
            table in prop::collection::vec(any_descriptor(), 8),
            memory in prop::collection::vec(prop_oneof![2 => 0..16u32, 1 => any::<u32>()], 0x1000),
            heads in prop::collection::vec(0..9u16, 1..9),
            accept in prop::sample::select(vec![0, ALL, ALL & !feature::EVENT_IDX]),
        ) {
            let disk = TestDisk::new(64, false);
            let mut driver = machine(&disk, accept, 8);
            // Requests, indirect tables and data alike.
            let memory: Vec<u8> = memory.into_iter().flat_map(u32::to_le_bytes).collect();
            driver.ram.write(DATA, &memory).unwrap();
            // Lies where no buffer reaches but by leaving its bounds.
            let guard = DATA + 0x8000;
            let pattern: Vec<u8> = (0..RAM_BASE + RAM_SIZE - guard).map(|i| (i % 253) as u8).collect();
            let reaching = |d: &[u8; 16]| {
                let value = u128::from_le_bytes(*d);
                u64::from((value >> 64) as u32) > 0x2000 || !(DATA..guard).contains(&(value as u64))
            };
            let bounded = !table.iter().any(reaching) && accept == 0;
            driver.ram.write(guard, &pattern).unwrap();
            for (i, descriptor) in table.iter().enumerate() {
                driver.put_descriptor(0, i as u16, *descriptor);
            }
            for head in &heads {
                driver.expose(0, *head);
            }
            driver.notify(0);
            settle(&driver);
            wait_until("an end", || {
                driver.status() & status::DEVICE_NEEDS_RESET != 0 || driver.used_idx(0) == heads.len() as u16
            });
            settle(&driver);
            if bounded {
                prop_assert!(driver.bytes(guard, pattern.len()) == pattern);
            }
            // And the next driver finds a working device.
            driver.initialise(accept, 8);
            prop_assert_eq!(request(&mut driver, spec::T_FLUSH, 0, &[]), (spec::S_OK, 1));
        }
    }
}
