//! What of a rollout outlives the controller's process. Which slot has which spec is in the
//! assignments already.
//!
//! In: the record and the specs of the units, at the start. Out: the record, as the course goes on.

use limpet_protocol::id::SpecHash;
use serde::{Deserialize, Serialize};

use super::Unit;
use super::course::{Course, Halt};
use super::waves::Place;

/// A rollout that is not over, or did not end with the target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutRecord {
    /// Where it leads: of another target this record says nothing but `stable`.
    pub target: SpecHash,
    /// The spec that last proved itself: what a rollback goes to.
    pub stable: SpecHash,
    /// Every slot that could be reached has come to the target.
    #[serde(default)]
    pub proven: bool,
    /// Why it goes back, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub back: Option<String>,
    /// Why it does not go on, if it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<String>,
    /// Whether a person paused it.
    #[serde(default)]
    pub by_person: bool,
    /// How many slots were to be changed.
    pub total: u32,
    /// How many of them failed.
    #[serde(default)]
    pub failed: u32,
    /// Which wave it is in, from 0.
    #[serde(default)]
    pub wave: u32,
    /// Whether that has begun, so that it goes on when its window is closed.
    #[serde(default)]
    pub begun: bool,
}

impl Course {
    /// Takes over what an earlier life of the controller knew.
    pub(super) fn restore(&mut self, record: RolloutRecord) {
        (self.stable, self.restored) = (record.stable, true);
        if record.target == self.aim.spec {
            self.proven = record.proven;
            self.back = record.back.clone();
            let by_person = record.by_person;
            self.halt = record.paused.clone().map(|reason| Halt { reason, by_person });
            self.total = usize::try_from(record.total).unwrap_or(usize::MAX);
            self.failed = usize::try_from(record.failed).unwrap_or(usize::MAX);
            self.counted = self.failed;
            let wave = usize::try_from(record.wave).unwrap_or(usize::MAX);
            self.place = Place::restored(wave, record.begun && self.aim.has_window());
        }
        self.saved = Some(record);
    }

    /// A unit has this spec, says an assignment of an earlier life of the controller.
    pub(super) fn restore_unit(&mut self, unit: Unit, spec: SpecHash) {
        if spec != self.goal() && !self.aim.mode.is_job() {
            self.others.insert(unit, spec);
            self.restored = true;
            if self.saved.is_none() {
                // It ended before it could write down that there is a new target.
                (self.stable, self.proven) = (spec, false);
                self.total = self.others.len();
            }
        }
    }

    /// Whether its units have to be gathered after a restart.
    pub(super) fn is_unfinished(&self) -> bool {
        self.crew.is_none() && (self.saved.is_some() || !self.others.is_empty())
    }

    /// What the store should have of it.
    pub(super) fn record(&self) -> Option<RolloutRecord> {
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        (!self.is_at_rest()).then(|| RolloutRecord {
            target: self.aim.spec,
            stable: self.stable,
            proven: self.proven,
            back: self.back.clone(),
            paused: self.halt.as_ref().map(|halt| halt.reason.clone()),
            by_person: self.halt.as_ref().is_some_and(|halt| halt.by_person),
            total: number(self.total),
            failed: number(self.failed),
            wave: number(self.place.wave),
            begun: self.place.has_begun() && self.aim.has_window(),
        })
    }

    /// Whether what the store should have is news to it; it is not any more after this.
    pub(super) fn save(&mut self) -> bool {
        let record = self.record();
        let news = record != self.saved;
        self.saved = record;
        news
    }
}
