//! The report: everything that one node does run.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::assignment::Generation;
use crate::id::{InstanceId, SpecHash};
use crate::network::NetworkReport;
use crate::phase::Phase;
use crate::scale::ScaleReport;

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
    /// Specs that come next ([`crate::assignment::AssignedService::next`]), or of services that may run here and
    /// do not, and whose images are here.
    #[serde(rename = "n", default, skip_serializing_if = "Vec::is_empty")]
    pub staged: Vec<SpecHash>,
    /// How its network fares; none before it has one.
    #[serde(rename = "w", default, skip_serializing_if = "Option::is_none")]
    pub network: Option<NetworkReport>,
    /// Specs that run here or come next and whose image could not be had so far, at most
    /// [`crate::limits::MAX_NO_IMAGE`].
    #[serde(rename = "l", default, skip_serializing_if = "Vec::is_empty")]
    pub no_image: Vec<NoImage>,
    /// What it decided about services that follow their load.
    #[serde(rename = "s", default, skip_serializing_if = "Vec::is_empty")]
    pub scales: Vec<ScaleReport>,
}

/// An image that could not be had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoImage {
    /// Of which spec.
    #[serde(rename = "h")]
    pub spec: SpecHash,
    /// Why not, for a person to read.
    #[serde(rename = "r")]
    pub reason: String,
    /// How often in a row it was tried; it is tried again.
    #[serde(rename = "t")]
    pub tries: u32,
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
    /// What its health check or live probe says; none where it has neither.
    #[serde(rename = "e", default, skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
    /// Whether it may get traffic; none is: as soon as it runs.
    #[serde(rename = "y", default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<bool>,
    /// How many tries of this spec in this slot went wrong: ended against the restart policy's idea
    /// of success, could not be made, or were replaced because they were unhealthy.
    #[serde(rename = "f", default, skip_serializing_if = "is_zero")]
    pub failures: u32,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl InstanceStatus {
    /// Whether it may get traffic.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.phase == Phase::Running && self.ready.unwrap_or(true)
    }
}

/// How healthy a running instance is, in the words of Docker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// It has not been found healthy yet, and its start period or retries are not used up.
    Starting,
    /// The last check succeeded.
    Healthy,
    /// As many checks in a row failed as the retries allow.
    Unhealthy,
}

impl Health {
    /// As the lists and the API show it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        }
    }
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
