//! Tables: who asks, for what, and what is answered.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::collections::{BTreeMap, BTreeSet};

use limpet_protocol::id::InstanceId;
use limpet_protocol::spec::EndpointMode;

use super::{Answer, Names, RecordKind};
use crate::picture::{Addresses, Instance, Local, Picture, Place, Service};

const WEB1: [u8; 4] = [10, 129, 0, 2];
const SIX: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 1, 0, 0, 0, 3);

fn v4(address: [u8; 4]) -> Addresses {
    Addresses { v4: address.into(), v6: None }
}

fn service(networks: &[(&str, &[&str])], virtual_address: u8, mode: EndpointMode) -> Service {
    let networks = networks.iter().map(|(network, aliases)| {
        (network.parse().unwrap(), aliases.iter().map(ToString::to_string).collect())
    });
    Service {
        networks: networks.collect(),
        virtual_address: v4([10, 128, 0, virtual_address]),
        mode,
        spread: false,
        wakes: false,
        ports: vec![],
    }
}

fn instance(address: [u8; 4], networks: &[&str], place: Place) -> Instance {
    Instance {
        addresses: v4(address),
        networks: networks.iter().map(|network| network.parse().unwrap()).collect(),
        hostname: format!("host{}", address[3]),
        ready: true,
        place,
    }
}

fn here(leads_outside: bool) -> Place {
    Place::Here(Local {
        device: "lv".into(),
        leads_outside,
        node_access: false,
        name_servers: vec![],
    })
}

fn id(text: &str) -> InstanceId {
    text.parse().unwrap()
}

fn key(text: &str) -> (limpet_protocol::id::ApplicationName, limpet_protocol::id::ServiceName) {
    let (application, service) = text.split_once('/').unwrap();
    (application.parse().unwrap(), service.parse().unwrap())
}

/// Two applications: shop with web, db, queue (round robin) and a secluded vault, blog with a web and a db of its
/// own; the network `shared` joins shop's web and blog's web.
fn picture() -> Picture {
    use EndpointMode::{Dnsrr, Vip};
    let site = || Place::Site("n2".parse().unwrap());
    let far = || Place::Far("n3".parse().unwrap());
    let services = [
        ("shop/web", service(&[("shop_default", &["www"]), ("shared", &["front"])], 1, Vip)),
        ("shop/db", service(&[("shop_default", &[])], 2, Vip)),
        ("shop/queue", service(&[("shop_default", &["Jobs"])], 3, Dnsrr)),
        ("shop/vault", service(&[("shop_inner", &[])], 4, Vip)),
        ("blog/web", service(&[("blog_default", &[]), ("shared", &["front"])], 5, Vip)),
        ("blog/db", service(&[("blog_default", &[])], 6, Vip)),
    ];
    let queue = |n, place| instance([10, 129, 0, n], &["shop_default"], place);
    let instances = [
        ("shop.web.1", instance(WEB1, &["shop_default", "shared"], here(true))),
        ("shop.db.1", queue(3, here(true))),
        ("shop.queue.1", queue(11, site())),
        ("shop.queue.2", queue(12, site())),
        ("shop.queue.3", queue(13, far())),
        ("shop.queue.4", Instance { ready: false, ..queue(14, here(true)) }),
        ("shop.vault.1", instance([172, 20, 0, 5], &["shop_inner"], here(false))),
        ("blog.web.1", instance([10, 129, 0, 6], &["blog_default", "shared"], here(true))),
        ("blog.db.1", instance([10, 129, 0, 7], &["blog_default"], here(true))),
    ];
    Picture {
        pool: "10.128.0.0/10".parse().unwrap(),
        pool6: "fd00::/48".parse().unwrap(),
        subnet: "10.129.0.0/24".parse().unwrap(),
        subnet6: "fd00:0:0:1::/64".parse().unwrap(),
        gateway: v4([10, 129, 0, 1]),
        virtual_addresses: "10.128.0.0/16".parse().unwrap(),
        virtual_addresses6: "fd00::/64".parse().unwrap(),
        services: services.into_iter().map(|(name, service)| (key(name), service)).collect(),
        instances: instances.into_iter().map(|(name, i)| ((id(name), 1), i)).collect(),
        peers: BTreeMap::new(),
        guarded: BTreeSet::new(),
    }
}

/// `shop.web.1` asks for addresses.
fn ask(picture: &Picture, name: &str) -> Answer {
    Names::of(picture).answer(WEB1.into(), name, RecordKind::A, 0)
}

fn all(addresses: &[[u8; 4]]) -> Answer {
    Answer::Addresses(addresses.iter().map(|address| IpAddr::from(*address)).collect())
}

