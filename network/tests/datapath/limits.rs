//! How much may pass.

use core::time::Duration;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Instant;

use limpet_protocol::spec::Bandwidth;

use crate::node::{Container, Kind, Node, is_root};

/// What is sent: longer than what passes at once.
const BYTES: usize = 2 * 1024 * 1024;
/// The limit of the slow one.
const SLOW: u64 = 2 * 1024 * 1024;

/// How long it takes to send that much from one container to another.
#[expect(clippy::disallowed_methods, reason = "a rate is measured")]
fn duration(from: &Container, to: &Container) -> Duration {
    let address = (to.v4(), 9);
    let listener = to.namespace.run(|| TcpListener::bind(address)).unwrap().unwrap();
    let sink = thread::spawn(move || {
        let mut stream = listener.accept().unwrap().0;
        let mut buffer = vec![0; 64 * 1024];
        let mut left = BYTES;
        while left > 0 {
            left -= stream.read(&mut buffer).unwrap();
        }
        stream.write_all(b"!").unwrap();
    });
    let begin = Instant::now();
    let mut stream = from.namespace.run(|| TcpStream::connect(address)).unwrap().unwrap();
    stream.write_all(&vec![0; BYTES]).unwrap();
    stream.read_exact(&mut [0]).unwrap();
    sink.join().unwrap();
    begin.elapsed()
}

#[test]
fn what_is_limited_is_slower_in_the_direction_that_is_limited() {
    if !is_root() {
        return;
    }
    let mut node = Node::new();
    let fast = node.container("fast", 1, &Kind::on(&["front"]));
    let limited = |bandwidth| Kind { bandwidth, ..Kind::on(&["front"]) };
    let ingress = Bandwidth { ingress: Some(SLOW), egress: None };
    let into = node.container("into", 1, &limited(ingress));
    let egress = Bandwidth { ingress: None, egress: Some(SLOW) };
    let out = node.container("out", 1, &limited(egress));
    node.apply();
    // A second's worth: a machine that is busy makes it longer only.
    let at_least = Duration::from_millis(750);
    assert!(duration(&fast, &into) > at_least);
    assert!(duration(&out, &fast) > at_least);
    let free = duration(&into, &fast).min(duration(&fast, &out));
    assert!(free < duration(&fast, &into), "the other direction is free: {free:?}");
}
