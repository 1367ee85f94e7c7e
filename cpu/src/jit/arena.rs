//! Memory for translated code: anonymous memory mapped twice, writable here and executable there, so that no address is
//! ever both (W^X) and no protection ever changes.

use std::io;

use bus::huge::{self, HUGE_PAGE};

/// The arena's memory cannot be had, or this host cannot run code from it.
#[derive(Debug, thiserror::Error)]
pub enum ArenaError {
    /// The host refused it.
    #[error("the host provides no executable memory for the JIT: {0}; use the interpreter instead")]
    Map(#[from] io::Error),
}

/// Code is placed at multiples of this many bytes.
const ALIGNMENT: usize = 16;

/// As many bytes are written before their pages are no longer kept where they were: nobody reads them there.
const CHUNK: usize = 1 << 20;

/// Code memory that is filled from its start and emptied as a whole.
pub(super) struct Arena {
    writable: memmap2::MmapMut,
    executable: huge::Aligned<memmap2::Mmap>,
    used: usize,
    /// Bytes that huge pages have been asked for; all where there are to be none.
    provided: usize,
    /// Bytes whose pages are not kept at `writable`.
    released: usize,
}

impl Arena {
    /// Maps `size` bytes.
    pub fn new(size: usize) -> Result<Self, ArenaError> {
        let file = backing(size)?;
        // SAFETY: the file is anonymous memory of this size that no one else has a handle of; that the bytes change
        // through the other mapping does not matter, as they are never read as a slice.
        let executable = huge::map(&file, size, |options, file| unsafe { options.map_exec(file) })?;
        let mut options = memmap2::MmapOptions::new();
        options.len(size).offset(executable.offset);
        // SAFETY: as above.
        let writable = unsafe { options.map_mut(&file)? };
        let provided = if huge::are_wanted() { 0 } else { usize::MAX };
        Ok(Self { writable, executable, used: 0, provided, released: 0 })
    }

    /// Copies code to where it can run; its address, or `None` if the arena is full.
    pub fn place(&mut self, code: &[u8]) -> Option<u64> {
        let end = self.used.checked_add(code.len())?;
        self.writable.get_mut(self.used..end)?.copy_from_slice(code);
        let address = self.address(self.used);
        super::host::synchronise_code(address, code.len());
        self.used = end.next_multiple_of(ALIGNMENT);
        while self.provided < end {
            // What has not been written yet has no page to begin with.
            if !huge::collapse(self.address(self.provided)) {
                tracing::trace!("no huge page for code");
            }
            self.provided += HUGE_PAGE as usize;
        }
        self.release();
        Some(address as u64)
    }

    /// Where the byte at a distance from the start of the arena can run.
    fn address(&self, at: usize) -> *const u8 {
        self.executable.map.as_ptr().wrapping_add(self.executable.start + at)
    }

    /// Takes pages that have been written from this mapping, so that they do not count twice as this process's.
    fn release(&mut self) {
        let count = (self.used - self.released) / CHUNK * CHUNK;
        if count == 0 {
            return;
        }
        #[cfg(target_os = "linux")]
        {
            let advice = memmap2::UncheckedAdvice::DontNeed;
            // SAFETY: the pages are a file's, which keeps what is in them, and there is no reference to them.
            if let Err(error) = unsafe { self.writable.unchecked_advise_range(advice, self.released, count) } {
                tracing::debug!(%error, "written code stays mapped");
            }
        }
        self.released += count;
    }

    /// Gives all code up. No hart may be in it, or have a way into it.
    pub fn clear(&mut self) {
        (self.used, self.released) = (0, 0);
    }
}

#[cfg(target_os = "linux")]
fn backing(size: usize) -> io::Result<std::fs::File> {
    let file = std::fs::File::from(rustix::fs::memfd_create("vervet-code", rustix::fs::MemfdFlags::CLOEXEC)?);
    file.set_len(huge::file_length(size as u64).ok_or(io::ErrorKind::OutOfMemory)?)?;
    Ok(file)
}

#[cfg(not(target_os = "linux"))]
fn backing(_: usize) -> io::Result<std::fs::File> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn code_stays_once_its_pages_are_released_and_after_it_was_cleared() {
        let mut arena = Arena::new(4 * CHUNK).unwrap();
        let code = |number: usize| vec![number as u8; CHUNK / 3];
        for _ in 0..2 {
            let placed: Vec<u64> = (0..11).map_while(|number| arena.place(&code(number))).collect();
            assert_eq!(placed.len(), 11);
            assert!(arena.released >= 3 * CHUNK && arena.place(&vec![0; 4 * CHUNK]).is_none());
            for (number, address) in placed.into_iter().enumerate() {
                let at = (address - arena.executable.map.as_ptr() as u64) as usize;
                assert_eq!(arena.executable.map[at..at + CHUNK / 3], code(number), "{number}");
            }
            arena.clear();
        }
    }
}
