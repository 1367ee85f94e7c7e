//! A TAP interface of a Linux host as a guest's network: what the host does with it (an address, a bridge, rules) is the
//! host's administrator's.

mod interface;

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};

use super::event_loop::{EventLoop, Threaded};
use super::{ETHERNET_HEADER_SIZE, Frame, LARGEST_FRAME, Link, NetworkEnd, Offload, PartialChecksum, offload};
use interface::Interface;

pub use interface::TapError;

const WAKER: Token = Token(0);
const INTERFACE: Token = Token(1);
/// Frames in one direction before it is the other's turn.
const BATCH: usize = 64;
/// Bytes of a `virtio_net_hdr` (virtio 1.3 §5.1.6, without the number of buffers).
const HEADER_SIZE: usize = 10;
const NEEDS_CHECKSUM: u8 = 1;
const NO_SEGMENTS: u8 = 0;
const TCP_IPV4: u8 = 1;
const TCP_IPV6: u8 = 4;
const UDP: u8 = 5;

/// A guest's connection to a TAP interface.
pub struct Tap {
    event_loop: EventLoop,
}

impl Tap {
    /// Connects a guest to the interface `name`. Its MTU is that of the interface.
    pub fn start(name: &str) -> Result<Arc<Self>, TapError> {
        let interface = Interface::open(name)?;
        let mtu = std::fs::read_to_string(format!("/sys/class/net/{name}/mtu"));
        let mtu = mtu.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(1500);
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let (link, end) = Link::new(mtu, {
            let waker = waker.clone();
            // Fails only if the loop has ended.
            move || _ = waker.wake()
        });
        let fd = interface.as_fd().as_raw_fd();
        poll.registry().register(&mut SourceFd(&fd), INTERFACE, Interest::READABLE | Interest::WRITABLE)?;
        let bridge = Bridge {
            interface,
            end,
            poll,
            waiting: VecDeque::new(),
            buffer: vec![0; HEADER_SIZE + LARGEST_FRAME],
            readable: true,
            writable: true,
        };
        Ok(Arc::new(Self { event_loop: EventLoop::start("tap", link, waker, move |quit| bridge.run(quit))? }))
    }
}

impl Threaded for Tap {
    fn event_loop(&self) -> &EventLoop {
        &self.event_loop
    }
}

/// What lies between the cable and the interface.
struct Bridge {
    interface: Interface,
    end: NetworkEnd,
    poll: Poll,
    /// Packets that wait for the interface: one that it had no room for, or what a frame was cut into.
    waiting: VecDeque<Vec<u8>>,
    buffer: Vec<u8>,
    readable: bool,
    writable: bool,
}

impl Bridge {
    fn run(mut self, quit: &AtomicBool) {
        let mut events = Events::with_capacity(4);
        while !quit.load(Ordering::Acquire) {
            self.end.flush();
            let mut more = self.pass_to_host();
            more |= self.pass_to_guest();
            more |= self.end.flush();
            match self.poll.poll(&mut events, more.then_some(Duration::ZERO)) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    tracing::error!("the TAP interface is served no more: {error}");
                    return;
                }
            }
            for event in events.iter().filter(|event| event.token() == INTERFACE) {
                self.readable |= event.is_readable() || event.is_error();
                self.writable |= event.is_writable() || event.is_error();
            }
        }
    }

    /// Passes frames of the guest's on. Whether there may be more is the answer.
    fn pass_to_host(&mut self) -> bool {
        for _ in 0..BATCH {
            if !self.writable {
                return false;
            }
            let Some(packet) = self.next_packet() else { return false };
            match self.interface.file().write(&packet) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.writable = false;
                    self.waiting.push_front(packet);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => self.waiting.push_front(packet),
                // The interface is down, or the frame is none that it takes.
                Err(error) => tracing::debug!("tap: a frame was dropped: {error}"),
            }
        }
        true
    }

    /// The next packet for the interface.
    fn next_packet(&mut self) -> Option<Vec<u8>> {
        while self.waiting.is_empty() {
            let frame = self.end.receive()?;
            if frame.offload.segment_size.is_none() || !offload::is_udp(&frame) || self.interface.takes_datagrams() {
                return Some(packet_of(&frame));
            }
            match offload::segment(&frame) {
                Some(frames) => self.waiting = frames.iter().map(packet_of).collect(),
                None => tracing::debug!("tap: a malformed frame was dropped"),
            }
        }
        self.waiting.pop_front()
    }

    /// Passes frames to the guest. Whether there may be more is the answer.
    fn pass_to_guest(&mut self) -> bool {
        for _ in 0..BATCH {
            if !self.readable || !self.end.has_room() {
                return false;
            }
            match self.interface.file().read(&mut self.buffer) {
                Ok(length) => match frame_of(&self.buffer[..length]) {
                    Some(frame) => self.end.send(frame),
                    None => tracing::debug!("tap: a frame of {length} bytes was dropped"),
                },
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    if error.kind() != io::ErrorKind::WouldBlock {
                        tracing::debug!("tap: nothing can be read: {error}");
                    }
                    self.readable = false;
                }
            }
        }
        true
    }
}

