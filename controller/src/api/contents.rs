//! Configs and secrets: taken in, named, listed, forgotten. A secret that came in never goes out.

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use limpet_protocol::id::{ContentId, ContentName};
use limpet_protocol::limits::MAX_CONTENT_BYTES;
use limpet_seal::Secret;
use serde::Deserialize;

use super::Api;
use super::body::{self, Params};
use super::error::{ApiError, Errors};
use super::types::{ContentNameView, ContentView, List};
use crate::clock::now_ms;
use crate::contents::{self, ContentError, ContentKind};
use crate::store::records::{ApplicationRecord, ContentNameRecord};
use crate::store::{Kind, MAX_VALUE_BYTES, Store};

/// Largest body: one byte more than a content may have, so that the refusal says what to do instead.
const MAX_BODY_BYTES: usize = 2 * MAX_CONTENT_BYTES;

/// The query of an upload.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct UploadQuery {
    /// Whether it is kept for an application that will name it; `false` only answers its id.
    keep: Option<bool>,
}

/// The query of naming.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct NameQuery {
    /// Whether a name that is taken gets this content.
    replace: Option<bool>,
}

/// Takes the content of a config; it goes when no application names it within an hour.
#[utoipa::path(
    post, path = "/v1/configs", params(UploadQuery),
    request_body(content = String, content_type = "application/octet-stream", description = "The bytes"),
    responses((status = 200, description = "Its id", body = ContentView), Errors)
)]
pub(super) async fn upload_config(
    State(api): State<Api>,
    Params(query): Params<UploadQuery>,
    body: Body,
) -> Result<Json<ContentView>, ApiError> {
    upload(&api.store, ContentKind::Config, &query, body).await
}

/// Takes the content of a secret; it goes when no application names it within an hour.
#[utoipa::path(
    post, path = "/v1/secrets", params(UploadQuery),
    request_body(content = String, content_type = "application/octet-stream", description = "The bytes"),
    responses((status = 200, description = "Its id", body = ContentView), Errors)
)]
pub(super) async fn upload_secret(
    State(api): State<Api>,
    Params(query): Params<UploadQuery>,
    body: Body,
) -> Result<Json<ContentView>, ApiError> {
    upload(&api.store, ContentKind::Secret, &query, body).await
}

async fn upload(
    store: &Store,
    kind: ContentKind,
    query: &UploadQuery,
    body: Body,
) -> Result<Json<ContentView>, ApiError> {
    let content = read(body).await?;
    let id = if query.keep.unwrap_or(true) {
        contents::put(store, kind, &content, None, now_ms()).await?
    } else {
        contents::id(store, kind, &content)?
    };
    Ok(Json(view(&id, &content)))
}

async fn read(body: Body) -> Result<Secret, ApiError> {
    body::bytes(body, MAX_BODY_BYTES).await.map(Secret::new)
}

fn view(id: &ContentId, content: &Secret) -> ContentView {
    ContentView { id: id.to_string(), bytes: content.expose().len() as u64 }
}

/// The configs that people named.
#[utoipa::path(
    get, path = "/v1/configs",
    responses((status = 200, description = "The configs", body = List<ContentNameView>), Errors)
)]
pub(super) async fn list_configs(
    State(api): State<Api>,
) -> Result<Json<List<ContentNameView>>, ApiError> {
    list(&api.store, ContentKind::Config)
}

/// The secrets that people named; what is in them is not shown.
#[utoipa::path(
    get, path = "/v1/secrets",
    responses((status = 200, description = "The secrets", body = List<ContentNameView>), Errors)
)]
pub(super) async fn list_secrets(
    State(api): State<Api>,
) -> Result<Json<List<ContentNameView>>, ApiError> {
    list(&api.store, ContentKind::Secret)
}

fn list(store: &Store, kind: ContentKind) -> Result<Json<List<ContentNameView>>, ApiError> {
    let (revision, names) = contents::named(store, kind)?;
    let users = users(store, kind)?;
    let items = names.into_iter().map(|(name, record)| show(&name, &record, &users)).collect();
    Ok(Json(List { revision: revision.0, items }))
}

/// A config that has a name.
#[utoipa::path(
    get, path = "/v1/configs/{name}", params(("name" = String, Path)),
    responses((status = 200, description = "The config", body = ContentNameView), Errors)
)]
pub(super) async fn show_config(
    State(api): State<Api>,
    Path(name): Path<String>,
) -> Result<Json<ContentNameView>, ApiError> {
    one(&api.store, ContentKind::Config, &name)
}

/// A secret that has a name; what is in it is not shown.
#[utoipa::path(
    get, path = "/v1/secrets/{name}", params(("name" = String, Path)),
    responses((status = 200, description = "The secret", body = ContentNameView), Errors)
)]
pub(super) async fn show_secret(
    State(api): State<Api>,
    Path(name): Path<String>,
) -> Result<Json<ContentNameView>, ApiError> {
    one(&api.store, ContentKind::Secret, &name)
}

