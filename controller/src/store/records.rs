//! What the values of the store mean. Encoded with [`limpet_protocol::codec`].

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use limpet_protocol::application::Application;
use limpet_protocol::assignment::Assignment;
use limpet_protocol::id::{
    ApplicationName, ContentId, InstanceId, NodeId, ServiceName, Slot, SpecHash,
};
use limpet_protocol::message::{ConfigContent, NodeFacts};
use limpet_protocol::network::Subnet;
use serde::{Deserialize, Serialize};

use crate::rollout::RolloutRecord;

/// Under [`super::Key::Application`], and of earlier revisions under [`super::Key::History`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApplicationRecord {
    /// What is wanted, image references resolved where the controller has the image.
    pub application: Application,
    /// When it was applied, by the controller's clock: milliseconds since 1970.
    pub applied_ms: u64,
    /// What brought this revision about, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub change: String,
    /// The services that came, changed or went with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changed: Vec<String>,
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
    /// The public key that its secrets are sealed to, in hexadecimal; none before it told one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seal_key: Option<String>,
    /// How other nodes reach it; none before it told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mesh: Option<MeshRecord>,
}

/// How a node is reached by others, as it proved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeshRecord {
    /// Its public key, in hexadecimal.
    pub key: String,
    /// Where it listens, the likeliest address first.
    pub endpoints: Vec<SocketAddr>,
}

/// Under [`super::Key::Subnet`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubnetRecord {
    /// The addresses of the fleet when it was given.
    pub pool: Subnet,
    /// The prefix of a node's part of them.
    pub node_prefix: u8,
    /// Which part.
    pub number: u32,
}

/// Under [`super::Key::Claim`]: who has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimRecord {
    /// The application.
    pub application: ApplicationName,
    /// The service.
    pub service: ServiceName,
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

/// Under [`super::Key::Progress`]: how far the services of an application have come.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgressRecord {
    /// Those of which there is anything to say.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub services: BTreeMap<ServiceName, ServiceProgress>,
    /// The nodes where slots of services with named volumes first ran: their data is there.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub homes: BTreeMap<ServiceName, BTreeMap<Slot, NodeId>>,
}

impl ProgressRecord {
    /// Whether it says nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.services.is_empty() && self.homes.is_empty()
    }
}

/// How far one service has come with one spec. A new spec starts anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceProgress {
    /// Which spec.
    #[serde(rename = "h")]
    pub spec: SpecHash,
    /// Slots that have completed for good.
    #[serde(rename = "d", default, with = "ranges", skip_serializing_if = "BTreeSet::is_empty")]
    pub done: BTreeSet<Slot>,
    /// Nodes on which it has, of a service with one instance on each node.
    #[serde(rename = "n", default, skip_serializing_if = "BTreeSet::is_empty")]
    pub done_on: BTreeSet<NodeId>,
    /// Slots that have failed for good, and why.
    #[serde(rename = "f", default, skip_serializing_if = "BTreeMap::is_empty")]
    pub failed: BTreeMap<Slot, String>,
    /// Nodes on which it has, of a service with one instance on each node.
    #[serde(rename = "m", default, skip_serializing_if = "BTreeMap::is_empty")]
    pub failed_on: BTreeMap<NodeId, String>,
    /// Conditions of `depends_on` that have held.
    #[serde(rename = "c", default, skip_serializing_if = "Held::is_none")]
    pub held: Held,
}

impl ServiceProgress {
    /// Nothing has come to pass yet.
    #[must_use]
    pub const fn new(spec: SpecHash) -> Self {
        Self {
            spec,
            done: BTreeSet::new(),
            done_on: BTreeSet::new(),
            failed: BTreeMap::new(),
            failed_on: BTreeMap::new(),
            held: Held { started: false, healthy: false, completed: false },
        }
    }
}

/// Conditions of `depends_on` that have held over all instances of a service.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Held {
    /// `service_started`.
    #[serde(rename = "s")]
    pub started: bool,
    /// `service_healthy`.
    #[serde(rename = "h")]
    pub healthy: bool,
    /// `service_completed_successfully`.
    #[serde(rename = "c")]
    pub completed: bool,
}

impl Held {
    fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// Slots as (first, last): a job completes them about in their order, so that ten thousand of them
/// take a few bytes.
mod ranges {
    use super::{BTreeSet, Slot};
    use limpet_protocol::limits::MAX_REPLICAS;
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(
        slots: &BTreeSet<Slot>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let mut ranges: Vec<(u32, u32)> = vec![];
        for slot in slots {
            match ranges.last_mut() {
                Some((_, last)) if last.checked_add(1) == Some(slot.0) => *last = slot.0,
                _ => ranges.push((slot.0, slot.0)),
            }
        }
        ranges.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeSet<Slot>, D::Error> {
        let ranges = Vec::<(u32, u32)>::deserialize(deserializer)?;
        if ranges.iter().any(|(_, last)| *last > MAX_REPLICAS) {
            return Err(D::Error::custom(format!("no service has more slots than {MAX_REPLICAS}")));
        }
        Ok(ranges.into_iter().flat_map(|(first, last)| first..=last).map(Slot).collect())
    }
}

/// Under [`super::Key::Rollout`]: the services whose rollout is not over, or did not end with the
/// target.
pub type RolloutRecords = BTreeMap<ServiceName, RolloutRecord>;

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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenPurpose {
    /// The API, all of it.
    Admin,
    /// Joining the fleet as a node.
    Join,
    /// Publishing figures of the services of an application.
    Metrics(ApplicationName),
}

/// Under [`super::Key::Config`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigRecord {
    /// The content, as it travels to nodes.
    pub config: ConfigContent,
    /// When it was last uploaded, by the controller's clock: milliseconds since 1970.
    pub touched_ms: u64,
}

/// Under [`super::Key::Secret`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretRecord {
    /// The secret, sealed by the vault.
    #[serde(with = "limpet_protocol::byte_string")]
    pub sealed: Vec<u8>,
    /// When it was last uploaded, by the controller's clock: milliseconds since 1970.
    pub touched_ms: u64,
}

/// Under [`super::Key::ConfigName`] and [`super::Key::SecretName`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContentNameRecord {
    /// What it stands for.
    pub content: ContentId,
    /// How many bytes that has.
    pub bytes: u64,
    /// When it was given this name, by the controller's clock: milliseconds since 1970.
    pub created_ms: u64,
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
