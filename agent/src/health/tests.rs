//! Tables of the rules, each with the answers of single checks and what follows from them.

use limpet_protocol::spec::{HealthCheck, HealthTest, Hook, ImageSource, Probe, Spec};
use proptest::prelude::*;

use super::rules::rules;
use super::*;
use crate::image::ImageCheck;

/// A container begins here.
const T0: u64 = 1_000_000;

fn rule() -> Rule {
    Rule {
        action: ProbeAction::Tcp { port: 1 },
        delay_ms: 0,
        interval_ms: 10_000,
        timeout_ms: 1_000,
        start_period_ms: 0,
        start_interval_ms: 1_000,
        successes: 1,
        failures: 3,
    }
}

/// Checks without spread, which began.
fn checks(rules: &[(Kind, Rule)]) -> Checks {
    let mut checks = Checks::new(rules.to_vec(), 0);
    checks.begin(T0, None);
    checks
}

fn due(checks: &Checks) -> Vec<(&'static str, u64)> {
    checks.waiting().map(|(kind, due_ms)| (kind.as_str(), due_ms - T0)).collect()
}

/// Makes a check that takes no time, so long after the start.
fn answer(checks: &mut Checks, kind: Kind, passed: bool, after_ms: u64) {
    checks.begun(kind, T0 + after_ms);
    let outcome = if passed { Outcome::Passed } else { Outcome::Failed("no".to_owned()) };
    checks.ended(kind, &outcome, (T0 + after_ms, T0 + after_ms));
}

#[test]
fn a_health_check_is_docker_s() {
    use Health::{Healthy, Starting, Unhealthy};
    // Start period, then answers at their times, and the health after each.
    for (start_period_ms, answers) in [
        (0, vec![(10, true, Healthy)]),
        // As many failures in a row as the retries say.
        (0, vec![(10, false, Starting), (20, false, Starting), (30, false, Unhealthy)]),
        (
            0,
            vec![
                (10, true, Healthy),
                (20, false, Healthy),
                (30, false, Healthy),
                (40, false, Unhealthy),
            ],
        ),
        // A success in between begins a new row.
        (
            0,
            vec![
                (10, false, Starting),
                (20, false, Starting),
                (30, true, Healthy),
                (40, false, Healthy),
                (50, false, Healthy),
                (60, true, Healthy),
            ],
        ),
        // Within the start period failures do not count, until it was healthy once.
        (
            35,
            vec![
                (10, false, Starting),
                (20, false, Starting),
                (30, false, Starting),
                (34, false, Starting),
                (35, false, Starting),
                (40, false, Starting),
                (50, false, Unhealthy),
            ],
        ),
        (
            35,
            vec![
                (1, false, Starting),
                (2, true, Healthy),
                (3, false, Healthy),
                (4, false, Healthy),
                (5, false, Unhealthy),
            ],
        ),
        // One success makes it healthy again, though nobody waits for that: it is replaced.
        (
            0,
            vec![
                (1, false, Starting),
                (2, false, Starting),
                (3, false, Unhealthy),
                (4, true, Healthy),
            ],
        ),
    ] {
        let rule = Rule { start_period_ms, failures: 3, ..rule() };
        let mut it = checks(&[(Kind::Check, rule)]);
        let shown = format!("{start_period_ms} {answers:?}");
        assert_eq!((it.health(), it.ready()), (Some(Starting), Some(false)));
        for (at_ms, passed, expected) in answers {
            answer(&mut it, Kind::Check, passed, at_ms);
            assert_eq!(it.health(), Some(expected), "at {at_ms} of {shown}");
            assert_eq!(it.ready(), Some(expected == Healthy), "at {at_ms} of {shown}");
            assert_eq!(it.failed().is_some(), expected == Unhealthy, "at {at_ms} of {shown}");
        }
    }
}

