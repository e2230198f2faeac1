//! What the controller shows: one view of every service, instance and node.
//!
//! In: what is wanted and placed, what nodes report. Out: the values of the API. Pure: the control
//! loop says what changed, [`Gallery`] keeps the rest.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use limpet_protocol::application::Service;
use limpet_protocol::id::{InstanceId, NodeId, Slot, SpecHash};
use limpet_protocol::phase::Phase;
use limpet_protocol::report::{Exit, Health, InstanceStatus};
use limpet_protocol::spec::RestartCondition;

use super::node::ObservedNode;
use super::node_view::{Told, node_view};
use super::ports_view::{host_ports, ingress_ports};
use super::scale_view::scale_view;
use crate::api::types::{InstanceView, NodeView, RolloutView, ServiceView};
use crate::control_loop::View;
use crate::plan::filter::cut;
use crate::plan::{Planner, ServiceKey, Standing};
use crate::rollout::{Progress, Rollouts};
use crate::scale::Totals;
use crate::store::Revision;

/// The word for the phase of an instance whose node cannot be heard.
const UNKNOWN: &str = "unknown";
/// The word for the phase of an instance that the load does not ask for.
const IDLE: &str = "idle";
/// Reasons that one service shows; a hundred nodes with the same trouble need no hundred lines.
const MAX_REASONS: usize = 8;

/// What there is to show, kept by what it depends on.
#[derive(Debug, Default)]
pub struct Gallery {
    services: BTreeMap<ServiceKey, (Arc<ServiceView>, Vec<Arc<InstanceView>>)>,
    /// What nodes run beyond what is wanted of them.
    extras: BTreeMap<NodeId, Vec<Arc<InstanceView>>>,
    nodes: BTreeMap<NodeId, Arc<NodeView>>,
}

/// What a view is made of.
#[derive(Debug, Clone, Copy)]
pub struct Sources<'a> {
    /// What is wanted and where.
    pub planner: &'a Planner,
    /// Which spec each slot has.
    pub rollouts: &'a Rollouts,
    /// How many the load asks for over the fleet.
    pub totals: &'a Totals,
    /// What the nodes say.
    pub nodes: &'a BTreeMap<NodeId, ObservedNode>,
}

/// A service to show.
#[derive(Debug, Clone, Copy)]
pub struct Shown<'a> {
    /// Which.
    pub key: &'a ServiceKey,
    /// What people want.
    pub service: &'a Service,
    /// Its current spec; none if it is too large for any node.
    pub spec: Option<SpecHash>,
    /// When it was applied: milliseconds since 1970.
    pub applied_ms: u64,
}

impl Gallery {
    /// All of it, in the order of the names.
    #[must_use]
    pub fn view(&self, revision: Revision) -> View {
        let of_services = self.services.values().flat_map(|(_, instances)| instances);
        let of_nodes = self.extras.values().flatten();
        let mut instances: Vec<Arc<InstanceView>> = of_services.chain(of_nodes).cloned().collect();
        instances.sort_by(|a, b| order(a).cmp(&order(b)));
        let services = self.services.iter();
        View {
            revision,
            nodes: self.nodes.values().cloned().collect(),
            instances,
            services: services
                .map(|(key, (view, _))| (key.application.to_string(), Arc::clone(view)))
                .collect(),
        }
    }

    /// A service changed, or what runs of it.
    pub fn show_service(&mut self, shown: Shown<'_>, sources: Sources<'_>) {
        let rows = rows(shown, sources);
        let service = Arc::new(service_view(shown, sources, &rows));
        let instances = rows.into_iter().map(|row| Arc::new(row.view)).collect();
        self.services.insert(shown.key.clone(), (service, instances));
    }

    /// A service as it was last shown.
    #[must_use]
    pub fn service(&self, key: &ServiceKey) -> Option<&ServiceView> {
        self.services.get(key).map(|(view, _)| &**view)
    }

