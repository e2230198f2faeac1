//! Intake: how an assignment comes from the wire to the disk.
//!
//! Deciding code. In: assignments, specs, configs and secrets as anybody may have written them. Out:
//! [`Effect`]s. An assignment is taken when the controller signed it for this node and it is newer
//! than what the node has; it is handed out for storing when all its specs are there and all that
//! these name, and becomes the current one when it is on disk. Until then the one before goes on.
//!
//! A secret that was sealed to a key which the node has lost is asked for again, for an assignment
//! that runs already: the rest of it runs meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use limpet_protocol::assignment::{Assignment, Generation};
use limpet_protocol::id::SpecHash;
use limpet_protocol::limits::MAX_CONTENT_BYTES_PER_NODE;

use super::content::{ContentRef, Contents};
use super::{Accepted, KeptSpec, Ledger, Refusal, check_spec, named};

/// Something that an assignment names and that comes on a topic of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// A spec.
    Spec(SpecHash),
    /// A config or secret.
    Content(ContentRef),
}

/// What is to be done about what came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// It is not believed, for a cause that was not told since the last good assignment.
    Refused {
        /// What and why.
        message: String,
    },
    /// Parts to be listened for.
    Listen(Vec<Part>),
    /// A part that need not be listened for any more.
    Ignore(Part),
    /// Everything is there: store it and answer with [`Intake::stored`] or [`Intake::not_stored`].
    Store(Box<Accepted>),
}

