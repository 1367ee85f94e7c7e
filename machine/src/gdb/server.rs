//! Where debuggers connect: a TCP port or a Unix socket, and the threads that accept and read.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
#[cfg(unix)]
use std::os::unix::net::{UnixListener, UnixStream};
#[cfg(unix)]
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender};

use crate::shutdown::tell;

/// Messages that wait for the machine's owner at most; then a client that sends more has to wait.
const MOST_MESSAGES: usize = 16;
/// Bytes read at once.
const CHUNK: usize = 0x2_0000;
/// How long a client may take to accept an answer before it is given up.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long a client that has just gone may take to be noticed, before the next one is told that it is the second.
const GRACE: Duration = Duration::from_millis(200);

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A host and a port.
    Tcp(String, u16),
    /// A socket in the file system.
    #[cfg(unix)]
    Unix(PathBuf),
}

impl Address {
    /// What is listened at if the user says nothing.
    pub const DEFAULT: &str = "127.0.0.1:1234";
    /// The port of [`Address::DEFAULT`].
    const DEFAULT_PORT: u16 = 1234;

    /// The address as gdb's `target remote` wants it.
    pub fn for_gdb(&self) -> String {
        match self {
            #[cfg(unix)]
            Address::Unix(path) => path.display().to_string(),
            tcp => tcp.to_string(),
        }
    }
}

impl FromStr for Address {
    type Err = String;

    /// `HOST:PORT`, `:PORT` and `PORT` (on the loopback interface), `unix:PATH`.
    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            #[cfg(unix)]
            if !path.is_empty() {
                return Ok(Address::Unix(path.into()));
            }
            return Err(format!("'{path}' is no path of a socket on this host"));
        }
        let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
        let port = port.parse().map_err(|_| format!("'{port}' is no port; HOST:PORT or unix:PATH is expected"))?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        Ok(Address::Tcp(if host.is_empty() { "127.0.0.1" } else { host }.into(), port))
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Address::Tcp(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Address::Tcp(host, port) => write!(f, "{host}:{port}"),
            #[cfg(unix)]
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address cannot be had.
    #[error("gdb server: cannot listen at {address}: {source}; --gdb takes another HOST:PORT or unix:PATH")]
    Bind {
        /// The address.
        address: Address,
        /// The host's reason.
        source: io::Error,
    },
    /// There is no thread to accept connections.
    #[error("gdb server: the host cannot start a thread: {0}")]
    Thread(io::Error),
}

/// A connection.
pub(super) enum Stream {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(UnixStream),
    /// Nobody: what is sent is collected ([`super::converse`]).
    Script(Mutex<Vec<u8>>),
}

impl Stream {
    fn prepare(&self) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) => {
                // Packets are small and each waits for its answer.
                stream.set_nodelay(true)?;
                stream.set_write_timeout(Some(PATIENCE))
            }
            #[cfg(unix)]
            Stream::Unix(stream) => stream.set_write_timeout(Some(PATIENCE)),
            Stream::Script(_) => Ok(()),
        }
    }

    fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => {
                let mut stream = stream;
                stream.read(buffer)
            }
            #[cfg(unix)]
            Stream::Unix(stream) => {
                let mut stream = stream;
                stream.read(buffer)
            }
            Stream::Script(_) => Ok(0),
        }
    }

    pub(super) fn write_all(&self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) => {
                let mut stream = stream;
                stream.write_all(bytes)
            }
            #[cfg(unix)]
            Stream::Unix(stream) => {
                let mut stream = stream;
                stream.write_all(bytes)
            }
            Stream::Script(sent) => {
                sent.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
                Ok(())
            }
        }
    }

    /// Ends the connection, and with it the thread that reads.
    pub(super) fn close(&self) {
        // It may be closed already.
        let _ = match self {
            Stream::Tcp(stream) => stream.shutdown(Shutdown::Both),
            #[cfg(unix)]
            Stream::Unix(stream) => stream.shutdown(Shutdown::Both),
            Stream::Script(_) => Ok(()),
        };
    }
}

enum Listener {
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix(UnixListener),
}

impl Listener {
    fn bind(address: &Address) -> io::Result<(Self, Address)> {
        match address {
            Address::Tcp(host, port) => {
                let addresses: Vec<SocketAddr> = (host.as_str(), *port).to_socket_addrs()?.collect();
                let listener = TcpListener::bind(&addresses[..])?;
                let bound = listener.local_addr()?;
                Ok((Listener::Tcp(listener), Address::Tcp(bound.ip().to_string(), bound.port())))
            }
            #[cfg(unix)]
            Address::Unix(path) => {
                let listener = match UnixListener::bind(path) {
                    // What a process has left that is gone does not accept connections.
                    Err(error) if error.kind() == io::ErrorKind::AddrInUse && UnixStream::connect(path).is_err() => {
                        std::fs::remove_file(path)?;
                        UnixListener::bind(path)?
                    }
                    bound => bound?,
                };
                Ok((Listener::Unix(listener), address.clone()))
            }
        }
    }

    fn accept(&self) -> io::Result<Stream> {
        let stream = match self {
            Listener::Tcp(listener) => Stream::Tcp(listener.accept()?.0),
            #[cfg(unix)]
            Listener::Unix(listener) => Stream::Unix(listener.accept()?.0),
        };
        stream.prepare()?;
        Ok(stream)
    }
}

