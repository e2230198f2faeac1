//! Hearing: a message comes in, the world is told what is news in it.

use limpet_protocol::call::CallOut;
use limpet_protocol::codec::{self, CodecError};
use limpet_protocol::event::{Cursor, EventBatch, EventKind};
use limpet_protocol::id::{InstanceId, NodeId, SessionId};
use limpet_protocol::message::{
    Ask, JoinReply, JoinRequest, Mesh, NodeFacts, NodePresence, SealKey,
};
use limpet_protocol::report::Report;
use limpet_protocol::topic::Topic;
use serde::de::DeserializeOwned;

use crate::auth;
use crate::network::MAX_ENDPOINTS;
use crate::plan::filter::cut;
use crate::plan::{Node, ServiceKey, Standing};
use crate::store::StoreError;
use crate::store::records::{EventRecord, MeshRecord};
use crate::world::World;

impl World {
    /// A message from the broker.
    ///
    /// # Errors
    /// [`StoreError`] if the store failed; nothing that comes in is an error.
    pub(crate) async fn hear(&mut self, topic: Topic, payload: &[u8]) -> Result<(), StoreError> {
        if payload.is_empty() {
            // A retained topic that was cleared.
            return Ok(());
        }
        match topic {
            Topic::JoinIn(session) => return self.hear_join(session, payload).await,
            Topic::Up(node) => self.hear_presence(&node, payload),
            Topic::Have(node) => self.hear_report(&node, payload),
            Topic::Event(node) => self.hear_events(&node, payload),
            Topic::Ask(node) => self.hear_ask(&node, payload),
            Topic::CallOut(node, session) => self.hear_answer(&node, &session, payload),
            _ => {}
        }
        Ok(())
    }

    /// The message of a node that is known, decoded.
    fn read<T: DeserializeOwned>(&mut self, node: &NodeId, payload: &[u8]) -> Option<T> {
        if !self.fleet.contains_key(node) {
            self.nonsense(node.as_str(), "it is no node of this controller");
            return None;
        }
        match codec::decode(payload) {
            Ok(message) => {
                if let Some(node) = self.fleet.get_mut(node) {
                    node.last_contact_ms = self.wall_ms;
                }
                Some(message)
            }
            Err(error) => {
                self.undecodable(node.as_str(), &error);
                None
            }
        }
    }

    fn undecodable(&mut self, source: &str, error: &CodecError) {
        self.nonsense(source, &error.to_string());
    }

    fn nonsense(&mut self, source: &str, what: &str) {
        if self.noise.hear(self.now_ms, source) {
            let total = self.noise.total();
            tracing::warn!(source, total, "a message is not taken: {what}");
        }
    }

    fn hear_presence(&mut self, id: &NodeId, payload: &[u8]) {
        let Some(presence) = self.read::<NodePresence>(id, payload) else { return };
        let now_ms = self.now_ms;
        let Some(node) = self.fleet.get_mut(id) else { return };
        if !node.presence(now_ms, &presence) {
            return;
        }
        if let Some(facts) = presence.facts
            && facts != node.record.facts
        {
            self.learn(id, facts);
        }
        if let Some(key) = &presence.key {
            self.learn_key(id, key);
        }
        match &presence.mesh {
            Some(mesh) => self.learn_mesh(id, mesh),
            None if presence.online => self.forget_mesh(id),
            None => {}
        }
        self.stand(id);
    }

    /// A node is not what it was: an update, other labels, more memory.
    fn learn(&mut self, id: &NodeId, facts: NodeFacts) {
        let Some(node) = self.fleet.get_mut(id) else { return };
        node.record.facts = facts;
        self.plan_node(id);
        self.changed_facts.insert(id.clone());
    }

    /// A node told where its secrets are to be sealed to. Nobody else can: a broker that did could
    /// read them.
    fn learn_key(&mut self, id: &NodeId, key: &SealKey) {
        let Some(node) = self.fleet.get_mut(id) else { return };
        let public = auth::hex(&key.public);
        if node.record.seal_key.as_ref() == Some(&public) {
            return;
        }
        if !auth::verify_seal_key(&node.record, key) {
            return self.nonsense(id.as_str(), "a key for its secrets that the node did not prove");
        }
        let had_another = node.record.seal_key.replace(public).is_some();
        self.changed_facts.insert(id.clone());
        self.dispatch.set_seal_key(id, key.public.clone());
        if had_another {
            let text = format!("node {id} has a new key: its secrets are sealed anew");
            self.happened(Some(id), "node_key_changed", text);
        }
    }

