//! Why an instance is as it is.

use limpet_protocol::application::Service;
use limpet_protocol::assignment::Generation;
use limpet_protocol::id::{InstanceId, NodeId, SpecHash};
use limpet_protocol::phase::Phase;
use limpet_protocol::report::{Health, InstanceStatus, NoImage};
use limpet_protocol::spec::RestartCondition;

use super::words::{ago, ended, number, short};
use super::{Chain, Link, Part, advice};
use crate::observe::node::ObservedNode;
use crate::plan::Standing;
use crate::plan::filter::Misfit;

/// What the node's newest assignment says of a slot.
#[derive(Debug, Clone, Copy, Default)]
pub struct Assigned {
    /// The newest assignment of the node; none before the first.
    pub generation: Option<Generation>,
    /// The spec that the slot shall run; none if the slot is not in it.
    pub spec: Option<SpecHash>,
}

/// What ended for good, and is remembered whatever its node says later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over<'a> {
    /// It completed.
    Done,
    /// It failed, for this reason.
    Failed(&'a str),
}

/// What is known of an instance.
#[derive(Debug, Clone)]
pub struct Case<'a> {
    /// Which.
    pub instance: &'a InstanceId,
    /// What people want of its service; none if nobody wants it any more.
    pub service: Option<&'a Service>,
    /// The newest spec of the service; none if it is too large for a node.
    pub spec: Option<SpecHash>,
    /// Where it is placed.
    pub place: Option<&'a NodeId>,
    /// Why it has no node, or why it stays on a lost one.
    pub unplaced: Option<String>,
    /// Why each node cannot take it, if it has none.
    pub misfits: Vec<Misfit>,
    /// Its node; of one that nobody wants the node that runs it.
    pub node: Option<&'a ObservedNode>,
    /// What its node was told.
    pub assigned: Assigned,
    /// Whether it ended for good.
    pub over: Option<Over<'a>>,
    /// Services that it waits for and why they are not as far.
    pub dependencies: Vec<String>,
    /// How it takes part in networks.
    pub network: NetworkCase,
    /// How far the rollout of its service is, in words; none if it is at rest.
    pub rollout: Option<String>,
    /// Whether the controller has its broker.
    pub broker_is_up: bool,
    /// The time, by the controller's clock.
    pub wall_ms: u64,
}

/// What is known of the network of an instance.
#[derive(Debug, Clone, Default)]
pub struct NetworkCase {
    /// Whether its node was given addresses.
    pub has_addresses: bool,
    /// Services that it waits for and that its node does not reach, with why.
    pub unreached: Vec<String>,
}

/// The chain of an instance.
#[must_use]
pub fn explain_instance(case: &Case<'_>) -> Part {
    let mut chain = Chain::new();
    chain.then("spec", || spec(case));
    if let Some(over) = case.over {
        chain.then("start", || ended_for_good(case, over));
        let node = case.place.map(ToString::to_string);
        return Part::of(case.instance.to_string(), node, chain);
    }
    chain.then("placement", || placement(case));
    chain.then("contact", || contact(case));
    chain.then("assignment", || assignment(case));
    let status = case.node.and_then(|node| node.instances.get(case.instance));
    chain.then("dependencies", || dependencies(case, status));
    if case.service.is_some_and(|service| !service.spec.network.networks.is_empty()) {
        chain.then("network", || network(case));
    }
    chain.then("image", || image(case, status));
    chain.then("start", || start(case, status));
    chain.then("health", || health(case, status));
    chain.then("traffic", || traffic(status));
    chain.then("update", || update(case, status));
    let node = case.node.map(|node| node.record.node.to_string());
    Part::of(case.instance.to_string(), node, chain)
}

