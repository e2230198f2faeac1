//! The controller's half of a story: planner and rollouts, as its loop drives them, and the clock.

use std::collections::BTreeMap;
use std::sync::Arc;

use limpet_agent::reconcile::{Wanted, WantedInstance};
use limpet_controller::dispatch::want::encode_spec;
use limpet_controller::plan::{
    Node as PlanNode, Planner, ServiceKey, Stage, Standing, Wanted as Placing,
};
use limpet_controller::rollout::{
    Aim, Order, Rollouts, Seen, UnitStatus, dependencies_first, following, named_by,
};
use limpet_controller::store::records::Availability;
use limpet_protocol::application::Service;
use limpet_protocol::id::{ApplicationName, InstanceId, NodeId, ServiceName, Slot, SpecHash};
use limpet_protocol::message::NodeFacts;
use limpet_protocol::report::InstanceStatus;
use limpet_protocol::spec::Spec;

use super::node::{Fate, Node, Said};

/// Turns without time passing until a story is held to be stuck.
const MAX_TURNS: usize = 1_000;

/// See the module.
#[derive(Default)]
pub(crate) struct Story {
    now_ms: u64,
    told: Vec<String>,
    services: BTreeMap<ServiceName, Service>,
    planner: Planner,
    rollouts: Rollouts,
    specs: BTreeMap<SpecHash, Arc<Spec>>,
    nodes: BTreeMap<NodeId, Node>,
    standing: BTreeMap<NodeId, Standing>,
    fates: BTreeMap<String, Fate>,
    /// What each node said last.
    reports: BTreeMap<NodeId, Said>,
    said: BTreeMap<ServiceKey, String>,
    unplaced: BTreeMap<ServiceKey, Vec<String>>,
}

fn shop() -> ApplicationName {
    "shop".parse().expect("a name")
}

impl Story {
    pub(crate) fn take_told(&mut self) -> Vec<String> {
        std::mem::take(&mut self.told)
    }

    fn tell(&mut self, text: &str) {
        let (seconds, ms) = (self.now_ms / 1000, self.now_ms % 1000);
        self.told.push(format!("  {seconds}.{ms:03} {text}"));
    }

    pub(crate) fn join(&mut self, name: &str, labels: &[&str]) -> Result<(), String> {
        let id: NodeId = name.parse().map_err(|error| format!("{name:?}: {error}"))?;
        let labels = labels.iter().filter_map(|label| label.split_once('='));
        let facts = NodeFacts {
            agent_version: String::new(),
            hostname: name.to_owned(),
            os: "linux".to_owned(),
            architecture: "arm64".to_owned(),
            variant: String::new(),
            kernel: String::new(),
            cpu_millis: 4_000,
            memory_bytes: 1 << 30,
            labels: labels.map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
            conditions: vec![],
            devices: None,
            stages: true,
        };
        let node = PlanNode::of(&facts, &BTreeMap::new(), Standing::Ready);
        self.planner.set_node(&id, node);
        self.standing.insert(id.clone(), Standing::Ready);
        self.nodes.insert(id, Node::default());
        Ok(())
    }

    pub(crate) fn stand(&mut self, name: &str, how: &str) -> Result<(), String> {
        let id: NodeId = name.parse().map_err(|error| format!("{name:?}: {error}"))?;
        let standing = match how {
            "away" => Standing::Unreachable,
            "lost" => Standing::Lost,
            _ => Standing::Ready,
        };
        let node = self.planner.node(&id).ok_or_else(|| format!("there is no node {id}"))?.clone();
        self.planner.set_node(&id, PlanNode { standing, ..node });
        self.standing.insert(id, standing);
        self.settle();
        Ok(())
    }

    /// People let a node have work, or no more.
    pub(crate) fn let_work(
        &mut self,
        name: &str,
        availability: Availability,
    ) -> Result<(), String> {
        let id: NodeId = name.parse().map_err(|error| format!("{name:?}: {error}"))?;
        let node = self.planner.node(&id).ok_or_else(|| format!("there is no node {id}"))?.clone();
        self.planner.set_node(&id, PlanNode { availability, ..node });
        self.settle();
        Ok(())
    }

    pub(crate) fn image(&mut self, name: &str, what: &str) -> Result<(), String> {
        self.fates.insert(name.to_owned(), Fate::parse(what)?);
        Ok(())
    }

    pub(crate) fn wants(&mut self, name: &str, service: Service) -> Result<(), String> {
        self.services.insert(name.parse().map_err(|error| format!("{name:?}: {error}"))?, service);
        Ok(())
    }

