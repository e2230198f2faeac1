//! How the number of instances follows the load: `deploy.x-autoscale`.
//!
//! Words and numbers are those of Kubernetes' HorizontalPodAutoscaler, written shorter. Whether a policy
//! makes sense for its service is decided in one place ([`ScalePolicy::problems`]); here it is said where
//! that stands in the file. Other keys that begin with `x-` are free; this one is checked like the rest.

use limpet_protocol::application::{Mode, Service};
use limpet_protocol::scale::{
    MetricSource, MetricTarget, Pace, Per, PolicyError, ScalePolicy, Select, Target,
};

use super::reader::Reader;
use crate::canonical::join;
use crate::node::{Mapping, Node};
use crate::units;

const KEY: &str = "deploy.x-autoscale";
const KEYS: [&str; 10] =
    ["min", "max", "cpu", "memory", "connections", "network", "metrics", "per", "up", "down"];
const PACE_KEYS: [&str; 5] = ["window", "step", "pods", "every", "select"];
const METRIC_KEYS: [&str; 7] =
    ["name", "topic", "labels", "http", "per_second", "average", "value"];
/// What a target of connections is called in reports.
const CONNECTIONS: &str = "connections";
/// What a target of bytes a second is called in reports.
const NETWORK: &str = "network";
/// Where Prometheus looks if nobody says otherwise.
const METRICS_PATH: &str = "/metrics";
/// Without `every` a step is for so long: the default of Kubernetes.
const EVERY_MS: u64 = 15_000;

/// Gives a service its policy, and says what is wrong with it.
pub(super) fn apply(reader: &mut Reader, service: &mut Service) {
    let Some(node) = reader.get(KEY) else { return };
    let Some(policy) = policy(reader, node) else { return };
    if policy.per == Per::Application
        && let Mode::Replicated { replicas } = &mut service.mode
        && reader.either("scale", "deploy.replicas").is_none()
    {
        *replicas = policy.min;
    }
    let mut problems = policy.problems(service);
    if reader.get("deploy.x-schedule").is_some() {
        // Services get their schedules after everything else.
        problems.push(PolicyError::Ends);
    }
    for problem in problems {
        let field = problem.field();
        let at = node.get(field).unwrap_or(node);
        let path = if field.is_empty() { KEY.to_owned() } else { join(KEY, field) };
        reader.at(&path).refuse(at, problem.to_string(), problem.advice());
    }
    service.autoscale = Some(policy);
}

fn policy(reader: &mut Reader, node: &Node) -> Option<ScalePolicy> {
    let mapping = known(reader, (node, KEY), &KEYS)?;
    let mut whole = |key: &str| -> Option<u32> {
        let entry = mapping.get(key)?;
        let found = entry.node.scalar().and_then(|text| text.parse().ok());
        expect(reader, &entry.node, &join(KEY, key), "a whole number", found)
    };
    let min = whole("min").unwrap_or(1);
    let max = whole("max");
    let Some(max) = max else {
        if !mapping.contains_key("max") {
            let message = "`max` is missing: how many there may be at most";
            reader.at(KEY).fail(node, message);
        }
        return None;
    };
    let mut share = |key: &str| -> Option<u32> {
        let entry = mapping.get(key)?;
        let found = entry.node.scalar().and_then(units::percent);
        expect(reader, &entry.node, &join(KEY, key), "a share such as 60%", found)
    };
    let (cpu_percent, memory_percent) = (share("cpu"), share("memory"));
    let metrics = metrics(reader, mapping);
    Some(ScalePolicy {
        per: per(reader, mapping),
        cpu_percent,
        memory_percent,
        metrics,
        up: pace(reader, mapping, "up", Pace::up()),
        down: pace(reader, mapping, "down", Pace::down()),
        ..ScalePolicy::between(min, max)
    })
}

fn per(reader: &mut Reader, mapping: &Mapping) -> Per {
    let Some(entry) = mapping.get("per") else { return Per::default() };
    let found = match entry.node.scalar() {
        Some("node") => Some(Per::Node),
        Some("application") => Some(Per::Application),
        _ => None,
    };
    let path = join(KEY, "per");
    expect(reader, &entry.node, &path, "node or application", found).unwrap_or_default()
}

