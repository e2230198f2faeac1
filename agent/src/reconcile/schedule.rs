//! A slot whose runs begin by a schedule: what is to be done about it, and how it fares.
//!
//! Whether a run may begin was decided before ([`crate::schedule`]) and comes in as a [`Gate`]. A run
//! goes on with the version that it began with; a run that failed is tried again as its restart policy
//! says, but one that succeeded is over; in between the slot is at rest, with its last end and the time
//! of its next run.

use limpet_protocol::phase::Phase;

use super::observed::Slot;
use super::slot::{self, Scene, Step};
use super::{Container, Life, Plan, WantedInstance, status};
use crate::schedule::Gate;

/// Plans a wanted slot with a schedule.
pub(super) fn wanted(plan: &mut Plan, scene: Scene<'_>, (slot, want): (&Slot, &WantedInstance)) {
    slot::remove_predecessors(plan, scene.instance, (slot, want));
    let gate = scene.observed.gate(scene.instance);
    let going = slot.containers.iter().rev().find(|container| container.is_live());
    match (going, gate) {
        (Some(ending), _) if ending.stopping || ending.life == Life::Creating => {
            let (phase, reason) = match ending.stopping {
                true => {
                    (Phase::Stopping, Some(format!("attempt {} is being stopped", ending.attempt)))
                }
                false => (Phase::Creating, None),
            };
            plan.statuses.push(status::of(scene, ending, (phase, reason)));
        }
        (Some(going), Some(Gate::Open)) => slot::replace(plan, scene, want, going),
        (Some(going), _) => slot::keep(plan, scene, want, going),
        (None, Some(Gate::Open)) => slot::start(plan, scene, (slot, want), true),
        (None, closed) => {
            let why = match closed {
                Some(Gate::Closed { why }) => why.as_str(),
                _ => "its schedule is being looked at",
            };
            rests(plan, scene, (slot, want), why);
        }
    }
}

/// No run may begin now. One that failed may still be tried again.
fn rests(plan: &mut Plan, scene: Scene<'_>, (slot, want): (&Slot, &WantedInstance), why: &str) {
    let failed = slot.containers.last().is_some_and(|ended| !ended.succeeded());
    match slot::step(slot, want, plan.now_ms) {
        step @ (Step::BackOff { .. } | Step::Start { first: false }) if failed => {
            slot::follow(plan, scene, (slot, want), step);
        }
        _ => {
            // Had ready ahead: a run then begins in time.
            slot::image_blocks(plan, scene.observed, want);
            match slot.containers.last() {
                Some(ended) => at_rest(plan, scene, ended, why),
                None => status::next(plan, scene, want, (Phase::Waiting, Some(why.to_owned()))),
            }
        }
    }
}

fn at_rest(plan: &mut Plan, scene: Scene<'_>, ended: &Container, why: &str) {
    let (phase, reason) = status::final_phase(ended);
    let reason = reason.map_or_else(|| why.to_owned(), |reason| format!("{reason}; {why}"));
    plan.statuses.push(status::of(scene, ended, (phase, Some(reason))));
}
