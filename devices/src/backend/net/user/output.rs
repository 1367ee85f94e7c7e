//! The way to the guest: building frames, and the table of who has which address.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr, IpAddress,
    IpProtocol, Ipv4Packet, Ipv4Repr, Ipv6Packet, Ipv6Repr, UdpPacket,
};

use super::ip::{self, IPV4_HEADER_SIZE, IPV6_HEADER_SIZE};
use super::reassembly::FRAGMENT_HEADER_SIZE;
use super::{ROUTER, ROUTER_MAC, ipv6, is_guest};
use crate::backend::net::offload::UDP_HEADER_SIZE;
use crate::backend::net::{ETHERNET_HEADER_SIZE, Frame, MacAddress, NetworkEnd};

/// Hops that packets of the router's may make.
const HOP_LIMIT: u8 = 64;
/// How long an address stays with a card that is silent, unless it was leased.
const SILENCE: Duration = Duration::from_secs(60);
/// Addresses of guests that are known at a time: guests pick their own of IPv6.
const MOST_NEIGHBOURS: usize = 4096;
/// Packets that wait for an answer to ARP or neighbour discovery.
const MOST_UNRESOLVED: usize = 16;

struct Neighbour {
    address: MacAddress,
    /// Until then, nobody else may take the IP address.
    until: Instant,
}

/// The network's end of the cable, as the router uses it.
pub struct Output {
    end: NetworkEnd,
    mtu: u16,
    neighbours: HashMap<IpAddr, Neighbour>,
    unresolved: VecDeque<(IpAddr, Frame)>,
    ident: u16,
    sent: u64,
}

impl Output {
    pub fn new(end: NetworkEnd, mtu: u16) -> Self {
        Self { end, mtu, neighbours: HashMap::new(), unresolved: VecDeque::new(), ident: 0, sent: 0 }
    }

    pub fn mtu(&self) -> u16 {
        self.mtu
    }

    pub fn receive(&mut self) -> Option<Frame> {
        self.end.receive()
    }

    /// See [`NetworkEnd::has_room`].
    pub fn has_room(&mut self) -> bool {
        self.end.has_room()
    }

    /// See [`NetworkEnd::flush`].
    pub fn flush(&mut self) -> bool {
        self.end.flush()
    }

    /// Frames that were sent so far.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Whether a packet from `address` may come from the card `mac`, which then is where packets to it go. The first
    /// who uses an address keeps it until it is silent for a while.
    pub fn learn(&mut self, address: impl Into<IpAddr>, mac: MacAddress, now: Instant) -> bool {
        let address = address.into();
        let allowed = match address {
            IpAddr::V4(address) => is_guest(address),
            IpAddr::V6(address) => ipv6::is_guest(address),
        };
        if !allowed || mac.is_group() || mac == ROUTER_MAC {
            return false;
        }
        if self.neighbours.len() >= MOST_NEIGHBOURS && !self.neighbours.contains_key(&address) {
            self.neighbours.retain(|_, neighbour| neighbour.until > now);
            if self.neighbours.len() >= MOST_NEIGHBOURS {
                return false;
            }
        }
        let neighbour = self.neighbours.entry(address).or_insert(Neighbour { address: mac, until: now });
        if neighbour.address != mac {
            if neighbour.until > now {
                return false;
            }
            neighbour.address = mac;
        }
        neighbour.until = neighbour.until.max(now + SILENCE);
        self.resolve(address, mac);
        true
    }

    /// Whether `address` is used by another card than `mac`.
    pub fn is_taken(&self, address: Ipv4Addr, mac: MacAddress, now: Instant) -> bool {
        self.neighbours.get(&address.into()).is_some_and(|neighbour| neighbour.address != mac && neighbour.until > now)
    }

    /// Binds an address to a card for the time of a lease.
    pub fn lease(&mut self, address: Ipv4Addr, mac: MacAddress, until: Instant) {
        self.neighbours.insert(address.into(), Neighbour { address: mac, until });
        self.resolve(address.into(), mac);
    }

    /// Ends a lease.
    pub fn release(&mut self, address: Ipv4Addr) {
        self.neighbours.remove(&address.into());
    }

