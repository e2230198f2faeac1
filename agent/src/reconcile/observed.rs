//! What the node has: containers by slot, images, and how often each slot was tried.
//!
//! In: what the runtime and the image store tell, each as one method with the time it was told.
//! Out: state that [`super::reconcile`] reads. Transitions only; no decision is made here.

use std::collections::BTreeMap;
use std::sync::Arc;

use limpet_protocol::id::{InstanceId, SpecHash};
use limpet_protocol::limits::MAX_INSTANCES_PER_NODE;
use limpet_protocol::report::Exit;
use limpet_protocol::spec::{PullPolicy, RestartPolicy, Spec};
use serde::{Deserialize, Serialize};

use super::Action;
use super::container::{Container, Life};
use super::images::{ImageKey, ImageState};
use super::tries::Tries;
use crate::health::rules::{need_image, rules};
use crate::health::{Checks, Kind, Outcome};
use crate::image::ImageCheck;
use crate::runtime::{ContainerId, ContainerState, ContainerStatus};
use crate::schedule::Gate;

/// Attempt numbers remembered for slots that are gone; past it the oldest knowledge is folded into
/// one floor under all numbers.
const MAX_ATTEMPTS_KEPT: usize = 4 * MAX_INSTANCES_PER_NODE;

/// The containers of one instance, the oldest first, and how its tries went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) containers: Vec<Container>,
    /// How the tries of its newest spec went.
    pub(super) tries: Tries,
    /// How the newest try that ended did so; it outlives the container.
    pub(super) last_exit: Option<Exit>,
    /// The newest try that was seen to end, and when.
    ended: Option<(u32, u64)>,
    /// How many `post_start` hooks of a try have been done.
    hooks: Option<(u32, u8)>,
}

impl Slot {
    fn get_mut(&mut self, attempt: u32) -> Option<&mut Container> {
        self.containers.iter_mut().find(|container| container.attempt == attempt)
    }
}

/// The last attempt of every slot, also of those that are gone: no number is used twice in a boot.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempts {
    /// No slot begins below this.
    #[serde(default)]
    floor: u32,
    #[serde(default)]
    last: BTreeMap<String, u32>,
}

impl Attempts {
    /// The number of the next try.
    #[must_use]
    pub fn next(&self, instance: &InstanceId) -> u32 {
        self.last.get(&instance.to_string()).copied().unwrap_or(self.floor).saturating_add(1)
    }

    fn used(&mut self, id: &ContainerId) {
        let last = self.last.entry(id.instance.to_string()).or_default();
        *last = id.attempt.max(*last);
        while self.last.len() > MAX_ATTEMPTS_KEPT {
            if let Some((_, attempt)) = self.last.pop_first() {
                self.floor = self.floor.max(attempt);
            }
        }
    }
}

/// How the tries of slots went, of those that were tried more than once: without it a restart of the
/// agent would forget that a restart policy is exhausted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Past(BTreeMap<String, PastOfSlot>);

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct PastOfSlot {
    tries: Tries,
    ended: Option<(u32, u64)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hooks: Option<(u32, u8)>,
}

/// Everything the node has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    pub(super) slots: BTreeMap<InstanceId, Slot>,
    pub(super) images: BTreeMap<ImageKey, ImageState>,
    attempts: Attempts,
    /// Of the instances that have a schedule: whether a run may begin.
    gates: BTreeMap<InstanceId, Gate>,
    lacks_addresses: bool,
    /// Services of the node that have no instance on it just now.
    resting: BTreeMap<SpecHash, Arc<Spec>>,
}

impl Observed {
    /// Nothing yet, but the attempt numbers of an earlier run of the agent and how its tries went.
    #[must_use]
    pub fn new(attempts: Attempts, past: Past) -> Self {
        let slot = |(instance, PastOfSlot { tries, ended, hooks }): (String, PastOfSlot)| {
            Some((instance.parse().ok()?, Slot { tries, ended, hooks, ..Slot::default() }))
        };
        let slots = past.0.into_iter().filter_map(slot).collect();
        Self { slots, attempts, ..Self::default() }
    }

    /// How the tries of slots went, to be kept for the next run of the agent.
    #[must_use]
    pub fn past(&self) -> Past {
        let is_worth_keeping = |slot: &Slot| slot.tries.is_worth_keeping() || slot.hooks.is_some();
        let tried = self.slots.iter().filter(|(_, slot)| is_worth_keeping(slot));
        let past = |slot: &Slot| PastOfSlot {
            tries: slot.tries.clone(),
            ended: slot.ended,
            hooks: slot.hooks,
        };
        Past(tried.map(|(instance, slot)| (instance.to_string(), past(slot))).collect())
    }

