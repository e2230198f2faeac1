//! The phases of an instance: ordered, and only ever forward.
//!
//! The model is SwarmKit's task model (`design/task_model.md`): of two reports about one attempt
//! the greater phase is the true one, so a late or repeated message does no harm. A restart is a
//! new attempt in the same slot, never a step back.

use core::fmt;

use serde::{Deserialize, Serialize};

/// How far one attempt of an instance has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The controller knows that it must run and has found no node yet.
    Pending,
    /// A node has it in its assignment.
    Assigned,
    /// The node waits: for a dependency, or for the end of a restart back-off.
    Waiting,
    /// The image is being fetched or unpacked.
    Pulling,
    /// The container is being made.
    Creating,
    /// The container's process is started.
    Running,
    /// It was told to stop.
    Stopping,
    /// It ended by itself with exit code 0.
    Completed,
    /// It ended with another exit code, by a signal, or could not be made.
    Failed,
    /// It was stopped because nobody wants it any more, and nothing of it is left.
    Removed,
}

/// Who moves an instance from one phase to another. Every step has exactly one writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writer {
    /// The controller.
    Controller,
    /// The agent of the node.
    Agent,
}

impl Phase {
    /// All phases, in their order.
    pub const ALL: [Self; 10] = [
        Self::Pending,
        Self::Assigned,
        Self::Waiting,
        Self::Pulling,
        Self::Creating,
        Self::Running,
        Self::Stopping,
        Self::Completed,
        Self::Failed,
        Self::Removed,
    ];

    /// The phase as the lists and the API show it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Assigned => "assigned",
            Self::Waiting => "waiting",
            Self::Pulling => "pulling",
            Self::Creating => "creating",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Removed => "removed",
        }
    }

    /// Whether nothing will happen to this attempt any more.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Removed)
    }

    /// Who may take the step from `self` to `next`, if anybody.
    ///
    /// This is the whole table of legal steps.
    #[must_use]
    pub fn step(self, next: Self) -> Option<Writer> {
        if next <= self || (self.is_final() && next != Self::Removed) {
            return None;
        }
        match (self, next) {
            (Self::Pending, Self::Assigned) => Some(Writer::Controller),
            (Self::Pending, Self::Removed) => Some(Writer::Controller),
            (Self::Pending, _) => None,
            // What never ran cannot have completed.
            (Self::Assigned | Self::Waiting | Self::Pulling | Self::Creating, Self::Completed) => {
                None
            }
            _ => Some(Writer::Agent),
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_is_forward_or_refused() {
        for from in Phase::ALL {
            for to in Phase::ALL {
                let step = from.step(to);
                if to <= from {
                    assert_eq!(step, None, "{from} → {to} goes back");
                }
                if from == Phase::Pending && step.is_some() {
                    assert_eq!(step, Some(Writer::Controller), "{from} → {to}");
                }
                if from != Phase::Pending && step.is_some() {
                    assert_eq!(step, Some(Writer::Agent), "{from} → {to}");
                }
            }
            assert!(
                from == Phase::Removed || from.step(Phase::Removed).is_some(),
                "{from} can end"
            );
        }
        assert_eq!(Phase::Completed.step(Phase::Failed), None);
        assert_eq!(Phase::Creating.step(Phase::Completed), None);
    }
}
