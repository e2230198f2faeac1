//! Checking: health checks and probes, and what their answers are worth telling.

use std::time::Duration;

use limpet_protocol::event::EventKind;
use limpet_protocol::report::Health;
use limpet_protocol::spec::{Hook, NetworkMode, ProbeAction};

use super::{ControlLoop, Images, Job};
use crate::health::{Kind, Outcome};
use crate::probe::{self, Network, Question};
use crate::reconcile::{Action, Container};
use crate::report::bounded;
use crate::runtime::{ContainerId, Runtime};

/// What a check is about.
#[derive(Debug, Clone)]
pub(super) struct CheckOf {
    pub(super) id: ContainerId,
    pub(super) kind: Kind,
    pub(super) begun_ms: u64,
}

impl<R: Runtime, I: Images> ControlLoop<R, I> {
    /// Begins a check; it runs beside the loop. Whether it was begun.
    pub(super) fn check(
        &mut self,
        action: &Action,
        of: CheckOf,
        what: &ProbeAction,
        timeout_ms: u64,
    ) -> bool {
        let Some(network) = self.observed.container(&of.id).and_then(network_of) else {
            return false;
        };
        let timeout = Duration::from_millis(timeout_ms);
        let (port, question) = match what {
            ProbeAction::Tcp { port } => (*port, Question::Tcp),
            ProbeAction::Http { port, path, headers } => {
                (*port, Question::Http { path: path.clone(), headers: headers.clone() })
            }
            ProbeAction::Command(command) => {
                let hook = match of.kind {
                    Kind::PostStart(index) => self.post_start_hook(&of.id, index),
                    _ => None,
                };
                let command = hook.unwrap_or_else(|| Hook::plain(command.clone()));
                return self.check_by_command(action, of, &command, timeout);
            }
        };
        self.observed.apply(action, of.begun_ms);
        self.jobs.spawn(async move {
            let outcome = probe::ask(network, port, question, timeout).await;
            Job::Checked { of, outcome }
        });
        true
    }

    /// A check has ended; what it changed is told.
    pub(super) fn checked(&mut self, of: &CheckOf, outcome: Outcome) {
        let fares = |container: Option<&Container>| {
            container.map_or((None, None), |it| (it.health(), it.ready()))
        };
        let outcome = match outcome {
            Outcome::Failed(said) => Outcome::Failed(bounded(said)),
            other => other,
        };
        let before = fares(self.observed.container(&of.id));
        let times = (of.begun_ms, self.clock.now_ms());
        self.observed.checked(&of.id, of.kind, &outcome, times);
        let after = fares(self.observed.container(&of.id));
        match &outcome {
            Outcome::Passed => {}
            Outcome::Failed(said) => {
                tracing::debug!("{} the {} failed: {said}", of.id, of.kind.as_str());
            }
            Outcome::NotMade(why) => {
                tracing::warn!("{} the {} could not be made: {why}", of.id, of.kind.as_str());
            }
        }
        self.tell_health(of, (before, after), &outcome);
    }

    fn tell_health(&mut self, of: &CheckOf, (before, after): (Fares, Fares), outcome: &Outcome) {
        let said = match outcome {
            Outcome::Failed(said) => format!(": its {} failed: {said}", of.kind.as_str()),
            _ => String::new(),
        };
        if before.0 != after.0 {
            match after.0 {
                Some(Health::Healthy) => {
                    self.event_about(&of.id, EventKind::Healthy, "is healthy");
                }
                Some(Health::Unhealthy) => {
                    let what = format!("is unhealthy{said}");
                    return self.event_about(&of.id, EventKind::Unhealthy, &what);
                }
                Some(Health::Starting) | None => {}
            }
        }
        // Where health says the same, once is enough.
        if of.kind == Kind::Ready && before.1 != after.1 {
            match after.1 {
                Some(true) => self.event_about(&of.id, EventKind::Ready, "is ready"),
                Some(false) => {
                    let what = format!("is not ready{said}");
                    self.event_about(&of.id, EventKind::NotReady, &what);
                }
                None => {}
            }
        }
    }
}

type Fares = (Option<Health>, Option<bool>);

/// The network that a container's probes are made in; none if it does not run.
/// By which process a network is found that is not the node's.
pub(super) fn own_network(container: &Container) -> Option<u32> {
    match network_of(container)? {
        Network::Of { pid } => Some(pid),
        Network::Node => None,
    }
}

pub(super) fn network_of(container: &Container) -> Option<Network> {
    let pid = container.pid?;
    let mode = container.spec.as_ref().map(|spec| spec.network.mode);
    Some(if mode == Some(NetworkMode::Host) { Network::Node } else { Network::Of { pid } })
}
