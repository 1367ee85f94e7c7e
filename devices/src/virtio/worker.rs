//! Devices that serve their queues on threads of their own or of their backends: harts only leave a note there.
//!
//! Guest memory and queues are touched under the lock of the [`Session`], host I/O happens without it. A reset takes the
//! session away under that lock: it does not wait for the host, and what a request in flight brings back afterwards finds
//! no session and is dropped. Where one thread serves all requests in order, a write of the old session cannot overtake
//! one of the next; a service with several threads sees to that itself.
//!
//! The exception is an [`Access`]: guest memory that the host copies from or to files by itself. A reset waits until these
//! have ended, so they are for copies within the host's memory.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, Weak};
use std::thread::JoinHandle;

use bus::{Ram, StateError};

use super::{Queue, QueuePosition, Session, VirtioDevice};
use crate::lock;

/// A set of reasons to serve: bit `i` is a notification of queue `i`, or [`Events::BACKEND`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Events(u64);

impl Events {
    /// Nothing to do.
    pub const NONE: Events = Events(0);
    /// The backend has something new.
    pub const BACKEND: Events = Events(1 << 63);
    /// Everything: after a pause, or a restored state.
    const ALL: Events = Events(u64::MAX);

    /// A notification of queue `index`.
    pub const fn queue(index: u16) -> Self {
        if index < 63 { Self(1 << index) } else { Self::NONE }
    }

    /// The set without `other`.
    #[must_use]
    pub const fn without(self, other: Events) -> Self {
        Self(self.0 & !other.0)
    }

    /// What is in both sets.
    #[must_use]
    pub const fn intersection(self, other: Events) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether one of `other` is in the set.
    pub const fn intersects(self, other: Events) -> bool {
        self.0 & other.0 != 0
    }

    /// Both sets.
    #[must_use]
    pub const fn or(self, other: Events) -> Self {
        Self(self.0 | other.0)
    }
}

/// Calls a thread, from any thread, without blocking.
pub type Caller = Box<dyn Fn() + Send + Sync>;

/// A kind of device that is served by a [`Worker`].
pub trait Service: Send + Sync + 'static {
    /// See [`VirtioDevice::name`].
    fn name(&self) -> &'static str;

    /// See [`VirtioDevice::id`].
    fn id(&self) -> u32;

    /// See [`VirtioDevice::features`].
    fn features(&self) -> u64;

    /// See [`VirtioDevice::queue_sizes`].
    fn queue_sizes(&self) -> &[u16];

    /// See [`VirtioDevice::read_config`].
    fn read_config(&self, offset: u64, bytes: &mut [u8]);

    /// See [`VirtioDevice::write_config`].
    fn write_config(&self, offset: u64, bytes: &[u8]) {
        tracing::debug!("{}: write of {bytes:x?} to read-only configuration at {offset:#x}", self.name());
    }

    /// How many threads call [`Service::serve`], each with events that no other has been given.
    fn threads(&self) -> usize {
        1
    }

    /// For a device that is served on a thread of its backend's, which saves a hand-over from thread to thread: calls
    /// that thread, which then calls [`Waker::serve`]. The worker has no threads then. Called once, before
    /// [`Service::attach`].
    fn caller(&self) -> Option<Caller> {
        None
    }

    /// Called once, before anything else, with what wakes the worker when a backend has something new.
    fn attach(&self, waker: Waker);

    /// Serves one batch of what `events` announces, on one of the worker's threads, and returns what is left to do. A
    /// batch is short, so that a pause need not wait for long.
    fn serve(&self, port: &Port, events: Events) -> Events;

    /// A session begins or ends, or `queue` of it does: chains that the service had begun are dropped. Called with the
    /// session locked.
    fn reset(&self, queue: Option<u16>);

    /// What the service remembers besides its queues. Only called while paused.
    fn save(&self) -> Result<Vec<u8>, StateError>;

    /// Takes over what [`Service::save`] made; on an error the service is as it was.
    fn restore(&self, state: &[u8]) -> Result<(), StateError>;
}

#[derive(Default)]
struct Slot {
    session: Option<Session>,
    /// Counts sessions: chains that were taken from an earlier one must not be completed any more.
    sessions: u64,
    /// Counts how often each queue of the session was enabled or disabled since: likewise.
    queues: BTreeMap<u16, u64>,
}

impl Slot {
    fn replace(&mut self, session: Option<Session>) {
        self.sessions = self.sessions.wrapping_add(1);
        self.queues.clear();
        self.session = session;
    }

    fn generation(&self, queue: u16) -> Generation {
        Generation { session: self.sessions, queue, enabled: self.queues.get(&queue).copied().unwrap_or(0) }
    }
}

