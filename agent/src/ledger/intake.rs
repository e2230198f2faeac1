//! Intake: how an assignment comes from the wire to the disk.
//!
//! Deciding code. In: assignments and specs as anybody may have written them. Out: [`Effect`]s. An
//! assignment is taken when the controller signed it for this node and it is newer than what the node
//! has; it is handed out for storing when all its specs are there, and becomes the current one when
//! it is on disk. Until then the one before goes on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use limpet_protocol::assignment::{Assignment, Generation};
use limpet_protocol::id::SpecHash;

use super::{Accepted, KeptSpec, Ledger, Refusal, check_spec};

/// What is to be done about what came in.
#[derive(Debug, PartialEq, Eq)]
pub enum Effect {
    /// It is not believed, for a cause that was not told since the last good assignment.
    Refused {
        /// What and why.
        message: String,
    },
    /// Specs to be listened for.
    Listen(Vec<SpecHash>),
    /// A spec that need not be listened for any more.
    Ignore(SpecHash),
    /// Everything is there: store it and answer with [`Intake::stored`] or [`Intake::not_stored`].
    Store(Box<Accepted>),
}

#[derive(Debug)]
struct Pending {
    signed: Vec<u8>,
    assignment: Assignment,
    specs: BTreeMap<SpecHash, KeptSpec>,
    missing: BTreeSet<SpecHash>,
}

/// See the module.
#[derive(Debug)]
pub struct Intake {
    ledger: Ledger,
    current: Option<Accepted>,
    pending: Option<Pending>,
    /// Handed out for storing.
    storing: Option<Generation>,
    /// Kinds of refusals that were told.
    told: BTreeSet<&'static str>,
}

impl Intake {
    /// Begins with what the ledger had.
    #[must_use]
    pub fn new(ledger: Ledger, current: Option<Accepted>) -> Self {
        Self { ledger, current, pending: None, storing: None, told: BTreeSet::new() }
    }

    /// What the node runs.
    #[must_use]
    pub fn current(&self) -> Option<&Accepted> {
        self.current.as_ref()
    }

    /// Specs that an assignment waits for.
    #[must_use]
    pub fn missing(&self) -> Vec<SpecHash> {
        self.pending.iter().flat_map(|pending| pending.missing.iter().copied()).collect()
    }

    /// An assignment came in.
    pub fn want(&mut self, signed: &[u8]) -> Vec<Effect> {
        let assignment = match self.ledger.open_assignment(signed) {
            Ok(assignment) => assignment,
            Err(refusal) => return self.refuse("assignment", &refusal),
        };
        let got = assignment.generation;
        let have = self.current.as_ref().map(|current| current.assignment.generation);
        match have {
            Some(have) if got < have => {
                return self.refuse("assignment", &Refusal::Older { got, have });
            }
            Some(have) if got == have => return Vec::new(),
            _ => {}
        }
        let newest = self.pending.as_ref().map(|pending| pending.assignment.generation);
        if newest.max(self.storing) >= Some(got) {
            return Vec::new();
        }
        let old = self.pending.take();
        let mut effects = Vec::new();
        let pending = self.gather(signed, assignment, old.as_ref());
        for hash in old.iter().flat_map(|old| &old.missing) {
            if !pending.missing.contains(hash) {
                effects.push(Effect::Ignore(*hash));
            }
        }
        if !pending.missing.is_empty() {
            effects.push(Effect::Listen(pending.missing.iter().copied().collect()));
        }
        self.pending = Some(pending);
        effects.extend(self.complete());
        effects
    }

    /// A spec came in.
    pub fn spec(&mut self, hash: &SpecHash, bytes: &[u8]) -> Vec<Effect> {
        let Some(pending) = &mut self.pending else { return Vec::new() };
        if !pending.missing.contains(hash) {
            return Vec::new();
        }
        match check_spec(hash, bytes) {
            Ok(spec) => {
                pending.missing.remove(hash);
                let kept = KeptSpec { bytes: bytes.into(), spec: Arc::new(spec) };
                pending.specs.insert(*hash, kept);
                let mut effects = vec![Effect::Ignore(*hash)];
                effects.extend(self.complete());
                effects
            }
            Err(refusal) => self.refuse("spec", &refusal),
        }
    }

    /// What was handed out is on disk: it is the current assignment from now on.
    pub fn stored(&mut self, accepted: Accepted) -> Vec<Effect> {
        self.storing = None;
        self.told.clear();
        self.current = Some(accepted);
        self.complete()
    }

    /// What was handed out could not be written. [`Intake::retry`] hands it out again.
    pub fn not_stored(&mut self, accepted: Accepted) {
        self.storing = None;
        if self.pending.is_none() {
            let Accepted { signed, assignment, specs } = accepted;
            self.pending = Some(Pending { signed, assignment, specs, missing: BTreeSet::new() });
        }
    }

    /// Hands out again what could not be written.
    pub fn retry(&mut self) -> Vec<Effect> {
        self.complete()
    }

    /// What is there of an assignment's specs, and what is not.
    fn gather(&self, signed: &[u8], assignment: Assignment, old: Option<&Pending>) -> Pending {
        let known = |hash: &SpecHash| {
            let current = self.current.as_ref().and_then(|current| current.specs.get(hash));
            current.or_else(|| old.and_then(|old| old.specs.get(hash))).cloned()
        };
        let mut specs = BTreeMap::new();
        let mut missing = BTreeSet::new();
        for service in &assignment.services {
            match known(&service.spec) {
                Some(kept) => drop(specs.insert(service.spec, kept)),
                None => drop(missing.insert(service.spec)),
            }
        }
        Pending { signed: signed.to_vec(), assignment, specs, missing }
    }

    /// Hands out the pending assignment if it is whole and nothing else is being stored.
    fn complete(&mut self) -> Vec<Effect> {
        if self.storing.is_some() {
            return Vec::new();
        }
        let Some(pending) = self.pending.take_if(|pending| pending.missing.is_empty()) else {
            return Vec::new();
        };
        let Pending { signed, assignment, specs, .. } = pending;
        for service in &assignment.services {
            let fits = specs.get(&service.spec).is_some_and(|kept| {
                kept.spec.application == service.application && kept.spec.service == service.service
            });
            if !fits {
                let refusal = Refusal::OtherService {
                    application: service.application.to_string(),
                    service: service.service.to_string(),
                };
                return self.refuse("assignment", &refusal);
            }
        }
        self.storing = Some(assignment.generation);
        vec![Effect::Store(Box::new(Accepted { signed, assignment, specs }))]
    }

    fn refuse(&mut self, what: &str, refusal: &Refusal) -> Vec<Effect> {
        tracing::warn!("{what} refused: {refusal}");
        if !self.told.insert(refusal.kind()) {
            return Vec::new();
        }
        vec![Effect::Refused { message: format!("{what} refused, nothing changed: {refusal}") }]
    }
}
