//! Who reaches whom.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::time::Duration;
use std::net::UdpSocket;

use limpet_network::datapath::Applied;
use limpet_network::namespace::Namespace;
use limpet_network::rules::SoleForwarder;
use socket2::{Domain, Protocol, Socket, Type};

use crate::node::{Kind, Node, OUTSIDE, OUTSIDE6, SOLE, STRANGER, STRANGER6, is_root, key, port};
use crate::talk::{ask, ask_in_vain, ask_udp, assert_closed, assert_prohibited, serve, serve_udp};
use crate::wire;

#[test]
fn containers_of_a_network_reach_each_other_and_no_others() {
    if !is_root() {
        return;
    }
    let mut node = Node::new();
    assert_eq!(node.ground.sole_forwarder, SOLE);
    let web = node.container("web", 1, &Kind::on(&["front"]));
    let api = node.container("api", 1, &Kind::on(&["front", "back"]));
    let db = node.container("db", 1, &Kind::on(&["back"]));
    assert_eq!(node.apply(), Applied::Changed);
    for (container, name) in [(&web, "web"), (&api, "api"), (&db, "db")] {
        serve(&container.namespace, name, (container.v4(), 80));
        serve_udp(&container.namespace, name, (container.v4(), 80));
    }
    let told = |name: &str, by: IpAddr| (name.to_owned(), by);
    assert_eq!(ask(&web.namespace, (api.v4(), 80)).unwrap(), told("api", web.v4()));
    assert_eq!(ask(&api.namespace, (web.v4(), 80)).unwrap(), told("web", api.v4()));
    assert_eq!(ask_udp(&api.namespace, (db.v4(), 80)).unwrap(), told("db", api.v4()));
    assert_eq!(ask(&db.namespace, node.virtual_address("api", 80)).unwrap(), told("api", db.v4()));
    assert_prohibited(ask(&web.namespace, (db.v4(), 80)));
    assert_prohibited(ask(&db.namespace, (web.v4(), 80)));
    assert_prohibited(ask_udp(&web.namespace, (db.v4(), 80)));
    assert_prohibited(ask(&web.namespace, node.virtual_address("db", 80)));
    assert_prohibited(ask(&web.namespace, (Ipv4Addr::new(10, 129, 7, 7), 80)));
}

#[test]
fn containers_reach_the_outside_unless_their_networks_are_internal() {
    if !is_root() {
        return;
    }
    let mut node = Node::new();
    let web = node.container("web", 1, &Kind::on(&["front"]));
    let inside = Kind { leads_outside: false, ..Kind::on(&["front"]) };
    let db = node.container("db", 1, &inside);
    node.apply();
    serve(&node.outside, "stranger", (STRANGER, 80));
    serve_udp(&node.outside, "stranger", (STRANGER, 80));
    let seen = ("stranger".to_owned(), IpAddr::V4(OUTSIDE));
    assert_eq!(ask(&web.namespace, (STRANGER, 80)).unwrap(), seen);
    assert_eq!(ask_udp(&web.namespace, (STRANGER, 80)).unwrap(), seen);
    assert_prohibited(ask(&db.namespace, (STRANGER, 80)));
    serve(&db.namespace, "db", (db.v4(), 80));
    assert_eq!(ask(&web.namespace, (db.v4(), 80)).unwrap().0, "db");
}

#[test]
fn nobody_outside_reaches_a_container_that_publishes_nothing() {
    if !is_root() {
        return;
    }
    let mut node = Node::new();
    let web = node.container("web", 1, &Kind { six: true, ..Kind::on(&["front"]) });
    node.apply();
    serve(&web.namespace, "web", (web.v4(), 80));
    ask_in_vain(&node.outside, (web.v4(), 80));
    assert_eq!(ask(&node.namespace, (web.v4(), 80)).unwrap().0, "web");
}

#[test]
fn guarded_addresses_and_the_node_are_out_of_reach_without_access() {
    if !is_root() {
        return;
    }
    let mut node = Node::new();
    let web = node.container("web", 1, &Kind::on(&["front"]));
    let admin = node.container("admin", 1, &Kind { node_access: true, ..Kind::on(&["front"]) });
    let broker = SocketAddr::from((STRANGER, 8883));
    node.picture.guarded.insert(broker);
    node.apply();
    serve(&node.outside, "broker", broker);
    serve(&node.outside, "other", (STRANGER, 80));
    serve(&node.namespace, "agent", (OUTSIDE, 7000));
    serve(&node.namespace, "loopback", (Ipv4Addr::LOCALHOST, 7001));
    let gateway = node.picture.gateway.v4;
    serve_udp(&node.namespace, "dns", (gateway, 53));
    serve(&node.namespace, "dns", (gateway, 53));
    assert_prohibited(ask(&web.namespace, broker));
    assert_eq!(ask(&web.namespace, (STRANGER, 80)).unwrap().0, "other");
    assert_eq!(ask(&admin.namespace, broker).unwrap().0, "broker");
    assert_closed(ask(&web.namespace, (OUTSIDE, 7000)));
    assert_eq!(ask(&admin.namespace, (OUTSIDE, 7000)).unwrap().0, "agent");
    assert_eq!(ask_udp(&web.namespace, (gateway, 53)).unwrap(), ("dns".into(), web.v4()));
    assert_eq!(ask(&web.namespace, (gateway, 53)).unwrap(), ("dns".into(), web.v4()));
}

