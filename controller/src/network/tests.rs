//! Random fleets: what nodes are told follows from what is known alone, is enough, and is no more than
//! that; and tables of what single nodes are told.

use std::collections::{BTreeMap, BTreeSet};

use limpet_protocol::id::{NetworkName, NodeId, SpecHash};
use limpet_protocol::network::NodeNetwork;
use limpet_protocol::spec::{EndpointMode, PublishedPort};
use proptest::prelude::*;

use super::pool::{Pool, unique_local};
use super::*;
use crate::plan::ServiceKey;

const NODES: usize = 24;
const SERVICES: usize = 6;
const VERSIONS: usize = 2;

fn pool() -> Pool {
    Pool::new("10.128.0.0/10".parse().unwrap(), 24, unique_local("test")).unwrap()
}

fn id(node: usize) -> NodeId {
    format!("node-{node}").parse().unwrap()
}

/// Services 0, 1, 2 are of application `a`, the others of `b`.
fn key(service: usize) -> ServiceKey {
    let application = if service < SERVICES / 2 { "a" } else { "b" };
    ServiceKey {
        application: application.parse().unwrap(),
        service: format!("s{service}").parse().unwrap(),
    }
}

fn hash(service: usize, version: usize) -> SpecHash {
    let mut bytes = [0; 32];
    bytes[0] = u8::try_from(service).unwrap();
    bytes[1] = u8::try_from(version).unwrap();
    SpecHash(bytes)
}

fn port(published: u16, host_mode: bool) -> PublishedPort {
    let published = Some((published, published));
    PublishedPort { target: 80, published, host_ip: None, udp: false, host_mode }
}

fn facts(networks: &[usize], ingress: bool) -> Facts {
    let name = |network: &usize| format!("net{network}").parse::<NetworkName>().unwrap();
    Facts {
        networks: networks.iter().map(|it| (name(it), BTreeSet::new())).collect(),
        mode: EndpointMode::Vip,
        ingress: if ingress && !networks.is_empty() { vec![port(8080, false)] } else { vec![] },
        host: vec![],
    }
}

fn card(number: usize, site: usize, mesh: bool, lost: bool) -> Card {
    let key = vec![u8::try_from(number).unwrap(); 32];
    let endpoint = format!("192.0.2.{number}:51820").parse().unwrap();
    Card {
        number: 256 + u32::try_from(number).unwrap(),
        site: (site > 0).then(|| format!("site{site}")),
        mesh: mesh.then(|| MeshCard { key, endpoints: vec![endpoint] }),
        lost,
    }
}

/// What happens to a fleet.
#[derive(Debug, Clone)]
enum Step {
    /// A service is this version from now on, or nobody wants it.
    Want(usize, Option<usize>),
    /// A node runs these versions of these services.
    Runs(usize, BTreeMap<usize, BTreeSet<usize>>),
    /// A node has a card, or takes no part: site, whether it can be reached, whether it was given up.
    Card(usize, Option<(usize, bool, bool)>),
    /// A node is no more.
    Remove(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let runs = prop::collection::btree_map(
        0..SERVICES,
        prop::collection::btree_set(0..VERSIONS, 1..=VERSIONS),
        0..4,
    );
    prop_oneof![
        2 => (0..SERVICES, prop::option::weighted(0.8, 0..VERSIONS)).prop_map(|(s, v)| Step::Want(s, v)),
        6 => (0..NODES, runs).prop_map(|(node, runs)| Step::Runs(node, runs)),
        4 => (0..NODES, prop::option::weighted(0.9, (0..4_usize, prop::bool::weighted(0.9), prop::bool::weighted(0.1))))
            .prop_map(|(node, card)| Step::Card(node, card)),
        1 => (0..NODES).prop_map(Step::Remove),
    ]
}

/// What is known, as plain as it can be.
#[derive(Debug, Clone, Default)]
struct Model {
    specs: Vec<Vec<Facts>>,
    wanted: BTreeMap<usize, usize>,
    runs: BTreeMap<usize, BTreeMap<usize, BTreeSet<usize>>>,
    cards: BTreeMap<usize, Card>,
}

impl Model {
    fn learn_all(&self, fabric: &mut Fabric) {
        for (service, versions) in self.specs.iter().enumerate() {
            for (version, facts) in versions.iter().enumerate() {
                fabric.learn(hash(service, version), facts.clone());
            }
        }
    }

