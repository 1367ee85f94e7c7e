//! Packets on a connection: `$body#checksum`, acknowledged by `+` or asked for again by `-` until both sides agree to do
//! without (gdb's manual, "Overview" of the remote protocol).
//!
//! What arrives is checked here, so that only whole packets that are in order reach the protocol.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use gdbstub::conn::Connection;

use super::server::Stream;
use super::transfer::{write_binary, write_digits};

/// Most bytes in a packet, `$` and checksum included; gdb is told and asks for more memory in several parts.
pub(super) const PACKET_SIZE: usize = 0x4_0000;

/// The interrupt request, outside of any packet.
const INTERRUPT: u8 = 3;

/// What has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Incoming {
    /// A packet, to be had from [`Framer::packet`].
    Packet,
    /// A packet with a wrong checksum.
    Damaged,
    /// A packet that is longer than [`PACKET_SIZE`].
    TooLong,
    /// The client wants the last packet again.
    Again,
    /// The client wants the machine to stop.
    Interrupt,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Between,
    Body,
    /// Behind the `#`, with so many digits of the checksum.
    Checksum(usize),
}

/// Makes packets of bytes.
#[derive(Default)]
pub(super) struct Framer {
    state: State,
    packet: Vec<u8>,
    /// Sum of the body's bytes.
    sum: u8,
    digits: [u8; 2],
    too_long: bool,
}

impl Framer {
    /// The packet that has just arrived, whole.
    pub(super) fn packet(&self) -> &[u8] {
        &self.packet
    }

    /// Takes bytes up to the first that completes something.
    pub(super) fn take(&mut self, bytes: &mut &[u8]) -> Option<Incoming> {
        while let Some((first, rest)) = bytes.split_first() {
            if self.state == State::Body {
                let (body, rest) = bytes.split_at(bytes.iter().position(|byte| *byte == b'#').unwrap_or(bytes.len()));
                if !body.is_empty() {
                    self.keep_body(body);
                    *bytes = rest;
                    continue;
                }
            }
            *bytes = rest;
            if let Some(incoming) = self.push(*first) {
                return Some(incoming);
            }
        }
        None
    }

    /// Takes the next byte.
    fn push(&mut self, byte: u8) -> Option<Incoming> {
        match self.state {
            State::Between => match byte {
                b'$' => {
                    *self = Self { state: State::Body, packet: std::mem::take(&mut self.packet), ..Self::default() };
                    self.packet.clear();
                    self.keep(byte);
                    None
                }
                b'-' => Some(Incoming::Again),
                INTERRUPT => Some(Incoming::Interrupt),
                // Acknowledgements, and noise.
                _ => None,
            },
            State::Body => {
                if byte == b'#' {
                    self.state = State::Checksum(0);
                    self.keep(byte);
                } else {
                    self.keep_body(&[byte]);
                }
                None
            }
            State::Checksum(count) => {
                self.digits[count] = byte;
                self.keep(byte);
                if count == 0 {
                    self.state = State::Checksum(1);
                    return None;
                }
                self.state = State::Between;
                let told = std::str::from_utf8(&self.digits).ok().and_then(|text| u8::from_str_radix(text, 16).ok());
                Some(match told {
                    _ if self.too_long => Incoming::TooLong,
                    Some(sum) if sum == self.sum => Incoming::Packet,
                    _ => Incoming::Damaged,
                })
            }
        }
    }

    fn keep_body(&mut self, bytes: &[u8]) {
        self.sum = bytes.iter().fold(self.sum, |sum, byte| sum.wrapping_add(*byte));
        let kept = bytes.len().min(PACKET_SIZE - self.packet.len());
        self.packet.extend_from_slice(&bytes[..kept]);
        self.too_long |= kept < bytes.len();
    }

    fn keep(&mut self, byte: u8) {
        if self.packet.len() < PACKET_SIZE {
            self.packet.push(byte);
        } else {
            self.too_long = true;
        }
    }
}

/// A whole packet.
pub(super) fn packet(body: &str) -> Vec<u8> {
    let mut packet = Vec::new();
    write_packet(&mut packet, body.as_bytes());
    packet
}

fn write_packet(packet: &mut Vec<u8>, body: &[u8]) {
    let sum = body.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
    packet.push(b'$');
    packet.extend_from_slice(body);
    packet.extend_from_slice(format!("#{sum:02x}").as_bytes());
}

/// Tells a second client that the machine has only one ear, and ends the connection.
pub(super) fn refuse(stream: &Stream) {
    // The client may be gone already.
    let _ = stream.write_all(&packet("E.another debugger is attached"));
    stream.close();
}

/// What goes out to one client.
struct Output {
    stream: Arc<Stream>,
    /// What is yet to be sent.
    buffer: Vec<u8>,
    /// What was sent last, for a client that did not get it.
    last: Vec<u8>,
    /// Whether nothing is sent, because the client has had the answer before.
    muted: bool,
    /// What the next packet's body is to have at its end.
    supplement: &'static str,
    /// Whether sending has failed.
    failed: bool,
}

/// The sending side of a connection, as the protocol sees it.
#[derive(Clone)]
pub(super) struct Wire(Rc<RefCell<Output>>);

impl Wire {
    pub(super) fn new(stream: Arc<Stream>) -> Self {
        let output =
            Output { stream, buffer: Vec::new(), last: Vec::new(), muted: false, supplement: "", failed: false };
        Self(Rc::new(RefCell::new(output)))
    }

    /// Sends bytes as they are.
    pub(super) fn send(&self, bytes: &[u8]) {
        let output = &mut *self.0.borrow_mut();
        output.failed |= output.stream.write_all(bytes).is_err();
    }

