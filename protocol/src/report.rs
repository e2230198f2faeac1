//! The report: everything that one node does run.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::assignment::Generation;
use crate::id::{InstanceId, SpecHash};
use crate::phase::Phase;

/// The whole of what a node runs, published on change only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Which start of the node's kernel it is from.
    #[serde(rename = "b")]
    pub boot: u64,
    /// Which report of that boot; of two, the greater is the true one.
    #[serde(rename = "q")]
    pub sequence: u64,
    /// The newest assignment that the node holds on disk; none before the first.
    #[serde(rename = "g", default, skip_serializing_if = "Option::is_none")]
    pub observed: Option<Generation>,
    /// Every instance that the node knows of.
    #[serde(rename = "i")]
    pub instances: Vec<InstanceStatus>,
}

/// How one instance fares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceStatus {
    /// Which.
    #[serde(rename = "i")]
    pub instance: InstanceId,
    /// Which try in this slot, from 1.
    #[serde(rename = "t")]
    pub attempt: u32,
    /// Which spec it runs.
    #[serde(rename = "h")]
    pub spec: SpecHash,
    /// How far it has come.
    #[serde(rename = "p")]
    pub phase: Phase,
    /// Why it is there and not further, for a person to read.
    #[serde(rename = "r", default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// How the last attempt ended, if one has.
    #[serde(rename = "x", default, skip_serializing_if = "Option::is_none")]
    pub last_exit: Option<Exit>,
    /// When the phase was entered, by the node's clock: milliseconds since 1970. The node's clock
    /// may be wrong; it is for people, no decision uses it.
    #[serde(rename = "s")]
    pub since_ms: u64,
}

/// How a container ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// Its exit code; 128 + the signal's number if a signal ended it; none if it was lost because
    /// the keeper was not there to see it.
    #[serde(rename = "c", default, skip_serializing_if = "Option::is_none")]
    pub code: Option<i32>,
    /// Whether the kernel killed one of its processes for want of memory.
    #[serde(rename = "o", default)]
    pub out_of_memory: bool,
}
