//! TCP: each connection of the guest's ends here and goes on as one of the host's.
//!
//! A flow has a small stack of its own (`stack`), which plays the remote end towards the guest: finding a flow costs the
//! same with thousands of them. The guest's SYN is answered only once the host has
//! connected, and refused when the host was. A window that is full closes the sender's, in both directions, so that no
//! flow holds more than its two buffers; their pages are the host's only while they are filled.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Interest, Registry};
use smoltcp::socket::tcp::{RecvError, State};
use smoltcp::wire::{IpProtocol, TcpPacket, TcpSeqNumber};

use super::ip::Packet;
use super::output::Output;
use super::stack::Stack;
use super::{Clock, Kind, is_inside, router_for, token};
use crate::backend::net::Frame;

/// Flows at a time.
pub const MOST_FLOWS: usize = 8192;
/// Stacks that are kept for the next flows.
const MOST_SPARE: usize = 64;
/// Flows whose host connection is not yet there.
const MOST_PENDING: usize = 1024;
/// How long the host may take to connect, and the guest to answer a forwarded connection.
const CONNECT_TIME: Duration = Duration::from_secs(75);
/// Where ports for forwarded connections begin (RFC 6335).
const FIRST_EPHEMERAL_PORT: u16 = 49152;

/// The two ends of a flow as the guest sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Ends {
    guest: SocketAddr,
    remote: SocketAddr,
}

enum Phase {
    /// The host is connecting; the guest's SYN waits.
    Connecting { syn: Vec<u8> },
    /// There is somebody at both ends, or there was.
    Open(Box<Stack>),
}

struct Flow {
    ends: Ends,
    phase: Phase,
    /// Nothing once the host's connection is of no more use.
    host: Option<TcpStream>,
    /// The host's socket may have something to read.
    readable: bool,
    /// The host's socket may have room.
    writable: bool,
    /// The host has ended its stream.
    host_ended: bool,
    /// The guest's end was passed on to the host.
    guest_ended: bool,
    /// A forwarded connection that the guest has not answered yet is given up then; so is the host's.
    connect_by: Option<Instant>,
    /// When the flow has something to do next, if nothing happens before.
    deadline: Option<Instant>,
    /// Whether the flow is in the queue.
    queued: bool,
}

impl Flow {
    fn new(ends: Ends, phase: Phase, host: TcpStream) -> Self {
        // A socket is tried before anything is said about it, but for one that is not connected.
        let open = matches!(phase, Phase::Open(_));
        Self {
            ends,
            phase,
            host: Some(host),
            readable: open,
            writable: open,
            host_ended: false,
            guest_ended: false,
            connect_by: Some(Instant::now() + CONNECT_TIME),
            deadline: None,
            queued: false,
        }
    }

    /// Moves bytes between the host's socket and the stack. Whether the flow is to be reset is the answer.
    fn pump(&mut self) -> Result<(), Reset> {
        let (Phase::Open(stack), Some(host)) = (&mut self.phase, &mut self.host) else { return Ok(()) };
        let socket = stack.socket();
        if matches!(socket.state(), State::SynSent | State::SynReceived | State::Listen) {
            return Ok(());
        }
        self.connect_by = None;
        while self.writable && socket.can_recv() {
            match socket.recv(|bytes| match host.write(bytes) {
                Ok(0) => (0, Err(ErrorKind::WriteZero.into())),
                Ok(count) => (count, Ok(())),
                Err(error) => (0, Err(error)),
            }) {
                Ok(Ok(())) => {}
                Ok(Err(error)) => match error.kind() {
                    ErrorKind::WouldBlock => self.writable = false,
                    ErrorKind::Interrupted => {}
                    _ => return Err(Reset),
                },
                Err(_) => break,
            }
        }
        // Everything that the guest has sent is with the host.
        if !self.guest_ended && socket.recv_queue() == 0 && matches!(socket.recv(|_| (0, ())), Err(RecvError::Finished))
        {
            self.guest_ended = true;
            // An error would mean that the connection is gone, which reading tells.
            let _ = host.shutdown(Shutdown::Write);
        }
        while self.readable && !self.host_ended && socket.can_send() {
            match socket.send(|bytes| match host.read(bytes) {
                Ok(count) => (count, Ok(count)),
                Err(error) => (0, Err(error)),
            }) {
                Ok(Ok(0)) => {
                    self.host_ended = true;
                    socket.close();
                }
                Ok(Ok(_)) => {}
                Ok(Err(error)) => match error.kind() {
                    ErrorKind::WouldBlock => self.readable = false,
                    ErrorKind::Interrupted => {}
                    _ => return Err(Reset),
                },
                Err(_) => break,
            }
        }
        Ok(())
    }
}

