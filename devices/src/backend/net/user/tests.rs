//! The network as a guest sees it: a guest's stack on one end of the cable, sockets of the host's loopback on the other.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::thread::{JoinHandle, sleep, spawn};

use sha2::{Digest, Sha256};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::{dhcpv4, icmp, tcp as guest_tcp, udp as guest_udp};
use smoltcp::wire::{
    EthernetAddress, HardwareAddress, Icmpv4Repr, IpAddress, IpCidr, Ipv4Repr, TcpPacket, TcpSeqNumber,
};

use super::super::{ETHERNET_HEADER_SIZE, NetworkBackend, Offload, PartialChecksum, offload};
use super::*;

mod v6;

const MAC: MacAddress = MacAddress([0x52, 0x54, 0, 1, 2, 3]);
const PATIENCE: Duration = Duration::from_secs(60);

/// The guest's card: does in software what the network leaves to it.
struct Card {
    network: Arc<dyn NetworkBackend>,
    waiting: VecDeque<Frame>,
    mtu: usize,
    /// The largest segment that was left to the card to cut.
    largest: usize,
}

struct Received(Vec<u8>);
struct Transmit(Arc<dyn NetworkBackend>);

impl RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl TxToken for Transmit {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, f: F) -> R {
        let mut frame = Frame { bytes: vec![0; length], ..Frame::default() };
        let result = f(&mut frame.bytes);
        // A driver would keep it; the guest's stack sends it again.
        let _ = self.0.send(frame);
        result
    }
}

impl Device for Card {
    type RxToken<'a> = Received;
    type TxToken<'a> = Transmit;

    fn receive(&mut self, _: smoltcp::time::Instant) -> Option<(Received, Transmit)> {
        if self.waiting.is_empty() {
            let mut frame = self.network.receive()?;
            self.largest = self.largest.max(frame.bytes.len());
            match frame.offload.segment_size {
                Some(_) => self.waiting.extend(offload::segment(&frame).expect("a large segment")),
                None => {
                    offload::complete_checksum(&mut frame).expect("a checksum inside");
                    self.waiting.push_back(frame);
                }
            }
        }
        let frame = self.waiting.pop_front()?;
        assert!(frame.bytes.len() <= self.mtu + ETHERNET_HEADER_SIZE);
        Some((Received(frame.bytes), Transmit(self.network.clone())))
    }

    fn transmit(&mut self, _: smoltcp::time::Instant) -> Option<Transmit> {
        Some(Transmit(self.network.clone()))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = self.mtu + ETHERNET_HEADER_SIZE;
        capabilities
    }
}

struct Guest {
    card: Card,
    interface: Interface,
    sockets: SocketSet<'static>,
    start: Instant,
    network: Arc<UserNetwork>,
    next_port: u16,
}

impl Guest {
    /// A guest that has an address already.
    fn new(configuration: Configuration) -> Self {
        let mut guest = Self::unconfigured(configuration);
        guest.configure();
        guest
    }

    fn unconfigured(configuration: Configuration) -> Self {
        let mtu = configuration.mtu.into();
        let network = UserNetwork::start(configuration).unwrap();
        let mut card = Card { network: network.clone(), waiting: VecDeque::new(), mtu, largest: 0 };
        let mut config = Config::new(HardwareAddress::Ethernet(EthernetAddress(MAC.0)));
        config.random_seed = 7;
        let interface = Interface::new(config, &mut card, smoltcp::time::Instant::ZERO);
        let sockets = SocketSet::new(Vec::new());
        Self { card, interface, sockets, start: Instant::now(), network, next_port: 40000 }
    }

    fn configure(&mut self) {
        self.interface.update_ip_addrs(|addresses| {
            addresses.push(IpCidr::new(IpAddress::Ipv4(FIRST_GUEST), 24)).unwrap();
        });
        self.interface.routes_mut().add_default_ipv4_route(ROUTER).unwrap();
    }

    fn poll(&mut self) {
        let now = smoltcp::time::Instant::from_micros(self.start.elapsed().as_micros() as i64);
        self.interface.poll(now, &mut self.card, &mut self.sockets);
    }

