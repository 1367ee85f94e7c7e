//! The work that cards do for their drivers, in software: completing checksums (RFC 1071) and cutting large TCP
//! segments (as a sender would have made them, RFC 9293 §3.7).

use std::collections::VecDeque;

use smoltcp::wire::{IpAddress, IpProtocol, Ipv4Packet, Ipv6Packet, TcpPacket, checksum};

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

/// Where the headers of a TCP frame are.
struct TcpLayout {
    is_ipv6: bool,
    ip: usize,
    tcp: usize,
    data: usize,
}

fn tcp_layout(bytes: &[u8]) -> Option<TcpLayout> {
    let (kind, ip) = network_layer(bytes)?;
    let packet = bytes.get(ip..)?;
    let (version, header_size, protocol) = match kind {
        ETHERTYPE_IPV4 if packet.len() >= 20 => {
            let header = Ipv4Packet::new_unchecked(packet);
            (header.version(), usize::from(header.header_len()), header.next_header())
        }
        ETHERTYPE_IPV6 if packet.len() >= IPV6_HEADER_SIZE => {
            let header = Ipv6Packet::new_unchecked(packet);
            (header.version(), IPV6_HEADER_SIZE, header.next_header())
        }
        _ => return None,
    };
    let is_ipv6 = kind == ETHERTYPE_IPV6;
    if version != if is_ipv6 { 6 } else { 4 } || header_size < 20 || protocol != IpProtocol::Tcp {
        return None;
    }
    let segment = packet.get(header_size..)?;
    let size = usize::from(TcpPacket::new_checked(segment).ok()?.header_len());
    Some(TcpLayout { is_ipv6, ip, tcp: ip + header_size, data: ip + header_size + size })
}

/// Bytes of a frame's headers up to the end of the TCP header, which begins at `start`.
pub fn tcp_headers_size(frame: &Frame, start: u16) -> u16 {
    // The size of a TCP header is in the upper half of its byte 12, in words.
    let words = frame.bytes.get(usize::from(start) + 12).map_or(5, |byte| u16::from(byte >> 4));
    start.saturating_add(4 * words)
}

/// Cuts a frame with a large TCP segment into frames with segments of the size it asks for, which are complete. `None`
/// if it holds no such segment.
pub fn segment(frame: &Frame) -> Option<Vec<Frame>> {
    let size = usize::from(frame.offload.segment_size.filter(|size| *size != 0)?);
    let TcpLayout { is_ipv6, ip, tcp, data } = tcp_layout(&frame.bytes)?;
    let (headers, payload) = frame.bytes.split_at_checked(data)?;
    let count = payload.len().div_ceil(size).max(1);
    let pieces = (0..count).map(|i| {
        let piece = payload.get(i * size..)?;
        let piece = &piece[..piece.len().min(size)];
        let mut bytes = Vec::with_capacity(data + piece.len());
        bytes.extend_from_slice(headers);
        bytes.extend_from_slice(piece);
        let (source, destination) = if is_ipv6 {
            let mut packet = Ipv6Packet::new_unchecked(&mut bytes[ip..]);
            packet.set_payload_len(u16::try_from(data - tcp + piece.len()).ok()?);
            (IpAddress::Ipv6(packet.src_addr()), IpAddress::Ipv6(packet.dst_addr()))
        } else {
            let mut packet = Ipv4Packet::new_unchecked(&mut bytes[ip..]);
            packet.set_total_len(u16::try_from(data - ip + piece.len()).ok()?);
            packet.set_ident(packet.ident().wrapping_add(i as u16));
            packet.fill_checksum();
            (IpAddress::Ipv4(packet.src_addr()), IpAddress::Ipv4(packet.dst_addr()))
        };
        let mut segment = TcpPacket::new_unchecked(&mut bytes[tcp..]);
        segment.set_seq_number(segment.seq_number() + i * size);
        if i != 0 {
            segment.set_cwr(false);
        }
        if i + 1 != count {
            segment.set_fin(false);
            segment.set_psh(false);
        }
        segment.fill_checksum(&source, &destination);
        Some(Frame { bytes, offload: Offload::default() })
    });
    pieces.collect()
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
