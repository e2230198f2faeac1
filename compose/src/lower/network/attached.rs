//! How a service takes part in its networks: further names, and fixed addresses.
//!
//! An instance has one device with one address of each family, whatever the number of its networks; so a
//! service has one fixed address of each family at most, and only one instance with it.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::IpAddr;
use std::str::FromStr;

use limpet_protocol::application::{Application, Mode, Service};
use limpet_protocol::assignment::UpdateOrder;
use limpet_protocol::id::{NetworkName, ServiceName};
use limpet_protocol::limits::{MAX_ALIASES_PER_NETWORK, MAX_NETWORKS_PER_SERVICE};
use limpet_protocol::spec::Attachment;
use limpet_protocol::{dns_name, host_address};

use super::super::reader::Reader;
use super::declared::{DEFAULT, Declared, Networks};
use crate::diagnostic::Problems;
use crate::node::Node;
use crate::project::services;

const FIXED: [&str; 2] = ["ipv4_address", "ipv6_address"];

pub(super) fn attachments(
    reader: &mut Reader,
    networks: &Networks,
) -> BTreeMap<NetworkName, Attachment> {
    let mut found = BTreeMap::new();
    let named = reader.get("networks").and_then(Node::as_mapping).filter(|all| !all.is_empty());
    let Some(named) = named else {
        if let Some(network) = networks.get(DEFAULT) {
            found.insert(network.name.clone(), bare(network));
        }
        return found;
    };
    if named.len() > MAX_NETWORKS_PER_SERVICE {
        let message = format!(
            "{} networks, where a service may have {MAX_NETWORKS_PER_SERVICE}",
            named.len()
        );
        let node = reader.node;
        reader.at("networks").fail(node, message);
    }
    for (key, entry) in named.iter().take(MAX_NETWORKS_PER_SERVICE) {
        // A name that points nowhere, and a network with a fault, were found before.
        let Some(network) = networks.get(key) else { continue };
        let path = format!("networks.{key}");
        let attachment = attachment(&mut reader.at(&path), &entry.node, network);
        found.insert(network.name.clone(), attachment);
    }
    found
}

fn bare(network: &Declared) -> Attachment {
    let Declared { internal, ipv6, .. } = *network;
    Attachment { internal, ipv6, ..Attachment::default() }
}

fn attachment(reader: &mut Reader, node: &Node, network: &Declared) -> Attachment {
    let mut attachment = bare(network);
    attachment.ipv4_address = fixed(reader, node, network, FIXED[0]);
    attachment.ipv6_address = fixed(reader, node, network, FIXED[1]);
    if attachment.ipv6_address.is_some() && !network.ipv6 {
        let message = format!("the network {} has no IPv6", network.name);
        let at = node.get(FIXED[1]).unwrap_or(node);
        reader.at(FIXED[1]).refuse(at, message, "give the network `enable_ipv6: true`");
    }
    let aliases = node.get("aliases").and_then(Node::as_sequence).unwrap_or_default();
    if let Some(surplus) = aliases.get(MAX_ALIASES_PER_NETWORK) {
        let message = format!(
            "{} names, where a service may have {MAX_ALIASES_PER_NETWORK} in a network",
            aliases.len()
        );
        reader.at("aliases").fail(surplus, message);
    }
    for (index, item) in aliases.iter().take(MAX_ALIASES_PER_NETWORK).enumerate() {
        let alias = item.scalar().unwrap_or_default();
        if let Err(error) = dns_name::check(alias) {
            let message = format!("{alias:?} is no name for DNS: {error}");
            reader.at(&format!("aliases[{index}]")).fail(item, message);
        } else if !attachment.aliases.iter().any(|known| known == alias) {
            attachment.aliases.push(alias.to_owned());
        }
    }
    attachment
}

/// A fixed address: one that a single machine can have, in a subnet of the network.
fn fixed<A>(reader: &mut Reader, node: &Node, network: &Declared, key: &str) -> Option<A>
where
    A: FromStr + Copy + Display + Into<IpAddr>,
{
    let at = node.get(key).filter(|node| !node.is_null())?;
    let text = at.scalar().unwrap_or_default();
    let Ok(address) = text.parse::<A>() else {
        let message = format!("expected an {} address, found {}", family(key), at.kind());
        reader.at(key).fail(at, message);
        return None;
    };
    let ip: IpAddr = address.into();
    if let Err(error) = host_address::check(ip) {
        reader.at(key).fail(at, format!("{address} cannot be an instance's: {error}"));
        return None;
    }
    let unsaid = network.external && network.subnets.is_empty();
    if !unsaid && !network.subnets.iter().any(|subnet| subnet.contains(ip)) {
        let message = format!("{address} is in no subnet of the network {}", network.name);
        let advice = "give the network `ipam: {config: [{subnet: ADDRESS/BITS}]}` with it in";
        reader.at(key).refuse(at, message, advice);
        return None;
    }
    Some(address)
}

fn family(key: &str) -> &'static str {
    if key == FIXED[0] { "IPv4" } else { "IPv6" }
}

/// Who has which fixed address, of the services looked at so far.
type Owners = BTreeMap<IpAddr, ServiceName>;

/// Looks whether every fixed address has one owner at a time.
pub(crate) fn check_fixed(tree: &Node, application: &Application, problems: &mut Problems) {
    let mut owners = Owners::new();
    for (name, node) in services(tree) {
        let service = application.services.iter().find(|(it, _)| it.as_str() == name);
        let Some((name, service)) = service else { continue };
        let path = format!("services.{name}");
        let mut reader = Reader { node, path, problems: &mut *problems };
        check_service(&mut reader, (name, service), &mut owners);
    }
}

fn check_service(
    reader: &mut Reader,
    (name, service): (&ServiceName, &Service),
    owners: &mut Owners,
) {
    let networks = reader.get("networks").and_then(Node::as_mapping);
    let mut seen: [Option<IpAddr>; 2] = [None, None];
    for (key, entry) in networks.into_iter().flatten() {
        for (at, family) in FIXED.iter().enumerate() {
            let Some(node) = entry.node.get(family).filter(|node| !node.is_null()) else {
                continue;
            };
            let Some(address) = node.scalar().and_then(|text| text.parse().ok()) else { continue };
            let mut reader = reader.at(&format!("networks.{key}.{family}"));
            if seen[at].is_some_and(|other| other != address) {
                let message = "the service has another address in another network";
                let advice = "keep one: an instance has one device with one address of each family";
                reader.refuse(node, message, advice);
            }
            seen[at] = Some(address);
            let owner = owners.insert(address, name.clone());
            if let Some(owner) = owner.filter(|owner| owner != name) {
                let message = format!("{address} is the address of service `{owner}` already");
                reader.refuse(node, message, "take another");
            }
            let why = match service.mode {
                Mode::Replicated { replicas: 0 | 1 } => None,
                Mode::ReplicatedJob { parallelism: 1, .. } => None,
                _ => Some("several instances cannot have the same address"),
            };
            let first = service.update.order == UpdateOrder::StartFirst;
            let first = first.then_some("start-first needs two instances, and an address for each");
            if let Some(why) = why.or(first) {
                let advice = "remove the address, or have one instance that is stopped first";
                reader.refuse(node, why, advice);
            }
        }
    }
}
