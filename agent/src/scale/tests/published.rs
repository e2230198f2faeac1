//! Figures that are published on a topic: whose they are, how long they count, and what hostile ones do.

use limpet_protocol::id::{MetricName, Slot};
use limpet_protocol::limits::{MAX_METRIC_TOPICS_PER_NODE, PUBLISHED_COUNTS_MS};
use limpet_protocol::scale::Missing;
use limpet_protocol::spec::Resources;

use super::*;
use crate::runtime::ContainerId;
use crate::scale::slots::Standing;
use crate::scale::{Readings, Sample, Scales, ServiceKey, Share};

const NAME: &str = "jobs_open";

fn following(per: Per, target: Target, (min, max): (u32, u32)) -> Scaling {
    let mut policy = ScalePolicy { per, ..ScalePolicy::between(min, max) };
    policy.down.window_ms = 0;
    policy.metrics = vec![MetricTarget {
        name: NAME.into(),
        labels: [].into(),
        source: MetricSource::Topic,
        per_second: false,
        target,
    }];
    Scaling { least: min, most: max, elsewhere: 0, priority: 0, policy }
}

fn published(value: u64, ready: u32) -> Reading {
    let mut reading = Reading { ready, whose: Whose::Service, ..Reading::default() };
    reading.add(Some(value));
    reading
}

/// `External` metrics of Kubernetes (`replica_calculator.go`, `GetExternalMetricReplicas` and
/// `GetExternalPerPodMetricReplicas`): the value against the ready ones of all, the average by itself.
#[test]
fn a_figure_is_of_the_whole_service() {
    for (target, elsewhere, value, ready, number, more, enough, why) in [
        (Target::Average(10_000), 0, 42_000, 1, 1, Some(5), 1, "one for each 10"),
        (
            Target::Average(10_000),
            3,
            42_000,
            1,
            4,
            None,
            4,
            "within a tenth of what runs everywhere",
        ),
        (Target::Average(10_000), 3, 21_000, 1, 4, None, 3, "2.1 of them: three"),
        (Target::Average(10_000), 0, 0, 2, 2, None, 0, "nothing to do"),
        (Target::Value(100_000), 0, 200_000, 2, 2, Some(4), 2, "twice the figure, twice as many"),
        (Target::Value(100_000), 2, 200_000, 1, 3, Some(6), 3, "also of those elsewhere"),
        (Target::Value(100_000), 2, 50_000, 2, 4, None, 2, "half of it"),
        (Target::Value(100_000), 0, 1, 0, 0, Some(1), 0, "from none"),
    ] {
        let mut gauge = Gauge::default();
        gauge.read(published(value, ready), (target, elsewhere), 0);
        gauge.read(published(value, ready), (target, elsewhere), STEP_MS);
        assert_eq!((gauge.more_than(number), gauge.enough(number)), (more, enough), "{why}");
    }
    let mut gauge = Gauge::default();
    gauge.read(published(42_000, 1), (Target::Average(10_000), 3), 0);
    assert_eq!(gauge.value(Target::Average(10_000)), Some(10_500), "of each of the four");
    assert_eq!(gauge.value(Target::Value(10_000)), Some(42_000));
}

/// What every node hears at once not every node does: with `per: application` the controller says who.
#[test]
fn over_the_fleet_a_node_wishes_and_does_what_it_is_told() {
    let mut scaling = following(Per::Application, Target::Average(10_000), (0, 6));
    scaling.most = 3;
    let mut scaler = Scaler::new(0, &scaling, 0);
    let mut decide = |scaling: &Scaling, value, needed, now_ms| {
        let ready = scaler.newest().number;
        let decision = scaler.decide(&[published(value, ready)], scaling, needed, now_ms);
        (decision.number, decision.wish)
    };
    decide(&scaling, 45_000, false, 500);
    assert_eq!(decide(&scaling, 45_000, false, 1_000), (0, 5), "it wishes for five");
    scaling = Scaling { least: 2, elsewhere: 3, ..scaling };
    assert_eq!(decide(&scaling, 45_000, false, 1_500), (2, 5), "and runs the two it is told to");
    scaling = Scaling { least: 0, elsewhere: 0, ..scaling };
    assert_eq!(decide(&scaling, 45_000, false, 2_000).0, 2, "it takes none away that is asked for");
    let mut alone = Scaler::new(0, &scaling, 0);
    assert_eq!(alone.decide(&[published(0, 0)], &scaling, true, 500).number, 1, "somebody waits");
    let per_node = following(Per::Node, Target::Average(10_000), (0, 6));
    let mut scaler = Scaler::new(0, &per_node, 0);
    let numbers =
        [500, 1_000].map(|at| scaler.decide(&[published(45_000, 0)], &per_node, false, at).number);
    assert_eq!(numbers, [0, 4], "a node by itself does it, as fast as it may");
}

/// Only nothing is nothing: one job of a hundred keeps the last instance.
#[test]
fn the_last_one_goes_when_the_figure_is_nothing() {
    let scaling = following(Per::Node, Target::Average(100_000), (0, 3));
    let mut scaler = Scaler::new(0, &scaling, 0);
    let mut run = |value: u64, from: u64| {
        let steps = (from..from + 80).map(|step| {
            let ready = scaler.newest().number;
            scaler.decide(&[published(value, ready)], &scaling, false, step * STEP_MS).number
        });
        steps.collect::<Vec<u32>>()
    };
    assert!(
        run(1_000, 0)[1..].iter().all(|number| *number == 1),
        "one job: one instance, steadily"
    );
    assert_eq!(run(0, 100).last(), Some(&0));
}

struct Node {
    scales: Scales,
    key: ServiceKey,
    scaling: Scaling,
    now_ms: u64,
}

