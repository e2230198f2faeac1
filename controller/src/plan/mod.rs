//! Deciding where instances run. No clock, no chance, no I/O: values in, values out.
//!
//! In: what is wanted of each service ([`Wanted`]), what each node is and how it stands ([`Node`]),
//! and what was placed before. Out: the nodes whose set of instances changed, each set, and for
//! every slot without a node the reason in plain words ([`Unplaced`]).
//!
//! The rules, in the order in which they win:
//! 1. What is placed and still fits stays where it is; running instances are never moved to make a
//!    nicer picture.
//! 2. An instance goes only where every filter lets it ([`filter`]): constraints, platform, free
//!    memory and CPU, `max_replicas_per_node`, most instances of a node, devices, ports, what people
//!    let it take.
//! 3. Among those: reachable nodes first, then the spread preferences, then fewest instances of the
//!    service, then fewest of all, then the name ([`place`]).
//! 4. A slot with named volumes goes back to the node where it first ran ([`homes`]).
//! 5. Who finds no room takes that of lower priorities ([`preempt`]).
//! 6. A drained node gives its instances a few at a time ([`moves`]).
//! 7. A service that shares the network of another is where that is ([`joins`]).
//! 8. A lost node keeps a slot only while no other node can take it, so that nothing is stopped in
//!    vain when the node comes back.
//!
//! [`Planner`] keeps indexes by node and by service, and the nodes that suit in the order of what
//! they run ([`index`]): the cost follows what changed.

mod books;
mod fill;
pub mod filter;
mod homes;
mod index;
pub mod joins;
mod keep;
mod moves;
mod place;
mod planner;
pub mod ports;
mod preempt;
pub mod progress;
mod read;
mod seat;

use std::collections::BTreeMap;
use std::fmt;

use limpet_protocol::application::{Mode, Placement, Service};
use limpet_protocol::assignment::UpdateOrder;
use limpet_protocol::id::{ApplicationName, InstanceId, NodeId, ServiceName, Slot, SpecHash};
use limpet_protocol::message::NodeFacts;
use limpet_protocol::scale::Per;
use limpet_protocol::spec::{Mount, MountSource};

use crate::store::records::Availability;

pub use moves::{Move, Stage};
pub use planner::{Changes, Planner};
pub use ports::PortClaim;
pub use progress::Ending;

/// A service of an application.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceKey {
    /// The application.
    pub application: ApplicationName,
    /// The service.
    pub service: ServiceName,
}

impl ServiceKey {
    /// The service of an instance.
    #[must_use]
    pub fn of(instance: &InstanceId) -> Self {
        let InstanceId { application, service, .. } = instance.clone();
        Self { application, service }
    }

    /// An instance of the service.
    #[must_use]
    pub fn instance(&self, slot: Slot) -> InstanceId {
        let Self { application, service } = self.clone();
        InstanceId { application, service, slot }
    }
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.application, self.service)
    }
}

/// What is wanted of a service, as far as placing it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// What each instance is.
    pub spec: SpecHash,
    /// How many.
    pub mode: Mode,
    /// Where they may run.
    pub placement: Placement,
    /// What each takes of a node.
    pub needs: Needs,
    /// The platform that the spec asks for, `os/arch[/variant]`.
    pub platform: Option<String>,
    /// People stopped it: it has no instances until it is started again.
    pub stopped: bool,
    /// Which ends of an instance are for good.
    pub ending: Ending,
    /// The greater is placed first, and in the place of the smaller where there is no room.
    pub priority: i32,
    /// Ports of its node that each takes.
    pub claims: Vec<PortClaim>,
    /// Devices that its node has to have.
    pub devices: Vec<String>,
    /// The named volumes that it mounts.
    pub volumes: Vec<String>,
    /// How it leaves a node that is drained.
    pub drain: Pace,
    /// The service whose network it shares: each slot is where the same slot of that is.
    pub joins: Option<ServiceKey>,
}

/// How instances leave a node that is drained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// How many of a service at a time; 0 is all at once.
    pub parallelism: u32,
    /// The new one is ready before the old one is stopped.
    pub start_first: bool,
}

impl Pace {
    pub(crate) fn at_once(self) -> usize {
        match self.parallelism {
            0 => usize::MAX,
            most => usize::try_from(most).unwrap_or(usize::MAX),
        }
    }
}

impl Wanted {
    /// So many of a spec, wherever there is a node.
    #[must_use]
    pub fn new(spec: SpecHash, mode: Mode) -> Self {
        Self {
            spec,
            mode,
            placement: Placement::default(),
            needs: Needs::default(),
            platform: None,
            stopped: false,
            ending: Ending::Never,
            priority: 0,
            claims: vec![],
            devices: vec![],
            volumes: vec![],
            drain: Pace { parallelism: 1, start_first: false },
            joins: None,
        }
    }

