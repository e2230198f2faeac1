//! A command in an instance: the connection becomes a stream of [`Frame`]s.
//!
//! In: the command as JSON, with `Upgrade: limpet-exec`. Out: `101`, and then frames both ways until
//! the command has ended. Input is paid by the node's credit and output by ours, so neither a slow
//! caller nor a flooding command fills anything here. Who goes away ends the command.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use limpet_protocol::call::{CallIn, CallOut, ExecCall, Stream, TerminalSize};
use limpet_protocol::limits::{CALL_WINDOW, MAX_EXEC_BYTES};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

use super::Api;
use super::body::json;
use super::call::{Call, locate};
use super::error::{ApiError, Errors};
use super::frames::{Frame, UPGRADE};
use super::server::AfterUpgrade;
use super::types::{ExecEnd, ExecRequest};

/// Largest body: the command, its environment, and what JSON adds.
const MAX_BODY_BYTES: usize = 2 * MAX_EXEC_BYTES;

/// Runs a command in an instance. To be asked with the headers `Connection: upgrade` and `Upgrade:
/// limpet-exec`; after the answer the connection carries frames: a byte of kind, four bytes of length
/// (big-endian), and so many bytes. From the caller: 0 input (one frame for one credit), 1 end of
/// input, 2 resize (rows, columns: two bytes each), 3 signal (one byte). To the caller: 16 standard
/// output, 17 standard error, 18 credit (two bytes), 19 the end, an `ExecEnd` as JSON. A closed
/// connection ends the command.
#[utoipa::path(
    post, path = "/v1/instances/{instance}/exec",
    params(("instance" = String, Path, description = "application.service.slot")),
    request_body = ExecRequest,
    responses((status = 101, description = "Frames follow"), Errors)
)]
pub(super) async fn exec(
    State(api): State<Api>,
    Path(name): Path<String>,
    mut request: Request,
) -> Result<Response, ApiError> {
    let asked = request.headers().get(header::UPGRADE).and_then(|value| value.to_str().ok());
    let after = request.extensions().get::<AfterUpgrade>().cloned();
    let (Some(after), true) = (after, asked == Some(UPGRADE)) else {
        let advice = format!("ask with the headers Connection: upgrade and Upgrade: {UPGRADE}");
        return Err(ApiError::bad_request(advice));
    };
    let upgrade = hyper::upgrade::on(&mut request);
    let wanted: ExecRequest = json(request.into_body(), MAX_BODY_BYTES).await?;
    if wanted.command.is_empty() {
        return Err(ApiError::bad_request("command: name a program"));
    }
    let view = Arc::clone(&api.control.view.borrow());
    let (instance, node) = locate(&view, &name, "a command in")?;
    let first = CallIn::Exec(ExecCall {
        instance,
        command: wanted.command,
        environment: wanted.environment.into_iter().collect(),
        working_dir: wanted.working_dir,
        user: wanted.user,
        terminal: wanted
            .terminal
            .map(|size| TerminalSize { rows: size.rows, columns: size.columns }),
        input: wanted.input,
        credit: CALL_WINDOW,
    });
    let mut call = Call::open(&api, node, first, true).await?;
    let word = call.first_word().await?;
    if let CallOut::End { error: Some(error), exit_code: None } = word {
        return Err(ApiError::unavailable(error));
    }
    let stop = api.shutdown.cancelled_owned();
    after.run(async move {
        match upgrade.await {
            Ok(connection) => tokio::select! {
                () = relay(call, word, connection) => {}
                () = stop => {}
            },
            Err(error) => tracing::debug!(%error, "a connection was not upgraded"),
        }
    });
    let headers = [(header::CONNECTION, "upgrade"), (header::UPGRADE, UPGRADE)];
    Ok((StatusCode::SWITCHING_PROTOCOLS, headers, Body::empty()).into_response())
}

/// Passes on until the command or the connection has ended.
async fn relay(call: Call, word: CallOut, connection: Upgraded) {
    let (from, to) = tokio::io::split(TokioIo::new(connection));
    let more = call.sender();
    let (credit, earned) = mpsc::channel(usize::from(CALL_WINDOW));
    tokio::select! {
        () = down(call, word, to, credit) => {}
        () = up(from, more, earned) => {}
    }
}

/// From the node to the caller.
async fn down(
    mut call: Call,
    word: CallOut,
    mut to: impl AsyncWrite + Unpin,
    credit: mpsc::Sender<u16>,
) {
    let mut answer = Ok(word);
    loop {
        let frame = match answer {
            Ok(CallOut::Chunk { stream: Stream::Stdout, data, .. }) => Frame::Output(data),
            Ok(CallOut::Chunk { stream: Stream::Stderr, data, .. }) => Frame::ErrorOutput(data),
            Ok(CallOut::Credit { chunks }) => {
                // A node never gives more than one window; a queue that is full of it is a liar's.
                credit.try_send(chunks).ok();
                Frame::Credit(chunks)
            }
            Ok(CallOut::Load(_) | CallOut::Missing(_) | CallOut::Scales(_) | CallOut::Node(_)) => {
                Frame::Credit(0)
            }
            Ok(CallOut::End { error, exit_code }) => Frame::End(ExecEnd { exit_code, error }),
            Err(error) => Frame::End(ExecEnd { exit_code: None, error: Some(error) }),
        };
        if frame.write(&mut to).await.is_err() || matches!(frame, Frame::End(_)) {
            return;
        }
        answer = call.receive_whole().await;
    }
}

/// From the caller to the node.
async fn up(
    mut from: impl AsyncRead + Unpin,
    more: mpsc::Sender<CallIn>,
    mut earned: mpsc::Receiver<u16>,
) {
    let (mut sequence, mut credit) = (0, 0_u16);
    loop {
        let message = match Frame::read(&mut from).await {
            Ok(Some(Frame::Input(data))) => {
                while let Ok(chunks) = earned.try_recv() {
                    credit = credit.saturating_add(chunks);
                }
                let Some(left) = credit.checked_sub(1) else {
                    return tracing::debug!("a caller sent input without credit");
                };
                credit = left;
                sequence += 1;
                CallIn::Input { sequence: sequence - 1, data }
            }
            Ok(Some(Frame::InputEnd)) => CallIn::InputEnd,
            Ok(Some(Frame::Resize(rows, columns))) => {
                CallIn::Resize(TerminalSize { rows, columns })
            }
            Ok(Some(Frame::Signal(number))) => CallIn::Signal { number: number.into() },
            Ok(Some(_) | None) => return,
            Err(error) => return tracing::debug!(%error, "a caller's connection ended"),
        };
        if more.send(message).await.is_err() {
            // The call is over: its end is on its way.
            return std::future::pending().await;
        }
    }
}
