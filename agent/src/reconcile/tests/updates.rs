//! Start-first, slots that are done, and images that come ahead.

use limpet_protocol::assignment::UpdateOrder;

use super::health::probe;
use super::*;

fn start_first(version: u8, ready: bool) -> WantedInstance {
    let want = spec("web", version, |spec| {
        spec.probes.ready = ready.then(|| probe(1_000, 3));
    });
    WantedInstance { order: UpdateOrder::StartFirst, ..want }
}

/// A world where version 1 runs, and is ready if that is asked.
fn runs_version_1(ready: bool, versions: &[&WantedInstance]) -> World {
    let first = start_first(1, ready);
    let mut world = World::with_images(&[&first]);
    for version in versions {
        world.observed.image_ready(&version.spec.image, None);
    }
    world.step();
    world.started("shop.web.1.1");
    if ready {
        world.step();
        world.checked("shop.web.1.1", Kind::Ready, true);
    }
    assert_eq!(world.step(), [""; 0]);
    world
}

#[test]
fn the_new_one_is_started_beside_the_old_one() {
    let new = start_first(2, true);
    let mut world = runs_version_1(true, &[&new]);
    world.wanted = wanted(&[&new]);
    assert_eq!(world.step(), ["start shop.web.1.2"]);
    let beside = "attempt 1, of the version before, runs on";
    assert_eq!(world.statuses(), [format!("shop.web.1.2 creating: {beside}")]);
    world.started("shop.web.1.2");
    assert_eq!(world.step(), ["ready probe of shop.web.1.2"]);
    assert_eq!(world.statuses(), [format!("shop.web.1.2 running: {beside}")]);
    assert_eq!(world.decide().statuses[0].ready, Some(false));
    world.checked("shop.web.1.2", Kind::Ready, true);
    assert_eq!(world.step(), ["stop shop.web.1.1"]);
    assert_eq!(world.statuses(), ["shop.web.1.2 running"]);
    world.exit("shop.web.1.1", 0);
    assert_eq!(world.step(), ["remove shop.web.1.1"]);
    // Once stopped for a ready one, nothing brings it back.
    world.observed.removed(&id("shop.web.1.1"));
    world.checked("shop.web.1.2", Kind::Ready, false);
    assert_eq!(world.step(), [""; 0]);
}

#[test]
fn without_checks_running_is_enough() {
    let new = start_first(2, false);
    let mut world = runs_version_1(false, &[&new]);
    world.wanted = wanted(&[&new]);
    assert_eq!(world.step(), ["start shop.web.1.2"]);
    world.started("shop.web.1.2");
    assert_eq!(world.step(), ["stop shop.web.1.1"]);
}

#[test]
fn a_new_one_that_fails_is_tried_again_and_the_old_one_runs_on() {
    let new = start_first(2, true);
    let mut world = runs_version_1(true, &[]);
    world.wanted = wanted(&[&new]);
    assert_eq!(world.step(), ["prepare web:2"]);
    let beside = "attempt 1, of the version before, runs on";
    assert_eq!(world.statuses(), [format!("shop.web.1.2 pulling: {beside}")]);
    world.observed.image_ready(&new.spec.image, None);
    let mut waits = Vec::new();
    for attempt in 2..6 {
        assert!(world.step().contains(&format!("start shop.web.1.{attempt}")));
        let begun_ms = world.now_ms;
        world.started(&format!("shop.web.1.{attempt}"));
        world.exit(&format!("shop.web.1.{attempt}"), 1);
        let decision = world.decide();
        assert_eq!(decision.statuses[0].failures, attempt - 1);
        if let Some(at_ms) = decision.wake_at_ms {
            let reason = "ended with exit code 1; starts again after a pause";
            let next = attempt + 1;
            assert_eq!(
                world.statuses(),
                [format!("shop.web.1.{next} waiting: {reason}; {beside}")]
            );
            world.now_ms = at_ms;
        }
        waits.push(world.now_ms - begun_ms);
    }
    assert_eq!(waits, [0, 100, 200, 400]);
    // Given up on, the old one runs on all the same.
    let once = spec("web", 3, |spec| spec.restart.condition = RestartCondition::None);
    let once = WantedInstance { order: UpdateOrder::StartFirst, ..once };
    world.observed.image_ready(&once.spec.image, None);
    world.wanted = wanted(&[&once]);
    assert!(world.step().contains(&"start shop.web.1.6".to_owned()));
    world.observed.create_failed(&id("shop.web.1.6"), "no such file", world.now_ms);
    world.step();
    let failed = "could not be made: no such file";
    assert_eq!(world.statuses(), [format!("shop.web.1.6 failed: {failed}; {beside}")]);
    assert_eq!(world.step(), [""; 0]);
}

