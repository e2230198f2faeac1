//! One service of the node: its slots, what was read of its containers, its number.

use std::collections::{BTreeMap, BTreeSet};

use limpet_protocol::id::{InstanceId, MetricName, ServiceName, Slot};
use limpet_protocol::limits::PUBLISHED_COUNTS_MS;
use limpet_protocol::scale::{
    MetricSource, MetricTarget, Missing, ScaleLimit, ScaleReport, Scaling, published,
};
use limpet_protocol::spec::Resources;

use super::figure::{Reading, Whose};
use super::instance::Meter;
use super::node::Cause;
use super::scaler::{FigureOf, Scaler, figures_of};
use super::slots::{self, Standing};
use super::{Readings, ServiceKey, Share};
use crate::runtime::ContainerId;

/// How often instances are asked for metrics: each costs the service an answer.
pub const METRIC_EVERY_MS: u64 = 2_000;
/// A metric that is older could not be had.
const STALE_MS: u64 = 3 * METRIC_EVERY_MS;
/// A whole processor, and everything, in thousandths of a hundredth.
const WHOLE: u64 = 100_000;

/// Where instances are asked for metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Whose instances on this node; none is the service's own.
    pub service: Option<ServiceName>,
    /// What they are asked.
    pub question: Question,
    /// Which metrics are had there, by their places in the policy.
    pub metrics: Vec<(usize, MetricTarget)>,
}

/// How the figures of an instance are had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// It tells them in Prometheus' text format.
    Http {
        /// At which port.
        port: u16,
        /// Path and query.
        path: String,
    },
    /// Its connections are counted.
    Connections,
    /// What went through its network is counted.
    Traffic,
}

/// What one container said to one metric.
#[derive(Debug, Clone, Copy)]
struct Heard {
    at_ms: u64,
    value: Option<u64>,
    why: Option<Missing>,
    /// Of a counter: what it was before, for how much it grew.
    counter: Option<(u64, u64)>,
}

/// What was published of a figure.
#[derive(Debug, Clone, Copy)]
struct Published {
    at_ms: u64,
    value: Result<u64, Missing>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Service {
    scaling: Scaling,
    given: Vec<Slot>,
    resources: Resources,
    /// None before it is known what runs.
    scaler: Option<Scaler>,
    chosen: BTreeSet<Slot>,
    /// Slots or the number have changed since the slots were chosen.
    stale: bool,
    meters: BTreeMap<ContainerId, Meter>,
    heard: BTreeMap<(ContainerId, usize), Heard>,
    published: BTreeMap<MetricName, Published>,
    /// Whether the node hears what is published of it.
    is_heard: bool,
    asked_ms: Option<u64>,
    needed: bool,
    /// Most instances because the node is short.
    room: Option<u32>,
}

impl Service {
    pub(super) fn new(share: &Share<'_>) -> Self {
        Self {
            scaling: share.scaling.clone(),
            given: share.slots.to_vec(),
            resources: share.resources.clone(),
            scaler: None,
            chosen: BTreeSet::new(),
            stale: true,
            meters: BTreeMap::new(),
            heard: BTreeMap::new(),
            published: BTreeMap::new(),
            is_heard: true,
            asked_ms: None,
            needed: false,
            room: None,
        }
    }

    /// The same service in another assignment.
    pub(super) fn goes_on(mut self, share: &Share<'_>) -> Self {
        if self.scaling.policy != share.scaling.policy {
            self.heard.clear();
            if let Some(scaler) = &mut self.scaler {
                scaler.policy_changed();
            }
        }
        self.scaling = share.scaling.clone();
        let topics: BTreeSet<MetricName> = self.topics().collect();
        self.published.retain(|name, _| topics.contains(name));
        self.given = share.slots.to_vec();
        self.resources = share.resources.clone();
        self.stale = true;
        self
    }

    /// A further part of the same service: slots with another spec.
    pub(super) fn more(&mut self, share: &Share<'_>) {
        self.given.extend_from_slice(share.slots);
        self.stale = true;
    }

    pub(super) const fn scaling(&self) -> &Scaling {
        &self.scaling
    }

    pub(super) const fn chosen(&self) -> &BTreeSet<Slot> {
        &self.chosen
    }

    pub(super) fn number(&self) -> u32 {
        self.scaler.as_ref().map_or(0, |scaler| scaler.newest().number)
    }

    /// At most so many because the node is short; none is no such limit.
    pub(super) fn set_room(&mut self, room: Option<u32>) {
        self.room = room;
        if let Some(scaler) = &mut self.scaler {
            scaler.set_room(room);
        }
    }

    /// The node has no room for more than what runs.
    pub(super) fn add_nothing(&mut self) {
        let number = self.number();
        self.set_room(Some(self.room.unwrap_or(number).min(number)));
    }

