//! The router's name server: it passes queries on to the host's, from a port of its own for each (RFC 5452 §9.2), and
//! tries the next one when no answer comes. Where the host does not tell who its name servers are, it asks the host's
//! resolver library for IPv4 addresses.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::time::{Duration, Instant};

use mio::net::UdpSocket;
use mio::{Interest, Registry};

use super::ipv6::NAME_SERVER_V6;
use super::output::Output;
use super::{Kind, NAME_SERVER, token};

/// The port of name servers.
pub const PORT: u16 = 53;
/// Queries at a time; further ones are dropped, and asked again.
const MOST_QUERIES: usize = 256;
/// How long a name server has to answer before the next one is asked.
const PATIENCE: Duration = Duration::from_millis(2500);
/// How often a query is sent.
const ATTEMPTS: usize = 4;
/// Name servers of the host's that are used.
const MOST_SERVERS: usize = 3;
/// The largest query that is passed on, in bytes.
const LARGEST_QUERY: usize = 4096;
/// Bytes of a message's header (RFC 1035 §4.1.1).
const HEADER_SIZE: usize = 12;
const RESPONSE: u8 = 0x80;
const RECURSION_AVAILABLE: u8 = 0x80;
/// Response codes.
const SERVER_FAILURE: u8 = 2;
const REFUSED: u8 = 5;

/// The name servers that the host's configuration names: `nameserver` lines of resolv.conf(5).
pub fn host_servers() -> Vec<SocketAddr> {
    #[cfg(unix)]
    let text = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    #[cfg(not(unix))]
    let text = String::new();
    servers_of(&text)
}

fn servers_of(text: &str) -> Vec<SocketAddr> {
    let servers = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        (words.next()? == "nameserver").then_some(())?;
        let address = words.next()?;
        match address.split_once('%') {
            // A scope is an interface's name or number; only a number can be used here.
            Some((address, scope)) => {
                let address: Ipv6Addr = address.parse().ok()?;
                Some(std::net::SocketAddrV6::new(address, PORT, 0, scope.parse().ok()?).into())
            }
            None => Some(SocketAddr::new(address.parse::<IpAddr>().ok()?, PORT)),
        }
    });
    servers.take(MOST_SERVERS).collect()
}

struct Query {
    guest: SocketAddr,
    message: Vec<u8>,
    socket: UdpSocket,
    attempts: usize,
    deadline: Instant,
}

/// The resolver library of the host, on a thread of its own.
struct Library {
    questions: SyncSender<(SocketAddr, Vec<u8>)>,
    answers: Receiver<(SocketAddr, Vec<u8>)>,
}

/// The name server.
pub struct NameServer {
    servers: Vec<SocketAddr>,
    restrict: bool,
    queries: HashMap<u64, Query>,
    next: u64,
    readable: BTreeSet<u64>,
    library: Option<Library>,
}

impl NameServer {
    /// A name server that asks `servers`, or without any, the host's library, in which case `wake` is called when an
    /// answer is there. With `restrict` it asks nobody.
    pub fn new(servers: Vec<SocketAddr>, restrict: bool, wake: impl Fn() + Send + 'static) -> io::Result<Self> {
        let library = if servers.is_empty() && !restrict { Some(Library::start(wake)?) } else { None };
        Ok(Self { servers, restrict, queries: HashMap::new(), next: 0, readable: BTreeSet::new(), library })
    }

    /// Where connections to the name server go.
    pub fn stream_target(&self) -> Option<SocketAddr> {
        self.servers.first().copied().filter(|_| !self.restrict)
    }

    /// Takes a query of the guest's. `inside` knows the addresses of this network's own hosts by their names, which
    /// nobody else is asked for.
    pub fn query(
        &mut self,
        guest: SocketAddr,
        message: &[u8],
        inside: impl Fn(&str) -> Option<Ipv4Addr>,
        registry: &Registry,
        output: &mut Output,
    ) {
        if message.len() < HEADER_SIZE || message.len() > LARGEST_QUERY || message[2] & RESPONSE != 0 {
            return;
        }
        if let Some(question) = Question::parse(message)
            && let Some(address) = inside(&question.name)
        {
            return answer(output, guest, &address_answer(message, question.kind, [address]));
        }
        if self.restrict {
            return answer(output, guest, &error_answer(message, REFUSED));
        }
        if let Some(library) = &self.library {
            // A full queue drops the question, which is asked again.
            let _ = library.questions.try_send((guest, message.into()));
            return;
        }
        if self.queries.len() >= MOST_QUERIES {
            return;
        }
        if let Err(error) = self.open(guest, message, registry) {
            tracing::debug!("user network: a name server cannot be asked: {error}");
            answer(output, guest, &error_answer(message, SERVER_FAILURE));
        }
    }

