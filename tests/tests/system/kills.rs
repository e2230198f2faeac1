//! Kill -9 of everything, one after the other: no container is needlessly restarted, and desired
//! and actual agree again.

use limpet_tests::fleet::{Broker, Fleet};
use limpet_tests::process::wait_for;

const CLOCKS: &str =
    "services: {clock: {image: limpet-demo, command: [clock], deploy: {replicas: 3}}}";
const MORE: &str =
    "services: {clock: {image: limpet-demo, command: [clock], deploy: {replicas: 4}}}";

fn running(broker: Broker) -> (Fleet, Vec<u32>) {
    let mut fleet = Fleet::with(broker);
    fleet.load_image(&limpet_images::demo_archive());
    fleet.add_node("n1", &[]);
    fleet.apply("shop", CLOCKS, &["--wait"]);
    fleet.wait_running("clock", 3);
    let pids = fleet.node_mut("n1").container_pids();
    assert_eq!(pids.len(), 3);
    (fleet, pids)
}

/// The same processes run, and the fleet still does what it is told.
fn unharmed(fleet: &mut Fleet, before: &[u32]) {
    fleet.wait_ready("n1");
    fleet.wait_running("clock", 3);
    assert_eq!(fleet.node_mut("n1").container_pids(), before, "the same processes");
    fleet.apply("shop", MORE, &["--wait"]);
    fleet.wait_running("clock", 4);
    let after = fleet.node_mut("n1").container_pids();
    assert!(before.iter().all(|pid| after.contains(pid)), "{before:?} in {after:?}");
}

#[test]
fn the_controller_with_its_broker() {
    let (mut fleet, pids) = running(Broker::Embedded);
    fleet.kill_controller();
    assert_eq!(fleet.node_mut("n1").container_pids(), pids, "they run on without a controller");
    fleet.start_controller();
    unharmed(&mut fleet, &pids);
}

#[test]
fn the_agent() {
    let (mut fleet, pids) = running(Broker::Embedded);
    fleet.node_mut("n1").kill_agent();
    fleet.start_agent("n1");
    unharmed(&mut fleet, &pids);
}

#[test]
fn the_agent_while_a_container_ends() {
    let (mut fleet, pids) = running(Broker::Embedded);
    fleet.node_mut("n1").kill_agent();
    let dead = rustix::process::Pid::from_raw(pids[0].cast_signed()).unwrap();
    rustix::process::kill_process(dead, rustix::process::Signal::KILL).unwrap();
    fleet.start_agent("n1");
    let replaced = wait_for("the replacement to run", || {
        fleet.instances().into_iter().find(|i| i["attempt"] == 2 && i["phase"] == "running")
    });
    assert_eq!(replaced["exit_code"], 137, "the keeper kept the exit code: {replaced}");
    let after = fleet.node_mut("n1").container_pids();
    assert!(pids[1..].iter().all(|pid| after.contains(pid)), "{pids:?} in {after:?}");
}

#[test]
fn the_keeper() {
    let (mut fleet, pids) = running(Broker::Embedded);
    let keeper = fleet.node_mut("n1").keeper_pid().expect("a keeper");
    let keeper = rustix::process::Pid::from_raw(keeper.cast_signed()).unwrap();
    rustix::process::kill_process(keeper, rustix::process::Signal::KILL).unwrap();
    let node = fleet.node_mut("n1");
    wait_for("another keeper", || {
        node.keeper_pid().filter(|pid| pid.cast_signed() != keeper.as_raw_nonzero().get())
    });
    unharmed(&mut fleet, &pids);
}

#[test]
fn everything_at_once() {
    let (mut fleet, pids) = running(Broker::Embedded);
    fleet.kill_controller();
    fleet.node_mut("n1").kill_agent();
    assert_eq!(fleet.node_mut("n1").container_pids(), pids, "they run on alone");
    fleet.start_agent("n1");
    fleet.start_controller();
    unharmed(&mut fleet, &pids);
}

#[test]
fn the_broker() {
    let (mut fleet, pids) = running(Broker::Mosquitto);
    fleet.kill_mosquitto();
    assert_eq!(fleet.node_mut("n1").container_pids(), pids, "they run on without a broker");
    fleet.start_mosquitto();
    unharmed(&mut fleet, &pids);
}
