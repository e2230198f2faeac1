//! What the node has: containers by slot, images, and how often each slot was tried.
//!
//! In: what the runtime and the image store tell, each as one method with the time it was told.
//! Out: state that [`super::reconcile`] reads. Transitions only; no decision is made here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use limpet_protocol::id::{InstanceId, SpecHash};
use limpet_protocol::limits::MAX_INSTANCES_PER_NODE;
use limpet_protocol::report::Exit;
use limpet_protocol::spec::{ImageSource, PullPolicy, RestartPolicy, Spec};
use serde::{Deserialize, Serialize};

use super::{Action, Wanted, backoff};
use crate::runtime::{ContainerId, ContainerState, ContainerStatus};

/// Attempt numbers remembered for slots that are gone; past it the oldest knowledge is folded into
/// one floor under all numbers.
const MAX_ATTEMPTS_KEPT: usize = 4 * MAX_INSTANCES_PER_NODE;

/// How far one container has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Life {
    /// It is being made.
    Creating,
    /// It runs.
    Running,
    /// It ended.
    Ended {
        /// When.
        at_ms: u64,
        /// How; none if it could not be made.
        exit: Option<Exit>,
        /// Why it could not be made.
        failure: Option<String>,
    },
}

/// One container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// Which try in its slot.
    pub attempt: u32,
    /// What it was made of.
    pub spec_hash: SpecHash,
    /// The same, where the agent still has it.
    pub spec: Option<Arc<Spec>>,
    /// How far it has come.
    pub life: Life,
    /// Whether its process was ever started.
    pub ran: bool,
    /// When it was asked for.
    pub begun_ms: u64,
    /// It was told to stop.
    pub stopping: bool,
    /// The signal that ends it, where that was told.
    pub stop_signal: Option<i32>,
    /// Its removal was asked for.
    pub removing: bool,
}

impl Container {
    /// Whether it is being made or runs.
    #[must_use]
    pub fn is_live(&self) -> bool {
        !matches!(self.life, Life::Ended { .. })
    }

    /// How it ended, if it ended by itself or by a stop.
    #[must_use]
    pub fn exit(&self) -> Option<Exit> {
        match self.life {
            Life::Ended { exit, .. } => exit,
            _ => None,
        }
    }

    /// How it ended, in words.
    #[must_use]
    pub fn how_it_ended(&self) -> String {
        let Life::Ended { exit, failure, .. } = &self.life else {
            return "has not ended".to_owned();
        };
        match (failure, exit) {
            (Some(failure), _) => format!("could not be made: {failure}"),
            (None, Some(Exit { out_of_memory: true, code })) if *code != Some(0) => {
                "was ended by the kernel: it used more memory than its limit".to_owned()
            }
            (None, Some(Exit { code: Some(code), .. })) => format!("ended with exit code {code}"),
            (None, _) => "ended while nobody watched; its exit code is lost".to_owned(),
        }
    }
}

/// The containers of one instance, the oldest first, and how its tries went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) containers: Vec<Container>,
    /// Tries in a row of [`Slot::counted`] that did not last its window.
    pub(super) short_runs: u32,
    /// The spec that the tries are counted for: a new one starts with a clean record.
    pub(super) counted: Option<SpecHash>,
    /// How the newest try that ended did so; it outlives the container.
    pub(super) last_exit: Option<Exit>,
}

impl Slot {
    fn get_mut(&mut self, attempt: u32) -> Option<&mut Container> {
        self.containers.iter_mut().find(|container| container.attempt == attempt)
    }
}

/// An image among others: two services with equal sources share it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageKey(String);

impl From<&ImageSource> for ImageKey {
    fn from(image: &ImageSource) -> Self {
        Self(format!("{image:?}"))
    }
}

/// How far an image is. One that was never asked for is in no state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageState {
    /// It was asked for.
    Preparing {
        /// What went wrong before, if something did.
        trouble: Option<ImageTrouble>,
    },
    /// It is there.
    Ready,
    /// It could not be had.
    Failed {
        /// What went wrong.
        trouble: ImageTrouble,
        /// When it is asked for again.
        retry_at_ms: u64,
    },
}

/// Why an image could not be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageTrouble {
    /// The last reason.
    pub reason: String,
    /// How often in a row.
    pub failures: u32,
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

/// Everything the node has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    pub(super) slots: BTreeMap<InstanceId, Slot>,
    pub(super) images: BTreeMap<ImageKey, ImageState>,
    attempts: Attempts,
}

