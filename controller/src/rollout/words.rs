//! How far a rollout is, in values and in words.

use std::collections::BTreeSet;

use super::course::Course;
use super::crew::Crew;

/// How far a rollout is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// `updating`, `paused`, `rolling_back`, `rollback_paused`, `rolled_back` or `done`.
    pub state: &'static str,
    /// Units that have what they shall have.
    pub done: usize,
    /// Units that there are.
    pub units: usize,
    /// Units that failed.
    pub failed: usize,
    /// Units on nodes that cannot be reached: they follow when they are back.
    pub away: usize,
    /// Which wave of how many.
    pub wave: Option<(usize, usize)>,
    /// Why it is not further.
    pub reason: Option<String>,
}

/// Nodes that one sentence names.
const MAX_NAMED: usize = 3;

/// What has to happen before more can be begun.
fn waits_for(course: &Course) -> Option<String> {
    if course.held.is_some() {
        return course.held.clone();
    }
    if let Some(window) = course.place.waits_for_window() {
        return Some(window.to_owned());
    }
    let crew = course.crew.as_ref()?;
    let unstaged = crew.unstaged();
    if unstaged.is_empty() {
        return course.budget.clone();
    }
    let nodes = unstaged.iter().filter_map(|unit| crew.get(unit)?.node.clone());
    let named: BTreeSet<String> = nodes.take(MAX_NAMED).map(|node| node.to_string()).collect();
    let more = if unstaged.len() > MAX_NAMED { " and others" } else { "" };
    let named: Vec<String> = named.into_iter().collect();
    Some(format!("waits for the image on {}{more}", named.join(", ")))
}

impl Progress {
    /// Of one service; none when it is at rest.
    pub(super) fn of(course: &Course) -> Option<Self> {
        if course.is_at_rest() {
            return None;
        }
        let crew = course.crew.as_ref();
        let moving =
            !course.proven || crew.is_some_and(|crew| crew.is_moving() || crew.is_watched());
        let (state, reason) = match (&course.halt, &course.back) {
            (Some(halt), None) => ("paused", Some(&halt.reason)),
            (Some(halt), Some(_)) => ("rollback_paused", Some(&halt.reason)),
            (None, Some(why)) if moving => ("rolling_back", Some(why)),
            (None, Some(why)) => ("rolled_back", Some(why)),
            (None, None) if moving => ("updating", None),
            (None, None) => ("done", None),
        };
        let reason = match reason {
            Some(reason) => Some(reason.clone()),
            None => waits_for(course).filter(|_| moving).or_else(|| {
                let barred = crew.is_some_and(|crew| crew.barred() > 0);
                barred.then(|| course.last_failure.clone())
            }),
        };
        let waves = course.waves().len();
        let wave = (waves > 0 && moving).then(|| (course.place.wave + 1, waves + 1));
        Some(Self {
            state,
            done: crew.map_or(0, Crew::done),
            units: crew.map_or(0, Crew::len),
            failed: course.failed,
            away: crew.map_or(0, Crew::away),
            wave,
            reason,
        })
    }

    /// Whether it goes on by itself, so that one may wait for its end.
    #[must_use]
    pub fn is_going(&self) -> bool {
        matches!(self.state, "updating" | "rolling_back")
    }

    /// Whether it came to where it should.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.state == "done"
    }

    /// In words: `updating 2/5, 1 failed`.
    #[must_use]
    pub fn in_words(&self) -> String {
        let Self { state, done, units, failed, away, wave, reason } = self;
        let mut text = match *state {
            "paused" => format!("update paused at {done}/{units}"),
            "rolling_back" => format!("rolling back {done}/{units}"),
            "rollback_paused" => format!("rollback paused at {done}/{units}"),
            "rolled_back" => "rolled back".to_owned(),
            "done" => format!("updated {done}/{units}"),
            _ => format!("updating {done}/{units}"),
        };
        if let Some((wave, waves)) = wave {
            text += &format!(", wave {wave} of {waves}");
        }
        if *failed > 0 {
            text += &format!(", {failed} failed");
        }
        if *away > 0 {
            text += &format!(", {away} away");
        }
        if let Some(reason) = reason {
            text += &format!(": {reason}");
        }
        text
    }
}
