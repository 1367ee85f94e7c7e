//! Tells the router the guest's name where the guest does not: a DHCP request without one (RFC 2132 §3.14) gets it on
//! its way to the switch.

use smoltcp::wire::{DhcpPacket, EthernetFrame, EthernetProtocol, IpAddress, IpProtocol, Ipv4Packet, UdpPacket};

use crate::backend::net::{ETHERNET_HEADER_SIZE, Frame, Offload};

const SERVER_PORT: u16 = 67;
const OPTION_HOST_NAME: u8 = 12;
const OPTION_END: u8 = 255;
const UDP_HEADER_SIZE: usize = 8;

/// Adds `name` to the frame if it holds a DHCP request without one.
pub fn tell(frame: &mut Frame, name: &str) {
    if let Some(bytes) = with_name(&frame.bytes, name) {
        *frame = Frame { bytes, offload: Offload::default() };
    }
}

fn with_name(bytes: &[u8], name: &str) -> Option<Vec<u8>> {
    let ethernet = EthernetFrame::new_checked(bytes).ok()?;
    if ethernet.ethertype() != EthernetProtocol::Ipv4 || name.is_empty() {
        return None;
    }
    let packet = Ipv4Packet::new_checked(ethernet.payload()).ok()?;
    let (header_size, length) = (usize::from(packet.header_len()), usize::from(packet.total_len()));
    if packet.next_header() != IpProtocol::Udp || packet.more_frags() || packet.frag_offset() != 0 || header_size < 20 {
        return None;
    }
    let datagram = UdpPacket::new_checked(packet.payload()).ok()?;
    if datagram.dst_port() != SERVER_PORT {
        return None;
    }
    let request = DhcpPacket::new_checked(datagram.payload()).ok()?;
    let end = datagram.payload().iter().rposition(|byte| *byte == OPTION_END)?;
    if request.options().any(|option| option.kind == OPTION_HOST_NAME) || request.options().count() == 0 {
        return None;
    }
    let option = [&[OPTION_HOST_NAME, u8::try_from(name.len()).ok()?], name.as_bytes()].concat();
    let data = ETHERNET_HEADER_SIZE + header_size + UDP_HEADER_SIZE;
    let mut longer = bytes.get(..ETHERNET_HEADER_SIZE + length)?.to_vec();
    // Where the list of options ends; what pads it follows.
    longer.splice(data + end..data + end, option.iter().copied());
    let mut packet = Ipv4Packet::new_unchecked(&mut longer[ETHERNET_HEADER_SIZE..]);
    packet.set_total_len(u16::try_from(length + option.len()).ok()?);
    packet.fill_checksum();
    let (from, to) = (packet.src_addr(), packet.dst_addr());
    let mut datagram = UdpPacket::new_unchecked(packet.payload_mut());
    datagram.set_len(datagram.len().checked_add(option.len() as u16)?);
    datagram.fill_checksum(&IpAddress::Ipv4(from), &IpAddress::Ipv4(to));
    Some(longer)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use smoltcp::phy::ChecksumCapabilities;
    use smoltcp::wire::{DhcpMessageType, DhcpOption, DhcpRepr, EthernetAddress, EthernetRepr, Ipv4Repr, UdpRepr};

    use super::*;

    fn request(options: &[DhcpOption<'_>], port: u16, padding: usize) -> Frame {
        let dhcp = DhcpRepr {
            message_type: DhcpMessageType::Discover,
            transaction_id: 7,
            secs: 0,
            client_hardware_address: EthernetAddress([2; 6]),
            client_ip: Ipv4Addr::UNSPECIFIED,
            your_ip: Ipv4Addr::UNSPECIFIED,
            server_ip: Ipv4Addr::UNSPECIFIED,
            router: None,
            subnet_mask: None,
            relay_agent_ip: Ipv4Addr::UNSPECIFIED,
            broadcast: false,
            requested_ip: None,
            client_identifier: None,
            server_identifier: None,
            parameter_request_list: Some(&[1, 3, 6]),
            dns_servers: None,
            max_size: None,
            lease_duration: None,
            renew_duration: None,
            rebind_duration: None,
            additional_options: options,
        };
        let mut message = vec![0; dhcp.buffer_len() + padding];
        dhcp.emit(&mut DhcpPacket::new_unchecked(&mut message[..])).unwrap();
        let (from, to) = (Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST);
        let udp = UdpRepr { src_port: 68, dst_port: port };
        let payload_len = UDP_HEADER_SIZE + message.len();
        let ip = Ipv4Repr { src_addr: from, dst_addr: to, next_header: IpProtocol::Udp, payload_len, hop_limit: 64 };
        let mut bytes = vec![0; ETHERNET_HEADER_SIZE + 20 + payload_len];
        EthernetRepr {
            src_addr: EthernetAddress([2; 6]),
            dst_addr: EthernetAddress::BROADCAST,
            ethertype: EthernetProtocol::Ipv4,
        }
        .emit(&mut EthernetFrame::new_unchecked(&mut bytes[..]));
        let mut packet = Ipv4Packet::new_unchecked(&mut bytes[ETHERNET_HEADER_SIZE..]);
        ip.emit(&mut packet, &ChecksumCapabilities::default());
        udp.emit(
            &mut UdpPacket::new_unchecked(packet.payload_mut()),
            &from.into(),
            &to.into(),
            message.len(),
            |payload| payload.copy_from_slice(&message),
            &ChecksumCapabilities::default(),
        );
        Frame { bytes, ..Frame::default() }
    }

    #[test]
    fn a_request_without_a_name_gets_one_and_stays_sound() {
        for padding in [0, 60] {
            let mut frame = request(&[], SERVER_PORT, padding);
            tell(&mut frame, "web");
            let packet = Ipv4Packet::new_checked(&frame.bytes[ETHERNET_HEADER_SIZE..]).unwrap();
            assert!(packet.verify_checksum());
            let datagram = UdpPacket::new_checked(packet.payload()).unwrap();
            assert!(datagram.verify_checksum(&packet.src_addr().into(), &packet.dst_addr().into()));
            let message = DhcpPacket::new_checked(datagram.payload()).unwrap();
            let names: Vec<_> =
                message.options().filter(|option| option.kind == 12).map(|option| option.data).collect();
            assert_eq!(names, [b"web"]);
            assert_eq!(DhcpRepr::parse(&message).unwrap().message_type, DhcpMessageType::Discover);
        }
    }

    #[test]
    fn everything_else_passes_as_it_is() {
        let named = request(&[DhcpOption { kind: 12, data: b"own" }], SERVER_PORT, 0);
        let other = request(&[], 53, 0);
        let good = request(&[], SERVER_PORT, 0);
        let mut frames = vec![named, other];
        // Cut anywhere, the packet is longer than its frame.
        frames.extend((0..good.bytes.len()).map(|length| Frame { bytes: good.bytes[..length].into(), ..good }));
        for frame in frames {
            let mut told = frame.clone();
            tell(&mut told, "web");
            assert_eq!(told, frame);
        }
        let mut told = good.clone();
        tell(&mut told, "");
        assert_eq!(told, good);
    }
}
