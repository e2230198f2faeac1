//! Tables of what is drawn of what is known.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use limpet_network::picture::{Addresses, Place};
use limpet_protocol::network::{Neighbour, NeighbourInstance, NetworkedService, NodeNetwork, Peer};
use limpet_protocol::spec::{Attachment, EndpointMode, ImageSource, Spec};

use super::draw::{Attached, Followed, Known, Traits, addresses, draw, told};
use super::node::Node;

fn network() -> NodeNetwork {
    let service = |application: &str, service: &str, network: &str| NetworkedService {
        application: application.parse().unwrap(),
        service: service.parse().unwrap(),
        networks: [(network.parse().unwrap(), vec![])].into(),
        mode: EndpointMode::Vip,
        ports: vec![],
    };
    let peer = |node: &str, subnet: &str, same_site| Peer {
        node: node.parse().unwrap(),
        key: vec![7; 32],
        endpoints: vec![],
        subnet: subnet.parse().unwrap(),
        subnet6: "fd00:0:0:9::/64".parse().unwrap(),
        same_site,
        networks: vec!["shop_back".parse().unwrap()],
    };
    NodeNetwork {
        pool: "10.128.0.0/10".parse().unwrap(),
        subnet: "10.129.0.0/24".parse().unwrap(),
        pool6: "fd00::/48".parse().unwrap(),
        subnet6: "fd00:0:0:1::/64".parse().unwrap(),
        virtual_addresses: "10.128.0.0/16".parse().unwrap(),
        virtual_addresses6: "fd00::/64".parse().unwrap(),
        services: vec![service("shop", "web", "shop_front"), service("shop", "db", "shop_back")],
        peers: vec![peer("near", "10.129.1.0/24", true), peer("far", "10.129.2.0/24", false)],
    }
}

fn attached(ready: bool) -> Attached {
    let mut spec =
        Spec::new("shop".parse().unwrap(), "web".parse().unwrap(), ImageSource::new("web"));
    let inside = Attachment { internal: true, ..Attachment::default() };
    spec.network.networks = [("shop_back".parse().unwrap(), inside)].into();
    spec.process.hostname = Some("shopfront".into());
    Attached {
        device: "lv0".into(),
        addresses: Addresses { v4: "10.129.0.2".parse().unwrap(), v6: None },
        traits: Some(Traits::of(&spec)),
        ready,
    }
}

fn db(slot: &str, address: &str) -> NeighbourInstance {
    NeighbourInstance {
        instance: slot.parse().unwrap(),
        attempt: 4,
        addresses: vec![address.parse().unwrap()],
        networks: vec!["shop_back".parse().unwrap()],
        hostname: None,
        ready: true,
    }
}

#[test]
fn the_picture_is_what_is_known() {
    let network = network();
    let here = [("shop.web.1.3".parse().unwrap(), attached(true))];
    let unknown = Attached { traits: None, ..attached(true) };
    let attached = here.into_iter().chain([("shop.old.1.1".parse().unwrap(), unknown)]).collect();
    let says = |instance| Neighbour { instances: vec![instance] };
    let neighbours = [
        ("near".parse().unwrap(), says(db("shop.db.1", "10.129.1.5"))),
        ("far".parse().unwrap(), says(db("shop.db.2", "10.129.2.5"))),
        ("stranger".parse().unwrap(), says(db("shop.db.3", "10.129.3.5"))),
    ];
    let web = ("shop".parse().unwrap(), "web".parse().unwrap());
    let virtual_address = Addresses { v4: "10.128.0.9".parse().unwrap(), v6: None };
    let picture = draw(&Known {
        network: &network,
        gateway: addresses(network.subnet, network.subnet6, 1).unwrap(),
        followed: &Followed::default(),
        attached: &attached,
        virtual_addresses: &BTreeMap::from([(web, virtual_address)]),
        neighbours: &BTreeMap::from(neighbours),
        guarded: &BTreeSet::new(),
    });
    assert_eq!(picture.gateway.v4.to_string(), "10.129.0.1");
    assert_eq!(picture.gateway.v6.unwrap().to_string(), "fd00:0:0:1::1");
    // A service without a virtual address is none that anybody can be led to.
    assert_eq!(picture.services.len(), 1);
    let names = picture.instances.iter().map(|((id, attempt), it)| (format!("{id}.{attempt}"), it));
    let instances: BTreeMap<_, _> = names.collect();
    let keys: Vec<_> = instances.keys().map(String::as_str).collect();
    assert_eq!(keys, ["shop.db.1.4", "shop.db.2.4", "shop.web.1.3"]);
    let Place::Here(local) = &instances["shop.web.1.3"].place else { panic!("it is here") };
    assert!(!local.leads_outside && !local.node_access);
    assert_eq!(instances["shop.web.1.3"].hostname, "shopfront");
    assert_eq!(instances["shop.db.1.4"].place, Place::Site("near".parse().unwrap()));
    assert_eq!(instances["shop.db.2.4"].place, Place::Far("far".parse().unwrap()));
    assert_eq!(instances["shop.db.1.4"].hostname, "shop.db.1");

    let [own]: [NeighbourInstance; 1] = told(&picture).instances.try_into().unwrap();
    assert_eq!(
        (own.instance.to_string().as_str(), own.attempt, own.ready),
        ("shop.web.1", 3, true)
    );
    assert_eq!(own.addresses, ["10.129.0.2".parse::<IpAddr>().unwrap()]);
    assert_eq!(own.hostname.as_deref(), Some("shopfront"));
}

