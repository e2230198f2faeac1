//! Tables of rollouts: a small fleet whose instances do what a test says.

use std::collections::{BTreeMap, BTreeSet};

use limpet_protocol::application::{FailureAction, Placement, Portion, Wave};
use limpet_protocol::assignment::Assignment;
use limpet_protocol::message::NodeFacts;

mod course;
mod images;
mod moves;
mod properties;
mod restart;
mod waves;

use super::*;
use crate::plan::{Needs, Node, Planner, ServiceKey, Stage, Standing, Wanted};
use crate::store::records::Availability;

fn hash(version: u8) -> SpecHash {
    SpecHash([version; 32])
}

fn key(service: &str) -> ServiceKey {
    ServiceKey { application: "a".parse().unwrap(), service: service.parse().unwrap() }
}

fn node(standing: Standing) -> Node {
    let facts = serde_json::json!({
        "agent_version": "", "hostname": "", "os": "linux", "architecture": "arm", "kernel": "",
        "cpu_millis": 1000, "memory_bytes": 1_u64 << 30,
    });
    let facts: NodeFacts = serde_json::from_value(facts).unwrap();
    Node::of(&facts, &BTreeMap::new(), standing)
}

/// What is wanted of a service, and how it changes.
#[derive(Debug, Clone)]
struct Want {
    version: u8,
    mode: Mode,
    update: UpdatePolicy,
    rollback: UpdatePolicy,
    waves: Option<WavePolicy>,
    after: Vec<&'static str>,
}

fn want(version: u8, replicas: u32) -> Want {
    Want {
        version,
        mode: Mode::Replicated { replicas },
        update: UpdatePolicy::default(),
        rollback: UpdatePolicy::default(),
        waves: None,
        after: vec![],
    }
}

/// Planner, rollouts and nodes that take over what they are told when they can be reached.
#[derive(Default)]
struct Fleet {
    planner: Planner,
    rollouts: Rollouts,
    standing: BTreeMap<NodeId, Standing>,
    /// What each slot runs, and how that went.
    runs: BTreeMap<(ServiceKey, NodeId, Slot), UnitStatus>,
    /// Versions that do not come up.
    bad: BTreeSet<u8>,
    /// Versions that are not up yet when they were started.
    slow: BTreeSet<u8>,
    /// Nodes that do not have the next image yet, and how often they tried in vain.
    without_image: BTreeMap<NodeId, u32>,
    /// Nodes that give what they have to others.
    drained: BTreeSet<NodeId>,
    /// The most units since something else was wanted: of so many a share may fail.
    units: usize,
    /// Which waves name a node.
    waves: BTreeMap<NodeId, u32>,
    now_ms: u64,
    news: Vec<String>,
}

impl Fleet {
    fn new(nodes: u32) -> Self {
        let mut fleet = Self::default();
        for number in 1..=nodes {
            fleet.stand(&format!("n{number}"), Standing::Ready);
        }
        fleet
    }

    fn stand(&mut self, name: &str, standing: Standing) {
        let id: NodeId = name.parse().unwrap();
        self.standing.insert(id.clone(), standing);
        self.set_node(&id);
    }

    fn drain(&mut self, name: &str, drained: bool) {
        let id: NodeId = name.parse().unwrap();
        if drained {
            self.drained.insert(id.clone())
        } else {
            self.drained.remove(&id)
        };
        self.set_node(&id);
    }

    fn set_node(&mut self, id: &NodeId) {
        let drained = self.drained.contains(id);
        let availability = if drained { Availability::Drain } else { Availability::Active };
        self.planner.set_node(id, Node { availability, ..node(self.standing[id]) });
    }

    fn apply(&mut self, services: &[(&str, Want)]) {
        self.want(services);
        self.settle();
    }

