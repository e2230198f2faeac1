//! One schedule at one time: is a run due, or when is the next?

use limpet_protocol::cron::Cron;
use limpet_protocol::spec::{MissedRuns, Overlap, Schedule};
use limpet_protocol::zone::Zone;

/// A run that begins within this time of its own is not missed: an agent that is updated, a node that
/// is busy.
pub const ON_TIME_S: i64 = 60;
/// How far the clock may be behind the last run before it counts as wrong: it was corrected.
const CORRECTED_S: i64 = 3_600;
/// Most missed runs that are made up for, the newest ones.
const MAX_MADE_UP: usize = 100;

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing: the clock shows a time that has passed already.
    ClockWrong {
        /// Which.
        before_s: i64,
    },
    /// Nothing yet.
    Waits {
        /// Up to here everything has run or is left out.
        last_s: i64,
        /// The next run.
        next_s: Option<i64>,
    },
    /// A run begins.
    Due {
        /// The time that it stands for.
        at_s: i64,
    },
}

/// Decides. `last_s` is the time of the last run, none if the schedule was never seen; `goes_on`,
/// whether a run does.
pub(super) fn verdict(
    schedule: &Schedule,
    rule: &(Cron, Zone),
    (last_s, goes_on): (Option<i64>, bool),
    (now_s, floor_s): (i64, i64),
) -> Verdict {
    let behind_s = last_s.filter(|last_s| now_s < last_s.saturating_sub(CORRECTED_S));
    if now_s < floor_s || behind_s.is_some() {
        return Verdict::ClockWrong { before_s: behind_s.unwrap_or(floor_s).max(floor_s) };
    }
    let last_s = last_s.unwrap_or(now_s);
    let (cron, zone) = rule;
    let waits = |last_s: i64| {
        let next_s = cron.next(zone, now_s.max(last_s));
        Verdict::Waits { last_s, next_s }
    };
    let Some(newest_s) = newest(rule, last_s, now_s) else { return waits(last_s) };
    if goes_on && schedule.overlap == Overlap::Forbid {
        // What `all` is to make up for waits for its turn; everything else is left out.
        let queues = schedule.missed == MissedRuns::All;
        return waits(if queues { last_s } else { newest_s });
    }
    let late_s = |at_s: i64| now_s.saturating_sub(at_s);
    let deadline_s = schedule.deadline_ms.map(|ms| i64::try_from(ms / 1_000).unwrap_or(i64::MAX));
    let in_time = |at_s: i64| {
        late_s(at_s) <= ON_TIME_S || deadline_s.is_none_or(|deadline_s| late_s(at_s) <= deadline_s)
    };
    let due_s = match schedule.missed {
        MissedRuns::Skip => Some(newest_s).filter(|at_s| late_s(*at_s) <= ON_TIME_S),
        MissedRuns::Once => Some(newest_s).filter(|at_s| in_time(*at_s)),
        MissedRuns::All if goes_on => Some(newest_s),
        MissedRuns::All => oldest(rule, (last_s, newest_s), in_time),
    };
    due_s.map_or_else(|| waits(newest_s), |at_s| Verdict::Due { at_s })
}

/// The newest time of the schedule in `after_s..=until_s`. "There is one after" holds up to the one
/// before it and no further, so halving finds it whatever lies in between.
fn newest((cron, zone): &(Cron, Zone), after_s: i64, until_s: i64) -> Option<i64> {
    let there_is_one = |after_s: i64| cron.next(zone, after_s).is_some_and(|at_s| at_s <= until_s);
    if after_s >= until_s || !there_is_one(after_s) {
        return None;
    }
    let (mut yes, mut no) = (after_s, until_s);
    while no - yes > 1 {
        let middle = yes + (no - yes) / 2;
        if there_is_one(middle) {
            yes = middle;
        } else {
            no = middle;
        }
    }
    Some(no)
}

/// The oldest of the newest [`MAX_MADE_UP`] times in `after_s..=newest_s` that is not too late.
fn oldest(
    rule: &(Cron, Zone),
    (after_s, newest_s): (i64, i64),
    in_time: impl Fn(i64) -> bool,
) -> Option<i64> {
    let before = |at_s: &i64| newest(rule, after_s, at_s - 1);
    let times = std::iter::successors(Some(newest_s), before);
    times.take(MAX_MADE_UP).take_while(|at_s| in_time(*at_s)).last()
}
