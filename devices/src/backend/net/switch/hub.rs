//! Passes frames between ports.
//!
//! A frame goes to the port where its destination's address was seen, and to all others if it is for a group or nobody
//! knows. Nothing in it is looked at behind the addresses, so that tagged frames pass as they are. A frame for one port
//! that is full waits, and those behind it; one for many passes by the ports that are full.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::addresses::Addresses;
use super::port::{End, PATIENCE, Port};
use crate::backend::net::{Frame, MacAddress};

/// Frames from one port before it is the others' turn.
const BATCH: usize = 64;

/// A switch, or with two ports and no table, a piece of cable.
pub struct Hub {
    ports: BTreeMap<u64, Port>,
    /// Nothing where frames have only one way to go.
    addresses: Option<Addresses>,
}

impl Hub {
    pub fn new() -> Self {
        Self { ports: BTreeMap::new(), addresses: None }
    }

    /// Whether addresses are learned. What was known is forgotten.
    pub fn learn(&mut self, learn: bool) {
        self.addresses = learn.then(Addresses::default);
    }

    /// Binds an address to a port.
    pub fn reserve(&mut self, address: MacAddress, port: u64) {
        if let Some(addresses) = &mut self.addresses {
            addresses.reserve(address, port);
        }
    }

    pub fn len(&self) -> usize {
        self.ports.len()
    }

    /// Connects `end` to port `number`.
    pub fn add(&mut self, number: u64, end: End) {
        self.ports.insert(number, Port::new(end));
    }

    pub fn remove(&mut self, number: u64) {
        self.ports.remove(&number);
        if let Some(addresses) = &mut self.addresses {
            addresses.forget(number);
        }
    }

    /// Where port `number` leads.
    pub fn end(&mut self, number: u64) -> Option<&mut End> {
        self.ports.get_mut(&number).map(|port| &mut port.end)
    }

    /// Looks which peers have gone without a word; the next turn tells.
    pub fn probe(&mut self) {
        for port in self.ports.values_mut() {
            port.probe();
        }
    }

    /// Moves what can be moved; `mark` may change what comes from this process's card. Whether there may be more, and the
    /// ports whose peers have gone.
    pub fn turn(&mut self, mark: impl Fn(&mut Frame)) -> (bool, Vec<u64>) {
        let now = Instant::now();
        let numbers: Vec<u64> = self.ports.keys().copied().collect();
        let mut more = false;
        for port in self.ports.values_mut() {
            port.call();
        }
        // No port is left out because another is busy.
        for number in numbers {
            more |= self.take_from(number, &mark, now);
        }
        for port in self.ports.values_mut() {
            more |= port.flush();
        }
        let gone = self.ports.iter().filter_map(|(number, port)| port.has_ended().then_some(*number)).collect();
        (more, gone)
    }

    /// When to call [`Hub::turn`] again if nothing happens before.
    pub fn timeout(&self) -> Option<Duration> {
        self.ports.values().any(|port| port.pending.is_some()).then_some(PATIENCE)
    }

    fn take_from(&mut self, number: u64, mark: &impl Fn(&mut Frame), now: Instant) -> bool {
        for _ in 0..BATCH {
            let Some(port) = self.ports.get_mut(&number) else { return false };
            let Some(mut frame) = port.receive() else { return false };
            if let End::Card(_) = port.end {
                mark(&mut frame);
            }
            if let Err(frame) = self.forward(number, frame, now) {
                if let Some(port) = self.ports.get_mut(&number) {
                    port.pending = Some(frame);
                }
                return false;
            }
        }
        true
    }

