//! The queues between a card and its network.
//!
//! The card is served on the network's thread: [`NetworkEnd::flush`] calls it, and what it then puts into the queues needs
//! no further call. So a frame wakes one thread on its way, not two.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex};

use super::{Frame, NetworkBackend};
use crate::backend::Ready;
use crate::lock;

/// Frames that wait in one direction.
const MOST_FRAMES: usize = 512;
/// Bytes that wait in one direction, beyond which no further frame is taken.
const MOST_BYTES: usize = 1 << 20;

#[derive(Default)]
struct Frames {
    frames: VecDeque<Frame>,
    bytes: usize,
    /// The taker has found nothing and is to be called when something comes.
    taker_waits: bool,
    /// The giver has found no room and is to be called when there is some.
    giver_waits: bool,
}

impl Frames {
    fn has_room(&self) -> bool {
        self.frames.len() < MOST_FRAMES && self.bytes < MOST_BYTES
    }

    /// Adds a frame; whether the taker is to be called.
    fn push(&mut self, frame: Frame) -> bool {
        self.bytes += frame.bytes.len();
        self.frames.push_back(frame);
        std::mem::take(&mut self.taker_waits)
    }

    /// Takes a frame; and whether the giver is to be called, which is when half of the room is free: one call for each
    /// frame would have both sides wake each other all the time.
    fn pop(&mut self) -> (Option<Frame>, bool) {
        let frame = self.frames.pop_front();
        match &frame {
            Some(frame) => self.bytes -= frame.bytes.len(),
            None => self.taker_waits = true,
        }
        let half_free = self.frames.len() <= MOST_FRAMES / 2 && self.bytes <= MOST_BYTES / 2;
        (frame, half_free && std::mem::take(&mut self.giver_waits))
    }
}

/// The network's thread looks at its own business, and has to be woken.
const AWAY: u8 = 0;
/// It is in the card's service, and looks afterwards whether there is something to do.
const ATTENDING: u8 = 1;
/// The same, and there is.
const CALLED: u8 = 2;

struct Shared {
    to_network: Mutex<Frames>,
    to_guest: Mutex<Frames>,
    ready: Mutex<Option<Arc<Ready>>>,
    wake: Box<dyn Fn() + Send + Sync>,
    /// Where the network's thread is.
    network: AtomicU8,
    /// The card wants to be called.
    call: AtomicBool,
}

impl Shared {
    /// Has the network's thread look for something to do.
    fn wake_network(&self) {
        // Sequentially consistent, as all of `network`: whoever finds the thread away sees to its waking.
        let attending = self.network.compare_exchange(ATTENDING, CALLED, Ordering::SeqCst, Ordering::SeqCst);
        if attending == Err(AWAY) {
            (self.wake)();
        }
    }

    /// Calls the card on this thread, the network's. Whether the network has something to do then is the answer.
    fn attend(&self) -> bool {
        let ready = lock(&self.ready).clone();
        self.network.store(ATTENDING, Ordering::SeqCst);
        if let Some(ready) = ready {
            ready();
        }
        self.network.swap(AWAY, Ordering::SeqCst) == CALLED
    }
}

/// The card's end of a cable.
pub struct Link {
    shared: Arc<Shared>,
    mtu: u16,
}

/// The network's end of a cable.
pub struct NetworkEnd {
    shared: Arc<Shared>,
    /// The card is to be called at the end of the batch.
    announce: bool,
}

impl Link {
    /// A cable. `wake` is called, from any thread, when the network has something to do: to look for frames, to use room,
    /// or to call [`NetworkEnd::flush`].
    pub fn new(mtu: u16, wake: impl Fn() + Send + Sync + 'static) -> (Arc<Self>, NetworkEnd) {
        let shared = Arc::new(Shared {
            to_network: Mutex::new(Frames { taker_waits: true, ..Frames::default() }),
            to_guest: Mutex::default(),
            ready: Mutex::default(),
            wake: Box::new(wake),
            network: AtomicU8::new(AWAY),
            call: AtomicBool::new(false),
        });
        (Arc::new(Self { shared: shared.clone(), mtu }), NetworkEnd { shared, announce: false })
    }

    /// A cable whose card is served by a thread of this function's, which ends with the card's end: for a network that
    /// has no thread of its own.
    #[cfg(test)]
    pub fn attended(mtu: u16) -> (Arc<Self>, NetworkEnd) {
        let (sender, receiver) = std::sync::mpsc::channel();
        let (link, end) = Self::new(mtu, move || _ = sender.send(()));
        let weak = Arc::downgrade(&link);
        std::thread::spawn(move || {
            for () in receiver {
                let Some(link) = weak.upgrade() else { return };
                while link.shared.call.swap(false, Ordering::SeqCst) {
                    link.shared.attend();
                }
            }
        });
        (link, end)
    }
}

impl NetworkBackend for Link {
    fn offloads(&self) -> bool {
        true
    }

    fn mtu(&self) -> u16 {
        self.mtu
    }

    fn send(&self, frame: Frame) -> Result<(), Frame> {
        let mut queue = lock(&self.shared.to_network);
        if !queue.has_room() {
            queue.giver_waits = true;
            return Err(frame);
        }
        let wake = queue.push(frame);
        drop(queue);
        if wake {
            self.shared.wake_network();
        }
        Ok(())
    }

