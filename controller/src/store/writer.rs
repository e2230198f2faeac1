//! The writer: one thread that owns every write.
//!
//! It takes what waits, up to [`GROUP`] requests, and commits it as one redb transaction: the cost
//! of a flush is shared. A condition that does not hold fails its own request only. Answers go out
//! after the commit. A failed commit ends the thread: redb takes no more after an I/O error, and
//! what is on disk is known again only after a new open.

use std::sync::Arc;

use redb::{Database, ReadableDatabase, ReadableTable, Table, WriteTransaction};
use tokio::sync::{mpsc, oneshot, watch};

use super::error::{CommitError, StoreError};
use super::layout::{
    COMPACTED, EVENTS, KV, KeyChange, LOG, META, REVISION, decode_entry, encode_changes,
    encode_entry, number,
};
use super::{EVENTS_KEPT, Entry, Key, Op, REVISIONS_KEPT, Revision, Transaction};

/// Requests in one commit: bounds how long the first of them waits for the last.
const GROUP: usize = 256;
/// How far the log grows beyond [`REVISIONS_KEPT`] before it is cut: cutting is done in slices of
/// this many revisions, inside a commit that happens anyway.
const COMPACTION_SLICE: u64 = 1_000;
/// Likewise for events.
const EVENTS_SLICE: u64 = 100;

pub(super) type Answer<T, E> = oneshot::Sender<Result<T, E>>;

/// What the writer does.
#[derive(Debug)]
pub(super) enum Request {
    Commit {
        transaction: Transaction,
        answer: Answer<Revision, CommitError>,
    },
    Compact {
        keep_from: Revision,
        answer: Answer<Revision, StoreError>,
    },
    /// Encoded [`super::records::EventRecord`]s.
    Events {
        events: Vec<Vec<u8>>,
        answer: Answer<u64, StoreError>,
    },
}

/// The running thread; dropping it waits for its end.
#[derive(Debug)]
pub(super) struct Thread(Option<std::thread::JoinHandle<()>>);

impl Drop for Thread {
    fn drop(&mut self) {
        if let Some(thread) = self.0.take()
            && thread.join().is_err()
        {
            tracing::error!("the store's writer thread panicked");
        }
    }
}

type Started = (Thread, watch::Receiver<Revision>, watch::Receiver<u64>);

pub(super) fn start(
    database: Arc<Database>,
    requests: mpsc::Receiver<Request>,
) -> Result<Started, StoreError> {
    let state = State::read(&database)?;
    let (revision, revision_seen) = watch::channel(state.revision);
    let (last_event, last_event_seen) = watch::channel(state.last_event);
    let writer = Writer { database, requests, revision, last_event, state };
    let thread = std::thread::Builder::new()
        .name("store-writer".to_owned())
        .spawn(move || writer.run())
        .map_err(|error| StoreError::Thread(Arc::new(error)))?;
    Ok((Thread(Some(thread)), revision_seen, last_event_seen))
}

/// Where the store stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct State {
    revision: Revision,
    /// The newest revision whose changes are forgotten.
    compacted: Revision,
    /// The newest event.
    last_event: u64,
    /// The oldest event that is kept, or the next one.
    first_event: u64,
}

impl State {
    fn read(database: &Database) -> Result<Self, StoreError> {
        let failed = |e: redb::Error| StoreError::read("the state of the store", e);
        let reading = database.begin_read().map_err(|e| failed(e.into()))?;
        let meta = reading.open_table(META).map_err(|e| failed(e.into()))?;
        let read = |name: &str| {
            let value = meta.get(name).map_err(|e| failed(e.into()))?;
            let undecodable = || StoreError::Undecodable { what: name.to_owned() };
            value.and_then(|value| number(value.value())).ok_or_else(undecodable)
        };
        let events = reading.open_table(EVENTS).map_err(|e| failed(e.into()))?;
        let first = events.first().map_err(|e| failed(e.into()))?.map(|(id, _)| id.value());
        let last = events.last().map_err(|e| failed(e.into()))?.map(|(id, _)| id.value());
        Ok(Self {
            revision: Revision(read(REVISION)?),
            compacted: Revision(read(COMPACTED)?),
            last_event: last.unwrap_or(0),
            first_event: first.unwrap_or(1),
        })
    }
}

