//! How a service follows its load, as the API shows it.

use limpet_protocol::scale::{Figure, Per, ScaleReport};

use super::view::{Shown, Sources};
use crate::api::types::{FigureView, NodeScaleView, ScaleView};

/// Nodes that one service shows.
const MAX_NODES: usize = 256;

/// What is known of a service's scaling; none where it has no policy.
pub(super) fn scale_view(shown: Shown<'_>, sources: Sources<'_>) -> Option<ScaleView> {
    let policy = shown.service.autoscale.as_ref()?;
    let mut nodes: Vec<&limpet_protocol::id::NodeId> =
        sources.planner.places(shown.key).map(|(node, _)| node).collect();
    nodes.dedup();
    let said = nodes.into_iter().filter_map(|id| {
        let report = sources.nodes.get(id)?.scales.get(shown.key)?;
        Some(node_scale_view(id.as_str(), report))
    });
    Some(ScaleView {
        per: match policy.per {
            Per::Node => "node".to_owned(),
            Per::Application => "application".to_owned(),
        },
        min: policy.min,
        max: policy.max,
        total: sources.totals.total(shown.key),
        nodes: said.take(MAX_NODES).collect(),
    })
}

/// What a node says of a service that follows its load.
pub(crate) fn node_scale_view(node: &str, report: &ScaleReport) -> NodeScaleView {
    NodeScaleView {
        node: node.to_owned(),
        running: report.running,
        wish: report.wish,
        limit: report.limit.as_str().to_owned(),
        figures: report.figures.iter().map(figure_view).collect(),
    }
}

fn figure_view(figure: &Figure) -> FigureView {
    FigureView {
        metric: figure.metric.clone(),
        value_thousandths: figure.value,
        missing: figure.missing.map(|why| why.as_str().to_owned()),
        target_thousandths: figure.target,
        wish: figure.wish,
    }
}
