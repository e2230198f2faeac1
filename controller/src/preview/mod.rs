//! Previewing: what would an apply do? No clock, no chance, no I/O.
//!
//! In: a copy of the planner as it is, the application as it is and as it would be. Out: a
//! [`PlanView`]: for each service which keys change, and for each of its slots what would start,
//! stop, move, be updated, stay or find no node, and why. The copy plans as the controller would;
//! nothing else knows of it.
//!
//! What nodes would fetch ([`Pulls`]) is asked of them afterwards.

mod differences;
mod steps;
mod waves;
mod words;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use limpet_protocol::application::Application;
use limpet_protocol::id::{NodeId, ServiceName, SpecHash};
use limpet_protocol::spec::ImageSource;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::plan::{Planner, ServiceKey, joins};
use crate::rollout::dependencies_first;

/// Steps that one service shows; the rest is a number.
pub const MAX_STEPS: usize = 200;
/// Nodes that one wave shows.
const MAX_WAVE_NODES: usize = 8;
/// Other services that are shown with what the plan would do to them.
const MAX_OTHERS: usize = 20;

/// What is asked.
#[derive(Debug)]
pub struct Question<'a> {
    /// How everything is planned now.
    pub now: &'a Planner,
    /// The application as it is wanted now, if it is.
    pub old: Option<&'a Application>,
    /// The application as it would be.
    pub new: &'a Application,
    /// The specs of its services; none of one that is too large for a node.
    pub specs: BTreeMap<ServiceName, Option<SpecHash>>,
}

/// What an apply would do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PlanView {
    /// The application.
    pub application: String,
    /// The revision of it that this is the plan for, 0 if it is not there: what `if_revision` of an
    /// apply takes.
    pub revision: u64,
    /// Whether there is anything to do.
    pub changes: bool,
    /// Its services, those that come first in `depends_on` first, and those that are removed.
    pub services: Vec<ServicePlan>,
    /// What it would do to services of other applications, in words.
    pub others: Vec<String>,
    /// What nodes would fetch for it.
    pub pulls: Vec<NodePull>,
}

/// What an apply would do to a service.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServicePlan {
    /// Which.
    pub service: String,
    /// `add`, `change`, `remove` or `none`.
    pub action: String,
    /// The image that it would have.
    pub image: String,
    /// Which keys of the Compose file change.
    pub keys: Vec<KeyChange>,
    /// How many instances would start, on a node that had none of that slot.
    pub starts: u32,
    /// How many places there would be where an instance starts only when its load asks for it.
    #[serde(default)]
    pub idles: u32,
    /// How many would stop for good.
    pub stops: u32,
    /// How many would go to another node.
    pub moves: u32,
    /// How many would be replaced where they are.
    pub updates: u32,
    /// How many would stay as they are.
    pub stays: u32,
    /// How many would have no node.
    pub pending: u32,
    /// Why not, one sentence for each cause.
    pub reasons: Vec<String>,
    /// In what order instances would be updated; none if none is.
    pub order: Option<String>,
    /// In which waves (`deploy.x-rollout`), if every one of them succeeds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waves: Vec<WavePlan>,
    /// What would happen to each instance that does not stay. At most 200.
    pub steps: Vec<Step>,
    /// How many more steps there are.
    pub more: u32,
}

/// A wave of an update.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WavePlan {
    /// Which instances are in it, in words.
    pub which: String,
    /// How many.
    pub instances: u32,
    /// Their nodes, at most 8.
    pub nodes: Vec<String>,
}

/// A key of the Compose file that changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeyChange {
    /// As the file has it: `image`, `deploy.replicas`, `environment.TZ`.
    pub key: String,
    /// What it is, of keys whose values are nobody's secret.
    pub from: Option<String>,
    /// What it would be, likewise.
    pub to: Option<String>,
}

/// What would happen to an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Step {
    /// `start`, `stop`, `move`, `update` or `pend`.
    pub action: String,
    /// `application.service.slot`.
    pub instance: String,
    /// Where it would run, or runs until it is stopped; none if it finds no node.
    pub node: Option<String>,
    /// Where it runs now, if it would move.
    pub from: Option<String>,
    /// Whether the node can be reached now; what it shall do waits until it can.
    pub reachable: bool,
}

/// What a node would fetch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodePull {
    /// Which node.
    pub node: String,
    /// Bytes over all images; none if that is not known of one of them.
    pub bytes: Option<u64>,
    /// Each image.
    pub images: Vec<ImagePull>,
}

/// What a node would fetch of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ImagePull {
    /// The image as the file names it.
    pub image: String,
    /// Bytes that are not there yet; 0 if all of it is.
    pub bytes: Option<u64>,
    /// Why that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unknown: Option<String>,
}

/// The images that instances would start from, by node.
pub type Pulls = BTreeMap<NodeId, Vec<ImageSource>>;

/// What an apply would do, and which images would be needed where.
#[must_use]
pub fn preview(question: &Question<'_>) -> (PlanView, Pulls) {
    let Question { now, old, new, specs } = question;
    let key = |service: &ServiceName| ServiceKey {
        application: new.name.clone(),
        service: service.clone(),
    };
    let mut then = (*now).clone();
    then.set_application(&new.name, joins::wanted(new, specs));
    let changes = then.plan();
    let worlds = steps::Worlds { now, then: &then };
    let mut view = PlanView { application: new.name.to_string(), ..PlanView::default() };
    let mut pulls = Pulls::new();
    for name in dependencies_first(&new.services) {
        let before = old.and_then(|old| old.services.get(name));
        if let Some(service) = new.services.get(name) {
            let of_service = steps::Of { key: key(name), before, after: Some(service) };
            let mut plan = steps::plan(&worlds, &of_service, &mut pulls);
            if specs.get(name).copied().flatten().is_none() {
                plan.reasons.push("its specification is too large for a node".to_owned());
            }
            view.services.push(plan);
        }
    }
    let gone = old.iter().flat_map(|old| &old.services);
    for (name, service) in gone.filter(|(name, _)| !new.services.contains_key(*name)) {
        let of_service = steps::Of { key: key(name), before: Some(service), after: None };
        view.services.push(steps::plan(&worlds, &of_service, &mut pulls));
    }
    let others = changes.services.iter().filter(|key| key.application != new.name);
    view.others = others.filter_map(|key| steps::other(&worlds, key)).take(MAX_OTHERS).collect();
    // What found no node before and finds none then is no change.
    let moves = |plan: &ServicePlan| plan.steps.iter().any(|step| step.action != "pend");
    view.changes = view.services.iter().any(|plan| plan.action != "none" || moves(plan))
        || !view.others.is_empty();
    (view, pulls)
}