    fn open(&mut self, guest: SocketAddr, message: &[u8], registry: &Registry) -> io::Result<()> {
        let id = self.next;
        self.next += 1;
        let socket = ask(id, self.servers[0], message, registry)?;
        let deadline = Instant::now() + PATIENCE;
        self.queries.insert(id, Query { guest, message: message.into(), socket, attempts: 1, deadline });
        Ok(())
    }

    pub fn ready(&mut self, id: u64) {
        self.readable.insert(id);
    }

    pub fn deadline(&self) -> Option<Instant> {
        self.queries.values().map(|query| query.deadline).min()
    }

    /// Asks again where no answer came.
    pub fn expire(&mut self, now: Instant, registry: &Registry, output: &mut Output) {
        let due: Vec<_> = self.queries.iter().filter(|(_, query)| query.deadline <= now).map(|(id, _)| *id).collect();
        for id in due {
            self.retry(id, registry, output);
        }
    }

    fn retry(&mut self, id: u64, registry: &Registry, output: &mut Output) {
        let Some(mut query) = self.queries.remove(&id) else { return };
        while query.attempts < ATTEMPTS {
            let server = self.servers[query.attempts % self.servers.len()];
            query.attempts += 1;
            if let Ok(socket) = ask(id, server, &query.message, registry) {
                query.socket = socket;
                query.deadline = Instant::now() + PATIENCE;
                self.queries.insert(id, query);
                return;
            }
        }
        answer(output, query.guest, &error_answer(&query.message, SERVER_FAILURE));
    }