    #[track_caller]
    fn until<T>(&mut self, what: &str, mut condition: impl FnMut(&mut Self) -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            self.poll();
            if let Some(value) = condition(self) {
                self.poll();
                return value;
            }
            assert!(start.elapsed() < PATIENCE, "{what} did not happen");
            sleep(Duration::from_micros(50));
        }
    }

    fn tcp(&mut self, handle: SocketHandle) -> &mut guest_tcp::Socket<'static> {
        self.sockets.get_mut(handle)
    }

    fn tcp_socket(&mut self) -> SocketHandle {
        let buffer = || guest_tcp::SocketBuffer::new(vec![0; 128 << 10]);
        self.sockets.add(guest_tcp::Socket::new(buffer(), buffer()))
    }

    /// Begins a connection.
    fn connect(&mut self, address: Ipv4Addr, port: u16) -> SocketHandle {
        let handle = self.tcp_socket();
        self.next_port += 1;
        let context = self.interface.context();
        let socket = self.sockets.get_mut::<guest_tcp::Socket>(handle);
        socket.connect(context, (IpAddress::Ipv4(address), port), self.next_port).unwrap();
        handle
    }

    #[track_caller]
    fn established(&mut self, handle: SocketHandle) {
        self.until("a connection", |guest| match guest.tcp(handle).state() {
            guest_tcp::State::SynSent | guest_tcp::State::SynReceived | guest_tcp::State::Listen => None,
            state => {
                assert_eq!(state, guest_tcp::State::Established);
                Some(())
            }
        });
    }

    #[track_caller]
    fn send(&mut self, handle: SocketHandle, mut bytes: &[u8]) {
        self.until("sending", |guest| {
            bytes = &bytes[guest.tcp(handle).send_slice(bytes).unwrap()..];
            bytes.is_empty().then_some(())
        });
    }

    /// Receives up to the end of the stream.
    #[track_caller]
    fn receive_all(&mut self, handle: SocketHandle) -> Vec<u8> {
        let mut all = Vec::new();
        self.until("the end of a stream", |guest| {
            let mut buffer = [0; 65536];
            match guest.tcp(handle).recv_slice(&mut buffer) {
                Ok(count) => {
                    all.extend_from_slice(&buffer[..count]);
                    None
                }
                Err(guest_tcp::RecvError::Finished) => Some(()),
                Err(error) => panic!("{error}"),
            }
        });
        all
    }

    /// Waits for a thread of the host's.
    #[track_caller]
    fn join<T>(&mut self, thread: JoinHandle<T>) -> T {
        self.until("the host's end", |_| thread.is_finished().then_some(()));
        thread.join().unwrap()
    }

    #[track_caller]
    fn accept(&mut self, listener: &TcpListener) -> TcpStream {
        listener.set_nonblocking(true).unwrap();
        let (stream, _) = self.until("a connection", |_| listener.accept().ok());
        stream.set_nonblocking(false).unwrap();
        stream
    }

    /// Waits for a datagram at a socket of the host's.
    #[track_caller]
    fn host_receives(&mut self, socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
        socket.set_nonblocking(true).unwrap();
        let mut buffer = vec![0; 65536];
        let (length, from) = self.until("a datagram", |_| socket.recv_from(&mut buffer).ok());
        buffer.truncate(length);
        (buffer, from)
    }

    fn udp_socket(&mut self, port: u16) -> SocketHandle {
        let buffer = || guest_udp::PacketBuffer::new(vec![guest_udp::PacketMetadata::EMPTY; 16], vec![0; 65536]);
        let mut socket = guest_udp::Socket::new(buffer(), buffer());
        socket.bind(port).unwrap();
        self.sockets.add(socket)
    }

    fn send_to(&mut self, handle: SocketHandle, bytes: &[u8], address: Ipv4Addr, port: u16) {
        let socket = self.sockets.get_mut::<guest_udp::Socket>(handle);
        socket.send_slice(bytes, (IpAddress::Ipv4(address), port)).unwrap();
        self.poll();
    }

    #[track_caller]
    fn receive_from(&mut self, handle: SocketHandle) -> (Vec<u8>, SocketAddrV4) {
        self.until("a datagram", |guest| {
            let socket = guest.sockets.get_mut::<guest_udp::Socket>(handle);
            let (bytes, from) = socket.recv().ok()?;
            let IpAddress::Ipv4(address) = from.endpoint.addr else { panic!() };
            Some((bytes.to_vec(), SocketAddrV4::new(address, from.endpoint.port)))
        })
    }
}