    /// Why the newest decision took something away, if that was for want of room.
    pub(super) fn gave_way(&self, cause: Option<Cause>) -> Option<Cause> {
        let decision = self.scaler.as_ref()?.newest();
        if decision.limit == ScaleLimit::Room { cause } else { None }
    }

    /// Whether somebody waits for an instance.
    pub(super) const fn is_needed(&self) -> bool {
        self.needed
    }

    pub(super) fn needed(&mut self) {
        self.needed = true;
    }

    pub(super) fn choose(&mut self, now_ms: u64, standing: impl Fn(Slot) -> Standing) -> bool {
        if !std::mem::take(&mut self.stale) {
            return false;
        }
        let candidates = slots::candidates(&self.given, &self.scaling);
        let running = candidates.iter().filter(|slot| standing(**slot) > Standing::Absent).count();
        let running = u32::try_from(running).unwrap_or(u32::MAX);
        let scaling = &self.scaling;
        let scaler = self.scaler.get_or_insert_with(|| Scaler::new(running, scaling, now_ms));
        // The bounds hold at once; what the load asks for is decided when it is read.
        let least = scaling.least.min(scaling.most);
        let number = scaler.newest().number.clamp(least, scaling.most);
        let chosen = slots::choose(&candidates, number, &self.chosen, standing);
        let changed = chosen != self.chosen;
        self.chosen = chosen;
        changed
    }

    pub(super) fn look(&mut self, readings: &Readings, key: &ServiceKey, now_ms: u64) {
        self.measure(readings, key, now_ms);
        let figures: Vec<Reading> =
            figures_of(&self.scaling.policy).map(|(of, _)| self.reading(of, now_ms)).collect();
        let needed = std::mem::take(&mut self.needed);
        let Some(scaler) = &mut self.scaler else { return };
        let before = scaler.newest().number;
        let after = scaler.decide(&figures, &self.scaling, needed, now_ms).number;
        self.stale |= before != after;
    }

    /// Takes over what was read of the containers in chosen slots; others are forgotten.
    fn measure(&mut self, readings: &Readings, (application, name): &ServiceKey, now_ms: u64) {
        let mut before = std::mem::take(&mut self.meters);
        let first =
            InstanceId { application: application.clone(), service: name.clone(), slot: Slot(0) };
        // Containers of one service stand beside each other.
        let own = readings.containers.range(ContainerId { instance: first, attempt: 0 }..);
        let own = own.take_while(|(ContainerId { instance, .. }, _)| {
            instance.service == *name && instance.application == *application
        });
        for (id, sample) in own.filter(|(id, _)| self.chosen.contains(&id.instance.slot)) {
            let mut meter = before.remove(id).unwrap_or_default();
            meter.read(*sample, now_ms);
            self.meters.insert(id.clone(), meter);
        }
        self.heard.retain(|_, heard| heard.at_ms.saturating_add(STALE_MS) > now_ms);
    }

    fn reading(&self, of: FigureOf, now_ms: u64) -> Reading {
        let counting: Vec<_> =
            self.meters.iter().filter(|(_, meter)| meter.counts(now_ms)).collect();
        let ready = u32::try_from(counting.len()).unwrap_or(u32::MAX);
        let mut reading = Reading { ready, ..Reading::default() };
        match of {
            FigureOf::Cpu => {
                let of = self.resources.cpu_reservation_millis;
                let of = of.or(self.resources.cpu_limit_millis).map(u64::from);
                for (_, meter) in counting {
                    reading.add(share(meter.cpu_millis(), of));
                }
            }
            FigureOf::Memory => {
                let of = self.resources.memory_reservation_bytes;
                let of = of.or(self.resources.memory_limit_bytes);
                for (_, meter) in counting {
                    reading.add(share(meter.memory_bytes(), of));
                }
            }
            FigureOf::Metric(place) if self.is_from(place, |it| *it == MetricSource::Topic) => {
                reading.whose = Whose::Service;
                let value = self.value_published(place, now_ms);
                reading.why = value.err();
                reading.add(value.ok());
            }
            FigureOf::Metric(place) if self.is_from(place, MetricSource::is_elsewhere) => {
                reading.whose = Whose::Node;
                let mut any = false;
                for (_, heard) in self.heard.iter().filter(|((_, of), _)| *of == place) {
                    reading.add(heard.value);
                    reading.why = reading.why.or(heard.why);
                    any = true;
                }
                if !any {
                    reading.add(None);
                }
            }
            FigureOf::Metric(place) => {
                for (id, _) in counting {
                    let heard = self.heard.get(&(id.clone(), place));
                    reading.add(heard.and_then(|heard| heard.value));
                    reading.why = reading.why.or(heard.and_then(|heard| heard.why));
                }
            }
        }
        reading
    }

    fn is_from(&self, place: usize, is_it: impl FnOnce(&MetricSource) -> bool) -> bool {
        self.scaling.policy.metrics.get(place).is_some_and(|metric| is_it(&metric.source))
    }

