//! Disks: what a block device of the guest is made of on the host.
//!
//! Offsets and lengths are in bytes and multiples of [`SECTOR_SIZE`]; who calls has checked them against
//! [`Disk::size`]. Calls come from the block device's own thread and may wait for the host.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

/// The unit of a disk's size and addresses in bytes.
pub const SECTOR_SIZE: u64 = 512;

/// A disk of fixed size.
pub trait Disk: Send + Sync {
    /// Size in bytes, a multiple of [`SECTOR_SIZE`].
    fn size(&self) -> u64;

    /// Whether every change fails.
    fn read_only(&self) -> bool;

    /// Fills `bytes` from `offset`.
    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()>;

    /// Writes all of `bytes` at `offset`; durable after the next [`Disk::flush`].
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Makes everything written before durable.
    fn flush(&self) -> io::Result<()>;

    /// The contents of a range are no longer needed: it may read as anything until it is written.
    fn discard(&self, offset: u64, length: u64) -> io::Result<()>;

    /// Makes a range read as zeroes; its space on the host may be given back if `may_unmap`.
    fn write_zeroes(&self, offset: u64, length: u64, may_unmap: bool) -> io::Result<()>;
}

/// Why a disk image could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// There is no such file.
    #[error("disk image {}: does not exist; check the name, or create one with `truncate -s 8G {}`", path.display(), path.display())]
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
    #[error("disk image {}: is no file and no block device; name a raw disk image", path.display())]
    Kind {
        /// The file.
        path: PathBuf,
    },
    /// Less than a byte.
    #[error("disk image {}: is empty; give it a size with `truncate -s 8G {}`", path.display(), path.display())]
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

/// A raw image in a file, or a block device of the host.
///
/// A file whose size is no multiple of a sector reads as zeroes to the end of its last sector, and grows to there when
/// that sector is written: no byte of it is out of reach. The file is locked while open, exclusively if writable, so
/// that no two guests can destroy it.
#[derive(Debug)]
pub struct RawDisk {
    file: File,
    size: u64,
    read_only: bool,
}

impl RawDisk {
    /// Opens the image at `path` and locks it.
    pub fn open(path: &Path, read_only: bool) -> Result<Self, DiskError> {
        let host = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => DiskError::NotFound { path: path.into() },
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                DiskError::Permission { path: path.into(), read_only }
            }
            _ => DiskError::Host { path: path.into(), read_only, source },
        };
        // Looked at first: opening a pipe would wait for its other end.
        if !can_be_disk(&std::fs::metadata(path).map_err(host)?) {
            return Err(DiskError::Kind { path: path.into() });
        }
        let file = OpenOptions::new().read(true).write(!read_only).open(path).map_err(host)?;
        match if read_only { file.try_lock_shared() } else { file.try_lock() } {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(DiskError::Locked { path: path.into() }),
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {
                tracing::warn!("disk image {}: the host cannot lock it; use it in one guest only", path.display());
            }
            Err(TryLockError::Error(error)) => return Err(host(error)),
        }
        // Unlike the metadata, the end that a seek finds is that of a block device too.
        let length = io::Seek::seek(&mut &file, io::SeekFrom::End(0)).map_err(host)?;
        match length.checked_next_multiple_of(SECTOR_SIZE) {
            Some(size) if size != 0 => Ok(Self { file, size, read_only }),
            _ => Err(DiskError::Empty { path: path.into() }),
        }
    }

    fn writable(&self) -> io::Result<()> {
        if self.read_only { Err(io::ErrorKind::ReadOnlyFilesystem.into()) } else { Ok(()) }
    }
}

impl Disk for RawDisk {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_only(&self) -> bool {
        self.read_only
    }

