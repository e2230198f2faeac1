//! The application: what a person wants, as the controller keeps it.
//!
//! `limpet apply` makes one of a Compose file; the API takes and gives it as JSON.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::assignment::UpdateOrder;
use crate::id::{ApplicationName, ServiceName};
use crate::scale::{Per, ScalePolicy};
use crate::spec::Spec;
use crate::window::Window;

/// A named set of services applied together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Application {
    /// Its name: the Compose project's.
    pub name: ApplicationName,
    /// Its services, each under its own name.
    pub services: BTreeMap<ServiceName, Service>,
}

/// One service: what each instance is, how many there are and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// What each instance is.
    pub spec: Spec,
    /// How many instances (`deploy.mode`, `deploy.replicas`, `scale`).
    pub mode: Mode,
    /// Where they may run (`deploy.placement`).
    #[serde(default)]
    pub placement: Placement,
    /// Labels of the service (`deploy.labels`).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// How it comes from one spec to the next (`deploy.update_config`).
    #[serde(default, skip_serializing_if = "is_default")]
    pub update: UpdatePolicy,
    /// How it goes back (`deploy.rollback_config`).
    #[serde(default, skip_serializing_if = "is_default")]
    pub rollback: UpdatePolicy,
    /// In which waves over the fleet (`deploy.x-rollout`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waves: Option<WavePolicy>,
    /// How the number of instances follows the load (`deploy.x-autoscale`); none is not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autoscale: Option<ScalePolicy>,
    /// The greater is placed first and, where there is no room, in the place of the smaller
    /// (`deploy.x-priority`).
    #[serde(default, skip_serializing_if = "is_default")]
    pub priority: i32,
    /// Nothing of it runs until it is started again (`limpet stop`).
    #[serde(default, skip_serializing_if = "is_default")]
    pub stopped: bool,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Service {
    /// How many places it has: of a service that is scaled as a whole as many as its policy allows,
    /// whatever runs in them.
    #[must_use]
    pub fn places(&self) -> Mode {
        match (&self.autoscale, self.mode) {
            (Some(policy), Mode::Replicated { .. }) if policy.per == Per::Application => {
                Mode::Replicated { replicas: policy.max }
            }
            (_, mode) => mode,
        }
    }

    /// A service with the defaults of everything that it need not say.
    #[must_use]
    pub fn new(spec: Spec, mode: Mode) -> Self {
        Self {
            spec,
            mode,
            placement: Placement::default(),
            labels: BTreeMap::new(),
            update: UpdatePolicy::default(),
            rollback: UpdatePolicy::default(),
            waves: None,
            autoscale: None,
            priority: 0,
            stopped: false,
        }
    }
}

/// How instances are brought to another spec (`update_config`, `rollback_config`). Meanings and
/// defaults are those of SwarmKit (`api/types.proto`, `UpdateConfig`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UpdatePolicy {
    /// How many at a time; 0 is all at once.
    pub parallelism: u32,
    /// Between one group and the next, in milliseconds.
    pub delay_ms: u64,
    /// What happens when too many have failed.
    pub failure_action: FailureAction,
    /// How long an instance is watched for a failure after it was updated, in milliseconds.
    pub monitor_ms: u64,
    /// Failures that are borne, in millionths of the instances.
    pub max_failure_ppm: u32,
    /// Which goes first.
    pub order: UpdateOrder,
}

impl Default for UpdatePolicy {
    fn default() -> Self {
        Self {
            parallelism: 1,
            delay_ms: 0,
            failure_action: FailureAction::default(),
            monitor_ms: 5_000,
            max_failure_ppm: 0,
            order: UpdateOrder::default(),
        }
    }
}

/// Waves over the fleet: which instances are brought to another spec before others, and what has to
/// hold until the next are begun (`deploy.x-rollout`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct WavePolicy {
    /// One after the other. Whoever is in none of them comes last.
    pub waves: Vec<Wave>,
    /// How many of a hundred instances of a wave must have come to the new spec before the next
    /// wave begins.
    pub success_percent: u32,
    /// So many failures end it at once, as `failure_action` says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub abort: Option<Portion>,
    /// At most so many instances may be down at a time, whatever the reason: nothing is begun that
    /// would take another one down.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_unavailable: Option<Portion>,
    /// Waves begin only while it is open; one that has begun goes on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<Window>,
}

