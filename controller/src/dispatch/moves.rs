//! The way of instances off drained nodes: what the nodes say takes the planner's moves on.

use limpet_protocol::assignment::AssignedService;
use limpet_protocol::id::{NodeId, Slot};
use limpet_protocol::phase::Phase;

use crate::plan::{ServiceKey, Stage, Standing};
use crate::world::World;

impl World {
    /// Tells the planner of the moves whose next step has come.
    pub(crate) fn advance_moves(&mut self) {
        let (mut left, mut arrived) = (vec![], vec![]);
        for (key, slot, step) in self.planner.moves() {
            match step.stage {
                Stage::Leaving if self.has_left(key, slot, &step.from) => {
                    left.push((key.clone(), slot));
                }
                Stage::Coming { .. } if self.has_arrived(key, slot, &step.to) => {
                    arrived.push((key.clone(), slot));
                }
                _ => {}
            }
        }
        for (key, slot) in left {
            self.planner.left(&key, slot);
        }
        for (key, slot) in arrived {
            self.planner.arrived(&key, slot);
        }
    }

    /// Whether a node that is to give a slot has stopped it: it has taken over the assignment
    /// without the slot and reports nothing of it, or it is lost.
    fn has_left(&self, key: &ServiceKey, slot: Slot, from: &NodeId) -> bool {
        let Some(node) = self.fleet.get(from) else { return true };
        if node.standing == Standing::Lost {
            return true;
        }
        let told = self.dispatch.wanted(from);
        let is_told = told.is_some_and(|told| {
            node.observed >= Some(told.generation)
                && !told.services.iter().any(|share| holds(share, key, slot))
        });
        let status = node.instances.get(&key.instance(slot));
        is_told && status.is_none_or(|status| status.phase == Phase::Removed)
    }

    /// Whether a slot is ready on the node that takes it, or has run to its end there.
    fn has_arrived(&self, key: &ServiceKey, slot: Slot, to: &NodeId) -> bool {
        if self.planner.progress().is_over(key, to, slot) {
            return true;
        }
        let Some(node) = self.fleet.get(to) else { return false };
        let Some(status) = node.instances.get(&key.instance(slot)) else { return false };
        let told = self.dispatch.wanted(to).into_iter().flat_map(|told| &told.services);
        let mut shares = told.filter(|share| holds(share, key, slot));
        shares.any(|share| share.spec == status.spec)
            && (status.is_ready() || status.phase == Phase::Completed)
    }
}

/// Whether a share has a slot of a service.
pub(super) fn holds(share: &AssignedService, key: &ServiceKey, slot: Slot) -> bool {
    share.application == key.application
        && share.service == key.service
        && share.slots.contains(&slot)
}
