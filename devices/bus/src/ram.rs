//! Guest RAM: the one place where the memory of the guest is touched.
//!
//! Harts on several host threads and devices on I/O threads use this memory at the same time, and the guest races with
//! itself whenever it likes. So RAM is never lent as a slice: every access is an atomic operation (relaxed for plain
//! loads and stores, which RVWMO permits) or a bounds-checked copy made of such operations. A data race of the guest is
//! then a race of atomics on the host, never undefined behaviour. Values are little-endian in memory on every host.
//!
//! Each page of [`PAGE_SIZE`] bytes carries [`PageFlags`]: somebody who must hear of writes to it. A page with a flag
//! never has an entry in a hart's write TLB, so each store to it takes the slow path, which calls [`Ram::note_write`],
//! as DMA does.
//!
//! **Writers and listeners.** A writer stores, then looks at the flags; a listener sets its flag, then reads the bytes.
//! A sequentially consistent fence between the two steps on either side makes sure that the writer sees the flag or the
//! listener sees the store (or both). A page's flags and the version of its code are one word, so that they change
//! together: who finds the flag gone finds the new version, and who sets the flag knows the version that it is set for.

use std::alloc::Layout;
use std::fs::File;
use std::io;
use std::ptr::NonNull;
// The models of `tests/src/models` put loom's in their place.
use std::sync::atomic as sync;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Arc, PoisonError, RwLock, Weak};

#[cfg(not(target_os = "linux"))]
use memmap2::MmapOptions;
use memmap2::MmapRaw;
use portable_atomic::AtomicU128;

use crate::Width;
use crate::huge::{self, HUGE_PAGE};

mod gathered;
mod page_state;
mod scattered;

pub use gathered::{Gathered, View};
pub use page_state::PageFlags;
use page_state::PageState;
pub use scattered::{Piece, Scattered};

/// The granule of translation and of [`PageFlags`], in bytes.
pub const PAGE_SIZE: u64 = 4096;

/// Why RAM could not be had.
#[derive(Debug, thiserror::Error)]
pub enum RamError {
    /// The size is zero, not a multiple of the page size, or beyond the address space.
    #[error("{size} bytes of RAM at {base:#x}: the size must be a non-zero multiple of 4 KiB inside the address space")]
    Size {
        /// Guest-physical address.
        base: u64,
        /// Bytes.
        size: u64,
    },
    /// The host refused the mapping.
    #[error("the host cannot provide {size} bytes of guest RAM: {source}; try a smaller memory size")]
    Map {
        /// Bytes.
        size: u64,
        /// The host's reason.
        source: std::io::Error,
    },
}

struct Inner {
    /// Keeps the mapping alive.
    _map: MmapRaw,
    /// What is mapped, on hosts where that can be mapped once more.
    file: Option<Backing>,
    /// For each huge page whether it has been asked for; empty where there are to be none.
    huge: Box<[AtomicBool]>,
    /// Pages that are mapped once more ([`Gathered`]).
    gathered: AtomicUsize,
    pages: Box<[PageState]>,
    foreign_writes: AtomicU64,
    listeners: RwLock<Vec<Weak<dyn CodeListener>>>,
}

/// A file that has the guest's RAM.
struct Backing {
    file: File,
    /// Where in it the RAM begins, in bytes.
    start: u64,
}

/// The memory of a RAM.
struct Mapped {
    map: MmapRaw,
    /// Distance in bytes from the start of the mapping to the RAM.
    start: usize,
    file: Option<Backing>,
}

/// Who decodes or translates guest code, and must look again when it was written.
pub trait CodeListener: Send + Sync {
    /// The page at an offset in RAM has a new [`Ram::code_version`]. Called on the thread that wrote.
    fn code_changed(&self, page: u64);
}

/// Guest RAM: one contiguous range of guest-physical addresses. Cloning makes another handle on the same memory.
#[derive(Clone)]
pub struct Ram {
    /// Start of the mapping; kept beside the owner so that a hart's fast path needs no second indirection.
    host: *mut u8,
    len: u64,
    base: u64,
    inner: Arc<Inner>,
}