    /// As the control loop takes over an application.
    pub(crate) fn apply(&mut self) {
        let mut specs: BTreeMap<ServiceName, Option<SpecHash>> = BTreeMap::new();
        let (mut wanted, mut aims) = (BTreeMap::new(), BTreeMap::new());
        for name in dependencies_first(&self.services) {
            let service = &self.services[name];
            let spec = following(service, &specs);
            let (hash, _) = encode_spec(&spec).expect("a small spec");
            self.specs.insert(hash, Arc::new(spec));
            specs.insert(name.clone(), Some(hash));
            let key = ServiceKey { application: shop(), service: name.clone() };
            wanted.insert(key, Placing::of(service, hash));
            aims.insert(name.clone(), Aim::of(service, hash));
        }
        self.rollouts.set_application(&shop(), aims, &self.planner);
        self.planner.set_application(&shop(), wanted);
        self.settle();
    }

    pub(crate) fn order(&mut self, name: &str, pause: bool) -> Result<(), String> {
        let service = name.parse().map_err(|error| format!("{name:?}: {error}"))?;
        let key = ServiceKey { application: shop(), service };
        let order = if pause { Order::Pause } else { Order::Resume };
        match self.rollouts.obey(&key, order, self.planner.places(&key)) {
            Ok(()) => self.settle(),
            Err(why) => self.tell(&format!("refused: {why}")),
        }
        Ok(())
    }

    /// Lets time pass, from one thing that happens to the next.
    pub(crate) fn run(&mut self, ms: u64) {
        let end = self.now_ms + ms;
        loop {
            self.settle();
            let nodes = self.nodes.values().filter_map(Node::next_ms);
            let next = nodes.chain(self.rollouts.deadline()).filter(|at| *at > self.now_ms).min();
            let Some(next) = next.filter(|next| *next <= end) else { break };
            self.now_ms = next;
        }
        self.now_ms = end;
        self.settle();
    }

    /// Controller and nodes in turn, until nothing happens any more without time.
    fn settle(&mut self) {
        for _ in 0..MAX_TURNS {
            self.controller();
            if !self.agents() {
                return;
            }
        }
        panic!("it never comes to rest at {} ms", self.now_ms);
    }

    fn controller(&mut self) {
        self.hear_reports();
        self.advance_moves();
        let changed = self.planner.plan().nodes;
        let live: Vec<ServiceKey> = self.rollouts.live().cloned().collect();
        for key in live.iter().filter(|_| !changed.is_empty()) {
            self.rollouts.placed(key, &changed, &self.planner);
        }
        for key in self.rollouts.take_ungathered() {
            self.rollouts.gather(&key, self.planner.places(&key));
        }
        let live: Vec<ServiceKey> = self.rollouts.live().cloned().collect();
        for key in &live {
            let places = self.planner.places(key);
            for (id, slot) in places.filter(|(id, slot)| self.planner.is_meant(key, id, *slot)) {
                let seen = self.seen(key, id, slot);
                self.rollouts.look(self.now_ms, key, slot, &seen);
            }
        }
        let effects = self.rollouts.step(self.now_ms, self.now_ms);
        for (key, unit) in effects.begun {
            if let Some(id) = self.planner.meant(&key, unit.slot()).cloned() {
                self.planner.begins_anew(&key, &id, unit.slot());
            }
        }
        self.planner.plan();
        for (_, news) in effects.news {
            self.tell(&news);
        }
        for name in self.services.keys().cloned().collect::<Vec<_>>() {
            let key = ServiceKey { application: shop(), service: name };
            let said = self.rollouts.progress(&key).map(|it| it.in_words()).unwrap_or_default();
            if self.said.insert(key.clone(), said.clone()).unwrap_or_default() != said {
                let said = if said.is_empty() { "at rest" } else { &said };
                self.tell(&format!("{key}: {said}"));
            }
            self.tell_unplaced(&key);
        }
    }

    /// Tells of slots that are not where they should be, each reason once.
    fn tell_unplaced(&mut self, key: &ServiceKey) {
        let unplaced: Vec<String> = self
            .planner
            .unplaced(key)
            .into_iter()
            .map(|it| format!("{key}.{}: {}", it.slot, it.reason))
            .collect();
        let before = self.unplaced.insert(key.clone(), unplaced.clone()).unwrap_or_default();
        for line in unplaced.iter().filter(|line| !before.contains(line)) {
            self.tell(line);
        }
    }

