//! The courses of all services, and how one waits for another.

use std::collections::{BTreeMap, BTreeSet};

use limpet_protocol::application::Wave;
use limpet_protocol::assignment::UpdateOrder;
use limpet_protocol::id::{ApplicationName, NodeId, ServiceName, Slot, SpecHash};

use super::course::Course;
use super::{Aim, Order, Progress, RolloutRecord, Seen, Unit};
use crate::plan::{Planner, ServiceKey};

/// What a step changed.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Effects {
    /// Nodes whose share is another now.
    pub nodes: BTreeSet<NodeId>,
    /// Services that were looked at: how far they are may be news.
    pub services: BTreeSet<ServiceKey>,
    /// Applications whose record in the store is old.
    pub save: BTreeSet<ApplicationName>,
    /// Units that have another spec from now on.
    pub begun: Vec<(ServiceKey, Unit)>,
    /// What happened: kind and sentence.
    pub news: Vec<(&'static str, String)>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Rollouts {
    courses: BTreeMap<ServiceKey, Course>,
    /// Those whose units are looked at.
    live: BTreeSet<ServiceKey>,
    /// Those whose units have to be gathered.
    ungathered: BTreeSet<ServiceKey>,
    dirty: BTreeSet<ServiceKey>,
    /// Until when nodes that cannot be reached may just not have said yet that they are there.
    calm_ms: u64,
    /// The time of the last step.
    stepped_ms: u64,
    wall_ms: u64,
}

/// How long nodes have to say that they are there after the controller's own link came up.
const GREETING_MS: u64 = 10_000;

impl Rollouts {
    /// The controller's own link came up: who is there says so within a moment.
    pub fn link_came_up(&mut self, now_ms: u64) {
        self.calm_ms = now_ms.saturating_add(GREETING_MS);
    }

    /// Wants these services of an application, and no others of it. The planner knows what there
    /// is of them and has not planned for the new ones yet.
    pub fn set_application(
        &mut self,
        application: &ApplicationName,
        aims: BTreeMap<ServiceName, Aim>,
        planner: &Planner,
    ) {
        let of_it = self.courses.keys().filter(|key| key.application == *application);
        let gone: Vec<ServiceKey> =
            of_it.filter(|key| !aims.contains_key(&key.service)).cloned().collect();
        for key in gone {
            self.courses.remove(&key);
            self.live.remove(&key);
            self.ungathered.remove(&key);
            self.dirty.insert(key);
        }
        for (service, aim) in aims {
            let key = ServiceKey { application: application.clone(), service };
            self.dirty.insert(key.clone());
            let Some(course) = self.courses.get_mut(&key) else {
                self.courses.insert(key.clone(), Course::new(key, aim));
                continue;
            };
            let mode = course.aim.mode;
            let units = planner.places(&key).map(|(node, slot)| Unit::of(mode, node, slot));
            if course.aim(aim, units) {
                self.ungathered.insert(key);
            }
        }
    }

    /// Takes over what the store has of an application, after its services are known.
    pub fn restore(
        &mut self,
        application: &ApplicationName,
        records: BTreeMap<ServiceName, RolloutRecord>,
    ) {
        for (service, record) in records {
            let key = ServiceKey { application: application.clone(), service };
            if let Some(course) = self.courses.get_mut(&key) {
                course.restore(record);
                self.ungathered.insert(key);
            }
        }
    }

    /// Takes over which spec a slot has, after the records.
    pub fn restore_unit(&mut self, key: &ServiceKey, node: &NodeId, slot: Slot, spec: SpecHash) {
        if let Some(course) = self.courses.get_mut(key) {
            course.restore_unit(Unit::of(course.aim.mode, node, slot), spec);
            if course.is_unfinished() {
                self.ungathered.insert(key.clone());
            }
        }
    }

    /// Services whose units have to be gathered, each once.
    pub fn take_ungathered(&mut self) -> BTreeSet<ServiceKey> {
        std::mem::take(&mut self.ungathered)
    }

