//! Tables and properties of planning.

use std::collections::{BTreeMap, BTreeSet};

use limpet_protocol::application::{Attribute, Constraint, Mode};
use limpet_protocol::assignment::{Assignment, Generation};
use limpet_protocol::id::{NodeId, Slot, SpecHash};
use limpet_protocol::limits::MAX_INSTANCES_PER_NODE;
use proptest::prelude::*;

use super::*;

mod drain;
mod jobs;
mod joins;
mod progress;
mod rooms;
mod worlds;

fn node(memory_mib: u64, site: &str) -> Node {
    let facts = NodeFacts {
        agent_version: String::new(),
        hostname: "Host".into(),
        os: "linux".into(),
        architecture: "arm".into(),
        variant: "v7".into(),
        kernel: String::new(),
        cpu_millis: 1000,
        memory_bytes: memory_mib << 20,
        labels: [("site".to_owned(), site.to_owned())].into(),
        conditions: vec![],
        devices: None,
        stages: false,
    };
    Node::of(&facts, &BTreeMap::new(), Standing::Ready)
}

fn wanted(replicas: u32) -> Wanted {
    Wanted::new(SpecHash([1; 32]), Mode::Replicated { replicas })
}

fn key(service: &str) -> ServiceKey {
    ServiceKey { application: "a".parse().unwrap(), service: service.parse().unwrap() }
}

fn id(name: &str) -> NodeId {
    name.parse().unwrap()
}

fn want(planner: &mut Planner, services: &[(&str, Wanted)]) {
    let services = services.iter().map(|(name, wanted)| (key(name), wanted.clone())).collect();
    planner.set_application(&"a".parse().unwrap(), services);
}

fn fleet(nodes: &[(&str, Node)]) -> Planner {
    let mut planner = Planner::default();
    for (name, node) in nodes {
        planner.set_node(&id(name), node.clone());
    }
    planner
}

fn stand(planner: &mut Planner, name: &str, node: &Node, standing: Standing) {
    planner.set_node(&id(name), Node { standing, ..node.clone() });
}

/// `n1:1,2 n2:3`
fn places(planner: &Planner, service: &str) -> String {
    let mut on: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (node, slot) in planner.places(&key(service)) {
        on.entry(node.to_string()).or_default().push(slot.to_string());
    }
    let nodes = on.into_iter().map(|(node, slots)| format!("{node}:{}", slots.join(",")));
    nodes.collect::<Vec<_>>().join(" ")
}

fn why(planner: &Planner, service: &str) -> String {
    planner.unplaced(&key(service)).first().map(|u| u.reason.clone()).unwrap_or_default()
}

fn constraint(attribute: Attribute, equal: bool, value: &str) -> Constraint {
    Constraint { attribute, equal, value: value.into() }
}

#[test]
fn instances_are_spread_and_stay() {
    let n = node(1024, "north");
    let mut planner = fleet(&[("n1", n.clone()), ("n2", n.clone()), ("n3", n.clone())]);
    want(&mut planner, &[("web", wanted(4))]);
    let changes = planner.plan();
    assert_eq!(places(&planner, "web"), "n1:1,4 n2:2 n3:3");
    assert_eq!(changes.nodes.len(), 3);
    assert_eq!(planner.plan(), Changes::default());
    // Fewest of all decide where a second service begins.
    want(&mut planner, &[("web", wanted(4)), ("db", wanted(1))]);
    assert_eq!(planner.plan().nodes, [id("n2")].into());
    // More: what is there stays. Fewer: the highest slots go.
    want(&mut planner, &[("web", wanted(6)), ("db", wanted(1))]);
    planner.plan();
    assert_eq!(places(&planner, "web"), "n1:1,4 n2:2,6 n3:3,5");
    want(&mut planner, &[("web", wanted(2)), ("db", wanted(1))]);
    planner.plan();
    assert_eq!(places(&planner, "web"), "n1:1 n2:2");
    want(&mut planner, &[]);
    assert_eq!(planner.plan().nodes, [id("n1"), id("n2")].into());
    assert_eq!((places(&planner, "web"), places(&planner, "db")), (String::new(), String::new()));
    assert_eq!(planner.usage(&id("n2")), Usage::default());
}

