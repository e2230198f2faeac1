//! The ports of a service. The short syntax was made long before.

use std::net::IpAddr;

use limpet_protocol::spec::PublishedPort;

use super::reader::Reader;
use crate::node::Node;

/// Ports of one service: more than a board can serve.
const MAX_PORTS: usize = 1024;

pub(super) fn ports(reader: &mut Reader) -> Vec<PublishedPort> {
    let items = reader.items("ports");
    if let Some(item) = items.get(MAX_PORTS) {
        reader.at("ports").fail(item, format!("more than {MAX_PORTS} ports"));
    }
    let mut found = vec![];
    for (index, item) in items.iter().take(MAX_PORTS).enumerate() {
        let path = format!("ports[{index}]");
        match port(item) {
            Ok(port) => found.extend(port),
            Err((at, message, advice)) => reader.at(&path).refuse(at, message, advice),
        }
    }
    found
}

type Wrong<'a> = (&'a Node, String, &'static str);

/// One port; none for a protocol that no socket of ours has.
fn port(item: &Node) -> Result<Option<PublishedPort>, Wrong<'_>> {
    let text = |key: &str| item.get(key).and_then(Node::scalar);
    let udp = match text("protocol").unwrap_or("tcp") {
        "tcp" => false,
        "udp" => true,
        // It is reported with the rest of the key.
        "sctp" => return Ok(None),
        other => return Err((item, format!("there is no protocol {other}"), "write tcp or udp")),
    };
    let host_mode = match text("mode").unwrap_or("ingress") {
        "ingress" => false,
        "host" => true,
        other => return Err((item, format!("there is no mode {other}"), "write ingress or host")),
    };
    let number = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
    let target = text("target").and_then(number);
    let Some(target) = target else {
        return Err((
            item,
            "`target` is no port from 1 to 65535".to_owned(),
            "name the container's port",
        ));
    };
    let published = match text("published").filter(|text| !text.is_empty() && *text != "0") {
        None => None,
        Some(text) => {
            let (first, last) = text.split_once('-').unwrap_or((text, text));
            let range = number(first).zip(number(last)).filter(|(first, last)| first <= last);
            let wrong =
                || (item, format!("{text:?} is no port and no range of ports"), "write 8080");
            Some(range.ok_or_else(wrong)?)
        }
    };
    let host_ip = text("host_ip").filter(|text| !text.is_empty()).map(str::to_owned);
    if let Some(address) = &host_ip
        && address.parse::<IpAddr>().is_err()
    {
        return Err((item, format!("{address:?} is no address"), "write an address of the node"));
    }
    Ok(Some(PublishedPort { target, published, host_ip, udp, host_mode }))
}
