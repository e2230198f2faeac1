//! Walks the merged tree and says of every key that Limpet does not honour what is done about it.

use crate::Diagnostic;
use crate::canonical::join;
use crate::diagnostic::Problems;
use crate::keys::{self, Status};
use crate::node::{Entry, Node, Value};

/// Limpet's own extensions of `deploy` that are fixed in the design and not there yet.
const LATER: [&str; 1] = ["x-offline"];

/// Warnings for reported keys, errors for refused ones.
pub(super) fn keys(tree: &Node, problems: &mut Problems) {
    walk(tree, "", "", problems);
}

fn walk(node: &Node, path: &str, pattern: &str, problems: &mut Problems) {
    match &node.value {
        Value::Mapping(mapping) => {
            for (name, entry) in mapping {
                let named = format!("{pattern}.*");
                let below = if keys::find(&named).is_some() { named } else { join(pattern, name) };
                let path = join(path, name);
                let Some(key) = keys::find(&below) else {
                    if pattern == "services.*.deploy" && LATER.contains(&name.as_str()) {
                        let message = "this extension has no effect in this version of Limpet";
                        let advice = "it arrives in a later version; until then, remove it";
                        problems.push(
                            Diagnostic::warning(message).at(&entry.key).key(path).advice(advice),
                        );
                    }
                    continue;
                };
                match key.status {
                    Status::Honoured(_) | Status::Within => {
                        walk(&entry.node, &path, &below, problems);
                    }
                    Status::Reported(advice) => {
                        reported(node, (&path, &below), (entry, advice), problems);
                    }
                    Status::Refused(advice) => {
                        let message = "Limpet cannot honour this key in this version";
                        problems.push(
                            Diagnostic::error(message).at(&entry.key).key(path).advice(advice),
                        );
                    }
                }
            }
        }
        Value::Sequence(items) => {
            for (index, item) in items.iter().enumerate() {
                walk(item, &format!("{path}[{index}]"), &format!("{pattern}[]"), problems);
            }
        }
        _ => {}
    }
}

fn reported(
    parent: &Node,
    (path, pattern): (&str, &str),
    (entry, advice): (&Entry, &'static str),
    problems: &mut Problems,
) {
    let message = "this key has no effect in this version of Limpet";
    let diagnostic = match pattern {
        "version" => Diagnostic::warning("this key is obsolete").advice("remove it"),
        "services.*.build" if parent.get("image").is_none() => {
            Diagnostic::error("Limpet does not build images, and there is no `image` to run")
                .advice(
                    "build it with any tool, load it with `limpet image load`, and name it with \
                     `image`",
                )
        }
        _ => Diagnostic::warning(message).advice(advice),
    };
    problems.push(diagnostic.at(&entry.key).key(path));
}
