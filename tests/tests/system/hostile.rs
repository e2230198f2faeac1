//! Workloads that do not want to be looked after: the agent answers all the same (I12).
//!
//! In each story a hostile thing goes on for much longer than the test waits for anything, and
//! meanwhile the agent is asked for what needs its loop and its keeper.

use std::process::Stdio;
use std::time::Instant;

use limpet_tests::fleet::Fleet;
use limpet_tests::process::wait_for;

/// Ten times as long as a test waits for an answer.
const LONG: &str = "10m";

fn fleet(hostile: &str) -> Fleet {
    let mut fleet = Fleet::start();
    fleet.load_image(&limpet_images::busybox_archive(None).unwrap());
    fleet.load_image(&limpet_images::demo_archive());
    fleet.add_node("n1", &[]);
    let calm =
        "services: {calm: {image: busybox, command: [sleep, '100000'], stop_grace_period: 0s}}";
    fleet.apply("calm", calm, &["--wait"]);
    fleet.apply("hostile", hostile, &[]);
    fleet
}

/// The command line's output; it comes in time though something hangs.
fn ask(fleet: &Fleet, arguments: &[&str]) -> String {
    let mut command = fleet.limpet_command(arguments);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_for(&format!("an answer to {arguments:?}"), || child.try_wait().unwrap());
    let output = child.wait_with_output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "limpet {arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// What is only the agent's is answered, what the keeper has to do is done, and another assignment is
/// taken over: in time, and told how soon.
#[expect(clippy::print_stdout, reason = "a person may want the figures")]
fn answers(fleet: &Fleet, while_what: &str) {
    let begun = Instant::now();
    let loads = ask(fleet, &["top", "--no-stream"]);
    assert!(loads.contains("calm.calm.1"), "{loads}");
    let looked = begun.elapsed();
    assert_eq!(ask(fleet, &["exec", "calm", "--", "echo", "quick"]), "quick\n");
    let executed = begun.elapsed() - looked;
    let more =
        "services: {more: {image: busybox, command: [sleep, '100000'], stop_grace_period: 0s}}";
    fleet.apply("more", more, &[]);
    fleet.wait_running("more", 1);
    let ran = begun.elapsed() - looked - executed;
    println!("{while_what}: figures {looked:?}, a command {executed:?}, an assignment {ran:?}");
    fleet.limpet(&["rm", "more"]);
    wait_for("it to be gone", || {
        fleet.instances().iter().all(|it| it["service"] != "more").then_some(())
    });
}

fn phase_of(fleet: &Fleet, service: &str) -> String {
    let of = |it: &serde_json::Value| it["service"] == service;
    let found = fleet.instances().into_iter().find(of);
    found.map(|it| it["phase"].as_str().unwrap().to_owned()).unwrap_or_default()
}

#[test]
fn a_first_process_that_ignores_its_end_stalls_nobody() {
    let deaf = format!(
        "services: {{deaf: {{image: limpet-demo, command: [ignore-term], stop_grace_period: {LONG}}}}}"
    );
    let fleet = fleet(&deaf);
    fleet.wait_running("deaf", 1);
    fleet.limpet(&["rm", "hostile"]);
    wait_for("the stop", || (phase_of(&fleet, "deaf") == "stopping").then_some(()));
    answers(&fleet, "a stop that is ignored");
    assert_eq!(phase_of(&fleet, "deaf"), "stopping", "it went on all the time");
}

#[test]
fn a_fork_bomb_stalls_nobody() {
    let bomb = format!(
        "services: {{bomb: {{image: limpet-demo, command: [fork-bomb], stop_grace_period: {LONG}, deploy: {{resources: {{limits: {{cpus: '1', pids: 200}}}}}}}}}}"
    );
    let mut fleet = fleet(&bomb);
    let node = fleet.node_mut("n1");
    wait_for("the bomb", || (node.container_pids().len() > 190).then_some(()));
    answers(&fleet, "a fork bomb");
    assert!(fleet.node_mut("n1").container_pids().len() > 190, "it went on all the time");
    // No command fits into it, which is told, and its own end is not in its hands.
    let inside = fleet.try_limpet(&["exec", "bomb", "--", "/bin/workload", "id"]);
    let errors = String::from_utf8_lossy(&inside.stderr);
    assert!(inside.status.code() == Some(126) && errors.contains("`pids`"), "{errors}");
    fleet.apply("hostile", &bomb.replace(LONG, "1s"), &[]);
    fleet.limpet(&["rm", "hostile"]);
    wait_for("its end", || phase_of(&fleet, "bomb").is_empty().then_some(()));
    assert!(fleet.node_mut("n1").container_pids().len() < 20);
}

#[test]
fn checks_that_hang_stall_nobody() {
    let stuck = format!(
        "services: {{stuck: {{image: busybox, command: [sleep, '100000'], stop_grace_period: 0s, deploy: {{replicas: 24}}, healthcheck: {{test: \"trap '' TERM INT HUP; echo stuck >/proc/1/fd/1; while :; do sleep 1; done\", interval: 50ms, timeout: {LONG}}}}}}}"
    );
    let mut fleet = fleet(&stuck);
    fleet.wait_running("stuck", 24);
    let node = fleet.node_mut("n1");
    // Each check is a shell and what that runs.
    wait_for("the checks", || (node.container_pids().len() > 40).then_some(()));
    answers(&fleet, "checks that hang");
    // Those of others are made all the same.
    let well = "services: {well: {image: busybox, command: [sleep, '100000'], stop_grace_period: 0s, healthcheck: {test: 'true', interval: 50ms}}}";
    fleet.apply("well", well, &[]);
    wait_for("another's check", || {
        fleet
            .instances()
            .into_iter()
            .find(|it| it["service"] == "well" && it["health"] == "healthy")
    });
}
