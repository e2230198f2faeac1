//! Volumes: `[SOURCE:]TARGET[:MODE]`. A source that begins with `/`, `.` or `~` is a path, any
//! other a volume's name.

use crate::Diagnostic;
use crate::canonical::Spot;
use crate::diagnostic::Problems;
use crate::node::{Node, Value};

const PROPAGATION: [&str; 6] = ["shared", "slave", "private", "rshared", "rslave", "rprivate"];

/// Expands one volume.
pub(super) fn expand(
    node: &mut Node,
    spot: Spot,
    problems: &mut Problems,
) -> Result<(), Diagnostic> {
    let Value::Text(text) = &node.value else { return long(node, spot) };
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, mode) = match parts.as_slice() {
        [target] => (None, *target, ""),
        [source, target] if target.starts_with('/') => (Some(*source), *target, ""),
        [target, mode] if target.starts_with('/') => (None, *target, *mode),
        [source, target, mode] => (Some(*source), *target, *mode),
        _ => return Err(misfit(node, spot, text)),
    };
    if !target.starts_with('/') || source == Some("") {
        return Err(misfit(node, spot, text));
    }
    let is_path = source.is_some_and(|source| source.starts_with(['/', '.', '~']));
    let kind = if is_path { "bind" } else { "volume" };
    let mut entries = vec![("type", Value::Text(kind.to_owned()))];
    entries.extend(source.map(|source| ("source", Value::Text(source.to_owned()))));
    entries.push(("target", Value::Text(target.to_owned())));
    let mut bind = vec![("create_host_path", Value::Bool(true))];
    for option in mode.split(',').filter(|option| !option.is_empty()) {
        match option {
            "rw" => {}
            "ro" => entries.push(("read_only", Value::Bool(true))),
            "z" | "Z" => bind.push(("selinux", Value::Text(option.to_owned()))),
            "cached" | "delegated" | "consistent" => {
                entries.push(("consistency", Value::Text(option.to_owned())));
            }
            "nocopy" if !is_path => {}
            option if PROPAGATION.contains(&option) => {
                bind.push(("propagation", Value::Text(option.to_owned())));
            }
            other => {
                let message = format!("unknown option {other:?} of a volume; it has no effect");
                let advice = "known are ro, rw, z, Z, nocopy, cached and the propagations";
                let place = node.place.find(other);
                problems
                    .push(Diagnostic::warning(message).at(&place).key(spot.path).advice(advice));
            }
        }
    }
    let below = if is_path {
        Node::mapping_of(&node.place, bind)
    } else {
        Node::empty_mapping(&node.place)
    };
    entries.push((kind, below.value));
    *node = Node::mapping_of(&node.place, entries);
    Ok(())
}

fn misfit(node: &Node, spot: Spot, text: &str) -> Diagnostic {
    let message = format!("expected [SOURCE:]TARGET[:MODE], found {text:?}");
    spot.fail(node, message).advice("the target is an absolute path in the container")
}

fn long(node: &Node, spot: Spot) -> Result<(), Diagnostic> {
    if node.as_mapping().is_none() {
        return Ok(());
    }
    for needed in ["type", "target"] {
        if node.get(needed).is_none_or(Node::is_null) {
            return Err(spot.fail(node, format!("`{needed}` is missing")));
        }
    }
    let kind = node.get("type").and_then(Node::scalar).unwrap_or_default();
    if kind == "bind" && node.get("source").is_none_or(Node::is_null) {
        return Err(spot.fail(node, "`source` is missing: a bind mount needs a path of the node"));
    }
    Ok(())
}
