//! The network of a container.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::{Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use super::is_default;
use crate::id::{NetworkName, ServiceName};

/// The network of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Network {
    /// Which network namespace.
    #[serde(skip_serializing_if = "is_default")]
    pub mode: NetworkMode,
    /// The service whose network namespace it shares, in the same slot on the same node
    /// (`network_mode: service:NAME`); `mode` then says nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub joins: Option<ServiceName>,
    /// The networks that it takes part in; with none it has its loopback device only.
    #[serde(skip_serializing_if = "is_default")]
    pub networks: BTreeMap<NetworkName, Attachment>,
    /// What the service's name stands for (`deploy.endpoint_mode`).
    #[serde(skip_serializing_if = "is_default")]
    pub endpoint_mode: EndpointMode,
    /// How much may come in and go out (`x-bandwidth`).
    #[serde(skip_serializing_if = "is_default")]
    pub bandwidth: Bandwidth,
    /// Whether it may reach the node's own addresses and the broker (`x-node-access`).
    #[serde(skip_serializing_if = "is_default")]
    pub node_access: bool,
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
    /// One of its own.
    #[default]
    Isolated,
    /// The node's.
    Host,
}

/// How a container takes part in a network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Attachment {
    /// Further names of the service in this network (`aliases`).
    #[serde(skip_serializing_if = "is_default")]
    pub aliases: Vec<String>,
    /// The address that it has instead of one of the node's (`ipv4_address`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipv4_address: Option<Ipv4Addr>,
    /// The same for IPv6 (`ipv6_address`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipv6_address: Option<Ipv6Addr>,
    /// The network does not lead outside (`networks.*.internal`).
    #[serde(skip_serializing_if = "is_default")]
    pub internal: bool,
    /// The network has IPv6 too (`networks.*.enable_ipv6`).
    #[serde(skip_serializing_if = "is_default")]
    pub ipv6: bool,
}

/// What the name of a service stands for (`deploy.endpoint_mode`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndpointMode {
    /// One virtual address, behind which connections are balanced.
    #[default]
    Vip,
    /// The addresses of all instances that are ready, in turn.
    Dnsrr,
}

/// Most bytes a second; none is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Bandwidth {
    /// Into the container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ingress: Option<u64>,
    /// Out of the container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub egress: Option<u64>,
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