fn spec(case: &Case<'_>) -> Link {
    let InstanceId { application, service: name, slot } = case.instance;
    let Some(service) = case.service else {
        return Link::waiting("spec", "nobody wants it any more: it is being stopped");
    };
    if service.stopped {
        return Link::broken("spec", format!("{application}.{name} was stopped by a person"))
            .advise(format!("start it again: `limpet start {application}.{name}`"));
    }
    let Some(spec) = case.spec else {
        return Link::broken("spec", "its specification is too large for a node")
            .advise("make it smaller: environment, labels and configs count");
    };
    let image = &service.spec.image.reference;
    match service.mode.slots() {
        Some(slots) if slot.0 > slots && case.place.is_none() => {
            Link::waiting("spec", format!("only {slots} are wanted: it is being stopped"))
        }
        Some(slots) => {
            Link::ok("spec", format!("{slot} of {slots}, image {image}, spec {}", short(spec)))
        }
        None => Link::ok("spec", format!("one a node, image {image}, spec {}", short(spec))),
    }
}

fn ended_for_good(case: &Case<'_>, over: Over<'_>) -> Link {
    let InstanceId { application, service, .. } = case.instance;
    match over {
        Over::Done => Link::ok("start", "it completed, and is not started again"),
        Over::Failed(why) => Link::broken("start", format!("it failed for good: {why}"))
            .advise(format!("once the cause is mended: `limpet restart {application}.{service}`")),
    }
}

fn placement(case: &Case<'_>) -> Link {
    match (case.place, case.unplaced.as_deref()) {
        (Some(node), None) => {
            let joined = case.service.and_then(|service| service.spec.network.joins.as_ref());
            let with = joined.map_or_else(String::new, |joined| {
                let InstanceId { application, slot, .. } = case.instance;
                format!(", where {application}.{joined}.{slot} is, whose network it shares")
            });
            Link::ok("placement", format!("on node {node}{with}"))
        }
        (_, Some(why)) => {
            Link::broken("placement", why).advise(advice::on_placement(&case.misfits))
        }
        (None, None) => Link::waiting("placement", "it is being planned"),
    }
}

fn contact(case: &Case<'_>) -> Link {
    let Some(node) = case.node else {
        return Link::waiting("contact", "nothing is known of its node yet");
    };
    node_contact(node, case.broker_is_up, case.wall_ms)
}

/// Whether a node can be heard.
pub(super) fn node_contact(node: &ObservedNode, broker_is_up: bool, wall_ms: u64) -> Link {
    let (id, heard) = (&node.record.node, ago(node.last_contact_ms, wall_ms));
    if !broker_is_up {
        return Link::broken("contact", "the controller has no connection to its broker")
            .advise("see the controller's log; nodes go on running what they have");
    }
    match node.standing {
        Standing::Ready => Link::ok("contact", format!("node {id} is ready, last heard {heard}")),
        Standing::Unreachable => {
            Link::broken("contact", format!("node {id} is unreachable, last heard {heard}"))
                .advise(advice::on_contact(id.as_str()))
        }
        Standing::Lost => Link::broken("contact", format!("node {id} is lost, last heard {heard}"))
            .advise(advice::on_contact(id.as_str())),
    }
}

fn assignment(case: &Case<'_>) -> Link {
    let Some(node) = case.node else { return Link::waiting("assignment", "none yet") };
    if case.assigned.spec.is_none() && case.place.is_some() {
        return Link::waiting("assignment", "it is not in the node's assignment yet");
    }
    node_assignment(node, case.assigned.generation)
}

/// Whether a node took over its newest assignment.
pub(super) fn node_assignment(node: &ObservedNode, wanted: Option<Generation>) -> Link {
    let Some(wanted) = wanted else {
        return Link::waiting("assignment", "the node has none yet");
    };
    match node.observed {
        Some(observed) if observed.epoch > wanted.epoch => Link::broken(
            "assignment",
            format!(
                "the node obeys a newer controller database: it holds {}, wanted is {}",
                number(observed),
                number(wanted)
            ),
        )
        .advise("restore that database, or join the node again"),
        Some(observed) if observed >= wanted => {
            Link::ok("assignment", format!("the node holds the newest, {}", number(wanted)))
        }
        observed => {
            let holds = observed.map_or_else(|| "none".to_owned(), number);
            let says = format!(
                "the node holds {holds}, the newest is {}; it is told again by and by",
                number(wanted)
            );
            Link::waiting("assignment", says)
        }
    }
}