    /// A service is gone.
    pub fn hide_service(&mut self, key: &ServiceKey) {
        self.services.remove(key);
    }

    /// A node changed, or what it runs.
    pub fn show_node(&mut self, id: &NodeId, told: Told<'_>, sources: Sources<'_>) {
        let Some(node) = sources.nodes.get(id) else {
            self.nodes.remove(id);
            self.extras.remove(id);
            return;
        };
        let mut assigned = assigned(id, sources.planner);
        let count = u32::try_from(assigned.len()).unwrap_or(u32::MAX);
        let beside = node.beside().filter(|instance| assigned.contains(&home_of(instance)));
        let beside: Vec<InstanceId> = beside.cloned().collect();
        assigned.extend(beside);
        let extras: Vec<Arc<InstanceView>> = node
            .instances
            .values()
            .filter(|status| status.phase != Phase::Removed && !assigned.contains(&status.instance))
            .map(|status| Arc::new(extra(id, node, status)))
            .collect();
        if extras.is_empty() {
            self.extras.remove(id);
        } else {
            self.extras.insert(id.clone(), extras);
        }
        self.nodes.insert(id.clone(), Arc::new(node_view(node, told, count, sources.planner)));
    }
}

fn order(view: &InstanceView) -> (&str, &str, u32, &Option<String>) {
    (&view.application, &view.service, view.slot, &view.node)
}

fn assigned(id: &NodeId, planner: &Planner) -> BTreeSet<InstanceId> {
    let shares = planner.share(id);
    let instances = shares.iter().flat_map(|share| {
        share.slots.iter().map(|slot| InstanceId {
            application: share.application.clone(),
            service: share.service.clone(),
            slot: *slot,
        })
    });
    instances.collect()
}

/// The instance that a node adds others beside.
fn home_of(instance: &InstanceId) -> InstanceId {
    InstanceId { slot: instance.slot.home().0, ..instance.clone() }
}

