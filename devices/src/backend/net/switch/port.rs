//! What hangs on a switch: the card of this process's guest, the router, streams to others, and peers whose frames come
//! as datagrams (`datagram`).

use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::event::Source;
use mio::net::UnixStream;

use super::datagram::DatagramPeer;
use crate::backend::net::user::UserNetwork;
use crate::backend::net::{
    ETHERNET_HEADER_SIZE, Frame, LARGEST_FRAME, NetworkBackend, NetworkEnd, Offload, PartialChecksum, offload,
};

/// A port that has been full for this long is stuck: what is for it is dropped until it takes something.
pub const PATIENCE: Duration = Duration::from_millis(100);
/// Bytes before each frame of a stream: its length, most significant byte first.
const LENGTH_SIZE: usize = 4;
/// Bytes that are read from a stream at a time.
const CHUNK: usize = 256 << 10;
/// Bytes that wait for a peer to take them, beyond which it gets no further frame.
pub const MOST_WAITING: usize = 1 << 20;

/// Set in the length of a frame with an [`Offload`].
const INCOMPLETE: u32 = 1 << 31;
/// Bytes of an offload on a stream.
const OFFLOAD_SIZE: usize = 6;
/// The frame that tells a peer that it may send frames with an [`Offload`]. Others pass it to their guests, which know
/// nothing of it: its destination is for direct neighbours only (IEEE 802.1Q §8.6.3), its EtherType for experiments.
const GREETING: &[u8] = b"\x01\x80\xc2\x00\x00\x0e\x52\x55\x0a\x00\x02\x02\x88\xb5vervet: frames may be incomplete 2";

/// Reads an offload for a frame of `length` bytes. `None` if it leads out of the frame.
fn offload_of(bytes: &[u8], length: usize) -> Option<Offload> {
    let number = |at: usize| bytes.get(at..)?.first_chunk().copied().map(u16::from_be_bytes);
    let (start, offset, size) = (number(0)?, number(2)?, number(4)?);
    let inside = usize::from(start) + usize::from(offset) + 2 <= length;
    let segment_size = Some(size).filter(|size| *size != 0);
    inside.then_some(Offload { checksum: Some(PartialChecksum { start, offset }), segment_size })
}

/// Where a port leads.
pub enum End {
    Card(NetworkEnd),
    Router(Arc<UserNetwork>),
    Stream(Stream),
    Datagram(DatagramPeer),
}

impl End {
    /// What the host tells about, if this leads out of the process.
    pub fn source(&mut self) -> Option<&mut dyn Source> {
        match self {
            End::Card(_) | End::Router(_) => None,
            End::Stream(stream) => Some(stream.socket()),
            End::Datagram(peer) => Some(peer.socket()),
        }
    }

    /// Notes what the host tells.
    pub fn ready(&mut self, readable: bool, writable: bool) {
        match self {
            End::Card(_) | End::Router(_) => {}
            End::Stream(stream) => stream.ready(readable, writable),
            // Nothing comes by the socket that is told of here.
            End::Datagram(peer) => peer.ready(),
        }
    }
}

/// A port of a switch.
pub struct Port {
    pub end: End,
    /// A frame from here whose destination has no room.
    pub pending: Option<Frame>,
    /// When it last took a frame.
    took: Instant,
}

impl Port {
    pub fn new(end: End) -> Self {
        Self { end, pending: None, took: Instant::now() }
    }

    /// The next frame from here.
    pub fn receive(&mut self) -> Option<Frame> {
        self.pending.take().or_else(|| match &mut self.end {
            End::Card(end) => end.receive(),
            End::Router(router) => router.receive(),
            End::Stream(stream) => stream.receive(),
            End::Datagram(peer) => peer.receive(),
        })
    }

    /// Gives a frame to the port, or back if there is no room; what is malformed is dropped.
    pub fn send(&mut self, frame: Frame, now: Instant) -> Result<(), Frame> {
        match &mut self.end {
            End::Card(end) => {
                if !end.has_room() {
                    return Err(frame);
                }
                end.send(frame);
            }
            End::Router(router) => router.send(frame)?,
            End::Stream(stream) => {
                if !stream.has_room() {
                    return Err(frame);
                }
                stream.send(frame);
            }
            End::Datagram(peer) => {
                if !peer.has_room() {
                    return Err(frame);
                }
                peer.send(frame);
            }
        }
        self.took = now;
        Ok(())
    }

