//! What only one service of the fleet can have: a port that every node forwards, a fixed address.
//!
//! In: an application as it was and as it is to be. Out: which port it gets of a range, and what the
//! store has to find unchanged and to write, in the same transaction as the application itself. So two
//! that are applied at the same moment cannot both have it: the second finds the first's claim, and is
//! told who has it.
//!
//! A port of a range is chosen once and then written into the application, as the digest of an image
//! is; what is applied again keeps it. Ports without a number are taken from 30000 to 32767, as Docker
//! Swarm (`manager/allocator/portallocator.go`) and Kubernetes (`--service-node-port-range`) do.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::IpAddr;

use limpet_protocol::application::{Application, Service};
use limpet_protocol::codec;
use limpet_protocol::id::{ApplicationName, ServiceName};
use limpet_protocol::spec::{NetworkMode, PublishedPort};

use crate::plan::ports::{ANY_PORT, Port, port_text};
use crate::store::records::{ApplicationRecord, ClaimRecord};
use crate::store::{
    CommitError, Compare, Key, Kind, MAX_OPS, MAX_VALUE_BYTES, Op, Store, StoreError, Transaction,
};

/// Why something cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClaimError {
    #[error(
        "services.{service}.spec.ports: port {} is published on every node by {owner} already: take \
         another, or `mode: host`",
        port_text(*port)
    )]
    Port { service: ServiceName, port: Port, owner: String },
    #[error(
        "services.{service}.spec.network: {address} is the address of {owner} already: take another"
    )]
    Address { service: ServiceName, address: IpAddr, owner: String },
    #[error(
        "services.{service}.spec.ports: every port from {} to {} is published on every node by others: \
         widen the range",
        range.0, range.1
    )]
    Full { service: ServiceName, range: (u16, u16) },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Something that one service has for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Claim {
    Port(Port),
    Address(IpAddr),
}

impl Claim {
    fn key(self) -> Key {
        Key::Claim(match self {
            Self::Port((udp, port)) => format!("{}-{port}", if udp { "udp" } else { "tcp" }),
            Self::Address(address) => address.to_string(),
        })
    }

    fn of_key(name: &str) -> Option<Self> {
        let port = |udp: bool, text: &str| Some(Self::Port((udp, text.parse().ok()?)));
        match name.split_once('-') {
            Some(("tcp", number)) => port(false, number),
            Some(("udp", number)) => port(true, number),
            _ => name.parse().ok().map(Self::Address),
        }
    }

    fn taken(self, service: &ServiceName, owner: &str) -> ClaimError {
        let (service, owner) = (service.clone(), owner.to_owned());
        match self {
            Self::Port(port) => ClaimError::Port { service, port, owner },
            Self::Address(address) => ClaimError::Address { service, address, owner },
        }
    }
}

fn ingress(service: &Service) -> impl Iterator<Item = &PublishedPort> {
    let own_network = service.spec.network.mode != NetworkMode::Host;
    service.spec.ports.iter().filter(move |port| own_network && !port.host_mode)
}

fn single(port: &PublishedPort) -> Option<Port> {
    port.published
        .filter(|(first, last)| first == last)
        .map(|(port_number, _)| (port.udp, port_number))
}

fn of_service(service: &Service) -> impl Iterator<Item = Claim> {
    let attachments = service.spec.network.networks.values();
    let addresses = attachments.flat_map(|it| {
        let v4 = it.ipv4_address.map(IpAddr::V4);
        v4.into_iter().chain(it.ipv6_address.map(IpAddr::V6))
    });
    let ports = ingress(service).filter_map(single).map(Claim::Port);
    ports.chain(addresses.map(Claim::Address))
}

/// Whatever an application claims, with the service that does.
fn of(application: &Application) -> Result<BTreeMap<Claim, ServiceName>, ClaimError> {
    let mut found = BTreeMap::new();
    for (name, service) in &application.services {
        for claim in of_service(service).collect::<BTreeSet<_>>() {
            if let Some(owner) = found.insert(claim, name.clone()) {
                return Err(claim.taken(name, &format!("{}.{owner}", application.name)));
            }
        }
    }
    Ok(found)
}

/// Whether no two services of an application want the same.
pub(crate) fn check(application: &Application) -> Result<(), ClaimError> {
    of(application).map(drop)
}

/// Gives every port of a range its number: the one that it has, or one that nobody has.
pub(crate) fn choose_ports(
    store: &Store,
    old: Option<&Application>,
    new: &mut Application,
) -> Result<(), ClaimError> {
    let open = |service: &Service| ingress(service).any(|port| single(port).is_none());
    if !new.services.values().any(open) {
        return Ok(());
    }
    let mut taken: BTreeSet<Port> =
        new.services.values().flat_map(ingress).filter_map(single).collect();
    for (key, entry) in store.list(Kind::Claim)?.1 {
        let record: Option<ClaimRecord> = codec::decode(&entry.value).ok();
        let others = record.is_none_or(|record| record.application != new.name);
        if let (true, Some(Claim::Port(port))) = (others, Claim::of_key(key.name())) {
            taken.insert(port);
        }
    }
    let application = new.name.clone();
    for (name, service) in &mut new.services {
        if service.spec.network.mode == NetworkMode::Host {
            continue;
        }
        let had = old.and_then(|old| old.services.get(name));
        let had: Vec<PublishedPort> = had.into_iter().flat_map(ingress).cloned().collect();
        for port in service.spec.ports.iter_mut().filter(|port| !port.host_mode) {
            if single(port).is_none() {
                let number = choose((&application, name), port, &had, &taken)?;
                taken.insert((port.udp, number));
                port.published = Some((number, number));
            }
        }
    }
    Ok(())
}

