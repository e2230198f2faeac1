//! Checks every key and value against the table and makes long syntax of short.
//!
//! Comes in: the tree of one document, interpolated. Goes out: the same tree with only known keys,
//! every value in the one form that the rest of the crate knows (real booleans, sizes in bytes,
//! lists as lists). What does not fit is reported with its place and left out of the tree.

use crate::Diagnostic;
use crate::diagnostic::Problems;
use crate::keys::{self, Shape};
use crate::node::{Entry, Mapping, Node, Tag, Value};
use crate::{short, units};

/// A key path with one more key.
pub(crate) fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// Where the walk is: the path for people and the pattern for the table.
#[derive(Clone, Copy)]
pub(crate) struct Spot<'a> {
    pub(crate) path: &'a str,
    pub(crate) pattern: &'a str,
}

impl Spot<'_> {
    pub(crate) fn fail(&self, node: &Node, message: impl Into<String>) -> Diagnostic {
        Diagnostic::error(message).at(&node.place).key(self.path)
    }
}

/// Checks and rewrites one document.
pub(crate) fn document(node: &mut Node, problems: &mut Problems) {
    walk(node, Spot { path: "", pattern: "" }, problems);
}

/// Whether the value is there after the walk; otherwise its key goes.
fn walk(node: &mut Node, spot: Spot, problems: &mut Problems) -> bool {
    if node.tag == Tag::Reset {
        return true;
    }
    let Some(key) = keys::find(spot.pattern) else { return true };
    let outcome = short::expand(node, spot, problems)
        .and_then(|()| cast(node, key.shape, spot))
        .and_then(|()| short::check(node, spot))
        .and_then(|()| needed(node, spot));
    if let Err(diagnostic) = outcome {
        problems.push(diagnostic);
        return false;
    }
    match key.shape {
        Shape::Map => walk_map(node, spot, problems),
        Shape::Names => walk_names(node, spot, problems),
        Shape::List => {
            let pattern = format!("{}[]", spot.pattern);
            if let Value::Sequence(items) = &mut node.value {
                let mut index = 0;
                items.retain_mut(|item| {
                    let path = format!("{}[{index}]", spot.path);
                    index += 1;
                    walk(item, Spot { path: &path, pattern: &pattern }, problems)
                });
            }
        }
        _ => {}
    }
    true
}

fn needed(node: &Node, spot: Spot) -> Result<(), Diagnostic> {
    let missing =
        short::needed(spot.pattern).iter().find(|key| node.get(key).is_none_or(Node::is_null));
    match missing {
        Some(key) => Err(spot.fail(node, format!("`{key}` is missing"))),
        None => Ok(()),
    }
}

fn walk_map(node: &mut Node, spot: Spot, problems: &mut Problems) {
    let Some(mapping) = node.as_mapping_mut() else { return };
    mapping.retain(|name, entry| {
        if name.starts_with("x-") {
            return true;
        }
        let (path, pattern) = (join(spot.path, name), join(spot.pattern, name));
        let Some(key) = keys::find(&pattern) else {
            if entry.node.tag != Tag::Reset {
                problems.push(unknown(name, entry, spot));
            }
            return false;
        };
        let null_says_something = matches!(key.shape, Shape::Command | Shape::Any);
        if entry.node.is_null() && entry.node.tag == Tag::None && !null_says_something {
            return false;
        }
        walk(&mut entry.node, Spot { path: &path, pattern: &pattern }, problems)
    });
}

fn unknown(name: &str, entry: &Entry, spot: Spot) -> Diagnostic {
    let near = units::nearest(name, keys::children(spot.pattern));
    let advice = match near {
        Some(near) => format!("did you mean `{near}`?"),
        None if spot.pattern.is_empty() && keys::find(&format!("services.*.{name}")).is_some() => {
            "it belongs to a service: services stand below `services:`, one level deeper".to_owned()
        }
        None if spot.pattern.is_empty() && entry.node.get("image").is_some() => {
            "services stand below `services:`, one level deeper".to_owned()
        }
        None => "remove it; names that begin with `x-` are free for your own use".to_owned(),
    };
    Diagnostic::error(format!("unknown key `{name}`"))
        .at(&entry.key)
        .key(join(spot.path, name))
        .advice(advice)
}

