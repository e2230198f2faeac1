//! The network of a container: its namespace, and the files that resolvers read.

use std::net::IpAddr;

use limpet_protocol::spec::{NetworkMode, Spec};
use serde_json::{Value, json};

use super::Unsupported;
use crate::runtime::ContainerNetwork;

/// Whether a container has a network namespace that no other container has.
pub(super) fn is_own(spec: &Spec) -> bool {
    spec.network.mode == NetworkMode::Isolated && spec.network.joins.is_none()
}

/// The namespace as the OCI runtime specification has it: a new one, one that is there, or none,
/// which is the node's.
pub(super) fn namespace(spec: &Spec, network: Option<&ContainerNetwork>) -> Option<Value> {
    match network {
        Some(network) => Some(json!({"type": "network", "path": network.namespace})),
        None => is_own(spec).then(|| json!({"type": "network"})),
    }
}

/// Content of `/etc/hosts`. The container's own name is its address, as Docker has it.
pub(super) fn hosts(
    spec: &Spec,
    hostname: &str,
    network: Option<&ContainerNetwork>,
) -> Result<String, Unsupported> {
    let mut text =
        String::from("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    let own: &[IpAddr] = network.map_or(&[], |network| &network.addresses);
    for address in own {
        line(&mut text, &address.to_string(), hostname);
    }
    if own.is_empty() {
        line(&mut text, "127.0.1.1", hostname);
    }
    for (name, address) in &spec.network.extra_hosts {
        let gateway = network.and_then(|it| it.gateway).map(|gateway| gateway.to_string());
        let address = match (address.as_str(), gateway) {
            ("host-gateway", Some(gateway)) => gateway,
            ("host-gateway", None) if spec.network.mode == NetworkMode::Host => {
                "127.0.0.1".to_owned()
            }
            ("host-gateway", None) => {
                return Err(Unsupported(format!(
                    "extra host {name} is the node (`host-gateway`), which a container without a \
                     network cannot reach; give the service a network, or `network_mode: host`"
                )));
            }
            (address, _) => address.to_owned(),
        };
        line(&mut text, &address, name);
    }
    Ok(text)
}

fn line(text: &mut String, address: &str, name: &str) {
    text.push_str(&format!("{address}\t{name}\n"));
}

/// Content of `/etc/resolv.conf`; none takes the node's own. In a network the node answers, and asks
/// the servers of the service for what it does not know.
pub(super) fn resolv_conf(spec: &Spec, network: Option<&ContainerNetwork>) -> Option<String> {
    if let Some(gateway) = network.and_then(|network| network.gateway) {
        return Some(format!("nameserver {gateway}\n"));
    }
    let servers = &spec.network.dns;
    (!servers.is_empty())
        .then(|| servers.iter().map(|server| format!("nameserver {server}\n")).collect())
}

/// Search domains. In a network the last is Limpet's own: without any, resolvers take what follows the
/// first dot of the host name for one (resolv.conf(5)), and a host name here is an instance's.
pub(super) fn search(spec: &Spec, network: Option<&ContainerNetwork>) -> String {
    let domains = spec.network.dns_search.iter().map(String::as_str);
    let own = network.and_then(|network| network.gateway).map(|_| limpet_network::names::DOMAIN);
    domains.chain(own).collect::<Vec<_>>().join(" ")
}
