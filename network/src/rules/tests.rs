//! Pictures and the exact rules that they ask for, and what holds for the rules of every picture.

use core::net::IpAddr;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use limpet_protocol::id::{InstanceId, NetworkName, NodeId, Slot};
use limpet_protocol::network::Subnet;
use limpet_protocol::spec::{EndpointMode, PublishedPort};
use proptest::prelude::*;

use super::*;
use crate::picture::{Addresses, Attempt, Instance, Local, Peer, Place, Service, ServiceKey};

fn subnet(text: &str) -> Subnet {
    text.parse().unwrap()
}

fn key(service: &str) -> ServiceKey {
    ("shop".parse().unwrap(), service.parse().unwrap())
}

fn attempt(service: &str, slot: u32) -> Attempt {
    let (application, service) = key(service);
    (InstanceId { application, service, slot: Slot(slot) }, 1)
}

fn networks(names: &[&str]) -> BTreeSet<NetworkName> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

fn addresses(v4: &str, v6: Option<&str>) -> Addresses {
    Addresses { v4: v4.parse().unwrap(), v6: v6.map(|v6| v6.parse().unwrap()) }
}

fn empty(six: bool) -> Picture {
    Picture {
        pool: subnet("10.128.0.0/10"),
        pool6: subnet("fd00:1::/48"),
        subnet: subnet("10.129.3.0/24"),
        subnet6: subnet("fd00:1:0:3::/64"),
        gateway: addresses("10.129.3.1", six.then_some("fd00:1:0:3::1")),
        virtual_addresses: subnet("10.128.0.0/16"),
        virtual_addresses6: subnet("fd00:1::/64"),
        services: BTreeMap::new(),
        instances: BTreeMap::new(),
        peers: BTreeMap::new(),
        guarded: BTreeSet::new(),
    }
}

fn ground(tunnel: bool) -> Ground {
    let tag = Tag::of(&"pi-1".parse().unwrap());
    Ground {
        tag,
        tunnel: tunnel.then(|| tag.tunnel_device()),
        neighbour_port: tunnel.then_some(7946),
        holding_port: None,
        sole_forwarder: SoleForwarder { v4: true, v6: tunnel },
    }
}

fn instance(addresses: Addresses, names: &[&str], place: Place) -> Instance {
    let networks = networks(names);
    Instance { addresses, networks, hostname: "host".to_owned(), ready: true, place }
}

fn here(number: u32, leads_outside: bool, node_access: bool) -> Place {
    let device = ground(false).tag.device(number);
    Place::Here(Local { device, leads_outside, node_access, name_servers: vec![] })
}

fn service(number: u8, ports: Vec<PublishedPort>) -> Service {
    let v6 = format!("fd00:1::{number}");
    Service {
        networks: BTreeMap::new(),
        virtual_address: addresses(&format!("10.128.0.{number}"), Some(&v6)),
        mode: EndpointMode::Vip,
        spread: false,
        wakes: false,
        ports,
    }
}

fn port(published: u16, target: u16) -> PublishedPort {
    let published = Some((published, published));
    PublishedPort { target, published, host_ip: None, udp: false, host_mode: false }
}

/// A web service of two instances with a port, a database that does not lead outside, and an
/// administrator's container.
fn one_node() -> Picture {
    let mut picture = empty(false);
    let bound = PublishedPort { host_ip: Some("127.0.0.1".to_owned()), ..port(5433, 5432) };
    picture.services.insert(key("web"), service(1, vec![port(80, 8080)]));
    picture.services.insert(key("db"), service(2, vec![bound]));
    picture.services.insert(key("idle"), service(3, vec![port(81, 8080)]));
    for slot in [1, 2] {
        let web = addresses(&format!("10.129.3.{}", slot + 1), None);
        let web = instance(web, &["front", "back"], here(slot, true, false));
        picture.instances.insert(attempt("web", slot), web);
    }
    let db = instance(addresses("10.129.3.9", None), &["back"], here(9, false, false));
    picture.instances.insert(attempt("db", 1), db);
    let admin = instance(addresses("10.129.3.10", None), &[], here(10, true, true));
    picture.instances.insert(attempt("admin", 1), admin);
    picture.guarded.insert("192.168.1.5:8883".parse().unwrap());
    picture
}

