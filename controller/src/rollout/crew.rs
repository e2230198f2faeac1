//! The units of a service while some of them are on their way, and how many are in which state.
//!
//! In: one unit at a time, as it changes. Out: counts and queues that are kept up to date with
//! each change, so that nobody has to look at all units.

use std::collections::{BTreeMap, BTreeSet};

use limpet_protocol::id::{NodeId, SpecHash};

use super::{Seen, Unit};

/// How far a unit is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stage {
    /// It has another spec than the goal.
    Waiting,
    /// It was told to take the goal's spec over, and had this one before.
    Moving(Option<SpecHash>),
    /// It has the goal's spec and is up; a failure until then counts.
    Watched(u64),
    /// It has the goal's spec.
    Done,
    /// It has the goal's spec and failed with it.
    Failed,
}

/// One unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) node: Option<NodeId>,
    pub(super) reachable: bool,
    /// It does what it is there for, with whatever spec.
    pub(super) up: bool,
    /// It was placed elsewhere and is not up there yet.
    pub(super) shifting: bool,
    /// Its wave has begun.
    pub(super) open: bool,
    /// Its node has the image of the goal, or nobody waits for that.
    pub(super) staged: bool,
    /// Its node cannot have that image, which was counted as a failure.
    pub(super) barred: bool,
    /// How often its node tried in vain, and up to which of these tries a person has forgiven.
    pub(super) tries: (u32, u32),
    /// Which waves name its node, a bit for each.
    pub(super) waves: u32,
    pub(super) stage: Stage,
}

impl Member {
    /// One whose state nobody has told yet.
    pub(super) const fn new(stage: Stage, open: bool) -> Self {
        Self {
            node: None,
            reachable: false,
            up: false,
            shifting: false,
            open,
            staged: false,
            barred: false,
            tries: (0, 0),
            waves: 0,
            stage,
        }
    }

    /// Takes over what was seen of it.
    pub(super) fn see(&mut self, seen: &Seen) {
        self.shifting |= self.node.is_some() && seen.node.is_some() && self.node != seen.node;
        self.node.clone_from(&seen.node);
        self.reachable = seen.node.is_some() && seen.reachable;
        self.up = self.reachable && seen.status.as_ref().is_some_and(|status| status.up);
        self.staged = seen.staged;
        self.tries.0 = seen.no_image.as_ref().map_or(0, |it| it.tries);
        self.waves = seen.waves;
    }

    /// Whether its node failed to have the image since a person last said that it should go on.
    pub(super) const fn has_tried_in_vain(&self) -> bool {
        self.reachable && self.tries.0 > 0 && self.tries.0 != self.tries.1
    }

    /// What failed before does not count any more.
    pub(super) const fn forgive(&mut self) {
        (self.barred, self.tries.1) = (false, self.tries.0);
    }

    const fn is_away(&self) -> bool {
        !self.reachable && matches!(self.stage, Stage::Waiting | Stage::Moving(_))
    }

    /// Whether it takes one of the places that `parallelism` gives.
    const fn is_busy(&self) -> bool {
        self.reachable && (matches!(self.stage, Stage::Moving(_)) || self.shifting)
    }

    /// Whether it does not do what it is there for, or will not in a moment.
    const fn is_down(&self, start_first: bool) -> bool {
        let down = match self.stage {
            Stage::Moving(_) => !start_first,
            _ => !self.up,
        };
        self.reachable && down
    }

    /// In which queue it is.
    const fn queue(&self) -> Option<Queue> {
        match (&self.stage, self.reachable, self.open, self.staged) {
            (Stage::Waiting, true, false, _) => Some(Queue::Closed),
            (Stage::Waiting, true, true, false) if self.barred => None,
            (Stage::Waiting, true, true, false) => Some(Queue::Unstaged),
            (Stage::Waiting, true, true, true) => Some(Queue::Ready),
            _ => None,
        }
    }
}

