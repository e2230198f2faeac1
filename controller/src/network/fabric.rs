//! The fabric: services, networks and nodes, and how they hang together.
//!
//! Every change notes whom it concerns: nodes whose peers have to be chosen anew (`to_pick`), and nodes
//! whose picture may be another (`stale`). [`Fabric::settle`] does the first and tells the second.

use std::collections::{BTreeMap, BTreeSet};

use limpet_protocol::id::{ApplicationName, NetworkName, NodeId, SpecHash};

use super::MAX_PEERS;
use super::card::Card;
use super::facts::{Facts, Run};
use super::links::Rank;
use super::pool::Pool;
use super::ring::{Crowd, Place, Ring, Site};
use crate::plan::ServiceKey;

/// A service, as far as others have to know it.
#[derive(Debug, Clone, Default)]
pub(super) struct Service {
    target: Option<SpecHash>,
    /// On how many nodes each of its specs is.
    in_use: BTreeMap<SpecHash, usize>,
    /// Ports and mode of the target, networks of all specs in use.
    pub(super) sum: Facts,
    /// The nodes that run it and can be reached.
    pub(super) near: Crowd,
    /// The same of nodes that were given up.
    pub(super) lost: Ring,
}

/// A network: who is in it.
#[derive(Debug, Clone, Default)]
pub(super) struct Members {
    pub(super) services: BTreeSet<ServiceKey>,
    pub(super) nodes: Crowd,
}

impl Members {
    fn is_empty(&self) -> bool {
        self.services.is_empty() && self.nodes.all.is_empty()
    }
}

/// A node.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) id: NodeId,
    pub(super) card: Option<Card>,
    pub(super) runs: BTreeMap<ServiceKey, Run>,
    /// Those of them that take part in a network.
    pub(super) serves: BTreeSet<ServiceKey>,
    /// The networks that its instances take part in.
    pub(super) networks: BTreeSet<NetworkName>,
    /// The applications of which it runs something.
    pub(super) applications: BTreeSet<ApplicationName>,
    /// The nodes that it would have as peers.
    pub(super) picks: BTreeSet<Place>,
    /// The nodes that would have it.
    pub(super) picked_by: BTreeSet<Place>,
    /// Both of them, the most wanted first.
    pub(super) links: BTreeSet<(Rank, Place)>,
}

impl Node {
    const fn new(id: NodeId) -> Self {
        Self {
            id,
            card: None,
            runs: BTreeMap::new(),
            serves: BTreeSet::new(),
            networks: BTreeSet::new(),
            applications: BTreeSet::new(),
            picks: BTreeSet::new(),
            picked_by: BTreeSet::new(),
            links: BTreeSet::new(),
        }
    }

    pub(super) fn site(&self) -> Option<&Site> {
        self.card.as_ref()?.site.as_ref()
    }

    /// Whether others can have it as a peer.
    pub(super) fn is_reachable(&self) -> bool {
        self.card.as_ref().is_some_and(|card| card.mesh.is_some())
    }

    fn is_lost(&self) -> bool {
        self.card.as_ref().is_some_and(|card| card.lost)
    }
}

/// See the module.
#[derive(Debug)]
pub struct Fabric {
    pub(super) pool: Pool,
    /// Peers of one node, at most.
    pub(super) most_peers: usize,
    /// What specs mean, and how often each is used.
    facts: BTreeMap<SpecHash, (Facts, usize)>,
    pub(super) services: BTreeMap<ServiceKey, Service>,
    pub(super) networks: BTreeMap<NetworkName, Members>,
    /// Who runs something of an application, and its services that publish ports on all of these.
    pub(super) applications: BTreeMap<ApplicationName, Members>,
    pub(super) nodes: BTreeMap<Place, Node>,
    pub(super) to_pick: BTreeSet<Place>,
    pub(super) stale: BTreeSet<Place>,
}

impl Fabric {
    /// Nothing is known yet.
    #[must_use]
    pub const fn new(pool: Pool) -> Self {
        Self {
            pool,
            most_peers: MAX_PEERS,
            facts: BTreeMap::new(),
            services: BTreeMap::new(),
            networks: BTreeMap::new(),
            applications: BTreeMap::new(),
            nodes: BTreeMap::new(),
            to_pick: BTreeSet::new(),
            stale: BTreeSet::new(),
        }
    }