    /// The attempt numbers, to be kept for the next run of the agent.
    #[must_use]
    pub fn attempts(&self) -> &Attempts {
        &self.attempts
    }

    /// One container.
    #[must_use]
    pub fn container(&self, id: &ContainerId) -> Option<&Container> {
        let slot = self.slots.get(&id.instance)?;
        slot.containers.iter().find(|container| container.attempt == id.attempt)
    }

    /// The newest container of an instance: the one whose output a person means.
    #[must_use]
    pub fn newest(&self, instance: &InstanceId) -> Option<ContainerId> {
        let newest = self.slots.get(instance)?.containers.last()?;
        Some(ContainerId { instance: instance.clone(), attempt: newest.attempt })
    }

    /// Whether a run of an instance with a schedule may begin.
    pub(super) fn gate(&self, instance: &InstanceId) -> Option<&Gate> {
        self.gates.get(instance)
    }

    /// Whether containers cannot have networks yet.
    pub(super) const fn lacks_addresses(&self) -> bool {
        self.lacks_addresses
    }

    /// The node has no addresses for networks yet, or has them now.
    pub const fn set_lacks_addresses(&mut self, lacks: bool) {
        self.lacks_addresses = lacks;
    }

    /// Specs of services that may get an instance here at any time and have none.
    pub(super) const fn resting(&self) -> &BTreeMap<SpecHash, Arc<Spec>> {
        &self.resting
    }

    /// Which services rest now: their images are had ready, so that nobody is needed when one wakes.
    pub fn set_resting(&mut self, resting: BTreeMap<SpecHash, Arc<Spec>>) {
        self.resting = resting;
    }

    /// The gates as they are now.
    pub fn set_gates(&mut self, gates: BTreeMap<InstanceId, Gate>) {
        self.gates = gates;
    }

    /// Whether a container of an instance is being made, runs or is being stopped.
    #[must_use]
    pub fn goes_on(&self, instance: &InstanceId) -> bool {
        self.slots.get(instance).is_some_and(|slot| slot.containers.iter().any(Container::is_live))
    }