/// Where a unit on a node that can be reached waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Queue {
    /// For its wave.
    Closed,
    /// For its image.
    Unstaged,
    /// For its turn.
    Ready,
}

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Crew {
    members: BTreeMap<Unit, Member>,
    on: BTreeMap<NodeId, BTreeSet<Unit>>,
    /// Units whose turn can come. Those that are not up come first: they have nothing to lose.
    ready: BTreeSet<(bool, Unit)>,
    unstaged: BTreeSet<Unit>,
    /// Units whose wave has not begun, mixed, so that a share of them is not one site.
    closed: BTreeSet<(u64, Unit)>,
    /// Until when units are watched.
    watched: BTreeSet<(u64, Unit)>,
    /// Places of `parallelism` that are free from then on.
    cooling: BTreeSet<(u64, Unit)>,
    start_first: bool,
    busy: usize,
    down: usize,
    away: usize,
    absent: usize,
    done: usize,
    barred: usize,
}

impl Crew {
    /// Nobody yet. Where the new container goes first, a unit on its way is not down.
    pub(super) fn new(start_first: bool) -> Self {
        Self { start_first, ..Self::default() }
    }

    pub(super) fn get(&self, unit: &Unit) -> Option<&Member> {
        self.members.get(unit)
    }

    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    /// Every unit, for the few occasions on which all of them have another goal.
    pub(super) fn units(&self) -> Vec<Unit> {
        self.members.keys().cloned().collect()
    }

    /// The units on a node.
    pub(super) fn on(&self, node: &NodeId) -> impl Iterator<Item = &Unit> {
        self.on.get(node).into_iter().flatten()
    }

    pub(super) fn put(&mut self, unit: Unit, member: Member) {
        self.take(&unit);
        if let Some(node) = &member.node {
            self.on.entry(node.clone()).or_default().insert(unit.clone());
        }
        match member.queue() {
            Some(Queue::Closed) => drop(self.closed.insert((mixed(&unit), unit.clone()))),
            Some(Queue::Unstaged) => drop(self.unstaged.insert(unit.clone())),
            Some(Queue::Ready) => drop(self.ready.insert((member.up, unit.clone()))),
            None => {}
        }
        if let Stage::Watched(until) = member.stage {
            self.watched.insert((until, unit.clone()));
        }
        self.count(&member, |count, is| *count += usize::from(is));
        self.members.insert(unit, member);
    }

    pub(super) fn take(&mut self, unit: &Unit) -> Option<Member> {
        let member = self.members.remove(unit)?;
        if let Some(node) = &member.node
            && let Some(units) = self.on.get_mut(node)
        {
            units.remove(unit);
            if units.is_empty() {
                self.on.remove(node);
            }
        }
        match member.queue() {
            Some(Queue::Closed) => drop(self.closed.remove(&(mixed(unit), unit.clone()))),
            Some(Queue::Unstaged) => drop(self.unstaged.remove(unit)),
            Some(Queue::Ready) => drop(self.ready.remove(&(member.up, unit.clone()))),
            None => {}
        }
        if let Stage::Watched(until) = member.stage {
            self.watched.remove(&(until, unit.clone()));
        }
        self.count(&member, |count, is| *count -= usize::from(is));
        Some(member)
    }

    fn count(&mut self, member: &Member, how: impl Fn(&mut usize, bool)) {
        how(&mut self.busy, member.is_busy());
        how(&mut self.down, member.is_down(self.start_first));
        how(&mut self.away, member.is_away());
        how(&mut self.absent, !member.reachable);
        how(&mut self.done, matches!(member.stage, Stage::Watched(_) | Stage::Done));
        how(&mut self.barred, member.barred);
    }

    /// Changes one unit, if it is there.
    pub(super) fn change(&mut self, unit: &Unit, how: impl FnOnce(&mut Member)) {
        if let Some(mut member) = self.take(unit) {
            how(&mut member);
            self.put(unit.clone(), member);
        }
    }

    /// Another rule for which container goes first.
    pub(super) fn set_start_first(&mut self, start_first: bool) {
        if self.start_first != start_first {
            self.start_first = start_first;
            let members = self.members.values();
            self.down = members.filter(|member| member.is_down(start_first)).count();
        }
    }

