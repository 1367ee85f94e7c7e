//! qcow2 images, version 2 and 3, by the library imago: backing files, deflate-compressed clusters.
//!
//! The library finds and allocates clusters; data moves between the guest and the file directly. Its tables reach the
//! file by `ordered` commits only, so that the image is valid at every moment, whenever the process or
//! the host dies.
//!
//! Invariants: whoever reads or writes holds the image shared; what frees clusters, and the short start of a commit,
//! hold it alone. While clusters that were freed wait for their commit, nothing is allocated.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bus::Scattered;
use imago::format::PreallocateMode;
use imago::format::builder::{FormatCreateBuilder, FormatDriverBuilder};
use imago::qcow2::Qcow2;
use imago::raw::Raw;
use imago::{DenyImplicitOpenGate, FormatAccess, Mapping, ShallowMapping};

use super::file::ImageFile;
use super::format::{self, Backing, Format, Qcow2Header};
use super::ordered::Image;
use super::{BUFFER, Cache, Disk, DiskError, Medium, SECTOR_SIZE};
use crate::lock;

/// Most images that stand behind each other.
pub(super) const LONGEST_CHAIN: usize = 64;
/// Bytes of tables that are held back before they are committed without a flush.
const MOST_HELD: usize = 32 << 20;
/// Bytes of a cluster in new images, as other programs make them.
pub(super) const CLUSTER_SIZE: usize = 64 << 10;

/// A disk in a qcow2 image, or a temporary one over an image of any format.
pub struct Qcow2Disk {
    format: RwLock<FormatAccess<Image>>,
    image: Image,
    path: PathBuf,
    size: u64,
    cluster_size: u64,
    read_only: bool,
    /// Everything is discarded in the end, so nothing need be durable.
    temporary: bool,
    /// Held by whoever commits.
    commits: Mutex<()>,
    /// Counts what has freed clusters, and how much of that is committed.
    frees: AtomicU64,
    committed_frees: AtomicU64,
}

/// What is written: bytes of this program's, or of the guest's memory.
#[derive(Clone, Copy)]
enum Source<'a> {
    Bytes(&'a [u8]),
    Guest(Scattered<'a>),
}

impl Source<'_> {
    fn len(&self) -> u64 {
        match self {
            Source::Bytes(bytes) => bytes.len() as u64,
            Source::Guest(run) => run.len(),
        }
    }

    /// Up to `length` bytes from `at`, which is not past the end.
    fn part(&self, at: u64, length: u64) -> Self {
        match self {
            Source::Bytes(bytes) => Source::Bytes(&bytes[at as usize..][..length.min(self.len() - at) as usize]),
            Source::Guest(run) => Source::Guest(run.part(at, length)),
        }
    }

    fn write(&self, medium: &dyn Medium, offset: u64) -> io::Result<()> {
        match self {
            Source::Bytes(bytes) => medium.write_at(offset, bytes),
            Source::Guest(run) => medium.write_from(offset, run),
        }
    }
}

fn damaged(medium: &dyn Medium) -> impl Fn(io::Error) -> DiskError {
    let path = medium.path().to_path_buf();
    move |source| DiskError::Damaged { path: path.clone(), source }
}

/// Opens an image of `medium` with all that stands behind it.
pub(super) fn open_format(
    medium: &Arc<dyn Medium>,
    format: Format,
    read_only: bool,
    cache: Cache,
) -> Result<(FormatAccess<Image>, Image), DiskError> {
    open_chain(medium, format, read_only, cache, 0)
}