    fn want(&mut self, services: &[(&str, Want)]) {
        let application = "a".parse().unwrap();
        let aims = services.iter().map(|(name, want)| {
            let aim = Aim {
                spec: hash(want.version),
                mode: want.mode,
                update: want.update,
                rollback: want.rollback,
                waves: want.waves.clone(),
                after: want.after.iter().map(|name| name.parse().unwrap()).collect(),
            };
            (name.parse().unwrap(), aim)
        });
        self.rollouts.set_application(&application, aims.collect(), &self.planner);
        let wanted = services.iter().map(|(name, want)| {
            let json = serde_json::json!({
                "application": "a", "service": "s", "image": {"reference": "i"}
            });
            let mut service = Service::new(serde_json::from_value(json).unwrap(), want.mode);
            service.update = want.update;
            let wanted = Wanted {
                placement: Placement::default(),
                needs: Needs::default(),
                ..Wanted::of(&service, hash(want.version))
            };
            (key(name), wanted)
        });
        self.planner.set_application(&application, wanted.collect());
    }

    fn order(&mut self, order: Order) {
        let places: Vec<_> =
            self.planner.places(&key("s")).map(|(id, slot)| (id.clone(), slot)).collect();
        // It may have nothing to pause or resume.
        drop(self.rollouts.obey(&key("s"), order, places.iter().map(|(id, slot)| (id, *slot))));
    }

    /// One turn of the controller, and of the agents.
    fn turn(&mut self) -> bool {
        self.controller();
        self.agents()
    }

    /// As the control loop takes moves on.
    fn advance_moves(&mut self) {
        let run =
            |key: &ServiceKey, id: &NodeId, slot| self.runs.get(&(key.clone(), id.clone(), slot));
        let (mut left, mut arrived) = (vec![], vec![]);
        for (key, slot, step) in self.planner.moves() {
            let (from, to) = (run(key, &step.from, slot), run(key, &step.to, slot));
            let told = self.rollouts.spec_of(key, &step.to, slot).map(|(spec, _)| spec);
            match step.stage {
                Stage::Leaving if from.is_none() => left.push((key.clone(), slot)),
                Stage::Coming { .. } if to.is_some_and(|it| it.up && Some(it.spec) == told) => {
                    arrived.push((key.clone(), slot));
                }
                _ => {}
            }
        }
        left.iter().for_each(|(key, slot)| self.planner.left(key, *slot));
        arrived.iter().for_each(|(key, slot)| self.planner.arrived(key, *slot));
    }

    fn controller(&mut self) {
        self.advance_moves();
        let changes = self.planner.plan();
        let live: Vec<ServiceKey> = self.rollouts.live().cloned().collect();
        for key in live.iter().filter(|_| !changes.nodes.is_empty()) {
            self.rollouts.placed(key, &changes.nodes, &self.planner);
        }
        for key in self.rollouts.take_ungathered() {
            self.rollouts.gather(&key, self.planner.places(&key));
        }
        self.look();
        let effects = self.rollouts.step(self.now_ms, self.now_ms);
        self.news.extend(effects.news.into_iter().map(|(kind, _)| kind.to_owned()));
    }

    fn look(&mut self) {
        let live: Vec<ServiceKey> = self.rollouts.live().cloned().collect();
        for key in live {
            let places = self.planner.places(&key);
            for (id, slot) in places.filter(|(id, slot)| self.planner.is_meant(&key, id, *slot)) {
                let seen = Seen {
                    node: Some(id.clone()),
                    reachable: self.standing[id] == Standing::Ready,
                    status: self.runs.get(&(key.clone(), id.clone(), slot)).cloned(),
                    staged: !self.without_image.contains_key(id),
                    no_image: self.no_image(id),
                    waves: self.waves.get(id).copied().unwrap_or(0),
                };
                self.rollouts.look(self.now_ms, &key, slot, &seen);
            }
        }
    }

    fn no_image(&self, id: &NodeId) -> Option<NoImage> {
        let tries = *self.without_image.get(id).filter(|tries| **tries > 0)?;
        Some(NoImage { spec: hash(0), reason: "not there".to_owned(), tries })
    }