#[test]
fn a_new_spec_changes_every_node_and_moves_nothing() {
    let n = node(1024, "north");
    let mut planner = fleet(&[("n1", n.clone()), ("n2", n)]);
    want(&mut planner, &[("web", wanted(2))]);
    planner.plan();
    want(&mut planner, &[("web", Wanted { spec: SpecHash([2; 32]), ..wanted(2) })]);
    assert_eq!(planner.plan().nodes.len(), 2);
    assert_eq!(places(&planner, "web"), "n1:1 n2:2");
    assert_eq!(planner.share(&id("n1"))[0].spec, SpecHash([2; 32]));
}

#[test]
fn a_stopped_service_has_no_instances_and_no_trouble() {
    let mut planner = fleet(&[("n1", node(1024, "north"))]);
    let global = Wanted { mode: Mode::Global, ..wanted(0) };
    let stopped = |wanted: &Wanted| Wanted { stopped: true, ..wanted.clone() };
    want(&mut planner, &[("web", wanted(2)), ("all", global.clone())]);
    planner.plan();
    want(&mut planner, &[("web", stopped(&wanted(2))), ("all", stopped(&global))]);
    assert_eq!(planner.plan().nodes, [id("n1")].into());
    assert_eq!(planner.share(&id("n1")), vec![]);
    assert_eq!(planner.usage(&id("n1")), Usage::default());
    assert_eq!((why(&planner, "web"), planner.why_nowhere(&key("all"))), (String::new(), None));
    want(&mut planner, &[("web", wanted(2)), ("all", global)]);
    planner.plan();
    assert_eq!(
        (places(&planner, "web"), places(&planner, "all")),
        ("n1:1,2".into(), "n1:1".into())
    );
}

#[test]
fn filters_explain_themselves() {
    let mut planner =
        fleet(&[("n1", node(12, "north")), ("n2", node(12, "north")), ("n3", node(1024, "south"))]);
    let mut big = wanted(1);
    big.placement.constraints = vec![constraint(Attribute::Label("site".into()), true, "NORTH")];
    big.needs.memory_bytes = 64 << 20;
    want(&mut planner, &[("big", big)]);
    planner.plan();
    assert_eq!(
        why(&planner, "big"),
        "no suitable node (1 node lacks the label site=NORTH; 2 nodes have too little memory left: 64 MiB needed, at most 12 MiB free)"
    );
    let mut cases: Vec<(&str, Wanted, &str)> = vec![];
    let mut one = |name, change: &dyn Fn(&mut Wanted), reason| {
        let mut wanted = wanted(1);
        change(&mut wanted);
        cases.push((name, wanted, reason));
    };
    one(
        "id",
        &|w| w.placement.constraints = vec![constraint(Attribute::Id, true, "n9")],
        "3 nodes do not meet node.id == n9",
    );
    one(
        "host",
        &|w| w.placement.constraints = vec![constraint(Attribute::Hostname, false, "hOST")],
        "3 nodes do not meet node.hostname != hOST",
    );
    one(
        "os",
        &|w| w.placement.constraints = vec![constraint(Attribute::Os, true, "windows")],
        "3 nodes do not meet node.platform.os == windows",
    );
    one(
        "arch",
        &|w| w.placement.constraints = vec![constraint(Attribute::Architecture, true, "aarch64")],
        "3 nodes do not meet node.platform.arch == aarch64",
    );
    one(
        "platform",
        &|w| w.platform = Some("linux/arm64".into()),
        "3 nodes have another platform than linux/arm64",
    );
    one(
        "variant",
        &|w| w.platform = Some("linux/arm/v8".into()),
        "3 nodes have another platform than linux/arm/v8",
    );
    one(
        "cpu",
        &|w| w.needs.cpu_millis = 1500,
        "3 nodes have too little CPU left: 1.5 needed, at most 1 free",
    );
    for (name, wanted, reason) in cases {
        want(&mut planner, &[(name, wanted)]);
        planner.plan();
        assert_eq!(why(&planner, name), format!("no suitable node ({reason})"));
    }
    for platform in ["linux/arm", "linux/arm/v6", "Linux/arm/v7"] {
        want(&mut planner, &[("fits", Wanted { platform: Some(platform.into()), ..wanted(1) })]);
        planner.plan();
        assert_eq!(why(&planner, "fits"), "", "{platform}");
    }
}

