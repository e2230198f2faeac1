//! What the control loop knows, and how the store's truth comes into it.
//!
//! In: the store's records, at the start and as they change. Out: the same in the shapes that
//! planning, dispatching and showing need. Messages come in through `observe::hear`, results go out
//! through `dispatch::settle`.

use std::collections::{BTreeMap, BTreeSet};

use limpet_protocol::application::Application;
use limpet_protocol::codec;
use limpet_protocol::event::Cursor;
use limpet_protocol::id::{ApplicationName, NodeId, ServiceName, SpecHash};
use limpet_protocol::spec::Spec;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::auth;
use crate::control_loop::{LoopError, Request, View};
use crate::dispatch::bus::Bus;
use crate::dispatch::calls::{Calls, Opening};
use crate::dispatch::joins::Joins;
use crate::dispatch::leaving::Leaving;
use crate::dispatch::{Dispatch, want};
use crate::network::numbers::Numbers;
use crate::network::{Fabric, Facts};
use crate::observe::node::ObservedNode;
use crate::observe::node_view::Told;
use crate::observe::noise::Noise;
use crate::observe::view::{Gallery, Shown, Sources};
use crate::plan::{Planner, ServiceKey, Standing, joins};
use crate::rollout::{Aim, Rollouts, dependencies_first, following};
use crate::scale::{Totals, of_fleet};
use crate::store::records::{
    ApplicationRecord, AssignmentRecord, Availability, EventRecord, NodeRecord, RolloutRecords,
};
use crate::store::{Change, Entry, Key, Kind, MAX_VALUE_BYTES, Op, Revision, Store};

/// An application and the specs of its services; none where one is too large for a node.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) record: ApplicationRecord,
    pub(crate) specs: BTreeMap<ServiceName, Option<SpecHash>>,
}

impl Known {
    /// The names of its services.
    pub(crate) fn services(&self) -> impl Iterator<Item = &ServiceName> {
        self.specs.keys()
    }
}

/// What a person asked of rollouts, and what is answered when it is on disk.
pub(crate) struct OrderAnswer {
    pub(crate) answer: oneshot::Sender<Result<Vec<String>, String>>,
    pub(crate) result: Result<Vec<String>, String>,
}

/// Everything the loop knows. Belongs to the loop, is not locked.
pub(crate) struct World {
    pub(crate) store: Store,
    pub(crate) bus: Bus,
    pub(crate) planner: Planner,
    pub(crate) rollouts: Rollouts,
    /// How many instances the load asks for over the fleet.
    pub(crate) totals: Totals,
    pub(crate) dispatch: Dispatch,
    /// How services and nodes hang together by networks.
    pub(crate) fabric: Fabric,
    /// Which part of the fleet's addresses each node has, those that the store does not know yet, and
    /// whether there was any left when the nodes were last looked at.
    pub(crate) numbers: Numbers,
    pub(crate) unstored_numbers: BTreeSet<NodeId>,
    /// Nodes that need a part and found none left.
    pub(crate) unnumbered: BTreeSet<NodeId>,
    pub(crate) had_numbers: bool,
    pub(crate) joins: Joins,
    pub(crate) calls: Calls,
    pub(crate) applications: BTreeMap<ApplicationName, Known>,
    /// Those that stop in the order of their dependencies.
    pub(crate) leaving: BTreeMap<ApplicationName, Leaving>,
    pub(crate) fleet: BTreeMap<NodeId, ObservedNode>,
    pub(crate) noise: Noise,
    pub(crate) lost_after_ms: u64,
    /// When silent nodes are given up.
    pub(crate) lost_at: BTreeSet<(u64, NodeId)>,
    /// Up to where the store's changes are known, and the newest revision that was shown.
    pub(crate) revision: Revision,
    pub(crate) shown: Option<Revision>,
    /// The time of the input at hand, by a steady clock and by the wall's.
    pub(crate) now_ms: u64,
    pub(crate) wall_ms: u64,
    /// Nodes whose assignment may have to be another.
    pub(crate) unsettled: BTreeSet<NodeId>,
    /// Nodes whose assignment has to leave the store.
    pub(crate) removed_nodes: BTreeSet<NodeId>,
    /// Nodes of which the store knows older facts.
    pub(crate) changed_facts: BTreeSet<NodeId>,
    /// Services of which nodes have reported something new.
    pub(crate) reported: BTreeSet<ServiceKey>,
    /// What the store has to be told of rollouts and specs, and who waits until it is.
    pub(crate) unsaved: Vec<Op>,
    pub(crate) answers: Vec<OrderAnswer>,
    /// Events that are not in the store yet, and what to acknowledge when they are.
    pub(crate) events: Vec<EventRecord>,
    pub(crate) acks: BTreeMap<NodeId, Cursor>,
    /// What the views show wrongly by now.
    pub(crate) stale_services: BTreeSet<ServiceKey>,
    pub(crate) stale_nodes: BTreeSet<NodeId>,
    pub(crate) gallery: Gallery,
}