    /// The addresses of the fleet.
    #[must_use]
    pub const fn pool(&self) -> &Pool {
        &self.pool
    }

    /// What a spec means, before anything has it.
    pub fn learn(&mut self, spec: SpecHash, facts: Facts) {
        self.facts.entry(spec).or_insert((facts, 0));
    }

    /// Whether it is known what a spec means.
    #[must_use]
    pub fn knows(&self, spec: &SpecHash) -> bool {
        self.facts.contains_key(spec)
    }

    /// A service is this from now on; none if nobody wants it any more.
    pub fn want(&mut self, key: &ServiceKey, spec: Option<SpecHash>) {
        let service = self.services.entry(key.clone()).or_default();
        let old = std::mem::replace(&mut service.target, spec);
        if old == spec {
            return self.tidy(key);
        }
        self.count(spec, old);
        self.sum_up(key);
    }

    /// A service whose spec has become another.
    fn count(
        &mut self,
        more: impl IntoIterator<Item = SpecHash>,
        less: impl IntoIterator<Item = SpecHash>,
    ) {
        for spec in more {
            if let Some((_, uses)) = self.facts.get_mut(&spec) {
                *uses += 1;
            }
        }
        for spec in less {
            if let Some((_, uses)) = self.facts.get_mut(&spec) {
                *uses = uses.saturating_sub(1);
            }
        }
    }

    /// Looks what a service is now, and whom that concerns.
    fn sum_up(&mut self, key: &ServiceKey) {
        let Some(service) = self.services.get(key) else { return };
        let facts = |spec: &SpecHash| self.facts.get(spec).map(|(facts, _)| facts);
        let mut sum = service.target.as_ref().and_then(facts).cloned().unwrap_or_default();
        for facts in service.in_use.keys().filter_map(facts) {
            sum.add_networks(facts);
        }
        if sum == service.sum {
            return self.tidy(key);
        }
        let old = service.sum.clone();
        let networks = |facts: &Facts| facts.networks.keys().cloned().collect::<BTreeSet<_>>();
        let (left, entered) = (networks(&old), networks(&sum));
        let publishes = [!old.ingress.is_empty(), !sum.ingress.is_empty()];
        let mut concerned: BTreeSet<Place> = BTreeSet::new();
        for network in left.union(&entered) {
            let members = self.networks.entry(network.clone()).or_default();
            concerned.extend(members.nodes.all.iter());
            if entered.contains(network) {
                members.services.insert(key.clone());
            } else {
                members.services.remove(key);
            }
        }
        if publishes.contains(&true) {
            let members = self.applications.entry(key.application.clone()).or_default();
            concerned.extend(members.nodes.all.iter());
            if publishes[1] {
                members.services.insert(key.clone());
            } else {
                members.services.remove(key);
            }
            self.tidy_application(&key.application);
        }
        if left != entered || publishes[0] != publishes[1] {
            self.to_pick.extend(concerned.iter());
        }
        self.stale.extend(concerned);
        if let Some(service) = self.services.get_mut(key) {
            service.sum = sum;
        }
        left.iter().for_each(|network| self.tidy_network(network));
        self.tidy(key);
    }

    /// Forgets a service of which there is nothing.
    fn tidy(&mut self, key: &ServiceKey) {
        let nothing = |service: &Service| {
            service.target.is_none()
                && service.in_use.is_empty()
                && service.near.all.is_empty()
                && service.lost.is_empty()
        };
        if self.services.get(key).is_some_and(nothing) {
            self.services.remove(key);
        }
    }

    fn tidy_network(&mut self, network: &NetworkName) {
        if self.networks.get(network).is_some_and(Members::is_empty) {
            self.networks.remove(network);
        }
    }

    fn tidy_application(&mut self, application: &ApplicationName) {
        if self.applications.get(application).is_some_and(Members::is_empty) {
            self.applications.remove(application);
        }
    }

