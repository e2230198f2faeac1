//! What a peer is told, and what is believed of what it says. Deciding code.

use core::net::IpAddr;
use std::collections::BTreeSet;

use limpet_protocol::id::NetworkName;
use limpet_protocol::limits::MAX_INSTANCES_PER_NODE;
use limpet_protocol::network::{Neighbour, NeighbourInstance, Subnet};

use super::NeighbourPeer;

/// What a peer is told: the instances in networks that it takes part in, and of their networks only
/// those.
pub(super) fn told(own: &[NeighbourInstance], peer: &NeighbourPeer) -> Neighbour {
    let instances = own.iter().filter_map(|instance| in_common(instance.clone(), &peer.networks));
    Neighbour { instances: instances.collect() }
}

/// What is believed: instances in common networks, at addresses that are the peer's. An address in one of
/// the pools but in another subnet is another node's; outside the pools it is a fixed one, which may be
/// anywhere but where every node is itself.
pub(super) fn believed(said: &Neighbour, peer: &NeighbourPeer, pools: &[Subnet]) -> Neighbour {
    let may_have = |address: &IpAddr| {
        peer.subnets.iter().any(|subnet| subnet.contains(*address))
            || (is_unicast(*address) && !pools.iter().any(|pool| pool.contains(*address)))
    };
    let sound = |instance: &NeighbourInstance| {
        instance.addresses.iter().any(IpAddr::is_ipv4)
            && instance
                .addresses
                .iter()
                .all(|address| may_have(address) && *address != peer.gateway)
    };
    let common = said.instances.iter().filter(|instance| sound(instance));
    let common = common.filter_map(|instance| in_common(instance.clone(), &peer.networks));
    Neighbour { instances: common.take(MAX_INSTANCES_PER_NODE).collect() }
}

fn in_common(
    mut instance: NeighbourInstance,
    networks: &BTreeSet<NetworkName>,
) -> Option<NeighbourInstance> {
    instance.networks.retain(|network| networks.contains(network));
    (!instance.networks.is_empty()).then_some(instance)
}

fn is_unicast(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            !(v4.is_loopback()
                || v4.is_multicast()
                || v4.is_unspecified()
                || v4.is_broadcast()
                || v4.is_link_local())
        }
        IpAddr::V6(v6) => {
            !(v6.is_loopback()
                || v6.is_multicast()
                || v6.is_unspecified()
                || v6.is_unicast_link_local()
                || v6.to_ipv4_mapped().is_some())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(id: &str, addresses: &[&str], networks: &[&str]) -> NeighbourInstance {
        NeighbourInstance {
            instance: id.parse().unwrap(),
            attempt: 1,
            addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
            networks: networks.iter().map(|network| network.parse().unwrap()).collect(),
            hostname: None,
            ready: true,
        }
    }

    fn peer() -> NeighbourPeer {
        NeighbourPeer {
            gateway: "10.129.2.1".parse().unwrap(),
            subnets: vec!["10.129.2.0/24".parse().unwrap(), "fd00:0:0:2::/64".parse().unwrap()],
            networks: ["front", "back"].map(|network| network.parse().unwrap()).into(),
            near: true,
        }
    }

    #[test]
    fn a_peer_is_told_of_its_own_networks_only() {
        let own = [
            instance("shop.web.1", &["10.129.1.2"], &["front", "secret"]),
            instance("shop.db.1", &["10.129.1.3"], &["secret"]),
        ];
        let expected = [instance("shop.web.1", &["10.129.1.2"], &["front"])];
        assert_eq!(told(&own, &peer()).instances, expected);
    }

    #[test]
    fn only_a_peers_own_addresses_and_common_networks_are_believed() {
        let pools = ["10.128.0.0/10", "fd00::/48"].map(|pool| pool.parse().unwrap());
        let believes = |addresses: &[&str]| {
            let said = Neighbour { instances: vec![instance("s.w.1", addresses, &["front"])] };
            believed(&said, &peer(), &pools) == said
        };
        for sound in [
            &["10.129.2.7"][..],
            &["10.129.2.7", "fd00:0:0:2::7"],
            &["172.20.0.5"],
            &["10.129.2.7", "2001:db8::7"],
        ] {
            assert!(believes(sound), "{sound:?}");
        }
        for unsound in [
            // Another node's, a virtual address, the gateway, none at all, no IPv4.
            &["10.129.3.7"][..],
            &["10.128.0.7"],
            &["10.129.2.1"],
            &[],
            &["fd00:0:0:2::7"],
            &["10.129.2.7", "fd00:0:0:3::7"],
            &["127.0.0.1"],
            &["0.0.0.0"],
            &["224.0.0.1"],
            &["255.255.255.255"],
            &["169.254.0.7"],
            &["10.129.2.7", "::1"],
            &["10.129.2.7", "fe80::1"],
            &["10.129.2.7", "::ffff:127.0.0.1"],
        ] {
            assert!(!believes(unsound), "{unsound:?}");
        }
        let foreign = instance("s.w.1", &["10.129.2.7"], &["secret"]);
        let both = instance("s.w.2", &["10.129.2.8"], &["secret", "back"]);
        let said = Neighbour { instances: vec![foreign, both] };
        let expected = [instance("s.w.2", &["10.129.2.8"], &["back"])];
        assert_eq!(believed(&said, &peer(), &pools).instances, expected);
        let many =
            Neighbour { instances: vec![instance("s.w.1", &["10.129.2.7"], &["front"]); 1000] };
        assert_eq!(believed(&many, &peer(), &pools).instances.len(), MAX_INSTANCES_PER_NODE);
    }
}
