//! Ports of nodes as a fact of placing: who has which.
//!
//! A port with `mode: host`, and every port of a service in its node's own network, is taken on the
//! node of each instance: two instances with the same port, protocol and an overlapping address
//! exclude each other there, as in Kubernetes (`hostPort`, "NodePorts" filter) and SwarmKit
//! (`manager/scheduler/filter.go`, `HostPortFilter`). Of a range each instance takes the lowest port
//! that is free. An `ingress` port is one of the whole fleet: a second service with it is refused
//! when it is applied ([`fleet_ports`]), as SwarmKit's allocator does.

use core::net::IpAddr;
use std::collections::BTreeMap;

use limpet_protocol::application::Service;
use limpet_protocol::id::Slot;
use limpet_protocol::spec::NetworkMode;

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
        let claim = |port: &limpet_protocol::spec::PublishedPort| {
            let range = match (own_network, port.published) {
                // In the node's own network the container listens on its own port.
                (false, _) => (port.target, port.target),
                (true, Some(range)) if port.host_mode => range,
                (true, _) => return None,
            };
            let address = port.host_ip.as_deref().and_then(|text| text.parse::<IpAddr>().ok());
            let address = address.filter(|address| !address.is_unspecified());
            Some(Self { udp: port.udp, address, range })
        };
        service.spec.ports.iter().filter_map(claim).collect()
    }
}

/// A port number of one protocol: (UDP and not TCP, port).
pub type Port = (bool, u16);

/// As people write it.
#[must_use]
pub fn port_text((udp, port): Port) -> String {
    format!("{port}/{}", if udp { "udp" } else { "tcp" })
}

/// The ports that a service publishes on every node.
pub fn fleet_ports(service: &Service) -> impl Iterator<Item = Port> {
    let own_network = service.spec.network.mode != NetworkMode::Host;
    let ports = service.spec.ports.iter().filter(move |port| own_network && !port.host_mode);
    ports.filter_map(|port| match port.published {
        Some((first, last)) if first == last => Some((port.udp, first)),
        _ => None,
    })
}

/// On which address a port is taken, and by whom.
type Holder = (Option<IpAddr>, Option<(ServiceKey, Slot)>);

/// The ports that are taken on one node.
#[derive(Debug, Clone, Default)]
pub(super) struct Ports {
    taken: BTreeMap<Port, Vec<Holder>>,
}

impl Ports {
    /// Takes what an instance needs, all or nothing; whether it could.
    pub(super) fn take(&mut self, who: (&ServiceKey, Slot), claims: &[PortClaim]) -> bool {
        let taken = claims
            .iter()
            .try_for_each(|claim| self.take_one(claim, Some((who.0.clone(), who.1))).ok_or(()));
        if taken.is_err() {
            self.give_back(who);
        }
        taken.is_ok()
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

    fn take_one(&mut self, claim: &PortClaim, who: Option<(ServiceKey, Slot)>) -> Option<()> {
        let port = self.free_port(claim)?;
        self.taken.entry((claim.udp, port)).or_default().push((claim.address, who));
        Some(())
    }

    /// An instance is gone.
    pub(super) fn give_back(&mut self, (key, slot): (&ServiceKey, Slot)) {
        self.taken.retain(|_, holders| {
            holders
                .retain(|(_, who)| who.as_ref().is_none_or(|who| who.0 != *key || who.1 != slot));
            !holders.is_empty()
        });
    }

    fn free_port(&self, claim: &PortClaim) -> Option<u16> {
        let (first, last) = claim.range;
        (first..=last).find(|port| {
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
}