// SAFETY: `host` points into the mapping that `inner` keeps alive and never moves; every access through it is atomic
// (see the module's doc), so that handles may be used from any thread at once.
unsafe impl Send for Ram {}
// SAFETY: as above.
unsafe impl Sync for Ram {}

macro_rules! scalar {
    ($load:ident, $store:ident, $atomic:ident, $t:ty, $ty:literal) => {
        #[doc = concat!("Loads a ", $ty, " at `offset`; `None` if it lies outside of RAM or is misaligned. Relaxed.")]
        #[inline(always)]
        pub fn $load(&self, offset: u64) -> Option<$t> {
            Some(<$t>::from_le(self.$atomic(offset)?.load(Ordering::Relaxed)))
        }

        #[doc = concat!("Stores a ", $ty, " at `offset`; `None` if it lies outside of RAM or is misaligned. Relaxed; does not call [`Ram::note_write`].")]
        #[inline(always)]
        pub fn $store(&self, offset: u64, value: $t) -> Option<()> {
            self.$atomic(offset)?.store(value.to_le(), Ordering::Relaxed);
            Some(())
        }
    };
}

macro_rules! cell {
    ($atomic:ident, $cell:ty, $t:ty) => {
        #[doc = concat!("The `", stringify!($cell), "` at `offset` (its value in memory order, little-endian), `None` if outside of RAM or misaligned.")]
        #[inline(always)]
        pub fn $atomic(&self, offset: u64) -> Option<&$cell> {
            const SIZE: u64 = size_of::<$t>() as u64;
            if offset > self.len - SIZE || !offset.is_multiple_of(SIZE) {
                return None;
            }
            // SAFETY: `offset..offset + SIZE` is inside the mapping of `len` bytes (`len` is at least a page), which
            // lives as long as `self`; the mapping is page-aligned, so the address is aligned for the type; all
            // accesses to the mapping are atomic.
            Some(unsafe { &*self.host.add(offset as usize).cast::<$cell>() })
        }
    };
}

macro_rules! mapped {
    ($load:ident, $store:ident, $cell:ty, $t:ty, $ty:literal) => {
        #[doc = concat!("Loads a ", $ty, " at a host address. Relaxed.")]
        ///
        /// # Safety
        /// All of it lies in the mapping that [`Ram::host_base`] is the start of, and it is aligned.
        #[inline(always)]
        pub unsafe fn $load(&self, host: u64) -> $t {
            // SAFETY: the caller vouches for bounds and alignment; the mapping lives as long as `self`, and all
            // accesses to it are atomic.
            <$t>::from_le(unsafe { &*(host as *const $cell) }.load(Ordering::Relaxed))
        }

        #[doc = concat!("Stores a ", $ty, " at a host address. Relaxed; does not call [`Ram::note_write`].")]
        ///
        /// # Safety
        /// As for loads.
        #[inline(always)]
        pub unsafe fn $store(&self, host: u64, value: $t) {
            // SAFETY: as for loads.
            unsafe { &*(host as *const $cell) }.store(value.to_le(), Ordering::Relaxed);
        }
    };
}

/// Types of which all-zero bytes are a valid value.
///
/// # Safety
/// That has to be so, and dropping a value has to do nothing.
unsafe trait Zeroable {}
// SAFETY: an atomic integer has the bit validity of the integer, and a structure of nothing else has it too.
unsafe impl Zeroable for PageState {}
// SAFETY: zero is `false`.
unsafe impl Zeroable for AtomicBool {}

/// A table with an entry per page. The host provides its memory as it is touched, as it does the RAM's: a large guest
/// costs only what it uses. `None` if the host refuses.
fn zeroed_table<T: Zeroable>(pages: usize) -> Option<Box<[T]>> {
    let layout = Layout::array::<T>(pages).ok().filter(|layout| layout.size() != 0)?;
    // SAFETY: the layout's size is not zero.
    let table = NonNull::new(unsafe { std::alloc::alloc_zeroed(layout) })?.cast::<T>();
    // SAFETY: the allocation has the layout of `[T; pages]`, by the global allocator, and zeros are valid values.
    Some(unsafe { Box::from_raw(std::ptr::slice_from_raw_parts_mut(table.as_ptr(), pages)) })
}

