//! Moving instances off nodes that people drain, by the rules of an update.
//!
//! In: slots whose node is drained, and what nodes say of those that are on their way. Out: steps of
//! a [`Move`]. At most as many slots of a service are on the move as its `update_config` lets at a
//! time (`parallelism`). With `order: start-first` the slot is on both nodes until it is ready on
//! the new one; otherwise its place on the new node is kept until the old one has stopped it, so
//! that it never runs twice (SwarmKit, `manager/orchestrator/restart/restart.go`: the replacement
//! waits for the old task, unless the node is down). A slot for which there is no other place stays.

use limpet_protocol::id::{NodeId, Slot};

use super::fill::Finder;
use super::keep::Look;
use super::planner::Planner;
use super::{Ending, ServiceKey, Wanted};

/// A slot on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    /// The node that gives it.
    pub from: NodeId,
    /// The node that takes it.
    pub to: NodeId,
    /// How far it has come.
    pub stage: Stage,
}

/// How far a move has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The old node stops it; the new one keeps a place for it and is not told yet.
    Leaving,
    /// The new node starts it.
    Coming {
        /// The old node runs it until it is ready there.
        old_stays: bool,
    },
}

impl Planner {
    /// The slots that are on their way.
    pub fn moves(&self) -> impl Iterator<Item = (&ServiceKey, Slot, &Move)> {
        self.moving.iter().flat_map(|key| {
            let moves = self.books.placed.get(key).map(|placed| &placed.moves);
            moves.into_iter().flatten().map(move |(slot, step)| (key, *slot, step))
        })
    }

    /// The node that gives a slot has stopped it, or is lost: the new one may start it.
    pub fn left(&mut self, key: &ServiceKey, slot: Slot) {
        let Some(placed) = self.books.placed_mut(key) else { return };
        let Some(step) = placed.moves.get_mut(&slot) else { return };
        if step.stage == Stage::Leaving {
            step.stage = Stage::Coming { old_stays: false };
            let to = step.to.clone();
            self.books.touch(&to);
            self.look(key, Look::default());
        }
    }

    /// A slot is ready on its new node, or has run to its end there.
    pub fn arrived(&mut self, key: &ServiceKey, slot: Slot) {
        let Some(placed) = self.books.placed_mut(key) else { return };
        let Some(Stage::Coming { old_stays }) = placed.moves.get(&slot).map(|step| step.stage)
        else {
            return;
        };
        if let Some(step) = placed.moves.remove(&slot)
            && old_stays
        {
            self.books.rise(key, (&step.from, slot));
        }
        self.look(key, Look::default());
    }

    /// Begins as many moves as may be on the way at a time.
    pub(super) fn drain(&mut self, key: &ServiceKey, wanted: &Wanted, choose: &mut Finder) {
        let Some(placed) = self.books.placed.get(key) else { return };
        let drained = |slot: &Slot| {
            let at = placed.at.get(slot).filter(|id| !self.books.is_lost(id))?;
            (!placed.moves.contains_key(slot)).then(|| (*slot, at.clone()))
        };
        let waiting: Vec<(Slot, NodeId)> = placed.adrift.iter().filter_map(drained).collect();
        let mut free = wanted.drain.at_once().saturating_sub(placed.moves.len());
        for (slot, from) in waiting {
            if free == 0 || self.has_home(key, wanted, slot) {
                continue;
            }
            let Some(to) = choose.find(&mut self.books, key, wanted) else { continue };
            self.begin_move((key, slot), wanted, (from, to.clone()));
            choose.chosen(&self.books, &to);
            free -= 1;
        }
    }

    fn begin_move(
        &mut self,
        (key, slot): (&ServiceKey, Slot),
        wanted: &Wanted,
        (from, to): (NodeId, NodeId),
    ) {
        let old_stays = wanted.drain.start_first && wanted.ending == Ending::Never;
        if !old_stays {
            self.books.rise(key, (&from, slot));
        }
        self.seat(key, wanted, (&to, slot));
        let stage = if old_stays { Stage::Coming { old_stays } } else { Stage::Leaving };
        if let Some(placed) = self.books.placed_mut(key) {
            placed.moves.insert(slot, Move { from, to, stage });
        }
    }

    /// A move's target cannot take it any more, or its slot is not wanted: what is left of it.
    pub(super) fn give_up_move(&mut self, key: &ServiceKey, slot: Slot) {
        let Some(placed) = self.books.placed_mut(key) else { return };
        let Some(step) = placed.moves.remove(&slot) else { return };
        if step.stage == (Stage::Coming { old_stays: true })
            && placed.on.get(&step.from).is_some_and(|slots| slots.contains(&slot))
            && !placed.at.contains_key(&slot)
        {
            placed.at.insert(slot, step.from.clone());
            placed.adrift.insert(slot);
            // What it shall run there may be another by now.
            self.books.touch(&step.from);
        }
    }
}
