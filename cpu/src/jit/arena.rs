//! Memory for translated code: anonymous memory mapped twice, writable here and executable there, so that no address is
//! ever both (W^X) and no protection ever changes.

use std::io;

/// The arena's memory cannot be had, or this host cannot run code from it.
#[derive(Debug, thiserror::Error)]
pub enum ArenaError {
    /// The host refused it.
    #[error("the host provides no executable memory for the JIT: {0}; use the interpreter instead")]
    Map(#[from] io::Error),
}

/// Code is placed at multiples of this many bytes.
const ALIGNMENT: usize = 16;

/// Code memory that is filled from its start and emptied as a whole.
pub(super) struct Arena {
    writable: memmap2::MmapMut,
    executable: memmap2::Mmap,
    used: usize,
}

impl Arena {
    /// Maps `size` bytes.
    pub fn new(size: usize) -> Result<Self, ArenaError> {
        let file = backing(size)?;
        let mut options = memmap2::MmapOptions::new();
        options.len(size);
        // SAFETY: the file is anonymous memory of this size that no one else has a handle of.
        let writable = unsafe { options.map_mut(&file)? };
        // SAFETY: as above; that the bytes change through the other mapping does not matter, as they are never read as
        // a slice.
        let executable = unsafe { options.map_exec(&file)? };
        Ok(Self { writable, executable, used: 0 })
    }

    /// Copies code to where it can run; its address, or `None` if the arena is full.
    pub fn place(&mut self, code: &[u8]) -> Option<u64> {
        let end = self.used.checked_add(code.len())?;
        self.writable.get_mut(self.used..end)?.copy_from_slice(code);
        let address = self.executable.as_ptr().wrapping_add(self.used);
        super::host::synchronise_code(address, code.len());
        self.used = end.next_multiple_of(ALIGNMENT);
        Some(address as u64)
    }

    /// Gives all code up. No hart may be in it, or have a way into it.
    pub fn clear(&mut self) {
        self.used = 0;
    }
}

#[cfg(target_os = "linux")]
fn backing(size: usize) -> io::Result<std::fs::File> {
    let file = std::fs::File::from(rustix::fs::memfd_create("vervet-code", rustix::fs::MemfdFlags::CLOEXEC)?);
    file.set_len(size as u64)?;
    Ok(file)
}

#[cfg(not(target_os = "linux"))]
fn backing(_: usize) -> io::Result<std::fs::File> {
    Err(io::ErrorKind::Unsupported.into())
}