#[test]
fn names_as_users_of_compose_and_swarm_know_them() {
    let virtual_address = |n| all(&[[10, 128, 0, n]]);
    let instances =
        |numbers: &[u8]| all(&numbers.iter().map(|n| [10, 129, 0, *n]).collect::<Vec<_>>());
    for (name, expected) in [
        ("web", virtual_address(1)),
        ("WEB.", virtual_address(1)),
        ("www", virtual_address(1)),
        ("web.shop", virtual_address(1)),
        ("web.shop.limpet.", virtual_address(1)),
        ("db.limpet", virtual_address(2)),
        ("db.shop", virtual_address(2)),
        // In one network with another application: by its full name, since the own has the short one.
        ("web.blog", virtual_address(5)),
        ("tasks.web", all(&[WEB1])),
        ("tasks.web.blog", instances(&[6])),
        // An alias of both: the own application's.
        ("front", virtual_address(1)),
        // Round robin: the nearest that are ready; all that are ready.
        ("queue", instances(&[11, 12])),
        ("jobs", instances(&[11, 12])),
        ("tasks.queue", instances(&[11, 12, 13])),
        ("tasks.Jobs.limpet", instances(&[11, 12, 13])),
        // Instances, ready or not.
        ("queue.4", instances(&[14])),
        ("shop-queue-4", instances(&[14])),
        ("shop.queue.4", instances(&[14])),
        ("host14", instances(&[14])),
        ("blog.web.1", instances(&[6])),
        ("web.1", all(&[WEB1])),
        // What does not run, is in no common network, or is nothing.
        ("queue.9", Answer::NoSuchName),
        ("shop-queue-9", Answer::NoSuchName),
        ("vault", Answer::NoSuchName),
        ("db.blog", Answer::Forward),
        ("blog-db-1", Answer::NoSuchName),
        ("nothing", Answer::NoSuchName),
        ("nothing.limpet", Answer::NoSuchName),
        ("limpet", Answer::NoSuchName),
        ("example.org", Answer::Forward),
        ("notlimpet.org", Answer::Forward),
        ("xlimpet", Answer::NoSuchName),
        ("", Answer::Forward),
    ] {
        assert_eq!(ask(&picture(), name), expected, "{name}");
    }
}

#[test]
fn who_asks_decides() {
    let names = Names::of(&picture());
    let ask = |from: [u8; 4], name| names.answer(from.into(), name, RecordKind::A, 0);
    let (vault, blog) = ([172, 20, 0, 5], [10, 129, 0, 6]);
    assert_eq!(ask(blog, "web"), all(&[[10, 128, 0, 5]]));
    assert_eq!(ask(blog, "db"), all(&[[10, 128, 0, 6]]));
    assert_eq!(ask(blog, "www"), Answer::NoSuchName, "an alias counts in its network only");
    assert_eq!(ask(blog, "front"), all(&[[10, 128, 0, 5]]));
    assert_eq!(ask(blog, "web.shop"), all(&[[10, 128, 0, 1]]));
    assert_eq!(ask(vault, "vault"), all(&[[10, 128, 0, 4]]));
    assert_eq!(ask(vault, "web"), Answer::NoSuchName);
    assert_eq!(ask(vault, "example.org"), Answer::NoSuchName, "its network leads nowhere");
    // The node, a container of another node, anybody else.
    for stranger in [[10, 129, 0, 1], [10, 129, 0, 11], [8, 8, 8, 8]] {
        assert_eq!(ask(stranger, "web"), Answer::Refused);
        assert_eq!(ask(stranger, "example.org"), Answer::Refused);
    }
    assert_eq!(Names::default().answer(WEB1.into(), "web", RecordKind::A, 0), Answer::Refused);
}

#[test]
fn turns_spread_what_has_several_addresses() {
    let names = Names::of(&picture());
    let first = |turn| match names.answer(WEB1.into(), "queue", RecordKind::A, turn) {
        Answer::Addresses(addresses) => (addresses.len(), addresses[0]),
        other => panic!("{other:?}"),
    };
    let [a, b] = [[10, 129, 0, 11], [10, 129, 0, 12]].map(IpAddr::from);
    assert_eq!([0, 1, 2, u32::MAX].map(first), [(2, a), (2, b), (2, a), (2, b)]);
}

#[test]
fn who_is_not_ready_has_no_share_in_the_service() {
    let mut picture = picture();
    for at in 1..=2 {
        let queue = picture.instances.get_mut(&(id(&format!("shop.queue.{at}")), 1)).unwrap();
        queue.ready = false;
    }
    assert_eq!(ask(&picture, "queue"), all(&[[10, 129, 0, 13]]), "the far one is left");
    picture.instances.retain(|(id, _), _| id.service.as_str() == "web");
    assert_eq!(ask(&picture, "queue"), Answer::NoData, "the name is there, nobody behind it");
    assert_eq!(ask(&picture, "tasks.queue"), Answer::NoData);
    assert_eq!(ask(&picture, "db"), all(&[[10, 128, 0, 2]]), "a virtual address stays");
}

