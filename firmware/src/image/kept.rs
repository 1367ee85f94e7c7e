//! Bytes that a machine starts with and needs again at a reset, maybe never: large ones wait for that in a temporary
//! file without a name, not in memory.
//!
//! The user's own file would not do: it may have become another one by then.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bus::Ram;

/// Fewer bytes stay in memory.
const LARGE: u64 = 1 << 20;

/// Bytes of a file are read in pieces of this size.
const PIECE: usize = 1 << 16;

/// Bytes that are kept until they are needed again.
#[derive(Debug)]
pub struct Kept {
    length: u64,
    place: Mutex<Place>,
}

#[derive(Debug)]
enum Place {
    Memory(Vec<u8>),
    /// A file without a name, which nobody else can change.
    File(File),
}

impl From<Vec<u8>> for Kept {
    fn from(bytes: Vec<u8>) -> Self {
        Self { length: bytes.len() as u64, place: Mutex::new(Place::Memory(bytes)) }
    }
}

impl Kept {
    /// How many bytes there are.
    pub fn len(&self) -> u64 {
        self.length
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Moves large ones into a file. Where the host has no room for it, they stay in memory.
    pub fn put_away(&self) {
        if self.length < LARGE {
            return;
        }
        let mut place = self.lock();
        let Place::Memory(bytes) = &*place else { return };
        let written = || -> io::Result<File> {
            let mut file = tempfile::tempfile()?;
            file.write_all(bytes)?;
            Ok(file)
        };
        match written() {
            Ok(file) => *place = Place::File(file),
            Err(error) => tracing::debug!(%error, "what the machine starts stays in memory"),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Passes the bytes of a range on, in order and in pieces.
    ///
    /// # Errors
    /// The host cannot read its file, or `sink` fails.
    pub fn copy(&self, range: Range<u64>, mut sink: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let inside = range.start <= range.end && range.end <= self.length;
        if !inside {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match &*self.lock() {
            // Both ends are within the vector's length.
            Place::Memory(bytes) => sink(&bytes[range.start as usize..range.end as usize]),
            Place::File(file) => {
                // Under the lock, nobody else moves its position.
                let mut file = file;
                file.seek(SeekFrom::Start(range.start))?;
                let mut rest = file.take(range.end - range.start);
                let mut piece = vec![0; PIECE];
                loop {
                    match rest.read(&mut piece)? {
                        0 if rest.limit() == 0 => return Ok(()),
                        0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                        length => sink(&piece[..length])?,
                    }
                }
            }
        }
    }

    /// Writes the bytes of a range to RAM, at a guest-physical address.
    ///
    /// # Errors
    /// The host cannot read its file, or they are not all in RAM.
    pub fn place(&self, ram: &Ram, range: Range<u64>, mut address: u64) -> io::Result<()> {
        self.copy(range, |piece| {
            let written = ram.write(address, piece);
            address = address.saturating_add(piece.len() as u64);
            written.ok_or_else(|| io::Error::other("RAM ends before"))
        })
    }

    /// All of them.
    ///
    /// # Errors
    /// The host cannot read its file.
    pub fn bytes(&self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.copy(0..self.length, |piece| {
            bytes.extend_from_slice(piece);
            Ok(())
        })?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_away_reads_the_same() {
        for length in [0, 5, LARGE as usize + 12_345] {
            let bytes: Vec<u8> = (0..length).map(|place| (place * 7 % 251) as u8).collect();
            let kept = Kept::from(bytes.clone());
            for _ in 0..2 {
                assert!(kept.bytes().unwrap() == bytes);
                let (start, end) = (length / 3, length - length / 5);
                let mut part = Vec::new();
                kept.copy(start as u64..end as u64, |piece| {
                    part.extend_from_slice(piece);
                    Ok(())
                })
                .unwrap();
                assert!(part == bytes[start..end]);
                assert!(kept.copy(0..length as u64 + 1, |_| Ok(())).is_err());
                kept.put_away();
            }
            let is_in_memory = matches!(&*kept.lock(), Place::Memory(_));
            assert_eq!(is_in_memory, length < LARGE as usize);
        }
    }
}
