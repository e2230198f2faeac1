//! Doing: actions on the runtime and the image store, and what they tell.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use limpet_protocol::event::EventKind;
use limpet_protocol::id::SpecHash;
use limpet_protocol::report::Exit;
use limpet_protocol::spec::Spec;

use super::checks::CheckOf;
use super::{ControlLoop, Images, Job};
use crate::reconcile::{Action, Container, ImageKey};
use crate::runtime::{
    ContainerId, ContainerRequest, ContainerState, ContainerStatus, Runtime, RuntimeError,
    RuntimeEvent,
};
use crate::signal;

/// Grace of a container whose spec is not known any more: Docker's default.
const DEFAULT_GRACE_MS: u64 = 10_000;

impl<R: Runtime, I: Images> ControlLoop<R, I> {
    /// Does actions and returns how many were begun.
    pub(super) fn perform(&mut self, actions: Vec<Action>) -> usize {
        let mut begun = 0;
        self.prepare_networks(&actions);
        for action in actions {
            let done = match &action {
                Action::PrepareImage(image) => {
                    self.observed.apply(&action, self.clock.now_ms());
                    self.look_for_image(image.clone());
                    true
                }
                Action::Start { id, spec_hash, spec, .. } => {
                    self.runtime_ready && self.start(&action, id, (*spec_hash, spec))
                }
                Action::Stop { id, spec } => {
                    self.runtime_ready && self.stop(&action, id, spec.as_deref())
                }
                Action::Remove { id } => {
                    self.runtime_ready && {
                        let result = self.runtime.remove(id);
                        self.passed_on(&action, result)
                    }
                }
                Action::Check { id, kind, action: what, timeout_ms } => {
                    let begun_ms = self.clock.now_ms();
                    let of = CheckOf { id: id.clone(), kind: *kind, begun_ms };
                    self.runtime_ready && self.check(&action, of, what, *timeout_ms)
                }
            };
            begun += usize::from(done);
        }
        begun
    }

    fn start(
        &mut self,
        action: &Action,
        id: &ContainerId,
        (hash, spec): (SpecHash, &Arc<Spec>),
    ) -> bool {
        let Some(image) = self.prepared.get(&ImageKey::from(&spec.image)).cloned() else {
            self.observed.unapply(&Action::PrepareImage(spec.image.clone()));
            return true;
        };
        let network = match self.network.of(id, spec, &self.observed) {
            Ok(network) => network,
            Err(reason) => return self.cannot_start(action, id, &reason),
        };
        let request = ContainerRequest {
            id: id.clone(),
            spec: spec.clone(),
            spec_hash: hash,
            image,
            network,
        };
        match self.runtime.start(&request) {
            Err(error @ (RuntimeError::Unsupported { .. } | RuntimeError::Io { .. })) => {
                self.cannot_start(action, id, &crate::start::chain(&error))
            }
            result => {
                let passed_on = self.passed_on(action, result);
                self.observed.ends_by(id, request.stop_signal());
                if passed_on {
                    self.runs.begun(&id.instance);
                }
                passed_on
            }
        }
    }

    /// It cannot even be asked for: that is a failed attempt too.
    fn cannot_start(&mut self, action: &Action, id: &ContainerId, reason: &str) -> bool {
        self.observed.apply(action, self.clock.now_ms());
        self.create_failed(id, reason);
        self.runs.begun(&id.instance);
        true
    }

    fn stop(&mut self, action: &Action, id: &ContainerId, spec: Option<&Spec>) -> bool {
        if self.leave(action, id, spec) {
            return true;
        }
        let grace_ms = spec.map_or(DEFAULT_GRACE_MS, |spec| spec.stop.grace_period_ms);
        let result = self.runtime.stop(id, self.stop_signal(id, spec), grace_ms);
        self.passed_on(action, result)
    }

    /// The signal that ends a container.
    pub(super) fn stop_signal(&self, id: &ContainerId, spec: Option<&Spec>) -> i32 {
        // Kept with the container: after a restart of the agent its image may not be looked up yet.
        let kept = self.observed.container(id).and_then(|container| container.stop_signal);
        let of_spec = || spec.and_then(|spec| spec.stop.signal);
        kept.or_else(of_spec).unwrap_or(signal::SIGTERM)
    }

    pub(super) fn passed_on(&mut self, action: &Action, result: Result<(), RuntimeError>) -> bool {
        match result {
            Ok(()) => {
                self.observed.apply(action, self.clock.now_ms());
                true
            }
            // A snapshot will follow, and everything is decided again.
            Err(error) => {
                tracing::warn!("{error}");
                self.runtime_ready = false;
                false
            }
        }
    }

