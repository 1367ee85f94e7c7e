//! Image files of the host.
//!
//! A file is locked while it is open (`flock` on Unix, `LockFileEx` on Windows, by the standard library): exclusively
//! if it is written to. Uncached access (`O_DIRECT`, Linux only) wants aligned addresses, offsets and lengths; what is
//! not aligned goes by a buffer here.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, RwLock};

use bus::Scattered;

use super::{Cache, DiskError, Medium};
use crate::lock;

/// What uncached access is aligned to, in bytes: enough for every disk.
const ALIGNMENT: usize = 4096;

/// A file of the host, or one of its block devices, locked.
#[derive(Debug)]
pub struct ImageFile {
    file: File,
    path: PathBuf,
    /// Changes of whole aligned blocks share it, changes of parts of blocks have it alone; only used when uncached.
    blocks: Option<RwLock<()>>,
    durable: Durability,
    /// Has a name, which it can lose.
    named: bool,
}

impl ImageFile {
    /// Opens the file at `path` and locks it.
    pub fn open(path: &Path, read_only: bool, cache: Cache) -> Result<Self, DiskError> {
        let host = |source| DiskError::host(path, read_only, source);
        check_kind(path).map_err(host)??;
        let mut options = OpenOptions::new();
        options.read(true).write(!read_only);
        if cache == Cache::None && !uncached(&mut options) {
            return Err(DiskError::Uncached { path: path.into() });
        }
        let file = options.open(path).map_err(|error| match error.kind() {
            io::ErrorKind::InvalidInput if cache == Cache::None => DiskError::Uncached { path: path.into() },
            _ => host(error),
        })?;
        match if read_only { file.try_lock_shared() } else { file.try_lock() } {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(DiskError::Locked { path: path.into() }),
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {
                tracing::warn!("disk image {}: the host cannot lock it; use it in one guest only", path.display());
            }
            Err(TryLockError::Error(error)) => return Err(host(error)),
        }
        Ok(Self {
            file,
            path: path.into(),
            blocks: (cache == Cache::None).then(RwLock::default),
            durable: Durability::default(),
            named: !read_only,
        })
    }

    /// Opens the file at `path` for a look that asks for no lock: others may change it meanwhile.
    pub fn look_at(path: &Path) -> Result<Self, DiskError> {
        let host = |source| DiskError::host(path, true, source);
        check_kind(path).map_err(host)??;
        Ok(Self::private(File::open(path).map_err(host)?, path))
    }

    /// A file that is nobody else's, for messages called `path`.
    pub fn private(file: File, path: &Path) -> Self {
        Self { file, path: path.into(), blocks: None, durable: Durability::default(), named: false }
    }

    /// The file itself.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Bytes that it takes on the host's disk.
    pub fn allocated(&self) -> io::Result<u64> {
        let metadata = self.file.metadata()?;
        if metadata.is_file() { Ok(allocated(&metadata)) } else { self.length() }
    }

    /// Reads until `bytes` is full or the file ends. Aligned if the file is uncached.
    fn fill(&self, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        let mut done = 0;
        while done != bytes.len() {
            match read_some(&self.file, offset + done as u64, &mut bytes[done..]) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            // An uncached file is not read on from the middle of a block: there it ends.
            if self.blocks.is_some() && !done.is_multiple_of(ALIGNMENT) {
                break;
            }
        }
        Ok(done)
    }

    fn put(&self, mut offset: u64, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match write_some(&self.file, offset, bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    offset += count as u64;
                    bytes = &bytes[count..];
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Changes part of a block of an uncached file.
    fn put_by_block(&self, blocks: &RwLock<()>, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let _alone = blocks.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        let (around, inside) = surround(offset, bytes.len());
        let length = self.length()?;
        let mut buffer = Aligned::new((around.end - around.start) as usize);
        let buffer = buffer.bytes();
        self.fill(around.start, buffer)?;
        buffer[inside].copy_from_slice(bytes);
        if !self.file.metadata()?.is_file() {
            // A device takes nothing past its end, where a block may end, too.
            let there = length.saturating_sub(around.start).min(buffer.len() as u64) as usize;
            return self.put(around.start, &buffer[..there]);
        }
        self.put(around.start, buffer)?;
        // The last block was written whole: the file is as long as it was asked to be.
        let wanted = length.max(offset + bytes.len() as u64);
        if around.end > wanted { self.file.set_len(wanted) } else { Ok(()) }
    }

    fn check_name(&self) -> io::Result<()> {
        if self.named && !has_name(&self.file.metadata()?) {
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                "the file was deleted: what the guest writes will be lost",
            ));
        }
        Ok(())
    }
}

