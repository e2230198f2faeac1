//! How far services have come: what has completed or failed for good, and which conditions of
//! `depends_on` have held.
//!
//! In: what nodes report of instances that are placed there, and what is kept of earlier. Out:
//! [`ServiceProgress`], which only grows until the service gets another spec. What is over stays
//! over when its node is lost, reboots, or the controller starts again, and a condition that held
//! once holds on: a dependency that stumbles later must not cost every node of its dependants a new
//! assignment. While a service is updated each slot has a spec of its own: what is over with that
//! stays over until its turn comes.
//!
//! | rule | source |
//! |---|---|
//! | exit code 0 completes a job's slot; another one counts against `max_attempts` | SwarmKit, `design/orchestrators.md` ("job orchestrators") |
//! | `restart: no` is not started again, however it ended; `on-failure` not after exit code 0 | Compose Specification, "restart" |
//! | `service_started`, `service_healthy`, `service_completed_successfully` | Compose Specification, "depends_on" |
//! | a dependency of which nothing shall run is not waited for | Docker Compose, `shouldWaitForDependency` |

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use limpet_protocol::application::Service;
use limpet_protocol::id::{ApplicationName, NodeId, ServiceName, Slot, SpecHash};
use limpet_protocol::phase::Phase;
use limpet_protocol::report::{Health, InstanceStatus};
use limpet_protocol::spec::{DependencyCondition, RestartCondition};

use super::ServiceKey;
use super::filter::cut;
use crate::store::records::{Held, ProgressRecord, ServiceProgress};

/// Failures that are kept of one service; more of them are no news.
const MAX_FAILURES: usize = 256;

/// Which ends of an instance are for good.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Ending {
    /// None: it is started again.
    #[default]
    Never,
    /// Exit code 0.
    Success,
    /// Any, once the node does not try again.
    Any,
}

impl Ending {
    /// The rule of a service.
    #[must_use]
    pub const fn of(service: &Service) -> Self {
        if service.spec.schedule.is_some() {
            // It runs again when its time comes.
            return Self::Never;
        }
        match service.spec.restart.condition {
            _ if service.mode.is_job() => Self::Any,
            RestartCondition::None => Self::Any,
            RestartCondition::OnFailure => Self::Success,
            RestartCondition::Any => Self::Never,
        }
    }
}

/// An instance as far as its progress goes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run<'a> {
    /// Where it is placed.
    pub(super) node: &'a NodeId,
    /// Whether the service has one instance on each node, so that the node names it.
    pub(super) by_node: bool,
    /// Which ends are for good.
    pub(super) ending: Ending,
    /// The spec that the slot has.
    pub(super) has: SpecHash,
    /// The spec that is wanted.
    pub(super) spec: SpecHash,
}

/// The progress of all services, and of which applications it has to be kept anew.
#[derive(Debug, Default, Clone)]
pub struct Progress {
    /// Shared with the copies of the planner.
    applications: BTreeMap<ApplicationName, Arc<ProgressRecord>>,
    changed: BTreeSet<ApplicationName>,
}

impl Progress {
    /// What was kept of an application.
    pub fn restore(&mut self, application: &ApplicationName, record: ProgressRecord) {
        self.applications.entry(application.clone()).or_insert_with(|| Arc::new(record));
    }

    /// What is known of an application, to change it.
    fn known(&mut self, application: &ApplicationName) -> Option<&mut ProgressRecord> {
        self.applications.get_mut(application).map(Arc::make_mut)
    }

    /// The same, made if there is none.
    fn application(&mut self, application: &ApplicationName) -> &mut ProgressRecord {
        Arc::make_mut(self.applications.entry(application.clone()).or_default())
    }

    /// The node where a slot's volumes are.
    #[must_use]
    pub fn home(&self, key: &ServiceKey, slot: Slot) -> Option<&NodeId> {
        self.applications.get(&key.application)?.homes.get(&key.service)?.get(&slot)
    }

