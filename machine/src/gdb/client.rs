//! A debugger that is attached: its packets, and the protocol's state.
//!
//! The protocol's crate gives up its state at a packet that it cannot parse. The state is then made anew and told what
//! the client said about itself before: an odd packet gets an error for an answer, and the session goes on.

use std::io;
use std::sync::Arc;

use gdbstub::stub::state_machine::GdbStubStateMachine;
use gdbstub::stub::{DisconnectReason, GdbStubBuilder, MultiThreadStopReason};

use super::server::Stream;
use super::target::Target;
use super::transfer::{self, Answer, BINARY_FEATURE};
use super::wire::{Framer, Incoming, PACKET_SIZE, Wire, packet};

/// The answer to a packet that cannot be understood: EINVAL.
const MALFORMED: &str = "E16";

/// What is to be done after a client's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Nothing: it will send more.
    Wait,
    /// The client goes and wants the guest to go on.
    Detach,
    /// The client cannot be reached any more.
    Lost,
    /// The client has killed the machine.
    Kill,
    /// The client wants the running machine to stop.
    Interrupt,
}

type Protocol<'b> = GdbStubStateMachine<'static, Target<'b>, Wire>;

/// One debugger.
pub(super) struct Client<'b> {
    id: u64,
    wire: Wire,
    framer: Framer,
    /// Absent only while a packet is under way.
    protocol: Option<Protocol<'b>>,
    /// Whether packets are acknowledged.
    acknowledges: bool,
    /// The packets that have told the protocol about the client, for a new one.
    features: Vec<u8>,
    thread: Vec<u8>,
    /// The hart whose memory the next packets that read or write memory are about: the protocol knows which one the client
    /// has chosen, and tells by the first of them.
    memory_of: Option<usize>,
}

impl Drop for Client<'_> {
    fn drop(&mut self) {
        self.wire.close();
    }
}

impl<'b> Client<'b> {
    pub(super) fn new(id: u64, stream: Arc<Stream>, target: &mut Target<'b>) -> io::Result<Self> {
        let wire = Wire::new(stream);
        let protocol = Some(fresh(&wire, target)?);
        Ok(Self {
            id,
            wire,
            framer: Framer::default(),
            protocol,
            acknowledges: true,
            features: Vec::new(),
            thread: Vec::new(),
            memory_of: None,
        })
    }

    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// Takes what the client has sent, up to the end of a packet or to an interrupt request.
    pub(super) fn receive(&mut self, target: &mut Target<'b>, bytes: &mut &[u8]) -> Next {
        let Some(incoming) = self.framer.take(bytes) else { return Next::Wait };
        let mut next = Next::Wait;
        match incoming {
            Incoming::Packet => {
                self.acknowledge(b"+");
                let packet = self.framer.packet().to_vec();
                next = self.packet(target, &packet);
            }
            Incoming::Damaged => self.acknowledge(b"-"),
            Incoming::TooLong => {
                self.acknowledge(b"+");
                self.wire.send(&packet(MALFORMED));
            }
            Incoming::Again if self.acknowledges => self.wire.repeat(),
            Incoming::Again => {}
            Incoming::Interrupt if self.is_running() => next = Next::Interrupt,
            // One that comes too late, or twice, finds the machine at rest, and means nothing.
            Incoming::Interrupt => {}
        }
        if self.wire.has_failed() { Next::Lost } else { next }
    }

    fn acknowledge(&self, sign: &[u8]) {
        if self.acknowledges {
            self.wire.send(sign);
        }
    }

    fn is_running(&self) -> bool {
        matches!(self.protocol, Some(GdbStubStateMachine::Running(_)))
    }

