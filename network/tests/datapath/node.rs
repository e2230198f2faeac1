//! A node: a namespace with a data path, containers, and a host outside.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::AsFd as _;

use limpet_network::addresses::{AddressBook, VirtualAddresses, Wish};
use limpet_network::datapath::{Applied, Attach, Datapath, Gateway};
use limpet_network::namespace::{Namespace, enter};
use limpet_network::picture::{
    Addresses, Attempt, Instance, Local, Picture, Place, Service, ServiceKey,
};
use limpet_network::rules::{Ground, Ruleset, SoleForwarder, ruleset};
use limpet_network::tag::Tag;
use limpet_protocol::id::{InstanceId, NetworkName, NodeId, Slot};
use limpet_protocol::network::Subnet;
use limpet_protocol::spec::{Bandwidth, EndpointMode, PublishedPort};

use crate::wire;

/// The node's address outside, and that of the other host there.
pub(crate) const OUTSIDE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
pub(crate) const STRANGER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
pub(crate) const OUTSIDE6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
pub(crate) const STRANGER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2);

pub(crate) fn subnet(text: &str) -> Subnet {
    text.parse().unwrap()
}

pub(crate) fn node_id(number: u8) -> NodeId {
    format!("node-{number}").parse().unwrap()
}

pub(crate) fn network(name: &str) -> NetworkName {
    name.parse().unwrap()
}

pub(crate) fn key(service: &str) -> ServiceKey {
    ("shop".parse().unwrap(), service.parse().unwrap())
}

pub(crate) fn attempt(service: &str, slot: u32) -> Attempt {
    let (application, service) = key(service);
    (InstanceId { application, service, slot: Slot(slot) }, 1)
}

/// A published port of the node.
pub(crate) fn port(published: u16, target: u16) -> PublishedPort {
    PublishedPort {
        target,
        published: Some((published, published)),
        host_ip: None,
        udp: false,
        host_mode: false,
    }
}

/// What a container is like.
#[derive(Debug, Clone)]
pub(crate) struct Kind {
    pub(crate) networks: Vec<&'static str>,
    pub(crate) leads_outside: bool,
    pub(crate) node_access: bool,
    pub(crate) six: bool,
    pub(crate) ready: bool,
    pub(crate) bandwidth: Bandwidth,
    pub(crate) fixed: Option<Ipv4Addr>,
}

impl Kind {
    /// On these networks, which lead outside.
    pub(crate) fn on(networks: &[&'static str]) -> Self {
        Self {
            networks: networks.to_vec(),
            leads_outside: true,
            node_access: false,
            six: false,
            ready: true,
            bandwidth: Bandwidth::default(),
            fixed: None,
        }
    }
}

/// A container: a namespace that sockets can be opened in.
pub(crate) struct Container {
    pub(crate) namespace: Namespace,
    pub(crate) addresses: Addresses,
    pub(crate) device: String,
}

impl Container {
    pub(crate) fn v4(&self) -> IpAddr {
        self.addresses.v4.into()
    }

    pub(crate) fn v6(&self) -> IpAddr {
        self.addresses.v6.unwrap().into()
    }
}

/// A node. The thread that makes it is in its namespace from then on.
pub(crate) struct Node {
    pub(crate) namespace: Namespace,
    pub(crate) outside: Namespace,
    pub(crate) datapath: Datapath,
    pub(crate) picture: Picture,
    pub(crate) ground: Ground,
    pub(crate) book: AddressBook,
    pub(crate) virtual_book: VirtualAddresses,
}

/// Whether namespaces can be made at all; says so if not.
pub(crate) fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("skipped: it takes root");
    }
    root
}

impl Node {
    /// A node, and one host outside.
    pub(crate) fn new() -> Self {
        Self::numbered(3)
    }

    /// One of several nodes, each with its part of the fleet's addresses.
    pub(crate) fn numbered(number: u8) -> Self {
        let namespace = Namespace::new().unwrap();
        enter(namespace.as_fd()).unwrap();
        let outside = Namespace::new().unwrap();
        wire::join((&namespace, wire::CABLE), (&outside, wire::CABLE));
        wire::address(wire::CABLE, OUTSIDE.into(), 24);
        wire::address(wire::CABLE, OUTSIDE6.into(), 64);
        outside
            .run(|| {
                wire::start("lo");
                wire::address(wire::CABLE, STRANGER.into(), 24);
                wire::address(wire::CABLE, STRANGER6.into(), 64);
                // Someone outside who knows the way to the containers.
                wire::route(Some(([10, 128, 0, 0].into(), 10)), OUTSIDE.into());
            })
            .unwrap();
        wire::route(None, STRANGER.into());
        let picture = picture(number);
        let tag = Tag::of(&node_id(number));
        let (mut datapath, lacks) = Datapath::open(tag).unwrap();
        assert!(lacks.is_empty(), "{lacks:?}");
        let sole_forwarder = datapath.set_gateway(&gateway(&picture)).unwrap();
        Self {
            namespace,
            outside,
            datapath,
            book: AddressBook::new(picture.subnet, picture.subnet6),
            virtual_book: VirtualAddresses::new(
                picture.virtual_addresses,
                picture.virtual_addresses6,
            ),
            picture,
            ground: Ground {
                tag,
                tunnel: None,
                neighbour_port: None,
                holding_port: None,
                sole_forwarder,
            },
        }
    }

