//! The stack of one TCP flow: an IP interface with one socket, which plays the remote end towards the guest.
//!
//! It gets the guest's packets one by one and sends into the router's [`Output`].
//!
//! A guest whose memory is full takes its window back: it closes it over data that is on the way, drops that, and soon
//! opens it less far than it was. On the closed window smoltcp gives up the data's retransmission timer for that of
//! window probes, and on the open one that timer too, so that nothing would ever move again. So a window that closes
//! over data is shown to it as the smallest one, and when it opens, the retransmission is made due.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Checksum, Device, DeviceCapabilities, Medium, PacketMeta, RxToken, TxToken};
use smoltcp::socket::tcp::{ConnectError, Socket, SocketBuffer};
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr, IpProtocol, TcpPacket, TcpSeqNumber, checksum};

use super::Clock;
use super::ip::{self, Packet};
use super::output::Output;
use crate::backend::net::{ETHERNET_HEADER_SIZE, Offload, PartialChecksum};

/// Bytes of each of a flow's two buffers.
const BUFFER_SIZE: usize = 256 << 10;
/// Bytes of the largest segment that is left to the card to cut, with its IP header.
const LARGEST_PACKET: usize = 65535;
/// After this silence the guest is asked whether it still knows the connection.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// No retransmission waits for longer than this (smoltcp's bound, RFC 6298 §2.5); it is less than [`KEEP_ALIVE`].
const LONGEST_RETRANSMISSION_TIMEOUT: Duration = Duration::from_secs(60);
const TCP_CHECKSUM_OFFSET: u16 = 16;
/// How long an acknowledgement waits for company, such as an answer or the end of the stream (RFC 9293 §3.8.6.3, far
/// below its bound): each frame costs the guest an interrupt.
const ACKNOWLEDGEMENT_DELAY: Duration = Duration::from_millis(1);

/// The cable between a flow's stack and the guest, for the time of a call.
struct Wire<'a> {
    packet: Option<&'a [u8]>,
    sent_end: &'a mut Option<TcpSeqNumber>,
    output: &'a mut Output,
}

struct Received<'a>(&'a [u8]);

struct Transmit<'a> {
    sent_end: &'a mut Option<TcpSeqNumber>,
    output: &'a mut Output,
    segment_size: Option<u16>,
}

impl RxToken for Received<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

impl TxToken for Transmit<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, f: F) -> R {
        let mut frame = self.output.frame(length);
        let packet = &mut frame.bytes[ETHERNET_HEADER_SIZE..];
        let result = f(packet);
        let Some(Packet { source, destination, payload, .. }) = Packet::parse(packet) else { return result };
        let sum = checksum::pseudo_header(&source.into(), &destination.into(), IpProtocol::Tcp, payload.len() as u32);
        let header_size = ip::header_size(destination);
        if let Some(mut segment) = packet.get_mut(header_size..).map(TcpPacket::new_unchecked)
            && segment.check_len().is_ok()
        {
            segment.set_checksum(sum);
            let end = segment.seq_number() + segment.segment_len();
            if self.sent_end.is_none_or(|sent_end| sent_end < end) {
                *self.sent_end = Some(end);
            }
        }
        frame.offload = Offload {
            checksum: Some(PartialChecksum {
                start: (ETHERNET_HEADER_SIZE + header_size) as u16,
                offset: TCP_CHECKSUM_OFFSET,
            }),
            segment_size: self.segment_size,
        };
        self.output.ip(frame, destination);
        result
    }

    fn set_meta(&mut self, meta: PacketMeta) {
        self.segment_size = meta.segmentation_offload_size.map(|size| size.get());
    }
}

impl Device for Wire<'_> {
    type RxToken<'a>
        = Received<'a>
    where
        Self: 'a;
    type TxToken<'a>
        = Transmit<'a>
    where
        Self: 'a;

    fn receive(&mut self, _: Instant) -> Option<(Received<'_>, Transmit<'_>)> {
        let packet = self.packet.take()?;
        let Self { sent_end, output, .. } = self;
        Some((Received(packet), Transmit { sent_end, output, segment_size: None }))
    }

    fn transmit(&mut self, _: Instant) -> Option<Transmit<'_>> {
        let Self { sent_end, output, .. } = self;
        output.has_room().then_some(Transmit { sent_end, output, segment_size: None })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = usize::from(self.output.mtu());
        // Checksums were verified when the frame came, and are left to the card on the way out.
        capabilities.checksum.tcp = Checksum::None;
        capabilities.checksum.ipv4 = Checksum::Tx;
        // smoltcp drops large segments over IPv6.
        capabilities.segmentation.tcpv4 = NonZeroUsize::new(LARGEST_PACKET);
        capabilities
    }
}

