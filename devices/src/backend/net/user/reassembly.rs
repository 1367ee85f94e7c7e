//! Putting fragments of packets together: of IPv4 (RFC 791 §3.2, RFC 815) and of IPv6 (RFC 8200 §4.5). Overlapping
//! fragments, which no honest sender makes, end a packet (RFC 5722 gives the reasons).

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use smoltcp::wire::{IpProtocol, Ipv4Packet, Ipv6Packet};

use super::ip::{IPV6_HEADER_SIZE, Packet};

/// Packets that are being put together; the oldest gives way.
const MOST_PACKETS: usize = 16;
const LIFETIME: Duration = Duration::from_secs(30);
/// Bytes of the largest packet, for IPv6 without its header.
const LARGEST_PACKET: usize = 65535;
/// Bytes of IPv6's fragment header.
pub const FRAGMENT_HEADER_SIZE: usize = 8;

/// What fragments of one packet have in common.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    source: IpAddr,
    destination: IpAddr,
    /// Only IPv4's fragments are told apart by it.
    protocol: Option<IpProtocol>,
    ident: u32,
}

/// One fragment.
struct Fragment<'a> {
    key: Key,
    /// Where it begins in the packet's payload.
    begin: usize,
    payload: &'a [u8],
    last: bool,
    /// The packet's header, as it is in this fragment.
    header: &'a [u8],
    /// What the payload is.
    protocol: IpProtocol,
}

struct Pieces {
    since: Instant,
    /// The header of the first fragment, and the protocol that it names.
    header: Option<(Vec<u8>, IpProtocol)>,
    payload: Vec<u8>,
    /// Ranges of the payload that have come, in order and apart.
    present: Vec<(usize, usize)>,
    /// Bytes of the whole payload, once the last fragment has come.
    total: Option<usize>,
}

/// All unfinished packets.
#[derive(Default)]
pub struct Fragments {
    packets: HashMap<Key, Pieces>,
}

impl<'a> Fragment<'a> {
    /// A fragment of IPv4, a well-formed packet.
    fn v4(bytes: &'a [u8]) -> Self {
        let packet = Ipv4Packet::new_unchecked(bytes);
        let key = Key {
            source: packet.src_addr().into(),
            destination: packet.dst_addr().into(),
            protocol: Some(packet.next_header()),
            ident: packet.ident().into(),
        };
        let (header, protocol) = (&bytes[..usize::from(packet.header_len())], packet.next_header());
        let begin = usize::from(packet.frag_offset());
        Self { key, begin, payload: packet.payload(), last: !packet.more_frags(), header, protocol }
    }

    /// A fragment of IPv6 whose fragment header follows the first header.
    fn v6(packet: &Packet<'a>) -> Option<Self> {
        let (&[protocol, _, high, low, ref ident @ ..], payload) =
            packet.payload.split_first_chunk::<FRAGMENT_HEADER_SIZE>()?;
        let place = u16::from_be_bytes([high, low]);
        let ident = u32::from_be_bytes(*ident);
        let key = Key { source: packet.source, destination: packet.destination, protocol: None, ident };
        let header = packet.bytes.get(..IPV6_HEADER_SIZE)?;
        let (begin, last) = (usize::from(place & !7), place & 1 == 0);
        Some(Self { key, begin, payload, last, header, protocol: protocol.into() })
    }
}

/// The whole packet of `header` and `payload`.
fn whole(header: &[u8], protocol: IpProtocol, payload: &[u8]) -> Option<Vec<u8>> {
    let is_v4 = header.first()? >> 4 == 4;
    let counted = if is_v4 { header.len() + payload.len() } else { payload.len() };
    let length = u16::try_from(counted).ok()?;
    let mut bytes = [header, payload].concat();
    if is_v4 {
        let mut header = Ipv4Packet::new_unchecked(&mut bytes[..]);
        header.set_total_len(length);
        header.clear_flags();
        header.set_frag_offset(0);
        header.fill_checksum();
    } else {
        let mut header = Ipv6Packet::new_unchecked(&mut bytes[..]);
        header.set_payload_len(length);
        header.set_next_header(protocol);
    }
    Some(bytes)
}

