//! Changes of a node by people: labels, whether it takes work, and its removal.
//!
//! A node's record has three writers (people here, joining, and the control loop with what the node
//! says of itself), so each change is a compare-and-set on the record as it was read.

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use limpet_protocol::codec;
use limpet_protocol::id::NodeId;
use limpet_protocol::label;
use limpet_protocol::limits::MAX_LABELS_PER_NODE;
use serde::Deserialize;

use super::Api;
use super::body::{self, Params};
use super::error::{ApiError, Errors};
use super::types::{NodeOutcome, NodePatch};
use crate::plan::Standing;
use crate::store::records::{Availability, NodeRecord};
use crate::store::{CommitError, Compare, Key, MAX_VALUE_BYTES, Op, Revision, Store, Transaction};

/// Largest body: every label that a node may have, with room for JSON.
const MAX_BODY_BYTES: usize = 256 * 1024;
/// How often a change begins again because somebody else was faster.
const MAX_TRIES: usize = 8;

/// The query of a removal.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct RemoveQuery {
    /// Also if the node is ready. What still runs there goes on until its agent is stopped.
    force: Option<bool>,
}

/// Changes a node's labels, or whether it takes work.
#[utoipa::path(
    patch, path = "/v1/nodes/{node}", params(("node" = String, Path)), request_body = NodePatch,
    responses((status = 200, description = "What it is now", body = NodeOutcome), Errors)
)]
pub(super) async fn change(
    State(api): State<Api>,
    Path(name): Path<String>,
    body: Body,
) -> Result<Json<NodeOutcome>, ApiError> {
    let patch: NodePatch = body::json(body, MAX_BODY_BYTES).await?;
    for _ in 0..MAX_TRIES {
        let (key, modified, old) = find(&api.store, &name)?;
        let new = patched(&old, &patch).map_err(ApiError::bad_request)?;
        if new == old {
            return Ok(Json(outcome(&old, modified)));
        }
        let value = codec::encode(&new).map_err(|error| ApiError::internal(&error))?;
        let compare = vec![Compare { key: key.clone(), modified: Some(modified) }];
        let ops = vec![Op::Put(key, value)];
        match api.store.commit(Transaction { compare, ops, if_revision: None }).await {
            Ok(revision) => return Ok(Json(outcome(&new, revision))),
            Err(CommitError::Conflict { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(ApiError::conflict(format!("node {name} is being changed by others: try again")))
}

/// Removes a node: its access ends, and what it had is placed elsewhere.
#[utoipa::path(
    delete, path = "/v1/nodes/{node}", params(("node" = String, Path), RemoveQuery),
    responses((status = 200, description = "What it was", body = NodeOutcome), Errors)
)]
pub(super) async fn remove(
    State(api): State<Api>,
    Path(name): Path<String>,
    Params(query): Params<RemoveQuery>,
) -> Result<Json<NodeOutcome>, ApiError> {
    let (key, modified, record) = find(&api.store, &name)?;
    if !query.force.unwrap_or(false) && is_ready(&api, &name) {
        return Err(ApiError::conflict(format!(
            "node {name} is ready: move its work away first (`limpet node drain {name} --wait`) and stop its \
             agent, or remove it with --force; what then still runs there goes on until its agent is stopped"
        )));
    }
    let compare = vec![Compare { key: key.clone(), modified: Some(modified) }];
    let transaction = Transaction { compare, ops: vec![Op::Delete(key)], if_revision: None };
    let revision = api.store.commit(transaction).await?;
    Ok(Json(outcome(&record, revision)))
}

fn is_ready(api: &Api, name: &str) -> bool {
    let view = api.control.view.borrow();
    let known = view.nodes.iter().find(|node| node.node == name);
    known.is_some_and(|node| node.status == Standing::Ready.as_str())
}

fn find(store: &Store, name: &str) -> Result<(Key, Revision, NodeRecord), ApiError> {
    let missing = || ApiError::not_found(format!("there is no node {name:?}"));
    let key = Key::Node(NodeId::new(name).map_err(|_| missing())?);
    let entry = store.get(&key)?.ok_or_else(missing)?;
    let record = codec::decode_within(&entry.value, MAX_VALUE_BYTES).map_err(|error| {
        tracing::error!(name, "a node in the store cannot be read");
        ApiError::internal(&error)
    })?;
    Ok((key, entry.modified, record))
}

/// The record after a change, or what is wrong with the change.
fn patched(old: &NodeRecord, patch: &NodePatch) -> Result<NodeRecord, String> {
    let mut new = old.clone();
    for (key, value) in &patch.labels {
        let checked = label::check(key, value.as_deref().unwrap_or_default());
        checked.map_err(|error| format!("labels: {key:?}: {error}"))?;
        match value {
            Some(value) => new.labels.insert(key.clone(), value.clone()),
            None => new.labels.remove(key),
        };
    }
    if new.labels.len() > MAX_LABELS_PER_NODE {
        return Err(format!(
            "labels: {} are too many, at most {MAX_LABELS_PER_NODE}",
            new.labels.len()
        ));
    }
    if let Some(word) = &patch.availability {
        new.availability = Availability::from_word(word).ok_or_else(|| {
            format!("availability: {word:?} is none; write active, pause or drain")
        })?;
    }
    Ok(new)
}

fn outcome(record: &NodeRecord, revision: Revision) -> NodeOutcome {
    NodeOutcome {
        node: record.node.to_string(),
        revision: revision.0,
        availability: record.availability.as_str().to_owned(),
        given_labels: record.labels.clone(),
    }
}
