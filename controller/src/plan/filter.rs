//! The filters: may an instance run on a node? Each can explain itself.
//!
//! In: what is wanted, a node, and what is taken of it. Out: nothing, or the first [`Misfit`].
//! [`explain`] makes one sentence of the misfits of all nodes, as Docker Swarm does.
//!
//! | rule | source |
//! |---|---|
//! | constraints `==` and `!=`, without regard to case; a label that is not there is empty | SwarmKit, `manager/constraint/constraint.go` |
//! | an instance whose node no longer meets its constraints is taken from it | SwarmKit, `manager/orchestrator/constraintenforcer` |
//! | reservations are counted, limits are not | SwarmKit, `manager/scheduler/filter.go` (`ResourceFilter`) |
//! | `max_replicas_per_node` | the same file (`MaxReplicasFilter`) |
//! | platform of the image against that of the node, `x86_64` meaning `amd64` | the same file (`PlatformFilter`) |
//! | ports of the node | the same file (`HostPortFilter`); addresses as Kubernetes' `NodePorts` |
//! | availability: `pause` takes nothing new, `drain` gives what it has | SwarmKit, `api/types.proto` (`NodeSpec.Availability`) |
//! | spread over labels, then fewest of the service, then fewest of all | SwarmKit, `manager/scheduler/nodeset.go`, `scheduler.go` (`nodeLess`) |

use std::collections::BTreeMap;

use limpet_protocol::application::{Attribute, Constraint};
use limpet_protocol::id::NodeId;
use limpet_protocol::limits::{MAX_INSTANCES_PER_NODE, MAX_REASON_BYTES};

use super::ports::port_text;
use super::{Needs, Node, Standing, Usage, Wanted};
use crate::store::records::Availability;

/// Why a node does not suit. The order is that of the filters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Misfit {
    /// It was given up.
    Lost,
    /// People let it take nothing new.
    Paused,
    /// People want it empty.
    Drained,
    /// It does not meet the constraint at this place in the list.
    Constraint(usize),
    /// It has another operating system or architecture.
    Platform,
    /// It lacks the device at this place in the list.
    Device(usize),
    /// It has as many instances as a node may have.
    Full,
    /// It has as many instances of the service as its placement allows.
    MaxPerNode,
    /// It has too little memory left: so many bytes are free.
    Memory(u64),
    /// It has too little CPU left: so many thousandths are free.
    Cpu(u64),
    /// It has no address left for one more instance.
    Address,
    /// A port that it needs is taken: UDP and not TCP, and the (first) number.
    Port(bool, u16),
}

/// The filters that do not depend on what else runs on the node.
#[must_use]
pub fn lasting_misfit(wanted: &Wanted, id: &NodeId, node: &Node) -> Option<Misfit> {
    let constraints = &wanted.placement.constraints;
    if let Some(index) = constraints.iter().position(|c| !meets(c, id, node)) {
        return Some(Misfit::Constraint(index));
    }
    let platform = wanted.platform.as_deref();
    if platform.is_some_and(|platform| !runs_platform(platform, node)) {
        return Some(Misfit::Platform);
    }
    // A node that does not say which devices it has may have them: it is older than the question.
    let devices = node.facts.devices.as_ref()?;
    let lacks = |device: &String| !devices.contains(device);
    wanted.devices.iter().position(lacks).map(Misfit::Device)
}

/// The filters that depend on what else runs on the node, `own` instances of the service among it.
#[must_use]
pub fn passing_misfit(wanted: &Wanted, node: &Node, used: &Usage, own: usize) -> Option<Misfit> {
    if used.instances >= MAX_INSTANCES_PER_NODE {
        return Some(Misfit::Full);
    }
    let most = wanted.placement.max_replicas_per_node.filter(|most| *most > 0);
    if most.is_some_and(|most| own >= usize::try_from(most).unwrap_or(usize::MAX)) {
        return Some(Misfit::MaxPerNode);
    }
    let Needs { memory_bytes, cpu_millis, addresses } = wanted.needs;
    let free_memory = node.facts.memory_bytes.saturating_sub(used.memory_bytes);
    if memory_bytes > free_memory {
        return Some(Misfit::Memory(free_memory));
    }
    let free_cpu = u64::from(node.facts.cpu_millis).saturating_sub(used.cpu_millis);
    if u64::from(cpu_millis) > free_cpu {
        return Some(Misfit::Cpu(free_cpu));
    }
    if addresses > 0 && used.addresses >= node.addresses {
        return Some(Misfit::Address);
    }
    None
}

