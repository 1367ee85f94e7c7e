//! An image file under the qcow2 library, whose tables change on the host in an order that survives a crash.
//!
//! The library writes its tables whenever its caches want, in an order that is right only if nothing interrupts it:
//! between two writes the host may lose power, keep any of the writes that were not made durable and lose any other. So
//! an image that [`Image::keep_order`] was called on holds writes of tables back, reads see them, and a commit brings
//! them to the host in steps:
//!
//! 1. reference counts, each the larger of the old and the new one, after all data;
//! 2. the refcount table, by which new ones of them are found;
//! 3. the header, which says where the refcount table and the L1 table are;
//! 4. what leads to clusters: L1 and L2 tables;
//! 5. reference counts that have become smaller.
//!
//! The file is made durable after each of the first four that there is something to do for. Between any two writes,
//! whatever subset of those since the last durable point has reached the disk, each pointer on the disk leads to a
//! cluster that is counted as used and holds what it shall hold: what is lost is space at most. Sectors are written
//! whole or not at all. (qcow2 specification, `docs/interop/qcow2.txt`, for the structures.)
//!
//! A refcount table that has become too small moves, and its old place is free from then on: the library may put
//! anything there before the next commit. So its move is made durable at once, when the library writes it into the
//! header.
//!
//! A disk that grows has to hide what is in its new part before it is there: until [`Image::keep_size`] ends, commits
//! leave the old size in the header.
//!
//! One thing is left to the user of this module: a cluster that was freed must not be used again before the commit of
//! what freed it has finished, since until then the tables on the disk lead there.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use imago::Storage;
use imago::io_buffers::{IoVector, IoVectorMut};
use imago::storage::drivers::CommonStorageHelper;

use super::Medium;
use super::format::Qcow2Header;
use crate::lock;

/// What a disk writes whole or not at all, in bytes.
const SECTOR: usize = 512;
/// Where the header has the disk's size.
const SIZE_FIELD: Range<usize> = 24..32;
/// Where it says where the refcount table is and how many clusters it has.
const REFTABLE_FIELDS: Range<usize> = 48..60;
/// An entry of an L1 or refcount table, in bytes.
const ENTRY: usize = 8;
/// The bits of an L1 entry, or of a refcount table's, that are an offset.
const L1_OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
const REFTABLE_OFFSET: u64 = 0xffff_ffff_ffff_fe00;

type Sectors = BTreeMap<u64, [u8; SECTOR]>;

/// An image file; clones are the same file.
#[derive(Clone, Debug)]
pub struct Image(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    medium: Arc<dyn Medium>,
    helper: CommonStorageHelper,
    order: OnceLock<Mutex<Order>>,
    /// Held by whoever writes the header of an image that keeps an order; locked before `order`.
    turn: Mutex<()>,
}

/// A commit that has begun; no other begins before it is finished.
#[must_use]
pub struct Commit<'a> {
    image: &'a Image,
    _turn: MutexGuard<'a, ()>,
}

#[derive(Debug)]
struct Order {
    tables: Tables,
    /// Sectors of tables that the next commit takes.
    held: Sectors,
    /// Those of the commit under way; older than `held`.
    writing: Sectors,
    /// The size that the header on the medium keeps.
    size: Option<u64>,
}

/// Where an image's tables are, as of the last write of the library.
#[derive(Debug)]
struct Tables {
    header: Qcow2Header,
    l2: HashSet<u64>,
    refblocks: HashSet<u64>,
}

/// What is held back, in the order in which it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Counts,
    CountTable,
    Header,
    Pointers,
}

impl Image {
    /// A file whose writes go straight to the medium.
    pub fn new(medium: Arc<dyn Medium>) -> Self {
        let helper = CommonStorageHelper::default();
        Self(Arc::new(Inner { medium, helper, order: OnceLock::new(), turn: Mutex::new(()) }))
    }

    /// Holds writes of tables back from now on, until they are committed.
    pub fn keep_order(&self, header: Qcow2Header) -> io::Result<()> {
        let tables = Tables::load(header, |offset, bytes| self.read_medium(offset, bytes))?;
        let order = Order { tables, held: Sectors::new(), writing: Sectors::new(), size: None };
        // A second call would find the same tables.
        let _ = self.0.order.set(Mutex::new(order));
        Ok(())
    }

