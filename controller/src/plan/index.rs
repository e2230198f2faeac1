//! Which nodes suit a kind of service and have room for one more instance, least loaded first.
//!
//! In: what a service asks of nodes ([`Shape`]), and every change of a node. Out: for each value of
//! the spread labels the nodes in the order of their instances. So placing one instance looks at the
//! first nodes of each group and not at the fleet. Services that ask the same share one shelf; the
//! shelf that was not used for the longest time goes when there are too many, and is made again when
//! it is needed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use limpet_protocol::application::Constraint;
use limpet_protocol::id::NodeId;

use super::filter::{lasting_misfit, passing_misfit};
use super::seat::Seat;
use super::{Needs, Node, Standing, Wanted};
use crate::store::records::Availability;

/// Shelves at a time: every change of a node costs each of them a step.
const MAX_SHELVES: usize = 32;

/// What a service asks of nodes, as far as it does not depend on the service's own instances.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shape {
    constraints: Vec<Constraint>,
    platform: Option<String>,
    devices: Vec<String>,
    spread: Vec<String>,
    needs: Needs,
}

impl Shape {
    pub(super) fn of(wanted: &Wanted) -> Self {
        Self {
            constraints: wanted.placement.constraints.clone(),
            platform: wanted.platform.clone(),
            devices: wanted.devices.clone(),
            spread: wanted.placement.spread.clone(),
            needs: wanted.needs,
        }
    }

    fn is_of(&self, wanted: &Wanted) -> bool {
        self.needs == wanted.needs
            && self.constraints == wanted.placement.constraints
            && self.spread == wanted.placement.spread
            && self.platform == wanted.platform
            && self.devices == wanted.devices
    }
}

/// The values of a node's spread labels, in the order of the preferences.
pub(super) type Path = Vec<String>;

/// Nodes of one standing and one path; reachable ones come first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Group {
    pub(super) unreachable: bool,
    pub(super) path: Path,
}

/// A node's place in its group: its instances, then its name.
pub(super) type Rank = (usize, NodeId);

/// Where a node that suits stands; no rank while it has no room.
#[derive(Debug)]
struct Spot {
    group: Group,
    rank: Option<usize>,
}

/// The nodes that suit one shape.
#[derive(Debug)]
pub(super) struct Shelf {
    shape: Shape,
    /// What a service of this shape wants, for the filters.
    wanted: Wanted,
    spots: BTreeMap<NodeId, Spot>,
    pub(super) groups: BTreeMap<Group, BTreeSet<Rank>>,
    used: u64,
}

impl Shelf {
    fn new(wanted: &Wanted, seats: &BTreeMap<NodeId, Arc<Seat>>, used: u64) -> Self {
        let mut plain = wanted.clone();
        // Rules over the service's own instances are the chooser's.
        plain.placement.max_replicas_per_node = None;
        let mut shelf = Self {
            shape: Shape::of(wanted),
            wanted: plain,
            spots: BTreeMap::new(),
            groups: BTreeMap::new(),
            used,
        };
        for (id, seat) in seats {
            shelf.set_node(id, Some(seat));
        }
        shelf
    }

    /// A node is another, or gone.
    fn set_node(&mut self, id: &NodeId, seat: Option<&Seat>) {
        self.unrank(id);
        self.spots.remove(id);
        let Some(seat) = seat else { return };
        let node = &seat.node;
        if node.standing == Standing::Lost
            || node.availability != Availability::Active
            || lasting_misfit(&self.wanted, id, node).is_some()
        {
            return;
        }
        let unreachable = node.standing != Standing::Ready;
        let group = Group { unreachable, path: path(&self.shape.spread, node) };
        self.spots.insert(id.clone(), Spot { group, rank: None });
        self.set_used(id, seat);
    }

    /// What is taken of a node is another.
    fn set_used(&mut self, id: &NodeId, seat: &Seat) {
        let Some(spot) = self.spots.get_mut(id) else { return };
        let fits = passing_misfit(&self.wanted, &seat.node, &seat.room.used, 0).is_none();
        let rank = fits.then_some(seat.room.used.instances);
        if spot.rank == rank {
            return;
        }
        let old = std::mem::replace(&mut spot.rank, rank);
        if let Some(old) = old
            && let Some(group) = self.groups.get_mut(&spot.group)
        {
            group.remove(&(old, id.clone()));
        }
        if let Some(rank) = rank {
            if let Some(group) = self.groups.get_mut(&spot.group) {
                group.insert((rank, id.clone()));
            } else {
                self.groups.insert(spot.group.clone(), [(rank, id.clone())].into());
            }
        }
    }

    fn unrank(&mut self, id: &NodeId) {
        let Some(Spot { group, rank: Some(rank) }) = self.spots.get(id) else { return };
        if let Some(nodes) = self.groups.get_mut(group) {
            nodes.remove(&(*rank, id.clone()));
            if nodes.is_empty() {
                self.groups.remove(group);
            }
        }
    }

    /// A node's instances, if it suits and has room for one more.
    pub(super) fn rank(&self, id: &NodeId) -> Option<usize> {
        self.spots.get(id).and_then(|spot| spot.rank)
    }
}

/// The values of a node's spread labels.
pub(super) fn path(spread: &[String], node: &Node) -> Path {
    spread.iter().map(|label| node.labels.get(label).cloned().unwrap_or_default()).collect()
}

/// A copy begins with no shelves and makes those that it needs.
impl Clone for Index {
    fn clone(&self) -> Self {
        Self::default()
    }
}

/// All shelves.
#[derive(Debug, Default)]
pub(super) struct Index {
    shelves: Vec<Shelf>,
    uses: u64,
}

impl Index {
    /// Has the shelf for a service ready; its number is good until the next call.
    pub(super) fn open(&mut self, wanted: &Wanted, seats: &BTreeMap<NodeId, Arc<Seat>>) -> usize {
        self.uses += 1;
        if let Some(at) = self.shelves.iter().position(|shelf| shelf.shape.is_of(wanted)) {
            self.shelves[at].used = self.uses;
            return at;
        }
        let shelf = Shelf::new(wanted, seats, self.uses);
        if self.shelves.len() < MAX_SHELVES {
            self.shelves.push(shelf);
            return self.shelves.len() - 1;
        }
        let oldest = self.shelves.iter().enumerate().min_by_key(|(_, shelf)| shelf.used);
        let at = oldest.map_or(0, |(at, _)| at);
        self.shelves[at] = shelf;
        at
    }

    pub(super) fn shelf(&self, at: usize) -> Option<&Shelf> {
        self.shelves.get(at)
    }

    pub(super) fn set_node(&mut self, id: &NodeId, seat: Option<&Seat>) {
        self.shelves.iter_mut().for_each(|shelf| shelf.set_node(id, seat));
    }

    pub(super) fn set_used(&mut self, id: &NodeId, seat: &Seat) {
        self.shelves.iter_mut().for_each(|shelf| shelf.set_used(id, seat));
    }
}