impl Observed {
    /// Nothing yet, but the attempt numbers of an earlier run of the agent.
    #[must_use]
    pub fn new(attempts: Attempts) -> Self {
        Self { attempts, ..Self::default() }
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

    /// How an image is.
    #[must_use]
    pub fn image(&self, image: &ImageSource) -> Option<&ImageState> {
        self.images.get(&ImageKey::from(image))
    }

    /// Marks an action as begun, so that it is not decided again.
    pub fn apply(&mut self, action: &Action, now_ms: u64) {
        match action {
            Action::PrepareImage(image) => self.image_asked(image),
            Action::Start { id, spec_hash, spec } => {
                self.attempts.used(id);
                let slot = self.slots.entry(id.instance.clone()).or_default();
                if slot.counted != Some(*spec_hash) {
                    (slot.counted, slot.short_runs) = (Some(*spec_hash), 0);
                }
                slot.containers.push(Container {
                    attempt: id.attempt,
                    spec_hash: *spec_hash,
                    spec: Some(spec.clone()),
                    life: Life::Creating,
                    ran: false,
                    begun_ms: now_ms,
                    stopping: false,
                    stop_signal: None,
                    removing: false,
                });
                // Such an image is asked for at every creation.
                if spec.image.pull == PullPolicy::Always {
                    self.images.remove(&ImageKey::from(&spec.image));
                }
            }
            Action::Stop { id, .. } => self.change(id, |container| container.stopping = true),
            Action::Remove { id } => self.change(id, |container| container.removing = true),
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
        }
    }

    /// The signal that will end a container that was begun.
    pub fn ends_by(&mut self, id: &ContainerId, signal: i32) {
        self.change(id, |container| container.stop_signal = Some(signal));
    }

    /// A container's process was started.
    pub fn started(&mut self, id: &ContainerId) {
        self.change(id, |container| {
            if container.is_live() {
                (container.life, container.ran) = (Life::Running, true);
            }
        });
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
        container.life = life;
        let ran_ms = now_ms.saturating_sub(container.begun_ms);
        let (hash, spec) = (container.spec_hash, container.spec.clone());
        let (exit, stopping) = (container.exit(), container.stopping);
        slot.last_exit = exit;
        // What was told to stop did not fail.
        if stopping {
            return;
        }
        if slot.counted != Some(hash) {
            (slot.counted, slot.short_runs) = (Some(hash), 0);
        }
        let default = RestartPolicy::default();
        let policy = spec.as_ref().map_or(&default, |spec| &spec.restart);
        slot.short_runs = backoff::count_short_runs(slot.short_runs, ran_ms, policy);
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
            let container = adopt(state, known, now_ms, began);
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

    /// An image is there.
    pub fn image_ready(&mut self, image: &ImageSource) {
        self.images.insert(image.into(), ImageState::Ready);
    }

    /// An image could not be had.
    pub fn image_failed(&mut self, image: &ImageSource, reason: &str, now_ms: u64) {
        let before = match self.image(image) {
            Some(ImageState::Preparing { trouble: Some(trouble) }) => trouble.failures,
            _ => 0,
        };
        let trouble =
            ImageTrouble { reason: reason.to_owned(), failures: before.saturating_add(1) };
        let retry_at_ms = now_ms.saturating_add(backoff::image_retry_ms(trouble.failures, now_ms));
        self.images.insert(image.into(), ImageState::Failed { trouble, retry_at_ms });
    }

    fn image_asked(&mut self, image: &ImageSource) {
        let trouble = match self.images.remove(&ImageKey::from(image)) {
            Some(ImageState::Failed { trouble, .. }) => Some(trouble),
            _ => None,
        };
        self.images.insert(image.into(), ImageState::Preparing { trouble });
    }

    /// The images of everything that is wanted or still there; none if that is not known of all.
    #[must_use]
    pub fn images_in_use<'a>(&'a self, wanted: &'a Wanted) -> Option<Vec<&'a ImageSource>> {
        let wanted = wanted.values().map(|want| Some(&want.spec.image));
        let there = self.slots.values().flat_map(|slot| &slot.containers);
        let there = there.map(|container| container.spec.as_ref().map(|spec| &spec.image));
        wanted.chain(there).collect()
    }

    /// Forgets slots with nothing in them and images that nobody wants.
    pub fn forget(&mut self, wanted: &Wanted) {
        self.slots
            .retain(|instance, slot| !slot.containers.is_empty() || wanted.contains_key(instance));
        // The image of what still runs stays.
        let used = self.slots.values().flat_map(|slot| &slot.containers);
        let used = used.filter_map(|container| container.spec.as_ref());
        let keep: BTreeSet<ImageKey> = wanted
            .values()
            .map(|want| &want.spec)
            .chain(used)
            .map(|spec| ImageKey::from(&spec.image))
            .collect();
        self.images.retain(|key, _| keep.contains(key));
    }

    /// Whether anything is known of an image.
    #[must_use]
    pub fn knows_image(&self, key: &ImageKey) -> bool {
        self.images.contains_key(key)
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
    now_ms: u64,
    began_ms: u64,
) -> Container {
    let life = match state.status {
        ContainerStatus::Creating => Life::Creating,
        ContainerStatus::Running { .. } => Life::Running,
        ContainerStatus::Exited(exit) => match known {
            // The caller counts its end, or its end was seen before and keeps its time and reason.
            Some(known) => known.life.clone(),
            None => Life::Ended { at_ms: now_ms, exit: Some(exit), failure: None },
        },
    };
    Container {
        attempt: state.id.attempt,
        spec_hash: state.spec_hash,
        spec: known.and_then(|known| known.spec.clone()),
        ran: !matches!(life, Life::Creating),
        life,
        begun_ms: known.map_or(began_ms, |known| known.begun_ms),
        // A stop goes on without the agent; asking again does no harm.
        stopping: known.is_some_and(|known| known.stopping),
        stop_signal: state.stop_signal.or(known.and_then(|known| known.stop_signal)),
        removing: false,
    }
}
