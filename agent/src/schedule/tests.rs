//! Schedules as stories: what is due at which time, and what the disk keeps of it.

use std::sync::Arc;

use limpet_protocol::id::SpecHash;
use limpet_protocol::spec::{ImageSource, MissedRuns, Overlap, Spec};
use limpet_protocol::zone::days_before;
use proptest::prelude::*;

use super::verdict::Verdict;
use super::*;
use crate::reconcile::WantedInstance;

const BERLIN: &str = "CET-1CEST,M3.5.0,M10.5.0/3";
const HOUR: i64 = 3_600;
const DAY: i64 = 24 * HOUR;

/// Noon of 2026-06-01, a Monday, UTC.
fn noon() -> i64 {
    days_before(2026, 6, 1) * DAY + 12 * HOUR
}

fn schedule(cron: &str, missed: MissedRuns) -> Schedule {
    Schedule {
        cron: cron.to_owned(),
        zone: String::new(),
        missed,
        deadline_ms: None,
        overlap: Overlap::default(),
    }
}

fn instance() -> InstanceId {
    "shop.backup.1".parse().unwrap()
}

fn wanted(schedule: &Schedule) -> Wanted {
    let image = ImageSource::new("busybox");
    let mut spec = Spec::new("shop".parse().unwrap(), "backup".parse().unwrap(), image);
    spec.schedule = Some(schedule.clone());
    [(instance(), WantedInstance::new(SpecHash([1; 32]), Arc::new(spec)))].into()
}

fn judge(schedule: &Schedule, last_s: i64, goes_on: bool, now_s: i64) -> Verdict {
    verdict(schedule, &read(schedule).unwrap(), (Some(last_s), goes_on), (now_s, 0))
}

fn due(at_s: i64) -> Verdict {
    Verdict::Due { at_s }
}

fn waits(last_s: i64, next_s: i64) -> Verdict {
    Verdict::Waits { last_s, next_s: Some(next_s) }
}

#[test]
fn what_was_missed_is_made_up_for_as_the_policy_says() {
    use MissedRuns::{All, Once, Skip};
    let (last, now) = (noon(), noon() + 5 * HOUR + 600);
    let newest = noon() + 5 * HOUR;
    let next = newest + HOUR;
    let within =
        |ms| move |missed| Schedule { deadline_ms: Some(ms), ..schedule("@hourly", missed) };
    let plain = |missed| schedule("@hourly", missed);
    for (schedule, verdict) in [
        (plain(Skip), waits(newest, next)),
        (plain(Once), due(newest)),
        (plain(All), due(last + HOUR)),
        (within(900_000)(Once), due(newest)),
        (within(300_000)(Once), waits(newest, next)),
        (within(2 * 3_600_000)(All), due(newest - HOUR)),
        (within(300_000)(All), waits(newest, next)),
    ] {
        assert_eq!(judge(&schedule, last, false, now), verdict, "{schedule:?}");
    }
    // On time, whatever the policy.
    for missed in [Skip, Once, All] {
        let schedule = Schedule { deadline_ms: Some(0), ..schedule("@hourly", missed) };
        assert_eq!(judge(&schedule, newest, false, next + ON_TIME_S), due(next));
        assert_eq!(judge(&schedule, newest, false, next - 1), waits(newest, next));
    }
}

#[test]
fn a_run_that_goes_on_holds_up_or_is_replaced() {
    let next = noon() + HOUR;
    let forbid = schedule("@hourly", MissedRuns::Once);
    let replace = Schedule { overlap: Overlap::Replace, ..forbid.clone() };
    assert_eq!(judge(&forbid, noon(), true, next + 5), waits(next, next + HOUR), "left out");
    assert_eq!(judge(&replace, noon(), true, next + 5), due(next));
    let all = schedule("@hourly", MissedRuns::All);
    assert_eq!(judge(&all, noon(), true, next + 5), waits(noon(), next + HOUR), "waits its turn");
    assert_eq!(judge(&all, noon(), false, next + 65), due(next));
}

#[test]
fn a_year_of_minutes_is_found_at_once_and_made_up_for_up_to_a_limit() {
    let now = noon() + 365 * DAY;
    let every = schedule("* * * * *", MissedRuns::All);
    assert_eq!(judge(&every, noon(), false, now), due(now - 99 * 60));
    let rare = schedule("0 0 29 2 *", MissedRuns::Once);
    let leap_day = days_before(2028, 2, 29) * DAY;
    assert_eq!(judge(&rare, noon(), false, noon() + 1_000 * DAY), due(leap_day));
}

#[test]
fn a_clock_that_is_wrong_starts_nothing() {
    let hourly = schedule("@hourly", MissedRuns::All);
    let rule = read(&hourly).unwrap();
    let judge = |last_s, now_s| verdict(&hourly, &rule, (last_s, false), (now_s, noon()));
    assert_eq!(judge(None, 60), Verdict::ClockWrong { before_s: noon() }, "1970");
    assert_eq!(
        judge(Some(noon() + DAY), noon() + 60),
        Verdict::ClockWrong { before_s: noon() + DAY }
    );
    // Corrected by a little: it waits until it was there, and runs nothing twice.
    let last = noon() + 2 * HOUR;
    assert_eq!(judge(Some(last), last - 10), waits(last, last + HOUR));
    assert_eq!(judge(None, noon() + 5), waits(noon() + 5, noon() + HOUR), "first seen");
}