    /// The runtime told something.
    pub(super) fn runtime_event(&mut self, event: RuntimeEvent) {
        let now_ms = self.clock.now_ms();
        match event {
            RuntimeEvent::Snapshot(states) => self.snapshot(&states),
            RuntimeEvent::Started { id, pid } => {
                self.network.made(&id);
                self.observed.started(&id, pid, now_ms);
                self.event_about(&id, EventKind::Started, "runs");
            }
            RuntimeEvent::CreateFailed { id, reason } => self.create_failed(&id, &reason),
            RuntimeEvent::Exited { id, exit } => {
                let live = self.observed.container(&id).filter(|c| c.is_live());
                // What was stopped because it is unhealthy failed.
                let stopping = live.map(|it| it.stopping && it.unhealthy.is_none());
                self.observed.exited(&id, exit, now_ms);
                if let Some(stopping) = stopping {
                    self.tell_exit(&id, exit, stopping);
                }
            }
            RuntimeEvent::Removed { id } => self.observed.removed(&id),
            RuntimeEvent::ExecStarted { exec, .. } => self.command_began(exec),
            RuntimeEvent::ExecEnded { exec, outcome } => {
                if !self.calls.exec_ended(exec, &outcome) {
                    self.command_ended(exec, outcome);
                }
            }
            RuntimeEvent::KeeperLost { reason } => {
                // One event for one loss, however often it is found lost.
                if std::mem::replace(&mut self.runtime_ready, false) {
                    let message = format!("the keeper was lost, another is started: {reason}");
                    self.event(EventKind::Other, None, message);
                } else {
                    tracing::warn!("the keeper cannot be reached: {reason}");
                }
            }
        }
    }

    fn tell_exit(&mut self, id: &ContainerId, exit: Exit, stopping: bool) {
        let how = self.observed.container(id).map(Container::how_it_ended).unwrap_or_default();
        let kind = match (stopping, exit.out_of_memory) {
            (true, _) => EventKind::Stopped,
            (false, true) => EventKind::OutOfMemory,
            (false, false) => EventKind::Exited,
        };
        let what = if stopping { "was stopped".to_owned() } else { how };
        self.event_about(id, kind, &what);
    }

    fn create_failed(&mut self, id: &ContainerId, reason: &str) {
        self.observed.create_failed(id, reason, self.clock.now_ms());
        self.event_about(id, EventKind::CreateFailed, &format!("could not be made: {reason}"));
    }

    fn snapshot(&mut self, states: &[ContainerState]) {
        let (now_ms, wall_ms) = (self.clock.now_ms(), self.clock.wall_ms());
        for state in states {
            let news = self.observed.container(&state.id).is_none();
            if news && matches!(state.status, ContainerStatus::Running { .. }) {
                self.event_about(&state.id, EventKind::Adopted, "was found running and goes on");
            }
        }
        self.observed.snapshot(states, now_ms, wall_ms);
        self.learn_specs();
        self.runtime_ready = true;
        self.network.adopt();
        self.look_at_conditions();
        if !std::mem::replace(&mut self.swept, true) {
            self.sweep(states);
        }
    }

    pub(super) fn learn_specs(&mut self) {
        if let Some(current) = self.intake.current() {
            self.observed.learn_specs(|hash| current.specs.get(hash).map(|kept| kept.spec.clone()));
        }
        self.observed.begin_checks(self.clock.now_ms());
    }

    /// Throws away writable layers whose containers died with an earlier boot.
    fn sweep(&mut self, states: &[ContainerState]) {
        let live: BTreeSet<String> = states.iter().map(|state| state.id.to_string()).collect();
        let trash = set_aside(&self.paths.data, &live);
        if trash.is_empty() {
            return;
        }
        tracing::info!("throwing away {} leftover writable layers", trash.len());
        self.jobs.spawn_blocking(move || {
            for folder in trash {
                if let Err(error) = std::fs::remove_dir_all(&folder) {
                    tracing::warn!("remove leftover {}: {error}", folder.display());
                }
            }
            Job::Tidied
        });
    }
}

/// Renames what no container uses, so that a new container of the same name finds its place empty at
/// once, and returns what is to be deleted. Leftovers of an interrupted sweep are among it.
fn set_aside(data: &Path, live: &BTreeSet<String>) -> Vec<PathBuf> {
    let trash = data.join("trash");
    let folders = |folder: &Path| {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect::<Vec<_>>()
    };
    for path in folders(&data.join("containers")) {
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        if live.contains(name) {
            continue;
        }
        let aside = trash.join(name);
        let moved = std::fs::create_dir_all(&trash)
            .and_then(|()| if aside.exists() { std::fs::remove_dir_all(&aside) } else { Ok(()) })
            .and_then(|()| std::fs::rename(&path, &aside));
        if let Err(error) = moved {
            tracing::warn!("set leftover {} aside: {error}", path.display());
        }
    }
    folders(&trash)
}
