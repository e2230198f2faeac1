//! Applications: what people want, into the store and out of it.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use limpet_oci::{ImageLayout, Reference};
use limpet_protocol::application::{Application, Service};
use limpet_protocol::id::ServiceName;
use serde::Deserialize;

use super::body::{self, Params};
use super::error::{ApiError, Errors};
use super::types::{ApplicationPatch, ApplicationView, ApplyOutcome, List, ServiceView};
use super::{Api, check, edit, outcome, patch};
use crate::claims::{self, Stakes};
use crate::control_loop::View;
use crate::store::{Compare, Entry, Kind, MAX_VALUE_BYTES, Op, Transaction};

/// Largest body: JSON takes about twice the room of what is stored.
pub(super) const MAX_BODY_BYTES: usize = 2 * MAX_VALUE_BYTES;

/// The query of an apply.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ApplyQuery {
    /// Only if the application was last changed at this revision; 0 means that it must not be there.
    if_revision: Option<u64>,
}

/// All applications and how they fare.
#[utoipa::path(
    get, path = "/v1/applications",
    responses((status = 200, description = "All applications", body = List<ApplicationView>), Errors)
)]
pub(super) async fn list(State(api): State<Api>) -> Result<Json<List<ApplicationView>>, ApiError> {
    let view = Arc::clone(&api.control.view.borrow());
    let services = by_application(&view);
    let (revision, entries) = api.store.list(Kind::Application)?;
    let items = entries.iter().map(|(key, entry)| show_one(key.name(), entry, &view, &services));
    Ok(Json(List { revision: revision.0, items: items.collect::<Result<_, _>>()? }))
}

/// One application and how it fares.
#[utoipa::path(
    get, path = "/v1/applications/{name}", params(("name" = String, Path)),
    responses((status = 200, description = "The application", body = ApplicationView), Errors)
)]
pub(super) async fn show(
    State(api): State<Api>,
    Path(name): Path<String>,
) -> Result<Json<ApplicationView>, ApiError> {
    let (_, entry) = edit::find(&api.store, &name)?;
    let view = Arc::clone(&api.control.view.borrow());
    show_one(&name, &entry, &view, &by_application(&view)).map(Json)
}

/// Applies an application: what is not as given is made so.
#[utoipa::path(
    put, path = "/v1/applications/{name}", params(("name" = String, Path), ApplyQuery),
    request_body(content = Object, content_type = "application/json",
        description = "The application as `limpet config -o json` writes it"),
    responses((status = 200, description = "What it did", body = ApplyOutcome), Errors)
)]
pub(super) async fn apply(
    State(api): State<Api>,
    Path(name): Path<String>,
    Params(query): Params<ApplyQuery>,
    body: Body,
) -> Result<Json<ApplyOutcome>, ApiError> {
    let mut application: Application = body::json(body, MAX_BODY_BYTES).await?;
    check::check(&application, &name, &api.control.pool).map_err(ApiError::bad_request)?;
    resolve_images(&api.images, &mut application);
    let wanted = |old: Option<&Application>| Ok(carried_over(old, &application));
    edit::edit(&api.store, (&application.name, "apply"), query.if_revision, wanted).await.map(Json)
}

/// Changes single services of an application: how many instances, stopped or not, restarted.
#[utoipa::path(
    patch, path = "/v1/applications/{name}", params(("name" = String, Path), ApplyQuery),
    request_body = ApplicationPatch,
    responses((status = 200, description = "What it did", body = ApplyOutcome), Errors)
)]
pub(super) async fn change(
    State(api): State<Api>,
    Path(name): Path<String>,
    Params(query): Params<ApplyQuery>,
    body: Body,
) -> Result<Json<ApplyOutcome>, ApiError> {
    let change: ApplicationPatch = body::json(body, MAX_BODY_BYTES).await?;
    let known = edit::name(&name)?;
    let wanted = |old: Option<&Application>| {
        let old = old.ok_or_else(|| edit::missing(&name))?;
        let new = patch::patched(old, &change)?;
        check::check(&new, &name, &api.control.pool).map_err(ApiError::bad_request)?;
        Ok(new)
    };
    let what = patch::in_words(&change);
    edit::edit(&api.store, (&known, what), query.if_revision, wanted).await.map(Json)
}

