//! A switch among the guests of one user on one host, by its name: no root, and no program to start first.
//!
//! One guest's process *holds* the switch: it has the lock (`place`), listens on a Unix socket, passes frames between the
//! ports (`hub`) and runs the router, a [`UserNetwork`] with its settings. The others are connected to it. When it ends,
//! the host gives its lock back and closes its connections; whoever takes the lock next holds the switch, with the leases
//! that the router has left in a file, and the others connect again. Frames of the guests' wait meanwhile.
//!
//! On the socket each frame comes behind its length, four bytes, most significant first: what QEMU's `stream` network
//! speaks, so that its guests can join. Peers of our own kind know each other by their first frame (`port`), and leave
//! checksums and large segments to the receiving guest. A peer that breaks the format is cut off. Beside it is a socket
//! for datagrams (`datagram`), each of them a frame, as QEMU's `dgram` network sends them. Nothing that comes from
//! a peer is trusted more than what comes from a guest: one port cannot speak for another (`addresses`), and all queues
//! are bounded.

mod addresses;
mod datagram;
mod host_name;
mod hub;
mod place;
mod port;

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mio::net::{UnixListener, UnixStream};
use mio::{Events, Interest, Poll, Token, Waker};

use super::event_loop::{EventLoop, Threaded};
use super::user::{Configuration, Forward, ROUTER_MAC, UserNetwork, UserNetworkError};
use super::{Link, MacAddress, NetworkBackend};
use hub::Hub;
use place::{Hold, Place};
use port::End;

#[cfg(feature = "fuzzing")]
pub use datagram::{Datagram, DatagramPeer, DatagramSocket};
#[cfg(not(feature = "fuzzing"))]
use datagram::{Datagram, DatagramPeer, DatagramSocket};
#[cfg(feature = "fuzzing")]
pub use port::Stream;
#[cfg(not(feature = "fuzzing"))]
use port::Stream;

const WAKER: Token = Token(0);
const LISTENER: Token = Token(1);
const DATAGRAMS: Token = Token(2);
/// The port of this process's guest. Others have higher numbers, which are their sockets' tokens too, and are never used
/// twice.
const CARD: u64 = 3;
/// Ports of a switch, beyond which connections are closed again, and datagrams of further senders dropped.
const MOST_PORTS: usize = 128;
/// Datagrams that are taken before it is the others' turn.
const MOST_DATAGRAMS: usize = 64;
/// How soon another attempt is made to hold or reach a switch whose holder has gone.
const RETRY: Duration = Duration::from_millis(20);
/// How long a switch that somebody holds may take to answer when a guest starts.
const START: Duration = Duration::from_secs(5);

/// Why a guest cannot be connected to a switch.
#[derive(Debug, thiserror::Error)]
pub enum SwitchError {
    /// The name is none.
    #[error("switch \"{0}\": use letters, digits, hyphens and underscores, 32 at most")]
    Name(String),
    /// A file cannot be made or used.
    #[error("{}: {reason}; set XDG_RUNTIME_DIR to a folder of your own, with a short path", path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// The host's reason.
        reason: io::Error,
    },
    /// Others may enter the folder.
    #[error("{}: is not a folder of yours that nobody else may enter; remove it, or set XDG_RUNTIME_DIR", .0.display())]
    Exposed(PathBuf),
    /// There are too many guests.
    #[error("the switch has no number left for a further guest")]
    Full,
    /// The process that holds the switch does not answer.
    #[error("the process that holds the switch does not answer; end it if it hangs")]
    Silent,
    /// The router cannot be started.
    #[error(transparent)]
    Router(#[from] UserNetworkError),
    /// The host has no threads or sockets left.
    #[error("the switch cannot be started: {0}")]
    Host(#[from] io::Error),
}

/// A guest's connection to a switch.
pub struct Switch {
    event_loop: EventLoop,
    name: String,
    number: (u32, Hold),
    forwards: Vec<Forward>,
}

impl Switch {
    /// Connects a guest to the switch `name`. The router that runs when this process holds the switch has the settings
    /// of `router`, but for the host name, which is the guest's.
    pub fn start(name: &str, router: Configuration) -> Result<Arc<Self>, SwitchError> {
        Self::start_in(Place::of(name)?, name, router)
    }

    fn start_in(place: Place, name: &str, mut router: Configuration) -> Result<Arc<Self>, SwitchError> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let wake = || {
            let waker = waker.clone();
            // Fails only if the loop has ended.
            move || _ = waker.wake()
        };
        let (link, end) = Link::new(router.mtu, wake());
        let number = place.hold_number()?;
        let host_name = std::mem::take(&mut router.host_name);
        router.lease_file = Some(place.leases());
        let mut hub = Hub::new();
        hub.add(CARD, End::Card(end));
        let wake = Arc::new(wake());
        let mut member = Member { place, router, host_name, hub, poll, wake, next: CARD + 1, role: Role::Seeking };
        let start = Instant::now();
        while !member.seek(false)? {
            if start.elapsed() > START {
                return Err(SwitchError::Silent);
            }
            std::thread::sleep(RETRY);
        }
        let forwards = match &member.role {
            Role::Holding { router, .. } => router.forwards().to_vec(),
            _ => Vec::new(),
        };
        let event_loop = EventLoop::start("switch", link, waker, move |quit| member.run(quit))?;
        Ok(Arc::new(Self { event_loop, name: name.into(), number, forwards }))
    }

    /// An address for the guest's card that no other card on the switch has: the guests are numbered, and a number that
    /// has become free is the next one's.
    pub fn address(&self) -> MacAddress {
        MacAddress::from_name(&format!("{}/{}", self.name, self.number.0))
    }

    /// The port forwards, if this process is the first to hold the switch.
    pub fn forwards(&self) -> &[Forward] {
        &self.forwards
    }
}

