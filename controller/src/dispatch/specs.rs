//! The specs that are in use: what services are now, what assignments still name, and what a
//! rollback would need.
//!
//! In: the spec of each service as it changes, and the names in assignments as they come and go.
//! Out: the bytes of each spec as long as anybody needs them, and what the store has to keep so
//! that this holds after a restart.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use limpet_protocol::assignment::Assignment;
use limpet_protocol::id::SpecHash;
use limpet_protocol::spec::Spec;

use crate::plan::ServiceKey;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Specs {
    bodies: BTreeMap<SpecHash, (ServiceKey, Bytes)>,
    /// What each service is now.
    current: BTreeMap<ServiceKey, SpecHash>,
    /// What a rollback of each would go to.
    pinned: BTreeMap<ServiceKey, SpecHash>,
    /// How many shares of assignments name a spec.
    named: BTreeMap<SpecHash, usize>,
    /// What the store has.
    stored: BTreeSet<SpecHash>,
}

/// The specs that an assignment names, those that come next among them.
pub(super) fn names(assignment: &Assignment) -> impl Iterator<Item = SpecHash> {
    assignment.services.iter().flat_map(|share| std::iter::once(share.spec).chain(share.next))
}

impl Specs {
    /// A service is this from now on.
    pub(super) fn set(&mut self, key: ServiceKey, hash: SpecHash, bytes: Bytes) {
        self.bodies.insert(hash, (key.clone(), bytes));
        if let Some(old) = self.current.insert(key, hash) {
            self.drop_unneeded(old);
        }
    }

    /// A service is no more.
    pub(super) fn remove(&mut self, key: &ServiceKey) {
        let gone = [self.current.remove(key), self.pinned.remove(key)];
        gone.into_iter().flatten().for_each(|hash| self.drop_unneeded(hash));
    }

    /// A rollback of a service would go to this spec.
    pub(super) fn pin(&mut self, key: &ServiceKey, hash: Option<SpecHash>) {
        let old = match hash {
            Some(hash) => self.pinned.insert(key.clone(), hash),
            None => self.pinned.remove(key),
        };
        if let Some(old) = old.filter(|old| Some(*old) != hash) {
            self.drop_unneeded(old);
        }
    }

    /// The store has a spec.
    pub(super) fn restore(&mut self, hash: SpecHash, spec: &Spec, bytes: Bytes) {
        let (application, service) = (spec.application.clone(), spec.service.clone());
        self.bodies.insert(hash, (ServiceKey { application, service }, bytes));
        self.stored.insert(hash);
    }

    /// The bytes of a spec that is in use.
    pub(super) fn bytes(&self, hash: SpecHash) -> Option<&[u8]> {
        self.bodies.get(&hash).map(|(_, bytes)| bytes.as_ref())
    }

    /// One more share names a spec. Its bytes, if it is the first and they are known.
    pub(super) fn name(&mut self, hash: SpecHash) -> Option<Bytes> {
        let count = self.named.entry(hash).or_default();
        *count += 1;
        let first = *count == 1;
        self.bodies.get(&hash).filter(|_| first).map(|(_, bytes)| bytes.clone())
    }

    /// One share less names a spec; whether it was the last.
    pub(super) fn unname(&mut self, hash: SpecHash) -> bool {
        let left = self.named.get_mut(&hash).map_or(0, |count| {
            *count -= 1;
            *count
        });
        if left == 0 {
            self.named.remove(&hash);
            self.drop_unneeded(hash);
        }
        left == 0
    }

    /// Whether an assignment names it.
    pub(super) fn is_named(&self, hash: SpecHash) -> bool {
        self.named.contains_key(&hash)
    }

    fn is_needed(&self, hash: SpecHash) -> bool {
        let Some((key, _)) = self.bodies.get(&hash) else { return false };
        self.is_named(hash)
            || self.current.get(key) == Some(&hash)
            || self.pinned.get(key) == Some(&hash)
    }

    fn drop_unneeded(&mut self, hash: SpecHash) {
        if !self.is_needed(hash) {
            self.bodies.remove(&hash);
        }
    }

    /// Specs among these that the store does not have yet, with their bytes.
    pub(super) fn unstored(
        &self,
        hashes: impl Iterator<Item = SpecHash>,
    ) -> BTreeMap<SpecHash, Bytes> {
        let unstored = hashes.filter(|hash| !self.stored.contains(hash));
        unstored.filter_map(|hash| Some((hash, self.bodies.get(&hash)?.1.clone()))).collect()
    }

    /// The store has these.
    pub(super) fn stored(&mut self, hashes: impl Iterator<Item = SpecHash>) {
        self.stored.extend(hashes);
    }

    /// Specs that the store has and nobody needs any more, each once.
    pub(super) fn take_unneeded(&mut self) -> Vec<SpecHash> {
        let unneeded: Vec<SpecHash> =
            self.stored.iter().filter(|hash| !self.bodies.contains_key(hash)).copied().collect();
        for hash in &unneeded {
            self.stored.remove(hash);
        }
        unneeded
    }

    /// Forgets what nobody needs, after everything that needs something is known.
    pub(super) fn sweep(&mut self) {
        let all: Vec<SpecHash> = self.bodies.keys().copied().collect();
        all.into_iter().for_each(|hash| self.drop_unneeded(hash));
    }
}
