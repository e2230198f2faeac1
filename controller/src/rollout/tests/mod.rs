//! Tables of rollouts: a small fleet whose instances do what a test says.

use std::collections::{BTreeMap, BTreeSet};

use limpet_protocol::application::{FailureAction, Placement, Portion, Wave};
use limpet_protocol::assignment::Assignment;
use limpet_protocol::message::NodeFacts;

mod images;
mod moves;
mod properties;

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
        let effects = self.rollouts.step(self.now_ms);
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

#[test]
fn a_new_service_and_more_replicas_begin_with_the_target() {
    let mut fleet = Fleet::new(2);
    fleet.apply(&[("s", want(1, 2))]);
    assert_eq!((fleet.versions("s"), fleet.said("s")), ("11".into(), String::new()));
    fleet.apply(&[("s", want(1, 4))]);
    assert_eq!((fleet.versions("s"), fleet.said("s")), ("1111".into(), String::new()));
    fleet.slow.insert(2);
    fleet.apply(&[("s", want(2, 5))]);
    assert_eq!(fleet.versions("s"), "21112", "one is on its way, one is new");
}

#[test]
fn one_after_the_other_and_over_when_nothing_failed_for_a_while() {
    let mut fleet = Fleet::new(2);
    fleet.apply(&[("s", want(1, 3))]);
    fleet.slow.insert(2);
    fleet.apply(&[("s", want(2, 3))]);
    assert_eq!((fleet.versions("s"), fleet.said("s")), ("211".into(), "updating 0/3".into()));
    fleet.pass(60_000);
    assert_eq!(fleet.versions("s"), "211", "it waits for the first");
    fleet.come_up(2);
    assert_eq!((fleet.versions("s"), fleet.said("s")), ("222".into(), "updating 3/3".into()));
    fleet.pass(4_999);
    assert_eq!(fleet.said("s"), "updating 3/3");
    fleet.pass(1);
    assert_eq!(fleet.said("s"), "");
    assert_eq!(fleet.news, ["rollout_started", "rollout_done"]);
    assert!(fleet.rollouts.records(&"a".parse().unwrap()).is_empty());
}

#[test]
fn parallelism_and_delay_are_kept() {
    let mut fleet = Fleet::new(3);
    fleet.apply(&[("s", want(1, 6))]);
    let mut next = want(2, 6);
    (next.update.parallelism, next.update.delay_ms) = (2, 1000);
    fleet.apply(&[("s", next.clone())]);
    assert_eq!(fleet.versions("s"), "221111");
    fleet.pass(999);
    assert_eq!(fleet.versions("s"), "221111");
    fleet.pass(1);
    assert_eq!(fleet.versions("s"), "222211");
    next.version = 3;
    next.update.parallelism = 0;
    fleet.apply(&[("s", next)]);
    assert_eq!(fleet.versions("s"), "333333", "0 is all at once, and a new target supersedes");
}

#[test]
fn too_many_failures_pause_and_a_person_may_go_on() {
    let mut fleet = Fleet::new(2);
    fleet.apply(&[("s", want(1, 4))]);
    fleet.bad.insert(2);
    let mut next = want(2, 4);
    next.update.max_failure_ppm = 250_000;
    fleet.apply(&[("s", next)]);
    assert_eq!(fleet.versions("s"), "2211", "one in four is borne, the second is not");
    assert_eq!(fleet.said("s"), "update paused at 0/4, 2 failed: a.s.2 on n2 crashed");
    fleet.apply(&[("s", Want { version: 2, ..want(2, 5) })]);
    assert_eq!(fleet.versions("s"), "22111", "what is new begins with what is known to be good");
    fleet.bad.clear();
    let places: Vec<_> =
        fleet.planner.places(&key("s")).map(|(id, slot)| (id.clone(), slot)).collect();
    let places = || places.iter().map(|(id, slot)| (id, *slot));
    assert!(fleet.rollouts.obey(&key("s"), Order::Pause, places()).is_err());
    fleet.rollouts.obey(&key("s"), Order::Resume, places()).unwrap();
    fleet.settle();
    fleet.pass(5_000);
    assert_eq!((fleet.versions("s"), fleet.said("s")), ("22222".into(), String::new()));
}

