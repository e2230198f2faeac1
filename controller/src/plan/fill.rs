//! Placing what a service lacks.
//!
//! In: a service of which something changed. Out: as many instances as are wanted and as there is
//! room for, those of lost nodes elsewhere, and what is left open. A slot with a home
//! ([`super::homes`]) goes there or nowhere.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use limpet_protocol::id::{NodeId, Slot};

use super::books::{Books, Sitting};
use super::filter::{lasting_misfit, standing_misfit};
use super::keep::Look;
use super::place::Choice;
use super::planner::Planner;
use super::{ServiceKey, Wanted};

/// Finds nodes for one service, one after the other.
#[derive(Debug, Default)]
pub(super) struct Finder {
    choice: Option<Choice>,
    /// Nobody could be asked to make room either.
    dry: bool,
}

impl Finder {
    /// The best node that has room.
    pub(super) fn find(
        &mut self,
        books: &mut Books,
        key: &ServiceKey,
        wanted: &Wanted,
    ) -> Option<NodeId> {
        let choice = self.choice.get_or_insert_with(|| Choice::new(books, key, wanted));
        choice.best(books, key, wanted)
    }

    pub(super) fn chosen(&mut self, books: &Books, id: &NodeId) {
        if let Some(choice) = &mut self.choice {
            choice.chosen(books, id);
        }
    }

    /// Others made room: everything may be otherwise.
    fn begin_again(&mut self) {
        self.choice = None;
    }
}

impl Planner {
    /// Places what a service lacks.
    pub(super) fn fill(&mut self, key: &ServiceKey, look: &Look) {
        let Some(wanted) = self.wanted.get(key).cloned() else {
            self.pending.remove(key);
            self.pending_on.remove(key);
            self.gave_way.retain(|(other, ..), _| other != key);
            return self.note_open(key);
        };
        if wanted.mode.is_global() {
            self.pending.remove(key);
            self.fill_nodes(key, &wanted, look);
        } else {
            self.pending_on.remove(key);
            self.fill_slots(key, &wanted);
        }
        self.note_open(key);
    }

    /// Notes whether other changes may concern the service.
    fn note_open(&mut self, key: &ServiceKey) {
        let placed = self.books.placed.get(key);
        let adrift = placed.is_some_and(|placed| !placed.adrift.is_empty());
        set(&mut self.open, key, adrift || self.pending.contains_key(key));
        let moving = placed.is_some_and(|placed| !placed.moves.is_empty());
        set(&mut self.moving, key, moving);
        self.books.tidy(key);
    }

    fn fill_slots(&mut self, key: &ServiceKey, wanted: &Wanted) {
        self.trim(key, wanted);
        let mut finder = Finder::default();
        let mut pending = BTreeSet::new();
        for (slot, lost_on) in self.open_slots(key, wanted) {
            let Some(id) = self.find_for((key, slot), wanted, &mut finder) else {
                if lost_on.is_none() {
                    pending.insert(slot);
                }
                continue;
            };
            if let Some(lost) = lost_on {
                self.books.rise(key, (&lost, slot));
            }
            self.seat(key, wanted, (&id, slot));
            finder.chosen(&self.books, &id);
        }
        if pending.is_empty() {
            self.pending.remove(key);
        } else {
            self.pending.insert(key.clone(), pending);
        }
        self.drain(key, wanted, &mut finder);
    }

