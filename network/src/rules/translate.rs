//! Where connections are led: virtual addresses to instances, published ports to instances. And from
//! where they seem to come, so that the answer finds back.

use core::net::IpAddr;
use std::collections::BTreeSet;

use limpet_protocol::network::Subnet;
use limpet_protocol::spec::PublishedPort;

use super::filter::only;
use super::members::Members;
use super::{
    Direction, Drawing, Family, Field, Hook, Point, Set, Side, Statement, Transport, Value,
    of_family,
};
use crate::picture::{Instance, Picture, Place, Service, ServiceKey};

/// Where destinations and sources usually are translated (`NF_IP_PRI_NAT_DST` and `NF_IP_PRI_NAT_SRC`,
/// linux/netfilter_ipv4.h).
const DESTINATION: i32 = -100;
const SOURCE: i32 = 100;

/// What names of chains and rows begin with that lead to where connections are held.
pub(crate) const HELD: &str = "held/";

/// Draws all chains that translate.
pub(super) fn draw(drawing: &mut Drawing<'_>, members: &Members) {
    for family in drawing.families.clone() {
        let destination = Field::Destination(family);
        drawing.map(&of_family("services", family), &[destination]);
        drawing.map(&of_family("ports", family), &[Field::Transport, Field::Port]);
        let bound = [destination, Field::Transport, Field::Port];
        drawing.map(&of_family("bound-ports", family), &bound);
        drawing.set(&of_family("hairpin", family), &[Field::Source(family), destination]);
        drawing.set(&of_family("local", family), &[Field::Source(family)]);
    }
    for (key, service) in &drawing.picture.services {
        draw_service(drawing, key, service);
    }
    draw_destinations(drawing);
    draw_sources(drawing, members);
}

/// The addresses of one family that connections to a service are led to.
fn row<'a>(instances: impl Iterator<Item = &'a Instance>, family: Family) -> Vec<IpAddr> {
    let address = |i: &Instance| Picture::address_of(&i.addresses, family == Family::V6);
    let addresses: BTreeSet<IpAddr> = instances.filter_map(address).collect();
    addresses.into_iter().collect()
}

fn draw_service(drawing: &mut Drawing<'_>, key: &ServiceKey, service: &Service) {
    let name = format!("{}/{}", key.0, key.1);
    let endpoints = drawing.picture.endpoints(key);
    let instances = || endpoints.iter().map(|(_, instance)| *instance);
    let is_here = |instance: &&Instance| matches!(instance.place, Place::Here(_));
    let holding = drawing.ground.holding_port.filter(|_| service.wakes && endpoints.is_empty());
    if let Some(port) = holding {
        return draw_held(drawing, service, (&name, port));
    }
    for family in drawing.families.clone() {
        let all = row(instances(), family);
        let here = row(instances().filter(is_here), family);
        let six = family == Family::V6;
        if let Some(address) = Picture::address_of(&service.virtual_address, six)
            && !all.is_empty()
        {
            let chain = format!("service/{name}");
            let to = balance(drawing, &format!("endpoints/{name}"), family, &all, None);
            drawing.rule(&chain, [to]);
            drawing.lead(&of_family("services", family), vec![Value::Address(address)], &chain);
        }
        for port in &service.ports {
            let (kind, row) = if port.host_mode { ("here", &here) } else { ("endpoints", &all) };
            if !row.is_empty() {
                draw_port(drawing, (&name, kind), port, (family, row));
            }
        }
        draw_published(drawing, key, service, family);
    }
}

