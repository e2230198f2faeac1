//! Keeping what is placed and still fits.
//!
//! In: services that changed, and nodes that did. Out: the instances that have to go are off the
//! books. Services with a lower priority are looked at first, so that they give way when a node has
//! become too small.

use std::collections::{BTreeMap, BTreeSet};

use limpet_protocol::application::Mode;
use limpet_protocol::id::{NodeId, Slot};

use super::books::{Rates, Sitting};
use super::filter::lasting_misfit;
use super::moves::Stage;
use super::planner::Planner;
use super::{ServiceKey, Wanted};
use crate::store::records::Availability;

/// Instances of a job that are over and stay with one node, for people to look at; the rest is
/// known by number only.
pub(super) const MAX_RESTING_RUNS: usize = 8;

/// What of a service has to be looked at; always whether it has as many as are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Look {
    /// All its places.
    pub(super) whole: bool,
    /// Its places on these nodes, which are new or others.
    pub(super) nodes: BTreeSet<NodeId>,
}

impl Look {
    pub(super) fn on(id: &NodeId) -> Self {
        Self { whole: false, nodes: [id.clone()].into() }
    }

    pub(super) fn whole() -> Self {
        Self { whole: true, nodes: BTreeSet::new() }
    }

    pub(super) fn add(&mut self, other: Self) {
        self.whole |= other.whole;
        self.nodes.extend(other.nodes);
    }
}

impl Planner {
    /// Keeps of a service what still fits.
    pub(super) fn keep(&mut self, key: &ServiceKey, look: &Look) {
        let wanted = self.wanted.get(key).cloned();
        let Some(placed) = self.books.placed.get(key) else {
            if let Some(wanted) = wanted {
                self.books.set_rates(key, rates(&wanted));
            }
            return;
        };
        let nodes: Vec<NodeId> = if look.whole || wanted.is_none() {
            placed.on.keys().cloned().collect()
        } else {
            look.nodes.iter().filter(|id| placed.on.contains_key(*id)).cloned().collect()
        };
        let respecified = placed.spec != wanted.as_ref().map(|wanted| wanted.spec);
        let mut freed = self.books.take_freed();
        let mut lifted: Vec<(bool, Slot, NodeId)> = vec![];
        for id in nodes {
            if respecified {
                self.books.touch(&id);
            }
            let slots = self.books.placed.get(key).and_then(|placed| placed.on.get(&id)).cloned();
            for slot in slots.unwrap_or_default() {
                if self.books.rests(key, &id, slot) != self.progress.is_over(key, &id, slot) {
                    self.books.touch(&id);
                }
                self.books.rise(key, (&id, slot));
                lifted.push((self.books.is_lost(&id), slot, id.clone()));
            }
        }
        let Some(wanted) = wanted else {
            self.books.add_freed(freed);
            return self.drop_service(key);
        };
        let cheaper = self.books.set_rates(key, rates(&wanted));
        lifted.sort();
        // What is lifted only to be put back frees nothing.
        self.books.take_freed();
        for (_, slot, id) in lifted {
            self.keep_one(key, &wanted, (&id, slot));
            if cheaper || !self.books.sits(key, &id, slot) {
                freed.insert(id);
            }
        }
        self.books.add_freed(freed);
        self.check_moves(key);
    }

    fn drop_service(&mut self, key: &ServiceKey) {
        if let Some(placed) = self.books.placed_mut(key) {
            placed.moves.clear();
        }
    }

    /// Puts an instance back where it was, if it may stay there.
    fn keep_one(&mut self, key: &ServiceKey, wanted: &Wanted, (id, slot): (&NodeId, Slot)) {
        let by_node = wanted.mode.is_global();
        let rests = self.progress.is_over(key, id, slot);
        let Some(seat) = self.books.seats.get(id) else { return };
        let Some(placed) = self.books.placed.get(key) else { return };
        let elsewhere = placed.at.contains_key(&slot) && !self.is_step(key, id, slot);
        if wanted.stopped || lasting_misfit(wanted, id, &seat.node).is_some() {
            return;
        }
        if by_node && (slot != Slot(1) || seat.node.availability == Availability::Drain) {
            return;
        }
        // One slot on two nodes that is not on its way can only come from a damaged store.
        if !by_node && elsewhere {
            return;
        }
        let own = placed.active_on(id);
        if !rests && seat.room.misfit(wanted, &seat.node, own).is_some() {
            return;
        }
        let at = placed.at.get(&slot).cloned();
        self.books.sit(key, (id, slot), Sitting { by_node, rests });
        self.note_home(key, wanted, (id, slot));
        // A slot that is on its way counts where it goes.
        let step = self.books.placed.get(key).and_then(|placed| placed.moves.get(&slot));
        if let (Some(step), Some(at)) = (step, at)
            && step.from == *id
        {
            self.books.bind(key, slot, &at);
        }
    }

    /// Whether a node is one of the two of a slot's move.
    fn is_step(&self, key: &ServiceKey, id: &NodeId, slot: Slot) -> bool {
        let step = self.books.placed.get(key).and_then(|placed| placed.moves.get(&slot));
        step.is_some_and(|step| step.from == *id || step.to == *id)
    }

