//! The keeper, as the agent sees it: [`KeeperRuntime`].
//!
//! In: calls of [`Runtime`]. Out: requests to the keeper process over its socket, and what it
//! answers as [`RuntimeEvent`]s. Starts a keeper where none answers, and another when one is lost.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use limpet_protocol::codec;
use tokio::io::unix::AsyncFd;
use tokio::io::{Interest, Ready};

use super::{
    ContainerId, ContainerRequest, ContainerState, ContainerStatus, ExecId, ExecOutcome,
    ExecRequest, ExecStreams, Runtime, RuntimeError, RuntimeEvent, RuntimePaths, oci_spec,
};
use crate::keeper::facts::{NodeFacts, VERSION};
use crate::keeper::socket::{self, Received};
use crate::keeper::start;
use crate::keeper::wire::{Blob, Create, Event, Exec, ListedStatus, MAX_MESSAGE_BYTES, Request};

/// Requests that wait for a keeper that does not read: more than a node can have containers.
const MAX_WAITING_REQUESTS: usize = 2048;
/// Time between two attempts to reach or start a keeper.
const RETRY_PAUSE: Duration = Duration::from_millis(200);
/// Bytes of a keeper's complaint that are passed on.
const MAX_COMPLAINT_BYTES: usize = 400;

/// A request that waits for room in the socket, with the descriptors that go along.
#[derive(Debug)]
struct Waiting {
    message: Vec<u8>,
    descriptors: Vec<OwnedFd>,
}

/// Containers through the keeper process of this node.
#[derive(Debug)]
pub struct KeeperRuntime {
    paths: RuntimePaths,
    keeper_exe: PathBuf,
    connection: Option<AsyncFd<OwnedFd>>,
    /// Facts of the node, known from the first snapshot on.
    facts: Option<NodeFacts>,
    waiting: VecDeque<Waiting>,
    /// Execs that were asked for and have not ended.
    execs: BTreeSet<ExecId>,
    next_exec: u64,
    /// A keeper that is being started, until it serves or says why not.
    starting: Option<tokio::task::JoinHandle<io::Result<()>>>,
    ending: bool,
    /// Whether a keeper of another version was told to follow: once, whatever comes of it.
    upgraded: bool,
}

impl KeeperRuntime {
    /// A runtime over the keeper that serves `paths.run`. `keeper_exe` is started as
    /// `keeper_exe keeper …` if none is there. Nothing happens yet: [`Runtime::next_event`]
    /// connects, and its first event is a [`RuntimeEvent::Snapshot`].
    #[must_use]
    pub fn connect(paths: RuntimePaths, keeper_exe: PathBuf) -> Self {
        let waiting = VecDeque::new();
        Self {
            paths,
            keeper_exe,
            connection: None,
            facts: None,
            waiting,
            execs: BTreeSet::new(),
            next_exec: 0,
            starting: None,
            ending: false,
            upgraded: false,
        }
    }

    /// Where the files are.
    #[must_use]
    pub fn paths(&self) -> &RuntimePaths {
        &self.paths
    }

    /// What the keeper says of its node; none before the first snapshot.
    #[must_use]
    pub fn facts(&self) -> Option<&NodeFacts> {
        self.facts.as_ref()
    }

    /// Tells the keeper to replace itself by the program at `exe` without losing a container. It is
    /// answered by a new [`RuntimeEvent::Snapshot`].
    ///
    /// # Errors
    /// [`RuntimeError::NotConnected`].
    pub fn upgrade(&mut self, exe: &Path) -> Result<(), RuntimeError> {
        let attempt = format!("upgrade the keeper to {}", exe.display());
        self.request(&Request::Upgrade { exe: exe.to_owned() }, attempt)
    }

    /// Tells the keeper to stop and remove every container, each with so long a grace period, and
    /// to end. When [`Runtime::next_event`] says [`RuntimeEvent::KeeperLost`] nothing is left, and
    /// no other keeper is started.
    ///
    /// # Errors
    /// [`RuntimeError::NotConnected`].
    pub fn shutdown(&mut self, grace_ms: u64) -> Result<(), RuntimeError> {
        self.request(&Request::Shutdown { grace_ms }, "shut the keeper down".to_owned())?;
        self.ending = true;
        Ok(())
    }

    fn request(&mut self, request: &Request, attempt: String) -> Result<(), RuntimeError> {
        self.request_with(request, Vec::new(), attempt)
    }

