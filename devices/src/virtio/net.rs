//! The network device (virtio 1.3 §5.1) on a [`NetworkBackend`].
//!
//! Frames that the backend has no room for stay in the driver's buffers, and frames that the driver has no buffers for
//! stay in the backend; here lies at most one, or the pieces it was cut into. So nothing is dropped but what is
//! malformed, what arrives while the link is down, and what the driver has asked not to receive.
//!
//! The card is served on its backend's thread. The interrupt for what was transmitted is sent when the backend has looked
//! at it: an answer that it has at once needs no second one.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, OnceLock};

use bus::StateError;
use serde::{Deserialize, Serialize};

use super::spec::{device, net as spec};
use super::worker::{Caller, Events, Port, Service, Waker};
use super::{Chain, Session, read_config_bytes};
use crate::backend::net::{
    ETHERNET_HEADER_SIZE, Frame, LARGEST_FRAME, MacAddress, NetworkBackend, PartialChecksum, offload,
};
use crate::lock;

const QUEUE_SIZE: u16 = 256;
const CONTROL_QUEUE_SIZE: u16 = 64;
/// Frames of one batch and queue.
const BATCH: u32 = 64;
/// The most pairs of queues.
pub const MOST_PAIRS: u16 = 16;
/// Addresses of each kind that the receive filter holds; with more, all of that kind are received.
const MOST_ADDRESSES: usize = 64;
/// Bytes of a control command, less its data for the largest filter that is looked at.
const LARGEST_COMMAND: usize = 2 + 2 * (4 + 6 * MOST_ADDRESSES);
/// Interrupts are due for what was transmitted. No queue has this number.
const TRANSMITTED: Events = Events::queue(62);
/// The offloads that a driver may take, each by its feature.
const GUEST_OFFLOADS: [u64; 5] =
    [spec::F_GUEST_CSUM, spec::F_GUEST_TSO4, spec::F_GUEST_TSO6, spec::F_GUEST_USO4, spec::F_GUEST_USO6];
/// Flows whose pair of queues is remembered.
const STEERED_FLOWS: usize = 256;

/// Unplugs and plugs the cable of a running card.
#[derive(Clone)]
pub struct LinkControl(Arc<Shared>);

impl LinkControl {
    /// Sets whether the link is up. While it is down, frames in both directions are lost.
    pub fn set_up(&self, up: bool) {
        let mut state = lock(&self.0.state);
        if state.link_up != up {
            state.link_up = up;
            state.link_changed = true;
            drop(state);
            if let Some(waker) = self.0.waker.get() {
                waker.wake();
            }
        }
    }

    /// Whether the link is up.
    pub fn is_up(&self) -> bool {
        lock(&self.0.state).link_up
    }
}

/// A network card. A clone is another handle of the same card.
#[derive(Clone)]
pub struct Net {
    backend: Arc<dyn NetworkBackend>,
    address: MacAddress,
    pairs: u16,
    queue_sizes: Vec<u16>,
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    /// The pair on which each flow was last transmitted, where its answers are received (§5.1.6.5.6). Used by the
    /// worker's thread alone.
    steering: Mutex<[u16; STEERED_FLOWS]>,
    waker: OnceLock<Waker>,
}

#[derive(Clone, Serialize, Deserialize)]
struct State {
    address: MacAddress,
    link_up: bool,
    /// The driver has not yet been told of the link's new state.
    link_changed: bool,
    /// A frame for the driver that waits for buffers, or what is left of its pieces, complete as the driver wants them.
    waiting: VecDeque<Frame>,
    /// Pairs of queues in use.
    pairs: u16,
    /// The offloads that the driver takes, within what was negotiated.
    guest_offloads: u64,
    filter: Filter,
}

impl State {
    fn new(address: MacAddress) -> Self {
        Self {
            address,
            link_up: true,
            link_changed: false,
            waiting: VecDeque::new(),
            pairs: 1,
            guest_offloads: u64::MAX,
            filter: Filter::default(),
        }
    }
}

/// Which frames the driver wants (§5.1.6.5.1, §5.1.6.5.2).
#[derive(Clone, Serialize, Deserialize)]
struct Filter {
    promiscuous: bool,
    all_multicast: bool,
    all_unicast: bool,
    no_multicast: bool,
    no_unicast: bool,
    no_broadcast: bool,
    unicast: Vec<MacAddress>,
    multicast: Vec<MacAddress>,
    /// The driver has named more addresses than fit.
    unicast_overflow: bool,
    multicast_overflow: bool,
}

impl Default for Filter {
    fn default() -> Self {
        Self {
            // A driver without the control queue gets everything.
            promiscuous: true,
            all_multicast: false,
            all_unicast: false,
            no_multicast: false,
            no_unicast: false,
            no_broadcast: false,
            unicast: Vec::new(),
            multicast: Vec::new(),
            unicast_overflow: false,
            multicast_overflow: false,
        }
    }
}

impl Filter {
    fn accepts(&self, own: MacAddress, destination: MacAddress) -> bool {
        if self.promiscuous {
            true
        } else if destination == MacAddress::BROADCAST {
            !self.no_broadcast
        } else if destination.is_group() {
            !self.no_multicast
                && (self.all_multicast || self.multicast_overflow || self.multicast.contains(&destination))
        } else {
            !self.no_unicast
                && (self.all_unicast
                    || self.unicast_overflow
                    || destination == own
                    || self.unicast.contains(&destination))
        }
    }
}

/// Why a queue is served no further.
#[derive(PartialEq, Eq)]
enum Stop {
    /// No buffer is available, and a notification will tell of the next.
    NoBuffer,
    /// The backend will call when it can go on.
    Backend,
    /// The batch is over.
    Batch,
}

fn le_u16(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..at + 2).map_or(0, |pair| u16::from(pair[0]) | u16::from(pair[1]) << 8)
}

/// How a frame is to be cut, as a packet's header tells it, with the features that allow a driver to send such frames and
/// to receive them.
fn segmentation(frame: &Frame) -> (u8, u64, u64) {
    match (offload::is_udp(frame), offload::is_ipv6(frame)) {
        (false, false) => (spec::HDR_GSO_TCPV4, spec::F_HOST_TSO4, spec::F_GUEST_TSO4),
        (false, true) => (spec::HDR_GSO_TCPV6, spec::F_HOST_TSO6, spec::F_GUEST_TSO6),
        (true, false) => (spec::HDR_GSO_UDP_L4, spec::F_HOST_USO, spec::F_GUEST_USO4),
        (true, true) => (spec::HDR_GSO_UDP_L4, spec::F_HOST_USO, spec::F_GUEST_USO6),
    }
}

fn destination(frame: &Frame) -> Option<MacAddress> {
    frame.bytes.first_chunk().copied().map(MacAddress)
}