fn walk_names(node: &mut Node, spot: Spot, problems: &mut Problems) {
    let pattern = format!("{}.*", spot.pattern);
    let top = !spot.pattern.contains('.');
    let Some(mapping) = node.as_mapping_mut() else { return };
    mapping.retain(|name, entry| {
        let path = join(spot.path, name);
        if top && !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) {
            let message = format!("{name:?} is no name: use letters, digits, `-`, `_` and `.`");
            problems.push(Diagnostic::error(message).at(&entry.key).key(&path));
            return false;
        }
        if entry.node.is_null() && entry.node.tag == Tag::None {
            match pattern.as_str() {
                "services.*.networks.*" => return true,
                "services.*" => {}
                _ => entry.node.value = Value::Mapping(Mapping::new()),
            }
        }
        walk(&mut entry.node, Spot { path: &path, pattern: &pattern }, problems)
    });
}

/// Gives a scalar the type of its shape; checks what collections are.
fn cast(node: &mut Node, shape: Shape, spot: Spot) -> Result<(), Diagnostic> {
    if shape == Shape::Pairs {
        return pairs(node, spot);
    }
    if let Shape::Texts | Shape::Command = shape {
        return texts(node, shape, spot);
    }
    let scalar = node.scalar().map(str::to_owned);
    let value = match (shape, scalar.as_deref()) {
        (Shape::Map | Shape::Names, _) => node.as_mapping().map(|_| None),
        (Shape::List, _) => node.as_sequence().map(|_| None),
        (Shape::Any, _) => Some(None),
        (Shape::Text, Some(text)) if !matches!(node.value, Value::Bool(_)) => {
            Some(Some(Value::Text(text.to_owned())))
        }
        (Shape::Bool, Some(text)) => boolean(text).map(|value| Some(Value::Bool(value))),
        (Shape::Integer, Some(text)) => {
            integer(text).map(|number| Some(Value::Number(number.to_string())))
        }
        (Shape::Number, Some(text)) => number(text).map(|number| Some(Value::Number(number))),
        (Shape::Bytes, Some("-1")) => Some(Some(Value::Text("-1".to_owned()))),
        (Shape::Bytes, Some(text)) => {
            units::bytes(text).map(|bytes| Some(Value::Text(bytes.to_string())))
        }
        (Shape::Duration, Some(text)) => {
            units::duration_text(text).map(|text| Some(Value::Text(text)))
        }
        (Shape::Choice(choices), Some(text)) if choices.contains(&text) => Some(None),
        _ => None,
    };
    match value {
        Some(None) => Ok(()),
        Some(Some(value)) => {
            node.value = value;
            Ok(())
        }
        None => Err(misfit(node, shape, spot)),
    }
}

fn misfit(node: &Node, shape: Shape, spot: Spot) -> Diagnostic {
    let expected = short::expected(spot.pattern).map_or_else(|| shape_text(shape), str::to_owned);
    let diagnostic = spot.fail(node, format!("expected {expected}, found {}", node.kind()));
    match (shape, &node.value) {
        (Shape::Text, Value::Bool(_)) => {
            diagnostic.advice("put it into quotes if it is meant as a text")
        }
        (Shape::Duration, Value::Number(number)) => {
            diagnostic.advice(format!("write `{number}s` if seconds are meant"))
        }
        (Shape::Choice(choices), Value::Text(text)) => {
            match units::nearest(text, choices.iter().copied()) {
                Some(near) => diagnostic.advice(format!("did you mean `{near}`?")),
                None => diagnostic,
            }
        }
        _ => diagnostic,
    }
}

fn shape_text(shape: Shape) -> String {
    match shape {
        Shape::Text => "a text".to_owned(),
        Shape::Bool => "true or false".to_owned(),
        Shape::Integer => "a whole number".to_owned(),
        Shape::Number => "a number".to_owned(),
        Shape::Bytes => "a size such as 512, 64m or 1.5g".to_owned(),
        Shape::Duration => "a duration such as 10s, 1m30s or 100ms".to_owned(),
        Shape::Choice(choices) => format!("one of {}", choices.join(", ")),
        Shape::Texts => "a list of texts".to_owned(),
        Shape::Pairs => "a mapping, or a list of KEY=VALUE".to_owned(),
        Shape::Command => "a command line, or a list of words".to_owned(),
        Shape::Map | Shape::Names => "a mapping".to_owned(),
        Shape::List => "a list".to_owned(),
        Shape::Any => "anything".to_owned(),
    }
}

fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "y" | "1" => Some(true),
        "false" | "no" | "off" | "n" | "0" => Some(false),
        _ => None,
    }
}

fn integer(text: &str) -> Option<i64> {
    let text = text.trim();
    if let Some(digits) = text.strip_prefix("0x") {
        return i64::from_str_radix(digits, 16).ok();
    }
    if let Some(digits) = text.strip_prefix("0o") {
        return i64::from_str_radix(digits, 8).ok();
    }
    text.parse().ok()
}

fn number(text: &str) -> Option<String> {
    if let Some(whole) = integer(text) {
        return Some(whole.to_string());
    }
    let number: f64 = text.trim().parse().ok()?;
    number.is_finite().then(|| number.to_string())
}

fn pairs(node: &mut Node, spot: Spot) -> Result<(), Diagnostic> {
    if let Value::Sequence(items) = &node.value {
        let mut mapping = Mapping::new();
        for item in items {
            let Some(text) = item.scalar() else {
                let message = format!("expected KEY=VALUE, found {}", item.kind());
                return Err(spot.fail(item, message));
            };
            let (key, value) = match text.split_once('=') {
                Some((key, value)) => (key, Value::Text(value.to_owned())),
                None => (text, Value::Null),
            };
            if key.trim().is_empty() {
                return Err(spot.fail(item, format!("expected KEY=VALUE, found {text:?}")));
            }
            let value = Node { value, place: item.place.clone(), tag: item.tag };
            mapping.insert(key.to_owned(), Entry { key: item.place.clone(), node: value });
        }
        node.value = Value::Mapping(mapping);
    }
    // Options and addresses are texts; of variables and labels the specification allows a name alone.
    let may_be_nothing = !["driver_opts", "aux_addresses", "ipam.options", "storage_opt"]
        .iter()
        .any(|key| spot.pattern.ends_with(key));
    let kind = node.kind();
    let Value::Mapping(mapping) = &mut node.value else {
        let message = format!("expected {}, found {kind}", shape_text(Shape::Pairs));
        return Err(spot.fail(node, message));
    };
    for (key, entry) in mapping {
        match entry.node.scalar().map(str::to_owned) {
            Some(text) => entry.node.value = Value::Text(text),
            None if entry.node.is_null() && !may_be_nothing => {
                entry.node.value = Value::Text(String::new());
            }
            None if entry.node.is_null() => {}
            None => {
                let message = format!("expected a text, found {}", entry.node.kind());
                let diagnostic = spot.fail(&entry.node, message);
                return Err(diagnostic.key(join(spot.path, key)));
            }
        }
    }
    Ok(())
}

fn texts(node: &mut Node, shape: Shape, spot: Spot) -> Result<(), Diagnostic> {
    if shape == Shape::Command {
        match &node.value {
            Value::Null => return Ok(()),
            Value::Text(text) => {
                let words = units::split_command(text).map_err(|why| {
                    spot.fail(node, format!("{text:?} is no command line: {why}"))
                })?;
                let words = words.into_iter().map(|word| Node::text(word, &node.place));
                node.value = Value::Sequence(words.collect());
            }
            _ => {}
        }
    }
    if !matches!(node.value, Value::Sequence(_)) {
        return Err(misfit(node, shape, spot));
    }
    let Value::Sequence(items) = &mut node.value else { return Ok(()) };
    for (index, item) in items.iter_mut().enumerate() {
        match item.scalar().map(str::to_owned) {
            Some(text) => item.value = Value::Text(text),
            None if item.tag == Tag::Reset => {}
            None => {
                let message = format!("expected a text, found {}", item.kind());
                let diagnostic = spot.fail(item, message);
                return Err(diagnostic.key(format!("{}[{index}]", spot.path)));
            }
        }
    }
    Ok(())
}
