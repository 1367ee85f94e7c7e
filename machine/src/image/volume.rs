//! A part of an image as a stream of its own, for a library that wants to own what it works on.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::ops::Range;

/// A range of bytes of a file.
pub(super) struct Volume<'a> {
    file: &'a File,
    range: Range<u64>,
    /// From the beginning of the range.
    position: u64,
}

impl<'a> Volume<'a> {
    /// The volume at a range of bytes of a file.
    pub(super) fn new(file: &'a File, range: Range<u64>) -> Self {
        Self { file, range, position: 0 }
    }

    /// Moves the file to the position, and says how many of `wanted` bytes there are from there on.
    fn place(&mut self, wanted: usize) -> io::Result<usize> {
        let length = self.range.end - self.range.start;
        let left = usize::try_from(length.saturating_sub(self.position)).unwrap_or(usize::MAX);
        self.file.seek(SeekFrom::Start(self.range.start + self.position.min(length)))?;
        Ok(wanted.min(left))
    }
}

impl Read for Volume<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.place(buffer.len())?;
        let count = self.file.read(&mut buffer[..count])?;
        self.position += count as u64;
        Ok(count)
    }
}

impl Write for Volume<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let count = self.place(buffer.len())?;
        let count = self.file.write(&buffer[..count])?;
        self.position += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Seek for Volume<'_> {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        let length = self.range.end - self.range.start;
        let position = match position {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
            SeekFrom::End(offset) => length.checked_add_signed(offset),
        };
        self.position = position.ok_or(ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_outside_the_range_is_touched() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(30).unwrap();
        let mut volume = Volume::new(&file, 10..20);
        assert_eq!(volume.seek(SeekFrom::End(-2)).unwrap(), 8);
        assert_eq!(volume.write(b"abcd").unwrap(), 2);
        assert_eq!(volume.write(b"cd").unwrap(), 0);
        assert_eq!(volume.seek(SeekFrom::Start(100)).unwrap(), 100);
        assert_eq!(volume.read(&mut [0; 4]).unwrap(), 0);
        volume.seek(SeekFrom::Start(7)).unwrap();
        let mut read = Vec::new();
        volume.read_to_end(&mut read).unwrap();
        assert_eq!(read, b"\0ab");
        assert!(volume.seek(SeekFrom::Current(-11)).is_err());
        let mut all = Vec::new();
        (&file).seek(SeekFrom::Start(0)).unwrap();
        (&file).read_to_end(&mut all).unwrap();
        assert_eq!(all.iter().filter(|byte| **byte != 0).count(), 2);
        assert_eq!(&all[18..20], b"ab");
    }
}
