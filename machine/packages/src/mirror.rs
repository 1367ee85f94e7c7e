//! Reading files of a Debian mirror, over HTTP(S) or from a folder of the host.
//!
//! TLS trusts what the host trusts, so that a proxy with its own certificate authority works; plain HTTP is fine, for
//! everything is checked against signed hashes.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use crate::apt;
use crate::error::{Error, Result};

/// Where the host keeps its Debian configuration.
const CONFIGURATION: &str = "/etc/apt";
/// How often a transfer is begun.
const ATTEMPTS: u32 = 3;
/// How long a server may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a server may stay silent.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest head of an answer accepted from a proxy, in bytes.
const HEAD_LIMIT: u64 = 1 << 16;

/// A mirror: the parent of `dists/` and `pool/`.
#[derive(Debug)]
pub(crate) struct Mirror {
    address: String,
    kind: MirrorKind,
}

#[derive(Debug)]
enum MirrorKind {
    Folder(PathBuf),
    Http(Box<ureq::Agent>),
    /// Plain HTTP through a proxy (`host:port`, and its credentials if it has any): asked for the whole URL, as the
    /// caches of packages expect. The HTTP library would ask it for a tunnel, which they refuse.
    Forward {
        proxy: String,
        authorization: Option<String>,
    },
}

/// A file being read.
pub(crate) struct Body {
    /// Its bytes.
    pub(crate) reader: Box<dyn Read>,
    /// How many, if the mirror said so.
    pub(crate) length: Option<u64>,
}

impl Mirror {
    /// The mirror given, else the one of the host's own Debian configuration.
    pub(crate) fn open(given: Option<&str>) -> Result<Self> {
        let address = match given {
            Some(address) => address.trim().trim_end_matches('/').to_owned(),
            None => apt::mirror(Path::new(CONFIGURATION)).ok_or(Error::NoMirror)?,
        };
        let refused = |reason: &str| Error::MirrorAddress { url: address.clone(), reason: reason.to_owned() };
        let kind = match address.split_once(':') {
            Some((scheme @ ("http" | "https"), rest)) => {
                if rest.trim_start_matches('/').is_empty() || !rest.starts_with("//") {
                    return Err(refused("it names no host"));
                }
                if address.contains(|c: char| c.is_whitespace() || c.is_control()) {
                    return Err(refused("it holds spaces or control characters"));
                }
                match proxy(scheme, &address)? {
                    Some(proxy) if scheme == "http" && proxy.protocol() == ureq::ProxyProtocol::Http => {
                        let authorization = proxy.username().map(|user| {
                            BASE64_STANDARD.encode(format!("{user}:{}", proxy.password().unwrap_or_default()))
                        });
                        MirrorKind::Forward { proxy: format!("{}:{}", proxy.host(), proxy.port()), authorization }
                    }
                    proxy => MirrorKind::Http(Box::new(agent(proxy))),
                }
            }
            Some(("file", path)) => {
                let path = path.strip_prefix("//localhost").or_else(|| path.strip_prefix("//")).unwrap_or(path);
                // file:///C:/debian
                let drive = path.as_bytes().get(2) == Some(&b':') && path.starts_with('/');
                MirrorKind::Folder(PathBuf::from(if drive { &path[1..] } else { path }))
            }
            Some((scheme, _)) if scheme.len() > 1 && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'+') => {
                return Err(refused("its scheme is not supported"));
            }
            _ if !address.is_empty() => MirrorKind::Folder(PathBuf::from(&address)),
            _ => return Err(refused("it is empty")),
        };
        Ok(Mirror { address, kind })
    }

    /// The address, without a slash at its end.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// The address of a file, for messages.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}/{path}", self.address)
    }

    /// Reads a file with `transfer`, from the beginning again when the connection breaks.
    pub(crate) fn read<T>(&self, path: &str, mut transfer: impl FnMut(Body) -> Result<T>) -> Result<T> {
        let mut attempt = 1;
        loop {
            match self.open_file(path).and_then(&mut transfer) {
                Err(Error::Unreachable { url, reason }) if attempt < ATTEMPTS => {
                    tracing::debug!(url, reason, attempt, "transfer broke off");
                    std::thread::sleep(Duration::from_millis(250) * attempt);
                    attempt += 1;
                }
                result => return result,
            }
        }
    }

    /// Reads a whole file of at most `limit` bytes into memory.
    pub(crate) fn read_whole(&self, path: &str, limit: u64) -> Result<Vec<u8>> {
        self.read(path, |body| {
            let mut bytes = Vec::new();
            // One more than allowed tells too long from just fitting.
            let read = body.reader.take(limit.saturating_add(1)).read_to_end(&mut bytes);
            read.map_err(|e| self.broken(path, &e))?;
            if body.length.is_some_and(|length| length > bytes.len() as u64 && (bytes.len() as u64) <= limit) {
                return Err(self.broken(path, &io::ErrorKind::UnexpectedEof.into()));
            }
            if bytes.len() as u64 > limit {
                return Err(Error::Refused { url: self.url(path), reason: format!("longer than {limit} bytes") });
            }
            Ok(bytes)
        })
    }

    /// The error for a transfer that broke off.
    pub(crate) fn broken(&self, path: &str, error: &io::Error) -> Error {
        Error::Unreachable { url: self.url(path), reason: format!("the transfer broke off: {error}") }
    }

    fn open_file(&self, path: &str) -> Result<Body> {
        let url = self.url(path);
        match &self.kind {
            MirrorKind::Folder(folder) => {
                let refused = |e: io::Error| Error::Refused { url: url.clone(), reason: e.to_string() };
                let file = File::open(folder.join(path)).map_err(refused)?;
                let length = file.metadata().map_err(refused)?.len();
                Ok(Body { reader: Box::new(file), length: Some(length) })
            }
            MirrorKind::Http(agent) => {
                let response = agent
                    .get(format!("{}/{}", self.address, quote(path)))
                    .call()
                    .map_err(|e| Error::Unreachable { url: url.clone(), reason: e.to_string() })?;
                self.check_status(path, response.status().as_u16())?;
                let body = response.into_body();
                Ok(Body { length: body.content_length(), reader: Box::new(body.into_reader()) })
            }
            MirrorKind::Forward { proxy, authorization } => {
                let target = format!("{}/{}", self.address, quote(path));
                let (status, body) = forward(proxy, authorization.as_deref(), &target)
                    .map_err(|e| Error::Unreachable { url: url.clone(), reason: format!("proxy {proxy}: {e}") })?;
                self.check_status(path, status)?;
                Ok(body)
            }
        }
    }

    /// Tells answers that may change with time from those that will not.
    fn check_status(&self, path: &str, status: u16) -> Result<()> {
        let (url, reason) = (self.url(path), format!("the server answers {status}"));
        match status {
            200 => Ok(()),
            408 | 429 | 500..=599 => Err(Error::Unreachable { url, reason }),
            _ => Err(Error::Refused { url, reason }),
        }
    }
}

