//! The network of a service.

use std::collections::BTreeMap;
use std::net::IpAddr;

use limpet_protocol::spec::{Network, NetworkMode};

use super::reader::Reader;

pub(super) fn network(reader: &mut Reader) -> Network {
    let mode = mode(reader);
    Network {
        mode,
        extra_hosts: extra_hosts(reader, mode),
        dns: name_servers(reader),
        dns_search: reader.texts("dns_search"),
        dns_opt: resolver_options(reader),
        ..Network::default()
    }
}

fn mode(reader: &mut Reader) -> NetworkMode {
    let Some(node) = reader.get("network_mode") else { return NetworkMode::Isolated };
    match node.scalar() {
        Some("host") => return NetworkMode::Host,
        Some("none") => {}
        Some("bridge" | "default") => reader.at("network_mode").warn(
            node,
            "the service has a network of its own with nothing but loopback in this version",
            "use `network_mode: host` to be reached and to reach others, or `none`",
        ),
        _ => reader.at("network_mode").refuse(
            node,
            format!("expected host, none or bridge, found {}", node.kind()),
            "networks of other containers cannot be joined in this version",
        ),
    }
    NetworkMode::Isolated
}

fn extra_hosts(reader: &mut Reader, mode: NetworkMode) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for (index, item) in reader.items("extra_hosts").iter().enumerate() {
        let path = format!("extra_hosts[{index}]");
        let text = item.scalar().unwrap_or_default();
        let Some((name, address)) = text.split_once('=') else { continue };
        let address = match (address, mode) {
            ("host-gateway", NetworkMode::Host) => "127.0.0.1",
            ("host-gateway", NetworkMode::Isolated) => {
                let message = "there is no way to the node without `network_mode: host`";
                reader.at(&path).refuse(item, message, "use `network_mode: host`");
                continue;
            }
            (address, _) => address,
        };
        if name.is_empty() || address.parse::<IpAddr>().is_err() {
            reader.at(&path).fail(item, format!("expected NAME=ADDRESS, found {text:?}"));
            continue;
        }
        if found.insert(name.to_owned(), address.to_owned()).is_some() {
            let message = format!("`{name}` has several addresses; the last one is used");
            reader.at(&path).warn(item, message, "keep one of them");
        }
    }
    found
}

fn resolver_options(reader: &mut Reader) -> Vec<String> {
    for (index, item) in reader.items("dns_opt").iter().enumerate() {
        let text = item.scalar().unwrap_or_default();
        if text.is_empty() || text.contains(char::is_whitespace) {
            let message = format!("expected an option such as ndots:1, found {text:?}");
            reader.at(&format!("dns_opt[{index}]")).fail(item, message);
        }
    }
    reader.texts("dns_opt")
}

fn name_servers(reader: &mut Reader) -> Vec<String> {
    for (index, item) in reader.items("dns").iter().enumerate() {
        let text = item.scalar().unwrap_or_default();
        if text.parse::<IpAddr>().is_err() {
            let message = format!("expected an address, found {text:?}");
            reader.at(&format!("dns[{index}]")).fail(item, message);
        }
    }
    reader.texts("dns")
}
