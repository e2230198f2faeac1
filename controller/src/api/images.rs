//! Images that people load into the controller.
//!
//! An archive streams from the connection into a thread that unpacks, hashes and writes it: a
//! gigabyte costs a few chunks of memory.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use futures_util::{Stream, StreamExt as _};
use limpet_oci::archive::ArchiveError;
use limpet_oci::blob::BlobError;
use limpet_oci::layout::{LayoutError, StoredImage};
use limpet_oci::{Digest, ImageLayout};
use limpet_protocol::codec;
use tokio_util::io::{StreamReader, SyncIoBridge};

use super::Api;
use super::body::BODY_STALL;
use super::error::{ApiError, Errors};
use super::types::{ImageView, List};
use crate::store::records::ApplicationRecord;
use crate::store::{Kind, MAX_VALUE_BYTES, Store};

/// Largest archive: more than any image for a board, and less than a common disk.
const MAX_ARCHIVE_BYTES: u64 = 8 * 1024 * 1024 * 1024;

/// The images that the controller has.
#[utoipa::path(
    get, path = "/v1/images",
    responses((status = 200, description = "The images", body = List<ImageView>), Errors)
)]
pub(super) async fn list(State(api): State<Api>) -> Result<Json<List<ImageView>>, ApiError> {
    let images = with_images(&api, |images| images.list()).await?;
    let images = images.map_err(|error| refusal(&error))?;
    Ok(Json(show(&api.store, images)))
}

/// Loads an archive as `docker save`, `podman save`, `skopeo` or `buildah` write it.
#[utoipa::path(
    post, path = "/v1/images",
    request_body(content = Vec<u8>, content_type = "application/x-tar"),
    responses((status = 201, description = "What was in it", body = List<ImageView>), Errors)
)]
pub(super) async fn load(
    State(api): State<Api>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<List<ImageView>>), ApiError> {
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok());
    if announced
        .and_then(|length| length.parse().ok())
        .is_some_and(|length: u64| length > MAX_ARCHIVE_BYTES)
    {
        return Err(too_large());
    }
    let _permit = api.uploads.try_acquire().map_err(|_| {
        ApiError::unavailable("other archives are being loaded: try again when they are done")
    })?;
    let exceeded = Arc::new(AtomicBool::new(false));
    let chunks = Box::pin(bounded(body, Arc::clone(&exceeded)));
    let reader = SyncIoBridge::new(StreamReader::new(chunks));
    let loaded = with_images(&api, move |images| images.load(reader)).await?;
    match loaded {
        Ok(images) => Ok((StatusCode::CREATED, Json(show(&api.store, images)))),
        Err(_) if exceeded.load(Ordering::Relaxed) => Err(too_large()),
        Err(error) => Err(refusal(&error)),
    }
}

/// Removes an image under all its names.
#[utoipa::path(
    delete, path = "/v1/images/{digest}", params(("digest" = String, Path)),
    responses((status = 204, description = "It is removed"), Errors)
)]
pub(super) async fn remove(
    State(api): State<Api>,
    Path(digest): Path<String>,
) -> Result<StatusCode, ApiError> {
    let digest: Digest =
        digest.parse().map_err(|error| ApiError::bad_request(format!("in the path: {error}")))?;
    if let Some(user) = user_of(&api.store, &digest)? {
        let message = format!("image {digest} is used by {user}: remove or change that first");
        return Err(ApiError::conflict(message));
    }
    match with_images(&api, move |images| images.remove(&digest)).await? {
        Ok(()) => Ok(StatusCode::NO_CONTENT),
        Err(error) => Err(refusal(&error)),
    }
}

/// File work goes to its own thread.
async fn with_images<T: Send + 'static>(
    api: &Api,
    work: impl FnOnce(&ImageLayout) -> T + Send + 'static,
) -> Result<T, ApiError> {
    let images = Arc::clone(&api.images);
    let done = tokio::task::spawn_blocking(move || work(&images)).await;
    done.map_err(|error| ApiError::internal(&error))
}

fn too_large() -> ApiError {
    ApiError::too_large(format!("the archive is larger than {MAX_ARCHIVE_BYTES} bytes"))
}

/// The body's chunks, until there are too many or none for too long.
fn bounded(body: Body, exceeded: Arc<AtomicBool>) -> impl Stream<Item = io::Result<Bytes>> {
    let start = (body.into_data_stream(), 0_u64, exceeded);
    futures_util::stream::unfold(Some(start), |state| async move {
        let (mut chunks, mut count, exceeded) = state?;
        match tokio::time::timeout(BODY_STALL, chunks.next()).await {
            Err(_) => Some((Err(io::ErrorKind::TimedOut.into()), None)),
            Ok(None) => None,
            Ok(Some(Err(error))) => Some((Err(io::Error::other(error)), None)),
            Ok(Some(Ok(chunk))) => {
                count += u64::try_from(chunk.len()).unwrap_or(u64::MAX);
                if count > MAX_ARCHIVE_BYTES {
                    exceeded.store(true, Ordering::Relaxed);
                    return Some((Err(io::Error::other("the archive is too large")), None));
                }
                Some((Ok(chunk), Some((chunks, count, exceeded))))
            }
        }
    })
}

/// The first service that relies on the image.
fn user_of(store: &Store, digest: &Digest) -> Result<Option<String>, ApiError> {
    let digest = digest.to_string();
    let (_, applications) = store.list(Kind::Application)?;
    for (key, entry) in applications {
        let record: ApplicationRecord = codec::decode_within(&entry.value, MAX_VALUE_BYTES)
            .map_err(|error| ApiError::internal(&error))?;
        for (name, service) in &record.application.services {
            let image = &service.spec.image;
            if image.from_controller && image.digest.as_deref() == Some(digest.as_str()) {
                return Ok(Some(format!("service {name} of {key}")));
            }
        }
    }
    Ok(None)
}

fn show(store: &Store, images: Vec<StoredImage>) -> List<ImageView> {
    let view = |image: StoredImage| ImageView {
        reference: image.reference,
        digest: image.digest.to_string(),
        platforms: image.platforms.iter().map(ToString::to_string).collect(),
        size_bytes: image.size_bytes,
    };
    List { revision: store.revision().0, items: images.into_iter().map(view).collect() }
}

/// Whose fault it is: the archive's, or the controller's disk's.
fn refusal(error: &LayoutError) -> ApiError {
    let message = chain(error);
    match error {
        LayoutError::Unknown(_) => ApiError::not_found(message),
        LayoutError::Full => ApiError::conflict(message),
        LayoutError::Archive(ArchiveError::Blob(BlobError::Io { .. }))
        | LayoutError::Blob(_)
        | LayoutError::Damaged { .. }
        | LayoutError::Manifest(_) => ApiError::internal(error),
        LayoutError::Archive(_) | LayoutError::Reference(_) => ApiError::bad_request(message),
    }
}

/// An error and its causes in one line: the outer one alone says only what was tried.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.ends_with(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}