/// A number that is the same for both directions of a flow.
fn flow(frame: &Frame) -> usize {
    let bytes = &frame.bytes;
    let word = |at: usize| bytes.get(at..at + 2).map_or(0, |pair| usize::from(pair[0]) << 8 | usize::from(pair[1]));
    if word(12) != 0x0800 {
        return 0;
    }
    // Addresses, and the ports behind a header without options; exclusive-or forgets the direction.
    let hash = word(26) ^ word(28) ^ word(30) ^ word(32) ^ word(34) ^ word(36);
    (hash ^ hash >> 8) % STEERED_FLOWS
}

impl Net {
    /// A card with `address` and up to `pairs` pairs of queues ([`MOST_PAIRS`] at most), its cable in `backend`.
    pub fn new(backend: Arc<dyn NetworkBackend>, address: MacAddress, pairs: u16) -> Self {
        let pairs = pairs.clamp(1, MOST_PAIRS);
        let mut queue_sizes = vec![QUEUE_SIZE; 2 * usize::from(pairs)];
        queue_sizes.push(CONTROL_QUEUE_SIZE);
        let shared = Shared {
            state: Mutex::new(State::new(address)),
            steering: Mutex::new([0; STEERED_FLOWS]),
            waker: OnceLock::new(),
        };
        Self { backend, address, pairs, queue_sizes, shared: Arc::new(shared) }
    }

    /// The card's own address, which a driver may have changed for its session.
    pub fn address(&self) -> MacAddress {
        self.address
    }

    /// The handle of the card's cable.
    pub fn link(&self) -> LinkControl {
        LinkControl(self.shared.clone())
    }

