//! Relative paths → absolute ones, each from the folder that its file belongs to.

use std::path::{Component, Path, PathBuf};

use crate::interpolate::Variables;
use crate::node::{Node, Value};

/// A path from a folder, without `.` and `..`; `~` is the home folder.
pub(crate) fn resolve(base: &Path, path: &str, variables: &Variables) -> PathBuf {
    let home = variables.get("HOME").map_or("/root", String::as_str);
    let path = match path.strip_prefix('~') {
        Some("") => PathBuf::from(home),
        Some(rest) if rest.starts_with('/') => Path::new(home).join(rest.trim_start_matches('/')),
        _ => PathBuf::from(path),
    };
    tidy(&base.join(path))
}

/// A path without `.` and `..`, by its text alone.
pub(crate) fn tidy(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                out.pop();
            }
            other => out.push(other),
        }
    }
    out
}

/// Makes the paths of a canonical document absolute.
pub(crate) fn document(document: &mut Node, base: &Path, variables: &Variables) {
    let turn = |node: &mut Node| absolute(node, base, variables);
    for service in children(document.get_mut("services")) {
        for key in ["env_file", "label_file"] {
            for item in items(service.get_mut(key)) {
                if item.as_mapping().is_some() {
                    item.get_mut("path").map(turn);
                } else {
                    turn(item);
                }
            }
        }
        for volume in items(service.get_mut("volumes")) {
            if volume.get("type").and_then(Node::scalar) == Some("bind") {
                volume.get_mut("source").map(turn);
            }
        }
        if let Some(develop) = service.get_mut("develop") {
            for watch in items(develop.get_mut("watch")) {
                watch.get_mut("path").map(turn);
            }
        }
        if let Some(context) = service.get_mut("build").and_then(|build| build.get_mut("context"))
            && !context.scalar().is_some_and(is_remote)
        {
            turn(context);
        }
    }
    for section in ["secrets", "configs"] {
        for item in children(document.get_mut(section)) {
            item.get_mut("file").map(turn);
        }
    }
}

fn is_remote(context: &str) -> bool {
    context.contains("://")
        || ["git@", "github.com/", "service:", "target:", "docker-image:"]
            .iter()
            .any(|prefix| context.starts_with(prefix))
}

fn absolute(node: &mut Node, base: &Path, variables: &Variables) {
    if let Value::Text(text) = &node.value {
        let path = resolve(base, text, variables);
        node.value = Value::Text(path.to_string_lossy().into_owned());
    }
}

/// The values of a mapping, if it is one.
pub(crate) fn children(node: Option<&mut Node>) -> impl Iterator<Item = &mut Node> {
    let mapping = node.and_then(Node::as_mapping_mut);
    mapping.into_iter().flat_map(|mapping| mapping.values_mut().map(|entry| &mut entry.node))
}

fn items(node: Option<&mut Node>) -> impl Iterator<Item = &mut Node> {
    let items = match node.map(|node| &mut node.value) {
        Some(Value::Sequence(items)) => Some(items),
        _ => None,
    };
    items.into_iter().flatten()
}
