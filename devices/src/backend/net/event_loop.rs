//! A network's thread, and the cable that leads to it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use mio::Waker;

use super::{Frame, Link, NetworkBackend};
use crate::backend::Ready;

/// A thread that runs an event loop, and ends with this.
pub struct EventLoop {
    link: Arc<Link>,
    waker: Arc<Waker>,
    quit: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl EventLoop {
    /// Starts `run` on a thread of its own. It returns soon after `waker` has been woken and its argument has become
    /// true. `link` is the card's end of its cable.
    pub fn start(
        name: &str,
        link: Arc<Link>,
        waker: Arc<Waker>,
        run: impl FnOnce(&AtomicBool) + Send + 'static,
    ) -> io::Result<Self> {
        let quit = Arc::new(AtomicBool::new(false));
        let thread = std::thread::Builder::new().name(name.into()).spawn({
            let quit = quit.clone();
            move || run(&quit)
        })?;
        Ok(Self { link, waker, quit, thread: Some(thread) })
    }
}

impl Drop for EventLoop {
    fn drop(&mut self) {
        self.quit.store(true, Ordering::Release);
        // Fails only if the loop has ended.
        let _ = self.waker.wake();
        if let Some(thread) = self.thread.take()
            // A card that ends while it is served may leave the last handle of its network to the network's own thread.
            && thread.thread().id() != std::thread::current().id()
        {
            // A panic was reported when it happened.
            let _ = thread.join();
        }
    }
}

/// A network with a thread of its own: what a card sees of it is the cable.
pub trait Threaded: Send + Sync {
    /// Its thread.
    fn event_loop(&self) -> &EventLoop;
}

impl<T: Threaded> NetworkBackend for T {
    fn offloads(&self) -> bool {
        self.event_loop().link.offloads()
    }

    fn mtu(&self) -> u16 {
        self.event_loop().link.mtu()
    }

    fn send(&self, frame: Frame) -> Result<(), Frame> {
        self.event_loop().link.send(frame)
    }

    fn receive(&self) -> Option<Frame> {
        self.event_loop().link.receive()
    }

    fn attach(&self, ready: Ready) {
        self.event_loop().link.attach(ready);
    }

    fn call(&self) {
        self.event_loop().link.call();
    }
}