#[test]
fn a_health_check_comes_when_docker_s_does() {
    // The first after the interval, the next an interval after the end of the one before.
    let mut it = checks(&[(Kind::Check, rule())]);
    assert_eq!(due(&it), [("health check", 10_000)]);
    it.begun(Kind::Check, T0 + 10_000);
    assert_eq!((due(&it), it.busy().collect()), (vec![], vec![T0 + 10_000]));
    it.ended(Kind::Check, &Outcome::Passed, (T0 + 10_000, T0 + 13_000));
    assert_eq!((due(&it), it.busy().count()), (vec![("health check", 23_000)], 0));
    // Every start interval within the start period, and at its end.
    let rule = Rule { start_period_ms: 2_500, ..rule() };
    let mut it = checks(&[(Kind::Check, rule)]);
    let mut at = Vec::new();
    for _ in 0..4 {
        let (_, due_ms) = due(&it)[0];
        at.push(due_ms);
        answer(&mut it, Kind::Check, false, due_ms);
    }
    assert_eq!(at, [1_000, 2_000, 2_500, 12_500]);
    // What was healthy once has the usual interval, but for the end of the period.
    let rule = Rule { start_period_ms: 60_000, ..super::tests::rule() };
    let mut it = checks(&[(Kind::Check, rule)]);
    answer(&mut it, Kind::Check, true, 1_000);
    assert_eq!(due(&it), [("health check", 11_000)]);
}

#[test]
fn probes_are_kubernetes() {
    let mut it = checks(&[
        (Kind::Startup, Rule { delay_ms: 500, interval_ms: 1_000, failures: 5, ..rule() }),
        (Kind::Live, Rule { failures: 2, ..rule() }),
        (Kind::Ready, Rule { successes: 2, failures: 2, interval_ms: 2_000, ..rule() }),
    ]);
    // The others wait for the startup probe.
    assert_eq!(due(&it), [("startup probe", 500)]);
    assert_eq!((it.health(), it.ready()), (Some(Health::Starting), Some(false)));
    answer(&mut it, Kind::Startup, false, 500);
    assert_eq!(due(&it), [("startup probe", 1_500)]);
    answer(&mut it, Kind::Startup, true, 1_600);
    assert_eq!(due(&it), [("live probe", 1_600), ("ready probe", 1_600)]);
    // A steady period, whatever the check took; a row of two.
    answer(&mut it, Kind::Ready, true, 1_700);
    assert_eq!(it.ready(), Some(false));
    assert_eq!(due(&it), [("live probe", 1_600), ("ready probe", 3_600)]);
    answer(&mut it, Kind::Ready, true, 3_600);
    assert_eq!(it.ready(), Some(true));
    answer(&mut it, Kind::Live, true, 3_700);
    assert_eq!(it.health(), Some(Health::Healthy));
    // One that took longer than its period is not made up for.
    it.begun(Kind::Ready, T0 + 5_600);
    it.ended(Kind::Ready, &Outcome::Failed(String::new()), (T0 + 5_600, T0 + 9_000));
    assert_eq!(it.ready(), Some(true));
    assert_eq!(due(&it)[1], ("ready probe", 9_000));
    answer(&mut it, Kind::Ready, false, 9_000);
    assert_eq!((it.ready(), it.failed(), it.health()), (Some(false), None, Some(Health::Healthy)));
    // A failure below the threshold, a success, and a row of failures.
    for (passed, expected) in
        [(false, None), (true, None), (false, None), (false, Some(Kind::Live))]
    {
        answer(&mut it, Kind::Live, passed, 20_000);
        assert_eq!(it.failed(), expected);
    }
    assert_eq!(it.health(), Some(Health::Unhealthy));

    let mut slow = checks(&[(Kind::Startup, Rule { failures: 2, ..rule() })]);
    answer(&mut slow, Kind::Startup, false, 0);
    assert_eq!(slow.failed(), None);
    answer(&mut slow, Kind::Startup, false, 10_000);
    assert_eq!(slow.failed(), Some(Kind::Startup));
}

#[test]
fn what_has_no_checks_says_nothing_and_what_only_lives_is_ready() {
    let none = checks(&[]);
    assert_eq!((none.is_empty(), none.health(), none.ready()), (true, None, None));
    let live = checks(&[(Kind::Live, rule())]);
    assert_eq!((live.health(), live.ready()), (Some(Health::Starting), None));
    let mut ready = checks(&[(Kind::Ready, rule())]);
    assert_eq!((ready.health(), ready.ready()), (None, Some(false)));
    answer(&mut ready, Kind::Ready, true, 1);
    assert_eq!((ready.health(), ready.ready()), (None, Some(true)));
}

