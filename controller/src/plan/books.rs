//! The books: who sits where, and what that takes. Every change of a place goes through here, so
//! that the indexes by node, by service and by slot always agree.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use limpet_protocol::id::{NodeId, Slot, SpecHash};

use super::index::Index;
use super::moves::Move;
use super::ports::PortClaim;
use super::seat::{Room, Seat, Terms};
use super::{Needs, Node, ServiceKey, Standing};
use crate::store::records::Availability;

/// Where the instances of one service are.
#[derive(Debug, Clone, Default)]
pub(super) struct Placed {
    pub(super) spec: Option<SpecHash>,
    /// What each takes, as it was counted.
    needs: Needs,
    claims: Vec<PortClaim>,
    priority: i32,
    pub(super) on: BTreeMap<NodeId, BTreeSet<Slot>>,
    /// The node of each slot, of a service whose slots are not bound to nodes; of a slot that moves
    /// and is on both nodes, the one that it moves to.
    pub(super) at: BTreeMap<Slot, NodeId>,
    /// Instances that are over: they take their place only.
    pub(super) resting: BTreeSet<(NodeId, Slot)>,
    /// Slots whose node is lost or to be drained, and that are not over.
    pub(super) adrift: BTreeSet<Slot>,
    /// Slots on their way from a drained node to another.
    pub(super) moves: BTreeMap<Slot, Move>,
}

impl Placed {
    fn terms(&self, rests: bool) -> Terms<'_> {
        Terms { needs: self.needs, claims: &self.claims, rests }
    }

    /// Instances on a node that are not over.
    pub(super) fn active_on(&self, id: &NodeId) -> usize {
        let Some(slots) = self.on.get(id) else { return 0 };
        if self.resting.is_empty() {
            return slots.len();
        }
        slots.iter().filter(|slot| !self.resting.contains(&(id.clone(), **slot))).count()
    }
}

/// What each instance of a service takes, and how it counts.
#[derive(Debug, Clone)]
pub(super) struct Rates {
    pub(super) spec: SpecHash,
    pub(super) needs: Needs,
    pub(super) claims: Vec<PortClaim>,
    pub(super) priority: i32,
}

/// See the module. What is kept of a node or of a service is shared with the copies of the planner
/// until one of them changes it: a copy costs a step for each, and no more.
#[derive(Debug, Default, Clone)]
pub(super) struct Books {
    pub(super) seats: BTreeMap<NodeId, Arc<Seat>>,
    pub(super) placed: BTreeMap<ServiceKey, Arc<Placed>>,
    pub(super) index: Index,
    /// How many instances there are of each priority.
    priorities: BTreeMap<i32, usize>,
    /// Slots of a service on a node as they were when the plan began.
    before: BTreeMap<(ServiceKey, NodeId), BTreeSet<Slot>>,
    /// Nodes that gave something back since the last look.
    freed: BTreeSet<NodeId>,
    /// Nodes on which something changed that is not a slot: another spec, a step of a move.
    touched: BTreeSet<NodeId>,
}

impl Books {
    /// A node is new or another; whether it is another than before.
    pub(super) fn set_node(&mut self, id: &NodeId, node: Node) -> bool {
        if let Some(seat) = self.seats.get_mut(id) {
            if *seat.node == node {
                return false;
            }
            Arc::make_mut(seat).node = Arc::new(node);
        } else {
            let node = Arc::new(node);
            let seat = Seat { node, room: Room::default(), services: BTreeSet::new() };
            self.seats.insert(id.clone(), Arc::new(seat));
        }
        self.index.set_node(id, self.seats.get(id).map(AsRef::as_ref));
        true
    }

    /// Where the instances of a service are, to change it.
    pub(super) fn placed_mut(&mut self, key: &ServiceKey) -> Option<&mut Placed> {
        self.placed.get_mut(key).map(Arc::make_mut)
    }

    /// Whether slots on a node have to go to another.
    fn is_adrift(&self, id: &NodeId) -> bool {
        self.seats.get(id).is_some_and(|seat| seat.node.gives())
    }

    /// Whether a slot's node is lost.
    pub(super) fn is_lost(&self, id: &NodeId) -> bool {
        self.seats.get(id).is_some_and(|seat| seat.node.standing == Standing::Lost)
    }

