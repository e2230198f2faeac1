//! Names and name servers of a service's own: `extra_hosts`, `dns`, `dns_opt`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::super::reader::Reader;

/// The word for the node in `extra_hosts`. It stays in the spec: only the node knows its address.
const GATEWAY: &str = "host-gateway";

pub(super) fn extra_hosts(reader: &mut Reader, is_alone: bool) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for (index, item) in reader.items("extra_hosts").iter().enumerate() {
        let path = format!("extra_hosts[{index}]");
        let text = item.scalar().unwrap_or_default();
        let Some((name, address)) = text.split_once('=') else { continue };
        if address == GATEWAY {
            look_at_gateway(&mut reader.at(&path), item, is_alone);
        } else if name.is_empty() || address.parse::<IpAddr>().is_err() {
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

fn look_at_gateway(reader: &mut Reader, item: &crate::node::Node, is_alone: bool) {
    let on_node = reader.text("network_mode").as_deref() == Some("host");
    if is_alone {
        let message = "without a network there is no way to the node";
        reader.refuse(item, message, "remove it, or `network_mode: none`");
    } else if !on_node && reader.text(super::NODE_ACCESS).as_deref() != Some("true") {
        let message = "what listens on the node cannot be reached without leave";
        reader.warn(item, message, "give the service `x-node-access: true`");
    }
}

pub(super) fn resolver_options(reader: &mut Reader) -> Vec<String> {
    for (index, item) in reader.items("dns_opt").iter().enumerate() {
        let text = item.scalar().unwrap_or_default();
        if text.is_empty() || text.contains(char::is_whitespace) {
            let message = format!("expected an option such as ndots:1, found {text:?}");
            reader.at(&format!("dns_opt[{index}]")).fail(item, message);
        }
    }
    reader.texts("dns_opt")
}

pub(super) fn name_servers(reader: &mut Reader) -> Vec<String> {
    for (index, item) in reader.items("dns").iter().enumerate() {
        let text = item.scalar().unwrap_or_default();
        if text.parse::<IpAddr>().is_err() {
            let message = format!("expected an address, found {text:?}");
            reader.at(&format!("dns[{index}]")).fail(item, message);
        }
    }
    reader.texts("dns")
}
