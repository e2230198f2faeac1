//! One slot: what is to be done about it, and how it fares.
//!
//! In: the slot's containers and what is wanted there. Out: additions to the plan.

use limpet_protocol::assignment::UpdateOrder;
use limpet_protocol::id::InstanceId;
use limpet_protocol::phase::Phase;
use limpet_protocol::spec::PullPolicy;

use super::observed::Slot;
use super::{
    Action, Container, ImageState, Life, Observed, Plan, PutOff, Wanted, WantedInstance, backoff,
    dependencies, schedule, status,
};
use crate::network::wants_network;
use crate::runtime::ContainerId;

/// What people are told of a container that waits for a network.
const WAITS_FOR_ADDRESSES: &str = "waits for addresses: the controller has given this node none for \
                                   networks yet; it may be older than the agent";

/// The whole, seen from one instance.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scene<'a> {
    pub(super) wanted: &'a Wanted,
    pub(super) observed: &'a Observed,
    pub(super) instance: &'a InstanceId,
}

impl<'a> Scene<'a> {
    /// What the instance has.
    pub(super) fn slot(self) -> Option<&'a Slot> {
        self.observed.slots.get(self.instance)
    }

    /// The name of its next container.
    pub(super) fn next_id(self) -> ContainerId {
        let attempt = self.observed.attempts().next(self.instance);
        ContainerId { instance: self.instance.clone(), attempt }
    }
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
    let beside = beside(slot, want).map(|old| old.attempt);
    let others = || live().filter(|other| Some(other.attempt) != beside);
    if let Some(ending) = others().find(|c| c.stopping || c.life == Life::Creating) {
        return Step::AwaitEnd(ending);
    }
    if let Some(old) = others().next() {
        return Step::Replace(old);
    }
    let Some(ended) = slot.containers.last().filter(|c| c.spec_hash == want.spec_hash) else {
        return Step::Start { first: true };
    };
    let Life::Ended { at_ms, .. } = ended.life else { return Step::Start { first: true } };
    if ended.stopping && ended.unhealthy.is_none() {
        return Step::Start { first: true };
    }
    let policy = &want.spec.restart;
    if !slot.tries.may_restart(policy, ended.succeeded(), at_ms) {
        return Step::Done(ended);
    }
    let pause_ms = backoff::between_starts_ms(slot.tries.short_runs());
    let rested_ms = ended.begun_ms.saturating_add(pause_ms);
    let until_ms = at_ms.saturating_add(policy.delay_ms).max(rested_ms);
    if now_ms < until_ms { Step::BackOff { ended, until_ms } } else { Step::Start { first: false } }
}

/// The container of another spec that runs on until one of the wanted spec does well: one that does
/// well itself before others, then the newest.
fn beside<'a>(slot: &'a Slot, want: &WantedInstance) -> Option<&'a Container> {
    let runs =
        |c: &&Container| c.life == Life::Running && !c.stopping && c.spec_hash != want.spec_hash;
    let all = slot.containers.iter().filter(|_| want.order == UpdateOrder::StartFirst);
    all.filter(runs).max_by_key(|c| (c.is_well(), c.attempt))
}

/// Plans a wanted slot.
pub(super) fn wanted(plan: &mut Plan, scene: Scene<'_>, want: &WantedInstance) {
    let empty = Slot::default();
    let slot = scene.slot().unwrap_or(&empty);
    if want.spec.schedule.is_some() {
        return schedule::wanted(plan, scene, (slot, want));
    }
    if want.done {
        return done(plan, scene, (slot, want));
    }
    remove_predecessors(plan, scene.instance, (slot, want));
    follow(plan, scene, (slot, want), step(slot, want, plan.now_ms));
}

