//! Every key of the Compose Specification and what Limpet makes of it: one table.
//!
//! A key is written as a path, `*` standing for any name and `[]` for the items of a list. Rows
//! that end with one of these two only say what the items look like. A test holds the table equal
//! to the specification's JSON schema, another holds `docs/compose.md` equal to the table.

mod deploy;
mod service;
mod service_parts;
mod top;

use std::collections::BTreeMap;
use std::sync::LazyLock;

/// What Limpet makes of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It has the effect that the specification says; a note, if there is more to say.
    Honoured(&'static str),
    /// It has no effect, a warning says so; what to do instead.
    Reported(&'static str),
    /// The application would misbehave without it, so that it is not taken; what to do instead.
    Refused(&'static str),
    /// As the key that it belongs to.
    Within,
}

/// What a value looks like once short syntax is made long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    Text,
    Bool,
    Integer,
    Number,
    Bytes,
    Duration,
    Choice(&'static [&'static str]),
    /// A list of texts.
    Texts,
    /// Names with texts or nothing.
    Pairs,
    /// Nothing, or a list of words.
    Command,
    /// Keys that the table knows.
    Map,
    /// Any names; the row with `.*` says what they hold.
    Names,
    /// The row with `[]` says what the items are.
    List,
    Any,
}

/// One row of the table.
#[derive(Debug)]
pub(crate) struct Key {
    path: &'static str,
    pub(crate) shape: Shape,
    pub(crate) status: Status,
    /// Of a key that is honoured: the first version of Limpet that does so.
    since: &'static str,
}

/// What a key asks for that there is no second device for.
const ONE_DEVICE: &str = "an instance has one device, however many networks: remove it";

/// The version that honours what is honoured so far. A key that a later one takes up says its own.
const FIRST: &str = "0.1.0";

const fn honoured(path: &'static str, shape: Shape) -> Key {
    Key { path, shape, status: Status::Honoured(""), since: FIRST }
}

const fn noted(path: &'static str, shape: Shape, note: &'static str) -> Key {
    Key { path, shape, status: Status::Honoured(note), since: FIRST }
}

const fn reported(path: &'static str, shape: Shape, advice: &'static str) -> Key {
    Key { path, shape, status: Status::Reported(advice), since: "" }
}

const fn refused(path: &'static str, shape: Shape, advice: &'static str) -> Key {
    Key { path, shape, status: Status::Refused(advice), since: "" }
}

const fn within(path: &'static str, shape: Shape) -> Key {
    Key { path, shape, status: Status::Within, since: "" }
}

/// The rows below one prefix.
struct Section {
    prefix: &'static str,
    keys: &'static [Key],
}

static TABLE: LazyLock<BTreeMap<String, &'static Key>> = LazyLock::new(|| {
    let sections = [top::SECTIONS, service::SECTIONS, service_parts::SECTIONS, deploy::SECTIONS];
    let mut table = BTreeMap::new();
    for section in sections.into_iter().flatten() {
        for key in section.keys {
            let joint = match key.path {
                path if section.prefix.is_empty()
                    || path.is_empty()
                    || path.starts_with(['.', '[']) =>
                {
                    ""
                }
                _ => ".",
            };
            let path = format!("{}{joint}{}", section.prefix, key.path);
            let earlier = table.insert(path, key);
            assert!(earlier.is_none(), "a key stands in the table once: {}", key.path);
        }
    }
    table
});

/// The row of a path pattern.
pub(crate) fn find(pattern: &str) -> Option<&'static Key> {
    TABLE.get(pattern).copied()
}

/// The names of the keys directly below a path pattern.
pub(crate) fn children(pattern: &str) -> impl Iterator<Item = &'static str> {
    let prefix = if pattern.is_empty() { String::new() } else { format!("{pattern}.") };
    let below = TABLE.range(prefix.clone()..).take_while({
        let prefix = prefix.clone();
        move |(path, _)| path.starts_with(&prefix)
    });
    below.filter_map(move |(path, _)| {
        let name = &path[prefix.len()..];
        (!name.is_empty() && !name.contains(['.', '[', '*'])).then_some(name)
    })
}

/// Every key with what Limpet makes of it, by path.
pub fn all() -> impl Iterator<Item = (&'static str, Status)> {
    rows().map(|(path, key)| (path, key.status))
}

fn rows() -> impl Iterator<Item = (&'static str, &'static Key)> {
    let named = |path: &str| !path.ends_with(['*', ']']);
    TABLE.iter().filter(move |(path, _)| named(path)).map(|(path, key)| (path.as_str(), *key))
}

/// The table as it stands in `docs/compose.md`.
#[must_use]
pub fn markdown() -> String {
    let mut text = "| key | what Limpet does | since | more |\n|---|---|---|---|\n".to_owned();
    for (path, key) in rows() {
        let (word, more) = match key.status {
            Status::Honoured(note) => ("honoured", note),
            Status::Reported(advice) => ("reported", advice),
            Status::Refused(advice) => ("refused", advice),
            Status::Within => continue,
        };
        let (since, more) = (key.since, more.replace('|', "\\|"));
        text.push_str(&format!("| `{path}` | {word} | {since} | {more} |\n"));
    }
    text
}

#[cfg(test)]
mod tests;
