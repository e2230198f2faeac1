//! A node as the API shows it. Pure: values in, a value out.

use limpet_protocol::assignment::{Assignment, Generation};
use limpet_protocol::id::NodeId;
use limpet_protocol::network::TunnelKind;

use super::node::ObservedNode;
use crate::api::types::{NodeNetworkView, NodeView};
use crate::plan::Planner;
use crate::plan::filter::cut;

/// Names of peers that one condition shows; the rest is a number.
const MAX_NAMES: usize = 4;

/// What a node was told.
#[derive(Debug, Clone, Copy, Default)]
pub struct Told<'a> {
    /// Its newest assignment; none before the first.
    pub assignment: Option<&'a Assignment>,
    /// Peers that it has not because one end has too many.
    pub left_out: usize,
}

fn network_view(node: &ObservedNode, told: Told<'_>) -> Option<NodeNetworkView> {
    let network = told.assignment?.network.as_ref()?;
    let mesh = node.record.mesh.as_ref();
    let tunnel = node.network.tunnel.map(|kind| match kind {
        TunnelKind::Kernel => "kernel",
        TunnelKind::Userland => "userland",
    });
    Some(NodeNetworkView {
        subnet: network.subnet.to_string(),
        subnet6: network.subnet6.to_string(),
        tunnel: tunnel.map(str::to_owned),
        endpoints: mesh.into_iter().flat_map(|it| &it.endpoints).map(ToString::to_string).collect(),
        peers: u32::try_from(network.peers.len()).unwrap_or(u32::MAX),
        unreachable: node.network.unreachable.iter().map(ToString::to_string).collect(),
        left_out: u32::try_from(told.left_out).unwrap_or(u32::MAX),
    })
}

/// What a node does not reach, and what that costs.
pub(crate) fn reach(node: &ObservedNode, told: Told<'_>) -> Vec<String> {
    let Some(network) = told.assignment.and_then(|told| told.network.as_ref()) else {
        return vec![];
    };
    let mut found = vec![];
    if node.record.mesh.is_none() {
        found.push(
            "it has told no key for other nodes: services on other nodes are not reached from it"
                .to_owned(),
        );
    }
    let is_peer = |id: &&NodeId| network.peers.iter().any(|peer| peer.node == **id);
    let gone: Vec<&NodeId> = node.network.unreachable.iter().filter(is_peer).collect();
    if !gone.is_empty() {
        let names: Vec<&str> = gone.iter().take(MAX_NAMES).map(|id| id.as_str()).collect();
        let more = gone.len() - names.len();
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        found.push(cut(format!(
            "it does not reach {}{more} directly: names stand for instances elsewhere",
            names.join(", ")
        )));
    }
    if told.left_out > 0 {
        found.push(format!(
            "{} nodes would be its peers that are not: one end has as many as it may",
            told.left_out
        ));
    }
    found
}

/// A node as it is shown.
pub(super) fn node_view(
    node: &ObservedNode,
    told: Told<'_>,
    instances: u32,
    planner: &Planner,
) -> NodeView {
    let wanted = told.assignment.map(|assignment| assignment.generation);
    let record = &node.record;
    let facts = &record.facts;
    let usage = planner.usage(&record.node);
    let mut platform = format!("{}/{}", facts.os, facts.architecture);
    if !facts.variant.is_empty() {
        platform = format!("{platform}/{}", facts.variant);
    }
    let mut labels = facts.labels.clone();
    labels.extend(record.labels.clone());
    let mut conditions: Vec<String> = facts.conditions.iter().cloned().map(cut).collect();
    if let (Some(seen), Some(wanted)) = (node.observed, wanted)
        && seen.epoch > wanted.epoch
    {
        conditions.push(format!(
            "it obeys a newer controller database (epoch {} after {}): restore that database, or join the node again",
            seen.epoch, wanted.epoch
        ));
    }
    conditions.extend(reach(node, told));
    let generation = |of: Option<Generation>| {
        of.map(|of| format!("{}.{}", of.epoch, of.number)).unwrap_or_default()
    };
    NodeView {
        node: record.node.to_string(),
        status: node.standing.as_str().to_owned(),
        availability: record.availability.as_str().to_owned(),
        hostname: facts.hostname.clone(),
        platform,
        agent_version: facts.agent_version.clone(),
        kernel: facts.kernel.clone(),
        cpu_millis: facts.cpu_millis,
        cpu_reserved_millis: u32::try_from(usage.cpu_millis).unwrap_or(u32::MAX),
        memory_bytes: facts.memory_bytes,
        memory_reserved_bytes: usage.memory_bytes,
        labels,
        given_labels: record.labels.clone(),
        instances,
        wanted_generation: generation(wanted),
        observed_generation: generation(node.observed),
        last_contact_ms: node.last_contact_ms,
        conditions,
        devices: facts.devices.clone().unwrap_or_default(),
        joined_ms: record.joined_ms,
        network: network_view(node, told),
    }
}
