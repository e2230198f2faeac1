//! What may pass: four ways a packet can take, and a chain for each end of them.

use core::net::IpAddr;

use limpet_protocol::network::Subnet;

use super::members::{Members, Reach, Rights};
use super::{
    Devices, Direction, Drawing, Family, Field, Hook, Point, Refusal, Side, Statement, Transport,
    Value, of_family,
};
use crate::tag::{CONTAINER_DEVICES, TUNNEL_DEVICES};

/// The chain that is there where nobody forwarded IPv4 packets before Limpet: that it is there is also
/// how an agent that starts again knows.
pub const OTHERS_V4: &str = "others/4";
/// The same for IPv6.
pub const OTHERS_V6: &str = "others/6";

/// Before connections are tracked (`NF_IP_PRI_RAW`, linux/netfilter_ipv4.h).
const RAW: i32 = -300;
/// Where filters usually are (`NF_IP_PRI_FILTER`).
const FILTER: i32 = 0;
/// Behind those.
const AFTER_FILTER: i32 = 10;
/// DNS (RFC 1035).
const DNS_PORT: u16 = 53;

/// Draws all chains that filter.
pub(super) fn draw(drawing: &mut Drawing<'_>, members: &Members) {
    draw_sets(drawing, members);
    draw_guard(drawing);
    draw_input(drawing);
    draw_output(drawing);
    draw_forward(drawing);
    draw_tunnel(drawing, members);
    draw_rights(drawing, members);
    draw_others(drawing);
}

fn filter(point: Point, priority: i32) -> Hook {
    Hook { translates: false, point, priority }
}

fn is(side: Side, range: Subnet) -> Statement {
    Statement::Address(side, range, true)
}

/// The range that is one address.
pub(super) fn only(address: IpAddr) -> Option<Subnet> {
    Subnet::new(address, if address.is_ipv4() { 32 } else { 128 }).ok()
}

fn draw_sets(drawing: &mut Drawing<'_>, members: &Members) {
    for family in drawing.families.clone() {
        let source = Field::Source(family);
        let destination = Field::Destination(family);
        drawing.set(&of_family("own", family), &[Field::InDevice, source]);
        drawing.set(&of_family("node-access", family), &[source]);
        drawing.set(&of_family("guarded", family), &[destination, Field::Transport, Field::Port]);
        drawing.map(&of_family("containers", family), &[source]);
        for network in members.networks.keys() {
            drawing.set(&of_family(&format!("network/{network}"), family), &[destination]);
        }
    }
    for (address, container) in &members.containers {
        let family = Family::of(*address);
        let value = Value::Address(*address);
        let own = vec![Value::Device(container.device.clone()), value.clone()];
        drawing.member(&of_family("own", family), own);
        if container.node_access {
            drawing.member(&of_family("node-access", family), vec![value.clone()]);
        }
        let chain = members.chain(&container.rights).to_owned();
        drawing.lead(&of_family("containers", family), vec![value], &chain);
    }
    for (network, addresses) in &members.networks {
        for address in addresses {
            let set = of_family(&format!("network/{network}"), Family::of(*address));
            drawing.member(&set, vec![Value::Address(*address)]);
        }
    }
    for guarded in &drawing.picture.guarded {
        for transport in [Transport::Tcp, Transport::Udp] {
            let element = vec![
                Value::Address(guarded.ip()),
                Value::Transport(transport),
                Value::Port(guarded.port()),
            ];
            drawing.member(&of_family("guarded", Family::of(guarded.ip())), element);
        }
    }
}

/// What comes from a container says truly from where, and is not for the node's loopback device.
fn draw_guard(drawing: &mut Drawing<'_>) {
    drawing.hook("guard", filter(Point::Prerouting, RAW));
    let from_container = drawing.containers(Direction::In, true);
    drawing.rule("guard", [from_container, Statement::Goto("guard/container".into())]);
    let loopback = [IpAddr::from([127, 0, 0, 0]), IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1])];
    for (address, prefix) in loopback.into_iter().zip([8, 128]) {
        if let Ok(range) = Subnet::new(address, prefix) {
            drawing.rule("guard/container", [is(Side::Destination, range), Statement::Drop]);
        }
    }
    for family in drawing.families.clone() {
        let key = vec![Field::InDevice, Field::Source(family)];
        let own = Statement::In(key, of_family("own", family));
        drawing.rule("guard/container", [own, Statement::Accept]);
    }
    drawing.rule("guard/container", [Statement::Drop]);
}