fn one(store: &Store, kind: ContentKind, name: &str) -> Result<Json<ContentNameView>, ApiError> {
    let record = contents::find(store, kind, name)?;
    Ok(Json(show(name, &record, &users(store, kind)?)))
}

/// Keeps a config under a name.
#[utoipa::path(
    put, path = "/v1/configs/{name}", params(("name" = String, Path), NameQuery),
    request_body(content = String, content_type = "application/octet-stream", description = "The bytes"),
    responses((status = 200, description = "Its id", body = ContentView), Errors)
)]
pub(super) async fn name_config(
    State(api): State<Api>,
    Path(name): Path<String>,
    Params(query): Params<NameQuery>,
    body: Body,
) -> Result<Json<ContentView>, ApiError> {
    give_name(&api.store, ContentKind::Config, (&name, &query), body).await
}

/// Keeps a secret under a name.
#[utoipa::path(
    put, path = "/v1/secrets/{name}", params(("name" = String, Path), NameQuery),
    request_body(content = String, content_type = "application/octet-stream", description = "The bytes"),
    responses((status = 200, description = "Its id", body = ContentView), Errors)
)]
pub(super) async fn name_secret(
    State(api): State<Api>,
    Path(name): Path<String>,
    Params(query): Params<NameQuery>,
    body: Body,
) -> Result<Json<ContentView>, ApiError> {
    give_name(&api.store, ContentKind::Secret, (&name, &query), body).await
}

async fn give_name(
    store: &Store,
    kind: ContentKind,
    (name, query): (&str, &NameQuery),
    body: Body,
) -> Result<Json<ContentView>, ApiError> {
    let name = ContentName::new(name).map_err(|error| {
        ApiError::bad_request(format!("{name:?} is no name for a {kind}: {error}"))
    })?;
    let content = read(body).await?;
    let named = Some((&name, query.replace.unwrap_or(false)));
    let id = contents::put(store, kind, &content, named, now_ms()).await?;
    Ok(Json(view(&id, &content)))
}

/// Takes the name of a config away; applications that use it keep it.
#[utoipa::path(
    delete, path = "/v1/configs/{name}", params(("name" = String, Path)),
    responses((status = 204, description = "The name is free"), Errors)
)]
pub(super) async fn forget_config(
    State(api): State<Api>,
    Path(name): Path<String>,
) -> Result<StatusCode, ApiError> {
    contents::forget(&api.store, ContentKind::Config, &name, now_ms()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Takes the name of a secret away; applications that use it keep it.
#[utoipa::path(
    delete, path = "/v1/secrets/{name}", params(("name" = String, Path)),
    responses((status = 204, description = "The name is free"), Errors)
)]
pub(super) async fn forget_secret(
    State(api): State<Api>,
    Path(name): Path<String>,
) -> Result<StatusCode, ApiError> {
    contents::forget(&api.store, ContentKind::Secret, &name, now_ms()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Which services use which content of a kind.
fn users(store: &Store, kind: ContentKind) -> Result<Vec<(ContentId, String)>, ApiError> {
    let mut users = Vec::new();
    for (_, entry) in store.list(Kind::Application)?.1 {
        let record: ApplicationRecord =
            limpet_protocol::codec::decode_within(&entry.value, MAX_VALUE_BYTES)
                .map_err(|error| ApiError::internal(&error))?;
        let application = &record.application;
        for (service, wanted) in &application.services {
            for mount in kind.mounts(&wanted.spec) {
                users.push((mount.content, format!("{}.{service}", application.name)));
            }
        }
    }
    Ok(users)
}

fn show(name: &str, record: &ContentNameRecord, users: &[(ContentId, String)]) -> ContentNameView {
    let used = users.iter().filter(|(content, _)| *content == record.content);
    let mut used_by: Vec<String> = used.map(|(_, user)| user.clone()).collect();
    used_by.sort_unstable();
    used_by.dedup();
    ContentNameView {
        name: name.to_owned(),
        id: record.content.to_string(),
        bytes: record.bytes,
        created_ms: record.created_ms,
        used_by,
    }
}

impl From<ContentError> for ApiError {
    fn from(error: ContentError) -> Self {
        let message = error.to_string();
        match error {
            ContentError::TooLarge { .. } => Self::too_large(message),
            ContentError::TooMany | ContentError::Taken { .. } => Self::conflict(message),
            ContentError::NoName { .. } => Self::not_found(message),
            ContentError::NoContent { .. } => Self::bad_request(message),
            ContentError::Vault(_) => Self::unavailable(message),
            ContentError::Store(error) => error.into(),
            ContentError::Commit(error) => error.into(),
            error @ ContentError::Record { .. } => Self::internal(&error),
        }
    }
}
