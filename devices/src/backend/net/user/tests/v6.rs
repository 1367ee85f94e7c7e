//! The same network by IPv6.

use std::net::Ipv6Addr;

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    EthernetRepr, Icmpv6Message, Icmpv6Packet, Icmpv6Repr, Ipv6Packet, Ipv6Repr, NdiscNeighborFlags, NdiscRepr,
};

use super::super::ip::{IPV6_HEADER_SIZE, Packet};
use super::super::ipv6::{NAME_SERVER_V6, ROUTER_LINK_LOCAL, ROUTER_V6};
use super::*;

const GUEST: Ipv6Addr = Ipv6Addr::new(0xfd76, 0x6572, 0x7665, 2, 0x5054, 0xff, 0xfe01, 0x203);
const GUEST_LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0x5054, 0xff, 0xfe01, 0x203);
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);

impl Guest {
    /// A guest that has taken an address of the network's.
    fn new_v6(configuration: Configuration) -> Self {
        let mut guest = Self::unconfigured(configuration);
        guest.interface.update_ip_addrs(|addresses| {
            addresses.push(IpCidr::new(GUEST.into(), 64)).unwrap();
            addresses.push(IpCidr::new(GUEST_LINK_LOCAL.into(), 64)).unwrap();
        });
        guest.interface.routes_mut().add_default_ipv6_route(ROUTER_LINK_LOCAL).unwrap();
        guest
    }

    fn connect_v6(&mut self, address: Ipv6Addr, port: u16) -> SocketHandle {
        let handle = self.tcp_socket();
        self.next_port += 1;
        let socket = self.sockets.get_mut::<guest_tcp::Socket>(handle);
        socket.connect(self.interface.context(), (IpAddress::Ipv6(address), port), self.next_port).unwrap();
        handle
    }

    /// Sends an ICMPv6 message.
    fn icmpv6(&self, from: Ipv6Addr, to: Ipv6Addr, hop_limit: u8, message: Icmpv6Repr<'_>) {
        let mut bytes = vec![0; ETHERNET_HEADER_SIZE + IPV6_HEADER_SIZE + message.buffer_len()];
        EthernetRepr {
            src_addr: EthernetAddress(MAC.0),
            dst_addr: EthernetAddress(ROUTER_MAC.0),
            ethertype: EthernetProtocol::Ipv6,
        }
        .emit(&mut EthernetFrame::new_unchecked(&mut bytes));
        let header = Ipv6Repr {
            src_addr: from,
            dst_addr: to,
            next_header: IpProtocol::Icmpv6,
            payload_len: message.buffer_len(),
            hop_limit,
        };
        let mut packet = Ipv6Packet::new_unchecked(&mut bytes[ETHERNET_HEADER_SIZE..]);
        header.emit(&mut packet);
        let mut payload = Icmpv6Packet::new_unchecked(packet.payload_mut());
        message.emit(&from, &to, &mut payload, &ChecksumCapabilities::default());
        self.network.send(Frame { bytes, ..Frame::default() }).unwrap();
    }

    /// The next ICMPv6 packet for the guest, whose checksum is right: source, destination, hop limit and message.
    fn icmpv6_answer(&self) -> Option<(Ipv6Addr, Ipv6Addr, u8, Vec<u8>)> {
        let frame = self.network.receive()?;
        let bytes = &frame.bytes[ETHERNET_HEADER_SIZE..];
        let Packet { source: IpAddr::V6(from), destination: IpAddr::V6(to), protocol, payload, .. } =
            Packet::parse(bytes)?
        else {
            return None;
        };
        assert_eq!(protocol, IpProtocol::Icmpv6);
        assert!(Icmpv6Packet::new_checked(payload).unwrap().verify_checksum(&from, &to));
        Some((from, to, Ipv6Packet::new_unchecked(bytes).hop_limit(), payload.into()))
    }

    #[track_caller]
    fn wait_icmpv6(&self) -> (Ipv6Addr, Ipv6Addr, u8, Vec<u8>) {
        let start = Instant::now();
        loop {
            if let Some(answer) = self.icmpv6_answer() {
                return answer;
            }
            assert!(start.elapsed() < PATIENCE, "no answer came");
            sleep(Duration::from_micros(50));
        }
    }
}

fn lladdr() -> Option<smoltcp::wire::RawHardwareAddress> {
    Some(EthernetAddress(MAC.0).into())
}

