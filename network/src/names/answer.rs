//! What is answered: who sees what, and which of several things with one name is meant.

use core::net::IpAddr;

use limpet_protocol::spec::EndpointMode;

use super::index::{Asker, Meaning, NamedInstance, Names, NetworkNumber, Target};
use super::reverse::{self, Reverse};
use super::{Answer, DOMAIN, RecordKind};
use crate::picture::{Addresses, Picture};

impl Names {
    /// Answers one question of the container that has the address `from`. The name may be in any case
    /// and end with a dot; `turn` says which of several addresses comes first, so whoever counts it up
    /// spreads the connections.
    #[must_use]
    pub fn answer(&self, from: IpAddr, name: &str, kind: RecordKind, turn: u32) -> Answer {
        let Some(asker) = self.askers.get(&from) else { return Answer::Refused };
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        if let Some(reverse) = reverse::parse(&name) {
            return self.answer_reverse(asker, &reverse, kind);
        }
        let (inner, ours_alone) = match name.strip_suffix(DOMAIN) {
            Some("") => ("", true),
            Some(rest) => rest.strip_suffix('.').map_or((name.as_str(), false), |n| (n, true)),
            None => (name.as_str(), false),
        };
        let meant = self.meant(asker, inner);
        if meant.is_empty() {
            return unknown(asker, &name, ours_alone);
        }
        let mut addresses = self.addresses(asker, &meant, kind);
        if addresses.is_empty() {
            return Answer::NoData;
        }
        let turn = usize::try_from(turn).unwrap_or(0) % addresses.len();
        addresses.rotate_left(turn);
        Answer::Addresses(addresses)
    }

    /// What a name means to one who asks: of all that it sees by this name, what its own application
    /// has before what others have, then what ranks first.
    fn meant(&self, asker: &Asker, name: &str) -> Vec<Target> {
        let visible = || {
            let meanings = self.meanings.get(name).into_iter().flatten();
            meanings.filter(|meaning| self.sees(asker, meaning.target, meaning.only_in))
        };
        let order = |meaning: &Meaning| (self.is_foreign(asker, meaning.target), meaning.rank);
        let first = visible().map(order).min();
        visible().filter(|meaning| Some(order(meaning)) == first).map(|m| m.target).collect()
    }

    fn sees(&self, asker: &Asker, target: Target, only_in: Option<NetworkNumber>) -> bool {
        match (only_in, target) {
            (Some(network), _) => asker.networks.contains(network),
            (None, Target::Service(at) | Target::Tasks(at)) => {
                asker.networks.has_common(&self.services[at].networks)
            }
            (None, Target::Instance(at)) => asker.networks.has_common(&self.instances[at].networks),
        }
    }

    fn is_foreign(&self, asker: &Asker, target: Target) -> bool {
        let application = match target {
            Target::Service(at) | Target::Tasks(at) => &self.services[at].key.0,
            Target::Instance(at) => &self.instances[at].id.application,
        };
        !asker.applications.contains(application)
    }

    fn addresses(&self, asker: &Asker, meant: &[Target], kind: RecordKind) -> Vec<IpAddr> {
        let six = match kind {
            RecordKind::A => false,
            // Who has no IPv6 address would only lose time with one.
            RecordKind::Aaaa if asker.has_v6 => true,
            _ => return vec![],
        };
        let mut found = Vec::new();
        let mut add = |addresses: &Addresses| {
            let address = Picture::address_of(addresses, six);
            // Containers that share a network namespace share an address.
            found.extend(address.filter(|address| !found.contains(address)));
        };
        for target in meant {
            match *target {
                Target::Service(at) if self.services[at].mode == EndpointMode::Vip => {
                    add(&self.services[at].virtual_address);
                }
                Target::Service(at) => {
                    let ready = self.ready(asker, at);
                    let nearest = ready.first().map(|instance| instance.distance);
                    let spread = self.services[at].spread;
                    let near = ready.iter().filter(|i| spread || Some(i.distance) == nearest);
                    near.for_each(|instance| add(&instance.addresses));
                }
                Target::Tasks(at) => {
                    self.ready(asker, at).iter().for_each(|instance| add(&instance.addresses));
                }
                Target::Instance(at) if self.stands_for_its_slot(at, meant) => {
                    add(&self.instances[at].addresses);
                }
                Target::Instance(_) => {}
            }
        }
        found
    }

    /// The instances of a service that are ready and that the asker reaches, the nearest first.
    fn ready(&self, asker: &Asker, service: usize) -> Vec<&NamedInstance> {
        let ready = self.services[service].ready.iter().map(|at| &self.instances[*at]);
        ready.filter(|instance| asker.networks.has_common(&instance.networks)).collect()
    }

    /// While one attempt of a slot takes the place of another, the name of the slot is the one's that is
    /// ready, and when both or none are, the newer one's.
    fn stands_for_its_slot(&self, at: usize, meant: &[Target]) -> bool {
        let worth = |instance: &NamedInstance| (instance.ready, instance.attempt);
        let this = &self.instances[at];
        meant.iter().all(|other| match *other {
            Target::Instance(other) => {
                let other = &self.instances[other];
                other.id != this.id || worth(other) <= worth(this)
            }
            Target::Service(_) | Target::Tasks(_) => true,
        })
    }

    fn answer_reverse(&self, asker: &Asker, reverse: &Reverse, kind: RecordKind) -> Answer {
        let elsewhere = if asker.leads_outside { Answer::Forward } else { Answer::NoSuchName };
        let Reverse::Address(address) = *reverse else { return elsewhere };
        let owners = self.owners.get(&address).into_iter().flatten();
        match owners.copied().find(|owner| self.sees(asker, *owner, None)) {
            Some(_) if kind != RecordKind::Ptr => Answer::NoData,
            Some(Target::Service(at) | Target::Tasks(at)) => {
                let (application, service) = &self.services[at].key;
                Answer::Name(format!("{service}.{application}.{DOMAIN}"))
            }
            Some(Target::Instance(at)) => {
                Answer::Name(format!("{}.{DOMAIN}", self.instances[at].id))
            }
            None if self.owners.contains_key(&address)
                || self.ours.iter().any(|subnet| subnet.contains(address)) =>
            {
                Answer::NoSuchName
            }
            None => elsewhere,
        }
    }
}

/// What is said of a name that means nothing here.
fn unknown(asker: &Asker, name: &str, ours_alone: bool) -> Answer {
    let last = name.rsplit('.').next().unwrap_or_default();
    // Other servers know no names of one label, and no top-level domain is a number (RFC 3696, section
    // 2): that is an instance that does not run. The root itself is asked for by servers, not for hosts.
    let local = !name.is_empty() && !name.contains('.');
    let numeric = !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit());
    if ours_alone || local || numeric || !asker.leads_outside {
        Answer::NoSuchName
    } else {
        Answer::Forward
    }
}
