//! Guests made by hand on one switch.

use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::os::unix::net::{UnixDatagram, UnixStream as Peer};
use std::path::Path;
use std::thread::sleep;

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, DhcpMessageType, DhcpPacket, DhcpRepr, EthernetAddress, EthernetFrame,
    EthernetProtocol, EthernetRepr, IpProtocol, Ipv4Packet, Ipv4Repr, UdpPacket, UdpRepr,
};

use super::super::offload;
use super::super::user::{FIRST_GUEST, NAME_SERVER, ROUTER};
use super::*;
use crate::backend::net::{ETHERNET_HEADER_SIZE, Frame, LARGEST_FRAME};

const PATIENCE: Duration = Duration::from_secs(60);
const NEXT_GUEST: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 16);

struct Guest {
    switch: Arc<Switch>,
    mac: MacAddress,
}

impl Guest {
    fn new(folder: &Path, host_name: &str) -> Self {
        let place = Place::within(&folder.join("vervet"), "lan").unwrap();
        let router = Configuration {
            host_name: host_name.into(),
            name_servers: Some(vec!["127.0.0.1:9".parse().unwrap()]),
            restrict: true,
            ..Configuration::default()
        };
        let switch = Switch::start_in(place, "lan", router).unwrap();
        let mac = switch.address();
        Self { switch, mac }
    }

    /// Sends a frame with `payload`.
    fn send_from(&self, source: MacAddress, to: MacAddress, kind: u16, payload: &[u8]) {
        let bytes = [&to.0[..], &source.0, &kind.to_be_bytes(), payload].concat();
        let mut frame = Some(Frame { bytes, ..Frame::default() });
        while let Some(refused) = frame.take() {
            frame = self.switch.send(refused).err();
        }
    }

    fn send(&self, to: MacAddress, text: &[u8]) {
        self.send_from(self.mac, to, 0x88b5, text);
    }

