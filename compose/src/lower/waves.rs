//! Waves over the fleet: `deploy.x-rollout`.

use limpet_protocol::application::{Portion, Wave, WavePolicy};
use limpet_protocol::limits::{MAX_REPLICAS, MAX_WAVES};

use super::deploy;
use super::reader::Reader;
use crate::node::Node;
use crate::units::percent;

const KEY: &str = "deploy.x-rollout";
/// The keys below it.
const KEYS: [&str; 4] = ["waves", "success", "abort", "max_unavailable"];

/// What `deploy.x-rollout` says, if it is there.
pub(super) fn policy(reader: &mut Reader) -> Option<WavePolicy> {
    let node = reader.get(KEY)?;
    let mut found = WavePolicy::default();
    known_keys(reader, node, KEY, &KEYS);
    let waves = reader.items(&format!("{KEY}.waves"));
    if waves.len() > MAX_WAVES {
        let message = format!("{} waves are too many, at most {MAX_WAVES}", waves.len());
        reader.at(KEY).fail(node, message);
    }
    for (index, item) in waves.iter().enumerate() {
        found.waves.extend(wave(reader, item, &format!("{KEY}.waves[{index}]")));
    }
    if let Some(success) = node.get("success").filter(|node| !node.is_null()) {
        match success.scalar().and_then(percent).filter(|percent| *percent <= 100) {
            Some(percent) => found.success_percent = percent,
            None => {
                let message = format!("expected a share such as 95%, found {}", success.kind());
                reader.at(&format!("{KEY}.success")).fail(success, message);
            }
        }
    }
    if let Some(abort) = node.get("abort").filter(|node| !node.is_null()) {
        known_keys(reader, abort, &format!("{KEY}.abort"), &["failures"]);
        found.abort = portion(reader, abort.get("failures"), &format!("{KEY}.abort.failures"));
    }
    let path = format!("{KEY}.max_unavailable");
    found.max_unavailable = portion(reader, node.get("max_unavailable"), &path);
    Some(found)
}

fn known_keys(reader: &mut Reader, node: &Node, path: &str, known: &[&str]) {
    let Some(mapping) = node.as_mapping() else {
        let message =
            format!("expected a mapping with {}, found {}", known.join(", "), node.kind());
        return reader.at(path).fail(node, message);
    };
    for (name, entry) in mapping.iter().filter(|(name, _)| !known.contains(&name.as_str())) {
        let message = format!("there is no key {name:?} here");
        let advice = format!("known are {}", known.join(", "));
        reader.at(&format!("{path}.{name}")).refuse(&entry.node, message, &advice);
    }
}

fn wave(reader: &mut Reader, item: &Node, path: &str) -> Option<Wave> {
    known_keys(reader, item, path, &["nodes", "percent"]);
    match (item.get("nodes"), item.get("percent")) {
        (Some(nodes), None) => {
            let texts = match nodes.as_sequence() {
                Some(items) => items.iter().filter_map(Node::scalar).collect(),
                None => nodes.scalar().into_iter().collect::<Vec<_>>(),
            };
            let mut constraints = vec![];
            for text in &texts {
                match deploy::constraint(text) {
                    Ok(constraint) => constraints.push(constraint),
                    Err((message, advice)) => {
                        reader.at(&format!("{path}.nodes")).refuse(nodes, message, advice);
                    }
                }
            }
            if texts.is_empty() {
                let message = "names no nodes: write ATTRIBUTE == VALUE, or a list of them";
                reader.at(&format!("{path}.nodes")).fail(nodes, message);
            }
            Some(Wave::Nodes(constraints))
        }
        (None, Some(share)) => {
            let found = share.scalar().and_then(percent).filter(|it| (1..=100).contains(it));
            if found.is_none() {
                let message = format!("expected a share such as 25%, found {}", share.kind());
                reader.at(&format!("{path}.percent")).fail(share, message);
            }
            found.map(Wave::Percent)
        }
        _ => {
            let message = "a wave has either `nodes` or `percent`";
            let advice = "`nodes: node.labels.ring == canary`, or `percent: 25%`";
            reader.at(path).refuse(item, message, advice);
            None
        }
    }
}

fn portion(reader: &mut Reader, node: Option<&Node>, path: &str) -> Option<Portion> {
    let node = node.filter(|node| !node.is_null())?;
    let text = node.scalar().unwrap_or_default();
    let found = match percent(text) {
        Some(share) if text.ends_with('%') => {
            (1..=100).contains(&share).then_some(Portion::Percent(share))
        }
        Some(count) => (1..=MAX_REPLICAS).contains(&count).then_some(Portion::Count(count)),
        None => None,
    };
    if found.is_none() {
        let message = format!("expected a number or a share such as 10%, found {}", node.kind());
        reader.at(path).fail(node, message);
    }
    found
}
