//! What a node decided about the number of instances, and why.

use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::Missing;
use crate::id::{ApplicationName, ServiceName, Slot};

/// What a node decided for one service. Part of the report when the decision changes; the figures are
/// those of that moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScaleReport {
    /// The application.
    #[serde(rename = "a")]
    pub application: ApplicationName,
    /// The service.
    #[serde(rename = "s")]
    pub service: ServiceName,
    /// How many instances the node wants to run.
    #[serde(rename = "n")]
    pub running: u32,
    /// How many the load asks for over the windows, without the bounds of this node and without rates, at
    /// most the policy's most. With [`crate::scale::Per::Application`] over the whole fleet.
    #[serde(rename = "w")]
    pub wish: u32,
    /// What keeps the number from what the load asks for.
    #[serde(rename = "l", default, skip_serializing_if = "ScaleLimit::is_none")]
    pub limit: ScaleLimit,
    /// Slots that are granted and not run.
    #[serde(rename = "i", default, skip_serializing_if = "Vec::is_empty")]
    pub idle: Vec<Slot>,
    /// What was compared, in the order of the policy: CPU, memory, the metrics.
    #[serde(rename = "f", default, skip_serializing_if = "Vec::is_empty")]
    pub figures: Vec<Figure>,
}

/// One figure beside what is aimed at. Both in thousandths of the unit of the target: of a hundredth for
/// CPU and memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Figure {
    /// `cpu`, `memory`, or the name of a metric.
    #[serde(rename = "m")]
    pub metric: String,
    /// The average of an instance, or the figure itself, as the target is meant; none if it could not
    /// be had.
    #[serde(rename = "v", default, skip_serializing_if = "Option::is_none")]
    pub value: Option<u64>,
    /// Why it could not be had, as far as that is known.
    #[serde(rename = "y", default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<Missing>,
    /// What is aimed at.
    #[serde(rename = "t")]
    pub target: u64,
    /// How many instances it asks for; none if it could not be had.
    #[serde(rename = "w", default, skip_serializing_if = "Option::is_none")]
    pub wish: Option<u32>,
}

/// A number in thousandths for people, with one digit behind the point where that says something.
///
/// ```
/// use limpet_protocol::scale::in_words;
/// assert_eq!([92_340, 60_000, 50].map(in_words), ["92.3", "60", "0"]);
/// ```
#[must_use]
pub fn in_words(thousandths: u64) -> String {
    match (thousandths / 1_000, thousandths % 1_000 / 100) {
        (whole, 0) => whole.to_string(),
        (whole, tenths) => alloc::format!("{whole}.{tenths}"),
    }
}

/// What keeps a number of instances from what the load asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScaleLimit {
    /// Nothing: the number is as the load asks for (`DesiredWithinRange`).
    #[default]
    None,
    /// The lower bound (`TooFewReplicas`).
    Least,
    /// The upper bound (`TooManyReplicas`).
    Most,
    /// The number changes no faster (`ScaleUpLimit`, `ScaleDownLimit`).
    Rate,
    /// It has not been wished for long enough (`ScaleUpStabilized`, `ScaleDownStabilized`).
    Window,
    /// A metric could not be had, and the others ask for no more (`FailedGetResourceMetric`).
    NoMetric,
    /// The node is short of memory, too hot or otherwise at its end: nothing is added, or services of
    /// lower priority have given way.
    Room,
    /// Something that the reader does not know.
    #[serde(other)]
    Other,
}

impl ScaleLimit {
    /// As the lists and the API show it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Least => "least",
            Self::Most => "most",
            Self::Rate => "rate",
            Self::Window => "window",
            Self::NoMetric => "no_metric",
            Self::Room => "room",
            Self::Other => "other",
        }
    }

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
    const fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec;

    #[test]
    fn a_limit_of_a_newer_node_is_read_as_another_one() {
        let bytes = codec::encode(&"moon").unwrap();
        assert_eq!(codec::decode::<ScaleLimit>(&bytes).unwrap(), ScaleLimit::Other);
        for limit in [ScaleLimit::None, ScaleLimit::NoMetric, ScaleLimit::Room] {
            let bytes = codec::encode(&limit).unwrap();
            assert_eq!(codec::decode::<ScaleLimit>(&bytes).unwrap(), limit);
            assert_eq!(codec::encode(&limit.as_str()).unwrap(), bytes);
        }
    }
}
