//! The rules in tables, each with its source, and what holds whatever the load does.

use limpet_protocol::scale::{
    MetricSource, MetricTarget, Pace, Per, ScaleLimit, ScalePolicy, Scaling, Target,
};
use proptest::prelude::*;

use super::figure::{Gauge, Reading, Whose};
use super::scaler::Scaler;

mod published;

const STEP_MS: u64 = super::SAMPLE_EVERY_MS;
/// The target of most tests: 60 %.
const TARGET: u64 = 60_000;

fn scaling(min: u32, max: u32) -> Scaling {
    let policy = ScalePolicy { cpu_percent: Some(60), ..ScalePolicy::between(min, max) };
    Scaling { least: min, most: max, elsewhere: 0, priority: 0, policy }
}

/// So many instances at these shares of what is reserved for them, in hundredths.
fn reading(shares: &[u64]) -> Reading {
    let mut reading = Reading { ready: u32::try_from(shares.len()).unwrap(), ..Reading::default() };
    shares.iter().for_each(|share| reading.add(Some(share * 1_000)));
    reading
}

/// What a figure asks for that was read twice alike.
fn asks(reading: Reading, target: Target, number: u32) -> (Option<u32>, u32) {
    let mut gauge = Gauge::default();
    gauge.read(reading, (target, 0), 0);
    gauge.read(reading, (target, 0), STEP_MS);
    (gauge.more_than(number), gauge.enough(number))
}

/// "Horizontal Pod Autoscaling", "Algorithm details": number × value ÷ target, rounded up, and nothing
/// while the ratio is within a tenth of 1. Numbers of `replica_calculator_test.go` where there are such.
#[test]
fn the_ratio_rule() {
    let target = Target::Average(TARGET);
    for (shares, number, more, enough, why) in [
        (&[120, 120, 120][..], 3, Some(6), 3, "twice the target doubles"),
        (&[30, 30, 30, 30], 4, None, 2, "half of it halves"),
        (&[60, 60], 2, None, 2, "on target"),
        (&[65, 65, 65], 3, None, 3, "within the tolerance above"),
        (&[55, 55, 55], 3, None, 3, "and below"),
        (&[67, 67, 67], 3, Some(4), 3, "beyond it, rounded up"),
        (&[53, 53, 53], 3, None, 3, "2.65 are 3"),
        (&[39, 39, 39], 3, None, 2, "1.95 are 2"),
        (&[10, 110], 2, None, 2, "the average counts"),
        (&[0, 0], 2, None, 0, "nothing to do"),
    ] {
        assert_eq!(asks(reading(shares), target, number), (more, enough), "{why}");
    }
    for (value, number, more, enough, why) in [
        (200_000, 3, Some(6), 3, "a queue twice as long as aimed at doubles"),
        (105_000, 3, None, 3, "within the tolerance"),
        (40_000, 3, None, 2, "rounded up"),
        (0, 3, None, 0, "an empty queue"),
    ] {
        let mut reading = Reading { ready: 3, ..Reading::default() };
        // All three see the same queue, one a little late.
        [value, value, value / 2].into_iter().for_each(|it| reading.add(Some(it)));
        assert_eq!(asks(reading, Target::Value(100_000), number), (more, enough), "{why}");
    }
    let elsewhere = Reading {
        sum: 3_000,
        greatest: 3_000,
        counted: 1,
        whose: Whose::Node,
        ..Reading::default()
    };
    assert_eq!(asks(elsewhere, Target::Average(2_000), 0).0, Some(2), "from none");
    assert_eq!(asks(elsewhere, Target::Value(2_000), 0).0, Some(2));
}

/// The same page: what is not ready is set aside, and counts as nothing when there would be more; what is
/// missing counts as nothing when there would be more, as on target when there would be fewer.
#[test]
fn what_is_not_ready_and_what_is_missing() {
    let target = Target::Average(TARGET);
    let missing = |shares: &[u64], missing: u32| {
        let mut found = reading(shares);
        (0..missing).for_each(|_| found.add(None));
        found.ready += missing;
        found
    };
    for (reading, number, more, enough, why) in [
        (reading(&[150]), 1, Some(3), 1, "alone"),
        (reading(&[150]), 2, Some(3), 2, "the second comes up: it counts as nothing"),
        (reading(&[100]), 2, None, 2, "so that nothing more is asked for"),
        (reading(&[30, 30]), 4, None, 1, "two of four come up: the others have enough"),
        (missing(&[110], 1), 2, None, 2, "one is missing: it counts as nothing upwards"),
        (missing(&[150], 1), 2, Some(3), 2, "unless the rest is too much"),
        (missing(&[10, 10], 1), 3, None, 2, "downwards it counts as on target"),
        (missing(&[], 2), 2, None, 2, "nothing could be had"),
        (reading(&[]), 2, None, 2, "none is ready: nobody knows"),
    ] {
        assert_eq!(asks(reading, target, number), (more, enough), "{why}");
    }
    let mut elsewhere = Reading { whose: Whose::Node, ready: 2, ..Reading::default() };
    elsewhere.add(Some(0));
    elsewhere.add(None);
    assert_eq!(asks(elsewhere, target, 2), (None, 2), "what is missing elsewhere may be anything");
    assert!(elsewhere.is_lost());
}