/// `{window: 60s, step: 1, every: 15s}`: what is not said is the default's.
fn pace(reader: &mut Reader, mapping: &Mapping, key: &str, default: Pace) -> Pace {
    let Some(entry) = mapping.get(key) else { return default };
    let path = join(KEY, key);
    let Some(keys) = known(reader, (&entry.node, &path), &PACE_KEYS) else { return default };
    let mut time = |key: &str| -> Option<u64> {
        let entry = keys.get(key)?;
        let found = entry.node.scalar().and_then(units::duration_ms);
        expect(reader, &entry.node, &join(&path, key), "a duration such as 15s", found)
    };
    let window_ms = time("window").unwrap_or(default.window_ms);
    let every_ms = time("every");
    let mut found = Pace { window_ms, ..default };
    if keys.contains_key("step") || keys.contains_key("pods") {
        (found.instances, found.percent) = step(reader, (keys, &path));
        found.every_ms = EVERY_MS;
    }
    found.every_ms = every_ms.unwrap_or(found.every_ms);
    if let Some(entry) = keys.get("select") {
        let select = match entry.node.scalar() {
            Some("max") => Some(Select::Max),
            Some("min") => Some(Select::Min),
            Some("disabled") => Some(Select::Disabled),
            _ => None,
        };
        let path = join(&path, "select");
        let select = expect(reader, &entry.node, &path, "max, min or disabled", select);
        found.select = select.unwrap_or_default();
    }
    found
}

/// `step: 100%` or `step: 1`, and `pods: 4`: instances and hundredths.
fn step(reader: &mut Reader, (keys, path): (&Mapping, &str)) -> (Option<u32>, Option<u32>) {
    let (mut instances, mut percent) = (None, None);
    if let Some(entry) = keys.get("step") {
        let text = entry.node.scalar().unwrap_or_default();
        let expected = "a number such as 1, or a share such as 100%";
        let found = units::percent(text);
        let found = expect(reader, &entry.node, &join(path, "step"), expected, found);
        if text.ends_with('%') { percent = found } else { instances = found }
    }
    if let Some(entry) = keys.get("pods") {
        let path = join(path, "pods");
        if instances.is_some() {
            let message = "`step` is a number of instances too";
            reader.at(&path).refuse(&entry.node, message, "keep one, or write `step` as a share");
        }
        let found = entry.node.scalar().and_then(|text| text.parse().ok());
        instances = expect(reader, &entry.node, &path, "a whole number", found);
    }
    (instances, percent)
}

fn metrics(reader: &mut Reader, mapping: &Mapping) -> Vec<MetricTarget> {
    let mut found = vec![];
    if let Some(entry) = mapping.get(CONNECTIONS) {
        let number = entry.node.scalar().and_then(units::fine);
        let path = join(KEY, CONNECTIONS);
        let expected = "connections of an instance, such as 100";
        if let Some(number) = expect(reader, &entry.node, &path, expected, number) {
            found.push(MetricTarget {
                name: CONNECTIONS.to_owned(),
                labels: [].into(),
                source: MetricSource::Connections,
                per_second: false,
                target: Target::Average(number),
            });
        }
    }
    if let Some(entry) = mapping.get(NETWORK) {
        let bytes = entry.node.scalar().and_then(units::bytes);
        let path = join(KEY, NETWORK);
        let expected = "bytes a second of an instance, such as 2m";
        if let Some(bytes) = expect(reader, &entry.node, &path, expected, bytes) {
            found.push(MetricTarget {
                name: NETWORK.to_owned(),
                labels: [].into(),
                source: MetricSource::Network,
                per_second: true,
                target: Target::Average(bytes.saturating_mul(1_000)),
            });
        }
    }
    let Some(entry) = mapping.get("metrics") else { return found };
    let path = join(KEY, "metrics");
    let Some(items) = entry.node.as_sequence() else {
        let message = format!("expected a list of metrics, found {}", entry.node.kind());
        reader.at(&path).fail(&entry.node, message);
        return found;
    };
    for (index, item) in items.iter().enumerate() {
        found.extend(metric(reader, (item, &format!("{path}[{index}]"))));
    }
    found
}

