//! Waves over the fleet: who is in which, when the next begins, what aborts.

use limpet_protocol::window::Window;

use super::*;

#[test]
fn waves_follow_each_other_when_enough_came_up() {
    let mut fleet = Fleet::new(8);
    let waves = || vec![Wave::Nodes(vec![]), Wave::Percent(50)];
    fleet.waves.insert("n3".parse().unwrap(), 1);
    fleet.apply(&[("s", in_waves(1, waves()))]);
    fleet.apply(&[("s", in_waves(2, waves()))]);
    assert_eq!(fleet.versions("s"), "11211111", "the canary alone");
    assert_eq!(fleet.said("s"), "updating 1/8, wave 1 of 3");
    fleet.pass(4_999);
    assert_eq!(fleet.versions("s").matches('2').count(), 1, "it is watched");
    fleet.pass(1);
    assert_eq!(fleet.versions("s").matches('2').count(), 4, "half of all");
    fleet.pass(5_000);
    assert_eq!(fleet.versions("s"), "22222222");
    fleet.pass(5_000);
    assert_eq!(
        (fleet.said("s"), fleet.news.last().unwrap().as_str()),
        (String::new(), "rollout_done")
    );
    // A canary that fails goes no further.
    fleet.bad.insert(3);
    fleet.apply(&[("s", in_waves(3, waves()))]);
    fleet.pass(60_000);
    assert_eq!(fleet.versions("s"), "22322222");
    assert_eq!(
        fleet.said("s"),
        "update paused at 0/8, wave 1 of 3, 1 failed: 0 of 1 of wave 1 came up, 75 % are needed; \
         a.s.1 on n3 crashed"
    );
}

#[test]
fn who_is_away_in_its_wave_follows_and_a_share_is_of_who_can_be_reached() {
    let mut fleet = Fleet::new(8);
    let waves = || vec![Wave::Nodes(vec![]), Wave::Percent(50)];
    for name in ["n1", "n2"] {
        fleet.waves.insert(name.parse().unwrap(), 1);
    }
    fleet.apply(&[("s", in_waves(1, waves()))]);
    for name in ["n1", "n7", "n8"] {
        fleet.stand(name, Standing::Unreachable);
    }
    fleet.apply(&[("s", in_waves(2, waves()))]);
    assert_eq!(fleet.versions("s"), "12111111");
    fleet.pass(5_000);
    assert_eq!(fleet.versions("s").matches('2').count(), 3, "half of five");
    fleet.stand("n1", Standing::Ready);
    fleet.settle();
    assert!(fleet.versions("s").starts_with("22"), "its wave has begun");
    fleet.stand("n7", Standing::Ready);
    fleet.settle();
    assert!(fleet.versions("s").ends_with("11"), "it waits for the last wave");
    fleet.pass(5_000);
    assert_eq!(fleet.versions("s"), "22222221");
    fleet.pass(5_000);
    assert_eq!(fleet.said("s"), "updated 7/8, 1 away");
}

#[test]
fn so_many_failures_abort() {
    let mut fleet = Fleet::new(8);
    fleet.apply(&[("s", in_waves(1, vec![]))]);
    let mut next = in_waves(2, vec![]);
    next.update.parallelism = 1;
    next.waves.as_mut().unwrap().abort = Some(Portion::Percent(25));
    fleet.bad.insert(2);
    fleet.apply(&[("s", next)]);
    assert_eq!(fleet.versions("s").matches('2').count(), 2, "{}", fleet.said("s"));
}

#[test]
fn no_more_are_down_than_may_be() {
    let mut fleet = Fleet::new(4);
    fleet.apply(&[("s", in_waves(1, vec![]))]);
    // One is down already, whatever the reason.
    let down = (key("s"), "n2".parse().unwrap(), Slot(1));
    fleet.runs.get_mut(&down).unwrap().up = false;
    let mut next = in_waves(2, vec![]);
    next.waves.as_mut().unwrap().max_unavailable = Some(Portion::Count(2));
    fleet.slow.insert(2);
    fleet.apply(&[("s", next.clone())]);
    assert_eq!(fleet.versions("s").matches('2').count(), 2, "the one that is down, and one more");
    assert_eq!(&fleet.versions("s")[1..2], "2");
    assert_eq!(fleet.said("s"), "updating 0/4: 2 of 4 are down, as many as may be");
    next.update.order = limpet_protocol::assignment::UpdateOrder::StartFirst;
    fleet.apply(&[("s", next)]);
    assert_eq!(fleet.versions("s"), "2222", "where the new one goes first nobody is down");
}

#[test]
fn waves_begin_only_while_their_window_is_open() {
    const HOUR_MS: u64 = 3_600_000;
    const NIGHT: &str = "0 2 * * *";
    let in_window = |version, opens: &str| {
        let mut want = in_waves(version, vec![Wave::Percent(50)]);
        let (opens, zone) = (opens.to_owned(), String::new());
        want.waves.as_mut().unwrap().window = Some(Window { opens, length_ms: HOUR_MS, zone });
        want
    };
    let mut fleet = Fleet::new(4);
    fleet.apply(&[("s", in_window(1, NIGHT))]);
    fleet.apply(&[("s", in_window(2, NIGHT))]);
    let waits = "waits for its window, which opens at 1970-01-01 02:00 +00:00";
    assert_eq!(fleet.said("s"), format!("updating 0/4, wave 1 of 2: {waits}"));
    fleet.pass(2 * HOUR_MS - 1);
    assert_eq!(fleet.versions("s"), "1111");
    fleet.slow.insert(2);
    fleet.pass(1);
    assert_eq!(fleet.versions("s").matches('2').count(), 2, "half of all");
    // What has begun goes on, also after a restart of the controller; the next wave waits.
    let wants = [("s", in_window(2, NIGHT))];
    let mut fleet = restarted(fleet, &wants, true);
    assert_eq!(fleet.said("s"), "updating 0/4, wave 1 of 2");
    fleet.come_up(2);
    fleet.pass(5_000);
    assert_eq!(fleet.versions("s").matches('2').count(), 2);
    assert!(
        fleet.said("s").starts_with("updating 2/4, wave 2 of 2: waits for"),
        "{}",
        fleet.said("s")
    );
    // A window that is another now is heard of.
    fleet.apply(&[("s", in_window(2, "0 0 * * *"))]);
    assert_eq!(fleet.versions("s"), "2222");
    fleet.pass(5_000);
    assert_eq!(fleet.said("s"), "");
}

#[test]
fn a_rollback_needs_no_window_and_without_waves_it_holds_all() {
    let mut next = in_waves(2, vec![]);
    let (opens, zone) = ("0 0 1 1 *".to_owned(), String::new());
    next.waves.as_mut().unwrap().window = Some(Window { opens, length_ms: 60_000, zone });
    next.update.failure_action = FailureAction::Rollback;
    next.waves.as_mut().unwrap().abort = Some(Portion::Count(1));
    let mut fleet = Fleet::new(3);
    fleet.now_ms = 60_001;
    fleet.apply(&[("s", in_waves(1, vec![]))]);
    fleet.apply(&[("s", next)]);
    assert_eq!(fleet.versions("s"), "111");
    assert!(fleet.said("s").contains("opens at 1971-01-01 00:00"), "{}", fleet.said("s"));
    fleet.bad.insert(2);
    fleet.pass(365 * 24 * 3_600_000 - 60_001);
    assert_eq!(fleet.versions("s"), "111", "it failed and went back: {}", fleet.said("s"));
    fleet.pass(5_000);
    assert!(fleet.said("s").starts_with("rolled back"), "{}", fleet.said("s"));
}