/// Gives `interface` this address alone, for which every address is a neighbour.
fn set_address(interface: &mut Interface, address: IpAddr) {
    interface.update_ip_addrs(|addresses| {
        addresses.clear();
        let _ = addresses.push(IpCidr::new(IpAddress::from(address), 0));
    });
}

/// The end that the guest talks to.
pub struct Stack {
    interface: Interface,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    /// The end of what was sent to the guest so far.
    sent_end: Option<TcpSeqNumber>,
    /// The guest has closed its window over data that is on the way.
    closed_over_data: bool,
    /// How far the stack's time is ahead of the clock.
    ahead: Duration,
}

impl Stack {
    /// A stack at `address`, whose socket is closed.
    pub fn new(address: IpAddr, clock: &Clock, output: &mut Output) -> Self {
        let mut config = Config::new(HardwareAddress::Ip);
        let mut seed = [0; 8];
        if getrandom::fill(&mut seed).is_ok() {
            config.random_seed = u64::from_ne_bytes(seed);
        }
        let mut wire = Wire { packet: None, sent_end: &mut None, output };
        let mut interface = Interface::new(config, &mut wire, clock.now());
        set_address(&mut interface, address);
        let buffer = || SocketBuffer::new(vec![0; BUFFER_SIZE]);
        let mut socket = Socket::new(buffer(), buffer());
        socket.set_nagle_enabled(false);
        socket.set_keep_alive(Some(KEEP_ALIVE));
        let mut sockets = SocketSet::new(Vec::with_capacity(1));
        let handle = sockets.add(socket);
        let ahead = Duration::ZERO;
        Self { interface, sockets, handle, sent_end: None, closed_over_data: false, ahead }
    }

    /// Makes a stack that is not needed any more one at `address`, as [`Stack::new`] does: its buffers are not cleared.
    pub fn renew(&mut self, address: IpAddr) {
        self.socket().abort();
        set_address(&mut self.interface, address);
        (self.sent_end, self.closed_over_data, self.ahead) = (None, false, Duration::ZERO);
    }

