//! A Compose file becomes containers, and its changes become theirs.

use limpet_tests::fleet::{Broker, Fleet};
use limpet_tests::process::wait_for;

fn story(broker: Broker) {
    let mut fleet = Fleet::with(broker);
    fleet.load_image(&limpet_images::demo_archive());
    fleet.add_node("n1", &[]);
    fleet.apply(
        "shop",
        "services: {clock: {image: limpet-demo, command: [clock], deploy: {replicas: 3}}}",
        &["--wait"],
    );
    let before = fleet.wait_running("clock", 3);
    assert!(before.iter().all(|i| i["node"] == "n1" && i["attempt"] == 1), "{before:?}");
    let pids = fleet.node_mut("n1").container_pids();

    // The same file again changes nothing.
    let again = fleet.apply(
        "shop",
        "services: {clock: {image: limpet-demo, command: [clock], deploy: {replicas: 3}}}",
        &[],
    );
    assert!(again.contains("unchanged"), "{again}");
    assert_eq!(fleet.node_mut("n1").container_pids(), pids);

    // More replicas leave those that run alone; fewer take the highest slots.
    fleet.apply(
        "shop",
        "services: {clock: {image: limpet-demo, command: [clock], deploy: {replicas: 5}}}",
        &["--wait"],
    );
    fleet.wait_running("clock", 5);
    let more = fleet.node_mut("n1").container_pids();
    assert!(pids.iter().all(|pid| more.contains(pid)), "{pids:?} in {more:?}");
    fleet.apply(
        "shop",
        "services: {clock: {image: limpet-demo, command: [clock], deploy: {replicas: 1}}}",
        &["--wait"],
    );
    assert_eq!(fleet.wait_running("clock", 1)[0]["slot"], 1);

    // A changed spec is a new container in the same slot.
    fleet.apply(
        "shop",
        "services: {clock: {image: limpet-demo, command: [clock], environment: {A: b}}}",
        &["--wait"],
    );
    let changed = fleet.wait_running("clock", 1);
    assert!(changed[0]["attempt"].as_u64().unwrap() > 1, "{changed:?}");

    fleet.limpet(&["rm", "shop"]);
    wait_for("nothing to run", || fleet.instances().is_empty().then_some(()));
    let node = fleet.node_mut("n1");
    wait_for("no process to be left", || node.container_pids().is_empty().then_some(()));
}

#[test]
fn lives_and_goes_with_the_embedded_broker() {
    story(Broker::Embedded);
}

#[test]
fn lives_and_goes_with_mosquitto() {
    story(Broker::Mosquitto);
}

#[test]
fn output_is_there_to_read() {
    let mut fleet = Fleet::start();
    fleet.load_image(&limpet_images::demo_archive());
    fleet.add_node("n1", &[]);
    let compose = "services: {once: {image: limpet-demo, command: [once, '3'], restart: 'no'}, clock: {image: limpet-demo, command: [clock]}}";
    fleet.apply("shop", compose, &[]);
    let failed = wait_for("the service to end", || {
        fleet.instances().into_iter().find(|i| i["service"] == "once" && i["phase"] == "failed")
    });
    assert_eq!(failed["exit_code"], 3, "{failed}");
    let logs = wait_for("two lines of the clock", || {
        let logs = fleet.limpet(&["logs", "shop.clock.1", "--tail", "2"]);
        (logs.lines().count() == 2).then_some(logs)
    });
    assert!(!logs.is_empty());
    let events = fleet.limpet(&["events"]);
    assert!(events.contains("shop.once.1") && events.contains('3'), "{events}");
}

#[test]
fn a_killed_container_is_replaced() {
    let mut fleet = Fleet::start();
    fleet.load_image(&limpet_images::demo_archive());
    fleet.add_node("n1", &[]);
    fleet.apply("shop", "services: {clock: {image: limpet-demo, command: [clock]}}", &["--wait"]);
    let pid = fleet.node_mut("n1").container_pids()[0];
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(pid.cast_signed()).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
    let now = wait_for("the second attempt to run", || {
        fleet.instances().into_iter().find(|i| i["phase"] == "running" && i["attempt"] == 2)
    });
    assert_eq!(now["exit_code"], 137, "{now}");
}

#[test]
fn want_of_memory_is_named() {
    let mut fleet = Fleet::start();
    fleet.load_image(&limpet_images::demo_archive());
    fleet.add_node("n1", &[]);
    let compose = "services: {eat: {image: limpet-demo, command: [eat, '64'], restart: 'no', deploy: {resources: {limits: {memory: 16M}}}}}";
    fleet.apply("shop", compose, &[]);
    let ended = wait_for("the service to end", || {
        fleet.instances().into_iter().find(|i| i["phase"] == "failed")
    });
    assert_eq!(
        (&ended["out_of_memory"], &ended["exit_code"]),
        (&true.into(), &137.into()),
        "{ended}"
    );
}
