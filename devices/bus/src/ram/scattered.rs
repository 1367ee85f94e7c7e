//! Runs of bytes that lie in pieces in guest RAM, as drivers hand them to devices, and files of the host that take or
//! give them without a copy in between.
//!
//! The host's kernel touches guest memory here as another process would that shares it. That is no access of this
//! program's, so it races with none of its atomics in the sense of the language; what the guest sees of bytes that it
//! changes meanwhile is any mixture, as with hardware's DMA. No reference to the bytes is made.

use std::fs::File;
use std::io;

use super::Ram;

/// A range of guest-physical addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Of the first byte.
    pub address: u64,
    /// In bytes.
    pub length: u64,
}

/// A run of bytes that lies in pieces in guest RAM.
#[derive(Clone, Copy)]
pub struct Scattered<'a> {
    ram: &'a Ram,
    pieces: &'a [Piece],
    /// Where the run begins in the pieces.
    start: u64,
    length: u64,
}

impl<'a> Scattered<'a> {
    /// The bytes of all `pieces`, one after the other.
    pub fn new(ram: &'a Ram, pieces: &'a [Piece]) -> Self {
        let length = pieces.iter().fold(0, |sum: u64, piece| sum.saturating_add(piece.length));
        Self { ram, pieces, start: 0, length }
    }

    /// In bytes.
    pub fn len(&self) -> u64 {
        self.length
    }

    /// Whether there is no byte.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Up to `length` bytes of the run from `at`, fewer where it ends.
    #[must_use]
    pub fn part(&self, at: u64, length: u64) -> Self {
        let at = at.min(self.length);
        Self { start: self.start + at, length: length.min(self.length - at), ..*self }
    }

    /// Calls `act` with each piece of the run and where it begins in the run, until that is `None`.
    fn each(&self, mut act: impl FnMut(Piece, u64) -> Option<()>) -> Option<()> {
        let (mut skip, mut done) = (self.start, 0);
        for &Piece { address, length } in self.pieces {
            if done == self.length {
                break;
            }
            if skip >= length {
                skip -= length;
                continue;
            }
            let piece = Piece { address: address.checked_add(skip)?, length: (length - skip).min(self.length - done) };
            act(piece, done)?;
            (skip, done) = (0, done + piece.length);
        }
        Some(())
    }

    /// Copies the start of the run into `bytes`. `None` if it is shorter, or not all of it in RAM.
    pub fn read(&self, bytes: &mut [u8]) -> Option<()> {
        let run = self.part(0, bytes.len() as u64);
        if run.len() != bytes.len() as u64 {
            return None;
        }
        run.each(|piece, at| self.ram.read(piece.address, &mut bytes[at as usize..][..piece.length as usize]))
    }

    /// Copies `bytes` to the start of the run. `None` if it is shorter, or not all of it in RAM.
    pub fn write(&self, bytes: &[u8]) -> Option<()> {
        let run = self.part(0, bytes.len() as u64);
        if run.len() != bytes.len() as u64 {
            return None;
        }
        run.each(|piece, at| self.ram.write(piece.address, &bytes[at as usize..][..piece.length as usize]))
    }

    /// Makes every byte zero. `None` if not all of them are in RAM.
    pub fn zero(&self) -> Option<()> {
        const ZEROES: [u8; 4096] = [0; 4096];
        let mut at = 0;
        while at < self.length {
            let length = ZEROES.len().min((self.length - at) as usize);
            self.part(at, length as u64).write(&ZEROES[..length])?;
            at += length as u64;
        }
        Some(())
    }

    /// Fills the start of the run with the bytes of `file` from `offset`, as far as the host has them in memory, and
    /// returns how many these are. Zero also where the host cannot do so, and at the end of the file.
    ///
    /// # Errors
    /// The host's; or the run is not all in RAM.
    pub fn fill_now(&self, file: &File, offset: u64) -> io::Result<u64> {
        self.each(|piece, _| {
            self.ram.provide_all(self.ram.offset(piece.address, piece.length)?, piece.length);
            Some(())
        });
        self.ram.announce_write();
        let count = host::read_now(file, offset, &self.vectors()?)?;
        // Whoever has made something of these bytes must hear that they are others.
        self.part(0, count).each(|piece, _| {
            self.ram.note_write(self.ram.offset(piece.address, piece.length)?, piece.length);
            Some(())
        });
        Ok(count)
    }

    /// Writes the start of the run to `file` at `offset`, and returns how many bytes; `None` where the host cannot do so.
    ///
    /// # Errors
    /// The host's; or the run is not all in RAM.
    pub fn put(&self, file: &File, offset: u64) -> io::Result<Option<u64>> {
        host::write(file, offset, &self.vectors()?)
    }

    /// Where the host has the bytes: addresses and lengths, all inside of the mapping. At most as many as it takes at a
    /// time.
    fn vectors(&self) -> io::Result<host::Vectors<'a>> {
        let mut vectors = host::Vectors::new(self.ram);
        let whole = self.each(|piece, _| vectors.push(self.ram.offset(piece.address, piece.length)?, piece.length));
        whole.map(|()| vectors).ok_or_else(|| io::ErrorKind::InvalidInput.into())
    }
}

