//! Store: the truth, in redb.
//!
//! In: [`Transaction`]s, each a value that is applied deterministically (time and ids are stamped
//! before). Out: the [`Revision`] at which it is on disk; reads; watches from a revision. One
//! writer thread commits in groups; an answer goes out only after its commit is on disk. What a
//! value means is [`records`]'s business. An idle store writes nothing.

mod error;
mod file;
mod identity;
mod key;
mod layout;
mod reading;
pub mod records;
mod vault;
mod watch;
mod writer;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;

use limpet_protocol::codec;
use limpet_protocol::id::{ApplicationName, ContentId};
use redb::Database;
use tokio::sync::{mpsc, oneshot};

pub use error::{CommitError, StoreError, WatchError};
pub use identity::Identity;
pub use key::{Key, Kind};
pub use vault::{Vault, VaultError};
pub use watch::Watch;

use records::{EventRecord, SecretRecord};
use writer::Request;

/// Requests that may wait for the writer; more wait in their senders.
const QUEUE: usize = 1024;
/// Largest value: an application of 256 services of real size has some 500 KiB.
pub const MAX_VALUE_BYTES: usize = 4 * 1024 * 1024;
/// Most changes in one transaction: an assignment for each node of a large fleet.
pub const MAX_OPS: usize = 10_000;
/// Revisions that stay in the log for watchers; the oldest go first.
pub const REVISIONS_KEPT: u64 = 10_000;
/// Events that are kept; the oldest go first.
pub const EVENTS_KEPT: u64 = 10_000;

/// Grows by one with every transaction that changes something; the clock of the store.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    serde::Serialize,
    serde::Deserialize,
)]
#[serde(transparent)]
pub struct Revision(pub u64);

/// A value with its history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The encoded record.
    pub value: Vec<u8>,
    /// When it was made.
    pub created: Revision,
    /// When it was last changed.
    pub modified: Revision,
    /// How often it was written since it was made, from 1.
    pub version: u64,
}

/// Part of a transaction's condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compare {
    /// Which key.
    pub key: Key,
    /// The revision it must have been modified at; none means that it must not be there.
    pub modified: Option<Revision>,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Write a value.
    Put(Key, Vec<u8>),
    /// Remove a value; nothing happens if it is not there.
    Delete(Key),
}

/// All of it happens at one revision, or nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Transaction {
    /// All must hold.
    pub compare: Vec<Compare>,
    /// The store's revision must still be this, if given.
    pub if_revision: Option<Revision>,
    /// In order.
    pub ops: Vec<Op>,
}

/// A change as watchers see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// At which revision.
    pub revision: Revision,
    /// Of which key.
    pub key: Key,
    /// The new value; none if it was removed.
    pub value: Option<Vec<u8>>,
}

/// The store. Cheap to clone; the file is released when the last clone and the last [`Watch`] are gone.
#[derive(Debug, Clone)]
pub struct Store {
    shared: Arc<Shared>,
}

/// Dropped in this order: without senders the writer ends, then it is joined, then the file closes.
#[derive(Debug)]
struct Shared {
    requests: mpsc::Sender<Request>,
    revision: tokio::sync::watch::Receiver<Revision>,
    last_event: tokio::sync::watch::Receiver<u64>,
    identity: Identity,
    vault: Vault,
    _writer: writer::Thread,
    database: Arc<Database>,
}

