//! The part of a hart that other threads may touch: interrupt lines, the event word, posted requests.
//!
//! A hart's thread owns its [`crate::Hart`]. Whoever wants something from it sets a bit of the event word, which the
//! hart polls at block boundaries with one load, and which wakes it from `wfi`.

use std::sync::Arc;
use std::time::Duration;

use bus::{CodeListener, InterruptSink};

use super::sync::{AtomicBool, AtomicU32, AtomicU64, Condvar, Instant, Mutex, Ordering, PoisonError, fence, yield_now};

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
    /// The hart has executed `fence.i`, which is not done yet.
    pub const FENCE: u32 = 64;
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

/// Messages from other threads to a hart's. Who posts gets a ticket, and can see when all up to it have been served.
struct Mailbox<T> {
    waiting: Mutex<Vec<T>>,
    posted: AtomicU64,
    served: AtomicU64,
}

impl<T> Mailbox<T> {
    fn new() -> Self {
        Self { waiting: Mutex::new(Vec::new()), posted: AtomicU64::new(0), served: AtomicU64::new(0) }
    }

    fn post(&self, message: T) -> u64 {
        self.post_to(|waiting| waiting.push(message))
    }

    /// Posts by changing what waits.
    fn post_to(&self, post: impl FnOnce(&mut Vec<T>)) -> u64 {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        post(&mut waiting);
        // Counted under the lock: a ticket never covers a message that comes later.
        self.posted.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// The ticket of the last message posted.
    fn last(&self) -> u64 {
        self.posted.load(Ordering::SeqCst)
    }

    /// All that waits, and the ticket that covers it.
    fn take(&self) -> (Vec<T>, u64) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        (std::mem::take(&mut *waiting), self.posted.load(Ordering::SeqCst))
    }

    fn set_served(&self, ticket: u64) {
        self.served.store(ticket, Ordering::Release);
    }

    fn is_served(&self, ticket: u64) -> bool {
        self.served.load(Ordering::Acquire) >= ticket
    }
}

/// Pages that wait to be forgotten before all are.
const MOST_TO_FORGET: usize = 1024;

/// Which write entries of its TLB a hart is asked to drop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Forget {
    /// Those for the page at this offset in RAM.
    Page(u64),
    /// All.
    Everything,
}

/// How long a hart that waits looks for an event before its thread sleeps, if its last wait was short: to wake a thread
/// of the host takes as long.
const LOOKS: Duration = Duration::from_micros(50);

/// How many waits a hart does not look in after somebody else has had its processor.
const RESTS: u32 = 256;

