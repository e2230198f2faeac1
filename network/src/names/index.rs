//! The index: every name with what it stands for, made once of a picture and asked often.

use core::net::IpAddr;
use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};

use limpet_protocol::id::{ApplicationName, InstanceId, NetworkName, ServiceName};
use limpet_protocol::network::Subnet;
use limpet_protocol::spec::EndpointMode;

use crate::picture::{Addresses, Attempt, Instance, Picture, Place, Service, ServiceKey};

/// All names of a picture.
#[derive(Debug, Clone, Default)]
pub struct Names {
    /// The containers of this node, which may ask.
    pub(super) askers: HashMap<IpAddr, Asker>,
    pub(super) services: Vec<NamedService>,
    pub(super) instances: Vec<NamedInstance>,
    /// By the name in lower case.
    pub(super) meanings: HashMap<String, Vec<Meaning>>,
    /// Who has an address.
    pub(super) owners: HashMap<IpAddr, Vec<Target>>,
    /// Ranges whose addresses nobody else knows the names of.
    pub(super) ours: Vec<Subnet>,
}

/// A network, by a number of this index alone: names are long, and an index has thousands of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct NetworkNumber(u32);

/// Networks, in the order of their numbers.
#[derive(Debug, Clone, Default)]
pub(super) struct NetworkSet(Vec<NetworkNumber>);

impl NetworkSet {
    pub(super) fn contains(&self, network: NetworkNumber) -> bool {
        self.0.binary_search(&network).is_ok()
    }

    pub(super) fn has_common(&self, other: &Self) -> bool {
        let (few, many) = if self.0.len() <= other.0.len() { (self, other) } else { (other, self) };
        few.0.iter().any(|network| many.contains(*network))
    }

    fn extend(&mut self, other: &Self) {
        self.0.extend_from_slice(&other.0);
        self.0.sort_unstable();
        self.0.dedup();
    }
}

/// The numbers that were given so far.
type Numbers<'a> = HashMap<&'a NetworkName, NetworkNumber>;

/// A container that asks. Where several share a network namespace they are one.
#[derive(Debug, Clone, Default)]
pub(super) struct Asker {
    pub(super) applications: BTreeSet<ApplicationName>,
    pub(super) networks: NetworkSet,
    pub(super) leads_outside: bool,
    pub(super) has_v6: bool,
    name_servers: Vec<IpAddr>,
}

#[derive(Debug, Clone)]
pub(super) struct NamedService {
    pub(super) key: ServiceKey,
    pub(super) mode: EndpointMode,
    pub(super) spread: bool,
    pub(super) virtual_address: Addresses,
    pub(super) networks: NetworkSet,
    /// Positions of its instances that are ready, the nearest first.
    pub(super) ready: Vec<usize>,
}

#[derive(Debug, Clone)]
pub(super) struct NamedInstance {
    pub(super) id: InstanceId,
    pub(super) attempt: u32,
    pub(super) addresses: Addresses,
    pub(super) networks: NetworkSet,
    pub(super) ready: bool,
    pub(super) distance: u8,
}

/// One thing that a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Meaning {
    pub(super) target: Target,
    /// Whose containers see it; an alias is known in one network only.
    pub(super) only_in: Option<NetworkNumber>,
    pub(super) rank: Rank,
}

/// By position in the lists of the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    /// A service as a whole.
    Service(usize),
    /// All its instances.
    Tasks(usize),
    /// One attempt of an instance.
    Instance(usize),
}

/// Of two things with one name that with the smaller rank is meant: what somebody wrote into a file
/// before what is put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    /// A service's name or alias.
    Given,
    /// A name of several parts.
    Composed,
    /// The host name of a container, which need not be unique.
    HostName,
}

/// Positions of the instances of each service that are ready.
type Ready<'a> = HashMap<(&'a ApplicationName, &'a ServiceName), Vec<usize>>;

impl Names {
    /// Makes the index.
    #[must_use]
    pub fn of(picture: &Picture) -> Self {
        let ours = vec![
            picture.pool,
            picture.pool6,
            picture.virtual_addresses,
            picture.virtual_addresses6,
        ];
        let mut names = Self { ours, ..Self::default() };
        let (mut ready, mut numbers) = (Ready::new(), Numbers::new());
        for (attempt, instance) in &picture.instances {
            if instance.ready {
                let key = (&attempt.0.application, &attempt.0.service);
                ready.entry(key).or_default().push(names.instances.len());
            }
            let networks = set_of(&mut numbers, &instance.networks);
            names.add_instance(attempt, instance, networks);
        }
        for (key, service) in &picture.services {
            let ready = ready.remove(&(&key.0, &key.1)).unwrap_or_default();
            names.add_service(key, service, (ready, &mut numbers));
        }
        names
    }

