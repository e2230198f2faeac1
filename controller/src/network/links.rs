//! Links: two nodes are peers if one of them picked the other, as both must know each other's key; unless
//! one of them has too many already.
//!
//! A node keeps its most wanted links ([`super::MAX_PEERS`]): those within its site, and of the others those that
//! a digest of both puts first. A link that one end does not keep is none: the other end has it not
//! either.

use std::collections::BTreeSet;

use super::fabric::{Fabric, Node};
use super::ring::Place;

/// How wanted a link is, the same from both ends: the smaller the more.
pub(super) type Rank = (bool, u64);

fn rank((one, a): (Place, &Node), (other, b): (Place, &Node)) -> Rank {
    let same_site = a.site().is_some() && a.site() == b.site();
    // Spread by an odd factor: the places of neighbours on the ring differ in few bits.
    (!same_site, (one.0 ^ other.0).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

impl Node {
    /// The first link that is not kept any more, if there are so many.
    fn cut(&self, most: usize) -> Option<(Rank, Place)> {
        if self.links.len() <= most { None } else { self.links.iter().nth(most).copied() }
    }
}

impl Fabric {
    /// A node picked another.
    pub(super) fn add_pick(&mut self, place: Place, other: Place) {
        let Some(picked) = self.nodes.get_mut(&other) else { return };
        picked.picked_by.insert(place);
        if !picked.picks.contains(&place) {
            self.link(place, other, true);
        }
    }

    /// A node no longer picks another.
    pub(super) fn drop_pick(&mut self, place: Place, other: Place) {
        let Some(picked) = self.nodes.get_mut(&other) else { return };
        picked.picked_by.remove(&place);
        if !picked.picks.contains(&place) {
            self.link(place, other, false);
        }
    }

    /// Takes all links of a node away, before it is another, or makes them again.
    pub(super) fn set_links(&mut self, place: Place, there: bool) {
        let Some(node) = self.nodes.get(&place) else { return };
        let others: BTreeSet<Place> = node.picks.union(&node.picked_by).copied().collect();
        others.into_iter().for_each(|other| self.link(place, other, there));
    }

    fn link(&mut self, one: Place, other: Place, there: bool) {
        let (Some(a), Some(b)) = (self.nodes.get(&one), self.nodes.get(&other)) else { return };
        let rank = rank((one, a), (other, b));
        self.set_link(one, (rank, other), there);
        self.set_link(other, (rank, one), there);
    }

    fn set_link(&mut self, place: Place, link: (Rank, Place), there: bool) {
        let Some(node) = self.nodes.get_mut(&place) else { return };
        let before = node.cut(self.most_peers);
        if there {
            node.links.insert(link);
        } else {
            node.links.remove(&link);
        }
        let after = node.cut(self.most_peers);
        self.stale.extend([place, link.1]);
        if before != after {
            // What is beyond the cut now or was before: each is one step away from it.
            let beyond = [before, after].into_iter().flatten().map(|(_, other)| other);
            self.stale.extend(beyond);
        }
    }

    /// The peers of a node: links that both ends keep.
    pub(super) fn peers<'a>(
        &'a self,
        place: Place,
        node: &'a Node,
    ) -> impl Iterator<Item = (&'a Node, bool)> {
        let kept = node.links.iter().take(self.most_peers);
        kept.filter_map(move |((is_far, mixed), other)| {
            let peer = self.nodes.get(other)?;
            let cut = peer.cut(self.most_peers);
            let is_kept = cut.is_none_or(|cut| ((*is_far, *mixed), place) < cut);
            is_kept.then_some((peer, !is_far))
        })
    }

    /// How many links of a node are none because one end has too many.
    #[must_use]
    pub fn peers_left_out(&self, id: &limpet_protocol::id::NodeId) -> usize {
        let Some((place, node)) = self.find(id) else { return 0 };
        node.links.len().saturating_sub(self.peers(place, node).count())
    }
}