/// The same service on two nodes, with IPv6, and one that has a fixed address.
fn two_nodes() -> Picture {
    let mut picture = empty(true);
    let udp = PublishedPort { udp: true, host_mode: true, ..port(5353, 53) };
    picture.services.insert(key("web"), service(1, vec![port(80, 8080), udp]));
    picture.services.insert(key("far"), service(2, vec![port(90, 9090)]));
    let web = addresses("10.129.3.2", Some("fd00:1:0:3::2"));
    let web = instance(web, &["front"], here(0, true, false));
    picture.instances.insert(attempt("web", 1), web);
    let other: NodeId = "pi-2".parse().unwrap();
    let there = || Place::Site(other.clone());
    let web = instance(addresses("10.129.4.2", None), &["front"], there());
    picture.instances.insert(attempt("web", 2), web);
    let far = addresses("10.129.4.3", Some("fd00:1:0:4::3"));
    picture.instances.insert(attempt("far", 1), instance(far, &["front"], there()));
    let guest = instance(addresses("172.20.0.10", None), &["front", "back"], there());
    picture.instances.insert(attempt("guest", 1), guest);
    let peer = Peer {
        subnet: subnet("10.129.4.0/24"),
        subnet6: subnet("fd00:1:0:4::/64"),
        networks: networks(&["front"]),
    };
    picture.peers.insert(other, peer);
    picture
}

/// Compares rules with a file, which `LIMPET_BLESS=1` writes anew.
#[track_caller]
fn assert_golden(name: &str, rules: &Ruleset) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/rules/golden").join(name);
    let text = rules.to_string();
    if std::env::var_os("LIMPET_BLESS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let wanted = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, wanted, "if that is meant, run with LIMPET_BLESS=1 and read the changes");
}

#[test]
fn a_node_without_containers() {
    assert_golden("empty.nft", &ruleset(&empty(false), &ground(false)));
}

#[test]
fn a_node_alone() {
    assert_golden("one_node.nft", &ruleset(&one_node(), &ground(false)));
}

#[test]
fn a_node_among_others() {
    assert_golden("two_nodes.nft", &ruleset(&two_nodes(), &ground(true)));
}

#[test]
fn containers_that_share_a_namespace_may_do_what_any_of_them_may() {
    let mut picture = empty(false);
    let shared = addresses("10.129.3.2", None);
    let web = instance(shared, &["front"], here(1, false, false));
    picture.instances.insert(attempt("web", 1), web);
    let sidecar = instance(shared, &["back"], here(1, true, true));
    picture.instances.insert(attempt("sidecar", 1), sidecar);
    let members = members::of(&picture);
    let container = &members.containers[&IpAddr::V4(shared.v4)];
    assert_eq!(container.rights.networks, networks(&["front", "back"]));
    assert_eq!(container.rights.reach, members::Reach::Everywhere);
    assert!(container.node_access);
}

/// Any picture of a few services and instances, some of them here, some ready.
fn any_picture() -> impl Strategy<Value = Picture> {
    let one = (0..4_u8, 1..4_u32, any::<[bool; 5]>(), 0..8_u8);
    proptest::collection::vec(one, 0..24).prop_map(|parts| {
        let mut picture = two_nodes();
        for (number, (name, slot, [local, ready, outside, access, six], nets)) in
            (0_u8..).zip(parts)
        {
            let name = format!("s{name}");
            let place = match local {
                true => here(u32::from(number), outside, access),
                false => Place::Far("pi-2".parse().unwrap()),
            };
            let subnet = if local { 3 } else { 4 };
            let v6 = format!("fd00:1:0:{subnet}::{:x}", number + 10);
            let addresses =
                addresses(&format!("10.129.{subnet}.{}", number + 10), six.then_some(&*v6));
            let names: Vec<_> = ["a", "b", "c"]
                .into_iter()
                .enumerate()
                .filter(|(bit, _)| nets >> bit & 1 == 1)
                .collect();
            let names: Vec<_> = names.into_iter().map(|(_, name)| name).collect();
            let instance = Instance { ready, ..instance(addresses, &names, place) };
            picture.instances.insert(attempt(&name, slot), instance);
            let ports = vec![port(1000 + u16::from(number), 80)];
            picture.services.entry(key(&name)).or_insert_with(|| service(number + 10, ports));
        }
        picture
    })
}