/// Nobody is ready: TCP connections go to where they are held.
fn draw_held(drawing: &mut Drawing<'_>, service: &Service, (name, port): (&str, u16)) {
    for family in drawing.families.clone() {
        let six = family == Family::V6;
        let Some(gateway) = Picture::address_of(&drawing.picture.gateway, six) else { continue };
        let chain = format!("{HELD}{name}");
        let tcp = Statement::Transport(Transport::Tcp);
        let to = balance(drawing, &chain, family, &[gateway], Some(port));
        drawing.rule(&chain, [tcp, to]);
        if let Some(address) = Picture::address_of(&service.virtual_address, six) {
            drawing.lead(&of_family("services", family), vec![Value::Address(address)], &chain);
        }
        for published in service.ports.iter().filter(|it| !it.udp && !it.host_mode) {
            let Some((number, _)) = published.published else { continue };
            let bound = published.host_ip.as_deref().map(str::parse::<IpAddr>);
            let key = vec![Value::Transport(Transport::Tcp), Value::Port(number)];
            match bound {
                Some(Ok(address)) if !address.is_unspecified() => {
                    if Family::of(address) == family {
                        let key = [vec![Value::Address(address)], key].concat();
                        drawing.lead(&of_family("bound-ports", family), key, &chain);
                    }
                }
                Some(Err(_)) => {}
                _ => drawing.lead(&of_family("ports", family), key, &chain),
            }
        }
    }
}

/// The statement that leads to a row, which is made if it is not there.
fn balance(
    drawing: &mut Drawing<'_>,
    name: &str,
    family: Family,
    addresses: &[IpAddr],
    port: Option<u16>,
) -> Statement {
    let row = of_family(name, family);
    let set = Set::Row(family, addresses.to_vec());
    drawing.rules.sets.entry(row.clone()).or_insert(set);
    let count = u32::try_from(addresses.len()).unwrap_or(u32::MAX);
    Statement::Balance { family, row, count, port }
}

/// A port of the node that leads to a service: of all its addresses, or of one.
fn draw_port(
    drawing: &mut Drawing<'_>,
    (name, kind): (&str, &str),
    port: &PublishedPort,
    (family, addresses): (Family, &[IpAddr]),
) {
    let Some((published, _)) = port.published else { return };
    let transport = if port.udp { Transport::Udp } else { Transport::Tcp };
    let key = vec![Value::Transport(transport), Value::Port(published)];
    let (map, key) = match port.host_ip.as_deref().map(str::parse::<IpAddr>) {
        None => ("ports", key),
        Some(Ok(any)) if any.is_unspecified() && Family::of(any) == family => ("ports", key),
        Some(Ok(bound)) if Family::of(bound) == family => {
            ("bound-ports", [vec![Value::Address(bound)], key].concat())
        }
        Some(_) => return,
    };
    let chain = format!("port/{name}/{kind}/{}", port.target);
    drawing.lead(&of_family(map, family), key, &chain);
    let to = balance(drawing, &format!("{kind}/{name}"), family, addresses, Some(port.target));
    let known = drawing.rules.chains.entry(chain).or_default();
    if !known.rules.contains(&vec![to.clone()]) {
        known.rules.push(vec![to]);
    }
}

/// What the gateways of other nodes may reach here: where their published ports lead to. Whether an
/// instance is ready, its node knows a little earlier.
fn draw_published(drawing: &mut Drawing<'_>, key: &ServiceKey, service: &Service, family: Family) {
    let set = of_family("published", family);
    if !drawing.rules.sets.contains_key(&set) {
        return;
    }
    let is_here = |instance: &&Instance| matches!(instance.place, Place::Here(_));
    let here = row(drawing.picture.instances_of(key).map(|(_, i)| i).filter(is_here), family);
    for port in service.ports.iter().filter(|port| !port.host_mode) {
        let transport = if port.udp { Transport::Udp } else { Transport::Tcp };
        for address in &here {
            let address = Value::Address(*address);
            let element = vec![address, Value::Transport(transport), Value::Port(port.target)];
            drawing.member(&set, element);
        }
    }
}

