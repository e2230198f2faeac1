//! Waves over the fleet: `deploy.x-rollout`.

use limpet_protocol::application::{Application, Portion, Service, Wave, WavePolicy};
use limpet_protocol::limits::{MAX_REPLICAS, MAX_WAVES};
use limpet_protocol::window::{Window, WindowError};

use super::reader::Reader;
use super::{deploy, schedule};
use crate::diagnostic::Problems;
use crate::files::Files;
use crate::node::Node;
use crate::project::services;
use crate::units;
use crate::units::percent;

const KEY: &str = "deploy.x-rollout";
/// The keys below it.
const KEYS: [&str; 5] = ["waves", "success", "abort", "max_unavailable", "window"];

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

/// Gives the waves of an application their windows (`deploy.x-rollout.window`): a time zone's name
/// becomes its rule here.
pub(crate) fn windows(
    tree: &Node,
    files: &dyn Files,
    application: &mut Application,
    problems: &mut Problems,
) {
    for (name, node) in services(tree) {
        let found = application.services.iter_mut().find(|(it, _)| it.as_str() == name);
        let Some((_, Service { waves: Some(waves), .. })) = found else { continue };
        let path = format!("services.{name}");
        let mut reader = Reader { node, path, problems: &mut *problems };
        waves.window = window(&mut reader, files);
    }
}

fn window(reader: &mut Reader, files: &dyn Files) -> Option<Window> {
    let path = format!("{KEY}.window");
    let node = reader.get(&path)?;
    known_keys(reader, node, &path, &["opens", "for", "time_zone"]);
    let text = |key: &str| node.get(key).and_then(Node::scalar);
    let (Some(opens), Some(length)) = (text("opens"), text("for")) else {
        let message = "a window needs `opens` and `for`";
        let advice = "`{opens: \"0 2 * * mon-fri\", for: 3h}`: five fields as crontab(5) has them";
        reader.at(&path).refuse(node, message, advice);
        return None;
    };
    let mut zone = String::new();
    if let (Some(name), Some(at)) = (text("time_zone"), node.get("time_zone")) {
        match schedule::zone(name, files) {
            Ok(rule) => zone = rule,
            Err((message, advice)) => {
                reader.at(&format!("{path}.time_zone")).refuse(at, message, &advice);
                return None;
            }
        }
    }
    let length_ms = units::duration_ms(length).unwrap_or(0);
    let window = Window { opens: opens.to_owned(), length_ms, zone };
    match window.at(0) {
        Ok(_) => return Some(window),
        Err(WindowError::Length(_)) => {
            let message = format!("expected from a minute to a week, such as 3h, found {length:?}");
            reader.at(&format!("{path}.for")).fail(node.get("for").unwrap_or(node), message);
        }
        Err(error) => {
            let at = node.get("opens").unwrap_or(node);
            reader.at(&format!("{path}.opens")).fail(at, error.to_string());
        }
    }
    None
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
