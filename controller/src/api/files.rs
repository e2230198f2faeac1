//! Files of an instance, out and in, as tar streams.
//!
//! The streams flow by credit, between the connection and the node: nothing is kept here but a few
//! chunks. What the node says before the first byte is the answer's status; what goes wrong later
//! breaks the connection off.

use std::io;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, StreamExt as _, stream};
use limpet_protocol::call::{CallIn, CallOut};
use limpet_protocol::limits::{CALL_WINDOW, MAX_CALL_CHUNK_BYTES};
use serde::Deserialize;

use super::Api;
use super::body::{BODY_STALL, Params};
use super::call::{Call, locate};
use super::error::{ApiError, Errors};

/// Which file or folder.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct FilesQuery {
    /// An absolute path in the container.
    path: String,
}

/// Where the files go.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct PutFilesQuery {
    /// An absolute path in the container: an existing folder takes the entries, any other path is the
    /// new name of the one topmost entry.
    path: String,
    /// Whether the path is the folder that takes the entries as they are, made where it is not there.
    #[serde(default)]
    #[param(required = false)]
    contents: bool,
}

/// A file or folder of an instance as a tar stream. Links are sent as links, never followed.
#[utoipa::path(
    get, path = "/v1/instances/{instance}/files",
    params(("instance" = String, Path, description = "application.service.slot"), FilesQuery),
    responses(
        (status = 200, description = "The tar stream", body = Vec<u8>, content_type = "application/x-tar"),
        Errors
    )
)]
pub(super) async fn read(
    State(api): State<Api>,
    Path(name): Path<String>,
    Params(query): Params<FilesQuery>,
) -> Result<Response, ApiError> {
    let view = Arc::clone(&api.control.view.borrow());
    let (instance, node) = locate(&view, &name, "the files of")?;
    let first = CallIn::Read { instance, path: query.path, credit: CALL_WINDOW };
    let mut call = Call::open(&api, node, first, false).await?;
    let word = call.first_word().await?;
    if let CallOut::End { error: Some(error), .. } = word {
        return Err(ApiError::bad_request(error));
    }
    let stop = api.shutdown.cancelled_owned();
    let body = Body::from_stream(chunks(call, word).take_until(stop));
    Ok(([(header::CONTENT_TYPE, "application/x-tar")], body).into_response())
}

fn chunks(call: Call, word: CallOut) -> impl Stream<Item = io::Result<Bytes>> {
    stream::unfold((call, Some(Ok(word))), |(mut call, next)| async move {
        let answer = match next {
            Some(answer) => answer,
            None => call.receive_whole().await,
        };
        match answer {
            Ok(CallOut::Chunk { data, .. }) => Some((Ok(Bytes::from(data)), (call, None))),
            Ok(CallOut::End { error: None, .. }) => None,
            Ok(CallOut::End { error: Some(error), .. }) | Err(error) => {
                tracing::debug!(%error, "a copy broke off");
                let last = Some(Ok(CallOut::end(None)));
                Some((Err(io::Error::other(error)), (call, last)))
            }
            // No answer to a read; the stream goes on.
            Ok(
                CallOut::Credit { .. }
                | CallOut::Load(_)
                | CallOut::Missing(_)
                | CallOut::Scales(_)
                | CallOut::Node(_),
            ) => Some((Ok(Bytes::new()), (call, None))),
        }
    })
}

/// Writes a tar stream into an instance. Owners and modes are those of the stream; devices and pipes
/// are refused; what is there already is replaced.
#[utoipa::path(
    put, path = "/v1/instances/{instance}/files",
    params(("instance" = String, Path, description = "application.service.slot"), PutFilesQuery),
    request_body(content = Vec<u8>, content_type = "application/x-tar"),
    responses((status = 204, description = "Everything is written"), Errors)
)]
pub(super) async fn write(
    State(api): State<Api>,
    Path(name): Path<String>,
    Params(query): Params<PutFilesQuery>,
    body: Body,
) -> Result<StatusCode, ApiError> {
    let view = Arc::clone(&api.control.view.borrow());
    let (instance, node) = locate(&view, &name, "the files of")?;
    let first = CallIn::Write { instance, path: query.path, contents: query.contents };
    let mut call = Call::open(&api, node, first, true).await?;
    let mut word = Some(call.first_word().await?);
    let mut input = Input { body: body.into_data_stream(), rest: Bytes::new(), ended: false };
    let (mut credit, mut sequence) = (0_u32, 0);
    loop {
        if credit == 0 || input.ended || word.is_some() {
            let answer = match word.take() {
                Some(answer) => answer,
                None => call.receive().await.map_err(ApiError::unavailable)?,
            };
            match answer {
                CallOut::Credit { chunks } => credit += u32::from(chunks),
                CallOut::End { error: None, .. } => return Ok(StatusCode::NO_CONTENT),
                CallOut::End { error: Some(error), .. } => {
                    return Err(ApiError::bad_request(error));
                }
                CallOut::Chunk { .. }
                | CallOut::Load(_)
                | CallOut::Missing(_)
                | CallOut::Scales(_)
                | CallOut::Node(_) => {}
            }
            continue;
        }
        let message = match input.next().await? {
            Some(data) => {
                credit -= 1;
                sequence += 1;
                CallIn::Input { sequence: sequence - 1, data }
            }
            None => CallIn::InputEnd,
        };
        if call.sender().send(message).await.is_err() {
            // It is over; why, the next answer says.
            input.ended = true;
        }
    }
}

/// A body in pieces that the wire takes.
struct Input<S> {
    body: S,
    rest: Bytes,
    ended: bool,
}

impl<S: Stream<Item = Result<Bytes, axum::Error>> + Unpin> Input<S> {
    /// The next piece; none at the end.
    async fn next(&mut self) -> Result<Option<Vec<u8>>, ApiError> {
        while self.rest.is_empty() {
            let chunk = tokio::time::timeout(BODY_STALL, self.body.next()).await;
            let late = |_| ApiError::bad_request("the body did not arrive in time");
            match chunk.map_err(late)? {
                Some(Ok(chunk)) => self.rest = chunk,
                Some(Err(error)) => {
                    let text = format!("the body cannot be read: {error}");
                    return Err(ApiError::bad_request(text));
                }
                None => {
                    self.ended = true;
                    return Ok(None);
                }
            }
        }
        let length = self.rest.len().min(MAX_CALL_CHUNK_BYTES);
        Ok(Some(self.rest.split_to(length).to_vec()))
    }
}
