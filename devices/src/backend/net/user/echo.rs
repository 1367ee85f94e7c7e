//! ICMP echo to the outside, by IPv4 and IPv6, where the host lets its users open ping sockets (on Linux,
//! `net.ipv4.ping_group_range` for both).

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use mio::net::UdpSocket;
use mio::{Interest, Registry};
use smoltcp::wire::{Icmpv4Message, Icmpv4Packet, Icmpv6Message, Icmpv6Packet, IpProtocol, Ipv4Packet};
use socket2::{Domain, Protocol, Socket, Type};

use super::output::Output;
use super::{Kind, token};

/// Pings at a time; the one that was silent for longest gives way.
const MOST_PINGS: usize = 64;
const LIFETIME: Duration = Duration::from_secs(30);

struct Ping {
    guest: IpAddr,
    ident: u16,
    /// Whom the guest has pinged last: others' answers do not concern it.
    peer: IpAddr,
    socket: UdpSocket,
    used: Instant,
}

/// All pings, one for each identifier of a guest's.
#[derive(Default)]
pub struct Pings {
    pings: HashMap<u64, Ping>,
    by_guest: HashMap<(IpAddr, u16), u64>,
    next: u64,
    readable: BTreeSet<u64>,
}

impl Pings {
    /// Sends the guest's echo request `message` to `peer`, which is of the guest's family.
    pub fn send(&mut self, guest: IpAddr, peer: IpAddr, message: &[u8], registry: &Registry) -> io::Result<()> {
        // It is at the same place in both versions.
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

    fn open(&mut self, guest: IpAddr, ident: u16, peer: IpAddr, registry: &Registry) -> io::Result<u64> {
        if self.pings.len() >= MOST_PINGS
            && let Some(oldest) = self.pings.iter().min_by_key(|(_, ping)| ping.used).map(|(id, _)| *id)
        {
            self.remove(oldest);
        }
        let (domain, protocol) =
            if peer.is_ipv4() { (Domain::IPV4, Protocol::ICMPV4) } else { (Domain::IPV6, Protocol::ICMPV6) };
        let socket = Socket::new(domain, Type::DGRAM, Some(protocol))?;
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
                if from.ip() == ping.peer
                    && let Some(answer) = ping.answer(&mut buffer[..length])
                {
                    let protocol = if ping.peer.is_ipv4() { IpProtocol::Icmp } else { IpProtocol::Icmpv6 };
                    output.packet(ping.peer, ping.guest, protocol, answer);
                }
            }
            self.readable.remove(&id);
        }
    }
}

