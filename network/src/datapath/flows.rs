//! Connections that the kernel remembers longer than they make sense.
//!
//! Where a flow of datagrams goes is decided once, by its first, and remembered as long as it goes on: a
//! client that keeps its port would be led for ever to an instance that is gone, or to nobody if nobody
//! was ready when it began. After rules have changed, such memories are taken away, and the next packet
//! is led anew. TCP connections of instances that are not ready are left alone; those of instances that
//! are gone are cut, so that clients learn of it at once.
//!
//! Layout: linux/netfilter/nfnetlink_conntrack.h.

use core::net::IpAddr;
use std::collections::BTreeSet;

use crate::netlink::{ACKNOWLEDGE, Attribute, Batch, DUMP, REQUEST, Refused, Socket, attributes};
use crate::rules::{HELD, Ruleset, Set, Transport, Value};

/// The subsystem in the type of each message (`NFNL_SUBSYS_CTNETLINK`), and `enum cntl_msg_types`.
const GET: u16 = (1 << 8) | 1;
const DELETE: u16 = (1 << 8) | 2;
/// `struct nfgenmsg`: any family, version, resource.
const HEADER: [u8; 4] = [0; 4];
/// `enum ctattr_type`: the addresses of the first direction and of the answers.
const ORIGINAL: u16 = 1;
const REPLY: u16 = 2;
/// UDP (IANA, Assigned Internet Protocol Numbers).
const UDP: u8 = 17;
/// The most memories that are taken away at once; what is left ages away.
const MAX_FLOWS: usize = 4_096;

/// What has changed from some rules to others, as far as remembered flows are concerned.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Change {
    /// Addresses that connections are no longer led to.
    retired: BTreeSet<IpAddr>,
    /// Those of them that nobody has any more.
    gone: BTreeSet<IpAddr>,
    /// Virtual addresses that lead somewhere now.
    addresses: BTreeSet<IpAddr>,
    /// UDP ports that lead somewhere now.
    ports: BTreeSet<u16>,
}

/// One direction of a flow.
#[derive(Debug, Clone, Copy)]
struct Way {
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    destination_port: Option<u16>,
}

impl Change {
    /// What has changed.
    pub(super) fn between(old: &Ruleset, new: &Ruleset) -> Self {
        let retired: BTreeSet<_> = rows(old).difference(&rows(new)).copied().collect();
        let known = members(new);
        let (addresses, ports) = destinations(new);
        let (old_addresses, old_ports) = destinations(old);
        Self {
            gone: retired.difference(&known).copied().collect(),
            retired,
            addresses: addresses.difference(&old_addresses).copied().collect(),
            ports: ports.difference(&old_ports).copied().collect(),
        }
    }

    /// Whether a flow that is remembered is to be led anew.
    fn concerns(&self, original: Way, reply: Way) -> bool {
        let translated = original.destination != reply.source;
        if translated {
            let datagrams = original.protocol == UDP && self.retired.contains(&reply.source);
            return datagrams || self.gone.contains(&reply.source);
        }
        let port = original.destination_port.is_some_and(|port| self.ports.contains(&port));
        original.protocol == UDP && (port || self.addresses.contains(&original.destination))
    }
}

/// The addresses that connections are led to. Those that are held by the node itself go on when new ones
/// are not held any more.
fn rows(rules: &Ruleset) -> BTreeSet<IpAddr> {
    let mut rows = BTreeSet::new();
    for (_, set) in rules.sets.iter().filter(|(name, _)| !name.starts_with(HELD)) {
        if let Set::Row(_, addresses) = set {
            rows.extend(addresses);
        }
    }
    rows
}

/// All addresses in any set.
fn members(rules: &Ruleset) -> BTreeSet<IpAddr> {
    let mut members = BTreeSet::new();
    for set in rules.sets.values() {
        if let Set::Members { elements, .. } = set {
            members.extend(elements.iter().flatten().filter_map(address));
        }
    }
    members
}

/// The addresses and UDP ports that lead anywhere.
fn destinations(rules: &Ruleset) -> (BTreeSet<IpAddr>, BTreeSet<u16>) {
    let (mut addresses, mut ports) = (BTreeSet::new(), BTreeSet::new());
    for set in rules.sets.values() {
        let Set::Chains { elements, .. } = set else { continue };
        for key in elements.keys() {
            let udp = key.contains(&Value::Transport(Transport::Udp));
            let port = key.iter().find_map(|value| match value {
                Value::Port(port) => Some(*port),
                _ => None,
            });
            match port {
                Some(port) if udp => ports.extend([port]),
                Some(_) => {}
                None => addresses.extend(key.iter().filter_map(address)),
            }
        }
    }
    (addresses, ports)
}

fn address(value: &Value) -> Option<IpAddr> {
    if let Value::Address(address) = value { Some(*address) } else { None }
}

/// Takes away what is remembered of flows that a change concerns. Says how many.
pub(super) fn forget(socket: &Socket, change: &Change) -> Result<usize, Refused> {
    if *change == Change::default() {
        return Ok(0);
    }
    let mut list = Batch::default();
    list.add("list connections", (GET, REQUEST | DUMP), &HEADER, |_| {});
    let mut found = vec![];
    // That the list changes while it is read is usual, and what is new was led by the new rules.
    let _consistent = socket.walk(&list, |body| {
        if found.len() < MAX_FLOWS
            && let Some(flow) = concerned(body, change)
        {
            found.push(flow);
        }
    })?;
    for (family, original) in &found {
        let mut batch = Batch::default();
        let header = [*family, 0, 0, 0];
        let kind = (DELETE, REQUEST | ACKNOWLEDGE);
        batch.add("forget a connection", kind, &header, |message| {
            message.bytes(ORIGINAL, original);
        });
        match socket.perform(&batch) {
            Err(error) if error.code() != Some(rustix::io::Errno::NOENT) => return Err(error),
            _ => {}
        }
    }
    Ok(found.len())
}

/// The family and the first direction of a listed flow that is concerned.
fn concerned(body: &[u8], change: &Change) -> Option<(u8, Vec<u8>)> {
    let (header, rest) = body.split_at_checked(HEADER.len())?;
    let find = |kind| attributes(rest).find(|a| a.kind == kind);
    let (original, reply) = (find(ORIGINAL)?, find(REPLY)?);
    let concerned = change.concerns(way(original)?, way(reply)?);
    concerned.then(|| (header[0], original.value.to_vec()))
}

fn way(tuple: Attribute<'_>) -> Option<Way> {
    let find = |within: &Attribute<'_>, kind| {
        attributes(within.value).find(|a| a.kind == kind).map(|a| a.value.to_vec())
    };
    let ip = attributes(tuple.value).find(|a| a.kind == 1)?;
    let transport = attributes(tuple.value).find(|a| a.kind == 2)?;
    let of = |v4, v6| {
        let four = find(&ip, v4).and_then(|v| <[u8; 4]>::try_from(v).ok()).map(IpAddr::from);
        four.or_else(|| find(&ip, v6).and_then(|v| <[u8; 16]>::try_from(v).ok()).map(IpAddr::from))
    };
    let port = find(&transport, 3).and_then(|v| <[u8; 2]>::try_from(v).ok());
    Some(Way {
        source: of(1, 3)?,
        destination: of(2, 4)?,
        protocol: *find(&transport, 1)?.first()?,
        destination_port: port.map(u16::from_be_bytes),
    })
}
