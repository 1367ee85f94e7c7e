//! Devices that serve their queues on a thread of their own: harts only leave a note there.
//!
//! Guest memory and queues are touched under the lock of the [`Session`] alone, host I/O happens without it. A reset
//! takes the session away under that lock: it never waits for the host, and what a request in flight brings back
//! afterwards finds no session and is dropped. Since one thread serves all requests in order, a write of the old
//! session cannot overtake one of the next.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;

use bus::StateError;

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

    /// Called once, before anything else, with what wakes the worker when a backend has something new.
    fn attach(&self, waker: Waker);

    /// Serves one batch of what `events` announces, on the worker's thread, and returns what is left to do. A batch is
    /// short, so that a pause need not wait for long.
    fn serve(&self, port: &Port, events: Events) -> Events;

    /// A session begins or ends, or one of its queues does: chains that the service had begun are dropped. Called with
    /// the session locked.
    fn reset(&self);

    /// What the service remembers besides its queues. Only called while paused.
    fn save(&self) -> Result<Vec<u8>, StateError>;

    /// Takes over what [`Service::save`] made; on an error the service is as it was.
    fn restore(&self, state: &[u8]) -> Result<(), StateError>;
}

#[derive(Default)]
struct Slot {
    session: Option<Session>,
    /// Changes whenever chains that were taken from the session must not be completed any more.
    generation: u64,
}

/// The session, as the worker's thread reaches it.
#[derive(Default)]
pub struct Port(Mutex<Slot>);

impl Port {
    /// The running session, locked. Host I/O must not be done while it is held.
    pub fn session(&self) -> Option<SessionGuard<'_>> {
        let slot = lock(&self.0);
        slot.session.is_some().then_some(SessionGuard(slot))
    }

    /// The session from which a chain was taken, unless that chain was dropped by a reset since then.
    pub fn session_of(&self, generation: Generation) -> Option<SessionGuard<'_>> {
        self.session().filter(|session| session.generation() == generation)
    }
}

/// Names the stretch of a session in which a chain was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Generation(u64);

/// A locked session.
pub struct SessionGuard<'a>(MutexGuard<'a, Slot>);

impl SessionGuard<'_> {
    /// What to hand to [`Port::session_of`] later.
    pub fn generation(&self) -> Generation {
        Generation(self.0.generation)
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
    busy: bool,
    quit: bool,
}

#[derive(Default)]
struct Shared {
    port: Port,
    control: Mutex<Control>,
    changed: Condvar,
}

impl Shared {
    fn post(&self, events: Events) {
        let mut control = lock(&self.control);
        control.events = control.events.or(events);
        drop(control);
        self.changed.notify_all();
    }

    fn wait<'a>(&self, control: MutexGuard<'a, Control>) -> MutexGuard<'a, Control> {
        self.changed.wait(control).unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn run(&self, service: &impl Service) {
        /// Lets a pause go on even if the service panics.
        struct Busy<'a>(&'a Shared);
        impl Drop for Busy<'_> {
            fn drop(&mut self) {
                lock(&self.0.control).busy = false;
                self.0.changed.notify_all();
            }
        }
        loop {
            let mut control = lock(&self.control);
            while !control.quit && (control.paused || control.events == Events::NONE) {
                control = self.wait(control);
            }
            if control.quit {
                return;
            }
            let events = std::mem::take(&mut control.events);
            control.busy = true;
            drop(control);
            let busy = Busy(self);
            let left = service.serve(&self.port, events);
            if left != Events::NONE {
                self.post(left);
            }
            drop(busy);
        }
    }
}

/// Wakes the worker for its backend's sake, from any thread.
#[derive(Clone)]
pub struct Waker(std::sync::Weak<Shared>);

impl Waker {
    /// The backend has something new. Never blocks.
    pub fn wake(&self) {
        if let Some(shared) = self.0.upgrade() {
            shared.post(Events::BACKEND);
        }
    }
}

/// A device that is served on a thread of its own, which ends with it.
pub struct Worker<S: Service> {
    service: Arc<S>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl<S: Service> Worker<S> {
    /// Starts the thread. Fails if the host has no more threads.
    pub fn new(service: S) -> std::io::Result<Self> {
        let (service, shared) = (Arc::new(service), Arc::new(Shared::default()));
        service.attach(Waker(Arc::downgrade(&shared)));
        let thread = std::thread::Builder::new().name(service.name().into()).spawn({
            let (service, shared) = (service.clone(), shared.clone());
            move || shared.run(&*service)
        })?;
        Ok(Self { service, shared, thread: Some(thread) })
    }

    /// Puts a session in the place of the present one, whose chains in flight are dropped.
    fn replace(&self, session: Option<Session>) {
        // DMA and interrupts happen with this lock held: after it, the old session is silent.
        let mut slot = lock(&self.shared.port.0);
        slot.generation = slot.generation.wrapping_add(1);
        slot.session = session;
        self.service.reset();
    }
}

impl<S: Service> Drop for Worker<S> {
    fn drop(&mut self) {
        lock(&self.shared.control).quit = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // A panic was reported when it happened.
            let _ = thread.join();
        }
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
        tracing::debug!("{}: write of {bytes:x?} to read-only configuration at {offset:#x}", self.name());
    }

    fn start(&self, session: Session) {
        self.replace(Some(session));
        self.shared.post(Events::ALL);
    }

    fn stop(&self) {
        self.replace(None);
    }

    fn set_queue(&self, index: u16, queue: Option<Queue>) {
        let mut slot = lock(&self.shared.port.0);
        slot.generation = slot.generation.wrapping_add(1);
        if let Some(session) = &mut slot.session {
            session.set_queue(index, queue);
        }
        self.service.reset();
    }

    fn notify(&self, index: u16) {
        self.shared.post(Events::queue(index));
    }

    fn pause(&self) {
        let mut control = lock(&self.shared.control);
        control.paused = true;
        while control.busy {
            control = self.shared.wait(control);
        }
    }

    fn resume(&self) {
        lock(&self.shared.control).paused = false;
        // Notes from before the pause are not part of a saved state, so everything is looked at.
        self.shared.post(Events::ALL);
    }

    fn positions(&self) -> Vec<Option<QueuePosition>> {
        lock(&self.shared.port.0).session.as_ref().map_or_else(Vec::new, Session::positions)
    }

    fn save(&self) -> Result<Vec<u8>, StateError> {
        self.service.save()
    }

    fn restore(&self, state: &[u8], session: Option<Session>) -> Result<(), StateError> {
        self.service.restore(state)?;
        let mut slot = lock(&self.shared.port.0);
        slot.generation = slot.generation.wrapping_add(1);
        slot.session = session;
        Ok(())
    }
}