    /// Ends the moves that have lost one of their nodes.
    fn check_moves(&mut self, key: &ServiceKey) {
        let Some(placed) = self.books.placed.get(key) else { return };
        let sits = |id: &NodeId, slot: Slot| {
            placed.on.get(id).is_some_and(|slots| slots.contains(&slot)) && !self.books.is_lost(id)
        };
        let (mut broken, mut alone) = (vec![], vec![]);
        for (slot, step) in &placed.moves {
            if !sits(&step.to, *slot) {
                broken.push((*slot, step.to.clone()));
            } else if step.stage == (Stage::Coming { old_stays: true }) && !sits(&step.from, *slot)
            {
                alone.push((*slot, step.from.clone()));
            }
        }
        for (slot, to) in broken {
            self.books.rise(key, (&to, slot));
            self.give_up_move(key, slot);
        }
        for (slot, from) in alone {
            self.books.rise(key, (&from, slot));
            let placed = self.books.placed_mut(key);
            if let Some(step) = placed.and_then(|placed| placed.moves.get_mut(&slot)) {
                step.stage = Stage::Coming { old_stays: false };
            }
        }
    }

    /// Takes away what is more than wanted: of lost nodes first, then the highest slots.
    pub(super) fn trim(&mut self, key: &ServiceKey, wanted: &Wanted) {
        self.drop_beyond(key, wanted);
        let most = self.active_wanted(key, wanted);
        let Some(placed) = self.books.placed.get(key) else { return };
        let resting = placed.resting.len();
        let active = placed.at.len().saturating_sub(resting);
        let mut surplus = active.saturating_sub(most);
        if surplus > 0 {
            let rests = |slot: &Slot, id: &NodeId| placed.resting.contains(&(id.clone(), *slot));
            let lost = |slot: &&Slot| placed.at.get(slot).is_some_and(|id| self.books.is_lost(id));
            let first = placed.adrift.iter().rev().filter(lost).copied();
            let active = placed.at.iter().rev().filter(|(slot, id)| !rests(slot, id));
            let order: Vec<Slot> = first.chain(active.map(|(slot, _)| *slot)).collect();
            let mut gone = BTreeSet::new();
            for slot in order {
                if surplus > 0 && gone.insert(slot) {
                    self.drop_slot(key, slot);
                    surplus -= 1;
                }
            }
        }
        self.trim_resting(key, wanted);
    }

    /// The runs of a job are numbered: there is none beyond the last.
    fn drop_beyond(&mut self, key: &ServiceKey, wanted: &Wanted) {
        let Some(last) = wanted.mode.slots().filter(|_| wanted.mode.is_job()) else { return };
        let Some(placed) = self.books.placed.get(key) else { return };
        let beyond: Vec<Slot> =
            placed.at.range(Slot(last.saturating_add(1))..).map(|(slot, _)| *slot).collect();
        for slot in beyond {
            self.drop_slot(key, slot);
        }
    }

    fn drop_slot(&mut self, key: &ServiceKey, slot: Slot) {
        let Some(placed) = self.books.placed_mut(key) else { return };
        let mut nodes: Vec<NodeId> = placed.at.get(&slot).cloned().into_iter().collect();
        nodes.extend(placed.moves.remove(&slot).into_iter().flat_map(|step| [step.from, step.to]));
        for id in nodes {
            self.books.rise(key, (&id, slot));
        }
    }

    /// Of what is over only so much stays with a node, and of fewer replicas nothing beyond them.
    fn trim_resting(&mut self, key: &ServiceKey, wanted: &Wanted) {
        let Some(placed) = self.books.placed.get(key) else { return };
        let Some(slots) = wanted.mode.slots() else { return };
        if placed.resting.is_empty() {
            return;
        }
        let job = wanted.mode.is_job();
        let mut there: BTreeMap<&NodeId, usize> = BTreeMap::new();
        let mut gone = vec![];
        for (id, slot) in placed.resting.iter().rev() {
            let count = there.entry(id).or_default();
            *count += 1;
            if slot.0 > slots || (job && *count > MAX_RESTING_RUNS) {
                gone.push((id.clone(), *slot));
            }
        }
        for (id, slot) in gone {
            self.books.rise(key, (&id, slot));
        }
    }

    /// How many instances that are not over are to be placed now.
    pub(super) fn active_wanted(&self, key: &ServiceKey, wanted: &Wanted) -> usize {
        let most = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
        let Some(slots) = wanted.mode.slots() else { return usize::MAX };
        if wanted.stopped {
            return 0;
        }
        let over = self.progress.get(key).map_or(0, |progress| {
            let done = progress.done.range(..=Slot(slots)).count();
            done + progress.failed.range(..=Slot(slots)).count()
        });
        let open = most(slots).saturating_sub(over);
        match wanted.mode {
            Mode::ReplicatedJob { parallelism, .. } => open.min(most(parallelism.max(1))),
            _ => open,
        }
    }
}

pub(super) fn rates(wanted: &Wanted) -> Rates {
    Rates {
        spec: wanted.spec,
        needs: wanted.needs,
        claims: wanted.claims.clone(),
        priority: wanted.priority,
    }
}
