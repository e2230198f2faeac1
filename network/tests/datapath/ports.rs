//! Published ports: from outside, from the node and from other containers.

use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use core::time::Duration;

use limpet_protocol::spec::PublishedPort;
use socket2::{Domain, Socket, Type};

use crate::node::{Kind, Node, OUTSIDE, STRANGER, is_root, port};
use crate::talk::{ask, ask_in_vain, ask_udp, assert_closed, assert_prohibited, serve, serve_udp};
use crate::wire;

#[test]
fn a_published_port_leads_to_the_service_from_everywhere() {
    if !is_root() {
        return;
    }
    let mut node = Node::new();
    let web = node.container("web", 1, &Kind::on(&["front"]));
    let other = node.container("other", 1, &Kind::on(&["elsewhere"]));
    let inside = Kind { leads_outside: false, ..Kind::on(&["inside"]) };
    let inner = node.container("inner", 1, &inside);
    let udp = PublishedPort { udp: true, ..port(8080, 5353) };
    node.publish("web", vec![port(8080, 80), udp]);
    node.apply();
    serve(&web.namespace, "web", (web.v4(), 80));
    serve_udp(&web.namespace, "web", (web.v4(), 5353));
    let seen = |by: IpAddr| ("web".to_owned(), by);
    let gateway = IpAddr::V4(node.picture.gateway.v4);
    assert_eq!(ask(&node.outside, (OUTSIDE, 8080)).unwrap(), seen(STRANGER.into()));
    assert_eq!(ask_udp(&node.outside, (OUTSIDE, 8080)).unwrap(), seen(STRANGER.into()));
    assert_eq!(ask(&node.namespace, (Ipv4Addr::LOCALHOST, 8080)).unwrap(), seen(gateway));
    assert_eq!(ask_udp(&node.namespace, (Ipv4Addr::LOCALHOST, 8080)).unwrap(), seen(gateway));
    assert_eq!(ask(&node.namespace, (OUTSIDE, 8080)).unwrap(), seen(OUTSIDE.into()));
    assert_eq!(ask(&other.namespace, (OUTSIDE, 8080)).unwrap(), seen(other.v4()));
    assert_prohibited(ask(&inner.namespace, (OUTSIDE, 8080)));
    assert_closed(ask(&node.outside, (OUTSIDE, 8081)));
    ask_in_vain(&node.outside, (web.v4(), 80));
}

#[test]
fn a_port_that_is_bound_to_an_address_is_not_at_others() {
    if !is_root() {
        return;
    }
    let mut node = Node::new();
    let web = node.container("web", 1, &Kind::on(&["front"]));
    let bound =
        |ip: &str, number| PublishedPort { host_ip: Some(ip.to_owned()), ..port(number, 80) };
    let outside = OUTSIDE.to_string();
    let ports = vec![bound("127.0.0.1", 8081), bound(&outside, 8082), bound("0.0.0.0", 8083)];
    node.publish("web", ports);
    node.apply();
    serve(&web.namespace, "web", (web.v4(), 80));
    assert_eq!(ask(&node.namespace, (Ipv4Addr::LOCALHOST, 8081)).unwrap().0, "web");
    assert_closed(ask(&node.outside, (OUTSIDE, 8081)));
    // Not even if somebody outside leads 127.0.0.1 to the node. That this is led there is seen by a port
    // of the node's own, while the kernel is told to take such packets.
    let believe = |yes: &str| {
        for name in ["route_localnet", "accept_local"] {
            let setting = format!("/proc/sys/net/ipv4/conf/{}/{name}", wire::CABLE);
            std::fs::write(setting, yes).unwrap();
        }
    };
    let knock = |number| node.outside.run(|| knock_at_loopback(number)).unwrap();
    node.outside.run(|| wire::route(None, OUTSIDE.into())).unwrap();
    node.outside.run(|| believe("1")).unwrap();
    serve(&node.namespace, "own", (Ipv4Addr::LOCALHOST, 7002));
    believe("1");
    assert!(knock(7002), "nothing is led to the node, so that this test means nothing");
    believe("0");
    assert!(!knock(7002) && !knock(8081), "a port at 127.0.0.1 was reached from outside");
    assert_eq!(ask(&node.outside, (OUTSIDE, 8082)).unwrap().0, "web");
    assert_closed(ask(&node.namespace, (Ipv4Addr::LOCALHOST, 8082)));
    assert_eq!(ask(&node.outside, (OUTSIDE, 8083)).unwrap().0, "web");
    assert_eq!(ask(&node.namespace, (Ipv4Addr::LOCALHOST, 8083)).unwrap().0, "web");
}

/// Whether a connection out of the cable to 127.0.0.1 is answered by whoever is at its other end.
fn knock_at_loopback(number: u16) -> bool {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind_device(Some(wire::CABLE.as_bytes())).unwrap();
    socket.bind(&SocketAddr::from((STRANGER, 0)).into()).unwrap();
    let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, number));
    socket.connect_timeout(&loopback.into(), Duration::from_millis(300)).is_ok()
}

#[test]
fn name_server_and_neighbours_keep_their_ports() {
    if !is_root() {
        return;
    }
    let mut node = Node::new();
    let dns = node.container("dns", 1, &Kind::on(&["front"]));
    let udp = PublishedPort { udp: true, ..port(53, 53) };
    node.publish("dns", vec![port(53, 53), udp]);
    node.apply();
    let gateway = node.picture.gateway.v4;
    serve_udp(&node.namespace, "agent", (gateway, 53));
    serve_udp(&dns.namespace, "service", (dns.v4(), 53));
    assert_eq!(ask_udp(&dns.namespace, (gateway, 53)).unwrap().0, "agent");
    assert_eq!(ask_udp(&node.outside, (OUTSIDE, 53)).unwrap().0, "service");
}
