//! Services follow their load: on a node that is cut off, and over several nodes.

use std::path::PathBuf;

use limpet_tests::fleet::Fleet;
use limpet_tests::process::wait_for;

/// A service that uses its processor as long as there is a file, and is at its target with little of it: also
/// on a busy machine it gets far more.
fn compose(fleet: &Fleet, policy: &str, more: &str) -> (PathBuf, String) {
    let shared = fleet.folder().join("shared");
    std::fs::create_dir_all(&shared).unwrap();
    let text = format!(
        "services:
  web:
    image: limpet-demo
    command: [burn, /shared/busy]
    volumes: [\"{}:/shared\"]
    deploy:
      resources: {{reservations: {{cpus: '0.05'}}, limits: {{cpus: '0.2'}}}}
      x-autoscale: {{cpu: 60%, down: {{window: 1s}}, {policy}}}
      {more}
",
        shared.display()
    );
    (shared.join("busy"), text)
}

/// Waits until so many instances run and no other is there but those that the load does not ask for.
fn wait_running(fleet: &Fleet, count: usize) -> Vec<serde_json::Value> {
    wait_for(&format!("{count} instances that run"), || {
        let mut others = fleet.instances();
        others.retain(|it| it["phase"] != "idle");
        let run = others.iter().all(|it| it["phase"] == "running" && it["current"] == true);
        (run && others.len() == count).then_some(others)
    })
}

fn slots(instances: &[serde_json::Value]) -> Vec<u64> {
    let mut slots: Vec<u64> = instances.iter().filter_map(|it| it["slot"].as_u64()).collect();
    slots.sort_unstable();
    slots
}

#[test]
fn a_node_decides_alone_while_it_is_cut_off() {
    let mut fleet = Fleet::start();
    fleet.load_image(&limpet_images::demo_archive());
    fleet.add_node("n1", &[]);
    let (busy, text) = compose(&fleet, "min: 1, max: 3", "");
    fleet.apply("shop", &text, &["--wait"]);
    wait_running(&fleet, 1);
    let home = fleet.node_mut("n1").container_pids();
    fleet.kill_controller();
    std::fs::write(&busy, "").unwrap();
    let node = fleet.node_mut("n1");
    let many = wait_for("three processes", || {
        let pids = node.container_pids();
        (pids.len() == 3).then_some(pids)
    });
    assert!(many.contains(&home[0]), "{home:?} in {many:?}");
    fleet.start_controller();
    fleet.wait_ready("n1");
    let running = wait_running(&fleet, 3);
    assert_eq!(slots(&running), [1, 1001, 1002], "{running:?}");
    let events = wait_for("the node to tell why", || {
        let events = fleet.limpet(&["events"]);
        events.contains("and not 1: cpu").then_some(events)
    });
    assert!(events.contains("shop.web runs"), "{events}");
    // The agent too may go and come: what runs goes on. Only now is nothing of the making of containers left.
    let many = fleet.node("n1").container_pids();
    assert_eq!(many.len(), 3, "{many:?}");
    fleet.node_mut("n1").kill_agent();
    fleet.start_agent("n1");
    fleet.wait_ready("n1");
    assert_eq!(fleet.node_mut("n1").container_pids(), many);
    fleet.kill_controller();
    std::fs::remove_file(&busy).unwrap();
    let node = fleet.node_mut("n1");
    wait_for("one process", || (node.container_pids() == home).then_some(()));
    fleet.start_controller();
    assert_eq!(slots(&wait_running(&fleet, 1)), [1]);
}

#[test]
fn after_a_power_cut_a_node_follows_the_load_alone() {
    let mut fleet = Fleet::start();
    fleet.load_image(&limpet_images::demo_archive());
    fleet.add_node("n1", &[]);
    let (busy, text) = compose(&fleet, "min: 1, max: 3", "");
    fleet.apply("shop", &text, &["--wait"]);
    std::fs::write(&busy, "").unwrap();
    wait_running(&fleet, 3);
    fleet.kill_controller();
    std::fs::remove_file(&busy).unwrap();
    fleet.node_mut("n1").cut_the_power();
    fleet.start_agent("n1");
    let node = fleet.node_mut("n1");
    let one = || (node.container_pids().len() == 1).then_some(());
    wait_for("the least to run, of what is on disk", one);
    std::fs::write(&busy, "").unwrap();
    wait_for("three processes", || (node.container_pids().len() == 3).then_some(()));
    std::fs::remove_file(&busy).unwrap();
    wait_for("one process", || (node.container_pids().len() == 1).then_some(()));
    fleet.start_controller();
    fleet.wait_ready("n1");
    assert_eq!(slots(&wait_running(&fleet, 1)), [1]);
}

#[test]
fn three_nodes_help_each_other_and_give_back() {
    let mut fleet = Fleet::start();
    fleet.load_image(&limpet_images::demo_archive());
    for node in ["n1", "n2", "n3"] {
        fleet.add_node(node, &[]);
    }
    let policy = "min: 1, max: 3, per: application";
    let (busy, text) = compose(&fleet, policy, "placement: {max_replicas_per_node: 1}");
    fleet.apply("shop", &text, &["--wait"]);
    wait_running(&fleet, 1);
    std::fs::write(&busy, "").unwrap();
    let running = wait_running(&fleet, 3);
    let mut nodes: Vec<_> = running.iter().map(|it| it["node"].as_str().unwrap()).collect();
    nodes.sort_unstable();
    assert_eq!(nodes, ["n1", "n2", "n3"], "{running:?}");
    std::fs::remove_file(&busy).unwrap();
    wait_running(&fleet, 1);
    fleet.limpet(&["rm", "shop"]);
    wait_for("nothing to run", || fleet.instances().is_empty().then_some(()));
}
