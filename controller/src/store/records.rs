//! What the values of the store mean. Encoded with [`limpet_protocol::codec`].

use std::collections::BTreeMap;

use limpet_protocol::application::Application;
use limpet_protocol::assignment::Assignment;
use limpet_protocol::id::{InstanceId, NodeId};
use limpet_protocol::message::NodeFacts;
use serde::{Deserialize, Serialize};

/// Under [`super::Key::Application`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApplicationRecord {
    /// What is wanted, image references resolved where the controller has the image.
    pub application: Application,
    /// When it was applied, by the controller's clock: milliseconds since 1970.
    pub applied_ms: u64,
}

/// Under [`super::Key::Node`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// Who.
    pub node: NodeId,
    /// SHA-256 of its MQTT password, in hexadecimal.
    pub secret_sha256: String,
    /// Labels that people gave it.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// What it said when it joined.
    pub facts: NodeFacts,
    /// When it joined, by the controller's clock: milliseconds since 1970.
    pub joined_ms: u64,
    /// Whether people let it have work.
    #[serde(default, skip_serializing_if = "Availability::is_active")]
    pub availability: Availability,
}

/// Whether people let a node have work (`limpet node cordon`, `drain`, `uncordon`). The words of the
/// values are Docker Swarm's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Availability {
    /// It takes whatever suits.
    #[default]
    Active,
    /// It keeps what it has and takes nothing new.
    Pause,
    /// What it has goes to others.
    Drain,
}

impl Availability {
    /// As the API spells it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Pause => "pause",
            Self::Drain => "drain",
        }
    }

    /// From how the API spells it; none if it is no such word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Active, Self::Pause, Self::Drain].into_iter().find(|known| known.as_str() == word)
    }

    fn is_active(&self) -> bool {
        *self == Self::Active
    }
}

/// Under [`super::Key::Assignment`]: the newest assignment of the node.
pub type AssignmentRecord = Assignment;

/// Under [`super::Key::Token`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRecord {
    /// What it opens.
    pub purpose: TokenPurpose,
    /// For people.
    pub description: String,
    /// When it was made, by the controller's clock: milliseconds since 1970.
    pub created_ms: u64,
    /// When it ends, likewise; none is never.
    #[serde(default)]
    pub expires_ms: Option<u64>,
}

/// What a token opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenPurpose {
    /// The API, all of it.
    Admin,
    /// Joining the fleet as a node.
    Join,
}

/// Something that happened, in the table of events.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventRecord {
    /// Grows with every event; stamped by the store, whatever is given.
    #[serde(skip)]
    pub id: u64,
    /// When, by the clock of whoever saw it: milliseconds since 1970.
    pub at_ms: u64,
    /// The node, if it happened on one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeId>,
    /// The instance, if it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<InstanceId>,
    /// Which kind: see [`limpet_protocol::event::EventKind`], and the controller's own words.
    pub kind: String,
    /// What a person should know.
    pub message: String,
}
