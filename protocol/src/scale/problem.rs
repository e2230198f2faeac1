//! What can be wrong with a policy, where, and what to do instead. The Compose reader and the API say the
//! same sentences.

use alloc::string::String;

use crate::id::Slot;
use crate::limits::MAX_METRICS_PER_SERVICE;

/// Why a policy makes no sense. [`PolicyError::field`] says where, [`PolicyError::advice`] what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// The most is none.
    #[error("at most none: the service would never run")]
    MaxZero,
    /// The most is more than there may be.
    #[error("{max} are too many, at most {limit}")]
    MaxTooLarge {
        /// What it says.
        max: u32,
        /// What it may say.
        limit: u32,
    },
    /// The least is more than the most.
    #[error("the least, {min}, is more than the most, {max}")]
    MinOverMax {
        /// The least.
        min: u32,
        /// The most.
        max: u32,
    },
    /// Nothing says what the number should follow.
    #[error("there is no target: nothing says what the number of instances follows")]
    NoTarget,
    /// A target of nothing, or beyond all bounds.
    #[error("a target of {percent} % cannot be aimed at")]
    BadPercent {
        /// Of what.
        field: &'static str,
        /// What it says.
        percent: u32,
    },
    /// A share of something that has no size.
    #[error("{percent} % of what? Nothing is reserved for the service, and it has no limit")]
    NothingToRelateTo {
        /// Of what.
        field: &'static str,
        /// What it says.
        percent: u32,
    },
    /// More metrics than anyone needs.
    #[error("{count} metrics are too many, at most {MAX_METRICS_PER_SERVICE}")]
    TooManyMetrics {
        /// How many.
        count: usize,
    },
    /// A metric whose parts do not fit.
    #[error("the metric {name:?} {what}")]
    BadMetric {
        /// Which.
        name: String,
        /// What is wrong.
        what: &'static str,
    },
    /// A window or period that is longer than is kept.
    #[error("{ms} ms are too long, at most {limit} ms")]
    TooLong {
        /// Of which direction.
        field: &'static str,
        /// What it says.
        ms: u64,
        /// What it may say.
        limit: u64,
    },
    /// A rate without a time, or one of nothing.
    #[error("{what}")]
    BadPace {
        /// Of which direction.
        field: &'static str,
        /// What is wrong.
        what: &'static str,
    },
    /// A job or a schedule.
    #[error("runs that end are not scaled by their load")]
    Ends,
    /// Global services have no number over the fleet.
    #[error("a global service has one instance on each node, not a number over all of them")]
    GlobalPerApplication,
    /// More homes than numbers for what comes beside them.
    #[error("{replicas} are too many with bounds for each node, at most {limit}", limit = Slot::MAX_HOME)]
    TooManyHomes {
        /// How many.
        replicas: u32,
    },
    /// The number to begin with is outside of the bounds.
    #[error("{replicas} instances are not within {min} to {max}")]
    ReplicasOutside {
        /// To begin with.
        replicas: u32,
        /// The least.
        min: u32,
        /// The most.
        max: u32,
    },
    /// Several instances on one node want the same port of it.
    #[error("port {port} of the node can be had by one instance only")]
    FixedPort {
        /// Which.
        port: u16,
    },
    /// Several instances on one node want the same address.
    #[error("a fixed address can be had by one instance only")]
    FixedAddress,
    /// Its network is another service's, slot by slot.
    #[error("it shares the network of another service, slot by slot")]
    Joined,
    /// From none there is no way back.
    #[error("with no instance nothing tells when one is needed again")]
    NoWayUp,
}

impl PolicyError {
    /// Which field of the policy it is about; the empty text is the policy as a whole.
    #[must_use]
    pub const fn field(&self) -> &'static str {
        match self {
            Self::MaxZero
            | Self::MaxTooLarge { .. }
            | Self::FixedPort { .. }
            | Self::FixedAddress => "max",
            Self::MinOverMax { .. } | Self::NoWayUp => "min",
            Self::BadPercent { field, .. }
            | Self::NothingToRelateTo { field, .. }
            | Self::TooLong { field, .. }
            | Self::BadPace { field, .. } => field,
            Self::TooManyMetrics { .. } | Self::BadMetric { .. } => "metrics",
            Self::GlobalPerApplication => "per",
            Self::NoTarget
            | Self::Ends
            | Self::Joined
            | Self::TooManyHomes { .. }
            | Self::ReplicasOutside { .. } => "",
        }
    }

    /// What to do instead.
    #[must_use]
    pub const fn advice(&self) -> &'static str {
        match self {
            Self::MaxZero => "write how many there may be at most, 1 or more",
            Self::MaxTooLarge { .. } => "write a smaller number",
            Self::MinOverMax { .. } => "write a `min` that is not over `max`",
            Self::NoTarget => "add `cpu: 60%`, `memory: 75%`, `connections: 100` or `metrics`",
            Self::BadPercent { .. } => "write a share such as 60%",
            Self::NothingToRelateTo { .. } => {
                "add `deploy.resources.reservations` or `deploy.resources.limits`: the target is a share of it"
            }
            Self::TooManyMetrics { .. } => "keep those that matter",
            Self::BadMetric { .. } => {
                "write `{name: NAME, http: {port: 9090, path: /metrics}, average: 10}` or `{topic: NAME, average: 10}`"
            }
            Self::TooLong { .. } => "write a shorter time",
            Self::BadPace { .. } => "write such as `{window: 60s, step: 1, every: 15s}`",
            Self::Ends => "remove it: write how many run with `deploy.x-job` or `deploy.replicas`",
            Self::GlobalPerApplication => {
                "write `per: node`, or `deploy.mode: replicated` for a number over all nodes"
            }
            Self::TooManyHomes { .. } => {
                "with `per: node` this is on how many nodes it is: use `deploy.mode: global` and say which \
                 nodes with `deploy.placement.constraints`"
            }
            Self::ReplicasOutside { .. } => "leave it out: the service begins with `min` instances",
            Self::FixedPort { .. } => {
                "write `mode: ingress` (without an address of the node): the node spreads connections over \
                 the instances; or `max: 1`"
            }
            Self::FixedAddress => {
                "leave the address out: the name of the service stands for all of them"
            }
            Self::Joined => "remove it, or give the service a network of its own",
            Self::NoWayUp => {
                "write `min: 1`, or give it a network or a metric of another service: the first connection \
                 or the metric then starts it"
            }
        }
    }
}
