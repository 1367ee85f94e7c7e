//! The switch's sockets: a hostile peer, in pieces of any size or in datagrams, and frames that travel on to others.
#![no_main]

use std::io::{Read, Write};
use std::os::unix::net::{UnixDatagram, UnixStream};

use devices::backend::net::switch::{Datagram, DatagramPeer, DatagramSocket, Stream};
use devices::backend::net::{ETHERNET_HEADER_SIZE, Frame, LARGEST_FRAME};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
enum Step {
    Bytes(Vec<u8>),
    /// A frame behind its length, of this many bytes beyond those given; with an offload or without.
    Frame(Vec<u8>, u16, Option<[u16; 3]>),
    /// The other end has greeted, and takes what comes.
    Greet,
    Take,
    /// Datagrams of this many bytes beyond those given, from a socket with a path or without.
    Datagrams(bool, Vec<u8>, u16),
    /// The other one that has them sent takes what comes; or it goes, and comes again at its path.
    TakeDatagrams,
    Leave,
    Return,
}

fn stream() -> (Stream, UnixStream) {
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    ours.set_nonblocking(true).expect("a socket");
    theirs.set_nonblocking(true).expect("a socket");
    (Stream::greeting(mio::net::UnixStream::from_std(ours)), theirs)
}

/// The socket to which datagrams are sent, one of the hostile's, and another peer.
struct Datagrams {
    folder: tempfile::TempDir,
    socket: DatagramSocket,
    hostile: [UnixDatagram; 2],
    peer: DatagramPeer,
    other: Option<UnixDatagram>,
}

impl Datagrams {
    fn bind(folder: &tempfile::TempDir, name: &str) -> UnixDatagram {
        let path = folder.path().join(name);
        let _ = std::fs::remove_file(&path);
        let socket = UnixDatagram::bind(path).expect("a socket");
        socket.set_nonblocking(true).expect("a socket");
        socket
    }

    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = DatagramSocket::bind(&folder.path().join("switch")).expect("a socket");
        let hostile = [Self::bind(&folder, "hostile"), UnixDatagram::unbound().expect("a socket")];
        hostile[1].set_nonblocking(true).expect("a socket");
        let other = Some(Self::bind(&folder, "other"));
        let peer = DatagramPeer::connect(folder.path().join("other")).expect("a peer");
        Self { folder, socket, hostile, peer, other }
    }

    /// What has come goes to the other one, and to the end of a stream.
    fn pass(&mut self, to: &mut Stream) {
        self.socket.ready();
        while let Some(datagram) = self.socket.receive() {
            let Datagram::Frame(path, frame) = datagram else { continue };
            assert!((ETHERNET_HEADER_SIZE..=LARGEST_FRAME).contains(&frame.bytes.len()));
            assert_eq!(path, self.folder.path().join("hostile"));
            self.peer.deliver(frame);
        }
        while let Some(frame) = self.peer.receive() {
            if to.has_room() {
                to.send(frame.clone());
            }
            self.send(frame);
        }
    }

    fn send(&mut self, frame: Frame) {
        if self.peer.has_room() {
            self.peer.send(frame);
        }
        self.peer.ready();
        self.peer.flush();
        assert!(!self.peer.has_ended() || self.other.is_none(), "somebody is there");
    }
}

fuzz_target!(|steps: Vec<Step>| {
    let ((mut from, mut hostile), (mut to, mut other)) = (stream(), stream());
    // What our kind sends first.
    from.flush();
    let mut greeting = [0; 256];
    let length = hostile.read(&mut greeting).expect("a greeting");
    let mut datagrams: Option<Datagrams> = None;
    for step in steps.into_iter().take(64) {
        match step {
            // What does not fit into the socket's buffer is lost, and the format with it.
            Step::Bytes(bytes) => _ = hostile.write(&bytes),
            Step::Frame(mut bytes, more, offload) => {
                bytes.resize(bytes.len() + usize::from(more), 0);
                let mark = if offload.is_some() { 1 << 31 } else { 0 };
                let mut message = (bytes.len() as u32 | mark).to_be_bytes().to_vec();
                message.extend(offload.unwrap_or_default().map(u16::to_be_bytes).as_flattened());
                if offload.is_none() {
                    message.truncate(4);
                }
                message.extend(bytes);
                let _ = hostile.write(&message);
            }
            Step::Greet => _ = other.write(&greeting[..length]),
            Step::Datagrams(is_named, mut bytes, more) => {
                bytes.resize(bytes.len() + usize::from(more), 0);
                let datagrams = datagrams.get_or_insert_with(Datagrams::new);
                let path = datagrams.folder.path().join("switch");
                let _ = datagrams.hostile[usize::from(!is_named)].send_to(&bytes, path);
                datagrams.pass(&mut to);
            }
            Step::TakeDatagrams => {
                let other = datagrams.as_ref().and_then(|datagrams| datagrams.other.as_ref());
                while other.is_some_and(|other| other.recv(&mut [0; 65536]).is_ok()) {}
            }
            Step::Leave => _ = datagrams.as_mut().and_then(|datagrams| datagrams.other.take()),
            Step::Return => {
                if let Some(datagrams) = &mut datagrams {
                    datagrams.other = Some(Datagrams::bind(&datagrams.folder, "other"));
                    if datagrams.peer.has_ended() {
                        let path = datagrams.folder.path().join("other");
                        datagrams.peer = DatagramPeer::connect(path).expect("a peer");
                    }
                }
            }
            Step::Take => while other.read(&mut [0; 65536]).is_ok_and(|count| count != 0) {},
        }
        from.ready(true, true);
        to.ready(true, true);
        while let Some(frame) = from.receive() {
            assert!(frame.bytes.len() <= LARGEST_FRAME);
            if let Some(datagrams) = &mut datagrams {
                datagrams.send(frame.clone());
            }
            if to.has_room() {
                to.send(frame);
            }
        }
        assert!(to.receive().is_none(), "nobody has sent a frame there");
        to.flush();
    }
});
