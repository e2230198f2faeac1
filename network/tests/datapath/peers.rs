//! Two nodes. A cable between them stands for the tunnel, which has tests of its own: here it matters
//! what may come out of it.

use core::net::{IpAddr, Ipv4Addr};
use std::collections::BTreeSet;
use std::thread;

use limpet_network::picture::{Instance, Peer, Place};

use crate::node::{Kind, Node, OUTSIDE, attempt, is_root, network, node_id, picture, port};
use crate::talk::{PATIENCE, ask, ask_in_vain, assert_prohibited, connect, hear, serve};
use crate::wire;

/// Where neighbours tell each other of their instances.
const NEIGHBOURS: u16 = 7946;

/// The address of a node's end of the cable.
fn end(number: u8) -> IpAddr {
    [198, 51, 100, number].into()
}

/// Makes the cable the way from this node, whose thread this is, to another.
fn lead(node: &Node, here: u8, there: u8) {
    wire::address(node.ground.tunnel.as_deref().unwrap(), end(here), 24);
    wire::route(Some(([10, 129, there, 0].into(), 24)), end(there));
}

/// Tells a node of another that has instances in a network.
fn introduce(node: &mut Node, number: u8, networks: &[&str]) {
    let other = picture(number);
    let peer = Peer {
        subnet: other.subnet,
        subnet6: other.subnet6,
        networks: networks.iter().map(|name| network(name)).collect(),
    };
    node.picture.peers.insert(node_id(number), peer);
}

/// Tells a node of an instance on another.
fn tell(node: &mut Node, of: &Node, number: u8, (service, slot): (&str, u32)) {
    let instance = of.picture.instances[&attempt(service, slot)].clone();
    let networks: BTreeSet<_> = instance.networks.clone();
    let there = Instance { place: Place::Site(node_id(number)), ..instance };
    node.picture.instances.insert(attempt(service, slot), there);
    node.service(service, &networks, vec![]);
}

/// A node whose namespace another thread has been in: its data path is used in that thread only.
fn in_its_thread<T: Send>(node: &mut Node, work: impl FnOnce(&mut Node) -> T + Send) -> T {
    let namespace = limpet_network::namespace::Namespace::from(
        std::os::fd::AsFd::as_fd(&node.namespace).try_clone_to_owned().unwrap(),
    );
    namespace.run(|| work(node)).unwrap()
}

/// Nodes 3 and 4, joined, each with what it needs to know of the other's network `front`.
fn two_nodes() -> (Node, Node) {
    let mut three = Node::numbered(3);
    let mut four = thread::spawn(|| Node::numbered(4)).join().unwrap();
    for node in [&mut three, &mut four] {
        node.ground.tunnel = Some(node.ground.tag.tunnel_device());
        node.ground.neighbour_port = Some(NEIGHBOURS);
    }
    let ends = (three.ground.tag.tunnel_device(), four.ground.tag.tunnel_device());
    wire::join((&three.namespace, &ends.0), (&four.namespace, &ends.1));
    lead(&three, 3, 4);
    in_its_thread(&mut four, |four| lead(four, 4, 3));
    introduce(&mut three, 4, &["front"]);
    introduce(&mut four, 3, &["front"]);
    (three, four)
}

#[test]
fn instances_of_other_nodes_are_reached_as_far_as_both_nodes_allow() {
    if !is_root() {
        return;
    }
    let (mut three, mut four) = two_nodes();
    let client = three.container("client", 1, &Kind::on(&["front"]));
    let liar = three.container("liar", 1, &Kind::on(&["back"]));
    let (web, db) = in_its_thread(&mut four, |four| {
        let web = four.container("web", 1, &Kind::on(&["front"]));
        (web, four.container("db", 1, &Kind::on(&["back"])))
    });
    tell(&mut three, &four, 4, ("web", 1));
    tell(&mut three, &four, 4, ("db", 1));
    // Of the liar node 4 knows nothing; node 3 has no business in the network `back`.
    tell(&mut four, &three, 3, ("client", 1));
    three.apply();
    in_its_thread(&mut four, Node::apply);
    serve(&web.namespace, "web", (web.v4(), 80));
    serve(&db.namespace, "db", (db.v4(), 80));
    serve(&client.namespace, "client", (client.v4(), 80));
    let seen = ("web".to_owned(), client.v4());
    assert_eq!(ask(&client.namespace, (web.v4(), 80)).unwrap(), seen);
    assert_eq!(ask(&client.namespace, three.virtual_address("web", 80)).unwrap(), seen);
    assert_eq!(ask(&web.namespace, (client.v4(), 80)).unwrap().0, "client");
    assert_prohibited(ask(&client.namespace, (db.v4(), 80)));
    assert_prohibited(ask(&liar.namespace, (web.v4(), 80)));
    assert_prohibited(ask(&liar.namespace, (db.v4(), 80)));
}

