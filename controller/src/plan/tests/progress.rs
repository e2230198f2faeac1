//! What is over, and which conditions of dependencies have held.

use limpet_protocol::phase::Phase;
use limpet_protocol::report::{Exit, Health, InstanceStatus};
use limpet_protocol::spec::{ImageSource, RestartCondition, Spec};

use super::*;
use crate::plan::progress::{Progress, Run, Seen, judge};
use crate::store::records::{Held, ServiceProgress};

const SPEC: SpecHash = SpecHash([1; 32]);

fn key() -> ServiceKey {
    ServiceKey { application: "shop".parse().unwrap(), service: "job".parse().unwrap() }
}

fn status(slot: u32, phase: Phase, code: Option<i32>) -> InstanceStatus {
    InstanceStatus {
        instance: key().instance(Slot(slot)),
        attempt: 1,
        spec: SPEC,
        phase,
        reason: None,
        last_exit: code.map(|code| Exit { code: Some(code), out_of_memory: false }),
        since_ms: 0,
        health: None,
        ready: None,
        failures: 0,
    }
}

#[test]
fn which_ends_are_for_good() {
    use limpet_protocol::application::Mode;
    let replicated = Mode::Replicated { replicas: 1 };
    let job = Mode::ReplicatedJob { completions: 1, parallelism: 1 };
    let rows = [
        (replicated, RestartCondition::Any, Ending::Never),
        (replicated, RestartCondition::OnFailure, Ending::Success),
        (replicated, RestartCondition::None, Ending::Any),
        (job, RestartCondition::OnFailure, Ending::Any),
        (Mode::GlobalJob, RestartCondition::None, Ending::Any),
        (Mode::Global, RestartCondition::None, Ending::Any),
    ];
    for (mode, condition, ending) in rows {
        let mut spec = Spec::new(key().application, key().service, ImageSource::new("a"));
        spec.restart.condition = condition;
        let mut service = Service::new(spec, mode);
        assert_eq!(Ending::of(&service), ending, "{mode:?} {condition:?}");
        service.spec.schedule = Some(limpet_protocol::spec::Schedule {
            cron: "0 3 * * *".into(),
            zone: String::new(),
            missed: limpet_protocol::spec::MissedRuns::default(),
            deadline_ms: None,
            overlap: limpet_protocol::spec::Overlap::default(),
        });
        assert_eq!(Ending::of(&service), Ending::Never, "it runs when its time comes");
    }
}

#[test]
fn what_is_over_stays_over_until_there_is_another_spec() {
    let node: NodeId = "n1".parse().unwrap();
    let run = Run { node: &node, by_node: false, ending: Ending::Any, has: SPEC, spec: SPEC };
    let mut progress = Progress::default();
    progress.begin(&key(), Some((SPEC, false)), &BTreeSet::new());
    assert!(!progress.note(&key(), run, &status(1, Phase::Running, None)));
    let never = Run { ending: Ending::Never, ..run };
    assert!(!progress.note(&key(), never, &status(1, Phase::Completed, Some(0))));
    let success = Run { ending: Ending::Success, ..run };
    assert!(!progress.note(&key(), success, &status(1, Phase::Failed, Some(1))));
    assert!(progress.note(&key(), run, &status(1, Phase::Completed, Some(0))));
    assert!(progress.note(&key(), run, &status(2, Phase::Failed, Some(7))));
    // A node that was told not to start it again may say that it is done: it has failed.
    assert!(!progress.note(&key(), run, &status(2, Phase::Completed, None)));
    let other = InstanceStatus { spec: SpecHash([2; 32]), ..status(3, Phase::Completed, None) };
    assert!(!progress.note(&key(), run, &other), "of an earlier spec");
    assert_eq!(progress.why_failed(&key(), None, Slot(2)), Some("it ended with exit code 7"));
    let kept = progress.take_changed();
    assert!(progress.take_changed().is_empty());
    let mut restored = Progress::default();
    for (application, record) in kept {
        restored.restore(&application, record.unwrap());
    }
    restored.begin(&key(), Some((SPEC, false)), &BTreeSet::new());
    assert!(restored.is_done(&key(), &node, Slot(1)) && !restored.is_done(&key(), &node, Slot(2)));
    assert!(restored.is_over(&key(), &node, Slot(2)));
    restored.begin(&key(), Some((SpecHash([2; 32]), false)), &BTreeSet::new());
    assert!(!restored.is_over(&key(), &node, Slot(1)));
    assert_eq!(restored.take_changed(), [(key().application, None)]);
}

