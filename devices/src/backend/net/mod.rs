//! What a network card's cable leads to: a [`NetworkBackend`] moves Ethernet frames (IEEE 802.3, without the frame
//! check sequence) in both directions.
//!
//! Nothing is lost between a card and its network for want of room: a backend that is full refuses a frame, which then
//! stays with the driver, and a card that has no buffers leaves frames in the backend, which stops reading from its
//! sources. Between the two lies a [`Link`], whose queues are bounded in frames and bytes.
//!
//! Frames carry their [`Offload`]: work that the sender has left to whom it concerns, as real cards do. Who cannot pass
//! it on does it by [`offload`].

mod event_loop;
mod link;
pub mod offload;
pub mod pcap;
#[cfg(unix)]
pub mod switch;
#[cfg(target_os = "linux")]
pub mod tap;
pub mod user;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Ready;

pub use link::{Link, NetworkEnd};

/// Bytes of an Ethernet header.
pub const ETHERNET_HEADER_SIZE: usize = 14;
/// Bytes of the largest frame: an IPv4 packet of the largest size, to be segmented, behind a tagged header.
pub const LARGEST_FRAME: usize = 65535 + ETHERNET_HEADER_SIZE + 4;

/// An Ethernet frame, from the destination address to the end of the payload.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frame {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// What remains to be done to them.
    pub offload: Offload,
}

/// Work on a frame that its sender has left undone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offload {
    /// The checksum of the transport protocol, if it is not complete.
    pub checksum: Option<PartialChecksum>,
    /// The frame holds a TCP segment or UDP datagrams one behind the other, over IPv4 or IPv6, with more data than this
    /// many bytes, to be cut into pieces of that size. Comes with a partial checksum, whose place tells which.
    pub segment_size: Option<u16>,
}

/// A checksum whose field holds the sum of the pseudo-header only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartialChecksum {
    /// Where in the frame the bytes to be summed begin; they reach to its end.
    pub start: u16,
    /// Where the field is, from `start`.
    pub offset: u16,
}

/// A network as a card sees it.
///
/// Nothing here blocks. The lock order is device → backend: a backend never calls [`Ready`] while it holds a lock of
/// its own, nor from within one of these methods.
pub trait NetworkBackend: Send + Sync {
    /// Whether frames with [`Offload`] may be sent, and are received. Else both sides keep to complete frames.
    fn offloads(&self) -> bool;

    /// The largest payload of a frame, in bytes.
    fn mtu(&self) -> u16;

    /// Takes a frame that the guest sends. If there is no room it is handed back, and [`Ready`] is called once there
    /// is.
    fn send(&self, frame: Frame) -> Result<(), Frame>;

    /// The next frame for the guest. After there was none, [`Ready`] is called once there is one.
    fn receive(&self) -> Option<Frame>;

    /// Sets who is called, on a thread of the backend's, when frames or room have come; it may be called without
    /// either, and may do there what takes a while. Takes the place of an earlier one. What waits already is not
    /// announced.
    fn attach(&self, ready: Ready);

    /// Has [`Ready`] called soon.
    fn call(&self);
}

/// A 48-bit address of a network card.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MacAddress(pub [u8; 6]);

impl MacAddress {
    /// All stations.
    pub const BROADCAST: MacAddress = MacAddress([0xff; 6]);

    /// An address in the range that virtual machines use (52:54:00), always the same for the same name.
    pub fn from_name(name: &str) -> Self {
        // FNV-1a: spreads similar names, and never changes with a version of the standard library.
        let hash = name
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
        let folded = (hash ^ (hash >> 24) ^ (hash >> 48)).to_be_bytes();
        Self([0x52, 0x54, 0x00, folded[5], folded[6], folded[7]])
    }

    /// Whether it names a group of stations (IEEE 802: the I/G bit), all of them included.
    pub fn is_group(self) -> bool {
        self.0[0] & 1 != 0
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text is no address of a network card.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("MAC address \"{0}\": expected six bytes such as 52:54:00:12:34:56, the first of them even, not all zero")]
pub struct MacAddressError(String);

impl FromStr for MacAddress {
    type Err = MacAddressError;

    fn from_str(text: &str) -> Result<Self, MacAddressError> {
        let error = || MacAddressError(text.into());
        let mut bytes = [0; 6];
        let mut parts = text.split([':', '-']);
        for byte in &mut bytes {
            let part = parts.next().filter(|part| part.len() <= 2).ok_or_else(error)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| error())?;
        }
        let address = Self(bytes);
        if parts.next().is_some() || address.is_group() || bytes == [0; 6] {
            return Err(error());
        }
        Ok(address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_written() {
        let address: MacAddress = "52:54:00:aB:c:0f".parse().unwrap();
        assert_eq!(address.to_string(), "52:54:00:ab:0c:0f");
        for wrong in [
            "",
            "52:54:00:ab:0c",
            "52:54:00:ab:0c:0f:00",
            "53:54:00:ab:0c:0f",
            "0:0:0:0:0:0",
            "52:54:00:ab:0c:100",
            "52:54:00:ab:0c:xx",
            "52:54:00:ab:0c:+1f",
        ] {
            assert!(wrong.parse::<MacAddress>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn names_give_stable_and_different_addresses() {
        assert_eq!(MacAddress::from_name("net0"), MacAddress::from_name("net0"));
        let all: std::collections::HashSet<_> = (0..100).map(|i| MacAddress::from_name(&format!("net{i}"))).collect();
        assert_eq!(all.len(), 100);
        assert!(all.iter().all(|address| address.0[..3] == [0x52, 0x54, 0x00]));
        // A guest finds its card again after an update: this value is for ever.
        assert_eq!(MacAddress::from_name("net0").to_string(), "52:54:00:19:e6:67");
    }
}
