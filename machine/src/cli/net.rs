//! `--net`.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use devices::backend::net::pcap::Capture;
use devices::backend::net::user::{Configuration, Forward, UserNetwork};
use devices::backend::net::{Link, MacAddress, NetworkBackend};
use devices::virtio::net::{MOST_PAIRS, Net};

/// One `--net` option.
#[derive(Clone, Debug)]
pub struct NetOption {
    kind: Kind,
    address: Option<MacAddress>,
    queues: u16,
    capture: Option<PathBuf>,
    /// Whether the cable is plugged in.
    link: bool,
}

#[derive(Clone, Debug)]
enum Kind {
    None,
    User(Configuration),
    /// The switch of this name, with the settings of its router.
    Switch(String, Configuration),
    /// The host's TAP interface of this name.
    Tap(String),
}

impl Default for NetOption {
    fn default() -> Self {
        Self { kind: Kind::User(Configuration::default()), address: None, queues: 1, capture: None, link: true }
    }
}

impl FromStr for NetOption {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split(',');
        let mut option = Self::default();
        match parts.next() {
            Some("user") => {}
            Some("none") => option.kind = Kind::None,
            Some(kind) => match kind.split_once('=') {
                Some(("switch", name)) if !name.is_empty() => {
                    option.kind = Kind::Switch(name.into(), Configuration::default());
                }
                Some(("switch", _)) => return Err("switch=: expected the switch's name, such as switch=lan".into()),
                Some(("tap", name)) if !name.is_empty() => option.kind = Kind::Tap(name.into()),
                Some(("tap", _)) => return Err("tap=: expected the interface's name, such as tap=tap0".into()),
                _ => return Err(format!("unknown kind \"{kind}\": use user, switch=NAME, tap=IFACE or none")),
            },
            None => return Err("expected user, switch=NAME, tap=IFACE or none".into()),
        }
        for part in parts {
            let (name, value) =
                part.split_once('=').ok_or_else(|| format!("\"{part}\": expected an option such as mtu=1500"))?;
            let wrong = |expected: &str| format!("{name}={value}: expected {expected}");
            if let Kind::None = option.kind {
                return Err(format!("{name}: without a network there is nothing to set; leave it out"));
            }
            match name {
                "mac" => option.address = Some(value.parse().map_err(|error| format!("{error}"))?),
                "queues" => {
                    let queues = value.parse().ok().filter(|queues| (1..=MOST_PAIRS).contains(queues));
                    option.queues = queues.ok_or_else(|| wrong(&format!("a number from 1 to {MOST_PAIRS}")))?;
                }
                "link" => {
                    option.link = match value {
                        "up" => true,
                        "down" => false,
                        _ => return Err(wrong("up or down")),
                    }
                }
                "pcap" if !value.is_empty() => option.capture = Some(value.into()),
                "pcap" => return Err(wrong("the name of a file")),
                _ => option.set_network(name, value)?,
            }
        }
        Ok(option)
    }
}

fn switch(value: &str) -> Option<bool> {
    match value {
        "on" => Some(true),
        "off" => Some(false),
        _ => None,
    }
}

/// A network that was started, and what it is about for the user.
struct Started {
    network: Arc<dyn NetworkBackend>,
    forwards: Vec<Forward>,
    /// The address of a card that has none by its guest's name.
    address: Option<MacAddress>,
}

