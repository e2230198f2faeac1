//! The planner: indexes of what is wanted, what there is and what is placed, and the plan.
//!
//! Changes come in one by one and mark the services they concern; [`Planner::plan`] looks at
//! those only. Keeping comes before placing, for all of them, so that nothing new takes the room
//! of what is already there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use limpet_protocol::assignment::{AssignedService, Assignment};
use limpet_protocol::id::{ApplicationName, NodeId, Slot, SpecHash};
use limpet_protocol::report::InstanceStatus;

use super::filter::{
    Misfit, Misfits, bytes, cut, explain, lasting_misfit, passing_misfit, standing_misfit,
};
use super::place::{Candidate, Choice};
use super::progress::{Progress, Run};
use super::{Needs, Node, ServiceKey, Standing, Unplaced, Usage, Wanted};
use crate::store::records::Held;

/// Where the instances of one service are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Placed {
    spec: Option<SpecHash>,
    needs: Needs,
    on: BTreeMap<NodeId, BTreeSet<Slot>>,
}

/// A node and what is taken of it.
#[derive(Debug, Clone)]
struct Seat {
    /// Shared with the copies of the planner.
    node: Arc<Node>,
    used: Usage,
    services: BTreeSet<ServiceKey>,
}

/// See the module. A copy plans for itself: what would be, if.
#[derive(Debug, Default, Clone)]
pub struct Planner {
    wanted: BTreeMap<ServiceKey, Wanted>,
    seats: BTreeMap<NodeId, Seat>,
    placed: BTreeMap<ServiceKey, Placed>,
    unplaced: BTreeMap<ServiceKey, Vec<Unplaced>>,
    /// Services to look at.
    dirty: BTreeSet<ServiceKey>,
    /// Services that any change of any node may concern: global ones and those with open slots.
    open: BTreeSet<ServiceKey>,
    progress: Progress,
}

/// What a plan changed.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Changes {
    /// Nodes whose set of instances is another now.
    pub nodes: BTreeSet<NodeId>,
    /// Services that were looked at: their places or reasons may be others.
    pub services: BTreeSet<ServiceKey>,
}

impl Planner {
    /// Wants these services of an application, and no others of it.
    pub fn set_application(
        &mut self,
        application: &ApplicationName,
        services: BTreeMap<ServiceKey, Wanted>,
    ) {
        let gone: Vec<ServiceKey> = self
            .wanted_of(application)
            .filter(|key| !services.contains_key(key))
            .cloned()
            .collect();
        for key in gone {
            self.wanted.remove(&key);
            self.progress.begin(&key, None);
            self.dirty.insert(key);
        }
        for (key, wanted) in services {
            self.progress.begin(&key, Some(wanted.spec));
            if self.wanted.get(&key) != Some(&wanted) {
                self.dirty.insert(key.clone());
                self.wanted.insert(key, wanted);
            }
        }
    }

    /// A node reports of one of its instances; whether it ended for good.
    pub fn report(&mut self, node: &NodeId, status: &InstanceStatus) -> bool {
        let key = ServiceKey::of(&status.instance);
        let slot = status.instance.slot;
        let Some(wanted) = self.wanted.get(&key) else { return false };
        let placed = self.placed.get(&key).and_then(|placed| placed.on.get(node));
        if !placed.is_some_and(|slots| slots.contains(&slot)) {
            return false;
        }
        let by_node = wanted.mode.is_global();
        let run = Run { node, by_node, ending: wanted.ending, spec: wanted.spec };
        let over = self.progress.note(&key, run, status);
        if over {
            self.dirty.insert(key);
        }
        over
    }

    /// Conditions of `depends_on` were found to hold of a service; whether that is news.
    pub fn hold(&mut self, key: &ServiceKey, found: Held) -> bool {
        let Some(wanted) = self.wanted.get(key) else { return false };
        self.progress.hold(key, wanted.spec, found)
    }

    /// What is kept of services that nobody wants any more is forgotten.
    pub fn forget_unwanted(&mut self) {
        let wanted = &self.wanted;
        self.progress.retain(|key| wanted.contains_key(key));
    }

    /// How far the services have come.
    #[must_use]
    pub const fn progress(&self) -> &Progress {
        &self.progress
    }

