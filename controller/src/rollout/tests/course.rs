//! The course of one update: groups, failures, pauses, rollbacks, nodes that are away.

use super::*;

#[test]
fn a_new_service_and_more_replicas_begin_with_the_target() {
    let mut fleet = Fleet::new(2);
    fleet.apply(&[("s", want(1, 2))]);
    assert_eq!((fleet.versions("s"), fleet.said("s")), ("11".into(), String::new()));
    fleet.apply(&[("s", want(1, 4))]);
    assert_eq!((fleet.versions("s"), fleet.said("s")), ("1111".into(), String::new()));
    fleet.slow.insert(2);
    fleet.apply(&[("s", want(2, 5))]);
    assert_eq!(fleet.versions("s"), "21112", "one is on its way, one is new");
}

#[test]
fn one_after_the_other_and_over_when_nothing_failed_for_a_while() {
    let mut fleet = Fleet::new(2);
    fleet.apply(&[("s", want(1, 3))]);
    fleet.slow.insert(2);
    fleet.apply(&[("s", want(2, 3))]);
    assert_eq!((fleet.versions("s"), fleet.said("s")), ("211".into(), "updating 0/3".into()));
    fleet.pass(60_000);
    assert_eq!(fleet.versions("s"), "211", "it waits for the first");
    fleet.come_up(2);
    assert_eq!((fleet.versions("s"), fleet.said("s")), ("222".into(), "updating 3/3".into()));
    fleet.pass(4_999);
    assert_eq!(fleet.said("s"), "updating 3/3");
    fleet.pass(1);
    assert_eq!(fleet.said("s"), "");
    assert_eq!(fleet.news, ["rollout_started", "rollout_done"]);
    assert!(fleet.rollouts.records(&"a".parse().unwrap()).is_empty());
}

#[test]
fn parallelism_and_delay_are_kept() {
    let mut fleet = Fleet::new(3);
    fleet.apply(&[("s", want(1, 6))]);
    let mut next = want(2, 6);
    (next.update.parallelism, next.update.delay_ms) = (2, 1000);
    fleet.apply(&[("s", next.clone())]);
    assert_eq!(fleet.versions("s"), "221111");
    fleet.pass(999);
    assert_eq!(fleet.versions("s"), "221111");
    fleet.pass(1);
    assert_eq!(fleet.versions("s"), "222211");
    next.version = 3;
    next.update.parallelism = 0;
    fleet.apply(&[("s", next)]);
    assert_eq!(fleet.versions("s"), "333333", "0 is all at once, and a new target supersedes");
}

#[test]
fn too_many_failures_pause_and_a_person_may_go_on() {
    let mut fleet = Fleet::new(2);
    fleet.apply(&[("s", want(1, 4))]);
    fleet.bad.insert(2);
    let mut next = want(2, 4);
    next.update.max_failure_ppm = 250_000;
    fleet.apply(&[("s", next)]);
    assert_eq!(fleet.versions("s"), "2211", "one in four is borne, the second is not");
    assert_eq!(fleet.said("s"), "update paused at 0/4, 2 failed: a.s.2 on n2 crashed");
    fleet.apply(&[("s", Want { version: 2, ..want(2, 5) })]);
    assert_eq!(fleet.versions("s"), "22111", "what is new begins with what is known to be good");
    fleet.bad.clear();
    let places: Vec<_> =
        fleet.planner.places(&key("s")).map(|(id, slot)| (id.clone(), slot)).collect();
    let places = || places.iter().map(|(id, slot)| (id, *slot));
    assert!(fleet.rollouts.obey(&key("s"), Order::Pause, places()).is_err());
    fleet.rollouts.obey(&key("s"), Order::Resume, places()).unwrap();
    fleet.settle();
    fleet.pass(5_000);
    assert_eq!((fleet.versions("s"), fleet.said("s")), ("22222".into(), String::new()));
}

#[test]
fn it_goes_back_to_what_was_proven() {
    let mut fleet = Fleet::new(2);
    fleet.apply(&[("s", want(1, 3))]);
    let mut next = want(2, 3);
    next.update.failure_action = FailureAction::Rollback;
    fleet.slow.insert(2);
    fleet.apply(&[("s", next.clone())]);
    fleet.bad.insert(3);
    fleet.apply(&[("s", Want { version: 3, ..next })]);
    assert_eq!(fleet.versions("s"), "111", "version 2 never proved itself");
    fleet.pass(5_000);
    assert_eq!(fleet.said("s"), "rolled back: a.s.1 on n1 crashed");
    fleet.apply(&[("s", Want { version: 3, ..want(3, 4) })]);
    assert_eq!(fleet.versions("s"), "1111");
    assert_eq!(
        fleet.news,
        ["rollout_started", "rollout_started", "rollout_rolls_back", "rollout_rolled_back"]
    );
    fleet.bad.clear();
    let places: Vec<_> =
        fleet.planner.places(&key("s")).map(|(id, slot)| (id.clone(), slot)).collect();
    let places = places.iter().map(|(id, slot)| (id, *slot));
    fleet.rollouts.obey(&key("s"), Order::Resume, places).unwrap();
    fleet.settle();
    fleet.pass(5_000);
    assert_eq!((fleet.versions("s"), fleet.said("s")), ("3333".into(), String::new()));
}

