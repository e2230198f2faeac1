//! Everything that is known of one thing: what people want of it, how it fares, and why.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use limpet_protocol::application::Application;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Api;
use super::body::Params;
use super::edit;
use super::error::ApiError;
use super::error::Errors;
use super::explain::{ExplainQuery, explained};
use super::types::{InstanceView, NodeView, ServiceView};
use crate::control_loop::View;
use crate::explain::Explanation;

/// Everything that is known of an application, a service, an instance or a node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct InspectView {
    /// Its name.
    pub name: String,
    /// `application`, `service`, `instance` or `node`.
    pub kind: String,
    /// The revision at which its application was last changed; none of a node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
    /// What people want: the services that it is about, by name, each as `limpet config -o json`
    /// writes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub wanted: Option<serde_json::Value>,
    /// How its services fare.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<ServiceView>,
    /// Its instances: where they are and how they fare.
    pub instances: Vec<InstanceView>,
    /// The node, of a node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeView>,
    /// Why it is as it is.
    pub explanation: Explanation,
}

/// Everything that is known of one thing.
#[utoipa::path(
    get, path = "/v1/inspect/{name}", params(("name" = String, Path), ExplainQuery),
    responses((status = 200, description = "What is known", body = InspectView), Errors)
)]
pub(super) async fn inspect(
    State(api): State<Api>,
    Path(name): Path<String>,
    Params(query): Params<ExplainQuery>,
) -> Result<Json<InspectView>, ApiError> {
    let explanation = explained(&api, &name, &query).await?;
    let view = Arc::clone(&api.control.view.borrow());
    let mut seen = collected(&view, explanation);
    if seen.kind != "node" {
        let (application, service) = parts(&seen.name, &seen.kind);
        // Gone since it was explained: what is known is what was said.
        if let Ok((_, entry)) = edit::find(&api.store, application) {
            let record = edit::decode(application, &entry)?;
            seen.revision = Some(entry.modified.0);
            seen.wanted = Some(wanted(&record.application, service)?);
        }
    }
    Ok(Json(seen))
}

/// The application and the service that a name begins with.
fn parts<'a>(name: &'a str, kind: &str) -> (&'a str, Option<&'a str>) {
    let Some((application, rest)) = name.split_once('.') else { return (name, None) };
    let service =
        if kind == "instance" { rest.rsplit_once('.').map(|it| it.0) } else { Some(rest) };
    (application, service)
}

fn wanted(application: &Application, service: Option<&str>) -> Result<serde_json::Value, ApiError> {
    let of = application
        .services
        .iter()
        .filter(|(name, _)| service.is_none_or(|wanted| name.as_str() == wanted))
        .map(|(name, service)| Ok((name.to_string(), serde_json::to_value(service)?)));
    let map = of.collect::<Result<serde_json::Map<_, _>, serde_json::Error>>();
    map.map(serde_json::Value::Object).map_err(|error| ApiError::internal(&error))
}

fn collected(view: &View, explanation: Explanation) -> InspectView {
    let (name, kind) = (explanation.name.clone(), explanation.kind.clone());
    let is_node = kind == "node";
    let (application, service) = parts(&name, &kind);
    let meant = |of: &str, one: &str| of == application && service.is_none_or(|it| it == one);
    let services = view.services.iter().filter(|(of, one)| !is_node && meant(of, &one.name));
    let instances = view.instances.iter().filter(|one| match kind.as_str() {
        "node" => one.node.as_deref() == Some(&name),
        "instance" => one.instance == name,
        _ => meant(&one.application, &one.service),
    });
    InspectView {
        revision: None,
        wanted: None,
        services: services.map(|(_, one)| ServiceView::clone(one)).collect(),
        instances: instances.map(|one| InstanceView::clone(one)).collect(),
        node: view
            .nodes
            .iter()
            .find(|one| is_node && one.node == name)
            .map(|it| NodeView::clone(it)),
        explanation,
        name,
        kind,
    }
}
