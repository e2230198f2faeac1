//! Rollouts: which spec each slot of a service has. No clock, no chance, no I/O.
//!
//! In: what is wanted of each service ([`Aim`]), where its slots are, what was last seen of them
//! ([`Seen`]), and the time. Out: the spec of every slot ([`Rollouts::spec_of`]), the nodes that
//! have to be told, and how far it is, in words. The planner says where slots are; here it is said
//! what they run.
//!
//! The rules are those of SwarmKit's updater (`manager/orchestrator/update/updater.go`,
//! `api/types.proto`, `UpdateConfig`):
//! 1. At most `parallelism` slots are on their way at a time; each place among them is free again
//!    `delay` after its slot was ready or failed. `monitor` holds nothing up: it says how long a
//!    failure still counts, and how long after the last slot the rollout is over.
//! 2. A slot failed when, on its way or within `monitor`, it had a try that went wrong, ended for
//!    good or is unhealthy. When more than `max_failure_ratio` of the slots that were to be changed
//!    have failed, `failure_action` happens before another slot is begun.
//! 3. A rollback follows `rollback_config`; one that fails pauses. It goes to the spec that last
//!    proved itself, where SwarmKit goes to the one before, proven or not.
//! 4. A new target supersedes a rollout. New slots start with the target; those that are placed
//!    elsewhere keep what they have until their turn.
//!
//! Beyond it: with `x-rollout` slots are begun in waves over the fleet, each when enough of the one
//! before came up; the images of a wave are on their nodes before the first container of it is
//! stopped; and no slot is begun that would take down one more than may be ([`waves`]). Slots on nodes that cannot be reached neither stall nor count, and follow under the
//! same rules when they are back. Services are brought to their targets in the order of
//! `depends_on`.
//!
//! A slot whose node says that it cannot have the image has failed, once for each slot; it is not
//! begun, and follows under the same rules when the image is there after all.
//!
//! A service at rest costs nothing here: its slots are looked at only while some are on their way.

mod course;
mod crew;
mod order;
mod record;
mod rollouts;
mod waves;
mod words;

use std::collections::BTreeSet;

use limpet_protocol::application::{Mode, Service, UpdatePolicy, WavePolicy};
use limpet_protocol::id::{NodeId, ServiceName, Slot, SpecHash};
use limpet_protocol::phase::Phase;
use limpet_protocol::report::{Exit, Health, InstanceStatus, NoImage};

pub use order::{dependencies_first, following};
pub use record::RolloutRecord;
pub use rollouts::{Effects, Rollouts};
pub use waves::{in_waves, named_by};
pub use words::Progress;

/// What has a spec of its own: a slot, wherever it is, or the slot of a node where each has one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Unit {
    /// A slot of a replicated service.
    Slot(Slot),
    /// A node of a global one.
    Node(NodeId),
}

impl Unit {
    /// The unit of a slot on a node.
    #[must_use]
    pub fn of(mode: Mode, node: &NodeId, slot: Slot) -> Self {
        if mode.is_global() { Self::Node(node.clone()) } else { Self::Slot(slot) }
    }

    /// Its slot.
    #[must_use]
    pub const fn slot(&self) -> Slot {
        match self {
            Self::Slot(slot) => *slot,
            Self::Node(_) => Slot(1),
        }
    }
}

/// What is wanted of a service, as far as its rollout goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Aim {
    /// The target.
    pub spec: SpecHash,
    /// How many there are; jobs are not rolled out, they run.
    pub mode: Mode,
    /// How it comes to the target.
    pub update: UpdatePolicy,
    /// How it goes back.
    pub rollback: UpdatePolicy,
    /// In which waves.
    pub waves: Option<WavePolicy>,
    /// Services of the same application that go first.
    pub after: BTreeSet<ServiceName>,
}

impl Aim {
    /// Whether its waves begin only at some times.
    pub(crate) fn has_window(&self) -> bool {
        self.waves.as_ref().is_some_and(|waves| waves.window.is_some())
    }

    /// What a rollout needs to know of a service whose spec has this hash.
    #[must_use]
    pub fn of(service: &Service, spec: SpecHash) -> Self {
        let after = service.spec.depends_on.iter().map(|one| one.service.clone());
        Self {
            spec,
            mode: service.places(),
            update: service.update,
            rollback: service.rollback,
            waves: service.waves.clone(),
            after: after.collect(),
        }
    }
}

/// What was last seen of a unit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// Its node; none while it has no place.
    pub node: Option<NodeId>,
    /// Whether that node can be reached.
    pub reachable: bool,
    /// What the node said last of it.
    pub status: Option<UnitStatus>,
    /// Whether the node has the image of the spec that comes next, or is none that would say so.
    pub staged: bool,
    /// Why the node could not have that image so far, if it says so.
    pub no_image: Option<NoImage>,
    /// Which waves name the node, a bit for each.
    pub waves: u32,
}

/// What a node said of a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitStatus {
    /// Which spec it is about.
    pub spec: SpecHash,
    /// Whether it does what it is there for.
    pub up: bool,
    /// What went wrong with it, in words.
    pub failed: Option<String>,
}

impl UnitStatus {
    /// What an instance's status says to a rollout.
    #[must_use]
    pub fn of(status: &InstanceStatus) -> Self {
        let healthy = !matches!(status.health, Some(Health::Starting | Health::Unhealthy));
        let up = (status.is_ready() && healthy) || status.phase == Phase::Completed;
        let why = |what: &str| match (&status.reason, status.last_exit) {
            (Some(reason), _) => format!("{what}: {reason}"),
            (None, Some(Exit { out_of_memory: true, .. })) => {
                format!("{what}: it used more memory than its limit")
            }
            (None, Some(Exit { code: Some(code), .. })) => format!("{what}: exit code {code}"),
            (None, _) => what.to_owned(),
        };
        let failed = if status.phase == Phase::Failed {
            Some(why("failed"))
        } else if status.health == Some(Health::Unhealthy) {
            Some(why("is unhealthy"))
        } else {
            (status.failures > 0).then(|| why("did not last"))
        };
        Self { spec: status.spec, up, failed }
    }
}

/// What people may ask of a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Begin no further slot.
    Pause,
    /// Go on; after a rollback, try again. What failed before does not count any more.
    Resume,
}

#[cfg(test)]
mod tests;
