//! When runs of a job begin.

use alloc::string::String;

use serde::{Deserialize, Serialize};

use super::is_default;

/// When runs of a job begin (`x-schedule`), decided on the node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    /// Five fields as crontab(5) has them: minute, hour, day of month, month, day of week.
    pub cron: String,
    /// The time zone's rule as POSIX.1 `TZ` writes it (`CET-1CEST,M3.5.0,M10.5.0/3`): a node needs
    /// no time zone database. Empty is UTC.
    #[serde(default, skip_serializing_if = "is_default")]
    pub zone: String,
    /// What becomes of runs whose time passed while the node slept or was off.
    #[serde(default, skip_serializing_if = "is_default")]
    pub missed: MissedRuns,
    /// A missed run is made up for only within so long; none is without end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
    /// What happens when a run is due while one goes on.
    #[serde(default, skip_serializing_if = "is_default")]
    pub overlap: Overlap,
}

/// What becomes of missed runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MissedRuns {
    /// They are left out.
    Skip,
    /// One run makes up for all of them.
    #[default]
    Once,
    /// Each is made up for, one after the other, up to a limit.
    All,
}

/// What happens when a run is due while one goes on (Kubernetes' `concurrencyPolicy` without
/// `Allow`: a slot has one run).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overlap {
    /// The new one is left out.
    #[default]
    Forbid,
    /// The one that goes on is stopped.
    Replace,
}
