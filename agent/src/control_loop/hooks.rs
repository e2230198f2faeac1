//! `pre_stop`: commands in a container before it is told to stop.
//!
//! In: a stop that was decided, ends of hooks. Out: the hooks one after the other, then the stop, at the
//! latest when the grace period is over: a hook that hangs, or that cannot be begun, holds up nothing
//! longer. Kubernetes counts the grace period so (pod lifecycle, hook handler execution). What a
//! restarted agent finds running and is to stop goes through its hooks again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use limpet_protocol::event::EventKind;
use limpet_protocol::spec::{Hook, Spec};

use super::{ControlLoop, Images, Job};
use crate::health::Outcome;
use crate::probe::command::watch;
use crate::reconcile::{Action, Container, Life};
use crate::report::bounded;
use crate::runtime::{ContainerId, Runtime};

/// What is left for the stop itself when the hooks have used the whole grace period, as Kubernetes
/// has it (`minimumGracePeriodInSeconds`).
const LEAST_GRACE_MS: u64 = 2_000;

/// Containers whose hooks were begun, and when each is told to stop at the latest.
pub(super) type Leaving = BTreeMap<ContainerId, u64>;

impl<R: Runtime, I: Images> ControlLoop<R, I> {
    /// Begins the hooks before a stop. Whether there are any: then the stop comes after them.
    pub(super) fn leave(&mut self, action: &Action, id: &ContainerId, spec: Option<&Spec>) -> bool {
        let observed = &self.observed;
        self.leaving.retain(|id, _| observed.container(id).is_some_and(Container::is_live));
        let Some(spec) = spec.filter(|spec| !spec.hooks.pre_stop.is_empty()) else { return false };
        let runs = observed.container(id).is_some_and(|it| it.life == Life::Running);
        if !runs || self.leaving.contains_key(id) {
            return false;
        }
        let now_ms = self.clock.now_ms();
        self.leaving.insert(id.clone(), now_ms.saturating_add(spec.stop.grace_period_ms));
        self.observed.apply(action, now_ms);
        self.next_hook(id, 0);
        true
    }

    /// Begins a hook, or stops the container when there is none left.
    fn next_hook(&mut self, id: &ContainerId, index: usize) {
        let Some(spec) = self.spec_of_live(id) else { return };
        let left_ms = self.left_ms(id);
        let Some(hook) = spec.hooks.pre_stop.get(index).filter(|_| left_ms > 0) else {
            return self.stop_after_hooks(id, &spec);
        };
        let left = Duration::from_millis(left_ms);
        match self.begin_command(id, hook, (left, left)) {
            Ok((output, ended)) => {
                let id = id.clone();
                self.jobs.spawn(async move {
                    Job::HookEnded { outcome: watch(output, ended).await, id, index }
                });
            }
            Err(error) => {
                self.tell_hook(id, &error.to_string());
                self.stop_after_hooks(id, &spec);
            }
        }
    }

    /// A hook has ended: the next one, unless it failed.
    pub(super) fn hook_ended(&mut self, id: &ContainerId, index: usize, outcome: Outcome) {
        let Some(spec) = self.spec_of_live(id) else { return };
        match outcome {
            Outcome::Passed => self.next_hook(id, index.saturating_add(1)),
            Outcome::Failed(said) | Outcome::NotMade(said) => {
                self.tell_hook(id, &bounded(said));
                self.stop_after_hooks(id, &spec);
            }
        }
    }

    fn tell_hook(&mut self, id: &ContainerId, said: &str) {
        let what = format!("is stopped though its pre_stop hook failed: {said}");
        self.event_about(id, EventKind::Other, &what);
    }

    fn stop_after_hooks(&mut self, id: &ContainerId, spec: &Arc<Spec>) {
        let grace_ms = self.left_ms(id).max(LEAST_GRACE_MS);
        let stopped = self.runtime.stop(id, self.stop_signal(id, Some(spec)), grace_ms);
        if let Err(error) = stopped {
            // A snapshot will follow, and the stop is decided again.
            tracing::warn!("{error}");
            self.runtime_ready = false;
            self.observed.unapply(&Action::Stop { id: id.clone(), spec: Some(spec.clone()) });
        }
    }

    fn left_ms(&self, id: &ContainerId) -> u64 {
        let until_ms = self.leaving.get(id).copied().unwrap_or_default();
        until_ms.saturating_sub(self.clock.now_ms())
    }

    fn spec_of_live(&self, id: &ContainerId) -> Option<Arc<Spec>> {
        let container = self.observed.container(id).filter(|container| container.is_live())?;
        container.spec.clone()
    }

    /// The command of a `post_start` hook as it stands in the spec: a check knows only its words.
    pub(super) fn post_start_hook(&self, id: &ContainerId, index: u8) -> Option<Hook> {
        let spec = self.observed.container(id)?.spec.as_ref()?;
        spec.hooks.post_start.get(usize::from(index)).cloned()
    }
}