/// Runs a scaler on a load that all instances share, in thousandths of an instance at its target.
fn run(scaler: &mut Scaler, scaling: &Scaling, from_ms: u64, loads: &[u64]) -> Vec<u32> {
    let step = |(place, load): (usize, &u64)| {
        let now_ms = from_ms + STEP_MS * u64::try_from(place).unwrap();
        let number = scaler.newest().number;
        scaler.decide(&[shared(*load, number)], scaling, false, now_ms).number
    };
    loads.iter().enumerate().map(step).collect()
}

fn shared(load: u64, number: u32) -> Reading {
    // Where nothing runs nothing is used.
    let sum = if number == 0 { 0 } else { load * TARGET / 1_000 };
    Reading { sum, greatest: sum, counted: number, ready: number, ..Reading::default() }
}

#[test]
fn up_at_once_and_down_after_the_window() {
    let mut scaling = scaling(1, 6);
    scaling.policy.down = Pace { window_ms: 5_000, ..Pace::down() };
    let mut scaler = Scaler::new(1, &scaling, 0);
    let up = run(&mut scaler, &scaling, 500, &[500, 1_660, 1_660, 1_660]);
    assert_eq!(up, [1, 1, 2, 2], "two readings say so");
    let down = run(&mut scaler, &scaling, 2_500, &[300; 120]);
    let gone = down.iter().position(|number| *number == 1).unwrap();
    assert!((10..40).contains(&gone), "{gone}: smoothed, and then 5 s of the window");
    assert!(down[gone..].iter().all(|number| *number == 1), "{down:?}");
}

#[test]
fn a_short_peak_changes_nothing() {
    let scaling = scaling(1, 6);
    let mut scaler = Scaler::new(1, &scaling, 0);
    let numbers = run(&mut scaler, &scaling, 500, &[800, 5_000, 800, 800, 5_000, 800]);
    assert_eq!(numbers, [1; 6]);
}

#[test]
fn what_limits_a_number_is_said() {
    use ScaleLimit::{Least, Most, NoMetric, Rate, Room, Window};
    let limit_of = |scaling: &Scaling, running: u32, load: u64| {
        let mut scaler = Scaler::new(running, scaling, 0);
        run(&mut scaler, scaling, 500, &[load; 2]);
        (scaler.newest().number, scaler.newest().wish, scaler.newest().limit)
    };
    let bounds = scaling(2, 6);
    assert_eq!(limit_of(&bounds, 2, 2_000), (2, 2, ScaleLimit::None));
    assert_eq!(limit_of(&bounds, 3, 9_000), (6, 6, Most), "the policy's");
    let granted = Scaling { most: 3, ..bounds.clone() };
    assert_eq!(limit_of(&granted, 3, 5_000), (3, 5, Most), "the node's: the wish is more");
    assert_eq!(limit_of(&bounds, 4, 1_000), (4, 4, Window));
    let fast = |policy: ScalePolicy| Scaling { policy, ..bounds.clone() };
    let down = Pace { window_ms: 0, ..Pace::down() };
    let at_once = fast(ScalePolicy { down, ..bounds.policy.clone() });
    assert_eq!(limit_of(&at_once, 4, 900), (2, 1, Least));
    let down = Pace { instances: Some(1), every_ms: 15_000, ..down };
    let slow = fast(ScalePolicy { down, ..bounds.policy.clone() });
    assert_eq!(limit_of(&slow, 5, 2_000), (4, 2, Rate));
    let up = Pace { instances: Some(1), percent: None, ..Pace::up() };
    let slow = fast(ScalePolicy { up, ..bounds.policy.clone() });
    assert_eq!(limit_of(&slow, 2, 4_500), (3, 5, Rate));

    let mut scaler = Scaler::new(3, &bounds, 0);
    scaler.set_room(Some(2));
    run(&mut scaler, &bounds, 500, &[3_000; 2]);
    assert_eq!((scaler.newest().number, scaler.newest().limit), (2, Room));
    scaler.set_room(Some(0));
    run(&mut scaler, &bounds, 1_500, &[3_000; 2]);
    assert_eq!(scaler.newest().number, 2, "not below the least");
    let mut lost = Reading { ready: 3, ..Reading::default() };
    (0..3).for_each(|_| lost.add(None));
    let mut scaler = Scaler::new(3, &bounds, 0);
    for now_ms in [500, 1_000] {
        scaler.decide(&[lost], &bounds, false, now_ms);
    }
    assert_eq!((scaler.newest().number, scaler.newest().limit), (3, NoMetric));
}

