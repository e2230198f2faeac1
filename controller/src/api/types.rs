//! What the API takes and gives, as JSON. The command line uses these very types.
//!
//! | method and path | body → answer |
//! |---|---|
//! | `GET /healthz`, `GET /openapi.json` | no token needed |
//! | `GET /v1/version` | [`VersionView`] |
//! | `PUT /v1/applications/{name}?if_revision=` | [`limpet_protocol::application::Application`] → [`ApplyOutcome`] |
//! | `GET /v1/applications` | → [`List`] of [`ApplicationView`] |
//! | `GET /v1/applications/{name}` | → [`ApplicationView`] |
//! | `PATCH /v1/applications/{name}?if_revision=` | [`ApplicationPatch`] → [`ApplyOutcome`] |
//! | `DELETE /v1/applications/{name}` | → [`ApplyOutcome`] |
//! | `GET /v1/applications/{name}/rollout` | → [`List`] of [`ServiceRolloutView`] |
//! | `POST /v1/applications/{name}/rollout` | [`RolloutRequest`] → [`RolloutOutcome`] |
//! | `GET /v1/applications/{name}/rollout/history` | → [`List`] of [`RevisionView`] |
//! | `GET /v1/instances?application=&service=&node=` | → [`List`] of [`InstanceView`] |
//! | `GET /v1/instances/{instance}/logs?tail=&follow=&since_ms=&timestamps=` | → lines of JSON, each a [`LogLine`] |
//! | `POST /v1/instances/{instance}/exec` | [`ExecRequest`] → frames both ways, the last an [`ExecEnd`] |
//! | `GET`, `PUT /v1/instances/{instance}/files?path=` | a tar stream, out or in |
//! | `GET /v1/load?nodes=` | → [`LoadList`] |
//! | `GET /v1/inspect/{name}?kind=` | → [`super::inspect::InspectView`] |
//! | `POST /v1/plan` | [`limpet_protocol::application::Application`] → [`crate::preview::PlanView`] |
//! | `GET /v1/explain/{name}?kind=` | → [`crate::explain::Explanation`] |
//! | `GET /v1/nodes`, `GET /v1/nodes/{node}` | → [`List`] of [`NodeView`], [`NodeView`] |
//! | `PATCH /v1/nodes/{node}` | [`NodePatch`] → [`NodeOutcome`] |
//! | `DELETE /v1/nodes/{node}?force=` | → [`NodeOutcome`] |
//! | `GET /v1/events?since=&limit=` | → [`List`] of [`EventView`]; server-sent events with `Accept: text/event-stream` |
//! | `GET /v1/watch?from=` | → server-sent events, each a [`ChangeView`] |
//! | `POST /v1/tokens` | [`TokenRequest`] → [`TokenView`] with the token itself, this once |
//! | `GET /v1/tokens`, `DELETE /v1/tokens/{id}` | → [`List`] of [`TokenView`] |
//! | `POST /v1/configs?keep=`, `POST /v1/secrets?keep=` | the bytes → [`ContentView`] |
//! | `GET /v1/configs`, `GET /v1/secrets` | → [`List`] of [`ContentNameView`], of those that people named |
//! | `GET`, `PUT ?replace=`, `DELETE /v1/configs/{name}`, `/v1/secrets/{name}` | → [`ContentNameView`]; the bytes → [`ContentView`] |
//! | `POST /v1/images` | an archive as `docker save`, `podman save`, `skopeo` or `buildah` write it → [`List`] of [`ImageView`] |
//! | `GET /v1/images`, `DELETE /v1/images/{digest}` | → [`List`] of [`ImageView`] |
//! | `GET /v2/...` | images for nodes: the pull half of the OCI Distribution Specification, Basic auth as node |
//!
//! Errors are [`ErrorBody`] with the HTTP status that fits: 400 (what is wrong where), 401, 404,
//! 409 (the world moved), 413, 503 (not ready).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use super::load_types::{LoadList, LoadView, NodeLoadView, PressureView};
pub use super::rollout_types::{
    RevisionView, RolloutOutcome, RolloutRequest, RolloutView, ServiceRolloutView,
};
pub use super::scale_types::{FigureView, NodeScaleView, ScaleLoadView, ScaleView};

/// A list and the revision at which it was true.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct List<T> {
    /// The store's revision.
    pub revision: u64,
    /// What there is.
    pub items: Vec<T>,
}

/// What went wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    /// A word for programs: `bad_request`, `unauthorized`, `not_found`, `conflict`, `too_large`, `unavailable`, `internal`.
    pub code: String,
    /// A sentence for people: what, where, and what to do.
    pub message: String,
}

/// Which programs these are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VersionView {
    /// The controller's version.
    pub version: String,
    /// The life of its database.
    pub epoch: u64,
    /// The store's revision.
    pub revision: u64,
}

/// A config or secret that was uploaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ContentView {
    /// What an application names it by: of a config the SHA-256 of its bytes in hexadecimal; of a
    /// secret digits that tell nothing.
    pub id: String,
    /// How many bytes it has.
    pub bytes: u64,
}

