//! Ends of devices that check the contract from their side.

use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

use bus::device_tree::{Node, Placement};
use bus::{Device, InterruptSink, IrqLine, Scattered, StateError, Width};
use devices::backend::disk::{Disk, SECTOR_SIZE};

/// The levels of up to 64 interrupt lines.
#[derive(Default)]
pub struct Lines(AtomicU64);

impl Lines {
    /// A line to input `source`, below 64.
    pub fn line(self: &Arc<Self>, source: u32) -> IrqLine {
        IrqLine::new(self.clone(), source)
    }

    /// A bit per line.
    pub fn levels(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

impl InterruptSink for Lines {
    fn set_level(&self, source: u32, level: bool) {
        assert!(source < 64, "a line that was not given out");
        if level {
            self.0.fetch_or(1 << source, Ordering::SeqCst);
        } else {
            self.0.fetch_and(!(1 << source), Ordering::SeqCst);
        }
    }
}

/// A disk in memory: [`Disk`] promises aligned requests inside it.
pub struct MemoryDisk {
    bytes: Mutex<Vec<u8>>,
    read_only: bool,
}

impl MemoryDisk {
    /// A disk of zeros.
    pub fn new(sectors: u64, read_only: bool) -> Arc<Self> {
        Arc::new(Self { bytes: Mutex::new(vec![0; (sectors * SECTOR_SIZE) as usize]), read_only })
    }

    fn check(&self, offset: u64, length: u64) {
        assert!(offset.is_multiple_of(SECTOR_SIZE) && length.is_multiple_of(SECTOR_SIZE), "{offset:#x}+{length:#x}");
        assert!(offset.checked_add(length).is_some_and(|end| end <= self.size()), "{offset:#x}+{length:#x}");
    }
}

impl Disk for MemoryDisk {
    fn size(&self) -> u64 {
        self.bytes.lock().unwrap().len() as u64
    }

    fn read_only(&self) -> bool {
        self.read_only
    }

    fn name(&self) -> String {
        "memory".into()
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.check(offset, bytes.len() as u64);
        bytes.copy_from_slice(&self.bytes.lock().unwrap()[offset as usize..][..bytes.len()]);
        Ok(())
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.check(offset, bytes.len() as u64);
        assert!(!self.read_only, "a write to a read-only disk");
        self.bytes.lock().unwrap()[offset as usize..][..bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn read_now(&self, offset: u64, target: &Scattered) -> io::Result<u64> {
        self.check(offset, target.len());
        let mut bytes = vec![0; target.len() as usize];
        self.read_at(offset, &mut bytes)?;
        target.write(&bytes).expect("a request's data is in RAM");
        Ok(target.len())
    }

    fn writes_wait(&self) -> bool {
        false
    }

    fn write_from(&self, offset: u64, source: &Scattered) -> io::Result<()> {
        self.check(offset, source.len());
        let mut bytes = vec![0; source.len() as usize];
        source.read(&mut bytes).expect("a request's data is in RAM");
        self.write_at(offset, &bytes)
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }

    fn discard(&self, offset: u64, length: u64) -> io::Result<()> {
        self.write_zeroes(offset, length, true)
    }

    fn write_zeroes(&self, offset: u64, length: u64, _may_unmap: bool) -> io::Result<()> {
        self.check(offset, length);
        assert!(!self.read_only, "a change of a read-only disk");
        self.bytes.lock().unwrap()[offset as usize..][..length as usize].fill(0);
        Ok(())
    }
}

/// A device that fails on an access outside of its window; what it reads as depends on what was written.
pub struct Scratch {
    value: AtomicU64,
    executable: bool,
}

impl Scratch {
    /// Bytes of the window.
    pub const SIZE: u64 = 0x1000;

    /// A device that code may or may not be fetched from.
    pub fn new(executable: bool) -> Arc<Self> {
        Arc::new(Self { value: AtomicU64::new(0), executable })
    }
}

impl Device for Scratch {
    fn name(&self) -> &'static str {
        "scratch"
    }

    fn size(&self) -> u64 {
        Self::SIZE
    }

    fn read(&self, offset: u64, width: Width) -> u64 {
        assert!(offset <= Self::SIZE - width.bytes());
        assert!(offset & (width.bytes() - 1) == 0, "a hart splits what is misaligned");
        self.value.load(Ordering::Relaxed).wrapping_mul(offset | 1) & width.mask()
    }

    fn write(&self, offset: u64, width: Width, value: u64) {
        assert!(offset <= Self::SIZE - width.bytes());
        assert!(offset & (width.bytes() - 1) == 0, "a hart splits what is misaligned");
        assert_eq!(value & !width.mask(), 0);
        self.value.fetch_add(value.wrapping_add(offset), Ordering::Relaxed);
    }

    fn peek(&self, offset: u64, width: Width) -> u64 {
        self.read(offset, width)
    }

    fn executable(&self) -> bool {
        self.executable
    }

    fn reset(&self) {}

    fn describe(&self, _: &Placement) -> Option<Node> {
        None
    }

    fn save(&self) -> Result<Vec<u8>, StateError> {
        Ok(Vec::new())
    }

    fn restore(&self, _: &[u8]) -> Result<(), StateError> {
        Ok(())
    }
}