    /// The slots that want a node, in their order: new ones, and those whose node is lost.
    fn open_slots(&self, key: &ServiceKey, wanted: &Wanted) -> BTreeMap<Slot, Option<NodeId>> {
        let mut open = BTreeMap::new();
        let nothing = Arc::default();
        let placed = self.books.placed.get(key).unwrap_or(&nothing);
        for slot in &placed.adrift {
            let lost = placed.at.get(slot).filter(|id| self.books.is_lost(id));
            if let Some(lost) = lost
                && !self.has_home(key, wanted, *slot)
            {
                open.insert(*slot, Some(lost.clone()));
            }
        }
        let active = placed.at.len().saturating_sub(placed.resting.len());
        let lacking = self.active_wanted(key, wanted).saturating_sub(active);
        if lacking == 0 {
            return open;
        }
        let progress = self.progress.get(key);
        let over = |slot: &Slot| {
            progress.is_some_and(|p| p.done.contains(slot) || p.failed.contains_key(slot))
        };
        let count = u32::try_from(placed.at.len()).unwrap_or(u32::MAX);
        let whole = placed.at.last_key_value().is_some_and(|(last, _)| last.0 == count);
        let first = if whole { count.saturating_add(1) } else { 1 };
        let free = (first..u32::MAX).map(Slot);
        let free = free.filter(|slot| !placed.at.contains_key(slot) && !over(slot));
        open.extend(free.take(lacking).map(|slot| (slot, None)));
        open
    }

    /// The node for a slot: its home, where its volumes are, the best, or one where others make room.
    fn find_for(
        &mut self,
        (key, slot): (&ServiceKey, Slot),
        wanted: &Wanted,
        finder: &mut Finder,
    ) -> Option<NodeId> {
        if let Some(home) = self.home(key, wanted, slot).cloned() {
            if self.fits(key, wanted, &home) {
                return Some(home);
            }
            return self.preempt(key, wanted, Some(&home));
        }
        let company = self.company(key, wanted);
        let fits = company.into_iter().find(|id| self.fits(key, wanted, id));
        if let Some(id) = fits.or_else(|| finder.find(&mut self.books, key, wanted)) {
            return Some(id);
        }
        if finder.dry {
            return None;
        }
        let made = self.preempt(key, wanted, None);
        finder.dry = made.is_none();
        finder.begin_again();
        made
    }

    /// Whether one more instance may go to a node.
    pub(super) fn fits(&self, key: &ServiceKey, wanted: &Wanted, id: &NodeId) -> bool {
        let Some(seat) = self.books.seats.get(id) else { return false };
        let own = self.books.placed.get(key).map_or(0, |placed| placed.active_on(id));
        standing_misfit(&seat.node).is_none()
            && lasting_misfit(wanted, id, &seat.node).is_none()
            && seat.room.misfit(wanted, &seat.node, own).is_none()
    }

    /// Puts a new instance on a node.
    pub(super) fn seat(&mut self, key: &ServiceKey, wanted: &Wanted, (id, slot): (&NodeId, Slot)) {
        let by_node = wanted.mode.is_global();
        self.books.sit(key, (id, slot), Sitting { by_node, rests: false });
        self.note_home(key, wanted, (id, slot));
        let node = by_node.then(|| id.clone());
        self.gave_way.remove(&(key.clone(), node, slot));
    }

    /// One on each node that matches.
    fn fill_nodes(&mut self, key: &ServiceKey, wanted: &Wanted, look: &Look) {
        let mut pending = self.pending_on.remove(key).unwrap_or_default();
        let nodes: Vec<NodeId> = if look.whole {
            pending.clear();
            self.books.seats.keys().cloned().collect()
        } else {
            look.nodes.iter().cloned().collect()
        };
        for id in nodes {
            pending.remove(&id);
            let Some(seat) = self.books.seats.get(&id) else { continue };
            let there = self.books.placed.get(key).is_some_and(|p| p.on.contains_key(&id));
            if there
                || wanted.stopped
                || standing_misfit(&seat.node).is_some()
                || lasting_misfit(wanted, &id, &seat.node).is_some()
                || self.progress.is_over(key, &id, Slot(1))
            {
                continue;
            }
            if self.fits(key, wanted, &id) || self.preempt(key, wanted, Some(&id)).is_some() {
                self.seat(key, wanted, (&id, Slot(1)));
            } else {
                pending.insert(id);
            }
        }
        if !pending.is_empty() {
            self.pending_on.insert(key.clone(), pending);
        }
    }
}

fn set(keys: &mut BTreeSet<ServiceKey>, key: &ServiceKey, there: bool) {
    if there {
        keys.insert(key.clone());
    } else {
        keys.remove(key);
    }
}