impl Ping {
    /// The answer in what the host has received, as the guest is to get it: the host has put an identifier of its own in
    /// the place of the guest's. `None` if it is none.
    fn answer<'a>(&self, packet: &'a mut [u8]) -> Option<&'a [u8]> {
        match (self.peer, self.guest) {
            (IpAddr::V4(_), _) => {
                // Some hosts put the IPv4 header in front of the message.
                let header = match Ipv4Packet::new_checked(&*packet) {
                    Ok(header) if header.version() == 4 && header.next_header() == IpProtocol::Icmp => {
                        usize::from(header.header_len())
                    }
                    _ => 0,
                };
                let message = packet.get_mut(header..).filter(|message| message.len() >= 8)?;
                let mut answer = Icmpv4Packet::new_unchecked(&mut *message);
                if answer.msg_type() != Icmpv4Message::EchoReply {
                    return None;
                }
                answer.set_echo_ident(self.ident);
                answer.fill_checksum();
                Some(message)
            }
            (IpAddr::V6(peer), IpAddr::V6(guest)) if packet.len() >= 8 => {
                let mut answer = Icmpv6Packet::new_unchecked(&mut *packet);
                if answer.msg_type() != Icmpv6Message::EchoReply {
                    return None;
                }
                answer.set_echo_ident(self.ident);
                answer.fill_checksum(&peer, &guest);
                Some(packet)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::Arc;

    use mio::{Events, Poll};
    use smoltcp::phy::ChecksumCapabilities;
    use smoltcp::wire::{Icmpv4Repr, Icmpv6Repr};

    use super::super::ip::Packet;
    use super::*;
    use crate::backend::net::{ETHERNET_HEADER_SIZE, Link, MacAddress, NetworkBackend};

    fn request(guest: IpAddr, peer: IpAddr) -> Vec<u8> {
        let (ident, seq_no, data) = (0x1234, 7, &b"how do you do?"[..]);
        let mut message = vec![0; 8 + data.len()];
        match (guest, peer) {
            (IpAddr::V6(guest), IpAddr::V6(peer)) => Icmpv6Repr::EchoRequest { ident, seq_no, data }.emit(
                &guest,
                &peer,
                &mut Icmpv6Packet::new_unchecked(&mut message[..]),
                &ChecksumCapabilities::default(),
            ),
            _ => Icmpv4Repr::EchoRequest { ident, seq_no, data }
                .emit(&mut Icmpv4Packet::new_unchecked(&mut message[..]), &ChecksumCapabilities::default()),
        }
        message
    }

    /// The packet that the guest gets for its request to `peer`, if the host allows pings.
    fn answer(guest: IpAddr, peer: IpAddr) -> Option<Vec<u8>> {
        let mut poll = Poll::new().unwrap();
        let (link, end): (Arc<Link>, _) = Link::new(1500, || {});
        let mut output = Output::new(end, 1500);
        assert!(output.learn(guest, MacAddress([0x52, 0x54, 0, 1, 2, 3]), Instant::now()));
        let mut pings = Pings::default();
        pings.send(guest, peer, &request(guest, peer), poll.registry()).ok()?;
        assert_eq!(pings.pings.len(), 1);
        let (mut events, mut buffer) = (Events::with_capacity(4), vec![0; 2000]);
        loop {
            poll.poll(&mut events, Some(Duration::from_secs(60))).unwrap();
            assert!(!events.is_empty(), "no answer came");
            pings.ready(0);
            pings.run(&mut output, &mut buffer);
            if let Some(frame) = link.receive() {
                return Some(frame.bytes[ETHERNET_HEADER_SIZE..].to_vec());
            }
        }
    }

    #[test]
    fn the_hosts_loopback_answers_by_both_protocols() {
        let guest = Ipv4Addr::new(10, 0, 2, 15).into();
        if let Some(answer) = answer(guest, Ipv4Addr::LOCALHOST.into()) {
            let packet = Packet::parse(&answer).unwrap();
            assert_eq!((packet.source, packet.destination), (Ipv4Addr::LOCALHOST.into(), guest));
            let message = Icmpv4Packet::new_checked(packet.payload).unwrap();
            assert!(message.verify_checksum());
            assert_eq!((message.msg_type(), message.echo_ident()), (Icmpv4Message::EchoReply, 0x1234));
            assert_eq!((message.echo_seq_no(), message.data()), (7, &b"how do you do?"[..]));
        } else {
            eprintln!("IPv4 skipped: the host allows no pings");
        }

        let (guest, peer) = ("fd76:6572:7665:2::99".parse().unwrap(), "::1".parse().unwrap());
        if let Some(answer) = answer(guest, peer) {
            let packet = Packet::parse(&answer).unwrap();
            assert_eq!((packet.source, packet.destination), (peer, guest));
            let (IpAddr::V6(guest), IpAddr::V6(peer)) = (guest, peer) else { panic!() };
            let message = Icmpv6Packet::new_checked(packet.payload).unwrap();
            assert!(message.verify_checksum(&peer, &guest));
            assert_eq!((message.msg_type(), message.echo_ident()), (Icmpv6Message::EchoReply, 0x1234));
            assert_eq!((message.echo_seq_no(), message.payload()), (7, &b"how do you do?"[..]));
        } else {
            eprintln!("IPv6 skipped: the host allows no pings");
        }
    }

    #[test]
    fn what_is_no_answer_is_not_passed_on() {
        for peer in [IpAddr::V4(Ipv4Addr::LOCALHOST), "::1".parse().unwrap()] {
            let guest =
                if peer.is_ipv4() { Ipv4Addr::new(10, 0, 2, 15).into() } else { "fd76::9".parse::<IpAddr>().unwrap() };
            let socket = UdpSocket::bind("127.0.0.1:0".parse().unwrap()).unwrap();
            let ping = Ping { guest, ident: 9, peer, socket, used: Instant::now() };
            let reply = if peer.is_ipv4() { 0 } else { 129 };
            let mut message = [reply, 0, 0, 0, 0, 1, 0, 1];
            assert!(ping.answer(&mut message).is_some());
            for length in 0..8 {
                assert!(ping.answer(&mut message[..length]).is_none(), "{length}");
            }
            for other in [3, 8, 128, 135] {
                message[0] = other;
                assert!(ping.answer(&mut message).is_none(), "{other}");
            }
        }
    }
}
