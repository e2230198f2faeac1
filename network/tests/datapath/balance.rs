//! Connections to a service are spread over those of its instances that are ready.

use core::net::SocketAddr;
use core::time::Duration;
use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};

use limpet_protocol::spec::PublishedPort;

use crate::node::{Kind, Node, OUTSIDE, is_root, port};
use crate::talk::{ask, ask_again, assert_closed, connect, hear, serve, serve_udp, udp_client};

/// How many connections are opened.
const CONNECTIONS: u32 = 1_000;

/// Who answers how many connections from a container.
fn shares(from: &limpet_network::namespace::Namespace, to: SocketAddr) -> BTreeMap<String, u32> {
    let count = || {
        let mut shares = BTreeMap::new();
        for _ in 0..CONNECTIONS {
            let (name, _) = hear(&mut connect(to, Duration::from_secs(10)).unwrap()).unwrap();
            *shares.entry(name).or_default() += 1;
        }
        shares
    };
    from.run(count).unwrap()
}

#[test]
fn connections_are_spread_evenly_and_only_over_who_is_ready() {
    if !is_root() {
        return;
    }
    let mut node = Node::new();
    let client = node.container("client", 1, &Kind::on(&["front"]));
    let mut servers = vec![];
    for slot in 1..=4 {
        let server = node.container("web", slot, &Kind::on(&["front"]));
        serve(&server.namespace, &format!("web.{slot}"), (server.v4(), 80));
        servers.push(server);
    }
    node.apply();
    let address = node.virtual_address("web", 80);
    let even = shares(&client.namespace, address);
    assert_eq!(even.len(), 4, "{even:?}");
    for share in even.values() {
        assert!(share.abs_diff(CONNECTIONS / 4) <= CONNECTIONS / 40, "{even:?}");
    }
    node.ready("web", 2, false);
    node.forget("web", 3);
    node.apply();
    let fewer = shares(&client.namespace, address);
    assert_eq!(fewer.keys().collect::<Vec<_>>(), ["web.1", "web.4"], "{fewer:?}");
}

#[test]
fn a_connection_goes_on_whatever_becomes_of_the_rules() {
    if !is_root() {
        return;
    }
    let mut node = Node::new();
    let client = node.container("client", 1, &Kind::on(&["front"]));
    let first = node.container("web", 1, &Kind::on(&["front"]));
    let second = node.container("web", 2, &Kind::on(&["front"]));
    serve(&first.namespace, "web.1", (first.v4(), 80));
    serve(&second.namespace, "web.2", (second.v4(), 80));
    node.ready("web", 2, false);
    node.apply();
    let address = node.virtual_address("web", 80);
    let mut stream =
        client.namespace.run(|| connect(address, Duration::from_secs(10))).unwrap().unwrap();
    assert_eq!(hear(&mut stream).unwrap().0, "web.1");
    for round in 0..50_u8 {
        // In every other round new connections go to the other instance.
        node.ready("web", 1, round % 2 == 1);
        node.ready("web", 2, round % 2 == 0);
        node.apply();
        stream.write_all(&[round]).unwrap();
        let mut heard = [0];
        stream.read_exact(&mut heard).unwrap();
        assert_eq!(heard, [round]);
        let wanted = if round % 2 == 0 { "web.2" } else { "web.1" };
        assert_eq!(ask(&client.namespace, address).unwrap().0, wanted);
    }
}

#[test]
fn an_instance_reaches_itself_by_its_services_name() {
    if !is_root() {
        return;
    }
    let mut node = Node::new();
    let web = node.container("web", 1, &Kind::on(&["front"]));
    serve(&web.namespace, "web.1", (web.v4(), 80));
    node.publish("web", vec![port(8080, 80)]);
    node.apply();
    assert_eq!(ask(&web.namespace, node.virtual_address("web", 80)).unwrap().0, "web.1");
    assert_eq!(ask(&web.namespace, (OUTSIDE, 8080)).unwrap().0, "web.1");
}

#[test]
fn datagrams_of_one_client_follow_the_instances() {
    if !is_root() {
        return;
    }
    let mut node = Node::new();
    let client = node.container("client", 1, &Kind::on(&["front"]));
    let mut servers = vec![];
    for slot in [1, 2] {
        let server = node.container("web", slot, &Kind::on(&["front"]));
        serve_udp(&server.namespace, &format!("web.{slot}"), (server.v4(), 53));
        node.ready("web", slot, false);
        servers.push(server);
    }
    let udp = PublishedPort { udp: true, ..port(5353, 53) };
    node.publish("web", vec![udp]);
    node.apply();
    let inside = udp_client(&client.namespace, node.virtual_address("web", 53));
    let outside = udp_client(&node.outside, (OUTSIDE, 5353).into());
    // Each keeps its port: without anybody to ask, with one, with another.
    for socket in [&inside, &outside] {
        assert_closed(ask_again(socket));
    }
    for (ready, other) in [(1, 2), (2, 1), (1, 2)] {
        node.ready("web", ready, true);
        node.ready("web", other, false);
        node.apply();
        for socket in [&inside, &outside] {
            assert_eq!(ask_again(socket).unwrap().0, format!("web.{ready}"));
        }
    }
}

#[test]
fn a_connection_to_an_instance_that_is_gone_is_cut() {
    if !is_root() {
        return;
    }
    let mut node = Node::new();
    let client = node.container("client", 1, &Kind::on(&["front"]));
    let lost = node.container("web", 1, &Kind::on(&["front"]));
    serve(&lost.namespace, "web.1", (lost.v4(), 80));
    node.apply();
    let address = node.virtual_address("web", 80);
    let mut stream =
        client.namespace.run(|| connect(address, Duration::from_secs(10))).unwrap().unwrap();
    hear(&mut stream).unwrap();
    // Its device goes before it can say anything.
    node.datapath.detach(&lost.device);
    node.forget("web", 1);
    node.apply();
    stream.write_all(b"?").unwrap();
    let error = stream.read_exact(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}