fn open() -> Configuration {
    Configuration { host_access: true, name_servers: Some(vec![]), ..Configuration::default() }
}

fn closed() -> Configuration {
    Configuration { host_access: false, ..open() }
}

fn listener() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

fn noise(length: usize) -> Vec<u8> {
    let mut state = 1u64;
    let step = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..length).map(step).collect()
}

#[test]
fn a_guest_configures_itself_and_pings_the_router() {
    let mut guest = Guest::unconfigured(closed());
    let dhcp = guest.sockets.add(dhcpv4::Socket::new());
    let (address, router, servers) =
        guest.until("a lease", |guest| match guest.sockets.get_mut::<dhcpv4::Socket>(dhcp).poll() {
            Some(dhcpv4::Event::Configured(config)) => {
                Some((config.address, config.router, config.dns_servers.clone()))
            }
            _ => None,
        });
    assert_eq!((address.address(), address.prefix_len(), router), (FIRST_GUEST, 24, Some(ROUTER)));
    assert_eq!(servers[..], [NAME_SERVER]);
    guest.configure();
    let buffer = || icmp::PacketBuffer::new(vec![icmp::PacketMetadata::EMPTY; 4], vec![0; 8192]);
    let mut socket = icmp::Socket::new(buffer(), buffer());
    socket.bind(icmp::Endpoint::Ident(0x22b)).unwrap();
    let handle = guest.sockets.add(socket);
    for (seq_no, size) in [(1, 56), (2, 0), (3, 1400)] {
        let data = noise(size);
        let ping = Icmpv4Repr::EchoRequest { ident: 0x22b, seq_no, data: &data };
        let socket = guest.sockets.get_mut::<icmp::Socket>(handle);
        let target = if seq_no == 2 { NAME_SERVER } else { ROUTER };
        let bytes = socket.send(ping.buffer_len(), IpAddress::Ipv4(target)).unwrap();
        ping.emit(&mut Icmpv4Packet::new_unchecked(bytes), &Default::default());
        guest.until("an echo", |guest| {
            let (bytes, from) = guest.sockets.get_mut::<icmp::Socket>(handle).recv().ok()?;
            assert_eq!(from, IpAddress::Ipv4(target));
            let packet = Icmpv4Packet::new_checked(bytes).unwrap();
            let reply = Icmpv4Repr::parse(&packet, &Default::default()).unwrap();
            assert_eq!(reply, Icmpv4Repr::EchoReply { ident: 0x22b, seq_no, data: &data });
            Some(())
        });
    }
}

#[test]
fn a_mebibyte_goes_each_way_unharmed() {
    for mtu in [576, 1500, 9000, LARGEST_MTU] {
        let mut guest = Guest::new(Configuration { mtu, ..open() });
        let (listener, port) = listener();
        let host = spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut received = vec![0; 1 << 20];
            stream.read_exact(&mut received).unwrap();
            stream.write_all(&received).unwrap();
            Sha256::digest(&received)
        });
        let handle = guest.connect(ROUTER, port);
        guest.established(handle);
        let bytes = noise(1 << 20);
        guest.send(handle, &bytes);
        let back = guest.receive_all(handle);
        let hash = Sha256::digest(&bytes);
        assert_eq!(Sha256::digest(&back), hash);
        assert_eq!(guest.join(host), hash);
        assert!(guest.card.largest > 2 * usize::from(mtu).min(30000), "segments are left to the card");
    }
}

