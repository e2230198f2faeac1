//! Short syntax → long, key by key. What is in the long syntax already, or is wrong, is left as
//! it is: the check of shapes follows.

mod ports;
mod values;
mod volumes;

use crate::Diagnostic;
use crate::canonical::Spot;
use crate::diagnostic::Problems;
use crate::node::{Entry, Mapping, Node, Value};

pub(crate) use values::{check, needed};

/// What may stand at a key that has a short syntax, for messages.
pub(crate) fn expected(pattern: &str) -> Option<&'static str> {
    Some(match pattern {
        "services.*" => "a mapping with `image` and more",
        "services.*.build" => "a folder, or a mapping",
        "services.*.extends" => "a service's name, or a mapping",
        "services.*.depends_on" | "services.*.networks" => "a list of names, or a mapping",
        "services.*.ports[]" => "[[ADDRESS:]PUBLISHED:]PORT[/PROTOCOL], or a mapping",
        "services.*.volumes[]" => "[SOURCE:]TARGET[:MODE], or a mapping",
        "services.*.devices[]" => "SOURCE[:TARGET[:PERMISSIONS]], or a mapping",
        "services.*.env_file" => "a file, or a list of files",
        "services.*.env_file[]" => "a file, or a mapping with `path`",
        "services.*.ulimits.*" => "a number, or a mapping with `soft` and `hard`",
        "services.*.extra_hosts" => "a list of NAME=ADDRESS, or a mapping",
        "services.*.dns" | "services.*.dns_search" | "services.*.tmpfs" => {
            "a text, or a list of texts"
        }
        _ => return None,
    })
}

/// Makes long syntax of short.
pub(crate) fn expand(
    node: &mut Node,
    spot: Spot,
    problems: &mut Problems,
) -> Result<(), Diagnostic> {
    match spot.pattern {
        "services.*.build" => from_text(node, "context"),
        "services.*.extends" => from_text(node, "service"),
        "services.*.secrets[]" | "services.*.configs[]" | "services.*.build.secrets[]" => {
            from_text(node, "source");
        }
        "services.*.env_file" | "include" => one_to_list(node),
        "include[]" => from_text(node, "path"),
        "include[].path"
        | "include[].env_file"
        | "services.*.dns"
        | "services.*.dns_search"
        | "services.*.tmpfs"
        | "services.*.label_file"
        | "services.*.develop.watch[].ignore"
        | "services.*.develop.watch[].include" => one_to_list(node),
        "services.*.env_file[]" => {
            from_text(node, "path");
            default(node, "required", Value::Bool(true));
        }
        "services.*.depends_on" | "services.*.networks" | "services.*.models" => names(node),
        "services.*.depends_on.*" => {
            default(node, "condition", Value::Text("service_started".to_owned()));
            default(node, "required", Value::Bool(true));
        }
        "services.*.ports" => ports::expand(node, spot)?,
        "services.*.volumes[]" => volumes::expand(node, spot, problems)?,
        "services.*.devices[]" => device(node, spot)?,
        "services.*.gpus" => all_gpus(node),
        "services.*.gpus[].count" | "services.*.deploy.resources.reservations.devices[].count" => {
            all(node)
        }
        "services.*.build.provenance" | "services.*.build.sbom" => {
            if let Value::Bool(value) = node.value {
                node.value = Value::Text(value.to_string());
            }
        }
        "services.*.ulimits.*" | "services.*.build.ulimits.*" => ulimit(node),
        "services.*.healthcheck.test" => health_test(node),
        "services.*.extra_hosts" | "services.*.build.extra_hosts" => hosts(node, spot)?,
        "networks.*" | "volumes.*" | "secrets.*" | "configs.*" => external(node, spot, problems),
        _ => {}
    }
    Ok(())
}

fn from_text(node: &mut Node, key: &str) {
    if let Value::Text(text) = &node.value {
        let text = Value::Text(text.clone());
        let tag = node.tag;
        *node = Node::mapping_of(&node.place, vec![(key, text)]);
        node.tag = tag;
    }
}

fn one_to_list(node: &mut Node) {
    if let Value::Text(text) = &node.value {
        node.value = Value::Sequence(vec![Node::text(text.clone(), &node.place)]);
    }
}

fn default(node: &mut Node, key: &str, value: Value) {
    if node.as_mapping().is_some() && node.get(key).is_none_or(Node::is_null) {
        node.set(key, value);
    }
}