    /// Sends what has waited for `address`.
    fn resolve(&mut self, address: IpAddr, mac: MacAddress) {
        for (to, mut frame) in std::mem::take(&mut self.unresolved) {
            if to == address {
                frame.bytes[..6].copy_from_slice(&mac.0);
                self.send(frame);
            } else {
                self.unresolved.push_back((to, frame));
            }
        }
    }

    fn send(&mut self, frame: Frame) {
        self.sent += 1;
        self.end.send(frame);
    }

    /// Room for a frame with a packet of `length` bytes.
    pub fn frame(&self, length: usize) -> Frame {
        Frame { bytes: vec![0; ETHERNET_HEADER_SIZE + length], ..Frame::default() }
    }

    fn finish(&mut self, mut frame: Frame, to: MacAddress, kind: EthernetProtocol) {
        EthernetRepr { src_addr: EthernetAddress(ROUTER_MAC.0), dst_addr: EthernetAddress(to.0), ethertype: kind }
            .emit(&mut EthernetFrame::new_unchecked(&mut frame.bytes));
        self.send(frame);
    }

    /// Sends a frame whose packet is complete to the guest that has address `to`.
    pub fn ip(&mut self, mut frame: Frame, to: IpAddr) {
        let ethertype = if to.is_ipv4() { EthernetProtocol::Ipv4 } else { EthernetProtocol::Ipv6 };
        let group = match to {
            IpAddr::V4(to) => (to == Ipv4Addr::BROADCAST).then_some(MacAddress::BROADCAST),
            IpAddr::V6(to) => to.is_multicast().then(|| ipv6::group_mac(to)),
        };
        if let Some(mac) = group.or_else(|| self.neighbours.get(&to).map(|neighbour| neighbour.address)) {
            return self.finish(frame, mac, ethertype);
        }
        EthernetRepr { src_addr: EthernetAddress(ROUTER_MAC.0), dst_addr: EthernetAddress::BROADCAST, ethertype }
            .emit(&mut EthernetFrame::new_unchecked(&mut frame.bytes));
        if self.unresolved.len() == MOST_UNRESOLVED {
            self.unresolved.pop_front();
        }
        self.unresolved.push_back((to, frame));
        match to {
            IpAddr::V4(to) => self.arp(ArpOperation::Request, MacAddress::BROADCAST, ROUTER, to),
            IpAddr::V6(to) => ipv6::solicit(self, to),
        }
    }

    /// Sends an ARP packet (RFC 826) that tells that `own` is the router's.
    pub fn arp(&mut self, operation: ArpOperation, to: MacAddress, own: Ipv4Addr, target: Ipv4Addr) {
        let target_mac = if to == MacAddress::BROADCAST { MacAddress([0; 6]) } else { to };
        let arp = ArpRepr::EthernetIpv4 {
            operation,
            source_hardware_addr: EthernetAddress(ROUTER_MAC.0),
            source_protocol_addr: own,
            target_hardware_addr: EthernetAddress(target_mac.0),
            target_protocol_addr: target,
        };
        let mut frame = self.frame(arp.buffer_len());
        arp.emit(&mut ArpPacket::new_unchecked(&mut frame.bytes[ETHERNET_HEADER_SIZE..]));
        self.finish(frame, to, EthernetProtocol::Arp);
    }

    /// Sends a packet with `payload`, from an address of the same family as `to`, in fragments if it is larger than the
    /// network's MTU (RFC 791 §3.2, RFC 8200 §4.5).
    pub fn packet(&mut self, from: impl Into<IpAddr>, to: impl Into<IpAddr>, protocol: IpProtocol, payload: &[u8]) {
        match (from.into(), to.into()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => self.packet_v4(from, to, protocol, payload),
            (IpAddr::V6(from), IpAddr::V6(to)) => self.packet_v6(from, to, protocol, payload),
            (from, to) => tracing::debug!("user network: no packet leads from {from} to {to}"),
        }
    }

