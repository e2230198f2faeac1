//! Reads: each in one read transaction, so that what it gives was true at one moment.

use limpet_protocol::codec;
use redb::{Database, ReadTransaction, ReadableDatabase};

use super::error::StoreError;
use super::layout::{
    COMPACTED, EVENTS, KV, LOG, META, REVISION, decode_changes, decode_entry, number,
};
use super::records::EventRecord;
use super::{Change, Entry, Key, Kind, Revision};

fn begin(database: &Database, what: &str) -> Result<ReadTransaction, StoreError> {
    database.begin_read().map_err(|e| StoreError::read(what, e))
}

fn meta_number(reading: &ReadTransaction, name: &str) -> Result<u64, StoreError> {
    let meta = reading.open_table(META).map_err(|e| StoreError::read(name, e))?;
    let value = meta.get(name).map_err(|e| StoreError::read(name, e))?;
    value
        .and_then(|value| number(value.value()))
        .ok_or_else(|| StoreError::Undecodable { what: name.to_owned() })
}

pub(super) fn get(database: &Database, key: &Key) -> Result<Option<Entry>, StoreError> {
    let failed = |e: redb::Error| StoreError::read(key.to_string(), e);
    let reading = begin(database, "a value")?;
    let table = reading.open_table(KV).map_err(|e| failed(e.into()))?;
    let value = table.get(key.to_text().as_str()).map_err(|e| failed(e.into()))?;
    let Some(value) = value else { return Ok(None) };
    let undecodable = || StoreError::Undecodable { what: key.to_string() };
    decode_entry(value.value()).map(Some).ok_or_else(undecodable)
}

/// Everything of a kind whose name is `prefix.something`; without a prefix, all of it.
pub(super) fn list(
    database: &Database,
    kind: Kind,
    prefix: &str,
) -> Result<(Revision, Vec<(Key, Entry)>), StoreError> {
    let failed = |e: redb::Error| StoreError::read(format!("the list of kind {kind}"), e);
    let reading = begin(database, kind.as_str())?;
    let revision = Revision(meta_number(&reading, REVISION)?);
    let table = reading.open_table(KV).map_err(|e| failed(e.into()))?;
    let (mut first, mut end) = kind.range();
    if !prefix.is_empty() {
        // `/` follows `.`: names that go on after the dot.
        (first, end) = (format!("{first}{prefix}."), format!("{first}{prefix}/"));
    }
    let mut entries = Vec::new();
    for row in table.range(first.as_str()..end.as_str()).map_err(|e| failed(e.into()))? {
        let (key, value) = row.map_err(|e| failed(e.into()))?;
        let undecodable = || StoreError::Undecodable { what: key.value().to_owned() };
        let entry = decode_entry(value.value()).ok_or_else(undecodable)?;
        entries.push((Key::from_text(key.value()).ok_or_else(undecodable)?, entry));
    }
    Ok((revision, entries))
}

/// What the log has after a revision.
pub(super) struct LogSlice {
    /// The oldest revision after which a watch can begin.
    pub(super) oldest: Revision,
    /// The last revision that was read.
    pub(super) last: Revision,
    /// Its changes, in order.
    pub(super) changes: Vec<Change>,
}

pub(super) fn log(
    database: &Database,
    after: Revision,
    limit: usize,
) -> Result<LogSlice, StoreError> {
    let failed = |e: redb::Error| StoreError::read("the log of changes", e);
    let reading = begin(database, "the log of changes")?;
    let oldest = Revision(meta_number(&reading, COMPACTED)?);
    let table = reading.open_table(LOG).map_err(|e| failed(e.into()))?;
    let mut slice = LogSlice { oldest, last: after, changes: Vec::new() };
    let rows = table.range(after.0.saturating_add(1)..).map_err(|e| failed(e.into()))?;
    for row in rows.take(limit) {
        let (revision, value) = row.map_err(|e| failed(e.into()))?;
        slice.last = Revision(revision.value());
        let undecodable =
            || StoreError::Undecodable { what: format!("revision {}", revision.value()) };
        slice.changes.extend(decode_changes(slice.last, value.value()).ok_or_else(undecodable)?);
    }
    Ok(slice)
}

pub(super) fn events(
    database: &Database,
    since: u64,
    limit: usize,
) -> Result<Vec<EventRecord>, StoreError> {
    let failed = |e: redb::Error| StoreError::read("events", e);
    let reading = begin(database, "events")?;
    let table = reading.open_table(EVENTS).map_err(|e| failed(e.into()))?;
    let rows = table.range(since.saturating_add(1)..).map_err(|e| failed(e.into()))?;
    let mut events = Vec::new();
    for row in rows.take(limit) {
        let (id, value) = row.map_err(|e| failed(e.into()))?;
        let undecodable = |_| StoreError::Undecodable { what: format!("event {}", id.value()) };
        let event: EventRecord = codec::decode(value.value()).map_err(undecodable)?;
        events.push(EventRecord { id: id.value(), ..event });
    }
    Ok(events)
}
