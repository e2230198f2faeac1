//! What would happen to the instances of one service: two plans compared.

use std::collections::{BTreeMap, BTreeSet};

use limpet_protocol::application::{Mode, Service};
use limpet_protocol::id::{InstanceId, NodeId, Slot};
use limpet_protocol::scale::Per;

use super::{MAX_STEPS, Pulls, ServicePlan, Step, differences, waves, words};
use crate::plan::{Planner, ServiceKey, Standing};

/// Reasons that one service shows.
const MAX_REASONS: usize = 8;

/// How it is planned, and how it would be.
pub(super) struct Worlds<'a> {
    pub(super) now: &'a Planner,
    pub(super) then: &'a Planner,
}

/// A service as it is and as it would be.
pub(super) struct Of<'a> {
    pub(super) key: ServiceKey,
    pub(super) before: Option<&'a Service>,
    pub(super) after: Option<&'a Service>,
}

type Places = BTreeSet<(Slot, NodeId)>;

fn places(planner: &Planner, key: &ServiceKey) -> Places {
    planner.places(key).map(|(id, slot)| (slot, id.clone())).collect()
}

/// The plan of one service; notes the images that are needed for it.
pub(super) fn plan(worlds: &Worlds<'_>, of: &Of<'_>, pulls: &mut Pulls) -> ServicePlan {
    let (was, is) = (places(worlds.now, &of.key), places(worlds.then, &of.key));
    let spec = |planner: &Planner| planner.wanted(&of.key).map(|wanted| wanted.spec);
    let same_spec = spec(worlds.now) == spec(worlds.then);
    let is_global = of.after.is_some_and(|service| service.mode.is_global());
    let mut steps = Steps { of, worlds, plan: ServicePlan::default(), all: Vec::new() };
    // A slot of a replicated service that changes its node moves; one of a global one is another.
    let left: BTreeMap<Slot, &NodeId> = if is_global {
        BTreeMap::new()
    } else {
        was.difference(&is).map(|(slot, id)| (*slot, id)).collect()
    };
    let mut moved = BTreeSet::new();
    for (slot, id) in &is {
        if was.contains(&(*slot, id.clone())) {
            if same_spec {
                steps.plan.stays += 1
            } else {
                steps.add("update", *slot, Some(id), None)
            }
        } else if let Some(from) = left.get(slot) {
            moved.insert(*slot);
            steps.add("move", *slot, Some(id), Some(from));
        } else {
            steps.begin(*slot, id);
        }
    }
    for (slot, id) in was.difference(&is).filter(|(slot, _)| !moved.contains(slot)) {
        steps.add("stop", *slot, Some(id), None);
    }
    for open in worlds.then.unplaced(&of.key) {
        steps.add("pend", open.slot, open.node.as_ref(), None);
    }
    if let Some(service) = of.after {
        for step in &steps.all {
            if let (true, Some(id)) = (needs_image(&step.action), &step.node)
                && let Ok(id) = id.parse::<NodeId>()
            {
                let images = pulls.entry(id).or_default();
                if !images.contains(&service.spec.image) {
                    images.push(service.spec.image.clone());
                }
            }
        }
    }
    steps.finish()
}

fn needs_image(action: &str) -> bool {
    // What idles has its image fetched ahead.
    matches!(action, "start" | "idle" | "move" | "update")
}

/// How many instances run at least at a place, whatever the load.
fn least_at(service: &Service, slot: Slot) -> u32 {
    match (&service.autoscale, service.mode) {
        (Some(policy), _) if policy.per == Per::Node => policy.min,
        (Some(_), Mode::Replicated { replicas }) => u32::from(slot.0 <= replicas),
        _ => 1,
    }
}

struct Steps<'a> {
    of: &'a Of<'a>,
    worlds: &'a Worlds<'a>,
    plan: ServicePlan,
    all: Vec<Step>,
}