#[test]
fn the_router_advertises_itself_to_who_asks() {
    let guest = Guest::unconfigured(Configuration { mtu: 1400, ..closed() });
    for (from, to) in [(GUEST_LINK_LOCAL, GUEST_LINK_LOCAL), (Ipv6Addr::UNSPECIFIED, "ff02::1".parse().unwrap())] {
        let lladdr = if from.is_unspecified() { None } else { lladdr() };
        let question = Icmpv6Repr::Ndisc(NdiscRepr::RouterSolicit { lladdr });
        // One that comes from further away is none.
        guest.icmpv6(from, ALL_ROUTERS, 254, question);
        guest.icmpv6(from, ALL_ROUTERS, 255, question);
        let (source, destination, hop_limit, message) = guest.wait_icmpv6();
        assert_eq!((source, destination, hop_limit), (ROUTER_LINK_LOCAL, to, 255));
        let NdiscRepr::RouterAdvert { router_lifetime, mtu, prefix_info: Some(prefix), .. } =
            NdiscRepr::parse(&Icmpv6Packet::new_checked(&message[..]).unwrap()).unwrap()
        else {
            panic!()
        };
        assert_eq!((router_lifetime.secs(), mtu), (1800, Some(1400)));
        assert!(prefix.is_valid_prefix_info() && prefix.prefix_len == 64);
        assert_eq!(prefix.prefix.segments()[..4], GUEST.segments()[..4]);
        let servers = [&[25, 3, 0, 0][..], &1800u32.to_be_bytes(), &NAME_SERVER_V6.octets()].concat();
        assert!(message.windows(24).any(|option| option == servers), "the name server (RFC 8106)");
        sleep(Duration::from_millis(20));
        assert_eq!(guest.icmpv6_answer(), None);
    }
}

#[test]
fn the_router_s_addresses_are_found_and_taken() {
    let guest = Guest::unconfigured(closed());
    for target_addr in [ROUTER_V6, NAME_SERVER_V6, ROUTER_LINK_LOCAL] {
        let ask = |from: Ipv6Addr| {
            let lladdr = if from.is_unspecified() { None } else { lladdr() };
            guest.icmpv6(from, target_addr, 255, Icmpv6Repr::Ndisc(NdiscRepr::NeighborSolicit { target_addr, lladdr }));
            let (source, destination, _, message) = guest.wait_icmpv6();
            assert_eq!(source, target_addr);
            let answer = NdiscRepr::parse(&Icmpv6Packet::new_checked(&message[..]).unwrap()).unwrap();
            let NdiscRepr::NeighborAdvert { flags, target_addr: told, lladdr } = answer else { panic!() };
            assert_eq!((told, lladdr.unwrap().as_bytes()), (target_addr, &ROUTER_MAC.0[..]));
            (destination, flags.contains(NdiscNeighborFlags::SOLICITED))
        };
        assert_eq!(ask(GUEST), (GUEST, true));
        assert_eq!(ask(Ipv6Addr::UNSPECIFIED), ("ff02::1".parse().unwrap(), false), "the address is not free");
    }
    let target_addr = GUEST;
    let question = NdiscRepr::NeighborSolicit { target_addr, lladdr: None };
    guest.icmpv6(Ipv6Addr::UNSPECIFIED, target_addr, 255, Icmpv6Repr::Ndisc(question));
    sleep(Duration::from_millis(20));
    assert_eq!(guest.icmpv6_answer(), None, "it does not speak for others");
}

#[test]
fn pings_reach_the_router_and_only_from_who_may_be_there() {
    let guest = Guest::unconfigured(Configuration { restrict: true, ..closed() });
    let ping = |from, to, seq_no| {
        guest.icmpv6(from, to, 64, Icmpv6Repr::EchoRequest { ident: 7, seq_no, data: b"hello" });
    };
    for stranger in ["2001:db8::1", "::1", "fd76:6572:7665:2::2", "fd76:6572:7665:3::9", "::"] {
        ping(stranger.parse().unwrap(), ROUTER_V6, 1);
    }
    for (from, to) in [(GUEST, ROUTER_V6), (GUEST, NAME_SERVER_V6), (GUEST_LINK_LOCAL, ROUTER_LINK_LOCAL)] {
        ping(from, to, 2);
        let (source, destination, _, message) = guest.wait_icmpv6();
        assert_eq!((source, destination, &message[4..]), (to, from, &b"\0\x07\0\x02hello"[..]));
        assert_eq!(message[0], u8::from(Icmpv6Message::EchoReply));
    }
    // Where the outside is closed, nobody is pinged for the guest, which is told so.
    ping(GUEST, "2001:db8::1".parse().unwrap(), 3);
    let (source, _, _, message) = guest.wait_icmpv6();
    assert_eq!((source, &message[..2]), (ROUTER_V6, &[1, 1][..]));
    assert!(message.ends_with(b"hello"));
}

