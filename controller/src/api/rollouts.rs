//! Rollouts: how far they are, what they were, and what people do about them.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use limpet_protocol::application::Application;
use limpet_protocol::id::{ApplicationName, ServiceName};
use tokio::sync::oneshot;

use super::error::{ApiError, Errors};
use super::types::{List, RevisionView, RolloutOutcome, RolloutRequest, ServiceRolloutView};
use super::{Api, body, check, edit};
use crate::control_loop::Request;
use crate::rollout::Order;
use crate::store::records::ApplicationRecord;
use crate::store::{Entry, Key, Revision};

/// A request is three words and a number.
const MAX_BODY_BYTES: usize = 4096;

/// How far the rollouts of an application are, one for each service.
#[utoipa::path(
    get, path = "/v1/applications/{name}/rollout", params(("name" = String, Path)),
    responses((status = 200, description = "The rollouts", body = List<ServiceRolloutView>), Errors)
)]
pub(super) async fn status(
    State(api): State<Api>,
    Path(name): Path<String>,
) -> Result<Json<List<ServiceRolloutView>>, ApiError> {
    edit::find(&api.store, &name)?;
    let view = Arc::clone(&api.control.view.borrow());
    let of_it = view.services.iter().filter(|(application, _)| *application == name);
    let items = of_it.map(|(_, service)| ServiceRolloutView {
        service: service.name.clone(),
        settled: service.settled,
        rollout: service.rollout.clone(),
    });
    Ok(Json(List { revision: view.revision.0, items: items.collect() }))
}

/// The revisions of an application that are kept, the newest first.
#[utoipa::path(
    get, path = "/v1/applications/{name}/rollout/history", params(("name" = String, Path)),
    responses((status = 200, description = "The revisions", body = List<RevisionView>), Errors)
)]
pub(super) async fn history(
    State(api): State<Api>,
    Path(name): Path<String>,
) -> Result<Json<List<RevisionView>>, ApiError> {
    let (key, entry) = edit::find(&api.store, &name)?;
    let Key::Application(application) = key else { return Err(edit::missing(&name)) };
    let newest = revision_view(entry.modified, &edit::decode(&name, &entry)?, true);
    let mut items = vec![newest];
    for (revision, entry) in revisions(&api, &application)? {
        items.push(revision_view(revision, &edit::decode(&name, &entry)?, false));
    }
    Ok(Json(List { revision: entry.modified.0, items }))
}

/// Pauses, resumes or undoes.
#[utoipa::path(
    post, path = "/v1/applications/{name}/rollout", params(("name" = String, Path)),
    request_body = RolloutRequest,
    responses((status = 200, description = "What it did", body = RolloutOutcome), Errors)
)]
pub(super) async fn order(
    State(api): State<Api>,
    Path(name): Path<String>,
    body: Body,
) -> Result<Json<RolloutOutcome>, ApiError> {
    let request: RolloutRequest = body::json(body, MAX_BODY_BYTES).await?;
    let (key, entry) = edit::find(&api.store, &name)?;
    let Key::Application(application) = key else { return Err(edit::missing(&name)) };
    let now = edit::decode(&name, &entry)?.application;
    let service = request.service.as_deref().map(|service| named(&now, service)).transpose()?;
    if request.to_revision.is_some() && request.action != "undo" {
        return Err(ApiError::bad_request("to_revision: is for `undo` alone"));
    }
    let order = match request.action.as_str() {
        "pause" => Order::Pause,
        "resume" => Order::Resume,
        "undo" => return undo(&api, (&application, &now), service, request.to_revision).await,
        other => {
            let message = format!("action: expected pause, resume or undo, found {other:?}");
            return Err(ApiError::bad_request(message));
        }
    };
    let (answer, answered) = oneshot::channel();
    let request = Request::Rollout { application, service, order, answer };
    let ended = |_| ApiError::unavailable("the controller is ending");
    api.control.requests.send(request).await.map_err(|_| ended(()))?;
    let services = answered.await.map_err(|_| ended(()))?.map_err(ApiError::conflict)?;
    Ok(Json(RolloutOutcome { application: name, services, revision: None }))
}

fn named(application: &Application, service: &str) -> Result<ServiceName, ApiError> {
    let name = application.services.keys().find(|known| known.as_str() == service);
    name.cloned().ok_or_else(|| {
        let message =
            format!("there is no service {service:?} in application {}", application.name);
        ApiError::not_found(message)
    })
}

/// An earlier revision of an application, or of one of its services, is wanted again: a change like
/// any other.
async fn undo(
    api: &Api,
    (application, now): (&ApplicationName, &Application),
    service: Option<ServiceName>,
    to: Option<u64>,
) -> Result<Json<RolloutOutcome>, ApiError> {
    let name = application.as_str();
    let (revision, earlier) = earlier(api, now, service.as_ref(), to)?;
    let wanted = |old: Option<&Application>| {
        let mut new = old.ok_or_else(|| edit::missing(name))?.clone();
        match &service {
            Some(service) => {
                let before = earlier.services.get(service).cloned();
                let before = before.ok_or_else(|| {
                    let what =
                        format!("revision {} of {name} has no service {service}", revision.0);
                    ApiError::not_found(what)
                })?;
                new.services.insert(service.clone(), before);
            }
            None => new.services.clone_from(&earlier.services),
        }
        check::check(&new, name, &api.control.pool).map_err(ApiError::bad_request)?;
        Ok(new)
    };
    let what = format!("undo to revision {}", revision.0);
    let outcome = edit::edit(&api.store, (application, &what), None, wanted).await?;
    let services = [outcome.added, outcome.changed, outcome.removed].concat();
    let revision = Some(outcome.revision);
    Ok(Json(RolloutOutcome { application: name.to_owned(), services, revision }))
}

/// The revision that is asked for, or the newest that is another.
fn earlier(
    api: &Api,
    now: &Application,
    service: Option<&ServiceName>,
    to: Option<u64>,
) -> Result<(Revision, Application), ApiError> {
    let name = now.name.as_str();
    let mut kept = vec![];
    for (revision, entry) in revisions(api, &now.name)? {
        kept.push(revision.0.to_string());
        if to.is_some_and(|to| to != revision.0) {
            continue;
        }
        let then = edit::decode(name, &entry)?.application;
        let differs = match service {
            Some(service) => {
                let before = then.services.get(service);
                before.is_some() && before != now.services.get(service)
            }
            None => then != *now,
        };
        if to.is_some() || differs {
            return Ok((revision, then));
        }
    }
    let kept = if kept.is_empty() { "none".to_owned() } else { kept.join(", ") };
    let message = match to {
        Some(to) => format!("revision {to} of {name} is not kept; kept are: {kept}"),
        None => format!("no earlier revision of {name} that is kept is another; kept are: {kept}"),
    };
    Err(ApiError::not_found(message))
}

/// The earlier revisions that are kept, the newest first.
fn revisions(api: &Api, application: &ApplicationName) -> Result<Vec<(Revision, Entry)>, ApiError> {
    let kept = api.store.history(application)?;
    Ok(kept.into_iter().rev().collect())
}

fn revision_view(revision: Revision, record: &ApplicationRecord, current: bool) -> RevisionView {
    RevisionView {
        revision: revision.0,
        applied_ms: record.applied_ms,
        change: record.change.clone(),
        changed: record.changed.clone(),
        current,
    }
}
