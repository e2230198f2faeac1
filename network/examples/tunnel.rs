//! What the agent's tunnel costs: throughput and latency through it, against the bare wire, in turns.
//!
//! `cargo run --release -p limpet-network --example tunnel`, as root. Two nodes in network namespaces of
//! their own, joined by a pair of devices; nothing else of the machine is touched.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a benchmark stops at the first surprise, and reads the clock"
)]

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

use limpet_network::namespace::Namespace;
use limpet_network::tunnel::{PrivateKey, PublicKey, Tunnel, TunnelPeer, TunnelSettings};

const ROUNDS: usize = 5;
const PUSH_FOR: Duration = Duration::from_secs(2);
const ECHOES: usize = 5000;
const PORT: u16 = 5000;
const TUNNEL_PORT: u16 = 51_820;

/// On the wire, and behind the tunnel.
const BARE: [Ipv4Addr; 2] = [Ipv4Addr::new(198, 18, 0, 1), Ipv4Addr::new(198, 18, 0, 2)];
const INNER: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 129, 1, 1), Ipv4Addr::new(10, 129, 2, 1)];

fn ip(words: &str) {
    let output = Command::new("ip").args(words.split(' ')).output().expect("iproute2 is installed");
    assert!(output.status.success(), "ip {words}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The second node's namespace has no name: a process in it stands for it while the wire is laid.
fn nodes() -> [Namespace; 2] {
    let (one, other) = (Namespace::new().unwrap(), Namespace::new().unwrap());
    let mut holder = other.run(|| Command::new("sleep").arg("60").spawn()).unwrap().unwrap();
    let laid = one.run(|| {
        ip("link set lo up");
        ip(&format!("link add wire type veth peer name wire netns {}", holder.id()));
        ip(&format!("address add {}/24 dev wire", BARE[0]));
        ip(&format!("address add {}/32 dev lo", INNER[0]));
        ip("link set wire up");
    });
    laid.unwrap();
    let laid = other.run(|| {
        ip("link set lo up");
        ip(&format!("address add {}/24 dev wire", BARE[1]));
        ip(&format!("address add {}/32 dev lo", INNER[1]));
        ip("link set wire up");
    });
    laid.unwrap();
    holder.kill().unwrap();
    holder.wait().unwrap();
    [one, other]
}

fn tunnel(node: &Namespace, key: PrivateKey, at: usize, peer: PublicKey) -> Tunnel {
    let settings = TunnelSettings {
        device: "tunnel".into(),
        key,
        port: TUNNEL_PORT,
        routes: vec!["10.128.0.0/10".parse().unwrap()],
        source: None,
        kernel: false,
    };
    let mut tunnel = node.run(|| Tunnel::open(settings)).unwrap().unwrap();
    let other = 1 - at;
    let peer = TunnelPeer {
        key: peer,
        endpoints: vec![(BARE[other], TUNNEL_PORT).into()],
        allowed: vec![format!("10.129.{}.0/24", other + 1).parse().unwrap()],
        keepalive: None,
    };
    tunnel.set_peers(&[peer]).unwrap();
    tunnel
}

/// Megabits a second from the first node to the second.
fn push(nodes: &[Namespace; 2], addresses: [Ipv4Addr; 2]) -> f64 {
    let listener = nodes[1].run(|| TcpListener::bind((addresses[1], PORT))).unwrap().unwrap();
    let taken = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let (mut buffer, mut bytes) = (vec![0; 256 * 1024], 0_u64);
        let began = Instant::now();
        while let Ok(length @ 1..) = stream.read(&mut buffer) {
            bytes += u64::try_from(length).unwrap();
        }
        (bytes, began.elapsed())
    });
    let mut stream = nodes[0].run(|| TcpStream::connect((addresses[1], PORT))).unwrap().unwrap();
    let (chunk, end) = (vec![7; 256 * 1024], Instant::now() + PUSH_FOR);
    while Instant::now() < end {
        stream.write_all(&chunk).unwrap();
    }
    drop(stream);
    let (bytes, took) = taken.join().unwrap();
    8.0 * u32::try_from(bytes / 1000).map(f64::from).unwrap() / 1000.0 / took.as_secs_f64()
}

/// How long small packets take to and fro: in the middle, and all but one of a hundred.
fn echo(nodes: &[Namespace; 2], addresses: [Ipv4Addr; 2]) -> [Duration; 2] {
    let bind = |at: usize, port| {
        nodes[at].run(|| UdpSocket::bind((addresses[at], port))).unwrap().unwrap()
    };
    let (asks, answers) = (bind(0, 0), bind(1, PORT));
    answers.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    asks.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let answering = std::thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok((length, from)) = answers.recv_from(&mut buffer) {
            answers.send_to(&buffer[..length], from).unwrap();
        }
    });
    let mut times: Vec<Duration> = (0..ECHOES)
        .map(|_| {
            let began = Instant::now();
            asks.send_to(&[1; 32], (addresses[1], PORT)).unwrap();
            asks.recv(&mut [0; 64]).unwrap();
            began.elapsed()
        })
        .collect();
    answering.join().unwrap();
    times.sort_unstable();
    [times[ECHOES / 2], times[ECHOES * 99 / 100]]
}

fn main() {
    let nodes = nodes();
    let keys = [PrivateKey::make().unwrap(), PrivateKey::make().unwrap()];
    let publics = [keys[0].public(), keys[1].public()];
    let [one, other] = keys;
    let tunnels = [tunnel(&nodes[0], one, 0, publics[1]), tunnel(&nodes[1], other, 1, publics[0])];
    let median = |values: &mut Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let (mut bare, mut inner) = (vec![], vec![]);
    for _ in 0..ROUNDS {
        bare.push(push(&nodes, BARE));
        inner.push(push(&nodes, INNER));
    }
    let (bare, inner) = (median(&mut bare), median(&mut inner));
    println!("TCP, one connection: bare {bare:.0} Mbit/s, tunnel {inner:.0} Mbit/s");
    for (name, addresses) in [("bare", BARE), ("tunnel", INNER)] {
        let [p50, p99] = echo(&nodes, addresses);
        println!("UDP to and fro, {name}: p50 {p50:?}, p99 {p99:?}");
    }
    println!("{:?}", tunnels[0].status().unwrap());
}
