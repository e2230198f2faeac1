//! Limpet's own `x-probe`: HTTP, TCP and command probes, and the difference between live and ready.
//!
//! Names and numbers are those of Kubernetes' probes, with durations as Compose writes them. Other
//! keys that begin with `x-` are free; this one is checked like the rest of the file.

use std::collections::BTreeMap;

use limpet_protocol::spec::{Probe, ProbeAction, Probes};

use super::reader::Reader;
use crate::canonical::join;
use crate::node::{Mapping, Node, Value};
use crate::units;

const KEY: &str = "x-probe";
const PROBES: [&str; 3] = ["startup", "live", "ready"];
const ACTIONS: [&str; 3] = ["http", "tcp", "command"];
const NUMBERS: [&str; 5] =
    ["initial_delay", "interval", "timeout", "success_threshold", "failure_threshold"];

/// Kubernetes' `periodSeconds`.
const INTERVAL_MS: u64 = 10_000;
/// Kubernetes' `timeoutSeconds`.
const TIMEOUT_MS: u64 = 1_000;
/// Kubernetes' `failureThreshold`.
const FAILURES: u32 = 3;
/// More often, a node would do nothing else.
const SHORTEST_INTERVAL_MS: u64 = 20;

pub(super) fn probes(reader: &mut Reader) -> Probes {
    let Some(node) = reader.node.get(KEY) else { return Probes::default() };
    let Some(mapping) = keys(reader, (node, KEY), &PROBES) else { return Probes::default() };
    let mut probe = |name: &str| {
        let node = &mapping.get(name)?.node;
        one(reader, node, name)
    };
    Probes { startup: probe("startup"), live: probe("live"), ready: probe("ready") }
}

/// Whether a service has a probe that says when it is healthy or ready.
pub(super) fn has_any(service: &Node) -> bool {
    let probes = service.get(KEY).and_then(Node::as_mapping);
    probes.is_some_and(|probes| PROBES.iter().any(|probe| probes.contains_key(*probe)))
}

fn one(reader: &mut Reader, node: &Node, name: &str) -> Option<Probe> {
    let path = format!("{KEY}.{name}");
    let known: Vec<&str> = ACTIONS.into_iter().chain(NUMBERS).collect();
    let mapping = keys(reader, (node, &path), &known)?;
    let actions: Vec<&str> =
        ACTIONS.into_iter().filter(|action| mapping.contains_key(*action)).collect();
    let [action] = actions[..] else {
        let found = if actions.is_empty() { "none".to_owned() } else { actions.join(" and ") };
        let message = format!("expected one of {}, found {found}", ACTIONS.join(", "));
        reader.at(&path).fail(node, message);
        return None;
    };
    let mut duration = |key: &str, default_ms: u64, least_ms: u64| -> u64 {
        let Some(entry) = mapping.get(key) else { return default_ms };
        let found = entry.node.scalar().and_then(units::duration_ms);
        if found.is_none_or(|found| found < least_ms) {
            let least =
                if least_ms > 0 { format!(" of at least {least_ms}ms") } else { String::new() };
            let message =
                format!("expected a duration{least}, such as 5s, found {}", entry.node.kind());
            reader.at(&join(&path, key)).fail(&entry.node, message);
        }
        found.unwrap_or(default_ms)
    };
    let initial_delay_ms = duration("initial_delay", 0, 0);
    let interval_ms = duration("interval", INTERVAL_MS, SHORTEST_INTERVAL_MS);
    let timeout_ms = duration("timeout", TIMEOUT_MS, 1);
    let success_threshold = threshold(reader, mapping, (&path, "success_threshold"), 1);
    if let Some(entry) = mapping.get("success_threshold")
        && name != "ready"
        && success_threshold != 1
    {
        let message = "only a ready probe can ask for more than one success";
        reader.at(&join(&path, "success_threshold")).refuse(&entry.node, message, "write 1");
    }
    let failure_threshold = threshold(reader, mapping, (&path, "failure_threshold"), FAILURES);
    let node = &mapping.get(action)?.node;
    let path = join(&path, action);
    let action = match action {
        "http" => http(reader, node, &path)?,
        "tcp" => {
            let mapping = keys(reader, (node, &path), &["port"])?;
            ProbeAction::Tcp { port: port(reader, (node, mapping), &path)? }
        }
        _ => command(reader, node, &path)?,
    };
    Some(Probe {
        action,
        initial_delay_ms,
        interval_ms,
        timeout_ms,
        success_threshold,
        failure_threshold,
    })
}