impl Threaded for Switch {
    fn event_loop(&self) -> &EventLoop {
        &self.event_loop
    }
}

enum Role {
    /// Nobody is known to hold the switch.
    Seeking,
    /// This process does.
    Holding {
        listener: UnixListener,
        datagrams: DatagramSocket,
        /// The ports of those who send datagrams.
        peers: HashMap<PathBuf, u64>,
        router: Arc<UserNetwork>,
        _lock: Hold,
    },
    /// Another one does, at the end of this port.
    Joined { uplink: u64 },
}

/// This process's part of the switch.
struct Member {
    place: Place,
    router: Configuration,
    host_name: String,
    hub: Hub,
    poll: Poll,
    wake: Arc<dyn Fn() + Send + Sync>,
    next: u64,
    role: Role,
}

impl Member {
    /// Tries to hold the switch or to reach who does. Whether that was done is the answer. Once it `is_running`, a
    /// router without its forwards is better than none.
    fn seek(&mut self, is_running: bool) -> Result<bool, SwitchError> {
        if let Some(lock) = self.place.hold_switch()? {
            self.hold(lock, is_running)?;
            return Ok(true);
        }
        let Ok(socket) = UnixStream::connect(self.place.socket()) else { return Ok(false) };
        self.hub.learn(false);
        let uplink = self.connect(End::Stream(Stream::greeting(socket)))?;
        self.role = Role::Joined { uplink };
        Ok(true)
    }

    fn hold(&mut self, lock: Hold, is_running: bool) -> Result<(), SwitchError> {
        // Those that a process has left: whoever had the lock is gone.
        self.remove_sockets();
        let router = match UserNetwork::start(self.router.clone()) {
            Err(error) if is_running && !self.router.forwards.is_empty() => {
                tracing::warn!("{error}; the switch goes on without port forwards");
                UserNetwork::start(Configuration { forwards: Vec::new(), ..self.router.clone() })
            }
            result => result,
        }?;
        let wake = self.wake.clone();
        router.attach(Box::new(move || wake()));
        let mut listener = UnixListener::bind(self.place.socket())?;
        self.poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        let mut datagrams = DatagramSocket::bind(&self.place.datagrams())?;
        self.poll.registry().register(datagrams.socket(), DATAGRAMS, Interest::READABLE)?;
        self.hub.learn(true);
        let number = self.connect(End::Router(router.clone()))?;
        self.hub.reserve(ROUTER_MAC, number);
        self.role = Role::Holding { listener, datagrams, peers: HashMap::new(), router, _lock: lock };
        // Those of an earlier holder's need not say something first. Most may be files that are left.
        for path in self.place.peers() {
            if !self.has_port() {
                break;
            }
            if let Err(error) = self.join(&path) {
                tracing::debug!("switch: nobody is at {}: {error}", path.display());
            }
        }
        Ok(())
    }

    /// Before the lock is given back: afterwards they are another process's.
    fn remove_sockets(&self) {
        for path in [self.place.socket(), self.place.datagrams()] {
            let _ = std::fs::remove_file(path);
        }
    }

    /// Connects `end` to a new port; its number.
    fn connect(&mut self, mut end: End) -> io::Result<u64> {
        let number = self.next;
        if let Some(source) = end.source() {
            self.poll.registry().register(source, token(number), Interest::READABLE | Interest::WRITABLE)?;
        }
        self.next += 1;
        self.hub.add(number, end);
        Ok(number)
    }

