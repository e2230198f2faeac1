//! Scaling in the world: what nodes say of the load, and what bounds they get.
//!
//! In: the scale reports of nodes. Out: for each share of a service with a policy its [`Scaling`].

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use limpet_protocol::application::Service;
use limpet_protocol::assignment::AssignedService;
use limpet_protocol::id::{NodeId, Slot};
use limpet_protocol::scale::{Per, Scaling};

use crate::plan::{ServiceKey, Standing};
use crate::scale::{Placed, Share, shares};
use crate::world::World;

/// What the nodes have to run of services that are scaled as a whole: worked out once for each service, and
/// not once for each node that is told. Holds as long as nothing is heard and nothing planned.
#[derive(Debug, Default)]
pub(crate) struct Granted {
    services: BTreeMap<ServiceKey, BTreeMap<NodeId, Share>>,
}

impl World {
    /// What was decided last over the fleet, of services that an earlier life of the controller scaled.
    pub(crate) fn restore_totals(&mut self) {
        let mut totals: BTreeMap<ServiceKey, u32> = BTreeMap::new();
        for id in self.fleet.keys() {
            let Some(assignment) = self.dispatch.wanted(id) else { continue };
            for share in &assignment.services {
                let Some(scaling) = &share.scale else { continue };
                let (application, service) = (share.application.clone(), share.service.clone());
                // Every node is told the same sum; while a service is updated it has several shares.
                let total = scaling.least.saturating_add(scaling.elsewhere);
                let known = totals.entry(ServiceKey { application, service }).or_default();
                *known = total.max(*known);
            }
        }
        for (key, total) in totals {
            self.totals.restore(&key, total);
        }
    }

    /// A node decided something else about a service, or has nothing to say of it any more.
    pub(crate) fn hear_scale(&mut self, id: &NodeId, key: &ServiceKey) {
        let Some(node) = self.fleet.get(id) else { return };
        self.totals.hear(key, id, node.scales.get(key).map(|scale| scale.wish));
        // Which slots run is part of what the others are told.
        if self.totals.total(key).is_some() {
            self.unsettled.extend(self.planner.places(key).map(|(node, _)| node.clone()));
        }
        for slot in self.planner.slots_on(key, id) {
            self.look_at_slot(key, id, slot);
        }
        self.reported.insert(key.clone());
        self.stale_services.insert(key.clone());
    }

    /// What a node that was given up wished for counts no more, until it is back.
    pub(crate) fn weigh_wishes(&mut self, id: &NodeId, standing: Standing) {
        if standing == Standing::Lost {
            self.totals.forget_node(id);
        } else if let Some(node) = self.fleet.get(id) {
            for (key, scale) in &node.scales {
                self.totals.hear(key, id, Some(scale.wish));
            }
        }
    }

    /// Decides how many have to run over the fleet.
    pub(crate) fn decide_totals(&mut self) {
        for key in self.totals.decide(self.now_ms) {
            let total = self.totals.total(&key).unwrap_or_default();
            self.unsettled.extend(self.planner.places(&key).map(|(node, _)| node.clone()));
            self.happened(
                None,
                "scaled",
                format!("{key}: the load asks for {total} over the fleet"),
            );
            self.stale_services.insert(key);
        }
    }

    /// The bounds of a node for a service that follows its load.
    pub(crate) fn scaling(
        &self,
        id: &NodeId,
        share: &AssignedService,
        granted: &mut Granted,
    ) -> Option<Scaling> {
        let key =
            ServiceKey { application: share.application.clone(), service: share.service.clone() };
        let service = self.service_of(&key)?;
        let policy = service.autoscale.clone()?;
        let priority = service.priority;
        if policy.per == Per::Node {
            let (least, most) = (policy.min, policy.max);
            return Some(Scaling { least, most, elsewhere: 0, priority, policy });
        }
        let total = self.totals.total(&key)?;
        let all = granted.services.entry(key);
        let own = match all {
            Entry::Occupied(known) => known.get().get(id).copied(),
            Entry::Vacant(new) => {
                let all = self.shares_of(new.key(), total);
                new.insert(all).get(id).copied()
            }
        };
        let own = own.unwrap_or_default();
        let most = u32::try_from(share.slots.len()).unwrap_or(u32::MAX);
        let (least, elsewhere) = (own.least.min(most), own.elsewhere);
        Some(Scaling { least, most, elsewhere, priority, policy })
    }

    /// What each node has to run of so many instances of a service.
    fn shares_of(&self, key: &ServiceKey, total: u32) -> BTreeMap<NodeId, Share> {
        let meant = |(node, slot): &(&NodeId, Slot)| self.planner.is_meant(key, node, *slot);
        let places = self.planner.places(key).filter(meant);
        let placed: Vec<Placed<'_>> =
            places.map(|(node, slot)| (slot, node, self.is_run(key, node, slot))).collect();
        shares(total, &placed).into_iter().map(|(node, share)| (node.clone(), share)).collect()
    }

    /// Whether a node runs a slot, as far as it has said.
    fn is_run(&self, key: &ServiceKey, id: &NodeId, slot: Slot) -> bool {
        let node = self.fleet.get(id);
        node.is_some_and(|node| node.scales.contains_key(key) && !node.is_idle(key, slot))
    }

    fn service_of(&self, key: &ServiceKey) -> Option<&Service> {
        let known = self.applications.get(&key.application)?;
        known.record.application.services.get(&key.service)
    }
}