    /// All that runs on a node.
    pub fn set_runs(&mut self, id: &NodeId, runs: BTreeMap<ServiceKey, Run>) {
        let place = self.place(id);
        let Some(node) = self.nodes.get_mut(&place) else { return };
        if node.runs == runs {
            return;
        }
        self.stale.insert(place);
        let old = std::mem::replace(&mut node.runs, runs.clone());
        let keys: BTreeSet<&ServiceKey> = old.keys().chain(runs.keys()).collect();
        for key in keys {
            let specs = |runs: &BTreeMap<ServiceKey, Run>| {
                runs.get(key).map(|run| run.specs.clone()).unwrap_or_default()
            };
            self.recount(key, (&specs(&old), &specs(&runs)));
        }
        self.serve(place);
        self.enter(place);
    }

    /// Looks which services of a node take part in networks now.
    fn serve(&mut self, place: Place) {
        let Some(node) = self.nodes.get_mut(&place) else { return };
        let is_networked = |run: &Run| {
            let mut facts = run.specs.iter().filter_map(|spec| self.facts.get(spec));
            facts.any(|(facts, _)| !facts.is_nothing())
        };
        let serves: BTreeSet<ServiceKey> = node
            .runs
            .iter()
            .filter(|(_, run)| is_networked(run))
            .map(|(key, _)| key.clone())
            .collect();
        let old = std::mem::replace(&mut node.serves, serves.clone());
        if old == serves {
            return;
        }
        for key in old.symmetric_difference(&serves) {
            self.to_pick.insert(place);
            self.seat(key, place, serves.contains(key));
        }
    }

    /// A node has other specs of a service.
    fn recount(
        &mut self,
        key: &ServiceKey,
        (old, new): (&BTreeSet<SpecHash>, &BTreeSet<SpecHash>),
    ) {
        if old == new {
            return;
        }
        self.count(new.difference(old).copied(), old.difference(new).copied());
        let service = self.services.entry(key.clone()).or_default();
        for spec in new.difference(old) {
            *service.in_use.entry(*spec).or_default() += 1;
        }
        for spec in old.difference(new) {
            if let Some(count) = service.in_use.get_mut(spec) {
                *count -= 1;
                if *count == 0 {
                    service.in_use.remove(spec);
                }
            }
        }
        self.sum_up(key);
    }

    /// A service begins to run on a node, or runs there no more.
    fn seat(&mut self, key: &ServiceKey, place: Place, sits: bool) {
        let Some(node) = self.nodes.get(&place) else { return };
        if !node.is_reachable() {
            return;
        }
        let (site, is_lost) = (node.site().cloned(), node.is_lost());
        let service = self.services.entry(key.clone()).or_default();
        match (is_lost, sits) {
            (true, true) => drop(service.lost.insert(place)),
            (true, false) => drop(service.lost.remove(place)),
            (false, true) => service.near.insert(place, site.as_ref()),
            (false, false) => service.near.remove(place, site.as_ref()),
        }
        self.mark_takers(key, (place, site.as_ref(), is_lost));
        self.tidy(key);
    }

    /// Looks in which networks and applications a node takes part now.
    fn enter(&mut self, place: Place) {
        let Some(node) = self.nodes.get_mut(&place) else { return };
        let site = node.site().cloned();
        let specs = node.runs.values().flat_map(|run| &run.specs);
        let facts = specs.filter_map(|spec| self.facts.get(spec));
        let networks: BTreeSet<NetworkName> =
            facts.flat_map(|(facts, _)| facts.networks.keys()).cloned().collect();
        let applications: BTreeSet<ApplicationName> =
            node.runs.keys().map(|key| key.application.clone()).collect();
        let left = std::mem::replace(&mut node.networks, networks.clone());
        let quit = std::mem::replace(&mut node.applications, applications.clone());
        if left == networks && quit == applications {
            return;
        }
        self.to_pick.insert(place);
        let partners: Vec<Place> = node.links.iter().map(|(_, partner)| *partner).collect();
        // A partner sees of it the networks that they have in common.
        let changed: Vec<&NetworkName> = left.symmetric_difference(&networks).collect();
        let sees = |partner: &Place| {
            let partner = self.nodes.get(partner);
            partner.is_some_and(|it| changed.iter().any(|network| it.networks.contains(*network)))
        };
        self.stale.extend(partners.into_iter().filter(sees));
        for network in networks.difference(&left) {
            let members = self.networks.entry(network.clone()).or_default();
            members.nodes.insert(place, site.as_ref());
        }
        for network in left.difference(&networks) {
            if let Some(members) = self.networks.get_mut(network) {
                members.nodes.remove(place, site.as_ref());
            }
            self.tidy_network(network);
        }
        for application in applications.difference(&quit) {
            let members = self.applications.entry(application.clone()).or_default();
            members.nodes.insert(place, site.as_ref());
        }
        for application in quit.difference(&applications) {
            if let Some(members) = self.applications.get_mut(application) {
                members.nodes.remove(place, site.as_ref());
            }
            self.tidy_application(application);
        }
    }

