//! `extends`: a service takes what another one has and lays its own over it. The other stands in the
//! same document or in another file; chains are followed, cycles shown.

use std::path::{Path, PathBuf};

use crate::Diagnostic;
use crate::interpolate::Variables;
use crate::limits::MAX_EXTENDS_DEPTH;
use crate::loader::Loader;
use crate::merge::merge_services;
use crate::node::{Mapping, Node};
use crate::paths;

/// Where a document comes from and what surrounds it.
pub(crate) struct Origin<'a> {
    pub(crate) file: &'a Path,
    pub(crate) base: &'a Path,
    pub(crate) variables: &'a Variables,
    /// Services of earlier files, where a base may stand too.
    pub(crate) earlier: Option<&'a Node>,
}

/// Resolves every `extends` of a document.
pub(crate) fn apply(loader: &mut Loader, document: &mut Node, origin: &Origin) {
    let Some(services) = document.get("services").and_then(Node::as_mapping).cloned() else {
        return;
    };
    for (name, entry) in &services {
        if entry.node.get("extends").is_none() {
            continue;
        }
        let mut chain = Vec::new();
        match resolve(loader, &services, (name, &entry.node), origin, &mut chain) {
            Ok(resolved) => {
                if let Some(node) = document.get_mut("services").and_then(|all| all.get_mut(name)) {
                    *node = resolved;
                }
            }
            Err(diagnostic) => loader.problems.push(*diagnostic),
        }
    }
}

type Resolved = Result<Node, Box<Diagnostic>>;

fn resolve(
    loader: &mut Loader,
    services: &Mapping,
    (name, service): (&str, &Node),
    origin: &Origin,
    chain: &mut Vec<(PathBuf, String)>,
) -> Resolved {
    let mut service = service.clone();
    let Some(extends) = service.as_mapping_mut().and_then(|all| all.shift_remove("extends")) else {
        return Ok(service);
    };
    let key = format!("services.{name}.extends");
    let extends = extends.node;
    let fail = |message: String| Box::new(Diagnostic::error(message).at(&extends.place).key(&key));
    let link = (origin.file.to_owned(), name.to_owned());
    if chain.contains(&link) || chain.len() >= MAX_EXTENDS_DEPTH {
        let names: Vec<&str> = chain.iter().map(|(_, name)| name.as_str()).chain([name]).collect();
        let message = if chain.contains(&link) {
            format!("a service extends itself: {}", names.join(" → "))
        } else {
            format!("a chain of more than {MAX_EXTENDS_DEPTH} services")
        };
        return Err(fail(message));
    }
    chain.push(link);
    let Some(wanted) = extends.get("service").and_then(Node::scalar) else {
        return Err(fail("`service` is missing".to_owned()));
    };
    let base = match extends.get("file").and_then(Node::scalar) {
        Some(file) => {
            let file = paths::resolve(origin.base, file, origin.variables);
            other_file(loader, &file, wanted, (origin, &extends), chain)?
        }
        None => match services.get(wanted) {
            Some(entry) => resolve(loader, services, (wanted, &entry.node), origin, chain)?,
            None => match origin.earlier.and_then(|services| services.get(wanted)) {
                Some(known) => known.clone(),
                None => return Err(fail(format!("there is no service `{wanted}` to extend"))),
            },
        },
    };
    chain.pop();
    Ok(merge_services(base, service))
}

fn other_file(
    loader: &mut Loader,
    file: &Path,
    wanted: &str,
    (origin, extends): (&Origin, &Node),
    chain: &mut Vec<(PathBuf, String)>,
) -> Resolved {
    let fail = |message: String| Box::new(Diagnostic::error(message).at(&extends.place));
    let base = file.parent().unwrap_or(origin.base).to_owned();
    let documents = loader.documents(file, Some(&extends.place));
    for mut document in documents {
        loader.prepare(&mut document, &base, origin.variables);
        let Some(services) = document.get("services").and_then(Node::as_mapping) else { continue };
        if let Some(entry) = services.get(wanted) {
            let origin = Origin { file, base: &base, earlier: None, ..*origin };
            return resolve(loader, services, (wanted, &entry.node), &origin, chain);
        }
    }
    Err(fail(format!("{} has no service `{wanted}`", file.display())))
}
