//! Tokens: made, listed, ended. The token itself is in the answer that makes it and nowhere else.

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use limpet_protocol::codec;
use limpet_protocol::limits::MAX_REASON_BYTES;

use super::Api;
use super::body;
use super::error::{ApiError, Errors};
use super::types::{List, TokenRequest, TokenView};
use crate::auth::{MAX_TOKENS, TOKEN_ID_DIGITS, hash, make_secret, token_id};
use crate::clock::now_ms;
use crate::store::records::{TokenPurpose, TokenRecord};
use crate::store::{Key, Kind, Op, Revision, Store, Transaction};

/// Largest body.
const MAX_BODY_BYTES: usize = 16 * 1024;

/// All tokens, without the tokens themselves.
#[utoipa::path(
    get, path = "/v1/tokens",
    responses((status = 200, description = "The tokens", body = List<TokenView>), Errors)
)]
pub(super) async fn list(State(api): State<Api>) -> Result<Json<List<TokenView>>, ApiError> {
    let (revision, tokens) = read(&api.store)?;
    let items = tokens.iter().map(|(hash, record)| show(hash, record, None)).collect();
    Ok(Json(List { revision: revision.0, items }))
}

/// Makes a token.
#[utoipa::path(
    post, path = "/v1/tokens", request_body = TokenRequest,
    responses((status = 201, description = "The token, this once", body = TokenView), Errors)
)]
pub(super) async fn create(
    State(api): State<Api>,
    body: Body,
) -> Result<(StatusCode, Json<TokenView>), ApiError> {
    let request: TokenRequest = body::json(body, MAX_BODY_BYTES).await?;
    let record = record(&request, now_ms())?;
    let (revision, tokens) = read(&api.store)?;
    let now = now_ms();
    let over = |record: &TokenRecord| record.expires_ms.is_some_and(|end| end <= now);
    let (ended, valid): (Vec<_>, Vec<_>) = tokens.into_iter().partition(|(_, record)| over(record));
    if valid.len() >= MAX_TOKENS {
        return Err(ApiError::conflict(format!(
            "there are {MAX_TOKENS} tokens already: end some with `limpet token rm`"
        )));
    }
    let token = make_secret().map_err(|error| ApiError::internal(&error))?;
    let hash = hash(&token);
    let value = codec::encode(&record).map_err(|error| ApiError::internal(&error))?;
    let mut ops = vec![Op::Put(Key::Token(hash.clone()), value)];
    if valid.len() + ended.len() >= MAX_TOKENS {
        ops.extend(ended.into_iter().map(|(hash, _)| Op::Delete(Key::Token(hash))));
    }
    // Only matters when the table is nearly full, and then somebody else may be adding too.
    let nearly_full = valid.len() + 1 >= MAX_TOKENS;
    let if_revision = nearly_full.then_some(revision);
    api.store.commit(Transaction { ops, if_revision, ..Transaction::default() }).await?;
    Ok((StatusCode::CREATED, Json(show(&hash, &record, Some(token)))))
}

/// Ends a token.
#[utoipa::path(
    delete, path = "/v1/tokens/{id}", params(("id" = String, Path)),
    responses((status = 204, description = "It is ended"), Errors)
)]
pub(super) async fn remove(
    State(api): State<Api>,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    let (revision, tokens) = read(&api.store)?;
    let missing = || ApiError::not_found(format!("there is no token {id:?}"));
    if id.len() < TOKEN_ID_DIGITS {
        return Err(missing());
    }
    let (hash, record) =
        tokens.iter().find(|(hash, _)| hash.starts_with(&id)).ok_or_else(missing)?;
    let admins = tokens.iter().filter(|(_, other)| other.purpose == TokenPurpose::Admin).count();
    if record.purpose == TokenPurpose::Admin && admins == 1 {
        let message = "this is the last admin token: make another one before you end it";
        return Err(ApiError::conflict(message));
    }
    // Two who each end one of the last two admin tokens must not both succeed.
    let if_revision = (record.purpose == TokenPurpose::Admin).then_some(revision);
    let ops = vec![Op::Delete(Key::Token(hash.clone()))];
    api.store.commit(Transaction { ops, if_revision, ..Transaction::default() }).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn record(request: &TokenRequest, now: u64) -> Result<TokenRecord, ApiError> {
    let purpose = match request.purpose.as_str() {
        "" | "join" => TokenPurpose::Join,
        "admin" => TokenPurpose::Admin,
        "metrics" => {
            let application = request.application.as_deref().unwrap_or_default().parse();
            TokenPurpose::Metrics(application.map_err(|error| {
                ApiError::bad_request(format!("application: of which it tells metrics: {error}"))
            })?)
        }
        other => {
            let message = format!("purpose: {other:?} is none; write join, admin or metrics");
            return Err(ApiError::bad_request(message));
        }
    };
    if request.description.len() > MAX_REASON_BYTES {
        let message = format!("description: at most {MAX_REASON_BYTES} bytes");
        return Err(ApiError::bad_request(message));
    }
    if request.ttl_seconds == Some(0) {
        return Err(ApiError::bad_request("ttl_seconds: must be 1 at least"));
    }
    let expires = request.ttl_seconds.map(|ttl| ttl.saturating_mul(1_000).saturating_add(now));
    let description = request.description.clone();
    Ok(TokenRecord { purpose, description, created_ms: now, expires_ms: expires })
}

fn read(store: &Store) -> Result<(Revision, Vec<(String, TokenRecord)>), ApiError> {
    let (revision, entries) = store.list(Kind::Token)?;
    let decode = |(key, entry): (Key, crate::store::Entry)| {
        let record = codec::decode(&entry.value).map_err(|error| ApiError::internal(&error))?;
        Ok::<_, ApiError>((key.name().to_owned(), record))
    };
    Ok((revision, entries.into_iter().map(decode).collect::<Result<_, _>>()?))
}

fn show(hash: &str, record: &TokenRecord, token: Option<String>) -> TokenView {
    let purpose = match record.purpose {
        TokenPurpose::Admin => "admin",
        TokenPurpose::Join => "join",
        TokenPurpose::Metrics(_) => "metrics",
    };
    let application = match &record.purpose {
        TokenPurpose::Metrics(application) => Some(application.to_string()),
        _ => None,
    };
    TokenView {
        id: token_id(hash).to_owned(),
        token,
        purpose: purpose.to_owned(),
        application,
        description: record.description.clone(),
        created_ms: record.created_ms,
        expires_ms: record.expires_ms,
    }
}