    /// What planning needs to know of a service whose spec has this hash.
    #[must_use]
    pub fn of(service: &Service, spec: SpecHash) -> Self {
        let resources = &service.spec.resources;
        Self {
            spec,
            mode: service.places(),
            placement: placement(service),
            needs: Needs {
                memory_bytes: resources.memory_reservation_bytes.unwrap_or(0).min(MOST_MEMORY),
                cpu_millis: resources.cpu_reservation_millis.unwrap_or(0),
                addresses: u32::from(!service.spec.network.networks.is_empty()),
            }
            .of_each_place(service),
            platform: service.spec.image.platform.clone(),
            stopped: service.stopped,
            ending: Ending::of(service),
            priority: service.priority,
            claims: PortClaim::of(service),
            devices: service.spec.devices.iter().map(|device| device.host_path.clone()).collect(),
            volumes: volumes(service),
            drain: Pace {
                parallelism: service.update.parallelism,
                start_first: service.update.order == UpdateOrder::StartFirst,
            },
            joins: service.spec.network.joins.clone().map(|joined| ServiceKey {
                application: service.spec.application.clone(),
                service: joined,
            }),
        }
    }
}

impl Wanted {
    /// Whether its slots keep to the nodes where they first ran.
    #[must_use]
    pub fn has_home(&self) -> bool {
        !self.volumes.is_empty() && !self.placement.leaves_volumes && !self.mode.is_global()
    }
}

/// A service that is scaled on each node by itself is on a node once, and has there what it needs.
fn placement(service: &Service) -> Placement {
    let mut placement = service.placement.clone();
    if service.autoscale.as_ref().is_some_and(|policy| policy.per == Per::Node) {
        placement.max_replicas_per_node = Some(1);
    }
    placement
}

fn volumes(service: &Service) -> Vec<String> {
    let name = |mount: &Mount| match &mount.source {
        MountSource::Volume { name, .. } => Some(name.clone()),
        _ => None,
    };
    service.spec.mounts.iter().filter_map(name).collect()
}

/// A reservation above this fits nowhere anyway; below it, sums cannot overflow.
const MOST_MEMORY: u64 = 1 << 50;

/// What one instance takes of a node: its reservations.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Needs {
    /// Memory.
    pub memory_bytes: u64,
    /// CPU, in thousandths of one.
    pub cpu_millis: u32,
    /// Addresses of its part of the pool.
    pub addresses: u32,
}

impl Needs {
    /// What a place of a service takes that is scaled on each node by itself: room for the least that
    /// may run there, and addresses for the most.
    fn of_each_place(self, service: &Service) -> Self {
        let Some(policy) = service.autoscale.as_ref().filter(|policy| policy.per == Per::Node)
        else {
            return self;
        };
        let least = policy.min.max(1);
        Self {
            memory_bytes: self.memory_bytes.saturating_mul(least.into()).min(MOST_MEMORY),
            cpu_millis: self.cpu_millis.saturating_mul(least),
            addresses: self.addresses.saturating_mul(policy.max),
        }
    }
}

/// How a node stands, as far as the controller can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// Its link is up.
    Ready,
    /// Its link is down; it may be back at any moment and runs what it has.
    Unreachable,
    /// Its link was down for so long that its work is given to others.
    Lost,
}

impl Standing {
    /// As the lists show it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Unreachable => "unreachable",
            Self::Lost => "lost",
        }
    }
}

/// What a node is, as far as placing goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// How it stands.
    pub standing: Standing,
    /// Whether people let it have work.
    pub availability: Availability,
    /// What it said of itself.
    pub facts: NodeFacts,
    /// Its own labels and those that people gave it; the latter win.
    pub labels: BTreeMap<String, String>,
    /// How many instances there can have an address.
    pub addresses: usize,
}

impl Node {
    /// A node with the labels that people gave it over its own.
    #[must_use]
    pub fn of(facts: &NodeFacts, given: &BTreeMap<String, String>, standing: Standing) -> Self {
        let mut labels = facts.labels.clone();
        labels.extend(given.iter().map(|(key, value)| (key.clone(), value.clone())));
        let availability = Availability::default();
        Self { standing, availability, facts: facts.clone(), labels, addresses: usize::MAX }
    }
}

impl Usage {
    fn add(&mut self, needs: Needs) {
        self.memory_bytes = self.memory_bytes.saturating_add(needs.memory_bytes);
        self.cpu_millis = self.cpu_millis.saturating_add(u64::from(needs.cpu_millis));
        self.addresses = self.addresses.saturating_add(addresses(needs));
    }

    fn remove(&mut self, needs: Needs) {
        self.memory_bytes = self.memory_bytes.saturating_sub(needs.memory_bytes);
        self.cpu_millis = self.cpu_millis.saturating_sub(u64::from(needs.cpu_millis));
        self.addresses = self.addresses.saturating_sub(addresses(needs));
    }
}

fn addresses(needs: Needs) -> usize {
    usize::try_from(needs.addresses).unwrap_or(usize::MAX)
}

/// What is taken of a node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Reserved memory.
    pub memory_bytes: u64,
    /// Reserved CPU, in thousandths of one.
    pub cpu_millis: u64,
    /// Instances.
    pub instances: usize,
    /// Addresses that instances have.
    pub addresses: usize,
}

/// A slot that is not where it should be, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unplaced {
    /// Which slot.
    pub slot: Slot,
    /// The node it is about: the lost node that still has the slot, or the node on which the
    /// instance of a global service does not fit. None if no node has it.
    pub node: Option<NodeId>,
    /// Why, for a person to read.
    pub reason: String,
}

#[cfg(test)]
mod tests;