/// An instance to show, and how it counts.
struct Row {
    view: InstanceView,
    counts: Counts,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Counts {
    Ready,
    /// It runs, but its checks do not let it have traffic (yet).
    Running,
    Completed,
    /// The load asks for fewer.
    Idle,
    Not,
}

fn rows(shown: Shown<'_>, sources: Sources<'_>) -> Vec<Row> {
    let unplaced = sources.planner.unplaced(shown.key);
    let mut rows: Vec<Row> = sources
        .planner
        .places(shown.key)
        .map(|(node, slot)| {
            let why = unplaced.iter().find(|u| u.slot == slot && u.node.as_ref() == Some(node));
            placed_row(shown, sources, (node, slot), why.map(|u| u.reason.as_str()))
        })
        .collect();
    rows.extend(beside_rows(shown, sources));
    let places_enough = sources.totals.total(shown.key).unwrap_or(u32::MAX);
    for open in unplaced.iter().filter(|open| open.slot.0 <= places_enough) {
        let there = rows.iter().any(|row| {
            row.view.slot == open.slot.0
                && row.view.node.as_deref() == open.node.as_ref().map(NodeId::as_str)
        });
        if !there {
            let mut view = blank(shown, open.slot, None);
            view.reason = Some(open.reason.clone());
            rows.push(Row { view, counts: Counts::Not });
        }
    }
    rows.extend(failed_rows(shown, sources, &rows));
    rows.sort_by(|a, b| order(&a.view).cmp(&order(&b.view)));
    rows
}

/// Instances that nodes run beside those that were placed there, because the load asks for them.
fn beside_rows(shown: Shown<'_>, sources: Sources<'_>) -> Vec<Row> {
    let mut rows = vec![];
    for (id, home) in sources.planner.places(shown.key) {
        let Some(node) = sources.nodes.get(id) else { continue };
        let of_it = |instance: &&InstanceId| {
            let own = ServiceKey::of(instance) == *shown.key && instance.slot.home().0 == home;
            own && node.instances.get(*instance).is_some_and(|it| it.phase != Phase::Removed)
        };
        for instance in node.beside().filter(of_it) {
            rows.push(placed_row(shown, sources, (id, instance.slot), None));
        }
    }
    rows
}

/// Slots that failed for good and are on no node any more.
fn failed_rows(shown: Shown<'_>, sources: Sources<'_>, rows: &[Row]) -> Vec<Row> {
    let progress = sources.planner.progress().get(shown.key);
    let failed = progress.into_iter().flat_map(|progress| &progress.failed);
    let gone = failed.filter(|(slot, _)| rows.iter().all(|row| row.view.slot != slot.0));
    let row = |(slot, why): (&Slot, &String)| {
        let mut view = blank(shown, *slot, None);
        view.phase = Phase::Failed.to_string();
        view.reason = Some(why.clone());
        Row { view, counts: Counts::Not }
    };
    gone.map(row).collect()
}

fn blank(shown: Shown<'_>, slot: Slot, node: Option<&NodeId>) -> InstanceView {
    let ServiceKey { application, service } = shown.key;
    InstanceView {
        instance: format!("{application}.{service}.{slot}"),
        application: application.to_string(),
        service: service.to_string(),
        slot: slot.0,
        node: node.map(ToString::to_string),
        attempt: 0,
        image: shown.service.spec.image.reference.clone(),
        phase: Phase::Pending.to_string(),
        since_ms: shown.applied_ms,
        reason: None,
        exit_code: None,
        out_of_memory: false,
        current: true,
        health: None,
        ready: None,
        address: None,
        ports: ingress_ports(shown.service),
    }
}

fn placed_row(
    shown: Shown<'_>,
    sources: Sources<'_>,
    (id, slot): (&NodeId, Slot),
    why: Option<&str>,
) -> Row {
    let mut view = blank(shown, slot, Some(id));
    view.phase = Phase::Assigned.to_string();
    let Some(node) = sources.nodes.get(id) else { return Row { view, counts: Counts::Not } };
    let instance = InstanceId {
        application: shown.key.application.clone(),
        service: shown.key.service.clone(),
        slot,
    };
    view.address = node.network.addresses.get(&instance).map(ToString::to_string);
    view.ports.extend(host_ports(shown, sources.planner, id));
    let status = node.instances.get(&instance);
    if let Some(status) = status {
        fill(&mut view, status);
        view.current = Some(status.spec) == shown.spec;
        // What is left of an instance that was removed says nothing about the one that is wanted.
        if status.phase == Phase::Removed {
            view.phase = Phase::Assigned.to_string();
        }
    }
    if let Some(counts) = over(&mut view, sources, (shown.key, id, slot)) {
        return Row { view, counts };
    }
    if node.standing != Standing::Ready {
        view.phase = UNKNOWN.to_owned();
        (view.health, view.ready) = (None, None);
        let standing = format!("node {id} is {}", node.standing.as_str());
        view.reason = Some(why.map_or(standing, str::to_owned));
        return Row { view, counts: Counts::Not };
    }
    if status.is_none() && node.is_idle(shown.key, slot) {
        view.phase = IDLE.to_owned();
        view.reason = Some("the load asks for fewer".to_owned());
        return Row { view, counts: Counts::Idle };
    }
    // What is beside another has the spec of that.
    let home = if node.is_beside(shown.key, slot) { slot.home().0 } else { slot };
    let has = sources.rollouts.spec_of(shown.key, id, home).map(|(spec, _)| spec);
    let counts = match status {
        Some(status) if Some(status.spec) == has => counts(shown.service, status),
        _ => Counts::Not,
    };
    if let Some(why) = why {
        // It runs, and it is about to go: from a drained node.
        view.reason = Some(why.to_owned());
    }
    Row { view, counts }
}

/// What is over is so wherever it was, and whatever its node says by now.
fn over(
    view: &mut InstanceView,
    sources: Sources<'_>,
    (key, id, slot): (&ServiceKey, &NodeId, Slot),
) -> Option<Counts> {
    let progress = sources.planner.progress();
    if progress.is_done(key, id, slot) {
        view.phase = Phase::Completed.to_string();
        view.reason = None;
        return Some(Counts::Completed);
    }
    let why = progress.why_failed(key, Some(id), slot)?;
    view.phase = Phase::Failed.to_string();
    view.reason = Some(why.to_owned());
    Some(Counts::Not)
}

/// Slots that have completed and are on no node any more.
fn completed_elsewhere(shown: Shown<'_>, sources: Sources<'_>, rows: &[Row]) -> usize {
    let Some(progress) = sources.planner.progress().get(shown.key) else { return 0 };
    let Some(slots) = shown.service.mode.slots() else { return 0 };
    let there = |slot: &Slot| {
        rows.iter().any(|row| row.view.slot == slot.0 && row.counts == Counts::Completed)
    };
    let done = progress.done.range(..=Slot(slots));
    if shown.service.stopped { 0 } else { done.filter(|slot| !there(slot)).count() }
}

fn counts(service: &Service, status: &InstanceStatus) -> Counts {
    let scheduled = service.spec.schedule.is_some();
    let again = service.spec.restart.condition == RestartCondition::Any && !scheduled;
    match status.phase {
        // Between two runs, or before the first.
        Phase::Waiting if scheduled => Counts::Completed,
        Phase::Running if is_ready(status) => Counts::Ready,
        Phase::Running => Counts::Running,
        Phase::Completed if !again => Counts::Completed,
        _ => Counts::Not,
    }
}

/// Whether nothing that looks after the instance holds it back.
fn is_ready(status: &InstanceStatus) -> bool {
    status.is_ready() && matches!(status.health, None | Some(Health::Healthy))
}

/// Why a running instance is not ready, for a person to read.
fn not_ready(status: &InstanceStatus) -> Option<&'static str> {
    if status.phase != Phase::Running || is_ready(status) {
        return None;
    }
    Some(match status.health {
        Some(Health::Unhealthy) => "its health check fails",
        Some(Health::Starting) => "its health check has not succeeded yet",
        Some(Health::Healthy) | None => "its ready probe has not succeeded",
    })
}