    /// How a node is reached now; none if it takes no part.
    pub fn set_card(&mut self, id: &NodeId, card: Option<Card>) {
        let place = self.place(id);
        let Some(node) = self.nodes.get_mut(&place) else { return };
        if node.card == card {
            return;
        }
        self.stale.insert(place);
        self.stale.extend(node.links.iter().map(|(_, partner)| *partner));
        let stand = |card: &Option<Card>| {
            let card = card.as_ref();
            let mesh = card.is_some_and(|card| card.mesh.is_some());
            (mesh, card.is_some_and(|card| card.lost), card.and_then(|card| card.site.clone()))
        };
        if stand(&node.card) == stand(&card) {
            node.card = card;
            return;
        }
        let keys = node.serves.clone();
        keys.iter().for_each(|key| self.seat(key, place, false));
        self.stand_in_crowds(place, false);
        self.set_links(place, false);
        if let Some(node) = self.nodes.get_mut(&place) {
            node.card = card;
        }
        self.set_links(place, true);
        self.stand_in_crowds(place, true);
        keys.iter().for_each(|key| self.seat(key, place, true));
        self.to_pick.insert(place);
    }

    /// Takes a node out of all crowds, or puts it back with what its card says.
    fn stand_in_crowds(&mut self, place: Place, stands: bool) {
        let Some(node) = self.nodes.get(&place) else { return };
        let site = node.site();
        let networks = &mut self.networks;
        for network in &node.networks {
            let Some(members) = networks.get_mut(network) else { continue };
            set(&mut members.nodes, (place, site), stands);
        }
        for application in &node.applications {
            let Some(members) = self.applications.get_mut(application) else { continue };
            set(&mut members.nodes, (place, site), stands);
        }
    }

    /// A node is no more.
    pub fn remove(&mut self, id: &NodeId) {
        let place = self.place(id);
        self.set_runs(id, BTreeMap::new());
        self.set_card(id, None);
        self.pick_all();
        self.nodes.remove(&place);
        self.stale.remove(&place);
    }

    /// Chooses peers where something changed; the nodes whose picture may be another since the last call.
    pub fn settle(&mut self) -> BTreeSet<NodeId> {
        self.pick_all();
        self.facts.retain(|_, (_, uses)| *uses > 0);
        let stale = std::mem::take(&mut self.stale);
        stale.iter().filter_map(|place| Some(self.nodes.get(place)?.id.clone())).collect()
    }

    fn pick_all(&mut self) {
        while let Some(place) = self.to_pick.pop_first() {
            self.pick(place);
        }
    }

    /// The place of a node, which it gets if it has none.
    fn place(&mut self, id: &NodeId) -> Place {
        let mut place = Place::of(id);
        // Two names with one digest: as unlikely as it is, each has a place of its own.
        while let Some(other) = self.nodes.get(&place) {
            if other.id == *id {
                return place;
            }
            place = place.next();
        }
        self.nodes.insert(place, Node::new(id.clone()));
        place
    }

    /// The node of a name, if it is known.
    pub(super) fn find(&self, id: &NodeId) -> Option<(Place, &Node)> {
        let mut place = Place::of(id);
        loop {
            let node = self.nodes.get(&place)?;
            if node.id == *id {
                return Some((place, node));
            }
            place = place.next();
        }
    }
}

fn set(crowd: &mut Crowd, (place, site): (Place, Option<&Site>), stands: bool) {
    if stands {
        crowd.insert(place, site);
    } else {
        crowd.remove(place, site);
    }
}