/// How a frame is to be cut.
fn segments(frame: &Frame) -> u8 {
    match (offload::is_udp(frame), offload::is_ipv6(frame)) {
        (true, _) => UDP,
        (false, true) => TCP_IPV6,
        (false, false) => TCP_IPV4,
    }
}

/// A frame behind its header, as the interface takes it.
fn packet_of(frame: &Frame) -> Vec<u8> {
    let mut packet = vec![0; HEADER_SIZE];
    if let Some(PartialChecksum { start, offset }) = frame.offload.checksum {
        packet[0] = NEEDS_CHECKSUM;
        packet[6..8].copy_from_slice(&start.to_le_bytes());
        packet[8..10].copy_from_slice(&offset.to_le_bytes());
        if let Some(size) = frame.offload.segment_size {
            packet[1] = segments(frame);
            packet[2..4].copy_from_slice(&offload::headers_size(frame, start).to_le_bytes());
            packet[4..6].copy_from_slice(&size.to_le_bytes());
        }
    }
    packet.extend_from_slice(&frame.bytes);
    packet
}

/// The frame in what was read from the interface, if it is sound.
fn frame_of(packet: &[u8]) -> Option<Frame> {
    let (header, bytes) = packet.split_at_checked(HEADER_SIZE)?;
    let number = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
    let mut offload = Offload::default();
    if header[0] & NEEDS_CHECKSUM != 0 {
        let (start, offset) = (number(6), number(8));
        if usize::from(start) + usize::from(offset) + 2 > bytes.len() {
            return None;
        }
        offload.checksum = Some(PartialChecksum { start, offset });
    }
    match header[1] {
        NO_SEGMENTS => {}
        TCP_IPV4 | TCP_IPV6 | UDP if offload.checksum.is_some() && number(4) != 0 => {
            offload.segment_size = Some(number(4));
        }
        _ => return None,
    }
    let frame = Frame { bytes: bytes.into(), offload };
    let is_sound =
        frame.bytes.len() >= ETHERNET_HEADER_SIZE && (header[1] == NO_SEGMENTS || header[1] == segments(&frame));
    is_sound.then_some(frame)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_back_as_they_went() {
        let checksum = Some(PartialChecksum { start: 34, offset: 16 });
        for offload in [
            Offload::default(),
            Offload { checksum, segment_size: None },
            Offload { checksum, segment_size: Some(1448) },
            Offload { checksum: Some(PartialChecksum { start: 34, offset: 6 }), segment_size: Some(1448) },
        ] {
            let mut bytes = vec![1; 3000];
            bytes[12..14].copy_from_slice(&[8, 0]);
            bytes[46] = 0x80;
            let frame = Frame { bytes, offload };
            let packet = packet_of(&frame);
            assert_eq!(frame_of(&packet), Some(frame));
            if offload.segment_size.is_some() {
                let (kind, size) = if offload::is_udp(&frame_of(&packet).unwrap()) { (5, 42) } else { (1, 66) };
                assert_eq!(packet[1..4], [kind, size, 0], "Ethernet, IPv4, UDP or TCP with options");
            }
        }
    }

    #[test]
    fn what_is_not_sound_is_no_frame() {
        let sound = packet_of(&Frame { bytes: vec![1; 60], ..Frame::default() });
        assert!(frame_of(&sound).is_some());
        for length in 0..HEADER_SIZE + ETHERNET_HEADER_SIZE {
            assert_eq!(frame_of(&sound[..length]), None, "{length}");
        }
        // A checksum outside; segments without one, without a size, of a kind that was not asked for.
        for (at, bytes) in [
            (0, &[1, 0, 0, 0, 0, 0, 58, 0, 1][..]),
            (1, &[1, 0, 0, 1]),
            (0, &[1, 1]),
            (0, &[1, 3, 0, 0, 1]),
            // UDP with TCP's checksum, and the other way round.
            (0, &[1, 5, 0, 0, 1, 0, 34, 0, 16]),
            (0, &[1, 1, 0, 0, 1, 0, 34, 0, 6]),
        ] {
            let mut packet = sound.clone();
            packet[at..at + bytes.len()].copy_from_slice(bytes);
            assert_eq!(frame_of(&packet), None, "{bytes:?}");
        }
    }

    #[test]
    fn what_cannot_be_opened_is_told() {
        for name in ["", "a/b", "a name", "sixteen-letters-", "tap%d"] {
            assert!(matches!(Tap::start(name), Err(TapError::Name(_))), "{name}");
        }
        // The loopback interface is there, and no TAP interface.
        assert!(Tap::start("lo").is_err());
    }
}