/// Removes an application.
#[utoipa::path(
    delete, path = "/v1/applications/{name}", params(("name" = String, Path)),
    responses((status = 200, description = "What it did", body = ApplyOutcome), Errors)
)]
pub(super) async fn remove(
    State(api): State<Api>,
    Path(name): Path<String>,
) -> Result<Json<ApplyOutcome>, ApiError> {
    let (key, entry) = edit::find(&api.store, &name)?;
    let application = edit::decode(&name, &entry)?.application;
    let mut outcome = outcome::removal(&application);
    let Stakes { mut compare, mut ops } = claims::stake(&api.store, Some(&application), None)?;
    compare.push(Compare { key: key.clone(), modified: Some(entry.modified) });
    ops.push(Op::Delete(key));
    ops.extend(edit::forget(&api.store, &edit::name(&name)?)?);
    let transaction = Transaction { compare, ops, if_revision: None };
    outcome.revision = api.store.commit(transaction).await?.0;
    Ok(Json(outcome))
}

/// What a file says of an application that is there already: what people did to its services by
/// hand and no file can say stays.
pub(super) fn carried_over(old: Option<&Application>, file: &Application) -> Application {
    let mut new = file.clone();
    for (name, service) in &mut new.services {
        let before = old.and_then(|old| old.services.get(name));
        service.spec.restarts = before.map_or(0, |before| before.spec.restarts);
    }
    new
}

/// Images that the controller has are pinned to what they are now; what the client says about it
/// does not count.
pub(super) fn resolve_images(images: &ImageLayout, application: &mut Application) {
    for service in application.services.values_mut() {
        let image = &mut service.spec.image;
        let here = images.resolve(&image.reference);
        image.from_controller = here.is_some();
        let written = image.reference.parse::<Reference>().ok();
        let written = written.and_then(|reference| reference.digest().copied());
        image.digest = here.or(written).map(|digest| digest.to_string());
    }
}

type Services<'a> = HashMap<(&'a str, &'a str), &'a ServiceView>;

fn by_application(view: &View) -> Services<'_> {
    view.services
        .iter()
        .map(|(application, service)| ((application.as_str(), service.name.as_str()), &**service))
        .collect()
}

fn show_one(
    name: &str,
    entry: &Entry,
    view: &View,
    services: &Services<'_>,
) -> Result<ApplicationView, ApiError> {
    let record = edit::decode(name, entry)?;
    // What the loop knows of an older version must not pass as news of this one.
    let is_planned = view.revision >= entry.modified;
    let services = record.application.services.iter().map(|(service, wanted)| {
        match services.get(&(name, service.as_str())) {
            Some(known) if is_planned => (*known).clone(),
            known => unplanned(service, wanted, known.copied()),
        }
    });
    Ok(ApplicationView {
        name: name.to_owned(),
        revision: entry.modified.0,
        applied_ms: record.applied_ms,
        services: services.collect(),
    })
}

fn unplanned(name: &ServiceName, service: &Service, known: Option<&ServiceView>) -> ServiceView {
    let mode = service.mode;
    let fixed = mode.slots().filter(|_| service.autoscale.is_none());
    let slots = if service.stopped { Some(0) } else { fixed };
    let wanted = slots.unwrap_or_else(|| known.map_or(0, |known| known.wanted));
    ServiceView {
        name: name.to_string(),
        mode: mode.as_str().to_owned(),
        image: service.spec.image.reference.clone(),
        wanted,
        running: 0,
        ready: 0,
        completed: 0,
        stopped: service.stopped,
        settled: false,
        reasons: vec!["it is being planned".to_owned()],
        rollout: None,
        scale: None,
    }
}