    /// The same, to restore and to keep it.
    pub const fn progress_mut(&mut self) -> &mut Progress {
        &mut self.progress
    }

    fn wanted_of(&self, application: &ApplicationName) -> impl Iterator<Item = &ServiceKey> {
        self.wanted.keys().filter(move |key| key.application == *application)
    }

    /// Adds a node or changes what it is.
    pub fn set_node(&mut self, id: &NodeId, node: Node) {
        if let Some(seat) = self.seats.get_mut(id) {
            if *seat.node == node {
                return;
            }
            seat.node = Arc::new(node);
            self.dirty.extend(seat.services.iter().cloned());
        } else {
            let (node, used) = (Arc::new(node), Usage::default());
            let seat = Seat { node, used, services: BTreeSet::new() };
            self.seats.insert(id.clone(), seat);
        }
        self.dirty.extend(self.open.iter().cloned());
    }

    /// Forgets a node; what it had is placed elsewhere.
    pub fn remove_node(&mut self, id: &NodeId) {
        let Some(seat) = self.seats.remove(id) else { return };
        for key in &seat.services {
            if let Some(placed) = self.placed.get_mut(key) {
                placed.on.remove(id);
            }
        }
        self.dirty.extend(seat.services);
        self.dirty.extend(self.open.iter().cloned());
    }

    /// Takes over what was placed before, after the applications and nodes are known.
    pub fn restore(&mut self, assignment: &Assignment) {
        for share in &assignment.services {
            let key = ServiceKey {
                application: share.application.clone(),
                service: share.service.clone(),
            };
            self.dirty.insert(key.clone());
            if !self.seats.contains_key(&assignment.node) {
                continue;
            }
            let mut placed = self.lift(&key);
            placed.spec = Some(share.spec);
            placed.needs = self.wanted.get(&key).map_or_else(Needs::default, |w| w.needs);
            let slots = share.slots.iter().copied();
            placed.on.entry(assignment.node.clone()).or_default().extend(slots);
            self.put(&key, placed);
        }
    }

    /// Places what has to be placed. Planning twice changes nothing.
    pub fn plan(&mut self) -> Changes {
        let mut changes = Changes::default();
        while !self.dirty.is_empty() {
            let services = std::mem::take(&mut self.dirty);
            let before: BTreeMap<&ServiceKey, Placed> = services
                .iter()
                .map(|key| (key, self.placed.get(key).cloned().unwrap_or_default()))
                .collect();
            for key in &services {
                self.keep(key);
            }
            for key in &services {
                self.fill(key);
            }
            let freed = self.compare(&before, &mut changes);
            if freed {
                let open = self.open.difference(&services);
                self.dirty.extend(open.cloned());
            }
            changes.services.extend(services);
        }
        changes
    }

    /// Notes the nodes whose set changed; whether any has fewer instances than before.
    fn compare(&self, before: &BTreeMap<&ServiceKey, Placed>, changes: &mut Changes) -> bool {
        let none = Placed::default();
        let mut freed = false;
        for (key, old) in before {
            let new = self.placed.get(*key).unwrap_or(&none);
            for id in old.on.keys().chain(new.on.keys()) {
                let (was, is) = (old.on.get(id), new.on.get(id));
                if was != is || (is.is_some() && old.spec != new.spec) {
                    changes.nodes.insert(id.clone());
                }
                freed |= was.map_or(0, BTreeSet::len) > is.map_or(0, BTreeSet::len);
            }
            freed |= old.needs != new.needs;
        }
        freed
    }

    /// Takes a service off the indexes.
    fn lift(&mut self, key: &ServiceKey) -> Placed {
        let placed = self.placed.remove(key).unwrap_or_default();
        for (id, slots) in &placed.on {
            if let Some(seat) = self.seats.get_mut(id) {
                seat.services.remove(key);
                for _ in slots {
                    seat.used.memory_bytes -= placed.needs.memory_bytes;
                    seat.used.cpu_millis -= u64::from(placed.needs.cpu_millis);
                    seat.used.instances -= 1;
                }
            }
        }
        placed
    }

