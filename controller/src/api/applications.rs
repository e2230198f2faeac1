//! Applications: what people want, into the store and out of it.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use limpet_oci::{ImageLayout, Reference};
use limpet_protocol::application::{Application, Service};
use limpet_protocol::codec;
use limpet_protocol::id::{ApplicationName, ServiceName};
use serde::Deserialize;

use super::body::{self, Params};
use super::error::{ApiError, Errors};
use super::types::{ApplicationView, ApplyOutcome, List, ServiceView};
use super::{Api, check, outcome};
use crate::clock::now_ms;
use crate::control_loop::View;
use crate::store::records::ApplicationRecord;
use crate::store::{
    CommitError, Compare, Entry, Key, Kind, MAX_VALUE_BYTES, Op, Revision, Store, Transaction,
};

/// Largest body: JSON takes about twice the room of what is stored.
const MAX_BODY_BYTES: usize = 2 * MAX_VALUE_BYTES;
/// How often an apply begins again because somebody else was faster.
const MAX_TRIES: usize = 4;

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
    let (_, entry) = find(&api.store, &name)?;
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
    check::check(&application, &name).map_err(ApiError::bad_request)?;
    resolve_images(&api.images, &mut application);
    for _ in 0..MAX_TRIES {
        match try_apply(&api.store, &application, query.if_revision).await {
            Err(Attempt::Conflict) if query.if_revision.is_none() => {}
            Err(Attempt::Conflict) => break,
            Err(Attempt::Failed(error)) => return Err(error),
            Ok(outcome) => return Ok(Json(outcome)),
        }
    }
    Err(ApiError::conflict(format!("application {name} is being changed by others: try again")))
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
    let (key, entry) = find(&api.store, &name)?;
    let mut outcome = outcome::removal(&decode(&name, &entry)?.application);
    let compare = vec![Compare { key: key.clone(), modified: Some(entry.modified) }];
    let transaction = Transaction { compare, ops: vec![Op::Delete(key)], if_revision: None };
    outcome.revision = api.store.commit(transaction).await?.0;
    Ok(Json(outcome))
}

enum Attempt {
    Conflict,
    Failed(ApiError),
}

impl<E: Into<ApiError>> From<E> for Attempt {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

async fn try_apply(
    store: &Store,
    application: &Application,
    if_revision: Option<u64>,
) -> Result<ApplyOutcome, Attempt> {
    let name = &application.name;
    let key = Key::Application(name.clone());
    let stored = store.get(&key)?;
    let found = stored.as_ref().map(|entry| entry.modified);
    if let Some(expected) = if_revision
        && expected != found.unwrap_or_default().0
    {
        let found =
            found.map_or("is not there".to_owned(), |at| format!("is at revision {}", at.0));
        let message = format!("application {name} {found}, not at revision {expected}");
        return Err(ApiError::conflict(message).into());
    }
    let old = stored.as_ref().map(|entry| decode(name.as_str(), entry)).transpose()?;
    let mut outcome = outcome::compare(old.as_ref().map(|old| &old.application), application);
    if let Some(at) = found
        && outcome::is_unchanged(&outcome)
    {
        outcome.revision = at.0;
        return Ok(outcome);
    }
    let value = encode(application)?;
    let transaction = Transaction {
        compare: vec![Compare { key: key.clone(), modified: found }],
        if_revision: None,
        ops: vec![Op::Put(key, value)],
    };
    match store.commit(transaction).await {
        Ok(Revision(revision)) => Ok(ApplyOutcome { revision, ..outcome }),
        Err(CommitError::Conflict { .. }) => Err(Attempt::Conflict),
        Err(error) => Err(error.into()),
    }
}

fn encode(application: &Application) -> Result<Vec<u8>, ApiError> {
    let record = ApplicationRecord { application: application.clone(), applied_ms: now_ms() };
    let bytes = codec::encode_within(&record, MAX_VALUE_BYTES);
    // What is written must be readable: the reader has a limit of items too.
    let checked = bytes.and_then(|bytes| codec::check(&bytes).map(|()| bytes));
    checked.map_err(|error| {
        ApiError::too_large(format!("application {} is too large: {error}", application.name))
    })
}

fn decode(name: &str, entry: &Entry) -> Result<ApplicationRecord, ApiError> {
    codec::decode_within(&entry.value, MAX_VALUE_BYTES).map_err(|error| {
        tracing::error!(name, "an application in the store cannot be read");
        ApiError::internal(&error)
    })
}

fn find(store: &Store, name: &str) -> Result<(Key, Entry), ApiError> {
    let missing = || ApiError::not_found(format!("there is no application {name:?}"));
    let key = Key::Application(ApplicationName::new(name).map_err(|_| missing())?);
    let entry = store.get(&key)?.ok_or_else(missing)?;
    Ok((key, entry))
}

/// Images that the controller has are pinned to what they are now; what the client says about it
/// does not count.
fn resolve_images(images: &ImageLayout, application: &mut Application) {
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
    let record = decode(name, entry)?;
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
    let wanted = mode.slots().unwrap_or_else(|| known.map_or(0, |known| known.wanted));
    ServiceView {
        name: name.to_string(),
        mode: mode.as_str().to_owned(),
        image: service.spec.image.reference.clone(),
        wanted,
        running: 0,
        completed: 0,
        settled: false,
        reasons: vec!["it is being planned".to_owned()],
    }
}
