//! Events: a list, or a stream that begins where the reader left off.

use std::collections::VecDeque;
use std::convert::Infallible;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, StreamExt as _, stream};
use serde::Deserialize;
use tokio::sync::watch;

use super::Api;
use super::body::Params;
use super::error::{ApiError, Errors};
use super::types::{EventView, List};
use crate::store::Store;
use crate::store::records::EventRecord;

/// Events that a stream reads at once.
const BATCH: usize = 100;
/// Events of one list: more than [`crate::store::EVENTS_KEPT`].
const MAX_LISTED: usize = 20_000;

/// Which events.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct EventsQuery {
    /// Only those with a greater id.
    since: Option<u64>,
    /// At most so many, the oldest first. Lists only.
    limit: Option<usize>,
}

/// What happened. With `Accept: text/event-stream` a stream that goes on with what happens; it
/// resumes after `Last-Event-ID`.
#[utoipa::path(
    get, path = "/v1/events", params(EventsQuery),
    responses(
        (status = 200, description = "The events", content(
            (List<EventView> = "application/json"), (String = "text/event-stream"))),
        Errors
    )
)]
pub(super) async fn events(
    State(api): State<Api>,
    Params(query): Params<EventsQuery>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    if wants_stream(&headers) {
        let since = last_event_id(&headers)?.or(query.since).unwrap_or(0);
        let stop = api.shutdown.clone().cancelled_owned();
        let events = follow(api.store, since).take_until(stop);
        return Ok(Sse::new(events).keep_alive(KeepAlive::default()).into_response());
    }
    let limit = query.limit.unwrap_or(MAX_LISTED).min(MAX_LISTED);
    let events = api.store.events(query.since.unwrap_or(0), limit)?;
    let items = events.into_iter().map(show).collect();
    Ok(Json(List { revision: api.store.revision().0, items }).into_response())
}

fn show(event: EventRecord) -> EventView {
    EventView {
        id: event.id,
        at_ms: event.at_ms,
        node: event.node.map(|node| node.to_string()),
        instance: event.instance.map(|instance| instance.to_string()),
        kind: event.kind,
        message: event.message,
    }
}

pub(super) fn wants_stream(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    accept.is_some_and(|accept| accept.contains("text/event-stream"))
}

/// Where a reader left off (HTML Standard, "server-sent events").
pub(super) fn last_event_id(headers: &HeaderMap) -> Result<Option<u64>, ApiError> {
    let Some(id) = headers.get("last-event-id") else { return Ok(None) };
    let number = id.to_str().ok().and_then(|id| id.trim().parse().ok());
    number.map(Some).ok_or_else(|| ApiError::bad_request("Last-Event-ID must be a number"))
}

struct Follow {
    store: Store,
    last: watch::Receiver<u64>,
    since: u64,
    read: VecDeque<EventRecord>,
}

fn follow(store: Store, since: u64) -> impl Stream<Item = Result<Event, Infallible>> {
    let last = store.subscribe_events();
    let start = Follow { store, last, since, read: VecDeque::new() };
    stream::unfold(start, |mut state| async move {
        let event = state.next().await?;
        let id = event.id;
        let shown = Event::default().id(id.to_string()).json_data(show(event));
        Some((Ok(shown.unwrap_or_default()), state))
    })
}

impl Follow {
    /// The next event; none when the store is closed.
    async fn next(&mut self) -> Option<EventRecord> {
        loop {
            if let Some(event) = self.read.pop_front() {
                self.since = event.id;
                return Some(event);
            }
            if *self.last.borrow_and_update() > self.since {
                self.read = self.store.events(self.since, BATCH).ok()?.into();
            }
            if self.read.is_empty() {
                self.last.changed().await.ok()?;
            }
        }
    }
}