/// Opens an image that `above` others stand on. The library is told what stands behind it, and opens no files: it would
/// guess the format where the image is of version 2, though that has a place for it, too.
fn open_chain(
    medium: &Arc<dyn Medium>,
    format: Format,
    read_only: bool,
    cache: Cache,
    above: usize,
) -> Result<(FormatAccess<Image>, Image), DiskError> {
    let path = medium.path();
    let host = |error| DiskError::host(path, read_only, error);
    let image = Image::new(medium.clone());
    if format == Format::Raw {
        return Ok((FormatAccess::new(Raw::open_image(image.clone(), !read_only).map_err(host)?), image));
    }
    let header = Qcow2Header::read(&**medium)
        .map_err(host)?
        .map_err(|source| DiskError::Format { path: path.into(), source })?;
    let backing = header.backing(&**medium).map_err(host)?;
    let backing = backing.map(|backing| open_backing(path, &backing, cache, above)).transpose()?;
    let mut qcow2 = Qcow2::<Image>::open_image(image.clone(), !read_only).map_err(damaged(&**medium))?;
    qcow2.set_backing(backing);
    qcow2.set_data_file(None);
    if !read_only {
        image.keep_order(header).map_err(damaged(&**medium))?;
    }
    Ok((FormatAccess::new(qcow2), image))
}

/// Opens what the image at `path` stands on, read-only.
fn open_backing(path: &Path, backing: &Backing, cache: Cache, above: usize) -> Result<FormatAccess<Image>, DiskError> {
    let below = backing.path(path);
    if above == LONGEST_CHAIN {
        return Err(DiskError::Chain { path: below, most: LONGEST_CHAIN });
    }
    let stated = backing.stated_format().map_err(|source| DiskError::Format { path: path.into(), source })?;
    let open = || {
        let file = ImageFile::open(&below, true, cache)?;
        let format = stated.map_or_else(|| format::probe(&file), Ok);
        let format = format.map_err(|error| DiskError::host(&below, true, error))?;
        let medium: Arc<dyn Medium> = Arc::new(file);
        Ok(open_chain(&medium, format, true, cache, above + 1)?.0)
    };
    open().map_err(|error| match error {
        // One of them is named with what stands on it; all that stand on that need not be.
        DiskError::Chain { .. } | DiskError::Backing { .. } => error,
        source => DiskError::Backing { path: path.into(), source: Box::new(source) },
    })
}

impl Qcow2Disk {
    /// Opens the image in `medium`, and its backing files.
    pub fn open(medium: Arc<dyn Medium>, read_only: bool, cache: Cache) -> Result<Self, DiskError> {
        let (format, image) = open_format(&medium, Format::Qcow2, read_only, cache)?;
        Self::new(format, image, medium.path(), read_only, false)
    }

    /// A temporary disk over the image in `medium`, which stays as it is. What the guest writes is kept in a nameless
    /// file in the host's temporary folder.
    pub fn snapshot(medium: Arc<dyn Medium>, format: Format, cache: Cache) -> Result<Self, DiskError> {
        let (base, _) = open_format(&medium, format, true, cache)?;
        let path = medium.path();
        let failed = |source| DiskError::Temporary { path: path.into(), folder: std::env::temp_dir(), source };
        let file = ImageFile::private(tempfile::tempfile().map_err(failed)?, path);
        let image = Image::new(Arc::new(file));
        let overlay = Qcow2::<Image>::create_builder(image.clone())
            .size(base.size().next_multiple_of(SECTOR_SIZE))
            .create_open(DenyImplicitOpenGate::default(), |image| {
                Ok(Qcow2::<Image>::builder(image).backing(Some(base)).write(true))
            })
            .map_err(failed)?;
        Self::new(FormatAccess::new(overlay), image, path, false, true)
    }

    fn new(
        format: FormatAccess<Image>,
        image: Image,
        path: &Path,
        read_only: bool,
        temporary: bool,
    ) -> Result<Self, DiskError> {
        let size = format.size() / SECTOR_SIZE * SECTOR_SIZE;
        if size == 0 {
            return Err(DiskError::Empty { path: path.into() });
        }
        let header = Qcow2Header::read(&**image.medium())
            .map_err(|error| DiskError::host(path, read_only, error))?
            .map_err(|source| DiskError::Format { path: path.into(), source })?;
        Ok(Self {
            format: RwLock::new(format),
            image,
            path: path.into(),
            size,
            cluster_size: 1 << header.cluster_bits,
            read_only,
            temporary,
            commits: Mutex::new(()),
            frees: AtomicU64::new(0),
            committed_frees: AtomicU64::new(0),
        })
    }