impl Fragments {
    /// Takes a fragment of IPv4, a well-formed packet, and returns the whole packet if it is the last that was missing.
    pub fn add(&mut self, packet: &[u8], now: Instant) -> Option<Vec<u8>> {
        self.add_fragment(&Fragment::v4(packet), now)
    }

    /// Likewise a fragment of IPv6.
    pub fn add_v6(&mut self, packet: &Packet<'_>, now: Instant) -> Option<Vec<u8>> {
        let fragment = Fragment::v6(packet)?;
        if fragment.begin == 0 && fragment.last {
            // No fragment but in name, which has nothing to do with others of its number (RFC 6946).
            return whole(fragment.header, fragment.protocol, fragment.payload);
        }
        self.add_fragment(&fragment, now)
    }

    fn add_fragment(&mut self, fragment: &Fragment<'_>, now: Instant) -> Option<Vec<u8>> {
        let key = fragment.key;
        if self.packets.len() >= MOST_PACKETS && !self.packets.contains_key(&key) {
            let oldest = self.packets.iter().min_by_key(|(_, pieces)| pieces.since).map(|(key, _)| *key);
            oldest.and_then(|oldest| self.packets.remove(&oldest));
        }
        let pieces = self.packets.entry(key).or_insert_with(|| Pieces {
            since: now,
            header: None,
            payload: Vec::new(),
            present: Vec::new(),
            total: None,
        });
        if pieces.add(fragment).is_none() {
            self.packets.remove(&key);
            return None;
        }
        let total = pieces.total?;
        if pieces.present != [(0, total)] {
            return None;
        }
        let pieces = self.packets.remove(&key)?;
        let (header, protocol) = pieces.header?;
        whole(&header, protocol, &pieces.payload)
    }

    pub fn deadline(&self) -> Option<Instant> {
        self.packets.values().map(|pieces| pieces.since + LIFETIME).min()
    }

    pub fn expire(&mut self, now: Instant) {
        self.packets.retain(|_, pieces| pieces.since + LIFETIME > now);
    }
}