#[derive(Debug)]
struct Pending {
    signed: Vec<u8>,
    assignment: Assignment,
    specs: BTreeMap<SpecHash, KeptSpec>,
    contents: Contents,
    missing: BTreeSet<Part>,
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
        let pending = current.as_ref().and_then(|current| unopened(&ledger, current));
        Self { ledger, current, pending, storing: None, told: BTreeSet::new() }
    }

    /// What the node runs.
    #[must_use]
    pub fn current(&self) -> Option<&Accepted> {
        self.current.as_ref()
    }

    /// What an assignment waits for.
    #[must_use]
    pub fn missing(&self) -> Vec<Part> {
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
        for part in old.iter().flat_map(|old| &old.missing) {
            if !pending.missing.contains(part) {
                effects.push(Effect::Ignore(*part));
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
        let part = Part::Spec(*hash);
        if !self.waits_for(part) {
            return Vec::new();
        }
        let spec = match check_spec(hash, bytes) {
            Ok(spec) => spec,
            Err(refusal) => return self.refuse("spec", &refusal),
        };
        let Some(mut pending) = self.pending.take() else { return Vec::new() };
        pending.missing.remove(&part);
        let kept = KeptSpec { bytes: bytes.into(), spec: Arc::new(spec) };
        let new = self.gather_contents(&kept, &mut pending, None);
        pending.specs.insert(*hash, kept);
        self.pending = Some(pending);
        let mut effects = vec![Effect::Ignore(part)];
        if !new.is_empty() {
            effects.push(Effect::Listen(new));
        }
        effects.extend(self.complete());
        effects
    }

    /// A config or sealed secret came in.
    pub fn content(&mut self, content: ContentRef, bytes: &[u8]) -> Vec<Effect> {
        let part = Part::Content(content);
        if !self.waits_for(part) {
            return Vec::new();
        }
        let what = if matches!(content, ContentRef::Config(_)) { "config" } else { "secret" };
        if let Err(refusal) = self.ledger.check_content(content, bytes) {
            return self.refuse(what, &refusal);
        }
        if !self.ledger.opens(content, bytes) {
            // From before the controller knew the key that this node has now.
            return self.refuse(what, &Refusal::OtherKey);
        }
        let Some(pending) = &mut self.pending else { return Vec::new() };
        let held: usize = pending.contents.values().map(|bytes| bytes.len()).sum();
        if held + bytes.len() > MAX_CONTENT_BYTES_PER_NODE {
            self.pending = None;
            return self.refuse("assignment", &Refusal::TooMuchContent);
        }
        pending.missing.remove(&part);
        pending.contents.insert(content, bytes.into());
        let mut effects = vec![Effect::Ignore(part)];
        effects.extend(self.complete());
        effects
    }

    fn waits_for(&self, part: Part) -> bool {
        self.pending.as_ref().is_some_and(|pending| pending.missing.contains(&part))
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
            let Accepted { signed, assignment, specs, contents } = accepted;
            let missing = BTreeSet::new();
            self.pending = Some(Pending { signed, assignment, specs, contents, missing });
        }
    }

    /// Hands out again what could not be written.
    pub fn retry(&mut self) -> Vec<Effect> {
        self.complete()
    }

    /// What is there of what an assignment names, and what is not.
    fn gather(&self, signed: &[u8], assignment: Assignment, old: Option<&Pending>) -> Pending {
        let known = |hash: &SpecHash| {
            let current = self.current.as_ref().and_then(|current| current.specs.get(hash));
            current.or_else(|| old.and_then(|old| old.specs.get(hash))).cloned()
        };
        let hashes: BTreeSet<SpecHash> = assignment.services.iter().flat_map(named).collect();
        let mut pending = Pending {
            signed: signed.to_vec(),
            assignment,
            specs: BTreeMap::new(),
            contents: Contents::new(),
            missing: BTreeSet::new(),
        };
        for hash in hashes {
            let Some(kept) = known(&hash) else {
                pending.missing.insert(Part::Spec(hash));
                continue;
            };
            self.gather_contents(&kept, &mut pending, old);
            pending.specs.insert(hash, kept);
        }
        pending
    }

    /// Takes over what is there of a spec's contents; gives what is not, now missing.
    fn gather_contents(
        &self,
        kept: &KeptSpec,
        pending: &mut Pending,
        old: Option<&Pending>,
    ) -> Vec<Part> {
        let mut new = Vec::new();
        for content in ContentRef::all_of(&kept.spec) {
            if pending.contents.contains_key(&content) {
                continue;
            }
            let current = self.current.as_ref().and_then(|current| current.contents.get(&content));
            let old = old.and_then(|old| old.contents.get(&content));
            let usable = |bytes: &&Arc<[u8]>| self.ledger.opens(content, bytes);
            match old.or(current).filter(usable) {
                Some(bytes) => drop(pending.contents.insert(content, Arc::clone(bytes))),
                None if pending.missing.insert(Part::Content(content)) => {
                    new.push(Part::Content(content));
                }
                None => {}
            }
        }
        new
    }

    /// Hands out the pending assignment if it is whole and nothing else is being stored.
    fn complete(&mut self) -> Vec<Effect> {
        if self.storing.is_some() {
            return Vec::new();
        }
        let Some(pending) = self.pending.take_if(|pending| pending.missing.is_empty()) else {
            return Vec::new();
        };
        let Pending { signed, assignment, specs, contents, .. } = pending;
        for service in &assignment.services {
            let fits = |hash: SpecHash| {
                specs.get(&hash).is_some_and(|kept| {
                    kept.spec.application == service.application
                        && kept.spec.service == service.service
                })
            };
            if !named(service).all(fits) {
                let refusal = Refusal::OtherService {
                    application: service.application.to_string(),
                    service: service.service.to_string(),
                };
                return self.refuse("assignment", &refusal);
            }
        }
        self.storing = Some(assignment.generation);
        vec![Effect::Store(Box::new(Accepted { signed, assignment, specs, contents }))]
    }

    fn refuse(&mut self, what: &str, refusal: &Refusal) -> Vec<Effect> {
        tracing::warn!("{what} refused: {refusal}");
        if !self.told.insert(refusal.kind()) {
            return Vec::new();
        }
        vec![Effect::Refused { message: format!("{what} refused, nothing changed: {refusal}") }]
    }
}

/// The current assignment once more, waiting for those of its secrets that are not sealed to the key
/// that the node has now.
fn unopened(ledger: &Ledger, current: &Accepted) -> Option<Pending> {
    let (contents, closed): (Contents, Contents) = current
        .contents
        .iter()
        .map(|(content, bytes)| (*content, Arc::clone(bytes)))
        .partition(|(content, bytes)| ledger.opens(*content, bytes));
    let missing: BTreeSet<Part> = closed.into_keys().map(Part::Content).collect();
    (!missing.is_empty()).then(|| Pending {
        signed: current.signed.clone(),
        assignment: current.assignment.clone(),
        specs: current.specs.clone(),
        contents,
        missing,
    })
}
