//! Peers whose frames come one in a datagram: guests of QEMU's `dgram` network.
//!
//! All of them send to one socket, and are told from each other by the paths that their own are bound to. These lie in
//! the switch's folder (`place`), under names that say to which switch they belong: whoever holds it next finds them
//! there, and a guest that was started again is found at the same path.
//!
//! For what goes to a peer there is a socket that is connected to it. By it the host tells when there is room again,
//! and a peer that takes nothing fills its own buffer, not the others'. On the socket that all send to, nobody can be
//! held back alone: what exceeds the queue of a peer is lost.
//!
//! No datagram tells that a peer has gone. It shows when something is sent there, and when [`DatagramPeer::probe`]
//! looks.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use mio::net::UnixDatagram;
use rustix::io::Errno;

use super::port::MOST_WAITING;
use crate::backend::net::{ETHERNET_HEADER_SIZE, Frame, LARGEST_FRAME, offload};

/// Frames that wait for a peer, or from it, beyond which none is added.
const MOST_FRAMES: usize = 512;

/// What has come as a datagram.
pub enum Datagram {
    /// A frame, and the path that its sender is bound to.
    Frame(PathBuf, Frame),
    /// No frame, or from a socket without a path.
    Unusable,
}

/// The socket to which all peers send.
pub struct DatagramSocket {
    socket: UnixDatagram,
    buffer: Vec<u8>,
    readable: bool,
}

impl DatagramSocket {
    /// A socket at `path`, where nothing may be.
    pub fn bind(path: &Path) -> io::Result<Self> {
        let socket = UnixDatagram::bind(path)?;
        // One byte more tells what was cut off.
        Ok(Self { socket, buffer: vec![0; LARGEST_FRAME + 1], readable: true })
    }

    /// The socket.
    pub fn socket(&mut self) -> &mut UnixDatagram {
        &mut self.socket
    }

    /// Notes that the host tells of datagrams.
    pub fn ready(&mut self) {
        self.readable = true;
    }

    /// The next datagram, if there is one.
    pub fn receive(&mut self) -> Option<Datagram> {
        while self.readable {
            match self.socket.recv_from(&mut self.buffer) {
                Ok((length, from)) => {
                    let path = from.as_pathname().filter(|_| (ETHERNET_HEADER_SIZE..=LARGEST_FRAME).contains(&length));
                    let Some(path) = path else { return Some(Datagram::Unusable) };
                    let frame = Frame { bytes: self.buffer[..length].to_vec(), ..Frame::default() };
                    return Some(Datagram::Frame(path.into(), frame));
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => self.readable = false,
            }
        }
        None
    }
}

/// Frames that wait.
#[derive(Default)]
struct Queue {
    frames: VecDeque<Frame>,
    bytes: usize,
}

impl Queue {
    fn has_room(&self) -> bool {
        self.frames.len() < MOST_FRAMES && self.bytes < MOST_WAITING
    }

    fn push(&mut self, frame: Frame) {
        self.bytes += frame.bytes.len();
        self.frames.push_back(frame);
    }

    fn pop(&mut self) -> Option<Frame> {
        let frame = self.frames.pop_front()?;
        self.bytes -= frame.bytes.len();
        Some(frame)
    }
}

/// A peer whose frames come and go one in a datagram.
pub struct DatagramPeer {
    path: PathBuf,
    socket: UnixDatagram,
    input: Queue,
    output: Queue,
    writable: bool,
    ended: bool,
}

impl DatagramPeer {
    /// The peer whose socket is at `path`.
    pub fn connect(path: PathBuf) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(&path)?;
        let (input, output) = (Queue::default(), Queue::default());
        Ok(Self { path, socket, input, output, writable: true, ended: false })
    }

    /// The socket by which frames go there.
    pub fn socket(&mut self) -> &mut UnixDatagram {
        &mut self.socket
    }

    /// Whether nobody is there any more.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// Notes that the host tells of room.
    pub fn ready(&mut self) {
        self.writable = true;
    }

    /// Ends the peer if there is no socket at its path any more that takes datagrams.
    pub fn probe(&mut self) {
        self.ended |= self.socket.connect(&self.path).is_err();
    }

    /// Takes a frame that has come from the peer; it is lost if too many wait already.
    pub fn deliver(&mut self, frame: Frame) {
        if self.input.has_room() {
            self.input.push(frame);
        }
    }

    /// The next frame from the peer.
    pub fn receive(&mut self) -> Option<Frame> {
        self.input.pop()
    }

    /// Whether another frame may be sent.
    pub fn has_room(&self) -> bool {
        self.output.has_room()
    }

    /// Sends a frame, whose checksum and segments are completed first.
    pub fn send(&mut self, frame: Frame) {
        for frame in offload::complete(frame).unwrap_or_default() {
            self.output.push(frame);
        }
    }

