//! The assignment: everything that one node shall run.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::id::{ApplicationName, NodeId, ServiceName, Slot, SpecHash};
use crate::network::NodeNetwork;
use crate::scale::Scaling;

/// Where an assignment stands in the order of all assignments of its node.
///
/// The epoch grows when the controller's database is restored or replaced, the generation with
/// every change for that node. Compared epoch first; an agent never goes back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Generation {
    /// Which life of the controller's database.
    #[serde(rename = "e")]
    pub epoch: u64,
    /// Which assignment of this node in that life.
    #[serde(rename = "g")]
    pub number: u64,
}

/// The full set of what a node shall run. What is not in it is stopped and removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// For whom. An agent refuses an assignment made for another node.
    #[serde(rename = "n")]
    pub node: NodeId,
    /// Its place in the order.
    #[serde(rename = "g")]
    pub generation: Generation,
    /// The services with instances on this node.
    #[serde(rename = "s")]
    pub services: Vec<AssignedService>,
    /// How they find and reach others; none if none of them has a network.
    #[serde(rename = "w", default, skip_serializing_if = "Option::is_none")]
    pub network: Option<NodeNetwork>,
}

/// A service's share of one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssignedService {
    /// The application.
    #[serde(rename = "a")]
    pub application: ApplicationName,
    /// The service.
    #[serde(rename = "s")]
    pub service: ServiceName,
    /// What each instance is; the spec itself is on its own topic.
    #[serde(rename = "h")]
    pub spec: SpecHash,
    /// Which replicas run here. While a service is updated it has one share for each of its specs.
    #[serde(rename = "l")]
    pub slots: Vec<Slot>,
    /// Slots among them that have completed for good: they are not started again, not even after a
    /// reboot.
    #[serde(rename = "d", default, skip_serializing_if = "Vec::is_empty")]
    pub done: Vec<Slot>,
    /// Which goes first when a slot's container is replaced.
    #[serde(rename = "o", default, skip_serializing_if = "UpdateOrder::is_default")]
    pub order: UpdateOrder,
    /// The spec that comes next: the node fetches its image now and says so in its report
    /// ([`crate::report::Report::staged`]).
    #[serde(rename = "n", default, skip_serializing_if = "Option::is_none")]
    pub next: Option<SpecHash>,
    /// Services of `depends_on` whose condition holds on other nodes; none of a service that depends on
    /// nothing, and from controllers that do not judge it: their nodes wait for what they have alone.
    #[serde(rename = "m", default, skip_serializing_if = "Option::is_none")]
    pub met: Option<Vec<ServiceName>>,
    /// Between which bounds the node decides how many of the slots run; none is all of them.
    #[serde(rename = "c", default, skip_serializing_if = "Option::is_none")]
    pub scale: Option<Scaling>,
}

impl AssignedService {
    /// A share that says no more than what runs.
    #[must_use]
    pub const fn new(
        application: ApplicationName,
        service: ServiceName,
        spec: SpecHash,
        slots: Vec<Slot>,
    ) -> Self {
        Self {
            application,
            service,
            spec,
            slots,
            done: Vec::new(),
            order: UpdateOrder::StopFirst,
            next: None,
            met: None,
            scale: None,
        }
    }
}

/// Which goes first when a container is replaced by one of a new spec (`update_config.order`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UpdateOrder {
    /// The old one ends before the new one is started.
    #[default]
    StopFirst,
    /// The new one is ready before the old one is stopped.
    StartFirst,
}

impl UpdateOrder {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}
