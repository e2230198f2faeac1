//! Schedule: when runs of a job begin (`x-schedule`), decided on the node alone.
//!
//! Deciding code: no clock, no I/O. In: what is wanted, what goes on, and the time by the clock on the
//! wall, which is the only one that schedules know and which may be wrong. Out: a [`Gate`] for each
//! instance with a schedule, when to look again, and the [`Record`] that the disk has to keep.
//!
//! - A run is kept on disk before it begins, so that it is never begun twice: a power cut in between
//!   leaves it out. One write a run, and one when a schedule is first seen.
//! - Times that passed while the node slept or was off are missed: [`MissedRuns`] says what becomes of
//!   them. What is at most [`ON_TIME_S`] late is not missed.
//! - A clock that shows a time before the floor, or well before the last run, is wrong: nothing runs.
//! - A clock that goes back a little waits until it has come to where it was.

mod verdict;

use std::collections::BTreeMap;

use limpet_protocol::cron::Cron;
use limpet_protocol::id::InstanceId;
use limpet_protocol::spec::Schedule;
use limpet_protocol::zone::{Civil, Zone};
use serde::{Deserialize, Serialize};

use crate::reconcile::Wanted;
use verdict::{Verdict, verdict};

pub use verdict::ON_TIME_S;

/// No clock that is right shows an earlier time: 2025-01-01.
const EARLIEST_S: i64 = 1_735_689_600;

/// Whether a run may begin in a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gate {
    /// Not now, and why.
    Closed {
        /// For people: `next run at 2026-11-29 03:00 +01:00`.
        why: String,
    },
    /// Now. What still runs there is stopped for it.
    Open,
}

/// What the disk keeps of all runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    #[serde(default)]
    runs: BTreeMap<String, Last>,
}

/// The last run of an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Last {
    /// Of which schedule: another one begins anew.
    schedule: String,
    /// The time that it stands for, or when the schedule was first seen; seconds since 1970.
    last_s: i64,
}

/// What [`Runs::look`] found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// For each instance with a schedule.
    pub gates: BTreeMap<InstanceId, Gate>,
    /// When to look again, by the clock on the wall, in seconds since 1970; none without schedules.
    pub again_s: Option<i64>,
    /// What is to be written, and its number, which [`Runs::kept`] wants back.
    pub record: Option<(u64, Record)>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Runs {
    record: Record,
    entries: BTreeMap<InstanceId, Entry>,
    /// Grows with every change of the record; the number that is on its way to the disk.
    number: u64,
    writing: bool,
    written: u64,
}

#[derive(Debug)]
struct Entry {
    schedule: Schedule,
    /// Read once; or why it cannot be.
    rule: Result<(Cron, Zone), String>,
    /// As in the record, or later: runs that are left out are not written.
    last_s: Option<i64>,
    state: State,
    /// What was found at the last look, and for which times it holds.
    found: Option<(Gate, i64, i64)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// No run is about to begin.
    Idle,
    /// One is, when the record with this number is on disk.
    Kept { number: u64 },
}

impl Runs {
    /// With what the disk kept.
    #[must_use]
    pub fn new(record: Record) -> Self {
        Self { record, ..Self::default() }
    }

    /// Looks at every schedule. `goes_on` says whether something of an instance runs; `floor_s` is a
    /// time that has certainly passed.
    pub fn look(
        &mut self,
        wanted: &Wanted,
        goes_on: impl Fn(&InstanceId) -> bool,
        (now_s, floor_s): (i64, i64),
    ) -> Look {
        let mut look = Look::default();
        self.entries.retain(|instance, entry| {
            let wants = wanted.get(instance).and_then(|want| want.spec.schedule.as_ref());
            wants == Some(&entry.schedule)
        });
        let mut again_s = i64::MAX;
        let floor_s = floor_s.max(EARLIEST_S);
        for (instance, want) in wanted {
            let Some(schedule) = &want.spec.schedule else { continue };
            let (gate, until_s) = self.one(instance, schedule, goes_on(instance), (now_s, floor_s));
            look.gates.insert(instance.clone(), gate);
            again_s = again_s.min(until_s);
        }
        look.again_s = (!look.gates.is_empty()).then_some(again_s);
        if self.number > self.written && !self.writing {
            let names: Vec<String> = wanted.keys().map(ToString::to_string).collect();
            self.record.runs.retain(|name, _| names.contains(name));
            self.writing = true;
            look.record = Some((self.number, self.record.clone()));
        }
        look
    }

