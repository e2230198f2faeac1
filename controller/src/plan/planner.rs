//! The planner: what is wanted, what there is, what is placed, and the plan.
//!
//! Changes come in one by one and mark what they concern; [`Planner::plan`] looks at that only.
//! Keeping comes before placing, for all of them, so that nothing new takes the room of what is
//! already there. The steps have files of their own: [`super::keep`], [`super::fill`],
//! [`super::moves`], [`super::preempt`]; what others read is in [`super::read`].

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use limpet_protocol::assignment::{AssignedService, Assignment};
use limpet_protocol::id::{ApplicationName, NodeId, Slot, SpecHash};
use limpet_protocol::report::InstanceStatus;

use super::books::{Books, Rates, Sitting};
use super::keep::Look;
use super::moves::{Move, Stage};
use super::progress::{Progress, Run};
use super::{Needs, Node, PortClaim, ServiceKey, Standing, Wanted};
use crate::store::records::{Availability, Held};

/// See the module. A copy plans for itself: what would be, if.
#[derive(Debug, Default, Clone)]
pub struct Planner {
    pub(super) wanted: BTreeMap<ServiceKey, Arc<Wanted>>,
    pub(super) books: Books,
    pub(super) progress: Progress,
    /// Slots that have no node.
    pub(super) pending: BTreeMap<ServiceKey, BTreeSet<Slot>>,
    /// Nodes that match and have no room, of services with one instance on each node.
    pub(super) pending_on: BTreeMap<ServiceKey, BTreeSet<NodeId>>,
    /// Why an instance had to go that is not placed again.
    pub(super) gave_way: BTreeMap<(ServiceKey, Option<NodeId>, Slot), String>,
    /// Services that share the network of another, by that.
    pub(super) joiners: BTreeMap<ServiceKey, BTreeSet<ServiceKey>>,
    /// Services that use a volume.
    pub(super) sharers: BTreeMap<String, BTreeSet<ServiceKey>>,
    /// Services to look at.
    dirty: BTreeMap<ServiceKey, Look>,
    /// Services with slots that want another node: any change of any node may concern them.
    pub(super) open: BTreeSet<ServiceKey>,
    /// Services with one instance on each node.
    global: BTreeSet<ServiceKey>,
    /// Services with slots on their way.
    pub(super) moving: BTreeSet<ServiceKey>,
}

/// What a plan changed.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Changes {
    /// Nodes whose set of instances is another now.
    pub nodes: BTreeSet<NodeId>,
    /// Services that were looked at: their places or reasons may be others.
    pub services: BTreeSet<ServiceKey>,
}

impl Planner {
    /// Wants these services of an application, and no others of it.
    pub fn set_application(
        &mut self,
        application: &ApplicationName,
        services: BTreeMap<ServiceKey, Wanted>,
    ) {
        let of = self.wanted.keys().filter(|key| key.application == *application);
        let gone: Vec<ServiceKey> = of.filter(|key| !services.contains_key(key)).cloned().collect();
        for key in gone {
            self.set_service(&key, None);
        }
        for (key, wanted) in services {
            self.set_service(&key, Some(wanted));
        }
    }

    fn set_service(&mut self, key: &ServiceKey, new: Option<Wanted>) {
        let old = self.wanted.remove(key);
        let waits = self.waits_for_its_turn(key, old.as_deref(), new.as_ref());
        let begins = new.as_ref().map(|wanted| (wanted.spec, wanted.mode.is_global()));
        self.progress.begin(key, begins, &waits);
        if old.as_deref() != new.as_ref() {
            let look = match (&old, &new) {
                (Some(old), Some(new)) if self.stays(key, old, new) => Look::default(),
                _ => Look::whole(),
            };
            self.look(key, look);
        }
        if let Some(old) = old {
            self.note_sharer(key, &old.volumes, false);
            self.note_joiner(key, old.joins.as_ref(), false);
        }
        self.global.remove(key);
        let Some(new) = new else { return self.progress.clear_homes(key) };
        self.note_sharer(key, &new.volumes, true);
        self.note_joiner(key, new.joins.as_ref(), true);
        if new.mode.is_global() {
            self.global.insert(key.clone());
        }
        if !new.has_home() {
            self.progress.clear_homes(key);
        }
        self.wanted.insert(key.clone(), Arc::new(new));
    }

    /// Instances that are over and keep the spec with which they are until their turn comes: those of
    /// a service that is rolled out.
    fn waits_for_its_turn(
        &self,
        key: &ServiceKey,
        old: Option<&Wanted>,
        new: Option<&Wanted>,
    ) -> BTreeSet<(NodeId, Slot)> {
        let rolled = old.zip(new).is_some_and(|(old, new)| {
            !new.mode.is_job() && new.mode.is_global() == old.mode.is_global()
        });
        let placed = self.books.placed.get(key).filter(|_| rolled);
        placed.map(|placed| placed.resting.clone()).unwrap_or_default()
    }