    /// The agents take over what they are told; whether anything changed.
    fn agents(&mut self) -> bool {
        let mut runs = BTreeMap::new();
        for (id, standing) in &self.standing {
            if *standing != Standing::Ready {
                let kept = self.runs.iter().filter(|((_, on, _), _)| on == id);
                runs.extend(kept.map(|(place, status)| (place.clone(), status.clone())));
                continue;
            }
            for share in self.planner.share(id) {
                let key = ServiceKey { application: share.application, service: share.service };
                for slot in share.slots {
                    let place = (key.clone(), id.clone(), slot);
                    let meant = self.planner.is_meant(&key, id, slot);
                    let has = self.runs.get(&place).filter(|_| !meant).map(|status| status.spec);
                    let spec = has.unwrap_or(self.rollouts.spec_of(&key, id, slot).unwrap().0);
                    let old = self.runs.get(&place).filter(|status| status.spec == spec);
                    let status = old.cloned().unwrap_or(UnitStatus {
                        spec,
                        up: !self.bad.contains(&spec.0[0]) && !self.slow.contains(&spec.0[0]),
                        failed: self.bad.contains(&spec.0[0]).then(|| "crashed".to_owned()),
                    });
                    runs.insert(place, status);
                }
            }
        }
        std::mem::replace(&mut self.runs, runs) != self.runs
    }

    fn settle(&mut self) {
        for _ in 0..1000 {
            let changed = self.turn();
            if !changed && self.rollouts.take_ungathered().is_empty() {
                self.turn();
                return;
            }
        }
        panic!("it does not come to rest");
    }

    fn pass(&mut self, ms: u64) {
        self.now_ms += ms;
        self.settle();
    }

    /// The version of each slot: `1112`.
    fn versions(&self, service: &str) -> String {
        let key = key(service);
        let mut all: Vec<(Slot, NodeId, u8)> = self
            .planner
            .places(&key)
            .filter(|(id, slot)| self.planner.is_meant(&key, id, *slot))
            .map(|(id, slot)| {
                (slot, id.clone(), self.rollouts.spec_of(&key, id, slot).unwrap().0.0[0])
            })
            .collect();
        all.sort();
        all.iter().map(|(_, _, version)| version.to_string()).collect()
    }

    fn said(&self, service: &str) -> String {
        self.rollouts.progress(&key(service)).map(|it| it.in_words()).unwrap_or_default()
    }

    /// Everything that is not up comes up.
    fn come_up(&mut self, version: u8) {
        self.slow.remove(&version);
        for status in self.runs.values_mut().filter(|status| status.spec == hash(version)) {
            status.up = true;
        }
        self.settle();
    }
}

fn in_waves(version: u8, waves: Vec<Wave>) -> Want {
    let mut want = Want { mode: Mode::Global, ..want(version, 0) };
    (want.update.parallelism, want.update.max_failure_ppm) = (0, 1_000_000);
    want.waves = Some(WavePolicy { waves, success_percent: 75, ..WavePolicy::default() });
    want
}

/// A controller that starts again: what the store has is all it knows.
fn restarted(fleet: Fleet, services: &[(&str, Want)], with_record: bool) -> Fleet {
    let application: limpet_protocol::id::ApplicationName = "a".parse().unwrap();
    let records = fleet.rollouts.records(&application);
    let mut new = Fleet { runs: fleet.runs, bad: fleet.bad, slow: fleet.slow, ..Fleet::default() };
    let mut shares = vec![];
    for (id, standing) in &fleet.standing {
        new.stand(id.as_str(), *standing);
        for share in fleet.planner.share(id) {
            let key = ServiceKey { application: share.application, service: share.service };
            for slot in share.slots {
                let spec = fleet.rollouts.spec_of(&key, id, slot).unwrap().0;
                shares.push((key.clone(), id.clone(), slot, spec));
            }
        }
    }
    let aims = services.iter().map(|(name, want)| {
        let aim = Aim {
            spec: hash(want.version),
            mode: want.mode,
            update: want.update,
            rollback: want.rollback,
            waves: want.waves.clone(),
            after: BTreeSet::new(),
        };
        (name.parse().unwrap(), aim)
    });
    new.rollouts.set_application(&application, aims.collect(), &new.planner);
    if with_record {
        new.rollouts.restore(&application, records);
    }
    for (key, id, slot, spec) in shares {
        let service = limpet_protocol::assignment::AssignedService::new(
            key.application.clone(),
            key.service.clone(),
            spec,
            vec![slot],
        );
        let generation = limpet_protocol::assignment::Generation::default();
        new.planner.restore(&Assignment {
            node: id.clone(),
            generation,
            services: vec![service],
            network: None,
        });
        new.rollouts.restore_unit(&key, &id, slot, spec);
    }
    new.apply(services);
    new
}
