//! What the server under test knows.

use std::collections::BTreeMap;

use limpet_network::picture::{Addresses, Instance, Local, Picture, Place, Service};
use limpet_protocol::spec::EndpointMode;

/// A container that leads outside.
pub(super) const WEB: [u8; 4] = [127, 77, 0, 2];
/// One that does not.
pub(super) const INNER: [u8; 4] = [127, 77, 0, 9];

/// One that has a name server of its own, and that.
pub(super) const CHOOSY: [u8; 4] = [127, 77, 0, 3];
const OWN_SERVER: [u8; 4] = [127, 88, 0, 9];

fn local(leads_outside: bool) -> Local {
    Local { device: "lv".into(), leads_outside, node_access: false, name_servers: vec![] }
}

fn v4(address: [u8; 4]) -> Addresses {
    Addresses { v4: address.into(), v6: None }
}

/// An application with a web and as many workers as said, and one that leads nowhere.
pub(super) fn picture(workers: u8) -> Picture {
    let service = |network: &str, n, mode| Service {
        networks: [(network.parse().unwrap(), vec![])].into(),
        virtual_address: v4([10, 128, 0, n]),
        mode,
        spread: false,
        wakes: false,
        ports: vec![],
    };
    let instance = |address, network: &str, leads_outside| Instance {
        addresses: v4(address),
        networks: [network.parse().unwrap()].into(),
        hostname: "host".into(),
        ready: true,
        place: Place::Here(local(leads_outside)),
    };
    let key = |service: &str| ("shop".parse().unwrap(), service.parse().unwrap());
    let attempt = |id: &str| (id.parse().unwrap(), 1);
    let mut instances: BTreeMap<_, _> = [
        (attempt("shop.web.1"), instance(WEB, "net", true)),
        (attempt("shop.inner.1"), instance(INNER, "inner", false)),
    ]
    .into();
    let own = Local { name_servers: vec![OWN_SERVER.into()], ..local(true) };
    let own = Instance { place: Place::Here(own), ..instance(CHOOSY, "net", true) };
    instances.insert(attempt("shop.choosy.1"), own);
    for n in 0..workers {
        let worker = instance([127, 77, 1, n], "net", true);
        instances.insert(attempt(&format!("shop.worker.{}", n + 1)), worker);
    }
    Picture {
        pool: "127.64.0.0/10".parse().unwrap(),
        pool6: "fd00::/48".parse().unwrap(),
        subnet: "127.77.0.0/24".parse().unwrap(),
        subnet6: "fd00:0:0:1::/64".parse().unwrap(),
        gateway: v4([127, 77, 0, 1]),
        virtual_addresses: "10.128.0.0/16".parse().unwrap(),
        virtual_addresses6: "fd00::/64".parse().unwrap(),
        services: [
            (key("web"), service("net", 1, EndpointMode::Vip)),
            (key("worker"), service("net", 2, EndpointMode::Dnsrr)),
            (key("inner"), service("inner", 3, EndpointMode::Vip)),
        ]
        .into(),
        instances,
        peers: [].into(),
        guarded: [].into(),
    }
}
