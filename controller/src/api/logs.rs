//! The output of an instance, fetched from its node while somebody reads it.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, StreamExt as _, stream};
use limpet_protocol::call::CallIn;
use limpet_protocol::limits::CALL_WINDOW;
use serde::Deserialize;

use super::Api;
use super::body::Params;
use super::call::{Call, locate};
use super::error::{ApiError, Errors};
use super::log_lines::{Lines, failure};
use super::types::LogLine;

/// Which part of the output.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct LogsQuery {
    /// Only the last so many lines.
    tail: Option<u32>,
    /// Go on as more is written.
    #[serde(default)]
    #[param(required = false)]
    follow: bool,
    /// Only what was written from then on, in milliseconds since 1970 by the node's clock.
    since_ms: Option<u64>,
    /// Say when each line was written (`at_ms`).
    #[serde(default)]
    #[param(required = false)]
    timestamps: bool,
}

/// The output of an instance: lines of JSON, each a `LogLine`.
#[utoipa::path(
    get, path = "/v1/instances/{instance}/logs",
    params(("instance" = String, Path, description = "application.service.slot"), LogsQuery),
    responses(
        (status = 200, description = "The output", body = LogLine, content_type = "application/x-ndjson"),
        Errors
    )
)]
pub(super) async fn logs(
    State(api): State<Api>,
    Path(name): Path<String>,
    Params(query): Params<LogsQuery>,
) -> Result<Response, ApiError> {
    let view = Arc::clone(&api.control.view.borrow());
    let (instance, node) = locate(&view, &name, "the output of")?;
    let first = CallIn::Logs {
        instance,
        tail: query.tail,
        follow: query.follow,
        credit: CALL_WINDOW,
        since_ms: query.since_ms,
        timestamps: query.timestamps,
    };
    let call = Call::open(&api, node, first, query.follow).await?;
    let stop = api.shutdown.cancelled_owned();
    let output =
        Output { call, lines: Lines::new(query.timestamps), ready: VecDeque::new(), failed: false };
    let body = Body::from_stream(output.lines().take_until(stop));
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response())
}

/// The output as it is read.
struct Output {
    call: Call,
    lines: Lines,
    /// Lines that were not given yet.
    ready: VecDeque<LogLine>,
    failed: bool,
}

impl Output {
    fn lines(self) -> impl Stream<Item = Result<Bytes, Infallible>> {
        stream::unfold(self, |mut output| async move {
            let line = output.next().await?;
            let mut bytes = serde_json::to_vec(&line).unwrap_or_default();
            bytes.push(b'\n');
            Some((Ok(Bytes::from(bytes)), output))
        })
    }

    async fn next(&mut self) -> Option<LogLine> {
        loop {
            if let Some(line) = self.ready.pop_front() {
                return Some(line);
            }
            if self.failed || self.lines.ended() {
                return None;
            }
            match self.call.receive().await {
                Ok(answer) => self.ready = self.lines.take(answer).into(),
                Err(reason) => {
                    self.failed = true;
                    return Some(failure(&reason));
                }
            }
        }
    }
}