/// "Scaling on multiple metrics": the largest counts, and one that cannot be had holds the number.
#[test]
fn the_figure_that_asks_for_the_most_counts() {
    let mut scaling = scaling(1, 9);
    scaling.policy.memory_percent = Some(60);
    scaling.policy.down.window_ms = 0;
    let decide = |readings: [Reading; 2]| {
        let mut scaler = Scaler::new(4, &scaling, 0);
        for now_ms in [500, 1_000] {
            scaler.decide(&readings, &scaling, false, now_ms);
        }
        scaler.newest().number
    };
    let of = |share: u64| reading(&[share; 4]);
    let mut lost = Reading { ready: 4, ..Reading::default() };
    (0..4).for_each(|_| lost.add(None));
    for (readings, number) in [
        ([of(90), of(30)], 6),
        ([of(30), of(90)], 6),
        ([of(90), of(120)], 8),
        ([of(15), of(30)], 2),
        ([of(90), lost], 6),
        ([of(15), lost], 4),
        ([of(60), of(60)], 4),
    ] {
        assert_eq!(decide(readings), number, "{readings:?}");
    }
}

/// Each node sees as much of the load as it has of the instances, and decides about all of them.
#[test]
fn of_a_service_that_is_scaled_as_a_whole_the_instances_elsewhere_count() {
    let fleet = |least: u32, most: u32, elsewhere: u32| {
        let mut scaling = Scaling { least, most, elsewhere, ..scaling(1, 6) };
        scaling.policy.per = Per::Application;
        scaling.policy.down.window_ms = 0;
        scaling
    };
    for (scaling, here, share, number, wish, why) in [
        (fleet(0, 2, 2), 1, 60, 1, 3, "at the target nothing changes"),
        (fleet(0, 2, 2), 1, 120, 2, 6, "twice the load asks for twice as many"),
        (fleet(0, 2, 2), 2, 120, 2, 6, "at the bound of the node, at most the policy's"),
        (fleet(0, 2, 2), 1, 20, 0, 1, "a third of the load is enough for one, elsewhere"),
        (fleet(1, 2, 2), 1, 20, 1, 1, "which is here, if the controller says so"),
        (fleet(0, 2, 3), 0, 0, 0, 0, "who runs none knows nothing"),
    ] {
        let mut scaler = Scaler::new(here, &scaling, 0);
        let shares = vec![share; usize::try_from(here).unwrap()];
        for round in 1..60 {
            scaler.decide(&[reading(&shares)], &scaling, false, round * 500);
            if scaler.newest().number != here {
                break;
            }
        }
        assert_eq!((scaler.newest().number, scaler.newest().wish), (number, wish), "{why}");
    }
}

#[test]
fn from_none_and_to_none() {
    let mut scaling = scaling(0, 3);
    scaling.policy.down.window_ms = 10_000;
    let mut scaler = Scaler::new(0, &scaling, 0);
    assert_eq!(run(&mut scaler, &scaling, 500, &[0; 10]), [0; 10], "nobody needs it");
    let one = scaler.decide(&[Reading::default()], &scaling, true, 6_000).number;
    assert_eq!(one, 1, "somebody waits for it");
    let busy = run(&mut scaler, &scaling, 6_500, &[100; 100]);
    assert_eq!(busy, [1; 100], "a little to do is something to do");
    let idle = run(&mut scaler, &scaling, 60_000, &[5; 300]);
    assert_eq!((idle[0], idle[299]), (1, 0), "next to nothing for as long as the window");
    let with_least = Scaling { least: 1, ..scaling.clone() };
    let mut scaler = Scaler::new(1, &with_least, 0);
    assert_eq!(run(&mut scaler, &with_least, 500, &[0; 300]), [1; 300]);
}

#[test]
fn a_restart_goes_on_from_what_runs() {
    let bounds = scaling(1, 6);
    let mut scaler = Scaler::new(4, &bounds, 0);
    let numbers = run(&mut scaler, &bounds, 500, &[100; 590]);
    assert_eq!(numbers, [4; 590], "the window begins anew: nothing goes before it is over");
    assert_eq!(Scaler::new(9, &bounds, 0).newest().number, 6);
    assert_eq!(Scaler::new(0, &bounds, 0).newest().number, 1);
}

