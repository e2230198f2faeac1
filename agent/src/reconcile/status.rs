//! How one instance fares, in the words of a report.

use limpet_protocol::id::InstanceId;
use limpet_protocol::phase::Phase;
use limpet_protocol::report::Exit;

use super::slot::Scene;
use super::{Container, Plan, Status, WantedInstance};
use crate::runtime::ContainerId;

/// The status of the try that comes next.
pub(super) fn next(
    plan: &mut Plan,
    scene: Scene<'_>,
    want: &WantedInstance,
    (phase, reason): (Phase, Option<String>),
) {
    let ContainerId { instance, attempt } = scene.next_id();
    plan.statuses.push(Status {
        instance,
        attempt,
        spec: want.spec_hash,
        phase,
        reason,
        last_exit: last_exit(scene),
        health: None,
        ready: None,
        failures: scene.slot().map_or(0, |slot| slot.tries.failures(&want.spec_hash)),
    });
}

/// The status of a container.
pub(super) fn of(
    scene: Scene<'_>,
    container: &Container,
    (phase, reason): (Phase, Option<String>),
) -> Status {
    Status {
        instance: scene.instance.clone(),
        attempt: container.attempt,
        spec: container.spec_hash,
        phase,
        reason,
        last_exit: container.exit(),
        health: container.health(),
        ready: container.ready(),
        failures: scene.slot().map_or(0, |slot| slot.tries.failures(&container.spec_hash)),
    }
}

/// The status of a slot that has done its work for good, whatever is left of it.
pub(super) fn done(scene: Scene<'_>, want: &WantedInstance, ended: Option<&Container>) -> Status {
    let ContainerId { instance, attempt } = scene.next_id();
    Status {
        instance,
        attempt: ended.map_or(attempt.saturating_sub(1).max(1), |ended| ended.attempt),
        spec: want.spec_hash,
        phase: Phase::Completed,
        reason: None,
        last_exit: ended.and_then(Container::exit).or(last_exit(scene)),
        health: None,
        ready: None,
        failures: 0,
    }
}

pub(super) fn last_exit(scene: Scene<'_>) -> Option<Exit> {
    scene.slot()?.last_exit
}

/// The phase of a container that ended and is not started again.
pub(super) fn final_phase(ended: &Container) -> (Phase, Option<String>) {
    if ended.succeeded() {
        (Phase::Completed, None)
    } else {
        (Phase::Failed, Some(ended.how_it_ended()))
    }
}

/// The status of what nobody wants.
pub(super) fn unwanted(scene: Scene<'_>, newest: &Container, held: Option<&InstanceId>) -> Status {
    let ended_by_itself = !newest.is_live() && !newest.stopping;
    let fares = match held {
        _ if ended_by_itself => final_phase(newest),
        Some(other) => {
            (Phase::Stopping, Some(format!("waits for {other}, which depends on it, to end")))
        }
        None => (Phase::Stopping, Some("no longer assigned to this node".to_owned())),
    };
    of(scene, newest, fares)
}