#[test]
fn each_direction_ends_by_itself() {
    let mut guest = Guest::new(open());
    let (listener, port) = listener();
    let host = spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut question = Vec::new();
        stream.read_to_end(&mut question).unwrap();
        stream.write_all(&question.repeat(1000)).unwrap();
    });
    let handle = guest.connect(ROUTER, port);
    guest.established(handle);
    guest.send(handle, b"question");
    guest.tcp(handle).close();
    assert!(guest.receive_all(handle) == b"question".repeat(1000));
    guest.join(host);
    guest.until("the end", |guest| (!guest.tcp(handle).is_active()).then_some(()));

    // The other way round.
    let (listener, port) = self::listener();
    let host = spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        answer
    });
    let handle = guest.connect(ROUTER, port);
    guest.established(handle);
    assert_eq!(guest.receive_all(handle), b"");
    guest.send(handle, b"still here");
    guest.tcp(handle).close();
    assert_eq!(guest.join(host), b"still here");
}

#[test]
fn refusals_and_resets_are_passed_on() {
    let mut guest = Guest::new(open());
    let (listener, port) = listener();
    // Reset by the host's peer: closing with unread data does that.
    let handle = guest.connect(ROUTER, port);
    let stream = guest.accept(&listener);
    guest.established(handle);
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(stream);
    guest.until("a reset", |guest| (guest.tcp(handle).state() == guest_tcp::State::Closed).then_some(()));

    // Reset by the guest.
    let handle = guest.connect(ROUTER, port);
    let mut stream = guest.accept(&listener);
    guest.established(handle);
    guest.tcp(handle).abort();
    guest.poll();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let error = stream.read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);

    // Refused.
    drop(listener);
    let handle = guest.connect(ROUTER, port);
    let start = Instant::now();
    guest.until("a refusal", |guest| (guest.tcp(handle).state() == guest_tcp::State::Closed).then_some(()));
    assert!(start.elapsed() < Duration::from_secs(5), "at once, not after a timeout");
}

/// A program on the host that sends `bytes`, says that these are all, and takes the answer.
fn exchange(address: SocketAddr, bytes: Vec<u8>) -> JoinHandle<Vec<u8>> {
    spawn(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(&bytes).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        answer
    })
}

#[test]
fn forwards_lead_to_the_guest() {
    let forwards = vec!["tcp:127.0.0.1:0-:22".parse().unwrap(), "udp:127.0.0.1:0-:53".parse().unwrap()];
    let mut guest = Guest::new(Configuration { forwards, restrict: true, ..closed() });
    let [tcp, udp] = guest.network.forwards() else { panic!() };
    let (tcp, udp) = (tcp.host, udp.host);
    assert!(tcp.port() != 0 && udp.port() != 0);

    for round in 0..3 {
        let handle = guest.tcp_socket();
        guest.tcp(handle).listen(22).unwrap();
        let bytes = noise(300_000 + round);
        let host = exchange(tcp, bytes.clone());
        guest.established(handle);
        assert_eq!(guest.tcp(handle).remote_endpoint().unwrap().addr, IpAddress::Ipv4(ROUTER));
        let got = guest.receive_all(handle);
        assert!(got == bytes);
        guest.send(handle, b"answer");
        guest.tcp(handle).close();
        guest.until("the end", |guest| (!guest.tcp(handle).is_active()).then_some(()));
        assert_eq!(guest.join(host), b"answer");
    }

    // Nobody listens in the guest: the host's peer is reset.
    let host = spawn(move || TcpStream::connect(tcp).and_then(|mut stream| stream.read(&mut [0])));
    let start = Instant::now();
    while !host.is_finished() {
        assert!(start.elapsed() < PATIENCE);
        guest.poll();
        sleep(Duration::from_millis(1));
    }
    assert!(matches!(guest.join(host), Ok(0) | Err(_)));

    let handle = guest.udp_socket(53);
    let peers = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
    for (i, peer) in peers.iter().enumerate() {
        peer.send_to(&[i as u8; 3], udp).unwrap();
        let (bytes, from) = guest.receive_from(handle);
        assert_eq!((bytes, *from.ip()), (vec![i as u8; 3], ROUTER));
        guest.send_to(handle, &[i as u8; 5], *from.ip(), from.port());
        assert_eq!(guest.host_receives(peer), (vec![i as u8; 5], udp));
    }
}

