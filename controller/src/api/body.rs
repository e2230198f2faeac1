//! What comes in: bodies and queries, bounded in size and time, with errors that say where.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;
use futures_util::StreamExt as _;
use serde::de::DeserializeOwned;

use super::error::ApiError;

/// How long a body may stand still.
pub(super) const BODY_STALL: Duration = Duration::from_secs(30);

/// A JSON body of at most `max` bytes.
pub(super) async fn json<T: DeserializeOwned>(body: Body, max: usize) -> Result<T, ApiError> {
    let bytes = self::bytes(body, max).await?;
    if bytes.is_empty() {
        return Err(ApiError::bad_request("the body is empty; it must be JSON, see /openapi.json"));
    }
    serde_json::from_slice(&bytes)
        .map_err(|error| ApiError::bad_request(format!("the body is not as expected: {error}")))
}

/// A body of at most `max` bytes.
pub(super) async fn bytes(body: Body, max: usize) -> Result<Vec<u8>, ApiError> {
    let mut chunks = body.into_data_stream();
    let mut bytes = Vec::new();
    loop {
        let chunk = tokio::time::timeout(BODY_STALL, chunks.next()).await;
        match chunk {
            Err(_) => return Err(ApiError::bad_request("the body did not arrive in time")),
            Ok(None) => return Ok(bytes),
            Ok(Some(Err(error))) => {
                return Err(ApiError::bad_request(format!("the body cannot be read: {error}")));
            }
            Ok(Some(Ok(chunk))) if bytes.len() + chunk.len() > max => {
                return Err(ApiError::too_large(format!("the body is larger than {max} bytes")));
            }
            Ok(Some(Ok(chunk))) => bytes.extend_from_slice(&chunk),
        }
    }
}

/// The query, with an error that names what is wrong in it.
#[derive(Debug)]
pub(super) struct Params<T>(pub(super) T);

impl<T: DeserializeOwned, S: Sync> FromRequestParts<S> for Params<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        match Query::<T>::try_from_uri(&parts.uri) {
            Ok(Query(params)) => Ok(Self(params)),
            Err(error) => {
                // The outer error only says "query"; its source says which part.
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                let cause = cause.unwrap_or_else(|| error.to_string());
                Err(ApiError::bad_request(format!("in the query: {cause}")))
            }
        }
    }
}