#[test]
fn a_port_of_one_node_leads_to_an_instance_on_another() {
    if !is_root() {
        return;
    }
    let (mut three, mut four) = two_nodes();
    let other = three.container("other", 1, &Kind::on(&["elsewhere"]));
    let web = in_its_thread(&mut four, |four| four.container("web", 1, &Kind::on(&["front"])));
    tell(&mut three, &four, 4, ("web", 1));
    for node in [&mut three, &mut four] {
        node.publish("web", vec![port(8080, 80)]);
    }
    three.apply();
    in_its_thread(&mut four, Node::apply);
    serve(&web.namespace, "web", (web.v4(), 80));
    serve(&web.namespace, "secret", (web.v4(), 81));
    let seen = ("web".to_owned(), IpAddr::V4(three.picture.gateway.v4));
    assert_eq!(ask(&three.outside, (OUTSIDE, 8080)).unwrap(), seen);
    assert_eq!(ask(&three.namespace, (Ipv4Addr::LOCALHOST, 8080)).unwrap(), seen);
    assert_eq!(ask(&other.namespace, (OUTSIDE, 8080)).unwrap(), seen);
    // The far node lets through what is published and nothing else, whoever asks.
    ask_in_vain(&three.outside, (web.v4(), 81));
    assert_prohibited(ask(&other.namespace, (web.v4(), 80)));
}

#[test]
fn segments_are_no_longer_than_the_tunnel_bears() {
    if !is_root() {
        return;
    }
    let (mut three, mut four) = two_nodes();
    let ends = [three.ground.tag.tunnel_device(), four.ground.tag.tunnel_device()];
    for (node, end) in [&three, &four].into_iter().zip(&ends) {
        node.namespace.run(|| wire::limit(end, 1420)).unwrap();
    }
    let near = three.container("web", 1, &Kind::on(&["front"]));
    let web = in_its_thread(&mut four, |four| four.container("web", 2, &Kind::on(&["front"])));
    tell(&mut three, &four, 4, ("web", 2));
    for node in [&mut three, &mut four] {
        node.publish("web", vec![port(8080, 80)]);
    }
    serve(&near.namespace, "near", (near.v4(), 80));
    serve(&web.namespace, "web", (web.v4(), 80));
    in_its_thread(&mut four, Node::apply);
    let longest = |node: &mut Node, name: &str| {
        node.apply();
        let ask = || {
            let mut stream = connect((OUTSIDE, 8080).into(), PATIENCE).unwrap();
            assert_eq!(hear(&mut stream).unwrap().0, name);
            socket2::SockRef::from(&stream).tcp_mss().unwrap()
        };
        node.outside.run(ask).unwrap()
    };
    // The client's own device bears more, and it learns of the tunnel by the handshake alone.
    let here = longest(&mut three, "near");
    three.ready("web", 1, false);
    assert_eq!((here, longest(&mut three, "web")), (1448, 1368));
}

#[test]
fn out_of_the_tunnel_comes_nothing_but_what_was_agreed() {
    if !is_root() {
        return;
    }
    let (mut three, mut four) = two_nodes();
    let client = three.container("client", 1, &Kind::on(&["front"]));
    in_its_thread(&mut four, |four| {
        four.container("web", 1, &Kind::on(&["front"]));
    });
    three.apply();
    in_its_thread(&mut four, Node::apply);
    let gateway = four.picture.gateway.v4;
    serve(&four.namespace, "neighbours", (gateway, NEIGHBOURS));
    serve(&four.namespace, "agent", (gateway, 7000));
    let own = three.picture.gateway.v4;
    let from_gateway = |port| {
        let to = std::net::SocketAddr::from((gateway, port));
        three.namespace.run(|| crate::talk::ask_from(own.into(), to)).unwrap()
    };
    assert_eq!(from_gateway(NEIGHBOURS).unwrap().0, "neighbours");
    assert_eq!(from_gateway(7000).unwrap_err().kind(), std::io::ErrorKind::TimedOut);
    assert_prohibited(ask(&client.namespace, (gateway, NEIGHBOURS)));
    ask_in_vain(&three.namespace, (gateway, NEIGHBOURS));
    // Nobody leaves the fleet by another node.
    serve(&four.outside, "stranger", (crate::node::STRANGER, 80));
    let beyond = IpAddr::from([203, 0, 113, 9]);
    four.outside.run(|| wire::address(wire::CABLE, beyond, 32)).unwrap();
    wire::route(Some((beyond, 32)), end(4));
    ask_in_vain(&three.namespace, (beyond, 80));
}

#[test]
fn an_instance_with_a_fixed_address_is_known_beyond_its_node() {
    if !is_root() {
        return;
    }
    let (mut three, mut four) = two_nodes();
    let fixed = Ipv4Addr::new(172, 20, 0, 10);
    let kind = Kind { fixed: Some(fixed), ..Kind::on(&["front"]) };
    let guest = three.container("guest", 1, &kind);
    let (web, db) = in_its_thread(&mut four, |four| {
        let web = four.container("web", 1, &Kind::on(&["front"]));
        wire::route(Some((fixed.into(), 32)), end(3));
        (web, four.container("db", 1, &Kind::on(&["back"])))
    });
    tell(&mut three, &four, 4, ("web", 1));
    tell(&mut four, &three, 3, ("guest", 1));
    three.apply();
    in_its_thread(&mut four, Node::apply);
    serve(&web.namespace, "web", (web.v4(), 80));
    serve(&guest.namespace, "guest", (fixed, 80));
    let seen = ("web".to_owned(), IpAddr::V4(fixed));
    assert_eq!(ask(&guest.namespace, (web.v4(), 80)).unwrap(), seen);
    assert_eq!(ask(&web.namespace, (fixed, 80)).unwrap().0, "guest");
    assert_prohibited(ask(&guest.namespace, (db.v4(), 80)));
    assert_prohibited(ask(&db.namespace, (fixed, 80)));
}