    /// The file.
    pub fn medium(&self) -> &Arc<dyn Medium> {
        &self.0.medium
    }

    /// Bytes that are held back.
    pub fn held(&self) -> usize {
        self.0.order.get().map_or(0, |order| lock(order).held.len() * SECTOR)
    }

    /// Reads what is no table; past the end of the file there are zeroes.
    pub fn read_medium(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        let read = self.0.medium.read_at(offset, bytes)?;
        bytes[read..].fill(0);
        Ok(())
    }

    /// Has commits leave `size` as the disk's size in the file, or from now on the one that the library has written.
    pub fn keep_size(&self, size: Option<u64>) {
        if let Some(order) = self.0.order.get() {
            lock(order).size = size;
        }
    }

    /// Begins a commit of what is held back. Nothing else may use the image meanwhile.
    pub fn begin_commit(&self) -> Commit<'_> {
        let turn = lock(&self.0.turn);
        if let Some(order) = self.0.order.get() {
            let order = &mut *lock(order);
            let mut held = std::mem::take(&mut order.held);
            if let (Some(size), Some(header)) = (order.size, held.get_mut(&0)) {
                order.held.insert(0, *header);
                header[SIZE_FIELD].copy_from_slice(&size.to_be_bytes());
            }
            order.writing.extend(held);
        }
        Commit { image: self, _turn: turn }
    }

    fn write_in_order(&self, order: &Mutex<Order>) -> io::Result<()> {
        let (mut by_kind, refcount_order) = {
            let order = lock(order);
            let mut by_kind: BTreeMap<Kind, Sectors> = BTreeMap::new();
            for (sector, bytes) in &order.writing {
                // What was a table when it was written, and is none any more, harms nobody: nothing has its place yet.
                let kind = order.tables.kind(&(sector * SECTOR as u64..)).unwrap_or(Kind::Pointers);
                by_kind.entry(kind).or_default().insert(*sector, *bytes);
            }
            (by_kind, order.tables.header.refcount_order)
        };
        let counts = by_kind.remove(&Kind::Counts).unwrap_or_default();
        let smaller = self.write_larger_counts(&counts, refcount_order)?;
        self.0.medium.sync()?;
        for sectors in by_kind.values() {
            self.write_sectors(sectors)?;
            self.0.medium.sync()?;
        }
        self.write_sectors(&smaller)
    }

    /// Writes reference counts where they are larger than those on the medium; returns the sectors of which some are
    /// smaller.
    fn write_larger_counts(&self, counts: &Sectors, refcount_order: u32) -> io::Result<Sectors> {
        let (mut larger, mut smaller) = (Sectors::new(), Sectors::new());
        for (&sector, new) in counts {
            let mut old = [0; SECTOR];
            self.read_medium(sector * SECTOR as u64, &mut old)?;
            let merged = larger_counts(&old, new, refcount_order);
            if merged != old {
                larger.insert(sector, merged);
            }
            if merged != *new {
                smaller.insert(sector, *new);
            }
        }
        self.write_sectors(&larger)?;
        Ok(smaller)
    }

    /// Makes the medium's header lead to the refcount table at the place that `fields` tell. The table is there
    /// already; all that it leads to is written or held back.
    fn move_reftable(&self, order: &Order, fields: &[u8]) -> io::Result<()> {
        let is_count = |sector: u64| order.tables.kind(&(sector * SECTOR as u64..)) == Some(Kind::Counts);
        let counts = order.held.iter().filter(|(sector, _)| is_count(**sector)).map(|(at, bytes)| (*at, *bytes));
        self.write_larger_counts(&counts.collect(), order.tables.header.refcount_order)?;
        self.0.medium.sync()?;
        // Other fields, and counts that are smaller, wait for their commit.
        let mut header = [0; SECTOR];
        self.read_medium(0, &mut header)?;
        header[REFTABLE_FIELDS].copy_from_slice(fields);
        self.0.medium.write_at(0, &header)?;
        self.0.medium.sync()
    }

    /// Writes sectors, neighbours together.
    fn write_sectors(&self, sectors: &Sectors) -> io::Result<()> {
        let mut run: (u64, Vec<u8>) = (0, Vec::new());
        for (&sector, bytes) in sectors {
            if sector * SECTOR as u64 != run.0 + run.1.len() as u64 {
                self.0.medium.write_at(run.0, &run.1)?;
                run = (sector * SECTOR as u64, Vec::new());
            }
            run.1.extend_from_slice(bytes);
        }
        if run.1.is_empty() { Ok(()) } else { self.0.medium.write_at(run.0, &run.1) }
    }

    fn read(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        match self.0.order.get() {
            None => self.read_medium(offset, bytes),
            Some(order) => {
                let order = lock(order);
                if order.held.is_empty() && order.writing.is_empty() {
                    drop(order);
                    return self.read_medium(offset, bytes);
                }
                // Locked throughout: what is written meanwhile would be missing in both places.
                self.read_medium(offset, bytes)?;
                order.lay_over(offset, bytes);
                Ok(())
            }
        }
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if let Some(order) = self.0.order.get() {
            // A commit under way has an older header.
            let _turn = (offset == 0).then(|| lock(&self.0.turn));
            let mut order = lock(order);
            if order.tables.kind(&(offset..offset + bytes.len() as u64)).is_some() {
                if offset == 0
                    && let Some(fields) = bytes.get(REFTABLE_FIELDS)
                    && order.tables.header.reftable_fields() != fields
                {
                    self.move_reftable(&order, fields)?;
                }
                return order.hold(offset, bytes, |offset, bytes| self.read_medium(offset, bytes));
            }
        }
        self.0.medium.write_at(offset, bytes)
    }
}

