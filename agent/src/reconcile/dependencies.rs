//! Who waits for whom (`depends_on`).
//!
//! In: a spec's dependencies and what is wanted and observed of the services that they name. Out:
//! what an instance waits for, in words, or nothing. A service without an instance on this node
//! counts as there: the controller orders across nodes.

use limpet_protocol::id::{ApplicationName, InstanceId, ServiceName};
use limpet_protocol::spec::{DependencyCondition, Spec};

use super::observed::{Container, Slot};
use super::slot::{Scene, Step, step};
use super::{Observed, Wanted, WantedInstance};

/// What the first start of an instance waits for.
pub(super) fn waits_for(scene: Scene<'_>, spec: &Spec, now_ms: u64) -> Option<String> {
    for dependency in &spec.depends_on {
        let instances = scene.wanted.iter().filter(|(instance, _)| {
            instance.application == scene.instance.application
                && instance.service == dependency.service
        });
        for (instance, want) in instances {
            let empty = Slot::default();
            let slot = scene.observed.slots.get(instance).unwrap_or(&empty);
            let waits = match dependency.condition {
                DependencyCondition::ServiceStarted | DependencyCondition::ServiceHealthy => {
                    for_start(instance, want, slot)
                }
                DependencyCondition::ServiceCompletedSuccessfully => {
                    for_completion(instance, want, slot, now_ms)
                }
            };
            if waits.is_some() {
                return waits;
            }
        }
    }
    None
}

fn for_start(instance: &InstanceId, want: &WantedInstance, slot: &Slot) -> Option<String> {
    let started = slot.containers.iter().any(|c| c.spec_hash == want.spec_hash && c.ran);
    (!started).then(|| format!("waits for {instance} to start"))
}

fn for_completion(
    instance: &InstanceId,
    want: &WantedInstance,
    slot: &Slot,
    now_ms: u64,
) -> Option<String> {
    let succeeded = |c: &Container| {
        c.spec_hash == want.spec_hash && c.exit().is_some_and(|exit| exit.code == Some(0))
    };
    if slot.containers.iter().any(succeeded) {
        return None;
    }
    Some(match step(slot, want, now_ms) {
        Step::Done(_) => {
            format!(
                "waits for {instance} to complete successfully, but it failed and is not tried again"
            )
        }
        _ => format!("waits for {instance} to complete successfully"),
    })
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