/// A socket that hears what arrives for an address in a namespace, and what it hears within a moment.
fn ear(namespace: &Namespace, address: IpAddr) -> UdpSocket {
    let socket = namespace.run(|| UdpSocket::bind((address, 7001))).unwrap().unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    socket
}

/// Sends a datagram out of a container's device, whatever the routes say and from whatever address.
fn send_by_device(from: &Namespace, source: IpAddr, to: IpAddr) {
    let send = || {
        let domain = Domain::for_address((to, 0).into());
        let socket = Socket::new(domain, Type::DGRAM, None)?;
        socket.bind_device(Some(b"eth0"))?;
        socket.bind(&SocketAddr::from((source, 0)).into())?;
        socket.send_to(b"who", &SocketAddr::from((to, 7001)).into())
    };
    from.run(send).unwrap().unwrap();
}

#[test]
fn the_loopback_device_of_the_node_is_out_of_reach() {
    if !is_root() {
        return;
    }
    let mut node = Node::new();
    let web = node.container("web", 1, &Kind { node_access: true, ..Kind::on(&["front"]) });
    let loopback = IpAddr::from(Ipv4Addr::LOCALHOST);
    let ear = ear(&node.namespace, loopback);
    let heard = || {
        send_by_device(&web.namespace, web.v4(), loopback);
        ear.recv(&mut [0; 8]).is_ok()
    };
    assert!(heard(), "without rules it would be reached, so that this test means something");
    node.apply();
    assert!(!heard());
}

#[test]
fn nobody_speaks_with_the_address_of_another() {
    if !is_root() {
        return;
    }
    let mut node = Node::new();
    let six = Kind { six: true, ..Kind::on(&["front"]) };
    let web = node.container("web", 1, &six);
    let liar = node.container("liar", 1, &six);
    let db = node.container("db", 1, &six);
    node.apply();
    for (own, other, victim) in [(liar.v4(), web.v4(), db.v4()), (liar.v6(), web.v6(), db.v6())] {
        let prefix = if own.is_ipv4() { 32 } else { 128 };
        liar.namespace.run(|| wire::address("eth0", other, prefix)).unwrap();
        let ear = ear(&db.namespace, victim);
        let heard = || ear.recv(&mut [0; 8]).is_ok();
        send_by_device(&liar.namespace, own, victim);
        assert!(heard(), "from its own address it is heard");
        send_by_device(&liar.namespace, other, victim);
        assert!(!heard(), "from {other} it was heard");
    }
}

#[test]
fn ipv6_is_like_ipv4() {
    if !is_root() {
        return;
    }
    let mut node = Node::new();
    let six = |networks| Kind { six: true, ..Kind::on(networks) };
    let web = node.container("web", 1, &six(&["front"]));
    let api = node.container("api", 1, &six(&["front", "back"]));
    let db = node.container("db", 1, &six(&["back"]));
    node.publish("api", vec![port(8080, 80)]);
    node.apply();
    for (container, name) in [(&web, "web"), (&api, "api"), (&db, "db")] {
        serve(&container.namespace, name, (container.v6(), 80));
    }
    serve(&node.outside, "stranger", (STRANGER6, 80));
    let told = |name: &str, by: IpAddr| (name.to_owned(), by);
    assert_eq!(ask(&web.namespace, (api.v6(), 80)).unwrap(), told("api", web.v6()));
    assert_prohibited(ask(&web.namespace, (db.v6(), 80)));
    let address = node.picture.services[&key("api")].virtual_address.v6.unwrap();
    assert_eq!(ask(&web.namespace, (address, 80)).unwrap(), told("api", web.v6()));
    assert_eq!(ask(&api.namespace, (address, 80)).unwrap().0, "api", "it reaches itself");
    assert_eq!(ask(&web.namespace, (STRANGER6, 80)).unwrap(), told("stranger", OUTSIDE6.into()));
    let seen = told("api", STRANGER6.into());
    assert_eq!(ask(&node.outside, (OUTSIDE6, 8080)).unwrap(), seen);
    assert_eq!(ask(&node.namespace, (OUTSIDE6, 8080)).unwrap().0, "api");
    assert_closed(ask(&node.namespace, (Ipv6Addr::LOCALHOST, 8080)));
}

