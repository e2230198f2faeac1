//! A node's share of all that is wanted: where the planner put it, and what goes with it.

use limpet_protocol::assignment::AssignedService;
use limpet_protocol::id::NodeId;

use crate::world::World;

impl World {
    /// What a node shall run, in the order of the names.
    pub(crate) fn share(&self, id: &NodeId) -> Vec<AssignedService> {
        self.planner.share(id)
    }
}
