//! Which keys of a Compose file differ between two services.
//!
//! Both are compared as JSON; a table turns the places into the keys that people wrote. Values are
//! shown only where nobody keeps a secret: never of environments, commands, contents and labels.

use std::collections::BTreeMap;

use limpet_protocol::application::{Mode, Service};
use serde_json::Value;

use super::KeyChange;

/// Deepest place that is told apart: below it the whole differs.
const MAX_DEPTH: usize = 4;

/// Where something is in a [`Service`], and how the file calls it. The first that fits counts.
const KEYS: [(&str, &str); 45] = [
    ("spec.image.reference", "image"),
    ("spec.image.digest", "image"),
    ("spec.image.from_controller", "image"),
    ("spec.image.platform", "platform"),
    ("spec.image.pull", "pull_policy"),
    ("spec.process.environment", "environment"),
    ("spec.process", ""),
    ("spec.resources.memory_limit_bytes", "deploy.resources.limits.memory"),
    ("spec.resources.memory_reservation_bytes", "deploy.resources.reservations.memory"),
    ("spec.resources.cpu_limit_millis", "deploy.resources.limits.cpus"),
    ("spec.resources.cpu_reservation_millis", "deploy.resources.reservations.cpus"),
    ("spec.resources.pids_limit", "deploy.resources.limits.pids"),
    ("spec.resources.shm_size_bytes", "shm_size"),
    ("spec.resources", ""),
    ("spec.security.seccomp_unconfined", "security_opt"),
    ("spec.security.allow_new_privileges", "security_opt"),
    ("spec.security.host_pid", "pid"),
    ("spec.security.host_ipc", "ipc"),
    ("spec.security", ""),
    ("spec.mounts", "volumes"),
    ("spec.network.mode", "network_mode"),
    ("spec.network", ""),
    ("spec.restart", "restart"),
    ("spec.stop.grace_period_ms", "stop_grace_period"),
    ("spec.stop.signal", "stop_signal"),
    ("spec.stop", "stop_signal"),
    ("spec.log", "logging"),
    ("spec.probes", "x-probe"),
    ("spec.schedule", "x-schedule"),
    ("spec.restarts", "(restarted by a person)"),
    ("spec.follows", "depends_on (a service that it is restarted with)"),
    ("spec", ""),
    ("mode", "deploy.mode"),
    ("placement.constraints", "deploy.placement.constraints"),
    ("placement.spread", "deploy.placement.preferences"),
    ("placement.max_replicas_per_node", "deploy.placement.max_replicas_per_node"),
    ("placement", "deploy.placement"),
    ("labels", "deploy.labels"),
    ("update", "deploy.update_config"),
    ("rollback", "deploy.rollback_config"),
    ("waves", "deploy.x-rollout"),
    ("autoscale", "deploy.x-autoscale"),
    ("priority", "deploy.x-priority"),
    ("stopped", "(stopped by a person)"),
    ("", "deploy"),
];

/// Keys under which single entries are named, by their names alone.
const MAPS: [&str; 5] = ["environment", "labels", "sysctls", "ulimits", "deploy.labels"];
/// Keys whose values are shown.
const OPEN: [&str; 11] = [
    "image",
    "platform",
    "pull_policy",
    "deploy.mode",
    "deploy.replicas",
    "deploy.resources.limits.memory",
    "deploy.resources.limits.cpus",
    "deploy.resources.limits.pids",
    "deploy.resources.reservations.memory",
    "deploy.resources.reservations.cpus",
    "deploy.x-priority",
];

/// The keys that differ, by name.
pub(super) fn keys(before: &Service, after: &Service) -> Vec<KeyChange> {
    let value = |service: &Service| serde_json::to_value(service).unwrap_or_default();
    let mut found = BTreeMap::new();
    if before.mode != after.mode {
        let (key, from, to) = modes(before.mode, after.mode);
        found.insert(key, (Some(from), Some(to)));
    }
    walk(&mut Vec::new(), (&value(before), &value(after)), &mut found);
    let change = |(key, (from, to))| KeyChange { key, from, to };
    found.into_iter().map(change).collect()
}

type Found = BTreeMap<String, (Option<String>, Option<String>)>;

fn modes(before: Mode, after: Mode) -> (String, String, String) {
    let same = before.as_str() == after.as_str();
    match (before.slots(), after.slots()) {
        (Some(from), Some(to)) if same && from != to => {
            ("deploy.replicas".to_owned(), from.to_string(), to.to_string())
        }
        _ => ("deploy.mode".to_owned(), before.as_str().to_owned(), after.as_str().to_owned()),
    }
}

fn walk(path: &mut Vec<String>, (one, other): (&Value, &Value), found: &mut Found) {
    if one == other || path.first().is_some_and(|first| first == "mode") {
        return;
    }
    let empty = serde_json::Map::new();
    let (a, b) = match (one, other) {
        (Value::Object(a), Value::Object(b)) => (a, b),
        (Value::Object(a), Value::Null) => (a, &empty),
        (Value::Null, Value::Object(b)) => (&empty, b),
        _ => return note(path, (one, other), found),
    };
    if path.len() >= MAX_DEPTH {
        return note(path, (&Value::Null, &Value::Null), found);
    }
    for name in a.keys().chain(b.keys().filter(|name| !a.contains_key(*name))) {
        path.push(name.clone());
        let of =
            |map: &'_ serde_json::Map<String, Value>| map.get(name).cloned().unwrap_or_default();
        walk(path, (&of(a), &of(b)), found);
        path.pop();
    }
}

fn note(path: &[String], (from, to): (&Value, &Value), found: &mut Found) {
    let key = called(path);
    let shown = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    let of_reference = path.last().is_none_or(|last| last != "digest" && last != "from_controller");
    let values = if OPEN.contains(&key.as_str()) && of_reference {
        (shown(from), shown(to))
    } else {
        (None, None)
    };
    let known = found.entry(key).or_default();
    if known.0.is_none() && known.1.is_none() {
        *known = values;
    }
}

/// What the file calls a place.
fn called(path: &[String]) -> String {
    let text = path.join(".");
    let fits = |(place, _): &&(&str, &str)| {
        place.is_empty()
            || text.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    let Some((place, name)) = KEYS.iter().find(fits) else { return text };
    let rest: Vec<&str> = path
        .iter()
        .skip(place.split('.').filter(|it| !it.is_empty()).count())
        .map(String::as_str)
        .collect();
    let (name, rest) = match (*name, rest.as_slice()) {
        ("", [first, rest @ ..]) => ((*first).to_owned(), rest),
        (name, rest) => (name.to_owned(), rest),
    };
    match rest {
        // The name of a variable or label; what it may hold is not shown.
        [entry, ..] if MAPS.contains(&name.as_str()) => format!("{name}.{entry}"),
        _ => name,
    }
}