/// A config or secret that people named.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ContentNameView {
    /// The name.
    pub name: String,
    /// What it stands for, see [`ContentView::id`].
    pub id: String,
    /// How many bytes it has.
    pub bytes: u64,
    /// When it was given, by the controller's clock: milliseconds since 1970.
    pub created_ms: u64,
    /// The services that use this very content: `application.service`.
    pub used_by: Vec<String>,
}

/// What an apply or a removal did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ApplyOutcome {
    /// The application.
    pub application: String,
    /// The revision at which it is on disk.
    pub revision: u64,
    /// Services that were not there before.
    pub added: Vec<String>,
    /// Services that changed.
    pub changed: Vec<String>,
    /// Services that are as they were.
    pub unchanged: Vec<String>,
    /// Services that are no longer wanted.
    pub removed: Vec<String>,
}

/// An application and how it fares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ApplicationView {
    /// Its name.
    pub name: String,
    /// The revision at which it was last changed.
    pub revision: u64,
    /// When it was applied: milliseconds since 1970.
    pub applied_ms: u64,
    /// Its services.
    pub services: Vec<ServiceView>,
}

/// A service and how it fares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServiceView {
    /// Its name.
    pub name: String,
    /// `replicated`, `global`, `replicated-job` or `global-job`.
    pub mode: String,
    /// The image as the file names it.
    pub image: String,
    /// How many instances are wanted now.
    pub wanted: u32,
    /// How many run what is wanted.
    pub running: u32,
    /// How many of those may get traffic: their checks and probes say so, or they have none.
    pub ready: u32,
    /// How many have ended with success and are not started again.
    pub completed: u32,
    /// Whether people stopped it: nothing of it is wanted until it is started again.
    pub stopped: bool,
    /// Whether all is as wanted: every instance runs and is ready, or completed where its policy
    /// says so.
    pub settled: bool,
    /// Why it is not as wanted, one sentence for each cause.
    pub reasons: Vec<String>,
    /// How far it is on its way to another spec; none when it is at rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutView>,
    /// How the number of its instances follows the load; none where it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale: Option<ScaleView>,
}

/// One container, wanted or there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InstanceView {
    /// `application.service.slot`.
    pub instance: String,
    /// The application.
    pub application: String,
    /// The service.
    pub service: String,
    /// Which replica.
    pub slot: u32,
    /// Where; none while it has no node.
    pub node: Option<String>,
    /// Which try in this slot.
    pub attempt: u32,
    /// The image as the file names it.
    pub image: String,
    /// See [`limpet_protocol::phase::Phase`]; `unknown` while the node is unreachable.
    pub phase: String,
    /// Since when: milliseconds since 1970 by the node's clock.
    pub since_ms: u64,
    /// Why it is not further.
    pub reason: Option<String>,
    /// Exit code of the last attempt that ended.
    pub exit_code: Option<i32>,
    /// Whether the last attempt that ended was killed for want of memory.
    pub out_of_memory: bool,
    /// Whether it runs the newest spec.
    pub current: bool,
    /// What its health check says: `starting`, `healthy`, `unhealthy`; none where it has none.
    pub health: Option<String>,
    /// Whether it may get traffic; none where nothing checks that: as soon as it runs.
    pub ready: Option<bool>,
    /// Its address; none where it has none, or its node has not told it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Its published ports, as `8080->80/tcp`: those that every node of the application forwards, and those
    /// of its own node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<String>,
}

/// A change of single services of an application.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ApplicationPatch {
    /// What changes of these services, by name.
    pub services: BTreeMap<String, ServicePatch>,
    /// What changes of every service that `services` does not name.
    pub every: Option<ServicePatch>,
}

/// A change of a service; what it does not name stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ServicePatch {
    /// So many instances; for a replicated job, so many completions.
    pub replicas: Option<u32>,
    /// Whether it is stopped: `true` stops every instance, `false` starts them again.
    pub stopped: Option<bool>,
    /// Every instance is replaced by one of the same kind, under the rules of an update.
    pub restart: bool,
}

/// A node and how it fares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeView {
    /// Its identity.
    pub node: String,
    /// `ready`, `unreachable` (its link is down and the time until it is given up runs) or `lost`.
    pub status: String,
    /// `active`, `pause` (cordoned: it takes nothing new) or `drain` (what it has goes to others).
    pub availability: String,
    /// Host name.
    pub hostname: String,
    /// `os/arch[/variant]`.
    pub platform: String,
    /// The agent's version.
    pub agent_version: String,
    /// The kernel's release.
    pub kernel: String,
    /// CPUs in thousandths, and how much of it is reserved.
    pub cpu_millis: u32,
    /// Thousandths of a CPU that are reserved by what was placed there.
    pub cpu_reserved_millis: u32,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Bytes of memory that are reserved by what was placed there.
    pub memory_reserved_bytes: u64,
    /// Labels: its own and those that people gave it, the latter win.
    pub labels: BTreeMap<String, String>,
    /// Those of them that people gave it.
    pub given_labels: BTreeMap<String, String>,
    /// Instances placed there.
    pub instances: u32,
    /// The generation that it shall run, `epoch.number`.
    pub wanted_generation: String,
    /// The generation that it holds, `epoch.number`; empty if none.
    pub observed_generation: String,
    /// When it was last heard of: milliseconds since 1970 by the controller's clock.
    pub last_contact_ms: u64,
    /// What it lacks and what that costs.
    pub conditions: Vec<String>,
    /// Devices that containers can be given there.
    pub devices: Vec<String>,
    /// When it joined: milliseconds since 1970 by the controller's clock.
    pub joined_ms: u64,
    /// Its network; none if nothing on it takes part in one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<NodeNetworkView>,
}