#[test]
fn a_label_that_is_not_there_is_empty() {
    let mut planner = fleet(&[("n1", node(1, "north"))]);
    for (equal, value, fits) in [(false, "x", true), (true, "x", false), (true, "", true)] {
        let mut web = wanted(1);
        web.placement.constraints = vec![constraint(Attribute::Label("no".into()), equal, value)];
        want(&mut planner, &[("web", web)]);
        planner.plan();
        assert_eq!(places(&planner, "web").is_empty(), !fits, "{equal} {value}");
    }
}

#[test]
fn labels_that_people_give_win() {
    let facts = node(1, "north").facts;
    let given = [("site".to_owned(), "south".to_owned())].into();
    assert_eq!(Node::of(&facts, &given, Standing::Ready).labels["site"], "south");
}

#[test]
fn spread_comes_before_fewest() {
    let (north, south) = (node(1024, "north"), node(1024, "south"));
    let mut planner =
        fleet(&[("n1", north.clone()), ("n2", north.clone()), ("n3", north), ("s1", south)]);
    let mut web = wanted(4);
    web.placement.spread = vec!["site".into()];
    want(&mut planner, &[("web", web)]);
    planner.plan();
    assert_eq!(places(&planner, "web"), "n1:1 n2:3 s1:2,4");
}

#[test]
fn at_most_so_many_on_a_node() {
    let mut planner = fleet(&[("n1", node(1024, "x"))]);
    let mut web = wanted(3);
    web.placement.max_replicas_per_node = Some(2);
    want(&mut planner, &[("web", web)]);
    planner.plan();
    assert_eq!(places(&planner, "web"), "n1:1,2");
    assert_eq!(
        why(&planner, "web"),
        "no suitable node (1 node runs 2 of them, its max_replicas_per_node)"
    );
    planner.set_node(&id("n2"), node(1024, "x"));
    assert_eq!(planner.plan().nodes, [id("n2")].into());
    assert_eq!(
        (places(&planner, "web").as_str(), why(&planner, "web").as_str()),
        ("n1:1,2 n2:3", "")
    );
}

#[test]
fn global_is_one_on_each_node_that_matches() {
    let mut planner = fleet(&[("n1", node(64, "north")), ("n2", node(64, "south"))]);
    let mut all = Wanted { mode: Mode::Global, ..wanted(0) };
    all.placement.constraints = vec![constraint(Attribute::Label("site".into()), true, "north")];
    all.needs.memory_bytes = 40 << 20;
    want(&mut planner, &[("all", all.clone())]);
    planner.plan();
    assert_eq!(places(&planner, "all"), "n1:1");
    planner.set_node(&id("n3"), node(8, "north"));
    planner.set_node(&id("n4"), node(64, "north"));
    assert_eq!(planner.plan().nodes, [id("n4")].into());
    let open = planner.unplaced(&key("all"));
    assert_eq!((open.len(), open[0].node.clone()), (1, Some(id("n3"))));
    assert!(open[0].reason.contains("too little memory"), "{}", open[0].reason);
    // A label changes: what no longer matches goes.
    planner.set_node(&id("n1"), node(64, "south"));
    planner.plan();
    assert_eq!(places(&planner, "all"), "n4:1");
    all.placement.constraints = vec![constraint(Attribute::Id, true, "nobody")];
    want(&mut planner, &[("all", all)]);
    planner.plan();
    assert!(planner.why_nowhere(&key("all")).unwrap().contains("4 nodes do not meet node.id"));
}

#[test]
fn unreachable_nodes_keep_and_lost_ones_give() {
    let n = node(1024, "north");
    let mut planner = fleet(&[("n1", n.clone()), ("n2", n.clone())]);
    want(&mut planner, &[("web", wanted(2))]);
    planner.plan();
    stand(&mut planner, "n1", &n, Standing::Unreachable);
    assert_eq!(planner.plan().nodes, BTreeSet::new());
    stand(&mut planner, "n1", &n, Standing::Lost);
    assert_eq!(planner.plan().nodes, [id("n1"), id("n2")].into());
    assert_eq!(places(&planner, "web"), "n2:1,2");
    assert!(planner.share(&id("n1")).is_empty());
    stand(&mut planner, "n1", &n, Standing::Ready);
    assert_eq!(planner.plan().nodes, BTreeSet::new(), "nothing moves back");
    // The last node keeps what nobody else can take, and says so.
    planner.remove_node(&id("n1"));
    stand(&mut planner, "n2", &n, Standing::Lost);
    assert_eq!(planner.plan().nodes, BTreeSet::new());
    assert_eq!(places(&planner, "web"), "n2:1,2");
    assert_eq!(
        why(&planner, "web"),
        "node n2 is lost and no other can take it: no suitable node (1 node is lost)"
    );
    // Of a lost node's slots fewer are wanted: they go first.
    planner.set_node(&id("n3"), node(1024, "north"));
    planner.plan();
    assert_eq!(places(&planner, "web"), "n3:1,2");
}

