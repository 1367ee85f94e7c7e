//! Where a hart lives: at an address that does not change, with the range entries and the counters of its translated code
//! right behind.
//!
//! So translated code reaches all by one pointer, at distances that it knows, and has a register more for the guest's.
//! What is behind is never touched before somebody wants it: the host backs it page by page.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::Arc;

use bus::{AddressSpace, Clock};

use crate::HartShared;
use crate::hart::{Configuration, Hart};
use crate::ranges::{RANGES, Range};

/// A hart and what lies behind it.
#[repr(C)]
struct Home {
    hart: Hart,
    ranges: [Range; RANGES],
    #[cfg(feature = "jit")]
    counters: [i32; COUNTERS],
}

/// Counters of a hart's baseline code ([`crate::jit`]).
#[cfg(feature = "jit")]
pub(crate) const COUNTERS: usize = 1 << 18;

/// Distance in bytes from a hart to its first counter.
#[cfg(feature = "jit")]
pub(crate) const COUNTERS_OFFSET: usize = std::mem::offset_of!(Home, counters);

/// Distance in bytes from a hart to its first range entry.
pub(crate) const RANGES_OFFSET: usize = std::mem::offset_of!(Home, ranges);

/// A hart, owned, at its place.
pub struct HartBox {
    home: NonNull<Home>,
}

// SAFETY: it owns the hart and the entries as a `Box` would, and entries are numbers; it may go where a hart may.
unsafe impl Send for HartBox where Hart: Send {}

impl HartBox {
    /// A hart in its reset state.
    pub fn new(configuration: Configuration, shared: Arc<HartShared>, bus: Arc<AddressSpace>, clock: Clock) -> Self {
        let mut hart = Hart::new(configuration, shared, bus, clock);
        let layout = Layout::new::<Home>();
        // SAFETY: the layout is not empty.
        let memory = unsafe { alloc_zeroed(layout) };
        let Some(home) = NonNull::new(memory.cast::<Home>()) else { handle_alloc_error(layout) };
        // SAFETY: the memory is a home's; its entries are zero, which is their default.
        let ranges = unsafe { &raw mut (*home.as_ptr()).ranges };
        hart.tlb.ranges.provide(Entries { first: ranges.cast(), length: RANGES });
        #[cfg(feature = "jit")]
        {
            // SAFETY: as for the entries.
            let counters = unsafe { &raw mut (*home.as_ptr()).counters };
            hart.jit.counters = Entries { first: counters.cast(), length: COUNTERS };
        }
        // SAFETY: as above. The hart moves in; what was there before is zeros.
        unsafe { (&raw mut (*home.as_ptr()).hart).write(hart) };
        Self { home }
    }
}

impl Deref for HartBox {
    type Target = Hart;

    fn deref(&self) -> &Hart {
        // SAFETY: the home holds a hart until it is dropped, and is this box's alone. The reference covers the hart,
        // not the entries behind it.
        unsafe { &(*self.home.as_ptr()).hart }
    }
}

impl DerefMut for HartBox {
    fn deref_mut(&mut self) -> &mut Hart {
        // SAFETY: as for `deref`; the box is borrowed exclusively.
        unsafe { &mut (*self.home.as_ptr()).hart }
    }
}

impl Drop for HartBox {
    fn drop(&mut self) {
        // SAFETY: the hart was written there and is dropped once, before its memory goes; `Entries` owns nothing.
        unsafe {
            (&raw mut (*self.home.as_ptr()).hart).drop_in_place();
            dealloc(self.home.as_ptr().cast(), Layout::new::<Home>());
        }
    }
}

impl fmt::Debug for HartBox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HartBox").finish_non_exhaustive()
    }
}

/// Numbers behind a hart (range entries, counters), or none. Only [`HartBox::new`] makes some, for the hart that it puts
/// before them.
pub(crate) struct Entries<T> {
    first: *mut T,
    length: usize,
}

// SAFETY: it goes where its hart goes, and is used by who may use that exclusively.
unsafe impl<T: Send> Send for Entries<T> {}

impl<T> Default for Entries<T> {
    fn default() -> Self {
        Self { first: NonNull::dangling().as_ptr(), length: 0 }
    }
}

impl Entries<Range> {
    /// Entries of no hart.
    #[cfg(test)]
    pub fn leaked(length: usize) -> Self {
        Self { first: Box::leak(vec![Range::default(); length].into_boxed_slice()).as_mut_ptr(), length }
    }

    /// Whether these are the entries right behind `hart`: one that was swapped with another has the other's.
    pub fn are_behind(&self, hart: *const Hart) -> bool {
        self.length != 0 && self.first as usize == hart as usize + RANGES_OFFSET
    }
}

impl<T> Deref for Entries<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: `first` points to `length` entries, or to none. They live as long as the hart that owns this, and
        // nobody but it and the code that it runs, never at the same time, uses them.
        unsafe { std::slice::from_raw_parts(self.first, self.length) }
    }
}

impl<T> DerefMut for Entries<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as for `deref`.
        unsafe { std::slice::from_raw_parts_mut(self.first, self.length) }
    }
}
