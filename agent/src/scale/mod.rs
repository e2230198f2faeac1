//! Scale: the load of a node's instances → how many of each service run, and in which slots.
//!
//! Deciding code: no clock, no I/O, no chance. In: what the assignment says ([`Share`]), what was read of
//! containers ([`Sample`]), metrics and the node ([`NodeSample`]), and the time as milliseconds of a clock
//! that never goes back, so that a clock on the wall that is wrong does no harm. Out: the slots that run,
//! and [`ScaleReport`]s that say why. Nothing here needs a controller.
//!
//! - [`figure`]: one figure → how many instances it asks for (ratio, tolerance, readiness, what is missing).
//! - [`scaler`]: the figures of a service, its windows and rates → a number, and what limits it.
//! - [`slots`]: a number → slots; what does its work stays.
//! - [`node`]: a node that is short adds nothing, and services give way in the order of their priority.
//! - [`prometheus`]: metrics in text → numbers.
//!
//! Windows have a fixed size ([`heapless`]). Nothing is kept over a restart: after one of the agent the number
//! goes on from what runs, after a reboot it begins with the least and follows the load at once.

pub mod figure;
mod history;
mod instance;
pub mod node;
mod pace;
pub mod prometheus;
pub mod scaler;
mod service;
pub mod slots;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use limpet_protocol::id::{ApplicationName, InstanceId, MetricName, ServiceName, Slot};
use limpet_protocol::limits::{MAX_INSTANCES_PER_NODE, MAX_METRIC_TOPICS_PER_NODE};
use limpet_protocol::scale::{Missing, Per, ScaleReport, Scaling};
use limpet_protocol::spec::Resources;

use crate::runtime::ContainerId;

pub use instance::Sample;
pub use service::{Endpoint, METRIC_EVERY_MS, Question};

use node::{Cause, Giver, Guard, NodeSample, Room};
use service::Service;
use slots::Standing;

/// How often containers are read: a step of the load is seen by two readings of a second each, and answered
/// within two.
pub const SAMPLE_EVERY_MS: u64 = 500;

/// Which service of which application.
pub type ServiceKey = (ApplicationName, ServiceName);

/// What the assignment says of one service, or of a part of it.
#[derive(Debug, Clone)]
pub struct Share<'a> {
    /// Which service.
    pub key: ServiceKey,
    /// Slots that were given to this node.
    pub slots: &'a [Slot],
    /// The bounds and the rules.
    pub scaling: &'a Scaling,
    /// What the targets are shares of.
    pub resources: &'a Resources,
}

/// Another number was decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Of which service.
    pub key: ServiceKey,
    /// How many there were.
    pub before: u32,
    /// How many there are.
    pub after: u32,
    /// Because the node is short.
    pub gave_way: Option<Cause>,
    /// Because somebody waits for an instance.
    pub woke: bool,
}

/// What was read of everything at one time.
#[derive(Debug, Clone, Default)]
pub struct Readings {
    /// Of containers that run.
    pub containers: BTreeMap<ContainerId, Sample>,
    /// Of the node.
    pub node: NodeSample,
    /// How many instances the node runs or is to run, of whatever service.
    pub instances: usize,
}

/// All services of a node that follow their load.
#[derive(Debug, Default)]
pub struct Scales {
    services: BTreeMap<ServiceKey, Service>,
    guard: Guard,
    room: Room,
    /// When containers are read next.
    due_ms: Option<u64>,
}