#[test]
fn it_goes_back_to_what_was_proven() {
    let mut fleet = Fleet::new(2);
    fleet.apply(&[("s", want(1, 3))]);
    let mut next = want(2, 3);
    next.update.failure_action = FailureAction::Rollback;
    fleet.slow.insert(2);
    fleet.apply(&[("s", next.clone())]);
    fleet.bad.insert(3);
    fleet.apply(&[("s", Want { version: 3, ..next })]);
    assert_eq!(fleet.versions("s"), "111", "version 2 never proved itself");
    fleet.pass(5_000);
    assert_eq!(fleet.said("s"), "rolled back: a.s.1 on n1 crashed");
    fleet.apply(&[("s", Want { version: 3, ..want(3, 4) })]);
    assert_eq!(fleet.versions("s"), "1111");
    assert_eq!(
        fleet.news,
        ["rollout_started", "rollout_started", "rollout_rolls_back", "rollout_rolled_back"]
    );
    fleet.bad.clear();
    let places: Vec<_> =
        fleet.planner.places(&key("s")).map(|(id, slot)| (id.clone(), slot)).collect();
    let places = places.iter().map(|(id, slot)| (id, *slot));
    fleet.rollouts.obey(&key("s"), Order::Resume, places).unwrap();
    fleet.settle();
    fleet.pass(5_000);
    assert_eq!((fleet.versions("s"), fleet.said("s")), ("3333".into(), String::new()));
}

#[test]
fn a_late_failure_counts_while_it_is_watched() {
    let mut fleet = Fleet::new(1);
    fleet.apply(&[("s", want(1, 2))]);
    let mut next = want(2, 2);
    next.update.failure_action = FailureAction::Rollback;
    fleet.apply(&[("s", next)]);
    assert_eq!(fleet.versions("s"), "22");
    fleet.pass(4_000);
    for status in fleet.runs.values_mut() {
        status.failed = Some("crashed".into());
    }
    fleet.settle();
    fleet.pass(5_000);
    assert_eq!(fleet.versions("s"), "11");
    assert!(fleet.said("s").starts_with("rolled back"), "{}", fleet.said("s"));
}

#[test]
fn a_rollback_that_fails_pauses() {
    let mut fleet = Fleet::new(1);
    fleet.apply(&[("s", want(1, 2))]);
    fleet.bad.extend([1, 2]);
    let mut next = want(2, 2);
    next.update.failure_action = FailureAction::Rollback;
    fleet.apply(&[("s", next)]);
    assert_eq!(fleet.said("s"), "rollback paused at 1/2, 1 failed: a.s.1 on n1 crashed");
}

#[test]
fn who_is_away_neither_stalls_nor_counts_and_follows() {
    let mut fleet = Fleet::new(3);
    let global = |version| Want { mode: Mode::Global, ..want(version, 0) };
    fleet.apply(&[("s", global(1))]);
    fleet.stand("n2", Standing::Unreachable);
    fleet.apply(&[("s", global(2))]);
    fleet.pass(5_000);
    assert_eq!(
        (fleet.versions("s"), fleet.said("s")),
        ("212".into(), "updated 2/3, 1 away".into())
    );
    fleet.bad.insert(2);
    fleet.stand("n2", Standing::Ready);
    fleet.settle();
    assert_eq!(fleet.versions("s"), "222");
    assert!(fleet.said("s").starts_with("update paused at 2/3"), "{}", fleet.said("s"));
}

#[test]
fn nobody_is_woken_in_vain() {
    let mut fleet = Fleet::new(3);
    fleet.rollouts.link_came_up(0);
    let global = |version| Want { mode: Mode::Global, ..want(version, 0) };
    fleet.apply(&[("s", global(1))]);
    fleet.stand("n2", Standing::Unreachable);
    fleet.slow.insert(2);
    fleet.apply(&[("s", global(2))]);
    assert!(
        fleet.rollouts.deadline().is_some_and(|at| at > 0),
        "who is away may yet say it is there"
    );
    fleet.pass(60_000);
    assert_eq!(fleet.rollouts.deadline(), None, "it waits for the first to come up");
    fleet.come_up(2);
    assert_eq!(fleet.rollouts.deadline(), Some(65_000));
    fleet.pass(5_000);
    assert_eq!((fleet.rollouts.deadline(), fleet.said("s")), (None, "updated 2/3, 1 away".into()));
}

#[test]
fn a_node_that_goes_before_it_began_comes_under_the_rules_again() {
    let mut fleet = Fleet::new(2);
    let global = |version| Want { mode: Mode::Global, ..want(version, 0) };
    fleet.apply(&[("s", global(1))]);
    fleet.slow.insert(2);
    fleet.apply(&[("s", global(2))]);
    assert_eq!(fleet.versions("s"), "21");
    // What it was told did not reach it.
    for (place, status) in &mut fleet.runs {
        if place.1.as_str() == "n1" {
            (status.spec, status.up) = (hash(1), true);
        }
    }
    fleet.stand("n1", Standing::Unreachable);
    fleet.settle();
    assert_eq!(fleet.versions("s"), "12", "the other one goes on");
    fleet.come_up(2);
    fleet.pass(5_000);
    assert_eq!(fleet.said("s"), "updated 1/2, 1 away");
    fleet.stand("n1", Standing::Ready);
    fleet.settle();
    fleet.pass(5_000);
    assert_eq!((fleet.versions("s"), fleet.said("s")), ("22".into(), String::new()));
}