    /// The name servers that a container asks of its own, for what is not known here.
    #[must_use]
    pub fn name_servers(&self, asker: IpAddr) -> &[IpAddr] {
        self.askers.get(&asker).map_or(&[], |asker| &asker.name_servers)
    }

    fn add_instance(&mut self, attempt: &Attempt, instance: &Instance, networks: NetworkSet) {
        let target = Target::Instance(self.instances.len());
        let InstanceId { application, service, slot } = &attempt.0;
        for name in [
            format!("{service}.{slot}"),
            format!("{application}-{service}-{slot}"),
            format!("{application}.{service}.{slot}"),
        ] {
            self.add_meaning(name, Meaning { target, only_in: None, rank: Rank::Composed });
        }
        let meaning = Meaning { target, only_in: None, rank: Rank::HostName };
        self.add_meaning(instance.hostname.clone(), meaning);
        for address in all_of(&instance.addresses) {
            self.owners.entry(address).or_default().push(target);
            if let Place::Here(local) = &instance.place {
                let asker = self.askers.entry(address).or_default();
                asker.applications.insert(application.clone());
                asker.networks.extend(&networks);
                asker.leads_outside |= local.leads_outside;
                asker.name_servers.extend_from_slice(&local.name_servers);
                asker.has_v6 |= instance.addresses.v6.is_some();
            }
        }
        self.instances.push(NamedInstance {
            id: attempt.0.clone(),
            attempt: attempt.1,
            addresses: instance.addresses,
            networks,
            ready: instance.ready,
            distance: instance.place.distance(),
        });
    }

    fn add_service<'a>(
        &mut self,
        key: &ServiceKey,
        service: &'a Service,
        (mut ready, numbers): (Vec<usize>, &mut Numbers<'a>),
    ) {
        let position = self.services.len();
        let mut add = |name: &str, only_in: Option<NetworkNumber>, rank| {
            for (name, target) in [
                (name.to_owned(), Target::Service(position)),
                (format!("tasks.{name}"), Target::Tasks(position)),
            ] {
                self.add_meaning(name, Meaning { target, only_in, rank });
            }
        };
        let (application, name) = key;
        add(name.as_str(), None, Rank::Given);
        add(&format!("{name}.{application}"), None, Rank::Composed);
        for (network, aliases) in &service.networks {
            let number = number_of(numbers, network);
            for alias in aliases {
                add(alias, Some(number), Rank::Given);
            }
        }
        if service.mode == EndpointMode::Vip {
            for address in all_of(&service.virtual_address) {
                self.owners.entry(address).or_default().push(Target::Service(position));
            }
        }
        ready.sort_by_key(|at| self.instances[*at].distance);
        self.services.push(NamedService {
            key: key.clone(),
            mode: service.mode,
            spread: service.spread,
            virtual_address: service.virtual_address,
            networks: set_of(numbers, service.networks.keys()),
            ready,
        });
    }

    fn add_meaning(&mut self, mut name: String, meaning: Meaning) {
        name.make_ascii_lowercase();
        match self.meanings.entry(name) {
            Entry::Occupied(mut meanings) => meanings.get_mut().push(meaning),
            // Nearly all names have one.
            Entry::Vacant(place) => {
                place.insert(vec![meaning]);
            }
        }
    }
}

fn number_of<'a>(numbers: &mut Numbers<'a>, network: &'a NetworkName) -> NetworkNumber {
    let next = NetworkNumber(u32::try_from(numbers.len()).unwrap_or(u32::MAX));
    *numbers.entry(network).or_insert(next)
}

fn set_of<'a>(
    numbers: &mut Numbers<'a>,
    networks: impl IntoIterator<Item = &'a NetworkName>,
) -> NetworkSet {
    let mut set: Vec<_> = networks.into_iter().map(|it| number_of(numbers, it)).collect();
    set.sort_unstable();
    NetworkSet(set)
}

fn all_of(addresses: &Addresses) -> impl Iterator<Item = IpAddr> {
    core::iter::once(IpAddr::V4(addresses.v4)).chain(addresses.v6.map(IpAddr::V6))
}