/// What other threads see of a hart.
pub struct HartShared {
    id: u64,
    /// The bits of `mip` that come from outside (levels of lines) and SSIP, which software also writes.
    pending: AtomicU64,
    event: AtomicU32,
    requests: Mailbox<Request>,
    /// Pages of RAM, by offset, to which the fast path may no longer write because somebody listens. Apart from the
    /// requests, since a hart must be able to serve these while it serves one of those.
    to_forget: Mailbox<Forget>,
    /// Odd while this hart makes itself a listener of a page and has not yet asked all others to forget it.
    announcements: AtomicU64,
    /// Whether somebody runs the hart, and will serve what is posted for it.
    running: AtomicBool,
    parked: AtomicBool,
    /// Whether the last wait ended so early that the next one begins by looking.
    looks: AtomicBool,
    /// Waits until it looks again.
    rests: AtomicU32,
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
            requests: Mailbox::new(),
            to_forget: Mailbox::new(),
            announcements: AtomicU64::new(0),
            running: AtomicBool::new(true),
            parked: AtomicBool::new(false),
            looks: AtomicBool::new(false),
            rests: AtomicU32::new(0),
            gate: Mutex::new(()),
            wake: Condvar::new(),
        }
    }

    /// The hart's number, `mhartid`.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The event word itself, for translated code to poll.
    #[allow(dead_code)]
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

    /// Parks the hart's thread until an event. A hart whose last wait was short does not sleep at once.
    pub fn park(&self) {
        let start = Instant::now();
        let rests = self.rests.load(Ordering::Relaxed);
        if rests > 0 {
            self.rests.store(rests - 1, Ordering::Relaxed);
        } else if self.looks.load(Ordering::Relaxed) {
            let mut looked = Duration::ZERO;
            while looked < LOOKS {
                if self.event.load(Ordering::SeqCst) != 0 {
                    return;
                }
                // Whoever has work on this processor comes first. If that takes a slice of time each, sleep is better: who
                // wakes from it goes before whoever has the processor.
                yield_now();
                let now = start.elapsed();
                if now - looked > LOOKS {
                    self.rests.store(RESTS, Ordering::Relaxed);
                }
                looked = now;
            }
        }
        self.sleep();
        self.looks.store(start.elapsed() < 2 * LOOKS, Ordering::Relaxed);
    }

    fn sleep(&self) {
        let guard = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
        self.parked.store(true, Ordering::SeqCst);
        // The event word is read after `parked` is set, both SeqCst: a raise either sees the flag or is seen here.
        if self.event.load(Ordering::SeqCst) == 0 {
            drop(self.wake.wait(guard));
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
        let ticket = self.requests.post(request);
        self.raise(event::REQUEST);
        ticket
    }

    /// Whether the request with this ticket has been served, or will be before the hart executes an instruction.
    pub fn is_served(&self, ticket: u64) -> bool {
        self.requests.is_served(ticket) || !self.is_running()
    }

    /// Whether somebody runs the hart. One that nobody runs begins with what is posted for it.
    pub fn is_running(&self) -> bool {
        self.running.load(Ordering::SeqCst)
    }

    /// Says whether somebody runs the hart. Called while none of the machine's harts has a thread.
    pub fn set_running(&self, running: bool) {
        self.running.store(running, Ordering::SeqCst);
    }

    pub(crate) fn take_requests(&self) -> (Vec<Request>, u64) {
        self.requests.take()
    }

    pub(crate) fn set_served(&self, ticket: u64) {
        self.requests.set_served(ticket);
    }

    /// Asks the hart to forget what lets its fast path write to the page of RAM at `offset`. A parked hart is not
    /// woken: it does so before it executes anything.
    fn ask_to_forget(&self, offset: u64) {
        self.to_forget.post_to(|waiting| match waiting.first() {
            Some(Forget::Everything) => {}
            _ if waiting.len() < MOST_TO_FORGET => waiting.push(Forget::Page(offset)),
            _ => *waiting = vec![Forget::Everything],
        });
        self.event.fetch_or(event::REQUEST, Ordering::SeqCst);
    }

    /// A ticket for all that the hart has been asked to forget so far, unless it has.
    fn unforgotten(&self) -> Option<u64> {
        let ticket = self.to_forget.last();
        (!self.has_forgotten(ticket)).then_some(ticket)
    }

    /// Whether the hart has forgotten what the ticket is for.
    fn has_forgotten(&self, ticket: u64) -> bool {
        self.to_forget.is_served(ticket)
    }

    /// Has the hart forget what it has been asked to: `forget` does it, and notes what may have been written unheard.
    pub(crate) fn forget(&self, forget: impl FnOnce(Vec<Forget>)) {
        let (asked, ticket) = self.to_forget.take();
        forget(asked);
        self.to_forget.set_served(ticket);
    }

    /// This hart becomes a listener of the page of RAM at `offset` by `listening`, and asks its peers to forget the page
    /// if it is the first.
    pub(crate) fn announce(&self, peers: &[Arc<HartShared>], offset: u64, listening: impl FnOnce() -> bool) {
        self.announcements.fetch_add(1, Ordering::SeqCst);
        if listening() {
            for peer in peers {
                peer.ask_to_forget(offset);
            }
        }
        self.announcements.fetch_add(1, Ordering::SeqCst);
    }

    /// How often this hart has begun or ended an announcement; odd during one.
    fn announcements(&self) -> u64 {
        self.announcements.load(Ordering::SeqCst)
    }

    /// Waits until no hart can have written unheard, before now, to a page that any hart has set a flag of. What peers
    /// want this hart to forget it forgets meanwhile, by `forget`, so that two that wait for each other both go on. A
    /// pause ends the wait: the machine then has every hart serve what is posted for it before any of them goes on.
    ///
    /// It does not matter who set the flag. Who finds it set relies on the announcement being complete, hence the first
    /// round; and on all answers, hence the second. A store that happened before this call, on whatever hart, has
    /// either been noted when this returns, or whoever reads the page after its flag was set sees it: the fence here is
    /// ordered before the reader's, as the announcement was not yet seen.
    pub(crate) fn wait_for(&self, peers: &[Arc<HartShared>], mut forget: impl FnMut()) {
        fence(Ordering::SeqCst);
        let is_paused = || self.events() & event::PAUSE != 0;
        for peer in peers {
            let begun = peer.announcements();
            while !begun.is_multiple_of(2) && peer.announcements() == begun {
                if is_paused() {
                    return;
                }
                forget();
                yield_now();
            }
        }
        forget();
        let unforgotten = |peer: &Arc<HartShared>| {
            let ticket = peer.unforgotten().filter(|_| peer.is_running())?;
            // It may be parked.
            peer.raise(event::REQUEST);
            Some((peer.clone(), ticket))
        };
        let mut waiting: Vec<_> = peers.iter().filter_map(unforgotten).collect();
        loop {
            waiting.retain(|(peer, ticket)| !peer.has_forgotten(*ticket));
            if waiting.is_empty() || is_paused() {
                return;
            }
            forget();
            yield_now();
        }
    }
}

