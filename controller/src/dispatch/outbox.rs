//! What waits to be published: the newest retained state by topic, and a bounded queue of the rest.
//!
//! In: the control loop's state and messages. Out: one after the other, what to publish next.
//! State is kept as long as it is wanted, so that all of it can be published again to a broker that
//! forgot it; its number is bounded by the fleet, not by how often it changes.

use std::collections::{HashMap, HashSet, VecDeque};

use bytes::Bytes;
use limpet_protocol::topic::Topic;

/// Messages that are not state and wait for the network. More are dropped: whoever waits for one
/// asks again.
const MAX_MESSAGES: usize = 4096;
/// Cleared topics that are cleared again after a reconnect; the oldest are forgotten.
const MAX_CLEARED: usize = 1024;

/// Something to publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Outgoing {
    /// Where.
    pub(super) topic: Topic,
    /// What; empty clears a retained topic.
    pub(super) payload: Bytes,
    /// Whether the broker keeps it.
    pub(super) retain: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    online: bool,
    state: HashMap<Topic, Bytes>,
    cleared: VecDeque<Topic>,
    changed: VecDeque<Topic>,
    is_changed: HashSet<Topic>,
    messages: VecDeque<Outgoing>,
}

impl Outbox {
    /// Wants this state at a topic, from now on.
    pub(super) fn set(&mut self, topic: Topic, payload: Bytes) {
        self.state.insert(topic.clone(), payload);
        self.mark(topic);
    }

    /// Wants nothing at a topic.
    pub(super) fn clear(&mut self, topic: &Topic) {
        let Some(payload) = self.state.get_mut(topic) else {
            self.state.insert(topic.clone(), Bytes::new());
            self.forget_later(topic);
            return;
        };
        if !payload.is_empty() {
            *payload = Bytes::new();
            self.forget_later(topic);
        }
    }

    fn forget_later(&mut self, topic: &Topic) {
        self.mark(topic.clone());
        self.cleared.push_back(topic.clone());
        if self.cleared.len() > MAX_CLEARED
            && let Some(oldest) = self.cleared.pop_front()
            && self.state.get(&oldest).is_some_and(Bytes::is_empty)
        {
            self.state.remove(&oldest);
        }
    }

    /// Publishes a topic's state again; whether there is any.
    pub(super) fn again(&mut self, topic: &Topic) -> bool {
        let known = self.state.get(topic).is_some_and(|payload| !payload.is_empty());
        if known {
            self.mark(topic.clone());
        }
        known
    }

    fn mark(&mut self, topic: Topic) {
        if self.is_changed.insert(topic.clone()) {
            self.changed.push_back(topic);
        }
    }

    /// Queues a message that is no state; whether there is a connection and room for it.
    pub(super) fn send(&mut self, topic: Topic, payload: Bytes) -> bool {
        let room = self.online && self.messages.len() < MAX_MESSAGES;
        if room {
            self.messages.push_back(Outgoing { topic, payload, retain: false });
        }
        room
    }

    /// A connection is there: all state has to be published, to a broker that may know none of it.
    pub(super) fn connected(&mut self) {
        self.online = true;
        // What assignments name before the assignments.
        let mut topics: Vec<Topic> = self.state.keys().cloned().collect();
        topics.sort_by_key(|topic| matches!(topic, Topic::Want(_)));
        topics.into_iter().for_each(|topic| self.mark(topic));
    }

    /// The connection is gone, and with it every message.
    pub(super) fn disconnected(&mut self) {
        self.online = false;
        self.messages.clear();
    }

    /// Whether there is a connection.
    #[must_use]
    pub(super) const fn is_online(&self) -> bool {
        self.online
    }

    /// What to publish next: messages first, people and nodes wait for them.
    pub(super) fn next(&mut self) -> Option<Outgoing> {
        if !self.online {
            return None;
        }
        if let Some(message) = self.messages.pop_front() {
            return Some(message);
        }
        loop {
            let topic = self.changed.pop_front()?;
            self.is_changed.remove(&topic);
            if let Some(payload) = self.state.get(&topic).cloned() {
                return Some(Outgoing { topic, payload, retain: true });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(byte: u8) -> Topic {
        Topic::Spec(limpet_protocol::id::SpecHash([byte; 32]))
    }

    #[test]
    fn the_newest_state_is_published_once_and_again_after_a_reconnect() {
        let mut outbox = Outbox::default();
        outbox.set(spec(1), Bytes::from_static(b"a"));
        outbox.set(spec(1), Bytes::from_static(b"b"));
        assert_eq!(outbox.next(), None, "there is no connection");
        outbox.connected();
        let published = outbox.next().unwrap();
        assert_eq!((published.payload.as_ref(), published.retain), (&b"b"[..], true));
        assert_eq!(outbox.next(), None);
        outbox.clear(&spec(1));
        outbox.disconnected();
        outbox.connected();
        assert!(outbox.next().unwrap().payload.is_empty());
        assert!(!outbox.again(&spec(1)));
        assert_eq!(outbox.next(), None);
    }

    #[test]
    fn cleared_topics_and_messages_are_bounded() {
        let mut outbox = Outbox::default();
        let node: limpet_protocol::id::NodeId = "n".parse().unwrap();
        assert!(!outbox.send(Topic::Ack(node.clone()), Bytes::new()));
        outbox.connected();
        for number in 0..10_000_u32 {
            let mut hash = [0; 32];
            hash[..4].copy_from_slice(&number.to_be_bytes());
            outbox.set(Topic::Spec(limpet_protocol::id::SpecHash(hash)), Bytes::from_static(b"x"));
            outbox.clear(&Topic::Spec(limpet_protocol::id::SpecHash(hash)));
        }
        assert!(outbox.state.len() <= MAX_CLEARED);
        let taken = (0..10_000).filter(|_| outbox.send(Topic::Ack(node.clone()), Bytes::new()));
        assert_eq!(taken.count(), MAX_MESSAGES);
    }
}