#[test]
fn datagrams_pass_and_only_from_those_who_were_asked() {
    let mut guest = Guest::new(open());
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    let handle = guest.udp_socket(5000);
    guest.send_to(handle, b"ping", ROUTER, port);
    let (bytes, from) = guest.host_receives(&server);
    assert_eq!(bytes, b"ping");
    // The port is known to a stranger, who is not heard.
    UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"intrusion", ("127.0.0.1", from.port())).unwrap();
    server.send_to(b"pong", from).unwrap();
    assert_eq!(guest.receive_from(handle), (b"pong".to_vec(), SocketAddrV4::new(ROUTER, port)));
    // The same guest's port keeps its mapping.
    guest.send_to(handle, b"again", ROUTER, port);
    assert_eq!(guest.host_receives(&server), (b"again".to_vec(), from));
}

#[test]
fn datagrams_that_the_guest_leaves_to_be_cut_arrive_one_by_one() {
    let forwards = vec!["udp:127.0.0.1:0-:53".parse().unwrap()];
    let mut guest = Guest::new(Configuration { forwards, ..open() });
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    let forward = guest.network.forwards()[0].host;
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    // The guest's stack answers ARP, and knows under which port it sees the peer.
    let handle = guest.udp_socket(53);
    peer.send_to(b"hello", forward).unwrap();
    let (_, visible) = guest.receive_from(handle);
    let data = noise(4500);
    for (to, receiver) in [(SocketAddrV4::new(ROUTER, port), &server), (visible, &peer)] {
        for length in [4500, 4000, 700, 0] {
            let mut udp = [&53u16.to_be_bytes()[..], &to.port().to_be_bytes(), &[0; 4], &data[..length]].concat();
            let size = udp.len() as u16;
            udp[4..6].copy_from_slice(&size.to_be_bytes());
            let mut frame = ip(MAC, FIRST_GUEST, *to.ip(), IpProtocol::Udp, &udp, 0, false);
            let checksum = Some(PartialChecksum { start: 34, offset: 6 });
            frame.offload = Offload { checksum, segment_size: Some(1000) };
            guest.network.send(frame).unwrap();
            let pieces: Vec<&[u8]> = if length == 0 { vec![&[]] } else { data[..length].chunks(1000).collect() };
            for piece in pieces {
                assert!(guest.host_receives(receiver).0 == piece, "{length}");
            }
        }
    }
}

/// A frame with a UDP datagram.
fn datagram(mac: MacAddress, from: SocketAddrV4, to: SocketAddrV4, data: &[u8]) -> Vec<Frame> {
    let mut udp = vec![0; 8 + data.len()];
    let mut packet = UdpPacket::new_unchecked(&mut udp[..]);
    packet.set_src_port(from.port());
    packet.set_dst_port(to.port());
    packet.set_len(8 + data.len() as u16);
    packet.payload_mut().copy_from_slice(data);
    packet.fill_checksum(&IpAddress::Ipv4(*from.ip()), &IpAddress::Ipv4(*to.ip()));
    let count = udp.len().div_ceil(1480);
    let pieces = udp.chunks(1480).enumerate();
    pieces.map(|(i, piece)| ip(mac, *from.ip(), *to.ip(), IpProtocol::Udp, piece, i * 1480, i + 1 != count)).collect()
}

fn ip(
    mac: MacAddress,
    from: Ipv4Addr,
    to: Ipv4Addr,
    protocol: IpProtocol,
    payload: &[u8],
    offset: usize,
    more: bool,
) -> Frame {
    let mut bytes = [&ROUTER_MAC.0[..], &mac.0, &[8, 0]].concat();
    bytes.resize(34, 0);
    bytes.extend_from_slice(payload);
    let mut packet = Ipv4Packet::new_unchecked(&mut bytes[14..]);
    let repr =
        Ipv4Repr { src_addr: from, dst_addr: to, next_header: protocol, payload_len: payload.len(), hop_limit: 64 };
    repr.emit(&mut packet, &Default::default());
    packet.set_dont_frag(false);
    packet.set_frag_offset(offset as u16);
    packet.set_more_frags(more);
    packet.fill_checksum();
    Frame { bytes, ..Frame::default() }
}

