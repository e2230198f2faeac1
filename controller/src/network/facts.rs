//! What a spec means for others: the networks it takes part in and what it is called there, the ports it
//! publishes.

use std::collections::{BTreeMap, BTreeSet};

use limpet_protocol::id::NetworkName;
use limpet_protocol::spec::{EndpointMode, NetworkMode, PublishedPort, Spec};

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// Its networks, each with the further names that it has there.
    pub networks: BTreeMap<NetworkName, BTreeSet<String>>,
    /// What its name stands for.
    pub mode: EndpointMode,
    /// Ports that are forwarded by every node of the application.
    pub ingress: Vec<PublishedPort>,
    /// Ports that are forwarded by the instance's node, in the order of the planner's claims.
    pub host: Vec<PublishedPort>,
}

impl Facts {
    /// What a spec says.
    #[must_use]
    pub fn of(spec: &Spec) -> Self {
        let network = &spec.network;
        if network.mode == NetworkMode::Host || network.joins.is_some() {
            return Self::default();
        }
        let networks = network.networks.iter().map(|(name, attachment)| {
            (name.clone(), attachment.aliases.iter().cloned().collect::<BTreeSet<String>>())
        });
        let networks: BTreeMap<_, _> = networks.collect();
        if networks.is_empty() {
            return Self::default();
        }
        let (host, ingress) = spec.ports.iter().cloned().partition(|port| port.host_mode);
        Self { networks, mode: network.endpoint_mode, ingress, host }
    }

    /// Whether others have nothing to know of it.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        self.networks.is_empty()
    }

    /// Adds the networks and names of another spec of the same service: while it is updated it has both.
    pub(super) fn add_networks(&mut self, other: &Self) {
        for (network, aliases) in &other.networks {
            self.networks.entry(network.clone()).or_default().extend(aliases.iter().cloned());
        }
    }
}

/// What of a service runs on one node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Run {
    /// Its specs there: several while it is updated.
    pub specs: BTreeSet<limpet_protocol::id::SpecHash>,
    /// The ports of the node that lead to its instances there.
    pub host_ports: Vec<PublishedPort>,
}
