//! How many names a second are answered, and how fast, against a bare echo of the same packets, in turns.
//!
//! `cargo run --release -p limpet-network --example dns`. All packets stay on the loopback device of a
//! network namespace that is made for it.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a benchmark stops at the first surprise, and reads the clock"
)]

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use limpet_network::dns::{Server, Settings};
use limpet_network::names::Names;
use limpet_network::namespace::Namespace;
use limpet_network::picture::{Addresses, Instance, Local, Picture, Place, Service};
use limpet_protocol::spec::EndpointMode;
use tokio::sync::watch;

const ROUNDS: usize = 5;
const QUESTIONS: usize = 20_000;
/// Questions on their way at a time, for throughput.
const WINDOW: usize = 32;
const INSTANCES: u32 = 500;
const ASKER: Ipv4Addr = Ipv4Addr::new(127, 1, 0, 0);
const SERVER: (Ipv4Addr, u16) = (Ipv4Addr::new(127, 0, 0, 1), 53);
const ECHO: (Ipv4Addr, u16) = (Ipv4Addr::new(127, 0, 0, 1), 7);

/// One application of 50 services with ten instances each.
fn picture() -> Picture {
    let nothing = |v4: Ipv4Addr| Addresses { v4, v6: None };
    let key = |n: u32| ("shop".parse().unwrap(), format!("service-{}", n % 50).parse().unwrap());
    let service = |n| Service {
        networks: [("shop_default".parse().unwrap(), vec![])].into(),
        virtual_address: nothing(Ipv4Addr::new(10, 128, 0, u8::try_from(n).unwrap())),
        mode: if n % 2 == 0 { EndpointMode::Vip } else { EndpointMode::Dnsrr },
        spread: false,
        wakes: false,
        ports: vec![],
    };
    let instance = |n: u32| Instance {
        addresses: nothing(Ipv4Addr::from(u32::from(ASKER) + n)),
        networks: ["shop_default".parse().unwrap()].into(),
        hostname: format!("host-{n}"),
        ready: true,
        place: Place::Here(Local {
            device: "lv".into(),
            leads_outside: true,
            node_access: false,
            name_servers: vec![],
        }),
    };
    let id = |n: u32| format!("shop.service-{}.{}", n % 50, n / 50 + 1).parse().unwrap();
    Picture {
        pool: "127.0.0.0/8".parse().unwrap(),
        pool6: "fd00::/48".parse().unwrap(),
        subnet: "127.1.0.0/16".parse().unwrap(),
        subnet6: "fd00:0:0:1::/64".parse().unwrap(),
        gateway: nothing(SERVER.0),
        virtual_addresses: "10.128.0.0/16".parse().unwrap(),
        virtual_addresses6: "fd00::/64".parse().unwrap(),
        services: (0..50).map(|n| (key(n), service(n))).collect(),
        instances: (0..INSTANCES).map(|n| ((id(n), 1), instance(n))).collect(),
        peers: [].into(),
        guarded: [].into(),
    }
}

/// A question for `service-N`.
fn question(n: usize) -> Vec<u8> {
    let name = format!("service-{}", n % 50);
    let id = u16::try_from(n & 0xffff).unwrap().to_be_bytes();
    let length = u8::try_from(name.len()).unwrap();
    let rest = [&[0, 0, 1, 0, 1][..]].concat();
    [&id[..], &[1, 0, 0, 1, 0, 0, 0, 0, 0, 0, length], name.as_bytes(), &rest].concat()
}

/// Answers a second with some on their way at a time.
fn flood(to: SocketAddr) -> f64 {
    let socket = UdpSocket::bind((ASKER, 0)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    socket.connect(to).unwrap();
    let began = Instant::now();
    let mut buffer = [0; 1500];
    for n in 0..QUESTIONS + WINDOW {
        if n < QUESTIONS {
            socket.send(&question(n)).unwrap();
        }
        if n >= WINDOW {
            socket.recv(&mut buffer).unwrap();
        }
    }
    f64::from(u32::try_from(QUESTIONS).unwrap()) / began.elapsed().as_secs_f64()
}

/// How long one question takes: in the middle, and all but one of a hundred.
fn one_by_one(to: SocketAddr) -> [Duration; 2] {
    let socket = UdpSocket::bind((ASKER, 0)).unwrap();
    socket.connect(to).unwrap();
    let mut buffer = [0; 1500];
    let mut times: Vec<Duration> = (0..QUESTIONS)
        .map(|n| {
            let question = question(n);
            let began = Instant::now();
            socket.send(&question).unwrap();
            let length = socket.recv(&mut buffer).unwrap();
            assert!(length >= question.len());
            began.elapsed()
        })
        .collect();
    times.sort_unstable();
    [times[QUESTIONS / 2], times[QUESTIONS * 99 / 100]]
}

/// The same runtime and socket as the server's, without the server.
async fn echo() {
    let socket = tokio::net::UdpSocket::bind(ECHO).await.unwrap();
    let mut buffer = [0; 1500];
    loop {
        let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
        drop(socket.try_send_to(&buffer[..length], from));
    }
}

fn measure() {
    let picture = picture();
    let made = (0..50).map(|_| {
        let began = Instant::now();
        drop(Names::of(&picture));
        began.elapsed()
    });
    println!("index of {INSTANCES} instances made in {:?}", made.min());
    let names = Arc::new(Names::of(&picture));
    let (_sender, names) = watch::channel(names);
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let settings =
                Settings { listen: vec![SERVER.into()], resolv_conf: "/dev/null".into() };
            tokio::join!(echo(), Server::bind(settings).await.unwrap().run(names));
        });
    });
    while UdpSocket::bind(ECHO).is_ok() || UdpSocket::bind(SERVER).is_ok() {
        std::thread::yield_now();
    }
    for (name, to) in [("echo", ECHO), ("names", SERVER)].repeat(ROUNDS) {
        let rate = flood(to.into());
        let [p50, p99] = one_by_one(to.into());
        println!("{name}: {rate:.0}/s, one by one p50 {p50:?}, p99 {p99:?}");
    }
}

fn main() {
    let ran = Namespace::new().unwrap().run(|| {
        let up = Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap();
        assert!(up.success());
        measure();
    });
    ran.unwrap();
}