fn draw_destinations(drawing: &mut Drawing<'_>) {
    let point = |point| Hook { translates: true, point, priority: DESTINATION };
    drawing.hook("connections", point(Point::Prerouting));
    drawing.hook("own-connections", point(Point::Output));
    if let Some(from_tunnel) = drawing.tunnel(Direction::In, true) {
        drawing.rule("connections", [from_tunnel, Statement::Accept]);
    }
    // A port that is bound to 127.0.0.1 is for the node's own processes. Translated this early, a packet
    // of somebody else's would be gone on before the kernel finds out that it can be none of theirs.
    if let Some(loopback) = loopback_v4() {
        let to_loopback = Statement::Address(Side::Destination, loopback, true);
        drawing.rule("connections", [to_loopback, Statement::Accept]);
    }
    for family in drawing.families.clone() {
        let destination = Field::Destination(family);
        let services = Statement::Dispatch(vec![destination], of_family("services", family));
        let containers = drawing.containers(Direction::In, true);
        drawing.rule("connections", [containers, services.clone()]);
        drawing.rule("own-connections", [services]);
    }
    for chain in ["connections", "own-connections"] {
        drawing.rule(chain, [Statement::Goto("ports".into())]);
    }
    draw_ports(drawing);
}

/// Ports of the node. Virtual addresses and the gateway address have none: name server and neighbours
/// listen there. Of IPv6 neither has the loopback address, from which nothing can leave the node.
fn draw_ports(drawing: &mut Drawing<'_>) {
    for family in drawing.families.clone() {
        let range = drawing.virtual_range(family);
        let gateway = drawing.gateway(family);
        let loopback = only(IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]));
        let loopback = loopback.filter(|_| family == Family::V6);
        for range in [Some(range), gateway, loopback].into_iter().flatten() {
            let to = Statement::Address(Side::Destination, range, true);
            drawing.rule("ports", [to, Statement::Accept]);
        }
        let bound = vec![Field::Destination(family), Field::Transport, Field::Port];
        let bound = Statement::Dispatch(bound, of_family("bound-ports", family));
        drawing.rule("ports", [bound]);
        let any = vec![Field::Transport, Field::Port];
        let any = Statement::Dispatch(any, of_family("ports", family));
        drawing.rule("ports", [Statement::Family(family), Statement::OwnDestination, any]);
    }
}

/// The addresses of the loopback device (RFC 1122, 3.2.1.3).
fn loopback_v4() -> Option<Subnet> {
    Subnet::new(IpAddr::from([127, 0, 0, 0]), 8).ok()
}

fn draw_sources(drawing: &mut Drawing<'_>, members: &Members) {
    for address in members.containers.keys() {
        let family = Family::of(*address);
        let value = Value::Address(*address);
        drawing.member(&of_family("hairpin", family), vec![value.clone(), value.clone()]);
        drawing.member(&of_family("local", family), vec![value]);
    }
    let chain = "sources";
    drawing.hook(chain, Hook { translates: true, point: Point::Postrouting, priority: SOURCE });
    for family in drawing.families.clone() {
        let Some(gateway) = drawing.gateway(family) else { continue };
        let becomes_gateway = Statement::SourceBecomes(gateway.address());
        // Who reaches itself would answer itself, and the answer would not be translated back.
        let key = vec![Field::Source(family), Field::Destination(family)];
        let itself = Statement::In(key, of_family("hairpin", family));
        drawing.rule(chain, [itself, becomes_gateway.clone()]);
        // The other node has no way back but to this one.
        if let Some(to_tunnel) = drawing.tunnel(Direction::Out, true) {
            let range = drawing.virtual_range(family);
            let original = Statement::Address(Side::OriginalDestination, range, false);
            let published = [to_tunnel, Statement::Translated, original];
            drawing.rule(chain, published.into_iter().chain([becomes_gateway.clone()]));
        }
        if family == Family::V4
            && let Some(loopback) = loopback_v4()
        {
            let from = Statement::Address(Side::Source, loopback, true);
            let to = drawing.containers(Direction::Out, true);
            drawing.rule(chain, [from, to, becomes_gateway]);
        }
        let from = Statement::In(vec![Field::Source(family)], of_family("local", family));
        let mut rule = vec![from, drawing.containers(Direction::Out, false)];
        rule.extend(drawing.tunnel(Direction::Out, false));
        rule.push(Statement::Masquerade);
        drawing.rule(chain, rule);
    }
}
