//! A network inside of the process: a router with NAT to the host's network, for any user, without root.
//!
//! | address | who |
//! |---|---|
//! | 10.0.2.2, fd76:6572:7665:2::2 | the router, and the host's loopback if that was opened |
//! | 10.0.2.3, fd76:6572:7665:2::3 | the name server |
//! | 10.0.2.15 … 10.0.2.254 | guests, by DHCP |
//! | others of fd76:6572:7665:2::/64 | guests, by advertisements of the router (`ipv6`) |
//!
//! One thread runs an event loop over the host's sockets and the cable of the guest; it sleeps while nothing happens.
//! The router answers ARP (`output`), neighbour discovery (`ipv6`), DHCP (`dhcp`), pings and DNS (`dns`) itself, and turns TCP connections
//! (`tcp`), UDP datagrams (`udp`) and pings of others (`echo`) into the host's, as far as the rules (`policy`)
//! allow.
//!
//! IPv6 passes where the host has it.
//!
//! Everything that a guest or a peer can make grow has a bound: queues, flows, mappings, queries, fragments, neighbours.

mod dhcp;
mod dns;
mod echo;
mod forward;
mod ip;
mod ipv6;
mod output;
mod policy;
mod reassembly;
mod stack;
mod tcp;
#[cfg(test)]
mod tests;
mod udp;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mio::net::{TcpListener, UdpSocket};
use mio::{Events, Interest, Poll, Token, Waker};
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetFrame, EthernetProtocol, Icmpv4DstUnreachable, Icmpv4Message,
    Icmpv4Packet, Icmpv6DstUnreachable, IpProtocol, Ipv4Packet, UdpPacket,
};

use super::event_loop::{EventLoop, Threaded};
use super::offload::{self, UDP_HEADER_SIZE};
use super::{Frame, Link, MacAddress};
use ip::Packet;
use output::Output;
use policy::{Policy, Target};

pub use dhcp::is_host_name;
pub use forward::{Forward, ForwardError, Guest, Protocol};

/// The router's address, and the host's as its guests see it.
pub const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
/// The name server's address.
pub const NAME_SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 3);
/// The address of the first guest that asks for one.
pub const FIRST_GUEST: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
const LAST_GUEST: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 254);
const NETMASK: Ipv4Addr = Ipv4Addr::new(255, 255, 255, 0);
/// The router's card: a locally administered address that holds its IP address.
pub const ROUTER_MAC: MacAddress = MacAddress([0x52, 0x55, 10, 0, 2, 2]);

/// The smallest MTU of an IPv4 network (RFC 791 §3.2, with room for the headers that guests' stacks assume).
pub const SMALLEST_MTU: u16 = 576;
/// The largest MTU whose frames fit the card's queues.
pub const LARGEST_MTU: u16 = 65521;
/// Frames of the guest's that are looked at before the host's sockets are.
const BATCH: usize = 256;
/// How long the host is given when it lacks something.
const SHORTAGE: Duration = Duration::from_secs(1);
/// Open files that thousands of connections take.
#[cfg(unix)]
const OPEN_FILES: u64 = 2 * tcp::MOST_FLOWS as u64;

fn is_inside(address: Ipv4Addr) -> bool {
    address.octets()[..3] == ROUTER.octets()[..3]
}

/// Whether a guest may have `address`.
fn is_guest(address: Ipv4Addr) -> bool {
    is_inside(address) && (4..255).contains(&address.octets()[3])
}

/// What a socket is for: with its number, it makes the socket's token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Waker,
    Tcp,
    Udp,
    Ping,
    Dns,
    Listener,
    UdpForward,
}

impl Kind {
    const ALL: [Kind; 7] = [Kind::Waker, Kind::Tcp, Kind::Udp, Kind::Ping, Kind::Dns, Kind::Listener, Kind::UdpForward];
}

/// Numbers are never used twice, so that a late event meets nobody.
fn token(kind: Kind, number: u64) -> Token {
    Token((number as usize) << 3 | kind as usize)
}

fn kind_and_number(token: Token) -> Option<(Kind, u64)> {
    Some((*Kind::ALL.get(token.0 & 7)?, (token.0 >> 3) as u64))
}