    /// The nodes where volumes of a service are.
    pub(super) fn homes(&self, key: &ServiceKey) -> impl Iterator<Item = &NodeId> + use<'_> {
        let record = self.applications.get(&key.application);
        let homes = record.and_then(|record| record.homes.get(&key.service));
        homes.into_iter().flat_map(BTreeMap::values)
    }

    /// A slot has its home on a node.
    pub(super) fn set_home(&mut self, key: &ServiceKey, (id, slot): (&NodeId, Slot)) {
        let record = self.application(&key.application);
        record.homes.entry(key.service.clone()).or_default().insert(slot, id.clone());
        self.changed.insert(key.application.clone());
    }

    /// A service has no homes any more.
    pub(super) fn clear_homes(&mut self, key: &ServiceKey) {
        let Some(record) = self.known(&key.application) else { return };
        if record.homes.remove(&key.service).is_some() {
            self.tidy(&key.application);
        }
    }

    /// A node is gone, and what was on it.
    pub(super) fn remove_homes(&mut self, id: &NodeId) {
        let mut changed = vec![];
        for (application, record) in &mut self.applications {
            if !record.homes.values().any(|homes| homes.values().any(|home| home == id)) {
                continue;
            }
            let record = Arc::make_mut(record);
            for homes in record.homes.values_mut() {
                homes.retain(|_, home| home != id);
            }
            record.homes.retain(|_, homes| !homes.is_empty());
            changed.push(application.clone());
        }
        changed.iter().for_each(|application| self.tidy(application));
    }

    /// An application's record changed; one that says nothing goes.
    fn tidy(&mut self, application: &ApplicationName) {
        if self.applications.get(application).is_some_and(|record| record.is_empty()) {
            self.applications.remove(application);
        }
        self.changed.insert(application.clone());
    }

    /// A service is wanted with this spec, with one instance on each node or not, or not at all:
    /// what is known of another is forgotten, but that what `waits` for its turn is over.
    pub(super) fn begin(
        &mut self,
        key: &ServiceKey,
        wanted: Option<(SpecHash, bool)>,
        waits: &BTreeSet<(NodeId, Slot)>,
    ) {
        let Some(record) = self.known(&key.application) else { return };
        let Some(known) = record.services.get(&key.service) else { return };
        let by_node = !known.done_on.is_empty() || !known.failed_on.is_empty();
        let by_slot = !known.done.is_empty() || !known.failed.is_empty();
        let same = wanted.is_some_and(|(spec, nodes)| {
            spec == known.spec && (nodes || !by_node) && (!nodes || !by_slot)
        });
        if same {
            return;
        }
        let old = record.services.remove(&key.service);
        if let (Some(mut old), Some((spec, _)), false) = (old, wanted, waits.is_empty()) {
            old.done.retain(|slot| waits.iter().any(|(_, waiting)| waiting == slot));
            old.failed.retain(|slot, _| waits.iter().any(|(_, waiting)| waiting == slot));
            old.done_on.retain(|id| waits.contains(&(id.clone(), Slot(1))));
            old.failed_on.retain(|id, _| waits.contains(&(id.clone(), Slot(1))));
            (old.spec, old.held) = (spec, Held::default());
            record.services.insert(key.service.clone(), old);
        }
        self.tidy(&key.application);
    }

    /// An instance is to run another spec: it is not over any more. Whether it was.
    pub(super) fn forget(&mut self, key: &ServiceKey, node: &NodeId, slot: Slot) -> bool {
        if !self.is_over(key, node, slot) {
            return false;
        }
        let record = self.known(&key.application);
        let Some(known) = record.and_then(|record| record.services.get_mut(&key.service)) else {
            return false;
        };
        known.done.remove(&slot);
        known.failed.remove(&slot);
        known.done_on.remove(node);
        known.failed_on.remove(node);
        self.changed.insert(key.application.clone());
        true
    }

    /// A node reports of an instance that is placed there; whether something is over now.
    pub(super) fn note(&mut self, key: &ServiceKey, run: Run<'_>, status: &InstanceStatus) -> bool {
        let slot = status.instance.slot;
        if status.spec != run.has || self.is_over(key, run.node, slot) {
            return false;
        }
        let done = match (status.phase, run.ending) {
            (Phase::Completed, Ending::Success | Ending::Any) => true,
            (Phase::Failed, Ending::Any) => false,
            _ => return false,
        };
        let progress = self.of(key, run.spec);
        match (done, run.by_node) {
            (true, false) => progress.done.insert(slot),
            (true, true) => progress.done_on.insert(run.node.clone()),
            (false, _) if progress.failed.len() + progress.failed_on.len() >= MAX_FAILURES => {
                return false;
            }
            (false, false) => progress.failed.insert(slot, why_failed(status)).is_none(),
            (false, true) => {
                progress.failed_on.insert(run.node.clone(), why_failed(status)).is_none()
            }
        };
        self.changed.insert(key.application.clone());
        true
    }

    /// Conditions were found to hold; whether that is news.
    pub(super) fn hold(&mut self, key: &ServiceKey, spec: SpecHash, found: Held) -> bool {
        let progress = self.of(key, spec);
        let held = progress.held;
        let now = Held {
            started: held.started || found.started,
            healthy: held.healthy || found.healthy,
            completed: held.completed || found.completed,
        };
        progress.held = now;
        let news = now != held;
        if news {
            self.changed.insert(key.application.clone());
        }
        news
    }

    fn of(&mut self, key: &ServiceKey, spec: SpecHash) -> &mut ServiceProgress {
        let record = self.application(&key.application);
        let progress = record.services.entry(key.service.clone());
        progress.or_insert_with(|| ServiceProgress::new(spec))
    }

    /// What is known of a service.
    #[must_use]
    pub fn get(&self, key: &ServiceKey) -> Option<&ServiceProgress> {
        self.applications.get(&key.application)?.services.get(&key.service)
    }

    /// Whether an instance has completed for good.
    #[must_use]
    pub fn is_done(&self, key: &ServiceKey, node: &NodeId, slot: Slot) -> bool {
        self.get(key).is_some_and(|p| p.done.contains(&slot) || p.done_on.contains(node))
    }

    /// Why an instance has failed for good, if it has.
    #[must_use]
    pub fn why_failed(&self, key: &ServiceKey, node: Option<&NodeId>, slot: Slot) -> Option<&str> {
        let progress = self.get(key)?;
        let on = node.and_then(|node| progress.failed_on.get(node));
        progress.failed.get(&slot).or(on).map(String::as_str)
    }

    /// Whether an instance has completed or failed for good.
    #[must_use]
    pub fn is_over(&self, key: &ServiceKey, node: &NodeId, slot: Slot) -> bool {
        self.is_done(key, node, slot) || self.why_failed(key, Some(node), slot).is_some()
    }

    /// Whether a condition of `depends_on` has held of a service.
    #[must_use]
    pub fn has_held(&self, key: &ServiceKey, condition: DependencyCondition) -> bool {
        let held = self.get(key).map(|progress| progress.held).unwrap_or_default();
        match condition {
            DependencyCondition::ServiceStarted => held.started,
            DependencyCondition::ServiceHealthy => held.healthy,
            DependencyCondition::ServiceCompletedSuccessfully => held.completed,
        }
    }

    /// The applications whose progress changed since the last call, with what is to be kept; none
    /// where nothing is.
    pub fn take_changed(&mut self) -> Vec<(ApplicationName, Option<ProgressRecord>)> {
        let record = |application: ApplicationName| {
            let kept = self.applications.get(&application).map(|record| (**record).clone());
            (application, kept)
        };
        std::mem::take(&mut self.changed).into_iter().map(record).collect()
    }

    /// What was kept of applications that are no more need not be kept.
    pub fn retain(&mut self, is_wanted: impl Fn(&ServiceKey) -> bool) {
        let mut changed = vec![];
        for (application, record) in &mut self.applications {
            let wanted = |service: &ServiceName| {
                let application = application.clone();
                is_wanted(&ServiceKey { application, service: service.clone() })
            };
            if record.services.keys().chain(record.homes.keys()).all(wanted) {
                continue;
            }
            let record = Arc::make_mut(record);
            record.services.retain(|service, _| wanted(service));
            record.homes.retain(|service, _| wanted(service));
            changed.push(application.clone());
        }
        changed.iter().for_each(|application| self.tidy(application));
    }
}

