//! The output of an instance, fetched from its node while somebody reads it.
//!
//! The node sends only for credit, and credit is given as lines are read: a slow reader holds
//! [`CALL_WINDOW`] chunks at most, here and on the node. Who goes away ends the call.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, StreamExt as _, stream};
use limpet_protocol::call::{CallIn, CallOut};
use limpet_protocol::id::{InstanceId, NodeId};
use limpet_protocol::limits::CALL_WINDOW;
use serde::Deserialize;
use tokio::sync::{mpsc, oneshot, watch};

use super::Api;
use super::body::Params;
use super::error::{ApiError, Errors};
use super::log_lines::{Lines, failure};
use super::types::LogLine;
use crate::control_loop::{Request, View};

/// How long the control loop may take to open a call.
const OPEN_LIMIT: Duration = Duration::from_secs(5);
/// How long a node may be silent when it is not asked to follow.
const SILENCE_LIMIT: Duration = Duration::from_secs(30);
/// Credit is given back in portions, so that not every chunk costs a message.
const CREDIT_PORTION: u16 = CALL_WINDOW / 4;

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
    let (instance, node) = locate(&view, &name)?;
    let first =
        CallIn::Logs { instance, tail: query.tail, follow: query.follow, credit: CALL_WINDOW };
    let call = Call::open(&api, node, first, query.follow).await?;
    let stop = api.shutdown.cancelled_owned();
    let body = Body::from_stream(call.lines().take_until(stop));
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response())
}

fn locate(view: &View, name: &str) -> Result<(InstanceId, NodeId), ApiError> {
    let missing = || ApiError::not_found(format!("there is no instance {name:?}"));
    let instance: InstanceId = name.parse().map_err(|_| missing())?;
    let found = view.instances.iter().find(|it| it.instance == name).ok_or_else(missing)?;
    let Some(node) = &found.node else {
        let reason = found.reason.as_deref().unwrap_or("it is being planned");
        return Err(ApiError::unavailable(format!("{name} has no node yet: {reason}")));
    };
    if !is_ready(view, node) {
        let message =
            format!("node {node} cannot be reached, so the output of {name} cannot be read now");
        return Err(ApiError::unavailable(message));
    }
    let node = node.parse().map_err(|_| missing())?;
    Ok((instance, node))
}

fn is_ready(view: &View, node: &str) -> bool {
    view.nodes.iter().any(|it| it.node == node && it.status == "ready")
}

/// An open call.
struct Call {
    node: NodeId,
    follow: bool,
    answers: mpsc::Receiver<CallOut>,
    more: mpsc::Sender<CallIn>,
    view: watch::Receiver<Arc<View>>,
    lines: Lines,
    /// Lines that were not given yet.
    ready: VecDeque<LogLine>,
    /// Chunks that were read and not given credit for.
    read: u16,
    failed: bool,
}

impl Drop for Call {
    fn drop(&mut self) {
        if !self.lines.ended() {
            // If the queue is full or gone, the loop learns it from the dropped receiver.
            drop(self.more.try_send(CallIn::Cancel));
        }
    }
}

impl Call {
    async fn open(api: &Api, node: NodeId, first: CallIn, follow: bool) -> Result<Self, ApiError> {
        let (answers_in, answers) = mpsc::channel(usize::from(CALL_WINDOW));
        let (more, more_out) = mpsc::channel(usize::from(CALL_WINDOW));
        let (opened, is_opened) = oneshot::channel();
        let name = node.clone();
        let request = Request::Call { node, first, answers: answers_in, more: more_out, opened };
        let busy = || ApiError::unavailable("the controller is busy: try again");
        let send = async {
            api.control.requests.send(request).await.map_err(|_| busy())?;
            is_opened.await.map_err(|_| busy())?.map_err(ApiError::unavailable)
        };
        tokio::time::timeout(OPEN_LIMIT, send).await.map_err(|_| busy())??;
        Ok(Self {
            node: name,
            follow,
            answers,
            more,
            view: api.control.view.clone(),
            lines: Lines::default(),
            ready: VecDeque::new(),
            read: 0,
            failed: false,
        })
    }

    fn lines(self) -> impl Stream<Item = Result<Bytes, Infallible>> {
        stream::unfold(self, |mut call| async move {
            let line = call.next().await?;
            let mut bytes = serde_json::to_vec(&line).unwrap_or_default();
            bytes.push(b'\n');
            Some((Ok(Bytes::from(bytes)), call))
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
            self.give_credit();
            match self.receive().await {
                Ok(answer) => {
                    self.read += u16::from(matches!(answer, CallOut::Chunk { .. }));
                    self.ready = self.lines.take(answer).into();
                }
                Err(reason) => {
                    self.failed = true;
                    return Some(failure(&reason));
                }
            }
        }
    }

    fn give_credit(&mut self) {
        if self.read >= CREDIT_PORTION
            && self.more.try_send(CallIn::Credit { chunks: self.read }).is_ok()
        {
            self.read = 0;
        }
    }

    async fn receive(&mut self) -> Result<CallOut, String> {
        let node = &self.node;
        loop {
            tokio::select! {
                // Cancel-safe: a received answer is returned at once.
                answer = self.answers.recv() => {
                    return answer.ok_or_else(|| format!("node {node} ended the call without a word"));
                }
                // Cancel-safe: only looks.
                changed = self.view.changed() => {
                    let here = changed.is_ok()
                        && is_ready(&self.view.borrow_and_update(), node.as_str());
                    if !here {
                        return Err(format!("node {node} cannot be reached any more"));
                    }
                }
                () = tokio::time::sleep(SILENCE_LIMIT), if !self.follow => {
                    return Err(format!("node {node} does not answer"));
                }
            }
        }
    }
}