/// Maps `size` zeroed bytes; the host provides pages as they are touched.
#[cfg(target_os = "linux")]
fn map(size: u64) -> io::Result<Mapped> {
    let file = File::from(rustix::fs::memfd_create("guest-ram", rustix::fs::MemfdFlags::CLOEXEC)?);
    file.set_len(huge::file_length(size).ok_or(io::ErrorKind::OutOfMemory)?)?;
    let huge::Aligned { map, start, offset } = huge::map(&file, size as usize, |options, file| options.map_raw(file))?;
    Ok(Mapped { map, start, file: Some(Backing { file, start: offset }) })
}

/// Maps `size` zeroed bytes; the host provides pages as they are touched.
#[cfg(not(target_os = "linux"))]
fn map(size: u64) -> io::Result<Mapped> {
    let map = MmapOptions::new().len(size as usize).no_reserve_swap().map_anon()?;
    Ok(Mapped { map: map.into(), start: 0, file: None })
}

impl Ram {
    /// Maps `size` zeroed bytes as guest RAM at guest-physical address `base`. The host provides pages as they are
    /// touched.
    pub fn new(base: u64, size: u64) -> Result<Self, RamError> {
        let fits = usize::try_from(size).is_ok_and(|size| isize::try_from(size).is_ok());
        let aligned = size.is_multiple_of(PAGE_SIZE) && base.is_multiple_of(PAGE_SIZE);
        if size == 0 || !aligned || base.checked_add(size).is_none() || !fits {
            return Err(RamError::Size { base, size });
        }
        let Mapped { map, start, file } = map(size).map_err(|source| RamError::Map { size, source })?;
        let pages = (size / PAGE_SIZE) as usize;
        let no_table = || RamError::Map { size, source: std::io::ErrorKind::OutOfMemory.into() };
        let pages = zeroed_table::<PageState>(pages).ok_or_else(no_table)?;
        let huge = match (size / HUGE_PAGE) as usize {
            count if count != 0 && file.is_some() && huge::are_wanted() => {
                zeroed_table::<AtomicBool>(count).ok_or_else(no_table)?
            }
            _ => Box::default(),
        };
        Ok(Self {
            host: map.as_mut_ptr().wrapping_add(start),
            len: size,
            base,
            inner: Arc::new(Inner {
                _map: map,
                file,
                huge,
                gathered: AtomicUsize::new(0),
                pages,
                foreign_writes: AtomicU64::new(0),
                listeners: RwLock::default(),
            }),
        })
    }

    /// Guest-physical address of the first byte.
    #[inline]
    pub fn base(&self) -> u64 {
        self.base
    }

    /// Size in bytes.
    #[inline]
    pub fn size(&self) -> u64 {
        self.len
    }

    /// The offset of guest-physical address `address` if `length` bytes from there are RAM.
    #[inline]
    pub fn offset(&self, address: u64, length: u64) -> Option<u64> {
        let offset = address.wrapping_sub(self.base);
        (offset < self.len && length <= self.len - offset).then_some(offset)
    }

    /// Host-virtual address of the first byte, for translated code that has proved its bounds by the TLB.
    #[inline]
    pub fn host_base(&self) -> *mut u8 {
        self.host
    }

    /// Has the host provide the memory around `offset`, which is about to be used, as one huge page, if it has not been
    /// asked yet. A matter of speed alone.
    #[inline]
    pub fn provide(&self, offset: u64) {
        if let Some(asked) = self.inner.huge.get((offset / HUGE_PAGE) as usize)
            && !asked.load(Ordering::Relaxed)
        {
            self.provide_huge_page(offset / HUGE_PAGE, asked);
        }
    }