impl Store {
    /// Opens the store in a file (not a folder), or makes a new one there.
    ///
    /// # Errors
    /// [`StoreError`]: [`StoreError::InUse`] if another process has it, [`StoreError::Corrupt`] if
    /// it is damaged; nothing is changed then.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let database = Arc::new(file::open(path)?);
        let identity = Identity::read(&database)?;
        let vault = open_vault(path, &database)?;
        let (requests, queue) = mpsc::channel(QUEUE);
        let (writer, revision, last_event) = writer::start(Arc::clone(&database), queue)?;
        let shared =
            Shared { requests, revision, last_event, identity, vault, _writer: writer, database };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Who this controller is.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.shared.identity
    }

    /// The key that its secrets rest under.
    #[must_use]
    pub fn vault(&self) -> &Vault {
        &self.shared.vault
    }

    /// The newest revision that is on disk.
    #[must_use]
    pub fn revision(&self) -> Revision {
        *self.shared.revision.borrow()
    }

    /// The newest revision, to be waited on. It closes when the store fails.
    #[must_use]
    pub fn subscribe(&self) -> tokio::sync::watch::Receiver<Revision> {
        self.shared.revision.clone()
    }

    /// The value under a key.
    ///
    /// # Errors
    /// [`StoreError`] if the file cannot be read.
    pub fn get(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        reading::get(&self.shared.database, key)
    }

    /// Everything of a kind by name, and the revision at which it was so.
    ///
    /// # Errors
    /// [`StoreError`] if the file cannot be read.
    pub fn list(&self, kind: Kind) -> Result<(Revision, Vec<(Key, Entry)>), StoreError> {
        reading::list(&self.shared.database, kind, "")
    }

    /// The earlier revisions of an application that are kept, the oldest first.
    ///
    /// # Errors
    /// [`StoreError`] if the file cannot be read.
    pub fn history(
        &self,
        application: &ApplicationName,
    ) -> Result<Vec<(Revision, Entry)>, StoreError> {
        let (_, kept) = reading::list(&self.shared.database, Kind::History, application.as_str())?;
        let revision = |(key, entry): (Key, Entry)| Some((key.historic_revision()?, entry));
        Ok(kept.into_iter().filter_map(revision).collect())
    }

    /// Applies a transaction; it is on disk when this returns. A transaction that changes nothing
    /// (no puts, deletes of what is not there) gives the revision as it is.
    ///
    /// Dropping the future does not take the transaction back.
    ///
    /// # Errors
    /// [`CommitError`]: a condition does not hold, it is too large, or the store failed. Nothing
    /// of it happened then.
    pub async fn commit(&self, transaction: Transaction) -> Result<Revision, CommitError> {
        check_size(&transaction)?;
        let (answer, answered) = oneshot::channel();
        self.send(Request::Commit { transaction, answer }).await?;
        answered.await.map_err(|_| StoreError::Closed)?
    }

    /// Every change after a revision, in order, and then those that come.
    #[must_use]
    pub fn watch(&self, after: Revision) -> Watch {
        Watch::new(self.clone(), after)
    }

    /// Forgets the changes before a revision (values stay); gives the oldest revision after which
    /// a watch can now begin. The writer does this by itself beyond [`REVISIONS_KEPT`].
    ///
    /// # Errors
    /// [`StoreError`] if the store failed.
    pub async fn compact(&self, keep_from: Revision) -> Result<Revision, StoreError> {
        let (answer, answered) = oneshot::channel();
        self.send(Request::Compact { keep_from, answer }).await?;
        answered.await.map_err(|_| StoreError::Closed)?
    }

    /// Appends events, stamping their ids; gives the id of the last one. They have no revision.
    ///
    /// # Errors
    /// [`StoreError`] if the store failed.
    pub async fn append_events(&self, events: Vec<EventRecord>) -> Result<u64, StoreError> {
        let encode = |event: &EventRecord| codec::encode(event).map_err(|_| StoreError::Event);
        let events = events.iter().map(encode).collect::<Result<_, _>>()?;
        let (answer, answered) = oneshot::channel();
        self.send(Request::Events { events, answer }).await?;
        answered.await.map_err(|_| StoreError::Closed)?
    }

    /// At most `limit` events with ids greater than `since`, the oldest first.
    ///
    /// # Errors
    /// [`StoreError`] if the file cannot be read.
    pub fn events(&self, since: u64, limit: usize) -> Result<Vec<EventRecord>, StoreError> {
        reading::events(&self.shared.database, since, limit)
    }

    /// The id of the newest event, to be waited on; 0 before the first.
    #[must_use]
    pub fn subscribe_events(&self) -> tokio::sync::watch::Receiver<u64> {
        self.shared.last_event.clone()
    }

    async fn send(&self, request: Request) -> Result<(), StoreError> {
        self.shared.requests.send(request).await.map_err(|_| StoreError::Closed)
    }
}

/// Opens the vault; one secret of the store tells whether its key is the right one.
fn open_vault(path: &Path, database: &Database) -> Result<Vault, StoreError> {
    let (_, secrets) = reading::list(database, Kind::Secret, "")?;
    let sealed = secrets.first().and_then(|(key, entry)| {
        let record: SecretRecord = codec::decode_within(&entry.value, MAX_VALUE_BYTES).ok()?;
        Some((key.name().parse::<ContentId>().ok()?, record.sealed))
    });
    let sealed = sealed.as_ref().map(|(id, sealed)| (*id, sealed.as_slice()));
    Vault::open(path, sealed)
        .map_err(|source| StoreError::Vault { path: path.to_owned(), source: Arc::new(source) })
}

fn check_size(transaction: &Transaction) -> Result<(), CommitError> {
    let too_large = |what: String, size, max| Err(CommitError::TooLarge { what, size, max });
    let ops = transaction.ops.len().max(transaction.compare.len());
    if ops > MAX_OPS {
        return too_large("the transaction".to_owned(), ops, MAX_OPS);
    }
    for op in &transaction.ops {
        if let Op::Put(key, value) = op
            && value.len() > MAX_VALUE_BYTES
        {
            return too_large(key.to_string(), value.len(), MAX_VALUE_BYTES);
        }
    }
    Ok(())
}