/// A list of names becomes a mapping of names to nothing; what nothing means, the key itself says.
fn names(node: &mut Node) {
    let Value::Sequence(items) = &node.value else { return };
    let mut mapping = Mapping::new();
    for item in items {
        let Some(name) = item.scalar() else { return };
        let node = Node::empty_mapping(&item.place);
        mapping.insert(name.to_owned(), Entry { key: item.place.clone(), node });
    }
    node.value = Value::Mapping(mapping);
}

fn device(node: &mut Node, spot: Spot) -> Result<(), Diagnostic> {
    let Value::Text(text) = &node.value else { return Ok(()) };
    let parts: Vec<&str> = text.split(':').collect();
    let legal = |text: &str| !text.is_empty() && text.bytes().all(|b| b"rwm".contains(&b));
    let (source, target, permissions) = match parts.as_slice() {
        [source] => (*source, *source, "rwm"),
        [source, permissions] if legal(permissions) => (*source, *source, *permissions),
        [source, target] => (*source, *target, "rwm"),
        [source, target, permissions] if legal(permissions) => (*source, *target, *permissions),
        _ => {
            let message = format!("expected SOURCE[:TARGET[:PERMISSIONS]], found {text:?}");
            return Err(spot.fail(node, message).advice("permissions are any of `r`, `w` and `m`"));
        }
    };
    let value = |text: &str| Value::Text(text.to_owned());
    let entries = vec![
        ("source", value(source)),
        ("target", value(target)),
        ("permissions", value(permissions)),
    ];
    *node = Node::mapping_of(&node.place, entries);
    Ok(())
}

/// `all` is -1, as Docker counts.
fn all(node: &mut Node) {
    if node.scalar() == Some("all") {
        node.value = Value::Number("-1".to_owned());
    }
}

fn all_gpus(node: &mut Node) {
    if node.scalar() == Some("all") {
        let count = vec![("count", Value::Number("-1".to_owned()))];
        node.value = Value::Sequence(vec![Node::mapping_of(&node.place, count)]);
    }
}

fn ulimit(node: &mut Node) {
    if let Some(limit) = node.scalar().map(|text| Value::Number(text.to_owned())) {
        let tag = node.tag;
        *node = Node::mapping_of(&node.place, vec![("soft", limit.clone()), ("hard", limit)]);
        node.tag = tag;
    }
}

fn health_test(node: &mut Node) {
    if let Value::Text(text) = &node.value {
        let words = ["CMD-SHELL", text].map(|word| Node::text(word, &node.place));
        node.value = Value::Sequence(words.into());
    }
}

/// `name: address`, `name: [addresses]`, `name=address` and `name:address` → `name=address`.
fn hosts(node: &mut Node, spot: Spot) -> Result<(), Diagnostic> {
    let mut lines = Vec::new();
    match &node.value {
        Value::Mapping(mapping) => {
            for (name, entry) in mapping {
                let addresses = match &entry.node.value {
                    Value::Sequence(items) => items.iter().collect(),
                    _ => vec![&entry.node],
                };
                for address in addresses {
                    let Some(text) = address.scalar() else {
                        let message = format!("expected an address, found {}", address.kind());
                        return Err(spot.fail(address, message));
                    };
                    lines.push(Node::text(format!("{name}={text}"), &address.place));
                }
            }
        }
        Value::Sequence(items) => {
            for item in items {
                let text = item.scalar().unwrap_or_default();
                let Some((name, address)) = text.split_once(['=', ':']) else {
                    let message = format!("expected NAME=ADDRESS, found {}", item.kind());
                    return Err(spot.fail(item, message));
                };
                let address = address.trim_start_matches('[').trim_end_matches(']');
                lines.push(Node::text(format!("{name}={address}"), &item.place));
            }
        }
        _ => return Ok(()),
    }
    node.value = Value::Sequence(lines);
    Ok(())
}

/// `external: {name: x}`, the old form of `external: true` with `name: x`.
fn external(node: &mut Node, spot: Spot, problems: &mut Problems) {
    let Some(old) = node.get("external") else { return };
    if old.as_mapping().is_none() {
        return;
    }
    let name = old.get("name").and_then(Node::scalar).map(str::to_owned);
    let message = "`external.name` is obsolete";
    let advice = "write `external: true` and `name: ...` beside it";
    let place = old.place.clone();
    problems.push(Diagnostic::warning(message).at(&place).key(spot.path).advice(advice));
    node.set("external", Value::Bool(true));
    if let Some(name) = name {
        node.set("name", Value::Text(name));
    }
}

#[cfg(test)]
mod tests;
