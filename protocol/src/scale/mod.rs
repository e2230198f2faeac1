//! Autoscaling: how the number of instances of a service follows its load.
//!
//! People write a [`ScalePolicy`] (`deploy.x-autoscale`), the controller passes it on to the nodes with
//! bounds ([`Scaling`]), the nodes decide between the bounds, also offline, and say what they decided and
//! why ([`ScaleReport`]). A policy is no part of the spec: changing it restarts nothing.
//!
//! Names and meanings are those of the HorizontalPodAutoscaler of Kubernetes (`autoscaling/v2`,
//! `HorizontalPodAutoscalerSpec`) unless said otherwise.

mod check;
mod metric;
mod problem;
mod published;
mod report;

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

pub use metric::{MetricSource, MetricTarget, Target};
pub use problem::PolicyError;
pub use published::{Missing, published};
pub use report::{Figure, ScaleLimit, ScaleReport, in_words};

/// When a service gets more instances or fewer, and how fast.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScalePolicy {
    /// What the bounds and the targets are about.
    #[serde(default, skip_serializing_if = "Per::is_default")]
    pub per: Per,
    /// Never fewer (`minReplicas`).
    pub min: u32,
    /// Never more (`maxReplicas`).
    pub max: u32,
    /// CPU time of an instance that is aimed at, in hundredths of what is reserved for it, or where
    /// nothing is, of its limit (`averageUtilization`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_percent: Option<u32>,
    /// Memory of an instance that is aimed at, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_percent: Option<u32>,
    /// Other figures that are aimed at. The one that asks for the most instances counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub metrics: Vec<MetricTarget>,
    /// How fast there are more (`behavior.scaleUp`).
    #[serde(default = "Pace::up", skip_serializing_if = "Pace::is_up")]
    pub up: Pace,
    /// How fast there are fewer (`behavior.scaleDown`).
    #[serde(default = "Pace::down", skip_serializing_if = "Pace::is_down")]
    pub down: Pace,
}

impl ScalePolicy {
    /// Bounds without a target: something that is aimed at has to be added.
    #[must_use]
    pub const fn between(min: u32, max: u32) -> Self {
        Self {
            per: Per::Node,
            min,
            max,
            cpu_percent: None,
            memory_percent: None,
            metrics: Vec::new(),
            up: Pace::up(),
            down: Pace::down(),
        }
    }

    /// Whether instances may come back from none: a figure of the service's own instances cannot ask
    /// for that.
    #[must_use]
    pub fn wakes_by_metric(&self) -> bool {
        self.metrics.iter().any(|metric| metric.source.is_elsewhere())
    }
}

/// What the bounds and the targets of a policy are about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Per {
    /// The instances on each node: a node adds more beside those that were placed on it
    /// ([`crate::id::Slot::beside`]), and needs nobody for it.
    #[default]
    Node,
    /// The instances over the fleet: every slot has its node from the beginning, and the nodes run as
    /// many of theirs as they need, or as the controller says that others need.
    Application,
}

impl Per {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
    const fn is_default(&self) -> bool {
        matches!(self, Self::Node)
    }
}

/// How fast the number changes in one direction (`HPAScalingRules`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pace {
    /// A wish counts only if it was one for so long (`stabilizationWindowSeconds`): upwards the least
    /// of the wishes in the window counts, downwards the greatest.
    pub window_ms: u64,
    /// Most instances by which the number changes within [`Self::every_ms`] (policy `Pods`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instances: Option<u32>,
    /// The same in hundredths of the number at its beginning (policy `Percent`). With neither there is
    /// no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<u32>,
    /// How long the two look back (`periodSeconds`).
    #[serde(default, skip_serializing_if = "is_zero")]
    pub every_ms: u64,
    /// Which of the two counts (`selectPolicy`).
    #[serde(default, skip_serializing_if = "Select::is_default")]
    pub select: Select,
}

/// Which of two limits counts (`selectPolicy`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Select {
    /// The one that allows the greater change.
    #[default]
    Max,
    /// The one that allows the smaller change.
    Min,
    /// The number does not change in this direction.
    Disabled,
}

impl Select {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
    const fn is_default(&self) -> bool {
        matches!(self, Self::Max)
    }
}

impl Pace {
    /// Upwards: at once, in 15 s by 4 or by as many as there are, whichever is more. The defaults of
    /// Kubernetes.
    #[must_use]
    pub const fn up() -> Self {
        Self {
            window_ms: 0,
            instances: Some(4),
            percent: Some(100),
            every_ms: 15_000,
            select: Select::Max,
        }
    }

    /// Downwards: what was wished for five minutes, as far as that goes. The default of Kubernetes,
    /// whose 100 % in 15 s limit nothing.
    #[must_use]
    pub const fn down() -> Self {
        Self {
            window_ms: 300_000,
            instances: None,
            percent: None,
            every_ms: 0,
            select: Select::Max,
        }
    }

    fn is_up(&self) -> bool {
        *self == Self::up()
    }

    fn is_down(&self) -> bool {
        *self == Self::down()
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
const fn is_none_elsewhere(number: &u32) -> bool {
    *number == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
const fn is_norm(priority: &i32) -> bool {
    *priority == 0
}

/// Between which bounds a node decides how many instances of a service it runs.
///
/// While a service is updated it has one share for each of its specs, and each says the same: the bounds
/// are about all instances of the service on the node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scaling {
    /// Never fewer.
    #[serde(rename = "l")]
    pub least: u32,
    /// Never more. With [`Per::Application`] the number of slots that are granted; with [`Per::Node`]
    /// there may be more of them than slots.
    #[serde(rename = "m")]
    pub most: u32,
    /// So many run on other nodes, as far as the controller knows; with [`Per::Application`] what the load
    /// asks for is about all of them.
    #[serde(rename = "e", default, skip_serializing_if = "is_none_elsewhere")]
    pub elsewhere: u32,
    /// The priority of the service (`deploy.x-priority`): on a node that is short the lowest gives way first.
    #[serde(rename = "r", default, skip_serializing_if = "is_norm")]
    pub priority: i32,
    /// The rules.
    #[serde(rename = "p")]
    pub policy: ScalePolicy,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec;

    #[test]
    fn what_is_not_said_is_the_default() {
        let policy = ScalePolicy { cpu_percent: Some(60), ..ScalePolicy::between(1, 6) };
        let json = serde_json::to_string(&policy).unwrap();
        assert_eq!(json, r#"{"min":1,"max":6,"cpu_percent":60}"#);
        assert_eq!(serde_json::from_str::<ScalePolicy>(&json).unwrap(), policy);
        let bytes = codec::encode(&policy).unwrap();
        assert_eq!(codec::decode::<ScalePolicy>(&bytes).unwrap(), policy);
        let newer = r#"{"min":1,"max":6,"cpu_percent":60,"later":1,"up":{"window_ms":5,"x":1}}"#;
        let read: ScalePolicy = serde_json::from_str(newer).unwrap();
        assert_eq!((read.up.window_ms, read.up.instances), (5, None));
    }
}
