//! Ports: `[[ADDRESS:]PUBLISHED:]PORT[/PROTOCOL]`, each of the two a number or a range.

use crate::Diagnostic;
use crate::canonical::Spot;
use crate::limits::MAX_PORT_RANGE;
use crate::node::{Node, Value};

/// Expands the texts and numbers of a list; a range becomes one mapping a port.
pub(super) fn expand(node: &mut Node, spot: Spot) -> Result<(), Diagnostic> {
    let Value::Sequence(items) = &node.value else { return Ok(()) };
    let mut long = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let Some(text) = item.scalar().filter(|_| !matches!(item.value, Value::Bool(_))) else {
            let mut item = item.clone();
            defaults(&mut item);
            long.push(item);
            continue;
        };
        let path = format!("{}[{index}]", spot.path);
        let here = Spot { path: &path, ..spot };
        let ports = read(text).map_err(|why| {
            let message = format!("{text:?} is no port: {why}");
            here.fail(item, message).advice("write [[ADDRESS:]PUBLISHED:]PORT[/PROTOCOL]")
        })?;
        long.extend(ports.into_iter().map(|port| port.node(item)));
    }
    node.value = Value::Sequence(long);
    Ok(())
}

fn defaults(item: &mut Node) {
    for (key, value) in [("mode", "ingress"), ("protocol", "tcp")] {
        if item.as_mapping().is_some() && item.get(key).is_none_or(Node::is_null) {
            item.set(key, Value::Text(value.to_owned()));
        }
    }
}

struct Port {
    address: Option<String>,
    published: Option<String>,
    target: u32,
    protocol: String,
}

impl Port {
    fn node(self, item: &Node) -> Node {
        let mut entries = vec![
            ("mode", Value::Text("ingress".to_owned())),
            ("target", Value::Number(self.target.to_string())),
            ("protocol", Value::Text(self.protocol)),
        ];
        entries.extend(self.published.map(|published| ("published", Value::Text(published))));
        entries.extend(self.address.map(|address| ("host_ip", Value::Text(address))));
        Node::mapping_of(&item.place, entries)
    }
}

fn read(text: &str) -> Result<Vec<Port>, String> {
    let (rest, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    if !["tcp", "udp", "sctp"].contains(&protocol.as_str()) {
        return Err(format!("{protocol:?} is none of tcp, udp, sctp"));
    }
    let (rest, target) = rest.rsplit_once(':').map_or(("", rest), |(rest, last)| (rest, last));
    let (address, published) =
        rest.rsplit_once(':').map_or((None, rest), |(address, last)| (Some(address), last));
    let address = address.map(|text| text.trim_start_matches('[').trim_end_matches(']').to_owned());
    if let Some(address) = &address
        && address.parse::<std::net::IpAddr>().is_err()
        && !address.is_empty()
    {
        return Err(format!("{address:?} is no address"));
    }
    let address = address.filter(|address| !address.is_empty());
    let (first, last) = range(target)?;
    let targets = first..=last;
    let many = last - first;
    let published_range = if published.is_empty() { None } else { Some(range(published)?) };
    if let Some((low, high)) = published_range
        && many > 0
        && high - low != many
    {
        return Err("both ranges must have the same length".to_owned());
    }
    Ok(targets
        .map(|target| Port {
            address: address.clone(),
            published: published_range.map(|(low, _)| match many {
                0 => published.to_owned(),
                _ => (low + target - first).to_string(),
            }),
            target,
            protocol: protocol.clone(),
        })
        .collect())
}

fn range(text: &str) -> Result<(u32, u32), String> {
    let port = |text: &str| match text.parse::<u16>() {
        Ok(number) => Ok(u32::from(number)),
        Err(_) => Err(format!("{text:?} is not a number from 0 to 65535")),
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (port(first)?, port(last)?);
    if last < first {
        return Err(format!("{text:?} ends before it begins"));
    }
    if last - first >= MAX_PORT_RANGE {
        return Err(format!("{text:?} stands for more than {MAX_PORT_RANGE} ports"));
    }
    Ok((first, last))
}
