//! Peers only where there is a need.
//!
//! A node needs every service that shares a network with one of its own, and every one whose ports it
//! forwards. For each it picks the nearest nodes that run it: those of its own site, then others, then
//! those that were given up; on the ring those that follow it, so that not everybody picks the same. Of a
//! service that it runs itself it picks fewer, for when its own instances are not ready.

use std::collections::BTreeSet;

use super::fabric::{Fabric, Node, Service};
use super::ring::{Crowd, Place, Site};
use super::{FALLBACK_PEERS, MAX_PEERS_PER_SERVICE};
use crate::plan::ServiceKey;

impl Fabric {
    /// The services that a node has to know: those it shares a network with, and those whose ports it
    /// forwards.
    pub(super) fn needs<'a>(&'a self, node: &'a Node) -> BTreeSet<&'a ServiceKey> {
        let networks = node.networks.iter().filter_map(|name| self.networks.get(name));
        let applications = node.applications.iter().filter_map(|name| self.applications.get(name));
        networks.chain(applications).flat_map(|members| &members.services).collect()
    }

    /// Chooses the peers of a node anew.
    pub(super) fn pick(&mut self, place: Place) {
        let Some(node) = self.nodes.get(&place) else { return };
        let mut picks = BTreeSet::new();
        if node.is_reachable() {
            for key in self.needs(node) {
                let Some(service) = self.services.get(key) else { continue };
                let most = match node.serves.contains(key) {
                    true => FALLBACK_PEERS,
                    false => MAX_PEERS_PER_SERVICE,
                };
                self.nearest(service, (place, node.site()), most, &mut picks);
            }
        }
        let dropped: Vec<Place> = node.picks.difference(&picks).copied().collect();
        let added: Vec<Place> = picks.difference(&node.picks).copied().collect();
        if let Some(node) = self.nodes.get_mut(&place) {
            node.picks = picks;
        }
        dropped.into_iter().for_each(|other| self.drop_pick(place, other));
        added.into_iter().for_each(|other| self.add_pick(place, other));
    }

    /// Adds the nearest nodes that run a service.
    fn nearest(
        &self,
        service: &Service,
        (place, site): (Place, Option<&Site>),
        most: usize,
        picks: &mut BTreeSet<Place>,
    ) {
        let mut left = most;
        let in_site = |other: &Place| {
            let other = self.nodes.get(other).and_then(Node::site);
            site.is_some() && other == site
        };
        let own = service.near.site(site).into_iter().flat_map(|ring| ring.after(place));
        // Of the own site all were taken if there is still something left.
        let others = service.near.all.after(place).filter(|other| !in_site(other));
        let lost = service.lost.after(place);
        for other in own.chain(others).chain(lost) {
            if left == 0 {
                break;
            }
            left -= 1;
            picks.insert(other);
        }
    }

    /// A node began or ceased to run a service: whoever may have picked it, or may pick it now, chooses
    /// anew.
    pub(super) fn mark_takers(
        &mut self,
        key: &ServiceKey,
        (place, site, is_lost): (Place, Option<&Site>, bool),
    ) {
        let Some(service) = self.services.get(key) else { return };
        let near = &service.near;
        let networks = service.sum.networks.keys().filter_map(|name| self.networks.get(name));
        let publishes = !service.sum.ingress.is_empty();
        let application = self.applications.get(&key.application).filter(|_| publishes);
        let crowds: Vec<&Crowd> =
            networks.chain(application).map(|members| &members.nodes).collect();
        let mut takers: Vec<Place> = vec![];
        if is_lost {
            // Who finds enough elsewhere does not come to these.
            if near.all.len() < MAX_PEERS_PER_SERVICE {
                takers.extend(crowds.iter().flat_map(|crowd| crowd.all.iter()));
            }
            self.to_pick.extend(takers);
            return;
        }
        if site.is_some() {
            let reach = near.site(site).and_then(|ring| ring.reach(place, MAX_PEERS_PER_SERVICE));
            let of_site = crowds.iter().filter_map(|crowd| crowd.site(site));
            takers.extend(of_site.flat_map(|ring| ring.within(reach)));
        }
        // Who looks beyond its site passes over fewer of its own than it looks for.
        let reach = near.all.reach(place, 2 * MAX_PEERS_PER_SERVICE);
        let looks_beyond = |other: &Place| {
            let site = self.nodes.get(other).and_then(Node::site);
            near.site(site).map_or(0, super::ring::Ring::len) < MAX_PEERS_PER_SERVICE
        };
        for crowd in crowds {
            takers.extend(crowd.all.within(reach).into_iter().filter(|other| looks_beyond(other)));
        }
        self.to_pick.extend(takers);
    }
}