#[test]
fn a_slot_is_the_attempt_that_is_ready() {
    let mut picture = picture();
    let mut next = instance([10, 129, 0, 20], &["shop_default"], here(true));
    next.ready = false;
    picture.instances.insert((id("shop.db.1"), 2), next.clone());
    assert_eq!(ask(&picture, "db.1"), all(&[[10, 129, 0, 3]]));
    next.ready = true;
    picture.instances.insert((id("shop.db.1"), 2), next);
    assert_eq!(ask(&picture, "db.1"), all(&[[10, 129, 0, 20]]));
    picture.instances.remove(&(id("shop.db.1"), 1));
    assert_eq!(ask(&picture, "db.1"), all(&[[10, 129, 0, 20]]));
}

#[test]
fn ipv6_is_for_those_who_have_it() {
    let mut picture = picture();
    let at = |name: &str| (id(name), 1);
    picture.instances.get_mut(&at("shop.db.1")).unwrap().addresses.v6 = Some(SIX);
    let answer =
        |picture: &Picture, name: &str, kind| Names::of(picture).answer(WEB1.into(), name, kind, 0);
    assert_eq!(answer(&picture, "db.1", RecordKind::Aaaa), Answer::NoData);
    let own = Ipv6Addr::new(0xfd00, 0, 0, 1, 0, 0, 0, 2);
    picture.instances.get_mut(&at("shop.web.1")).unwrap().addresses.v6 = Some(own);
    let six = Answer::Addresses(vec![SIX.into()]);
    assert_eq!(answer(&picture, "db.1", RecordKind::Aaaa), six);
    assert_eq!(answer(&picture, "web", RecordKind::Aaaa), Answer::NoData);
    assert_eq!(answer(&picture, "web", RecordKind::Other), Answer::NoData);
    assert_eq!(answer(&picture, "nothing", RecordKind::Aaaa), Answer::NoSuchName);
    let names = Names::of(&picture);
    assert_eq!(names.answer(own.into(), "db.1", RecordKind::Aaaa, 0), six);
}

#[test]
fn containers_that_share_a_network_namespace_are_one() {
    let mut picture = picture();
    let with = instance([10, 129, 0, 6], &["blog_default"], here(true));
    picture.instances.insert((id("shop.sidecar.1"), 1), with);
    let names = Names::of(&picture);
    let from = Ipv4Addr::new(10, 129, 0, 6).into();
    // Both applications are its own now.
    let both = all(&[[10, 128, 0, 5], [10, 128, 0, 1]]);
    assert_eq!(names.answer(from, "web", RecordKind::A, 0), both);
}

#[test]
fn addresses_have_names() {
    let names = Names::of(&picture());
    let ask = |name: &str| names.answer(WEB1.into(), name, RecordKind::Ptr, 0);
    let name = |text: &str| Answer::Name(text.to_owned());
    for (question, expected) in [
        ("3.0.129.10.in-addr.arpa.", name("shop.db.1.limpet")),
        ("6.0.129.10.IN-ADDR.ARPA", name("blog.web.1.limpet")),
        ("1.0.128.10.in-addr.arpa", name("web.shop.limpet")),
        ("7.0.129.10.in-addr.arpa", Answer::NoSuchName),
        // Round robin has no virtual address to tell.
        ("3.0.128.10.in-addr.arpa", Answer::NoSuchName),
        ("99.0.129.10.in-addr.arpa", Answer::NoSuchName),
        // A fixed address of an application that it does not see, and one of nobody.
        ("5.0.20.172.in-addr.arpa", Answer::NoSuchName),
        ("6.0.20.172.in-addr.arpa", Answer::Forward),
        ("129.10.in-addr.arpa", Answer::Forward),
        ("in-addr.arpa", Answer::Forward),
        ("x.0.129.10.in-addr.arpa", Answer::Forward),
    ] {
        assert_eq!(ask(question), expected, "{question}");
    }
    let nibbles = |address: Ipv6Addr| {
        let digits: Vec<String> = u128::from(address)
            .to_be_bytes()
            .iter()
            .flat_map(|byte| [byte >> 4, byte & 15])
            .map(|nibble| format!("{nibble:x}."))
            .rev()
            .collect();
        format!("{}ip6.arpa", digits.concat())
    };
    assert_eq!(ask(&nibbles(SIX)), Answer::NoSuchName, "in the pool and nobody's");
    assert_eq!(ask(&nibbles(Ipv6Addr::LOCALHOST)), Answer::Forward);
    let kind = RecordKind::A;
    assert_eq!(names.answer(WEB1.into(), "3.0.129.10.in-addr.arpa", kind, 0), Answer::NoData);
}
