//! Out over MQTT: what each node shall run, and what people and nodes ask for.
//!
//! In: the planner's sets. Out: specs, signed assignments, answers. An assignment is published
//! only after it is in the store, and everything retained is published again after each connect
//! ([`bus`]), because nothing may depend on what the broker keeps. A node that does not take over
//! its newest assignment is told again, more and more rarely ([`Dispatch::remind`]).

pub mod bus;
pub(crate) mod calls;
mod contents;
pub(crate) mod joins;
pub(crate) mod leaving;
mod moves;
mod outbox;
mod roll;
mod scaling;
pub mod settle;
mod share;
mod specs;
pub mod want;
pub(crate) mod weave;

#[cfg(test)]
pub(crate) mod fake_agent;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use bytes::Bytes;
use limpet_protocol::assignment::{AssignedService, Assignment, Generation};
use limpet_protocol::id::{NodeId, SpecHash};
use limpet_protocol::message::Ask;
use limpet_protocol::network::NodeNetwork;
use limpet_protocol::spec::Spec;
use limpet_protocol::topic::Topic;

use crate::plan::ServiceKey;
use crate::store::Store;
use bus::Bus;
use contents::Contents;
use specs::Specs;

/// The first wait until a node is told again, doubled up to the longest.
const FIRST_REMINDER_MS: u64 = 3_000;
const LAST_REMINDER_MS: u64 = 60_000;
/// Answers that one node gets in a second; a node asks once for what it lacks.
const ANSWERS_PER_SECOND: u32 = 20;

/// When a node is told again.
#[derive(Debug, Clone, Copy)]
struct Reminder {
    at_ms: u64,
    wait_ms: u64,
}

/// How many answers a node got in which second.
#[derive(Debug, Clone, Copy, Default)]
struct Answers {
    second: u64,
    given: u32,
}

/// See the module.
#[derive(Debug)]
pub struct Dispatch {
    store: Store,
    bus: Bus,
    /// The newest assignment of each node, as the store has it.
    committed: BTreeMap<NodeId, Assignment>,
    specs: Specs,
    behind: BTreeMap<NodeId, Reminder>,
    answers: BTreeMap<NodeId, Answers>,
    contents: Contents,
}

impl Dispatch {
    /// Nothing is published yet.
    #[must_use]
    pub fn new(store: Store, bus: Bus) -> Self {
        Self {
            contents: Contents::new(store.clone(), bus.clone()),
            store,
            bus,
            committed: BTreeMap::new(),
            specs: Specs::default(),
            behind: BTreeMap::new(),
            answers: BTreeMap::new(),
        }
    }

    /// A service is this from now on; published when an assignment names it.
    pub fn set_spec(&mut self, key: ServiceKey, hash: SpecHash, bytes: Bytes) {
        if self.specs.is_named(hash) {
            self.publish_spec(hash, bytes.clone());
        }
        self.specs.set(key, hash, bytes);
    }

    fn publish_spec(&mut self, hash: SpecHash, bytes: Bytes) {
        let is_news = self.contents.learn(hash, &bytes);
        self.bus.set(Topic::Spec(hash), bytes);
        if !is_news {
            return;
        }
        // Its assignments were there before it.
        for (node, assignment) in &self.committed {
            if specs::names(assignment).any(|named| named == hash) {
                self.contents.assign(node, specs::names(assignment));
            }
        }
    }

    /// A node's secrets are to be sealed to this key.
    pub fn set_seal_key(&mut self, node: &NodeId, key: Vec<u8>) {
        self.contents.set_key(node, key);
    }

    /// A service is no more.
    pub fn remove_spec(&mut self, key: &ServiceKey) {
        self.specs.remove(key);
    }

    /// A rollback of a service would go to this spec: its bytes stay.
    pub fn pin_spec(&mut self, key: &ServiceKey, hash: Option<SpecHash>) {
        self.specs.pin(key, hash);
    }

    /// The store has a spec.
    pub fn restore_spec(&mut self, hash: SpecHash, spec: &Spec, bytes: Bytes) {
        self.specs.restore(hash, spec, bytes);
    }

    /// The bytes of a spec, as long as anybody may need them.
    #[must_use]
    pub fn spec(&self, hash: SpecHash) -> Option<&[u8]> {
        self.specs.bytes(hash)
    }

    /// Forgets the specs that nobody needs, after everything was restored.
    pub fn sweep_specs(&mut self) {
        self.specs.sweep();
    }

    /// Specs that these assignments name and the store does not have, with their bytes.
    #[must_use]
    pub fn unstored_specs(&self, assignments: &[Assignment]) -> BTreeMap<SpecHash, Bytes> {
        self.specs.unstored(assignments.iter().flat_map(specs::names))
    }

    /// The store has these specs.
    pub fn stored_specs(&mut self, hashes: impl Iterator<Item = SpecHash>) {
        self.specs.stored(hashes);
    }

    /// Specs that the store has and nobody needs any more, each once.
    pub fn take_unneeded_specs(&mut self) -> Vec<SpecHash> {
        self.specs.take_unneeded()
    }

    /// The newest assignment of a node.
    #[must_use]
    pub fn wanted(&self, node: &NodeId) -> Option<&Assignment> {
        self.committed.get(node)
    }