#[test]
fn a_check_that_could_not_be_made_counts_for_nothing() {
    let mut it = checks(&[(Kind::Check, Rule { failures: 1, ..rule() })]);
    it.begun(Kind::Check, T0);
    it.ended(Kind::Check, &Outcome::NotMade("no keeper".to_owned()), (T0, T0));
    assert_eq!((it.health(), it.failed()), (Some(Health::Starting), None));
    assert_eq!(due(&it), [("health check", 10_000)]);
}

#[test]
fn containers_that_begin_together_are_checked_apart() {
    let mut at: Vec<u64> = Vec::new();
    for seed in 0..64_u64 {
        let mut it = Checks::new(vec![(Kind::Ready, rule())], seed << 58);
        it.begin(T0, None);
        assert_eq!(due(&it), [("ready probe", 0)], "the first is not put off");
        answer(&mut it, Kind::Ready, true, 0);
        let (_, second_ms) = due(&it)[0];
        assert!((7_500..=10_000).contains(&second_ms), "{second_ms}");
        answer(&mut it, Kind::Ready, true, second_ms);
        assert_eq!(due(&it)[0].1, second_ms + 10_000, "from then on the period is whole");
        at.push(second_ms);
    }
    at.sort_unstable();
    at.dedup();
    assert!(at.len() > 60, "{at:?}");
}

#[test]
fn what_is_found_running_is_asked_at_once() {
    let mut it = Checks::new(vec![(Kind::Check, rule()), (Kind::Live, rule())], 7 << 60);
    it.begin(T0, Some(T0 + 99_000));
    assert_eq!(due(&it), [("health check", 99_000), ("live probe", 99_000)]);
}

fn spec(change: impl FnOnce(&mut Spec)) -> Spec {
    let image = ImageSource::new("web");
    let mut spec = Spec::new("shop".parse().unwrap(), "web".parse().unwrap(), image);
    change(&mut spec);
    spec
}

fn check(test: HealthTest) -> HealthCheck {
    HealthCheck {
        test,
        interval_ms: None,
        timeout_ms: None,
        retries: None,
        start_period_ms: None,
        start_interval_ms: None,
    }
}

#[test]
fn a_service_s_words_go_before_the_image_s() {
    let image = ImageCheck {
        command: vec!["of-image".to_owned()],
        interval_ms: Some(7_000),
        retries: Some(9),
        ..ImageCheck::default()
    };
    let words = |list: &[&str]| list.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
    let of_service = HealthCheck { interval_ms: Some(1), ..check(HealthTest::Image) };
    let zeroes = HealthCheck {
        interval_ms: Some(0),
        timeout_ms: Some(0),
        retries: Some(0),
        ..check(HealthTest::Command(words(&["a", "b"])))
    };
    // Own words, command, interval, time-out, retries.
    for (own, expected) in [
        (None, Some((words(&["of-image"]), 7_000, 30_000, 9))),
        (Some(check(HealthTest::None)), None),
        (Some(of_service), Some((words(&["of-image"]), 20, 30_000, 9))),
        (
            Some(check(HealthTest::Shell("x | y".to_owned()))),
            Some((words(&["/bin/sh", "-c", "x | y"]), 7_000, 30_000, 9)),
        ),
        (Some(zeroes), Some((words(&["a", "b"]), 30_000, 30_000, 3))),
    ] {
        let spec = spec(|spec| spec.healthcheck = own.clone());
        let found = rules(&spec, Some(&image)).into_iter().next().map(|(kind, rule)| {
            assert_eq!(kind, Kind::Check);
            let ProbeAction::Command(command) = rule.action else { panic!() };
            (command, rule.interval_ms, rule.timeout_ms, rule.failures)
        });
        assert_eq!(found, expected, "{own:?}");
    }
    assert_eq!(rules(&spec(|_| ()), None), []);
    let of_image = spec(|spec| spec.healthcheck = Some(check(HealthTest::Image)));
    assert_eq!(rules(&of_image, None), []);
}

