//! What hangs on a switch: the card of this process's guest, the router, and streams to others.

use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::net::UnixStream;

use crate::backend::net::user::UserNetwork;
use crate::backend::net::{ETHERNET_HEADER_SIZE, Frame, LARGEST_FRAME, NetworkBackend, NetworkEnd, offload};

/// A port that has been full for this long is stuck: what is for it is dropped until it takes something.
pub const PATIENCE: Duration = Duration::from_millis(100);
/// Bytes before each frame of a stream: its length, most significant byte first.
const LENGTH_SIZE: usize = 4;
/// Bytes that are read from a stream at a time.
const CHUNK: usize = 256 << 10;
/// Bytes that wait for a stream to take them, beyond which it gets no further frame.
const MOST_WAITING: usize = 1 << 20;

/// Where a port leads.
pub enum End {
    Card(NetworkEnd),
    Router(Arc<UserNetwork>),
    Stream(Stream),
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
        }
        self.took = now;
        Ok(())
    }

    /// Whether it takes nothing any more.
    pub fn is_stuck(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.took) >= PATIENCE
    }

    /// To be called at the end of a batch. Whether the port is still there is the answer.
    pub fn flush(&mut self) -> bool {
        match &mut self.end {
            End::Card(end) => end.flush(),
            End::Router(_) => {}
            End::Stream(stream) => stream.flush(),
        }
        !matches!(&self.end, End::Stream(Stream { ended: true, .. }))
    }
}

/// A connection over which frames pass, each behind its length.
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
}

impl Stream {
    /// Takes a socket over that does not block.
    pub fn new(socket: UnixStream) -> Self {
        let (input, output) = (Vec::new(), Vec::new());
        Self { socket, input, parsed: 0, output, written: 0, readable: true, writable: true, ended: false }
    }

    pub fn socket(&mut self) -> &mut UnixStream {
        &mut self.socket
    }

    /// Notes what the host tells about the socket.
    pub fn ready(&mut self, readable: bool, writable: bool) {
        self.readable |= readable;
        self.writable |= writable;
    }

    fn receive(&mut self) -> Option<Frame> {
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
            let length = u32::from_be_bytes(*length) as usize;
            if length > LARGEST_FRAME {
                tracing::debug!("switch: a peer announces a frame of {length} bytes, and is cut off");
                self.ended = true;
                return None;
            }
            let bytes = rest.get(..length)?;
            self.parsed += LENGTH_SIZE + length;
            if length >= ETHERNET_HEADER_SIZE {
                return Some(Frame { bytes: bytes.to_vec(), ..Frame::default() });
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

    fn has_room(&self) -> bool {
        self.output.len() - self.written < MOST_WAITING
    }

    /// Frames on a stream are complete ones.
    fn send(&mut self, frame: Frame) {
        for frame in offload::complete(frame).unwrap_or_default() {
            // No frame comes near 4 GiB.
            self.output.extend((frame.bytes.len() as u32).to_be_bytes());
            self.output.extend_from_slice(&frame.bytes);
        }
    }

    fn flush(&mut self) {
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
    fn what_waits_for_a_peer_is_bounded_and_arrives() {
        let (stream, mut peer) = pair();
        let mut port = Port::new(End::Stream(stream));
        let frame = |number: u32| Frame { bytes: number.to_be_bytes().repeat(300), ..Frame::default() };
        let mut sent = 0;
        while port.send(frame(sent), Instant::now()).is_ok() {
            assert!(port.flush());
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
            assert!(port.flush());
        }
        for (number, bytes) in all.chunks(1204).enumerate() {
            assert_eq!(bytes[..4], 1200u32.to_be_bytes());
            assert!(bytes[4..] == (number as u32).to_be_bytes().repeat(300));
        }
    }
}
