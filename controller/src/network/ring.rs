//! Nodes on a ring: everybody takes those that follow, so that not everybody takes the same and a change
//! concerns only those before it.
//!
//! A node's place is a digest of its name: who follows whom does not depend on the order in which nodes
//! came. It is the idea of consistent hashing (Karger et al., 1997).

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use limpet_protocol::id::NodeId;
use sha2::{Digest as _, Sha256};

/// Where a node stands on the ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Place(pub(super) u64);

impl Place {
    pub(super) fn of(id: &NodeId) -> Self {
        let digest = Sha256::digest(id.as_str());
        Self(digest.iter().take(8).fold(0, |sum, byte| (sum << 8) | u64::from(*byte)))
    }

    pub(super) const fn next(self) -> Self {
        Self(self.0.wrapping_add(1))
    }
}

/// Some nodes in the order of their places.
#[derive(Debug, Clone, Default)]
pub(super) struct Ring(BTreeSet<Place>);

impl Ring {
    pub(super) fn insert(&mut self, place: Place) -> bool {
        self.0.insert(place)
    }

    pub(super) fn remove(&mut self, place: Place) -> bool {
        self.0.remove(&place)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Place> {
        self.0.iter().copied()
    }

    /// All others, beginning behind a place.
    pub(super) fn after(&self, place: Place) -> impl Iterator<Item = Place> {
        let behind = self.0.range((Bound::Excluded(place), Bound::Unbounded));
        behind.chain(self.0.range(..place)).copied()
    }

    /// The stretch in which those stand who may have a place among the `most` that follow them; none is
    /// everybody. The place itself may be on the ring or not.
    pub(super) fn reach(&self, place: Place, most: usize) -> Option<Stretch> {
        let others = self.len().saturating_sub(usize::from(self.0.contains(&place)));
        if others <= most {
            return None;
        }
        let before = self.0.range(..place).rev();
        let around = self.0.range((Bound::Excluded(place), Bound::Unbounded)).rev();
        // Who stands at the place that has `most` before this one has it as the last, or not at all.
        let from = before.chain(around).nth(most.saturating_sub(1)).copied()?;
        Some(Stretch { from, to: place })
    }

    /// Those who stand in a stretch; of none everybody.
    pub(super) fn within(&self, stretch: Option<Stretch>) -> Vec<Place> {
        let Some(Stretch { from, to }) = stretch else { return self.iter().collect() };
        if from < to {
            return self.0.range(from..to).copied().collect();
        }
        self.0.range(from..).chain(self.0.range(..to)).copied().collect()
    }
}

/// From a place on (it among them) to one before another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stretch {
    pub(super) from: Place,
    pub(super) to: Place,
}

/// The value of a node's label `site`.
pub(super) type Site = String;

/// Nodes by site. Nodes without a site are in no common one.
#[derive(Debug, Clone, Default)]
pub(super) struct Crowd {
    pub(super) all: Ring,
    sites: BTreeMap<Site, Ring>,
}

impl Crowd {
    pub(super) fn insert(&mut self, place: Place, site: Option<&Site>) {
        self.all.insert(place);
        if let Some(site) = site {
            self.sites.entry(site.clone()).or_default().insert(place);
        }
    }

    pub(super) fn remove(&mut self, place: Place, site: Option<&Site>) {
        self.all.remove(place);
        let Some(site) = site else { return };
        if let Some(ring) = self.sites.get_mut(site) {
            ring.remove(place);
            if ring.is_empty() {
                self.sites.remove(site);
            }
        }
    }

    pub(super) fn site(&self, site: Option<&Site>) -> Option<&Ring> {
        self.sites.get(site?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(places: &[u64]) -> Ring {
        Ring(places.iter().copied().map(Place).collect())
    }

    #[test]
    fn those_that_follow_come_in_order_and_around() {
        let ring = ring(&[10, 20, 30]);
        let after = |place: u64| ring.after(Place(place)).map(|place| place.0).collect::<Vec<_>>();
        assert_eq!(after(15), [20, 30, 10]);
        assert_eq!(after(20), [30, 10], "not itself");
        assert_eq!(after(35), [10, 20, 30]);
    }

    #[test]
    fn the_reach_of_a_place_has_everybody_who_takes_it() {
        let everybody: Vec<u64> = (0..60).map(|number| number * 7 % 101).collect();
        for (size, most) in [(1, 1), (3, 1), (5, 2), (9, 4), (20, 3), (3, 8)] {
            let mut with = ring(&everybody[..size]);
            for place in [Place(everybody[0]), Place(3), Place(100)] {
                let known = with.0.contains(&place);
                with.insert(place);
                let all = ring(&everybody);
                let reach: BTreeSet<Place> =
                    all.within(with.reach(place, most)).into_iter().collect();
                for who in all.iter().filter(|who| *who != place) {
                    let takes = with.after(who).take(most).any(|taken| taken == place);
                    assert!(!takes || reach.contains(&who), "{size} {most} {place:?} {who:?}");
                }
                if size > 2 * most {
                    assert!(reach.len() < everybody.len(), "not everybody: {size} {most}");
                }
                if !known {
                    with.remove(place);
                }
            }
        }
    }

    #[test]
    fn a_place_is_a_digest_of_the_name() {
        let place = |name: &str| Place::of(&name.parse().unwrap());
        assert_eq!(place("pump-7"), place("pump-7"));
        assert_ne!(place("pump-7"), place("pump-8"));
    }
}
