//! How many and where: `deploy.mode`, `deploy.replicas`, `scale`, `deploy.placement`.

use limpet_protocol::application::{Attribute, Constraint, Mode, Placement};
use limpet_protocol::limits::MAX_REPLICAS;

use super::job;
use super::reader::Reader;
use crate::node::Node;

/// Greatest priority, and least with the other sign.
const MAX_PRIORITY: i32 = 1_000_000;

pub(super) fn mode(reader: &mut Reader) -> Mode {
    let counted = reader.either("scale", "deploy.replicas");
    let replicas = counted
        .as_ref()
        .map(|(_, key)| reader.integer(key, 0, i64::from(MAX_REPLICAS)).unwrap_or(1));
    let Some(node) = reader.get("deploy.mode") else { return replicated(replicas) };
    match node.scalar() {
        Some("replicated") => replicated(replicas),
        Some("global") => {
            refuse_count(reader, counted);
            Mode::Global
        }
        Some("replicated-job") => {
            job::replicated(reader, replicas.and_then(|replicas| u32::try_from(replicas).ok()))
        }
        Some("global-job") => {
            refuse_count(reader, counted);
            job::global(reader)
        }
        _ => {
            let message = format!(
                "expected replicated, global, replicated-job or global-job, found {}",
                node.kind()
            );
            reader.at("deploy.mode").fail(node, message);
            Mode::Global
        }
    }
}

fn refuse_count(reader: &mut Reader, counted: Option<(&Node, String)>) {
    if let Some((counted, key)) = counted {
        let message = "a global service runs once on each node, however many they are";
        reader.at(&key).refuse(counted, message, "remove it, or `deploy.mode: global`");
    }
}

/// `deploy.x-priority`: Kubernetes' range of what users may say is wider than anybody needs.
pub(super) fn priority(reader: &mut Reader) -> i32 {
    let most = i64::from(MAX_PRIORITY);
    let found = reader.integer("deploy.x-priority", -most, most);
    found.and_then(|number| i32::try_from(number).ok()).unwrap_or(0)
}

/// `deploy.x-volumes`: whether instances may leave the nodes where their volumes are.
fn leaves_volumes(reader: &mut Reader) -> bool {
    let Some(node) = reader.get("deploy.x-volumes") else { return false };
    match node.scalar() {
        Some("move") => return true,
        Some("keep") => {}
        _ => {
            let message = format!("expected keep or move, found {}", node.kind());
            reader.at("deploy.x-volumes").fail(node, message);
        }
    }
    false
}

fn replicated(replicas: Option<i64>) -> Mode {
    Mode::Replicated { replicas: u32::try_from(replicas.unwrap_or(1)).unwrap_or(1) }
}

pub(super) fn placement(reader: &mut Reader) -> Placement {
    let mut found = Placement::default();
    for (index, item) in reader.items("deploy.placement.constraints").iter().enumerate() {
        let text = item.scalar().unwrap_or_default();
        match constraint(text) {
            Ok(constraint) => found.constraints.push(constraint),
            Err((message, advice)) => reader
                .at(&format!("deploy.placement.constraints[{index}]"))
                .refuse(item, message, advice),
        }
    }
    for (index, item) in reader.items("deploy.placement.preferences").iter().enumerate() {
        let Some(spread) = item.get("spread") else { continue };
        let label = spread.scalar().unwrap_or_default().strip_prefix("node.labels.");
        match label.filter(|label| !label.is_empty()) {
            Some(label) => found.spread.push(label.to_owned()),
            None => reader.at(&format!("deploy.placement.preferences[{index}].spread")).refuse(
                spread,
                format!("expected node.labels.KEY, found {}", spread.kind()),
                "instances are spread over the values of a label of the nodes",
            ),
        }
    }
    found.max_replicas_per_node = reader
        .integer("deploy.placement.max_replicas_per_node", 0, i64::from(MAX_REPLICAS))
        .and_then(|number| u32::try_from(number).ok())
        .filter(|&number| number > 0);
    found.leaves_volumes = leaves_volumes(reader);
    found
}

/// `ATTRIBUTE == VALUE` or `ATTRIBUTE != VALUE`; otherwise what is wrong and what to do.
pub(super) fn constraint(text: &str) -> Result<Constraint, (String, &'static str)> {
    const SHAPE: &str = "write ATTRIBUTE == VALUE or ATTRIBUTE != VALUE";
    let at = text.find("==").or_else(|| text.find("!="));
    let Some(at) = at else {
        return Err((format!("{text:?} is no constraint"), SHAPE));
    };
    let (name, value) = (text[..at].trim(), text[at + 2..].trim());
    if value.is_empty() {
        return Err((format!("{text:?} has no value to compare with"), SHAPE));
    }
    let attribute = match name {
        "node.id" => Attribute::Id,
        "node.hostname" => Attribute::Hostname,
        "node.platform.os" => Attribute::Os,
        "node.platform.arch" => Attribute::Architecture,
        "node.role" => {
            return Err((
                "nodes have no roles in Limpet: controllers run no services".to_owned(),
                "label the nodes that are meant and write node.labels.KEY == VALUE",
            ));
        }
        _ => match name.strip_prefix("node.labels.").filter(|label| !label.is_empty()) {
            Some(label) => Attribute::Label(label.to_owned()),
            None => {
                return Err((
                    format!("nodes have no attribute {name:?}"),
                    "known are node.id, node.hostname, node.platform.os, node.platform.arch and \
                     node.labels.KEY",
                ));
            }
        },
    };
    Ok(Constraint { attribute, equal: text[at..].starts_with("=="), value: value.to_owned() })
}
