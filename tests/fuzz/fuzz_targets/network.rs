//! The user network: a guest that sends anything, from frames of noise to segments of a connection that exists.
#![no_main]

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, TcpStream};
use std::sync::OnceLock;

use devices::backend::net::user::{Configuration, FIRST_GUEST, NAME_SERVER, ROUTER, ROUTER_MAC, StillNetwork};
use devices::backend::net::{Frame, LARGEST_FRAME, NetworkBackend, Offload, PartialChecksum};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;

const GUEST_MAC: [u8; 6] = [0x52, 0x54, 0, 1, 2, 3];
const GUEST_V6: Ipv6Addr = Ipv6Addr::new(0xfd76, 0x6572, 0x7665, 2, 0, 0, 0, 0x15);
const ROUTER_V6: Ipv6Addr = Ipv6Addr::new(0xfd76, 0x6572, 0x7665, 2, 0, 0, 0, 2);

#[derive(Arbitrary, Debug)]
enum Step {
    Frame(Vec<u8>, Option<(u16, u16)>, Option<u16>),
    /// Behind an Ethernet header of this type.
    Payload(u16, Vec<u8>),
    /// An IPv4 packet with a sound header: protocol, whether to the name server, fragment offset and flags, payload.
    V4(u8, bool, Option<u16>, Vec<u8>),
    /// An IPv6 packet with a sound header: next header, hop limit, payload.
    V6(u8, u8, Vec<u8>),
    Datagram(bool, u16, u16, Vec<u8>),
    /// A segment of one of two connections: flags, how far its numbers are from those that are expected, window, data.
    Segment { second: bool, flags: u8, sequence: i16, acknowledgement: i16, window: u16, options: Vec<u8>, data: Vec<u8> },
    /// The host's side writes, or ends.
    Host(Vec<u8>),
    HostEnds,
    Take,
}

fn ethernet(kind: u16, payload: &[u8]) -> Vec<u8> {
    [&ROUTER_MAC.0[..], &GUEST_MAC, &kind.to_be_bytes(), payload].concat()
}

fn sum(bytes: &[u8]) -> u16 {
    let mut sum = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0))).sum::<u32>();
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

fn v4(protocol: u8, to: Ipv4Addr, fragment: u16, payload: &[u8]) -> Vec<u8> {
    let length = (20 + payload.len()).min(65535) as u16;
    let mut packet = vec![0x45, 0];
    packet.extend([length, 1, fragment].map(u16::to_be_bytes).as_flattened());
    packet.extend([64, protocol, 0, 0]);
    packet.extend(FIRST_GUEST.octets());
    packet.extend(to.octets());
    let sum = sum(&packet);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend_from_slice(payload);
    ethernet(0x0800, &packet)
}

fn v6(next: u8, hop_limit: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend((payload.len().min(65535) as u16).to_be_bytes());
    packet.extend([next, hop_limit]);
    packet.extend(GUEST_V6.octets());
    packet.extend(ROUTER_V6.octets());
    packet.extend_from_slice(payload);
    ethernet(0x86dd, &packet)
}

/// The checksum is left to the network, which does not look at it then.
fn partial(bytes: Vec<u8>, start: u16, offset: u16) -> Frame {
    let checksum = Some(PartialChecksum { start, offset });
    Frame { bytes, offload: Offload { checksum, segment_size: None } }
}

/// A connection as its guest knows it.
#[derive(Default)]
struct Connection {
    sent: u32,
    received: u32,
}

fn listener() -> &'static TcpListener {
    static LISTENER: OnceLock<TcpListener> = OnceLock::new();
    LISTENER.get_or_init(|| {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("a socket");
        listener
    })
}

