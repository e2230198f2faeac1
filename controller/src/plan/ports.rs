//! Ports of nodes as a fact of placing: who has which.
//!
//! A port with `mode: host`, and every port of a service in its node's own network, is taken on the
//! node of each instance: two instances with the same port, protocol and an overlapping address
//! exclude each other there, as in Kubernetes (`hostPort`, "NodePorts" filter) and SwarmKit
//! (`manager/scheduler/filter.go`, `HostPortFilter`). Of a range each instance takes the lowest port
//! that is free, and keeps it. An `ingress` port is one of the whole fleet: a second service with it is
//! refused when it is applied (`crate::claims`), as SwarmKit's allocator does.

use core::net::IpAddr;
use std::collections::{BTreeMap, BTreeSet};

use limpet_protocol::application::Service;
use limpet_protocol::id::Slot;
use limpet_protocol::spec::{NetworkMode, PublishedPort};

use super::ServiceKey;

/// A port of a node that each instance of a service takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PortClaim {
    /// UDP and not TCP.
    pub udp: bool,
    /// The address of the node; none is all of them.
    pub address: Option<IpAddr>,
    /// The first and the last port of which one is taken.
    pub range: (u16, u16),
}

impl PortClaim {
    /// What each instance of a service takes of its node.
    #[must_use]
    pub fn of(service: &Service) -> Vec<Self> {
        let own_network = service.spec.network.mode != NetworkMode::Host;
        let claim = |port: &PublishedPort| match own_network {
            true => Self::of_port(port),
            // In the node's own network the container listens on its own port.
            false => Some(Self { range: (port.target, port.target), ..Self::on_address(port) }),
        };
        service.spec.ports.iter().filter_map(claim).collect()
    }

    /// What a port of a service with a network of its own takes of the instance's node.
    #[must_use]
    pub fn of_port(port: &PublishedPort) -> Option<Self> {
        port.host_mode.then(|| Self::on_address(port))
    }

    fn on_address(port: &PublishedPort) -> Self {
        let address = port.host_ip.as_deref().and_then(|text| text.parse::<IpAddr>().ok());
        let address = address.filter(|address| !address.is_unspecified());
        Self { udp: port.udp, address, range: port.published.unwrap_or(ANY_PORT) }
    }

    /// Whether a port that was taken may have been taken for this.
    pub(super) fn covers(&self, taken: &Self) -> bool {
        self.udp == taken.udp
            && self.address == taken.address
            && self.range.0 <= taken.range.0
            && taken.range.1 <= self.range.1
    }
}

/// Where a port without a number of its own is taken from.
pub const ANY_PORT: (u16, u16) = (30_000, 32_767);

/// A port number of one protocol: (UDP and not TCP, port).
pub type Port = (bool, u16);

/// As people write it.
#[must_use]
pub fn port_text((udp, port): Port) -> String {
    format!("{port}/{}", if udp { "udp" } else { "tcp" })
}

/// Which claim of its service an instance took a port for.
type Claimant = (ServiceKey, Slot, usize);
/// On which address a port is taken, and by whom.
type Holder = (Option<IpAddr>, Option<Claimant>);

/// The ports that are taken on one node.
#[derive(Debug, Clone, Default)]
pub(super) struct Ports {
    taken: BTreeMap<Port, Vec<Holder>>,
    /// What instances had that were lifted while a plan is made: put back, they have the same again.
    had: BTreeMap<Claimant, u16>,
}

impl Ports {
    /// Takes what an instance needs, all or nothing; whether it could.
    pub(super) fn take(&mut self, who: (&ServiceKey, Slot), claims: &[PortClaim]) -> bool {
        let taken = claims.iter().enumerate().try_for_each(|(index, claim)| {
            self.take_one(claim, Some((who.0.clone(), who.1, index))).ok_or(())
        });
        if taken.is_err() {
            self.give_back(who);
        }
        taken.is_ok()
    }

    /// An instance had this port for a claim, as far as the node was told.
    pub(super) fn remember(&mut self, (key, slot): (&ServiceKey, Slot), claim: usize, port: u16) {
        self.had.insert((key.clone(), slot, claim), port);
    }

    /// Whether there is anything to forget.
    pub(super) fn remembers(&self) -> bool {
        !self.had.is_empty()
    }

    /// The plan is made: who has nothing now had nothing.
    pub(super) fn forget(&mut self) {
        self.had.clear();
    }

    /// What the instances of a service have: which claim, and the port.
    pub(super) fn of(&self, key: &ServiceKey) -> BTreeSet<(usize, u16)> {
        let mut found = BTreeSet::new();
        for ((_, port), holders) in &self.taken {
            let own = holders.iter().filter_map(|(_, who)| who.as_ref());
            found.extend(own.filter(|who| who.0 == *key).map(|who| (who.2, *port)));
        }
        found
    }

