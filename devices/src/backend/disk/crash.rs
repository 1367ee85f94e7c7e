//! What is left of a disk after the host has lost power, for every moment at which that can happen.
//!
//! A [`Recorder`] notes every write and every completed sync of a disk under a random workload. For each cut, the image
//! is built again from what a host's disk guarantees: all that was written before the last completed sync, and of the
//! sectors written after it any subset. Each sector of the guest must then hold what was written to it last before the
//! last flush that had returned, or something that was written later; and a qcow2 image must be sound.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::format::Qcow2Header;
use super::qcow2::{self, Qcow2Disk};
use super::{Cache, Disk, Format, Medium, RawDisk, SECTOR_SIZE};
use crate::lock;

const SECTOR: usize = SECTOR_SIZE as usize;

#[derive(Clone, Debug)]
enum Event {
    Write(u64, Vec<u8>),
    Sync,
}

/// A medium in memory that remembers how it came to be.
#[derive(Debug, Default)]
struct Recorder {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    content: Vec<u8>,
    events: Vec<Event>,
    syncs: usize,
    /// The number of a sync that is left out.
    skipped: Option<usize>,
}

impl Recorder {
    fn new(path: &Path, content: Vec<u8>, skipped: Option<usize>) -> Arc<Self> {
        let state = State { content, skipped, ..State::default() };
        Arc::new(Self { path: path.into(), state: Mutex::new(state) })
    }

    fn now(&self) -> usize {
        lock(&self.state).events.len()
    }
}

fn put(content: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
    let offset = offset as usize;
    content.resize(content.len().max(offset + bytes.len()), 0);
    content[offset..offset + bytes.len()].copy_from_slice(bytes);
}

/// Reads what there is of a content at an offset; how many bytes.
pub(super) fn get(content: &[u8], offset: u64, bytes: &mut [u8]) -> usize {
    let there = content.get(offset as usize..).unwrap_or_default();
    let length = there.len().min(bytes.len());
    bytes[..length].copy_from_slice(&there[..length]);
    length
}

impl Medium for Recorder {
    fn length(&self) -> io::Result<u64> {
        Ok(lock(&self.state).content.len() as u64)
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        Ok(get(&lock(&self.state).content, offset, bytes))
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = lock(&self.state);
        put(&mut state.content, offset, bytes);
        state.events.push(Event::Write(offset, bytes.to_vec()));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = lock(&self.state);
        state.syncs += 1;
        if state.skipped != Some(state.syncs) {
            state.events.push(Event::Sync);
        }
        Ok(())
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

/// Deterministic numbers.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % limit
    }
}

/// What a sector of the guest holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Value {
    /// What it held at first.
    Base,
    Zero,
    /// The number of the write.
    Stamp(u64),
    /// Anything: it was discarded.
    Any,
}

fn stamp(sector: u64, value: Value) -> [u8; SECTOR] {
    let mut bytes = [0; SECTOR];
    let (number, tag) = match value {
        Value::Zero | Value::Any => return bytes,
        Value::Base => (0, b'b'),
        Value::Stamp(number) => (number, b's'),
    };
    for word in bytes.chunks_exact_mut(16) {
        word[..8].copy_from_slice(&number.to_le_bytes());
        word[8..15].copy_from_slice(&sector.to_le_bytes()[..7]);
        word[15] = tag;
    }
    bytes
}

/// An operation of the guest: the events between which it happened, and what it did.
struct Operation {
    start: usize,
    end: usize,
    sectors: Range<u64>,
    value: Value,
}

struct History {
    sectors: u64,
    base: Value,
    /// Sectors that the disk had at first; those behind them read as zeroes, once they are there.
    first_sectors: u64,
    operations: Vec<Operation>,
    /// Flushes: start and end.
    flushes: Vec<(usize, usize)>,
}

impl History {
    /// Sectors that were written, and those beside them.
    fn touched(&self) -> BTreeSet<u64> {
        let around = |range: &Range<u64>| range.start.saturating_sub(9)..(range.end + 9).min(self.sectors);
        self.operations.iter().flat_map(|operation| around(&operation.sectors)).collect()
    }