    /// Puts a service on the indexes.
    fn put(&mut self, key: &ServiceKey, mut placed: Placed) {
        placed.on.retain(|_, slots| !slots.is_empty());
        for (id, slots) in &placed.on {
            if let Some(seat) = self.seats.get_mut(id) {
                seat.services.insert(key.clone());
                for _ in slots {
                    seat.used.add(placed.needs);
                }
            }
        }
        if !placed.on.is_empty() {
            self.placed.insert(key.clone(), placed);
        }
    }

    /// Keeps of a service what still fits, at most as many as are wanted.
    fn keep(&mut self, key: &ServiceKey) {
        let old = self.lift(key);
        let Some(wanted) = self.wanted.get(key).filter(|wanted| !wanted.stopped) else { return };
        let mut fitting: Vec<(bool, Slot, NodeId)> = vec![];
        for (id, slots) in &old.on {
            let Some(seat) = self.seats.get(id) else { continue };
            if lasting_misfit(wanted, id, &seat.node).is_some() {
                continue;
            }
            let mut used = seat.used;
            for (own, slot) in slots.iter().enumerate() {
                if passing_misfit(wanted, &seat.node, &used, own).is_some() {
                    break;
                }
                used.add(wanted.needs);
                fitting.push((seat.node.standing == Standing::Lost, *slot, id.clone()));
            }
        }
        fitting.sort();
        let mut new = Placed { spec: Some(wanted.spec), needs: wanted.needs, on: BTreeMap::new() };
        let most = wanted
            .mode
            .slots()
            .map_or(usize::MAX, |slots| usize::try_from(slots).unwrap_or(usize::MAX));
        let (mut kept, mut taken) = (0, BTreeSet::new());
        for (_, slot, id) in fitting {
            // One slot on two nodes can only come from a damaged store: the first keeps it.
            let fresh = if wanted.mode.is_global() {
                slot == Slot(1)
            } else {
                kept < most && taken.insert(slot)
            };
            if fresh {
                kept += 1;
                new.on.entry(id).or_default().insert(slot);
            }
        }
        self.put(key, new);
    }

    /// Places what a service lacks.
    fn fill(&mut self, key: &ServiceKey) {
        self.unplaced.remove(key);
        self.open.remove(key);
        let wanted = self.wanted.get(key).filter(|wanted| !wanted.stopped);
        let Some(wanted) = wanted.cloned() else { return };
        let mut placed = self.lift(key);
        placed.spec = Some(wanted.spec);
        placed.needs = wanted.needs;
        let unplaced = match wanted.mode.slots() {
            Some(replicas) => self.fill_replicas((key, &wanted), replicas, &mut placed),
            None => self.fill_nodes(&wanted, &mut placed),
        };
        self.put(key, placed);
        if !unplaced.is_empty() || wanted.mode.is_global() {
            self.open.insert(key.clone());
        }
        if !unplaced.is_empty() {
            self.unplaced.insert(key.clone(), unplaced);
        }
    }

    fn fill_replicas(
        &self,
        (key, wanted): (&ServiceKey, &Wanted),
        replicas: u32,
        placed: &mut Placed,
    ) -> Vec<Unplaced> {
        let open = self.open_slots(key, replicas, placed);
        if open.is_empty() {
            return vec![];
        }
        let mut choice = self.choice(wanted, placed);
        let mut unplaced = vec![];
        let mut why = None;
        for (slot, lost_on) in open {
            let chosen = self.next(wanted, &mut choice);
            if let Some(id) = chosen {
                if let Some(slots) = lost_on.and_then(|lost| placed.on.get_mut(&lost)) {
                    slots.remove(&slot);
                }
                placed.on.entry(id).or_default().insert(slot);
                continue;
            }
            let why = why.get_or_insert_with(|| self.why(wanted, placed));
            let reason = match &lost_on {
                Some(lost) => cut(format!("node {lost} is lost and no other can take it: {why}")),
                None => why.clone(),
            };
            unplaced.push(Unplaced { slot, node: lost_on, reason });
        }
        unplaced
    }