struct Writer {
    database: Arc<Database>,
    requests: mpsc::Receiver<Request>,
    revision: watch::Sender<Revision>,
    last_event: watch::Sender<u64>,
    state: State,
}

impl Writer {
    fn run(mut self) {
        while let Some(first) = self.requests.blocking_recv() {
            let mut group = vec![first];
            while group.len() < GROUP {
                match self.requests.try_recv() {
                    Ok(request) => group.push(request),
                    Err(_) => break,
                }
            }
            if let Err(error) = self.commit_group(group) {
                tracing::error!(%error, source = ?std::error::Error::source(&error), "the store is closed");
                return;
            }
        }
    }

    fn commit_group(&mut self, group: Vec<Request>) -> Result<(), StoreError> {
        let mut done = Vec::with_capacity(group.len());
        let written = self.write_group(group, &mut done);
        if let Ok(state) = written {
            self.state = state;
            // Before the answers: who has one finds the revision in `Store::revision`.
            self.revision.send_if_modified(|seen| replace(seen, state.revision));
            self.last_event.send_if_modified(|seen| replace(seen, state.last_event));
        }
        for answer in done {
            answer.give(written.as_ref().err());
        }
        written.map(drop)
    }

    /// Writes a group and gives the state after it. `done` gets the answers; requests that a
    /// failure leaves without one are told by their dropped channel that the store is closed.
    fn write_group(&self, group: Vec<Request>, done: &mut Vec<Done>) -> Result<State, StoreError> {
        let mut writing = self.database.begin_write().map_err(StoreError::write)?;
        writing.set_quick_repair(true);
        let state = self.draft(&writing, group, done)?;
        if state == self.state {
            return writing.abort().map(|()| state).map_err(StoreError::write);
        }
        {
            let mut meta = writing.open_table(META).map_err(StoreError::write)?;
            for (name, value) in [(REVISION, state.revision), (COMPACTED, state.compacted)] {
                meta.insert(name, value.0.to_be_bytes().as_slice()).map_err(StoreError::write)?;
            }
        }
        writing.commit().map_err(StoreError::write)?;
        Ok(state)
    }

    fn draft(
        &self,
        writing: &WriteTransaction,
        group: Vec<Request>,
        done: &mut Vec<Done>,
    ) -> Result<State, StoreError> {
        let mut draft = Draft {
            state: self.state,
            kv: writing.open_table(KV).map_err(StoreError::write)?,
            log: writing.open_table(LOG).map_err(StoreError::write)?,
            events: writing.open_table(EVENTS).map_err(StoreError::write)?,
        };
        for request in group {
            done.push(draft.apply(request)?);
        }
        draft.trim()?;
        Ok(draft.state)
    }
}

fn replace<T: PartialEq>(seen: &mut T, new: T) -> bool {
    let changed = *seen != new;
    *seen = new;
    changed
}

/// An answer that waits for the commit. A receiver that is gone wants none.
enum Done {
    Commit(Answer<Revision, CommitError>, Result<Revision, CommitError>),
    Compact(Answer<Revision, StoreError>, Revision),
    Events(Answer<u64, StoreError>, u64),
}

impl Done {
    fn give(self, failure: Option<&StoreError>) {
        let failure = failure.cloned();
        match self {
            Self::Commit(answer, result) => {
                drop(answer.send(failure.map_or(result, |error| Err(error.into()))));
            }
            Self::Compact(answer, oldest) => {
                drop(answer.send(failure.map_or(Ok(oldest), Err)));
            }
            Self::Events(answer, last) => drop(answer.send(failure.map_or(Ok(last), Err))),
        }
    }
}

/// The tables while a group is written, and the state as it will be.
struct Draft<'a> {
    state: State,
    kv: Table<'a, &'static str, &'static [u8]>,
    log: Table<'a, u64, &'static [u8]>,
    events: Table<'a, u64, &'static [u8]>,
}

