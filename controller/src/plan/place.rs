//! Choosing among the nodes that suit: the scores.
//!
//! In: the nodes that may take instances of a service, with what they run. Out: one node after
//! the other, best first, each choice counted in the next. Nodes are grouped by their values of the
//! spread preferences; within a group a heap orders them, so that a choice costs the number of
//! groups and the logarithm of the nodes.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use limpet_protocol::id::NodeId;

use super::{Node, Standing};

/// A node that may take an instance; the least is the best.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Candidate {
    /// Whether its link is down.
    pub(super) unreachable: bool,
    /// Instances of the service that it has.
    pub(super) own: usize,
    /// Instances that it has.
    pub(super) all: usize,
    /// Its name, so that the choice is always the same.
    pub(super) node: NodeId,
}

/// The values of a node's spread labels, in the order of the preferences.
type Path = Vec<String>;

/// The nodes to choose from.
#[derive(Debug, Default)]
pub(super) struct Choice {
    groups: BTreeMap<Path, BinaryHeap<Reverse<Candidate>>>,
    /// Instances of the service below each beginning of a path.
    counts: BTreeMap<Path, usize>,
}

impl Choice {
    /// Adds a node that suits.
    pub(super) fn offer(&mut self, spread: &[String], node: &Node, candidate: Candidate) {
        let path = path(spread, node);
        self.count(&path, candidate.own);
        self.groups.entry(path).or_default().push(Reverse(candidate));
    }

    /// Counts a node that takes no more but runs instances of the service.
    pub(super) fn count_only(&mut self, spread: &[String], node: &Node, own: usize) {
        if node.standing != Standing::Lost {
            self.count(&path(spread, node), own);
        }
    }

    fn count(&mut self, path: &[String], own: usize) {
        for length in 1..=path.len() {
            *self.counts.entry(path[..length].to_vec()).or_default() += own;
        }
    }

    /// Takes the best node out.
    pub(super) fn best(&mut self) -> Option<(Vec<String>, Candidate)> {
        let score = |path: &Path, best: &Candidate| {
            let spread: Vec<usize> = (1..=path.len())
                .map(|length| self.counts.get(&path[..length]).copied().unwrap_or(0))
                .collect();
            (best.unreachable, spread, best.clone())
        };
        let path = self
            .groups
            .iter()
            .filter_map(|(path, heap)| heap.peek().map(|Reverse(best)| (score(path, best), path)))
            .min()
            .map(|(_, path)| path.clone())?;
        let Reverse(candidate) = self.groups.get_mut(&path)?.pop()?;
        Some((path, candidate))
    }

    /// Puts a node back that was taken and chosen, with one more instance.
    pub(super) fn chosen(&mut self, path: Vec<String>, mut candidate: Candidate) {
        self.count(&path, 1);
        candidate.own += 1;
        candidate.all += 1;
        self.groups.entry(path).or_default().push(Reverse(candidate));
    }
}

fn path(spread: &[String], node: &Node) -> Path {
    spread.iter().map(|label| node.labels.get(label).cloned().unwrap_or_default()).collect()
}