fn http(reader: &mut Reader, node: &Node, path: &str) -> Option<ProbeAction> {
    let mapping = keys(reader, (node, path), &["port", "path", "headers"])?;
    let port = port(reader, (node, mapping), path)?;
    let target = match mapping.get("path") {
        None => "/".to_owned(),
        Some(entry) => {
            let text = entry.node.scalar().unwrap_or_default();
            // What a request line can carry (RFC 9112, 3.2).
            if !text.starts_with('/') || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
                let message =
                    format!("expected a path such as /health, found {}", entry.node.kind());
                reader.at(&join(path, "path")).fail(&entry.node, message);
            }
            text.to_owned()
        }
    };
    let mut headers = BTreeMap::new();
    if let Some(entry) = mapping.get("headers") {
        let path = join(path, "headers");
        let Some(all) = entry.node.as_mapping() else {
            let message = format!("expected names with texts, found {}", entry.node.kind());
            reader.at(&path).fail(&entry.node, message);
            return None;
        };
        for (name, entry) in all {
            let value = entry.node.scalar();
            // RFC 9110, 5.1 and 5.5.
            let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
            let legal = !name.is_empty()
                && name.bytes().all(token)
                && value.is_some_and(|value| !value.chars().any(char::is_control));
            if !legal {
                let message = format!("{name:?} is no header of one line");
                reader.at(&join(&path, name)).fail(&entry.node, message);
            }
            headers.insert(name.clone(), value.unwrap_or_default().to_owned());
        }
    }
    Some(ProbeAction::Http { port, path: target, headers })
}

fn command(reader: &mut Reader, node: &Node, path: &str) -> Option<ProbeAction> {
    let words: Option<Vec<String>> = node
        .as_sequence()
        .and_then(|items| items.iter().map(|item| item.scalar().map(str::to_owned)).collect());
    match words {
        Some(words) if words.first().is_some_and(|program| !program.is_empty()) => {
            Some(ProbeAction::Command(words))
        }
        _ => {
            let message = format!("expected a program and its arguments, found {}", node.kind());
            let advice =
                "write a list: [PROGRAM, ARGUMENTS...]; for a line of shell [sh, -c, LINE]";
            reader.at(path).refuse(node, message, advice);
            None
        }
    }
}

fn port(reader: &mut Reader, (node, mapping): (&Node, &Mapping), path: &str) -> Option<u16> {
    let Some(entry) = mapping.get("port") else {
        reader.at(path).fail(node, "`port` is missing");
        return None;
    };
    let found = entry.node.scalar().and_then(|text| text.parse::<u16>().ok());
    if found.is_none_or(|port| port == 0) {
        let message = format!("expected a port from 1 to 65535, found {}", entry.node.kind());
        reader.at(&join(path, "port")).fail(&entry.node, message);
    }
    found
}

fn threshold(
    reader: &mut Reader,
    mapping: &Mapping,
    (path, key): (&str, &str),
    default: u32,
) -> u32 {
    let Some(entry) = mapping.get(key) else { return default };
    let found = entry.node.scalar().and_then(|text| text.parse::<u32>().ok());
    if found.is_none_or(|number| number == 0) {
        let message = format!("expected a whole number from 1, found {}", entry.node.kind());
        reader.at(&join(path, key)).fail(&entry.node, message);
    }
    found.unwrap_or(default)
}

/// A mapping of known keys; what is wrong with it is said.
fn keys<'a>(
    reader: &mut Reader,
    (node, path): (&'a Node, &str),
    known: &[&str],
) -> Option<&'a Mapping> {
    let Value::Mapping(mapping) = &node.value else {
        let message = format!("expected some of {}, found {}", known.join(", "), node.kind());
        reader.at(path).fail(node, message);
        return None;
    };
    for (name, entry) in mapping {
        if known.contains(&name.as_str()) {
            continue;
        }
        let near = units::nearest(name, known.iter().copied());
        let advice = near.map_or_else(
            || format!("known are {}", known.join(", ")),
            |near| format!("did you mean `{near}`?"),
        );
        let at = Node::text(name.clone(), &entry.key);
        reader.at(&join(path, name)).refuse(&at, format!("unknown key `{name}`"), &advice);
    }
    Some(mapping)
}
