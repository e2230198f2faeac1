//! Errors as the API gives them: an [`ErrorBody`] and the status that fits.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::types::ErrorBody;
use crate::claims::ClaimError;
use crate::store::{CommitError, StoreError};

/// The error of a handler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ApiError {
    pub(super) status: StatusCode,
    pub(super) body: ErrorBody,
}

/// The errors that every endpoint may answer with, for the OpenAPI document.
#[derive(utoipa::IntoResponses)]
#[expect(dead_code, reason = "only its description is used")]
pub(super) enum Errors {
    /// What is wrong where.
    #[response(status = 400)]
    BadRequest(#[to_schema] ErrorBody),
    /// The token is missing or not valid.
    #[response(status = 401)]
    Unauthorized(#[to_schema] ErrorBody),
    /// There is no such thing.
    #[response(status = 404)]
    NotFound(#[to_schema] ErrorBody),
    /// The world moved.
    #[response(status = 409)]
    Conflict(#[to_schema] ErrorBody),
    /// More than the limit.
    #[response(status = 413)]
    TooLarge(#[to_schema] ErrorBody),
    /// Too many wrong tokens from this address.
    #[response(status = 429)]
    TooMany(#[to_schema] ErrorBody),
    /// The controller's own trouble.
    #[response(status = 500)]
    Internal(#[to_schema] ErrorBody),
    /// Not now.
    #[response(status = 503)]
    Unavailable(#[to_schema] ErrorBody),
}

impl ApiError {
    fn new(status: StatusCode, message: impl Into<String>) -> Self {
        let body = ErrorBody { code: word(status).to_owned(), message: message.into() };
        Self { status, body }
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    pub(super) fn unauthorized(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, message)
    }

    pub(super) fn too_many(message: impl Into<String>) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, message)
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    pub(super) fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, message)
    }

    pub(super) fn gone(message: impl Into<String>) -> Self {
        Self::new(StatusCode::GONE, message)
    }

    pub(super) fn too_large(message: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, message)
    }

    pub(super) fn unavailable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, message)
    }

    /// The controller's own trouble: the whole chain goes to the log, one sentence to the client.
    pub(super) fn internal(error: &(dyn std::error::Error + 'static)) -> Self {
        tracing::error!(error, "a request failed");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
    }
}

/// The word for programs.
fn word(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::TOO_MANY_REQUESTS => "unauthorized",
        StatusCode::NOT_FOUND => "not_found",
        StatusCode::CONFLICT => "conflict",
        StatusCode::GONE => "compacted",
        StatusCode::PAYLOAD_TOO_LARGE => "too_large",
        StatusCode::SERVICE_UNAVAILABLE => "unavailable",
        status if status.is_server_error() => "internal",
        _ => "bad_request",
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        (self.status, Json(self.body)).into_response()
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Closed => Self::unavailable(error.to_string()),
            error => Self::internal(&error),
        }
    }
}

impl From<ClaimError> for ApiError {
    fn from(error: ClaimError) -> Self {
        match error {
            ClaimError::Store(error) => error.into(),
            error => Self::conflict(error.to_string()),
        }
    }
}

impl From<CommitError> for ApiError {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Store(error) => error.into(),
            CommitError::TooLarge { .. } => Self::too_large(error.to_string()),
            error => Self::conflict(error.to_string()),
        }
    }
}

/// Errors that the router makes by itself (no such path, no such method) get an [`ErrorBody`] too.
pub(super) async fn in_json(response: Response) -> Response {
    let status = response.status();
    let is_json = |kind: &HeaderValue| kind.as_bytes().starts_with(b"application/json");
    let own = response.headers().get(header::CONTENT_TYPE).is_some_and(is_json);
    if own || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let message = match status {
        StatusCode::NOT_FOUND => "there is nothing at this path; see /openapi.json",
        StatusCode::METHOD_NOT_ALLOWED => "this path does not take this method; see /openapi.json",
        status => status.canonical_reason().unwrap_or("the request is refused"),
    };
    let mut answer = ApiError::new(status, message).into_response();
    if let Some(allowed) = response.headers().get(header::ALLOW) {
        answer.headers_mut().insert(header::ALLOW, allowed.clone());
    }
    answer
}
