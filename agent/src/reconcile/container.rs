//! One container, as far as deciding needs it.

use std::sync::Arc;

use limpet_protocol::id::SpecHash;
use limpet_protocol::report::{Exit, Health};
use limpet_protocol::spec::Spec;

use crate::health::Checks;

/// How far one container has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Life {
    /// It is being made.
    Creating,
    /// It runs.
    Running,
    /// It ended.
    Ended {
        /// When.
        at_ms: u64,
        /// How; none if it could not be made.
        exit: Option<Exit>,
        /// Why it could not be made.
        failure: Option<String>,
    },
}

/// One container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// Which try in its slot.
    pub attempt: u32,
    /// What it was made of.
    pub spec_hash: SpecHash,
    /// The same, where the agent still has it.
    pub spec: Option<Arc<Spec>>,
    /// How far it has come.
    pub life: Life,
    /// Whether its process was ever started.
    pub ran: bool,
    /// Its first process, while it runs.
    pub pid: Option<u32>,
    /// When it was asked for.
    pub begun_ms: u64,
    /// It was told to stop.
    pub stopping: bool,
    /// The signal that ends it, where that was told.
    pub stop_signal: Option<i32>,
    /// Its removal was asked for.
    pub removing: bool,
    /// What is asked of it; none while that is not known.
    pub checks: Option<Checks>,
    /// It was found unhealthy, and why: it is to be replaced.
    pub unhealthy: Option<String>,
}

impl Container {
    /// Whether it is being made or runs.
    #[must_use]
    pub fn is_live(&self) -> bool {
        !matches!(self.life, Life::Ended { .. })
    }

    /// Whether something says how it is.
    #[must_use]
    pub fn has_checks(&self) -> bool {
        self.checks.as_ref().is_some_and(|checks| !checks.is_empty())
    }

    /// Whether it does its work: it runs, is not unhealthy or still coming up, and is ready.
    #[must_use]
    pub fn is_well(&self) -> bool {
        self.life == Life::Running
            && !self.stopping
            && self.health().is_none_or(|health| health == Health::Healthy)
            && self.ready().unwrap_or(true)
    }

    /// What its health check and probes say; none if it has none or does not run.
    #[must_use]
    pub fn health(&self) -> Option<Health> {
        self.running_checks().and_then(Checks::health)
    }

    /// Whether it may get traffic; none if nothing but its running says so.
    #[must_use]
    pub fn ready(&self) -> Option<bool> {
        self.running_checks().and_then(Checks::ready)
    }

    fn running_checks(&self) -> Option<&Checks> {
        self.checks.as_ref().filter(|_| self.life == Life::Running)
    }

    /// How it ended, if it ended by itself or by a stop.
    #[must_use]
    pub fn exit(&self) -> Option<Exit> {
        match self.life {
            Life::Ended { exit, .. } => exit,
            _ => None,
        }
    }

    /// Whether it ended as something that has done its work does.
    #[must_use]
    pub fn succeeded(&self) -> bool {
        self.unhealthy.is_none() && self.exit().is_some_and(|exit| exit.code == Some(0))
    }

    /// How it ended, in words.
    #[must_use]
    pub fn how_it_ended(&self) -> String {
        let Life::Ended { exit, failure, .. } = &self.life else {
            return "has not ended".to_owned();
        };
        let killed = exit.is_some_and(|exit| exit.out_of_memory && exit.code != Some(0));
        if let Some(why) = &self.unhealthy {
            // What ends by a stop may have lost a process before: that is the likelier cause.
            let memory = if exit.is_some_and(|exit| exit.out_of_memory) {
                "; the kernel ended a process of it: it used more memory than its limit"
            } else {
                ""
            };
            return format!("was unhealthy and was stopped: {why}{memory}");
        }
        match (failure, exit) {
            (Some(failure), _) => format!("could not be made: {failure}"),
            (None, _) if killed => {
                "was ended by the kernel: it used more memory than its limit".to_owned()
            }
            (None, Some(Exit { code: Some(code), .. })) => format!("ended with exit code {code}"),
            (None, _) => "ended while nobody watched; its exit code is lost".to_owned(),
        }
    }
}