    fn packet_v6(&mut self, from: Ipv6Addr, to: Ipv6Addr, protocol: IpProtocol, payload: &[u8]) {
        let room = usize::from(self.mtu) - IPV6_HEADER_SIZE;
        if payload.len() <= room {
            return self.piece_v6(from, to, protocol, &[], payload);
        }
        self.ident = self.ident.wrapping_add(1);
        let piece_size = (room - FRAGMENT_HEADER_SIZE) & !7;
        let count = payload.len().div_ceil(piece_size);
        for (i, piece) in payload.chunks(piece_size).enumerate() {
            let mut header = [0; FRAGMENT_HEADER_SIZE];
            header[0] = protocol.into();
            header[2..4].copy_from_slice(&((i * piece_size) as u16 | u16::from(i + 1 != count)).to_be_bytes());
            header[4..].copy_from_slice(&u32::from(self.ident).to_be_bytes());
            self.piece_v6(from, to, IpProtocol::Ipv6Frag, &header, piece);
        }
    }

    /// Sends a packet with `header` and `payload`.
    fn piece_v6(&mut self, from: Ipv6Addr, to: Ipv6Addr, protocol: IpProtocol, header: &[u8], payload: &[u8]) {
        let length = header.len() + payload.len();
        let mut frame = self.frame(IPV6_HEADER_SIZE + length);
        let repr = Ipv6Repr {
            src_addr: from,
            dst_addr: to,
            next_header: protocol,
            payload_len: length,
            hop_limit: if protocol == IpProtocol::Icmpv6 { ipv6::DISCOVERY_HOP_LIMIT } else { HOP_LIMIT },
        };
        let mut packet = Ipv6Packet::new_unchecked(&mut frame.bytes[ETHERNET_HEADER_SIZE..]);
        repr.emit(&mut packet);
        packet.payload_mut()[..header.len()].copy_from_slice(header);
        packet.payload_mut()[header.len()..].copy_from_slice(payload);
        self.ip(frame, to.into());
    }

    fn packet_v4(&mut self, from: Ipv4Addr, to: Ipv4Addr, protocol: IpProtocol, payload: &[u8]) {
        self.ident = self.ident.wrapping_add(1);
        let piece_size = (usize::from(self.mtu) - IPV4_HEADER_SIZE) & !7;
        let count = payload.len().div_ceil(piece_size).max(1);
        let whole = payload.len() + IPV4_HEADER_SIZE <= usize::from(self.mtu);
        for i in 0..if whole { 1 } else { count } {
            let piece = &payload[i * piece_size..];
            let piece = if whole { piece } else { &piece[..piece.len().min(piece_size)] };
            let mut frame = self.frame(IPV4_HEADER_SIZE + piece.len());
            let bytes = &mut frame.bytes[ETHERNET_HEADER_SIZE..];
            let repr = Ipv4Repr {
                src_addr: from,
                dst_addr: to,
                next_header: protocol,
                payload_len: piece.len(),
                hop_limit: HOP_LIMIT,
            };
            let mut packet = Ipv4Packet::new_unchecked(bytes);
            repr.emit(&mut packet, &ChecksumCapabilities::ignored());
            if !whole {
                packet.set_ident(self.ident);
                packet.set_dont_frag(false);
                packet.set_more_frags(i + 1 != count);
                packet.set_frag_offset((i * piece_size) as u16);
            }
            packet.fill_checksum();
            packet.payload_mut().copy_from_slice(piece);
            self.ip(frame, to.into());
        }
    }

    /// Sends a UDP datagram, from an address of the same family as `to`.
    pub fn datagram(&mut self, from: impl Into<SocketAddr>, to: impl Into<SocketAddr>, data: &[u8]) {
        let (from, to) = (from.into(), to.into());
        let length = UDP_HEADER_SIZE + data.len();
        if length > ip::largest_payload(to.ip()) {
            return;
        }
        let mut bytes = vec![0; length];
        let mut packet = UdpPacket::new_unchecked(&mut bytes[..]);
        packet.set_src_port(from.port());
        packet.set_dst_port(to.port());
        packet.set_len(length as u16);
        packet.payload_mut().copy_from_slice(data);
        packet.fill_checksum(&IpAddress::from(from.ip()), &IpAddress::from(to.ip()));
        self.packet(from.ip(), to.ip(), IpProtocol::Udp, &bytes);
    }
}
