//! One slot: what is to be done about it, and how it fares.
//!
//! In: the slot's containers and what is wanted there. Out: additions to the plan.

use limpet_protocol::id::InstanceId;
use limpet_protocol::phase::Phase;
use limpet_protocol::report::Exit;
use limpet_protocol::spec::PullPolicy;

use super::observed::Slot;
use super::{
    Action, Container, ImageState, Life, Observed, Plan, PutOff, Status, Wanted, WantedInstance,
    backoff, dependencies,
};
use crate::runtime::ContainerId;

/// The whole, seen from one instance.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scene<'a> {
    pub(super) wanted: &'a Wanted,
    pub(super) observed: &'a Observed,
    pub(super) instance: &'a InstanceId,
}

/// What comes next in a wanted slot.
#[derive(Debug)]
pub(super) enum Step<'a> {
    /// It runs, or is being made.
    Keep(&'a Container),
    /// A container has to end first.
    AwaitEnd(&'a Container),
    /// A container of another spec runs.
    Replace(&'a Container),
    /// The restart policy says that this was all.
    Done(&'a Container),
    /// It is started again at a later time.
    BackOff {
        /// What ended.
        ended: &'a Container,
        /// When.
        until_ms: u64,
    },
    /// It is to be started.
    Start {
        /// Whether it is the first start of this spec, which is the one that dependencies order.
        first: bool,
    },
}

/// Decides what comes next in a wanted slot.
pub(super) fn step<'a>(slot: &'a Slot, want: &WantedInstance, now_ms: u64) -> Step<'a> {
    let live = || slot.containers.iter().rev().filter(|container| container.is_live());
    if let Some(keep) = live().find(|c| c.spec_hash == want.spec_hash && !c.stopping) {
        return Step::Keep(keep);
    }
    if let Some(stopping) = live().find(|c| c.stopping || c.life == Life::Creating) {
        return Step::AwaitEnd(stopping);
    }
    if let Some(old) = live().next() {
        return Step::Replace(old);
    }
    let Some(ended) = slot.containers.last().filter(|c| c.spec_hash == want.spec_hash) else {
        return Step::Start { first: true };
    };
    let Life::Ended { at_ms, exit, .. } = ended.life else { return Step::Start { first: true } };
    if ended.stopping {
        return Step::Start { first: true };
    }
    let policy = &want.spec.restart;
    if !backoff::restarts(policy, exit, slot.short_runs) {
        return Step::Done(ended);
    }
    let rested_ms = ended.begun_ms.saturating_add(backoff::between_starts_ms(slot.short_runs));
    let until_ms = at_ms.saturating_add(policy.delay_ms).max(rested_ms);
    if now_ms < until_ms { Step::BackOff { ended, until_ms } } else { Step::Start { first: false } }
}

/// Plans a wanted slot.
pub(super) fn wanted(plan: &mut Plan, scene: Scene<'_>, want: &WantedInstance) {
    let empty = Slot::default();
    let slot = scene.observed.slots.get(scene.instance).unwrap_or(&empty);
    remove_predecessors(plan, scene.instance, slot);
    let step = step(slot, want, plan.now_ms);
    match step {
        Step::Keep(container) => keep(plan, scene, want, container),
        Step::AwaitEnd(old) => {
            let reason = format!("waits for the end of attempt {}", old.attempt);
            next_status(plan, scene, want, (Phase::Creating, Some(reason)));
        }
        Step::Replace(old) => replace(plan, scene, want, old),
        Step::Done(ended) => {
            let (phase, reason) = final_phase(ended);
            plan.statuses.push(status_of(scene.instance, ended, phase, reason));
        }
        Step::BackOff { ended, until_ms } => {
            plan.wake(until_ms);
            put_off(plan, scene.instance, (slot, want), ended);
            let reason = format!("{}; starts again after a pause", ended.how_it_ended());
            next_status(plan, scene, want, (Phase::Waiting, Some(reason)));
        }
        Step::Start { first } => match blocked(plan, scene, want, first) {
            Some(blocked) => next_status(plan, scene, want, blocked),
            None => {
                let id = next_id(scene);
                let (spec_hash, spec) = (want.spec_hash, want.spec.clone());
                plan.starts.push(Action::Start { id, spec_hash, spec });
                next_status(plan, scene, want, (Phase::Creating, None));
            }
        },
    }
}

fn put_off(
    plan: &mut Plan,
    instance: &InstanceId,
    (slot, want): (&Slot, &WantedInstance),
    ended: &Container,
) {
    let short_runs = slot.short_runs;
    plan.put_off.push(PutOff {
        ended: id(instance, ended),
        how: ended.how_it_ended(),
        pause_ms: want.spec.restart.delay_ms.max(backoff::between_starts_ms(short_runs)),
        short_runs,
    });
}

/// Only the newest ended container stays, and it only until its successor runs.
fn remove_predecessors(plan: &mut Plan, instance: &InstanceId, slot: &Slot) {
    let succeeded = slot.containers.iter().any(|container| container.life == Life::Running);
    let newest = slot.containers.iter().rfind(|container| !container.is_live());
    for container in slot.containers.iter().filter(|c| !c.is_live() && !c.removing) {
        if succeeded || newest.is_some_and(|newest| newest.attempt != container.attempt) {
            plan.stops.push(Action::Remove { id: id(instance, container) });
        }
    }
}

fn keep(plan: &mut Plan, scene: Scene<'_>, want: &WantedInstance, container: &Container) {
    let others = scene.observed.slots.get(scene.instance).into_iter().flat_map(|s| &s.containers);
    for other in others {
        if other.attempt != container.attempt && other.life == Life::Running && !other.stopping {
            let (id, spec) = (id(scene.instance, other), other.spec.clone());
            plan.stops.push(Action::Stop { id, spec });
        }
    }
    // Known before it is needed: a restart then waits for nothing.
    let image = &want.spec.image;
    if image.pull != PullPolicy::Always {
        image_blocks(plan, scene.observed, want);
    }
    let phase = if container.life == Life::Running { Phase::Running } else { Phase::Creating };
    let mut status = status_of(scene.instance, container, phase, None);
    status.last_exit = last_exit(scene);
    plan.statuses.push(status);
}

fn replace(plan: &mut Plan, scene: Scene<'_>, want: &WantedInstance, old: &Container) {
    let blocked = match blocked(plan, scene, want, true) {
        Some((phase, reason)) => {
            let goes_on = format!("attempt {}, of the version before, runs on", old.attempt);
            let reason = reason.map_or(goes_on.clone(), |reason| format!("{reason}; {goes_on}"));
            (phase, Some(reason))
        }
        None => {
            let (id, spec) = (id(scene.instance, old), old.spec.clone());
            plan.stops.push(Action::Stop { id, spec });
            (Phase::Creating, Some(format!("waits for the end of attempt {}", old.attempt)))
        }
    };
    next_status(plan, scene, want, blocked);
}

/// Why a container cannot be started yet. What can be done about it is planned.
fn blocked(
    plan: &mut Plan,
    scene: Scene<'_>,
    want: &WantedInstance,
    first: bool,
) -> Option<(Phase, Option<String>)> {
    // Asked for in any case: the image comes while the dependencies do.
    let image = image_blocks(plan, scene.observed, want);
    if first && let Some(waits) = dependencies::waits_for(scene, &want.spec, plan.now_ms) {
        return Some((Phase::Waiting, Some(waits)));
    }
    image.map(|reason| (Phase::Pulling, reason))
}

/// Whether the image is not there yet, and why not if that is known.
fn image_blocks(
    plan: &mut Plan,
    observed: &Observed,
    want: &WantedInstance,
) -> Option<Option<String>> {
    match observed.image(&want.spec.image) {
        Some(ImageState::Ready) => None,
        Some(ImageState::Preparing { trouble }) => Some(trouble.as_ref().map(|t| t.reason.clone())),
        Some(ImageState::Failed { trouble, retry_at_ms }) => {
            if plan.now_ms >= *retry_at_ms {
                plan.prepare(&want.spec.image);
            } else {
                plan.wake(*retry_at_ms);
            }
            Some(Some(trouble.reason.clone()))
        }
        None => {
            plan.prepare(&want.spec.image);
            Some(None)
        }
    }
}

/// Plans everything that nobody wants.
pub(super) fn unwanted(plan: &mut Plan, wanted: &Wanted, observed: &Observed) {
    let slots = || observed.slots.iter().filter(|(instance, _)| !wanted.contains_key(instance));
    let held_by = |instance: &InstanceId| {
        dependencies::unwanted_dependant(wanted, observed, &instance.application, &instance.service)
    };
    // A ring of dependencies must not hold itself up.
    let ordered = slots().any(|(instance, slot)| {
        slot.containers.iter().any(Container::is_live)
            && (held_by(instance).is_none() || slot.containers.iter().any(is_ending))
    });
    for (instance, slot) in slots() {
        let held = if ordered { held_by(instance) } else { None };
        for container in &slot.containers {
            let id = id(instance, container);
            match container.life {
                Life::Ended { .. } if !container.removing => plan.stops.push(Action::Remove { id }),
                Life::Running if !container.stopping && held.is_none() => {
                    plan.stops.push(Action::Stop { id, spec: container.spec.clone() });
                }
                _ => {}
            }
        }
        if let Some(newest) = slot.containers.last() {
            plan.statuses.push(unwanted_status(instance, newest, held));
        }
    }
}

/// On its way out by itself, so that what waits for it will come to its turn.
fn is_ending(container: &Container) -> bool {
    container.is_live() && (container.stopping || container.life == Life::Creating)
}

fn unwanted_status(instance: &InstanceId, newest: &Container, held: Option<&InstanceId>) -> Status {
    let ended_by_itself = !newest.is_live() && !newest.stopping;
    let (phase, reason) = match held {
        _ if ended_by_itself => final_phase(newest),
        Some(other) => {
            (Phase::Stopping, Some(format!("waits for {other}, which depends on it, to end")))
        }
        None => (Phase::Stopping, Some("no longer assigned to this node".to_owned())),
    };
    status_of(instance, newest, phase, reason)
}

fn id(instance: &InstanceId, container: &Container) -> ContainerId {
    ContainerId { instance: instance.clone(), attempt: container.attempt }
}

fn next_id(scene: Scene<'_>) -> ContainerId {
    let attempt = scene.observed.attempts().next(scene.instance);
    ContainerId { instance: scene.instance.clone(), attempt }
}

/// The status of the try that comes next.
fn next_status(
    plan: &mut Plan,
    scene: Scene<'_>,
    want: &WantedInstance,
    (phase, reason): (Phase, Option<String>),
) {
    let ContainerId { instance, attempt } = next_id(scene);
    let last_exit = last_exit(scene);
    plan.statuses.push(Status {
        instance,
        attempt,
        spec: want.spec_hash,
        phase,
        reason,
        last_exit,
    });
}

fn last_exit(scene: Scene<'_>) -> Option<Exit> {
    let slot = scene.observed.slots.get(scene.instance)?;
    slot.last_exit
}

fn status_of(
    instance: &InstanceId,
    container: &Container,
    phase: Phase,
    reason: Option<String>,
) -> Status {
    Status {
        instance: instance.clone(),
        attempt: container.attempt,
        spec: container.spec_hash,
        phase,
        reason,
        last_exit: container.exit(),
    }
}

fn final_phase(ended: &Container) -> (Phase, Option<String>) {
    match ended.exit() {
        Some(Exit { code: Some(0), .. }) => (Phase::Completed, None),
        _ => (Phase::Failed, Some(ended.how_it_ended())),
    }
}
