//! The DHCP server (RFC 2131, options of RFC 2132).
//!
//! Each card gets an address of its own, the first one 10.0.2.15. An offer reserves nothing, and a request is taken
//! only for the card that sends it: a flood of either costs no more than the table, which holds at most one lease for
//! each address.
//!
//! A client that tells its host name is known by it: the first one who has a name keeps it as long as its lease. Leases
//! can be kept in a file, a line for each, for a server that takes over.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::net::Ipv4Addr;
use std::path::PathBuf;
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
/// Bytes of a lease file that are read.
const LARGEST_FILE: u64 = 64 << 10;
/// Bytes of a message without options, and the least that some clients take (RFC 1542 §2.1).
const LEAST_MESSAGE: usize = 300;

struct Lease {
    card: MacAddress,
    until: Instant,
    /// In lower case; empty if the client did not tell one, or another's.
    host_name: String,
}

/// Whether `name` is a host name of one label (RFC 1123 §2.1), or none at all.
pub fn is_host_name(name: &str) -> bool {
    name.len() <= 63
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-')
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
    file: Option<PathBuf>,
}

impl Server {
    /// A server that tells its clients `host_name`, or if that is empty, the names that they have told.
    pub fn new(host_name: String, mtu: u16) -> Self {
        Self { leases: BTreeMap::new(), host_name, mtu, file: None }
    }

    /// Goes on with the leases of a file, and keeps its own there. What the file does not hold is lost, no more.
    pub fn keep_in(&mut self, file: PathBuf, now: Instant) {
        let mut text = String::new();
        if let Ok(open) = File::open(&file) {
            // A file that is no text holds no leases.
            let _ = open.take(LARGEST_FILE).read_to_string(&mut text);
        }
        for line in text.lines() {
            let mut words = line.split(' ');
            let (Some(address), Some(card)) = (words.next(), words.next()) else { continue };
            let (Ok(address), Ok(card)) = (address.parse(), card.parse()) else { continue };
            let host_name = words.next().filter(|name| is_host_name(name)).unwrap_or_default().to_owned();
            if (FIRST_GUEST..=LAST_GUEST).contains(&address) {
                self.leases.insert(address, Lease { card, until: now + LEASE, host_name });
            }
        }
        self.file = Some(file);
    }

    fn write_file(&self) {
        let Some(file) = &self.file else { return };
        let line = |(address, lease): (&Ipv4Addr, &Lease)| format!("{address} {} {}\n", lease.card, lease.host_name);
        let text: String = self.leases.iter().map(line).collect();
        if let Err(error) = std::fs::write(file, text) {
            tracing::debug!("DHCP: {}: {error}", file.display());
        }
    }

    /// The cards with leases.
    pub fn leases(&self) -> impl Iterator<Item = (Ipv4Addr, MacAddress, Instant)> {
        self.leases.iter().map(|(address, lease)| (*address, lease.card, lease.until))
    }

    /// The address of the client with a host name.
    pub fn address_of(&self, host_name: &str, now: Instant) -> Option<Ipv4Addr> {
        let is_it = |lease: &Lease| {
            !lease.host_name.is_empty() && lease.until > now && lease.host_name.eq_ignore_ascii_case(host_name)
        };
        self.leases.iter().find(|(_, lease)| is_it(lease)).map(|(address, _)| *address)
    }

    /// The address that `card` would get: the one it has, the one it wishes, or the lowest free one.
    fn address_for(
        &self,
        card: MacAddress,
        wish: Option<Ipv4Addr>,
        taken: impl Fn(Ipv4Addr) -> bool,
        now: Instant,
    ) -> Option<Ipv4Addr> {
        let free = |address: &Ipv4Addr| {
            (FIRST_GUEST..=LAST_GUEST).contains(address)
                && !taken(*address)
                && self.leases.get(address).is_none_or(|lease| lease.card == card || lease.until <= now)
        };
        let held = self.leases.iter().find(|(_, lease)| lease.card == card).map(|(address, _)| *address);
        let candidates = held.into_iter().chain(wish);
        let all = (u32::from(FIRST_GUEST)..=u32::from(LAST_GUEST)).map(Ipv4Addr::from);
        candidates.chain(all).find(free)
    }