    /// Whether a further guest has a port; if not, perhaps the next one, since those who have gone are looked for.
    fn has_port(&mut self) -> bool {
        let has_port = self.hub.len() < MOST_PORTS;
        if !has_port {
            tracing::debug!("switch: no port is left for a further guest");
            self.hub.probe();
        }
        has_port
    }

    /// Gives a port to the peer at `path`; its number.
    fn join(&mut self, path: &Path) -> io::Result<u64> {
        let number = self.connect(End::Datagram(DatagramPeer::connect(path.into())?))?;
        if let Role::Holding { peers, .. } = &mut self.role {
            peers.insert(path.into(), number);
        }
        Ok(number)
    }

    fn run(mut self, quit: &AtomicBool) {
        let mut events = Events::with_capacity(256);
        while !quit.load(Ordering::Acquire) {
            let timeout = self.turn();
            match self.poll.poll(&mut events, timeout) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    tracing::error!("the switch ends: {error}");
                    return;
                }
            }
            for event in &events {
                if event.token() == LISTENER {
                    self.accept();
                } else if event.token() == DATAGRAMS {
                    if let Role::Holding { datagrams, .. } = &mut self.role {
                        datagrams.ready();
                    }
                } else if let Some(end) = self.hub.end(event.token().0 as u64) {
                    let ended = event.is_error();
                    let readable = event.is_readable() || event.is_read_closed() || ended;
                    end.ready(readable, event.is_writable() || event.is_write_closed() || ended);
                }
            }
        }
        if let Role::Holding { .. } = self.role {
            self.remove_sockets();
        }
    }

    /// Does what can be done without waiting; how long to wait then.
    fn turn(&mut self) -> Option<Duration> {
        if let Role::Seeking = self.role {
            match self.seek(true) {
                Ok(true) => {}
                Ok(false) => return Some(RETRY),
                Err(error) => {
                    tracing::warn!("{error}; the guest is without its switch for now");
                    return Some(START);
                }
            }
        }
        let more_datagrams = self.collect();
        let host_name = &self.host_name;
        let (more, gone) = self.hub.turn(|frame| host_name::tell(frame, host_name));
        for number in gone {
            if let Some(source) = self.hub.end(number).and_then(End::source) {
                // Fails only for a socket that is not registered.
                let _ = self.poll.registry().deregister(source);
            }
            self.hub.remove(number);
            match &mut self.role {
                Role::Joined { uplink } if *uplink == number => {
                    self.role = Role::Seeking;
                    return Some(Duration::ZERO);
                }
                Role::Holding { peers, .. } => peers.retain(|_, port| *port != number),
                _ => {}
            }
        }
        if more || more_datagrams { Some(Duration::ZERO) } else { self.hub.timeout() }
    }

    fn accept(&mut self) {
        let Role::Holding { listener, .. } = &self.role else { return };
        let mut sockets = Vec::new();
        loop {
            match listener.accept() {
                Ok((socket, _)) => sockets.push(socket),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Nobody is waiting; or the host is short of something, which the next one to come will show again.
                Err(_) => break,
            }
        }
        for socket in sockets {
            if self.has_port()
                && let Err(error) = self.connect(End::Stream(Stream::greeting(socket)))
            {
                tracing::debug!("switch: a guest cannot be connected: {error}");
            }
        }
    }

    /// Takes what has come as datagrams to the ports of its senders. Whether there may be more is the answer.
    fn collect(&mut self) -> bool {
        let mut is_full = false;
        for _ in 0..MOST_DATAGRAMS {
            let Role::Holding { datagrams, peers, .. } = &mut self.role else { return false };
            let Some(datagram) = datagrams.receive() else { return false };
            let Datagram::Frame(path, frame) = datagram else {
                tracing::debug!("switch: a datagram that is no frame, or whose sender has no path, was dropped");
                continue;
            };
            let number = match peers.get(&path).copied() {
                Some(number) => Ok(number),
                None if !self.place.is_peer(&path) => {
                    let pattern = self.place.peer_pattern();
                    tracing::warn!(
                        "switch: datagrams from {} are dropped: let local.path be {}",
                        path.display(),
                        pattern.display()
                    );
                    continue;
                }
                None if is_full || !self.has_port() => {
                    is_full = true;
                    continue;
                }
                None => self.join(&path),
            };
            match number {
                Ok(number) => {
                    if let Some(End::Datagram(peer)) = self.hub.end(number) {
                        peer.deliver(frame);
                    }
                }
                Err(error) => tracing::debug!("switch: {} cannot be answered: {error}", path.display()),
            }
        }
        true
    }
}

fn token(number: u64) -> Token {
    // Numbers are given one by one, and would take centuries to run out.
    Token(number as usize)
}

#[cfg(test)]
mod tests;
