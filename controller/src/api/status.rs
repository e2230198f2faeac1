//! Whether the controller lives, whether it is ready, and which version it is.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::Api;
use super::error::{ApiError, Errors};
use super::types::VersionView;

/// How the controller is.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct StatusView {
    /// `ok`.
    status: &'static str,
}

/// Whether the controller lives. No token is needed.
#[utoipa::path(
    get, path = "/healthz", security(()),
    responses((status = 200, description = "It lives", body = StatusView))
)]
pub(super) async fn health() -> Json<StatusView> {
    Json(StatusView { status: "ok" })
}

/// Whether the controller can take work. No token is needed.
#[utoipa::path(
    get, path = "/readyz", security(()),
    responses((status = 200, description = "It is ready", body = StatusView), Errors)
)]
pub(super) async fn readiness(State(api): State<Api>) -> Result<Json<StatusView>, ApiError> {
    if api.shutdown.is_cancelled() {
        return Err(ApiError::unavailable("the controller is ending"));
    }
    if api.store.subscribe().has_changed().is_err() {
        return Err(ApiError::unavailable("the store failed; restart the controller"));
    }
    if api.control.view.has_changed().is_err() {
        return Err(ApiError::unavailable("the control loop has ended; restart the controller"));
    }
    Ok(Json(StatusView { status: "ok" }))
}

/// Which version this is, and where its store stands.
#[utoipa::path(
    get, path = "/v1/version",
    responses((status = 200, description = "The version", body = VersionView), Errors)
)]
pub(super) async fn version(State(api): State<Api>) -> Json<VersionView> {
    Json(VersionView {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        epoch: api.store.identity().epoch(),
        revision: api.store.revision().0,
    })
}