    /// What each of the sectors may hold if power is lost after `cut` events.
    fn allowed(&self, cut: usize, sectors: &BTreeSet<u64>) -> BTreeMap<u64, Vec<Value>> {
        let flushed = self.flushes.iter().filter(|(_, end)| *end <= cut).map(|(start, _)| *start).max().unwrap_or(0);
        let first = |sector| if sector < self.first_sectors { self.base } else { Value::Zero };
        let mut allowed: BTreeMap<_, _> = sectors.iter().map(|sector| (*sector, vec![first(*sector)])).collect();
        for operation in self.operations.iter().filter(|operation| operation.start <= cut) {
            for values in allowed.range_mut(operation.sectors.clone()).map(|(_, values)| values) {
                if operation.end <= flushed && self.flushes.iter().any(|(_, end)| *end <= cut) {
                    values.clear();
                }
                values.push(operation.value);
            }
        }
        allowed
    }
}

/// Lets a guest use `disk`, which is on `recorder`.
fn work(disk: &dyn Disk, recorder: &Recorder, base: Value, seed: u64, count: usize) -> History {
    let mut random = Random(seed);
    let sectors = disk.size() / SECTOR_SIZE;
    let mut history = History { sectors, base, first_sectors: sectors, operations: Vec::new(), flushes: Vec::new() };
    for number in 1..=count as u64 {
        // Mostly in a few places, so that clusters are written in parts and again.
        let place = random.below(6) * sectors / 6;
        let first = place + random.below(20);
        let most = if random.below(8) == 0 { 60 } else { 6 };
        let length = 1 + random.below(most);
        let range = first..(first + length).min(sectors);
        let (offset, bytes) = (range.start * SECTOR_SIZE, (range.end - range.start) * SECTOR_SIZE);
        let start = recorder.now();
        let value = match random.below(12) {
            0..=1 => {
                disk.flush().unwrap();
                history.flushes.push((start, recorder.now()));
                continue;
            }
            2 => {
                disk.discard(offset, bytes).unwrap();
                Value::Any
            }
            3 => {
                disk.write_zeroes(offset, bytes, random.below(2) == 0).unwrap();
                Value::Zero
            }
            _ => {
                let content: Vec<u8> = range.clone().flat_map(|sector| stamp(sector, Value::Stamp(number))).collect();
                disk.write_at(offset, &content).unwrap();
                Value::Stamp(number)
            }
        };
        history.operations.push(Operation { start, end: recorder.now(), sectors: range, value });
    }
    history
}

/// The image after a loss of power: each of the sectors that were not made durable is kept if `keep` says so.
fn after_power_loss(initial: &[u8], events: &[Event], mut keep: impl FnMut(usize) -> bool) -> Vec<u8> {
    let durable = events.iter().rposition(|event| matches!(event, Event::Sync)).map_or(0, |last| last + 1);
    let mut image = initial.to_vec();
    let mut volatile = 0;
    for (index, event) in events.iter().enumerate() {
        let Event::Write(offset, bytes) = event else { continue };
        let mut at = 0;
        while at < bytes.len() {
            let length = (SECTOR - (*offset as usize + at) % SECTOR).min(bytes.len() - at);
            let kept = index < durable || {
                volatile += 1;
                keep(volatile - 1)
            };
            if kept {
                put(&mut image, *offset + at as u64, &bytes[at..at + length]);
            }
            at += length;
        }
    }
    image
}

fn volatile_sectors(events: &[Event]) -> usize {
    let mut count = 0;
    after_power_loss(&[], events, |_| {
        count += 1;
        false
    });
    count
}