#[test]
fn fragments_pass_both_ways() {
    let guest = Guest::new(open());
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    server.set_read_timeout(Some(PATIENCE)).unwrap();
    let to = SocketAddrV4::new(ROUTER, server.local_addr().unwrap().port());
    let data = noise(4000);
    let mut frames = datagram(MAC, SocketAddrV4::new(FIRST_GUEST, 9), to, &data);
    assert_eq!(frames.len(), 3);
    frames.rotate_left(1);
    for frame in frames {
        guest.network.send(frame).unwrap();
    }
    let mut buffer = vec![0; 5000];
    let (length, from) = server.recv_from(&mut buffer).unwrap();
    assert!(buffer[..length] == data);
    server.send_to(&data, from).unwrap();
    let mut fragments = reassembly::Fragments::default();
    let start = Instant::now();
    let whole = loop {
        assert!(start.elapsed() < PATIENCE, "the fragments did not come");
        let Some(frame) = guest.network.receive() else {
            sleep(Duration::from_millis(1));
            continue;
        };
        assert!(frame.bytes.len() <= 1514);
        if let Some(whole) = fragments.add(&frame.bytes[14..], Instant::now()) {
            break whole;
        }
    };
    assert!(whole[28..] == data);
}

#[test]
fn names_are_asked_of_the_hosts_server_and_the_next_one_if_it_is_silent() {
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let servers = vec![silent.local_addr().unwrap(), server.local_addr().unwrap()];
    let host = spawn(move || {
        let mut buffer = [0; 512];
        let (length, from) = server.recv_from(&mut buffer).unwrap();
        // A forgery with another number, then the answer.
        buffer[2] |= 0x80;
        let answer = buffer[..length].to_vec();
        buffer[0] ^= 1;
        server.send_to(&buffer[..length], from).unwrap();
        server.send_to(&answer, from).unwrap();
        answer
    });
    let mut guest = Guest::new(Configuration { name_servers: Some(servers), ..closed() });
    let handle = guest.udp_socket(6000);
    let query = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03www\x07example\x03org\x00\x00\x01\x00\x01";
    guest.send_to(handle, query, NAME_SERVER, 53);
    let (bytes, from) = guest.receive_from(handle);
    assert_eq!(from, SocketAddrV4::new(NAME_SERVER, 53));
    assert_eq!(bytes, guest.join(host));

    let mut restricted = Guest::new(Configuration { restrict: true, ..closed() });
    let handle = restricted.udp_socket(6000);
    restricted.send_to(handle, query, NAME_SERVER, 53);
    let (bytes, _) = restricted.receive_from(handle);
    assert_eq!((bytes[..2].to_vec(), bytes[2] & 0x80, bytes[3] & 0xf), (vec![0x12, 0x34], 0x80, 5), "REFUSED");
}

