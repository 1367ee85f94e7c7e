//! ICMP echo to the outside, where the host lets its users open ping sockets (on Linux, `net.ipv4.ping_group_range`).

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use mio::net::UdpSocket;
use mio::{Interest, Registry};
use smoltcp::wire::{Icmpv4Message, Icmpv4Packet, IpProtocol, Ipv4Packet};
use socket2::{Domain, Protocol, Socket, Type};

use super::output::Output;
use super::{Kind, token};

/// Pings at a time; the one that was silent for longest gives way.
const MOST_PINGS: usize = 64;
const LIFETIME: Duration = Duration::from_secs(30);

struct Ping {
    guest: Ipv4Addr,
    ident: u16,
    /// Whom the guest has pinged last: others' answers do not concern it.
    peer: Ipv4Addr,
    socket: UdpSocket,
    used: Instant,
}

/// All pings, one for each identifier of a guest's.
#[derive(Default)]
pub struct Pings {
    pings: HashMap<u64, Ping>,
    by_guest: HashMap<(Ipv4Addr, u16), u64>,
    next: u64,
    readable: BTreeSet<u64>,
}

impl Pings {
    /// Sends the guest's echo request `message` to `peer`.
    pub fn send(&mut self, guest: Ipv4Addr, peer: Ipv4Addr, message: &[u8], registry: &Registry) -> io::Result<()> {
        let ident = Icmpv4Packet::new_unchecked(message).echo_ident();
        let id = match self.by_guest.get(&(guest, ident)) {
            Some(&id) => id,
            None => self.open(guest, ident, peer, registry)?,
        };
        let Some(ping) = self.pings.get_mut(&id) else { return Ok(()) };
        ping.used = Instant::now();
        ping.peer = peer;
        ping.socket.send_to(message, (peer, 0).into()).map(|_| ())
    }

    fn open(&mut self, guest: Ipv4Addr, ident: u16, peer: Ipv4Addr, registry: &Registry) -> io::Result<u64> {
        if self.pings.len() >= MOST_PINGS
            && let Some(oldest) = self.pings.iter().min_by_key(|(_, ping)| ping.used).map(|(id, _)| *id)
        {
            self.remove(oldest);
        }
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::ICMPV4))?;
        socket.set_nonblocking(true)?;
        let mut socket = UdpSocket::from_std(socket.into());
        let id = self.next;
        registry.register(&mut socket, token(Kind::Ping, id), Interest::READABLE)?;
        self.next += 1;
        self.pings.insert(id, Ping { guest, ident, peer, socket, used: Instant::now() });
        self.by_guest.insert((guest, ident), id);
        Ok(id)
    }

    fn remove(&mut self, id: u64) {
        if let Some(ping) = self.pings.remove(&id) {
            self.by_guest.remove(&(ping.guest, ping.ident));
            self.readable.remove(&id);
        }
    }

    pub fn ready(&mut self, id: u64) {
        self.readable.insert(id);
    }

    pub fn deadline(&self) -> Option<Instant> {
        self.pings.values().map(|ping| ping.used + LIFETIME).min()
    }

    pub fn expire(&mut self, now: Instant) {
        let old = self.pings.iter().filter(|(_, ping)| ping.used + LIFETIME <= now).map(|(id, _)| *id);
        for id in old.collect::<Vec<_>>() {
            self.remove(id);
        }
    }

    /// Passes on the answers that have arrived, as far as there is room on the way to the guest.
    pub fn run(&mut self, output: &mut Output, buffer: &mut [u8]) {
        while let Some(&id) = self.readable.first() {
            let Some(ping) = self.pings.get_mut(&id) else {
                self.readable.remove(&id);
                continue;
            };
            loop {
                if !output.has_room() {
                    return;
                }
                let Ok((length, from)) = ping.socket.recv_from(buffer) else { break };
                let SocketAddr::V4(from) = from else { continue };
                // Some hosts put the IPv4 header in front of the message.
                let packet = &mut buffer[..length];
                let header = match Ipv4Packet::new_checked(&*packet) {
                    Ok(header) if header.version() == 4 && header.next_header() == IpProtocol::Icmp => {
                        usize::from(header.header_len())
                    }
                    _ => 0,
                };
                let Some(message) = packet.get_mut(header..).filter(|message| message.len() >= 8) else { continue };
                let mut answer = Icmpv4Packet::new_unchecked(&mut *message);
                if *from.ip() == ping.peer && answer.msg_type() == Icmpv4Message::EchoReply {
                    // The host has put an identifier of its own in the place of the guest's.
                    answer.set_echo_ident(ping.ident);
                    answer.fill_checksum();
                    output.packet(ping.peer, ping.guest, IpProtocol::Icmp, message);
                }
            }
            self.readable.remove(&id);
        }
    }
}