#[test]
fn an_address_for_which_nobody_is_ready_is_refused_at_once() {
    if !is_root() {
        return;
    }
    let mut node = Node::new();
    let web = node.container("web", 1, &Kind { six: true, ..Kind::on(&["front"]) });
    let _api = node.container("api", 1, &Kind { ready: false, ..Kind::on(&["front"]) });
    node.publish("api", vec![port(8080, 80)]);
    node.apply();
    // Something of the node's that listens everywhere is not what a virtual address stands for.
    serve(&node.namespace, "agent", (Ipv4Addr::UNSPECIFIED, 80));
    let address = node.virtual_address("api", 80);
    assert_closed(ask(&web.namespace, address));
    assert_closed(ask_udp(&web.namespace, address));
    assert_closed(ask(&node.namespace, address));
    assert_closed(ask(&web.namespace, (OUTSIDE, 8080)));
    assert_closed(ask(&node.outside, (OUTSIDE, 8080)));
    let six = node.picture.services[&key("api")].virtual_address.v6.unwrap();
    assert_closed(ask(&web.namespace, (six, 80)));
    node.ready("api", 1, true);
    node.apply();
    assert_closed(ask(&web.namespace, address));
}

#[test]
fn what_is_for_an_instance_that_has_gone_leaves_the_node_by_no_other_way() {
    if !is_root() {
        return;
    }
    let mut node = Node::new();
    let web = node.container("web", 1, &Kind::on(&["front"]));
    let api = node.container("api", 1, &Kind { six: true, ..Kind::on(&["front"]) });
    node.apply();
    // Somebody outside who would take it.
    node.outside.run(|| wire::address(wire::CABLE, api.v4(), 32)).unwrap();
    serve(&node.outside, "stranger", (api.v4(), 80));
    let (address, device) = (api.v4(), api.device.clone());
    drop(api);
    let names = || std::fs::read_to_string("/proc/thread-self/net/dev").unwrap();
    crate::leftovers::wait_for("the device stays", || !names().contains(&device));
    assert_prohibited(ask(&web.namespace, (address, 80)));
    assert_prohibited(ask(&node.namespace, (address, 80)));
}

/// Whether an echo request is answered.
fn ping(from: &Namespace, to: IpAddr) -> bool {
    let send = || {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::ICMPV4))?;
        socket.set_read_timeout(Some(Duration::from_millis(600)))?;
        // Type 8, code 0; the kernel writes checksum and identity.
        let request = [8, 0, 0, 0, 0, 0, 0, 1];
        socket.send_to(&request, &SocketAddr::from((to, 0)).into())?;
        std::io::Read::read(&mut &socket, &mut [0; 64])
    };
    from.run(send).unwrap().is_ok()
}

#[test]
fn echo_requests_are_answered_where_connections_may_go() {
    if !is_root() {
        return;
    }
    let mut node = Node::new();
    let web = node.container("web", 1, &Kind::on(&["front"]));
    let api = node.container("api", 1, &Kind::on(&["front"]));
    let db = node.container("db", 1, &Kind::on(&["back"]));
    node.apply();
    assert!(ping(&web.namespace, node.picture.gateway.v4.into()), "the gateway");
    assert!(ping(&web.namespace, api.v4()), "another container");
    assert!(ping(&web.namespace, node.virtual_address("api", 0).ip()), "a service");
    assert!(ping(&web.namespace, STRANGER.into()), "somebody outside");
    assert!(!ping(&web.namespace, db.v4()), "a container of another network");
    assert!(!ping(&web.namespace, OUTSIDE.into()), "the node by another address");
}

#[test]
fn a_node_that_forwarded_nothing_before_forwards_nothing_else() {
    if !is_root() {
        return;
    }
    let mut node = Node::new();
    let beyond = Namespace::new().unwrap();
    wire::join((&node.namespace, "second"), (&beyond, wire::CABLE));
    let (near, far) = (Ipv4Addr::new(198, 51, 100, 1), Ipv4Addr::new(198, 51, 100, 2));
    wire::address("second", near.into(), 24);
    beyond
        .run(|| {
            wire::address(wire::CABLE, far.into(), 24);
            wire::route(None, near.into());
        })
        .unwrap();
    node.outside.run(|| wire::route(None, OUTSIDE.into())).unwrap();
    serve(&beyond, "beyond", (far, 80));
    node.apply();
    ask_in_vain(&node.outside, (far, 80));
    assert_eq!(ask(&node.namespace, (far, 80)).unwrap().0, "beyond");
    // Where others forwarded before, what is theirs is left alone.
    node.ground.sole_forwarder = SoleForwarder::default();
    node.apply();
    assert_eq!(ask(&node.outside, (far, 80)).unwrap().0, "beyond");
}