/// Plans what comes next.
pub(super) fn follow(
    plan: &mut Plan,
    scene: Scene<'_>,
    (slot, want): (&Slot, &WantedInstance),
    step: Step<'_>,
) {
    match step {
        Step::Keep(container) => keep(plan, scene, want, container),
        Step::AwaitEnd(old) => {
            let ends = match &old.unhealthy {
                Some(why) => format!("waits for the end of attempt {}: {why}", old.attempt),
                None => format!("waits for the end of attempt {}", old.attempt),
            };
            status::next(plan, scene, want, (Phase::Creating, Some(ends)));
        }
        Step::Replace(old) => replace(plan, scene, want, old),
        Step::Done(ended) => {
            let (phase, reason) = status::final_phase(ended);
            let reason = and_runs_on(reason, beside(slot, want));
            plan.statuses.push(status::of(scene, ended, (phase, reason)));
        }
        Step::BackOff { ended, until_ms } => {
            plan.wake(until_ms);
            put_off(plan, scene.instance, (slot, want), ended);
            let reason = format!("{}; starts again after a pause", ended.how_it_ended());
            let reason = and_runs_on(Some(reason), beside(slot, want));
            status::next(plan, scene, want, (Phase::Waiting, reason));
        }
        Step::Start { first } => start(plan, scene, (slot, want), first),
    }
}

pub(super) fn start(
    plan: &mut Plan,
    scene: Scene<'_>,
    (slot, want): (&Slot, &WantedInstance),
    first: bool,
) {
    let beside = beside(slot, want);
    if let Some((phase, reason)) = blocked(plan, scene, want, first) {
        return status::next(plan, scene, want, (phase, and_runs_on(reason, beside)));
    }
    let (spec_hash, spec) = (want.spec_hash, want.spec.clone());
    plan.starts.push(Action::Start { id: scene.next_id(), spec_hash, spec, first });
    status::next(plan, scene, want, (Phase::Creating, and_runs_on(None, beside)));
}

/// A slot that has done its work: nothing is started, and of what is left the newest ended container
/// stays, so that its output can be read.
fn done(plan: &mut Plan, scene: Scene<'_>, (slot, want): (&Slot, &WantedInstance)) {
    remove_predecessors(plan, scene.instance, (slot, want));
    for container in slot.containers.iter().filter(|c| c.life == Life::Running && !c.stopping) {
        plan.stop(scene.instance, container);
    }
    let of_spec = |c: &&Container| c.spec_hash == want.spec_hash && !c.is_live();
    let ended = slot.containers.iter().rfind(of_spec);
    plan.statuses.push(status::done(scene, want, ended));
}

fn put_off(
    plan: &mut Plan,
    instance: &InstanceId,
    (slot, want): (&Slot, &WantedInstance),
    ended: &Container,
) {
    let short_runs = slot.tries.short_runs();
    plan.put_off.push(PutOff {
        ended: id(instance, ended),
        how: ended.how_it_ended(),
        pause_ms: want.spec.restart.delay_ms.max(backoff::between_starts_ms(short_runs)),
        short_runs,
    });
}

/// Only the newest ended container stays, and it only until its successor runs, or, if its spec is not
/// wanted any more, until any does that is.
pub(super) fn remove_predecessors(
    plan: &mut Plan,
    instance: &InstanceId,
    (slot, want): (&Slot, &WantedInstance),
) {
    let running = || slot.containers.iter().filter(|container| container.life == Life::Running);
    let wanted_runs = running().any(|container| container.spec_hash == want.spec_hash);
    let newest = slot.containers.iter().rfind(|container| !container.is_live());
    for container in slot.containers.iter().filter(|c| !c.is_live() && !c.removing) {
        let succeeded = running().any(|other| other.attempt > container.attempt);
        let outdated = wanted_runs && container.spec_hash != want.spec_hash;
        if succeeded || outdated || newest.is_some_and(|it| it.attempt != container.attempt) {
            plan.stops.push(Action::Remove { id: id(instance, container) });
        }
    }
}