    #[cold]
    fn provide_huge_page(&self, index: u64, asked: &AtomicBool) {
        if !asked.swap(true, Ordering::Relaxed) {
            let first = index * HUGE_PAGE;
            // The host begins with what there is.
            self.load_u8(first);
            if !huge::collapse(self.host.wrapping_add(first as usize)) {
                tracing::trace!("no huge page at {first:#x}");
            }
        }
    }

    /// As [`Ram::provide`], for all that is about to be written from `offset` on.
    fn provide_all(&self, offset: u64, length: u64) {
        let end = offset.saturating_add(length);
        (offset / HUGE_PAGE..end.div_ceil(HUGE_PAGE)).for_each(|page| self.provide(page * HUGE_PAGE));
    }

    cell!(atomic_u8, AtomicU8, u8);
    cell!(atomic_u16, AtomicU16, u16);
    cell!(atomic_u32, AtomicU32, u32);
    cell!(atomic_u64, AtomicU64, u64);
    cell!(atomic_u128, AtomicU128, u128);
    scalar!(load_u8, store_u8, atomic_u8, u8, "byte");
    scalar!(load_u16, store_u16, atomic_u16, u16, "halfword");
    scalar!(load_u32, store_u32, atomic_u32, u32, "word");
    scalar!(load_u64, store_u64, atomic_u64, u64, "doubleword");

    mapped!(load_mapped_u8, store_mapped_u8, AtomicU8, u8, "byte");
    mapped!(load_mapped_u16, store_mapped_u16, AtomicU16, u16, "halfword");
    mapped!(load_mapped_u32, store_mapped_u32, AtomicU32, u32, "word");
    mapped!(load_mapped_u64, store_mapped_u64, AtomicU64, u64, "doubleword");

    /// Whether [`Ram::atomic_u128`] is one with the host's other atomics: whether the host has atomics of 128 bits
    /// (x86-64 with `cmpxchg16b`, AArch64, s390x; not every riscv64).
    pub fn has_atomic_u128() -> bool {
        AtomicU128::is_lock_free()
    }

    /// Loads `width` bytes at `offset`, zero-extended: as one atomic access if aligned, else bytewise.
    #[inline]
    pub fn load(&self, offset: u64, width: Width) -> Option<u64> {
        if offset & (width.bytes() - 1) != 0 {
            let mut bytes = [0; 8];
            self.read_at(offset, &mut bytes[..width.bytes() as usize])?;
            return Some(u64::from_le_bytes(bytes));
        }
        match width {
            Width::Byte => self.load_u8(offset).map(u64::from),
            Width::Half => self.load_u16(offset).map(u64::from),
            Width::Word => self.load_u32(offset).map(u64::from),
            Width::Double => self.load_u64(offset),
        }
    }

    /// Stores the low `width` bytes of `value` at `offset`: as one atomic access if aligned, else bytewise. Does not
    /// call [`Ram::note_write`].
    #[inline]
    pub fn store(&self, offset: u64, width: Width, value: u64) -> Option<()> {
        if offset & (width.bytes() - 1) != 0 {
            return self.write_at(offset, &value.to_le_bytes()[..width.bytes() as usize]);
        }
        match width {
            Width::Byte => self.store_u8(offset, value as u8),
            Width::Half => self.store_u16(offset, value as u16),
            Width::Word => self.store_u32(offset, value as u32),
            Width::Double => self.store_u64(offset, value),
        }
    }

    /// Copies guest memory at guest-physical `address` into `bytes`. `None`, with nothing copied, if any of it is no
    /// RAM.
    pub fn read(&self, address: u64, bytes: &mut [u8]) -> Option<()> {
        self.read_at(self.offset(address, bytes.len() as u64)?, bytes)
    }

