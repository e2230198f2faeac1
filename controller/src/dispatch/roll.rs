//! Rollouts in the world: what they see of it, and what of them is kept.
//!
//! In: the nodes on which something was placed anew, and what nodes say. Out: nodes whose share is
//! another, events, and the records of rollouts in the store.

use std::collections::BTreeSet;

use limpet_protocol::codec;
use limpet_protocol::id::{ApplicationName, InstanceId, NodeId, ServiceName, Slot};

use crate::plan::{ServiceKey, Standing};
use crate::rollout::{Order, Seen, Unit, UnitStatus, named_by};
use crate::store::{CommitError, Key, MAX_OPS, MAX_VALUE_BYTES, Op, StoreError, Transaction};
use crate::world::{OrderAnswer, World};

impl World {
    /// Takes the next steps of all rollouts, after a plan that changed these nodes.
    pub(crate) fn roll(&mut self, changed: &BTreeSet<NodeId>) {
        self.roll_placed(changed);
        for key in self.rollouts.take_ungathered() {
            self.rollouts.gather(&key, self.planner.places(&key));
            let places: Vec<(NodeId, Slot)> =
                self.planner.places(&key).map(|(node, slot)| (node.clone(), slot)).collect();
            for (node, slot) in places {
                self.look_at_slot(&key, &node, slot);
            }
        }
        // Nobody can be told anything, and nobody can say anything.
        if !self.bus.is_up() {
            return;
        }
        let effects = self.rollouts.step(self.now_ms, self.wall_ms);
        self.unsettled.extend(effects.nodes);
        self.begin_anew(effects.begun);
        for key in &effects.services {
            self.dispatch.pin_spec(key, self.rollouts.stable(key));
        }
        self.stale_services.extend(effects.services);
        for (kind, text) in effects.news {
            tracing::info!(kind, "{text}");
            self.happened(None, kind, text);
        }
        for application in effects.save {
            let op = self.rollout_op(application);
            self.unsaved.extend(op);
        }
    }

    /// What was over with the spec that it had is not with the one that it is to run.
    fn begin_anew(&mut self, begun: Vec<(ServiceKey, Unit)>) {
        let mut any = false;
        for (key, unit) in begun {
            let slot = unit.slot();
            let node = match unit {
                Unit::Node(node) => Some(node),
                Unit::Slot(slot) => self.planner.meant(&key, slot).cloned(),
            };
            any |= node.is_some_and(|node| self.planner.begins_anew(&key, &node, slot));
        }
        if any {
            // It takes room again, which may not be there any more.
            let changes = self.planner.plan();
            self.roll_placed(&changes.nodes);
            self.stale_services.extend(changes.services);
            self.unsettled.extend(changes.nodes);
        }
    }

    fn roll_placed(&mut self, changed: &BTreeSet<NodeId>) {
        let live: Vec<ServiceKey> = self.rollouts.live().cloned().collect();
        for key in live.iter().filter(|_| !changed.is_empty()) {
            self.rollouts.placed(key, changed, &self.planner);
            for node in changed {
                for slot in self.planner.slots_on(key, node) {
                    self.look_at_slot(key, node, slot);
                }
            }
        }
    }

    /// Shows a slot to the rollout of its service, if there is one. One that moves is where it goes:
    /// the node that gives it has nothing to say any more.
    pub(crate) fn look_at_slot(&mut self, key: &ServiceKey, id: &NodeId, slot: Slot) {
        if !self.rollouts.is_live(key) || !self.planner.is_meant(key, id, slot) {
            return;
        }
        let Some(node) = self.fleet.get(id) else { return };
        let instance =
            InstanceId { application: key.application.clone(), service: key.service.clone(), slot };
        let Some((goal, waves)) = self.rollouts.goal(key) else { return };
        let status = if node.is_idle(key, slot) {
            // Nothing has to become of it: it is of the new spec when the load asks for it.
            let has = self.rollouts.spec_of(key, id, slot).map_or(goal, |(spec, _)| spec);
            Some(UnitStatus { spec: has, up: true, failed: None })
        } else {
            node.instances.get(&instance).map(UnitStatus::of)
        };
        let seen = Seen {
            node: Some(id.clone()),
            reachable: node.standing == Standing::Ready,
            status,
            staged: !node.record.facts.stages || node.staged.contains(&goal),
            no_image: node.no_image.get(&goal).cloned(),
            waves: self.planner.node(id).map_or(0, |known| named_by(waves, id, known)),
        };
        self.rollouts.look(self.now_ms, key, slot, &seen);
    }

    /// Shows everything on a node to the rollouts that go on there.
    pub(crate) fn look_at_node(&mut self, id: &NodeId) {
        let live: Vec<ServiceKey> = self
            .planner
            .services_on(id)
            .filter(|key| self.rollouts.is_live(key))
            .cloned()
            .collect();
        for key in live {
            for slot in self.planner.slots_on(&key, id) {
                self.look_at_slot(&key, id, slot);
            }
        }
    }

    /// A person pauses or resumes; answered when it is on disk.
    pub(crate) fn order_rollout(
        &mut self,
        application: &ApplicationName,
        service: Option<&ServiceName>,
        order: Order,
    ) -> Result<Vec<String>, String> {
        let Some(known) = self.applications.get(application) else {
            return Err(format!("there is no application {application}"));
        };
        let services: Vec<ServiceName> = match service {
            Some(service) => vec![service.clone()],
            None => known.services().cloned().collect(),
        };
        let (mut done, mut refused) = (vec![], vec![]);
        for service in services {
            let key = ServiceKey { application: application.clone(), service };
            match self.rollouts.obey(&key, order, self.planner.places(&key)) {
                Ok(()) => done.push(key.service.to_string()),
                Err(why) => refused.push(why),
            }
        }
        if done.is_empty() { Err(refused.join("; ")) } else { Ok(done) }
    }

    /// What the store has to be told of the rollouts of an application.
    fn rollout_op(&self, application: ApplicationName) -> Option<Op> {
        let records = self.rollouts.records(&application);
        if records.is_empty() {
            return Some(Op::Delete(Key::Rollout(application)));
        }
        match codec::encode_within(&records, MAX_VALUE_BYTES) {
            Ok(value) => Some(Op::Put(Key::Rollout(application), value)),
            Err(error) => {
                tracing::error!(%application, %error, "how far its rollouts are cannot be kept");
                None
            }
        }
    }

    /// Keeps what no assignment took with it, and answers who waits for it.
    pub(crate) async fn settle_rollouts(&mut self) -> Result<(), StoreError> {
        let unneeded = self.dispatch.take_unneeded_specs();
        self.unsaved.extend(unneeded.iter().map(|hash| Op::Delete(Key::Spec(hash.to_string()))));
        while !self.unsaved.is_empty() {
            let room = self.unsaved.len().min(MAX_OPS);
            let ops = self.unsaved.drain(..room).collect();
            match self.store.commit(Transaction { ops, ..Transaction::default() }).await {
                Ok(_) => {}
                Err(CommitError::Store(error)) => return Err(error),
                Err(error) => tracing::error!(%error, "rollouts cannot be kept"),
            }
        }
        for OrderAnswer { answer, result } in std::mem::take(&mut self.answers) {
            // Who asked may be gone.
            drop(answer.send(result));
        }
        Ok(())
    }
}