    /// The record with this number is on disk, or cannot be: then a run begins all the same, and only
    /// a reboot could repeat it.
    pub fn kept(&mut self, number: u64) {
        (self.writing, self.written) = (false, number);
    }

    /// The run for which the gate was open has begun.
    pub fn begun(&mut self, instance: &InstanceId) {
        let written = self.written;
        if let Some(entry) = self.entries.get_mut(instance)
            && entry.state.is_open(written)
        {
            (entry.state, entry.found) = (State::Idle, None);
        }
    }

    fn one(
        &mut self,
        instance: &InstanceId,
        schedule: &Schedule,
        goes_on: bool,
        (now_s, floor_s): (i64, i64),
    ) -> (Gate, i64) {
        let name = instance.to_string();
        let text = format!("{}|{}", schedule.cron, schedule.zone);
        let known = self.record.runs.get(&name).filter(|last| last.schedule == text);
        let known_s = known.map(|last| last.last_s);
        let entry = self.entries.entry(instance.clone()).or_insert_with(|| Entry {
            schedule: schedule.clone(),
            rule: read(schedule),
            last_s: known_s,
            state: State::Idle,
            found: None,
        });
        if let State::Kept { number } = entry.state {
            let open = entry.state.is_open(self.written);
            let why = format!("a run begins when record {number} of runs is on disk");
            return (if open { Gate::Open } else { Gate::Closed { why } }, i64::MAX);
        }
        if let Some((gate, from_s, until_s)) = &entry.found
            && !goes_on
            && (*from_s..*until_s).contains(&now_s)
        {
            return (gate.clone(), *until_s);
        }
        let rule = match &entry.rule {
            Ok(rule) => rule,
            Err(why) => return (Gate::Closed { why: why.clone() }, i64::MAX),
        };
        let verdict = verdict(&entry.schedule, rule, (entry.last_s, goes_on), (now_s, floor_s));
        let zone = rule.1;
        match verdict {
            Verdict::ClockWrong { before_s } => {
                entry.found = None;
                (Gate::Closed { why: clock_is_wrong(now_s, before_s) }, i64::MAX)
            }
            Verdict::Waits { last_s, next_s } => {
                let first = entry.last_s.is_none();
                entry.last_s = Some(last_s);
                let gate = Gate::Closed { why: next_run(&zone, next_s) };
                let until_s = next_s.unwrap_or(i64::MAX);
                // While a run goes on, what is missed by it may be due as soon as it ends.
                entry.found = (!goes_on).then(|| (gate.clone(), now_s, until_s));
                if first {
                    self.keep(name, text, last_s);
                }
                (gate, until_s)
            }
            Verdict::Due { at_s } => {
                entry.last_s = Some(at_s);
                entry.state = State::Kept { number: self.number + 1 };
                entry.found = None;
                self.keep(name, text, at_s);
                (Gate::Closed { why: "a run begins".to_owned() }, i64::MAX)
            }
        }
    }

    fn keep(&mut self, name: String, schedule: String, last_s: i64) {
        self.record.runs.insert(name, Last { schedule, last_s });
        self.number += 1;
    }
}

impl State {
    fn is_open(self, written: u64) -> bool {
        matches!(self, Self::Kept { number } if number <= written)
    }
}

fn read(schedule: &Schedule) -> Result<(Cron, Zone), String> {
    let cron = Cron::parse(&schedule.cron);
    let cron = cron.map_err(|error| format!("its schedule cannot be read: {error}"))?;
    let zone = Zone::parse(&schedule.zone);
    Ok((cron, zone.map_err(|error| format!("its time zone cannot be read: {error}"))?))
}

fn next_run(zone: &Zone, next_s: Option<i64>) -> String {
    let Some(next_s) = next_s else { return "it has no next run".to_owned() };
    format!("next run at {}", zone.shown(next_s))
}

fn clock_is_wrong(now_s: i64, before_s: i64) -> String {
    let (now, before) = (Civil::of(now_s), Civil::of(before_s));
    format!("waits for a valid clock: it shows {now} UTC, and {before} UTC has passed already")
}

#[cfg(test)]
mod tests;