#[test]
fn the_old_one_is_kept_when_it_is_wanted_again() {
    let new = start_first(2, true);
    let mut world = runs_version_1(true, &[&new]);
    let back = world.wanted.clone();
    for attempt in [2, 3] {
        world.wanted = wanted(&[&new]);
        assert!(world.step().contains(&format!("start shop.web.1.{attempt}")));
        if attempt == 2 {
            world.started("shop.web.1.2");
            world.step();
        }
        world.wanted.clone_from(&back);
        let name = format!("shop.web.1.{attempt}");
        if attempt == 3 {
            // It is stopped once it is made.
            assert_eq!(world.step(), [""; 0]);
            world.started(&name);
        }
        assert_eq!(world.step(), [format!("stop {name}")]);
        assert_eq!(world.statuses(), ["shop.web.1.1 running"]);
        world.exit(&name, 143);
        assert_eq!(world.step(), [format!("remove {name}")]);
        world.observed.removed(&id(&name));
    }
    assert_eq!(world.step(), [""; 0]);
}

#[test]
fn a_third_version_waits_for_the_end_of_the_second() {
    let (second, third) = (start_first(2, true), start_first(3, true));
    let mut world = runs_version_1(true, &[&second, &third]);
    world.wanted = wanted(&[&second]);
    world.step();
    world.started("shop.web.1.2");
    world.step();
    world.wanted = wanted(&[&third]);
    assert_eq!(world.step(), ["stop shop.web.1.2"], "the first does well, the second not yet");
    assert_eq!(world.step(), [""; 0]);
    world.exit("shop.web.1.2", 143);
    assert_eq!(world.step(), ["start shop.web.1.3"]);
    world.started("shop.web.1.3");
    assert_eq!(world.step(), ["remove shop.web.1.2", "ready probe of shop.web.1.3"]);
    world.checked("shop.web.1.3", Kind::Ready, true);
    assert_eq!(world.step(), ["stop shop.web.1.1"]);
}

#[test]
fn an_old_one_that_ends_by_itself_is_not_started_again() {
    let new = start_first(2, true);
    let mut world = runs_version_1(true, &[&new]);
    world.wanted = wanted(&[&new]);
    world.step();
    world.exit("shop.web.1.1", 1);
    assert_eq!(world.step(), [""; 0]);
    world.started("shop.web.1.2");
    assert_eq!(world.step(), ["remove shop.web.1.1", "ready probe of shop.web.1.2"]);
}

#[test]
fn a_slot_that_is_done_is_never_started_again() {
    let mut job = spec("job", 1, |spec| spec.restart.condition = RestartCondition::OnFailure);
    let mut world = World::with_images(&[&job]);
    world.step();
    world.started("shop.job.1.1");
    world.exit("shop.job.1.1", 0);
    job.done = true;
    world.wanted = wanted(&[&job]);
    assert_eq!(world.step(), [""; 0], "its output can still be read");
    assert_eq!(world.statuses(), ["shop.job.1.1 completed"]);
    assert_eq!(world.decide().statuses[0].last_exit, Some(ended(0)));
    // After a reboot nothing of it is left, and nothing is asked for.
    let mut world = World::of(&[&job]);
    assert_eq!(world.step(), [""; 0]);
    assert_eq!(world.statuses(), ["shop.job.1.1 completed"]);
    // The node had started it again before it was told.
    let mut again = World::with_images(&[&WantedInstance { done: false, ..job.clone() }]);
    again.step();
    again.started("shop.job.1.1");
    again.wanted = wanted(&[&job]);
    assert_eq!(again.step(), ["stop shop.job.1.1"]);
    again.exit("shop.job.1.1", 143);
    assert_eq!(again.step(), [""; 0]);
    // Who depends on it goes on.
    let web = depending("web", "job", DependencyCondition::ServiceCompletedSuccessfully);
    let mut world = World::with_images(&[&job, &web]);
    assert_eq!(world.step(), ["start shop.web.1.1"]);
}

