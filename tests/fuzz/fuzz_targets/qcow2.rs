//! qcow2 images with any header and any tables: they are refused, or a guest that uses the disk gets data or errors.
#![no_main]

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use bus::{Piece, Ram, Scattered};
use devices::backend::disk::qcow2::Qcow2Disk;
use devices::backend::disk::{Cache, Disk, Medium, SECTOR_SIZE};
use libfuzzer_sys::fuzz_target;

/// Longest file, in bytes.
const LONGEST: u64 = 1 << 20;
/// Longest request, in sectors.
const MOST_SECTORS: u64 = 64;

/// A file in memory.
#[derive(Debug)]
struct Memory(Mutex<Vec<u8>>);

impl Medium for Memory {
    fn length(&self) -> io::Result<u64> {
        Ok(self.0.lock().unwrap().len() as u64)
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        let content = self.0.lock().unwrap();
        let there = usize::try_from(offset).ok().and_then(|offset| content.get(offset..)).unwrap_or_default();
        let length = there.len().min(bytes.len());
        bytes[..length].copy_from_slice(&there[..length]);
        Ok(length)
    }

    fn read_now(&self, offset: u64, target: &Scattered) -> io::Result<u64> {
        let mut bytes = vec![0; target.len() as usize];
        let read = self.read_at(offset, &mut bytes)?;
        target.write(&bytes[..read]).unwrap();
        Ok(read as u64)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let end = offset.checked_add(bytes.len() as u64).filter(|end| *end <= LONGEST);
        let (offset, end) = (offset as usize, end.ok_or(io::ErrorKind::FileTooLarge)? as usize);
        let mut content = self.0.lock().unwrap();
        let length = content.len().max(end);
        content.resize(length, 0);
        content[offset..end].copy_from_slice(bytes);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn path(&self) -> &Path {
        Path::new("image")
    }
}

/// A request: what, the number of sectors, and the sector, from the start or the end of the disk.
fn perform(disk: &Qcow2Disk, ram: &Ram, [kind, sectors, low, high]: [u8; 4]) {
    let all = disk.size() / SECTOR_SIZE;
    let sectors = (u64::from(sectors) % MOST_SECTORS + 1).min(all);
    let place = i16::from_le_bytes([low, high]);
    let near = u64::from(place.unsigned_abs());
    let sector = if place < 0 { all.saturating_sub(near) } else { near }.min(all - sectors);
    let (offset, length) = (sector * SECTOR_SIZE, sectors * SECTOR_SIZE);
    let mut bytes = vec![kind; length as usize];
    let pieces = [Piece { address: 0, length }];
    let run = Scattered::new(ram, &pieces);
    // An error is as good an answer as any.
    let _ = match kind % 8 {
        0 | 1 => disk.read_at(offset, &mut bytes),
        2 => disk.read_now(offset, &run).map(|_| ()),
        3 => disk.write_at(offset, &bytes),
        4 => disk.write_from(offset, &run),
        5 => disk.discard(offset, length),
        6 => disk.write_zeroes(offset, length, kind >= 128),
        _ => disk.flush(),
    };
}

// An input is an image whose last bytes are requests too: a seed is just an image.
fuzz_target!(|image: &[u8]| {
    let mut content = image.to_vec();
    // The names of files of the host that it stands on are another matter.
    if let Some(backing) = content.get_mut(8..20) {
        backing.fill(0);
    }
    let medium: Arc<dyn Medium> = Arc::new(Memory(Mutex::new(content)));
    let Ok(disk) = Qcow2Disk::open(medium, false, Cache::Writeback) else { return };
    let ram = Ram::new(0, MOST_SECTORS * SECTOR_SIZE).unwrap();
    for request in image.as_chunks().0.iter().rev().take(24) {
        perform(&disk, &ram, *request);
    }
});