#[test]
fn names_are_asked_for_by_ipv6() {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = server.local_addr().unwrap();
    let mut guest = Guest::new_v6(Configuration { name_servers: Some(vec![address]), ..closed() });
    let handle = guest.udp_socket(5000);
    let query = [&[1, 2, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0][..], b"\x07example\0\0\x1c\0\x01"].concat();
    let socket = guest.sockets.get_mut::<guest_udp::Socket>(handle);
    socket.send_slice(&query, (IpAddress::Ipv6(NAME_SERVER_V6), 53)).unwrap();
    let (asked, from) = guest.host_receives(&server);
    assert_eq!(asked, query);
    let mut answer = query;
    answer[2] |= 0x80;
    server.send_to(&answer, from).unwrap();
    guest.until("an answer", |guest| {
        let (bytes, from) = guest.sockets.get_mut::<guest_udp::Socket>(handle).recv().ok()?;
        assert_eq!((bytes, from.endpoint.addr), (&answer[..], IpAddress::Ipv6(NAME_SERVER_V6)));
        Some(())
    });
}

#[test]
fn connections_and_datagrams_pass_where_the_host_has_ipv6() {
    let Ok(listener) = TcpListener::bind("[::1]:0") else {
        eprintln!("skipped: the host has no IPv6");
        return;
    };
    let port = listener.local_addr().unwrap().port();
    let mut guest = Guest::new_v6(open());
    let host = spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut received = vec![0; 1 << 20];
        stream.read_exact(&mut received).unwrap();
        stream.write_all(&received).unwrap();
    });
    let handle = guest.connect_v6(ROUTER_V6, port);
    guest.established(handle);
    let bytes = noise(1 << 20);
    guest.send(handle, &bytes);
    assert!(guest.receive_all(handle) == bytes);
    guest.join(host);

    let echo = UdpSocket::bind("[::1]:0").unwrap();
    let handle = guest.udp_socket(5001);
    let target = (IpAddress::Ipv6(ROUTER_V6), echo.local_addr().unwrap().port());
    guest.sockets.get_mut::<guest_udp::Socket>(handle).send_slice(b"hello", target).unwrap();
    let (bytes, from) = guest.host_receives(&echo);
    assert_eq!(bytes, b"hello");
    echo.send_to(b"answer", from).unwrap();
    guest.until("an answer", |guest| {
        let (bytes, from) = guest.sockets.get_mut::<guest_udp::Socket>(handle).recv().ok()?;
        assert_eq!((bytes, from.endpoint.addr, from.endpoint.port), (&b"answer"[..], target.0, target.1));
        Some(())
    });
}

#[test]
fn datagrams_over_ipv6_that_the_guest_leaves_to_be_cut_arrive_one_by_one() {
    let Ok(server) = UdpSocket::bind("[::1]:0") else {
        eprintln!("skipped: the host has no IPv6");
        return;
    };
    let mut guest = Guest::new_v6(open());
    let port = server.local_addr().unwrap().port();
    let data = noise(2500);
    let length = (8 + data.len() as u16).to_be_bytes();
    let ethernet = [&ROUTER_MAC.0[..], &MAC.0, &[0x86, 0xdd]].concat();
    let header = [&[0x60, 0, 0, 0][..], &length, &[17, 64], &GUEST.octets(), &ROUTER_V6.octets()].concat();
    let udp = [&5001u16.to_be_bytes()[..], &port.to_be_bytes(), &length, &[0, 0]].concat();
    let checksum = Some(PartialChecksum { start: 54, offset: 6 });
    let bytes = [ethernet, header, udp, data.clone()].concat();
    guest.network.send(Frame { bytes, offload: Offload { checksum, segment_size: Some(1000) } }).unwrap();
    for piece in data.chunks(1000) {
        assert!(guest.host_receives(&server).0 == piece);
    }
}

#[test]
fn what_was_not_opened_is_refused_by_ipv6_too() {
    let Ok(listener) = TcpListener::bind("[::1]:0") else {
        eprintln!("skipped: the host has no IPv6");
        return;
    };
    let port = listener.local_addr().unwrap().port();
    let mut guest = Guest::new_v6(closed());
    let handle = guest.connect_v6(ROUTER_V6, port);
    guest.until("a reset", |guest| (guest.tcp(handle).state() == guest_tcp::State::Closed).then_some(()));
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err());
}

