//! What is done twice is done once, and what is removed is gone.

use std::fs;
use std::time::{Duration, Instant};

use limpet_network::datapath::{Applied, Datapath, Found};

use crate::node::{Kind, Node, attempt, gateway, is_root};
use crate::talk::{ask, serve};

/// What `/proc` says of the namespace that this thread is in: devices, routes, the tracked connections'
/// settings are not among it.
fn devices() -> Vec<String> {
    let text = fs::read_to_string("/proc/thread-self/net/dev").unwrap();
    let names = text.lines().skip(2).filter_map(|line| Some(line.split_once(':')?.0.trim().into()));
    names.collect()
}

/// The routes of IPv4; how the kernel keeps them in a tree is its business.
fn routes() -> Vec<String> {
    let text = fs::read_to_string("/proc/thread-self/net/fib_trie").unwrap();
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with("+--"));
    lines.map(str::to_owned).collect()
}

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Waits for something that the kernel does by and by.
#[expect(clippy::disallowed_methods, reason = "a test waits with a deadline")]
pub(crate) fn wait_for(what: &str, is: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn rules_that_are_there_are_not_applied_again() {
    if !is_root() {
        return;
    }
    let mut node = Node::new();
    node.container("web", 1, &Kind { six: true, ..Kind::on(&["front"]) });
    node.publish("web", vec![crate::node::port(8080, 80)]);
    assert_eq!(node.apply(), Applied::Changed);
    let generation = node.datapath.generation().unwrap();
    for _ in 0..3 {
        assert_eq!(node.apply(), Applied::Same);
    }
    assert_eq!(node.datapath.generation().unwrap(), generation);
    node.ready("web", 1, false);
    assert_eq!(node.apply(), Applied::Changed);
    assert_ne!(node.datapath.generation().unwrap(), generation);
}

#[test]
fn rules_that_somebody_took_away_are_applied_again() {
    if !is_root() {
        return;
    }
    let mut node = Node::new();
    node.apply();
    let (mut other, _) = Datapath::open(node.ground.tag).unwrap();
    other.remove().unwrap();
    node.datapath.set_gateway(&gateway(&node.picture)).unwrap();
    assert_eq!(node.apply(), Applied::Changed);
    assert_eq!(node.apply(), Applied::Same);
}

#[test]
fn the_next_agent_finds_what_the_last_one_made() {
    if !is_root() {
        return;
    }
    let mut node = Node::new();
    let web = node.container("web", 1, &Kind { six: true, ..Kind::on(&["front"]) });
    let prepared = node.datapath.prepare().unwrap();
    node.apply();
    let rules = node.rules();
    let (mut next, lacks) = Datapath::open(node.ground.tag).unwrap();
    assert!(lacks.is_empty());
    let sole = next.set_gateway(&gateway(&node.picture)).unwrap();
    assert_eq!(sole, node.ground.sole_forwarder, "it knows that nobody forwarded before");
    let owner = attempt("web", 1);
    let found = Found { device: web.device.clone(), owner, addresses: web.addresses };
    assert_eq!(next.attached().unwrap(), [found]);
    assert_ne!(next.prepare().unwrap().device, prepared.device);
    next.apply(&rules).unwrap();
    serve(&web.namespace, "web", (web.v4(), 80));
    assert_eq!(ask(&node.namespace, node.virtual_address("web", 80)).unwrap().0, "web");
}

#[test]
fn two_hundred_rounds_leave_nothing_behind() {
    if !is_root() {
        return;
    }
    let mut node = Node::new();
    let first = node.container("web", 1, &Kind::on(&["front"]));
    let name = first.device.clone();
    drop(first);
    node.forget("web", 1);
    node.apply();
    wait_for("the first device is left", || !devices().contains(&name));
    let (before, routes_before, descriptors_before) = (devices(), routes(), descriptors());
    for round in 0..200_u32 {
        let kind = Kind { six: round % 3 == 0, ..Kind::on(&["front"]) };
        let web = node.container("web", 1, &kind);
        if round % 2 == 0 {
            node.datapath.detach(&web.device);
        }
        if round % 50 == 0 {
            drop(node.datapath.prepare().unwrap());
            node.apply();
        }
        drop(web);
        node.forget("web", 1);
    }
    assert_eq!(descriptors(), descriptors_before);
    wait_for("devices are left", || devices() == before);
    assert_eq!(node.datapath.attached().unwrap(), []);
    assert_eq!(routes(), routes_before);
}

#[test]
fn nothing_is_left_when_all_is_removed() {
    if !is_root() {
        return;
    }
    let mut node = Node::new();
    let (mut other, _) = Datapath::open(node.ground.tag).unwrap();
    other.remove().unwrap();
    let (before, routes_before) = (devices(), routes());
    node.datapath.set_gateway(&gateway(&node.picture)).unwrap();
    let _web = node.container("web", 1, &Kind { six: true, ..Kind::on(&["front"]) });
    node.apply();
    let forwards = || fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap();
    assert_eq!(forwards().trim(), "1");
    node.datapath.remove().unwrap();
    wait_for("devices are left", || devices() == before);
    assert_eq!(routes(), routes_before);
    assert_eq!(forwards().trim(), "0");
    node.datapath.remove().unwrap();
}

#[test]
fn what_is_given_up_and_held_by_something_is_removed_with_the_rules() {
    if !is_root() {
        return;
    }
    let mut node = Node::new();
    node.apply();
    let before = devices();
    let containers: Vec<_> =
        (1..=5).map(|slot| node.container("web", slot, &Kind::on(&["front"]))).collect();
    node.apply();
    assert_eq!(node.datapath.attached().unwrap().len(), 5);
    for container in &containers {
        node.datapath.detach(&container.device);
        node.datapath.detach(&container.device);
    }
    assert_eq!(node.datapath.attached().unwrap(), []);
    (1..=5).for_each(|slot| node.forget("web", slot));
    node.apply();
    node.publish("web", vec![crate::node::port(8080, 80)]);
    node.picture.guarded.insert((crate::node::STRANGER, 1).into());
    assert_eq!(node.apply(), Applied::Changed);
    wait_for("devices are left", || devices() == before);
}
