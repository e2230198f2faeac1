//! The watch: every change of desired state from a revision on, as server-sent events.
//!
//! An event's id is its revision, and only the last change of a revision has one: whoever resumes
//! from it has seen the whole revision.

use std::convert::Infallible;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, StreamExt as _, stream};
use serde::Deserialize;

use super::Api;
use super::body::Params;
use super::error::{ApiError, Errors};
use super::events::last_event_id;
use super::types::{ChangeView, ErrorBody};
use crate::store::{Change, Kind, Revision, Watch, WatchError};

/// From where on.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct WatchQuery {
    /// Changes after this revision, as lists give it; without it, those from now on.
    from: Option<u64>,
}

/// Every change of desired state after a revision, and then those that come. Each event is a
/// `ChangeView`; an event of type `error` is an `ErrorBody` and the last one.
#[utoipa::path(
    get, path = "/v1/watch", params(WatchQuery),
    responses(
        (status = 200, description = "The changes", body = String, content_type = "text/event-stream"),
        (status = 410, description = "Those changes are compacted: list again", body = ErrorBody),
        Errors
    )
)]
pub(super) async fn watch(
    State(api): State<Api>,
    Params(query): Params<WatchQuery>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let newest = api.store.revision().0;
    let from = last_event_id(&headers)?.or(query.from).unwrap_or(newest);
    if from > newest {
        let message = format!(
            "the store is at revision {newest}, before {from}: it was replaced; list again"
        );
        return Err(ApiError::gone(message));
    }
    let mut watch = api.store.watch(Revision(from));
    match watch.check() {
        Ok(()) => {}
        Err(error @ WatchError::Compacted { .. }) => return Err(ApiError::gone(error.to_string())),
        Err(error @ WatchError::Closed) => return Err(ApiError::unavailable(error.to_string())),
    }
    let stop = api.shutdown.cancelled_owned();
    let events = follow(watch).take_until(stop);
    Ok(Sse::new(events).keep_alive(KeepAlive::default()).into_response())
}

fn follow(watch: Watch) -> impl Stream<Item = Result<Event, Infallible>> {
    stream::unfold(Some(watch), |watch| async move {
        let mut watch = watch?;
        match watch.next_revision().await {
            Ok(changes) => Some((show(&changes), Some(watch))),
            Err(error) => {
                let code = "compacted".to_owned();
                let body = ErrorBody { code, message: error.to_string() };
                let event = Event::default().event("error").json_data(body);
                Some((vec![event.unwrap_or_default()], None))
            }
        }
    })
    .flat_map(|events| stream::iter(events.into_iter().map(Ok)))
}

fn show(changes: &[Change]) -> Vec<Event> {
    // Tokens are nobody's business; of specs and history the application's change tells.
    let hidden =
        |change: &&Change| matches!(change.key.kind(), Kind::Token | Kind::Spec | Kind::History);
    let shown: Vec<_> = changes.iter().filter(|change| !hidden(change)).collect();
    let count = shown.len();
    let event = |(index, change): (usize, &&Change)| {
        let view = ChangeView {
            revision: change.revision.0,
            kind: change.key.kind().to_string(),
            name: change.key.name().to_owned(),
            op: if change.value.is_some() { "put" } else { "delete" }.to_owned(),
        };
        let event = Event::default().json_data(view).unwrap_or_default();
        if index + 1 == count { event.id(change.revision.0.to_string()) } else { event }
    };
    shown.iter().enumerate().map(event).collect()
}