    /// The frame that a chain of the transmit queue holds. `None` if it is to be dropped; the error is a violation of
    /// the format.
    fn frame_of(&self, session: &mut Session, queue: u16, chain: &Chain) -> Result<Option<Frame>, &'static str> {
        let length = chain.readable.len();
        if length < spec::HEADER_SIZE as u64 {
            return Err("a packet without a header");
        }
        let size = length - spec::HEADER_SIZE as u64;
        if size < ETHERNET_HEADER_SIZE as u64 || size > LARGEST_FRAME as u64 {
            tracing::debug!("virtio-net: a frame of {size} bytes was dropped");
            return Ok(None);
        }
        let mut header = [0; spec::HEADER_SIZE];
        let mut frame = Frame { bytes: vec![0; size as usize], ..Frame::default() };
        let Some(ram) = session.ram(queue) else { return Ok(None) };
        // Cannot fail: the chain was checked, and has as many bytes.
        chain.readable.read(ram, 0, &mut header);
        chain.readable.read(ram, spec::HEADER_SIZE as u64, &mut frame.bytes);
        let drop = |why: &str| {
            tracing::debug!("virtio-net: a frame was dropped: {why}");
            Ok(None)
        };
        if header[0] & spec::HDR_F_NEEDS_CSUM != 0 && session.has(spec::F_CSUM) {
            let partial = PartialChecksum { start: le_u16(&header, 6), offset: le_u16(&header, 8) };
            if usize::from(partial.start) + usize::from(partial.offset) + 2 > frame.bytes.len() {
                return drop("its checksum lies outside");
            }
            frame.offload.checksum = Some(partial);
        }
        let kind = header[1];
        if kind != spec::HDR_GSO_NONE {
            let (expected, feature, _) = segmentation(&frame);
            if kind != expected || !session.has(feature) {
                return drop("an offload that was not negotiated");
            }
            let segment_size = le_u16(&header, 4);
            if segment_size == 0 || frame.offload.checksum.is_none() {
                return drop("a large segment without a size or a partial checksum");
            }
            frame.offload.segment_size = Some(segment_size);
        }
        if !self.backend.offloads() {
            offload::complete_checksum(&mut frame);
        }
        Ok(Some(frame))
    }

    fn transmit(&self, session: &mut Session, pair: u16, steering: &mut [u16; STEERED_FLOWS]) -> Stop {
        let queue = 2 * pair + 1;
        for _ in 0..BATCH {
            let Some(chain) = session.pop(queue) else {
                if session.enable_notifications(queue) {
                    continue;
                }
                return Stop::NoBuffer;
            };
            match self.frame_of(session, queue, &chain) {
                Err(reason) => {
                    session.fail(&reason);
                    return Stop::NoBuffer;
                }
                Ok(Some(frame)) if lock(&self.shared.state).link_up => {
                    steering[flow(&frame)] = pair;
                    if self.backend.send(frame).is_err() {
                        session.undo_pop(queue);
                        return Stop::Backend;
                    }
                }
                Ok(_) => {}
            }
            session.complete(queue, &chain, 0);
        }
        Stop::Batch
    }

    /// Makes a frame what the driver takes: one frame or several.
    fn prepare(mut frame: Frame, offloads: u64) -> Option<VecDeque<Frame>> {
        // Who takes no partial checksum takes no frame to be cut either, whose checksum is one (§5.1.3.1).
        let takes_checksum = offloads & spec::F_GUEST_CSUM != 0;
        let (_, _, wanted) = segmentation(&frame);
        if frame.offload.segment_size.is_some() && !(takes_checksum && offloads & wanted != 0) {
            return offload::segment(&frame).map(Into::into);
        }
        if !takes_checksum {
            offload::complete_checksum(&mut frame)?;
        }
        Some([frame].into())
    }

    /// The next frame that the driver is to get. Stays in `state.waiting` until it is taken from there.
    fn next_frame<'a>(&self, session: &Session, state: &'a mut State) -> Option<&'a Frame> {
        while state.waiting.is_empty() {
            let frame = self.backend.receive()?;
            let wanted = |address| state.filter.accepts(state.address, address);
            if !state.link_up || !destination(&frame).is_some_and(wanted) {
                continue;
            }
            let negotiated = GUEST_OFFLOADS.into_iter().filter(|feature| session.has(*feature));
            let offloads = negotiated.fold(0, |all, feature| all | feature) & state.guest_offloads;
            match Self::prepare(frame, offloads) {
                Some(frames) => state.waiting = frames,
                None => tracing::debug!("virtio-net: a malformed frame of the network's was dropped"),
            }
        }
        state.waiting.front()
    }

    /// The header of a received packet that fills `buffers` chains.
    fn header(frame: &Frame, buffers: u16) -> [u8; spec::HEADER_SIZE] {
        let mut header = [0; spec::HEADER_SIZE];
        if let Some(PartialChecksum { start, offset }) = frame.offload.checksum {
            header[0] = spec::HDR_F_NEEDS_CSUM;
            header[6..8].copy_from_slice(&start.to_le_bytes());
            header[8..10].copy_from_slice(&offset.to_le_bytes());
            if let Some(size) = frame.offload.segment_size {
                header[1] = segmentation(frame).0;
                header[2..4].copy_from_slice(&offload::headers_size(frame, start).to_le_bytes());
                header[4..6].copy_from_slice(&size.to_le_bytes());
            }
        }
        header[10..12].copy_from_slice(&buffers.to_le_bytes());
        header
    }

    /// Takes chains for `size` bytes from `queue`. `None`, with no chain taken, if there are not enough; a chain
    /// without room is an error.
    fn take_chains(session: &mut Session, queue: u16, size: u64) -> Result<Option<Vec<Chain>>, &'static str> {
        let mut chains: Vec<Chain> = Vec::new();
        let mut room = 0;
        let most = if session.has(spec::F_MRG_RXBUF) { usize::MAX } else { 1 };
        while room < size && chains.len() < most {
            let Some(chain) = session.pop(queue) else {
                // The notification is for a chain after those that are there already.
                if session.enable_notifications(queue) {
                    continue;
                }
                for _ in &chains {
                    session.undo_pop(queue);
                }
                return Ok(None);
            };
            // The header is never cut (§5.1.6.3.1), and an empty buffer would let a driver feed us for ever.
            let least = if chains.is_empty() { spec::HEADER_SIZE as u64 } else { 1 };
            if chain.writable.len() < least {
                return Err("a receive buffer without room");
            }
            room += chain.writable.len();
            chains.push(chain);
        }
        Ok(Some(chains))
    }

    fn receive(&self, session: &mut Session, steering: &[u16; STEERED_FLOWS]) -> Stop {
        let state = &mut *lock(&self.shared.state);
        for _ in 0..BATCH {
            let pairs = state.pairs;
            let Some(frame) = self.next_frame(session, state) else { return Stop::Backend };
            let pair = if pairs == 1 { 0 } else { steering[flow(frame)] % pairs };
            let queue = 2 * pair;
            let size = spec::HEADER_SIZE + frame.bytes.len();
            let chains = match Self::take_chains(session, queue, size as u64) {
                Ok(Some(chains)) => chains,
                Ok(None) => return Stop::NoBuffer,
                Err(reason) => {
                    session.fail(&reason);
                    return Stop::NoBuffer;
                }
            };
            let room: u64 = chains.iter().map(|chain| chain.writable.len()).sum();
            if room < size as u64 {
                // Without mergeable buffers a chain must hold the largest packet (§5.1.6.3.1).
                tracing::debug!("virtio-net: a frame of {size} bytes does not fit a buffer of {room} and was dropped");
                session.undo_pop(queue);
            } else if let Some(ram) = session.ram(queue) {
                let header = Self::header(frame, chains.len() as u16);
                let mut rest = &frame.bytes[..];
                let mut used = Vec::with_capacity(chains.len());
                for (i, chain) in chains.iter().enumerate() {
                    let begin = if i == 0 { header.len() } else { 0 };
                    // Cannot fail: the chains were checked, and have room.
                    chain.writable.write(ram, 0, &header[..begin]);
                    let (piece, more) = rest.split_at(rest.len().min((chain.writable.len() - begin as u64) as usize));
                    chain.writable.write(ram, begin as u64, piece);
                    used.push((chain.head, (begin + piece.len()) as u32));
                    rest = more;
                }
                session.complete_all(queue, &used);
            }
            state.waiting.pop_front();
        }
        Stop::Batch
    }

    fn control_queue(&self, session: &Session) -> u16 {
        if session.has(spec::F_MQ) { 2 * self.pairs } else { 2 }
    }

    fn control(&self, session: &mut Session) -> Stop {
        if !session.has(spec::F_CTRL_VQ) {
            return Stop::NoBuffer;
        }
        let queue = self.control_queue(session);
        for _ in 0..BATCH {
            let Some(chain) = session.pop(queue) else {
                if session.enable_notifications(queue) {
                    continue;
                }
                return Stop::NoBuffer;
            };
            if chain.readable.len() < 2 || chain.writable.is_empty() {
                session.fail(&"a control command without a class or room for the answer");
                return Stop::NoBuffer;
            }
            let mut command = vec![0; chain.readable.len().min(LARGEST_COMMAND as u64) as usize];
            if let Some(ram) = session.ram(queue) {
                chain.readable.read(ram, 0, &mut command);
            }
            let answer = match self.execute(session, command[0], command[1], &command[2..]) {
                Some(()) => spec::CTRL_OK,
                None => spec::CTRL_ERR,
            };
            if let Some(ram) = session.ram(queue) {
                chain.writable.write(ram, 0, &[answer]);
            }
            session.complete(queue, &chain, 1);
        }
        Stop::Batch
    }

    /// Does a control command (§5.1.6.5). `None` if it cannot be done.
    fn execute(&self, session: &Session, class: u8, command: u8, data: &[u8]) -> Option<()> {
        let state = &mut *lock(&self.shared.state);
        match (class, command) {
            (spec::CTRL_RX, mode) if session.has(spec::F_CTRL_RX) => {
                let on = *data.first()? != 0;
                let filter = &mut state.filter;
                let extra = session.has(spec::F_CTRL_RX_EXTRA);
                let flag = match mode {
                    spec::CTRL_RX_PROMISC => &mut filter.promiscuous,
                    spec::CTRL_RX_ALLMULTI => &mut filter.all_multicast,
                    spec::CTRL_RX_ALLUNI if extra => &mut filter.all_unicast,
                    spec::CTRL_RX_NOMULTI if extra => &mut filter.no_multicast,
                    spec::CTRL_RX_NOUNI if extra => &mut filter.no_unicast,
                    spec::CTRL_RX_NOBCAST if extra => &mut filter.no_broadcast,
                    _ => return None,
                };
                *flag = on;
            }
            (spec::CTRL_MAC, spec::CTRL_MAC_TABLE_SET) if session.has(spec::F_CTRL_RX) => {
                let (unicast, rest) = address_table(data)?;
                // A table so large that the second one was not looked at.
                let (multicast, _) = match rest {
                    Some(rest) => address_table(rest)?,
                    None => (None, None),
                };
                let filter = &mut state.filter;
                filter.unicast_overflow = unicast.is_none();
                filter.multicast_overflow = multicast.is_none();
                filter.unicast = unicast.unwrap_or_default();
                filter.multicast = multicast.unwrap_or_default();
            }
            (spec::CTRL_MAC, spec::CTRL_MAC_ADDR_SET) if session.has(spec::F_CTRL_MAC_ADDR) => {
                state.address = MacAddress(*data.first_chunk()?);
            }
            (spec::CTRL_MQ, spec::CTRL_MQ_VQ_PAIRS_SET) if session.has(spec::F_MQ) => {
                let pairs = u16::from_le_bytes(*data.first_chunk()?);
                state.pairs = Some(pairs).filter(|pairs| (1..=self.pairs).contains(pairs))?;
            }
            (spec::CTRL_GUEST_OFFLOADS, spec::CTRL_GUEST_OFFLOADS_SET) if session.has(spec::F_CTRL_GUEST_OFFLOADS) => {
                state.guest_offloads = u64::from_le_bytes(*data.first_chunk()?);
            }
            _ => return None,
        }
        Some(())
    }
}

