//! `configs` and `secrets`: where a service has them, and where their content comes from.
//!
//! The content itself is not read here: what is in a file or a variable is the business of whoever
//! gives it to the controller, and of a secret nobody else's. Until then a mount has no id.

use std::collections::BTreeSet;
use std::path::PathBuf;

use limpet_protocol::id::{ContentId, ContentName};
use limpet_protocol::limits::MAX_CONTENTS_PER_SERVICE;
use limpet_protocol::spec::{ContentMount, Mount};

use super::mounts;
use super::reader::Reader;
use crate::Diagnostic;
use crate::contents::{ContentFrom, ContentKind, ContentSource, Hidden};
use crate::diagnostic::Problems;
use crate::interpolate::Variables;
use crate::node::Node;
use crate::project::services;

/// World-readable, as the specification has it.
const DEFAULT_MODE: u32 = 0o444;
/// The specification: the writable bits are ignored.
const KEPT_BITS: u32 = 0o555;
/// What a mount names until the controller has the content.
const NOT_YET: ContentId = ContentId([0; 32]);

/// The files of a service: configs, then secrets.
pub(super) fn mounts(
    volumes: &[Mount],
    reader: &mut Reader,
) -> (Vec<ContentMount>, Vec<ContentMount>) {
    let mut targets: BTreeSet<String> = volumes.iter().map(|mount| mount.target.clone()).collect();
    let configs = of_kind(ContentKind::Config, &mut targets, reader);
    let secrets = of_kind(ContentKind::Secret, &mut targets, reader);
    if configs.len() + secrets.len() > MAX_CONTENTS_PER_SERVICE {
        let message = format!(
            "{} configs and secrets, where a service may have {MAX_CONTENTS_PER_SERVICE}",
            configs.len() + secrets.len()
        );
        reader.fail(reader.node, message);
    }
    (configs, secrets)
}

fn of_kind(
    kind: ContentKind,
    targets: &mut BTreeSet<String>,
    reader: &mut Reader,
) -> Vec<ContentMount> {
    let mut found = Vec::new();
    for (index, item) in reader.items(kind.section()).iter().enumerate() {
        let path = format!("{}[{index}]", kind.section());
        let reader = &mut reader.at(&path);
        let Some(name) = item.get("source").and_then(Node::scalar) else {
            reader.fail(item, format!("`source` is missing: the name of a {kind}"));
            continue;
        };
        let target = item.get("target").and_then(Node::scalar).unwrap_or(name);
        let target = match target.strip_prefix('/') {
            Some(_) => target.to_owned(),
            None => format!("{}{target}", kind.folder()),
        };
        let is_plain = target.split('/').all(|part| part != "..") && !target.ends_with('/');
        if !is_plain {
            reader.fail(item, format!("{target:?} is no path of a file in the container"));
        } else if !targets.insert(target.clone()) {
            reader.fail(item, format!("something is mounted at {target} already"));
        }
        let uid = owner(item, "uid", reader);
        let gid = owner(item, "gid", reader);
        let mode = mode(item, reader);
        let name = name.to_owned();
        found.push(ContentMount { name, content: NOT_YET, target, uid, gid, mode });
    }
    found
}

fn owner(item: &Node, key: &str, reader: &mut Reader) -> u32 {
    let Some(node) = item.get(key) else { return 0 };
    let number = node.scalar().and_then(|text| text.parse().ok());
    number.unwrap_or_else(|| {
        let message = format!("expected the number of a user or group, found {}", node.kind());
        reader.at(key).fail(node, message);
        0
    })
}

fn mode(item: &Node, reader: &mut Reader) -> u32 {
    let Some(node) = item.get("mode") else { return DEFAULT_MODE };
    let mode = node.scalar().and_then(mounts::mode).filter(|mode| *mode <= 0o777);
    let mode = mode.unwrap_or_else(|| {
        let message = format!("expected permission bits such as 0440, found {}", node.kind());
        reader.at("mode").fail(node, message);
        DEFAULT_MODE
    });
    mode & KEPT_BITS
}

/// Where the contents come from that services use.
pub(crate) fn sources(
    tree: &Node,
    variables: &Variables,
    problems: &mut Problems,
) -> Vec<ContentSource> {
    let mut found = Vec::new();
    for kind in [ContentKind::Config, ContentKind::Secret] {
        let used: BTreeSet<&str> = services(tree)
            .flat_map(|(_, service)| service.get(kind.section()).and_then(Node::as_sequence))
            .flatten()
            .filter_map(|item| item.get("source").and_then(Node::scalar))
            .collect();
        for name in used {
            let node = tree.get(kind.section()).and_then(|all| all.get(name));
            // A name that points nowhere was found before.
            let Some(node) = node else { continue };
            match source(name, node, variables) {
                Ok(from) => found.push(ContentSource { kind, name: name.to_owned(), from }),
                Err((message, advice)) => {
                    let key = format!("{}.{name}", kind.section());
                    let problem = Diagnostic::error(message).at(&node.place).key(key);
                    problems.push(problem.advice(advice.replace("KIND", &kind.to_string())));
                }
            }
        }
    }
    found
}

fn source(
    name: &str,
    node: &Node,
    variables: &Variables,
) -> Result<ContentFrom, (String, &'static str)> {
    let part = |key: &str| node.get(key).filter(|node| !node.is_null()).and_then(Node::scalar);
    let external = node.get("external").is_some_and(Node::is_true);
    let mut given: Vec<&str> =
        ["file", "environment", "content"].into_iter().filter(|key| part(key).is_some()).collect();
    if external {
        given.push("external");
    }
    if given.len() != 1 {
        let found = if given.is_empty() { "nothing".to_owned() } else { given.join(" and ") };
        let message = format!("expected one source of content, found {found}");
        return Err((
            message,
            "say one of `file`, `environment`, `external: true` and, for a config, `content`",
        ));
    }
    if external {
        let name = part("name").unwrap_or(name);
        let checked = ContentName::new(name);
        return checked.map(ContentFrom::External).map_err(|error| {
            (
                format!("{name:?} is no name for it: {error}"),
                "make it with `limpet KIND create NAME FILE`",
            )
        });
    }
    if let Some(path) = part("file") {
        return Ok(ContentFrom::File(PathBuf::from(path)));
    }
    if let Some(text) = part("content") {
        return Ok(ContentFrom::Text(Hidden::new(text)));
    }
    let variable = part("environment").unwrap_or_default();
    let value = variables.get(variable).map(|value| ContentFrom::Text(Hidden::new(value)));
    value.ok_or_else(|| {
        (format!("the variable {variable} is not set"), "set it in the environment or in `.env`")
    })
}
