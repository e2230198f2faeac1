//! Making room: instances of a lower priority give way to one that finds no room anywhere.
//!
//! The rules are those of Kubernetes ("Pod Priority and Preemption",
//! `pkg/scheduler/framework/preemption`): only instances of a lower priority are victims, never those
//! of the same; on each node the fewest, the lowest priorities first, and whoever need not go after
//! all stays; of the nodes the one whose greatest victim is the least, then the one with the fewest.

use limpet_protocol::id::{NodeId, Slot};

use super::filter::{lasting_misfit, standing_misfit};
use super::keep::Look;
use super::planner::Planner;
use super::{ServiceKey, Standing, Wanted};

/// An instance that could give way.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Victim {
    priority: i32,
    key: ServiceKey,
    slot: Slot,
}

impl Planner {
    /// Makes room for one more instance, on one node or wherever it costs least; which node it is.
    pub(super) fn preempt(
        &mut self,
        key: &ServiceKey,
        wanted: &Wanted,
        only: Option<&NodeId>,
    ) -> Option<NodeId> {
        if !self.books.has_lower(wanted.priority) {
            return None;
        }
        let nodes = self.books.seats.keys().filter(|id| only.is_none_or(|only| only == *id));
        let costs = nodes.filter_map(|id| {
            let victims = self.victims(key, wanted, id)?;
            let unreachable = self.books.seats.get(id)?.node.standing != Standing::Ready;
            let greatest = victims.iter().map(|victim| victim.priority).max()?;
            Some((unreachable, greatest, victims.len(), id.clone(), victims))
        });
        let (.., id, victims) = costs.min()?;
        for victim in victims {
            self.evict(victim, &id, (key, wanted));
        }
        Some(id)
    }

    /// Who would have to go from a node; none if nothing would help.
    fn victims(&self, key: &ServiceKey, wanted: &Wanted, id: &NodeId) -> Option<Vec<Victim>> {
        let seat = self.books.seats.get(id)?;
        if standing_misfit(&seat.node).is_some() || lasting_misfit(wanted, id, &seat.node).is_some()
        {
            return None;
        }
        let own = self.books.placed.get(key).map_or(0, |placed| placed.active_on(id));
        let mut lower = self.lower(wanted.priority, id);
        lower.sort_by(|a, b| (a.priority, &b.key, b.slot).cmp(&(b.priority, &a.key, a.slot)));
        let mut room = seat.room.clone();
        let mut victims = vec![];
        for victim in lower {
            if room.misfit(wanted, &seat.node, own).is_none() {
                break;
            }
            self.books.give_back(&mut room, &victim.key, victim.slot);
            victims.push(victim);
        }
        if room.misfit(wanted, &seat.node, own).is_some() {
            return None;
        }
        // Whoever need not go stays, the greatest first.
        let mut going = vec![];
        for victim in victims.into_iter().rev() {
            self.books.take_again(&mut room, &victim.key, victim.slot);
            if room.misfit(wanted, &seat.node, own).is_some() {
                self.books.give_back(&mut room, &victim.key, victim.slot);
                going.push(victim);
            }
        }
        Some(going)
    }

    fn lower(&self, priority: i32, id: &NodeId) -> Vec<Victim> {
        let Some(seat) = self.books.seats.get(id) else { return vec![] };
        let mut lower = vec![];
        for key in &seat.services {
            let its = self.books.priority_of(key);
            // Who follows another goes with it, and gives nothing back by itself.
            if its >= priority || self.leader(key).is_some() {
                continue;
            }
            let Some(placed) = self.books.placed.get(key) else { continue };
            let slots = placed.on.get(id).into_iter().flatten();
            let active = slots.filter(|slot| !placed.resting.contains(&(id.clone(), **slot)));
            lower.extend(active.map(|slot| Victim {
                priority: its,
                key: key.clone(),
                slot: *slot,
            }));
        }
        lower
    }

    fn evict(&mut self, victim: Victim, id: &NodeId, (key, wanted): (&ServiceKey, &Wanted)) {
        let Victim { priority, key: other, slot } = victim;
        self.books.rise(&other, (id, slot));
        let by_node = self.wanted.get(&other).is_some_and(|wanted| wanted.mode.is_global());
        let node = by_node.then(|| id.clone());
        let reason = format!(
            "gave its place on {id} to {key} (priority {} before {priority})",
            wanted.priority
        );
        self.gave_way.insert((other.clone(), node, slot), reason);
        self.look(&other, Look::on(id));
    }
}