/// Looks as the loop does, with a disk that keeps at once.
struct Node {
    runs: Runs,
    disk: Record,
    writes: u32,
    schedule: Schedule,
    goes_on: bool,
}

impl Node {
    fn new(schedule: Schedule) -> Self {
        let disk = Record::default();
        Self { runs: Runs::default(), disk, writes: 0, schedule, goes_on: false }
    }

    fn reboots(&mut self) {
        let text = serde_json::to_vec(&self.disk).unwrap();
        self.runs = Runs::new(serde_json::from_slice(&text).unwrap());
        self.goes_on = false;
    }

    /// Whether a run begins; it ends at once.
    fn at(&mut self, now_s: i64) -> bool {
        for _ in 0..3 {
            let goes_on = self.goes_on;
            let look = self.runs.look(&wanted(&self.schedule), |_| goes_on, (now_s, 0));
            if let Some((number, record)) = look.record {
                assert_ne!(look.gates[&instance()], Gate::Open, "it is not on disk yet");
                (self.disk, self.writes) = (record, self.writes + 1);
                self.runs.kept(number);
            } else if look.gates[&instance()] == Gate::Open {
                self.runs.begun(&instance());
                return true;
            }
        }
        false
    }

    fn why(&mut self, now_s: i64) -> String {
        let look = self.runs.look(&wanted(&self.schedule), |_| false, (now_s, 0));
        match &look.gates[&instance()] {
            Gate::Closed { why } => why.clone(),
            Gate::Open => "open".to_owned(),
        }
    }
}

#[test]
fn each_run_is_written_once_before_it_begins_and_none_is_repeated() {
    let mut node = Node::new(schedule("@hourly", MissedRuns::Once));
    assert!(!node.at(noon() + 5), "nothing was missed before it was there");
    assert_eq!(node.writes, 1, "when it was first seen");
    for minute in 1..60 {
        assert!(!node.at(noon() + minute * 60));
    }
    assert_eq!(node.writes, 1);
    assert!(node.at(noon() + HOUR));
    assert!(!node.at(noon() + HOUR + 1));
    assert_eq!(node.writes, 2);
    node.reboots();
    assert!(!node.at(noon() + HOUR + 30), "it has run");
    // The clock goes back over the run, and forward again.
    assert!(!node.at(noon() + HOUR - 100));
    assert!(!node.at(noon() + HOUR));
    assert_eq!(node.writes, 2);
    // Off for three runs: one makes up for them.
    node.reboots();
    assert!(node.at(noon() + 4 * HOUR + 900));
    assert!(!node.at(noon() + 4 * HOUR + 901));
    assert_eq!(node.writes, 3);
}

#[test]
fn a_power_cut_between_the_record_and_the_run_leaves_it_out() {
    let mut node = Node::new(schedule("@hourly", MissedRuns::All));
    node.at(noon() + 5);
    let look = node.runs.look(&wanted(&node.schedule), |_| false, (noon() + HOUR, 0));
    node.disk = look.record.unwrap().1;
    node.reboots();
    assert!(!node.at(noon() + HOUR + 1));
    assert!(node.at(noon() + 2 * HOUR));
}

#[test]
fn another_schedule_begins_anew_and_says_when_it_runs() {
    let mut node = Node::new(schedule("@hourly", MissedRuns::All));
    node.at(noon() + 5);
    node.schedule = Schedule { zone: BERLIN.to_owned(), ..schedule("30 3 * * *", MissedRuns::All) };
    assert!(!node.at(noon() + 3 * DAY), "what was missed of another schedule is nobody's");
    assert_eq!(node.why(noon() + 3 * DAY), "next run at 2026-06-05 03:30 +02:00");
    assert_eq!(
        node.why(60),
        "waits for a valid clock: it shows 1970-01-01 00:01 UTC, and 2026-06-04 12:00 UTC has passed already"
    );
    node.schedule = schedule("61 * * * *", MissedRuns::All);
    assert!(node.why(noon()).starts_with("its schedule cannot be read: minute \"61\""));
}

#[test]
fn all_missed_runs_come_one_after_the_other() {
    let mut node = Node::new(schedule("@hourly", MissedRuns::All));
    node.at(noon() + 5);
    let now = noon() + 3 * HOUR + 600;
    assert_eq!([node.at(now), node.at(now), node.at(now), node.at(now)], [true, true, true, false]);
}

proptest! {
    // 32-bit ARM is emulated, and not optimized.
    #![proptest_config(ProptestConfig::with_cases(if cfg!(target_arch = "arm") { 2 } else { 64 }))]

    /// Whatever the clock does and however often the node is started, no time is run twice, and every
    /// run is due.
    #[test]
    fn no_time_is_run_twice(
        steps in prop::collection::vec((-7_200_i64..20_000, any::<bool>()), 1..60),
        missed in prop::sample::select(vec![MissedRuns::Skip, MissedRuns::Once, MissedRuns::All]),
    ) {
        let mut node = Node::new(schedule("*/30 * * * *", missed));
        let (mut now, mut run) = (noon(), std::collections::BTreeSet::new());
        for (step, reboot) in steps {
            now += step;
            if reboot {
                node.reboots();
            }
            if node.at(now) {
                let at = node.disk.runs.values().next().unwrap().last_s;
                prop_assert!(run.insert(at), "{at} twice");
                prop_assert!(at <= now && at % 1_800 == 0);
            }
        }
    }
}