    /// The socket.
    pub fn socket(&mut self) -> &mut Socket<'static> {
        self.sockets.get_mut(self.handle)
    }

    /// Begins a connection from the address `own` to `guest`.
    pub fn connect(&mut self, guest: SocketAddr, own: SocketAddr) -> Result<(), ConnectError> {
        let socket = self.sockets.get_mut::<Socket>(self.handle);
        socket.connect(self.interface.context(), guest, own)
    }

    fn now(&self, clock: &Clock) -> Instant {
        clock.now() + self.ahead
    }

    /// Takes a packet of the guest's with a TCP segment, both well-formed.
    pub fn receive(&mut self, packet: &[u8], clock: &Clock, output: &mut Output) {
        let Some(Packet { payload, .. }) = Packet::parse(packet) else { return };
        let segment = TcpPacket::new_unchecked(payload);
        // A batch of full segments is acknowledged at its end, and so is the beginning of a connection.
        let may_wait = packet.len() < usize::from(output.mtu()) && !segment.syn();
        self.socket().set_ack_delay(may_wait.then_some(ACKNOWLEDGEMENT_DELAY));
        let lacks_data = self.sent_end.is_some_and(|sent_end| segment.ack_number() < sent_end);
        let tells_window = segment.ack() && !segment.syn() && !segment.rst();
        if tells_window && segment.window_len() == 0 && lacks_data {
            self.closed_over_data = true;
            let mut copy = packet.to_vec();
            // The checksum was verified, and is not looked at any more.
            let begin = payload.as_ptr().addr() - packet.as_ptr().addr();
            TcpPacket::new_unchecked(&mut copy[begin..]).set_window_len(1);
            return self.ingress(&copy, clock, output);
        }
        self.ingress(packet, clock, output);
        if tells_window && segment.window_len() != 0 && std::mem::take(&mut self.closed_over_data) && lacks_data {
            self.ahead += LONGEST_RETRANSMISSION_TIMEOUT;
        }
    }

    fn ingress(&mut self, packet: &[u8], clock: &Clock, output: &mut Output) {
        let now = self.now(clock);
        let mut wire = Wire { packet: Some(packet), sent_end: &mut self.sent_end, output };
        self.interface.poll_ingress_single(now, &mut wire, &mut self.sockets);
    }

    /// Sends what there is to be sent. Returns whether the guest's queue is full.
    pub fn send(&mut self, clock: &Clock, output: &mut Output) -> bool {
        loop {
            if !output.has_room() {
                return true;
            }
            let (sent, now) = (output.sent(), self.now(clock));
            let mut wire = Wire { packet: None, sent_end: &mut self.sent_end, output };
            self.interface.poll_egress(now, &mut wire, &mut self.sockets);
            if output.sent() == sent {
                return false;
            }
        }
    }

    /// When [`Stack::send`] is to be called if nothing happens before.
    pub fn deadline(&mut self, clock: &Clock) -> Option<std::time::Instant> {
        let now = self.now(clock);
        // What is due and was not sent now would not be sent at once either.
        self.interface.poll_at(now, &self.sockets).map(|at| clock.std(at - self.ahead).max(clock.soon()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use smoltcp::phy::ChecksumCapabilities;
    use smoltcp::wire::{Ipv4Packet, Ipv4Repr, TcpControl, TcpRepr};

    use super::super::{FIRST_GUEST, ROUTER};
    use super::*;
    use crate::backend::net::{Link, MacAddress, NetworkBackend};

    const GUEST_START: TcpSeqNumber = TcpSeqNumber(-1);

    /// A stack with a connection, and a guest made by hand.
    struct Pair {
        stack: Stack,
        link: Arc<Link>,
        output: Output,
        clock: Clock,
        /// Where the stack's data begins.
        base: TcpSeqNumber,
    }

    impl Pair {
        fn new() -> Self {
            let (link, end) = Link::new(1500, || {});
            let mut output = Output::new(end, 1500);
            assert!(output.learn(FIRST_GUEST, MacAddress([2; 6]), std::time::Instant::now()));
            let clock = Clock { start: std::time::Instant::now() };
            let mut stack = Stack::new(ROUTER.into(), &clock, &mut output);
            stack.socket().listen(80).unwrap();
            let mut pair = Self { stack, link, output, clock, base: TcpSeqNumber(0) };
            pair.give(TcpControl::Syn, GUEST_START, None, 0xffff);
            let frame = pair.link.receive().unwrap();
            let packet = Ipv4Packet::new_checked(&frame.bytes[ETHERNET_HEADER_SIZE..]).unwrap();
            pair.base = TcpPacket::new_checked(packet.payload()).unwrap().seq_number() + 1;
            pair.acknowledge(0, 0xffff);
            assert_eq!(pair.sent(), []);
            pair
        }

        fn give(&mut self, control: TcpControl, seq_number: TcpSeqNumber, ack: Option<TcpSeqNumber>, window_len: u16) {
            self.give_segment(control, seq_number, ack, window_len, &[]);
        }

        /// The guest sends the first data.
        fn give_data(&mut self, data: &[u8]) {
            self.give_segment(TcpControl::None, GUEST_START + 1, Some(self.base), 0xffff, data);
        }

        /// The guest, which has sent `sent` bytes, has everything up to `offset`.
        fn acknowledge_data(&mut self, sent: usize, offset: usize) {
            self.give(TcpControl::None, GUEST_START + 1 + sent, Some(self.base + offset), 0xffff);
        }

        fn give_segment(
            &mut self,
            control: TcpControl,
            seq_number: TcpSeqNumber,
            ack: Option<TcpSeqNumber>,
            window_len: u16,
            payload: &[u8],
        ) {
            let segment = TcpRepr {
                src_port: 1,
                dst_port: 80,
                control,
                seq_number,
                ack_number: ack,
                window_len,
                window_scale: None,
                max_seg_size: None,
                sack_permitted: false,
                sack_ranges: [None; 3],
                timestamp: None,
                payload,
            };
            let packet = Ipv4Repr {
                src_addr: FIRST_GUEST,
                dst_addr: ROUTER,
                next_header: IpProtocol::Tcp,
                payload_len: segment.buffer_len(),
                hop_limit: 64,
            };
            let mut bytes = vec![0; packet.buffer_len() + segment.buffer_len()];
            let mut header = Ipv4Packet::new_unchecked(&mut bytes[..]);
            packet.emit(&mut header, &ChecksumCapabilities::default());
            let (from, to) = (IpAddress::Ipv4(FIRST_GUEST), IpAddress::Ipv4(ROUTER));
            let mut whole = TcpPacket::new_unchecked(header.payload_mut());
            segment.emit(&mut whole, &from, &to, &ChecksumCapabilities::default());
            self.stack.receive(&bytes, &self.clock, &mut self.output);
            self.stack.send(&self.clock, &mut self.output);
        }

        /// The guest has everything up to `offset`, and room for `window` bytes.
        fn acknowledge(&mut self, offset: usize, window: u16) {
            self.give(TcpControl::None, GUEST_START + 1, Some(self.base + offset), window);
        }

        fn pass(&mut self, seconds: u64) {
            self.clock.start -= std::time::Duration::from_secs(seconds);
            self.stack.send(&self.clock, &mut self.output);
        }

        /// What the stack has sent: where its data begins, and how much there is.
        fn sent(&self) -> Vec<(usize, usize)> {
            let frames = std::iter::from_fn(|| self.link.receive());
            let range = |frame: crate::backend::net::Frame| {
                let packet = Ipv4Packet::new_checked(&frame.bytes[ETHERNET_HEADER_SIZE..]).unwrap();
                let segment = TcpPacket::new_checked(packet.payload()).unwrap();
                (segment.seq_number() - self.base, segment.payload().len())
            };
            frames.map(range).collect()
        }

        fn seconds_to_deadline(&mut self) -> f64 {
            let deadline = self.stack.deadline(&self.clock).unwrap();
            (deadline - std::time::Instant::now()).as_secs_f64()
        }
    }

    #[test]
    fn a_window_that_closes_over_data_and_opens_less_far_gets_it_again_at_once() {
        for seconds in [0, 1, 100] {
            let mut pair = Pair::new();
            pair.stack.socket().send_slice(&[7; 20000]).unwrap();
            pair.stack.send(&pair.clock, &mut pair.output);
            assert_eq!(pair.sent(), [(0, 20000)]);
            pair.acknowledge(10000, 0);
            assert_eq!(pair.sent(), []);
            pair.pass(seconds);
            // The guest is asked now and then, by no more than it may have room for by now.
            assert!(pair.sent().iter().all(|sent| *sent == (10000, 1)));
            assert!(pair.seconds_to_deadline() <= 60.0, "it will be asked");
            pair.acknowledge(10000, 0);
            assert_eq!(pair.sent(), []);
            pair.acknowledge(10000, 5000);
            assert_eq!(pair.sent(), [(10000, 5000)]);
            assert!(pair.seconds_to_deadline() <= 60.0);
            pair.acknowledge(15000, 0xffff);
            assert_eq!(pair.sent(), [(15000, 5000)]);
            pair.acknowledge(20000, 0xffff);
            assert_eq!(pair.sent(), []);
            assert!(pair.seconds_to_deadline() > 60.0, "only the keep-alive is left");
        }
    }

    #[test]
    fn acknowledgements_of_small_segments_wait_for_company_and_not_for_long() {
        let mut pair = Pair::new();
        pair.give_data(b"hello");
        assert_eq!(pair.sent(), []);
        assert!(pair.seconds_to_deadline() < 0.01);
        pair.stack.socket().send_slice(b"answer").unwrap();
        pair.stack.send(&pair.clock, &mut pair.output);
        assert_eq!(pair.sent(), [(0, 6)], "one for both");
        pair.acknowledge_data(5, 6);
        assert!(pair.seconds_to_deadline() > 60.0, "nothing is left to be told");
    }

    #[test]
    fn a_renewed_stack_remembers_nothing() {
        let mut pair = Pair::new();
        pair.stack.socket().send_slice(&[7; 20000]).unwrap();
        pair.stack.send(&pair.clock, &mut pair.output);
        pair.acknowledge(10000, 0);
        pair.stack.renew(super::super::NAME_SERVER.into());
        pair.sent();
        pair.stack.send(&pair.clock, &mut pair.output);
        assert_eq!(pair.sent(), [], "no reset is sent for the old connection");
        assert_eq!(pair.stack.interface.ipv4_addr(), Some(super::super::NAME_SERVER));
        pair.stack.socket().listen(80).unwrap();
        assert_eq!(
            (pair.stack.socket().send_queue(), pair.stack.sent_end, pair.stack.closed_over_data),
            (0, None, false)
        );
    }

    #[test]
    fn a_window_that_closes_behind_the_data_is_probed_and_loses_nothing() {
        let mut pair = Pair::new();
        pair.acknowledge(0, 1000);
        pair.stack.socket().send_slice(&[7; 3000]).unwrap();
        pair.stack.send(&pair.clock, &mut pair.output);
        assert_eq!(pair.sent(), [(0, 1000)]);
        pair.acknowledge(1000, 0);
        assert_eq!(pair.sent(), []);
        pair.pass(5);
        assert_eq!(pair.sent(), [(1000, 1)]);
        // The probe is refused, and data that was never sent follows it.
        pair.acknowledge(1000, 0);
        assert!(pair.sent().iter().all(|sent| *sent == (1000, 1)));
        pair.acknowledge(1000, 1500);
        assert_eq!(pair.sent(), [(1000, 1500)]);
        pair.acknowledge(2500, 1500);
        assert_eq!(pair.sent(), [(2500, 500)]);
    }
}
