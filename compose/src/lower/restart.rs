//! What happens when it ends, how it is stopped, and how much of its output is kept.

use limpet_protocol::spec::{LogPolicy, RestartCondition, RestartPolicy, StopPolicy};

use super::reader::Reader;
use crate::units;

/// `deploy.restart_policy` before `restart`, as the specification says. Without either a service is
/// started again whatever happens, as in a stack.
pub(super) fn restart(reader: &mut Reader) -> RestartPolicy {
    let Some(policy) = reader.get("deploy.restart_policy") else { return short(reader) };
    if let Some(node) = reader.get("restart") {
        let message = "`deploy.restart_policy` is there too and wins";
        reader.at("restart").warn(node, message, "remove one of them");
    }
    let mut found = RestartPolicy::default();
    let path = |key: &str| format!("deploy.restart_policy.{key}");
    if let Some(node) = policy.get("condition") {
        found.condition = match node.scalar() {
            Some("none" | "no") => RestartCondition::None,
            Some("on-failure") => RestartCondition::OnFailure,
            Some("any" | "always" | "unless-stopped") => RestartCondition::Any,
            _ => {
                let message = format!("expected none, on-failure or any, found {}", node.kind());
                reader.at(&path("condition")).fail(node, message);
                RestartCondition::Any
            }
        };
    }
    let milliseconds =
        |key: &str| reader.text(&path(key)).and_then(|text| units::duration_ms(&text));
    found.delay_ms = milliseconds("delay").unwrap_or(found.delay_ms);
    found.window_ms = milliseconds("window").unwrap_or(found.window_ms);
    found.max_attempts = reader
        .integer(&path("max_attempts"), 0, i64::from(u32::MAX))
        .and_then(|number| u32::try_from(number).ok())
        .filter(|&number| number > 0);
    found
}

fn short(reader: &mut Reader) -> RestartPolicy {
    let mut found = RestartPolicy::default();
    let Some(node) = reader.get("restart") else { return found };
    let text = node.scalar().unwrap_or_default();
    let (word, attempts) = match text.split_once(':') {
        Some((word, attempts)) => (word, Some(attempts)),
        None => (text, None),
    };
    found.condition = match (word, attempts) {
        ("no" | "", None) => RestartCondition::None,
        ("always" | "unless-stopped", None) => RestartCondition::Any,
        ("on-failure", None) => RestartCondition::OnFailure,
        ("on-failure", Some(attempts)) if attempts.parse::<u32>().is_ok() => {
            found.max_attempts = attempts.parse().ok().filter(|&number| number > 0);
            RestartCondition::OnFailure
        }
        _ => {
            let message =
                format!("expected no, always, on-failure[:N] or unless-stopped, found {text:?}");
            reader.at("restart").fail(node, message);
            RestartCondition::Any
        }
    };
    found
}

pub(super) fn stop(reader: &mut Reader) -> StopPolicy {
    let mut found = StopPolicy::default();
    if let Some(node) = reader.get("stop_signal") {
        found.signal = node.scalar().and_then(units::signal);
        if found.signal.is_none() {
            let message = format!("there is no signal {}", node.kind());
            reader.at("stop_signal").refuse(node, message, "write a name such as SIGINT");
        }
    }
    let grace = reader.text("stop_grace_period").and_then(|text| units::duration_ms(&text));
    found.grace_period_ms = grace.unwrap_or(found.grace_period_ms);
    found
}

pub(super) fn log(reader: &mut Reader) -> LogPolicy {
    let mut found = LogPolicy::default();
    if let Some(node) = reader.get("logging.driver")
        && !matches!(node.scalar(), Some("json-file" | "local"))
    {
        let message = format!("there is no log driver {}: output is kept on the node", node.kind());
        reader.at("logging.driver").warn(node, message, "see it with `limpet logs`");
    }
    let options = reader.get("logging.options").and_then(crate::node::Node::as_mapping);
    for (name, entry) in options.into_iter().flatten() {
        let text = entry.node.scalar().unwrap_or_default();
        let path = format!("logging.options.{name}");
        let fits = match name.as_str() {
            "max-size" => units::bytes(text)
                .filter(|&bytes| bytes > 0)
                .map(|bytes| found.max_file_bytes = bytes)
                .is_some(),
            "max-file" => text
                .parse()
                .ok()
                .filter(|&files| files > 0)
                .map(|files| found.max_files = files)
                .is_some(),
            _ => {
                let message = "this option has no effect in Limpet";
                let advice = "known are `max-size` and `max-file`";
                reader.at(&path).warn(&entry.node, message, advice);
                true
            }
        };
        if !fits {
            let message = format!("expected a size such as 10m or a number, found {text:?}");
            reader.at(&path).fail(&entry.node, message);
        }
    }
    found
}
