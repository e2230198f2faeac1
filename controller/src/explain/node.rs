//! Why a node is as it is.

use limpet_protocol::assignment::Generation;
use limpet_protocol::limits::MAX_INSTANCES_PER_NODE;

use super::instance::{node_assignment, node_contact};
use super::service::of_parts;
use super::words::many;
use super::{Chain, Explanation, Link, Part};
use crate::observe::node::ObservedNode;
use crate::plan::filter::bytes;
use crate::plan::{Standing, Usage};
use crate::store::records::Availability;

/// What is known of a node.
#[derive(Debug, Clone)]
pub struct NodeCase<'a> {
    /// The node.
    pub node: &'a ObservedNode,
    /// Its newest assignment.
    pub wanted: Option<Generation>,
    /// What is taken of it.
    pub usage: Usage,
    /// What it does not reach.
    pub reach: Vec<String>,
    /// Whether the controller has its broker.
    pub broker_is_up: bool,
    /// The time, by the controller's clock.
    pub wall_ms: u64,
}

/// The explanation of a node out of those of the instances that it has.
#[must_use]
pub fn explain_node(case: &NodeCase<'_>, instances: Vec<Part>) -> Explanation {
    let node = case.node;
    let mut chain = Chain::new();
    chain.then("contact", || node_contact(node, case.broker_is_up, case.wall_ms));
    chain.then("assignment", || node_assignment(node, case.wanted));
    chain.also(availability(node));
    chain.also(capacity(case));
    chain.also(conditions(case));
    if node.standing == Standing::Ready {
        chain.also(of_parts("instances", &instances, "as wanted"));
    } else {
        let says = format!("{} placed there", many(instances.len(), "instance"));
        chain.also(Link::ok("instances", says));
    }
    let mut part = Part::of(node.record.node.to_string(), None, chain);
    if part.well {
        let count = many(instances.len(), "instance");
        part.summary = format!("it is ready and runs what it shall: {count}");
    }
    let heard = node.standing == Standing::Ready;
    let late = instances.into_iter().filter(|part| heard && !part.well).collect();
    Explanation::of("node", part, late)
}

fn availability(node: &ObservedNode) -> Link {
    let id = &node.record.node;
    let uncordon = || format!("let it have work again: `limpet node uncordon {id}`");
    // A person's decision, and no fault: it hides none.
    match node.record.availability {
        Availability::Active => Link::ok("availability", "it takes whatever suits"),
        Availability::Pause => {
            Link::ok("availability", "cordoned: it keeps what it has and takes nothing new")
                .advise(uncordon())
        }
        Availability::Drain => {
            Link::ok("availability", "drained: what it has goes to others").advise(uncordon())
        }
    }
}

fn capacity(case: &NodeCase<'_>) -> Link {
    let (facts, usage) = (&case.node.record.facts, case.usage);
    let says = format!(
        "reserved: {} of {} memory, {:.2} of {:.2} CPUs; {} of {MAX_INSTANCES_PER_NODE} instances",
        bytes(usage.memory_bytes),
        bytes(facts.memory_bytes),
        per_thousand(usage.cpu_millis),
        per_thousand(u64::from(facts.cpu_millis)),
        usage.instances
    );
    let over =
        usage.memory_bytes > facts.memory_bytes || usage.cpu_millis > u64::from(facts.cpu_millis);
    if over {
        return Link::broken("capacity", format!("more than there is is {says}"))
            .advise("it has shrunk since; what does not fit is placed elsewhere when it can be");
    }
    Link::ok("capacity", says)
}

fn per_thousand(millis: u64) -> f64 {
    f64::from(u32::try_from(millis).unwrap_or(u32::MAX)) / 1000.0
}

fn conditions(case: &NodeCase<'_>) -> Link {
    let conditions = &case.node.record.facts.conditions;
    let all: Vec<&str> = conditions.iter().chain(&case.reach).map(String::as_str).collect();
    match all.as_slice() {
        [] => Link::ok("conditions", "it lacks nothing"),
        some => Link::ok("conditions", some.join("; ")),
    }
}