/// What containers and other nodes reach of the node itself.
fn draw_input(drawing: &mut Drawing<'_>) {
    drawing.hook("input", filter(Point::Input, FILTER));
    let from_container = drawing.containers(Direction::In, true);
    drawing.rule("input", [from_container, Statement::Goto("input/container".into())]);
    if let Some(from_tunnel) = drawing.tunnel(Direction::In, true) {
        drawing.rule("input", [from_tunnel, Statement::Goto("input/tunnel".into())]);
    }
    let chain = "input/container";
    drawing.rule(chain, [Statement::Established, Statement::Accept]);
    for family in drawing.families.clone() {
        let access = vec![Field::Source(family)];
        let access = Statement::In(access, of_family("node-access", family));
        drawing.rule(chain, [access, Statement::Accept]);
        let Some(gateway) = drawing.gateway(family) else { continue };
        for transport in [Transport::Udp, Transport::Tcp] {
            let transport = Statement::Transport(transport);
            let dns = [is(Side::Destination, gateway), transport, Statement::Port(DNS_PORT)];
            drawing.rule(chain, dns.into_iter().chain([Statement::Accept]));
        }
        let echo = Statement::EchoRequest(family);
        drawing.rule(chain, [is(Side::Destination, gateway), echo, Statement::Accept]);
        if let Some(port) = drawing.ground.holding_port.map(Statement::Port) {
            let tcp = Statement::Transport(Transport::Tcp);
            let held = [is(Side::Destination, gateway), tcp, port, Statement::Translated];
            drawing.rule(chain, held.into_iter().chain([Statement::Accept]));
        }
    }
    drawing.rule(chain, [Statement::Goto("closed".into())]);
    draw_closed(drawing);
}

/// Where nothing listens for who asks: the answer is the same as if nothing did.
fn draw_closed(drawing: &mut Drawing<'_>) {
    let tcp = Statement::Transport(Transport::Tcp);
    drawing.rule("closed", [tcp, Statement::Refuse(Refusal::Reset)]);
    drawing.rule("closed", [Statement::Refuse(Refusal::PortUnreachable)]);
}

/// A virtual address for which nobody is ready is the node's own and must not lead to its own services.
fn draw_output(drawing: &mut Drawing<'_>) {
    drawing.hook("output", filter(Point::Output, FILTER));
    for family in drawing.families.clone() {
        let range = drawing.virtual_range(family);
        let closed = Statement::Goto("closed".into());
        drawing.rule("output", [is(Side::Destination, range), closed]);
    }
}

/// What goes from one device to another.
fn draw_forward(drawing: &mut Drawing<'_>) {
    drawing.hook("forward", filter(Point::Forward, FILTER));
    // Who is not told by the routers between that packets are too long for the tunnel would wait.
    if let Some(to) = drawing.tunnel(Direction::Out, true) {
        drawing.rule("forward", [to, Statement::ClampSegments]);
    }
    drawing.rule("forward", [Statement::Established, Statement::Accept]);
    let goto = |chain: &str| Statement::Goto(chain.into());
    let from = drawing.containers(Direction::In, true);
    drawing.rule("forward", [from, goto("from-container")]);
    if let Some(from) = drawing.tunnel(Direction::In, true) {
        drawing.rule("forward", [from, goto("from-tunnel")]);
    }
    let to = drawing.containers(Direction::Out, true);
    drawing.rule("forward", [to, goto("from-outside")]);
    if let Some(to) = drawing.tunnel(Direction::Out, true) {
        drawing.rule("forward", [to, goto("from-outside")]);
    }
    drawing.rule("from-outside", [Statement::Translated, Statement::Accept]);
    drawing.rule("from-outside", [Statement::Drop]);
    // A packet of no connection would not be translated: the container's address would leave the node.
    drawing.rule("from-container", [Statement::Invalid, Statement::Drop]);
    for family in drawing.families.clone() {
        let key = vec![Field::Source(family)];
        let map = of_family("containers", family);
        drawing.rule("from-container", [Statement::Dispatch(key, map)]);
    }
    drawing.rule("from-container", [Statement::Drop]);
    drawing.rule("refuse", [Statement::Refuse(Refusal::Prohibited)]);
}

