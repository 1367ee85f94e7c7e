//! The part of a hart that other threads may touch: interrupt lines, the event word, posted requests.
//!
//! A hart's thread owns its [`crate::Hart`]. Whoever wants something from it sets a bit of the event word, which the
//! hart polls at block boundaries with one load, and which wakes it from `wfi`.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use bus::{CodeListener, InterruptSink};

/// Bits of the event word.
pub mod event {
    /// An interrupt line has changed, or what is pending must be looked at again.
    pub const INTERRUPT: u32 = 1;
    /// A timer deadline may have passed.
    pub const TIMER: u32 = 2;
    /// There are [`super::Request`]s.
    pub const REQUEST: u32 = 4;
    /// The machine wants the hart to stop at the next instruction boundary.
    pub const PAUSE: u32 = 8;
    /// A page that is being watched was written.
    pub const WATCH: u32 = 16;
    /// Guest code that somebody has decoded was written.
    pub const CODE: u32 = 32;
}

/// What one hart asks of another; served at the target's next poll.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// `fence.i`.
    FenceI,
    /// `sfence.vma` over `start..start + size`, of one address space or all.
    SfenceVma {
        /// First virtual address.
        start: u64,
        /// Bytes; `u64::MAX` is everything.
        size: u64,
        /// The address space, `None` for all.
        asid: Option<u16>,
    },
}

/// What other threads see of a hart.
pub struct HartShared {
    id: u64,
    /// The bits of `mip` that come from outside (levels of lines) and SSIP, which software also writes.
    pending: AtomicU64,
    event: AtomicU32,
    /// Requests posted, and how many have been posted and served in all: a waiter remembers the first and waits for
    /// the second to reach it.
    requests: Mutex<Vec<Request>>,
    posted: AtomicU64,
    served: AtomicU64,
    parked: AtomicBool,
    gate: Mutex<()>,
    wake: Condvar,
}

impl HartShared {
    /// The shared part of hart number `id`.
    pub fn new(id: u64) -> Self {
        Self {
            id,
            pending: AtomicU64::new(0),
            event: AtomicU32::new(0),
            requests: Mutex::default(),
            posted: AtomicU64::new(0),
            served: AtomicU64::new(0),
            parked: AtomicBool::new(false),
            gate: Mutex::new(()),
            wake: Condvar::new(),
        }
    }

    /// The hart's number, `mhartid`.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The event word itself, for translated code to poll.
    #[cfg(feature = "jit")]
    pub(crate) fn event_word(&self) -> *const AtomicU32 {
        &raw const self.event
    }

    /// The event word, polled at block boundaries.
    #[inline(always)]
    pub fn events(&self) -> u32 {
        self.event.load(Ordering::Relaxed)
    }

    /// Takes all events; what was done before they were raised is visible after.
    pub(crate) fn take_events(&self, which: u32) -> u32 {
        self.event.fetch_and(!which, Ordering::SeqCst) & which
    }

    /// Raises events and wakes the hart if it is parked.
    pub fn raise(&self, events: u32) {
        self.event.fetch_or(events, Ordering::SeqCst);
        if self.parked.load(Ordering::SeqCst) {
            drop(self.gate.lock().unwrap_or_else(PoisonError::into_inner));
            self.wake.notify_all();
        }
    }

    /// Withdraws events, such as a pause that is over.
    pub fn withdraw(&self, events: u32) {
        self.event.fetch_and(!events, Ordering::SeqCst);
    }

    /// Parks the hart's thread until an event or the timeout.
    pub fn park(&self, timeout: Option<Duration>) {
        let guard = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
        self.parked.store(true, Ordering::SeqCst);
        // The event word is read after `parked` is set, both SeqCst: a raise either sees the flag or is seen here.
        if self.event.load(Ordering::SeqCst) == 0 {
            match timeout {
                Some(timeout) => drop(self.wake.wait_timeout(guard, timeout)),
                None => drop(self.wake.wait(guard)),
            }
        }
        self.parked.store(false, Ordering::SeqCst);
    }

    /// The pending bits that come from outside, in `mip`'s layout.
    pub fn pending(&self) -> u64 {
        self.pending.load(Ordering::Acquire)
    }

    /// Sets and clears bits of `mip` that live here.
    pub fn change_pending(&self, set: u64, clear: u64) {
        if clear != 0 {
            self.pending.fetch_and(!clear, Ordering::SeqCst);
        }
        if set & !self.pending.fetch_or(set, Ordering::SeqCst) != 0 {
            self.raise(event::INTERRUPT);
        }
    }

    /// Posts a request; the ticket is done when [`HartShared::is_served`] says so.
    pub fn post(&self, request: Request) -> u64 {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        requests.push(request);
        let ticket = self.posted.fetch_add(1, Ordering::SeqCst) + 1;
        drop(requests);
        self.raise(event::REQUEST);
        ticket
    }

    /// Whether the request with this ticket has been served.
    pub fn is_served(&self, ticket: u64) -> bool {
        self.served.load(Ordering::Acquire) >= ticket
    }

    pub(crate) fn take_requests(&self) -> (Vec<Request>, u64) {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        (std::mem::take(&mut *requests), self.posted.load(Ordering::SeqCst))
    }

    pub(crate) fn set_served(&self, ticket: u64) {
        self.served.store(ticket, Ordering::Release);
    }
}

/// Stores become visible to instruction fetches in finite time, without a fence (Ziccid), whoever made them.
impl CodeListener for HartShared {
    fn code_changed(&self, _: u64) {
        self.raise(event::CODE);
    }
}

impl InterruptSink for HartShared {
    fn set_level(&self, source: u32, level: bool) {
        let bit = 1 << source;
        if level { self.change_pending(bit, 0) } else { self.change_pending(0, bit) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn a_line_sets_its_bit_and_an_event() {
        let hart = HartShared::new(0);
        hart.set_level(9, true);
        assert_eq!(hart.pending(), 1 << 9);
        assert_eq!(hart.take_events(u32::MAX), event::INTERRUPT);
        hart.set_level(9, true);
        assert_eq!(hart.events(), 0, "a level that does not change is no event");
        hart.set_level(9, false);
        assert_eq!(hart.pending(), 0);
    }

    #[test]
    fn an_event_ends_parking() {
        let hart = Arc::new(HartShared::new(0));
        let other = hart.clone();
        let thread = std::thread::spawn(move || {
            while other.events() & event::PAUSE == 0 {
                other.park(None);
            }
        });
        hart.raise(event::PAUSE);
        thread.join().unwrap();
    }
}
