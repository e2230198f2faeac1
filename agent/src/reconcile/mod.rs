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
//! - Start-first: the new container is started beside the old one, which is stopped when the new one
//!   does well. Until then the old one runs on, whatever becomes of the new one; if the old spec is
//!   wanted again, its container was never stopped.
//! - An ended container is started again as its restart policy says ([`tries`]): the first time at
//!   once, in a crash loop ever more slowly ([`backoff`]).
//! - An unhealthy container ([`crate::health`]) is stopped; that counts as a failure, and the restart
//!   policy says what follows.
//! - `depends_on` orders first starts only, as Compose has it; of a service that has no instance on
//!   this node the controller says when its condition holds.
//! - Runs of a schedule begin when their gate opens ([`crate::schedule`]); in between the slot rests.
//! - A slot that has done its work for good is never started again.
//! - The images of what comes next and of services that rest are had ready once nothing else needs one.
//! - What nobody wants is stopped, dependants before what they depend on, and then removed.
//! - The newest ended container of a slot stays until its successor runs, so that its output can be
//!   read.

mod backoff;
mod container;
mod dependencies;
mod images;
mod observed;
mod schedule;
mod slot;
mod status;
mod tries;

use std::collections::BTreeMap;
use std::sync::Arc;

use limpet_protocol::assignment::UpdateOrder;
use limpet_protocol::id::{InstanceId, ServiceName, SpecHash};
use limpet_protocol::phase::Phase;
use limpet_protocol::report::{Exit, Health, NoImage};
use limpet_protocol::spec::{ImageSource, ProbeAction, Spec};

use crate::health::Kind;
use crate::runtime::ContainerId;

pub use container::{Container, Life};
pub use images::{ImageKey, ImageState};
pub use observed::{Attempts, Observed, Past};

/// Actions of one decision. The rest comes with the next, which the caller asks for at once; so one
/// turn of the loop stays short with any assignment.
pub const MAX_ACTIONS: usize = 64;
/// Checks that are being made at a time, slow ones not counted.
pub const MAX_CHECKS: usize = 16;
/// A check that takes longer gives its place to others: it may hang until its time-out, which is as
/// long as a service likes.
pub const SLOW_CHECK_MS: u64 = 1_000;
/// So many slow checks take no place: half of what the keeper executes at a time, the rest is for
/// those that are quick and for people.
pub const MAX_SLOW_CHECKS: usize = crate::runtime::exec::MAX_EXECS / 2;

/// What one instance shall be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedInstance {
    /// The hash of its spec.
    pub spec_hash: SpecHash,
    /// Its spec.
    pub spec: Arc<Spec>,
    /// Which goes first when its container is replaced.
    pub order: UpdateOrder,
    /// It has completed for good.
    pub done: bool,
    /// The spec that comes next, whose image is to be had ready.
    pub next: Option<(SpecHash, Arc<Spec>)>,
    /// Services that it depends on whose condition holds on other nodes; none where nobody says.
    pub met: Option<Vec<ServiceName>>,
}

impl WantedInstance {
    /// An instance of a spec, and no more.
    #[must_use]
    pub const fn new(spec_hash: SpecHash, spec: Arc<Spec>) -> Self {
        let order = UpdateOrder::StopFirst;
        Self { spec_hash, spec, order, done: false, next: None, met: Some(Vec::new()) }
    }
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
        /// Whether it begins a new record of tries: a restart does not.
        first: bool,
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
    /// Check a running container; answered by [`Observed::checked`].
    Check {
        /// Which.
        id: ContainerId,
        /// Which of its checks.
        kind: Kind,
        /// What is done.
        action: ProbeAction,
        /// How long it may take.
        timeout_ms: u64,
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
    /// What its checks say of its health.
    pub health: Option<Health>,
    /// Whether it may get traffic; none is: as soon as it runs.
    pub ready: Option<bool>,
    /// How many tries of this spec went wrong.
    pub failures: u32,
}

/// What [`reconcile`] decided.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// What to do now: stops and removals first, then images, then starts, then checks.
    pub actions: Vec<Action>,
    /// How every instance fares, in the order of their names.
    pub statuses: Vec<Status>,
    /// Starts that have to wait because the tries before did not last.
    pub put_off: Vec<PutOff>,
    /// Specs that come next and whose images are there.
    pub staged: Vec<SpecHash>,
    /// Specs whose images could not be had so far, in the order of their names.
    pub no_image: Vec<NoImage>,
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
    plan.stage(wanted, observed);
    plan.no_image = observed.without_image(wanted);
    plan.finish(observed)
}

/// A decision while it is made.
#[derive(Debug, Default)]
struct Plan {
    now_ms: u64,
    stops: Vec<Action>,
    images: Vec<Action>,
    starts: Vec<Action>,
    checks: Vec<(u64, Action)>,
    statuses: Vec<Status>,
    put_off: Vec<PutOff>,
    staged: Vec<SpecHash>,
    no_image: Vec<NoImage>,
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

    /// Has the images of what comes next and of what rests ready, one at a time and only while nothing that
    /// is to run waits for one.
    fn stage(&mut self, wanted: &Wanted, observed: &Observed) {
        let later: BTreeMap<_, _> = observed.later(wanted).collect();
        for (hash, spec) in later {
            if matches!(observed.image(&spec.image), Some(ImageState::Ready { .. })) {
                self.staged.push(hash);
                continue;
            }
            if !self.images.is_empty() || observed.is_preparing() {
                continue;
            }
            match observed.image(&spec.image) {
                Some(ImageState::Failed { retry_at_ms, .. }) if *retry_at_ms > self.now_ms => {
                    self.wake(*retry_at_ms);
                }
                _ => self.prepare(&spec.image),
            }
        }
    }

    /// Leaves as many checks as have places now, those that have waited the longest before others:
    /// none waits for ever.
    fn bound_checks(&mut self, observed: &Observed) {
        let slow_at = |since: u64| since.saturating_add(SLOW_CHECK_MS);
        let (slow, quick): (Vec<u64>, Vec<u64>) =
            observed.checks_being_made().map(slow_at).partition(|at| *at <= self.now_ms);
        let taken = quick.len().saturating_add(slow.len().saturating_sub(MAX_SLOW_CHECKS));
        let places = MAX_CHECKS.saturating_sub(taken);
        self.checks.sort_by_key(|(due_ms, _)| *due_ms);
        if self.checks.len() > places {
            self.checks.truncate(places);
            if slow.len() < MAX_SLOW_CHECKS
                && let Some(at) = quick.into_iter().min()
            {
                self.wake(at);
            }
        }
    }

    fn finish(mut self, observed: &Observed) -> Decision {
        self.bound_checks(observed);
        let Self { now_ms, stops, images, starts, checks, .. } = self;
        let Self { mut statuses, put_off, staged, no_image, mut wake_at_ms, .. } = self;
        let checks = checks.into_iter().map(|(_, check)| check);
        let mut actions: Vec<Action> =
            stops.into_iter().chain(images).chain(starts).chain(checks).collect();
        if actions.len() > MAX_ACTIONS {
            actions.truncate(MAX_ACTIONS);
            wake_at_ms = Some(now_ms);
        }
        statuses.sort_by(|a, b| a.instance.cmp(&b.instance));
        Decision { actions, statuses, put_off, staged, no_image, wake_at_ms }
    }
}

#[cfg(test)]
mod tests;