    /// What the nodes say of instances may end them for good.
    fn hear_reports(&mut self) {
        let reports = self.reports.clone();
        for (id, said) in &reports {
            if self.standing[id] != Standing::Ready {
                continue;
            }
            for status in said.instances.values() {
                let key = ServiceKey::of(&status.instance);
                let has = self.rollouts.spec_of(&key, id, status.instance.slot);
                if self.planner.report(id, status, has.map(|(spec, _)| spec)) {
                    let progress = self.planner.progress().get(&key);
                    let (done, failed) =
                        progress.map_or((0, 0), |it| (it.done.len(), it.failed.len()));
                    self.tell(&format!("{key}: {done} completed, {failed} failed"));
                }
            }
        }
    }

    /// As the control loop takes moves on.
    fn advance_moves(&mut self) {
        let (mut left, mut arrived) = (vec![], vec![]);
        for (key, slot, step) in self.planner.moves() {
            let (from, to) = (self.status(key, &step.from, slot), self.status(key, &step.to, slot));
            let told = self.rollouts.spec_of(key, &step.to, slot).map(|(spec, _)| spec);
            let is_lost = self.standing[&step.from] == Standing::Lost;
            match step.stage {
                Stage::Leaving if from.is_none() || is_lost => left.push((key.clone(), slot)),
                Stage::Coming { .. }
                    if to.is_some_and(|it| it.is_ready() && Some(it.spec) == told) =>
                {
                    arrived.push((key.clone(), slot));
                }
                _ => {}
            }
        }
        left.iter().for_each(|(key, slot)| self.planner.left(key, *slot));
        arrived.iter().for_each(|(key, slot)| self.planner.arrived(key, *slot));
    }

    fn status(&self, key: &ServiceKey, id: &NodeId, slot: Slot) -> Option<&InstanceStatus> {
        self.reports.get(id)?.instances.get(&instance(key, slot))
    }

    fn seen(&self, key: &ServiceKey, id: &NodeId, slot: Slot) -> Seen {
        let report = self.reports.get(id);
        let (goal, waves) = self.rollouts.goal(key).expect("a service that is known");
        let node = self.planner.node(id).expect("a node that is known");
        Seen {
            node: Some(id.clone()),
            reachable: self.standing[id] == Standing::Ready,
            status: self.status(key, id, slot).map(UnitStatus::of),
            staged: report.is_some_and(|report| report.staged.contains(&goal)),
            no_image: report.and_then(|report| report.no_image.get(&goal)).cloned(),
            waves: named_by(waves, id, node),
        }
    }

    /// The nodes hear, if they can, and do; whether anything happened.
    fn agents(&mut self) -> bool {
        let mut news = false;
        for (id, standing) in self.standing.clone() {
            let wanted = (standing == Standing::Ready).then(|| self.wanted(&id));
            let Some(node) = self.nodes.get_mut(&id) else { continue };
            if let Some(wanted) = wanted {
                node.hear(wanted);
            }
            let did = node.turn(self.now_ms, &self.fates);
            news |= !did.is_empty();
            let report = node.report();
            for text in did {
                self.tell(&format!("{id}: {text}"));
            }
            if standing == Standing::Ready && self.reports.get(&id) != Some(&report) {
                self.reports.insert(id, report);
                news = true;
            }
        }
        news
    }

    /// What the controller tells a node.
    fn wanted(&self, id: &NodeId) -> Wanted {
        let mut wanted = Wanted::new();
        for share in self.planner.share(id) {
            let key = ServiceKey { application: share.application, service: share.service };
            for slot in share.slots.iter().copied() {
                let Some((hash, order)) = self.rollouts.spec_of(&key, id, slot) else { continue };
                let spec = |hash: SpecHash| Some((hash, self.specs.get(&hash)?.clone()));
                // A slot that another node takes keeps what it has here until it goes.
                let meant = self.planner.is_meant(&key, id, slot);
                let has = self.nodes.get(id).and_then(|node| node.told(&instance(&key, slot)));
                let hash = has.filter(|_| !meant).unwrap_or(hash);
                let Some((hash, body)) = spec(hash) else { continue };
                let next = self.rollouts.next_of(&key, id, slot).filter(|_| meant).and_then(spec);
                let done = share.done.contains(&slot);
                let want = WantedInstance { order, next, done, ..WantedInstance::new(hash, body) };
                wanted.insert(instance(&key, slot), want);
            }
        }
        wanted
    }

    pub(crate) fn show(&mut self) {
        for (id, node) in &self.nodes {
            let runs = node.runs().join(" ");
            let runs = if runs.is_empty() { "nothing" } else { &runs };
            self.told.push(format!("  {id} runs {runs}"));
        }
    }
}

fn instance(key: &ServiceKey, slot: Slot) -> InstanceId {
    InstanceId { application: key.application.clone(), service: key.service.clone(), slot }
}