    /// Runs an instance.
    pub(crate) fn container(&mut self, service: &str, slot: u32, kind: &Kind) -> Container {
        let owner = attempt(service, slot);
        let wish = Wish { six: kind.six, v4: kind.fixed, v6: None };
        let addresses = self.book.take(&owner, wish).unwrap();
        let prepared = self.datapath.prepare().unwrap();
        let attach = Attach {
            owner: owner.clone(),
            addresses,
            gateway: self.picture.gateway,
            bandwidth: kind.bandwidth,
        };
        let attached = self.datapath.attach(prepared, &attach).unwrap();
        let networks: BTreeSet<_> = kind.networks.iter().map(|name| network(name)).collect();
        let local = Local {
            device: attached.device.clone(),
            leads_outside: kind.leads_outside,
            node_access: kind.node_access,
            name_servers: vec![],
        };
        let instance = Instance {
            addresses,
            networks: networks.clone(),
            hostname: service.to_owned(),
            ready: kind.ready,
            place: Place::Here(local),
        };
        self.picture.instances.insert(owner, instance);
        self.service(service, &networks, vec![]);
        Container { namespace: attached.namespace.into(), addresses, device: attached.device }
    }

    /// Makes a service known, or gives it ports.
    pub(crate) fn service(
        &mut self,
        name: &str,
        networks: &BTreeSet<NetworkName>,
        ports: Vec<PublishedPort>,
    ) {
        let key = key(name);
        let mut keys: BTreeSet<_> = self.picture.services.keys().cloned().collect();
        keys.insert(key.clone());
        self.virtual_book.assign(&keys).unwrap();
        let virtual_address = self.virtual_book.of(&key).unwrap();
        let service = self.picture.services.entry(key).or_insert_with(|| Service {
            networks: BTreeMap::new(),
            virtual_address,
            mode: EndpointMode::Vip,
            spread: false,
            wakes: false,
            ports: vec![],
        });
        service.networks.extend(networks.iter().map(|network| (network.clone(), vec![])));
        service.ports.extend(ports);
    }

    /// Publishes ports of a service.
    pub(crate) fn publish(&mut self, service: &str, ports: Vec<PublishedPort>) {
        self.service(service, &BTreeSet::new(), ports);
    }

    /// Says whether an instance may get new connections.
    pub(crate) fn ready(&mut self, service: &str, slot: u32, ready: bool) {
        self.picture.instances.get_mut(&attempt(service, slot)).unwrap().ready = ready;
    }

    /// Forgets an instance.
    pub(crate) fn forget(&mut self, service: &str, slot: u32) {
        self.picture.instances.remove(&attempt(service, slot));
        self.book.give_back(&attempt(service, slot));
    }

    pub(crate) fn rules(&self) -> Ruleset {
        ruleset(&self.picture, &self.ground)
    }

    pub(crate) fn apply(&mut self) -> Applied {
        let rules = self.rules();
        self.datapath.apply(&rules).unwrap_or_else(|error| panic!("{error:?}\n{rules}"))
    }

    /// The address that stands for a service, with a port.
    pub(crate) fn virtual_address(&self, service: &str, port: u16) -> SocketAddr {
        let address = self.picture.services[&key(service)].virtual_address.v4;
        (address, port).into()
    }
}

/// What a node knows that knows nothing yet.
pub(crate) fn picture(number: u8) -> Picture {
    let subnet4 = subnet(&format!("10.129.{number}.0/24"));
    let subnet6 = subnet(&format!("fd00:1:0:{number}::/64"));
    let (Some(IpAddr::V4(v4)), Some(IpAddr::V6(v6))) = (subnet4.nth(1), subnet6.nth(1)) else {
        unreachable!("both have a first address")
    };
    Picture {
        pool: subnet("10.128.0.0/10"),
        pool6: subnet("fd00:1::/48"),
        subnet: subnet4,
        subnet6,
        gateway: Addresses { v4, v6: Some(v6) },
        virtual_addresses: subnet("10.128.0.0/16"),
        virtual_addresses6: subnet("fd00:1::/64"),
        services: BTreeMap::new(),
        instances: BTreeMap::new(),
        peers: BTreeMap::new(),
        guarded: BTreeSet::new(),
    }
}

pub(crate) fn gateway(picture: &Picture) -> Gateway {
    Gateway {
        addresses: picture.gateway,
        pool: picture.pool,
        pool6: picture.pool6,
        subnet: picture.subnet,
        subnet6: picture.subnet6,
        virtual_addresses: picture.virtual_addresses,
        virtual_addresses6: picture.virtual_addresses6,
    }
}

/// Nobody else forwards in a new namespace.
pub(crate) const SOLE: SoleForwarder = SoleForwarder { v4: true, v6: true };