/// Asks a proxy for a URL (RFC 9112 §3.2.2). HTTP/1.0 is enough, and keeps the answer free of chunks.
fn forward(proxy: &str, authorization: Option<&str>, url: &str) -> io::Result<(u16, Body)> {
    use std::net::ToSocketAddrs;
    let mut stream = Err(io::ErrorKind::NotFound.into());
    for address in proxy.to_socket_addrs()? {
        stream = TcpStream::connect_timeout(&address, CONNECT_TIMEOUT);
        if stream.is_ok() {
            break;
        }
    }
    let mut stream = stream?;
    stream.set_read_timeout(Some(READ_TIMEOUT))?;
    stream.set_write_timeout(Some(READ_TIMEOUT))?;
    let host = url.split('/').nth(2).unwrap_or_default();
    let authorization =
        authorization.map(|value| format!("Proxy-Authorization: Basic {value}\r\n")).unwrap_or_default();
    let agent = concat!("vervet/", env!("CARGO_PKG_VERSION"));
    let request = format!("GET {url} HTTP/1.0\r\nHost: {host}\r\nUser-Agent: {agent}\r\n{authorization}\r\n");
    stream.write_all(request.as_bytes())?;
    let invalid = || io::Error::new(io::ErrorKind::InvalidData, "it does not answer in HTTP");
    let mut head = BufReader::new(stream).take(HEAD_LIMIT);
    let mut line = || -> io::Result<String> {
        let mut line = String::new();
        match head.read_line(&mut line)? {
            0 => Err(invalid()),
            _ => Ok(line.trim_end().to_owned()),
        }
    };
    let first = line()?;
    let mut words = first.split_whitespace();
    let status = match (words.next(), words.next().map(str::parse)) {
        (Some(version), Some(Ok(status))) if version.starts_with("HTTP/1.") => status,
        _ => return Err(invalid()),
    };
    let mut length = None;
    loop {
        let line = line()?;
        if line.is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = Some(value.trim().parse().map_err(|_| invalid())?);
        }
    }
    let reader = head.into_inner().take(length.unwrap_or(u64::MAX));
    Ok((status, Body { reader: Box::new(reader), length }))
}

/// Percent-encodes what may not stand in a URL's path (RFC 3986 §3.3).
fn quote(path: &str) -> String {
    let mut quoted = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"/-._~+:@!$&'()*,;=".contains(&byte) {
            quoted.push(byte as char);
        } else {
            quoted.push_str(&format!("%{byte:02X}"));
        }
    }
    quoted
}

