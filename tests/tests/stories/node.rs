//! A node's half of a story: reconcile, and a runtime in which everything takes a fixed time.

use std::collections::{BTreeMap, BTreeSet};

use limpet_agent::health::{Kind, Outcome};
use limpet_agent::reconcile::{Action, Decision, Observed, Status, Wanted, reconcile};
use limpet_agent::runtime::ContainerId;
use limpet_protocol::id::{InstanceId, SpecHash};
use limpet_protocol::report::{Exit, Health, InstanceStatus, NoImage};
use limpet_protocol::spec::ImageSource;

/// How long things take.
const IMAGE_MS: u64 = 200;
const SLOW_IMAGE_MS: u64 = 60_000;
const START_MS: u64 = 50;
const STOP_MS: u64 = 30;
const CRASH_MS: u64 = 300;
const RUN_MS: u64 = 500;
const CHECK_MS: u64 = 10;
const ILL_AFTER_MS: u64 = 1_000;

/// What comes of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Good,
    Missing,
    Crashes,
    Slow,
    /// It does its work and ends.
    Completes,
    /// Its first attempt in each slot crashes, the others complete.
    Stumbles,
    /// Its first attempt in each slot becomes unhealthy.
    Sickens,
}

impl Fate {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        Ok(match text {
            "good" => Self::Good,
            "missing" => Self::Missing,
            "crashes" => Self::Crashes,
            "slow" => Self::Slow,
            "completes" => Self::Completes,
            "stumbles" => Self::Stumbles,
            "sickens" => Self::Sickens,
            _ => return Err(format!("{text:?} is no fate of an image")),
        })
    }

    /// How long a container runs, and how it then ends; none if it goes on.
    fn end(self, is_first: bool) -> Option<(u64, i32)> {
        match self {
            Self::Crashes => Some((CRASH_MS, 1)),
            Self::Stumbles if is_first => Some((CRASH_MS, 1)),
            Self::Completes | Self::Stumbles => Some((RUN_MS, 0)),
            _ => None,
        }
    }
}

/// What a node says of everything that it runs, and of images.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) instances: BTreeMap<InstanceId, InstanceStatus>,
    pub(crate) staged: BTreeSet<SpecHash>,
    pub(crate) no_image: BTreeMap<SpecHash, NoImage>,
}

/// Something that will have happened.
#[derive(Debug, Clone)]
enum Event {
    Image(ImageSource, bool),
    /// It runs, and will end so, if it will.
    Started(ContainerId, Option<(u64, i32)>),
    Ended(ContainerId, i32),
    /// A check that began then has ended, well or not.
    Checked(ContainerId, Kind, u64, bool),
}

/// See the module.
#[derive(Default)]
pub(crate) struct Node {
    wanted: Wanted,
    observed: Observed,
    coming: BTreeMap<(u64, u64), Event>,
    count: u64,
    /// The first attempt with each image in each slot.
    first: BTreeMap<(InstanceId, String), u32>,
    decision: Decision,
}

impl Node {
    /// What the controller says.
    pub(crate) fn hear(&mut self, wanted: Wanted) {
        self.wanted = wanted;
    }

    /// The spec of an instance, as the controller said last.
    pub(crate) fn told(&self, instance: &InstanceId) -> Option<SpecHash> {
        self.wanted.get(instance).map(|want| want.spec_hash)
    }

    /// When something happens next.
    pub(crate) fn next_ms(&self) -> Option<u64> {
        let coming = self.coming.keys().next().map(|(at, _)| *at);
        coming.into_iter().chain(self.decision.wake_at_ms).min()
    }

    fn later(&mut self, at_ms: u64, event: Event) {
        self.count += 1;
        self.coming.insert((at_ms, self.count), event);
    }

    /// Takes in what happened by now, decides, and does it; what it did, in words.
    pub(crate) fn turn(&mut self, now_ms: u64, fates: &BTreeMap<String, Fate>) -> Vec<String> {
        let mut did = vec![];
        while let Some(entry) = self.coming.first_entry().filter(|entry| entry.key().0 <= now_ms) {
            let event = entry.remove();
            did.extend(self.happens(event, now_ms));
        }
        self.decision = reconcile(&self.wanted, &self.observed, now_ms);
        for action in std::mem::take(&mut self.decision.actions) {
            self.observed.apply(&action, now_ms);
            did.extend(self.act(&action, now_ms, fates));
        }
        did
    }