    /// Passes on a frame from port `from`; it comes back if it has to wait.
    fn forward(&mut self, from: u64, frame: Frame, now: Instant) -> Result<(), Frame> {
        let address = |at: usize| frame.bytes.get(at..)?.first_chunk().copied().map(MacAddress);
        let (Some(destination), Some(source)) = (address(0), address(6)) else { return Ok(()) };
        let mut target = None;
        if let Some(addresses) = &mut self.addresses {
            if !addresses.admit(source, from, now) {
                tracing::debug!("switch: a frame from {source}, which is at another port, was dropped");
                // Unless nobody is there any more: then the next one passes.
                let owner = addresses.port_of(source, now).and_then(|owner| self.ports.get_mut(&owner));
                owner.into_iter().for_each(Port::probe);
                return Ok(());
            }
            target = addresses.port_of(destination, now).filter(|_| !destination.is_group());
        } else if self.ports.len() == 2 {
            target = self.ports.keys().copied().find(|number| *number != from);
        }
        match target {
            Some(number) if number == from => Ok(()),
            Some(number) => {
                let Some(port) = self.ports.get_mut(&number) else { return Ok(()) };
                port.send(frame, now).or_else(|frame| if port.is_stuck(now) { Ok(()) } else { Err(frame) })
            }
            None => {
                for (_, port) in self.ports.iter_mut().filter(|(number, _)| **number != from) {
                    // The group does not wait for one.
                    let _ = port.send(frame.clone(), now);
                }
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::backend::net::{Link, NetworkBackend};

    fn mac(number: u8) -> MacAddress {
        MacAddress([2, 0, 0, 0, 0, number])
    }

    fn frame(to: MacAddress, from: MacAddress, mark: u8) -> Frame {
        let mut bytes = [&to.0[..], &from.0, &[0x81, 0, 0, 5, 8, 0]].concat();
        bytes.resize(60, mark);
        Frame { bytes, ..Frame::default() }
    }

    fn turn(hub: &mut Hub) -> bool {
        let (more, gone) = hub.turn(|_| ());
        assert_eq!(gone, []);
        more
    }

    fn hub(ports: u64) -> (Hub, Vec<Arc<Link>>) {
        let mut hub = Hub::new();
        hub.learn(true);
        let links = (0..ports).map(|number| {
            let (link, end) = Link::new(1500, || {});
            hub.add(number, End::Card(end));
            link
        });
        let links = links.collect();
        (hub, links)
    }

    /// The marks of the frames at each port.
    fn received(links: &[Arc<Link>]) -> Vec<Vec<u8>> {
        links.iter().map(|link| std::iter::from_fn(|| link.receive()).map(|frame| frame.bytes[59]).collect()).collect()
    }

    #[test]
    fn frames_go_where_their_address_was_seen_and_else_everywhere() {
        let (mut hub, links) = hub(3);
        links[0].send(frame(mac(2), mac(0), 1)).unwrap();
        turn(&mut hub);
        assert_eq!(received(&links), [vec![], vec![1], vec![1]], "nobody knows");
        links[2].send(frame(mac(0), mac(2), 2)).unwrap();
        turn(&mut hub);
        links[0].send(frame(mac(2), mac(0), 3)).unwrap();
        links[1].send(frame(MacAddress::BROADCAST, mac(1), 4)).unwrap();
        links[1].send(frame(mac(1), mac(1), 5)).unwrap();
        // One that claims to be another is not heard, and does not move it.
        links[1].send(frame(mac(2), mac(0), 6)).unwrap();
        turn(&mut hub);
        assert_eq!(received(&links), [vec![2, 4], vec![], vec![3, 4]]);
        hub.remove(2);
        links[0].send(frame(mac(2), mac(0), 7)).unwrap();
        turn(&mut hub);
        assert_eq!(received(&links), [vec![], vec![7], vec![]], "forgotten");
    }

    #[test]
    fn a_full_port_holds_up_its_senders_only_and_not_for_ever() {
        let (mut hub, links) = hub(3);
        for (number, link) in links.iter().enumerate() {
            link.send(frame(MacAddress::BROADCAST, mac(number as u8), 0)).unwrap();
        }
        turn(&mut hub);
        received(&links);
        // The card at port 2 takes nothing.
        let mut given = 0;
        while links[0].send(frame(mac(2), mac(0), 1)).is_ok() {
            given += 1;
            turn(&mut hub);
        }
        assert!(given > 512, "{given}");
        assert!(hub.timeout().is_some());
        links[1].send(frame(mac(0), mac(1), 2)).unwrap();
        links[1].send(frame(MacAddress::BROADCAST, mac(1), 3)).unwrap();
        turn(&mut hub);
        assert_eq!(received(&links[..2]), [vec![2, 3], vec![]], "others are not concerned");
        std::thread::sleep(PATIENCE);
        links[1].send(frame(mac(0), mac(1), 4)).unwrap();
        while turn(&mut hub) {}
        assert_eq!(hub.timeout(), None, "what is for a stuck port is dropped");
        assert!(links[0].send(frame(mac(2), mac(0), 1)).is_ok());
        received(&links);
        links[0].send(frame(mac(2), mac(0), 5)).unwrap();
        while turn(&mut hub) {}
        assert!(received(&links)[2].ends_with(&[5]), "it takes again");
    }

    #[test]
    fn two_ports_are_a_cable_for_any_address() {
        let (mut hub, links) = hub(2);
        hub.learn(false);
        for number in 0..3u32 {
            links[0].send(frame(mac(number as u8), mac(7), 1)).unwrap();
            links[1].send(frame(mac(7), mac(7), 2)).unwrap();
        }
        turn(&mut hub);
        assert_eq!(received(&links), [vec![2; 3], vec![1; 3]]);
    }
}