/// Whether new instances may go there as far as its link and people are concerned.
#[must_use]
pub fn standing_misfit(node: &Node) -> Option<Misfit> {
    match (node.standing, node.availability) {
        (Standing::Lost, _) => Some(Misfit::Lost),
        (_, Availability::Pause) => Some(Misfit::Paused),
        (_, Availability::Drain) => Some(Misfit::Drained),
        (_, Availability::Active) => None,
    }
}

/// Whether all of these hold for a node.
#[must_use]
pub fn meets_all(constraints: &[Constraint], id: &NodeId, node: &Node) -> bool {
    constraints.iter().all(|constraint| meets(constraint, id, node))
}

fn meets(constraint: &Constraint, id: &NodeId, node: &Node) -> bool {
    let value = constraint.value.as_str();
    let same = match &constraint.attribute {
        Attribute::Id => same_text(id.as_str(), value),
        Attribute::Hostname => same_text(&node.facts.hostname, value),
        Attribute::Os => same_text(&node.facts.os, value),
        Attribute::Architecture => same_architecture(&node.facts.architecture, value),
        Attribute::Label(key) => same_text(node.labels.get(key).map_or("", String::as_str), value),
    };
    same == constraint.equal
}

fn same_text(one: &str, other: &str) -> bool {
    one.eq_ignore_ascii_case(other)
        || (!one.is_ascii() && one.to_lowercase() == other.to_lowercase())
}

fn same_architecture(one: &str, other: &str) -> bool {
    same_text(architecture(one), architecture(other))
}

/// An architecture's name as `GOARCH` has it; the kernel's names mean the same, as in SwarmKit.
fn architecture(name: &str) -> &str {
    const KERNEL_NAMES: [(&str, &str); 5] = [
        ("x86_64", "amd64"),
        ("aarch64", "arm64"),
        ("armv6l", "arm"),
        ("armv7l", "arm"),
        ("armhf", "arm"),
    ];
    let known = KERNEL_NAMES.iter().find(|(kernel, _)| name.eq_ignore_ascii_case(kernel));
    known.map_or(name, |(_, go)| go)
}

/// Whether a node runs programs for `os/arch[/variant]`. A newer ARM runs an older variant.
fn runs_platform(platform: &str, node: &Node) -> bool {
    let mut parts = platform.split('/');
    let mut part = || parts.next().unwrap_or_default();
    let (os, arch, variant) = (part(), part(), part());
    let facts = &node.facts;
    same_text(os, &facts.os)
        && same_architecture(arch, &facts.architecture)
        && (variant.is_empty()
            || facts.variant.is_empty()
            || variant.to_lowercase() <= facts.variant.to_lowercase())
}

/// How many nodes do not suit, by cause; for memory and CPU the most that any has free.
#[derive(Debug, Default)]
pub struct Misfits {
    causes: BTreeMap<(u8, usize), (usize, u64)>,
}

impl Misfits {
    /// Counts one node.
    pub fn add(&mut self, misfit: Misfit) {
        let (rank, index, free) = match misfit {
            Misfit::Lost => (0, 0, 0),
            Misfit::Paused => (1, 0, 0),
            Misfit::Drained => (2, 0, 0),
            Misfit::Constraint(index) => (3, index, 0),
            Misfit::Platform => (4, 0, 0),
            Misfit::Device(index) => (5, index, 0),
            Misfit::Full => (6, 0, 0),
            Misfit::MaxPerNode => (7, 0, 0),
            Misfit::Memory(free) => (8, 0, free),
            Misfit::Cpu(free) => (9, 0, free),
            Misfit::Address => (10, 0, 0),
            Misfit::Port(udp, port) => (11 + u8::from(udp), usize::from(port), 0),
        };
        let (nodes, most_free) = self.causes.entry((rank, index)).or_default();
        *nodes += 1;
        *most_free = free.max(*most_free);
    }
}

