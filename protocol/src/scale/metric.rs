//! Figures other than CPU and memory that the number of instances follows.

use alloc::collections::BTreeMap;
use alloc::string::String;

use serde::{Deserialize, Serialize};

use crate::id::ServiceName;

/// A figure and what is aimed at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetricTarget {
    /// What it is called, at its source and in reports.
    pub name: String,
    /// Labels that a series must have to count; several series that have them are added up.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Where it comes from.
    pub source: MetricSource,
    /// It is a counter: what counts is by how much it grows in a second.
    #[serde(default, skip_serializing_if = "is_false")]
    pub per_second: bool,
    /// What is aimed at.
    pub target: Target,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
const fn is_false(value: &bool) -> bool {
    !*value
}

/// Where a figure comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MetricSource {
    /// Instances are asked over HTTP in their network, and answer in Prometheus' text format.
    Http {
        /// Of which service of the same application, as far as they are on the same node; none is the
        /// service itself.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        service: Option<ServiceName>,
        /// At which port.
        port: u16,
        /// Path and query, beginning with `/`.
        path: String,
    },
    /// TCP connections that the instances hold.
    Connections,
    /// Bytes that they receive and send over their networks in a second.
    Network,
    /// Published on [`crate::topic::Topic::Metric`] under the metric's name. It is of the service as a whole.
    Topic,
}

impl MetricSource {
    /// Whether it has a value while no instance of the service runs.
    #[must_use]
    pub const fn is_elsewhere(&self) -> bool {
        matches!(self, Self::Http { service: Some(_), .. } | Self::Topic)
    }
}

/// What is aimed at, in thousandths (`MetricTarget`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// The sum over all that are asked, divided by the number of instances (`averageValue`).
    Average(u64),
    /// The figure itself, which grows and falls with the number of instances; of several that are asked
    /// the greatest counts (`value`).
    Value(u64),
}

impl Target {
    /// The number alone, in thousandths.
    #[must_use]
    pub const fn thousandths(self) -> u64 {
        match self {
            Self::Average(number) | Self::Value(number) => number,
        }
    }
}
