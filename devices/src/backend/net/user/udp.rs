//! UDP: each port of the guest's has a socket of the host's, as long as datagrams pass.
//!
//! The mapping does not depend on the destination, but only those whom the guest has written to may write back
//! (RFC 4787: endpoint-independent mapping, address- and port-dependent filtering).

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use mio::net::UdpSocket;
use mio::{Interest, Registry};

use super::output::Output;
use super::{Guest, Kind, router_for, token};

/// Mappings at a time; the one that was silent for longest gives way.
const MOST_MAPPINGS: usize = 1024;
/// Peers of a mapping, or of a forward.
const MOST_PEERS: usize = 256;
/// How long a mapping lives without datagrams (RFC 4787 §4.3).
const LIFETIME: Duration = Duration::from_secs(120);
/// The largest datagram, in bytes.
pub const LARGEST: usize = 65535;
const FIRST_EPHEMERAL_PORT: u16 = 49152;

struct Peer {
    /// The peer's address as the guest sees it.
    visible: SocketAddr,
    used: Instant,
}

struct Mapping {
    guest: SocketAddr,
    socket: UdpSocket,
    /// By their addresses as the host sees them.
    peers: HashMap<SocketAddr, Peer>,
    used: Instant,
}

/// All mappings.
#[derive(Default)]
pub struct Mappings {
    mappings: HashMap<u64, Mapping>,
    by_guest: HashMap<SocketAddr, u64>,
    by_use: BTreeSet<(Instant, u64)>,
    next: u64,
    /// Mappings whose sockets may have something to read.
    readable: BTreeSet<u64>,
}

/// Makes room for one more peer.
fn forget_oldest(peers: &mut HashMap<SocketAddr, Peer>) {
    if peers.len() >= MOST_PEERS
        && let Some(oldest) = peers.iter().min_by_key(|(_, peer)| peer.used).map(|(key, _)| *key)
    {
        peers.remove(&oldest);
    }
}

impl Mappings {
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.mappings.len()
    }

    /// Sends a datagram of the guest's to `host`, which the guest sees as `visible`. All are of one family.
    pub fn send(
        &mut self,
        guest: SocketAddr,
        visible: SocketAddr,
        host: SocketAddr,
        data: &[u8],
        registry: &Registry,
    ) -> std::io::Result<()> {
        let now = Instant::now();
        let id = match self.by_guest.get(&guest) {
            Some(&id) => id,
            None => self.open(guest, now, registry)?,
        };
        let Some(mapping) = self.mappings.get_mut(&id) else { return Ok(()) };
        self.by_use.remove(&(mapping.used, id));
        mapping.used = now;
        self.by_use.insert((now, id));
        if !mapping.peers.contains_key(&host) {
            forget_oldest(&mut mapping.peers);
        }
        mapping.peers.insert(host, Peer { visible, used: now });
        // What the host cannot take now is lost, as on any network.
        mapping.socket.send_to(data, host).map(|_| ())
    }

    fn open(&mut self, guest: SocketAddr, now: Instant, registry: &Registry) -> std::io::Result<u64> {
        if self.mappings.len() >= MOST_MAPPINGS
            && let Some(&(_, oldest)) = self.by_use.first()
        {
            self.remove(oldest);
        }
        let any = if guest.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { Ipv6Addr::UNSPECIFIED.into() };
        let mut socket = UdpSocket::bind((any, 0).into())?;
        let id = self.next;
        registry.register(&mut socket, token(Kind::Udp, id), Interest::READABLE)?;
        self.next += 1;
        self.mappings.insert(id, Mapping { guest, socket, peers: HashMap::new(), used: now });
        self.by_guest.insert(guest, id);
        self.by_use.insert((now, id));
        Ok(id)
    }

    fn remove(&mut self, id: u64) {
        if let Some(mapping) = self.mappings.remove(&id) {
            self.by_guest.remove(&mapping.guest);
            self.by_use.remove(&(mapping.used, id));
            self.readable.remove(&id);
        }
    }

    pub fn ready(&mut self, id: u64) {
        self.readable.insert(id);
    }

    pub fn deadline(&self) -> Option<Instant> {
        self.by_use.first().map(|(used, _)| *used + LIFETIME)
    }

    /// Ends the mappings whose time is over.
    pub fn expire(&mut self, now: Instant) {
        while let Some(&(used, id)) = self.by_use.first()
            && used + LIFETIME <= now
        {
            self.remove(id);
        }
    }

    /// Passes on what has arrived, as far as there is room on the way to the guest.
    pub fn run(&mut self, output: &mut Output, buffer: &mut [u8]) {
        while let Some(&id) = self.readable.first() {
            let Some(mapping) = self.mappings.get_mut(&id) else {
                self.readable.remove(&id);
                continue;
            };
            loop {
                if !output.has_room() {
                    return;
                }
                match mapping.socket.recv_from(buffer) {
                    Ok((length, from)) => {
                        if let Some(peer) = mapping.peers.get(&from) {
                            output.datagram(peer.visible, mapping.guest, &buffer[..length]);
                        }
                    }
                    // Some hosts tell here that an earlier datagram was refused; the next one may still come.
                    Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {}
                    Err(_) => break,
                }
            }
            self.readable.remove(&id);
        }
    }
}

