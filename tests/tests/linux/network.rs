//! Debian's kernel on a network card: BusyBox's DHCP client configures it, and it talks with this process in both
//! directions. Only the host's loopback is used.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use cpu::{EngineKind, JitOptions};
use devices::backend::memory::MemoryBackend;
use devices::backend::net::MacAddress;
use devices::backend::net::pcap::Capture;
use devices::backend::net::user::{Configuration, UserNetwork};
use devices::virtio::net::{LinkControl, Net};
use machine::board::virt::{Slot, Virt};
use sha2::{Digest, Sha256};

use crate::guest::{Guest, MEMORY, kernel};

const MAC: MacAddress = MacAddress([0x52, 0x54, 0, 1, 2, 3]);
const SIZE: usize = 8 << 20;

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

/// A guest with a card, whose port 7 is reached by the address returned.
fn guest(engine: EngineKind, harts: u64, pairs: u16, capture: &Path) -> (Guest, LinkControl, SocketAddr) {
    let configuration = Configuration {
        host_access: true,
        mtu: 1400,
        forwards: vec!["tcp:127.0.0.1:0-:7".parse().unwrap()],
        name_servers: Some(vec!["127.0.0.1:9".parse().unwrap()]),
        ..Configuration::default()
    };
    let network = UserNetwork::start(configuration).unwrap();
    let forward = network.forwards()[0].host;
    let card = Net::new(Capture::new(network, capture).unwrap(), MAC, pairs);
    let link = card.link();
    let console = MemoryBackend::new();
    let slots = vec![Slot::Net(card), Slot::Rng];
    let board = Virt { memory: MEMORY, console: console.clone(), slots, engine, harts, ..Virt::new(kernel()) };
    (Guest { board: board.build().unwrap(), console }, link, forward)
}

/// Sends `data` through the forward to a guest that sends it back.
fn exchange(forward: SocketAddr, data: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(forward).unwrap();
    let mut back = stream.try_clone().unwrap();
    let reader = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        back.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
        back.read_to_end(&mut bytes).unwrap();
        bytes
    });
    stream.write_all(data).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    reader.join().unwrap()
}

/// Waits in the guest until `condition` holds.
fn wait(guest: &Guest, condition: &str) {
    guest
        .run(&format!("i=0; until {condition}; do i=$((i + 1)); [ $i != 300 ] || break; sleep 0.1; done; {condition}"));
}

fn configures_itself_and_talks_both_ways(engine: EngineKind, harts: u64, pairs: u16) {
    let data = numbers(SIZE);
    let port = web_server(data.clone());
    let folder = tempfile::tempdir().unwrap();
    let capture = folder.path().join("capture.pcap");
    let (mut guest, link, forward) = guest(engine, harts, pairs, &capture);
    guest.boot();

    wait(&guest, "ip route | grep -q default");
    let address = guest.run("ip addr show eth0; ip route; cat /etc/resolv.conf");
    for expected in ["10.0.2.15/24", "mtu 1400", "default via 10.0.2.2", "nameserver 10.0.2.3", &MAC.to_string()] {
        assert!(address.contains(expected), "{expected} in {address}");
    }
    let pings = guest.run("ping -c 5 -i 0.2 10.0.2.2");
    assert!(pings.contains("5 packets received"), "{pings}");

    // The shell's own load and the checksums make the guest slow: its windows close all the time.
    for _ in 0..2 {
        let start = Instant::now();
        let sum = guest.run(&format!("wget -q -O - http://10.0.2.2:{port}/ | sha256sum"));
        println!("{} MiB to the guest in {:.2?}", SIZE >> 20, start.elapsed());
        assert!(sum.contains(&sha256(&data)), "{sum}");
    }
    guest.run("nc -l -p 7 -e cat >/dev/null 2>&1 & sleep 1");
    let start = Instant::now();
    assert!(exchange(forward, &data) == data);
    println!("{} MiB to the guest and back in {:.2?}", SIZE >> 20, start.elapsed());

    for (up, carrier) in [(false, 0), (true, 1)] {
        link.set_up(up);
        wait(&guest, &format!("grep -q {carrier} /sys/class/net/eth0/carrier"));
    }
    wait(&guest, "ping -c 1 -W 1 10.0.2.2 >/dev/null");
    guest.run("killall udhcpc; ip link set eth0 down && rmmod virtio_net && modprobe virtio_net");
    guest.run("udhcpc -q -i eth0 -s /etc/udhcpc.script && ping -c 1 10.0.2.2");
    guest.assert_kernel_is_content();
    guest.power_off();
    assert!(std::fs::metadata(&capture).unwrap().len() > 4 * SIZE as u64);
}

#[test]
fn debian_configures_itself_and_talks_both_ways() {
    configures_itself_and_talks_both_ways(EngineKind::Interpreter, 1, 2);
}

#[test]
fn so_it_does_with_compiled_code_on_two_harts() {
    configures_itself_and_talks_both_ways(EngineKind::Jit(JitOptions::default()), 2, 1);
}