    fn shared(&self) -> RwLockReadGuard<'_, FormatAccess<Image>> {
        self.format.read().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn alone(&self) -> RwLockWriteGuard<'_, FormatAccess<Image>> {
        self.format.write().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn writable(&self) -> io::Result<()> {
        if self.read_only { Err(io::ErrorKind::ReadOnlyFilesystem.into()) } else { Ok(()) }
    }

    /// Brings tables and data to the host's disk.
    fn commit(&self) -> io::Result<()> {
        let _turn = lock(&self.commits);
        let format = self.alone();
        // Into what the image holds back: nothing is written yet.
        format.flush()?;
        let frees = self.frees.load(Ordering::Acquire);
        if self.temporary {
            self.committed_frees.store(frees, Ordering::Release);
            return Ok(());
        }
        let commit = self.image.begin_commit();
        drop(format);
        commit.finish()?;
        self.committed_frees.store(frees, Ordering::Release);
        Ok(())
    }

    /// Whether clusters that were freed wait for their commit.
    fn waits_for_commit(&self) -> bool {
        self.frees.load(Ordering::Acquire) != self.committed_frees.load(Ordering::Acquire)
    }

    /// The image, shared and ready to allocate.
    fn shared_for_allocation(&self) -> io::Result<RwLockReadGuard<'_, FormatAccess<Image>>> {
        loop {
            let format = self.shared();
            if !self.waits_for_commit() {
                return Ok(format);
            }
            drop(format);
            self.commit()?;
        }
    }

    /// The image, held alone and ready to allocate; the caller frees clusters.
    fn alone_for_allocation(&self) -> io::Result<RwLockWriteGuard<'_, FormatAccess<Image>>> {
        loop {
            let format = self.alone();
            if !self.waits_for_commit() {
                self.frees.fetch_add(1, Ordering::Release);
                return Ok(format);
            }
            drop(format);
            self.commit()?;
        }
    }

    /// Writes the start of `source`, which has no cluster of its own yet; returns how many bytes.
    fn write_new(format: &FormatAccess<Image>, offset: u64, source: Source) -> io::Result<u64> {
        let mapping = format.prepare_data_mapping(offset, source.len(), true)?;
        let length = mapping.length().min(source.len());
        source.part(0, length).write(&**mapping.storage().medium(), mapping.offset())?;
        format.commit_data_mapping(mapping)?;
        Ok(length)
    }

    fn write(&self, offset: u64, source: Source) -> io::Result<()> {
        let mut done = 0;
        while done != source.len() {
            let (at, rest) = (offset + done, source.part(done, u64::MAX));
            let format = self.shared();
            let (mapping, length) = format.get_shallow_mapping(at, rest.len())?;
            let piece = rest.part(0, length);
            done += match mapping {
                ShallowMapping::Raw { storage, offset: at, writable: true, .. } => {
                    piece.write(&**storage.medium(), at)?;
                    piece.len()
                }
                // What was there is freed: a compressed cluster, or one's share of a snapshot's.
                ShallowMapping::Raw { .. } | ShallowMapping::Special { .. } => {
                    drop(format);
                    Self::write_new(&*self.alone_for_allocation()?, at, piece)?
                }
                ShallowMapping::Eof { .. } => return Err(io::ErrorKind::UnexpectedEof.into()),
                _ => {
                    drop(format);
                    Self::write_new(&*self.shared_for_allocation()?, at, piece)?
                }
            };
        }
        if self.image.held() > MOST_HELD { self.commit() } else { Ok(()) }
    }

    fn write_zero_bytes(&self, mut offset: u64, end: u64) -> io::Result<()> {
        let zeroes = vec![0; (end - offset).min(BUFFER) as usize];
        while offset < end {
            let piece = &zeroes[..(end - offset).min(BUFFER) as usize];
            self.write(offset, Source::Bytes(piece))?;
            offset += piece.len() as u64;
        }
        Ok(())
    }

    /// The whole clusters between `offset` and `end`; the disk's end is one of a cluster.
    fn clusters(&self, offset: u64, end: u64) -> (u64, u64) {
        let last = if end == self.size { end } else { end - end % self.cluster_size };
        (offset.next_multiple_of(self.cluster_size).min(end), last.max(offset))
    }

    /// The first range from `offset` on that may hold anything but zeroes; an empty one at the end if there is none.
    pub fn data_from(&self, mut offset: u64) -> io::Result<Range<u64>> {
        let format = self.shared();
        while offset < self.size {
            let (mapping, length) = format.get_mapping(offset, self.size - offset)?;
            match mapping {
                Mapping::Raw { storage, offset: at, .. } => {
                    // The file has holes of its own, or ends there.
                    let data = storage.medium().data_from(at)?;
                    let within = data.start.max(at) - at..(data.end.max(at) - at).min(length);
                    if within.start < within.end {
                        return Ok(offset + within.start..offset + within.end);
                    }
                }
                Mapping::Special { .. } if length != 0 => return Ok(offset..offset + length),
                Mapping::Eof { .. } => break,
                _ => {}
            }
            offset += length.max(1);
        }
        Ok(self.size..self.size)
    }

    /// Changes the size to `size` bytes, a multiple of [`SECTOR_SIZE`]. What is gained reads as zeroes, what is lost is
    /// lost; the file becomes no shorter. All is durable when this returns.
    pub fn resize(&mut self, size: u64) -> io::Result<()> {
        self.writable()?;
        let old = self.size;
        if size < old {
            self.alone_for_allocation()?.resize_shrink(size)?;
            self.size = size;
            return self.commit();
        }
        // What the backing file holds past the old end was never this disk's, nor is what the last cluster holds there:
        // it must be gone before the disk reaches so far, also on a host that fails meanwhile.
        self.image.keep_size(Some(old));
        self.alone_for_allocation()?.resize_grow(size, PreallocateMode::None)?;
        self.size = size;
        let mut offset = old;
        while offset < size {
            let data = self.data_from(offset)?;
            self.write_zeroes(data.start, data.end - data.start, true)?;
            offset = data.end;
        }
        self.commit()?;
        self.image.keep_size(None);
        self.commit()
    }

    /// The file.
    pub(super) fn medium(&self) -> &dyn Medium {
        &**self.image.medium()
    }

    /// Bytes of a cluster.
    pub fn cluster_size(&self) -> u64 {
        self.cluster_size
    }

    /// Makes whole clusters read as zeroes without writing them.
    fn zero_clusters(&self, mut offset: u64, end: u64, may_unmap: bool) -> io::Result<()> {
        while offset < end {
            let format = self.shared();
            let (mapping, length) = format.get_shallow_mapping(offset, end - offset)?;
            let done = matches!(mapping, ShallowMapping::Zero { .. });
            drop(format);
            if !done {
                let mut format = self.alone_for_allocation()?;
                if may_unmap { format.discard_to_zero(offset, length) } else { format.write_zeroes(offset, length) }?;
            }
            offset += length.max(1);
        }
        Ok(())
    }
}