/// The time, as stacks want it.
struct Clock {
    start: Instant,
}

impl Clock {
    fn now(&self) -> smoltcp::time::Instant {
        smoltcp::time::Instant::from_micros(self.start.elapsed().as_micros() as i64)
    }

    fn std(&self, instant: smoltcp::time::Instant) -> Instant {
        self.start + Duration::from_micros(instant.total_micros().max(0) as u64)
    }

    /// The earliest time that is worth a timer.
    fn soon(&self) -> Instant {
        Instant::now() + Duration::from_millis(1)
    }
}

/// The settings of a network.
#[derive(Clone, Debug)]
pub struct Configuration {
    /// The largest packet, in bytes; from [`SMALLEST_MTU`] to [`LARGEST_MTU`].
    pub mtu: u16,
    /// The guest's name, which it is told by DHCP unless it is empty.
    pub host_name: String,
    /// The guest reaches the host's services: those on its loopback by the router's address.
    pub host_access: bool,
    /// The guest reaches nothing outside. Forwards still lead to it.
    pub restrict: bool,
    /// Port forwards.
    pub forwards: Vec<Forward>,
    /// The name servers to ask, instead of those that the host asks.
    pub name_servers: Option<Vec<SocketAddr>>,
    /// Where leases are kept for a network that comes after this one.
    pub lease_file: Option<PathBuf>,
}

impl Default for Configuration {
    fn default() -> Self {
        Self {
            mtu: 1500,
            host_name: String::new(),
            host_access: false,
            restrict: false,
            forwards: Vec::new(),
            name_servers: None,
            lease_file: None,
        }
    }
}

/// Why a network could not be started.
#[derive(Debug, thiserror::Error)]
pub enum UserNetworkError {
    /// The MTU is out of range.
    #[error("mtu {0}: choose one from {SMALLEST_MTU} to {LARGEST_MTU}")]
    Mtu(u16),
    /// The name is too long or no name.
    #[error("host name \"{0}\": use letters, digits and hyphens, 63 at most")]
    HostName(String),
    /// A port of the host's cannot be listened to.
    #[error("port forward {forward}: the host does not let us listen there: {reason}; choose another port")]
    Forward {
        /// Which one.
        forward: Forward,
        /// The host's reason.
        reason: io::Error,
    },
    /// The host has no threads or sockets left.
    #[error("the user network cannot be started: {0}")]
    Host(#[from] io::Error),
}

/// A running network.
pub struct UserNetwork {
    event_loop: EventLoop,
    forwards: Vec<Forward>,
    /// How often the loop went round.
    #[cfg(test)]
    rounds: Arc<std::sync::atomic::AtomicU64>,
}

impl UserNetwork {
    /// Starts a network.
    pub fn start(configuration: Configuration) -> Result<Arc<Self>, UserNetworkError> {
        let (router, link, waker, forwards) = Router::new(configuration)?;
        raise_open_files();
        #[cfg(test)]
        let rounds = router.rounds.clone();
        let event_loop = EventLoop::start("user-network", link, waker, move |quit| router.run(quit))?;
        Ok(Arc::new(Self {
            event_loop,
            forwards,
            #[cfg(test)]
            rounds,
        }))
    }

    /// The port forwards, with the ports that were picked for those that left it open.
    pub fn forwards(&self) -> &[Forward] {
        &self.forwards
    }
}

impl Threaded for UserNetwork {
    fn event_loop(&self) -> &EventLoop {
        &self.event_loop
    }
}

/// A network without a thread, which does what there is to be done when it is told to: for fuzz targets.
#[cfg(feature = "fuzzing")]
pub struct StillNetwork {
    router: Router,
    link: Arc<Link>,
    events: Events,
}

#[cfg(feature = "fuzzing")]
impl StillNetwork {
    /// A network.
    pub fn new(configuration: Configuration) -> Result<Self, UserNetworkError> {
        let (router, link, ..) = Router::new(configuration)?;
        Ok(Self { router, link, events: Events::with_capacity(64) })
    }

    /// The card's end of its cable.
    pub fn link(&self) -> &Link {
        &self.link
    }