    fn value_published(&self, place: usize, now_ms: u64) -> Result<u64, Missing> {
        if !self.is_heard {
            return Err(Missing::TooMany);
        }
        let metric = self.scaling.policy.metrics.get(place);
        let name = metric.and_then(|metric| metric.name.parse().ok());
        let newest = name.and_then(|name: MetricName| self.published.get(&name));
        let newest = newest.ok_or(Missing::Unheard)?;
        let is_old = now_ms >= newest.at_ms.saturating_add(PUBLISHED_COUNTS_MS);
        if is_old { Err(Missing::Old) } else { newest.value }
    }

    /// The topics with figures of the service, by their last part.
    pub(super) fn topics(&self) -> impl Iterator<Item = MetricName> + '_ {
        let metrics = self.scaling.policy.metrics.iter();
        let published = metrics.filter(|metric| metric.source == MetricSource::Topic);
        published.filter_map(|metric| metric.name.parse().ok())
    }

    /// Whether the node listens to the topics of the service.
    pub(super) fn set_heard(&mut self, is_heard: bool) {
        self.is_heard = is_heard;
    }

    /// Something was published on a topic. Anybody may have written it.
    pub(super) fn published(&mut self, name: &MetricName, payload: &[u8], now_ms: u64) {
        if self.topics().any(|topic| topic == *name) {
            let newest = Published { at_ms: now_ms, value: published(payload) };
            self.published.insert(name.clone(), newest);
        }
    }

    pub(super) fn endpoints_due(&mut self, now_ms: u64) -> Vec<Endpoint> {
        let due = self.asked_ms.is_none_or(|at_ms| now_ms >= at_ms.saturating_add(METRIC_EVERY_MS));
        if !due || self.scaling.policy.metrics.is_empty() {
            return Vec::new();
        }
        self.asked_ms = Some(now_ms);
        let mut found: Vec<Endpoint> = Vec::new();
        for (place, metric) in self.scaling.policy.metrics.iter().enumerate() {
            let (service, question) = match &metric.source {
                MetricSource::Http { service, port, path } => {
                    (service.clone(), Question::Http { port: *port, path: path.clone() })
                }
                MetricSource::Connections => (None, Question::Connections),
                MetricSource::Network => (None, Question::Traffic),
                MetricSource::Topic => continue,
            };
            let one = (place, metric.clone());
            match found.iter_mut().find(|it| it.question == question && it.service == service) {
                Some(known) => known.metrics.push(one),
                None => found.push(Endpoint { service, question, metrics: vec![one] }),
            }
        }
        found
    }

    pub(super) fn heard(
        &mut self,
        from: &ContainerId,
        values: &[(usize, Result<u64, Missing>)],
        now_ms: u64,
    ) {
        for (place, value) in values {
            let (value, why) = (value.ok(), value.err());
            let key = (from.clone(), *place);
            let before = self.heard.get(&key).and_then(|heard| heard.counter);
            let metric = self.scaling.policy.metrics.get(*place);
            let heard = if metric.is_some_and(|metric| metric.per_second) {
                let counter = value.map(|value| (now_ms, value));
                let value = before.zip(counter).and_then(|(before, now)| growth(before, now));
                Heard { at_ms: now_ms, value, why, counter: counter.or(before) }
            } else {
                Heard { at_ms: now_ms, value, why, counter: None }
            };
            self.heard.insert(key, heard);
        }
    }

    /// What was decided, with the figures of the newest look.
    pub(super) fn report(&self, (application, service): &ServiceKey) -> Option<ScaleReport> {
        let scaler = self.scaler.as_ref()?;
        let decision = scaler.newest();
        let idle = self.given.iter().filter(|slot| !self.chosen.contains(slot)).copied().collect();
        Some(ScaleReport {
            application: application.clone(),
            service: service.clone(),
            running: decision.number,
            wish: decision.wish,
            limit: decision.limit,
            idle,
            figures: scaler.figures(&self.scaling),
        })
    }
}

/// A part of a whole, in thousandths of a hundredth.
fn share(part: Option<u64>, of: Option<u64>) -> Option<u64> {
    let share = u128::from(part?) * u128::from(WHOLE) / u128::from(of?.max(1));
    Some(u64::try_from(share).unwrap_or(u64::MAX))
}

/// By how much a counter grew in a second. One that went back began anew.
fn growth((from_ms, from): (u64, u64), (to_ms, to): (u64, u64)) -> Option<u64> {
    let time_ms = to_ms.checked_sub(from_ms).filter(|time_ms| *time_ms > 0)?;
    let grown = if to >= from { to - from } else { to };
    Some(u64::try_from(u128::from(grown) * 1_000 / u128::from(time_ms)).unwrap_or(u64::MAX))
}
