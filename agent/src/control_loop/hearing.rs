//! Hearing: what comes from the link, and the ends of jobs.

use bytes::Bytes;
use limpet_protocol::codec;
use limpet_protocol::event::{Cursor, EventKind};
use limpet_protocol::message::ControllerPresence;
use limpet_protocol::topic::{Topic, agent_filters};
use tokio::task::JoinError;

use super::scaling::wanted_of;
use super::{ControlLoop, Images, Job};
use crate::ledger::content::ContentRef;
use crate::ledger::intake::{Effect, Part};
use crate::ledger::{Accepted, LedgerError};
use crate::link::LinkEvent;
use crate::runtime::Runtime;
use crate::signal::SIGKILL;

/// How long after connecting the agent asks for an assignment that did not come by itself, and for
/// parts that it still misses; doubled with every time it asks.
pub(super) const FIRST_ASK_MS: u64 = 2_000;
/// How long until an assignment that could not be written is tried again.
const STORE_AGAIN_MS: u64 = 5_000;

/// The connection, as the loop knows it.
#[derive(Debug, Default)]
pub(super) struct LinkState {
    pub(super) connected: bool,
    pub(super) session: u64,
    /// Presence is still to be said on this connection.
    pub(super) presence_due: bool,
    /// Filters are still to be subscribed on this connection.
    pub(super) filters_due: bool,
    /// The controller's presence was heard on this connection.
    pub(super) controller_seen: bool,
    /// An assignment came on this connection, or one was asked for.
    pub(super) want_settled: bool,
    /// When to ask for what is missing, and how long to wait after that.
    pub(super) ask_at_ms: Option<u64>,
    pub(super) ask_pause_ms: u64,
    /// A loss was told: one line a loss, not one a try.
    told_lost: bool,
}

