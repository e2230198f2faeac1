//! Configs and secrets on their way to nodes.
//!
//! In: the specs that are published, which node shall run which of them, the keys that nodes tell.
//! Out: retained topics: each config once, each secret once for every node that needs it, sealed to
//! that node's key and signed. What no node needs any more is cleared. The clear text of a secret is
//! in memory only while it is sealed.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use limpet_protocol::codec;
use limpet_protocol::id::{ContentId, NodeId, SpecHash};
use limpet_protocol::message::{SealedSecret, Signed};
use limpet_protocol::spec::Spec;
use limpet_protocol::topic::Topic;

use super::bus::Bus;
use crate::contents::{self, ContentError};
use crate::store::{Identity, Store};

/// What a spec or a node needs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Needs {
    configs: BTreeSet<ContentId>,
    secrets: BTreeSet<ContentId>,
}

impl Needs {
    fn of(spec: &Spec) -> Self {
        let ids = |mounts: &[limpet_protocol::spec::ContentMount]| {
            mounts.iter().map(|mount| mount.content).collect()
        };
        Self { configs: ids(&spec.configs), secrets: ids(&spec.secrets) }
    }

    fn is_empty(&self) -> bool {
        self.configs.is_empty() && self.secrets.is_empty()
    }

    fn add(&mut self, other: &Self) {
        self.configs.extend(&other.configs);
        self.secrets.extend(&other.secrets);
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Contents {
    store: Store,
    bus: Bus,
    /// Of the published specs that need any.
    of_spec: BTreeMap<SpecHash, Needs>,
    of_node: BTreeMap<NodeId, Needs>,
    /// How many nodes need a config.
    config_users: BTreeMap<ContentId, usize>,
    keys: BTreeMap<NodeId, Vec<u8>>,
}

impl Contents {
    pub(super) fn new(store: Store, bus: Bus) -> Self {
        Self {
            store,
            bus,
            of_spec: BTreeMap::new(),
            of_node: BTreeMap::new(),
            config_users: BTreeMap::new(),
            keys: BTreeMap::new(),
        }
    }

    /// A spec is published; whether that is news of what nodes need.
    pub(super) fn learn(&mut self, hash: SpecHash, bytes: &[u8]) -> bool {
        let needs = codec::decode::<Spec>(bytes).map(|spec| Needs::of(&spec)).unwrap_or_default();
        !needs.is_empty() && self.of_spec.insert(hash, needs).is_none()
    }

    /// A spec is no longer published.
    pub(super) fn unlearn(&mut self, hash: &SpecHash) {
        self.of_spec.remove(hash);
    }

    /// A node shall run these specs.
    pub(super) fn assign(&mut self, node: &NodeId, specs: impl Iterator<Item = SpecHash>) {
        let mut needs = Needs::default();
        specs.filter_map(|hash| self.of_spec.get(&hash)).for_each(|of_spec| needs.add(of_spec));
        let old = if needs.is_empty() {
            self.of_node.remove(node)
        } else {
            self.of_node.insert(node.clone(), needs.clone())
        };
        let old = old.unwrap_or_default();
        for id in needs.configs.difference(&old.configs) {
            let users = self.config_users.entry(*id).or_default();
            *users += 1;
            if *users == 1 {
                self.publish_config(id);
            }
        }
        for id in needs.secrets.difference(&old.secrets) {
            self.publish_secret(node, id);
        }
        for id in old.configs.difference(&needs.configs) {
            self.leave_config(id);
        }
        for id in old.secrets.difference(&needs.secrets) {
            self.bus.clear(&Topic::Secret(node.clone(), *id));
        }
    }

    /// A node's secrets are to be sealed to this key; done anew if it had another.
    pub(super) fn set_key(&mut self, node: &NodeId, key: Vec<u8>) {
        if self.keys.get(node) == Some(&key) {
            return;
        }
        self.keys.insert(node.clone(), key);
        let secrets = self.of_node.get(node).map(|needs| needs.secrets.clone());
        for id in secrets.unwrap_or_default() {
            self.publish_secret(node, &id);
        }
    }

    /// A node is no more.
    pub(super) fn forget(&mut self, node: &NodeId) {
        self.assign(node, std::iter::empty());
        self.keys.remove(node);
    }

    /// Publishes what a node needs again; all of it, or what it asks for of that.
    pub(super) fn again(&self, node: &NodeId, only: Option<(&[ContentId], &[ContentId])>) {
        let Some(needs) = self.of_node.get(node) else { return };
        let asked = |ids: Option<&[ContentId]>, id| ids.is_none_or(|ids| ids.contains(id));
        for id in needs.configs.iter().filter(|id| asked(only.map(|(configs, _)| configs), id)) {
            if !self.bus.again(&Topic::Config(*id)) {
                self.publish_config(id);
            }
        }
        for id in needs.secrets.iter().filter(|id| asked(only.map(|(_, secrets)| secrets), id)) {
            if !self.bus.again(&Topic::Secret(node.clone(), *id)) {
                self.publish_secret(node, id);
            }
        }
    }

    fn leave_config(&mut self, id: &ContentId) {
        let left = self.config_users.get_mut(id).map_or(0, |users| {
            *users -= 1;
            *users
        });
        if left == 0 {
            self.config_users.remove(id);
            self.bus.clear(&Topic::Config(*id));
        }
    }

    fn publish_config(&self, id: &ContentId) {
        match contents::config(&self.store, id) {
            Ok(Some(config)) => match codec::encode(&config) {
                Ok(bytes) => self.bus.set(Topic::Config(*id), bytes.into()),
                Err(error) => tracing::error!(%id, %error, "a config does not fit in a message"),
            },
            Ok(None) => tracing::error!(%id, "a config that a node needs is not in the store"),
            Err(error) => tracing::error!(%id, %error, "a config cannot be read"),
        }
    }

    fn publish_secret(&self, node: &NodeId, id: &ContentId) {
        let Some(key) = self.keys.get(node) else {
            // It comes with the node's next presence, and this again with it.
            tracing::debug!(%node, "a secret waits for the node's key");
            return;
        };
        match self.sealed(node, id, key) {
            Ok(Some(bytes)) => self.bus.set(Topic::Secret(node.clone(), *id), bytes),
            Ok(None) => {
                tracing::error!(%node, %id, "a secret that a node needs is not in the store")
            }
            Err(error) => tracing::error!(%node, %id, error, "a secret cannot be sealed to a node"),
        }
    }

    fn sealed(&self, node: &NodeId, id: &ContentId, key: &[u8]) -> Result<Option<Bytes>, String> {
        let secret =
            contents::secret(&self.store, id).map_err(|error: ContentError| error.to_string())?;
        let Some(secret) = secret else { return Ok(None) };
        let sealed = limpet_seal::seal_to(key, node, id, &secret);
        let sealed = SealedSecret {
            node: node.clone(),
            content: *id,
            key: key.to_vec(),
            sealed: sealed.map_err(|error| error.to_string())?,
        };
        sign(self.store.identity(), &sealed).map(Some).map_err(|error| error.to_string())
    }
}

/// A sealed secret with the controller's signature.
fn sign(identity: &Identity, secret: &SealedSecret) -> Result<Bytes, codec::CodecError> {
    let payload = codec::encode(secret)?;
    let signature = identity.sign(&Signed::secret_text(&payload));
    codec::encode(&Signed { payload, signature }).map(Bytes::from)
}
