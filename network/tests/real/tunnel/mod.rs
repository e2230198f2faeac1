//! The tunnel between places that are nodes: what passes, what does not, and what is not lost.

pub(crate) mod node;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use limpet_network::tunnel::{PeerStatus, PrivateKey, Tunnel, TunnelPeer};
use limpet_protocol::network::TunnelKind;

use crate::place::Place;
use node::{Node, pair};

#[test]
fn packets_pass_encrypted_and_only_to_the_right_peer() {
    let Some([a, b]) = pair() else { return };
    a.know(&[b.peer()]);
    b.know(&[a.peer()]);
    b.echo();
    a.ping(&b);
    let status = a.status();
    assert!(status[0].last_handshake.is_some());
    assert_eq!(status[0].endpoint, Some(b.outside()));
    assert!(status[0].received > 0 && status[0].sent > 0);
    // Both directions, large packets and IPv6 within.
    a.echo();
    b.ping(&a);
    a.ping_with(b.address, &[7; 1392]);
    a.echo_at(a.address6);
    b.ping_at(a.address6);
    // More peers do not disturb those that are there.
    let stranger = PrivateKey::make().unwrap().public();
    let other = TunnelPeer {
        key: stranger,
        endpoints: vec![],
        allowed: vec!["10.129.9.0/24".parse().unwrap()],
        keepalive: None,
    };
    let before = a.status()[0].received;
    a.know(&[other.clone(), b.peer()]);
    let of_b = |statuses: Vec<PeerStatus>| statuses.into_iter().find(|s| s.key != stranger);
    let now = of_b(a.status()).unwrap();
    assert!(now.received >= before && now.last_handshake.is_some());
    a.ping(&b);
    // One that is no peer any more is not heard.
    a.know(&[other]);
    assert!(!b.reaches(a.address));
    a.know(&[b.peer()]);
    b.know(&[]);
    b.know(&[a.peer()]);
    a.ping(&b);
}

#[test]
fn who_has_not_the_key_gets_nothing_through() {
    let Some([a, b]) = pair() else { return };
    let impostor = PrivateKey::make().unwrap().public();
    a.know(&[TunnelPeer { key: impostor, ..b.peer() }]);
    b.know(&[a.peer()]);
    b.echo();
    assert!(!a.reaches(b.address));
    assert_eq!(a.status()[0].last_handshake, None);
    assert!(a.status()[0].sent > 0, "it was tried");
    // Nor does one that does not know us, and nor do bytes.
    a.know(&[b.peer()]);
    b.know(&[]);
    assert!(!a.reaches(b.address));
    a.throw_garbage_at(b.outside());
    b.know(&[a.peer()]);
    a.ping(&b);
}

#[test]
fn a_peer_may_send_from_its_own_addresses_only() {
    let Some([a, b]) = pair() else { return };
    // An address of a third node, and one of the other's.
    for stolen in ["10.129.3.1", "10.129.2.77"] {
        a.place.ip(&format!("address add {stolen}/32 dev lo"));
    }
    a.know(&[b.peer()]);
    b.know(&[a.peer()]);
    let heard = b.listen();
    for (from, text) in
        [("10.129.3.1", "forged"), ("10.129.2.77", "forged"), ("10.129.1.1", "true")]
    {
        a.say((from.parse::<IpAddr>().unwrap(), 0).into(), (b.address, 9).into(), text);
    }
    assert_eq!(heard.next(), "true");
    // A fixed address outside the pool is routed when it is allowed.
    a.place.ip("address add 172.20.0.5/32 dev lo");
    let mut fixed = a.peer();
    fixed.allowed.push("172.20.0.5/32".parse().unwrap());
    b.know(&[fixed]);
    a.say("172.20.0.5:0".parse().unwrap(), (b.address, 9).into(), "fixed");
    assert_eq!(heard.next(), "fixed");
    a.echo_at("172.20.0.5".parse().unwrap());
    b.ping_at("172.20.0.5".parse().unwrap());
    b.know(&[a.peer()]);
    assert!(!b.reaches("172.20.0.5".parse().unwrap()));
}

#[test]
fn the_place_where_a_peer_answers_is_found_among_several() {
    let Some([a, b]) = pair() else { return };
    let mut peer = b.peer();
    peer.endpoints.insert(0, "198.51.100.7:51820".parse().unwrap());
    peer.endpoints.insert(0, "[2001:db8::7]:51820".parse().unwrap());
    a.know(&[peer]);
    b.know(&[TunnelPeer { endpoints: vec![], ..a.peer() }]);
    b.echo();
    a.ping(&b);
    assert_eq!(a.status()[0].endpoint, Some(b.outside()));
    assert_eq!(b.status()[0].endpoint, Some(a.outside()));
}

