//! The fake runtime: containers that exist only in memory, for tests of the control loop.
//!
//! Everything goes well and at once unless the test says otherwise; what the loop asked for is
//! kept in [`FakeRuntime::calls`] in its order.

use std::collections::{BTreeMap, VecDeque};

use limpet_protocol::report::Exit;

use super::{
    ContainerId, ContainerRequest, ContainerState, ContainerStatus, ExecId, ExecOutcome,
    ExecRequest, ExecStreams, Runtime, RuntimeError, RuntimeEvent,
};

/// What was asked of a [`FakeRuntime`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FakeCall {
    /// [`Runtime::start`].
    Start(ContainerId),
    /// [`Runtime::stop`] with its signal and grace period.
    Stop(ContainerId, i32, u64),
    /// [`Runtime::remove`].
    Remove(ContainerId),
    /// [`Runtime::exec`] with its command.
    Exec(ContainerId, Vec<String>),
    /// [`Runtime::kill_exec`] with its signal.
    KillExec(ExecId, i32),
}

/// What a scripted exec does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FakeExec {
    /// What it writes to standard output.
    pub output: String,
    /// How it ends; none runs until [`FakeRuntime::end_exec`] or a SIGKILL ends it.
    pub outcome: Option<ExecOutcome>,
}

/// Containers in memory.
#[derive(Debug)]
pub struct FakeRuntime {
    /// What is there.
    pub containers: BTreeMap<ContainerId, ContainerState>,
    /// Everything that was asked, in order.
    pub calls: Vec<FakeCall>,
    /// Whether requests are refused as not connected.
    pub disconnected: bool,
    /// Services (`application.service`) whose containers cannot be made, and why.
    pub create_failures: BTreeMap<String, String>,
    /// Whether a stop is ignored until the test calls [`FakeRuntime::exit`].
    pub stop_hangs: bool,
    /// What execs do, by service (`application.service`). Without an entry they end with code 0.
    pub exec_script: BTreeMap<String, FakeExec>,
    /// The execs that run, with their containers.
    pub execs: BTreeMap<ExecId, ContainerId>,
    /// What the node lacks.
    pub conditions: Option<Vec<String>>,
    events: VecDeque<RuntimeEvent>,
    next_pid: u32,
    next_exec: u64,
    now_ms: u64,
}

impl Default for FakeRuntime {
    fn default() -> Self {
        Self::new(Vec::new())
    }
}

impl FakeRuntime {
    /// A runtime with these containers; the first event is the snapshot of them.
    #[must_use]
    pub fn new(containers: Vec<ContainerState>) -> Self {
        let events = VecDeque::from([RuntimeEvent::Snapshot(containers.clone())]);
        Self {
            containers: containers.into_iter().map(|state| (state.id.clone(), state)).collect(),
            calls: Vec::new(),
            disconnected: false,
            create_failures: BTreeMap::new(),
            stop_hangs: false,
            exec_script: BTreeMap::new(),
            execs: BTreeMap::new(),
            conditions: None,
            events,
            next_pid: 1000,
            next_exec: 0,
            now_ms: 0,
        }
    }

    /// Sets the clock from which `started_ms` is taken.
    pub fn set_now_ms(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
    }

    /// Lets a container end by itself.
    pub fn exit(&mut self, id: &ContainerId, exit: Exit) {
        if let Some(state) = self.containers.get_mut(id) {
            state.status = ContainerStatus::Exited(exit);
            self.events.push_back(RuntimeEvent::Exited { id: id.clone(), exit });
        }
        let killed = ExecOutcome::Exited(137);
        self.end_execs(|container| container == id, &killed);
    }

    /// Lets an exec end.
    pub fn end_exec(&mut self, exec: ExecId, outcome: ExecOutcome) {
        if self.execs.remove(&exec).is_some() {
            self.events.push_back(RuntimeEvent::ExecEnded { exec, outcome });
        }
    }

    fn end_execs(&mut self, of: impl Fn(&ContainerId) -> bool, outcome: &ExecOutcome) {
        let ended: Vec<ExecId> =
            self.execs.iter().filter(|(_, container)| of(container)).map(|(id, _)| *id).collect();
        for exec in ended {
            self.end_exec(exec, outcome.clone());
        }
    }