pub(super) fn keep(
    plan: &mut Plan,
    scene: Scene<'_>,
    want: &WantedInstance,
    container: &Container,
) {
    let empty = Slot::default();
    let slot = scene.slot().unwrap_or(&empty);
    // The one before runs on until this one does well. One that came later has no claim, unless it
    // is the only one that does its work.
    let beside = beside(slot, want).filter(|other| {
        !container.is_well() && (other.attempt < container.attempt || other.is_well())
    });
    for other in slot.containers.iter().filter(|c| c.life == Life::Running && !c.stopping) {
        let stays = [Some(container), beside].into_iter().flatten();
        if !stays.into_iter().any(|stays| stays.attempt == other.attempt) {
            plan.stop(scene.instance, other);
        }
    }
    // Known before it is needed: a restart then waits for nothing. What the image says of the health
    // of what was found running has to be known at once.
    if want.spec.image.pull != PullPolicy::Always || container.checks.is_none() {
        image_blocks(plan, scene.observed, want);
    }
    let phase = if container.life == Life::Running { Phase::Running } else { Phase::Creating };
    let mut reason = None;
    if container.life == Life::Running {
        match &container.unhealthy {
            Some(why) => {
                plan.stop(scene.instance, container);
                reason = Some(why.clone());
            }
            None => plan.check(scene.instance, container),
        }
    }
    let mut status = status::of(scene, container, (phase, and_runs_on(reason, beside)));
    status.last_exit = status::last_exit(scene);
    plan.statuses.push(status);
}

pub(super) fn replace(plan: &mut Plan, scene: Scene<'_>, want: &WantedInstance, old: &Container) {
    let fares = match blocked(plan, scene, want, true) {
        Some((phase, reason)) => (phase, and_runs_on(reason, Some(old))),
        None => {
            plan.stop(scene.instance, old);
            (Phase::Creating, Some(format!("waits for the end of attempt {}", old.attempt)))
        }
    };
    status::next(plan, scene, want, fares);
}

/// Adds to a reason that the container of the version before goes on.
fn and_runs_on(reason: Option<String>, old: Option<&Container>) -> Option<String> {
    let Some(old) = old else { return reason };
    let goes_on = format!("attempt {}, of the version before, runs on", old.attempt);
    Some(reason.map_or(goes_on.clone(), |reason| format!("{reason}; {goes_on}")))
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
    if first && let Some(waits) = dependencies::waits_for(scene, want, plan.now_ms) {
        return Some((Phase::Waiting, Some(waits)));
    }
    if scene.observed.lacks_addresses() && wants_network(&want.spec) {
        return Some((Phase::Waiting, Some(WAITS_FOR_ADDRESSES.to_owned())));
    }
    image.map(|reason| (Phase::Pulling, reason))
}

/// Whether the image is not there yet, and why not if that is known.
pub(super) fn image_blocks(
    plan: &mut Plan,
    observed: &Observed,
    want: &WantedInstance,
) -> Option<Option<String>> {
    match observed.image(&want.spec.image) {
        Some(ImageState::Ready { .. }) => None,
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

impl Plan {
    fn stop(&mut self, instance: &InstanceId, container: &Container) {
        let (id, spec) = (id(instance, container), container.spec.clone());
        self.stops.push(Action::Stop { id, spec });
    }

    /// Plans the checks of a container that are due, and remembers when the next is.
    fn check(&mut self, instance: &InstanceId, container: &Container) {
        let Some(checks) = &container.checks else { return };
        for (kind, due_ms) in checks.waiting() {
            if due_ms > self.now_ms {
                self.wake(due_ms);
            } else if let Some((action, timeout_ms)) = checks.what(kind) {
                let (id, action) = (id(instance, container), action.clone());
                self.checks.push((due_ms, Action::Check { id, kind, action, timeout_ms }));
            }
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
                    plan.stop(instance, container);
                }
                _ => {}
            }
        }
        if let Some(newest) = slot.containers.last() {
            let scene = Scene { wanted, observed, instance };
            plan.statuses.push(status::unwanted(scene, newest, held));
        }
    }
}

/// On its way out by itself, so that what waits for it will come to its turn.
fn is_ending(container: &Container) -> bool {
    container.is_live() && (container.stopping || container.life == Life::Creating)
}

fn id(instance: &InstanceId, container: &Container) -> ContainerId {
    ContainerId { instance: instance.clone(), attempt: container.attempt }
}