    /// Whether it takes nothing any more.
    pub fn is_stuck(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.took) >= PATIENCE
    }

    /// Lets this process's card put its frames into the queue. To be called at the beginning of a batch.
    pub fn call(&mut self) {
        if let End::Card(end) = &mut self.end {
            // What it has is taken now.
            let _ = end.flush();
        }
    }

    /// To be called at the end of a batch. Whether there is more to be taken from here is the answer.
    pub fn flush(&mut self) -> bool {
        match &mut self.end {
            End::Card(end) => return end.flush(),
            End::Router(_) => {}
            End::Stream(stream) => stream.flush(),
            End::Datagram(peer) => peer.flush(),
        }
        false
    }

    /// Whether nobody is there any more.
    pub fn has_ended(&self) -> bool {
        match &self.end {
            End::Card(_) | End::Router(_) => false,
            End::Stream(stream) => stream.ended,
            End::Datagram(peer) => peer.has_ended(),
        }
    }

    /// Looks whether somebody is there, where nothing tells of the end.
    pub fn probe(&mut self) {
        if let End::Datagram(peer) = &mut self.end {
            peer.probe();
        }
    }
}

/// A connection over which frames pass, each behind its length. If the peer has sent the [`GREETING`], frames may be
/// incomplete: the highest bit of the length is set then, and three numbers of two bytes follow, most significant byte
/// first: where the bytes of the partial checksum begin and, from there, its field; and the size of segments, or zero.
pub struct Stream {
    socket: UnixStream,
    /// Bytes that came, those before `parsed` being done with. Never more than two frames and a chunk.
    input: Vec<u8>,
    parsed: usize,
    /// Bytes that go, those before `written` being done with.
    output: Vec<u8>,
    written: usize,
    readable: bool,
    writable: bool,
    ended: bool,
    /// The peer takes frames with an [`Offload`].
    offloads: bool,
}

impl Stream {
    /// Takes a socket over that does not block.
    pub fn new(socket: UnixStream) -> Self {
        let (input, output) = (Vec::new(), Vec::new());
        let (readable, writable) = (true, true);
        Self { socket, input, parsed: 0, output, written: 0, readable, writable, ended: false, offloads: false }
    }

    /// The same, and tells the peer that frames may come with an [`Offload`].
    pub fn greeting(socket: UnixStream) -> Self {
        let mut stream = Self::new(socket);
        stream.put(&Frame { bytes: GREETING.into(), ..Frame::default() });
        stream
    }

    /// The connection.
    pub fn socket(&mut self) -> &mut UnixStream {
        &mut self.socket
    }

    /// Notes what the host tells about the socket.
    pub fn ready(&mut self, readable: bool, writable: bool) {
        self.readable |= readable;
        self.writable |= writable;
    }

