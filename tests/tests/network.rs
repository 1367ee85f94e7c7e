//! Debian's kernel on a network card: BusyBox's DHCP client configures it, and it talks with this process in both
//! directions. Only the host's loopback is used.

#[path = "linux/guest.rs"]
mod guest;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use devices::backend::net::MacAddress;
use devices::backend::net::pcap::Capture;
use devices::backend::net::user::{Configuration, UserNetwork};
use devices::virtio::net::Net;
use machine::board::virt::Slot;
use sha2::{Digest, Sha256};

use guest::{Guest, kernel};

const SIZE: usize = 16 << 20;

/// What udhcpc calls with what it has got.
const SCRIPT: &str = "#!/bin/sh
[ \"$1\" = bound ] || exit 0
ip addr add $ip/$mask dev $interface
ip route add default via $router
ip link set $interface mtu $mtu
echo $hostname >/tmp/name
echo nameserver $dns >/etc/resolv.conf
";

fn numbers(size: usize) -> Vec<u8> {
    (0..size as u32 / 4).flat_map(|number| number.wrapping_mul(0x9e37_79b9).to_le_bytes()).collect()
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Answers every HTTP request by `bytes`, for as long as the process lives.
fn web_server(bytes: Vec<u8>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                request.push(byte[0]);
            }
            write!(stream, "HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n", bytes.len()).unwrap();
            stream.write_all(&bytes).unwrap();
        }
    });
    port
}

#[test]
fn debian_configures_itself_and_talks_both_ways() {
    let data = numbers(SIZE);
    let port = web_server(data.clone());
    let configuration = Configuration {
        host_access: true,
        host_name: "worker".into(),
        mtu: 1400,
        forwards: vec!["tcp:127.0.0.1:0-:7".parse().unwrap()],
        name_servers: Some(vec!["127.0.0.1:9".parse().unwrap()]),
        ..Configuration::default()
    };
    let network = UserNetwork::start(configuration).unwrap();
    let forward = network.forwards()[0].host;
    let folder = tempfile::tempdir().unwrap();
    let capture = folder.path().join("capture.pcap");
    let card = Net::new(Capture::new(network, &capture).unwrap(), MacAddress::from_name("net0"), 2);
    let link = card.link();
    let mut guest = Guest::new(kernel(), vec![Slot::Net(card), Slot::Rng]);
    guest.boot();

    for (number, line) in SCRIPT.lines().enumerate() {
        let redirect = if number == 0 { ">" } else { ">>" };
        guest.run(&format!("echo '{line}' {redirect}/tmp/script"));
    }
    guest.run("chmod +x /tmp/script");
    guest.run("ip link set eth0 up && udhcpc -i eth0 -n -q -s /tmp/script");
    let address = guest.run("ip addr show eth0");
    for expected in ["10.0.2.15/24", "mtu 1400", &MacAddress::from_name("net0").to_string()] {
        assert!(address.contains(expected), "{address}");
    }
    assert!(guest.run("cat /tmp/name /etc/resolv.conf").contains("worker\r\nnameserver 10.0.2.3"));

    let pings = guest.run("ping -c 5 -i 0.2 10.0.2.2");
    assert!(pings.contains("5 packets received"), "{pings}");

    let start = Instant::now();
    let sum = guest.run(&format!("wget -q -O - http://10.0.2.2:{port}/ | sha256sum"));
    println!("{} MiB to the guest in {:.2?}", SIZE >> 20, start.elapsed());
    assert!(sum.contains(&sha256(&data)), "{sum}");

    // What comes through the forward goes back.
    guest.run("nc -l -p 7 -e cat >/dev/null 2>&1 & sleep 1");
    let start = Instant::now();
    let mut stream = TcpStream::connect(forward).unwrap();
    let mut back = stream.try_clone().unwrap();
    let reader = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        back.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
        back.read_to_end(&mut bytes).unwrap();
        bytes
    });
    stream.write_all(&data).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert!(reader.join().unwrap() == data);
    println!("{} MiB to the guest and back in {:.2?}", SIZE >> 20, start.elapsed());

    link.set_up(false);
    guest.run("for i in 1 2 3 4 5 6 7 8 9; do grep 0 /sys/class/net/eth0/carrier && break; sleep 1; done");
    link.set_up(true);
    guest.run("for i in 1 2 3 4 5 6 7 8 9; do grep 1 /sys/class/net/eth0/carrier && break; sleep 1; done");
    guest.run("ping -c 1 10.0.2.2");
    guest.run("ip link set eth0 down && rmmod virtio_net && modprobe virtio_net && ip link set eth0 up");
    guest.run("ip addr add 10.0.2.15/24 dev eth0 && ping -c 1 10.0.2.2");
    guest.assert_kernel_is_content();
    guest.power_off();
    let captured = Arc::new(std::fs::read(&capture).unwrap());
    assert!(captured.len() > 3 * SIZE);
}