    /// Loses the keeper and finds a new one: containers live on.
    pub fn lose_keeper(&mut self) {
        self.end_execs(|_| true, &ExecOutcome::Lost);
        self.events.push_back(RuntimeEvent::KeeperLost { reason: "the test said so".to_owned() });
        self.events.push_back(RuntimeEvent::Snapshot(self.containers.values().cloned().collect()));
    }

    /// The next event if there is one, for tests without an executor.
    pub fn poll_event(&mut self) -> Option<RuntimeEvent> {
        self.events.pop_front()
    }

    fn check_connected(&self, attempt: String) -> Result<(), RuntimeError> {
        if self.disconnected { Err(RuntimeError::NotConnected { attempt }) } else { Ok(()) }
    }
}

impl Runtime for FakeRuntime {
    fn start(&mut self, request: &ContainerRequest) -> Result<(), RuntimeError> {
        let id = request.id.clone();
        self.check_connected(format!("start {id}"))?;
        self.calls.push(FakeCall::Start(id.clone()));
        let service = format!("{}.{}", id.instance.application, id.instance.service);
        if let Some(reason) = self.create_failures.get(&service) {
            self.events.push_back(RuntimeEvent::CreateFailed { id, reason: reason.clone() });
            return Ok(());
        }
        let pid = self.next_pid;
        self.next_pid += 1;
        let state = ContainerState {
            id: id.clone(),
            spec_hash: request.spec_hash,
            status: ContainerStatus::Running { pid },
            started_ms: self.now_ms,
            stop_signal: Some(request.stop_signal()),
        };
        self.containers.insert(id.clone(), state);
        self.events.push_back(RuntimeEvent::Started { id, pid });
        Ok(())
    }

    fn stop(&mut self, id: &ContainerId, signal: i32, grace_ms: u64) -> Result<(), RuntimeError> {
        self.check_connected(format!("stop {id}"))?;
        self.calls.push(FakeCall::Stop(id.clone(), signal, grace_ms));
        if !self.stop_hangs {
            self.exit(id, Exit { code: Some(128 + signal), out_of_memory: false });
        }
        Ok(())
    }

    fn remove(&mut self, id: &ContainerId) -> Result<(), RuntimeError> {
        self.check_connected(format!("remove {id}"))?;
        self.calls.push(FakeCall::Remove(id.clone()));
        self.containers.remove(id);
        self.events.push_back(RuntimeEvent::Removed { id: id.clone() });
        Ok(())
    }

    fn exec(&mut self, request: ExecRequest) -> Result<ExecId, RuntimeError> {
        let id = request.container;
        self.check_connected(format!("exec in {id}"))?;
        self.calls.push(FakeCall::Exec(id.clone(), request.command));
        self.next_exec += 1;
        let exec = ExecId(self.next_exec);
        let running = self.containers.get(&id).map(|state| &state.status);
        self.execs.insert(exec, id.clone());
        if !matches!(running, Some(ContainerStatus::Running { .. })) {
            let reason = format!("{id} does not run");
            self.end_exec(exec, ExecOutcome::Refused { reason });
            return Ok(exec);
        }
        let service = format!("{}.{}", id.instance.application, id.instance.service);
        let ended = FakeExec { output: String::new(), outcome: Some(ExecOutcome::Exited(0)) };
        let script = self.exec_script.get(&service).cloned().unwrap_or(ended);
        if let ExecStreams::Pipes { stdout, .. } = request.streams {
            // A test's pipe takes a few words; who closed it does not want them.
            rustix::io::write(stdout, script.output.as_bytes()).ok();
        }
        let pid = self.next_pid;
        self.next_pid += 1;
        if matches!(script.outcome, None | Some(ExecOutcome::Exited(_))) {
            self.events.push_back(RuntimeEvent::ExecStarted { exec, pid });
        }
        if let Some(outcome) = script.outcome {
            self.end_exec(exec, outcome);
        }
        Ok(exec)
    }

    fn kill_exec(&mut self, exec: ExecId, signal: i32) -> Result<(), RuntimeError> {
        self.check_connected(format!("kill {exec}"))?;
        self.calls.push(FakeCall::KillExec(exec, signal));
        if signal == 9 {
            self.end_exec(exec, ExecOutcome::Exited(137));
        }
        Ok(())
    }

    fn conditions(&self) -> Option<Vec<String>> {
        self.conditions.clone()
    }

    async fn next_event(&mut self) -> RuntimeEvent {
        match self.events.pop_front() {
            Some(event) => event,
            None => std::future::pending().await,
        }
    }
}