impl<R: Runtime, I: Images> ControlLoop<R, I> {
    /// The link told something.
    pub(super) fn link_event(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::Connected { session } => {
                tracing::info!("connected to the broker as {}", self.node);
                self.link_state = LinkState {
                    connected: true,
                    session,
                    presence_due: true,
                    filters_due: true,
                    ask_at_ms: Some(self.clock.now_ms().saturating_add(FIRST_ASK_MS)),
                    ask_pause_ms: FIRST_ASK_MS,
                    ..LinkState::default()
                };
                self.reporter.repeat();
                self.events.repeat();
                self.locate();
            }
            LinkEvent::Lost { reason } => {
                let told = self.link_state.told_lost;
                if told {
                    tracing::debug!("no connection to the broker: {reason}");
                } else {
                    tracing::warn!("no connection to the broker: {reason}; workloads go on");
                }
                self.link_state = LinkState { told_lost: true, ..LinkState::default() };
                self.calls.end_all();
                self.end_abandoned();
            }
            LinkEvent::Message { topic, payload } => self.message(topic, &payload),
            LinkEvent::Refused { filters } => {
                tracing::warn!("the broker does not let this node listen: {}", filters.join(", "));
            }
        }
    }

    /// Subscribes what the node always listens to and the parts that it waits for.
    pub(super) fn listen(&mut self) {
        let mut filters = agent_filters(&self.node).to_vec();
        let missing = self.intake.missing();
        filters.extend(missing.iter().map(|part| self.topic_of(*part).to_string()));
        filters.extend(self.scaling.filters());
        self.link_state.filters_due = self.link.subscribe(filters).is_err();
    }

    fn topic_of(&self, part: Part) -> Topic {
        match part {
            Part::Spec(hash) => Topic::Spec(hash),
            Part::Content(content) => content.topic(&self.node),
        }
    }

    fn message(&mut self, topic: Topic, payload: &Bytes) {
        match topic {
            Topic::Want(node) if node == self.node => {
                self.link_state.want_settled = true;
                // A retained message that was deleted comes as an empty one: it changes nothing.
                if !payload.is_empty() {
                    let effects = self.intake.want(payload);
                    self.take_in(effects);
                }
            }
            Topic::Spec(hash) if !payload.is_empty() => {
                let effects = self.intake.spec(&hash, payload);
                self.take_in(effects);
            }
            Topic::Config(id) if !payload.is_empty() => {
                let effects = self.intake.content(ContentRef::Config(id), payload);
                self.take_in(effects);
            }
            Topic::Secret(node, id) if node == self.node && !payload.is_empty() => {
                let effects = self.intake.content(ContentRef::Secret(id), payload);
                self.take_in(effects);
            }
            Topic::Ack(node) if node == self.node => match codec::decode::<Cursor>(payload) {
                Ok(cursor) => self.events.acknowledged(cursor),
                Err(error) => tracing::warn!("an acknowledgement cannot be read: {error}"),
            },
            Topic::CallIn(node, session) if node == self.node => self.call(&session, payload),
            Topic::Controller => self.controller(payload),
            _ => {}
        }
    }

    /// The controller is there. If it comes back on a connection that stayed (the broker is somebody
    /// else's), it may have missed what was said: everything is told again.
    fn controller(&mut self, payload: &Bytes) {
        let Ok(presence) = codec::decode::<ControllerPresence>(payload) else { return };
        if presence.online && std::mem::replace(&mut self.link_state.controller_seen, true) {
            self.link_state.presence_due = true;
            self.reporter.repeat();
            self.events.repeat();
        }
    }

    pub(super) fn take_in(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Refused { message } => {
                    self.event(EventKind::AssignmentRefused, None, message);
                }
                Effect::Listen(parts) => {
                    let filters = parts.iter().map(|part| self.topic_of(*part).to_string());
                    // With no room now everything is subscribed again later.
                    let refused = self.link.subscribe(filters.collect()).is_err();
                    self.link_state.filters_due |= refused;
                    self.link_state.ask_pause_ms = FIRST_ASK_MS;
                    self.link_state.ask_at_ms =
                        Some(self.clock.now_ms().saturating_add(FIRST_ASK_MS));
                }
                Effect::Ignore(part) => {
                    let topic = self.topic_of(part);
                    if self.link.unsubscribe(&topic).is_err() {
                        tracing::debug!("{topic} is listened to until the next connection");
                    }
                }
                Effect::Store(accepted) => self.store(*accepted),
            }
        }
    }

    fn store(&mut self, accepted: Accepted) {
        let ledger = self.ledger.clone();
        self.jobs.spawn_blocking(move || {
            let result = ledger.store(&accepted);
            Job::Stored { accepted: Box::new(accepted), result }
        });
    }

    fn stored(&mut self, accepted: Accepted, result: Result<(), LedgerError>) {
        if let Err(error) = result {
            let message = format!(
                "an assignment cannot be kept and is not taken over: {}",
                crate::start::chain(&error)
            );
            tracing::error!("{message}");
            if self.store_again_ms.is_none() {
                self.event(EventKind::AssignmentRefused, None, message);
            }
            self.intake.not_stored(accepted);
            self.store_again_ms = Some(self.clock.now_ms().saturating_add(STORE_AGAIN_MS));
            return;
        }
        self.store_again_ms = None;
        let generation = accepted.assignment.generation;
        self.follow_scaling(&accepted);
        let instances = wanted_of(&accepted, &self.scaling.scales, &self.observed);
        let message = format!(
            "assignment {}.{} with {} instances",
            generation.epoch,
            generation.number,
            instances.len()
        );
        self.event(EventKind::AssignmentAccepted, None, message);
        if self.ending_at_ms.is_none() {
            self.wanted = instances;
            self.network.follow(&accepted.assignment);
            self.stock.next_assignment();
        }
        let effects = self.intake.stored(accepted);
        self.learn_specs();
        self.take_in(effects);
    }

    /// A job ended.
    pub(super) fn job_ended(&mut self, job: Result<Job, JoinError>) {
        match job {
            Ok(Job::Looked { image, result }) => self.image_looked_for(image, result),
            Ok(Job::Prepared { image, result, begun_ms }) => {
                self.image_fetched(&image, result, begun_ms);
            }
            Ok(Job::Stored { accepted, result }) => self.stored(*accepted, result),
            Ok(Job::Measured(measured)) => self.measured(measured),
            Ok(Job::Checked { of, outcome }) => self.checked(&of, outcome),
            Ok(Job::HookEnded { id, index, outcome }) => self.hook_ended(&id, index, outcome),
            Ok(Job::Counted) => self.calls.counted(),
            Ok(Job::CallEnded(session)) => {
                self.calls.ended(&session);
                self.end_abandoned();
            }
            Ok(Job::HungUp(exec)) => self.kill_exec(exec, SIGKILL),
            Ok(Job::RunsKept { number, result }) => self.runs_kept(number, result),
            Ok(Job::Tidied) => {}
            Ok(Job::MachineLookedAt(lacks)) => self.machine_looked_at(lacks),
            Ok(Job::Located(located)) => self.located(located),
            Ok(Job::NetworkEnded) => tracing::debug!("a part of the network ended"),
            Ok(Job::LinkEnded) => tracing::error!("the link ended; restart the agent"),
            Err(error) => tracing::error!("a task of the agent failed: {error}"),
        }
    }
}
