//! Events: what happened, kept until the controller has it.
//!
//! In: things that happened, and the controller's [`Cursor`]. Out: batches in order. The queue is
//! bounded; the oldest go first, and the gap in the numbers tells that they did.

use std::collections::VecDeque;

use limpet_protocol::event::{Cursor, Event, EventBatch, EventKind};
use limpet_protocol::id::InstanceId;
use limpet_protocol::limits::{MAX_EVENTS_KEPT, MAX_EVENTS_PER_BATCH};

use super::bounded;

/// The events that the controller does not have yet.
#[derive(Debug)]
pub struct EventQueue {
    boot: u64,
    /// Number of the newest event.
    last: u64,
    /// Number of the newest event that was said on this connection.
    said: u64,
    kept: VecDeque<Event>,
}

impl EventQueue {
    /// `last` is the number of the newest event of this boot, 0 if there was none.
    #[must_use]
    pub fn new(boot: u64, last: u64) -> Self {
        Self { boot, last, said: last, kept: VecDeque::new() }
    }

    /// The number of the newest event.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.last
    }

    /// Something happened, at that time by the node's clock.
    pub fn push(
        &mut self,
        kind: EventKind,
        instance: Option<InstanceId>,
        message: String,
        at_ms: u64,
    ) {
        self.last += 1;
        if self.kept.len() == MAX_EVENTS_KEPT {
            self.kept.pop_front();
        }
        let message = bounded(message);
        self.kept.push_back(Event { sequence: self.last, at_ms, kind, instance, message });
    }

    /// The controller has everything up to there.
    pub fn acknowledged(&mut self, cursor: Cursor) {
        if cursor.boot == self.boot {
            self.kept.retain(|event| event.sequence > cursor.sequence);
        }
    }

    /// A new connection: what was not acknowledged is said again.
    pub fn repeat(&mut self) {
        self.said = 0;
    }

    /// What is to be said next, if anything is. It stays kept until it is acknowledged.
    pub fn next_batch(&mut self) -> Option<EventBatch> {
        let unsaid = self.kept.iter().filter(|event| event.sequence > self.said);
        let events: Vec<Event> = unsaid.take(MAX_EVENTS_PER_BATCH).cloned().collect();
        self.said = events.last()?.sequence;
        Some(EventBatch { boot: self.boot, events })
    }

    /// Whether [`EventQueue::next_batch`] has something.
    #[must_use]
    pub fn has_unsaid(&self) -> bool {
        self.kept.back().is_some_and(|event| event.sequence > self.said)
    }
}