/// Loses power everywhere; the first thing that is wrong then.
fn explore(
    initial: &[u8],
    events: &[Event],
    history: &History,
    seed: u64,
    open: impl Fn(Vec<u8>) -> Result<Box<dyn Disk>, String>,
) -> Result<usize, String> {
    let mut random = Random(seed);
    let touched = history.touched();
    let mut images = 0;
    for cut in 0..=events.len() {
        let events = &events[..cut];
        let volatile = volatile_sectors(events);
        let allowed = history.allowed(cut, &touched);
        // Nothing, everything, all but one, one alone, and some mixtures.
        let mut choices: Vec<Box<dyn Fn(usize) -> bool>> = vec![Box::new(|_| false), Box::new(|_| true)];
        for _ in 0..3 {
            let one = random.below(volatile.max(1) as u64) as usize;
            choices.push(Box::new(move |i| i != one));
            choices.push(Box::new(move |i| i == one));
            choices.push(Box::new(move |i| i >= one));
            let mixture = random.below(1 << 31);
            choices.push(Box::new(move |i| Random(mixture ^ (i as u64) << 20).below(2) == 0));
        }
        for keep in choices.iter().take(if volatile == 0 { 1 } else { usize::MAX }) {
            images += 1;
            let disk = open(after_power_loss(initial, events, keep)).map_err(|error| format!("cut {cut}: {error}"))?;
            let mut bytes = [0; SECTOR];
            // A disk that was resized may have had its old size then.
            for (&sector, allowed) in allowed.range(..disk.size() / SECTOR_SIZE) {
                disk.read_at(sector * SECTOR_SIZE, &mut bytes).map_err(|error| format!("cut {cut}: {error}"))?;
                if !allowed.iter().any(|value| *value == Value::Any || stamp(sector, *value) == bytes) {
                    let found = u64::from_le_bytes(bytes[..8].try_into().unwrap());
                    return Err(format!("cut {cut}: sector {sector} holds {found}, allowed are {allowed:?}"));
                }
            }
        }
    }
    Ok(images)
}

/// What is wrong with a qcow2 image: references that are not counted.
pub(super) fn check(image: &[u8]) -> Result<(), String> {
    let header = image.get(..Qcow2Header::SIZE).ok_or("no header")?.try_into().unwrap();
    let header = Qcow2Header::parse(header).map_err(|error| error.to_string())?;
    header.check().map_err(|error| error.to_string())?;
    let cluster_size = 1u64 << header.cluster_bits;
    assert_eq!(header.refcount_order, 4, "this checker knows 16-bit counts only");
    let byte = |at: u64| image.get(at as usize).copied().unwrap_or(0);
    let be64 = |at: u64| (0..8).fold(0u64, |value, i| value << 8 | u64::from(byte(at + i)));
    let count = |cluster: u64| {
        let per_block = cluster_size / 2;
        let block = be64(header.reftable_offset + cluster / per_block * 8);
        let at = block + cluster % per_block * 2;
        if block == 0 { 0 } else { u64::from(byte(at)) << 8 | u64::from(byte(at + 1)) }
    };
    let mut references: HashMap<u64, u64> = HashMap::new();
    let mut refer = |offset: u64, length: u64| {
        for cluster in offset / cluster_size..(offset + length).div_ceil(cluster_size) {
            *references.entry(cluster).or_default() += 1;
        }
    };
    refer(0, 1);
    let reftable = u64::from(header.reftable_clusters) * cluster_size;
    refer(header.reftable_offset, reftable);
    (0..reftable / 8).map(|i| be64(header.reftable_offset + i * 8)).filter(|at| *at != 0).for_each(|at| refer(at, 1));
    refer(header.l1_offset, u64::from(header.l1_size) * 8);
    let mut copied = BTreeMap::new();
    for i in 0..u64::from(header.l1_size) {
        let l1 = be64(header.l1_offset + i * 8);
        let table = l1 & 0x00ff_ffff_ffff_fe00;
        if table == 0 {
            continue;
        }
        refer(table, 1);
        for j in 0..cluster_size / 8 {
            let l2 = be64(table + j * 8);
            if l2 & 0x00ff_ffff_ffff_fe00 != 0 {
                refer(l2 & 0x00ff_ffff_ffff_fe00, 1);
                copied.insert((l2 & 0x00ff_ffff_ffff_fe00) / cluster_size, l2 >> 63);
            }
        }
    }
    for (cluster, references) in references {
        if references > count(cluster) {
            return Err(format!("cluster {cluster} has {references} references and a count of {}", count(cluster)));
        }
    }
    for (cluster, copied) in copied {
        if copied != u64::from(count(cluster) == 1) {
            return Err(format!("cluster {cluster} has a count of {} and COPIED {copied}", count(cluster)));
        }
    }
    Ok(())
}

fn raw(seed: u64, skipped: Option<usize>) -> Result<usize, String> {
    let initial: Vec<u8> = (0..120).flat_map(|sector| stamp(sector, Value::Base)).collect();
    let recorder = Recorder::new(Path::new("raw"), initial.clone(), skipped);
    let disk = RawDisk::new(recorder.clone(), false, false).unwrap();
    let history = work(&disk, &recorder, Value::Base, seed, 120);
    let events = lock(&recorder.state).events.clone();
    explore(&initial, &events, &history, seed, |image| {
        Ok(Box::new(RawDisk::new(Recorder::new(Path::new("raw"), image, None), true, false).unwrap()))
    })
}