#[test]
fn dependencies_go_first_and_hold_the_others_when_they_fail() {
    let mut fleet = Fleet::new(2);
    let web = |version| Want { after: vec!["db"], ..want(version, 2) };
    fleet.apply(&[("db", want(1, 1)), ("web", web(1))]);
    fleet.slow.insert(2);
    fleet.apply(&[("db", want(2, 1)), ("web", web(2))]);
    assert_eq!((fleet.versions("db"), fleet.versions("web")), ("2".into(), "11".into()));
    assert_eq!(fleet.said("web"), "updating 0/2: waits for db, which goes first");
    fleet.come_up(2);
    assert_eq!(fleet.versions("web"), "22");
    fleet.pass(5_000);
    fleet.bad.insert(3);
    fleet.apply(&[("db", want(3, 1)), ("web", web(3))]);
    assert_eq!((fleet.versions("db"), fleet.versions("web")), ("3".into(), "22".into()));
    assert_eq!(fleet.said("web"), "updating 0/2: waits for db, which is paused");
}

fn in_waves(version: u8, waves: Vec<Wave>) -> Want {
    let mut want = Want { mode: Mode::Global, ..want(version, 0) };
    (want.update.parallelism, want.update.max_failure_ppm) = (0, 1_000_000);
    want.waves = Some(WavePolicy { waves, success_percent: 75, ..WavePolicy::default() });
    want
}

#[test]
fn waves_follow_each_other_when_enough_came_up() {
    let mut fleet = Fleet::new(8);
    let waves = || vec![Wave::Nodes(vec![]), Wave::Percent(50)];
    fleet.waves.insert("n3".parse().unwrap(), 1);
    fleet.apply(&[("s", in_waves(1, waves()))]);
    fleet.apply(&[("s", in_waves(2, waves()))]);
    assert_eq!(fleet.versions("s"), "11211111", "the canary alone");
    assert_eq!(fleet.said("s"), "updating 1/8, wave 1 of 3");
    fleet.pass(4_999);
    assert_eq!(fleet.versions("s").matches('2').count(), 1, "it is watched");
    fleet.pass(1);
    assert_eq!(fleet.versions("s").matches('2').count(), 4, "half of all");
    fleet.pass(5_000);
    assert_eq!(fleet.versions("s"), "22222222");
    fleet.pass(5_000);
    assert_eq!(
        (fleet.said("s"), fleet.news.last().unwrap().as_str()),
        (String::new(), "rollout_done")
    );
    // A canary that fails goes no further.
    fleet.bad.insert(3);
    fleet.apply(&[("s", in_waves(3, waves()))]);
    fleet.pass(60_000);
    assert_eq!(fleet.versions("s"), "22322222");
    assert_eq!(
        fleet.said("s"),
        "update paused at 0/8, wave 1 of 3, 1 failed: 0 of 1 of wave 1 came up, 75 % are needed; \
         a.s.1 on n3 crashed"
    );
}

#[test]
fn who_is_away_in_its_wave_follows_and_a_share_is_of_who_can_be_reached() {
    let mut fleet = Fleet::new(8);
    let waves = || vec![Wave::Nodes(vec![]), Wave::Percent(50)];
    for name in ["n1", "n2"] {
        fleet.waves.insert(name.parse().unwrap(), 1);
    }
    fleet.apply(&[("s", in_waves(1, waves()))]);
    for name in ["n1", "n7", "n8"] {
        fleet.stand(name, Standing::Unreachable);
    }
    fleet.apply(&[("s", in_waves(2, waves()))]);
    assert_eq!(fleet.versions("s"), "12111111");
    fleet.pass(5_000);
    assert_eq!(fleet.versions("s").matches('2').count(), 3, "half of five");
    fleet.stand("n1", Standing::Ready);
    fleet.settle();
    assert!(fleet.versions("s").starts_with("22"), "its wave has begun");
    fleet.stand("n7", Standing::Ready);
    fleet.settle();
    assert!(fleet.versions("s").ends_with("11"), "it waits for the last wave");
    fleet.pass(5_000);
    assert_eq!(fleet.versions("s"), "22222221");
    fleet.pass(5_000);
    assert_eq!(fleet.said("s"), "updated 7/8, 1 away");
}

#[test]
fn so_many_failures_abort() {
    let mut fleet = Fleet::new(8);
    fleet.apply(&[("s", in_waves(1, vec![]))]);
    let mut next = in_waves(2, vec![]);
    next.update.parallelism = 1;
    next.waves.as_mut().unwrap().abort = Some(Portion::Percent(25));
    fleet.bad.insert(2);
    fleet.apply(&[("s", next)]);
    assert_eq!(fleet.versions("s").matches('2').count(), 2, "{}", fleet.said("s"));
}

