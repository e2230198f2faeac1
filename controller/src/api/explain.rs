//! Why is it not running, not updated, not placed?

use axum::Json;
use axum::extract::{Path, State};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Api;
use super::ask::ask;
use super::body::Params;
use super::error::{ApiError, Errors};
use crate::answer::Subject;
use crate::control_loop::Request;
use crate::explain::Explanation;

/// What kind of thing the name means.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ExplainQuery {
    /// Without it: whatever has the name; a service, an instance, an application or a node.
    kind: Option<Kind>,
}

/// Kinds of things that can be explained.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    /// An application.
    Application,
    /// A service of one, `shop.web`.
    Service,
    /// An instance, `shop.web.2`.
    Instance,
    /// A node.
    Node,
}

/// Why something is as it is: the chain from what is wanted to what is, and the first link of it
/// that does not hold.
#[utoipa::path(
    get, path = "/v1/explain/{name}", params(("name" = String, Path), ExplainQuery),
    responses((status = 200, description = "The explanation", body = Explanation), Errors)
)]
pub(super) async fn explain(
    State(api): State<Api>,
    Path(name): Path<String>,
    Params(query): Params<ExplainQuery>,
) -> Result<Json<Explanation>, ApiError> {
    explained(&api, &name, &query).await.map(Json)
}

/// What the control loop says.
pub(super) async fn explained(
    api: &Api,
    name: &str,
    query: &ExplainQuery,
) -> Result<Explanation, ApiError> {
    let subject = match query.kind {
        None => Subject::Any,
        Some(Kind::Application) => Subject::Application,
        Some(Kind::Service) => Subject::Service,
        Some(Kind::Instance) => Subject::Instance,
        Some(Kind::Node) => Subject::Node,
    };
    let asked = name.to_owned();
    let request = |answer| Request::Explain { subject, name: asked, answer };
    let (_, found) = ask(api, request).await?;
    let missing = || {
        ApiError::not_found(format!("there is no service, instance, application or node {name:?}"))
    };
    found.ok_or_else(missing)
}