impl Node {
    fn new(min: u32) -> Self {
        let scaling = following(Per::Node, Target::Average(10_000), (min, 4));
        let key = ("shop".parse().unwrap(), "web".parse().unwrap());
        let mut node = Self { scales: Scales::default(), key, scaling, now_ms: 0 };
        node.follow();
        node.scales.choose(|_| Standing::Absent, 0);
        node
    }

    fn follow(&mut self) {
        let (key, scaling, resources) = (self.key.clone(), &self.scaling, &Resources::default());
        let share = Share { key, slots: &[Slot(1)], scaling, resources };
        self.scales.follow(std::iter::once(share));
    }

    fn publish(&mut self, payload: &[u8]) {
        let name: MetricName = NAME.parse().unwrap();
        self.scales.published(&self.key.clone(), &name, payload, self.now_ms);
    }

    /// What runs, and why the figure is missing, so many milliseconds later.
    fn after(&mut self, ms: u64) -> (u32, Option<Missing>) {
        for _ in 0..ms / STEP_MS {
            self.now_ms += STEP_MS;
            let sample = Sample { ready: true, cpu_us: None, memory_bytes: None };
            let slots = [1, 1001, 1002, 1003].into_iter();
            let id = |slot| -> ContainerId { format!("shop.web.{slot}.1").parse().unwrap() };
            let containers = slots.map(|slot| (id(slot), sample)).collect();
            let readings = Readings { containers, ..Readings::default() };
            self.scales.look(&readings, self.now_ms);
            self.scales.choose(|_| Standing::Well, self.now_ms);
        }
        let report = &self.scales.reports()[0];
        assert_eq!(report.figures[0].value.is_none(), report.figures[0].missing.is_some());
        (report.running, report.figures[0].missing)
    }
}

#[test]
fn a_figure_counts_for_a_minute_and_hostile_ones_take_nothing_away() {
    let mut node = Node::new(1);
    assert_eq!(node.scales.topics(), [(node.key.clone(), NAME.parse().unwrap())]);
    assert_eq!(node.scales.endpoints_due(0), [], "nobody is asked");
    assert_eq!(node.after(5_000), (1, Some(Missing::Unheard)));
    node.publish(b"25");
    assert_eq!(node.after(5_000), (3, None));
    for (payload, why) in [
        (&b""[..], Missing::NoNumber),
        (b"NaN", Missing::NoNumber),
        (b"-7", Missing::Negative),
        (b"99999999999999999999", Missing::TooLarge),
        (&[0xff; 200_000], Missing::NoNumber),
    ] {
        node.publish(payload);
        assert_eq!(node.after(90_000), (3, Some(Missing::Old)), "nothing is taken away");
        node.publish(payload);
        assert_eq!(node.after(1_000), (3, Some(why)), "{payload:?}");
    }
    assert_eq!(node.scales.reports()[0].limit, ScaleLimit::NoMetric);
    node.publish(b"5\n");
    assert_eq!(node.after(30_000), (1, None));
    node.publish(b"25");
    let almost = PUBLISHED_COUNTS_MS - STEP_MS;
    assert_eq!(node.after(almost), (3, None));
    assert_eq!(node.after(STEP_MS), (3, Some(Missing::Old)));
    // Another policy with the same topic does not forget; one without it does.
    node.publish(b"25");
    node.scaling.policy.max = 5;
    node.follow();
    assert_eq!(node.after(1_000), (3, None));
    node.scaling.policy.metrics[0].name = "other".into();
    node.follow();
    node.publish(b"25");
    node.scaling.policy.metrics[0].name = NAME.into();
    node.follow();
    assert_eq!(node.after(1_000), (3, Some(Missing::Unheard)));
}

/// What is asked for and not told comes with the reason too.
#[test]
fn who_does_not_answer_is_named() {
    let mut node = Node::new(1);
    let metric = &mut node.scaling.policy.metrics[0];
    metric.source = MetricSource::Http { service: None, port: 9090, path: "/".into() };
    node.follow();
    assert_eq!(node.scales.endpoints_due(0).len(), 1);
    let from: ContainerId = "shop.web.1.1".parse().unwrap();
    node.scales.heard(&node.key.clone(), &from, &[(0, Err(Missing::NoAnswer))], 0);
    node.after(2_000);
    for (value, missing) in [
        (Err(Missing::NoAnswer), Some(Missing::NoAnswer)),
        (Err(Missing::NoSeries), Some(Missing::NoSeries)),
        (Ok(5_000), None),
    ] {
        node.scales.heard(&node.key.clone(), &from, &[(0, value)], node.now_ms);
        assert_eq!(node.after(1_000), (1, missing));
    }
}

#[test]
fn more_topics_than_a_node_listens_to_are_said_to_be_missing() {
    let scaling = following(Per::Node, Target::Average(10_000), (1, 4));
    let resources = Resources::default();
    let share = |number: usize| Share {
        key: ("shop".parse().unwrap(), format!("s{number:04}").parse().unwrap()),
        slots: &[Slot(1)],
        scaling: &scaling,
        resources: &resources,
    };
    let mut scales = Scales::default();
    scales.follow((0..MAX_METRIC_TOPICS_PER_NODE + 2).map(share));
    assert_eq!(scales.topics().len(), MAX_METRIC_TOPICS_PER_NODE);
    scales.choose(|_| Standing::Well, 0);
    scales.look(&Readings::default(), STEP_MS);
    let reports = scales.reports();
    let missing: Vec<_> = reports.iter().map(|report| report.figures[0].missing).collect();
    assert_eq!(missing[0], Some(Missing::Unheard));
    assert_eq!(missing[MAX_METRIC_TOPICS_PER_NODE], Some(Missing::TooMany));
}
