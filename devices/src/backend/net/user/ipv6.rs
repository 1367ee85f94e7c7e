//! IPv6 inside: the router's advertisements (RFC 4861, RFC 4862), neighbour discovery, pings.
//!
//! The network is a unique local one (RFC 4193), as 10.0.2.0/24 is a private one: a guest's resolver library then prefers
//! IPv4 to reach the world (RFC 6724 §2.1), which every host has, and takes IPv6 where a name has nothing else.
//! Site-local addresses (fec0::/10) are deprecated (RFC 3879).

use std::net::{IpAddr, Ipv6Addr, SocketAddrV6};
use std::time::{Duration, Instant};

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    EthernetAddress, Icmpv6DstUnreachable, Icmpv6Message, Icmpv6Packet, Icmpv6Repr, IpProtocol, Ipv6Packet,
    NdiscNeighborFlags, NdiscPrefixInfoFlags, NdiscPrefixInformation, NdiscRepr, NdiscRouterFlags,
};

use super::ip::Packet;
use super::output::Output;
use super::policy::Target;
use super::{ROUTER_MAC, Router};
use crate::backend::net::MacAddress;

/// The network's prefix, 64 bits of it.
const PREFIX: Ipv6Addr = Ipv6Addr::new(0xfd76, 0x6572, 0x7665, 2, 0, 0, 0, 0);
/// The router's address, and the host's as its guests see it.
pub const ROUTER_V6: Ipv6Addr = Ipv6Addr::new(0xfd76, 0x6572, 0x7665, 2, 0, 0, 0, 2);
/// The name server's address.
pub const NAME_SERVER_V6: Ipv6Addr = Ipv6Addr::new(0xfd76, 0x6572, 0x7665, 2, 0, 0, 0, 3);
/// The router's address on the link: its card's (RFC 4291 §2.5.1).
pub const ROUTER_LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0x5055, 0x0aff, 0xfe00, 0x0202);
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// How long what is advertised holds.
const ROUTER_LIFETIME: Duration = Duration::from_secs(1800);
const PREFIX_LIFETIME: Duration = Duration::from_secs(86400);
/// How often it is advertised without being asked for.
pub const ADVERTISEMENT_INTERVAL: Duration = Duration::from_secs(600);
/// The option for name servers (RFC 8106 §5.1), and its length in units of eight bytes.
const OPTION_NAME_SERVERS: u8 = 25;
const NAME_SERVERS_LENGTH: u8 = 3;
/// Neighbour discovery takes only what no router has passed on (RFC 4861 §6.1, §7.1).
pub const DISCOVERY_HOP_LIMIT: u8 = 255;
/// Where the message is in ICMPv6 errors.
const ERROR_HEADER_SIZE: usize = 8;
/// Errors are no longer than the smallest MTU (RFC 4443 §2.4).
const LARGEST_ERROR: usize = 1280 - super::ip::IPV6_HEADER_SIZE;

/// Whether `address` is one of this network's.
pub fn is_inside(address: Ipv6Addr) -> bool {
    address.segments()[..4] == PREFIX.segments()[..4]
}

/// Whether a guest may have `address`.
pub fn is_guest(address: Ipv6Addr) -> bool {
    let is_ours = is_own(address) || address == PREFIX;
    (is_inside(address) || address.is_unicast_link_local()) && !is_ours
}

/// Whether `address` is the router's.
pub fn is_own(address: Ipv6Addr) -> bool {
    [ROUTER_V6, NAME_SERVER_V6, ROUTER_LINK_LOCAL].contains(&address)
}

/// The group in which whoever has `address` is asked for it (RFC 4291 §2.7.1).
fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., high, low] = address.segments();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | (high & 0xff), low)
}

/// The Ethernet address of a group (RFC 2464 §7).
pub fn group_mac(group: Ipv6Addr) -> MacAddress {
    let [.., a, b, c, d] = group.octets();
    MacAddress([0x33, 0x33, a, b, c, d])
}

fn send(output: &mut Output, from: Ipv6Addr, to: Ipv6Addr, message: Icmpv6Repr<'_>, more: &[u8]) {
    let length = message.buffer_len();
    let mut bytes = vec![0; length];
    message.emit(&from, &to, &mut Icmpv6Packet::new_unchecked(&mut bytes[..]), &ChecksumCapabilities::ignored());
    bytes.extend_from_slice(more);
    Icmpv6Packet::new_unchecked(&mut bytes[..]).fill_checksum(&from, &to);
    output.packet(from, to, IpProtocol::Icmpv6, &bytes);
}

