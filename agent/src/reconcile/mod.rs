//! Reconcile: wanted + observed + now → a bounded list of actions, and how every instance fares.
//!
//! Deciding code: no clock, no I/O, no chance. In: what the assignment wants ([`Wanted`]), what the
//! runtime and the image store have told ([`Observed`]) and the time as milliseconds of a clock that
//! never goes back. Out: a [`Decision`]. The caller does the actions, marks each with
//! [`Observed::apply`], and asks again whenever something happened or `wake_at_ms` has come; it gets
//! an empty list when there is nothing to do.
//!
//! The rules:
//! - A running container of the wanted spec is kept, whoever started it.
//! - A changed spec stops the old container only when the new one could start at once: its image is
//!   there and its dependencies are met. A version that cannot be had costs nobody a running service.
//! - An ended container is started again as its restart policy says: the first time at once, in a
//!   crash loop ever more slowly ([`backoff`]).
//! - `depends_on` orders first starts only, as Compose has it: `service_healthy` counts as started in
//!   this version, and a service that has no instance on this node counts as there.
//! - What nobody wants is stopped, dependants before what they depend on, and then removed.
//! - The newest ended container of a slot stays until its successor runs, so that its output can be
//!   read.

mod backoff;
mod dependencies;
mod observed;
mod slot;

use std::collections::BTreeMap;
use std::sync::Arc;

use limpet_protocol::id::{InstanceId, SpecHash};
use limpet_protocol::phase::Phase;
use limpet_protocol::report::Exit;
use limpet_protocol::spec::{ImageSource, Spec};

use crate::runtime::ContainerId;

pub use observed::{Attempts, Container, ImageKey, ImageState, Life, Observed};

/// Actions of one decision. The rest comes with the next, which the caller asks for at once; so one
/// turn of the loop stays short with any assignment.
pub const MAX_ACTIONS: usize = 64;

/// What one instance shall be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedInstance {
    /// The hash of its spec.
    pub spec_hash: SpecHash,
    /// Its spec.
    pub spec: Arc<Spec>,
}

/// What the node shall run: every instance that the assignment names.
pub type Wanted = BTreeMap<InstanceId, WantedInstance>;

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Have an image ready; answered by [`Observed::image_ready`] or [`Observed::image_failed`].
    PrepareImage(ImageSource),
    /// Make and start a container.
    Start {
        /// Its name.
        id: ContainerId,
        /// The hash of its spec.
        spec_hash: SpecHash,
        /// Its spec.
        spec: Arc<Spec>,
    },
    /// Stop a container.
    Stop {
        /// Which.
        id: ContainerId,
        /// What it was made of, where that is still known.
        spec: Option<Arc<Spec>>,
    },
    /// Remove what an ended container left.
    Remove {
        /// Which.
        id: ContainerId,
    },
}

/// How one instance fares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Which.
    pub instance: InstanceId,
    /// Which try in its slot.
    pub attempt: u32,
    /// Which spec that try is of.
    pub spec: SpecHash,
    /// How far it has come.
    pub phase: Phase,
    /// Why it is there and not further.
    pub reason: Option<String>,
    /// How the last try ended.
    pub last_exit: Option<Exit>,
}

/// What [`reconcile`] decided.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// What to do now: stops and removals first, then images, then starts.
    pub actions: Vec<Action>,
    /// How every instance fares, in the order of their names.
    pub statuses: Vec<Status>,
    /// Starts that have to wait because the tries before did not last.
    pub put_off: Vec<PutOff>,
    /// When to ask again though nothing happened.
    pub wake_at_ms: Option<u64>,
}

/// A start that has to wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutOff {
    /// The try before it.
    pub ended: ContainerId,
    /// How that ended, in words.
    pub how: String,
    /// How long the pause between the tries is.
    pub pause_ms: u64,
    /// How many tries in a row did not last.
    pub short_runs: u32,
}

/// Decides what to do.
#[must_use]
pub fn reconcile(wanted: &Wanted, observed: &Observed, now_ms: u64) -> Decision {
    let mut plan = Plan { now_ms, ..Plan::default() };
    for (instance, want) in wanted {
        slot::wanted(&mut plan, slot::Scene { wanted, observed, instance }, want);
    }
    slot::unwanted(&mut plan, wanted, observed);
    plan.finish()
}

/// A decision while it is made.
#[derive(Debug, Default)]
struct Plan {
    now_ms: u64,
    stops: Vec<Action>,
    images: Vec<Action>,
    starts: Vec<Action>,
    statuses: Vec<Status>,
    put_off: Vec<PutOff>,
    wake_at_ms: Option<u64>,
}

impl Plan {
    fn wake(&mut self, at_ms: u64) {
        self.wake_at_ms = Some(self.wake_at_ms.map_or(at_ms, |earlier| earlier.min(at_ms)));
    }

    fn prepare(&mut self, image: &ImageSource) {
        let action = Action::PrepareImage(image.clone());
        if !self.images.contains(&action) {
            self.images.push(action);
        }
    }

    fn finish(self) -> Decision {
        let Self { now_ms, stops, images, starts, mut statuses, put_off, mut wake_at_ms } = self;
        let mut actions: Vec<Action> = stops.into_iter().chain(images).chain(starts).collect();
        if actions.len() > MAX_ACTIONS {
            actions.truncate(MAX_ACTIONS);
            wake_at_ms = Some(now_ms);
        }
        statuses.sort_by(|a, b| a.instance.cmp(&b.instance));
        Decision { actions, statuses, put_off, wake_at_ms }
    }
}

#[cfg(test)]
mod tests;
