//! The network of a container.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::is_default;

/// The network of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Network {
    /// Which network namespace.
    #[serde(skip_serializing_if = "is_default")]
    pub mode: NetworkMode,
    /// Lines for `/etc/hosts`, name → address (`extra_hosts`).
    #[serde(skip_serializing_if = "is_default")]
    pub extra_hosts: BTreeMap<String, String>,
    /// Name servers (`dns`).
    #[serde(skip_serializing_if = "is_default")]
    pub dns: Vec<String>,
    /// Search domains (`dns_search`).
    #[serde(skip_serializing_if = "is_default")]
    pub dns_search: Vec<String>,
    /// Options of the resolver (`dns_opt`).
    #[serde(skip_serializing_if = "is_default")]
    pub dns_opt: Vec<String>,
}

/// Which network namespace a container runs in (`network_mode`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NetworkMode {
    /// One of its own with a loopback device.
    #[default]
    Isolated,
    /// The node's.
    Host,
}

/// A port that a service publishes (`ports`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedPort {
    /// The port in the container.
    pub target: u16,
    /// The first and the last port outside of which one is taken; none is any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published: Option<(u16, u16)>,
    /// The address of the node to listen on; none is all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_ip: Option<String>,
    /// UDP and not TCP.
    #[serde(default, skip_serializing_if = "is_default")]
    pub udp: bool,
    /// On the instance's node alone (`mode: host`); otherwise on every node (`ingress`).
    #[serde(default, skip_serializing_if = "is_default")]
    pub host_mode: bool,
}
