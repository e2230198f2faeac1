//! Whether an application keeps the limits of [`limpet_protocol::limits`] and fits together.
//! Deciding code: values in, a sentence that names the service and field out.

use limpet_oci::Reference;
use limpet_protocol::application::{Application, Mode, Service};
use limpet_protocol::codec;
use limpet_protocol::cron::Cron;
use limpet_protocol::id::ServiceName;
use limpet_protocol::limits::{MAX_REPLICAS, MAX_SERVICES_PER_APPLICATION, MAX_SPEC_BYTES};
use limpet_protocol::spec::{MissedRuns, Overlap, RestartCondition};
use limpet_protocol::zone::Zone;

/// Constraints of one service: each is checked against each node.
const MAX_CONSTRAINTS: usize = 64;
/// Labels to spread over, likewise.
const MAX_SPREAD: usize = 8;

/// The first thing that is wrong.
pub(super) fn check(application: &Application, name: &str) -> Result<(), String> {
    if application.name.as_str() != name {
        return Err(format!(
            "name: is {:?}, but the path says {name:?}",
            application.name.as_str()
        ));
    }
    let count = application.services.len();
    if count == 0 {
        return Err("services: there are none; to remove the application use DELETE".to_owned());
    }
    if count > MAX_SERVICES_PER_APPLICATION {
        return Err(format!(
            "services: {count} are too many, at most {MAX_SERVICES_PER_APPLICATION}"
        ));
    }
    for (name, service) in &application.services {
        check_service(application, name, service)
            .map_err(|(field, what)| format!("services.{name}.{field}: {what}"))?;
    }
    Ok(())
}

type Wrong = (&'static str, String);

fn check_service(
    application: &Application,
    name: &ServiceName,
    service: &Service,
) -> Result<(), Wrong> {
    let spec = &service.spec;
    if spec.application != application.name {
        return Err(("spec.application", format!("must be {}", application.name)));
    }
    if spec.service != *name {
        return Err(("spec.service", format!("must be {name}")));
    }
    spec.image
        .reference
        .parse::<Reference>()
        .map_err(|error| ("spec.image.reference", error.to_string()))?;
    if let Mode::Replicated { replicas } = service.mode
        && replicas > MAX_REPLICAS
    {
        return Err((
            "mode.replicated.replicas",
            format!("{replicas} are too many, at most {MAX_REPLICAS}"),
        ));
    }
    codec::encode_within(spec, MAX_SPEC_BYTES)
        .map_err(|error| ("spec", format!("is too large: {error}")))?;
    for dependency in &spec.depends_on {
        if dependency.required && !application.services.contains_key(&dependency.service) {
            let what = format!("there is no service {}", dependency.service);
            return Err(("spec.depends_on", what));
        }
    }
    check_schedule(service)?;
    check_placement(service)
}

fn check_schedule(service: &Service) -> Result<(), Wrong> {
    let spec = &service.spec;
    let Some(schedule) = &spec.schedule else { return Ok(()) };
    Cron::parse(&schedule.cron).map_err(|error| ("spec.schedule.cron", error.to_string()))?;
    Zone::parse(&schedule.zone).map_err(|error| ("spec.schedule.zone", error.to_string()))?;
    if (schedule.missed, schedule.overlap) == (MissedRuns::All, Overlap::Replace) {
        let what = "all with overlap: replace: runs that are made up for would stop each other";
        return Err(("spec.schedule.missed", what.to_owned()));
    }
    if let Mode::ReplicatedJob { completions, parallelism } = service.mode
        && parallelism < completions
    {
        let what = "smaller than completions: every slot has runs of its own by a schedule";
        return Err(("mode.replicated-job.parallelism", what.to_owned()));
    }
    if !service.mode.is_job() && spec.restart.condition == RestartCondition::Any {
        let what = "any: runs of a schedule end by themselves; write none or on_failure";
        return Err(("spec.restart.condition", what.to_owned()));
    }
    Ok(())
}

fn check_placement(service: &Service) -> Result<(), Wrong> {
    let placement = &service.placement;
    for (field, count, max) in [
        ("placement.constraints", placement.constraints.len(), MAX_CONSTRAINTS),
        ("placement.spread", placement.spread.len(), MAX_SPREAD),
    ] {
        if count > max {
            return Err((field, format!("{count} are too many, at most {max}")));
        }
    }
    if placement.max_replicas_per_node == Some(0) {
        return Err(("placement.max_replicas_per_node", "must be 1 at least".to_owned()));
    }
    Ok(())
}
