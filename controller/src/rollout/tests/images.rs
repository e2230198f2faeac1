//! Images: had ready before anything is stopped, and counted when they cannot be had.

use super::*;

fn without_image(fleet: &mut Fleet, node: &str, tries: u32) {
    fleet.without_image.insert(node.parse().unwrap(), tries);
    fleet.settle();
}

#[test]
fn an_image_that_cannot_be_had_fails_at_once_and_stops_nothing() {
    let mut fleet = Fleet::new(2);
    fleet.apply(&[("s", want(1, 2))]);
    fleet.without_image.extend(["n1", "n2"].map(|node| (node.parse().unwrap(), 0)));
    fleet.apply(&[("s", want(2, 2))]);
    assert_eq!(fleet.said("s"), "updating 0/2: waits for the image on n1, n2");
    without_image(&mut fleet, "n1", 1);
    assert_eq!(fleet.versions("s"), "11");
    let why = "a.s.1 on n1 cannot have its image: not there";
    assert_eq!(fleet.said("s"), format!("update paused at 0/2, 1 failed: {why}"));
    // More tries of the same are no more failures; another slot is.
    without_image(&mut fleet, "n1", 2);
    assert_eq!(fleet.said("s"), format!("update paused at 0/2, 1 failed: {why}"));
    // A person says go on: what was tried before counts no more, what is tried anew does.
    fleet.order(Order::Resume);
    fleet.settle();
    assert_eq!(fleet.said("s"), "updating 0/2: waits for the image on n1, n2");
    without_image(&mut fleet, "n1", 3);
    assert_eq!(fleet.said("s"), format!("update paused at 0/2, 1 failed: {why}"));
    // It is there at last.
    fleet.without_image.clear();
    fleet.order(Order::Resume);
    fleet.settle();
    fleet.pass(5_000);
    assert_eq!((fleet.versions("s"), fleet.said("s")), ("22".into(), String::new()));
}

#[test]
fn an_update_without_its_image_goes_back_and_nobody_was_restarted() {
    let mut fleet = Fleet::new(2);
    fleet.apply(&[("s", want(1, 2))]);
    fleet.without_image.insert("n1".parse().unwrap(), 1);
    let mut next = want(2, 2);
    next.update.failure_action = FailureAction::Rollback;
    fleet.apply(&[("s", next)]);
    fleet.pass(5_000);
    assert_eq!(fleet.versions("s"), "11");
    assert_eq!(fleet.said("s"), "rolled back: a.s.1 on n1 cannot have its image: not there");
    assert!(fleet.runs.values().all(|status| status.spec == hash(1) && status.up));
}

#[test]
fn who_cannot_have_the_image_does_not_hold_up_the_others_and_follows() {
    let mut fleet = Fleet::new(3);
    fleet.apply(&[("s", want(1, 3))]);
    fleet.without_image.insert("n2".parse().unwrap(), 1);
    let mut next = want(2, 3);
    next.update.failure_action = FailureAction::Continue;
    fleet.apply(&[("s", next)]);
    fleet.pass(5_000);
    assert_eq!(fleet.versions("s"), "212");
    let why = "a.s.2 on n2 cannot have its image: not there";
    assert_eq!(fleet.said("s"), format!("updated 2/3, 1 failed: {why}"));
    assert_eq!(fleet.rollouts.deadline(), None, "nobody is woken in vain");
    fleet.without_image.clear();
    fleet.settle();
    fleet.pass(5_000);
    assert_eq!((fleet.versions("s"), fleet.said("s")), ("222".into(), String::new()));
}

#[test]
fn a_slot_that_was_begun_and_whose_image_went_has_failed() {
    let mut fleet = Fleet::new(2);
    fleet.apply(&[("s", want(1, 2))]);
    fleet.slow.insert(2);
    fleet.apply(&[("s", want(2, 2))]);
    assert_eq!(fleet.versions("s"), "21");
    without_image(&mut fleet, "n1", 1);
    assert!(fleet.said("s").starts_with("update paused at 0/2, 1 failed: a.s.1 on n1 cannot"));
}

#[test]
fn a_restart_of_the_controller_does_not_count_it_twice() {
    let mut fleet = Fleet::new(2);
    fleet.apply(&[("s", want(1, 4))]);
    fleet.without_image.insert("n1".parse().unwrap(), 1);
    let mut next = want(2, 4);
    (next.update.max_failure_ppm, next.update.parallelism) = (500_000, 0);
    fleet.slow.insert(2);
    fleet.apply(&[("s", next.clone())]);
    let said = "updating 0/4, 2 failed: a.s.3 on n1 cannot have its image: not there";
    assert_eq!((fleet.versions("s"), fleet.said("s")), ("1212".into(), said.into()));
    let without_image = fleet.without_image.clone();
    let mut fleet = restarted(fleet, &[("s", next)], true);
    fleet.without_image = without_image;
    fleet.settle();
    assert!(fleet.said("s").starts_with("updating 0/4, 2 failed"), "{}", fleet.said("s"));
}

#[test]
fn nobody_is_stopped_before_all_images_are_there() {
    let mut fleet = Fleet::new(3);
    fleet.apply(&[("s", in_waves(1, vec![]))]);
    let late: NodeId = "n2".parse().unwrap();
    fleet.without_image.insert(late.clone(), 0);
    fleet.apply(&[("s", in_waves(2, vec![]))]);
    assert_eq!(fleet.versions("s"), "111");
    assert_eq!(fleet.said("s"), "updating 0/3: waits for the image on n2");
    assert_eq!(fleet.rollouts.next_of(&key("s"), &late, Slot(1)), Some(hash(2)));
    fleet.without_image.clear();
    fleet.settle();
    assert_eq!(fleet.versions("s"), "222");
    assert_eq!(fleet.rollouts.next_of(&key("s"), &late, Slot(1)), None);
    // One that goes is not waited for; one that has no image for long is told all the same.
    fleet.pass(5_000);
    fleet.without_image.insert(late, 0);
    fleet.apply(&[("s", in_waves(3, vec![]))]);
    assert_eq!(fleet.versions("s"), "222");
    fleet.stand("n2", Standing::Unreachable);
    fleet.settle();
    assert_eq!(fleet.versions("s"), "323");
    fleet.stand("n2", Standing::Ready);
    fleet.settle();
    assert_eq!(fleet.versions("s"), "323", "it comes under the same rule when it is back");
    fleet.pass(11 * 60 * 1000);
    assert_eq!(fleet.versions("s"), "333");
}