    fn packet(&mut self, target: &mut Target<'b>, packet: &[u8]) -> Next {
        let was_running = self.is_running();
        let is_transfer = transfer::is_transfer(packet);
        let mut hart = self.memory_of.take().filter(|_| is_transfer && !was_running);
        if let (None, false, Some(read)) = (hart, was_running, transfer::known_read(packet)) {
            hart = self.accessed_by(target, &read);
        }
        if let Some((hart, answer)) = hart.and_then(|hart| Some((hart, transfer::answer(target, hart, packet)?))) {
            self.memory_of = Some(hart);
            match answer {
                Answer::Text(body) => self.wire.answer(body.as_bytes()),
                Answer::Memory(data) => self.wire.answer_memory(&data),
                Answer::Binary(data) => self.wire.answer_binary(&data),
            }
            return Next::Wait;
        }
        target.take_accessed();
        let Some(protocol) = self.protocol.take() else { return Next::Lost };
        if packet.starts_with(b"$qSupported") {
            self.wire.supplement(BINARY_FEATURE);
        }
        match feed(protocol, target, packet) {
            Ok(GdbStubStateMachine::Disconnected(state)) => match state.get_reason() {
                DisconnectReason::Kill => {
                    // Unlike its older form this packet has an answer.
                    if packet.starts_with(b"$vKill") {
                        self.wire.send(&self::packet("OK"));
                    }
                    Next::Kill
                }
                _ => Next::Detach,
            },
            Ok(protocol) => {
                self.protocol = Some(protocol);
                self.memory_of = target.take_accessed().filter(|_| is_transfer);
                if packet.starts_with(b"$QStartNoAckMode#") {
                    self.acknowledges = false;
                } else if packet.starts_with(b"$qSupported") {
                    self.features = packet.to_vec();
                } else if packet.starts_with(b"$Hg") {
                    self.thread = packet.to_vec();
                }
                Next::Wait
            }
            Err(error) => {
                tracing::debug!("a debugger's packet is refused: {error}");
                match self.start_anew(target, was_running) {
                    Ok(()) => {
                        self.wire.send(&self::packet(MALFORMED));
                        Next::Wait
                    }
                    Err(_) => Next::Lost,
                }
            }
        }
    }

    /// The hart whose memory the protocol reads for a packet. Nothing is sent.
    fn accessed_by(&mut self, target: &mut Target<'b>, body: &str) -> Option<usize> {
        target.take_accessed();
        self.wire.mute(true);
        let fed = feed(self.protocol.take()?, target, &packet(body));
        self.wire.mute(false);
        match fed {
            Ok(protocol) => self.protocol = Some(protocol),
            Err(_) => self.start_anew(target, false).ok()?,
        }
        target.take_accessed()
    }

    /// A new protocol that knows what the old one knew.
    fn start_anew(&mut self, target: &mut Target<'b>, running: bool) -> Result<(), Broken> {
        // The orders of a packet that was refused are none.
        target.take_orders();
        self.wire.mute(true);
        let mut protocol = fresh(&self.wire, target).map_err(|_| Broken)?;
        let go_on = if running { packet("vCont;c") } else { Vec::new() };
        for packet in [&self.features, &self.thread, &go_on] {
            if !packet.is_empty() {
                protocol = feed(protocol, target, packet).map_err(|_| Broken)?;
            }
        }
        target.take_orders();
        self.protocol = Some(protocol);
        self.wire.mute(false);
        Ok(())
    }

    /// Tells the client that the machine has stopped, if it waits for that.
    pub(super) fn report(&mut self, target: &mut Target<'b>, reason: MultiThreadStopReason<u64>) {
        self.memory_of = None;
        match self.protocol.take() {
            Some(GdbStubStateMachine::Running(state)) => {
                // Who cannot be reached is found out when the connection ends.
                self.protocol = state.report_stop(target, reason).ok();
            }
            other => self.protocol = other,
        }
    }
}

/// The protocol cannot be had.
struct Broken;

type ProtocolError = gdbstub::stub::GdbStubError<std::convert::Infallible, io::Error>;

fn fresh<'b>(wire: &Wire, target: &mut Target<'b>) -> io::Result<Protocol<'b>> {
    let stub = GdbStubBuilder::new(wire.clone()).packet_buffer_size(PACKET_SIZE).build();
    let stub = stub.map_err(|error| io::Error::other(error.to_string()))?;
    stub.run_state_machine(target).map_err(|error| io::Error::other(error.to_string()))
}

/// Feeds a whole packet.
fn feed<'b>(mut protocol: Protocol<'b>, target: &mut Target<'b>, packet: &[u8]) -> Result<Protocol<'b>, ProtocolError> {
    for byte in packet {
        protocol = match protocol {
            GdbStubStateMachine::Idle(state) => state.incoming_data(target, *byte)?,
            GdbStubStateMachine::Running(state) => state.incoming_data(target, *byte)?,
            // An interrupt comes outside of packets, and a disconnected client sends no more.
            other => return Ok(other),
        };
    }
    Ok(protocol)
}
