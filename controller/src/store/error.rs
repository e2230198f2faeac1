//! What can go wrong with the store, each an attempt with its operands.

use std::path::PathBuf;
use std::sync::Arc;

use super::{Key, Revision};

/// Why the store could not be opened, read or written.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// Another process has the file.
    #[error(
        "another controller uses the data folder of {path}: stop it, or give this one its own folder with --data"
    )]
    InUse {
        /// The store's file.
        path: PathBuf,
    },
    /// The file is damaged or no store at all.
    #[error(
        "the store {path} is damaged or not a store of Limpet: restore it from a backup, or move it away to begin with an empty one"
    )]
    Corrupt {
        /// The store's file.
        path: PathBuf,
        /// What redb found.
        #[source]
        source: Arc<redb::Error>,
    },
    /// The file was written by a version of Limpet that this one does not know.
    #[error(
        "the store {path} has schema {found} and this controller knows {known}: run the newer controller that wrote it"
    )]
    UnknownSchema {
        /// The store's file.
        path: PathBuf,
        /// What the file says.
        found: u64,
        /// What this program writes.
        known: u64,
    },
    /// The file cannot be had.
    #[error("cannot open the store {path}: check that the folder exists and may be written")]
    Open {
        /// The store's file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: Arc<redb::Error>,
    },
    /// The key pair could not be made or read.
    #[error("cannot {attempt} the controller's signing key in the store")]
    SigningKey {
        /// `make` or `read`.
        attempt: &'static str,
    },
    /// The file of the key that secrets rest under cannot be had.
    #[error("cannot read or make the key of the secrets beside the store {path}")]
    Vault {
        /// The store's file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: Arc<std::io::Error>,
    },
    /// The writer thread could not be started.
    #[error("cannot start the store's writer thread")]
    Thread(#[source] Arc<std::io::Error>),
    /// A read failed.
    #[error("cannot read {what} in the store")]
    Read {
        /// What was being read.
        what: String,
        /// What redb said.
        #[source]
        source: Arc<redb::Error>,
    },
    /// A commit failed; nothing of it is there, and the store takes no more.
    #[error("cannot write to the store: the disk failed or is full; free space and start again")]
    Write(#[source] Arc<redb::Error>),
    /// A value in the file is not what this version writes.
    #[error("{what} in the store is not what this controller writes")]
    Undecodable {
        /// Which value.
        what: String,
    },
    /// An event that is larger than any message of Limpet.
    #[error("cannot keep an event: it is too large")]
    Event,
    /// The writer has ended, because a write failed before.
    #[error("the store is closed since a write failed; restart the controller")]
    Closed,
}

impl StoreError {
    pub(super) fn read(what: impl Into<String>, source: impl Into<redb::Error>) -> Self {
        Self::Read { what: what.into(), source: Arc::new(source.into()) }
    }

    pub(super) fn write(source: impl Into<redb::Error>) -> Self {
        Self::Write(Arc::new(source.into()))
    }
}

/// Why a transaction was not taken. Nothing of it happened.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CommitError {
    /// A key was changed by somebody else in between.
    #[error("{key} is at {}, not at {}", at(*found), at(*expected))]
    Conflict {
        /// Which.
        key: Key,
        /// The revision that the transaction expects; none is "not there".
        expected: Option<Revision>,
        /// The revision that it has.
        found: Option<Revision>,
    },
    /// Something was changed by somebody else in between.
    #[error("the store is at revision {}, not at {}", found.0, expected.0)]
    RevisionConflict {
        /// The revision that the transaction expects.
        expected: Revision,
        /// The revision that the store has.
        found: Revision,
    },
    /// More than a transaction may hold.
    #[error("{what} is too large: {size}, at most {max}")]
    TooLarge {
        /// What.
        what: String,
        /// How large it is.
        size: usize,
        /// How large it may be.
        max: usize,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn at(revision: Option<Revision>) -> String {
    revision.map_or_else(|| "no revision (not there)".to_owned(), |r| format!("revision {}", r.0))
}

/// Why a watch ended.
#[derive(Debug, Clone, thiserror::Error)]
pub enum WatchError {
    /// Changes that it has not seen are gone: list again and watch from there.
    #[error("the changes before revision {} are compacted: list again and watch from there", oldest.0)]
    Compacted {
        /// The oldest revision after which a watch can begin.
        oldest: Revision,
    },
    /// The store failed or was closed.
    #[error("the store is closed")]
    Closed,
}