impl Medium for ImageFile {
    fn length(&self) -> io::Result<u64> {
        // Unlike the metadata, the end that a seek finds is that of a block device too.
        io::Seek::seek(&mut &self.file, io::SeekFrom::End(0))
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        if self.blocks.is_none() || is_aligned(offset, bytes) {
            return self.fill(offset, bytes);
        }
        let (around, inside) = surround(offset, bytes.len());
        let mut buffer = Aligned::new((around.end - around.start) as usize);
        let read = self.fill(around.start, buffer.bytes())?.saturating_sub(inside.start).min(bytes.len());
        bytes[..read].copy_from_slice(&buffer.bytes()[inside.start..inside.start + read]);
        Ok(read)
    }

    fn read_now(&self, offset: u64, target: &Scattered) -> io::Result<u64> {
        if self.blocks.is_some() { Ok(0) } else { target.fill_now(&self.file, offset) }
    }

    fn writes_wait(&self) -> bool {
        self.blocks.is_some()
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        match &self.blocks {
            None => self.put(offset, bytes),
            Some(blocks) if is_aligned(offset, bytes) => {
                let _shared = blocks.read().unwrap_or_else(|poisoned| poisoned.into_inner());
                self.put(offset, bytes)
            }
            // Whole blocks in a buffer that is not aligned are no part of a block.
            Some(blocks) if is_aligned(offset, &bytes[..0]) && bytes.len().is_multiple_of(ALIGNMENT) => {
                let _shared = blocks.read().unwrap_or_else(|poisoned| poisoned.into_inner());
                let mut buffer = Aligned::new(bytes.len());
                buffer.bytes().copy_from_slice(bytes);
                self.put(offset, buffer.bytes())
            }
            Some(blocks) => self.put_by_block(blocks, offset, bytes),
        }
    }

    fn write_from(&self, offset: u64, source: &Scattered) -> io::Result<()> {
        let mut done = 0;
        while self.blocks.is_none() && done != source.len() {
            match source.part(done, u64::MAX).put(&self.file, offset + done)? {
                Some(count) => done += count,
                None => break,
            }
        }
        // The rest by a buffer.
        super::write_by_buffer(self, offset + done, &source.part(done, u64::MAX))
    }

    fn sync(&self) -> io::Result<()> {
        self.check_name()?;
        self.durable.sync(|| self.file.sync_data())
    }