    /// Sends what the peer has room for.
    pub fn flush(&mut self) {
        let mut probed = false;
        while self.writable
            && !self.ended
            && let Some(frame) = self.output.frames.front()
        {
            match self.socket.send(&frame.bytes).map_err(|error| (error.kind(), Errno::from_io_error(&error))) {
                // BSD's sockets have no room to be waited for; and hosts differ in how long a datagram may be.
                Ok(_) | Err((_, Some(Errno::NOBUFS | Errno::MSGSIZE))) => {
                    self.output.pop();
                    probed = false;
                }
                Err((ErrorKind::WouldBlock, _)) => self.writable = false,
                Err((ErrorKind::Interrupted, _)) => {}
                // Gone; or started again, and there is another socket at its path.
                Err(_) if !probed => {
                    self.probe();
                    probed = true;
                }
                Err(_) => self.ended = true,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram as Socket;

    use super::*;
    use crate::backend::net::{Offload, PartialChecksum};

    fn frame(length: usize, mark: u8) -> Frame {
        Frame { bytes: vec![mark; length], ..Frame::default() }
    }

    fn bind(path: &Path) -> Socket {
        let socket = Socket::bind(path).unwrap();
        socket.set_nonblocking(true).unwrap();
        socket
    }

    fn received(socket: &Socket) -> Vec<Vec<u8>> {
        let mut buffer = vec![0; 1 << 17];
        std::iter::from_fn(|| socket.recv(&mut buffer).ok().map(|length| buffer[..length].to_vec())).collect()
    }

    #[test]
    fn a_datagram_is_a_frame_and_its_sender_or_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let [ours, theirs] = ["ours", "theirs"].map(|name| folder.path().join(name));
        let mut socket = DatagramSocket::bind(&ours).unwrap();
        assert!(socket.receive().is_none());
        let (named, nameless) = (bind(&theirs), Socket::unbound().unwrap());
        for (length, is_frame) in [
            (0, false),
            (1, false),
            (13, false),
            (14, true),
            (1514, true),
            (LARGEST_FRAME, true),
            (LARGEST_FRAME + 1, false),
        ] {
            named.send_to(&vec![5; length], &ours).unwrap();
            socket.ready();
            match socket.receive() {
                Some(Datagram::Frame(path, got)) => {
                    assert!(is_frame && path == theirs && got == frame(length, 5), "{length}");
                }
                Some(Datagram::Unusable) => assert!(!is_frame, "{length}"),
                None => panic!("{length}: it did not come"),
            }
            assert!(socket.receive().is_none());
        }
        nameless.send_to(&[5; 60], &ours).unwrap();
        socket.ready();
        assert!(matches!(socket.receive(), Some(Datagram::Unusable)));
    }

    #[test]
    fn a_peer_that_is_full_loses_nothing_and_neither_queue_grows_without_bound() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("peer");
        let socket = bind(&path);
        for size in [60, 60_000] {
            let mut peer = DatagramPeer::connect(path.clone()).unwrap();
            let mut sent = 0u32;
            while peer.has_room() {
                peer.send(frame(size, sent as u8));
                peer.flush();
                sent += 1;
            }
            assert!(peer.output.frames.len() <= MOST_FRAMES && peer.output.bytes < MOST_WAITING + size);
            let mut all = Vec::new();
            while all.len() < sent as usize {
                let some = received(&socket);
                assert!(!some.is_empty(), "what waited was not sent");
                all.extend(some);
                peer.ready();
                peer.flush();
            }
            assert!(all.iter().enumerate().all(|(number, bytes)| bytes[..] == vec![number as u8; size]));
            assert_eq!(peer.output.bytes, 0);

            for number in 0..2 * MOST_FRAMES {
                peer.deliver(frame(size, number as u8));
            }
            assert!(peer.input.frames.len() <= MOST_FRAMES && peer.input.bytes < MOST_WAITING + size);
            assert_eq!(peer.receive(), Some(frame(size, 0)));
            assert!(!peer.has_ended());
        }
    }

    #[test]
    fn a_peer_ends_with_its_socket_and_goes_on_with_another_at_its_path() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("peer");
        assert!(DatagramPeer::connect(path.clone()).is_err(), "nobody is there");
        let first = bind(&path);
        let mut peer = DatagramPeer::connect(path.clone()).unwrap();
        std::fs::remove_file(&path).unwrap();
        let second = bind(&path);
        drop(first);
        peer.send(frame(60, 1));
        peer.flush();
        assert_eq!(received(&second), [[1; 60]]);
        peer.probe();
        assert!(!peer.has_ended());
        drop(second);
        peer.probe();
        assert!(peer.has_ended(), "there is a file, but nobody who reads");

        let mut peer = DatagramPeer { ended: false, ..peer };
        peer.send(frame(60, 2));
        peer.flush();
        assert!(peer.has_ended());
        // What is at the path now is no socket for datagrams.
        std::fs::remove_file(&path).unwrap();
        let _stream = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert!(DatagramPeer::connect(path).is_err());
    }

    #[test]
    fn frames_are_complete() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("peer");
        let socket = bind(&path);
        let mut peer = DatagramPeer::connect(path).unwrap();
        let offload = Offload { checksum: Some(PartialChecksum { start: 34, offset: 16 }), segment_size: Some(1000) };
        let mut bytes = [&[2; 12][..], &[8, 0, 0x45]].concat();
        bytes.resize(54 + 2500, 7);
        (bytes[23], bytes[46]) = (6, 0x50);
        bytes[20..22].fill(0);
        peer.send(Frame { bytes, offload });
        peer.flush();
        assert_eq!(received(&socket).iter().map(Vec::len).collect::<Vec<_>>(), [1054, 1054, 554]);
    }
}