#[cfg(target_os = "linux")]
mod host {
    use std::marker::PhantomData;
    use std::os::fd::AsRawFd;

    use super::{File, Ram, io};

    /// Parts of the mapping of a RAM, which outlives this.
    pub struct Vectors<'a> {
        /// Invariant: each lies in the mapping.
        list: Vec<libc::iovec>,
        /// Some were left out.
        full: bool,
        base: *mut u8,
        _ram: PhantomData<&'a Ram>,
    }

    impl<'a> Vectors<'a> {
        /// What the kernel takes at a time (`UIO_MAXIOV`).
        const MOST: usize = 1024;

        pub fn new(ram: &'a Ram) -> Self {
            Self { list: Vec::new(), full: false, base: ram.host_base(), _ram: PhantomData }
        }

        /// Adds the `length` bytes at `offset`, which the caller has found to be in RAM. What is too much is left out.
        pub fn push(&mut self, offset: u64, length: u64) -> Option<()> {
            let start = self.base.wrapping_add(offset as usize).cast();
            self.full |= self.list.len() == Self::MOST;
            match self.list.last_mut() {
                _ if self.full => {}
                Some(last) if last.iov_base.wrapping_byte_add(last.iov_len) == start => last.iov_len += length as usize,
                _ => self.list.push(libc::iovec { iov_base: start, iov_len: length as usize }),
            }
            Some(())
        }
    }

    fn count(result: isize) -> io::Result<u64> {
        u64::try_from(result).map_err(|_| io::Error::last_os_error())
    }

    fn offset(offset: u64) -> io::Result<libc::off_t> {
        offset.try_into().map_err(|_| io::ErrorKind::InvalidInput.into())
    }

    /// Reads what is in the page cache.
    pub fn read_now(file: &File, at: u64, vectors: &Vectors) -> io::Result<u64> {
        let (list, length, at) = (vectors.list.as_ptr(), vectors.list.len() as libc::c_int, offset(at)?);
        // SAFETY: the list lives until the call returns. Each vector lies in the mapping of a `Ram` that outlives it, is
        // readable and writable, and is only ever used by atomic operations and by calls such as this one (see the
        // module's doc): no reference of this program's promises that the bytes stay as they are.
        let result = unsafe { libc::preadv2(file.as_raw_fd(), list, length, at, libc::RWF_NOWAIT) };
        match count(result) {
            Err(error) => match error.raw_os_error() {
                Some(libc::EAGAIN | libc::EINTR | libc::EOPNOTSUPP | libc::ENOSYS | libc::EINVAL) => Ok(0),
                _ => Err(error),
            },
            count => count,
        }
    }

    pub fn write(file: &File, at: u64, vectors: &Vectors) -> io::Result<Option<u64>> {
        let (list, length, at) = (vectors.list.as_ptr(), vectors.list.len() as libc::c_int, offset(at)?);
        loop {
            // SAFETY: as above; the bytes are only read.
            match count(unsafe { libc::pwritev(file.as_raw_fd(), list, length, at) }) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(0) if length != 0 => return Err(io::ErrorKind::WriteZero.into()),
                result => return result.map(Some),
            }
        }
    }
}

/// Elsewhere everything goes through a buffer.
#[cfg(not(target_os = "linux"))]
mod host {
    use std::marker::PhantomData;

    use super::{File, Ram, io};