    /// An instance is to run another spec: if it was over it is not any more. Whether it was.
    pub fn begins_anew(&mut self, key: &ServiceKey, node: &NodeId, slot: Slot) -> bool {
        let was = self.progress.forget(key, node, slot);
        if was {
            self.look(key, Look::on(node));
        }
        was
    }

    /// Whether a change of a service lets all that is placed stay as it is counted.
    fn stays(&self, key: &ServiceKey, old: &Wanted, new: &Wanted) -> bool {
        let rests = self.books.placed.get(key).is_some_and(|placed| !placed.resting.is_empty());
        if old.mode.is_global() || new.mode.is_global() || (rests && old.spec != new.spec) {
            return false;
        }
        let mut like_old = new.clone();
        like_old.spec = old.spec;
        like_old.mode = old.mode;
        like_old.drain = old.drain;
        like_old.placement.spread.clone_from(&old.placement.spread);
        like_old == *old
    }

    /// Adds a node or changes what it is.
    pub fn set_node(&mut self, id: &NodeId, node: Node) {
        let old = self.books.seats.get(id).map(|seat| Arc::clone(&seat.node));
        if !self.books.set_node(id, node.clone()) {
            return;
        }
        // A link that comes and goes moves nothing that is there.
        let link_only = old.is_some_and(|old| {
            let is = |standing| [Standing::Ready, Standing::Unreachable].contains(&standing);
            is(old.standing)
                && is(node.standing)
                && *old == (Node { standing: old.standing, ..node })
        });
        if !link_only {
            self.look_on(id);
        }
        self.wake(&[id.clone()].into(), true);
    }

    /// Forgets a node and the data on it; what it had is placed elsewhere.
    pub fn remove_node(&mut self, id: &NodeId) {
        self.progress.remove_homes(id);
        for (key, _) in self.books.remove_node(id) {
            self.look(&key, Look::default());
        }
        for key in self.moving.clone() {
            self.look(&key, Look::default());
        }
        for nodes in self.pending_on.values_mut() {
            nodes.remove(id);
        }
        self.pending_on.retain(|_, nodes| !nodes.is_empty());
        self.wake(&BTreeSet::new(), false);
    }

    /// Takes over what was placed before, after the applications and nodes are known.
    pub fn restore(&mut self, assignment: &Assignment) {
        for share in &assignment.services {
            let (application, service) = (share.application.clone(), share.service.clone());
            let key = ServiceKey { application, service };
            self.look(&key, Look::whole());
            if !self.books.seats.contains_key(&assignment.node) {
                continue;
            }
            let wanted = self.wanted.get(&key).cloned();
            let wanted = wanted.as_deref();
            self.books.set_rates(
                &key,
                Rates {
                    spec: share.spec,
                    needs: wanted.map_or_else(Needs::default, |wanted| wanted.needs),
                    claims: wanted.map(|wanted| wanted.claims.clone()).unwrap_or_default(),
                    priority: wanted.map_or(0, |wanted| wanted.priority),
                },
            );
            let by_node = wanted.is_some_and(|wanted| wanted.mode.is_global());
            self.restore_ports(&key, assignment, share);
            for slot in &share.slots {
                self.restore_one(&key, (&assignment.node, *slot), by_node);
            }
            self.books.is_as_before(&key, &assignment.node);
        }
    }

    /// Instances have the ports again that their node was told.
    fn restore_ports(
        &mut self,
        key: &ServiceKey,
        assignment: &Assignment,
        share: &AssignedService,
    ) {
        let services = assignment.network.iter().flat_map(|network| &network.services);
        let told = services
            .filter(|it| it.application == key.application && it.service == key.service)
            .flat_map(|it| &it.ports)
            .filter(|port| port.host_mode);
        let mut told: Vec<PortClaim> = told.filter_map(PortClaim::of_port).collect();
        let claims = self.wanted.get(key).map(|wanted| wanted.claims.clone()).unwrap_or_default();
        for slot in &share.slots {
            for (index, claim) in claims.iter().enumerate() {
                let Some(at) = told.iter().position(|port| claim.covers(port)) else { continue };
                let port = told.remove(at).range.0;
                self.books.remember_port(key, (&assignment.node, *slot), (index, port));
            }
        }
    }

    fn restore_one(&mut self, key: &ServiceKey, (id, slot): (&NodeId, Slot), by_node: bool) {
        let rests = self.progress.is_over(key, id, slot);
        let other = self.books.placed.get(key).and_then(|placed| placed.at.get(&slot)).cloned();
        let how = Sitting { by_node, rests };
        let Some(other) = other.filter(|other| !by_node && other != id) else {
            return self.books.sit(key, (id, slot), how);
        };
        // One slot on two nodes was on its way from the drained one; anything else can only come
        // from a damaged store: the first keeps it.
        let drained = |id: &NodeId| {
            let seat = self.books.seats.get(id);
            seat.is_some_and(|seat| seat.node.availability == Availability::Drain)
        };
        let (from, to) = match (drained(&other), drained(id)) {
            (true, false) => (other, id.clone()),
            (false, true) => (id.clone(), other),
            _ => return,
        };
        self.books.sit(key, (id, slot), how);
        self.books.bind(key, slot, &to);
        let step = Move { from, to, stage: Stage::Coming { old_stays: true } };
        if let Some(placed) = self.books.placed_mut(key) {
            placed.moves.insert(slot, step);
        }
    }