fn metric(reader: &mut Reader, (node, path): (&Node, &str)) -> Option<MetricTarget> {
    let mapping = known(reader, (node, path), &METRIC_KEYS)?;
    let text = |key| mapping.get(key).and_then(|entry| entry.node.scalar()).unwrap_or_default();
    let is_published = mapping.contains_key("topic");
    let name = text(if is_published { "topic" } else { "name" });
    let target = match (mapping.get("average"), mapping.get("value")) {
        (Some(entry), None) => Some((entry, Target::Average as fn(u64) -> Target)),
        (None, Some(entry)) => Some((entry, Target::Value as fn(u64) -> Target)),
        _ => {
            let message = "a metric has either `average` or `value`";
            let advice =
                "`average: 10` is for each instance, `value: 100` for all of them together";
            reader.at(path).refuse(node, message, advice);
            None
        }
    };
    let target = target.and_then(|(entry, target)| {
        let number = entry.node.scalar().and_then(units::fine);
        expect(reader, &entry.node, path, "a number", number).map(target)
    });
    let mut labels = [].into();
    if let Some(entry) = mapping.get("labels") {
        let label = |(name, entry): (&String, &crate::node::Entry)| {
            Some((name.clone(), entry.node.scalar()?.to_owned()))
        };
        let found = entry.node.as_mapping().and_then(|all| all.iter().map(label).collect());
        let path = join(path, "labels");
        labels = expect(reader, &entry.node, &path, "names with texts", found)?;
    }
    let source = if is_published {
        for key in ["name", "http"].into_iter().filter_map(|key| mapping.get(key)) {
            let message = "a metric is either asked for with `http` or published on a `topic`";
            reader.at(path).refuse(&key.node, message, "`{topic: jobs_open, average: 10}`");
        }
        MetricSource::Topic
    } else {
        http(reader, (node, mapping), path)?
    };
    let per_second = mapping.get("per_second").is_some_and(|entry| entry.node.is_true());
    Some(MetricTarget { name: name.to_owned(), labels, source, per_second, target: target? })
}

fn http(
    reader: &mut Reader,
    (node, mapping): (&Node, &Mapping),
    path: &str,
) -> Option<MetricSource> {
    let Some(entry) = mapping.get("http") else {
        let message = "`http` or `topic` is missing: where the metric is had";
        let advice = "`http: {port: 9090, path: /metrics}`, or `topic: NAME` without `name`";
        reader.at(path).refuse(node, message, advice);
        return None;
    };
    let path = join(path, "http");
    let keys = known(reader, (&entry.node, &path), &["port", "path", "service"])?;
    let port = keys.get("port").map_or(&entry.node, |entry| &entry.node);
    let number = port.scalar().and_then(|text| text.parse().ok()).filter(|port| *port != 0);
    let number = expect(reader, port, &join(&path, "port"), "a port from 1 to 65535", number);
    let target = keys.get("path").map_or(METRICS_PATH, |it| it.node.scalar().unwrap_or_default());
    let legal = target.starts_with('/') && target.bytes().all(|byte| byte.is_ascii_graphic());
    if let (false, Some(entry)) = (legal, keys.get("path")) {
        let message = format!("expected a path such as /metrics, found {}", entry.node.kind());
        reader.at(&join(&path, "path")).fail(&entry.node, message);
    }
    let service = match keys.get("service") {
        None => None,
        Some(entry) => {
            let name = entry.node.scalar().and_then(|name| name.parse().ok());
            let expected = "the name of a service of this file";
            Some(expect(reader, &entry.node, &join(&path, "service"), expected, name)?)
        }
    };
    Some(MetricSource::Http { service, port: number?, path: target.to_owned() })
}

/// What was found, or what was expected in its place.
fn expect<T>(
    reader: &mut Reader,
    node: &Node,
    path: &str,
    expected: &str,
    found: Option<T>,
) -> Option<T> {
    if found.is_none() {
        reader.at(path).fail(node, format!("expected {expected}, found {}", node.kind()));
    }
    found
}

fn known<'a>(
    reader: &mut Reader,
    (node, path): (&'a Node, &str),
    known: &[&str],
) -> Option<&'a Mapping> {
    let Some(mapping) = node.as_mapping() else {
        let message = format!("expected some of {}, found {}", known.join(", "), node.kind());
        reader.at(path).fail(node, message);
        return None;
    };
    for (name, entry) in mapping.iter().filter(|(name, _)| !known.contains(&name.as_str())) {
        let advice = match units::nearest(name, known.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("known are {}", known.join(", ")),
        };
        let message = format!("unknown key `{name}`");
        reader.at(&join(path, name)).refuse(&entry.node, message, &advice);
    }
    Some(mapping)
}

#[cfg(test)]
mod tests;
