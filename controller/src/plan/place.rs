//! Choosing among the nodes that suit: the scores.
//!
//! In: the shelf of a service's shape ([`super::index`]) and what the service has already. Out: one
//! node after the other, best first: reachable ones, then the spread preferences, then fewest
//! instances of the service, then fewest of all, then the name. A choice costs the number of groups
//! and, over one whole service, one walk over the nodes that it has already.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::ops::Bound;

use limpet_protocol::id::NodeId;

use super::books::{Books, Placed};
use super::index::{Group, Path, Rank, Shelf, path};
use super::{ServiceKey, Standing, Wanted};

/// A node that may take an instance; the least is the best.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    /// Instances of the service that it has.
    own: usize,
    /// Instances that it has.
    all: usize,
    node: NodeId,
}

/// One group, and how far it was looked through.
#[derive(Debug)]
struct Lane {
    group: Group,
    /// Where the counts of each beginning of the path are.
    counts: Vec<usize>,
    /// Up to here all nodes have instances of the service, or do not fit.
    cursor: Option<Rank>,
    /// Nodes with instances of the service, once there are no others.
    again: Option<BinaryHeap<Reverse<Candidate>>>,
    best: Option<Candidate>,
    /// Whether `best` has to be looked for.
    stale: bool,
}

/// The nodes to choose from, for one service.
#[derive(Debug)]
pub(super) struct Choice {
    shelf: usize,
    lanes: Vec<Lane>,
    counts: Vec<usize>,
    numbers: BTreeMap<Path, usize>,
    spread: Vec<String>,
}

impl Choice {
    /// Everything that suits a service.
    pub(super) fn new(books: &mut Books, key: &ServiceKey, wanted: &Wanted) -> Self {
        let number = books.index.open(wanted, &books.seats);
        let spread = wanted.placement.spread.clone();
        let mut choice =
            Self { shelf: number, lanes: vec![], counts: vec![], numbers: BTreeMap::new(), spread };
        let groups = books.index.shelf(number).map(|shelf| &shelf.groups);
        for group in groups.into_iter().flatten().map(|(group, _)| group) {
            let counts = choice.numbers_of(&group.path);
            let (cursor, again, best) = (None, None, None);
            let group = group.clone();
            choice.lanes.push(Lane { group, counts, cursor, again, best, stale: true });
        }
        if !choice.spread.is_empty()
            && let Some(placed) = books.placed.get(key)
        {
            for (id, slots) in &placed.on {
                let Some(seat) = books.seats.get(id) else { continue };
                if seat.node.standing != Standing::Lost {
                    let path = path(&choice.spread, &seat.node);
                    choice.count(&path, slots.len());
                }
            }
        }
        choice
    }

    fn numbers_of(&mut self, path: &Path) -> Vec<usize> {
        let mut numbers = vec![];
        for length in 1..=path.len() {
            let next = self.counts.len();
            let number = *self.numbers.entry(path[..length].to_vec()).or_insert(next);
            if number == next {
                self.counts.push(0);
            }
            numbers.push(number);
        }
        numbers
    }

    fn count(&mut self, path: &Path, instances: usize) {
        for number in self.numbers_of(path) {
            self.counts[number] += instances;
        }
    }

    /// The best node that has room.
    pub(super) fn best(
        &mut self,
        books: &Books,
        key: &ServiceKey,
        wanted: &Wanted,
    ) -> Option<NodeId> {
        let shelf = books.index.shelf(self.shelf)?;
        let view = Scene { books, shelf, wanted, placed: books.placed.get(key).map(AsRef::as_ref) };
        for unreachable in [false, true] {
            for lane in self.lanes.iter_mut().filter(|lane| lane.group.unreachable == unreachable) {
                lane.look(view);
            }
            let counts = self.counts.as_slice();
            let open = self
                .lanes
                .iter()
                .filter(|lane| lane.group.unreachable == unreachable && lane.best.is_some());
            let best = open.min_by(|a, b| {
                let spread = a.score(counts).cmp(b.score(counts));
                spread.then_with(|| a.best.cmp(&b.best))
            });
            if let Some(candidate) = best.and_then(|lane| lane.best.as_ref()) {
                return Some(candidate.node.clone());
            }
        }
        None
    }

    /// A node was chosen: it has one more.
    pub(super) fn chosen(&mut self, books: &Books, id: &NodeId) {
        let Some(seat) = books.seats.get(id) else { return };
        let path = path(&self.spread, &seat.node);
        self.count(&path, 1);
        let unreachable = seat.node.standing != Standing::Ready;
        for lane in &mut self.lanes {
            if lane.group.unreachable == unreachable && lane.group.path == path {
                lane.stale = true;
            }
        }
    }
}

/// What a lane is looked through with.
#[derive(Clone, Copy)]
struct Scene<'a> {
    books: &'a Books,
    shelf: &'a Shelf,
    wanted: &'a Wanted,
    placed: Option<&'a Placed>,
}

impl Scene<'_> {
    fn own(self, id: &NodeId) -> usize {
        self.placed.map_or(0, |placed| placed.active_on(id))
    }

    fn fits(self, id: &NodeId, own: usize) -> bool {
        let seat = self.books.seats.get(id);
        seat.is_some_and(|seat| seat.room.misfit(self.wanted, &seat.node, own).is_none())
    }
}

impl Lane {
    /// Instances of the service below each beginning of the path.
    fn score<'a>(&'a self, counts: &'a [usize]) -> impl Iterator<Item = usize> + use<'a> {
        self.counts.iter().map(|at| counts[*at])
    }

    /// Finds the best node of the group, if that is not known.
    fn look(&mut self, scene: Scene<'_>) {
        if !self.stale {
            return;
        }
        self.stale = false;
        self.best = None;
        if self.again.is_none() {
            self.best = self.first_without(scene);
            if self.best.is_some() {
                return;
            }
            let nodes = scene.shelf.groups.get(&self.group).into_iter().flatten();
            let with = nodes.map(|(all, id)| (*all, id, scene.own(id)));
            let heap = with.filter(|(.., own)| *own > 0);
            let candidate = |(all, id, own): (usize, &NodeId, usize)| {
                Reverse(Candidate { own, all, node: id.clone() })
            };
            self.again = Some(heap.map(candidate).collect());
        }
        self.best = self.first_again(scene);
    }

    /// The first node that has no instance of the service.
    fn first_without(&mut self, scene: Scene<'_>) -> Option<Candidate> {
        let nodes = scene.shelf.groups.get(&self.group)?;
        let from = self.cursor.clone().map_or(Bound::Unbounded, Bound::Included);
        for (all, id) in nodes.range((from, Bound::Unbounded)) {
            if scene.own(id) == 0 && scene.fits(id, 0) {
                self.cursor = Some((*all, id.clone()));
                return Some(Candidate { own: 0, all: *all, node: id.clone() });
            }
        }
        None
    }

    /// The first node among those that have instances of the service.
    fn first_again(&mut self, scene: Scene<'_>) -> Option<Candidate> {
        let heap = self.again.as_mut()?;
        while let Some(Reverse(candidate)) = heap.pop() {
            let own = scene.own(&candidate.node);
            let Some(all) = scene.shelf.rank(&candidate.node) else { continue };
            if (own, all) != (candidate.own, candidate.all) {
                heap.push(Reverse(Candidate { own, all, node: candidate.node }));
            } else if scene.fits(&candidate.node, own) {
                heap.push(Reverse(candidate.clone()));
                return Some(candidate);
            }
        }
        None
    }
}
