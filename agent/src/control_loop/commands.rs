//! Checks and hooks that are commands in a container: begun, timed, ended.
//!
//! In: what is to be run, events of the runtime, the time. Out: an outcome for each, at the latest at
//! its time-out: a command that cannot even be killed holds up nobody.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::time::Duration;

use limpet_protocol::spec::Hook;
use tokio::sync::oneshot;

use super::checks::CheckOf;
use super::{ControlLoop, Images, Job};
use crate::health::Outcome;
use crate::probe::command::{End, watch};
use crate::reconcile::Action;
use crate::runtime::{
    ContainerId, ExecId, ExecOutcome, ExecRequest, ExecStreams, Runtime, RuntimeError,
};
use crate::signal::SIGKILL;

/// A command has to begin within this; it is no part of the check's own time, as Docker has it
/// (`daemon/health.go`, `cmdProbe.run`).
const BEGINS_WITHIN: Duration = Duration::from_secs(30);

/// A command that was begun.
#[derive(Debug)]
pub(super) struct Command {
    timeout: Duration,
    begins_within: Duration,
    /// When it is given up.
    deadline_ms: u64,
    /// It runs.
    begun: bool,
    end: oneshot::Sender<End>,
}

/// The commands that run.
pub(super) type Commands = BTreeMap<ExecId, Command>;

impl<R: Runtime, I: Images> ControlLoop<R, I> {
    /// Begins a check. Whether it was begun.
    pub(super) fn check_by_command(
        &mut self,
        action: &Action,
        of: CheckOf,
        command: &Hook,
        timeout: Duration,
    ) -> bool {
        match self.begin_command(&of.id, command, (BEGINS_WITHIN, timeout)) {
            Ok((output, ended)) => {
                self.observed.apply(action, of.begun_ms);
                self.jobs
                    .spawn(async move { Job::Checked { outcome: watch(output, ended).await, of } });
                true
            }
            Err(error @ RuntimeError::NotConnected { .. }) => self.passed_on(action, Err(error)),
            Err(error) => self.not_begun(action, &of, crate::start::chain(&error)),
        }
    }

    /// Begins a command in a container, which has to begin and to end within these times. Gives its
    /// output, and what will tell its end.
    pub(super) fn begin_command(
        &mut self,
        id: &ContainerId,
        command: &Hook,
        (begins_within, timeout): (Duration, Duration),
    ) -> Result<(OwnedFd, oneshot::Receiver<End>), RuntimeError> {
        let (streams, output) = ExecStreams::output_only()
            .map_err(|source| RuntimeError::Io { attempt: "make a pipe".to_owned(), source })?;
        let environment = command.environment.iter();
        let exec = self.runtime.exec(ExecRequest {
            container: id.clone(),
            command: command.command.clone(),
            environment: environment.map(|(name, value)| (name.clone(), value.clone())).collect(),
            working_dir: command.working_dir.clone(),
            user: command.user.clone(),
            streams,
        })?;
        let (end, ended) = oneshot::channel();
        let deadline_ms = self.clock.now_ms().saturating_add(ms(begins_within));
        let begun = Command { timeout, begins_within, deadline_ms, begun: false, end };
        self.commands.insert(exec, begun);
        Ok((output, ended))
    }

    /// It comes again after its interval, so that nothing is tried without a pause.
    fn not_begun(&mut self, action: &Action, of: &CheckOf, why: String) -> bool {
        self.observed.apply(action, of.begun_ms);
        self.checked(of, Outcome::NotMade(why));
        true
    }

    /// A command runs: its time begins.
    pub(super) fn command_began(&mut self, exec: ExecId) {
        let now_ms = self.clock.now_ms();
        if let Some(command) = self.commands.get_mut(&exec) {
            command.begun = true;
            command.deadline_ms = now_ms.saturating_add(ms(command.timeout));
        }
    }

    /// A command ended.
    pub(super) fn command_ended(&mut self, exec: ExecId, outcome: ExecOutcome) {
        if let Some(command) = self.commands.remove(&exec) {
            // Nobody waits for it when the loop ends.
            drop(command.end.send(End::Ended(outcome)));
        }
    }

    /// Kills commands that took too long. Returns when the next one does.
    pub(super) fn time_commands(&mut self) -> Option<u64> {
        let now_ms = self.clock.now_ms();
        let late: Vec<ExecId> = self
            .commands
            .iter()
            .filter(|(_, command)| command.deadline_ms <= now_ms)
            .map(|(exec, _)| *exec)
            .collect();
        for exec in late {
            if let Err(error) = self.runtime.kill_exec(exec, SIGKILL) {
                tracing::debug!("{error}");
            }
            let Some(command) = self.commands.remove(&exec) else { continue };
            let end = if command.begun {
                End::TimedOut(command.timeout)
            } else {
                let reason = format!("it did not begin within {:?}", command.begins_within);
                End::Ended(ExecOutcome::Refused { reason })
            };
            drop(command.end.send(end));
        }
        self.commands.values().map(|command| command.deadline_ms).min()
    }
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
