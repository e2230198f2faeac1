//! Services that share the network of another: each slot is where the same slot of the other is.
//!
//! In: the services of an application. Out: what planning needs to know of them ([`wanted`]). A service and
//! those that join it are placed as one: what they need of a node is asked for with the service that is
//! joined, and those that join follow it wherever it goes, also while it is on its way from one node to
//! another. It is the idea of a pod (Kubernetes, "Pods"), which is scheduled as a whole.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use limpet_protocol::application::Application;
use limpet_protocol::id::{NodeId, ServiceName, Slot, SpecHash};

use super::books::{Placed, Sitting};
use super::keep::rates;
use super::planner::Planner;
use super::{Needs, ServiceKey, Unplaced, Wanted};

/// What planning needs to know of the services of an application; nothing of those that have no spec.
#[must_use]
pub fn wanted(
    application: &Application,
    specs: &BTreeMap<ServiceName, Option<SpecHash>>,
) -> BTreeMap<ServiceKey, Wanted> {
    let key = |service: &ServiceName| ServiceKey {
        application: application.name.clone(),
        service: service.clone(),
    };
    let one = |(name, service): (&ServiceName, &limpet_protocol::application::Service)| {
        let spec = specs.get(name).copied().flatten()?;
        Some((key(name), Wanted::of(service, spec)))
    };
    let mut found: BTreeMap<ServiceKey, Wanted> =
        application.services.iter().filter_map(one).collect();
    let joining: Vec<(ServiceKey, ServiceKey)> = found
        .iter()
        .filter_map(|(key, wanted)| Some((key.clone(), wanted.joins.clone()?)))
        .collect();
    for (follower, joined) in joining {
        let Some(own) = found.get(&follower).cloned() else { continue };
        let Some(leader) = found.get_mut(&joined) else { continue };
        leader.take_on(&own);
        let priority = leader.priority;
        found.entry(follower).and_modify(|own| own.leave_it(priority));
    }
    found
}

impl Wanted {
    /// Asks of a node what another service needs there too.
    fn take_on(&mut self, other: &Self) {
        let sum = Needs {
            memory_bytes: self.needs.memory_bytes.saturating_add(other.needs.memory_bytes),
            cpu_millis: self.needs.cpu_millis.saturating_add(other.needs.cpu_millis),
            addresses: self.needs.addresses,
        };
        self.needs = sum;
        self.placement.constraints.extend(other.placement.constraints.iter().cloned());
        let most = [self.placement.max_replicas_per_node, other.placement.max_replicas_per_node];
        self.placement.max_replicas_per_node = most.into_iter().flatten().min();
        self.platform = self.platform.take().or_else(|| other.platform.clone());
        self.devices.extend(other.devices.iter().cloned());
        self.claims.extend(other.claims.iter().copied());
        if !other.placement.leaves_volumes {
            self.volumes.extend(other.volumes.iter().cloned());
        }
    }

    /// Everything that it needs is asked for by the service that it follows.
    fn leave_it(&mut self, priority: i32) {
        self.needs = Needs::default();
        self.placement = limpet_protocol::application::Placement::default();
        self.platform = None;
        self.devices.clear();
        self.claims.clear();
        self.volumes.clear();
        self.priority = priority;
    }
}

impl Planner {
    /// The service whose places a service takes over.
    pub(super) fn leader(&self, key: &ServiceKey) -> Option<&ServiceKey> {
        self.wanted.get(key)?.joins.as_ref()
    }

