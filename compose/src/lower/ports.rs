//! The ports of a service, `ports` and `expose`. The short syntax was made long before.

use std::net::IpAddr;

use limpet_protocol::host_address;
use limpet_protocol::limits::MAX_PORTS_PER_SERVICE;
use limpet_protocol::spec::PublishedPort;

use super::network::{PortsAre, what_ports_are};
use super::reader::Reader;
use crate::node::Node;

pub(super) fn ports(reader: &mut Reader) -> Vec<PublishedPort> {
    expose(reader);
    let items = reader.items("ports");
    if let Some(item) = items.get(MAX_PORTS_PER_SERVICE) {
        reader.at("ports").fail(item, format!("more than {MAX_PORTS_PER_SERVICE} ports"));
    }
    if let (Some(node), Some((message, advice))) = (reader.get("ports"), in_vain(reader)) {
        reader.at("ports").warn(node, message, advice);
    }
    let mut found: Vec<PublishedPort> = vec![];
    for (index, item) in items.iter().take(MAX_PORTS_PER_SERVICE).enumerate() {
        let path = format!("ports[{index}]");
        match port(item) {
            Ok(port) if found.contains(&port) => {}
            Ok(port) => found.push(port),
            Err((at, message, advice)) => reader.at(&path).refuse(at, message, advice),
        }
    }
    found
}

fn in_vain(reader: &Reader) -> Option<(&'static str, &'static str)> {
    match what_ports_are(reader) {
        PortsAre::Forwarded => None,
        PortsAre::OfTheNode => {
            let message =
                "with `network_mode: host` the ports of the process are those of the node";
            Some((
                message,
                "what is written here only keeps others from the same ports: name them so",
            ))
        }
        PortsAre::InVain => {
            Some(("without a network nothing reaches them", "remove them, or `network_mode: none`"))
        }
    }
}

/// `expose`: services on a common network reach every port of each other, so there is nothing to do.
fn expose(reader: &mut Reader) {
    for (index, item) in reader.items("expose").iter().enumerate() {
        let text = item.scalar().unwrap_or_default();
        let (range, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let number = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
        let fits = number(first).zip(number(last)).is_some_and(|(first, last)| first <= last);
        if !fits || !["tcp", "udp", "sctp"].contains(&protocol) {
            let message = format!("expected a port such as 8080, found {text:?}");
            reader.at(&format!("expose[{index}]")).fail(item, message);
        }
    }
}

type Wrong<'a> = (&'a Node, String, &'static str);

fn port(item: &Node) -> Result<PublishedPort, Wrong<'_>> {
    let text = |key: &str| item.get(key).and_then(Node::scalar);
    let udp = match text("protocol").unwrap_or("tcp") {
        "tcp" => false,
        "udp" => true,
        "sctp" => {
            let message = "ports of sctp are not forwarded".to_owned();
            return Err((item, message, "use `network_mode: host`"));
        }
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
    if let Some(address) = &host_ip {
        let wrong = match address.parse::<IpAddr>() {
            Err(_) => Some("it is none".to_owned()),
            Ok(address) => host_address::check_bound(address).err().map(|error| error.to_string()),
        };
        if let Some(wrong) = wrong {
            let message = format!("{address:?} is no address of a node: {wrong}");
            return Err((item, message, "write an address of the node"));
        }
    }
    Ok(PublishedPort { target, published, host_ip, udp, host_mode })
}