    /// The slots that want a node, in their order: new ones, and those whose node is lost.
    fn open_slots(
        &self,
        key: &ServiceKey,
        replicas: u32,
        placed: &Placed,
    ) -> BTreeMap<Slot, Option<NodeId>> {
        let mut open = BTreeMap::new();
        let mut taken = BTreeSet::new();
        for (id, slots) in &placed.on {
            taken.extend(slots.iter().copied());
            if self.seats.get(id).is_some_and(|seat| seat.node.standing == Standing::Lost) {
                let left = slots.iter().filter(|slot| !self.progress.is_over(key, id, **slot));
                open.extend(left.map(|slot| (*slot, Some(id.clone()))));
            }
        }
        if let Some(progress) = self.progress.get(key) {
            let over = progress.done.iter().chain(progress.failed.keys());
            taken.extend(over.filter(|slot| slot.0 <= replicas).copied());
        }
        let lacking = usize::try_from(replicas).unwrap_or(usize::MAX).saturating_sub(taken.len());
        let free = (1..).map(Slot).filter(|slot| !taken.contains(slot));
        open.extend(free.take(lacking).map(|slot| (slot, None)));
        open
    }

    /// All nodes that may take an instance now.
    fn choice(&self, wanted: &Wanted, placed: &Placed) -> Choice {
        let mut choice = Choice::default();
        let spread = wanted.placement.spread.as_slice();
        for (id, seat) in &self.seats {
            let own = placed.on.get(id).map_or(0, BTreeSet::len);
            if standing_misfit(&seat.node).is_some()
                || lasting_misfit(wanted, id, &seat.node).is_some()
            {
                choice.count_only(spread, &seat.node, own);
                continue;
            }
            let candidate = Candidate {
                unreachable: seat.node.standing != Standing::Ready,
                own,
                all: seat.used.instances + own,
                node: id.clone(),
            };
            choice.offer(spread, &seat.node, candidate);
        }
        choice
    }

    /// The best node that still has room, taken.
    fn next(&self, wanted: &Wanted, choice: &mut Choice) -> Option<NodeId> {
        while let Some((path, candidate)) = choice.best() {
            let Some(seat) = self.seats.get(&candidate.node) else { continue };
            let used = seat.used.with(wanted.needs, candidate.own);
            if passing_misfit(wanted, &seat.node, &used, candidate.own).is_none() {
                let id = candidate.node.clone();
                choice.chosen(path, candidate);
                return Some(id);
            }
        }
        None
    }

    /// Why no node can take one more.
    fn why(&self, wanted: &Wanted, placed: &Placed) -> String {
        let mut misfits = Misfits::default();
        for (id, seat) in &self.seats {
            let own = placed.on.get(id).map_or(0, BTreeSet::len);
            let used = seat.used.with(wanted.needs, own);
            let misfit = standing_misfit(&seat.node)
                .or_else(|| lasting_misfit(wanted, id, &seat.node))
                .or_else(|| passing_misfit(wanted, &seat.node, &used, own));
            if let Some(misfit) = misfit {
                misfits.add(misfit);
            }
        }
        explain(wanted, &misfits)
    }

    fn fill_nodes(&self, wanted: &Wanted, placed: &mut Placed) -> Vec<Unplaced> {
        let slot = Slot(1);
        let mut unplaced = vec![];
        for (id, seat) in &self.seats {
            let node = Some(id.clone());
            if placed.on.contains_key(id) {
                if standing_misfit(&seat.node).is_some() {
                    let reason = format!("node {id} is lost");
                    unplaced.push(Unplaced { slot, node, reason });
                }
                continue;
            }
            if standing_misfit(&seat.node).is_some()
                || lasting_misfit(wanted, id, &seat.node).is_some()
            {
                continue;
            }
            if let Some(misfit) = passing_misfit(wanted, &seat.node, &seat.used, 0) {
                let mut misfits = Misfits::default();
                misfits.add(misfit);
                let reason = cut(format!("{id} has no room: {}", explain(wanted, &misfits)));
                unplaced.push(Unplaced { slot, node, reason });
            } else {
                placed.on.entry(id.clone()).or_default().insert(slot);
            }
        }
        unplaced
    }
}