impl Draft<'_> {
    fn apply(&mut self, request: Request) -> Result<Done, StoreError> {
        Ok(match request {
            Request::Commit { transaction, answer } => {
                let result = match self.check(&transaction)? {
                    Some(conflict) => Err(conflict),
                    None => Ok(self.write(transaction.ops)?),
                };
                Done::Commit(answer, result)
            }
            Request::Compact { keep_from, answer } => {
                let upto = Revision(keep_from.0.saturating_sub(1)).min(self.state.revision);
                self.forget(upto)?;
                Done::Compact(answer, self.state.compacted)
            }
            Request::Events { events, answer } => {
                for event in events {
                    self.append(&event)?;
                }
                Done::Events(answer, self.state.last_event)
            }
        })
    }

    /// The first condition that does not hold.
    fn check(&self, transaction: &Transaction) -> Result<Option<CommitError>, StoreError> {
        let found = self.state.revision;
        if let Some(expected) = transaction.if_revision
            && expected != found
        {
            return Ok(Some(CommitError::RevisionConflict { expected, found }));
        }
        for compare in &transaction.compare {
            let found = self.entry(&compare.key)?.map(|entry| entry.modified);
            if found != compare.modified {
                let (key, expected) = (compare.key.clone(), compare.modified);
                return Ok(Some(CommitError::Conflict { key, expected, found }));
            }
        }
        Ok(None)
    }

    fn entry(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        let value = self.kv.get(key.to_text().as_str()).map_err(StoreError::write)?;
        let Some(value) = value else { return Ok(None) };
        let undecodable = || StoreError::Undecodable { what: key.to_string() };
        decode_entry(value.value()).map(Some).ok_or_else(undecodable)
    }

    fn write(&mut self, ops: Vec<Op>) -> Result<Revision, StoreError> {
        let revision = Revision(self.state.revision.0 + 1);
        let mut changes: Vec<KeyChange> = Vec::with_capacity(ops.len());
        for op in ops {
            match op {
                Op::Put(key, value) => {
                    let old = self.entry(&key)?;
                    let (created, version) =
                        old.map_or((revision, 1), |old| (old.created, old.version + 1));
                    let entry = Entry { value, created, modified: revision, version };
                    let bytes = encode_entry(&entry);
                    let text = key.to_text();
                    self.kv.insert(text.as_str(), &*bytes).map_err(StoreError::write)?;
                    changes.push((key, Some(entry.value)));
                }
                Op::Delete(key) => {
                    let text = key.to_text();
                    let old = self.kv.remove(text.as_str()).map_err(StoreError::write)?;
                    if old.is_some() {
                        changes.push((key, None));
                    }
                }
            }
        }
        if !changes.is_empty() {
            let bytes = encode_changes(&changes);
            self.log.insert(revision.0, &*bytes).map_err(StoreError::write)?;
            self.state.revision = revision;
        }
        Ok(self.state.revision)
    }

    fn append(&mut self, event: &[u8]) -> Result<(), StoreError> {
        let id = self.state.last_event + 1;
        self.events.insert(id, event).map_err(StoreError::write)?;
        self.state.last_event = id;
        Ok(())
    }

    /// Keeps the log and the events at their sizes.
    fn trim(&mut self) -> Result<(), StoreError> {
        let State { revision, compacted, last_event, first_event } = self.state;
        if revision.0 - compacted.0 >= REVISIONS_KEPT + COMPACTION_SLICE {
            self.forget(Revision(revision.0 - REVISIONS_KEPT))?;
        }
        if last_event + 1 - first_event >= EVENTS_KEPT + EVENTS_SLICE {
            let first = last_event + 1 - EVENTS_KEPT;
            self.events.retain_in(..first, |_, _| false).map_err(StoreError::write)?;
            self.state.first_event = first;
        }
        Ok(())
    }

    fn forget(&mut self, upto: Revision) -> Result<(), StoreError> {
        if upto > self.state.compacted {
            self.log.retain_in(..=upto.0, |_, _| false).map_err(StoreError::write)?;
            self.state.compacted = upto;
        }
        Ok(())
    }
}