impl NetOption {
    /// Sets what is our own network's.
    fn set_network(&mut self, name: &str, value: &str) -> Result<(), String> {
        let wrong = |expected: &str| format!("{name}={value}: expected {expected}");
        let (Kind::User(network) | Kind::Switch(_, network)) = &mut self.kind else {
            return Err(format!(
                "{name}: no option of tap=, whose network is the host's: use mac, queues, link or pcap"
            ));
        };
        match name {
            "mtu" => network.mtu = value.parse().map_err(|_| wrong("a number of bytes, such as 1500"))?,
            "hostname" => network.host_name = value.into(),
            "hostfwd" => network.forwards.push(value.parse().map_err(|error| format!("{error}"))?),
            "hostaccess" => network.host_access = switch(value).ok_or_else(|| wrong("on or off"))?,
            "restrict" => network.restrict = switch(value).ok_or_else(|| wrong("on or off"))?,
            "dns" => {
                let address: IpAddr = value.parse().map_err(|_| wrong("an IP address"))?;
                network.name_servers.get_or_insert_default().push(SocketAddr::new(address, 53));
            }
            _ => {
                return Err(format!(
                    "unknown option \"{name}\": use mac, mtu, queues, link, hostname, hostfwd, hostaccess, restrict, dns \
                     or pcap"
                ));
            }
        }
        Ok(())
    }

    /// The settings of the network, if it is one of our own.
    fn configuration(&self) -> Option<&Configuration> {
        match &self.kind {
            Kind::None | Kind::Tap(_) => None,
            Kind::User(configuration) | Kind::Switch(_, configuration) => Some(configuration),
        }
    }

    fn start(&self) -> anyhow::Result<Option<Started>> {
        Ok(match &self.kind {
            Kind::None => None,
            Kind::User(configuration) => {
                let network = UserNetwork::start(configuration.clone())?;
                let forwards = network.forwards().to_vec();
                Some(Started { network, forwards, address: None })
            }
            #[cfg(unix)]
            Kind::Switch(name, configuration) => {
                let switch = devices::backend::net::switch::Switch::start(name, configuration.clone())?;
                let (forwards, address) = (switch.forwards().to_vec(), Some(switch.address()));
                Some(Started { network: switch, forwards, address })
            }
            #[cfg(not(unix))]
            Kind::Switch(..) => anyhow::bail!("--net switch=: this host has no Unix sockets for switches"),
            #[cfg(target_os = "linux")]
            Kind::Tap(name) => {
                let network = devices::backend::net::tap::Tap::start(name)?;
                // The interface tells guests on one bridge apart.
                let address = Some(MacAddress::from_name(&format!("tap/{name}")));
                Some(Started { network, forwards: Vec::new(), address })
            }
            #[cfg(not(target_os = "linux"))]
            Kind::Tap(_) => anyhow::bail!("--net tap=: only Linux hosts have TAP interfaces; use user or switch=NAME"),
        })
    }

    /// The card. Without an option of its own its address comes from the guest's name and the card's number: it is the
    /// same at each start, since guests name their interfaces by it, and guests with names have different ones. On a
    /// switch guests without names are told apart by their numbers there.
    fn card(&self, index: usize, network: Arc<dyn NetworkBackend>, by_network: Option<MacAddress>) -> Net {
        let host_name = self.configuration().map_or("", |configuration| &configuration.host_name);
        let by_name = MacAddress::from_name(&format!("{host_name}/net{index}"));
        let by_network = by_network.filter(|_| host_name.is_empty());
        let card = Net::new(network, self.address.or(by_network).unwrap_or(by_name), self.queues);
        card.link().set_up(self.link);
        card
    }
}

/// The network cards of a machine.
#[derive(Default)]
pub struct Cards {
    /// The cards, in order of the options.
    pub cards: Vec<Net>,
    /// All ports of the host that lead into the guest.
    pub forwards: Vec<Forward>,
}

/// Starts the networks and makes their cards. Ports that were picked are told to the user.
pub fn cards(options: &[NetOption]) -> anyhow::Result<Cards> {
    let mut all = Cards::default();
    for (index, option) in options.iter().enumerate() {
        let Some(Started { network, forwards, address }) = option.start()? else { continue };
        let asked = option.configuration().map_or(&[][..], |configuration| &configuration.forwards);
        for (asked, forward) in asked.iter().zip(&forwards) {
            if asked.host.port() == 0 {
                let Forward { protocol, host, guest, guest_port } = forward;
                eprintln!("vervet: {protocol} port {host} leads to the guest's {guest}:{guest_port}");
            }
        }
        all.forwards.extend(forwards);
        let network: Arc<dyn NetworkBackend> = match &option.capture {
            Some(path) => Capture::new(network, path)?,
            None => network,
        };
        all.cards.push(option.card(index, network, address));
    }
    Ok(all)
}