fn dependencies(case: &Case<'_>, status: Option<&InstanceStatus>) -> Link {
    let named = case.service.map_or(&[][..], |service| &service.spec.depends_on);
    let Some(status) = status.filter(|status| status.phase != Phase::Removed) else {
        return Link::waiting("dependencies", "the node has not said anything of it yet");
    };
    let begins = status.phase == Phase::Waiting && status.last_exit.is_none();
    if !begins || named.is_empty() {
        let names: Vec<&str> = named.iter().map(|one| one.service.as_str()).collect();
        let none = names.is_empty();
        let says = if none {
            "it has none".to_owned()
        } else {
            format!("{} came first", names.join(", "))
        };
        return Link::ok("dependencies", says);
    }
    let mut says = status.reason.clone().unwrap_or_else(|| "it waits for others".to_owned());
    for why in &case.dependencies {
        says = format!("{says}; {why}");
    }
    let link = Link::waiting("dependencies", says);
    let InstanceId { application, .. } = case.instance;
    match named.first() {
        Some(first) if !case.dependencies.is_empty() => {
            link.advise(format!("`limpet explain {application}.{}`", first.service))
        }
        _ => link,
    }
}

fn network(case: &Case<'_>) -> Link {
    if !case.network.has_addresses {
        return Link::broken("network", "its node has no addresses for it")
            .advise(advice::ON_ADDRESSES);
    }
    if let [first, ..] = case.network.unreached.as_slice() {
        let node = case.node.map(|node| node.record.node.to_string()).unwrap_or_default();
        let more = case.network.unreached.len() - 1;
        let more = if more > 0 { format!("; and {more} more services") } else { String::new() };
        return Link::broken("network", format!("{first}{more}"))
            .advise(advice::on_unreachable(&node));
    }
    let address = case.node.and_then(|node| node.network.addresses.get(case.instance));
    Link::ok(
        "network",
        match address {
            Some(address) => format!("its address is {address}"),
            None => "it has no address yet".to_owned(),
        },
    )
}

fn image(case: &Case<'_>, status: Option<&InstanceStatus>) -> Link {
    let image = case.service.map_or("", |service| service.spec.image.reference.as_str());
    let Some(status) = status.filter(|status| status.phase == Phase::Pulling) else {
        return Link::ok("image", format!("{image} is no hindrance"));
    };
    match (no_image(case, status.spec), &status.reason) {
        (Some(no_image), _) => {
            Link::broken("image", cannot_be_had(image, no_image)).advise(advice::ON_IMAGE)
        }
        (None, Some(why)) => Link::waiting("image", format!("{image} is being fetched: {why}")),
        (None, None) => Link::waiting("image", format!("{image} is being fetched")),
    }
}

/// Why the node could not have the image of a spec so far.
fn no_image<'a>(case: &Case<'a>, spec: SpecHash) -> Option<&'a NoImage> {
    case.node.and_then(|node| node.no_image.get(&spec))
}

fn cannot_be_had(image: &str, no_image: &NoImage) -> String {
    let NoImage { reason, tries, .. } = no_image;
    let tried = if *tries > 1 { format!(", tried {tries} times") } else { String::new() };
    format!("{image} cannot be had: {reason}{tried}; it is tried again")
}