fn fill(view: &mut InstanceView, status: &InstanceStatus) {
    view.attempt = status.attempt;
    view.phase = status.phase.to_string();
    view.since_ms = status.since_ms;
    let ended =
        status.last_exit.filter(|_| status.phase != Phase::Running).map(|exit| match exit {
            Exit { out_of_memory: true, .. } => "the kernel ended it for want of memory".to_owned(),
            Exit { code: Some(code), .. } => format!("it ended with exit code {code}"),
            Exit { code: None, .. } => "it ended while nobody watched".to_owned(),
        });
    let ended = ended.or_else(|| not_ready(status).map(str::to_owned));
    view.reason = status.reason.clone().map(cut).or(ended);
    view.health = status.health.map(|health| health.as_str().to_owned());
    view.ready = status.ready;
    view.exit_code = status.last_exit.and_then(|exit| exit.code);
    view.out_of_memory = status.last_exit.is_some_and(|exit| exit.out_of_memory);
}

/// What a node runs although nobody wants it there any more.
fn extra(id: &NodeId, node: &ObservedNode, status: &InstanceStatus) -> InstanceView {
    let InstanceId { application, service, slot } = &status.instance;
    let mut view = InstanceView {
        instance: status.instance.to_string(),
        application: application.to_string(),
        service: service.to_string(),
        slot: slot.0,
        node: Some(id.to_string()),
        attempt: 0,
        image: String::new(),
        phase: String::new(),
        since_ms: 0,
        reason: None,
        exit_code: None,
        out_of_memory: false,
        current: false,
        health: None,
        ready: None,
        address: node.network.addresses.get(&status.instance).map(ToString::to_string),
        ports: vec![],
    };
    fill(&mut view, status);
    if node.standing != Standing::Ready {
        view.phase = UNKNOWN.to_owned();
        view.reason = Some(format!("not wanted there; node {id} is {}", node.standing.as_str()));
    } else if view.reason.is_none() {
        view.reason = Some("not wanted any more".to_owned());
    }
    view
}