/// What the server's threads tell the machine's owner. Clients have numbers.
pub(super) enum Message {
    /// A client has connected.
    Connected(u64, Arc<Stream>),
    /// A client has sent something.
    Data(u64, Vec<u8>),
    /// A client has gone.
    Closed(u64),
}

/// A server that waits for debuggers.
pub struct Server {
    address: Address,
    messages: Receiver<Message>,
    closed: Arc<AtomicBool>,
}

impl Server {
    /// Listens at an address.
    ///
    /// # Errors
    /// It cannot be had.
    pub fn bind(address: &Address) -> Result<Self, ServerError> {
        let bind = |source| ServerError::Bind { address: address.clone(), source };
        let (listener, address) = Listener::bind(address).map_err(bind)?;
        let (sender, messages) = crossbeam::channel::bounded(MOST_MESSAGES);
        let closed = Arc::new(AtomicBool::new(false));
        let heard = closed.clone();
        let thread = std::thread::Builder::new().name("gdb server".into());
        thread.spawn(move || accept(&listener, &sender, &heard)).map_err(ServerError::Thread)?;
        Ok(Self { address, messages, closed })
    }

    /// Listens at the default address, or, where that is taken, at another port of the loopback interface.
    ///
    /// # Errors
    /// Neither can be had.
    pub fn open() -> Result<Self, ServerError> {
        Self::bind(&Address::Tcp(Ipv4Addr::LOCALHOST.to_string(), Address::DEFAULT_PORT))
            .or_else(|_| Self::bind(&Address::Tcp(Ipv4Addr::LOCALHOST.to_string(), 0)))
    }

    /// Tells the user where gdb can connect.
    pub fn announce(&self) {
        tell(&format!("gdb can connect: target remote {}", self.address.for_gdb()));
    }

    /// Where it listens: with the port that the host has chosen, if that was its choice.
    pub fn address(&self) -> &Address {
        &self.address
    }

    pub(super) fn messages(&self) -> &Receiver<Message> {
        &self.messages
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.closed.store(true, Ordering::Release);
        // The thread that accepts looks at the flag after each connection; if it cannot be woken, it ends with the next.
        match &self.address {
            Address::Tcp(host, port) => {
                let unspecified = matches!(host.as_str(), "0.0.0.0" | "::");
                let host = if unspecified { "localhost" } else { host };
                let _ = TcpStream::connect((host, *port));
            }
            #[cfg(unix)]
            Address::Unix(path) => {
                let _ = UnixStream::connect(path);
                let _ = std::fs::remove_file(path);
            }
        }
    }
}

fn accept(listener: &Listener, sender: &Sender<Message>, closed: &AtomicBool) {
    // Clients whose end has not been seen.
    let clients = Arc::new(AtomicUsize::new(0));
    for id in 0.. {
        let stream = listener.accept();
        if closed.load(Ordering::Acquire) {
            return;
        }
        match stream {
            Ok(stream) => {
                let start = Instant::now();
                while clients.load(Ordering::Acquire) > 0 && start.elapsed() < GRACE {
                    std::thread::sleep(Duration::from_millis(1));
                }
                let stream = Arc::new(stream);
                if sender.send(Message::Connected(id, stream.clone())).is_err() {
                    return;
                }
                clients.fetch_add(1, Ordering::AcqRel);
                let (to_owner, alive) = (sender.clone(), clients.clone());
                let thread = std::thread::Builder::new().name("gdb client".into());
                if let Err(error) = thread.spawn(move || {
                    read(id, &stream, &to_owner);
                    alive.fetch_sub(1, Ordering::AcqRel);
                }) {
                    clients.fetch_sub(1, Ordering::AcqRel);
                    tracing::warn!("a debugger cannot be served: the host cannot start a thread: {error}");
                    if sender.send(Message::Closed(id)).is_err() {
                        return;
                    }
                }
            }
            Err(error) => {
                tracing::debug!(%error, "a debugger's connection fails");
                // Out of file descriptors, perhaps: not again at once.
                std::thread::sleep(Duration::from_millis(100));
            }
        }
    }
}

/// Reads what a client sends, until it or the owner ends the connection.
fn read(id: u64, stream: &Stream, sender: &Sender<Message>) {
    let mut buffer = vec![0; CHUNK];
    loop {
        match stream.read(&mut buffer) {
            Ok(length) if length > 0 => {
                if sender.send(Message::Data(id, buffer[..length].to_vec())).is_err() {
                    return;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(_) | Err(_) => {
                // Without an owner nobody needs to know.
                let _ = sender.send(Message::Closed(id));
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_as_users_write_them() {
        let tcp = |host: &str, port| Ok(Address::Tcp(host.into(), port));
        assert_eq!("1234".parse::<Address>(), tcp("127.0.0.1", 1234));
        assert_eq!(":99".parse::<Address>(), tcp("127.0.0.1", 99));
        assert_eq!("0.0.0.0:1".parse::<Address>(), tcp("0.0.0.0", 1));
        assert_eq!("[::1]:2".parse::<Address>(), tcp("::1", 2));
        assert_eq!("[::1]:2".parse::<Address>().unwrap().to_string(), "[::1]:2");
        let default = Address::Tcp("127.0.0.1".into(), Address::DEFAULT_PORT);
        assert_eq!((Address::DEFAULT.parse(), default.to_string().as_str()), (Ok(default), Address::DEFAULT));
        for wrong in ["", "localhost", "1:70000", "unix:", "-1"] {
            assert!(wrong.parse::<Address>().is_err(), "{wrong}");
        }
    }
}
