//! What a node is told.

use std::collections::BTreeSet;

use limpet_protocol::id::{NetworkName, NodeId};
use limpet_protocol::network::{NetworkedService, NodeNetwork, Peer};

use super::fabric::{Fabric, Node};
use super::{MAX_ENDPOINTS, MAX_NETWORKED_SERVICES};
use crate::plan::ServiceKey;

impl Fabric {
    /// Whether a node has anything to do with networks: then it needs addresses.
    #[must_use]
    pub fn takes_part(&self, id: &NodeId) -> bool {
        let Some((_, node)) = self.find(id) else { return false };
        !node.networks.is_empty()
            || node.applications.iter().any(|name| {
                self.applications.get(name).is_some_and(|members| !members.services.is_empty())
            })
    }

    /// The network of a node; none if it takes no part, or has no addresses.
    #[must_use]
    pub fn picture(&self, id: &NodeId) -> Option<NodeNetwork> {
        let (place, node) = self.find(id)?;
        let number = node.card.as_ref()?.number;
        let services = self.services_of(node);
        if services.is_empty() {
            return None;
        }
        let peers = self.peers(place, node);
        let mut peers: Vec<Peer> =
            peers.filter_map(|(peer, near)| self.peer(node, peer, near)).collect();
        peers.sort_by(|a, b| a.node.cmp(&b.node));
        Some(NodeNetwork {
            pool: self.pool.v4(),
            subnet: self.pool.subnet(number)?,
            pool6: self.pool.v6(),
            subnet6: self.pool.subnet6(number)?,
            virtual_addresses: self.pool.virtual_addresses(),
            virtual_addresses6: self.pool.virtual_addresses6(),
            services,
            peers,
        })
    }

    fn services_of(&self, node: &Node) -> Vec<NetworkedService> {
        let needs = self.needs(node);
        let own = needs.iter().filter(|key| node.runs.contains_key(**key));
        let others = needs.iter().filter(|key| !node.runs.contains_key(**key));
        let mut keys: Vec<&ServiceKey> =
            own.chain(others).take(MAX_NETWORKED_SERVICES).copied().collect();
        keys.sort();
        keys.into_iter().filter_map(|key| self.service(node, key)).collect()
    }

    fn service(&self, node: &Node, key: &ServiceKey) -> Option<NetworkedService> {
        let sum = &self.services.get(key)?.sum;
        let forwards = node.applications.contains(&key.application);
        let ingress = sum.ingress.iter().filter(|_| forwards);
        let own = node.runs.get(key).into_iter().flat_map(|run| &run.host_ports);
        let networks = sum.networks.iter();
        Some(NetworkedService {
            application: key.application.clone(),
            service: key.service.clone(),
            networks: networks
                .map(|(name, aliases)| (name.clone(), aliases.iter().cloned().collect()))
                .collect(),
            mode: sum.mode,
            ports: ingress.chain(own).cloned().collect(),
        })
    }

    fn peer(&self, node: &Node, peer: &Node, same_site: bool) -> Option<Peer> {
        let card = peer.card.as_ref()?;
        let mesh = card.mesh.as_ref()?;
        // Who only forwards ports to it comes from its own gateway's address: that is not in here.
        let networks: BTreeSet<&NetworkName> = node.networks.intersection(&peer.networks).collect();
        Some(Peer {
            node: peer.id.clone(),
            key: mesh.key.clone(),
            endpoints: mesh.endpoints.iter().take(MAX_ENDPOINTS).copied().collect(),
            subnet: self.pool.subnet(card.number)?,
            subnet6: self.pool.subnet6(card.number)?,
            same_site,
            networks: networks.into_iter().cloned().collect(),
        })
    }
}
