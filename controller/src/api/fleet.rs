//! Nodes and instances, as the control loop sees them.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use serde::Deserialize;

use super::Api;
use super::body::Params;
use super::error::{ApiError, Errors};
use super::types::{InstanceView, List, NodeView};

/// Which instances.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct InstancesQuery {
    /// Only those of this application.
    application: Option<String>,
    /// Only those of this service.
    service: Option<String>,
    /// Only those on this node.
    node: Option<String>,
}

/// Every instance that is wanted or there.
#[utoipa::path(
    get, path = "/v1/instances", params(InstancesQuery),
    responses((status = 200, description = "The instances", body = List<InstanceView>), Errors)
)]
pub(super) async fn instances(
    State(api): State<Api>,
    Params(query): Params<InstancesQuery>,
) -> Json<List<InstanceView>> {
    let view = Arc::clone(&api.control.view.borrow());
    let asked = |wanted: &Option<String>, is: Option<&str>| match wanted {
        Some(wanted) => is == Some(wanted.as_str()),
        None => true,
    };
    let matching = view.instances.iter().filter(|instance| {
        asked(&query.application, Some(&instance.application))
            && asked(&query.service, Some(&instance.service))
            && asked(&query.node, instance.node.as_deref())
    });
    let items = matching.map(|instance| InstanceView::clone(instance)).collect();
    Json(List { revision: view.revision.0, items })
}

/// Every node.
#[utoipa::path(
    get, path = "/v1/nodes",
    responses((status = 200, description = "The nodes", body = List<NodeView>), Errors)
)]
pub(super) async fn nodes(State(api): State<Api>) -> Json<List<NodeView>> {
    let view = Arc::clone(&api.control.view.borrow());
    let items = view.nodes.iter().map(|node| NodeView::clone(node)).collect();
    Json(List { revision: view.revision.0, items })
}

/// One node.
#[utoipa::path(
    get, path = "/v1/nodes/{node}", params(("node" = String, Path)),
    responses((status = 200, description = "The node", body = NodeView), Errors)
)]
pub(super) async fn node(
    State(api): State<Api>,
    Path(name): Path<String>,
) -> Result<Json<NodeView>, ApiError> {
    let view = Arc::clone(&api.control.view.borrow());
    let node = view.nodes.iter().find(|node| node.node == name);
    let missing = || ApiError::not_found(format!("there is no node {name:?}"));
    Ok(Json(NodeView::clone(node.ok_or_else(missing)?)))
}