    /// Waits for a frame in which `find` finds something.
    #[track_caller]
    fn until<T>(&self, mut again: impl FnMut(), mut find: impl FnMut(&[u8]) -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            again();
            let attempt = Instant::now();
            while attempt.elapsed() < Duration::from_millis(200) {
                while let Some(frame) = self.switch.receive() {
                    let frames = offload::complete(frame).expect("a sound frame");
                    if let Some(found) = frames.iter().find_map(|frame| find(&frame.bytes)) {
                        return found;
                    }
                }
                sleep(Duration::from_micros(200));
            }
            assert!(start.elapsed() < PATIENCE, "it did not come");
        }
    }

    /// Sends `text` to `other` until it arrives.
    #[track_caller]
    fn reach(&self, other: &Guest, text: &[u8]) {
        other.until(|| self.send(other.mac, text), |bytes| (&bytes[14..] == text).then_some(()));
    }

    /// Asks for the router's address.
    #[track_caller]
    fn ask_router(&self, own: Ipv4Addr) {
        let arp = ArpRepr::EthernetIpv4 {
            operation: ArpOperation::Request,
            source_hardware_addr: EthernetAddress(self.mac.0),
            source_protocol_addr: own,
            target_hardware_addr: EthernetAddress([0; 6]),
            target_protocol_addr: ROUTER,
        };
        let mut bytes = vec![0; arp.buffer_len()];
        arp.emit(&mut ArpPacket::new_unchecked(&mut bytes));
        let ask = || self.send_from(self.mac, MacAddress::BROADCAST, 0x0806, &bytes);
        self.until(ask, |bytes| {
            (bytes[6..12] == ROUTER_MAC.0 && bytes[12..14] == [8, 6] && bytes[0..6] == self.mac.0).then_some(())
        });
    }

    /// Sends a datagram until one comes back from `port` in whose data `find` finds something.
    #[track_caller]
    fn ask<T>(&self, from: (Ipv4Addr, u16), to: (Ipv4Addr, u16), data: &[u8], find: impl Fn(&[u8]) -> Option<T>) -> T {
        let payload_len = 8 + data.len();
        let ip =
            Ipv4Repr { src_addr: from.0, dst_addr: to.0, next_header: IpProtocol::Udp, payload_len, hop_limit: 64 };
        let mut bytes = vec![0; 20 + payload_len];
        let mut packet = Ipv4Packet::new_unchecked(&mut bytes[..]);
        ip.emit(&mut packet, &ChecksumCapabilities::default());
        UdpRepr { src_port: from.1, dst_port: to.1 }.emit(
            &mut UdpPacket::new_unchecked(packet.payload_mut()),
            &from.0.into(),
            &to.0.into(),
            data.len(),
            |payload| payload.copy_from_slice(data),
            &ChecksumCapabilities::default(),
        );
        let target = if to.0 == Ipv4Addr::BROADCAST { MacAddress::BROADCAST } else { ROUTER_MAC };
        let ask = || self.send_from(self.mac, target, 0x0800, &bytes);
        self.until(ask, |bytes| {
            let packet = Ipv4Packet::new_checked(bytes.get(ETHERNET_HEADER_SIZE..)?).ok()?;
            let datagram = UdpPacket::new_checked(packet.payload()).ok()?;
            (datagram.src_port() == to.1).then(|| find(datagram.payload())).flatten()
        })
    }

    /// Asks for a lease.
    #[track_caller]
    fn lease(&self, wish: Ipv4Addr) -> DhcpMessageType {
        let request = DhcpRepr {
            message_type: DhcpMessageType::Request,
            transaction_id: u32::from_be_bytes(*self.mac.0.last_chunk().unwrap()),
            secs: 0,
            client_hardware_address: EthernetAddress(self.mac.0),
            client_ip: Ipv4Addr::UNSPECIFIED,
            your_ip: Ipv4Addr::UNSPECIFIED,
            server_ip: Ipv4Addr::UNSPECIFIED,
            router: None,
            subnet_mask: None,
            relay_agent_ip: Ipv4Addr::UNSPECIFIED,
            broadcast: true,
            requested_ip: Some(wish),
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
        let mut message = vec![0; request.buffer_len()];
        request.emit(&mut DhcpPacket::new_unchecked(&mut message[..])).unwrap();
        let find = |data: &[u8]| {
            let message = DhcpPacket::new_checked(data).ok()?;
            let answer = DhcpRepr::parse(&message).ok()?;
            (answer.transaction_id == request.transaction_id).then_some(answer.message_type)
        };
        self.ask((Ipv4Addr::UNSPECIFIED, 68), (Ipv4Addr::BROADCAST, 67), &message, find)
    }

    /// What the name server says `name` is.
    #[track_caller]
    fn look_up(&self, own: Ipv4Addr, name: &str) -> Option<Ipv4Addr> {
        // Each question has its number: a slow host is asked twice, and answers an earlier one late.
        let [.., high, low] = MacAddress::from_name(name).0;
        let mut query = vec![high, low, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, name.len() as u8];
        query.extend(name.bytes());
        query.extend([0, 0, 1, 0, 1]);
        self.ask((own, 4000), (NAME_SERVER, 53), &query, |answer| {
            if answer[..2] != query[..2] {
                return None;
            }
            let address = answer.last_chunk().map(|address: &[u8; 4]| Ipv4Addr::from(*address));
            Some(address.filter(|_| answer[7] == 1))
        })
    }
}

/// A guest of another program's, which speaks on the socket itself.
fn peer(folder: &Path) -> Peer {
    Peer::connect(folder.join("vervet/lan.sock")).unwrap()
}

/// A frame with `text`.
fn bare(to: MacAddress, from: MacAddress, text: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; ETHERNET_HEADER_SIZE];
    EthernetRepr {
        src_addr: EthernetAddress(from.0),
        dst_addr: EthernetAddress(to.0),
        ethertype: EthernetProtocol::Unknown(0x88b5),
    }
    .emit(&mut EthernetFrame::new_unchecked(&mut bytes[..]));
    bytes.extend_from_slice(text);
    bytes
}

/// The same as it goes over a stream.
fn framed(to: MacAddress, from: MacAddress, text: &[u8]) -> Vec<u8> {
    let bytes = bare(to, from, text);
    [&(bytes.len() as u32).to_be_bytes()[..], &bytes].concat()
}

/// A guest of another program's whose frames are datagrams.
struct DatagramGuest {
    socket: UnixDatagram,
    switch: PathBuf,
    mac: MacAddress,
}

impl DatagramGuest {
    fn new(folder: &Path, name: &str, mac: MacAddress) -> Self {
        let path = folder.join("vervet").join(name);
        // As QEMU does.
        let _ = std::fs::remove_file(&path);
        let socket = UnixDatagram::bind(path).unwrap();
        socket.set_nonblocking(true).unwrap();
        Self { socket, switch: folder.join("vervet/lan.dgram"), mac }
    }