    fn deallocate(&self, offset: u64, length: u64) -> io::Result<bool> {
        // Who changes a part of a block writes the rest of it again, as it was before.
        let _alone = self.blocks.as_ref().map(|blocks| blocks.write().unwrap_or_else(|poisoned| poisoned.into_inner()));
        deallocate(&self.file, offset, length)
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        if !self.file.metadata()?.is_file() {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "a block device has the size that the host gives it",
            ));
        }
        self.file.set_len(length)
    }

    fn data_from(&self, offset: u64) -> io::Result<Range<u64>> {
        let length = self.length()?;
        Ok(data_from(&self.file, offset)?.unwrap_or(offset.min(length)..length))
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

/// Remembers that what was written may not be on the disk, and never will be: the host reports a failed write-back once
/// and forgets what it could not write, so that a later success would be a lie. The lock is held meanwhile, since an
/// attempt at the same time may be told of success after the other one has taken the failure.
#[derive(Debug, Default)]
struct Durability {
    lost: Mutex<bool>,
}

impl Durability {
    fn sync(&self, sync: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let mut lost = lock(&self.lost);
        if *lost {
            return Err(io::Error::other("an earlier attempt to make writes durable failed"));
        }
        sync().inspect_err(|_| *lost = true)
    }
}

/// Looked at before it is opened: opening a pipe would wait for its other end.
fn check_kind(path: &Path) -> io::Result<Result<(), DiskError>> {
    let can_be_disk = can_be_disk(&std::fs::metadata(path)?);
    Ok(if can_be_disk { Ok(()) } else { Err(DiskError::Kind { path: path.into() }) })
}

/// The aligned range around `length` bytes at `offset`, and where in it they are.
fn surround(offset: u64, length: usize) -> (Range<u64>, Range<usize>) {
    let start = offset - offset % ALIGNMENT as u64;
    let inside = (offset - start) as usize;
    (start..(offset + length as u64).next_multiple_of(ALIGNMENT as u64), inside..inside + length)
}

fn is_aligned(offset: u64, bytes: &[u8]) -> bool {
    offset.is_multiple_of(ALIGNMENT as u64)
        && bytes.len().is_multiple_of(ALIGNMENT)
        && (bytes.is_empty() || bytes.as_ptr().align_offset(ALIGNMENT) == 0)
}

/// A buffer for uncached access.
#[derive(Debug, Default)]
pub struct Aligned {
    storage: Vec<u8>,
    start: usize,
    length: usize,
}

impl Aligned {
    /// `length` zeroes.
    pub fn new(length: usize) -> Self {
        let storage = vec![0; length + ALIGNMENT];
        let start = storage.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
        Self { storage, start, length }
    }

    /// The buffer.
    pub fn bytes(&mut self) -> &mut [u8] {
        &mut self.storage[self.start..self.start + self.length]
    }
}

#[cfg(unix)]
fn can_be_disk(metadata: &std::fs::Metadata) -> bool {
    metadata.is_file() || std::os::unix::fs::FileTypeExt::is_block_device(&metadata.file_type())
}

#[cfg(not(unix))]
fn can_be_disk(metadata: &std::fs::Metadata) -> bool {
    metadata.is_file()
}

/// Whether the file still has a name by which it can be opened again.
#[cfg(unix)]
fn has_name(metadata: &std::fs::Metadata) -> bool {
    std::os::unix::fs::MetadataExt::nlink(metadata) != 0
}

/// Elsewhere an open file cannot be deleted.
#[cfg(not(unix))]
fn has_name(_metadata: &std::fs::Metadata) -> bool {
    true
}

#[cfg(unix)]
fn allocated(metadata: &std::fs::Metadata) -> u64 {
    // In units of 512 bytes, whatever the file system's blocks are (stat(2)).
    std::os::unix::fs::MetadataExt::blocks(metadata) * 512
}

#[cfg(not(unix))]
fn allocated(metadata: &std::fs::Metadata) -> u64 {
    metadata.len()
}

/// The first range from `offset` on that is no hole; `None` if the host cannot tell.
#[cfg(target_os = "linux")]
fn data_from(file: &File, offset: u64) -> io::Result<Option<Range<u64>>> {
    use rustix::fs::{SeekFrom, seek};
    use rustix::io::Errno;
    let start = match seek(file, SeekFrom::Data(offset)) {
        Ok(start) => start,
        // There is none up to the end.
        Err(Errno::NXIO) => return Ok(Some(offset..offset)),
        Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    Ok(Some(start..seek(file, SeekFrom::Hole(start))?))
}

#[cfg(not(target_os = "linux"))]
fn data_from(_file: &File, _offset: u64) -> io::Result<Option<Range<u64>>> {
    Ok(None)
}

#[cfg(target_os = "linux")]
fn uncached(options: &mut OpenOptions) -> bool {
    std::os::unix::fs::OpenOptionsExt::custom_flags(options, rustix::fs::OFlags::DIRECT.bits() as i32);
    true
}

#[cfg(not(target_os = "linux"))]
fn uncached(_options: &mut OpenOptions) -> bool {
    false
}

#[cfg(unix)]
fn read_some(file: &File, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, bytes, offset)
}

#[cfg(unix)]
fn write_some(file: &File, offset: u64, bytes: &[u8]) -> io::Result<usize> {
    std::os::unix::fs::FileExt::write_at(file, bytes, offset)
}

#[cfg(windows)]
fn read_some(file: &File, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_read(file, bytes, offset)
}

#[cfg(windows)]
fn write_some(file: &File, offset: u64, bytes: &[u8]) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_write(file, bytes, offset)
}

