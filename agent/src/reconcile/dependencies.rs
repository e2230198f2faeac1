//! Who waits for whom (`depends_on`).
//!
//! In: a spec's dependencies and what is wanted and observed of the services that they name. Out:
//! what an instance waits for, in words, or nothing. Of a service that has instances on other nodes the
//! controller says when it is so far (`met`); of one that is on this node alone the node judges.
//!
//! | rule | source |
//! |---|---|
//! | only the creation of a dependant is ordered, not its restarts | Compose Specification, `depends_on`; docker compose, `convergence.go`, `waitDependencies` |
//! | every instance of the dependency has to be as far | the same |
//! | `service_healthy` without any health check is an error | docker compose, `isServiceHealthy` |
//! | a dependency that ended otherwise than with 0 fails `service_completed_successfully` | the same, `isServiceCompleted` |
//! | what is not `required` and will not come is passed over | the same, `waitDependencies` |
//!
//! Where docker compose gives up, a node waits and says for what: the cause may be mended.

use limpet_protocol::id::{ApplicationName, InstanceId, ServiceName};
use limpet_protocol::spec::DependencyCondition;

use super::observed::Slot;
use super::slot::{Scene, Step, step};
use super::{Container, Observed, Wanted, WantedInstance};

/// What the first start of an instance waits for.
pub(super) fn waits_for(scene: Scene<'_>, want: &WantedInstance, now_ms: u64) -> Option<String> {
    for dependency in &want.spec.depends_on {
        if want.met.as_ref().is_some_and(|met| met.contains(&dependency.service)) {
            continue;
        }
        let mut here = false;
        let what = match dependency.condition {
            DependencyCondition::ServiceStarted => "to start",
            DependencyCondition::ServiceHealthy => "to be healthy",
            DependencyCondition::ServiceCompletedSuccessfully => "to complete successfully",
        };
        let instances = scene.wanted.iter().filter(|(instance, _)| {
            instance.application == scene.instance.application
                && instance.service == dependency.service
        });
        for (instance, on) in instances {
            here = true;
            let empty = Slot::default();
            let slot = scene.observed.slots.get(instance).unwrap_or(&empty);
            if holds(dependency.condition, slot, on) {
                continue;
            }
            match hopeless(dependency.condition, slot, on, now_ms) {
                // What is not required and will not come is not waited for.
                Some(_) if !dependency.required => {}
                Some(why) => return Some(format!("waits for {instance} {what}, but {why}")),
                None => return Some(format!("waits for {instance} {what}")),
            }
        }
        // Of a controller that does not judge it, what is not here has come to pass.
        if !here && want.met.is_some() {
            let (application, service) = (&scene.instance.application, &dependency.service);
            return Some(format!(
                "waits for {application}.{service} {what}, which has no instance on this node"
            ));
        }
    }
    None
}

/// Whether an instance is as far as the condition asks, in the version that is wanted.
fn holds(condition: DependencyCondition, slot: &Slot, on: &WantedInstance) -> bool {
    let mut of_spec = slot.containers.iter().filter(|c| c.spec_hash == on.spec_hash);
    match condition {
        DependencyCondition::ServiceStarted => on.done || of_spec.any(|c| c.ran),
        DependencyCondition::ServiceHealthy => of_spec.any(|c| c.is_well() && c.has_checks()),
        DependencyCondition::ServiceCompletedSuccessfully => {
            on.done || of_spec.any(Container::succeeded)
        }
    }
}

/// Why an instance will not come as far as the condition asks, as it is now.
fn hopeless(
    condition: DependencyCondition,
    slot: &Slot,
    on: &WantedInstance,
    now_ms: u64,
) -> Option<&'static str> {
    let healthy = condition == DependencyCondition::ServiceHealthy;
    if healthy && on.done {
        return Some("it has completed and does not run any more");
    }
    match step(slot, on, now_ms) {
        Step::Done(ended) if ended.succeeded() => Some("it ended and is not started again"),
        Step::Done(_) => Some("it failed and is not tried again"),
        Step::Keep(container) if healthy && container.is_well() && container.checks.is_some() => {
            Some("it has no health check; give it one, or wait for `service_started`")
        }
        _ => None,
    }
}

/// A running instance that nobody wants either and that depends on this service: it ends first.
pub(super) fn unwanted_dependant<'a>(
    wanted: &Wanted,
    observed: &'a Observed,
    application: &ApplicationName,
    service: &ServiceName,
) -> Option<&'a InstanceId> {
    observed
        .slots
        .iter()
        .filter(|(instance, _)| {
            instance.application == *application
                && instance.service != *service
                && !wanted.contains_key(instance)
        })
        .find(|(_, slot)| {
            slot.containers.iter().any(|container| {
                let spec = container.spec.as_ref();
                container.is_live()
                    && spec.is_some_and(|s| s.depends_on.iter().any(|d| d.service == *service))
            })
        })
        .map(|(instance, _)| instance)
}