#[test]
fn a_node_that_only_calls_out_is_reached_through_its_own_call() {
    let Some([a, b]) = pair() else { return };
    // Nobody gets to b from outside but in answer, as behind a NAT.
    a.know(&[TunnelPeer { endpoints: vec![], ..b.peer() }]);
    b.echo();
    assert!(!a.reaches(b.address));
    b.know(&[TunnelPeer { keepalive: Some(Duration::from_secs(1)), ..a.peer() }]);
    a.ping(&b);
}

#[test]
fn a_partition_heals_and_a_node_may_move() {
    let Some([a, b]) = pair() else { return };
    a.know(&[b.peer()]);
    b.know(&[TunnelPeer { keepalive: Some(Duration::from_secs(1)), ..a.peer() }]);
    b.echo();
    a.ping(&b);
    b.place.ip("link set wire down");
    assert!(!a.reaches(b.address));
    b.place.ip("link set wire up");
    a.ping(&b);
    // It moves, and says so by the packets that it sends.
    b.place.ip("address delete 198.18.0.2/24 dev wire");
    b.place.ip("address add 198.18.0.22/24 dev wire");
    a.ping(&b);
    let moved = SocketAddr::new("198.18.0.22".parse().unwrap(), node::PORT);
    assert_eq!(a.status()[0].endpoint, Some(moved));
}

#[test]
fn a_node_that_starts_again_is_heard_again() {
    let Some([a, mut b]) = pair() else { return };
    a.know(&[b.peer()]);
    b.know(&[a.peer()]);
    b.echo();
    a.ping(&b);
    // The other side still has the keys of before: the first packets are lost, then there are new ones.
    b.restart();
    b.know(&[TunnelPeer { keepalive: Some(Duration::from_secs(1)), ..a.peer() }]);
    a.ping(&b);
}

#[test]
fn without_wireguard_in_the_kernel_the_agent_takes_over_and_leaves_nothing() {
    let Some(place) = Place::new() else { return };
    let devices = || place.run(|| std::fs::read_to_string("/proc/thread-self/net/dev").unwrap());
    let settings = Node::settings(PrivateKey::make().unwrap(), true);
    let tunnel = place.run(|| Tunnel::open(settings)).unwrap();
    assert!(matches!(tunnel.kind(), TunnelKind::Kernel | TunnelKind::Userland));
    assert!(devices().contains(node::DEVICE));
    tunnel.remove().unwrap();
    assert!(!devices().contains(node::DEVICE));
    let settings = Node::settings(PrivateKey::make().unwrap(), false);
    let tunnel = place.run(|| Tunnel::open(settings)).unwrap();
    assert_eq!(tunnel.kind(), TunnelKind::Userland);
    drop(tunnel);
    assert!(!devices().contains(node::DEVICE));
}

#[test]
fn what_is_not_there_is_said() {
    let Some(place) = Place::new() else { return };
    let open = |settings| place.run(|| Tunnel::open(settings));
    let taken = Node::settings(PrivateKey::make().unwrap(), false);
    let port = taken.port;
    let socket = place.run(move || std::net::UdpSocket::bind(("0.0.0.0", port)).unwrap());
    let error = open(taken).unwrap_err();
    assert_eq!(error.to_string(), format!("listen for other nodes on UDP port {port}"));
    drop(socket);
    let mut long = Node::settings(PrivateKey::make().unwrap(), false);
    long.device = "a-name-of-16-byt".into();
    assert_eq!(open(long).unwrap_err().to_string(), "make a TUN device with /dev/net/tun");
    let first = open(Node::settings(PrivateKey::make().unwrap(), false)).unwrap();
    let mut other = Node::settings(PrivateKey::make().unwrap(), false);
    other.port += 1;
    assert!(open(other).is_err(), "the name is taken");
    drop(first);
    let any: IpAddr = "10.129.5.1".parse().unwrap();
    let mut absent = Node::settings(PrivateKey::make().unwrap(), false);
    absent.source = Some(node::addresses(any));
    let error = open(absent).unwrap_err().to_string();
    assert!(error.contains("lead 10.128.0.0/10 to"), "{error}");
}