impl Commit<'_> {
    /// Finishes it, while the image is in use again: everything written before it began is durable when this returns.
    ///
    /// # Errors
    /// The host could not write or sync. What was to be committed is held back again.
    pub fn finish(self) -> io::Result<()> {
        let inner = &self.image.0;
        let Some(order) = inner.order.get() else { return inner.medium.sync() };
        let result = self.image.write_in_order(order);
        let order = &mut *lock(order);
        let writing = std::mem::take(&mut order.writing);
        if result.is_err() {
            for (sector, bytes) in writing {
                order.held.entry(sector).or_insert(bytes);
            }
        }
        result
    }
}

impl Order {
    /// Puts what is not on the medium yet over what was read from there.
    fn lay_over(&self, offset: u64, bytes: &mut [u8]) {
        let end = offset + bytes.len() as u64;
        let sectors = offset / SECTOR as u64..end.div_ceil(SECTOR as u64);
        for (&sector, content) in self.writing.range(sectors.clone()).chain(self.held.range(sectors)) {
            let start = sector * SECTOR as u64;
            let (from, to) = (start.max(offset), (start + SECTOR as u64).min(end));
            bytes[(from - offset) as usize..(to - offset) as usize]
                .copy_from_slice(&content[(from - start) as usize..(to - start) as usize]);
        }
    }

