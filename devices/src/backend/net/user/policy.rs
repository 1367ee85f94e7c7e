//! What a guest may reach.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use super::ipv6::{self, NAME_SERVER_V6, ROUTER_V6};
use super::{NAME_SERVER, ROUTER, is_inside};

/// Where packets to an address go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// A socket address as the host sees it.
    Host(SocketAddr),
    /// The router's name server.
    NameServer,
    /// Nowhere: the guest is told so.
    Refused,
    /// Nowhere, silently: an address to which no packet of a guest's has to go.
    Martian,
}

/// The rules of a network.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// The host's services can be reached, those on its loopback by the router's address.
    pub host_access: bool,
    /// Nothing outside can be reached.
    pub restrict: bool,
}

impl Policy {
    /// Where packets to `destination` go.
    pub fn target(&self, destination: impl Into<SocketAddr>) -> Target {
        let destination = destination.into();
        let address = destination.ip();
        let (name_server, router, loopback, is_martian) = match address {
            IpAddr::V4(address) => {
                let (name_server, router) = (address == NAME_SERVER, address == ROUTER);
                (name_server, router, IpAddr::V4(Ipv4Addr::LOCALHOST), is_martian_v4(address))
            }
            IpAddr::V6(address) => {
                let (name_server, router) = (address == NAME_SERVER_V6, address == ROUTER_V6);
                (name_server, router, IpAddr::V6(Ipv6Addr::LOCALHOST), is_martian_v6(address))
            }
        };
        if name_server {
            return if destination.port() == 53 { Target::NameServer } else { Target::Refused };
        }
        if router {
            return if self.host_access {
                Target::Host((loopback, destination.port()).into())
            } else {
                Target::Refused
            };
        }
        if is_martian {
            return Target::Martian;
        }
        if self.restrict || (!self.host_access && is_own(address)) {
            return Target::Refused;
        }
        Target::Host(destination)
    }
}

/// Link-local packets are not forwarded (RFC 3927 §7), nor are those of 0/8, 127/8 and 240/4 (RFC 1122 §3.2.1.3), and
/// there is no multicast routing.
fn is_martian_v4(address: Ipv4Addr) -> bool {
    let [first, ..] = address.octets();
    first == 0 || address.is_loopback() || address.is_link_local() || first >= 224 || is_inside(address)
}

/// Of IPv6 only global and unique local addresses are routed (RFC 4291 §2.4, §2.5; RFC 4193). Those that stand for IPv4's
/// would lead around IPv4's rules.
fn is_martian_v6(address: Ipv6Addr) -> bool {
    let first = address.segments()[0];
    let is_routed = first & 0xe000 == 0x2000 || first & 0xfe00 == 0xfc00;
    !is_routed || ipv6::is_inside(address)
}

/// Whether `address` is one of the host's own: the host's services listen there too. It is if the host would send from
/// it to itself.
fn is_own(address: IpAddr) -> bool {
    let any = if address.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { Ipv6Addr::UNSPECIFIED.into() };
    // Connecting a datagram socket sends nothing.
    let local = UdpSocket::bind((any, 0)).and_then(|socket| {
        socket.connect((address, 9))?;
        socket.local_addr()
    });
    local.is_ok_and(|local| local.ip() == address)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(host_access: bool, restrict: bool, destination: &str) -> Target {
        Policy { host_access, restrict }.target(destination.parse::<SocketAddr>().unwrap())
    }

    #[test]
    fn only_what_was_opened_is_reached() {
        let outside = "192.0.2.7:80";
        let host = |address: &str| Target::Host(address.parse().unwrap());
        assert_eq!(target(false, false, outside), host(outside));
        assert_eq!(target(false, true, outside), Target::Refused);
        assert_eq!(target(true, true, outside), Target::Refused);
        assert_eq!(target(false, false, "10.0.2.2:22"), Target::Refused);
        assert_eq!(target(true, false, "10.0.2.2:22"), host("127.0.0.1:22"));
        assert_eq!(target(true, true, "10.0.2.2:22"), host("127.0.0.1:22"));
        assert_eq!(target(false, false, "10.0.2.3:53"), Target::NameServer);
        assert_eq!(target(true, false, "10.0.2.3:22"), Target::Refused);
        for access in [false, true] {
            for martian in [
                "127.0.0.1:22",
                "127.255.0.1:22",
                "0.0.0.0:22",
                "0.1.2.3:22",
                "224.0.0.251:5353",
                "255.255.255.255:9",
                "240.0.0.1:1",
                "169.254.169.254:80",
                "10.0.2.15:22",
                "10.0.2.255:22",
                "[::]:22",
                "[::1]:22",
                "[::ffff:127.0.0.1]:22",
                "[::127.0.0.1]:22",
                "[64:ff9b::7f00:1]:22",
                "[fe80::1]:22",
                "[ff02::fb]:5353",
                "[fd76:6572:7665:2::99]:22",
            ] {
                assert_eq!(target(access, false, martian), Target::Martian, "{martian}");
            }
        }
        let outside = "[2001:db8::7]:80";
        assert_eq!(target(false, false, outside), host(outside));
        assert_eq!(target(true, true, outside), Target::Refused);
        assert_eq!(target(false, false, "[fd76:6572:7665:2::2]:22"), Target::Refused);
        assert_eq!(target(true, true, "[fd76:6572:7665:2::2]:22"), host("[::1]:22"));
        assert_eq!(target(false, false, "[fd76:6572:7665:2::3]:53"), Target::NameServer);
        assert_eq!(target(true, false, "[fd76:6572:7665:2::3]:22"), Target::Refused);
        assert!(is_own(Ipv4Addr::LOCALHOST.into()));
        assert!(!is_own(Ipv4Addr::new(192, 0, 2, 7).into()));
    }
}
