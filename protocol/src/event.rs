//! Events: what happened on a node, in order, for people to read.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::id::InstanceId;

/// Some events of one node. The controller answers with a [`Cursor`]; what is not acknowledged is sent again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventBatch {
    /// Which start of the node's kernel they are from.
    #[serde(rename = "b")]
    pub boot: u64,
    /// In the order of their sequence numbers.
    #[serde(rename = "e")]
    pub events: Vec<Event>,
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Counts from 1 in each boot; a gap means that events were dropped.
    #[serde(rename = "q")]
    pub sequence: u64,
    /// When, by the node's clock: milliseconds since 1970.
    #[serde(rename = "t")]
    pub at_ms: u64,
    /// What kind.
    #[serde(rename = "k")]
    pub kind: EventKind,
    /// About which instance, if about one.
    #[serde(rename = "i", default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<InstanceId>,
    /// What a person should know.
    #[serde(rename = "m")]
    pub message: String,
}

/// Kinds of events. A kind that the reader does not know is [`EventKind::Other`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// The agent started.
    AgentStarted,
    /// An assignment was taken over.
    AssignmentAccepted,
    /// An assignment was refused.
    AssignmentRefused,
    /// An image is being fetched.
    Pulling,
    /// An image is there.
    Pulled,
    /// An instance runs.
    Started,
    /// An instance ended by itself.
    Exited,
    /// An instance was ended by the kernel for want of memory.
    OutOfMemory,
    /// An instance will be started again later.
    BackOff,
    /// An instance could not be made.
    CreateFailed,
    /// An image could not be had.
    PullFailed,
    /// An instance was stopped.
    Stopped,
    /// A running instance was found again after a restart of the agent.
    Adopted,
    /// An instance was found healthy.
    Healthy,
    /// An instance was found unhealthy, and is replaced.
    Unhealthy,
    /// An instance may get traffic.
    Ready,
    /// An instance may not get traffic any more.
    NotReady,
    /// Another number of instances was decided for a service.
    Scaled,
    /// Something else.
    #[serde(other)]
    Other,
}

/// Up to where the controller has a node's events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Cursor {
    /// Which boot.
    #[serde(rename = "b")]
    pub boot: u64,
    /// The last sequence number that the controller keeps.
    #[serde(rename = "q")]
    pub sequence: u64,
}