impl Disk for Qcow2Disk {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_only(&self) -> bool {
        self.read_only
    }

    fn name(&self) -> String {
        self.path.display().to_string()
    }

    fn read_at(&self, mut offset: u64, mut bytes: &mut [u8]) -> io::Result<()> {
        let format = self.shared();
        while !bytes.is_empty() {
            let (mapping, length) = format.get_mapping(offset, bytes.len() as u64)?;
            let length = if matches!(mapping, Mapping::Eof { .. }) { bytes.len() } else { length as usize };
            let (piece, rest) = bytes.split_at_mut(length.min(bytes.len()));
            match mapping {
                Mapping::Raw { storage, offset: at, .. } => storage.read_medium(at, piece)?,
                Mapping::Special { .. } => format.read(&mut *piece, offset)?,
                _ => piece.fill(0),
            }
            offset += piece.len() as u64;
            bytes = rest;
        }
        Ok(())
    }

    fn read_now(&self, offset: u64, target: &Scattered) -> io::Result<u64> {
        let Ok(format) = self.format.try_read() else { return Ok(0) };
        let mut done = 0;
        while done != target.len() {
            let (mapping, length) = format.get_mapping(offset + done, target.len() - done)?;
            let piece = target.part(done, length);
            let count = match mapping {
                Mapping::Raw { storage, offset: at, .. } => storage.medium().read_now(at, &piece)?,
                Mapping::Zero { .. } => {
                    piece.zero().ok_or(io::ErrorKind::InvalidInput)?;
                    piece.len()
                }
                _ => 0,
            };
            done += count;
            if count != piece.len() || count == 0 {
                break;
            }
        }
        Ok(done)
    }