#[test]
fn no_more_are_down_than_may_be() {
    let mut fleet = Fleet::new(4);
    fleet.apply(&[("s", in_waves(1, vec![]))]);
    // One is down already, whatever the reason.
    let down = (key("s"), "n2".parse().unwrap(), Slot(1));
    fleet.runs.get_mut(&down).unwrap().up = false;
    let mut next = in_waves(2, vec![]);
    next.waves.as_mut().unwrap().max_unavailable = Some(Portion::Count(2));
    fleet.slow.insert(2);
    fleet.apply(&[("s", next.clone())]);
    assert_eq!(fleet.versions("s").matches('2').count(), 2, "the one that is down, and one more");
    assert_eq!(&fleet.versions("s")[1..2], "2");
    assert_eq!(fleet.said("s"), "updating 0/4: 2 of 4 are down, as many as may be");
    next.update.order = limpet_protocol::assignment::UpdateOrder::StartFirst;
    fleet.apply(&[("s", next)]);
    assert_eq!(fleet.versions("s"), "2222", "where the new one goes first nobody is down");
}

#[test]
fn nobody_is_stopped_before_all_images_are_there() {
    let mut fleet = Fleet::new(3);
    fleet.apply(&[("s", in_waves(1, vec![]))]);
    let late: NodeId = "n2".parse().unwrap();
    fleet.without_image.insert(late.clone(), 0);
    fleet.apply(&[("s", in_waves(2, vec![]))]);
    assert_eq!(fleet.versions("s"), "111");
    assert_eq!(fleet.said("s"), "updating 0/3: waits for the image on n2");
    assert_eq!(fleet.rollouts.next_of(&key("s"), &late, Slot(1)), Some(hash(2)));
    fleet.without_image.clear();
    fleet.settle();
    assert_eq!(fleet.versions("s"), "222");
    assert_eq!(fleet.rollouts.next_of(&key("s"), &late, Slot(1)), None);
    // One that goes is not waited for; one that has no image for long is told all the same.
    fleet.pass(5_000);
    fleet.without_image.insert(late, 0);
    fleet.apply(&[("s", in_waves(3, vec![]))]);
    assert_eq!(fleet.versions("s"), "222");
    fleet.stand("n2", Standing::Unreachable);
    fleet.settle();
    assert_eq!(fleet.versions("s"), "323");
    fleet.stand("n2", Standing::Ready);
    fleet.settle();
    assert_eq!(fleet.versions("s"), "323", "it comes under the same rule when it is back");
    fleet.pass(11 * 60 * 1000);
    assert_eq!(fleet.versions("s"), "333");
}

#[test]
fn jobs_and_other_modes_are_not_rolled_out() {
    let mut fleet = Fleet::new(2);
    fleet.apply(&[("s", want(1, 2))]);
    fleet.apply(&[("s", Want { mode: Mode::Global, ..want(2, 0) })]);
    assert_eq!((fleet.versions("s"), fleet.said("s")), ("22".into(), String::new()));
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

#[test]
fn a_restart_of_the_controller_changes_nothing() {
    let mut next = want(2, 4);
    next.update.failure_action = FailureAction::Rollback;
    let begin = || {
        let mut fleet = Fleet::new(2);
        fleet.apply(&[("s", want(1, 4))]);
        fleet
    };
    // In the middle, with and without the record.
    for with_record in [true, false] {
        let mut fleet = begin();
        fleet.slow.insert(2);
        fleet.apply(&[("s", next.clone())]);
        let mut fleet = restarted(fleet, &[("s", next.clone())], with_record);
        assert_eq!(fleet.versions("s"), "2111");
        fleet.bad.insert(2);
        for status in fleet.runs.values_mut().filter(|status| status.spec == hash(2)) {
            status.failed = Some("crashed".into());
        }
        fleet.settle();
        fleet.pass(5_000);
        assert_eq!(fleet.versions("s"), "1111", "it goes back to what ran before");
        let fleet = restarted(fleet, &[("s", next.clone())], true);
        assert_eq!(fleet.versions("s"), "1111");
        assert!(fleet.said("s").contains("crashed"), "{}", fleet.said("s"));
    }
    // Paused.
    let mut fleet = begin();
    fleet.bad.insert(2);
    next.update.failure_action = FailureAction::Pause;
    fleet.apply(&[("s", next.clone())]);
    let said = fleet.said("s");
    let fleet = restarted(fleet, &[("s", next)], true);
    assert_eq!((fleet.versions("s"), fleet.said("s")), ("2111".into(), said));
}
