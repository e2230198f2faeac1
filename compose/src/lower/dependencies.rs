//! Who comes first: `depends_on`.

use limpet_protocol::id::ServiceName;
use limpet_protocol::spec::{Dependency, DependencyCondition};

use super::probe;
use super::reader::Reader;
use crate::node::Node;
use crate::project::services;

pub(super) fn dependencies(tree: &Node, reader: &mut Reader) -> Vec<Dependency> {
    let Some(all) = reader.get("depends_on").and_then(Node::as_mapping) else { return Vec::new() };
    let mut found = Vec::new();
    for (name, entry) in all {
        let required = entry.node.get("required").is_none_or(Node::is_true);
        let on = services(tree).find(|(known, _)| known == name).map(|(_, on)| on);
        if !required && on.is_none() {
            continue;
        }
        let condition = match entry.node.get("condition").and_then(Node::scalar) {
            Some("service_completed_successfully") => {
                DependencyCondition::ServiceCompletedSuccessfully
            }
            Some("service_healthy") => {
                let node = entry.node.get("condition").unwrap_or(&entry.node);
                if let Some(on) = on {
                    check_health(&mut reader.at(&format!("depends_on.{name}")), (node, on), name);
                }
                DependencyCondition::ServiceHealthy
            }
            _ => DependencyCondition::ServiceStarted,
        };
        let Ok(service) = ServiceName::new(name) else { continue };
        let restart = entry.node.get("restart").is_some_and(Node::is_true);
        found.push(Dependency { service, condition, restart, required });
    }
    found
}

/// Without any check a service is never healthy: Compose gives up then, a node would wait. Whether
/// the image has one is known on the node only.
fn check_health(reader: &mut Reader, (node, on): (&Node, &Node), name: &str) {
    const ADVICE: &str = "give it a `healthcheck` or an `x-probe`, or wait for `service_started`";
    if probe::has_any(on) {
        return;
    }
    let check = on.get("healthcheck").filter(|check| !check.is_null());
    let Some(check) = check else {
        let message = format!(
            "`{name}` has no `healthcheck`: unless its image has one, it is waited for without end"
        );
        return reader.warn(node, message, ADVICE);
    };
    let words = check.get("test").and_then(Node::as_sequence).unwrap_or_default();
    let none = words.first().and_then(Node::scalar) == Some("NONE");
    if none || check.get("disable").is_some_and(Node::is_true) {
        let message = format!("`{name}` has its health check disabled, so it is never healthy");
        reader.refuse(node, message, ADVICE);
    }
}