fn service_view(shown: Shown<'_>, sources: Sources<'_>, rows: &[Row]) -> ServiceView {
    let count = |what: Counts| {
        u32::try_from(rows.iter().filter(|row| row.counts == what).count()).unwrap_or(u32::MAX)
    };
    let elsewhere = completed_elsewhere(shown, sources, rows);
    let ready = count(Counts::Ready);
    let completed =
        count(Counts::Completed).saturating_add(u32::try_from(elsewhere).unwrap_or(u32::MAX));
    let (mode, stopped) = (shown.service.mode, shown.service.stopped);
    let placed = u32::try_from(rows.len()).unwrap_or(u32::MAX).saturating_sub(count(Counts::Idle));
    let slots = mode.slots().filter(|_| shown.service.autoscale.is_none());
    let wanted = if stopped { 0 } else { slots.unwrap_or(placed) };
    let nowhere = match shown.spec {
        Some(_) => sources.planner.why_nowhere(shown.key),
        None => Some("its specification is too large for a node: make it smaller".to_owned()),
    };
    let rollout = sources.rollouts.progress(shown.key);
    let there = rollout.as_ref().is_none_or(Progress::is_done);
    // A job is as wanted when all its runs have completed, not while they run.
    let as_wanted = if mode.is_job() { completed } else { ready.saturating_add(completed) };
    let settled = there && nowhere.is_none() && as_wanted == wanted;
    let mut reasons = reasons(rows);
    reasons.extend(nowhere);
    reasons.extend(rollout.as_ref().filter(|_| !there).map(|rollout| cut(rollout.in_words())));
    if stopped {
        let key = shown.key;
        reasons.push(format!("stopped by a person: `limpet start {key}` starts it again"));
    }
    ServiceView {
        name: shown.key.service.to_string(),
        mode: mode.as_str().to_owned(),
        image: shown.service.spec.image.reference.clone(),
        wanted,
        running: ready.saturating_add(count(Counts::Running)),
        ready,
        completed,
        stopped,
        settled,
        reasons,
        rollout: rollout.map(RolloutView::from),
        scale: scale_view(shown, sources),
    }
}

/// One sentence for each cause, with how many instances it holds up.
fn reasons(rows: &[Row]) -> Vec<String> {
    let mut causes: BTreeMap<(&str, &str), (usize, &InstanceView)> = BTreeMap::new();
    let late = |row: &&Row| matches!(row.counts, Counts::Not | Counts::Running);
    for row in rows.iter().filter(late) {
        if let Some(reason) = &row.view.reason {
            let cause = causes.entry((&row.view.phase, reason)).or_insert((0, &row.view));
            cause.0 += 1;
        }
    }
    let more = causes.len().saturating_sub(MAX_REASONS);
    let sentence = |((phase, reason), (count, first)): ((&str, &str), (usize, &InstanceView))| {
        let place = first.node.as_ref().map(|node| format!(" on {node}")).unwrap_or_default();
        match count {
            1 => cut(format!("{}{place} is {phase}: {reason}", first.instance)),
            _ => cut(format!("{count} instances are {phase}: {reason}")),
        }
    };
    let mut reasons: Vec<String> = causes.into_iter().take(MAX_REASONS).map(sentence).collect();
    if more > 0 {
        reasons.push(format!("and {more} more reasons"));
    }
    reasons
}