    fn request_with(
        &mut self,
        request: &Request,
        descriptors: Vec<OwnedFd>,
        attempt: String,
    ) -> Result<(), RuntimeError> {
        let Some(connection) = &self.connection else {
            return Err(RuntimeError::NotConnected { attempt });
        };
        let message = codec::encode_within(request, MAX_MESSAGE_BYTES).map_err(|error| {
            RuntimeError::Unsupported { attempt: attempt.clone(), reason: error.to_string() }
        })?;
        if self.waiting.is_empty() {
            let borrowed: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
            match socket::transmit_with(connection.get_ref(), &message, &borrowed) {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                // The next event tells of the loss.
                Err(_) => return Err(RuntimeError::NotConnected { attempt }),
            }
        }
        if self.waiting.len() >= MAX_WAITING_REQUESTS {
            return Err(RuntimeError::NotConnected { attempt });
        }
        self.waiting.push_back(Waiting { message, descriptors });
        Ok(())
    }

    /// Connects, starting a keeper where none answers. Cancel-safe: what it began it finds again.
    async fn reach_keeper(&mut self) -> Result<(), String> {
        if self.starting.is_none() {
            if let Ok(socket) = socket::connect_to(&self.paths.run) {
                let connection =
                    watched(socket).map_err(|error| format!("watch the keeper: {error}"))?;
                self.connection = Some(connection);
                self.waiting.clear();
                return Ok(());
            }
            if self.ending {
                return std::future::pending().await;
            }
            let exe = self.keeper_exe.clone();
            let paths = self.paths.clone();
            let start = tokio::task::spawn_blocking(move || start_keeper(&exe, &paths));
            self.starting = Some(start);
        }
        let Some(starting) = &mut self.starting else { return Ok(()) };
        let started = starting.await;
        self.starting = None;
        match started {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => {
                Err(format!("start the keeper {}: {error}", self.keeper_exe.display()))
            }
            Err(error) => Err(format!("start the keeper: {error}")),
        }
    }

    /// The next message of the keeper; what waits is sent meanwhile. Cancel-safe.
    async fn next_message(&mut self) -> io::Result<Vec<u8>> {
        let gone = || io::Error::other("the keeper closed the connection");
        let Some(connection) = &self.connection else { return Err(gone()) };
        loop {
            let interest = if self.waiting.is_empty() {
                Interest::READABLE
            } else {
                Interest::READABLE | Interest::WRITABLE
            };
            let mut ready = connection.ready(interest).await?;
            while let Some(Waiting { message, descriptors }) = self.waiting.front() {
                let borrowed: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
                if !socket::transmit_with(connection.get_ref(), message, &borrowed)? {
                    ready.clear_ready_matching(Ready::WRITABLE);
                    break;
                }
                self.waiting.pop_front();
            }
            match socket::receive(connection.get_ref())? {
                Received::Message(message, _) => return Ok(message),
                Received::Closed => return Err(gone()),
                // Only this readiness ends: a message that came meanwhile begins another.
                Received::Nothing => ready.clear_ready_matching(Ready::READABLE),
            }
        }
    }

    /// The agent was upgraded and the keeper was not: it follows, and no container notices.
    fn follow_version(&mut self, facts: &NodeFacts) {
        if facts.version == VERSION || self.upgraded {
            return;
        }
        self.upgraded = true;
        let exe = self.keeper_exe.clone();
        if let Err(error) = self.upgrade(&exe) {
            tracing::warn!(%error, "the keeper stays at version {}", facts.version);
        }
    }

    fn understand(&mut self, message: &[u8]) -> Option<RuntimeEvent> {
        let event = match codec::decode_within(message, MAX_MESSAGE_BYTES) {
            Ok(event) => event,
            Err(error) => {
                tracing::warn!(%error, "the keeper sent what is no event");
                return None;
            }
        };
        let known = |id: String| id.parse::<ContainerId>().ok();
        Some(match event {
            Event::Snapshot { facts, containers } => {
                self.follow_version(&facts);
                self.facts = Some(facts);
                let states = containers.into_iter().filter_map(|listed| {
                    Some(ContainerState {
                        id: known(listed.id)?,
                        spec_hash: listed.spec,
                        started_ms: listed.started_ms,
                        stop_signal: listed.stop_signal,
                        status: match listed.status {
                            ListedStatus::Creating => ContainerStatus::Creating,
                            ListedStatus::Running { pid } => ContainerStatus::Running { pid },
                            ListedStatus::Exited(exit) => ContainerStatus::Exited(exit),
                        },
                    })
                });
                RuntimeEvent::Snapshot(states.collect())
            }
            Event::Started { id, pid } => RuntimeEvent::Started { id: known(id)?, pid },
            Event::CreateFailed { id, reason } => {
                RuntimeEvent::CreateFailed { id: known(id)?, reason }
            }
            Event::Exited { id, exit } => RuntimeEvent::Exited { id: known(id)?, exit },
            Event::Removed { id } => RuntimeEvent::Removed { id: known(id)? },
            Event::ExecStarted { exec, pid } => {
                RuntimeEvent::ExecStarted { exec: ExecId(exec), pid }
            }
            Event::ExecEnded { exec, outcome } => {
                let exec = ExecId(exec);
                // One that was given up already had its answer.
                self.execs.remove(&exec).then_some(RuntimeEvent::ExecEnded { exec, outcome })?
            }
            Event::Refused { reason } => {
                tracing::warn!(%reason, "the keeper refused a request");
                return None;
            }
        })
    }
}

