//! What resources say of each other: names that must be there, and dependencies without cycles.

use crate::Diagnostic;
use crate::diagnostic::Problems;
use crate::node::Node;
use crate::units;

use super::services;

/// Checks all references of a project.
pub(super) fn check(tree: &Node, problems: &mut Problems) {
    for (name, service) in services(tree) {
        let path = format!("services.{name}");
        check_dependencies(tree, service, &path, problems);
        if let Some(networks) = service.get("networks").and_then(Node::as_mapping) {
            for (network, entry) in networks.iter().filter(|(network, _)| *network != "default") {
                expect(tree, ("networks", network), (&entry.node, &path, "networks"), problems);
            }
        }
        for key in ["volumes", "secrets", "configs"] {
            for item in service.get(key).and_then(Node::as_sequence).unwrap_or_default() {
                let is_named =
                    key != "volumes" || item.get("type").and_then(Node::scalar) == Some("volume");
                if let Some(source) = item.get("source").and_then(Node::scalar)
                    && is_named
                {
                    expect(tree, (key, source), (item, &path, key), problems);
                }
            }
        }
        if let (Some(mode), Some(_)) = (service.get("network_mode"), service.get("networks")) {
            let message = "`network_mode` and `networks` exclude each other";
            problems.push(
                Diagnostic::error(message)
                    .at(&mode.place)
                    .key(format!("{path}.network_mode"))
                    .advice("keep one of them"),
            );
        }
    }
    check_cycles(tree, problems);
}

fn expect(
    tree: &Node,
    (section, name): (&str, &str),
    (node, path, key): (&Node, &str, &str),
    problems: &mut Problems,
) {
    let known = tree.get(section).and_then(Node::as_mapping);
    if known.is_some_and(|known| known.contains_key(name)) {
        return;
    }
    let names = known.into_iter().flatten().map(|(name, _)| name.as_str());
    let advice = match units::nearest(name, names) {
        Some(near) => format!("did you mean `{near}`?"),
        None if section == "volumes" => {
            format!("name it under `{section}:`; a path begins with `./` or `/`")
        }
        None => format!("name it under `{section}:`"),
    };
    let message = format!("there is no `{name}` under `{section}`");
    problems.push(
        Diagnostic::error(message).at(&node.place).key(format!("{path}.{key}")).advice(advice),
    );
}

fn check_dependencies(tree: &Node, service: &Node, path: &str, problems: &mut Problems) {
    let Some(dependencies) = service.get("depends_on").and_then(Node::as_mapping) else { return };
    for (name, entry) in dependencies {
        let needed = entry.node.get("required").is_none_or(Node::is_true);
        if !needed || services(tree).any(|(known, _)| known == name) {
            continue;
        }
        let advice = match units::nearest(name, services(tree).map(|(name, _)| name)) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "name it under `services:`, turn its profile on, or write `required: false`"
                .to_owned(),
        };
        let diagnostic = Diagnostic::error(format!("there is no service `{name}`"));
        problems.push(
            diagnostic.at(&entry.key).key(format!("{path}.depends_on.{name}")).advice(advice),
        );
    }
}

/// Finds services that wait for each other, by taking away what waits for nothing until nothing
/// of that kind is left.
fn check_cycles(tree: &Node, problems: &mut Problems) {
    let dependencies = |service: &Node| -> Vec<String> {
        let names = service.get("depends_on").and_then(Node::as_mapping).into_iter().flatten();
        // The network has to be there before who shares it.
        let mode = service.get("network_mode").and_then(Node::scalar);
        let shared = mode.and_then(|mode| mode.strip_prefix("service:")).map(str::to_owned);
        names.map(|(name, _)| name.clone()).chain(shared).collect()
    };
    let mut left: Vec<(&str, Vec<String>)> =
        services(tree).map(|(name, service)| (name, dependencies(service))).collect();
    loop {
        let names: std::collections::BTreeSet<&str> = left.iter().map(|(name, _)| *name).collect();
        let before = left.len();
        left.retain(|(_, needs)| needs.iter().any(|need| names.contains(need.as_str())));
        if left.len() == before {
            break;
        }
    }
    let Some(&(mut at, _)) = left.first() else { return };
    // Everything left leads into a cycle: follow it until a name comes again.
    let mut chain: Vec<&str> = Vec::new();
    while !chain.contains(&at) {
        chain.push(at);
        let needs = left.iter().find(|(name, _)| *name == at).map(|(_, needs)| needs);
        let next = needs
            .into_iter()
            .flatten()
            .find_map(|need| left.iter().find(|(name, _)| name == need).map(|(name, _)| *name));
        let Some(next) = next else { return };
        at = next;
    }
    let start = chain.iter().position(|name| *name == at).unwrap_or_default();
    let cycle: Vec<&str> = chain[start..].iter().copied().chain([at]).collect();
    let service = services(tree).find(|(name, _)| *name == at).map(|(_, service)| service);
    let found = ["depends_on", "network_mode"]
        .into_iter()
        .find_map(|key| Some((key, &service?.get(key)?.place)));
    let message = format!("services wait for each other: {}", cycle.join(" → "));
    let mut diagnostic = Diagnostic::error(message).advice("take one of these dependencies away");
    if let Some((key, place)) = found {
        diagnostic = diagnostic.at(place).key(format!("services.{at}.{key}"));
    }
    problems.push(diagnostic);
}
