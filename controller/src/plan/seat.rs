//! A node and what is taken of it.

use std::collections::BTreeSet;
use std::sync::Arc;

use limpet_protocol::id::Slot;

use super::filter::{Misfit, passing_misfit};
use super::ports::{PortClaim, Ports};
use super::{Needs, Node, ServiceKey, Usage, Wanted};

/// See the module.
#[derive(Debug, Clone)]
pub(super) struct Seat {
    /// Shared with the copies of the planner.
    pub(super) node: Arc<Node>,
    pub(super) room: Room,
    pub(super) services: BTreeSet<ServiceKey>,
}

/// What is taken of a node.
#[derive(Debug, Clone, Default)]
pub(super) struct Room {
    pub(super) used: Usage,
    pub(super) ports: Ports,
}

/// What an instance takes of its node; one that rests, because it is over, takes its place only.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms<'a> {
    pub(super) needs: Needs,
    pub(super) claims: &'a [PortClaim],
    pub(super) rests: bool,
}

impl Room {
    /// Why one more instance does not fit, `own` of its service being there.
    pub(super) fn misfit(&self, wanted: &Wanted, node: &Node, own: usize) -> Option<Misfit> {
        passing_misfit(wanted, node, &self.used, own).or_else(|| {
            let (udp, port) = self.ports.lacks(&wanted.claims)?;
            Some(Misfit::Port(udp, port))
        })
    }

    pub(super) fn take(&mut self, (key, slot): (&ServiceKey, Slot), terms: Terms<'_>) {
        self.used.instances += 1;
        if !terms.rests {
            self.used.add(terms.needs);
            // What a damaged store placed against the rules ends with the next look at the node.
            let _whole = self.ports.take((key, slot), terms.claims);
        }
    }

    pub(super) fn give_back(&mut self, (key, slot): (&ServiceKey, Slot), terms: Terms<'_>) {
        self.used.instances = self.used.instances.saturating_sub(1);
        if !terms.rests {
            self.used.remove(terms.needs);
            if !terms.claims.is_empty() {
                self.ports.give_back((key, slot));
            }
        }
    }
}