/// The host's connection has failed.
struct Reset;

/// All flows.
pub struct Flows {
    flows: HashMap<u64, Flow>,
    by_ends: HashMap<Ends, u64>,
    next: u64,
    pending: usize,
    /// Flows with something to do, those that could not send all of it last.
    queue: VecDeque<u64>,
    deadlines: BTreeSet<(Instant, u64)>,
    next_port: u16,
    spare: Vec<Stack>,
}

impl Flows {
    pub fn new() -> Self {
        Self {
            flows: HashMap::new(),
            by_ends: HashMap::new(),
            next: 0,
            pending: 0,
            queue: VecDeque::new(),
            deadlines: BTreeSet::new(),
            next_port: FIRST_EPHEMERAL_PORT,
            spare: Vec::new(),
        }
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.flows.len()
    }

    /// Whether another flow may begin.
    pub fn has_room(&self) -> bool {
        self.flows.len() < MOST_FLOWS && self.pending < MOST_PENDING
    }

    /// When [`Flows::expire`] is to be called.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    fn add(&mut self, mut flow: Flow, registry: &Registry) -> io::Result<u64> {
        let id = self.next;
        self.next += 1;
        if let Some(host) = &mut flow.host {
            registry.register(host, token(Kind::Tcp, id), Interest::READABLE | Interest::WRITABLE)?;
        }
        flow.deadline = flow.connect_by;
        self.deadlines.extend(flow.deadline.map(|deadline| (deadline, id)));
        self.pending += usize::from(flow.connect_by.is_some());
        self.by_ends.insert(flow.ends, id);
        self.flows.insert(id, flow);
        Ok(id)
    }

    /// Forgets a flow. The host's peer gets a RST if that is asked for.
    fn remove(&mut self, id: u64, reset: bool) {
        let Some(flow) = self.flows.remove(&id) else { return };
        if let (Some(host), true) = (&flow.host, reset) {
            // Closing a socket that does not linger resets the connection. If the host cannot, it ends it.
            let _ = socket2::SockRef::from(host).set_linger(Some(Duration::ZERO));
        }
        self.pending -= usize::from(flow.connect_by.is_some());
        self.by_ends.remove(&flow.ends);
        if let Some(deadline) = flow.deadline {
            self.deadlines.remove(&(deadline, id));
        }
        if let Phase::Open(stack) = flow.phase
            && self.spare.len() < MOST_SPARE
        {
            self.spare.push(*stack);
        }
    }

    /// A stack at `address`.
    fn stack(&mut self, address: IpAddr, clock: &Clock, output: &mut Output) -> Box<Stack> {
        let stack = match self.spare.pop() {
            Some(mut stack) => {
                stack.renew(address);
                stack
            }
            None => Stack::new(address, clock, output),
        };
        Box::new(stack)
    }

    /// Takes a packet of the guest's with a TCP segment, both well-formed. `target` tells where a new connection goes.
    pub fn receive(
        &mut self,
        packet: &Packet<'_>,
        target: impl FnOnce(SocketAddr) -> Verdict,
        registry: &Registry,
        clock: &Clock,
        output: &mut Output,
    ) {
        let segment = TcpPacket::new_unchecked(packet.payload);
        let ends = Ends {
            guest: SocketAddr::new(packet.source, segment.src_port()),
            remote: SocketAddr::new(packet.destination, segment.dst_port()),
        };
        let opens = segment.syn() && !segment.ack() && !segment.rst();
        if let Some(&id) = self.by_ends.get(&ends)
            && let Some(flow) = self.flows.get_mut(&id)
        {
            match &mut flow.phase {
                Phase::Connecting { syn } => {
                    if segment.rst() {
                        self.remove(id, true);
                    } else if opens {
                        *syn = packet.bytes.into();
                    }
                    return;
                }
                Phase::Open(stack) => {
                    // A guest may use its port again before our TIME-WAIT is over (RFC 9293 §3.6.1).
                    if !(opens && stack.socket().state() == State::TimeWait) {
                        stack.receive(packet.bytes, clock, output);
                        self.enqueue(id);
                        return;
                    }
                }
            }
            self.remove(id, false);
        }
        if !opens {
            return refuse(packet, output);
        }
        let address = match target(ends.remote) {
            Verdict::Connect(address) => address,
            Verdict::Refuse => return refuse(packet, output),
            Verdict::Ignore => return,
        };
        // The guest will try again.
        if !self.has_room() {
            tracing::debug!("user network: too many TCP connections; {} waits", ends.remote);
            return;
        }
        match TcpStream::connect(address) {
            Ok(stream) => {
                let flow = Flow::new(ends, Phase::Connecting { syn: packet.bytes.into() }, stream);
                if let Err(error) = self.add(flow, registry) {
                    tracing::debug!("user network: {address}: {error}");
                }
            }
            Err(error) if is_shortage(&error) => tracing::debug!("user network: {address}: {error}; the guest waits"),
            Err(error) => {
                tracing::debug!("user network: {address}: {error}");
                refuse(packet, output);
            }
        }
    }

    /// Leads a connection that the host has accepted to the guest.
    pub fn forward(
        &mut self,
        host: TcpStream,
        peer: SocketAddr,
        guest: SocketAddr,
        registry: &Registry,
        clock: &Clock,
        output: &mut Output,
    ) {
        let Some(remote) = self.visible_peer(peer, guest) else { return };
        let mut stack = self.stack(remote.ip(), clock, output);
        if let Err(error) = stack.connect(guest, remote) {
            tracing::debug!("user network: a connection cannot be forwarded to {guest}: {error}");
            return;
        }
        let _ = host.set_nodelay(true);
        let flow = Flow::new(Ends { guest, remote }, Phase::Open(stack), host);
        match self.add(flow, registry) {
            Ok(id) => self.enqueue(id),
            Err(error) => tracing::debug!("user network: a forwarded connection was dropped: {error}"),
        }
    }

    /// How the guest sees a host's peer: under its own address, or if that is of the other family, one of this network or
    /// of the host's loopback, under the router's.
    fn visible_peer(&mut self, peer: SocketAddr, guest: SocketAddr) -> Option<SocketAddr> {
        let free = |remote: &SocketAddr| !self.by_ends.contains_key(&Ends { guest, remote: *remote });
        if let (SocketAddr::V4(own), SocketAddr::V4(_)) = (peer, guest)
            && !own.ip().is_loopback()
            && !is_inside(*own.ip())
            && free(&peer)
        {
            return Some(peer);
        }
        let ports = (0..=u16::MAX - FIRST_EPHEMERAL_PORT).map(|i| {
            FIRST_EPHEMERAL_PORT + (self.next_port - FIRST_EPHEMERAL_PORT + i) % (u16::MAX - FIRST_EPHEMERAL_PORT + 1)
        });
        let remote = ports.map(|port| SocketAddr::new(router_for(guest.ip()), port)).find(free)?;
        self.next_port = remote.port().checked_add(1).unwrap_or(FIRST_EPHEMERAL_PORT);
        Some(remote)
    }

    /// Notes what the host tells about the socket of flow `id`.
    pub fn ready(&mut self, id: u64, event: &mio::event::Event, clock: &Clock, output: &mut Output) {
        let Some(flow) = self.flows.get_mut(&id) else { return };
        flow.readable |= event.is_readable() || event.is_read_closed() || event.is_error();
        flow.writable |= event.is_writable() || event.is_write_closed() || event.is_error();
        if !std::mem::replace(&mut flow.queued, true) {
            self.queue.push_back(id);
        }
        let (Phase::Connecting { syn }, Some(host)) = (&flow.phase, &flow.host) else { return };
        let result = match host.take_error() {
            Ok(None) => host.peer_addr().map(|_| ()),
            Ok(Some(error)) | Err(error) => Err(error),
        };
        match result {
            Err(error) if error.kind() == ErrorKind::NotConnected => {}
            Err(error) => {
                tracing::debug!("user network: {}: {error}", flow.ends.remote);
                let syn = syn.clone();
                self.remove(id, false);
                if let Some(packet) = Packet::parse(&syn) {
                    refuse(&packet, output);
                }
            }
            Ok(()) => {
                let _ = host.set_nodelay(true);
                let remote = flow.ends.remote;
                let mut stack = self.stack(remote.ip(), clock, output);
                let Some(Flow { phase, connect_by, .. }) = self.flows.get_mut(&id) else { return };
                let Phase::Connecting { syn } = phase else { return };
                let listening = stack.socket().listen(remote);
                if listening.is_ok() {
                    stack.receive(syn, clock, output);
                }
                if listening.is_err() || stack.socket().state() == State::Listen {
                    // What claimed to be a SYN was none that a listener takes.
                    return self.remove(id, true);
                }
                *phase = Phase::Open(stack);
                if connect_by.take().is_some() {
                    self.pending -= 1;
                }
            }
        }
    }

    /// Marks the flows whose time has come.
    pub fn expire(&mut self, now: Instant) {
        while let Some(&(deadline, id)) = self.deadlines.first()
            && deadline <= now
        {
            self.deadlines.pop_first();
            if let Some(flow) = self.flows.get_mut(&id) {
                flow.deadline = None;
                if flow.connect_by.is_some_and(|by| by <= now) {
                    self.remove(id, true);
                } else {
                    self.enqueue(id);
                }
            }
        }
    }

    /// Moves everything that can move, as long as there is room on the way to the guest.
    pub fn run(&mut self, clock: &Clock, output: &mut Output) {
        while !self.queue.is_empty() && output.has_room() {
            if let Some(id) = self.queue.pop_front() {
                self.drive(id, clock, output);
            }
        }
    }

    fn enqueue(&mut self, id: u64) {
        if let Some(flow) = self.flows.get_mut(&id)
            && !std::mem::replace(&mut flow.queued, true)
        {
            self.queue.push_back(id);
        }
    }

    fn drive(&mut self, id: u64, clock: &Clock, output: &mut Output) {
        // Flows that have ended may still be in the queue.
        let Some(flow) = self.flows.get_mut(&id) else { return };
        flow.queued = false;
        let waiting = flow.connect_by.is_some();
        if flow.pump().is_err() {
            // The host's peer has reset the connection, or cannot be reached any more: so it is for the guest.
            flow.host = None;
            if let Phase::Open(stack) = &mut flow.phase {
                stack.socket().abort();
            }
        }
        if waiting && flow.connect_by.is_none() {
            self.pending -= 1;
        }
        let Phase::Open(stack) = &mut flow.phase else { return };
        let blocked = stack.send(clock, output);
        let state = stack.socket().state();
        if flow.guest_ended && flow.host_ended {
            flow.host = None;
        }
        if blocked {
            flow.queued = true;
            self.queue.push_back(id);
        } else if state == State::Closed {
            // If the host is still there, the guest has reset the connection: so it is for the host's peer.
            return self.remove(id, true);
        }
        let next = if blocked { None } else { stack.deadline(clock) };
        let next = next.into_iter().chain(flow.connect_by).min();
        if next != flow.deadline {
            if let Some(old) = flow.deadline {
                self.deadlines.remove(&(old, id));
            }
            flow.deadline = next;
            self.deadlines.extend(next.map(|deadline| (deadline, id)));
        }
    }
}