fn choose(
    (application, service): (&ApplicationName, &ServiceName),
    port: &PublishedPort,
    had: &[PublishedPort],
    taken: &BTreeSet<Port>,
) -> Result<u16, ClaimError> {
    let range = port.published.unwrap_or(ANY_PORT);
    let (first, last) = range;
    let is_free = |number: &u16| !taken.contains(&(port.udp, *number));
    let same = |other: &&PublishedPort| {
        (other.target, other.udp, &other.host_ip) == (port.target, port.udp, &port.host_ip)
    };
    let before = had.iter().filter(same).filter_map(single).map(|(_, number)| number);
    if let Some(number) = before.filter(|it| (first..=last).contains(it)).find(is_free) {
        return Ok(number);
    }
    // Where the search begins depends on who searches: those who apply at the same moment do not all
    // want the same.
    let mut hasher = DefaultHasher::new();
    (application.as_str(), service.as_str(), port.target).hash(&mut hasher);
    let count = u64::from(last.saturating_sub(first)) + 1;
    let offset = u16::try_from(hasher.finish() % count).unwrap_or_default();
    let begin = first.saturating_add(offset);
    let found = (begin..=last).chain(first..begin).find(is_free);
    found.ok_or_else(|| ClaimError::Full { service: service.clone(), range })
}

/// What belongs into the transaction that brings an application from one state to another.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Stakes {
    pub(crate) compare: Vec<Compare>,
    pub(crate) ops: Vec<Op>,
}

/// Claims what an application has from now on, and gives back what it has no more.
pub(crate) fn stake(
    store: &Store,
    old: Option<&Application>,
    new: Option<&Application>,
) -> Result<Stakes, ClaimError> {
    let mut stakes = Stakes::default();
    let new_claims = new.map(of).transpose()?.unwrap_or_default();
    if let Some(new) = new {
        for (claim, service) in &new_claims {
            stakes.take(store, *claim, (&new.name, service))?;
        }
    }
    let old_claims = old
        .into_iter()
        .flat_map(|old| old.services.values().flat_map(of_service).map(|claim| (claim, &old.name)));
    for (claim, application) in old_claims.collect::<BTreeMap<_, _>>() {
        if !new_claims.contains_key(&claim) {
            stakes.give_back(store, claim, application)?;
        }
    }
    Ok(stakes)
}

impl Stakes {
    fn take(
        &mut self,
        store: &Store,
        claim: Claim,
        (application, service): (&ApplicationName, &ServiceName),
    ) -> Result<(), ClaimError> {
        let key = claim.key();
        let record = ClaimRecord { application: application.clone(), service: service.clone() };
        let entry = store.get(&key)?;
        let modified = entry.as_ref().map(|entry| entry.modified);
        let found: Option<ClaimRecord> = entry.and_then(|it| codec::decode(&it.value).ok());
        if let Some(found) = found.as_ref().filter(|it| it.application != record.application) {
            let owner = format!("{}.{}", found.application, found.service);
            return Err(claim.taken(service, &owner));
        }
        self.compare.push(Compare { key: key.clone(), modified });
        if found.as_ref() != Some(&record) {
            let value = codec::encode(&record)
                .map_err(|_| StoreError::Undecodable { what: key.to_string() })?;
            self.ops.push(Op::Put(key, value));
        }
        Ok(())
    }

    fn give_back(
        &mut self,
        store: &Store,
        claim: Claim,
        application: &ApplicationName,
    ) -> Result<(), ClaimError> {
        let key = claim.key();
        let Some(entry) = store.get(&key)? else { return Ok(()) };
        let found: Option<ClaimRecord> = codec::decode(&entry.value).ok();
        if found.is_some_and(|found| found.application == *application) {
            self.compare.push(Compare { key: key.clone(), modified: Some(entry.modified) });
            self.ops.push(Op::Delete(key));
        }
        Ok(())
    }
}

/// Claims what applications have that were applied before there were claims.
pub(crate) async fn complete(store: &Store) -> Result<(), CommitError> {
    for (key, entry) in store.list(Kind::Application)?.1 {
        let record = codec::decode_within::<ApplicationRecord>(&entry.value, MAX_VALUE_BYTES);
        let Ok(record) = record else { continue };
        let stakes = match stake(store, None, Some(&record.application)) {
            Ok(stakes) => stakes,
            Err(ClaimError::Store(error)) => return Err(error.into()),
            Err(error) => {
                tracing::warn!(%key, %error, "two applications want the same");
                continue;
            }
        };
        let Stakes { mut compare, ops } = stakes;
        if ops.is_empty() || ops.len() > MAX_OPS {
            continue;
        }
        compare.push(Compare { key, modified: Some(entry.modified) });
        match store.commit(Transaction { compare, ops, if_revision: None }).await {
            Ok(_) | Err(CommitError::Conflict { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