    /// Copies `bytes` to guest-physical `address` and tells who listens to these pages. `None`, with nothing written,
    /// if any of it is no RAM.
    pub fn write(&self, address: u64, bytes: &[u8]) -> Option<()> {
        let offset = self.offset(address, bytes.len() as u64)?;
        self.provide_all(offset, bytes.len() as u64);
        self.announce_write();
        self.write_at(offset, bytes)?;
        self.note_write(offset, bytes.len() as u64);
        Some(())
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> Option<()> {
        self.check(offset, bytes.len() as u64)?;
        let head = bytes.len().min((offset.wrapping_neg() % 8) as usize);
        let (head, rest) = bytes.split_at_mut(head);
        for (at, byte) in (offset..).zip(&mut *head) {
            *byte = self.load_u8(at)?;
        }
        let at = offset + head.len() as u64;
        let (words, tail) = rest.as_chunks_mut::<8>();
        let count = words.len();
        for (word, cell) in words.iter_mut().zip(self.words(at, count)?) {
            *word = cell.load(Ordering::Relaxed).to_ne_bytes();
        }
        for (at, byte) in (at + 8 * count as u64..).zip(tail) {
            *byte = self.load_u8(at)?;
        }
        Some(())
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> Option<()> {
        self.check(offset, bytes.len() as u64)?;
        let head = bytes.len().min((offset.wrapping_neg() % 8) as usize);
        let (head, rest) = bytes.split_at(head);
        for (at, byte) in (offset..).zip(head) {
            self.store_u8(at, *byte)?;
        }
        let at = offset + head.len() as u64;
        let (words, tail) = rest.as_chunks::<8>();
        for (word, cell) in words.iter().zip(self.words(at, words.len())?) {
            cell.store(u64::from_ne_bytes(*word), Ordering::Relaxed);
        }
        for (at, byte) in (at + 8 * words.len() as u64..).zip(tail) {
            self.store_u8(at, *byte)?;
        }
        Some(())
    }

    /// The `count` doublewords at `offset`, their values in memory order; `None` if they are outside of RAM or
    /// misaligned and there are any.
    fn words(&self, offset: u64, count: usize) -> Option<&[AtomicU64]> {
        if count == 0 {
            return Some(&[]);
        }
        self.check(offset, (count as u64).checked_mul(8)?)?;
        if !offset.is_multiple_of(8) {
            return None;
        }
        // SAFETY: `offset` and the length were just found to be inside the mapping, which lives as long as `self` and
        // is page-aligned, so that the address is aligned; all accesses to the mapping are atomic.
        Some(unsafe { std::slice::from_raw_parts(self.host.add(offset as usize).cast::<AtomicU64>(), count) })
    }

    fn check(&self, offset: u64, length: u64) -> Option<()> {
        (offset <= self.len && length <= self.len - offset).then_some(())
    }

    /// The state of the page at `offset`; none outside of RAM.
    #[inline]
    fn page(&self, offset: u64) -> Option<&PageState> {
        self.inner.pages.get((offset / PAGE_SIZE) as usize)
    }

    /// Who listens to the page at `offset`. Empty outside of RAM. Sequentially consistent: after an atomic store of
    /// that order the flags say who did not see it; after a plain one that takes a fence.
    #[inline]
    pub fn flags(&self, offset: u64) -> PageFlags {
        self.page(offset).map_or(PageFlags::NONE, PageState::flags)
    }

    /// Makes somebody a listener of the page at `offset`. The caller then makes every hart drop its write-TLB entries
    /// for the page. Returns whether the flag is new, and the version of the page's code that it is set for: bytes read
    /// from now on belong to that version or, if they were written meanwhile, to none that is valid.
    pub fn set_flag(&self, offset: u64, flag: PageFlags) -> (bool, u32) {
        self.page(offset).map_or((false, 0), |page| page.set_flag(flag))
    }

    /// If the page at `offset` has a flag already, the version that it is set for, as [`Ram::set_flag`] gives it.
    pub fn flagged_version(&self, offset: u64, flag: PageFlags) -> Option<u32> {
        self.page(offset)?.flagged_version(flag)
    }

    /// Removes a listener of the page at `offset`.
    pub fn clear_flag(&self, offset: u64, flag: PageFlags) {
        if let Some(page) = self.page(offset) {
            page.clear_flag(flag);
        }
    }

    /// How often the page at `offset` was written while code had been made from it.
    #[inline]
    pub fn code_version(&self, offset: u64) -> u32 {
        self.page(offset).map_or(0, PageState::version)
    }

    /// Tells the listeners of the pages under `offset..offset + length` that their bytes have changed: a page that
    /// was [`PageFlags::CODE`] gets a new version and loses the flag, so that code made from it is stale and further
    /// writes are fast again.
    pub fn note_write(&self, offset: u64, length: u64) {
        let Some(last) = offset.checked_add(length.saturating_sub(1)) else { return };
        let pages = &*self.inner.pages;
        let first = pages.len().min((offset / PAGE_SIZE) as usize);
        let end = pages.len().min((last / PAGE_SIZE) as usize + 1);
        PageState::note_writes(&pages[first..end], |place| {
            for listener in self.inner.listeners.read().unwrap_or_else(PoisonError::into_inner).iter() {
                if let Some(listener) = listener.upgrade() {
                    listener.code_changed((first + place) as u64 * PAGE_SIZE);
                }
            }
        });
    }

    /// Counts a write that no instruction of a hart makes: a device's, a page-table walk's. Called before the bytes change.
    #[inline]
    pub fn announce_write(&self) {
        self.inner.foreign_writes.fetch_add(1, Ordering::Relaxed);
        // Who sees the bytes sees the count: here the count comes first, there it is looked at last.
        fence(Ordering::Release);
    }

    /// How many writes have been announced. Whoever has found bytes that no instruction has stored finds a number larger
    /// than before.
    pub fn foreign_writes(&self) -> u64 {
        fence(Ordering::Acquire);
        self.inner.foreign_writes.load(Ordering::Relaxed)
    }

    /// Has `listener` told of every new [`Ram::code_version`] from now on, until it is dropped.
    pub fn add_code_listener(&self, listener: Weak<dyn CodeListener>) {
        let mut listeners = self.inner.listeners.write().unwrap_or_else(PoisonError::into_inner);
        listeners.retain(|listener| listener.strong_count() > 0);
        listeners.push(listener);
    }
}

impl std::fmt::Debug for Ram {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Ram({:#x}..{:#x})", self.base, self.base + self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_larger_than_any_host_is_refused_or_lazy() {
        // 64 TiB have a table of 128 GiB; beyond the address space nothing can be had.
        match Ram::new(0x8000_0000, 64 << 40) {
            Ok(ram) => {
                assert_eq!((ram.load_u64((64 << 40) - 8), ram.flags((64 << 40) - 8).is_empty()), (Some(0), true))
            }
            Err(error) => assert!(matches!(error, RamError::Map { .. }), "{error}"),
        }
        assert!(matches!(Ram::new(0x8000_0000, 1 << 62), Err(RamError::Map { .. })));
    }

    #[test]
    fn every_width_at_every_offset_round_trips_and_none_leaves_ram() {
        let ram = Ram::new(0x8000_0000, 2 * PAGE_SIZE).unwrap();
        for width in Width::ALL {
            for offset in (0..64).chain(PAGE_SIZE - 9..PAGE_SIZE + 9).chain(2 * PAGE_SIZE - 16..2 * PAGE_SIZE + 16) {
                let value = 0x8877_6655_4433_2211 & width.mask();
                let fits = offset + width.bytes() <= 2 * PAGE_SIZE;
                assert_eq!(ram.store(offset, width, value).is_some(), fits, "{width:?} at {offset:#x}");
                assert_eq!(ram.load(offset, width), fits.then_some(value));
            }
            assert_eq!(ram.load(u64::MAX, width), None);
            assert_eq!(ram.store(u64::MAX - 7, width, 0), None);
        }
    }

    #[test]
    fn copies_of_every_alignment() {
        let ram = Ram::new(0x8000_0000, PAGE_SIZE).unwrap();
        let bytes: Vec<u8> = (1..=40).collect();
        for start in 0..9 {
            for length in 0..=40 {
                ram.write(0x8000_0100 + start, &bytes[..length]).unwrap();
                let mut back = vec![0; length];
                ram.read(0x8000_0100 + start, &mut back).unwrap();
                assert_eq!(back, bytes[..length]);
                let single = (0x100 + start..).take(length).map(|offset| ram.load_u8(offset).unwrap());
                assert!(single.eq(bytes[..length].iter().copied()), "bytes are where they belong");
            }
        }
        assert!(ram.write(0x8000_0fff, &[1, 2]).is_none());
        assert!(ram.write(0x7fff_ffff, &[1, 2]).is_none());
        assert!(ram.read(0x8000_0ff9, &mut [0; 8]).is_none());
        assert_eq!(ram.load_u8(0xfff), Some(0), "a write that leaves RAM writes nothing");
    }

    #[test]
    fn writes_to_code_pages_make_a_new_version() {
        let ram = Ram::new(0, 4 * PAGE_SIZE).unwrap();
        assert_eq!(ram.flagged_version(PAGE_SIZE, PageFlags::CODE), None);
        assert_eq!(ram.set_flag(PAGE_SIZE, PageFlags::CODE), (true, 0));
        assert_eq!(ram.set_flag(PAGE_SIZE, PageFlags::CODE), (false, 0));
        ram.write(PAGE_SIZE - 2, &[0; 2]).unwrap();
        assert_eq!(ram.code_version(PAGE_SIZE), 0);
        assert_eq!(ram.flagged_version(PAGE_SIZE, PageFlags::CODE), Some(0));
        ram.set_flag(PAGE_SIZE, PageFlags::WATCH);
        ram.write(PAGE_SIZE - 2, &[0; 3]).unwrap();
        assert_eq!(ram.code_version(PAGE_SIZE), 1);
        assert_eq!(ram.flags(PAGE_SIZE), PageFlags::WATCH);
        assert_eq!(ram.flagged_version(PAGE_SIZE, PageFlags::CODE), None);
        assert_eq!(ram.set_flag(PAGE_SIZE, PageFlags::CODE), (true, 1));
        ram.write(PAGE_SIZE, &[0]).unwrap();
        assert_eq!((ram.code_version(PAGE_SIZE), ram.code_version(0)), (2, 0));
    }

    /// A reader sets the flag and reads; a writer writes and notes it. What was read must be the last thing written, or
    /// its version must have passed, whatever the timing.
    #[test]
    fn code_that_is_read_while_it_is_written_is_new_or_stale() {
        const ROUNDS: u32 = 200_000;
        let ram = Ram::new(0, PAGE_SIZE).unwrap();
        let (start, end) = (std::sync::Barrier::new(3), std::sync::Barrier::new(3));
        std::thread::scope(|scope| {
            // Two writers: one that finds the flag gone has to find the new version.
            for word in 0..2 {
                let (ram, start, end) = (&ram, &start, &end);
                scope.spawn(move || {
                    for round in 1..=ROUNDS {
                        if round % 1000 == 1 {
                            start.wait();
                        }
                        ram.store_u32(4 * word, round).unwrap();
                        fence(Ordering::SeqCst);
                        if !ram.flags(0).is_empty() {
                            ram.note_write(4 * word, 4);
                        }
                        if round % 1000 == 0 {
                            end.wait();
                        }
                    }
                });
            }
            for thousand in 1..=ROUNDS / 1000 {
                start.wait();
                let mut read = Vec::new();
                for _ in 0..1000 {
                    let (_, version) = ram.set_flag(0, PageFlags::CODE);
                    read.push((version, [ram.load_u32(0).unwrap(), ram.load_u32(4).unwrap()]));
                }
                end.wait();
                let now = ram.code_version(0);
                for (version, words) in read {
                    assert!(version != now || words == [thousand * 1000; 2], "version {version} of {now}: {words:?}");
                }
            }
        });
    }

    #[test]
    fn impossible_sizes_are_refused() {
        for (base, size) in [(0, 0), (0, 1), (1, PAGE_SIZE), (u64::MAX - 4095, 2 * PAGE_SIZE), (0, 1 << 63)] {
            assert!(matches!(Ram::new(base, size), Err(RamError::Size { .. })), "{base:#x} {size:#x}");
        }
    }
}