    fn runs_of(&self, node: usize) -> BTreeMap<ServiceKey, Run> {
        let run = |(service, versions): (&usize, &BTreeSet<usize>)| {
            let specs = versions.iter().map(|version| hash(*service, *version)).collect();
            (key(*service), Run { specs, host_ports: vec![] })
        };
        self.runs.get(&node).into_iter().flatten().map(run).collect()
    }

    /// Does it to itself and to a fabric.
    fn apply(&mut self, step: &Step, fabric: &mut Fabric) {
        self.learn_all(fabric);
        match step {
            Step::Want(service, version) => {
                match version {
                    Some(version) => drop(self.wanted.insert(*service, *version)),
                    None => drop(self.wanted.remove(service)),
                }
                fabric.want(&key(*service), version.map(|version| hash(*service, version)));
            }
            Step::Runs(node, runs) => {
                self.runs.insert(*node, runs.clone());
                fabric.set_runs(&id(*node), self.runs_of(*node));
            }
            Step::Card(node, it) => {
                let new = it.map(|(site, mesh, lost)| card(*node, site, mesh, lost));
                match &new {
                    Some(new) => drop(self.cards.insert(*node, new.clone())),
                    None => drop(self.cards.remove(node)),
                }
                fabric.set_card(&id(*node), new);
            }
            Step::Remove(node) => {
                self.runs.remove(node);
                self.cards.remove(node);
                fabric.remove(&id(*node));
            }
        }
    }

    /// The same from nothing.
    fn made_anew(&self, most_peers: usize) -> Fabric {
        let mut fabric = Fabric::new(pool());
        fabric.most_peers = most_peers;
        self.learn_all(&mut fabric);
        for node in (0..NODES).rev() {
            fabric.set_runs(&id(node), self.runs_of(node));
            fabric.set_card(&id(node), self.cards.get(&node).cloned());
        }
        for (service, version) in &self.wanted {
            fabric.want(&key(*service), Some(hash(*service, *version)));
        }
        fabric.settle();
        fabric
    }

    /// The networks of a service over all specs that it has anywhere, and whether it publishes.
    fn service(&self, service: usize) -> (BTreeSet<NetworkName>, bool) {
        let target = self.wanted.get(&service).map(|version| &self.specs[service][*version]);
        let everywhere = self.runs.values().filter_map(|runs| runs.get(&service)).flatten();
        let used = everywhere.map(|version| &self.specs[service][*version]);
        let networks = used.chain(target).flat_map(|facts| facts.networks.keys().cloned());
        (networks.collect(), target.is_some_and(|facts| !facts.ingress.is_empty()))
    }

    /// The services that a node needs.
    fn needs(&self, node: usize) -> BTreeSet<usize> {
        let Some(runs) = self.runs.get(&node) else { return BTreeSet::new() };
        let own: BTreeSet<&NetworkName> = runs
            .iter()
            .flat_map(|(service, versions)| {
                versions.iter().map(move |it| &self.specs[*service][*it])
            })
            .flat_map(|facts| facts.networks.keys())
            .collect();
        let needed = |service: &usize| {
            let (networks, publishes) = self.service(*service);
            let application = key(*service).application;
            networks.iter().any(|network| own.contains(network))
                || (publishes && runs.keys().any(|run| key(*run).application == application))
        };
        (0..SERVICES).filter(needed).collect()
    }

    /// Whether a node runs a service that takes part in a network there.
    fn serves(&self, node: usize, service: usize) -> bool {
        let versions = self.runs.get(&node).and_then(|runs| runs.get(&service));
        let mut facts = versions.into_iter().flatten().map(|it| &self.specs[service][*it]);
        facts.any(|facts| !facts.networks.is_empty())
    }