impl Runtime for KeeperRuntime {
    fn start(&mut self, request: &ContainerRequest) -> Result<(), RuntimeError> {
        let attempt = format!("start {}", request.id);
        let Some(facts) = self.facts.as_ref().filter(|_| self.connection.is_some()) else {
            return Err(RuntimeError::NotConnected { attempt });
        };
        let unsupported =
            |reason: String| RuntimeError::Unsupported { attempt: attempt.clone(), reason };
        let plan = oci_spec::plan(request, facts, &self.paths)
            .map_err(|error| unsupported(error.to_string()))?;
        let plan = codec::encode_within(&plan, MAX_MESSAGE_BYTES)
            .map_err(|error| unsupported(error.to_string()))?;
        let create = Create {
            id: request.id.to_string(),
            spec: request.spec_hash,
            log: request.spec.log.clone(),
            stop_signal: Some(request.stop_signal()),
            terminal: request.spec.process.tty,
            plan: Blob(plan),
        };
        self.request(&Request::Create(Box::new(create)), attempt)
    }

    fn stop(&mut self, id: &ContainerId, signal: i32, grace_ms: u64) -> Result<(), RuntimeError> {
        let request = Request::Stop { id: id.to_string(), signal, grace_ms };
        self.request(&request, format!("stop {id}"))
    }

    fn remove(&mut self, id: &ContainerId) -> Result<(), RuntimeError> {
        self.request(&Request::Remove { id: id.to_string() }, format!("remove {id}"))
    }

    fn exec(&mut self, request: ExecRequest) -> Result<ExecId, RuntimeError> {
        let attempt = format!("exec in {}", request.container);
        self.next_exec += 1;
        let exec = ExecId(self.next_exec);
        let (terminal, descriptors) = match request.streams {
            ExecStreams::Pipes { stdin, stdout, stderr } => (None, vec![stdin, stdout, stderr]),
            ExecStreams::Terminal { socket, size } => (Some(size), vec![socket]),
        };
        let message = Request::Exec(Box::new(Exec {
            exec: exec.0,
            container: request.container.to_string(),
            command: request.command,
            environment: request.environment,
            working_dir: request.working_dir,
            user: request.user,
            terminal,
        }));
        self.request_with(&message, descriptors, attempt)?;
        self.execs.insert(exec);
        Ok(exec)
    }

    fn kill_exec(&mut self, exec: ExecId, signal: i32) -> Result<(), RuntimeError> {
        self.request(&Request::KillExec { exec: exec.0, signal }, format!("kill {exec}"))
    }

    fn conditions(&self) -> Option<Vec<String>> {
        self.facts.as_ref().map(NodeFacts::conditions)
    }

    async fn next_event(&mut self) -> RuntimeEvent {
        loop {
            if self.connection.is_none() {
                // The keeper that had them is not there to tell.
                if let Some(exec) = self.execs.pop_first() {
                    return RuntimeEvent::ExecEnded { exec, outcome: ExecOutcome::Lost };
                }
                if let Err(reason) = self.reach_keeper().await {
                    tokio::time::sleep(RETRY_PAUSE).await;
                    return RuntimeEvent::KeeperLost { reason };
                }
                continue;
            }
            match self.next_message().await {
                Ok(message) => {
                    if let Some(event) = self.understand(&message) {
                        return event;
                    }
                }
                Err(error) => {
                    self.connection = None;
                    self.waiting.clear();
                    return RuntimeEvent::KeeperLost { reason: error.to_string() };
                }
            }
        }
    }
}

#[expect(unsafe_code, reason = "tokio cannot know that an owned descriptor stays the same")]
pub(crate) fn watched(socket: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the descriptor is owned by the value that watches it and is closed only with it.
    unsafe { AsyncFd::register(socket) }.map_err(Into::into)
}

/// Starts a keeper and waits until it serves, which takes some milliseconds.
fn start_keeper(exe: &Path, paths: &RuntimePaths) -> io::Result<()> {
    let arguments = start::arguments(paths, &[]);
    let output = std::process::Command::new(exe)
        .args(arguments.iter().skip(1))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .output()?;
    if output.status.success() {
        return Ok(());
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    let complaint: String = complaint.trim().chars().take(MAX_COMPLAINT_BYTES).collect();
    Err(io::Error::other(format!("{complaint} ({})", output.status)))
}
