//! Slots whose runs begin by a schedule: the gate opens, a run begins, ends, and the slot rests.

use limpet_protocol::spec::{MissedRuns, Overlap, Schedule};

use super::*;
use crate::schedule::Gate;

fn scheduled(version: u8, condition: RestartCondition) -> WantedInstance {
    spec("backup", version, |spec| {
        spec.restart =
            RestartPolicy { condition, max_attempts: Some(2), ..RestartPolicy::default() };
        spec.schedule = Some(Schedule {
            cron: "@hourly".to_owned(),
            zone: String::new(),
            missed: MissedRuns::default(),
            deadline_ms: None,
            overlap: Overlap::default(),
        });
    })
}

fn gate(world: &mut World, gate: Gate) {
    world.observed.set_gates([("shop.backup.1".parse().unwrap(), gate)].into());
}

fn close(world: &mut World) {
    gate(world, Gate::Closed { why: "next run at noon".to_owned() });
}

#[test]
fn a_run_begins_when_its_gate_opens_and_rests_after_it() {
    let mut world = World::of(&[&scheduled(1, RestartCondition::Any)]);
    close(&mut world);
    assert_eq!(world.step(), ["prepare backup:1"], "had ready ahead");
    assert_eq!(world.statuses(), ["shop.backup.1.1 waiting: next run at noon"]);
    world.observed.image_ready(&world.wanted.values().next().unwrap().spec.image.clone(), None);
    assert_eq!(world.step(), [""; 0]);
    gate(&mut world, Gate::Open);
    assert_eq!(world.step(), ["start shop.backup.1.1"]);
    assert_eq!(world.step(), [""; 0], "the gate is closed behind it");
    world.started("shop.backup.1.1");
    close(&mut world);
    assert_eq!(world.statuses(), ["shop.backup.1.1 running"]);
    world.exit("shop.backup.1.1", 0);
    assert_eq!(world.step(), [""; 0], "a run that succeeded is over, whatever the policy");
    assert_eq!(world.statuses(), ["shop.backup.1.1 completed: next run at noon"]);
    gate(&mut world, Gate::Open);
    assert_eq!(world.step(), ["start shop.backup.1.2"]);
    world.started("shop.backup.1.2");
    assert_eq!(world.step(), ["remove shop.backup.1.1"]);
}

#[test]
fn a_run_that_failed_is_tried_again_and_then_waits_for_the_next() {
    let mut world = World::with_images(&[&scheduled(1, RestartCondition::OnFailure)]);
    for run in 0..2 {
        gate(&mut world, Gate::Open);
        for attempt in 1..=3 {
            let name = format!("shop.backup.1.{}", run * 3 + attempt);
            let begun = world.step();
            assert_eq!(begun.first(), Some(&format!("start {name}")), "{begun:?}");
            world.started(&name);
            close(&mut world);
            world.step();
            world.exit(&name, 3);
            world.now_ms += 1_000;
        }
        assert_eq!(world.step(), [""; 0], "both further tries are used up");
        let status = &world.statuses()[0];
        assert!(status.contains("failed: ") && status.ends_with("; next run at noon"), "{status}");
    }
    let mut world = World::with_images(&[&scheduled(1, RestartCondition::None)]);
    gate(&mut world, Gate::Open);
    world.step();
    world.started("shop.backup.1.1");
    close(&mut world);
    world.exit("shop.backup.1.1", 3);
    assert_eq!(world.step(), [""; 0]);
}

#[test]
fn a_run_goes_on_with_its_version_unless_it_is_replaced() {
    let old = scheduled(1, RestartCondition::None);
    let new = scheduled(2, RestartCondition::None);
    let mut world = World::with_images(&[&old]);
    gate(&mut world, Gate::Open);
    world.step();
    world.started("shop.backup.1.1");
    close(&mut world);
    world.observed.image_ready(&new.spec.image, None);
    world.wanted = wanted(&[&new]);
    assert_eq!(world.step(), [""; 0], "an update does not stop it");
    gate(&mut world, Gate::Open);
    assert_eq!(world.step(), ["stop shop.backup.1.1"], "the next run does");
    assert_eq!(world.step(), [""; 0]);
    world.exit("shop.backup.1.1", 143);
    let begun = world.step();
    assert!(begun.contains(&"start shop.backup.1.2".to_owned()), "{begun:?}");
    world.wanted = Wanted::new();
    world.started("shop.backup.1.2");
    assert!(world.step().contains(&"stop shop.backup.1.2".to_owned()), "nobody wants it any more");
}
