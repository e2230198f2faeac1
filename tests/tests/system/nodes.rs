//! Several nodes: where things go, and what happens when a node is gone.

use limpet_tests::fleet::Fleet;
use limpet_tests::process::wait_for;

#[test]
fn instances_spread_and_keep_to_their_constraints() {
    let mut fleet = Fleet::start();
    fleet.load_image(&limpet_images::demo_archive());
    fleet.add_node("n1", &["site=north"]);
    fleet.add_node("n2", &["site=south"]);
    let compose = "
services:
  both: {image: limpet-demo, command: [clock], deploy: {replicas: 4}}
  north: {image: limpet-demo, command: [clock], deploy: {replicas: 2, placement: {constraints: [node.labels.site == north]}}}
  each: {image: limpet-demo, command: [clock], deploy: {mode: global}}
  nowhere: {image: limpet-demo, command: [clock], deploy: {placement: {constraints: [node.labels.site == west]}}}
";
    fleet.apply("shop", compose, &[]);
    let on = |instances: &[serde_json::Value], node: &str| {
        instances.iter().filter(|i| i["node"] == node).count()
    };
    let both = fleet.wait_running("both", 4);
    assert_eq!((on(&both, "n1"), on(&both, "n2")), (2, 2), "{both:?}");
    let north = fleet.wait_running("north", 2);
    assert_eq!(on(&north, "n1"), 2, "{north:?}");
    let each = fleet.wait_running("each", 2);
    assert_eq!((on(&each, "n1"), on(&each, "n2")), (1, 1), "{each:?}");
    let pending = fleet.wait_reason("nowhere", "site");
    assert_eq!(pending["phase"], "pending", "{pending}");
}

#[test]
fn a_lost_node_is_replaced_and_hears_of_it_when_it_returns() {
    let mut fleet = Fleet::start();
    fleet.load_image(&limpet_images::demo_archive());
    fleet.add_node("n1", &[]);
    fleet.add_node("n2", &[]);
    fleet.apply(
        "shop",
        "services: {clock: {image: limpet-demo, command: [clock], deploy: {replicas: 2}}}",
        &["--wait"],
    );
    fleet.wait_running("clock", 2);
    fleet.node_mut("n2").kill_agent();
    let moved = wait_for("both to run on the first node", || {
        let running: Vec<_> =
            fleet.instances().into_iter().filter(|i| i["phase"] == "running").collect();
        (running.len() == 2 && running.iter().all(|i| i["node"] == "n1")).then_some(running)
    });
    assert_eq!(moved.len(), 2);
    assert!(
        !fleet.node_mut("n2").container_pids().is_empty(),
        "what ran on the lost node runs on while it is cut off"
    );
    fleet.start_agent("n2");
    fleet.wait_ready("n2");
    let node = fleet.node_mut("n2");
    wait_for("the returned node to stop what moved", || {
        node.container_pids().is_empty().then_some(())
    });
    fleet.wait_running("clock", 2);
}