fn any_pace() -> impl Strategy<Value = Pace> {
    use limpet_protocol::scale::Select;
    let select = prop_oneof![Just(Select::Max), Just(Select::Min), Just(Select::Disabled)];
    let step = proptest::option::of(1_u32..5);
    let share = proptest::option::of(1_u32..200);
    (0_u64..60_000, step, share, 1_u64..60_000, select).prop_map(
        |(window_ms, instances, percent, every_ms, select)| Pace {
            window_ms,
            instances,
            percent,
            every_ms,
            select,
        },
    )
}

fn any_scaling() -> impl Strategy<Value = Scaling> {
    let per = prop_oneof![Just(Per::Node), Just(Per::Application)];
    (0_u32..5, 1_u32..12, any_pace(), any_pace(), per).prop_map(|(min, more, up, down, per)| {
        let max = min + more;
        let mut scaling = scaling(min, max);
        (scaling.policy.up, scaling.policy.down, scaling.policy.per) = (up, down, per);
        scaling.policy.metrics = vec![MetricTarget {
            name: "queue".into(),
            labels: [].into(),
            source: MetricSource::Http { service: None, port: 1, path: "/".into() },
            per_second: false,
            target: Target::Value(1_000),
        }];
        scaling
    })
}

fn any_reading() -> impl Strategy<Value = Reading> {
    let values = proptest::collection::vec(proptest::option::weighted(0.8, 0_u64..300_000), 0..6);
    let whose = prop_oneof![Just(Whose::Measured), Just(Whose::Node), Just(Whose::Service)];
    (values, whose).prop_map(|(values, whose)| {
        let ready = u32::try_from(values.len()).unwrap();
        let mut reading = Reading { ready, whose, ..Reading::default() };
        values.into_iter().for_each(|value| reading.add(value));
        reading
    })
}

fn any_course() -> impl Strategy<Value = Vec<(u64, Reading, Reading)>> {
    proptest::collection::vec((1_u64..20_000, any_reading(), any_reading()), 1..40)
}

/// A scaler with any past, and its time.
fn with_past(scaling: &Scaling, begin: u32, past: &[(u64, Reading, Reading)]) -> (Scaler, u64) {
    let (mut scaler, mut now_ms) = (Scaler::new(begin, scaling, 0), 0);
    for (after_ms, cpu, queue) in past {
        now_ms += after_ms;
        scaler.decide(&[*cpu, *queue], scaling, false, now_ms);
    }
    (scaler, now_ms)
}

proptest! {
    #[test]
    fn never_outside_of_the_bounds(scaling in any_scaling(), begin in 0_u32..20, past in any_course()) {
        let (mut scaler, mut now_ms) = (Scaler::new(begin, &scaling, 0), 0);
        for (after_ms, cpu, queue) in past {
            now_ms += after_ms;
            let number = scaler.decide(&[cpu, queue], &scaling, false, now_ms).number;
            prop_assert!((scaling.least..=scaling.most).contains(&number));
            prop_assert!(scaler.newest().wish <= scaling.policy.max);
        }
    }

    /// From any past: more load never asks for fewer instances.
    #[test]
    fn monotone_in_load(
        scaling in any_scaling(), begin in 0_u32..20, past in any_course(),
        now in any_reading(), more in 0_u64..200_000, after_ms in 1_u64..60_000,
    ) {
        let (scaler, at_ms) = with_past(&scaling, begin, &past);
        let greater = Reading { sum: now.sum + more, greatest: now.greatest + more, ..now };
        prop_assume!(now.counted > 0);
        let decide = |reading: Reading| {
            let mut scaler = scaler.clone();
            scaler.decide(&[reading, reading], &scaling, false, at_ms + after_ms).number
        };
        prop_assert!(decide(now) <= decide(greater));
    }

    /// From any past: if a figure cannot be had nothing is taken away, whatever the others say.
    #[test]
    fn a_lost_metric_never_scales_down(
        scaling in any_scaling(), begin in 0_u32..20, past in any_course(), cpu in any_reading(),
        after_ms in 1_u64..60_000, published in any::<bool>(),
    ) {
        let (mut scaler, at_ms) = with_past(&scaling, begin, &past);
        let before = scaler.newest().number;
        let whose = if published { Whose::Service } else { Whose::Measured };
        let mut lost = Reading { ready: 2, whose, ..Reading::default() };
        lost.add(None);
        lost.add(None);
        // What was wished before may still be under way in its window; a lost metric adds nothing to it.
        let mut held = scaling.clone();
        held.policy.down.window_ms = 0;
        let after = scaler.decide(&[cpu, lost], &held, false, at_ms + after_ms).number;
        prop_assert!(after >= before, "{before} to {after}");
    }

    /// A load that stays makes the number go one way and stay there.
    #[test]
    fn a_steady_load_never_flaps(
        load in 0_u64..8_000, begin in 1_u32..10, window_ms in 0_u64..20_000,
    ) {
        let mut scaling = scaling(1, 9);
        scaling.policy.down.window_ms = window_ms;
        let mut scaler = Scaler::new(begin, &scaling, 0);
        let mut numbers = vec![begin.min(9)];
        numbers.extend(run(&mut scaler, &scaling, 500, &vec![load; 400]));
        let mut steps: Vec<i64> = numbers.windows(2).map(|w| i64::from(w[1]) - i64::from(w[0])).collect();
        steps.retain(|step| *step != 0);
        prop_assert!(steps.iter().all(|step| step.signum() == steps[0].signum()), "{numbers:?}");
        let last = numbers[numbers.len() - 1];
        prop_assert!(numbers[numbers.len() - 100..].iter().all(|number| *number == last));
        // Where it stays is where the rule says, within the tolerance.
        let (least, most) = (load * 10 / 11, load * 10 / 9 + 1_000);
        let fits = (least..=most).contains(&(u64::from(last) * 1_000));
        prop_assert!(fits || last == 1 || last == 9, "{load}: {last}");
    }
}