#[test]
fn reachable_nodes_come_first() {
    let n = node(1024, "north");
    let mut planner = fleet(&[("n1", n.clone()), ("n2", n.clone())]);
    stand(&mut planner, "n1", &n, Standing::Unreachable);
    want(&mut planner, &[("web", wanted(3))]);
    planner.plan();
    assert_eq!(places(&planner, "web"), "n2:1,2,3");
    planner.remove_node(&id("n2"));
    planner.plan();
    assert_eq!(places(&planner, "web"), "n1:1,2,3", "better than nowhere");
}

#[test]
fn unplaced_slots_go_before_placed_ones() {
    let n = node(1024, "north");
    let mut planner = fleet(&[("n1", n.clone()), ("n2", n)]);
    let mut web = wanted(2);
    web.placement.max_replicas_per_node = Some(1);
    want(&mut planner, &[("web", web.clone())]);
    planner.plan();
    planner.remove_node(&id("n1"));
    planner.plan();
    assert_eq!(
        (places(&planner, "web").as_str(), planner.unplaced(&key("web"))[0].slot),
        ("n2:2", Slot(1))
    );
    web.mode = Mode::Replicated { replicas: 1 };
    want(&mut planner, &[("web", web)]);
    planner.plan();
    assert_eq!(places(&planner, "web"), "n2:2");
    assert!(planner.unplaced(&key("web")).is_empty());
}

#[test]
fn freed_room_is_given_to_who_waits() {
    let mut planner = fleet(&[("n1", node(100, "north"))]);
    let need = |mib: u64| Wanted {
        needs: Needs { memory_bytes: mib << 20, ..Needs::default() },
        ..wanted(1)
    };
    want(&mut planner, &[("a", need(80)), ("b", need(60))]);
    planner.plan();
    assert_eq!((places(&planner, "a").as_str(), places(&planner, "b").as_str()), ("n1:1", ""));
    want(&mut planner, &[("b", need(60))]);
    planner.plan();
    assert_eq!(places(&planner, "b"), "n1:1");
    // A service that grows does not push out another that is there.
    want(&mut planner, &[("b", need(60)), ("c", need(30))]);
    planner.plan();
    want(&mut planner, &[("b", need(90)), ("c", need(30))]);
    planner.plan();
    assert_eq!((places(&planner, "b").as_str(), places(&planner, "c").as_str()), ("", "n1:1"));
}

#[test]
fn a_restored_planner_plans_the_same() {
    let n = node(1024, "north");
    let mut first = fleet(&[("n1", n.clone()), ("n2", n.clone())]);
    want(&mut first, &[("web", wanted(3)), ("old", wanted(1))]);
    first.plan();
    let mut second = fleet(&[("n1", n.clone()), ("n2", n)]);
    want(&mut second, &[("web", wanted(3))]);
    for name in ["n1", "n2"] {
        second.restore(&Assignment {
            node: id(name),
            generation: Generation::default(),
            services: first.share(&id(name)),
            network: None,
        });
    }
    let changes = second.plan();
    assert_eq!(places(&second, "web"), places(&first, "web"));
    assert_eq!(places(&second, "old"), "", "what nobody wants any more is taken away");
    assert_eq!(changes.nodes.len(), 1);
}

#[test]
fn a_node_is_never_overfull() {
    let mut planner = fleet(&[("n1", node(1024, "north"))]);
    want(&mut planner, &[("web", wanted(501))]);
    planner.plan();
    assert_eq!(planner.usage(&id("n1")).instances, MAX_INSTANCES_PER_NODE);
    assert_eq!(
        why(&planner, "web"),
        "no suitable node (1 node has 500 instances, the most of a node)"
    );
}
