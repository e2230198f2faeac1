//! A controller that starts again goes on where it was.

use super::*;

#[test]
fn a_restart_of_the_controller_changes_nothing() {
    let mut next = want(2, 4);
    next.update.failure_action = FailureAction::Rollback;
    let begin = || {
        let mut fleet = Fleet::new(2);
        fleet.apply(&[("s", want(1, 4))]);
        fleet
    };
    // In the middle, with and without the record.
    for with_record in [true, false] {
        let mut fleet = begin();
        fleet.slow.insert(2);
        fleet.apply(&[("s", next.clone())]);
        let mut fleet = restarted(fleet, &[("s", next.clone())], with_record);
        assert_eq!(fleet.versions("s"), "2111");
        fleet.bad.insert(2);
        for status in fleet.runs.values_mut().filter(|status| status.spec == hash(2)) {
            status.failed = Some("crashed".into());
        }
        fleet.settle();
        fleet.pass(5_000);
        assert_eq!(fleet.versions("s"), "1111", "it goes back to what ran before");
        let fleet = restarted(fleet, &[("s", next.clone())], true);
        assert_eq!(fleet.versions("s"), "1111");
        assert!(fleet.said("s").contains("crashed"), "{}", fleet.said("s"));
    }
    // Paused.
    let mut fleet = begin();
    fleet.bad.insert(2);
    next.update.failure_action = FailureAction::Pause;
    fleet.apply(&[("s", next.clone())]);
    let said = fleet.said("s");
    let fleet = restarted(fleet, &[("s", next)], true);
    assert_eq!((fleet.versions("s"), fleet.said("s")), ("2111".into(), said));
}
