//! Lifecycle hooks: `post_start` and `pre_stop`.

use std::collections::BTreeMap;

use limpet_protocol::limits::MAX_HOOKS;
use limpet_protocol::spec::{Hook, Hooks};

use super::reader::Reader;
use crate::node::Node;

pub(super) fn hooks(reader: &mut Reader) -> Hooks {
    Hooks { post_start: list(reader, "post_start"), pre_stop: list(reader, "pre_stop") }
}

fn list(reader: &mut Reader, key: &str) -> Vec<Hook> {
    let items = reader.items(key);
    if let Some(first_too_many) = items.get(MAX_HOOKS) {
        let message = format!("{} hooks are too many, at most {MAX_HOOKS}", items.len());
        let advice = "put what they do into one program";
        reader.at(key).refuse(first_too_many, message, advice);
    }
    let items = items.iter().enumerate();
    items
        .filter_map(|(index, item)| hook(item, &mut reader.at(&format!("{key}[{index}]"))))
        .collect()
}

fn hook(item: &Node, reader: &mut Reader) -> Option<Hook> {
    let mut of = Reader { node: item, path: reader.path.clone(), problems: reader.problems };
    let command = of.texts("command");
    if command.first().is_none_or(String::is_empty) {
        of.refuse(item, "a hook needs a `command`", "name the program and its arguments");
        return None;
    }
    if let (Some(node), true) = (of.get("privileged"), of.flag("privileged")) {
        let message = "a hook can do no more than its container";
        of.at("privileged").refuse(node, message, "give the service what it needs, or use `user`");
    }
    let working_dir = of.text("working_dir").filter(|text| !text.is_empty());
    if let (Some(node), Some(path)) = (of.get("working_dir"), &working_dir)
        && !path.starts_with('/')
    {
        let message = format!("expected an absolute path, found {path:?}");
        of.at("working_dir").fail(node, message);
    }
    let environment: BTreeMap<String, String> = of.pairs("environment");
    let user = of.text("user").filter(|user| !user.is_empty());
    Some(Hook { command, user, working_dir, environment })
}
