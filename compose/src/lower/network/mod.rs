//! The network of a service: which networks it takes part in, or whose network it shares.
//!
//! - [`declared`]: the networks of the file.
//! - [`attached`]: how a service takes part in them.
//! - [`joined`]: `network_mode: service:NAME`, looked at when all services are known.
//! - [`links`]: further names that one service gives another, likewise.
//! - [`hosts`]: names and name servers of its own.
//!
//! | rule | source |
//! |---|---|
//! | without `network_mode` and `networks` a service takes part in the network `default` | Compose Specification, "networks" |
//! | `network_mode: service:NAME` excludes ports, networks, host name, name servers and links | Docker Engine, `runconfig/hostconfig_unix.go` (conflicts of container mode) |
//! | it also is a dependency, and a restart of the other is one of this | compose-go, `loader/normalize.go` |

mod attached;
mod declared;
mod hosts;
mod joined;
mod links;

use limpet_protocol::id::ServiceName;
use limpet_protocol::limits::MIN_BANDWIDTH_BYTES;
use limpet_protocol::spec::{Bandwidth, EndpointMode, Network, NetworkMode};

use super::reader::Reader;
use crate::canonical::join;
use crate::node::Node;
use crate::units;

pub(super) use attached::check_fixed;
pub(super) use declared::{Networks, declared};
pub(super) use joined::check_joins;
pub(super) use links::link;

const BANDWIDTH: &str = "x-bandwidth";
const NODE_ACCESS: &str = "x-node-access";

/// What `network_mode` says.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Way {
    /// The networks under `networks`, or the default one.
    Networks,
    /// The node's.
    Host,
    /// None but loopback.
    Nothing,
    /// That of another service's instance.
    Joins(ServiceName),
}

pub(super) fn network(reader: &mut Reader, networks: &Networks) -> Network {
    let way = way(reader);
    refuse_what_is_shared(reader, &way);
    let attached = match way {
        Way::Networks => attached::attachments(reader, networks),
        _ => std::collections::BTreeMap::new(),
    };
    Network {
        mode: if way == Way::Host { NetworkMode::Host } else { NetworkMode::Isolated },
        networks: attached,
        endpoint_mode: endpoint_mode(reader),
        bandwidth: bandwidth(reader, &way),
        node_access: node_access(reader, &way),
        extra_hosts: hosts::extra_hosts(reader, way == Way::Nothing),
        dns: hosts::name_servers(reader),
        dns_search: reader.texts("dns_search"),
        dns_opt: hosts::resolver_options(reader),
        joins: match way {
            Way::Joins(service) => Some(service),
            _ => None,
        },
    }
}

fn way(reader: &mut Reader) -> Way {
    const KEY: &str = "network_mode";
    let Some(node) = reader.get(KEY) else { return Way::Networks };
    let text = node.scalar().unwrap_or_default();
    if let Some(name) = text.strip_prefix("service:") {
        return match ServiceName::new(name) {
            Ok(name) => Way::Joins(name),
            Err(error) => {
                reader.at(KEY).fail(node, format!("{name:?} is no name of a service: {error}"));
                Way::Nothing
            }
        };
    }
    match text {
        "" | "bridge" | "default" => return Way::Networks,
        "host" => return Way::Host,
        "none" => {}
        _ if text.starts_with("container:") => reader.at(KEY).refuse(
            node,
            "a container that Limpet does not know cannot be joined",
            "make it a service of this file and write `network_mode: service:NAME`",
        ),
        _ => reader.at(KEY).refuse(
            node,
            format!("expected bridge, host, none or service:NAME, found {}", node.kind()),
            "name networks under `networks`",
        ),
    }
    Way::Nothing
}

/// Who shares the network of another cannot say how it is made.
fn refuse_what_is_shared(reader: &mut Reader, way: &Way) {
    const KEYS: [&str; 9] = [
        "ports",
        "hostname",
        "domainname",
        "dns",
        "dns_search",
        "dns_opt",
        "extra_hosts",
        "links",
        NODE_ACCESS,
    ];
    let Way::Joins(service) = way else { return };
    for key in KEYS {
        if let Some(node) = reader.get(key) {
            let message =
                format!("the service shares the network of `{service}`, which has its own");
            reader.at(key).refuse(node, message, &format!("say it of `{service}`"));
        }
    }
}

fn endpoint_mode(reader: &mut Reader) -> EndpointMode {
    const KEY: &str = "deploy.endpoint_mode";
    let Some(node) = reader.get(KEY) else { return EndpointMode::Vip };
    match node.scalar() {
        Some("dnsrr") => return EndpointMode::Dnsrr,
        Some("vip") => {}
        _ => {
            reader.at(KEY).fail(node, format!("expected vip or dnsrr, found {}", node.kind()));
        }
    }
    EndpointMode::Vip
}

/// `x-bandwidth: {ingress: 10m, egress: 1m}`: bytes a second, with the units of sizes.
fn bandwidth(reader: &mut Reader, way: &Way) -> Bandwidth {
    let Some(node) = reader.get(BANDWIDTH) else { return Bandwidth::default() };
    if *way != Way::Networks {
        let message = "the service has no network of its own that could be limited";
        reader.at(BANDWIDTH).refuse(node, message, "remove it, or `network_mode`");
    }
    let Some(mapping) = node.as_mapping() else {
        let message = format!("expected ingress and egress, found {}", node.kind());
        reader.at(BANDWIDTH).fail(node, message);
        return Bandwidth::default();
    };
    let mut found = Bandwidth::default();
    for (name, entry) in mapping {
        let path = join(BANDWIDTH, name);
        let part = match name.as_str() {
            "ingress" => &mut found.ingress,
            "egress" => &mut found.egress,
            _ => {
                let message = format!("unknown key `{name}`");
                reader.at(&path).refuse(&entry.node, message, "known are ingress, egress");
                continue;
            }
        };
        let bytes = entry.node.scalar().and_then(units::bytes);
        *part = bytes.filter(|bytes| *bytes >= MIN_BANDWIDTH_BYTES);
        if part.is_none() {
            let message = format!(
                "expected bytes a second, 1k at least, such as 10m, found {}",
                entry.node.kind()
            );
            reader.at(&path).fail(&entry.node, message);
        }
    }
    found
}

/// `x-node-access: true`.
fn node_access(reader: &mut Reader, way: &Way) -> bool {
    let Some(node) = reader.get(NODE_ACCESS) else { return false };
    let wanted = match node.scalar() {
        Some("true") => true,
        Some("false") => false,
        _ => {
            reader
                .at(NODE_ACCESS)
                .fail(node, format!("expected true or false, found {}", node.kind()));
            false
        }
    };
    match way {
        Way::Host if wanted => {
            let message = "with `network_mode: host` the service is on the node already";
            reader.at(NODE_ACCESS).warn(node, message, "remove it");
            false
        }
        Way::Nothing if wanted => {
            let message = "without a network there is no way to the node";
            reader.at(NODE_ACCESS).warn(node, message, "remove it, or `network_mode: none`");
            false
        }
        _ => wanted,
    }
}

pub(super) fn what_ports_are(reader: &Reader) -> PortsAre {
    match reader.get("network_mode").and_then(Node::scalar) {
        Some("host") => PortsAre::OfTheNode,
        Some("none") => PortsAre::InVain,
        _ => PortsAre::Forwarded,
    }
}

/// What becomes of the ports of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PortsAre {
    /// The process listens on the node itself.
    OfTheNode,
    /// Nothing can get there.
    InVain,
    /// The node forwards them.
    Forwarded,
}

#[cfg(test)]
mod tests;
