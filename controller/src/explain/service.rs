//! Why a service or an application is as it is.

use limpet_protocol::application::Service;
use limpet_protocol::id::SpecHash;
use limpet_protocol::scale::{MetricSource, Per, ScalePolicy, in_words};
use limpet_protocol::topic::{MetricTopic, Topic};

use super::words::{many, short};
use super::{Chain, Explanation, Link, Part, advice};
use crate::api::types::{FigureView, NodeScaleView, ScaleView};
use crate::plan::ServiceKey;
use crate::plan::filter::Misfit;

/// What is known of a service.
#[derive(Debug, Clone)]
pub struct ServiceCase<'a> {
    /// Which.
    pub key: &'a ServiceKey,
    /// What people want.
    pub service: &'a Service,
    /// Its newest spec; none if it is too large for a node.
    pub spec: Option<SpecHash>,
    /// How many instances have a node that is not lost.
    pub placed: usize,
    /// How many slots have none, and why the first of them.
    pub unplaced: (usize, Option<String>),
    /// Why each node cannot take one more, if a slot has no node.
    pub misfits: Vec<Misfit>,
    /// Nodes that could take one, of a service that no node can take: each with its reason.
    pub rollout: Option<String>,
    /// Whether the rollout goes on by itself.
    pub rollout_is_held: bool,
    /// How the number of its instances follows the load.
    pub scale: Option<ScaleView>,
}

/// The explanation of a service out of those of all its instances.
#[must_use]
pub fn explain_service(case: &ServiceCase<'_>, instances: Vec<Part>) -> Explanation {
    let part = service_part(case, &instances);
    let late = instances.into_iter().filter(|part| !part.well).collect();
    Explanation::of("service", part, late)
}

fn service_part(case: &ServiceCase<'_>, instances: &[Part]) -> Part {
    let well = match beside(case, instances.len()) {
        0 => "as wanted".to_owned(),
        more => format!("as wanted, and {more} more that nodes added"),
    };
    let mut chain = Chain::new();
    chain.then("spec", || spec(case));
    if !case.service.stopped {
        chain.then("placement", || placement(case));
        if chain.intact || case.placed > 0 {
            chain.also(of_parts("instances", instances, &well));
        }
        chain.then("update", || update(case));
        if let Some(scale) = &case.scale {
            chain.also(load(case, scale));
        }
    }
    let mut part = Part::of(case.key.to_string(), None, chain);
    if part.well {
        part.summary = format!("{} {well}", many(instances.len(), "instance"));
    }
    part
}

/// How many instances nodes have added to those that were placed on them.
fn beside(case: &ServiceCase<'_>, placed: usize) -> u32 {
    let scale = case.scale.as_ref().filter(|scale| scale.total.is_none());
    let running = scale.map_or(0, |scale| scale.nodes.iter().map(|node| node.running).sum::<u32>());
    running.saturating_sub(u32::try_from(placed).unwrap_or(u32::MAX))
}

fn spec(case: &ServiceCase<'_>) -> Link {
    let Service { mode, stopped, .. } = case.service;
    if *stopped {
        // A person's decision is no fault, but it is why nothing runs.
        return Link::broken("spec", "stopped by a person")
            .advise(format!("start it again: `limpet start {}`", case.key));
    }
    let Some(hash) = case.spec else {
        return Link::broken("spec", "its specification is too large for a node")
            .advise("make it smaller: environment, labels and configs count");
    };
    let image = &case.service.spec.image.reference;
    let count = match (&case.service.autoscale, mode.slots()) {
        (Some(ScalePolicy { per, min, max, .. }), _) => {
            let of = if *per == Per::Node { "a node by its load" } else { "by its load" };
            format!("{min} to {max} instances {of}")
        }
        (None, None) => "one a node".to_owned(),
        (None, Some(slots)) => many(usize::try_from(slots).unwrap_or(usize::MAX), "instance"),
    };
    Link::ok("spec", format!("{}, {count}, image {image}, spec {}", mode.as_str(), short(hash)))
}

fn placement(case: &ServiceCase<'_>) -> Link {
    let has = if case.placed == 1 { "has" } else { "have" };
    let placed = format!("{} {has} a node", many(case.placed, "instance"));
    match &case.unplaced {
        (0, None) => Link::ok("placement", placed),
        (0, Some(why)) => {
            Link::broken("placement", why.clone()).advise(advice::on_placement(&case.misfits))
        }
        (open, why) => {
            let why = why.as_deref().unwrap_or("it is being planned");
            Link::broken("placement", format!("{placed}, {open} not: {why}"))
                .advise(advice::on_placement(&case.misfits))
        }
    }
}

/// Figures that the node measures by itself.
const MEASURED: [&str; 4] = ["cpu", "memory", "connections", "network"];
/// Nodes that a sentence names.
const MAX_NAMED: usize = 4;