impl Pieces {
    /// Takes a fragment. `None` if it contradicts the others.
    fn add(&mut self, fragment: &Fragment<'_>) -> Option<()> {
        let &Fragment { begin, payload, last, .. } = fragment;
        let end = begin + payload.len();
        // All but the last are multiples of eight bytes, and none is empty.
        if end > LARGEST_PACKET || payload.is_empty() || (!last && !payload.len().is_multiple_of(8)) {
            return None;
        }
        if last && self.total.replace(end).is_some_and(|total| total != end) {
            return None;
        }
        if self.total.is_some_and(|total| end > total || self.present.last().is_some_and(|(_, end)| *end > total)) {
            return None;
        }
        let at = self.present.partition_point(|(other, _)| *other < begin);
        if self.present.get(at) == Some(&(begin, end)) {
            // The same once more.
            return Some(());
        }
        let before = at.checked_sub(1).map(|before| self.present[before]);
        if before.is_some_and(|(_, other)| other > begin) || self.present.get(at).is_some_and(|(next, _)| *next < end) {
            return None;
        }
        if begin == 0 {
            self.header = Some((fragment.header.into(), fragment.protocol));
        }
        self.payload.resize(self.payload.len().max(end), 0);
        self.payload[begin..end].copy_from_slice(payload);
        // Joins the neighbours that it touches.
        let mut joined = (begin, end);
        let mut range = at..at;
        if let Some((start, other)) = before.filter(|(_, other)| *other == begin) {
            joined.0 = start;
            range.start = at - 1;
            debug_assert_eq!(other, begin);
        }
        if let Some((_, other)) = self.present.get(at).filter(|(next, _)| *next == end) {
            joined.1 = *other;
            range.end = at + 1;
        }
        self.present.splice(range, [joined]);
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fragment(ident: u16, begin: usize, payload: &[u8], more: bool) -> Vec<u8> {
        let mut bytes = vec![0; 20];
        bytes.extend_from_slice(payload);
        let mut packet = Ipv4Packet::new_unchecked(&mut bytes[..]);
        packet.set_version(4);
        packet.set_header_len(20);
        packet.set_total_len(20 + payload.len() as u16);
        packet.set_ident(ident);
        packet.set_more_frags(more);
        packet.set_frag_offset(begin as u16);
        bytes
    }

    #[test]
    fn any_order_gives_the_whole() {
        let payload: Vec<u8> = (0..3000).map(|i| (i % 251) as u8).collect();
        let cuts = [(0, 800, true), (800, 1600, true), (1600, 2400, true), (2400, 3000, false)];
        for order in [[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1], [1, 3, 0, 2]] {
            let mut fragments = Fragments::default();
            for (i, &index) in order.iter().enumerate() {
                let (begin, end, more) = cuts[index];
                let piece = fragment(7, begin, &payload[begin..end], more);
                // One that comes twice changes nothing.
                if i < 3 && i != 0 {
                    let (begin, end, more) = cuts[order[0]];
                    let _ = fragments.add(&fragment(8, begin, &payload[begin..end], more), Instant::now());
                }
                let whole = fragments.add(&piece, Instant::now());
                assert_eq!(whole.is_some(), i == 3);
                if let Some(whole) = whole {
                    let packet = Ipv4Packet::new_checked(&whole[..]).unwrap();
                    assert!(packet.verify_checksum() && !packet.more_frags());
                    assert!(packet.payload() == payload);
                }
            }
        }
    }

    #[test]
    fn contradictions_end_a_packet() {
        for second in [
            fragment(1, 8, &[0; 16], true),
            fragment(1, 0, &[0; 24], true),
            fragment(1, 8, &[0; 4], false),
            fragment(1, 16, &[0; 5], true),
            fragment(1, 16, &[], true),
            fragment(1, 65528, &[0; 16], false),
        ] {
            let mut fragments = Fragments::default();
            assert!(fragments.add(&fragment(1, 0, &[0; 16], true), Instant::now()).is_none());
            assert!(fragments.add(&second, Instant::now()).is_none());
            assert!(fragments.packets.is_empty());
        }
    }

    #[test]
    fn memory_is_bounded_and_returned() {
        let mut fragments = Fragments::default();
        for ident in 0..1000 {
            assert!(fragments.add(&fragment(ident, 65000, &[0; 8], true), Instant::now()).is_none());
        }
        assert_eq!(fragments.packets.len(), MOST_PACKETS);
        fragments.expire(Instant::now() + LIFETIME);
        assert!(fragments.packets.is_empty());
    }

    fn fragment_v6(ident: u32, begin: u16, payload: &[u8], more: bool) -> Vec<u8> {
        let mut bytes = vec![0x60, 0, 0, 0, 0, 0, 44, 64];
        bytes.extend([0xfe; 32]);
        bytes[4..6].copy_from_slice(&(8 + payload.len() as u16).to_be_bytes());
        bytes.extend([17, 0]);
        bytes.extend((begin | u16::from(more)).to_be_bytes());
        bytes.extend(ident.to_be_bytes());
        bytes.extend(payload);
        bytes
    }

    #[test]
    fn fragments_of_ipv6() {
        let now = Instant::now();
        let mut fragments = Fragments::default();
        let mut add = |bytes: &[u8]| fragments.add_v6(&Packet::parse(bytes).unwrap(), now);
        let payload: Vec<u8> = (0..3000).map(|i| (i % 251) as u8).collect();
        assert_eq!(add(&fragment_v6(1, 1600, &payload[1600..], false)), None);
        assert_eq!(add(&fragment_v6(1, 0, &payload[..800], true)), None);
        assert_eq!(add(&fragment_v6(2, 800, &payload[800..1600], true)), None, "another packet's");
        // Whole by itself, whatever its number.
        let atomic = add(&fragment_v6(1, 0, b"atomic", false)).unwrap();
        assert_eq!(Packet::parse(&atomic).unwrap().payload, b"atomic");
        let whole = add(&fragment_v6(1, 800, &payload[800..1600], true)).unwrap();
        let packet = Packet::parse(&whole).unwrap();
        assert_eq!((packet.protocol, packet.bytes.len()), (IpProtocol::Udp, 3040));
        assert!(packet.payload == payload);
        // Too large together; cut off in the fragment header.
        assert_eq!(add(&fragment_v6(3, 0, &[0; 8], true)), None);
        assert_eq!(add(&fragment_v6(3, 65528, &[0; 16], false)), None);
        let mut short = fragment_v6(4, 0, &[], true);
        short.truncate(47);
        short[5] = 7;
        assert_eq!(add(&short), None);
        assert_eq!(fragments.packets.len(), 1);
    }
}