    /// Holds a write of a table back.
    fn hold(
        &mut self,
        offset: u64,
        bytes: &[u8],
        read_medium: impl Fn(u64, &mut [u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let first = offset / SECTOR as u64;
        let start = first * SECTOR as u64;
        let inside = (offset - start) as usize;
        let mut old = vec![0; (inside + bytes.len()).next_multiple_of(SECTOR)];
        read_medium(start, &mut old)?;
        self.lay_over(start, &mut old);
        let mut new = old.clone();
        new[inside..inside + bytes.len()].copy_from_slice(bytes);
        let sectors = old.chunks_exact(SECTOR).zip(new.as_chunks::<SECTOR>().0);
        for (sector, (_, new)) in (first..).zip(sectors).filter(|(_, (old, new))| old != new) {
            self.held.insert(sector, *new);
        }
        self.follow(start, &old, &new, read_medium)
    }

    /// Notes the tables that a write has attached and detached.
    fn follow(
        &mut self,
        start: u64,
        old: &[u8],
        new: &[u8],
        read_medium: impl Fn(u64, &mut [u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        if start == 0 {
            let mut bytes = [0; Qcow2Header::SIZE];
            let length = new.len().min(bytes.len());
            bytes[..length].copy_from_slice(&new[..length]);
            let header = Qcow2Header::parse(&bytes).map_err(io::Error::other)?;
            if header != self.tables.header {
                // What was not written of a table that has moved is in its new place.
                let old = self.tables.header.reftable_range();
                if old != header.reftable_range() {
                    self.held.retain(|sector, _| !old.contains(&(sector * SECTOR as u64)));
                }
                let tables = Tables::load(header, |offset, bytes| {
                    read_medium(offset, bytes)?;
                    self.lay_over(offset, bytes);
                    Ok(())
                })?;
                self.tables = tables;
            }
        }
        let entries = (start..).step_by(ENTRY).zip(old.as_chunks::<ENTRY>().0.iter().zip(new.as_chunks::<ENTRY>().0));
        for (at, (old, new)) in entries.filter(|(_, (old, new))| old != new) {
            let (old, new) = (u64::from_be_bytes(*old), u64::from_be_bytes(*new));
            if self.tables.header.l1_range().contains(&at) {
                let (old, new) = (old & L1_OFFSET, new & L1_OFFSET);
                if old != new && self.tables.l2.remove(&old) {
                    // Its cluster may come to hold data, which nothing must be written over.
                    let sectors = old / SECTOR as u64..(old + self.tables.header.cluster_size()) / SECTOR as u64;
                    self.held.retain(|sector, _| !sectors.contains(sector));
                }
                self.tables.l2.extend((new != 0).then_some(new));
            } else if self.tables.header.reftable_range().contains(&at) && new & REFTABLE_OFFSET != 0 {
                self.tables.refblocks.insert(new & REFTABLE_OFFSET);
            }
        }
        Ok(())
    }
}

impl Qcow2Header {
    fn cluster_size(&self) -> u64 {
        1 << self.cluster_bits
    }

    fn l1_range(&self) -> Range<u64> {
        self.l1_offset..self.l1_offset.saturating_add(u64::from(self.l1_size) * ENTRY as u64)
    }

    /// As they are in the file.
    fn reftable_fields(&self) -> [u8; REFTABLE_FIELDS.end - REFTABLE_FIELDS.start] {
        let mut fields = [0; REFTABLE_FIELDS.end - REFTABLE_FIELDS.start];
        fields[..8].copy_from_slice(&self.reftable_offset.to_be_bytes());
        fields[8..].copy_from_slice(&self.reftable_clusters.to_be_bytes());
        fields
    }

    fn reftable_range(&self) -> Range<u64> {
        self.reftable_offset
            ..self.reftable_offset.saturating_add(u64::from(self.reftable_clusters) << self.cluster_bits)
    }
}

impl Tables {
    /// Most bytes of an L1 or refcount table; the library has opened it, so it is not larger.
    const LIMIT: u64 = 64 << 20;

    fn load(header: Qcow2Header, read: impl Fn(u64, &mut [u8]) -> io::Result<()>) -> io::Result<Self> {
        if !(9..=21).contains(&header.cluster_bits) || header.refcount_order > 6 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "cluster size or refcount width out of range"));
        }
        let entries = |range: Range<u64>, mask: u64| -> io::Result<HashSet<u64>> {
            let length = range.end - range.start;
            if length > Self::LIMIT {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a table is too large"));
            }
            let mut bytes = vec![0; length as usize];
            read(range.start, &mut bytes)?;
            let offsets = bytes.as_chunks::<ENTRY>().0.iter().map(|entry| u64::from_be_bytes(*entry) & mask);
            Ok(offsets.filter(|offset| *offset != 0).collect())
        };
        let l2 = entries(header.l1_range(), L1_OFFSET)?;
        let refblocks = entries(header.reftable_range(), REFTABLE_OFFSET)?;
        Ok(Self { header, l2, refblocks })
    }

    /// What a write that begins at the start of `range` is, if it is one of a table that is in use.
    fn kind(&self, range: &impl std::ops::RangeBounds<u64>) -> Option<Kind> {
        let std::ops::Bound::Included(&start) = range.start_bound() else { return None };
        let cluster = start & !(self.header.cluster_size() - 1);
        if cluster == 0 {
            Some(Kind::Header)
        } else if self.header.reftable_range().contains(&start) {
            Some(Kind::CountTable)
        } else if self.header.l1_range().contains(&start) || self.l2.contains(&cluster) {
            Some(Kind::Pointers)
        } else {
            self.refblocks.contains(&cluster).then_some(Kind::Counts)
        }
    }
}

/// A sector of reference counts of `1 << order` bits, each the larger one of `a` and `b`.
fn larger_counts(a: &[u8; SECTOR], b: &[u8; SECTOR], order: u32) -> [u8; SECTOR] {
    let mut merged = *a;
    if let Some(bytes) = (1usize << order).checked_div(8).filter(|bytes| *bytes != 0) {
        // Big-endian numbers compare like their bytes.
        for (merged, b) in merged.chunks_exact_mut(bytes).zip(b.chunks_exact(bytes)) {
            if *b > *merged {
                merged.copy_from_slice(b);
            }
        }
    } else {
        let width = 1u32 << order;
        let mask = (1u8 << width) - 1;
        for (merged, b) in merged.iter_mut().zip(b) {
            *merged = (0..8)
                .step_by(width as usize)
                .fold(0, |byte, shift| byte | (*merged >> shift & mask).max(b >> shift & mask) << shift);
        }
    }
    merged
}

impl fmt::Display for Image {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.medium.path().display().fmt(formatter)
    }
}