impl Steps<'_> {
    fn add(&mut self, action: &str, slot: Slot, node: Option<&NodeId>, from: Option<&NodeId>) {
        let count = match action {
            "start" => &mut self.plan.starts,
            "idle" => &mut self.plan.idles,
            "stop" => &mut self.plan.stops,
            "move" => &mut self.plan.moves,
            "update" => &mut self.plan.updates,
            _ => &mut self.plan.pending,
        };
        *count += 1;
        let ServiceKey { application, service } = self.of.key.clone();
        let ready = |id: &NodeId| self.worlds.then.standing(id) == Some(Standing::Ready);
        self.all.push(Step {
            action: action.to_owned(),
            instance: InstanceId { application, service, slot }.to_string(),
            node: node.map(ToString::to_string),
            from: from.map(ToString::to_string),
            reachable: node.is_none_or(ready) && from.is_none_or(ready),
        });
    }

    /// A place that there was not: as many start there as the service has at least, and where that is none it
    /// waits for its load.
    fn begin(&mut self, slot: Slot, id: &NodeId) {
        let least = self.of.after.map_or(1, |service| least_at(service, slot));
        self.add(if least == 0 { "idle" } else { "start" }, slot, Some(id), None);
        for beside in (1..least).filter_map(|number| slot.beside(number)) {
            self.add("start", beside, Some(id), None);
        }
    }

    fn finish(self) -> ServicePlan {
        let Self { of, worlds, mut plan, all } = self;
        let (before, after) = (of.before, of.after);
        plan.service = of.key.service.to_string();
        plan.image =
            after.or(before).map_or_else(String::new, |it| it.spec.image.reference.clone());
        plan.keys = match (before, after) {
            (Some(before), Some(after)) => differences::keys(before, after),
            _ => Vec::new(),
        };
        plan.action = match (before, after) {
            (None, _) => "add",
            (_, None) => "remove",
            (Some(before), Some(after)) if before != after => "change",
            _ => "none",
        }
        .to_owned();
        if plan.updates > 0 {
            plan.order = after.map(|service| words::order(service, plan.updates));
            let updated = all.iter().filter(|step| step.action == "update");
            plan.waves =
                after.map_or_else(Vec::new, |service| waves::waves(worlds.then, service, updated));
        }
        plan.reasons = reasons(worlds.then, of);
        plan.more = u32::try_from(all.len().saturating_sub(MAX_STEPS)).unwrap_or(u32::MAX);
        plan.steps = all.into_iter().take(MAX_STEPS).collect();
        plan
    }
}

fn reasons(then: &Planner, of: &Of<'_>) -> Vec<String> {
    let mut causes: BTreeMap<String, usize> = BTreeMap::new();
    for open in then.unplaced(&of.key) {
        *causes.entry(open.reason).or_default() += 1;
    }
    let sentence = |(reason, count): (String, usize)| match count {
        1 => reason,
        _ => format!("{count} instances: {reason}"),
    };
    let mut reasons: Vec<String> = causes.into_iter().take(MAX_REASONS).map(sentence).collect();
    reasons.extend(then.why_nowhere(&of.key));
    if of.after.is_some_and(|service| service.stopped) {
        reasons.push("it is stopped by a person".to_owned());
    }
    reasons
}

/// What it would do to a service of another application, in words; none if nothing.
pub(super) fn other(worlds: &Worlds<'_>, key: &ServiceKey) -> Option<String> {
    let (was, is) = (places(worlds.now, key), places(worlds.then, key));
    if was == is {
        return None;
    }
    let on = |set: Vec<&(Slot, NodeId)>| {
        let named: Vec<String> =
            set.iter().take(3).map(|(slot, id)| format!("{key}.{slot} on {id}")).collect();
        let more = set.len().saturating_sub(3);
        if more > 0 { format!("{} and {more} more", named.join(", ")) } else { named.join(", ") }
    };
    let (starts, stops) =
        (is.difference(&was).collect::<Vec<_>>(), was.difference(&is).collect::<Vec<_>>());
    let mut says = Vec::new();
    if !starts.is_empty() {
        says.push(format!("starts {}", on(starts)));
    }
    if !stops.is_empty() {
        says.push(format!("stops {}", on(stops)));
    }
    Some(says.join("; "))
}