fn start(case: &Case<'_>, status: Option<&InstanceStatus>) -> Link {
    let Some(status) = status else { return Link::waiting("start", "it has not begun") };
    let since = ago(status.since_ms, case.wall_ms);
    let attempt = status.attempt;
    let why = status.reason.as_deref();
    let last = status.last_exit.map(ended);
    let tried = last.as_ref().map_or(String::new(), |last| format!("; the try before {last}"));
    let advised =
        |link: Link| link.advise(advice::on_end(&case.instance.to_string(), status.last_exit));
    match status.phase {
        Phase::Running => {
            Link::ok("start", format!("it runs since {since}, attempt {attempt}{tried}"))
        }
        Phase::Completed if completes(case) => {
            Link::ok("start", format!("it completed {since}, attempt {attempt}"))
        }
        Phase::Waiting
            if case.service.is_some_and(|it| it.spec.schedule.is_some())
                && status.failures == 0 =>
        {
            Link::ok("start", format!("it waits for its time: {}", why.unwrap_or("x-schedule")))
        }
        Phase::Waiting | Phase::Assigned | Phase::Pending => {
            let last = last.map_or(String::new(), |last| format!("attempt {attempt} {last}; "));
            let link =
                Link::waiting("start", format!("{last}{}", why.unwrap_or("it waits for its turn")));
            if status.last_exit.is_some() { advised(link) } else { link }
        }
        Phase::Failed | Phase::Completed => {
            let last = last.unwrap_or_else(|| "could not be made".to_owned());
            let says = format!("attempt {attempt} {last} {since}");
            // Often it is only how it ended, again.
            let says = why
                .filter(|why| !last.starts_with(why))
                .map_or(says.clone(), |why| format!("{says}: {why}"));
            advised(Link::broken("start", says))
        }
        phase => {
            let why = why.map(|why| format!(": {why}")).unwrap_or_default();
            let link = Link::waiting(
                "start",
                format!("it is {phase} since {since}, attempt {attempt}{tried}{why}"),
            );
            if status.last_exit.is_some() { advised(link) } else { link }
        }
    }
}

/// Whether an end with success is what is wanted.
fn completes(case: &Case<'_>) -> bool {
    case.service.is_none_or(|service| {
        service.mode.is_job() || service.spec.restart.condition != RestartCondition::Any
    })
}

fn health(case: &Case<'_>, status: Option<&InstanceStatus>) -> Link {
    let reason = status.and_then(|status| status.reason.as_deref());
    let why = reason.map(|why| format!(": {why}")).unwrap_or_default();
    let logs = format!(
        "`limpet logs {}` may say why; the check is `healthcheck` or `x-probe`",
        case.instance
    );
    match status.and_then(|status| status.health) {
        None => Link::ok("health", "nothing checks it"),
        Some(Health::Healthy) => Link::ok("health", "its check succeeds"),
        Some(Health::Starting) => {
            Link::waiting("health", format!("its check has not succeeded yet{why}"))
        }
        Some(Health::Unhealthy) => {
            let why = reason.unwrap_or("its check fails");
            Link::broken("health", format!("{why}; it is stopped and tried again")).advise(logs)
        }
    }
}

fn traffic(status: Option<&InstanceStatus>) -> Link {
    match status.and_then(|status| status.ready) {
        Some(false) => {
            let why = status.and_then(|status| status.reason.clone());
            let why = why.map(|why| format!(": {why}")).unwrap_or_default();
            Link::waiting("traffic", format!("it is not ready, so it gets no traffic{why}"))
        }
        Some(true) => Link::ok("traffic", "it is ready"),
        None => Link::ok("traffic", "it may get traffic as soon as it runs"),
    }
}

fn update(case: &Case<'_>, status: Option<&InstanceStatus>) -> Link {
    let (Some(newest), Some(status)) = (case.spec, status) else {
        return Link::ok("update", "nothing to update");
    };
    let service = format!("{}.{}", case.instance.application, case.instance.service);
    let held_back = case.assigned.spec.is_some_and(|spec| spec != newest);
    if status.spec == newest {
        return Link::ok("update", format!("it runs the newest spec, {}", short(newest)));
    }
    let older = format!("it runs spec {}, the newest is {}", short(status.spec), short(newest));
    if let (Some(no_image), Some(wanted)) = (no_image(case, newest), case.service) {
        let why = cannot_be_had(&wanted.spec.image.reference, no_image);
        return Link::broken("update", format!("{older}; {why}")).advise(advice::ON_IMAGE);
    }
    match (&case.rollout, held_back) {
        (Some(rollout), true) => {
            Link::waiting("update", format!("{older}; the rollout: {rollout}"))
                .advise(format!("`limpet rollout status {service}`"))
        }
        (None, true) => Link::waiting("update", format!("{older}; its turn has not come")),
        (_, false) => Link::waiting("update", format!("{older}; the node is replacing it")),
    }
}
