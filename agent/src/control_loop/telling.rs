//! Telling: presence, reports, events, questions and answers on the link.

use std::time::Duration;

use limpet_protocol::codec;
use limpet_protocol::event::EventKind;
use limpet_protocol::id::InstanceId;
use limpet_protocol::message::{Ask, NodePresence};
use limpet_protocol::topic::Topic;
use serde::Serialize;

use super::{Clock, ControlLoop, Images};
use crate::calls::Answer;
use crate::ledger::Loaded;
use crate::ledger::content::ContentRef;
use crate::ledger::intake::Part;
use crate::load::devices::SETTLES_MS;
use crate::reconcile::PutOff;
use crate::report::events::EventQueue;
use crate::runtime::{ContainerId, Runtime};

/// How soon a full queue of the link is tried again.
const FULL_AGAIN_MS: u64 = 20;
/// Batches of events said in one turn.
const BATCHES_PER_TURN: usize = 8;
/// The longest pause between two questions for what is missing.
const LONGEST_ASK_MS: u64 = 300_000;

/// What the agent has to tell about its own start.
pub(super) fn started(events: &mut EventQueue, loaded: &Loaded, clock: &Clock) {
    let runs = match &loaded.accepted {
        Some(accepted) => {
            let generation = accepted.assignment.generation;
            format!("runs assignment {}.{} of its ledger", generation.epoch, generation.number)
        }
        None => "has no assignment yet".to_owned(),
    };
    let message = format!("agent {} started and {runs}", env!("CARGO_PKG_VERSION"));
    events.push(EventKind::AgentStarted, None, message, clock.wall_ms());
    for problem in &loaded.problems {
        tracing::warn!("{problem}");
        events.push(EventKind::Other, None, problem.clone(), clock.wall_ms());
    }
}

fn question(want: bool, missing: &[Part]) -> Ask {
    let mut ask = Ask { want, specs: Vec::new(), configs: Vec::new(), secrets: Vec::new() };
    for part in missing {
        match part {
            Part::Spec(hash) => ask.specs.push(*hash),
            Part::Content(ContentRef::Config(id)) => ask.configs.push(*id),
            Part::Content(ContentRef::Secret(id)) => ask.secrets.push(*id),
        }
    }
    ask
}

impl<R: Runtime, I: Images> ControlLoop<R, I> {
    /// Keeps and logs that something happened.
    pub(super) fn event(&mut self, kind: EventKind, instance: Option<InstanceId>, message: String) {
        match &instance {
            Some(instance) => tracing::info!("{instance} {message}"),
            None => tracing::info!("{message}"),
        }
        self.events.push(kind, instance, message, self.clock.wall_ms());
    }

    pub(super) fn event_about(&mut self, id: &ContainerId, kind: EventKind, what: &str) {
        self.event(kind, Some(id.instance.clone()), format!("attempt {} {what}", id.attempt));
    }

    /// Devices came or went: they are looked at when it is quiet again.
    pub(super) fn devices_changed(&mut self) {
        self.devices_due_ms = Some(self.clock.now_ms().saturating_add(SETTLES_MS));
    }

    /// Tells of other devices. Returns when to look at them.
    pub(super) fn look_at_devices(&mut self) -> Option<u64> {
        let due_ms = self.devices_due_ms?;
        if self.clock.now_ms() < due_ms {
            return Some(due_ms);
        }
        self.devices_due_ms = None;
        let found = Some(self.devices.found());
        if self.facts.devices != found {
            self.facts.devices = found;
            self.link_state.presence_due = true;
        }
        None
    }

    /// Tells of starts that have to wait, each pause once.
    pub(super) fn tell_put_off(&mut self, put_off: &[PutOff]) {
        for one in put_off {
            if self.news.put_off(one) {
                let pause = Duration::from_millis(one.pause_ms);
                let what = format!("{}; the next start waits {pause:?}", one.how);
                self.event_about(&one.ended, EventKind::BackOff, &what);
            }
        }
    }

    /// Says everything that is due. Returns when more is due.
    pub(super) fn tell(&mut self) -> Option<u64> {
        if !self.link_state.connected {
            return None;
        }
        if self.link_state.filters_due {
            self.listen();
        }
        if self.link_state.presence_due {
            self.link_state.presence_due = !self.say_presence(true);
        }
        let full = self.link_state.presence_due || self.link_state.filters_due;
        let again = self.clock.now_ms().saturating_add(FULL_AGAIN_MS);
        let events = self.tell_events(again);
        [self.tell_report(again), events, full.then_some(again)].into_iter().flatten().min()
    }