/// The same cards for a machine that never runs: their cables lead nowhere.
pub fn unconnected_cards(options: &[NetOption]) -> Vec<Net> {
    let card = |(index, option): (usize, &NetOption)| {
        if let Kind::None = option.kind {
            return None;
        }
        let mtu = option.configuration().map_or(Configuration::default().mtu, |configuration| configuration.mtu);
        Some(option.card(index, Link::new(mtu, || {}).0, None))
    };
    options.iter().enumerate().filter_map(card).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read() {
        let text = "user,mac=52:54:00:12:34:56,mtu=9000,queues=4,hostname=web,hostfwd=tcp:127.0.0.1:0-:22,\
            hostfwd=udp::5353-:53,hostaccess=on,restrict=on,dns=192.0.2.1,pcap=file,link=down";
        let option: NetOption = text.parse().unwrap();
        assert_eq!(option.address.unwrap().to_string(), "52:54:00:12:34:56");
        assert_eq!((option.queues, option.capture, option.link), (4, Some("file".into()), false));
        let Kind::User(network) = option.kind else { panic!() };
        assert_eq!((network.mtu, network.host_name.as_str(), network.forwards.len()), (9000, "web", 2));
        assert!(network.host_access && network.restrict);
        assert_eq!(network.name_servers.unwrap(), ["192.0.2.1:53".parse().unwrap()]);
        assert!(matches!("none".parse::<NetOption>().unwrap().kind, Kind::None));
        let option: NetOption = "switch=lan,hostname=web".parse().unwrap();
        assert!(matches!(option.kind, Kind::Switch(name, router) if name == "lan" && router.host_name == "web"));
        let option: NetOption = "tap=tap0,mac=52:54:00:12:34:56,link=up,queues=2".parse().unwrap();
        assert!(matches!(option.kind, Kind::Tap(name) if name == "tap0") && option.link);
        for wrong in [
            "",
            "usr",
            "tap",
            "tap=",
            "tap=tap0,mtu=1500",
            "tap=tap0,hostname=web",
            "user,link=on",
            "user=1",
            "none,link=down",
            "user,",
            "user,mtu",
            "user,mtu=x",
            "user,queues=0",
            "user,queues=17",
            "user,mac=1",
            "user,x=1",
            "user,hostaccess=yes",
            "user,dns=localhost",
            "none,mtu=1500",
            "user,pcap=",
            "user,hostfwd=22",
            "switch",
            "switch=",
            "switch=lan,x=1",
        ] {
            assert!(wrong.parse::<NetOption>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_guests_access_is_off_unless_it_is_asked_for() {
        let Kind::User(network) = "user".parse::<NetOption>().unwrap().kind else { panic!() };
        assert!(!network.host_access && network.forwards.is_empty());
    }

    #[test]
    fn addresses_come_from_names() {
        let addresses = |texts: &[&str]| -> Vec<_> {
            let options: Vec<NetOption> = texts.iter().map(|text| text.parse().unwrap()).collect();
            unconnected_cards(&options).iter().map(|card| card.address().to_string()).collect()
        };
        let of_one = addresses(&["user", "none", "user", "user,mac=52:54:00:12:34:56", "user,hostname=web"]);
        assert_eq!(of_one.len(), 4, "no card for none");
        assert_eq!(of_one[2], "52:54:00:12:34:56");
        assert_eq!(addresses(&["user,mtu=9000"]), of_one[..1], "other settings do not matter");
        let all: std::collections::HashSet<_> =
            of_one.iter().chain(&addresses(&["user,hostname=web"])).cloned().collect();
        assert_eq!(all.len(), 5);
    }
}
