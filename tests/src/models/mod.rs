//! Models of what the harts' threads agree on with each other, run by loom in every order that matters: the files of
//! the emulator themselves, with loom's primitives in the place of the host's (`sync.rs`), and little around them.
//!
//! A model holds if no order of its threads' steps makes it panic or wait for ever. [`fails`] runs it with weaker
//! primitives: it has to notice.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use loom::thread::{self, JoinHandle};

use sync::{AtomicU8, AtomicU32, Mutex, Ordering, yield_now};

#[allow(dead_code)]
#[path = "../../../cpu/src/jit/gate.rs"]
mod gate;
#[allow(dead_code)]
#[path = "../../../devices/bus/src/ram/page_state.rs"]
mod page_state;
#[allow(dead_code)]
#[path = "../../../cpu/src/shared.rs"]
mod shared;
mod sync;

use gate::{Gate, Presence};
use page_state::{PageFlags, PageState};
use shared::{HartShared, event};
pub use sync::Weakness;

/// Most times that threads are interrupted in an order that is tried.
const MOST_PREEMPTIONS: usize = 3;

/// Runs a model in all orders.
///
/// # Panics
/// The model does not hold.
pub fn holds(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(MOST_PREEMPTIONS);
    builder.max_branches = 100_000;
    builder.check(model);
}

/// Whether a model notices that its primitives are weaker than they should be.
pub fn fails(weakness: Weakness, model: impl Fn() + Sync + Send + 'static) -> bool {
    sync::weaken(weakness);
    let outcome = catch_unwind(AssertUnwindSafe(|| holds(model)));
    sync::weaken(Weakness::None);
    outcome.is_err()
}

const OLD: u8 = 1;
const NEW: u8 = 2;

/// What one thread does and another relies on: a store that by itself orders nothing.
struct Datum(AtomicU8);

impl Datum {
    fn new() -> Self {
        Self(AtomicU8::new(OLD))
    }

    fn set(&self, value: u8) {
        self.0.store(value, Ordering::Relaxed);
    }

    fn get(&self) -> u8 {
        self.0.load(Ordering::Relaxed)
    }
}

fn finish<T>(thread: JoinHandle<T>) {
    assert!(thread.join().is_ok());
}

/// A device drives a line; the hart, which may be about to sleep, takes the interrupt and sees what was done before.
pub fn interrupt() {
    let hart = Arc::new(HartShared::new(0));
    let device = Arc::new(Datum::new());
    let (own, registers) = (hart.clone(), device.clone());
    let thread = thread::spawn(move || {
        while own.take_events(event::INTERRUPT) == 0 {
            own.park();
        }
        assert_eq!((own.pending(), registers.get()), (1 << 9, NEW));
    });
    device.set(NEW);
    hart.change_pending(1 << 9, 0);
    finish(thread);
}

/// The machine pauses a hart that runs, sleeps, or takes an interrupt: it stops, and the interrupt is not lost.
pub fn pause() {
    let hart = Arc::new(HartShared::new(0));
    let own = hart.clone();
    let thread = thread::spawn(move || {
        let mut taken = false;
        while own.events() & event::PAUSE == 0 {
            taken |= own.take_events(!event::PAUSE) & event::INTERRUPT != 0;
            own.park();
        }
        taken
    });
    let other = hart.clone();
    let device = thread::spawn(move || other.change_pending(1 << 9, 0));
    hart.raise(event::PAUSE);
    finish(device);
    let taken = thread.join().is_ok_and(|taken| taken);
    assert!(taken || hart.take_events(event::INTERRUPT) != 0);
}

/// A page of code, a hart that may write to it unheard, and what the guest says when it has.
struct Code {
    page: [PageState; 1],
    bytes: Datum,
    /// The guest's own, by which the writer tells the reader.
    told: AtomicU32,
}

impl Code {
    fn new() -> Arc<Self> {
        Arc::new(Self { page: [PageState::new()], bytes: Datum::new(), told: AtomicU32::new(0) })
    }