fn load(case: &ServiceCase<'_>, scale: &ScaleView) -> Link {
    let ScaleView { per, min, max, total, nodes } = scale;
    let bounds = match total {
        Some(total) => format!("{total} over the fleet, between {min} and {max}"),
        None => format!("between {min} and {max} on each {per}"),
    };
    let said: Vec<String> = nodes.iter().take(MAX_NAMED).map(of_node).collect();
    let more = nodes.len().saturating_sub(said.len());
    let more = if more > 0 { format!("; and {more} more nodes") } else { String::new() };
    let text = format!("{bounds}: {}{more}", said.join("; "));
    let limit = |limit: &str| nodes.iter().find(|node| node.limit == limit);
    if nodes.is_empty() {
        return Link::waiting("load", format!("{bounds}: no node has said anything yet"));
    }
    if let Some(node) = limit("no_metric") {
        return Link::waiting("load", text).advise(on_missing(case, node));
    }
    if let Some(node) = limit("room") {
        let advice = format!("{} is short of memory or too hot: take load off it", node.node);
        return Link::waiting("load", text).advise(advice);
    }
    Link::ok("load", text)
}

/// What to do about a figure that cannot be had: where it comes from says what.
fn on_missing(case: &ServiceCase<'_>, node: &NodeScaleView) -> String {
    let mut missing = node.figures.iter().filter(|figure| figure.value_thousandths.is_none());
    let metrics = || case.service.autoscale.iter().flat_map(|policy| &policy.metrics);
    let is_published = |figure: &&FigureView| {
        let mut topics = metrics().filter(|metric| metric.source == MetricSource::Topic);
        topics.any(|metric| metric.name == figure.metric)
    };
    if let Some(figure) = missing.clone().find(is_published) {
        let ServiceKey { application, service } = case.key.clone();
        let topic = figure.metric.parse().map(|name| {
            Topic::Metric(Box::new(MetricTopic { application, service, name })).to_string()
        });
        let topic = topic.unwrap_or_else(|_| "its topic".to_owned());
        return format!("publish a number such as 42 on {topic} every 30 s");
    }
    if missing.all(|figure| MEASURED.contains(&figure.metric.as_str())) {
        return format!("{} measures it once an instance has been ready for a second", node.node);
    }
    format!(
        "a figure cannot be had on {}: see that the instance answers at the port and path of `metrics`, or \
         take it out",
        node.node
    )
}

/// `n1 runs 2 of 3 that are asked for (most: cpu 92 of 60)`.
fn of_node(node: &NodeScaleView) -> String {
    let figures = node.figures.iter().map(|figure| {
        let value = figure.value_thousandths.map_or_else(|| "?".to_owned(), in_words);
        let why = figure.missing.as_ref().map(|why| format!(" ({why})")).unwrap_or_default();
        format!("{} {value} of {}{why}", figure.metric, in_words(figure.target_thousandths))
    });
    let figures = figures.collect::<Vec<_>>().join(", ");
    let limit = if node.limit == "none" { String::new() } else { format!("{}: ", node.limit) };
    format!(
        "{} runs {} of {} that are asked for ({limit}{figures})",
        node.node, node.running, node.wish
    )
}

fn update(case: &ServiceCase<'_>) -> Link {
    match &case.rollout {
        None => Link::ok("update", "every instance has the newest spec, or is about to"),
        Some(rollout) if case.rollout_is_held => Link::broken("update", rollout.clone()).advise(
            format!("`limpet rollout status {0}`, then `limpet rollout resume|undo {0}`", case.key),
        ),
        Some(rollout) => Link::waiting("update", rollout.clone()),
    }
}

/// The link that says how the parts are; with the trouble of the first that is not well.
pub(super) fn of_parts(link: &str, parts: &[Part], well: &str) -> Link {
    let late = parts.iter().filter(|part| !part.well);
    let Some(first) = late.clone().next() else {
        return Link::ok(link, format!("{} {well}", parts.len()));
    };
    let count = late.count();
    let is = if count == 1 { "is" } else { "are" };
    let says =
        format!("{count} of {} {is} not as wanted: {}: {}", parts.len(), first.name, first.summary);
    let broken =
        parts.iter().any(|part| part.chain.iter().any(|link| link.state == super::State::Broken));
    let it = if broken { Link::broken(link, says) } else { Link::waiting(link, says) };
    Link { advice: first.advice.clone(), ..it }
}

/// The explanation of an application out of those of its services.
#[must_use]
pub fn explain_application(name: &str, services: Vec<Explanation>) -> Explanation {
    let part = |it: Explanation| Part {
        name: it.name,
        node: None,
        well: it.well,
        summary: it.summary,
        advice: it.advice,
        chain: it.chain,
    };
    let parts: Vec<Part> = services.into_iter().map(part).collect();
    let mut chain = Chain::new();
    chain.also(of_parts("services", &parts, "as wanted"));
    let mut whole = Part::of(name.to_owned(), None, chain);
    if whole.well {
        whole.summary = format!("{} as wanted", many(parts.len(), "service"));
    }
    Explanation::of("application", whole, parts.into_iter().filter(|part| !part.well).collect())
}