    /// Begins to look at the units of a service: these are all that it has.
    pub fn gather<'a>(
        &mut self,
        key: &ServiceKey,
        places: impl Iterator<Item = (&'a NodeId, Slot)>,
    ) {
        let Some(course) = self.courses.get_mut(key) else { return };
        let mode = course.aim.mode;
        course.gather(places.map(|(node, slot)| Unit::of(mode, node, slot)));
        self.live.insert(key.clone());
        self.dirty.insert(key.clone());
    }

    /// Services whose units are looked at.
    pub fn live(&self) -> impl Iterator<Item = &ServiceKey> {
        self.live.iter()
    }

    /// Whether news of a service's units are wanted.
    #[must_use]
    pub fn is_live(&self, key: &ServiceKey) -> bool {
        self.live.contains(key)
    }

    /// Something of a service moved on these nodes, as the planner knows.
    pub fn placed(&mut self, key: &ServiceKey, changed: &BTreeSet<NodeId>, planner: &Planner) {
        let Some(course) = self.courses.get_mut(key) else { return };
        let Some(crew) = &course.crew else { return };
        let mode = course.aim.mode;
        let units = |node: &NodeId| {
            let slots = planner.slots_on(key, node).into_iter();
            slots.map(|slot| Unit::of(mode, node, slot)).collect::<Vec<_>>()
        };
        let there: BTreeSet<Unit> = changed.iter().flat_map(units).collect();
        let is_gone = |unit: &&Unit| match unit {
            // It may have gone to a node on which nothing changed by that.
            Unit::Slot(slot) => planner.meant(key, *slot).is_none(),
            Unit::Node(_) => !there.contains(*unit),
        };
        let known = changed.iter().flat_map(|node| crew.on(node));
        let gone: Vec<Unit> = known.filter(is_gone).cloned().collect();
        gone.iter().for_each(|unit| course.leave(unit));
        there.iter().for_each(|unit| course.arrive(unit));
        self.dirty.insert(key.clone());
    }

    /// What was last seen of a slot, where it is meant to be.
    pub fn look(&mut self, now_ms: u64, key: &ServiceKey, slot: Slot, seen: &Seen) {
        let Some(course) = self.courses.get_mut(key) else { return };
        let unit = match &seen.node {
            Some(node) => Unit::of(course.aim.mode, node, slot),
            None => Unit::Slot(slot),
        };
        course.look(now_ms, &unit, seen);
        self.dirty.insert(key.clone());
    }

    /// Does what a person asks for, or says why not.
    ///
    /// # Errors
    /// A sentence that says why it cannot be done.
    pub fn obey<'a>(
        &mut self,
        key: &ServiceKey,
        order: Order,
        places: impl Iterator<Item = (&'a NodeId, Slot)>,
    ) -> Result<(), String> {
        let Some(course) = self.courses.get_mut(key) else {
            return Err(format!("there is no service {key}"));
        };
        let mode = course.aim.mode;
        let units = places.map(|(node, slot)| Unit::of(mode, node, slot));
        let gather = course.obey(order, units).map_err(|why| format!("{key}: {why}"))?;
        if gather {
            self.ungathered.insert(key.clone());
        }
        self.dirty.insert(key.clone());
        Ok(())
    }

    /// Takes the next steps of all services of which there is news, or whose time has come.
    ///
    /// `wall_ms` is the clock on the wall, in milliseconds since 1970: windows open by it.
    pub fn step(&mut self, now_ms: u64, wall_ms: u64) -> Effects {
        let mut effects = Effects::default();
        let due =
            self.live.iter().filter(|key| self.deadline_of(key).is_some_and(|at| at <= now_ms));
        let due: Vec<ServiceKey> = due.cloned().collect();
        self.dirty.extend(due);
        (self.stepped_ms, self.wall_ms) = (now_ms, wall_ms);
        while let Some(key) = self.dirty.pop_first() {
            self.step_one(now_ms, &key, &mut effects);
            effects.services.insert(key);
        }
        effects
    }