/// The library's view of the file. Its contract for the methods it calls unsafe (alignment, blocked ranges) is about
/// what may go wrong inside of the file: nothing here relies on it for the safety of memory.
#[expect(unsafe_code, reason = "the library declares these methods so; there is no unsafe operation in them")]
impl Storage for Image {
    fn size(&self) -> io::Result<u64> {
        self.0.medium.length()
    }

    fn resolve_relative_path<P: AsRef<Path>>(&self, relative: P) -> io::Result<PathBuf> {
        Ok(self.0.medium.path().parent().unwrap_or(Path::new("")).join(relative))
    }

    fn get_filename(&self) -> Option<PathBuf> {
        Some(self.0.medium.path().into())
    }

    unsafe fn pure_readv(&self, buffers: IoVectorMut<'_>, mut offset: u64) -> io::Result<()> {
        for mut buffer in buffers.into_inner() {
            self.read(offset, &mut buffer)?;
            offset = offset.checked_add(buffer.len() as u64).ok_or(io::ErrorKind::InvalidInput)?;
        }
        Ok(())
    }

    unsafe fn pure_writev(&self, buffers: IoVector<'_>, mut offset: u64) -> io::Result<()> {
        for buffer in buffers.into_inner() {
            self.write(offset, &buffer)?;
            offset = offset.checked_add(buffer.len() as u64).ok_or(io::ErrorKind::InvalidInput)?;
        }
        Ok(())
    }

    // There is no buffer but what is held back, which only a commit may write.
    fn flush(&self) -> io::Result<()> {
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.0.medium.sync()
    }

    unsafe fn invalidate_cache(&self) -> io::Result<()> {
        Ok(())
    }

    fn get_storage_helper(&self) -> &CommonStorageHelper {
        &self.0.helper
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_larger_count_of_every_width() {
        for order in 0..=6 {
            let width = 1u32 << order;
            let count = |bytes: &[u8; SECTOR], index: usize| -> u64 {
                let bits = index * width as usize;
                match width {
                    1..=4 => u64::from(bytes[bits / 8] >> (bits % 8)) & ((1 << width) - 1),
                    _ => bytes[bits / 8..][..width as usize / 8].iter().fold(0, |v, b| v << 8 | u64::from(*b)),
                }
            };
            let noise = |seed: u8| std::array::from_fn(|i| (i as u8).wrapping_mul(seed) ^ (i >> 3) as u8);
            let (a, b) = (noise(37), noise(101));
            let merged = larger_counts(&a, &b, order);
            for index in 0..SECTOR * 8 / width as usize {
                assert_eq!(count(&merged, index), count(&a, index).max(count(&b, index)), "{index} of {width} bits");
            }
        }
    }
}