impl Scales {
    /// Takes over what the assignment says now.
    pub fn follow<'a>(&mut self, shares: impl Iterator<Item = Share<'a>>) {
        let mut before = std::mem::take(&mut self.services);
        for share in shares {
            if let Some(known) = self.services.get_mut(&share.key) {
                known.more(&share);
                continue;
            }
            let service = match before.remove(&share.key) {
                Some(known) => known.goes_on(&share),
                None => Service::new(&share),
            };
            self.services.insert(share.key, service);
        }
        if self.services.is_empty() {
            *self = Self::default();
        }
    }

    /// Whether nothing follows its load.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.services.is_empty()
    }

    /// Whether a slot that was given to this node, or one beside it, runs. Of services that do not follow
    /// their load every slot does.
    #[must_use]
    pub fn runs(&self, instance: &InstanceId) -> bool {
        let key = (instance.application.clone(), instance.service.clone());
        self.services.get(&key).is_none_or(|service| service.chosen().contains(&instance.slot))
    }

    /// The slots that run beside one that was given to this node.
    #[must_use]
    pub fn beside(&self, key: &ServiceKey, home: Slot) -> Vec<Slot> {
        let Some(service) = self.services.get(key) else { return Vec::new() };
        if service.scaling().policy.per != Per::Node {
            return Vec::new();
        }
        let beside = |slot: &&Slot| slot.home().0 == home && **slot != home;
        service.chosen().iter().filter(beside).copied().collect()
    }

    /// Chooses the slots that run, as far as numbers or slots have changed. Whether any did. Services that
    /// have no number yet begin with what runs.
    pub fn choose(&mut self, standing: impl Fn(&InstanceId) -> Standing, now_ms: u64) -> bool {
        let mut any = false;
        for ((application, name), service) in &mut self.services {
            any |= service.choose(now_ms, |slot| {
                let (application, service) = (application.clone(), name.clone());
                standing(&InstanceId { application, service, slot })
            });
        }
        any
    }

    /// When containers are to be read next; none if nothing follows its load.
    #[must_use]
    pub fn due_ms(&self) -> Option<u64> {
        self.due_ms.or_else(|| (!self.services.is_empty()).then_some(0))
    }

    /// Which of a container's counters matter: processor, memory. None if nobody asks for it.
    #[must_use]
    pub fn measured(&self, instance: &InstanceId) -> Option<(bool, bool)> {
        let key = (instance.application.clone(), instance.service.clone());
        let policy = &self.services.get(&key)?.scaling().policy;
        Some((policy.cpu_percent.is_some(), policy.memory_percent.is_some()))
    }

    /// Decides anew after everything was read.
    pub fn look(&mut self, readings: &Readings, now_ms: u64) -> Vec<Change> {
        self.due_ms = Some(now_ms.saturating_add(SAMPLE_EVERY_MS));
        let verdict = self.guard.look(&readings.node, now_ms);
        let is_full = readings.instances >= MAX_INSTANCES_PER_NODE;
        self.room = if is_full { verdict.room.max(Room::Tight) } else { verdict.room };
        let room = self.room;
        let mut changes = Vec::new();
        for (key, service) in &mut self.services {
            let before = service.number();
            if room > Room::Ample {
                service.add_nothing();
            } else if verdict.returns {
                service.set_room(None);
            }
            let is_needed = service.is_needed();
            service.look(readings, key, now_ms);
            let after = service.number();
            if before != after {
                let woke = is_needed && before == 0;
                let gave_way =
                    if after < before { service.gave_way(self.guard.cause()) } else { None };
                changes.push(Change { key: key.clone(), before, after, gave_way, woke });
            }
        }
        if verdict.gives {
            self.give_way();
        }
        changes
    }

    /// The next look takes one instance from the service whose turn it is.
    fn give_way(&mut self) {
        let givers = self.services.values().map(|service| {
            let scaling = service.scaling();
            Giver {
                priority: scaling.priority,
                number: service.number(),
                least: scaling.least.min(scaling.most),
            }
        });
        if let Some(place) = node::gives_way(givers)
            && let Some(service) = self.services.values_mut().nth(place)
        {
            let number = service.number();
            service.set_room(Some(number.saturating_sub(1)));
        }
    }

    /// What is to be asked for metrics now: whose instances, and where.
    #[must_use]
    pub fn endpoints_due(&mut self, now_ms: u64) -> Vec<(ServiceKey, Endpoint)> {
        let mut due = Vec::new();
        for (key, service) in &mut self.services {
            let endpoints = service.endpoints_due(now_ms);
            due.extend(endpoints.into_iter().map(|endpoint| (key.clone(), endpoint)));
        }
        due
    }

    /// A container was asked for metrics: what it said to each of the endpoint's, in thousandths, or why nothing.
    pub fn heard(
        &mut self,
        key: &ServiceKey,
        from: &ContainerId,
        values: &[(usize, Result<u64, Missing>)],
        now_ms: u64,
    ) {
        if let Some(service) = self.services.get_mut(key) {
            service.heard(from, values, now_ms);
        }
    }

    /// The topics on which figures are published. Services that come after the most that a node listens to
    /// do without, and say so.
    #[must_use]
    pub fn topics(&mut self) -> Vec<(ServiceKey, MetricName)> {
        let mut topics = Vec::new();
        for (key, service) in &mut self.services {
            let own: Vec<_> = service.topics().map(|name| (key.clone(), name)).collect();
            let fits = topics.len() + own.len() <= MAX_METRIC_TOPICS_PER_NODE;
            service.set_heard(fits);
            if fits {
                topics.extend(own);
            }
        }
        topics
    }

    /// Something was published on the topic of a figure.
    pub fn published(&mut self, key: &ServiceKey, name: &MetricName, payload: &[u8], now_ms: u64) {
        if let Some(service) = self.services.get_mut(key) {
            service.published(name, payload, now_ms);
        }
    }

    /// Somebody waits for an instance of a service that has none: it gets one, and keeps it for as long as
    /// its downward window.
    pub fn needed(&mut self, key: &ServiceKey, now_ms: u64) {
        if let Some(service) = self.services.get_mut(key) {
            service.needed();
            self.due_ms = Some(now_ms);
        }
    }

    /// What was decided, with the figures of the newest look.
    #[must_use]
    pub fn reports(&self) -> Vec<ScaleReport> {
        let report = |(key, service): (&ServiceKey, &Service)| service.report(key);
        self.services.iter().filter_map(report).collect()
    }

    /// Whether there is room on the node, as of the newest look, and what is at its end.
    #[must_use]
    pub fn room(&self) -> (Room, Option<Cause>) {
        (self.room, self.guard.cause())
    }
}
