//! Measures the data path in a network namespace of its own: how long a container's network takes, how
//! long new rules take, and what a virtual address costs against a direct connection and the loopback
//! device. Every figure is the median of rounds in which what is compared takes turns.
//!
//! It takes root: `cargo run --example datapath`, with `containers`, `rules` or `ways` for that part.

#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a program that measures reads the clock, prints, and ends where it cannot go on"
)]

#[path = "../tests/datapath/node.rs"]
#[allow(dead_code, reason = "the tests need more of it")]
mod node;
#[path = "../tests/datapath/wire.rs"]
#[allow(dead_code, reason = "the tests need more of it")]
mod wire;

use core::hint::black_box;
use core::net::{Ipv4Addr, SocketAddr};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use limpet_network::datapath::{Applied, Attach};
use limpet_network::namespace::Namespace;
use limpet_network::picture::{Addresses, Instance, Local, Place};
use limpet_network::rules::ruleset;
use limpet_protocol::spec::Bandwidth;

use node::{Kind, Node, attempt, is_root, network};

/// How often what takes milliseconds is done.
const ROUNDS: usize = 21;
/// How often what takes longer is.
const LONG_ROUNDS: usize = 7;
/// Connections, questions and bytes of a round.
const CONNECTIONS: u32 = 2_000;
const QUESTIONS: u32 = 5_000;
const BYTES: usize = 1 << 29;

fn main() {
    if !is_root() {
        return;
    }
    let part = std::env::args().nth(1);
    let is_wanted = |name| part.as_deref().is_none_or(|part| part == name);
    let mut node = Node::new();
    if is_wanted("containers") {
        measure_containers(&mut node);
    }
    if is_wanted("rules") {
        measure_rules();
    }
    if is_wanted("ways") {
        measure_ways(&mut node);
    }
}

fn median<T: Ord + Copy>(values: &mut [T]) -> T {
    values.sort();
    values[values.len() / 2]
}

fn timed<T>(work: impl FnOnce() -> T) -> (Duration, T) {
    let begin = Instant::now();
    let done = work();
    (begin.elapsed(), done)
}

fn report(what: &str, durations: &mut [Duration]) {
    let most = durations.iter().max().copied().unwrap_or_default();
    println!("{what:<44} {:>9.3?}   (most {most:.3?})", median(durations));
}

fn measure_containers(node: &mut Node) {
    let (mut namespaces, mut prepares, mut attaches, mut removes) =
        (vec![], vec![], vec![], vec![]);
    for _ in 0..ROUNDS {
        let (duration, namespace) = timed(|| Namespace::new().unwrap());
        namespaces.push(duration);
        drop(namespace);
        let (duration, prepared) = timed(|| node.datapath.prepare().unwrap());
        prepares.push(duration);
        let attach = Attach {
            owner: attempt("web", 1),
            addresses: Addresses {
                v4: Ipv4Addr::new(10, 129, 3, 2),
                v6: Some("fd00:1:0:3::2".parse().unwrap()),
            },
            gateway: node.picture.gateway,
            bandwidth: Bandwidth::default(),
        };
        let (duration, attached) = timed(|| node.datapath.attach(prepared, &attach).unwrap());
        attaches.push(duration);
        // Something holds the namespace: the device is removed with the second rules from now.
        node.datapath.detach(&attached.device);
        node.picture.guarded.insert((node::STRANGER, 1).into());
        node.apply();
        node.picture.guarded.clear();
        let (duration, _) = timed(|| node.apply());
        removes.push(duration);
        drop(attached);
    }
    report("an empty namespace", &mut namespaces);
    report("prepare: namespace and pair of devices", &mut prepares);
    report("attach: addresses, routes, label", &mut attaches);
    report("rules that remove a device that is held", &mut removes);
}

/// A node in a thread and namespace of its own that knows that many endpoints, ten a service.
fn node_with(endpoints: u32) -> Node {
    let mut node = Node::numbered(5);
    for number in 0..endpoints {
        let name = format!("service-{}", number / 10);
        let place = Place::Here(Local {
            device: node.ground.tag.device(number),
            leads_outside: true,
            node_access: false,
            name_servers: vec![],
        });
        let address = node.picture.subnet.nth(u128::from(number % 250) + 2).unwrap();
        let core::net::IpAddr::V4(mut v4) = address else { panic!("{address} is of IPv4") };
        if number >= 250 {
            let [a, b, _, d] = v4.octets();
            v4 = [a, b, 100 + u8::try_from(number / 250).unwrap(), d].into();
        }
        let networks = [network(&format!("net-{}", number / 50))].into();
        let instance = Instance {
            addresses: Addresses { v4, v6: None },
            networks,
            hostname: name.clone(),
            ready: true,
            place,
        };
        node.service(&name, &instance.networks.clone(), vec![]);
        node.picture.instances.insert(attempt(&name, number), instance);
    }
    let port = node::port(8080, 80);
    node.publish("service-0", vec![port]);
    node
}

fn measure_rules() {
    for endpoints in [10, 100, 1_000] {
        let measure = move || {
            let mut node = node_with(endpoints);
            let (mut draws, mut applies, mut sames) = (vec![], vec![], vec![]);
            for round in 0..ROUNDS {
                node.ready("service-0", 1, round % 2 == 0);
                let (duration, rules) = timed(|| ruleset(&node.picture, &node.ground));
                draws.push(duration);
                let (duration, applied) = timed(|| node.datapath.apply(&rules).unwrap());
                assert_eq!(applied, Applied::Changed);
                applies.push(duration);
                let (duration, applied) = timed(|| node.datapath.apply(&rules).unwrap());
                assert_eq!(applied, Applied::Same);
                sames.push(duration);
            }
            report(&format!("{endpoints} endpoints: draw rules"), &mut draws);
            report(&format!("{endpoints} endpoints: apply rules"), &mut applies);
            report(&format!("{endpoints} endpoints: apply the same"), &mut sames);
        };
        thread::spawn(measure).join().unwrap();
    }
}