    /// Answers a message that came from the card `source`. `taken` tells which addresses are used by other cards, with a
    /// lease or without.
    pub fn answer(
        &mut self,
        message: &[u8],
        source: MacAddress,
        taken: impl Fn(Ipv4Addr) -> bool,
        now: Instant,
    ) -> (Option<Answer>, Change) {
        let silence = (None, Change::None);
        let Ok(packet) = DhcpPacket::new_checked(message) else { return silence };
        let Ok(request) = DhcpRepr::parse(&packet) else { return silence };
        if MacAddress(request.client_hardware_address.0) != source {
            tracing::debug!("DHCP: a message for {} came from {source}", request.client_hardware_address);
            return silence;
        }
        let for_us = request.server_identifier.is_none_or(|server| server == ROUTER);
        let told = packet.options().find(|option| option.kind == OPTION_HOST_NAME);
        let told = told.and_then(|option| std::str::from_utf8(option.data).ok()).unwrap_or_default();
        let told = if is_host_name(told) { told.to_ascii_lowercase() } else { String::new() };
        let client = Some(request.client_ip).filter(|address| !address.is_unspecified());
        match request.message_type {
            DhcpMessageType::Discover => {
                let Some(address) = self.address_for(source, request.requested_ip, taken, now) else {
                    tracing::debug!("DHCP: no address is left for {source}");
                    return silence;
                };
                (Some(self.compose(&request, DhcpMessageType::Offer, Some(address), &told)), Change::None)
            }
            DhcpMessageType::Request if for_us => {
                let Some(wish) = request.requested_ip.or(client) else { return silence };
                if self.address_for(source, Some(wish), taken, now) != Some(wish) {
                    return (Some(self.compose(&request, DhcpMessageType::Nak, None, "")), Change::None);
                }
                let until = now + LEASE;
                // Not another's name.
                let free = self.address_of(&told, now).is_none_or(|owner| owner == wish);
                let host_name = if free { told } else { String::new() };
                let ack = self.compose(&request, DhcpMessageType::Ack, Some(wish), &host_name);
                self.leases.insert(wish, Lease { card: source, until, host_name });
                self.write_file();
                (Some(ack), Change::Leased(wish, until))
            }
            DhcpMessageType::Inform => (Some(self.compose(&request, DhcpMessageType::Ack, None, &told)), Change::None),
            DhcpMessageType::Release if for_us => match client {
                Some(address) if self.leases.get(&address).is_some_and(|lease| lease.card == source) => {
                    self.leases.remove(&address);
                    self.write_file();
                    (None, Change::Released(address))
                }
                _ => silence,
            },
            // The address is in use by somebody who did not ask: it goes to nobody for a while.
            DhcpMessageType::Decline if for_us => match request.requested_ip {
                Some(address) if self.leases.get(&address).is_some_and(|lease| lease.card == source) => {
                    let until = now + Duration::from_secs(600);
                    let host_name = String::new();
                    self.leases.insert(address, Lease { card: MacAddress([0; 6]), until, host_name });
                    (None, Change::Released(address))
                }
                _ => silence,
            },
            _ => silence,
        }
    }

    fn compose(
        &self,
        request: &DhcpRepr<'_>,
        kind: DhcpMessageType,
        address: Option<Ipv4Addr>,
        told_name: &str,
    ) -> Answer {
        let mtu = self.mtu.to_be_bytes();
        let host_name = if self.host_name.is_empty() { told_name } else { &self.host_name };
        let options = [
            DhcpOption { kind: OPTION_MTU, data: &mtu },
            DhcpOption { kind: OPTION_HOST_NAME, data: host_name.as_bytes() },
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
            additional_options: match (refused, host_name.is_empty()) {
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
        let (answer, change) = server.answer(&message(kind, card, wish), card, |_| false, Instant::now());
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
        assert_eq!(server.answer(&forged, card(2), |_| false, Instant::now()).1, Change::None);
        let released = ask(&mut server, DhcpMessageType::Release, card(1), Some(FIRST_GUEST)).1;
        assert_eq!(released, Change::Released(FIRST_GUEST));
        assert_eq!(parse(&lease(&mut server, 2, FIRST_GUEST).0).0, DhcpMessageType::Ack);
    }

    /// A request that tells a host name.
    fn named(card: MacAddress, wish: Ipv4Addr, name: &str) -> Vec<u8> {
        let mut bytes = message(DhcpMessageType::Request, card, Some(wish));
        let end = bytes.iter().rposition(|byte| *byte == 0xff).unwrap();
        bytes.truncate(end);
        bytes.extend([OPTION_HOST_NAME, name.len() as u8]);
        bytes.extend(name.bytes());
        bytes.push(0xff);
        bytes
    }

    #[test]
    fn names_are_known_belong_to_the_first_and_outlive_the_server() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("leases");
        let now = Instant::now();
        let mut server = Server::new(String::new(), 1500);
        server.keep_in(file.clone(), now);
        let (web, thief) = (FIRST_GUEST, Ipv4Addr::new(10, 0, 2, 16));
        for (card_number, address, name) in [(1, web, "Web"), (2, thief, "web"), (2, thief, "a.b"), (2, thief, "a b\n")]
        {
            let (answer, _) =
                server.answer(&named(card(card_number), address, name), card(card_number), |_| false, now);
            let text = answer.unwrap().message;
            assert_eq!(text.windows(5).any(|window| window == b"\x0c\x03web"), card_number == 1);
        }
        assert_eq!((server.address_of("WEB", now), server.address_of("", now)), (Some(web), None));
        drop(server);

        let mut next = Server::new(String::new(), 1500);
        next.keep_in(file.clone(), now);
        assert_eq!(next.address_of("web", now), Some(web));
        assert_eq!(
            next.leases().map(|(address, card, _)| (address, card)).collect::<Vec<_>>(),
            [(web, card(1)), (thief, card(2))]
        );
        assert_eq!(next.address_of("web", now + LEASE), None, "for as long as the lease");
        std::fs::write(&file, b"10.0.2.15\n1.2.3.4 52:54:00:00:00:01\n10.0.2.17 x\n\xff").unwrap();
        next.keep_in(file, now);
        assert_eq!(next.leases().count(), 2, "nonsense is passed over");
    }

    #[test]
    fn addresses_in_use_are_not_offered() {
        let mut server = Server::new(String::new(), 1500);
        let taken = |address| address == FIRST_GUEST;
        let discover = message(DhcpMessageType::Discover, card(1), Some(FIRST_GUEST));
        let (answer, _) = server.answer(&discover, card(1), taken, Instant::now());
        assert_eq!(parse(&answer.unwrap().message).1, Ipv4Addr::new(10, 0, 2, 16));
        let request = message(DhcpMessageType::Request, card(1), Some(FIRST_GUEST));
        let (answer, change) = server.answer(&request, card(1), taken, Instant::now());
        assert_eq!((parse(&answer.unwrap().message).0, change), (DhcpMessageType::Nak, Change::None));
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
