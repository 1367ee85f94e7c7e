//! Views of guest RAM in which pages that lie apart are side by side.
//!
//! Who reads through virtual addresses wants runs of memory that are contiguous on the host, and a guest often has
//! neighbouring pages that are no neighbours in RAM. A view maps such pages once more, in the guest's order. It shows
//! what is in RAM, whatever the guest uses the pages for by now: who reads in it has to know that these are still the
//! pages that it wants. Views are read-only, so that there is one place to write to each page.
//!
//! Each page takes a mapping of the host's, of which a process has a limited number: a hart's views have room for
//! [`MOST_PAGES`] pages, all harts' together for [`MOST_MAPPINGS`]. Hosts other than Linux have none.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Inner, PAGE_SIZE, Ram};

/// Pages in the views of one hart: 16 MiB.
const MOST_PAGES: usize = 4096;

/// Mappings of all harts, of the 65,530 that Linux allows a process unless told otherwise.
const MOST_MAPPINGS: usize = 16384;

/// Pages that a view has side by side.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// Their offsets in RAM.
    pub pages: &'a [u64],
    /// Which of them was asked for.
    pub index: usize,
    /// Host address of the first one.
    pub host: u64,
}

/// The views of one hart.
pub struct Gathered {
    ram: Arc<Inner>,
    /// Addresses of the host that views are made at, once there is one.
    addresses: Option<Addresses>,
    /// Offsets in RAM of the pages at these addresses.
    pages: Vec<u64>,
    /// For each page that is in a view, where in `pages` it and its view are: the latter's start and end.
    places: HashMap<u64, Place>,
    is_full: bool,
}

#[derive(Clone, Copy)]
struct Place {
    at: u32,
    start: u32,
    end: u32,
}

impl Ram {
    /// Views for one hart; there is none at first.
    pub fn gathered(&self) -> Gathered {
        Gathered {
            ram: Arc::clone(&self.inner),
            addresses: None,
            pages: Vec::new(),
            places: HashMap::new(),
            is_full: false,
        }
    }
}

impl Gathered {
    /// The view that has the page at an offset in RAM, the latest if there are several.
    pub fn find(&self, page: u64) -> Option<View<'_>> {
        let Place { at, start, end } = *self.places.get(&page)?;
        let host = self.addresses.as_ref()?.start() + u64::from(start) * PAGE_SIZE;
        Some(View { pages: self.pages.get(start as usize..end as usize)?, index: (at - start) as usize, host })
    }

    /// The offset in RAM of the byte that views show at an address of the host.
    pub fn offset_of(&self, host: u64) -> Option<u64> {
        let distance = host.checked_sub(self.addresses.as_ref()?.start())?;
        let page = self.pages.get(usize::try_from(distance / PAGE_SIZE).ok()?)?;
        Some(page + distance % PAGE_SIZE)
    }

    /// Makes a view of the pages at `offsets` in RAM; whether there is one now. Where there is no room,
    /// [`Gathered::is_full`] says so.
    pub fn gather(&mut self, offsets: &[u64]) -> bool {
        let Some(backing) = &self.ram.file else { return false };
        let is_page =
            |offset: &u64| offset.is_multiple_of(PAGE_SIZE) && *offset / PAGE_SIZE < self.ram.pages.len() as u64;
        if offsets.is_empty() || !offsets.iter().all(is_page) {
            return false;
        }
        if self.addresses.is_none() {
            self.addresses = Addresses::reserve(MOST_PAGES);
        }
        let Some(addresses) = &self.addresses else { return false };
        let (start, end) = (self.pages.len(), self.pages.len() + offsets.len());
        let count = |used| Some(used + offsets.len()).filter(|used| end <= MOST_PAGES && *used <= MOST_MAPPINGS);
        if self.ram.gathered.fetch_update(Ordering::Relaxed, Ordering::Relaxed, count).is_err() {
            self.is_full = start != 0;
            return false;
        }
        self.pages.extend(offsets);
        // Pages that do lie side by side take one mapping.
        let mut at = start;
        for run in offsets.chunk_by(|one, next| one + PAGE_SIZE == *next) {
            if !addresses.map(&backing.file, at, backing.start + run[0], run.len()) {
                self.is_full = true;
                return false;
            }
            at += run.len();
        }
        for (index, page) in offsets.iter().enumerate() {
            let place = Place { at: (start + index) as u32, start: start as u32, end: end as u32 };
            self.places.insert(*page, place);
        }
        true
    }

    /// Whether there was no room for a view: [`Gathered::clear`] makes some.
    pub fn is_full(&self) -> bool {
        self.is_full
    }

    /// Gives all views up. Nobody may read in one any more.
    pub fn clear(&mut self) {
        self.ram.gathered.fetch_sub(self.pages.len(), Ordering::Relaxed);
        self.addresses = None;
        self.pages.clear();
        self.places.clear();
        self.is_full = false;
    }
}

impl Drop for Gathered {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(target_os = "linux")]
mod addresses {
    use std::fs::File;
    use std::ptr::NonNull;