    fn writes_wait(&self) -> bool {
        self.image.medium().writes_wait()
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.writable()?;
        self.write(offset, Source::Bytes(bytes))
    }

    fn write_from(&self, offset: u64, source: &Scattered) -> io::Result<()> {
        self.writable()?;
        self.write(offset, Source::Guest(*source))
    }

    fn flush(&self) -> io::Result<()> {
        if self.read_only || self.temporary { Ok(()) } else { self.commit() }
    }

    fn discard(&self, offset: u64, length: u64) -> io::Result<()> {
        self.writable()?;
        let (mut offset, end) = self.clusters(offset, offset + length);
        if offset >= end {
            return Ok(());
        }
        let mut format = self.alone_for_allocation()?;
        while offset < end {
            let (mapping, length) = format.get_shallow_mapping(offset, end - offset)?;
            // Only what the disk has alone and in a table of its own: giving it back allocates nothing.
            if matches!(mapping, ShallowMapping::Raw { writable: true, .. }) {
                match format.discard_to_any(offset, length) {
                    // Version 2 cannot; and it is only advice.
                    Err(error) if error.kind() == io::ErrorKind::Unsupported => return Ok(()),
                    result => result?,
                }
            }
            offset += length.max(1);
        }
        Ok(())
    }

    fn write_zeroes(&self, offset: u64, length: u64, may_unmap: bool) -> io::Result<()> {
        self.writable()?;
        let end = offset + length;
        let (first, last) = self.clusters(offset, end);
        if first >= last {
            return self.write_zero_bytes(offset, end);
        }
        self.write_zero_bytes(offset, first)?;
        match self.zero_clusters(first, last, may_unmap) {
            // Version 2 has no clusters of zeroes.
            Err(error) if error.kind() == io::ErrorKind::Unsupported => self.write_zero_bytes(first, last)?,
            result => result?,
        }
        self.write_zero_bytes(last, end)
    }
}

impl Drop for Qcow2Disk {
    fn drop(&mut self) {
        if let Err(error) = self.flush() {
            tracing::error!("disk image {}: not everything could be written: {error}", self.path.display());
        }
    }
}

/// Makes an empty image in an empty medium.
pub(super) fn fill(
    medium: Arc<dyn Medium>,
    size: u64,
    backing: Option<(String, Format)>,
    cluster_size: usize,
) -> io::Result<()> {
    let builder = Qcow2::<Image>::create_builder(Image::new(medium.clone())).size(size).cluster_size(cluster_size);
    match backing {
        Some((name, format)) => builder.backing(name, format.name().into()),
        None => builder,
    }
    .create()?;
    medium.sync()
}