    /// A hart that writes, and whose TLB has the page at first; then it sleeps until it is paused.
    fn write(&self, hart: &HartShared) {
        let mut has_entry = true;
        let mut forget = || {
            hart.take_events(!event::PAUSE);
            hart.forget(|asked| {
                if !asked.is_empty() && std::mem::take(&mut has_entry) {
                    PageState::note_writes(&self.page, |_| ());
                }
            });
            has_entry
        };
        let is_unheard = hart.events() == 0 || forget();
        self.bytes.set(NEW);
        if !is_unheard {
            PageState::note_writes(&self.page, |_| ());
        }
        self.told.store(1, Ordering::Release);
        while hart.events() & event::PAUSE == 0 {
            // A writer that sleeps leaves fewer orders to try. On weak primitives it would not wake, which is another
            // model's to notice.
            if sync::is_weak() {
                yield_now();
            } else {
                hart.park();
            }
            if hart.events() != 0 {
                forget();
            }
        }
    }

    /// A hart decodes the page's code, for which it has set the flag, or found it set for a version; then it learns that
    /// there is other code, executes `fence.i`, and decodes no more unless its version is stale.
    fn execute(&self, hart: &HartShared, peers: &[Arc<HartShared>], version: u32) {
        let decoded = self.bytes.get();
        if self.told.load(Ordering::Acquire) != 0 {
            hart.wait_for(peers, || ());
            assert!(decoded == NEW || self.page[0].version() != version, "old code is taken for new");
        }
    }
}

/// A hart makes itself a listener of a page that another writes to unheard until it has been asked.
pub fn shootdown() {
    let code = Code::new();
    let writer = Arc::new(HartShared::new(0));
    let (own, page) = (writer.clone(), code.clone());
    let thread = thread::spawn(move || page.write(&own));
    let hart = HartShared::new(1);
    let peers = [writer.clone()];
    let mut version = 0;
    hart.announce(&peers, 0, || {
        let (is_new, current) = code.page[0].set_flag(PageFlags::CODE);
        version = current;
        is_new
    });
    code.execute(&hart, &peers, version);
    writer.raise(event::PAUSE);
    finish(thread);
}

/// As before, but the hart that executes the code has found the page listened to, by a third that is about to ask.
pub fn shootdown_by_another() {
    let code = Code::new();
    let harts: [_; 2] = std::array::from_fn(|id| Arc::new(HartShared::new(id as u64)));
    let (own, page) = (harts[0].clone(), code.clone());
    let writes = thread::spawn(move || page.write(&own));
    let (peers, page) = (harts.clone(), code.clone());
    let listens = thread::spawn(move || {
        peers[1].announce(&peers[..1], 0, || page.page[0].set_flag(PageFlags::CODE).0);
    });
    if let Some(version) = code.page[0].flagged_version(PageFlags::CODE) {
        code.execute(&HartShared::new(2), &harts, version);
    }
    finish(listens);
    harts[0].raise(event::PAUSE);
    finish(writes);
}

/// A region is made of code that is written meanwhile: it is not found once the writer has gone on.
pub fn publication() {
    let code = Code::new();
    let registry = Arc::new(Mutex::new(None));
    let (page, regions) = (code.clone(), registry.clone());
    let compiles = thread::spawn(move || {
        // As `Region::grow` and `Inner::install` do.
        let (_, version) = page.page[0].set_flag(PageFlags::CODE);
        let made_of = page.bytes.get();
        if let Ok(mut regions) = regions.lock()
            && page.page[0].version() == version
        {
            *regions = Some(made_of);
        }
    });
    code.bytes.set(NEW);
    PageState::note_writes(&code.page, |_| {
        if let Ok(mut regions) = registry.lock() {
            *regions = None;
        }
    });
    finish(compiles);
    assert!(registry.lock().is_ok_and(|region| *region != Some(OLD)), "a region of old code is left");
}

/// All code is given up while a hart goes in and out.
pub fn giving_up() {
    let gate = Arc::new(Gate::new());
    let presence = Arc::new(Presence::new());
    let code = Arc::new(Datum::new());
    let (way, own, runs) = (gate.clone(), presence.clone(), code.clone());
    let thread = thread::spawn(move || {
        for _ in 0..2 {
            if let Some(generation) = way.enter(&own) {
                let expected = if generation == 1 { OLD } else { NEW };
                assert_eq!(runs.get(), expected, "the code is being changed");
                own.leave();
            }
        }
    });
    gate.close();
    while presence.is_inside() {
        yield_now();
    }
    code.set(0);
    code.set(NEW);
    gate.begin_generation();
    gate.open();
    finish(thread);
}