fn why_failed(status: &InstanceStatus) -> String {
    match (&status.reason, status.last_exit.and_then(|exit| exit.code)) {
        (Some(reason), _) => cut(reason.clone()),
        (None, Some(code)) => format!("it ended with exit code {code}"),
        (None, None) => "it ended while nobody watched".to_owned(),
    }
}

/// An instance that is wanted, as far as conditions of `depends_on` go.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// It has completed for good.
    pub done: bool,
    /// What its node says of it, if that is about the spec that it shall run.
    pub status: Option<&'a InstanceStatus>,
}

/// Which conditions hold now, judged over all instances that are wanted of a service.
pub fn judge<'a>(instances: impl IntoIterator<Item = Seen<'a>>) -> Held {
    let mut held = Held { started: true, healthy: true, completed: true };
    for instance in instances {
        held.started &= instance.done || instance.status.is_some_and(has_started);
        held.healthy &= instance.status.is_some_and(is_healthy);
        held.completed &= instance.done || instance.status.is_some_and(has_completed);
        if held == Held::default() {
            break;
        }
    }
    held
}

fn has_started(status: &InstanceStatus) -> bool {
    matches!(status.phase, Phase::Running | Phase::Completed) || status.last_exit.is_some()
}

/// Without a health check it is healthy when it may get traffic.
fn is_healthy(status: &InstanceStatus) -> bool {
    match status.health {
        Some(health) => status.phase == Phase::Running && health == Health::Healthy,
        None => status.is_ready(),
    }
}

fn has_completed(status: &InstanceStatus) -> bool {
    status.phase == Phase::Completed || status.last_exit.is_some_and(|exit| exit.code == Some(0))
}