/// One sentence of why no node suits.
#[must_use]
pub fn explain(wanted: &Wanted, misfits: &Misfits) -> String {
    if misfits.causes.is_empty() {
        return "no suitable node: no node has joined yet".to_owned();
    }
    let causes: Vec<String> = misfits
        .causes
        .iter()
        .map(|(&(rank, index), &(nodes, free))| cause(wanted, (rank, index), nodes, free))
        .collect();
    cut(format!("no suitable node ({})", causes.join("; ")))
}

fn cause(wanted: &Wanted, (rank, index): (u8, usize), nodes: usize, free: u64) -> String {
    let needs = wanted.needs;
    let one = nodes == 1;
    let who = if one { "1 node".to_owned() } else { format!("{nodes} nodes") };
    let verb = |single: &'static str, plural: &'static str| if one { single } else { plural };
    let has = verb("has", "have");
    let most = if one { "" } else { "at most " };
    match rank {
        0 => format!("{who} {} lost", verb("is", "are")),
        1 => format!("{who} {} cordoned", verb("is", "are")),
        2 => format!("{who} {} drained", verb("is", "are")),
        3 => {
            let constraint = wanted.placement.constraints.get(index);
            format!("{who} {}", constraint.map_or(String::new(), |c| unmet(c, one)))
        }
        4 => {
            let platform = wanted.platform.as_deref().unwrap_or_default();
            format!("{who} {has} another platform than {platform}")
        }
        5 => {
            let device = wanted.devices.get(index).map_or("", String::as_str);
            format!("{who} {} the device {device}", verb("lacks", "lack"))
        }
        6 => format!("{who} {has} {MAX_INSTANCES_PER_NODE} instances, the most of a node"),
        7 => {
            let most = wanted.placement.max_replicas_per_node.unwrap_or_default();
            format!("{who} {} {most} of them, its max_replicas_per_node", verb("runs", "run"))
        }
        8 => format!(
            "{who} {has} too little memory left: {} needed, {most}{} free",
            bytes(needs.memory_bytes),
            bytes(free)
        ),
        9 => format!(
            "{who} {has} too little CPU left: {} needed, {most}{} free",
            cpus(u64::from(needs.cpu_millis)),
            cpus(free)
        ),
        10 => format!("{who} {has} no address left in the pool of the fleet"),
        _ => {
            let port = port_text((rank > 11, u16::try_from(index).unwrap_or_default()));
            format!("{who} {has} port {port} taken already")
        }
    }
}

fn unmet(constraint: &Constraint, one: bool) -> String {
    let Constraint { attribute, equal, value } = constraint;
    let attribute = match attribute {
        Attribute::Label(key) if *equal => {
            return format!("{} the label {key}={value}", if one { "lacks" } else { "lack" });
        }
        Attribute::Label(key) => {
            return format!("{} the label {key}={value}", if one { "has" } else { "have" });
        }
        Attribute::Id => "node.id",
        Attribute::Hostname => "node.hostname",
        Attribute::Os => "node.platform.os",
        Attribute::Architecture => "node.platform.arch",
    };
    let operator = if *equal { "==" } else { "!=" };
    format!("{} not meet {attribute} {operator} {value}", if one { "does" } else { "do" })
}

/// Bytes as people write them: the largest binary unit, at most one decimal.
#[must_use]
pub fn bytes(count: u64) -> String {
    for (unit, size) in [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)] {
        if count >= size {
            let tenths = count / (size / 10).max(1) % 10;
            let whole = count / size;
            let exact = tenths == 0;
            return if exact {
                format!("{whole} {unit}")
            } else {
                format!("{whole}.{tenths} {unit}")
            };
        }
    }
    format!("{count} B")
}

fn cpus(millis: u64) -> String {
    let text = format!("{}.{:03}", millis / 1000, millis % 1000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Cuts a text to [`MAX_REASON_BYTES`] at a character.
#[must_use]
pub fn cut(mut text: String) -> String {
    if text.len() > MAX_REASON_BYTES {
        const MARK: &str = "…";
        let mut end = MAX_REASON_BYTES - MARK.len();
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push_str(MARK);
    }
    text
}
