//! Disks: what a block device of the guest is made of on the host.
//!
//! [`open`] takes an image file: raw (`raw`) or qcow2 (`qcow2`), told apart by `format`, on a [`Medium`], the file
//! itself (`file`). Images as a whole are made by `create`, converted and resized by `image`, described by `info`.
//! Offsets and lengths are in bytes and multiples of [`SECTOR_SIZE`]; who calls has checked them against
//! [`Disk::size`]. Calls come from the block device's own threads, several at once, and may wait for the host.
//!
//! What every disk promises: after [`Disk::flush`] has returned, everything whose writing had returned before is on the
//! host's stable storage, whatever becomes of this process and of the host. A write that fails, fails alone; once the
//! host has failed to make something durable, no flush succeeds any more, since nobody can tell what was lost.

#[cfg(test)]
mod crash;
pub mod create;
pub mod file;
pub mod format;
#[cfg(test)]
mod full;
#[cfg(test)]
mod hostile;
pub mod image;
pub mod info;
mod ordered;
pub mod qcow2;
pub mod raw;

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bus::Scattered;
pub use format::Format;
use format::FormatError;
pub use image::Image;
pub use raw::RawDisk;

/// The unit of a disk's size and addresses in bytes.
pub const SECTOR_SIZE: u64 = 512;

/// Bytes that go through a buffer at a time, where one is needed.
const BUFFER: u64 = 256 << 10;

/// A disk of fixed size.
pub trait Disk: Send + Sync {
    /// Size in bytes, a multiple of [`SECTOR_SIZE`].
    fn size(&self) -> u64;

    /// Whether every change fails.
    fn read_only(&self) -> bool;

    /// What messages call it: the name of its file.
    fn name(&self) -> String;

    /// Fills `bytes` from `offset`.
    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()>;

    /// Fills the start of `target` from `offset` with what the host has in memory, and returns how many bytes these are,
    /// possibly none.
    fn read_now(&self, offset: u64, target: &Scattered) -> io::Result<u64>;

    /// Writes all of `bytes` at `offset`; durable after the next [`Disk::flush`].
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Whether writes wait for the host's disk rather than for its memory. Then guest memory is not given to them.
    fn writes_wait(&self) -> bool;

    /// Writes all of `source` at `offset`, as [`Disk::write_at`] does.
    fn write_from(&self, offset: u64, source: &Scattered) -> io::Result<()>;

    /// Makes everything written before durable.
    fn flush(&self) -> io::Result<()>;

    /// The contents of a range are no longer needed: it may read as anything until it is written.
    fn discard(&self, offset: u64, length: u64) -> io::Result<()>;

    /// Makes a range read as zeroes; its space on the host may be given back if `may_unmap`.
    fn write_zeroes(&self, offset: u64, length: u64, may_unmap: bool) -> io::Result<()>;
}

/// The bytes under an image: a file of the host, or a test's stand-in for one.
pub trait Medium: std::fmt::Debug + Send + Sync + 'static {
    /// Its length in bytes.
    fn length(&self) -> io::Result<u64>;

    /// Reads until `bytes` is full or the medium ends, and returns how many bytes were read.
    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<usize>;

    /// Fills the start of `target` from `offset` with what the host has in memory, and returns how many bytes these are,
    /// possibly none, or fewer where the medium ends.
    fn read_now(&self, _offset: u64, _target: &Scattered) -> io::Result<u64> {
        Ok(0)
    }

    /// Whether [`Medium::write_at`] waits for the host's disk rather than for its memory.
    fn writes_wait(&self) -> bool {
        false
    }

    /// Writes all of `bytes`; the medium grows where they lie past its end.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Writes all of `source`, as [`Medium::write_at`] does.
    fn write_from(&self, offset: u64, source: &Scattered) -> io::Result<()> {
        write_by_buffer(self, offset, source)
    }

    /// Makes durable what was written before, and the length. After a failure it never succeeds again.
    fn sync(&self) -> io::Result<()>;

    /// Gives the space of a range back to the host, so that it reads as zeroes; `false` if the host cannot.
    fn deallocate(&self, _offset: u64, _length: u64) -> io::Result<bool> {
        Ok(false)
    }

    /// Makes it longer or shorter; what is gained reads as zeroes.
    fn set_length(&self, _length: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// The first range from `offset` on that may hold anything but zeroes; an empty one if there is none.
    fn data_from(&self, offset: u64) -> io::Result<Range<u64>> {
        Ok(offset..self.length()?.max(offset))
    }

    /// What messages call it.
    fn path(&self) -> &Path;
}

/// [`Medium::write_from`] for media that have no other way.
fn write_by_buffer(medium: &(impl Medium + ?Sized), offset: u64, source: &Scattered) -> io::Result<()> {
    let mut buffer = vec![0; source.len().min(BUFFER) as usize];
    let mut done = 0;
    while done != source.len() {
        let rest = source.part(done, BUFFER);
        let piece = &mut buffer[..rest.len() as usize];
        rest.read(piece).ok_or(io::ErrorKind::InvalidInput)?;
        medium.write_at(offset + done, piece)?;
        done += rest.len();
    }
    Ok(())
}

/// How the host caches an image. The guest sees a disk with a write-back cache in both cases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cache {
    /// In the host's memory too.
    #[default]
    Writeback,
    /// Not at all: reads and writes go to the host's disk directly.
    None,
}