/// What the planner knows, for those who publish and show it.
impl Planner {
    /// What a node shall run, in the order of the names.
    #[must_use]
    pub fn share(&self, id: &NodeId) -> Vec<AssignedService> {
        let Some(seat) = self.seats.get(id) else { return vec![] };
        let share = |key: &ServiceKey| {
            let placed = self.placed.get(key)?;
            let slots: Vec<Slot> = placed.on.get(id)?.iter().copied().collect();
            let done = slots.iter().filter(|slot| self.progress.is_over(key, id, **slot));
            let done = done.copied().collect();
            let (application, service) = (key.application.clone(), key.service.clone());
            let share = AssignedService::new(application, service, placed.spec?, slots);
            Some(AssignedService { done, ..share })
        };
        seat.services.iter().filter_map(share).collect()
    }

    /// What is wanted of a service.
    #[must_use]
    pub fn wanted(&self, key: &ServiceKey) -> Option<&Wanted> {
        self.wanted.get(key)
    }

    /// Every place of a service.
    pub fn places(&self, key: &ServiceKey) -> impl Iterator<Item = (&NodeId, Slot)> {
        let on = self.placed.get(key).map(|placed| &placed.on);
        on.into_iter().flatten().flat_map(|(id, slots)| slots.iter().map(move |slot| (id, *slot)))
    }

    /// Whether all instances of a service are on this node; not if there are none.
    #[must_use]
    pub fn is_local(&self, key: &ServiceKey, id: &NodeId) -> bool {
        self.placed.get(key).is_some_and(|placed| placed.on.keys().eq([id]))
    }

    /// The slots of a service that are not where they should be.
    #[must_use]
    pub fn unplaced(&self, key: &ServiceKey) -> &[Unplaced] {
        self.unplaced.get(key).map_or(&[], Vec::as_slice)
    }

    /// The services with instances on a node.
    pub fn services_on(&self, id: &NodeId) -> impl Iterator<Item = &ServiceKey> {
        self.seats.get(id).into_iter().flat_map(|seat| &seat.services)
    }

    /// How a node stands; none if there is no such node.
    #[must_use]
    pub fn standing(&self, id: &NodeId) -> Option<Standing> {
        self.seats.get(id).map(|seat| seat.node.standing)
    }

    /// What is taken of a node.
    #[must_use]
    pub fn usage(&self, id: &NodeId) -> Usage {
        self.seats.get(id).map_or_else(Usage::default, |seat| seat.used)
    }

    /// Whether any node runs or shall run a service with this spec.
    #[must_use]
    pub fn is_named(&self, key: &ServiceKey, spec: SpecHash) -> bool {
        self.placed.get(key).is_some_and(|placed| placed.spec == Some(spec))
    }

    /// Why nodes cannot take one more instance of a service, one for each such node.
    #[must_use]
    pub fn misfits(&self, key: &ServiceKey) -> Vec<Misfit> {
        let Some(wanted) = self.wanted.get(key) else { return vec![] };
        let placed = self.placed.get(key);
        let misfit = |(id, seat): (&NodeId, &Seat)| {
            let own = placed.and_then(|placed| placed.on.get(id)).map_or(0, BTreeSet::len);
            standing_misfit(&seat.node)
                .or_else(|| lasting_misfit(wanted, id, &seat.node))
                .or_else(|| passing_misfit(wanted, &seat.node, &seat.used, own))
        };
        self.seats.iter().filter_map(misfit).collect()
    }

    /// Why a global service is nowhere, if it is.
    #[must_use]
    pub fn why_nowhere(&self, key: &ServiceKey) -> Option<String> {
        let wanted = self.wanted.get(key)?;
        let nowhere = wanted.mode.is_global()
            && !wanted.stopped
            && !self.placed.contains_key(key)
            && !self.unplaced.contains_key(key);
        nowhere.then(|| self.why(wanted, &Placed::default()))
    }
}

impl Usage {
    fn add(&mut self, needs: Needs) {
        self.memory_bytes = self.memory_bytes.saturating_add(needs.memory_bytes);
        self.cpu_millis += u64::from(needs.cpu_millis);
        self.instances += 1;
    }

    fn with(mut self, needs: Needs, instances: usize) -> Self {
        for _ in 0..instances {
            self.add(needs);
        }
        self
    }

    /// In words, for people.
    #[must_use]
    pub fn in_words(&self) -> String {
        format!("{} of memory and {} instances", bytes(self.memory_bytes), self.instances)
    }
}
