//! What would an apply do? Nothing is changed.
//!
//! The control loop gives a copy of its planner and goes on; the copy plans on a thread of its own.

use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use limpet_protocol::application::Application;

use super::applications::{MAX_BODY_BYTES, carried_over, resolve_images};
use super::ask::ask;
use super::body;
use super::error::{ApiError, Errors};
use super::pulls::pulls;
use super::{Api, check, edit};
use crate::claims;
use crate::control_loop::Request;
use crate::dispatch::want;
use crate::plan::Planner;
use crate::preview::{PlanView, Pulls, Question, preview};
use crate::store::{Key, Revision};

/// How often the loop is asked again until it knows the application as the store has it.
const MAX_TRIES: usize = 50;
/// Between two of these.
const PAUSE: Duration = Duration::from_millis(20);

/// What an apply of this application would do: per service and node what would start, stop, move,
/// be updated or find no node, and why, and how many bytes each node would fetch. Nothing is changed.
#[utoipa::path(
    post, path = "/v1/plan",
    request_body(content = Object, content_type = "application/json",
        description = "The application as `limpet config -o json` writes it"),
    responses((status = 200, description = "The plan", body = PlanView), Errors)
)]
pub(super) async fn plan(State(api): State<Api>, body: Body) -> Result<Json<PlanView>, ApiError> {
    let mut application: Application = body::json(body, MAX_BODY_BYTES).await?;
    let name = application.name.as_str();
    check::check(&application, name, &api.control.pool).map_err(ApiError::bad_request)?;
    resolve_images(&api.images, &mut application);
    let entry = api.store.get(&Key::Application(application.name.clone()))?;
    let revision = entry.as_ref().map_or(Revision(0), |entry| entry.modified);
    let name = application.name.as_str();
    let record = entry.map(|entry| edit::decode(name, &entry)).transpose()?;
    let old = record.map(|record| record.application);
    let mut new = carried_over(old.as_ref(), &application);
    claims::choose_ports(&api.store, old.as_ref(), &mut new)?;
    claims::stake(&api.store, old.as_ref(), Some(&new))?;
    let planner = planner_after(&api, revision).await?;
    let (mut view, wanted) = plan_apart(planner, old, new).await?;
    view.pulls = pulls(&api, wanted).await;
    view.revision = revision.0;
    Ok(Json(view))
}

/// A copy of the planner that knows of everything up to a revision.
async fn planner_after(api: &Api, revision: Revision) -> Result<Box<Planner>, ApiError> {
    for _ in 0..MAX_TRIES {
        let (known, planner) = ask(api, |answer| Request::Copy { answer }).await?;
        if known >= revision {
            return Ok(planner);
        }
        tokio::time::sleep(PAUSE).await;
    }
    Err(ApiError::unavailable("the controller is behind its store: try again"))
}

async fn plan_apart(
    planner: Box<Planner>,
    old: Option<Application>,
    new: Application,
) -> Result<(PlanView, Pulls), ApiError> {
    let work = move || {
        let specs = want::specs_of(&new);
        preview(&Question { now: &planner, old: old.as_ref(), new: &new, specs })
    };
    let planned = tokio::task::spawn_blocking(work).await;
    planned.map_err(|error| ApiError::internal(&error))
}