    /// Does what there is to be done.
    pub fn turn(&mut self) -> io::Result<()> {
        self.router.turn(&mut self.events, Some(Duration::ZERO))
    }
}

/// Each connection takes an open file of the host's, and the usual limit is a low one.
fn raise_open_files() {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, getrlimit, setrlimit};
        let mut limit = getrlimit(Resource::Nofile);
        if limit.current.is_some_and(|current| current < OPEN_FILES) {
            limit.current = Some(limit.maximum.map_or(OPEN_FILES, |maximum| maximum.min(OPEN_FILES)));
            if let Err(error) = setrlimit(Resource::Nofile, limit) {
                tracing::debug!("user network: the limit of open files stays low: {error}");
            }
        }
    }
}

struct Listener {
    socket: TcpListener,
    guest: Guest,
    guest_port: u16,
    readable: bool,
}

struct Router {
    output: Output,
    policy: Policy,
    clock: Clock,
    dhcp: dhcp::Server,
    dns: dns::NameServer,
    fragments: reassembly::Fragments,
    flows: tcp::Flows,
    mappings: udp::Mappings,
    pings: echo::Pings,
    listeners: Vec<Listener>,
    udp_forwards: Vec<udp::Forward>,
    /// When connections are accepted again after the host lacked something.
    accept_again: Option<Instant>,
    /// When the network is advertised next, once a guest speaks IPv6.
    advertise_at: Option<Instant>,
    buffer: Vec<u8>,
    poll: Poll,
    #[cfg(test)]
    rounds: Arc<std::sync::atomic::AtomicU64>,
}

/// The address of a forward's guest, if it is there.
fn find(dhcp: &dhcp::Server, guest: &Guest, now: Instant) -> Option<IpAddr> {
    match guest {
        Guest::Address(address) => Some(*address),
        Guest::Name(name) => dhcp.address_of(name, now).map(IpAddr::from),
    }
}

/// The router as a guest at `address` sees it.
fn router_for(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => ROUTER.into(),
        IpAddr::V6(address) if address.is_unicast_link_local() => ipv6::ROUTER_LINK_LOCAL.into(),
        IpAddr::V6(_) => ipv6::ROUTER_V6.into(),
    }
}

/// What a router is made with.
type Parts = (Router, Arc<Link>, Arc<Waker>, Vec<Forward>);

