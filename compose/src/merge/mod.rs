//! One tree over another, by the specification's rules (compose-spec, "Merge").
//!
//! Mappings are merged, lists appended, other values replaced. Some lists have items that are
//! unique: a later one takes the place of the earlier. Command, entrypoint and the test of a health
//! check replace. `!reset` takes away, `!override` replaces.

use indexmap::IndexMap;

use crate::canonical::join;
use crate::keys::{self, Shape};
use crate::node::{Entry, Mapping, Node, Tag, Value};

/// What happens to the tags of the upper tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tags {
    /// They have done their work.
    Drop,
    /// They are kept for the next merge: the upper tree extends the lower within one file.
    Keep,
}

/// The lower tree with the upper one over it.
pub(crate) fn merge(lower: Node, upper: Node, tags: Tags) -> Node {
    merge_at(lower, upper, "", tags)
}

/// As [`merge`], for two services.
pub(crate) fn merge_services(lower: Node, upper: Node) -> Node {
    merge_at(lower, upper, "services.*", Tags::Keep)
}

fn merge_at(lower: Node, upper: Node, pattern: &str, tags: Tags) -> Node {
    if upper.tag == Tag::Override {
        let tag = if tags == Tags::Keep { Tag::Override } else { Tag::None };
        return Node { tag, ..clean(upper, pattern, tags) };
    }
    if pattern == "services.*.logging" && other_driver(&lower, &upper) {
        return clean(upper, pattern, tags);
    }
    match (lower.value, upper.value) {
        (Value::Mapping(below), Value::Mapping(above)) if pattern != "services.*.ulimits.*" => {
            Node {
                value: Value::Mapping(mappings(below, above, pattern, tags)),
                ..lower_part(lower.place, lower.tag)
            }
        }
        (Value::Sequence(below), Value::Sequence(above)) if !replaces(pattern) => {
            let items = sequences(below, above, pattern, tags);
            Node { value: Value::Sequence(items), ..lower_part(lower.place, lower.tag) }
        }
        (below @ (Value::Mapping(_) | Value::Sequence(_)), Value::Null) if !replaces(pattern) => {
            Node { value: below, ..lower_part(lower.place, lower.tag) }
        }
        (_, above) => {
            clean(Node { value: above, place: upper.place, tag: upper.tag }, pattern, tags)
        }
    }
}

fn lower_part(place: crate::node::Place, tag: Tag) -> Node {
    Node { value: Value::Null, place, tag }
}

fn other_driver(lower: &Node, upper: &Node) -> bool {
    let driver = |node: &Node| node.get("driver").and_then(Node::scalar).map(str::to_owned);
    matches!((driver(lower), driver(upper)), (Some(below), Some(above)) if below != above)
}

fn replaces(pattern: &str) -> bool {
    matches!(
        pattern,
        "services.*.command" | "services.*.entrypoint" | "services.*.healthcheck.test"
    )
}

fn mappings(mut below: Mapping, above: Mapping, pattern: &str, tags: Tags) -> Mapping {
    for (name, entry) in above {
        let pattern = child(pattern, &name);
        if entry.node.tag == Tag::Reset {
            below.shift_remove(&name);
            if tags == Tags::Keep {
                below.insert(name, entry);
            }
            continue;
        }
        match below.get_mut(&name) {
            None => {
                let node = clean(entry.node, &pattern, tags);
                below.insert(name, Entry { key: entry.key, node });
            }
            Some(known) => {
                let empty = Node::new(Value::Null, known.node.place.clone());
                let lower = std::mem::replace(&mut known.node, empty);
                known.node = merge_at(lower, entry.node, &pattern, tags);
                known.key = entry.key;
            }
        }
    }
    below
}

fn child(pattern: &str, name: &str) -> String {
    const NAMED: [&str; 9] = [
        "services",
        "networks",
        "volumes",
        "secrets",
        "configs",
        "models",
        "services.*.depends_on",
        "services.*.networks",
        "services.*.ulimits",
    ];
    if NAMED.contains(&pattern) { format!("{pattern}.*") } else { join(pattern, name) }
}

fn sequences(below: Vec<Node>, above: Vec<Node>, pattern: &str, tags: Tags) -> Vec<Node> {
    let mut items: IndexMap<Identity, Node> = IndexMap::new();
    let pattern = format!("{pattern}[]");
    for item in below.into_iter().chain(above) {
        if item.tag == Tag::Reset {
            continue;
        }
        let item = clean(item, &pattern, tags);
        let identity =
            identity(&pattern, &item).map_or(Identity::Place(items.len()), Identity::Name);
        items.insert(identity, item);
    }
    items.into_values().collect()
}

/// The items of one list: those with the same name take each other's place.
#[derive(PartialEq, Eq, Hash)]
enum Identity {
    Name(String),
    Place(usize),
}

/// Whether saying something twice in a list is the same as saying it once.
fn is_set(pattern: &str) -> bool {
    pattern == "services.*.ports"
        || keys::find(pattern).is_some_and(|key| key.shape == Shape::Texts)
}

/// What makes an item of a list unique; nothing if it is not.
fn identity(pattern: &str, item: &Node) -> Option<String> {
    let part = |key: &str| item.get(key).and_then(Node::scalar);
    match pattern {
        "services.*.ports[]" => Some(format!(
            "{:?}",
            [part("host_ip"), part("published"), part("target"), part("protocol")]
        )),
        "services.*.volumes[]" | "services.*.devices[]" => part("target").map(str::to_owned),
        "services.*.secrets[]" | "services.*.configs[]" => {
            let target = part("target").or_else(|| part("source"))?;
            let folder = if pattern.contains("secrets") { "/run/secrets/" } else { "/" };
            Some(target.strip_prefix(folder).unwrap_or(target).to_owned())
        }
        "services.*.env_file[]" => part("path").map(str::to_owned),
        "networks.*.ipam.config[]" => part("subnet").map(str::to_owned),
        _ => item.scalar().map(str::to_owned),
    }
}

/// The upper tree alone: what is reset is not there, what overrides has nothing to override.
fn clean(node: Node, pattern: &str, tags: Tags) -> Node {
    if tags == Tags::Keep {
        return node;
    }
    let value = match node.value {
        Value::Mapping(mapping) => {
            let kept = mapping.into_iter().filter(|(_, entry)| entry.node.tag != Tag::Reset);
            Value::Mapping(
                kept.map(|(name, entry)| {
                    let node = clean(entry.node, &child(pattern, &name), tags);
                    (name, Entry { key: entry.key, node })
                })
                .collect(),
            )
        }
        Value::Sequence(items) if is_set(pattern) => {
            Value::Sequence(sequences(Vec::new(), items, pattern, tags))
        }
        Value::Sequence(items) => {
            let pattern = format!("{pattern}[]");
            let kept = items.into_iter().filter(|item| item.tag != Tag::Reset);
            Value::Sequence(kept.map(|item| clean(item, &pattern, tags)).collect())
        }
        other => other,
    };
    Node { value, place: node.place, tag: Tag::None }
}

#[cfg(test)]
mod tests;
