//! Networks in the world: what the fabric is told of it, and which addresses nodes have.
//!
//! In: what each node is to run, how nodes are reached. Out: each node's part of its assignment, and the
//! number in the pool that it keeps, in the store together with the first assignment that needs it.

use std::collections::{BTreeMap, BTreeSet};

use limpet_protocol::assignment::AssignedService;
use limpet_protocol::codec;
use limpet_protocol::id::NodeId;
use limpet_protocol::network::Subnet;
use limpet_protocol::spec::{PublishedPort, Spec};

use super::scaling::Granted;
use crate::auth;
use crate::control_loop::LoopError;
use crate::network::pool::{Pool, unique_local};
use crate::network::{Card, Facts, MeshCard, Run};
use crate::plan::{ServiceKey, Standing};
use crate::store::records::SubnetRecord;
use crate::store::{Key, Kind, Op, Store};
use crate::world::World;

/// The label that says where a node is: nodes with the same value are near each other.
pub(crate) const SITE: &str = "site";

/// The fleet's addresses: those that nodes have already, otherwise those that are configured.
pub(crate) fn pool(store: &Store, configured: (Subnet, u8)) -> Result<Pool, LoopError> {
    let v6 = unique_local(store.identity().cluster_id());
    let (_, given) = store.list(Kind::Subnet)?;
    let given = given.first().map(|(key, entry)| {
        codec::decode::<SubnetRecord>(&entry.value)
            .map_err(|source| LoopError::Record { key: key.clone(), source })
    });
    let given = given.transpose()?.map(|record| (record.pool, record.node_prefix));
    let (addresses, prefix) = given.unwrap_or(configured);
    if (addresses, prefix) != configured {
        tracing::warn!(
            %addresses, prefix,
            "nodes have addresses of this pool, so that the configured one is not used: remove the \
             nodes to change it"
        );
    }
    Pool::new(addresses, prefix, v6).map_err(LoopError::Pool)
}

impl World {
    /// The numbers that nodes have.
    pub(crate) fn restore_numbers(&mut self) -> Result<(), LoopError> {
        for (key, entry) in self.store.list(Kind::Subnet)?.1 {
            let record: SubnetRecord = codec::decode(&entry.value)
                .map_err(|source| LoopError::Record { key: key.clone(), source })?;
            let Key::Subnet(id) = &key else { continue };
            if !self.fleet.contains_key(id) {
                // It was removed, and the controller ended before its addresses were free.
                self.removed_nodes.insert(id.clone());
            } else if !self.numbers.restore(id, record.number) {
                tracing::error!(node = %id, "its addresses in the store are those of another node");
            }
            self.weave(id);
        }
        // Nodes were planned before it was known how much of the pool is left.
        self.look_at_numbers();
        Ok(())
    }

    /// Tells the fabric how a node is reached.
    pub(crate) fn weave(&mut self, id: &NodeId) {
        let card = self.card(id);
        self.fabric.set_card(id, card);
    }

    fn card(&self, id: &NodeId) -> Option<Card> {
        let number = self.numbers.get(id)?;
        let node = self.fleet.get(id)?;
        let mesh = node.record.mesh.as_ref().and_then(|mesh| {
            let key = auth::bytes_of_hex(&mesh.key)?.to_vec();
            Some(MeshCard { key, endpoints: mesh.endpoints.clone() })
        });
        let site = self.planner.node(id).and_then(|node| node.labels.get(SITE)).cloned();
        let site = site.filter(|site| !site.is_empty());
        Some(Card { number, site, mesh, lost: node.standing == Standing::Lost })
    }

    /// How many addresses for instances a node has, or would have.
    pub(crate) fn addresses(&self, id: &NodeId) -> usize {
        match self.numbers.get(id).is_some() || self.numbers.has_left() {
            true => self.fabric.pool().addresses(),
            false => 0,
        }
    }