/// Tells `to` what the network is.
pub fn advertise(output: &mut Output, to: Ipv6Addr) {
    let advertisement = NdiscRepr::RouterAdvert {
        hop_limit: 64,
        flags: NdiscRouterFlags::empty(),
        router_lifetime: ROUTER_LIFETIME.into(),
        reachable_time: Duration::ZERO.into(),
        retrans_time: Duration::ZERO.into(),
        lladdr: Some(EthernetAddress(ROUTER_MAC.0).into()),
        mtu: Some(output.mtu().into()),
        prefix_info: Some(NdiscPrefixInformation {
            prefix_len: 64,
            flags: NdiscPrefixInfoFlags::ON_LINK | NdiscPrefixInfoFlags::ADDRCONF,
            valid_lifetime: PREFIX_LIFETIME.into(),
            preferred_lifetime: PREFIX_LIFETIME.into(),
            prefix: PREFIX,
        }),
    };
    let mut servers = vec![OPTION_NAME_SERVERS, NAME_SERVERS_LENGTH, 0, 0];
    servers.extend((ROUTER_LIFETIME.as_secs() as u32).to_be_bytes());
    servers.extend(NAME_SERVER_V6.octets());
    send(output, ROUTER_LINK_LOCAL, to, Icmpv6Repr::Ndisc(advertisement), &servers);
}

/// Asks who has `address`.
pub fn solicit(output: &mut Output, address: Ipv6Addr) {
    let from = if address.is_unicast_link_local() { ROUTER_LINK_LOCAL } else { ROUTER_V6 };
    let lladdr = Some(EthernetAddress(ROUTER_MAC.0).into());
    let question = NdiscRepr::NeighborSolicit { target_addr: address, lladdr };
    send(output, from, solicited_node(address), Icmpv6Repr::Ndisc(question), &[]);
}

impl Router {
    /// Takes an ICMPv6 packet of the guest's, from the card `source`.
    pub(super) fn icmpv6(&mut self, packet: &Packet<'_>, source: MacAddress) -> Option<()> {
        let (IpAddr::V6(from), IpAddr::V6(to)) = (packet.source, packet.destination) else { return None };
        let message = Icmpv6Packet::new_checked(packet.payload).ok()?;
        if !message.verify_checksum(&from, &to) {
            return None;
        }
        if message.msg_type() == Icmpv6Message::EchoRequest {
            return if from.is_unspecified() { None } else { self.icmpv6_echo(packet, from, to) };
        }
        let is_near = Ipv6Packet::new_unchecked(packet.bytes).hop_limit() == DISCOVERY_HOP_LIMIT;
        let discovery = NdiscRepr::parse(&message).ok().filter(|_| is_near && message.msg_code() == 0)?;
        let own_card = |lladdr: Option<smoltcp::wire::RawHardwareAddress>| {
            lladdr.is_none_or(|address| address.as_bytes() == source.0)
        };
        let now = Instant::now();
        match discovery {
            NdiscRepr::RouterSolicit { lladdr } => {
                let to = if from.is_unspecified() { ALL_NODES } else { from };
                if own_card(lladdr) && (from.is_unspecified() || self.output.learn(from, source, now)) {
                    self.advertise_at.get_or_insert(now + ADVERTISEMENT_INTERVAL);
                    advertise(&mut self.output, to);
                }
            }
            NdiscRepr::NeighborSolicit { target_addr, lladdr } => {
                // Without a source somebody asks whether the address is free (RFC 4862 §5.4).
                let known = !from.is_unspecified() && own_card(lladdr) && self.output.learn(from, source, now);
                if is_own(target_addr) && (known || from.is_unspecified()) {
                    let mut flags = NdiscNeighborFlags::ROUTER | NdiscNeighborFlags::OVERRIDE;
                    flags.set(NdiscNeighborFlags::SOLICITED, known);
                    let lladdr = Some(EthernetAddress(ROUTER_MAC.0).into());
                    let answer = NdiscRepr::NeighborAdvert { flags, target_addr, lladdr };
                    let to = if known { from } else { ALL_NODES };
                    send(&mut self.output, target_addr, to, Icmpv6Repr::Ndisc(answer), &[]);
                }
            }
            NdiscRepr::NeighborAdvert { target_addr, lladdr, .. } if own_card(lladdr) => {
                self.output.learn(target_addr, source, now);
            }
            _ => {}
        }
        Some(())
    }

