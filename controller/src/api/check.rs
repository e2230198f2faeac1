//! Whether an application keeps the limits of [`limpet_protocol::limits`] and fits together.
//! Deciding code: values in, a sentence that names the service and field out.

use limpet_oci::Reference;
use limpet_protocol::application::{Application, Mode, Service, Wave};
use limpet_protocol::codec;
use limpet_protocol::cron::Cron;
use limpet_protocol::id::ServiceName;
use limpet_protocol::limits::{
    MAX_CONTENTS_PER_SERVICE, MAX_HOOKS, MAX_REPLICAS, MAX_SERVICES_PER_APPLICATION,
    MAX_SPEC_BYTES, MAX_WAVES,
};
use limpet_protocol::spec::{MissedRuns, MountSource, Overlap, RestartCondition, Spec, is_subpath};
use limpet_protocol::zone::Zone;

use super::check_network;
use crate::claims;
use crate::network::pool::Pool;

/// Constraints of one service: each is checked against each node.
const MAX_CONSTRAINTS: usize = 64;
/// Labels to spread over, likewise.
const MAX_SPREAD: usize = 8;

/// The first thing that is wrong.
pub(super) fn check(application: &Application, name: &str, pool: &Pool) -> Result<(), String> {
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
            .and_then(|()| check_network::check(application, (name, service), pool))
            .map_err(|(field, what)| format!("services.{name}.{field}: {what}"))?;
    }
    claims::check(application).map_err(|error| error.to_string())
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
    check_mode(service)?;
    check_contents(spec)?;
    check_hooks(spec)?;
    check_mounts(spec)?;
    codec::encode_within(spec, MAX_SPEC_BYTES)
        .map_err(|error| ("spec", format!("is too large: {error}")))?;
    for dependency in &spec.depends_on {
        if dependency.required && !application.services.contains_key(&dependency.service) {
            let what = format!("there is no service {}", dependency.service);
            return Err(("spec.depends_on", what));
        }
    }
    check_schedule(service)?;
    check_waves(service)?;
    check_scale(service)?;
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

fn check_mode(service: &Service) -> Result<(), Wrong> {
    let (field, slots) = match service.mode {
        Mode::Replicated { replicas } => ("mode.replicated.replicas", replicas),
        Mode::ReplicatedJob { completions, parallelism } => {
            if parallelism == 0 {
                return Err(("mode.replicated_job.parallelism", "must be 1 at least".to_owned()));
            }
            ("mode.replicated_job.completions", completions)
        }
        Mode::Global | Mode::GlobalJob => return check_job(service),
    };
    if slots > MAX_REPLICAS {
        return Err((field, format!("{slots} are too many, at most {MAX_REPLICAS}")));
    }
    check_job(service)
}

fn check_job(service: &Service) -> Result<(), Wrong> {
    if service.mode.is_job() && service.spec.restart.condition == RestartCondition::Any {
        let what = "a job cannot be started again after it has succeeded: `on_failure` or `none`";
        return Err(("spec.restart.condition", what.to_owned()));
    }
    Ok(())
}

fn check_contents(spec: &Spec) -> Result<(), Wrong> {
    let count = spec.configs.len() + spec.secrets.len();
    if count > MAX_CONTENTS_PER_SERVICE {
        let what =
            format!("{count} configs and secrets are too many, at most {MAX_CONTENTS_PER_SERVICE}");
        return Err(("spec.configs", what));
    }
    for (field, mounts) in [("spec.configs", &spec.configs), ("spec.secrets", &spec.secrets)] {
        for mount in mounts {
            let (target, mode) = (&mount.target, mount.mode);
            let is_plain = target.starts_with('/') && !target.split('/').any(|part| part == "..");
            if !is_plain || target.ends_with('/') {
                return Err((field, format!("{target:?} is no absolute path of a file")));
            }
            if mode > 0o777 {
                return Err((field, format!("{mode:o} are no permission bits of a file")));
            }
        }
    }
    Ok(())
}

fn check_hooks(spec: &Spec) -> Result<(), Wrong> {
    for (field, hooks) in [
        ("spec.hooks.post_start", &spec.hooks.post_start),
        ("spec.hooks.pre_stop", &spec.hooks.pre_stop),
    ] {
        if hooks.len() > MAX_HOOKS {
            return Err((field, format!("{} are too many, at most {MAX_HOOKS}", hooks.len())));
        }
        if hooks.iter().any(|hook| hook.command.first().is_none_or(String::is_empty)) {
            return Err((field, "a hook needs a command".to_owned()));
        }
    }
    Ok(())
}

fn check_mounts(spec: &Spec) -> Result<(), Wrong> {
    for mount in &spec.mounts {
        if let MountSource::Volume { subpath: Some(subpath), .. } = &mount.source
            && !is_subpath(subpath)
        {
            return Err(("spec.mounts", format!("{subpath:?} is no path within a volume")));
        }
    }
    Ok(())
}

fn check_waves(service: &Service) -> Result<(), Wrong> {
    let Some(policy) = &service.waves else { return Ok(()) };
    let count = policy.waves.len();
    if count > MAX_WAVES {
        return Err(("waves.waves", format!("{count} are too many, at most {MAX_WAVES}")));
    }
    for wave in &policy.waves {
        match wave {
            Wave::Nodes(all) if all.len() > MAX_CONSTRAINTS => {
                let what =
                    format!("{} constraints are too many, at most {MAX_CONSTRAINTS}", all.len());
                return Err(("waves.waves", what));
            }
            Wave::Percent(percent) if !(1..=100).contains(percent) => {
                return Err(("waves.waves", format!("{percent} % is not from 1 to 100")));
            }
            Wave::Nodes(_) | Wave::Percent(_) => {}
        }
    }
    if policy.success_percent > 100 {
        return Err(("waves.success_percent", format!("{} is over 100", policy.success_percent)));
    }
    if let Some(Err(error)) = policy.window.as_ref().map(|window| window.at(0)) {
        return Err(("waves.window", error.to_string()));
    }
    Ok(())
}

fn check_scale(service: &Service) -> Result<(), Wrong> {
    let Some(policy) = &service.autoscale else { return Ok(()) };
    policy.check(service).map_err(|problem| {
        let field = match problem.field() {
            "min" => "autoscale.min",
            "max" => "autoscale.max",
            "per" => "autoscale.per",
            "cpu" => "autoscale.cpu_percent",
            "memory" => "autoscale.memory_percent",
            "metrics" => "autoscale.metrics",
            "up" => "autoscale.up",
            "down" => "autoscale.down",
            _ => "autoscale",
        };
        (field, problem.to_string())
    })
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
