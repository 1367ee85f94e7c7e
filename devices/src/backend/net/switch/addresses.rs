//! Which address lives at which port (IEEE 802.1Q §8.8), learned from the sources of frames.
//!
//! An address belongs to the port that was the first to use it, for as long as that port is there and the address is not
//! silent for long. Frames of others that use it are dropped: no guest speaks for another.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::backend::net::MacAddress;

/// How long an address that is silent stays where it is (IEEE 802.1Q §8.8.3).
const AGE: Duration = Duration::from_secs(300);
/// Addresses at one port.
const MOST_PER_PORT: usize = 256;

struct Place {
    port: u64,
    /// When it was used last; nothing for one that never moves.
    used: Option<Instant>,
}

impl Place {
    fn is_current(&self, now: Instant) -> bool {
        self.used.is_none_or(|used| now.saturating_duration_since(used) < AGE)
    }
}

/// The table of addresses.
#[derive(Default)]
pub struct Addresses(HashMap<MacAddress, Place>);

impl Addresses {
    /// Binds `address` to `port` for ever.
    pub fn reserve(&mut self, address: MacAddress, port: u64) {
        self.0.insert(address, Place { port, used: None });
    }

    /// Whether a frame from `address` may come from `port`, which is where the address is then.
    pub fn admit(&mut self, address: MacAddress, port: u64, now: Instant) -> bool {
        if address.is_group() {
            return false;
        }
        if let Some(place) = self.0.get_mut(&address) {
            if place.port == port {
                place.used = place.used.map(|_| now);
                return true;
            }
            if place.is_current(now) {
                return false;
            }
        }
        if self.0.values().filter(|place| place.port == port).count() >= MOST_PER_PORT {
            self.0.retain(|_, place| place.port != port || place.is_current(now));
            if self.0.values().filter(|place| place.port == port).count() >= MOST_PER_PORT {
                return false;
            }
        }
        self.0.insert(address, Place { port, used: Some(now) });
        true
    }

    /// Where `address` is, if that is known.
    pub fn port_of(&self, address: MacAddress, now: Instant) -> Option<u64> {
        self.0.get(&address).filter(|place| place.is_current(now)).map(|place| place.port)
    }

    /// Forgets the addresses of a port that is gone.
    pub fn forget(&mut self, port: u64) {
        self.0.retain(|_, place| place.port != port);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mac(number: u16) -> MacAddress {
        let [high, low] = number.to_be_bytes();
        MacAddress([2, 0, 0, 0, high, low])
    }

    #[test]
    fn an_address_belongs_to_the_first_port_until_it_is_silent_or_gone() {
        let (mut addresses, start) = (Addresses::default(), Instant::now());
        assert!(addresses.admit(mac(1), 1, start));
        assert!(!addresses.admit(mac(1), 2, start));
        assert_eq!((addresses.port_of(mac(1), start), addresses.port_of(mac(2), start)), (Some(1), None));
        assert!(addresses.admit(mac(1), 1, start + AGE / 2));
        assert!(!addresses.admit(mac(1), 2, start + AGE), "it was used meanwhile");
        assert_eq!(addresses.port_of(mac(1), start + AGE * 2), None);
        assert!(addresses.admit(mac(1), 2, start + AGE * 2));
        addresses.forget(2);
        assert!(addresses.admit(mac(1), 3, start + AGE * 2));
        assert!(!addresses.admit(MacAddress::BROADCAST, 1, start));
    }

    #[test]
    fn the_routers_address_never_moves() {
        let (mut addresses, start) = (Addresses::default(), Instant::now());
        addresses.reserve(mac(9), 7);
        assert!(!addresses.admit(mac(9), 1, start + AGE * 9));
        assert!(addresses.admit(mac(9), 7, start));
        assert!(!addresses.admit(mac(9), 1, start + AGE * 9));
    }

    #[test]
    fn a_port_has_no_more_than_its_share() {
        let (mut addresses, start) = (Addresses::default(), Instant::now());
        let admitted = (0..10_000).filter(|number| addresses.admit(mac(*number), 1, start)).count();
        assert_eq!(admitted, MOST_PER_PORT);
        assert!(addresses.admit(mac(20_000), 2, start), "others are not concerned");
        assert!(addresses.admit(mac(30_000), 1, start + AGE), "the silent ones make room");
        assert_eq!(addresses.0.len(), 2);
    }
}
