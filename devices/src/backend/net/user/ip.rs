//! What IPv4 (RFC 791) and IPv6 (RFC 8200) packets have in common.

use std::net::IpAddr;

use smoltcp::wire::{IpAddress, IpProtocol, Ipv4Packet, Ipv6Packet};

/// Bytes of an IPv4 header without options.
pub const IPV4_HEADER_SIZE: usize = 20;
/// Bytes of an IPv6 header.
pub const IPV6_HEADER_SIZE: usize = 40;
/// IPv6's largest payload without the option for more, and more than IPv4's.
const LARGEST_PAYLOAD: usize = 65535;

/// A packet whose header was checked, and that is no fragment.
#[derive(Clone, Copy)]
pub struct Packet<'a> {
    pub source: IpAddr,
    pub destination: IpAddr,
    pub protocol: IpProtocol,
    pub payload: &'a [u8],
    /// All of it.
    pub bytes: &'a [u8],
}

impl<'a> Packet<'a> {
    /// The parts of a whole packet. `None` if it is none. Extension headers of IPv6 are left in the payload: what they
    /// announce is the protocol then.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (source, destination, protocol, begin, end) = match bytes.first()? >> 4 {
            4 => {
                let header = Ipv4Packet::new_checked(bytes).ok()?;
                let (begin, end) = (usize::from(header.header_len()), usize::from(header.total_len()));
                (header.src_addr().into(), header.dst_addr().into(), header.next_header(), begin, end)
            }
            6 => {
                let header = Ipv6Packet::new_checked(bytes).ok()?;
                let (begin, end) = (IPV6_HEADER_SIZE, header.total_len());
                (header.src_addr().into(), header.dst_addr().into(), header.next_header(), begin, end)
            }
            _ => return None,
        };
        Some(Self { source, destination, protocol, payload: bytes.get(begin..end)?, bytes: bytes.get(..end)? })
    }

    /// The addresses as smoltcp's checksums want them.
    pub fn ends(&self) -> (IpAddress, IpAddress) {
        (self.source.into(), self.destination.into())
    }
}

/// Bytes of the header of packets to `address`.
pub fn header_size(address: IpAddr) -> usize {
    if address.is_ipv4() { IPV4_HEADER_SIZE } else { IPV6_HEADER_SIZE }
}

/// The largest payload of a packet to `address`.
pub fn largest_payload(address: IpAddr) -> usize {
    if address.is_ipv4() { LARGEST_PAYLOAD - IPV4_HEADER_SIZE } else { LARGEST_PAYLOAD }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_taken_apart_and_nothing_else() {
        let mut four = vec![0x45, 0, 0, 24, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 2, 15, 10, 0, 2, 2, 1, 2, 3, 4, 99, 99];
        let packet = Packet::parse(&four).unwrap();
        assert_eq!(
            (packet.source.to_string(), packet.destination.to_string()),
            ("10.0.2.15".into(), "10.0.2.2".into())
        );
        assert_eq!((packet.payload, packet.protocol, packet.bytes.len()), (&[1, 2, 3, 4][..], IpProtocol::Udp, 24));
        four[0] = 0x44;
        assert!(Packet::parse(&four).is_none());

        let mut six = vec![0x60, 0, 0, 0, 0, 3, 6, 64];
        six.extend([0; 15]);
        six.push(1);
        six.extend([0xff; 16]);
        six.extend([7, 8, 9, 99]);
        let packet = Packet::parse(&six).unwrap();
        assert_eq!((packet.source.to_string(), packet.payload), ("::1".into(), &[7, 8, 9][..]));
        assert_eq!((packet.protocol, packet.bytes.len()), (IpProtocol::Tcp, 43));
        for length in 0..43 {
            assert!(Packet::parse(&six[..length]).is_none(), "{length}");
        }
        assert!(Packet::parse(&[0x70; 60]).is_none());
    }
}