    fn receive(&self) -> Option<Frame> {
        let (frame, wake) = lock(&self.shared.to_guest).pop();
        if wake {
            self.shared.wake_network();
        }
        frame
    }

    fn attach(&self, ready: Ready) {
        *lock(&self.shared.ready) = Some(Arc::new(ready));
    }

    fn call(&self) {
        // Who has called already has seen to the waking.
        if !self.shared.call.swap(true, Ordering::SeqCst) {
            self.shared.wake_network();
        }
    }
}

impl NetworkEnd {
    /// The next frame from the guest. After there was none, the network is woken once there is one.
    pub fn receive(&mut self) -> Option<Frame> {
        let (frame, announce) = lock(&self.shared.to_network).pop();
        self.announce |= announce;
        frame
    }

    /// Whether a frame may be sent now. If not, the network is woken once it may.
    pub fn has_room(&mut self) -> bool {
        let mut queue = lock(&self.shared.to_guest);
        let room = queue.has_room();
        queue.giver_waits |= !room;
        room
    }

    /// Sends a frame to the guest. Who produces frames of its own accord asks [`NetworkEnd::has_room`] first; who
    /// answers a frame of the guest's need not, since a guest that floods may lose answers: what goes beyond twice the
    /// room is dropped.
    pub fn send(&mut self, frame: Frame) {
        let mut queue = lock(&self.shared.to_guest);
        if queue.frames.len() < 2 * MOST_FRAMES && queue.bytes < 2 * MOST_BYTES {
            self.announce |= queue.push(frame);
        }
    }

    /// Calls the card if it wants that, or if something has come for it. To be called at the beginning and at the end of
    /// each batch. Whether there is more to do for the network, for which it will not be woken, is the answer.
    pub fn flush(&mut self) -> bool {
        let called = self.shared.call.swap(false, Ordering::SeqCst);
        (std::mem::take(&mut self.announce) || called) && self.shared.attend()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn frame(length: usize) -> Frame {
        Frame { bytes: vec![0; length], ..Frame::default() }
    }

    #[test]
    fn a_card_that_is_called_wakes_nobody_else() {
        let wakes = Arc::new(AtomicUsize::new(0));
        let count = wakes.clone();
        let (link, mut end) = Link::new(1500, move || _ = count.fetch_add(1, Ordering::SeqCst));
        let calls = Arc::new(AtomicUsize::new(0));
        let (card, count) = (Arc::downgrade(&link), calls.clone());
        link.attach(Box::new(move || {
            if count.fetch_add(1, Ordering::SeqCst) == 0
                && let Some(card) = card.upgrade()
            {
                card.send(frame(60)).unwrap();
                card.call();
            }
        }));
        assert!(!end.flush(), "nobody has called");
        link.call();
        link.call();
        assert_eq!((wakes.load(Ordering::SeqCst), calls.load(Ordering::SeqCst)), (1, 0));
        assert!(end.flush(), "there is a frame, and another call");
        assert_eq!((wakes.load(Ordering::SeqCst), calls.load(Ordering::SeqCst)), (1, 1));
        assert_eq!(end.receive(), Some(frame(60)));
        assert_eq!(end.receive(), None);
        assert!(!end.flush());
        assert_eq!((wakes.load(Ordering::SeqCst), calls.load(Ordering::SeqCst)), (1, 2));
        link.send(frame(60)).unwrap();
        assert_eq!(wakes.load(Ordering::SeqCst), 2, "the network is away");
    }

    #[test]
    fn both_directions_are_bounded_and_nothing_is_lost() {
        for (size, most) in [(60, MOST_FRAMES), (65000, MOST_BYTES.div_ceil(65000))] {
            let wakes = Arc::new(AtomicUsize::new(0));
            let calls = Arc::new(AtomicUsize::new(0));
            let count = wakes.clone();
            let (link, mut end) = Link::new(1500, move || _ = count.fetch_add(1, Ordering::SeqCst));
            let count = calls.clone();
            link.attach(Box::new(move || _ = count.fetch_add(1, Ordering::SeqCst)));

            let sent = (0..2000).take_while(|_| link.send(frame(size)).is_ok()).count();
            assert_eq!(sent, most);
            assert_eq!(wakes.load(Ordering::SeqCst), 1, "one call for a batch");
            assert_eq!(link.send(frame(7)), Err(frame(7)), "a refused frame comes back");
            assert_eq!(std::iter::from_fn(|| end.receive()).count(), most);
            end.flush();
            assert_eq!(calls.load(Ordering::SeqCst), 1, "the card hears that there is room");
            link.send(frame(1)).unwrap();
            assert_eq!(wakes.load(Ordering::SeqCst), 2, "the network has found nothing before");

            assert_eq!(link.receive(), None);
            let mut given = 0;
            while end.has_room() {
                end.send(frame(size));
                given += 1;
            }
            end.flush();
            assert_eq!((given, calls.load(Ordering::SeqCst)), (most, 2));
            assert_eq!(std::iter::from_fn(|| link.receive()).count(), most);
            assert_eq!(wakes.load(Ordering::SeqCst), 3, "the network hears that there is room");
        }
    }
}