    pub struct Vectors<'a>(PhantomData<&'a Ram>);

    impl<'a> Vectors<'a> {
        pub fn new(_ram: &'a Ram) -> Self {
            Self(PhantomData)
        }

        pub fn push(&mut self, _offset: u64, _length: u64) -> Option<()> {
            Some(())
        }
    }

    pub fn read_now(_file: &File, _at: u64, _vectors: &Vectors) -> io::Result<u64> {
        Ok(0)
    }

    pub fn write(_file: &File, _at: u64, _vectors: &Vectors) -> io::Result<Option<u64>> {
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{PAGE_SIZE, PageFlags};
    use super::*;

    const BASE: u64 = 0x8000_0000;

    fn ram() -> Ram {
        let ram = Ram::new(BASE, 4 * PAGE_SIZE).unwrap();
        let bytes: Vec<u8> = (0..4 * PAGE_SIZE).map(|i| (i % 251) as u8).collect();
        ram.write(BASE, &bytes).unwrap();
        ram
    }

    fn bytes(ram: &Ram, address: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        ram.read(address, &mut bytes).unwrap();
        bytes
    }

    /// Three bytes, none, five bytes, and two pages that the first ones follow.
    const PIECES: [Piece; 4] = [
        Piece { address: BASE + 7, length: 3 },
        Piece { address: BASE + 100, length: 0 },
        Piece { address: BASE + 1, length: 5 },
        Piece { address: BASE + PAGE_SIZE, length: 2 * PAGE_SIZE },
    ];

    #[test]
    fn parts_of_a_run() {
        let ram = ram();
        let run = Scattered::new(&ram, &PIECES);
        assert_eq!((run.len(), run.is_empty()), (8 + 2 * PAGE_SIZE, false));
        let mut start = [0; 10];
        run.read(&mut start).unwrap();
        assert_eq!(start[..8], [7, 8, 9, 1, 2, 3, 4, 5]);
        let part = run.part(2, 4);
        let mut middle = [0; 4];
        part.read(&mut middle).unwrap();
        assert_eq!(middle, [9, 1, 2, 3]);
        assert_eq!(part.read(&mut [0; 5]), None);
        assert_eq!((part.part(1, u64::MAX).len(), part.part(9, 1).len(), run.part(u64::MAX, 1).len()), (3, 0, 0));
        part.part(1, 2).write(&[0xaa, 0xbb]).unwrap();
        assert_eq!(bytes(&ram, BASE, 10), [0, 0xaa, 0xbb, 3, 4, 5, 6, 7, 8, 9]);
        run.zero().unwrap();
        assert_eq!(bytes(&ram, BASE, 10), [0, 0, 0, 0, 0, 0, 6, 0, 0, 0]);
        assert_eq!(bytes(&ram, BASE + PAGE_SIZE, 8192), [0; 8192]);
        assert_ne!(bytes(&ram, BASE + 3 * PAGE_SIZE, 1), [0]);
    }

    #[test]
    fn what_is_not_in_ram_is_an_error() {
        let ram = ram();
        let file = tempfile::tempfile().unwrap();
        file.set_len(PAGE_SIZE).unwrap();
        for (address, length) in [(BASE - 1, 2), (BASE + 4 * PAGE_SIZE - 1, 2), (u64::MAX, 2), (0, u64::MAX)] {
            let pieces = [Piece { address, length }; 2];
            let run = Scattered::new(&ram, &pieces);
            assert_eq!(run.read(&mut [0; 2]), None);
            assert_eq!(run.write(&[0; 2]), None);
            assert!(run.fill_now(&file, 0).is_err());
            assert!(run.put(&file, 0).is_err());
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn files_give_and_take() {
        use std::os::unix::fs::FileExt;
        let ram = ram();
        let run = Scattered::new(&ram, &PIECES);
        let file = tempfile::tempfile().unwrap();
        assert_eq!(run.fill_now(&file, 0).unwrap(), 0, "at the end");
        let content: Vec<u8> = (0..3 * PAGE_SIZE).map(|i| (i % 239) as u8).collect();
        file.write_all_at(&content, 0).unwrap();
        ram.set_flag(2 * PAGE_SIZE, PageFlags::CODE);
        ram.set_flag(3 * PAGE_SIZE, PageFlags::CODE);
        assert_eq!(run.fill_now(&file, 5).unwrap(), run.len());
        assert_eq!(bytes(&ram, BASE + 7, 3), content[5..8]);
        assert_eq!(bytes(&ram, BASE + 1, 5), content[8..13]);
        assert_eq!(bytes(&ram, BASE + PAGE_SIZE, 8192), content[13..][..8192]);
        assert_eq!((ram.code_version(2 * PAGE_SIZE), ram.code_version(3 * PAGE_SIZE)), (1, 0));
        assert_eq!(run.fill_now(&file, 3 * PAGE_SIZE - 4).unwrap(), 4);
        assert_eq!(bytes(&ram, BASE + 7, 3), content[content.len() - 4..][..3]);

        ram.write(BASE + 1, &[1, 2, 3, 4, 5, 6, 7, 8, 9]).unwrap();
        assert_eq!(run.part(1, 6).put(&file, 100).unwrap(), Some(6));
        let mut back = [0; 8];
        file.read_exact_at(&mut back, 99).unwrap();
        assert_eq!(back, [99, 8, 9, 1, 2, 3, 4, 106]);
        assert_eq!(run.part(9, 0).put(&file, 0).unwrap(), Some(0));
        assert!(run.put(&std::fs::File::open("/dev/full").unwrap(), 0).is_err());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn more_pieces_than_the_host_takes_at_a_time() {
        let ram = ram();
        let piece = |i: u64| Piece { address: BASE + 2 * i, length: 1 };
        // What is left out ends the list, even if the next piece follows the last one in it.
        let pieces: Vec<_> = (0..1025).chain([1024 - 1]).chain(1026..1100).map(piece).collect();
        let run = Scattered::new(&ram, &pieces);
        let file = tempfile::tempfile().unwrap();
        assert_eq!(run.put(&file, 0).unwrap(), Some(1024));
        assert_eq!(run.part(1024, 76).put(&file, 1024).unwrap(), Some(76));
        let mut expected = vec![0; 1100];
        run.read(&mut expected).unwrap();
        let mut back = vec![0; 1100];
        std::os::unix::fs::FileExt::read_exact_at(&file, &mut back, 0).unwrap();
        assert!(back == expected);
        assert_eq!(run.fill_now(&file, 50).unwrap(), 1024);
        assert_eq!(bytes(&ram, BASE, 2), [expected[50], 1]);
    }
}
