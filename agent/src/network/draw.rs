//! Draws the picture of what this node knows.
//!
//! In: what the controller said, which containers have a device, what the neighbours said. Out: the
//! [`Picture`] that rules and names are made of, and what the neighbours are told.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use limpet_network::picture::{
    Addresses, Attempt, Instance, Local, Peer, Picture, Place, Service, ServiceKey,
};
use limpet_protocol::assignment::Assignment;
use limpet_protocol::id::{NetworkName, NodeId};
use limpet_protocol::network::{Neighbour, NeighbourInstance, NodeNetwork, Subnet};
use limpet_protocol::scale::Per;
use limpet_protocol::spec::Spec;

use crate::runtime::ContainerId;

/// A container that has a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Attached {
    /// The node's end of it.
    pub(crate) device: String,
    /// Its addresses.
    pub(crate) addresses: Addresses,
    /// What its spec says of it; none while that is not known, after a restart of the agent.
    pub(crate) traits: Option<Traits>,
    /// Whether it may get new connections.
    pub(crate) ready: bool,
}

/// What a spec says of a container's network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Traits {
    networks: BTreeSet<NetworkName>,
    hostname: Option<String>,
    leads_outside: bool,
    node_access: bool,
    name_servers: Vec<IpAddr>,
}

impl Traits {
    /// Reads them.
    pub(crate) fn of(spec: &Spec) -> Self {
        let network = &spec.network;
        Self {
            networks: network.networks.keys().cloned().collect(),
            hostname: spec.process.hostname.clone(),
            leads_outside: network.networks.values().any(|it| !it.internal),
            node_access: network.node_access,
            name_servers: network.dns.iter().filter_map(|server| server.parse().ok()).collect(),
        }
    }
}

/// Services of this node whose number follows their load.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Followed {
    /// Their load is shared by the whole fleet.
    pub(crate) spread: BTreeSet<ServiceKey>,
    /// They may have no instance, and a connection brings one.
    pub(crate) wakes: BTreeSet<ServiceKey>,
}

impl Followed {
    pub(crate) fn of(assignment: &Assignment) -> Self {
        let mut followed = Self::default();
        for share in &assignment.services {
            let Some(scaling) = &share.scale else { continue };
            let key = (share.application.clone(), share.service.clone());
            if scaling.policy.min == 0 {
                followed.wakes.insert(key.clone());
            }
            if scaling.policy.per == Per::Application {
                followed.spread.insert(key);
            }
        }
        followed
    }
}

/// Everything that the picture is drawn of.
#[derive(Debug)]
pub(crate) struct Known<'a> {
    pub(crate) network: &'a NodeNetwork,
    pub(crate) gateway: Addresses,
    pub(crate) followed: &'a Followed,
    pub(crate) attached: &'a BTreeMap<ContainerId, Attached>,
    pub(crate) virtual_addresses: &'a BTreeMap<ServiceKey, Addresses>,
    pub(crate) neighbours: &'a BTreeMap<NodeId, Neighbour>,
    pub(crate) guarded: &'a BTreeSet<SocketAddr>,
}

/// The addresses of a node's subnets with a number; none past their end.
pub(crate) fn addresses(subnet: Subnet, subnet6: Subnet, number: u128) -> Option<Addresses> {
    match (subnet.nth(number)?, subnet6.nth(number)) {
        (IpAddr::V4(v4), Some(IpAddr::V6(v6))) => Some(Addresses { v4, v6: Some(v6) }),
        (IpAddr::V4(v4), _) => Some(Addresses { v4, v6: None }),
        (IpAddr::V6(_), _) => None,
    }
}