    fn send_bytes(&self, bytes: &[u8]) {
        let start = Instant::now();
        // The queue is full, or the switch has no holder for the moment.
        while self.socket.send_to(bytes, &self.switch).is_err() {
            assert!(start.elapsed() < PATIENCE, "nobody takes it");
            sleep(Duration::from_micros(200));
        }
    }

    fn send(&self, to: MacAddress, text: &[u8]) {
        self.send_bytes(&bare(to, self.mac, text));
    }

    /// Waits for a frame with `text` for this guest from `from`; what else comes may not be forged.
    #[track_caller]
    fn until(&self, mut again: impl FnMut(), from: MacAddress, text: &[u8]) {
        let (start, mut buffer) = (Instant::now(), [0; 2048]);
        let expected = bare(self.mac, from, text);
        loop {
            again();
            let attempt = Instant::now();
            while attempt.elapsed() < Duration::from_millis(200) {
                match self.socket.recv(&mut buffer) {
                    Ok(length) if buffer[..length] == expected => return,
                    Ok(length) => assert!(!buffer[..length].ends_with(b"forged")),
                    Err(_) => sleep(Duration::from_micros(200)),
                }
            }
            assert!(start.elapsed() < PATIENCE, "it did not come");
        }
    }

    /// Has `guest` send something here until it arrives.
    #[track_caller]
    fn hear(&self, guest: &Guest, text: &[u8]) {
        self.until(|| guest.send(self.mac, text), guest.mac, text);
    }

    /// Sends something to `guest` until it arrives.
    #[track_caller]
    fn reach(&self, guest: &Guest, text: &[u8]) {
        guest.until(|| self.send(guest.mac, text), |bytes| (bytes == bare(guest.mac, self.mac, text)).then_some(()));
    }
}

#[test]
fn one_router_serves_all_guests_and_knows_their_names() {
    let folder = tempfile::tempdir().unwrap();
    let (web, base) = (Guest::new(folder.path(), "web"), Guest::new(folder.path(), "database"));
    assert_ne!(web.mac, base.mac);
    assert_eq!(base.lease(FIRST_GUEST), DhcpMessageType::Ack);
    assert_eq!(web.lease(FIRST_GUEST), DhcpMessageType::Nak, "the other one has it");
    assert_eq!(web.lease(NEXT_GUEST), DhcpMessageType::Ack);
    assert_eq!(web.look_up(NEXT_GUEST, "database"), Some(FIRST_GUEST));
    assert_eq!(base.look_up(FIRST_GUEST, "WEB"), Some(NEXT_GUEST));
    assert_eq!(base.look_up(FIRST_GUEST, "nobody"), None);
    web.reach(&base, b"from the holder");
    base.reach(&web, b"to the holder");
}

#[test]
fn a_switch_survives_each_of_its_guests() {
    let folder = tempfile::tempdir().unwrap();
    let mut guests: Vec<_> = ["a", "b", "c"].map(|name| Guest::new(folder.path(), name)).into();
    assert_eq!(guests[2].lease(FIRST_GUEST), DhcpMessageType::Ack);
    for round in 0..3u8 {
        // The first guest holds the switch; then one of the two that are left does.
        let gone = guests.remove(0);
        let number = gone.mac;
        drop(gone);
        let start = Instant::now();
        guests[0].reach(&guests[1], b"still there");
        guests[1].reach(&guests[0], b"so am I");
        println!("round {round}: reached after {:?}", start.elapsed());
        guests[0].ask_router(Ipv4Addr::new(10, 0, 2, 30 + round));
        if round < 2 {
            assert_eq!(guests[1 - usize::from(round)].look_up(Ipv4Addr::new(10, 0, 2, 20), "c"), Some(FIRST_GUEST));
        }
        let next = Guest::new(folder.path(), "again");
        assert_eq!(next.mac, number, "the free number is the next one's");
        guests.push(next);
        guests[2].reach(&guests[0], b"back");
    }
}