    /// Sends a packet whose body needs no escapes.
    pub(super) fn answer(&self, body: &[u8]) {
        let output = &mut *self.0.borrow_mut();
        output.last.clear();
        write_packet(&mut output.last, body);
        output.failed |= output.stream.write_all(&output.last).is_err();
    }

    /// Sends a packet with memory's contents. Parts go out as they are made, so that the client reads meanwhile.
    pub(super) fn answer_memory(&self, data: &[u8]) {
        self.answer_in_parts(b"", data, write_digits);
    }

    /// The same as binary data, behind a `b`.
    pub(super) fn answer_binary(&self, data: &[u8]) {
        self.answer_in_parts(b"b", data, write_binary);
    }

    fn answer_in_parts(&self, before: &[u8], data: &[u8], write: impl Fn(&mut Vec<u8>, &[u8])) {
        /// Bytes of a part.
        const PART: usize = 0x2000;
        let output = &mut *self.0.borrow_mut();
        output.last.clear();
        output.last.push(b'$');
        output.last.extend_from_slice(before);
        let (mut sum, mut sent) = (before.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)), 0);
        for part in data.chunks(PART) {
            let start = output.last.len();
            write(&mut output.last, part);
            sum = output.last[start..].iter().fold(sum, |sum, byte| sum.wrapping_add(*byte));
            output.failed |= output.stream.write_all(&output.last[sent..]).is_err();
            sent = output.last.len();
        }
        output.last.extend_from_slice(format!("#{sum:02x}").as_bytes());
        output.failed |= output.stream.write_all(&output.last[sent..]).is_err();
    }

    /// Sends the last packet again.
    pub(super) fn repeat(&self) {
        let output = &mut *self.0.borrow_mut();
        output.failed |= output.stream.write_all(&output.last).is_err();
    }

    /// Has nothing sent, or again everything; what is half written is dropped.
    pub(super) fn mute(&self, muted: bool) {
        let output = &mut *self.0.borrow_mut();
        output.buffer.clear();
        output.supplement = "";
        output.muted = muted;
    }

    /// Has the protocol's next packet say more than the protocol knows.
    pub(super) fn supplement(&self, text: &'static str) {
        self.0.borrow_mut().supplement = text;
    }

    /// Whether the client cannot be reached any more.
    pub(super) fn has_failed(&self) -> bool {
        self.0.borrow().failed
    }

    /// Ends the connection.
    pub(super) fn close(&self) {
        self.0.borrow().stream.close();
    }
}

impl Connection for Wire {
    type Error = io::Error;

    fn write(&mut self, byte: u8) -> io::Result<()> {
        let output = &mut *self.0.borrow_mut();
        // The protocol's own acknowledgements: packets are acknowledged as they arrive.
        if !(output.buffer.is_empty() && byte == b'+') {
            output.buffer.push(byte);
        }
        Ok(())
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.borrow_mut().buffer.extend_from_slice(bytes);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        let output = &mut *self.0.borrow_mut();
        if output.muted {
            output.buffer.clear();
            return Ok(());
        }
        let supplement = std::mem::take(&mut output.supplement);
        if let [b'$', body @ .., b'#', _, _] = &output.buffer[..]
            && !supplement.is_empty()
        {
            output.last.clear();
            write_packet(&mut output.last, &[body, supplement.as_bytes()].concat());
        } else {
            std::mem::swap(&mut output.last, &mut output.buffer);
        }
        output.buffer.clear();
        let sent = output.stream.write_all(&output.last);
        output.failed |= sent.is_err();
        sent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(framer: &mut Framer, mut bytes: &[u8]) -> Vec<Incoming> {
        std::iter::from_fn(|| framer.take(&mut bytes)).collect()
    }

    #[test]
    fn packets_noise_and_interrupts() {
        let mut framer = Framer::default();
        assert_eq!(feed(&mut framer, b"+++ noise $qC#b4"), [Incoming::Packet]);
        assert_eq!(framer.packet(), b"$qC#b4");
        assert_eq!(feed(&mut framer, b"\x03-$X0,1:}\x03\x03#"), [Incoming::Interrupt, Incoming::Again]);
        assert_eq!(feed(&mut framer, b"zz$qC#b5$qC#B4"), [Incoming::Damaged, Incoming::Damaged, Incoming::Packet]);
        assert_eq!(packet("qC"), b"$qC#b4");
    }

    #[test]
    fn it_does_not_matter_where_bytes_are_cut() {
        let bytes = b"+$qC#b4-$m0,1#fb\x03$X0,3:}\x03b}#zz$$#24$#00";
        let mut whole = Framer::default();
        let expected = feed(&mut whole, bytes);
        assert_eq!(expected.len(), 7);
        for cut in 0..bytes.len() {
            let mut framer = Framer::default();
            let (before, behind) = bytes.split_at(cut);
            let parts = [feed(&mut framer, before), feed(&mut framer, behind)].concat();
            assert_eq!((parts, framer.packet()), (expected.clone(), whole.packet()), "{cut}");
        }
    }

    #[test]
    fn a_packet_without_end_takes_bounded_memory() {
        let mut framer = Framer::default();
        assert_eq!(feed(&mut framer, b"$"), []);
        for _ in 0..3000 {
            assert_eq!(feed(&mut framer, &[b'0'; PACKET_SIZE / 1000]), []);
        }
        assert_eq!(framer.packet().len(), PACKET_SIZE);
        assert_eq!(feed(&mut framer, b"#00"), [Incoming::TooLong]);
        assert_eq!(feed(&mut framer, b"$qC#b4"), [Incoming::Packet]);
    }
}
