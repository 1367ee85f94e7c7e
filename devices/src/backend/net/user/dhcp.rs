//! The DHCP server (RFC 2131, options of RFC 2132).
//!
//! Each card gets an address of its own, the first one 10.0.2.15. An offer reserves nothing, and a request is taken
//! only for the card that sends it: a flood of either costs no more than the table, which holds at most one lease for
//! each address.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use smoltcp::wire::{DhcpMessageType, DhcpOption, DhcpPacket, DhcpRepr, EthernetAddress};

use super::{FIRST_GUEST, LAST_GUEST, NAME_SERVER, NETMASK, ROUTER};
use crate::backend::net::MacAddress;

/// The server's port.
pub const SERVER_PORT: u16 = 67;
/// The client's port.
pub const CLIENT_PORT: u16 = 68;

const LEASE: Duration = Duration::from_secs(24 * 3600);
const OPTION_HOST_NAME: u8 = 12;
const OPTION_MTU: u8 = 26;
/// Bytes of a message without options, and the least that some clients take (RFC 1542 §2.1).
const LEAST_MESSAGE: usize = 300;

struct Lease {
    card: MacAddress,
    until: Instant,
}

/// What the router has to do with its table of neighbours.
#[derive(Debug, PartialEq, Eq)]
pub enum Change {
    None,
    Leased(Ipv4Addr, Instant),
    Released(Ipv4Addr),
}

/// An answer, and where it goes.
pub struct Answer {
    pub message: Vec<u8>,
    pub to: Ipv4Addr,
}

pub struct Server {
    leases: BTreeMap<Ipv4Addr, Lease>,
    host_name: String,
    mtu: u16,
}

impl Server {
    pub fn new(host_name: String, mtu: u16) -> Self {
        Self { leases: BTreeMap::new(), host_name, mtu }
    }

    /// The address that `card` would get: the one it has, the one it wishes, or the lowest free one.
    fn address_for(&self, card: MacAddress, wish: Option<Ipv4Addr>, now: Instant) -> Option<Ipv4Addr> {
        let free = |address: &Ipv4Addr| {
            (FIRST_GUEST..=LAST_GUEST).contains(address)
                && self.leases.get(address).is_none_or(|lease| lease.card == card || lease.until <= now)
        };
        let held = self.leases.iter().find(|(_, lease)| lease.card == card).map(|(address, _)| *address);
        let candidates = held.into_iter().chain(wish);
        let all = (u32::from(FIRST_GUEST)..=u32::from(LAST_GUEST)).map(Ipv4Addr::from);
        candidates.chain(all).find(free)
    }

    /// Answers a message that came from the card `source`.
    pub fn answer(&mut self, message: &[u8], source: MacAddress, now: Instant) -> (Option<Answer>, Change) {
        let silence = (None, Change::None);
        let Ok(packet) = DhcpPacket::new_checked(message) else { return silence };
        let Ok(request) = DhcpRepr::parse(&packet) else { return silence };
        if MacAddress(request.client_hardware_address.0) != source {
            tracing::debug!("DHCP: a message for {} came from {source}", request.client_hardware_address);
            return silence;
        }
        let for_us = request.server_identifier.is_none_or(|server| server == ROUTER);
        let client = Some(request.client_ip).filter(|address| !address.is_unspecified());
        match request.message_type {
            DhcpMessageType::Discover => {
                let Some(address) = self.address_for(source, request.requested_ip, now) else {
                    tracing::debug!("DHCP: no address is left for {source}");
                    return silence;
                };
                (Some(self.compose(&request, DhcpMessageType::Offer, Some(address))), Change::None)
            }
            DhcpMessageType::Request if for_us => {
                let Some(wish) = request.requested_ip.or(client) else { return silence };
                if self.address_for(source, Some(wish), now) != Some(wish) {
                    return (Some(self.compose(&request, DhcpMessageType::Nak, None)), Change::None);
                }
                let until = now + LEASE;
                self.leases.insert(wish, Lease { card: source, until });
                (Some(self.compose(&request, DhcpMessageType::Ack, Some(wish))), Change::Leased(wish, until))
            }
            DhcpMessageType::Inform => (Some(self.compose(&request, DhcpMessageType::Ack, None)), Change::None),
            DhcpMessageType::Release if for_us => match client {
                Some(address) if self.leases.get(&address).is_some_and(|lease| lease.card == source) => {
                    self.leases.remove(&address);
                    (None, Change::Released(address))
                }
                _ => silence,
            },
            // The address is in use by somebody who did not ask: it goes to nobody for a while.
            DhcpMessageType::Decline if for_us => match request.requested_ip {
                Some(address) if self.leases.get(&address).is_some_and(|lease| lease.card == source) => {
                    let until = now + Duration::from_secs(600);
                    self.leases.insert(address, Lease { card: MacAddress([0; 6]), until });
                    (None, Change::Released(address))
                }
                _ => silence,
            },
            _ => silence,
        }
    }

