//! What a guest may reach.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};

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
    pub fn target(&self, destination: SocketAddrV4) -> Target {
        let address = *destination.ip();
        if address == NAME_SERVER {
            return if destination.port() == 53 { Target::NameServer } else { Target::Refused };
        }
        if address == ROUTER {
            return if self.host_access {
                Target::Host((Ipv4Addr::LOCALHOST, destination.port()).into())
            } else {
                Target::Refused
            };
        }
        // Link-local packets are not forwarded (RFC 3927 §7), nor are those of 0/8, 127/8 and 240/4 (RFC 1122
        // §3.2.1.3), and there is no multicast routing.
        let [first, ..] = address.octets();
        if first == 0 || address.is_loopback() || address.is_link_local() || first >= 224 || is_inside(address) {
            return Target::Martian;
        }
        if self.restrict || (!self.host_access && is_own(address)) {
            return Target::Refused;
        }
        Target::Host(destination.into())
    }
}

/// Whether `address` is one of the host's own: the host's services listen there too. It is if the host would send from
/// it to itself.
fn is_own(address: Ipv4Addr) -> bool {
    // Connecting a datagram socket sends nothing.
    let local = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).and_then(|socket| {
        socket.connect((address, 9))?;
        socket.local_addr()
    });
    local.is_ok_and(|local| local.ip() == IpAddr::V4(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(host_access: bool, restrict: bool, destination: &str) -> Target {
        Policy { host_access, restrict }.target(destination.parse().unwrap())
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
            ] {
                assert_eq!(target(access, false, martian), Target::Martian, "{martian}");
            }
        }
        assert!(is_own(Ipv4Addr::LOCALHOST));
        assert!(!is_own(Ipv4Addr::new(192, 0, 2, 7)));
    }
}
