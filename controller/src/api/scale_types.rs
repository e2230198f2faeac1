//! How services follow their load, in the shapes of the API.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How the number of instances of a service follows its load (`deploy.x-autoscale`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ScaleView {
    /// What the bounds are about: the instances on each `node`, or of the whole `application`.
    pub per: String,
    /// Never fewer.
    pub min: u32,
    /// Never more.
    pub max: u32,
    /// How many have to run over the fleet; none where each node decides by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<u32>,
    /// What each node decided last.
    pub nodes: Vec<NodeScaleView>,
}

/// What a node decided about a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeScaleView {
    /// Which node.
    pub node: String,
    /// How many instances it wants to run.
    pub running: u32,
    /// How many the load asks for, on the node or over the fleet.
    pub wish: u32,
    /// What keeps it from that: `none`, `least`, `most`, `rate`, `window`, `no_metric`, `room`.
    pub limit: String,
    /// What was compared when it decided.
    pub figures: Vec<FigureView>,
}

/// What a node decides now about a service that follows its load.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ScaleLoadView {
    /// `application.service`.
    pub service: String,
    /// What it decides.
    #[serde(flatten)]
    pub scale: NodeScaleView,
}

/// A figure beside what is aimed at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FigureView {
    /// `cpu` and `memory` are in percent, others in their own unit.
    pub metric: String,
    /// What it was, in thousandths; none if it could not be had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_thousandths: Option<u64>,
    /// Why it could not be had, as far as that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<String>,
    /// What is aimed at, in thousandths.
    pub target_thousandths: u64,
    /// How many instances it asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wish: Option<u32>,
}