#[test]
fn a_whole_node() {
    use super::{NodeSample, Readings, Sample, Scales, Share};
    use crate::runtime::ContainerId;
    use crate::scale::slots::Standing;
    use limpet_protocol::id::Slot;
    use limpet_protocol::spec::Resources;

    let resources = Resources { cpu_limit_millis: Some(500), ..Resources::default() };
    let scaling = scaling(1, 4);
    let key = ("shop".parse().unwrap(), "web".parse().unwrap());
    let mut scales = Scales::default();
    let share = |slots| Share { key: key.clone(), slots, scaling: &scaling, resources: &resources };
    let home = [Slot(1)];
    scales.follow([share(&home)].into_iter());
    assert_eq!(scaling.policy.per, Per::Node);
    assert!(scales.choose(|_| Standing::Absent, 0));
    let id = |slot: u32| -> ContainerId { format!("shop.web.{slot}.1").parse().unwrap() };
    let runs = |scales: &Scales| -> Vec<u32> {
        [1, 1001, 1002, 1003].into_iter().filter(|slot| scales.runs(&id(*slot).instance)).collect()
    };
    assert_eq!(runs(&scales), [1]);
    let memory = NodeSample { memory_bytes: 100, available_bytes: 50, ..NodeSample::default() };
    let look = |scales: &mut Scales, running: &[u32], step: u64, node: NodeSample| {
        let now_ms = step * STEP_MS;
        // All of half a processor.
        let sample = Sample { ready: true, cpu_us: Some(now_ms * 500), memory_bytes: None };
        let containers = running.iter().map(|slot| (id(*slot), sample)).collect();
        let instances = running.len();
        let changes = scales.look(&Readings { containers, node, instances }, now_ms);
        scales.choose(|_| Standing::Well, now_ms);
        changes
    };
    let mut changes = vec![];
    for step in 1..=5 {
        changes.extend(look(&mut scales, &[1], step, memory));
    }
    assert_eq!(changes.len(), 1, "{changes:?}");
    assert_eq!((changes[0].before, changes[0].after, changes[0].gave_way), (1, 2, None));
    assert_eq!(runs(&scales), [1, 1001]);
    assert_eq!(scales.beside(&key, Slot(1)), [Slot(1001)]);
    let report = &scales.reports()[0];
    assert_eq!((report.running, report.wish, report.figures[0].value), (2, 2, Some(100_000)));
    let short = NodeSample { available_bytes: 2, ..memory };
    let gone: Vec<_> =
        (6..=9).flat_map(|step| look(&mut scales, &[1, 1001], step, short)).collect();
    assert_eq!((gone[0].after, gone[0].gave_way), (1, Some(super::node::Cause::Memory)));
    assert_eq!(scales.reports()[0].limit, ScaleLimit::Room);
    scales.follow(std::iter::empty());
    assert_eq!((scales.is_empty(), scales.due_ms()), (true, None));
    assert!(scales.runs(&id(7).instance), "what does not follow its load runs");
}