#[test]
fn peers_of_other_programs_join_and_cannot_do_harm() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (Guest::new(folder.path(), ""), Guest::new(folder.path(), ""));
    first.reach(&second, b"known");
    second.reach(&first, b"known");

    let own = MacAddress([2; 6]);
    let mut good = peer(folder.path());
    good.write_all(&framed(first.mac, own, b"hello")).unwrap();
    first.until(|| {}, |bytes| (&bytes[14..] == b"hello" && bytes[6..12] == own.0).then_some(()));
    first.send(own, b"welcome");
    let expected = framed(own, first.mac, b"welcome");
    let mut answer = vec![0; expected.len()];
    good.set_read_timeout(Some(PATIENCE)).unwrap();
    // Groups and what was flooded before may come first.
    let mut all = Vec::new();
    while !all.windows(expected.len()).any(|window| window == expected) {
        let count = good.read(&mut answer).unwrap();
        all.extend_from_slice(&answer[..count]);
    }

    let mut hostile: Vec<Peer> = (0..4).map(|_| peer(folder.path())).collect();
    hostile[0].write_all(&[0xff; 4096]).unwrap();
    hostile[1].write_all(&framed(first.mac, second.mac, b"forged")).unwrap();
    hostile[1].write_all(&framed(first.mac, ROUTER_MAC, b"forged")).unwrap();
    hostile[1].write_all(&framed(first.mac, MacAddress::BROADCAST, b"forged")).unwrap();
    hostile[1].write_all(&framed(first.mac, MacAddress([4; 6]), b"last")).unwrap();
    hostile[2].write_all(&framed(first.mac, own, b"half")[..9]).unwrap();
    first.until(
        || {},
        |bytes| {
            assert_ne!(&bytes[14..], b"forged");
            (&bytes[14..] == b"last").then_some(())
        },
    );
    // One who takes nothing while it is flooded with what is for it, and for all.
    hostile[3].write_all(&framed(first.mac, MacAddress([6; 6]), b"mine")).unwrap();
    first.until(|| {}, |bytes| (&bytes[14..] == b"mine").then_some(()));
    for number in 0..5000 {
        second.send(if number % 2 == 0 { MacAddress([6; 6]) } else { MacAddress::BROADCAST }, &[7; 1400]);
        while first.switch.receive().is_some() {}
    }
    second.reach(&first, b"alive");
    hostile[0].set_read_timeout(Some(PATIENCE)).unwrap();
    let mut rest = Vec::new();
    assert!(hostile[0].read_to_end(&mut rest).is_ok_and(|count| count < 64 << 20), "cut off");
    drop(hostile);
    first.ask_router(NEXT_GUEST);
    second.ask_router(FIRST_GUEST);
}

#[test]
fn many_join_at_once_and_only_one_holds() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_path_buf();
    let starting: Vec<_> = (0..8)
        .map(|_| {
            let path = path.clone();
            std::thread::spawn(move || Guest::new(&path, ""))
        })
        .collect();
    let guests: Vec<_> = starting.into_iter().map(|thread| thread.join().unwrap()).collect();
    let addresses: std::collections::BTreeSet<_> = guests.iter().map(|guest| guest.mac).collect();
    assert_eq!(addresses.len(), 8);
    for guest in &guests[1..] {
        guests[0].reach(guest, b"one");
        guest.reach(&guests[0], b"all");
    }
}

#[test]
fn peers_that_send_datagrams_join_and_talk() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (Guest::new(folder.path(), ""), Guest::new(folder.path(), ""));
    let [one, other] = [3, 5].map(|number| {
        DatagramGuest::new(folder.path(), &format!("lan.{number}.peer"), MacAddress([2, 0, 0, 0, 0, number]))
    });
    // The holder's guest, and one that is connected to it.
    one.reach(&first, b"to the holder");
    one.reach(&second, b"to a stream");
    one.hear(&first, b"from the holder");
    one.hear(&second, b"from a stream");
    // What nobody knows yet goes everywhere, to those who have said something.
    other.send(MacAddress::BROADCAST, b"I am here");
    other.until(|| one.send(other.mac, b"one"), one.mac, b"one");
    one.until(|| other.send(one.mac, b"other"), other.mac, b"other");
    // What is known goes to its port alone.
    one.send(first.mac, b"for the holder only");
    other.until(|| one.send(other.mac, b"after it"), one.mac, b"after it");
    let mut buffer = [0; 2048];
    while let Ok(length) = other.socket.recv(&mut buffer) {
        assert!(!buffer[..length].ends_with(b"only"));
    }
}

