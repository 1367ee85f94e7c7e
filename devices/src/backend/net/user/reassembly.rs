//! Putting fragments of IPv4 packets together (RFC 791 §3.2, RFC 815). Overlapping fragments, which no honest sender
//! makes, end a packet (RFC 5722 gives the reasons).

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use smoltcp::wire::Ipv4Packet;

/// Packets that are being put together; the oldest gives way.
const MOST_PACKETS: usize = 16;
const LIFETIME: Duration = Duration::from_secs(30);
const LARGEST_PACKET: usize = 65535;

/// What fragments of one packet have in common.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    source: Ipv4Addr,
    destination: Ipv4Addr,
    protocol: u8,
    ident: u16,
}

struct Pieces {
    since: Instant,
    /// The header of the first fragment.
    header: Option<Vec<u8>>,
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

impl Fragments {
    /// Takes a fragment, a well-formed packet, and returns the whole packet if it is the last that was missing.
    pub fn add(&mut self, packet: &[u8], now: Instant) -> Option<Vec<u8>> {
        let header = Ipv4Packet::new_unchecked(packet);
        let key = Key {
            source: header.src_addr(),
            destination: header.dst_addr(),
            protocol: header.next_header().into(),
            ident: header.ident(),
        };
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
        if pieces.add(&header).is_none() {
            self.packets.remove(&key);
            return None;
        }
        let total = pieces.total?;
        if pieces.present != [(0, total)] {
            return None;
        }
        let pieces = self.packets.remove(&key)?;
        let mut whole = pieces.header?;
        whole.extend_from_slice(&pieces.payload);
        if whole.len() > LARGEST_PACKET {
            return None;
        }
        let length = whole.len() as u16;
        let mut header = Ipv4Packet::new_unchecked(&mut whole[..]);
        header.set_total_len(length);
        header.clear_flags();
        header.set_frag_offset(0);
        header.fill_checksum();
        Some(whole)
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
    fn add(&mut self, packet: &Ipv4Packet<&[u8]>) -> Option<()> {
        let payload = packet.payload();
        let begin = usize::from(packet.frag_offset());
        let end = begin + payload.len();
        let last = !packet.more_frags();
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
            self.header = Some(packet.as_ref()[..usize::from(packet.header_len())].into());
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
}