/// The session, as the worker's thread reaches it.
#[derive(Default)]
pub struct Port {
    slot: Mutex<Slot>,
    /// Shared by accesses under way; a reset waits with the slot locked until it has this alone.
    accesses: RwLock<()>,
}

impl Port {
    /// The running session, locked. Host I/O must not be done while it is held.
    pub fn session(&self) -> Option<SessionGuard<'_>> {
        let slot = lock(&self.slot);
        slot.session.is_some().then_some(SessionGuard(slot))
    }

    /// The session from which a chain was taken, unless that chain was dropped by a reset since then.
    pub fn session_of(&self, generation: Generation) -> Option<SessionGuard<'_>> {
        self.session().filter(|session| session.generation(generation.queue) == generation)
    }

    /// Access to the buffers of a chain without the session locked, unless the chain was dropped by a reset. The thread
    /// must not ask for the session before it has given this back.
    pub fn access(&self, generation: Generation) -> Option<Access<'_>> {
        let mut session = self.session_of(generation)?;
        let ram = session.ram(generation.queue)?.clone();
        // Does not wait: whoever has it alone has the session locked.
        let guard = self.accesses.read().unwrap_or_else(PoisonError::into_inner);
        Some(Access { ram, _guard: guard })
    }

    /// Waits until there is no access to buffers of what the slot held before.
    fn end_accesses(&self, _slot: &mut Slot) {
        drop(self.accesses.write().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Guest memory, for a thread that does not hold the session. A reset waits for the end of this.
pub struct Access<'a> {
    ram: Ram,
    _guard: RwLockReadGuard<'a, ()>,
}

impl Access<'_> {
    /// Guest memory.
    pub fn ram(&self) -> &Ram {
        &self.ram
    }
}

/// Names the stretch of a session in which a chain was taken from a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Generation {
    session: u64,
    queue: u16,
    enabled: u64,
}

/// A locked session.
pub struct SessionGuard<'a>(MutexGuard<'a, Slot>);

impl SessionGuard<'_> {
    /// What to hand to [`Port::session_of`] later, for a chain of `queue`.
    pub fn generation(&self, queue: u16) -> Generation {
        self.0.generation(queue)
    }
}

impl Deref for SessionGuard<'_> {
    type Target = Session;

    fn deref(&self) -> &Session {
        self.0.session.as_ref().expect("a guard is made only where there is a session")
    }
}

impl DerefMut for SessionGuard<'_> {
    fn deref_mut(&mut self) -> &mut Session {
        self.0.session.as_mut().expect("a guard is made only where there is a session")
    }
}

#[derive(Default)]
struct Control {
    events: Events,
    paused: bool,
    /// Threads that serve.
    busy: usize,
    quit: bool,
}

struct Shared {
    /// The worker keeps it.
    service: Weak<dyn Service>,
    caller: Option<Caller>,
    port: Port,
    control: Mutex<Control>,
    /// There is something to do.
    posted: Condvar,
    /// A thread has served.
    served: Condvar,
}

fn wait<'a>(condition: &Condvar, control: MutexGuard<'a, Control>) -> MutexGuard<'a, Control> {
    condition.wait(control).unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Shared {
    fn post(&self, events: Events) {
        let mut control = lock(&self.control);
        control.events = control.events.or(events);
        drop(control);
        match &self.caller {
            Some(call) => call(),
            None => self.posted.notify_one(),
        }
    }

    fn run(&self) {
        loop {
            let mut control = lock(&self.control);
            while !control.quit && (control.paused || control.events == Events::NONE) {
                control = wait(&self.posted, control);
            }
            if control.quit {
                return;
            }
            self.serve(control);
        }
    }

    /// Serves what was posted.
    fn serve(&self, mut control: MutexGuard<'_, Control>) {
        /// Lets a pause go on even if the service panics.
        struct Busy<'a>(&'a Shared);
        impl Drop for Busy<'_> {
            fn drop(&mut self) {
                lock(&self.0.control).busy -= 1;
                self.0.served.notify_all();
            }
        }
        let events = std::mem::take(&mut control.events);
        control.busy += 1;
        drop(control);
        let _busy = Busy(self);
        // Never the last handle when it is dropped: the worker drops its own once nobody is busy.
        if let Some(service) = self.service.upgrade() {
            let left = service.serve(&self.port, events);
            if left != Events::NONE {
                self.post(left);
            }
        }
    }

    fn wait_until_idle<'a>(&self, mut control: MutexGuard<'a, Control>) {
        while control.busy != 0 {
            control = wait(&self.served, control);
        }
    }
}

/// Wakes a thread of the worker, from any thread.
#[derive(Clone)]
pub struct Waker(Weak<Shared>);