    fn icmpv6_echo(&mut self, packet: &Packet<'_>, from: Ipv6Addr, to: Ipv6Addr) -> Option<()> {
        if is_own(to) {
            let mut message = packet.payload.to_vec();
            let mut answer = Icmpv6Packet::new_unchecked(&mut message[..]);
            answer.set_msg_type(Icmpv6Message::EchoReply);
            answer.fill_checksum(&to, &from);
            self.output.packet(to, from, IpProtocol::Icmpv6, &message);
            return Some(());
        }
        match self.policy.target(SocketAddrV6::new(to, 0, 0, 0)) {
            Target::Host(_) => {
                if let Err(error) = self.pings.send(from.into(), to.into(), packet.payload, self.poll.registry()) {
                    tracing::debug!("user network: the host does not let us ping {to}: {error}");
                    self.unreachable_v6(packet, Icmpv6DstUnreachable::AdminProhibit);
                }
            }
            Target::NameServer | Target::Refused => self.unreachable_v6(packet, Icmpv6DstUnreachable::AdminProhibit),
            Target::Martian => {}
        }
        Some(())
    }

    /// Tells the sender of `packet` that it went nowhere (RFC 4443 §3.1, §2.4: not for groups, nor for errors).
    pub(super) fn unreachable_v6(&mut self, packet: &Packet<'_>, reason: Icmpv6DstUnreachable) {
        let (IpAddr::V6(from), IpAddr::V6(to)) = (packet.source, packet.destination) else { return };
        let is_error = packet.protocol == IpProtocol::Icmpv6 && packet.payload.first().is_none_or(|kind| *kind < 128);
        if to.is_multicast() || from.is_unspecified() || is_error {
            return;
        }
        let quoted = &packet.bytes[..packet.bytes.len().min(LARGEST_ERROR - ERROR_HEADER_SIZE)];
        let mut message = vec![0; ERROR_HEADER_SIZE];
        message.extend_from_slice(quoted);
        let own = if is_own(to) { to } else { ROUTER_V6 };
        let mut error = Icmpv6Packet::new_unchecked(&mut message[..]);
        error.set_msg_type(Icmpv6Message::DstUnreachable);
        error.set_msg_code(reason.into());
        error.fill_checksum(&own, &from);
        self.output.packet(own, from, IpProtocol::Icmpv6, &message);
    }

    /// Advertises the network again when it is time.
    pub(super) fn advertise_again(&mut self, now: Instant) {
        if self.advertise_at.is_some_and(|at| at <= now) {
            self.advertise_at = Some(now + ADVERTISEMENT_INTERVAL);
            advertise(&mut self.output, ALL_NODES);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_told_apart() {
        assert!(is_inside(ROUTER_V6) && is_own(ROUTER_V6) && !is_guest(ROUTER_V6));
        assert!(is_guest("fd76:6572:7665:2:5054:ff:fe12:3456".parse().unwrap()));
        assert!(is_guest("fe80::5054:ff:fe12:3456".parse().unwrap()));
        for other in ["::", "::1", "fe80::5055:aff:fe00:202", "fd76:6572:7665:3::9", "ff02::1", "2001:db8::1"] {
            assert!(!is_guest(other.parse().unwrap()), "{other}");
        }
        assert!(!is_guest(PREFIX), "the routers' anycast address (RFC 4291 §2.6.1)");
        assert_eq!(solicited_node(ROUTER_V6).to_string(), "ff02::1:ff00:2");
        assert_eq!(group_mac(ALL_NODES).to_string(), "33:33:00:00:00:01");
        let [.., a, b, c, d, e, f, g, h] = ROUTER_LINK_LOCAL.octets();
        let mac = ROUTER_MAC.0;
        assert_eq!([a, b, c, d, e, f, g, h], [mac[0] ^ 2, mac[1], mac[2], 0xff, 0xfe, mac[3], mac[4], mac[5]]);
    }
}