/// Answers: one byte a connection at the first port, echo at the second, nothing but reading at the
/// third.
fn serve(namespace: &Namespace, address: Ipv4Addr) {
    let listen = |port| namespace.run(|| TcpListener::bind((address, port))).unwrap().unwrap();
    let (hello, echo, sink) = (listen(1), listen(2), listen(3));
    thread::spawn(move || {
        for mut stream in hello.incoming().flatten() {
            let _refused = stream.write_all(b"!");
        }
    });
    thread::spawn(move || {
        for mut stream in echo.incoming().flatten() {
            stream.set_nodelay(true).unwrap();
            let mut byte = [0];
            while stream.read_exact(&mut byte).is_ok() && stream.write_all(&byte).is_ok() {}
        }
    });
    thread::spawn(move || {
        let mut buffer = vec![0; 256 * 1024];
        for mut stream in sink.incoming().flatten() {
            let mut left = BYTES;
            while left > 0 {
                left -= stream.read(&mut buffer).unwrap().min(left);
            }
            stream.write_all(b"!").unwrap();
        }
    });
}

fn connections(from: &Namespace, to: Ipv4Addr) -> Duration {
    let connect = || {
        for _ in 0..CONNECTIONS {
            let mut stream = TcpStream::connect((to, 1)).unwrap();
            stream.read_exact(&mut [0]).unwrap();
        }
    };
    from.run(|| timed(connect).0).unwrap()
}

fn stream(from: &Namespace, to: SocketAddr) -> TcpStream {
    let stream = from.run(|| TcpStream::connect(to)).unwrap().unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

fn questions(from: &Namespace, to: Ipv4Addr) -> Duration {
    let mut stream = stream(from, (to, 2).into());
    let ask = || {
        for _ in 0..QUESTIONS {
            stream.write_all(b"?").unwrap();
            stream.read_exact(&mut [0]).unwrap();
        }
    };
    timed(ask).0
}

fn bytes(from: &Namespace, to: Ipv4Addr) -> Duration {
    let mut stream = stream(from, (to, 3).into());
    let block = vec![0; 256 * 1024];
    let send = || {
        for _ in 0..BYTES / block.len() {
            stream.write_all(black_box(&block)).unwrap();
        }
        stream.read_exact(&mut [0]).unwrap();
    };
    timed(send).0
}

fn measure_ways(node: &mut Node) {
    let client = node.container("client", 1, &Kind::on(&["front"]));
    // A server each, so that no way meets connections that the kernel remembers of another.
    let server = node.container("plain", 1, &Kind::on(&["front"]));
    let balanced = node.container("web", 1, &Kind::on(&["front"]));
    let published = node.container("published", 1, &Kind::on(&["front"]));
    // Two more containers joined without rules: what the pair of devices itself costs.
    let (one, other) = (Namespace::new().unwrap(), Namespace::new().unwrap());
    wire::join((&one, wire::CABLE), (&other, wire::CABLE));
    let ends = [Ipv4Addr::new(198, 51, 100, 1), Ipv4Addr::new(198, 51, 100, 2)];
    for (namespace, end) in [(&one, ends[0]), (&other, ends[1])] {
        namespace.run(|| wire::address(wire::CABLE, end.into(), 24)).unwrap();
    }
    node.publish(
        "published",
        vec![1, 2, 3].into_iter().map(|port| node::port(port, port)).collect(),
    );
    node.apply();
    for container in [&server, &balanced, &published] {
        serve(&container.namespace, container.addresses.v4);
    }
    one.run(|| wire::start("lo")).unwrap();
    serve(&one, Ipv4Addr::LOCALHOST);
    serve(&other, ends[1]);
    let address = node.virtual_address("web", 0);
    let SocketAddr::V4(address) = address else { panic!("{address} is of IPv4") };
    let ways: [(&str, &Namespace, Ipv4Addr); 5] = [
        ("loopback device", &one, Ipv4Addr::LOCALHOST),
        ("pair of devices without rules", &one, ends[1]),
        ("container to container, by its address", &client.namespace, server.addresses.v4),
        ("container to container, virtual address", &client.namespace, *address.ip()),
        ("from outside, published port", &node.outside, node::OUTSIDE),
    ];
    let (mut rates, mut delays, mut flows) =
        (vec![vec![]; ways.len()], vec![vec![]; ways.len()], vec![vec![]; ways.len()]);
    for _ in 0..LONG_ROUNDS {
        for (number, (_, from, to)) in ways.iter().enumerate() {
            rates[number].push(connections(from, *to));
            delays[number].push(questions(from, *to));
            flows[number].push(bytes(from, *to));
        }
    }
    for (number, (name, ..)) in ways.iter().enumerate() {
        let rate = f64::from(CONNECTIONS) / median(&mut rates[number]).as_secs_f64();
        let delay = median(&mut delays[number]) / QUESTIONS;
        let gigabytes = 0.536_870_912 / median(&mut flows[number]).as_secs_f64();
        println!("{name:<44} {rate:>8.0} connections/s {delay:>9.2?} {gigabytes:>6.2} GB/s");
    }
}