    /// What each instance of a service takes from now on; its instances must have been lifted if
    /// that is another than before, which it tells.
    pub(super) fn set_rates(&mut self, key: &ServiceKey, rates: Rates) -> bool {
        let placed = Arc::make_mut(self.placed.entry(key.clone()).or_default());
        if placed.spec != Some(rates.spec) {
            placed.spec = Some(rates.spec);
            self.touched.extend(placed.on.keys().cloned());
        }
        let others = (placed.needs, &placed.claims, placed.priority)
            != (rates.needs, &rates.claims, rates.priority);
        placed.needs = rates.needs;
        placed.claims = rates.claims;
        placed.priority = rates.priority;
        others
    }

    /// Puts an instance on a node. A service that is bound to nodes has no `at`.
    pub(super) fn sit(&mut self, key: &ServiceKey, (id, slot): (&NodeId, Slot), how: Sitting) {
        self.remember(key, id);
        let adrift = self.is_adrift(id);
        let Some(placed) = self.placed.get_mut(key).map(Arc::make_mut) else { return };
        let Some(seat) = self.seats.get_mut(id).map(Arc::make_mut) else { return };
        if !placed.on.entry(id.clone()).or_default().insert(slot) {
            return;
        }
        if !how.by_node {
            placed.at.insert(slot, id.clone());
            if adrift && !how.rests {
                placed.adrift.insert(slot);
            } else {
                placed.adrift.remove(&slot);
            }
        }
        if how.rests {
            placed.resting.insert((id.clone(), slot));
        } else {
            *self.priorities.entry(placed.priority).or_default() += 1;
        }
        seat.services.insert(key.clone());
        seat.room.take((key, slot), placed.terms(how.rests));
        self.index.set_used(id, seat);
    }

    /// An instance that is about to be put on a node had this port there.
    pub(super) fn remember_port(
        &mut self,
        key: &ServiceKey,
        (id, slot): (&NodeId, Slot),
        (claim, port): (usize, u16),
    ) {
        if let Some(seat) = self.seats.get_mut(id).map(Arc::make_mut) {
            seat.room.ports.remember((key, slot), claim, port);
        }
    }

    /// Of a slot on two nodes, this is the one that counts.
    pub(super) fn bind(&mut self, key: &ServiceKey, slot: Slot, id: &NodeId) {
        let adrift = self.is_adrift(id);
        let Some(placed) = self.placed.get_mut(key).map(Arc::make_mut) else { return };
        placed.at.insert(slot, id.clone());
        if !adrift {
            placed.adrift.remove(&slot);
        }
    }

    /// Takes an instance off a node; whether it was there.
    pub(super) fn rise(&mut self, key: &ServiceKey, (id, slot): (&NodeId, Slot)) -> bool {
        self.remember(key, id);
        let Some(placed) = self.placed.get_mut(key).map(Arc::make_mut) else { return false };
        let Some(slots) = placed.on.get_mut(id) else { return false };
        if !slots.remove(&slot) {
            return false;
        }
        if slots.is_empty() {
            placed.on.remove(id);
        }
        if placed.at.get(&slot) == Some(id) {
            placed.at.remove(&slot);
            placed.adrift.remove(&slot);
        }
        let rests = placed.resting.remove(&(id.clone(), slot));
        if !rests {
            count_down(&mut self.priorities, placed.priority);
        }
        if let Some(seat) = self.seats.get_mut(id).map(Arc::make_mut) {
            if !placed.on.contains_key(id) {
                seat.services.remove(key);
            }
            seat.room.give_back((key, slot), placed.terms(rests));
            self.index.set_used(id, seat);
            self.freed.insert(id.clone());
        }
        true
    }

    /// Whether an instance is counted as over.
    pub(super) fn rests(&self, key: &ServiceKey, id: &NodeId, slot: Slot) -> bool {
        let placed = self.placed.get(key);
        placed.is_some_and(|placed| placed.resting.contains(&(id.clone(), slot)))
    }

    /// An instance is over: it takes its place only.
    pub(super) fn rest(&mut self, key: &ServiceKey, id: &NodeId, slot: Slot, by_node: bool) {
        if self.rise(key, (id, slot)) {
            self.sit(key, (id, slot), Sitting { by_node, rests: true });
            self.touched.insert(id.clone());
        }
    }