/// Reads a table of addresses and returns it, or nothing in its place if it is too large, with what comes after it, if
/// that can be told.
#[expect(clippy::type_complexity)]
fn address_table(data: &[u8]) -> Option<(Option<Vec<MacAddress>>, Option<&[u8]>)> {
    let (count, rest) = data.split_first_chunk()?;
    let count = u32::from_le_bytes(*count) as usize;
    if count > MOST_ADDRESSES {
        return Some((None, None));
    }
    let (table, rest) = rest.split_at_checked(6 * count)?;
    let addresses = table.chunks_exact(6).filter_map(|address| address.first_chunk().copied().map(MacAddress));
    Some((Some(addresses.collect()), Some(rest)))
}

impl Service for Net {
    fn name(&self) -> &'static str {
        "virtio-net"
    }

    fn id(&self) -> u32 {
        device::NETWORK
    }

    fn features(&self) -> u64 {
        let always = spec::F_CSUM
            | spec::F_GUEST_CSUM
            | spec::F_CTRL_GUEST_OFFLOADS
            | spec::F_MTU
            | spec::F_MAC
            | spec::F_MRG_RXBUF
            | spec::F_STATUS
            | spec::F_CTRL_VQ
            | spec::F_CTRL_RX
            | spec::F_CTRL_RX_EXTRA
            | spec::F_CTRL_MAC_ADDR;
        let segmentation = spec::F_HOST_TSO4
            | spec::F_HOST_TSO6
            | spec::F_HOST_USO
            | spec::F_GUEST_TSO4
            | spec::F_GUEST_TSO6
            | spec::F_GUEST_USO4
            | spec::F_GUEST_USO6;
        let segmentation = if self.backend.offloads() { segmentation } else { 0 };
        always | segmentation | if self.pairs > 1 { spec::F_MQ } else { 0 }
    }

    fn queue_sizes(&self) -> &[u16] {
        &self.queue_sizes
    }

    fn read_config(&self, offset: u64, bytes: &mut [u8]) {
        let mut config = [0; 12];
        let state = lock(&self.shared.state);
        config[..6].copy_from_slice(&state.address.0);
        config[6..8].copy_from_slice(&if state.link_up { spec::S_LINK_UP } else { 0 }.to_le_bytes());
        config[8..10].copy_from_slice(&self.pairs.to_le_bytes());
        config[10..12].copy_from_slice(&self.backend.mtu().to_le_bytes());
        read_config_bytes(&config, offset, bytes);
    }

    fn caller(&self) -> Option<Caller> {
        let backend = self.backend.clone();
        Some(Box::new(move || backend.call()))
    }

    fn attach(&self, waker: Waker) {
        // Called once.
        let _ = self.shared.waker.set(waker.clone());
        self.backend.attach(Box::new(move || waker.serve(Events::BACKEND)));
    }

    fn serve(&self, port: &Port, events: Events) -> Events {
        let Some(mut session) = port.session() else {
            return Events::NONE;
        };
        let session = &mut *session;
        if events.intersects(Events::BACKEND) {
            let state = &mut *lock(&self.shared.state);
            if !state.link_up {
                state.waiting.clear();
            }
            if std::mem::take(&mut state.link_changed) && session.has(spec::F_STATUS) {
                session.config_changed();
            }
        }
        let mut left = Events::NONE;
        let control = Events::queue(self.control_queue(session));
        if events.intersects(control) {
            if self.control(session) == Stop::Batch {
                left = left.or(control);
            }
            session.interrupt(self.control_queue(session));
        }
        let pairs = lock(&self.shared.state).pairs;
        let steering = &mut *lock(&self.shared.steering);
        let mut receive = events.intersects(Events::BACKEND);
        for pair in 0..pairs {
            let queue = 2 * pair + 1;
            if events.intersects(Events::queue(queue).or(Events::BACKEND)) {
                if self.transmit(session, pair, steering) == Stop::Batch {
                    left = left.or(Events::queue(queue));
                }
                if session.has_completed(queue) {
                    left = left.or(TRANSMITTED);
                }
            }
            receive |= events.intersects(Events::queue(2 * pair));
        }
        if receive {
            if self.receive(session, steering) == Stop::Batch {
                left = left.or(Events::queue(0));
            }
            for pair in 0..pairs {
                session.interrupt(2 * pair);
            }
        }
        if events.intersects(TRANSMITTED) {
            for pair in 0..self.pairs {
                session.interrupt(2 * pair + 1);
            }
            left = left.without(TRANSMITTED);
        }
        left
    }

    fn reset(&self, _queue: Option<u16>) {
        let state = &mut *lock(&self.shared.state);
        *state = State { link_up: state.link_up, ..State::new(self.address) };
    }

    fn save(&self) -> Result<Vec<u8>, StateError> {
        bus::save(self.name(), &*lock(&self.shared.state))
    }

    fn restore(&self, state: &[u8]) -> Result<(), StateError> {
        let state: State = bus::restore(self.name(), state)?;
        if state.pairs == 0 || state.pairs > self.pairs {
            return Err(StateError::Mismatch {
                device: self.name().into(),
                reason: format!("{} pairs of queues are in use, this card has {}", state.pairs, self.pairs),
            });
        }
        *lock(&self.shared.state) = state;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bus::Device;

    use super::super::driver::{DATA, Driver, readable, wait_until, writable};
    use super::super::spec::{feature, mmio as reg};
    use super::super::{VirtioDevice, Worker};
    use super::*;
    use crate::backend::net::{Link, NetworkEnd, Offload};

    const MAC: MacAddress = MacAddress([0x52, 0x54, 0, 1, 2, 3]);
    const OTHER: MacAddress = MacAddress([0x52, 0x54, 0, 9, 9, 9]);
    const RX: usize = 0;
    const TX: usize = 1;
    const CONTROL: usize = 2;
    /// Above all rings, also those of several pairs.
    const FREE: u64 = DATA + 0x4_0000;

    struct Machine {
        driver: Driver,
        network: NetworkEnd,
        link: LinkControl,
    }

    fn device(pairs: u16) -> (Box<dyn VirtioDevice>, NetworkEnd, LinkControl) {
        let (link, network) = Link::attended(1500);
        let net = Net::new(link, MAC, pairs);
        let link = net.link();
        (Box::new(Worker::new(net).unwrap()), network, link)
    }

    fn machine(accept: u64, pairs: u16) -> Machine {
        let (device, network, link) = device(pairs);
        let mut driver = Driver::new(device);
        assert_eq!(driver.read(reg::DEVICE_ID), 1);
        driver.initialise(accept, 64);
        assert_eq!(driver.rings.len(), 2 * usize::from(pairs) + 1);
        Machine { driver, network, link }
    }

    fn frame(to: MacAddress, length: usize) -> Frame {
        let mut bytes: Vec<u8> = (0..length).map(|i| (i % 251) as u8).collect();
        bytes[..6].copy_from_slice(&to.0);
        bytes[12..14].copy_from_slice(&[0x88, 0xb5]);
        Frame { bytes, ..Frame::default() }
    }

    impl Machine {
        fn deliver(&mut self, frame: Frame) {
            self.network.send(frame);
            self.network.flush();
        }

        #[track_caller]
        fn sent(&mut self) -> Frame {
            let mut frame = None;
            wait_until("a frame", || {
                frame = self.network.receive();
                frame.is_some()
            });
            self.network.flush();
            frame.unwrap()
        }

        /// Waits until the device has done all that it can do.
        fn settle(&mut self) {
            self.driver.mmio.pause();
            self.driver.mmio.resume();
            // Frames too short to be sent: once the second is done, the round in which the first was done is over, and
            // with it one that has looked at everything.
            for _ in 0..2 {
                self.driver.run(TX, &[readable(FREE, 12 + 13)]);
            }
        }

        fn command(&mut self, queue: usize, bytes: &[u8]) -> u8 {
            self.driver.ram.write(FREE, bytes).unwrap();
            self.driver.ram.write(FREE + 0x1000, &[0xff]).unwrap();
            let buffers = [readable(FREE, 2), readable(FREE + 2, bytes.len() as u32 - 2), writable(FREE + 0x1000, 1)];
            assert_eq!(self.driver.run(queue, &buffers), 1);
            self.driver.bytes(FREE + 0x1000, 1)[0]
        }
    }

    /// A TCP frame to be cut into pieces of 1000 bytes.
    fn large() -> Frame {
        let mut frame = frame(MAC, 54 + 2500);
        frame.bytes[12..34].copy_from_slice(&[8, 0, 0x45, 0, 0, 0, 0, 1, 0, 0, 64, 6, 0, 0, 10, 0, 2, 2, 10, 0, 2, 15]);
        frame.bytes[16..18].copy_from_slice(&2540u16.to_be_bytes());
        frame.bytes[46] = 0x50;
        frame.offload = Offload { checksum: Some(PartialChecksum { start: 34, offset: 16 }), segment_size: Some(1000) };
        frame
    }

    /// Three UDP datagrams, to be cut.
    fn datagrams(is_ipv6: bool) -> Frame {
        let mut frame = frame(MAC, if is_ipv6 { 62 } else { 42 } + 2500);
        let start = if is_ipv6 {
            frame.bytes[12..22].copy_from_slice(&[0x86, 0xdd, 0x60, 0, 0, 0, 0, 0, 17, 64]);
            54
        } else {
            let header = [8, 0, 0x45, 0, 0, 0, 0, 1, 0, 0, 64, 17, 0, 0, 10, 0, 2, 2, 10, 0, 2, 15];
            frame.bytes[12..34].copy_from_slice(&header);
            34
        };
        frame.offload = Offload { checksum: Some(PartialChecksum { start, offset: 6 }), segment_size: Some(1000) };
        frame
    }

    #[test]
    fn several_datagrams_go_out_as_one_if_that_was_negotiated() {
        for is_ipv6 in [false, true] {
            let expected = datagrams(is_ipv6);
            let start = if is_ipv6 { 54 } else { 34 };
            let header = [1, 5, start + 8, 0, 0xe8, 3, start, 0, 6, 0, 0, 0];
            let send = |accept, header: &[u8]| {
                let mut machine = machine(accept, 1);
                machine.driver.ram.write(DATA, header).unwrap();
                machine.driver.ram.write(DATA + 12, &expected.bytes).unwrap();
                machine.driver.run(TX, &[readable(DATA, 12 + expected.bytes.len() as u32)]);
                machine.network.receive()
            };
            assert_eq!(send(u64::MAX, &header), Some(expected.clone()));
            for missing in [spec::F_HOST_USO, spec::F_CSUM] {
                assert_eq!(send(!missing, &header), None);
            }
            // No checksum, no size, the checksum of TCP, one outside, and other kinds: fragments of a large datagram
            // (VIRTIO_NET_HDR_GSO_UDP), TCP, none that exists.
            let tcp = if is_ipv6 { 4 } else { 1 };
            for (at, value) in [(0, 0), (5, 0), (8, 16), (7, 0xff), (1, 3), (1, tcp), (1, 6), (1, 0x85)] {
                let mut wrong = header;
                wrong[at] = value;
                if at == 5 {
                    wrong[4] = 0;
                }
                assert_eq!(send(u64::MAX, &wrong), None, "{value:#x} at {at}");
            }
        }
    }

    #[test]
    fn several_datagrams_arrive_as_one_if_the_driver_takes_them_so() {
        let basic = spec::F_MRG_RXBUF | spec::F_GUEST_CSUM;
        for (is_ipv6, wanted, other) in
            [(false, spec::F_GUEST_USO4, spec::F_GUEST_USO6), (true, spec::F_GUEST_USO6, spec::F_GUEST_USO4)]
        {
            let start = if is_ipv6 { 54 } else { 34 };
            let mut whole = machine(basic | wanted, 1);
            whole.driver.add(RX, &[writable(DATA, 4000)]);
            whole.driver.notify(RX);
            whole.deliver(datagrams(is_ipv6));
            assert_eq!(whole.driver.wait_used(RX).1, 12 + u32::from(start) + 8 + 2500);
            assert_eq!(whole.driver.bytes(DATA, 12), [1, 5, start + 8, 0, 0xe8, 3, start, 0, 6, 0, 1, 0]);

            // The family's feature is missing, or the one that it needs; or the driver has changed its mind.
            let tso = spec::F_GUEST_TSO4 | spec::F_GUEST_TSO6;
            let control = spec::F_CTRL_VQ | spec::F_CTRL_GUEST_OFFLOADS;
            for accept in [basic | other | tso, spec::F_MRG_RXBUF | wanted, basic | wanted | control] {
                let mut machine = machine(accept, 1);
                if accept & control != 0 {
                    let offloads = [&[5, 0][..], &spec::F_GUEST_CSUM.to_le_bytes()].concat();
                    assert_eq!(machine.command(CONTROL, &offloads), 0);
                }
                for i in 0..3 {
                    machine.driver.add(RX, &[writable(DATA + 0x1000 * i, 2000)]);
                }
                machine.driver.notify(RX);
                machine.deliver(datagrams(is_ipv6));
                for (i, size) in [1000, 1000, 500].into_iter().enumerate() {
                    assert_eq!(machine.driver.wait_used(RX).1, 12 + u32::from(start) + 8 + size);
                    assert_eq!(machine.driver.bytes(DATA + 0x1000 * i as u64, 2), [0, 0], "complete");
                }
            }
        }
    }

    #[test]
    fn large_segments_need_partial_checksums() {
        // A driver that breaks the rules of features (§5.1.3.1) gets what it can read.
        let mut machine = machine(spec::F_MRG_RXBUF | spec::F_GUEST_TSO4, 1);
        for i in 0..3 {
            machine.driver.add(RX, &[writable(DATA + 0x1000 * i, 2000)]);
        }
        machine.driver.notify(RX);
        machine.deliver(large());
        let lengths: Vec<_> = (0..3).map(|_| machine.driver.wait_used(RX).1).collect();
        assert_eq!(lengths, [66 + 1000, 66 + 1000, 66 + 500]);
    }

    #[test]
    fn the_configuration_tells_address_mtu_and_status() {
        let machine = machine(u64::MAX, 1);
        let config = |at| machine.driver.read(reg::CONFIG + at).to_le_bytes();
        let bytes = [config(0), config(4), config(8)].concat();
        assert_eq!(bytes[..6], MAC.0);
        assert_eq!(bytes[6..], [1, 0, 1, 0, 0xdc, 5]);
        assert_eq!(machine.driver.features & (spec::F_MQ | spec::F_MRG_RXBUF | spec::F_HOST_TSO4), {
            spec::F_MRG_RXBUF | spec::F_HOST_TSO4
        });
    }

    #[test]
    fn frames_go_out_however_they_are_laid_out() {
        for accept in [0, u64::MAX, feature::EVENT_IDX, feature::INDIRECT_DESC] {
            let mut machine = machine(accept, 1);
            let expected = frame(OTHER, 1514);
            machine.driver.ram.write(DATA, &[0; 12]).unwrap();
            machine.driver.ram.write(DATA + 12, &expected.bytes).unwrap();
            for buffers in [
                &[readable(DATA, 1526)][..],
                &[readable(DATA, 12), readable(DATA + 12, 1514)],
                &[readable(DATA, 5), readable(DATA + 5, 100), readable(DATA + 105, 1421)],
            ] {
                assert_eq!(machine.driver.run(TX, buffers), 0);
                assert_eq!(machine.sent(), expected);
            }
            // Too short for an Ethernet header, too long for anything: dropped, and the queue goes on.
            machine.driver.run(TX, &[readable(DATA, 12 + 13)]);
            machine.driver.run(TX, &[readable(DATA, 70_000)]);
            machine.driver.run(TX, &[readable(DATA, 12 + 14)]);
            assert_eq!(machine.sent().bytes.len(), 14);
        }
    }

    #[test]
    fn offloads_of_the_driver_are_passed_on_if_they_were_negotiated() {
        let header = [1, 1, 54, 0, 0xe8, 3, 34, 0, 16, 0, 0, 0];
        let expected = large();
        let send = |accept, header: &[u8]| {
            let mut machine = machine(accept, 1);
            machine.driver.ram.write(DATA, header).unwrap();
            machine.driver.ram.write(DATA + 12, &expected.bytes).unwrap();
            machine.driver.run(TX, &[readable(DATA, 12 + 2554)]);
            machine.network.receive()
        };
        assert_eq!(send(u64::MAX, &header), Some(expected.clone()));
        assert_eq!(send(spec::F_CSUM, &header), None, "segmentation was not negotiated");
        let checksum_only = Offload { segment_size: None, ..expected.offload };
        let mut plain = header;
        plain[1] = 0;
        assert_eq!(send(spec::F_CSUM, &plain).unwrap().offload, checksum_only);
        assert_eq!(send(0, &plain).unwrap().offload, Offload::default());
        for (at, value) in [(7, 0xff), (9, 0xff), (1, 4), (1, 3), (1, 5), (0, 0)] {
            let mut wrong = header;
            wrong[at] = value;
            assert_eq!(send(u64::MAX, &wrong), None, "{value:#x} at {at}");
        }
        // Over IPv6 the same; a kind that is not the frame's is refused.
        let mut six = expected.clone();
        six.bytes[12..14].copy_from_slice(&[0x86, 0xdd]);
        let send_six = |accept, kind| {
            let mut machine = machine(accept, 1);
            let mut header = header;
            header[1] = kind;
            machine.driver.ram.write(DATA, &header).unwrap();
            machine.driver.ram.write(DATA + 12, &six.bytes).unwrap();
            machine.driver.run(TX, &[readable(DATA, 12 + 2554)]);
            machine.network.receive()
        };
        assert_eq!(send_six(u64::MAX, 4), Some(six.clone()));
        assert_eq!(send_six(u64::MAX, 1), None);
        assert_eq!(send_six(!spec::F_HOST_TSO6, 4), None);
        let mut no_size = header;
        no_size[4..6].fill(0);
        assert_eq!(send(u64::MAX, &no_size), None);
    }

    #[test]
    fn a_frame_fills_several_buffers_at_once() {
        let mut machine = machine(spec::F_MRG_RXBUF, 1);
        let expected = frame(MAC, 5000);
        let heads: Vec<_> = (0..2).map(|i| machine.driver.add(RX, &[writable(DATA + 0x1000 * i, 1500)])).collect();
        machine.driver.notify(RX);
        machine.deliver(expected.clone());
        machine.settle();
        assert_eq!(machine.driver.used_idx(RX), 0, "there is no room yet");
        let more: Vec<_> = (2..6)
            .map(|i| {
                machine.driver.add(RX, &[writable(DATA + 0x1000 * i, 700), writable(DATA + 0x1000 * i + 700, 800)])
            })
            .collect();
        machine.driver.notify(RX);
        let mut bytes = Vec::new();
        for (i, head) in heads.into_iter().chain(more).take(4).enumerate() {
            let (id, length) = machine.driver.wait_used(RX);
            assert_eq!((id, length), (head.into(), if i == 3 { 512 } else { 1500 }));
            bytes.extend(machine.driver.bytes(DATA + 0x1000 * i as u64, length as usize));
        }
        assert_eq!(bytes[..12], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0]);
        assert!(bytes[12..] == expected.bytes);
        // The buffers left over serve the next one.
        machine.deliver(frame(MAC, 60));
        assert_eq!(machine.driver.wait_used(RX).1, 72);
    }

    #[test]
    fn without_mergeable_buffers_one_has_to_do() {
        let mut machine = machine(0, 1);
        machine.driver.add(RX, &[writable(DATA, 1526)]);
        machine.driver.notify(RX);
        machine.deliver(frame(MAC, 1515));
        machine.deliver(frame(MAC, 1514));
        assert_eq!(machine.driver.wait_used(RX).1, 1526);
        assert_eq!(machine.driver.bytes(DATA + 10, 2), [1, 0]);
        assert!(machine.driver.bytes(DATA + 12, 1514) == frame(MAC, 1514).bytes);
    }

    #[test]
    fn a_driver_gets_only_offloads_that_it_takes() {
        let all = spec::F_MRG_RXBUF | spec::F_GUEST_CSUM | spec::F_GUEST_TSO4;
        let mut whole = machine(all, 1);
        whole.driver.add(RX, &[writable(DATA, 4000)]);
        whole.driver.notify(RX);
        whole.deliver(large());
        assert_eq!(whole.driver.wait_used(RX).1, 12 + 2554);
        assert_eq!(whole.driver.bytes(DATA, 12), [1, 1, 54, 0, 0xe8, 3, 34, 0, 16, 0, 1, 0]);

        let mut six = large();
        six.bytes[12..14].copy_from_slice(&[0x86, 0xdd]);
        let mut whole = machine(all | spec::F_GUEST_TSO6, 1);
        whole.driver.add(RX, &[writable(DATA, 4000)]);
        whole.driver.notify(RX);
        whole.deliver(six);
        assert_eq!(whole.driver.wait_used(RX).1, 12 + 2554);
        assert_eq!(whole.driver.bytes(DATA, 2), [1, 4]);

        for accept in [spec::F_MRG_RXBUF, spec::F_MRG_RXBUF | spec::F_GUEST_CSUM] {
            let mut machine = machine(accept, 1);
            for i in 0..4 {
                machine.driver.add(RX, &[writable(DATA + 0x1000 * i, 2000)]);
            }
            machine.driver.notify(RX);
            machine.deliver(large());
            let lengths: Vec<_> = (0..3).map(|_| machine.driver.wait_used(RX).1).collect();
            assert_eq!(lengths, [66 + 1000, 66 + 1000, 66 + 500]);
            let mut small = large();
            small.offload.segment_size = None;
            small.bytes.truncate(54 + 100);
            machine.driver.add(RX, &[writable(DATA + 0x5000, 2000)]);
            machine.driver.notify(RX);
            machine.deliver(small);
            machine.driver.wait_used(RX);
            let partial = accept & spec::F_GUEST_CSUM != 0;
            assert_eq!(machine.driver.bytes(DATA + 0x3000, 1), [partial as u8]);
        }
    }

    #[test]
    fn nothing_is_lost_when_the_network_is_full() {
        let mut machine = machine(u64::MAX, 1);
        let (mut added, mut received) = (0u32, 0u32);
        machine.driver.ram.write(FREE, &[0; 12]).unwrap();
        let mut stalled = false;
        while received < 3000 {
            while added < 3000 && added - u32::from(machine.driver.used_idx(TX)) < 32 {
                let place = FREE + 0x40 * u64::from(added % 64);
                machine.driver.ram.write(place, &[0; 12]).unwrap();
                machine.driver.ram.write(place + 12, &[0; 14]).unwrap();
                machine.driver.ram.write(place + 26, &added.to_le_bytes()).unwrap();
                machine.driver.add(TX, &[readable(place, 30)]);
                machine.driver.notify(TX);
                added += 1;
            }
            // The network sleeps until the driver is stuck.
            if added < 3000 && !stalled {
                std::thread::sleep(std::time::Duration::from_millis(1));
                stalled = added > 512 && added - u32::from(machine.driver.used_idx(TX)) == 32;
                continue;
            }
            if let Some(frame) = machine.network.receive() {
                assert_eq!(frame.bytes[14..18], received.to_le_bytes());
                received += 1;
            }
            machine.network.flush();
        }
        assert!(stalled);
    }

    #[test]
    fn malformed_buffers_end_in_a_device_error() {
        let mut short = machine(u64::MAX, 1);
        short.driver.add(TX, &[readable(DATA, 11)]);
        short.driver.notify(TX);
        short.driver.wait_needs_reset();
        // After a reset it works again.
        short.driver.initialise(u64::MAX, 64);
        short.driver.run(TX, &[readable(DATA, 60)]);
        assert_eq!(short.sent().bytes.len(), 48);

        for length in [0, 11] {
            let mut small = machine(u64::MAX, 1);
            small.driver.add(RX, &[writable(DATA, length)]);
            small.driver.notify(RX);
            small.deliver(frame(MAC, 60));
            small.driver.wait_needs_reset();
        }
        let mut outside = machine(u64::MAX, 1);
        outside.driver.add(TX, &[readable(0x1000, 60)]);
        outside.driver.notify(TX);
        outside.driver.wait_needs_reset();
        let mut control = machine(u64::MAX, 1);
        control.driver.add(CONTROL, &[readable(DATA, 1), writable(DATA, 1)]);
        control.driver.notify(CONTROL);
        control.driver.wait_needs_reset();
    }

    #[test]
    fn the_cable_can_be_unplugged() {
        let mut machine = machine(u64::MAX, 1);
        let status = |machine: &Machine| machine.driver.read(reg::CONFIG + 4) >> 16;
        assert_eq!(status(&machine), 1);
        let generation = machine.driver.read(reg::CONFIG_GENERATION);
        machine.link.set_up(false);
        wait_until("an interrupt", || machine.driver.read(reg::INTERRUPT_STATUS) & reg::INTERRUPT_CONFIG != 0);
        assert_ne!(machine.driver.read(reg::CONFIG_GENERATION), generation);
        assert_eq!(status(&machine), 0);
        machine.driver.write(reg::INTERRUPT_ACK, 3);
        machine.driver.run(TX, &[readable(DATA, 60)]);
        assert_eq!(machine.network.receive(), None);
        machine.driver.add(RX, &[writable(DATA, 2000)]);
        machine.driver.notify(RX);
        machine.deliver(frame(MAC, 100));
        machine.settle();
        assert_eq!(machine.driver.take_used(RX), None);
        machine.link.set_up(true);
        wait_until("an interrupt", || machine.driver.read(reg::INTERRUPT_STATUS) & reg::INTERRUPT_CONFIG != 0);
        machine.deliver(frame(MAC, 200));
        assert_eq!(machine.driver.wait_used(RX).1, 212, "what came while the link was down is gone");
    }

    #[test]
    fn the_filter_does_what_it_is_told() {
        let mut machine = machine(u64::MAX, 1);
        let received = |machine: &mut Machine, to| {
            machine.driver.add(RX, &[writable(DATA, 2000)]);
            machine.driver.notify(RX);
            machine.deliver(frame(to, 100));
            // One that always comes through tells that the other was looked at.
            let mut marker = frame(MAC, 99);
            marker.bytes[98] = 1;
            machine.deliver(marker);
            let length = machine.driver.wait_used(RX).1;
            if length == 112 {
                machine.driver.add(RX, &[writable(DATA, 2000)]);
                machine.driver.notify(RX);
                assert_eq!(machine.driver.wait_used(RX).1, 111);
            }
            length == 112
        };
        let group = MacAddress([0x33, 0x33, 0, 0, 0, 1]);
        assert!(received(&mut machine, OTHER), "promiscuous until told otherwise");
        assert_eq!(machine.command(CONTROL, &[spec::CTRL_RX, spec::CTRL_RX_PROMISC, 0]), 0);
        assert!(!received(&mut machine, OTHER) && !received(&mut machine, group));
        assert!(received(&mut machine, MacAddress::BROADCAST));
        let table = [&[1, 0][..], &[1, 0, 0, 0], &OTHER.0, &[1, 0, 0, 0], &group.0].concat();
        assert_eq!(machine.command(CONTROL, &table), 0);
        assert!(received(&mut machine, OTHER) && received(&mut machine, group));
        let table = [&[1, 0][..], &[0, 0, 0, 0], &1000u32.to_le_bytes(), &[0x33; 6000]].concat();
        assert_eq!(machine.command(CONTROL, &table[..4000]), 0);
        assert!(!received(&mut machine, OTHER) && received(&mut machine, group), "too many to tell apart");
        assert_eq!(machine.command(CONTROL, &[spec::CTRL_RX, spec::CTRL_RX_NOMULTI, 1]), 0);
        assert_eq!(machine.command(CONTROL, &[spec::CTRL_RX, spec::CTRL_RX_NOBCAST, 1]), 0);
        assert!(!received(&mut machine, group) && !received(&mut machine, MacAddress::BROADCAST));

        for wrong in [&[0, 9, 1][..], &[1, 0, 2, 0, 0, 0, 1], &[1, 1, 5], &[4, 0, 2, 0], &[9, 0, 0], &[5, 0, 1]] {
            assert_eq!(machine.command(CONTROL, wrong), 1, "{wrong:?}");
        }
        let address = [&[1, 1][..], &OTHER.0].concat();
        assert_eq!(machine.command(CONTROL, &address), 0);
        assert_eq!(machine.driver.read(reg::CONFIG), u32::from_le_bytes([0x52, 0x54, 0, 9]));
        machine.driver.initialise(u64::MAX, 64);
        assert_eq!(machine.driver.read(reg::CONFIG), u32::from_le_bytes([0x52, 0x54, 0, 1]), "until the reset");
    }

    #[test]
    fn answers_come_where_their_questions_were_sent() {
        let mut machine = machine(u64::MAX, 2);
        let control = 4;
        assert_eq!(machine.command(control, &[spec::CTRL_MQ, 0, 0, 0]), 1);
        assert_eq!(machine.command(control, &[spec::CTRL_MQ, 0, 3, 0]), 1);
        assert_eq!(machine.command(control, &[spec::CTRL_MQ, 0, 2, 0]), 0);
        let mut question = large();
        question.offload = Offload::default();
        question.bytes.truncate(60);
        let mut answer = question.clone();
        answer.bytes.copy_within(26..30, 30);
        answer.bytes[26..30].copy_from_slice(&question.bytes[30..34]);
        answer.bytes.copy_within(34..36, 36);
        answer.bytes[34..36].copy_from_slice(&question.bytes[36..38]);
        for pair in [1, 0, 1] {
            machine.driver.ram.write(FREE, &[0; 12]).unwrap();
            machine.driver.ram.write(FREE + 12, &question.bytes).unwrap();
            machine.driver.run(2 * pair + 1, &[readable(FREE, 72)]);
            machine.driver.add(2 * pair, &[writable(FREE + 0x2000, 2000)]);
            machine.driver.notify(2 * pair);
            machine.deliver(answer.clone());
            assert_eq!(machine.driver.wait_used(2 * pair).1, 72);
        }
    }

    #[test]
    fn a_reset_and_a_pause_take_effect_in_flight() {
        let mut machine = machine(u64::MAX, 1);
        machine.deliver(frame(MAC, 60));
        machine.settle();
        // The frame that waited for the old session's buffers is not for the new one's.
        machine.driver.initialise(u64::MAX, 64);
        machine.driver.add(RX, &[writable(DATA, 2000)]);
        machine.driver.notify(RX);
        machine.deliver(frame(MAC, 61));
        assert_eq!(machine.driver.wait_used(RX).1, 73);

        machine.driver.mmio.pause();
        machine.driver.add(RX, &[writable(DATA, 2000)]);
        machine.driver.notify(RX);
        machine.deliver(frame(MAC, 62));
        machine.driver.add(TX, &[readable(DATA, 100)]);
        machine.driver.notify(TX);
        std::thread::sleep(std::time::Duration::from_millis(30));
        assert_eq!((machine.driver.used_idx(RX), machine.network.receive()), (1, None));
        machine.driver.mmio.resume();
        assert_eq!(machine.driver.wait_used(RX).1, 74);
        assert_eq!(machine.sent().bytes.len(), 88);
    }

    #[test]
    fn a_restored_card_goes_on_with_what_was_waiting() {
        let mut machine = machine(u64::MAX, 1);
        assert_eq!(machine.command(CONTROL, &[spec::CTRL_RX, spec::CTRL_RX_PROMISC, 0]), 0);
        machine.deliver(frame(MAC, 300));
        machine.settle();
        machine.driver.mmio.pause();
        let state = machine.driver.mmio.save().unwrap();

        let (device, network, link) = device(1);
        let mut other = Machine { driver: machine.driver.clone_with(device), network, link };
        other.driver.mmio.pause();
        other.driver.mmio.restore(&state).unwrap();
        other.driver.mmio.resume();
        other.driver.add(RX, &[writable(DATA, 2000)]);
        other.driver.notify(RX);
        assert_eq!(other.driver.wait_used(RX).1, 312);
        other.driver.add(RX, &[writable(DATA, 2000)]);
        other.driver.notify(RX);
        other.deliver(frame(OTHER, 100));
        other.deliver(frame(MAC, 101));
        assert_eq!(other.driver.wait_used(RX).1, 113, "the filter was restored");
        other.driver.run(TX, &[readable(DATA, 60)]);
        assert_eq!(other.sent().bytes.len(), 48);
    }
}