#[test]
fn the_hosts_loopback_is_closed_unless_it_was_opened() {
    let (listener, port) = listener();
    listener.set_nonblocking(true).unwrap();
    let socket = UdpSocket::bind(("127.0.0.1", port)).unwrap();
    socket.set_nonblocking(true).unwrap();
    for restrict in [false, true] {
        let mut guest = Guest::new(Configuration { restrict, ..closed() });
        for address in [ROUTER, NAME_SERVER] {
            let handle = guest.connect(address, port);
            guest.until("a refusal", |guest| (guest.tcp(handle).state() == guest_tcp::State::Closed).then_some(()));
        }
        // A martian is not even answered; what comes after it was looked at later.
        let handle = guest.connect(Ipv4Addr::LOCALHOST, port);
        let udp = guest.udp_socket(7000);
        for address in [Ipv4Addr::LOCALHOST, ROUTER, NAME_SERVER] {
            guest.send_to(udp, b"x", address, port);
        }
        let other = guest.connect(ROUTER, port);
        guest.until("a refusal", |guest| (guest.tcp(other).state() == guest_tcp::State::Closed).then_some(()));
        assert_eq!(guest.tcp(handle).state(), guest_tcp::State::SynSent);
        assert_eq!(listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert_eq!(socket.recv(&mut [0]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }
}

#[test]
fn forged_addresses_do_not_cross() {
    let guest = Guest::new(open());
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let to = SocketAddrV4::new(ROUTER, server.local_addr().unwrap().port());
    let other = MacAddress([0x52, 0x54, 0, 9, 9, 9]);
    let send = |mac, from: &str, text: &[u8]| {
        for frame in datagram(mac, from.parse().unwrap(), to, text) {
            guest.network.send(frame).unwrap();
        }
    };
    send(MAC, "10.0.2.15:1", b"first");
    // The address belongs to the card that used it first.
    send(other, "10.0.2.15:1", b"other card");
    send(MAC, "10.0.2.2:1", b"router's");
    send(MAC, "10.0.2.3:1", b"name server's");
    send(MAC, "10.0.2.255:1", b"broadcast");
    send(MAC, "192.0.2.1:1", b"outside");
    send(MAC, "127.0.0.1:1", b"loopback");
    send(MAC, "0.0.0.0:1", b"nobody");
    send(ROUTER_MAC, "10.0.2.77:1", b"router's card");
    send(MacAddress([1; 6]), "10.0.2.78:1", b"group");
    // Damaged on the way.
    let mut damaged = datagram(MAC, "10.0.2.15:1".parse().unwrap(), to, b"damaged");
    damaged[0].bytes[45] ^= 1;
    guest.network.send(damaged.remove(0)).unwrap();
    send(other, "10.0.2.16:1", b"last");
    server.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut buffer = [0; 100];
    for expected in [&b"first"[..], b"last"] {
        let length = server.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], expected);
    }
}

#[test]
fn floods_are_bounded() {
    let (mut router, link, ..) = Router::new(open()).unwrap();
    let (listener, port) = listener();
    let mut give = |frame: Frame| {
        let mut frame = Some(frame);
        while let Some(refused) = frame.take() {
            frame = link.send(refused).err();
            if frame.is_some() {
                while router.receive_batch() {}
                router.serve();
            }
        }
    };
    for i in 0..30_000u16 {
        // SYNs that are never followed by anything.
        let mut tcp = [0; 20];
        let mut segment = TcpPacket::new_unchecked(&mut tcp[..]);
        segment.set_src_port(1000 + i);
        segment.set_dst_port(port);
        segment.set_seq_number(TcpSeqNumber(5));
        segment.set_header_len(20);
        segment.set_syn(true);
        segment.fill_checksum(&IpAddress::Ipv4(FIRST_GUEST), &IpAddress::Ipv4(ROUTER));
        give(ip(MAC, FIRST_GUEST, ROUTER, IpProtocol::Tcp, &tcp, 0, false));
        // A new port for each datagram.
        let from = SocketAddrV4::new(FIRST_GUEST, 1000 + i);
        if i % 8 == 0 {
            datagram(MAC, from, SocketAddrV4::new(ROUTER, port), b"x").into_iter().for_each(&mut give);
        }
        // First fragments only, and answers that nobody takes.
        give(ip(MAC, FIRST_GUEST, ROUTER, IpProtocol::Udp, &[0; 1480], 0, true));
        let ping = Icmpv4Repr::EchoRequest { ident: 1, seq_no: i, data: &[0; 1000] };
        let mut message = vec![0; ping.buffer_len()];
        ping.emit(&mut Icmpv4Packet::new_unchecked(&mut message), &Default::default());
        give(ip(MAC, FIRST_GUEST, ROUTER, IpProtocol::Icmp, &message, 0, false));
        // Requests for addresses, each from another card.
        let mac = MacAddress([0x52, 0, 0, 0, (i >> 8) as u8, i as u8]);
        give(ip(mac, Ipv4Addr::from(0x0a00_0200 + u32::from(i)), ROUTER, IpProtocol::Icmp, &message, 0, false));
    }
    while router.receive_batch() {}
    router.serve();
    assert!(router.flows.len() <= 1024, "{}", router.flows.len());
    assert!(router.mappings.len() <= 1024, "{}", router.mappings.len());
    let waiting: usize = std::iter::from_fn(|| link.receive()).map(|frame| frame.bytes.len()).sum();
    assert!(waiting <= 3 << 20, "{waiting}");
    drop(listener);
}

#[test]
fn a_guest_that_takes_nothing_stops_the_host_and_loses_nothing() {
    let mut guest = Guest::new(open());
    let (listener, port) = listener();
    let handle = guest.connect(ROUTER, port);
    let mut stream = guest.accept(&listener);
    guest.established(handle);
    let bytes = noise(16 << 20);
    let sent = bytes.clone();
    let host = spawn(move || {
        stream.write_all(&sent).unwrap();
    });
    sleep(Duration::from_millis(300));
    assert!(!host.is_finished(), "the host's buffers hold less than that");
    assert!(guest.receive_all(handle) == bytes);
    guest.join(host);
}

#[test]
fn idle_costs_nothing() {
    let mut guest = Guest::new(open());
    let (listener, port) = listener();
    let handle = guest.connect(ROUTER, port);
    let _stream = guest.accept(&listener);
    guest.established(handle);
    let before = guest.network.rounds.load(Ordering::SeqCst);
    sleep(Duration::from_millis(500));
    let rounds = guest.network.rounds.load(Ordering::SeqCst) - before;
    assert!(rounds < 20, "{rounds} rounds of the loop in half a second");
}

#[test]
fn hundreds_of_connections_at_once() {
    let mut guest = Guest::new(open());
    let (listener, port) = listener();
    const COUNT: usize = 300;
    let host = spawn(move || {
        let streams: Vec<_> = (0..COUNT).map(|_| listener.accept().unwrap().0).collect();
        for mut stream in streams {
            let mut line = [0; 4];
            stream.read_exact(&mut line).unwrap();
            stream.write_all(&line).unwrap();
        }
    });
    let mut handles = Vec::new();
    for _ in 0..COUNT {
        let buffer = || guest_tcp::SocketBuffer::new(vec![0; 512]);
        let handle = guest.sockets.add(guest_tcp::Socket::new(buffer(), buffer()));
        guest.next_port += 1;
        let context = guest.interface.context();
        let socket = guest.sockets.get_mut::<guest_tcp::Socket>(handle);
        socket.connect(context, (IpAddress::Ipv4(ROUTER), port), guest.next_port).unwrap();
        handles.push(handle);
    }
    for (i, &handle) in handles.iter().enumerate() {
        guest.established(handle);
        guest.send(handle, &(i as u32).to_le_bytes());
    }
    for (i, &handle) in handles.iter().enumerate() {
        assert_eq!(guest.receive_all(handle), (i as u32).to_le_bytes());
    }
    guest.join(host);
}

/// Not a test of correctness: prints what passes in a second. `cargo test --release -- --ignored --nocapture`
#[test]
#[ignore = "a measurement"]
fn throughput() {
    let mut guest = Guest::new(open());
    let (listener, port) = listener();
    const SIZE: usize = 1 << 30;
    let host = spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let block = vec![1; 256 << 10];
        for _ in 0..SIZE / block.len() {
            stream.write_all(&block).unwrap();
        }
    });
    let handle = guest.connect(ROUTER, port);
    guest.established(handle);
    let (start, mut count) = (Instant::now(), 0);
    let mut buffer = vec![0; 1 << 20];
    while count < SIZE {
        guest.poll();
        count += guest.tcp(handle).recv_slice(&mut buffer).unwrap_or(SIZE);
    }
    let elapsed = start.elapsed().as_secs_f64();
    println!("host to guest: {:.2} Gbit/s", count as f64 * 8e-9 / elapsed);
    guest.join(host);

    let (listener, port) = self::listener();
    let host = spawn(move || {
        let mut stream = listener.accept().unwrap().0;
        let (mut block, mut count) = (vec![0; 1 << 20], 0);
        while let Some(length) = stream.read(&mut block).ok().filter(|length| *length != 0) {
            count += length;
        }
        count
    });
    let handle = guest.connect(ROUTER, port);
    guest.established(handle);
    let start = Instant::now();
    guest.send(handle, &vec![1; SIZE]);
    guest.tcp(handle).close();
    let count = guest.join(host);
    println!("guest to host: {:.2} Gbit/s", count as f64 * 8e-9 / start.elapsed().as_secs_f64());
}