    fn happens(&mut self, event: Event, now_ms: u64) -> Option<String> {
        match event {
            Event::Image(image, true) => {
                self.observed.image_ready(&image, None);
                Some(format!("has {}", image.reference))
            }
            Event::Image(image, false) => {
                self.observed.image_failed(&image, "no such image", now_ms);
                Some(format!("cannot have {}", image.reference))
            }
            Event::Started(id, end) => {
                self.observed.started(&id, 1, now_ms);
                if let Some((after_ms, code)) = end {
                    self.later(now_ms + after_ms, Event::Ended(id.clone(), code));
                }
                Some(format!("{id} runs"))
            }
            Event::Ended(id, code) => {
                self.observed.exited(&id, Exit { code: Some(code), out_of_memory: false }, now_ms);
                Some(format!("{id} ended with {code}"))
            }
            Event::Checked(id, kind, begun_ms, passed) => {
                let before = self.health_of(&id);
                let outcome =
                    if passed { Outcome::Passed } else { Outcome::Failed("it is ill".to_owned()) };
                self.observed.checked(&id, kind, &outcome, (begun_ms, now_ms));
                let after = self.health_of(&id);
                (before != after).then(|| format!("{id} is {}", after.unwrap_or("unknown")))
            }
        }
    }

    fn health_of(&self, id: &ContainerId) -> Option<&'static str> {
        self.observed.container(id)?.health().map(Health::as_str)
    }

    fn act(
        &mut self,
        action: &Action,
        now_ms: u64,
        fates: &BTreeMap<String, Fate>,
    ) -> Option<String> {
        let fate = |image: &ImageSource| fates.get(&image.reference).copied().unwrap_or(Fate::Good);
        match action {
            Action::PrepareImage(image) => {
                let takes = if fate(image) == Fate::Slow { SLOW_IMAGE_MS } else { IMAGE_MS };
                let event = Event::Image(image.clone(), fate(image) != Fate::Missing);
                self.later(now_ms + takes, event);
                Some(format!("fetches {}", image.reference))
            }
            Action::Start { id, spec, .. } => {
                let of_slot = (id.instance.clone(), spec.image.reference.clone());
                let first = *self.first.entry(of_slot).or_insert(id.attempt);
                let end = fate(&spec.image).end(first == id.attempt);
                self.later(now_ms + START_MS, Event::Started(id.clone(), end));
                Some(format!("starts {id} of {}", spec.image.reference))
            }
            Action::Stop { id, .. } => {
                // What was to come of it does not come any more.
                self.coming.retain(|_, event| match event {
                    Event::Started(other, ..)
                    | Event::Ended(other, _)
                    | Event::Checked(other, ..) => other != id,
                    Event::Image(..) => true,
                });
                self.later(now_ms + STOP_MS, Event::Ended(id.clone(), 0));
                Some(format!("stops {id}"))
            }
            Action::Remove { id } => {
                self.observed.removed(id);
                None
            }
            Action::Check { id, kind, .. } => {
                let container = self.observed.container(id)?;
                let image = &container.spec.as_ref()?.image;
                let first = self.first.get(&(id.instance.clone(), image.reference.clone()));
                let ill = fate(image) == Fate::Sickens
                    && first == Some(&id.attempt)
                    && now_ms > container.begun_ms + ILL_AFTER_MS;
                self.later(now_ms + CHECK_MS, Event::Checked(id.clone(), *kind, now_ms, !ill));
                None
            }
        }
    }

    /// What it says.
    pub(crate) fn report(&self) -> Said {
        let told = |status: &Status| {
            let status = status.clone();
            let told = InstanceStatus {
                instance: status.instance.clone(),
                attempt: status.attempt,
                spec: status.spec,
                phase: status.phase,
                reason: status.reason,
                last_exit: status.last_exit,
                since_ms: 0,
                health: status.health,
                ready: status.ready,
                failures: status.failures,
            };
            (status.instance, told)
        };
        let no_image = self.decision.no_image.iter().map(|it| (it.spec, it.clone()));
        Said {
            instances: self.decision.statuses.iter().map(told).collect(),
            staged: self.decision.staged.iter().copied().collect(),
            no_image: no_image.collect(),
        }
    }

    /// What runs, with its image.
    pub(crate) fn runs(&self) -> Vec<String> {
        let live = self.wanted.keys().filter_map(|instance| {
            let id = self.observed.newest(instance)?;
            let container = self.observed.container(&id)?;
            let image = container.spec.as_ref().map(|spec| spec.image.reference.clone())?;
            container.is_live().then(|| format!("{id}={image}"))
        });
        live.collect()
    }
}