    fn compose(&self, request: &DhcpRepr<'_>, kind: DhcpMessageType, address: Option<Ipv4Addr>) -> Answer {
        let mtu = self.mtu.to_be_bytes();
        let options = [
            DhcpOption { kind: OPTION_MTU, data: &mtu },
            DhcpOption { kind: OPTION_HOST_NAME, data: self.host_name.as_bytes() },
        ];
        let refused = kind == DhcpMessageType::Nak;
        let inform = request.message_type == DhcpMessageType::Inform;
        let answer = DhcpRepr {
            message_type: kind,
            transaction_id: request.transaction_id,
            secs: 0,
            client_hardware_address: EthernetAddress(request.client_hardware_address.0),
            client_ip: if refused { Ipv4Addr::UNSPECIFIED } else { request.client_ip },
            your_ip: address.unwrap_or(Ipv4Addr::UNSPECIFIED),
            server_ip: if refused { Ipv4Addr::UNSPECIFIED } else { ROUTER },
            router: (!refused).then_some(ROUTER),
            subnet_mask: (!refused).then_some(NETMASK),
            relay_agent_ip: Ipv4Addr::UNSPECIFIED,
            broadcast: request.broadcast,
            requested_ip: None,
            client_identifier: None,
            server_identifier: Some(ROUTER),
            parameter_request_list: None,
            dns_servers: (!refused).then(|| [NAME_SERVER].into_iter().collect()),
            max_size: None,
            lease_duration: (!refused && !inform).then_some(LEASE.as_secs() as u32),
            renew_duration: None,
            rebind_duration: None,
            additional_options: match (refused, self.host_name.is_empty()) {
                (true, _) => &[],
                (false, true) => &options[..1],
                (false, false) => &options,
            },
        };
        let mut message = vec![0; answer.buffer_len().max(LEAST_MESSAGE)];
        // Cannot fail: the buffer is as long as it says.
        let _ = answer.emit(&mut DhcpPacket::new_unchecked(&mut message[..]));
        // RFC 2131 §4.1: to the client's address if it has one; a client that has none may not take unicast yet.
        let to = if !request.client_ip.is_unspecified() && !refused { request.client_ip } else { Ipv4Addr::BROADCAST };
        Answer { message, to }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card(number: u8) -> MacAddress {
        MacAddress([0x52, 0x54, 0, 0, 0, number])
    }

    fn message(kind: DhcpMessageType, card: MacAddress, wish: Option<Ipv4Addr>) -> Vec<u8> {
        let repr = DhcpRepr {
            message_type: kind,
            transaction_id: 0x1234_5678,
            secs: 0,
            client_hardware_address: EthernetAddress(card.0),
            client_ip: if kind == DhcpMessageType::Release { wish.unwrap() } else { Ipv4Addr::UNSPECIFIED },
            your_ip: Ipv4Addr::UNSPECIFIED,
            server_ip: Ipv4Addr::UNSPECIFIED,
            router: None,
            subnet_mask: None,
            relay_agent_ip: Ipv4Addr::UNSPECIFIED,
            broadcast: false,
            requested_ip: wish,
            client_identifier: None,
            server_identifier: None,
            parameter_request_list: None,
            dns_servers: None,
            max_size: None,
            lease_duration: None,
            renew_duration: None,
            rebind_duration: None,
            additional_options: &[],
        };
        let mut bytes = vec![0; repr.buffer_len()];
        repr.emit(&mut DhcpPacket::new_unchecked(&mut bytes[..])).unwrap();
        bytes
    }

    fn ask(server: &mut Server, kind: DhcpMessageType, card: MacAddress, wish: Option<Ipv4Addr>) -> (Vec<u8>, Change) {
        let (answer, change) = server.answer(&message(kind, card, wish), card, Instant::now());
        (answer.map_or(Vec::new(), |answer| answer.message), change)
    }

    fn parse(message: &[u8]) -> (DhcpMessageType, Ipv4Addr) {
        let packet = DhcpPacket::new_checked(message).unwrap();
        let repr = DhcpRepr::parse(&packet).unwrap();
        (repr.message_type, repr.your_ip)
    }

    #[test]
    fn an_offer_tells_everything() {
        let mut server = Server::new("web".into(), 9000);
        let (offer, change) = ask(&mut server, DhcpMessageType::Discover, card(1), None);
        assert_eq!((parse(&offer), change), ((DhcpMessageType::Offer, FIRST_GUEST), Change::None));
        assert!(offer.len() >= 300);
        let packet = DhcpPacket::new_checked(&offer[..]).unwrap();
        assert_eq!(packet.transaction_id(), 0x1234_5678);
        let options: std::collections::HashMap<_, _> =
            packet.options().map(|option| (option.kind, option.data.to_vec())).collect();
        for (kind, data) in [
            (1, &[255, 255, 255, 0][..]),
            (3, &[10, 0, 2, 2]),
            (6, &[10, 0, 2, 3]),
            (12, b"web"),
            (26, &[0x23, 0x28]),
            (51, &[0, 1, 0x51, 0x80]),
            (54, &[10, 0, 2, 2]),
        ] {
            assert_eq!(options[&kind], data, "option {kind}");
        }
    }

    #[test]
    fn cards_keep_their_addresses_and_do_not_get_others() {
        let mut server = Server::new(String::new(), 1500);
        let second = Ipv4Addr::new(10, 0, 2, 16);
        let lease = |server: &mut Server, number, wish| ask(server, DhcpMessageType::Request, card(number), Some(wish));
        let (ack, change) = lease(&mut server, 1, FIRST_GUEST);
        assert_eq!(parse(&ack), (DhcpMessageType::Ack, FIRST_GUEST));
        assert!(matches!(change, Change::Leased(FIRST_GUEST, _)));
        assert_eq!(parse(&ask(&mut server, DhcpMessageType::Discover, card(1), None).0).1, FIRST_GUEST);
        assert_eq!(parse(&ask(&mut server, DhcpMessageType::Discover, card(2), Some(FIRST_GUEST)).0).1, second);
        for wish in [FIRST_GUEST, ROUTER, Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(10, 0, 2, 255)] {
            assert_eq!(parse(&lease(&mut server, 2, wish).0).0, DhcpMessageType::Nak);
        }
        // Another's lease cannot be given up for it, nor can a message speak for another card.
        assert_eq!(ask(&mut server, DhcpMessageType::Release, card(2), Some(FIRST_GUEST)).1, Change::None);
        let forged = message(DhcpMessageType::Release, card(1), Some(FIRST_GUEST));
        assert_eq!(server.answer(&forged, card(2), Instant::now()).1, Change::None);
        let released = ask(&mut server, DhcpMessageType::Release, card(1), Some(FIRST_GUEST)).1;
        assert_eq!(released, Change::Released(FIRST_GUEST));
        assert_eq!(parse(&lease(&mut server, 2, FIRST_GUEST).0).0, DhcpMessageType::Ack);
    }

    #[test]
    fn the_pool_is_all_there_is() {
        let mut server = Server::new(String::new(), 1500);
        for number in 0..=255 {
            let (offer, _) = ask(&mut server, DhcpMessageType::Discover, card(number), None);
            if offer.is_empty() {
                assert_eq!(number, 240);
                assert_eq!(server.leases.len(), 240);
                return;
            }
            let address = parse(&offer).1;
            assert_eq!(parse(&ask(&mut server, DhcpMessageType::Request, card(number), Some(address)).0).1, address);
        }
        panic!("the pool has no end");
    }
}
