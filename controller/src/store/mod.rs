//! Store: the truth, in redb.
//!
//! In: [`Transaction`]s, each a value that is applied deterministically (time and ids are stamped
//! before). Out: the [`Revision`] at which it is on disk; reads; watches from a revision. One
//! writer thread commits in groups; an answer goes out only after its commit is on disk. What a
//! value means is [`records`]'s business.

pub mod records;

use limpet_protocol::id::{ApplicationName, NodeId};

/// Grows by one with every transaction; the clock of the store.
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

/// What is kept, by kind. The kind is the key's first part, so a prefix is a kind.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// What people want. Writer: people, through the API.
    Application(ApplicationName),
    /// A node that joined. Writers: people (labels) and joining, by compare-and-set.
    Node(NodeId),
    /// What a node shall run. Writer: the control loop.
    Assignment(NodeId),
    /// An access or join token, by the SHA-256 of the token in hexadecimal.
    Token(String),
}

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
