//! The work that cards do for their drivers, in software: completing checksums (RFC 1071), and cutting large TCP
//! segments (as a sender would have made them, RFC 9293 §3.7) and what holds several UDP datagrams (virtio 1.3
//! §5.1.6.2).

use std::collections::VecDeque;

use smoltcp::wire::{IpAddress, IpProtocol, Ipv4Packet, Ipv6Packet, TcpPacket, UdpPacket, checksum};

use super::{ETHERNET_HEADER_SIZE, Frame, Offload, PartialChecksum};

/// Bytes of an IEEE 802.1Q tag.
const TAG_SIZE: usize = 4;

/// Completes a partial checksum. `None` if it lies outside of the frame.
pub fn complete_checksum(frame: &mut Frame) -> Option<()> {
    let Some(PartialChecksum { start, offset }) = frame.offload.checksum.take() else { return Some(()) };
    let bytes = frame.bytes.get_mut(usize::from(start)..)?;
    let at = usize::from(offset);
    if at + 2 > bytes.len() {
        return None;
    }
    let sum = match !checksum::data(bytes) {
        // Zero means "no checksum" to UDP, and both stand for the same number (RFC 768).
        0 => 0xffff,
        sum => sum,
    };
    bytes[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    Some(())
}

/// Bytes of a UDP header.
pub const UDP_HEADER_SIZE: usize = 8;
/// Where its checksum is.
const UDP_CHECKSUM_OFFSET: u16 = 6;
/// Bytes of an IPv6 header.
const IPV6_HEADER_SIZE: usize = 40;
const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const ETHERTYPE_TAG: u16 = 0x8100;

/// What a frame holds behind its Ethernet header and tag, and where.
fn network_layer(bytes: &[u8]) -> Option<(u16, usize)> {
    let kind = |at: usize| bytes.get(at..)?.first_chunk().copied().map(u16::from_be_bytes);
    match kind(ETHERNET_HEADER_SIZE - 2)? {
        ETHERTYPE_TAG => Some((kind(ETHERNET_HEADER_SIZE + TAG_SIZE - 2)?, ETHERNET_HEADER_SIZE + TAG_SIZE)),
        kind => Some((kind, ETHERNET_HEADER_SIZE)),
    }
}

/// Whether a frame holds an IPv6 packet.
pub fn is_ipv6(frame: &Frame) -> bool {
    network_layer(&frame.bytes).is_some_and(|(kind, _)| kind == ETHERTYPE_IPV6)
}

/// Whether a frame that is to be cut holds UDP datagrams: their checksum is at another place than TCP's.
pub fn is_udp(frame: &Frame) -> bool {
    frame.offload.checksum.is_some_and(|partial| partial.offset == UDP_CHECKSUM_OFFSET)
}

/// Where the headers of a TCP or UDP frame are.
struct Layout {
    is_ipv6: bool,
    ip: usize,
    transport: usize,
    data: usize,
}

fn layout(bytes: &[u8], wanted: IpProtocol) -> Option<Layout> {
    let (kind, ip) = network_layer(bytes)?;
    let packet = bytes.get(ip..)?;
    let (version, header_size, protocol, is_fragment) = match kind {
        ETHERTYPE_IPV4 if packet.len() >= 20 => {
            let header = Ipv4Packet::new_unchecked(packet);
            let is_fragment = header.more_frags() || header.frag_offset() != 0;
            (header.version(), usize::from(header.header_len()), header.next_header(), is_fragment)
        }
        ETHERTYPE_IPV6 if packet.len() >= IPV6_HEADER_SIZE => {
            let header = Ipv6Packet::new_unchecked(packet);
            (header.version(), IPV6_HEADER_SIZE, header.next_header(), false)
        }
        _ => return None,
    };
    let is_ipv6 = kind == ETHERTYPE_IPV6;
    if version != if is_ipv6 { 6 } else { 4 } || header_size < 20 || protocol != wanted || is_fragment {
        return None;
    }
    let segment = packet.get(header_size..)?;
    let size = match wanted {
        IpProtocol::Udp => UDP_HEADER_SIZE,
        _ => usize::from(TcpPacket::new_checked(segment).ok()?.header_len()),
    };
    Some(Layout { is_ipv6, ip, transport: ip + header_size, data: ip + header_size + size })
}

/// Bytes of the headers of a frame that is to be cut, up to the end of TCP's or UDP's, which begins at `start`.
pub fn headers_size(frame: &Frame, start: u16) -> u16 {
    let size = if is_udp(frame) {
        UDP_HEADER_SIZE as u16
    } else {
        // The size of a TCP header is in the upper half of its byte 12, in words.
        4 * frame.bytes.get(usize::from(start) + 12).map_or(5, |byte| u16::from(byte >> 4))
    };
    start.saturating_add(size)
}

/// Cuts data into pieces of `size` bytes, which is not zero, the last of which may be shorter. Without data there is one
/// piece, an empty one.
pub fn pieces(data: &[u8], size: usize) -> impl ExactSizeIterator<Item = &[u8]> {
    (0..data.len().div_ceil(size).max(1)).map(move |i| &data[i * size..data.len().min((i + 1) * size)])
}

/// Cuts a frame with a large TCP segment or with several UDP datagrams into frames with pieces of the size it asks for,
/// which are complete. `None` if it holds no such thing.
pub fn segment(frame: &Frame) -> Option<Vec<Frame>> {
    let size = usize::from(frame.offload.segment_size.filter(|size| *size != 0)?);
    let is_udp = is_udp(frame);
    let wanted = if is_udp { IpProtocol::Udp } else { IpProtocol::Tcp };
    let Layout { is_ipv6, ip, transport, data } = layout(&frame.bytes, wanted)?;
    let (headers, payload) = frame.bytes.split_at_checked(data)?;
    let pieces = pieces(payload, size);
    let count = pieces.len();
    let frames = pieces.enumerate().map(|(i, piece)| {
        let mut bytes = Vec::with_capacity(data + piece.len());
        bytes.extend_from_slice(headers);
        bytes.extend_from_slice(piece);
        let length = u16::try_from(data - transport + piece.len()).ok()?;
        let (source, destination) = if is_ipv6 {
            let mut packet = Ipv6Packet::new_unchecked(&mut bytes[ip..]);
            packet.set_payload_len(length);
            (IpAddress::Ipv6(packet.src_addr()), IpAddress::Ipv6(packet.dst_addr()))
        } else {
            let mut packet = Ipv4Packet::new_unchecked(&mut bytes[ip..]);
            packet.set_total_len(u16::try_from(data - ip + piece.len()).ok()?);
            packet.set_ident(packet.ident().wrapping_add(i as u16));
            packet.fill_checksum();
            (IpAddress::Ipv4(packet.src_addr()), IpAddress::Ipv4(packet.dst_addr()))
        };
        if is_udp {
            let mut datagram = UdpPacket::new_unchecked(&mut bytes[transport..]);
            datagram.set_len(length);
            datagram.fill_checksum(&source, &destination);
        } else {
            let mut segment = TcpPacket::new_unchecked(&mut bytes[transport..]);
            segment.set_seq_number(segment.seq_number() + i * size);
            if i != 0 {
                segment.set_cwr(false);
            }
            if i + 1 != count {
                segment.set_fin(false);
                segment.set_psh(false);
            }
            segment.fill_checksum(&source, &destination);
        }
        Some(Frame { bytes, offload: Offload::default() })
    });
    frames.collect()
}

/// Does all the work that was left undone in a frame. `None` if it is malformed.
pub fn complete(mut frame: Frame) -> Option<VecDeque<Frame>> {
    if frame.offload.segment_size.is_some() {
        return segment(&frame).map(Into::into);
    }
    complete_checksum(&mut frame)?;
    Some([frame].into())
}

#[cfg(test)]
mod tests {
    use smoltcp::wire::{Ipv4Address, TcpSeqNumber};

    use super::*;

    fn large(payload: usize, segment_size: u16, tagged: bool) -> Frame {
        let mut bytes = vec![2; 12];
        if tagged {
            bytes.extend([0x81, 0, 0, 5]);
        }
        bytes.extend([8, 0]);
        let ip = bytes.len();
        bytes.resize(ip + 40, 0);
        bytes.extend((0..payload).map(|i| (i % 251) as u8));
        let mut packet = Ipv4Packet::new_unchecked(&mut bytes[ip..]);
        packet.set_version(4);
        packet.set_header_len(20);
        packet.set_ident(0xffff);
        packet.set_next_header(IpProtocol::Tcp);
        packet.set_src_addr(Ipv4Address::new(10, 0, 2, 15));
        packet.set_dst_addr(Ipv4Address::new(192, 0, 2, 1));
        let mut segment = TcpPacket::new_unchecked(&mut bytes[ip + 20..]);
        segment.set_header_len(20);
        segment.set_seq_number(TcpSeqNumber(-1000));
        segment.set_fin(true);
        segment.set_psh(true);
        segment.set_ack(true);
        segment.set_cwr(true);
        let checksum = Some(PartialChecksum { start: ip as u16 + 20, offset: 16 });
        Frame { bytes, offload: Offload { checksum, segment_size: Some(segment_size) } }
    }

    #[test]
    fn segments_join_to_the_whole_again() {
        for tagged in [false, true] {
            let ip = if tagged { 18 } else { 14 };
            for (payload, size, count) in [(65000, 1460, 45), (1461, 1460, 2), (1460, 1460, 1), (0, 1460, 1), (9, 1, 9)]
            {
                let pieces = segment(&large(payload, size, tagged)).unwrap();
                assert_eq!(pieces.len(), count);
                let mut joined = Vec::new();
                for (i, piece) in pieces.iter().enumerate() {
                    let packet = Ipv4Packet::new_checked(&piece.bytes[ip..]).unwrap();
                    assert!(packet.verify_checksum());
                    assert_eq!(packet.ident(), 0xffffu16.wrapping_add(i as u16));
                    let segment = TcpPacket::new_checked(packet.payload()).unwrap();
                    let (from, to) = (IpAddress::Ipv4(packet.src_addr()), IpAddress::Ipv4(packet.dst_addr()));
                    assert!(segment.verify_checksum(&from, &to));
                    assert_eq!(segment.seq_number(), TcpSeqNumber(-1000) + joined.len());
                    let last = i + 1 == count;
                    assert_eq!((segment.fin(), segment.psh(), segment.cwr()), (last, last, i == 0));
                    assert!(segment.payload().len() <= usize::from(size));
                    assert_eq!(piece.offload, Offload::default());
                    joined.extend_from_slice(segment.payload());
                }
                assert!(joined == large(payload, size, tagged).bytes[ip + 40..]);
            }
        }
    }

    #[test]
    fn segments_over_ipv6_join_to_the_whole_again() {
        let mut bytes = [&[2; 12][..], &[0x86, 0xdd, 0x60, 0, 0, 0, 0, 0, 6, 64], &[1; 16], &[3; 16]].concat();
        let tcp = bytes.len();
        bytes.resize(tcp + 20, 0);
        bytes[tcp + 12] = 0x50;
        bytes.extend((0..2500).map(|i| (i % 251) as u8));
        let checksum = Some(PartialChecksum { start: tcp as u16, offset: 16 });
        let whole = Frame { bytes, offload: Offload { checksum, segment_size: Some(1000) } };
        assert!(is_ipv6(&whole) && !is_ipv6(&large(1, 1, true)));
        let pieces = segment(&whole).unwrap();
        let mut joined = Vec::new();
        for piece in &pieces {
            let packet = Ipv6Packet::new_checked(&piece.bytes[14..]).unwrap();
            let (from, to) = (IpAddress::Ipv6(packet.src_addr()), IpAddress::Ipv6(packet.dst_addr()));
            assert_eq!(packet.total_len(), piece.bytes.len() - 14);
            let segment = TcpPacket::new_checked(packet.payload()).unwrap();
            assert!(segment.verify_checksum(&from, &to));
            assert_eq!(segment.seq_number(), TcpSeqNumber(0) + joined.len());
            joined.extend_from_slice(segment.payload());
        }
        assert_eq!(pieces.len(), 3);
        assert!(joined == whole.bytes[tcp + 20..]);
        for length in 0..tcp + 20 {
            assert!(segment(&Frame { bytes: whole.bytes[..length].into(), ..whole }).is_none(), "{length}");
        }
    }

    /// A frame with `payload` bytes of datagrams.
    fn datagrams(payload: usize, size: u16, is_ipv6: bool, tagged: bool) -> Frame {
        let mut bytes = vec![2; 12];
        if tagged {
            bytes.extend([0x81, 0, 0, 5]);
        }
        if is_ipv6 {
            bytes.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 0, 17, 64]);
            bytes.extend([[1; 16], [3; 16]].as_flattened());
        } else {
            bytes.extend([8, 0, 0x45, 0, 0, 0, 0xff, 0xff, 0x40, 0, 64, 17, 0, 0, 10, 0, 2, 15, 192, 0, 2, 1]);
        }
        let start = bytes.len() as u16;
        bytes.extend([0x13, 0x88, 0x17, 0x70, 0, 0, 0, 0]);
        bytes.extend((0..payload).map(|i| (i % 251) as u8));
        let checksum = Some(PartialChecksum { start, offset: 6 });
        Frame { bytes, offload: Offload { checksum, segment_size: Some(size) } }
    }

    #[test]
    fn datagrams_are_cut_at_their_borders() {
        for (payload, size, count) in [(44000, 1472, 30), (1473, 1472, 2), (1472, 1472, 1), (0, 100, 1), (9, 1, 9)] {
            for (is_ipv6, tagged) in [(false, false), (false, true), (true, false), (true, true)] {
                let whole = datagrams(payload, size, is_ipv6, tagged);
                assert!(is_udp(&whole));
                let PartialChecksum { start, .. } = whole.offload.checksum.unwrap();
                assert_eq!(headers_size(&whole, start), start + 8);
                let pieces = segment(&whole).unwrap();
                assert_eq!(pieces.len(), count);
                let mut joined = Vec::new();
                for (i, piece) in pieces.iter().enumerate() {
                    assert_eq!(piece.offload, Offload::default());
                    let bytes = &piece.bytes[if tagged { 18 } else { 14 }..];
                    let (from, to, payload) = if is_ipv6 {
                        let packet = Ipv6Packet::new_checked(bytes).unwrap();
                        assert_eq!(packet.total_len(), bytes.len());
                        (packet.src_addr().into(), packet.dst_addr().into(), packet.payload())
                    } else {
                        let packet = Ipv4Packet::new_checked(bytes).unwrap();
                        assert!(packet.verify_checksum());
                        assert_eq!(usize::from(packet.total_len()), bytes.len());
                        assert_eq!(packet.ident(), 0xffffu16.wrapping_add(i as u16));
                        (packet.src_addr().into(), packet.dst_addr().into(), packet.payload())
                    };
                    let datagram = UdpPacket::new_checked(payload).unwrap();
                    assert!(datagram.checksum() != 0 && datagram.verify_checksum(&from, &to));
                    assert_eq!((datagram.src_port(), datagram.dst_port()), (5000, 6000));
                    let is_last = i + 1 == count;
                    assert!(is_last || datagram.payload().len() == usize::from(size));
                    joined.extend_from_slice(datagram.payload());
                }
                assert!(joined == whole.bytes[usize::from(start) + 8..]);
            }
        }
    }

    #[test]
    fn what_holds_no_datagrams_is_refused() {
        for is_ipv6 in [false, true] {
            let good = datagrams(300, 100, is_ipv6, false);
            let headers = if is_ipv6 { 62 } else { 42 };
            for length in 0..headers {
                assert!(segment(&Frame { bytes: good.bytes[..length].into(), ..good }).is_none(), "{length}");
            }
            assert_eq!(segment(&Frame { bytes: good.bytes[..headers].into(), ..good }).unwrap().len(), 1);
        }
        let good = datagrams(300, 100, false, false);
        // No IP, another version, options beyond its end, a first and a later fragment, TCP.
        for (at, value) in [(12, 0x86), (14, 0x65), (14, 0x44), (20, 0x20), (21, 1), (23, 6)] {
            let mut frame = good.clone();
            frame.bytes[at] = value;
            assert!(segment(&frame).is_none(), "{value:#x} at {at}");
        }
        let mut frame = good.clone();
        frame.bytes.truncate(14 + 59);
        frame.bytes[14] = 0x4f;
        assert!(segment(&frame).is_none());
        // Datagrams where a TCP segment is announced.
        let checksum = Some(PartialChecksum { start: 34, offset: 16 });
        assert!(segment(&Frame { offload: Offload { checksum, segment_size: Some(100) }, ..good.clone() }).is_none());
        // A packet too large for its own length cannot come of pieces that are none.
        let huge = datagrams(70_000, 65_535, false, false);
        assert!(segment(&huge).is_none());
    }

    #[test]
    fn what_is_no_large_segment_is_refused() {
        let good = large(3000, 1000, false);
        for length in 0..54 {
            assert!(segment(&Frame { bytes: good.bytes[..length].into(), ..good }).is_none(), "{length}");
        }
        for (at, value) in [(12, 0x86), (14, 0x65), (14, 0x44), (23, 17), (46, 0x10), (46, 0xf0)] {
            let mut frame = good.clone();
            frame.bytes.truncate(60);
            frame.bytes[at] = value;
            assert!(segment(&frame).is_none(), "{value:#x} at {at}");
        }
        assert!(segment(&Frame { offload: Offload::default(), ..good }).is_none());
    }

    #[test]
    fn partial_checksums_are_completed_inside_the_frame_only() {
        let mut frame = Frame { bytes: vec![0xff, 0x12, 0x34, 0, 0, 0x56], ..Frame::default() };
        frame.offload.checksum = Some(PartialChecksum { start: 1, offset: 2 });
        complete_checksum(&mut frame).unwrap();
        // 0x1234 + 0x5600, complemented.
        assert_eq!(frame.bytes, [0xff, 0x12, 0x34, 0x97, 0xcb, 0x56]);
        assert_eq!(frame.offload.checksum, None);
        for (start, offset) in [(0, 5), (5, 0), (6, 0), (7, 0), (0, 0xffff), (0xffff, 0xffff)] {
            frame.offload.checksum = Some(PartialChecksum { start, offset });
            assert!(complete_checksum(&mut frame).is_none());
        }
        let mut zero = Frame { bytes: vec![0xff, 0xff, 0, 0], ..Frame::default() };
        zero.offload.checksum = Some(PartialChecksum { start: 0, offset: 2 });
        complete_checksum(&mut zero).unwrap();
        assert_eq!(zero.bytes[2..], [0xff, 0xff]);
    }
}