/// How to open an image.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Its format; without one, the content tells.
    pub format: Option<Format>,
    /// The guest cannot write it, with `snapshot` neither, and others may read it meanwhile.
    pub read_only: bool,
    /// How the host caches it.
    pub cache: Cache,
    /// The guest can write it, but what it writes is discarded in the end: the file stays as it is.
    pub snapshot: bool,
}

/// Why a disk image could not be opened or made.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// There is no such file.
    #[error("disk image {}: does not exist; check the name, or make one with `vervet disk create {} 8G`", path.display(), path.display())]
    NotFound {
        /// The file.
        path: PathBuf,
    },
    /// The host forbids it.
    #[error("disk image {}: not permitted; change the file's permissions{}", path.display(), if *.read_only { "" } else { ", or open it read-only" })]
    Permission {
        /// The file.
        path: PathBuf,
        /// Whether it was to be opened read-only.
        read_only: bool,
    },
    /// Neither a file nor a block device.
    #[error("disk image {}: is no file and no block device; name a disk image", path.display())]
    Kind {
        /// The file.
        path: PathBuf,
    },
    /// Less than a byte.
    #[error("disk image {}: is empty; give it a size with `vervet disk resize {} 8G`", path.display(), path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// Another process, or another disk of this machine, has it open.
    #[error("disk image {}: is in use by another machine or disk; stop that one, or open it read-only in both", path.display())]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// The host cannot do without its cache here.
    #[error("disk image {}: its file system has no uncached access; use cache=writeback", path.display())]
    Uncached {
        /// The file.
        path: PathBuf,
    },
    /// The content is not that of the format.
    #[error("disk image {}: {source}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: FormatError,
    },
    /// A qcow2 image or something it refers to is damaged or missing.
    #[error("disk image {}: {source}; `qemu-img check` may tell more", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: io::Error,
    },
    /// What an image stands on cannot be opened.
    #[error("disk image {}: stands on another that cannot be opened: {source}", path.display())]
    Backing {
        /// The image.
        path: PathBuf,
        /// What is wrong with the other.
        source: Box<DiskError>,
    },
    /// There is no place for what would be discarded in the end.
    #[error(
        "disk image {}: no temporary file in {} for what is written: {source}; name a folder with room in TMPDIR",
        path.display(), folder.display()
    )]
    Temporary {
        /// The image.
        path: PathBuf,
        /// Where the file was to be.
        folder: PathBuf,
        /// The host's reason.
        source: io::Error,
    },
    /// Too many images stand on each other.
    #[error("disk image {}: is the backing file of an image after {most} others, or of itself; convert the image", path.display())]
    Chain {
        /// The file.
        path: PathBuf,
        /// How many may stand on each other.
        most: usize,
    },
    /// A new image would replace something.
    #[error("disk image {}: exists already; give another name, or --force to replace it", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// Not something that a new image may replace.
    #[error("disk image {}: is no regular file, which is all that is replaced; give another name", path.display())]
    Irreplaceable {
        /// What is there.
        path: PathBuf,
    },
    /// A new image cannot be made.
    #[error("disk image {}: cannot be made: {source}; check the folder's permissions and free space", path.display())]
    Make {
        /// The file.
        path: PathBuf,
        /// The host's reason.
        source: io::Error,
    },
    /// A disk that no image can hold.
    #[error("disk image {}: cannot hold a disk of {size} bytes; give a smaller size", path.display())]
    Size {
        /// The file.
        path: PathBuf,
        /// The size asked for.
        size: u64,
    },
    /// An image's snapshots are of disks of the old size.
    #[error(
        "disk image {}: has {count} snapshots of its old size; delete them with `qemu-img snapshot -d`, or convert the image",
        path.display()
    )]
    Snapshots {
        /// The file.
        path: PathBuf,
        /// How many.
        count: u32,
    },
    /// The user did not want to wait.
    #[error("disk image {}: interrupted; nothing has been changed", path.display())]
    Interrupted {
        /// The file that would have been made.
        path: PathBuf,
    },
    /// Anything else that the host says.
    #[error("disk image {}: {source}; check that the file can be read{}", path.display(), if *.read_only { "" } else { " and written" })]
    Host {
        /// The file.
        path: PathBuf,
        /// Whether it was to be opened read-only.
        read_only: bool,
        /// The host's reason.
        source: io::Error,
    },
}

impl DiskError {
    fn host(path: &Path, read_only: bool, source: io::Error) -> Self {
        let path = path.into();
        match source.kind() {
            io::ErrorKind::NotFound => DiskError::NotFound { path },
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                DiskError::Permission { path, read_only }
            }
            _ => DiskError::Host { path, read_only, source },
        }
    }
}

/// Opens the image at `path` for a guest and locks it: exclusively if it is written to, so that no two guests can destroy
/// it, or shared with others that only read it.
///
/// # Errors
/// The file cannot be opened or locked, or is no image of its format.
pub fn open(path: &Path, options: &Options) -> Result<Arc<dyn Disk>, DiskError> {
    Ok(match Image::open(path, options)? {
        Image::Raw(disk) => {
            if disk.is_guessed() {
                let path = path.display();
                tracing::warn!(
                    "disk image {path}: taken for a raw disk by its content; say so with --disk {path},format=raw"
                );
            }
            Arc::new(disk)
        }
        Image::Qcow2(disk) => Arc::new(disk),
    })
}