    fn tell_report(&mut self, again: u64) -> Option<u64> {
        // Before the runtime has told what there is, a report would say that nothing is.
        if !self.runtime_ready {
            return None;
        }
        let due = self.reporter.due_ms()?;
        let now_ms = self.clock.now_ms();
        if now_ms < due {
            return Some(due);
        }
        if self.say_report(now_ms) {
            return None;
        }
        self.reporter.put_back();
        Some(again)
    }

    fn tell_events(&mut self, again: u64) -> Option<u64> {
        for _ in 0..BATCHES_PER_TURN {
            if self.link.room() == 0 {
                break;
            }
            let batch = self.events.next_batch()?;
            self.say(Topic::Event(self.node.clone()), &batch);
        }
        self.events.has_unsaid().then_some(again)
    }

    /// Asks for what did not come by itself. Returns when to ask next.
    pub(super) fn ask(&mut self) -> Option<u64> {
        let missing = self.intake.missing();
        let want = !self.link_state.want_settled;
        if !self.link_state.connected || (missing.is_empty() && !want) {
            return None;
        }
        let at_ms = self.link_state.ask_at_ms?;
        let now_ms = self.clock.now_ms();
        if now_ms < at_ms {
            return Some(at_ms);
        }
        self.say(Topic::Ask(self.node.clone()), &question(want, &missing));
        // A node without an assignment asks once a connection, one that misses parts goes on.
        self.link_state.want_settled = true;
        let pause_ms = self.link_state.ask_pause_ms.saturating_mul(2).min(LONGEST_ASK_MS);
        self.link_state.ask_pause_ms = pause_ms;
        self.link_state.ask_at_ms = Some(now_ms.saturating_add(pause_ms));
        self.link_state.ask_at_ms.filter(|_| !self.intake.missing().is_empty())
    }

    /// Tries again to keep what could not be written. Returns when to try next.
    pub(super) fn store_again(&mut self) -> Option<u64> {
        let at_ms = self.store_again_ms?;
        if self.clock.now_ms() < at_ms {
            return Some(at_ms);
        }
        let effects = self.intake.retry();
        // Until the answer comes there is nothing to wait for; it sets the time again or clears it.
        self.store_again_ms = Some(u64::MAX);
        self.take_in(effects);
        None
    }

    /// Passes on an answer of a call.
    pub(super) fn answer(&mut self, answer: Answer) {
        let topic = Topic::CallOut(self.node.clone(), answer.session);
        if self.link_state.connected {
            self.say(topic, &answer.message);
        }
    }

    /// The last words of the agent: its last report, and that it goes.
    pub(super) fn say_goodbye(&mut self) {
        if self.link_state.connected {
            if self.runtime_ready && self.reporter.due_ms().is_some() {
                self.say_report(self.clock.now_ms());
            }
            self.say_presence(false);
        }
        self.link.close();
    }

    fn say_report(&mut self, now_ms: u64) -> bool {
        let mut report = self.reporter.take(now_ms);
        // Hundreds of instances in trouble may have more to say than a message holds.
        if codec::encode(&report).is_err() {
            report.instances.iter_mut().for_each(|instance| instance.reason = None);
        }
        self.say(Topic::Have(self.node.clone()), &report)
    }

    fn say_presence(&self, online: bool) -> bool {
        let (boot, session) = (self.boot, self.link_state.session);
        let facts = online.then(|| self.facts.clone());
        let key = online.then(|| self.seal_key.clone());
        let mesh = if online { self.network.mesh() } else { None };
        let presence = NodePresence { online, boot, session, facts, key, mesh };
        self.say(Topic::Up(self.node.clone()), &presence)
    }

    /// Whether there was room to say it.
    fn say<T: Serialize>(&self, topic: Topic, message: &T) -> bool {
        match codec::encode(message) {
            Ok(payload) => self.link.publish(topic, payload).is_ok(),
            Err(error) => {
                tracing::error!("a message for {topic} cannot be sent: {error}");
                true
            }
        }
    }
}
