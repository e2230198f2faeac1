//! Writing an application: read, change, write if nobody else did, and again if somebody did.

use limpet_protocol::application::Application;
use limpet_protocol::codec;
use limpet_protocol::id::ApplicationName;

use super::error::ApiError;
use super::outcome;
use super::types::ApplyOutcome;
use crate::claims;
use crate::clock::now_ms;
use crate::contents;
use crate::store::records::ApplicationRecord;
use crate::store::{
    CommitError, Compare, Entry, Key, MAX_VALUE_BYTES, Op, Revision, Store, Transaction,
};

/// How often a change begins again because somebody else was faster: with the application, or with a port
/// of the same range.
const MAX_TRIES: usize = 8;

/// Earlier revisions of an application that are kept; the oldest go first.
pub(super) const REVISIONS_KEPT: usize = 10;

/// Brings an application to what `change` makes of the stored one (none if there is none), if it
/// is still at the given revision; `what` says in the history what it was. Nothing is written when
/// nothing changes.
pub(super) async fn edit(
    store: &Store,
    (name, what): (&ApplicationName, &str),
    if_revision: Option<u64>,
    change: impl Fn(Option<&Application>) -> Result<Application, ApiError>,
) -> Result<ApplyOutcome, ApiError> {
    for _ in 0..MAX_TRIES {
        match attempt(store, (name, what), if_revision, &change).await {
            Err(Attempt::Conflict) if if_revision.is_none() => {}
            Err(Attempt::Conflict) => break,
            Err(Attempt::Failed(error)) => return Err(error),
            Ok(outcome) => return Ok(outcome),
        }
    }
    Err(ApiError::conflict(format!("application {name} is being changed by others: try again")))
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

async fn attempt(
    store: &Store,
    (name, what): (&ApplicationName, &str),
    if_revision: Option<u64>,
    change: impl Fn(Option<&Application>) -> Result<Application, ApiError>,
) -> Result<ApplyOutcome, Attempt> {
    let key = Key::Application(name.clone());
    let stored = store.get(&key)?;
    let found = stored.as_ref().map(|entry| entry.modified);
    expect(name, if_revision, found)?;
    let old = stored.as_ref().map(|entry| decode(name.as_str(), entry)).transpose()?;
    let old = old.as_ref().map(|old| &old.application);
    let mut new = change(old)?;
    claims::choose_ports(store, old, &mut new)?;
    let mut outcome = outcome::compare(old, &new);
    if let Some(at) = found
        && outcome::is_unchanged(&outcome)
    {
        outcome.revision = at.0;
        return Ok(outcome);
    }
    let claims = claims::stake(store, old, Some(&new))?;
    let mut ops = vec![Op::Put(key.clone(), encode(&new, what, &outcome)?)];
    ops.extend(claims.ops);
    if let Some(before) = stored {
        ops.extend(remember(store, name, before)?);
    }
    // What it names stays until it is in the store.
    let mut compare = contents::require(store, &new)?;
    compare.extend(claims.compare);
    compare.push(Compare { key, modified: found });
    let transaction = Transaction { compare, if_revision: None, ops };
    match store.commit(transaction).await {
        Ok(Revision(revision)) => Ok(ApplyOutcome { revision, ..outcome }),
        Err(CommitError::Conflict { .. }) => Err(Attempt::Conflict),
        Err(error) => Err(error.into()),
    }
}

/// Whether an application is at the revision that somebody relies on; 0 means that it is not there.
pub(super) fn expect(
    name: &ApplicationName,
    expected: Option<u64>,
    found: Option<Revision>,
) -> Result<(), ApiError> {
    let Some(expected) = expected.filter(|at| *at != found.unwrap_or_default().0) else {
        return Ok(());
    };
    let found = found.map_or("is not there".to_owned(), |at| format!("is at revision {}", at.0));
    let message = format!("application {name} {found}, not at revision {expected}");
    Err(ApiError::conflict(message))
}

/// Keeps the revision that goes, and forgets the oldest.
fn remember(store: &Store, name: &ApplicationName, before: Entry) -> Result<Vec<Op>, ApiError> {
    let kept = store.history(name)?;
    let surplus = (kept.len() + 1).saturating_sub(REVISIONS_KEPT);
    let oldest = kept.iter().take(surplus);
    let mut ops: Vec<Op> =
        oldest.map(|(revision, _)| Op::Delete(Key::history(name, *revision))).collect();
    ops.push(Op::Put(Key::history(name, before.modified), before.value));
    Ok(ops)
}

/// What to forget together with an application.
pub(super) fn forget(store: &Store, name: &ApplicationName) -> Result<Vec<Op>, ApiError> {
    let kept = store.history(name)?;
    Ok(kept.iter().map(|(revision, _)| Op::Delete(Key::history(name, *revision))).collect())
}

fn encode(
    application: &Application,
    what: &str,
    outcome: &ApplyOutcome,
) -> Result<Vec<u8>, ApiError> {
    let ApplyOutcome { added, changed, removed, .. } = outcome;
    let marked = |mark: &str, names: &[String]| -> String {
        names.iter().map(|name| format!(" {mark}{name}")).collect()
    };
    let [plus, tilde, minus] =
        [("+", added), ("~", changed), ("-", removed)].map(|(mark, names)| marked(mark, names));
    let record = ApplicationRecord {
        application: application.clone(),
        applied_ms: now_ms(),
        change: format!("{what}:{plus}{tilde}{minus}"),
        changed: [added.as_slice(), changed, removed].concat(),
    };
    let bytes = codec::encode_within(&record, MAX_VALUE_BYTES);
    // What is written must be readable: the reader has a limit of items too.
    let checked = bytes.and_then(|bytes| codec::check(&bytes).map(|()| bytes));
    checked.map_err(|error| {
        ApiError::too_large(format!("application {} is too large: {error}", application.name))
    })
}

/// What the store has under an application's name.
pub(super) fn decode(name: &str, entry: &Entry) -> Result<ApplicationRecord, ApiError> {
    codec::decode_within(&entry.value, MAX_VALUE_BYTES).map_err(|error| {
        tracing::error!(name, "an application in the store cannot be read");
        ApiError::internal(&error)
    })
}

/// An application by its name.
pub(super) fn find(store: &Store, name: &str) -> Result<(Key, Entry), ApiError> {
    let key = Key::Application(self::name(name)?);
    let entry = store.get(&key)?.ok_or_else(|| missing(name))?;
    Ok((key, entry))
}

/// The name of an application that may be there.
pub(super) fn name(name: &str) -> Result<ApplicationName, ApiError> {
    ApplicationName::new(name).map_err(|_| missing(name))
}

/// There is no such application.
pub(super) fn missing(name: &str) -> ApiError {
    ApiError::not_found(format!("there is no application {name:?}"))
}