#[cfg(target_os = "linux")]
fn deallocate(file: &File, offset: u64, length: u64) -> io::Result<bool> {
    use rustix::fs::{FallocateFlags, fallocate};
    use rustix::io::Errno;
    if length == 0 {
        return Ok(true);
    }
    match fallocate(file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, offset, length) {
        Ok(()) => Ok(true),
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Holes in files are not portable.
#[cfg(not(target_os = "linux"))]
fn deallocate(_file: &File, _offset: u64, _length: u64) -> io::Result<bool> {
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uncached_access_reaches_every_byte() {
        // Not in the temporary folder, which may be in memory, where uncached access does not exist.
        let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let path = folder.path().join("disk");
        let mut expected: Vec<u8> = (0..20_000).map(|i| (i % 251) as u8).collect();
        std::fs::write(&path, &expected).unwrap();
        let file = match ImageFile::open(&path, false, Cache::None) {
            Ok(file) => file,
            Err(DiskError::Uncached { .. }) => return,
            Err(error) => panic!("{error}"),
        };
        let mut seed = 1u64;
        let mut random = move |below: u64| {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (seed >> 33) % below
        };
        for round in 0..200 {
            let (offset, length) = (random(30_000), random(10_000) as usize);
            let mut bytes = vec![0xee; length];
            let read = file.read_at(offset, &mut bytes).unwrap();
            let there = expected.get(offset as usize..).unwrap_or_default();
            assert_eq!(read, length.min(there.len()), "{length} at {offset}");
            assert_eq!(bytes[..read], there[..read]);
            if round % 3 == 0 {
                let bytes = vec![round as u8; length];
                file.write_at(offset, &bytes).unwrap();
                let end = offset as usize + length;
                expected.resize(expected.len().max(if length == 0 { 0 } else { end }), 0);
                expected[offset as usize..].iter_mut().take(length).for_each(|byte| *byte = round as u8);
                assert_eq!(file.length().unwrap(), expected.len() as u64);
            }
        }
        file.sync().unwrap();
        assert!(std::fs::read(&path).unwrap() == expected);
    }

    /// Others have the rest of the block, which stays as they have left it.
    #[test]
    fn what_was_given_back_does_not_return() {
        let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let path = folder.path().join("disk");
        std::fs::write(&path, [0; ALIGNMENT]).unwrap();
        let file = match ImageFile::open(&path, false, Cache::None) {
            Ok(file) => file,
            Err(DiskError::Uncached { .. }) => return,
            Err(error) => panic!("{error}"),
        };
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    file.write_at(1536, &[7; 512]).unwrap();
                }
            });
            let mut returned = 0;
            for _ in 0..1000 {
                file.write_at(512, &[1; 512]).unwrap();
                if file.deallocate(512, 512).unwrap() {
                    let mut bytes = [0; 512];
                    file.read_at(512, &mut bytes).unwrap();
                    returned += usize::from(bytes != [0; 512]);
                }
            }
            done.store(true, std::sync::atomic::Ordering::Relaxed);
            assert_eq!(returned, 0);
        });
    }

    #[test]
    fn a_failure_to_make_durable_is_everybodys() {
        let durable = Durability::default();
        assert!(durable.sync(|| Ok(())).is_ok());
        let (begun, begins) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            let mut other = None;
            let result = durable.sync(|| {
                // The host has told this one of the failure, and would tell the other of success.
                other = Some(scope.spawn(|| {
                    begun.send(()).unwrap();
                    durable.sync(|| Ok(()))
                }));
                begins.recv().unwrap();
                Err(io::ErrorKind::StorageFull.into())
            });
            assert!(result.is_err());
            assert!(other.unwrap().join().unwrap().is_err());
        });
        assert!(durable.sync(|| Ok(())).is_err());
    }

    #[test]
    fn holes_are_no_data() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk");
        std::fs::write(&path, "").unwrap();
        let file = ImageFile::open(&path, false, Cache::Writeback).unwrap();
        file.set_length(8 << 20).unwrap();
        file.write_at(2 << 20, &[1; 4096]).unwrap();
        file.write_at(5 << 20, &[1; 4096]).unwrap();
        let (mut offset, mut data) = (0, Vec::new());
        while offset < 8 << 20 {
            let range = file.data_from(offset).unwrap();
            if range.is_empty() {
                break;
            }
            offset = range.end;
            data.push(range);
        }
        let is_data = |at: u64| data.iter().any(|range| range.contains(&at));
        assert!(is_data(2 << 20) && is_data(5 << 20), "{data:?}");
        if cfg!(target_os = "linux") {
            assert!(!is_data(0) && !is_data(4 << 20) && !is_data(7 << 20), "{data:?}");
            assert!(file.allocated().unwrap() < 1 << 20);
        }
        let (start, end) = (data[0].start, 8 << 20);
        assert_eq!(file.data_from(start + 1).unwrap(), start + 1..data[0].end);
        assert!(file.data_from(end).unwrap().is_empty() && file.data_from(end + 1).unwrap().is_empty());
    }

    #[cfg(unix)]
    #[test]
    fn a_deleted_file_is_not_durable() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk");
        std::fs::write(&path, [0; 512]).unwrap();
        let file = ImageFile::open(&path, false, Cache::Writeback).unwrap();
        file.write_at(0, &[1; 512]).unwrap();
        file.sync().unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(file.sync().unwrap_err().to_string().contains("deleted"));
    }
}
