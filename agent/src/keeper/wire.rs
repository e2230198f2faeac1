//! What agent and keeper say to each other: one CBOR message a packet of a unix socket.
//!
//! The agent sends [`Request`]s, the keeper [`Event`]s; the first event on every connection is
//! [`Event::Snapshot`]. Both ends are the same binary or neighbouring versions of it.

use std::fmt;
use std::path::PathBuf;

use limpet_protocol::id::SpecHash;
use limpet_protocol::report::Exit;
use limpet_protocol::spec::LogPolicy;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::facts::NodeFacts;
use crate::runtime::exec::{ExecOutcome, TerminalSize};

/// Largest message: a snapshot of every container that a node may have, and a spec of the largest
/// size with its system call filter. Below half of the kernel's default for a socket's buffer.
pub(crate) const MAX_MESSAGE_BYTES: usize = 192 * 1024;

/// The keeper's socket in the run folder.
pub(crate) const SOCKET_NAME: &str = "keeper.sock";

/// From the agent to the keeper.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    /// Make and start a container.
    Create(Box<Create>),
    /// Signal it, and kill its cgroup after so long.
    Stop { id: String, signal: i32, grace_ms: u64 },
    /// Remove what is left of it; one that still runs is killed.
    Remove { id: String },
    /// Run a further process in a container. Three descriptors come along, its standard streams; one
    /// where it has a terminal, the socket over which the terminal's controlling side is sent.
    Exec(Box<Exec>),
    /// Signal an exec's process group.
    KillExec { exec: u64, signal: i32 },
    /// Replace yourself by this program.
    Upgrade { exe: PathBuf },
    /// Stop and remove everything, then end.
    Shutdown { grace_ms: u64 },
}

/// A container to be made.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Create {
    /// Its name.
    pub id: String,
    /// What it is made of.
    pub spec: SpecHash,
    /// How much of its output is kept.
    pub log: LogPolicy,
    /// The signal that ends it; none in what an older agent says.
    #[serde(default)]
    pub stop_signal: Option<i32>,
    /// Whether its process has a terminal, of which the keeper holds the controlling side.
    #[serde(default)]
    pub terminal: bool,
    /// An encoded [`super::plan::Plan`]: only the forked child that makes the container reads it.
    pub plan: Blob,
}

/// A further process in a container.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Exec {
    /// The agent's number for it.
    pub exec: u64,
    /// In which container.
    pub container: String,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Values on top of the container's environment.
    pub environment: Vec<(String, String)>,
    /// Where; none is the container's own.
    pub working_dir: Option<String>,
    /// Who; none is who the container runs as.
    pub user: Option<String>,
    /// The size of its terminal; none has none.
    pub terminal: Option<TerminalSize>,
}

/// From the keeper to the agent.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Event {
    /// Everything there is.
    Snapshot { facts: NodeFacts, containers: Vec<Listed> },
    /// It runs.
    Started { id: String, pid: u32 },
    /// It could not be made.
    CreateFailed { id: String, reason: String },
    /// It ended.
    Exited { id: String, exit: Exit },
    /// Nothing is left of it.
    Removed { id: String },
    /// An exec runs.
    ExecStarted { exec: u64, pid: u32 },
    /// An exec is over.
    ExecEnded { exec: u64, outcome: ExecOutcome },
    /// A request of no container could not be done.
    Refused { reason: String },
}

/// One container in a snapshot.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Listed {
    pub id: String,
    pub spec: SpecHash,
    pub started_ms: u64,
    pub status: ListedStatus,
    /// The signal that ends it; none in what an older keeper says.
    #[serde(default)]
    pub stop_signal: Option<i32>,
}

/// Whether a listed container runs.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ListedStatus {
    Creating,
    Running { pid: u32 },
    Exited(Exit),
}

/// Bytes that travel as a byte string.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Blob(pub Vec<u8>);

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl serde::de::Visitor<'_> for Bytes {
            type Value = Blob;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a byte string")
            }
            fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Blob, E> {
                Ok(Blob(bytes.to_vec()))
            }
            fn visit_byte_buf<E: serde::de::Error>(self, bytes: Vec<u8>) -> Result<Blob, E> {
                Ok(Blob(bytes))
            }
        }
        deserializer.deserialize_byte_buf(Bytes)
    }
}