    use rustix::mm::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};

    use super::PAGE_SIZE;

    /// A range of the host's addresses in which pages are mapped for reading. What it maps goes with it.
    pub(super) struct Addresses {
        first: NonNull<u8>,
        length: usize,
    }

    // SAFETY: the mapping is the process's, whichever thread unmaps it.
    unsafe impl Send for Addresses {}

    impl Addresses {
        /// Room for a number of pages.
        pub fn reserve(pages: usize) -> Option<Self> {
            let length = pages * PAGE_SIZE as usize;
            let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
            // SAFETY: the host chooses addresses that nobody uses.
            let first = unsafe { mmap_anonymous(std::ptr::null_mut(), length, ProtFlags::empty(), flags) };
            Some(Self { first: NonNull::new(first.ok()?.cast())?, length })
        }

        pub fn start(&self) -> u64 {
            self.first.as_ptr() as u64
        }

        /// Maps `count` pages of a file, from an offset on, at the page numbered `at`.
        pub fn map(&self, file: &File, at: usize, offset: u64, count: usize) -> bool {
            let (place, length) = (at * PAGE_SIZE as usize, count * PAGE_SIZE as usize);
            if length == 0 || place > self.length || length > self.length - place {
                return false;
            }
            let address = self.first.as_ptr().wrapping_add(place).cast();
            let flags = MapFlags::SHARED | MapFlags::FIXED;
            // SAFETY: what is replaced is part of the range that this value owns. No reference into it exists: who
            // reads there does so by address, and has been told that a place is mapped anew only after `clear`.
            unsafe { mmap(address, length, ProtFlags::READ, flags, file, offset) }.is_ok()
        }
    }

    impl Drop for Addresses {
        fn drop(&mut self) {
            // SAFETY: the range is this value's; nobody reads in it any more (`Gathered::clear`).
            if let Err(error) = unsafe { munmap(self.first.as_ptr().cast(), self.length) } {
                tracing::debug!("views of RAM stay mapped: {error}");
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod addresses {
    use std::fs::File;

    /// Not on this host.
    pub(super) enum Addresses {}

    impl Addresses {
        pub fn reserve(_: usize) -> Option<Self> {
            None
        }

        pub fn start(&self) -> u64 {
            match *self {}
        }

        pub fn map(&self, _: &File, _: usize, _: u64, _: usize) -> bool {
            match *self {}
        }
    }
}

use addresses::Addresses;

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    fn load(host: u64) -> u64 {
        // SAFETY: tests read in views that exist, at aligned addresses; all accesses are atomic.
        unsafe { &*(host as *const AtomicU64) }.load(Ordering::Relaxed)
    }

    fn numbered(pages: u64) -> Ram {
        let ram = Ram::new(0x8000_0000, pages * PAGE_SIZE).unwrap();
        for page in 0..pages {
            ram.store_u64(page * PAGE_SIZE + 8, page).unwrap();
        }
        ram
    }

    #[test]
    fn pages_lie_in_the_order_asked_for_and_show_later_stores() {
        let ram = numbered(16);
        let mut views = ram.gathered();
        assert!(views.find(3 * PAGE_SIZE).is_none());
        let offsets = [3, 9, 10, 11, 2].map(|page| page * PAGE_SIZE);
        assert!(views.gather(&offsets));
        for (index, offset) in offsets.iter().enumerate() {
            let view = views.find(*offset).unwrap();
            assert_eq!((view.pages, view.index), (&offsets[..], index));
            let host = view.host + index as u64 * PAGE_SIZE + 8;
            assert_eq!(load(host), offset / PAGE_SIZE);
            assert_eq!(views.offset_of(host), Some(offset + 8));
            ram.store_u64(offset + 8, 77).unwrap();
            assert_eq!(load(host), 77);
        }
        assert!(views.find(0).is_none());
        let start = views.find(offsets[0]).unwrap().host;
        assert_eq!((views.offset_of(start - 1), views.offset_of(start + 5 * PAGE_SIZE)), (None, None));
        assert!(views.gather(&[0, 3 * PAGE_SIZE]));
        assert_eq!(views.find(3 * PAGE_SIZE).map(|view| (view.pages.len(), view.index)), Some((2, 1)), "the latest");
        assert_eq!(views.find(9 * PAGE_SIZE).map(|view| view.pages.len()), Some(5));
    }

    #[test]
    fn pages_that_are_not_in_ram_have_no_view() {
        let ram = numbered(4);
        let mut views = ram.gathered();
        for wrong in [&[4 * PAGE_SIZE][..], &[0, u64::MAX - PAGE_SIZE + 1], &[8], &[]] {
            assert!(!views.gather(wrong) && !views.is_full(), "{wrong:?}");
        }
    }

    #[test]
    fn a_full_one_says_so_and_has_room_again_once_cleared() {
        let ram = numbered(64);
        let offsets: Vec<u64> = (0..64).map(|page| (page * 5 % 64) * PAGE_SIZE).collect();
        let mut views = ram.gathered();
        for _ in 0..MOST_PAGES / 64 {
            assert!(!views.is_full() && views.gather(&offsets));
        }
        assert!(!views.gather(&offsets) && views.is_full());
        assert!(views.find(0).is_some(), "what there is stays");
        views.clear();
        assert!(views.find(0).is_none() && !views.is_full());
        assert!(views.gather(&offsets));
        // Others' views count.
        let mut others: Vec<Gathered> = (0..MOST_MAPPINGS / MOST_PAGES).map(|_| ram.gathered()).collect();
        let made = others.iter_mut().map(|other| (0..MOST_PAGES / 64).filter(|_| other.gather(&offsets)).count());
        assert_eq!(made.sum::<usize>(), MOST_MAPPINGS / 64 - 1);
        drop(others);
        assert!(ram.gathered().gather(&offsets));
    }
}