/// Draws the picture.
pub(crate) fn draw(known: &Known<'_>) -> Picture {
    let network = known.network;
    let mut instances: BTreeMap<Attempt, Instance> = known
        .attached
        .iter()
        .filter_map(|(id, attached)| {
            Some(((id.instance.clone(), id.attempt), local(id, attached)?))
        })
        .collect();
    for peer in &network.peers {
        let Some(neighbour) = known.neighbours.get(&peer.node) else { continue };
        let place = if peer.same_site {
            Place::Site(peer.node.clone())
        } else {
            Place::Far(peer.node.clone())
        };
        for told in &neighbour.instances {
            // What runs here is known better here.
            let key = (told.instance.clone(), told.attempt);
            let Some(instance) = remote(told, &place) else { continue };
            // Of a node that is silent it is not known what has become of it; it may be elsewhere now.
            let known = instances.get(&key);
            if known.is_none_or(|it| it.place.distance() > 0 && !it.ready && instance.ready) {
                instances.insert(key, instance);
            }
        }
    }
    Picture {
        pool: network.pool,
        pool6: network.pool6,
        subnet: network.subnet,
        subnet6: network.subnet6,
        gateway: known.gateway,
        virtual_addresses: network.virtual_addresses,
        virtual_addresses6: network.virtual_addresses6,
        services: services(known),
        instances,
        peers: network.peers.iter().map(|peer| (peer.node.clone(), peer_of(peer))).collect(),
        guarded: known.guarded.clone(),
    }
}

fn local(id: &ContainerId, attached: &Attached) -> Option<Instance> {
    let traits = attached.traits.as_ref()?;
    Some(Instance {
        addresses: attached.addresses,
        networks: traits.networks.clone(),
        hostname: traits.hostname.clone().unwrap_or_else(|| id.instance.to_string()),
        ready: attached.ready,
        place: Place::Here(Local {
            device: attached.device.clone(),
            leads_outside: traits.leads_outside,
            node_access: traits.node_access,
            name_servers: traits.name_servers.clone(),
        }),
    })
}

fn remote(told: &NeighbourInstance, place: &Place) -> Option<Instance> {
    let v4 = told.addresses.iter().find_map(|address| match address {
        IpAddr::V4(address) => Some(*address),
        IpAddr::V6(_) => None,
    })?;
    let v6 = told.addresses.iter().find_map(|address| match address {
        IpAddr::V6(address) => Some(*address),
        IpAddr::V4(_) => None,
    });
    Some(Instance {
        addresses: Addresses { v4, v6 },
        networks: told.networks.iter().cloned().collect(),
        hostname: told.hostname.clone().unwrap_or_else(|| told.instance.to_string()),
        ready: told.ready,
        place: place.clone(),
    })
}

fn services(known: &Known<'_>) -> BTreeMap<ServiceKey, Service> {
    let services = known.network.services.iter().filter_map(|service| {
        let key = (service.application.clone(), service.service.clone());
        let virtual_address = *known.virtual_addresses.get(&key)?;
        let service = Service {
            networks: service.networks.clone(),
            virtual_address,
            mode: service.mode,
            spread: known.followed.spread.contains(&key),
            wakes: known.followed.wakes.contains(&key),
            ports: service.ports.clone(),
        };
        Some((key, service))
    });
    services.collect()
}

fn peer_of(peer: &limpet_protocol::network::Peer) -> Peer {
    Peer {
        subnet: peer.subnet,
        subnet6: peer.subnet6,
        networks: peer.networks.iter().cloned().collect(),
    }
}

/// What other nodes are told: the instances on this one.
pub(crate) fn told(picture: &Picture) -> Neighbour {
    let here = picture.instances.iter().filter(|(_, it)| it.place.distance() == 0);
    let instances = here.map(|((id, attempt), instance)| NeighbourInstance {
        instance: id.clone(),
        attempt: *attempt,
        addresses: std::iter::once(IpAddr::V4(instance.addresses.v4))
            .chain(instance.addresses.v6.map(IpAddr::V6))
            .collect(),
        networks: instance.networks.iter().cloned().collect(),
        hostname: (instance.hostname != id.to_string()).then(|| instance.hostname.clone()),
        ready: instance.ready,
    });
    Neighbour { instances: instances.collect() }
}