/// Stores become visible to instruction fetches in finite time, without a fence (Ziccid), whoever made them. A parked
/// hart fetches nothing, and is not woken.
impl CodeListener for HartShared {
    fn code_changed(&self, _: u64) {
        self.event.fetch_or(event::CODE, Ordering::SeqCst);
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
    fn pages_to_forget_do_not_pile_up_in_a_hart_that_sleeps() {
        let hart = HartShared::new(0);
        for page in 0..MOST_TO_FORGET as u64 {
            hart.ask_to_forget(page);
        }
        let ticket = hart.unforgotten().unwrap();
        let (first, covered) = hart.to_forget.take();
        assert_eq!((first.len(), first[1], covered), (MOST_TO_FORGET, Forget::Page(1), ticket));
        for page in 0..10 * MOST_TO_FORGET as u64 {
            hart.ask_to_forget(page);
        }
        let (all, ticket) = hart.to_forget.take();
        assert_eq!(all, [Forget::Everything]);
        hart.to_forget.set_served(ticket - 1);
        assert_eq!(hart.unforgotten(), Some(ticket));
        hart.to_forget.set_served(ticket);
        assert_eq!(hart.unforgotten(), None);
    }

    #[test]
    fn an_event_ends_parking() {
        let hart = Arc::new(HartShared::new(0));
        let other = hart.clone();
        let thread = std::thread::spawn(move || {
            while other.events() & event::PAUSE == 0 {
                other.park();
            }
        });
        hart.raise(event::PAUSE);
        thread.join().unwrap();
    }

    /// Two that wake each other in turn, by waits that are short and long, so that they look, and sleep.
    #[test]
    fn no_event_is_lost_between_looking_and_sleeping() {
        let harts = [HartShared::new(0), HartShared::new(1)];
        let take_turns = |own: &HartShared, other: &HartShared| {
            for turn in 0..3000 {
                while own.take_events(event::INTERRUPT) == 0 {
                    own.park();
                }
                if turn % 100 == 0 {
                    std::thread::sleep(4 * LOOKS);
                }
                other.raise(event::INTERRUPT);
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(|| take_turns(&harts[0], &harts[1]));
            scope.spawn(|| take_turns(&harts[1], &harts[0]));
            harts[0].raise(event::INTERRUPT);
        });
    }
}
