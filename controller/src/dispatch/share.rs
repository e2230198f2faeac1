//! A node's share of all that is wanted: where the planner put it, and what goes with it.

use std::collections::{BTreeMap, BTreeSet};

use limpet_protocol::assignment::{AssignedService, UpdateOrder};
use limpet_protocol::id::{ApplicationName, NodeId, ServiceName, Slot, SpecHash};
use limpet_protocol::spec::{Dependency, DependencyCondition};

use super::moves::holds;
use super::scaling::Granted;
use crate::plan::ServiceKey;
use crate::plan::progress::{Seen, judge};
use crate::store::records::Held;
use crate::world::World;

impl World {
    /// What a node shall run, in the order of the names.
    pub(crate) fn share(&self, id: &NodeId, granted: &mut Granted) -> Vec<AssignedService> {
        let shares = self.planner.share(id).into_iter().map(|mut share| {
            share.met = self.met(id, &share);
            share.scale = self.scaling(id, &share, granted);
            share
        });
        shares.flat_map(|share| self.by_spec(id, &share)).collect()
    }

    /// While a service is updated, a part for each of its specs.
    fn by_spec(&self, id: &NodeId, share: &AssignedService) -> Vec<AssignedService> {
        let key =
            ServiceKey { application: share.application.clone(), service: share.service.clone() };
        let mut parts: BTreeMap<SpecHash, BTreeSet<Slot>> = BTreeMap::new();
        let meant = |slot: &&Slot| self.planner.is_meant(&key, id, **slot);
        let stays = share.slots.iter().filter(meant);
        let next = stays.into_iter().find_map(|slot| self.rollouts.next_of(&key, id, *slot));
        let mut order = UpdateOrder::default();
        for slot in &share.slots {
            let spec = self.rollouts.spec_of(&key, id, *slot);
            let (spec, first) = spec.unwrap_or((share.spec, order));
            // A slot that another node takes keeps what it has here until it goes.
            let has = if meant(&slot) { None } else { self.told(id, &key, *slot) };
            let spec = has.unwrap_or(spec);
            order = first;
            parts.entry(spec).or_default().insert(*slot);
        }
        let part = |(spec, slots): (SpecHash, BTreeSet<Slot>)| AssignedService {
            spec,
            order,
            next: next.filter(|next| *next != spec),
            done: share.done.iter().filter(|slot| slots.contains(slot)).copied().collect(),
            slots: slots.into_iter().collect(),
            ..share.clone()
        };
        parts.into_iter().map(part).collect()
    }

    /// The spec of a slot in the newest assignment of a node.
    fn told(&self, id: &NodeId, key: &ServiceKey, slot: Slot) -> Option<SpecHash> {
        let told = self.dispatch.wanted(id)?.services.iter();
        let mut of_it = told.filter(|share| holds(share, key, slot));
        of_it.next().map(|share| share.spec)
    }

    /// The dependencies of a share whose condition has held over the whole fleet. Those that are on
    /// this node alone the node judges by itself. None where there are no dependencies.
    fn met(&self, id: &NodeId, share: &AssignedService) -> Option<Vec<ServiceName>> {
        let AssignedService { application, service, .. } = share;
        let dependencies = self.dependencies(application, service);
        let met = dependencies.iter().filter(|dependency| {
            let service = dependency.service.clone();
            let key = ServiceKey { application: application.clone(), service };
            if self.planner.wanted(&key).is_none() {
                return !dependency.required;
            }
            !self.planner.is_local(&key, id)
                && self.planner.progress().has_held(&key, dependency.condition)
        });
        (!dependencies.is_empty()).then(|| met.map(|it| it.service.clone()).collect())
    }

    fn dependencies(&self, application: &ApplicationName, service: &ServiceName) -> &[Dependency] {
        let known = self.applications.get(application);
        let service = known.and_then(|known| known.record.application.services.get(service));
        service.map_or(&[], |service| service.spec.depends_on.as_slice())
    }

    /// The services that wait for this one, and for what.
    fn dependants(&self, key: &ServiceKey) -> Vec<(ServiceKey, DependencyCondition)> {
        let Some(known) = self.applications.get(&key.application) else { return vec![] };
        let mut found = vec![];
        for (name, service) in &known.record.application.services {
            for on in service.spec.depends_on.iter().filter(|on| on.service == key.service) {
                let (application, service) = (key.application.clone(), name.clone());
                found.push((ServiceKey { application, service }, on.condition));
            }
        }
        found
    }

    /// Looks which conditions of `depends_on` hold by now of a service that was placed anew or
    /// reported of, and has the nodes of its dependants looked at when that may matter to them.
    pub(crate) fn judge(&mut self, key: &ServiceKey, placed_anew: bool) {
        let dependants = self.dependants(key);
        let open = dependants.iter().any(|(_, condition)| {
            let progress = self.planner.progress();
            !progress.has_held(key, *condition)
        });
        let mut news = false;
        if open {
            let found = self.held(key);
            news = found != Held::default() && self.planner.hold(key, found);
        }
        if !news && !placed_anew {
            return;
        }
        for (dependant, _) in dependants {
            let nodes = self.planner.places(&dependant).map(|(node, _)| node.clone());
            self.unsettled.extend(nodes);
        }
    }

    /// Which conditions hold of a service, as far as the nodes have said.
    fn held(&self, key: &ServiceKey) -> Held {
        let Some(wanted) = self.planner.wanted(key) else { return Held::default() };
        if self.planner.is_open(key) || self.planner.why_nowhere(key).is_some() {
            return Held::default();
        }
        let progress = self.planner.progress();
        let places = self.planner.places(key);
        let meant = places.filter(|(node, slot)| {
            let idle = self.fleet.get(node).is_some_and(|node| node.is_idle(key, *slot));
            !idle && self.planner.is_meant(key, node, *slot)
        });
        let goal = self.rollouts.goal(key).map_or(wanted.spec, |(goal, _)| goal);
        judge(meant.map(|(node, slot)| {
            let instance = key.instance(slot);
            let status = self.fleet.get(node).and_then(|node| node.instances.get(&instance));
            let has = self.rollouts.spec_of(key, node, slot).map_or(wanted.spec, |(spec, _)| spec);
            // Done with what comes before is not done.
            let done = has == goal && progress.is_done(key, node, slot);
            Seen { done, status: status.filter(|status| status.spec == has) }
        }))
    }
}
