//! Who has which address and what each may reach.
//!
//! A container that shares the namespace of another has its address: such instances are one here, and
//! may do what any of them may.

use core::net::IpAddr;
use std::collections::{BTreeMap, BTreeSet};

use limpet_protocol::id::NetworkName;

use super::Family;
use crate::picture::{Picture, Place};

/// How far what has an address reaches, beyond its networks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reach {
    /// Not at all.
    #[default]
    Inside,
    /// To the outside, but not where Limpet itself listens.
    Outside,
    /// To the outside wherever it is.
    Everywhere,
}

/// What may be done from an address: one chain says it for all addresses with the same rights.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rights {
    /// The networks of which others may be reached.
    pub(super) networks: BTreeSet<NetworkName>,
    /// What else may.
    pub(super) reach: Reach,
}

/// What is behind an address on this node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Container {
    /// The node's end of its device.
    pub(super) device: String,
    /// What it may.
    pub(super) rights: Rights,
    /// Whether it may reach the node itself.
    pub(super) node_access: bool,
}

/// All addresses.
#[derive(Debug, Default)]
pub(super) struct Members {
    /// Those on this node.
    pub(super) containers: BTreeMap<IpAddr, Container>,
    /// Those of other nodes that are outside of their nodes' subnets.
    pub(super) guests: BTreeMap<IpAddr, Rights>,
    /// The addresses in each network, here and elsewhere.
    pub(super) networks: BTreeMap<NetworkName, BTreeSet<IpAddr>>,
    /// All rights that anybody has, each with the name of its chain.
    pub(super) chains: BTreeMap<Rights, String>,
}

/// Finds out who is who.
pub(super) fn of(picture: &Picture) -> Members {
    let mut members = Members::default();
    for instance in picture.instances.values() {
        for address in [Family::V4, Family::V6]
            .into_iter()
            .filter_map(|f| Picture::address_of(&instance.addresses, f == Family::V6))
        {
            members.add(picture, address, instance);
        }
    }
    members.name_chains(picture);
    members
}

impl Members {
    fn add(&mut self, picture: &Picture, address: IpAddr, instance: &crate::picture::Instance) {
        for network in &instance.networks {
            self.networks.entry(network.clone()).or_default().insert(address);
        }
        let networks = instance.networks.iter().cloned();
        let Place::Here(local) = &instance.place else {
            let is_at_home = |peer: &crate::picture::Peer| {
                peer.subnet.contains(address) || peer.subnet6.contains(address)
            };
            if !picture.peers.values().any(is_at_home) {
                self.guests.entry(address).or_default().networks.extend(networks);
            }
            return;
        };
        let reach = match (local.leads_outside, local.node_access) {
            (false, _) => Reach::Inside,
            (true, false) => Reach::Outside,
            (true, true) => Reach::Everywhere,
        };
        let container = self.containers.entry(address).or_default();
        container.device.clone_from(&local.device);
        container.rights.networks.extend(networks);
        container.rights.reach = container.rights.reach.max(reach);
        container.node_access |= local.node_access;
    }

    /// Names the chain of each kind of rights: of containers, of guests, and of all that come from a
    /// peer's subnet.
    fn name_chains(&mut self, picture: &Picture) {
        let of_peers = picture.peers.values().map(|peer| Rights::within(&peer.networks));
        let all: BTreeSet<Rights> = self
            .containers
            .values()
            .map(|container| container.rights.clone())
            .chain(self.guests.values().cloned())
            .chain(of_peers)
            .collect();
        let name = |(number, rights)| (rights, format!("rights/{}", number + 1));
        self.chains = all.into_iter().enumerate().map(name).collect();
    }

    /// The name of the chain that says what may be done with these rights.
    pub(super) fn chain(&self, rights: &Rights) -> &str {
        self.chains.get(rights).map_or("refuse", String::as_str)
    }
}

impl Rights {
    /// To reach others in these networks and nothing else.
    pub(super) fn within(networks: &BTreeSet<NetworkName>) -> Self {
        Self { networks: networks.clone(), reach: Reach::Inside }
    }
}
