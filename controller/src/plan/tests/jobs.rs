//! Jobs: how many run at a time, and what is over.

use limpet_protocol::phase::Phase;
use limpet_protocol::report::InstanceStatus;

use super::*;

pub(super) fn status(service: &str, slot: u32, phase: Phase) -> InstanceStatus {
    InstanceStatus {
        instance: key(service).instance(Slot(slot)),
        attempt: 1,
        spec: SpecHash([1; 32]),
        phase,
        reason: None,
        last_exit: None,
        since_ms: 0,
        health: None,
        ready: None,
        failures: 0,
    }
}

fn job(completions: u32, parallelism: u32) -> Wanted {
    let mode = Mode::ReplicatedJob { completions, parallelism };
    Wanted { ending: Ending::Any, ..Wanted::new(SpecHash([1; 32]), mode) }
}

fn done(planner: &Planner, node: &str) -> String {
    let shares = planner.share(&id(node));
    let done = shares.iter().flat_map(|share| &share.done).map(ToString::to_string);
    done.collect::<Vec<_>>().join(",")
}

#[test]
fn so_many_at_a_time_until_all_have_completed() {
    let n = node(1024, "north");
    let mut planner = fleet(&[("n1", n.clone()), ("n2", n)]);
    want(&mut planner, &[("job", job(5, 2))]);
    planner.plan();
    assert_eq!(places(&planner, "job"), "n1:1 n2:2");
    assert!(planner.report(&id("n1"), &status("job", 1, Phase::Completed), None));
    assert_eq!(planner.plan().nodes, [id("n1")].into());
    assert_eq!(
        (places(&planner, "job").as_str(), done(&planner, "n1").as_str()),
        ("n1:1,3 n2:2", "1")
    );
    // One that failed for good runs no more, and the others go on.
    assert!(planner.report(&id("n2"), &status("job", 2, Phase::Failed), None));
    planner.plan();
    assert_eq!(places(&planner, "job"), "n1:1,3 n2:2,4");
    for (node, slot) in [("n1", 3), ("n2", 4)] {
        planner.report(&id(node), &status("job", slot, Phase::Completed), None);
        planner.plan();
    }
    assert_eq!(places(&planner, "job"), "n1:1,3,5 n2:2,4");
    planner.report(&id("n1"), &status("job", 5, Phase::Completed), None);
    planner.plan();
    assert!(!planner.is_open(&key("job")));
    // A lost node takes nothing with it.
    planner.remove_node(&id("n1"));
    planner.plan();
    assert_eq!(places(&planner, "job"), "n2:2,4");
    // A new spec is a new count.
    want(&mut planner, &[("job", Wanted { spec: SpecHash([2; 32]), ..job(5, 2) })]);
    planner.plan();
    assert_eq!((places(&planner, "job").as_str(), done(&planner, "n2").as_str()), ("n2:2,4", ""));
}

#[test]
fn what_is_over_takes_no_memory_and_only_the_last_runs_stay() {
    let mut planner = fleet(&[("n1", node(100, "north"))]);
    let needs = Needs { memory_bytes: 100 << 20, ..Needs::default() };
    want(&mut planner, &[("job", Wanted { needs, ..job(20, 1) })]);
    for slot in 1..=20 {
        planner.plan();
        assert!(places(&planner, "job").ends_with(&slot.to_string()), "{slot}");
        assert!(planner.report(&id("n1"), &status("job", slot, Phase::Completed), None));
    }
    planner.plan();
    assert_eq!(places(&planner, "job"), "n1:13,14,15,16,17,18,19,20");
    assert_eq!(planner.usage(&id("n1")).memory_bytes, 0);
    assert_eq!(planner.progress().get(&key("job")).unwrap().done.len(), 20);
}

#[test]
fn a_global_job_runs_once_on_each_node_and_on_new_ones() {
    let n = node(1024, "north");
    let mut planner = fleet(&[("n1", n.clone()), ("n2", n.clone())]);
    want(&mut planner, &[("job", Wanted { mode: Mode::GlobalJob, ..job(0, 0) })]);
    planner.plan();
    for name in ["n1", "n2"] {
        assert!(planner.report(&id(name), &status("job", 1, Phase::Completed), None));
    }
    planner.plan();
    assert_eq!((done(&planner, "n1"), done(&planner, "n2")), ("1".into(), "1".into()));
    planner.set_node(&id("n3"), n);
    planner.plan();
    assert_eq!(places(&planner, "job"), "n1:1 n2:1 n3:1");
}

#[test]
fn what_a_node_says_of_slots_that_it_does_not_have_counts_for_nothing() {
    let n = node(1024, "north");
    let mut planner = fleet(&[("n1", n.clone()), ("n2", n)]);
    want(&mut planner, &[("job", job(2, 2))]);
    planner.plan();
    assert!(!planner.report(&id("n2"), &status("job", 1, Phase::Completed), None));
    assert!(!planner.report(&id("n1"), &status("other", 1, Phase::Completed), None));
}

#[test]
fn a_service_that_runs_once_is_not_run_again_elsewhere() {
    let n = node(1024, "north");
    let mut planner = fleet(&[("n1", n.clone()), ("n2", n.clone())]);
    want(&mut planner, &[("once", Wanted { ending: Ending::Any, ..wanted(2) })]);
    planner.plan();
    planner.report(&id("n1"), &status("once", 1, Phase::Completed), None);
    stand(&mut planner, "n1", &n, Standing::Lost);
    planner.plan();
    assert_eq!(places(&planner, "once"), "n1:1 n2:2");
    planner.remove_node(&id("n1"));
    planner.plan();
    assert_eq!(places(&planner, "once"), "n2:2", "its slot is not filled again");
    want(&mut planner, &[("once", Wanted { ending: Ending::Any, ..wanted(3) })]);
    planner.plan();
    assert_eq!(places(&planner, "once"), "n2:2,3");
}
