//! Images for nodes: the pull half of the OCI Distribution Specification.
//!
//! `GET` and `HEAD` of manifests and blobs; a blob in ranges, so that a broken pull goes on where
//! it broke. Pushes are refused: people load images through `/v1/images`.

use std::io::SeekFrom;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use limpet_oci::Digest;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio_util::io::ReaderStream;

use super::Api;
use super::error::ApiError;

const CONTENT_DIGEST: &str = "docker-content-digest";
const API_VERSION: &str = "docker-distribution-api-version";

/// That this is a registry.
pub(super) async fn version() -> Response {
    ([(API_VERSION, "registry/2.0")], Json(json!({}))).into_response()
}

/// A manifest or a blob.
pub(super) async fn pull(
    State(api): State<Api>,
    Path(path): Path<String>,
    headers: HeaderMap,
) -> Response {
    let answer = match What::of(&path) {
        Some(What::Manifest { name, reference }) => manifest(&api, name, reference).await,
        Some(What::Blob { digest }) => blob(&api, digest, &headers).await,
        None => Err(ApiError::not_found(
            "images are pulled here: /v2/NAME/manifests/REFERENCE and /v2/NAME/blobs/DIGEST",
        )),
    };
    answer.unwrap_or_else(|error| error_response(&error))
}

/// An error as the specification has it.
pub(super) fn error_response(error: &ApiError) -> Response {
    let code = match error.status {
        StatusCode::UNAUTHORIZED => "UNAUTHORIZED",
        StatusCode::TOO_MANY_REQUESTS => "TOOMANYREQUESTS",
        StatusCode::NOT_FOUND if error.body.message.starts_with("blob") => "BLOB_UNKNOWN",
        StatusCode::NOT_FOUND if error.body.message.starts_with("manifest") => "MANIFEST_UNKNOWN",
        StatusCode::NOT_FOUND => "NAME_UNKNOWN",
        StatusCode::BAD_REQUEST => "DIGEST_INVALID",
        _ => "UNKNOWN",
    };
    let body = json!({ "errors": [{ "code": code, "message": error.body.message }] });
    (error.status, Json(body)).into_response()
}

enum What<'a> {
    Manifest { name: &'a str, reference: &'a str },
    Blob { digest: &'a str },
}

impl<'a> What<'a> {
    /// A name may have slashes, so the path is read from its end.
    fn of(path: &'a str) -> Option<Self> {
        let (rest, last) = path.rsplit_once('/')?;
        let (name, kind) = rest.rsplit_once('/')?;
        match kind {
            _ if name.is_empty() || last.is_empty() => None,
            "manifests" => Some(Self::Manifest { name, reference: last }),
            "blobs" => Some(Self::Blob { digest: last }),
            _ => None,
        }
    }
}

async fn manifest(api: &Api, name: &str, reference: &str) -> Result<Response, ApiError> {
    let key = match reference.parse::<Digest>() {
        Ok(digest) => digest.to_string(),
        Err(_) => format!("{name}:{reference}"),
    };
    let images = std::sync::Arc::clone(&api.images);
    let found = tokio::task::spawn_blocking(move || images.manifest(&key)).await;
    let found = found.map_err(|error| ApiError::internal(&error))?;
    let found = found.map_err(|error| ApiError::internal(&error))?;
    let (media_type, bytes) = found.ok_or_else(|| {
        ApiError::not_found(format!("manifest {reference} of {name} is not here"))
    })?;
    let digest = Digest::of(&bytes).to_string();
    let headers = [
        (header::CONTENT_TYPE.as_str(), media_type),
        (CONTENT_DIGEST, digest),
        (API_VERSION, "registry/2.0".to_owned()),
    ];
    Ok((headers, bytes).into_response())
}