    /// Whether there is no container at all, not even an ended one.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.values().all(|slot| slot.containers.is_empty())
    }

    /// Whether an instance has a container of this spec that is being made or runs.
    #[must_use]
    pub fn has_live(&self, instance: &InstanceId, spec: &SpecHash) -> bool {
        let containers = self.slots.get(instance).into_iter().flat_map(|slot| &slot.containers);
        containers.into_iter().any(|it| it.is_live() && !it.stopping && it.spec_hash == *spec)
    }

    /// Since when each check is being made that is.
    pub(super) fn checks_being_made(&self) -> impl Iterator<Item = u64> {
        let containers = self.slots.values().flat_map(|slot| &slot.containers);
        containers.filter_map(|container| container.checks.as_ref()).flat_map(Checks::busy)
    }

    /// Marks an action as begun, so that it is not decided again.
    pub fn apply(&mut self, action: &Action, now_ms: u64) {
        match action {
            Action::PrepareImage(image) => self.image_asked(image),
            Action::Start { id, spec_hash, spec, first } => {
                self.attempts.used(id);
                if let Some(gate) = self.gates.get_mut(&id.instance) {
                    *gate = Gate::Closed { why: "a run has begun".to_owned() };
                }
                let checks = match self.images.get(&ImageKey::from(&spec.image)) {
                    Some(ImageState::Ready { check }) => {
                        checks_of(id, spec, Some(check.as_deref()))
                    }
                    _ => checks_of(id, spec, None),
                };
                let slot = self.slots.entry(id.instance.clone()).or_default();
                slot.tries.start(*spec_hash, *first, now_ms);
                slot.containers.push(Container {
                    attempt: id.attempt,
                    spec_hash: *spec_hash,
                    spec: Some(spec.clone()),
                    life: Life::Creating,
                    ran: false,
                    pid: None,
                    begun_ms: now_ms,
                    stopping: false,
                    stop_signal: None,
                    removing: false,
                    checks,
                    unhealthy: None,
                });
                // Such an image is asked for at every creation.
                if spec.image.pull == PullPolicy::Always {
                    self.images.remove(&ImageKey::from(&spec.image));
                }
            }
            Action::Stop { id, .. } => self.change(id, |container| container.stopping = true),
            Action::Remove { id } => self.change(id, |container| container.removing = true),
            Action::Check { id, kind, .. } => {
                self.change_checks(id, |checks| checks.begun(*kind, now_ms));
            }
        }
    }

    /// What was asked for could not be passed on: it is decided again after the next snapshot.
    pub fn unapply(&mut self, action: &Action) {
        match action {
            Action::PrepareImage(image) => {
                self.images.remove(&ImageKey::from(image));
            }
            Action::Start { id, .. } => self.removed(id),
            Action::Stop { id, .. } => self.change(id, |container| container.stopping = false),
            Action::Remove { id } => self.change(id, |container| container.removing = false),
            Action::Check { id, kind, .. } => {
                self.change_checks(id, |checks| checks.not_begun(*kind));
            }
        }
    }

    /// The signal that will end a container that was begun.
    pub fn ends_by(&mut self, id: &ContainerId, signal: i32) {
        self.change(id, |container| container.stop_signal = Some(signal));
    }

    /// A container's process was started.
    pub fn started(&mut self, id: &ContainerId, pid: u32, now_ms: u64) {
        self.change(id, |container| {
            if container.is_live() {
                (container.life, container.ran) = (Life::Running, true);
                container.pid = Some(pid);
                if let Some(checks) = &mut container.checks {
                    checks.begin(now_ms, None);
                }
            }
        });
    }

    /// A check of a container that began then has ended now.
    pub fn checked(
        &mut self,
        id: &ContainerId,
        kind: Kind,
        outcome: &Outcome,
        (begun_ms, now_ms): (u64, u64),
    ) {
        self.change(id, |container| {
            let Some(checks) = container.checks.as_mut() else { return };
            checks.ended(kind, outcome, (begun_ms, now_ms));
            if container.life != Life::Running || checks.failed().is_none() {
                return;
            }
            if let (Outcome::Failed(said), None) = (outcome, &container.unhealthy) {
                container.unhealthy = Some(format!("its {} failed: {said}", kind.as_str()));
            }
        });
        if let (Kind::PostStart(_), Some(slot)) = (kind, self.slots.get_mut(&id.instance)) {
            let checks = slot.get_mut(id.attempt).and_then(|it| it.checks.as_ref());
            slot.hooks = checks.map(|checks| (id.attempt, checks.hooks_done())).or(slot.hooks);
        }
    }

    /// A container ended.
    pub fn exited(&mut self, id: &ContainerId, exit: Exit, now_ms: u64) {
        self.change(id, |container| container.ran = true);
        self.ended(id, Life::Ended { at_ms: now_ms, exit: Some(exit), failure: None }, now_ms);
    }

    /// A container could not be made.
    pub fn create_failed(&mut self, id: &ContainerId, reason: &str, now_ms: u64) {
        let failure = Some(reason.to_owned());
        self.ended(id, Life::Ended { at_ms: now_ms, exit: None, failure }, now_ms);
    }

    fn ended(&mut self, id: &ContainerId, life: Life, now_ms: u64) {
        let Some(slot) = self.slots.get_mut(&id.instance) else { return };
        let Some(container) = slot.get_mut(id.attempt) else { return };
        if !container.is_live() {
            return;
        }
        (container.life, container.pid) = (life, None);
        if !container.stopping {
            // It went before it was stopped for that: its own end says more.
            container.unhealthy = None;
        }
        let ran_ms = now_ms.saturating_sub(container.begun_ms);
        let (hash, spec) = (container.spec_hash, container.spec.clone());
        let succeeded = container.succeeded();
        // What was told to stop did not fail, unless that was why.
        let counts = !container.stopping || container.unhealthy.is_some();
        slot.last_exit = container.exit();
        slot.ended = Some((id.attempt, now_ms));
        if counts {
            let default = RestartPolicy::default();
            let policy = spec.as_ref().map_or(&default, |spec| &spec.restart);
            slot.tries.end(hash, (ran_ms, succeeded), policy);
        }
    }

    /// Nothing is left of a container.
    pub fn removed(&mut self, id: &ContainerId) {
        if let Some(slot) = self.slots.get_mut(&id.instance) {
            slot.containers.retain(|container| container.attempt != id.attempt);
        }
    }

    /// Everything that the runtime has: what was believed of containers before is void, only the
    /// record of each slot's tries stays. `now_wall_ms` is the clock of [`ContainerState::started_ms`].
    pub fn snapshot(&mut self, states: &[ContainerState], now_ms: u64, now_wall_ms: u64) {
        let before = self.slots.clone();
        for slot in self.slots.values_mut() {
            slot.containers.clear();
        }
        for state in states {
            let known = before
                .get(&state.id.instance)
                .and_then(|slot| slot.containers.iter().find(|c| c.attempt == state.id.attempt))
                .filter(|known| known.spec_hash == state.spec_hash);
            let began = now_ms.saturating_sub(now_wall_ms.saturating_sub(state.started_ms));
            self.attempts.used(&state.id);
            let slot = self.slots.entry(state.id.instance.clone()).or_default();
            let seen = slot.ended.filter(|(attempt, _)| *attempt == state.id.attempt);
            let container = adopt(state, known, seen.map_or(now_ms, |(_, at)| at), began);
            slot.last_exit = container.exit().or(slot.last_exit);
            slot.containers.push(container);
            slot.containers.sort_by_key(|container| container.attempt);
            // It was alive when last heard of, so this end is news and counts.
            if let (ContainerStatus::Exited(exit), Some(true)) =
                (&state.status, known.map(Container::is_live))
            {
                self.exited(&state.id, *exit, now_ms);
            }
        }
    }

    /// Gives containers that an earlier run of the agent made their specs back.
    pub fn learn_specs(&mut self, find: impl Fn(&SpecHash) -> Option<Arc<Spec>>) {
        for container in self.slots.values_mut().flat_map(|slot| &mut slot.containers) {
            if container.spec.is_none() {
                container.spec = find(&container.spec_hash);
            }
        }
    }

    /// Begins the checks of containers that were found running, now that their specs are known; those
    /// that the image has a say in begin when it is there.
    pub fn begin_checks(&mut self, now_ms: u64) {
        for (instance, slot) in &mut self.slots {
            let unchecked = |c: &&mut Container| c.checks.is_none() && c.life == Life::Running;
            for container in slot.containers.iter_mut().filter(unchecked) {
                let Some(spec) = &container.spec else { continue };
                let id = ContainerId { instance: instance.clone(), attempt: container.attempt };
                let image = match self.images.get(&ImageKey::from(&spec.image)) {
                    Some(ImageState::Ready { check }) => Some(check.as_deref()),
                    _ => None,
                };
                container.checks = checks_of(&id, spec, image);
                if let Some(checks) = &mut container.checks {
                    let done = slot.hooks.filter(|(attempt, _)| *attempt == container.attempt);
                    checks.skip_hooks(done.map_or(0, |(_, done)| done));
                    checks.begin(container.begun_ms, Some(now_ms));
                }
            }
        }
    }

    fn change_checks(&mut self, id: &ContainerId, change: impl FnOnce(&mut Checks)) {
        self.change(id, |container| {
            if let Some(checks) = &mut container.checks {
                change(checks);
            }
        });
    }

    fn change(&mut self, id: &ContainerId, change: impl FnOnce(&mut Container)) {
        if let Some(slot) = self.slots.get_mut(&id.instance)
            && let Some(container) = slot.get_mut(id.attempt)
        {
            change(container);
        }
    }
}