    fn read_at(&self, mut offset: u64, mut bytes: &mut [u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match read_some(&self.file, offset, bytes) {
                // Past the end of the file: the rest of its last sector, or someone has cut it short.
                Ok(0) => {
                    bytes.fill(0);
                    return Ok(());
                }
                Ok(count) => {
                    offset += count as u64;
                    bytes = &mut bytes[count..];
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn write_at(&self, mut offset: u64, mut bytes: &[u8]) -> io::Result<()> {
        self.writable()?;
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

    fn flush(&self) -> io::Result<()> {
        if self.read_only { Ok(()) } else { self.file.sync_data() }
    }

    fn discard(&self, offset: u64, length: u64) -> io::Result<()> {
        self.writable()?;
        // Only advice: a host without holes keeps the bytes.
        deallocate(&self.file, offset, length).map(|_| ())
    }

    fn write_zeroes(&self, mut offset: u64, mut length: u64, may_unmap: bool) -> io::Result<()> {
        self.writable()?;
        if may_unmap && deallocate(&self.file, offset, length)? {
            return Ok(());
        }
        let zeroes = vec![0; length.min(256 << 10) as usize];
        while length != 0 {
            let piece = length.min(zeroes.len() as u64);
            self.write_at(offset, &zeroes[..piece as usize])?;
            (offset, length) = (offset + piece, length - piece);
        }
        Ok(())
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

/// Gives the space of a range back to the host, so that it reads as zeroes; `false` if the host cannot.
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

    fn image(length: usize) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), (0..length).map(|i| i as u8).collect::<Vec<_>>()).unwrap();
        file
    }

    #[test]
    fn reads_and_writes_with_an_unaligned_end() {
        let file = image(1000);
        let disk = RawDisk::open(file.path(), false).unwrap();
        assert_eq!(disk.size(), 1024);
        let mut sector = [0xff; 512];
        disk.read_at(512, &mut sector).unwrap();
        assert_eq!(sector[487], (999 % 256) as u8);
        assert_eq!(sector[488..], [0; 24]);
        disk.write_at(512, &[7; 512]).unwrap();
        disk.flush().unwrap();
        let bytes = std::fs::read(file.path()).unwrap();
        assert_eq!((bytes.len(), bytes[511], bytes[512], bytes[1023]), (1024, 255, 7, 7));
    }

    #[test]
    fn a_writable_disk_is_locked_against_all_and_read_only_ones_share() {
        let file = image(512);
        let disk = RawDisk::open(file.path(), false).unwrap();
        for read_only in [false, true] {
            let error = RawDisk::open(file.path(), read_only).unwrap_err();
            assert!(matches!(error, DiskError::Locked { .. }), "{error}");
            assert!(error.to_string().contains(&file.path().display().to_string()));
        }
        drop(disk);
        let first = RawDisk::open(file.path(), true).unwrap();
        let _second = RawDisk::open(file.path(), true).unwrap();
        assert!(matches!(RawDisk::open(file.path(), false), Err(DiskError::Locked { .. })));
        assert!(first.write_at(0, &[0; 512]).is_err());
        assert!(first.discard(0, 512).is_err());
        assert!(first.write_zeroes(0, 512, true).is_err());
        first.flush().unwrap();
    }

    #[test]
    fn zeroes_with_and_without_unmapping() {
        let file = image(1 << 18);
        let disk = RawDisk::open(file.path(), false).unwrap();
        disk.write_zeroes(512, 1 << 17, false).unwrap();
        disk.write_zeroes((1 << 17) + 1024, 1 << 16, true).unwrap();
        let bytes = std::fs::read(file.path()).unwrap();
        let expected = |i: usize| match i {
            512..131_584 | 132_096..197_632 => 0,
            _ => i as u8,
        };
        assert_eq!(bytes.len(), 1 << 18);
        assert!(bytes.iter().enumerate().all(|(i, byte)| *byte == expected(i)));
        disk.discard(0, 1 << 18).unwrap();
        assert_eq!(std::fs::metadata(file.path()).unwrap().len(), 1 << 18);
    }

    #[test]
    fn what_is_no_disk_is_refused_with_a_cure() {
        let folder = tempfile::tempdir().unwrap();
        let missing = RawDisk::open(&folder.path().join("none.img"), true).unwrap_err();
        assert!(matches!(missing, DiskError::NotFound { .. }) && missing.to_string().contains("none.img"));
        assert!(matches!(RawDisk::open(folder.path(), true), Err(DiskError::Kind { .. })));
        assert!(matches!(RawDisk::open(image(0).path(), true), Err(DiskError::Empty { .. })));
    }
}