fn agent(proxy: Option<ureq::Proxy>) -> ureq::Agent {
    let tls = ureq::tls::TlsConfig::builder()
        .root_certs(ureq::tls::RootCerts::PlatformVerifier)
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .build();
    let config = ureq::Agent::config_builder()
        .user_agent(concat!("vervet/", env!("CARGO_PKG_VERSION")))
        .http_status_as_error(false)
        .timeout_connect(Some(CONNECT_TIMEOUT))
        .timeout_recv_response(Some(READ_TIMEOUT))
        .timeout_per_read(Some(READ_TIMEOUT))
        .proxy(proxy)
        .tls_config(tls)
        .build();
    config.new_agent()
}

/// The proxy that apt's configuration names, else that of the environment; none for this host itself.
fn proxy(scheme: &str, address: &str) -> Result<Option<ureq::Proxy>> {
    let environment = |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
    let authority = address.split('/').nth(2).unwrap_or_default();
    let host = authority.split(':').next().unwrap_or_default();
    if host == "localhost" || host.starts_with("127.") || authority.starts_with("[::1]") {
        return Ok(None);
    }
    let named = match apt::proxy(Path::new(CONFIGURATION), address) {
        Some(proxy) if proxy == "DIRECT" => return Ok(None),
        Some(proxy) => Some(proxy),
        None => {
            let list = environment("no_proxy").or_else(|| environment("NO_PROXY"));
            let exempt = list.is_some_and(|list| exempts(&list, host));
            let names = [format!("{scheme}_proxy"), format!("{}_PROXY", scheme.to_uppercase()), "all_proxy".into()];
            names.iter().filter(|_| !exempt).find_map(|name| environment(name))
        }
    };
    named
        .map(|proxy| {
            ureq::Proxy::new(&proxy).map_err(|e| Error::MirrorAddress {
                url: address.to_owned(),
                reason: format!("the host's configuration names the proxy {proxy}, which cannot be used ({e})"),
            })
        })
        .transpose()
}

/// Whether a `no_proxy` list covers a host: names stand for themselves and what is below them, `*` for all.
fn exempts(list: &str, host: &str) -> bool {
    list.split(',').map(|entry| entry.trim().trim_start_matches("*.").trim_start_matches('.')).any(|entry| {
        let below = || host.strip_suffix(entry).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
        entry == "*" || (!entry.is_empty() && below())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let folder = |address: &str| match Mirror::open(Some(address)).unwrap().kind {
            MirrorKind::Folder(path) => path.to_string_lossy().into_owned(),
            kind => panic!("{kind:?}"),
        };
        assert_eq!(folder("file:///srv/debian/"), "/srv/debian");
        assert_eq!(folder("file:/srv/debian"), "/srv/debian");
        assert_eq!(folder("file://localhost/srv"), "/srv");
        assert_eq!(folder("file:///C:/srv"), "C:/srv");
        assert_eq!(folder("/srv/debian"), "/srv/debian");
        assert_eq!(folder("srv"), "srv");
        for bad in ["", "ftp://mirror.test/debian", "http:", "http://", "http:mirror", "http://a b/", "rsync://x"] {
            assert!(matches!(Mirror::open(Some(bad)), Err(Error::MirrorAddress { .. })), "{bad}");
        }
    }

    #[test]
    fn proxies_are_asked_for_whole_urls() {
        let server = crate::testing::Server::start();
        server.put("http://mirror.test/debian/a%20b", b"content".to_vec());
        let kind = MirrorKind::Forward { proxy: server.host().to_owned(), authorization: Some("YTpi".into()) };
        let mirror = Mirror { address: "http://mirror.test/debian".into(), kind };
        assert_eq!(mirror.read_whole("a b", 100).unwrap(), b"content");
        assert!(matches!(mirror.read_whole("absent", 100), Err(Error::Refused { .. })));
        assert!(matches!(mirror.read_whole("a b", 3), Err(Error::Refused { .. })));
        server.fault("http://mirror.test/debian/a%20b", Some(crate::testing::Fault::BreakOff));
        assert!(matches!(mirror.read_whole("a b", 100), Err(Error::Unreachable { .. })));
    }

    #[test]
    fn quoting_and_exemptions() {
        assert_eq!(quote("pool/a_1%3a2+b~c d.deb"), "pool/a_1%253a2+b~c%20d.deb");
        assert!(
            exempts("localhost, .test", "mirror.test") && exempts("*", "x") && exempts("mirror.test", "mirror.test")
        );
        assert!(!exempts("", "mirror.test") && !exempts("irror.test", "mirror.test"));
    }
}
