//! What instances and nodes use now, in the shapes of the API.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::scale_types::ScaleLoadView;

/// What instances and nodes use now.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LoadList {
    /// The instances that run.
    pub items: Vec<LoadView>,
    /// The nodes that were asked.
    #[serde(default)]
    pub nodes: Vec<NodeLoadView>,
    /// What nodes decide now about services that follow their load, with the figures of now.
    #[serde(default)]
    pub scales: Vec<ScaleLoadView>,
    /// Nodes that did not answer, and why.
    pub unanswered: BTreeMap<String, String>,
}

/// What one instance has used and uses. A share of the processor is the difference between two.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LoadView {
    /// `application.service.slot`.
    pub instance: String,
    /// The node that it is on.
    pub node: String,
    /// When this was read, in milliseconds of a clock of the node that only goes forward.
    pub at_ms: u64,
    /// Processor time since the container began, in microseconds.
    pub cpu_us: u64,
    /// Memory in use, in bytes.
    pub memory_bytes: u64,
    /// What it may use at most, in bytes.
    pub memory_limit_bytes: Option<u64>,
    /// Its processes and threads.
    pub pids: u32,
    /// How many it may have at most.
    pub pids_limit: Option<u32>,
    /// Bytes that came in since its network came to be; none if it has no network of its own. A rate is
    /// the difference between two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub received_bytes: Option<u64>,
    /// Bytes that went out, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent_bytes: Option<u64>,
    /// How long it waited for what it needed; none where the kernel does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pressure: Option<PressureView>,
}

/// Time in which something in an instance waited, in hundredths of a hundredth of the last ten seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PressureView {
    /// For a processor.
    pub cpu: u32,
    /// For memory.
    pub memory: u32,
    /// For a disk.
    pub io: u32,
}

/// What a node has used and has left. What its kernel or board does not tell is none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeLoadView {
    /// Which node.
    pub node: String,
    /// Time in which its processors worked, in a unit of its kernel's.
    pub busy: u64,
    /// All time of its processors, in the same unit: the share of work is the difference between two.
    pub time: u64,
    /// All memory that containers may have, in bytes.
    pub memory_bytes: u64,
    /// What of it could be had.
    pub available_bytes: u64,
    /// Time in which everything waited for memory, in hundredths of a hundredth of the last ten seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_pressure: Option<u32>,
    /// The hottest place, in thousandths of a degree Celsius.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<i32>,
    /// The kernel slows the processor down for its heat.
    pub is_slowed: bool,
    /// The supply voltage is too low.
    pub undervoltage: bool,
    /// Free space where containers write, in thousandths.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_free: Option<u32>,
    /// Whether there is room for more: `ample`, `tight` (for what runs) or `short` (services give way).
    pub room: String,
    /// What is at its end, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
}