const QCOW2_SIZE: u64 = 5 << 20;

/// As [`raw`], on an image over a backing file if `overlay`. With clusters of 4 KiB two tables are in use; with
/// clusters of 512 bytes the tables of reference counts grow.
fn qcow2(seed: u64, skipped: Option<usize>, overlay: bool, cluster_size: usize) -> Result<usize, String> {
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path().join("base");
    let content: Vec<u8> = (0..QCOW2_SIZE / SECTOR_SIZE).flat_map(|sector| stamp(sector, Value::Base)).collect();
    std::fs::write(&base, content).unwrap();
    let backing = overlay.then(|| (base.to_str().unwrap().to_owned(), Format::Raw));
    let path = folder.path().join("image");
    let recorder = Recorder::new(&path, Vec::new(), None);
    qcow2::fill(recorder.clone(), QCOW2_SIZE, backing, cluster_size).unwrap();
    let initial = lock(&recorder.state).content.clone();
    let recorder = Recorder::new(&path, initial.clone(), skipped);
    let disk = Qcow2Disk::open(recorder.clone(), false, Cache::Writeback).unwrap();
    let history = work(&disk, &recorder, if overlay { Value::Base } else { Value::Zero }, seed, 80);
    drop(disk);
    let events = lock(&recorder.state).events.clone();
    explore(&initial, &events, &history, seed, |image| {
        check(&image)?;
        let medium = Recorder::new(&path, image, None);
        Qcow2Disk::open(medium, true, Cache::Writeback).map(|disk| Box::new(disk) as _).map_err(|e| e.to_string())
    })
}

/// A disk of half the size of what is below it grows to twice that, after some use. It has one size or the other, and
/// shows nothing of what is below the part that it gained.
fn growing(seed: u64, skipped: Option<usize>, cluster_size: usize) -> Result<usize, String> {
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path().join("base");
    // Not a whole number of clusters.
    let size = QCOW2_SIZE / 2 + SECTOR_SIZE;
    let content: Vec<u8> = (0..QCOW2_SIZE / SECTOR_SIZE).flat_map(|sector| stamp(sector, Value::Base)).collect();
    std::fs::write(&base, content).unwrap();
    let path = folder.path().join("image");
    let recorder = Recorder::new(&path, Vec::new(), None);
    let backing = Some((base.to_str().unwrap().to_owned(), Format::Raw));
    qcow2::fill(recorder.clone(), size, backing, cluster_size).unwrap();
    let initial = lock(&recorder.state).content.clone();
    let recorder = Recorder::new(&path, initial.clone(), skipped);
    let mut disk = Qcow2Disk::open(recorder.clone(), false, Cache::Writeback).unwrap();
    let mut history = work(&disk, &recorder, Value::Base, seed, 12);
    let start = recorder.now();
    disk.resize(2 * QCOW2_SIZE).unwrap();
    history.flushes.push((start, recorder.now()));
    drop(disk);
    let gained = size / SECTOR_SIZE..2 * QCOW2_SIZE / SECTOR_SIZE;
    // What is looked at: around the old end, the end of what is below, and the new end.
    for sectors in [gained.start..gained.start + 9, QCOW2_SIZE / SECTOR_SIZE - 9..QCOW2_SIZE / SECTOR_SIZE + 9] {
        history.operations.push(Operation { start: usize::MAX, end: usize::MAX, sectors, value: Value::Zero });
    }
    history.sectors = gained.end;
    let events = lock(&recorder.state).events.clone();
    explore(&initial, &events, &history, seed, |image| {
        check(&image)?;
        let medium = Recorder::new(&path, image, None);
        Qcow2Disk::open(medium, true, Cache::Writeback).map(|disk| Box::new(disk) as _).map_err(|e| e.to_string())
    })
}

#[test]
fn a_disk_that_grows_is_sound_and_shows_nothing_of_what_is_below() {
    for (seed, cluster_size) in [(1, 4096), (2, 4096), (3, 512), (4, 512)] {
        let images = growing(seed, None, cluster_size).unwrap();
        assert!(images > 100, "{images}");
    }
    let missed = (1..=12).filter(|skipped| growing(1, Some(*skipped), 4096).is_err()).count();
    assert!(missed >= 3, "{missed} of the first 12 syncs are missed");
}