    /// Tells the fabric what nodes are to run, gives addresses to those that need them, and has all nodes
    /// looked at whose network is another now. The shares are those of the nodes that were unsettled.
    pub(crate) fn weave_shares(&mut self) -> BTreeMap<NodeId, Vec<AssignedService>> {
        let (mut shares, mut granted) = (BTreeMap::new(), Granted::default());
        for id in self.unsettled.clone() {
            if self.fleet.contains_key(&id) {
                let share = self.share(&id, &mut granted);
                self.learn_specs(&share);
                let runs = self.runs(&id, &share);
                self.fabric.set_runs(&id, runs);
                shares.insert(id, share);
            }
        }
        let mut changed: BTreeSet<NodeId> = self.fabric.settle();
        // Who takes part from now on needs addresses, and so does who found none left before; with them
        // it may be somebody's peer.
        let waiting = match self.numbers.has_left() {
            true => std::mem::take(&mut self.unnumbered),
            false => BTreeSet::new(),
        };
        for id in changed.union(&waiting).cloned().collect::<Vec<_>>() {
            if self.numbers.get(&id).is_none() && self.fabric.takes_part(&id) {
                self.number(&id);
            }
        }
        changed.extend(self.fabric.settle());
        self.unsettled.extend(changed);
        shares
    }

    /// A node goes back to a spec that nobody had any more.
    fn learn_specs(&mut self, share: &[AssignedService]) {
        for part in share {
            if self.fabric.knows(&part.spec) {
                continue;
            }
            let bytes = self.dispatch.spec(part.spec);
            if let Some(spec) = bytes.and_then(|bytes| codec::decode::<Spec>(bytes).ok()) {
                self.fabric.learn(part.spec, Facts::of(&spec));
            }
        }
    }

    fn number(&mut self, id: &NodeId) {
        let Some(number) = self.numbers.take(id) else {
            tracing::error!(node = %id, pool = %self.fabric.pool().v4(), "no part of the pool is left");
            self.unnumbered.insert(id.clone());
            return self.look_at_numbers();
        };
        tracing::debug!(node = %id, number, "has a part of the pool from now on");
        self.unstored_numbers.insert(id.clone());
        self.stale_nodes.insert(id.clone());
        self.weave(id);
        self.look_at_numbers();
    }

    /// Whether there are parts left of the pool matters to all nodes that have none.
    pub(crate) fn look_at_numbers(&mut self) {
        if self.numbers.has_left() == self.had_numbers {
            return;
        }
        self.had_numbers = self.numbers.has_left();
        let without = self.fleet.keys().filter(|id| self.numbers.get(id).is_none());
        for id in without.cloned().collect::<Vec<_>>() {
            self.plan_node(&id);
        }
    }

    /// What a node runs, as others have to know it.
    fn runs(&self, id: &NodeId, share: &[AssignedService]) -> BTreeMap<ServiceKey, Run> {
        let mut runs: BTreeMap<ServiceKey, Run> = BTreeMap::new();
        for part in share {
            let (application, service) = (part.application.clone(), part.service.clone());
            let key = ServiceKey { application, service };
            let host_ports = self.host_ports(id, &key);
            let run = runs.entry(key).or_default();
            run.specs.insert(part.spec);
            run.host_ports = host_ports;
        }
        runs
    }

    /// The ports of a node that lead to the instances of a service there.
    fn host_ports(&self, id: &NodeId, key: &ServiceKey) -> Vec<PublishedPort> {
        let known = self.applications.get(&key.application);
        let service = known.and_then(|it| it.record.application.services.get(&key.service));
        let Some(service) = service else { return vec![] };
        let claims: Vec<&PublishedPort> =
            service.spec.ports.iter().filter(|port| port.host_mode).collect();
        let of_claim = |(claim, number): (usize, u16)| {
            let port = claims.get(claim).copied()?.clone();
            Some(PublishedPort { published: Some((number, number)), ..port })
        };
        self.planner.ports_on(key, id).into_iter().filter_map(of_claim).collect()
    }

    /// What the store has to be told of the numbers of these nodes.
    pub(crate) fn number_ops<'a>(&self, nodes: impl Iterator<Item = &'a NodeId>) -> Vec<Op> {
        let pool = self.fabric.pool();
        let unstored = nodes.filter(|id| self.unstored_numbers.contains(*id));
        let op = |id: &NodeId| {
            let number = self.numbers.get(id)?;
            let record = SubnetRecord { pool: pool.v4(), node_prefix: pool.node_prefix(), number };
            Some(Op::Put(Key::Subnet(id.clone()), codec::encode(&record).ok()?))
        };
        unstored.filter_map(op).collect()
    }
}