    /// Passes on the answers that have arrived, as far as there is room on the way to the guest.
    pub fn run(&mut self, registry: &Registry, output: &mut Output, buffer: &mut [u8]) {
        while let Some(library) = &self.library
            && output.has_room()
            && let Ok((guest, message)) = library.answers.try_recv()
        {
            answer(output, guest, &message);
        }
        while let Some(&id) = self.readable.first() {
            let Some(query) = self.queries.get_mut(&id) else {
                self.readable.remove(&id);
                continue;
            };
            if !output.has_room() {
                return;
            }
            match query.socket.recv(buffer) {
                // The socket is connected, so this came from the name server; its number has to be the query's.
                Ok(length) => {
                    if length >= HEADER_SIZE && buffer[..2] == query.message[..2] && buffer[2] & RESPONSE != 0 {
                        answer(output, query.guest, &buffer[..length]);
                        self.queries.remove(&id);
                        self.readable.remove(&id);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => _ = self.readable.remove(&id),
                // Nobody is there.
                Err(_) => {
                    self.readable.remove(&id);
                    self.retry(id, registry, output);
                }
            }
        }
    }
}

fn ask(id: u64, server: SocketAddr, message: &[u8], registry: &Registry) -> io::Result<UdpSocket> {
    let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let mut socket = UdpSocket::bind((any, 0).into())?;
    socket.connect(server)?;
    registry.register(&mut socket, token(Kind::Dns, id), Interest::READABLE)?;
    socket.send(message)?;
    Ok(socket)
}

fn answer(output: &mut Output, guest: SocketAddr, message: &[u8]) {
    let own = if guest.is_ipv4() { IpAddr::V4(NAME_SERVER) } else { NAME_SERVER_V6.into() };
    output.datagram((own, PORT), guest, message);
}

/// An answer to `query` that tells of an error. It has no sections, which RFC 1035 permits where the question cannot be
/// repeated.
fn error_answer(query: &[u8], code: u8) -> Vec<u8> {
    let mut message = query[..HEADER_SIZE].to_vec();
    message[2] |= RESPONSE;
    message[3] = RECURSION_AVAILABLE | code;
    message[4..].fill(0);
    if let Some(question) = Question::parse(query) {
        message[5] = 1;
        message.extend_from_slice(question.bytes);
    }
    message
}

/// The answer to `query` for records of `kind` of a name that has `addresses`.
fn address_answer(query: &[u8], kind: u16, addresses: impl IntoIterator<Item = Ipv4Addr>) -> Vec<u8> {
    const A: u16 = 1;
    const TIME_TO_LIVE: u32 = 60;
    // No error and no records: the name exists, without records of another kind that we could know.
    let mut message = error_answer(query, 0);
    if kind != A {
        return message;
    }
    for address in addresses.into_iter().take(16) {
        message[7] += 1;
        // The name is a pointer to the question's (RFC 1035 §4.1.4).
        message.extend([0xc0, HEADER_SIZE as u8, 0, A as u8, 0, 1]);
        message.extend(TIME_TO_LIVE.to_be_bytes());
        message.extend([0, 4]);
        message.extend(address.octets());
    }
    message
}

/// The only question of a query.
struct Question<'a> {
    bytes: &'a [u8],
    name: String,
    kind: u16,
}

impl<'a> Question<'a> {
    fn parse(message: &'a [u8]) -> Option<Self> {
        if message.get(4..6)? != [0, 1] {
            return None;
        }
        let (mut at, mut name) = (HEADER_SIZE, String::new());
        loop {
            let length = usize::from(*message.get(at)?);
            // A question's name is never compressed: there is nothing before it.
            if length > 63 || name.len() + length > 255 {
                return None;
            }
            let label = message.get(at + 1..at + 1 + length)?;
            at += 1 + length;
            if length == 0 {
                break;
            }
            if !name.is_empty() {
                name.push('.');
            }
            name.push_str(std::str::from_utf8(label).ok().filter(|label| label.is_ascii() && !label.contains('.'))?);
        }
        let kind = message.get(at..at + 4)?;
        let kind = u16::from_be_bytes([kind[0], kind[1]]);
        Some(Self { bytes: &message[HEADER_SIZE..at + 4], name, kind })
    }
}

impl Library {
    fn start(wake: impl Fn() + Send + 'static) -> io::Result<Self> {
        let (questions, asked) = sync_channel::<(SocketAddr, Vec<u8>)>(MOST_QUERIES);
        let (answered, answers): (Sender<(SocketAddr, Vec<u8>)>, _) = channel();
        std::thread::Builder::new().name("name-resolver".into()).spawn(move || {
            // Ends with the network, which holds the other end.
            while let Ok((guest, message)) = asked.recv() {
                if answered.send((guest, look_up(&message))).is_err() {
                    return;
                }
                wake();
            }
        })?;
        Ok(Self { questions, answers })
    }
}

/// Answers `query` by the host's library.
fn look_up(query: &[u8]) -> Vec<u8> {
    const NAME_ERROR: u8 = 3;
    const NOT_IMPLEMENTED: u8 = 4;
    let Some(question) = Question::parse(query) else { return error_answer(query, NOT_IMPLEMENTED) };
    let Ok(addresses) = (question.name.as_str(), 0).to_socket_addrs() else {
        return error_answer(query, NAME_ERROR);
    };
    let addresses = addresses.filter_map(|address| match address.ip() {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    });
    address_answer(query, question.kind, addresses)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_configuration_is_understood() {
        let text = "# comment\nsearch example.org\nnameserver 192.0.2.1\n  nameserver\t2001:db8::1 \nnameserver fe80::1%3\n\
            nameserver fe80::1%eth0\nnameserver\nnameserver nonsense\nnameserver 192.0.2.2\n";
        let servers: Vec<_> = servers_of(text).iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["192.0.2.1:53", "[2001:db8::1]:53", "[fe80::1%3]:53"]);
        assert_eq!(servers_of(""), []);
    }

    fn query(name: &[&str], kind: u8) -> Vec<u8> {
        let mut query = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name {
            query.push(label.len() as u8);
            query.extend(label.bytes());
        }
        query.extend([0, 0, kind, 0, 1]);
        query
    }

    #[test]
    fn the_library_answers_for_addresses() {
        let asked = query(&["localhost"], 1);
        let answer = look_up(&asked);
        assert_eq!(answer[..8], [0x12, 0x34, 0x81, 0x80, 0, 1, 0, 1]);
        assert_eq!(answer[12..asked.len()], asked[12..]);
        assert_eq!(answer[answer.len() - 6..], [0, 4, 127, 0, 0, 1]);
        let other = look_up(&query(&["localhost"], 28));
        assert_eq!(other[..8], [0x12, 0x34, 0x81, 0x80, 0, 1, 0, 0]);
    }

    #[test]
    fn malformed_questions_are_refused_and_never_read_past() {
        let good = query(&["www", "example", "org"], 1);
        assert_eq!(Question::parse(&good).unwrap().name, "www.example.org");
        for length in HEADER_SIZE..good.len() {
            assert!(Question::parse(&good[..length]).is_none());
            assert!(error_answer(&good[..length], REFUSED).len() == HEADER_SIZE);
        }
        let mut looped = good.clone();
        looped[12] = 0xc0;
        assert!(Question::parse(&looped).is_none());
        assert!(Question::parse(&query(&["a.b"], 1)).is_none());
        assert!(Question::parse(&query(&["0123456789012345678901234567890123456789"; 9], 1)).is_none());
    }
}