impl World {
    /// Reads everything from the store; gives the revision after which changes are to be watched.
    pub(crate) fn restore(&mut self) -> Result<Revision, LoopError> {
        let (first, applications) = self.store.list(Kind::Application)?;
        let (_, nodes) = self.store.list(Kind::Node)?;
        let (_, assignments) = self.store.list(Kind::Assignment)?;
        for (key, entry) in self.store.list(Kind::Progress)?.1 {
            let Key::Progress(application) = &key else { continue };
            self.planner.progress_mut().restore(application, read(&key, &entry.value)?);
        }
        let mut there = BTreeSet::new();
        for (key, entry) in applications.into_iter().chain(nodes) {
            there.insert(key.clone());
            self.put(&key, &entry)?;
        }
        let gone_applications = self.applications.keys().cloned().map(Key::Application);
        let gone: Vec<Key> = gone_applications
            .chain(self.fleet.keys().cloned().map(Key::Node))
            .filter(|key| !there.contains(key))
            .collect();
        gone.iter().for_each(|key| self.remove(key));
        self.planner.forget_unwanted();
        // The loop itself is the only writer of these: what it knows already is newer.
        let begins = self.revision == Revision::default();
        if begins {
            self.restore_rollouts()?;
            self.restore_numbers()?;
        }
        let mut restored = BTreeSet::new();
        for (key, entry) in assignments {
            let assignment: AssignmentRecord = read(&key, &entry.value)?;
            if self.fleet.contains_key(&assignment.node)
                && self.dispatch.wanted(&assignment.node).is_none()
            {
                self.planner.restore(&assignment);
                restored.insert(assignment.node.clone());
                self.dispatch.publish(self.now_ms, assignment);
            }
        }
        restored.iter().for_each(|id| self.restore_units(id));
        if begins {
            self.restore_totals();
        }
        self.unsettled.extend(restored);
        if begins {
            self.dispatch.sweep_specs();
        }
        self.revision = first;
        Ok(first)
    }

    /// What an earlier life of the controller knew of specs and rollouts.
    fn restore_rollouts(&mut self) -> Result<(), LoopError> {
        for (key, entry) in self.store.list(Kind::Spec)?.1 {
            let hash = key.name().parse::<SpecHash>();
            let spec = codec::decode::<Spec>(&entry.value);
            let (Ok(hash), Ok(spec)) = (hash, spec) else {
                tracing::error!(%key, "a spec in the store cannot be read");
                continue;
            };
            self.fabric.learn(hash, Facts::of(&spec));
            self.dispatch.restore_spec(hash, &spec, entry.value.into());
        }
        for (key, entry) in self.store.list(Kind::Rollout)?.1 {
            let records: RolloutRecords = read(&key, &entry.value)?;
            if let Key::Rollout(application) = &key {
                for (service, record) in &records {
                    let (application, service) = (application.clone(), service.clone());
                    let key = ServiceKey { application, service };
                    self.dispatch.pin_spec(&key, Some(record.stable));
                }
                self.rollouts.restore(application, records);
            }
        }
        Ok(())
    }

    /// What a node was told last says which spec its slots have, where they are not on their way.
    fn restore_units(&mut self, id: &NodeId) {
        let Some(assignment) = self.dispatch.wanted(id) else { return };
        for share in &assignment.services {
            let (application, service) = (share.application.clone(), share.service.clone());
            let key = ServiceKey { application, service };
            for slot in share.slots.iter().filter(|slot| self.planner.is_meant(&key, id, **slot)) {
                self.rollouts.restore_unit(&key, id, *slot, share.spec);
            }
        }
    }

    /// A change of the store.
    pub(crate) fn change(&mut self, change: Change) -> Result<(), LoopError> {
        let Change { revision, key, value } = change;
        self.revision = revision;
        match value {
            Some(value) => {
                let entry = Entry { value, created: revision, modified: revision, version: 1 };
                self.put(&key, &entry)
            }
            None => {
                self.remove(&key);
                Ok(())
            }
        }
    }

    pub(crate) fn put(&mut self, key: &Key, entry: &Entry) -> Result<(), LoopError> {
        match key {
            Key::Application(_) => {
                let record: ApplicationRecord = read(key, &entry.value)?;
                // It may have been removed and be on its way out.
                self.leaving.remove(&record.application.name);
                self.put_application(record);
            }
            Key::Node(_) => self.put_node(read(key, &entry.value)?, entry.modified),
            // The loop itself is the only writer of assignments and progress; the others are looked
            // up when they are needed.
            _ => {}
        }
        Ok(())
    }

