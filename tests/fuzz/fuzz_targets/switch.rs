//! The switch's socket: a hostile peer, in pieces of any size, and frames that travel on to another.
#![no_main]

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use devices::backend::net::switch::Stream;
use devices::backend::net::LARGEST_FRAME;
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
}

fn stream() -> (Stream, UnixStream) {
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    ours.set_nonblocking(true).expect("a socket");
    theirs.set_nonblocking(true).expect("a socket");
    (Stream::greeting(mio::net::UnixStream::from_std(ours)), theirs)
}

fuzz_target!(|steps: Vec<Step>| {
    let ((mut from, mut hostile), (mut to, mut other)) = (stream(), stream());
    // What our kind sends first.
    from.flush();
    let mut greeting = [0; 256];
    let length = hostile.read(&mut greeting).expect("a greeting");
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
            Step::Take => while other.read(&mut [0; 65536]).is_ok_and(|count| count != 0) {},
        }
        from.ready(true, true);
        to.ready(true, true);
        while let Some(frame) = from.receive() {
            assert!(frame.bytes.len() <= LARGEST_FRAME);
            if to.has_room() {
                to.send(frame);
            }
        }
        assert!(to.receive().is_none(), "nobody has sent a frame there");
        to.flush();
    }
});
