//! What the API says of rollouts and earlier revisions, as JSON.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::rollout::Progress;

/// How far a service is on its way from one spec to the next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RolloutView {
    /// `updating`, `paused`, `rolling_back`, `rollback_paused`, `rolled_back`, or `done` while
    /// some are away.
    pub state: String,
    /// How many instances have what they shall have.
    pub updated: u32,
    /// How many there are.
    pub total: u32,
    /// How many failed.
    pub failed: u32,
    /// How many are on nodes that cannot be reached; they follow when those are back.
    pub away: u32,
    /// Why it is not further, or why it went back.
    pub reason: Option<String>,
    /// All of it in words: `updating 2/5`.
    pub summary: String,
}

/// A service and how far it is on its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServiceRolloutView {
    /// The service.
    pub service: String,
    /// Whether all is as wanted.
    pub settled: bool,
    /// How far it is; none when it is at rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutView>,
}

/// What is to happen to a rollout.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RolloutRequest {
    /// `pause`, `resume` or `undo`.
    pub action: String,
    /// Of which service; none is all of them.
    #[serde(default)]
    pub service: Option<String>,
    /// The revision that `undo` goes back to; none is the newest that is another.
    #[serde(default)]
    pub to_revision: Option<u64>,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RolloutOutcome {
    /// The application.
    pub application: String,
    /// The services that it happened to.
    pub services: Vec<String>,
    /// The revision of an `undo`.
    pub revision: Option<u64>,
}

/// One revision of an application.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RevisionView {
    /// The store's revision at which it was written.
    pub revision: u64,
    /// When: milliseconds since 1970.
    pub applied_ms: u64,
    /// What it was, in words: `apply: ~web`.
    pub change: String,
    /// The services that came, changed or went with it.
    pub changed: Vec<String>,
    /// Whether it is the one that is wanted now.
    pub current: bool,
}

impl From<Progress> for RolloutView {
    fn from(progress: Progress) -> Self {
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        Self {
            summary: progress.in_words(),
            state: progress.state.to_owned(),
            updated: number(progress.done),
            total: number(progress.units),
            failed: number(progress.failed),
            away: number(progress.away),
            reason: progress.reason,
        }
    }
}