#[test]
fn what_an_earlier_run_heard_counts_for_a_while() {
    let says = |slot: &str| Neighbour { instances: vec![db(slot, "10.129.1.5")] };
    let [near, far, stranger] = ["near", "far", "stranger"].map(|node| node.parse().unwrap());
    let said = [(near, says("shop.db.1")), (far, says("shop.db.2")), (stranger, says("shop.db.3"))];
    let mut node = Node::new(network(), &BTreeMap::new(), said.into());
    let known = |node: &Node| node.neighbours().keys().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(known(&node), ["far", "near"]);
    assert!(!node.doubt(1_000));
    assert_eq!(node.doubt_ends_ms(), Some(6_000));
    // Who says the same again is no news, and who says nothing is not known any more.
    assert!(!node.heard("near".parse().unwrap(), Some(says("shop.db.1"))));
    assert!(!node.doubt(5_999));
    assert!(node.doubt(6_000));
    let ready = |node: &Node| {
        let all = node.neighbours().values().flat_map(|it| &it.instances);
        all.filter(|it| it.ready).map(|it| it.instance.to_string()).collect::<Vec<_>>()
    };
    assert_eq!((ready(&node), node.doubt_ends_ms()), (vec!["shop.db.1".to_owned()], None));
    assert!(!node.doubt(7_000));
    // The connections of a peer that is silent are not cut: it is still known, and led to no more.
    assert!(node.heard("near".parse().unwrap(), None));
    assert!(!node.heard("near".parse().unwrap(), None));
    assert_eq!((known(&node).len(), ready(&node)), (2, vec![]));
    assert!(node.heard("near".parse().unwrap(), Some(says("shop.db.1"))));
    assert_eq!(ready(&node), ["shop.db.1"]);
}

#[test]
fn where_an_instance_is_now_counts_before_where_it_was_last_seen() {
    let network = network();
    let says = |ready, address| Neighbour {
        instances: vec![NeighbourInstance { ready, ..db("shop.db.1", address) }],
    };
    for (near, far) in [(true, false), (false, true)] {
        let neighbours = [
            ("near".parse().unwrap(), says(near, "10.129.1.5")),
            ("far".parse().unwrap(), says(far, "10.129.2.5")),
        ];
        let picture = draw(&Known {
            network: &network,
            gateway: addresses(network.subnet, network.subnet6, 1).unwrap(),
            followed: &Followed::default(),
            attached: &BTreeMap::new(),
            virtual_addresses: &BTreeMap::new(),
            neighbours: &BTreeMap::from(neighbours),
            guarded: &BTreeSet::new(),
        });
        let [instance]: [_; 1] =
            picture.instances.into_values().collect::<Vec<_>>().try_into().unwrap();
        assert_eq!((instance.ready, instance.place.distance()), (true, if near { 1 } else { 2 }));
    }
}
