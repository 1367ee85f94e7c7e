//! What is known of a page of RAM: who listens to it, and the version of its code. See "writers and listeners" in
//! [`super`].

use super::sync::{AtomicU64, Ordering, fence};

/// Who must hear of writes to a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageFlags(u8);

impl PageFlags {
    /// Nobody.
    pub const NONE: PageFlags = PageFlags(0);
    /// Decoded or translated code was made from the page.
    pub const CODE: PageFlags = PageFlags(1);
    /// Writes to the page stop the hart ([`PageFlags::contains`] is asked after the store).
    pub const WATCH: PageFlags = PageFlags(2);

    /// Whether nobody listens.
    #[inline]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether all of `other` are set.
    #[inline]
    pub const fn contains(self, other: PageFlags) -> bool {
        self.0 & other.0 == other.0
    }
}

/// A page's [`PageFlags`] in the low byte; in the upper half the version of its code, which counts the writes while it
/// was [`PageFlags::CODE`]: code made from an older version is stale.
pub(crate) struct PageState(AtomicU64);

impl PageState {
    const VERSION: u32 = 32;

    /// A page that nobody listens to. RAM's are zeros to begin with, which is the same.
    #[allow(dead_code)]
    pub fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Who listens. Sequentially consistent: after an atomic store of that order the flags say who did not see it; after
    /// a plain one that takes a fence.
    #[inline]
    pub fn flags(&self) -> PageFlags {
        Self::flags_of(self.load())
    }

    /// The version of the page's code.
    #[inline]
    pub fn version(&self) -> u32 {
        Self::version_of(self.load())
    }

    /// Makes somebody a listener. Whether the flag is new, and the version that it is set for: bytes read from now on
    /// belong to that version or, if they were written meanwhile, to none that is valid.
    pub fn set_flag(&self, flag: PageFlags) -> (bool, u32) {
        let word = self.0.fetch_or(flag.0.into(), Ordering::SeqCst);
        fence(Ordering::SeqCst);
        (!Self::flags_of(word).contains(flag), Self::version_of(word))
    }

    /// If the flag is set already, the version that it is set for, as [`PageState::set_flag`] gives it.
    pub fn flagged_version(&self, flag: PageFlags) -> Option<u32> {
        let word = self.load();
        fence(Ordering::SeqCst);
        Self::flags_of(word).contains(flag).then(|| Self::version_of(word))
    }

    /// Removes a listener.
    pub fn clear_flag(&self, flag: PageFlags) {
        self.0.fetch_and(!u64::from(flag.0), Ordering::SeqCst);
    }

    /// Tells of pages that have just been written: `changed` is called with the place of each that was
    /// [`PageFlags::CODE`], which has a new version now and is so no longer.
    pub fn note_writes(pages: &[Self], changed: impl FnMut(usize)) {
        fence(Ordering::SeqCst);
        (0..pages.len()).filter(|place| pages[*place].outdate()).for_each(changed);
    }

    fn load(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }

    fn flags_of(word: u64) -> PageFlags {
        PageFlags(word as u8)
    }

    fn version_of(word: u64) -> u32 {
        (word >> Self::VERSION) as u32
    }

    /// Takes the flag off a page of code and gives it a new version; whether it was one.
    fn outdate(&self) -> bool {
        let next = |word: u64| {
            let code = u64::from(PageFlags::CODE.0);
            (word & code != 0).then(|| (word & !code).wrapping_add(1 << Self::VERSION))
        };
        self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, next).is_ok()
    }
}
