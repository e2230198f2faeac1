//! Runtime: containers, as the control loop sees them.
//!
//! In: what to start, stop and remove, named by [`ContainerId`]. Out: [`RuntimeEvent`]s. The loop
//! never waits for a container: every request is answered by an event, and a hung or hostile
//! workload stalls nobody. The real thing ([`keeper_client::KeeperRuntime`]) talks to the keeper
//! process over a unix socket; [`fake::FakeRuntime`] beside it is for tests of the loop.

pub mod exec;
pub mod fake;
pub mod keeper_client;
pub mod logs;
mod oci_spec;

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use limpet_protocol::id::{InstanceId, NameError};
use limpet_protocol::report::Exit;
use limpet_protocol::spec::Spec;

use crate::image::PreparedImage;
use crate::signal;
pub use exec::{ExecId, ExecOutcome, ExecRequest, ExecStreams};

/// One attempt of one instance: `application.service.slot.attempt`. Never used twice on a node
/// between two boots.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContainerId {
    /// Which instance.
    pub instance: InstanceId,
    /// Which try in its slot, from 1.
    pub attempt: u32,
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.instance, self.attempt)
    }
}

impl FromStr for ContainerId {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        const SHAPE: NameError =
            NameError::BadShape { expected: "application.service.slot.attempt" };
        let (instance, attempt) = text.rsplit_once('.').ok_or(SHAPE)?;
        Ok(Self { instance: instance.parse()?, attempt: attempt.parse().map_err(|_| SHAPE)? })
    }
}

/// Everything that one container is made of.
#[derive(Debug, Clone)]
pub struct ContainerRequest {
    /// Its name.
    pub id: ContainerId,
    /// What the service says.
    pub spec: Arc<Spec>,
    /// The hash of that spec; it comes back in [`ContainerState`] so that an agent that was
    /// restarted knows what runs.
    pub spec_hash: limpet_protocol::id::SpecHash,
    /// What the image says, and where its layers are.
    pub image: Arc<PreparedImage>,
    /// The network that was made for it; none if it has its loopback device only, or the node's network.
    pub network: Option<ContainerNetwork>,
}

/// A network namespace that is there before its container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerNetwork {
    /// A file that stands for it until the container has been made.
    pub namespace: PathBuf,
    /// The container's addresses, for its `/etc/hosts`.
    pub addresses: Vec<IpAddr>,
    /// The node as the container sees it, its name server and gateway; none if it leads nowhere.
    pub gateway: Option<IpAddr>,
}

impl ContainerRequest {
    /// The signal that ends it: the service's, or the image's, or SIGTERM.
    #[must_use]
    pub fn stop_signal(&self) -> i32 {
        let config = self.image.config.config().as_ref();
        let of_image = || signal::number(config?.stop_signal().as_ref()?);
        self.spec.stop.signal.or_else(of_image).unwrap_or(signal::SIGTERM)
    }
}

/// What the runtime knows of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerState {
    /// Its name.
    pub id: ContainerId,
    /// What it was made of.
    pub spec_hash: limpet_protocol::id::SpecHash,
    /// Whether it runs, and if not how it ended.
    pub status: ContainerStatus,
    /// When it was started, by the node's clock, in milliseconds since 1970.
    pub started_ms: u64,
    /// The signal that ends it, as its service or its image says; none if nobody kept it.
    pub stop_signal: Option<i32>,
}

/// Whether a container runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContainerStatus {
    /// It is being made.
    Creating,
    /// Its first process runs.
    Running {
        /// The process id of its first process, as the node sees it.
        pid: u32,
    },
    /// It ended; what is left of it waits for [`Runtime::remove`].
    Exited(Exit),
}