    /// Services that follow some of these, and those of them that follow others.
    pub(super) fn followers<'a>(
        &self,
        keys: impl Iterator<Item = &'a ServiceKey>,
    ) -> BTreeSet<ServiceKey> {
        let mut found = BTreeSet::new();
        for key in keys {
            found.extend(self.joiners.get(key).into_iter().flatten().cloned());
            if self.leader(key).is_some() {
                found.insert(key.clone());
            }
        }
        found
    }

    /// Who follows whom.
    pub(super) fn note_joiner(&mut self, key: &ServiceKey, joins: Option<&ServiceKey>, does: bool) {
        let Some(joined) = joins else { return };
        if does {
            self.joiners.entry(joined.clone()).or_default().insert(key.clone());
        } else if let Some(joiners) = self.joiners.get_mut(joined) {
            joiners.remove(key);
            if joiners.is_empty() {
                self.joiners.remove(joined);
            }
        }
    }

    /// Puts a service where the one is whose network it shares.
    pub(super) fn follow(&mut self, key: &ServiceKey) {
        let Some(wanted) = self.wanted.get(key).cloned() else { return };
        let Some(joined) = &wanted.joins else { return };
        self.books.set_rates(key, rates(&wanted));
        let theirs = match self.books.placed.get(joined) {
            Some(theirs) if !wanted.stopped => Arc::clone(theirs),
            _ => Arc::default(),
        };
        let own = self.books.placed.get(key).map(|own| own.on.clone()).unwrap_or_default();
        for (id, slots) in &own {
            for slot in slots.iter().filter(|slot| !has(&theirs, id, **slot)) {
                self.books.rise(key, (id, *slot));
            }
        }
        let by_node = wanted.mode.is_global();
        for (id, slots) in &theirs.on {
            for slot in slots {
                let rests = self.progress.is_over(key, id, *slot);
                let sits = self.books.sits(key, id, *slot);
                if sits && self.books.rests(key, id, *slot) == rests {
                    continue;
                }
                if sits {
                    self.books.rise(key, (id, *slot));
                    self.books.touch(id);
                }
                self.books.sit(key, (id, *slot), Sitting { by_node, rests });
            }
        }
        if !by_node {
            theirs.at.iter().for_each(|(slot, id)| self.books.bind(key, *slot, id));
        }
        // Who is on the way with another has no way of its own.
        if let Some(own) = self.books.placed_mut(key).filter(|own| !own.moves.is_empty()) {
            own.moves.clear();
        }
        self.wait_with(key, joined, wanted.stopped);
        self.books.tidy(key);
    }

    /// What is open of the one is open of the other.
    fn wait_with(&mut self, key: &ServiceKey, joined: &ServiceKey, stopped: bool) {
        let pending = self.pending.get(joined).filter(|_| !stopped).cloned();
        match pending {
            Some(pending) => drop(self.pending.insert(key.clone(), pending)),
            None => drop(self.pending.remove(key)),
        }
        let pending_on = self.pending_on.get(joined).filter(|_| !stopped).cloned();
        match pending_on {
            Some(pending) => drop(self.pending_on.insert(key.clone(), pending)),
            None => drop(self.pending_on.remove(key)),
        }
        if self.open.contains(joined) && !stopped {
            self.open.insert(key.clone());
        } else {
            self.open.remove(key);
        }
        self.moving.remove(key);
        self.gave_way.retain(|(other, ..), _| other != key);
    }

    /// Why slots of a service are not where they should be: for the reason of those that they follow.
    pub(super) fn unplaced_followers(&self, joined: &ServiceKey, wanted: &Wanted) -> Vec<Unplaced> {
        if wanted.stopped {
            return vec![];
        }
        let stopped = self.wanted.get(joined).is_none_or(|theirs| theirs.stopped);
        if stopped {
            let slots = wanted.mode.slots().unwrap_or(0);
            let open = |slot: u32| Unplaced {
                slot: Slot(slot),
                node: None,
                reason: format!("it shares the network of {joined}, which is stopped"),
            };
            return (1..=slots).map(open).collect();
        }
        let follows = |theirs: Unplaced| {
            let Unplaced { slot, node, reason } = theirs;
            let reason = format!("it shares the network of {joined}.{slot}: {reason}");
            Unplaced { slot, node, reason: super::filter::cut(reason) }
        };
        self.unplaced(joined).into_iter().map(follows).collect()
    }
}

fn has(placed: &Placed, id: &NodeId, slot: Slot) -> bool {
    placed.on.get(id).is_some_and(|slots| slots.contains(&slot))
}
