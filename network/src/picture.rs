//! The picture: all that a node knows of services, instances and peers, as one value.
//!
//! The agent draws it anew whenever something changes; rules and names are made of it alone, so the
//! same picture always gives the same rules and the same answers.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::collections::{BTreeMap, BTreeSet};

use limpet_protocol::id::{ApplicationName, InstanceId, NetworkName, NodeId, ServiceName, Slot};
use limpet_protocol::network::Subnet;
use limpet_protocol::spec::{EndpointMode, PublishedPort};

/// A service of an application.
pub type ServiceKey = (ApplicationName, ServiceName);

/// One attempt of an instance: while a slot goes start-first to another spec, two of them run.
pub type Attempt = (InstanceId, u32);

/// An address of each family. The second is there only where a network asks for IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Addresses {
    /// The IPv4 address.
    pub v4: Ipv4Addr,
    /// The IPv6 address.
    pub v6: Option<Ipv6Addr>,
}

/// Everything that is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// The addresses of all containers of the fleet.
    pub pool: Subnet,
    /// The same for IPv6.
    pub pool6: Subnet,
    /// Those of this node's containers. A container with a fixed address is outside of it.
    pub subnet: Subnet,
    /// The same for IPv6.
    pub subnet6: Subnet,
    /// The node itself, as its containers see it: their gateway and name server. Forwarded connections
    /// from outside have this address when they leave for another node.
    pub gateway: Addresses,
    /// The range of virtual addresses.
    pub virtual_addresses: Subnet,
    /// The same for IPv6.
    pub virtual_addresses6: Subnet,
    /// The services that this node knows the names of.
    pub services: BTreeMap<ServiceKey, Service>,
    /// Their instances, here and elsewhere, as far as known.
    pub instances: BTreeMap<Attempt, Instance>,
    /// The other nodes that this one talks to.
    pub peers: BTreeMap<NodeId, Peer>,
    /// Where the broker and what else belongs to Limpet listens: containers do not get there unless
    /// their service has access to the node.
    pub guarded: BTreeSet<SocketAddr>,
}

/// What a service is called and how it is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Its networks, each with the further names that it has there.
    pub networks: BTreeMap<NetworkName, Vec<String>>,
    /// The virtual address; with [`EndpointMode::Dnsrr`] it has one too, which nobody is told.
    pub virtual_address: Addresses,
    /// What its name stands for.
    pub mode: EndpointMode,
    /// Connections go to all that are ready, and not to the nearest alone: what it has to do is shared by
    /// the whole fleet.
    pub spread: bool,
    /// A connection wakes it while it has no instance that is ready: it is held until there is one.
    pub wakes: bool,
    /// The ports of this node that lead to it.
    pub ports: Vec<PublishedPort>,
}

/// One instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// Its addresses.
    pub addresses: Addresses,
    /// The networks it takes part in.
    pub networks: BTreeSet<NetworkName>,
    /// Its host name.
    pub hostname: String,
    /// Whether it may get new connections.
    pub ready: bool,
    /// How far away it is.
    pub place: Place,
}

/// Where an instance is. The smaller is the nearer: names prefer it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// On this node.
    Here(Local),
    /// On a node of the same site.
    Site(NodeId),
    /// On any other node.
    Far(NodeId),
}

/// What is known of an instance on this node only.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Local {
    /// The node's end of the pair of devices that leads to it.
    pub device: String,
    /// Whether one of its networks leads outside.
    pub leads_outside: bool,
    /// Whether it may reach the node itself.
    pub node_access: bool,
    /// Which name servers are asked for what Limpet does not know; with none those of the node.
    pub name_servers: Vec<IpAddr>,
}

/// Another node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The addresses of its containers.
    pub subnet: Subnet,
    /// The same for IPv6.
    pub subnet6: Subnet,
    /// The networks that instances on it take part in.
    pub networks: BTreeSet<NetworkName>,
}

impl Place {
    /// How near, for comparing: 0 is this node.
    #[must_use]
    pub const fn distance(&self) -> u8 {
        match self {
            Self::Here(_) => 0,
            Self::Site(_) => 1,
            Self::Far(_) => 2,
        }
    }
}

impl Picture {
    /// The instances of a service, wherever they are.
    pub fn instances_of<'a>(
        &'a self,
        key: &'a ServiceKey,
    ) -> impl Iterator<Item = (&'a Attempt, &'a Instance)> {
        let first =
            InstanceId { application: key.0.clone(), service: key.1.clone(), slot: Slot(0) };
        self.instances
            .range((first, 0)..)
            .take_while(|((id, _), _)| id.application == key.0 && id.service == key.1)
    }

    /// The instances of a service that get new connections: of those that are ready the nearest, or all.
    #[must_use]
    pub fn endpoints<'a>(&'a self, key: &'a ServiceKey) -> Vec<(&'a Attempt, &'a Instance)> {
        if self.services.get(key).is_some_and(|service| service.spread) {
            return self.instances_of(key).filter(|(_, instance)| instance.ready).collect();
        }
        let ready = || self.instances_of(key).filter(|(_, instance)| instance.ready);
        let nearest = ready().map(|(_, instance)| instance.place.distance()).min();
        ready().filter(|(_, instance)| Some(instance.place.distance()) == nearest).collect()
    }

    /// The addresses of one family.
    #[must_use]
    pub fn address_of(addresses: &Addresses, six: bool) -> Option<IpAddr> {
        if six { addresses.v6.map(IpAddr::V6) } else { Some(IpAddr::V4(addresses.v4)) }
    }
}