    pub(crate) fn put_application(&mut self, record: ApplicationRecord) {
        let Application { name, services } = &record.application;
        let mut specs: BTreeMap<ServiceName, Option<SpecHash>> = BTreeMap::new();
        let mut aims = BTreeMap::new();
        for service_name in dependencies_first(services) {
            let Some(service) = services.get(service_name) else { continue };
            let key = ServiceKey { application: name.clone(), service: service_name.clone() };
            let spec = following(service, &specs);
            match want::encode_spec(&spec) {
                Ok((hash, bytes)) => {
                    self.fabric.learn(hash, Facts::of(&spec));
                    self.fabric.want(&key, Some(hash));
                    let mut aim = Aim::of(service, hash);
                    // Of a ring, nobody waits for who comes later.
                    aim.after.retain(|first| specs.contains_key(first));
                    specs.insert(service_name.clone(), Some(hash));
                    aims.insert(service_name.clone(), aim);
                    self.dispatch.set_spec(key.clone(), hash, bytes);
                }
                Err(error) => {
                    tracing::error!(service = %key, %error, "a specification is too large for a node");
                    specs.insert(service_name.clone(), None);
                }
            }
            self.totals.set(&key, of_fleet(service));
            // Bounds and rules are no part of what is placed.
            self.unsettled.extend(self.planner.places(&key).map(|(node, _)| node.clone()));
            self.stale_services.insert(key);
        }
        self.rollouts.set_application(name, aims, &self.planner);
        let held = self.hold_back(&record.application);
        let mut wanted = joins::wanted(&record.application, &specs);
        for (key, wanted) in &mut wanted {
            wanted.stopped &= !held.contains(&key.service);
        }
        self.planner.set_application(name, wanted);
        let name = name.clone();
        if let Some(old) = self.applications.insert(name.clone(), Known { record, specs }) {
            self.services_changed(&name, &old);
        }
    }

    /// Services that an application no longer has.
    pub(crate) fn services_changed(&mut self, name: &ApplicationName, old: &Known) {
        for service in old.specs.keys() {
            let still =
                self.applications.get(name).is_some_and(|new| new.specs.contains_key(service));
            if !still {
                let key = ServiceKey { application: name.clone(), service: service.clone() };
                self.dispatch.remove_spec(&key);
                self.fabric.want(&key, None);
                self.totals.set(&key, None);
                self.stale_services.insert(key);
            }
        }
    }

    pub(crate) fn put_node(&mut self, record: NodeRecord, modified: Revision) {
        let id = record.node.clone();
        if let Some(node) = self.fleet.get_mut(&id) {
            node.modified = modified;
            if node.record == record {
                return;
            }
            let was = node.record.availability;
            // What the node said itself is newer than what the store has of it.
            let said = |record: &NodeRecord| {
                (record.facts.clone(), record.seal_key.clone(), record.mesh.clone())
            };
            if said(&node.record) != said(&record) && node.link.is_heard() {
                (node.record.facts, node.record.seal_key, node.record.mesh) =
                    said(&std::mem::replace(&mut node.record, record));
                self.changed_facts.insert(id.clone());
            } else {
                node.record = record;
            }
            let is = node.record.availability;
            if was != is {
                let (kind, text) = availability_event(&id, is);
                self.happened(Some(&id), kind, text);
            }
            self.plan_node(&id);
            return;
        }
        if let Some(key) = record.seal_key.as_deref().and_then(auth::bytes_of_hex) {
            self.dispatch.set_seal_key(&id, key.to_vec());
        }
        self.fleet.insert(id.clone(), ObservedNode::unheard(record, modified, self.now_ms));
        self.plan_node(&id);
        self.stand(&id);
        // A first assignment, even an empty one: the node then knows that nothing is wanted.
        self.unsettled.insert(id);
    }

    pub(crate) fn remove(&mut self, key: &Key) {
        match key {
            Key::Application(name) => self.leave(name),
            Key::Node(id) => {
                self.stale_services.extend(self.planner.services_on(id).cloned());
                self.planner.remove_node(id);
                if self.fleet.remove(id).is_some() {
                    let text = format!("node {id} was removed; what it had is placed elsewhere");
                    self.happened(Some(id), "node_removed", text);
                }
                self.lost_at.retain(|(_, waiting)| waiting != id);
                self.fabric.remove(id);
                self.totals.forget_node(id);
                self.unstored_numbers.remove(id);
                self.unnumbered.remove(id);
                self.numbers.give_back(id);
                self.look_at_numbers();
                self.dispatch.forget(id);
                self.calls.node_gone(id, &format!("node {id} was removed"));
                self.stale_nodes.insert(id.clone());
                self.removed_nodes.insert(id.clone());
            }
            _ => {}
        }
    }

