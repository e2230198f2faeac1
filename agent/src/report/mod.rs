//! Report: what is, told on change only.
//!
//! In: how every instance fares ([`crate::reconcile::Status`]) and the time. Out: a [`Report`] when
//! something changed, the first at once and those after it at least [`SHORTEST_INTERVAL_MS`] apart;
//! and [`events`], what happened on the way.

pub mod events;

use std::collections::BTreeMap;

use limpet_protocol::assignment::Generation;
use limpet_protocol::id::{InstanceId, SpecHash};
use limpet_protocol::limits::MAX_REASON_BYTES;
use limpet_protocol::network::NetworkReport;
use limpet_protocol::report::{InstanceStatus, NoImage, Report};
use limpet_protocol::scale::{Figure, ScaleLimit, ScaleReport};

use crate::reconcile::Status;

/// Changes that come closer together than this share a report.
pub const SHORTEST_INTERVAL_MS: u64 = 50;

/// Makes reports. Deciding code: the time comes in as a value.
#[derive(Debug)]
pub struct Reporter {
    boot: u64,
    sequence: u64,
    observed: Option<Generation>,
    instances: BTreeMap<InstanceId, InstanceStatus>,
    staged: Vec<SpecHash>,
    no_image: Vec<NoImage>,
    network: Option<NetworkReport>,
    scales: Vec<ScaleReport>,
    changed: bool,
    not_before_ms: u64,
}

impl Reporter {
    /// `sequence` must be greater than that of any earlier report of this boot.
    #[must_use]
    pub fn new(boot: u64, sequence: u64) -> Self {
        Self {
            boot,
            sequence,
            observed: None,
            instances: BTreeMap::new(),
            staged: Vec::new(),
            no_image: Vec::new(),
            network: None,
            scales: Vec::new(),
            changed: true,
            not_before_ms: 0,
        }
    }

    /// Takes over how everything fares now. `wall_ms` is the node's clock, for people.
    pub fn update(&mut self, observed: Option<Generation>, statuses: Vec<Status>, wall_ms: u64) {
        let before = std::mem::take(&mut self.instances);
        for status in statuses {
            let instance = status.instance.clone();
            let now = told(status, before.get(&instance), wall_ms);
            self.instances.insert(instance, now);
        }
        self.changed |= self.instances != before || self.observed != observed;
        self.observed = observed;
    }

    /// Takes over which specs that come next have their images here, and which images cannot be had.
    pub fn stage(&mut self, staged: Vec<SpecHash>, no_image: Vec<NoImage>) {
        let told = |it: NoImage| NoImage { reason: bounded(it.reason), ..it };
        let no_image: Vec<NoImage> = no_image.into_iter().map(told).collect();
        self.changed |= self.staged != staged || self.no_image != no_image;
        (self.staged, self.no_image) = (staged, no_image);
    }

    /// Takes over how the network fares.
    pub fn connect(&mut self, network: Option<NetworkReport>) {
        self.changed |= self.network != network;
        self.network = network;
    }

    /// Takes over what was decided about numbers of instances. Figures alone are no news, and of limits
    /// only those that the controller can do something about: what is told stays as it was at the decision.
    pub fn scale(&mut self, scales: Vec<ScaleReport>) {
        let matters = |limit: ScaleLimit| match limit {
            ScaleLimit::Most | ScaleLimit::Room | ScaleLimit::NoMetric => limit,
            _ => ScaleLimit::None,
        };
        let decision = |it: &ScaleReport| {
            let name = (it.application.clone(), it.service.clone());
            // Whether a figure can be had, and why not.
            let had = |figure: &Figure| (figure.value.is_some(), figure.missing);
            let missing: Vec<_> = it.figures.iter().map(had).collect();
            (name, it.running, it.wish, matters(it.limit), (it.idle.clone(), missing))
        };
        if !self.scales.iter().map(decision).eq(scales.iter().map(decision)) {
            self.scales = scales;
            self.changed = true;
        }
    }

    /// It must be told again: nobody may have heard it.
    pub fn repeat(&mut self) {
        self.changed = true;
        self.not_before_ms = 0;
    }

    /// When the next report is due, if one is.
    #[must_use]
    pub fn due_ms(&self) -> Option<u64> {
        self.changed.then_some(self.not_before_ms)
    }

    /// The report that is due.
    pub fn take(&mut self, now_ms: u64) -> Report {
        self.changed = false;
        self.sequence += 1;
        self.not_before_ms = now_ms.saturating_add(SHORTEST_INTERVAL_MS);
        Report {
            boot: self.boot,
            sequence: self.sequence,
            observed: self.observed,
            instances: self.instances.values().cloned().collect(),
            staged: self.staged.clone(),
            no_image: self.no_image.clone(),
            scales: self.scales.clone(),
            network: self.network.clone(),
        }
    }

    /// The report could not be said: it stays due.
    pub fn put_back(&mut self) {
        self.changed = true;
    }
}

fn told(status: Status, before: Option<&InstanceStatus>, wall_ms: u64) -> InstanceStatus {
    let same_phase = before.filter(|before| {
        before.attempt == status.attempt
            && before.phase == status.phase
            && before.spec == status.spec
    });
    InstanceStatus {
        since_ms: same_phase.map_or(wall_ms, |before| before.since_ms),
        instance: status.instance,
        attempt: status.attempt,
        spec: status.spec,
        phase: status.phase,
        reason: status.reason.map(bounded),
        last_exit: status.last_exit,
        health: status.health,
        ready: status.ready,
        failures: status.failures,
    }
}

/// Cuts a text for people to what a message may carry, at a character.
#[must_use]
pub fn bounded(mut text: String) -> String {
    if text.len() > MAX_REASON_BYTES {
        text.truncate(text.floor_char_boundary(MAX_REASON_BYTES - "…".len()));
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests;