#[cfg(test)]
mod tests {
    use super::super::{Options, create, open};
    use super::*;

    /// Makes the header of the image at `path`, which has a backing file, one of version 2, as other programs write it.
    fn make_old(path: &Path, format: &str, name: &str) {
        let mut image = std::fs::read(path).unwrap();
        image[4..8].copy_from_slice(&2u32.to_be_bytes());
        image[72..4096].fill(0);
        image[72..76].copy_from_slice(&0xe279_2acau32.to_be_bytes());
        image[76..80].copy_from_slice(&(format.len() as u32).to_be_bytes());
        image[80..][..format.len()].copy_from_slice(format.as_bytes());
        image[96..][..name.len()].copy_from_slice(name.as_bytes());
        image[8..16].copy_from_slice(&96u64.to_be_bytes());
        image[16..20].copy_from_slice(&(name.len() as u32).to_be_bytes());
        std::fs::write(path, image).unwrap();
    }

    #[test]
    fn a_format_that_is_stated_is_not_guessed() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("secret"), [7; 1 << 20]).unwrap();
        // What a guest may have written to its raw disk: an image that leads to a file of the host, and one of no
        // version.
        create::overlay(&at("leads"), &at("secret"), Some(Format::Raw), None, false).unwrap();
        std::fs::write(at("none"), [&b"QFI\xfb\0\0\0\x09"[..], &[0; 65528]].concat()).unwrap();
        for base in ["leads", "none"] {
            let content = std::fs::read(at(base)).unwrap();
            for version in [3, 2] {
                create::overlay(&at("top"), &at(base), Some(Format::Raw), None, true).unwrap();
                if version == 2 {
                    make_old(&at("top"), "raw", base);
                }
                let disk = open(&at("top"), &Options::default()).unwrap();
                let mut bytes = [0; 4096];
                disk.read_at(0, &mut bytes).unwrap();
                assert!(bytes == content[..4096], "{base}, version {version}");
            }
        }
        make_old(&at("top"), "vmdk", "none");
        let error = open(&at("top"), &Options::default()).err().unwrap().to_string();
        assert!(error.contains("top") && error.contains("vmdk"), "{error}");
    }

    #[test]
    fn what_is_missing_below_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("base"), [7; 1 << 20]).unwrap();
        create::overlay(&at("middle"), &at("base"), Some(Format::Raw), None, false).unwrap();
        create::overlay(&at("top"), &at("middle"), None, None, false).unwrap();
        std::fs::remove_file(at("base")).unwrap();
        let before = std::fs::read(at("top")).unwrap();
        let error = open(&at("top"), &Options::default()).err().unwrap();
        assert!(matches!(&error, DiskError::Backing { path, .. } if *path == at("middle")), "{error}");
        assert!(error.to_string().contains("base: does not exist"), "{error}");
        assert!(std::fs::read(at("top")).unwrap() == before);
        // An image that stands on itself.
        std::fs::rename(at("top"), at("middle")).unwrap();
        let read_only = Options { read_only: true, ..Options::default() };
        let error = open(&at("middle"), &read_only).err().unwrap();
        assert!(matches!(error, DiskError::Chain { .. }), "{error}");
    }

    #[test]
    fn a_size_that_no_disk_has() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        create::image(&at("image"), Format::Qcow2, 1 << 20, false).unwrap();
        let mut image = std::fs::read(at("image")).unwrap();
        image[24..32].fill(0xff);
        std::fs::write(at("image"), image).unwrap();
        let snapshot = Options { snapshot: true, ..Options::default() };
        let errors = [
            open(&at("image"), &Options::default()).err(),
            open(&at("image"), &snapshot).err(),
            create::overlay(&at("top"), &at("image"), None, None, false).err(),
        ];
        for error in errors {
            assert!(matches!(error, Some(DiskError::Format { .. })), "{error:?}");
        }
    }
}