/// The table of where reference counts are becomes too small, and moves. Its old place is free then, though the header
/// on the medium may lead there still.
#[test]
fn a_table_of_counts_that_moves_is_found_at_any_time() {
    const CLUSTER: usize = 512;
    // A cluster of the table leads to so many bytes: entries of 8 bytes, and counts of 2 bytes.
    const COVERED: u64 = (CLUSTER / 8 * (CLUSTER / 2) * CLUSTER) as u64;
    let path = Path::new("image");
    let recorder = Recorder::new(path, Vec::new(), None);
    qcow2::fill(recorder.clone(), 2 * COVERED, None, CLUSTER).unwrap();
    let initial = lock(&recorder.state).content.clone();
    let recorder = Recorder::new(path, initial.clone(), None);
    let disk = Qcow2Disk::open(recorder.clone(), false, Cache::Writeback).unwrap();
    let place =
        |content: &[u8]| Qcow2Header::parse(content[..Qcow2Header::SIZE].try_into().unwrap()).unwrap().reftable_offset;
    let piece = 64 * SECTOR_SIZE;
    let content = |sector: u64| (sector..sector + 64).flat_map(|sector| stamp(sector, Value::Stamp(1)));
    for offset in (0..COVERED + COVERED / 8).step_by(piece as usize) {
        disk.write_at(offset, &content(offset / SECTOR_SIZE).collect::<Vec<_>>()).unwrap();
    }
    let in_use = recorder.now();
    disk.flush().unwrap();
    assert_ne!(place(&initial), place(&lock(&recorder.state).content), "it has moved");
    // Also what was written after it moved is in its place.
    let mut bytes = vec![0; piece as usize];
    for offset in (0..COVERED + COVERED / 8).step_by(piece as usize) {
        disk.read_at(offset, &mut bytes).unwrap();
        assert!(content(offset / SECTOR_SIZE).eq(bytes.iter().copied()), "offset {offset}");
    }
    drop(disk);
    let events = lock(&recorder.state).events.clone();
    // Around syncs, and what is written to the header and to where the first table and its counts were.
    let cuts = (0..events.len()).filter(|at| match events[*at] {
        Event::Write(offset, _) => offset < 3 * SECTOR_SIZE,
        Event::Sync => true,
    });
    let mut random = Random(1);
    for cut in cuts.flat_map(|at| [at, at + 1]).chain([in_use]) {
        let mixture = random.below(1 << 31);
        let keep: [&dyn Fn(usize) -> bool; 3] =
            [&|_| false, &|_| true, &|i| Random(mixture ^ (i as u64) << 20).below(2) == 0];
        for keep in keep {
            let image = after_power_loss(&initial, &events[..cut], keep);
            check(&image).unwrap_or_else(|error| panic!("after {cut} of {} events: {error}", events.len()));
        }
    }
}

#[test]
fn a_raw_disk_keeps_what_was_flushed() {
    for seed in 1..=3 {
        let images = raw(seed, None).unwrap();
        assert!(images > 200, "{images}");
    }
}

#[test]
fn without_a_sync_a_raw_disk_loses_what_was_flushed() {
    let syncs = (1..=8).filter(|skipped| raw(1, Some(*skipped)).is_err()).count();
    assert!(syncs >= 6, "{syncs} of the first 8 syncs are missed");
}

#[test]
fn a_qcow2_disk_is_sound_and_keeps_what_was_flushed() {
    for (seed, overlay, cluster_size) in
        [(1, false, 4096), (2, true, 4096), (3, true, 4096), (26, true, 512), (27, false, 512)]
    {
        let images = qcow2(seed, None, overlay, cluster_size).unwrap();
        assert!(images > 200, "{images}");
    }
}

#[test]
fn without_a_sync_a_qcow2_disk_is_damaged() {
    let missed: Vec<_> = (1..=8).filter_map(|skipped| qcow2(2, Some(skipped), true, 4096).err()).collect();
    assert!(missed.len() >= 6, "{missed:?}");
    assert!(missed.iter().any(|reason| reason.contains("references")), "{missed:?}");
    assert!(missed.iter().any(|reason| reason.contains("holds")), "{missed:?}");
}