fuzz_target!(|input: (bool, Vec<Step>)| {
    let (connects, steps) = input;
    let port = listener().local_addr().expect("an address").port();
    // Noise may not reach the host; only segments that this program has made may, and only its own socket.
    let configuration = Configuration {
        host_access: connects,
        restrict: true,
        name_servers: Some(Vec::new()),
        ..Configuration::default()
    };
    let mut network = StillNetwork::new(configuration).expect("a network");
    let mut connections = [Connection::default(), Connection::default()];
    let mut hosts: Vec<TcpStream> = Vec::new();
    for step in steps.into_iter().take(64) {
        let plain = |bytes| Frame { bytes, ..Frame::default() };
        let frame = match step {
            Step::Segment { second, flags, sequence, acknowledgement, window, options, data } => {
                let connection = &mut connections[usize::from(second)];
                let options = &options[..options.len().min(40) & !3];
                let mut segment = [1000 + u16::from(second), port].map(u16::to_be_bytes).as_flattened().to_vec();
                segment.extend(connection.sent.wrapping_add_signed(sequence.into()).to_be_bytes());
                segment.extend(connection.received.wrapping_add_signed(acknowledgement.into()).to_be_bytes());
                segment.extend([0x50 + (options.len() as u8 / 4 << 4), flags]);
                segment.extend([window, 0, 0].map(u16::to_be_bytes).as_flattened());
                segment.extend(options);
                segment.extend(&data);
                if sequence == 0 {
                    let length = data.len() as u32 + u32::from(flags & 1) + u32::from(flags >> 1 & 1);
                    connection.sent = connection.sent.wrapping_add(length);
                }
                Some(partial(v4(6, ROUTER, 0, &segment), 34, 16))
            }
            Step::Host(bytes) => {
                if let Some(host) = hosts.last_mut() {
                    let _ = host.write(&bytes);
                }
                None
            }
            Step::HostEnds => {
                hosts.pop();
                None
            }
            Step::Take => {
                while let Some(frame) = network.link().receive() {
                    assert!(frame.bytes.len() <= LARGEST_FRAME && frame.bytes[6..12] == ROUTER_MAC.0);
                    let word = |at: usize| frame.bytes.get(at..at + 4).map(|word| u32::from_be_bytes(word.try_into().unwrap()));
                    if let (Some(&6), Some(sequence), Some(&to)) = (frame.bytes.get(23), word(38), frame.bytes.get(37)) {
                        let connection = &mut connections[usize::from(to == 233)];
                        let header = 34 + usize::from(frame.bytes.get(46).copied().unwrap_or(0) >> 4) * 4;
                        let flags = u32::from(frame.bytes.get(47).copied().unwrap_or(0));
                        let length = frame.bytes.len().saturating_sub(header) as u32 + (flags & 1) + (flags >> 1 & 1);
                        connection.received = sequence.wrapping_add(length);
                    }
                }
                None
            }
            // Noise would reach services of the host's.
            _ if connects => None,
            Step::Frame(bytes, checksum, segment_size) => {
                let checksum = checksum.map(|(start, offset)| PartialChecksum { start, offset });
                Some(Frame { bytes, offload: Offload { checksum, segment_size } })
            }
            Step::Payload(kind, bytes) => Some(plain(ethernet(kind, &bytes))),
            Step::V4(protocol, to_name_server, fragment, payload) => {
                let to = if to_name_server { NAME_SERVER } else { ROUTER };
                Some(partial(v4(protocol, to, fragment.unwrap_or(0), &payload), 34, 0))
            }
            Step::V6(next, hop_limit, payload) => Some(partial(v6(next, hop_limit, &payload), 54, 0)),
            Step::Datagram(six, from, to, payload) => {
                let mut datagram = [from, to, 8 + payload.len() as u16, 0].map(u16::to_be_bytes).as_flattened().to_vec();
                datagram.extend(payload);
                let to = if to == 67 { Ipv4Addr::BROADCAST } else { NAME_SERVER };
                let bytes = if six { v6(17, 64, &datagram) } else { v4(17, to, 0, &datagram) };
                Some(partial(bytes, if six { 54 } else { 34 }, 6))
            }
        };
        if let Some(frame) = frame {
            let _ = network.link().send(frame);
        }
        network.turn().expect("the host has sockets");
        while let Ok((host, _)) = listener().accept() {
            host.set_nonblocking(true).expect("a socket");
            hosts.push(host);
        }
        for host in &mut hosts {
            while host.read(&mut [0; 65536]).is_ok_and(|count| count != 0) {}
        }
        network.turn().expect("the host has sockets");
    }
});
