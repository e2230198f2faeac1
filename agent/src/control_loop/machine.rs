//! The machine in the loop: what it lacks is told when that changes.
//!
//! What the runtime and the network lack they say themselves; clock, card and supply are looked at beside
//! the loop, since a card at its end may take long to answer.

use std::path::Path;

use super::{ControlLoop, Images, Job};
use crate::runtime::Runtime;

/// How often clock, card and supply are looked at: what they say changes in hours.
const LOOK_EVERY_MS: u64 = 10 * 60 * 1000;

/// Says what a machine lacks, by the folder of the agent's state: `doctor::conditions`, or what a test says.
pub type Look = fn(&Path) -> Vec<String>;

/// What the loop keeps of the machine.
#[derive(Debug)]
pub(super) struct Machine {
    look: Look,
    due_ms: u64,
    lacks: Vec<String>,
}

impl Machine {
    pub(super) fn new(look: Look) -> Self {
        Self { look, due_ms: 0, lacks: Vec::new() }
    }
}

impl<R: Runtime, I: Images> ControlLoop<R, I> {
    /// Looks at the machine from time to time. Returns when the next time is.
    pub(super) fn look_at_machine(&mut self) -> u64 {
        let now_ms = self.clock.now_ms();
        if now_ms >= self.machine.due_ms {
            self.machine.due_ms = now_ms.saturating_add(LOOK_EVERY_MS);
            let (look, data) = (self.machine.look, self.paths.data.clone());
            self.jobs.spawn(async move {
                let lacks = tokio::task::spawn_blocking(move || look(&data)).await;
                Job::MachineLookedAt(lacks.unwrap_or_default())
            });
        }
        self.machine.due_ms
    }

    pub(super) fn machine_looked_at(&mut self, lacks: Vec<String>) {
        self.machine.lacks = lacks;
        self.look_at_conditions();
    }

    /// What the node lacks is told when it changes.
    pub(super) fn look_at_conditions(&mut self) {
        let Some(mut conditions) = self.runtime.conditions() else { return };
        conditions.extend(self.network.conditions());
        conditions.extend(self.machine.lacks.iter().cloned());
        if conditions != self.facts.conditions {
            tracing::info!("what this node lacks: {}", conditions.join("; "));
            self.facts.conditions = conditions;
            self.link_state.presence_due = true;
        }
    }
}