/// The network of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeNetworkView {
    /// Its part of the fleet's addresses.
    pub subnet: String,
    /// Its part of the fleet's IPv6 addresses.
    pub subnet6: String,
    /// Who encrypts what goes to other nodes: `kernel` or `userland` (the agent); none before it told.
    pub tunnel: Option<String>,
    /// Where other nodes reach it, the likeliest first.
    pub endpoints: Vec<String>,
    /// How many nodes it talks to.
    pub peers: u32,
    /// Those of them that do not answer.
    pub unreachable: Vec<String>,
    /// Nodes that would be its peers and are not, because one end has as many as it may.
    pub left_out: u32,
}

/// What people change of a node; what is left out stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NodePatch {
    /// Labels to give it, or with null to take away. Those of its agent's own configuration stay.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, Option<String>>,
    /// `active`, `pause` or `drain`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub availability: Option<String>,
}

/// What became of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeOutcome {
    /// Which.
    pub node: String,
    /// The revision at which it is on disk.
    pub revision: u64,
    /// `active`, `pause` or `drain`.
    pub availability: String,
    /// Labels that people gave it.
    pub given_labels: BTreeMap<String, String>,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EventView {
    /// Grows with every event that the controller keeps; what `since` means.
    pub id: u64,
    /// When it happened: milliseconds since 1970, by the clock of whoever saw it.
    pub at_ms: u64,
    /// The node, if it happened on one.
    pub node: Option<String>,
    /// The instance, if it is about one.
    pub instance: Option<String>,
    /// Which kind: see [`limpet_protocol::event::EventKind`], and the controller's own.
    pub kind: String,
    /// What a person should know.
    pub message: String,
}

/// A change of desired state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ChangeView {
    /// At which revision.
    pub revision: u64,
    /// `application`, `node`, `assignment` or `rollout`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// `put` or `delete`.
    pub op: String,
}

/// A line of a container's output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LogLine {
    /// `stdout` or `stderr`; `error` if the stream ended before its time, the text says why.
    pub stream: String,
    /// The line with its line feed, or a part of a long one; bytes that are not UTF-8 are replaced.
    pub text: String,
    /// When it was written, in milliseconds since 1970 by the node's clock, if that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_ms: Option<u64>,
}

/// A command to be run in an instance.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ExecRequest {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Values on top of the container's environment.
    pub environment: BTreeMap<String, String>,
    /// An absolute path; none is the container's own.
    pub working_dir: Option<String>,
    /// `user[:group]`; none is who the container runs as.
    pub user: Option<String>,
    /// The size of the terminal that it gets; none gets none.
    pub terminal: Option<TerminalSizeView>,
    /// Whether there will be input; without it standard input is empty.
    pub input: bool,
}

/// The size of a terminal in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TerminalSizeView {
    /// Lines.
    pub rows: u16,
    /// Characters in a line.
    pub columns: u16,
}

/// How a command ended: the last frame of an exec.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct ExecEnd {
    /// Its exit code: 128 and the signal's number if a signal ended it; 127 with an error if it is not
    /// there, 126 with an error if it cannot be executed. None if it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// Why it did not run, or why its end is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A token to be made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct TokenRequest {
    /// `join` (the default), `admin` or `metrics`.
    pub purpose: String,
    /// Of `metrics`: the application whose figures it lets publish.
    pub application: Option<String>,
    /// For people.
    pub description: String,
    /// How long it lives, in seconds; none is without end.
    pub ttl_seconds: Option<u64>,
}

/// A token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenView {
    /// Its name: the first 12 digits of its SHA-256.
    pub id: String,
    /// The token itself, only in the answer that makes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// `join`, `admin` or `metrics`.
    pub purpose: String,
    /// Of `metrics`: the application whose figures it lets publish.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub application: Option<String>,
    /// For people.
    pub description: String,
    /// When it was made: milliseconds since 1970.
    pub created_ms: u64,
    /// When it ends; none is never.
    pub expires_ms: Option<u64>,
}

/// An image that the controller has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ImageView {
    /// The reference under which services find it, `name:tag`; empty if it has none.
    pub reference: String,
    /// The digest of its index or manifest.
    pub digest: String,
    /// `os/arch[/variant]` of each variant.
    pub platforms: Vec<String>,
    /// Bytes of its blobs.
    pub size_bytes: u64,
}
