//! Tests: the host's disk is full, and later it is not.
//!
//! Writes that find no room fail, and fail alone: what was written before is there, an image stays sound, and once there
//! is room again everything goes on as if nothing had happened.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::crash::{check, get};
use super::qcow2::{self, Qcow2Disk};
use super::{Cache, Disk, Format, Medium, RawDisk};
use crate::lock;

/// What the host's file system gives out, in bytes.
const BLOCK: u64 = 4096;
const SIZE: u64 = 4 << 20;
/// Longest file, in bytes.
const LONGEST: u64 = 64 << 20;
/// Bytes of a write.
const PIECE: usize = 3 << 10;

/// A sparse file on a file system that has so many blocks left.
#[derive(Debug)]
pub(super) struct Sparse {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    content: Vec<u8>,
    allocated: BTreeSet<u64>,
    room: usize,
}

impl Sparse {
    pub(super) fn new(path: &Path, content: Vec<u8>) -> Arc<Self> {
        let state = State { content, room: usize::MAX, ..State::default() };
        Arc::new(Self { path: path.into(), state: Mutex::new(state) })
    }

    fn leave(&self, room: usize) {
        lock(&self.state).room = room;
    }

    pub(super) fn content(&self) -> Vec<u8> {
        lock(&self.state).content.clone()
    }
}

impl Medium for Sparse {
    fn length(&self) -> io::Result<u64> {
        Ok(lock(&self.state).content.len() as u64)
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        Ok(get(&lock(&self.state).content, offset, bytes))
    }

    /// Like a file system: what has room is written before the rest fails.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let state = &mut *lock(&self.state);
        if offset.checked_add(bytes.len() as u64).is_none_or(|end| end > LONGEST) {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let mut at = 0;
        while at < bytes.len() {
            let position = offset + at as u64;
            let length = ((BLOCK - position % BLOCK) as usize).min(bytes.len() - at);
            if !state.allocated.contains(&(position / BLOCK)) {
                state.room = state.room.checked_sub(1).ok_or(io::ErrorKind::StorageFull)?;
                state.allocated.insert(position / BLOCK);
            }
            let end = position as usize + length;
            state.content.resize(state.content.len().max(end), 0);
            state.content[position as usize..end].copy_from_slice(&bytes[at..at + length]);
            at += length;
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

/// Writes pieces all over the disk, tells the host's disk to be full now and then, and looks after each failure. Returns
/// the number of writes and of flushes that failed.
fn use_up(
    disk: &dyn Disk,
    medium: &Sparse,
    initial: u8,
    seed: u64,
    sound: impl Fn(&[u8]),
    reopen: impl Fn() -> Box<dyn Disk>,
) -> (usize, usize) {
    let mut random = seed;
    let mut below = move |limit: u64| {
        random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (random >> 33) % limit
    };
    // Each place holds the last value written, or after a failure either of two in each sector.
    let mut expected: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
    let (mut failed_writes, mut failed_flushes) = (0, 0);
    let places = SIZE / PIECE as u64;
    let look = |disk: &dyn Disk, expected: &BTreeMap<u64, Vec<u8>>| {
        let mut bytes = [0; PIECE];
        for (place, values) in expected {
            disk.read_at(place * PIECE as u64, &mut bytes).unwrap();
            for sector in bytes.chunks(512) {
                assert!(sector.iter().all(|byte| *byte == sector[0]) && values.contains(&sector[0]), "place {place}");
            }
        }
    };
    for round in 0..40 {
        medium.leave(below(60) as usize);
        for _ in 0..60 {
            let (place, value) = (below(places), 1 + below(250) as u8);
            let values = expected.entry(place).or_insert_with(|| vec![initial]);
            match disk.write_at(place * PIECE as u64, &[value; PIECE]) {
                Ok(()) => *values = vec![value],
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::StorageFull, "{error}");
                    failed_writes += 1;
                    values.push(value);
                }
            }
        }
        look(disk, &expected);
        failed_flushes += usize::from(disk.flush().is_err());
        sound(&medium.content());
        look(disk, &expected);
        if round % 3 == 0 {
            // Somebody has tidied up.
            medium.leave(usize::MAX);
            let place = below(places);
            disk.write_at(place * PIECE as u64, &[round; PIECE]).unwrap();
            expected.insert(place, vec![round]);
            disk.flush().unwrap();
            sound(&medium.content());
            look(&*reopen(), &expected);
        }
    }
    (failed_writes, failed_flushes)
}

#[test]
fn a_raw_disk_on_a_full_host() {
    let medium = Sparse::new(Path::new("raw"), vec![0; SIZE as usize]);
    let disk = RawDisk::new(medium.clone(), false, false).unwrap();
    let reopen = || Box::new(RawDisk::new(medium.clone(), true, false).unwrap()) as Box<dyn Disk>;
    let (writes, flushes) = use_up(&disk, &medium, 0, 1, |_| {}, reopen);
    assert!(writes > 100 && flushes == 0, "{writes} writes and {flushes} flushes failed");
}

#[test]
fn a_qcow2_disk_on_a_full_host() {
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path().join("base");
    std::fs::write(&base, vec![7; SIZE as usize]).unwrap();
    let (mut writes, mut flushes) = (0, 0);
    for (seed, overlay) in [(1, false), (2, true), (3, false), (4, true)] {
        let medium = Sparse::new(&folder.path().join("image"), Vec::new());
        let backing = overlay.then(|| ("base".to_owned(), Format::Raw));
        qcow2::fill(medium.clone(), SIZE, backing, 4096).unwrap();
        let open = |medium: &Arc<Sparse>, read_only| {
            Qcow2Disk::open(medium.clone() as Arc<dyn Medium>, read_only, Cache::Writeback).unwrap()
        };
        let disk = open(&medium, false);
        let reopen = || Box::new(open(&medium, true)) as Box<dyn Disk>;
        let sound = |image: &[u8]| check(image).unwrap();
        let failed = use_up(&disk, &medium, if overlay { 7 } else { 0 }, seed, sound, reopen);
        (writes, flushes) = (writes + failed.0, flushes + failed.1);
    }
    // Tables have their room from the start.
    assert!(writes > 100 && flushes == 0, "{writes} writes and {flushes} flushes failed");
}
