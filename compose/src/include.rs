//! `include`: other projects whose resources are copied into this one. Each has its own project
//! directory and its own files of variables; a resource that both have must be the same.

use std::path::{Path, PathBuf};

use crate::Diagnostic;
use crate::extends::Origin;
use crate::limits::MAX_INCLUDE_DEPTH;
use crate::loader::Loader;
use crate::node::{Node, Value};
use crate::paths;

const SECTIONS: [&str; 6] = ["services", "networks", "volumes", "secrets", "configs", "models"];

/// Takes `include` out of a document and what it names into it.
pub(crate) fn apply(loader: &mut Loader, document: &mut Node, origin: &Origin) {
    let includes = document.as_mapping_mut().and_then(|all| all.shift_remove("include"));
    let Some(includes) = includes else { return };
    for include in includes.node.as_sequence().unwrap_or_default() {
        if let Some(included) = load(loader, include, origin) {
            copy(loader, document, included);
        }
    }
}

fn texts(node: Option<&Node>) -> Vec<&str> {
    let items = node.and_then(Node::as_sequence).unwrap_or_default();
    items.iter().filter_map(Node::scalar).collect()
}

fn load(loader: &mut Loader, include: &Node, origin: &Origin) -> Option<Node> {
    let resolve = |path: &str| paths::resolve(origin.base, path, origin.variables);
    let files: Vec<PathBuf> = texts(include.get("path")).into_iter().map(resolve).collect();
    let Some(first) = files.first() else {
        loader.problems.push(
            Diagnostic::error("`path` is missing: name the file").at(&include.place).key("include"),
        );
        return None;
    };
    let remote = texts(include.get("path")).into_iter().find(|path| path.contains("://"));
    if let Some(remote) = remote {
        let message = format!("{remote} is not a file: only files are included");
        loader.problems.push(Diagnostic::error(message).at(&include.place).key("include"));
        return None;
    }
    let cycle = files.iter().find(|file| loader.including.contains(file));
    if cycle.is_some() || loader.including.len() >= MAX_INCLUDE_DEPTH {
        let chain: Vec<String> =
            (loader.including.iter().chain(cycle)).map(|file| file.display().to_string()).collect();
        let message = match cycle {
            Some(_) => format!("a file includes itself: {}", chain.join(" → ")),
            None => format!("includes more than {MAX_INCLUDE_DEPTH} deep: {}", chain.join(" → ")),
        };
        loader.problems.push(Diagnostic::error(message).at(&include.place).key("include"));
        return None;
    }
    let directory = match include.get("project_directory").and_then(Node::scalar) {
        Some(directory) => resolve(directory),
        None => first.parent().unwrap_or(Path::new("/")).to_owned(),
    };
    let env_files: Vec<PathBuf> = texts(include.get("env_file")).into_iter().map(resolve).collect();
    let variables = loader.variables(origin.variables, &directory, &env_files);
    Some(loader.files(&files, &directory, &variables, Some(&include.place)))
}

fn copy(loader: &mut Loader, document: &mut Node, included: Node) {
    let Value::Mapping(included) = included.value else { return };
    for (section, entry) in included {
        if !SECTIONS.contains(&section.as_str()) {
            continue;
        }
        if document.get(&section).is_none() {
            document.set(&section, Node::empty_mapping(&entry.node.place).value);
        }
        let Value::Mapping(resources) = entry.node.value else { continue };
        let Some(mine) = document.get_mut(&section).and_then(Node::as_mapping_mut) else {
            continue;
        };
        for (name, resource) in resources {
            match mine.get(&name) {
                Some(known) if !known.node.same(&resource.node) => {
                    let message =
                        format!("`{name}` is also in the included {}", resource.key.source.name);
                    let advice = "rename one of them, or list a file that overrides it in the same \
                         `path` of `include`";
                    loader.problems.push(
                        Diagnostic::error(message)
                            .at(&known.key)
                            .key(format!("{section}.{name}"))
                            .advice(advice),
                    );
                }
                Some(_) => {}
                None => {
                    mine.insert(name, resource);
                }
            }
        }
    }
}
