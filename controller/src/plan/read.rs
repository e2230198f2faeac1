//! What the planner knows, for those who publish and show it.

use std::collections::BTreeSet;
use std::sync::Arc;

use limpet_protocol::assignment::AssignedService;
use limpet_protocol::id::{NodeId, Slot, SpecHash};

use super::books::Placed;
use super::filter::{Misfit, Misfits, bytes, cut, explain, lasting_misfit, standing_misfit};
use super::moves::{Move, Stage};
use super::planner::Planner;
use super::seat::Seat;
use super::{Node, ServiceKey, Standing, Unplaced, Usage, Wanted};

impl Planner {
    /// What a node shall run, in the order of the names.
    #[must_use]
    pub fn share(&self, id: &NodeId) -> Vec<AssignedService> {
        let Some(seat) = self.books.seats.get(id) else { return vec![] };
        let share = |key: &ServiceKey| {
            let placed = self.books.placed.get(key)?;
            let leader = self.leader(key).and_then(|leader| self.books.placed.get(leader));
            let moves = &leader.unwrap_or(placed).moves;
            let kept_only =
                |slot: &Slot| moves.get(slot).is_some_and(|step| step.stage == Stage::Leaving);
            let slots = placed.on.get(id)?.iter().copied();
            let slots: Vec<Slot> = slots.filter(|slot| !kept_only(slot)).collect();
            if slots.is_empty() {
                return None;
            }
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
        self.wanted.get(key).map(AsRef::as_ref)
    }

    /// Every place of a service. A slot on its way from one node to another may have both.
    pub fn places(&self, key: &ServiceKey) -> impl Iterator<Item = (&NodeId, Slot)> {
        let on = self.books.placed.get(key).map(|placed| &placed.on);
        on.into_iter().flatten().flat_map(|(id, slots)| slots.iter().map(move |slot| (id, *slot)))
    }

    /// What a node is, as far as the planner knows.
    #[must_use]
    pub fn node(&self, id: &NodeId) -> Option<&Node> {
        self.books.seats.get(id).map(|seat| &*seat.node)
    }

    /// The slots of a service on a node.
    #[must_use]
    pub fn slots_on(&self, key: &ServiceKey, id: &NodeId) -> BTreeSet<Slot> {
        let placed = self.books.placed.get(key).and_then(|placed| placed.on.get(id));
        placed.cloned().unwrap_or_default()
    }

    /// The node where a slot is meant to be: of one on its way off a drained node, the one that takes
    /// it. None of services with one instance on each node.
    #[must_use]
    pub fn meant(&self, key: &ServiceKey, slot: Slot) -> Option<&NodeId> {
        self.books.placed.get(key)?.at.get(&slot)
    }

    /// Whether a slot that is on this node is meant to be there, and not only until another has it.
    #[must_use]
    pub fn is_meant(&self, key: &ServiceKey, id: &NodeId, slot: Slot) -> bool {
        self.meant(key, slot).is_none_or(|at| at == id)
    }

    /// The ports of a node that instances of a service take: for which claim, and the number.
    #[must_use]
    pub fn ports_on(&self, key: &ServiceKey, id: &NodeId) -> BTreeSet<(usize, u16)> {
        let claims = self.wanted.get(key).is_some_and(|wanted| !wanted.claims.is_empty());
        let seat = self.books.seats.get(id).filter(|_| claims);
        seat.map(|seat| seat.room.ports.of(key)).unwrap_or_default()
    }

    /// Whether all instances of a service are on this node; not if there are none.
    #[must_use]
    pub fn is_local(&self, key: &ServiceKey, id: &NodeId) -> bool {
        self.books.placed.get(key).is_some_and(|placed| placed.on.keys().eq([id]))
    }

    /// Whether instances of a service have no node, or one that is lost or has no room.
    #[must_use]
    pub fn is_open(&self, key: &ServiceKey) -> bool {
        self.open.contains(key) || self.pending_on.contains_key(key)
    }

    /// The slots of a service that are not where they should be, and why.
    #[must_use]
    pub fn unplaced(&self, key: &ServiceKey) -> Vec<Unplaced> {
        let Some(wanted) = self.wanted.get(key) else { return vec![] };
        if let Some(joined) = &wanted.joins {
            return self.unplaced_followers(joined, wanted);
        }
        let nothing = Arc::default();
        let placed = self.books.placed.get(key).unwrap_or(&nothing);
        let mut found = vec![];
        if wanted.mode.is_global() {
            self.unplaced_nodes(key, wanted, placed, &mut found);
            return found;
        }
        let mut why = None;
        for slot in self.pending.get(key).into_iter().flatten() {
            let reason = self.why_slot((key, *slot), wanted, placed, &mut why);
            found.push(Unplaced { slot: *slot, node: None, reason });
        }
        for slot in placed.adrift.iter().filter(|slot| !placed.moves.contains_key(slot)) {
            let Some(id) = placed.at.get(slot) else { continue };
            let what = if self.books.is_lost(id) { "lost" } else { "drained" };
            let reason = match self.home_text((key, *slot), wanted) {
                Some(_) if what == "lost" => self.why_slot((key, *slot), wanted, placed, &mut why),
                Some(data) => format!(
                    "stays on {id}, which is drained, because {data}: move the data, then let it go \
                     with `x-volumes: move`"
                ),
                None if self.waits_for_others(wanted, placed, id) => {
                    let others = match placed.moves.len() {
                        1 => "another has".to_owned(),
                        moving => format!("{moving} others have"),
                    };
                    format!("node {id} is drained: it moves when {others} arrived")
                }
                None => {
                    let why = why.get_or_insert_with(|| self.why(wanted, placed));
                    format!("node {id} is {what} and no other can take it: {why}")
                }
            };
            found.push(Unplaced { slot: *slot, node: Some(id.clone()), reason: cut(reason) });
        }
        for (slot, step) in &placed.moves {
            let (node, reason) = in_words(step);
            found.push(Unplaced { slot: *slot, node: Some(node), reason });
        }
        found.sort_by(|a, b| (a.slot, &a.node).cmp(&(b.slot, &b.node)));
        found
    }

    fn waits_for_others(&self, wanted: &Wanted, placed: &Placed, id: &NodeId) -> bool {
        !self.books.is_lost(id) && placed.moves.len() >= wanted.drain.at_once()
    }

    /// Why a slot has no node, or stays with a lost one.
    fn why_slot(
        &self,
        (key, slot): (&ServiceKey, Slot),
        wanted: &Wanted,
        placed: &Placed,
        why: &mut Option<String>,
    ) -> String {
        let general = match (self.home(key, wanted, slot), self.home_text((key, slot), wanted)) {
            (Some(home), Some(data)) => self.why_not_home(key, wanted, (home, &data)),
            _ => why.get_or_insert_with(|| self.why(wanted, placed)).clone(),
        };
        match self.gave_way.get(&(key.clone(), None, slot)) {
            Some(how) => cut(format!("{how}: {general}")),
            None => cut(general),
        }
    }

    fn home_text(&self, (key, slot): (&ServiceKey, Slot), wanted: &Wanted) -> Option<String> {
        let home = self.home(key, wanted, slot)?;
        let volume = wanted.volumes.first()?;
        Some(format!("its volume {volume} is on {home}"))
    }

    fn why_not_home(
        &self,
        key: &ServiceKey,
        wanted: &Wanted,
        (home, data): (&NodeId, &str),
    ) -> String {
        let Some(seat) = self.books.seats.get(home) else { return data.to_owned() };
        let own = self.books.placed.get(key).map_or(0, |placed| placed.active_on(home));
        let misfit = standing_misfit(&seat.node)
            .or_else(|| lasting_misfit(wanted, home, &seat.node))
            .or_else(|| seat.room.misfit(wanted, &seat.node, own));
        let mut misfits = Misfits::default();
        misfit.into_iter().for_each(|misfit| misfits.add(misfit));
        format!(
            "{data}: {}; it waits for that node: `limpet node rm {home}` gives up the node and its \
             data, `x-volumes: move` lets the service start elsewhere without it",
            explain(wanted, &misfits)
        )
    }

    fn unplaced_nodes(
        &self,
        key: &ServiceKey,
        wanted: &Wanted,
        placed: &Placed,
        found: &mut Vec<Unplaced>,
    ) {
        let slot = Slot(1);
        for id in self.pending_on.get(key).into_iter().flatten() {
            let Some(seat) = self.books.seats.get(id) else { continue };
            let mut misfits = Misfits::default();
            let misfit = seat.room.misfit(wanted, &seat.node, 0);
            misfit.into_iter().for_each(|misfit| misfits.add(misfit));
            let why = explain(wanted, &misfits);
            let reason = match self.gave_way.get(&(key.clone(), Some(id.clone()), slot)) {
                Some(how) => format!("{how}: {why}"),
                None => format!("{id} has no room: {why}"),
            };
            found.push(Unplaced { slot, node: Some(id.clone()), reason: cut(reason) });
        }
        for id in placed.on.keys().filter(|id| self.books.is_lost(id)) {
            let reason = format!("node {id} is lost");
            found.push(Unplaced { slot, node: Some(id.clone()), reason });
        }
        found.sort_by(|a, b| a.node.cmp(&b.node));
    }

    /// Why no node can take one more.
    pub(super) fn why(&self, wanted: &Wanted, placed: &Placed) -> String {
        let mut misfits = Misfits::default();
        for (id, seat) in &self.books.seats {
            let own = placed.active_on(id);
            let misfit = standing_misfit(&seat.node)
                .or_else(|| lasting_misfit(wanted, id, &seat.node))
                .or_else(|| seat.room.misfit(wanted, &seat.node, own));
            if let Some(misfit) = misfit {
                misfits.add(misfit);
            }
        }
        explain(wanted, &misfits)
    }

    /// The services with instances on a node.
    pub fn services_on(&self, id: &NodeId) -> impl Iterator<Item = &ServiceKey> {
        self.books.seats.get(id).into_iter().flat_map(|seat| &seat.services)
    }

    /// How a node stands; none if there is no such node.
    #[must_use]
    pub fn standing(&self, id: &NodeId) -> Option<Standing> {
        self.books.seats.get(id).map(|seat| seat.node.standing)
    }

    /// Why nodes cannot take one more instance of a service, one for each such node.
    #[must_use]
    pub fn misfits(&self, key: &ServiceKey) -> Vec<Misfit> {
        let key = self.leader(key).unwrap_or(key);
        let Some(wanted) = self.wanted.get(key) else { return vec![] };
        let nothing = Arc::default();
        let placed = self.books.placed.get(key).unwrap_or(&nothing);
        let misfit = |(id, seat): (&NodeId, &Arc<Seat>)| {
            standing_misfit(&seat.node)
                .or_else(|| lasting_misfit(wanted, id, &seat.node))
                .or_else(|| seat.room.misfit(wanted, &seat.node, placed.active_on(id)))
        };
        self.books.seats.iter().filter_map(misfit).collect()
    }

    /// What is taken of a node.
    #[must_use]
    pub fn usage(&self, id: &NodeId) -> Usage {
        self.books.seats.get(id).map_or_else(Usage::default, |seat| seat.room.used)
    }

    /// Whether any node runs or shall run a service with this spec.
    #[must_use]
    pub fn is_named(&self, key: &ServiceKey, spec: SpecHash) -> bool {
        self.books.placed.get(key).is_some_and(|placed| placed.spec == Some(spec))
    }

    /// Why a global service is nowhere, if it is.
    #[must_use]
    pub fn why_nowhere(&self, key: &ServiceKey) -> Option<String> {
        let wanted = self.wanted.get(key)?;
        let nowhere = wanted.mode.is_global()
            && !wanted.stopped
            && !self.books.placed.contains_key(key)
            && !self.pending_on.contains_key(key)
            && self.progress.get(key).is_none_or(|progress| progress.done_on.is_empty());
        match &wanted.joins {
            Some(joined) if nowhere => {
                Some(format!("it shares the network of {joined}, which is on no node"))
            }
            _ => nowhere.then(|| self.why(wanted, &Placed::default())),
        }
    }
}

/// A step of a move for people, and the node that it is about.
fn in_words(step: &Move) -> (NodeId, String) {
    let Move { from, to, stage } = step;
    match stage {
        Stage::Leaving => (to.clone(), format!("moves here when {from} has stopped it")),
        Stage::Coming { old_stays: true } => {
            (from.clone(), format!("node {from} is drained: it goes when it is ready on {to}"))
        }
        Stage::Coming { old_stays: false } => (to.clone(), format!("moved here from {from}")),
    }
}

impl Usage {
    /// In words, for people.
    #[must_use]
    pub fn in_words(&self) -> String {
        format!("{} of memory and {} instances", bytes(self.memory_bytes), self.instances)
    }
}
