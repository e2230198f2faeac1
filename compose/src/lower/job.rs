//! Jobs: `deploy.mode: replicated-job` and `global-job`, with `deploy.x-job`.
//!
//! | rule | source |
//! |---|---|
//! | `replicas` is the number of completions, all at a time unless told otherwise | Docker CLI, `cli/compose/convert/service.go` and `docker service create --mode replicated-job --max-concurrent` |
//! | a job is started again on failure, never after success: `any` is an error | SwarmKit, `design/orchestrators.md`, and Docker's documentation of `service create`, "Running as a job" |
//! | `update_config` and `rollback_config` mean nothing for a job | the same |
//! | `x-job`: `completions`, `parallelism`, `retries` are Kubernetes' `completions`, `parallelism`, `backoffLimit` (there for the whole job, here for each slot) | Kubernetes, "Jobs" |

use limpet_protocol::application::Mode;
use limpet_protocol::limits::MAX_REPLICAS;
use limpet_protocol::spec::{RestartCondition, RestartPolicy};

use super::reader::Reader;
use crate::units;

const KEYS: [&str; 3] = ["completions", "parallelism", "retries"];

/// `replicated-job`: `replicas` if `deploy.replicas` or `scale` say so.
pub(super) fn replicated(reader: &mut Reader, replicas: Option<u32>) -> Mode {
    let completions = count(reader, "deploy.x-job.completions");
    if let (Some(completions), Some(replicas)) = (completions, replicas)
        && completions != replicas
        && let Some(node) = reader.get("deploy.x-job.completions")
    {
        let message = format!("{completions} completions, but {replicas} replicas");
        reader.at("deploy.x-job.completions").refuse(node, message, "keep one of them");
    }
    let completions = completions.or(replicas).unwrap_or(1);
    let parallelism = count(reader, "deploy.x-job.parallelism").unwrap_or(completions);
    Mode::ReplicatedJob { completions, parallelism }
}

/// `global-job`: there is nothing to count.
pub(super) fn global(reader: &mut Reader) -> Mode {
    for key in ["completions", "parallelism"] {
        let path = format!("deploy.x-job.{key}");
        if let Some(node) = reader.get(&path) {
            let message = "a global job runs once on each node, however many they are";
            reader.at(&path).refuse(node, message, "remove it, or `deploy.mode: replicated-job`");
        }
    }
    Mode::GlobalJob
}

fn count(reader: &mut Reader, path: &str) -> Option<u32> {
    reader.integer(path, 1, i64::from(MAX_REPLICAS)).and_then(|number| u32::try_from(number).ok())
}

/// What cannot be said together with a mode, and the restart policy of a job.
pub(super) fn finish(reader: &mut Reader, mode: Mode, policy: RestartPolicy) -> RestartPolicy {
    unknown_keys(reader);
    if mode.is_job() { restart(reader, policy) } else { no_job(reader, policy) }
}

fn unknown_keys(reader: &mut Reader) {
    let Some(job) = reader.get("deploy.x-job") else { return };
    let Some(mapping) = job.as_mapping() else {
        let message =
            format!("expected completions, parallelism and retries, found {}", job.kind());
        return reader.at("deploy.x-job").fail(job, message);
    };
    for (name, entry) in mapping {
        if !KEYS.contains(&name.as_str()) {
            let near = units::nearest(name, KEYS.into_iter());
            let known = "known are completions, parallelism and retries".to_owned();
            let advice = near.map_or(known, |near| format!("did you mean `{near}`?"));
            let path = format!("deploy.x-job.{name}");
            reader.at(&path).refuse(&entry.node, format!("unknown key `{name}`"), &advice);
        }
    }
}

fn no_job(reader: &mut Reader, policy: RestartPolicy) -> RestartPolicy {
    if let Some(node) = reader.get("deploy.x-job") {
        let message = "the service is no job";
        let advice = "set `deploy.mode: replicated-job` or `global-job`";
        reader.at("deploy.x-job").refuse(node, message, advice);
    }
    policy
}

fn restart(reader: &mut Reader, mut policy: RestartPolicy) -> RestartPolicy {
    for key in ["deploy.update_config", "deploy.rollback_config"] {
        if let Some(node) = reader.get(key) {
            let message = "a job is not updated: a changed job runs anew";
            reader.at(key).refuse(node, message, "remove it");
        }
    }
    let said = ["deploy.restart_policy.condition", "restart"];
    let said = said.into_iter().find_map(|key| Some((key, reader.get(key)?)));
    match (said, policy.condition) {
        (Some((key, node)), RestartCondition::Any) => {
            let message = "a job ends when it has succeeded: it cannot be started again after that";
            reader.at(key).refuse(node, message, "use `on-failure` or `none`");
        }
        (None, _) => policy.condition = RestartCondition::OnFailure,
        (Some(_), _) => {}
    }
    if let Some(retries) = retries(reader) {
        policy.max_attempts = Some(retries);
        if retries == 0 {
            policy.condition = RestartCondition::None;
            policy.max_attempts = None;
        }
    }
    policy
}

fn retries(reader: &mut Reader) -> Option<u32> {
    let path = "deploy.x-job.retries";
    let node = reader.get(path)?;
    if reader.get("deploy.restart_policy.max_attempts").is_some() {
        let message = "`deploy.restart_policy.max_attempts` is there too";
        reader.at(path).refuse(node, message, "keep one of them");
    }
    let retries = reader.integer(path, 0, i64::from(u32::MAX))?;
    u32::try_from(retries).ok()
}
