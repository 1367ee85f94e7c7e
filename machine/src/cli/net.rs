//! `--net`.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use devices::backend::net::pcap::Capture;
use devices::backend::net::user::{Configuration, UserNetwork};
use devices::backend::net::{Link, MacAddress, NetworkBackend};
use devices::virtio::net::{MOST_PAIRS, Net};

/// One `--net` option.
#[derive(Clone, Debug)]
pub struct NetOption {
    kind: Kind,
    address: Option<MacAddress>,
    queues: u16,
    capture: Option<PathBuf>,
}

#[derive(Clone, Debug)]
enum Kind {
    None,
    User(Configuration),
}

impl Default for NetOption {
    fn default() -> Self {
        Self { kind: Kind::User(Configuration::default()), address: None, queues: 1, capture: None }
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
            other => return Err(format!("unknown kind \"{}\": use user or none", other.unwrap_or_default())),
        }
        for part in parts {
            let (name, value) =
                part.split_once('=').ok_or_else(|| format!("\"{part}\": expected an option such as mtu=1500"))?;
            let Kind::User(network) = &mut option.kind else {
                return Err(format!("{name}: without a network there is nothing to set; leave it out"));
            };
            let wrong = |expected: &str| format!("{name}={value}: expected {expected}");
            match name {
                "mac" => option.address = Some(value.parse().map_err(|error| format!("{error}"))?),
                "mtu" => network.mtu = value.parse().map_err(|_| wrong("a number of bytes, such as 1500"))?,
                "queues" => {
                    let queues = value.parse().ok().filter(|queues| (1..=MOST_PAIRS).contains(queues));
                    option.queues = queues.ok_or_else(|| wrong(&format!("a number from 1 to {MOST_PAIRS}")))?;
                }
                "hostname" => network.host_name = value.into(),
                "hostfwd" => network.forwards.push(value.parse().map_err(|error| format!("{error}"))?),
                "hostaccess" => network.host_access = switch(value).ok_or_else(|| wrong("on or off"))?,
                "restrict" => network.restrict = switch(value).ok_or_else(|| wrong("on or off"))?,
                "dns" => {
                    let address: IpAddr = value.parse().map_err(|_| wrong("an IP address"))?;
                    network.name_servers.get_or_insert_default().push(SocketAddr::new(address, 53));
                }
                "pcap" if !value.is_empty() => option.capture = Some(value.into()),
                "pcap" => return Err(wrong("the name of a file")),
                _ => {
                    return Err(format!(
                        "unknown option \"{name}\": use mac, mtu, queues, hostname, hostfwd, hostaccess, restrict, dns or \
                         pcap"
                    ));
                }
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

impl NetOption {
    /// The card, its cable in `network`. Without an option of its own its address comes from the guest's name and the
    /// card's number: it is the same at each start, since guests name their interfaces by it, and guests with names
    /// have different ones.
    fn card(&self, index: usize, host_name: &str, network: Arc<dyn NetworkBackend>) -> Net {
        let by_name = || MacAddress::from_name(&format!("{host_name}/net{index}"));
        Net::new(network, self.address.unwrap_or_else(by_name), self.queues)
    }
}

fn user_networks(options: &[NetOption]) -> impl Iterator<Item = (usize, &NetOption, &Configuration)> {
    options.iter().enumerate().filter_map(|(index, option)| match &option.kind {
        Kind::User(configuration) => Some((index, option, configuration)),
        Kind::None => None,
    })
}

/// Starts the networks and makes their cards. Ports that were picked are told to the user.
pub fn cards(options: &[NetOption]) -> anyhow::Result<Vec<Net>> {
    let mut cards = Vec::new();
    for (index, option, configuration) in user_networks(options) {
        let network = UserNetwork::start(configuration.clone())?;
        for (asked, forward) in configuration.forwards.iter().zip(network.forwards()) {
            if asked.host.port() == 0 {
                eprintln!("vervet: {} port {} leads to the guest's {}", forward.protocol, forward.host, forward.guest);
            }
        }
        let network: Arc<dyn NetworkBackend> = match &option.capture {
            Some(path) => Capture::new(network, path)?,
            None => network,
        };
        cards.push(option.card(index, &configuration.host_name, network));
    }
    Ok(cards)
}

/// The same cards for a machine that never runs: their cables lead nowhere.
pub fn unconnected_cards(options: &[NetOption]) -> Vec<Net> {
    user_networks(options)
        .map(|(index, option, configuration)| {
            option.card(index, &configuration.host_name, Link::new(configuration.mtu, || {}).0)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read() {
        let text = "user,mac=52:54:00:12:34:56,mtu=9000,queues=4,hostname=web,hostfwd=tcp:127.0.0.1:0-:22,\
            hostfwd=udp::5353-:53,hostaccess=on,restrict=on,dns=192.0.2.1,pcap=file";
        let option: NetOption = text.parse().unwrap();
        assert_eq!(option.address.unwrap().to_string(), "52:54:00:12:34:56");
        assert_eq!((option.queues, option.capture), (4, Some("file".into())));
        let Kind::User(network) = option.kind else { panic!() };
        assert_eq!((network.mtu, network.host_name.as_str(), network.forwards.len()), (9000, "web", 2));
        assert!(network.host_access && network.restrict);
        assert_eq!(network.name_servers.unwrap(), ["192.0.2.1:53".parse().unwrap()]);
        assert!(matches!("none".parse::<NetOption>().unwrap().kind, Kind::None));
        for wrong in [
            "",
            "usr",
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