    /// The next assignment of a node, if it is another than the last. `observed` is what the node
    /// holds: a controller whose store was restored has to go beyond it to be heard.
    #[must_use]
    pub fn next(
        &self,
        node: &NodeId,
        (services, network): (Vec<AssignedService>, Option<NodeNetwork>),
        observed: Option<Generation>,
    ) -> Option<Assignment> {
        let epoch = self.store.identity().epoch();
        let last = self.committed.get(node);
        let ahead = observed
            .filter(|seen| seen.epoch == epoch && last.is_some_and(|last| last.generation < *seen));
        let same = last.is_some_and(|last| {
            last.services == services && last.network == network && last.generation.epoch == epoch
        });
        if same && ahead.is_none() {
            return None;
        }
        let last = last.map_or(0, |last| last.generation.number);
        let number = ahead.map_or(last, |seen| seen.number.max(last)).saturating_add(1);
        let generation = Generation { epoch, number };
        Some(want::fit(Assignment { node: node.clone(), generation, services, network }))
    }

    /// An assignment is in the store: publish it and what it names.
    pub fn publish(&mut self, now_ms: u64, assignment: Assignment) {
        let node = assignment.node.clone();
        let gone = self.committed.remove(&node);
        for hash in specs::names(&assignment) {
            if let Some(bytes) = self.specs.name(hash) {
                self.publish_spec(hash, bytes);
            }
        }
        self.contents.assign(&node, specs::names(&assignment));
        match want::sign(self.store.identity(), &assignment) {
            Ok(bytes) => self.bus.set(Topic::Want(node.clone()), bytes),
            Err(error) => {
                tracing::error!(%node, %error, "the assignment does not fit in a message");
            }
        }
        if let Some(gone) = gone {
            self.unname(&gone);
        }
        let reminder = Reminder { at_ms: now_ms + FIRST_REMINDER_MS, wait_ms: FIRST_REMINDER_MS };
        self.behind.insert(node.clone(), reminder);
        self.committed.insert(node, assignment);
    }

    fn unname(&mut self, assignment: &Assignment) {
        for hash in specs::names(assignment) {
            if self.specs.unname(hash) {
                self.bus.clear(&Topic::Spec(hash));
                self.contents.unlearn(&hash);
            }
        }
    }

    /// A node is no more: nothing of it stays with the broker.
    pub fn forget(&mut self, node: &NodeId) {
        if let Some(gone) = self.committed.remove(node) {
            self.unname(&gone);
        }
        self.contents.forget(node);
        self.behind.remove(node);
        self.answers.remove(node);
        for topic in [Topic::Want(node.clone()), Topic::Up(node.clone()), Topic::Have(node.clone())]
        {
            self.bus.clear(&topic);
        }
    }

    /// A node said what it holds.
    pub fn observed(&mut self, now_ms: u64, node: &NodeId, observed: Option<Generation>) {
        let wanted = self.committed.get(node).map(|assignment| assignment.generation);
        if observed >= wanted {
            self.behind.remove(node);
        } else {
            let reminder =
                Reminder { at_ms: now_ms + FIRST_REMINDER_MS, wait_ms: FIRST_REMINDER_MS };
            self.behind.entry(node.clone()).or_insert(reminder);
        }
    }

    /// Whether any node may have to be told again some time.
    #[must_use]
    pub fn has_reminders(&self) -> bool {
        !self.behind.is_empty()
    }

    /// Tells the nodes again that should have taken over their assignment by now. Those that
    /// cannot hear get it from the broker when they are back.
    pub fn remind(&mut self, now_ms: u64, can_hear: impl Fn(&NodeId) -> bool) {
        let due: Vec<NodeId> = self
            .behind
            .iter()
            .filter(|(_, reminder)| reminder.at_ms <= now_ms)
            .map(|(node, _)| node.clone())
            .collect();
        for node in due {
            if !can_hear(&node) {
                // It is looked at again when it is back.
                self.behind.remove(&node);
                continue;
            }
            tracing::debug!(%node, "has not taken over its assignment: publishing again");
            self.again(&node);
            if let Some(reminder) = self.behind.get_mut(&node) {
                reminder.wait_ms = (reminder.wait_ms * 2).min(LAST_REMINDER_MS);
                reminder.at_ms = now_ms + reminder.wait_ms;
            }
        }
    }

    /// Publishes a node's assignment and all that it needs for it again.
    fn again(&self, node: &NodeId) {
        let Some(assignment) = self.committed.get(node) else { return };
        for hash in specs::names(assignment) {
            if !self.bus.again(&Topic::Spec(hash)) {
                tracing::warn!(%node, spec = %hash, "a spec that an assignment names is not there");
            }
        }
        self.contents.again(node, None);
        if !self.bus.again(&Topic::Want(node.clone())) {
            tracing::warn!(%node, "the assignment is not there to be published");
        }
    }

    /// Gives a node what it asks for, within reason.
    pub fn answer(&mut self, now_ms: u64, node: &NodeId, ask: &Ask) {
        let answers = self.answers.entry(node.clone()).or_default();
        let second = now_ms / 1000;
        if answers.second != second {
            *answers = Answers { second, given: 0 };
        }
        answers.given += 1;
        if answers.given > ANSWERS_PER_SECOND {
            return;
        }
        if ask.want {
            self.again(node);
        }
        self.contents.again(node, Some((&ask.configs, &ask.secrets)));
        let Some(assignment) = self.committed.get(node) else { return };
        let named = |hash: &&SpecHash| specs::names(assignment).any(|named| named == **hash);
        for hash in ask.specs.iter().filter(named) {
            if !self.bus.again(&Topic::Spec(*hash)) {
                tracing::warn!(%node, spec = %hash, "asked for a spec that is not there");
            }
        }
    }
}