    /// The place that a unit had among those on their way is free later.
    pub(super) fn cool(&mut self, unit: &Unit, until_ms: u64) {
        self.cooling.insert((until_ms, unit.clone()));
    }

    /// Ends what ends by now.
    pub(super) fn pass(&mut self, now_ms: u64) {
        while self.cooling.first().is_some_and(|(until, _)| *until <= now_ms) {
            self.cooling.pop_first();
        }
        while let Some((until, unit)) = self.watched.first().cloned()
            && until <= now_ms
        {
            self.change(&unit, |member| member.stage = Stage::Done);
        }
    }

    /// Forgets the times of a rollout that has another goal now.
    pub(super) fn cool_down(&mut self) {
        self.cooling.clear();
    }

    /// The next unit whose turn it is, and whether it is up.
    pub(super) fn next(&self) -> Option<(bool, Unit)> {
        self.ready.first().cloned()
    }

    /// The next unit whose wave has not begun.
    pub(super) fn next_closed(&self) -> Option<Unit> {
        self.closed.first().map(|(_, unit)| unit.clone())
    }

    /// How many those are.
    pub(super) fn closed_len(&self) -> usize {
        self.closed.len()
    }

    /// Units whose wave has not begun and that one of these waves names.
    pub(super) fn closed_in(&self, waves: u32) -> Vec<Unit> {
        let closed = self.closed.iter().map(|(_, unit)| unit);
        let named = closed.filter(|unit| self.get(unit).is_some_and(|it| it.waves & waves != 0));
        named.cloned().collect()
    }

    /// Units whose image is not there yet.
    pub(super) const fn unstaged(&self) -> &BTreeSet<Unit> {
        &self.unstaged
    }

    /// Units that are on their way, and places that are not free again yet.
    pub(super) fn busy(&self) -> usize {
        self.busy + self.cooling.len()
    }

    /// Units on nodes that can be reached, and those of them that are down.
    pub(super) fn reachable(&self) -> (usize, usize) {
        (self.members.len() - self.absent, self.down)
    }

    /// Whether any unit waits or is on its way, on nodes that can be reached.
    pub(super) fn is_moving(&self) -> bool {
        self.is_in_wave() || !self.closed.is_empty()
    }

    /// The same of waves that have begun.
    pub(super) fn is_in_wave(&self) -> bool {
        self.busy > 0 || !self.ready.is_empty() || !self.unstaged.is_empty()
    }

    /// Whether a failure would still count.
    pub(super) fn is_watched(&self) -> bool {
        !self.watched.is_empty()
    }

    /// Units on nodes that cannot be reached.
    pub(super) const fn absent(&self) -> usize {
        self.absent
    }

    /// Those among them of which it is not known that they have the goal's spec.
    pub(super) const fn away(&self) -> usize {
        self.away
    }

    /// Units that have the goal's spec and did not fail.
    pub(super) const fn done(&self) -> usize {
        self.done
    }

    /// Units that are not begun because their nodes cannot have the image.
    pub(super) const fn barred(&self) -> usize {
        self.barred
    }

    /// When something ends.
    pub(super) fn deadline(&self) -> Option<u64> {
        let watched = self.watched.first().map(|(until, _)| *until);
        // A free place is news only to who waits for one.
        let cooling = self.cooling.first().map(|(until, _)| *until);
        let cooling = cooling.filter(|_| !self.ready.is_empty());
        watched.into_iter().chain(cooling).min()
    }
}

/// A place in an order that has nothing to do with names (FNV-1a of the node's): neighbours by name
/// are often neighbours on a network too, and one wave should not take all of them.
fn mixed(unit: &Unit) -> u64 {
    match unit {
        Unit::Slot(slot) => u64::from(slot.0),
        Unit::Node(node) => node.as_str().bytes().fold(0xcbf2_9ce4_8422_2325, |sum: u64, byte| {
            (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        }),
    }
}