    /// A node told how others reach it. Nobody else can give it a key: who did could listen to what is
    /// meant for it.
    fn learn_mesh(&mut self, id: &NodeId, mesh: &Mesh) {
        let Some(node) = self.fleet.get_mut(id) else { return };
        let endpoints = mesh.endpoints.iter().take(MAX_ENDPOINTS).copied().collect();
        let told = MeshRecord { key: auth::hex(&mesh.key), endpoints };
        if node.record.mesh.as_ref() == Some(&told) {
            return;
        }
        if !auth::verify_mesh(&node.record, mesh) {
            return self.nonsense(id.as_str(), "a key for other nodes that the node did not prove");
        }
        let old = node.record.mesh.replace(told);
        self.changed_facts.insert(id.clone());
        if old.is_some_and(|old| old.key != auth::hex(&mesh.key)) {
            let text = format!("node {id} has a new key for other nodes: its peers are told");
            self.happened(Some(id), "node_key_changed", text);
        }
        self.stale_nodes.insert(id.clone());
        self.weave(id);
    }

    /// A node is there and reaches nobody: its agent is older, or does without networks.
    fn forget_mesh(&mut self, id: &NodeId) {
        let Some(node) = self.fleet.get_mut(id) else { return };
        if node.record.mesh.take().is_some() {
            self.changed_facts.insert(id.clone());
            self.stale_nodes.insert(id.clone());
            self.weave(id);
        }
    }

    /// Tells the planner what a node is now.
    pub(crate) fn plan_node(&mut self, id: &NodeId) {
        let Some(node) = self.fleet.get(id) else { return };
        let availability = node.record.availability;
        let known = Node::of(&node.record.facts, &node.record.labels, node.standing);
        let planned = Node { availability, addresses: self.addresses(id), ..known };
        self.planner.set_node(id, planned);
        self.weave(id);
        self.stale_nodes.insert(id.clone());
    }

    /// Looks how a node stands now, and tells everybody if that is news.
    pub(crate) fn stand(&mut self, id: &NodeId) {
        let lost_after_ms = self.lost_after_ms;
        let Some(node) = self.fleet.get_mut(id) else { return };
        let standing = node.link.standing(self.now_ms, lost_after_ms);
        let lost_at = node.link.lost_at_ms(lost_after_ms).filter(|_| standing != Standing::Lost);
        let was = std::mem::replace(&mut node.standing, standing);
        let lost_at = lost_at.filter(|_| self.bus.is_up());
        if let Some(at) = std::mem::replace(&mut node.waits_until_ms, lost_at) {
            self.lost_at.remove(&(at, id.clone()));
        }
        self.lost_at.extend(lost_at.map(|at| (at, id.clone())));
        self.stale_nodes.insert(id.clone());
        if was == standing {
            return;
        }
        tracing::info!(node = %id, was = was.as_str(), now = standing.as_str(), "a node's standing changed");
        self.stale_services.extend(self.planner.services_on(id).cloned());
        self.look_at_node(id);
        self.plan_node(id);
        self.weigh_wishes(id, standing);
        if standing == Standing::Ready {
            let observed = self.fleet.get(id).and_then(|node| node.observed);
            self.dispatch.observed(self.now_ms, id, observed);
        } else {
            self.calls.node_gone(id, &format!("node {id} is {}", standing.as_str()));
        }
        self.happened(
            Some(id),
            &format!("node_{}", standing.as_str()),
            standing_text(id, standing),
        );
    }

    /// Notes an event of the controller's own.
    pub(crate) fn happened(&mut self, node: Option<&NodeId>, kind: &str, message: String) {
        self.events.push(EventRecord {
            id: 0,
            at_ms: self.wall_ms,
            node: node.cloned(),
            instance: None,
            kind: kind.to_owned(),
            message,
        });
    }

    fn hear_report(&mut self, id: &NodeId, payload: &[u8]) {
        let Some(report) = self.read::<Report>(id, payload) else { return };
        let Some(node) = self.fleet.get_mut(id) else { return };
        let Some(news) = node.report(report) else { return };
        let observed = node.observed;
        self.dispatch.observed(self.now_ms, id, observed);
        self.overtaken(id);
        self.stale_nodes.insert(id.clone());
        if news.images {
            self.look_at_node(id);
        }
        self.stale_services.extend(news.addressed.iter().map(ServiceKey::of));
        for key in news.scaled {
            self.hear_scale(id, &key);
        }
        if news.reaches {
            self.reach_changed(id);
        }
        for instance in news.instances {
            self.hear_instance(id, &instance);
        }
    }

    /// A node no longer reaches others, or does so again.
    fn reach_changed(&mut self, id: &NodeId) {
        let Some(node) = self.fleet.get(id) else { return };
        let gone = &node.network.unreachable;
        tracing::info!(node = %id, unreachable = gone.len(), "a node reaches other peers than before");
        let text = match gone.as_slice() {
            [] => format!("node {id} reaches all its peers"),
            some => {
                let names: Vec<&str> = some.iter().take(4).map(NodeId::as_str).collect();
                let more = if some.len() > names.len() { " and others" } else { "" };
                format!("node {id} does not reach {}{more}", names.join(", "))
            }
        };
        self.happened(Some(id), "node_reach_changed", text);
    }

