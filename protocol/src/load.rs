//! What nodes and instances have left: told only while somebody looks.

use alloc::string::String;

use serde::{Deserialize, Serialize};

/// Time in which something in an instance waited for what it needed, in hundredths of a hundredth of the last ten
/// seconds (PSI, `some avg10`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pressure {
    /// For a processor.
    #[serde(default)]
    pub cpu: u32,
    /// For memory.
    #[serde(default)]
    pub memory: u32,
    /// For a disk.
    #[serde(default)]
    pub io: u32,
}

/// What a node has used and has left. What its kernel or board does not tell is none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeLoad {
    /// Time in which its processors worked, in a unit of the kernel's.
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
    #[serde(default, skip_serializing_if = "is_false")]
    pub is_slowed: bool,
    /// The supply voltage is too low.
    #[serde(default, skip_serializing_if = "is_false")]
    pub undervoltage: bool,
    /// Free space where containers write, in thousandths.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_free: Option<u32>,
    /// Whether there is room for more.
    pub room: NodeRoom,
    /// What is at its end, in words, if something is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
}

/// Whether there is room on a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeRoom {
    /// There is.
    Ample,
    /// For what runs, not for more.
    Tight,
    /// Services that follow their load give way.
    Short,
    /// Something that the reader does not know.
    #[serde(other)]
    Other,
}

impl NodeRoom {
    /// As lists and the API show it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ample => "ample",
            Self::Tight => "tight",
            Self::Short => "short",
            Self::Other => "other",
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
const fn is_false(value: &bool) -> bool {
    !*value
}