    /// The next frame, if all of it is there.
    pub fn receive(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.parse() {
                return Some(frame);
            }
            if !self.readable || self.ended {
                return None;
            }
            self.fill();
        }
    }

    fn parse(&mut self) -> Option<Frame> {
        loop {
            let rest = &self.input[self.parsed..];
            let (length, rest) = rest.split_first_chunk::<LENGTH_SIZE>()?;
            let word = u32::from_be_bytes(*length);
            let length = (word & !INCOMPLETE) as usize;
            if length > LARGEST_FRAME {
                tracing::debug!("switch: a peer announces a frame of {length} bytes, and is cut off");
                self.ended = true;
                return None;
            }
            let header = if word & INCOMPLETE != 0 { OFFLOAD_SIZE } else { 0 };
            let (offload, bytes) = rest.get(..header + length)?.split_at(header);
            self.parsed += LENGTH_SIZE + header + length;
            let offload = if offload.is_empty() { Some(Offload::default()) } else { offload_of(offload, length) };
            if bytes == GREETING {
                self.offloads = true;
            } else if let Some(offload) = offload
                && length >= ETHERNET_HEADER_SIZE
            {
                return Some(Frame { bytes: bytes.to_vec(), offload });
            }
        }
    }

    fn fill(&mut self) {
        self.input.drain(..self.parsed);
        self.parsed = 0;
        let length = self.input.len();
        self.input.resize(length + CHUNK, 0);
        let result = self.socket.read(&mut self.input[length..]);
        self.input.truncate(length + result.as_ref().map_or(0, |count| *count));
        match result {
            Ok(0) => self.ended = true,
            Ok(_) => {}
            Err(error) => self.fail(&error, |stream| stream.readable = false),
        }
    }

    fn fail(&mut self, error: &io::Error, would_block: impl FnOnce(&mut Self)) {
        match error.kind() {
            ErrorKind::WouldBlock => would_block(self),
            ErrorKind::Interrupted => {}
            _ => self.ended = true,
        }
    }

    /// Whether another frame may be sent.
    pub fn has_room(&self) -> bool {
        self.output.len() - self.written < MOST_WAITING
    }

    /// Sends a frame; what the peer would not take in it is completed.
    pub fn send(&mut self, frame: Frame) {
        if self.offloads {
            return self.put(&frame);
        }
        for frame in offload::complete(frame).unwrap_or_default() {
            self.put(&frame);
        }
    }

    fn put(&mut self, frame: &Frame) {
        // No frame comes near 2 GiB.
        let length = frame.bytes.len() as u32;
        if let Some(PartialChecksum { start, offset }) = frame.offload.checksum {
            self.output.extend((length | INCOMPLETE).to_be_bytes());
            let size = frame.offload.segment_size.unwrap_or(0);
            self.output.extend([start, offset, size].map(u16::to_be_bytes).as_flattened());
        } else {
            self.output.extend(length.to_be_bytes());
        }
        self.output.extend_from_slice(&frame.bytes);
    }

    /// Writes what the peer takes.
    pub fn flush(&mut self) {
        while self.writable && !self.ended && self.written < self.output.len() {
            match self.socket.write(&self.output[self.written..]) {
                Ok(0) => self.ended = true,
                Ok(count) => self.written += count,
                Err(error) => self.fail(&error, |stream| stream.writable = false),
            }
        }
        // Moving what is left costs no more than what has gone has.
        if self.written * 2 >= self.output.len() {
            self.output.drain(..self.written);
            self.written = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Stream, std::os::unix::net::UnixStream) {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        theirs.set_nonblocking(true).unwrap();
        (Stream::new(UnixStream::from_std(ours)), theirs)
    }

    fn receive(stream: &mut Stream) -> Vec<Vec<u8>> {
        stream.ready(true, true);
        std::iter::from_fn(|| stream.receive()).map(|frame| frame.bytes).collect()
    }

    #[test]
    fn frames_are_read_in_pieces_of_any_size() {
        let frames: Vec<Vec<u8>> = [14, 60, 1514, LARGEST_FRAME, 15].map(|size| vec![size as u8; size]).into();
        let bytes: Vec<u8> =
            frames.iter().flat_map(|frame| [&(frame.len() as u32).to_be_bytes()[..], frame].concat()).collect();
        for size in [1, 3, 1000, 50_000] {
            let (mut stream, mut peer) = pair();
            let mut received = Vec::new();
            for piece in bytes.chunks(size) {
                peer.write_all(piece).unwrap();
                received.extend(receive(&mut stream));
            }
            assert!(received == frames, "pieces of {size}");
            assert!(!stream.ended);
        }
    }

    #[test]
    fn what_breaks_the_format_ends_the_stream_and_nothing_else() {
        for bytes in [&(LARGEST_FRAME as u32 + 1).to_be_bytes()[..], &[0xff; 100]] {
            let (mut stream, mut peer) = pair();
            peer.write_all(bytes).unwrap();
            assert_eq!(receive(&mut stream), Vec::<Vec<u8>>::new());
            assert!(stream.ended);
        }
        // What is too short for a frame is passed over.
        let (mut stream, mut peer) = pair();
        peer.write_all(&[0, 0, 0, 0, 0, 0, 0, 3, 1, 2, 3, 0, 0, 0, 14, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14])
            .unwrap();
        assert_eq!(receive(&mut stream).len(), 1);
        drop(peer);
        assert_eq!(receive(&mut stream).len(), 0);
        assert!(stream.ended, "the peer has gone");
    }

    #[test]
    fn peers_of_our_kind_take_incomplete_frames_and_others_complete_ones() {
        let offload = Offload { checksum: Some(PartialChecksum { start: 34, offset: 16 }), segment_size: Some(1000) };
        let mut bytes = [&[2; 12][..], &[8, 0, 0x45]].concat();
        bytes.resize(54 + 2500, 7);
        (bytes[23], bytes[46]) = (6, 0x50);
        bytes[20..22].fill(0);
        let frame = Frame { bytes, offload };
        let sockets = || {
            let (one, other) = std::os::unix::net::UnixStream::pair().unwrap();
            [one, other].map(|socket| {
                socket.set_nonblocking(true).unwrap();
                UnixStream::from_std(socket)
            })
        };
        let [one, other] = sockets();
        let (mut one, mut other) = (Stream::greeting(one), Stream::greeting(other));
        one.flush();
        other.flush();
        for stream in [&mut one, &mut other] {
            assert!(receive(stream).is_empty(), "the greeting is no frame");
        }
        one.send(frame.clone());
        one.send(Frame { bytes: vec![1; 60], ..Frame::default() });
        one.flush();
        other.ready(true, true);
        assert!(other.receive() == Some(frame.clone()));
        assert_eq!(other.receive(), Some(Frame { bytes: vec![1; 60], ..Frame::default() }));

        // Datagrams are told from a segment by the place of their checksum.
        let mut datagrams = frame.clone();
        datagrams.bytes[23] = 17;
        datagrams.offload.checksum = Some(PartialChecksum { start: 34, offset: 6 });
        one.send(datagrams.clone());
        one.flush();
        other.ready(true, true);
        assert!(other.receive() == Some(datagrams.clone()));

        let [one, other] = sockets();
        let (mut one, mut other) = (Stream::greeting(one), Stream::new(other));
        one.send(frame);
        one.send(datagrams);
        one.flush();
        let lengths: Vec<_> = receive(&mut other).iter().map(Vec::len).collect();
        assert_eq!(lengths, [1054, 1054, 554, 1042, 1042, 42 + 512]);
    }

    #[test]
    fn offloads_that_lead_out_of_their_frame_are_dropped_with_it() {
        let (mut stream, mut peer) = pair();
        for (start, offset, is_sound) in [(10u16, 8u16, true), (10, 9, false), (0xffff, 0xffff, false), (0, 18, true)] {
            peer.write_all(&(20 | INCOMPLETE).to_be_bytes()).unwrap();
            peer.write_all([start, offset, 0].map(u16::to_be_bytes).as_flattened()).unwrap();
            peer.write_all(&[3; 20]).unwrap();
            assert_eq!(receive(&mut stream).len(), usize::from(is_sound), "{start} {offset}");
        }
        assert!(!stream.ended);
    }

    #[test]
    fn what_waits_for_a_peer_is_bounded_and_arrives() {
        let (stream, mut peer) = pair();
        let mut port = Port::new(End::Stream(stream));
        let frame = |number: u32| Frame { bytes: number.to_be_bytes().repeat(300), ..Frame::default() };
        let mut sent = 0;
        while port.send(frame(sent), Instant::now()).is_ok() {
            port.flush();
            assert!(!port.has_ended());
            sent += 1;
        }
        let End::Stream(stream) = &mut port.end else { panic!() };
        assert!(stream.output.len() < MOST_WAITING + CHUNK);
        assert!(!port.is_stuck(port.took) && port.is_stuck(port.took + PATIENCE));
        let (mut all, mut buffer) = (Vec::new(), [0; 65536]);
        while all.len() < 1204 * sent as usize {
            if let Ok(count) = peer.read(&mut buffer) {
                all.extend_from_slice(&buffer[..count]);
            }
            let End::Stream(stream) = &mut port.end else { panic!() };
            stream.ready(true, true);
            port.flush();
            assert!(!port.has_ended());
        }
        for (number, bytes) in all.chunks(1204).enumerate() {
            assert_eq!(bytes[..4], 1200u32.to_be_bytes());
            assert!(bytes[4..] == (number as u32).to_be_bytes().repeat(300));
        }
    }
}
