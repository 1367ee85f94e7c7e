//! Raw images: the disk's bytes as they are.

use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use bus::Scattered;

use super::file::ImageFile;
use super::format::QCOW2_MAGIC;
use super::{BUFFER, Cache, Disk, DiskError, Medium, SECTOR_SIZE};

/// A raw image in a file, or a block device of the host.
///
/// A file whose size is no multiple of a sector reads as zeroes to the end of its last sector, and grows to there when
/// that sector is written: no byte of it is out of reach.
#[derive(Debug)]
pub struct RawDisk {
    medium: Arc<dyn Medium>,
    /// Bytes of the medium when it was opened.
    length: u64,
    size: u64,
    read_only: bool,
    /// Nobody has said that it is raw.
    guessed: bool,
}

impl RawDisk {
    /// Opens the image at `path` and locks it.
    pub fn open(path: &Path, read_only: bool) -> Result<Self, DiskError> {
        Self::new(Arc::new(ImageFile::open(path, read_only, Cache::Writeback)?), read_only, false)
    }

    /// A disk of the bytes of `medium`. If its format was `guessed` by its content, the guest cannot make it look like
    /// another: the next guess would lead into files of the host that the guest has named there.
    pub fn new(medium: Arc<dyn Medium>, read_only: bool, guessed: bool) -> Result<Self, DiskError> {
        let host = |source| DiskError::host(medium.path(), read_only, source);
        let length = medium.length().map_err(host)?;
        match length.checked_next_multiple_of(SECTOR_SIZE) {
            Some(size) if size != 0 => Ok(Self { medium, length, size, read_only, guessed }),
            _ => Err(DiskError::Empty { path: medium.path().into() }),
        }
    }

    /// Whether nobody has said that it is raw.
    pub fn is_guessed(&self) -> bool {
        self.guessed
    }

    /// The first range from `offset` on that may hold anything but zeroes; an empty one at the end if there is none.
    pub fn data_from(&self, offset: u64) -> io::Result<Range<u64>> {
        let data = self.medium.data_from(offset)?;
        Ok(if data.is_empty() { self.size..self.size } else { data })
    }

    /// Changes the size to `size` bytes, a multiple of [`SECTOR_SIZE`]. What is gained reads as zeroes, what is lost is
    /// lost. All is durable when this returns.
    pub fn resize(&mut self, size: u64) -> io::Result<()> {
        self.writable()?;
        self.medium.set_length(size)?;
        self.medium.sync()?;
        (self.length, self.size) = (size, size);
        Ok(())
    }

    /// Looks whether the host lets the size change, and leaves it.
    pub fn check_resize(&self) -> io::Result<()> {
        self.writable()?;
        self.medium.set_length(self.medium.length()?)
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

    fn name(&self) -> String {
        self.medium.path().display().to_string()
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        let read = self.medium.read_at(offset, bytes)?;
        if offset + (read as u64) < self.length.min(offset + bytes.len() as u64) {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file was cut short"));
        }
        bytes[read..].fill(0);
        Ok(())
    }

    fn read_now(&self, offset: u64, target: &Scattered) -> io::Result<u64> {
        self.medium.read_now(offset, target)
    }

    fn writes_wait(&self) -> bool {
        self.medium.writes_wait()
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.writable()?;
        if self.guessed && offset == 0 && bytes.starts_with(&QCOW2_MAGIC) {
            let reason = "a qcow2 header on a disk whose format was guessed; give format=raw to allow it";
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, reason));
        }
        self.medium.write_at(offset, bytes)
    }

    fn write_from(&self, offset: u64, source: &Scattered) -> io::Result<()> {
        self.writable()?;
        if !self.guessed || offset != 0 {
            return self.medium.write_from(offset, source);
        }
        // What is looked at is what is written, whatever the guest does to its memory meanwhile.
        let mut start = [0; SECTOR_SIZE as usize];
        source.read(&mut start).ok_or(io::ErrorKind::InvalidInput)?;
        self.write_at(0, &start)?;
        self.medium.write_from(SECTOR_SIZE, &source.part(SECTOR_SIZE, u64::MAX))
    }

    fn flush(&self) -> io::Result<()> {
        if self.read_only { Ok(()) } else { self.medium.sync() }
    }

    fn discard(&self, offset: u64, length: u64) -> io::Result<()> {
        self.writable()?;
        // Only advice: a host without holes keeps the bytes.
        self.medium.deallocate(offset, length).map(|_| ())
    }

    fn write_zeroes(&self, mut offset: u64, mut length: u64, may_unmap: bool) -> io::Result<()> {
        self.writable()?;
        if may_unmap && self.medium.deallocate(offset, length)? {
            return Ok(());
        }
        let zeroes = vec![0; length.min(BUFFER) as usize];
        while length != 0 {
            let piece = length.min(zeroes.len() as u64);
            self.medium.write_at(offset, &zeroes[..piece as usize])?;
            (offset, length) = (offset + piece, length - piece);
        }
        Ok(())
    }
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

    #[test]
    fn a_guest_cannot_change_a_guessed_format() {
        let file = image(1024);
        let magic = [&QCOW2_MAGIC[..], &[0; 508]].concat();
        let medium = |path: &Path| Arc::new(ImageFile::open(path, false, Cache::Writeback).unwrap());
        let guessed = RawDisk::new(medium(file.path()), false, true).unwrap();
        assert!(guessed.write_at(0, &magic).unwrap_err().to_string().contains("format=raw"));
        guessed.write_at(512, &magic).unwrap();
        guessed.write_at(0, &[1; 512]).unwrap();
        drop(guessed);
        RawDisk::new(medium(file.path()), false, false).unwrap().write_at(0, &magic).unwrap();
    }

    #[test]
    fn a_file_cut_short_is_an_error() {
        let file = image(4096);
        let disk = RawDisk::open(file.path(), false).unwrap();
        file.as_file().set_len(1024).unwrap();
        disk.read_at(512, &mut [0; 512]).unwrap();
        for length in [512, 1024] {
            let error = disk.read_at(1536 - length as u64 / 2, &mut vec![0; length]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        }
        disk.write_at(3584, &[9; 512]).unwrap();
        disk.read_at(1536, &mut [0; 512]).unwrap();
    }
}
