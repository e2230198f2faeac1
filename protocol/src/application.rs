//! The application: what a person wants, as the controller keeps it.
//!
//! `limpet apply` makes one of a Compose file; the API takes and gives it as JSON.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::id::{ApplicationName, ServiceName};
use crate::spec::Spec;

/// A named set of services applied together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Application {
    /// Its name: the Compose project's.
    pub name: ApplicationName,
    /// Its services, each under its own name.
    pub services: BTreeMap<ServiceName, Service>,
}

/// One service: what each instance is, how many there are and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// What each instance is.
    pub spec: Spec,
    /// How many instances (`deploy.mode`, `deploy.replicas`, `scale`).
    pub mode: Mode,
    /// Where they may run (`deploy.placement`).
    #[serde(default)]
    pub placement: Placement,
    /// Labels of the service (`deploy.labels`).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// How many instances a service has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// A number of them, wherever they fit.
    Replicated {
        /// How many.
        replicas: u32,
    },
    /// One on each node that matches.
    Global,
}

/// Where instances may run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Placement {
    /// All of them must hold on a node.
    pub constraints: Vec<Constraint>,
    /// Spread over the values of these node labels, the first first.
    pub spread: Vec<String>,
    /// Most instances of the service on one node; none is no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_replicas_per_node: Option<u32>,
}

/// One placement constraint, as Docker Swarm writes them: `node.labels.site == north`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Constraint {
    /// Which attribute of the node.
    pub attribute: Attribute,
    /// Whether it must equal or must not equal the value.
    pub equal: bool,
    /// The value. Compared without regard to case, as Swarm does.
    pub value: String,
}

/// An attribute of a node that constraints can name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Attribute {
    /// `node.id`.
    Id,
    /// `node.hostname`.
    Hostname,
    /// `node.platform.os`.
    Os,
    /// `node.platform.arch`.
    Architecture,
    /// `node.labels.KEY`; a label that a node lacks has the empty value.
    Label(String),
}
