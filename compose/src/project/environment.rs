//! Files of variables and labels of each service are read and laid under what the service itself
//! says; variables without a value take it from the surroundings.

use std::path::Path;

use crate::dotenv;
use crate::interpolate::Variables;
use crate::loader::Loader;
use crate::node::{Entry, Mapping, Node, Value};

/// Reads what the services name, and takes the names away.
pub(super) fn read(loader: &mut Loader, tree: &mut Node, variables: &Variables) {
    for service in crate::paths::children(tree.get_mut("services")) {
        let mut from_files = Mapping::new();
        for file in taken(service, "env_file") {
            let path = file.get("path").and_then(Node::scalar).unwrap_or_default();
            let needed = file.get("required").is_none_or(Node::is_true);
            let raw = file.get("format").and_then(Node::scalar) == Some("raw");
            from_files.extend(variables_of(loader, &file, (path, needed, raw), variables));
        }
        lay_under(service, "environment", from_files);
        let mut from_files = Mapping::new();
        for file in taken(service, "label_file") {
            let path = file.scalar().unwrap_or_default().to_owned();
            from_files.extend(variables_of(loader, &file, (&path, true, false), variables));
        }
        lay_under(service, "labels", from_files);
        if let Some(environment) = service.get_mut("environment").and_then(Node::as_mapping_mut) {
            for (name, entry) in environment {
                if entry.node.is_null()
                    && let Some(value) = variables.get(name)
                {
                    entry.node.value = Value::Text(value.clone());
                }
            }
        }
    }
}

fn taken(service: &mut Node, key: &str) -> Vec<Node> {
    let entry = service.as_mapping_mut().and_then(|all| all.shift_remove(key));
    match entry.map(|entry| entry.node.value) {
        Some(Value::Sequence(items)) => items,
        _ => Vec::new(),
    }
}

fn variables_of(
    loader: &mut Loader,
    file: &Node,
    (path, needed, raw): (&str, bool, bool),
    variables: &Variables,
) -> Mapping {
    let found = match loader.source(Path::new(path)) {
        Ok(source) => dotenv::parse(&source, variables, raw),
        Err(error) if !needed && error.kind() == std::io::ErrorKind::NotFound => {
            return Mapping::new();
        }
        Err(error) => {
            loader.unreadable(Path::new(path), &error, Some(&file.place));
            return Mapping::new();
        }
    };
    match found {
        Ok(found) => {
            let entry = |(name, value): (String, String)| {
                (name, Entry { key: file.place.clone(), node: Node::text(value, &file.place) })
            };
            found.into_iter().map(entry).collect()
        }
        Err(diagnostic) => {
            loader.problems.push(diagnostic);
            Mapping::new()
        }
    }
}

fn lay_under(service: &mut Node, key: &str, below: Mapping) {
    if below.is_empty() {
        return;
    }
    let above = service.as_mapping_mut().and_then(|all| all.shift_remove(key));
    let mut whole = below;
    if let Some(Value::Mapping(above)) = above.map(|entry| entry.node.value) {
        whole.extend(above);
    }
    service.set(key, Value::Mapping(whole));
}
