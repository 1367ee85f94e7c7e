//! Port forwards: ports of the host's that lead to the guest.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use super::FIRST_GUEST;
use super::dhcp::is_host_name;
use super::ipv6;

/// The transport protocol of a forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        })
    }
}

/// Where a forward finds its guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Guest {
    /// By address.
    Address(IpAddr),
    /// By the host name with which it asks for a lease.
    Name(String),
}

impl fmt::Display for Guest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Guest::Address(IpAddr::V4(address)) => address.fmt(f),
            Guest::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
            Guest::Name(name) => name.fmt(f),
        }
    }
}

/// A forward: "tcp:127.0.0.1:2222-:22". An address of IPv6 stands in brackets, on either side. The host's address is the loopback's if it is left out, the guest's the first
/// one that is leased. The host's port 0 stands for any free one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forward {
    /// The protocol.
    pub protocol: Protocol,
    /// Where the host listens.
    pub host: SocketAddr,
    /// The guest to which it leads.
    pub guest: Guest,
    /// The port there.
    pub guest_port: u16,
}

/// A text is no forward.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("port forward \"{text}\": {reason}; write it like tcp:127.0.0.1:2222-:22")]
pub struct ForwardError {
    text: String,
    reason: &'static str,
}

impl FromStr for Forward {
    type Err = ForwardError;

    fn from_str(text: &str) -> Result<Self, ForwardError> {
        let error = |reason| ForwardError { text: text.into(), reason };
        let (protocol, ends) = text.split_once(':').ok_or_else(|| error("the protocol is missing"))?;
        let protocol = match protocol {
            "tcp" | "" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            _ => return Err(error("the protocol is neither tcp nor udp")),
        };
        let (host, guest) = ends.split_once('-').ok_or_else(|| error("the guest's end is missing"))?;
        let host = match host.strip_prefix(':') {
            Some(port) => port.parse().map(|port| (Ipv4Addr::LOCALHOST, port).into()).ok(),
            None => host.parse().ok(),
        };
        let host = host.ok_or_else(|| error("the host's end is no address and port"))?;
        let (guest, port) = guest.rsplit_once(':').ok_or_else(|| error("the guest's port is missing"))?;
        let guest_port = port.parse().ok().filter(|port| *port != 0);
        let guest_port = guest_port.ok_or_else(|| error("the guest's port is no number from 1 to 65535"))?;
        let is_letter = |byte: u8| byte.is_ascii_alphabetic();
        if let Some(address) = guest.strip_prefix('[').and_then(|guest| guest.strip_suffix(']')) {
            let address = address.parse::<Ipv6Addr>().ok().filter(|address| ipv6::is_guest(*address));
            let address =
                address.ok_or_else(|| error("the guest's address is none of fd76:6572:7665:2::/64 or fe80::/64"))?;
            return Ok(Self { protocol, host, guest: Guest::Address(address.into()), guest_port });
        }
        let guest = match guest.parse() {
            Ok(address) if super::is_guest(address) => Guest::Address(address.into()),
            Ok(_) => return Err(error("the guest's address is not in 10.0.2.4 to 10.0.2.254")),
            Err(_) if guest.is_empty() => Guest::Address(FIRST_GUEST.into()),
            // An address with a slip of the pen is no name.
            Err(_) if is_host_name(guest) && guest.bytes().any(is_letter) => Guest::Name(guest.into()),
            Err(_) => return Err(error("the guest's end is no address or name")),
        };
        Ok(Self { protocol, host, guest, guest_port })
    }
}

impl fmt::Display for Forward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}-{}:{}", self.protocol, self.host, self.guest, self.guest_port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forwards_are_read_and_written() {
        for (text, meaning) in [
            ("tcp:127.0.0.1:2222-:22", "tcp:127.0.0.1:2222-10.0.2.15:22"),
            ("tcp::2222-:22", "tcp:127.0.0.1:2222-10.0.2.15:22"),
            (":0.0.0.0:0-10.0.2.16:22", "tcp:0.0.0.0:0-10.0.2.16:22"),
            ("udp:[::1]:53-:53", "udp:[::1]:53-10.0.2.15:53"),
            ("tcp::80-web-2:8080", "tcp:127.0.0.1:80-web-2:8080"),
            ("tcp:[::1]:80-[fd76:6572:7665:2::15]:8080", "tcp:[::1]:80-[fd76:6572:7665:2::15]:8080"),
            ("udp::53-[fe80::1]:53", "udp:127.0.0.1:53-[fe80::1]:53"),
        ] {
            assert_eq!(text.parse::<Forward>().unwrap().to_string(), meaning);
        }
        for wrong in [
            "",
            "tcp",
            "tcp:",
            "tcp:127.0.0.1:22",
            "sctp::1-:1",
            "tcp::1-:0",
            "tcp::65536-:1",
            "tcp::1-:65536",
            "tcp:localhost:1-:1",
            "tcp::1-127.0.0.1:1",
            "tcp::1-10.0.2.2:1",
            "tcp::1-",
            "tcp:-:1",
            "tcp::1-web",
            "tcp::1-a.b:1",
            "tcp::1-10.0.2:1",
            "tcp::1--web:1",
            "tcp::1-fd76:6572:7665:2::15:1",
            "tcp::1-[fd76:6572:7665:2::2]:1",
            "tcp::1-[2001:db8::1]:1",
            "tcp::1-[10.0.2.15]:1",
            "tcp::1-[fe80::1:1",
        ] {
            assert!(wrong.parse::<Forward>().is_err(), "{wrong}");
        }
    }
}