/// What a rule looks into and where it leads.
fn references(rules: &Ruleset) -> (BTreeSet<(Vec<Field>, String)>, BTreeSet<String>) {
    let (mut sets, mut chains) = (BTreeSet::new(), BTreeSet::new());
    for statement in rules.chains.values().flat_map(|chain| chain.rules.iter().flatten()) {
        match statement {
            Statement::In(fields, set) | Statement::Dispatch(fields, set) => {
                sets.insert((fields.clone(), set.clone()));
            }
            Statement::Goto(chain) => {
                chains.insert(chain.clone());
            }
            Statement::Balance { row, count, .. } => {
                let Some(Set::Row(_, addresses)) = rules.sets.get(row) else {
                    panic!("{row} is no row")
                };
                assert_eq!(usize::try_from(*count).unwrap(), addresses.len());
                assert_ne!(*count, 0);
            }
            _ => {}
        }
    }
    for set in rules.sets.values() {
        if let Set::Chains { elements, .. } = set {
            chains.extend(elements.values().cloned());
        }
    }
    (sets, chains)
}

/// Whether values are of the kinds that a key has.
fn fits(key: &[Field], values: &[Value]) -> bool {
    let one = |(field, value): (&Field, &Value)| match (field, value) {
        (Field::Source(family) | Field::Destination(family), Value::Address(address)) => {
            Family::of(*address) == *family
        }
        (Field::InDevice, Value::Device(_))
        | (Field::Transport, Value::Transport(_))
        | (Field::Port, Value::Port(_)) => true,
        _ => false,
    };
    key.len() == values.len() && key.iter().zip(values).all(one)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn rules_are_whole_and_the_same_for_the_same_picture(picture in any_picture(), six: bool) {
        let mut picture = picture;
        picture.gateway.v6 = picture.gateway.v6.filter(|_| six);
        let rules = ruleset(&picture, &ground(true));
        prop_assert_eq!(&rules, &ruleset(&picture, &ground(true)));
        let (sets, chains) = references(&rules);
        for chain in chains {
            prop_assert!(rules.chains.contains_key(&chain), "{chain} is not there\n{rules}");
        }
        for (fields, name) in sets {
            match rules.sets.get(&name) {
                Some(Set::Members { key, elements }) => {
                    prop_assert_eq!(key, &fields);
                    prop_assert!(elements.iter().all(|values| fits(key, values)), "{name}");
                }
                Some(Set::Chains { key, elements }) => {
                    prop_assert_eq!(key, &fields);
                    prop_assert!(elements.keys().all(|values| fits(key, values)), "{name}");
                }
                other => prop_assert!(false, "{name}: {other:?}"),
            }
        }
        for rule in rules.chains.values().flat_map(|chain| &chain.rules) {
            let families: BTreeSet<_> = rule.iter().filter_map(Statement::family).collect();
            prop_assert!(families.len() <= 1, "{rule:?}");
        }
    }

    /// Only who has a network in common with an instance is let through to it.
    #[test]
    fn who_has_no_network_in_common_is_not_let_through(picture in any_picture()) {
        let members = members::of(&picture);
        for container in members.containers.values() {
            let reachable: BTreeSet<_> = container.rights.networks.iter()
                .filter_map(|network| members.networks.get(network)).flatten().collect();
            for other in picture.instances.values() {
                let shares = !other.networks.is_disjoint(&container.rights.networks);
                let address = IpAddr::V4(other.addresses.v4);
                prop_assert_eq!(reachable.contains(&address), shares);
            }
        }
    }
}