    /// Forgets a node; gives what it had.
    pub(super) fn remove_node(&mut self, id: &NodeId) -> Vec<(ServiceKey, BTreeSet<Slot>)> {
        let services = self.seats.get(id).map(|seat| seat.services.clone()).unwrap_or_default();
        let mut had = vec![];
        for key in services {
            let slots = self.placed.get(&key).and_then(|placed| placed.on.get(id)).cloned();
            let slots = slots.unwrap_or_default();
            for slot in &slots {
                self.rise(&key, (id, *slot));
            }
            had.push((key, slots));
        }
        self.seats.remove(id);
        self.index.set_node(id, None);
        self.freed.remove(id);
        had
    }

    /// A service with nothing left is forgotten.
    pub(super) fn tidy(&mut self, key: &ServiceKey) {
        if self
            .placed
            .get(key)
            .is_some_and(|placed| placed.on.is_empty() && placed.moves.is_empty())
        {
            self.placed.remove(key);
        }
    }

    /// Whether any instance has a lower priority.
    pub(super) fn has_lower(&self, priority: i32) -> bool {
        self.priorities.first_key_value().is_some_and(|(lowest, _)| *lowest < priority)
    }

    pub(super) fn priority_of(&self, key: &ServiceKey) -> i32 {
        self.placed.get(key).map_or(0, |placed| placed.priority)
    }

    /// What a service's instance would give back.
    pub(super) fn give_back(&self, room: &mut Room, key: &ServiceKey, slot: Slot) {
        if let Some(placed) = self.placed.get(key) {
            room.give_back((key, slot), placed.terms(false));
        }
    }

    /// The other way round.
    pub(super) fn take_again(&self, room: &mut Room, key: &ServiceKey, slot: Slot) {
        if let Some(placed) = self.placed.get(key) {
            room.take((key, slot), placed.terms(false));
        }
    }

    fn remember(&mut self, key: &ServiceKey, id: &NodeId) {
        let place = (key.clone(), id.clone());
        if !self.before.contains_key(&place) {
            let slots = self.placed.get(key).and_then(|placed| placed.on.get(id));
            self.before.insert(place, slots.cloned().unwrap_or_default());
        }
    }

    /// What a service has on a node now is what the node was told already.
    pub(super) fn is_as_before(&mut self, key: &ServiceKey, id: &NodeId) {
        self.before.remove(&(key.clone(), id.clone()));
    }

    /// Has a node's share looked at although no slot changed.
    pub(super) fn touch(&mut self, id: &NodeId) {
        self.touched.insert(id.clone());
    }

    /// Whether an instance is there.
    pub(super) fn sits(&self, key: &ServiceKey, id: &NodeId, slot: Slot) -> bool {
        let slots = self.placed.get(key).and_then(|placed| placed.on.get(id));
        slots.is_some_and(|slots| slots.contains(&slot))
    }

    /// More nodes that have given something back.
    pub(super) fn add_freed(&mut self, nodes: BTreeSet<NodeId>) {
        self.freed.extend(nodes);
    }

    /// Nodes that gave something back since the last call.
    pub(super) fn take_freed(&mut self) -> BTreeSet<NodeId> {
        std::mem::take(&mut self.freed)
    }

    /// Nodes whose set is another than when the last call was made.
    pub(super) fn take_changed(&mut self) -> BTreeSet<NodeId> {
        let mut changed = std::mem::take(&mut self.touched);
        for ((key, id), old) in std::mem::take(&mut self.before) {
            if let Some(seat) = self.seats.get_mut(&id).filter(|it| it.room.ports.remembers()) {
                Arc::make_mut(seat).room.ports.forget();
            }
            let new = self.placed.get(&key).and_then(|placed| placed.on.get(&id));
            if new.map_or(!old.is_empty(), |new| *new != old) {
                changed.insert(id);
            }
        }
        changed.retain(|id| self.seats.contains_key(id));
        changed
    }
}

/// How an instance sits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sitting {
    /// Its service has one on each node.
    pub(super) by_node: bool,
    /// It is over.
    pub(super) rests: bool,
}

fn count_down(priorities: &mut BTreeMap<i32, usize>, priority: i32) {
    if let Some(count) = priorities.get_mut(&priority) {
        *count -= 1;
        if *count == 0 {
            priorities.remove(&priority);
        }
    }
}

impl Node {
    /// Whether what it has is to go to others.
    pub(super) fn gives(&self) -> bool {
        self.standing == Standing::Lost || self.availability == Availability::Drain
    }
}