#[test]
fn the_image_of_a_service_that_rests_is_had_ready_and_kept() {
    let (web, rests) = (plain("web", 1), plain("rests", 1));
    let mut world = World::of(&[&web]);
    world.observed.set_resting([(rests.spec_hash, rests.spec.clone())].into());
    assert_eq!(world.step(), ["prepare web:1"]);
    world.observed.image_ready(&web.spec.image, None);
    assert_eq!(world.step(), ["prepare rests:1", "start shop.web.1.1"]);
    assert!(world.observed.rests_with(&rests.spec.image));
    world.observed.image_failed(&rests.spec.image, "gone", world.now_ms);
    assert_eq!(world.decide().no_image[0].spec, rests.spec_hash);
    world.observed.forget(&world.wanted);
    world.now_ms = world.decide().wake_at_ms.unwrap();
    assert_eq!(world.step(), ["prepare rests:1"], "it is tried again");
    world.observed.image_ready(&rests.spec.image, None);
    world.observed.forget(&world.wanted);
    assert_eq!(world.decide().staged, [rests.spec_hash]);
    assert_eq!(world.step(), [""; 0]);
    // What wakes starts at once.
    world.observed.set_resting([].into());
    world.wanted.extend(wanted(&[&rests]));
    assert_eq!(world.step(), ["start shop.rests.1.1"]);
    world.wanted = wanted(&[&web]);
    world.observed.set_resting([].into());
    world.observed.forget(&world.wanted);
    assert!(world.observed.image(&rests.spec.image).is_some(), "what runs of it keeps it");
}

#[test]
fn the_image_of_what_comes_next_is_had_ready_after_all_others() {
    let (mut web, db) = (plain("web", 1), plain("db", 1));
    let next = plain("web", 2);
    web.next = Some((next.spec_hash, next.spec.clone()));
    let mut world = World::of(&[&web, &db]);
    assert_eq!(world.step(), ["prepare db:1", "prepare web:1"]);
    assert_eq!(world.step(), [""; 0], "what runs comes first");
    world.observed.image_ready(&db.spec.image, None);
    world.observed.image_ready(&web.spec.image, None);
    assert_eq!(world.step(), ["prepare web:2", "start shop.db.1.1", "start shop.web.1.1"]);
    assert_eq!(world.decide().staged, []);
    // One that cannot be had holds up nobody.
    world.observed.image_failed(&next.spec.image, "gone", world.now_ms);
    let gone = |tries| NoImage { spec: next.spec_hash, reason: "gone".to_owned(), tries };
    assert_eq!(world.decide().no_image, [gone(1)]);
    world.started("shop.web.1.1");
    world.started("shop.db.1.1");
    world.exit("shop.web.1.1", 1);
    assert_eq!(world.step(), ["start shop.web.1.2"]);
    world.now_ms = world.decide().wake_at_ms.unwrap();
    assert_eq!(world.step(), ["prepare web:2"]);
    assert_eq!(world.decide().no_image, [gone(1)], "it is said until it is there");
    world.observed.image_failed(&next.spec.image, "gone", world.now_ms);
    assert_eq!(world.decide().no_image, [gone(2)]);
    world.now_ms = world.decide().wake_at_ms.unwrap();
    assert_eq!(world.step(), ["prepare web:2"]);
    world.observed.image_ready(&next.spec.image, None);
    assert_eq!(world.decide().no_image, []);
    assert_eq!(world.decide().staged, [next.spec_hash]);
    assert_eq!(world.step(), [""; 0]);
    // It is not forgotten while it comes next.
    world.observed.forget(&world.wanted);
    assert_eq!(world.decide().staged, [next.spec_hash]);
    world.wanted.values_mut().for_each(|want| want.next = None);
    world.observed.forget(&world.wanted);
    assert!(world.observed.image(&next.spec.image).is_none());
}
