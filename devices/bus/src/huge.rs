//! Huge pages of the host, for memory that a file has: guest RAM and translated code.
//!
//! A guest's working set has more pages than the host's TLB has entries, and the first use of each page is a fault of the
//! host's, which costs microseconds. Linux makes huge pages of anonymous memory by itself, but of a file's only where the
//! administrator has said so. It does so for who asks, once there is something to begin with (`MADV_COLLAPSE`, Linux 6.1):
//! in a third or less of the time that the faults would take, and what is looked up later is found sooner. Where the host has
//! been told never to make any ([`are_wanted`]), nobody asks.

use std::fs::File;
use std::io;

use memmap2::{MmapOptions, MmapRaw};

/// Bytes of a huge page, where there are some.
pub const HUGE_PAGE: u64 = 2 << 20;

/// A mapping of a file that can have huge pages.
pub struct Aligned<M> {
    /// The mapping: it has all that was asked for, and less than a huge page before or behind it.
    pub map: M,
    /// Distance in bytes from the start of the mapping to what was asked for, which begins with a huge page.
    pub start: usize,
    /// Where in the file that is, in bytes.
    pub offset: u64,
}

/// Something that a file is mapped as.
pub trait Mapping {
    /// The host's address of its first byte.
    fn address(&self) -> *const u8;
}

impl Mapping for MmapRaw {
    fn address(&self) -> *const u8 {
        self.as_ptr()
    }
}

impl Mapping for memmap2::Mmap {
    fn address(&self) -> *const u8 {
        self.as_ptr()
    }
}

/// The length in bytes of a file that [`map`] maps `size` bytes of; `None` if there is no such number.
pub fn file_length(size: u64) -> Option<u64> {
    size.checked_next_multiple_of(HUGE_PAGE)?.checked_add(2 * HUGE_PAGE)
}

/// Maps `size` bytes of a file, by `map`, so that huge pages of the file are such of the host's memory. The file has
/// [`file_length`] bytes of which nobody has used any.
///
/// # Errors
/// The host's.
pub fn map<M: Mapping>(
    file: &File,
    size: usize,
    map: impl Fn(&MmapOptions, &File) -> io::Result<M>,
) -> io::Result<Aligned<M>> {
    const HUGE: usize = HUGE_PAGE as usize;
    /// Somebody else may map something meanwhile.
    const TRIES: usize = 8;
    let length = size.checked_add(HUGE).ok_or(io::ErrorKind::OutOfMemory)?;
    // The place in the file has to differ from the address by a multiple of a huge page's size. Where the host puts the
    // mapping is seen when it has done so; as the same is asked for once more, it puts that there again.
    let mut offset = 0;
    let mut tries = 0;
    loop {
        let made = map(MmapOptions::new().len(length).offset(offset as u64), file)?;
        let misplaced = made.address() as usize % HUGE;
        tries += 1;
        if misplaced == offset || tries == TRIES {
            let start = misplaced.wrapping_neg() % HUGE;
            return Ok(Aligned { map: made, start, offset: (offset + start) as u64 });
        }
        offset = misplaced;
    }
}

/// Whether the host is to have huge pages at all: whether its administrator has not turned them off.
pub fn are_wanted() -> bool {
    cfg!(target_os = "linux")
        && std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled")
            .is_ok_and(|choice| !choice.contains("[never]"))
}

/// Asks the host to make one huge page of the memory at `address`, the start of one that [`map`] has mapped. At least one
/// byte there has been used before. Whether it has done so.
#[cfg(target_os = "linux")]
pub fn collapse(address: *const u8) -> bool {
    /// Of Linux's headers; libc's bindings do not have it.
    const MADV_COLLAPSE: libc::c_int = 25;
    // SAFETY: what the bytes are, and whether they may be used, stays as it is; where nothing is mapped, the call fails.
    unsafe { libc::madvise(address.cast_mut().cast(), HUGE_PAGE as usize, MADV_COLLAPSE) == 0 }
}

/// Not on this host.
#[cfg(not(target_os = "linux"))]
pub fn collapse(_address: *const u8) -> bool {
    false
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    #[test]
    fn what_is_mapped_begins_with_a_huge_page_of_the_file_and_keeps_its_bytes() {
        for size in [4096, HUGE_PAGE, 3 * HUGE_PAGE - 4096] {
            let file = tempfile::tempfile().unwrap();
            file.set_len(file_length(size).unwrap()).unwrap();
            let Aligned { map, start, offset } =
                map(&file, size as usize, |options, file| options.map_raw(file)).unwrap();
            let first = map.as_ptr().wrapping_add(start);
            assert_eq!((first as u64 % HUGE_PAGE, offset % HUGE_PAGE), (0, 0));
            assert!(start as u64 + size <= map.len() as u64);
            let bytes: Vec<u8> = (0..size).map(|at| (at >> 4) as u8).collect();
            file.write_all_at(&bytes, offset).unwrap();
            // Whether it can be done depends on the host.
            for page in 0..size.div_ceil(HUGE_PAGE) {
                let _ = collapse(first.wrapping_add((page * HUGE_PAGE) as usize));
            }
            // SAFETY: the bytes are mapped, and nobody writes them any more.
            assert_eq!(unsafe { std::slice::from_raw_parts(first, size as usize) }, bytes);
        }
    }

    #[test]
    fn memory_that_is_not_mapped_is_refused() {
        assert!(!collapse(std::ptr::null()));
    }
}