impl Default for WavePolicy {
    fn default() -> Self {
        Self {
            waves: Vec::new(),
            success_percent: 100,
            abort: None,
            max_unavailable: None,
            window: None,
        }
    }
}

/// One wave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wave {
    /// Instances on nodes for which all of these hold.
    Nodes(Vec<Constraint>),
    /// As many as are needed until so many of a hundred instances on nodes that can be reached are
    /// updated.
    Percent(u32),
}

/// A number, or a share of all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Portion {
    /// So many.
    Count(u32),
    /// So many of a hundred.
    Percent(u32),
}

impl Portion {
    /// How many that is of a number; one at least, so that something can happen at all.
    #[must_use]
    pub fn of(self, all: usize) -> usize {
        let number = match self {
            Self::Count(count) => usize::try_from(count).unwrap_or(usize::MAX),
            Self::Percent(percent) => {
                all.saturating_mul(usize::try_from(percent).unwrap_or(usize::MAX)).div_ceil(100)
            }
        };
        number.max(1)
    }
}

/// What happens when too many instances fail to come to a new spec.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureAction {
    /// The update stops where it is.
    #[default]
    Pause,
    /// It goes on.
    Continue,
    /// It goes back. Of a rollback itself the same as [`FailureAction::Pause`].
    Rollback,
}

/// How many instances a service has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// A number of them, wherever they fit.
    Replicated {
        /// How many.
        replicas: u32,
    },
    /// One on each node that matches.
    Global,
    /// A number of runs that end, each in a slot of its own.
    ReplicatedJob {
        /// How many have to complete.
        completions: u32,
        /// How many run at a time.
        parallelism: u32,
    },
    /// One run on each node that matches.
    GlobalJob,
}

impl Mode {
    /// As `deploy.mode` spells it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Replicated { .. } => "replicated",
            Self::Global => "global",
            Self::ReplicatedJob { .. } => "replicated-job",
            Self::GlobalJob => "global-job",
        }
    }

    /// Whether its instances run to an end.
    #[must_use]
    pub const fn is_job(self) -> bool {
        matches!(self, Self::ReplicatedJob { .. } | Self::GlobalJob)
    }

    /// Whether there is one on each node.
    #[must_use]
    pub const fn is_global(self) -> bool {
        matches!(self, Self::Global | Self::GlobalJob)
    }

    /// How many slots there are, where that is a number of its own.
    #[must_use]
    pub const fn slots(self) -> Option<u32> {
        match self {
            Self::Replicated { replicas } => Some(replicas),
            Self::ReplicatedJob { completions, .. } => Some(completions),
            Self::Global | Self::GlobalJob => None,
        }
    }
}

/// Where instances may run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Placement {
    /// All of them must hold on a node.
    pub constraints: Vec<Constraint>,
    /// Spread over the values of these node labels, the first first.
    pub spread: Vec<String>,
    /// Most instances of the service on one node; none is no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_replicas_per_node: Option<u32>,
    /// Instances may leave the nodes where their named volumes are (`deploy.x-volumes: move`).
    #[serde(skip_serializing_if = "is_default")]
    pub leaves_volumes: bool,
}

/// One placement constraint, as Docker Swarm writes them: `node.labels.site == north`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Constraint {
    /// Which attribute of the node.
    pub attribute: Attribute,
    /// Whether it must equal or must not equal the value.
    pub equal: bool,
    /// The value. Compared without regard to case, as Swarm does.
    pub value: String,
}

/// An attribute of a node that constraints can name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Attribute {
    /// `node.id`.
    Id,
    /// `node.hostname`.
    Hostname,
    /// `node.platform.os`.
    Os,
    /// `node.platform.arch`.
    Architecture,
    /// `node.labels.KEY`; a label that a node lacks has the empty value.
    Label(String),
}