/// What comes from other nodes: from outside through their published ports, and from their containers.
fn draw_tunnel(drawing: &mut Drawing<'_>, members: &Members) {
    if drawing.ground.tunnel.is_none() {
        return;
    }
    let input = "input/tunnel";
    drawing.rule(input, [Statement::Established, Statement::Accept]);
    let chain = "from-tunnel";
    drawing.rule(chain, [Statement::Invalid, Statement::Drop]);
    let elsewhere = drawing.containers(Direction::Out, false);
    drawing.rule(chain, [elsewhere, Statement::Drop]);
    for family in drawing.families.clone() {
        let source = Field::Source(family);
        let target = vec![Field::Destination(family), Field::Transport, Field::Port];
        drawing.set(&of_family("gateways", family), &[source]);
        drawing.set(&of_family("published", family), &target);
        drawing.map(&of_family("guests", family), &[source]);
        let gateways = || Statement::In(vec![source], of_family("gateways", family));
        if let Some(gateway) = drawing.gateway(family) {
            let to_gateway = || is(Side::Destination, gateway);
            let tcp = Statement::Transport(Transport::Tcp);
            if let Some(port) = drawing.ground.neighbour_port.map(Statement::Port) {
                drawing.rule(input, [gateways(), to_gateway(), tcp, port, Statement::Accept]);
            }
            let echo = Statement::EchoRequest(family);
            drawing.rule(input, [to_gateway(), echo, Statement::Accept]);
        }
        let published = Statement::In(target, of_family("published", family));
        drawing.rule(chain, [gateways(), published, Statement::Accept]);
        drawing.rule(chain, [Statement::Dispatch(vec![source], of_family("guests", family))]);
    }
    drawing.rule(input, [Statement::Drop]);
    for (address, rights) in &members.guests {
        let map = of_family("guests", Family::of(*address));
        drawing.lead(&map, vec![Value::Address(*address)], members.chain(rights));
    }
    draw_peers(drawing, members);
    drawing.rule(chain, [Statement::Goto("refuse".into())]);
}

fn draw_peers(drawing: &mut Drawing<'_>, members: &Members) {
    for peer in drawing.picture.peers.values() {
        for subnet in [peer.subnet, peer.subnet6] {
            let family = Family::of(subnet.address());
            if !drawing.families.contains(&family) {
                continue;
            }
            if let Some(gateway) = subnet.nth(1) {
                let set = of_family("gateways", family);
                drawing.member(&set, vec![Value::Address(gateway)]);
            }
            let chain = members.chain(&Rights::within(&peer.networks)).to_owned();
            drawing.rule("from-tunnel", [is(Side::Source, subnet), Statement::Goto(chain)]);
        }
    }
}

/// What may be reached with each kind of rights.
fn draw_rights(drawing: &mut Drawing<'_>, members: &Members) {
    for (rights, chain) in &members.chains {
        for network in &rights.networks {
            for family in drawing.families.clone() {
                let set = of_family(&format!("network/{network}"), family);
                drawing.set(&set, &[Field::Destination(family)]);
                let member = Statement::In(vec![Field::Destination(family)], set);
                drawing.rule(chain, [member, Statement::Accept]);
            }
        }
        let next = match rights.reach {
            Reach::Inside => "refuse",
            Reach::Outside => "outside",
            Reach::Everywhere => "outside/everywhere",
        };
        drawing.rule(chain, [Statement::Goto(next.into())]);
    }
    draw_outside(drawing, "outside");
    for family in drawing.families.clone() {
        let key = vec![Field::Destination(family), Field::Transport, Field::Port];
        let guarded = Statement::In(key, of_family("guarded", family));
        drawing.rule("outside", [guarded, Statement::Goto("refuse".into())]);
    }
    drawing.rule("outside", [Statement::Accept]);
    draw_outside(drawing, "outside/everywhere");
    drawing.rule("outside/everywhere", [Statement::Accept]);
}

/// Published ports are reached like from outside; other containers are not outside.
fn draw_outside(drawing: &mut Drawing<'_>, chain: &str) {
    let refuse = || Statement::Goto("refuse".into());
    for family in drawing.families.clone() {
        let range = drawing.virtual_range(family);
        let original = Statement::Address(Side::OriginalDestination, range, false);
        drawing.rule(chain, [Statement::Translated, original, Statement::Accept]);
    }
    let to_container = drawing.containers(Direction::Out, true);
    drawing.rule(chain, [to_container, refuse()]);
    if let Some(to_tunnel) = drawing.tunnel(Direction::Out, true) {
        drawing.rule(chain, [to_tunnel, refuse()]);
    }
    for family in drawing.families.clone() {
        drawing.rule(chain, [is(Side::Destination, drawing.pool(family)), refuse()]);
    }
}

/// Where only Limpet wanted packets to be forwarded, nothing else is. Devices of other agents are theirs.
fn draw_others(drawing: &mut Drawing<'_>) {
    let sole = drawing.ground.sole_forwarder;
    let chains = [(sole.v4, OTHERS_V4, Family::V4), (sole.v6, OTHERS_V6, Family::V6)];
    for (_, chain, family) in chains.into_iter().filter(|(wanted, ..)| *wanted) {
        drawing.hook(chain, filter(Point::Forward, AFTER_FILTER));
        for prefix in [CONTAINER_DEVICES, TUNNEL_DEVICES] {
            for direction in [Direction::In, Direction::Out] {
                let devices = Devices::Begin(prefix.to_owned());
                let ours = Statement::Device(direction, devices, true);
                drawing.rule(chain, [ours, Statement::Accept]);
            }
        }
        drawing.rule(chain, [Statement::Family(family), Statement::Drop]);
    }
}