#[test]
fn forwards_lead_to_addresses_of_ipv6() {
    for (address, router) in [(GUEST, ROUTER_V6), (GUEST_LINK_LOCAL, ROUTER_LINK_LOCAL)] {
        let forward = |text: String| text.parse().unwrap();
        let forwards = ["tcp", "udp"].map(|protocol| forward(format!("{protocol}:127.0.0.1:0-[{address}]:22"))).into();
        let mut guest = Guest::new_v6(Configuration { forwards, restrict: true, ..closed() });
        let [tcp, udp] = guest.network.forwards() else { panic!() };
        let (tcp, udp) = (tcp.host, udp.host);

        let handle = guest.tcp_socket();
        guest.tcp(handle).listen(22).unwrap();
        let bytes = noise(300_000);
        let host = exchange(tcp, bytes.clone());
        guest.established(handle);
        assert_eq!(guest.tcp(handle).remote_endpoint().unwrap().addr, IpAddress::Ipv6(router));
        assert!(guest.receive_all(handle) == bytes);
        guest.send(handle, b"answer");
        guest.tcp(handle).close();
        assert_eq!(guest.join(host), b"answer");

        let handle = guest.udp_socket(22);
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        peer.send_to(b"hello", udp).unwrap();
        let from = guest.until("a datagram", |guest| {
            let (bytes, from) = guest.sockets.get_mut::<guest_udp::Socket>(handle).recv().ok()?;
            assert_eq!((bytes, from.endpoint.addr), (&b"hello"[..], IpAddress::Ipv6(router)));
            Some(from.endpoint)
        });
        guest.sockets.get_mut::<guest_udp::Socket>(handle).send_slice(b"answer", from).unwrap();
        assert_eq!(guest.host_receives(&peer), (b"answer".to_vec(), udp));
    }
}

#[test]
fn fragments_of_ipv6_pass_both_ways() {
    let Ok(server) = UdpSocket::bind("[::1]:0") else {
        eprintln!("skipped: the host has no IPv6");
        return;
    };
    server.set_read_timeout(Some(PATIENCE)).unwrap();
    let guest = Guest::new_v6(open());
    let port = server.local_addr().unwrap().port();
    let data = noise(4000);
    // What the network itself sends in fragments is well-formed for its own reassembly.
    let (link, end) = crate::backend::net::Link::new(1500, || {});
    let mut output = super::super::output::Output::new(end, 1500);
    assert!(output.learn(GUEST, MAC, Instant::now()));
    output.datagram((ROUTER_V6, port), (GUEST, 9), &data);
    let mut fragments = Vec::new();
    while let Some(mut frame) = link.receive() {
        frame.bytes[..6].copy_from_slice(&ROUTER_MAC.0);
        frame.bytes[6..12].copy_from_slice(&MAC.0);
        fragments.push(frame);
    }
    let expected: Vec<_> = fragments.iter().map(|frame| frame.bytes[ETHERNET_HEADER_SIZE..].to_vec()).collect();
    assert_eq!(expected.len(), 3);
    let back = |frame: &mut Frame| {
        let (first, second) = frame.bytes[ETHERNET_HEADER_SIZE + 8..][..32].split_at_mut(16);
        first.swap_with_slice(second);
    };
    for frame in fragments.iter_mut().rev() {
        back(frame);
    }
    // Ports: the datagram's header is in the first fragment.
    let ports = ETHERNET_HEADER_SIZE + IPV6_HEADER_SIZE + 8;
    fragments[0].bytes[ports..ports + 4].rotate_left(2);
    fragments.rotate_left(1);
    for frame in fragments {
        guest.network.send(frame).unwrap();
    }
    let mut buffer = vec![0; 5000];
    let (length, from) = server.recv_from(&mut buffer).unwrap();
    assert!(buffer[..length] == data);
    server.send_to(&data, from).unwrap();
    let mut answers = Vec::new();
    let start = Instant::now();
    while answers.len() < 3 {
        assert!(start.elapsed() < PATIENCE, "the fragments did not come");
        match guest.network.receive() {
            Some(frame) if frame.bytes[ETHERNET_HEADER_SIZE + 6] == 44 => answers.push(frame.bytes),
            _ => sleep(Duration::from_millis(1)),
        }
    }
    for (answer, expected) in answers.iter().zip(&expected) {
        let (answer, ident) = (&answer[ETHERNET_HEADER_SIZE..], IPV6_HEADER_SIZE + 4..IPV6_HEADER_SIZE + 8);
        assert!(answer[..ident.start] == expected[..ident.start] && answer[ident.end..] == expected[ident.end..]);
    }
}