#[test]
fn peers_that_send_datagrams_outlive_the_holder_and_come_again() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (Guest::new(folder.path(), ""), Guest::new(folder.path(), ""));
    let mac = MacAddress([2, 0, 0, 0, 0, 3]);
    let peer = DatagramGuest::new(folder.path(), "lan.a.peer", mac);
    peer.reach(&first, b"joined");
    // One that has never said a word.
    let silent = DatagramGuest::new(folder.path(), "lan.silent.peer", MacAddress([2, 0, 0, 0, 0, 9]));
    drop(first);
    silent.hear(&second, b"found by its name");
    peer.hear(&second, b"known without a word");
    peer.reach(&second, b"still there");

    // Started again: at its path, and at another one, where its address was first another port's.
    drop(peer);
    let peer = DatagramGuest::new(folder.path(), "lan.a.peer", mac);
    peer.hear(&second, b"again");
    drop(peer);
    let peer = DatagramGuest::new(folder.path(), "lan.b.peer", mac);
    peer.reach(&second, b"elsewhere");
    peer.hear(&second, b"found there");
}

#[test]
fn peers_that_send_datagrams_cannot_do_harm() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (Guest::new(folder.path(), ""), Guest::new(folder.path(), ""));
    first.reach(&second, b"known");
    second.reach(&first, b"known");
    let good = DatagramGuest::new(folder.path(), "lan.good.peer", MacAddress([2; 6]));
    good.reach(&first, b"known");

    let own = MacAddress([4; 6]);
    let hostile = DatagramGuest::new(folder.path(), "lan.hostile.peer", own);
    for bytes in [&[][..], &[0xff; 1], &[2; 13], &[0xff; LARGEST_FRAME + 1], &[0; 14], &[0xff; LARGEST_FRAME]] {
        hostile.send_bytes(bytes);
    }
    for forged in [second.mac, good.mac, ROUTER_MAC, MacAddress::BROADCAST] {
        hostile.send_bytes(&bare(first.mac, forged, b"forged"));
        hostile.send_bytes(&bare(good.mac, forged, b"forged"));
    }
    // Those whom nobody could answer, and whose names are not of this switch's.
    let nameless = UnixDatagram::unbound().unwrap();
    nameless.send_to(&bare(first.mac, own, b"forged"), &hostile.switch).unwrap();
    for name in ["other.a.peer", "lan.sock.x", "../lan.a.peer"] {
        DatagramGuest::new(folder.path(), name, own).send(first.mac, b"forged");
    }
    hostile.send(first.mac, b"last");
    first.until(
        || {},
        |bytes| {
            assert!(!bytes.ends_with(b"forged"));
            bytes.ends_with(b"last").then_some(())
        },
    );
    good.until(|| second.send(good.mac, b"alive"), second.mac, b"alive");

    // It takes nothing while it is flooded with what is for it, and for all; and floods those who take.
    for number in 0..5000 {
        second.send(if number % 2 == 0 { own } else { MacAddress::BROADCAST }, &[7; 1400]);
        let _ = hostile.socket.send_to(&bare(MacAddress::BROADCAST, own, &[7; 1400]), &hostile.switch);
        while first.switch.receive().is_some() {}
        while second.switch.receive().is_some() {}
    }
    second.reach(&first, b"alive");
    good.reach(&first, b"alive");
    good.hear(&second, b"alive, too");
    first.ask_router(NEXT_GUEST);
    second.ask_router(FIRST_GUEST);
}

#[test]
fn ports_are_bounded_and_those_of_the_gone_are_given_again() {
    let folder = tempfile::tempdir().unwrap();
    let first = Guest::new(folder.path(), "");
    let guest = |number: u8, kind: &str| {
        DatagramGuest::new(folder.path(), &format!("lan.{kind}{number}.peer"), MacAddress([2, 0, 0, 0, 1, number]))
    };
    // The holder's card and the router have ports, too.
    let all: Vec<_> = (0..MOST_PORTS as u8 - 2).map(|number| guest(number, "")).collect();
    for peer in &all {
        peer.reach(&first, b"joined");
    }
    let late = guest(200, "late");
    late.send(first.mac, b"forged");
    all[0].send(first.mac, b"full");
    first.until(
        || {},
        |bytes| {
            assert!(!bytes.ends_with(b"forged"));
            bytes.ends_with(b"full").then_some(())
        },
    );
    // Nothing is sent to the one that goes.
    drop(all);
    late.reach(&first, b"there is room");
    late.hear(&first, b"there is");
}