impl Router {
    /// A router that does not run yet, the card's end of its cable, what wakes it, and the forwards as they came out.
    fn new(configuration: Configuration) -> Result<Parts, UserNetworkError> {
        let Configuration { mtu, host_name, host_access, restrict, forwards, name_servers, lease_file } = configuration;
        if !(SMALLEST_MTU..=LARGEST_MTU).contains(&mtu) {
            return Err(UserNetworkError::Mtu(mtu));
        }
        if !dhcp::is_host_name(&host_name) {
            return Err(UserNetworkError::HostName(host_name));
        }
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), token(Kind::Waker, 0))?);
        let wake = || {
            let waker = waker.clone();
            // Fails only if the loop has ended.
            move || _ = waker.wake()
        };
        let (link, end) = Link::new(mtu, wake());
        let servers = name_servers.unwrap_or_else(dns::host_servers);
        let mut router = Self {
            output: Output::new(end, mtu),
            policy: Policy { host_access, restrict },
            clock: Clock { start: Instant::now() },
            dhcp: dhcp::Server::new(host_name, mtu),
            dns: dns::NameServer::new(servers, restrict, wake())?,
            fragments: reassembly::Fragments::default(),
            flows: tcp::Flows::new(),
            mappings: udp::Mappings::default(),
            pings: echo::Pings::default(),
            listeners: Vec::new(),
            udp_forwards: Vec::new(),
            accept_again: None,
            advertise_at: None,
            buffer: vec![0; udp::LARGEST],
            poll,
            #[cfg(test)]
            rounds: Arc::default(),
        };
        if let Some(file) = lease_file {
            router.dhcp.keep_in(file, Instant::now());
            for (address, card, until) in router.dhcp.leases() {
                router.output.lease(address, card, until);
            }
        }
        let forwards: Result<Vec<_>, _> = forwards
            .into_iter()
            .map(|forward| match router.listen(&forward) {
                Ok(host) => Ok(Forward { host, ..forward }),
                Err(reason) => Err(UserNetworkError::Forward { forward, reason }),
            })
            .collect();
        Ok((router, link, waker, forwards?))
    }

    /// Listens where `forward` says, and returns where that really is.
    fn listen(&mut self, forward: &Forward) -> io::Result<SocketAddr> {
        let registry = self.poll.registry();
        match forward.protocol {
            Protocol::Tcp => {
                let mut socket = TcpListener::bind(forward.host)?;
                let token = token(Kind::Listener, self.listeners.len() as u64);
                registry.register(&mut socket, token, Interest::READABLE)?;
                let host = socket.local_addr()?;
                self.listeners.push(Listener {
                    socket,
                    guest: forward.guest.clone(),
                    guest_port: forward.guest_port,
                    readable: false,
                });
                Ok(host)
            }
            Protocol::Udp => {
                let socket = UdpSocket::bind(forward.host)?;
                let host = socket.local_addr()?;
                let index = self.udp_forwards.len() as u64;
                let guest = forward.guest.clone();
                self.udp_forwards.push(udp::Forward::new(socket, guest, forward.guest_port, index, registry)?);
                Ok(host)
            }
        }
    }

    fn run(mut self, quit: &AtomicBool) {
        let mut events = Events::with_capacity(1024);
        while !quit.load(Ordering::Acquire) {
            #[cfg(test)]
            self.rounds.fetch_add(1, Ordering::SeqCst);
            if let Err(error) = self.turn(&mut events, None) {
                tracing::error!("the user network ends: {error}");
                return;
            }
        }
    }

    /// Does what there is to be done, and waits for more, not longer than `longest`.
    fn turn(&mut self, events: &mut Events, longest: Option<Duration>) -> io::Result<()> {
        self.output.flush();
        let more = self.receive_batch();
        let called = self.serve();
        let timeout = if more || called {
            Some(Duration::ZERO)
        } else {
            self.deadline().map(|deadline| deadline.saturating_duration_since(Instant::now()))
        };
        match self.poll.poll(events, timeout.into_iter().chain(longest).min()) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            result => result?,
        }
        for event in &*events {
            match kind_and_number(event.token()) {
                Some((Kind::Tcp, id)) => self.flows.ready(id, event, &self.clock, &mut self.output),
                Some((Kind::Udp, id)) => self.mappings.ready(id),
                Some((Kind::Ping, id)) => self.pings.ready(id),
                Some((Kind::Dns, id)) => self.dns.ready(id),
                Some((Kind::Listener, index)) => {
                    if let Some(listener) = self.listeners.get_mut(index as usize) {
                        listener.readable = true;
                    }
                }
                Some((Kind::UdpForward, index)) => {
                    if let Some(forward) = self.udp_forwards.get_mut(index as usize) {
                        forward.ready();
                    }
                }
                Some((Kind::Waker, _)) | None => {}
            }
        }
        self.expire();
        Ok(())
    }

    /// Takes frames of the guest's. Whether there may be more is the answer.
    fn receive_batch(&mut self) -> bool {
        for _ in 0..BATCH {
            match self.output.receive() {
                Some(frame) => _ = self.frame(&frame),
                None => return false,
            }
        }
        true
    }

    /// Does what can be done without waiting. Whether there may be more by now is the answer.
    fn serve(&mut self) -> bool {
        let Self { flows, mappings, pings, dhcp, dns, udp_forwards, output, buffer, clock, poll, .. } = self;
        dns.run(poll.registry(), output, buffer);
        pings.run(output, buffer);
        mappings.run(output, buffer);
        let now = Instant::now();
        for forward in udp_forwards {
            forward.run(|guest| find(dhcp, guest, now), output, buffer);
        }
        flows.run(clock, output);
        self.accept();
        self.flows.run(&self.clock, &mut self.output);
        self.output.flush()
    }

    fn accept(&mut self) {
        if self.accept_again.is_some() {
            return;
        }
        for listener in &mut self.listeners {
            while listener.readable && self.flows.has_room() {
                match listener.socket.accept() {
                    Ok((socket, peer)) => {
                        let registry = self.poll.registry();
                        // A guest that nobody knows by its name is not there: the connection ends.
                        if let Some(guest) = find(&self.dhcp, &listener.guest, Instant::now()) {
                            let guest = SocketAddr::new(guest, listener.guest_port);
                            self.flows.forward(socket, peer, guest, registry, &self.clock, &mut self.output);
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => listener.readable = false,
                    Err(error) if tcp::is_shortage(&error) => {
                        tracing::debug!("user network: connections wait: {error}");
                        self.accept_again = Some(Instant::now() + SHORTAGE);
                        return;
                    }
                    // The peer has gone meanwhile.
                    Err(_) => {}
                }
            }
        }
    }

    fn deadline(&self) -> Option<Instant> {
        [
            self.flows.deadline(),
            self.mappings.deadline(),
            self.pings.deadline(),
            self.dns.deadline(),
            self.fragments.deadline(),
            self.accept_again,
            self.advertise_at,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn expire(&mut self) {
        let now = Instant::now();
        self.flows.expire(now);
        self.mappings.expire(now);
        self.pings.expire(now);
        self.dns.expire(now, self.poll.registry(), &mut self.output);
        self.fragments.expire(now);
        self.accept_again = self.accept_again.filter(|at| *at > now);
        self.advertise_again(now);
    }

    /// Takes a frame of the guest's. `None` if it was malformed or not for the router.
    fn frame(&mut self, frame: &Frame) -> Option<()> {
        let ethernet = EthernetFrame::new_checked(&frame.bytes[..]).ok()?;
        let source = MacAddress(ethernet.src_addr().0);
        let destination = MacAddress(ethernet.dst_addr().0);
        if source.is_group() || source == ROUTER_MAC || !(destination == ROUTER_MAC || destination.is_group()) {
            return None;
        }
        match ethernet.ethertype() {
            EthernetProtocol::Arp => self.arp(ethernet.payload(), source),
            EthernetProtocol::Ipv4 => self.packet(frame, ethernet.payload(), source),
            EthernetProtocol::Ipv6 => self.packet_v6(frame, ethernet.payload(), source),
            _ => None,
        }
    }

    fn arp(&mut self, bytes: &[u8], source: MacAddress) -> Option<()> {
        let packet = ArpPacket::new_checked(bytes).ok()?;
        let ArpRepr::EthernetIpv4 {
            operation, source_hardware_addr, source_protocol_addr, target_protocol_addr, ..
        } = ArpRepr::parse(&packet).ok()?
        else {
            return None;
        };
        if source_hardware_addr.0 != source.0 {
            return None;
        }
        // A probe has no address yet (RFC 5227), and may ask who has it.
        let known = self.output.learn(source_protocol_addr, source, Instant::now());
        let own = target_protocol_addr == ROUTER || target_protocol_addr == NAME_SERVER;
        if operation == ArpOperation::Request && own && (known || source_protocol_addr.is_unspecified()) {
            self.output.arp(ArpOperation::Reply, source, target_protocol_addr, source_protocol_addr);
        }
        Some(())
    }

    fn packet(&mut self, frame: &Frame, bytes: &[u8], source: MacAddress) -> Option<()> {
        let header = Ipv4Packet::new_checked(bytes).ok()?;
        if header.version() != 4 || header.header_len() < 20 || !header.verify_checksum() {
            return None;
        }
        let packet = &bytes[..usize::from(header.total_len())];
        let asks_for_address = header.next_header() == IpProtocol::Udp
            && (header.dst_addr() == Ipv4Addr::BROADCAST || header.dst_addr() == ROUTER)
            && header.frag_offset() == 0
            && UdpPacket::new_checked(header.payload()).is_ok_and(|udp| udp.dst_port() == dhcp::SERVER_PORT);
        if !asks_for_address && !self.output.learn(header.src_addr(), source, Instant::now()) {
            tracing::debug!("user network: a packet from {} by {source} was dropped", header.src_addr());
            return None;
        }
        if header.more_frags() || header.frag_offset() != 0 {
            let whole = self.fragments.add(packet, Instant::now())?;
            return self.whole_packet(&Frame::default(), &whole, source);
        }
        self.whole_packet(frame, packet, source)
    }

    fn packet_v6(&mut self, frame: &Frame, bytes: &[u8], source: MacAddress) -> Option<()> {
        let packet = Packet::parse(bytes)?;
        // Only who looks for an address has none (RFC 4862 §5.4).
        let is_known = match packet.source {
            IpAddr::V6(address) if address.is_unspecified() => packet.protocol == IpProtocol::Icmpv6,
            address => self.output.learn(address, source, Instant::now()),
        };
        if !is_known {
            tracing::debug!("user network: a packet from {} by {source} was dropped", packet.source);
            return None;
        }
        if packet.protocol == IpProtocol::Ipv6Frag {
            let whole = self.fragments.add_v6(&packet, Instant::now())?;
            return self.whole_packet_v6(&Frame::default(), &Packet::parse(&whole)?, source);
        }
        self.whole_packet_v6(frame, &packet, source)
    }

    /// Takes an IPv6 packet that is no fragment. `frame` tells what was left undone in it.
    fn whole_packet_v6(&mut self, frame: &Frame, packet: &Packet<'_>, source: MacAddress) -> Option<()> {
        match packet.protocol {
            IpProtocol::Tcp => self.tcp(frame, packet),
            IpProtocol::Udp => self.udp(frame, packet, source),
            IpProtocol::Icmpv6 => self.icmpv6(packet, source),
            // Reports of group members, what nobody here knows.
            _ => None,
        }
    }

    /// Takes an IPv4 packet that is no fragment. `frame` tells what was left undone in it.
    fn whole_packet(&mut self, frame: &Frame, packet: &[u8], source: MacAddress) -> Option<()> {
        let packet = Packet::parse(packet)?;
        match packet.protocol {
            IpProtocol::Tcp => self.tcp(frame, &packet),
            IpProtocol::Udp => self.udp(frame, &packet, source),
            IpProtocol::Icmp => self.icmp(packet.bytes),
            _ => {
                self.unreachable(packet.bytes, Icmpv4DstUnreachable::ProtoUnreachable);
                None
            }
        }
    }

    fn tcp(&mut self, frame: &Frame, packet: &Packet<'_>) -> Option<()> {
        if !tcp::is_sound(frame, packet) {
            return None;
        }
        let (policy, name_server) = (self.policy, self.dns.stream_target());
        let target = |remote: SocketAddr| match policy.target(remote) {
            Target::Host(address) => tcp::Verdict::Connect(address),
            Target::NameServer => name_server.map_or(tcp::Verdict::Refuse, tcp::Verdict::Connect),
            Target::Refused => tcp::Verdict::Refuse,
            Target::Martian => tcp::Verdict::Ignore,
        };
        self.flows.receive(packet, target, self.poll.registry(), &self.clock, &mut self.output);
        Some(())
    }

    fn udp(&mut self, frame: &Frame, packet: &Packet<'_>, source: MacAddress) -> Option<()> {
        let udp = UdpPacket::new_checked(packet.payload).ok()?;
        let (from, to) = packet.ends();
        if frame.offload.checksum.is_none() && !udp.verify_checksum(&from, &to) {
            return None;
        }
        let guest = SocketAddr::new(packet.source, udp.src_port());
        let remote = SocketAddr::new(packet.destination, udp.dst_port());
        let asks_for_address = [Ipv4Addr::BROADCAST, ROUTER].contains(&match remote.ip() {
            IpAddr::V4(address) => address,
            IpAddr::V6(_) => Ipv4Addr::UNSPECIFIED,
        });
        if remote.port() == dhcp::SERVER_PORT && asks_for_address {
            self.dhcp(udp.payload(), source);
            return Some(());
        }
        // The guest may have left it to us to cut the data into datagrams.
        let (data, size) = match frame.offload.segment_size {
            Some(size) => (packet.payload.get(UDP_HEADER_SIZE..)?, usize::from(size).max(1)),
            None => (udp.payload(), usize::MAX),
        };
        let datagrams = offload::pieces(data, size);
        if remote.ip() == router_for(guest.ip())
            && let Some(forward) = self.udp_forwards.iter_mut().find(|forward| forward.knows(guest, remote))
        {
            datagrams.for_each(|data| forward.send(remote, data));
            return Some(());
        }
        match self.policy.target(remote) {
            Target::NameServer => {
                let (dhcp, now) = (&self.dhcp, Instant::now());
                let inside = |name: &str| dhcp.address_of(name, now);
                for data in datagrams {
                    self.dns.query(guest, data, inside, self.poll.registry(), &mut self.output);
                }
            }
            Target::Host(host) => {
                for data in datagrams {
                    if let Err(error) = self.mappings.send(guest, remote, host, data, self.poll.registry()) {
                        tracing::debug!("user network: a datagram to {host} was dropped: {error}");
                    }
                }
            }
            Target::Refused if remote.is_ipv4() => {
                self.unreachable(packet.bytes, Icmpv4DstUnreachable::PortUnreachable);
            }
            Target::Refused => self.unreachable_v6(packet, Icmpv6DstUnreachable::PortUnreachable),
            Target::Martian => {}
        }
        Some(())
    }

    fn dhcp(&mut self, request: &[u8], source: MacAddress) {
        let (output, now) = (&self.output, Instant::now());
        let taken = |address| output.is_taken(address, source, now);
        let (answer, change) = self.dhcp.answer(request, source, taken, now);
        match change {
            dhcp::Change::Leased(address, until) => self.output.lease(address, source, until),
            dhcp::Change::Released(address) => self.output.release(address),
            dhcp::Change::None => {}
        }
        if let Some(answer) = answer {
            let server = SocketAddrV4::new(ROUTER, dhcp::SERVER_PORT);
            self.output.datagram(server, SocketAddrV4::new(answer.to, dhcp::CLIENT_PORT), &answer.message);
        }
    }

    fn icmp(&mut self, packet: &[u8]) -> Option<()> {
        let header = Ipv4Packet::new_unchecked(packet);
        let icmp = Icmpv4Packet::new_checked(header.payload()).ok()?;
        if icmp.msg_type() != Icmpv4Message::EchoRequest || icmp.msg_code() != 0 || !icmp.verify_checksum() {
            return None;
        }
        let (from, to) = (header.src_addr(), header.dst_addr());
        if to == ROUTER || to == NAME_SERVER {
            let mut message = header.payload().to_vec();
            let mut answer = Icmpv4Packet::new_unchecked(&mut message[..]);
            answer.set_msg_type(Icmpv4Message::EchoReply);
            answer.fill_checksum();
            self.output.packet(to, from, IpProtocol::Icmp, &message);
            return Some(());
        }
        match self.policy.target(SocketAddrV4::new(to, 0)) {
            Target::Host(_) => {
                if let Err(error) = self.pings.send(from.into(), to.into(), header.payload(), self.poll.registry()) {
                    tracing::debug!("user network: the host does not let us ping {to}: {error}");
                    self.unreachable(packet, Icmpv4DstUnreachable::CommProhibited);
                }
            }
            Target::NameServer | Target::Refused => self.unreachable(packet, Icmpv4DstUnreachable::CommProhibited),
            Target::Martian => {}
        }
        Some(())
    }

    /// Tells the sender of `packet` that it went nowhere (RFC 792, RFC 1812 §4.3.2.7: not for groups).
    fn unreachable(&mut self, packet: &[u8], reason: Icmpv4DstUnreachable) {
        let header = Ipv4Packet::new_unchecked(packet);
        if header.dst_addr().is_broadcast() || header.dst_addr().is_multicast() {
            return;
        }
        // The header and eight bytes, for whom it concerns.
        let quoted = &packet[..packet.len().min(usize::from(header.header_len()) + 8)];
        let mut message = vec![0; 8 + quoted.len()];
        message[8..].copy_from_slice(quoted);
        let mut icmp = Icmpv4Packet::new_unchecked(&mut message[..]);
        icmp.set_msg_type(Icmpv4Message::DstUnreachable);
        icmp.set_msg_code(reason.into());
        icmp.fill_checksum();
        let from = if is_inside(header.dst_addr()) { header.dst_addr() } else { ROUTER };
        self.output.packet(from, header.src_addr(), IpProtocol::Icmp, &message);
    }
}