async fn blob(api: &Api, digest: &str, headers: &HeaderMap) -> Result<Response, ApiError> {
    let digest: Digest =
        digest.parse().map_err(|error| ApiError::bad_request(format!("{error}")))?;
    let found = api.images.blob(&digest).map_err(|error| ApiError::internal(&error))?;
    let (file, size) =
        found.ok_or_else(|| ApiError::not_found(format!("blob {digest} is not here")))?;
    let (status, first, count) = match requested_range(headers, size) {
        Range::Whole => (StatusCode::OK, 0, size),
        Range::Part { first, count } => (StatusCode::PARTIAL_CONTENT, first, count),
        Range::Beyond => {
            let range = [(header::CONTENT_RANGE, format!("bytes */{size}"))];
            return Ok((StatusCode::RANGE_NOT_SATISFIABLE, range, Json(json!({ "errors": [] })))
                .into_response());
        }
    };
    let mut file = tokio::fs::File::from_std(file);
    file.seek(SeekFrom::Start(first)).await.map_err(|error| ApiError::internal(&error))?;
    let mut response = Body::from_stream(ReaderStream::new(file.take(count))).into_response();
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(count));
    if let Ok(digest) = HeaderValue::from_str(&digest.to_string()) {
        headers.insert(CONTENT_DIGEST, digest);
    }
    if status == StatusCode::PARTIAL_CONTENT
        && let Ok(range) =
            HeaderValue::from_str(&format!("bytes {first}-{}/{size}", first + count - 1))
    {
        headers.insert(header::CONTENT_RANGE, range);
    }
    Ok(response)
}

#[derive(Debug, PartialEq, Eq)]
enum Range {
    Whole,
    /// `count` is 1 at least.
    Part {
        first: u64,
        count: u64,
    },
    Beyond,
}

/// RFC 9110, section 14: one range of bytes; anything else is as if nothing was asked.
fn requested_range(headers: &HeaderMap, size: u64) -> Range {
    let text = headers.get(header::RANGE).and_then(|range| range.to_str().ok());
    let parts = text.and_then(|text| text.strip_prefix("bytes=")?.split_once('-'));
    let Some((first, last)) = parts else { return Range::Whole };
    let (first, last) = match (first.trim().parse::<u64>(), last.trim().parse::<u64>()) {
        (Ok(first), Ok(last)) if first <= last => (first, last),
        (Ok(first), Err(_)) if last.trim().is_empty() => (first, u64::MAX),
        (Err(_), Ok(0)) if first.trim().is_empty() => return Range::Beyond,
        (Err(_), Ok(suffix)) if first.trim().is_empty() => (size.saturating_sub(suffix), u64::MAX),
        _ => return Range::Whole,
    };
    if first >= size {
        return Range::Beyond;
    }
    let last = last.min(size - 1);
    Range::Part { first, count: last - first + 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_rfc_9110_has_them() {
        let table = [
            ("", Range::Whole),
            ("bytes=0-3", Range::Part { first: 0, count: 4 }),
            ("bytes=8-", Range::Part { first: 8, count: 2 }),
            ("bytes=8-99", Range::Part { first: 8, count: 2 }),
            ("bytes=-3", Range::Part { first: 7, count: 3 }),
            ("bytes=-99", Range::Part { first: 0, count: 10 }),
            ("bytes=10-", Range::Beyond),
            ("bytes=-0", Range::Beyond),
            ("bytes=5-2", Range::Whole),
            ("bytes=0-1,3-4", Range::Whole),
            ("lines=0-1", Range::Whole),
            ("bytes=-", Range::Whole),
        ];
        for (text, range) in table {
            let mut headers = HeaderMap::new();
            headers.insert(header::RANGE, HeaderValue::from_static(text));
            assert_eq!(requested_range(&headers, 10), range, "{text}");
        }
    }

    #[test]
    fn a_name_may_have_slashes() {
        assert!(matches!(
            What::of("a/b/manifests/latest"),
            Some(What::Manifest { name: "a/b", reference: "latest" })
        ));
        assert!(matches!(What::of("a/blobs/x"), Some(What::Blob { digest: "x" })));
        for wrong in ["", "a", "blobs/x", "/blobs/x", "a/blobs/", "a/tags/list"] {
            assert!(What::of(wrong).is_none(), "{wrong}");
        }
    }
}
