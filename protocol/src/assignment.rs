//! The assignment: everything that one node shall run.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::id::{ApplicationName, NodeId, ServiceName, Slot, SpecHash};

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
    /// Which replicas run here.
    #[serde(rename = "l")]
    pub slots: Vec<Slot>,
}