    /// Places what has to be placed. Planning twice changes nothing.
    pub fn plan(&mut self) -> Changes {
        let mut services = BTreeSet::new();
        while !self.dirty.is_empty() {
            let dirty = std::mem::take(&mut self.dirty);
            let priority = |key: &ServiceKey| self.wanted.get(key).map_or(0, |w| w.priority);
            let leads = dirty.keys().filter(|key| self.leader(key).is_none());
            let mut order: Vec<(i32, &ServiceKey)> =
                leads.map(|key| (priority(key), key)).collect();
            order.sort();
            for (_, key) in &order {
                self.keep(key, &dirty[*key]);
            }
            order.sort_by_key(|(priority, key)| (Reverse(*priority), *key));
            for (_, key) in &order {
                self.fill(key, &dirty[*key]);
            }
            services.extend(dirty.keys().cloned());
            for key in self.followers(dirty.keys()) {
                self.follow(&key);
                services.insert(key);
            }
            let freed = self.books.take_freed();
            if !freed.is_empty() {
                self.wake_others(&freed, &dirty);
            }
        }
        let nodes = self.books.take_changed();
        Changes { nodes, services }
    }

    /// Whether anything changed that was not planned for yet.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// Has a service looked at.
    pub(super) fn look(&mut self, key: &ServiceKey, look: Look) {
        self.dirty.entry(key.clone()).or_default().add(look);
    }

    #[cfg(test)]
    pub(super) fn look_at_everything(&mut self) {
        for key in self.wanted.keys().cloned().collect::<Vec<_>>() {
            self.look(&key, Look::whole());
        }
    }

    /// Has everything on a node looked at.
    fn look_on(&mut self, id: &NodeId) {
        let services = self.books.seats.get(id).map(|seat| seat.services.clone());
        for key in services.unwrap_or_default() {
            self.look(&key, Look::on(id));
        }
        for key in self.moving.clone() {
            self.look(&key, Look::default());
        }
    }

    /// Some nodes have more room or are others: whom may that concern?
    fn wake(&mut self, nodes: &BTreeSet<NodeId>, others: bool) {
        for key in self.open.clone() {
            self.look(&key, Look::default());
        }
        let look = Look { whole: false, nodes: nodes.clone() };
        if others {
            for key in self.global.clone() {
                self.look(&key, look.clone());
            }
        }
    }

    /// Room was freed by the services of this round: the others that wait are looked at.
    fn wake_others(&mut self, freed: &BTreeSet<NodeId>, done: &BTreeMap<ServiceKey, Look>) {
        let waiting: Vec<ServiceKey> =
            self.open.iter().filter(|key| !done.contains_key(*key)).cloned().collect();
        for key in waiting {
            self.look(&key, Look::default());
        }
        let on: Vec<(ServiceKey, BTreeSet<NodeId>)> = self
            .pending_on
            .iter()
            .filter(|(key, _)| !done.contains_key(*key))
            .map(|(key, nodes)| (key.clone(), nodes.intersection(freed).cloned().collect()))
            .collect();
        for (key, nodes) in on.into_iter().filter(|(_, nodes)| !nodes.is_empty()) {
            self.look(&key, Look { whole: false, nodes });
        }
    }

    /// A node reports of one of its instances, which has this spec, or that of its service; whether it
    /// ended for good.
    pub fn report(
        &mut self,
        node: &NodeId,
        status: &InstanceStatus,
        has: Option<SpecHash>,
    ) -> bool {
        let key = ServiceKey::of(&status.instance);
        let slot = status.instance.slot;
        let Some(wanted) = self.wanted.get(&key) else { return false };
        let placed = self.books.placed.get(&key).and_then(|placed| placed.on.get(node));
        if !placed.is_some_and(|slots| slots.contains(&slot)) {
            return false;
        }
        let by_node = wanted.mode.is_global();
        let has = has.unwrap_or(wanted.spec);
        let run = Run { node, by_node, ending: wanted.ending, has, spec: wanted.spec };
        let over = self.progress.note(&key, run, status);
        if over {
            self.books.rest(&key, node, slot, by_node);
            self.look(&key, Look::default());
        }
        over
    }

    /// Conditions of `depends_on` were found to hold of a service; whether that is news.
    pub fn hold(&mut self, key: &ServiceKey, found: Held) -> bool {
        let Some(wanted) = self.wanted.get(key) else { return false };
        self.progress.hold(key, wanted.spec, found)
    }

    /// What is kept of services that nobody wants any more is forgotten.
    pub fn forget_unwanted(&mut self) {
        let wanted = &self.wanted;
        self.progress.retain(|key| wanted.contains_key(key));
    }

    /// How far the services have come.
    #[must_use]
    pub const fn progress(&self) -> &Progress {
        &self.progress
    }

    /// The same, to restore and to keep it.
    pub const fn progress_mut(&mut self) -> &mut Progress {
        &mut self.progress
    }
}