/// What happened to a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RuntimeEvent {
    /// Everything there is: the first event after every connection to the keeper. What the agent
    /// believed before is void. Containers that died with an earlier keeper are in it as `Exited`
    /// with no code.
    Snapshot(Vec<ContainerState>),
    /// It runs.
    Started {
        /// Which.
        id: ContainerId,
        /// The process id of its first process.
        pid: u32,
    },
    /// It could not be made. Nothing is left of it but its log.
    CreateFailed {
        /// Which.
        id: ContainerId,
        /// Why, for a person to read.
        reason: String,
    },
    /// It ended.
    Exited {
        /// Which.
        id: ContainerId,
        /// How.
        exit: Exit,
    },
    /// Nothing is left of it.
    Removed {
        /// Which.
        id: ContainerId,
    },
    /// An exec runs.
    ExecStarted {
        /// Which.
        exec: ExecId,
        /// Its process id, as the node sees it.
        pid: u32,
    },
    /// An exec is over: the one answer that every accepted request gets.
    ExecEnded {
        /// Which.
        exec: ExecId,
        /// How.
        outcome: ExecOutcome,
    },
    /// The keeper is gone; the runtime starts another and a [`RuntimeEvent::Snapshot`] follows.
    KeeperLost {
        /// What was seen.
        reason: String,
    },
}

/// A request that cannot be passed on.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The keeper is not there; a [`RuntimeEvent::Snapshot`] will tell when it is back.
    #[error("{attempt}: the keeper is not connected")]
    NotConnected {
        /// What was being tried.
        attempt: String,
    },
    /// The spec asks for something that cannot be had on this node.
    #[error("{attempt}: {reason}")]
    Unsupported {
        /// What was being tried.
        attempt: String,
        /// What cannot be had, and what to do.
        reason: String,
    },
    /// A file of the bundle could not be written.
    #[error("{attempt}")]
    Io {
        /// What was being tried.
        attempt: String,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
}

/// Makes, stops and removes containers. Every call returns at once; outcomes are events.
pub trait Runtime {
    /// Makes and starts a container. Answered by `Started` or `CreateFailed`.
    ///
    /// # Errors
    /// [`RuntimeError`] if the request cannot even be passed on.
    fn start(&mut self, request: &ContainerRequest) -> Result<(), RuntimeError>;

    /// Sends the stop signal and, after the grace period, kills the whole cgroup. Answered by
    /// `Exited`. The keeper keeps the time, so a stop goes on when the agent dies.
    ///
    /// # Errors
    /// [`RuntimeError::NotConnected`].
    fn stop(&mut self, id: &ContainerId, signal: i32, grace_ms: u64) -> Result<(), RuntimeError>;

    /// Removes what an ended container leaves: cgroup, mounts, writable layer, log. Answered by `Removed`.
    ///
    /// # Errors
    /// [`RuntimeError::NotConnected`].
    fn remove(&mut self, id: &ContainerId) -> Result<(), RuntimeError>;

    /// Runs a further process in a container that runs. Answered by `ExecStarted` and `ExecEnded`, or
    /// by `ExecEnded` alone. It ends with its container, with this agent, and when the keeper is
    /// replaced: nothing outlives who asked for it.
    ///
    /// # Errors
    /// [`RuntimeError`] if the request cannot even be passed on.
    fn exec(&mut self, request: ExecRequest) -> Result<ExecId, RuntimeError>;

    /// Sends a signal to an exec's process and to those that it made and that kept its process
    /// group. One that has not begun yet ends at once. Unknown ones have ended.
    ///
    /// # Errors
    /// [`RuntimeError::NotConnected`].
    fn kill_exec(&mut self, exec: ExecId, signal: i32) -> Result<(), RuntimeError>;

    /// What the node lacks to run containers, for people; none while that is not known. It may change
    /// with every [`RuntimeEvent::Snapshot`].
    fn conditions(&self) -> Option<Vec<String>>;

    /// The next thing that happened. Cancel-safe.
    fn next_event(&mut self) -> impl Future<Output = RuntimeEvent>;
}

/// Where the runtime keeps its files.
#[derive(Debug, Clone)]
pub struct RuntimePaths {
    /// Memory-backed, gone at reboot: socket, bundles, logs, exit records (`/run/limpet`).
    pub run: PathBuf,
    /// Kept: writable layers under `containers/`, named volumes under `volumes/` (`/var/lib/limpet`).
    pub data: PathBuf,
    /// The cgroup under which every container's is made, absolute within each hierarchy (`/limpet`).
    pub cgroup_parent: String,
}
