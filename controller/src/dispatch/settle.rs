//! Settling: after every change, what shall be becomes what is said.
//!
//! plan ▶ roll out ▶ commit the changed assignments ▶ publish them ▶ keep events ▶ acknowledge them.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use limpet_protocol::assignment::{AssignedService, Assignment};
use limpet_protocol::codec;
use limpet_protocol::id::{NodeId, SpecHash};

use super::scaling::Granted;
use crate::store::{CommitError, Compare, Key, MAX_OPS, Op, StoreError, Transaction};
use crate::world::World;

/// Nodes whose assignments are kept in one transaction: it has room for their numbers, and for as much
/// else.
const MAX_NODES: usize = MAX_OPS / 4;

impl World {
    /// Brings the store and the broker to what is wanted now.
    ///
    /// # Errors
    /// [`StoreError`] if the store failed: nothing was published that is not in it.
    pub(crate) async fn settle(&mut self) -> Result<(), StoreError> {
        self.advance_moves();
        self.advance_leaving();
        self.decide();
        let mut shares = self.weave_shares();
        if self.planner.is_dirty() {
            // The pool was used up on the way: who found nothing left goes elsewhere before it is told.
            self.decide();
            shares.extend(self.weave_shares());
        }
        self.settle_removed().await?;
        self.settle_progress().await?;
        self.settle_assignments(shares).await?;
        self.settle_rollouts().await?;
        self.settle_facts().await?;
        self.settle_events().await
    }

    /// Plans and rolls out; notes whom that concerns.
    fn decide(&mut self) {
        let changes = self.planner.plan();
        let reported = std::mem::take(&mut self.reported);
        for key in reported.union(&changes.services) {
            self.judge(key, changes.services.contains(key));
        }
        self.decide_totals();
        self.stale_services.extend(changes.services);
        self.stale_nodes.extend(changes.nodes.iter().cloned());
        self.roll(&changes.nodes);
        self.unsettled.extend(changes.nodes);
    }

    async fn settle_removed(&mut self) -> Result<(), StoreError> {
        let removed = std::mem::take(&mut self.removed_nodes);
        let gone = removed.into_iter().filter(|id| !self.fleet.contains_key(id));
        let gone: Vec<NodeId> = gone.collect();
        let both =
            |id: &NodeId| [Key::Assignment(id.clone()), Key::Subnet(id.clone())].map(Op::Delete);
        let ops: Vec<Op> = gone.iter().flat_map(both).collect();
        if ops.is_empty() {
            return Ok(());
        }
        match self.store.commit(Transaction { ops, ..Transaction::default() }).await {
            Err(CommitError::Store(error)) => return Err(error),
            Err(error) => tracing::error!(%error, "assignments of removed nodes stay"),
            Ok(_) => {}
        }
        Ok(())
    }

    /// Keeps how far the services have come, before any node is told of it.
    async fn settle_progress(&mut self) -> Result<(), StoreError> {
        let changed = self.planner.progress_mut().take_changed();
        for changed in changed.chunks(MAX_OPS) {
            let mut transaction = Transaction::default();
            for (application, record) in changed {
                let key = Key::Progress(application.clone());
                match record.as_ref().map(codec::encode) {
                    None => transaction.ops.push(Op::Delete(key)),
                    Some(Ok(value)) => transaction.ops.push(Op::Put(key, value)),
                    Some(Err(error)) => {
                        tracing::error!(%application, %error, "its progress cannot be kept");
                    }
                }
            }
            match self.store.commit(transaction).await {
                Err(CommitError::Store(error)) => return Err(error),
                Err(error) => tracing::error!(%error, "progress cannot be kept"),
                Ok(_) => {}
            }
        }
        Ok(())
    }

    async fn settle_assignments(
        &mut self,
        mut shares: BTreeMap<NodeId, Vec<AssignedService>>,
    ) -> Result<(), StoreError> {
        let mut granted = Granted::default();
        while !self.unsettled.is_empty() {
            let nodes: BTreeSet<NodeId> = self.unsettled.iter().take(MAX_NODES).cloned().collect();
            self.unsettled.retain(|node| !nodes.contains(node));
            let next = nodes.iter().filter_map(|node| {
                let observed = self.fleet.get(node)?.observed;
                let share = shares.remove(node).unwrap_or_else(|| self.share(node, &mut granted));
                self.dispatch.next(node, (share, self.fabric.picture(node)), observed)
            });
            let next: Vec<Assignment> = next.collect();
            if next.is_empty() {
                continue;
            }
            let specs = self.dispatch.unstored_specs(&next);
            let ops = self.number_ops(next.iter().map(|assignment| &assignment.node));
            let mut transaction = Transaction { ops, ..Transaction::default() };
            // What the rollouts remember belongs to what they decided, as far as there is room.
            let room = self.unsaved.len().min(MAX_NODES / 2);
            transaction.ops.extend(self.unsaved.drain(..room));
            let put = |(hash, bytes): (&SpecHash, &Bytes)| {
                Op::Put(Key::Spec(hash.to_string()), bytes.to_vec())
            };
            transaction.ops.extend(specs.iter().take(MAX_NODES / 2).map(put));
            for assignment in &next {
                match codec::encode(assignment) {
                    Ok(value) => {
                        let key = Key::Assignment(assignment.node.clone());
                        transaction.ops.push(Op::Put(key, value));
                    }
                    Err(error) => {
                        tracing::error!(node = %assignment.node, %error, "an assignment cannot be kept");
                    }
                }
            }
            match self.store.commit(transaction).await {
                Ok(_) => {}
                Err(CommitError::Store(error)) => return Err(error),
                Err(error) => {
                    tracing::error!(%error, "assignments cannot be kept");
                    continue;
                }
            }
            self.dispatch.stored_specs(specs.into_keys().take(MAX_NODES / 2));
            for assignment in next {
                self.unstored_numbers.remove(&assignment.node);
                self.stale_nodes.insert(assignment.node.clone());
                self.dispatch.publish(self.now_ms, assignment);
            }
        }
        Ok(())
    }

    /// Keeps what nodes newly said of themselves, so that a controller that starts again plans
    /// with it before they are heard.
    async fn settle_facts(&mut self) -> Result<(), StoreError> {
        for id in std::mem::take(&mut self.changed_facts) {
            let Some(node) = self.fleet.get(&id) else { continue };
            let Ok(value) = codec::encode(&node.record) else { continue };
            let key = Key::Node(id.clone());
            let transaction = Transaction {
                compare: vec![Compare { key: key.clone(), modified: Some(node.modified) }],
                if_revision: None,
                ops: vec![Op::Put(key, value)],
            };
            match self.store.commit(transaction).await {
                Ok(revision) => {
                    if let Some(node) = self.fleet.get_mut(&id) {
                        node.modified = revision;
                    }
                }
                Err(CommitError::Store(error)) => return Err(error),
                // Somebody changed the node in between; the watch brings it, and then again.
                Err(error) => tracing::debug!(node = %id, %error, "facts are kept later"),
            }
        }
        Ok(())
    }

    async fn settle_events(&mut self) -> Result<(), StoreError> {
        let events = std::mem::take(&mut self.events);
        if !events.is_empty() {
            match self.store.append_events(events).await {
                Ok(_) => {}
                Err(StoreError::Event) => tracing::error!("events are too large to be kept"),
                Err(error) => return Err(error),
            }
        }
        for (node, cursor) in std::mem::take(&mut self.acks) {
            self.acknowledge(&node, cursor);
        }
        Ok(())
    }
}