/// What a new connection of the guest's is to become.
pub enum Verdict {
    /// A connection of the host's.
    Connect(SocketAddr),
    /// A reset.
    Refuse,
    /// Nothing.
    Ignore,
}

/// Whether the host lacks something for now: too many open files, for example.
pub fn is_shortage(error: &io::Error) -> bool {
    #[cfg(unix)]
    let shortage = matches!(
        error.raw_os_error().map(rustix::io::Errno::from_raw_os_error),
        Some(
            rustix::io::Errno::MFILE
                | rustix::io::Errno::NFILE
                | rustix::io::Errno::NOBUFS
                | rustix::io::Errno::NOMEM
                | rustix::io::Errno::ADDRNOTAVAIL
        )
    );
    #[cfg(not(unix))]
    let shortage = matches!(error.kind(), ErrorKind::OutOfMemory | ErrorKind::AddrNotAvailable);
    shortage
}

/// Answers a segment that belongs to no connection by a reset (RFC 9293 §3.5.2).
pub fn refuse(packet: &Packet<'_>, output: &mut Output) {
    let segment = TcpPacket::new_unchecked(packet.payload);
    if segment.rst() {
        return;
    }
    let mut bytes = [0; 20];
    let mut answer = TcpPacket::new_unchecked(&mut bytes[..]);
    answer.set_src_port(segment.dst_port());
    answer.set_dst_port(segment.src_port());
    answer.set_header_len(20);
    answer.set_rst(true);
    if segment.ack() {
        answer.set_seq_number(segment.ack_number());
    } else {
        answer.set_seq_number(TcpSeqNumber(0));
        answer.set_ack(true);
        answer.set_ack_number(segment.seq_number() + segment.segment_len());
    }
    let (to, from) = packet.ends();
    answer.fill_checksum(&from, &to);
    output.packet(packet.destination, packet.source, IpProtocol::Tcp, &bytes);
}

/// Whether the TCP segment in a frame's packet is well-formed.
pub fn is_sound(frame: &Frame, packet: &Packet<'_>) -> bool {
    let Ok(segment) = TcpPacket::new_checked(packet.payload) else { return false };
    let (from, to) = packet.ends();
    // A partial checksum has seen no wire on which it could have been damaged.
    frame.offload.checksum.is_some() || segment.verify_checksum(&from, &to)
}
