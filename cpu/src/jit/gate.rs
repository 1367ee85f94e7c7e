//! Who is in translated code, and whether all of it is being given up.
//!
//! A hart says that it is inside, then looks whether it may; who gives the code up says so, then looks who is inside.
//! Either the hart sees that it has to stay out, or it is seen and waited for.

use super::sync::{AtomicBool, AtomicU64, Ordering};

/// What one hart tells the others about its presence in translated code.
#[derive(Debug)]
pub(crate) struct Presence {
    inside: AtomicBool,
}

impl Presence {
    /// A hart that is outside.
    pub fn new() -> Self {
        Self { inside: AtomicBool::new(false) }
    }

    /// The hart has left translated code.
    #[inline]
    pub fn leave(&self) {
        self.inside.store(false, Ordering::Release);
    }

    /// Whether the hart may be in translated code.
    pub fn is_inside(&self) -> bool {
        self.inside.load(Ordering::SeqCst)
    }
}

/// The way into translated code.
#[derive(Debug)]
pub(crate) struct Gate {
    closed: AtomicBool,
    generation: AtomicU64,
}

impl Gate {
    /// An open gate.
    pub fn new() -> Self {
        Self { closed: AtomicBool::new(false), generation: AtomicU64::new(1) }
    }

    /// Lets a hart in unless all code is being given up; the code's generation.
    #[inline]
    pub fn enter(&self, presence: &Presence) -> Option<u64> {
        presence.inside.store(true, Ordering::SeqCst);
        if self.closed.load(Ordering::SeqCst) {
            presence.leave();
            return None;
        }
        Some(self.generation())
    }

    /// Counts the times that all code was given up: addresses from before lead nowhere.
    #[inline]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }

    /// Lets nobody in from now on. Whoever is inside has to be waited for ([`Presence::is_inside`]).
    pub fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }

    /// Begins a generation, all code of the last one being gone.
    pub fn begin_generation(&self) {
        self.generation.fetch_add(1, Ordering::SeqCst);
    }

    /// Lets harts in again.
    pub fn open(&self) {
        self.closed.store(false, Ordering::SeqCst);
    }
}