    /// Something is new of an instance.
    fn hear_instance(&mut self, id: &NodeId, instance: &InstanceId) {
        let key = ServiceKey::of(instance);
        let status = self.fleet.get(id).and_then(|node| node.instances.get(instance));
        let has = self.rollouts.spec_of(&key, id, instance.slot).map(|(spec, _)| spec);
        if let Some(status) = status
            && self.planner.report(id, status, has)
        {
            // The node is to know that it need not start it again.
            self.unsettled.insert(id.clone());
        }
        if self.planner.slots_on(&key, id).contains(&instance.slot) {
            self.look_at_slot(&key, id, instance.slot);
        }
        self.reported.insert(key.clone());
        self.stale_services.insert(key);
    }

    /// A node that holds a later assignment than the store knows needs a still later one.
    fn overtaken(&mut self, id: &NodeId) {
        let observed = self.fleet.get(id).and_then(|node| node.observed);
        let wanted = self.dispatch.wanted(id).map(|assignment| assignment.generation);
        if let (Some(observed), Some(wanted)) = (observed, wanted)
            && observed > wanted
        {
            self.unsettled.insert(id.clone());
        }
    }

    fn hear_events(&mut self, id: &NodeId, payload: &[u8]) {
        let Some(batch) = self.read::<EventBatch>(id, payload) else { return };
        let Some(node) = self.fleet.get_mut(id) else { return };
        let Some((events, cursor)) = node.events(batch) else {
            return self.nonsense(id.as_str(), "a batch with no events, or too many");
        };
        node.kept(cursor);
        self.events.extend(events.into_iter().map(|event| EventRecord {
            id: 0,
            at_ms: event.at_ms,
            node: Some(id.clone()),
            instance: event.instance,
            kind: kind_word(event.kind),
            message: cut(event.message),
        }));
        self.acks.insert(id.clone(), cursor);
    }

    /// The events up to a cursor are on disk.
    pub(crate) fn acknowledge(&self, id: &NodeId, cursor: Cursor) {
        let topic = Topic::Ack(id.clone());
        if !codec::encode(&cursor).is_ok_and(|bytes| self.bus.send(topic, bytes.into())) {
            tracing::debug!(node = %id, "an acknowledgement is lost; the node sends again");
        }
    }

    fn hear_ask(&mut self, id: &NodeId, payload: &[u8]) {
        let Some(ask) = self.read::<Ask>(id, payload) else { return };
        self.dispatch.answer(self.now_ms, id, &ask);
    }

    fn hear_answer(&mut self, id: &NodeId, session: &SessionId, payload: &[u8]) {
        let Some(out) = self.read::<CallOut>(id, payload) else { return };
        if !self.calls.answer(id, session, out) {
            tracing::debug!(node = %id, %session, "an answer to no open call");
        }
    }

    async fn hear_join(&mut self, session: SessionId, payload: &[u8]) -> Result<(), StoreError> {
        let request: JoinRequest = match codec::decode(payload) {
            Ok(request) => request,
            Err(error) => {
                self.undecodable("a joining agent", &error);
                return Ok(());
            }
        };
        let known = self.joins.known(&session).cloned();
        let proven = auth::verify_join_proof(&self.store, &session, &request.proof).is_ok();
        let reply = match known {
            // A repeated request; the secret goes only to who has a token.
            Some(reply) if proven => reply,
            None if proven => {
                let reply = self.joins.accept(session.clone(), request, self.wall_ms).await?;
                if let JoinReply::Accepted { node, .. } = &reply {
                    self.happened(Some(node), "node_joined", format!("node {node} joined"));
                }
                reply
            }
            _ => {
                self.nonsense("a joining agent", "it has no valid join token");
                let reason = "the join token is not valid (any more): make a new one with `limpet token create`";
                JoinReply::Refused { reason: reason.to_owned() }
            }
        };
        let topic = Topic::JoinOut(session);
        if !codec::encode(&reply).is_ok_and(|bytes| self.bus.send(topic, bytes.into())) {
            tracing::debug!("a join reply is lost; the agent asks again");
        }
        Ok(())
    }
}

fn standing_text(id: &NodeId, standing: Standing) -> String {
    match standing {
        Standing::Ready => format!("node {id} is ready"),
        Standing::Unreachable => format!("node {id} is unreachable; what it runs goes on there"),
        Standing::Lost => format!("node {id} is lost; its work is placed elsewhere"),
    }
}

/// The kind as the wire and the API spell it.
fn kind_word(kind: EventKind) -> String {
    match serde_json::to_value(kind) {
        Ok(serde_json::Value::String(word)) => word,
        _ => "other".to_owned(),
    }
}
