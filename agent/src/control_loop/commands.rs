//! Checks that are commands in a container: begun, timed, ended.
//!
//! In: what is to be run, events of the runtime, the time. Out: an outcome for each, at the latest at
//! its time-out: a command that cannot even be killed holds up nobody.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::oneshot;

use super::checks::CheckOf;
use super::{ControlLoop, Images, Job};
use crate::health::Outcome;
use crate::probe::command::{End, watch};
use crate::reconcile::Action;
use crate::runtime::{ExecId, ExecOutcome, ExecRequest, ExecStreams, Runtime, RuntimeError};
use crate::signal::SIGKILL;

/// A command has to begin within this; it is no part of the check's own time, as Docker has it
/// (`daemon/health.go`, `cmdProbe.run`).
const BEGINS_WITHIN: Duration = Duration::from_secs(30);

/// A command that was begun.
#[derive(Debug)]
pub(super) struct Command {
    timeout: Duration,
    /// When it is given up.
    deadline_ms: u64,
    /// It runs.
    begun: bool,
    end: oneshot::Sender<End>,
}

/// The commands that run.
pub(super) type Commands = BTreeMap<ExecId, Command>;

impl<R: Runtime, I: Images> ControlLoop<R, I> {
    /// Begins a command. Whether it was begun.
    pub(super) fn check_by_command(
        &mut self,
        action: &Action,
        of: CheckOf,
        command: &[String],
        timeout: Duration,
    ) -> bool {
        let streams = match ExecStreams::output_only() {
            Ok(streams) => streams,
            Err(error) => return self.not_begun(action, &of, format!("make a pipe: {error}")),
        };
        let (streams, output) = streams;
        let request = ExecRequest {
            container: of.id.clone(),
            command: command.to_vec(),
            environment: Vec::new(),
            working_dir: None,
            user: None,
            streams,
        };
        let exec = match self.runtime.exec(request) {
            Ok(exec) => exec,
            Err(error @ RuntimeError::NotConnected { .. }) => {
                return self.passed_on(action, Err(error));
            }
            Err(error) => return self.not_begun(action, &of, crate::start::chain(&error)),
        };
        self.observed.apply(action, of.begun_ms);
        let (end, ended) = oneshot::channel();
        let deadline_ms = of.begun_ms.saturating_add(ms(BEGINS_WITHIN));
        self.commands.insert(exec, Command { timeout, deadline_ms, begun: false, end });
        self.jobs.spawn(async move { Job::Checked { outcome: watch(output, ended).await, of } });
        true
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
                let reason = format!("it did not begin within {BEGINS_WITHIN:?}");
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