    fn step_one(&mut self, now_ms: u64, key: &ServiceKey, effects: &mut Effects) {
        let held = self.held(key);
        let Some(course) = self.courses.get_mut(key) else {
            effects.save.insert(key.application.clone());
            return;
        };
        let held_others = course.held_others;
        (course.held, course.wall_ms) = (held, self.wall_ms);
        course.step(now_ms, self.calm_ms);
        course.held_others = course.holds_others();
        if course.crew.is_none() {
            self.live.remove(key);
        }
        if course.save() {
            effects.save.insert(key.application.clone());
        }
        let (nodes, news) = course.take_news();
        let begun = std::mem::take(&mut course.begun).into_iter();
        effects.begun.extend(begun.map(|unit| (key.clone(), unit)));
        effects.nodes.extend(nodes);
        effects.news.extend(news);
        if held_others != course.held_others {
            let of_it = self.courses.iter().filter(|(other, course)| {
                other.application == key.application && course.aim.after.contains(&key.service)
            });
            let waiting: Vec<ServiceKey> = of_it.map(|(other, _)| other.clone()).collect();
            self.dirty.extend(waiting);
        }
    }

    /// Which service has to go first, if one has.
    fn held(&self, key: &ServiceKey) -> Option<String> {
        let course = self.courses.get(key)?;
        course.aim.after.iter().find_map(|service| {
            let first =
                ServiceKey { application: key.application.clone(), service: service.clone() };
            let course = self.courses.get(&first)?;
            course.holds_others().then(|| match (&course.halt, &course.back) {
                (Some(_), _) => format!("waits for {service}, which is paused"),
                (None, Some(_)) => format!("waits for {service}, which was rolled back"),
                (None, None) => format!("waits for {service}, which goes first"),
            })
        })
    }

    /// When the next step has to be taken though nothing happened.
    #[must_use]
    pub fn deadline(&self) -> Option<u64> {
        self.live.iter().filter_map(|key| self.deadline_of(key)).min()
    }

    fn deadline_of(&self, key: &ServiceKey) -> Option<u64> {
        let calm_ms = Some(self.calm_ms).filter(|calm_ms| *calm_ms > self.stepped_ms);
        self.courses.get(key)?.deadline(calm_ms)
    }

    /// The spec that a slot has, and which of its containers goes first.
    #[must_use]
    pub fn spec_of(
        &self,
        key: &ServiceKey,
        node: &NodeId,
        slot: Slot,
    ) -> Option<(SpecHash, UpdateOrder)> {
        let course = self.courses.get(key)?;
        let unit = Unit::of(course.aim.mode, node, slot);
        Some((course.spec_of(&unit), course.order()))
    }

    /// The spec that comes next for a slot: its node should fetch the image now.
    #[must_use]
    pub fn next_of(&self, key: &ServiceKey, node: &NodeId, slot: Slot) -> Option<SpecHash> {
        let course = self.courses.get(key)?;
        course.next_of(&Unit::of(course.aim.mode, node, slot))
    }

    /// The spec that a service goes to, be it forward or back, and its waves.
    #[must_use]
    pub fn goal(&self, key: &ServiceKey) -> Option<(SpecHash, &[Wave])> {
        let course = self.courses.get(key)?;
        let waves = course.aim.waves.as_ref().map_or(&[][..], |policy| &policy.waves);
        Some((course.goal(), waves))
    }

    /// The spec that a rollback of a service would go to: its bytes must stay.
    #[must_use]
    pub fn stable(&self, key: &ServiceKey) -> Option<SpecHash> {
        self.courses.get(key).map(|course| course.stable)
    }

    /// How far a service is; none when it is at rest.
    #[must_use]
    pub fn progress(&self, key: &ServiceKey) -> Option<Progress> {
        self.courses.get(key).and_then(Progress::of)
    }

    /// What the store should have of an application; nothing when all of it is at rest.
    #[must_use]
    pub fn records(&self, application: &ApplicationName) -> BTreeMap<ServiceName, RolloutRecord> {
        let of_it = self.courses.iter().filter(|(key, _)| key.application == *application);
        of_it.filter_map(|(key, course)| Some((key.service.clone(), course.record()?))).collect()
    }
}