    /// Nodes other than this that run a service and can be reached.
    fn others(&self, node: usize, service: usize) -> Vec<usize> {
        let runs = |other: &usize| self.serves(*other, service);
        let reached = |other: &usize| self.cards.get(other).is_some_and(|it| it.mesh.is_some());
        (0..NODES).filter(|other| *other != node && runs(other) && reached(other)).collect()
    }
}

type Pictures = BTreeMap<usize, Option<NodeNetwork>>;

fn pictures(fabric: &Fabric) -> Pictures {
    (0..NODES).map(|node| (node, fabric.picture(&id(node)))).collect()
}

fn peers(picture: &Option<NodeNetwork>) -> BTreeMap<NodeId, Vec<NetworkName>> {
    let peers = picture.iter().flat_map(|picture| &picture.peers);
    peers.map(|peer| (peer.node.clone(), peer.networks.clone())).collect()
}

fn check_both_ends(pictures: &Pictures, most: usize) {
    for (node, picture) in pictures {
        let own = peers(picture);
        assert!(own.len() <= most, "{node} has {} peers", own.len());
        for (peer, networks) in own {
            let other = (0..NODES).find(|it| id(*it) == peer).unwrap();
            let back = peers(&pictures[&other]);
            assert_eq!(back.get(&id(*node)), Some(&networks), "{node} and {other}");
        }
    }
}

/// Everybody has whom it needs, the nearest first, and nobody whom neither needs.
fn check_needs(model: &Model, pictures: &Pictures) {
    for node in 0..NODES {
        let Some(card) = model.cards.get(&node).filter(|card| card.mesh.is_some()) else {
            continue;
        };
        let own = peers(&pictures[&node]);
        for service in model.needs(node) {
            let others = model.others(node, service);
            let most =
                if model.serves(node, service) { FALLBACK_PEERS } else { MAX_PEERS_PER_SERVICE };
            let has: Vec<usize> =
                others.iter().copied().filter(|other| own.contains_key(&id(*other))).collect();
            assert!(
                has.len() >= most.min(others.len()),
                "{node} for {service}: {has:?} of {others:?}"
            );
            let best = |of: &[usize]| {
                let class = |other: &usize| {
                    let other = &model.cards[other];
                    (other.lost, card.site.is_none() || other.site != card.site)
                };
                of.iter().map(class).min()
            };
            assert_eq!(best(&has), best(&others), "{node} for {service}");
        }
        for peer in own.keys() {
            let other = (0..NODES).find(|it| id(*it) == *peer).unwrap();
            let wants = |one: usize, two: usize| {
                model.needs(one).iter().any(|service| model.serves(two, *service))
            };
            assert!(wants(node, other) || wants(other, node), "{node} and {other} need nothing");
        }
    }
}

fn specs() -> impl Strategy<Value = Vec<Vec<Facts>>> {
    let networks = prop::collection::btree_set(0..4_usize, 0..3);
    let one = (networks, prop::bool::weighted(0.3))
        .prop_map(|(networks, ingress)| facts(&networks.into_iter().collect::<Vec<_>>(), ingress));
    prop::collection::vec(prop::collection::vec(one, VERSIONS), SERVICES)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn the_way_to_a_fleet_does_not_matter(
        specs in specs(),
        steps in prop::collection::vec(step(), 1..80),
        most in prop_oneof![Just(MAX_PEERS), Just(3), Just(1)],
    ) {
        let mut model = Model { specs, ..Model::default() };
        let mut fabric = Fabric::new(pool());
        fabric.most_peers = most;
        let mut before = pictures(&fabric);
        for step in &steps {
            model.apply(step, &mut fabric);
            let told: BTreeSet<NodeId> = fabric.settle();
            let after = pictures(&fabric);
            for (node, picture) in &after {
                let changed = before[node] != *picture;
                let gone = matches!(step, Step::Remove(it) if it == node);
                prop_assert!(!changed || gone || told.contains(&id(*node)), "{node} was not told of {step:?}");
            }
            before = after;
        }
        prop_assert_eq!(&before, &pictures(&model.made_anew(most)));
        check_both_ends(&before, most);
        if most == MAX_PEERS {
            check_needs(&model, &before);
        }
    }
}

fn line_of(network: &NodeNetwork) -> String {
    let services: Vec<String> = network
        .services
        .iter()
        .map(|it| {
            let networks: Vec<&str> = it.networks.keys().map(NetworkName::as_str).collect();
            let ports: Vec<String> =
                it.ports.iter().map(|port| format!("+{}", port.published.unwrap().0)).collect();
            format!("{}.{}@{}{}", it.application, it.service, networks.join(","), ports.concat())
        })
        .collect();
    let peers: Vec<&str> = network.peers.iter().map(|peer| peer.node.as_str()).collect();
    format!("{} | {} | {}", network.subnet, services.join(" "), peers.join(" "))
}

#[test]
fn a_node_is_told_what_it_takes_part_in_and_what_it_forwards() {
    let mut model = Model {
        specs: vec![
            vec![facts(&[0], true), facts(&[0], false)],
            vec![facts(&[0, 1], false), facts(&[], false)],
            vec![facts(&[], false), facts(&[], false)],
            vec![facts(&[1], false), facts(&[2], false)],
            vec![facts(&[2], false), facts(&[2], false)],
            vec![facts(&[], false), facts(&[], false)],
        ],
        ..Model::default()
    };
    let mut fabric = Fabric::new(pool());
    let runs = |list: &[usize]| list.iter().map(|service| (*service, [0].into())).collect();
    for service in 0..SERVICES {
        model.apply(&Step::Want(service, Some(0)), &mut fabric);
    }
    for (node, list) in [(0, &[0][..]), (1, &[1]), (2, &[2]), (3, &[3]), (4, &[4]), (5, &[5])] {
        model.apply(&Step::Card(node, Some((0, true, false))), &mut fabric);
        model.apply(&Step::Runs(node, runs(list)), &mut fabric);
    }
    fabric.settle();
    let told = |fabric: &Fabric, node: usize| fabric.picture(&id(node)).map(|it| line_of(&it));
    for (node, expected) in [
        (0, Some("10.129.0.0/24 | a.s0@net0+8080 a.s1@net0,net1 | node-1 node-2")),
        (1, Some("10.129.1.0/24 | a.s0@net0+8080 a.s1@net0,net1 b.s3@net1 | node-0 node-3")),
        (2, Some("10.129.2.0/24 | a.s0@net0+8080 | node-0")),
        (3, Some("10.129.3.0/24 | a.s1@net0,net1 b.s3@net1 | node-1")),
        (4, Some("10.129.4.0/24 | b.s4@net2 | ")),
        (5, None),
    ] {
        assert_eq!(told(&fabric, node).as_deref(), expected, "node {node}");
        assert_eq!(fabric.takes_part(&id(node)), expected.is_some(), "node {node}");
    }
    // While a service is updated it has the networks of both specs, and those who stay keep it.
    model.apply(&Step::Want(3, Some(1)), &mut fabric);
    assert_eq!(fabric.settle(), [1, 3, 4].map(id).into());
    assert_eq!(
        told(&fabric, 4).as_deref(),
        Some("10.129.4.0/24 | b.s3@net1,net2 b.s4@net2 | node-3")
    );
    model.apply(&Step::Runs(3, [(3, [1].into())].into()), &mut fabric);
    fabric.settle();
    assert_eq!(
        told(&fabric, 1).as_deref(),
        Some("10.129.1.0/24 | a.s0@net0+8080 a.s1@net0,net1 | node-0")
    );
    assert_eq!(told(&fabric, 3).as_deref(), Some("10.129.3.0/24 | b.s3@net2 b.s4@net2 | node-4"));
}

/// The cost of a change follows whom it concerns, not the fleet.
#[test]
fn a_change_looks_at_those_whom_it_concerns() {
    const FLEET: usize = 2_000;
    let mut fabric = Fabric::new(pool());
    let everywhere = key(0);
    let alone = key(5);
    for (service, key) in [(0, &everywhere), (5, &alone)] {
        fabric.learn(hash(service, 0), facts(&[service], false));
        fabric.want(key, Some(hash(service, 0)));
    }
    let card = |node: usize| Card {
        number: 256 + u32::try_from(node).unwrap(),
        site: Some(format!("site{}", node / 4)),
        mesh: Some(MeshCard { key: vec![7; 32], endpoints: vec![] }),
        lost: false,
    };
    let run = |service: usize| Run { specs: [hash(service, 0)].into(), host_ports: vec![] };
    let mut largest = 0;
    for node in 0..FLEET {
        fabric.set_card(&id(node), Some(card(node)));
        fabric.set_runs(&id(node), [(everywhere.clone(), run(0))].into());
        largest = largest.max(fabric.to_pick.len());
        fabric.settle();
    }
    assert!(largest < FLEET / 4, "a node that comes concerned {largest} others");
    // Another application on one node concerns nobody else.
    let both = [(everywhere.clone(), run(0)), (alone.clone(), run(5))];
    fabric.set_runs(&id(7), both.into());
    assert_eq!(fabric.to_pick.len(), 1);
    assert_eq!(fabric.settle(), [id(7)].into(), "nor is anybody else told");
    // A node that is given up concerns those before it on the ring.
    fabric.set_card(&id(9), Some(Card { lost: true, ..card(9) }));
    let concerned = fabric.to_pick.len();
    assert!(concerned < FLEET / 4, "{concerned} choose anew");
    let most = (0..FLEET).map(|node| fabric.picture(&id(node)).unwrap().peers.len()).max();
    assert!(most.unwrap() < 40, "nobody is picked by everybody: {most:?}");
}