    /// The first port that is not free for one more instance.
    pub(super) fn lacks(&self, claims: &[PortClaim]) -> Option<Port> {
        if claims.is_empty() {
            return None;
        }
        // Two claims of one instance may want the same range: trying is the only way to know.
        let mut probe = self.clone();
        let lacking = claims.iter().find(|claim| probe.take_one(claim, None).is_none())?;
        Some((lacking.udp, lacking.range.0))
    }

    fn take_one(&mut self, claim: &PortClaim, who: Option<Claimant>) -> Option<()> {
        let had = who.as_ref().and_then(|who| self.had.get(who)).copied();
        let port = self.free_port(claim, had)?;
        self.taken.entry((claim.udp, port)).or_default().push((claim.address, who));
        Some(())
    }

    /// An instance is gone.
    pub(super) fn give_back(&mut self, (key, slot): (&ServiceKey, Slot)) {
        let had = &mut self.had;
        self.taken.retain(|(_, port), holders| {
            holders.retain(|(_, who)| {
                let own = who.as_ref().filter(|who| who.0 == *key && who.1 == slot);
                had.extend(own.map(|who| (who.clone(), *port)));
                own.is_none()
            });
            !holders.is_empty()
        });
    }

    /// The port that was had before, or the lowest that is free.
    fn free_port(&self, claim: &PortClaim, had: Option<u16>) -> Option<u16> {
        let (first, last) = claim.range;
        let had = had.filter(|port| (first..=last).contains(port));
        had.into_iter().chain(first..=last).find(|port| {
            let holders = self.taken.get(&(claim.udp, *port)).into_iter().flatten();
            !holders.into_iter().any(|(address, _)| overlap(*address, claim.address))
        })
    }
}

fn overlap(one: Option<IpAddr>, other: Option<IpAddr>) -> bool {
    one.is_none() || other.is_none() || one == other
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> ServiceKey {
        ServiceKey { application: "a".parse().unwrap(), service: name.parse().unwrap() }
    }

    fn claim(udp: bool, address: &str, range: (u16, u16)) -> PortClaim {
        PortClaim { udp, address: address.parse().ok(), range }
    }

    #[test]
    fn the_same_port_on_overlapping_addresses_excludes() {
        let held = claim(false, "10.0.0.1", (80, 80));
        let rows = [
            (claim(false, "10.0.0.1", (80, 80)), false),
            (claim(false, "", (80, 80)), false),
            (claim(false, "10.0.0.2", (80, 80)), true),
            (claim(true, "10.0.0.1", (80, 80)), true),
            (claim(false, "", (81, 81)), true),
            (claim(false, "", (80, 81)), true),
        ];
        for (wanted, fits) in rows {
            let mut ports = Ports::default();
            assert!(ports.take((&key("web"), Slot(1)), &[held]));
            assert_eq!(ports.lacks(&[wanted]).is_none(), fits, "{wanted:?}");
            assert_eq!(ports.take((&key("db"), Slot(1)), &[wanted]), fits);
            ports.give_back((&key("web"), Slot(1)));
            assert_eq!(ports.lacks(&[held]), None, "what was taken is free again");
        }
    }

    #[test]
    fn of_a_range_each_takes_the_lowest_that_is_free() {
        let range = [claim(false, "", (8000, 8001)), claim(true, "", (53, 53))];
        let mut ports = Ports::default();
        assert!(ports.take((&key("web"), Slot(1)), &range[..1]));
        assert!(ports.take((&key("web"), Slot(2)), &range));
        assert_eq!(ports.lacks(&range), Some((false, 8000)));
        ports.give_back((&key("web"), Slot(1)));
        // All or nothing: the port of the range is given back when the other is taken.
        assert_eq!(ports.lacks(&range), Some((true, 53)));
        assert!(!ports.take((&key("web"), Slot(3)), &range));
        assert_eq!(ports.lacks(&range[..1]), None);
    }

    #[test]
    fn what_is_lifted_and_put_back_has_the_same_port_again() {
        let range = [claim(false, "", (8000, 8009))];
        let mut ports = Ports::default();
        for slot in [1, 2, 3] {
            assert!(ports.take((&key("web"), Slot(slot)), &range));
        }
        ports.give_back((&key("web"), Slot(1)));
        ports.give_back((&key("web"), Slot(3)));
        assert!(ports.take((&key("web"), Slot(3)), &range));
        assert_eq!(ports.of(&key("web")), [(0, 8001), (0, 8002)].into());
        ports.forget();
        ports.give_back((&key("web"), Slot(3)));
        ports.forget();
        assert!(ports.take((&key("web"), Slot(3)), &range));
        assert_eq!(ports.of(&key("web")), [(0, 8000), (0, 8001)].into(), "it is a new one");
        ports.remember((&key("web"), Slot(4)), 0, 8007);
        assert!(ports.take((&key("web"), Slot(4)), &range));
        assert_eq!(ports.of(&key("db")), BTreeSet::new());
        assert!(ports.of(&key("web")).contains(&(0, 8007)));
    }
}