fn adopt(
    state: &ContainerState,
    known: Option<&Container>,
    ended_ms: u64,
    began_ms: u64,
) -> Container {
    let life = match state.status {
        ContainerStatus::Creating => Life::Creating,
        ContainerStatus::Running { .. } => Life::Running,
        ContainerStatus::Exited(exit) => match known {
            // The caller counts its end, or its end was seen before and keeps its time and reason.
            Some(known) => known.life.clone(),
            None => Life::Ended { at_ms: ended_ms, exit: Some(exit), failure: None },
        },
    };
    Container {
        attempt: state.id.attempt,
        spec_hash: state.spec_hash,
        spec: known.and_then(|known| known.spec.clone()),
        ran: !matches!(life, Life::Creating),
        pid: match state.status {
            ContainerStatus::Running { pid } => Some(pid),
            _ => None,
        },
        life,
        begun_ms: known.map_or(began_ms, |known| known.begun_ms),
        // A stop goes on without the agent; asking again does no harm.
        stopping: known.is_some_and(|known| known.stopping),
        stop_signal: state.stop_signal.or(known.and_then(|known| known.stop_signal)),
        removing: false,
        checks: known.and_then(|known| known.checks.clone()),
        unhealthy: known.and_then(|known| known.unhealthy.clone()),
    }
}

/// The checks of a container; none while they cannot be known. `image` is what the image says, if that
/// is known.
fn checks_of(id: &ContainerId, spec: &Spec, image: Option<Option<&ImageCheck>>) -> Option<Checks> {
    if need_image(spec) && image.is_none() {
        return None;
    }
    Some(Checks::new(rules(spec, image.flatten()), seed(id)))
}

/// A number that is far from that of another container (FNV-1a over its name).
fn seed(id: &ContainerId) -> u64 {
    let name = id.to_string();
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    // Names differ in their last letters, which have not reached the upper bits yet.
    hash.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}