impl Waker {
    /// The backend has something new. Never blocks.
    pub fn wake(&self) {
        self.hand_over(Events::BACKEND);
    }

    /// Gives what a thread will not see to for a while to one that has nothing to do, or else to the first that will
    /// have nothing to do. Never blocks.
    pub fn hand_over(&self, events: Events) {
        if let Some(shared) = self.0.upgrade() {
            shared.post(events);
        }
    }

    /// Serves `events` and what was posted, on this thread, for a service with a [`Service::caller`]. While the worker is
    /// paused this only takes note of them.
    pub fn serve(&self, events: Events) {
        if let Some(shared) = self.0.upgrade() {
            let mut control = lock(&shared.control);
            control.events = control.events.or(events);
            if !control.quit && !control.paused && control.events != Events::NONE {
                shared.serve(control);
            }
        }
    }
}

/// A device that is served on threads of its own, which end with it, or on one of its backend's.
pub struct Worker<S: Service> {
    service: Arc<S>,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl<S: Service> Worker<S> {
    /// Starts the threads. Fails if the host has no more threads.
    pub fn new(service: S) -> std::io::Result<Self> {
        let service = Arc::new(service);
        let weak: Weak<S> = Arc::downgrade(&service);
        let shared = Arc::new(Shared {
            service: weak,
            caller: service.caller(),
            port: Port::default(),
            control: Mutex::default(),
            posted: Condvar::new(),
            served: Condvar::new(),
        });
        let threads = if shared.caller.is_some() { 0 } else { service.threads() };
        service.attach(Waker(Arc::downgrade(&shared)));
        // Those that have been started end with this, also if one of the next cannot be had.
        let mut worker = Self { service, shared, threads: Vec::new() };
        for _ in 0..threads {
            let shared = worker.shared.clone();
            let thread = std::thread::Builder::new().name(worker.service.name().into());
            worker.threads.push(thread.spawn(move || shared.run())?);
        }
        Ok(worker)
    }

    /// Puts a session in the place of the present one, whose chains in flight are dropped.
    fn replace(&self, session: Option<Session>) {
        // DMA and interrupts happen with this lock held: after it, the old session is silent.
        let mut slot = lock(&self.shared.port.slot);
        slot.replace(session);
        self.shared.port.end_accesses(&mut slot);
        self.service.reset(None);
    }
}

impl<S: Service> Drop for Worker<S> {
    fn drop(&mut self) {
        lock(&self.shared.control).quit = true;
        self.shared.posted.notify_all();
        for thread in self.threads.drain(..) {
            // A panic was reported when it happened.
            let _ = thread.join();
        }
        self.shared.wait_until_idle(lock(&self.shared.control));
    }
}

impl<S: Service> VirtioDevice for Worker<S> {
    fn name(&self) -> &'static str {
        self.service.name()
    }

    fn id(&self) -> u32 {
        self.service.id()
    }

    fn features(&self) -> u64 {
        self.service.features()
    }

    fn queue_sizes(&self) -> &[u16] {
        self.service.queue_sizes()
    }

    fn read_config(&self, offset: u64, bytes: &mut [u8]) {
        self.service.read_config(offset, bytes);
    }

    fn write_config(&self, offset: u64, bytes: &[u8]) {
        self.service.write_config(offset, bytes);
    }

    fn start(&self, session: Session) {
        self.replace(Some(session));
        self.shared.post(Events::ALL);
    }

    fn stop(&self) {
        self.replace(None);
    }

    fn set_queue(&self, index: u16, queue: Option<Queue>) {
        let mut slot = lock(&self.shared.port.slot);
        *slot.queues.entry(index).or_default() += 1;
        if let Some(session) = &mut slot.session {
            session.set_queue(index, queue);
        }
        self.shared.port.end_accesses(&mut slot);
        self.service.reset(Some(index));
    }

    fn notify(&self, index: u16) {
        self.shared.post(Events::queue(index));
    }

    fn pause(&self) {
        let mut control = lock(&self.shared.control);
        control.paused = true;
        self.shared.wait_until_idle(control);
    }

    fn resume(&self) {
        lock(&self.shared.control).paused = false;
        // Notes from before the pause are not part of a saved state, so everything is looked at.
        self.shared.post(Events::ALL);
    }

    fn positions(&self) -> Vec<Option<QueuePosition>> {
        lock(&self.shared.port.slot).session.as_ref().map_or_else(Vec::new, Session::positions)
    }

    fn save(&self) -> Result<Vec<u8>, StateError> {
        self.service.save()
    }

    fn restore(&self, state: &[u8], session: Option<Session>) -> Result<(), StateError> {
        self.service.restore(state)?;
        lock(&self.shared.port.slot).replace(session);
        Ok(())
    }
}