    pub(crate) fn remove_application(&mut self, name: &ApplicationName) {
        self.rollouts.set_application(name, BTreeMap::new(), &self.planner);
        self.planner.set_application(name, BTreeMap::new());
        if let Some(old) = self.applications.remove(name) {
            self.services_changed(name, &old);
        }
    }

    pub(crate) fn broker_is_back(&mut self) {
        for node in self.fleet.values_mut() {
            node.link.controller_back(self.now_ms);
        }
        self.rollouts.link_came_up(self.now_ms);
        self.look_at_all();
    }

    pub(crate) fn broker_is_gone(&mut self) {
        for node in self.fleet.values_mut() {
            node.link.controller_cut_off(self.now_ms);
        }
        self.look_at_all();
    }

    pub(crate) fn look_at_all(&mut self) {
        let all: Vec<NodeId> = self.fleet.keys().cloned().collect();
        all.iter().for_each(|id| self.stand(id));
    }

    pub(crate) fn check_deadlines(&mut self) {
        while let Some((at, id)) = self.lost_at.first().cloned()
            && at <= self.now_ms
        {
            self.lost_at.remove(&(at, id.clone()));
            self.stand(&id);
        }
        let fleet = &self.fleet;
        let ready =
            |id: &NodeId| fleet.get(id).is_some_and(|node| node.standing == Standing::Ready);
        self.dispatch.remind(self.now_ms, ready);
    }

    pub(crate) fn ask(&mut self, request: Request, tasks: &mut JoinSet<()>) {
        let (node, first, answers, more, opened) = match request {
            Request::Call { node, first, answers, more, opened } => {
                (node, first, answers, more, opened)
            }
            Request::Copy { answer } => {
                drop(answer.send((self.revision, Box::new(self.planner.clone()))));
                return;
            }
            Request::Explain { subject, name, answer } => {
                // Who asked may be gone: nobody wants the answer then.
                drop(answer.send((self.revision, self.explain(subject, &name))));
                return;
            }
            Request::Rollout { application, service, order, answer } => {
                let result = self.order_rollout(&application, service.as_ref(), order);
                self.answers.push(OrderAnswer { answer, result });
                return;
            }
        };
        let standing = self.fleet.get(&node).map(|known| known.standing);
        let result = match standing {
            None => Err(format!("there is no node {node}: see `limpet node ls`")),
            Some(Standing::Ready) => self.calls.open(Opening { node, first, answers, more }, tasks),
            Some(standing) => Err(format!("node {node} is {}: try again", standing.as_str())),
        };
        if opened.send(result).is_err() {
            tracing::debug!("the caller was gone before its call was open");
        }
    }

    /// Whether there is nothing to show that was not shown.
    pub(crate) fn is_shown(&self) -> bool {
        self.stale_services.is_empty()
            && self.stale_nodes.is_empty()
            && self.shown == Some(self.revision)
    }

    /// The newest view.
    pub(crate) fn show(&mut self) -> View {
        let sources = Sources {
            planner: &self.planner,
            rollouts: &self.rollouts,
            totals: &self.totals,
            nodes: &self.fleet,
        };
        for key in std::mem::take(&mut self.stale_services) {
            let known = self.applications.get(&key.application);
            let service = known.and_then(|known| {
                let service = known.record.application.services.get(&key.service)?;
                Some((known, service))
            });
            let Some((known, service)) = service else {
                self.gallery.hide_service(&key);
                continue;
            };
            let spec = known.specs.get(&key.service).copied().flatten();
            let shown = Shown { key: &key, service, spec, applied_ms: known.record.applied_ms };
            self.gallery.show_service(shown, sources);
        }
        for id in std::mem::take(&mut self.stale_nodes) {
            let left_out = self.fabric.peers_left_out(&id);
            let told = Told { assignment: self.dispatch.wanted(&id), left_out };
            self.gallery.show_node(&id, told, sources);
        }
        self.shown = Some(self.revision);
        self.gallery.view(self.revision)
    }
}

/// The kind and text of the event that people let a node have work, or no more.
fn availability_event(id: &NodeId, availability: Availability) -> (&'static str, String) {
    match availability {
        Availability::Active => ("node_uncordoned", format!("node {id} takes work again")),
        Availability::Pause => {
            ("node_cordoned", format!("node {id} takes nothing new; what it runs stays"))
        }
        Availability::Drain => ("node_drained", format!("what node {id} runs goes to others")),
    }
}

fn read<T: serde::de::DeserializeOwned>(key: &Key, value: &[u8]) -> Result<T, LoopError> {
    codec::decode_within(value, MAX_VALUE_BYTES)
        .map_err(|source| LoopError::Record { key: key.clone(), source })
}