#[test]
fn what_waits_for_its_turn_stays_over_with_the_spec_that_it_has() {
    const NEXT: SpecHash = SpecHash([2; 32]);
    let node: NodeId = "n1".parse().unwrap();
    let old = Run { node: &node, by_node: false, ending: Ending::Any, has: SPEC, spec: SPEC };
    let mut progress = Progress::default();
    for slot in 1..=3 {
        assert!(progress.note(&key(), old, &status(slot, Phase::Completed, Some(0))));
    }
    // Slot 3 is placed nowhere any more: it begins with the new spec.
    let waits = [1, 2].map(|slot| (node.clone(), Slot(slot)));
    progress.begin(&key(), Some((NEXT, false)), &waits.into());
    let over = |progress: &Progress| -> Vec<bool> {
        (1..=4).map(|slot| progress.is_over(&key(), &node, Slot(slot))).collect()
    };
    assert_eq!(over(&progress), [true, true, false, false]);
    // Its turn has come, and it completes again; another ends with what it has.
    assert!(progress.forget(&key(), &node, Slot(1)) && !progress.forget(&key(), &node, Slot(1)));
    assert_eq!(over(&progress), [false, true, false, false]);
    let turned = Run { has: NEXT, spec: NEXT, ..old };
    assert!(!progress.note(&key(), turned, &status(1, Phase::Completed, Some(0))), "of before");
    let done = InstanceStatus { spec: NEXT, ..status(1, Phase::Completed, Some(0)) };
    assert!(progress.note(&key(), turned, &done));
    let waits = Run { has: SPEC, spec: NEXT, ..old };
    assert!(progress.note(&key(), waits, &status(4, Phase::Completed, Some(0))));
    assert_eq!(over(&progress), [true, true, false, true]);
    assert_eq!(progress.get(&key()).map(|kept| kept.spec), Some(NEXT), "the store keeps it so");
}

#[test]
fn ranges_of_slots_survive_the_store() {
    let mut one = ServiceProgress::new(SPEC);
    one.done = (1..=5000).chain(7000..=7001).map(Slot).collect();
    let bytes = limpet_protocol::codec::encode(&one).unwrap();
    assert!(bytes.len() < 80, "{}", bytes.len());
    assert_eq!(limpet_protocol::codec::decode::<ServiceProgress>(&bytes).unwrap(), one);
}

#[test]
fn conditions_hold_when_they_hold_of_every_instance() {
    let s = |phase, code| status(1, phase, code);
    let health = |health| InstanceStatus { health, ..s(Phase::Running, None) };
    let not_ready = InstanceStatus { ready: Some(false), ..s(Phase::Running, None) };
    let rows = [
        (s(Phase::Pulling, None), [false, false, false]),
        (s(Phase::Running, None), [true, true, false]),
        (health(Some(Health::Starting)), [true, false, false]),
        (health(Some(Health::Healthy)), [true, true, false]),
        (health(Some(Health::Unhealthy)), [true, false, false]),
        (not_ready, [true, false, false]),
        (s(Phase::Completed, Some(0)), [true, false, true]),
        (s(Phase::Failed, Some(1)), [true, false, false]),
        (s(Phase::Failed, None), [false, false, false]),
        (s(Phase::Waiting, Some(1)), [true, false, false]),
    ];
    let held = |[started, healthy, completed]: [bool; 3]| Held { started, healthy, completed };
    for (status, holds) in &rows {
        let seen = Seen { done: false, status: Some(status) };
        assert_eq!(judge([seen]), held(*holds), "{status:?}");
        let lacking = Seen { done: false, status: None };
        assert_eq!(judge([seen, lacking]), Held::default(), "another is not heard of");
    }
    let done = Seen { done: true, status: None };
    assert_eq!(judge([done]), held([true, false, true]));
    assert_eq!(judge([]), held([true, true, true]), "nothing of it shall run");
}