#[test]
fn a_late_failure_counts_while_it_is_watched() {
    let mut fleet = Fleet::new(1);
    fleet.apply(&[("s", want(1, 2))]);
    let mut next = want(2, 2);
    next.update.failure_action = FailureAction::Rollback;
    fleet.apply(&[("s", next)]);
    assert_eq!(fleet.versions("s"), "22");
    fleet.pass(4_000);
    for status in fleet.runs.values_mut() {
        status.failed = Some("crashed".into());
    }
    fleet.settle();
    fleet.pass(5_000);
    assert_eq!(fleet.versions("s"), "11");
    assert!(fleet.said("s").starts_with("rolled back"), "{}", fleet.said("s"));
}

#[test]
fn a_rollback_that_fails_pauses() {
    let mut fleet = Fleet::new(1);
    fleet.apply(&[("s", want(1, 2))]);
    fleet.bad.extend([1, 2]);
    let mut next = want(2, 2);
    next.update.failure_action = FailureAction::Rollback;
    fleet.apply(&[("s", next)]);
    assert_eq!(fleet.said("s"), "rollback paused at 1/2, 1 failed: a.s.1 on n1 crashed");
}

#[test]
fn who_is_away_neither_stalls_nor_counts_and_follows() {
    let mut fleet = Fleet::new(3);
    let global = |version| Want { mode: Mode::Global, ..want(version, 0) };
    fleet.apply(&[("s", global(1))]);
    fleet.stand("n2", Standing::Unreachable);
    fleet.apply(&[("s", global(2))]);
    fleet.pass(5_000);
    assert_eq!(
        (fleet.versions("s"), fleet.said("s")),
        ("212".into(), "updated 2/3, 1 away".into())
    );
    fleet.bad.insert(2);
    fleet.stand("n2", Standing::Ready);
    fleet.settle();
    assert_eq!(fleet.versions("s"), "222");
    assert!(fleet.said("s").starts_with("update paused at 2/3"), "{}", fleet.said("s"));
}

#[test]
fn nobody_is_woken_in_vain() {
    let mut fleet = Fleet::new(3);
    fleet.rollouts.link_came_up(0);
    let global = |version| Want { mode: Mode::Global, ..want(version, 0) };
    fleet.apply(&[("s", global(1))]);
    fleet.stand("n2", Standing::Unreachable);
    fleet.slow.insert(2);
    fleet.apply(&[("s", global(2))]);
    assert!(
        fleet.rollouts.deadline().is_some_and(|at| at > 0),
        "who is away may yet say it is there"
    );
    fleet.pass(60_000);
    assert_eq!(fleet.rollouts.deadline(), None, "it waits for the first to come up");
    fleet.come_up(2);
    assert_eq!(fleet.rollouts.deadline(), Some(65_000));
    fleet.pass(5_000);
    assert_eq!((fleet.rollouts.deadline(), fleet.said("s")), (None, "updated 2/3, 1 away".into()));
}

#[test]
fn a_node_that_goes_before_it_began_comes_under_the_rules_again() {
    let mut fleet = Fleet::new(2);
    let global = |version| Want { mode: Mode::Global, ..want(version, 0) };
    fleet.apply(&[("s", global(1))]);
    fleet.slow.insert(2);
    fleet.apply(&[("s", global(2))]);
    assert_eq!(fleet.versions("s"), "21");
    // What it was told did not reach it.
    for (place, status) in &mut fleet.runs {
        if place.1.as_str() == "n1" {
            (status.spec, status.up) = (hash(1), true);
        }
    }
    fleet.stand("n1", Standing::Unreachable);
    fleet.settle();
    assert_eq!(fleet.versions("s"), "12", "the other one goes on");
    fleet.come_up(2);
    fleet.pass(5_000);
    assert_eq!(fleet.said("s"), "updated 1/2, 1 away");
    fleet.stand("n1", Standing::Ready);
    fleet.settle();
    fleet.pass(5_000);
    assert_eq!((fleet.versions("s"), fleet.said("s")), ("22".into(), String::new()));
}

#[test]
fn dependencies_go_first_and_hold_the_others_when_they_fail() {
    let mut fleet = Fleet::new(2);
    let web = |version| Want { after: vec!["db"], ..want(version, 2) };
    fleet.apply(&[("db", want(1, 1)), ("web", web(1))]);
    fleet.slow.insert(2);
    fleet.apply(&[("db", want(2, 1)), ("web", web(2))]);
    assert_eq!((fleet.versions("db"), fleet.versions("web")), ("2".into(), "11".into()));
    assert_eq!(fleet.said("web"), "updating 0/2: waits for db, which goes first");
    fleet.come_up(2);
    assert_eq!(fleet.versions("web"), "22");
    fleet.pass(5_000);
    fleet.bad.insert(3);
    fleet.apply(&[("db", want(3, 1)), ("web", web(3))]);
    assert_eq!((fleet.versions("db"), fleet.versions("web")), ("3".into(), "22".into()));
    assert_eq!(fleet.said("web"), "updating 0/2: waits for db, which is paused");
}

#[test]
fn jobs_and_other_modes_are_not_rolled_out() {
    let mut fleet = Fleet::new(2);
    fleet.apply(&[("s", want(1, 2))]);
    fleet.apply(&[("s", Want { mode: Mode::Global, ..want(2, 0) })]);
    assert_eq!((fleet.versions("s"), fleet.said("s")), ("22".into(), String::new()));
}
