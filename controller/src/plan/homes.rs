//! Homes: a service with named volumes keeps each slot on the node where it first ran, because its
//! data is there.
//!
//! In: where slots are placed. Out: the only node that a slot may go to, or where it would rather
//! be. A home is kept when the service is scaled down, stopped, or its node is lost; it ends with the
//! node, with the application, and with `x-volumes: move`. Services that share a volume go to the
//! same node where there is room.

use std::collections::BTreeSet;

use limpet_protocol::id::{NodeId, Slot};

use super::planner::Planner;
use super::{ServiceKey, Wanted};

/// Nodes that are looked at for a service because another with the same volume is there.
const MAX_COMPANY: usize = 16;

impl Planner {
    /// The node of a slot's data, if it has to be there.
    pub(super) fn home(&self, key: &ServiceKey, wanted: &Wanted, slot: Slot) -> Option<&NodeId> {
        if !wanted.has_home() {
            return None;
        }
        self.progress.home(key, slot).filter(|id| self.books.seats.contains_key(*id))
    }

    pub(super) fn has_home(&self, key: &ServiceKey, wanted: &Wanted, slot: Slot) -> bool {
        self.home(key, wanted, slot).is_some()
    }

    /// A slot is placed: its first node becomes its home. A home that is no node any more is none.
    pub(super) fn note_home(&mut self, key: &ServiceKey, wanted: &Wanted, at: (&NodeId, Slot)) {
        if wanted.has_home() && !self.has_home(key, wanted, at.1) {
            self.progress.set_home(key, at);
        }
    }

    /// Nodes where other services have a volume of this one.
    pub(super) fn company(&self, key: &ServiceKey, wanted: &Wanted) -> BTreeSet<NodeId> {
        let sharers = wanted.volumes.iter().filter_map(|volume| self.sharers.get(volume));
        let others = sharers.flatten().filter(|other| *other != key);
        let homes = others.flat_map(|other| self.progress.homes(other));
        homes.take(MAX_COMPANY).cloned().collect()
    }

    /// Who uses which volume.
    pub(super) fn note_sharer(&mut self, key: &ServiceKey, volumes: &[String], uses: bool) {
        for volume in volumes {
            if uses {
                self.sharers.entry(volume.clone()).or_default().insert(key.clone());
            } else if let Some(sharers) = self.sharers.get_mut(volume) {
                sharers.remove(key);
                if sharers.is_empty() {
                    self.sharers.remove(volume);
                }
            }
        }
    }
}