#[test]
fn numbers_that_would_keep_a_node_busy_are_raised() {
    let action = ProbeAction::Tcp { port: 1 };
    let probe = Probe {
        action,
        initial_delay_ms: 0,
        interval_ms: 0,
        timeout_ms: 0,
        success_threshold: 0,
        failure_threshold: 0,
    };
    let spec = spec(|spec| spec.probes.live = Some(probe));
    let (_, rule) = rules(&spec, None).remove(0);
    assert_eq!((rule.interval_ms, rule.timeout_ms, rule.successes, rule.failures), (20, 1, 1, 1));
}

proptest! {
    /// Whatever the numbers and the answers: a check always comes again, never in the past, and what
    /// passes as often as it has to is healthy.
    #[test]
    fn checks_go_on(
        numbers in proptest::collection::vec(any::<u64>(), 5),
        answers in proptest::collection::vec((0..4_u8, any::<bool>(), 0..100_000_u64), 1..40),
        seed in any::<u64>(),
    ) {
        let rule = Rule {
            action: ProbeAction::Tcp { port: 1 },
            delay_ms: numbers[0],
            interval_ms: numbers[1].max(20),
            timeout_ms: numbers[2],
            start_period_ms: numbers[3],
            start_interval_ms: numbers[4].max(20),
            successes: 1,
            failures: 2,
        };
        let kinds = [Kind::Check, Kind::Startup, Kind::Live, Kind::Ready];
        let mut it = Checks::new(kinds.map(|kind| (kind, rule.clone())).to_vec(), seed);
        it.begin(T0, None);
        let mut now_ms = T0;
        for (which, passed, took_ms) in answers {
            let kind = kinds[usize::from(which)];
            it.begun(kind, now_ms);
            let outcome = if passed { Outcome::Passed } else { Outcome::Failed(String::new()) };
            it.ended(kind, &outcome, (now_ms, now_ms + took_ms));
            now_ms += took_ms;
            if passed && which == 3 {
                prop_assert_eq!(it.verdict(Kind::Ready), Some(Some(true)));
            }
            for (kind, due_ms) in it.waiting() {
                prop_assert!(due_ms >= T0, "{:?} {}", kind, due_ms);
            }
            let health_check_waits = it.waiting().any(|(kind, _)| kind == Kind::Check);
            prop_assert!(health_check_waits);
        }
    }
}

#[test]
fn hooks_after_the_start_come_one_after_the_other_and_once() {
    let hook = |word: &str| Hook::plain(vec![word.to_owned()]);
    let spec = spec(|spec| spec.hooks.post_start = ["a", "b", "c"].map(hook).into());
    let mut checks = checks(&rules(&spec, None));
    let next = |checks: &Checks| checks.waiting().collect::<Vec<_>>();
    assert_eq!(next(&checks), [(Kind::PostStart(0), T0)]);
    assert_eq!((checks.health(), checks.ready()), (Some(Health::Starting), Some(false)));
    answer(&mut checks, Kind::PostStart(0), true, 10);
    assert_eq!(next(&checks), [(Kind::PostStart(1), T0)]);
    // One that could not be made says nothing of the container, and is tried again after a while.
    checks.begun(Kind::PostStart(1), T0 + 10);
    assert_eq!(next(&checks), []);
    checks.ended(Kind::PostStart(1), &Outcome::NotMade("no".to_owned()), (T0 + 10, T0 + 20));
    assert_eq!(next(&checks), [(Kind::PostStart(1), T0 + 1_000)]);
    // Another agent finds it running.
    let mut found = Checks::new(rules(&spec, None), 0);
    found.skip_hooks(checks.hooks_done());
    found.begin(T0, Some(T0 + 5_000));
    assert_eq!(next(&found), [(Kind::PostStart(1), T0 + 5_000)]);
    for (index, checks) in [(1, &mut found), (2, &mut checks)] {
        answer(checks, Kind::PostStart(1), true, 5_000);
        answer(checks, Kind::PostStart(2), index == 1, 5_000);
    }
    assert_eq!((next(&found), found.health()), (vec![], Some(Health::Healthy)));
    assert_eq!(checks.failed(), Some(Kind::PostStart(2)));
}