/// A port of the host's that leads to one of the guest's.
pub struct Forward {
    socket: UdpSocket,
    guest: Guest,
    guest_port: u16,
    /// By the router's port under which the guest sees them.
    peers: HashMap<u16, Peer>,
    /// The same the other way round.
    ports: HashMap<SocketAddr, u16>,
    addresses: HashMap<u16, SocketAddr>,
    next_port: u16,
    readable: bool,
}

impl Forward {
    pub fn new(
        mut socket: UdpSocket,
        guest: Guest,
        guest_port: u16,
        index: u64,
        registry: &Registry,
    ) -> std::io::Result<Self> {
        registry.register(&mut socket, token(Kind::UdpForward, index), Interest::READABLE)?;
        let (peers, ports, addresses) = Default::default();
        Ok(Self {
            socket,
            guest,
            guest_port,
            peers,
            ports,
            addresses,
            next_port: FIRST_EPHEMERAL_PORT,
            readable: false,
        })
    }

    pub fn ready(&mut self) {
        self.readable = true;
    }

    /// Whether there is a peer that `guest` sees as `visible`.
    pub fn knows(&self, guest: SocketAddr, visible: SocketAddr) -> bool {
        guest.port() == self.guest_port
            && self
                .peers
                .get(&visible.port())
                .is_some_and(|peer| peer.visible == visible && peer.used.elapsed() <= LIFETIME)
    }

    /// Sends a datagram of the guest's to the peer that it sees as `visible`, if there is one.
    pub fn send(&mut self, visible: SocketAddr, data: &[u8]) {
        let port = visible.port();
        if let (Some(peer), Some(&address)) = (self.peers.get_mut(&port), self.addresses.get(&port)) {
            peer.used = Instant::now();
            // What the host cannot take now is lost, as on any network.
            let _ = self.socket.send_to(data, address);
        }
    }

    /// How a guest that knows the router as `router` sees a peer.
    fn visible(&mut self, address: SocketAddr, router: IpAddr) -> SocketAddr {
        let now = Instant::now();
        if let Some(&port) = self.ports.get(&address)
            && let Some(peer) = self.peers.get_mut(&port)
        {
            *peer = Peer { visible: (router, port).into(), used: now };
            return peer.visible;
        }
        if self.peers.len() >= MOST_PEERS
            && let Some(oldest) = self.peers.iter().min_by_key(|(_, peer)| peer.used).map(|(port, _)| *port)
        {
            self.peers.remove(&oldest);
            if let Some(address) = self.addresses.remove(&oldest) {
                self.ports.remove(&address);
            }
        }
        // Terminates: there are fewer peers than ports.
        while self.peers.contains_key(&self.next_port) {
            self.next_port = self.next_port.checked_add(1).unwrap_or(FIRST_EPHEMERAL_PORT);
        }
        let port = self.next_port;
        self.next_port = port.checked_add(1).unwrap_or(FIRST_EPHEMERAL_PORT);
        let visible = (router, port).into();
        self.peers.insert(port, Peer { visible, used: now });
        self.ports.insert(address, port);
        self.addresses.insert(port, address);
        visible
    }

    /// Passes on what has arrived, as far as there is room on the way to the guest, which `find` knows.
    pub fn run(&mut self, find: impl Fn(&Guest) -> Option<IpAddr>, output: &mut Output, buffer: &mut [u8]) {
        if !self.readable {
            return;
        }
        let guest = find(&self.guest).map(|address| SocketAddr::new(address, self.guest_port));
        while self.readable && output.has_room() {
            match self.socket.recv_from(buffer) {
                Ok((length, from)) => {
                    if let Some(guest) = guest {
                        let from = self.visible(from, router_for(guest.ip()));
                        output.datagram(from, guest, &buffer[..length]);
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {}
                Err(_) => self.readable = false,
            }
        }
    }
}
